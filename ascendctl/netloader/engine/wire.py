"""JOIN, JOIN_ACK and JOIN_NACK as vllm-ascend's Netloader puts them on the wire, and what is added to them.

The formats are those of vllm-ascend's ``ElasticClient`` and ``ElasticServer``, by generation:

- G1 (v0.13.0 to v0.20.2rc1): device_id, model_path, tp, pp, port; raw layout; the group is "netloader".
- G2 (v0.21.0rc1 to v0.25.1rc1): and group_name.
- G3 (after v0.25.1rc1): and int8_cache; with "no" the processed layout, and transfer_shapes in the JOIN_ACK.

A JOIN is one JSON object without any framing, which those servers read with a single ``recv(1024)``: it has
to fit 1024 bytes and to leave in one segment. They ignore keys that they do not know, on both sides, and
there rides the extension, under the key "ascendctl".

Without an extension what is written here is byte for byte what they write.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from ascendctl.netloader.engine.control import (
    ControlTimeout,
    PeerGone,
    drain_and_close,
    load_json,
    receive_bytes,
    send_bytes,
)
from ascendctl.netloader.engine.options import TARGET_GROUP

JOIN_LIMIT_BYTES = 1024
ANSWER_LIMIT_BYTES = 64 * 1024 * 1024  # what vllm-ascend's client takes in
EXTENSION_VERSION = 1
NONCE_BYTES = 16
INT8_CACHE_MODES = ("no", "hbm", "dram")

_EXTENSION_KEY = "ascendctl"
_REQUIRED_KEYS = ("device_id", "model_path", "tp", "pp", "port")
# It becomes part of the keys of a store; vllm-ascend sends its two constants only.
_GROUP_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_HEX = re.compile(r"[0-9a-f]{1,128}")
_LINK = re.compile(r"[a-z0-9_-]{1,32}")
_OFFER = re.compile(r"[a-z0-9_-]{1,32}(:[0-9a-f]{1,32})?")  # a GPU's id where that matters: links.choose
_MOST_LINKS = 16
_MOST_REDIRECTS = 64
_DEEPEST = 64
_LARGEST_COUNT = 2**31 - 1
_READ_BYTES = 64 * 1024


class JoinError(Exception):
    """What came is no JOIN: ``str()`` says what is wrong with it."""


class JoinTooLong(Exception):
    """The JOIN does not fit the 1024 bytes that a source reads; ``str()`` says what to shorten."""


class AnswerError(Exception):
    """What came in answer to a JOIN is neither JOIN_ACK nor JOIN_NACK."""


class TokenWanted(AnswerError):
    """The source asks for a token before it answers, and this side has none."""


@dataclass(frozen=True)
class Extension:
    """What a JOIN of ascendctl's own engine says on top; old peers ignore it.

    ``identity`` is :attr:`.identity.Identity.digest`; ``links`` the transports on offer, best first;
    ``nonce`` 16 random bytes; ``first_chunk`` where a resumed transfer begins; ``content`` the id of the
    content it holds a part of; ``relay`` the port of the joiner's own listener, when it passes on what it
    receives; ``lost`` the "host:port" of a parent that died.
    """

    identity: str
    links: tuple[str, ...]
    nonce: bytes
    first_chunk: int | None = None
    content: str | None = None
    relay: int | None = None
    lost: str | None = None


@dataclass(frozen=True)
class JoinRequest:
    """A JOIN. ``port`` is that of the TCPStore which the joiner hosts, on the address it comes from."""

    device_id: int
    model_path: str
    tp: int
    pp: int
    port: int
    group_name: str | None = None
    int8_cache: str | None = None
    extension: Extension | None = None

    @property
    def generation(self) -> str:
        """The oldest generation of the protocol that writes such a JOIN: "G1", "G2" or "G3"."""
        if self.int8_cache is not None:
            return "G3"
        return "G1" if self.group_name is None else "G2"

    @property
    def group(self) -> str:
        """The group that ends the prefix of the store (G1 knows one only)."""
        return TARGET_GROUP if self.group_name is None else self.group_name


@dataclass(frozen=True)
class AckExtension:
    """What a source of ascendctl's own engine adds to its JOIN_ACK: the transport it chose, or, instead,
    "host:port" of the peers to ask, nearest first."""

    link: str | None
    redirect: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ack:
    """JOIN_ACK. ``name`` is "host:port" of the joiner as the source sees it: its host is the address at
    which both find the store. ``transfer_shapes`` is None where the source sends the raw layout."""

    name: str
    transfer_shapes: Mapping[str, tuple[int, ...]] | None = None
    extension: AckExtension | None = None


@dataclass(frozen=True)
class Nack:
    """JOIN_NACK: the source refuses, in its own words."""

    reason: str


@dataclass(frozen=True)
class Served:
    """What a source answers a JOIN for: the fields that vllm-ascend compares."""

    device_id: int
    model_path: str
    tp: int
    pp: int
    int8_cache: str


def why_not(request: JoinRequest, served: Served) -> str | None:
    """The reason to refuse ``request`` by the rules of vllm-ascend's server, None where there is none.

    The first reason is in vllm-ascend's words (recorded). For int8_cache, which is compared only where the
    joiner names it, no text of vllm-ascend is on record: the words are ours.
    """
    received = (request.device_id, request.model_path, request.tp, request.pp)
    own = (served.device_id, served.model_path, served.tp, served.pp)
    if received != own:
        return f"Received data {received} does not consist with this server {own}"
    if request.int8_cache is not None and request.int8_cache != served.int8_cache:
        return (
            f"Received int8_cache {request.int8_cache!r} does not consist with this server"
            f" {served.int8_cache!r}: INT8_CACHE must be the same on both sides"
        )
    return None


def encode_join(request: JoinRequest) -> bytes:
    """The bytes of a JOIN, at most 1024. Raises JoinTooLong.

    With an extension it is written without spaces: a model path of 600 bytes leaves room for all of it.
    """
    content: dict[str, object] = {
        "device_id": request.device_id,
        "model_path": request.model_path,
        "tp": request.tp,
        "pp": request.pp,
        "port": request.port,
    }
    if request.group_name is not None:
        content["group_name"] = request.group_name
    if request.int8_cache is not None:
        content["int8_cache"] = request.int8_cache
    if request.extension is not None:
        content[_EXTENSION_KEY] = _extension_fields(request.extension)
    separators = None if request.extension is None else (",", ":")
    data = json.dumps({"label": "JOIN", "content": content}, separators=separators).encode("ascii")
    if len(data) > JOIN_LIMIT_BYTES:
        path_bytes = len(json.dumps(request.model_path)) - 2
        raise JoinTooLong(
            f"the JOIN has {len(data)} bytes and a source reads {JOIN_LIMIT_BYTES}: shorten the model path"
            f" (--model) by {len(data) - JOIN_LIMIT_BYTES} bytes or more; it takes {path_bytes}, where each"
            " character outside ASCII takes 6 or 12"
        )
    return data


def decode_join(data: bytes) -> JoinRequest:
    """The JOIN in ``data``. Raises JoinError for anything else, never another error."""
    if len(data) > JOIN_LIMIT_BYTES:
        raise JoinError(f"it has {len(data)} bytes, and a JOIN at most {JOIN_LIMIT_BYTES}")
    content = _labelled(data, ("JOIN",), JoinError)[1]
    if not isinstance(content, dict):
        raise JoinError(f"its content is a {_kind(content)}, not an object")
    missing = [key for key in _REQUIRED_KEYS if key not in content]
    if missing:
        raise JoinError(f"it lacks {', '.join(missing)}")
    model_path = content["model_path"]
    if not isinstance(model_path, str):
        raise JoinError(f"model_path is a {_kind(model_path)}, not a string")
    group_name = content.get("group_name")
    if group_name is not None and not (isinstance(group_name, str) and _GROUP_NAME.fullmatch(group_name)):
        raise JoinError(f"group_name {_shown(group_name)} is no name of a group")
    int8_cache = content.get("int8_cache")
    if int8_cache is not None and int8_cache not in INT8_CACHE_MODES:
        raise JoinError(f"int8_cache {_shown(int8_cache)} is none of {', '.join(INT8_CACHE_MODES)}")
    return JoinRequest(
        device_id=_count(content, "device_id", 0, _LARGEST_COUNT),
        model_path=model_path,
        tp=_count(content, "tp", 1, _LARGEST_COUNT),
        pp=_count(content, "pp", 1, _LARGEST_COUNT),
        port=_count(content, "port", 1, 65535),
        group_name=group_name,
        int8_cache=int8_cache,
        extension=_extension(content[_EXTENSION_KEY]) if _EXTENSION_KEY in content else None,
    )


def encode_ack(ack: Ack) -> bytes:
    """The bytes of a JOIN_ACK."""
    content: dict[str, object] = {"name": ack.name}
    if ack.transfer_shapes is not None:
        content["transfer_shapes"] = {name: list(shape) for name, shape in ack.transfer_shapes.items()}
    if ack.extension is not None:
        fields: dict[str, object] = {"v": EXTENSION_VERSION}
        if ack.extension.link is not None:
            fields["link"] = ack.extension.link
        if ack.extension.redirect:
            fields["redirect"] = list(ack.extension.redirect)
        content[_EXTENSION_KEY] = fields
    return json.dumps({"label": "JOIN_ACK", "content": content}).encode("ascii")


def encode_nack(reason: str) -> bytes:
    """The bytes of a JOIN_NACK."""
    return json.dumps({"label": "JOIN_NACK", "content": reason}).encode("ascii")


def decode_answer(data: bytes) -> Ack | Nack:
    """The answer to a JOIN. Raises AnswerError for anything else, never another error."""
    label, content = _labelled(data, ("JOIN_ACK", "JOIN_NACK"), AnswerError)
    if label == "JOIN_NACK":
        return Nack(content if isinstance(content, str) else _shown(content))
    if not isinstance(content, dict):
        raise AnswerError(f"the content of the JOIN_ACK is a {_kind(content)}, not an object")
    name = content.get("name")
    if not isinstance(name, str):
        raise AnswerError("the JOIN_ACK has no name")
    return Ack(name, _shapes(content.get("transfer_shapes")), _ack_extension(content.get(_EXTENSION_KEY)))


def read_join(sock: socket.socket, deadline_s: float) -> bytes:
    """The bytes of one JOIN, for :func:`decode_join`: at most 1024, in however many segments, within
    ``deadline_s`` from now. Whatever cannot be one is refused at its first wrong byte, not at the deadline.

    Raises JoinError, PeerGone (closed or reset before that), ControlTimeout.
    """
    return _read_object(sock, JOIN_LIMIT_BYTES, deadline_s, "JOIN", JoinError)


def read_answer(sock: socket.socket, deadline_s: float) -> Ack | Nack:
    """The answer to a JOIN: at most 64 MiB, within ``deadline_s`` from now.

    Nothing may follow it before the joiner speaks, and nothing does: the joiner's frame is the next one.
    Raises AnswerError (TokenWanted where the source begins with a challenge), PeerGone, ControlTimeout.
    """
    return decode_answer(_read_object(sock, ANSWER_LIMIT_BYTES, deadline_s, "answer", AnswerError))


def refuse(sock: socket.socket, reason: str, drain_s: float = 1.0) -> None:
    """Answer JOIN_NACK and close, so that the reason arrives: a plain close over unread bytes (a JOIN that
    is too long) resets the connection and takes the answer with it. Never raises; takes up to ``drain_s``
    twice where the peer neither reads nor closes."""
    try:
        send_bytes(sock, encode_nack(reason), drain_s)
    except (PeerGone, ControlTimeout):
        drain_s = 0.0
    drain_and_close(sock, drain_s)


def _extension_fields(extension: Extension) -> dict[str, object]:
    fields: dict[str, object] = {
        "v": EXTENSION_VERSION,
        "id": extension.identity,
        "links": list(extension.links),
        "n": extension.nonce.hex(),
        "from": extension.first_chunk,
        "content": extension.content,
        "relay": extension.relay,
        "lost": extension.lost,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _extension(fields: object) -> Extension:
    """A malformed extension is an error: taking the JOIN for an old peer's would drop every guarantee."""
    if not isinstance(fields, dict):
        raise JoinError(f"its extension is a {_kind(fields)}, not an object")
    _check_version(fields, JoinError)
    identity, nonce, content, lost = (fields.get(key) for key in ("id", "n", "content", "lost"))
    links = _names(fields.get("links"), _OFFER, _MOST_LINKS)
    if not isinstance(identity, str) or not _HEX.fullmatch(identity):
        raise JoinError("its extension has no identity digest (id)")
    if not isinstance(nonce, str) or not _HEX.fullmatch(nonce) or len(nonce) != 2 * NONCE_BYTES:
        raise JoinError(f"its extension has no nonce (n) of {NONCE_BYTES} bytes")
    if not links:
        raise JoinError("its extension offers no link")
    if content is not None and not (isinstance(content, str) and _HEX.fullmatch(content)):
        raise JoinError("the content id in its extension is no digest")
    if lost is not None and not _is_address(lost):
        raise JoinError(f"the lost parent in its extension, {_shown(lost)}, is no host:port")
    return Extension(
        identity=identity,
        links=links,
        nonce=bytes.fromhex(nonce),
        first_chunk=_count(fields, "from", 0, _LARGEST_COUNT) if "from" in fields else None,
        content=content,
        relay=_count(fields, "relay", 1, 65535) if "relay" in fields else None,
        lost=lost,
    )


def _ack_extension(fields: object) -> AckExtension | None:
    if fields is None:
        return None
    if not isinstance(fields, dict):
        raise AnswerError(f"the extension of the JOIN_ACK is a {_kind(fields)}, not an object")
    _check_version(fields, AnswerError)
    link, redirect = fields.get("link"), fields.get("redirect", [])
    if link is not None and not (isinstance(link, str) and _LINK.fullmatch(link)):
        raise AnswerError(f"the link in the JOIN_ACK, {_shown(link)}, is no kind of link")
    if not isinstance(redirect, list) or not all(map(_is_address, redirect)):
        raise AnswerError("the JOIN_ACK redirects to what is no host:port")
    if len(redirect) > _MOST_REDIRECTS:
        raise AnswerError(
            f"the JOIN_ACK redirects to {len(redirect)} peers, and {_MOST_REDIRECTS} is the most"
        )
    if link is None and not redirect:
        raise AnswerError("the extension of the JOIN_ACK names neither a link nor another peer")
    return AckExtension(link, tuple(redirect))


def _check_version(fields: Mapping[str, object], error: type[Exception]) -> None:
    version = fields.get("v")
    if version != EXTENSION_VERSION or isinstance(version, bool):
        raise error(
            f"the peer speaks version {_shown(version)} of the extension, this side {EXTENSION_VERSION}:"
            " run the same release of ascendctl on both"
        )


def _shapes(shapes: object) -> Mapping[str, tuple[int, ...]] | None:
    if shapes is None:
        return None
    if not isinstance(shapes, dict):
        raise AnswerError(f"transfer_shapes is a {_kind(shapes)}, not an object")
    for name, shape in shapes.items():
        if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
            raise AnswerError(f"transfer_shapes of {_shown(name)} is {_shown(shape)}, not a list of sizes")
    return {name: tuple(shape) for name, shape in shapes.items()}


def _labelled(data: bytes, labels: tuple[str, ...], error: type[Exception]) -> tuple[str, object]:
    try:
        message = load_json(data)
    except ValueError as problem:
        raise error(f"it is no JSON: {problem}") from None
    if not isinstance(message, dict):
        raise error(f"it is a JSON {_kind(message)}, not an object")
    label = message.get("label")
    if not isinstance(label, str) or label not in labels:
        raise error(f"its label is {_shown(label)}, not {' or '.join(labels)}")
    return label, message.get("content")


def _count(fields: Mapping[str, object], key: str, least: int, most: int) -> int:
    value = fields[key]
    if type(value) is not int or not least <= value <= most:
        raise JoinError(f"{key} is {_shown(value)}, not a whole number from {least} to {most}")
    return value


def _names(values: object, pattern: re.Pattern[str], most: int) -> tuple[str, ...]:
    """The strings of a list, () where it is no list of up to ``most`` strings of that pattern."""
    if not isinstance(values, list) or len(values) > most:
        return ()
    if not all(isinstance(value, str) and pattern.fullmatch(value) for value in values):
        return ()
    return tuple(values)


def _is_address(text: object) -> bool:
    """Whether it is "host:port" or "[v6]:port". (Reading it is for :class:`.options.Address`.)"""
    if not isinstance(text, str) or len(text) > 300:
        return False
    host, _, port = text.rpartition(":")
    return bool(host) and host.isprintable() and re.fullmatch(r"[0-9]{1,5}", port) is not None


def _shown(value: object) -> str:
    """Whatever a peer sent, short and on one line (lists and objects may nest deeper than repr can go)."""
    if isinstance(value, (dict, list)):
        return f"a {_kind(value)}"
    text = repr(value[:80] if isinstance(value, (str, bytes)) else value)
    return text if len(text) <= 80 else text[:77] + "..."


def _kind(value: object) -> str:
    return {dict: "object", list: "list", str: "string", bool: "truth value", type(None): "null"}.get(
        type(value), "number"
    )


def _read_object(
    sock: socket.socket, limit_bytes: int, deadline_s: float, what: str, error: type[Exception]
) -> bytes:
    until = time.monotonic() + deadline_s
    data, brackets = bytearray(), _Brackets()
    while not brackets.closed:
        if len(data) >= limit_bytes:
            raise error(f"it is not complete after {limit_bytes} bytes, the most that the {what} may have")
        if data and time.monotonic() >= until:
            raise ControlTimeout(f"only part of the {what} came within {deadline_s:g} s")
        try:
            piece = receive_bytes(sock, min(_READ_BYTES, limit_bytes - len(data)), until)
        except ControlTimeout:
            came = f"only {len(data)} bytes of the {what} came" if data else f"no {what} came"
            raise ControlTimeout(f"{came} within {deadline_s:g} s") from None
        if not piece:
            raise PeerGone(f"the peer closed the connection after {len(data)} bytes of the {what}")
        if not data and piece[0] != ord("{"):
            _raise_for_first_byte(piece, error)
        data += piece
        if not brackets.take(piece):
            raise error(f"it is nested deeper than {_DEEPEST}")
    return bytes(data)


def _raise_for_first_byte(piece: bytes, error: type[Exception]) -> NoReturn:
    # A frame begins with a length below 2^27, hence with one of these bytes; a JSON object never does.
    if error is AnswerError and piece[0] <= ANSWER_LIMIT_BYTES >> 24:
        raise TokenWanted("the source asks for a token: set TOKEN or TOKEN_FILE to what it has")
    raise error(f"it begins with {_shown(piece[:16])}, not with a JSON object")


class _Brackets:
    """Where a JSON object ends, told from its brackets and quotes alone; each byte is looked at once, so
    that an answer in many segments costs no more than one in a single one."""

    _OUTSIDE = re.compile(rb'["{}\[\]]')
    _INSIDE = re.compile(rb'["\\]')

    def __init__(self) -> None:
        self.closed = False
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def take(self, piece: bytes) -> bool:
        """Go on with the next bytes. False where they nest deeper than any message does."""
        place = 0
        while place < len(piece) and not self.closed:
            if self._escaped:
                self._escaped, place = False, place + 1
                continue
            found = (self._INSIDE if self._in_string else self._OUTSIDE).search(piece, place)
            if found is None:
                return True
            place = found.end()
            self._see(found.group())
            if self._depth > _DEEPEST:
                return False
        return True

    def _see(self, mark: bytes) -> None:
        if mark == b"\\":
            self._escaped = True
        elif mark == b'"':
            self._in_string = not self._in_string
        elif mark in b"{[":
            self._depth += 1
        else:
            self._depth -= 1
            self.closed = self._depth <= 0
