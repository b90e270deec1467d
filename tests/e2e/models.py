"""Tiny random models on disk, for real vLLM servers: a folder with weights, and its twin without any.

Seeds are fixed, so a model has the same bytes in every run. The spread of the weights is wide (0.2, not the
usual 0.02): a model this small is then far from uniform, and a wrong weight moves its answers.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2MoeConfig,
)

SEED = 20_261
CONTEXT_TOKENS = 512
_END = "<end>"
_SPREAD = 0.2


@dataclass(frozen=True)
class Model:
    """One model's two folders: `full` has the weights, `bare` everything else."""

    name: str
    full: Path
    bare: Path
    weight_bytes: int


def build(name: str, folder: Path) -> Model:
    """Both folders of the model called `name` (a key of `CONFIGS`), made under `folder`."""
    full, bare = folder / name / "full", folder / name / "bare"
    tokenizer = byte_tokenizer()
    config = CONFIGS[name](len(tokenizer))
    config.bos_token_id = config.eos_token_id = tokenizer.eos_token_id
    config.pad_token_id = tokenizer.eos_token_id
    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(full)
    tokenizer.save_pretrained(full)
    shutil.copytree(full, bare, ignore=shutil.ignore_patterns("*.safetensors*"))
    weight_bytes = sum(file.stat().st_size for file in full.glob("*.safetensors"))
    return Model(name, full, bare, weight_bytes)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token for each byte and one that ends a text; it was trained on nothing."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: index for index, symbol in enumerate([*alphabet, _END])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=_END,
        eos_token=_END,
        pad_token=_END,
        model_max_length=CONTEXT_TOKENS,
    )


def _llama(vocabulary: int) -> PretrainedConfig:
    return LlamaConfig(**_shape(vocabulary), intermediate_size=512, tie_word_embeddings=False)


def _tied(vocabulary: int) -> PretrainedConfig:
    return LlamaConfig(**_shape(vocabulary), intermediate_size=512, tie_word_embeddings=True)


def _moe(vocabulary: int) -> PretrainedConfig:
    return Qwen2MoeConfig(
        **_shape(vocabulary),
        intermediate_size=512,
        moe_intermediate_size=128,
        shared_expert_intermediate_size=256,
        num_experts=8,
        num_experts_per_tok=2,
        decoder_sparse_step=1,
        tie_word_embeddings=False,
    )


def _shape(vocabulary: int) -> dict[str, object]:
    # Heads and the vocabulary divide by 2: every model can be cut for TP 2. vLLM's CPU attention wants
    # heads of 32 at least.
    return {
        "vocab_size": -(-vocabulary // 64) * 64,
        "hidden_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": CONTEXT_TOKENS,
        "initializer_range": _SPREAD,
    }


CONFIGS: dict[str, Callable[[int], PretrainedConfig]] = {"llama": _llama, "tied": _tied, "moe": _moe}
