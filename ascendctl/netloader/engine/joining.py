"""A joiner's whole load: which source to try, where to go when one fails, when to give up.

Sources are tried in their order, each once. Beyond that:

- one that is busy is asked again while any is busy, up to ``BUSY_PATIENCE_S``;
- one that was lost after it had accepted is tried again behind the others, once, and up to three times as
  long as each attempt brought something; it goes on where the last one ended;
- bytes that do not match the manifest are fetched again once, from another source, or from the same one
  where there is no other; the second mismatch ends the load;
- in a chain the source names a parent; when that fails the source is asked again and told so.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ascendctl.netloader.engine import metrics
from ascendctl.netloader.engine.address import Address
from ascendctl.netloader.engine.identity import Identity
from ascendctl.netloader.engine.intake import AttemptFailed, Intake, Outcome
from ascendctl.netloader.engine.links.choose import offered
from ascendctl.netloader.engine.links.contract import LinkError
from ascendctl.netloader.engine.manifest import Manifest
from ascendctl.netloader.engine.options import Options
from ascendctl.netloader.engine.phases import Phases
from ascendctl.netloader.engine.receiving import Attempt, Finished, Joiner
from ascendctl.netloader.engine.shop import LegacyTensors
from ascendctl.netloader.engine.source import Source
from ascendctl.netloader.engine.weights import WeightSet

BUSY_PATIENCE_S = 600.0
_ASK_AGAIN_S = 1.0
_MOST_RESUMED = 3
_MOST_HOPS = 64
_MOST_MISMATCHES = 2


@dataclass(frozen=True)
class FailedAttempt:
    """One source that did not bring the weights. ``phase``: connect, join, group, wire, digest or load."""

    source: str
    phase: str
    reason: str


@dataclass(frozen=True)
class Received:
    """The weights are complete. ``source`` brought the last of them; ``verified``: every byte was compared
    with the source's digest (False only for peers that offer none). ``bytes`` came over the wire.
    ``content_id`` of the manifest, None without digests; ``weights_version`` of the source at that time;
    ``manifest`` what the weights were compared with, None where nothing could be; ``origin`` what the source
    told of it (`origin`), None where it told none: whether the other ranks' is the same is not known here."""

    source: str
    verified: bool
    bytes: int
    content_id: str | None
    attempts: tuple[FailedAttempt, ...]
    weights_version: int | None = None
    manifest: Manifest | None = None
    origin: str | None = None


class NoSource(Exception):
    """No source brought the weights; ``attempts`` says why, in the order in which they were made. The tensors
    hold whatever had arrived."""

    def __init__(self, attempts: tuple[FailedAttempt, ...]) -> None:
        self.attempts = attempts
        listed = "; ".join(f"{a.source} ({a.phase}): {a.reason}" for a in attempts)
        super().__init__(listed or "there is no source to ask")


def receive_weights(
    weights: WeightSet,
    identity: Identity,
    options: Options,
    *,
    rank: int,
    group: str,
    model_path: str,
    sources: Sequence[Address],
    relay: Source | None = None,
    legacy: LegacyTensors | None = None,
    phases: Phases | None = None,
    ranks: int = 1,
) -> Received:
    """Fills ``weights`` from one of ``sources``; only when this returns are they complete.

    ``relay``: this joiner's own source, started, with empty holdings: it passes on what was verified while
    the rest arrives, and serves nobody any more where this raises. ``legacy``: where to receive from peers
    without the extension (with VERIFY if-offered). ``ranks``: how many load this model together; where there
    are several and VERIFY is required, a source has to tell an origin. Raises NoSource.
    """
    holdings = relay.holdings if relay is not None else None
    address = relay.address if relay is not None else None
    until_s = None
    if options.timeouts.total_s is not None:
        until_s = time.monotonic() + options.timeouts.total_s
    joiner = Joiner(
        weights=weights,
        identity=identity,
        options=options,
        rank=rank,
        group=group,
        model_path=model_path,
        phases=phases or Phases(rank, group),
        legacy=legacy or LegacyTensors(),
        relay_port=address.port if address is not None else None,
        ranks=ranks,
    )
    try:
        received = _Load(joiner, Intake(holdings=holdings, until_s=until_s), sources).run()
    except BaseException as error:
        if holdings is not None:
            holdings.fail(f"the engine here did not get its own weights: {error}")
        raise
    metrics.count_bytes(metrics.RECEIVED, received.bytes)
    return received


class _Load:
    """The plan over all attempts."""

    def __init__(self, joiner: Joiner, intake: Intake, sources: Sequence[Address]) -> None:
        self._joiner = joiner
        self._intake = intake
        self._sources = deque(dict.fromkeys(sources))
        self._failed: list[FailedAttempt] = []
        self._resumed: Counter[Address] = Counter()
        self._mismatches = 0
        self._tracker: Address | None = None

    def run(self) -> Received:
        self._check_device()
        busy_until_s = time.monotonic() + BUSY_PATIENCE_S
        while self._sources:
            source = self._sources.popleft()
            had = self._intake.verified
            try:
                finished, brought_by = self._through(source)
            except AttemptFailed as failure:
                self._note(source, failure)
                if failure.phase == "load" or self._mismatches >= _MOST_MISMATCHES:
                    break
                self._plan(source, failure, self._intake.verified > had, busy_until_s)
                continue
            manifest = self._intake.manifest
            digested = finished.verified and manifest is not None
            self._joiner.phases.tell("digest", source=brought_by)
            return Received(
                source=str(brought_by),
                verified=finished.verified,
                bytes=self._intake.bytes,
                content_id=manifest.content_id if digested and manifest is not None else None,
                attempts=tuple(self._failed),
                weights_version=self._intake.weights_version,
                manifest=manifest if digested else None,
                origin=self._intake.origin if digested else None,
            )
        raise NoSource(tuple(self._failed))

    def _check_device(self) -> None:
        try:
            offered(self._joiner.weights.device, self._joiner.options.transport)
        except LinkError as error:
            raise NoSource((FailedAttempt("-", "connect", str(error)),)) from None

    def _plan(self, source: Address, failure: AttemptFailed, progress: bool, busy_until_s: float) -> None:
        if failure.outcome is Outcome.BUSY and time.monotonic() < busy_until_s:
            if not self._sources:
                time.sleep(_ASK_AGAIN_S)
            self._sources.append(source)
        elif failure.outcome is Outcome.CORRUPT:
            if not self._sources:
                self._sources.append(source)
        elif (
            failure.outcome is Outcome.LOST
            and failure.phase in ("group", "wire")
            and self._resumed[source] < (_MOST_RESUMED if progress else 1)
        ):
            self._resumed[source] += 1
            self._sources.append(source)

    def _through(self, source: Address) -> tuple[Finished, Address]:
        """From ``source``, or from whom it names; the second is who brought the weights."""
        lost: str | None = None
        tried: set[Address] = set()
        for _ in range(_MOST_HOPS):
            answered = self._attempt(source, lost, in_chain=self._tracker in (None, source))
            if isinstance(answered, Finished):
                return answered, source
            self._tracker = self._tracker or source
            if answered in tried:
                break
            tried.add(answered)
            try:
                brought = self._attempt(answered, None, in_chain=False)
                if isinstance(brought, Finished):
                    return brought, answered
                raise AttemptFailed("join", Outcome.REFUSED, f"{answered} sends on to {brought} once more")
            except AttemptFailed as failure:
                if failure.phase == "load" or self._mismatches >= _MOST_MISMATCHES:
                    raise
                self._note(answered, failure)
                lost = str(answered)
        raise AttemptFailed("join", Outcome.LOST, f"{source} names no parent that lives")

    def _attempt(self, source: Address, lost: str | None, *, in_chain: bool) -> Finished | Address:
        joiner = self._joiner if in_chain else replace(self._joiner, relay_port=None)
        try:
            return Attempt(joiner, self._intake, source, lost=lost, in_chain=in_chain).run()
        except AttemptFailed as failure:
            if failure.outcome is Outcome.CORRUPT:
                self._mismatches += 1
            raise

    def _note(self, source: Address, failure: AttemptFailed) -> None:
        if failure.outcome is Outcome.BUSY and any(
            a.source == str(source) and a.reason == str(failure) for a in self._failed
        ):
            return  # one line for all the times it was asked
        self._failed.append(FailedAttempt(str(source), failure.phase, str(failure)))
