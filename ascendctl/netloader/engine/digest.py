"""Sixteen bytes that tell whether a chunk arrived as it was sent, cheap enough to take of every byte.

Two levels of sketches mod 2^64, then blake2b. A row is 512 words of 8 bytes; its sketches are

    A = sum of w[j] * x[j]            B = sum of v[j] * (x[j] >> 32)

with w, v odd 64-bit numbers, taken at random once and fixed below. The As of up to 512 rows form a row of the
second level, and so do the Bs; each is sketched once more, in the same way with other numbers. What is left
(32 bytes for 2 MiB of data) and the length go through blake2b.

Why two sketches: in arithmetic mod 2^64 an error of which all differences are multiples of 2^t escapes a
sum of random odd weights with probability up to 2^-(63-t), so A alone would be blind to two flips of bit 63.
If t < 32, A sees the error; else B does, for which it has moved down by 32 bits. So an error that does not
depend on the weights is missed with probability at most 2^-32 by each level, 2^-31 in all, over the choice of
the weights. A single flip is caught for certain: one A differs (odd times a power of 2), hence one of the
second level. Each word of a row and each row of a group has a weight of its own, so bytes that moved count as
such an error. None of this withstands an adversary who chooses the bytes; for that both ends share a TOKEN.

On a CPU this is two products of a matrix and a vector; other devices have no such product of integers and
multiply and add elementwise, with the same result (an NVIDIA GPU in one kernel, `digest_cuda`). Words are
little-endian, as on all hosts of these devices.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache
from typing import Any, Protocol

import torch

from ascendctl.netloader.engine import digest_cuda
from ascendctl.netloader.engine.manifest import DIGEST_BYTES, ROW_BYTES

_WORD_BYTES = 8
_ROW_WORDS = ROW_BYTES // _WORD_BYTES
# Rows at a time. On a CPU: 256 KiB, which stay in its cache from one sketch to the other; nor does torch
# share so small an operation out among the threads of inference. Elsewhere: 32 MiB, for few launches.
_CPU_BLOCK_ROWS = 64
_ELEMENTWISE_BLOCK_ROWS = 8192
_POLL_S = 0.0001
_MOST_THREADS = 4
# A thread is not worth waking for less than these 4 MiB.
_PART_ROWS = 1024

# Writes A and B of each row of a matrix into two vectors.
_Sketch = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], None]


def digest(data: torch.Tensor) -> bytes:
    """The 16 bytes of ``data``, a contiguous 1-D uint8 tensor on any device; the same on every device.

    Raises ValueError for any other tensor.
    """
    return _finish(_sketched(data), data.numel())


def elementwise_digest(data: torch.Tensor) -> bytes:
    """:func:`digest` by the way that any device can take, on any device."""
    return _finish(_Rows(data, _by_elements).taken(), data.numel())


class Pending(Protocol):
    """A digest that is being taken."""

    def done(self) -> bool: ...

    def result(self, timeout_s: float | None = None) -> bytes:
        """The 16 bytes; raises TimeoutError when they are not there after ``timeout_s``."""


class Digester:
    """Takes digests beside the work of its caller: in threads for a CPU, else on a stream of its own.

    What was submitted must not change before its result is there. Digests are begun in the order submitted.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._device = torch.device(device)
        self._threads: ThreadPoolExecutor | None = None
        if self._device.type == "cpu":
            self._count = _thread_count(len(os.sched_getaffinity(0)))
            self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="netloader-digest")
        else:
            self._streams: Any = torch.get_device_module(self._device)
            self._stream = self._streams.Stream(self._device)

    def submit(self, data: torch.Tensor, ready_event: Any = None) -> Pending:
        """Begins with ``data`` as soon as ``ready_event`` (an event of the device) has happened.

        Without one, as soon as what the caller's current stream holds now is done. On a CPU the data must be
        there already. Raises ValueError for data that is not on the digester's device.
        """
        if data.device.type != self._device.type:
            raise ValueError(f"data on {data.device} for a digester of {self._device}")
        if self._threads is not None:
            return self._in_threads(self._threads, data)
        return self._on_stream(data, ready_event)

    def close(self) -> None:
        """Ends the threads once all that was submitted is done."""
        if self._threads is not None:
            self._threads.shutdown(wait=True)

    def __enter__(self) -> Digester:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _in_threads(self, threads: ThreadPoolExecutor, data: torch.Tensor) -> Pending:
        rows = _Rows(data, _by_products)
        size = max(_PART_ROWS, -(-rows.full // self._count))
        parts = [
            threads.submit(rows.take, begin, min(begin + size, rows.full))
            for begin in range(0, rows.full, size) or (0,)
        ]
        return _InThreads(rows, parts)

    def _on_stream(self, data: torch.Tensor, ready_event: Any) -> Pending:
        if ready_event is None:
            self._stream.wait_stream(self._streams.current_stream(self._device))
        else:
            self._stream.wait_event(ready_event)
        with self._streams.stream(self._stream):
            sketches = _sketched(data)
            # Pinned, or the copy would hold up the caller.
            on_host = torch.empty(sketches.shape, dtype=torch.int64, pin_memory=True)
            on_host.copy_(sketches, non_blocking=True)
            done = self._streams.Event()
            done.record(self._stream)
        # The allocator must not hand the bytes out again while this stream still reads them.
        data.record_stream(self._stream)
        return _OnStream(done, on_host, data)


def _thread_count(cores: int) -> int:
    """How many of ``cores`` a digest takes: the transfer and the other ranks of the host need the rest."""
    return max(1, min(_MOST_THREADS, cores // 4))


class _InThreads:
    def __init__(self, rows: _Rows, parts: list[Future[None]]) -> None:
        self._rows = rows
        self._parts = parts

    def done(self) -> bool:
        return all(part.done() for part in self._parts)

    def result(self, timeout_s: float | None = None) -> bytes:
        if wait(self._parts, timeout_s).not_done:
            raise _late(timeout_s)
        for part in self._parts:
            part.result()
        return _finish(self._rows.sketches(), self._rows.nbytes)


class _OnStream:
    def __init__(self, event: Any, sketches: torch.Tensor, data: torch.Tensor) -> None:
        self._event = event
        self._sketches = sketches
        self._data = data

    def done(self) -> bool:
        return bool(self._event.query())

    def result(self, timeout_s: float | None = None) -> bytes:
        # Asked again and again: waiting for the event itself knows no deadline.
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._event.query():
            if until is not None and time.monotonic() > until:
                raise _late(timeout_s)
            time.sleep(_POLL_S)
        return _finish(self._sketches, self._data.numel())


def _late(timeout_s: float | None) -> TimeoutError:
    return TimeoutError(f"no digest within {timeout_s} s")


def prepare(device: torch.device) -> threading.Thread | None:
    """Makes ready, in a thread of its own, what the first digest on ``device`` would wait for.

    On an NVIDIA GPU that is a kernel to be compiled; elsewhere there is nothing to do, and no thread.
    """
    if device.type != "cuda":
        return None
    # A thread begins with device 0.
    own = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
    thread = threading.Thread(
        target=digest_cuda.kernel, args=(own, _is_right), name="netloader-kernel", daemon=True
    )
    thread.start()
    return thread


def _sketched(data: torch.Tensor) -> torch.Tensor:
    """The sketches of the second level, shape [2, 2 * groups]: A and B of the groups of As, then of Bs."""
    if data.device.type == "cuda" and data.numel() <= digest_cuda.MOST_BYTES:
        fused = digest_cuda.kernel(data.device, _is_right)
        if fused is not None:
            return _by_kernel(fused, data)
    return _Rows(data, _by_products if data.device.type == "cpu" else _by_elements).taken()


def _by_kernel(fused: digest_cuda.Kernel, data: torch.Tensor) -> torch.Tensor:
    return fused.sketches(_checked(data), _weights(1, data.device), _weights(2, data.device))


def _is_right(fused: digest_cuda.Kernel) -> bool:
    """Whether it says what the elementwise way says: of full rows, a tail, more than one group, odd bytes."""
    drawn = torch.arange(513 * ROW_BYTES + 14, device=fused.device).mul_(2654435761)
    data = drawn.bitwise_right_shift_(9).to(torch.uint8)
    return all(
        torch.equal(_by_kernel(fused, part), _Rows(part, _by_elements).taken())
        for part in (data[:-1], data[1:])
    )


class _Rows:
    """The rows of one piece of data while their sketches are taken, perhaps by several threads."""

    def __init__(self, data: torch.Tensor, sketch: _Sketch) -> None:
        self._data = _checked(data)
        self._sketch = sketch
        self.nbytes = data.numel()
        self.full, rest = divmod(self.nbytes, ROW_BYTES)
        self._groups = -(-(self.full + (rest > 0)) // _ROW_WORDS)
        self._lanes = torch.zeros(2, self._groups * _ROW_WORDS, dtype=torch.int64, device=data.device)

    def take(self, begin: int, end: int) -> None:
        """The first level of these full rows."""
        if end > begin:
            part = self._data[begin * ROW_BYTES : end * ROW_BYTES]
            self._sketch(_words(part), self._lanes[0, begin:end], self._lanes[1, begin:end], 1)

    def sketches(self) -> torch.Tensor:
        """The second level, once all full rows were taken."""
        first, second = (
            self.full,
            torch.empty(2, 2 * self._groups, dtype=torch.int64, device=self._data.device),
        )
        if self.nbytes > first * ROW_BYTES:
            # The length tells it from data that ends in zeros.
            padded = torch.zeros(ROW_BYTES, dtype=torch.uint8, device=self._data.device)
            padded[: self.nbytes - first * ROW_BYTES].copy_(self._data[first * ROW_BYTES :])
            row = slice(first, first + 1)
            self._sketch(_words(padded), self._lanes[0, row], self._lanes[1, row], 1)
        if self._groups:
            self._sketch(self._lanes.view(2 * self._groups, _ROW_WORDS), second[0], second[1], 2)
        return second

    def taken(self) -> torch.Tensor:
        """Both levels here and now."""
        self.take(0, self.full)
        return self.sketches()


def _checked(data: torch.Tensor) -> torch.Tensor:
    if data.dtype != torch.uint8 or data.dim() != 1 or not data.is_contiguous():
        raise ValueError(f"a digest is of contiguous bytes, not {data.dtype} of shape {list(data.shape)}")
    return data


def _words(data: torch.Tensor) -> torch.Tensor:
    # Weights may begin at any byte, words only at every eighth.
    if data.data_ptr() % _WORD_BYTES or data.storage_offset() % _WORD_BYTES:
        data = data.clone()
    return data.view(torch.int64).view(-1, _ROW_WORDS)


def _by_products(rows: torch.Tensor, a: torch.Tensor, b: torch.Tensor, level: int) -> None:
    low, high = _weights(level, rows.device)
    scratch = torch.empty(min(len(rows), _CPU_BLOCK_ROWS), _ROW_WORDS, dtype=torch.int64)
    for block, a_part, b_part in _blocks(_CPU_BLOCK_ROWS, rows, a, b):
        shifted = scratch[: len(block)]
        torch.mv(block, low, out=a_part)
        torch.bitwise_right_shift(block, 32, out=shifted)
        torch.mv(shifted, high, out=b_part)


def _by_elements(rows: torch.Tensor, a: torch.Tensor, b: torch.Tensor, level: int) -> None:
    low, high = _weights(level, rows.device)
    scratch = torch.empty(
        min(len(rows), _ELEMENTWISE_BLOCK_ROWS), _ROW_WORDS, dtype=torch.int64, device=rows.device
    )
    for block, a_part, b_part in _blocks(_ELEMENTWISE_BLOCK_ROWS, rows, a, b):
        products = scratch[: len(block)]
        torch.mul(block, low, out=products)
        torch.sum(products, 1, out=a_part)
        torch.bitwise_right_shift(block, 32, out=products)
        products.mul_(high)
        torch.sum(products, 1, out=b_part)


def _blocks(
    size: int, rows: torch.Tensor, a: torch.Tensor, b: torch.Tensor
) -> zip[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    return zip(rows.split(size), a.split(size), b.split(size), strict=True)


@lru_cache
def _weights(level: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights of A and B. A change of them is a change of what two engines say to each other."""
    return _odd(f"level {level}, A", device), _odd(f"level {level}, B", device)


def _odd(which: str, device: torch.device) -> torch.Tensor:
    taken = bytearray(hashlib.shake_256(f"netloader digest 1, {which}".encode()).digest(ROW_BYTES))
    return (torch.frombuffer(taken, dtype=torch.int64) | 1).to(device)


def _finish(sketches: torch.Tensor, nbytes: int) -> bytes:
    words: list[int] = sketches.flatten().tolist()
    final = hashlib.blake2b(struct.pack("<Q", nbytes), digest_size=DIGEST_BYTES, person=b"netloader digest")
    final.update(struct.pack(f"<{len(words)}q", *words))
    return final.digest()
