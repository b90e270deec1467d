"""Where the two ends of a link meet: a TCPStore that the joiner hosts, on one address and port only.

The joiner binds the port itself and hands the listening socket to torch (``master_listen_fd``): nobody can
take the port between the choice and the bind, and the store listens on the given address instead of on all.
The source connects back to it, as vllm-ascend's ElasticServer does.
"""

from __future__ import annotations

import atexit
import contextlib
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from torch.distributed import PrefixStore, Store, TCPStore

from ascendctl.netloader.engine.links.contract import LinkBroken, LinkError, LinkTimeout

_RETRY_EVERY_S = 0.05
_BACKLOG = 64
_GRACE_S = 0.5
"""torch's own time-out is let pass first, so that its thread is over when the caller hears of it."""
_AT_EXIT_S = 5.0

_late: list[threading.Thread] = []

Made = TypeVar("Made")


class Hosted:
    """A store that this process hosts. ``port``: where, for the JOIN message."""

    def __init__(self, store: TCPStore, ip: str, port: int) -> None:
        self._store: TCPStore | None = store
        self.ip = ip
        self.port = port

    @property
    def store(self) -> TCPStore:
        """The store; `LinkBroken` once it was closed."""
        if self._store is None:
            raise LinkBroken(f"the store on {self.ip}:{self.port} was closed")
        return self._store

    def close(self) -> None:
        """Stop hosting: the port is free once the links that use the store are closed too."""
        self._store = None


def hosted_store(bind_ip: str, timeout_s: float, port: int = 0) -> Hosted:
    """Host a store on ``bind_ip`` (an address of this machine) and ``port`` (0 = one that is free).

    Returns at once, without waiting for anybody; ``timeout_s`` bounds later reads of the store. Raises
    `LinkError` if the address is not this machine's or the port is taken.
    """
    family = socket.AF_INET6 if ipaddress.ip_address(bind_ip).version == 6 else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((bind_ip, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            raise LinkError(
                f"cannot listen on {bind_ip}:{port} for the rendezvous: {error.strerror}"
            ) from None
        bound = listener.getsockname()[1]
        # The store owns and closes the descriptor that it is given, so it gets one of its own.
        descriptor = os.dup(listener.fileno())
    try:
        store = TCPStore(
            bind_ip,
            bound,
            None,
            True,
            timeout=timedelta(seconds=timeout_s),
            wait_for_workers=False,
            master_listen_fd=descriptor,
        )
    except RuntimeError as error:
        raise LinkError(f"cannot host the rendezvous on {bind_ip}:{bound}: {_first_line(error)}") from None
    return Hosted(store, bind_ip, bound)


def joined_store(ip: str, port: int, timeout_s: float) -> TCPStore:
    """Connect to the store that the joiner hosts at ``ip``:``port``, within ``timeout_s``.

    Raises `LinkTimeout` if nobody answers in time and `LinkError` if what answers is no store. A store of
    vllm-ascend's client waits until both ranks have checked in; this does so.
    """
    deadline = time.monotonic() + timeout_s
    # torch repeats a refused connection for several times its timeout, so the first contact is made here.
    _reached(ip, port, deadline)
    left_s = max(deadline - time.monotonic(), 0.1)
    try:
        return bounded(
            lambda: TCPStore(ip, port, 2, False, timeout=timedelta(seconds=left_s)),
            left_s,
            f"the rendezvous store at {ip}:{port}",
        )
    except LinkTimeout:
        # torch asks whatever listens there for a sign of life, and for the answer it waits for ever.
        _cut_connections(ip, port)
        raise


def group_prefix(ip: str, port: int, group_name: str) -> str:
    """The prefix of a group's keys, as vllm-ascend's ``netloader_pg`` writes it.

    ``ip`` is the joiner's address as the source sees it (returned in the ACK's ``name``); G1 peers use the
    group name ``netloader`` whatever JOIN says.
    """
    return f"tcp://{ip}:{port}/{group_name}/"


def prefixed(store: Store, prefix: str, timeout_s: float) -> PrefixStore:
    """The part of ``store`` that belongs to one group; reads of it end after ``timeout_s``."""
    inside = PrefixStore(prefix, store)
    inside.set_timeout(timedelta(seconds=timeout_s))
    return inside


def bounded(make: Callable[[], Made], timeout_s: float, what: str) -> Made:
    """``make()``'s result, or `LinkTimeout` after ``timeout_s``; torch's own errors become `LinkError`.

    ``make`` should keep to ``timeout_s`` itself; torch's constructors do so only roughly (a TCPStore tries
    again for several times its time-out). One that is late goes on in a thread of its own until it gives up,
    and what it makes is dropped.
    """
    made: list[Made] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            made.append(make())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="netloader-open", daemon=True)
    thread.start()
    thread.join(timeout_s + _GRACE_S)
    if made:
        return made[0]
    if not failed:
        _late.append(thread)
        raise LinkTimeout(f"{what}: the other end did not come within {timeout_s:.0f} s")
    error = failed[0]
    if isinstance(error, LinkError):
        raise error
    if not isinstance(error, RuntimeError | OSError):
        raise error
    words = _first_line(error)
    if "timed out" in words.lower() or "timeout" in words.lower():
        raise LinkTimeout(f"{what}: the other end did not come within {timeout_s:.0f} s ({words})")
    raise LinkError(f"{what}: {words}")


def peer_socket(store: Store, *, hosts: bool, local_ip: str, timeout_s: float) -> socket.socket:
    """A plain TCP connection between the two ends, for links that need one of their own.

    ``store``: the group's part of the store. The end with ``hosts`` listens on ``local_ip`` and takes the
    first connection that shows the key it left in the store; the other end connects. Raises `LinkTimeout`.
    """
    deadline = time.monotonic() + timeout_s
    if not hosts:
        try:
            where = bytes(store.get("peer_socket")).decode()
        except RuntimeError as error:
            raise LinkTimeout(
                f"the other end did not come within {timeout_s:.0f} s ({_first_line(error)})"
            ) from None
        key, ip, port = where.split(" ")
        connection = _reached(ip, int(port), deadline, keep=True)
        assert connection is not None
        connection.sendall(key.encode())
        return connection
    family = socket.AF_INET6 if ipaddress.ip_address(local_ip).version == 6 else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as listener:
        try:
            listener.bind((local_ip, 0))
            listener.listen(_BACKLOG)
        except OSError as error:
            raise LinkError(f"cannot listen on {local_ip}: {error.strerror}") from None
        key = os.urandom(16).hex()
        store.set("peer_socket", f"{key} {local_ip} {listener.getsockname()[1]}")
        while (left_s := deadline - time.monotonic()) > 0:
            listener.settimeout(left_s)
            try:
                connection, _ = listener.accept()
            except OSError:
                break
            # Whoever connects without the key is a stranger: it costs the peer one second at most.
            connection.settimeout(min(1.0, left_s))
            with contextlib.suppress(OSError):
                if connection.recv(len(key), socket.MSG_WAITALL) == key.encode():
                    return connection
            connection.close()
    raise LinkTimeout(f"the other end did not connect to {local_ip} within {timeout_s:.0f} s")


def _cut_connections(ip: str, port: int) -> None:
    """End this process' connections to ``ip``:``port`` (a port that one joiner opened for one source)."""
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if not str(entry.readlink()).startswith("socket:"):
                continue
            with socket.fromfd(int(entry.name), socket.AF_INET6, socket.SOCK_STREAM) as connection:
                peer = connection.getpeername()
                if peer[1:2] == (port,) and peer[0].removeprefix("::ffff:") == ip:
                    connection.shutdown(socket.SHUT_RDWR)


@atexit.register
def _late_ones_end() -> None:
    """A thread inside torch while the interpreter goes away would abort the process."""
    deadline = time.monotonic() + _AT_EXIT_S
    for thread in _late:
        thread.join(max(0.0, deadline - time.monotonic()))


def _reached(ip: str, port: int, deadline: float, keep: bool = False) -> socket.socket | None:
    """Connect to ``ip``:``port`` before ``deadline`` (monotonic seconds), again while it is refused."""
    last = "no answer"
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            connection = socket.create_connection((ip, port), left_s)
        except OSError as error:
            last = error.strerror or str(error) or last
            time.sleep(min(_RETRY_EVERY_S, max(0.0, deadline - time.monotonic())))
            continue
        if keep:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        connection.close()
        return None
    raise LinkTimeout(
        f"nobody answers at {ip}:{port}, where the joiner said its rendezvous is ({last}); "
        "if the joiner is alive, let the source reach that port through the firewall"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
