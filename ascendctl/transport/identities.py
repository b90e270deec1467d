"""The keys we can show a server: identity files and the agent's, loaded once for all hosts."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import stat
import struct
import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import paramiko
from paramiko.message import Message

from ascendctl.transport.faults import is_descriptor_shortage
from ascendctl.transport.remote_text import one_line
from ascendctl.transport.watch import Guard, aside

DEFAULT_NAMES = ("id_ed25519", "id_ecdsa", "id_rsa")
AGENT_LIST_LIMIT_S = 10.0
AGENT_SIGN_LIMIT_S = 30.0  # a person may have to touch a token or confirm

_Key = TypeVar("_Key", bound=Hashable)
_Result = TypeVar("_Result")

_OPENSSH_MAGIC = b"openssh-key-v1\0"


@dataclass(frozen=True)
class Identity:
    """A usable key and what to call it in a message."""

    name: str
    key: paramiko.PKey


@dataclass(frozen=True)
class Offer:
    """Keys in the order to try them, and one sentence for each file that could not be used."""

    identities: tuple[Identity, ...]
    problems: tuple[str, ...] = ()


class Keyring:
    """Loads identity files and lists the agent once, however many hosts ask; thread-safe.

    A file or an agent that hangs wedges a daemon thread of its own, and costs each host that wants it
    the time of its guard. The lock is never held while waiting for either.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._offers: dict[tuple[tuple[Path, ...], bool, bool, str | None], Offer] = {}
        self._files: dict[tuple[Path, ...], Future[tuple[_File, ...]]] = {}
        self._agents: dict[str, Future[_AgentKeys]] = {}

    def offer(
        self,
        files: Sequence[Path],
        *,
        named: bool,
        use_agent: bool,
        agent_socket: str | None,
        guard: Guard,
        limit_s: float,
    ) -> Offer:
        """The keys for one server.

        ``named``: the files were asked for, so a missing one is a problem, not a default that is not
        there. ``use_agent``: the agent's other keys come first, as OpenSSH does. An encrypted file is
        used through the agent where the agent holds its key. Each of the two steps is a layer of the
        guard of ``limit_s`` seconds. Raises `CutShort` when the guard is cut.
        """
        files = tuple(files)
        request = (files, named, use_agent, agent_socket)
        with self._lock:
            known = self._offers.get(request)
        if known is not None:
            return known
        which = f" ({one_line(', '.join(map(str, files)))})" if named else ""
        guard.enter_layer(f"loading keys{which}", limit_s)
        loaded = guard.result_of(
            self._once(self._files, files, "ascendctl-keys", lambda: tuple(map(_load, files)))
        )
        agent = _NO_AGENT
        address = agent_socket or os.environ.get("SSH_AUTH_SOCK")
        if address and address != "none" and (use_agent or any(file.encrypted for file in loaded)):
            guard.enter_layer(f"asking the ssh agent at {one_line(address)} for its keys", limit_s)
            agent = guard.result_of(
                self._once(self._agents, address, "ascendctl-agent", lambda: self._ask_agent(address))
            )
        offer = _offer(loaded, agent, named=named, use_agent=use_agent)
        with self._lock:
            self._offers[request] = offer
        return offer

    def close(self) -> None:
        """Close the connections to agents. Does not block."""
        with self._lock:
            self._closed = True
            agents = list(self._agents.values())
            self._agents.clear()
            self._files.clear()
            self._offers.clear()
        for asked in agents:
            if asked.done() and asked.exception() is None:
                asked.result().close()

    def _once(
        self,
        kept: dict[_Key, Future[_Result]],
        key: _Key,
        name: str,
        work: Callable[[], _Result],
    ) -> Future[_Result]:
        def forgotten_if_it_fails() -> _Result:
            try:
                return work()
            except BaseException:
                # Such as too few descriptors: the next host may have more luck.
                with self._lock:
                    kept.pop(key, None)
                raise

        with self._lock:
            if key not in kept:
                kept[key] = aside(name, forgotten_if_it_fails)
            return kept[key]

    def _ask_agent(self, address: str) -> _AgentKeys:
        try:
            agent = _LockedAgent(address)
        except AgentSilent as silence:
            return _AgentKeys((), str(silence))
        except Exception as error:
            if is_descriptor_shortage(error):
                raise
            # No agent behind the socket is the everyday case of a stale SSH_AUTH_SOCK.
            return _NO_AGENT
        with self._lock:
            closed = self._closed
        if closed:
            agent.close()
        keys = (Identity(f"agent key {key.comment or key.get_name()}", key) for key in agent.get_keys())
        return _AgentKeys(tuple(keys), agent=agent)


class AgentSilent(paramiko.SSHException):
    """The agent took a question and gave no answer."""


@dataclass(frozen=True)
class _File:
    """One identity file: its key, or why there is none; ``encrypted`` ones name their public key."""

    path: Path
    key: paramiko.PKey | None = None
    missing: bool = False
    encrypted: bool = False
    public: bytes | None = None
    problem: str = ""


@dataclass(frozen=True)
class _AgentKeys:
    identities: tuple[Identity, ...]
    problem: str = ""
    agent: _LockedAgent | None = None

    def close(self) -> None:
        if self.agent is not None:
            self.agent.close()


_NO_AGENT = _AgentKeys(())


def _offer(files: Sequence[_File], agent: _AgentKeys, *, named: bool, use_agent: bool) -> Offer:
    identities = list(agent.identities) if use_agent else []
    problems = [agent.problem] if agent.problem else []
    for file in files:
        if file.key is not None:
            identities.append(Identity(str(file.path), file.key))
        elif file.encrypted:
            held = [key for key in agent.identities if key.key.asbytes() == file.public]
            identities += [Identity(f"{file.path} (agent)", key.key) for key in held]
            if not held:
                problems.append(
                    f"identity file {file.path} has a passphrase and its key is not in the agent: "
                    "add it with ssh-add"
                )
        elif named or not file.missing:
            problems.append(f"identity file {file.path} {file.problem}")
    unique: dict[bytes, Identity] = {}
    for identity in identities:
        unique.setdefault(identity.key.asbytes(), identity)
    return Offer(tuple(unique.values()), tuple(problems))


def _load(path: Path) -> _File:
    try:
        data = _read(path)
    except FileNotFoundError:
        return _File(path, missing=True, problem="does not exist")
    except OSError as error:
        if is_descriptor_shortage(error):
            raise
        return _File(path, problem=f"cannot be read: {error.strerror}")
    if data is None:
        return _File(path, problem="is no regular file")
    if _is_encrypted(data):
        return _File(path, encrypted=True, public=_public_part(path, data))
    try:
        return _File(path, paramiko.PKey.from_path(path))
    except Exception as error:
        if is_descriptor_shortage(error):
            raise
        # The loaders raise ValueError, TypeError, SSHException and more, all meaning this.
        return _File(path, problem=f"is no private key that can be used ({error})")


def _read(path: Path) -> bytes | None:
    # Opened without waiting for a writer, should it be a FIFO; that and devices are not read.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read() if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


class _LockedAgent(paramiko.agent.AgentSSH):
    """The agent behind a socket; one question at a time, because all hosts' threads share it.

    One question without an answer, and it is asked no more: what came later would answer another.

    paramiko's `Agent` reads the environment only and has no lock; what is used here of its base class
    is missing from the type stubs.
    """

    def __init__(self, address: str) -> None:
        super().__init__()
        self._turn = threading.Lock()
        self._address = address
        self._silence = ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(AGENT_LIST_LIMIT_S)
            self._socket.connect(address)
            self._connect(self._socket)  # type: ignore[attr-defined]
            self._socket.settimeout(AGENT_SIGN_LIMIT_S)
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        # Closing alone would not wake a thread that waits for an answer.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _send_message(self, msg: object) -> tuple[int, Message]:
        with self._turn:
            if self._silence:
                raise AgentSilent(self._silence)
            try:
                answer: tuple[int, Message] = super()._send_message(msg)  # type: ignore[misc]
                return answer
            except TimeoutError:
                limit_s = self._socket.gettimeout() or 0.0
                self._silence = (
                    f"the ssh agent at {one_line(self._address)} gave no answer within {limit_s:g} s"
                )
                raise AgentSilent(self._silence) from None


def _is_encrypted(data: bytes) -> bool:
    body = _openssh_body(data)
    if body is not None:
        return _strings(body[len(_OPENSSH_MAGIC) :], 1)[:1] != [b"none"]
    return b"ENCRYPTED" in data


def _public_part(path: Path, data: bytes) -> bytes | None:
    # OpenSSH's private key format carries the public key in the clear (PROTOCOL.key); PEM does not.
    body = _openssh_body(data)
    if body is not None:
        rest = body[len(_OPENSSH_MAGIC) :]
        strings = _strings(rest, 3)
        skip = sum(4 + len(part) for part in strings) + 4
        return next(iter(_strings(rest[skip:], 1)), None)
    try:
        return base64.b64decode(path.with_name(path.name + ".pub").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _openssh_body(data: bytes) -> bytes | None:
    if b"BEGIN OPENSSH PRIVATE KEY" not in data:
        return None
    lines = [line for line in data.split(b"\n") if line and not line.startswith(b"-----")]
    try:
        body = base64.b64decode(b"".join(lines))
    except ValueError:
        return None
    return body if body.startswith(_OPENSSH_MAGIC) else None


def _strings(data: bytes, count: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count and len(data) >= 4:
        (size,) = struct.unpack(">I", data[:4])
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found
