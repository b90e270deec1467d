"""Whether the other end of a connection still answers: a question after silence, as ServerAliveInterval.

The question is the global request ``keepalive@openssh.com`` with an answer wanted, which every SSH
server answers, if only by refusing it (RFC 4254, 4). Whatever comes from the other end counts.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import paramiko
from paramiko.common import cMSG_GLOBAL_REQUEST

JUMP_INTERVAL_S = 5.0
HOST_INTERVAL_S = 10.0  # later than a jump host's, so that what is behind a dead one ends by its end
MISSES = 3

_LOOK_UP_S = 0.02


class Heartbeat:
    """Asks one logged-in connection after each ``interval_s`` of silence, and cuts a dead one.

    ``heard_at()`` is the `time.monotonic()` of the last packet that came. ``cut`` must not block.
    """

    def __init__(
        self,
        client: paramiko.Transport,
        heard_at: Callable[[], float],
        cut: Callable[[], None],
        interval_s: float,
    ) -> None:
        self.silent = False
        self._client = client
        self._heard_at = heard_at
        self._cut = cut
        self._interval_s = interval_s
        self._asked_at = 0.0
        self._unanswered = 0
        self._asking: threading.Thread | None = None

    def beat(self, now: float) -> None:
        """Look once; to be called about once a second. Does not block."""
        heard_at = self._heard_at()
        if heard_at >= self._asked_at:
            self._unanswered = 0
        if now - max(heard_at, self._asked_at) < self._interval_s or self.silent:
            return
        # Questions are counted, not seconds: a program that was itself suspended has not asked any.
        if self._unanswered >= MISSES:
            self.silent = True
            self._cut()
            return
        self._unanswered += 1
        self._ask(now)

    def answers(self, within_s: float) -> bool:
        """Ask now; whether anything came within so many seconds."""
        asked_at = time.monotonic()
        asked = self._ask(asked_at)
        while self._client.is_active() and not self.silent:
            if self._heard_at() >= asked_at:
                return True
            # The question of another thread may have been answered before ours was due.
            asked = asked or self._ask(asked_at)
            if time.monotonic() - asked_at >= within_s:
                return False
            time.sleep(_LOOK_UP_S)
        return False

    def _ask(self, now: float) -> bool:
        """Whether a question goes out; not while an earlier one still waits to be sent."""
        self._asked_at = now
        if self._asking is not None and self._asking.is_alive():
            return False
        # Aside: sending blocks once nobody reads at the other end.
        self._asking = threading.Thread(target=self._send, name="ascendctl-keepalive", daemon=True)
        with contextlib.suppress(RuntimeError):  # no thread to be had: it counts as a miss
            self._asking.start()
        return True

    def _send(self) -> None:
        request = paramiko.Message()
        request.add_byte(cMSG_GLOBAL_REQUEST)
        request.add_string("keepalive@openssh.com")
        request.add_boolean(True)
        try:
            self._client._send_user_message(request)  # type: ignore[attr-defined]
        except (paramiko.SSHException, EOFError, OSError):
            pass  # a connection that has ended says so itself
