"""The listener of one rank: takes joiners' connections and never goes away because of one of them."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import threading
from typing import Any

from ascendctl.netloader.engine import phases
from ascendctl.netloader.engine.address import Address
from ascendctl.netloader.engine.holdings import Holdings
from ascendctl.netloader.engine.identity import Identity
from ascendctl.netloader.engine.options import Options
from ascendctl.netloader.engine.pace import TokenBucket
from ascendctl.netloader.engine.serving import Service
from ascendctl.netloader.engine.shelf import Shelf
from ascendctl.netloader.engine.shop import LegacyTensors, Shop, Tally
from ascendctl.netloader.engine.weight_version import WeightVersion
from ascendctl.netloader.engine.weights import WeightSet
from ascendctl.netloader.engine.wire import Served

_BACKLOG = 256  # as vllm-ascend's server
_MOST_CONNECTIONS = 256
_OUT_OF_DESCRIPTORS_S = 0.2


class ListenError(Exception):
    """The listener cannot be opened; ``str()`` says where, why, and what to do."""


class Source:
    """Serves the weights of one rank: a seed, or with ``holdings`` a joiner that passes on what it has.

    ``weights`` are those described by the manifest; ``identity`` and ``model_path`` (vLLM's ``--model``, what
    peers without the extension compare) say whose; ``group`` is "netloader" or "netloader_draft";
    ``version`` is told by hooks before the weights change; ``bucket`` is shared by all sources of a node
    where BANDWIDTH is to cap their sum.
    """

    def __init__(
        self,
        weights: WeightSet,
        identity: Identity,
        options: Options,
        *,
        rank: int,
        group: str,
        model_path: str,
        bind_ip: str,
        port: int = 0,
        holdings: Holdings | None = None,
        version: WeightVersion | None = None,
        legacy: LegacyTensors | None = None,
        bucket: TokenBucket | None = None,
    ) -> None:
        self.version = version or WeightVersion()
        self._bind = (bind_ip, port)
        served = Served(rank, model_path, identity.tp_size, identity.pp_size, options.int8_cache)
        self._shop = Shop(
            served=served,
            group=group,
            identity=identity,
            options=options,
            shelf=Shelf(weights, self.version, holdings),
            legacy=legacy or LegacyTensors(),
            bucket=bucket or TokenBucket(options.bandwidth_bytes_s),
        )
        self._lock = threading.Lock()
        self._services: dict[Service, threading.Thread] = {}
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._address: Address | None = None

    @property
    def address(self) -> Address | None:
        """Where it listens; None before ``start`` and after ``stop``."""
        return self._address

    @property
    def holdings(self) -> Holdings:
        """What it may pass on."""
        return self._shop.shelf.holdings

    @property
    def tally(self) -> Tally:
        """What it did so far."""
        return self._shop.tally

    @property
    def services(self) -> int:
        """How many connections are open now, whatever their state."""
        with self._lock:
            return len(self._services)

    @property
    def open(self) -> bool:
        """True where no token is asked for: whoever reaches the port gets the weights."""
        return self._shop.options.token is None

    def start(self) -> Address:
        """Listens, and accepts when this returns. The weights are digested meanwhile. Raises ListenError."""
        host, port = self._bind
        try:
            family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        except ValueError:
            raise ListenError(f"{host!r} is no IP address to listen on") from None
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise ListenError(_why_no_listener(host, port, error)) from None
        self._listener = listener
        self._address = Address(host, listener.getsockname()[1])
        self._acceptor = threading.Thread(target=self._accept, name="netloader-accepts", daemon=True)
        self._acceptor.start()
        if self._shop.shelf.empty:
            threading.Thread(target=self._shop.shelf.prepare, name="netloader-prepares", daemon=True).start()
        phases.logger().info(
            "%s",
            phases.line(
                event="listening",
                rank=self._shop.served.device_id,
                group=self._shop.group,
                address=self._address,
                token="required" if not self.open else None,
            ),
        )
        if self.open:
            phases.logger().warning(
                "%s",
                phases.line(
                    event="open",
                    address=self._address,
                    reason="no TOKEN is set: whoever reaches this address can copy the weights",
                ),
            )
        return self._address

    def stop(self, reason: str = "the source was stopped", timeout_s: float = 10.0) -> None:
        """Stops listening and ends every service; waits for them up to ``timeout_s``."""
        self._shop.stopping.set()
        listener, self._listener, self._address = self._listener, None, None
        if listener is not None:
            # shutdown wakes the accept; close alone would leave the thread in it.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            services = dict(self._services)
        for service in services:
            service.stop(reason)
        share_s = timeout_s / (len(services) + 1)
        for thread in (*services.values(), self._acceptor):
            if thread is not None and thread is not threading.current_thread():
                thread.join(share_s)

    def announce(self, group: str, address: Address) -> None:
        """Joiners of ``group`` that come to this listener are sent to ``address`` (the draft model's)."""
        self._shop.announce(group, address)

    def wait_idle(self, timeout_s: float) -> bool:
        """True when nobody is being served, waiting up to ``timeout_s`` for that: for a joiner that passes on
        and is about to post-process its tensors."""
        with self._lock:
            threads = [thread for service, thread in self._services.items() if service.heard.is_set()]
        for thread in threads:
            thread.join(timeout_s / len(threads))
        return not any(thread.is_alive() for thread in threads)

    def _accept(self) -> None:
        while not self._shop.stopping.is_set():
            listener = self._listener
            if listener is None:
                return
            try:
                sock, name = listener.accept()
            except OSError as error:
                # Out of descriptors or memory: the connection waits in the backlog.
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._drop_one()
                    self._shop.stopping.wait(_OUT_OF_DESCRIPTORS_S)
                continue
            try:
                self._take(sock, name)
            except Exception:  # no thread can be started, for one: this joiner is lost, not the source
                phases.logger().exception("%s", phases.line(event="accept-failed", peer=name))
                sock.close()

    def _take(self, sock: socket.socket, name: Any) -> None:
        with self._lock:
            crowded = len(self._services) >= _MOST_CONNECTIONS
        if crowded:
            self._drop_one()
        service = Service(self._shop, sock, Address(name[0], name[1]))
        thread = threading.Thread(
            target=self._run, args=(service,), name=f"netloader-serves-{name[0]}:{name[1]}", daemon=True
        )
        with self._lock:
            self._services[service] = thread
        try:
            thread.start()
        except BaseException:
            with self._lock:
                self._services.pop(service, None)
            raise

    def _run(self, service: Service) -> None:
        try:
            service.run()
        finally:
            with self._lock:
                self._services.pop(service, None)

    def _drop_one(self) -> None:
        """Ends the oldest connection that has not said anything: a probe, a port scan."""
        with self._lock:
            silent = next((service for service in self._services if not service.heard.is_set()), None)
        if silent is not None:
            silent.stop("another connection needs the place")


def _why_no_listener(host: str, port: int, error: OSError) -> str:
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"cannot listen on {where}: the port is taken; write another LISTEN_PORT, or stop what has it"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {where}: this machine has no such address; set VLLM_HOST_IP to one it has"
    return f"cannot listen on {where}: {error.strerror or error}"
