"""The manifest: its cuts, what it tells apart, and what it refuses to read."""

from __future__ import annotations

import json
import random
import zlib
from dataclasses import replace
from typing import Any

import pytest

from ascendctl.netloader.engine.manifest import (
    MAX_CHUNK_BYTES,
    MIB,
    ROW_BYTES,
    Entry,
    Manifest,
    ManifestError,
    bytes_of,
    differences,
    plain_stride,
)


def entry(name: str, nbytes: int, dtype: str = "uint8") -> Entry:
    return Entry(name, dtype, (nbytes,), plain_stride((nbytes,), (1,)), bytes_of(dtype, (nbytes,), (1,)))


def matrix(name: str, rows: int, columns: int, dtype: str = "bfloat16") -> Entry:
    shape, stride = (rows, columns), (columns, 1)
    return Entry(name, dtype, shape, plain_stride(shape, stride), bytes_of(dtype, shape, stride))


def model() -> Manifest:
    entries = (
        matrix("embed", 700, 1024),
        matrix("norm", 1, 1024),
        matrix("up", 512, 1024),
        entry("bias", 64),
    )
    return Manifest(entries, (("head", "embed"),), chunk_bytes=MIB)


def digested(manifest: Manifest) -> Manifest:
    return manifest.with_digests([bytes([index % 256] * 16) for index in range(len(manifest.chunks))])


def sent(manifest: Manifest) -> dict[int, list[tuple[int, int]]]:
    """The parts of each entry, in the order of the chunks."""
    parts: dict[int, list[tuple[int, int]]] = {}
    for chunk in manifest.chunks:
        for piece in chunk.pieces:
            parts.setdefault(piece.entry, []).append((piece.offset, piece.nbytes))
    return parts


# Cuts


@pytest.mark.parametrize("seed", range(20))
def test_the_chunks_hold_every_byte_of_every_tensor_once(seed: int) -> None:
    draw = random.Random(seed)
    sizes = [draw.choice((0, 1, 7, 4095, 4096, 5000, 70_000, 300_001)) for _ in range(draw.randint(0, 40))]
    manifest = Manifest(
        tuple(entry(f"t{index}", size) for index, size in enumerate(sizes)),
        chunk_bytes=draw.choice((4096, 8192, 65_536)),
        small_bytes=draw.choice((4096, 65_536, MIB)),
    )
    parts = sent(manifest)
    for index, size in enumerate(sizes):
        end = 0
        for offset, nbytes in parts.get(index, []):
            assert offset == end
            assert nbytes > 0
            end += nbytes
        assert end == size
    for index, chunk in enumerate(manifest.chunks):
        assert chunk.index == index
        assert 0 < chunk.nbytes <= manifest.chunk_bytes
        assert chunk.nbytes == sum(piece.nbytes for piece in chunk.pieces)
        if len(chunk.pieces) > 1:
            assert all(manifest.entries[p.entry].nbytes < manifest.small_bytes for p in chunk.pieces)
    assert sum(chunk.nbytes for chunk in manifest.chunks) == manifest.total_bytes == sum(sizes)


def test_small_tensors_share_a_chunk_also_across_large_ones() -> None:
    layers = [tensor for n in range(50) for tensor in (entry(f"norm{n}", 8192), entry(f"up{n}", 2 * MIB))]
    manifest = Manifest(tuple(layers))
    assert len(manifest.chunks) == 51
    (pack,) = (chunk for chunk in manifest.chunks if len(chunk.pieces) > 1)
    assert len(pack.pieces) == 50


def test_a_large_tensor_is_cut_evenly_on_rows_of_the_digest() -> None:
    manifest = Manifest((entry("w", 33 * MIB),), chunk_bytes=32 * MIB)
    assert sent(manifest)[0] == [(0, 33 * MIB // 2), (33 * MIB // 2, 33 * MIB // 2)]
    odd = Manifest((entry("w", 3 * MIB + 5),), chunk_bytes=MIB)
    assert len(odd.chunks) == 4
    assert all(offset % ROW_BYTES == 0 for offset, _ in sent(odd)[0])


def test_no_tensor_makes_no_chunk() -> None:
    assert Manifest(()).chunks == ()
    assert Manifest((entry("empty", 0),)).chunks == ()


# Over the wire


def test_what_is_encoded_is_decoded() -> None:
    for manifest in (model(), digested(model()), Manifest(()), replace(model(), layout="processed")):
        again = Manifest.decode(manifest.encode())
        assert again == manifest
        assert again.chunks == manifest.chunks


def test_the_content_id_follows_entries_cuts_and_digests() -> None:
    manifest = digested(model())
    assert len(manifest.content_id) == 32
    assert Manifest.decode(manifest.encode()).content_id == manifest.content_id
    digests = manifest.digests or ()
    others = [
        manifest.with_digests([*digests[:-1], b"\xff" * 16]),
        digested(replace(manifest, chunk_bytes=2 * MIB, digests=None)),
        digested(replace(manifest, aliases=(), digests=None)),
        digested(replace(manifest, entries=manifest.entries[:-1], digests=None)),
    ]
    ids = {other.content_id for other in (manifest, *others)}
    assert len(ids) == 5


def test_there_is_no_content_id_without_digests() -> None:
    with pytest.raises(ManifestError, match="without digests"):
        _ = model().content_id


def fields(**changed: object) -> bytes:
    content: dict[str, Any] = json.loads(zlib.decompress(digested(model()).encode()))
    content.update(changed)
    return zlib.compress(json.dumps(content).encode())


ROW = ["w", "uint8", [8], [1], 8, "ND"]


def row(position: int, value: object) -> bytes:
    return fields(entries=[[*ROW[:position], value, *ROW[position + 1 :]]], aliases=[], digests=None)


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "cut off"),
    "not zlib": (b'{"v":1}', "not compressed"),
    "cut off": (digested(model()).encode()[:-9], "cut off"),
    "bytes after its end": (digested(model()).encode() + b"x", "after its end"),
    "too long": (bytes(33 * MIB), "more than a manifest may have"),
    "a bomb": (zlib.compress(bytes(65 * MIB)), "when unpacked"),
    "not JSON": (zlib.compress(b"{"), "not JSON"),
    "not UTF-8": (zlib.compress(b"\xff\xfe\xff"), "not JSON"),
    "deep": (zlib.compress(b"[" * 200_000), "not JSON"),
    "not an object": (zlib.compress(b"[]"), "not a JSON object"),
    "another version": (fields(v=2), "version '2'"),
    "a field missing": (zlib.compress(b'{"v":1}'), "'entries' is missing"),
    "entries no list": (fields(entries={}), "not a list"),
    "an entry of 5 fields": (fields(entries=[ROW[:5]]), "5 fields"),
    "a name that is a number": (row(0, 7), "not text"),
    "no name": (row(0, ""), "1 to 1024 characters"),
    "a long name": (row(0, "n" * 1025), "1 to 1024 characters"),
    "an unknown dtype": (row(1, "float7"), "'float7' is not one"),
    "a negative size": (row(2, [-8]), "below 0"),
    "a size that is true": (row(2, [True]), "not an integer"),
    "a fraction": (row(2, [8.0]), "not an integer"),
    "more axes than strides": (row(2, [2, 4]), "2 axes and 1 strides"),
    "33 axes": (fields(entries=[["w", "uint8", [2] * 33, [1] * 33, 8, "ND"]]), "at most 32"),
    "a stride of nothing": (fields(entries=[["w", "uint8", [1], [5], 1, "ND"]]), "is not 1"),
    "bytes that do not fit": (row(4, 9), "9 bytes, but its shape and dtype make 8"),
    "a format with a line break": (row(5, "ND\nready"), "not the name of a memory format"),
    "huge": (fields(entries=[["w", "uint8", [2**50], [1], 2**50, "ND"]], aliases=[]), "pieces"),
    "a name twice": (fields(entries=[ROW, ROW], digests=None), "'w' occurs twice"),
    "an alias of nothing": (fields(aliases=[["a", "b"]]), "not an entry"),
    "an alias that is an entry": (fields(aliases=[["norm", "embed"]]), "occurs twice"),
    "an alias of 3": (fields(aliases=[["a", "b", "c"]]), "3 fields"),
    "chunks of 0 bytes": (fields(chunk_bytes=0), "chunk_bytes is 0"),
    "chunks off the rows": (fields(chunk_bytes=5000), "chunk_bytes is 5000"),
    "chunks too large": (fields(chunk_bytes=2 * MAX_CHUNK_BYTES), "chunk_bytes is"),
    "small as text": (fields(small_bytes="1"), "not an integer"),
    "an unknown layout": (fields(layout="cooked"), "'cooked'"),
    "a layout that is a list": (fields(layout=[]), "layout is"),
    "too few digests": (fields(digests=["00" * 16]), "1 digests for"),
    "a short digest": (fields(digests=["00"]), "16 bytes"),
    "a digest that is no number": (fields(digests=["zz" * 16]), "hexadecimal"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_makes_no_sense_is_refused_in_words(case: str) -> None:
    encoded, words = UNREADABLE[case]
    with pytest.raises(ManifestError, match=words):
        Manifest.decode(encoded)


@pytest.mark.parametrize("seed", range(4))
def test_garbage_is_refused_and_nothing_else_happens(seed: int) -> None:
    draw = random.Random(seed)
    text = zlib.decompress(digested(model()).encode())
    for _ in range(300):
        broken = bytearray(text)
        for _ in range(draw.randint(1, 4)):
            broken[draw.randrange(len(broken))] = draw.randrange(256)
        try:
            Manifest.decode(zlib.compress(bytes(broken)))
        except ManifestError as error:
            assert "\n" not in str(error)


# Differences


def changed(index: int, **fields_: object) -> Manifest:
    entries = list(model().entries)
    entries[index] = replace(entries[index], **fields_)  # type: ignore[arg-type]
    return replace(model(), entries=tuple(entries))


def reordered() -> Manifest:
    first, second, *rest = model().entries
    return replace(model(), entries=(second, first, *rest))


DIFFERENT: dict[str, tuple[Manifest, list[str]]] = {
    "dtype of the same size": (
        changed(2, dtype="float16"),
        ["'up': dtype bfloat16 here, float16 at the source"],
    ),
    "shape of as many elements": (
        changed(2, shape=(1024, 512), stride=(512, 1)),
        [
            "'up': shape [512, 1024] here, [1024, 512] at the source",
            "'up': stride [1024, 1] here, [512, 1] at the source",
        ],
    ),
    "transposed in memory": (
        changed(2, stride=(1, 512)),
        ["'up': stride [1024, 1] here, [1, 512] at the source"],
    ),
    "format": (
        changed(2, format="FRACTAL_NZ"),
        ["'up': format ND here, FRACTAL_NZ at the source"],
    ),
    "order": (reordered(), ["order: tensor 0 is 'embed' here, 'norm' at the source"]),
    "missing": (
        replace(model(), entries=model().entries[:-1]),
        ["'bias' is not at the source"],
    ),
    "extra": (
        replace(model(), entries=(entry("more", 8), *model().entries)),
        ["'more' is only at the source"],
    ),
    "tie": (
        replace(model(), aliases=()),
        ["'head': the same tensor as 'embed' here, a tensor of its own or absent at the source"],
    ),
    "layout": (replace(model(), layout="processed"), ["layout: raw here, processed at the source"]),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_differs_is_named(case: str) -> None:
    theirs, words = DIFFERENT[case]
    assert list(differences(model(), theirs)) == words


def test_equal_tensors_do_not_differ_whatever_their_cuts_and_digests() -> None:
    assert differences(model(), digested(model())) == ()
    assert differences(model(), replace(model(), chunk_bytes=4096, small_bytes=8192)) == ()


def test_only_the_first_differences_are_told_and_the_rest_counted() -> None:
    own = Manifest(tuple(entry(f"w{n}", 8) for n in range(100)))
    theirs = Manifest(tuple(entry(f"w{n}", 8, "int8") for n in range(100)))
    told = differences(own, theirs)
    assert len(told) == 7
    assert told[-1] == "and 94 more differences"


def test_a_name_of_the_source_cannot_break_a_line() -> None:
    theirs = Manifest((entry("w\n[ascendctl netloader] ready\u2028", 8),))
    assert all(told.isprintable() and told.isascii() for told in differences(Manifest(()), theirs))


def test_an_expanded_tensor_counts_each_element_once() -> None:
    assert bytes_of("float32", (4, 8), (0, 1)) == 32
    assert plain_stride((1, 8), (99, 1)) == (1, 1)
    assert plain_stride((0, 8), (8, 1)) == (1, 1)
