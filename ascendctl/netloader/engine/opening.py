"""Opening a link while the other end is being listened to: its end ends the wait, not only the deadline."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from ascendctl.netloader.engine.links.contract import LinkTimeout


class Closable(Protocol):
    """A link or a group of two."""

    def close(self) -> None: ...


class Line(Protocol):
    """What tells that the other end is gone: a conversation, or the plain socket of a peer that has none."""

    def at_end(self, call: Callable[[], None]) -> None: ...

    def check(self) -> None: ...


Opened = TypeVar("Opened", bound=Closable)


def opened(line: Line, make: Callable[[], Opened], timeout_s: float) -> Opened:
    """``make()``'s result. When ``line`` ends first its error is raised at once, and what ``make`` brings
    forth later is closed; LinkTimeout after ``timeout_s``. Raises what ``make`` raises.
    """
    changed = threading.Condition()
    made: list[Opened] = []
    failed: list[BaseException] = []
    given_up = False
    ended = False

    def run() -> None:
        try:
            link = make()
        except BaseException as error:
            with changed:
                failed.append(error)
                changed.notify_all()
            return
        with changed:
            if not given_up:
                made.append(link)
                changed.notify_all()
                return
        with contextlib.suppress(Exception):
            link.close()

    def end() -> None:
        nonlocal ended
        with changed:
            ended = True
            changed.notify_all()

    line.at_end(end)
    threading.Thread(target=run, name="netloader-opens", daemon=True).start()
    until_s = time.monotonic() + timeout_s
    with changed:
        while not made and not failed and not ended and (left_s := until_s - time.monotonic()) > 0:
            changed.wait(left_s)
        if made:
            return made[0]
        given_up = True
    line.check()
    if failed:
        raise failed[0]
    raise LinkTimeout(f"the other end did not open the link within {timeout_s:g} s")
