"""What a failed attempt leaves behind in vLLM's own configuration objects, and that it is put back."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import pytest

pytest.importorskip("vllm", reason="the configuration is vLLM's own: make test-e2e")

import torch
from torch import nn
from vllm.config import CompilationConfig

from ascendctl.netloader.engine.fallback import Registrations, free_memory
from ascendctl.netloader.engine.python_flags import flag_tensors, set_flags


def test_registrations_of_a_failed_attempt_are_gone() -> None:
    """A draft model is built beside its target: the target's layers stay, the failed model's go, from memory
    too, and whoever holds the container sees it."""
    compilation = CompilationConfig()
    quantization = SimpleNamespace(packed_modules_mapping={})
    vllm_config = SimpleNamespace(compilation_config=compilation, quant_config=quantization)
    target = nn.Linear(1, 1)
    compilation.static_forward_context["target.attn"] = target
    compilation.static_all_moe_layers.append("target.experts")
    held = compilation.static_forward_context

    before = Registrations.taken(vllm_config)
    failed = nn.Linear(1, 1)
    gone = weakref.ref(failed)
    compilation.static_forward_context["draft.attn"] = failed
    compilation.static_all_moe_layers.append("draft.experts")
    compilation.enabled_custom_ops["silu"] += 1
    vllm_config.quant_config.packed_modules_mapping["qkv"] = ["q", "k", "v"]
    del failed

    before.put_back(vllm_config)
    free_memory()
    gc.collect()
    assert held == {"target.attn": target} and compilation.static_forward_context is held
    assert compilation.static_all_moe_layers == ["target.experts"]
    assert not compilation.enabled_custom_ops
    assert vllm_config.quant_config.packed_modules_mapping == {}
    assert gone() is None, "the failed model is still in memory"


def test_flags_of_a_draft_travel_as_tensors() -> None:
    class Draft(nn.Linear):
        has_own_lm_head = False
        has_own_embed_tokens = False

    seed, joiner = Draft(1, 1), Draft(1, 1)
    seed.has_own_lm_head = True
    sent, received = flag_tensors(seed), flag_tensors(joiner)
    assert list(sent) == list(received) and all(tensor.dtype == torch.uint8 for tensor in sent.values())
    for name, tensor in received.items():
        tensor.copy_(sent[name])
    set_flags(joiner, received)
    assert (joiner.has_own_lm_head, joiner.has_own_embed_tokens) == (True, False)
    assert flag_tensors(nn.Linear(1, 1)) == {}
