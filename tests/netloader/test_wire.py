"""JOIN and its answers: byte for byte what vllm-ascend writes, and nothing that a peer sends does harm."""

from __future__ import annotations

import ast
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ascendctl.netloader.engine.control import ControlTimeout, PeerGone
from ascendctl.netloader.engine.wire import (
    Ack,
    AckExtension,
    AnswerError,
    Extension,
    JoinError,
    JoinRequest,
    JoinTooLong,
    Nack,
    Served,
    TokenWanted,
    decode_answer,
    decode_join,
    encode_ack,
    encode_join,
    encode_nack,
    read_answer,
    read_join,
    refuse,
    why_not,
)

WAIT_S = 20.0  # how long a test waits for what must happen
SHORT_S = 0.2  # how long a test waits for what must not happen

G1 = JoinRequest(0, "/models/a", 2, 1, 40001)
G2 = replace(G1, group_name="netloader_draft")
G3 = replace(G1, group_name="netloader", int8_cache="no")
EXTENSION = Extension("ab" * 16, ("nccl", "gloo"), bytes(range(16)))
FULL = Extension(
    "ab" * 16,
    ("nccl", "cuda_ipc", "gloo", "host"),
    bytes(16),
    123456,
    "cd" * 16,
    65535,
    "[fe80::1:2:3:4]:65535",
)
NEW = replace(G3, extension=EXTENSION)

DOCUMENTED = [
    (G1, '{"device_id": 0, "model_path": "/models/a", "tp": 2, "pp": 1, "port": 40001}'),
    (
        G2,
        '{"device_id": 0, "model_path": "/models/a", "tp": 2, "pp": 1, "port": 40001,'
        ' "group_name": "netloader_draft"}',
    ),
    (
        G3,
        '{"device_id": 0, "model_path": "/models/a", "tp": 2, "pp": 1, "port": 40001,'
        ' "group_name": "netloader", "int8_cache": "no"}',
    ),
]


@pytest.mark.parametrize(("request_", "content"), DOCUMENTED, ids=["G1", "G2", "G3"])
def test_a_join_of_each_generation_is_written_and_read_to_the_byte(
    request_: JoinRequest, content: str
) -> None:
    data = f'{{"label": "JOIN", "content": {content}}}'.encode()
    assert encode_join(request_) == data
    assert decode_join(data) == request_


def test_generation_and_group_follow_from_the_fields() -> None:
    assert [(r.generation, r.group) for r in (G1, G2, G3, NEW)] == [
        ("G1", "netloader"),
        ("G2", "netloader_draft"),
        ("G3", "netloader"),
        ("G3", "netloader"),
    ]


def _recorded() -> list[tuple[str, bytes]]:
    folder = os.environ.get("ASCENDCTL_CAPTURES")
    if not folder:
        pytest.skip("set ASCENDCTL_CAPTURES to the folder of real captured outputs")
    text = (Path(folder) / "netloader" / "transcripts.md").read_text(encoding="utf-8")
    lines = [
        line.split(maxsplit=1)
        for line in text.splitlines()
        if line.startswith(("    client b'", "    server b'"))
    ]
    sends = [(end, ast.literal_eval(data)) for end, data in lines]
    assert len(sends) == 4
    return sends


def test_recorded_joins_and_answers_are_reproduced_to_the_byte() -> None:
    for end, data in _recorded():
        if end == "client":
            assert encode_join(decode_join(data)) == data
            assert decode_join(data).generation == "G3"
            continue
        answer = decode_answer(data)
        assert (encode_nack(answer.reason) if isinstance(answer, Nack) else encode_ack(answer)) == data


def test_the_recorded_refusal_is_the_one_given_for_the_recorded_join() -> None:
    sends = _recorded()
    request, refusal = decode_join(sends[2][1]), sends[3][1]
    reason = why_not(request, Served(0, "/m/tiny", 1, 1, "no"))
    assert reason is not None
    assert encode_nack(reason) == refusal
    assert why_not(decode_join(sends[0][1]), Served(0, "/m/tiny", 1, 1, "no")) is None


SERVED = Served(0, "/models/a", 2, 1, "no")


@pytest.mark.parametrize(
    "changed",
    [{"device_id": 1}, {"model_path": "/models/a/"}, {"tp": 1}, {"pp": 2}],
    ids=lambda changed: next(iter(changed)),
)
def test_each_compared_field_refuses_in_the_words_of_vllm_ascend(changed: dict[str, object]) -> None:
    request = replace(G3, **changed)  # type: ignore[arg-type]
    received = (request.device_id, request.model_path, request.tp, request.pp)
    assert why_not(request, SERVED) == (
        f"Received data {received} does not consist with this server (0, '/models/a', 2, 1)"
    )


def test_int8_cache_refuses_only_where_the_joiner_names_it() -> None:
    assert why_not(G2, SERVED) is None
    assert why_not(G3, SERVED) is None
    assert "'dram'" in (why_not(replace(G3, int8_cache="dram"), SERVED) or "")


def test_an_extension_survives_and_an_old_peer_reads_the_rest() -> None:
    gpu = replace(EXTENSION, links=("cuda_ipc:0123456789abcdef", "nccl"))
    for extension in (EXTENSION, FULL, gpu):
        data = encode_join(replace(G3, extension=extension))
        assert decode_join(data) == replace(G3, extension=extension)
        content = json.loads(data)["content"]
        assert list(content)[:7] == [
            "device_id", "model_path", "tp", "pp", "port", "group_name", "int8_cache",
        ]  # fmt: skip


def test_the_whole_extension_leaves_room_for_a_model_path_of_600_bytes() -> None:
    request = JoinRequest(1023, "/" + "m" * 599, 1024, 1024, 65535, "netloader_draft", "dram", extension=FULL)
    assert len(encode_join(request)) <= 1024


def test_a_join_that_is_too_long_says_what_to_shorten_and_by_how_much() -> None:
    fits = replace(G3, model_path="m" * (1024 - len(encode_join(replace(G3, model_path="")))))
    assert len(encode_join(fits)) == 1024
    with pytest.raises(
        JoinTooLong, match=r"1027 bytes .* 1024: shorten the model path \(--model\) by 3 bytes"
    ):
        encode_join(replace(fits, model_path=fits.model_path + "abc"))


def _join(**changed: object) -> bytes:
    content = {**json.loads(encode_join(NEW))["content"], **changed}
    kept = {key: value for key, value in content.items() if value is not ...}
    return json.dumps({"label": "JOIN", "content": kept}).encode()


def _extended(**changed: object) -> bytes:
    extension = {**json.loads(encode_join(NEW))["content"]["ascendctl"], **changed}
    return _join(ascendctl={key: value for key, value in extension.items() if value is not ...})


BAD_JOINS = [
    (b"", "no JSON"),
    (b"\xff\xfe", "no JSON"),
    (b"[" * 1000, "nested too deeply"),
    (b"[]", "a JSON list"),
    (b'{"label": "JOIN"}', "content is a null"),
    (b'{"label": "JOIN_ACK", "content": {}}', "label is 'JOIN_ACK'"),
    (b'{"label": ["JOIN"], "content": {}}', "label is a list"),
    (b'{"label": "JOIN", "content": {"tp": NaN}}', "NaN"),
    (_join(port=..., tp=...), "lacks tp, port"),
    (_join(device_id="abc"), "device_id is 'abc'"),
    (_join(device_id=True), "device_id is True"),
    (_join(device_id=-1), "device_id is -1"),
    (_join(tp=None), "tp is None"),
    (_join(pp=0), "pp is 0"),
    (_join(port=65536), "port is 65536"),
    (_join(port=1.5), "port is 1.5"),
    (_join(tp=10**400), "tp is 1000"),
    (_join(model_path=None), "model_path is a null"),
    (_join(group_name="a/b"), "group_name 'a/b'"),
    (_join(group_name=""), "group_name ''"),
    (_join(int8_cache="yes"), "int8_cache 'yes'"),
    (_join(int8_cache=["no"]), "int8_cache a list"),
    (_join(ascendctl=None), "extension is a null"),
    (_join(ascendctl=1), "extension is a number"),
    (_extended(v=2), "version 2 of the extension, this side 1"),
    (_extended(v=True), "version True"),
    (_extended(id=...), "identity"),
    (_extended(id="xyz"), "identity"),
    (_extended(n="00"), "nonce"),
    (_extended(links=[]), "offers no link"),
    (_extended(links=["gloo", 1]), "offers no link"),
    (_extended(links="gloo"), "offers no link"),
    (_extended(**{"from": -1}), "from is -1"),
    (_extended(content="/"), "content id"),
    (_extended(relay=0), "relay is 0"),
    (_extended(lost="here"), "lost parent"),
    (encode_join(G1) + b" " * 1024, "at most 1024"),
]


@pytest.mark.parametrize(
    ("data", "words"), BAD_JOINS, ids=[f"{i}-{w[:24]}" for i, (_, w) in enumerate(BAD_JOINS)]
)
def test_what_is_no_join_is_refused_in_words(data: bytes, words: str) -> None:
    with pytest.raises(JoinError) as caught:
        decode_join(data)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_broken_extension_never_passes_for_an_old_peer() -> None:
    """Else a flipped byte would switch every guarantee off in silence."""
    for key in ("v", "id", "links", "n"):
        with pytest.raises(JoinError):
            decode_join(_extended(**{key: ...}))


ANSWERS = [
    Ack("10.0.0.2:40190"),
    Ack("10.0.0.2:40190", {}),
    Ack("10.0.0.2:40190", {"a": (2, 3), "scalar": ()}),
    Ack("10.0.0.2:40190", None, AckExtension("gloo")),
    Ack("[fe80::1]:40190", None, AckExtension(None, ("10.0.0.3:2333", "[fe80::2]:2333"))),
]


@pytest.mark.parametrize("ack", ANSWERS, ids=["G1-G2", "empty-shapes", "G3", "link", "redirect"])
def test_answers_survive(ack: Ack) -> None:
    assert decode_answer(encode_ack(ack)) == ack
    assert decode_answer(encode_nack("no, “because”")) == Nack("no, “because”")


def _ack(content: object) -> bytes:
    return json.dumps({"label": "JOIN_ACK", "content": content}).encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x80", "no JSON"),
        (_ack(None), "not an object"),
        (_ack({}), "no name"),
        (_ack({"name": "a:1", "transfer_shapes": []}), "transfer_shapes is a list"),
        (_ack({"name": "a:1", "transfer_shapes": {"w": [1, -1]}}), "transfer_shapes of 'w'"),
        (_ack({"name": "a:1", "transfer_shapes": {"w": [True]}}), "transfer_shapes of 'w'"),
        (_ack({"name": "a:1", "ascendctl": 3}), "extension of the JOIN_ACK is a number"),
        (_ack({"name": "a:1", "ascendctl": {"v": 9, "link": "gloo"}}), "version 9"),
        (_ack({"name": "a:1", "ascendctl": {"v": 1}}), "neither a link nor another peer"),
        (_ack({"name": "a:1", "ascendctl": {"v": 1, "link": 3}}), "no kind of link"),
        (_ack({"name": "a:1", "ascendctl": {"v": 1, "redirect": ["x"]}}), "no host:port"),
        (_ack({"name": "a:1", "ascendctl": {"v": 1, "redirect": ["a:1"] * 65}}), "65 peers"),
    ],
)
def test_what_is_no_answer_is_refused_in_words(data: bytes, words: str) -> None:
    with pytest.raises(AnswerError) as caught:
        decode_answer(data)
    assert words in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
KEYS = [*json.loads(encode_join(NEW))["content"], "name", "transfer_shapes"]
EXTENSION_KEYS = ["v", "id", "links", "n", "from", "content", "relay", "lost", "link", "redirect"]


def _decode_both(data: bytes) -> None:
    """Nothing but the documented errors."""
    for decode, error in ((decode_join, JoinError), (decode_answer, AnswerError)):
        try:
            decode(data)
        except error as refused:
            str(refused)


@given(st.binary(max_size=1100))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    _decode_both(data)


@given(
    st.sampled_from(["JOIN", "JOIN_ACK", "JOIN_NACK"]),
    st.sampled_from(KEYS),
    st.sampled_from(EXTENSION_KEYS),
    JSON,
)
@settings(max_examples=300)
def test_no_value_of_any_field_raises_anything_else(
    label: str, key: str, extension_key: str, value: object
) -> None:
    content = json.loads(encode_join(NEW))["content"]
    content["name"] = "a:1"
    inner = {**content["ascendctl"], "link": "gloo", extension_key: value}
    for changed in ({**content, key: value}, {**content, "ascendctl": inner}, value):
        _decode_both(json.dumps({"label": label, "content": changed}).encode())


@given(
    st.integers(min_value=0),
    st.sampled_from([encode_join(NEW), encode_ack(ANSWERS[4])]),
    st.binary(max_size=4),
)
@settings(max_examples=300)
def test_no_damage_to_a_message_raises_anything_else(place: int, data: bytes, noise: bytes) -> None:
    place %= len(data)
    _decode_both(data[:place] + noise + data[place + len(noise) :])
    _decode_both(data[:place])


# On a socket ---------------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        yield near, far


Pair = tuple[socket.socket, socket.socket]


def test_a_join_in_single_bytes_is_read_and_what_follows_is_left(pair: Pair) -> None:
    near, far = pair
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = encode_join(replace(NEW, model_path='/m/{"\\'))

    def drip() -> None:
        for place in range(len(data)):
            near.sendall(data[place : place + 1])

    sender = threading.Thread(target=drip)
    sender.start()
    assert read_join(far, WAIT_S) == data
    sender.join(WAIT_S)
    near.sendall(b"next")
    assert far.recv(4) == b"next"


def test_half_a_join_ends_at_the_deadline(pair: Pair) -> None:
    near, far = pair
    with pytest.raises(ControlTimeout, match="no JOIN came within"):
        read_join(far, SHORT_S)
    near.sendall(encode_join(G3)[:-1])
    with pytest.raises(ControlTimeout, match="bytes of the JOIN came within"):
        read_join(far, SHORT_S)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not with a JSON object"),
        (b"\x16\x03\x01", "not with a JSON object"),
        (b"\xff", "not with a JSON object"),
        (b'{"a":' * 65, "nested deeper"),
        (b'{"label": "' + b"m" * 2000, "not complete after 1024 bytes"),
        (b'{"label": "' + b"m" * 1024 + b'"}', "not complete after 1024 bytes"),
    ],
    ids=["http", "tls", "not-utf-8", "deep", "long", "long-and-whole"],
)
def test_what_cannot_become_a_join_is_told_before_the_deadline(pair: Pair, data: bytes, words: str) -> None:
    near, far = pair
    near.sendall(data)
    with pytest.raises(JoinError, match=words):
        read_join(far, WAIT_S)


def test_a_peer_that_closes_or_resets_is_gone(pair: Pair) -> None:
    near, far = pair
    near.sendall(b'{"label"')
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    near.close()
    with pytest.raises(PeerGone):
        read_join(far, WAIT_S)


def test_bytes_after_the_join_make_it_no_join(pair: Pair) -> None:
    near, far = pair
    near.sendall(encode_join(G3) + b"}")
    with pytest.raises(JoinError, match="no JSON"):
        decode_join(read_join(far, WAIT_S))


def test_a_long_answer_in_many_segments_is_read(pair: Pair) -> None:
    near, far = pair
    ack = Ack("127.0.0.1:5", {f"layers.{i}.mlp.{{weight}}]": (i, 7) for i in range(30_000)})
    sender = threading.Thread(target=near.sendall, args=(encode_ack(ack),))
    sender.start()
    assert read_answer(far, WAIT_S) == ack
    sender.join(WAIT_S)


def test_a_challenge_where_an_answer_was_due_asks_for_the_token(pair: Pair) -> None:
    near, far = pair
    near.sendall(struct.pack(">I", 20))
    with pytest.raises(TokenWanted, match="TOKEN"):
        read_answer(far, WAIT_S)


def test_a_refusal_arrives_although_the_join_was_not_read_to_its_end(pair: Pair) -> None:
    near, far = pair
    near.sendall(b'{"label": "' + b"m" * 5000)
    with pytest.raises(JoinError) as caught:
        read_join(far, WAIT_S)
    refusing = threading.Thread(target=refuse, args=(far, str(caught.value), WAIT_S))
    refusing.start()
    answer = read_answer(near, WAIT_S)
    near.settimeout(WAIT_S)
    assert near.recv(1) == b""  # an end in order, not a reset that overtakes the answer
    near.close()
    refusing.join(WAIT_S)
    assert not refusing.is_alive()
    assert answer == Nack(str(caught.value))
