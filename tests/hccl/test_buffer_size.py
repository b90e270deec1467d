"""HCCL_BUFFSIZE: the operator's own complaints reproduce to the MB, and configs are read or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ascendctl.facts import Generation
from ascendctl.hccl.buffer_size import (
    BufferSizeError,
    Kernel,
    MoeModel,
    Parallel,
    buffer_size,
    needed_mb,
    tokens_per_rank,
)
from ascendctl.hccl.model_config import ModelConfigError, moe_model, read_model_config

R1 = MoeModel(hidden_size=7168, experts=256, experts_per_token=8)


@pytest.mark.parametrize(
    ("hidden_size", "tokens", "experts", "per_token", "expert_parallel", "logged_mb"),
    [
        (2048, 64, 512, 10, 4, 294),  # Qwen3-Next: what the operator's log said
        (2048, 512, 128, 8, 2, 609),  # the worked example of the pull request that documents the check
        (4096, 240, 256, 6, 16, 1043),  # DeepSeek-V4-Flash: what the operator's log said
    ],
)
def test_the_known_values_reproduce(
    hidden_size: int, tokens: int, experts: int, per_token: int, expert_parallel: int, logged_mb: int
) -> None:
    need = needed_mb(
        hidden_size=hidden_size,
        tokens=tokens,
        experts=experts,
        experts_per_token=per_token,
        expert_parallel=expert_parallel,
    )
    assert need == logged_mb


def test_the_guides_600_is_exactly_what_its_decode_group_needs() -> None:
    guide = Parallel(data=32, tensor=1, max_num_seqs=40, spec_tokens=1)
    assert buffer_size(R1, guide).need_mb == 598
    shared = MoeModel(7168, 256, 8, shared_experts=1)
    assert buffer_size(shared, guide).need_mb == 600
    assert buffer_size(R1, Parallel(32, 1, 41, 1)).need_mb > 600
    assert buffer_size(R1, Parallel(64, 1, 28, 1)).need_mb == 419
    assert buffer_size(R1, Parallel(32, 1, 40, 1, capture_tokens=256)).need_mb == 1913


@pytest.mark.parametrize(("tokens", "mb"), [(32, 518), (64, 632)])
def test_hierarchical(tokens: int, mb: int) -> None:
    found = buffer_size(R1, Parallel(16, 1, tokens), kernel=Kernel.HIERARCHY, generation=Generation.A2)
    assert found.need_mb == mb
    assert "hierarchy" in found.explanation


def test_the_second_kernel_and_the_context_need_more() -> None:
    parallel = Parallel(32, 1, 40, 1)
    plain = buffer_size(R1, parallel).need_mb
    # By hand: 14380 bytes are 30 blocks of 480 against 29 of 512.
    assert buffer_size(R1, parallel, kernel=Kernel.FULL_MESH_V2).need_mb == (
        (80 * 30 * 512 * 32 * 8 + 80 * 14336 * 8) * 2 // 2**20 + 1
    )
    assert buffer_size(R1, parallel, mc2_context=True).need_mb == plain + 1


@pytest.mark.parametrize(
    ("parallel", "tokens"),
    [
        (Parallel(32, 1, 40, 1), 80),
        (Parallel(32, 1, 400, 1), 512),
        (Parallel(4, 8, 400, 1), 64),  # graphs end at 512 tokens
        (Parallel(4, 8, 400, 1, eager=True), 100),
        (Parallel(1, 1, 4000, 0, eager=True), 512),
        (Parallel(4, 3, 10, 0), 4),
        (Parallel(4, 2, 10, 0, capture_tokens=600), 300),
    ],
)
def test_tokens_per_rank(parallel: Parallel, tokens: int) -> None:
    assert tokens_per_rank(parallel) == tokens


def test_a_group_that_does_not_take_mc2_is_not_computed() -> None:
    with pytest.raises(BufferSizeError, match="ALLGATHER"):
        buffer_size(R1, Parallel(8, 1, 40), generation=Generation.A2)
    with pytest.raises(BufferSizeError, match=r"at most 24 experts.*\b16\b.*\b32\b"):
        buffer_size(MoeModel(2048, 512, 8), Parallel(16, 1, 40), generation=Generation.A2)
    with pytest.raises(BufferSizeError, match="16, 32, 64"):
        buffer_size(R1, Parallel(48, 1, 40), kernel=Kernel.HIERARCHY)
    assert buffer_size(R1, Parallel(8, 1, 40), generation=Generation.A3).need_mb


def test_the_result_shows_its_inputs() -> None:
    text = buffer_size(R1, Parallel(32, 1, 40, 1)).explanation
    for part in (
        "MC2",
        "full-mesh",
        "598 MB",
        "hidden size 7168",
        "experts per rank 8",
        "tokens per rank 80",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("config", "model"),
    [
        (
            {"hidden_size": 7168, "n_routed_experts": 256, "num_experts_per_tok": 8, "n_shared_experts": 1},
            (7168, 256, 8, 1),
        ),
        ({"hidden_size": 4096, "num_experts": 128, "num_experts_per_tok": 8}, (4096, 128, 8, 0)),
        ({"hidden_size": 4096, "num_local_experts": 8, "num_experts_per_tok": 2}, (4096, 8, 2, 0)),
        (
            {
                "hidden_size": 2048,
                "num_experts": 512,
                "num_experts_per_tok": 10,
                "shared_expert_intermediate_size": 512,
            },
            (2048, 512, 10, 1),
        ),
        (
            {"hidden_size": 8192, "moe_num_experts": 64, "moe_k": 8, "n_shared_experts": None},
            (8192, 64, 8, 0),
        ),
        (
            {"text_config": {"hidden_size": 7168, "n_routed_experts": 384, "num_experts_per_tok": 8}},
            (7168, 384, 8, 0),
        ),
        # Per layer: the buffer must hold the largest.
        ({"hidden_size": 4096, "num_experts": 64, "moe_topk": [8, 8, 6]}, (4096, 64, 8, 0)),
    ],
)
def test_configs_of_every_family(config: dict[str, Any], model: tuple[int, ...]) -> None:
    found = moe_model(config, "config.json")
    assert (found.hidden_size, found.experts, found.experts_per_token, found.shared_experts) == model


GOOD = {"hidden_size": 4096, "num_experts": 128, "num_experts_per_tok": 8}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"hidden_size": 4096}, "dense model"),
        ({**GOOD, "hidden_size": None}, "hidden_size"),
        ({**GOOD, "hidden_size": "4096"}, "hidden_size is '4096'"),
        ({**GOOD, "hidden_size": 0}, "hidden_size is 0"),
        ({**GOOD, "num_experts": True}, "num_experts is True"),
        ({**GOOD, "num_experts": -1}, "num_experts is -1"),
        ({**GOOD, "num_experts": 1e3}, "num_experts is 1000.0"),
        ({**GOOD, "num_experts_per_tok": []}, "num_experts_per_tok is []"),
        ({**GOOD, "n_routed_experts": 64}, "n_routed_experts 64, num_experts 128"),
        ({**GOOD, "num_experts_per_tok": 129}, "more than the 128"),
    ],
)
def test_odd_configs_are_refused_by_name(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelConfigError) as caught:
        moe_model(config, "m/config.json")
    assert said in str(caught.value)
    assert "m/config.json" in str(caught.value)


def test_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(GOOD))
    assert read_model_config(tmp_path) == read_model_config(tmp_path / "config.json")
    for name, text in (("a", "{"), ("b", "[]"), ("c", "\udcff"), ("d", "[" * 100_000)):
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(ModelConfigError, match=str(tmp_path / name)):
            read_model_config(tmp_path / name)
    with pytest.raises(ModelConfigError, match="no such file"):
        read_model_config(tmp_path / "nothing")
