"""What a draft model's loading keeps in Python attributes rather than in tensors, as tensors.

vLLM's EAGLE-style drafts note, while weights are loaded, whether the checkpoint brought an embedding and a
head of its own (`SupportsEagleBase`; vLLM's weight cache carries the same two); without the note they would
use their target's. They travel with the weights, in one byte each, digested like all others.
"""

from __future__ import annotations

import torch
from torch import nn

FLAGS = ("has_own_lm_head", "has_own_embed_tokens")
_PREFIX = "ascendctl.flags."


def flag_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Tensor name → its flag's value now, for the flags that this model has."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    return {
        _PREFIX + name: torch.tensor([bool(getattr(model, name))], dtype=torch.uint8, device=device)
        for name in FLAGS
        if hasattr(model, name)
    }


def set_flags(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Sets the flags of ``model`` to what the tensors of :func:`flag_tensors` hold after a transfer."""
    for name, tensor in tensors.items():
        setattr(model, name.removeprefix(_PREFIX), bool(tensor.item()))
