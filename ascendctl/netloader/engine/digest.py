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
multiply and add elementwise, with the same result. Words are little-endian, as on all hosts of these devices.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from functools import lru_cache
from typing import Any, Protocol

import torch

from ascendctl.netloader.engine.manifest import DIGEST_BYTES, ROW_BYTES

_WORD_BYTES = 8
_ROW_WORDS = ROW_BYTES // _WORD_BYTES
# Rows at a time. On a CPU: 256 KiB, which stay in its cache from one sketch to the other; nor does torch
# share so small an operation out among the threads of inference. Elsewhere: 32 MiB, for few launches.
_CPU_BLOCK_ROWS = 64
_ELEMENTWISE_BLOCK_ROWS = 8192
_POLL_S = 0.0001

# Writes A and B of each row of a matrix into two vectors.
_Sketch = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], None]


def digest(data: torch.Tensor) -> bytes:
    """The 16 bytes of ``data``, a contiguous 1-D uint8 tensor on any device; the same on every device.

    Raises ValueError for any other tensor.
    """
    return _finish(_sketched(data), data.numel())


def elementwise_digest(data: torch.Tensor) -> bytes:
    """:func:`digest` by the way that devices other than the CPU take, on any device."""
    return _finish(_sketched(data, _by_elements), data.numel())


class Pending(Protocol):
    """A digest that is being taken."""

    def done(self) -> bool: ...

    def result(self, timeout_s: float | None = None) -> bytes:
        """The 16 bytes; raises TimeoutError when they are not there after ``timeout_s``."""


class Digester:
    """Takes digests beside the work of its caller: in one thread for a CPU, else on a stream of its own.

    What was submitted must not change before its result is there. Digests are taken in the order submitted.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._device = torch.device(device)
        self._threads: ThreadPoolExecutor | None = None
        if self._device.type == "cpu":
            self._threads = ThreadPoolExecutor(1, thread_name_prefix="netloader-digest")
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
            return _InThread(self._threads.submit(digest, data))
        return self._on_stream(data, ready_event)

    def close(self) -> None:
        """Ends the thread once all that was submitted is done."""
        if self._threads is not None:
            self._threads.shutdown(wait=True)

    def __enter__(self) -> Digester:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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


class _InThread:
    def __init__(self, future: Future[bytes]) -> None:
        self._future = future

    def done(self) -> bool:
        return self._future.done()

    def result(self, timeout_s: float | None = None) -> bytes:
        try:
            return self._future.result(timeout_s)
        # In Python 3.10 it is not yet the built-in one.
        except FutureTimeout as error:
            raise _late(timeout_s) from error


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


def _sketched(data: torch.Tensor, sketch: _Sketch | None = None) -> torch.Tensor:
    """The sketches of the second level, shape [2, 2 * groups]: A and B of the groups of As, then of Bs."""
    if data.dtype != torch.uint8 or data.dim() != 1 or not data.is_contiguous():
        raise ValueError(f"a digest is of contiguous bytes, not {data.dtype} of shape {list(data.shape)}")
    if sketch is None:
        sketch = _by_products if data.device.type == "cpu" else _by_elements
    full, rest = divmod(data.numel(), ROW_BYTES)
    groups = -(-(full + (rest > 0)) // _ROW_WORDS)
    lanes = torch.zeros(2, groups * _ROW_WORDS, dtype=torch.int64, device=data.device)
    if full:
        sketch(_words(data[: full * ROW_BYTES]), lanes[0, :full], lanes[1, :full], 1)
    if rest:
        # The length tells it from data that ends in zeros.
        padded = torch.zeros(ROW_BYTES, dtype=torch.uint8, device=data.device)
        padded[:rest].copy_(data[full * ROW_BYTES :])
        sketch(_words(padded), lanes[0, full : full + 1], lanes[1, full : full + 1], 1)
    second = torch.empty(2, 2 * groups, dtype=torch.int64, device=data.device)
    if groups:
        sketch(lanes.view(2 * groups, _ROW_WORDS), second[0], second[1], 2)
    return second


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
