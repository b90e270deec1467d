"""Whole joins over real sockets and gloo: what arrives is what was there; what must not be is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from ascendctl.netloader.engine import receiving, shop
from ascendctl.netloader.engine.address import Address
from ascendctl.netloader.engine.holdings import Holdings
from ascendctl.netloader.engine.joining import NoSource
from ascendctl.netloader.engine.source import ListenError, Source
from ascendctl.netloader.engine.weights import WeightSet
from tests.e2e.engine import actors
from tests.e2e.engine.engines import (
    IDENTITY,
    MIB,
    Joiner,
    Seed,
    eventually,
    options_of,
    turn_bit,
)

REFUSED_WITHIN_S = 5.0


@pytest.fixture
def turned_bit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Turns one bit after the joiner's link received it (a wrapper of the link, not a proxy)."""
    monkeypatch.setattr(receiving, "open_link", receiving.open_link)  # put back after the test
    yield turn_bit


def refusal(joiner: Joiner, *sources: Address) -> str:
    """The one reason for which the join is refused, in less than five seconds and without a byte."""
    started_s = time.monotonic()
    with pytest.raises(NoSource) as caught:
        joiner.receive(*sources)
    assert time.monotonic() - started_s < REFUSED_WITHIN_S
    assert joiner.untouched
    (attempt,) = caught.value.attempts
    assert attempt.phase == "join"
    return attempt.reason


def test_two_processes() -> None:
    with actors.seed() as seed, actors.joiner([seed.event("listening")["address"]]) as joiner:
        received = joiner.event("received")
        assert received["verified"] and received["attempts"] == []
        assert received["digest"] == seed.ask("digest")["digest"]
        tally = seed.ask("tally")
        assert (tally["joiners"], tally["bytes"], tally["failed"]) == (1, received["bytes"], 0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float8_e4m3fn", "int8"])
def test_every_byte_arrives(dtype: str) -> None:
    form = {"small": 300, "large": 3, "large_mib": 2.5, "dtype": dtype if dtype == "float32" else "bfloat16"}
    with Seed(model=form) as seed:
        other = [(f"as.{name}", tensor.view(getattr(torch, dtype))) for name, tensor in seed.model]
        as_dtype = WeightSet(other, MIB)
        into = [(name, torch.zeros_like(tensor)) for name, tensor in other]
        source = Source(
            as_dtype, IDENTITY, seed.options, rank=0, group="netloader", model_path="/m", bind_ip="127.0.0.1"
        )
        address = source.start()
        try:
            joiner = Joiner()
            joiner.weights, joiner.model = WeightSet(into, 4 * MIB), into
            received = joiner.receive(address)
        finally:
            source.stop()
    assert received.verified and received.source == str(address)
    assert received.content_id is not None
    for (name, sent), (_, arrived) in zip(other, into, strict=True):
        assert torch.equal(sent.view(torch.uint8), arrived.view(torch.uint8)), name


def test_ties_permutations_and_slices_arrive() -> None:
    base = torch.randn(64, 96)
    tied = torch.randn(700, 700)
    named = [("tied", tied), ("permuted", torch.randn(300, 40).T), ("slice", base[:, :50]), ("also", tied)]
    own = torch.zeros(700, 700)
    room = torch.full((64, 96), 7.0)
    into = [("tied", own), ("permuted", torch.zeros(300, 40).T), ("slice", room[:, :50]), ("also", own)]
    source = Source(
        WeightSet(named, MIB),
        IDENTITY,
        options_of({}),
        rank=0,
        group="netloader",
        model_path="/m",
        bind_ip="127.0.0.1",
    )
    joiner = Joiner()
    joiner.weights = WeightSet(into, MIB)
    try:
        received = joiner.receive(source.start())
    finally:
        source.stop()
    assert received.bytes == joiner.weights.total_bytes < sum(t.nbytes for _, t in named)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(named, into, strict=True))
    assert (room[:, 50:] == 7.0).all()


def test_many_at_once() -> None:
    with Seed() as seed:
        joiners = [Joiner() for _ in range(6)]
        threads = [threading.Thread(target=joiner.receive, args=(seed.address,)) for joiner in joiners]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [joiner.digest for joiner in joiners] == [seed.digest] * 6
        assert seed.source.tally.joiners == 6


def test_more_than_can_be_served_wait_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shop, "MOST_SERVED", 1)
    with Seed(bandwidth_bytes_s=4.0 * MIB) as seed:
        joiners = [Joiner() for _ in range(3)]
        results: list[Any] = []
        threads = [
            threading.Thread(target=lambda j=joiner: results.append(j.receive(seed.address)))
            for joiner in joiners
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [joiner.digest for joiner in joiners] == [seed.digest] * 3
        told = {attempt.reason for received in results for attempt in received.attempts}
        assert told and all("busy" in reason for reason in told)


# Who is not served ------------------------------------------------------------------------------------

FIELDS = {
    "architecture": "OtherForCausalLM",
    "config_digest": "decaf",
    "dtype": "float16",
    "quantization": "fp8",
    "revision": "v2",
    "tp_size": 2,
    "pp_rank": 1,
    "dp_rank": 1,
    "ep_size": 4,
    "global_rank": 3,
    "group": "draft",
    "vllm_version": "0.31.0",
    "device_kind": "npu",
}


@pytest.mark.parametrize("field", FIELDS)
def test_another_identity_is_refused_by_name(field: str) -> None:
    with Seed() as seed:
        reason = refusal(Joiner(identity={field: FIELDS[field]}), seed.address)
        assert field in reason and repr(FIELDS[field]) in reason and repr(getattr(IDENTITY, field)) in reason


def test_every_field_that_differs_is_named() -> None:
    with Seed() as seed:
        reason = refusal(Joiner(identity=FIELDS), seed.address)
        assert all(field in reason for field in FIELDS)


@pytest.mark.parametrize(
    ("form", "named"),
    [
        ({"dtype": "float16"}, "dtype float16 here, bfloat16 at the source"),
        ({"reversed": True}, "order"),
        ({"large_mib": 4}, "shape"),
        ({"small": 19}, "only at the source"),
        ({"small": 21}, "is not at the source"),
        ({"extra": {"lm_head.extra": [2, 2]}}, "lm_head.extra"),
    ],
)
def test_other_tensors_are_refused(form: dict[str, Any], named: str) -> None:
    with Seed() as seed:
        assert named in refusal(Joiner(model=form), seed.address)
        eventually(lambda: seed.source.services == 0, "the source lets go of a joiner that refused")


@pytest.mark.parametrize(
    ("theirs", "ours", "words"),
    [
        ("the token of the site", "another token....", "token"),
        ("the token of the site", None, "token"),
        (None, "the token of the site", "token"),
    ],
    ids=["wrong", "joiner has none", "source has none"],
)
def test_without_the_same_token_nobody_is_served(theirs: str | None, ours: str | None, words: str) -> None:
    with Seed(token=theirs) as seed:
        reason = refusal(Joiner(token=ours), seed.address)
        assert words in reason
        assert all(token not in reason for token in (theirs, ours) if token)
        assert seed.source.tally.bytes == 0


def test_the_same_token() -> None:
    with Seed(token="the token of the site") as seed:
        joiner = Joiner(token="the token of the site")
        assert joiner.receive(seed.address).verified
        assert joiner.digest == seed.digest


def test_transports_that_do_not_meet_are_refused() -> None:
    with Seed() as seed:
        assert "TRANSPORT: host on both ends" in refusal(Joiner(transport="host"), seed.address)


def test_through_host_memory() -> None:
    with Seed(transport="host") as seed:
        joiner = Joiner(transport="host", identity={"device_kind": "npu"})
        assert joiner.receive(seed.address).verified
        assert joiner.digest == seed.digest


def test_without_digests_only_where_that_was_asked_for() -> None:
    plain = WeightSet(Seed().model, MIB).manifest
    with Seed(holdings=Holdings.whole(plain)) as seed:
        assert "no digests" in refusal(Joiner(), seed.address)
        joiner = Joiner(verify="if-offered")
        received = joiner.receive(seed.address)
        assert not received.verified and received.content_id is None
        assert joiner.digest == seed.digest


def test_a_draft_joiner_is_sent_on_to_the_draft_listener() -> None:
    form = {"seed": 2, "small": 3, "large": 1}
    with Seed() as target, Seed(model=form, group="netloader_draft", identity={"group": "draft"}) as draft:
        joiner = Joiner(model=form, group="netloader_draft", identity={"group": "draft"})
        assert "netloader_draft" in refusal(joiner, target.address)
        target.source.announce("netloader_draft", draft.address)
        received = joiner.receive(target.address)
        assert received.source == str(draft.address)
        assert joiner.digest == draft.digest


# What goes wrong on the way ---------------------------------------------------------------------------


@pytest.mark.parametrize("position", [5, 3 * MIB + 17], ids=["first chunk", "fourth chunk"])
def test_a_turned_bit_is_caught_and_fetched_again_elsewhere(turned_bit: Any, position: int) -> None:
    turned_bit(position)
    with Seed() as first, Seed() as second:
        joiner = Joiner()
        received = joiner.receive(first.address, second.address)
        assert received.verified and received.source == str(second.address)
        assert joiner.digest == first.digest
        assert [attempt.phase for attempt in received.attempts] == ["digest"]
        # What was verified before is not sent again.
        chunks = len(first.weights.manifest.chunks)
        before = 0 if position < MIB else 3
        assert second.source.tally.chunks == chunks - before


def test_a_turned_bit_with_one_source_only(turned_bit: Any) -> None:
    turned_bit(5)
    with Seed() as seed:
        joiner = Joiner()
        assert joiner.receive(seed.address).verified
        assert joiner.digest == seed.digest


def test_bytes_that_are_wrong_twice_end_the_load(turned_bit: Any) -> None:
    turned_bit(5)
    turned_bit(5)  # turns the same bit back,
    turned_bit(6)  # and two other ones, one in each attempt
    turned_bit(MIB // 8 + 7)
    with Seed(model={"large": 1, "small": 0, "large_mib": 0.125}) as seed:
        joiner = Joiner(model={"large": 1, "small": 0, "large_mib": 0.125})
        with pytest.raises(NoSource) as caught:
            joiner.receive(seed.address, seed.address)
        assert [attempt.phase for attempt in caught.value.attempts] == ["digest", "digest"]


def test_the_next_source_goes_on_where_the_first_was_killed() -> None:
    options = {"bandwidth_bytes_s": 8.0 * MIB}
    with actors.seed(options=options) as first, Seed() as second:
        joiner = Joiner()
        address = first.event("listening")["address"]
        received: list[Any] = []
        thread = threading.Thread(target=lambda: received.append(joiner.receive(address, second.address)))
        thread.start()
        eventually(lambda: first.ask("tally")["chunks"] >= 4, "some chunks are sent")
        first.kill()
        thread.join(60)
        assert joiner.digest == second.digest
        assert received[0].verified and len(received[0].attempts) == 1
        resent = second.source.tally.chunks
        assert resent <= len(second.weights.manifest.chunks) - 2, "it began anew"


def test_other_content_at_the_next_source_is_taken_from_the_beginning() -> None:
    with actors.seed(options={"bandwidth_bytes_s": 8.0 * MIB}) as first, Seed(model={"seed": 9}) as second:
        joiner = Joiner()
        address = first.event("listening")["address"]
        thread = threading.Thread(target=lambda: joiner.receive(address, second.address))
        thread.start()
        eventually(lambda: first.ask("tally")["chunks"] >= 4, "some chunks are sent")
        first.kill()
        thread.join(60)
        assert joiner.digest == second.digest
        assert second.source.tally.chunks == len(second.weights.manifest.chunks)


def test_the_time_for_the_whole_load_ends() -> None:
    with Seed(bandwidth_bytes_s=1.0 * MIB) as seed:
        joiner = Joiner(timeouts={"total_s": 1.5})
        with pytest.raises(NoSource) as caught:
            joiner.receive(seed.address, seed.address)
        assert caught.value.attempts
        eventually(lambda: seed.source.services == 0, "the source lets go")


def test_nobody_there() -> None:
    with Seed() as seed:
        address = seed.address
    with pytest.raises(NoSource) as caught:
        Joiner().receive(address)
    assert caught.value.attempts[0].phase == "connect"


def test_a_taken_port_and_a_foreign_address_are_told() -> None:
    with Seed() as seed:
        for host, port, words in [
            ("127.0.0.1", seed.address.port, "the port is taken"),
            ("192.0.2.1", 0, "no such address"),
        ]:
            source = Source(
                seed.weights,
                IDENTITY,
                seed.options,
                rank=0,
                group="g",
                model_path="/m",
                bind_ip=host,
                port=port,
            )
            with pytest.raises(ListenError, match=words):
                source.start()


def test_a_source_that_stops_ends_its_sends() -> None:
    with Seed(bandwidth_bytes_s=2.0 * MIB) as seed:
        joiner = Joiner()
        failed: list[NoSource] = []

        def receive() -> None:
            try:
                joiner.receive(seed.address)
            except NoSource as error:
                failed.append(error)

        thread = threading.Thread(target=receive)
        thread.start()
        eventually(lambda: seed.source.tally.chunks >= 2, "it sends")
        seed.source.stop()
        thread.join(30)
        assert not thread.is_alive() and failed
        assert "stopped" in str(failed[0]) or "lost" in str(failed[0])
