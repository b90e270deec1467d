"""Starting and watching, of hosts that are made up: what each instance comes to, and which wave follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from ascendctl.netloader.bringing_up import BringUp, Limits
from ascendctl.netloader.deployment_state import HostSeen, KeptBy, Life, Seen, Start, Started, State
from ascendctl.netloader.fleet import Fleet
from ascendctl.netloader.log_rules import Stage
from ascendctl.netloader.plan import Engine, Instance, Role, Source
from ascendctl.netloader.runs import End, InstanceRun
from ascendctl.netloader.waves import plan_waves
from tests.netloader.fake_fleet import (
    BUILDING_LOG,
    FELL_BACK_LOG,
    RECEIVED_LOG,
    SEED_LOG,
    FakeFleet,
    Heard,
    Told,
    instances,
    seen,
)

AT_ONCE = Limits(ready_s=60.0, every_s=0.0, lost_s=0.0, settle_s=0.0)
NO_TIME = replace(AT_ONCE, ready_s=0.0)


def bring_up(
    fleet: FakeFleet,
    limits: Limits = AT_ONCE,
    heard: Heard | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> BringUp:
    return BringUp(cast(Fleet, fleet), "prod", heard or Heard(), limits, interrupted)


def waved(
    fleet: FakeFleet, *hosts: str, seeds: Sequence[str] = ("seed.1",), **more: Any
) -> list[InstanceRun]:
    """Of joiners without a known pace: one per source and wave."""
    made = {one.name: one for one in instances(*hosts)}
    plan = plan_waves(Engine.ASCEND, seeds, list(made))
    known = {name: Source(name, (f"10.0.0.{99 - at}:19374",)) for at, name in enumerate(seeds)}
    return list(bring_up(fleet, **more).joiners(plan, made, known))


def ends(runs: Sequence[InstanceRun]) -> list[End]:
    return [one.end for one in runs]


def says(log: str, **more: Any) -> Told:
    return lambda one, number: seen(one, log, **more)


def first(count: int, log: str, then: str, **more: Any) -> Told:
    """``count`` looks bring the one log, later ones the other of an instance that is ready."""
    return lambda one, number: seen(one, log, **more) if number < count else seen(one, then)


def falls_back(one: Instance, number: int) -> Seen:
    return seen(one, FELL_BACK_LOG)


# One wave -------------------------------------------------------------------------------------------------


def test_a_seed_is_ready_with_its_listener_and_stages() -> None:
    (one,) = instances("n1", role=Role.SEED)
    fleet = FakeFleet(
        {
            one.name: lambda it, number: (
                seen(it, BUILDING_LOG, ready=False) if not number else seen(it, SEED_LOG)
            )
        }
    )
    heard = Heard()
    (run,) = bring_up(fleet, heard=heard).instances([one])
    assert (run.end, run.ran_already, run.serves) == (End.READY, False, ("10.0.0.1:19374",))
    assert [stage for stage, _ in run.stages] == [Stage.BUILDING, Stage.READY]
    assert run.ready_s is not None and run.ready_s >= dict(run.stages)[Stage.BUILDING]
    assert heard.moves == [("n1.1", "building the model")] and heard.ends == ["n1.1"]


def test_what_runs_already_is_not_started_and_is_looked_at() -> None:
    one, two = instances("n1", "n2", role=Role.SEED)
    fleet = FakeFleet({one.name: says(SEED_LOG), two.name: says(SEED_LOG)})
    fleet.know(one)
    old, new = bring_up(fleet).instances([one, two], running={one.name})
    assert fleet.begun == [["n2.1"]]
    assert (old.end, old.ran_already, old.ready_s, old.stages) == (End.READY, True, None, ())
    assert (new.ran_already, new.ready_s is None) == (False, False)


def test_a_log_is_read_on_from_where_it_was_read_to() -> None:
    (one,) = instances("n1")
    half = len(BUILDING_LOG)
    fleet = FakeFleet(
        {
            one.name: lambda it, number: (
                seen(it, BUILDING_LOG, ready=False) if not number else seen(it, BUILDING_LOG + RECEIVED_LOG)
            )
        }
    )
    (run,) = bring_up(fleet).instances([one])
    assert [look["n1"][0].log_from for look in fleet.looks] == [0, half]
    assert run.evidence is not None and not run.evidence.unproven and not run.evidence.fallbacks


def state_of(start_id: str) -> State:
    return State(
        "prod", "n1.1", start_id * 32, "started", "n1", 1, KeptBy.SESSION, None, None, (), None, None
    )


def test_a_log_that_begins_anew_is_read_anew() -> None:
    (one,) = instances("n1")
    fleet = FakeFleet(
        {
            one.name: lambda it, number: (
                seen(it, FELL_BACK_LOG * 3, ready=False, state=state_of("a"))
                if not number
                else seen(it, RECEIVED_LOG, state=state_of("b"))
            )
        }
    )
    (run,) = bring_up(fleet).instances([one])
    assert run.evidence is not None and not run.evidence.fallbacks and not run.evidence.unproven


def test_what_ends_while_it_starts_has_failed() -> None:
    (one,) = instances("n1", role=Role.SEED)
    error = "ERROR OSError: [Errno 98] Address already in use\n"
    fleet = FakeFleet(
        {one.name: says(error, ready=False, life=Life.ENDED, reason="its engine ended with exit code 1")}
    )
    (run,) = bring_up(fleet).instances([one])
    assert run.end is End.FAILED
    assert run.reason == "a port is taken by another process (its engine ended with exit code 1)"
    assert run.lines == ("line 1: OSError: [Errno 98] Address already in use",) and "ss -ltnp" in run.remedy


def test_what_is_not_ready_in_time_is_left_to_run() -> None:
    (one,) = instances("n1")
    fleet = FakeFleet({one.name: says(BUILDING_LOG, ready=False)})
    (run,) = bring_up(fleet, NO_TIME).instances([one])
    assert run.end is End.NOT_READY
    assert run.reason == "after 0 s it still waits for: building the model; it runs on"


def test_a_joiner_that_is_ready_gets_time_for_its_ranks_words() -> None:
    (one,) = instances("n1")
    waits = FakeFleet(
        {
            one.name: lambda it, number: (
                seen(it, SEED_LOG if False else "nothing\n") if number < 3 else seen(it)
            )
        }
    )
    heard = Heard()
    (run,) = bring_up(waits, replace(AT_ONCE, settle_s=60.0), heard).instances([one])
    assert run.end is End.READY and run.evidence is not None and not run.evidence.unproven
    assert heard.moves == [("n1.1", "ready; its ranks have not said yet where their weights came from")]
    # No longer than that: it is ready, and nothing is proven.
    mute = FakeFleet({one.name: says("nothing\n")})
    (run,) = bring_up(mute).instances([one])
    assert run.end is End.READY and run.evidence is not None and len(run.evidence.unproven) == 1


def test_a_host_that_stops_answering_is_lost_and_one_that_comes_back_is_not() -> None:
    (one,) = instances("n1")
    gone = "the host could not be asked: refused: connection refused"

    def told(it: Instance, number: int) -> Seen | str:
        return gone if number < 4 else seen(it)

    (run,) = bring_up(FakeFleet({one.name: told})).instances([one])
    assert (run.end, run.reason) == (End.UNREACHED, gone)
    (run,) = bring_up(FakeFleet({one.name: told}), replace(AT_ONCE, lost_s=60.0)).instances([one])
    assert run.end is End.READY
    (run,) = bring_up(FakeFleet({one.name: lambda it, number: HostSeen()})).instances([one])
    assert (run.end, run.reason) == (End.UNREACHED, "the host's answer does not tell of it")


def test_a_host_that_answers_now_and_then_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = instances("n1")
    now = [1000.0]

    def told(it: Instance, number: int) -> Seen | str:
        now[0] += 1.0
        if number in (0, 2, 4):
            return "no route"
        return seen(it, BUILDING_LOG, ready=False) if number < 5 else seen(it)

    monkeypatch.setattr("ascendctl.netloader.bringing_up.time.monotonic", lambda: now[0])
    (run,) = bring_up(FakeFleet({one.name: told}), replace(AT_ONCE, lost_s=1.5)).instances([one])
    assert (run.end, run.ready_s) == (End.READY, 6.0)


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (Started(Start.UNREACHED, "no route"), End.UNREACHED, "no route"),
        (Started(Start.REFUSED, "its folder is a link"), End.FAILED, "its folder is a link"),
        (Started(Start.FAILED, "there is no setsid here"), End.FAILED, "there is no setsid here"),
    ],
    ids=["unreached", "refused", "failed"],
)
def test_a_start_that_comes_to_nothing_is_not_watched(start: Started, end: End, reason: str) -> None:
    (one,) = instances("n1")
    fleet = FakeFleet(starts={one.name: start})
    (run,) = bring_up(fleet).instances([one])
    assert (run.end, run.reason, fleet.looks) == (end, reason, [])


def test_a_start_of_which_nothing_is_known_is_looked_at() -> None:
    (one,) = instances("n1")
    fleet = FakeFleet(starts={one.name: Started(Start.UNKNOWN, "the connection was lost")})
    (run,) = bring_up(fleet).instances([one])
    assert run.end is End.READY
    assert "whether it was started was not told: the connection was lost" in run.notes


def test_somebody_else_started_it_meanwhile() -> None:
    (one,) = instances("n1", role=Role.SEED)
    same = Started(Start.RUNS_ALREADY, seen=seen(one, SEED_LOG))
    (run,) = bring_up(FakeFleet({one.name: says(SEED_LOG)}, {one.name: same})).instances([one])
    assert (run.end, run.ran_already) == (End.READY, True)
    other = replace(one, serving=replace(one.serving, dtype="float16"))
    for found, what in (
        (seen(other), "dtype is float16, wanted not set"),
        (seen(one, plan="{"), "it is not valid JSON"),
    ):
        fleet = FakeFleet(starts={one.name: Started(Start.RUNS_ALREADY, seen=found)})
        (run,) = bring_up(fleet).instances([one])
        assert (run.end, run.ran_already) == (End.FAILED, True)
        assert run.reason.startswith("it runs already, by another plan: ") and what in run.reason


def test_a_login_manager_that_will_end_it_is_told() -> None:
    (one,) = instances("n1")
    state = replace(state_of("a"), kills_user_processes=True)
    started = Started(Start.STARTED, seen=seen(one, "", ready=False, state=state))
    (run,) = bring_up(FakeFleet(starts={one.name: started})).instances([one])
    assert any("loginctl enable-linger" in note for note in run.notes)


def test_an_interruption_leaves_what_was_started_and_says_where_it_is() -> None:
    one, two = instances("n1", "n2")
    came: list[bool] = []
    fleet = FakeFleet({two.name: says(BUILDING_LOG, ready=False)}, on_look=lambda count: came.append(True))
    ready, waits = bring_up(fleet, interrupted=lambda: bool(came)).instances([one, two])
    assert (ready.end, waits.end) == (End.READY, End.INTERRUPTED)
    assert waits.reason == "interrupted; it runs on and was at: building the model"
    # One that comes before starts nothing.
    fleet = FakeFleet()
    runs = bring_up(fleet, interrupted=lambda: True).instances([one, two])
    assert ends(runs) == [End.NOT_STARTED] * 2 and fleet.begun == []


def test_a_second_ctrl_c_tells_what_is_known() -> None:
    one, two = instances("n1", "n2")

    def twice(count: int) -> None:
        if count == 2:
            raise KeyboardInterrupt

    waits = {one.name: says(RECEIVED_LOG), two.name: says(BUILDING_LOG, ready=False)}
    ready, left = bring_up(FakeFleet(waits, on_look=twice)).instances([one, two])
    assert (ready.end, left.end) == (End.READY, End.INTERRUPTED)
    assert left.reason == "interrupted; it runs on and was at: building the model"


# Waves ----------------------------------------------------------------------------------------------------


def test_every_proven_joiner_is_a_source_of_the_next_wave() -> None:
    fleet, heard = FakeFleet(), Heard()
    runs = waved(fleet, "n1", "n2", "n3", heard=heard)
    assert ends(runs) == [End.READY] * 3 and fleet.begun == [["n1.1"], ["n2.1", "n3.1"]]
    assert fleet.given["n1.1"] == (("10.0.0.99:19374",),)
    assert fleet.given["n2.1"] == (("10.0.0.99:19374", "10.0.0.1:19374"),)
    assert fleet.given["n3.1"] == (("10.0.0.1:19374", "10.0.0.99:19374"),)
    assert heard.said == ["wave 1 of 2: 1 to join", "wave 2 of 2: 2 to join"]


def test_who_read_its_disk_gives_to_nobody_and_is_replaced() -> None:
    # With two seeds the first wave has two joiners; one of them falls back.
    fleet = FakeFleet({"n1.1": falls_back})
    runs = waved(fleet, "n1", "n2", "n3", "n4", seeds=("seed.1", "other.1"))
    assert ends(runs) == [End.READY] * 4 and fleet.begun == [["n1.1", "n2.1"], ["n3.1", "n4.1"]]
    for name in ("n3.1", "n4.1"):
        assert all("10.0.0.1:19374" not in rank for rank in fleet.given[name])
        # Somebody else stands in its place.
        assert [len(set(rank)) for rank in fleet.given[name]] == [2]


@pytest.mark.parametrize(
    "told",
    [falls_back, says("nothing\n"), says(RECEIVED_LOG, listening=(8000,))],
    ids=["fell back", "not proven", "listens nowhere"],
)
def test_after_a_wave_without_a_proven_joiner_the_rest_is_not_started(told: Told) -> None:
    fleet = FakeFleet({"n1.1": told})
    runs = waved(fleet, "n1", "n2", "n3")
    assert ends(runs) == [End.READY, End.NOT_STARTED, End.NOT_STARTED] and fleet.begun == [["n1.1"]]
    assert {one.reason for one in runs[1:]} == {
        "no joiner of wave 1 took its weights from a source, so it would not either"
    }


def test_a_host_that_is_not_reached_keeps_no_other_from_joining() -> None:
    fleet = FakeFleet(starts={"n1.1": Started(Start.UNREACHED, "no route")})
    runs = waved(fleet, "n1", "n2", "n3")
    assert ends(runs) == [End.UNREACHED, End.READY, End.READY]
    # What was planned from it goes to who is there.
    assert fleet.given["n3.1"] == (("10.0.0.99:19374",),)


def test_an_interruption_between_waves_starts_no_more() -> None:
    came: list[bool] = []
    fleet = FakeFleet(on_look=lambda count: came.append(True))
    runs = waved(fleet, "n1", "n2", interrupted=lambda: bool(came))
    assert ends(runs) == [End.READY, End.NOT_STARTED]
    assert runs[1].reason == "interrupted before its wave"


@pytest.mark.parametrize("life", [Life.RUNNING, Life.ENDED])
def test_a_long_log_is_read_to_its_end_before_it_is_judged(life: Life) -> None:
    """What proves the transfer, or says why it ended, stands behind more than one look brings."""
    (one,) = instances("n1")
    last = RECEIVED_LOG if life is Life.RUNNING else "RuntimeError: NPU out of memory\n"
    log = ("no meaning " * 350 + "\n") * 1_200 + last

    def parts(instance: Instance, number: int) -> Seen:
        return seen(instance, log, life=life)

    fleet = FakeFleet({one.name: parts}, most_bytes=2 << 20)
    (run,) = bring_up(fleet).instances([one])
    assert len(fleet.looks) == 3
    if life is Life.RUNNING:
        assert run.end is End.READY and run.evidence is not None and not run.evidence.unproven
    else:
        assert run.end is End.FAILED and run.reason.startswith("memory ran out")
