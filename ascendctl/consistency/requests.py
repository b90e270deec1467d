"""The bodies of the requests: always the same for the same prompt, whichever server it goes to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ascendctl.consistency.prompts import Prompt
from ascendctl.consistency.servers import Feature

TOP_LOGPROBS = 5
SEED = 0


def completion_body(
    model: str,
    prompt: str | Sequence[int],
    max_tokens: int,
    features: Collection[Feature],
    *,
    salt: str | None = None,
    prompt_logprobs: bool = True,
) -> dict[str, Any]:
    """A request for /v1/completions: greedy, with what of the features is asked for."""
    body = _body(model, max_tokens, features, salt, prompt_logprobs)
    body["prompt"] = prompt if isinstance(prompt, str) else list(prompt)
    if Feature.LOGPROBS in features:
        body["logprobs"] = TOP_LOGPROBS
    return body


def chat_body(
    model: str,
    prompt: Prompt,
    max_tokens: int,
    features: Collection[Feature],
    *,
    salt: str | None = None,
    prompt_logprobs: bool = True,
) -> dict[str, Any]:
    """The same for /v1/chat/completions."""
    body = _body(model, max_tokens, features, salt, prompt_logprobs)
    body["messages"] = messages_of(prompt)
    if Feature.LOGPROBS in features:
        body |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    return body


def messages_of(prompt: Prompt) -> list[dict[str, str]]:
    """The messages of a chat as the API has them."""
    return [{"role": role, "content": content} for role, content in prompt.messages]


def _body(
    model: str, max_tokens: int, features: Collection[Feature], salt: str | None, prompt_logprobs: bool
) -> dict[str, Any]:
    # top_p, top_k and penalties by name: a model's generation_config.json may set others as defaults.
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": max_tokens,
        "temperature": 0,
        "top_p": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "stream": False,
    }
    if Feature.SEED in features:
        body["seed"] = SEED
    if Feature.TOKEN_NAMES in features:
        body["return_tokens_as_token_ids"] = True
    if Feature.TOKEN_IDS in features:
        body["return_token_ids"] = True
    if Feature.PROMPT_LOGPROBS in features and prompt_logprobs:
        body["prompt_logprobs"] = TOP_LOGPROBS
    if Feature.CACHE_SALT in features and salt is not None:
        body["cache_salt"] = salt
    return body
