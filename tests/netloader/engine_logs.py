"""Logs as vllm-ascend's Netloader writes them: every line, values our own, and whole runs of a rank."""

from __future__ import annotations

RECEIVED = (
    "[netloader_p2p] HCCL recv time: 3.25, transfer=312 group=netloader processed_layout=True "
    "addr=10.0.0.1:50123"
)
RECEIVED_LATER_VERSION = (
    "[netloader_p2p] HCCL recv time: 3.25, get_transfer_items time: 0.5, post-recv reshape time: 0.25, "
    "transfer=312 group=netloader processed_layout=True addr=10.0.0.1:50123"
)
ELASTIC_TIME = "Elastic load time: 4.5, rank: 0"
GAVE_UP = "Netloader elastic loading fails, use load format DefaultModelLoader"
NO_SOURCE = "Did not get valid source info, use DefaultModelLoader"
SHARDS = "Loading safetensors checkpoint shards: 100% Completed | 2/2 [00:01<00:00, 1.50it/s]"
READ = "Loading weights took 1.75 seconds"
REFUSED = "Connect to 10.0.0.1:19374 fails, detail: [Errno 111] Connection refused"
NACK = (
    "Connect to 10.0.0.1:19374 fails, detail: Receive nack from server, reason: Received data "
    "(0, '/models/m/', 1, 1) does not consist with this server (0, '/models/m', 1, 1)"
)
EXHAUSTED = (
    "All sources exhausted, no connection established for device_id=0, model_path=/models/m, "
    "sources=[10.0.0.1:19374]"
)
STARTED = "Elastic server started, rank: 0, group: netloader"


def loaded(rank: int = 0, group: str = "netloader") -> str:
    return f"Netloader P2P load time: 3.5, device_id: {rank}, group: {group}"


# What a fallback prints (netloader.md of the facts, 1.6), and what vLLM's own loader prints then.
FALLBACKS = (
    NO_SOURCE,
    GAVE_UP,
    "Netloader pre-recv process_weights failed, rank: 0, fallback to DefaultModelLoader: no such kernel",
    "Target netloader already fell back to DefaultModelLoader; skip draft elastic load and use "
    "DefaultModelLoader",
    "Skip draft elastic load: source port exceeds 65535",
    "Quantization is set, netloader use DefaultModelLoader with process_weights_after_loading ",
    "elastic_load error: Failed to initialize ElasticClient: socket or server_addr is None",
    EXHAUSTED,
    "[netloader_p2p] abort recv before HCCL due to numel/manifest mismatch transfer=312 group=netloader "
    "addr=10.0.0.1:50123",
    "[netloader_p2p] recv failed at index=7 name=model.norm.weight shape=(1024,): timed out",
    "[netloader_p2p] recv failed transfer=312 group=netloader processed_layout=True addr=10.0.0.1:50123: x",
    "[netloader_p2p] failed to reshape received tensors to seed manifest transfer=312 group=netloader "
    "addr=10.0.0.1:50123",
    "Failed to load model",
)
SOURCE_FAILURES = (REFUSED, NACK, "IP format error: 10.0.0.1, detail: not enough values to unpack")
DISK = (SHARDS, READ)
NO_SERVERS = (
    "Skip to start Netloader server",
    "Driver IP is not set, skip to start Netloader server",
    "Skip target Netloader server due to invalid listen port: 70000",
    "Skip draft Netloader server due to invalid listen port: 75000",
    "Failed to find listen port <= 55535 after 5 retries; skip Netloader server",
    "Failed to start Netloader server for rank: 0, details: [Errno 98] Address already in use",
)
SEED_TROUBLES = (
    "P2PSend Failed to send model to 10.0.0.1, details: wait timeout after 1800000ms",
    "Exception in thread Thread-3 (elastic_client_handler):",
)
# Printed on the way of a success and of a failure alike.
PROVE_NOTHING = (
    ELASTIC_TIME,
    "Finish connection to server: 10.0.0.1:19374",
    "Finish elastic load (duration: 4.2s)",
)
# On the way of a success; by itself none proves one.
ON_THE_WAY = (
    "Netloader client pre-recv process_weights done, rank: 0, manifest=312",
    "Start connection to server: 10.0.0.1:19374",
    "Receive ack: label=JOIN_ACK name=10.0.0.2:41000 transfer_shape_count=312",
    "Netloader elastic client join time: 0.5, device_id: 0, group: netloader",
    "[netloader_p2p] registered transfer manifest count=312 cache_hit=True rank=0 group=netloader",
    "Start elastic Netloader server, rank: 0, listen port: 10.0.0.2:19374, group: netloader",
)

SUCCESS = (
    "Loading target model via netloader, model_path: /models/m",
    *ON_THE_WAY[:3],
    *ON_THE_WAY[3:4],
    RECEIVED,
    loaded(),
    ELASTIC_TIME,
    *ON_THE_WAY[4:],
    STARTED,
)
_TO_DISK = (ELASTIC_TIME, GAVE_UP, SHARDS, READ, STARTED)
FALLBACK_RUNS = {
    "no source for the rank": (NO_SOURCE, SHARDS, READ, STARTED),
    "source refuses connections": (ON_THE_WAY[1], REFUSED, EXHAUSTED, FALLBACKS[6], *_TO_DISK),
    "source refuses the model string": (ON_THE_WAY[1], NACK, EXHAUSTED, FALLBACKS[6], *_TO_DISK),
    "source in a wrong form": (SOURCE_FAILURES[2], EXHAUSTED, FALLBACKS[6], *_TO_DISK),
    "processing failed before": (FALLBACKS[2], *_TO_DISK),
    "manifest differs": (*ON_THE_WAY[:4], FALLBACKS[8], FALLBACKS[12], *_TO_DISK),
    "transfer broke": (*ON_THE_WAY[:4], FALLBACKS[9], FALLBACKS[10], FALLBACKS[12], *_TO_DISK),
    "shapes did not fit": (*ON_THE_WAY[:4], FALLBACKS[11], FALLBACKS[12], *_TO_DISK),
    "quantised, by way of the other path": (NO_SOURCE, FALLBACKS[5], SHARDS, READ, STARTED),
    # What a log at WARNING keeps.
    "only warnings": (GAVE_UP,),
    "silent: the loader's own words alone": (SHARDS, READ, "Application startup complete."),
}


def worker(rank: int, text: str, level: str = "INFO", file: str = "netloader.py", tp: int = 2) -> str:
    """A line of a worker of a tensor-parallel engine, as vLLM writes it."""
    name = "EngineCore_DP0" if tp == 1 else f"Worker_TP{rank}"
    return f"({name} pid={700 + rank}) {level} 08-22 10:00:00 [{file}:90] {text}"
