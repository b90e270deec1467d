"""Which lines of an engine's log mean what: vllm-ascend's Netloader's, vLLM's and this package's engine's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class Kind(str, Enum):
    """What one line means.

    ``RECEIVED`` and ``LOADED`` together prove a transfer; ``SOURCE_FAILED`` is one source's, and the next may
    serve; ``FALLBACK`` and ``DISK`` are a load from disk; ``NO_SERVER``: nothing will be served to joiners.
    """

    PHASE = "phase"
    RECEIVED = "received"
    LOADED = "loaded"
    INDECISIVE = "indecisive"
    SOURCE_FAILED = "source-failed"
    FALLBACK = "fallback"
    DISK = "disk"
    LISTENING = "listening"
    NO_SERVER = "no-server"
    SENT = "sent"
    SEED_TROUBLE = "seed-trouble"
    API_READY = "api-ready"
    FAILURE = "failure"


class Stage(str, Enum):
    """How far an instance is, in this order."""

    STARTED = "started"
    BUILDING = "building the model"
    JOINING = "asking the source"
    RECEIVING = "receiving weights"
    READING_DISK = "reading weights from disk"
    WEIGHTS = "weights loaded"
    LISTENING = "serving joiners"
    PREPARING = "preparing the engine"
    READY = "ready"


DEAD_THREAD = "accept-thread-dead"

_RANK = r"(?P<rank>\d{1,9})"
_GROUP = r"(?P<group>netloader(?:_draft)?)"
_SECONDS = r"(?P<seconds>\d{1,9}(?:\.\d{1,30})?(?:e-\d{1,3})?)"


@dataclass(frozen=True)
class Rule:
    """``file``: the only file whose lines count; lines without a prefix count as well."""

    kind: Kind
    pattern: re.Pattern[str]
    stage: Stage | None = None
    phase: str | None = None
    file: str | None = None
    failure: str | None = None
    draft: bool = False
    rank: int | None = None


def _rule(
    kind: Kind,
    pattern: str,
    stage: Stage | None = None,
    phase: str | None = None,
    file: str | None = None,
    failure: str | None = None,
    draft: bool = False,
    rank: int | None = None,
) -> Rule:
    return Rule(kind, re.compile(pattern), stage, phase, file, failure, draft, rank)


# vllm-ascend's model_loader/netloader: netloader, load, interaction/elastic, executor/elastic_load.
ASCEND = (
    _rule(Kind.PHASE, r"Loading target model via netloader", Stage.BUILDING),
    _rule(Kind.PHASE, r"Loading draft model via netloader", Stage.BUILDING, draft=True),
    _rule(Kind.PHASE, rf"Netloader client pre-recv process_weights done, rank: {_RANK}", Stage.BUILDING),
    _rule(Kind.PHASE, r"Start connection to server: (?P<address>\S+)", Stage.JOINING),
    # Says nothing: the kernel's backlog completes a connection that nobody serves.
    _rule(Kind.INDECISIVE, r"Finish connection to server: "),
    _rule(Kind.PHASE, r"Receive ack: label=JOIN_ACK ", Stage.RECEIVING),
    _rule(Kind.SOURCE_FAILED, r"Receive ack: label=JOIN_NACK "),
    _rule(
        Kind.PHASE,
        rf"Netloader elastic client join time: {_SECONDS}, device_id: {_RANK}, group: {_GROUP}",
        phase="join",
    ),
    _rule(Kind.PHASE, r"Netloader elastic client join time: "),
    _rule(
        Kind.RECEIVED,
        rf"\[netloader_p2p\] HCCL recv time: {_SECONDS}, .*?\btransfer=\d+ group={_GROUP} "
        r"processed_layout=\S+ addr=(?P<address>\S+)",
        Stage.RECEIVING,
        phase="wire",
        file="elastic_load.py",
    ),
    _rule(
        Kind.LOADED,
        rf"Netloader P2P load time: {_SECONDS}, device_id: {_RANK}, group: {_GROUP}\s*$",
        Stage.WEIGHTS,
        phase="load",
        file="load.py",
    ),
    _rule(Kind.INDECISIVE, rf"Elastic load time: {_SECONDS}, rank: {_RANK}"),
    # Printed by versions before the two lines above were; not taken as a proof.
    _rule(Kind.INDECISIVE, r"Finish elastic load \(duration: "),
    _rule(Kind.FALLBACK, r"Did not get valid source info, use DefaultModelLoader", Stage.READING_DISK),
    _rule(
        Kind.FALLBACK,
        r"Netloader elastic loading fails, use load format DefaultModelLoader",
        Stage.READING_DISK,
    ),
    _rule(Kind.FALLBACK, rf"Netloader pre-recv process_weights failed, rank: {_RANK}", Stage.READING_DISK),
    _rule(Kind.FALLBACK, r"Netloader pre-recv process_weights failed", Stage.READING_DISK),
    _rule(
        Kind.FALLBACK,
        r"Target netloader already fell back to DefaultModelLoader",
        Stage.READING_DISK,
        draft=True,
    ),
    _rule(Kind.FALLBACK, r"Skip draft elastic load: source port exceeds 65535", draft=True),
    _rule(Kind.FALLBACK, r"Quantization is set, netloader use DefaultModelLoader", Stage.READING_DISK),
    _rule(Kind.FALLBACK, r"elastic_load error: "),
    _rule(Kind.FALLBACK, rf"All sources exhausted, no connection established for device_id={_RANK}"),
    _rule(Kind.FALLBACK, r"All sources exhausted, no connection established"),
    _rule(Kind.SOURCE_FAILED, r"Connect to (?P<address>\S+) fails, detail: "),
    _rule(Kind.SOURCE_FAILED, r"IP format error: "),
    _rule(
        Kind.FALLBACK,
        r"\[netloader_p2p\] abort recv before HCCL due to numel/manifest mismatch "
        rf"transfer=\S+ group={_GROUP}",
    ),
    _rule(Kind.FALLBACK, r"\[netloader_p2p\] abort recv before HCCL due to numel/manifest mismatch"),
    _rule(Kind.FALLBACK, rf"\[netloader_p2p\] recv failed transfer=\S+ group={_GROUP}"),
    _rule(Kind.FALLBACK, r"\[netloader_p2p\] recv failed"),
    _rule(Kind.FALLBACK, r"\[netloader_p2p\] failed to reshape received tensors"),
    _rule(Kind.FALLBACK, r"Failed to recv model: "),
    _rule(Kind.FALLBACK, r"Failed to load model$"),
    _rule(
        Kind.PHASE,
        r"\[netloader_p2p\] registered transfer manifest .*?rank=(?P<rank>\d{1,9}) group=" + _GROUP,
    ),
    # Before the bind, so it is no listener yet.
    _rule(
        Kind.PHASE,
        rf"Start elastic Netloader server, rank: {_RANK}, listen port: (?P<address>\S+), group: {_GROUP}",
    ),
    _rule(Kind.LISTENING, rf"Elastic server started, rank: {_RANK}, group: {_GROUP}", Stage.LISTENING),
    _rule(Kind.NO_SERVER, r"Skip to start Netloader server"),
    _rule(Kind.NO_SERVER, r"Driver IP is not set, skip to start Netloader server"),
    _rule(Kind.NO_SERVER, r"Driver IP is not set"),
    _rule(Kind.NO_SERVER, r"Skip target Netloader server due to invalid listen port"),
    _rule(Kind.NO_SERVER, r"Skip draft Netloader server due to invalid listen port", draft=True),
    _rule(Kind.NO_SERVER, r"Failed to find listen port <= "),
    _rule(Kind.NO_SERVER, rf"Failed to start Netloader server for rank: {_RANK}\b"),
    _rule(Kind.NO_SERVER, r"Failed to start Netloader server for rank"),
    _rule(Kind.SENT, r"Accept new connection from "),
    _rule(Kind.SENT, rf"\[netloader_p2p\] HCCL send time: {_SECONDS}"),
    _rule(Kind.SEED_TROUBLE, r"P2PSend Failed to send model to "),
    _rule(Kind.SEED_TROUBLE, r"\[netloader_p2p\] send failed"),
    _rule(Kind.SEED_TROUBLE, r"Exception in thread .*\(elastic_client_handler\)", failure=DEAD_THREAD),
)

# vLLM's own.
VLLM = (
    _rule(Kind.PHASE, r"Initializing a V1 LLM engine", Stage.STARTED),
    _rule(Kind.PHASE, r"Starting to load model ", Stage.BUILDING),
    # The bar is shown by global rank 0 only, and without a prefix.
    _rule(Kind.DISK, r"Loading (?:safetensors|pt) checkpoint shards:?", Stage.READING_DISK, rank=0),
    _rule(Kind.DISK, rf"Loading weights took {_SECONDS} seconds", Stage.WEIGHTS, phase="disk"),
    _rule(Kind.DISK, r"Loading weights took", Stage.WEIGHTS),
    _rule(Kind.PHASE, r"GPU KV cache size: |Available KV cache memory: ", Stage.PREPARING),
    _rule(Kind.PHASE, rf"Graph capturing finished in {_SECONDS} secs", Stage.PREPARING, phase="capture"),
    _rule(Kind.PHASE, rf"init engine .*\btook {_SECONDS} seconds", Stage.PREPARING, phase="init-engine"),
    _rule(Kind.API_READY, r"Application startup complete", Stage.READY),
)

# Of this package's engine, see ``engine/phases.py``: phases and events of its structured lines.
OWN_STAGES = {
    "connect": Stage.JOINING,
    "join": Stage.JOINING,
    "group": Stage.RECEIVING,
    "wire": Stage.RECEIVING,
    "load": Stage.WEIGHTS,
}
OWN_EVENTS = {
    "listening": Kind.LISTENING,
    "no-listener": Kind.NO_SERVER,
    "not-serving": Kind.NO_SERVER,
    "sent": Kind.SENT,
    "accept-failed": Kind.SEED_TROUBLE,
    "defect": Kind.SEED_TROUBLE,
}
