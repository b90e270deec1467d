"""Account lock-out protection: when a group of hosts has refused us often enough.

Hosts of a group share an account more often than not, and a directory locks it after a few refused
logins. The rule: three refused logins and not one accepted stop the group. Once any host of the
group has let us in, the account and its secret are known to be good, later refusals are each host's
own fault, and nothing is stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

REFUSALS_THAT_STOP_A_GROUP = 3


class LoginTally:
    """Accepted and refused logins of one group; safe to use from many threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._accepted = 0
        self._refused = 0
        self._trying = 0

    @property
    def stopped(self) -> bool:
        """Whether no further login may be tried in this group."""
        return not self._accepted and self._refused >= REFUSALS_THAT_STOP_A_GROUP

    def record(self, *, accepted: bool) -> None:
        """Count one login's outcome."""
        with self._changed:
            self._count(accepted)

    def may_try(self, give_up: Callable[[], bool]) -> bool:
        """Wait for a turn to offer a secret; False when the group is stopped or ``give_up()`` says so.

        Until one login was accepted, no more are in flight than may still be refused. Each True must
        be answered with `tried`.
        """
        with self._changed:
            while not self._accepted:
                if give_up() or self.stopped:
                    return False
                if self._refused + self._trying < REFUSALS_THAT_STOP_A_GROUP:
                    break
                self._changed.wait(0.25)
            self._trying += 1
            return True

    def tried(self, accepted: bool | None) -> None:
        """End a turn: accepted, refused, or (None) never answered."""
        with self._changed:
            self._trying -= 1
            if accepted is not None:
                self._count(accepted)
            self._changed.notify_all()

    def _count(self, accepted: bool) -> None:
        if accepted:
            self._accepted += 1
        else:
            self._refused += 1
