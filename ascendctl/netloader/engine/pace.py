"""A cap on what one process sends: BANDWIDTH in bytes per second, shared by all of its joiners."""

from __future__ import annotations

import threading
import time


class TokenBucket:
    """Lets ``bytes_s`` bytes pass per second over all threads that take from it, first come first served.

    A take is booked at once and then waited for, so that two senders share the rate and none starves.
    ``None`` as rate lets everything through.
    """

    def __init__(self, bytes_s: float | None, burst_s: float = 0.01) -> None:
        """``burst_s``: how much unused time may be saved up, so that a late wake-up costs no bandwidth."""
        if bytes_s is not None and not bytes_s > 0:
            raise ValueError(
                f"a bandwidth of {bytes_s} bytes per second moves nothing; leave it out for no cap"
            )
        self._bytes_s = bytes_s
        self._burst_s = burst_s
        self._lock = threading.Lock()
        self._booked_until_s = 0.0

    def take(self, nbytes: int, cancelled: threading.Event | None = None) -> bool:
        """Waits until ``nbytes`` may have been sent; False when ``cancelled`` was set while waiting."""
        if self._bytes_s is None:
            return cancelled is None or not cancelled.is_set()
        with self._lock:
            start_s = max(self._booked_until_s, time.monotonic() - self._burst_s)
            self._booked_until_s = due_s = start_s + nbytes / self._bytes_s
        wait_s = due_s - time.monotonic()
        if cancelled is not None:
            return not cancelled.wait(max(0.0, wait_s))
        if wait_s > 0:
            time.sleep(wait_s)
        return True
