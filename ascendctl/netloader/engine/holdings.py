"""What one engine holds and may pass on: a manifest, and how many of its chunks were verified.

A seed holds everything. A joiner that passes on while it still receives (a relay) holds the first
``verified`` chunks: chunks are received, verified and passed on in the manifest's order, so one number says
it all.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

from ascendctl.netloader.engine.manifest import Manifest


class HoldingsLost(Exception):
    """What was promised will not come: the joiner behind it failed, or it began again with other weights."""


@dataclass(frozen=True)
class Edition:
    """One manifest that is being held, and the number that tells it from an earlier one. ``origin`` of the
    weights (`origin`), None where it is not known."""

    number: int
    manifest: Manifest
    origin: str | None = None


class Holdings:
    """Thread-safe: one writer (the joiner, or the seed's digest) and any number of readers (services)."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._number = 0
        self._edition: Edition | None = None
        self._verified = 0
        self._failure: str | None = None

    @classmethod
    def whole(cls, manifest: Manifest, origin: str | None = None) -> Holdings:
        """The holdings of a seed: every chunk is there."""
        holdings = cls()
        holdings.begin(manifest, verified=len(manifest.chunks), origin=origin)
        return holdings

    def begin(self, manifest: Manifest, verified: int = 0, origin: str | None = None) -> Edition:
        """From now on this manifest is held, with its first ``verified`` chunks; readers of others stop."""
        with self._changed:
            self._number += 1
            self._edition = Edition(self._number, manifest, origin)
            self._verified = verified
            self._failure = None
            self._changed.notify_all()
            return self._edition

    def prove(self, origin: str | None) -> None:
        """What is held is of this origin, whatever was told before; its readers go on."""
        with self._changed:
            if self._edition is not None:
                self._edition = replace(self._edition, origin=origin)

    def advance(self, verified: int) -> None:
        """The first ``verified`` chunks are verified; the number never goes back within one edition."""
        with self._changed:
            self._verified = max(self._verified, verified)
            self._changed.notify_all()

    def fail(self, reason: str) -> None:
        """Nothing more will come; readers stop with ``HoldingsLost(reason)`` until the next ``begin``."""
        with self._changed:
            self._failure = reason
            self._edition = None
            self._verified = 0
            self._changed.notify_all()

    @property
    def held(self) -> Edition | None:
        """What is held now, or was promised; None before the first manifest and after a failure."""
        with self._changed:
            return self._edition

    @property
    def verified(self) -> int:
        with self._changed:
            return self._verified

    @property
    def complete(self) -> bool:
        """True when every chunk of the manifest was verified: the only state in which weights may be used."""
        with self._changed:
            return self._edition is not None and self._verified >= len(self._edition.manifest.chunks)

    def edition(self, timeout_s: float) -> Edition | None:
        """What is held now, waiting up to ``timeout_s`` for a first manifest; None when there is none yet.

        Raises HoldingsLost when none will come.
        """
        until_s = time.monotonic() + timeout_s
        with self._changed:
            while self._edition is None:
                if self._failure is not None:
                    raise HoldingsLost(self._failure)
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    return None
                self._changed.wait(left_s)
            return self._edition

    def wait_for(self, edition: Edition, count: int, timeout_s: float) -> int:
        """How many chunks of ``edition`` are verified, waiting up to ``timeout_s`` for ``count`` of them.

        The answer is smaller than ``count`` when the time ran out. Raises HoldingsLost when the edition is no
        longer the one held.
        """
        until_s = time.monotonic() + timeout_s
        with self._changed:
            while True:
                if self._failure is not None:
                    raise HoldingsLost(self._failure)
                if self._edition is None or self._edition.number != edition.number:
                    raise HoldingsLost("the weights held here were replaced by others")
                left_s = until_s - time.monotonic()
                if self._verified >= count or left_s <= 0:
                    return self._verified
                self._changed.wait(left_s)
