"""The control connection: frames whole or not at all, waits bounded, no error but the documented ones."""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascendctl.netloader.engine import control as control_module
from ascendctl.netloader.engine.control import (
    Control,
    ControlBroken,
    ControlError,
    ControlTimeout,
    Frame,
    Label,
    PeerGone,
    SessionKey,
    load_json,
)

WAIT_S = 20.0  # how long a test waits for what must happen
SHORT_S = 0.2  # how long a test waits for what must not happen

Pair = tuple[socket.socket, socket.socket]


def connected() -> Pair:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    return near, far


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far = connected()
    with near, far:
        yield near, far


def frame_bytes(message: object) -> bytes:
    body = json.dumps(message).encode()
    return struct.pack(">I", len(body)) + body


def wait_until(true: Callable[[], object]) -> None:
    until = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


NEAR_KEY, FAR_KEY = SessionKey(b"n" * 32, b"f" * 32), SessionKey(b"f" * 32, b"n" * 32)


@pytest.mark.parametrize("keys", [(None, None), (NEAR_KEY, FAR_KEY)], ids=["open", "keyed"])
def test_frames_arrive_in_order_both_ways(
    pair: Pair, keys: tuple[SessionKey | None, SessionKey | None]
) -> None:
    near, far = Control(pair[0], keys[0]), Control(pair[1], keys[1])
    near.send(Label.AVAILABLE, upto=7)
    near.send(Label.ABORT, reason="a “reason”", nested={"list": [1, None, True]})
    far.send("LABEL OF A NEWER PEER")
    assert far.receive(WAIT_S) == Frame("AVAILABLE", {"upto": 7})
    assert far.receive(WAIT_S) == Frame(
        "ABORT", {"reason": "a “reason”", "nested": {"list": [1, None, True]}}
    )
    assert near.receive(WAIT_S) == Frame("LABEL OF A NEWER PEER", {})
    assert near.local == far.peer
    assert near.peer == far.local


def test_the_frame_is_as_documented(pair: Pair) -> None:
    near, far = pair
    control = Control(near)
    control.send(Label.READY, first_chunk=3)
    body = b'{"label": "READY", "content": {"first_chunk": 3}}'
    assert far.recv(1000) == len(body).to_bytes(4, "big") + body


def test_poll_gives_whole_frames_only_and_never_waits(pair: Pair) -> None:
    near, far = pair
    control = Control(far)
    data = frame_bytes({"label": "DONE", "content": {"chunks": 2}})
    assert control.poll() is None
    near.sendall(data[:-1])
    select.select([far], [], [], WAIT_S)
    assert control.poll() is None
    with pytest.raises(ControlTimeout):  # what came of it is kept over a timeout
        control.receive(SHORT_S)
    near.sendall(data[-1:])
    assert control.receive(WAIT_S) == Frame("DONE", {"chunks": 2})
    assert control.poll() is None


def test_nothing_beyond_the_frame_is_taken_from_the_socket(pair: Pair) -> None:
    near, far = pair
    near.sendall(frame_bytes({"label": "CHALLENGE"}) + b'{"label"')
    assert Control(far).receive(WAIT_S) == Frame("CHALLENGE", {})
    assert far.recv(100) == b'{"label"'


def test_receive_waits_no_longer_than_asked(pair: Pair) -> None:
    control = Control(pair[1])
    for past_s in (0.0, -1.0):
        with pytest.raises(ControlTimeout):
            control.receive(past_s)
    began = time.monotonic()
    with pytest.raises(ControlTimeout, match=r"no frame from 127\.0\.0\.1:[0-9]+ within 0\.2 s"):
        control.receive(SHORT_S)
    assert time.monotonic() - began >= SHORT_S * 0.9


BROKEN = [
    (struct.pack(">I", 64 * 1024 * 1024 + 1), "is the limit"),
    (b"JOIN", "is the limit"),
    (struct.pack(">I", 2) + b"\xff\xff", "no JSON"),
    (struct.pack(">I", 0), "no JSON"),
    (struct.pack(">I", 3) + b"NaN", "no JSON"),
    (struct.pack(">I", 100_000) + b"[" * 100_000, "nested too deeply"),
    (struct.pack(">I", 5000) + b"9" * 5000, "no JSON"),
    (frame_bytes([1]), "a JSON list"),
    (frame_bytes({"content": {}}), "no label"),
    (frame_bytes({"label": 3}), "no label"),
    (frame_bytes({"label": "DONE", "content": []}), "no label"),
]


@pytest.mark.parametrize(("data", "words"), BROKEN, ids=[f"{i}-{w}" for i, (_, w) in enumerate(BROKEN)])
def test_what_is_no_frame_breaks_the_connection_for_good(pair: Pair, data: bytes, words: str) -> None:
    near, far = pair
    control = Control(far)
    near.sendall(data + frame_bytes({"label": "DONE"}))
    with pytest.raises(ControlBroken, match=words):
        control.receive(WAIT_S)
    with pytest.raises(ControlBroken, match=words):
        control.poll()
    with pytest.raises(ControlBroken, match=words):
        control.send(Label.DONE)


def test_half_a_frame_is_broken_and_none_is_gone(pair: Pair) -> None:
    near, far = pair
    control = Control(far)
    near.sendall(frame_bytes({"label": "DONE"}) + b"\0\0")
    near.close()
    assert control.receive(WAIT_S).label == "DONE"
    with pytest.raises(ControlBroken, match="ended inside a frame, after 2"):
        control.receive(WAIT_S)


def test_a_peer_that_closes_between_frames_is_gone(pair: Pair) -> None:
    near, far = pair
    control = Control(far)
    near.close()
    with pytest.raises(PeerGone, match="closed the connection"):
        control.receive(WAIT_S)


def test_a_reset_is_gone_for_receive_poll_send_and_construction(pair: Pair) -> None:
    near, far = pair
    control = Control(far)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    near.close()
    with pytest.raises(PeerGone):
        control.receive(WAIT_S)
    with pytest.raises(PeerGone):
        control.poll()
    with pytest.raises(PeerGone):
        control.send(Label.DONE)
    with pytest.raises(PeerGone):
        Control(far)


def test_a_small_limit_holds_for_what_is_received_only(pair: Pair) -> None:
    near, far = Control(pair[0]), Control(pair[1], limit_bytes=100)
    far.send(Label.MANIFEST, data="x" * 1000)
    assert near.receive(WAIT_S).label == "MANIFEST"
    near.send(Label.IDENTITY, data="x" * 1000)
    with pytest.raises(ControlBroken, match="100 is the limit"):
        far.receive(WAIT_S)


def test_a_frame_over_the_limit_is_not_sent_and_harms_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = Control(pair[0]), Control(pair[1])
    monkeypatch.setattr(control_module, "FRAME_LIMIT_BYTES", 100)
    with pytest.raises(ControlBroken, match="a frame holds 100"):
        near.send(Label.MANIFEST, data="x" * 1000)
    near.send(Label.KEEPALIVE)
    assert far.receive(WAIT_S).label == "KEEPALIVE"


def test_a_peer_that_reads_nothing_costs_a_bounded_wait(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    near = Control(pair[0])
    monkeypatch.setattr(control_module, "SEND_TIMEOUT_S", SHORT_S)
    with pytest.raises(ControlTimeout, match="could not be sent"):
        near.send(Label.MANIFEST, data="x" * 32_000_000)
    with pytest.raises(ControlBroken, match="sent in part"):
        near.send(Label.KEEPALIVE)


@pytest.mark.parametrize("big", [100, 3_000_000])
def test_frames_of_many_threads_do_not_mix(pair: Pair, big: int) -> None:
    near, far = Control(pair[0], NEAR_KEY), Control(pair[1], FAR_KEY)
    senders = [
        threading.Thread(target=near.send, args=(Label.ABORT,), kwargs={"reason": str(n) * big})
        for n in range(8)
    ]
    for sender in senders:
        sender.start()
    reasons = {far.receive(WAIT_S).content["reason"] for _ in senders}
    assert reasons == {str(n) * big for n in range(8)}
    for sender in senders:
        sender.join(WAIT_S)


def test_close_wakes_whoever_waits_and_frees_the_socket(pair: Pair) -> None:
    control = Control(pair[1])
    seen: list[BaseException] = []

    def wait() -> None:
        try:
            control.receive(WAIT_S * 3)
        except ControlError as error:
            seen.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_until(control._receiving.locked)
    control.close()
    control.close()
    waiting.join(WAIT_S)
    assert [type(error) for error in seen] == [PeerGone]
    assert pair[1].fileno() == -1
    for use in (control.poll, lambda: control.receive(1), lambda: control.send(Label.DONE)):
        with pytest.raises(PeerGone, match="closed at this end"):
            use()


def test_the_last_frame_arrives_although_frames_of_the_peer_were_not_read(pair: Pair) -> None:
    near, far = Control(pair[0]), Control(pair[1])
    for _ in range(50):
        near.send(Label.KEEPALIVE)
    select.select([pair[1]], [], [], WAIT_S)
    far.send(Label.ABORT, reason="weights changed")
    closing = threading.Thread(target=far.close, args=(WAIT_S,))
    closing.start()
    assert near.receive(WAIT_S).content == {"reason": "weights changed"}
    with pytest.raises(PeerGone, match="closed the connection"):  # not a reset that overtakes the frame
        near.receive(WAIT_S)
    closing.join(SHORT_S)
    assert closing.is_alive()  # it reads on until the peer closes
    near.close()
    closing.join(WAIT_S)
    assert not closing.is_alive()


def test_drain_ends_at_its_deadline_whatever_the_peer_does(pair: Pair) -> None:
    control = Control(pair[1])
    control.close(SHORT_S)
    assert pair[1].fileno() == -1


# The MAC -------------------------------------------------------------------------------------------------


def _keyed(*messages: str) -> list[bytes]:
    """The bytes of keyed frames with these reasons."""
    near, far = connected()
    with near, far:
        control, frames = Control(near, NEAR_KEY), []
        for message in messages:
            control.send(Label.ABORT, reason=message)
            select.select([far], [], [], WAIT_S)
            frames.append(far.recv(10_000))
    return frames


@pytest.mark.parametrize("place", [4, 20, -16, -1])
def test_a_changed_frame_is_refused(pair: Pair, place: int) -> None:
    frame = bytearray(_keyed("one")[0])
    frame[place] ^= 1
    pair[0].sendall(frame)
    with pytest.raises(ControlBroken, match="MAC"):
        Control(pair[1], FAR_KEY).receive(WAIT_S)


@pytest.mark.parametrize("order", [(1,), (0, 0), (0, 2)], ids=["dropped", "repeated", "skipped"])
def test_dropped_repeated_and_reordered_frames_are_refused(pair: Pair, order: tuple[int, ...]) -> None:
    frames = _keyed("one", "two", "three")
    control = Control(pair[1], FAR_KEY)
    pair[0].sendall(b"".join(frames[n] for n in order))
    for _ in order[:-1]:
        control.receive(WAIT_S)
    with pytest.raises(ControlBroken, match="MAC"):
        control.receive(WAIT_S)


def test_a_frame_sent_back_to_its_sender_is_refused(pair: Pair) -> None:
    pair[0].sendall(_keyed("one")[0])
    with pytest.raises(ControlBroken, match="MAC"):
        Control(pair[1], NEAR_KEY).receive(WAIT_S)


def test_another_key_or_none_is_refused(pair: Pair) -> None:
    near, far = Control(pair[0], SessionKey(b"x" * 32, b"y" * 32)), Control(pair[1], FAR_KEY)
    near.send(Label.DONE)
    with pytest.raises(ControlBroken, match="MAC"):
        far.receive(WAIT_S)


def test_secure_holds_from_the_next_frame_on(pair: Pair) -> None:
    near, far = Control(pair[0]), Control(pair[1])
    near.send(Label.PROOF)
    near.secure(NEAR_KEY)
    near.send(Label.IDENTITY)
    assert far.receive(WAIT_S).label == "PROOF"
    far.secure(FAR_KEY)
    assert far.receive(WAIT_S).label == "IDENTITY"


def test_a_key_does_not_show(pair: Pair) -> None:
    assert "nnn" not in repr(NEAR_KEY)
    assert "nnn" not in repr(Control(pair[0], NEAR_KEY))


# Whatever comes ------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=60), max_size=4), st.booleans(), st.booleans())
def test_no_bytes_raise_anything_but_the_documented_errors(
    pieces: list[bytes], framed: bool, keyed: bool
) -> None:
    near, far = socket.socketpair()
    with near, far:
        control = Control(far, FAR_KEY if keyed else None)
        for piece in pieces:
            near.sendall(struct.pack(">I", len(piece)) + piece if framed else piece)
        near.close()
        with pytest.raises(ControlError):
            for _ in range(len(pieces) * 64 + 2):
                control.receive(WAIT_S)


@given(st.binary(max_size=200) | st.text(max_size=50).map(str.encode))
def test_load_json_raises_value_error_only(data: bytes) -> None:
    try:
        load_json(data)
    except ValueError:
        pass
