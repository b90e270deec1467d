"""Interruptions that wait: a first signal is noted until what must not be divided is done."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """``came``: whether a signal was noted."""

    came = False


@contextlib.contextmanager
def deferred(notice: str = "") -> Iterator[Interruption]:
    """While entered, a first INT, TERM or HUP is only noted (and ``notice`` said); a second interrupts.

    Signals that are ignored, as under nohup, stay so. Raises KeyboardInterrupt for the second signal.
    """
    interruption = Interruption()

    def note(number: int, frame: object) -> None:
        if interruption.came:
            raise KeyboardInterrupt
        interruption.came = True
        if notice:
            # Not by the stream: the signal may have come in the middle of a write to it.
            with contextlib.suppress(OSError):
                os.write(2, f"ascendctl: {notice}\n".encode())

    before = {
        number: signal.signal(number, note)
        for number in _SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
