"""The link between two processes on one NVIDIA GPU, where NCCL refuses to work.

The source owns a ring of slots in GPU memory and exports them by CUDA IPC; the joiner opens them. Each piece
of a transfer is copied into a slot by the source and out of it by the joiner, both on the GPU. A TCP
connection between the two carries the handles (as hexadecimal text, never a pickle) and one short line for
each piece: ``full SLOT BYTES`` from the source, ``free SLOT`` from the joiner. When either process goes away
its connection ends, and with it every wait of the other.

CUDA's driver is called directly: torch's own way to share memory needs its allocator (which may hold memory
that cannot be exported) and unpickles what it receives.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final, Protocol

import torch
from torch.distributed import Store

from ascendctl.netloader.engine.cuda_driver import IpcMemHandle, current, libcuda
from ascendctl.netloader.engine.links.contract import (
    LinkBroken,
    LinkError,
    LinkTimeout,
    Pending,
    checked,
)
from ascendctl.netloader.engine.links.rendezvous import peer_socket

SLOT_BYTES: Final = 64 << 20
SLOTS: Final = 4
"""256 MiB of the GPU while a link is open, at the source only."""

_END_S: Final = 10.0
_LONGEST_LINE: Final = 4096


def gpu_id(device: torch.device) -> str:
    """16 digits of the GPU's UUID: its name, the same in every process and container."""
    return str(torch.cuda.get_device_properties(device).uuid).replace("-", "").lower()[:16]


class Memory(Protocol):
    """GPU memory that two processes see. Addresses are plain integers."""

    def allocate(self, size: int) -> int:
        """Memory of ``size`` bytes that can be exported."""

    def free(self, address: int) -> None:
        """Give back what `allocate` gave."""

    def export(self, address: int) -> str:
        """A handle for the other process, in hexadecimal digits."""

    def open(self, handle: str) -> int:
        """The address here of what the other process exported."""

    def shut(self, address: int) -> None:
        """Undo `open`."""

    def mark(self) -> Any:
        """A point in the work that the caller has queued so far."""

    def copy(self, to: int, source: int, size: int, after: Any) -> Any:
        """Begin to copy, once the work up to ``after`` is done; what `finish` takes. Copies go in order."""

    def finish(self, copy: Any) -> None:
        """Return when this copy is done."""


class CudaIpcLink:
    """`ascendctl.netloader.engine.links.contract.Link` between two processes on one GPU.

    Two threads on each end work off the transfers in order: one queues copies, the other says when they are
    done.
    """

    kind = "cuda_ipc"

    def __init__(
        self,
        store: Store,
        rank: int,
        device: torch.device,
        local_ip: str,
        timeout_s: float,
        memory: Memory | None = None,
        slot_bytes: int = SLOT_BYTES,
    ) -> None:
        """Open it within ``timeout_s``: `LinkTimeout`, `LinkError` (no such GPU, IPC not allowed here)."""
        self.device = device
        self._sends = rank == 1
        self._memory = memory or _Driver(device)
        self._slot_bytes = slot_bytes
        self._lock = threading.Condition()
        self._cause: str | None = None
        self._queue: deque[_IpcPending] = deque()
        self._copies: SimpleQueue[_Copy | None] = SimpleQueue()
        self._slots: list[int] = []
        self._lines = _Lines(peer_socket(store, hosts=rank == 0, local_ip=local_ip, timeout_s=timeout_s))
        try:
            self._lines.set_timeout(timeout_s)
            self._share_slots()
            self._lines.set_timeout(None)
        except TimeoutError:
            self._give_back()
            raise LinkTimeout(f"the other end did not share its slots within {timeout_s:.0f} s") from None
        except (OSError, ValueError, LinkError) as error:
            self._give_back()
            raise LinkError(
                f"no CUDA IPC link: {error}; TRANSPORT: host on both ends works without"
            ) from None
        self._threads = [
            threading.Thread(target=target, name="netloader-cuda-ipc", daemon=True)
            for target in (self._work, self._report)
        ]
        for thread in self._threads:
            thread.start()

    def send(self, data: torch.Tensor) -> Pending:
        """Start to send ``data`` (see the contract); the source's end only."""
        if not self._sends:
            raise ValueError("the joiner's end of a link does not send")
        return self._queued(checked(data, self.device))

    def receive(self, into: torch.Tensor) -> Pending:
        """Start to receive into ``into`` (see the contract); the joiner's end only."""
        if self._sends:
            raise ValueError("the source's end of a link does not receive")
        return self._queued(checked(into, self.device))

    def abort(self, reason: str = "aborted") -> None:
        """End every wait at once with `LinkBroken`."""
        self._fail(reason)

    def close(self) -> None:
        """End the threads and give back the slots."""
        self._fail("closed")
        if self._ended():
            self._give_back()

    def wait(self, pending: _IpcPending, timeout_s: float) -> None:
        """What `Pending.wait` says, for a transfer of this link."""
        with self._lock:
            self._lock.wait_for(lambda: pending.done or self._cause is not None, timeout_s)
            if pending.done:
                return
            late = self._cause is None
        words = f"the other end did not take part in a transfer of {pending.data.numel()} bytes"
        if late:
            self._fail(f"{words} within {timeout_s:.1f} s")
        # Copies may be under way, which are short: nothing writes into the tensor after the threads ended.
        self._ended()
        if late:
            raise LinkTimeout(f"{words} within {timeout_s:.1f} s")
        raise LinkBroken(self._cause or "the link failed")

    def _ended(self) -> bool:
        """Wait for the threads of a link that failed; whether they are gone."""
        deadline = time.monotonic() + _END_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _queued(self, data: torch.Tensor) -> Pending:
        after = self._memory.mark()
        with self._lock:
            if self._cause is not None:
                raise LinkBroken(f"the cuda_ipc link is not usable any more: {self._cause}")
            pending = _IpcPending(self, data, after)
            self._queue.append(pending)
            self._lock.notify_all()
        return pending

    def _fail(self, cause: str) -> None:
        with self._lock:
            self._cause = self._cause or cause
            self._lock.notify_all()
        self._lines.end()

    def _share_slots(self) -> None:
        if self._sends:
            self._slots += [self._memory.allocate(self._slot_bytes) for _ in range(SLOTS)]
            handles = " ".join(self._memory.export(address) for address in self._slots)
            self._lines.say(f"slots {self._slot_bytes} {handles}")
            answer = self._lines.hear()
            if answer != "open":
                raise LinkError(f"the joiner could not open the slots ({answer or 'it hung up'})")
            return
        words = self._lines.hear().split(" ")
        if words[0] != "slots" or len(words) != 2 + SLOTS:
            raise LinkError("the source did not share its slots")
        self._slot_bytes = int(words[1])
        try:
            self._slots += [self._memory.open(handle) for handle in words[2:]]
        except LinkError as error:
            self._lines.say(str(error))
            raise
        self._lines.say("open")

    def _give_back(self) -> None:
        self._lines.close()
        release: Callable[[int], None] = self._memory.free if self._sends else self._memory.shut
        for address in self._slots:
            with contextlib.suppress(LinkError):
                release(address)
        self._slots.clear()

    def _work(self) -> None:
        """Work off the queue until the link ends."""
        step = self._send_one if self._sends else self._receive_one
        free = deque(range(SLOTS))
        try:
            while True:
                with self._lock:
                    self._lock.wait_for(lambda: bool(self._queue) or self._cause is not None)
                    if self._cause is not None:
                        return
                    pending = self._queue.popleft()
                step(pending, free)
        except (OSError, ValueError, LinkError) as error:
            self._fail(str(error))
        finally:
            self._copies.put(None)

    def _report(self) -> None:
        """Say of each copy that it is done, in order; after a failure only wait for those under way."""
        while (copy := self._copies.get()) is not None:
            try:
                self._memory.finish(copy.mark)
                if self._cause is not None:
                    continue
                self._lines.say(copy.line)
            except (OSError, LinkError) as error:
                self._fail(str(error))
                continue
            if copy.last:
                with self._lock:
                    copy.pending.done = True
                    self._lock.notify_all()

    def _send_one(self, pending: _IpcPending, free: deque[int]) -> None:
        start, size = pending.data.data_ptr(), pending.data.numel()
        for offset in range(0, size, self._slot_bytes):
            if not free:
                free.append(int(self._said("free")[0]))
            slot = free.popleft()
            part = min(self._slot_bytes, size - offset)
            self._copy(pending, self._slots[slot], start + offset, part, f"full {slot} {part}", offset)

    def _receive_one(self, pending: _IpcPending, free: deque[int]) -> None:
        start, size = pending.data.data_ptr(), pending.data.numel()
        for offset in range(0, size, self._slot_bytes):
            slot, part = (int(word) for word in self._said("full"))
            if not 0 <= slot < SLOTS or part != min(self._slot_bytes, size - offset):
                raise LinkError(f"the source sent a piece of {part} bytes where another was expected")
            self._copy(pending, start + offset, self._slots[slot], part, f"free {slot}", offset)

    def _copy(self, pending: _IpcPending, to: int, source: int, part: int, line: str, offset: int) -> None:
        # An abort must not be followed by a write.
        if self._cause is None:
            mark = self._memory.copy(to, source, part, pending.after)
            self._copies.put(_Copy(pending, mark, line, offset + part == pending.data.numel()))

    def _said(self, word: str) -> list[str]:
        line = self._lines.hear()
        first, *rest = line.split(" ")
        if first != word:
            raise LinkError("the other end is gone" if not line else f"the other end said {line!r}")
        return rest


@dataclass(frozen=True)
class _Copy:
    """A copy that was begun: what it is part of, what tells when it is done, and what to say then."""

    pending: _IpcPending
    mark: Any
    line: str
    last: bool


class _IpcPending:
    """One transfer of a `CudaIpcLink`."""

    def __init__(self, link: CudaIpcLink, data: torch.Tensor, after: Any) -> None:
        self._link = link
        self.data = data
        self.after = after
        self.done = False

    def wait(self, timeout_s: float) -> None:
        self._link.wait(self, timeout_s)


class _Lines:
    """Lines of text over a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = connection.makefile("rb")

    def set_timeout(self, timeout_s: float | None) -> None:
        self._connection.settimeout(timeout_s)

    def say(self, line: str) -> None:
        self._connection.sendall(line.encode() + b"\n")

    def hear(self) -> str:
        """The next line; "" when the other end is gone."""
        return self._reader.readline(_LONGEST_LINE).decode("ascii").rstrip("\n")

    def end(self) -> None:
        """End a `hear` or `say` under way, from any thread."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._reader.close()
        self._connection.close()


class _Driver:
    """`Memory` of a real GPU, through libcuda."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        try:
            self._cuda = libcuda()
        except OSError as error:
            raise LinkError(f"the CUDA driver cannot be loaded: {error}") from None
        self._stream = torch.cuda.Stream(device)

    def allocate(self, size: int) -> int:
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), size)
        return address.value

    def free(self, address: int) -> None:
        self._call("cuMemFree_v2", address)

    def export(self, address: int) -> str:
        handle = IpcMemHandle()
        self._call("cuIpcGetMemHandle", ctypes.byref(handle), address)
        return bytes(handle).hex()

    def open(self, handle: str) -> int:
        address = ctypes.c_uint64()
        lazy_peer_access = 1
        given = IpcMemHandle.from_buffer_copy(bytes.fromhex(handle))
        self._call("cuIpcOpenMemHandle_v2", ctypes.byref(address), given, lazy_peer_access)
        return address.value

    def shut(self, address: int) -> None:
        self._call("cuIpcCloseMemHandle", address)

    def mark(self) -> Any:
        with torch.cuda.device(self._device):
            event = torch.cuda.Event()
            event.record()
        return event

    def copy(self, to: int, source: int, size: int, after: Any) -> Any:
        with _failures_told():
            self._stream.wait_event(after)
            self._call("cuMemcpyDtoDAsync_v2", to, source, size, self._stream.cuda_stream)
            done = torch.cuda.Event()
            done.record(self._stream)
            return done

    def finish(self, copy: Any) -> None:
        with _failures_told():
            copy.synchronize()

    def _call(self, name: str, *arguments: Any) -> None:
        with current(self._device):
            code = getattr(self._cuda, name)(*arguments)
        if code != 0:
            text = ctypes.c_char_p()
            self._cuda.cuGetErrorName(code, ctypes.byref(text))
            raise LinkError(f"{name}: {text.value.decode() if text.value else code}")


@contextlib.contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LinkError(f"CUDA: {str(error).splitlines()[0]}") from None
