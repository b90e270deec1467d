"""Tensors as bytes: what one set sends, another one of the same tensors holds afterwards, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ascendctl.netloader.engine.digest import digest
from ascendctl.netloader.engine.manifest import ITEM_BYTES, Manifest, differences
from ascendctl.netloader.engine.weights import (
    WeightSet,
    WeightSetError,
    collect_legacy_raw,
    collect_processed,
    collect_raw,
    digest_all,
    distinct_elements,
)

CHUNK = 8192

Named = list[tuple[str, torch.Tensor]]


def storage_bytes(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())


def filled(tensor: torch.Tensor, seed: int) -> torch.Tensor:
    """Any bytes, also such as make a NaN, in all of the memory of ``tensor``."""
    storage = storage_bytes(tensor)
    drawn = bytearray(random.Random(seed).randbytes(len(storage)))
    if drawn:
        storage.copy_(torch.frombuffer(drawn, dtype=torch.uint8))
        if tensor.dtype == torch.bool:
            storage.bitwise_and_(1)
    return tensor


def memory(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def transfer(source: WeightSet, target: WeightSet) -> None:
    """As two sessions do, with a buffer in between that every chunk shares."""
    staging = torch.full((source.manifest.chunk_bytes,), 0xAA, dtype=torch.uint8)
    for chunk in source.manifest.chunks:
        sent = source.outgoing(chunk)
        assert (sent.dtype, sent.shape) == (torch.uint8, (chunk.nbytes,))
        assert sent.is_contiguous()
        incoming = target.incoming(chunk, staging)
        incoming.buffer.copy_(sent)
        incoming.commit()
        # A buffer is used again at once.
        staging.fill_(0x55)


SHAPES: dict[str, Callable[[], torch.Tensor]] = {
    "scalar": lambda: torch.zeros(()),
    "one": lambda: torch.zeros(1, dtype=torch.float64),
    "vector": lambda: torch.zeros(77, dtype=torch.bfloat16),
    "matrix": lambda: torch.zeros(40, 60, dtype=torch.bfloat16),
    "large": lambda: torch.zeros(1000, 31),
    "without elements": lambda: torch.zeros(0, 7),
    "bool": lambda: torch.zeros(13, dtype=torch.bool),
    "transposed": lambda: torch.zeros(30, 50).t(),
    "transposed, large": lambda: torch.zeros(3, 170, 90, dtype=torch.float16).permute(2, 0, 1),
    "channels last": lambda: torch.zeros(2, 8, 9, 9).to(memory_format=torch.channels_last),
    "slice of columns": lambda: torch.zeros(20, 64)[:, 3:50],
    "slice of columns, large": lambda: torch.zeros(300, 200, dtype=torch.int16)[:, 5:160],
    "every other": lambda: torch.zeros(5001, dtype=torch.int32)[1::2],
    "one long row of gaps": lambda: torch.zeros(1, 20_000)[:, ::2],
    "slice of transposed": lambda: torch.zeros(100, 120).t()[10:90, 20:60],
    "expanded": lambda: torch.zeros(1, 60).expand(9, 60),
    "expanded slice": lambda: torch.zeros(40, 1, 64)[:, :, 2:60].expand(40, 3, 58),
    "at an odd byte": lambda: torch.zeros(9001, dtype=torch.uint8)[1:],
    "late in its storage": lambda: torch.zeros(9000)[100:],
}


@pytest.mark.parametrize("case", SHAPES)
def test_what_is_sent_is_what_is_held(case: str) -> None:
    source, target, expected = (filled(SHAPES[case](), seed) for seed in (1, 2, 2))
    transfer(WeightSet([("t", source)], CHUNK, small_bytes=4096), WeightSet([("t", target)], CHUNK))
    assert torch.equal(memory(target), memory(source))
    # Nor were the bytes around a slice touched.
    distinct_elements(expected).copy_(distinct_elements(source))
    assert torch.equal(storage_bytes(target), storage_bytes(expected))


def test_all_kinds_of_tensors_together() -> None:
    source = [(name, filled(make(), seed)) for seed, (name, make) in enumerate(SHAPES.items())]
    target = [(name, filled(make(), 99 + seed)) for seed, (name, make) in enumerate(SHAPES.items())]
    for small_bytes in (4096, 65_536):
        first, second = (WeightSet(named, CHUNK, small_bytes=small_bytes) for named in (source, target))
        assert differences(first.manifest, second.manifest) == ()
        transfer(first, second)
        for (name, one), (_, other) in zip(source, target, strict=True):
            assert torch.equal(memory(one), memory(other)), name
        assert digest_all(first).content_id == digest_all(second).content_id


@pytest.mark.parametrize("dtype", ITEM_BYTES)
def test_every_dtype(dtype: str) -> None:
    source, target = (filled(torch.empty(3, 50, dtype=getattr(torch, dtype)), seed) for seed in (1, 2))
    first = WeightSet([("t", source)], CHUNK)
    assert first.manifest.entries[0].dtype == dtype
    assert first.total_bytes == 150 * source.element_size()
    transfer(first, WeightSet([("t", target)], CHUNK))
    assert torch.equal(memory(target), memory(source))


def test_dense_tensors_are_not_copied() -> None:
    large = filled(torch.zeros(300, 70).t(), 1)
    weights = WeightSet([("w", large)], CHUNK, small_bytes=4096)
    assert len(weights.manifest.chunks) > 2
    for chunk in weights.manifest.chunks:
        (piece,) = chunk.pieces
        assert weights.outgoing(chunk).data_ptr() == large.data_ptr() + piece.offset
        assert weights.incoming(chunk).buffer.data_ptr() == large.data_ptr() + piece.offset


def test_a_pack_is_not_moved_before_it_is_committed() -> None:
    tensors = [(f"t{n}", torch.zeros(n, dtype=torch.uint8)) for n in range(1, 20)]
    weights = WeightSet(tensors, CHUNK)
    (chunk,) = weights.manifest.chunks
    incoming = weights.incoming(chunk)
    incoming.buffer.fill_(7)
    assert all(not tensor.any() for _, tensor in tensors)
    incoming.commit()
    assert all((tensor == 7).all() for _, tensor in tensors)


def test_a_pack_can_be_made_in_a_buffer() -> None:
    weights = WeightSet([(f"t{n}", filled(torch.zeros(n), n)) for n in range(1, 20)], CHUNK)
    (chunk,) = weights.manifest.chunks
    room = torch.zeros(CHUNK, dtype=torch.uint8)
    packed = weights.outgoing(chunk, room)
    assert packed.data_ptr() == room.data_ptr()
    assert torch.equal(packed, weights.outgoing(chunk))


def test_a_set_serves_the_chunks_of_any_manifest_of_the_same_tensors() -> None:
    source, target = ([(f"t{n}", filled(torch.zeros(50 * n), n + s)) for n in range(1, 60)] for s in (0, 500))
    first = WeightSet(source, 16_384, small_bytes=8192)
    second = WeightSet(target, 4096)
    transfer(first, second)
    assert all(torch.equal(memory(a), memory(b)) for (_, a), (_, b) in zip(source, target, strict=True))


def test_digests_are_those_of_the_bytes() -> None:
    weights = WeightSet([(f"t{n}", filled(torch.zeros(900), n)) for n in range(30)], CHUNK, small_bytes=4096)
    manifest = digest_all(weights)
    assert Manifest.decode(manifest.encode()) == manifest
    assert manifest.digests == tuple(digest(weights.outgoing(chunk)) for chunk in manifest.chunks)
    assert len(manifest.chunks) > 10


# Ties and overlaps


def test_tied_tensors_are_sent_once() -> None:
    embed = nn.Parameter(torch.ones(10, 4))
    weights = WeightSet([("embed", embed), ("norm", torch.ones(4)), ("head", embed)], CHUNK)
    assert [entry.name for entry in weights.manifest.entries] == ["embed", "norm"]
    assert weights.manifest.aliases == (("head", "embed"),)
    other = WeightSet([("embed", embed), ("norm", torch.ones(4)), ("head", torch.ones(10, 4))], CHUNK)
    assert differences(other.manifest, weights.manifest) != ()


def test_a_view_of_the_whole_is_the_same_tensor() -> None:
    embed = torch.ones(10, 4)
    weights = WeightSet([("embed", embed), ("head", embed.view(10, 4)), ("detached", embed.detach())], CHUNK)
    assert weights.manifest.aliases == (("head", "embed"), ("detached", "embed"))


def test_tensors_without_elements_are_never_tied() -> None:
    weights = WeightSet([("a", torch.empty(0)), ("b", torch.empty(0))], CHUNK)
    assert weights.manifest.aliases == ()
    assert weights.manifest.chunks == ()


def test_parts_of_one_storage_that_do_not_meet_are_sent_each() -> None:
    source, target = (filled(torch.zeros(6000), seed) for seed in (1, 2))

    def parts(flat: torch.Tensor) -> Named:
        fused = flat[3000:].view(30, 100)
        return [("a", flat[:1000]), ("b", flat[1000:3000]), ("q", fused[:, :40]), ("k", fused[:, 40:])]

    transfer(WeightSet(parts(source), CHUNK), WeightSet(parts(target), CHUNK))
    assert torch.equal(memory(source), memory(target))


OVERLAPS: dict[str, Callable[[torch.Tensor], Named]] = {
    "a part": lambda flat: [("whole", flat), ("part", flat[:10])],
    "by one element": lambda flat: [("a", flat[:11]), ("b", flat[10:])],
    "another dtype": lambda flat: [("f32", flat), ("i32", flat.view(torch.int32))],
    "another shape": lambda flat: [("flat", flat), ("square", flat.view(10, 10))],
    "transposed": lambda flat: [("w", flat.view(10, 10)), ("wt", flat.view(10, 10).t())],
    "columns that meet": lambda flat: [("a", flat.view(10, 10)[:, :6]), ("b", flat.view(10, 10)[:, 5:])],
    "columns and all": lambda flat: [("a", flat.view(10, 10)[:, :6]), ("b", flat)],
    "a part of an expanded one": lambda flat: [("a", flat[:5].expand(4, 5)), ("b", flat[4:])],
    "inside of a long one": lambda flat: [("a", flat[::2]), ("b", flat[1:2]), ("c", flat[50:51])],
}


@pytest.mark.parametrize("case", OVERLAPS)
def test_tensors_that_share_part_of_their_bytes_are_refused_by_name(case: str) -> None:
    named = OVERLAPS[case](torch.zeros(100))
    with pytest.raises(WeightSetError, match="shares part of its bytes") as refused:
        WeightSet(named, CHUNK)
    assert sum(repr(name) in str(refused.value) for name, _ in named) >= 2


def released() -> torch.Tensor:
    tensor = torch.zeros(10)
    tensor.untyped_storage().resize_(0)
    return tensor


UNSENDABLE: dict[str, tuple[Callable[[], torch.Tensor], str]] = {
    "meta": (lambda: torch.zeros(3, device="meta"), "meta device"),
    "lazy": (nn.UninitializedParameter, "not initialised"),
    "sparse": (lambda: torch.eye(3).to_sparse(), "sparse"),
    "conjugated": (lambda: torch.zeros(3, dtype=torch.complex64).conj(), "conjugated"),
    "quantised": (lambda: torch.quantize_per_tensor(torch.zeros(3), 1.0, 0, torch.qint8), "layout"),
    "released": (released, "lost its memory"),
    "a window": (lambda: torch.zeros(10).as_strided((4, 4), (2, 1)), "share their memory"),
}


@pytest.mark.parametrize("case", UNSENDABLE)
@pytest.mark.filterwarnings("ignore")
def test_what_has_no_plain_bytes_is_refused_by_name(case: str) -> None:
    make, words = UNSENDABLE[case]
    with pytest.raises(WeightSetError, match=f"'layers.0.w' .*{words}"):
        WeightSet([("norm", torch.zeros(3)), ("layers.0.w", make())], CHUNK)


def test_a_private_format_of_the_device_is_refused() -> None:
    with pytest.raises(WeightSetError, match="'w' is in the format FRACTAL_NZ"):
        WeightSet([("w", torch.zeros(3))], CHUNK, format_of=lambda tensor: "FRACTAL_NZ")


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(WeightSetError, match="'w' occurs twice"):
        WeightSet([("w", torch.zeros(3)), ("w", torch.zeros(3))], CHUNK)


def test_memory_that_was_given_back_is_noticed() -> None:
    tensors = {"a": torch.zeros(10), "b": torch.zeros(10)}
    weights = WeightSet(tensors.items(), CHUNK)
    assert weights.released() == ()
    tensors["b"].untyped_storage().resize_(0)
    assert weights.released() == ("b",)


def test_tensors_of_inference_mode_can_be_received_outside_of_it() -> None:
    with torch.inference_mode():
        made = [torch.zeros(5), torch.zeros(40, 40)[:, :30], torch.zeros(3000)]
    weights = WeightSet([(str(n), tensor) for n, tensor in enumerate(made)], CHUNK, small_bytes=4096)
    for chunk in weights.manifest.chunks:
        incoming = weights.incoming(chunk)
        with torch.inference_mode():
            incoming.buffer.fill_(1)
        incoming.commit()
    assert all((memory(tensor) == 1).all() for tensor in made)


def test_parameters_that_want_gradients_are_received() -> None:
    parameter = nn.Parameter(torch.zeros(5))
    weights = WeightSet([("a", parameter), ("b", torch.zeros(2))], CHUNK)
    incoming = weights.incoming(weights.manifest.chunks[0])
    incoming.buffer.copy_(torch.ones(7).view(torch.uint8))
    incoming.commit()
    assert parameter.tolist() == [1.0] * 5


# What a model holds


@dataclass
class Impl:
    w_uv: torch.Tensor
    _cache: torch.Tensor
    config: Any


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))
        self.aclnn_input_scale = nn.Parameter(torch.ones(2))
        self.register_buffer("table", torch.ones(3), persistent=False)
        self.reciprocal = torch.ones(4)
        self.again = self.weight.detach()
        self.parts = [torch.ones(5), {"k": torch.ones(6)}]
        self.empty = torch.empty(0)
        self.on_meta = torch.empty(2, device="meta")
        self._hidden = torch.ones(7)
        shared = SimpleNamespace(deep=torch.ones(8))
        self.impl = Impl(torch.ones(9), torch.ones(10), shared)
        # As the configuration of vLLM, which knows its layers.
        shared.layer_impl = self.impl
        self.other = Impl(torch.ones(11), torch.ones(12), shared)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.attn = Attention()
        self.tied = nn.Linear(2, 2, bias=False)
        self.tied.weight = self.attn.weight


def test_raw_is_all_parameters_and_buffers_under_all_their_names() -> None:
    names = [name for name, _ in collect_raw(Model())]
    assert names == ["scale", "attn.weight", "attn.aclnn_input_scale", "tied.weight", "attn.table"]
    manifest = WeightSet(collect_raw(Model()), CHUNK).manifest
    assert manifest.aliases == (("tied.weight", "attn.weight"),)


def test_the_raw_layout_of_old_peers_differs_by_side() -> None:
    assert [name for name, _ in collect_legacy_raw(Model(), "source")] == ["scale", "attn.weight"]
    joiner = [name for name, _ in collect_legacy_raw(Model(), "joiner")]
    assert joiner == ["attn.weight", "attn.aclnn_input_scale"]


def test_the_processed_layout_of_old_peers_holds_attributes_too() -> None:
    found = collect_processed(Model(), lambda tensor: tensor.device.type == "cpu")
    assert [name for name, _ in found] == [
        "scale",
        "attn.weight",
        "attn.aclnn_input_scale",
        "attn.table",
        "attn.reciprocal",
        "attn.parts.0",
        "attn.parts.1.k",
        "attn.impl.w_uv",
        "attn.impl.config.deep",
    ]
    assert collect_processed(Model(), lambda tensor: tensor.device.type == "npu") == []
