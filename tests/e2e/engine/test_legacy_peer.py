"""The stand-in of vllm-ascend against itself: each generation works, and fails the way the original does.

Without the failures it would prove nothing that the engine survives it.
"""

from __future__ import annotations

import json
import logging
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tests.e2e.engine.legacy_peer import GENERATIONS, Config, FellBack, LegacySeed, join_content, legacy_load

WAIT_S = 60.0  # how long a test waits for what must happen
GIVE_UP_S = 2.0  # how long a peer waits here, in a test of a wait that ends in nothing
IMPATIENT_S = 1.0  # and a joiner that gives up before the seed does

CONFIG = Config(pg_timeout_s=WAIT_S)


def weights(dtype: torch.dtype = torch.bfloat16, **shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = shapes or {"w0": (256, 128), "w1": (128, 256), "w2": (64, 64)}
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def blank(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}


def same(got: object, expected: dict[str, torch.Tensor]) -> bool:
    assert isinstance(got, dict)
    return list(got) == list(expected) and all(torch.equal(got[name], expected[name]) for name in expected)


def wait_until(true: Callable[[], object]) -> None:
    until = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def send_join(seed: LegacySeed, config: Config, store_port: int) -> socket.socket:
    connection = socket.create_connection((seed.host, seed.port), WAIT_S)
    connection.sendall(json.dumps({"label": "JOIN", "content": join_content(config, store_port)}).encode())
    return connection


@pytest.mark.parametrize("int8_cache", ["no", "hbm"])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_each_generation_hands_over_what_it_has(
    generation: str, int8_cache: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config, own = replace(CONFIG, generation=generation, int8_cache=int8_cache), weights()
    with LegacySeed(config, own) as seed:
        for _ in range(2):  # it serves one after the other
            loaded = legacy_load(config, blank(own), [seed.address])
            assert same(loaded.tensors, own)
        wait_until(lambda: len(seed.sends) == 2)
    assert ("transfer_shapes" in loaded.ack) == (generation == "G3" and int8_cache == "no")
    assert seed.failures == []
    assert "HCCL recv time" in caplog.text


def test_the_second_source_is_asked_where_the_first_refuses(caplog: pytest.LogCaptureFixture) -> None:
    own = weights()
    with LegacySeed(replace(CONFIG, model_path="/m/tiny/"), own) as wrong, LegacySeed(CONFIG, own) as right:
        loaded = legacy_load(CONFIG, blank(own), [wrong.address, right.address])
    assert loaded.source == right.address
    assert (
        f"Connect to {wrong.address} fails, detail: Receive nack from server, reason: Received data"
        " (0, '/m/tiny', 1, 1) does not consist with this server (0, '/m/tiny/', 1, 1)"
    ) in caplog.text


def test_f1_a_half_open_connection_blocks_everybody_and_then_the_stale_joins_do() -> None:
    own, config = weights(), replace(CONFIG, pg_timeout_s=GIVE_UP_S)
    with LegacySeed(config, own) as seed:
        with socket.create_connection((seed.host, seed.port)):
            wait_until(lambda: seed.busy)
            with pytest.raises(FellBack, match="All sources exhausted"):
                legacy_load(config, blank(own), [seed.address], socket_timeout_s=IMPATIENT_S)
            assert seed.busy
        wait_until(lambda: seed.failures)  # it acknowledged the joiner that is gone: F2
        assert seed.accepting


def test_f2_a_joiner_that_died_after_its_join_blocks_the_seed_for_the_timeout_of_the_group() -> None:
    own, config = weights(), replace(CONFIG, pg_timeout_s=2 * GIVE_UP_S)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        dead_port = gone.getsockname()[1]
    with LegacySeed(config, own) as seed:
        send_join(seed, config, dead_port).close()
        wait_until(lambda: seed.busy)
        with pytest.raises(FellBack):
            legacy_load(config, blank(own), [seed.address], socket_timeout_s=IMPATIENT_S)
        assert seed.sends == seed.failures == []
        wait_until(lambda: seed.failures)
        assert seed.accepting


F3 = {
    "reset": None,
    "not-utf-8": b"\xff\xfe\xfd",
    "device_id": json.dumps(
        {"label": "JOIN", "content": {**join_content(CONFIG, 1), "device_id": "abc"}}
    ).encode(),
    "tp": json.dumps({"label": "JOIN", "content": {**join_content(CONFIG, 1), "tp": None}}).encode(),
}


@pytest.mark.parametrize("case", list(F3))
def test_f3_one_bad_peer_ends_the_accept_thread_and_the_port_stays_open(case: str) -> None:
    data = F3[case]
    with LegacySeed(CONFIG, weights()) as seed:
        with socket.create_connection((seed.host, seed.port)) as bad:
            wait_until(lambda: seed.busy)
            if data is None:
                bad.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                bad.sendall(data)
        wait_until(lambda: not seed.accepting)
        assert seed.died_of is not None
        with socket.create_connection((seed.host, seed.port), WAIT_S):
            pass


def test_f4_a_join_over_1024_bytes_or_in_two_segments_is_dropped_without_an_answer() -> None:
    long = replace(CONFIG, model_path="/" + "m" * 1100)
    with LegacySeed(long, weights()) as seed:
        with pytest.raises(FellBack):
            legacy_load(long, blank(weights()), [seed.address], socket_timeout_s=WAIT_S)
        with socket.create_connection((seed.host, seed.port), WAIT_S) as split:
            split.sendall(b'{"label": "JOIN", ')
            assert split.recv(100) == b""
        assert seed.accepting


def test_f5_another_dtype_of_the_same_size_is_reported_as_success_with_wrong_weights() -> None:
    own = {"w": torch.full((4,), 1.5, dtype=torch.bfloat16)}
    with LegacySeed(CONFIG, own) as seed:
        loaded = legacy_load(CONFIG, {"w": torch.zeros(4, dtype=torch.float16)}, [seed.address])
    assert loaded.tensors["w"].tolist() == [1.9375] * 4


def test_f6_another_order_is_reported_as_success_with_swapped_tensors() -> None:
    own = weights(a=(8, 8), b=(8, 8))
    with LegacySeed(CONFIG, own) as seed:
        loaded = legacy_load(CONFIG, blank({"b": own["b"], "a": own["a"]}), [seed.address])
    assert torch.equal(loaded.tensors["a"], own["b"])
    assert torch.equal(loaded.tensors["b"], own["a"])


def test_f7_another_shape_of_the_same_size_is_viewed_as_the_seeds() -> None:
    own = weights(w=(3, 4))
    with LegacySeed(CONFIG, own) as seed:
        loaded = legacy_load(CONFIG, {"w": torch.zeros(4, 3, dtype=torch.bfloat16)}, [seed.address])
    assert loaded.tensors["w"].shape == (3, 4)


def test_f8_a_seed_with_more_tensors_hangs_both_sides_to_the_timeout_of_the_group() -> None:
    own, config = weights(), replace(CONFIG, pg_timeout_s=GIVE_UP_S)
    fewer = {name: own[name] for name in ("w0", "w1")}
    began = time.monotonic()
    with LegacySeed(config, own) as seed:
        with pytest.raises(FellBack):
            legacy_load(config, blank(fewer), [seed.address])
        assert time.monotonic() - began >= GIVE_UP_S * 0.9
        wait_until(lambda: seed.failures)
    assert seed.sends == []


def test_a_joiner_with_a_tensor_of_another_size_stops_before_the_group() -> None:
    own, config = weights(w=(3, 4)), replace(CONFIG, pg_timeout_s=GIVE_UP_S)
    with LegacySeed(config, own) as seed, pytest.raises(FellBack, match="numel/manifest mismatch"):
        legacy_load(config, {"w": torch.zeros(3, 5, dtype=torch.bfloat16)}, [seed.address])


def test_mixed_generations_an_old_joiner_takes_processed_tensors_for_raw_ones() -> None:
    raw, processed = weights(a=(8, 4)), {"a": weights(a=(8, 4))["a"].t().contiguous()}
    with LegacySeed(CONFIG, processed) as seed:
        loaded = legacy_load(replace(CONFIG, generation="G2"), blank(raw), [seed.address])
    assert loaded.tensors["a"].shape == (8, 4)
    assert not torch.equal(loaded.tensors["a"], raw["a"])


def test_mixed_generations_a_new_joiner_takes_raw_tensors_for_processed_ones() -> None:
    raw = weights(a=(8, 4))
    with LegacySeed(replace(CONFIG, generation="G2"), raw) as seed:
        loaded = legacy_load(CONFIG, {"a": torch.zeros(4, 8, dtype=torch.bfloat16)}, [seed.address])
    assert loaded.tensors["a"].shape == (4, 8)


def test_mixed_generations_a_draft_never_meets_a_g1_seed() -> None:
    own, config = weights(), replace(CONFIG, pg_timeout_s=GIVE_UP_S, group_name="netloader_draft")
    with LegacySeed(replace(config, generation="G1"), own) as seed:
        with pytest.raises(FellBack):
            legacy_load(replace(config, generation="G2"), blank(own), [seed.address])
        wait_until(lambda: seed.failures)


def test_int8_cache_is_compared_by_g3_only_and_where_named() -> None:
    own = weights()
    with LegacySeed(replace(CONFIG, int8_cache="hbm"), own) as seed:
        with pytest.raises(FellBack):
            legacy_load(replace(CONFIG, int8_cache="dram"), blank(own), [seed.address])
        assert same(legacy_load(replace(CONFIG, generation="G1"), blank(own), [seed.address]).tensors, own)


def test_raw_layout_filters_differ_at_the_two_ends() -> None:
    """The sender skips names with aclnn_input_scale, the receiver tensors without a dimension."""
    own = {"a": torch.arange(4.0), "b.aclnn_input_scale": torch.tensor(2.0), "c": torch.arange(3.0)}
    config = replace(CONFIG, int8_cache="hbm")
    with LegacySeed(config, own) as seed:
        loaded = legacy_load(config, blank(own), [seed.address])
    assert same(loaded.tensors, {"a": own["a"], "c": own["c"]})


def test_joiners_are_served_one_after_the_other() -> None:
    """The second has its connection, and gets no answer before the first is through."""
    own, config = weights(), replace(CONFIG, pg_timeout_s=2 * GIVE_UP_S)
    with LegacySeed(config, own) as seed, send_join(seed, config, 1) as first:
        assert b"JOIN_ACK" in first.recv(4096)
        with send_join(seed, config, 1) as second:
            second.settimeout(IMPATIENT_S)
            with pytest.raises(TimeoutError):
                second.recv(1)
            assert seed.failures == []
            second.settimeout(WAIT_S)
            assert b"JOIN_ACK" in second.recv(4096)
            assert len(seed.failures) == 1
