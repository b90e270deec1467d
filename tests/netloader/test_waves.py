"""Waves: within vllm-ascend's limits, every joiner a source of the next one, times never guessed."""

from __future__ import annotations

import itertools
import math

import pytest

from ascendctl.netloader.plan import Engine, PlanError
from ascendctl.netloader.waves import ACK_WAIT_S, JoinPlan, Pace, most_at_once, plan_waves, seconds_text

GB = 1e9


def names(count: int) -> list[str]:
    return [f"j{number}" for number in range(count)]


def waves(count: int, pace: Pace = Pace(), seeds: tuple[str, ...] = ("s",)) -> JoinPlan:
    return plan_waves(Engine.ASCEND, seeds, names(count), pace)


PACES = [
    Pace(),
    Pace(60 * GB, 10 * GB, 0.0),
    Pace(60 * GB, 10 * GB, 40.0),
    Pace(60 * GB, 10 * GB, 4000.0),
    Pace(300 * GB, 5 * GB, 30.0),
    Pace(300 * GB, 1 * GB, 30.0),
    Pace(1.0, 10 * GB, 30.0),
    Pace(60 * GB, 10 * GB),
    Pace(60 * GB, None, 30.0),
]


@pytest.mark.parametrize("pace", PACES, ids=range(len(PACES)))
@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 100])
@pytest.mark.parametrize("seeds", [("s",), ("s", "t")], ids=["one", "two"])
def test_every_plan_keeps_the_engines_limits(pace: Pace, count: int, seeds: tuple[str, ...]) -> None:
    plan = waves(count, pace, seeds)
    listening = set(seeds)
    planned = []
    for wave in plan.waves:
        queues: dict[str, list[int]] = {}
        for join in wave.joins:
            # Only who listens before the wave can be asked, and nobody asks twice in one place.
            assert set(join.sources) <= listening and len(set(join.sources)) == len(join.sources)
            queues.setdefault(join.sources[0], []).append(join.turn)
        for turns in queues.values():
            assert sorted(turns) == list(range(len(turns)))
            if pace.transfer_s is None:
                assert len(turns) == 1
            else:
                assert len(turns) <= 60 * pace.bytes_per_s / pace.bytes_per_rank + 1  # type: ignore[operator]
                assert (len(turns) - 1) * pace.transfer_s <= ACK_WAIT_S / 2
        listening |= {join.joiner for join in wave.joins}
        planned += [join.joiner for join in wave.joins]
    assert planned == names(count)


def test_every_joiner_is_a_source_of_the_next_wave() -> None:
    assert [len(wave.joins) for wave in waves(15).waves] == [1, 2, 4, 8]
    last = waves(15).waves[-1]
    assert sorted(join.sources[0] for join in last.joins) == sorted(["s", *names(7)])


def test_a_second_source_stands_behind_the_planned_one() -> None:
    plan = waves(3)
    assert [join.sources for wave in plan.waves for join in wave.joins] == [("s",), ("s", "j0"), ("j0", "s")]


@pytest.mark.parametrize(
    ("pace", "most"),
    [
        (Pace(), 1),
        (Pace(60 * GB, 10 * GB), 11),
        (Pace(600 * GB, 10 * GB), 2),
        (Pace(601 * GB, 10 * GB), 1),
        (Pace(6000 * GB, 10 * GB), 1),
    ],
)
def test_how_many_a_source_can_have_at_once(pace: Pace, most: int) -> None:
    assert most_at_once(pace) == most


def test_seconds_are_startup_and_the_longest_queue_of_each_wave() -> None:
    plan = waves(3, Pace(300 * GB, 5 * GB, 30.0))  # 60 s each: no queue fits
    assert [wave.seconds for wave in plan.waves] == [90.0, 90.0]
    assert plan.seconds == 180.0
    assert seconds_text(plan.seconds) == "about 3 min 0 s" or seconds_text(plan.seconds) == "about 3 min"


def test_a_long_start_is_worth_a_queue_and_a_short_one_is_not() -> None:
    slow_start = waves(3, Pace(60 * GB, 10 * GB, 100.0))
    assert [len(wave.joins) for wave in slow_start.waves] == [3]
    assert slow_start.seconds == 118.0
    quick_start = waves(7, Pace(60 * GB, 10 * GB, 0.0))
    assert [len(wave.joins) for wave in quick_start.waves] == [1, 2, 4]
    assert quick_start.seconds == 18.0


def test_no_other_uniform_depth_is_quicker() -> None:
    for startup_s, count in itertools.product((0.0, 5.0, 40.0), (2, 5, 9, 30)):
        pace = Pace(60 * GB, 10 * GB, startup_s)
        best = waves(count, pace).seconds
        assert best is not None
        for depth in range(1, 7):
            sources, left, total = 1, count, 0.0
            while left > 0:
                started = min(left, depth * sources)
                total += startup_s + math.ceil(started / sources) * 6.0
                left, sources = left - started, sources + started
            assert best <= total + 1e-9


def test_a_time_is_never_guessed() -> None:
    for pace in (Pace(), Pace(1.0, None, 1.0), Pace(None, 1.0, 1.0), Pace(60.0, 10.0)):
        for engine in Engine:
            plan = plan_waves(engine, ["s"], names(3), pace)
            assert plan.seconds is None and all(wave.seconds is None for wave in plan.waves)
            assert any("no time is estimated" in note for note in plan.notes)
    assert seconds_text(None) == "not known"


def test_the_plan_says_what_limits_it() -> None:
    (note,) = waves(3, Pace(60 * GB, 10 * GB, 100.0)).notes
    assert "at 6 s each, 11 at once would be the most" in note
    assert "longest queue of this plan is 3, its last waits 12 s" in note


def test_the_own_engine_needs_one_wave() -> None:
    pace = Pace(64 * 2**20, 2**20, 10.0)  # 64 s each, in two chunks
    plan = plan_waves(Engine.OWN, ["s"], names(9), pace)
    (wave,) = plan.waves
    assert all(join.sources == ("s",) for join in wave.joins)
    assert plan.seconds == 10.0 + (1 + 8 / 2) * 64
    two = plan_waves(Engine.OWN, ["s", "t"], names(9), pace)
    assert [join.sources[0] for join in two.waves[0].joins] == ["s", "t"] * 4 + ["s"]
    assert two.seconds == 10.0 + (1 + 4 / 2) * 64
    alone = plan_waves(Engine.OWN, ["s"], names(9), pace, chain=False)
    assert alone.seconds == 10.0 + 9 * 64


def test_what_cannot_be_planned_is_refused() -> None:
    with pytest.raises(PlanError, match="no source"):
        plan_waves(Engine.ASCEND, [], ["j"])
    with pytest.raises(PlanError, match="j stands twice"):
        plan_waves(Engine.ASCEND, ["s"], ["j", "j"])
    assert plan_waves(Engine.ASCEND, ["s"], []).waves == ()
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(PlanError):
            Pace(bytes_per_rank=wrong)
    with pytest.raises(PlanError):
        Pace(startup_s=-1.0)


def test_thousands_of_joiners_are_planned() -> None:
    plan = waves(4000, Pace(1.0, 10 * GB, 30.0))
    assert sum(len(wave.joins) for wave in plan.waves) == 4000
