"""The JUnit report: one suite per host, one case per check on it.

Written so that both common schemas accept it, that of Ant's junitreport and that of Jenkins' xUnit
plugin: suites have package, id, hostname and a timestamp without zone (it is UTC), and end in system-out
and system-err; a case holds at most one of failure, error and skipped. A cell that is not green never
makes a green case.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TextIO
from xml.sax.saxutils import escape, quoteattr

from ascendctl import __version__
from ascendctl.report.folding import Finding, fold_places, fold_results
from ascendctl.report.printable import one_word, shown
from ascendctl.report.terminal import details, percent_text
from ascendctl.results import HostNote, Result, Run, Status, coverage

_RUN = "ascendctl verify"
_PACKAGE = "ascendctl"

# The outcome of a case is that of its worst cell, the first here.
_WORST_FIRST = (
    Status.FAIL,
    Status.ERROR,
    Status.UNKNOWN,
    Status.SKIPPED,
    Status.WAIVED,
    Status.WARN,
    Status.PASS,
    Status.NOT_APPLICABLE,
)
_ELEMENT = {
    Status.FAIL: "failure",
    Status.ERROR: "error",
    Status.UNKNOWN: "error",
    Status.SKIPPED: "skipped",
    Status.WAIVED: "skipped",
    Status.NOT_APPLICABLE: "skipped",
}

_Cases = dict[str, list[Result]]


def write_junit(
    run: Run, exit_code: int, stream: TextIO, *, strict: bool = False, command: str = _RUN
) -> None:
    """Write the report of a run as UTF-8 XML, one case at a time. ``strict``: a warning is a failure.

    ``command`` names the run.
    A case's class is its host (or the switch, group or cluster), its name the check's id. The first
    suite tells of the run and holds what lies on no host. Raises OSError of the stream.
    """
    suites = _suites(run)
    notes = {note.name: note for note in run.hosts}
    started = run.started_at.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    stream.write('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n')
    for number, (host, classes) in enumerate(suites.items()):
        properties = _run_properties(run, exit_code) if host is None else _host_properties(notes.get(host))
        attributes = {
            "name": command if host is None else one_word(host),
            "hostname": "localhost" if host is None else one_word(host),
            "timestamp": started,
            "time": f"{run.duration_s:.3f}" if host is None else "0",
        }
        _write_suite(stream, number, attributes, properties, classes, strict)
    stream.write("</testsuites>\n")
    stream.flush()


def _suites(run: Run) -> dict[str | None, dict[str, _Cases]]:
    """Host, or None for what lies on none → class → check → its cells, which stay where they are."""
    suites: dict[str | None, dict[str, _Cases]] = {None: {}}
    suites.update({note.name: {} for note in run.hosts})
    for cell in run.results:
        host = cell.subject.host
        of_class = one_word(host) if host is not None else fold_places([cell.subject])[0].text()
        cases = suites.setdefault(host, {}).setdefault(of_class, {})
        cases.setdefault(one_word(cell.check), []).append(cell)
    return suites


def _write_suite(
    stream: TextIO,
    number: int,
    attributes: Mapping[str, str],
    properties: Iterable[tuple[str, str]],
    classes: Mapping[str, _Cases],
    strict: bool,
) -> None:
    elements = Counter(
        _element(_outcome(cells), strict) for cases in classes.values() for cells in cases.values()
    )
    numbers = {
        "tests": elements.total(),
        "failures": elements["failure"],
        "errors": elements["error"],
        "skipped": elements["skipped"],
    }
    texts = {"id": str(number), "package": _PACKAGE, **attributes}
    texts.update({name: str(value) for name, value in numbers.items()})
    stream.write(f"<testsuite{_attributes(texts)}>\n<properties>\n")
    for name, value in properties:
        stream.write(f"<property{_attributes({'name': name, 'value': value})}/>\n")
    stream.write("</properties>\n")
    for of_class, cases in classes.items():
        for check, cells in cases.items():
            _write_case(stream, of_class, check, cells, strict)
    stream.write("<system-out>")
    for of_class, cases in classes.items():
        for check, cells in cases.items():
            _write_warnings(stream, of_class, check, cells)
    stream.write("</system-out>\n<system-err></system-err>\n</testsuite>\n")


def _write_case(stream: TextIO, of_class: str, check: str, cells: Sequence[Result], strict: bool) -> None:
    stream.write(f"<testcase{_attributes({'classname': of_class, 'name': check, 'time': '0'})}")
    outcome = _outcome(cells)
    element = _element(outcome, strict)
    if not element:
        stream.write("/>\n")
        return
    if outcome is Status.NOT_APPLICABLE:
        message = "not applicable: " + "; ".join(dict.fromkeys(shown(cell.message) for cell in cells))
        stream.write(f"><skipped{_attributes({'message': message})}/></testcase>\n")
        return
    findings = [one for one in _findings(cells) if one.status is outcome]
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    attributes = {"message": _told(findings[0]) + more}
    if element != "skipped":
        attributes["type"] = outcome.value
    text = escape("\n".join(_text(cells)))
    stream.write(f"><{element}{_attributes(attributes)}>{text}</{element}></testcase>\n")


def _write_warnings(stream: TextIO, of_class: str, check: str, cells: Sequence[Result]) -> None:
    for finding in _findings([cell for cell in cells if cell.status is Status.WARN]):
        lines = (f"{shown(of_class)} {check}: {_told(finding)}", *_detail_lines(finding))
        stream.write(escape("\n".join(lines)) + "\n")


def _outcome(cells: Iterable[Result]) -> Status:
    return min((cell.status for cell in cells), key=_WORST_FIRST.index)


def _element(outcome: Status, strict: bool) -> str:
    if strict and outcome is Status.WARN:
        return "failure"
    return _ELEMENT.get(outcome, "")


def _findings(cells: Sequence[Result]) -> tuple[Finding, ...]:
    folded = fold_results(cells)
    return (*folded.findings, *folded.unlooked, *folded.waived)


def _text(cells: Sequence[Result]) -> Iterator[str]:
    """Every cell of the case: what is to be told in full, passes by their devices only."""
    for finding in _findings(cells):
        yield _told(finding)
        yield from _detail_lines(finding)
    for status in (Status.PASS, Status.NOT_APPLICABLE):
        same = [cell for cell in cells if cell.status is status]
        if same:
            yield f"{status.value}: {_where(same)}"


def _told(finding: Finding) -> str:
    """``fail on device 3,5: link is DOWN``."""
    return f"{finding.status.value} on {_where(finding.cells)}: {shown(finding.message)}"


def _where(cells: Iterable[Result]) -> str:
    return "; ".join(place.part or "the host" for place in fold_places(cell.subject for cell in cells))


def _detail_lines(finding: Finding) -> Iterator[str]:
    for label, text in details(finding):
        if label != "cells":
            yield f"  {label}: {shown(text)}"


def _run_properties(run: Run, exit_code: int) -> Iterator[tuple[str, str]]:
    covered = coverage(run.results)
    yield "ascendctl.version", __version__
    yield "exit_code", str(int(exit_code))
    yield "interrupted", str(run.interrupted).lower()
    yield "coverage", f"{percent_text(covered)} ({covered.evaluated} of {covered.wanted} cells)"


def _host_properties(note: HostNote | None) -> Iterator[tuple[str, str]]:
    if note is None:
        return
    yield "answered", str(note.answered).lower()
    yield "devices", str(note.devices)
    for name, value in (
        ("group", note.group),
        ("accelerator", note.accelerator),
        ("generation", note.generation),
    ):
        if value:
            yield name, shown(value)
    for name, value in note.details.items():
        if shown(name):
            yield shown(name), shown(value)


def _attributes(values: Mapping[str, str]) -> str:
    return "".join(f" {name}={quoteattr(value)}" for name, value in values.items())
