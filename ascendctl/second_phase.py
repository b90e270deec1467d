"""The second phase of verify: devices ping those of other hosts, and what that says of who is at fault.

    facts of all hosts → fabric → plan → a second script per host → observations → a second round, where it
    would settle something → verdicts

Its answers say by themselves who was pinged, so that a replay needs no plan.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ascendctl.checks.across.cabling import with_swaps
from ascendctl.checks.host_net import HostNet
from ascendctl.checks.mesh import Measured
from ascendctl.exchange import Manner, ask_all, reach_of
from ascendctl.facts import ClusterFacts, HostPathFacts, Reach, ReachStatus
from ascendctl.host_paths import host_paths, plan_paths
from ascendctl.inventory import Host, Privilege
from ascendctl.observations import PingAnswer, observations, ping_answers, pooled
from ascendctl.probe.bundle import HostRecord, MeshAsked, MeshRound
from ascendctl.probe.capture import HostCapture
from ascendctl.probe.frames import Target
from ascendctl.probe.host_net import host_net_commands
from ascendctl.probe.mesh import build_mesh_script
from ascendctl.probe.script import new_nonce
from ascendctl.results import Verdict
from ascendctl.topology.fabric import Fabric, Plane, PortId, fabric_of
from ascendctl.topology.host_net import SSH_PORT, HostNetPlan
from ascendctl.topology.localise import Clues, localise
from ascendctl.topology.mesh import (
    DEFAULT_PACKETS,
    DEFAULT_PARTNERS,
    MeshMode,
    MeshPlan,
    default_mode,
    plan_mesh,
)
from ascendctl.topology.second_round import second_round
from ascendctl.transport.contract import Job, Outcome

DEFAULT_TIMEOUT_S = 300

# Every pair is pinged by default only while that takes no longer than this.
_FULL_UP_TO_S = 60.0
# A host gets this much longer than its pings may be begun: for the last of them, and for what surrounds them.
_MARGIN_S = 90.0
# More pings than this are not planned: every pair of a large cluster would take days, and all the memory.
MOST_PINGS = 250_000


@dataclass(frozen=True)
class MeshSettings:
    """Which pings to send. ``mode`` None = by the size of the cluster; ``timeout_s``: per host and round."""

    mode: MeshMode | None = None
    partners: int = DEFAULT_PARTNERS
    packets: int = DEFAULT_PACKETS
    timeout_s: int = DEFAULT_TIMEOUT_S


@dataclass(frozen=True)
class Told:
    """What one round told: how reaching each host went that had something to send, and what it answered.

    ``paths``: what it learned of its ways over the host network, of which the first round asks.
    """

    reach: Mapping[str, Reach] = field(default_factory=dict)
    answers: Mapping[str, tuple[PingAnswer, ...]] = field(default_factory=dict)
    paths: Mapping[str, tuple[HostPathFacts, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Mesh:
    """The second phase of a run. ``asked`` None: nothing is known of one, as in old recordings."""

    asked: MeshAsked | None = None
    rounds: tuple[Told, ...] = ()
    interrupted: bool = False


def ask_each_other(
    hosts: Sequence[Host],
    cluster: ClusterFacts,
    settings: MeshSettings,
    manner: Manner,
    *,
    say: Callable[[str, Sequence[str]], None],
    begin: Callable[[MeshAsked], None],
    stop: threading.Event | None = None,
    until_s: float | None = None,
    send: bool = True,
) -> Mesh:
    """Plan the pings and have them sent, in one or two rounds, over a new connection to each host.

    ``say`` gets the plan of a round in words and the hosts that send, ``begin`` what is asked for.
    ``until_s``: the monotonic time at which the run has to end. ``send`` False: an interruption came before.
    Never raises for a host's sake.
    """
    fabric = fabric_of(cluster)
    plan, asked, note = _planned(fabric, len(hosts), settings)
    trying = HostNetPlan(()) if asked.why_off else _ways(hosts, cluster)
    begin(asked)
    if note:
        say(note, ())
    if not send:
        unsent = Reach(ReachStatus.INTERRUPTED, "the run was interrupted before its pings")
        waiting = dict.fromkeys([*plan.by_host, *trying.by_host], unsent)
        return Mesh(asked, (Told(waiting),) if waiting else (), True)
    rounds: list[Told] = []
    while plan.pings or trying.paths:
        words = [f"host network: {len(trying.paths):,} ways between hosts"] if trying.paths else []
        words += [plan_words(plan, settings.timeout_s, number=len(rounds) + 1)] if plan.pings else []
        say("; ".join(words), tuple(dict.fromkeys([*plan.by_host, *trying.by_host])))
        rounds.append(_send(hosts, plan, trying, settings, manner, len(rounds) + 1, stop, until_s))
        trying = HostNetPlan(())
        if len(rounds) == 2 or _was_interrupted(rounds[-1]):
            break
        plan = second_round(fabric, plan, observations(rounds[-1].answers, fabric))
    return Mesh(asked, tuple(rounds), any(_was_interrupted(told) for told in rounds))


def plan_words(plan: MeshPlan, timeout_s: int, number: int = 1) -> str:
    """The plan in a line: pairs, the busiest host's pings, and how long it is likely to take, in seconds."""
    busiest = max((len(pings) for pings in plan.by_host.values()), default=0)
    networks = [f"{_count(plan, plane):,} over {name}" for plane, name in _NETWORKS if _count(plan, plane)]
    likely = math.ceil(plan.estimate_s)
    which = f"mesh {plan.mode.value}" if number == 1 else "second round, where the first leaves doubt"
    return (
        f"{which}: {len(plan.pings):,} pings between devices ({', '.join(networks)}), {plan.packets} packets"
        f" each; busiest host {busiest:,}; about {min(likely, timeout_s)} s, {timeout_s} s at most"
    )


def from_recording(asked: MeshAsked | None, records: Sequence[HostRecord]) -> Mesh:
    """The second phase as it was recorded."""
    rounds = []
    for number in range(max((len(record.mesh) for record in records), default=0)):
        parts = {record.name: record.mesh[number] for record in records if number < len(record.mesh)}
        rounds.append(
            Told(
                {name: part.reach for name, part in parts.items()},
                {name: ping_answers(part.capture()) for name, part in parts.items()},
                {name: host_paths(part.capture()) for name, part in parts.items()},
            )
        )
    return Mesh(asked, tuple(rounds), any(_was_interrupted(told) for told in rounds))


def rounds_of(mesh: Mesh, host: str) -> tuple[MeshRound, ...]:
    """A host's part in the rounds, for the recording's index; one it had no pings in counts as reached."""
    if not any(host in told.reach for told in mesh.rounds):
        return ()
    return tuple(MeshRound(told.reach.get(host, Reach(ReachStatus.REACHED))) for told in mesh.rounds)


def measured(mesh: Mesh, cluster: ClusterFacts, *, whole: bool = True) -> Measured:
    """What the pings met, and whom that puts at fault. ``whole``: every host of the run is in ``cluster``."""
    if mesh.asked is None:
        return Measured(why_off="nothing was asked about pings between hosts")
    if mesh.asked.why_off:
        return Measured(why_off=mesh.asked.why_off)
    fabric = fabric_of(cluster)
    met = pooled(observation for told in mesh.rounds for observation in observations(told.answers, fabric))
    groups = {host.host: host.expectation.group for host in cluster.hosts}
    cabling = {
        PortId(host.host, device): cable.switch
        for host in cluster.hosts
        for device, cable in host.expectation.cabling.items()
    }
    verdicts: tuple[Verdict, ...] = ()
    failure = ""
    try:
        verdicts = with_swaps(localise(fabric, met, Clues(groups, cabling)), cluster, fabric)
    except Exception as error:  # our own fault must cost the verdicts, not the run
        failure = f"{type(error).__name__}: {error}"
    return Measured(
        mode=MeshMode(mesh.asked.mode),
        partners=mesh.asked.partners,
        fabric=fabric,
        observations=met,
        verdicts=verdicts,
        failure=failure,
        silent=_silent(mesh),
        part_of_run=not whole,
    )


def with_ways(cluster: ClusterFacts, mesh: Mesh) -> ClusterFacts:
    """The facts with what the second phase told of the ways over the host network."""
    return ClusterFacts(
        tuple(
            replace(host, paths=tuple(path for told in mesh.rounds for path in told.paths.get(host.host, ())))
            for host in cluster.hosts
        )
    )


def host_net_check(mesh: Mesh) -> HostNet:
    """The check of the host network, for what was asked."""
    if mesh.asked is None:
        return HostNet(why_off="nothing was asked about the host network")
    return HostNet(tried=not mesh.asked.why_off, why_off=mesh.asked.why_off, silent=_silent(mesh))


# --- the plan -------------------------------------------------------------------------------------

_NETWORKS = ((Plane.HCCS, "HCCS"), (Plane.ROCE, "RoCE"))


def _planned(fabric: Fabric, hosts: int, settings: MeshSettings) -> tuple[MeshPlan, MeshAsked, str]:
    """The first round, what to record of it, and a word on what was decided otherwise than asked."""
    mode, note = settings.mode, ""
    if hosts < 2:
        why = (
            "--mesh off" if mode is MeshMode.OFF else "there is only one host, so there is none to be pinged"
        )
        return _none(), MeshAsked(MeshMode.OFF.value, why_off=why), "" if mode is MeshMode.OFF else why
    if mode is MeshMode.OFF:
        return _none(), MeshAsked(mode.value, why_off="--mesh off"), ""
    if mode is MeshMode.FULL and _pairs(fabric) > MOST_PINGS:
        note = (
            f"--mesh full: {_pairs(fabric):,} pings are more than the {MOST_PINGS:,} that are sent at most;"
            " a sample is measured instead"
        )
        mode = MeshMode.SAMPLE
    chosen = mode or default_mode(fabric)
    plan = plan_mesh(fabric, chosen, k=settings.partners, packets=settings.packets)
    if mode is None and chosen is MeshMode.FULL and plan.estimate_s > _FULL_UP_TO_S:
        chosen = MeshMode.SAMPLE
        plan = plan_mesh(fabric, chosen, k=settings.partners, packets=settings.packets)
    mode = chosen
    return plan, MeshAsked(mode.value, settings.partners, settings.packets), note


def _ways(hosts: Sequence[Host], cluster: ClusterFacts) -> HostNetPlan:
    """Who tries whom over the host network."""
    return plan_paths(
        cluster,
        ssh_addresses={host.name: host.endpoint.address for host in hosts},
        ssh_ports={host.name: host.endpoint.port or SSH_PORT for host in hosts},
    )


def _none() -> MeshPlan:
    return MeshPlan(MeshMode.OFF, 0, ())


def _pairs(fabric: Fabric) -> int:
    return sum(len(fabric.ports_on(plane)) ** 2 for plane in Plane)


def _count(plan: MeshPlan, plane: Plane) -> int:
    return sum(ping.plane is plane for ping in plan.pings)


# --- the asking -----------------------------------------------------------------------------------


def _send(
    hosts: Sequence[Host],
    plan: MeshPlan,
    trying: HostNetPlan,
    settings: MeshSettings,
    manner: Manner,
    number: int,
    stop: threading.Event | None,
    until_s: float | None,
) -> Told:
    nonce = new_nonce()
    jobs = [
        Job(
            host.name,
            host.endpoint,
            build_mesh_script(
                nonce,
                sudo=host.privilege is Privilege.SUDO,
                pings=plan.by_host.get(host.name, ()),
                packets=plan.packets,
                time_limit_s=settings.timeout_s,
                also=[(one, Target()) for one in host_net_commands(trying.by_host.get(host.name, ()))],
            ),
            host.group,
        )
        for host in hosts
        if host.name in plan.by_host or host.name in trying.by_host
    ]
    deadlines = replace(manner.deadlines, host_s=settings.timeout_s + _MARGIN_S)
    if until_s is not None:
        deadlines = replace(deadlines, run_s=max(0.1, until_s - time.monotonic()))

    def take(
        outcome: Outcome, capture: HostCapture
    ) -> tuple[Reach, tuple[PingAnswer, ...], tuple[HostPathFacts, ...]]:
        return _as_it_came(reach_of(outcome), capture), ping_answers(capture), host_paths(capture)

    # Who could not be asked the first time is not here; to give up on others would leave pairs unmeasured.
    asking = replace(manner, deadlines=deadlines, limit_failures=None)
    taken = ask_all(jobs, nonce, asking, take, mesh_round=number, stop=stop)
    return Told(
        {host: reach for host, (reach, _, _) in taken.items()},
        {host: answers for host, (_, answers, _) in taken.items()},
        {host: paths for host, (_, _, paths) in taken.items()},
    )


def _as_it_came(reach: Reach, capture: HostCapture) -> Reach:
    if reach.status is ReachStatus.REACHED and capture.fatal:
        return Reach(ReachStatus.CANNOT_PROBE, capture.fatal)
    return reach


def _was_interrupted(told: Told) -> bool:
    return any(reach.status is ReachStatus.INTERRUPTED for reach in told.reach.values())


def _silent(mesh: Mesh) -> dict[str, str]:
    """Why a host's own pings, or some, are not known."""
    why: dict[str, str] = {}
    for told in mesh.rounds:
        for host, reach in told.reach.items():
            if reach.status is not ReachStatus.REACHED:
                detail = reach.detail or reach.status.value
                why.setdefault(
                    host, f"its host's answer to the request for pings is missing or cut: {detail}"
                )
    return why
