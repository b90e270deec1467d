"""What is printed of a bring-up: what became of everybody, why, and a verdict that is never too green."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from ascendctl.netloader.deployment_state import Life, Seen
from ascendctl.netloader.evidence import Came, RankEvidence
from ascendctl.netloader.log_rules import Stage
from ascendctl.netloader.plan import Engine, Instance, Role
from ascendctl.netloader.runs import (
    End,
    InstanceRun,
    NetloaderRun,
    Standing,
    StatusRun,
    exit_code,
    status_exit_code,
)
from ascendctl.netloader.waves import Join, JoinPlan, Pace, Wave, plan_waves
from ascendctl.report.netloader_text import render_join_plan, render_run, render_status
from ascendctl.report.netloader_words import verdict_line
from ascendctl.results import ExitCode, Result, Status, host_subject
from tests.report import netloader_runs as n
from tests.report import runs


def rendered(run: NetloaderRun, *, width: int = 80, code: ExitCode | None = None, **console: Any) -> str:
    stream = io.StringIO()
    code = exit_code(run) if code is None else code
    render_run(run, Console(file=stream, width=width, **console), exit_code=code)
    return stream.getvalue()


def status_of(run: StatusRun, width: int = 80) -> str:
    stream = io.StringIO()
    render_status(run, Console(file=stream, width=width), exit_code=status_exit_code(run))
    return stream.getvalue()


def plan_of(plan: JoinPlan, joiners: Sequence[Instance] = (), width: int = 80) -> str:
    stream = io.StringIO()
    render_join_plan(plan, joiners, Console(file=stream, width=width))
    return stream.getvalue()


def section(text: str, title: str) -> list[str]:
    """The lines below a heading that begins so, up to the next empty one."""
    lines = text.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(title))
    return list(itertools.takewhile(bool, lines[start + 1 :]))


def closing(text: str) -> str:
    """The verdict, which is the last paragraph."""
    return " ".join(text.rstrip().rsplit("\n\n", 1)[1].split())


PLAN = plan_waves(Engine.OWN, ["node01.1"], ["node02.1", "node03.1"], Pace(64e9, 9e9, 30.0))
SECOND_OF_A_CHAIN = n.ready(n.instance(3), n.ranks(range(8), giver=2), ready_s=21.7)


def test_the_join_table() -> None:
    text = rendered(n.run(n.ready(), SECOND_OF_A_CHAIN, plan=PLAN))
    assert section(text, "Instances") == [
        "    instance  ended  ready s  weights",
        "  ✔ node02.1  ready     20.3  ranks 0-7: p2p from node01.1, verified",
        "  ✔ node03.1  ready     21.7  ranks 0-7: p2p from node02.1, verified",
    ]
    assert section(text, "Seconds from the start")[0].split() == [
        "building",
        "asking",
        "receiving",
        "loaded",
        "serving",
        "preparing",
        "ready",
    ]
    assert section(text, "Seconds of each phase") == [
        "              connect  join  group  wire  digest  post-process  load",
        "    node02.1      0.0   0.1    1.1   5.3     0.6           0.1   7.4",
        "    node03.1      0.0   0.1    1.1   5.3     0.6           0.1   7.4",
    ]
    assert section(text, "Serving")[1] == "    node02.1  http://10.0.0.2:8000  10.0.0.2:2333-2340"
    assert "planned: about 37 s" in text
    assert "Findings" not in text and "Notes" not in text
    assert closing(text) == (
        "PROVEN: 2 of 2 joiners: every rank's weights came from a running instance and were verified"
    )


def test_the_role_stands_where_there_is_room_or_several() -> None:
    one_role, both = n.run(n.ready()), n.run(n.seed(), n.ready())
    assert "joiner" not in section(rendered(one_role, width=80), "Instances")[1]
    assert "joiner" in section(rendered(one_role, width=100), "Instances")[1]
    rows = section(rendered(both, width=80), "Instances")
    assert ["seed" in rows[1], "joiner" in rows[2]] == [True, True]
    assert "ranks 0-7: disk, as planned" in rows[1]


@pytest.mark.parametrize("end", End)
def test_every_end_is_told(end: End) -> None:
    run = n.run(n.ready(), n.ended(end, n.instance(3)))
    text = rendered(run)
    row = next(line for line in section(text, "Instances") if "node03.1" in line)
    assert end.value in row
    mark = {End.READY: "✔", End.FAILED: "✖", End.NOT_STARTED: "»"}.get(end, "?")
    assert row.strip()[0] == mark
    found = " ".join(text.split())
    if end is End.READY:
        assert closing(text).startswith("PROVEN: 2 of 2")
        return
    assert f"the reason of {end.name}" in found
    assert f"to do the remedy of {end.name}" in found
    assert f"log line 77: {end.name} in the log" in found
    assert f"1 of 2 joiners ready with weights that are proven (1 {end.value}, 1 verified)" in closing(text)
    assert closing(text).startswith("FAILED: " if end is End.FAILED else "NOT PROVEN: ")
    assert ("seen last: building the model" in found) is (end is not End.NOT_STARTED)


def test_a_fallback_names_its_ranks_and_the_deciding_line() -> None:
    found = [*n.ranks(range(4)), *n.ranks(range(4, 8), Came.DISK, decided_by=("line 9: Did not get it",))]
    text = rendered(n.run(n.ready(found=found, remedy="Start the seed with --listen-port.")))
    rows = section(text, "Instances")
    assert rows[1].endswith("ranks 0-3: p2p from 10.0.0.1:2333-2336, verified")
    assert rows[2].strip() == "ranks 4-7: disk"
    assert section(text, "Findings") == [
        "  ✖ node02.1  ranks 4-7 from disk, not from a source: no source answered",
        "      log    line 9: Did not get it",
        "      to do  Start the seed with --listen-port.",
    ]
    assert closing(text) == (
        "FELL BACK TO DISK: 0 of 1 joiner ready with weights that are proven (1 fell back to disk)"
    )


def test_an_allowed_fallback_is_said_and_is_not_green() -> None:
    run = n.run(n.ready(), n.ready(n.instance(3), n.ranks(range(8), Came.DISK)), allow_fallback=True)
    assert exit_code(run) is ExitCode.OK
    text = rendered(run, force_terminal=True, color_system="truecolor")
    assert "\x1b[1;33mFELL BACK TO DISK, which --allow-fallback lets pass: 1 of 2 joiners" in text
    assert "✖" not in text and "▲" in text


def test_unproven_ranks_say_why() -> None:
    text = rendered(n.run(n.ready(found=[*n.ranks(range(7)), *n.ranks([7], Came.UNKNOWN)])))
    assert "rank 7: unknown" in text
    assert "? node02.1  rank 7 not proven: no line of the log tells" in text
    assert closing(text).startswith("NOT PROVEN: 0 of 1 joiner")


@pytest.mark.parametrize(
    ("more", "ranks"),
    [
        pytest.param({"evidence": None}, "0-7", id="none at all"),
        pytest.param({"found": ()}, "0-7", id="empty"),
        pytest.param({"found": n.ranks(range(5))}, "5-7", id="half"),
    ],
)
def test_evidence_that_is_missing_is_told_and_never_proven(more: dict[str, Any], ranks: str) -> None:
    run = n.run(n.ready(**more))
    text = rendered(run, code=ExitCode.OK)  # also where the decision forgot it
    assert f"ranks {ranks}: no evidence" in text
    assert f"ranks {ranks} not proven" in text
    assert closing(text).startswith("NOT PROVEN: ")


def test_a_draft_model_has_ranks_of_its_own() -> None:
    one = n.instance(tp=2, draft=True)
    found = [*n.ranks(range(2)), *n.ranks([0], draft=True), *n.ranks([1], Came.DISK, draft=True)]
    text = rendered(n.run(n.ready(one, found)))
    rows = [line.split("  ")[-1] for line in section(text, "Instances")[1:]]
    assert rows == [
        "ranks 0-1: p2p from 10.0.0.1:2333-2334, verified",
        "draft rank 0: p2p from 10.0.0.1:2333, verified",
        "draft rank 1: disk",
    ]
    assert "draft rank 1 from disk, not from a source" in text
    without = n.run(n.ready(one, n.ranks(range(2))))
    assert closing(rendered(without, code=ExitCode.OK)).startswith("NOT PROVEN")


@pytest.mark.parametrize(
    ("verified", "word"), [(True, "verified"), (False, "not verified"), (None, "verified: not told")]
)
def test_verified_is_said_only_where_it_is_so(verified: bool | None, word: str) -> None:
    one = n.instance(tp=16)
    run = n.run(n.ready(one, n.ranks(range(16), verified=verified)), plan=PLAN)
    text = rendered(run)
    assert f"ranks 0-15: p2p from node01.1, {word}" in text
    assert ("and were verified" in closing(text)) is (verified is True)
    assert ("not shown that every byte was compared" in closing(text)) is (verified is not True)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("10.0.0.1", "p2p from node01.1,"),  # vllm-ascend's log tells the host only
        ("10.0.0.2", "p2p from 10.0.0.2,"),  # two instances are there
        ("10.0.0.2:3333", "p2p from node02.2,"),
        ("[fd00::7]:2333", "p2p from [fd00::7]:2333,"),
        ("\x1b[2Jwho", "p2p from \\x1b[2Jwho,"),
        (None, "p2p from a source that is not told,"),
    ],
)
def test_how_a_source_is_named(source: str | None, text: str) -> None:
    one = n.ready(n.instance(5, tp=1), [RankEvidence(0, False, Came.P2P, source=source, verified=True)])
    beside = [
        n.seed(1),
        n.ready(n.instance(2)),
        InstanceRun(n.instance(2, label="node02.2"), End.READY, serves=("10.0.0.2:3333",)),
    ]
    assert text in rendered(n.run(one, *beside), width=120)


def test_two_hundred_joiners_stay_readable() -> None:
    chain = [n.ready(n.instance(at), n.ranks(range(8), giver=at - 1)) for at in range(102, 302)]
    failed = [n.ended(End.FAILED, n.instance(at)) for at in (302, 303)]
    fallen = n.ready(n.instance(304), n.ranks(range(8), Came.DISK))
    text = rendered(n.run(*chain, *failed, fallen))
    lines = text.splitlines()
    assert len(lines) < 50
    rows = section(text, "Instances")
    assert rows[1].startswith("  ✖ node[302-303].1  failed")
    assert rows[2].startswith("  ✖ node304.1        ready")
    assert rows[3].startswith("  ✔ node[102-301].1  ready      20.3  ranks 0-7: p2p from node[102-300].1,")
    assert "http://ADDRESS:8000  ADDRESS:2333-2340" in text
    assert sum("node[302-303].1" in line for line in lines) == 2, "one row and one finding"
    assert closing(text) == (
        "FAILED, FELL BACK TO DISK: 200 of 203 joiners ready with weights that are proven "
        "(2 failed, 1 fell back to disk, 200 verified)"
    )


def test_two_hundred_that_all_differ_are_counted() -> None:
    all_of_them = [n.ready(n.instance(at), n.ranks(range(at % 8, 8))) for at in range(2, 14)]
    all_of_them += [
        n.ready(n.instance(at, tp=at), n.ranks(range(at)), ready_s=float(at)) for at in range(20, 60)
    ]
    text = rendered(n.run(*all_of_them))
    rows = section(text, "Instances")
    assert len(rows) < 60
    assert "more instances" in rows[-1] and "ready): all with --format json" in rows[-1]


HARD = [
    n.run(n.ready(n.instance(2, host="机房一节点二十三", label="_________.1", tp=16), n.ranks(range(16)))),
    n.run(
        *(n.ended(end, n.instance(at, host="node-with-a-long-name-" * 3)) for at, end in enumerate(End, 2))
    ),
    n.run(n.ended(End.FAILED, lines=("开机失败 " * 40, "x" * 300), reason="r " * 200, remedy="do " * 200)),
    n.run(
        n.ready(notes=("备注 " * 60,)),
        warnings=("warn " * 60,),
        preflight=tuple(runs.one_of_everything().results),
    ),
]


@pytest.mark.parametrize("run", HARD, ids=["cjk", "long names", "long texts", "every cell"])
@pytest.mark.parametrize("width", [40, 80, 100])
def test_no_line_is_wider_than_the_terminal(run: NetloaderRun, width: int) -> None:
    for line in rendered(run, width=width).splitlines():
        assert cell_len(line) <= width, line
        assert line == line.rstrip()


def test_a_name_of_wide_characters_keeps_the_columns() -> None:
    run = n.run(n.ready(n.instance(2, host="机房一", label="___.1")), n.ready(n.instance(3)), plan=PLAN)
    rows = section(rendered(run, width=100), "Instances")
    assert "___.1 (机房一)" in rows[1]
    at = [cell_len(row[: row.index("ranks 0-7")]) for row in rows[1:]]
    assert at[0] == at[1]


def test_a_hosts_text_cannot_act() -> None:
    evil = "\x1b[2J\x07[red]x\nPROVEN: all"
    one = n.ended(
        End.FAILED, n.instance(host=evil, label=evil), reason=evil, remedy=evil, lines=(evil,), notes=(evil,)
    )
    found = n.ranks(range(8), Came.DISK, reason=evil, decided_by=(evil,))
    served = n.ready(found=found, url=evil, serves=(evil,), seconds=((evil, 1.0),))
    text = rendered(n.run(one, served, warnings=(evil,)))
    assert all(char.isprintable() or char == "\n" for char in text)
    assert not any(line.startswith("PROVEN") for line in text.splitlines())
    assert "[red]x" in text


def test_plain_ascii_where_the_encoding_has_no_more() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    run = HARD[0]
    render_run(run, Console(file=stream, width=80), exit_code=exit_code(run))
    stream.flush()
    assert b"  + _________.1" in stream.buffer.getvalue()  # type: ignore[attr-defined]


# The preflight --------------------------------------------------------------------------------------------


def test_a_gate_that_holds() -> None:
    waiting = [
        n.ended(
            End.NOT_STARTED, n.instance(at), reason="the preflight refused", remedy="", lines=(), stage=None
        )
        for at in (2, 3)
    ]
    cells = (*runs.passes("node02", range(8)), *runs.link_down("node03", 3), *runs.silent_host("node09"))
    text = rendered(n.run(*waiting, gated=True, preflight=cells))
    told = " ".join(text.split())
    assert (
        "preflight: 32 pass, 1 fail, 5 skipped, 1 unknown; coverage 92.3 %; it refused, nothing was" in told
    )
    assert "✖ link  node03 device 3: link is DOWN" in text
    assert "? reachable  node09: no answer" in text
    assert "» node[02-03].1  not started: the preflight refused" in text
    assert closing(text).startswith("NOT STARTED, the preflight refused: 0 of 2 joiners")
    assert "3 cells of the preflight could not be looked at" in closing(text)


def test_no_preflight_is_said() -> None:
    assert "preflight: no cell was looked at" in rendered(n.run(n.ready()))


def test_cells_that_could_not_be_looked_at_leave_it_unproven() -> None:
    run = n.run(n.ready(), preflight=tuple(runs.silent_host("node02")))
    assert exit_code(run) is ExitCode.NOT_ENOUGH
    assert closing(rendered(run)) == (
        "NOT PROVEN: 1 of 1 joiner ready with weights that are proven (1 verified); "
        "3 cells of the preflight could not be looked at"
    )


def test_an_error_cell_is_ascendctls_own() -> None:
    run = n.run(n.ready(), preflight=(Result("clock", host_subject("node02"), Status.ERROR, "broke"),))
    assert closing(rendered(run)).startswith("NOT PROVEN: ascendctl itself failed")


# The verdict ----------------------------------------------------------------------------------------------


def test_interrupted_says_what_runs_on() -> None:
    run = n.run(
        n.ready(),
        n.ended(End.INTERRUPTED, n.instance(3)),
        n.ended(End.NOT_STARTED, n.instance(4)),
        interrupted=True,
    )
    assert closing(rendered(run)) == (
        "INTERRUPTED after 42 s: 1 of 3 joiners ready with weights that are proven "
        "(1 still starting, 1 not started, 1 verified); left to run on: node03.1"
    )


def test_a_seed_needs_no_proof() -> None:
    two = n.run(n.seed(), n.seed(2), verb="serve")
    assert closing(rendered(two)) == "READY: 2 of 2 seeds ready"
    deaf = n.run(n.seed(serves=()), verb="serve")
    assert "no listener for joiners is known of 1" in closing(rendered(deaf))


def test_strict_warnings_are_named() -> None:
    run = n.run(n.ready(), warnings=("a note",))
    assert closing(rendered(run, code=exit_code(run, strict=True))).startswith("WARNINGS count as wrong")


def test_an_instance_that_ran_already_has_no_time_to_ready() -> None:
    row = section(rendered(n.run(n.ready(ran_already=True))), "Instances")[1]
    assert "ran already        -  ranks 0-7" in row


KINDS: dict[str, InstanceRun] = {
    "verified": n.ready(n.instance(2)),
    "transferred": n.ready(n.instance(3), n.ranks(range(8), verified=None)),
    "disk": n.ready(n.instance(4), n.ranks(range(8), Came.DISK)),
    "half disk": n.ready(n.instance(5), [*n.ranks(range(4)), *n.ranks(range(4, 8), Came.DISK)]),
    "disk and unknown": n.ready(
        n.instance(6), [*n.ranks([0], Came.DISK), *n.ranks(range(1, 8), Came.UNKNOWN)]
    ),
    "unknown": n.ready(n.instance(7), n.ranks(range(8), Came.UNKNOWN)),
    "silent": n.ready(n.instance(8), evidence=None),
    "short": n.ready(n.instance(9), n.ranks(range(7))),
    "seed": n.seed(10),
    **{end.name: n.ended(end, n.instance(11 + at)) for at, end in enumerate(End) if end is not End.READY},
    **{
        f"{end.name}, proven": n.ended(end, n.instance(21 + at), evidence=n.evidence(n.instance(21 + at)))
        for at, end in enumerate(End)
        if end is not End.READY
    },
}
FAULTY = tuple(runs.link_down("node03", 3))
UNSEEN = tuple(runs.silent_host("node03"))


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize("cells", [(), FAULTY, UNSEEN], ids=["no cell", "faults", "unseen"])
def test_the_verdict_is_never_greener_than_the_evidence(cells: tuple[Result, ...], allow: bool) -> None:
    for count in (1, 2, 3):
        for names in itertools.combinations(KINDS, count):
            run = n.run(*(KINDS[name] for name in names), allow_fallback=allow, preflight=cells)
            right = exit_code(run)
            for code in {right, *ExitCode}:
                line = verdict_line(run, code)
                joiners = {name for name in names if name != "seed"}
                proven = code is ExitCode.OK and bool(joiners) and joiners <= {"verified", "transferred"}
                assert line.startswith("PROVEN") is proven, (names, code, line)
                assert line.startswith("READY") is (code is ExitCode.OK and names == ("seed",)), (names, line)
                assert ("were verified" in line) is (proven and joiners == {"verified"}), (names, line)
            if right is not ExitCode.OK:
                assert verdict_line(run, right).split(":")[0].split(",")[0] in (
                    "NOT PROVEN",
                    "FAILED",
                    "FELL BACK TO DISK",
                    "PREFLIGHT FOUND FAULTS",
                )


def test_an_allowed_fallback_excuses_no_rank_that_is_unproven() -> None:
    run = n.run(KINDS["verified"], KINDS["disk and unknown"], allow_fallback=True)
    assert verdict_line(run, ExitCode.OK).startswith("NOT PROVEN: 1 of 2 joiners")


def test_no_instance_is_not_proven() -> None:
    assert verdict_line(n.run(), ExitCode.OK) == "NOT PROVEN: no instance"
    assert "NOT PROVEN: no instance" in rendered(n.run())


@pytest.mark.parametrize("name", KINDS)
def test_green_is_kept_for_what_is_good(name: str) -> None:
    run = n.run(KINDS[name], allow_fallback=True)
    text = rendered(run, force_terminal=True, color_system="truecolor")
    last = text.rstrip().rsplit("\n\n", 1)[1]
    assert last.startswith("\x1b[1;32m") is (name in ("verified", "transferred", "seed"))


# The plan of a join ---------------------------------------------------------------------------------------


def joiners(count: int) -> list[Instance]:
    return [n.instance(at) for at in range(102, 102 + count)]


def test_a_plan_says_who_takes_from_whom_and_how_long() -> None:
    plan = plan_waves(Engine.ASCEND, ["node01.1"], [one.name for one in joiners(3)], Pace(2e9, 1e9, 30.0))
    text = plan_of(plan, joiners(3))
    assert section(text, "Wave 1: 3 joiners, about 36 s") == [
        "    joiner     takes from  its turn        or, if that is gone, from",
        "    node102.1  node01.1    at once         -",
        "    node103.1  node01.1    after 1 other   -",
        "    node104.1  node01.1    after 2 others  -",
    ]
    assert plan.notes[0].split()[0] in text
    assert closing(text) == "PLANNED, nothing was started; for all joiners: about 36 s"


def test_a_plan_without_a_pace_says_that_no_time_is_known() -> None:
    plan = plan_waves(Engine.ASCEND, ["node01.1"], [one.name for one in joiners(3)])
    text = plan_of(plan, joiners(3))
    assert "Wave 2, once all of wave 1 listen: 2 joiners, time not known" in text
    assert "node103.1  node01.1    at once   node102.1" in text
    assert closing(text).endswith("for all joiners: time not known")


@pytest.mark.parametrize("engine", Engine)
@pytest.mark.parametrize("count", [0, 1, 200, 1000])
def test_a_plan_of_many_stays_short(engine: Engine, count: int) -> None:
    names = [one.name for one in joiners(count)]
    plan = plan_waves(engine, ["node01.1"], names, Pace(60e9, 10e9, 30.0))
    lines = plan_of(plan, joiners(count)).splitlines()
    assert len(lines) <= 12 + 20 * len(plan.waves)
    assert all(cell_len(line) <= 80 for line in lines)
    assert f"{count:,} joiner" in lines[0]


def test_a_plan_shows_text_of_a_host_as_text() -> None:
    text = plan_of(JoinPlan(Engine.OWN, (Wave((Join("\x1b[2J", ()),)),)))
    assert "no source" in text and "\x1b" not in text


# Status ---------------------------------------------------------------------------------------------------


def test_all_that_runs() -> None:
    text = status_of(n.status(n.standing(n.instance(1, role=Role.SEED)), n.standing(n.instance(2))))
    assert section(text, "qwen3: 2 instances of /models/Qwen3-32B") == [
        "    instance  role    state  for         weights",
        "  ✔ node01.1  seed    ready  1 h 10 min  ranks 0-7: disk, as planned",
        "  ✔ node02.1  joiner  ready  1 h 10 min  ranks 0-7: p2p from node01.1, verified",
    ]
    assert closing(text) == "RUNNING: 2 of 2 instances ready"


STANDINGS = [
    (n.standing(n.instance(), Life.ENDED, why="killed"), "✖", "ended", "NOT RUNNING"),
    (n.standing(n.instance(), Life.LEFTOVERS, why="two are left"), "✖", "leftovers", "NOT RUNNING"),
    (n.standing(n.instance(), Life.RESTARTED, why="booted"), "✖", "ended by a restart", "NOT RUNNING"),
    (n.standing(n.instance(), Life.UNKNOWN, why="half a file"), "?", "unknown", "NOT ALL IS KNOWN"),
    (
        n.standing(n.instance(), ready=None, reason="no curl"),
        "?",
        "runs, ready not known",
        "NOT ALL IS KNOWN",
    ),
    (
        n.standing(n.instance(), ready=False, stage=Stage.RECEIVING),
        "▲",
        "receiving weights",
        "RUNNING, not all",
    ),
    (
        n.standing(n.instance(), evidence=n.evidence(n.instance(), n.ranks(range(8), Came.DISK))),
        "▲",
        "ready",
        "RUNNING, not all",
    ),
    (n.standing(n.instance(), evidence=None), "?", "ready", "NOT ALL IS KNOWN"),
    (n.standing(n.instance(), Life.ELSEWHERE, ready=False), "·", "on another host", "NOTHING RUNS"),
    (n.standing(n.instance(), instance=None, reason="its plan is no JSON"), "?", "ready", "NOT ALL IS KNOWN"),
    (
        n.standing(n.instance(), seen=Seen("qwen3", "node02.1", Life.ENDED, "gone", exit_code=137)),
        "✖",
        "exit code 137",
        "NOT RUNNING",
    ),
]


@pytest.mark.parametrize(("one", "mark", "state", "verdict"), STANDINGS)
def test_every_standing(one: Standing, mark: str, state: str, verdict: str) -> None:
    text = status_of(n.status(one), width=100)
    (row, *_) = section(text, "qwen3: 1 instance")[1:]
    assert row.strip()[0] == mark and state in row
    if one.seen.life is not Life.RUNNING:
        assert "ready" not in row
    assert closing(text).startswith(verdict), closing(text)
    reason = one.reason or one.seen.reason
    assert reason in text


def test_status_asks_about_hosts_that_did_not_answer() -> None:
    down = tuple((f"node{at}", f"unreachable: no route to 10.0.0.{at}") for at in range(10, 50))
    text = status_of(n.status(n.standing(n.instance(2)), unasked=down))
    assert "? node[10-49]  unreachable: no route to" in text
    assert closing(text) == "NOT ALL IS KNOWN: 1 of 1 instance ready; 40 hosts not asked in full"


def test_status_of_nothing_and_of_an_interrupted_one() -> None:
    assert closing(status_of(n.status())) == "NOTHING RUNS: no instance was found on 1 host"
    assert closing(status_of(n.status(n.standing(n.instance()), interrupted=True))).startswith("INTERRUPTED")


def test_status_of_many_stays_short() -> None:
    many = n.status(*(n.standing(n.instance(at)) for at in range(100, 400)))
    lines = status_of(many).splitlines()
    assert len(lines) < 15
    assert any("node[100-399].1" in line for line in lines)
    assert all(cell_len(line) <= 80 for line in lines)
