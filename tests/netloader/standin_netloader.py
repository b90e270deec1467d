"""One rank of the engine stand-in: takes its weights from a source or its disk, and serves them to joiners.

What it says is what vllm-ascend's Netloader (and vLLM around it) says there, in its order; what it says of a
transfer it says only after one. Standard library only: this runs on a host, beside `engine_standin`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DRAFT_PORT_OFFSET = 10000
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# What the weights consist of, as far as the join protocol is concerned.
TENSORS = {"model.embed_tokens.weight": [256, 64], "model.norm.weight": [64], "lm_head.weight": [256, 64]}
# A transfer: this, then the digest of the weights in hex; the receiver's one byte stands for the barrier.
MAGIC = b"WEIGHTS:"
TRANSFER_BYTES = len(MAGIC) + 64
OWN_TAG = "[ascendctl netloader]"

JOINER_SCENARIOS = (
    "no-source-info",
    "source-format",
    "source-refuses",
    "model-string",
    "pre-recv-fails",
    "manifest-mismatch",
    "recv-fails",
    "reshape-fails",
    "quantised",
    "silent-fallback",
    "corrupt-weight",
    "unverified",
)
NO_SERVER_SCENARIOS = (
    "listen-port-invalid",
    "no-driver-ip",
    "target-port-invalid",
    "draft-port-invalid",
    "no-free-port",
    "listen-port-taken",
)
SEED_SCENARIOS = ("accept-thread-dies", "send-fails")


class EngineFailed(Exception):
    """What ends the engine, as the last line of vLLM's traceback has it."""


class Terminated(BaseException):
    """SIGTERM came."""


def terminate_on_sigterm() -> None:
    def raise_once(number: int, frame: object) -> None:
        # A second one, sent to the group too, must not break off the way out.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    signal.signal(signal.SIGTERM, raise_once)


class Voice:
    """Writes a process' lines, each whole and with vLLM's prefix, as far as VLLM_LOGGING_LEVEL lets them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._least = LEVELS.index(os.environ.get("VLLM_LOGGING_LEVEL", "INFO"))

    def say(self, place: str, text: str, level: str = "INFO") -> None:
        """``place``: file and line number, as ``load.py:90``."""
        if LEVELS.index(level) >= self._least:
            stamp = time.strftime("%m-%d %H:%M:%S")
            self.raw("".join(f"{level} {stamp} [{place}] {line}\n" for line in text.split("\n")))

    def raw(self, lines: str) -> None:
        """Lines that are not the logger's own: tracebacks, uvicorn's."""
        told = "".join(f"({self.name} pid={os.getpid()}) {line}\n" for line in lines.splitlines())
        unprefixed(told)

    def traceback(self, place: str, heading: str, error: str, *, frames: tuple[str, ...]) -> None:
        """As vLLM logs an error that ends a process: heading, frames, the error."""
        told = "".join(f"\n  File {frame}" for frame in frames)
        self.say(place, f"{heading}\nTraceback (most recent call last):{told}\n{error}", "ERROR")


def unprefixed(text: str) -> None:
    # One write each: the processes share the file, and a line of one must not end inside another's.
    os.write(1, text.encode("utf-8", "surrogateescape"))


class PrefixedStderr:
    """Stands for sys.stderr: Python's own words about a thread that ended get the process' prefix too."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._begun = ""

    def write(self, text: str) -> int:
        *whole, self._begun = (self._begun + text).split("\n")
        if whole:
            self._voice.raw("\n".join(whole))
        return len(text)

    def flush(self) -> None: ...


@dataclass(frozen=True)
class Given:
    """What the command line and the environment say. ``bind_ip``: of VLLM_HOST_IP, as vLLM's ``get_ip``;
    from ``disk`` on: see `engine_standin`.
    """

    model: str
    tp: int
    pp: int
    load_format: str
    config: dict[str, Any]
    draft_model: str | None
    quantised: bool
    enforce_eager: bool
    disk: str
    bind_ip: str
    scenario: str
    scenario_ranks: frozenset[int] | None
    phase: str
    seconds: float
    code: str
    timeout_s: float
    transfer_s: float
    sending_mark: str

    @property
    def ranks(self) -> int:
        return self.tp * self.pp

    def stay(self, phase: str) -> None:
        """Takes its time there, where the scenario says so."""
        if self.phase == phase and self.scenario in ("slow", "hang"):
            time.sleep(self.seconds if self.scenario == "slow" else 10**9)


def digest_of(folder: str) -> str | None:
    """Of the content of the weights of a model folder, in hex; None where it holds none."""
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        return None
    return hashlib.sha256(b"".join(hashlib.sha256(one.read_bytes()).digest() for one in files)).hexdigest()


class Rank:
    """One rank: loads the target, on the last pipeline stage also the draft model, and serves both."""

    def __init__(self, given: Given, rank: int, voice: Voice) -> None:
        self.given = given
        self.rank = rank
        self.voice = voice
        concerned = given.scenario_ranks is None or rank in given.scenario_ranks
        self.scenario = given.scenario if concerned else "good"
        self.statuses: list[OwnStatus] = []
        self._servers: list[Server] = []
        self._target_fell_back = False

    def load(self) -> str:
        """The digest of all that this rank holds. Raises EngineFailed."""
        given = self.given
        self.voice.say("model_runner_v1.py:2291", f"Starting to load model {given.model}...")
        given.stay("build")
        self._crash()
        load = self._load_own if given.load_format == "ascendctl" else self._load_netloader
        digests = [load(given.model, draft=False)]
        if given.draft_model is not None and self.rank >= given.ranks - given.tp:
            self.voice.say("model_runner_v1.py:2302", "Loading drafter model...")
            digests.append(load(given.draft_model, draft=True))
        self.voice.say("model_runner_v1.py:2320", "Loading model weights took 0.0012 GB")
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def close(self) -> None:
        for status in self.statuses:
            status.remove()

    def _crash(self) -> None:
        if self.scenario == "out-of-memory":
            raise EngineFailed(
                "torch.OutOfMemoryError: NPU out of memory. Tried to allocate 384.00 MiB (NPU 0; 60.97 GiB "
                "total capacity; 59.11 GiB already allocated; 121.50 MiB free; 59.40 GiB "
                "reserved in total by PyTorch) If reserved memory is >> allocated memory try setting "
                "max_split_size_mb to avoid fragmentation."
            )
        if self.scenario == "hccl-code":
            raise EngineFailed(
                "RuntimeError: createHCCLComm:build/CMakeFiles/torch_npu.dir/compiler_depend.ts:2214 HCCL "
                "function error: HcclCommInitRootInfo, error code is 9\n"
                f"{self.given.code}: [PID: {os.getpid()}] Getting socket times out. Reason: The remote rank "
                "does not respond within the timeout period."
            )
        if self.scenario == "loader-missing":
            raise EngineFailed(
                f"ValueError: Load format `{self.given.load_format}` is not supported. Supported load "
                "formats: auto, dummy, pt, safetensors, sharded_state"
            )

    # vllm-ascend's Netloader --------------------------------------------------------------------------

    def _load_netloader(self, model: str, *, draft: bool) -> str:
        say = self.voice.say
        kind = "draft" if draft else "target"
        if self.scenario == "silent-fallback":
            return self._default_loader(model)
        say("netloader.py:398", f"Loading {kind} model via netloader, model_path: {model}")
        sources, read_disk = self._sources(draft), True
        if draft and self._target_fell_back:
            said = (
                "Target netloader already fell back to DefaultModelLoader; skip draft elastic load and use "
                "DefaultModelLoader"
            )
            say("netloader.py:417", said, "WARNING")
            digest = self._default_loader(model)
        elif sources is None:
            say("netloader.py:425", "Did not get valid source info, use DefaultModelLoader", "WARNING")
            digest = self._default_loader(model)
        else:
            received = self._elastic(model, sources, draft)
            read_disk = received is None
            if received is None:
                said = "Netloader elastic loading fails, use load format DefaultModelLoader"
                say("netloader.py:552", said, "WARNING")
                say("netloader.py:566", "Empty NPU cache")
                self._target_fell_back |= not draft
                received = self._default_loader(model)
            digest = received
        if self._int8_cache(draft) == "no" and self._quantised and read_disk:
            done = f"Netloader seed process_weights done, rank: {self.rank}, manifest={len(TENSORS)}"
            say("netloader.py:590", done)
        self._start_server(model, draft, digest)
        return digest

    @property
    def _quantised(self) -> bool:
        return self.given.quantised or self.scenario == "quantised"

    def _int8_cache(self, draft: bool) -> str:
        given = self.given.config.get("INT8_CACHE", "no")
        return "hbm" if draft and given != "no" else str(given)

    def _sources(self, draft: bool) -> list[str] | None:
        """Of this rank; None where SOURCE has no entry for it, which is a seed's case too."""
        listed = self.given.config.get("SOURCE")
        entries = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        mine = [one for one in entries if "device_id" in one and one["device_id"] == self.rank]
        if not mine or self.scenario in ("no-source-info", "quantised"):
            return None
        try:
            sources = [source for one in mine for source in one["sources"]]
        except KeyError as error:
            raise EngineFailed(f"KeyError: {error}") from None
        if self.scenario == "source-format":
            sources = [source.partition(":")[0] for source in sources]
        elif self.scenario == "source-refuses":
            sources = [f"{source.partition(':')[0]}:1" for source in sources]
        if draft:
            parts = [source.rpartition(":") for source in sources]
            sources = [f"{host}:{int(port) + DRAFT_PORT_OFFSET}" for host, _, port in parts if port.isdigit()]
        return sources

    def _elastic(self, model: str, sources: list[str], draft: bool) -> str | None:
        """What a source gave; None where none did, which was said."""
        say, started = self.voice.say, time.perf_counter()
        digest, goes_on = None, True
        if self._int8_cache(draft) == "no":
            if self.scenario == "pre-recv-fails":
                said = (
                    f"Netloader pre-recv process_weights failed, rank: {self.rank}, fallback to "
                    "DefaultModelLoader: call aclnnTransMatmulWeight failed"
                )
                say("netloader.py:470", said, "WARNING")
                goes_on = False
            else:
                done = f"Netloader client pre-recv process_weights done, rank: {self.rank}"
                say("netloader.py:463", f"{done}, manifest={len(TENSORS)}")
        if draft and any(int(source.rpartition(":")[2]) > 65535 for source in sources):
            say("netloader.py:498", "Skip draft elastic load: source port exceeds 65535", "WARNING")
            goes_on = False
        if goes_on and sources:
            digest = self._joined(model, sources, draft)
        say("netloader.py:531", f"Elastic load time: {time.perf_counter() - started}, rank: {self.rank}")
        return digest

    def _joined(self, model: str, sources: list[str], draft: bool) -> str | None:
        say, group = self.voice.say, _group(draft)
        started = time.perf_counter()
        join = self._asked(model, sources, draft)
        if join is None:
            shown = ", ".join(sources[:2]) + (f", ... (total {len(sources)})" if len(sources) > 2 else "")
            said = (
                f"All sources exhausted, no connection established for device_id={self.rank}, "
                f"model_path={model}, sources=[{shown}]"
            )
            say("elastic.py:160", said, "ERROR")
            why = "Failed to initialize ElasticClient: socket or server_addr is None"
            say("load.py:95", f"elastic_load error: {why}")
            return None
        took = f"{time.perf_counter() - started}, device_id: {self.rank}, group: {group}"
        say("load.py:62", f"Netloader elastic client join time: {took}")
        with join.control, join.store:
            loading = time.perf_counter()
            try:
                digest = self._received(join, group)
            except _TransferFailed as error:
                for place, line in error.lines:
                    say(place, line, "ERROR")
                say("load.py:86", "Failed to load model", "ERROR")
                return None
            took = f"{time.perf_counter() - loading}, device_id: {self.rank}, group: {group}"
            say("load.py:90", f"Netloader P2P load time: {took}")
            return digest

    def _asked(self, model: str, sources: list[str], draft: bool) -> _Join | None:
        """The first source that acknowledges."""
        say = self.voice.say
        for source in sources:
            try:
                host, text = source.split(":")
                port = int(text)
            except ValueError as error:
                say("elastic.py:126", f"IP format error: {source}, detail: {error}")
                continue
            try:
                say("elastic.py:136", f"Start connection to server: {host}:{port}")
                join = self._registered(host, port, model, draft)
            except (OSError, RuntimeError) as error:
                say("elastic.py:146", f"Connect to {source} fails, detail: {error}", "ERROR")
                continue
            return join
        return None

    def _registered(self, host: str, port: int, model: str, draft: bool) -> _Join:
        control = socket.create_connection((host, port), timeout=self.given.timeout_s)
        self.voice.say("elastic.py:138", f"Finish connection to server: {host}:{port}")
        # The source connects back to where it saw this joiner come from.
        store = socket.create_server((control.getsockname()[0], 0))
        store.settimeout(self.given.timeout_s)
        try:
            self.given.stay("join")
            content = {
                "device_id": self.rank,
                "model_path": model + "/" if self.scenario == "model-string" else model,
                "tp": self.given.tp,
                "pp": self.given.pp,
                "port": store.getsockname()[1],
                "group_name": _group(draft),
                "int8_cache": self._int8_cache(draft),
            }
            control.send(json.dumps({"label": "JOIN", "content": content}).encode())
            ack = _json_from(control)
            shapes = ack["content"].get("transfer_shapes", {}) if isinstance(ack["content"], dict) else {}
            name = ack["content"]["name"] if isinstance(ack["content"], dict) else None
            said = f"Receive ack: label={ack['label']} name={name} transfer_shape_count={len(shapes)}"
            self.voice.say("elastic.py:252", said)
            if ack["label"] != "JOIN_ACK":
                raise RuntimeError(f"Receive nack from server, reason: {ack['content']}")
        except BaseException:
            store.close()
            control.close()
            raise
        return _Join(control, store, host, int8_cache=self._int8_cache(draft), shapes=shapes)

    def _received(self, join: _Join, group: str) -> str:
        """The digest, after its bytes came over a connection of their own. Raises _TransferFailed."""
        processed = join.int8_cache == "no"
        address = f"{join.host}:{join.store.getsockname()[1]}"
        transfer = f"transfer={len(TENSORS)} group={group}"
        if processed and (self.scenario == "manifest-mismatch" or join.shapes != TENSORS):
            why = "abort recv before HCCL due to numel/manifest mismatch"
            raise _TransferFailed(("elastic_load.py:452", f"[netloader_p2p] {why} {transfer} addr={address}"))
        started = time.perf_counter()
        try:
            came = self._bytes_of(join.store)
        except OSError as error:
            name, shape = "model.norm.weight", tuple(TENSORS["model.norm.weight"])
            about = f"{transfer} processed_layout={processed} addr={address}"
            raise _TransferFailed(
                (
                    "elastic_load.py:471",
                    f"[netloader_p2p] recv failed at index=1 name={name} shape={shape}: {error}",
                ),
                ("elastic_load.py:520", f"[netloader_p2p] recv failed {about}: {error}"),
                ("elastic_load.py:528", f"Failed to recv model: {error}"),
            ) from error
        if self.scenario == "reshape-fails":
            why = "failed to reshape received tensors to seed manifest"
            raise _TransferFailed(("elastic_load.py:497", f"[netloader_p2p] {why} {transfer} addr={address}"))
        about = f"{transfer} processed_layout={processed} addr={address}"
        said = f"[netloader_p2p] HCCL recv time: {time.perf_counter() - started}, {about}"
        self.voice.say("elastic_load.py:505", said)
        return self._perhaps_corrupted(came)

    def _bytes_of(self, store: socket.socket) -> str:
        """Raises OSError where not all of them came."""
        connection, _ = store.accept()
        with connection:
            connection.settimeout(self.given.timeout_s)
            self.given.stay("receive")
            came = b""
            wanted = 1 if self.scenario == "recv-fails" else TRANSFER_BYTES
            while len(came) < wanted:
                part = connection.recv(wanted - len(came))
                if not part:
                    raise ConnectionResetError(104, "Connection reset by peer")
                came += part
            digest = came[len(MAGIC) :].decode("ascii", "replace")
            if not came.startswith(MAGIC) or not re.fullmatch(r"[0-9a-f]{64}", digest):
                raise ConnectionResetError(104, "Connection reset by peer")
            connection.sendall(b"B")
            return digest

    def _perhaps_corrupted(self, digest: str) -> str:
        if self.scenario != "corrupt-weight":
            return digest
        return digest[:-1] + ("0" if digest[-1] != "0" else "1")

    # The disk -----------------------------------------------------------------------------------------

    def _default_loader(self, model: str) -> str:
        """vLLM's own loader. Raises EngineFailed where the folder holds no weights."""
        if self._quantised:
            # The blank at its end is vllm-ascend's.
            said = "Quantization is set, netloader use DefaultModelLoader with process_weights_after_loading "
            self.voice.say("netloader.py:770", said, "WARNING")
        started = time.perf_counter()
        digest = digest_of(self.given.disk + model)
        if digest is None:
            raise EngineFailed(f"RuntimeError: Cannot find any model weights with `{model}`")
        if self.rank == 0:
            bar = "Loading safetensors checkpoint shards"
            unprefixed(f"\r{bar}:   0% Completed | 0/1 [00:00<?, ?it/s]\n")
        self.given.stay("disk")
        if self.rank == 0:
            unprefixed(f"\r{bar}: 100% Completed | 1/1 [00:00<00:00, 21.18it/s]\n\n")
        took = time.perf_counter() - started
        self.voice.say("default_loader.py:308", f"Loading weights took {took:.2f} seconds")
        return self._perhaps_corrupted(digest)

    # Serving joiners ----------------------------------------------------------------------------------

    def _start_server(self, model: str, draft: bool, digest: str) -> None:
        say, group = self.voice.say, _group(draft)
        base = self.given.config.get("LISTEN_PORT")
        if self.scenario == "listen-port-invalid":
            base = 65535
        if base is not None and int(base) not in range(1024, 65535):
            say("netloader.py:719", "Skip to start Netloader server")
            return
        if self.given.bind_ip == "0.0.0.0" or self.scenario == "no-driver-ip":
            say("netloader.py:604", "Driver IP is not set, skip to start Netloader server", "ERROR")
            return
        port = self._listen_port(base, draft)
        if not 1024 <= port <= 65535:
            kind = "draft" if draft else "target"
            said = f"Skip {kind} Netloader server due to invalid listen port: {port}"
            say("netloader.py:632", said, "WARNING")
            return
        where = f"{self.given.bind_ip}:{port}"
        said = f"Start elastic Netloader server, rank: {self.rank}, listen port: {where}, group: {group}"
        say("netloader.py:664", said)
        prefix = self.given.config.get("OUTPUT_PREFIX")
        if prefix and not draft:
            # Before the bind and never taken away again: as there.
            Path(f"{prefix}{self.rank}.txt").write_text(where)
            say("netloader.py:671", f"Successfully wrote server address to file: {prefix}{self.rank}")
        try:
            server = Server(self, model, port, digest, self._int8_cache(draft))
        except OSError as error:
            said = f"Failed to start Netloader server for rank: {self.rank}, details: {error}"
            say("netloader.py:716", said, "ERROR")
            return
        about = f"device id: {self.rank}, model path: {model}, tp: {self.given.tp}, pp: {self.given.pp}"
        say(
            "elastic.py:368",
            f"Server {where} starts, {about}, int8 params [] are saved to {server.int8_cache}",
        )
        if server.int8_cache == "no":
            about = f"count={len(TENSORS)} cache_hit=True rank={self.rank} group={group}"
            say("elastic.py:388", f"[netloader_p2p] registered transfer manifest {about}")
        self._servers.append(server)  # its port stays open, whatever becomes of its thread
        server.start()
        say("netloader.py:708", f"Elastic server started, rank: {self.rank}, group: {group}")
        if self.scenario == "accept-thread-dies":
            # What a port scan can do: bytes that are no text end the one thread that accepts.
            with socket.create_connection((self.given.bind_ip, port), timeout=self.given.timeout_s) as scan:
                scan.sendall(b"\xff\xfe")
                server.thread.join(self.given.timeout_s)

    def _listen_port(self, base: int | str | None, draft: bool) -> int:
        offset = DRAFT_PORT_OFFSET if draft else 0
        if base is None:
            for _ in range(5):
                with socket.create_server((self.given.bind_ip, 0)) as found:
                    port = int(found.getsockname()[1])
                if port <= 55535 and self.scenario != "no-free-port":
                    return port + offset
            said = "Failed to find listen port <= 55535 after 5 retries; skip Netloader server"
            self.voice.say("netloader.py:618", said, "WARNING")
            return -1
        if self.scenario == ("draft-port-invalid" if draft else "target-port-invalid"):
            return 65536 + self.rank + offset
        return int(base) + self.rank + offset

    # The engine of load format ascendctl --------------------------------------------------------------

    def _load_own(self, model: str, *, draft: bool) -> str:
        """Its lines and its status file; sources are asked as above. Raises EngineFailed."""
        group, config = _group(draft), self.given.config
        status = OwnStatus(config.get("OUTPUT_PREFIX"), self.rank, group)
        self.statuses.append(status)
        status.update()
        sources = self._sources(draft)
        digest, reason, attempts = None, "SOURCE names no source", []
        for source in sources or ():
            started = time.perf_counter()
            try:
                digest = self._own_join(source, model, draft, started)
            except (OSError, RuntimeError, ValueError, _TransferFailed) as error:
                reason = f"{type(error).__name__.lstrip('_')}: {error}"
                attempts.append({"source": source, "phase": "join", "reason": reason})
                seconds = f"{time.perf_counter() - started:.3f}"
                self.own("WARNING", phase="join", group=group, source=source, seconds=seconds, failed=reason)
                continue
            status.update(weights=_own_weights("p2p", digest, source, self.scenario != "unverified"))
            break
        status.update(attempts=attempts)
        if digest is None and sources is not None:
            if config.get("FALLBACK") == "error":
                why = f"no weights from any source, and FALLBACK is error: {reason}"
                status.update(state="failed", serving={"serving": False, "reason": why})
                self.given.stay("failed")
                raise EngineFailed(f"ascendctl.netloader.engine.loader.NoWeights: {why}")
            self.own("WARNING", fallback="disk", group=group, reason=reason)
            status.update(fallback={"reason": reason})
        if digest is None:
            try:
                digest = self._default_loader(model)
            except EngineFailed as error:
                status.update(state="failed", serving={"serving": False, "reason": str(error)})
                self.given.stay("failed")
                raise
            status.update(weights=_own_weights("disk", digest))
        self.own("INFO", phase="load", group=group, seconds="0.010")
        self._serve_own(status, model, draft, digest)
        return digest

    def _own_join(self, source: str, model: str, draft: bool, started: float) -> str:
        group = _group(draft)
        host, _, port = source.rpartition(":")
        join = self._registered(host, int(port), model, draft)
        with join.control, join.store:
            seconds = f"{time.perf_counter() - started:.3f}"
            self.own("INFO", phase="join", group=group, source=source, seconds=seconds)
            digest = self._perhaps_corrupted(self._bytes_of(join.store))
        seconds = f"{time.perf_counter() - started:.3f}"
        self.own("INFO", phase="wire", group=group, source=source, bytes=TRANSFER_BYTES, seconds=seconds)
        return digest

    def _serve_own(self, status: OwnStatus, model: str, draft: bool, digest: str) -> None:
        base, address = self.given.config.get("LISTEN_PORT"), self.given.bind_ip
        port = 0 if base is None else self._listen_port(base, draft)
        if self.scenario == "no-driver-ip":
            address = "0.0.0.0"
        try:
            if address == "0.0.0.0":
                raise OSError("this engine knows no address of its own: set VLLM_HOST_IP")
            server = Server(self, model, port, digest, "no")
        except (OSError, OverflowError) as error:
            self.own("ERROR", event="no-listener", reason=str(error))
            status.update(state="ready", serving={"serving": False, "reason": str(error)})
            return
        self._servers.append(server)
        server.start()
        self.own("INFO", event="listening", group=_group(draft), address=f"{address}:{server.port}")
        listener = {"address": address, "port": server.port, "open": True, "accepting": True}
        status.update(state="ready", listener=listener, serving={"serving": True, "reason": None})

    def own(self, level: str, **pairs: object) -> None:
        """A structured line: the first pair, the rank, the other pairs."""
        (first, value), *others = pairs.items()
        parts = {first: value, "rank": self.rank, **dict(others)}
        plain = re.compile(r"[A-Za-z0-9_./:+@%,\[\]-]+")
        shown = (
            f"{key}={value if plain.fullmatch(str(value)) else json.dumps(str(value))}"
            for key, value in parts.items()
        )
        self.voice.say("phases.py:94", f"{OWN_TAG} {' '.join(shown)}", level)


@dataclass(frozen=True)
class _Join:
    """An acknowledged JOIN: its ``control`` connection, and the ``store`` where the weights' one comes in."""

    control: socket.socket
    store: socket.socket
    host: str
    int8_cache: str
    shapes: dict[str, list[int]]


class _TransferFailed(Exception):
    """``lines``: (place, text) of what is logged of it."""

    def __init__(self, *lines: tuple[str, str]) -> None:
        self.lines = lines
        super().__init__(lines[0][1])


class Server:
    """What joiners ask: one thread that accepts, answers and sends, one joiner after the other."""

    def __init__(self, rank: Rank, model: str, port: int, digest: str, int8_cache: str) -> None:
        """Binds and listens. Raises OSError."""
        self.rank, self.model, self.digest, self.int8_cache = rank, model, digest, int8_cache
        self.address = rank.given.bind_ip
        self._own_engine = rank.given.load_format == "ascendctl"
        if rank.scenario == "listen-port-taken":
            self._taken = socket.create_server((self.address, port))
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((self.address, port))
        self._socket.listen(256)
        self.port = int(self._socket.getsockname()[1])
        self.thread = threading.Thread(target=self.elastic_client_handler, daemon=True)

    def start(self) -> None:
        self.thread.start()

    def elastic_client_handler(self) -> None:
        while True:
            connection, peer = self._socket.accept()
            self._say("elastic.py:417", f"Accept new connection from {peer[0]}:{peer[1]}...")
            self._register(connection, peer)

    def _register(self, connection: socket.socket, peer: tuple[str, int]) -> None:
        # As there: what is no UTF-8 ends the thread for good, a connection that says nothing holds it.
        text = connection.recv(1024).decode("utf-8")
        if not text:
            return
        with connection:
            try:
                content = json.loads(text)["content"]
                theirs = (content["device_id"], content["model_path"], content["tp"], content["pp"])
            except (ValueError, KeyError, TypeError):
                self._say("elastic.py:437", f"Failed to load {text} as JSON string from {peer}", "ERROR")
                return
            refusal = self._refusal(theirs, content.get("int8_cache"))
            if refusal is not None:
                self._say("elastic.py:509", refusal, "WARNING")
                connection.sendall(json.dumps({"label": "JOIN_NACK", "content": refusal}).encode())
                return
            told: dict[str, Any] = {"name": f"{peer[0]}:{peer[1]}"}
            if self.int8_cache == "no":
                told["transfer_shapes"] = TENSORS
            connection.sendall(json.dumps({"label": "JOIN_ACK", "content": told}).encode())
            self._send(peer[0], content["port"], content.get("group_name", "netloader"))

    def _refusal(self, theirs: tuple[Any, ...], int8_cache: str | None) -> str | None:
        given = self.rank.given
        ours = (self.rank.rank, self.model, given.tp, given.pp)
        if theirs != ours:
            return f"Received data {theirs} does not consist with this server {ours}"
        if int8_cache is not None and int8_cache != self.int8_cache:
            return f"Received int8_cache {int8_cache} does not consist with this server {self.int8_cache}"
        return None

    def _send(self, host: str, port: int, group: str) -> None:
        processed = self.int8_cache == "no"
        about = f"group={group} processed_layout={processed} addr={host}:{port}"
        started = time.perf_counter()
        try:
            if self.rank.scenario == "send-fails":
                raise TimeoutError(f"wait timeout after {int(self.rank.given.timeout_s * 1000)}ms")
            self._sent(host, port)
        except OSError as error:
            failed = f"[netloader_p2p] send failed transfer={len(TENSORS)} {about}: {error}"
            self._say("elastic_load.py:640", failed, "ERROR")
            said = f"P2PSend Failed to send model to {self.address}, details: {error}"
            self._say("elastic.py:555", said, "ERROR")
            return
        took = time.perf_counter() - started
        said = f"[netloader_p2p] HCCL send time: {took}, transfer={len(TENSORS)} {about}"
        self._say("elastic_load.py:630", said)
        if self._own_engine:
            self.rank.own("INFO", event="sent", group=group, joiner=f"{host}:{port}", bytes=TRANSFER_BYTES)

    def _sent(self, host: str, port: int) -> None:
        given, content = self.rank.given, MAGIC + self.digest.encode()
        with socket.create_connection((host, port), timeout=given.timeout_s) as connection:
            # The last bytes last, so that a transfer that is cut off is no whole one.
            connection.sendall(content[:16])
            if given.sending_mark:
                Path(f"{given.sending_mark}{self.rank.rank}").touch()
            time.sleep(given.transfer_s)
            connection.sendall(content[16:])
            if connection.recv(1) != b"B":
                raise ConnectionResetError(104, "Connection reset by peer")

    def _say(self, place: str, text: str, level: str = "INFO") -> None:
        if not self._own_engine:
            self.rank.voice.say(place, text, level)


class OwnStatus:
    """Of the load format ascendctl: ``PREFIX{rank}.json`` from the first `update` on, and while it listens
    ``PREFIX{rank}.txt``."""

    def __init__(self, prefix: str | None, rank: int, group: str) -> None:
        draft = group != "netloader"
        name = f"{rank}.draft.json" if draft else f"{rank}.json"
        self._path = Path(f"{prefix}{name}") if prefix else None
        self._address_path = Path(f"{prefix}{rank}.txt") if prefix and not draft else None
        self._content: dict[str, Any] = {
            "version": 1,
            "rank": rank,
            "group": group,
            "pid": os.getpid(),
            "instance": secrets.token_hex(8),
            "updated_unix_s": time.time(),
            "state": "loading",
            "listener": {"address": None, "port": None, "open": None, "accepting": False},
            "weights": _own_weights(None, None),
            "seconds": {},
            "fallback": None,
            "attempts": [],
            "weight_version": 0,
            "serving": {"serving": False, "reason": "loading"},
            "served": {"joiners": 0, "bytes": 0},
        }

    def update(self, **changes: Any) -> None:
        self._content.update(changes, updated_unix_s=time.time())
        if self._path is None:
            return
        new = self._path.with_name(self._path.name + ".new")
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
                stream.write(json.dumps(self._content, indent=1) + "\n")
            new.replace(self._path)
        except BaseException:  # `Terminated` too, where another rank failed
            new.unlink(missing_ok=True)
            raise
        listener = self._content["listener"]
        if self._address_path is not None and listener["accepting"]:
            self._address_path.write_text(f"{listener['address']}:{listener['port']}")

    def remove(self) -> None:
        for path in (self._path, self._address_path):
            if path is not None:
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()


def _own_weights(
    came: str | None, digest: str | None, source: str | None = None, verified: bool = False
) -> dict[str, Any]:
    return {
        "from": came,
        "source": source,
        "verified": verified and source is not None,
        "bytes": 0 if digest is None else TRANSFER_BYTES,
        "content_id": digest,
        "origin": digest,
    }


def _group(draft: bool) -> str:
    return "netloader_draft" if draft else "netloader"


def _json_from(connection: socket.socket) -> dict[str, Any]:
    """An object without a frame: whole as soon as it can be read. Raises RuntimeError."""
    came, content = b"", None
    try:
        while content is None:
            part = connection.recv(4096)
            if not part:
                raise RuntimeError("Incomplete JSON message")
            came += part
            with contextlib.suppress(ValueError):
                content = json.loads(came)
    except (OSError, RuntimeError) as error:
        raise RuntimeError(f"Receive data from server fails, detail: {error}") from error
    if not isinstance(content, dict) or not {"label", "content"} <= content.keys():
        raise RuntimeError(f"Receive ack {content} from server does not contain required fields")
    return content


def prefix_stderr(voice: Voice) -> None:
    sys.stderr = PrefixedStderr(voice)  # type: ignore[assignment]
