"""What facts alone say against a part, without any ping: TLS, addresses that two have, super pods.

HCCL's own rules: the TLS switch must be equal on all peers, a RoCE address belongs to one port, an SDID to
one die of a super pod. Who is wrong is judged by the other ports of the same host, and by the majority.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ascendctl.inventory.nodesets import fold
from ascendctl.results import (
    CellKey,
    Component,
    ComponentKind,
    Subject,
    SubjectKind,
    Verdict,
    host_subject,
)
from ascendctl.topology import sdid
from ascendctl.topology.fabric import Fabric, Plane, Port, PortId
from ascendctl.topology.mesh import Observation, Ping

CABLE_SWAP = "cable swap"  # the value of a link that stands for an exchange of cables

# How many of many parts a sentence names.
_NAMED = 4


@dataclass(frozen=True)
class Clues:
    """What is known beside the ports. ``groups``: the inventory group of a host; hosts in none are one.

    ``cabling``: the leaf switch that a device is meant to be on, by the inventory or by a baseline.
    """

    groups: Mapping[str, str] = field(default_factory=dict)
    cabling: Mapping[PortId, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contradiction:
    """A verdict of facts, and the ends whose failing pings follow from it."""

    verdict: Verdict
    ends: frozenset[tuple[Plane, PortId]] = frozenset()


def contradictions(fabric: Fabric, clues: Clues) -> list[Contradiction]:
    """Every verdict that needs no ping: addresses, super pods, TLS."""
    return [
        *_duplicate_addresses(fabric),
        *_duplicate_sdids(fabric),
        *_strayed_hosts(fabric),
        *_tls_islands(fabric, clues),
    ]


def free_of(found: Iterable[Contradiction], observations: Sequence[Observation]) -> list[Observation]:
    """The observations that follow from none of these."""
    taken = {end for each in found for end in each.ends}
    return [one for one in observations if not taken or taken.isdisjoint(ends_of(one.ping))]


def ends_of(ping: Ping) -> tuple[tuple[Plane, PortId], tuple[Plane, PortId]]:
    """Both ends of a ping, in its plane."""
    return (ping.plane, ping.source), (ping.plane, ping.target)


# --- TLS ------------------------------------------------------------------------------------------


def _tls_islands(fabric: Fabric, clues: Clues) -> Iterator[Contradiction]:
    groups: dict[str, list[Port]] = defaultdict(list)
    for port in fabric.ports:
        if port.tls_switch is not None:
            groups[clues.groups.get(port.id.host, "")].append(port)
    for ports in groups.values():
        if len({port.id.host for port in ports}) < 2:
            continue
        counts = Counter(port.tls_switch for port in ports)
        if len(counts) < 2:
            continue
        (usual, most), *rest = counts.most_common()
        tie = rest[0][1] == most
        sides = [value for value, number in counts.items() if tie and number == most]
        accused = sides if tie else [value for value, _ in rest]
        for value in sorted(accused, key=str):
            others = [_tls_component(ports, side) for side in sides if side != value]
            yield Contradiction(_tls_verdict(ports, value, None if tie else usual, others))


def _tls_verdict(ports: list[Port], value: int | None, usual: int | None, others: list[Component]) -> Verdict:
    odd = [port for port in ports if port.tls_switch == value]
    whole, single = _whole_hosts(odd, ports)
    where = " and ".join(
        filter(None, [fold(whole), ", ".join(map(str_port, (p.id for p in single[:_NAMED])))])
    )
    rest = len(ports) - len(odd)
    rest_hosts = len({port.id.host for port in ports if port.tls_switch != value})
    message = f"the TLS switch is {value} on {where}, and {usual} on {rest} devices of {rest_hosts} hosts"
    if usual is None:
        message = (
            f"the TLS switch is {value} on {where}; as many devices have another: either side may be wrong"
        )
    return Verdict(
        component=_tls_component(ports, value),
        message=message,
        # The share of its peers that a part taken at random agrees with: 1/2 on a tie.
        confidence=round(rest / len(ports), 4),
        explains=(
            *(CellKey("tls-switch", host_subject(host)) for host in whole),
            *(CellKey("tls-switch", _device_subject(port)) for port in single),
        ),
        evidence=(
            f"TLS switch {value}: {len(odd)} devices of {len({p.id.host for p in odd})} hosts; "
            f"otherwise: {rest} devices of {rest_hosts} hosts (hccn_tool -i N -tls -g)",
        ),
        ruled_out=("the network: pings do not use TLS, so they say nothing for or against it",),
        alternatives=tuple(others),
    )


def _tls_component(ports: list[Port], value: int | None) -> Component:
    odd = [port for port in ports if port.tls_switch == value]
    hosts = {port.id.host for port in odd}
    one = odd[0] if len(odd) == 1 else None
    return Component(
        ComponentKind.TLS_GROUP,
        host=hosts.pop() if len(hosts) == 1 else None,
        device=one.id.device if one else None,
        value=f"TLS switch {value}",
    )


def _whole_hosts(odd: Iterable[Port], ports: Iterable[Port]) -> tuple[list[str], list[Port]]:
    """The hosts that are odd as a whole, and the odd ports of other hosts."""
    in_all = Counter(port.id.host for port in ports)
    odd = list(odd)
    in_odd = Counter(port.id.host for port in odd)
    whole = [host for host, number in in_odd.items() if number == in_all[host]]
    as_a_whole = set(whole)
    return whole, [port for port in odd if port.id.host not in as_a_whole]


# --- addresses ------------------------------------------------------------------------------------


def _duplicate_addresses(fabric: Fabric) -> Iterator[Contradiction]:
    holders: dict[str, list[Port]] = defaultdict(list)
    for port in fabric.ports:
        if port.roce_address is not None:
            holders[port.roce_address].append(port)
    for address, ports in holders.items():
        if len(ports) > 1:
            strangers = [port for port in ports if _foreign_segment(fabric, port)]
            yield _conflict(address, ports, strangers, Plane.ROCE, "RoCE address", "segment")


def _foreign_segment(fabric: Fabric, port: Port) -> bool:
    """Whether most ports of the same chip number on the port's host lie in one other segment."""
    siblings = Counter(
        other.roce_segment
        for other in fabric.hosts[port.id.host]
        if other.id != port.id and other.chip == port.chip and other.roce_segment is not None
    )
    if not siblings:
        return False
    usual, number = siblings.most_common(1)[0]
    return number * 2 > siblings.total() and usual != port.roce_segment


def _duplicate_sdids(fabric: Fabric) -> Iterator[Contradiction]:
    """Two hosts with one server index share all their SDIDs: that is one conflict, not sixteen."""
    holders: dict[tuple[int, int], list[Port]] = defaultdict(list)
    for port in fabric.ports:
        if port.super_pod is not None and port.sdid is not None:
            holders[port.super_pod, port.sdid].append(port)
    between: dict[frozenset[str], list[list[Port]]] = defaultdict(list)
    for ports in holders.values():
        if len(ports) > 1:
            between[frozenset(port.id.host for port in ports)].append(ports)
    for hosts, conflicts in between.items():
        if len(conflicts) > 1:
            yield _same_server_index(hosts, conflicts)
            continue
        ports = conflicts[0]
        strangers = [port for port in ports if _foreign_server(fabric, port)]
        yield _conflict(f"SDID {ports[0].sdid}", ports, strangers, Plane.HCCS, "SDID", "server index")


def _foreign_server(fabric: Fabric, port: Port) -> bool:
    """Whether an SDID names another die, or another server than those of the host's other dies do."""
    if port.sdid is not None and sdid.decode(port.sdid).device != port.id.device:
        return True
    servers = Counter(
        other.server_index
        for other in fabric.hosts[port.id.host]
        if other.id != port.id and other.server_index is not None
    )
    if not servers:
        return False
    usual, number = servers.most_common(1)[0]
    return number * 2 > servers.total() and usual != port.server_index


def _same_server_index(hosts: frozenset[str], conflicts: list[list[Port]]) -> Contradiction:
    port = conflicts[0][0]
    ends = frozenset((Plane.HCCS, each.id) for ports in conflicts for each in ports)
    return Contradiction(
        Verdict(
            component=Component(ComponentKind.ADDRESS, value=f"server index {port.server_index}"),
            message=(
                f"server index {port.server_index} of super pod {port.super_pod} is that of several hosts: "
                f"{fold(hosts)}"
            ),
            confidence=0.99,
            evidence=(
                f"{len(conflicts)} SDIDs are there more than once in super pod {port.super_pod}, each on "
                f"{fold(hosts)} (npu-smi info -t spod-info); their vNIC addresses are the same, too",
            ),
        ),
        ends,
    )


def _conflict(
    value: str, ports: list[Port], strangers: list[Port], plane: Plane, what: str, by: str
) -> Contradiction:
    """One address with several holders; ``strangers`` are those whose host's other ports say otherwise."""
    culprit = strangers[0] if len(strangers) == 1 else None
    names = ", ".join(str_port(port.id) for port in ports[:_NAMED])
    if len(ports) > _NAMED:
        names += f" and {len(ports) - _NAMED} more"
    evidence = [f"{value} is the {what} of {len(ports)} devices: {names}"]
    ruled_out = []
    if culprit is not None:
        evidence.append(f"on {culprit.id.host} the other ports have another {by}, so it is not its own")
        rest = [port for port in ports if port is not culprit]
        ruled_out = [f"{str_port(port.id)}: its {by} is that of its host's other ports" for port in rest]
    owners = [
        Component(ComponentKind.ADDRESS, port.id.host, port.id.device, port.npu, value=value)
        for port in ports
    ]
    named = owners[ports.index(culprit)] if culprit else Component(ComponentKind.ADDRESS, value=value)
    return Contradiction(
        Verdict(
            component=named,
            message=(
                f"{str_port(culprit.id)} has the {what} of another device: {value}"
                if culprit
                else f"several devices have one {what}, {value}: {names}"
            ),
            # That the conflict is there is read, not inferred; whose address it is may be guessed wrongly.
            confidence=0.99,
            evidence=tuple(evidence),
            ruled_out=tuple(ruled_out),
            alternatives=() if culprit else tuple(owners[:_NAMED]),
        ),
        frozenset((plane, port.id) for port in ports),
    )


# --- super pods -----------------------------------------------------------------------------------


def _strayed_hosts(fabric: Fabric) -> Iterator[Contradiction]:
    """A host alone in a super pod, with a server index that is missing in the pod that most hosts are in.

    A host that really is the first of another pod has an index that the large pod uses already.
    """
    hosts_of: dict[int, dict[str, int | None]] = defaultdict(dict)
    for port in fabric.ports:
        if port.super_pod is not None:
            hosts_of[port.super_pod].setdefault(port.id.host, port.server_index)
    if len(hosts_of) < 2:
        return
    ranked = sorted(hosts_of, key=lambda pod: -len(hosts_of[pod]))
    for alone in ranked:
        if len(hosts_of[alone]) != 1:
            continue
        ((host, index),) = hosts_of[alone].items()
        home = _home(ranked, hosts_of, index)
        if home is None or len({p.super_pod for p in fabric.hosts[host]}) > 1:
            continue
        others = hosts_of[home]
        yield Contradiction(
            Verdict(
                component=Component(ComponentKind.SUPER_POD, host=host, value=str(alone)),
                message=(
                    f"{host} says that it is in super pod {alone}, alone; {len(others)} hosts are in "
                    f"super pod {home}, where its server index {index} is missing"
                ),
                # Of the hosts of one pod, how sure is the odd one wrong: as in a majority vote.
                confidence=round(len(others) / (len(others) + 1), 4),
                explains=(CellKey("super-pods", host_subject(host)),),
                evidence=(
                    f"Super Pod ID {alone}: {host}; {home}: {fold(others)} (npu-smi info -t spod-info)",
                    f"server index {index} is used by no host of super pod {home}",
                ),
            )
        )


def _home(
    ranked: list[int], hosts_of: Mapping[int, Mapping[str, int | None]], index: int | None
) -> int | None:
    """The pod that lacks this server index inside the range that it uses, and has at least three hosts."""
    for pod in ranked:
        used = {value for value in hosts_of[pod].values() if value is not None}
        if len(hosts_of[pod]) < 3 or index is None or index in used:
            continue
        if index <= max(used) + 1 and len(used) * 4 >= max(used) * 3:
            return pod
    return None


# --- names ----------------------------------------------------------------------------------------


def str_port(port: PortId) -> str:
    """``node03 device 5``"""
    return f"{port.host} device {port.device}"


def _device_subject(port: Port) -> Subject:
    return Subject(SubjectKind.DEVICE, port.id.host, port.npu, port.chip, port.id.device)
