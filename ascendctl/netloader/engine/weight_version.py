"""Whether the weights in memory may be sent now, and which state of them it is.

Sleep mode, a weight update and expert re-balancing change or free the tensors that a source sends. The hooks
around those calls tell it here *before* they touch anything: sends under way are aborted and waited for, new
ones are refused with the reason, and the digests of the old state are no longer used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class WeightsChanged(Exception):
    """The weights were changed, or are about to be: what was being sent is void."""


class Sending:
    """One send that is under way; made by ``WeightVersion.sending``."""

    def __init__(self, version: WeightVersion, number: int, on_change: Callable[[str], None]) -> None:
        self._version = version
        self.number = number
        self.on_change = on_change

    def check(self) -> None:
        """Raises WeightsChanged when the weights are no longer those this send began with."""
        reason = self._version.why_not(self.number)
        if reason is not None:
            raise WeightsChanged(reason)


class WeightVersion:
    """Thread-safe. ``current`` grows by one with every change that ended."""

    def __init__(self, leave_timeout_s: float = 10.0) -> None:
        """``leave_timeout_s``: how long a change waits for aborted sends to let go of the tensors."""
        self._leave_timeout_s = leave_timeout_s
        self._changed = threading.Condition()
        self._number = 0
        self._under_way: list[str] = []
        self._retired: str | None = None
        self._sends: set[Sending] = set()

    @property
    def current(self) -> int:
        with self._changed:
            return self._number

    @property
    def servable(self) -> tuple[bool, str]:
        """(True, "") when the weights may be sent, else (False, why not)."""
        with self._changed:
            reason = self._reason()
        return reason is None, reason or ""

    def why_not(self, number: int) -> str | None:
        """Why a send that began at version ``number`` must stop; None when it may go on."""
        with self._changed:
            reason = self._reason()
            if reason is None and number != self._number:
                reason = f"the weights changed (version {number} became {self._number})"
            return reason

    def _reason(self) -> str | None:
        if self._retired is not None:
            return self._retired
        return self._under_way[-1] if self._under_way else None

    def begin_change(self, reason: str) -> bool:
        """Call before the weights are touched, ``reason`` in words ("sleep mode"). Aborts every send under
        way and waits for them, at most ``leave_timeout_s``; False when one had not let go by then (its joiner
        will refuse what it gets, by digest). Every call needs its ``end_change``.
        """
        with self._changed:
            self._under_way.append(reason)
            sends = tuple(self._sends)
        for sending in sends:
            sending.on_change(reason)
        until_s = time.monotonic() + self._leave_timeout_s
        with self._changed:
            while any(sending in self._sends for sending in sends):
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(left_s)
            return True

    def end_change(self, reason: str) -> None:
        """The change is over: the weights are a new version, to be digested anew.

        Without its begin it does nothing.
        """
        with self._changed:
            if reason in self._under_way:
                self._under_way.remove(reason)
                self._number += 1
                self._changed.notify_all()

    @contextmanager
    def changing(self, reason: str) -> Iterator[None]:
        """A change that begins and ends in one call."""
        self.begin_change(reason)
        try:
            yield
        finally:
            self.end_change(reason)

    def retire(self, reason: str) -> None:
        """The weights held can never be sent again in this process, ``reason`` says why; ends all sends."""
        with self._changed:
            self._retired = reason
        self.begin_change(reason)
        self.end_change(reason)

    @contextmanager
    def sending(self, on_change: Callable[[str], None]) -> Iterator[Sending]:
        """Registers a send for as long as the block runs; ``on_change(reason)`` is called from the changing
        thread and must return at once. Raises WeightsChanged when the weights may not be sent now.
        """
        with self._changed:
            reason = self._reason()
            if reason is not None:
                raise WeightsChanged(reason)
            sending = Sending(self, self._number, on_change)
            self._sends.add(sending)
        try:
            yield sending
        finally:
            with self._changed:
                self._sends.discard(sending)
                self._changed.notify_all()
