"""SSH by paramiko: one connection and one exec per host, shared jump hosts, every layer bounded.

What happens, in order: resolve the name, connect, wait for the server's identification, exchange keys,
judge the host key, log in, start ``/bin/sh -s``, send the script, read until the sink has all. Every
step is plain blocking code; a `Guard` ends it at its deadline or when the run stops, and each way of
failing becomes one `Failure` that says at which step.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any

import paramiko

from ascendctl.inventory import Endpoint, HostKeyPolicy
from ascendctl.transport.children import Child
from ascendctl.transport.contract import Deadlines, Failure, Job, Outcome, Sink
from ascendctl.transport.faults import TOO_FEW_DESCRIPTORS, is_descriptor_shortage, own_fault
from ascendctl.transport.heartbeat import HOST_INTERVAL_S, JUMP_INTERVAL_S, Heartbeat
from ascendctl.transport.identities import AgentSilent, Keyring
from ascendctl.transport.known_hosts import HostKey, KnownHosts, Trust, Verdict, lookup_name
from ascendctl.transport.lockout import REFUSALS_THAT_STOP_A_GROUP, LoginTally
from ascendctl.transport.openssh_config import ClientConfig, ConfigProblem, Server
from ascendctl.transport.pacing import Lane, Lanes, Patience, Turn
from ascendctl.transport.passwords import Passwords
from ascendctl.transport.remote_text import one_line
from ascendctl.transport.watch import Cut, CutShort, Guard, Watch, aside

COMMAND = "exec /bin/sh -s"
STDERR_KEPT_BYTES = 4096
FIRST_WORDS_BYTES = 256
LONGEST_JUMP_CHAIN = 8
JUMP_ANSWER_S = 1.0
SHELL_START_S = 3.0

_READ_BYTES = 64 * 1024
_EXIT_STATUS_WAIT_S = 2.0
_NEVER_S = 24 * 3600.0  # paramiko wants a number for limits that the guard keeps

_PARAMIKO_LOG = "ascendctl.paramiko"
logging.getLogger(_PARAMIKO_LOG).setLevel(logging.CRITICAL + 1)


def _nothing() -> None:
    pass


class SshTransport:
    """Runs one script per host over SSH; made once per run, used from many threads.

    Keys, known_hosts files and jump connections are shared by all hosts. A context manager: leaving it
    closes the jump connections and the agent's. ``warnings`` are sentences to show once.
    """

    def __init__(self, *, passwords: Passwords | None = None, config: ClientConfig | None = None) -> None:
        self._passwords = passwords or Passwords()
        self._config = config or ClientConfig()
        self._keyring = Keyring()
        self._known_hosts = KnownHosts()
        self._watch = Watch()
        self._told: list[str] = []
        self._lock = threading.Lock()
        self._tallies: dict[tuple[str, str], LoginTally] = {}
        self._jumps: dict[Endpoint, Future[_Connection]] = {}
        self._lanes = Lanes()

    def __enter__(self) -> SshTransport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def warnings(self) -> tuple[str, ...]:
        return (*self._told, *self._config.warnings)

    def warn(self, sentence: str) -> None:
        """Add a sentence to ``warnings``."""
        self._told.append(sentence)

    def close(self) -> None:
        """Close every jump connection and the agents'. Hosts still being asked lose theirs."""
        with self._lock:
            jumps = list(self._jumps.values())
            self._jumps.clear()
        for jump in reversed(jumps):
            if jump.done() and jump.exception() is None:
                self._close(jump.result())
        self._keyring.close()

    def run(self, job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Outcome:
        """Send the job's script to its host and feed the sink. Never raises for the host's sake."""
        started = time.monotonic()
        heard: Callable[[], None] = getattr(sink, "heard", _nothing)
        exchange = _Exchange(job.script, sink)
        failure: Failure | None = None
        with self._watch.guard(stop, deadlines) as guard:
            try:
                connection = self._connect(job.endpoint, job.group, deadlines, guard, heard=heard)
                self._watch.add_beat(connection.heartbeat.beat)
                try:
                    with _blaming(connection.jump, guard):
                        exchange.run(connection, deadlines, guard)
                finally:
                    self._close(connection)
            except _HostFailure as ended:
                failure = ended.failure
                stands = Cut.DEADLINE if isinstance(ended, _JumpFault) else None
                if guard.cut_by not in (None, stands) and not failure.internal:
                    failure = exchange.cut_failure(guard)
            except CutShort:
                failure = guard.cut_failure()
            except Exception as error:
                failure = own_fault(error)
        return Outcome(job.host, failure, exchange.sent_at, time.monotonic() - started)

    def _close(self, connection: _Connection) -> None:
        self._watch.remove_beat(connection.heartbeat.beat)
        connection.close()

    # --- connecting -------------------------------------------------------------------------------

    def _connect(
        self,
        endpoint: Endpoint,
        group: str,
        deadlines: Deadlines,
        guard: Guard,
        chain: tuple[Endpoint, ...] = (),
        heard: Callable[[], None] = _nothing,
    ) -> _Connection:
        """A logged-in connection. A host that turns us away as too busy is tried again while there is
        patience; ``heard`` is called for every packet until the login is done."""
        try:
            server = self._config.resolve(endpoint, guard)
        except ConfigProblem as problem:
            raise _HostFailure(Failure(problem.kind, str(problem))) from None
        lane = self._lanes.of(_narrow_place(server))
        ticket = lane.ticket()
        patience = Patience(deadlines.connect_s + deadlines.handshake_s)
        while True:
            jump = self._jump_before(server, deadlines, guard, chain)
            turn = self._wait_for_turn(lane, ticket, jump, server, guard)
            began = time.monotonic()
            try:
                with self._paced(turn, guard), _blaming(jump, guard):
                    return self._connect_through(
                        jump, server, group, deadlines, guard, _both(turn.heard, heard), is_jump=bool(chain)
                    )
            except _TooBusy as busy:
                pause_s = patience.pause_s(time.monotonic() - began)
                guard.enter_layer("the pause before connecting again")
                if pause_s is None or pause_s > guard.remaining_s or not guard.pause(pause_s):
                    detail = f"{busy.failure.detail} (tried {patience.tries} times)"
                    raise _HostFailure(replace(busy.failure, detail=detail)) from None

    def _jump_before(
        self, server: Server, deadlines: Deadlines, guard: Guard, chain: tuple[Endpoint, ...]
    ) -> _Connection | None:
        if server.jump is None:
            return None
        guard.enter_layer(f"TCP connect to {_where(server)}", deadlines.connect_s)
        return self._jump(server.jump, deadlines, guard, (*chain, server.endpoint))

    def _wait_for_turn(
        self, lane: Lane, ticket: int, jump: _Connection | None, server: Server, guard: Guard
    ) -> Turn:
        guard.enter_layer(f"the turn to connect to {_where(server)}")
        with _blaming(jump, guard):
            return lane.wait_for_turn((server.address, server.port), ticket, guard)

    @contextlib.contextmanager
    def _paced(self, turn: Turn, guard: Guard) -> Iterator[None]:
        """Ends the turn as the connection ends that is made inside."""
        self._watch.add_beat(turn.look)
        try:
            yield
            turn.let_in()
        except _TooBusy:
            # A connection that our own deadline cut also ends without a word.
            turn.turned_away() if guard.cut_by is None else turn.give_back()
            raise
        except BaseException:
            turn.give_back()
            raise
        finally:
            self._watch.remove_beat(turn.look)

    def _connect_through(
        self,
        jump: _Connection | None,
        server: Server,
        group: str,
        deadlines: Deadlines,
        guard: Guard,
        heard: Callable[[], None],
        *,
        is_jump: bool,
    ) -> _Connection:
        guard.enter_layer(f"TCP connect to {_where(server)}", deadlines.connect_s)
        if jump is not None:
            guard.enter_layer(f"TCP connect to {_where(server)} from {jump.server.name}", deadlines.connect_s)
            pipe: _Pipe = _through_jump(jump, server, guard)
        elif server.proxy_command:
            pipe = _through_command(server, guard)
        else:
            pipe = _tcp_connect(server, guard)
        connection = _Connection(pipe, server, jump, is_jump=is_jump)
        try:
            guard.on_cut(pipe.cut)
            connection.packetizer.on_packet = heard
            guard.enter_layer(f"SSH banner from {_where(server)}", deadlines.handshake_s)
            self._handshake(connection, guard)
            self._log_in(connection, group, deadlines, guard)
            connection.packetizer.on_packet = _nothing
        except BaseException:
            connection.close()
            raise
        return connection

    def _handshake(self, connection: _Connection, guard: Guard) -> None:
        server, client = connection.server, connection.client
        known = self._known_hosts.key_types(server.known_hosts, server.host_key_name, server.host_key_port)
        options = client.get_security_options()
        options.key_types = tuple(_known_first(options.key_types, known))
        connection.packetizer.on_first_line = lambda: guard.rename_layer(
            f"key exchange with {_where(server)}"
        )
        try:
            client.start_client()
        except Exception as error:
            # Beside its own, paramiko lets through whatever a malformed packet leads to.
            raise _handshake_failure(connection, error) from None
        shown = client.get_remote_server_key()
        self._judge_host_key(server, HostKey(shown.get_name(), shown.asbytes()))

    def _judge_host_key(self, server: Server, shown: HostKey) -> None:
        files, name, port = server.known_hosts, server.host_key_name, server.host_key_port
        verdict = self._known_hosts.judge(files, name, port, shown)
        if verdict.trust is Trust.UNKNOWN and server.host_key_policy is HostKeyPolicy.ACCEPT_NEW:
            try:
                verdict = self._known_hosts.accept_new(files, name, port, shown, hashed=server.hash_new_names)
            except OSError as error:
                if is_descriptor_shortage(error):
                    raise
                detail = (
                    f"the new host key of {_where(server)} cannot be kept in {files[0]}: {error.strerror}"
                )
                raise _HostFailure(Failure("host-key-unknown", detail)) from None
        if verdict.trust is not Trust.KNOWN:
            raise _HostFailure(_host_key_failure(server, shown, verdict))

    # --- logging in -------------------------------------------------------------------------------

    def _log_in(self, connection: _Connection, group: str, deadlines: Deadlines, guard: Guard) -> None:
        """Named identity files, then the password, then (where no file is named) agent and defaults."""
        server = connection.server
        offer = self._keyring.offer(
            server.identity_files,
            named=server.identities_named,
            use_agent=server.use_agent,
            agent_socket=server.agent_socket,
            guard=guard,
            limit_s=deadlines.handshake_s,
        )
        password = self._passwords.of(server.endpoint)
        login = _Login(connection, offer.problems, guard)
        keys: list[Callable[[], bool]] = [
            partial(login.with_key, identity.name, identity.key) for identity in offer.identities
        ]
        secret: list[Callable[[], bool]] = []
        if password is not None:
            secret.append(partial(self._offer_password, login, password, group, deadlines, guard))
        attempts = keys + secret if server.identities_named else secret + keys
        guard.enter_layer(f"authentication at {_where(server)}", deadlines.handshake_s)
        for attempt in attempts:
            if attempt():
                return
        raise _HostFailure(login.failure())

    def _offer_password(
        self, login: _Login, password: str, group: str, deadlines: Deadlines, guard: Guard
    ) -> bool:
        with self._lock:
            tally = self._tallies.setdefault((group, login.server.user), LoginTally())
        guard.enter_layer(f"the turn to offer a password to {_where(login.server)}")
        if not tally.may_try(lambda: guard.cut_by is not None):
            of_group = f" of group {one_line(group)}" if group else ""
            detail = (
                f"connected, but the password of {one_line(login.server.user)} was not offered: "
                f"{REFUSALS_THAT_STOP_A_GROUP} hosts{of_group} refused it, and more could lock the account"
            )
            raise _HostFailure(Failure("not-attempted", detail))
        guard.enter_layer(f"authentication at {_where(login.server)}", deadlines.handshake_s)
        accepted: bool | None = None
        try:
            accepted = login.with_password(password)
        finally:
            tally.tried(accepted if login.password_was_judged else None)
        return accepted

    # --- jump hosts -------------------------------------------------------------------------------

    def _jump(
        self, endpoint: Endpoint, deadlines: Deadlines, guard: Guard, chain: tuple[Endpoint, ...]
    ) -> _Connection:
        """The shared connection to a jump host. It is tried once; its failure is everyone's cause."""
        if endpoint in chain or len(chain) > LONGEST_JUMP_CHAIN:
            detail = f"jump host {one_line(endpoint.name)} is reached through itself: correct the jump hosts"
            raise _HostFailure(Failure("not-attempted", detail))
        with self._lock:
            future = self._jumps.get(endpoint)
            if future is None:
                future = self._jumps[endpoint] = Future()
                arguments = (future, endpoint, deadlines, guard.stop, chain)
                threading.Thread(
                    target=self._open_jump,
                    args=arguments,
                    name=f"ascendctl-jump-{endpoint.name}",
                    daemon=True,
                ).start()
        guard.enter_layer(f"the connection to jump host {endpoint.name}")
        if not guard.wait_for(future):
            if guard.cut_by is Cut.STOPPED:
                raise CutShort
            # Its own deadline passes at about the same time, and tells all hosts the same cause.
            wait([future], JUMP_ANSWER_S)
            if not future.done():
                raise _JumpFault(Failure("jump-host", guard.cut_failure().detail, endpoint.name))
        try:
            connection = future.result()
        except _HostFailure as ended:
            raise _JumpFault(_as_jump_failure(endpoint, ended.failure)) from None
        if not connection.client.is_active():
            detail = f"the connection to jump host {endpoint.name} was lost"
            raise _JumpFault(Failure("jump-host", detail, endpoint.name))
        return connection

    def _open_jump(
        self,
        future: Future[_Connection],
        endpoint: Endpoint,
        deadlines: Deadlines,
        stop: threading.Event,
        chain: tuple[Endpoint, ...],
    ) -> None:
        try:
            # Its own deadline: the host that happens to ask first must not decide for the others.
            with self._watch.guard(stop, deadlines) as guard:
                try:
                    connection = self._connect(
                        endpoint, f"jump host {endpoint.name}", deadlines, guard, chain
                    )
                except _JumpFault:
                    raise
                except (_HostFailure, CutShort):
                    if guard.cut_by is None:
                        raise
                    raise _HostFailure(guard.cut_failure()) from None
            self._watch.add_beat(connection.heartbeat.beat)
            future.set_result(connection)
        except _HostFailure as ended:
            future.set_exception(ended)
        except BaseException as error:
            future.set_exception(_HostFailure(own_fault(error)))


# --- one connection -------------------------------------------------------------------------------


class _HostFailure(Exception):
    """Carries the failure of one host up to `SshTransport.run`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


class _TooBusy(_HostFailure):
    """The server dropped us before the key exchange, as sshd does above MaxStartups: try again."""


class _JumpFault(_HostFailure):
    """A jump host is to blame, even where it was the host's own deadline that passed."""


class _Packetizer(paramiko.packet.Packetizer):
    """paramiko's, without its timer thread per handshake (the guard bounds the handshake), with the
    lines kept that a server says before it names itself (they tell why it does not), with the time of
    the last packet, and with whether anything came behind the banner."""

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self.first_lines: list[str] = []
        self.heard_at = time.monotonic()
        self.began_exchange = False
        self.on_first_line: Callable[[], None] = _nothing
        self.on_packet: Callable[[], None] = _nothing

    def start_handshake(self, timeout: float) -> None:
        pass

    def read_message(self) -> tuple[int, paramiko.Message]:
        message: tuple[int, paramiko.Message] = super().read_message()
        self.heard_at = time.monotonic()
        self.on_packet()
        return message

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        first = b""
        if not self.began_exchange:
            first = super().read_all(1, check_rekey)
            self.began_exchange = True
        rest: bytes = super().read_all(n - len(first), check_rekey)
        return first + rest

    def readline(self, timeout: float) -> str:
        line: str = super().readline(timeout)
        self.first_lines.append(line)
        self.on_first_line()
        self.on_packet()
        return line


class _Pipe:
    """What carries the bytes of one connection: a socket, or a channel through a jump host."""

    def __init__(self, sock: Any, child: Child | None = None) -> None:
        self.sock = sock
        self._child = child

    def cut(self) -> None:
        """Make every blocking call on it end, without ever blocking itself."""
        if isinstance(self.sock, paramiko.Channel):
            # Closing a channel writes to the jump host, which may be what hangs.
            self.sock.in_buffer.close()
        else:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        with contextlib.suppress(Exception):
            self.sock.close()
        if self._child is not None:
            self._child.close()


class _Connection:
    """One SSH connection over a pipe; closing it waits for paramiko's thread to be gone."""

    def __init__(
        self, pipe: _Pipe, server: Server, jump: _Connection | None = None, *, is_jump: bool = False
    ) -> None:
        self.pipe = pipe
        self.server = server
        self.jump = jump
        self.client = paramiko.Transport(pipe.sock, packetizer_class=_Packetizer)
        packetizer: Any = self.client.packetizer
        self.packetizer: _Packetizer = packetizer
        self.client.set_log_channel(_PARAMIKO_LOG)
        self.client.banner_timeout = self.client.auth_timeout = self.client.channel_timeout = _NEVER_S
        # paramiko looks up ten times a second per connection; cutting the pipe wakes it as well.
        pipe.sock.settimeout(30.0)
        self.heartbeat = Heartbeat(
            self.client,
            lambda: self.packetizer.heard_at,
            pipe.cut,
            (JUMP_INTERVAL_S if is_jump else HOST_INTERVAL_S) * (1 + len(self.hops())),
        )

    def hops(self) -> list[_Connection]:
        """The jump hosts in front of it, the one next to us first."""
        return [*self.jump.hops(), self.jump] if self.jump is not None else []

    def lost_via(self) -> str | None:
        """The jump host whose own connection ended, if that is why this one did."""
        for hop in self.hops():
            hop.client.join(0.2)
            if not hop.client.is_alive():
                return hop.server.name
        return None

    def close(self) -> None:
        self.pipe.cut()
        if self.client.is_alive():
            self.client.join(1.0)
        with contextlib.suppress(Exception):
            self.client.close()
        self.pipe.close()


@contextlib.contextmanager
def _blaming(jump: _Connection | None, guard: Guard) -> Iterator[None]:
    """Where a host behind jump hosts fails inside, the jump host's share in it comes first."""
    try:
        yield
    except (_HostFailure, CutShort):
        _blame_jump(jump, guard)
        raise


def _blame_jump(jump: _Connection | None, guard: Guard) -> None:
    """Where a deadline cut a host behind jump hosts: raise `_JumpFault` for the first that is silent.

    A jump host that stalls is one cause, however many hosts lie behind it.
    """
    if jump is None or guard.cut_by is not Cut.DEADLINE:
        return
    for hop in (*jump.hops(), jump):
        if not hop.heartbeat.answers(JUMP_ANSWER_S):
            via = hop.server.name
            detail = f"jump host {one_line(via)} does not answer any more ({guard.cut_failure().detail})"
            raise _JumpFault(Failure("jump-host", detail, via)) from None


# --- reaching the server --------------------------------------------------------------------------


def _narrow_place(server: Server) -> Hashable:
    """What connections share that may bear only some of them at a time (`pacing`)."""
    if server.jump is not None:
        return server.jump
    if server.proxy_command:
        # `ssh -W host:port bastion`: alike but for the host, and so through the same bastion.
        return tuple(part.replace(server.address, "%h") for part in server.proxy_command)
    return server.address, server.port


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        first()
        second()

    return call


def _tcp_connect(server: Server, guard: Guard) -> _Pipe:
    failure = Failure("name-resolution", f"{server.address} has no address")
    for family, kind, protocol, _, address in _resolve(server, guard):
        sock = socket.socket(family, kind, protocol)
        pipe = _Pipe(sock)
        guard.on_cut(pipe.cut)
        try:
            sock.settimeout(guard.remaining_s + 1.0)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return pipe
        except ConnectionResetError:
            pipe.close()
            raise _TooBusy(Failure("protocol", f"{_where(server)} reset the connection at once")) from None
        except OSError as error:
            pipe.close()
            failure = _connect_failure(server, error)
    raise _HostFailure(failure)


def _resolve(server: Server, guard: Guard) -> Sequence[tuple[Any, ...]]:
    """The server's socket addresses. A name is looked up aside: getaddrinfo knows no deadline."""

    def look_up(flags: int = 0) -> list[tuple[Any, ...]]:
        return list(socket.getaddrinfo(server.address, server.port, type=socket.SOCK_STREAM, flags=flags))

    try:
        return look_up(socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        pass
    guard.rename_layer(f"looking up the name {server.address}")
    try:
        found = guard.result_of(aside("ascendctl-resolve", look_up))
        guard.rename_layer(f"TCP connect to {_where(server)}")
        return found
    except OSError as error:
        if is_descriptor_shortage(error):
            raise
        why = error.strerror or str(error)
    except UnicodeError:
        why = "not a valid name"
    raise _HostFailure(Failure("name-resolution", f"the name {server.address} cannot be resolved: {why}"))


def _through_jump(jump: _Connection, server: Server, guard: Guard) -> _Pipe:
    via = jump.server.name
    # Only a stop may take the jump host's connection down with it: others use it.
    guard.on_cut(lambda: jump.pipe.cut() if guard.cut_by is Cut.STOPPED else None)
    try:
        channel = jump.client.open_channel(
            "direct-tcpip", (server.address, server.port), ("127.0.0.1", 0), timeout=guard.remaining_s
        )
    except paramiko.ChannelException as refused:
        raise _HostFailure(_forwarding_failure(server, via, refused)) from None
    except (paramiko.SSHException, EOFError, OSError) as error:
        if jump.client.is_active() and guard.cut_by is None and guard.remaining_s > 0.0:
            # Of channels refused at the same time, paramiko tells the reason to one thread only.
            detail = f"no TCP connection to {_where(server)} from jump host {via}"
            raise _HostFailure(Failure("refused", detail)) from None
        if jump.client.is_active():
            detail = f"no answer at TCP connect to {_where(server)} from jump host {via}"
            raise _HostFailure(Failure("timeout", detail)) from None
        detail = f"the connection to jump host {via} was lost ({one_line(str(error))})"
        raise _HostFailure(Failure("jump-host", detail, via)) from None
    return _Pipe(channel)


def _through_command(server: Server, guard: Guard) -> _Pipe:
    ours, theirs = socket.socketpair()
    try:
        child = Child(
            server.proxy_command, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL
        )
    except OSError as error:
        ours.close()
        if is_descriptor_shortage(error):
            raise
        command = one_line(server.proxy_command[0])
        raise _HostFailure(
            Failure("unreachable", f"the proxy command {command} cannot be run: {error.strerror}")
        ) from None
    finally:
        theirs.close()
    return _Pipe(ours, child)


# --- the login ------------------------------------------------------------------------------------


class _Login:
    """One host's login: what was tried, what the server allows."""

    def __init__(self, connection: _Connection, problems: Sequence[str], guard: Guard) -> None:
        self.server = connection.server
        self.password_was_judged = False
        self._client = connection.client
        self._problems = list(problems)
        self._guard = guard
        self._tried: list[str] = []
        self._allowed: list[str] | None = None
        self._partial = False

    def with_key(self, name: str, key: paramiko.PKey) -> bool:
        if self._allowed is not None and "publickey" not in self._allowed:
            return False
        self._tried.append(f"publickey {one_line(name)}")
        self._guard.rename_layer(f"authentication at {_where(self.server)} with {one_line(name)}")
        return self._attempt(lambda: self._offer_key(key))

    def _offer_key(self, key: paramiko.PKey) -> Sequence[str]:
        # The agent is asked to sign in paramiko's thread, which cutting the pipe does not wake. So it is
        # waited for here, looking now and then for a connection that ended without telling.
        answered = threading.Event()
        with self._guard.at_cut(answered.set):
            self._client.auth_publickey(self.server.user, key, answered)
            while not answered.wait(1.0) and self._client.is_active():
                pass
        if self._guard.cut_by is not None:
            raise CutShort
        handler: Any = self._client.auth_handler
        allowed: Sequence[str] = handler.wait_for_response(answered)
        return allowed

    def with_password(self, password: str) -> bool:
        """Offer it once only, by whichever of the two methods the server takes."""
        if self._allowed is None or "password" in self._allowed:
            self._tried.append("password")
            self.password_was_judged = True
            if self._attempt(lambda: self._client.auth_password(self.server.user, password, fallback=False)):
                return True
            if self._allowed is None or "password" in self._allowed:
                return False
            self._tried.pop()
            self.password_was_judged = False
        if "keyboard-interactive" not in (self._allowed or ()):
            return False
        answers = _OneAnswer(password)
        self._tried.append("keyboard-interactive")
        try:
            return self._attempt(lambda: self._client.auth_interactive(self.server.user, answers))
        except _HostFailure:
            if not answers.unexpected:
                raise
            asked = f"{_where(self.server)} asks user {one_line(self.server.user)} for more than a password"
            detail = f"{asked}: {answers.unexpected}"
            raise _HostFailure(Failure("authentication", "; ".join([detail, *self._problems]))) from None
        finally:
            self.password_was_judged = answers.given

    def failure(self) -> Failure:
        """Why nobody was let in: what was tried and what the server would take."""
        if self._allowed is None:
            self._ask_what_is_allowed()
        allowed = ", ".join(one_line(method) for method in self._allowed or ()) or "nothing it told"
        tried = ", ".join(self._tried) or "nothing (no usable key, and no password source named)"
        parts = [f"{_where(self.server)} refused user {one_line(self.server.user)}: tried {tried}"]
        if self._partial:
            parts.append("one step was accepted, and the server wants another")
        parts.append(f"the server allows {allowed}")
        return Failure("authentication", "; ".join(parts + self._problems))

    def _attempt(self, method: Callable[[], Sequence[str]]) -> bool:
        try:
            wanted_next = method()
        except paramiko.BadAuthenticationType as error:
            self._allowed = list(error.allowed_types)
            return False
        except (paramiko.SSHException, EOFError, OSError) as error:
            if self._client.is_active():
                return False
            raise _HostFailure(self._thrown_out(error)) from None
        if wanted_next:
            self._allowed, self._partial = list(wanted_next), True
            return False
        return self._client.is_authenticated()

    def _thrown_out(self, error: Exception) -> Failure:
        if isinstance(error, AgentSilent):
            detail = f"{error} for the login at {_where(self.server)}, which was therefore not tried"
            return Failure("not-attempted", detail)
        reason = one_line(str(error)) or type(error).__name__
        closed = (
            f"{_where(self.server)} closed the connection during the login of {one_line(self.server.user)}"
        )
        parts = [f"{closed} ({reason})", f"tried {', '.join(self._tried)}", *self._problems]
        # sshd hangs up on too many failed attempts; a reset is the network's doing.
        kind = "authentication" if isinstance(error, paramiko.AuthenticationException) else "lost"
        return Failure(kind, "; ".join(parts))

    def _ask_what_is_allowed(self) -> None:
        try:
            self._client.auth_none(self.server.user)
        except paramiko.BadAuthenticationType as error:
            self._allowed = list(error.allowed_types)
        except (paramiko.SSHException, EOFError, OSError):
            pass


class _OneAnswer:
    """Answers one hidden question of keyboard-interactive with the password, and no other.

    A second question is a changed password or a one-time code, which the password must not go to. The
    login is then broken off instead of answered wrongly: a wrong answer would count against the account.
    """

    def __init__(self, password: str) -> None:
        self.given = False
        self.unexpected = ""
        self._password = password

    def __call__(self, title: str, instructions: str, prompts: Sequence[tuple[str, bool]]) -> list[str]:
        if not prompts:
            return []
        if self.given or len(prompts) > 1 or prompts[0][1]:
            self.unexpected = one_line(" ".join(prompt for prompt, _ in prompts))
            raise paramiko.AuthenticationException("more than a password was asked for")
        self.given = True
        return [self._password]


# --- the exchange ---------------------------------------------------------------------------------


class _Arrivals:
    """Wakes the reader when either stream has something or ends.

    The event that paramiko's buffers take. They clear it when *their* stream is empty; two streams
    share this one, so only the reader clears it.
    """

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        pass

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self) -> None:
        self._event.wait()
        self._event.clear()


class _Exchange:
    """The script out, the answers in."""

    def __init__(self, script: bytes, sink: Sink) -> None:
        self.sent_at: float | None = None
        self._script = script
        self._sink = sink
        self._received_bytes = 0
        self._first_words = b""
        self._asked_at: float | None = None
        self._errors = b""

    @property
    def _framed(self) -> bool:
        return bool(getattr(self._sink, "framed", self._received_bytes > 0))

    def cut_failure(self, guard: Guard) -> Failure:
        """What the cut of the guard did to the host. A shell that never took the script is told as such."""
        failure = guard.cut_failure()
        if guard.cut_by is Cut.STOPPED or self._asked_at is None or self._framed:
            return failure
        if time.monotonic() - self._asked_at < SHELL_START_S:
            return failure  # it may have needed a little longer
        words = self._first_words.strip() or self._errors.strip()
        said = f"; it said {one_line(words, 80)!r}" if words else ""
        detail = (
            "logged in, but nothing of the probe came back: the account's shell did not start it "
            f"({guard.limit}{said})"
        )
        return Failure("protocol", detail)

    def run(self, connection: _Connection, deadlines: Deadlines, guard: Guard) -> None:
        """Raises `_HostFailure` unless the sink has said that it has everything."""
        client = connection.client
        guard.enter_layer(f"opening the session at {_where(connection.server)}", deadlines.handshake_s)
        try:
            channel = client.open_session()
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise _HostFailure(_session_failure(client, error)) from None
        arrivals = _Arrivals()
        try:
            channel.exec_command(COMMAND)
            self._asked_at = time.monotonic()
            guard.enter_layer("waiting for the rest of the answers")
            self._send(channel)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise _HostFailure(_session_failure(client, error)) from None
        events: Any = arrivals
        channel.in_buffer.set_event(events)
        channel.in_stderr_buffer.set_event(events)
        try:
            if not self._read(channel, arrivals):
                raise _HostFailure(self._early_end(channel, connection))
        finally:
            with contextlib.suppress(Exception):
                if client.is_active() and guard.cut_by is None:
                    channel.close()

    def _send(self, channel: paramiko.Channel) -> None:
        """Send what the window takes; what is left goes out aside, while the answers are being read.

        A server may start to answer before it has read all. Sending it all first could then wait for
        a window that only opens when somebody reads the answers.
        """
        left = memoryview(self._script)
        while left and channel.send_ready():
            left = left[channel.send(bytes(left[:_READ_BYTES])) :]
        if not left:
            self._sent(channel)
            return

        def feed() -> None:
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                channel.sendall(bytes(left))
                self._sent(channel)

        threading.Thread(target=feed, name="ascendctl-script", daemon=True).start()

    def _sent(self, channel: paramiko.Channel) -> None:
        channel.shutdown_write()
        self.sent_at = time.time()

    def _read(self, channel: paramiko.Channel, arrivals: _Arrivals) -> bool:
        while True:
            arrivals.wait()
            # Looked at before the buffers: what came before the end is then read below.
            ended = channel.eof_received or channel.closed
            while channel.recv_ready():
                data = channel.recv(_READ_BYTES)
                self._received_bytes += len(data)
                if len(self._first_words) < FIRST_WORDS_BYTES:
                    self._first_words = (self._first_words + data)[:FIRST_WORDS_BYTES]
                if self._sink.feed(data, time.time()):
                    return True
            while channel.recv_stderr_ready():
                # The last words are the ones that tell why.
                self._errors = (self._errors + channel.recv_stderr(_READ_BYTES))[-STDERR_KEPT_BYTES:]
            if ended:
                return False

    def _early_end(self, channel: paramiko.Channel, connection: _Connection) -> Failure:
        exited = channel.status_event.wait(_EXIT_STATUS_WAIT_S) and channel.exit_status >= 0
        said = f": {one_line(self._errors)}" if self._errors.strip() else ""
        if not exited and not connection.client.is_active():
            via = connection.lost_via()
            whose = f"the connection to jump host {one_line(via)}" if via else "the connection"
            return Failure("lost", f"{whose} ended before the last answer{said}", via)
        how = f"exited {channel.exit_status}" if exited else "was killed by a signal"
        if self._framed:
            return Failure("lost", f"the shell on the host {how} before the last answer{said}")
        detail = f"the account's shell did not run the script: it {how} and answered nothing of it{said}"
        return Failure("protocol", detail)


# --- failures, in words ---------------------------------------------------------------------------


def _where(server: Server) -> str:
    return f"{one_line(server.address)} port {server.port}"


def _as_jump_failure(endpoint: Endpoint, failure: Failure) -> Failure:
    if failure.kind in ("jump-host", "interrupted") or failure.detail == TOO_FEW_DESCRIPTORS:
        return failure
    detail = f"jump host {one_line(endpoint.name)}: {failure.kind}: {failure.detail}"
    return Failure("jump-host", detail, endpoint.name, failure.internal)


def _connect_failure(server: Server, error: OSError) -> Failure:
    where = _where(server)
    if isinstance(error, ConnectionRefusedError):
        return Failure(
            "refused", f"{where} refused the connection: nothing listens there, or a firewall rejects it"
        )
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return Failure("timeout", f"no answer at TCP connect to {where}")
    reason = os.strerror(error.errno) if error.errno else one_line(str(error))
    return Failure("unreachable", f"{where} cannot be reached: {reason}")


def _forwarding_failure(server: Server, via: str, refused: paramiko.ChannelException) -> Failure:
    where = f"{_where(server)} from jump host {via}"
    if refused.code == 1:  # RFC 4254 5.1: administratively prohibited
        detail = f"jump host {via} does not forward to {_where(server)} (AllowTcpForwarding, PermitOpen)"
        return Failure("jump-host", detail, via)
    return Failure("refused", f"no TCP connection to {where}: {one_line(refused.text)}")


_SAID_WHEN_BUSY = "Exceeded MaxStartups"
_SAID_TO_PENALISED = "Not allowed at this time"


def _handshake_failure(connection: _Connection, error: Exception) -> _HostFailure:
    client, where = connection.client, _where(connection.server)
    reason = one_line(str(error)) or type(error).__name__
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        return _HostFailure(Failure("protocol", f"{where} and this client share no algorithm: {reason}"))
    hung_up = isinstance(error, EOFError | ConnectionError) or str(error) == "Negotiation failed."
    if client.remote_version and hung_up and not connection.packetizer.began_exchange:
        detail = f"{where} took the connection and closed it after its banner (sshd too busy, or a filter)"
        return _TooBusy(Failure("protocol", detail))
    if client.remote_version:
        detail = f"the key exchange with {where} ({one_line(client.remote_version)}) failed: {reason}"
        return _HostFailure(Failure("protocol", detail))
    said = " ".join(connection.packetizer.first_lines)
    if _SAID_WHEN_BUSY in said:
        return _TooBusy(Failure("refused", f"{where} has too many logins under way (sshd's MaxStartups)"))
    if _SAID_TO_PENALISED in said:
        detail = f"{where} turns this address away for a while (sshd's PerSourcePenalties)"
        return _TooBusy(Failure("refused", detail))
    if said:
        return _HostFailure(Failure("protocol", f"{where} is no SSH server: it said {one_line(said, 80)!r}"))
    if connection.server.proxy_command:
        command = one_line(connection.server.proxy_command[0])
        return _HostFailure(
            Failure("protocol", f"the proxy command {command} ended before {where} said anything")
        )
    detail = f"{where} took the connection and closed it without a word (sshd's MaxStartups, or a filter)"
    return _TooBusy(Failure("protocol", detail))


def _host_key_failure(server: Server, shown: HostKey, verdict: Verdict) -> Failure:
    key = f"{shown.key_type} {shown.fingerprint}"
    name = lookup_name(server.host_key_name, server.host_key_port)
    if server.host_key_name != server.address:
        name += f" (HostKeyAlias of {_where(server)})"
    known = verdict.against
    if verdict.trust is Trust.REVOKED and known is not None:
        return Failure(
            "host-key-mismatch", f"the host key {key} of {name} is marked revoked at {known.where}"
        )
    if verdict.trust is Trust.CHANGED and known is not None:
        detail = (
            f"the host key of {name} is {key}, but {known.where} says "
            f"{one_line(known.key.key_type)} {known.key.fingerprint}"
        )
        return Failure("host-key-mismatch", detail)
    detail = f"the host key {key} of {name} is in none of {', '.join(map(str, server.known_hosts))}"
    if known is not None:
        detail += f" ({known.where} trusts it through a certificate authority, which is not supported here)"
    return Failure("host-key-unknown", detail)


def _session_failure(client: paramiko.Transport, error: Exception) -> Failure:
    reason = one_line(str(error)) or type(error).__name__
    if not client.is_active():
        return Failure("lost", f"the connection ended while the session was being opened ({reason})")
    return Failure("protocol", f"the server does not run commands for this account: {reason}")


def _known_first(offered: Sequence[str], known: Sequence[str]) -> list[str]:
    """``offered`` algorithms, those of known key types first: the server then shows the key we know."""
    return sorted(offered, key=lambda algorithm: _rank(algorithm, known))


def _rank(algorithm: str, known: Sequence[str]) -> int:
    key_type = "ssh-rsa" if algorithm.startswith("rsa-sha2-") else algorithm
    return known.index(key_type) if key_type in known else len(known)
