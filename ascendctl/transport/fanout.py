"""Many hosts at a time: bounded width, a deadline for each, one outcome per job whatever happens.

A host that hangs costs its own deadline and delays nobody: once it has been silent for a while its slot
is lent to another (the rule stands in `slots`). So a run with hosts that hang ends when the last of them
has used up its deadline, not the sum of their deadlines over the width.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from ascendctl.transport.contract import Deadlines, Failure, Job, Listener, Outcome, Sink, Transport
from ascendctl.transport.descriptors import room_within_limit
from ascendctl.transport.faults import own_fault
from ascendctl.transport.lockout import REFUSALS_THAT_STOP_A_GROUP, LoginTally
from ascendctl.transport.remote_text import one_line
from ascendctl.transport.slots import LATE_S, LENT_AT_A_LOOK, LOOK_EVERY_S, SILENT_MOST, Life, Room

DEFAULT_WIDTH = 64
OVERTIME_S = 5.0
INTERRUPT_WAIT_S = 2.0


def fan_out(
    jobs: Sequence[Job],
    transport_for: Callable[[Job], Transport],
    sink_for: Callable[[Job], Sink],
    *,
    width: int = DEFAULT_WIDTH,
    deadlines: Deadlines | None = None,
    listener: Listener | None = None,
    stop: threading.Event | None = None,
    limit_failures: int | None = None,
) -> list[Outcome]:
    """Run every job, at most ``width`` at a time; one outcome per job, in their order.

    Silent hosts do not count against ``width`` (see `slots`). Where too few file descriptors may be
    opened, fewer hosts are run at a time, and the transport is told so if it is fewer than ``width``
    (`Transport`). A transport that overstays its deadline by `OVERTIME_S` is abandoned. Once
    ``limit_failures`` hosts have ended with a failure of whatever kind, those under way are finished and
    those that have not started are ``not-attempted``. When
    ``deadlines.run_s`` has passed, hosts under way end as ``timeout`` and the others as
    ``not-attempted``. Three refused logins in a group without one accepted leave the group's hosts
    that have not started ``not-attempted`` (see `lockout`). On Ctrl-C or ``stop``, hosts under way get
    `INTERRUPT_WAIT_S` to end, all that were not finished are ``interrupted``, and what came is
    returned: it is the caller who looks at ``stop`` to know. KeyboardInterrupt is not raised again;
    ``stop`` is set instead.
    """
    run = _Run(
        list(jobs),
        transport_for,
        sink_for,
        deadlines or Deadlines(),
        listener,
        stop or threading.Event(),
        limit_failures,
    )
    width = max(1, min(width, len(run.jobs)))
    possible, warning = room_within_limit(Room(width, max(0, min(SILENT_MOST, len(run.jobs) - width))))
    warn = getattr(transport_for(run.jobs[0]), "warn", None) if warning else None
    if warn is not None:
        warn(warning)
    return run.to_its_end(possible)


class _Gate:
    """A host's sink, shut once its outcome stands: an abandoned thread can no longer write to it."""

    def __init__(self, sink: Sink, life: Life) -> None:
        self._sink = sink
        self._life = life
        self._lock = threading.Lock()
        self._open = True
        self._fed = False

    @property
    def framed(self) -> bool:
        return bool(getattr(self._sink, "framed", self._fed))

    def heard(self) -> None:
        self._life.heard_at = time.monotonic()

    def feed(self, data: bytes, received_at: float) -> bool:
        self.heard()
        with self._lock:
            self._fed = True
            return self._sink.feed(data, received_at) if self._open else True

    def shut(self) -> None:
        with self._lock:
            self._open = False


class _Run:
    def __init__(
        self,
        jobs: list[Job],
        transport_for: Callable[[Job], Transport],
        sink_for: Callable[[Job], Sink],
        deadlines: Deadlines,
        listener: Listener | None,
        stop: threading.Event,
        limit_failures: int | None,
    ) -> None:
        self.jobs = jobs
        self._transport_for = transport_for
        self._sink_for = sink_for
        self._deadlines = deadlines
        self._listener = listener
        self._stop = stop
        self._started_at = time.monotonic()
        self._changed = threading.Condition()
        self._waiting = deque(range(len(jobs)))
        self._running: dict[int, Life] = {}
        self._gates: dict[int, _Gate] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._tallies: dict[str, LoginTally] = {}
        self._limit_failures = limit_failures
        self._failures: Counter[str] = Counter()
        self._enough_failures: Failure | None = None
        self._room = Room(1, 0)

    def to_its_end(self, room: Room) -> list[Outcome]:
        self._room = room
        try:
            self._start_more(room.width)
            self._supervise()
        except KeyboardInterrupt:
            self._stop.set()
        if self._stop.is_set():
            self._wind_up()
        return [self._outcomes[index] for index in range(len(self.jobs))]

    # --- the caller's thread ----------------------------------------------------------------------

    def _supervise(self) -> None:
        next_look = time.monotonic() + LOOK_EVERY_S
        while not self._stop.is_set():
            with self._changed:
                if len(self._outcomes) == len(self.jobs):
                    return
                self._changed.wait(max(0.0, next_look - time.monotonic()))
            now = time.monotonic()
            if now >= next_look:
                self._abandon_overdue()
                self._start_more(LENT_AT_A_LOOK, in_time=now - next_look < LATE_S)
                next_look = time.monotonic() + LOOK_EVERY_S

    def _abandon_overdue(self) -> None:
        now = time.monotonic()
        with self._changed:
            overdue = [
                (index, now - life.since)
                for index, life in self._running.items()
                if now >= self._overtime_ends(life.since)
            ]
        for index, duration_s in overdue:
            failure = Failure("timeout", "did not end at its deadline and was left behind")
            self._settle(index, Outcome(self.jobs[index].host, failure, None, duration_s))

    def _start_more(self, most: int, *, in_time: bool = True) -> None:
        """Start threads for up to ``most`` hosts that there is room for; in the slots of silent hosts
        only if we are ``in_time`` ourselves."""
        for _ in range(most):
            index = self._take(lend=in_time)
            if index is None:
                return
            # Daemons: a thread wedged in a call nobody can end must not keep the program alive.
            thread = threading.Thread(target=self._work, args=(index,), name="ascendctl-host", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system gives no more threads: those there are go on
                self._put_back(index)
                return

    def _overtime_ends(self, since: float) -> float:
        end = since + self._deadlines.host_s
        if self._deadlines.run_s is not None:
            end = min(end, self._started_at + self._deadlines.run_s)
        return end + OVERTIME_S

    def _wind_up(self) -> None:
        """After a stop: wait briefly for those under way, then settle everything that is open."""
        until = time.monotonic() + INTERRUPT_WAIT_S
        try:
            with self._changed:
                while self._running and time.monotonic() < until:
                    self._changed.wait(0.1)
        except KeyboardInterrupt:
            pass  # asked twice: do not wait
        for index, job in enumerate(self.jobs):
            begun = index in self._gates
            detail = "stopped while it was being asked" if begun else "the run was stopped before its turn"
            self._settle(index, Outcome(job.host, Failure("interrupted", detail), None, 0.0))

    # --- the workers ------------------------------------------------------------------------------

    def _work(self, first: int) -> None:
        index: int | None = first
        while index is not None:
            job = self.jobs[index]
            refusal = self._reason_not_to_start(job)
            outcome = Outcome(job.host, refusal, None, 0.0) if refusal else self._ask(index, job)
            if not self._settle(index, outcome):
                return  # it was abandoned, and no longer counts
            index = self._take()

    def _take(self, *, lend: bool = True) -> int | None:
        """The next host, from now on under way; None if there is none or no room for it.

        ``lend`` False: there is no room beyond the width, however silent those under way are.
        """
        with self._changed:
            now = time.monotonic()
            silent = sum(life.is_silent(now) for life in self._running.values()) if lend else 0
            if not self._waiting or not self._room.left(len(self._running) - silent, silent):
                return None
            index = self._waiting.popleft()
            self._running[index] = Life(now)
            return index

    def _put_back(self, index: int) -> None:
        with self._changed:
            del self._running[index]
            self._waiting.appendleft(index)
            if not self._running:
                raise RuntimeError("the system gives no thread to ask a host with")

    def _reason_not_to_start(self, job: Job) -> Failure | None:
        if self._stop.is_set():
            return Failure("interrupted", "the run was stopped before its turn")
        if self._run_left_s() <= 0.0:
            detail = f"the run's limit of {self._deadlines.run_s:g} s passed before its turn"
            return Failure("not-attempted", detail)
        if self._enough_failures is not None:
            return self._enough_failures
        if self._tally(job).stopped:
            group = f" of group {one_line(job.group)}" if job.group else ""
            detail = (
                f"{REFUSALS_THAT_STOP_A_GROUP} hosts{group} refused the login and none accepted it; "
                "going on could lock the account"
            )
            return Failure("not-attempted", detail)
        return None

    def _ask(self, index: int, job: Job) -> Outcome:
        started = time.monotonic()
        left_s = self._run_left_s()
        try:
            gate = _Gate(self._sink_for(job), self._running[index])
            with self._changed:
                self._gates[index] = gate
            self._tell(lambda listener: listener.started(job.host))
            deadlines = self._deadlines
            if left_s < deadlines.host_s:
                deadlines = replace(deadlines, host_s=left_s, bounded_by_run=True)
            return self._transport_for(job).run(job, gate, deadlines, self._stop)
        except BaseException as error:
            return Outcome(job.host, own_fault(error), None, time.monotonic() - started)

    def _settle(self, index: int, outcome: Outcome) -> bool:
        """Let the outcome stand, unless the job has one; whether it does."""
        gate = self._gates.get(index)
        if gate is not None:
            gate.shut()
        with self._changed:
            if index in self._outcomes:
                return False
            self._outcomes[index] = outcome
            self._running.pop(index, None)
            if outcome.failure is not None:
                self._count_failure(outcome.failure)
            self._changed.notify_all()
        self._count_login(self.jobs[index], outcome)
        self._tell(lambda listener: listener.finished(outcome))
        return True

    def _tell(self, what: Callable[[Listener], None]) -> None:
        if self._listener is None:
            return
        try:
            what(self._listener)
        except Exception:
            # Progress that cannot be shown must not cost a host its answers.
            logging.getLogger(__name__).debug("the listener failed", exc_info=True)

    # --- group and run ----------------------------------------------------------------------------

    def _run_left_s(self) -> float:
        if self._deadlines.run_s is None:
            return float("inf")
        return self._started_at + self._deadlines.run_s - time.monotonic()

    def _tally(self, job: Job) -> LoginTally:
        with self._changed:
            return self._tallies.setdefault(job.group, LoginTally())

    def _count_failure(self, failure: Failure) -> None:
        """Every host counts whose reach is not ``reached``. What is said then stays as it is: one
        sentence for all that are left out lets them be folded."""
        self._failures[failure.kind] += 1
        failed = self._failures.total()
        if failed != self._limit_failures:
            return
        hosts = "host" if failed == 1 else "hosts"
        told = ", ".join(f"{count} {kind}" for kind, count in self._failures.most_common())
        detail = f"--limit-failures {failed}: {failed} {hosts} could not be asked before its turn ({told})"
        self._enough_failures = Failure("not-attempted", detail)

    def _count_login(self, job: Job, outcome: Outcome) -> None:
        if outcome.sent_at is not None:
            self._tally(job).record(accepted=True)
        elif outcome.failure is not None and outcome.failure.kind == "authentication":
            self._tally(job).record(accepted=False)
