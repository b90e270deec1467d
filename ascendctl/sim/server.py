"""An SSH server on loopback for rendered hosts: it runs what it is asked to and knows nothing of it.

One listener per host. A request to execute is run by ``/bin/sh -c`` with the host's stand-ins first in
PATH and its limit of open files, its three streams wired to the channel. As with OpenSSH's server, the
end of a connection closes the child's pipes and does not kill the child; a channel stays open while any
process holds the child's output. Everything that was started is ended by `stop`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import secrets
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_SUCCEEDED,
)

from ascendctl.sim.render import RenderedHost
from ascendctl.sim.surroundings import SYSTEM_PATH

USER = "sim"
_BACKLOG = 256
_POLL_S = 0.2
_PORT_TRIES = 5
_CHUNK_BYTES = 32768
_MARK = "ASCENDCTL_SIM_RUN"
# Set by the shell that the command then replaces: between fork and exec of a process with threads nothing
# but exec is safe.
_WITHIN_LIMIT = b'ulimit -S -n "$1" && exec /bin/sh -c "$2"'

_LOG = logging.getLogger("ascendctl.sim.ssh")
_LOG.addHandler(logging.NullHandler())
_LOG.propagate = False


@dataclass
class Counts:
    """What a host was asked for: TCP connections, and commands to execute, in order."""

    connections: int = 0
    commands: list[str] = field(default_factory=list)

    @property
    def execs(self) -> int:
        return len(self.commands)


@dataclass(frozen=True)
class Listening:
    """Where a host's SSH server listens, or would."""

    host: RenderedHost
    address: str
    port: int
    key: paramiko.PKey


class SshServer:
    """Serves hosts until `stop`. ``counts`` is by host name.

    ``one_address``: every host on 127.0.0.1 with a port of its own; otherwise every host has a loopback
    address of its own and all share ``port`` (0 = a free one). Raises OSError where it cannot listen.
    """

    def __init__(
        self,
        hosts: tuple[RenderedHost, ...],
        host_keys: tuple[paramiko.PKey, ...],
        client_key: paramiko.PKey,
        *,
        one_address: bool = False,
        port: int = 0,
    ) -> None:
        self.counts = {host.name: Counts() for host in hosts}
        self._client_key = client_key
        self._stopping = threading.Event()
        self._mark = secrets.token_hex(8)
        self._sockets: list[socket.socket] = []
        self._held: list[socket.socket] = []
        self._sessions: list[_Session] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.listening = self._listen_somewhere(hosts, host_keys, one_address, port)
        self._wake, self._woken = socket.socketpair()
        self._acceptor = threading.Thread(target=self._accept, name="sim-accept", daemon=True)
        self._acceptor.start()

    def stop(self) -> None:
        """Close every connection and end every process that was started for one."""
        with self._lock:
            self._stopping.set()
        self._wake.send(b"x")
        self._acceptor.join()
        for each in [*self._sockets, *self._held, self._wake, self._woken]:
            each.close()
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.transport.close()
        _end_marked(self._mark, [child for session in sessions for child in session.children])
        with self._lock:
            threads = list(self._threads)
        for thread in [*threads, *(session.transport for session in sessions)]:
            thread.join(10)

    # --- listening --------------------------------------------------------------------------------

    def _listen_somewhere(
        self, hosts: tuple[RenderedHost, ...], keys: tuple[paramiko.PKey, ...], one_address: bool, port: int
    ) -> tuple[Listening, ...]:
        """A port that is free on the first address may be taken on another: then try a new one."""
        for _ in range(_PORT_TRIES if port == 0 else 0):
            with contextlib.suppress(OSError):
                return self._listen(hosts, keys, one_address, port)
        return self._listen(hosts, keys, one_address, port)

    def _listen(
        self, hosts: tuple[RenderedHost, ...], keys: tuple[paramiko.PKey, ...], one_address: bool, port: int
    ) -> tuple[Listening, ...]:
        listening = []
        try:
            for number, (host, key) in enumerate(zip(hosts, keys, strict=True)):
                address = "127.0.0.1" if one_address else loopback_address(number)
                bound = _bind(address, port + number if one_address and port else port)
                self._sockets.append(bound)
                if not one_address:
                    port = bound.getsockname()[1]
                # A socket that is bound and does not listen refuses, and keeps the port from others.
                if host.state.ssh != "refused":
                    bound.listen(_BACKLOG)
                listening.append(Listening(host, address, bound.getsockname()[1], key))
        except OSError:
            while self._sockets:
                self._sockets.pop().close()
            raise
        return tuple(listening)

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            for each, listening in zip(self._sockets, self.listening, strict=True):
                if listening.host.state.ssh != "refused":
                    selector.register(each, selectors.EVENT_READ, (each, listening))
            while not self._stopping.is_set():
                for ready, _ in selector.select():
                    if ready.data is not None:
                        self._welcome(*ready.data)

    def _welcome(self, listener: socket.socket, listening: Listening) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        self.counts[listening.host.name].connections += 1
        if listening.host.state.ssh == "hang":
            self._held.append(connection)
            return
        session = _Session(self, listening, connection)
        with self._lock:
            self._sessions = [each for each in self._sessions if each.transport.is_alive() or each.running]
            self._sessions.append(session)
        session.start()

    def run_in_thread(self, work: Any, name: str) -> threading.Thread:
        """Start a thread that `stop` waits for."""
        thread = threading.Thread(target=work, name=name, daemon=True)
        with self._lock:
            self._threads = [each for each in self._threads if each.is_alive()]
            self._threads.append(thread)
            thread.start()
        return thread

    def spawn(self, host: RenderedHost, command: bytes) -> subprocess.Popen[bytes] | None:
        """Start a command on a host; None once `stop` was called, which ends all that came before."""
        with self._lock:
            if self._stopping.is_set():
                return None
            limit = b"%d" % min(host.state.open_files_limit, highest_open_files_limit())
            return subprocess.Popen(
                [b"/bin/sh", b"-c", _WITHIN_LIMIT, b"sh", limit, command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment(host),
                cwd=host.directory,
                start_new_session=True,
            )

    def accepts(self, key: paramiko.PKey) -> bool:
        return key.asbytes() == self._client_key.asbytes()

    def _environment(self, host: RenderedHost) -> dict[str, str]:
        """What a child sees: nothing of this process's environment."""
        return {
            "PATH": f"{host.bin}:{SYSTEM_PATH}",
            "HOME": str(host.directory),
            "TMPDIR": str(host.tmp),
            "USER": USER,
            "LOGNAME": USER,
            "SHELL": "/bin/sh",
            _MARK: self._mark,
        }


def highest_open_files_limit() -> int:
    """How many files this machine lets a process open, whatever a simulated host allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def loopback_address(number: int) -> str:
    """127.0.1.1, 127.0.1.2, …: the address of the host with this number, from 0."""
    return f"127.0.{1 + number // 250}.{1 + number % 250}"


def _bind(address: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


# --- one connection -------------------------------------------------------------------------------


class _Transport(paramiko.Transport):
    """A server transport that tells when the reply to a request has gone out.

    paramiko sends the reply after the request's callback returns; what the command prints, and its
    exit status above all, must not overtake it.
    """

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.replied = threading.Event()

    def _send_user_message(self, data: paramiko.Message) -> None:
        super()._send_user_message(data)  # type: ignore[misc]
        self.replied.set()


class _Session(paramiko.ServerInterface):
    """One connection: lets the one key in and runs what it is asked to."""

    def __init__(self, server: SshServer, listening: Listening, connection: socket.socket) -> None:
        connection.setblocking(True)
        self._server = server
        self._host = listening.host
        self.children: list[subprocess.Popen[bytes]] = []
        self.running = 0
        self.transport = _Transport(connection)
        self.transport.set_log_channel(_LOG.name)
        self.transport.add_server_key(listening.key)

    def start(self) -> None:
        """Negotiate in the transport's own thread, so that accepting goes on."""
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            self.transport.start_server(event=threading.Event(), server=self)

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        welcome = self._host.state.ssh != "auth" and self._server.accepts(key)
        return AUTH_SUCCESSFUL if welcome else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        if kind == "session":
            return OPEN_SUCCEEDED
        return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_env_request(self, channel: paramiko.Channel, name: bytes, value: bytes) -> bool:
        return False

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._server.counts[self._host.name].commands.append(command.decode("utf-8", "surrogateescape"))
        self.transport.replied.clear()
        self.running += 1
        self._server.run_in_thread(lambda: self._execute(channel, command), "sim-exec")
        return True

    def _execute(self, channel: paramiko.Channel, command: bytes) -> None:
        try:
            self.transport.replied.wait(_POLL_S * 10)
            child = self._server.spawn(self._host, command)
            if child is None:
                return
            self.children.append(child)
            self._server.run_in_thread(lambda: _feed(channel, child), "sim-stdin")
            _Relay(channel, child, self._server).run()
        finally:
            self.running -= 1


def _feed(channel: paramiko.Channel, child: subprocess.Popen[bytes]) -> None:
    """From the channel to the child's standard input, until either end closes."""
    assert child.stdin is not None
    with contextlib.suppress(OSError):
        while data := channel.recv(_CHUNK_BYTES):
            child.stdin.write(data)
            child.stdin.flush()
    with contextlib.suppress(OSError):
        child.stdin.close()


class _Relay:
    """From a child's output to its channel, then its exit status; afterwards waits for the child."""

    def __init__(self, channel: paramiko.Channel, child: subprocess.Popen[bytes], server: SshServer) -> None:
        self._channel = channel
        self._child = child
        self._server = server
        self._told = False

    def run(self) -> None:
        assert self._child.stdout is not None and self._child.stderr is not None
        sinks = {
            self._child.stdout.fileno(): self._channel.sendall,
            self._child.stderr.fileno(): self._channel.sendall_stderr,
        }
        try:
            self._pump(sinks)
            while not self._gone() and self._child.poll() is None:
                self._wait()
            self._tell_exit()
        except (OSError, EOFError, paramiko.SSHException):
            pass  # the connection is gone: what is left is to close the pipes
        finally:
            self._child.stdout.close()
            self._child.stderr.close()
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                self._channel.close()
        while self._child.poll() is None:
            self._wait()

    def _pump(self, sinks: dict[int, Any]) -> None:
        poll = select.poll()
        for descriptor in sinks:
            poll.register(descriptor, select.POLLIN)
        left = set(sinks)
        while left and not self._gone():
            for descriptor, _ in poll.poll(_POLL_S * 1000):
                data = os.read(descriptor, _CHUNK_BYTES)
                if data:
                    sinks[descriptor](data)
                else:
                    poll.unregister(descriptor)
                    left.discard(descriptor)
            if left and self._child.poll() is not None:
                self._tell_exit()

    def _gone(self) -> bool:
        transport = self._channel.get_transport()
        return self._channel.closed or transport is None or not transport.is_active()

    def _wait(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(_POLL_S)

    def _tell_exit(self) -> None:
        code = self._child.returncode
        if self._told or code is None or self._gone():
            return
        self._told = True
        if code >= 0:
            self._channel.send_exit_status(code)
        else:
            _send_exit_signal(self._channel, signal.Signals(-code).name.removeprefix("SIG"))


def _send_exit_signal(channel: paramiko.Channel, name: str) -> None:
    """RFC 4254, section 6.10; paramiko has no call for it."""
    message = paramiko.Message()
    message.add_byte(bytes([98]))  # SSH_MSG_CHANNEL_REQUEST
    message.add_int(channel.remote_chanid)
    message.add_string("exit-signal")
    message.add_boolean(False)
    message.add_string(name)
    message.add_boolean(False)
    message.add_string("")
    message.add_string("")
    transport = channel.get_transport()
    transport._send_user_message(message)  # type: ignore[attr-defined]


# --- ending what was started ----------------------------------------------------------------------


def _end_marked(mark: str, children: list[subprocess.Popen[bytes]], patience_s: float = 10.0) -> None:
    """Kill the children's sessions, and whoever else carries this server's mark in its environment.

    The mark finds descendants that made sessions of their own, as hanging stand-ins do. It is read from
    /proc, for processes of this user; without /proc the children's own groups have to do.
    """
    deadline = time.monotonic() + patience_s
    while True:
        for child in children:
            if child.returncode is None:
                with contextlib.suppress(OSError):
                    os.killpg(child.pid, signal.SIGKILL)
        marked = _marked(mark)
        for process in marked:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        if not marked or time.monotonic() > deadline:
            return
        time.sleep(0.02)


def _marked(mark: str) -> list[int]:
    wanted = f"{_MARK}={mark}".encode()
    found = []
    with contextlib.suppress(OSError):
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found
