"""The difference of two runs as a person reads it: what is new first, folded over hosts like the summary."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from rich.console import Console

from ascendctl.counters import COMPARED
from ascendctl.durations import MINUTE_S, span_text
from ascendctl.report.difference import Change, Difference, Kind
from ascendctl.report.difference_counters import CounterChange, CounterDifference, CounterKind
from ascendctl.report.folding import Finding, fold_names, fold_places, fold_results, hosts_of
from ascendctl.report.terminal import percent_text, print_findings, print_heading, print_line, print_marked
from ascendctl.results import ExitCode, Result, Run, Status, Subject, SubjectKind, coverage

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
    print_line(console, f"error counters: {_compared_text(difference)}")
    render_changes(difference, console)
    unchanged = difference.of(Kind.UNCHANGED)
    _print_brief(console, "Known from the older run, and still found", unchanged, Status.SKIPPED, was=False)


def headline(difference: Difference) -> str:
    """``1 new, 2 cleared, 3 still found; 12 no longer looked at``, in cells; or that nothing changed.

    Counters that grew are counted per device.
    """
    kinds = [
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
    numbers = [(len(difference.of(kind)), words) for kind, words in kinds]
    told = [f"{number:,} {words}" for number, words in numbers if number]
    told += _counters_told(difference.counters)
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
    _print_grown(console, "Error counters that grew", difference.counters.grown(Status.FAIL))
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
    _print_grown(
        console, "Counters of corrected or repeated errors that grew", difference.counters.grown(Status.WARN)
    )
    _print_restarted(console, difference.counters.restarted())
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


def _print_grown(console: Console, title: str, changes: Sequence[CounterChange]) -> None:
    """One line per counter, whatever the number of devices: there are as many lines as counters, at most."""
    by_counter: dict[tuple[str, str], list[CounterChange]] = defaultdict(list)
    for change in changes:
        by_counter[change.counter.group, change.counter.name].append(change)
    if not changes:
        return
    print_heading(console, f"{title} ({_count(len(changes), 'counter')})")
    for counter in COMPARED:
        if alike := by_counter.get((counter.group, counter.name)):
            text = f"{_located([_device(one) for one in alike], 'device')}: {_growth_text(alike)}"
            text = f"{text}. Counted each time {counter.meaning}."
            print_marked(console, counter.severity, counter.name, text)


def _growth_text(changes: Sequence[CounterChange]) -> str:
    """``4 more in 10 min (24 per hour): 3 before, 7 now``; of several the range, and which grew most."""
    most = max(changes, key=lambda change: change.growth)
    least = min(change.growth for change in changes)
    spans = sorted({change.elapsed_s for change in changes})
    span = ""
    if spans[0] > 0:
        span = " in " + "…".join(dict.fromkeys(span_text(seconds) for seconds in (spans[0], spans[-1])))
    growth = f"{least:,}…{most.growth:,}" if least < most.growth else f"{most.growth:,}"
    if len(changes) == 1:
        return f"{growth} more{span}{_rate_text(most)}: {_values_text(most)}"
    place = fold_places([_device(most)])[0].text()
    return f"{growth} more on each{span}, most on {place}{_rate_text(most)}: {_values_text(most)}"


def _rate_text(change: CounterChange) -> str:
    rate = change.per_hour
    if rate is None or change.elapsed_s < MINUTE_S:  # a moment says nothing of an hour
        return ""
    return f" ({rate:,.0f} per hour)" if rate >= 10 else f" ({rate:.2g} per hour)"


def _values_text(change: CounterChange) -> str:
    if change.kind is CounterKind.RESTARTED:
        return f"{change.before:,} before, then counted from zero again, {change.now:,} now"
    return f"{change.before:,} before, {change.now:,} now"


def _print_restarted(console: Console, changes: Sequence[CounterChange]) -> None:
    if not changes:
        return
    by_group: dict[str, dict[Subject, None]] = defaultdict(dict)
    for change in changes:
        by_group[change.counter.group][_device(change)] = None
    groups: dict[tuple[Subject, ...], list[str]] = defaultdict(list)
    for group, devices in by_group.items():
        groups[tuple(devices)].append(group)
    print_heading(console, f"Counters that restarted ({_count(len({*map(_device, changes)}), 'device')})")
    for subjects, names in groups.items():
        text = f"{_located(subjects, 'device')}: cleared, or the driver or the host was restarted"
        print_marked(console, Status.NOT_APPLICABLE, ", ".join(names), text)


def _counters_told(counters: CounterDifference) -> list[str]:
    numbers = (
        (len(counters.grown(Status.FAIL)), "error counter", " grew"),
        (len(counters.grown(Status.WARN)), "counter", " of corrected or repeated errors grew"),
    )
    told = [_count(number, noun) + what for number, noun, what in numbers if number]
    restarted = {_device(change) for change in counters.restarted()}
    return told + ([f"counters restarted on {_count(len(restarted), 'device')}"] if restarted else [])


def _compared_text(difference: Difference) -> str:
    """``compared link_stat, stat on 8; hccs on 16 of 16 devices``: of the others nothing is told."""
    groups: dict[int, list[str]] = defaultdict(list)
    for group, number in difference.counters.compared.items():
        if number:
            groups[number].append(group)
    if not groups:
        return "none that both runs hold"
    total = sum(note.devices for note in difference.new.hosts)
    compared = "; ".join(f"{', '.join(names)} on {number:,}" for number, names in groups.items())
    return f"compared {compared} of {_count(total, 'device')}"


def _device(change: CounterChange) -> Subject:
    return Subject(SubjectKind.DEVICE, host=change.host, device=change.device)


def _where(finding: Finding) -> str:
    return _located([cell.subject for cell in finding.cells], "cell")


def _located(subjects: Sequence[Subject], noun: str) -> str:
    """Where they lie; of many places only how many there are, and on which hosts."""
    places = fold_places(subjects)
    text = "; ".join(place.text() for place in places[:MOST_PLACES])
    if len(places) <= MOST_PLACES and len(text) <= MOST_PLACE_CHARACTERS:
        return text
    hosts = {host for subject in subjects for host in hosts_of(subject)}
    named = _cut(fold_names(hosts), MOST_PLACE_CHARACTERS)
    return f"{_count(len(subjects), noun)} on {_count(len(hosts), 'host')} ({named})"


def _hosts(change: Change) -> tuple[str, ...]:
    return hosts_of(change.key.subject)


def _titled(title: str, cells: int) -> str:
    return f"{title} ({_count(cells, 'cell')})"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip(",") + "…"


def _run_text(run: Run) -> str:
    hosts = len(run.hosts)
    started = run.started_at.strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    named = f"{hosts:,} host{'' if hosts == 1 else 's'}"
    interrupted = ", interrupted" if run.interrupted else ""
    return f"{started}, {named}, coverage {percent_text(coverage(run.results))}{interrupted}"
