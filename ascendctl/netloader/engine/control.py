"""The control connection of one join: labelled JSON frames over one TCP socket.

A frame is a 4-byte big-endian length, that many bytes of JSON ``{"label": ..., "content": {...}}`` and,
once a session key is in use, a 16-byte MAC. The MAC (HMAC-SHA256, cut) covers the number of the frame, its
length and its bytes, under one key per direction: frames cannot be changed, dropped, repeated, reordered or
sent back to their sender unseen.

Every wait has a deadline, and no read takes more from the socket than the frame it is about: what follows
a frame stays for whoever reads next (the unframed ``JOIN_ACK`` of :mod:`.wire`).
"""

from __future__ import annotations

import contextlib
import hmac
import json
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NoReturn

FRAME_LIMIT_BYTES = 64 * 1024 * 1024
SEND_TIMEOUT_S = 30.0

_LENGTH = struct.Struct(">I")
_SEQUENCE = struct.Struct(">Q")
_MAC_BYTES = 16
_READ_BYTES = 256 * 1024


class Label(str, Enum):
    """What a frame says. ``joiner`` and ``source`` are the two ends of one join."""

    CHALLENGE = "CHALLENGE"  # source: prove that you hold the token; I do
    PROOF = "PROOF"  # joiner: the proof
    IDENTITY = "IDENTITY"  # joiner: what model, which rank, which versions
    REFUSE = "REFUSE"  # source: not for you, and every field that differs
    MANIFEST = "MANIFEST"  # source: order, names, dtypes, shapes, digests
    READY = "READY"  # joiner: my tensors fit; begin with this chunk
    AVAILABLE = "AVAILABLE"  # source: chunks up to this one may be received
    KEEPALIVE = "KEEPALIVE"  # source: alive, nothing new
    DONE = "DONE"  # joiner: the last digest was right
    ABORT = "ABORT"  # either: stop, and why

    __str__ = str.__str__


class ControlError(Exception):
    """The control connection cannot go on."""


class PeerGone(ControlError):
    """The other end closed or reset the connection, or this end closed it."""


class ControlTimeout(ControlError):
    """Nothing complete came, or nothing could be sent, within the deadline."""


class ControlBroken(ControlError):
    """What came is no frame: cut short, too long, no JSON, a wrong MAC. The connection is of no more use."""


@dataclass(frozen=True)
class Frame:
    """One message: its label (:class:`Label`, or one that a newer peer knows) and its fields."""

    label: str
    content: Mapping[str, Any]


@dataclass(frozen=True, repr=False)
class SessionKey:
    """The two keys of one authenticated connection, as one end holds them (:mod:`.proof` derives them)."""

    outgoing: bytes
    incoming: bytes


class Control:
    """One end of a control connection; owns the socket from here on.

    Sends are safe from any thread, receiving is for one thread at a time, ``close`` for any.

    Raises :class:`PeerGone` at once where the socket is already disconnected.
    """

    def __init__(
        self, sock: socket.socket, key: SessionKey | None = None, *, limit_bytes: int = FRAME_LIMIT_BYTES
    ) -> None:
        """``limit_bytes`` bounds the frames taken in: a source that expects only small ones says so."""
        self._sock = sock
        self._limit_bytes = min(limit_bytes, FRAME_LIMIT_BYTES)
        try:
            self._local, self._peer = _address(sock.getsockname()), _address(sock.getpeername())
            sock.setblocking(False)
        except OSError as error:
            raise PeerGone(f"the connection is gone: {error}") from None
        with contextlib.suppress(OSError):  # not TCP: nothing to switch off
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._key = key
        self._sent = 0
        self._received = 0
        self._half = bytearray()  # of the frame being received
        self._broken: ControlBroken | None = None
        self._sending = threading.Lock()
        self._receiving = threading.Lock()
        self._state = threading.Lock()
        self._users = 0
        self._closed = False

    @property
    def local(self) -> tuple[str, int]:
        """This end's address and port; it stays known after the connection is gone."""
        return self._local

    @property
    def peer(self) -> tuple[str, int]:
        """The other end's address and port."""
        return self._peer

    @property
    def socket(self) -> socket.socket:
        """The socket, for the unframed answers of :mod:`.wire`, between frames only."""
        return self._sock

    def secure(self, key: SessionKey) -> None:
        """From the next frame on, in both directions, every frame carries a MAC under ``key``."""
        with self._sending, self._receiving:
            self._key, self._sent, self._received = key, 0, 0

    def send(self, label: str, /, **content: object) -> None:
        """Send one frame; ``content`` must be JSON's types.

        Raises PeerGone, ControlTimeout (the peer reads nothing for 30 s; a later send is then broken too),
        ControlBroken (the frame would be over the limit: nothing was sent).
        """
        data = json.dumps({"label": label, "content": content}, allow_nan=False).encode("ascii")
        if len(data) > FRAME_LIMIT_BYTES:
            raise ControlBroken(f"{label} would be {len(data)} bytes, and a frame holds {FRAME_LIMIT_BYTES}")
        with self._using(), self._sending:
            self._raise_if_broken()
            mac = b""
            if self._key is not None:
                mac = _mac(self._key.outgoing, self._sent, data)
            self._sent += 1
            try:
                send_bytes(self._sock, _LENGTH.pack(len(data)) + data + mac, SEND_TIMEOUT_S)
            except ControlTimeout as error:
                # Part of the frame may be out: whatever followed would be read as its rest.
                self._broken = ControlBroken(f"a frame was sent in part: {error}")
                raise

    def receive(self, timeout_s: float) -> Frame:
        """The next frame, waiting at most ``timeout_s`` for the whole of it.

        Raises PeerGone, ControlTimeout (what came of the frame is kept; a later call goes on), ControlBroken.
        """
        until = time.monotonic() + timeout_s
        with self._using(), self._receiving:
            frame = self._advance(until)
        if frame is None:
            raise ControlTimeout(f"no frame from {_shown(self._peer)} within {timeout_s:g} s")
        return frame

    def poll(self) -> Frame | None:
        """The next frame if all of it is here, else None; never blocks. Raises PeerGone, ControlBroken."""
        with self._using():
            if not self._receiving.acquire(blocking=False):
                return None
            try:
                return self._advance(None)
            finally:
                self._receiving.release()

    def close(self, drain_s: float = 0.0) -> None:
        """Close, waking whoever waits here with PeerGone. Never raises; may be called again.

        ``drain_s``: first read and drop what the peer still sends, until it closes or so long. Closing over
        unread bytes resets the connection, and the peer may lose the frame that says why.
        """
        with self._state:
            if self._closed:
                return
            self._closed = True
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR if drain_s > 0 and not self._users else socket.SHUT_RDWR)
            # A descriptor closed under a thread that waits on it may be another's by then: the last one out
            # closes it.
            if self._users:
                return
        drain_and_close(self._sock, drain_s)

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        with self._state:
            if self._closed:
                raise PeerGone("the connection was closed at this end")
            self._users += 1
        try:
            yield
        finally:
            with self._state:
                self._users -= 1
                if self._closed and not self._users:
                    self._sock.close()

    def _advance(self, until: float | None) -> Frame | None:
        """Read on until a frame is complete (returned) or ``until`` is past (None: what is there only)."""
        self._raise_if_broken()
        while (missing := self._missing()) > 0:
            try:
                piece = _receive_some(self._sock, min(missing, _READ_BYTES), until)
            except OSError as error:
                if self._closed:
                    raise PeerGone("the connection was closed at this end") from None
                raise PeerGone(f"{_shown(self._peer)} dropped the connection: {error}") from None
            if piece is None:
                return None
            if not piece:
                if self._closed:
                    raise PeerGone("the connection was closed at this end")
                if self._half:
                    self._break(f"the connection ended inside a frame, after {len(self._half)} of its bytes")
                raise PeerGone(f"{_shown(self._peer)} closed the connection")
            self._half += piece
        return self._taken()

    def _missing(self) -> int:
        """How many bytes the frame being received still lacks, as far as is known."""
        if len(self._half) < _LENGTH.size:
            return _LENGTH.size - len(self._half)
        (length,) = _LENGTH.unpack_from(self._half)
        if length > self._limit_bytes:
            self._break(f"a frame of {length} bytes was announced, and {self._limit_bytes} is the limit")
        mac_bytes = _MAC_BYTES if self._key is not None else 0
        return int(_LENGTH.size + length + mac_bytes - len(self._half))

    def _taken(self) -> Frame:
        whole, self._half = bytes(self._half), bytearray()
        (length,) = _LENGTH.unpack_from(whole)
        body = whole[_LENGTH.size : _LENGTH.size + length]
        if self._key is not None:
            expected = _mac(self._key.incoming, self._received, body)
            if not hmac.compare_digest(expected, whole[_LENGTH.size + length :]):
                self._break("the MAC of a frame is wrong: it was changed on the way, or the token differs")
        self._received += 1
        try:
            message = load_json(body)
        except ValueError as error:
            self._break(f"a frame is no JSON: {error}")
        if not isinstance(message, dict):
            self._break(f"a frame holds a JSON {type(message).__name__}, not an object")
        label, content = message.get("label"), message.get("content", {})
        if not isinstance(label, str) or not isinstance(content, dict):
            self._break("a frame has no label, or its content is no object")
        return Frame(label, content)

    def _break(self, reason: str) -> NoReturn:
        self._broken = ControlBroken(f"{reason} (peer {_shown(self._peer)})")
        raise self._broken

    def _raise_if_broken(self) -> None:
        if self._broken is not None:
            raise ControlBroken(str(self._broken))


def send_bytes(sock: socket.socket, data: bytes, timeout_s: float) -> None:
    """Send all of ``data`` on any socket, blocking or not, within ``timeout_s``.

    Up to the socket's buffer it goes out in one call, hence in one segment where the path carries it.
    Raises PeerGone, ControlTimeout (an unknown part may have been sent).
    """
    until = time.monotonic() + timeout_s
    left = memoryview(data)
    try:
        while left:
            try:
                left = left[sock.send(left, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
            except (BlockingIOError, TimeoutError):
                if not _ready(sock, select.POLLOUT, until):
                    text = f"{len(left)} bytes could not be sent within {timeout_s:g} s"
                    raise ControlTimeout(text) from None
    except OSError as error:
        raise PeerGone(f"the connection was dropped while sending: {error}") from None


def receive_bytes(sock: socket.socket, limit_bytes: int, until: float, *, peek: bool = False) -> bytes:
    """What is there, at most ``limit_bytes``, waiting until the monotonic time ``until`` for the first;
    with ``peek`` it stays there.

    Returns b"" where the peer closed in order. Raises PeerGone (reset, or closed here), ControlTimeout.
    """
    try:
        piece = _receive_some(sock, limit_bytes, until, socket.MSG_PEEK if peek else 0)
    except OSError as error:
        raise PeerGone(f"the connection was dropped: {error}") from None
    if piece is None:
        raise ControlTimeout("nothing came within the deadline")
    return piece


def drain_and_close(sock: socket.socket, drain_s: float) -> None:
    """Send what is queued, tell the peer that no more comes, drop what it sends until it closes or
    ``drain_s`` is over, close. Never raises."""
    with contextlib.suppress(OSError):
        if drain_s > 0:
            sock.shutdown(socket.SHUT_WR)
            until = time.monotonic() + drain_s
            while time.monotonic() < until and _receive_some(sock, _READ_BYTES, until):
                pass
    with contextlib.suppress(OSError):
        sock.close()


def load_json(data: bytes) -> object:
    """The JSON value in ``data``. Raises ValueError, with words, for whatever is not strict UTF-8 JSON;
    that includes nesting too deep for Python, numbers too long for it, NaN and Infinity."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _receive_some(sock: socket.socket, count: int, until: float | None, flags: int = 0) -> bytes | None:
    """Up to ``count`` bytes; b"" at the end; None where nothing came by ``until`` (None: where nothing is
    here now). Raises OSError."""
    while True:
        try:
            return sock.recv(count, flags | socket.MSG_DONTWAIT)
        except (BlockingIOError, TimeoutError):
            if until is None or not _ready(sock, select.POLLIN, until):
                return None


def _ready(sock: socket.socket, event: int, until: float) -> bool:
    """Wait for ``event`` (or the end of the connection) until then; False where the time was up.

    poll, not select: a serving process easily holds descriptors above 1023.
    """
    descriptor = sock.fileno()
    if descriptor < 0:
        raise OSError("the socket is closed")
    left_s = until - time.monotonic()
    if left_s <= 0:
        return False
    poller = select.poll()
    poller.register(descriptor, event)
    return bool(poller.poll(left_s * 1000))


def _mac(key: bytes, sequence: int, body: bytes) -> bytes:
    signed = hmac.new(key, _SEQUENCE.pack(sequence) + _LENGTH.pack(len(body)), "sha256")
    signed.update(body)
    return signed.digest()[:_MAC_BYTES]


def _address(name: object) -> tuple[str, int]:
    """Host and port of what the socket calls an address (a Unix socket has none)."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else ("", 0)


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
