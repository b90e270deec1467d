"""What changed between two runs: what counts as new, cleared, no longer looked at; and how it reads."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from ascendctl.report.difference import Difference, Kind, LastSeen, compare, limited_to, remember
from ascendctl.report.difference_json import DifferenceRecord, schema, write_difference
from ascendctl.report.difference_text import headline, render_changes, render_difference
from ascendctl.report.json_report import write_json
from ascendctl.report.model import read_report
from ascendctl.results import CellKey, ExitCode, Result, Run, Status, host_subject
from tests.report import runs

NODE = runs.device("node01", 3)
CAUSE = CellKey("link", NODE)


def cell(status: str, message: str = "said") -> Result:
    """A cell on one device; ``explained`` is skipped because of a fail, ``hidden`` because of an unknown."""
    if status in ("explained", "hidden"):
        return Result(
            "net-health", NODE, Status.SKIPPED, message, caused_by=CAUSE, root_fails=status == "explained"
        )
    return Result("net-health", NODE, Status(status), message)


def run_with(*cells: Result | None, hosts: Iterable[str] = ("node01",)) -> Run:
    return runs.run_of([one for one in cells if one is not None], [runs.note(host) for host in hosts])


def kinds(difference: Difference) -> list[str]:
    return [change.kind.value for change in difference.changes]


TABLE = [
    # before, now, kind, exit code
    ("pass", "fail", "new", 1),
    ("pass", "warn", "new", 0),
    (None, "fail", "new", 1),
    ("unknown", "fail", "new", 1),
    ("hidden", "fail", "new", 1),
    ("explained", "fail", "new", 1),
    ("waived", "fail", "new", 1),
    ("not-applicable", "fail", "new", 1),
    ("warn", "fail", "worse", 1),
    ("fail", "warn", "better", 0),
    ("fail", "fail", "unchanged", 0),
    ("warn", "warn", "unchanged", 0),
    ("fail", "pass", "cleared", 0),
    ("warn", "pass", "cleared", 0),
    ("waived", "pass", "cleared", 0),
    ("fail", "unknown", "no-longer-looked-at", 3),
    ("fail", "hidden", "no-longer-looked-at", 3),
    ("fail", None, "no-longer-looked-at", 3),
    ("fail", "error", "no-longer-looked-at", 4),
    ("pass", "unknown", "no-longer-looked-at", 3),
    ("pass", None, "no-longer-looked-at", 3),
    ("explained", "unknown", "no-longer-looked-at", 3),
    ("fail", "explained", "explained", 0),
    ("fail", "waived", "waived", 0),
    ("pass", "waived", "waived", 0),
    ("fail", "not-applicable", "not-applicable", 0),
    ("pass", "not-applicable", "not-applicable", 0),
    (None, "unknown", "not-looked-at", 3),
    ("not-applicable", "unknown", "not-looked-at", 3),
    (None, "error", "not-looked-at", 4),
    ("unknown", "pass", "newly-looked-at", 0),
    ("error", "pass", "newly-looked-at", 0),
    (None, "pass", "newly-looked-at", 0),
    ("pass", "pass", None, 0),
    ("pass", "explained", None, 0),
    ("explained", "pass", None, 0),
    ("unknown", "unknown", None, 0),
    ("unknown", "hidden", None, 0),
    ("unknown", "error", None, 0),
    ("unknown", None, None, 0),
    ("waived", "waived", None, 0),
    ("not-applicable", None, None, 0),
    (None, "not-applicable", None, 0),
]


@pytest.mark.parametrize(("before", "now", "kind", "code"), TABLE)
def test_what_happened_to_a_cell(before: str | None, now: str | None, kind: str | None, code: int) -> None:
    difference = compare(run_with(before and cell(before)), run_with(now and cell(now)))
    assert kinds(difference) == ([kind] if kind else [])
    assert difference.exit_code() == code


def test_every_kind_that_two_runs_can_have_is_in_the_table() -> None:
    of_two = {Kind(row[2]) for row in TABLE if row[2]} | {Kind.CHANGED}
    assert set(Kind) - of_two == {Kind.SEEN_AGAIN}  # needs three


def test_exit_codes_take_precedence() -> None:
    well = run_with(cell("pass"), Result("link", NODE, Status.PASS, "up"))
    bad = run_with(cell("fail"), Result("link", NODE, Status.UNKNOWN, "?"))
    assert compare(well, bad).exit_code() is ExitCode.FOUND_WRONG
    assert compare(well, replace(bad, interrupted=True)).exit_code() is ExitCode.INTERRUPTED
    assert compare(run_with(cell("pass")), run_with(cell("warn"))).exit_code(strict=True) == 1
    assert compare(run_with(cell("warn")), run_with(cell("warn"))).exit_code(strict=True) == 0


@pytest.mark.parametrize(
    ("before", "now", "kind", "numbers_only"),
    [
        ("off by 3.25 s", "off by 4.1 s", "changed", True),
        ("Socket fail", "Receive timeout", "changed", False),
        ("off by 3 s", "off by 3 s", "unchanged", True),
        ("HCCL gives EI0006", "HCCL gives EI0015", "changed", False),
    ],
)
def test_changed_in_value(before: str, now: str, kind: str, numbers_only: bool) -> None:
    (change,) = compare(run_with(cell("warn", before)), run_with(cell("warn", now))).changes
    assert (change.kind.value, change.in_numbers_only) == (kind, numbers_only)


def test_more_severe_is_no_change_in_numbers() -> None:
    (change,) = compare(run_with(cell("warn")), run_with(cell("fail"))).changes
    assert not change.in_numbers_only


SERIES = [
    # what each run saw, and what is told after each but the first
    (["fail", "unknown", "fail"], ["no-longer-looked-at", "seen-again"]),
    (["fail", "unknown", "unknown", "pass"], ["no-longer-looked-at", "", "cleared"]),
    (["fail", None, None, "pass"], ["no-longer-looked-at", "", "cleared"]),
    (["pass", "unknown", "fail"], ["no-longer-looked-at", "new"]),
    (["pass", "unknown", "pass"], ["no-longer-looked-at", "newly-looked-at"]),
    (["warn", "unknown", "fail"], ["no-longer-looked-at", "worse"]),
    (["fail", "explained", "fail"], ["explained", "seen-again"]),
    (["fail", "explained", "pass"], ["explained", "cleared"]),
    (["fail", "explained", "unknown", "pass"], ["explained", "no-longer-looked-at", "cleared"]),
    (["fail", "pass", "unknown", "fail"], ["cleared", "no-longer-looked-at", "new"]),
    (["fail", "not-applicable", "pass"], ["not-applicable", "newly-looked-at"]),
    (["waived", "unknown", "waived"], ["no-longer-looked-at", ""]),
]


@pytest.mark.parametrize(("seen", "told"), SERIES)
def test_a_series_tells_each_change_once(seen: list[str | None], told: list[str]) -> None:
    every = [run_with(status and cell(status)) for status in seen]
    memory = LastSeen()
    heard = []
    for old, new in itertools.pairwise(every):
        memory = remember(memory, old)
        heard.append("".join(kinds(compare(old, new, memory))))
    assert heard == told


def test_memory_is_of_the_runs_hosts_only() -> None:
    counted = runs.counting(run_with(cell("fail")), {("node01", 3): {"stat": {}}})
    memory = remember(LastSeen(), counted)
    assert list(memory.cells) == [cell("fail").key]
    assert list(memory.counters) == [("node01", 3)]
    assert remember(memory, run_with(hosts=["node02"])) == LastSeen()


def up(host: str) -> list[Result]:
    return [Result("reachable", host_subject(host), Status.PASS, "answers"), *runs.passes(host, range(8))]


def silent(host: str) -> list[Result]:
    """A host that does not answer: per check one cell on the host in place of one per device."""
    reachable = CellKey("reachable", host_subject(host))
    checks = ("link", *runs.BEHIND_A_LINK)
    return [
        Result("reachable", host_subject(host), Status.UNKNOWN, "refused", remedy="Start it."),
        *(Result(c, host_subject(host), Status.SKIPPED, "no answer", caused_by=reachable) for c in checks),
    ]


def test_a_host_that_falls_silent_loses_each_device_and_comes_back() -> None:
    there, gone = run_with(*up("node01")), run_with(*silent("node01"))
    lost = compare(there, gone)
    assert kinds(lost) == ["no-longer-looked-at"] * (1 + 4 * 8)
    assert lost.changes[5].now is not None
    assert lost.changes[5].now.subject == host_subject("node01")
    back = compare(gone, there)
    assert kinds(back) == ["newly-looked-at"] * (1 + 4 * 8)
    assert back.exit_code() == 0


def test_a_finding_on_the_host_in_place_of_its_devices() -> None:
    devices = run_with(
        *(Result("hccn-conf", runs.device("node01", n), Status.PASS, "well") for n in range(8))
    )
    missing = run_with(Result("hccn-conf", host_subject("node01"), Status.FAIL, "the file is missing"))
    assert kinds(compare(devices, missing)) == ["new"]
    assert kinds(compare(missing, devices)) == ["cleared"]
    third_bad = replace(
        devices,
        results=tuple(
            replace(one, status=Status.FAIL) if one.subject.device == 3 else one for one in devices.results
        ),
    )
    assert sorted(kinds(compare(missing, third_bad))) == ["cleared", "new"]
    assert kinds(compare(third_bad, missing)) == ["new", "explained"]


def test_hosts_that_come_and_go() -> None:
    old = run_with(*up("node01"), *runs.link_down("node02", 5), hosts=["node01", "node02"])
    new = run_with(*up("node01"), *up("node03"), hosts=["node01", "node03"])
    difference = compare(old, new)
    assert (difference.hosts_added, difference.hosts_removed) == (("node03",), ("node02",))
    text = rendered(difference)
    assert "1 host not in the newer run: no longer looked at: node02" in text
    assert "Findings no longer looked at (not cleared) (1 cell)" in text
    assert "link  node02 device 5: was fail: link is DOWN" in text
    assert "Cleared" not in text
    assert "No longer looked at (" not in text  # the line on the host says it
    assert kinds(compare(limited_to(old, ["node01"]), limited_to(new, ["node01"]))) == []


def test_a_run_read_back_from_its_report_differs_in_nothing() -> None:
    run = runs.one_of_everything()
    run = replace(
        run,
        results=tuple(replace(one, message=f"{one.message} \udcb9") for one in run.results),
    )
    stream = io.StringIO()
    write_json(run, 1, stream)
    difference = compare(read_report(stream.getvalue()), run)
    assert set(kinds(difference)) == {"unchanged"}


# --- how it reads ---------------------------------------------------------------------------------


def rendered(difference: Difference, width: int = 100, encoding: str = "utf-8") -> str:
    bytes_out = io.BytesIO()
    stream = io.TextIOWrapper(bytes_out, encoding=encoding)
    render_difference(difference, Console(file=stream, width=width), exit_code=difference.exit_code())
    stream.flush()
    return bytes_out.getvalue().decode(encoding)


def everything() -> Difference:
    old, new = [], []
    for number, (before, now, _, _) in enumerate(TABLE):
        subject = runs.device(f"node{number:02d}", 3)
        old += [replace(cell(before, "before"), subject=subject)] if before else []
        new += [replace(cell(now, "now"), subject=subject)] if now else []
    names = [f"node{number:02d}" for number in range(len(TABLE))]
    return compare(run_with(*old, hosts=names), run_with(*new, hosts=names))


def test_the_text_tells_every_kind() -> None:
    text = rendered(everything())
    for title in (
        "New (8 cells)",
        "Worse: warned before, fails now (1 cell)",
        "Findings no longer looked at (not cleared) (4 cells)",
        "No longer looked at (7 cells)",
        "Wanted for the first time, and not looked at (3 cells)",
        "Better: failed before, warns now (1 cell)",
        "Cleared (3 cells)",
        "Explained by another finding now (not cleared) (1 cell)",
        "Waived by the inventory now (2 cells)",
        "Not applicable any more (2 cells)",
        "Newly looked at, and well (3 cells)",
        "Changed in value (2 cells)",
    ):
        assert title in text, title
    assert "net-health  node09 device 3: now (was fail: before)" in text
    assert "1 cell on which nothing was found before" in text  # passed, not applicable any more


def test_nothing_changed_is_one_line_and_what_is_known() -> None:
    run = run_with(*runs.link_down("node01", 5))
    difference = compare(run, run)
    assert headline(difference) == "Nothing has changed: 1 still found"
    text = rendered(difference)
    assert "Known from the older run, and still found (1 cell)" in text
    assert "link  node01 device 5: link is DOWN" in text
    stream = io.StringIO()
    render_changes(difference, Console(file=stream))
    assert stream.getvalue() == ""


def test_a_new_finding_says_what_it_explains_and_what_to_do() -> None:
    old = run_with(*runs.passes("node01", range(8)))
    others = runs.passes("node01", [n for n in range(8) if n != 5])
    text = rendered(compare(old, run_with(*others, *runs.link_down("node01", 5))))
    assert "Check the optical module and the cable." in text
    assert "3 more cells (gateway 1, lldp 1, net-health 1)" in text
    assert text.startswith("Changed: 1 new")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_thousand_hosts_stay_readable(encoding: str) -> None:
    names = [f"node{number:04d}" for number in range(1000)]
    old, new = [], []
    for number, name in enumerate(names):
        bad = runs.link_down(name, number % 8)
        well = runs.passes(name, [number % 8])
        old += bad if number % 3 else well
        new += well if number % 3 else bad
    text = rendered(compare(run_with(*old, hosts=names), run_with(*new, hosts=names)), 80, encoding)
    assert "334 new, 666 cleared" in text
    assert text.count("\n") < 60
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert not re.search("[^\x00-\x7f]", text) or encoding == "utf-8"


def test_a_hosts_words_cannot_act() -> None:
    bad = run_with(cell("fail", "\x1b[2J[bold]gone\udcb9"))
    assert "\x1b" not in rendered(compare(bad, run_with(cell("pass"))))
    assert "[bold]gone" in rendered(compare(bad, run_with(cell("pass"))))


def test_json_is_valid_and_whole() -> None:
    difference = everything()
    difference = replace(
        difference,
        changes=(*difference.changes, *compare(run_with(), run_with(cell("fail", "\udcb9"))).changes),
    )
    stream = io.StringIO()
    write_difference(difference, 1, stream)
    stream.getvalue().encode("ascii")
    record = DifferenceRecord.model_validate_json(stream.getvalue())
    assert [change.kind for change in record.changes] == [change.kind for change in difference.changes]
    assert record.summary[Kind.NEW] == 9
    assert set(record.summary) == set(Kind)
    assert record.exit_code == 1
    assert record.changes[0].before is not None
    assert record.changes[0].now is not None
    assert (record.changes[0].before.status, record.changes[0].now.status) == (Status.PASS, Status.FAIL)
    document = json.loads(stream.getvalue())
    assert set(document) == set(schema()["required"])
    nothing = io.StringIO()
    write_difference(compare(run_with(), run_with()), 0, nothing)
    assert json.loads(nothing.getvalue())["changes"] == []
