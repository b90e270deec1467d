"""The ping mesh: the parts at fault, and per network a cell for every port and for every pair that failed.

What the pings met is handed to the checks when they are made: no facts of one host hold it. A pair that
passed has no cell of its own, it is counted in the cells of its two ports; else there would be a hundred
thousand of them in a large cluster.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

from ascendctl.checks.across.cabling import Cabling
from ascendctl.checks.ascend import Cells, DeviceCheck, Unlearned
from ascendctl.checks.contract import ClusterCheck
from ascendctl.facts import ClusterFacts, DeviceFacts, Generation, HostFacts, LinkStatus, ReadingStatus
from ascendctl.knowledge import advice
from ascendctl.results import (
    CellKey,
    Component,
    ComponentKind,
    Peer,
    Result,
    Status,
    Subject,
    SubjectKind,
    Verdict,
    host_subject,
)
from ascendctl.topology import sdid
from ascendctl.topology.contradictions import CABLE_SWAP
from ascendctl.topology.fabric import Fabric, Plane, Port, PortId
from ascendctl.topology.mesh import MeshMode, Observation, can_be_pinged, mesh_class, pair_cell
from ascendctl.topology.roce import Wanted, roce_use

# A port is judged by its pings with so many others, where there are so many.
_LEAST_PARTNERS = 2
_PING = {Plane.ROCE: "-ping", Plane.HCCS: "-hccs_ping"}


@dataclass(frozen=True)
class Measured:
    """What became of the pings of a run, and whom that puts at fault.

    ``why_off``: why there were none to be; then nothing else is set. ``partners``: of every port, as asked
    for. ``silent``: by host, why its own pings, or some, are not known. ``part_of_run``: hosts that took
    part in the pings may be missing here, as some were selected afterwards. ``failure``: ascendctl itself
    failed to say who is at fault.
    """

    why_off: str = ""
    mode: MeshMode = MeshMode.OFF
    partners: int = 0
    fabric: Fabric = field(default_factory=lambda: Fabric(()))
    observations: tuple[Observation, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    failure: str = ""
    silent: Mapping[str, str] = field(default_factory=dict)
    part_of_run: bool = False

    @cached_property
    def of_port(self) -> Mapping[tuple[Plane, PortId], tuple[Observation, ...]]:
        """The pings that a port sent or was sent."""
        ends: dict[tuple[Plane, PortId], list[Observation]] = defaultdict(list)
        for observation in self.observations:
            ends[observation.ping.plane, observation.ping.source].append(observation)
            ends[observation.ping.plane, observation.ping.target].append(observation)
        return {end: tuple(pings) for end, pings in ends.items()}

    @cached_property
    def explained_by(self) -> Mapping[CellKey, Verdict]:
        """By the cell of a failing pair, the verdict that explains it."""
        return {key: verdict for verdict in reversed(self.verdicts) for key in verdict.explains}

    @cached_property
    def by_pair(self) -> Mapping[CellKey, Observation]:
        return {pair_cell(observation.ping): observation for observation in self.observations}

    def others(self, port: Port, plane: Plane) -> int:
        """How many ports of other hosts it could be paired with."""
        everywhere, on_host = self._sizes
        name = self._class(port, plane)
        return everywhere[name] - on_host[name, port.id.host]

    @cached_property
    def _sizes(self) -> tuple[Counter[object], Counter[object]]:
        """How many ports can be pinged: by class, and by class and host."""
        everywhere: Counter[object] = Counter()
        on_host: Counter[object] = Counter()
        for plane in Plane:
            for port in self.fabric.ports_on(plane):
                if can_be_pinged(port, plane):
                    everywhere[self._class(port, plane)] += 1
                    on_host[self._class(port, plane), port.id.host] += 1
        return everywhere, on_host

    def _class(self, port: Port, plane: Plane) -> tuple[object, ...]:
        along_rails = self.mode in (MeshMode.RING, MeshMode.RAIL)
        return plane, mesh_class(port, plane), port.rail if along_rails else None


class Mesh(Cells, ClusterCheck):
    """The parts that the pings between hosts put at fault.

    What:
        Devices of all hosts ping each other: over RoCE with `hccn_tool -ping`, inside a super pod over HCCS
        with `hccn_tool -hccs_ping`. From the packets that were lost, the smallest set of parts that explains
        them is found: device, NPU, host, pair, leaf switch or its uplinks, super pod. What is lost by chance
        alone puts nothing at fault.
    Why:
        Every host can look fine by itself while two of them do not reach each other.
    Consequence:
        HCCL cannot connect and waits for two minutes (EI0006), or its operations time out (EI0002) and end
        in CQE errors (EI0013) where only some packets are lost.
    Remedy:
        Look at the part named: its cable and module, the switch's port and its VLAN, the device's address.
        Where alternatives are named, `ascendctl verify --mesh full --packets 30` on the hosts in question
        tells them apart.
    """

    id = "mesh"
    title = "Parts at fault between hosts"
    after = ("optical", "link", "address", "gateway", "vnic", "spod-info")

    def __init__(self, measured: Measured | None = None) -> None:
        self._measured = measured

    def judge(self, cluster: ClusterFacts, results: tuple[Result, ...]) -> Iterable[Result]:
        if self._measured is None:
            return
        if self._measured.failure:
            raise RuntimeError(f"the pings could not be judged together: {self._measured.failure}")
        found = _not_passed(results)
        by_cell: dict[CellKey, list[Verdict]] = defaultdict(list)
        for verdict in self._measured.verdicts:
            key = verdict_cell(verdict, self._measured.fabric, found)
            if key is not None and key.check == self.id:
                by_cell[key].append(verdict)
        for key, verdicts in by_cell.items():
            yield self._accuse(key.subject, verdicts, self._measured)

    def _accuse(self, subject: Subject, verdicts: Sequence[Verdict], measured: Measured) -> Result:
        worst = verdicts[0]
        known = advice(f"mesh/{worst.component.kind.value}")
        pairs = [measured.by_pair[key] for one in verdicts for key in one.explains if key in measured.by_pair]
        sent, lost = _packets(pairs)
        sure = min(verdict.confidence for verdict in verdicts)
        return Result(
            self.id,
            subject,
            Status.FAIL,
            "; ".join(verdict.message for verdict in verdicts),
            expected="no packet lost",
            actual=f"{lost} of {sent} packets of {len(pairs)} pings lost; confidence {100 * sure:.0f} %",
            consequence=known.consequence,
            remedy=known.remedy,
            command=_command(pairs[0]) if pairs else "",
            evidence="\n".join(line for verdict in verdicts for line in verdict_lines(verdict)),
        )


class _MeshOfPlane(ClusterCheck):
    """The cells of one network."""

    plane: ClassVar[Plane]

    def __init__(self, measured: Measured | None = None) -> None:
        self._measured = measured

    def judge(self, cluster: ClusterFacts, results: tuple[Result, ...]) -> Iterable[Result]:
        if self._measured is None:
            return
        cells = _PortCells(self, self._measured, results)
        for host in cluster.hosts:
            if self._measured.why_off:
                yield cells.not_applicable(host_subject(host.host), self._measured.why_off)
            else:
                yield from cells.judge(host, cluster)


class MeshHccs(_MeshOfPlane):
    """Each device of a super pod reaches others over HCCS.

    What:
        `hccn_tool -hccs_ping` between devices of different hosts of one super pod, by vNIC address: every
        device sends to and is sent to by others. A cell per device, and one per pair that lost packets. Its
        exit code and its `recv seq` lines say nothing of loss; the fate of each packet is read.
    Why:
        Inside a super pod HCCL connects over HCCS, and no other state of a device shows whether that works.
    Consequence:
        Ranks of these devices cannot connect: HCCL waits for its socket and times out (EI0006).
    Remedy:
        See which part `mesh` names. A pair that nothing explains: look at the HCCS links of both NPUs
        (`npu-smi info -t hccs`), and measure it again with `--packets 30`. `hccs_ping` needs root, and the
        same driver on both ends.
    """

    id = "mesh-hccs"
    title = "Devices reach each other over HCCS"
    after = ("reachable", "npu-mapping", "vnic", "spod-info")
    plane = Plane.HCCS


class MeshRoce(_MeshOfPlane):
    """Each device with a RoCE address reaches others over RoCE.

    What:
        `hccn_tool -ping` between devices of different hosts, by RoCE address: every device sends to and is
        sent to by others, behind its own leaf switch and behind other ones. A cell per device, and one per
        pair that lost packets. The tool fails on a single lost packet; its summary is what counts.
    Why:
        A link that is up says nothing about the way behind the switch: VLANs, routes, addresses.
    Consequence:
        Ranks of these devices cannot connect: HCCL waits for its socket and times out (EI0006); a few lost
        packets become CQE errors (EI0013).
    Remedy:
        See which part `mesh` names. A pair that nothing explains: measure it again with `--packets 30`, and
        look at the switch ports of both devices (`hccn_tool -i N -lldp -g` names them).
    """

    id = "mesh-roce"
    title = "Devices reach each other over RoCE"
    after = ("reachable", "npu-mapping", "link", "address")
    plane = Plane.ROCE


class _PortCells(DeviceCheck):
    """The cell of each device in one network, and behind those of a host the cells of its failing pairs."""

    def __init__(self, check: _MeshOfPlane, measured: Measured, results: Iterable[Result]) -> None:
        self.id, self.plane = check.id, check.plane  # type: ignore[misc]
        self._measured = measured
        self._found = _not_passed(results)
        self._failing: dict[str, list[Observation]] = defaultdict(list)
        for observation in measured.observations:
            if observation.ping.plane is self.plane and _lost(observation):
                self._failing[observation.ping.source.host].append(observation)
        self._causes = {
            id(verdict): cause
            for verdict in measured.verdicts
            if any(key.check == self.id for key in verdict.explains)
            and (cause := verdict_cell(verdict, measured.fabric, self._found)) is not None
        }
        self._parts = _Parts(self.plane, [v for v in measured.verdicts if id(v) in self._causes])

    def judge_ascend(self, host: HostFacts, cluster: ClusterFacts) -> Iterable[Result]:
        yield from super().judge_ascend(host, cluster)
        for observation in self._failing.get(host.host, ()):
            yield self._judge_pair(observation)

    def judge_device(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        outside = self._outside(device, subject, host)
        if outside is not None:
            return outside
        port = self._measured.fabric.by_id[PortId(host.host, device.phy_id)]
        others = self._measured.others(port, self.plane)
        if not others:
            return self.not_applicable(subject, f"there is no other host to be pinged{self._where(port)}")
        pings = self._measured.of_port.get((self.plane, port.id), ())
        learned = [ping for ping in pings if ping.sent]
        partners = {_other_end(ping, port.id) for ping in learned}
        if self._measured.part_of_run and not pings:
            return self.not_applicable(subject, "its pings were with hosts that are not selected here")
        least = 1 if self._measured.part_of_run else min(_LEAST_PARTNERS, self._measured.partners, others)
        if len(partners) < least:
            return self._unmeasured(subject, port, pings)
        at_fault = self._parts.holding(port)
        if at_fault is not None:
            return self._skipped(subject, at_fault, self._figures(port, learned))
        if all(_lost(ping) for ping in learned):
            verdict = next(filter(None, map(self._explanation, learned)), None)
            if verdict is not None:
                return self._skipped(subject, verdict, self._figures(port, learned))
            return self._explained(subject, pair_cell(learned[0].ping), self._figures(port, learned))
        return self.passed(subject, self._figures(port, learned))

    # --- ports that were not pinged ---------------------------------------------------------------

    def _outside(self, device: DeviceFacts, subject: Subject, host: HostFacts) -> Result | None:
        """The cell of a device that is not in this network, or on which its state forbids pings."""
        if self.plane is Plane.HCCS:
            return self._outside_hccs(device, subject, host)
        use = roce_use(device, host)
        port = self._measured.fabric.by_id[PortId(host.host, device.phy_id)]
        if use.wanted is Wanted.NO:
            return self.not_applicable(subject, f"RoCE is not expected here: {use.reason}")
        if port.roce_address is None:
            message = "it was not pinged, as it has no RoCE address that can be used"
            return self.depends(subject, message, CellKey("address", subject))
        if port.link_up is False:
            message = "it was not pinged, as its link is DOWN"
            return self.depends(subject, message, CellKey("link", subject))
        return None

    def _outside_hccs(self, device: DeviceFacts, subject: Subject, host: HostFacts) -> Result | None:
        if host.generation is Generation.A2:
            return self.not_applicable(subject, "A2 servers have no HCCS between hosts")
        spod, vnic = device.spod, device.vnic.value
        if spod.status is ReadingStatus.UNSUPPORTED:
            return self.not_applicable(subject, "this product belongs to no super pod")
        if spod.value is None:
            message = "it was not pinged, as its super pod is not known"
            return self.depends(subject, message, CellKey("spod-info", subject))
        if spod.value.sdid == sdid.INVALID:
            return self.not_applicable(subject, "it is in no super pod")
        if vnic is None or vnic.link_status is LinkStatus.DOWN:
            message = "it was not pinged, as its vNIC is DOWN or has no address"
            return self.depends(subject, message, CellKey("vnic", subject))
        return None

    def _where(self, port: Port) -> str:
        if self.plane is Plane.HCCS:
            return f" in super pod {port.super_pod}"
        return "" if port.gateway else f" in segment {port.roce_segment}, and it has no gateway"

    def _unmeasured(self, subject: Subject, port: Port, pings: Sequence[Observation]) -> Result:
        problems = [ping.problem for ping in pings if not ping.sent and ping.ping.source == port.id]
        problems += [ping.problem for ping in pings if not ping.sent and ping.ping.source != port.id]
        silent = self._measured.silent.get(port.id.host)
        why = silent or next(filter(None, problems), "none of them were sent")
        known = advice("mesh-roce/unmeasured")
        return Unlearned(
            self.id,
            subject,
            Status.UNKNOWN,
            f"too little is known of its pings: {why}",
            expected="pings with several other devices",
            actual=f"{sum(1 for ping in pings if ping.sent)} of {len(pings)} pings learned",
            consequence=known.consequence,
            remedy=known.remedy,
            command=f"hccn_tool -i {port.id.device} {_PING[self.plane]} -g address A",
        )

    # --- pairs, and what explains them ------------------------------------------------------------

    def _judge_pair(self, observation: Observation) -> Result:
        key = pair_cell(observation.ping)
        sent, received = observation.sent or 0, observation.received or 0
        seen = f"{sent - received} of {sent} packets lost"
        verdict = self._explanation(observation)
        if verdict is not None:
            return self._skipped(key.subject, verdict, seen, _command(observation))
        nothing = received == 0
        known = advice("mesh-roce/pair-lost" if nothing else "mesh-roce/pair-lossy")
        return Result(
            self.id,
            key.subject,
            Status.FAIL if nothing else Status.WARN,
            "no packet came back, and no part that could be at fault stands out"
            if nothing
            else "packets were lost, as chance may, and no part at fault stands out",
            expected="no packet lost",
            actual=seen,
            consequence=known.consequence,
            remedy=known.remedy,
            command=_command(observation),
            evidence=f"{_command(observation)}: {sent} packets transmitted, {received} received",
        )

    def _explanation(self, observation: Observation) -> Verdict | None:
        return self._measured.explained_by.get(pair_cell(observation.ping)) if _lost(observation) else None

    def _skipped(self, subject: Subject, verdict: Verdict, seen: str, command: str = "") -> Result:
        return self._explained(subject, self._causes[id(verdict)], seen, command)

    def _explained(self, subject: Subject, cause: CellKey, seen: str, command: str = "") -> Result:
        """A cell that another one explains, or what explains that in turn."""
        root = self._found.get(cause)
        if root is not None and root.status is Status.SKIPPED and root.caused_by is not None:
            cause = root.caused_by
            root = self._found.get(cause)
        what = f"explained by {cause.check}" + (f": {root.message}" if root else "")
        return Result(
            self.id,
            subject,
            Status.SKIPPED,
            what,
            actual=seen,
            caused_by=cause,
            root_fails=root is not None and root.status is Status.FAIL,
            command=command,
        )

    def _figures(self, port: Port, learned: Sequence[Observation]) -> str:
        sent_to = {ping.ping.target for ping in learned if ping.ping.source == port.id}
        sent_by = {ping.ping.source for ping in learned if ping.ping.target == port.id}
        sent, lost = _packets(learned)
        own = f", {lost} of {sent} packets lost" if lost else f", none of {sent} packets lost"
        return f"pings to {len(sent_to)} and from {len(sent_by)} devices of other hosts{own}"


class _Parts:
    """Which ports lie wholly in a part at fault."""

    def __init__(self, plane: Plane, verdicts: Iterable[Verdict]) -> None:
        self._plane = plane
        self._by_part: dict[tuple[object, ...], Verdict] = {}
        for verdict in verdicts:
            for part in self._keys(verdict.component):
                self._by_part.setdefault(part, verdict)

    def holding(self, port: Port) -> Verdict | None:
        host = port.id.host
        own = (("host", host), ("npu", host, port.npu), ("device", host, port.id.device))
        switch = (("switch", port.switch),) if self._plane is Plane.ROCE and port.switch else ()
        return next(filter(None, (self._by_part.get(part) for part in (*switch, *own))), None)

    def _keys(self, component: Component) -> Iterator[tuple[object, ...]]:
        if component.value in {plane.value for plane in Plane} - {self._plane.value}:
            return
        if component.kind is ComponentKind.HOST:
            yield "host", component.host
        elif component.kind is ComponentKind.NPU:
            yield "npu", component.host, component.npu
        elif component.kind in (ComponentKind.DEVICE, ComponentKind.ADDRESS) and component.host:
            yield "device", component.host, component.device
        elif component.kind is ComponentKind.LINK and component.value == CABLE_SWAP and component.peer:
            # Of other links only what runs between these two is lost.
            yield "device", component.host, component.device
            yield "device", component.peer.host, component.peer.device
        elif component.kind is ComponentKind.SWITCH and component.value is None:
            yield "switch", component.switch


def verdict_cell(verdict: Verdict, fabric: Fabric, found: Mapping[CellKey, Result]) -> CellKey | None:
    """The cell that stands for a verdict: what a check of facts found, else ``mesh`` on the part.

    ``found``: the cells that are no pass. None where there are no failing pings that it would explain.
    """
    pairs = [key for key in verdict.explains if key.check in _MESH_CHECKS]
    if not pairs:
        return None
    return _found_by_facts(verdict, pairs, fabric, found) or CellKey(
        Mesh.id, _subject_of(verdict.component, fabric)
    )


def _found_by_facts(
    verdict: Verdict, pairs: Sequence[CellKey], fabric: Fabric, found: Mapping[CellKey, Result]
) -> CellKey | None:
    """The failure of a check between hosts that is the same thing as a verdict of facts."""
    for part in _in_either_order(_subject_of(verdict.component, fabric)):
        own = found.get(CellKey(Cabling.id, part))
        if own is not None and own.status is Status.FAIL and verdict.component.value != Plane.HCCS.value:
            return own.key
    if verdict.component.kind not in _OF_FACTS:
        return None
    named = [_subject_of(one, fabric) for one in (verdict.component, *verdict.alternatives)]
    ends = [Subject(SubjectKind.DEVICE, key.subject.host, device=key.subject.device) for key in pairs]
    peers = [(key.subject.peer.host, key.subject.peer.device) for key in pairs if key.subject.peer]
    ends += [Subject(SubjectKind.DEVICE, host, device=device) for host, device in peers]
    for subject in (*named, *(_with_ids(end, fabric) for end in ends)):
        for check in _OF_FACTS[verdict.component.kind]:
            for part in (subject, host_subject(subject.host or "")):
                cell = found.get(CellKey(check, part))
                if cell is not None and cell.status is Status.FAIL:
                    return cell.key
    return None


def _in_either_order(subject: Subject) -> tuple[Subject, ...]:
    """The subject, and of a link the same from its other end."""
    if subject.peer is None or subject.host is None or subject.device is None:
        return (subject,)
    ends = (subject.peer.host, subject.peer.device, Peer(subject.host, subject.device))
    return subject, replace(subject, host=ends[0], device=ends[1], peer=ends[2])


# Kinds of verdicts that need no ping → the checks that find the same in the facts.
_OF_FACTS: Mapping[ComponentKind, tuple[str, ...]] = {
    ComponentKind.ADDRESS: ("duplicate-address", "address", "super-pods", "spod-info"),
    ComponentKind.SUPER_POD: ("super-pods",),
}
_MESH_CHECKS = frozenset(f"mesh-{plane.value}" for plane in Plane)


def with_warnings_lifted(results: Iterable[Result], measured: Measured) -> tuple[Result, ...]:
    """The results with A3 dies of one NPU in one segment passed, where pings prove that both are reached.

    That two such dies should lie in different segments (``address``) is advice of the vendor's; that pings
    to and from both of them, all others of the NPU included, come back is a measurement.
    """
    return tuple(_lifted(cell, measured) for cell in results)


def _lifted(cell: Result, measured: Measured) -> Result:
    host, device = cell.subject.host, cell.subject.device
    if cell.check != "address" or cell.status is not Status.WARN or host is None or device is None:
        return cell
    port = measured.fabric.by_id.get(PortId(host, device))
    dies = [one for one in measured.fabric.hosts.get(host, ()) if port and one.npu == port.npu]
    proof = [_reached(one.id, measured) for one in dies if port and one.roce_segment == port.roce_segment]
    if len(proof) < 2 or not all(proof):
        return cell
    message = f"{cell.message}, which pings show to work: {'; '.join(proof)}"
    return replace(cell, status=Status.PASS, message=message, consequence="", remedy="")


def _reached(port: PortId, measured: Measured) -> str:
    """What the pings of a port prove, in words; empty where they do not prove that both ways work."""
    met = [one for one in measured.of_port.get((Plane.ROCE, port), ()) if one.sent]
    pings = [one for one in met if one.received or not _lost_elsewhere(one, port, measured)]
    if not pings or not all(one.received for one in pings):
        return ""
    sent_by = [one for one in pings if one.ping.source == port]
    if not sent_by or len(sent_by) == len(pings):
        return ""
    sent, lost = _packets(pings)
    counts = f"{len(sent_by)} pings from and {len(pings) - len(sent_by)} to it"
    return f"device {port.device}: {counts}, {lost} of {sent} packets lost"


def _lost_elsewhere(observation: Observation, port: PortId, measured: Measured) -> bool:
    """Whether a part at fault explains a ping that does not hold this port, such as the other end's host."""
    verdict = measured.explained_by.get(pair_cell(observation.ping))
    return verdict is not None and verdict.component.host not in (None, port.host)


def with_consequences_folded(results: Sequence[Result], measured: Measured) -> tuple[Result, ...]:
    """The results with what follows from a part at fault explained by it, as far as it was judged before.

    A port's own detect ping (``net-health``) runs over the same way as the pings to other hosts; a swap of
    cables that was merely observed (``cabling``) is a fault where they fail.
    """
    verdicts = [v for v in measured.verdicts if any(key.check == MeshRoce.id for key in v.explains)]
    if not verdicts:
        return tuple(results)
    parts, found = _Parts(Plane.ROCE, verdicts), _not_passed(results)
    return tuple(_folded(cell, parts, measured.fabric, found) for cell in results)


_JUDGED_BEFORE = (("net-health", Status.FAIL), (Cabling.id, Status.WARN))


def _folded(cell: Result, parts: _Parts, fabric: Fabric, found: Mapping[CellKey, Result]) -> Result:
    host, device = cell.subject.host, cell.subject.device
    if (cell.check, cell.status) not in _JUDGED_BEFORE or host is None or device is None:
        return cell
    port = fabric.by_id.get(PortId(host, device))
    verdict = parts.holding(port) if port else None
    root = found.get(verdict_cell(verdict, fabric, found) or cell.key) if verdict else None
    if root is None or root.status is not Status.FAIL or root.check not in (Mesh.id, Cabling.id):
        return cell
    if cell.check == Cabling.id and cell.subject not in _in_either_order(root.subject):
        return cell
    message = f"explained by {root.check}: {root.message}"
    return replace(cell, status=Status.SKIPPED, message=message, caused_by=root.key, root_fails=True)


def verdict_lines(verdict: Verdict) -> Iterator[str]:
    """What supports a verdict, what was ruled out, and what else it could be, one sentence each."""
    yield from verdict.evidence
    for sentence in verdict.ruled_out:
        yield f"ruled out: {sentence}"


def _subject_of(component: Component, fabric: Fabric) -> Subject:
    kind = component.kind
    if kind is ComponentKind.LINK:
        return Subject(SubjectKind.LINK, host=component.host, device=component.device, peer=component.peer)
    if kind is ComponentKind.SWITCH:
        kind_of_subject = SubjectKind.CLUSTER if component.switch is None else SubjectKind.SWITCH
        return Subject(kind_of_subject, switch=component.switch)
    if kind is ComponentKind.SUPER_POD:
        # What else the value says, such as the hosts of one side, is the message's to tell.
        pod = (component.value or "").partition(":")[0]
        return Subject(SubjectKind.SUPER_POD, host=component.host, group=pod or None)
    if kind is ComponentKind.NPU:
        return Subject(SubjectKind.DEVICE, host=component.host, npu=component.npu)
    if component.host is None:
        return Subject(SubjectKind.GROUP, group=component.value)
    if component.device is None:
        return host_subject(component.host)
    return _with_ids(Subject(SubjectKind.DEVICE, component.host, device=component.device), fabric)


def _with_ids(device: Subject, fabric: Fabric) -> Subject:
    """A device with the ids of both tools, as every other check names it."""
    port = fabric.by_id.get(PortId(device.host or "", device.device if device.device is not None else -1))
    return device if port is None else replace(device, npu=port.npu, chip=port.chip)


def _not_passed(results: Iterable[Result]) -> dict[CellKey, Result]:
    return {cell.key: cell for cell in results if cell.status is not Status.PASS}


def _command(observation: Observation) -> str:
    ping = observation.ping
    return f"hccn_tool -i {ping.source.device} {_PING[ping.plane]} -g address {ping.address}"


def _lost(observation: Observation) -> bool:
    return bool(observation.sent) and (observation.received or 0) < (observation.sent or 0)


def _packets(observations: Iterable[Observation]) -> tuple[int, int]:
    """Packets sent and lost."""
    sent = lost = 0
    for one in observations:
        sent += one.sent or 0
        lost += (one.sent or 0) - (one.received or 0)
    return sent, lost


def _other_end(observation: Observation, port: PortId) -> PortId:
    ping = observation.ping
    return ping.target if ping.source == port else ping.source
