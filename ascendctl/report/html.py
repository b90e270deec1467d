"""The HTML report: one file that holds everything it shows, fetches nothing, and is written as a stream.

The page (``page/``: markup, style, script, words) is fixed. What a run says travels beside it as JSON in
two inert blocks, which the script shows as text, never as markup:

- ``cells``: one line per host, ``[name, group, type, answered, facts, rows]``; the last has the name null
  and holds the parts that lie on no host. A row is one part: ``[label, device, peer's host, shape,
  statuses, tellings, evidence]``. ``shape`` says which checks, ``statuses`` has one letter for each of them
  and ``tellings`` one number; a cell's number is its place in this order, counted over all rows.
- ``rest``: what those numbers point to, written after them. ``strings``; ``shapes``; ``tellings``, each
  what one cell says (message, expected, actual, consequence, remedy, command, cause); ``findings``, folded.

So a text is written once however many cells say it, and what is held of the run is numbers only.

However many different texts a run brings, the file stays small enough to be opened: each kind of text
has a budget, spent on the worst first. Every cell stays in the map and in all counts whatever is left
out; what was left out is said where it would stand, and the JSON report has it.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import html
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from typing import Any, TextIO

from ascendctl import __version__
from ascendctl.report.folding import Finding, Folded, fold_places, fold_results, hosts_of
from ascendctl.report.page_sections import topology_section, verdicts_section
from ascendctl.report.printable import shown
from ascendctl.report.terminal import percent_text
from ascendctl.results import (
    CellKey,
    ExitCode,
    HostNote,
    Result,
    Run,
    Status,
    Subject,
    coverage,
    host_subject,
    summary,
)

MOST_TEXT = 2_000  # characters of one text
MOST_EVIDENCE = 4_000  # characters of one evidence
MOST_FACT = 200  # characters of what is told about a host
MOST_PLACES = 100

# Bytes as written. With some 10 bytes a cell beside them, 400,000 cells fit into 15 MiB.
EVIDENCE_BUDGET_BYTES = 3 << 20
TOLD_TEXTS_BUDGET_BYTES = 3 << 20  # what single cells say that stand out
CALM_TEXTS_BUDGET_BYTES = 1 << 20  # what cells say that pass or do not apply
SECTION_BUDGET_BYTES = 1 << 20  # findings of one section
CELLS_OF_EACH_FINDING = 3  # come before all others in a budget


def write_html(run: Run, exit_code: int, stream: TextIO, *, strict: bool = False) -> None:
    """Write the report of a run. The stream must encode as UTF-8 (or all of Unicode, as StringIO does).

    ``strict``: warnings count as wrong. Evidence is there for cells that are no pass, shortened to
    `MOST_EVIDENCE` characters, as long as its budget lasts: some of each finding first, then the worst.
    Raises OSError of the stream.
    """
    folded = fold_results(run.results)
    page = _Page()
    title = f"ascendctl verify: {page.words['en'][_verdict_word(exit_code)]}"
    before, after = page.around_data(title, verdicts_section(run), topology_section(run))
    stream.write(before)
    _write_block(stream, "words", [json.dumps(page.words, ensure_ascii=False)])
    book = _Book(folded, run.results)
    _write_block(stream, "cells", _cell_lines(run, book))
    _write_block(stream, "rest", _rest_lines(run, int(exit_code), folded, book, strict))
    stream.write(after)
    stream.flush()


# --- the fixed page -------------------------------------------------------------------------------


class _Page:
    def __init__(self) -> None:
        folder = resources.files("ascendctl.report") / "page"
        self._markup = (folder / "page.html").read_text(encoding="utf-8")
        self._style = (folder / "page.css").read_text(encoding="utf-8")
        self._script = (folder / "page.js").read_text(encoding="utf-8")
        self.words: dict[str, dict[str, Any]] = json.loads(
            (folder / "words.json").read_text(encoding="utf-8")
        )

    def around_data(self, title: str, verdicts: str, topology: str) -> tuple[str, str]:
        """The page before and after its data, with these two sections."""
        # Only this very script may run, and nothing may be fetched, whatever a host's text tries.
        policy = (
            f"default-src 'none'; base-uri 'none'; form-action 'none'; "
            f"script-src '{content_digest(self._script)}'; style-src '{content_digest(self._style)}'"
        )
        before, after = self._markup.split("{{data}}")
        for name, text in (
            ("policy", policy),
            ("title", html.escape(title)),
            ("noscript", html.escape(self.words["en"]["noscript"])),
            ("style", self._style),
        ):
            before = before.replace(f"{{{{{name}}}}}", text)
        # Last, and in one go: these hold names of hosts, in which nothing is to be replaced.
        start, between, end = re.split(r"\{\{(?:verdicts|topology)\}\}", before)
        before = "".join((start, verdicts, between, topology, end))
        return before, after.replace("{{script}}", self._script)


def content_digest(text: str) -> str:
    """What a content security policy calls this script or style by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _verdict_word(exit_code: int) -> str:
    known = (ExitCode.OK, ExitCode.FOUND_WRONG, ExitCode.INTERNAL, ExitCode.INTERRUPTED)
    return f"verdict_{int(exit_code) if exit_code in known else int(ExitCode.NOT_ENOUGH)}"


def _write_block(stream: TextIO, name: str, lines: Iterable[str]) -> None:
    stream.write(f'<script type="application/json" id="{name}">')
    for line in lines:
        stream.write(_inert(line))
    stream.write("</script>\n")


def _inert(json_text: str) -> str:
    # In JSON a "<" stands only inside strings: escaped, no text can end the block or open a comment.
    return json_text.replace("<", "\\u003c")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _written_bytes(value: object) -> int:
    """What a value takes in the page, with its separator."""
    return len(_inert(_json(value)).encode()) + 2


def _array(values: Iterable[object]) -> Iterator[str]:
    separator = "["
    for value in values:
        yield separator + _json(value)
        separator = ",\n"
    yield "[]" if separator == "[" else "]"


# --- texts and cells by number --------------------------------------------------------------------


class _Numbers(dict[Any, int]):
    """Value → its number, given in the order of first use."""

    def __missing__(self, value: Any) -> int:
        self[value] = number = len(self)
        return number


class _Budget:
    """Bytes that may still be written."""

    def __init__(self, size_bytes: int) -> None:
        self._left = size_bytes

    def bears(self, size_bytes: int) -> bool:
        """Whether this fits in; then it is taken off. What comes later may still fit where this did not."""
        if size_bytes > self._left:
            return False
        self._left -= size_bytes
        return True


class _Book:
    """What cells point to by number, and the numbers of the cells that findings point to."""

    def __init__(self, folded: Folded, cells: Iterable[Result]) -> None:
        self.strings = _Numbers({"": 0})
        self.checks = _Numbers()
        self.shapes = _Numbers()
        self.tellings = _Numbers()
        self.evidence = _Numbers()
        self.cell_numbers: dict[int, int] = {}
        self._cells = 0
        self._calm = _Budget(CALM_TEXTS_BUDGET_BYTES)
        first, others = _worst_first(folded)
        self._evidence_kept = _evidence_within_budget((*first, *others))
        behind = (cell for cell in cells if cell.status is Status.SKIPPED)
        self._telling_kept = _tellings_within_budget(itertools.chain(first, others, behind))

    def number_cell(self, cell: Result) -> None:
        if not _calm(cell):
            self.cell_numbers[id(cell)] = self._cells
        self._cells += 1

    def string(self, text: str) -> int:
        return self.strings[_short(shown(text), MOST_TEXT)]

    def telling(self, cell: Result) -> int:
        """The number of what a cell says; -1 where that is left out for size."""
        if _calm(cell):
            return self._calm_telling(cell)
        if id(cell) not in self._telling_kept:
            return -1
        return self.tellings[tuple(self.string(text) for text in _cell_texts(cell))]

    def evidence_of(self, cell: Result) -> int | None:
        """The number of a cell's evidence, -1 where it is left out for size, None where there is none."""
        if _calm(cell) or not cell.evidence:
            return None
        if id(cell) not in self._evidence_kept:
            return -1
        return self.evidence[_evidence_text(cell)]

    def _calm_telling(self, cell: Result) -> int:
        text = _short(shown(cell.message), MOST_TEXT)
        if text not in self.strings and not self._calm.bears(_written_bytes(text) + _TELLING_BYTES):
            return -1
        return self.tellings[(self.strings[text],)]


_TELLING_BYTES = 56  # seven numbers and what stands between them, written


def _told(one: Result | Finding) -> tuple[str, ...]:
    return (one.message, one.expected, one.actual, one.consequence, one.remedy, one.command)


def _cell_texts(cell: Result) -> tuple[str, ...]:
    return (*_told(cell), _cause_text(cell.caused_by, cell.subject) if cell.caused_by else "")


def _cause_text(cause: CellKey, subject: Subject) -> str:
    """``check`` alone where the cause is on the same part, else with that part's name."""
    return cause.check if cause.subject == subject else f"{cause.check}: {_whole_label(cause.subject)}"


def _calm(cell: Result) -> bool:
    return cell.status in (Status.PASS, Status.NOT_APPLICABLE)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} … ({len(text):,})"


def _shown_lines(text: str) -> str:
    """What a command printed, line by line as it stood, with what is not printable made visible."""
    lines = text.replace("\r\n", "\n").expandtabs().split("\n")
    return "\n".join(
        line if line.isprintable() else " ".join(shown(part) for part in line.split(" ")) for line in lines
    ).rstrip()


def _evidence_text(cell: Result) -> str:
    return _short(_shown_lines(cell.evidence), MOST_EVIDENCE)


def _worst_first(folded: Folded) -> tuple[list[Result], list[Result]]:
    """Some cells of every finding, and all others; in both, those of the worst findings first."""
    findings = (*folded.findings, *folded.unlooked, *folded.waived)
    first = [cell for finding in findings for cell in finding.cells[:CELLS_OF_EACH_FINDING]]
    others = [cell for finding in findings for cell in finding.cells[CELLS_OF_EACH_FINDING:]]
    return first, others


def _evidence_within_budget(cells: Iterable[Result]) -> set[int]:
    """The ids of the cells whose evidence is written."""
    budget = _Budget(EVIDENCE_BUDGET_BYTES)
    kept: set[int] = set()
    told: set[str] = set()
    for cell in cells:
        if not cell.evidence:
            continue
        if cell.evidence not in told:
            if not budget.bears(_written_bytes(_evidence_text(cell))):
                continue
            told.add(cell.evidence)
        kept.add(id(cell))
    return kept


def _tellings_within_budget(cells: Iterable[Result]) -> set[int]:
    """The ids of the cells of which is written what they say."""
    budget = _Budget(TOLD_TEXTS_BUDGET_BYTES)
    kept: set[int] = set()
    told: set[str] = set()
    tellings: set[tuple[str, ...]] = set()
    for cell in cells:
        texts = _cell_texts(cell)
        if texts not in tellings:
            new = {text for text in texts if text not in told}
            size = sum(_written_bytes(_short(shown(text), MOST_TEXT)) for text in new) + _TELLING_BYTES
            if not budget.bears(size):
                continue
            told |= new
            tellings.add(texts)
        kept.add(id(cell))
    return kept


def _label(subject: Subject) -> str:
    """The part on its host, in words; empty for the host itself and for a plain device."""
    if subject.host is not None and _plain(subject):
        return ""
    return _part_text(subject)


def _whole_label(subject: Subject) -> str:
    return " ".join(text for text in (shown(subject.host or ""), _part_text(subject)) if text)


def _part_text(subject: Subject) -> str:
    return fold_places([subject])[0].part


def _plain(subject: Subject) -> bool:
    """Whether host and physical id say all of it."""
    return subject == host_subject(subject.host or "") or (
        subject.device is not None and subject.peer is None and subject.switch is None and not subject.group
    )


# --- the cells ------------------------------------------------------------------------------------

_LETTERS = {
    Status.FAIL: "f",
    Status.ERROR: "e",
    Status.UNKNOWN: "u",
    Status.WARN: "w",
    Status.SKIPPED: "s",
    Status.WAIVED: "v",
    Status.PASS: "p",
    Status.NOT_APPLICABLE: "n",
}


def _letter(cell: Result) -> str:
    return "k" if cell.status is Status.SKIPPED and not cell.evaluated else _LETTERS[cell.status]


def _cell_lines(run: Run, book: _Book) -> Iterator[str]:
    by_host: dict[str | None, list[Result]] = {note.name: [] for note in run.hosts}
    for cell in run.results:
        by_host.setdefault(cell.subject.host, []).append(cell)
    beyond = by_host.pop(None, [])
    notes = {note.name: note for note in run.hosts}
    positions = {name: position for position, name in enumerate(by_host)}

    def records() -> Iterator[list[object]]:
        for name, cells in by_host.items():
            note = notes.get(name or "", HostNote(name or "", answered=True))
            facts = [[book.string(_short(text, MOST_FACT)) for text in fact] for fact in note.details.items()]
            kind = note.generation or note.accelerator or ""
            rows = _rows(cells, book, positions)
            yield [shown(note.name), shown(note.group), shown(kind), int(note.answered), facts, rows]
        if beyond:
            yield [None, "", "", 1, [], _rows(beyond, book, positions)]

    return _array(records())


def _rows(cells: Sequence[Result], book: _Book, positions: dict[str | None, int]) -> list[list[object]]:
    by_subject: dict[Subject, list[Result]] = defaultdict(list)
    for cell in cells:
        by_subject[cell.subject].append(cell)
    rows = []
    for subject, its_cells in by_subject.items():
        evidence: dict[int, int] = {}
        for place, cell in enumerate(its_cells):
            book.number_cell(cell)
            number = book.evidence_of(cell)
            if number is not None:
                evidence[place] = number
        peer = subject.peer.host if subject.peer and len(hosts_of(subject)) > 1 else None
        rows.append(
            [
                _label(subject),
                -1 if subject.device is None else subject.device,
                positions.get(peer, -1) if peer else -1,
                book.shapes[tuple(book.checks[shown(cell.check)] for cell in its_cells)],
                "".join(_letter(cell) for cell in its_cells),
                [book.telling(cell) for cell in its_cells],
                evidence or 0,
            ]
        )
    return rows


# --- everything else ------------------------------------------------------------------------------


def _rest_lines(run: Run, exit_code: int, folded: Folded, book: _Book, strict: bool) -> Iterator[str]:
    yield '{"meta":' + _json(_meta(run, exit_code, folded, strict))
    left_out: dict[str, tuple[int, int]] = {}
    sections = (("found", folded.findings), ("unlooked", folded.unlooked), ("waived", folded.waived))
    findings = (
        record for name, section in sections for record in _section_records(name, section, book, left_out)
    )
    # Findings come first: they still add to the tables.
    for name, values in (
        ("findings", findings),
        ("evidence", book.evidence),
        ("tellings", book.tellings),
        ("shapes", book.shapes),
        ("checks", book.checks),
        ("strings", book.strings),
    ):
        yield f',\n"{name}":'
        yield from _array(values)
    yield ',\n"left_out":' + _json(left_out) + "}"


def _section_records(
    name: str, findings: Sequence[Finding], book: _Book, left_out: dict[str, tuple[int, int]]
) -> Iterator[list[object]]:
    """The findings of a section that its budget bears; ``left_out`` gets how many others, and cells."""
    budget = _Budget(SECTION_BUDGET_BYTES)
    for place, finding in enumerate(findings):
        told = {text: _short(shown(text), MOST_TEXT) for text in _told(finding)}
        new = sum(_written_bytes(text) for text in told.values() if text not in book.strings)
        places = [_short(one.text(), MOST_TEXT) for one in finding.places()]
        size = new + _written_bytes(places[:MOST_PLACES]) + _TELLING_BYTES
        if not budget.bears(size):
            rest = findings[place:]
            left_out[name] = (len(rest), sum(len(one.cells) for one in rest))
            return
        yield _finding_record(name, finding, places, book)


def _meta(run: Run, exit_code: int, folded: Folded, strict: bool) -> dict[str, object]:
    covered = coverage(run.results)
    calm = [] if strict else [one for one in folded.findings if one.status is Status.WARN]
    wrong = [one for one in folded.findings if strict or one.status is not Status.WARN]
    warned = {host for one in calm for host in one.hosts()}
    silent = {note.name for note in run.hosts if not note.answered}
    partly = {
        host
        for cell in run.results
        if cell.wanted and not cell.evaluated
        for host in hosts_of(cell.subject)
        if host not in silent
    }
    return {
        "version": __version__,
        "started": run.started_at.astimezone(dt.timezone.utc).isoformat(timespec="seconds"),
        "duration_s": round(run.duration_s, 1),
        "verdict": _verdict_word(exit_code),
        "wanted": covered.wanted,
        "evaluated": covered.evaluated,
        "coverage": percent_text(covered),
        "devices": sum(note.devices for note in run.hosts),
        "found": len({host for one in wrong for host in one.hosts()}),
        "beyond": sum(not one.hosts() for one in wrong),
        "warned": len(warned),
        "silent": len(silent),
        "partly": len(partly),
        "summary": {status.value: count for status, count in summary(run.results).items()},
    }


def _finding_record(section: str, finding: Finding, places: Sequence[str], book: _Book) -> list[object]:
    numbers = sorted(book.cell_numbers[id(cell)] for cell in finding.cells)
    steps = [numbers[0], *(after - before for before, after in itertools.pairwise(numbers))]
    return [
        section,
        _letter(finding.cells[0]),
        book.checks[shown(finding.check)],
        [book.string(text) for text in _told(finding)],
        list(places[:MOST_PLACES]),
        len(places),
        steps,
        dict(finding.evaluated_behind),
        dict(finding.unevaluated_behind),
    ]
