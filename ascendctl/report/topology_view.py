"""The cluster as it is drawn: hosts in their super pods, leaf switches, segments, rails, and what was found.

One view for the tree, the JSON and the picture. What is not known stands as not known: a host that told
nothing of its devices is there without any, a host whose super pod is not known is in a group of its own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Network
from typing import TypeVar

from ascendctl.facts import Generation
from ascendctl.report.marks import ABSENT, Mark, mark_of, worst
from ascendctl.results import Component, ComponentKind, Result, SubjectKind, Verdict
from ascendctl.topology.fabric import Fabric, Port, PortId

K = TypeVar("K", bound=Hashable)

# The checks of a port in the scale-out network; what else is found on a device lies in the device itself or
# in the scale-up network.
SCALE_OUT_CHECKS = frozenset(
    {
        "address",
        "fec",
        "gateway",
        "hccn-conf",
        "link",
        "link-flaps",
        "lldp",
        "mtu",
        "net-health",
        "netdetect",
        "optical",
        "port-errors",
        "speed",
        "tls",
    }
)

# Outside a super pod an A3 die's vNIC address begins with these.
_OUTSIDE_VNIC = "192.168."


class Membership(str, Enum):
    """How a host stands to super pods."""

    MEMBER = "member"
    OUTSIDE = "outside"  # A3, in none
    NONE = "none"  # A2 has none
    UNKNOWN = "unknown"  # it did not tell


@dataclass(frozen=True)
class HostView:
    """A host. ``mark`` is the worst of all on it, ``own`` that of the host as a whole; no ports = it told
    nothing of its devices."""

    name: str
    ports: tuple[Port, ...]
    membership: Membership
    super_pod: int | None
    server_index: int | None
    own: Mark
    mark: Mark

    @property
    def npus(self) -> int:
        return len({port.npu for port in self.ports})


@dataclass(frozen=True)
class HostGroup:
    """Hosts that HCCS joins (``super_pod`` set), or that stand alike to super pods."""

    membership: Membership
    super_pod: int | None
    hosts: tuple[HostView, ...]
    mark: Mark

    @property
    def title(self) -> str:
        return {
            Membership.MEMBER: f"super pod {self.super_pod}",
            Membership.OUTSIDE: "in no super pod",
            Membership.NONE: "no super pods: HCCS inside each server only",
            Membership.UNKNOWN: "super pod not known" if self.ports else "not known where",
        }[self.membership]

    @property
    def ports(self) -> int:
        return sum(len(host.ports) for host in self.hosts)


@dataclass(frozen=True)
class SwitchView:
    """A leaf switch with the ports that hear it. ``mark``: of the switch itself and of those ports' scale-out
    side."""

    name: str
    ports: tuple[Port, ...]
    mark: Mark


@dataclass(frozen=True)
class RailView:
    """The ports of one physical id on all hosts."""

    device: int
    ports: tuple[Port, ...]

    @property
    def switches(self) -> tuple[str, ...]:
        return tuple(sorted({port.switch for port in self.ports if port.switch is not None}))


@dataclass(frozen=True)
class Callout:
    """A verdict with the parts of the drawing it accuses; ``number`` counts from 1."""

    number: int
    verdict: Verdict
    devices: frozenset[PortId] = frozenset()
    hosts: frozenset[str] = frozenset()
    switches: frozenset[str] = frozenset()
    super_pods: frozenset[int] = frozenset()


@dataclass(frozen=True)
class TopologyView:
    """Everything that is drawn. ``device_marks`` holds every port, ``device_findings`` those of devices that
    are not well, ``between`` the findings on links between hosts and on the cluster."""

    fabric: Fabric
    hosts: tuple[HostView, ...]
    groups: tuple[HostGroup, ...]
    switches: tuple[SwitchView, ...]
    rails: tuple[RailView, ...]
    segments: Mapping[IPv4Network, tuple[Port, ...]]
    without_switch: tuple[Port, ...]
    device_marks: Mapping[PortId, Mark]
    scale_out_marks: Mapping[PortId, Mark]
    findings: Mapping[PortId | str, tuple[Result, ...]]
    between: tuple[Result, ...]
    callouts: tuple[Callout, ...]

    @property
    def has_scale_out(self) -> bool:
        """Whether any port has a RoCE address or hears a leaf switch."""
        return bool(self.segments or self.switches or self.without_switch)


def view_of(
    fabric: Fabric,
    results: Sequence[Result] = (),
    verdicts: Sequence[Verdict] = (),
    *,
    hosts: Sequence[str] = (),
) -> TopologyView:
    """The drawing of a fabric with what was found on it.

    ``hosts``: those that must be there, in their order; hosts of ``results`` follow. One that is not in the
    fabric told nothing of its devices.
    """
    found = _Found.of(results)
    names = list(dict.fromkeys([*hosts, *found.hosts, *fabric.hosts]))
    device_marks = {port.id: worst_or_absent(found.devices.get(port.id, ())) for port in fabric.ports}
    scale_out = {
        port.id: worst_or_absent(
            cell for cell in found.devices.get(port.id, ()) if cell.check in SCALE_OUT_CHECKS
        )
        for port in fabric.ports
    }
    drawn = tuple(_host(name, fabric, found, device_marks) for name in names)
    return TopologyView(
        fabric=fabric,
        hosts=drawn,
        groups=_groups(drawn, found),
        switches=tuple(_switch(name, fabric, found, scale_out) for name in _by_number(fabric.switches)),
        rails=tuple(RailView(device, ports) for device, ports in sorted(_rails(fabric).items())),
        segments=dict(sorted(fabric.segments.items(), key=lambda item: item[0])),
        without_switch=tuple(port for port in fabric.ports if port.roce_address and port.switch is None),
        device_marks=device_marks,
        scale_out_marks=scale_out,
        findings=found.not_well(),
        between=tuple(cell for cell in found.between if _is_told(cell)),
        callouts=tuple(_callout(number, verdict, fabric) for number, verdict in enumerate(verdicts, start=1)),
    )


def worst_or_absent(cells: Iterable[Result]) -> Mark:
    """The mark of a part with these cells; nothing known where there are none."""
    return max((mark_of(cell) for cell in cells), key=lambda mark: mark.rank, default=ABSENT)


# --- what was found -------------------------------------------------------------------------------


@dataclass
class _Found:
    """Cells by the part they lie on. ``hosts`` holds every host that has any."""

    hosts: dict[str, list[Result]] = field(default_factory=lambda: defaultdict(list))
    devices: dict[PortId, list[Result]] = field(default_factory=lambda: defaultdict(list))
    switches: dict[str, list[Result]] = field(default_factory=lambda: defaultdict(list))
    super_pods: dict[str, list[Result]] = field(default_factory=lambda: defaultdict(list))
    between: list[Result] = field(default_factory=list)

    @classmethod
    def of(cls, results: Iterable[Result]) -> _Found:
        found = cls()
        for cell in results:
            subject = cell.subject
            if subject.host is not None:
                _ = found.hosts[subject.host]  # it is there, whatever the cell is about
            if subject.kind is SubjectKind.SWITCH and subject.switch is not None:
                found.switches[subject.switch].append(cell)
            elif subject.kind is SubjectKind.SUPER_POD and subject.group is not None:
                found.super_pods[subject.group].append(cell)
            elif subject.host is None or subject.kind is SubjectKind.LINK:
                found.between.append(cell)
            elif subject.device is None:
                found.hosts[subject.host].append(cell)
            else:
                found.devices[PortId(subject.host, subject.device)].append(cell)
        return found

    def not_well(self) -> dict[PortId | str, tuple[Result, ...]]:
        """The cells of devices and hosts that are worth a word, the worst first."""
        told: dict[PortId | str, tuple[Result, ...]] = {}
        parts: list[tuple[PortId | str, list[Result]]] = [*self.hosts.items(), *self.devices.items()]
        for part, cells in parts:
            bad = sorted(filter(_is_told, cells), key=lambda cell: -mark_of(cell).rank)
            if bad:
                told[part] = tuple(bad)
        return told


def _is_told(cell: Result) -> bool:
    """Whether a cell is worth a word: what follows from another is said there."""
    return mark_of(cell).rank > 1 and cell.caused_by is None


# --- the parts ------------------------------------------------------------------------------------


def _host(name: str, fabric: Fabric, found: _Found, device_marks: Mapping[PortId, Mark]) -> HostView:
    ports = fabric.hosts.get(name, ())
    own = worst_or_absent(found.hosts.get(name, ()))
    marks = [own, *(device_marks[port.id] for port in ports)]
    pods = sorted({port.super_pod for port in ports if port.super_pod is not None})
    indexes = {port.server_index for port in ports if port.server_index is not None}
    return HostView(
        name=name,
        ports=ports,
        membership=_membership(ports),
        super_pod=pods[0] if pods else None,
        server_index=indexes.pop() if len(indexes) == 1 else None,
        own=own,
        mark=worst(marks),
    )


def _membership(ports: Sequence[Port]) -> Membership:
    if any(port.super_pod is not None for port in ports):
        return Membership.MEMBER
    if any(port.generation is Generation.A2 for port in ports):
        return Membership.NONE
    if any((port.vnic_address or "").startswith(_OUTSIDE_VNIC) for port in ports):
        return Membership.OUTSIDE
    return Membership.UNKNOWN


def _groups(hosts: Sequence[HostView], found: _Found) -> tuple[HostGroup, ...]:
    """Super pods first, by id; what is not known comes last."""
    grouped: dict[tuple[Membership, int | None], list[HostView]] = defaultdict(list)
    for host in hosts:
        grouped[host.membership, host.super_pod].append(host)
    order = list(Membership)
    keys = sorted(grouped, key=lambda key: (order.index(key[0]), -1 if key[1] is None else key[1]))
    return tuple(
        HostGroup(
            membership,
            super_pod,
            tuple(grouped[membership, super_pod]),
            worst_or_absent(found.super_pods.get(str(super_pod), ())),
        )
        for membership, super_pod in keys
    )


def _switch(name: str, fabric: Fabric, found: _Found, scale_out: Mapping[PortId, Mark]) -> SwitchView:
    ports = fabric.switches[name]
    marks = [worst_or_absent(found.switches.get(name, ())), *(scale_out[port.id] for port in ports)]
    return SwitchView(name, ports, max(marks, key=lambda mark: mark.rank))


def _by_number(names: Iterable[str]) -> list[str]:
    """``leaf-2`` before ``leaf-10``."""
    return sorted(names, key=lambda name: [part.zfill(12) for part in re.split(r"(\d+)", name)])


def _rails(fabric: Fabric) -> dict[int, tuple[Port, ...]]:
    rails: dict[int, list[Port]] = defaultdict(list)
    for port in fabric.ports:
        rails[port.rail].append(port)
    return {device: tuple(ports) for device, ports in rails.items()}


# --- whom a verdict accuses -------------------------------------------------------------------------


def _callout(number: int, verdict: Verdict, fabric: Fabric) -> Callout:
    component = verdict.component
    if component.kind is ComponentKind.SWITCH:
        return Callout(number, verdict, switches=frozenset({component.switch} if component.switch else ()))
    if component.kind is ComponentKind.SUPER_POD and component.host is None:
        pod = (component.value or "").partition(":")[0]
        pods = frozenset(known for known in fabric.super_pods if str(known) == pod)
        return Callout(number, verdict, super_pods=pods)
    devices = frozenset(_accused_devices(component, fabric))
    host = component.host if component.host is not None and not devices else None
    return Callout(number, verdict, devices=devices, hosts=frozenset({host} if host else ()))


def _accused_devices(component: Component, fabric: Fabric) -> Iterable[PortId]:
    if component.host is not None and component.device is not None:
        yield PortId(component.host, component.device)
    elif component.host is not None and component.npu is not None:
        yield from (p.id for p in fabric.hosts.get(component.host, ()) if p.npu == component.npu)
    elif component.host is None and component.kind is ComponentKind.ADDRESS and component.value:
        yield from (p.id for p in fabric.ports if component.value in (p.roce_address, p.vnic_address))
    if component.peer is not None:
        yield PortId(component.peer.host, component.peer.device)
