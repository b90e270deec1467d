"""Who counts against the width, and what becomes of the slots of hosts that keep silent."""

from __future__ import annotations

import threading
import time

import pytest

from ascendctl.transport import fanout, slots
from ascendctl.transport.contract import Deadlines, Failure, Job, Outcome, Sink
from ascendctl.transport.descriptors import FOR_THE_REST, PER_HOST, room_within_limit
from ascendctl.transport.fanout import fan_out
from ascendctl.transport.slots import SILENT_AT_FIRST_S, SILENT_LATER_S, Life, Room
from tests.transport.conftest import Collected, eventually
from tests.transport.test_fanout import Behaviour, Fake, jobs, kinds


@pytest.mark.parametrize(
    ("life", "now", "silent"),
    [
        (Life(100.0), 100.0 + SILENT_AT_FIRST_S - 0.1, False),
        (Life(100.0), 100.0 + SILENT_AT_FIRST_S, True),
        (Life(100.0, heard_at=100.5), 100.5 + SILENT_LATER_S - 0.1, False),
        (Life(100.0, heard_at=100.5), 100.5 + SILENT_LATER_S, True),
    ],
)
def test_silence(life: Life, now: float, silent: bool) -> None:
    assert life.is_silent(now) is silent


@pytest.mark.parametrize(
    ("counting", "silent", "left"),
    [(0, 0, 4), (3, 0, 1), (4, 0, 0), (4, 2, 0), (3, 3, 1), (0, 4, 4), (0, 13, 1), (0, 14, 0), (6, 2, 0)],
)
def test_room(counting: int, silent: int, left: int) -> None:
    assert Room(4, 10).left(counting, silent) == left


@pytest.mark.parametrize(
    ("soft_and_hard", "room", "raised_to"),
    [
        (1000, Room(64, 256), 1000),  # exactly what they need
        (700, Room(64, 156), 700),
        (232, Room(64, 0), 232),
        (100, Room(20, 0), 100),
        (10, Room(1, 0), 10),
    ],
)
def test_silent_hosts_get_what_the_descriptors_leave(
    soft_and_hard: int, room: Room, raised_to: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (PER_HOST, FOR_THE_REST) == (3, 40)
    asked: list[int] = []
    monkeypatch.setattr("resource.getrlimit", lambda _: (soft_and_hard, soft_and_hard))
    monkeypatch.setattr("resource.setrlimit", lambda _, limits: asked.append(limits[0]))
    found, warning = room_within_limit(Room(64, 256))
    assert found == room
    assert (warning is None) == (room.width == 64)
    assert asked in ([], [raised_to])


@pytest.fixture
def brief_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "SILENT_AT_FIRST_S", 0.3)
    monkeypatch.setattr(slots, "SILENT_LATER_S", 0.3)
    monkeypatch.setattr(fanout, "LATE_S", 60.0)  # on a busy machine everybody is late


@pytest.fixture
def longer_silence(monkeypatch: pytest.MonkeyPatch, brief_silence: None) -> None:
    """Far longer than from one sign of life to the next, also on a machine that stalls."""
    monkeypatch.setattr(slots, "SILENT_AT_FIRST_S", 1.0)
    monkeypatch.setattr(slots, "SILENT_LATER_S", 1.0)


class Hanging:
    """Hosts whose number is below ``count`` hang until all others are done; some speak first."""

    def __init__(self, count: int, total: int, *, speak_first: bool = False, beat: bool = False) -> None:
        self._count, self._left = count, total - count
        self._speak_first, self._beat = speak_first, beat
        self._lock = threading.Lock()
        self.others_done = threading.Event()
        self.under_way = self.most = 0

    def __call__(self, job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Failure | None:
        with self._lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            if int(job.host.removeprefix("host")) < self._count:
                return self._hang(sink)
            with self._lock:
                self._left -= 1
                if not self._left:
                    self.others_done.set()
            return None
        finally:
            with self._lock:
                self.under_way -= 1

    def _hang(self, sink: Sink) -> Failure:
        if self._speak_first:
            sink.feed(b"FRAME", time.time())
        until = time.monotonic() + 30
        while not self.others_done.wait(0.05) and time.monotonic() < until:
            if self._beat:
                sink.feed(b".", time.time())
        return Failure("timeout", "in time" if self.others_done.is_set() else "the others had to wait")


@pytest.mark.usefixtures("brief_silence")
@pytest.mark.parametrize("speak_first", [False, True])
def test_hosts_that_hang_in_every_slot_stop_nobody(speak_first: bool) -> None:
    """As many black holes in front as three times the width: all others are done before any of them."""
    hanging = Hanging(12, 40, speak_first=speak_first)
    outcomes = fan_out(jobs(40), lambda job: Fake(hanging), lambda job: Collected(), width=4)
    assert kinds(outcomes) == [*["timeout"] * 12, *[""] * 28]
    assert {outcome.failure.detail for outcome in outcomes if outcome.failure} == {"in time"}
    assert hanging.most <= 12 + 4


@pytest.mark.usefixtures("brief_silence")
def test_silent_hosts_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "SILENT_MOST", 5)
    release = threading.Event()

    def hang(job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Failure | None:
        if fake.running == 7:
            full.set()
        release.wait(30)
        return Failure("timeout", "hung")

    full = threading.Event()
    fake = Fake(hang)
    done: list[list[Outcome]] = []
    run = threading.Thread(
        target=lambda: done.append(fan_out(jobs(30), lambda job: fake, lambda job: Collected(), width=2))
    )
    run.start()
    assert full.wait(30)
    time.sleep(1.0)
    assert fake.running == 7
    release.set()
    run.join(30)
    assert kinds(done[0]) == ["timeout"] * 30
    assert fake.most == 7


@pytest.mark.usefixtures("longer_silence")
def test_a_host_that_speaks_keeps_its_slot() -> None:
    hanging = Hanging(2, 6, speak_first=True, beat=True)
    hanging_fake = Fake(hanging)
    release = threading.Timer(2.0, hanging.others_done.set)
    release.start()
    outcomes = fan_out(jobs(6), lambda job: hanging_fake, lambda job: Collected(), width=2)
    assert kinds(outcomes) == ["timeout", "timeout", "", "", "", ""]
    assert hanging.most <= 2


@pytest.mark.usefixtures("longer_silence")
def test_signs_of_life_that_are_no_output_count() -> None:
    def handshake(job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Failure | None:
        for _ in range(40):
            sink.heard()  # type: ignore[attr-defined]
            time.sleep(0.05)
        return None

    fake = Fake(handshake)
    assert kinds(fan_out(jobs(4), lambda job: fake, lambda job: Collected(), width=2)) == [""] * 4
    assert fake.most == 2


@pytest.mark.usefixtures("brief_silence")
def test_who_comes_late_to_looking_lends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "LATE_S", -1.0)

    def slow(job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Failure | None:
        time.sleep(1.0)
        return None

    fake = Fake(slow)
    assert kinds(fan_out(jobs(6), lambda job: fake, lambda job: Collected(), width=2)) == [""] * 6
    assert fake.most == 2


# --- --limit-failures -----------------------------------------------------------------------------


def refusing_from(first: int, kind: str = "refused") -> Behaviour:
    def behave(job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Failure | None:
        return Failure(kind, "no") if int(job.host.removeprefix("host")) >= first else None

    return behave


def test_enough_failures_end_the_run_and_every_host_is_told_of() -> None:
    fake = Fake(refusing_from(3))
    outcomes = fan_out(jobs(12), lambda job: fake, lambda job: Collected(), width=1, limit_failures=4)
    assert kinds(outcomes) == [*[""] * 3, *["refused"] * 4, *["not-attempted"] * 5]
    assert fake.asked == [f"host{number}" for number in range(7)]
    assert {outcome.failure.detail for outcome in outcomes[7:] if outcome.failure} == {
        "--limit-failures 4: 4 hosts could not be asked before its turn (4 refused)"
    }


def test_fewer_failures_than_the_limit_change_nothing() -> None:
    fake = Fake(refusing_from(9))
    outcomes = fan_out(jobs(12), lambda job: fake, lambda job: Collected(), width=1, limit_failures=4)
    assert kinds(outcomes) == [*[""] * 9, *["refused"] * 3]


@pytest.mark.parametrize(
    "kind", ["timeout", "lost", "protocol", "jump-host", "host-key-unknown", "authentication"]
)
def test_every_kind_of_failure_counts(kind: str) -> None:
    fake = Fake(refusing_from(0, kind))
    outcomes = fan_out(jobs(3), lambda job: fake, lambda job: Collected(), width=1, limit_failures=1)
    assert kinds(outcomes) == [kind, "not-attempted", "not-attempted"]
    detail = outcomes[1].failure.detail if outcomes[1].failure else ""
    assert detail == f"--limit-failures 1: 1 host could not be asked before its turn (1 {kind})"


def test_those_under_way_are_finished() -> None:
    """Two are under way as the third fails; they end as they would have, good or bad."""

    def behave(job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Failure | None:
        if job.host in ("host0", "host1"):
            assert eventually(lambda: len(told) >= 3)
            return None if job.host == "host0" else Failure("timeout", "hung")
        return Failure("refused", "no")

    class Told:
        def started(self, host: str) -> None: ...

        def finished(self, outcome: Outcome) -> None:
            told.append(outcome.host)

    told: list[str] = []
    fake = Fake(behave)
    outcomes = fan_out(
        jobs(8), lambda job: fake, lambda job: Collected(), width=3, limit_failures=1, listener=Told()
    )
    assert kinds(outcomes) == ["", "timeout", "refused", *["not-attempted"] * 5]
    assert sorted(told) == [f"host{number}" for number in range(8)]
    assert "(1 refused)" in str(outcomes[3].failure)
