"""Host keys: what known_hosts files say of a server, and keeping a new one.

Format: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT. Read once per file and change of it, however many hosts
are asked. ``@cert-authority`` lines are noted but cannot be used: host certificates are not checked.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import os
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ascendctl.transport.faults import is_descriptor_shortage

DEFAULT_PORT = 22


@dataclass(frozen=True)
class HostKey:
    """A server's public key: its type name and its wire form."""

    key_type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """``SHA256:…`` as OpenSSH prints it."""
        digest = hashlib.sha256(self.blob).digest()
        return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")


@dataclass(frozen=True)
class KnownKey:
    """One line of a known_hosts file; ``marker`` is ``""``, ``@revoked`` or ``@cert-authority``."""

    path: Path
    line: int
    marker: str
    key: HostKey

    @property
    def where(self) -> str:
        return f"{self.path} line {self.line}"


class Trust(Enum):
    """What known_hosts says of the key that a server showed."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


@dataclass(frozen=True)
class Verdict:
    """``against`` is the line that decided, where one did. For `Trust.UNKNOWN` it is a
    certificate authority's line, if one covers the name."""

    trust: Trust
    against: KnownKey | None = None


class KnownHosts:
    """Every known_hosts file that was asked for, parsed and kept; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[Path, tuple[tuple[int, int, int] | None, _File]] = {}

    def lookup(self, files: Iterable[Path], host: str, port: int) -> list[KnownKey]:
        """The lines that speak of ``host`` at ``port``, in file order. Unreadable files say nothing.

        Raises OSError, as everything here does, when there is no file descriptor left to read them with.
        """
        name = lookup_name(host, port)
        return [known for path in files for known in self._file(path).lookup(name)]

    def judge(self, files: Iterable[Path], host: str, port: int, shown: HostKey) -> Verdict:
        """Whether ``shown`` is the known key of the host.

        As OpenSSH does, a plain entry of the host also vouches for another port, but never accuses it.
        A host that is known by keys of other types only counts as changed: the known type was offered
        first, so a server that still had it would have used it.
        """
        files = list(files)
        lines = self.lookup(files, host, port)
        verdict = _judge(lines, shown)
        if verdict.trust is Trust.UNKNOWN and port != DEFAULT_PORT:
            plain = _judge(self.lookup(files, host, DEFAULT_PORT), shown)
            if plain.trust in (Trust.KNOWN, Trust.REVOKED):
                return plain
        return verdict

    def key_types(self, files: Iterable[Path], host: str, port: int) -> list[str]:
        """Key types known for the host, to be offered first; the plain name's after the port's own."""
        files = list(files)
        lines = self.lookup(files, host, port)
        if port != DEFAULT_PORT:
            lines += self.lookup(files, host, DEFAULT_PORT)
        return list(dict.fromkeys(known.key.key_type for known in lines if not known.marker))

    def accept_new(
        self, files: Iterable[Path], host: str, port: int, shown: HostKey, *, hashed: bool = False
    ) -> Verdict:
        """Add ``shown`` to the first file, unless the host has become known meanwhile.

        The file is locked while it is read again and appended to, so that of several threads or
        processes one stores the key and the others judge by it. Raises OSError if it cannot be written.
        """
        files = list(files)
        path = files[0]
        name = lookup_name(host, port)
        text = f"{_hash_name(name) if hashed else name} {shown.key_type} {_b64(shown.blob)}\n"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            verdict = self.judge(files, host, port, shown)
            if verdict.trust is not Trust.UNKNOWN:
                return verdict
            size = os.fstat(descriptor).st_size
            unfinished = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, (("\n" if unfinished else "") + text).encode("utf-8"))
        finally:
            os.close(descriptor)
        return self.judge(files, host, port, shown)

    def _file(self, path: Path) -> _File:
        stamp = _stamp(path)
        with self._lock:
            cached = self._files.get(path)
            if cached is None or cached[0] != stamp:
                cached = (stamp, _File(path))
                self._files[path] = cached
            return cached[1]


def lookup_name(host: str, port: int) -> str:
    """The name that a known_hosts line carries for ``host`` at ``port``."""
    host = host.lower()
    return host if port == DEFAULT_PORT else f"[{host}]:{port}"


def _judge(lines: list[KnownKey], shown: HostKey) -> Verdict:
    for known in lines:
        if known.marker == "@revoked" and known.key == shown:
            return Verdict(Trust.REVOKED, known)
    plain = [known for known in lines if not known.marker]
    for known in plain:
        if known.key == shown:
            return Verdict(Trust.KNOWN, known)
    same_type = [known for known in plain if known.key.key_type == shown.key_type]
    if plain:
        return Verdict(Trust.CHANGED, (same_type or plain)[0])
    authorities = [known for known in lines if known.marker == "@cert-authority"]
    return Verdict(Trust.UNKNOWN, authorities[0] if authorities else None)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns)


class _File:
    """One parsed file, indexed so that a thousand plain names cost one look-up each."""

    def __init__(self, path: Path) -> None:
        self._exact: dict[str, list[KnownKey]] = {}
        self._patterns: list[tuple[list[str], KnownKey]] = []
        self._hashed: list[tuple[bytes, bytes, KnownKey]] = []
        self._unhashed: dict[str, list[KnownKey]] = {}
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            if is_descriptor_shortage(error):
                raise  # it may be full of keys: taken for empty, a changed key would count as new
            lines = []
        for number, line in enumerate(lines, start=1):
            self._read(path, number, line)

    def lookup(self, name: str) -> list[KnownKey]:
        found = list(self._exact.get(name, ()))
        found += [known for names, known in self._patterns if _matches(names, name)]
        found += self._unhash(name)
        return sorted(found, key=lambda known: known.line)

    def _unhash(self, name: str) -> list[KnownKey]:
        if name not in self._unhashed:
            encoded = name.encode("utf-8")
            self._unhashed[name] = [
                known for salt, digest, known in self._hashed if hmac.digest(salt, encoded, "sha1") == digest
            ]
        return self._unhashed[name]

    def _read(self, path: Path, number: int, raw: bytes) -> None:
        fields = raw.decode("utf-8", "replace").split()
        if not fields or fields[0].startswith("#"):
            return
        marker = fields.pop(0) if fields[0].startswith("@") else ""
        if len(fields) < 3 or marker not in ("", "@revoked", "@cert-authority"):
            return
        try:
            blob = base64.b64decode(fields[2], validate=True)
        except (binascii.Error, ValueError):
            return
        self._index(fields[0], KnownKey(path, number, marker, HostKey(fields[1], blob)))

    def _index(self, names_field: str, known: KnownKey) -> None:
        if names_field.startswith("|"):
            parts = names_field.split("|")
            if len(parts) == 4 and parts[1] == "1":
                try:
                    salt, digest = base64.b64decode(parts[2]), base64.b64decode(parts[3])
                except (binascii.Error, ValueError):
                    return
                self._hashed.append((salt, digest, known))
            return
        names = names_field.lower().split(",")
        if any(char in names_field for char in "*?!"):
            self._patterns.append((names, known))
            return
        for name in dict.fromkeys(names):
            self._exact.setdefault(name, []).append(known)


def _matches(patterns: list[str], name: str) -> bool:
    matched = False
    for pattern in patterns:
        if pattern.startswith("!"):
            if _wildcard(pattern[1:]).fullmatch(name):
                return False
        elif _wildcard(pattern).fullmatch(name):
            matched = True
    return matched


def _wildcard(pattern: str) -> re.Pattern[str]:
    # Only * and ? are special here; brackets are part of [host]:port, so fnmatch would be wrong.
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def _hash_name(name: str) -> str:
    salt = os.urandom(20)
    return f"|1|{_b64(salt)}|{_b64(hmac.digest(salt, name.encode('utf-8'), 'sha1'))}"


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
