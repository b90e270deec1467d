"""Serving a joiner without the extension: vllm-ascend's ElasticClient of any generation, unmodified.

Which layout it gets follows its generation: G1 and G2 (no ``int8_cache`` in the JOIN) receive raw parameters
whatever the configuration says; G3 receives the processed layout and its shapes with "no", raw with "hbm" and
"dram". (vllm-ascend's own G3 server sends G1 and G2 the processed layout, which they take for the raw one.)
Nothing on this wire proves anything to the joiner; what can be done is to never block and never crash here.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ascendctl.netloader.engine.address import Address
from ascendctl.netloader.engine.control import PeerGone, send_bytes
from ascendctl.netloader.engine.devices import on_device
from ascendctl.netloader.engine.links.contract import RANK_OF
from ascendctl.netloader.engine.links.legacy import LegacyGroup
from ascendctl.netloader.engine.links.rendezvous import group_prefix, joined_store
from ascendctl.netloader.engine.opening import opened
from ascendctl.netloader.engine.shop import Shop
from ascendctl.netloader.engine.weight_version import WeightsChanged
from ascendctl.netloader.engine.wire import Ack, JoinRequest, encode_ack, why_not

if TYPE_CHECKING:
    import torch

_ANSWER_TIMEOUT_S = 10.0
_LOOK_EVERY_S = 0.2


class LegacyRefusal(Exception):
    """The joiner gets a JOIN_NACK; ``str()`` is its text."""


def serve_legacy(shop: Shop, sock: socket.socket, peer: Address, request: JoinRequest) -> int:
    """Answers the JOIN and sends; returns the bytes sent.

    Raises LegacyRefusal (before the answer), ControlError, LinkError, WeightsChanged.
    """
    reason = why_not(request, shop.served)
    if reason is None and request.group != shop.group:
        elsewhere = shop.announced(request.group)
        hint = f"; it listens at {elsewhere}" if elsewhere is not None else ""
        reason = f"this listener serves the group {shop.group!r}, not {request.group!r}{hint}"
    if reason is not None:
        raise LegacyRefusal(reason)
    processed = request.int8_cache == "no"
    tensors_of = shop.legacy.processed if processed else shop.legacy.raw
    if tensors_of is None or not shop.shelf.whole:
        what = "processed" if processed else "raw"
        raise LegacyRefusal(f"this engine does not hold its weights in the {what} layout")
    line = SocketLine(sock)
    try:
        with shop.shelf.version.sending(line.end) as sending:
            tensors = tensors_of()
            shapes = {name: tuple(tensor.shape) for name, tensor in tensors} if processed else None
            send_bytes(sock, encode_ack(Ack(str(peer), shapes)), _ANSWER_TIMEOUT_S)
            try:
                return _sent(shop, sock, peer, request, line, tensors)
            finally:
                sending.check()
    except WeightsChanged as error:
        if line.began:
            raise
        raise LegacyRefusal(f"the weights cannot be sent now: {error}") from None
    finally:
        line.close()


def _sent(
    shop: Shop,
    sock: socket.socket,
    peer: Address,
    request: JoinRequest,
    line: SocketLine,
    tensors: Sequence[tuple[str, torch.Tensor]],
) -> int:
    timeouts = shop.options.timeouts
    device = shop.shelf.weights.device
    local_ip = str(sock.getsockname()[0])
    line.watch()

    def make() -> LegacyGroup:
        with on_device(device):
            store = joined_store(peer.host, request.port, timeouts.link_s)
            # The port may be another joiner's by now, if this one is gone.
            line.check()
            prefix = group_prefix(peer.host, request.port, request.group)
            return LegacyGroup(store, prefix, RANK_OF["source"], device, timeouts.chunk_s, local_ip)

    group = opened(line, make, timeouts.link_s)
    line.at_end(group.abort)
    total = 0
    try:
        with on_device(device):
            for _, tensor in tensors:
                line.check()
                nbytes = tensor.numel() * tensor.element_size()
                shop.bucket.take(nbytes)
                group.send(tensor.detach().contiguous())
                total += nbytes
            group.barrier()
    except BaseException:
        line.check()
        raise
    finally:
        group.close()
    return total


class SocketLine:
    """Watches a socket on which nothing more is to come: its end is the end of the peer."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._reason: str | None = None
        self._on_end: Callable[[], None] | None = None
        self.began = False

    def watch(self) -> None:
        """Starts to look, in a thread that ends by ``close`` or when the peer is gone."""
        self.began = True
        threading.Thread(target=self._watch, name="netloader-watches", daemon=True).start()

    def at_end(self, call: Callable[[], None]) -> None:
        with self._lock:
            self._on_end = call
            ended = self._reason is not None
        if ended:
            call()

    def end(self, reason: str) -> None:
        """Ends what is under way from this side."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
            call = self._on_end
        if call is not None:
            call()

    def check(self) -> None:
        """Raises PeerGone when it has ended."""
        with self._lock:
            reason = self._reason
        if reason is not None:
            raise PeerGone(reason)

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(_LOOK_EVERY_S):
            try:
                if self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"":
                    self.end("the joiner closed its connection")
                    return
            except BlockingIOError:
                continue
            except OSError as error:
                with contextlib.suppress(OSError):
                    self.end(f"the joiner's connection was lost: {error}")
                return
