"""The hooks around a worker's methods, on stand-ins for vLLM's workers: sleep mode, updates, re-balancing.

vLLM's CPU workers cannot really sleep, update weights or re-balance experts: what those do to the weights is
played here; that vLLM calls these methods on its workers is shown by `test_vllm_join`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("vllm", reason="the hooks also wrap vLLM's own classes: make test-e2e")

from ascendctl.netloader.engine import weight_hooks
from ascendctl.netloader.engine.weight_version import WeightsChanged, WeightVersion


class Engine:
    """Weights that are watched, the version that joiners see, and what the status was told."""

    def __init__(self) -> None:
        self.version = WeightVersion(leave_timeout_s=5.0)
        self.content = b"weights"
        self.told: list[tuple[bool, str]] = []

    def changed(self) -> str | None:
        return None if self.content == b"weights" else "they are not what they were"

    def tell(self) -> None:
        self.told.append(self.version.servable)


class StandIn:
    """As far as the hooks see it, a worker of vLLM. `during` is what was servable inside each call."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.during: dict[str, tuple[bool, str]] = {}
        self.fails = False

    def _called(self, name: str) -> None:
        self.during[name] = self.engine.version.servable
        if self.fails:
            raise RuntimeError("it did not work")

    def sleep(self, level: int = 1) -> None:
        self._called("sleep")
        if level == 2:
            self.engine.content = b""

    def wake_up(self, tags: list[str] | None = None) -> None:
        self._called("wake_up")

    def discard(self, tags: tuple[str, ...]) -> None:
        self._called("discard")

    def start_weight_update(self) -> None:
        self._called("start_weight_update")

    def update_weights(self, update_info: object) -> None:
        self._called("update_weights")

    def reload_weights(self, *args: object) -> None:
        self._called("reload_weights")


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    stop = weight_hooks.watch(weight_hooks.Watched(engine.version, engine.changed, engine.tell))
    yield engine
    stop()


@pytest.fixture
def worker(engine: Engine) -> StandIn:
    class Worker(StandIn):
        """A class of its own for each test: hooks stay on a class."""

    missing = weight_hooks.install(Worker)
    assert missing == (
        "start_draft_weight_update",
        "finish_weight_update",
        "reset_weights",
        "elastic_ep_execute",
    )
    weight_hooks.install(Worker)  # a second model in the process
    return Worker(engine)


def test_sleep_and_wake(engine: Engine, worker: StandIn) -> None:
    worker.sleep()
    assert worker.during["sleep"] == (False, "sleep mode"), "joiners were refused before memory was freed"
    worker.wake_up(["kv_cache"])
    assert engine.version.servable == (False, "sleep mode"), "the weights sleep on"
    worker.wake_up(["weights"])
    assert worker.during["wake_up"] == (False, "sleep mode"), "nobody is served before the weights are back"
    assert engine.version.servable == (True, "") and engine.version.current == 1
    assert engine.told[0] == (False, "sleep mode") and engine.told[-1] == (True, "")


def test_sleep_twice_wakes_once(engine: Engine, worker: StandIn) -> None:
    worker.sleep()
    worker.sleep()
    worker.wake_up()
    assert engine.version.servable == (True, "")


def test_weights_thrown_away_by_sleep_are_not_served(engine: Engine, worker: StandIn) -> None:
    worker.sleep(2)
    worker.wake_up()
    assert engine.version.servable == (False, "they are not what they were")


def test_sleep_that_fails_is_none(engine: Engine, worker: StandIn) -> None:
    worker.fails = True
    with pytest.raises(RuntimeError, match="did not work"):
        worker.sleep()
    assert engine.version.servable == (True, "")


def test_a_send_under_way_ends_before_the_change(engine: Engine, worker: StandIn) -> None:
    told: list[str] = []
    with pytest.raises(WeightsChanged), engine.version.sending(told.append) as sending:
        engine.version._leave_timeout_s = 0.0  # this thread both sends and sleeps
        worker.sleep()
        assert told == ["sleep mode"]
        sending.check()


@pytest.mark.parametrize("method", ["update_weights", "reload_weights", "discard"])
def test_changes_that_are_final(engine: Engine, worker: StandIn, method: str) -> None:
    getattr(worker, method)(("weights",))
    assert not worker.during[method][0], "joiners were refused before anything changed"
    assert not engine.version.servable[0] and engine.told[-1] == engine.version.servable
    worker.sleep()
    worker.wake_up()
    assert not engine.version.servable[0], "a later sleep does not bring them back"


def test_discarding_the_cache_changes_no_weights(engine: Engine, worker: StandIn) -> None:
    worker.discard(("kv_cache",))
    assert engine.version.servable == (True, "")


def test_an_update_that_does_not_start_changes_nothing(engine: Engine, worker: StandIn) -> None:
    worker.fails = True
    with pytest.raises(RuntimeError, match="did not work"):
        worker.start_weight_update()
    assert worker.during["start_weight_update"] == (False, "a weight update")
    assert engine.version.servable == (True, "")
    worker.fails = False
    worker.start_weight_update()
    assert engine.version.servable == (False, "a weight update")


def test_expert_rebalancing(engine: Engine, worker: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """On vLLM's own EPLB state; what is inside needs groups of several ranks and is not run."""
    from vllm.distributed.eplb import eplb_state

    moved: list[tuple[bool, str]] = []

    class State(eplb_state.EplbState):
        def __init__(self) -> None:
            pass

        def rearrange(self, is_profile: bool = False) -> None:  # type: ignore[override]
            moved.append(engine.version.servable)

    monkeypatch.setattr(eplb_state, "EplbState", State)
    weight_hooks.install(type(worker))
    State().rearrange(is_profile=True)
    State().rearrange(True)
    assert moved == [(True, ""), (True, "")], "while memory is profiled nothing moves"
    State().rearrange()
    assert moved[2] == (False, "expert re-balancing")
    assert engine.version.servable == (False, "expert re-balancing")
