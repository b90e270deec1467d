"""The identity (`identity.Identity`) of what one vLLM worker holds, read from vLLM's own configurations.

Has to be called before the weights are loaded: post-processing may rewrite the quantisation in the model's
configuration. Imports no vLLM: the configurations are handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ascendctl.netloader.engine.identity import Identity, config_digest, digest_of, weights_digest

# What decides, beside the model's own configuration, which expert lies where in a rank's tensors.
_EXPERT_FIELDS = ("expert_placement_strategy", "enable_eplb", "num_redundant_experts")


@dataclass(frozen=True)
class Place:
    """Where a worker stands: ranks and sizes of its groups, as torch.distributed and vLLM count them."""

    global_rank: int
    tp_size: int
    tp_rank: int
    pp_size: int
    pp_rank: int
    dp_size: int
    dp_rank: int
    ep_size: int
    ep_rank: int


def identity_of(
    vllm_config: Any,
    model_config: Any,
    place: Place,
    *,
    draft: bool,
    vllm_version: str,
    torch_version: str,
    device_kind: str,
) -> Identity:
    """Raises IdentityError where the model folder has weight files that cannot be read."""
    hf_config = model_config.hf_config
    parallel = vllm_config.parallel_config
    config = {**hf_config.to_dict(), "ascendctl_experts": _experts(parallel)}
    return Identity(
        architecture=",".join(getattr(hf_config, "architectures", None) or []),
        config_digest=config_digest(config),
        dtype=str(model_config.dtype).removeprefix("torch."),
        quantization=model_config.quantization,
        quantization_digest=_quantization_digest(model_config),
        revision=model_config.revision,
        tp_size=place.tp_size,
        tp_rank=place.tp_rank,
        pp_size=place.pp_size,
        pp_rank=place.pp_rank,
        dp_size=place.dp_size,
        dp_rank=place.dp_rank,
        ep_size=place.ep_size,
        ep_rank=place.ep_rank,
        global_rank=place.global_rank,
        group="draft" if draft else "target",
        # A repository that is not downloaded has no folder: nothing can be said of its files.
        weights_digest=weights_digest(Path(model_config.model)),
        vllm_version=vllm_version,
        torch_version=torch_version,
        device_kind=device_kind,
    )


def _experts(parallel: Any) -> dict[str, object]:
    eplb = getattr(parallel, "eplb_config", None)
    return {
        name: getattr(parallel, name, None) if hasattr(parallel, name) else getattr(eplb, name, None)
        for name in _EXPERT_FIELDS
    }


def _quantization_digest(model_config: Any) -> str | None:
    """Of the checkpoint's quantisation and of what was asked for beside it; None where there is neither."""
    written = getattr(model_config.hf_config, "quantization_config", None)
    asked = getattr(model_config, "quantization_config", None)
    if written is None and asked is None:
        return None
    return digest_of([_plain(written), _plain(asked)])


def _plain(value: Any) -> object:
    """The fields of a configuration object; its repr could hold an address of memory."""
    for convert in ("to_dict", "model_dump"):
        if hasattr(value, convert):
            return _plain(getattr(value, convert)())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "__dict__") and not isinstance(value, type):
        return {key: _plain(item) for key, item in vars(value).items()}
    return value
