"""The one call behind ``ascendctl verify``: ask every host, read, judge.

    inventory → probe plan → transport → captures → parsers → facts → checks → results

`gather` asks every host, `gather_mesh` then has them ping each other; both may record what came, and each
host's answer is let go of as soon as its facts are made. `judge` takes it from there, for a live run and for
a replay alike.
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
from ascendctl.checks.mesh import with_consequences_folded, with_warnings_lifted
from ascendctl.checks.registry import CLUSTER_CHECKS, mesh_checks
from ascendctl.checks.waivers import WaiverRule
from ascendctl.counters import counters_of
from ascendctl.exchange import Manner, ask_all, reach_of
from ascendctl.facts import (
    Accelerator,
    ClusterFacts,
    Expectation,
    Generation,
    HostFacts,
    Profile,
    Reach,
    ReachStatus,
)
from ascendctl.facts import ScaleOut as ScaleOutFact
from ascendctl.inventory import Endpoint, Host, Inventory, Privilege, Waiver
from ascendctl.probe.bundle import HostRecord, MeshAsked, Recorder, Recording
from ascendctl.probe.capture import HostCapture
from ascendctl.probe.catalogue import commands_of
from ascendctl.probe.script import allowed, build_script, new_nonce
from ascendctl.results import HostNote, Run
from ascendctl.second_phase import (
    Mesh,
    MeshSettings,
    ask_each_other,
    from_recording,
    host_net_check,
    measured,
    rounds_of,
    with_ways,
)
from ascendctl.topology.generation import ASCEND_TOOLS
from ascendctl.topology.mesh import MeshMode
from ascendctl.transport.contract import Deadlines, Job, Listener, Outcome, Transport
from ascendctl.transport.fanout import DEFAULT_WIDTH


@dataclass(frozen=True)
class Settings:
    """How to ask, and how much. ``width``: hosts asked at the same time. ``limit_failures``: after so many
    hosts that could not be asked no more are begun; None = all are."""

    deadlines: Deadlines = field(default_factory=Deadlines)
    width: int = DEFAULT_WIDTH
    limit_failures: int | None = None
    profile: Profile = Profile.STANDARD
    mesh: MeshSettings = field(default_factory=MeshSettings)

    def manner(
        self,
        transport: Transport,
        listener: Listener,
        on_answer: Callable[[str, str], None],
        recorder: Recorder | None,
    ) -> Manner:
        return Manner(
            transport, self.width, self.deadlines, self.limit_failures, listener, on_answer, recorder
        )


def plan_jobs(hosts: Sequence[Host], nonce: str, profile: Profile) -> list[Job]:
    """What will be sent to whom: one script per host, the same bytes for the same privilege."""
    commands = allowed(commands_of(profile))
    scripts = {
        privilege: build_script(nonce, sudo=privilege is Privilege.SUDO, commands=commands)
        for privilege in Privilege
    }
    return [Job(host.name, host.endpoint, scripts[host.privilege], host.group) for host in hosts]


@dataclass(frozen=True)
class Gathered:
    """What was learned of every host, in order. Of ``records`` the captures are gone: ``facts`` hold them."""

    records: tuple[HostRecord, ...]
    facts: ClusterFacts
    interrupted: bool = False
    mesh: Mesh = field(default_factory=Mesh)


def gather(
    hosts: Sequence[Host],
    transport: Transport,
    *,
    settings: Settings,
    listener: Listener,
    on_answer: Callable[[str, str], None],
    recorder: Recorder | None = None,
    stop: threading.Event | None = None,
) -> Gathered:
    """Ask every host what it is. Never raises for a host's sake.

    ``on_answer(host, command line)`` is called as answers arrive. Ctrl-C ends the asking and what was
    learned is returned.
    """
    nonce = new_nonce()
    by_name = {host.name: host for host in hosts}

    def take(outcome: Outcome, capture: HostCapture) -> tuple[HostRecord, HostFacts]:
        whole = HostRecord(
            outcome.host,
            expectation_of(by_name[outcome.host]),
            reach_of(outcome),
            capture,
            outcome.sent_at,
            outcome.duration_s,
        )
        kept = HostCapture(clock_received_at=capture.clock_received_at)
        return replace(whole, capture=kept), host_facts(whole)

    if recorder:
        waiting = Reach(ReachStatus.NOT_ATTEMPTED, "the run ended before this host was asked")
        recorder.begin([HostRecord(host.name, expectation_of(host), waiting) for host in hosts])
    manner = settings.manner(transport, listener, on_answer, recorder)
    taken = ask_all(plan_jobs(hosts, nonce, settings.profile), nonce, manner, take, stop=stop)
    records = tuple(taken[host.name][0] for host in hosts)
    facts = ClusterFacts(tuple(taken[host.name][1] for host in hosts))
    interrupted = any(record.reach.status is ReachStatus.INTERRUPTED for record in records)
    return Gathered(records, facts, interrupted)


def gather_mesh(
    hosts: Sequence[Host],
    gathered: Gathered,
    transport: Transport,
    *,
    settings: Settings,
    listener: Listener,
    on_answer: Callable[[str, str], None],
    say: Callable[[str, Sequence[str]], None],
    recorder: Recorder | None = None,
    stop: threading.Event | None = None,
    until_s: float | None = None,
) -> Gathered:
    """Then have them ping each other: the same, with what that told.

    ``say`` gets a round's plan in words, and who sends, before it is carried out; ``until_s``: the monotonic
    time at which the run has to end. After an interruption nothing more is sent.
    """

    def begin(asked: MeshAsked) -> None:
        if recorder:
            recorder.begin_mesh(gathered.records, asked)

    manner = settings.manner(transport, listener, on_answer, recorder)
    mesh = ask_each_other(
        hosts,
        gathered.facts,
        settings.mesh,
        manner,
        say=say,
        begin=begin,
        stop=stop,
        until_s=until_s,
        send=not gathered.interrupted,
    )
    records = tuple(replace(record, mesh=rounds_of(mesh, record.name)) for record in gathered.records)
    return replace(gathered, records=records, mesh=mesh, interrupted=gathered.interrupted or mesh.interrupted)


def judge(
    gathered: Gathered,
    waivers: Sequence[Waiver],
    *,
    started_at: dt.datetime,
    duration_s: float,
    profile: Profile = Profile.STANDARD,
    whole: bool = True,
) -> Run:
    """What was gathered in, verdicts out. Waivers expire by the date of ``started_at``.

    ``whole``: every host of the run is there, not a selection made afterwards.
    """
    cluster = with_ways(gathered.facts, gathered.mesh)
    met = measured(gathered.mesh, cluster, whole=whole)
    rules = [WaiverRule(w.check, w.hosts, w.device, w.until, w.reason) for w in waivers]
    results = run_checks(
        cluster,
        waivers=rules,
        today=started_at.astimezone().date(),
        cluster_checks=(*CLUSTER_CHECKS, host_net_check(gathered.mesh), *mesh_checks(met)),
        profile=profile,
    )
    return Run(
        started_at,
        duration_s,
        with_consequences_folded(with_warnings_lifted(results, met), met),
        tuple(_note(host) for host in cluster.hosts),
        gathered.interrupted,
        verdicts=met.verdicts,
        counters=counters_of(cluster, started_at),
        facts=cluster,
    )


def replay(recording: Recording, only: Collection[str] | None = None) -> Run:
    """Judge a recording as if it were arriving now, with the dates and the profile of its own.

    ``only``: the names of the hosts to judge; None = all.
    """
    records = tuple(record for record in recording.hosts if only is None or record.name in only)
    mesh = from_recording(_mesh_of(recording), records)
    reached = any(record.reach.status is ReachStatus.INTERRUPTED for record in records)
    facts = ClusterFacts(tuple(host_facts(record) for record in records))
    return judge(
        Gathered(records, facts, reached or mesh.interrupted, mesh),
        recording.waivers,
        started_at=recording.started_at,
        duration_s=max((record.duration_s for record in records), default=0.0),
        profile=recording.profile,
        whole=len(records) == len(recording.hosts),
    )


def _mesh_of(recording: Recording) -> MeshAsked | None:
    if recording.hand_carried:
        return MeshAsked(MeshMode.OFF.value, why_off="outputs that were carried by hand hold no pings")
    return recording.mesh


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
        thresholds=host.thresholds,
        cabling=host.cabling,
        engine_ports=host.engine_ports,
    )


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
