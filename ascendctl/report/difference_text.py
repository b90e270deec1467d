"""The difference of two runs as a person reads it: what is new first, folded over hosts like the summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console

from ascendctl.report.difference import Change, Difference, Kind
from ascendctl.report.folding import Finding, fold_names, fold_results, hosts_of
from ascendctl.report.terminal import percent_text, print_findings, print_heading, print_line, print_marked
from ascendctl.results import ExitCode, Result, Run, Status, coverage

MOST_LINES = 25
MOST_PLACES = 3
MOST_PLACE_CHARACTERS = 60


def render_difference(difference: Difference, console: Console, *, exit_code: int) -> None:
    """Print the whole of a difference: headline, the two runs, the changes, what is still found.

    ``exit_code`` is the decision. Bounded in length however many hosts there are; what is left out
    is counted.
    """
    style = "bold red" if exit_code == ExitCode.FOUND_WRONG else "bold yellow" if exit_code else "bold green"
    print_line(console, headline(difference), style)
    print_line(console, f"old: {_run_text(difference.old)}")
    print_line(console, f"new: {_run_text(difference.new)}")
    render_changes(difference, console)
    unchanged = difference.of(Kind.UNCHANGED)
    _print_brief(console, "Known from the older run, and still found", unchanged, Status.SKIPPED, was=False)


def headline(difference: Difference) -> str:
    """``1 new, 2 cleared, 3 still found; 12 no longer looked at``, in cells; or that nothing changed."""
    counts = [
        (Kind.NEW, "new"),
        (Kind.WORSE, "worse"),
        (Kind.BETTER, "better"),
        (Kind.CHANGED, "changed"),
        (Kind.CLEARED, "cleared"),
        (Kind.SEEN_AGAIN, "seen again"),
        (Kind.EXPLAINED, "explained by another finding now"),
        (Kind.WAIVED, "waived now"),
        (Kind.NOT_APPLICABLE, "not applicable any more"),
        (Kind.NO_LONGER_LOOKED_AT, "no longer looked at"),
        (Kind.NOT_LOOKED_AT, "not looked at"),
        (Kind.NEWLY_LOOKED_AT, "newly looked at"),
    ]
    numbers = [(len(difference.of(kind)), words) for kind, words in counts]
    told = [f"{number:,} {words}" for number, words in numbers if number]
    told += [
        f"{len(hosts):,} host{'' if len(hosts) == 1 else 's'} {word}"
        for hosts, word in ((difference.hosts_added, "added"), (difference.hosts_removed, "removed"))
        if hosts
    ]
    known = len(difference.of(Kind.UNCHANGED))
    still = f"{known:,} still found" if known else ""
    if not told:
        return f"Nothing has changed{f': {still}' if still else ''}"
    return ("Changed: " + ", ".join(told)) + (f"; {still}" if still else "")


def render_changes(difference: Difference, console: Console) -> None:
    """Print what changed and nothing else; no line where nothing did."""
    _print_hosts(console, difference)
    _print_found(console, "New", difference, Kind.NEW)
    _print_found(console, "Worse: warned before, fails now", difference, Kind.WORSE)
    gone = difference.of(Kind.NO_LONGER_LOOKED_AT)
    lost_findings = [change for change in gone if change.was_found]
    _print_brief(
        console, "Findings no longer looked at (not cleared)", lost_findings, Status.UNKNOWN, was=True
    )
    removed = set(difference.hosts_removed)
    _print_unlooked(
        console,
        "No longer looked at",
        [one for one in gone if not removed.issuperset(_hosts(one)) or not _hosts(one)],
    )
    _print_unlooked(
        console, "Wanted for the first time, and not looked at", difference.of(Kind.NOT_LOOKED_AT)
    )
    for title, kind, status in (
        ("Better: failed before, warns now", Kind.BETTER, Status.WARN),
        ("Changed in value", Kind.CHANGED, Status.WARN),
        ("Looked at again, and still found", Kind.SEEN_AGAIN, Status.WARN),
    ):
        _print_brief(console, title, difference.of(kind), status, was=False)
    for title, kind, status in (
        ("Cleared", Kind.CLEARED, Status.PASS),
        ("Explained by another finding now (not cleared)", Kind.EXPLAINED, Status.SKIPPED),
        ("Not applicable any more", Kind.NOT_APPLICABLE, Status.NOT_APPLICABLE),
    ):
        _print_brief(console, title, difference.of(kind), status, was=True)
    _print_brief(console, "Waived by the inventory now", difference.of(Kind.WAIVED), Status.WAIVED, was=False)
    _print_newly_looked_at(console, difference.of(Kind.NEWLY_LOOKED_AT))


def _print_hosts(console: Console, difference: Difference) -> None:
    for hosts, words in (
        (difference.hosts_added, "not in the older run"),
        (difference.hosts_removed, "not in the newer run: no longer looked at"),
    ):
        if hosts:
            number = f"{len(hosts):,} host{'' if len(hosts) == 1 else 's'}"
            print_line(console, f"{number} {words}: {_cut(fold_names(hosts), 200)}")


def _print_found(console: Console, title: str, difference: Difference, kind: Kind) -> None:
    """Findings with all that is known of them, and with the cells that they explain."""
    cells = [change.now for change in difference.of(kind) if change.now is not None]
    if cells:
        explained = (cell for cell in difference.new.results if cell.status is Status.SKIPPED)
        print_findings(console, _titled(title, len(cells)), fold_results([*cells, *explained]).findings)


def _print_unlooked(console: Console, title: str, changes: Sequence[Change]) -> None:
    cells = {cell.key: cell for cell in map(_as_unlooked, changes)}
    folded = fold_results(cells.values())
    errors = [one for one in folded.findings if one.status is Status.ERROR]
    print_findings(console, _titled(title, len(changes)), [*errors, *folded.unlooked])


def _as_unlooked(change: Change) -> Result:
    """The newer run's cell, or one made up to tell that there is none."""
    if change.now is not None:
        return change.now
    return Result(
        change.key.check,
        change.key.subject,
        Status.UNKNOWN,
        "the newer run holds nothing on this part",
        remedy="If the part should be there, see what the newer run says of its host.",
    )


def _print_brief(
    console: Console, title: str, changes: Sequence[Change], status: Status, *, was: bool
) -> None:
    """One line per folded finding; ``was``: of the older run, else of the newer one beside the older."""
    cells = [cell for change in changes if (cell := change.before if was else change.now) is not None]
    if not cells:
        return
    before = {change.key: change.before for change in changes}
    print_heading(console, _titled(title, len(changes)))
    findings = _folded(cells)
    quiet = len(cells) - sum(len(finding.cells) for finding in findings)
    for finding in findings[:MOST_LINES]:
        text = f"{_where(finding)}: {finding.message}"
        if was:
            text = f"{_where(finding)}: was {finding.status.value}: {finding.message}"
        elif earlier := _was(finding, [before.get(cell.key) for cell in finding.cells]):
            text += f" ({earlier})"
        print_marked(console, status, finding.check, text)
    if quiet:
        print_line(console, f"  {quiet:,} cell{'' if quiet == 1 else 's'} on which nothing was found before")
    if rest := findings[MOST_LINES:]:
        cells_left = sum(len(finding.cells) for finding in rest)
        print_line(console, f"  … and {len(rest):,} more ({cells_left:,} cells): all with --format json")


def _folded(cells: Iterable[Result]) -> list[Finding]:
    folded = fold_results(cells)
    return [*folded.findings, *folded.waived, *folded.unlooked]


def _was(finding: Finding, before: Sequence[Result | None]) -> str:
    """``was fail: link is DOWN``; empty where that is what it says still."""
    known = [cell for cell in before if cell is not None]
    differing = [
        earlier
        for earlier, cell in zip(before, finding.cells, strict=True)
        if earlier is not None and (earlier.status, earlier.message) != (cell.status, cell.message)
    ]
    if not known or not differing:
        actual = {cell.actual for cell in known if cell.actual} - {cell.actual for cell in finding.cells}
        return f"was {sorted(actual)[0]}" if actual else ""
    example = " (for example)" if len({cell.message for cell in differing}) > 1 else ""
    return f"was {differing[0].status.value}: {differing[0].message}{example}"


def _print_newly_looked_at(console: Console, changes: Sequence[Change]) -> None:
    """Passes, of which only the number and the hosts matter."""
    if not changes:
        return
    print_heading(console, _titled("Newly looked at, and well", len(changes)))
    hosts = sorted({host for change in changes for host in _hosts(change)})
    checks = list(dict.fromkeys(change.key.check for change in changes))
    named = ", ".join(checks[:6]) + (f" and {len(checks) - 6} more checks" if len(checks) > 6 else "")
    print_marked(console, Status.PASS, _cut(fold_names(hosts), 200) or "between hosts", named)


def _where(finding: Finding) -> str:
    places = finding.places()
    text = "; ".join(place.text() for place in places[:MOST_PLACES])
    if len(places) <= MOST_PLACES and len(text) <= MOST_PLACE_CHARACTERS:
        return text
    hosts = finding.hosts()
    named = _cut(fold_names(hosts), MOST_PLACE_CHARACTERS)
    return f"{len(finding.cells):,} cells on {len(hosts):,} host{'' if len(hosts) == 1 else 's'} ({named})"


def _hosts(change: Change) -> tuple[str, ...]:
    return hosts_of(change.key.subject)


def _titled(title: str, cells: int) -> str:
    return f"{title} ({cells:,} cell{'' if cells == 1 else 's'})"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip(",") + "…"


def _run_text(run: Run) -> str:
    hosts = len(run.hosts)
    started = run.started_at.strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    named = f"{hosts:,} host{'' if hosts == 1 else 's'}"
    interrupted = ", interrupted" if run.interrupted else ""
    return f"{started}, {named}, coverage {percent_text(coverage(run.results))}{interrupted}"
