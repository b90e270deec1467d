"""The JSON report of `consistency-test`, and its schema. Parts that do not apply are null."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, TextIO

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ascendctl import __version__, results
from ascendctl.consistency.answers import Answer
from ascendctl.consistency.compare import Delta, Divergence, Outcome
from ascendctl.consistency.observed import Log, Round
from ascendctl.consistency.verdicts import CandidateVerdict, ConsistencyRun, Noise, PromptVerdict, Verdict
from ascendctl.report.model import CoverageRecord, ResultRecord, result_record
from ascendctl.report.printable import storable

SCHEMA_VERSION = "1.0"
STEPS_AROUND = 3  # tokens told before and after the one where answers part


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class ServerRecord(_Record):
    """One server: what it says of itself, null or absent where it does not tell."""

    name: str
    url: str
    model: str | None
    served: list[str]
    root: str | None
    setup: Annotated[dict[str, str], Field(description="vLLM version, fingerprint, dtype and the like.")]
    features: Annotated[list[str], Field(description="Request fields that /v1/completions heeds.")]
    chat_features: Annotated[list[str], Field(description="The same for /v1/chat/completions.")]


class NoiseRecord(_Record):
    """How the reference differs from itself, in nats; `floor` null where that cannot be told."""

    round: Round
    prompts: int
    floor: float | None
    differing: list[str]
    cached_differing: Annotated[
        list[str] | None, Field(description="Prompts whose answers a filled prefix cache changes.")
    ]
    cached_delta: float


class DeltaRecord(_Record):
    """The largest difference of a logprob, in nats, and its position."""

    largest: float
    position: int


class StepRecord(_Record):
    """One generated token of one side: its id (or text), its logprob, and the likeliest with theirs."""

    position: int
    token: str
    text: str | None
    logprob: float | None
    top: dict[str, float]


class SideRecord(_Record):
    """One side of a comparison: the whole text, and the tokens around the place where answers part."""

    text: str
    finish_reason: str
    tokens: int
    around: list[StepRecord]


class DivergenceRecord(_Record):
    """Where answers part: at a token, or at a character where only texts are known."""

    position: int
    by_token: bool
    reference_token: str | None
    candidate_token: str | None
    reference_logprob: float | None
    candidate_logprob: float | None
    gap: float | None
    near_tie: bool


class PromptRecord(_Record):
    """One prompt in one round; outcome and what follows are null where it was not compared."""

    id: str
    round: Round
    kind: str
    language: str
    status: results.Status
    outcome: Outcome | None
    message: str
    divergence: DivergenceRecord | None
    generated: DeltaRecord | None
    generated_positions: int | None
    prompt: DeltaRecord | None
    prompt_positions: int | None
    repeats: bool | None
    reference: SideRecord | None
    candidate: SideRecord | None


class CandidateRecord(_Record):
    server: ServerRecord
    verdict: Verdict
    text_alone: bool
    reasons: list[str]
    prompts: list[PromptRecord]


class ConsistencyReport(_Record):
    """One run of ascendctl consistency-test."""

    schema_version: Annotated[str, Field(pattern=r"^1\.[0-9]+$")]
    tool_version: str
    started_at: AwareDatetime
    duration_s: Annotated[float, Field(ge=0)]
    interrupted: bool
    exit_code: int
    max_tokens: int
    concurrency: int
    coverage: CoverageRecord
    summary: dict[results.Status, int]
    reference: ServerRecord
    noise: list[NoiseRecord]
    left_out: Annotated[dict[str, str], Field(description="Prompts that do not apply here, with the reason.")]
    candidates: list[CandidateRecord]
    results: list[ResultRecord]


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a report."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **ConsistencyReport.model_json_schema(mode="serialization"),
    }


def write_consistency_json(run: ConsistencyRun, exit_code: int, stream: TextIO) -> None:
    """Write the report of a run, valid against `schema`. Raises OSError of the stream."""
    # Plain ASCII, with escapes: right whatever the encoding of the stream.
    stream.write(consistency_report(run, exit_code).model_dump_json(indent=1, ensure_ascii=True) + "\n")
    stream.flush()


def consistency_report(run: ConsistencyRun, exit_code: int) -> ConsistencyReport:
    """The report of a run, to be written or to be part of another one."""
    seen = run.observation
    covered = results.coverage(run.results)
    return ConsistencyReport(
        schema_version=SCHEMA_VERSION,
        tool_version=__version__,
        started_at=run.started_at.astimezone(dt.timezone.utc),
        duration_s=run.duration_s,
        interrupted=run.interrupted,
        exit_code=int(exit_code),
        max_tokens=seen.max_tokens,
        concurrency=seen.concurrency,
        coverage=CoverageRecord(wanted=covered.wanted, evaluated=covered.evaluated, percent=covered.percent),
        summary=results.summary(run.results),
        reference=_server(seen.reference),
        noise=[_noise(one) for one in run.noise],
        left_out={name: storable(reason) for name, reason in seen.left_out.items()},
        candidates=[
            _candidate(one, log, seen.token_texts)
            for one, log in zip(run.candidates, seen.candidates, strict=True)
        ],
        results=[result_record(cell) for cell in run.results],
    )


def _server(log: Log) -> ServerRecord:
    facts = log.facts
    return ServerRecord(
        name=log.server.name,
        url=log.server.url,
        model=storable(facts.model) if facts and facts.model else None,
        served=[storable(name) for name in facts.served] if facts else [],
        root=storable(facts.root) if facts and facts.root else None,
        setup={name: storable(value) for name, value in facts.told().items()} if facts else {},
        features=sorted(one.value for one in facts.completions.features) if facts else [],
        chat_features=sorted(one.value for one in facts.chat.features) if facts else [],
    )


def _noise(one: Noise) -> NoiseRecord:
    return NoiseRecord(
        round=one.round,
        prompts=one.prompts,
        floor=one.floor,
        differing=list(one.differing),
        cached_differing=None if one.cached_differing is None else list(one.cached_differing),
        cached_delta=one.cached_delta,
    )


def _candidate(one: CandidateVerdict, log: Log, texts: Mapping[str, str]) -> CandidateRecord:
    return CandidateRecord(
        server=_server(log),
        verdict=one.verdict,
        text_alone=one.text_alone,
        reasons=[storable(reason) for reason in one.reasons],
        prompts=[_prompt(each, texts) for each in one.prompts],
    )


def _prompt(one: PromptVerdict, texts: Mapping[str, str]) -> PromptRecord:
    found = one.comparison
    parted = found.divergence if found else None
    at = parted.position if parted and parted.by_token else None
    return PromptRecord(
        id=one.prompt.id,
        round=one.round,
        kind="chat" if one.prompt.chat else "completion",
        language=one.prompt.language,
        status=one.cell.status,
        outcome=one.outcome,
        message=storable(one.cell.message),
        divergence=_divergence(parted, one.near_tie) if parted else None,
        generated=_delta(found.generated) if found else None,
        generated_positions=found.positions if found else None,
        prompt=_delta(found.prompt) if found else None,
        prompt_positions=found.prompt_positions if found else None,
        repeats=one.repeats,
        reference=_side(one.reference, at, texts),
        candidate=_side(one.candidate, at, texts),
    )


def _divergence(one: Divergence, near_tie: bool) -> DivergenceRecord:
    return DivergenceRecord(
        position=one.position,
        by_token=one.by_token,
        reference_token=_stored(one.reference_token),
        candidate_token=_stored(one.candidate_token),
        reference_logprob=one.reference_logprob,
        candidate_logprob=one.candidate_logprob,
        gap=one.gap,
        near_tie=near_tie,
    )


def _side(answer: Answer | None, at: int | None, texts: Mapping[str, str]) -> SideRecord | None:
    if answer is None:
        return None
    around = range(0, 0) if at is None else range(max(0, at - STEPS_AROUND), at + STEPS_AROUND + 1)
    return SideRecord(
        text=storable(answer.text),
        finish_reason=answer.finish_reason,
        tokens=len(answer.steps),
        around=[
            StepRecord(
                position=position,
                token=storable(answer.steps[position].token),
                text=_stored(texts.get(answer.steps[position].token)),
                logprob=answer.steps[position].logprob,
                top={storable(token): value for token, value in answer.steps[position].top.items()},
            )
            for position in around
            if position < len(answer.steps)
        ],
    )


def _delta(one: Delta | None) -> DeltaRecord | None:
    return DeltaRecord(largest=one.largest, position=one.position) if one else None


def _stored(text: str | None) -> str | None:
    return None if text is None else storable(text)
