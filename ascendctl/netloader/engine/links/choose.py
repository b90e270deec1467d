"""Which link two engines use: each says what it could use, the source chooses, both open it.

What an engine offers (the field ``links`` of its JOIN) is a tuple of words, the best first:

  gloo            CPU memory to CPU memory
  nccl            NVIDIA GPU to another NVIDIA GPU
  cuda_ipc:ID     two processes on the one GPU ``ID`` (NCCL refuses two ranks on one GPU)
  hccl            Ascend NPU to another Ascend NPU
  host            any device, through the memory of the host (``TRANSPORT: host``)

``cuda_ipc:ID`` counts only where both ends name the same GPU; then it is chosen, because nccl would fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.distributed import Store

from ascendctl.netloader.engine.links.contract import RANK_OF, Link, LinkError, Role
from ascendctl.netloader.engine.links.rendezvous import prefixed

_BEST_FIRST = ("cuda_ipc", "nccl", "hccl", "gloo", "host")
_DEVICE_WORDS = {
    "gloo": "a CPU",
    "nccl": "an NVIDIA GPU",
    "cuda_ipc": "an NVIDIA GPU",
    "hccl": "an Ascend NPU",
}


@dataclass(frozen=True)
class Refusal:
    """Why two engines cannot be linked, in words for both ends."""

    reason: str


def offered(device: torch.device, transport: str) -> tuple[str, ...]:
    """The links that an engine with its weights on ``device`` can use; ``transport``: ``auto`` or ``host``.

    Raises `LinkError` for a device that no link knows, or if the library of its link is missing.
    """
    if transport == "host":
        return ("host",)
    if device.type == "cpu":
        return ("gloo",)
    if device.type == "cuda":
        from ascendctl.netloader.engine.links.cuda_ipc import gpu_id

        return (f"cuda_ipc:{gpu_id(device)}", "nccl")
    if device.type == "npu":
        return ("hccl",)
    raise LinkError(f"no link carries weights from or to {device.type!r}; TRANSPORT: host on both ends does")


def chosen(own: Sequence[str], theirs: Sequence[str]) -> str | Refusal:
    """The kind of link for an engine that offers ``own`` and a peer that offers ``theirs``.

    The same whichever end asks. The kind is what `open_link` takes and the ACK names (without a GPU's id).
    """
    known = [offer for offer in own if offer in theirs and _kind(offer) in _BEST_FIRST]
    if known:
        return min((_kind(offer) for offer in known), key=_BEST_FIRST.index)
    if set(own) & set(theirs):
        return Refusal(f"both ends offer no link that this version knows ({_words(own)})")
    if ("host" in own) != ("host" in theirs):
        host_end, auto_end = ("this end", "the other") if "host" in own else ("the other end", "this one")
        return Refusal(
            f"{host_end} was started with TRANSPORT: host and {auto_end} was not "
            f"({_words(own)} here, {_words(theirs)} there): write TRANSPORT: host on both ends"
        )
    return Refusal(
        f"the devices are of different kinds: {_words(own)} here, {_words(theirs)} there; "
        "TRANSPORT: host on both ends carries the weights through host memory"
    )


def open_link(
    kind: str,
    *,
    role: Role,
    store: Store,
    prefix: str,
    device: torch.device,
    local_ip: str,
    timeout_s: float,
) -> Link:
    """Open this end of a link within ``timeout_s``; both ends call it at about the same time.

    ``kind``: as `chosen` said. ``store``: hosted by the joiner, joined by the source. ``prefix``: the group's
    (`ascendctl.netloader.engine.links.rendezvous.group_prefix`), equal on both ends. ``device``: where this
    end's weights are. ``local_ip``: this end's address of the control connection. Raises `LinkTimeout` if
    the other end does not come, `LinkError` if the link cannot be made.
    """
    rank = RANK_OF[role]
    inside = prefixed(store, prefix, timeout_s)
    if kind == "gloo" or (kind == "host" and device.type == "cpu"):
        from ascendctl.netloader.engine.links.gloo import GlooLink

        return GlooLink(inside, rank, local_ip, timeout_s)
    if kind == "host":
        from ascendctl.netloader.engine.links.host import HostLink

        return HostLink(inside, rank, device, local_ip, timeout_s)
    if kind == "nccl":
        from ascendctl.netloader.engine.links.nccl import NcclLink

        return NcclLink(inside, rank, device, timeout_s)
    if kind == "cuda_ipc":
        from ascendctl.netloader.engine.links.cuda_ipc import CudaIpcLink

        return CudaIpcLink(inside, rank, device, local_ip, timeout_s)
    if kind == "hccl":
        from ascendctl.netloader.engine.links.hccl import HcclLink

        return HcclLink(inside, rank, device, prefix, timeout_s)
    raise LinkError(f"{kind!r} is no kind of link; this version knows gloo, nccl, cuda_ipc, hccl and host")


def _kind(offer: str) -> str:
    return offer.partition(":")[0]


def _words(offers: Sequence[str]) -> str:
    """What an end offers, for a reason: its device and the links, without ids."""
    kinds = [_kind(offer) for offer in offers]
    devices = list(dict.fromkeys(_DEVICE_WORDS[kind] for kind in kinds if kind in _DEVICE_WORDS))
    links = ", ".join(kinds) or "no link"
    return f"{devices[0]} ({links})" if devices else links
