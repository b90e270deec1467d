"""The answer of ``explain CODE --run``: which causes were found, which are fine, which were not seen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from ascendctl.checks.causes import CauseState, LookedFor
from ascendctl.knowledge import ErrorCode
from ascendctl.report.folding import fold_results
from ascendctl.report.terminal import percent_text, print_findings, print_heading, print_line, print_marked
from ascendctl.results import Result, Run, Status, coverage

_MARKS = {
    CauseState.FOUND: Status.FAIL,
    CauseState.NOT_LOOKED: Status.UNKNOWN,
    CauseState.FINE: Status.PASS,
    CauseState.NOT_APPLICABLE: Status.NOT_APPLICABLE,
    CauseState.NO_CHECK: Status.NOT_APPLICABLE,
}


def render_answer(
    code: ErrorCode, looked: Sequence[LookedFor], cells: Sequence[Result], run: Run, console: Console
) -> None:
    """Print it. ``cells``: those of the code's checks and what explains them."""
    covered = coverage(cells)
    folded = fold_results(cells)
    print_line(console, f"{code.code}  {code.title}", "bold")
    print_line(console, _verdict(looked, run))
    print_line(
        console,
        f"{len(run.hosts)} {'host' if len(run.hosts) == 1 else 'hosts'}, coverage {percent_text(covered)}:"
        f" {covered.evaluated:,} of {covered.wanted:,} cells looked at",
    )
    for state in CauseState:
        of_state = [one for one in looked if one.state is state]
        if of_state:
            print_heading(console, f"Causes: {state.value}")
        for one in of_state:
            mark = _MARKS[state]
            if state is CauseState.FOUND and not any(cell.status is Status.FAIL for cell in one.cells):
                mark = Status.WARN
            checks = f"({', '.join(one.cause.checks)})" if one.cause.checks else ""
            print_marked(console, mark, one.cause.text.replace("`", ""), checks)
    print_findings(console, "Found", folded.findings)
    print_findings(console, "Could not be looked at", folded.unlooked)
    print_findings(console, "Waived by the inventory", folded.waived)


def _verdict(looked: Sequence[LookedFor], run: Run) -> str:
    states = [one.state for one in looked]
    found, missed = states.count(CauseState.FOUND), states.count(CauseState.NOT_LOOKED)
    begun = "INTERRUPTED: " if run.interrupted else ""
    gap = f"; {missed} could not be looked at everywhere" if missed else ""
    if found:
        return f"{begun}{found} of {len(states)} causes found{gap}"
    if missed:
        return f"{begun}no cause found, but {missed} of {len(states)} could not be looked at everywhere"
    return f"{begun}no cause found among those that can be seen from outside"
