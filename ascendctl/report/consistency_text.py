"""What a person reads after `consistency-test`: the verdict, a line per candidate, where answers part."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console

from ascendctl.consistency.compare import Outcome
from ascendctl.consistency.verdicts import CandidateVerdict, ConsistencyRun, PromptVerdict, Verdict, nats
from ascendctl.report.printable import shown
from ascendctl.report.terminal import percent_text, print_heading, print_line, print_marked
from ascendctl.results import ExitCode, Result, Status, coverage

MOST_DIVERGENCES = 5  # shown in full per candidate; all are in the JSON and HTML reports
MOST_CHARACTERS = 120  # of a continuation
STATUS_OF = {
    Verdict.IDENTICAL: Status.PASS,
    Verdict.CLOSE: Status.WARN,
    Verdict.DIFFERENT: Status.FAIL,
    Verdict.NOT_PROVEN: Status.UNKNOWN,
}
# What parts first, then what only differs in logprobs, the largest difference first.
_WORST = (Outcome.DIFFERENT, Outcome.CLOSE)


def render_consistency(run: ConsistencyRun, console: Console, *, exit_code: int) -> None:
    """Print the summary of a run; ``exit_code`` is the decision. Bounded however many prompts there are."""
    style = "bold green" if exit_code == ExitCode.OK else "bold yellow"
    print_line(
        console, verdict_line(run, exit_code), "bold red" if exit_code == ExitCode.FOUND_WRONG else style
    )
    for line in figures(run):
        print_line(console, line)
    print_heading(console, "Reference")
    for cell in _of(run, run.observation.reference.server.name):
        print_marked(console, cell.status, cell.check, _told(cell))
    print_heading(console, "Candidates")
    _print_table(run, console)
    for one in run.candidates:
        _print_candidate(run, one, console)


def verdict_line(run: ConsistencyRun, exit_code: int) -> str:
    """The first line of a report; it follows the exit code."""
    counts = {verdict: [one for one in run.candidates if one.verdict is verdict] for verdict in Verdict}
    total = len(run.candidates)
    parts = [f"{len(of)} {verdict.value}" for verdict, of in counts.items() if of]
    what = run.candidates[0].verdict.value if total == 1 else ", ".join(parts)
    alone = ", on text alone" if any(one.text_alone for one in run.candidates) else ""
    if exit_code == ExitCode.INTERRUPTED:
        return f"INTERRUPTED after {run.duration_s:.0f} s: {what} until then{alone}"
    if exit_code == ExitCode.FOUND_WRONG and not counts[Verdict.DIFFERENT]:
        return f"WARNINGS count as wrong (--strict): {what}{alone}"
    if exit_code == ExitCode.FOUND_WRONG:
        return f"DIFFERENT: {what}" if total > 1 else "DIFFERENT from the reference"
    if exit_code == ExitCode.NOT_ENOUGH:
        return f"NOT PROVEN: {what}{alone}" if total > 1 else f"NOT PROVEN{alone}"
    if counts[Verdict.NOT_PROVEN]:
        return f"NO DIFFERENCE as far as was compared (--min-coverage): {what}{alone}"
    begun = "NUMERICALLY CLOSE" if counts[Verdict.CLOSE] else "IDENTICAL"
    if begun == "IDENTICAL":
        who = "the candidate answers" if total == 1 else f"all {total} candidates answer"
        return f"IDENTICAL{alone}: {who} exactly as the reference"
    return f"{begun}{alone}: differences no larger than the reference's from itself" + (
        f" ({what})" if total > 1 else ""
    )


def figures(run: ConsistencyRun) -> Sequence[str]:
    """What was asked, and how much of it was answered, in lines."""
    seen = run.observation
    asked = len(seen.prompts) - len(seen.left_out)
    batched = f", then {seen.concurrency} at a time" if seen.concurrency > 1 else ""
    covered = coverage(run.results)
    lines = [
        f"{asked} of {len(seen.prompts)} prompts, {seen.max_tokens} tokens each, one at a time{batched}; "
        f"{run.duration_s:.1f} s, {run.started_at:%Y-%m-%d %H:%M:%S %Z}".rstrip(),
        f"coverage {percent_text(covered)}: {covered.evaluated:,} of {covered.wanted:,} cells looked at",
    ]
    lines += [f"noise floor, {one.round.value}: {nats(one.floor)}" for one in run.noise if one.floor != 0]
    by_reason: dict[str, int] = {}
    for reason in seen.left_out.values():
        kind = reason.partition(":")[0] if "reference takes no" in reason else "too long for max_model_len"
        by_reason[kind] = by_reason.get(kind, 0) + 1
    lines += [
        f"{count} prompt{'' if count == 1 else 's'} left out: {shown(reason)}"
        for reason, count in by_reason.items()
    ]
    return lines


def worst_first(one: CandidateVerdict) -> list[PromptVerdict]:
    """The prompts that differ: those that part before those that only differ in logprobs."""

    def order(verdict: PromptVerdict) -> tuple[int, bool, float]:
        assert verdict.outcome is not None and verdict.comparison is not None
        parted = verdict.comparison.divergence is not None
        return (_WORST.index(verdict.outcome), not parted, -verdict.comparison.largest_delta)

    return sorted((each for each in one.compared if each.outcome in _WORST), key=order)


_TITLES = ("candidate", "verdict", "asked", "equal", "differ", "part", "none", "by nats")


def _print_table(run: ConsistencyRun, console: Console) -> None:
    rows = [(shown(one.server.name), one.verdict.value, *counts(one)) for one in run.candidates]
    widths = [max(cell_len(row[column]) for row in (_TITLES, *rows)) for column in range(len(_TITLES))]
    print_line(console, _row(_TITLES, widths), "dim", indent=4, as_is=True)
    for one, row in zip(run.candidates, rows, strict=True):
        print_marked(console, STATUS_OF[one.verdict], "", _row(row, widths), as_is=True)
    print_line(
        console,
        "prompts asked; answers equal in all, different in logprobs only, parting at a token; no answer;"
        " largest difference of a logprob in nats",
        "dim",
        indent=2,
    )


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Names to the left, numbers to the right."""
    aligned = []
    for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        pad = " " * (width - cell_len(cell))
        aligned.append(cell + pad if column < 2 else pad + cell)
    return "  ".join(aligned)


def counts(one: CandidateVerdict) -> tuple[str, ...]:
    """Of a candidate: prompts that apply, equal, only logprobs differ, part, not compared, largest delta."""
    applying = [each for each in one.prompts if each.cell.wanted]
    compared = [each for each in one.compared if each.comparison]
    equal = sum(each.outcome is Outcome.IDENTICAL for each in compared)
    parted = sum(each.comparison.divergence is not None for each in compared if each.comparison)
    largest = max((each.comparison.largest_delta for each in compared if each.comparison), default=None)
    told = any(each.comparison.positions for each in compared if each.comparison)
    missing = len(applying) - len(compared)
    return (
        str(len(applying)),
        str(equal),
        str(len(compared) - equal - parted),
        str(parted),
        str(missing),
        f"{largest:.2g}" if told and largest is not None else "not told",
    )


def _print_candidate(run: ConsistencyRun, one: CandidateVerdict, console: Console) -> None:
    print_heading(console, f"{shown(one.server.name)}: {one.verdict.value}")
    for reason in one.reasons:
        print_line(console, reason, indent=2)
    for cell in _of(run, one.server.name):
        if not cell.check.startswith("prompt-"):
            print_marked(console, cell.status, cell.check, _told(cell))
    differing = worst_first(one)
    for each in differing[:MOST_DIVERGENCES]:
        print_marked(console, each.cell.status, each.cell.check, each.cell.message)
        _print_sides(each, console)
    more = len(differing) - MOST_DIVERGENCES
    if more > 0:
        print_line(console, f"… and {more} more prompts that differ; all of them with --output DIR", indent=2)


def _print_sides(each: PromptVerdict, console: Console) -> None:
    if each.comparison is None or each.comparison.divergence is None:
        return
    if each.reference is None or each.candidate is None:
        return
    common, ours, theirs = parted_texts(each.reference.text, each.candidate.text)
    print_line(console, f"both       {_end(common)}", "dim", indent=6, as_is=True)
    print_line(console, f"reference  {_begin(ours)}", indent=6, as_is=True)
    print_line(console, f"candidate  {_begin(theirs)}", indent=6, as_is=True)


def parted_texts(ours: str, theirs: str) -> tuple[str, str, str]:
    """What both texts begin with, and how each goes on."""
    pairs = enumerate(zip(ours, theirs, strict=False))
    at = next((place for place, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
    return ours[:at], ours[at:], theirs[at:]


def _of(run: ConsistencyRun, name: str) -> list[Result]:
    return [cell for cell in run.results if cell.subject.host == name and cell.wanted]


def _told(cell: Result) -> str:
    remedy = f". {cell.remedy}" if cell.remedy and cell.status is not Status.PASS else ""
    return f"{cell.message}{remedy}"


def _begin(text: str) -> str:
    line = repr(text)[1:-1] or "(nothing more)"
    return line if len(line) <= MOST_CHARACTERS else f"{line[:MOST_CHARACTERS]} …"


def _end(text: str) -> str:
    line = repr(text)[1:-1]
    return line if len(line) <= MOST_CHARACTERS else f"… {line[-MOST_CHARACTERS:]}"
