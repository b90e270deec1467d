"""What a server answered to one prompt, read from its JSON: tokens, their logprobs, those of the prompt.

The fields are those of the OpenAI API as vLLM (0.10.2 to 0.32) has them: `token_ids` and `prompt_token_ids`
with `return_token_ids`, tokens spelt ``token_id:N`` with `return_tokens_as_token_ids`, `prompt_logprobs`.
A server may leave out any of them; what it leaves out is None or empty here, never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

_AS_ID = "token_id:"


class AnswerError(Exception):
    """The JSON is none that an OpenAI-style server gives. The message says what is wrong with it."""


class Naming(str, Enum):
    """What tokens are told apart by. Only tokens named alike can be compared."""

    IDS = "token ids"
    TEXTS = "token texts"
    NOTHING = "text only"


@dataclass(frozen=True)
class Step:
    """One generated token: its id in decimal, or its text where ids are not told.

    ``logprob`` in nats, None where not told; ``top``: token → logprob of the likeliest and of the chosen one.
    """

    token: str
    logprob: float | None
    top: Mapping[str, float]


@dataclass(frozen=True)
class Answer:
    """One answer. ``steps`` is empty where only the text was told.

    ``prompt_tops``: per prompt token, token → logprob; None for the first token, which none predicts.
    """

    text: str
    finish_reason: str
    naming: Naming
    steps: tuple[Step, ...]
    prompt_ids: tuple[int, ...] | None = None
    prompt_tops: tuple[Mapping[str, float] | None, ...] | None = None
    fingerprint: str | None = None
    model: str = ""

    @property
    def has_logprobs(self) -> bool:
        """Whether every generated token has its logprob, and there is one."""
        return bool(self.steps) and all(step.logprob is not None for step in self.steps)


def read_answer(body: object, *, chat: bool) -> Answer:
    """The answer in the JSON body of /v1/completions, or with ``chat`` of /v1/chat/completions.

    Raises AnswerError.
    """
    document = _mapping(body, "the answer")
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices:
        raise AnswerError("the answer holds no choices")
    choice = _mapping(choices[0], "the choice")
    text = _chat_text(choice) if chat else _text(choice.get("text"), "text")
    logprobs = choice.get("logprobs")
    if logprobs is None:
        told: list[_Told] = []
    else:
        told = _chat_steps(logprobs) if chat else _completion_steps(logprobs)
    ids = _ids(choice.get("token_ids"), "token_ids")
    steps = _with_ids(told, ids)
    # vLLM puts these beside the choices of a chat, and inside the choice of a completion.
    beside = document if chat else choice
    return Answer(
        text=text,
        finish_reason=str(choice.get("finish_reason") or ""),
        naming=_naming(told, ids),
        steps=steps,
        prompt_ids=_ids(beside.get("prompt_token_ids"), "prompt_token_ids"),
        prompt_tops=_prompt_tops(beside.get("prompt_logprobs")),
        fingerprint=_optional_text(document.get("system_fingerprint")),
        model=_optional_text(document.get("model")) or "",
    )


@dataclass(frozen=True)
class _Told:
    step: Step
    by_id: bool


def _chat_text(choice: Mapping[str, Any]) -> str:
    """What was said, with what a reasoning parser took apart before it."""
    message = _mapping(choice.get("message"), "the message")
    reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    content = message.get("content") or ""
    return _text(reasoning, "reasoning") + _text(content, "content")


def _naming(told: Sequence[_Told], ids: tuple[int, ...] | None) -> Naming:
    if ids is not None or (told and all(one.by_id for one in told)):
        return Naming.IDS
    return Naming.TEXTS if told else Naming.NOTHING


def _completion_steps(logprobs: object) -> list[_Told]:
    table = _mapping(logprobs, "logprobs")
    tokens = table.get("tokens")
    if not isinstance(tokens, list):
        raise AnswerError("logprobs.tokens is no list")
    own = _column(table.get("token_logprobs"), len(tokens), "token_logprobs")
    tops = _column(table.get("top_logprobs"), len(tokens), "top_logprobs")
    steps = []
    for token, logprob, top in zip(tokens, own, tops, strict=True):
        value = None if logprob is None else _number(logprob, "token_logprobs")
        known = {_token(key): _number(one, "top_logprobs") for key, one in _mapping(top or {}, "top").items()}
        steps.append(_told(token, value, known))
    return steps


def _chat_steps(logprobs: object) -> list[_Told]:
    content = _mapping(logprobs, "logprobs").get("content")
    if content is None:
        return []
    if not isinstance(content, list):
        raise AnswerError("logprobs.content is no list")
    steps = []
    for entry in content:
        one = _mapping(entry, "an entry of logprobs.content")
        tops = one.get("top_logprobs") or []
        if not isinstance(tops, list):
            raise AnswerError("top_logprobs is no list")
        named = [_mapping(top, "an entry of top_logprobs") for top in tops]
        known = {_token(top.get("token")): _number(top.get("logprob"), "logprob") for top in named}
        steps.append(_told(one.get("token"), _number(one.get("logprob"), "logprob"), known))
    return steps


def _told(token: object, logprob: float | None, top: dict[str, float]) -> _Told:
    spelt = _token(token)
    return _Told(_step(spelt, logprob, top), by_id=spelt != token)


def _step(token: str, logprob: float | None, top: dict[str, float]) -> Step:
    return Step(token, logprob, top if logprob is None else {**top, token: logprob})


def _with_ids(told: Sequence[_Told], ids: tuple[int, ...] | None) -> tuple[Step, ...]:
    """The steps with the ids for tokens; ids alone, without logprobs, make steps too."""
    steps = [one.step for one in told]
    if ids is None:
        return tuple(steps)
    if not steps:
        return tuple(Step(str(number), None, {}) for number in ids)
    if len(steps) != len(ids):
        raise AnswerError(f"{len(ids)} token ids beside {len(steps)} logprobs")
    renamed = []
    for step, number in zip(steps, ids, strict=True):
        # The chosen token goes by its id; others keep their text where the server tells no ids for them.
        top = {key: value for key, value in step.top.items() if key != step.token}
        renamed.append(_step(str(number), step.logprob, top))
    return tuple(renamed)


def _prompt_tops(listed: object) -> tuple[Mapping[str, float] | None, ...] | None:
    if listed is None:
        return None
    if not isinstance(listed, list):
        raise AnswerError("prompt_logprobs is no list")
    return tuple(None if entry is None else _prompt_top(entry) for entry in listed)


def _prompt_top(entry: object) -> Mapping[str, float]:
    named = _mapping(entry, "an entry of prompt_logprobs")
    return {
        str(key): _number(_mapping(value, "a prompt token").get("logprob"), "logprob")
        for key, value in named.items()
    }


def _token(value: object) -> str:
    text = _text(value, "token")
    number = text.removeprefix(_AS_ID)
    return number if number != text and number.isdigit() else text


def _column(values: object, length: int, name: str) -> list[Any]:
    if values is None:
        return [None] * length
    if not isinstance(values, list) or len(values) != length:
        raise AnswerError(f"logprobs.{name} has not one entry for each token")
    return values


def _ids(values: object, name: str) -> tuple[int, ...] | None:
    if values is None:
        return None
    if not isinstance(values, list) or not all(type(one) is int for one in values):
        raise AnswerError(f"{name} is no list of token ids")
    return tuple(values)


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise AnswerError(f"{name} holds {value!r}, which is no finite number")
    return float(value)


def _mapping(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise AnswerError(f"{name} is no JSON object")
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise AnswerError(f"{name} is no text")
    return value


def _optional_text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
