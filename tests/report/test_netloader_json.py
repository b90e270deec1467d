"""The JSON of a bring-up: valid against its schema, complete, without a secret."""

from __future__ import annotations

import io
import json
from typing import Any

import jsonschema
import pytest

from ascendctl.netloader.deployment_state import KeptBy, Life, Seen, State
from ascendctl.netloader.evidence import Came
from ascendctl.netloader.plan import Engine, Role
from ascendctl.netloader.runs import End, NetloaderRun, StatusRun, exit_code, status_exit_code
from ascendctl.netloader.waves import Pace, plan_waves
from ascendctl.report.netloader_json import schema, status_schema, write_netloader_json, write_status_json
from ascendctl.report.netloader_words import verdict_line
from tests.report import netloader_runs as n
from tests.report import runs

FORMATS = jsonschema.FormatChecker()


def written(run: NetloaderRun) -> dict[str, Any]:
    """The report, valid against its own schema."""
    stream = io.StringIO()
    write_netloader_json(run, exit_code(run), stream)
    return checked(stream.getvalue(), schema())


def written_status(run: StatusRun) -> dict[str, Any]:
    stream = io.StringIO()
    write_status_json(run, status_exit_code(run), stream)
    return checked(stream.getvalue(), status_schema())


def checked(text: str, against: dict[str, Any]) -> dict[str, Any]:
    assert text.isascii() and text.endswith("}\n")
    assert n.SECRET not in text
    jsonschema.Draft202012Validator.check_schema(against)
    report: dict[str, Any] = json.loads(text)
    jsonschema.Draft202012Validator(against, format_checker=FORMATS).validate(report)
    return report


PLAN = plan_waves(Engine.ASCEND, ["node01.1"], ["node02.1", "node03.1"], Pace(2e9, 1e9, 30.0))
EVERYTHING = n.run(
    n.seed(),
    n.ready(n.instance(2, tp=2, draft=True), [*n.ranks(range(2)), *n.ranks([1], Came.DISK, draft=True)]),
    *(n.ended(end, n.instance(at)) for at, end in enumerate(End, 3)),
    n.ready(n.instance(20), n.ranks(range(8), Came.UNKNOWN), notes=("备注 \udcb9 \ud83d",)),
    n.ready(n.instance(21), evidence=None),
    plan=PLAN,
    preflight=tuple(runs.one_of_everything().results),
    warnings=("HCCL_BUFFERSIZE is read by nobody",),
)


@pytest.mark.parametrize(
    "run",
    [
        EVERYTHING,
        n.run(),
        n.run(n.ended(End.NOT_STARTED), gated=True, preflight=tuple(runs.link_down("node02", 1))),
        n.run(n.ended(End.INTERRUPTED), interrupted=True),
        n.run(n.ready(found=n.ranks(range(8), Came.DISK)), allow_fallback=True),
        n.run(*(n.ready(n.instance(at)) for at in range(2, 202))),
    ],
    ids=["everything", "nothing", "gated", "interrupted", "allowed", "200"],
)
def test_every_run_is_valid_and_says_what_the_terminal_says(run: NetloaderRun) -> None:
    report = written(run)
    assert report["verdict"] == verdict_line(run, exit_code(run))
    assert report["exit_code"] == exit_code(run)
    assert [one["end"] for one in report["instances"]] == [one.end.value for one in run.instances]
    for name in ("gated", "allow_fallback", "interrupted", "duration_s", "deployment"):
        assert report[name] == getattr(run, name)
    assert report["summary"]["fail"] == sum(cell.status.value == "fail" for cell in run.preflight)
    assert len(report["preflight"]) == len(run.preflight)


def test_an_instance_is_told_whole() -> None:
    one = written(n.run(n.ready(remedy="do it", reason="why", lines=("line 1: x",))))["instances"][0]
    assert (one["name"], one["proof"], one["stage"], one["ready_s"]) == (
        "node02.1",
        "verified",
        "ready",
        20.3,
    )
    assert (one["reason"], one["remedy"], one["lines"]) == ("why", "do it", ["line 1: x"])
    assert one["phase_seconds"]["post-process"] == 0.09
    assert one["stages"][1] == {"stage": "building the model", "seconds": 3.1}
    assert one["serves"][7] == "10.0.0.2:2340"
    planned = one["planned"]
    assert planned["devices"] == list(range(8)) and planned["sources"][3] == ["10.0.0.1:2336"]
    assert planned["fingerprint"] == n.instance().fingerprint


def test_ranks_are_told_one_by_one() -> None:
    weights = written(EVERYTHING)["instances"][1]["weights"]
    assert [(one["rank"], one["draft"], one["came"], one["verified"]) for one in weights] == [
        (0, False, "p2p", True),
        (1, False, "p2p", True),
        (1, True, "disk", None),
    ]
    assert weights[0]["source"] == "10.0.0.1:2333"
    assert weights[2]["reason"] == "no source answered" and weights[2]["decided_by"]


def test_proof_is_never_more_than_the_evidence() -> None:
    proofs = {one["name"]: one["proof"] for one in written(EVERYTHING)["instances"]}
    assert proofs["node01.1"] == "not wanted"
    assert proofs["node02.1"] == "fell back to disk"
    assert proofs["node20.1"] == proofs["node21.1"] == "not proven"
    assert proofs["node04.1"] == "not proven", "not ready, and nothing was read"


def test_the_plan_is_told() -> None:
    plan = written(EVERYTHING)["plan"]
    assert plan["waves"][0]["joins"][1] == {"joiner": "node03.1", "sources": ["node01.1"], "turn": 1}
    assert plan["estimated_s"] == pytest.approx(34.0)
    assert written(n.run())["plan"] is None


STATE = State(
    "qwen3", "node02.1", "a" * 32, "started", "node02", 1, KeptBy.SESSION, True, False, (), None, None
)
STATUS = n.status(
    n.standing(n.instance(1, role=Role.SEED)),
    n.standing(n.instance(2), seen=Seen("qwen3", "node02.1", Life.RUNNING, state=STATE, members=(41, 42))),
    n.standing(n.instance(3), Life.ENDED, why="killed \udcb9"),
    n.standing(n.instance(4), instance=None, evidence=None, ready=None, reason="its plan is no JSON"),
    *(n.standing(n.instance(at), life) for at, life in enumerate(Life, 10)),
    unasked=(("node99", "unreachable"),),
)


def test_status_is_valid_and_whole() -> None:
    report = written_status(STATUS)
    seed, second, ended, unread = report["instances"][:4]
    assert (seed["proof"], second["proof"], unread["proof"]) == ("not wanted", "verified", None)
    assert second["processes"] == [41, 42] and second["ends_with_login"] is True
    assert seed["ends_with_login"] is None
    assert ended["reason"] == "killed \\xb9" and ended["life"] == "ended" and ended["ready"] is None
    assert unread["planned"] is None and unread["reason"] == "its plan is no JSON"
    assert report["unasked"] == [{"host": "node99", "reason": "unreachable"}]
    assert report["exit_code"] == status_exit_code(STATUS)


def test_status_of_nothing_is_valid() -> None:
    assert written_status(n.status(interrupted=True))["instances"] == []


def test_the_schemas_describe_what_is_written() -> None:
    for one, report in ((schema(), written(EVERYTHING)), (status_schema(), written_status(STATUS))):
        assert set(report) == set(one["properties"]) == set(one["required"])
        broken = {**report, "exit_code": "zero"}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(one).validate(broken)
