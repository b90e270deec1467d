"""The keys we can show a server: identity files and the agent's, loaded once for all hosts."""

from __future__ import annotations

import base64
import os
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import paramiko
from paramiko.message import Message

DEFAULT_NAMES = ("id_ed25519", "id_ecdsa", "id_rsa")

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
    """Loads identity files and lists the agent once, however many hosts ask; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offers: dict[tuple[tuple[Path, ...], bool, bool, str | None], Offer] = {}
        self._agents: dict[str | None, tuple[Identity, ...]] = {}
        self._open_agents: list[_LockedAgent] = []

    def offer(
        self, files: Sequence[Path], *, named: bool, use_agent: bool, agent_socket: str | None = None
    ) -> Offer:
        """The keys for one server.

        ``named``: the files were asked for, so a missing one is a problem, not a default that is not
        there. ``use_agent``: the agent's other keys come first, as OpenSSH does. An encrypted file is
        used through the agent where the agent holds its key.
        """
        request = (tuple(files), named, use_agent, agent_socket)
        with self._lock:
            if request not in self._offers:
                self._offers[request] = self._load(*request)
            return self._offers[request]

    def close(self) -> None:
        """Close the connection to the agent."""
        with self._lock:
            for agent in self._open_agents:
                agent.close()
            self._open_agents.clear()
            self._agents.clear()
            self._offers.clear()

    def _load(self, files: tuple[Path, ...], named: bool, use_agent: bool, agent_socket: str | None) -> Offer:
        identities: list[Identity] = []
        problems: list[str] = []
        if use_agent:
            identities += self._agent(agent_socket)
        for path in files:
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                if named:
                    problems.append(f"identity file {path} does not exist")
                continue
            except OSError as error:
                problems.append(f"identity file {path} cannot be read: {error.strerror}")
                continue
            if _is_encrypted(data):
                held = self._held_by_agent(path, data, agent_socket)
                if held is not None:
                    identities.append(held)
                else:
                    problems.append(
                        f"identity file {path} has a passphrase and its key is not in the agent: "
                        "add it with ssh-add"
                    )
                continue
            try:
                identities.append(Identity(str(path), paramiko.PKey.from_path(path)))
            except Exception as error:
                # The loaders raise ValueError, TypeError, SSHException and more, all meaning this.
                problems.append(f"identity file {path} is no private key that can be used ({error})")
        unique: dict[bytes, Identity] = {}
        for identity in identities:
            unique.setdefault(identity.key.asbytes(), identity)
        return Offer(tuple(unique.values()), tuple(problems))

    def _held_by_agent(self, path: Path, data: bytes, agent_socket: str | None) -> Identity | None:
        public = _public_part(path, data)
        for identity in self._agent(agent_socket):
            if public is not None and identity.key.asbytes() == public:
                return Identity(f"{path} (agent)", identity.key)
        return None

    def _agent(self, agent_socket: str | None) -> tuple[Identity, ...]:
        if agent_socket not in self._agents:
            self._agents[agent_socket] = self._ask_agent(agent_socket)
        return self._agents[agent_socket]

    def _ask_agent(self, agent_socket: str | None) -> tuple[Identity, ...]:
        address = agent_socket or os.environ.get("SSH_AUTH_SOCK")
        if not address or address == "none":
            return ()
        try:
            agent = _LockedAgent(address)
        except Exception:
            # No agent behind the socket is the everyday case of a stale SSH_AUTH_SOCK.
            return ()
        self._open_agents.append(agent)
        return tuple(Identity(f"agent key {key.comment or key.get_name()}", key) for key in agent.get_keys())


class _LockedAgent(paramiko.agent.AgentSSH):
    """The agent behind a socket; one question at a time, because all hosts' threads share it.

    paramiko's `Agent` reads the environment only and has no lock; what is used here of its base class
    is missing from the type stubs.
    """

    def __init__(self, address: str) -> None:
        super().__init__()
        self._turn = threading.Lock()
        self._socket = _unix_connection(address)
        try:
            self._connect(self._socket)  # type: ignore[attr-defined]
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._close()  # type: ignore[attr-defined]

    def _send_message(self, msg: object) -> tuple[int, Message]:
        with self._turn:
            answer: tuple[int, Message] = super()._send_message(msg)  # type: ignore[misc]
            return answer


def _unix_connection(address: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(30.0)  # a person may have to touch a token or confirm
    connection.connect(address)
    return connection


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
