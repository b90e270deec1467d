"""Receiving from a source without the extension: vllm-ascend's ElasticServer of any generation, unmodified.

Nothing on that wire tells dtypes or content, so what arrives is unproven and reported so. What can be
compared is compared: in the processed layout the names, their order and the shapes.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ascendctl.netloader.engine.devices import finish, on_device
from ascendctl.netloader.engine.legacy_source import SocketLine
from ascendctl.netloader.engine.links.contract import RANK_OF
from ascendctl.netloader.engine.links.legacy import LegacyGroup
from ascendctl.netloader.engine.opening import opened
from ascendctl.netloader.engine.shop import LegacyTensors

if TYPE_CHECKING:
    import torch
    from torch.distributed import Store


class LegacyMismatch(Exception):
    """The source's tensors are not those here, or this engine cannot receive that layout."""


def receive_legacy(
    *,
    sock: socket.socket,
    store: Store,
    prefix: str,
    local_ip: str,
    device: torch.device,
    tensors: LegacyTensors,
    shapes: Mapping[str, tuple[int, ...]] | None,
    link_s: float,
    chunk_s: float,
) -> int:
    """Receives every tensor into place; returns the bytes. ``shapes``: those of the JOIN_ACK, None where the
    source sends the raw layout (G1, G2, and G3 with INT8_CACHE hbm or dram).

    Raises LegacyMismatch (nothing was touched), ControlError, LinkError (some tensors may hold new bytes).
    """
    targets = _targets(tensors, shapes)
    line = SocketLine(sock)
    # vllm-ascend's server closes this socket as soon as it has sent, so its end says nothing: the group's
    # own deadline decides.
    group = opened(line, lambda: _group(store, prefix, device, local_ip, chunk_s), link_s)
    total = 0
    try:
        with on_device(device):
            for _, target in targets:
                place = target.detach()
                into = place if place.is_contiguous() else place.contiguous()
                group.recv(into)
                if into is not place:
                    place.copy_(into)
                total += into.numel() * into.element_size()
            group.barrier()
            finish(device)
    finally:
        group.close()
    return total


def _group(store: Store, prefix: str, device: torch.device, local_ip: str, timeout_s: float) -> LegacyGroup:
    with on_device(device):
        return LegacyGroup(store, prefix, RANK_OF["joiner"], device, timeout_s, local_ip)


def _targets(
    tensors: LegacyTensors, shapes: Mapping[str, tuple[int, ...]] | None
) -> Sequence[tuple[str, torch.Tensor]]:
    collect = tensors.raw if shapes is None else tensors.processed
    layout = "raw" if shapes is None else "processed"
    if collect is None:
        raise LegacyMismatch(f"it sends the {layout} layout, which this engine cannot take in")
    targets = collect()
    if shapes is None:
        return targets
    own = [(name, tuple(tensor.shape)) for name, tensor in targets]
    theirs = list(shapes.items())
    if own != theirs:
        raise LegacyMismatch(f"its tensors are not those here: {_first_difference(own, theirs)}")
    return targets


def _first_difference(
    own: Sequence[tuple[str, tuple[int, ...]]], theirs: Sequence[tuple[str, tuple[int, ...]]]
) -> str:
    here, there = dict(own), dict(theirs)
    for name, shape in own:
        if name not in there:
            return f"{name!r} is not at the source"
        if there[name] != shape:
            return f"{name!r} has the shape {list(shape)} here and {list(there[name])} at the source"
    for name in there:
        if name not in here:
            return f"{name!r:.200} is only at the source"
    return "their order differs"
