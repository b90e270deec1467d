"""The one call behind ``ascendctl verify``: ask every host, read, judge.

    inventory → probe plan → transport → captures → parsers → facts → checks → results

`gather` goes as far as the captures and may record them; `judge` takes it from there, for a live run and
for a replay alike.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ascendctl.assembly import host_facts
from ascendctl.checks.engine import run_checks
from ascendctl.checks.waivers import WaiverRule
from ascendctl.facts import Accelerator, ClusterFacts, Expectation, Generation, HostFacts, Reach, ReachStatus
from ascendctl.facts import ScaleOut as ScaleOutFact
from ascendctl.inventory import Endpoint, Host, Inventory, Privilege, Waiver
from ascendctl.probe.bundle import HostRecord, Recorder, Recording
from ascendctl.probe.capture import CaptureSink
from ascendctl.probe.catalogue import BY_ID, COMMANDS
from ascendctl.probe.frames import Answer, Frame
from ascendctl.probe.script import allowed, build_script, new_nonce
from ascendctl.results import HostNote, Run
from ascendctl.topology.generation import ASCEND_TOOLS
from ascendctl.transport.contract import Deadlines, Job, Listener, Outcome, Sink, Transport
from ascendctl.transport.fanout import DEFAULT_WIDTH, fan_out


@dataclass(frozen=True)
class Settings:
    """How to ask. ``width``: hosts asked at the same time."""

    deadlines: Deadlines = field(default_factory=Deadlines)
    width: int = DEFAULT_WIDTH


def plan_jobs(hosts: Sequence[Host], nonce: str) -> list[Job]:
    """What will be sent to whom: one script per host, the same bytes for the same privilege."""
    commands = allowed(COMMANDS)
    scripts = {
        privilege: build_script(nonce, sudo=privilege is Privilege.SUDO, commands=commands)
        for privilege in Privilege
    }
    return [Job(host.name, host.endpoint, scripts[host.privilege], host.group) for host in hosts]


def gather(
    hosts: Sequence[Host],
    transport: Transport,
    *,
    settings: Settings,
    listener: Listener,
    on_answer: Callable[[str, str], None],
    recorder: Recorder | None = None,
    stop: threading.Event | None = None,
) -> tuple[tuple[HostRecord, ...], bool]:
    """Ask every host; returns one record per host, in order, and whether the run was interrupted.

    ``on_answer(host, command line)`` is called as answers arrive. Never raises for a host's sake;
    Ctrl-C ends the asking and what was learned is returned.
    """
    nonce = new_nonce()
    sinks: dict[str, CaptureSink] = {}

    def sink_for(job: Job) -> Sink:
        def on_frame(frame: Frame) -> None:
            if isinstance(frame, Answer):
                on_answer(job.host, _command_line(frame))

        on_bytes = recorder.writer(job.host) if recorder else None
        sinks[job.host] = CaptureSink(nonce, on_frame=on_frame, on_bytes=on_bytes)
        return sinks[job.host]

    if recorder:
        waiting = Reach(ReachStatus.NOT_ATTEMPTED, "the run ended before this host was asked")
        recorder.begin([HostRecord(host.name, expectation_of(host), waiting) for host in hosts])
    outcomes = fan_out(
        plan_jobs(hosts, nonce),
        lambda job: transport,
        sink_for,
        width=settings.width,
        deadlines=settings.deadlines,
        listener=_Closing(listener, recorder),
        stop=stop or threading.Event(),
    )
    by_host = {outcome.host: outcome for outcome in outcomes}
    records = tuple(_record(host, by_host[host.name], sinks.get(host.name)) for host in hosts)
    interrupted = any(record.reach.status is ReachStatus.INTERRUPTED for record in records)
    return records, interrupted


def judge(
    records: Sequence[HostRecord],
    waivers: Sequence[Waiver],
    *,
    started_at: dt.datetime,
    duration_s: float,
    interrupted: bool = False,
) -> Run:
    """Captures in, verdicts out. Waivers expire by the date of ``started_at``."""
    cluster = ClusterFacts(tuple(host_facts(record) for record in records))
    rules = [WaiverRule(w.check, w.hosts, w.device, w.until, w.reason) for w in waivers]
    results = run_checks(cluster, waivers=rules, today=started_at.astimezone().date())
    notes = tuple(_note(host) for host in cluster.hosts)
    return Run(started_at, duration_s, results, notes, interrupted)


def replay(recording: Recording, only: Collection[str] | None = None) -> Run:
    """Judge a recording as if it were arriving now, with the dates of its own time.

    ``only``: the names of the hosts to judge; None = all.
    """
    records = [record for record in recording.hosts if only is None or record.name in only]
    interrupted = any(record.reach.status is ReachStatus.INTERRUPTED for record in records)
    duration_s = max((record.duration_s for record in records), default=0.0)
    return judge(
        records,
        recording.waivers,
        started_at=recording.started_at,
        duration_s=duration_s,
        interrupted=interrupted,
    )


def with_inventory(recording: Recording, inventory: Inventory, directory: Path) -> Recording:
    """The recording under an inventory's expectations and waivers.

    Every host of the inventory is there, also one without an output: not looked at is never green.
    """
    recorded = {record.name: record for record in recording.hosts}
    hosts = []
    for host in inventory.hosts:
        detail = f"no output of this host is in {directory}"
        missing = HostRecord(host.name, Expectation(), Reach(ReachStatus.NOT_ATTEMPTED, detail))
        hosts.append(replace(recorded.get(host.name, missing), expectation=expectation_of(host)))
    return replace(recording, hosts=tuple(hosts), waivers=inventory.waivers)


def as_inventory(recording: Recording, directory: Path) -> Inventory:
    """The recorded hosts as an inventory, so that they can be selected from."""
    hosts = tuple(
        Host(
            name=record.name,
            endpoint=Endpoint(name=record.name, address=record.name),
            group=record.expectation.group,
            tags=record.expectation.tags,
        )
        for record in recording.hosts
    )
    return Inventory(directory, hosts, recording.waivers)


def expectation_of(host: Host) -> Expectation:
    """What the inventory says of a host, in the checks' words."""
    return Expectation(
        accelerator=None if host.accelerator == "auto" else Accelerator(host.accelerator),
        generation=None if host.generation == "auto" else Generation(host.generation),
        npus=host.npus,
        scale_out=ScaleOutFact(host.scale_out),
        nic=host.nic,
        group=host.group,
        tags=host.tags,
    )


class _Closing:
    """Passes progress on and closes a host's recording file when the host is done."""

    def __init__(self, listener: Listener, recorder: Recorder | None) -> None:
        self._listener = listener
        self._recorder = recorder

    def started(self, host: str) -> None:
        self._listener.started(host)

    def finished(self, outcome: Outcome) -> None:
        if self._recorder:
            self._recorder.close_host(outcome.host)
        self._listener.finished(outcome)


def _record(host: Host, outcome: Outcome, sink: CaptureSink | None) -> HostRecord:
    failure = outcome.failure
    reach = (
        Reach(ReachStatus(failure.kind), failure.detail, failure.via, failure.internal)
        if failure
        else Reach(ReachStatus.REACHED)
    )
    record = HostRecord(
        host.name, expectation_of(host), reach, sent_at=outcome.sent_at, duration_s=outcome.duration_s
    )
    if sink is None:
        return record
    return replace(record, capture=sink.capture())


def _command_line(answer: Answer) -> str:
    command, target = BY_ID.get(answer.command_id), answer.target
    if command is None:
        return answer.command_id
    return command.text(npu=target.npu, chip=target.chip, phy=target.phy)


def _note(host: HostFacts) -> HostNote:
    system = host.system
    details = {
        name: str(reading.value)
        for name, reading in (
            ("hostname", system.hostname),
            ("os", system.os_release),
            ("kernel", system.kernel),
            ("architecture", system.architecture),
            ("driver", system.driver_version),
            ("firmware", system.firmware_version),
            ("cann", system.cann_version),
            ("open files limit", system.open_files_limit),
        )
        if reading.ok
    }
    for name in ASCEND_TOOLS:
        tool = host.tools.get(name)
        if tool and tool.path:
            details[name] = tool.path
    if system.addresses.value:
        details["addresses"] = ", ".join(
            f"{a.interface} {a.address}/{a.prefix_length}" for a in system.addresses.value
        )
    if system.clock.value:
        clock = system.clock.value
        details["clock offset"] = f"{clock.offset_s:+.3f} s ± {clock.uncertainty_s:.3f} s"
    return HostNote(
        name=host.host,
        group=host.expectation.group,
        accelerator=host.accelerator.value if host.accelerator else None,
        generation=host.generation.value if host.generation else None,
        devices=len(host.devices),
        answered=host.reach.status is ReachStatus.REACHED or bool(host.tools),
        details=details,
    )


def now() -> tuple[dt.datetime, float]:
    """Wall clock in UTC for the report, and a monotonic reading for durations."""
    return dt.datetime.now(dt.timezone.utc), time.monotonic()
