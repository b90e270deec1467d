"""The JSON report: its versioned schema, and reading a report back.

A reader of version 1.x accepts every 1.y: a minor version only adds fields. Parts that do not apply
are null, never left out.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from ascendctl import results
from ascendctl.report.printable import storable

SCHEMA_VERSION = "1.2"  # 1.1: counters; 1.2: what verdicts hold, until then there were none


RULED_OUT = "ruled out: "


class ReportError(Exception):
    """A report cannot be read. The message says which, what is wrong with it, and what to do."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class PeerRecord(_Record):
    """The other end of a link or a ping."""

    host: str
    device: int


class SubjectRecord(_Record):
    """The part that a result is about. `device` is a physical id (what hccn_tool -i takes)."""

    kind: results.SubjectKind
    host: str | None
    npu: int | None
    chip: int | None
    device: int | None
    peer: PeerRecord | None
    switch: str | None
    group: str | None


class CellRecord(_Record):
    """Names one cell: a check on a subject."""

    check: str
    subject: SubjectRecord


class ResultRecord(_Record):
    """One judged cell. `evaluated` is whether it counts as looked at in the coverage."""

    check: str
    subject: SubjectRecord
    status: results.Status
    evaluated: bool
    message: str
    expected: str | None
    actual: str | None
    consequence: str | None
    remedy: str | None
    caused_by: CellRecord | None
    command: str | None
    evidence: Annotated[str | None, Field(description="Output of the command; null where the cell passed.")]


class ComponentRecord(_Record):
    """A part held to be at fault. `device` is a physical id.

    `kind` npu, an NPU with all its dies, has its NPU id in `value` (`3`, `3 roce`). Elsewhere `value` is an
    address, the super pod (and which of its hosts stand apart), a TLS switch, which part of a switch
    (`uplinks`), or the one network (`roce`, `hccs`) in which the part is at fault; null = in all.
    """

    kind: results.ComponentKind
    host: str | None
    device: int | None
    peer: PeerRecord | None
    switch: str | None
    value: str | None


class VerdictRecord(_Record):
    """A part at fault, how sure that is, the cells it explains, and what else it could be.

    `evidence` are sentences; those that begin with `ruled out: ` say what it is not. The part that explains
    most comes first.
    """

    component: ComponentRecord
    confidence: Annotated[float, Field(ge=0, le=1)]
    explains: list[CellRecord]
    evidence: list[str]
    alternatives: list[ComponentRecord]


class HostRecord(_Record):
    """What a host is, not how it was judged."""

    name: str
    group: str | None
    accelerator: str | None
    generation: str | None
    devices: int
    answered: bool
    details: dict[str, str]


class CountersRecord(_Record):
    """Error counters of a device, by where they were read and the names that the tool prints.

    A group is there exactly when it was read; in it, of the counters that ascendctl compares, those that
    are not 0. `read_at` is null where it is the start of this run. `device` is a physical id.
    """

    host: str
    device: int
    read_at: AwareDatetime | None
    groups: dict[str, dict[str, Annotated[int, Field(ge=1)]]]


class CoverageRecord(_Record):
    """Cells wanted (all but not-applicable), cells evaluated, and their ratio in percent."""

    wanted: Annotated[int, Field(ge=0)]
    evaluated: Annotated[int, Field(ge=0)]
    percent: Annotated[float, Field(ge=0, le=100)]


class Header(_Record):
    """Everything of a report that is known before its first result is written."""

    schema_version: Annotated[str, Field(pattern=r"^1\.[0-9]+$")]
    tool_version: str
    started_at: AwareDatetime
    duration_s: Annotated[float, Field(ge=0)]
    interrupted: bool
    exit_code: int
    coverage: CoverageRecord
    summary: dict[results.Status, int]


class Report(Header):
    """One run of ascendctl verify."""

    # Every report of this version has the counters; one of 1.0, which has none, is read all the same.
    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)

    hosts: list[HostRecord]
    results: list[ResultRecord]
    counters: list[CountersRecord] = []
    verdicts: list[VerdictRecord]


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a report."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Report.model_json_schema(mode="serialization"),
    }


def read_report(source: Path | str) -> results.Run:
    """The run that a report tells of. A Path is a file to read, a string the report's own text.

    What the report does not hold is lost: evidence of passed cells, and undecodable bytes, which
    stay the escapes that they were written as. Raises ReportError.
    """
    name, text = _read(source)
    try:
        report = Report.model_validate_json(text)
    except ValidationError as error:
        raise ReportError(f"{name}: {_why_unreadable(error)}") from None
    started_at = report.started_at.astimezone(dt.timezone.utc)
    return results.Run(
        started_at=started_at,
        duration_s=report.duration_s,
        results=tuple(_result(record) for record in report.results),
        hosts=tuple(_host_note(record) for record in report.hosts),
        interrupted=report.interrupted,
        counters=tuple(_counters(record, started_at) for record in report.counters),
        verdicts=tuple(_verdict(record) for record in report.verdicts),
    )


def result_record(result: results.Result) -> ResultRecord:
    """A result as a report holds it: texts valid Unicode, empty ones null, no evidence of a pass."""
    passed = result.status is results.Status.PASS
    return ResultRecord(
        check=storable(result.check),
        subject=_subject_record(result.subject),
        status=result.status,
        evaluated=result.evaluated,
        message=storable(result.message),
        expected=_text(result.expected),
        actual=_text(result.actual),
        consequence=_text(result.consequence),
        remedy=_text(result.remedy),
        caused_by=cell_record(result.caused_by) if result.caused_by else None,
        command=_text(result.command),
        evidence=None if passed else _text(result.evidence),
    )


def host_record(note: results.HostNote) -> HostRecord:
    """A host's note as a report holds it."""
    return HostRecord(
        name=storable(note.name),
        group=_text(note.group),
        accelerator=_text(note.accelerator),
        generation=_text(note.generation),
        devices=note.devices,
        answered=note.answered,
        details={storable(key): storable(value) for key, value in note.details.items()},
    )


def counters_record(counters: results.DeviceCounters, run_started_at: dt.datetime) -> CountersRecord:
    """A device's counters as the report of a run holds them."""
    read_at = counters.read_at
    return CountersRecord(
        host=storable(counters.host),
        device=counters.device,
        read_at=None if read_at == run_started_at else read_at.astimezone(dt.timezone.utc),
        groups={group: dict(counts) for group, counts in counters.groups.items()},
    )


def verdict_record(verdict: results.Verdict) -> VerdictRecord:
    """A verdict as a report holds it; its message is that of the cell ``mesh`` on its part."""
    ruled_out = [f"{RULED_OUT}{sentence}" for sentence in verdict.ruled_out]
    return VerdictRecord(
        component=_component_record(verdict.component),
        confidence=verdict.confidence,
        explains=[cell_record(key) for key in verdict.explains],
        evidence=[storable(sentence) for sentence in (*verdict.evidence, *ruled_out)],
        alternatives=[_component_record(component) for component in verdict.alternatives],
    )


def _component_record(component: results.Component) -> ComponentRecord:
    peer = component.peer
    is_npu = component.kind is results.ComponentKind.NPU
    return ComponentRecord(
        kind=component.kind,
        host=_text(component.host),
        device=component.device,
        peer=PeerRecord(host=storable(peer.host), device=peer.device) if peer else None,
        switch=_text(component.switch),
        value=f"{component.npu} {component.value or ''}".strip() if is_npu else _text(component.value),
    )


def _verdict(record: VerdictRecord) -> results.Verdict:
    ruled_out = [s.removeprefix(RULED_OUT) for s in record.evidence if s.startswith(RULED_OUT)]
    component = _component(record.component)
    return results.Verdict(
        component=component,
        message=results.component_text(component) + " is at fault",
        confidence=record.confidence,
        explains=tuple(results.CellKey(key.check, _subject(key.subject)) for key in record.explains),
        evidence=tuple(sentence for sentence in record.evidence if not sentence.startswith(RULED_OUT)),
        ruled_out=tuple(ruled_out),
        alternatives=tuple(_component(other) for other in record.alternatives),
    )


def _component(record: ComponentRecord) -> results.Component:
    peer, value = record.peer, record.value
    npu = None
    if record.kind is results.ComponentKind.NPU:
        number, _, network = (value or "").partition(" ")
        npu, value = int(number) if number.isdecimal() else None, network or None
    return results.Component(
        kind=record.kind,
        host=record.host,
        device=record.device,
        npu=npu,
        peer=results.Peer(peer.host, peer.device) if peer else None,
        switch=record.switch,
        value=value,
    )


def _text(text: str | None) -> str | None:
    return storable(text) if text else None


def cell_record(key: results.CellKey) -> CellRecord:
    """The name of a cell as a report holds it."""
    return CellRecord(check=storable(key.check), subject=_subject_record(key.subject))


def _subject_record(subject: results.Subject) -> SubjectRecord:
    peer = subject.peer
    return SubjectRecord(
        kind=subject.kind,
        host=_text(subject.host),
        npu=subject.npu,
        chip=subject.chip,
        device=subject.device,
        peer=PeerRecord(host=storable(peer.host), device=peer.device) if peer else None,
        switch=_text(subject.switch),
        group=_text(subject.group),
    )


def _result(record: ResultRecord) -> results.Result:
    cause = record.caused_by
    return results.Result(
        check=record.check,
        subject=_subject(record.subject),
        status=record.status,
        message=record.message,
        expected=record.expected or "",
        actual=record.actual or "",
        consequence=record.consequence or "",
        remedy=record.remedy or "",
        caused_by=results.CellKey(cause.check, _subject(cause.subject)) if cause else None,
        root_fails=record.status is results.Status.SKIPPED and record.evaluated,
        command=record.command or "",
        evidence=record.evidence or "",
    )


def _subject(record: SubjectRecord) -> results.Subject:
    peer = record.peer
    return results.Subject(
        kind=record.kind,
        host=record.host,
        npu=record.npu,
        chip=record.chip,
        device=record.device,
        peer=results.Peer(peer.host, peer.device) if peer else None,
        switch=record.switch,
        group=record.group,
    )


def _host_note(record: HostRecord) -> results.HostNote:
    return results.HostNote(
        name=record.name,
        group=record.group or "",
        accelerator=record.accelerator,
        generation=record.generation,
        devices=record.devices,
        answered=record.answered,
        details=record.details,
    )


def _counters(record: CountersRecord, run_started_at: dt.datetime) -> results.DeviceCounters:
    read_at = record.read_at.astimezone(dt.timezone.utc) if record.read_at else run_started_at
    return results.DeviceCounters(record.host, record.device, read_at, record.groups)


def _read(source: Path | str) -> tuple[str, str | bytes]:
    if isinstance(source, str):
        return "the report", source
    try:
        return str(source), source.read_bytes()
    except OSError as error:
        raise ReportError(
            f"{source}: cannot be read ({error.strerror}). Give the JSON report of an earlier verify."
        ) from None


def _why_unreadable(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_input=True)
    first = problems[0]
    if first["type"] == "json_invalid":
        return (
            f"is not a complete JSON text ({first['ctx']['error']}). "
            "Was the run that wrote it stopped while writing? Give the JSON report of an earlier verify."
        )
    for problem in problems:
        if problem["loc"] == ("schema_version",) and problem["type"] != "missing":
            return (
                f"has schema version {problem['input']!r}, and this ascendctl reads 1.x. "
                "Read it with the ascendctl that wrote it, or a newer one."
            )
    where = ".".join(str(part) for part in first["loc"]) or "its top level"
    more = f" ({len(problems) - 1} more problems)" if len(problems) > 1 else ""
    return (
        f"is no report of ascendctl verify: {where}: {first['msg']}{more}. "
        "`ascendctl report schema` prints what is expected."
    )
