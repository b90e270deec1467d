"""The Markdown report, to be pasted into a ticket: verdict, hosts, findings folded, what to do.

Bounded in length however many hosts there are; what is left out is counted. Texts of hosts are
escaped for CommonMark and GitHub's tables, so that they are neither HTML, nor a link, nor a new cell.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

from ascendctl import __version__
from ascendctl.report.folding import Finding, Place, fold_names, fold_results, hosts_of
from ascendctl.report.host_lists import fit_by_host
from ascendctl.report.printable import shown
from ascendctl.report.terminal import details, extent, percent_text, verdict_line
from ascendctl.report.verdicts import (
    MOST_VERDICTS,
    TITLE,
    ToldVerdict,
    left_out,
    told_verdicts,
    without_verdicts,
)
from ascendctl.results import Result, Run, Status, coverage, summary

MOST_FINDINGS = 50
MOST_HOST_ROWS = 40
MOST_PLACES = 8
MOST_CHARACTERS_OF_NAMES = 400
MOST_NAMES = 20  # hosts named where all of them would take more characters than that

_COUNTED = ("fail", "error", "not looked at", "warn", "waived")
_CODE_LABELS = ("read from", "printed")


def write_markdown(run: Run, exit_code: int, stream: TextIO, *, strict: bool = False) -> None:
    """Write the report of a run. ``strict``: warnings count as wrong. Raises OSError of the stream."""
    folded = fold_results(run.results)
    verdict = verdict_line(run, folded, strict=strict, exit_code=exit_code)
    stream.write(f"# {prose(verdict)}\n\n")
    for line in _figures(run, exit_code):
        stream.write(f"- {line}\n")
    told = told_verdicts(run)
    _write_verdicts(stream, told)
    _write_hosts(stream, run, strict)
    folded = without_verdicts(folded, told)
    _write_findings(stream, "Findings", folded.findings)
    _write_findings(stream, "Could not be looked at", folded.unlooked)
    _write_findings(stream, "Waived by the inventory", folded.waived)
    stream.flush()


def prose(text: str) -> str:
    """A text on one line that Markdown shows as it is; parts between backticks become code."""
    parts = re.split(r"`([^`]*)`", shown(text))
    return "".join(
        code(part) if index % 2 and part.strip() else _escaped(part) for index, part in enumerate(parts)
    )


def code(text: str) -> str:
    """A text on one line as a code span, whatever backticks it holds."""
    line = shown(text)
    if not line:
        return ""
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " if line[0] == "`" or line[-1] == "`" else ""
    return f"{fence}{pad}{line}{pad}{fence}"


# White space is single by now, and no text of ours starts a line: block markers need no escape.
_MARKUP = re.compile(r"[\\`*_~\[\]|#$]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "://": ":&#47;/", "www.": "www&#46;", "@": "&#64;"}
_ENTITY = re.compile("|".join(re.escape(text) for text in _ENTITIES), re.IGNORECASE)


def _escaped(text: str) -> str:
    backslashed = _MARKUP.sub(r"\\\g<0>", _ENTITY.sub(lambda found: f"\0{found.group()}\0", text))
    return re.sub("\0(.*?)\0", lambda found: _entity(found.group(1)), backslashed)


def _entity(text: str) -> str:
    return _ENTITIES.get(text) or f"{text[:-1]}&#46;"  # www. in any case


def _figures(run: Run, exit_code: int) -> Iterable[str]:
    covered = coverage(run.results)
    counts = [f"{count:,} {status.value}" for status, count in summary(run.results).items() if count]
    yield f"Started {run.started_at:%Y-%m-%d %H:%M:%S %Z}, took {run.duration_s:.1f} s".rstrip()
    yield f"Devices: {sum(note.devices for note in run.hosts):,}"
    yield (
        f"Coverage: **{percent_text(covered)}**, {covered.evaluated:,} of {covered.wanted:,} cells looked at"
        " (cell: one check on one part)"
    )
    yield f"Cells: {', '.join(counts) or 'none'}"
    yield f"Exit code {int(exit_code)}, ascendctl {__version__}"


# --- hosts ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    fit: bool
    answered: bool
    type: str
    devices: int
    counts: tuple[int, ...]

    @property
    def rank(self) -> tuple[bool, tuple[int, ...]]:
        return (self.fit, tuple(-count for count in self.counts))


def _write_hosts(stream: TextIO, run: Run, strict: bool) -> None:
    rows = sorted(_rows(run, strict).items(), key=lambda item: item[0].rank)
    if not rows:
        return
    stream.write("\n## Hosts\n\n")
    _write_row(stream, ("Hosts", "Number", "Verdict", "Type", "Devices", *_COUNTED))
    _write_row(stream, ("---", "---:", "---", "---", *["---:"] * (1 + len(_COUNTED))))
    listed = rows if len(rows) <= MOST_HOST_ROWS else _chosen(rows)
    for row, names in listed:
        verdict = "pass" if row.fit else "not fit" if row.answered else "no answer"
        numbers = (f"{row.devices:,}", *(f"{count:,}" if count else "" for count in row.counts))
        _write_row(
            stream, (_escaped(_names(names)), f"{len(names):,}", verdict, _escaped(shown(row.type)), *numbers)
        )
    left_out = len(rows) - len(listed)
    if left_out:
        hosts = sum(len(names) for _, names in rows) - sum(len(names) for _, names in listed)
        stream.write(f"\nNot in this table: {hosts:,} more hosts with counts of their own.\n")
    stream.write("\nThe last columns count cells.\n")


def _rows(run: Run, strict: bool) -> dict[_Row, list[str]]:
    """Hosts whose line is the same share it."""
    fit = fit_by_host(run, strict=strict)
    counts: dict[str, list[int]] = {name: [0] * len(_COUNTED) for name in fit}
    for cell in run.results:
        column = _column(cell)
        if column is not None:
            for host in set(hosts_of(cell.subject)):
                counts[host][column] += 1
    notes = {note.name: note for note in run.hosts}
    rows: dict[_Row, list[str]] = defaultdict(list)
    for name, passes in fit.items():
        note = notes.get(name)
        kind = (note.generation or note.accelerator or "") if note else ""
        answered = note.answered if note else True
        rows[_Row(passes, answered, kind, note.devices if note else 0, tuple(counts[name]))].append(name)
    return rows


def _chosen(rows: Sequence[tuple[_Row, list[str]]]) -> list[tuple[_Row, list[str]]]:
    """The worst rows, and the largest row of the hosts that pass."""
    passing = max((item for item in rows if item[0].fit), key=lambda item: len(item[1]), default=None)
    if passing is None:
        return list(rows[:MOST_HOST_ROWS])
    return [*(item for item in rows[: MOST_HOST_ROWS - 1] if item is not passing), passing]


def _column(cell: Result) -> int | None:
    if cell.status is Status.UNKNOWN or (cell.status is Status.SKIPPED and not cell.evaluated):
        return _COUNTED.index("not looked at")
    return _COUNTED.index(cell.status.value) if cell.status.value in _COUNTED else None


def _write_row(stream: TextIO, cells: Iterable[str]) -> None:
    stream.write(f"| {' | '.join(cells)} |\n")


# --- verdicts -------------------------------------------------------------------------------------


def _write_verdicts(stream: TextIO, told: tuple[ToldVerdict, ...]) -> None:
    if not told:
        return
    stream.write(f"\n## {TITLE}\n")
    for one in told[:MOST_VERDICTS]:
        stream.write(f"\n### {one.status.value}: {_escaped(shown(one.part))}\n\n- {prose(one.message)}\n")
        for label, text in one.lines():
            stream.write(f"- **{label}** {prose(text)}\n")
    if rest := left_out(told):
        stream.write(f"\n{prose(rest)}\n")


# --- findings -------------------------------------------------------------------------------------


def _write_findings(stream: TextIO, title: str, findings: Sequence[Finding]) -> None:
    if not findings:
        return
    stream.write(f"\n## {title}\n")
    for finding in findings[:MOST_FINDINGS]:
        _write_finding(stream, finding)
    if rest := findings[MOST_FINDINGS:]:
        cells = sum(len(finding.cells) for finding in rest)
        stream.write(f"\nLeft out here: {len(rest):,} more, {cells:,} cells. The JSON report has them all.\n")


def _write_finding(stream: TextIO, finding: Finding) -> None:
    places = finding.places()
    where = _place(places[0]) if len(places) == 1 else extent(finding)
    stream.write(f"\n### {finding.status.value}: {prose(finding.check)} on {_escaped(where)}\n\n")
    stream.write(f"- {prose(finding.message)}\n")
    if len(places) > 1:
        named = "; ".join(_place(place) for place in places[:MOST_PLACES])
        rest = f"; … and {len(places) - MOST_PLACES:,} more places" if len(places) > MOST_PLACES else ""
        stream.write(f"- **at** {_escaped(named + rest)}\n")
    for label, text in details(finding):
        stream.write(f"- **{label}** {code(text) if label in _CODE_LABELS else prose(text)}\n")


def _place(place: Place) -> str:
    return " ".join(text for text in (_names(place.hosts), place.part) if text)


def _names(hosts: Sequence[str]) -> str:
    folded = fold_names(hosts)
    if len(folded) <= MOST_CHARACTERS_OF_NAMES:
        return folded
    return f"{fold_names(hosts[:MOST_NAMES])} … ({len(hosts):,} hosts in all)"
