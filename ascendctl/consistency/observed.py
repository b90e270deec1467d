"""What was learned in a run: filled while servers are asked, whole or not when it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ascendctl.consistency.answers import Answer
from ascendctl.consistency.prompts import Prompt
from ascendctl.consistency.servers import Feature, Server, ServerFacts


class Round(str, Enum):
    """One request in flight per server, or several at a time (--concurrency), which batches them."""

    ALONE = "alone"
    TOGETHER = "together"


@dataclass(frozen=True)
class Problem:
    """Why something could not be learned, and what to do."""

    message: str
    remedy: str = ""


@dataclass
class Asked:
    """The answers of one server to one prompt in one round.

    ``measured``: from an empty prefix cache where every server takes `cache_salt`, else from a warmed one,
    with the prompt's logprobs. ``other``: from the other state of the cache, without these, since vLLM does
    not read its prefix cache for them. ``again``: a candidate that differed, asked once more.
    """

    measured: list[Answer] = field(default_factory=list)
    other: Answer | None = None
    again: Answer | None = None
    problem: Problem | None = None
    too_long: bool = False


@dataclass
class Log:
    """All that one server told. ``lost``: why it is not asked any more, or never answered.

    ``digests``: SHA-256 by parameter name, where they were asked for.
    """

    server: Server
    facts: ServerFacts | None = None
    lost: Problem | None = None
    prompt_ids: dict[str, tuple[int, ...]] = field(default_factory=dict)
    answers: dict[tuple[Round, str], Asked] = field(default_factory=dict)
    digests: Mapping[str, str] | None = None
    digest_problem: str = ""

    def asked(self, round_: Round, prompt: Prompt) -> Asked:
        """The record of a prompt, made where there is none."""
        return self.answers.setdefault((round_, prompt.id), Asked())

    def takes(self, feature: Feature, *, chat: bool) -> bool:
        if self.facts is None:
            return False
        return feature in (self.facts.chat if chat else self.facts.completions).features


@dataclass
class Observation:
    """Everything asked of everybody. ``token_texts``: what tokens read as, by id in decimal.

    ``left_out``: prompts that do not apply, with the reason. ``stopped``: why not everything was asked.
    """

    prompts: tuple[Prompt, ...]
    reference: Log
    candidates: tuple[Log, ...]
    max_tokens: int
    concurrency: int = 1
    wanted_model: str | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    token_texts: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    stopped: str = ""

    @property
    def rounds(self) -> tuple[Round, ...]:
        return (Round.ALONE, Round.TOGETHER) if self.concurrency > 1 else (Round.ALONE,)

    def salted(self, *, chat: bool) -> bool:
        """Whether every server that answers takes a cache_salt, so that each request starts from nothing."""
        answering = [log for log in (self.reference, *self.candidates) if log.facts and log.facts.model]
        return all(log.takes(Feature.CACHE_SALT, chat=chat) for log in answering)
