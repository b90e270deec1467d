"""How many SSH handshakes are under way at a time where all of them pass one narrow place.

sshd drops connections of which too many have not logged in yet (MaxStartups, by default some above ten
and all above a hundred), and a jump host or its firewall has limits of its own. What they bear is not
known beforehand, so it is felt for, as TCP does for a network:

- A narrow place is the jump host where one is used, else the proxy command, else the address and port;
  each has a `Lane`. A connection takes a `Turn` from before its TCP connect until it is logged in.
- A lane starts with `FIRST_LIMIT` turns at a time. Each login that finds the lane full allows one more,
  until the first connection is turned away; then the limit is halved, and grows by one per full round.
- Those turned away together count once: connections that began before a cut do not cut again. Behind a
  jump host, one target that keeps turning us away is busy by itself: only when another one does so as
  well is it the common way that is narrow.
- A turn whose other end has been silent for `SILENT_S` no longer counts, so that a host that hangs
  delays nobody behind it.
- Who was turned away waits and comes again, before those who have not tried yet, for as long as it has
  `Patience`. Time spent waiting for a turn is not counted: it says nothing of that host.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from ascendctl.transport.watch import CutShort, Guard

FIRST_LIMIT = 8
SILENT_S = 3.0
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 4.0


class Patience:
    """How long a host that is turned away is tried again: ``limit_s`` of trying and pausing.

    ``spread`` gives a number between two others, so that hosts turned away together do not come back
    together. ``tries`` counts the attempts so far.
    """

    def __init__(self, limit_s: float, spread: Callable[[float, float], float] = random.uniform) -> None:
        self.tries = 0
        self._left_s = limit_s
        self._spread = spread

    def pause_s(self, tried_s: float) -> float | None:
        """Seconds to wait after an attempt that took ``tried_s``; None = it was the last one."""
        self.tries += 1
        self._left_s -= tried_s
        if self._left_s <= 0.0:
            return None
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self.tries - 1, 10)) * self._spread(
            0.5, 1.5
        )
        # What is left is used to its end: nobody is given up while it could still be let in.
        pause_s = min(pause_s, self._left_s)
        self._left_s -= pause_s
        return pause_s


class Turn:
    """One connection's place in a lane, from asking for it until one of the three endings.

    ``granted`` is set once it may begin. ``ticket``: the smaller, the sooner its turn comes.
    """

    def __init__(self, lane: Lane, target: Hashable, ticket: int, clock: Callable[[], float]) -> None:
        self.granted = threading.Event()
        self.target = target
        self.ticket = ticket
        self.number = 0
        self._lane = lane
        self._clock = clock
        self._heard_at = 0.0

    def begin(self, number: int) -> None:
        """The lane lets it begin, as its ``number``-th."""
        self.number = number
        self._heard_at = self._clock()
        self.granted.set()

    def heard(self) -> None:
        """The other end gave a sign of life."""
        self._heard_at = self._clock()

    def look(self, now: float) -> None:
        """Stop counting if the other end has been silent; called about once a second."""
        if self.number and now - self._heard_at >= SILENT_S:
            self._lane._set_aside(self)

    def let_in(self) -> None:
        """It is logged in."""
        self._lane._end(self, let_in=True)

    def turned_away(self) -> None:
        """The other end dropped it, being too busy."""
        self._lane._end(self, turned_away=True)

    def give_back(self) -> None:
        """It ended in a way that tells nothing of how busy the place is, or was not begun."""
        self._lane._end(self)


class Lane:
    """One narrow place: how many may be under way in it, and who waits. Safe to use from many threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._limit = float(FIRST_LIMIT)
        self._waiting: list[_Waiting] = []
        self._under_way: set[Turn] = set()
        self._tickets = itertools.count(1)
        self._begun = 0
        self._begun_at_cut = 0
        self._was_cut = False
        self._targets: set[Hashable] = set()
        self._last_turned_away: Hashable = None

    @property
    def limit(self) -> int:
        """How many may be under way now."""
        return int(self._limit)

    def ticket(self) -> int:
        """A place in the order of arrival, to be kept over several attempts."""
        return next(self._tickets)

    def ask(self, target: Hashable, ticket: int) -> Turn:
        """Queue for a turn to connect to ``target``; its ``granted`` tells when it has come."""
        turn = Turn(self, target, ticket, self._clock)
        with self._lock:
            self._targets.add(target)
            heapq.heappush(self._waiting, _Waiting(ticket, turn))
            self._admit()
        return turn

    def wait_for_turn(self, target: Hashable, ticket: int, guard: Guard) -> Turn:
        """A turn that has come. Raises `CutShort` if the guard is cut first."""
        turn = self.ask(target, ticket)
        with guard.at_cut(turn.granted.set):
            turn.granted.wait()
        if guard.cut_by is not None:
            turn.give_back()
            raise CutShort
        return turn

    # --- what a turn tells ------------------------------------------------------------------------

    def _set_aside(self, turn: Turn) -> None:
        with self._lock:
            self._under_way.discard(turn)
            self._admit()

    def _end(self, turn: Turn, *, let_in: bool = False, turned_away: bool = False) -> None:
        with self._lock:
            under_way = len(self._under_way)
            if let_in:
                self._grow(under_way)
            elif turned_away:
                self._cut(turn, under_way)
            self._under_way.discard(turn)
            if not turn.number:
                self._waiting = [each for each in self._waiting if each.turn is not turn]
                heapq.heapify(self._waiting)
            self._admit()

    def _grow(self, under_way: int) -> None:
        # A lane that is not full has not shown that it bears more.
        if under_way >= self.limit:
            self._limit += 1.0 / self._limit if self._was_cut else 1.0

    def _cut(self, turn: Turn, under_way: int) -> None:
        alone = len(self._targets) == 1
        by_itself = not alone and self._last_turned_away in (None, turn.target)
        self._last_turned_away = turn.target
        if by_itself or turn.number <= self._begun_at_cut:
            return
        self._limit = max(1.0, min(self._limit, under_way) / 2.0)
        self._begun_at_cut = self._begun
        self._was_cut = True

    def _admit(self) -> None:
        while self._waiting and len(self._under_way) < self.limit:
            turn = heapq.heappop(self._waiting).turn
            self._begun += 1
            self._under_way.add(turn)
            turn.begin(self._begun)


class Lanes:
    """The lanes of a run, by their narrow place."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lanes: dict[Hashable, Lane] = {}

    def of(self, place: Hashable) -> Lane:
        """The lane of this place; made at the first asking."""
        with self._lock:
            return self._lanes.setdefault(place, Lane())


@dataclass(order=True)
class _Waiting:
    ticket: int
    turn: Turn = field(compare=False)
