"""Weights that change while they are sent, or before: the send ends, and nobody uses what it got."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from ascendctl.netloader.engine.joining import NoSource
from ascendctl.netloader.engine.weight_version import WeightsChanged, WeightVersion
from tests.e2e.engine.engines import MIB, Joiner, Seed, eventually


def test_a_change_waits_for_the_sends_it_ended() -> None:
    version = WeightVersion()
    told: list[str] = []
    leave, left = threading.Event(), threading.Event()

    def send() -> None:
        with version.sending(told.append) as sending:
            leave.wait(30)
            with pytest.raises(WeightsChanged, match="sleep mode"):
                sending.check()
        left.set()

    thread = threading.Thread(target=send)
    thread.start()
    eventually(lambda: bool(version._sends), "the send is registered")
    begun: list[bool] = []
    changer = threading.Thread(target=lambda: begun.append(version.begin_change("sleep mode")))
    changer.start()
    eventually(lambda: told == ["sleep mode"], "the send is told")
    assert not begun and version.servable == (False, "sleep mode")
    leave.set()
    changer.join(30)
    thread.join(30)
    assert begun == [True] and left.is_set()
    before = version.current
    version.end_change("sleep mode")
    assert version.servable == (True, "") and version.current == before + 1


def test_a_send_that_does_not_let_go_holds_a_change_up_only_so_long() -> None:
    version = WeightVersion(leave_timeout_s=0.2)
    with version.sending(lambda reason: None):
        assert version.begin_change("weight update") is False


def test_no_send_begins_during_a_change_and_an_old_one_does_not_go_on_after_it() -> None:
    version = WeightVersion()
    with version.changing("weight update"), pytest.raises(WeightsChanged, match="weight update"):
        version.sending(lambda reason: None).__enter__()
    version = WeightVersion(leave_timeout_s=0.01)
    with version.sending(lambda reason: None) as sending:
        with version.changing("weight update"):
            pass
        with pytest.raises(WeightsChanged, match="version 0 became 1"):
            sending.check()


def test_nested_changes_and_an_end_without_its_begin() -> None:
    version = WeightVersion()
    version.end_change("wake-up")
    assert version.current == 0
    version.begin_change("sleep mode")
    with version.changing("weight update"):
        pass
    assert version.servable == (False, "sleep mode")
    version.end_change("sleep mode")
    assert version.servable[0] and version.current == 2


def test_retired_weights_are_never_sent_again() -> None:
    version = WeightVersion()
    version.retire("changed in place")
    with version.changing("sleep mode"):
        pass
    assert version.servable == (False, "changed in place")


@pytest.mark.parametrize("reason", ["sleep mode", "weight update", "expert re-balancing"])
def test_f19_a_change_during_a_send_ends_it_and_the_next_join_gets_the_new_weights(reason: str) -> None:
    with Seed(bandwidth_bytes_s=6.0 * MIB) as seed:
        joiner = Joiner()
        outcome: list[Any] = []

        def receive() -> None:
            try:
                outcome.append(joiner.receive(seed.address))
            except NoSource as error:
                outcome.append(error)

        thread = threading.Thread(target=receive)
        thread.start()
        eventually(lambda: seed.source.tally.chunks >= 3, "it sends")
        old = seed.digest
        started_s = time.monotonic()
        seed.source.version.begin_change(reason)
        held_up_s = time.monotonic() - started_s
        assert held_up_s < 5.0, "the change was held up by a joiner"
        for _, tensor in seed.model:
            tensor.add_(1)
        # While it lasts, joiners are refused with the reason.
        with pytest.raises(NoSource, match=reason):
            Joiner().receive(seed.address)
        thread.join(30)
        assert isinstance(outcome[0], NoSource) and reason in str(outcome[0])
        seed.source.version.end_change(reason)
        after = Joiner()
        received = after.receive(seed.address)
        assert after.digest == seed.digest != old
        assert received.weights_version == seed.source.version.current


def test_f19_a_change_that_nobody_announced_is_caught_by_the_digests() -> None:
    with Seed() as seed:
        Joiner().receive(seed.address)  # the digests of the old state are made by now
        seed.model[3][1].add_(1)
        with pytest.raises(NoSource) as caught:
            Joiner().receive(seed.address)
        assert {attempt.phase for attempt in caught.value.attempts} == {"digest"}


def test_a_joiner_resumes_after_a_change_from_the_beginning() -> None:
    with Seed(bandwidth_bytes_s=6.0 * MIB) as seed, Seed(model={"seed": 5}) as other:
        joiner = Joiner()
        thread = threading.Thread(target=lambda: joiner.receive(seed.address, other.address))
        thread.start()
        eventually(lambda: seed.source.tally.chunks >= 3, "it sends")
        with seed.source.version.changing("weight update"):
            pass
        thread.join(30)
        assert joiner.digest == other.digest
        assert other.source.tally.chunks == len(other.weights.manifest.chunks)
