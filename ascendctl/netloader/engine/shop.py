"""What all connections of one source share: who it is, what it has, how many it serves, who is chained."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ascendctl.netloader.engine import chain
from ascendctl.netloader.engine.address import Address
from ascendctl.netloader.engine.identity import Identity
from ascendctl.netloader.engine.options import Options
from ascendctl.netloader.engine.pace import TokenBucket
from ascendctl.netloader.engine.shelf import Shelf
from ascendctl.netloader.engine.wire import Served

if TYPE_CHECKING:
    import torch

MEMORY_BYTES = 512 * 1024 * 1024
"""The most that packed chunks on their way may take, over all joiners served at once."""
MOST_SERVED = 16
IN_FLIGHT = 2


@dataclass(frozen=True)
class LegacyTensors:
    """The tensors for peers without the extension, in the order in which they go one by one.

    Called anew for each transfer. ``raw``: for joiners of G1 and G2, and of G3 with INT8_CACHE hbm or dram;
    ``processed``: for G3 with INT8_CACHE no. None where the engine does not have that layout.
    """

    raw: Callable[[], Sequence[tuple[str, torch.Tensor]]] | None = None
    processed: Callable[[], Sequence[tuple[str, torch.Tensor]]] | None = None


@dataclass
class Tally:
    """What a source did so far."""

    joiners: int = 0
    bytes: int = 0
    chunks: int = 0
    refused: int = 0
    failed: int = 0


@dataclass
class Shop:
    """One source's shared state. Thread-safe."""

    served: Served
    group: str
    identity: Identity
    options: Options
    shelf: Shelf
    legacy: LegacyTensors
    bucket: TokenBucket
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        at_once = MEMORY_BYTES // (IN_FLIGHT * self.options.chunk_bytes)
        self.most_served = max(1, min(MOST_SERVED, at_once))
        self._slots = threading.Semaphore(self.most_served)
        self._lock = threading.Lock()
        self._roster = chain.Roster()
        self._elsewhere: dict[str, Address] = {}
        self._tally = Tally()

    @contextmanager
    def slot(self, timeout_s: float) -> Iterator[bool]:
        """A place among those served at once; False when none came free within ``timeout_s``."""
        got = self._slots.acquire(timeout=timeout_s)
        try:
            yield got
        finally:
            if got:
                self._slots.release()

    def parent_of(self, address: str, lost: Sequence[str], returning: bool) -> str | None:
        """Whom the relay at ``address`` is to ask, None for this source itself (``chain.placed``)."""
        with self._lock:
            answer = chain.placed(self._roster, address, lost=lost, returning=returning)
            self._roster = answer.roster
            return answer.parent

    def lose(self, address: str) -> None:
        """The relay at ``address`` is gone."""
        with self._lock:
            self._roster = chain.without(self._roster, address)

    def announce(self, group: str, address: Address) -> None:
        """Joiners of another ``group`` that come here are sent to ``address``."""
        with self._lock:
            self._elsewhere[group] = address

    def announced(self, group: str) -> Address | None:
        with self._lock:
            return self._elsewhere.get(group)

    def count(
        self, *, joiners: int = 0, bytes: int = 0, chunks: int = 0, refused: int = 0, failed: int = 0
    ) -> None:
        """Adds to the tally."""
        with self._lock:
            self._tally.joiners += joiners
            self._tally.bytes += bytes
            self._tally.chunks += chunks
            self._tally.refused += refused
            self._tally.failed += failed

    @property
    def tally(self) -> Tally:
        with self._lock:
            return Tally(**vars(self._tally))
