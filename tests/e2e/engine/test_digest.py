"""The digest: the same on every device, of every length, and different after any error.

All data is drawn with fixed seeds, and the digest's own numbers are fixed: nothing here is left to chance.
"""

from __future__ import annotations

import contextlib
import ctypes
import random
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from ascendctl.netloader.engine import digest as digest_module
from ascendctl.netloader.engine import digest_cuda
from ascendctl.netloader.engine.digest import Digester, _finish, _weights, digest, elementwise_digest

ROW = 4096
GROUP = 512 * ROW

Digest = Callable[[torch.Tensor], bytes]
both_ways = pytest.mark.parametrize("taken", [digest, elementwise_digest])


def data(nbytes: int, seed: int = 1) -> torch.Tensor:
    drawn = bytearray(random.Random(seed).randbytes(nbytes))
    return torch.frombuffer(drawn, dtype=torch.uint8) if drawn else torch.empty(0, dtype=torch.uint8)


def flipped(clean: torch.Tensor, *bits: int) -> torch.Tensor:
    dirty = clean.clone()
    for bit in bits:
        dirty[bit // 8] ^= 1 << (bit % 8)
    return dirty


LENGTHS = (
    *range(25),
    *range(ROW - 9, ROW + 10),
    2 * ROW + 3,
    GROUP - 1,
    GROUP,
    GROUP + 1,
    65 * ROW,
    5_000_003,
)


def test_the_same_by_products_and_by_elements() -> None:
    for nbytes in LENGTHS:
        assert digest(data(nbytes)) == elementwise_digest(data(nbytes)), nbytes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_on_cuda() -> None:
    for nbytes in LENGTHS:
        assert digest(data(nbytes).cuda()) == digest(data(nbytes)), nbytes


def test_it_is_the_one_other_versions_take() -> None:
    """A change of these is a change of the protocol: its version has to go up."""
    assert [digest(data(nbytes)).hex() for nbytes in (0, 1, ROW, GROUP + 5)] == GOLDEN


def test_it_is_what_its_description_says() -> None:
    """Two levels in plain integers, for a row and a bit."""
    sample = data(ROW + 8)
    words = list(struct.unpack(f"<{1024}q", bytes(sample.tolist()) + bytes(ROW - 8)))
    (low1, high1), (low2, high2) = ([w.tolist() for w in _weights(n, sample.device)] for n in (1, 2))
    rows = (words[:512], words[512:])
    a = [sum(w * x for w, x in zip(low1, row, strict=True)) for row in rows]
    b = [sum(w * (x >> 32) for w, x in zip(high1, row, strict=True)) for row in rows]
    groups = [[wrapped(value) for value in lane] + [0] * 510 for lane in (a, b)]
    second = [sum(w * x for w, x in zip(low2, group, strict=True)) for group in groups]
    second += [sum(w * (x >> 32) for w, x in zip(high2, group, strict=True)) for group in groups]
    expected = torch.tensor([wrapped(value) for value in second])
    assert digest(sample) == _finish(expected, ROW + 8)


def test_its_weights_are_odd_and_differ() -> None:
    """What its bounds rest on: an even weight, or one used twice, would widen them for some errors."""
    weights = torch.cat([part for level in (1, 2) for part in _weights(level, torch.device("cpu"))]).tolist()
    assert len(weights) == len(set(weights)) == 2048
    assert all(weight % 2 for weight in weights)


def wrapped(value: int) -> int:
    """Mod 2^64, with a sign."""
    return (value + 2**63) % 2**64 - 2**63


def test_every_length_has_a_digest_of_its_own() -> None:
    """Of zeros, which only their number tells apart; so every length mod 8 and mod a row counts."""
    lengths = [*range(ROW + 20), GROUP, GROUP + 1]
    digests = {digest(torch.zeros(nbytes, dtype=torch.uint8)) for nbytes in lengths}
    assert len(digests) == len(lengths)
    assert all(len(value) == 16 for value in digests)


@both_ways
def test_every_single_flip_is_caught(taken: Digest) -> None:
    """All bits of a small one, a draw of a large one: last words, first words, odd ends."""
    small = data(67)
    assert len({taken(small), *(taken(flipped(small, bit)) for bit in range(67 * 8))}) == 67 * 8 + 1
    large = data(3 * ROW + 13)
    draw = random.Random(2)
    bits = draw.sample(range(len(large) * 8), 200)
    assert len({taken(large), *(taken(flipped(large, bit)) for bit in bits)}) == 201


@both_ways
@pytest.mark.parametrize("bit", [63, 62, 48, 33, 32, 31, 0])
def test_two_flips_of_the_same_bit_of_two_words_are_caught(taken: Digest, bit: int) -> None:
    """Arithmetic mod 2^64 alone is blind here: two differences of 2^63 add up to 0 under any weights."""
    nbytes = 3 * GROUP
    clean = torch.zeros(nbytes, dtype=torch.uint8)
    draw = random.Random(bit)
    pairs = [draw.sample(range(nbytes // 8), 2) for _ in range(12)]
    pairs += [[0, 1], [0, 512], [511, 512], [0, GROUP // 8], [7, 7 + 512 * 3]]
    right = taken(clean)
    for first, second in pairs:
        assert taken(flipped(clean, first * 64 + bit, second * 64 + bit)) != right, (first, second)


def test_flips_of_the_top_bits_of_many_words_are_caught() -> None:
    draw = random.Random(3)
    clean = data(GROUP)
    right = digest(clean)
    for count in (2, 3, 4, 8, 64, 512):
        for _ in range(5):
            words = draw.sample(range(GROUP // 8), count)
            assert digest(flipped(clean, *(word * 64 + 63 for word in words))) != right


MOVES: dict[str, tuple[int, int, int]] = {
    "two rows of a group": (0, 3 * ROW, ROW),
    "rows of different groups": (0, GROUP + ROW, ROW),
    "two groups": (0, GROUP, GROUP),
    "two words of a row": (16, 64, 8),
    "the halves of a word": (0, 4, 4),
    "two bytes": (1, 2, 1),
    "4 KiB that lie across rows": (100, 100 + 7 * ROW, ROW),
}


@both_ways
@pytest.mark.parametrize("case", MOVES)
def test_blocks_that_changed_places_are_caught(taken: Digest, case: str) -> None:
    first, second, nbytes = MOVES[case]
    clean = data(3 * GROUP)
    swapped = clean.clone()
    swapped[first : first + nbytes] = clean[second : second + nbytes]
    swapped[second : second + nbytes] = clean[first : first + nbytes]
    assert not torch.equal(swapped, clean)
    assert taken(swapped) != taken(clean)


@both_ways
@pytest.mark.parametrize("shift", [1, 2, 4, 8, 16, ROW, GROUP])
def test_data_that_slipped_is_caught(taken: Digest, shift: int) -> None:
    clean = data(2 * GROUP + 24)
    assert taken(clean.roll(shift)) != taken(clean)
    slipped = torch.cat([clean[:shift], clean[:-shift]])
    assert taken(slipped) != taken(clean)


def test_a_stretch_that_stayed_zero_is_caught() -> None:
    clean = data(GROUP)
    for offset, nbytes in ((0, ROW), (GROUP - 1, 1), (12_345, 70_000)):
        hole = clean.clone()
        hole[offset : offset + nbytes] = 0
        assert digest(hole) != digest(clean)


def test_data_may_begin_at_any_byte() -> None:
    sample = data(2 * ROW + 5)
    for start in range(9):
        room = torch.zeros(len(sample) + 16, dtype=torch.uint8)
        room[start : start + len(sample)] = sample
        assert digest(room[start : start + len(sample)]) == digest(sample)


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros(8), torch.zeros(2, 4, dtype=torch.uint8), torch.zeros(8, dtype=torch.uint8)[::2]],
    ids=["dtype", "axes", "gaps"],
)
def test_only_contiguous_bytes_have_a_digest(wrong: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="contiguous bytes"):
        digest(wrong)


def test_a_digester_gives_each_its_own_in_any_order_of_asking() -> None:
    samples = [data(nbytes, seed=nbytes) for nbytes in (0, 5, ROW, GROUP + 3, 17)]
    with Digester("cpu") as digester:
        pending = [digester.submit(sample) for sample in samples]
        for sample, one in reversed(list(zip(samples, pending, strict=True))):
            assert one.result(timeout_s=60) == digest(sample)
            assert one.done()


def test_a_digest_taken_by_several_threads_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_module, "_thread_count", lambda cores: 3)
    monkeypatch.setattr(digest_module, "_PART_ROWS", 2)
    samples = [data(nbytes) for nbytes in (0, 1, ROW, 2 * ROW + 3, 5 * ROW, GROUP + 5, 5_000_003)]
    samples.append(data(9 * ROW + 4)[1:])
    with Digester("cpu") as digester:
        for sample in samples:
            pending = digester.submit(sample)
            assert pending.result(timeout_s=60) == digest(sample), len(sample)
        assert isinstance(digester._threads, ThreadPoolExecutor)
        assert len(digester._threads._threads) == 3, "one thread did it all"


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (7, 1), (8, 2), (16, 4), (192, 4)])
def test_most_cores_are_left_to_the_transfer(cores: int, threads: int) -> None:
    assert digest_module._thread_count(cores) == threads


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_has_a_kernel_of_its_own() -> None:
    """Without one the digests are right too, and slower: nothing else would show it."""
    digest(data(ROW).cuda())
    assert digest_cuda._kernels[torch.device("cuda", torch.cuda.current_device())] is not None


@pytest.mark.parametrize("fault", ["missing", "wrong"])
def test_without_a_right_kernel_the_slower_way_is_taken(
    fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device = torch.device("cuda", 0)
    monkeypatch.setattr(digest_cuda, "_kernels", {})
    monkeypatch.setattr(digest_cuda, "current", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(digest_cuda, "libcuda", lambda: None)
    compiled = SimpleNamespace(func=ctypes.c_void_p(1))
    if fault == "missing":
        monkeypatch.delattr(torch.cuda, "_compile_kernel")
    else:
        monkeypatch.setattr(torch.cuda, "_compile_kernel", lambda source, name: compiled)
    assert digest_cuda.kernel(device, lambda kernel: False) is None
    assert digest_cuda.kernel(device, lambda kernel: True) is None, "it was asked again"
    said = {"missing": "_compile_kernel", "wrong": "its result on a sample is wrong"}[fault]
    assert said in caplog.text and "slower way" in caplog.text
    # The same with a kernel that is right: what is missing above is not this test's own doing.
    monkeypatch.setattr(torch.cuda, "_compile_kernel", lambda source, name: compiled, raising=False)
    monkeypatch.setattr(digest_cuda, "_kernels", {})
    assert digest_cuda.kernel(device, lambda kernel: True) is not None


def test_waiting_for_a_digest_has_a_deadline() -> None:
    """All threads of the digester are kept busy until the wait has ended."""
    go_on = threading.Event()
    with Digester("cpu") as digester:
        threads = digester._threads
        assert isinstance(threads, ThreadPoolExecutor)
        for _ in range(threads._max_workers):
            threads.submit(go_on.wait, 60)
        pending = digester.submit(data(ROW))
        with pytest.raises(TimeoutError, match=r"within 0.05 s"):
            pending.result(timeout_s=0.05)
        go_on.set()
        assert pending.result(timeout_s=60) == digest(data(ROW))


def test_a_digester_refuses_data_of_another_device() -> None:
    with Digester("cpu") as digester, pytest.raises(ValueError, match="meta"):
        digester.submit(torch.zeros(8, dtype=torch.uint8, device="meta"))


GOLDEN = [
    "fdf818093cb854c85eb24790801edc5e",
    "a4bf8ec94bb05c10e8a8a9f2db4c7432",
    "9a4d34dc941b48204c97483bbe78c4c6",
    "a42af59284c4f4d446edab576576f0d2",
]
