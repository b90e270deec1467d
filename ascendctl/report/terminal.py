"""The summary a person reads after `verify`: the verdict in words, a map of the hosts, the findings.

Everything goes out as plain `rich.text.Text`, never as markup, and every text of a host has gone
through `shown`: a host's words cannot colour, move or ring anything.
"""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ascendctl.report.folding import Finding, Folded, Place, fold_names, fold_results, hosts_of
from ascendctl.report.marks import ABSENT as _ABSENT
from ascendctl.report.marks import BY_STATUS as _BY_STATUS
from ascendctl.report.marks import QUIET as _QUIET
from ascendctl.report.marks import UNLOOKED as _UNLOOKED
from ascendctl.report.marks import Mark as _Mark
from ascendctl.report.marks import mark_of as _mark
from ascendctl.report.printable import shown
from ascendctl.report.verdicts import (
    MOST_VERDICTS,
    TITLE,
    ToldVerdict,
    left_out,
    told_verdicts,
    without_verdicts,
)
from ascendctl.results import Coverage, ExitCode, Result, Run, Status, SubjectKind, coverage, summary

MOST_FINDINGS = 25
MOST_HOST_ROWS = 16
MOST_DEVICES_IN_MAP = 64
MOST_PLACES = 4
MOST_PLACE_CELLS = 60  # display width of places named beside the message; longer ones go below it


def render_summary(
    run: Run, console: Console, *, strict: bool, exit_code: int, can_ask_again: bool = True
) -> None:
    """Print the summary of a run. ``exit_code`` is the decision; ``strict``: warnings count as wrong.

    Bounded in length however many hosts there are; what is left out is counted, and it is said how
    to see it. Symbols are plain ASCII where the console's encoding is none of Unicode.
    """
    screen = _Screen(console)
    folded = whole = fold_results(run.results)
    marks = _marks_of_hosts(run)
    verdict = _verdict(run, folded, marks, strict=strict, exit_code=exit_code)
    screen.line(Text(verdict, style=_verdict_style(exit_code)))
    _print_figures(screen, run, len(marks))
    told = told_verdicts(run)
    _print_verdicts(screen, told)
    _print_host_map(screen, run, marks)
    folded = without_verdicts(folded, told)
    _print_findings(
        screen, "Findings" + (" (--strict: warnings count as wrong)" if strict else ""), folded.findings
    )
    _print_findings(screen, "Could not be looked at", folded.unlooked)
    _print_findings(screen, "Waived by the inventory", folded.waived)
    _print_next(screen, whole, can_ask_again)


def print_findings(console: Console, title: str, findings: Sequence[Finding]) -> None:
    """A section of findings with all that is known of each, bounded as in the summary; none, no section."""
    _print_findings(_Screen(console), title, findings)


def print_heading(console: Console, title: str) -> None:
    """The title of a section."""
    _Screen(console).heading(title)


def print_line(console: Console, text: str, style: str = "", *, indent: int = 0, as_is: bool = False) -> None:
    """A line of text, wrapped where it is too long; ``indent`` in columns.

    ``as_is``: text of ours that is printable, whose blanks are to stay.
    """
    _Screen(console).block(Text(" " * indent), Text(text if as_is else shown(text), style=style))


def print_marked(console: Console, status: Status, head: str, text: str, *, as_is: bool = False) -> None:
    """One line behind the mark of a status; its head, if any, is in the mark's colour."""
    screen, mark = _Screen(console), _BY_STATUS[status]
    prefix = Text.assemble("  ", screen.symbol(mark), " ")
    before = ((shown(head), mark.style), "  ") if head else ()
    screen.block(prefix, Text.assemble(*before, text if as_is else shown(text)))


def print_block(console: Console, before: Text, body: Text, *, status: Status | None = None) -> None:
    """A body beside what stands before it, behind the mark of a status; wrapped, it hangs there.

    Text of a host in them has gone through `shown`; a line break in the body is one.
    """
    screen = _Screen(console)
    mark = Text.assemble("  ", screen.symbol(_BY_STATUS[status]), " ") if status else Text()
    screen.block(mark + before, body)


def verdict_line(run: Run, folded: Folded, *, strict: bool, exit_code: int) -> str:
    """The verdict in words, the summary's first line; ``folded`` is the run's results folded."""
    return _verdict(run, folded, _marks_of_hosts(run), strict=strict, exit_code=exit_code)


def percent_text(covered: Coverage) -> str:
    """Coverage to one decimal, rounded down: only the whole of it is 100.0 %."""
    return f"{math.floor(covered.percent * 10) / 10:.1f} %"


# --- first lines ----------------------------------------------------------------------------------


def _verdict(
    run: Run, folded: Folded, marks: Mapping[str, _HostMarks], *, strict: bool, exit_code: int
) -> str:
    """The first line. It follows the exit code, so that the two can never disagree."""
    counting = (Status.FAIL, Status.ERROR, Status.WARN) if strict else (Status.FAIL, Status.ERROR)
    found = _share([one for one in folded.findings if one.status in counting], len(marks), "finding")
    warned = _share([one for one in folded.findings if one.status is Status.WARN], len(marks), "warning")
    gap = _gap(run, marks)
    if exit_code == ExitCode.INTERRUPTED:
        so_far = f"{found or 'nothing wrong was found'} until then" + (f"; {gap}" if gap else "")
        return f"INTERRUPTED after {run.duration_s:.0f} s: {so_far}"
    if exit_code == ExitCode.INTERNAL:
        return "NOT PROVEN: ascendctl itself failed on some cells" + (f"; {found}" if found else "")
    if exit_code == ExitCode.FOUND_WRONG:
        return f"NOT FIT: {found or 'there are findings'}" + (f"; {gap}" if gap else "")
    if exit_code == ExitCode.NOT_ENOUGH:
        if not coverage(run.results).wanted:
            return "NOT PROVEN: nothing was looked at"
        return "NOT PROVEN: nothing wrong was found, but " + (gap if gap else "not everything was looked at")
    verdict = f"FIT as far as was looked: {gap}" if gap else f"FIT: {_count(len(marks), 'host')}"
    return verdict + (f"; {warned}" if warned else "")


def _gap(run: Run, marks: Mapping[str, _HostMarks]) -> str:
    """``1 of 8 hosts did not answer, 2 were looked at only in part``; empty where nothing is missing."""
    silent = {note.name for note in run.hosts if not note.answered and marks[note.name].incomplete}
    partly = sum(of_host.incomplete for of_host in marks.values()) - len(silent)
    parts = []
    if silent:
        parts.append(f"{len(silent):,} of {_count(len(marks), 'host')} did not answer")
    if partly:
        of_all = "" if silent else f" of {_count(len(marks), 'host')}"
        parts.append(f"{partly:,}{of_all} {'was' if partly == 1 else 'were'} looked at only in part")
    return ", ".join(parts)


def _share(findings: Sequence[Finding], total: int, noun: str) -> str:
    """``3 of 8 hosts have findings``; empty where there are none."""
    hosts = {host for finding in findings for host in finding.hosts()}
    elsewhere = sum(not finding.hosts() for finding in findings)
    parts = []
    if hosts:
        parts.append(
            f"{len(hosts):,} of {_count(total, 'host')} {'has' if len(hosts) == 1 else 'have'} {noun}s"
        )
    if elsewhere:
        parts.append(f"{_count(elsewhere, noun)} between or beyond hosts")
    return " and ".join(parts)


def _verdict_style(exit_code: int) -> str:
    if exit_code == ExitCode.OK:
        return "bold green"
    return "bold red" if exit_code == ExitCode.FOUND_WRONG else "bold yellow"


def _print_figures(screen: _Screen, run: Run, host_count: int) -> None:
    devices = sum(note.devices for note in run.hosts)
    started = run.started_at.strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    screen.line(
        Text(f"{_count(host_count, 'host')}, {_count(devices, 'device')}, {run.duration_s:.1f} s, {started}")
    )
    covered = coverage(run.results)
    screen.line(
        Text.assemble(
            "coverage ",
            (percent_text(covered), "bold"),
            f": {covered.evaluated:,} of {covered.wanted:,} cells looked at (cell: one check on one part)",
        )
    )
    counts = Text()
    for status, count in summary(run.results).items():
        if count or status in (Status.PASS, Status.FAIL):
            counts += Text.assemble(
                "  " if counts else "", screen.symbol(_BY_STATUS[status]), f" {count:,} {status.value}"
            )
    screen.line(counts)


# --- the map of hosts -----------------------------------------------------------------------------


@dataclass
class _HostMarks:
    """The worst mark of a host and of each of its devices, by physical id."""

    host: _Mark
    devices: dict[int, _Mark]
    incomplete: bool = False

    def add(self, cell: Result, device: int | None) -> None:
        mark = _mark(cell)
        self.incomplete |= mark is _UNLOOKED
        if mark.rank > self.host.rank:
            self.host = mark
        if device is not None and mark.rank > self.devices.get(device, _ABSENT).rank:
            self.devices[device] = mark

    def map(self) -> tuple[_Mark, ...]:
        """By physical id from 0, holes included; an absurd id, which a broken tool may print, makes none."""
        end = max(self.devices, default=-1) + 1
        ids = range(end) if end <= MOST_DEVICES_IN_MAP else sorted(self.devices)[:MOST_DEVICES_IN_MAP]
        return tuple(self.devices.get(device, _ABSENT) for device in ids)


@dataclass(frozen=True)
class _Row:
    host: _Mark
    devices: tuple[_Mark, ...]
    type: str
    answered: bool


_Rows = list[tuple[_Row, list[str]]]


def _marks_of_hosts(run: Run) -> dict[str, _HostMarks]:
    """Every host of the run, in its order, also one without a single cell."""
    marks = {note.name: _HostMarks(_QUIET, {}) for note in run.hosts}
    for cell in run.results:
        subject = cell.subject
        if subject.kind is SubjectKind.LINK and cell.status is Status.SKIPPED:
            continue  # a pair that a part at fault explains says nothing of its two ends
        for host in hosts_of(subject):
            of_host = marks.get(host)
            if of_host is None:
                of_host = marks[host] = _HostMarks(_QUIET, {})
            of_host.add(cell, subject.device if host == subject.host else None)
    return marks


def _print_host_map(screen: _Screen, run: Run, marks: Mapping[str, _HostMarks]) -> None:
    rows: dict[_Row, list[str]] = defaultdict(list)
    notes = {note.name: note for note in run.hosts}
    for name, of_host in marks.items():
        note = notes.get(name)
        kind = (note.generation or note.accelerator or "") if note else ""
        rows[_Row(of_host.host, of_host.map(), shown(kind), note.answered if note else True)].append(name)
    if not rows:
        return
    ordered = sorted(rows.items(), key=lambda item: (-item[0].host.rank, -len(item[1])))
    listed, rest = _chosen_rows(ordered)
    devices_width = max(len(_devices_text(screen, row)) for row, _ in listed)
    type_width = max(cell_len(row.type) for row, _ in listed)
    screen.heading(
        "Hosts" + (" and their devices, by physical id from 0" if any(row.devices for row in rows) else "")
    )
    for row, names in listed:
        prefix = Text.assemble("  ", screen.symbol(row.host), "  ", _devices_text(screen, row))
        prefix.append(" " * (devices_width + 7 - cell_len(prefix.plain)))
        if type_width:
            prefix.append(row.type + " " * (type_width + 2 - cell_len(row.type)))
        screen.block(prefix, Text(screen.names(names, prefix.cell_len)))
    _print_unlisted_hosts(screen, rest)
    _print_legend(screen, rows)


def _chosen_rows(ordered: _Rows) -> tuple[_Rows, _Rows]:
    """The rows to list and those to sum up: worst first, and of every state its largest row."""
    if len(ordered) <= MOST_HOST_ROWS:
        return ordered, []
    largest: dict[tuple[_Mark, bool], int] = {}
    for index, (row, _) in enumerate(ordered):
        largest.setdefault((row.host, row.answered), index)
    by_need = dict.fromkeys([*largest.values(), *range(len(ordered))])
    keep = set(list(by_need)[: MOST_HOST_ROWS - 1])
    listed = [row for index, row in enumerate(ordered) if index in keep]
    return listed, [row for index, row in enumerate(ordered) if index not in keep]


def _devices_text(screen: _Screen, row: _Row) -> Text:
    if not row.answered and {*row.devices} <= {_UNLOOKED, _ABSENT, _QUIET}:
        return Text("no answer", style="bold cyan")
    return Text.assemble(*(screen.symbol(mark) for mark in row.devices))


def _print_unlisted_hosts(screen: _Screen, rest: _Rows) -> None:
    if not rest:
        return
    counts: Counter[_Mark] = Counter()
    for row, names in rest:
        counts[row.host] += len(names)
    line = Text(f"  … and {_count(sum(counts.values()), 'more host')}, each with faults of its own:")
    for mark, count in sorted(counts.items(), key=lambda item: -item[0].rank):
        line += Text.assemble("  ", screen.symbol(mark), f" {count:,}")
    screen.line(line)


def _print_legend(screen: _Screen, rows: Iterable[_Row]) -> None:
    used = {mark for row in rows for mark in (row.host, *row.devices)}
    legend = Text()
    for mark in sorted(used, key=lambda mark: -mark.rank):
        legend += Text.assemble("   " if legend else "", screen.symbol(mark), (f" {mark.word}", "dim"))
    screen.block(Text("  "), legend)


# --- verdicts -------------------------------------------------------------------------------------


def _print_verdicts(screen: _Screen, told: tuple[ToldVerdict, ...]) -> None:
    if not told:
        return
    screen.heading(TITLE)
    for one in told[:MOST_VERDICTS]:
        mark = _BY_STATUS[one.status]
        head = Text.assemble((shown(one.part), mark.style), f": {shown(one.message)}")
        screen.block(Text.assemble("  ", screen.symbol(mark), " "), head)
        before = ""
        for label, text in one.lines():
            screen.block(_label("" if label == before else label), Text(shown(text)))
            before = label
    if rest := left_out(told):
        screen.block(Text("  "), Text(rest))


# --- findings -------------------------------------------------------------------------------------


def _print_findings(screen: _Screen, title: str, findings: Sequence[Finding]) -> None:
    if not findings:
        return
    screen.heading(title)
    for finding in findings[:MOST_FINDINGS]:
        _print_finding(screen, finding)
    rest = findings[MOST_FINDINGS:]
    if rest:
        cells = sum(len(finding.cells) for finding in rest)
        kinds = Counter(finding.status.value for finding in rest)
        by_kind = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
        screen.block(
            Text("  "),
            Text(
                f"… and {_count(len(rest), 'more finding')} ({by_kind}; {_count(cells, 'cell')}): "
                "all with --format json"
            ),
        )


def _print_finding(screen: _Screen, finding: Finding) -> None:
    mark = _mark(finding.cells[0])
    prefix = Text.assemble("  ", screen.symbol(mark), " ")
    places = finding.places()
    where = "; ".join(_place_text(screen, place, 0) for place in places[:MOST_PLACES])
    short = len(places) <= MOST_PLACES and cell_len(where) <= MOST_PLACE_CELLS
    head = Text.assemble(
        (f"{shown(finding.check)}  ", mark.style), (where if short else extent(finding), "bold")
    )
    screen.block(prefix, head.append(f": {shown(finding.message)}"))
    if not short:
        _print_places(screen, places)
    for label, text in details(finding):
        screen.block(_label(label), Text(shown(text)))


def _print_places(screen: _Screen, places: Sequence[Place]) -> None:
    label = _label("at")
    for place in places[:MOST_PLACES]:
        screen.block(label, Text(_place_text(screen, place, label.cell_len)))
        label = _label("")
    if rest := places[MOST_PLACES:]:
        cells = _count(sum(place.cells for place in rest), "cell")
        screen.block(label, Text(f"… and {_count(len(rest), 'more place')} ({cells})"))


def extent(finding: Finding) -> str:
    """How far a finding reaches: ``179 devices on 158 hosts``."""
    hosts = _count(len(finding.hosts()), "host")
    kinds = Counter(cell.subject.kind for cell in finding.cells)
    if set(kinds) == {SubjectKind.HOST}:
        return hosts
    parts = ", ".join(_count(count, kind.value.replace("_", " ")) for kind, count in kinds.items())
    return f"{parts} on {hosts}" if finding.hosts() else parts


def _label(text: str) -> Text:
    return Text.assemble((f"      {text:<9} ", "dim"))


def details(finding: Finding) -> Iterable[tuple[str, str]]:
    """What is told of a finding below its message: a label and its text, which may be a host's own."""
    expected, actual = finding.expected, finding.actual
    if actual:
        yield "seen", actual + (f" (expected {expected})" if expected else "")
    elif expected:
        yield "expected", expected
    if finding.consequence:
        yield "leads to", finding.consequence
    if finding.remedy:
        yield "to do", finding.remedy
    if finding.command:
        yield "read from", finding.command
    if finding.status is Status.UNKNOWN and finding.cells[0].evidence and finding.command:
        yield "printed", _excerpt(finding.cells[0].evidence)
    if len(finding.cells) > 1:
        yield "cells", f"{len(finding.cells):,}"
    if finding.evaluated_behind:
        yield "explains", _behind_text(finding.evaluated_behind)
    if finding.unevaluated_behind:
        yield "hides", _behind_text(finding.unevaluated_behind) + ", not looked at because of it"


def _excerpt(evidence: str, most_lines: int = 3, most_characters: int = 160) -> str:
    """The first lines of what a command printed, on one line; all of it is in the JSON report."""
    lines = [line.strip() for line in evidence.splitlines() if line.strip()]
    text = " / ".join(lines[:most_lines])
    cut = len(lines) > most_lines or len(text) > most_characters
    return text[:most_characters] + (" …" if cut else "")


def _behind_text(behind: Mapping[str, int], most: int = 4) -> str:
    ordered = sorted(behind.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{check} {count:,}" for check, count in ordered[:most])
    rest = f", and {_count(len(ordered) - most, 'more check')}" if len(ordered) > most else ""
    return f"{_count(sum(behind.values()), 'more cell')} ({named}{rest})"


def _place_text(screen: _Screen, place: Place, indent: int) -> str:
    return " ".join(text for text in (screen.names(place.hosts, indent), place.part) if text)


# --- what to do next ------------------------------------------------------------------------------


def _print_next(screen: _Screen, folded: Folded, can_ask_again: bool, most: int = 3) -> None:
    told = [*folded.findings, *folded.unlooked]
    if not told:
        return
    screen.heading("Next")
    steps = [
        (f"ascendctl explain {shown(check)}", "what it means, and the way out")
        for check in list(dict.fromkeys(finding.check for finding in told))[:most]
    ]
    hosts = fold_names({host for finding in told for host in finding.hosts()})
    if can_ask_again and hosts and cell_len(hosts) <= MOST_PLACE_CELLS:
        steps.append((f"ascendctl verify … --hosts {shlex.quote(hosts)}", "ask only these again"))
    steps.append(("ascendctl verify … --format json", "every cell with its evidence"))
    width = max(cell_len(command) for command, _ in steps)
    for command, why in steps:
        screen.block(Text(f"  {command}{' ' * (width - cell_len(command))}  "), Text(why, style="dim"))


# --- lines on a console ---------------------------------------------------------------------------

_PLAIN = str.maketrans({"…": "...", "·": "-"})


class _Screen:
    """Lines that wrap by display width with a hanging indent, and never end in spaces."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._ascii = console.options.ascii_only
        self._width = max(console.width, 20)

    def symbol(self, mark: _Mark) -> Text:
        return Text(mark.ascii if self._ascii else mark.symbol, style=mark.style)

    def line(self, text: Text) -> None:
        self.block(Text(), text)

    def heading(self, title: str) -> None:
        self._console.print()
        self.line(Text(title, style="bold underline"))

    def block(self, prefix: Text, body: Text) -> None:
        """The body beside its prefix; where that leaves too little room, below it."""
        indent = prefix.cell_len
        if self._width - indent < min(24, body.cell_len):
            self._out(prefix)
            prefix, indent = Text(), min(indent, 8)
            prefix.pad_left(indent)
        for line in body.wrap(self._console, self._width - indent, overflow="fold") or [Text()]:
            self._out(prefix + line)
            prefix = Text(" " * indent)

    def names(self, hosts: Sequence[str], indent: int, most_lines: int = 2) -> str:
        """Hosts folded; cut where they would take more than two lines, with their number."""
        room = max(self._width - indent, 24)
        lines = [""]
        for piece in re.findall(r"[^,]+,?", fold_names(hosts)):
            if lines[-1] and cell_len(lines[-1] + piece) > room:
                lines.append("")
            lines[-1] += piece
        if len(lines) <= most_lines:
            return "\n".join(lines)
        end = f"… ({_count(len(hosts), 'host')})"
        last = lines[most_lines - 1]
        while last and cell_len(last + end) > room:
            last = last.rstrip(",")[: last.rstrip(",").rfind(",") + 1]
        return "\n".join([*lines[: most_lines - 1], last + end])

    def _out(self, line: Text) -> None:
        line.rstrip()
        if self._ascii:
            encoding = self._console.encoding
            plain = line.plain.translate(_PLAIN)
            line = Text(plain.encode(encoding, "backslashreplace").decode(encoding), style=line.style)
        self._console.print(line, highlight=False, no_wrap=True, overflow="ignore", crop=False)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
