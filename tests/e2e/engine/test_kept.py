"""Raw tensors past post-processing: what was replaced is still served, what was changed in place never."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ascendctl.netloader.engine.digest import digest
from ascendctl.netloader.engine.kept import Kept, Mode
from ascendctl.netloader.engine.weights import WeightSet, WeightSetError, collect_raw, digest_all

CHUNK = 8192


class Layer(nn.Module):
    def __init__(self, seed: int = 1) -> None:
        super().__init__()
        drawn = torch.Generator().manual_seed(seed)
        self.up = nn.Parameter(torch.randn(60, 50, generator=drawn))
        self.scale = nn.Parameter(torch.randn(8, generator=drawn))
        self.packed = nn.Parameter(
            torch.randint(-9, 9, (40, 60), dtype=torch.int8, generator=drawn).t(), requires_grad=False
        )
        self.register_buffer("table", torch.randn(5, generator=drawn))


def kept(layer: nn.Module, mode: Mode = "no", *names: str) -> Kept:
    return Kept.before(collect_raw(layer), mode, names, chunk_bytes=CHUNK, small_bytes=4096)


def served(held: Kept) -> list[bytes]:
    return [digest(held.weights.outgoing(chunk)) for chunk in held.manifest.chunks]


def test_replaced_tensors_are_served_as_they_were_loaded() -> None:
    layer = Layer()
    held = kept(layer)
    layer.up.data = layer.up.data.t().contiguous() * 2
    layer.packed = nn.Parameter(torch.empty(0, dtype=torch.int8), requires_grad=False)
    del layer.scale
    assert held.after() == ()
    assert held.unservable is None
    assert (
        tuple(served(held))
        == held.manifest.digests
        == digest_all(WeightSet(collect_raw(Layer()), CHUNK, small_bytes=4096)).digests
    )


def test_a_large_tensor_changed_in_place_is_named() -> None:
    layer = Layer()
    held = kept(layer)
    with torch.no_grad():
        layer.up[59, 49] += 1
    assert held.after() == ("'up'",)
    assert held.unservable is not None
    assert "'up'" in held.unservable
    assert "INT8_CACHE_NAME" in held.unservable


def test_a_small_tensor_changed_in_place_is_told_by_its_pack() -> None:
    layer = Layer()
    held = kept(layer)
    layer.table.mul_(2)
    assert held.after() == ("one or more of 3 small tensors from 'scale' to 'table'",)


def test_a_change_that_autograd_does_not_count_is_seen() -> None:
    layer = Layer()
    held = kept(layer)
    layer.up.data.zero_()
    assert held.after() == ("'up'",)


def test_released_memory_is_told_and_not_read() -> None:
    layer = Layer()
    held = kept(layer)
    layer.up.untyped_storage().resize_(0)
    assert held.after() == ("'up' was released",)
    assert held.unservable is not None


@pytest.mark.parametrize("mode", ["hbm", "dram"])
def test_copies_outlive_a_change_in_place(mode: Mode) -> None:
    layer = Layer()
    right = kept(layer).manifest
    held = kept(layer, mode)
    assert held.copied_bytes == 2400
    assert held.manifest == right
    layer.packed.zero_()
    assert held.after() == ()
    assert tuple(served(held)) == right.digests


def test_without_names_only_parameters_of_dtype_int8_are_copied() -> None:
    layer = Layer()
    held = kept(layer, "hbm")
    layer.up.data.zero_()
    assert held.after() == ("'up'",)


def test_names_say_what_is_copied() -> None:
    layer = Layer()
    held = kept(layer, "dram", "u", "absent")
    assert held.copied_bytes == 60 * 50 * 4
    layer.up.data.zero_()
    assert held.after() == ()
    layer.packed.zero_()
    assert held.after() == ("one or more of 3 small tensors from 'scale' to 'table'",)


def test_tied_tensors_stay_tied_when_one_name_is_copied() -> None:
    layer = Layer()
    layer.head = nn.Linear(50, 60, bias=False)
    layer.head.weight = layer.up
    held = kept(layer, "hbm", "head")
    assert held.manifest.aliases == (("head.weight", "up"),)
    assert held.copied_bytes == 60 * 50 * 4


def test_copies_of_slices_and_expanded_tensors_keep_their_strides() -> None:
    named = [("slice", torch.randn(9, 20)[:, 3:9]), ("wide", torch.randn(1, 6).expand(4, 6))]
    plain = Kept.before(named, chunk_bytes=CHUNK)
    copied = Kept.before(named, "hbm", ("slice", "wide"), chunk_bytes=CHUNK)
    assert copied.manifest == plain.manifest
    assert copied.copied_bytes > 0


def test_what_was_just_verified_is_not_digested_again() -> None:
    """Seen by digests that only the caller can have made."""
    layer = Layer()
    manifest = WeightSet(collect_raw(layer), 4096, small_bytes=4096).manifest
    given = manifest.with_digests([bytes(16)] * len(manifest.chunks))
    held = Kept.before(collect_raw(layer), digested=given)
    assert held.manifest is given
    assert held.after() != ()


def test_digests_of_other_tensors_are_refused() -> None:
    other = WeightSet([("w", torch.zeros(3))], CHUNK)
    for manifest in (digest_all(other), WeightSet(collect_raw(Layer()), CHUNK).manifest):
        with pytest.raises(ValueError, match="not the digests of these tensors"):
            Kept.before(collect_raw(Layer()), digested=manifest)


def test_tensors_that_cannot_be_sent_are_refused_at_once() -> None:
    with pytest.raises(WeightSetError, match="meta"):
        Kept.before([("w", torch.zeros(3, device="meta"))])
