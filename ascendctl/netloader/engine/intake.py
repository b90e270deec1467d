"""What a joiner has taken in so far: chunks on their way, being digested, verified and in place.

It outlives the attempts at single sources: the next one goes on behind what was verified.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ascendctl.netloader.engine.conversation import shown_text
from ascendctl.netloader.engine.devices import finish
from ascendctl.netloader.engine.digest import Digester
from ascendctl.netloader.engine.digest import Pending as PendingDigest
from ascendctl.netloader.engine.holdings import Holdings
from ascendctl.netloader.engine.links.contract import Link, LinkError, Pending
from ascendctl.netloader.engine.manifest import Chunk, Manifest
from ascendctl.netloader.engine.shop import IN_FLIGHT
from ascendctl.netloader.engine.weights import Incoming, WeightSet

if TYPE_CHECKING:
    import torch

_DIGESTS_UNDER_WAY = 2
_LAST_WAIT_S = 2.0


class Outcome(Enum):
    """What an attempt that failed means for the next one."""

    REFUSED = "refused"  # this source will not serve this joiner
    BUSY = "busy"  # it will, later
    LOST = "lost"  # it might have; the connection, the process or the time ended
    CORRUPT = "corrupt"  # bytes arrived that are not those of the manifest


class AttemptFailed(Exception):
    """``str()`` is the reason; ``phase`` where it happened."""

    def __init__(self, phase: str, outcome: Outcome, reason: str) -> None:
        super().__init__(shown_text(reason))
        self.phase = phase
        self.outcome = outcome


@dataclass
class Intake:
    """What has arrived so far. ``verified`` chunks of ``manifest`` are in place; ``origin`` is what the last
    source told of them, None where it told none."""

    holdings: Holdings | None = None
    until_s: float | None = None
    manifest: Manifest | None = None
    origin: str | None = None
    verified: int = 0
    bytes: int = 0
    weights_version: int | None = None

    def left_s(self, limit_s: float) -> float:
        """The shorter of ``limit_s`` and what is left of the whole load's time. Raises AttemptFailed at 0."""
        if self.until_s is None:
            return limit_s
        left_s = self.until_s - time.monotonic()
        if left_s <= 0:
            raise AttemptFailed("load", Outcome.LOST, "the time for the whole load (TOTAL_TIMEOUT) is over")
        return min(limit_s, left_s)

    def begin(self, manifest: Manifest, origin: str | None) -> int:
        """The first chunk still wanted of this manifest; from 0 where it is not the content so far."""
        same = (
            self.manifest is not None
            and self.manifest.digests is not None
            and manifest.digests is not None
            and self.manifest.content_id == manifest.content_id
        )
        if not same:
            self.manifest, self.verified = manifest, 0
        # Two engines may have this rank's part in common and not another one's; whoever is served here
        # already was told the first one's origin, and has to ask again.
        if not same or origin != self.origin:
            self.origin = origin
            if self.holdings is not None:
                self.holdings.begin(manifest, self.verified, origin)
        return self.verified

    def advance(self, chunk: Chunk) -> None:
        """This chunk, the next one wanted, is verified and in place."""
        if chunk.index != self.verified:
            raise AssertionError(f"chunk {chunk.index} is not the one after the first {self.verified}")
        self.verified += 1
        self.bytes += chunk.nbytes
        if self.holdings is not None:
            self.holdings.advance(self.verified)


class WrongBytes(Exception):
    def __init__(self, chunk: Chunk) -> None:
        super().__init__(f"chunk {chunk.index}")
        self.chunk = chunk


class Stream:
    """The chunks on their way: a few posted, a few being digested, the rest verified and in place."""

    def __init__(
        self,
        weights: WeightSet,
        manifest: Manifest,
        intake: Intake,
        link: Link,
        digester: Digester,
        first: int,
    ) -> None:
        self._weights = weights
        self._manifest = manifest
        self._intake = intake
        self._link = link
        self._digester = digester
        self._posted: deque[tuple[Chunk, Incoming, Pending]] = deque()
        self._digesting: deque[tuple[Chunk, Incoming, PendingDigest | None]] = deque()
        self._spare: list[torch.Tensor] = []
        self.posted = first
        self.digest_s = 0.0

    @property
    def finished(self) -> bool:
        return self._intake.verified == len(self._manifest.chunks)

    def post(self, available: int) -> None:
        """Posts receives for announced chunks, ``IN_FLIGHT`` at once."""
        chunks = self._manifest.chunks
        while len(self._posted) < IN_FLIGHT and self.posted < min(available, len(chunks)):
            chunk = chunks[self.posted]
            incoming = self._weights.incoming(chunk, self._staging(chunk))
            self._posted.append((chunk, incoming, self._link.receive(incoming.buffer)))
            self.posted += 1

    def step(self, timeout_s: float) -> bool:
        """Finishes one piece of work; False where there is none.

        Raises LinkError, TimeoutError, WrongBytes.
        """
        if self._posted and len(self._digesting) < _DIGESTS_UNDER_WAY:
            chunk, incoming, pending = self._posted[0]
            pending.wait(timeout_s)
            self._posted.popleft()
            digest = None if self._manifest.digests is None else self._digester.submit(incoming.buffer)
            self._digesting.append((chunk, incoming, digest))
            return True
        if self._digesting:
            self._settle(timeout_s)
            return True
        return False

    def close(self) -> None:
        """After a failure: takes in what had arrived, and leaves no receive that could write later."""
        if self._posted:
            self._link.abort("the join ended")
            for _, _, pending in self._posted:
                with contextlib.suppress(LinkError):
                    pending.wait(1.0)
            self._posted.clear()
        with contextlib.suppress(WrongBytes, TimeoutError):
            while self._digesting:
                self._settle(_LAST_WAIT_S)

    def _settle(self, timeout_s: float) -> None:
        chunk, incoming, digest = self._digesting[0]
        if digest is not None and self._manifest.digests is not None:
            started_s = time.perf_counter()
            right = digest.result(timeout_s) == self._manifest.digests[chunk.index]
            self.digest_s += time.perf_counter() - started_s
            if not right:
                self._digesting.clear()  # what follows a wrong chunk does not count
                raise WrongBytes(chunk)
        self._digesting.popleft()
        incoming.commit()
        if self._intake.holdings is not None:
            finish(self._weights.device)  # others send it from here in threads of their own
        self._intake.advance(chunk)
        if len(chunk.pieces) > 1:
            self._spare.append(incoming.buffer)

    def _staging(self, chunk: Chunk) -> torch.Tensor | None:
        """A buffer that has done its duty, if it is large enough; the set makes one otherwise."""
        if len(chunk.pieces) == 1:
            return None
        for place, buffer in enumerate(self._spare):
            if buffer.numel() >= chunk.nbytes:
                return self._spare.pop(place)
        return None
