"""Which hosts pass: what was not looked at never does."""

from __future__ import annotations

import io

import pytest

from ascendctl.report.host_lists import fit_by_host, write_failing, write_passing
from ascendctl.results import CellKey, Peer, Result, Run, Status, Subject, SubjectKind, host_subject
from tests.report import runs

HOST = "node01"
ON_SWITCH = CellKey("mesh", Subject(SubjectKind.SWITCH, switch="leaf-3"))
ON_OTHER = CellKey("link", runs.device("node02", 1))


def cell(status: Status, *, cause: CellKey | None = None, root_fails: bool = False) -> Result:
    return Result("link", runs.device(HOST, 1), status, "said", caused_by=cause, root_fails=root_fails)


@pytest.mark.parametrize(
    ("second", "fit", "fit_if_strict"),
    [
        pytest.param(cell(Status.PASS), True, True, id="pass"),
        pytest.param(cell(Status.WARN), True, False, id="warning"),
        pytest.param(cell(Status.FAIL), False, False, id="failure"),
        pytest.param(cell(Status.ERROR), False, False, id="error of ascendctl"),
        pytest.param(cell(Status.UNKNOWN), False, False, id="could not be learned"),
        pytest.param(cell(Status.NOT_APPLICABLE), True, True, id="not applicable"),
        pytest.param(cell(Status.WAIVED), True, True, id="waived"),
        pytest.param(cell(Status.SKIPPED), False, False, id="not looked at"),
        pytest.param(
            cell(Status.SKIPPED, cause=ON_OTHER, root_fails=True), True, True, id="another host's fault"
        ),
        pytest.param(
            cell(Status.SKIPPED, cause=ON_SWITCH, root_fails=True), False, False, id="behind a switch's fault"
        ),
    ],
)
def test_a_host_with_a_pass_and(second: Result, fit: bool, fit_if_strict: bool) -> None:
    run = runs.run_of([*runs.passes(HOST, range(2)), second])
    assert fit_by_host(run)[HOST] is fit
    assert fit_by_host(run, strict=True)[HOST] is fit_if_strict


@pytest.mark.parametrize(
    "results",
    [
        pytest.param([], id="no cell at all"),
        pytest.param([Result("tls", host_subject(HOST), Status.NOT_APPLICABLE, "-")], id="nothing applied"),
        pytest.param(runs.silent_host(HOST), id="never answered"),
    ],
)
def test_a_host_that_was_not_looked_at_does_not_pass(results: list[Result]) -> None:
    assert fit_by_host(runs.run_of(results, [runs.note(HOST)])) == {HOST: False}


def test_a_bad_link_fails_both_ends() -> None:
    link = Subject(SubjectKind.LINK, host="node01", device=3, peer=Peer("node02", 3))
    cells = [cell for name in ("node01", "node02", "node03") for cell in runs.passes(name, range(2))]
    run = runs.run_of([*cells, Result("mesh", link, Status.FAIL, "lost")])
    assert fit_by_host(run) == {"node01": False, "node02": False, "node03": True}


def lines(run: Run, *, strict: bool = False) -> tuple[list[str], list[str]]:
    passing, failing = io.StringIO(), io.StringIO()
    write_passing(run, 1, passing, strict=strict)
    write_failing(run, 1, failing, strict=strict)
    return passing.getvalue().splitlines(), failing.getvalue().splitlines()


def test_every_host_is_in_exactly_one_list_in_the_order_of_the_run() -> None:
    names = ["node10", "node02", "node01"]
    cells = [cell for name in names for cell in runs.passes(name, range(2))]
    cells += runs.link_down("node02", 5)
    notes = [runs.note(name) for name in names]
    assert lines(runs.run_of(cells, notes)) == (["node10", "node01"], ["node02"])


def test_a_name_cannot_smuggle_in_another_line_or_word() -> None:
    names = ["node09\nnode01", "node08 node02", "node07\u2028node03", "node06\udcb9"]
    cells = [cell for name in names for cell in runs.passes(name, range(1))]
    passing, _ = lines(runs.run_of(cells))
    assert passing == ["node09\\u000anode01", "node08\\u0020node02", "node07\\u2028node03", "node06\\udcb9"]
