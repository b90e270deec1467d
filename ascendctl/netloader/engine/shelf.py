"""The weights of one engine as they stand ready to be sent: digested once for each state they are in."""

from __future__ import annotations

import base64
import threading
import time
from collections import deque
from dataclasses import dataclass, replace

from ascendctl.netloader.engine.devices import on_device
from ascendctl.netloader.engine.digest import Digester, Pending
from ascendctl.netloader.engine.holdings import Edition, Holdings
from ascendctl.netloader.engine.weight_version import Sending, WeightsChanged, WeightVersion
from ascendctl.netloader.engine.weights import WeightSet

_DIGESTS_UNDER_WAY = 3


@dataclass(frozen=True)
class Printed:
    """A manifest as the MANIFEST frame carries it, made once for all joiners."""

    edition: Edition
    text: str


class Shelf:
    """What a source may hand out now. Thread-safe.

    Without ``holdings`` everything in ``weights`` is there and is digested when it is first wanted (or ahead
    of that by ``prepare``); with ``holdings`` a joiner fills them while others are already served. Either
    way, after a change of the weights they are digested anew before anybody gets them.
    """

    def __init__(self, weights: WeightSet, version: WeightVersion, holdings: Holdings | None = None) -> None:
        self.weights = weights
        self.version = version
        self.holdings = holdings or Holdings()
        self._digested: int | None = None if holdings is None else version.current
        self._filled_by_itself = holdings is None
        self._digesting = threading.Lock()
        self._printing = threading.Lock()
        self._printed: Printed | None = None

    @property
    def whole(self) -> bool:
        """True where all of the weights are here, digested or not."""
        return self._filled_by_itself or self.holdings.complete

    @property
    def empty(self) -> bool:
        """True where nobody fills it but its own digest, and that was not made yet."""
        return self._digested is None

    def prepare(self) -> None:
        """Digests what is there, unless that was done; where it cannot be done now, the next joiner does."""
        try:
            with self.version.sending(lambda reason: None) as sending:
                self.edition(sending, timeout_s=0.0)
        except WeightsChanged:
            return

    def edition(self, sending: Sending, timeout_s: float) -> Edition | None:
        """The edition at ``sending``'s version, waiting up to ``timeout_s`` for a manifest (a relay's comes
        from its parent) or for another thread's digest; None when there is none by then.

        Raises WeightsChanged, HoldingsLost.
        """
        until_s = time.monotonic() + timeout_s
        if not self._digesting.acquire(timeout=max(0.001, timeout_s)):
            return None
        try:
            sending.check()
            if self._digested != sending.number:
                self._digest(sending)
        finally:
            self._digesting.release()
        return self.holdings.edition(max(0.0, until_s - time.monotonic()))

    def printed(self, edition: Edition) -> str:
        """The text of its manifest."""
        with self._printing:
            if self._printed is None or self._printed.edition != edition:
                text = base64.b64encode(edition.manifest.encode()).decode("ascii")
                self._printed = Printed(edition, text)
            return self._printed.text

    def _digest(self, sending: Sending) -> None:
        """Chunk by chunk, so that a change of the weights does not have to wait for all of it.

        The cuts stay those of the manifest before, so that the content id tells whether the weights did; if
        so, their origin does too. Other weights are of an origin that one rank cannot know.
        """
        before = self.holdings.held
        plain = self.weights.manifest if before is None else replace(before.manifest, digests=None)
        digests: list[bytes] = []
        waiting: deque[Pending] = deque()
        with on_device(self.weights.device), Digester(self.weights.device) as digester:
            for chunk in plain.chunks:
                sending.check()
                waiting.append(digester.submit(self.weights.outgoing(chunk)))
                if len(waiting) >= _DIGESTS_UNDER_WAY:
                    digests.append(waiting.popleft().result())
            digests.extend(pending.result() for pending in waiting)
        sending.check()
        manifest = plain.with_digests(digests)
        same = before is not None and before.manifest.digests == manifest.digests
        origin = before.origin if before is not None and same else None
        self.holdings.begin(manifest, verified=len(plain.chunks), origin=origin)
        self._digested = sending.number
