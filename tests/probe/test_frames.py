"""The decoder: any split of the stream, forged and damaged frames, hand-carried text."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ascendctl.probe import frames
from ascendctl.probe.capture import CaptureSink, HostCapture, decode
from ascendctl.probe.frames import Answer, FrameDecoder, Target

NONCE = "0123456789abcdef0123456789abcdef"
LINK = Target(0, 0, 3)


def mark(text: str) -> bytes:
    return f"\n@{NONCE} {text}\n".encode()


def answer(head: str, stdout: bytes, stderr: bytes = b"") -> bytes:
    return mark(f"begin {head}") + stdout + mark("stderr") + stderr + mark("end")


STREAM = (
    b"Welcome \xbb\xb6\xd3\xad\n"
    + mark("hello 1")
    + mark("tool hccn_tool /opt/with space/hccn_tool")
    + mark("tool npu-smi ")
    + mark("note open-files-limit 1024")
    + answer("clock - - - 0 1", b"1.5\n")
    + answer("link 0 0 3 124 2", b"no newline at end", b"\x00\xff\n\n")
    + mark("skip tls 0 0 3 hung link 3")
    + answer("mapping - - - 0 1", b"\n@ffff end\n\n@" + NONCE.encode() + b"x end\n")
    + mark("done")
)


def check(capture: HostCapture) -> None:
    assert capture.complete
    assert capture.preamble.startswith(b"Welcome \xbb\xb6")
    assert capture.tools == {"hccn_tool": "/opt/with space/hccn_tool", "npu-smi": None}
    assert capture.notes == {"open-files-limit": "1024"}
    link = capture.answers["link", LINK]
    assert link == Answer("link", LINK, 124, 2, b"no newline at end", b"\x00\xff\n\n")
    assert link.killed
    assert capture.answers["mapping", Target()].stdout == b"\n@ffff end\n\n@" + NONCE.encode() + b"x end\n"
    assert (capture.skips["tls", LINK].hung_command_id, capture.skips["tls", LINK].hung_phy) == ("link", 3)


def test_whole_stream_with_and_without_knowing_the_nonce() -> None:
    check(decode(STREAM))
    sink = CaptureSink(NONCE)
    assert sink.feed(STREAM, 7.0) is True
    check(sink.capture())
    assert sink.capture().clock_received_at == 7.0


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
@settings(derandomize=True, deadline=None)
def test_any_split_gives_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    for nonce in (NONCE, None):
        sink = CaptureSink(nonce)
        for start, end in pairwise(edges):
            sink.feed(STREAM[start:end], 0.0)
        check(sink.capture())


@pytest.mark.parametrize("cut", range(0, len(STREAM), 7))
def test_a_cut_stream_keeps_whole_answers_only(cut: int) -> None:
    capture = decode(STREAM[:cut])
    assert not capture.complete
    whole = decode(STREAM)
    for key, value in capture.answers.items():
        assert whole.answers[key] == value


@given(st.binary(max_size=400), st.integers(0, len(STREAM)))
@settings(derandomize=True, deadline=None)
def test_nothing_a_host_sends_raises(noise: bytes, at: int) -> None:
    decode(STREAM[:at] + noise + STREAM[at:])
    decode(mark("hello 1") + mark("begin " + noise.decode("latin1").replace("\n", " ")) + STREAM)


def test_text_carried_through_a_terminal_is_read() -> None:
    text = STREAM.replace(b"\x00\xff\n\n", b"e").replace(b"\n", b"\r\n")
    capture = decode(text)
    assert capture.complete
    assert capture.answers["clock", Target()].stdout == b"1.5\n"


@pytest.mark.parametrize(
    ("stream", "problem"),
    [
        (STREAM + STREAM, "more than one output"),
        (STREAM[:-40] + STREAM.replace(NONCE.encode(), b"f" * 32), "more than one output"),
        (STREAM + b"\n" + STREAM.replace(NONCE.encode(), b"f" * 32), "more than one output"),
        (STREAM.replace(b"hello 1", b"hello 2"), "version 2"),
        (STREAM.replace(mark("done"), answer("link 0 0 3 0 1", b"other") + mark("done")), "two different"),
        (STREAM.replace(mark("done"), answer("clock - - - 0 1", b"1.5\n") + mark("done")), ""),
        (STREAM + b"root@node01:~# exit\n", ""),
    ],
)
def test_a_stream_that_cannot_be_trusted_gives_nothing(stream: bytes, problem: str) -> None:
    capture = decode(stream)
    assert problem in capture.problem
    assert bool(capture.answers) == (problem == "")


def test_a_host_that_floods_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_STREAM_BYTES", 1000)
    decoder = FrameDecoder(NONCE)
    assert list(decoder.feed(b"x" * 1001)) == []
    assert decoder.finished
    assert not decoder.complete
    assert list(decoder.feed(STREAM)) == []
