"""The data path of peers without the extension: one blocking transfer per tensor, then a barrier.

As vllm-ascend's ``elastic_load.py``: ``pg.send([t], 0, 0).wait()``, ``pg.recv([t], 1, 0).wait()``, tag 0, and
``barrier``. vllm-ascend itself does this over HCCL; over gloo it serves CPUs. On NVIDIA GPUs there are no
such peers, so a group on ``cuda`` is refused.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from torch.distributed import Store

from ascendctl.netloader.engine.links.contract import LinkBroken, LinkError, LinkTimeout
from ascendctl.netloader.engine.links.gloo import gloo_group, sever
from ascendctl.netloader.engine.links.rendezvous import prefixed

if TYPE_CHECKING:
    from torch.distributed import ProcessGroupGloo, Work

_TAG = 0


class LegacyGroup:
    """A group of two in which whole tensors go one by one, in the order of the calls.

    ``rank``: 1 for the source, 0 for the joiner. Every call ends within ``timeout_s``, with `LinkTimeout` or
    `LinkBroken` when the peer does not take part; after that the group is of no use.
    """

    def __init__(
        self, store: Store, prefix: str, rank: int, device: torch.device, timeout_s: float, local_ip: str
    ) -> None:
        self._peer = 1 - rank
        self._timeout_s = timeout_s
        self._aborted: str | None = None
        inside = prefixed(store, prefix, timeout_s)
        if device.type == "cpu":
            self._group: ProcessGroupGloo | None = gloo_group(inside, rank, local_ip, timeout_s)
        elif device.type == "npu":
            from ascendctl.netloader.engine.links.hccl import hccl_group

            self._group = hccl_group(inside, rank, device, prefix, timeout_s)
        else:
            raise LinkError(f"no vllm-ascend peer moves weights to or from {device.type!r}")

    def send(self, tensor: torch.Tensor) -> None:
        """Send one tensor, whole; it must be contiguous."""
        self._wait(self._open().send([tensor], self._peer, _TAG), "send")

    def recv(self, tensor: torch.Tensor) -> None:
        """Receive one tensor, whole, into ``tensor``, which must be contiguous."""
        self._wait(self._open().recv([tensor], self._peer, _TAG), "receive")

    def barrier(self) -> None:
        """Wait until the peer is here too."""
        self._wait(self._open().barrier(), "barrier")

    def abort(self, reason: str = "aborted") -> None:
        """End the call under way, from any thread."""
        self._aborted = self._aborted or reason
        group = self._group
        if group is None:
            return
        from torch.distributed import ProcessGroupGloo

        if isinstance(group, ProcessGroupGloo):
            sever(group, self._peer)
        else:
            from ascendctl.netloader.engine.links.hccl import abort_group

            abort_group(group)

    def close(self) -> None:
        """Drop the group."""
        self._group = None

    def _open(self) -> ProcessGroupGloo:
        if self._group is None or self._aborted is not None:
            raise LinkBroken(f"the group of two is not usable any more: {self._aborted or 'closed'}")
        return self._group

    def _wait(self, work: Work, what: str) -> None:
        try:
            work.wait(timedelta(seconds=self._timeout_s))
        except RuntimeError as error:
            first = (str(error).splitlines() or ["no message"])[0]
            if self._aborted is not None:
                raise LinkBroken(self._aborted) from None
            self._aborted = f"a {what} failed: {first}"
            if "Timed out waiting" in first:
                raise LinkTimeout(
                    f"the peer took no part in a {what} within {self._timeout_s:.0f} s"
                ) from None
            raise LinkBroken(self._aborted) from None
