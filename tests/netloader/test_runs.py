"""Exit codes of `serve` and `join`, `status` and `stop`: a table of what was found."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from ascendctl.netloader.deployment_state import Life, Seen, Stop, Stopped
from ascendctl.netloader.evidence import Came, Evidence, RankEvidence
from ascendctl.netloader.log_rules import Stage
from ascendctl.netloader.plan import Engine, Instance, Role
from ascendctl.netloader.runs import (
    End,
    Ended,
    InstanceRun,
    NetloaderRun,
    Standing,
    StatusRun,
    StopRun,
    exit_code,
    status_exit_code,
    stop_exit_code,
)
from ascendctl.results import Result, Status, Subject, SubjectKind
from tests.netloader.fake_fleet import instances

NOW = dt.datetime(2026, 8, 1, tzinfo=dt.timezone.utc)
(SEED,) = instances("n1", role=Role.SEED)
(JOINER,) = instances("n2")


def proof(one: Instance, *came: Came) -> Evidence:
    return Evidence(
        one.name, one.role, tuple(RankEvidence(rank, False, how) for rank, how in enumerate(came))
    )


def joined(*came: Came, end: End = End.READY) -> InstanceRun:
    return InstanceRun(JOINER, end, evidence=proof(JOINER, *came))


PROVEN, FELL, UNPROVEN = joined(Came.P2P), joined(Came.DISK), joined(Came.UNKNOWN)
SEEDED = InstanceRun(SEED, End.READY, evidence=proof(SEED, Came.DISK))


def ended(end: End) -> InstanceRun:
    return InstanceRun(JOINER, end)


def cell(status: Status) -> Result:
    return Result("link", Subject(SubjectKind.HOST, host="n1"), status, "so it is")


def of(*runs: InstanceRun, **more: Any) -> NetloaderRun:
    return NetloaderRun("join", "prod", Engine.ASCEND, NOW, 1.0, runs, **more)


@pytest.mark.parametrize(
    ("run", "code", "strictly"),
    [
        (of(PROVEN), 0, 0),
        (of(SEEDED), 0, 0),
        (of(SEEDED, PROVEN), 0, 0),
        (of(PROVEN, warnings=("mind",)), 0, 1),
        (of(PROVEN, notes=("as it is",)), 0, 0),
        (of(PROVEN, preflight=(cell(Status.PASS), cell(Status.NOT_APPLICABLE), cell(Status.WAIVED))), 0, 0),
        (of(PROVEN, preflight=(cell(Status.WARN),)), 0, 1),
        # Found wrong.
        (of(PROVEN, FELL), 1, 1),
        (of(FELL, allow_fallback=True), 0, 0),
        (of(UNPROVEN, FELL), 1, 1),
        (of(PROVEN, ended(End.FAILED)), 1, 1),
        (of(ended(End.UNREACHED), ended(End.FAILED)), 1, 1),
        (of(ended(End.NOT_STARTED), preflight=(cell(Status.FAIL),), gated=True), 1, 1),
        # Not proven.
        (of(), 3, 3),
        (of(PROVEN, UNPROVEN), 3, 3),
        (of(UNPROVEN, allow_fallback=True), 3, 3),
        (of(FELL, UNPROVEN, allow_fallback=True), 3, 3),
        (of(InstanceRun(JOINER, End.READY)), 3, 3),
        (of(joined()), 3, 3),
        (of(PROVEN, ended(End.NOT_READY)), 3, 3),
        (of(PROVEN, ended(End.UNREACHED)), 3, 3),
        (of(PROVEN, ended(End.NOT_STARTED)), 3, 3),
        (of(PROVEN, ended(End.INTERRUPTED)), 3, 3),
        (of(PROVEN, preflight=(cell(Status.UNKNOWN),)), 3, 3),
        (of(ended(End.NOT_READY), warnings=("mind",)), 3, 1),
        # What comes before all that.
        (of(PROVEN, preflight=(cell(Status.ERROR), cell(Status.FAIL))), 4, 4),
        (of(FELL, preflight=(cell(Status.ERROR),)), 4, 4),
        (of(PROVEN, interrupted=True), 130, 130),
        (of(FELL, preflight=(cell(Status.ERROR),), interrupted=True), 130, 130),
    ],
)
def test_exit_codes_of_a_run(run: NetloaderRun, code: int, strictly: int) -> None:
    assert (exit_code(run), exit_code(run, strict=True)) == (code, strictly)


@pytest.mark.parametrize("end", End)
def test_whatever_is_not_ready_is_never_green(end: End) -> None:
    run = of(InstanceRun(SEED, end), joined(Came.P2P, end=end))
    assert (exit_code(run) == 0) is (end is End.READY)


def test_what_may_run_now() -> None:
    assert {end for end in End if not ended(end).started} == {End.NOT_STARTED}
    assert InstanceRun(JOINER, End.NOT_STARTED, ran_already=True).started


def standing(
    life: Life = Life.RUNNING, ready: bool | None = True, *came: Came, one: Instance | None = SEED
) -> Standing:
    name = one.name if one else "n9.1"
    evidence = proof(one, *came) if one and came else None
    return Standing("n1", Seen("prod", name, life), one, ready=ready, evidence=evidence)


@pytest.mark.parametrize(
    ("standings", "more", "code"),
    [
        ((), {}, 0),
        ((standing(),), {}, 0),
        ((standing(ready=False),), {}, 0),
        ((standing(Life.RUNNING, True, Came.P2P, one=JOINER),), {}, 0),
        ((standing(Life.RUNNING, False, one=JOINER),), {}, 0),
        ((standing(), standing(Life.ENDED, False)), {}, 1),
        ((standing(Life.RESTARTED, False),), {}, 1),
        ((standing(Life.LEFTOVERS, False),), {}, 1),
        ((standing(Life.RUNNING, True, Came.DISK, one=JOINER),), {}, 1),
        ((standing(Life.ENDED, False),), {"unasked": (("n2", "no route"),)}, 1),
        ((standing(),), {"unasked": (("n2", "no route"),)}, 3),
        ((standing(Life.UNKNOWN, None),), {}, 3),
        ((standing(ready=None),), {}, 3),
        ((replace(standing(ready=False), stage=Stage.READY),), {}, 3),
        ((standing(one=None),), {}, 3),
        ((standing(Life.RUNNING, True, Came.UNKNOWN, one=JOINER),), {}, 3),
        ((standing(Life.RUNNING, True, one=JOINER),), {}, 3),
        ((standing(Life.ENDED, False),), {"interrupted": True}, 130),
    ],
)
def test_exit_codes_of_a_status(standings: tuple[Standing, ...], more: dict[str, Any], code: int) -> None:
    assert status_exit_code(StatusRun(NOW, ("n1", "n2"), standings, **more)) == code


@pytest.mark.parametrize(
    ("outcomes", "more", "code"),
    [
        ((), {}, 0),
        ((Stop.STOPPED, Stop.GONE), {}, 0),
        ((Stop.STOPPED, Stop.LEFT), {}, 1),
        ((Stop.REFUSED,), {}, 1),
        ((Stop.LEFT, Stop.UNKNOWN), {}, 1),
        ((Stop.LEFT,), {"unasked": (("n2", "no route"),)}, 1),
        ((Stop.STOPPED, Stop.UNKNOWN), {}, 3),
        ((), {"unasked": (("n2", "no route"),)}, 3),
        ((Stop.STOPPED,), {"unasked": (("n2", "no route"),)}, 3),
        ((Stop.LEFT,), {"interrupted": True}, 130),
    ],
)
def test_exit_codes_of_a_stop(outcomes: tuple[Stop, ...], more: dict[str, Any], code: int) -> None:
    ended_ones = tuple(Ended("n1", "n1.1", Role.SEED, Stopped(one)) for one in outcomes)
    assert stop_exit_code(StopRun("prod", ("n1",), ended_ones, **more)) == code
