"""What is sent: the tensors of one rank in their order, how their bytes are cut into chunks, their digests.

Both sides derive the same chunks from the same manifest, so only entries and digests travel. The joiner
compares the entries with its own tensors before a byte of weights moves, and each chunk's digest after.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Literal, NoReturn, get_args

MIB = 1024 * 1024
# Chunks and the cuts of large tensors are multiples of this: a row of the digest.
ROW_BYTES = 4096
MAX_CHUNK_BYTES = 128 * MIB
DEFAULT_CHUNK_BYTES = 32 * MIB
# Tensors from this size on are sent from where they lie; smaller ones are packed together.
SMALL_BYTES = MIB
# A pack is closed here even where chunks may be larger: while one is sent the next is packed and the last
# unpacked, and for thousands of small tensors that work is most of it.
PACK_BYTES = 8 * MIB
DIGEST_BYTES = 16
# The memory format of a tensor whose bytes are its elements in the order of its strides.
PLAIN_FORMAT = "ND"

Layout = Literal["raw", "processed"]
_LAYOUTS: tuple[Layout, ...] = get_args(Layout)

# Bytes per element. A name that is missing here is refused on both sides.
ITEM_BYTES = {
    **dict.fromkeys(("bool", "int8", "uint8", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2"), 1),
    **dict.fromkeys(("float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2"), 1),
    **dict.fromkeys(("bfloat16", "float16", "int16", "uint16"), 2),
    **dict.fromkeys(("float32", "int32", "uint32", "complex32"), 4),
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
    "complex128": 16,
}

_VERSION = 1
_MAX_ENCODED_BYTES = 32 * MIB
_MAX_JSON_BYTES = 64 * MIB
_MAX_ENTRIES = 200_000
_MAX_PIECES = 2**20
_MAX_NAME_CHARACTERS = 1024
_MAX_AXES = 32
_MAX_SIZE = 2**62
_DIFFERENCES_TOLD = 6
_FORMAT = re.compile(r"[A-Za-z0-9_]{1,64}")


class ManifestError(ValueError):
    """A manifest that cannot be read or makes no sense; the words say what is wrong."""


@dataclass(frozen=True)
class Entry:
    """One tensor. ``dtype`` as in ``torch.<dtype>``; ``shape`` and ``stride`` in elements.

    ``stride`` is written as :func:`plain_stride` gives it. ``nbytes`` counts each element once: of an axis
    of stride 0 (an expanded tensor) one element is sent.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    nbytes: int
    format: str = PLAIN_FORMAT


@dataclass(frozen=True)
class Piece:
    """Bytes of one tensor: ``entry`` is its index in the manifest, ``offset`` counts its bytes as sent."""

    entry: int
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Chunk:
    """What is sent, received and digested at once: the bytes of its pieces, one after the other."""

    index: int
    nbytes: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Manifest:
    """The tensors of one rank. ``aliases``: pairs (further name, name of the entry with the same bytes).

    ``layout``: "raw" as before vLLM's post-processing, "processed" as after it. ``digests``: one of 16 bytes
    per chunk, or None while the bytes have not been read.
    Raises :class:`ManifestError` where the parts do not fit together.
    """

    entries: tuple[Entry, ...]
    aliases: tuple[tuple[str, str], ...] = ()
    chunk_bytes: int = DEFAULT_CHUNK_BYTES
    layout: Layout = "raw"
    digests: tuple[bytes, ...] | None = None
    small_bytes: int = SMALL_BYTES

    def __post_init__(self) -> None:
        _check(self)

    @cached_property
    def chunks(self) -> tuple[Chunk, ...]:
        """All bytes of all entries, each once.

        A tensor of at least ``small_bytes`` is cut into pieces of about equal size, each a chunk of its own,
        so that it can be sent from where it lies. The smaller ones are packed together in their order, also
        across larger ones between them: a chunk costs much more than a copy of a few KiB.
        """
        return tuple(
            Chunk(index, sum(piece.nbytes for piece in pieces), pieces)
            for index, pieces in enumerate(_cut(self))
        )

    @property
    def total_bytes(self) -> int:
        return sum(entry.nbytes for entry in self.entries)

    def with_digests(self, digests: Sequence[bytes]) -> Manifest:
        """The same with ``digests``, one per chunk; raises :class:`ManifestError` if the number differs."""
        return replace(self, digests=tuple(digests))

    @cached_property
    def content_id(self) -> str:
        """32 hex characters, equal only where entries, cuts and digests are.

        Raises :class:`ManifestError` for a manifest without digests: it says nothing of the content.
        """
        if self.digests is None:
            raise ManifestError("a manifest without digests has no content id")
        return hashlib.blake2b(_json(self), digest_size=16).hexdigest()

    def encode(self) -> bytes:
        """JSON, compressed by zlib (nothing else need compress it again): what :meth:`decode` reads."""
        return zlib.compress(_json(self), 1)

    @staticmethod
    def decode(encoded: bytes) -> Manifest:
        """The manifest that :meth:`encode` wrote; raises :class:`ManifestError` for anything else."""
        return _read(_inflated(encoded))


def plain_stride(shape: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    """``stride`` with 1 wherever it addresses nothing: axes of length one, tensors without an element.

    torch leaves such strides as they came about, so they may differ between two equal models.
    """
    if 0 in shape:
        return (1,) * len(shape)
    return tuple(1 if size == 1 else step for size, step in zip(shape, stride, strict=True))


def distinct_shape(shape: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    """The shape of the elements that lie in memory: 1 along axes of stride 0."""
    return tuple(min(size, 1) if step == 0 else size for size, step in zip(shape, stride, strict=True))


def bytes_of(dtype: str, shape: Sequence[int], stride: Sequence[int]) -> int:
    """The bytes of a tensor as they are sent; raises :class:`ManifestError` for a dtype that is not known."""
    if dtype not in ITEM_BYTES:
        raise ManifestError(f"dtype {_shown(dtype)} is not one that can be sent ({', '.join(ITEM_BYTES)})")
    return ITEM_BYTES[dtype] * prod(distinct_shape(shape, stride))


def differences(own: Manifest, theirs: Manifest) -> tuple[str, ...]:
    """In words, the first few ways in which the source's tensors are not those of the joiner (``own``).

    Empty where they are the same. Digests and cuts are not compared: the source's are used.
    """
    if (own.entries, own.aliases, own.layout) == (theirs.entries, theirs.aliases, theirs.layout):
        return ()
    found = tuple(_differences(own, theirs))
    if len(found) <= _DIFFERENCES_TOLD:
        return found
    return (*found[:_DIFFERENCES_TOLD], f"and {len(found) - _DIFFERENCES_TOLD} more differences")


def _differences(own: Manifest, theirs: Manifest) -> Iterator[str]:
    if own.layout != theirs.layout:
        yield f"layout: {own.layout} here, {theirs.layout} at the source"
    mine = {entry.name: entry for entry in own.entries}
    other = {entry.name: entry for entry in theirs.entries}
    yield from (f"{_shown(name)} is not at the source" for name in mine if name not in other)
    yield from (f"{_shown(name)} is only at the source" for name in other if name not in mine)
    for name, entry in mine.items():
        if name in other:
            yield from _entry_differences(entry, other[name])
    yield from _order_differences(list(mine), list(other))
    yield from _alias_differences(dict(own.aliases), dict(theirs.aliases))


def _entry_differences(own: Entry, theirs: Entry) -> Iterator[str]:
    for field in ("dtype", "shape", "stride", "format"):
        here, there = getattr(own, field), getattr(theirs, field)
        if here != there:
            yield f"{_shown(own.name)}: {field} {_value(here)} here, {_value(there)} at the source"


def _order_differences(own: list[str], theirs: list[str]) -> Iterator[str]:
    shared = set(own) & set(theirs)
    pairs = zip((n for n in own if n in shared), (n for n in theirs if n in shared), strict=True)
    for position, (here, there) in enumerate(pairs):
        if here != there:
            yield f"order: tensor {position} is {_shown(here)} here, {_shown(there)} at the source"
            return


def _alias_differences(own: dict[str, str], theirs: dict[str, str]) -> Iterator[str]:
    for name in {**own, **theirs}:
        here, there = own.get(name), theirs.get(name)
        if here != there:
            yield f"{_shown(name)}: {_tie(here)} here, {_tie(there)} at the source"


def _tie(target: str | None) -> str:
    return "a tensor of its own or absent" if target is None else f"the same tensor as {_shown(target)}"


def _value(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _shown(text: str) -> str:
    """Text of a peer, in a form that cannot break a line of a log."""
    return ascii(text if len(text) <= 200 else text[:200] + "…")


def _cut(manifest: Manifest) -> Iterator[tuple[Piece, ...]]:
    limit = manifest.chunk_bytes
    room = min(PACK_BYTES, limit)
    # A tensor below it always has room in a pack.
    small = min(manifest.small_bytes, room)
    pack: list[Piece] = []
    packed = 0
    for index, entry in enumerate(manifest.entries):
        if entry.nbytes == 0:
            continue
        if entry.nbytes >= small:
            yield from ((piece,) for piece in _pieces(index, entry.nbytes, limit))
            continue
        if packed + entry.nbytes > room:
            yield tuple(pack)
            pack, packed = [], 0
        pack.append(Piece(index, 0, entry.nbytes))
        packed += entry.nbytes
    if pack:
        yield tuple(pack)


def _pieces(index: int, nbytes: int, limit: int) -> Iterator[Piece]:
    """Even pieces rather than full ones and a rest: a short last chunk costs as much as a long one."""
    count = -(-nbytes // limit)
    size = -(-nbytes // (count * ROW_BYTES)) * ROW_BYTES
    for offset in range(0, nbytes, size):
        yield Piece(index, offset, min(size, nbytes - offset))


def _check(manifest: Manifest) -> None:
    for name, value in (("chunk_bytes", manifest.chunk_bytes), ("small_bytes", manifest.small_bytes)):
        if value % ROW_BYTES or not ROW_BYTES <= value <= MAX_CHUNK_BYTES:
            raise ManifestError(
                f"{name} is {value}, not a multiple of {ROW_BYTES} from {ROW_BYTES} to {MAX_CHUNK_BYTES}"
            )
    if manifest.layout not in _LAYOUTS:
        raise ManifestError(f"layout is {_shown(str(manifest.layout))}, not {' or '.join(_LAYOUTS)}")
    if len(manifest.entries) > _MAX_ENTRIES:
        raise ManifestError(f"{len(manifest.entries)} tensors: more than {_MAX_ENTRIES}")
    for entry in manifest.entries:
        _check_entry(entry)
    _check_names(manifest)
    # Counted before they are derived: a manifest that came over the wire may ask for any number.
    if sum(-(-entry.nbytes // manifest.chunk_bytes) for entry in manifest.entries) > _MAX_PIECES:
        raise ManifestError(
            f"{manifest.total_bytes} bytes in chunks of {manifest.chunk_bytes}: over {_MAX_PIECES} pieces"
        )
    if manifest.digests is None:
        return
    if any(len(digest) != DIGEST_BYTES for digest in manifest.digests):
        raise ManifestError(f"a digest is not of {DIGEST_BYTES} bytes")
    if len(manifest.digests) != len(manifest.chunks):
        raise ManifestError(f"{len(manifest.digests)} digests for {len(manifest.chunks)} chunks")


def _check_entry(entry: Entry) -> None:
    shown = _shown(entry.name)
    if not 0 < len(entry.name) <= _MAX_NAME_CHARACTERS:
        raise ManifestError(f"tensor {shown}: a name has 1 to {_MAX_NAME_CHARACTERS} characters")
    if len(entry.shape) != len(entry.stride) or len(entry.shape) > _MAX_AXES:
        raise ManifestError(
            f"tensor {shown}: {len(entry.shape)} axes and {len(entry.stride)} strides "
            f"(as many strides as axes, at most {_MAX_AXES})"
        )
    if any(not 0 <= number < _MAX_SIZE for number in (*entry.shape, *entry.stride)):
        raise ManifestError(f"tensor {shown}: a size or stride is below 0 or too large")
    if entry.stride != plain_stride(entry.shape, entry.stride):
        raise ManifestError(f"tensor {shown}: the stride of an axis that addresses nothing is not 1")
    if not _FORMAT.fullmatch(entry.format):
        raise ManifestError(f"tensor {shown}: {_shown(entry.format)} is not the name of a memory format")
    nbytes = bytes_of(entry.dtype, entry.shape, entry.stride)
    if entry.nbytes != nbytes or nbytes >= _MAX_SIZE:
        raise ManifestError(f"tensor {shown}: {entry.nbytes} bytes, but its shape and dtype make {nbytes}")


def _check_names(manifest: Manifest) -> None:
    entries = {entry.name for entry in manifest.entries}
    seen: set[str] = set()
    for name in (*(entry.name for entry in manifest.entries), *(alias for alias, _ in manifest.aliases)):
        if name in seen:
            raise ManifestError(f"the name {_shown(name)} occurs twice")
        seen.add(name)
    for alias, target in manifest.aliases:
        if target not in entries:
            raise ManifestError(f"{_shown(alias)} is tied to {_shown(target)}, which is not an entry")


def _json(manifest: Manifest) -> bytes:
    content = {
        "v": _VERSION,
        "layout": manifest.layout,
        "chunk_bytes": manifest.chunk_bytes,
        "small_bytes": manifest.small_bytes,
        "entries": [[e.name, e.dtype, e.shape, e.stride, e.nbytes, e.format] for e in manifest.entries],
        "aliases": manifest.aliases,
        "digests": None if manifest.digests is None else [digest.hex() for digest in manifest.digests],
    }
    return json.dumps(content, separators=(",", ":")).encode()


def _inflated(encoded: bytes) -> bytes:
    if len(encoded) > _MAX_ENCODED_BYTES:
        raise ManifestError(f"{len(encoded)} bytes: more than a manifest may have ({_MAX_ENCODED_BYTES})")
    inflating = zlib.decompressobj()
    try:
        text = inflating.decompress(encoded, _MAX_JSON_BYTES)
    except zlib.error as error:
        raise ManifestError(f"not compressed by zlib: {error}") from error
    if inflating.unconsumed_tail:
        raise ManifestError(f"more than {_MAX_JSON_BYTES} bytes when unpacked")
    if not inflating.eof or inflating.unused_data:
        raise ManifestError("cut off, or with bytes after its end")
    return text


def _read(text: bytes) -> Manifest:
    try:
        content = json.loads(text)
    # RecursionError: deep nesting, which the size alone does not forbid.
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ManifestError("not a JSON object")
    if content.get("v") != _VERSION:
        raise ManifestError(f"version {_shown(str(content.get('v')))}: this side reads {_VERSION}")
    try:
        return Manifest(
            entries=tuple(_entry(row) for row in _list(content["entries"])),
            aliases=tuple(_pair(row) for row in _list(content["aliases"])),
            chunk_bytes=_integer(content["chunk_bytes"]),
            layout=_layout(content["layout"]),
            digests=None if content["digests"] is None else tuple(map(_digest, _list(content["digests"]))),
            small_bytes=_integer(content["small_bytes"]),
        )
    except KeyError as error:
        raise ManifestError(f"the field {error} is missing") from error


def _entry(row: object) -> Entry:
    fields = _list(row)
    if len(fields) != 6:
        raise ManifestError(f"a tensor of {len(fields)} fields instead of 6")
    name, dtype, shape, stride, nbytes, memory_format = fields
    return Entry(
        name=_text(name),
        dtype=_text(dtype),
        shape=_integers(shape),
        stride=_integers(stride),
        nbytes=_integer(nbytes),
        format=_text(memory_format),
    )


def _pair(row: object) -> tuple[str, str]:
    fields = _list(row)
    if len(fields) != 2:
        raise ManifestError(f"a tie of {len(fields)} fields instead of 2")
    return _text(fields[0]), _text(fields[1])


def _layout(value: object) -> Layout:
    for layout in _LAYOUTS:
        if value == layout:
            return layout
    raise ManifestError(f"layout is {_shown(str(value))}, not {' or '.join(_LAYOUTS)}")


def _digest(value: object) -> bytes:
    try:
        return bytes.fromhex(_text(value))
    except ValueError as error:
        raise ManifestError("a digest is not in hexadecimal digits") from error


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else _not("a list")


def _integers(value: object) -> tuple[int, ...]:
    return tuple(_integer(number) for number in _list(value))


def _integer(value: object) -> int:
    # A bool is an int to Python, and never one here.
    return value if isinstance(value, int) and not isinstance(value, bool) else _not("an integer")


def _text(value: object) -> str:
    return value if isinstance(value, str) else _not("text")


def _not(expected: str) -> NoReturn:
    raise ManifestError(f"a field is not {expected}")
