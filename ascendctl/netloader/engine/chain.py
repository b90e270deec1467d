"""Who feeds whom when many join at once: a chain that starts at the seed. Pure; the seed keeps the roster.

The seed sends once, and every joiner passes on what it has verified, so N joiners take little longer than one
(1 + (N - 1) / chunks of the time) where a seed that feeds all of them takes N times as long. A new joiner is
sent to the last member that is not known to be lost. A joiner that loses its parent comes back to the seed,
names the lost one, and gets the nearest earlier member that is left, or the seed itself.

Only earlier members are ever parents, and a joiner that comes back without being known (the seed was
started anew, or forgot it) is fed by the seed itself: so no ring can form, however many are lost and in
whatever order.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

MOST_MEMBERS = 4096
"""Members remembered at once; of more, lost ones are forgotten first, then the oldest."""


@dataclass(frozen=True)
class Member:
    """One joiner that passes on what it has; ``address`` ("host:port") is where, and its name."""

    address: str
    lost: bool = False


@dataclass(frozen=True)
class Roster:
    """The members in the order in which they came."""

    members: tuple[Member, ...] = ()


@dataclass(frozen=True)
class Placed:
    """The answer to a joiner: its parent's address, None for the seed itself; and the roster from then on."""

    roster: Roster
    parent: str | None


def placed(roster: Roster, address: str, *, lost: Collection[str] = (), returning: bool = False) -> Placed:
    """Finds the parent of the joiner that listens at ``address``. ``lost``: addresses that it could not use;
    ``returning``: it was given a parent before, here or elsewhere. A joiner not yet known becomes the last.
    """
    members = tuple(replace(m, lost=m.lost or m.address in lost) for m in roster.members)
    own = next((i for i, member in enumerate(members) if member.address == address), None)
    if own is None:
        parent = None if returning else _last_living(members)
        return Placed(Roster(_shortened((*members, Member(address)))), parent)
    # It speaks, so it lives, whatever another one said of it.
    living = (*members[:own], Member(address), *members[own + 1 :])
    return Placed(Roster(living), _last_living(members[:own]))


def without(roster: Roster, address: str) -> Roster:
    """The roster once the member at ``address`` is known to be lost."""
    return Roster(tuple(replace(m, lost=m.lost or m.address == address) for m in roster.members))


def _last_living(members: tuple[Member, ...]) -> str | None:
    return next((member.address for member in reversed(members) if not member.lost), None)


def _shortened(members: tuple[Member, ...]) -> tuple[Member, ...]:
    surplus = max(0, len(members) - MOST_MEMBERS)
    kept = []
    for member in members:
        if member.lost and surplus > 0:
            surplus -= 1
        else:
            kept.append(member)
    return tuple(kept[surplus:])
