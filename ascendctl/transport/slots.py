"""How many hosts may be under way at a time, and which of them count.

The width bounds what costs something: hosts that answer. A host that only keeps us waiting costs two
sleeping threads and a socket, so it does not hold one of the width's slots for long:

- A host counts from its start until it has been silent for `SILENT_AT_FIRST_S` without ever having
  said anything (a TCP connect or a banner that does not come; a turn that it waits for), or for
  `SILENT_LATER_S` since it last did (a packet of the handshake, or output of the script: a command may
  take its time).
- A new host is started while fewer than the width count, and while all together are fewer than the
  width and `SILENT_MOST`, or what the limit of open files allows. So threads and descriptors stay
  bounded, and hosts that hang queue behind one another only where there are more of them than that.
- A silent host that speaks again counts again. Nothing is taken from anybody for it; the next host
  starts a little later.
- Slots of silent hosts are lent a few at a time, and not at all while this process itself comes late to
  looking: what seems to be silence may then be our own slowness, and more hosts would only add to it.
"""

from __future__ import annotations

from dataclasses import dataclass

SILENT_AT_FIRST_S = 2.0
SILENT_LATER_S = 10.0
SILENT_MOST = 256
LOOK_EVERY_S = 0.25
LATE_S = 0.1
LENT_AT_A_LOOK = 16


@dataclass
class Life:
    """When a host under way was started and last heard of, by `time.monotonic()`."""

    since: float
    heard_at: float | None = None

    def is_silent(self, now: float) -> bool:
        """Whether the host no longer counts against the width."""
        if self.heard_at is None:
            return now - self.since >= SILENT_AT_FIRST_S
        return now - self.heard_at >= SILENT_LATER_S


@dataclass(frozen=True)
class Room:
    """``width``: hosts that count at a time; ``spare``: silent ones beside them."""

    width: int
    spare: int

    def left(self, counting: int, silent: int) -> int:
        """How many hosts may be started beside those under way."""
        return max(0, min(self.width - counting, self.width + self.spare - counting - silent))
