"""What an observation comes to: cells as in `verify`, and one verdict per candidate. Pure.

A candidate is only called identical where every prompt that applies was answered by both and nothing that
was compared differs. What the reference does to itself is never blamed on a candidate: it sets the noise
floor, and a floor too high to see a wrong weight under proves nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from ascendctl.consistency.answers import Answer, Naming
from ascendctl.consistency.compare import Comparison, Outcome, closest, compare, near_tie, noise, outcome
from ascendctl.consistency.identity import configuration, model, tokenizer, weights
from ascendctl.consistency.observed import Asked, Log, Observation, Round
from ascendctl.consistency.prompts import Prompt
from ascendctl.consistency.servers import Server, ServerFacts
from ascendctl.results import CellKey, HostNote, Result, Run, Status, Subject, host_subject

# In nats. vLLM without batch invariance drifts by up to 2.6e-2 (vllm#52701); twice that still leaves a wrong
# weight to be seen. A server that samples, or serves others of another model in turns, is far above.
MOST_NOISE = 0.05

_REPEATABLE = (
    "Make it repeat itself: no other traffic meanwhile, temperature 0 not overridden, VLLM_BATCH_INVARIANT=1 "
    "where the hardware has it; on Ascend HCCL_DETERMINISTIC=strict and LCCL_DETERMINISTIC=1."
)
_TEXT_ALONE = "one flipped bit of a weight often changes no token, so equal texts prove little"


class Verdict(str, Enum):
    """Of one candidate, the best first."""

    IDENTICAL = "identical"
    CLOSE = "numerically close"
    DIFFERENT = "different"
    NOT_PROVEN = "not proven"


@dataclass(frozen=True)
class Noise:
    """How the reference differs from itself in one round, in nats; ``floor`` None where it cannot be told.

    ``differing`` of the ``prompts`` asked twice had answers that differ. ``cached_*``: the same between an
    empty and a filled prefix cache, None where noise hides it.
    """

    round: Round
    prompts: int
    floor: float | None
    differing: tuple[str, ...] = ()
    cached_differing: tuple[str, ...] | None = None
    cached_delta: float = 0.0

    @property
    def usable(self) -> bool:
        return self.floor is not None and self.floor <= MOST_NOISE


@dataclass(frozen=True)
class PromptVerdict:
    """One prompt in one round. Comparison and answers are None where it was not compared.

    ``repeats``: whether a candidate that differs gave its own answer again when asked once more.
    """

    prompt: Prompt
    round: Round
    cell: Result
    outcome: Outcome | None = None
    comparison: Comparison | None = None
    reference: Answer | None = None
    candidate: Answer | None = None
    near_tie: bool = False
    repeats: bool | None = None


@dataclass(frozen=True)
class CandidateVerdict:
    """``reasons`` are sentences: what the verdict rests on, the most telling first."""

    server: Server
    facts: ServerFacts | None
    verdict: Verdict
    reasons: tuple[str, ...]
    prompts: tuple[PromptVerdict, ...]
    text_alone: bool

    @property
    def compared(self) -> tuple[PromptVerdict, ...]:
        return tuple(one for one in self.prompts if one.comparison is not None)


@dataclass(frozen=True)
class ConsistencyRun:
    """One run: everything a report is made from."""

    started_at: dt.datetime
    duration_s: float
    observation: Observation
    noise: tuple[Noise, ...]
    candidates: tuple[CandidateVerdict, ...]
    results: tuple[Result, ...]

    @property
    def interrupted(self) -> bool:
        return self.observation.interrupted

    def as_run(self) -> Run:
        """Its cells as a run of `verify` has them, for reports that tell of cells: servers are its hosts."""
        logs = (self.observation.reference, *self.observation.candidates)
        notes = tuple(
            HostNote(log.server.name, answered=log.facts is not None, details=log.facts.told())
            if log.facts
            else HostNote(log.server.name)
            for log in logs
        )
        return Run(self.started_at, self.duration_s, self.results, notes, self.interrupted)


def judge(seen: Observation, started_at: dt.datetime, duration_s: float) -> ConsistencyRun:
    """Judge what was learned, whole or not."""
    noises = tuple(_noise_of(seen, round_) for round_ in seen.rounds)
    ours = tuple(_of_reference(seen, noises))
    by_key = {cell.key: cell for cell in ours}
    candidates = []
    cells = list(ours)
    for log in seen.candidates:
        of_server = tuple(_of_candidate(seen, log))
        prompts = tuple(_prompts(seen, log, noises, {**by_key, **{cell.key: cell for cell in of_server}}))
        compared = [one for one in prompts if one.comparison is not None]
        own = [*of_server, *(one.cell for one in prompts), *_evidence(seen, log, compared)]
        cells += own
        candidates.append(_verdict(log, own, prompts, seen))
    return ConsistencyRun(started_at, duration_s, seen, noises, tuple(candidates), tuple(cells))


# --- the reference --------------------------------------------------------------------------------


def _noise_of(seen: Observation, round_: Round) -> Noise:
    floors: dict[str, float | None] = {}
    cached: dict[str, float] = {}
    for (of, prompt), asked in seen.reference.answers.items():
        if of is not round_ or len(asked.measured) < 2:
            continue
        floors[prompt] = noise(asked.measured)
        if asked.other is not None:
            # The other state was asked without the prompt's logprobs.
            found = compare(asked.measured[0], asked.other, prompts=False)
            if not found.exact:
                cached[prompt] = found.largest_delta
    differing = tuple(prompt for prompt, floor in floors.items() if floor != 0)
    known = [floor for floor in floors.values() if floor is not None]
    return Noise(
        round=round_,
        prompts=len(floors),
        floor=max(known, default=0.0) if len(known) == len(floors) else None,
        differing=differing,
        cached_differing=None if differing else tuple(cached),
        cached_delta=max(cached.values(), default=0.0),
    )


def _of_reference(seen: Observation, noises: Sequence[Noise]) -> Iterator[Result]:
    log = seen.reference
    subject = _subject(log)
    yield _reachable(log, seen)
    if log.facts is None:
        return
    yield model(log, seen, subject)
    for found in noises:
        if found.prompts:
            yield _deterministic(found, subject)
            if found.cached_differing is not None and found.round is Round.ALONE:
                yield _prefix_cache(found, subject, seen)
    for (round_, prompt), asked in log.answers.items():
        if asked.problem and not asked.too_long and log.lost is None:
            yield Result(
                _prompt_check(prompt, round_),
                subject,
                Status.UNKNOWN,
                f"the reference gave no answer to compare with: {asked.problem.message}",
                remedy=asked.problem.remedy,
            )


def _reachable(log: Log, seen: Observation) -> Result:
    subject = _subject(log)
    if log.lost is None and log.facts is None:
        return Result("reachable", subject, Status.UNKNOWN, f"not asked: {_why_stopped(seen)}")
    if log.lost is None:
        version = f", vLLM {log.facts.version}" if log.facts and log.facts.version else ""
        return Result("reachable", subject, Status.PASS, f"answers{version}")
    answered = sum(bool(asked.measured) for asked in log.answers.values())
    before = f"it answered {answered} prompts, then: " if answered else ""
    return Result("reachable", subject, Status.UNKNOWN, f"{before}{log.lost.message}", remedy=log.lost.remedy)


def _deterministic(found: Noise, subject: Subject) -> Result:
    check = "deterministic" if found.round is Round.ALONE else f"deterministic-{found.round.value}"
    if found.floor == 0:
        return Result(
            check, subject, Status.PASS, f"{found.prompts} prompts asked again: every answer exactly equal"
        )
    how = f"by up to {nats(found.floor)}" if found.floor is not None else "by an amount that nothing tells"
    share = f"{len(found.differing)} of {found.prompts} prompts"
    said = f"the reference does not repeat itself: {share} differ {how}"
    if found.usable:
        return Result(check, subject, Status.WARN, f"{said}, which is the noise floor", remedy=_REPEATABLE)
    return Result(
        check,
        subject,
        Status.UNKNOWN,
        f"{said}: nothing can be proven against it",
        expected=f"a difference from itself of {nats(MOST_NOISE)} at most",
        remedy=_REPEATABLE,
    )


def _prefix_cache(found: Noise, subject: Subject, seen: Observation) -> Result:
    assert found.cached_differing is not None
    if not found.cached_differing:
        return Result("prefix-cache", subject, Status.PASS, "answers from a filled prefix cache are the same")
    neutral = all(seen.salted(chat=prompt.chat) for prompt in seen.prompts if prompt.id not in seen.left_out)
    return Result(
        "prefix-cache",
        subject,
        Status.WARN,
        f"its prefix cache changes the answers to {len(found.cached_differing)} of {found.prompts} prompts, "
        f"logprobs by up to {nats(found.cached_delta)}",
        consequence="candidates are compared from an empty cache only"
        if neutral
        else "not every server takes cache_salt: all are compared from a warmed cache",
        remedy="Serve with --no-enable-prefix-caching, or with VLLM_BATCH_INVARIANT=1, for equal answers.",
    )


# --- a candidate ----------------------------------------------------------------------------------


def _of_candidate(seen: Observation, log: Log) -> Iterator[Result]:
    subject = _subject(log)
    yield _reachable(log, seen)
    if log.facts is None:
        return
    yield model(log, seen, subject)
    if log.facts.model and seen.reference.facts is not None and seen.reference.facts.model:
        yield configuration(log.facts, seen.reference.facts, subject)
        yield tokenizer(log, seen, subject)
        if log.digests is not None or log.digest_problem:
            yield weights(log, seen.reference, subject)


def _prompts(
    seen: Observation, log: Log, noises: Sequence[Noise], known: dict[CellKey, Result]
) -> Iterator[PromptVerdict]:
    for found in noises:
        for prompt in seen.prompts:
            yield _prompt(seen, log, found, prompt, known)


def _prompt(
    seen: Observation, log: Log, found: Noise, prompt: Prompt, known: dict[CellKey, Result]
) -> PromptVerdict:
    check, subject = _prompt_check(prompt.id, found.round), _subject(log)
    ours = seen.reference.answers.get((found.round, prompt.id), Asked())
    theirs = log.answers.get((found.round, prompt.id), Asked())
    not_applicable = seen.left_out.get(prompt.id, "")
    for asked in (ours, theirs):
        if asked.too_long and asked.problem:
            not_applicable = asked.problem.message
    if not_applicable:
        cell = Result(check, subject, Status.NOT_APPLICABLE, not_applicable)
        return PromptVerdict(prompt, found.round, cell)
    if cause := _cause(seen, log, found, check, ours, theirs, known):
        cell = Result(
            check,
            subject,
            Status.SKIPPED,
            "not compared",
            caused_by=cause.key,
            root_fails=cause.status is Status.FAIL,
        )
        return PromptVerdict(prompt, found.round, cell)
    if theirs.problem or not theirs.measured or len(ours.measured) < 2:
        message = theirs.problem.message if theirs.problem else f"not asked: {_why_stopped(seen)}"
        remedy = theirs.problem.remedy if theirs.problem else ""
        return PromptVerdict(
            prompt, found.round, Result(check, subject, Status.UNKNOWN, message, remedy=remedy)
        )
    return _compared(seen, found, prompt, subject, ours, theirs)


def _cause(
    seen: Observation,
    log: Log,
    found: Noise,
    check: str,
    ours: Asked,
    theirs: Asked,
    known: dict[CellKey, Result],
) -> Result | None:
    """The cell that explains why this prompt was not compared, where there is one."""
    reference, candidate = _subject(seen.reference), _subject(log)
    of_noise = "deterministic" if found.round is Round.ALONE else f"deterministic-{found.round.value}"
    keys = [CellKey("model", reference), CellKey(check, reference)]
    if len(ours.measured) < 2:
        keys.append(CellKey("reachable", reference))
    if not found.usable:
        keys.append(CellKey(of_noise, reference))
    keys.append(CellKey("model", candidate))
    if not theirs.measured:
        keys.append(CellKey("reachable", candidate))
    stands = (Status.FAIL, Status.UNKNOWN)
    return next((known[key] for key in keys if key in known and known[key].status in stands), None)


def _compared(
    seen: Observation, found: Noise, prompt: Prompt, subject: Subject, ours: Asked, theirs: Asked
) -> PromptVerdict:
    assert found.floor is not None
    noisy = found.floor > 0
    # A reference that repeats itself has one answer; any of a noisy one's may be met.
    comparison = closest(ours.measured if noisy else ours.measured[:1], theirs.measured)
    came_to = outcome(comparison, found.floor)
    status = {Outcome.IDENTICAL: Status.PASS, Outcome.CLOSE: Status.WARN}.get(came_to, Status.FAIL)
    repeats = None
    if came_to is Outcome.DIFFERENT and theirs.again is not None:
        repeats = compare(theirs.measured[0], theirs.again).exact
    tie = comparison.divergence is not None and near_tie(comparison.divergence, found.floor)
    cell = Result(
        _prompt_check(prompt.id, found.round),
        subject,
        status,
        comparison_text(comparison, seen.token_texts, tie),
        expected="" if status is Status.PASS else f"equal, up to the noise floor of {nats(found.floor)}",
    )
    return PromptVerdict(
        prompt,
        found.round,
        cell,
        came_to,
        comparison,
        ours.measured[0],
        theirs.measured[0],
        tie,
        repeats,
    )


def _evidence(seen: Observation, log: Log, compared: Sequence[PromptVerdict]) -> Iterator[Result]:
    """What the comparison rests on; that nothing was compared is a cell too, so that it is never green."""
    subject = _subject(log)
    if not compared:
        if log.facts is not None and log.facts.model and log.lost is None and seen.reference.lost is None:
            yield Result("evidence", subject, Status.UNKNOWN, "no prompt could be compared")
        return
    words = any(one.reference and (one.reference.steps or one.reference.text) for one in compared)
    if not words:
        yield Result("evidence", subject, Status.UNKNOWN, "every answer is empty, which proves nothing")
        return
    without = [one for one in compared if one.comparison and not one.comparison.positions]
    if without:
        what = "tokens" if all(_by_ids(one) for one in without) else "text"
        lacking = _who_lacks(seen, log)
        some = "" if len(without) == len(compared) else f" for {len(without)} of {len(compared)} prompts"
        yield Result(
            "evidence",
            subject,
            Status.WARN,
            f"rests on {what} alone{some}: {lacking} no logprobs",
            consequence=_TEXT_ALONE,
            remedy="Let the servers return logprobs (vLLM: --max-logprobs above 0).",
        )
        return
    prompts = sum(one.comparison.prompt_positions for one in compared if one.comparison)
    generated = sum(one.comparison.positions for one in compared if one.comparison)
    also = (
        f" and {prompts:,} prompt tokens" if prompts else "; not of the prompts, whose logprobs not both told"
    )
    yield Result("evidence", subject, Status.PASS, f"logprobs of {generated:,} generated tokens{also}")


def _by_ids(one: PromptVerdict) -> bool:
    return bool(one.reference and one.candidate) and all(
        answer is not None and answer.naming is Naming.IDS for answer in (one.reference, one.candidate)
    )


def _who_lacks(seen: Observation, log: Log) -> str:
    def tells(one: Log) -> bool:
        return any(answer.has_logprobs for asked in one.answers.values() for answer in asked.measured)

    if not tells(seen.reference):
        return "neither server tells" if not tells(log) else "the reference tells"
    return "the candidate tells"


def _verdict(
    log: Log, cells: Sequence[Result], prompts: tuple[PromptVerdict, ...], seen: Observation
) -> CandidateVerdict:
    statuses = {cell.status for cell in cells if cell.wanted}
    compared = [one for one in prompts if one.comparison is not None]
    if Status.FAIL in statuses:
        verdict = Verdict.DIFFERENT
    elif not compared or not all(cell.evaluated for cell in cells if cell.wanted):
        verdict = Verdict.NOT_PROVEN
    elif any(one.outcome is Outcome.CLOSE for one in compared):
        verdict = Verdict.CLOSE
    else:
        verdict = Verdict.IDENTICAL
    text_alone = bool(compared) and not any(one.comparison and one.comparison.positions for one in compared)
    return CandidateVerdict(
        log.server, log.facts, verdict, tuple(_reasons(cells, prompts, seen)), prompts, text_alone
    )


def _reasons(cells: Sequence[Result], prompts: Sequence[PromptVerdict], seen: Observation) -> Iterator[str]:
    compared = [one for one in prompts if one.comparison is not None]
    applying = [one for one in prompts if one.cell.wanted]
    yield _count_text(compared, len(applying))
    for cell in cells:
        if cell.check in _TELLING and cell.status in (Status.FAIL, Status.WARN, Status.UNKNOWN):
            yield cell.message
    if any(one.repeats is False for one in compared):
        yield "asked once more, the candidate does not give its own answer again: it is not deterministic"
    elif any(one.repeats for one in compared):
        yield "asked once more, the candidate answers as before, and so does the reference"
    missing = len(applying) - len(compared)
    if missing:
        causes = {cell.caused_by for cell in (one.cell for one in applying) if cell.caused_by}
        names = sorted(f"{key.check} ({key.subject.host})" for key in causes)
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        named = ", ".join(names[:2]) + more
        why = f"caused by {named}" if named else _why_stopped(seen)
        yield f"{missing} of {len(applying)} prompts were not compared: {why}"


_TELLING = ("reachable", "model", "tokenizer", "configuration", "weights", "evidence")


def _count_text(compared: Sequence[PromptVerdict], applying: int) -> str:
    if not compared:
        return f"none of {applying} prompts was compared"
    parted = [one for one in compared if one.comparison and one.comparison.divergence]
    other = [one for one in compared if one.outcome is not Outcome.IDENTICAL and one not in parted]
    if not parted and not other:
        return f"{len(compared)} of {applying} prompts: exactly equal answers"
    said = []
    if parted:
        ties = sum(one.near_tie for one in parted)
        near = f" ({'all' if ties == len(parted) else ties} at near ties)" if ties else ""
        said.append(f"{len(parted)} of {len(compared)} answers part{near}")
    if other:
        largest = max(one.comparison.largest_delta for one in other if one.comparison)
        how = f", by up to {nats(largest)}" if largest else " (their texts do)"
        said.append(f"{len(other)} differ in logprobs only{how}" if largest else f"{len(other)} differ{how}")
    return "; ".join(said)


# --- words ----------------------------------------------------------------------------------------


def nats(value: float | None) -> str:
    """A difference of logprobs: ``1.2e-07 nats``, ``0 nats``."""
    return "unknown" if value is None else f"{value:.2g} nats"


def token_name(token: str | None, texts: dict[str, str]) -> str:
    """A token for a reader: ``' the' (279)``, its id alone where its text is not known, or the end."""
    if token is None:
        return "the end"
    return f"{texts[token]!r} ({token})" if token in texts else (token if token.isdigit() else repr(token))


def comparison_text(found: Comparison, texts: dict[str, str], tie: bool) -> str:
    """A comparison in a sentence."""
    if found.exact:
        return "equal" if found.positions else "equal, by text alone"
    if found.divergence is None:
        if found.largest_delta == 0:
            return "the same tokens read as other texts"
        where = []
        for name, delta in (("generated token", found.generated), ("prompt token", found.prompt)):
            if delta and delta.largest:
                where.append(f"by {nats(delta.largest)} at {name} {delta.position}")
        return f"the same tokens; logprobs differ {' and '.join(where)}"
    one = found.divergence
    if not one.by_token:
        return f"the texts part at character {one.position}"
    sides = [
        f"{who} {token_name(token, texts)}" + (f" at {logprob:.4f}" if logprob is not None else "")
        for who, token, logprob in (
            ("reference", one.reference_token, one.reference_logprob),
            ("candidate", one.candidate_token, one.candidate_logprob),
        )
    ]
    gap = f"; gap {nats(one.gap)}, {'a near tie' if tie else 'no near tie'}" if one.gap is not None else ""
    return f"parts at token {one.position}: {', '.join(sides)}{gap}"


def _why_stopped(seen: Observation) -> str:
    return (
        "interrupted" if seen.interrupted else seen.stopped or "the reference was not there to compare with"
    )


def _subject(log: Log) -> Subject:
    return host_subject(log.server.name)


def _prompt_check(prompt: str, round_: Round) -> str:
    return f"prompt-{prompt}" if round_ is Round.ALONE else f"prompt-{prompt}-{round_.value}"
