"""Lanes and patience: how many handshakes are let in at a time, by a clock that the test turns."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Hashable

import pytest

from ascendctl.transport.contract import Deadlines
from ascendctl.transport.pacing import (
    FIRST_LIMIT,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    SILENT_S,
    Lane,
    Lanes,
    Patience,
    Turn,
)
from ascendctl.transport.watch import CutShort, Watch


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def queued(lane: Lane, count: int, target: Hashable = "one") -> list[Turn]:
    return [lane.ask(target, lane.ticket()) for _ in range(count)]


def granted(turns: list[Turn]) -> list[bool]:
    return [turn.granted.is_set() for turn in turns]


class Server:
    """Lets ``bears`` connections be under way at a time; the others are turned away, and come again."""

    def __init__(self, bears: int, hosts: int, targets: int = 1) -> None:
        self.bears = bears
        self.lane = Lane()
        self.drops: dict[int, int] = dict.fromkeys(range(hosts), 0)
        self.limits: list[int] = []
        self._hosts = [(number, f"target{number % targets}", self.lane.ticket()) for number in range(hosts)]

    def serve(self, most_rounds: int = 3000) -> int:
        """One round: whoever has a turn connects, at once; how many rounds until all are in."""
        waiting = {number: self.lane.ask(target, ticket) for number, target, ticket in self._hosts}
        for done in range(most_rounds):
            if not waiting:
                return done
            arrived = [number for number, turn in waiting.items() if turn.granted.is_set()]
            assert arrived, "the lane lets nobody in"
            self.limits.append(len(arrived))
            for number in arrived[self.bears :]:
                self.drops[number] += 1
                waiting[number].turned_away()
                _, target, ticket = self._hosts[number]
                waiting[number] = self.lane.ask(target, ticket)
            for number in arrived[: self.bears]:
                waiting.pop(number).let_in()
        raise AssertionError("not all were let in")


@pytest.mark.parametrize("bears", [1, 3, 5, 10, 100])
@pytest.mark.parametrize("targets", [1, 16])
def test_the_limit_follows_what_the_place_bears(bears: int, targets: int) -> None:
    server = Server(bears, hosts=1000, targets=targets)
    rounds = server.serve()
    later = server.limits[20:-5]
    assert rounds < 1.1 * 1000 / bears + 20, "much of what it bears went unused"
    assert max(later, default=0) <= bears + 1
    assert sum(server.drops.values()) < 1100
    assert max(server.drops.values()) <= 4, "one was turned away again and again while others came in"


def test_a_place_that_bears_all_is_never_slowed_down() -> None:
    server = Server(bears=10_000, hosts=1000)
    assert server.serve() < 12
    assert server.limits[:4] == [FIRST_LIMIT, 2 * FIRST_LIMIT, 4 * FIRST_LIMIT, 8 * FIRST_LIMIT]


def test_a_crowd_that_is_turned_away_together_counts_once() -> None:
    lane = Lane()
    turns = queued(lane, FIRST_LIMIT)
    for turn in turns:
        turn.turned_away()
    assert lane.limit == FIRST_LIMIT // 2
    (late,) = queued(lane, 1)
    late.turned_away()
    assert lane.limit == 1, "one alone in the lane was too many for what the lane allowed"


def test_the_limit_never_falls_below_one() -> None:
    lane = Lane()
    for _ in range(20):
        (turn,) = queued(lane, 1)
        assert turn.granted.is_set()
        turn.turned_away()
    assert lane.limit == 1


def test_a_lane_that_is_not_full_does_not_widen() -> None:
    lane = Lane()
    for _ in range(50):
        (turn,) = queued(lane, 1)
        turn.let_in()
    assert lane.limit == FIRST_LIMIT


def test_one_target_that_is_busy_by_itself_slows_nobody_else() -> None:
    lane = Lane()
    for number in range(30):
        other = lane.ask(f"good{number}", lane.ticket())
        bad = lane.ask("bad", lane.ticket())
        bad.turned_away()
        other.let_in()
    assert lane.limit == FIRST_LIMIT
    lane.ask("bad too", lane.ticket()).turned_away()
    assert lane.limit < FIRST_LIMIT, "two targets that are too busy are the way's own narrowness"


def test_what_hangs_does_not_hold_its_turn() -> None:
    clock = Clock()
    lane = Lane(clock)
    hung, others = queued(lane, FIRST_LIMIT), queued(lane, FIRST_LIMIT)
    hung[0].heard()
    clock.now += SILENT_S - 0.1
    hung[0].heard()
    for turn in hung:
        turn.look(clock.now)
    assert granted(others) == [False] * FIRST_LIMIT
    clock.now += 0.2
    for turn in hung:
        turn.look(clock.now)
    assert granted(others) == [True] * (FIRST_LIMIT - 1) + [False], "only the one that spoke still counts"
    for turn in hung:
        turn.give_back()
    assert lane.limit == FIRST_LIMIT
    assert granted(others) == [True] * FIRST_LIMIT


def test_who_was_turned_away_comes_before_who_has_not_tried() -> None:
    lane = Lane()
    ticket = lane.ticket()
    first = lane.ask("one", ticket)
    under_way, waiting = queued(lane, FIRST_LIMIT - 1), queued(lane, 4)
    first.turned_away()
    again = lane.ask("one", ticket)
    for turn in under_way:
        turn.let_in()
        if again.granted.is_set():
            break
    assert again.granted.is_set()
    assert granted(waiting) == [False] * 4


def test_a_host_whose_time_is_up_leaves_the_queue() -> None:
    lane, stop = Lane(), threading.Event()
    under_way = queued(lane, FIRST_LIMIT)
    with Watch().guard(stop, Deadlines(host_s=0.3)) as guard, pytest.raises(CutShort):
        lane.wait_for_turn("one", lane.ticket(), guard)
    (next_one,) = queued(lane, 1)
    under_way[0].let_in()
    assert next_one.granted.is_set()


def test_lanes_are_one_per_place() -> None:
    lanes = Lanes()
    assert lanes.of(("a", 22)) is lanes.of(("a", 22))
    assert lanes.of(("a", 22)) is not lanes.of(("a", 23))


def low(least: float, most: float) -> float:
    return least


def high(least: float, most: float) -> float:
    return most


@pytest.mark.parametrize("spread", [low, high])
def test_patience_is_used_to_its_end_and_no_longer(spread: object) -> None:
    patience = Patience(30.0, spread)  # type: ignore[arg-type]
    pauses = list(
        itertools.takewhile(lambda pause: pause is not None, iter(lambda: patience.pause_s(0.1), 0))
    )
    assert sum(p for p in pauses if p) + 0.1 * (patience.tries - 1) == pytest.approx(30.0, abs=0.2)
    assert patience.tries == len(pauses) + 1
    assert all(0 < (p or 0) <= 1.5 * LONGEST_PAUSE_S for p in pauses)
    assert pauses[0] == pytest.approx(spread(0.5, 1.5) * FIRST_PAUSE_S)  # type: ignore[operator]


def test_an_attempt_that_took_all_the_time_was_the_last() -> None:
    patience = Patience(30.0)
    assert patience.pause_s(30.0) is None
    assert patience.tries == 1
