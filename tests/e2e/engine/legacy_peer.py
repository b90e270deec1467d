"""A stand-in for vllm-ascend's Netloader (ElasticServer, ElasticClient), for tests of interoperability.

Written from the description of its protocol alone, generations G1, G2 and G3, with gloo in the place of HCCL.
It shares nothing with the engine under test, and it keeps what is wrong with the original: one serial accept
thread, a single ``recv(1024)`` without deadline, errors that end that thread, no check of dtype or order, no
deadline between the two sides but that of the process group. It differs on purpose in this only: both waits
(60 s on the joiner's socket, 30 min in the process group) are parameters, and the joiner's store listens on
the joiner's own address, not on all. Left out: FRACTAL_NZ casts, the int8 cache's copies, the search for
tensors in a model (both sides are given their tensors by name, in their own order).
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch.distributed import PrefixStore, ProcessGroupGloo, Store, TCPStore

logger = logging.getLogger("legacy_peer")

GENERATIONS = ("G1", "G2", "G3")
_ANSWER_LIMIT_BYTES = 64 * 1024 * 1024


class FellBack(Exception):
    """The joiner would load from disk now; ``str()`` is what it logs."""


@dataclass(frozen=True)
class Config:
    """What both sides know of themselves. ``pg_timeout_s`` is 30 min in the original."""

    generation: str = "G3"
    device_id: int = 0
    model_path: str = "/m/tiny"
    tp: int = 1
    pp: int = 1
    group_name: str = "netloader"
    int8_cache: str = "no"
    pg_timeout_s: float = 1800.0

    @property
    def group(self) -> str:
        """G1 has one constant name in its prefix, whatever the model is."""
        return "netloader" if self.generation == "G1" else self.group_name

    @property
    def processed(self) -> bool:
        return self.generation == "G3" and self.int8_cache == "no"


@dataclass
class LegacySeed:
    """ElasticServer of one rank. ``tensors`` are what it sends, in its own order (the processed layout with
    G3 and int8_cache "no", else the raw one). Use as a context manager."""

    config: Config
    tensors: Mapping[str, torch.Tensor]
    host: str = "127.0.0.1"
    sends: list[str] = field(default_factory=list)  # addresses that got all, in its own opinion
    failures: list[str] = field(default_factory=list)  # sends that failed: it logs them and goes on
    died_of: BaseException | None = None  # what ended its accept thread

    def __enter__(self) -> LegacySeed:
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((self.host, 0))
        self._listener.listen(256)
        self.port = int(self._listener.getsockname()[1])
        self._connection: socket.socket | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._accept_forever, daemon=True, name="legacy-seed")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        for sock in (self._listener, self._connection):
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(self.config.pg_timeout_s + 30)
        self._listener.close()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def accepting(self) -> bool:
        """Whether the accept thread lives. The port takes connections either way (the backlog)."""
        return self._thread.is_alive()

    @property
    def busy(self) -> bool:
        """Whether the accept thread is occupied with one connection."""
        return self._connection is not None

    def _accept_forever(self) -> None:
        try:
            while True:
                connection, address = self._listener.accept()
                self._connection = connection
                try:
                    self._handle(connection, address)
                finally:
                    self._connection = None
                    connection.close()
        except BaseException as error:
            if not self._stopped:
                self.died_of = error

    def _handle(self, connection: socket.socket, address: tuple[str, int]) -> None:
        data = connection.recv(1024).decode("utf-8")
        try:
            message = json.loads(data)
        except json.JSONDecodeError:
            return
        content = message.get("content", {}) if message.get("label") == "JOIN" else None
        if content is None or any(
            key not in content for key in ("device_id", "model_path", "tp", "pp", "port")
        ):
            # What the original answers here is not known: the tests ask for nothing.
            return
        refusal = self._refusal(content)
        if refusal is not None:
            connection.sendall(json.dumps({"label": "JOIN_NACK", "content": refusal}).encode())
            return
        ack: dict[str, object] = {"name": f"{address[0]}:{address[1]}"}
        if self.config.processed:
            ack["transfer_shapes"] = {name: list(tensor.shape) for name, tensor in self._outgoing()}
        connection.sendall(json.dumps({"label": "JOIN_ACK", "content": ack}).encode())
        try:
            group = content.get("group_name", "netloader") if self.config.generation != "G1" else "netloader"
            self._send(address[0], int(content["port"]), group)
        except Exception as error:
            text = f"P2PSend Failed to send model to {ack['name']}: {error}"
            logger.error(text)
            self.failures.append(text)
        else:
            self.sends.append(str(ack["name"]))

    def _refusal(self, content: Mapping[str, object]) -> str | None:
        device_id, tp, pp = (int(content[key]) for key in ("device_id", "tp", "pp"))  # type: ignore[call-overload]
        received = (device_id, content["model_path"], tp, pp)
        own = (self.config.device_id, self.config.model_path, self.config.tp, self.config.pp)
        if received != own:
            return f"Received data {received} does not consist with this server {own}"
        int8_cache = content.get("int8_cache", self.config.int8_cache)
        if self.config.generation == "G3" and int8_cache != self.config.int8_cache:
            return f"int8_cache {int8_cache!r} is not {self.config.int8_cache!r}"
        return None

    def _outgoing(self) -> Iterator[tuple[str, torch.Tensor]]:
        if self.config.processed:
            yield from _processed(self.tensors)
            return
        for name, tensor in self.tensors.items():
            if "aclnn_input_scale" not in name:
                yield name, tensor

    def _send(self, host: str, port: int, group: str) -> None:
        timeout = timedelta(seconds=self.config.pg_timeout_s)
        store = TCPStore(host, port, 2, is_master=False, timeout=timeout)
        members = _process_group(store, f"tcp://{host}:{port}/{group}/", 1, self.host, timeout)
        for _, tensor in self._outgoing():
            members.send([tensor.contiguous()], 0, 0).wait()
        members.barrier().wait()


@dataclass(frozen=True)
class Loaded:
    """What the joiner takes for success: the tensors by its own names, the source, the JOIN_ACK's content."""

    tensors: Mapping[str, torch.Tensor]
    source: str
    ack: Mapping[str, object]


def legacy_load(
    config: Config,
    tensors: Mapping[str, torch.Tensor],
    sources: Sequence[str],
    *,
    host: str = "127.0.0.1",
    socket_timeout_s: float = 60.0,
) -> Loaded:
    """ElasticClient of one rank: ask the sources in turn, receive into tensors like ``tensors``, in their
    order. Raises FellBack. ``socket_timeout_s`` is 60 s in the original."""
    with _listening(host) as listener:
        store_port = int(listener.getsockname()[1])
        joined = _first_ack(config, sources, store_port, host, socket_timeout_s)
        if joined is None:
            raise FellBack(
                f"All sources exhausted, no connection established for device_id={config.device_id},"
                f" model_path={config.model_path}, sources=[{', '.join(sources)}]"
            )
        connection, source, ack = joined
        with connection:
            try:
                received = _receive(config, tensors, ack, listener, store_port)
            except Exception as error:
                raise FellBack(f"[netloader_p2p] recv failed: {error}") from error
    return Loaded(received, source, ack)


def _first_ack(
    config: Config, sources: Sequence[str], store_port: int, host: str, timeout_s: float
) -> tuple[socket.socket, str, Mapping[str, object]] | None:
    for source in sources:
        address, port = source.split(":")
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            connection.bind((host, 0))
            connection.connect((address, int(port)))
            connection.settimeout(timeout_s)
            return connection, source, _join(config, connection, store_port)
        except Exception as error:
            connection.close()
            logger.error("Connect to %s fails, detail: %s", source, error)
    return None


def _join(config: Config, connection: socket.socket, store_port: int) -> Mapping[str, object]:
    connection.send(json.dumps({"label": "JOIN", "content": join_content(config, store_port)}).encode())
    try:
        answer = _answer(connection)
    except OSError as error:
        raise RuntimeError(f"Receive data from server fails, detail: {error}") from None
    if answer["label"] == "JOIN_NACK":
        raise RuntimeError(f"Receive nack from server, reason: {answer['content']}")
    if answer["label"] != "JOIN_ACK":
        raise RuntimeError(f"Receive unknown label {answer['label']}")
    content: Mapping[str, object] = answer["content"]
    if "name" not in content:
        raise RuntimeError("Receive ack without name")
    return content


def join_content(config: Config, store_port: int) -> dict[str, object]:
    """The fields of a JOIN as this generation writes them, in its order."""
    content: dict[str, object] = {
        "device_id": config.device_id,
        "model_path": config.model_path,
        "tp": config.tp,
        "pp": config.pp,
        "port": store_port,
    }
    if config.generation != "G1":
        content["group_name"] = config.group_name
    if config.generation == "G3":
        content["int8_cache"] = config.int8_cache
    return content


def _answer(connection: socket.socket) -> Any:
    data = b""
    while len(data) <= _ANSWER_LIMIT_BYTES:
        piece = connection.recv(65536)
        if not piece:
            raise RuntimeError("Incomplete JSON message")
        data += piece
        if data.rstrip().endswith((b"}", b"]")):
            with contextlib.suppress(ValueError):
                return json.loads(data)
    raise RuntimeError("JSON message too long")


def _receive(
    config: Config,
    tensors: Mapping[str, torch.Tensor],
    ack: Mapping[str, object],
    listener: socket.socket,
    store_port: int,
) -> dict[str, torch.Tensor]:
    wanted = list(_processed(tensors)) if config.processed else [
        (name, tensor) for name, tensor in tensors.items() if tensor.dim() > 0
    ]  # fmt: skip
    shapes = ack.get("transfer_shapes") if config.processed else None
    _check_sizes(wanted, shapes)
    began = time.monotonic()
    timeout = timedelta(seconds=config.pg_timeout_s)
    host = str(ack["name"]).split(":")[0]
    store = TCPStore(
        host, store_port, 2, is_master=True, timeout=timeout, master_listen_fd=_handed_over(listener)
    )
    members = _process_group(store, f"tcp://{host}:{store_port}/{config.group}/", 0, host, timeout)
    received = {}
    for name, tensor in wanted:
        buffer = torch.empty(tensor.shape, dtype=tensor.dtype)
        members.recv([buffer], 1, 0).wait()
        received[name] = buffer.view(shapes[name]) if isinstance(shapes, dict) and shapes else buffer
    members.barrier().wait()
    logger.info(
        "[netloader_p2p] HCCL recv time: %s, transfer=%d group=%s processed_layout=%s addr=%s",
        time.monotonic() - began, len(wanted), config.group, config.processed, ack["name"],
    )  # fmt: skip
    return received


def _check_sizes(wanted: Sequence[tuple[str, torch.Tensor]], shapes: object) -> None:
    """Own tensors against the manifest: element counts only, and only where a manifest came."""
    if not isinstance(shapes, dict) or not shapes:
        return
    for name, tensor in wanted:
        if name not in shapes or torch.Size(shapes[name]).numel() != tensor.numel():
            raise RuntimeError(f"abort recv before HCCL due to numel/manifest mismatch: {name}")


def _processed(tensors: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Without empty ones, and each memory once."""
    seen = set()
    for name, tensor in tensors.items():
        if tensor.numel() and tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            yield name, tensor


def _process_group(
    store: Store, prefix: str, rank: int, own_host: str, timeout: timedelta
) -> ProcessGroupGloo:
    options = ProcessGroupGloo._Options()
    options._devices = [ProcessGroupGloo.create_device(hostname=own_host)]
    options._timeout = timeout
    return ProcessGroupGloo(PrefixStore(prefix, store), rank, 2, options)


@contextlib.contextmanager
def _listening(host: str) -> Iterator[socket.socket]:
    listener = socket.create_server((host, 0))
    try:
        yield listener
    finally:
        listener.close()


def _handed_over(listener: socket.socket) -> int:
    """A descriptor that the store owns from here on."""
    return socket.dup(listener.fileno())
