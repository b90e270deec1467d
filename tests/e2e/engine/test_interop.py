"""Peers without the extension: the stand-in of vllm-ascend's Netloader (`legacy_peer`), every generation."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import Any

import pytest
import torch

from ascendctl.netloader.engine.address import Address
from ascendctl.netloader.engine.joining import NoSource
from tests.e2e.engine.engines import MIB, Joiner, Seed, eventually
from tests.e2e.engine.legacy_peer import GENERATIONS, Config, FellBack, LegacySeed, join_content, legacy_load

FORM = {"small": 6, "large": 2, "large_mib": 1}
PATIENT_S = 60.0
GIVES_UP_S = 1.0  # the peer, where our side turns away after its ACK
SLOW = 2.0 * MIB


def config(generation: str = "G3", pg_timeout_s: float = PATIENT_S, **fields: Any) -> Config:
    return Config(generation=generation, pg_timeout_s=pg_timeout_s, **fields)


def blank(seed: Seed) -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in seed.model}


def same(got: Any, seed: Seed) -> bool:
    return list(got) == [name for name, _ in seed.model] and all(
        torch.equal(got[name], tensor) for name, tensor in seed.model
    )


# Our source, their joiner -----------------------------------------------------------------------------


@pytest.mark.parametrize("int8_cache", ["no", "hbm", "dram"])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_joiner_of_any_generation_gets_what_it_can_take(generation: str, int8_cache: str) -> None:
    with Seed(model=FORM, int8_cache=int8_cache) as seed:
        loaded = legacy_load(
            config(generation, int8_cache=int8_cache), blank(seed), [str(seed.address)], socket_timeout_s=30.0
        )
        assert same(loaded.tensors, seed)
        # The processed layout, with its shapes, is for G3 with "no" alone; G1 and G2 do not know it.
        processed = generation == "G3" and int8_cache == "no"
        assert ("transfer_shapes" in loaded.ack) == processed
        assert set(loaded.ack) <= {"name", "transfer_shapes"}
        eventually(lambda: seed.source.services == 0, "the service ends")


def test_the_answers_are_byte_for_byte_those_of_g3() -> None:
    with Seed(model=FORM) as seed:
        for path, expected in (
            (
                "/m/tiny/",
                b'{"label": "JOIN_NACK", "content": "Received data (0, \'/m/tiny/\', 1, 1) does not consist'
                b" with this server (0, '/m/tiny', 1, 1)\"}",
            ),
            (
                "/m/tiny",
                b'{"label": "JOIN_ACK", "content": {"name": "127.0.0.1:%d", "transfer_shapes": {'
                + b", ".join(
                    b'"%s": [%s]' % (name.encode(), ", ".join(map(str, tensor.shape)).encode())
                    for name, tensor in seed.model
                )
                + b"}}}",
            ),
        ):
            with socket.create_connection((seed.address.host, seed.address.port), 10) as sock:
                content = join_content(config(model_path=path), 52363)
                sock.sendall(json.dumps({"label": "JOIN", "content": content}).encode())
                own_port = sock.getsockname()[1]
                assert sock.recv(65536) == expected.replace(b"%d", str(own_port).encode())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"device_id": 1}, "does not consist with this server"),
        ({"tp": 2}, "does not consist with this server"),
        ({"int8_cache": "hbm"}, "INT8_CACHE must be the same on both sides"),
        ({"group_name": "netloader_draft"}, "serves the group"),
    ],
)
def test_a_joiner_that_does_not_fit_is_refused(
    fields: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Seed(model=FORM) as seed, pytest.raises(FellBack):
        legacy_load(config(**fields), blank(seed), [str(seed.address)], socket_timeout_s=30.0)
    assert words in caplog.text


def test_old_and_new_joiners_at_once() -> None:
    with Seed(model=FORM) as seed:
        loaded: list[Any] = []
        old = [
            threading.Thread(
                target=lambda g=generation: loaded.append(
                    legacy_load(config(g), blank(seed), [str(seed.address)], socket_timeout_s=30.0)
                )
            )
            for generation in GENERATIONS
        ]
        for thread in old:
            thread.start()
        new = Joiner(model=FORM)
        assert new.receive(seed.address).verified and new.digest == seed.digest
        for thread in old:
            thread.join(PATIENT_S)
        assert len(loaded) == 3 and all(same(each.tensors, seed) for each in loaded)


def test_f19_a_change_of_the_weights_ends_the_send_to_an_old_joiner() -> None:
    with Seed(model=FORM, bandwidth_bytes_s=SLOW) as seed:
        ended: list[str] = []

        def load() -> None:
            try:
                legacy_load(config(), blank(seed), [str(seed.address)], socket_timeout_s=30.0)
                ended.append("loaded")
            except FellBack:
                ended.append("fell back")

        thread = threading.Thread(target=load)
        thread.start()
        eventually(lambda: bool(seed.source.version._sends), "it sends")
        seed.source.version.begin_change("sleep mode")
        thread.join(PATIENT_S)
        assert ended == ["fell back"]
        with pytest.raises(FellBack):
            legacy_load(config(), blank(seed), [str(seed.address)], socket_timeout_s=30.0)
        seed.source.version.end_change("sleep mode")
        assert same(
            legacy_load(config(), blank(seed), [str(seed.address)], socket_timeout_s=30.0).tensors, seed
        )


# Their source, our joiner -----------------------------------------------------------------------------


@pytest.mark.parametrize("int8_cache", ["no", "hbm"])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_source_of_any_generation_is_taken_unproven_where_that_was_asked_for(
    generation: str, int8_cache: str
) -> None:
    joiner = Joiner(model=FORM, verify="if-offered", int8_cache=int8_cache)
    tensors = dict(Seed(model=FORM).model)
    with LegacySeed(config(generation, int8_cache=int8_cache), tensors) as theirs:
        received = joiner.receive(theirs.address)
        assert not received.verified and received.content_id is None
        assert received.bytes == sum(tensor.nbytes for tensor in tensors.values())
        assert all(torch.equal(got, tensors[name]) for name, got in joiner.model)
        eventually(lambda: len(theirs.sends) == 1, "it takes the send for done")
        assert theirs.accepting and not theirs.failures


def test_a_source_without_the_extension_is_refused_by_default() -> None:
    joiner = Joiner(model=FORM)
    with (
        LegacySeed(config(pg_timeout_s=GIVES_UP_S), dict(Seed(model=FORM).model)) as theirs,
        pytest.raises(NoSource) as caught,
    ):
        joiner.receive(theirs.address)
    (attempt,) = caught.value.attempts
    assert "VERIFY: if-offered" in attempt.reason and joiner.untouched


def test_with_a_token_a_source_without_the_extension_is_refused() -> None:
    joiner = Joiner(model=FORM, verify="if-offered", token="the token of the site")
    with (
        LegacySeed(config(pg_timeout_s=GIVES_UP_S), dict(Seed(model=FORM).model)) as theirs,
        pytest.raises(NoSource) as caught,
    ):
        joiner.receive(theirs.address)
    assert "token" in str(caught.value) and joiner.untouched


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({**FORM, "reversed": True}, "order"),
        ({**FORM, "large_mib": 2}, "shape"),
        ({**FORM, "extra": {"z": [3]}}, "only at the source"),
        ({**FORM, "small": 5}, "is not at the source"),
    ],
)
def test_what_a_source_of_g3_tells_of_its_tensors_is_compared(form: dict[str, Any], words: str) -> None:
    joiner = Joiner(model=FORM, verify="if-offered")
    with (
        LegacySeed(config(pg_timeout_s=GIVES_UP_S), dict(Seed(model=form).model)) as theirs,
        pytest.raises(NoSource, match=words),
    ):
        joiner.receive(theirs.address)
    assert joiner.untouched


def test_a_refusal_of_theirs_is_passed_on() -> None:
    joiner = Joiner(model=FORM, verify="if-offered")
    with (
        LegacySeed(config(model_path="/m/other"), {}) as theirs,
        pytest.raises(NoSource, match="does not consist"),
    ):
        joiner.receive(theirs.address)


@pytest.mark.parametrize("generation", ["G1", "G3"])
def test_an_old_source_that_accepts_and_then_does_nothing_costs_its_deadline_only(generation: str) -> None:
    """G1 with a draft joiner is such a one: the keys of the two ends never meet."""
    ended = threading.Event()
    shapes = {name: list(tensor.shape) for name, tensor in Seed(model=FORM).model}
    content: dict[str, Any] = {"name": "127.0.0.1:1"}
    if generation == "G3":
        content["transfer_shapes"] = shapes
    with Seed(model=FORM) as seed, socket.create_server(("127.0.0.1", 0)) as listener:

        def pretend() -> None:
            with contextlib.suppress(OSError):
                sock, _ = listener.accept()
                with sock:
                    sock.recv(1024)
                    sock.sendall(json.dumps({"label": "JOIN_ACK", "content": content}).encode())
                    ended.wait(PATIENT_S)

        threading.Thread(target=pretend, daemon=True).start()
        joiner = Joiner(model=FORM, verify="if-offered", timeouts={"link_s": 2.0})
        received = joiner.receive(Address("127.0.0.1", listener.getsockname()[1]), seed.address)
        ended.set()
        assert received.verified and received.source == str(seed.address)
        assert joiner.digest == seed.digest
