"""One phase of asking: a script for each of many hosts, and what each answered, as soon as it has ended.

An answer is handed over whole and let go of: of a thousand hosts there are a thousand at the end, and each
is many times the size of what is made of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ascendctl.facts import Reach, ReachStatus
from ascendctl.probe.bundle import Recorder
from ascendctl.probe.capture import CaptureSink, HostCapture
from ascendctl.probe.catalogue import BY_ID
from ascendctl.probe.frames import Answer, Frame
from ascendctl.transport.contract import Deadlines, Job, Listener, Outcome, Sink, Transport
from ascendctl.transport.fanout import fan_out

T = TypeVar("T")


@dataclass(frozen=True)
class Manner:
    """How the hosts are asked. ``on_answer`` is called with a host's name and a command as answers arrive."""

    transport: Transport
    width: int
    deadlines: Deadlines
    limit_failures: int | None
    listener: Listener
    on_answer: Callable[[str, str], None]
    recorder: Recorder | None = None


def ask_all(
    jobs: Sequence[Job],
    nonce: str,
    manner: Manner,
    take: Callable[[Outcome, HostCapture], T],
    *,
    mesh_round: int = 0,
    stop: threading.Event | None = None,
) -> dict[str, T]:
    """Run every job; by host, what ``take`` made of its outcome and its answer.

    ``take`` is called once per host, when it has ended, from the transport's threads. ``mesh_round``: the
    part of the recording that this is. Never raises for a host's sake; Ctrl-C ends the asking, and the
    hosts' outcomes say so.
    """
    taking = _Taking(manner, take, mesh_round)

    def sink_for(job: Job) -> Sink:
        return taking.sink(job.host, nonce)

    outcomes = fan_out(
        jobs,
        lambda job: manner.transport,
        sink_for,
        width=manner.width,
        deadlines=manner.deadlines,
        listener=taking,
        stop=stop or threading.Event(),
        limit_failures=manner.limit_failures,
    )
    for outcome in outcomes:
        taking.settle(outcome)
    return {outcome.host: taking.taken[outcome.host] for outcome in outcomes}


def reach_of(outcome: Outcome) -> Reach:
    """How reaching a host went, in the facts' words."""
    failure = outcome.failure
    if failure is None:
        return Reach(ReachStatus.REACHED)
    return Reach(ReachStatus(failure.kind), failure.detail, failure.via, failure.internal)


class _Taking(Generic[T]):
    """Passes progress on; closes a host's recording file and hands its answer over when the host is done."""

    def __init__(self, manner: Manner, take: Callable[[Outcome, HostCapture], T], mesh_round: int) -> None:
        self.taken: dict[str, T] = {}
        self._manner = manner
        self._take = take
        self._round = mesh_round
        self._sinks: dict[str, CaptureSink] = {}

    def sink(self, host: str, nonce: str) -> CaptureSink:
        def on_frame(frame: Frame) -> None:
            if isinstance(frame, Answer):
                self._manner.on_answer(host, _command_line(frame))

        recorder = self._manner.recorder
        on_bytes = recorder.writer(host, self._round) if recorder else None
        self._sinks[host] = sink = CaptureSink(nonce, on_frame=on_frame, on_bytes=on_bytes)
        return sink

    def settle(self, outcome: Outcome) -> None:
        """Hand the host's answer over, unless that has been done."""
        if outcome.host not in self.taken:
            sink = self._sinks.get(outcome.host)
            self.taken[outcome.host] = self._take(outcome, sink.capture() if sink else HostCapture())
            self._sinks.pop(outcome.host, None)

    def started(self, host: str) -> None:
        self._manner.listener.started(host)

    def finished(self, outcome: Outcome) -> None:
        if self._manner.recorder:
            self._manner.recorder.close_host(outcome.host, self._round)
        try:
            self.settle(outcome)
        finally:
            self._manner.listener.finished(outcome)


def _command_line(answer: Answer) -> str:
    command, target = BY_ID.get(answer.command_id), answer.target
    if command is None:
        return answer.command_id
    return command.text(npu=target.npu, chip=target.chip, phy=target.phy)
