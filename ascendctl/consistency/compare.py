"""Two answers to one prompt, position by position: the same, the same up to logprobs, or where they part.

Everything is exact: logprobs survive JSON unchanged (vLLM prints floats so that they read back the same),
so any difference, however small, is one. Whether it matters is for `outcome` and its floor to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from ascendctl.consistency.answers import Answer, Naming, Step

_Top = Mapping[str, float]
_Pair = tuple[int, _Top, _Top]


@dataclass(frozen=True)
class Delta:
    """The largest difference of two logprobs found, in nats, and the position where it was."""

    largest: float
    position: int


@dataclass(frozen=True)
class Divergence:
    """Where two answers part: by token, or by character where only texts are known (``by_token`` False).

    Tokens and logprobs are each side's own choice there, None where it had ended or told none. ``gap``: by
    how much a side preferred its own token to the other's, in nats, the larger of both sides; None unknown.
    """

    position: int
    by_token: bool
    reference_token: str | None = None
    candidate_token: str | None = None
    reference_logprob: float | None = None
    candidate_logprob: float | None = None
    gap: float | None = None


@dataclass(frozen=True)
class Comparison:
    """How a candidate's answer differs from the reference's.

    ``generated`` and ``prompt``: differences of logprobs over the ``positions`` and ``prompt_positions``
    that both sides told them for; positions after a divergence answer other texts and are not compared.
    """

    divergence: Divergence | None
    text_equal: bool
    positions: int
    generated: Delta | None
    prompt_positions: int
    prompt: Delta | None

    @property
    def largest_delta(self) -> float:
        """Of both, in nats; 0 where no logprob differs or none was compared."""
        return max((one.largest for one in (self.generated, self.prompt) if one), default=0.0)

    @property
    def exact(self) -> bool:
        """Whether nothing that was compared differs."""
        return self.divergence is None and self.text_equal and self.largest_delta == 0


class Outcome(str, Enum):
    """What a comparison comes to, the best first."""

    IDENTICAL = "identical"
    CLOSE = "numerically close"
    DIFFERENT = "different"


def compare(reference: Answer, candidate: Answer, *, prompts: bool = True) -> Comparison:
    """Compare a candidate's answer to the reference's; with ``prompts`` the prompt's logprobs too."""
    by_token = reference.naming is candidate.naming is not Naming.NOTHING
    together = _common(reference.steps, candidate.steps) if by_token else 0
    divergence = _divergence(reference, candidate, together, by_token)
    # At the very position where they part both still continue the same text.
    reach = together + 1 if by_token else 0
    tops = _paired([one.top for one in reference.steps[:reach]], [one.top for one in candidate.steps[:reach]])
    prompt_tops = _prompt_pairs(reference, candidate) if prompts else []
    return Comparison(
        divergence=divergence,
        text_equal=reference.text == candidate.text,
        positions=len(tops),
        generated=_largest(tops),
        prompt_positions=len(prompt_tops),
        prompt=_largest(prompt_tops),
    )


def outcome(comparison: Comparison, floor: float) -> Outcome:
    """What it comes to above a noise floor in nats, the reference's difference from itself.

    Close is only what the reference does to itself as well: logprobs that differ by no more than the floor,
    and tokens that part at a near tie, where neither side preferred its own by more than the floor.
    """
    if comparison.exact:
        return Outcome.IDENTICAL
    if comparison.largest_delta > floor:
        return Outcome.DIFFERENT
    divergence = comparison.divergence
    if divergence is None:
        return Outcome.CLOSE if comparison.text_equal else Outcome.DIFFERENT
    return Outcome.CLOSE if near_tie(divergence, floor) else Outcome.DIFFERENT


def near_tie(divergence: Divergence, floor: float) -> bool:
    """Whether neither side preferred its token to the other's by more than the floor (nats)."""
    return divergence.gap is not None and divergence.gap <= floor


def closest(references: Iterable[Answer], candidates: Sequence[Answer]) -> Comparison:
    """The comparison that differs least, of any answer of the reference with any of the candidate.

    A reference that does not repeat itself may be met at any of its answers. Raises ValueError if a side
    gave none.
    """
    pairs = [compare(ours, theirs) for ours in references for theirs in candidates]
    return min(pairs, key=_distance)


def noise(answers: Sequence[Answer]) -> float | None:
    """How much answers of one server to the same request differ from each other, in nats.

    0 where they are exactly equal; None where they differ by an amount that nothing told tells.
    """
    floor = 0.0
    for index, first in enumerate(answers):
        for second in answers[index + 1 :]:
            found = compare(first, second)
            if found.exact:
                continue
            if found.divergence is not None and found.divergence.gap is None:
                return None
            if found.divergence is None and not found.text_equal:
                return None
            floor = max(floor, found.largest_delta, found.divergence.gap or 0.0 if found.divergence else 0.0)
    return floor


def _distance(found: Comparison) -> tuple[bool, float, float]:
    parted = found.divergence.position if found.divergence else 0
    return (found.divergence is not None or not found.text_equal, found.largest_delta, -parted)


def _common(ours: Sequence[Step], theirs: Sequence[Step]) -> int:
    for position, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one.token != other.token:
            return position
    return min(len(ours), len(theirs))


def _divergence(reference: Answer, candidate: Answer, together: int, by_token: bool) -> Divergence | None:
    if not by_token:
        if reference.text == candidate.text:
            return None
        return Divergence(_shared_characters(reference.text, candidate.text), by_token=False)
    if together == len(reference.steps) == len(candidate.steps):
        return None
    ours = reference.steps[together] if together < len(reference.steps) else None
    theirs = candidate.steps[together] if together < len(candidate.steps) else None
    return Divergence(
        position=together,
        by_token=True,
        reference_token=ours.token if ours else None,
        candidate_token=theirs.token if theirs else None,
        reference_logprob=ours.logprob if ours else None,
        candidate_logprob=theirs.logprob if theirs else None,
        gap=_gap(ours, theirs) if ours and theirs else None,
    )


def _shared_characters(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _gap(ours: Step, theirs: Step) -> float | None:
    gaps = []
    for own, other in ((ours, theirs.token), (theirs, ours.token)):
        if own.logprob is None or other not in own.top:
            return None
        gaps.append(abs(own.logprob - own.top[other]))
    return max(gaps)


def _prompt_pairs(reference: Answer, candidate: Answer) -> list[_Pair]:
    if reference.prompt_tops is None or candidate.prompt_tops is None:
        return []
    return _paired(reference.prompt_tops, candidate.prompt_tops)


def _paired(ours: Sequence[_Top | None], theirs: Sequence[_Top | None]) -> list[_Pair]:
    """With their position, those where both sides tell something."""
    both = enumerate(zip(ours, theirs, strict=False))
    return [(position, one, other) for position, (one, other) in both if one and other]


def _largest(pairs: Sequence[_Pair]) -> Delta | None:
    deltas = [Delta(_delta(ours, theirs), position) for position, ours, theirs in pairs]
    return max(deltas, key=lambda one: one.largest, default=None)


def _delta(ours: _Top, theirs: _Top) -> float:
    """By token where both list it. By rank too: the likeliest ones may be others, and equal ones may swap."""
    by_token = [abs(logprob - theirs[token]) for token, logprob in ours.items() if token in theirs]
    ranked = zip(sorted(ours.values(), reverse=True), sorted(theirs.values(), reverse=True), strict=False)
    return max([*by_token, *(abs(one - other) for one, other in ranked)], default=0.0)
