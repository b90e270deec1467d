"""A model's ``config.json`` as Hugging Face models carry it: the few numbers that MoE dispatch depends on.

Keys by family: DeepSeek, Kimi, GLM ``n_routed_experts``; Qwen ``num_experts``; Mixtral, MiniMax
``num_local_experts``; ERNIE ``moe_num_experts``. Models with vision keep theirs in ``text_config``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ascendctl.hccl.buffer_size import MoeModel

_INNER = ("text_config", "language_config", "llm_config")
_HIDDEN = ("hidden_size",)
_EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_k")
_SHARED = ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts")
# Qwen models state the one shared expert by its size alone.
_SHARED_SIZE = "shared_expert_intermediate_size"
_LONGEST_BYTES = 16 << 20
_LARGEST = 1 << 24  # far above any model; what lies above is a mistake


class ModelConfigError(Exception):
    """The config cannot be used; the text says which file, which field, and what was expected."""


def read_model_config(path: Path) -> MoeModel:
    """The numbers of a ``config.json``, or of the one in a model's folder. Raises ModelConfigError."""
    file = path / "config.json" if path.is_dir() else path
    try:
        if not file.is_file():
            raise ModelConfigError(f"{file}: no such file; --model wants a model's config.json or its folder")
        with file.open("rb") as stream:
            text = stream.read(_LONGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ModelConfigError(
            f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    if len(text) > _LONGEST_BYTES:
        raise ModelConfigError(f"{file}: over {_LONGEST_BYTES >> 20} MiB, so it is no model's config.json")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelConfigError(f"{file}: no JSON: {error}") from None
    if not isinstance(config, dict):
        raise ModelConfigError(f"{file}: expected a JSON object, as a model's config.json is")
    return moe_model(config, str(file))


def moe_model(config: Mapping[str, Any], where: str) -> MoeModel:
    """The numbers of a parsed config; ``where`` names it in errors. Raises ModelConfigError."""
    inner = next((name for name in _INNER if isinstance(config.get(name), dict)), "")
    scopes = [(f"{inner}.", config[inner]), ("", config)] if inner else [("", config)]
    fields = _Fields(scopes, where)
    experts_key, experts = fields.one("the number of experts", _EXPERTS, missing=_DENSE)
    hidden_key, hidden = fields.one("the hidden size", _HIDDEN)
    per_token_key, per_token = fields.one("the experts per token", _PER_TOKEN)
    shared_key, shared = fields.optional("the shared experts", _SHARED)
    if not shared_key and fields.optional("the shared expert's size", (_SHARED_SIZE,))[1]:
        shared_key, shared = _SHARED_SIZE, 1
    if per_token > experts:
        raise ModelConfigError(
            f"{where}: {per_token_key} is {per_token}, more than the {experts} of {experts_key}"
        )
    sources = (
        ("hidden_size", hidden_key),
        ("experts", experts_key),
        ("experts_per_token", per_token_key),
        ("shared_experts", shared_key),
    )
    return MoeModel(hidden, experts, per_token, shared, sources)


_DENSE = "; a dense model has no MoE dispatch, so leave --model out for it"


class _Fields:
    """Looks fields up in the inner config first, then in the outer one."""

    def __init__(self, scopes: list[tuple[str, Mapping[str, Any]]], where: str) -> None:
        self._scopes = scopes
        self._where = where

    def one(self, what: str, keys: tuple[str, ...], missing: str = "") -> tuple[str, int]:
        """Key and value of a number of 1 or more that must be there."""
        key, value = self.optional(what, keys)
        if not key or value < 1:
            said = f"{key} is {value}" if key else f"it has none of {', '.join(keys)}"
            raise ModelConfigError(f"{self._where}: {what} cannot be told: {said}{missing}")
        return key, value

    def optional(self, what: str, keys: tuple[str, ...]) -> tuple[str, int]:
        """Key and value; ("", 0) where no key is there. Keys that contradict each other are an error."""
        for prefix, scope in self._scopes:
            found = {
                f"{prefix}{key}": self._number(f"{prefix}{key}", scope[key])
                for key in keys
                if scope.get(key) is not None
            }
            if len(set(found.values())) > 1:
                seen = ", ".join(f"{key} {value}" for key, value in found.items())
                raise ModelConfigError(f"{self._where}: {what} cannot be told: {seen}")
            for key, value in found.items():
                return key, value
        return "", 0

    def _number(self, key: str, value: object) -> int:
        """A number, or the largest of a list of one per layer: the buffer must hold every layer's."""
        numbers = []
        for one in value if isinstance(value, list) and value else [value]:
            if not isinstance(one, int) or isinstance(one, bool) or not 0 <= one <= _LARGEST:
                raise ModelConfigError(f"{self._where}: {key} is {one!r:.60}; expected a whole number")
            numbers.append(one)
        return max(numbers)
