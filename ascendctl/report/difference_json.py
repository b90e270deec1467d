"""The difference of two runs as JSON: its versioned schema, written as a stream.

A reader of version 1.x accepts every 1.y: a minor version only adds fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any, TextIO

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ascendctl import __version__, results
from ascendctl.report.difference import Change, Difference, Kind
from ascendctl.report.difference_counters import CounterChange, CounterKind
from ascendctl.report.model import (
    CellRecord,
    CoverageRecord,
    ResultRecord,
    cell_record,
    result_record,
)
from ascendctl.report.printable import storable

SCHEMA_VERSION = "1.1"  # 1.1: counters


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class RunRecord(_Record):
    """One of the two runs."""

    started_at: AwareDatetime
    interrupted: bool
    hosts: int
    coverage: CoverageRecord


class ChangeRecord(_Record):
    """One cell. `before` is what was seen when it was last looked at; null where there is nothing.

    Where `now` is of another subject than `cell`, it stands in for it: a host for its devices.
    """

    kind: Kind
    cell: CellRecord
    before: ResultRecord | None
    now: ResultRecord | None


class CounterChangeRecord(_Record):
    """One error counter of one device, under the name that the tool prints.

    `growth` is what was counted between the two readings; of a restarted counter, what it counted since,
    be it 0. `severity` is `fail` where a count means that something broke, `warn` where the hardware
    corrected or repeated it. `per_hour` is null where no time lies between the readings.
    """

    kind: CounterKind
    host: str
    device: int
    group: str
    name: str
    severity: results.Status
    meaning: str
    before: Annotated[int, Field(ge=0)]
    now: Annotated[int, Field(ge=0)]
    growth: Annotated[int, Field(ge=0)]
    elapsed_s: float
    per_hour: float | None


class DifferenceHeader(_Record):
    """Everything of a difference that comes before its changes."""

    schema_version: Annotated[str, Field(pattern=r"^1\.[0-9]+$")]
    tool_version: str
    exit_code: int
    old: RunRecord
    new: RunRecord
    summary: Annotated[dict[Kind, int], Field(description="Number of cells per kind of change.")]
    hosts_added: list[str]
    hosts_removed: list[str]
    counters_compared: Annotated[
        dict[str, int], Field(description="Number of devices per group of counters that both runs hold.")
    ]


class DifferenceRecord(DifferenceHeader):
    """What changed between two runs of ascendctl verify."""

    changes: list[ChangeRecord]
    counters: list[CounterChangeRecord]


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a difference."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **DifferenceRecord.model_json_schema(mode="serialization"),
    }


def write_difference(difference: Difference, exit_code: int, stream: TextIO) -> None:
    """Write the difference, a change or counter a line; valid against `schema`, in ASCII. Raises OSError."""
    header = DifferenceHeader(
        schema_version=SCHEMA_VERSION,
        tool_version=__version__,
        exit_code=int(exit_code),
        old=_run(difference.old),
        new=_run(difference.new),
        summary={kind: len(difference.of(kind)) for kind in Kind},
        hosts_added=[storable(host) for host in difference.hosts_added],
        hosts_removed=[storable(host) for host in difference.hosts_removed],
        counters_compared=dict(difference.counters.compared),
    )
    stream.write(_ascii_json(header)[:-1])
    _write_array(stream, "changes", (_change(change) for change in difference.changes))
    _write_array(stream, "counters", (_counter_change(change) for change in difference.counters.changes))
    stream.write("}\n")
    stream.flush()


def _write_array(stream: TextIO, name: str, records: Iterable[BaseModel]) -> None:
    stream.write(f',\n"{name}":[')
    separator = "\n"
    for record in records:
        stream.write(separator + _ascii_json(record))
        separator = ",\n"
    stream.write("]")


def _ascii_json(record: BaseModel) -> str:
    return json.dumps(record.model_dump(mode="json"), separators=(",", ":"))


def _run(run: results.Run) -> RunRecord:
    covered = results.coverage(run.results)
    return RunRecord(
        started_at=run.started_at,
        interrupted=run.interrupted,
        hosts=len(run.hosts),
        coverage=CoverageRecord(wanted=covered.wanted, evaluated=covered.evaluated, percent=covered.percent),
    )


def _change(change: Change) -> ChangeRecord:
    return ChangeRecord(
        kind=change.kind,
        cell=cell_record(change.key),
        before=result_record(change.before) if change.before else None,
        now=result_record(change.now) if change.now else None,
    )


def _counter_change(change: CounterChange) -> CounterChangeRecord:
    return CounterChangeRecord(
        kind=change.kind,
        host=storable(change.host),
        device=change.device,
        group=change.counter.group,
        name=change.counter.name,
        severity=change.severity,
        meaning=change.counter.meaning,
        before=change.before,
        now=change.now,
        growth=change.growth,
        elapsed_s=change.elapsed_s,
        per_hour=change.per_hour,
    )
