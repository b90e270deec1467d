"""One rank's part in a load: it joins a source, falls back, and serves joiners itself once its weights stand.

Everything here is per model: a draft model beside its target has a `RankEngine` of its own. Imports no vLLM.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.distributed import ProcessGroup

from ascendctl.netloader.engine import metrics, phases, weight_hooks
from ascendctl.netloader.engine.address import Address
from ascendctl.netloader.engine.agreement import ranks_of, told_by_all
from ascendctl.netloader.engine.holdings import Holdings
from ascendctl.netloader.engine.identity import Identity
from ascendctl.netloader.engine.joining import FailedAttempt, NoSource, Received, receive_weights
from ascendctl.netloader.engine.kept import Kept
from ascendctl.netloader.engine.manifest import Manifest
from ascendctl.netloader.engine.options import DRAFT_GROUP, TARGET_GROUP, Options, listen_port_of
from ascendctl.netloader.engine.origin import Part, judged, origin_of
from ascendctl.netloader.engine.pace import TokenBucket
from ascendctl.netloader.engine.phases import Phases, logger
from ascendctl.netloader.engine.shop import LegacyTensors, Tally
from ascendctl.netloader.engine.source import ListenError, Source
from ascendctl.netloader.engine.status_file import StatusFile
from ascendctl.netloader.engine.weight_version import WeightVersion
from ascendctl.netloader.engine.weights import WeightSet, digest_all

_LOOK_EVERY_S = 2.0


@dataclass(frozen=True)
class Seat:
    """Which rank and model this is, and where it listens. ``bind_ip`` None: the engine has no address."""

    rank: int
    draft: bool
    model_path: str
    bind_ip: str | None
    device: torch.device

    @property
    def group(self) -> str:
        return DRAFT_GROUP if self.draft else TARGET_GROUP


class _Node:
    """What the engines of this process share: one cap of bandwidth, and each other's listeners."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bucket: TokenBucket | None = None
        self._engines: dict[str, RankEngine] = {}

    def bucket(self, options: Options) -> TokenBucket:
        with self._lock:
            if self._bucket is None:
                self._bucket = TokenBucket(options.bandwidth_bytes_s)
            return self._bucket

    def enter(self, group: str, engine: RankEngine) -> None:
        """A second load of the same model in one process replaces the first."""
        with self._lock:
            before, self._engines[group] = self._engines.get(group), engine
        if before is not None:
            before.close("the model was loaded anew")
            before.status.remove()

    def introduce(self) -> None:
        """Joiners of the draft model that come to the target's port are sent on."""
        with self._lock:
            target, draft = self._engines.get(TARGET_GROUP), self._engines.get(DRAFT_GROUP)
        if target is not None and draft is not None:
            target.announce(draft)


_node = _Node()


class RankEngine:
    """Made when the load begins; lives as long as the process serves."""

    def __init__(self, seat: Seat, options: Options, together: ProcessGroup | None = None) -> None:
        """``together``: the ranks that load this model together, None for one alone.

        Raises OptionsError where the rank has no port that LISTEN_PORT allows.
        """
        self.seat = seat
        self._together = together
        self.options = options
        self.port = listen_port_of(options, seat.rank, seat.draft)
        self.phases = Phases(seat.rank, seat.group, ended=metrics.count_seconds)
        self.status = StatusFile(options.output_prefix, seat.rank, seat.group)
        self.version = WeightVersion()
        self.identity: Identity | None = None
        self._source: Source | None = None
        self._received: Received | None = None
        self._origin: str | None = None
        self._closed = threading.Event()
        self._kept: Kept | None = None
        self._no_listener: str | None = None
        self._unwatch: Callable[[], None] | None = None
        for note in options.notes:
            logger().warning("%s", phases.line(event="note", note=note))
        _node.enter(seat.group, self)

    # Joining ------------------------------------------------------------------------------------------

    def sources(self) -> tuple[Address, ...]:
        return self.options.sources.get(self.seat.rank, ())

    def join(self, weights: WeightSet, legacy: LegacyTensors) -> str | None:
        """Receives and verifies ``weights``; None, or why no source could give them (said in the status)."""
        assert self.identity is not None
        relay = self._relay(weights) if self.options.chain else None
        try:
            received = receive_weights(
                weights,
                self.identity,
                self.options,
                rank=self.seat.rank,
                group=self.seat.group,
                model_path=self.seat.model_path,
                sources=self.sources(),
                relay=relay,
                legacy=legacy,
                phases=self.phases,
                ranks=ranks_of(self._together),
            )
        except NoSource as error:
            self._say_attempts(error.attempts)
            self._stop_listening("this joiner failed and reads its disk")
            return str(error)
        except Exception as error:  # a defect of this end costs the time of a load from disk, not the engine
            logger().exception("%s", phases.line(event="defect", rank=self.seat.rank))
            self._stop_listening("this joiner failed and reads its disk")
            return f"{type(error).__name__}: {error}"
        self._say_attempts(received.attempts)
        self._received = received
        self.status.update(
            weights={
                "from": "p2p",
                "source": str(received.source),
                "verified": received.verified,
                "bytes": received.bytes,
                "content_id": received.content_id,
            },
            seconds=self.phases.seconds,
        )
        return None

    def agreed(self, reason: str | None) -> str | None:
        """Why nothing that any rank of this engine received may be used; None where all may use theirs.

        ``reason``: why this rank has nothing to use (`origin.NO_SOURCE` where it was to receive nothing).
        Every rank calls it once, when its own load is over. Raises AgreementError.
        """
        received = self._received
        own = Part(self.seat.rank, reason=reason)
        if reason is None and received is not None:
            own = Part(
                self.seat.rank, source=received.source, origin=received.origin, content_id=received.content_id
            )
        parts = told_by_all(own, self._together)
        verdict = judged(own, parts, required=self.options.verify == "required")
        if verdict.reason is None:
            self._know(verdict.origin)
        if verdict.unproven is not None:
            logger().warning(
                "%s", phases.line(event="origin-unproven", rank=self.seat.rank, reason=verdict.unproven)
            )
        return verdict.reason

    def combine(self) -> None:
        """The origin of weights from disk, made by all ranks from what they keep. Raises AgreementError."""
        own = None if self._kept is None else self._kept.manifest.content_id
        parts = told_by_all(Part(self.seat.rank, content_id=own), self._together)
        kept = {part.rank: part.content_id for part in parts if part.content_id is not None}
        # Where a rank has nothing that joiners could be given, no joiner of all ranks can come by anyway.
        self._know(origin_of(kept) if len(kept) == len(parts) else None)

    def _know(self, origin: str | None) -> None:
        self._origin = origin
        self.status.update(weights={"origin": origin})
        if origin is not None:
            told = phases.line(event="origin", rank=self.seat.rank, group=self.seat.group, origin=origin)
            logger().info("%s", told)

    def give_up(self) -> None:
        """What was received is dropped: another rank of this engine could not get its part."""
        self._stop_listening("this joiner reads its disk")
        self._received = None

    def fell_back(self, reason: str) -> None:
        self.phases.fell_back(reason)
        metrics.count_fallback()
        self.status.update(
            fallback={"reason": reason},
            weights={
                "from": None,
                "source": None,
                "verified": False,
                "bytes": 0,
                "content_id": None,
                "origin": None,
            },
        )

    def failed(self, reason: str) -> None:
        self.close(reason)
        self.status.update(state="failed", serving={"serving": False, "reason": reason})

    def read_disk(self) -> None:
        self.status.update(weights={"from": "disk"})

    @property
    def received_manifest(self) -> Manifest | None:
        """What the weights were verified against; None where they came from elsewhere."""
        return None if self._received is None else self._received.manifest

    def keeps(self, kept: Kept) -> None:
        """What will be served, digested."""
        self._kept = kept
        self.status.update(
            weights={"bytes": kept.weights.total_bytes, "content_id": kept.manifest.content_id}
        )

    def quiet(self) -> None:
        """Waits until nobody is being served: the tensors are about to be post-processed."""
        if self._source is not None:
            timeout_s = self.options.timeouts.chunk_s
            if not self._source.wait_idle(timeout_s):
                self.version.begin_change("post-processing")
                self.version.end_change("post-processing")

    # Serving ------------------------------------------------------------------------------------------

    def serve(self, refusal: str | None, legacy: LegacyTensors) -> None:
        """Listens for joiners, or refuses them with ``refusal``, and says so in the status file.

        Where nothing was kept there is nothing that a listener could describe, and none is started.
        """
        if refusal is not None:
            logger().warning("%s", phases.line(event="not-serving", rank=self.seat.rank, reason=refusal))
            self.version.retire(refusal)
        if self._kept is not None and self._listening(self._kept, legacy):
            watched = weight_hooks.Watched(self.version, self._changed, self._tell_version)
            self._unwatch = weight_hooks.watch(watched)
            _node.introduce()
            threading.Thread(target=self._tell_tally, name="netloader-tells", daemon=True).start()
        self.status.update(state="ready", seconds=self.phases.seconds)
        self._tell_version()

    def announce(self, draft: RankEngine) -> None:
        """Sends joiners of the draft model to its listener."""
        address = draft.address
        if self._source is not None and address is not None:
            self._source.announce(draft.seat.group, address)

    @property
    def address(self) -> Address | None:
        return None if self._source is None else self._source.address

    def close(self, reason: str) -> None:
        self._closed.set()
        if self._unwatch is not None:
            self._unwatch()
        self._stop_listening(reason)

    def _stop_listening(self, reason: str) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.stop(reason)
            self.status.update(listener={"accepting": False})

    def _relay(self, weights: WeightSet) -> Source | None:
        source = self._made_source(weights, Holdings(), LegacyTensors())
        return source if source is not None and self._started(source) else None

    def _listening(self, kept: Kept, legacy: LegacyTensors) -> bool:
        if self._source is not None:
            if not kept.copied_bytes:
                self._source.holdings.prove(self._origin)
                return True  # a relay goes on as a seed
            self._stop_listening("the weights are served from copies from now on")
        source = self._made_source(kept.weights, Holdings.whole(kept.manifest, self._origin), legacy)
        return source is not None and self._started(source)

    def _made_source(
        self, weights: WeightSet, holdings: Holdings | None, legacy: LegacyTensors
    ) -> Source | None:
        if self.seat.bind_ip is None:
            self._without_listener(
                "this engine knows no address of its own: set VLLM_HOST_IP to the one that joiners reach"
            )
            return None
        assert self.identity is not None
        return Source(
            weights,
            self.identity,
            self.options,
            rank=self.seat.rank,
            group=self.seat.group,
            model_path=self.seat.model_path,
            bind_ip=self.seat.bind_ip,
            port=self.port or 0,
            holdings=holdings,
            version=self.version,
            legacy=legacy,
            bucket=_node.bucket(self.options),
        )

    def _started(self, source: Source) -> bool:
        try:
            address = source.start()
        except ListenError as error:
            self._without_listener(str(error))
            return False
        self._source = source
        self.status.update(
            listener={"address": address.host, "port": address.port, "open": source.open, "accepting": True}
        )
        return True

    def _without_listener(self, reason: str) -> None:
        logger().error("%s", phases.line(event="no-listener", rank=self.seat.rank, reason=reason))
        self._no_listener = reason

    def _say_attempts(self, attempts: Sequence[FailedAttempt]) -> None:
        self.status.update(attempts=[dataclasses.asdict(attempt) for attempt in attempts])

    # While it serves ----------------------------------------------------------------------------------

    def _changed(self) -> str | None:
        """Reads the weights again, after a sleep."""
        if self._kept is None or digest_all(self._kept.weights).content_id == self._kept.manifest.content_id:
            return None
        return "after the wake-up the weights were not those from before the sleep"

    def _tell_version(self) -> None:
        serving, reason = self.version.servable
        listening = self._source is not None
        if not listening:
            reason = reason or self._no_listener or "there is no listener"
        self.status.update(
            weight_version=self.version.current,
            serving={"serving": serving and listening, "reason": reason or None},
        )

    def _tell_tally(self) -> None:
        told = Tally()
        while not self._closed.wait(_LOOK_EVERY_S):
            source = self._source
            if source is None:
                return
            tally = source.tally
            if (tally.joiners, tally.bytes) != (told.joiners, told.bytes):
                self.status.update(served={"joiners": tally.joiners, "bytes": tally.bytes})
                told = tally
