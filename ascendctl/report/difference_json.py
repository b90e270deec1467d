"""The difference of two runs as JSON: its versioned schema, written as a stream.

A reader of version 1.x accepts every 1.y: a minor version only adds fields.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, TextIO

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ascendctl import __version__, results
from ascendctl.report.difference import Change, Difference, Kind
from ascendctl.report.model import (
    CellRecord,
    CoverageRecord,
    ResultRecord,
    cell_record,
    result_record,
)
from ascendctl.report.printable import storable

SCHEMA_VERSION = "1.0"


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


class DifferenceRecord(DifferenceHeader):
    """What changed between two runs of ascendctl verify."""

    changes: list[ChangeRecord]


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a difference."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **DifferenceRecord.model_json_schema(mode="serialization"),
    }


def write_difference(difference: Difference, exit_code: int, stream: TextIO) -> None:
    """Write the difference, one change a line; valid against `schema`, in ASCII. Raises OSError."""
    header = DifferenceHeader(
        schema_version=SCHEMA_VERSION,
        tool_version=__version__,
        exit_code=int(exit_code),
        old=_run(difference.old),
        new=_run(difference.new),
        summary={kind: len(difference.of(kind)) for kind in Kind},
        hosts_added=[storable(host) for host in difference.hosts_added],
        hosts_removed=[storable(host) for host in difference.hosts_removed],
    )
    stream.write(_ascii_json(header)[:-1] + ',\n"changes":[')
    separator = "\n"
    for change in difference.changes:
        stream.write(separator + _ascii_json(_change(change)))
        separator = ",\n"
    stream.write("]}\n")
    stream.flush()


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
