"""One rank's engine without vLLM: what it says and does where it cannot listen, join or serve."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ascendctl.netloader.engine import rank_engine, weight_hooks
from ascendctl.netloader.engine.address import Address
from ascendctl.netloader.engine.joining import receive_weights
from ascendctl.netloader.engine.kept import Kept
from ascendctl.netloader.engine.options import DRAFT_GROUP, OptionsError
from ascendctl.netloader.engine.rank_engine import RankEngine, Seat
from ascendctl.netloader.engine.shop import LegacyTensors
from ascendctl.netloader.engine.weights import WeightSet
from tests.e2e.engine.engines import IDENTITY, model_of, options_of

HOST = "127.0.0.31"
CPU = torch.device("cpu")
Named = list[tuple[str, torch.Tensor]]


class Engines:
    """Makes engines whose status files are in `folder`, and closes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: list[RankEngine] = []

    def make(self, *, draft: bool = False, bind_ip: str | None = HOST, **options: Any) -> RankEngine:
        prefix = f"{self.folder}/{len(self._made)}."
        engine = RankEngine(
            Seat(0, draft, "/models/tiny", bind_ip, CPU), options_of({"output_prefix": prefix, **options})
        )
        engine.identity = replace(IDENTITY, group="draft" if draft else "target")
        self._made.append(engine)
        return engine

    def serving(self, named: Named, **given: Any) -> RankEngine:
        engine = self.make(**given)
        engine.keeps(Kept.before(named, chunk_bytes=engine.options.chunk_bytes))
        engine.serve(None, LegacyTensors())
        return engine

    def status(self, engine: RankEngine) -> dict[str, Any]:
        name = f"{self._made.index(engine)}.0{'.draft' if engine.seat.draft else ''}.json"
        content: dict[str, Any] = json.loads((self.folder / name).read_text())
        return content

    def close(self) -> None:
        for engine in self._made:
            engine.close("the test is over")
            engine.status.remove()


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engines]:
    monkeypatch.setattr(rank_engine, "_node", rank_engine._Node())
    made = Engines(tmp_path)
    yield made
    made.close()


def joined(source: Address, **given: Any) -> tuple[Named, str]:
    """A plain joiner's tensors, and who brought them."""
    named = model_of({}, filled=False)
    received = receive_weights(
        WeightSet(named, given["options"].chunk_bytes),
        given["identity"],
        given["options"],
        rank=0,
        group=given["group"],
        model_path="/models/tiny",
        sources=(source,),
    )
    return named, received.source


def test_no_address_of_its_own(engines: Engines) -> None:
    """F20: it serves its users, runs without a listener, and says so."""
    status = engines.status(engines.serving(model_of({}, filled=True), bind_ip=None))
    assert status["state"] == "ready" and status["listener"]["accepting"] is False
    assert status["serving"]["serving"] is False and "VLLM_HOST_IP" in status["serving"]["reason"]


def test_port_that_is_taken(engines: Engines) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        status = engines.status(engines.serving(model_of({}, filled=True), listen_port=port))
    assert status["state"] == "ready" and status["listener"]["accepting"] is False
    assert status["serving"]["serving"] is False and f"{HOST}:{port}" in status["serving"]["reason"]


def test_port_beyond_the_last_one(engines: Engines) -> None:
    engines.make(listen_port=60_000)
    with pytest.raises(OptionsError, match="LISTEN_PORT"):
        engines.make(listen_port=60_000, draft=True)


def test_post_processing_changed_what_was_kept(engines: Engines) -> None:
    """The listener is there and refuses with the reason; a joiner does not have to guess."""
    named = model_of({}, filled=True)
    engine = engines.make()
    kept = Kept.before(named, chunk_bytes=engine.options.chunk_bytes)
    engine.keeps(kept)
    named[0][1].add_(1)
    assert kept.after()
    engine.serve(kept.unservable, LegacyTensors())
    serving = engines.status(engine)["serving"]
    assert serving["serving"] is False and named[0][0] in serving["reason"]
    with pytest.raises(Exception, match="post-processing changed weights"):
        joined(_address(engine), options=engine.options, identity=engine.identity, group=engine.seat.group)


def test_draft_model_is_found_at_its_targets_port(engines: Engines) -> None:
    """F13, without a real draft model: no LISTEN_PORT, so both ports are any ones; a joiner knows one."""
    target = engines.serving(model_of({"seed": 1}, filled=True))
    draft = engines.serving(model_of({"seed": 2}, filled=True), draft=True)
    assert engines.status(draft)["listener"]["port"] == _address(draft).port != _address(target).port
    named, source = joined(
        _address(target), options=draft.options, identity=draft.identity, group=DRAFT_GROUP
    )
    assert source == str(_address(draft))
    expected = model_of({"seed": 2}, filled=True)
    assert all(torch.equal(got, sent) for (_, got), (_, sent) in zip(named, expected, strict=True))


def test_a_load_anew_closes_the_listener_of_the_first(engines: Engines) -> None:
    first = engines.serving(model_of({"seed": 1}, filled=True))
    before = _address(first)
    second = engines.serving(model_of({"seed": 2}, filled=True))
    with pytest.raises(OSError), socket.create_connection((before.host, before.port), timeout=5):
        pass
    named, _ = joined(
        _address(second), options=second.options, identity=second.identity, group=second.seat.group
    )
    assert torch.equal(named[0][1], model_of({"seed": 2}, filled=True)[0][1])


def test_a_defect_while_joining_is_a_reason(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(rank_engine, "receive_weights", breaks)
    engine = engines.make(sources={0: (Address(HOST, 9),)})
    weights = WeightSet(model_of({}, filled=False), engine.options.chunk_bytes)
    assert engine.join(weights, LegacyTensors()) == "ZeroDivisionError: a defect"


def test_sleep_that_loses_the_weights(engines: Engines) -> None:
    """Level 2 as a GPU worker does it: the memory holds something else after the wake-up."""
    named = model_of({}, filled=True)
    engine = engines.serving(named)

    class Worker:
        def sleep(self, level: int = 1) -> None:
            if level == 2:
                named[-1][1].zero_()

        def wake_up(self, tags: list[str] | None = None) -> None:
            pass

    weight_hooks.install(Worker)
    worker = Worker()
    worker.sleep(1)
    assert engines.status(engine)["serving"] == {"serving": False, "reason": "sleep mode"}
    worker.wake_up()
    assert engines.status(engine)["serving"] == {"serving": True, "reason": None}
    joined(_address(engine), options=engine.options, identity=engine.identity, group=engine.seat.group)
    worker.sleep(2)
    worker.wake_up()
    assert "not those from before the sleep" in engines.status(engine)["serving"]["reason"]
    with pytest.raises(Exception, match="not those from before the sleep"):
        joined(_address(engine), options=engine.options, identity=engine.identity, group=engine.seat.group)


def _address(engine: RankEngine) -> Address:
    assert engine.address is not None
    return engine.address
