"""The JSON reports of `netloader serve` and `join`, and of `netloader status`, with their schemas.

Parts that do not apply or are not known are null. What an engine is started with beside its plan (its
environment, its further arguments) is left out, since it may hold secrets.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, TextIO

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ascendctl import __version__, results
from ascendctl.netloader.deployment_state import Life
from ascendctl.netloader.evidence import Came, Evidence, RankEvidence
from ascendctl.netloader.log_rules import Stage
from ascendctl.netloader.plan import Engine, Instance, Role
from ascendctl.netloader.proof import Proof, proof_of
from ascendctl.netloader.runs import End, InstanceRun, NetloaderRun, Standing, StatusRun
from ascendctl.netloader.waves import JoinPlan
from ascendctl.report.model import CoverageRecord, ResultRecord, result_record
from ascendctl.report.netloader_words import verdict_line
from ascendctl.report.printable import storable

SCHEMA_VERSION = "1.0"

_Version = Annotated[str, Field(pattern=r"^1\.[0-9]+$")]
_Seconds = Annotated[float, Field(ge=0)]
_Listeners = Annotated[list[str], Field(description="Listeners (address:port) that take joiners.")]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class PlannedRecord(_Record):
    """What an instance was asked to be. `devices` are physical ids; none = not chosen, or no NPU.

    `sources`: for every rank the listeners it asks, in that order. `fingerprint`: SHA-256 of the whole plan,
    equal for equal plans.
    """

    host: str
    address: str
    role: Role
    model: str
    engine: Engine
    devices: list[int]
    tp: int
    pp: int
    ranks: int
    speculative: bool
    port: int
    listen_port: Annotated[int | None, Field(description="Of rank 0; null = any free one.")]
    sources: list[list[str]]
    fingerprint: str


class RankRecord(_Record):
    """One rank's target or draft model: how its weights came, and what says so.

    `came`: p2p = proven to be of a running instance; unknown is never p2p. `verified`: whether every byte was
    compared with the source's digests, null = not known. `decided_by`: lines of the log, or of a status file.
    """

    rank: int
    draft: bool
    came: Came
    source: str | None
    verified: bool | None
    reason: str | None
    decided_by: list[str]


class StageRecord(_Record):
    """`seconds`: from the start of the instance until it was first seen there; late by up to one look."""

    stage: Stage
    seconds: _Seconds


class InstanceRecord(_Record):
    """What became of one instance in this run.

    `proof` sums up its ranks: verified, not verified (came by p2p), fell back to disk, not proven, or not
    wanted (a seed). `ready_s`: from its start to ready. `phase_seconds`: phase of the load → seconds as the
    engine states them, of several ranks the longest. `lines`: of its log, those that tell the reason.
    """

    name: str
    end: End
    ran_already: bool
    proof: Proof
    stage: Stage | None
    reason: str | None
    remedy: str | None
    lines: list[str]
    url: str | None
    serves: _Listeners
    ready_s: _Seconds | None
    stages: list[StageRecord]
    phase_seconds: dict[str, float]
    weights: list[RankRecord]
    notes: list[str]
    planned: PlannedRecord


class JoinRecord(_Record):
    """`sources`: names, the planned one first. `turn`: so many joiners of that source go before it."""

    joiner: str
    sources: list[str]
    turn: Annotated[int, Field(ge=0)]


class WaveRecord(_Record):
    """Joiners that start together, once all of the wave before listen. `estimated_s` null = not known."""

    joins: list[JoinRecord]
    estimated_s: float | None


class JoinPlanRecord(_Record):
    """Who was to take from whom."""

    waves: list[WaveRecord]
    estimated_s: float | None
    notes: list[str]


class NetloaderReport(_Record):
    """One run of ascendctl netloader serve or join.

    `verdict`: the closing line of the terminal's report. `preflight`: the cells judged before anything was
    started, `coverage` and `summary` of these; `gated`: they kept it from starting.
    """

    schema_version: _Version
    tool_version: str
    started_at: AwareDatetime
    duration_s: _Seconds
    interrupted: bool
    exit_code: int
    verdict: str
    command: Annotated[str, Field(description="serve or join.")]
    deployment: str
    engine: Engine
    allow_fallback: bool
    gated: bool
    coverage: CoverageRecord
    summary: dict[results.Status, int]
    instances: list[InstanceRecord]
    plan: JoinPlanRecord | None
    warnings: list[str]
    notes: list[str]
    preflight: list[ResultRecord]


class StandingRecord(_Record):
    """One instance as its host tells now.

    `planned` null: its stored plan cannot be read. `ready` null = not learned. `exit_code`: the one the
    engine ended with. `processes`: live ones, numbered as where they run. `ends_with_login`: whether the
    login manager will end it when its user has logged out; null = not recorded.
    """

    deployment: str
    name: str
    host: str
    life: Life
    ready: bool | None
    stage: Stage | None
    reason: str | None
    runs_s: _Seconds | None
    exit_code: int | None
    processes: list[int]
    ends_with_login: bool | None
    url: str | None
    serves: _Listeners
    proof: Proof | None
    weights: list[RankRecord]
    planned: PlannedRecord | None


class UnaskedRecord(_Record):
    """A host that could not be asked, or only in part, and why."""

    host: str
    reason: str


class StatusReport(_Record):
    """One run of ascendctl netloader status: all instances of the hosts asked."""

    schema_version: _Version
    tool_version: str
    started_at: AwareDatetime
    interrupted: bool
    exit_code: int
    hosts: list[str]
    unasked: list[UnaskedRecord]
    instances: list[StandingRecord]


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a report of `serve` or `join`."""
    return _schema(NetloaderReport)


def status_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a report of `status`."""
    return _schema(StatusReport)


def write_netloader_json(run: NetloaderRun, code: int, stream: TextIO) -> None:
    """Write the report of a run, valid against `schema`. Raises OSError of the stream."""
    _write(netloader_report(run, code), stream)


def netloader_report(run: NetloaderRun, code: int) -> NetloaderReport:
    """The report of a run, to be written or to be part of another one."""
    covered = results.coverage(run.preflight)
    return NetloaderReport(
        schema_version=SCHEMA_VERSION,
        tool_version=__version__,
        started_at=run.started_at.astimezone(dt.timezone.utc),
        duration_s=run.duration_s,
        interrupted=run.interrupted,
        exit_code=int(code),
        verdict=storable(verdict_line(run, code)),
        command=run.verb,
        deployment=storable(run.deployment),
        engine=run.engine,
        allow_fallback=run.allow_fallback,
        gated=run.gated,
        coverage=CoverageRecord(wanted=covered.wanted, evaluated=covered.evaluated, percent=covered.percent),
        summary=results.summary(run.preflight),
        instances=[_instance(one) for one in run.instances],
        plan=_plan(run.plan) if run.plan else None,
        warnings=_texts(run.warnings),
        notes=_texts(run.notes),
        preflight=[result_record(cell) for cell in run.preflight],
    )


def write_status_json(run: StatusRun, code: int, stream: TextIO) -> None:
    """Write the report of a `status`, valid against `status_schema`. Raises OSError of the stream."""
    report = StatusReport(
        schema_version=SCHEMA_VERSION,
        tool_version=__version__,
        started_at=run.started_at.astimezone(dt.timezone.utc),
        interrupted=run.interrupted,
        exit_code=int(code),
        hosts=_texts(run.hosts),
        unasked=[UnaskedRecord(host=storable(host), reason=storable(why)) for host, why in run.unasked],
        instances=[_standing(one) for one in run.standings],
    )
    _write(report, stream)


def _schema(report: type[BaseModel]) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **report.model_json_schema(mode="serialization"),
    }


def _write(report: BaseModel, stream: TextIO) -> None:
    # Plain ASCII, with escapes: right whatever the encoding of the stream.
    stream.write(report.model_dump_json(indent=1, ensure_ascii=True) + "\n")
    stream.flush()


def _instance(one: InstanceRun) -> InstanceRecord:
    return InstanceRecord(
        name=storable(one.instance.name),
        end=one.end,
        ran_already=one.ran_already,
        proof=proof_of(one.instance, one.evidence),
        stage=one.stage,
        reason=_text(one.reason),
        remedy=_text(one.remedy),
        lines=_texts(one.lines),
        url=_text(one.url),
        serves=_texts(one.serves),
        ready_s=one.ready_s,
        stages=[StageRecord(stage=stage, seconds=seconds) for stage, seconds in one.stages],
        phase_seconds={storable(phase): seconds for phase, seconds in one.seconds},
        weights=_weights(one.evidence),
        notes=_texts(one.notes),
        planned=_planned(one.instance),
    )


def _standing(one: Standing) -> StandingRecord:
    seen, state = one.seen, one.seen.state
    return StandingRecord(
        deployment=storable(seen.deployment),
        name=storable(seen.instance),
        host=storable(one.host),
        life=seen.life,
        ready=one.ready,
        stage=one.stage,
        reason=_text(one.reason or seen.reason),
        runs_s=one.runs_s,
        exit_code=seen.exit_code,
        processes=list(seen.members),
        ends_with_login=state.ends_with_the_login if state else None,
        url=_text(one.url),
        serves=_texts(one.serves),
        proof=proof_of(one.instance, one.evidence) if one.instance else None,
        weights=_weights(one.evidence),
        planned=_planned(one.instance) if one.instance else None,
    )


def _planned(one: Instance) -> PlannedRecord:
    serving = one.serving
    return PlannedRecord(
        host=storable(one.host),
        address=storable(one.place.address),
        role=one.role,
        model=storable(serving.model),
        engine=serving.engine,
        devices=list(one.place.devices),
        tp=serving.tp,
        pp=serving.pp,
        ranks=one.ranks,
        speculative=serving.speculative,
        port=one.port,
        listen_port=one.listen_port,
        sources=[_texts(listeners) for listeners in one.sources],
        fingerprint=one.fingerprint,
    )


def _weights(found: Evidence | None) -> list[RankRecord]:
    return [_rank(one) for one in found.ranks] if found else []


def _rank(one: RankEvidence) -> RankRecord:
    return RankRecord(
        rank=one.rank,
        draft=one.draft,
        came=one.came,
        source=_text(one.source),
        verified=one.verified,
        reason=_text(one.reason),
        decided_by=_texts(one.decided_by),
    )


def _plan(plan: JoinPlan) -> JoinPlanRecord:
    return JoinPlanRecord(
        waves=[
            WaveRecord(
                joins=[
                    JoinRecord(joiner=storable(one.joiner), sources=_texts(one.sources), turn=one.turn)
                    for one in wave.joins
                ],
                estimated_s=wave.seconds,
            )
            for wave in plan.waves
        ],
        estimated_s=plan.seconds,
        notes=_texts(plan.notes),
    )


def _text(text: str | None) -> str | None:
    return storable(text) if text else None


def _texts(texts: tuple[str, ...]) -> list[str]:
    return [storable(text) for text in texts]
