"""Links between two real processes: bytes arrive as sent, and whatever the peer does, every wait ends."""

from __future__ import annotations

import importlib
import sys
import threading
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (make test-e2e)")

from ascendctl.netloader.engine.links import choose, hccl, rendezvous  # noqa: E402
from ascendctl.netloader.engine.links.contract import (  # noqa: E402
    MOST_IN_FLIGHT,
    LinkBroken,
    LinkError,
    LinkTimeout,
    checked,
)
from ascendctl.netloader.engine.links.gloo import GlooLink  # noqa: E402
from ascendctl.netloader.engine.links.host import HostLink  # noqa: E402
from tests.e2e.engine.link_ends import End, listening_on  # noqa: E402

GENEROUS_S = 60.0
MIB = 1 << 20
SLOT_BYTES = 1 * MIB
MUCH = 320 * MIB

_GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0


@dataclass(frozen=True)
class Way:
    """A kind of link and the devices of its two ends."""

    name: str
    kind: str
    joiner: str
    source: str
    gpus: int = 0


WAYS = (
    Way("gloo", "gloo", "cpu", "cpu"),
    Way("host with staging", "staged", "cpu", "cpu"),
    Way("cuda_ipc over shared memory", "cuda_ipc", "shared", "shared"),
    Way("nccl", "nccl", "cuda:0", "cuda:1", gpus=2),
    Way("cuda_ipc", "cuda_ipc", "cuda:0", "cuda:0", gpus=1),
    Way("host from GPU to GPU", "host", "cuda:0", "cuda:0", gpus=1),
    Way("host from CPU to GPU", "host", "cuda:0", "cpu", gpus=1),
    Way("host from GPU to CPU", "host", "cpu", "cuda:0", gpus=1),
)


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    wanted: Way = request.param
    if wanted.gpus > _GPUS:
        pytest.skip(f"needs {wanted.gpus} NVIDIA GPU(s); this machine has {_GPUS}")
    return wanted


def _more_than_buffers_hold(way: Way) -> list[int]:
    """Transfers that a sender cannot all hand over without its peer: sockets and slots hold less."""
    return [MUCH if way.kind in ("nccl", "cuda_ipc") and way.gpus else 32 * MIB] * 3


@contextmanager
def ends(way: Way) -> Iterator[tuple[End, End]]:
    """Joiner and source with their link open."""
    with End("joiner", "127.0.0.2", way.joiner) as joiner, End("source", "127.0.0.3", way.source) as source:
        opened(way, joiner, source)
        yield joiner, source


def opened(way: Way, joiner: End, source: End) -> None:
    where = joiner.ask("host")
    what = {"kind": way.kind, "slot_bytes": SLOT_BYTES, "timeout_s": GENEROUS_S, **where}
    joiner.tell("open", **what)
    source.tell("open", **what)
    assert "error" not in joiner.answer()
    assert "error" not in source.answer()


def test_bytes_arrive_as_sent_and_in_order(way: Way) -> None:
    sizes = [[1, 4099], [5 * MIB + 1, 3], [16 * MIB, 2 * SLOT_BYTES, 1, 7]]
    with ends(way) as (joiner, source):
        first = 0
        for some in sizes:
            joiner.ask("post", sizes=some, first=first)
            source.ask("post", sizes=some, first=first)
            first += len(some)
            assert joiner.ask("wait", timeout_s=GENEROUS_S)["right"]
            assert "error" not in source.ask("wait", timeout_s=GENEROUS_S)
        for end in (joiner, source):
            end.ask("close")
            assert end.leave() == 0


@pytest.mark.parametrize("victim", ["source", "joiner"])
def test_a_peer_killed_in_the_middle_costs_neither_the_process_nor_the_next_peer(
    way: Way, victim: str
) -> None:
    with ends(way) as (joiner, source):
        dies, stays = (source, joiner) if victim == "source" else (joiner, source)
        # The one who dies takes part in the first of four transfers only; the others need it, since they
        # are more than the slots of a cuda_ipc link hold.
        size = MUCH if way.kind in ("nccl", "cuda_ipc") and way.gpus else 48 * MIB
        stays.ask("post", sizes=[size] * 4)
        dies.ask("post", sizes=[size])
        stays.tell("wait", timeout_s=3.0)
        dies.kill()
        answer = stays.answer()
        assert answer["error"] in ("LinkBroken", "LinkTimeout"), answer
        if way.kind != "nccl":
            assert answer["error"] == "LinkBroken"
        assert stays.ask("works")["sum"] == 1 << 20
        stays.ask("close")
        if victim == "source":
            with End("source", "127.0.0.3", way.source) as fresh:
                opened(way, stays, fresh)
                _carries(stays, fresh)
        else:
            with End("joiner", "127.0.0.2", way.joiner) as fresh:
                opened(way, fresh, stays)
                _carries(fresh, stays)
        assert stays.leave() == 0


def _carries(joiner: End, source: End) -> None:
    joiner.ask("post", sizes=[4 * MIB])
    source.ask("post", sizes=[4 * MIB])
    assert joiner.ask("wait", timeout_s=GENEROUS_S)["right"]
    assert "error" not in source.ask("wait", timeout_s=GENEROUS_S)


@pytest.mark.parametrize("victim", ["source", "joiner"])
def test_a_peer_that_stops_is_a_timeout_at_the_deadline(way: Way, victim: str) -> None:
    with ends(way) as (joiner, source):
        silent, stays = (source, joiner) if victim == "source" else (joiner, source)
        silent.stop()
        # More than what sockets and slots hold, so that a send cannot end without the peer.
        stays.ask("post", sizes=_more_than_buffers_hold(way))
        answer = stays.ask("wait", timeout_s=2.0)
        assert answer["error"] == "LinkTimeout", answer
        # A sender may hand over what the peer's memory still takes, each within its own deadline.
        assert 1.9 < answer["seconds"] < GENEROUS_S
        assert stays.ask("wait", timeout_s=GENEROUS_S)["error"] == "LinkBroken"
        assert stays.ask("post", sizes=[1])["error"] == "LinkBroken"
        assert stays.ask("works")["sum"] == 1 << 20
        stays.ask("close")
        assert stays.leave() == 0


@pytest.mark.parametrize("who", ["source", "joiner"])
def test_abort_from_another_thread_ends_a_wait(way: Way, who: str) -> None:
    with ends(way) as (joiner, source):
        waits = source if who == "source" else joiner
        waits.ask("post", sizes=_more_than_buffers_hold(way))
        waits.ask("abort-soon", after_s=0.5)
        answer = waits.ask("wait", timeout_s=GENEROUS_S)
        assert answer["error"] == "LinkBroken"
        assert "the test said so" in answer["words"]
        assert answer["seconds"] < GENEROUS_S
        waits.ask("close")
        assert waits.leave() == 0


def test_closing_with_transfers_under_way_ends_them(way: Way) -> None:
    with ends(way) as (joiner, source):
        joiner.ask("post", sizes=[4 * MIB])
        joiner.ask("close")
        assert joiner.ask("wait", timeout_s=GENEROUS_S)["error"] == "LinkBroken"
        assert joiner.leave() == 0
        # The peer hears of it when it posts or when it waits, whichever comes first.
        if way.kind != "nccl":
            answers = [source.ask("post", sizes=[32 * MIB] * 4), source.ask("wait", timeout_s=GENEROUS_S)]
            assert "LinkBroken" in [answer.get("error") for answer in answers]


@pytest.mark.parametrize("alone", ["source", "joiner"])
def test_a_peer_that_does_not_open_is_a_timeout(way: Way, alone: str) -> None:
    with End("joiner", "127.0.0.2", way.joiner) as joiner, End("source", "127.0.0.3", way.source) as source:
        where = joiner.ask("host")
        end = source if alone == "source" else joiner
        what = {"kind": way.kind, "slot_bytes": SLOT_BYTES, "timeout_s": 2.0, **where}
        assert end.ask("open", **what)["error"] == "LinkTimeout"
        assert end.ask("works")["sum"] == 1 << 20
        assert end.leave() == 0


def test_a_gloo_link_listens_on_the_given_address_only() -> None:
    with ends(WAYS[0]) as (joiner, source):
        assert listening_on(joiner.pid) == {"0200007F"}
        assert listening_on(source.pid) == {"0300007F"}


def test_legacy_tensors_arrive_one_by_one() -> None:
    with End("joiner", "127.0.0.2") as joiner, End("source", "127.0.0.3") as source:
        where = joiner.ask("host")
        for end in (joiner, source):
            end.tell("legacy", **where)
        assert "error" not in joiner.answer()
        assert "error" not in source.answer()
        joiner.tell("legacy-receive", count=20)
        source.tell("legacy-send", count=20)
        assert joiner.answer()["right"]
        assert "error" not in source.answer()


@pytest.mark.parametrize(("what", "error"), [("kill", "LinkBroken"), ("stop", "LinkTimeout")])
def test_a_legacy_peer_that_goes_away_ends_the_wait(what: str, error: str) -> None:
    with End("joiner", "127.0.0.2") as joiner, End("source", "127.0.0.3") as source:
        where = joiner.ask("host")
        for end in (joiner, source):
            end.tell("legacy", **where, timeout_s=5.0)
        assert "error" not in joiner.answer()
        assert "error" not in source.answer()
        joiner.tell("legacy-receive", count=20)
        source.kill() if what == "kill" else source.stop()
        assert joiner.answer()["error"] == error
        assert joiner.leave() == 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (torch.zeros(4, dtype=torch.bfloat16), "bfloat16"),
        (torch.zeros((2, 2), dtype=torch.uint8), r"\(2, 2\)"),
        (torch.zeros(8, dtype=torch.uint8)[::2], "contiguous"),
        (torch.zeros(0, dtype=torch.uint8), "empty"),
        (torch.zeros(4, dtype=torch.uint8, device="meta"), "meta"),
    ],
)
def test_what_a_link_cannot_carry_is_told(data: torch.Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        checked(data, torch.device("cpu"))


@contextmanager
def pair(kind: type[Any], **more: Any) -> Iterator[tuple[Any, Any]]:
    """Both ends of a link in this process."""
    hosted = rendezvous.hosted_store("127.0.0.2", GENEROUS_S)
    made: dict[int, Any] = {}

    def make(rank: int) -> None:
        # A store's client is one connection, on which a read that waits holds up every other thread.
        store = rendezvous.joined_store("127.0.0.2", hosted.port, GENEROUS_S) if rank else hosted.store
        inside = rendezvous.prefixed(store, "pair", GENEROUS_S)
        made[rank] = kind(inside, rank, timeout_s=GENEROUS_S, **more)

    threads = [threading.Thread(target=make, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GENEROUS_S)
    try:
        yield made[0], made[1]
    finally:
        for link in made.values():
            link.close()
        hosted.close()


def test_staging_memory_is_bounded_and_used_again() -> None:
    with pair(HostLink, device=torch.device("cpu"), local_ip="127.0.0.2") as (joiner, source):
        seen = set()
        for size in (1000, 4 * MIB, 1000, 4 * MIB, 2000):
            into = torch.zeros(size, dtype=torch.uint8)
            pending = joiner.receive(into)
            seen.add(pending._slot.data_ptr())
            source.send(torch.ones(size, dtype=torch.uint8)).wait(GENEROUS_S)
            pending.wait(GENEROUS_S)
            assert bool((into == 1).all())
        assert len(seen) <= 2
        into = torch.zeros(1, dtype=torch.uint8)
        for _ in range(MOST_IN_FLIGHT):
            joiner.receive(into)
        with pytest.raises(ValueError, match="wait for the oldest"):
            joiner.receive(into)


def test_a_transfer_waited_for_twice_is_done() -> None:
    with pair(GlooLink, local_ip="127.0.0.2") as (joiner, source):
        into = torch.zeros(10, dtype=torch.uint8)
        pending = joiner.receive(into)
        source.send(torch.ones(10, dtype=torch.uint8)).wait(GENEROUS_S)
        pending.wait(GENEROUS_S)
        pending.wait(GENEROUS_S)
        assert bool((into == 1).all())


GPU_A, GPU_B = ("cuda_ipc:aa", "nccl"), ("cuda_ipc:bb", "nccl")


@pytest.mark.parametrize(
    ("own", "theirs", "kind"),
    [
        (("gloo",), ("gloo",), "gloo"),
        (GPU_A, GPU_B, "nccl"),
        (GPU_A, GPU_A, "cuda_ipc"),
        (("hccl",), ("hccl",), "hccl"),
        (("host",), ("host",), "host"),
        (("gloo", "later"), ("later2", "gloo"), "gloo"),
    ],
)
def test_the_link_that_both_can_use_is_chosen_by_both(
    own: tuple[str, ...], theirs: tuple[str, ...], kind: str
) -> None:
    assert choose.chosen(own, theirs) == kind
    assert choose.chosen(theirs, own) == kind


@pytest.mark.parametrize(
    ("own", "theirs", "said"),
    [
        (("gloo",), GPU_A, "a CPU (gloo) here, an NVIDIA GPU (cuda_ipc, nccl) there; TRANSPORT: host"),
        (("hccl",), GPU_A, "an Ascend NPU (hccl) here, an NVIDIA GPU"),
        (("host",), ("gloo",), "this end was started with TRANSPORT: host and the other was not"),
        (("gloo",), ("host",), "the other end was started with TRANSPORT: host and this one was not"),
        (("gloo",), (), "a CPU (gloo) here, no link there"),
        (("gloo",), ("future",), "a CPU (gloo) here, future there"),
        (("later",), ("later",), "no link that this version knows"),
    ],
)
def test_different_kinds_are_refused_with_the_reason(
    own: tuple[str, ...], theirs: tuple[str, ...], said: str
) -> None:
    refusal = choose.chosen(own, theirs)
    assert isinstance(refusal, choose.Refusal)
    assert said in refusal.reason


def test_what_is_offered_follows_the_device() -> None:
    assert choose.offered(torch.device("cpu"), "auto") == ("gloo",)
    assert choose.offered(torch.device("npu:0"), "auto") == ("hccl",) if _knows_npu() else True
    assert choose.offered(torch.device("meta"), "host") == ("host",)
    with pytest.raises(LinkError, match="meta"):
        choose.offered(torch.device("meta"), "auto")


def _knows_npu() -> bool:
    try:
        torch.device("npu:0")
    except RuntimeError:
        return False
    return True


def test_an_unknown_kind_is_told() -> None:
    hosted = rendezvous.hosted_store("127.0.0.2", 5)
    with pytest.raises(LinkError, match="'smoke' is no kind of link"):
        choose.open_link(
            "smoke",
            role="joiner",
            store=hosted.store,
            prefix="p",
            device=torch.device("cpu"),
            local_ip="127.0.0.2",
            timeout_s=5,
        )
    hosted.close()


# HCCL: torch_npu and an NPU cannot be had here. The stand-in below has torch_npu's names and moves the bytes
# over gloo, so it shows that the link calls what it should and ends its waits; not that HCCL works.


class _StandInOptions:
    pass


class _StandInGroup:
    """ProcessGroupHCCL's names, as vllm-ascend's ``netloader_pg`` uses them."""

    Options = _StandInOptions
    watchdogs: list[str | None] = []  # noqa: RUF012
    ids: list[str] = []  # noqa: RUF012

    def __init__(self, store: Any, rank: int, size: int, options: Any) -> None:
        import os

        assert size == 2
        self.watchdogs.append(os.environ.get("HCCL_ASYNC_ERROR_HANDLING"))
        self.ids.append(options.group_id)
        self._group = torch.distributed.ProcessGroupGloo(store, rank, 2, options._timeout)
        self.aborted = False

    def _set_sequence_number_for_group(self) -> None:
        pass

    def send(self, tensors: list[torch.Tensor], peer: int, tag: int) -> _StandInWork:
        return _StandInWork(self, self._group.send(tensors, peer, tag))

    def recv(self, tensors: list[torch.Tensor], peer: int, tag: int) -> _StandInWork:
        return _StandInWork(self, self._group.recv(tensors, peer, tag))

    def abort_hccl_comm(self, words: str) -> None:
        self.aborted = True


class _StandInWork:
    def __init__(self, group: _StandInGroup, work: Any) -> None:
        self.failure: Exception | None = None
        self._group = group
        self._over = threading.Event()
        threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def _run(self, work: Any) -> None:
        from datetime import timedelta

        try:
            work.wait(timedelta(seconds=3))
        except RuntimeError as error:
            self.failure = error
        self._over.set()

    def is_completed(self) -> bool:
        return self._over.is_set()

    def exception(self) -> Exception | None:
        return self.failure


class _StandInStream:
    def __init__(self, device: Any) -> None:
        pass

    def wait_stream(self, other: Any) -> None:
        pass


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[_StandInGroup]:
    @contextmanager
    def of(_: Any) -> Iterator[None]:
        yield

    npu = types.SimpleNamespace(
        Stream=_StandInStream, current_stream=lambda device: None, stream=of, device=of
    )
    module = types.ModuleType("torch_npu._C._distributed_c10d")
    module.ProcessGroupHCCL = _StandInGroup  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_npu", types.ModuleType("torch_npu"))
    monkeypatch.setitem(sys.modules, "torch_npu._C", types.ModuleType("torch_npu._C"))
    monkeypatch.setitem(sys.modules, "torch_npu._C._distributed_c10d", module)
    monkeypatch.setattr(torch, "get_device_module", lambda device: npu)
    monkeypatch.setattr(_StandInGroup, "watchdogs", [])
    monkeypatch.setattr(_StandInGroup, "ids", [])
    return _StandInGroup


def test_hccl_stand_in_carries_bytes_with_the_watchdog_off(
    stand_in: type[_StandInGroup], monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("HCCL_ASYNC_ERROR_HANDLING", "1")
    prefix = rendezvous.group_prefix("127.0.0.2", 40001, "netloader")
    with pair(hccl.HcclLink, device=torch.device("cpu"), prefix=prefix) as (joiner, source):
        into = torch.zeros(3 * MIB, dtype=torch.uint8)
        pending = joiner.receive(into)
        source.send(torch.full((3 * MIB,), 5, dtype=torch.uint8)).wait(GENEROUS_S)
        pending.wait(GENEROUS_S)
        assert bool((into == 5).all())
    assert stand_in.watchdogs == ["0", "0"]
    assert stand_in.ids == ["tcp://127.0.0.2:40001/netloader/"] * 2
    assert os.environ["HCCL_ASYNC_ERROR_HANDLING"] == "1"


def test_hccl_stand_in_waits_end(stand_in: type[_StandInGroup]) -> None:
    with pair(hccl.HcclLink, device=torch.device("cpu"), prefix="p") as (joiner, _):
        group = joiner._group
        began = time.monotonic()
        with pytest.raises(LinkTimeout):
            joiner.receive(torch.zeros(8, dtype=torch.uint8)).wait(0.5)
        assert 0.5 <= time.monotonic() - began < GENEROUS_S
        assert group.aborted
        with pytest.raises(LinkBroken):
            joiner.receive(torch.zeros(8, dtype=torch.uint8))


def test_hccl_stand_in_abort_ends_a_wait(stand_in: type[_StandInGroup]) -> None:
    with pair(hccl.HcclLink, device=torch.device("cpu"), prefix="p") as (_, source):
        pending = source.send(torch.zeros(32 * MIB, dtype=torch.uint8))
        threading.Timer(0.2, source.abort, ["the test said so"]).start()
        with pytest.raises(LinkBroken, match="the test said so"):
            pending.wait(GENEROUS_S)


def test_hccl_stand_in_failure_is_not_taken_for_done(stand_in: type[_StandInGroup]) -> None:
    with pair(hccl.HcclLink, device=torch.device("cpu"), prefix="p") as (joiner, _):
        pending = joiner.receive(torch.zeros(8, dtype=torch.uint8))
        with pytest.raises(LinkBroken, match="HCCL: "):
            pending.wait(GENEROUS_S)


def test_hccl_without_torch_npu_is_told() -> None:
    if importlib.util.find_spec("torch_npu") is not None:
        pytest.skip("torch_npu is installed")
    hosted = rendezvous.hosted_store("127.0.0.2", 5)
    with pytest.raises(LinkError, match="torch_npu"):
        hccl.hccl_group(hosted.store, 0, torch.device("cpu"), "p", 5)
    hosted.close()
