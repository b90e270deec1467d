"""The link through the memory of the host: gloo between the hosts, page-locked staging on each end.

It is slower than a link between devices of one kind and works between any two: a CPU can feed a GPU or an
NPU, and they each other (``TRANSPORT: host``).
"""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any

import torch
from torch.distributed import Store

from ascendctl.netloader.engine.links.contract import MOST_IN_FLIGHT, LinkBroken, Pending, checked
from ascendctl.netloader.engine.links.gloo import GlooLink


class HostLink:
    """`ascendctl.netloader.engine.links.contract.Link` through host memory; at most 4 transfers in flight."""

    kind = "host"

    def __init__(
        self, store: Store, rank: int, device: torch.device, local_ip: str, timeout_s: float
    ) -> None:
        """Open it within ``timeout_s``: `LinkTimeout`, `LinkError`."""
        self.device = device
        self._wire = GlooLink(store, rank, local_ip, timeout_s)
        # torch.cuda and torch.npu have the same streams; a CPU has none.
        self._streams: ModuleType | None = None if device.type == "cpu" else getattr(torch, device.type)
        self._stream: Any = None if self._streams is None else self._streams.Stream(device)
        self._slots = _Slots(pinned=self._streams is not None)

    def send(self, data: torch.Tensor) -> Pending:
        """Copy ``data`` to the host and start to send it (see the contract)."""
        size = checked(data, self.device).numel()
        slot = self._slots.take(size)
        try:
            self._copy(slot[:size], data)
            return _HostPending(self, self._wire.send(slot[:size]), slot, None)
        except BaseException:
            self._slots.give(slot)
            raise

    def receive(self, into: torch.Tensor) -> Pending:
        """Start to receive to the host; `wait` copies to ``into`` (see the contract)."""
        size = checked(into, self.device).numel()
        slot = self._slots.take(size)
        try:
            return _HostPending(self, self._wire.receive(slot[:size]), slot, into)
        except BaseException:
            self._slots.give(slot)
            raise

    def abort(self, reason: str = "aborted") -> None:
        """End every wait at once with `LinkBroken`."""
        self._wire.abort(reason)

    def close(self) -> None:
        """Drop the group and the staging memory."""
        self._wire.close()
        self._slots.clear()

    def finished(self, slot: torch.Tensor, into: torch.Tensor | None) -> None:
        """A transfer arrived in ``slot`` (``into``: where it goes on the device) or left from it."""
        try:
            if into is not None:
                self._copy(into, slot[: into.numel()])
        finally:
            self._slots.give(slot)

    def _copy(self, to: torch.Tensor, source: torch.Tensor) -> None:
        """Copy between host and device on a stream of our own, so that no other work waits for it."""
        if self._streams is None:
            to.copy_(source)
            return
        try:
            self._stream.wait_stream(self._streams.current_stream(self.device))
            with self._streams.stream(self._stream):
                to.copy_(source, non_blocking=True)
            self._stream.synchronize()
        except RuntimeError as error:
            cause = f"a copy between host and {self.device} failed: {str(error).splitlines()[0]}"
            self._wire.abort(cause)
            raise LinkBroken(cause) from None


class _HostPending:
    """One transfer of a `HostLink`."""

    def __init__(self, link: HostLink, wire: Pending, slot: torch.Tensor, into: torch.Tensor | None) -> None:
        self._link = link
        self._wire = wire
        self._slot = slot
        self._into = into
        self._done = False

    def wait(self, timeout_s: float) -> None:
        if self._done:
            return
        self._wire.wait(timeout_s)
        self._done = True
        self._link.finished(self._slot, self._into)


class _Slots:
    """Host buffers that are used again: at most `MOST_IN_FLIGHT`, each as big as what it last had to hold."""

    def __init__(self, *, pinned: bool) -> None:
        self._pinned = pinned
        self._lock = threading.Lock()
        self._free: list[torch.Tensor] = []
        self._taken = 0

    def take(self, size: int) -> torch.Tensor:
        """A buffer of ``size`` bytes or more. Raises `ValueError` if too many are taken."""
        with self._lock:
            if self._taken >= MOST_IN_FLIGHT:
                raise ValueError(f"more than {MOST_IN_FLIGHT} transfers in flight: wait for the oldest first")
            self._taken += 1
            fitting = [index for index, buffer in enumerate(self._free) if buffer.numel() >= size]
            if fitting:
                return self._free.pop(fitting[0])
            # None is big enough: one of them makes room, so that there are never more than the bound.
            if self._free:
                self._free.pop()
        return torch.empty(size, dtype=torch.uint8, pin_memory=self._pinned)

    def give(self, slot: torch.Tensor) -> None:
        """Take ``slot`` back."""
        with self._lock:
            self._taken -= 1
            self._free.append(slot)

    def clear(self) -> None:
        """Free the buffers that nobody uses."""
        with self._lock:
            self._free.clear()
