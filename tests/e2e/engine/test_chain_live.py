"""Chains of real processes: each passes on what it verified, and the loss of any member costs little."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pytest

from ascendctl.netloader.engine import receiving
from ascendctl.netloader.engine.digest import Digester
from ascendctl.netloader.engine.holdings import Holdings
from ascendctl.netloader.engine.joining import NoSource
from ascendctl.netloader.engine.source import Source
from tests.e2e.engine import actors
from tests.e2e.engine.engines import MIB, Joiner, Seed, eventually, legacy_of

MODEL = {"small": 20, "large": 16, "large_mib": 1}
CHUNKS = 17
SLOW = {"chain": True, "bandwidth_bytes_s": 6.0 * MIB}
FAST = {"chain": True}


def verified(actor: actors.Actor, chunks: int) -> None:
    """Waits until it holds so many chunks."""
    while actor.event("verified")["chunks"] < chunks:
        pass


def test_joiners_are_chained_and_the_seed_sends_once() -> None:
    with contextlib.ExitStack() as stack:
        seed = stack.enter_context(Seed(model=MODEL, **SLOW))
        members = []
        for _ in range(4):
            member = stack.enter_context(
                actors.joiner([str(seed.address)], chain=True, options=SLOW, model=MODEL)
            )
            members.append((member, member.event("listening")["address"]))
            verified(member, 1)
        parent = str(seed.address)
        for member, address in members:
            received = member.event("received")
            assert received["source"] == parent and received["verified"] and not received["attempts"]
            assert received["digest"] == seed.digest
            parent = address
        assert seed.source.tally.chunks == CHUNKS
        for member, _ in members[:-1]:
            assert member.ask("tally")["chunks"] == CHUNKS


@pytest.mark.parametrize("fate", ["killed", "stopped"])
def test_a_member_in_the_middle_is_lost_and_its_child_goes_on_where_it_was(fate: str) -> None:
    with contextlib.ExitStack() as stack:
        seed = stack.enter_context(Seed(model=MODEL, **SLOW))
        members = []
        for _ in range(3):
            member = stack.enter_context(
                actors.joiner([str(seed.address)], chain=True, options=SLOW, model=MODEL)
            )
            members.append((member, member.event("listening")["address"]))
            verified(member, 1)
        (first, first_address), (middle, middle_address), (last, _) = members
        verified(last, 5)
        if fate == "killed":
            middle.kill()
        else:
            middle.stop()
        to_middle = first.ask("tally")["chunks"]
        received = last.event("received")
        assert received["verified"] and received["digest"] == seed.digest
        # The nearest ancestor that is left feeds it, from the last verified chunk on.
        assert received["source"] == first_address
        assert [attempt[0] for attempt in received["attempts"]] == [middle_address]
        assert first.event("received")["digest"] == seed.digest
        assert seed.source.tally.chunks == CHUNKS
        # Nothing that was verified came a second time,
        assert received["bytes"] == seed.weights.total_bytes
        if fate == "killed":
            # and the ancestor sent no more than the rest (two may have been on their way to the lost one).
            assert first.ask("tally")["chunks"] - to_middle <= CHUNKS - 5 + 2


def test_the_seed_is_lost_and_the_chain_goes_on_from_another() -> None:
    with contextlib.ExitStack() as stack:
        seed = stack.enter_context(actors.seed(options=SLOW, model=MODEL))
        other = stack.enter_context(Seed(model=MODEL, **FAST))
        sources = [seed.event("listening")["address"], str(other.address)]
        members = []
        for _ in range(3):
            member = stack.enter_context(actors.joiner(sources, chain=True, options=SLOW, model=MODEL))
            member.event("listening")
            verified(member, 1)
            members.append(member)
        verified(members[0], 5)
        seed.kill()
        for member in members:
            received = member.event("received")
            assert received["verified"] and received["digest"] == other.digest
        # Only the head came over; the others went on hanging where they hung.
        assert other.source.tally.joiners == 1
        assert other.source.tally.chunks <= CHUNKS - 4


def test_a_member_that_gives_up_lets_its_children_go_elsewhere() -> None:
    """The head of the chain has no other source when the seed is killed: it fails, and its child, which has
    one, is told so at once and goes there."""
    with contextlib.ExitStack() as stack:
        seed = stack.enter_context(actors.seed(options=SLOW, model=MODEL))
        other = stack.enter_context(Seed(model=MODEL, **FAST))
        address = seed.event("listening")["address"]
        head = stack.enter_context(actors.joiner([address], chain=True, options=SLOW, model=MODEL))
        verified(head, 2)
        child = stack.enter_context(
            actors.joiner([address, str(other.address)], chain=True, options=SLOW, model=MODEL)
        )
        verified(child, 2)
        seed.kill()
        head.event("failed")
        received = child.event("received")
        assert received["digest"] == other.digest and received["source"] == str(other.address)
        assert other.source.tally.chunks <= CHUNKS - 2


def test_a_bit_that_turns_in_the_middle_is_not_passed_on() -> None:
    with contextlib.ExitStack() as stack:
        seed = stack.enter_context(Seed(model=MODEL, **SLOW))
        address = str(seed.address)
        flips = stack.enter_context(
            actors.joiner([address], chain=True, options=SLOW, model=MODEL, flip=6 * MIB + 5)
        )
        verified(flips, 1)
        child = stack.enter_context(actors.joiner([address], chain=True, options=SLOW, model=MODEL))
        first, second = flips.event("received"), child.event("received")
        assert [attempt[1] for attempt in first["attempts"]] == ["digest"]
        assert first["digest"] == second["digest"] == seed.digest
        assert second["attempts"] == []


def test_what_has_arrived_is_passed_on_only_when_its_digest_was_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    class Slow(Digester):
        """Holds the fourth digest back."""

        submitted = 0

        def submit(self, data: Any, ready_event: Any = None) -> Any:
            pending = super().submit(data, ready_event)
            Slow.submitted += 1
            return _Held(pending) if Slow.submitted == 4 else pending

    class _Held:
        def __init__(self, pending: Any) -> None:
            self._pending = pending

        def result(self, timeout_s: float | None = None) -> bytes:
            arrived.set()
            go_on.wait(30)
            return bytes(self._pending.result(timeout_s))

    with Seed(model=MODEL, **FAST) as seed:
        eventually(lambda: seed.source.holdings.complete, "the seed has digested")
        monkeypatch.setattr(receiving, "Digester", Slow)
        joiner = Joiner(model=MODEL, **FAST)
        relay = Source(
            joiner.weights,
            joiner.identity,
            joiner.options,
            rank=0,
            group="netloader",
            model_path="/m/tiny",
            bind_ip="127.0.0.1",
            holdings=Holdings(),
        )
        relay.start()
        thread = threading.Thread(target=lambda: joiner.receive(seed.address, relay=relay))
        try:
            thread.start()
            assert arrived.wait(30)
            assert relay.holdings.verified == 3 and not relay.holdings.complete
            go_on.set()
            thread.join(30)
            assert relay.holdings.complete
        finally:
            relay.stop()


def test_an_incomplete_relay_serves_what_it_has_and_says_when_it_has_failed() -> None:
    with Seed(model=MODEL, **FAST) as seed:
        held = Joiner(model=MODEL, **FAST)
        holdings = Holdings()
        relay = Source(
            held.weights,
            held.identity,
            held.options,
            rank=0,
            group="netloader",
            model_path="/m/tiny",
            bind_ip="127.0.0.1",
            holdings=holdings,
            legacy=legacy_of(held.model),
        )
        address = relay.start()
        child = Joiner(model=MODEL)
        outcome: list[Any] = []

        def receive() -> None:
            try:
                outcome.append(child.receive(address))
            except NoSource as error:
                outcome.append(error)

        thread = threading.Thread(target=receive)
        try:
            thread.start()
            eventually(lambda: relay.services == 1, "the child waits for the relay's manifest")
            Joiner(model=MODEL, **FAST).receive(seed.address, relay=None)
            edition = seed.source.holdings.edition(10.0)
            assert edition is not None
            holdings.begin(edition.manifest)
            eventually(lambda: relay.services == 1 and not outcome, "it still waits")
            holdings.fail("the engine here did not get its own weights")
            thread.join(30)
            assert isinstance(outcome[0], NoSource) and "did not get its own weights" in str(outcome[0])
            assert child.untouched
        finally:
            relay.stop()
