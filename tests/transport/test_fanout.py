"""fan_out: width, deadlines, groups, stops; with transports made for the purpose."""

from __future__ import annotations

import _thread
import errno
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from ascendctl.inventory import Endpoint
from ascendctl.transport import fanout
from ascendctl.transport.contract import Deadlines, Failure, Job, Outcome, Sink
from ascendctl.transport.fanout import fan_out
from ascendctl.transport.local import LocalTransport
from tests.transport.conftest import Collected, eventually

Behaviour = Callable[[Job, Sink, Deadlines, threading.Event], Failure | None]


class Fake:
    """A transport that does what a function says, and keeps count of who runs at a time."""

    def __init__(self, behaviour: Behaviour, *, reached: bool = True) -> None:
        self._behaviour = behaviour
        self._reached = reached
        self._lock = threading.Lock()
        self.asked: list[str] = []
        self.running = self.most = 0

    def run(self, job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Outcome:
        with self._lock:
            self.asked.append(job.host)
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            failure = self._behaviour(job, sink, deadlines, stop)
        finally:
            with self._lock:
                self.running -= 1
        refused = failure is not None and failure.kind != "lost"
        return Outcome(job.host, failure, None if refused else time.time(), 0.0)


def jobs(count: int, group: str = "") -> list[Job]:
    return [Job(f"host{n}", Endpoint(f"host{n}", "127.0.0.1"), b"", group) for n in range(count)]


def kinds(outcomes: list[Outcome]) -> list[str]:
    return [outcome.failure.kind if outcome.failure else "" for outcome in outcomes]


def fine(job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Failure | None:
    sink.feed(b"END\n", time.time())
    return None


def refuse(job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Failure | None:
    return Failure("authentication", "no")


@pytest.mark.parametrize(("count", "width", "most"), [(20, 4, 4), (3, 64, 3), (5, 1, 1), (0, 8, 0)])
def test_width_and_order(count: int, width: int, most: int) -> None:
    together = threading.Barrier(most) if most else None

    def meet(job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Failure | None:
        assert together is not None
        if len(fake.asked) <= most:
            together.wait(20)
        return Failure("lost", job.host)

    fake = Fake(meet)
    outcomes = fan_out(jobs(count), lambda job: fake, lambda job: Collected(), width=width)
    assert [outcome.host for outcome in outcomes] == [f"host{n}" for n in range(count)]
    assert [outcome.failure and outcome.failure.detail for outcome in outcomes] == [
        f"host{n}" for n in range(count)
    ]
    assert fake.most == most


def test_a_hung_host_costs_its_slot_and_nobody_else_anything() -> None:
    release = threading.Event()

    def hang(job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Failure | None:
        if job.host == "host0":
            assert others_done.wait(30)
            release.wait(30)
            return Failure("timeout", "hung")
        finished.append(job.host)
        if len(finished) == 9:
            others_done.set()
            release.set()
        return None

    finished: list[str] = []
    others_done = threading.Event()
    outcomes = fan_out(jobs(10), lambda job: Fake(hang), lambda job: Collected(), width=2)
    assert kinds(outcomes) == ["timeout", *[""] * 9]


def test_a_wedged_transport_is_left_behind_and_its_slot_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "OVERTIME_S", 0.3)
    release = threading.Event()
    sinks: dict[str, Collected] = {}

    def wedge(job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Failure | None:
        if job.host in ("host0", "host1"):
            sink.feed(b"first\n", time.time())
            release.wait(60)
            assert sink.feed(b"too late\n", time.time()) is True
        return None

    fake = Fake(wedge)
    outcomes = fan_out(
        jobs(6),
        lambda job: fake,
        lambda job: sinks.setdefault(job.host, Collected()),
        width=2,
        deadlines=Deadlines(host_s=0.2),
    )
    assert kinds(outcomes) == ["timeout", "timeout", "", "", "", ""]
    release.set()
    assert eventually(lambda: fake.running == 0)
    assert sinks["host0"].data == b"first\n"


def test_three_refused_logins_stop_a_group_and_no_other() -> None:
    fake = Fake(refuse)
    work = [*jobs(8, "site-a"), *jobs(2, "site-b")]
    outcomes = fan_out(work, lambda job: fake, lambda job: Collected(), width=1)
    assert kinds(outcomes) == [
        *["authentication"] * 3,
        *["not-attempted"] * 5,
        *["authentication"] * 2,
    ]
    stopped = outcomes[3].failure
    assert stopped is not None and "site-a" in stopped.detail and "lock" in stopped.detail


def test_a_group_that_let_one_in_is_not_stopped() -> None:
    def second_only(job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Failure | None:
        return None if job.host == "host1" else Failure("authentication", "no")

    fake = Fake(second_only)
    outcomes = fan_out(jobs(8, "site-a"), lambda job: fake, lambda job: Collected(), width=1)
    assert kinds(outcomes) == ["authentication", "", *["authentication"] * 6]


def test_other_failures_do_not_stop_a_group() -> None:
    fake = Fake(lambda *_: Failure("refused", "no"))
    outcomes = fan_out(jobs(8, "site-a"), lambda job: fake, lambda job: Collected(), width=1)
    assert kinds(outcomes) == ["refused"] * 8


def test_the_run_deadline_bounds_those_under_way_and_leaves_the_rest() -> None:
    def use_it_up(job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Failure | None:
        assert deadlines.host_s <= 0.5 and deadlines.bounded_by_run
        time.sleep(deadlines.host_s)
        return Failure("timeout", "waiting for the rest")

    fake = Fake(use_it_up)
    outcomes = fan_out(
        jobs(6), lambda job: fake, lambda job: Collected(), width=2, deadlines=Deadlines(run_s=0.5)
    )
    assert kinds(outcomes) == [*["timeout"] * 2, *["not-attempted"] * 4]
    details = [outcome.failure.detail for outcome in outcomes if outcome.failure]
    assert details[2:] == ["the run's limit of 0.5 s passed before its turn"] * 4


def test_the_limit_that_ended_a_host_is_named_alike_for_all() -> None:
    work = [replace(job, script=b"sleep 20\n") for job in jobs(2)]
    here = LocalTransport()
    by_run = fan_out(work, lambda job: here, lambda job: Collected(), width=2, deadlines=Deadlines(run_s=0.5))
    by_host = fan_out(
        work, lambda job: here, lambda job: Collected(), width=2, deadlines=Deadlines(host_s=0.5123, run_s=60)
    )
    told = [
        {outcome.failure.detail for outcome in outcomes if outcome.failure} for outcomes in (by_run, by_host)
    ]
    assert told == [
        {"the run's limit of 0.5 s passed: waiting for the rest of the answers"},
        {"timed out after 0.5 s, the host's limit: waiting for the rest of the answers"},
    ]


def obey(job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Failure | None:
    sink.feed(b"FRAME ", time.time())
    stop.wait(60)
    return Failure("interrupted", "obeyed")


def ignore(job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Failure | None:
    sink.feed(b"FRAME ", time.time())
    HELD.wait(60)
    return None


HELD = threading.Event()


@pytest.mark.parametrize("behaviour", [obey, ignore])
@pytest.mark.parametrize("way", ["stop", "ctrl-c"])
def test_a_stop_returns_what_there_is(
    behaviour: Behaviour, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout, "INTERRUPT_WAIT_S", 0.5)
    HELD.clear()
    stop = threading.Event()
    sinks: dict[str, Collected] = {}
    done: list[Outcome] = []

    class Progress:
        def started(self, host: str) -> None:
            if host == "host2":
                threading.Thread(target=press, daemon=True).start()

        def finished(self, outcome: Outcome) -> None:
            done.append(outcome)

    def press() -> None:
        assert eventually(lambda: all(f"host{n}" in sinks and sinks[f"host{n}"].data for n in (1, 2)))
        if way == "stop":
            stop.set()
        else:
            _thread.interrupt_main()

    first = Fake(fine)
    fake = Fake(behaviour)
    outcomes = fan_out(
        jobs(6),
        lambda job: first if job.host == "host0" else fake,
        lambda job: sinks.setdefault(job.host, Collected()),
        width=2,
        stop=stop,
        listener=Progress(),
    )
    HELD.set()
    assert kinds(outcomes) == ["", *["interrupted"] * 5]
    assert stop.is_set()
    assert sinks["host1"].data == b"FRAME "
    assert sorted(outcome.host for outcome in done) == [f"host{n}" for n in range(6)]
    assert eventually(lambda: fake.running == 0)


def test_a_fault_of_our_own_is_told_as_such_and_stops_nobody() -> None:
    def break_one(job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Failure | None:
        if job.host == "host1":
            raise ZeroDivisionError("oops")
        return None

    class Broken:
        def started(self, host: str) -> None:
            raise ValueError("no screen")

        def finished(self, outcome: Outcome) -> None:
            raise ValueError("no screen")

    fake = Fake(break_one)
    outcomes = fan_out(jobs(4), lambda job: fake, lambda job: Collected(), width=1, listener=Broken())
    assert [bool(outcome.failure and outcome.failure.internal) for outcome in outcomes] == [
        False,
        True,
        False,
        False,
    ]
    assert outcomes[1].failure is not None and "ZeroDivisionError: oops" in outcomes[1].failure.detail


def test_a_wedged_thread_does_not_keep_the_program_alive() -> None:
    program = """
import threading, time
from ascendctl.inventory import Endpoint
from ascendctl.transport import fanout
from ascendctl.transport.contract import Deadlines, Job
fanout.OVERTIME_S = 0.1
class Wedged:
    def run(self, *_): threading.Event().wait()
class Sink:
    def feed(self, data, at): return False
job = Job("host", Endpoint("host", "x"), b"")
limits = Deadlines(host_s=0.1)
print(fanout.fan_out([job], lambda j: Wedged(), lambda j: Sink(), deadlines=limits)[0].failure.kind)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "timeout\n"), done.stderr


LIMITED = """
import resource, sys
from tests.transport.test_fanout import Fake, fan_out, jobs, Collected
soft, hard, width = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
class Warned(Fake):
    def warn(self, sentence): print(sentence)
def linger(*_): __import__("time").sleep(0.1)
fake = Warned(linger)
fan_out(jobs(30), lambda job: fake, lambda job: Collected(), width=width)
print(fake.most <= 10, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "width", "said"),
    [
        (64, 70, 30, "hosts are asked 10 at a time instead of 30"),
        (50, 4096, 30, "False 130\n"),
        (1024, 4096, 30, "False 1024\n"),
        (64, 70, 10, "True 70\n"),
        (32, 32, 30, "hosts are asked 1 at a time"),
    ],
)
def test_the_width_is_what_the_file_descriptors_allow(soft: int, hard: int, width: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(soft), str(hard), str(width)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith(said), done
    assert done.stdout.count("ulimit -n") == said.startswith("hosts")
    assert ("True" in done.stdout) == ("False" not in said)


def test_too_few_file_descriptors_are_no_fault_of_ours() -> None:
    def none_left(job: Job) -> Collected:
        raise OSError(errno.EMFILE, "Too many open files")

    (outcome,) = fan_out(jobs(1), lambda job: Fake(fine), none_left)
    assert outcome.failure is not None and not outcome.failure.internal
    assert (outcome.failure.kind, "ulimit -n" in outcome.failure.detail) == ("not-attempted", True)


def test_nothing_here_loads_paramiko() -> None:
    program = (
        "import sys, ascendctl.transport.fanout, ascendctl.transport.local; print('paramiko' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "False\n", done.stderr
