"""What a seed serves: the tensors as they were loaded, kept past vLLM's post-processing.

Post-processing (a layout for the device's kernels, a quantisation) makes most tensors anew and drops the old
ones: a reference keeps those. Some it may change where they lie. Such a tensor is no longer what the manifest
says, and nothing made from it can be served, unless a copy was taken before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import nn

from ascendctl.netloader.engine.manifest import (
    DEFAULT_CHUNK_BYTES,
    SMALL_BYTES,
    Chunk,
    Layout,
    Manifest,
    differences,
)
from ascendctl.netloader.engine.weights import WeightSet, digest_all, distinct_elements, same_place

# INT8_CACHE: references only, or copies of some tensors on their device or in the host's memory.
Mode = Literal["no", "hbm", "dram"]

_TOLD = 5
_RAW: Layout = "raw"


class Kept:
    """The tensors of one rank before post-processing: ``weights``, and ``manifest`` with their digests.

    ``copied_bytes``: memory taken by copies. References cost what post-processing would have given back.
    ``unservable``: why these tensors may not be served, None while nothing is known against it.
    ``tensors``: what is kept, by name; each refers to its memory, whatever becomes of the parameter.
    """

    def __init__(
        self,
        weights: WeightSet,
        manifest: Manifest,
        copied_bytes: int,
        tensors: Mapping[str, torch.Tensor],
    ) -> None:
        self.weights = weights
        self.tensors = tensors
        self.manifest = manifest
        self.copied_bytes = copied_bytes
        self.unservable: str | None = None

    @classmethod
    def before(
        cls,
        named: Iterable[tuple[str, torch.Tensor]],
        mode: Mode = "no",
        names: Sequence[str] = (),
        *,
        chunk_bytes: int = DEFAULT_CHUNK_BYTES,
        small_bytes: int = SMALL_BYTES,
        device: torch.device | None = None,
        digested: Manifest | None = None,
    ) -> Kept:
        """Keeps ``named`` (:func:`~.weights.collect_raw`); to be called when all are loaded.

        ``names``: INT8_CACHE_NAME, parts of the names of what is copied in the modes hbm and dram; without
        any, all parameters of dtype int8, as in vllm-ascend. ``digested``: the manifest against which these
        tensors were just received and verified, which saves digesting them again; its cuts are used.
        Raises :class:`~.weights.WeightSetError` for tensors that cannot be sent, ValueError for a
        ``digested`` manifest of other tensors.
        """
        if digested is not None:
            chunk_bytes, small_bytes = digested.chunk_bytes, digested.small_bytes
        tensors = list(named)
        # The tensors' own device, also where all that is sent from is a copy on the host.
        own = WeightSet(tensors, chunk_bytes, _RAW, small_bytes=small_bytes, device=device)
        copies = {} if mode == "no" else _copies(tensors, mode, names)
        kept = {name: copies.get(same_place(tensor), tensor).detach() for name, tensor in tensors}
        weights = own
        if copies:
            weights = WeightSet(kept.items(), chunk_bytes, _RAW, small_bytes=small_bytes, device=own.device)
        copied_bytes = sum(copy.untyped_storage().nbytes() for copy in copies.values())
        return cls(weights, _digested(weights, digested), copied_bytes, kept)

    def after(self) -> tuple[str, ...]:
        """Which of the kept tensors post-processing has changed or released, in words; empty: none.

        Sets ``unservable`` accordingly. Digests all kept bytes once more.
        """
        changed = tuple(f"{name!r} was released" for name in self.weights.released())
        if not changed:
            digests = digest_all(self.weights).digests
            changed = tuple(self._differing(digests or ()))
        if changed:
            more = f" and {len(changed) - _TOLD} more" if len(changed) > _TOLD else ""
            self.unservable = (
                f"post-processing changed weights where they lie: {', '.join(changed[:_TOLD])}{more}; "
                "INT8_CACHE hbm or dram, with their names in INT8_CACHE_NAME, keeps copies of them"
            )
        return changed

    def _differing(self, digests: Sequence[bytes]) -> Iterator[str]:
        told: set[str] = set()
        for chunk, before, now in zip(
            self.manifest.chunks, self.manifest.digests or (), digests, strict=True
        ):
            words = self._content(chunk)
            if before != now and words not in told:
                told.add(words)
                yield words

    def _content(self, chunk: Chunk) -> str:
        first, last = (self.manifest.entries[chunk.pieces[end].entry].name for end in (0, -1))
        if len(chunk.pieces) == 1:
            return repr(first)
        return f"one or more of {len(chunk.pieces)} small tensors from {first!r} to {last!r}"


def _digested(weights: WeightSet, manifest: Manifest | None) -> Manifest:
    if manifest is None:
        return digest_all(weights)
    found = differences(weights.manifest, manifest)
    if found or manifest.digests is None:
        raise ValueError(f"not the digests of these tensors: {'; '.join(found) or 'there are none'}")
    return manifest


def _copies(
    tensors: Iterable[tuple[str, torch.Tensor]], mode: Mode, names: Sequence[str]
) -> dict[object, torch.Tensor]:
    """By their place, so that a tensor of several names is copied once and stays one."""
    copies: dict[object, torch.Tensor] = {}
    for name, tensor in tensors:
        place = same_place(tensor)
        if _is_named(name, tensor, names) and tensor.numel() and place not in copies:
            copies[place] = _copy(tensor, "cpu" if mode == "dram" else tensor.device)
    return copies


def _is_named(name: str, tensor: torch.Tensor, names: Sequence[str]) -> bool:
    if names:
        return any(part in name for part in names)
    return isinstance(tensor, nn.Parameter) and tensor.dtype == torch.int8


def _copy(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """With the same strides: they are part of the manifest."""
    copy = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
    distinct_elements(copy).copy_(distinct_elements(tensor.detach()))
    return copy
