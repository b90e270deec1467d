"""HCCL_BUFFSIZE that MoE dispatch needs: the operator's own check, computed beforehand.

Formula: the tiling check of ``moe_distribute_dispatch`` in CANN's ops-transformer
(``moe_distribute_check_win_size.h``, 2026), which prints NEEDED_HCCL_BUFFSIZE(...)=NNNMB where the
buffer is too small. It holds for the MC2 path only; which path vllm-ascend takes is ``dispatch_path``.
Tokens per rank: vllm-ascend's ``set_mc2_tokens_capacity``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ascendctl.facts import Generation

FORMULA = "moe_distribute_check_win_size, CANN ops-transformer 2026"

_MIB = 1 << 20
_OUT_BYTES = 2  # MAX_OUT_DTYPE_SIZE
_ALIGN = 512  # WIN_ADDR_ALIGN
_UB_ALIGN = 32
_SCALE_AND_INDEX_BYTES = 44
_V2_BLOCK = 480  # of every 512 bytes the second full-mesh kernel keeps 32 for its flags
_HIERARCHY_FIXED_MIB = 404  # 104 in older CANN
_MC2_CONTEXT_MIB = 1
_TOKENS_MOST = 512  # MC2 takes no more tokens per rank
_CAPTURE_MOST = 512  # vllm-ascend captures graphs of up to so many tokens unless told otherwise

_A2_EXPERTS_PER_DEVICE_MOST = 24
_A2_EXPERT_PARALLEL_LEAST = 16
HIERARCHY_EXPERT_PARALLEL = (16, 32, 64)


class Kernel(str, Enum):
    """Which dispatch kernel MC2 runs; each keeps its window in the buffer in its own way."""

    FULL_MESH = "full-mesh"
    FULL_MESH_V2 = "full-mesh-v2"
    HIERARCHY = "hierarchy"  # A2 with HCCL_INTRA_PCIE_ENABLE=1 and HCCL_INTRA_ROCE_ENABLE=0


@dataclass(frozen=True)
class MoeModel:
    """What of a model's config the formula needs. ``shared_experts`` 0 = none.

    ``sources``: per field, the key of the config that it was read from.
    """

    hidden_size: int
    experts: int
    experts_per_token: int
    shared_experts: int = 0
    sources: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Parallel:
    """How the group runs. ``capture_tokens``: the largest captured graph, where it is set by hand.

    ``eager``: no graphs are captured, so their limit of 512 tokens does not hold.
    """

    data: int
    tensor: int
    max_num_seqs: int
    spec_tokens: int = 0
    eager: bool = False
    capture_tokens: int | None = None

    @property
    def expert(self) -> int:
        """The expert-parallel size: vLLM makes it of all ranks of the group."""
        return self.data * self.tensor


class BufferSizeError(ValueError):
    """The inputs contradict one another or the path taken is not MC2; the text says which and what to do."""


@dataclass(frozen=True)
class BufferSize:
    """``need_mb``: the number that the operator's own complaint would show. ``inputs`` in reading order."""

    need_mb: int
    kernel: Kernel
    mc2_context: bool
    inputs: tuple[tuple[str, int], ...] = field(default_factory=tuple)

    @property
    def explanation(self) -> str:
        """One line: path assumed, formula's version, inputs."""
        context = " with mc2Context" if self.mc2_context else ""
        inputs = ", ".join(f"{name} {value}" for name, value in self.inputs)
        return f"MC2 dispatch ({self.kernel.value}{context}) needs {self.need_mb} MB: {inputs} [{FORMULA}]"


def needed_mb(
    *,
    hidden_size: int,
    tokens: int,
    experts: int,
    experts_per_token: int,
    expert_parallel: int,
    local_experts: int | None = None,
    shared_experts: int = 0,
    kernel: Kernel = Kernel.FULL_MESH,
    mc2_context: bool = False,
) -> int:
    """The MB that NEEDED_HCCL_BUFFSIZE would say.

    ``tokens``: per rank (maxBs). ``local_experts``: on one rank; None = experts / expert_parallel.
    ``mc2_context``: the V3 operators' flow, which keeps one MiB more.
    """
    if local_experts is None:
        local_experts = _ceil(experts, expert_parallel)
    row = _OUT_BYTES * hidden_size
    if kernel is Kernel.HIERARCHY:
        indices = (3 * (experts_per_token + 7)) // 8 * 8
        need = experts * tokens * (row + indices * 4 + 64) + _HIERARCHY_FIXED_MIB * _MIB
    else:
        combine = _ceil(row, _ALIGN) * _ALIGN
        sent = _ceil(row, _UB_ALIGN) * _UB_ALIGN + _SCALE_AND_INDEX_BYTES
        block = _V2_BLOCK if kernel is Kernel.FULL_MESH_V2 else _ALIGN
        dispatch = _ceil(sent, block) * _ALIGN
        window = tokens * dispatch * expert_parallel * local_experts
        need = (window + tokens * combine * (experts_per_token + shared_experts)) * 2
    if mc2_context:
        need += _MC2_CONTEXT_MIB * _MIB
    return need // _MIB + 1


def tokens_per_rank(parallel: Parallel) -> int:
    """maxBs: the tokens of one rank that MC2 is asked for at most."""
    asked = parallel.max_num_seqs * (1 + parallel.spec_tokens)
    if parallel.capture_tokens is not None:
        asked = parallel.capture_tokens
    elif not parallel.eager:
        asked = min(asked, _CAPTURE_MOST)
    return min(_ceil(asked, parallel.tensor), _TOKENS_MOST)


def buffer_size(
    model: MoeModel,
    parallel: Parallel,
    *,
    generation: Generation | None = None,
    kernel: Kernel = Kernel.FULL_MESH,
    mc2_context: bool = False,
) -> BufferSize:
    """What the group needs, shared experts counted (vllm-ascend passes none: under 0.5 % to spare).

    Raises BufferSizeError where the group would not take the MC2 path, or cannot exist.
    """
    expert_parallel = parallel.expert
    local = _ceil(model.experts, expert_parallel)
    if generation is Generation.A2 and (
        expert_parallel < _A2_EXPERT_PARALLEL_LEAST or local > _A2_EXPERTS_PER_DEVICE_MOST
    ):
        raise BufferSizeError(
            f"on A2 vllm-ascend takes MC2 with an expert-parallel size of {_A2_EXPERT_PARALLEL_LEAST} or "
            f"more and at most {_A2_EXPERTS_PER_DEVICE_MOST} experts per device; here they are "
            f"{expert_parallel} and {local}, so that it takes ALLGATHER, for which the formula does not hold"
        )
    if kernel is Kernel.HIERARCHY and expert_parallel not in HIERARCHY_EXPERT_PARALLEL:
        raise BufferSizeError(
            "hierarchical MC2 wants an expert-parallel size (data times tensor) of "
            f"{', '.join(map(str, HIERARCHY_EXPERT_PARALLEL))}; here it is {expert_parallel}"
        )
    tokens = tokens_per_rank(parallel)
    need = needed_mb(
        hidden_size=model.hidden_size,
        tokens=tokens,
        experts=model.experts,
        experts_per_token=model.experts_per_token,
        expert_parallel=expert_parallel,
        local_experts=local,
        shared_experts=model.shared_experts,
        kernel=kernel,
        mc2_context=mc2_context,
    )
    inputs = (
        ("hidden size", model.hidden_size),
        ("experts", model.experts),
        ("per token", model.experts_per_token),
        ("shared", model.shared_experts),
        ("data parallel", parallel.data),
        ("tensor parallel", parallel.tensor),
        ("expert parallel", expert_parallel),
        ("experts per rank", local),
        ("sequences", parallel.max_num_seqs),
        ("speculative tokens", parallel.spec_tokens),
        ("tokens per rank", tokens),
    )
    return BufferSize(need, kernel, mc2_context, inputs)


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)
