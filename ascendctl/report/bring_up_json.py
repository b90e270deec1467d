"""The JSON report of `bring-up` with its schema, and the files of ``--output``. Absent parts are null."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Any, TextIO

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ascendctl import __version__, results
from ascendctl.bring_up import BringUpRun, Course, Step, StepRun, Verified
from ascendctl.consistency.verdicts import ConsistencyRun
from ascendctl.netloader.runs import NetloaderRun
from ascendctl.report.bring_up_words import closing_line, told
from ascendctl.report.consistency_html import write_consistency_html
from ascendctl.report.consistency_json import ConsistencyReport, consistency_report, write_consistency_json
from ascendctl.report.consistency_output import FILE_NAMES, ConsistencyFormat
from ascendctl.report.json_report import write_json
from ascendctl.report.model import CoverageRecord, ResultRecord, result_record
from ascendctl.report.netloader_json import NetloaderReport, netloader_report, write_netloader_json
from ascendctl.report.output import whole_files
from ascendctl.report.printable import storable

SCHEMA_VERSION = "1.0"
REPORT_NAME = "bring-up.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class VerifyRecord(_Record):
    """The cells of `verify` that the start of an engine depends on. `warnings`: of its environment."""

    started_at: AwareDatetime
    duration_s: Annotated[float, Field(ge=0)]
    coverage: CoverageRecord
    summary: dict[results.Status, int]
    results: list[ResultRecord]
    warnings: list[str]


class StepRecord(_Record):
    """One step. `exit_code`: of its own command, null where it was not taken. `reasons`: why it stopped, was
    not reached, or was left out. At most one of `verify`, `netloader` and `consistency` is there."""

    step: Step
    course: Course
    exit_code: int | None
    reasons: list[str]
    verify: VerifyRecord | None
    netloader: NetloaderReport | None
    consistency: ConsistencyReport | None


class ClaimRecord(_Record):
    proven: bool
    text: str


class BringUpReport(_Record):
    """One run of ascendctl bring-up. `verdict`: the closing line of the terminal's report; `claims`: what it
    is made of. `started`: names of instances of which something may run now."""

    schema_version: Annotated[str, Field(pattern=r"^1\.[0-9]+$")]
    tool_version: str
    started_at: AwareDatetime
    duration_s: Annotated[float, Field(ge=0)]
    interrupted: bool
    exit_code: int
    verdict: str
    deployment: str
    claims: list[ClaimRecord]
    started: list[str]
    steps: list[StepRecord]


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a report."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **BringUpReport.model_json_schema(mode="serialization"),
    }


def write_bring_up_json(run: BringUpRun, stream: TextIO) -> None:
    """Write the report of a run, valid against `schema`. Raises OSError of the stream."""
    report = BringUpReport(
        schema_version=SCHEMA_VERSION,
        tool_version=__version__,
        started_at=run.started_at.astimezone(dt.timezone.utc),
        duration_s=run.duration_s,
        interrupted=run.interrupted,
        exit_code=int(run.exit_code),
        verdict=storable(closing_line(run)),
        deployment=storable(run.name),
        claims=[ClaimRecord(proven=one.proven, text=storable(one.text)) for one in told(run)],
        started=[storable(one.instance.name) for one in run.started],
        steps=[_step(one) for one in run.steps],
    )
    # Plain ASCII, with escapes: right whatever the encoding of the stream.
    stream.write(report.model_dump_json(indent=1, ensure_ascii=True) + "\n")
    stream.flush()


def write_bring_up_reports(run: BringUpRun, directory: Path) -> tuple[Path, ...]:
    """Write the whole report and each step's own, all or none; returns the files. Raises OutputError.

    Those of an earlier run whose step was not taken now are removed: the folder tells of one run.
    """
    page, answers = FILE_NAMES[ConsistencyFormat.HTML], FILE_NAMES[ConsistencyFormat.JSON]
    with whole_files(directory) as create:
        with create(REPORT_NAME) as stream:
            write_bring_up_json(run, stream)
        written = [REPORT_NAME]
        for one in run.steps:
            result, code = one.result, one.exit_code
            if result is None or code is None:
                continue
            name = answers if isinstance(result, ConsistencyRun) else f"{one.step.value}.json"
            written.append(name)
            with create(name) as stream:
                if isinstance(result, Verified):
                    write_json(result.run, code, stream)
                elif isinstance(result, NetloaderRun):
                    write_netloader_json(result, code, stream)
                else:
                    write_consistency_json(result, code, stream)
            if isinstance(result, ConsistencyRun):
                written.append(page)
                with create(page) as stream:
                    write_consistency_html(result, code, stream)
        for name in (*(f"{step.value}.json" for step in Step), answers, page):
            if name not in written:
                (directory / name).unlink(missing_ok=True)
    return tuple(directory / name for name in written)


def _step(one: StepRun) -> StepRecord:
    result, code = one.result, int(one.exit_code or 0)
    return StepRecord(
        step=one.step,
        course=one.course,
        exit_code=None if one.exit_code is None else code,
        reasons=[storable(reason) for reason in one.reasons],
        verify=_verify(result) if isinstance(result, Verified) else None,
        netloader=netloader_report(result, code) if isinstance(result, NetloaderRun) else None,
        consistency=consistency_report(result, code) if isinstance(result, ConsistencyRun) else None,
    )


def _verify(found: Verified) -> VerifyRecord:
    run = found.run
    covered = results.coverage(run.results)
    return VerifyRecord(
        started_at=run.started_at.astimezone(dt.timezone.utc),
        duration_s=run.duration_s,
        coverage=CoverageRecord(wanted=covered.wanted, evaluated=covered.evaluated, percent=covered.percent),
        summary=results.summary(run.results),
        results=[result_record(cell) for cell in run.results],
        warnings=[storable(text) for text in found.warnings],
    )
