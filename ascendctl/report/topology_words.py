"""What tree and picture say of a topology in words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from ascendctl.report.folding import fold_names, fold_numbers
from ascendctl.report.marks import ABSENT, PASS, QUIET
from ascendctl.report.topology_view import HostGroup, TopologyView
from ascendctl.results import Component, ComponentKind
from ascendctl.topology.fabric import Plane, Port, PortId


def headline(view: TopologyView) -> str:
    """How large the cluster is."""
    parts = [count_text(len(view.hosts), "host"), count_text(len(view.fabric.ports), "device")]
    if view.fabric.super_pods:
        parts.append(count_text(len(view.fabric.super_pods), "super pod"))
    if view.switches:
        parts.append(count_text(len(view.switches), "leaf switch", "leaf switches"))
    return ", ".join(parts)


def states_text(view: TopologyView) -> str:
    """How many hosts are not well, by the worst of what is on each; "" where all are."""
    calm = (PASS, QUIET, ABSENT)
    marks = Counter(host.mark for host in view.hosts if host.ports and host.mark not in calm)
    said = [
        f"{mark.word}: {count_text(marks[mark], 'host')}"
        for mark in sorted(marks, key=lambda mark: -mark.rank)
    ]
    if silent := sum(not host.ports for host in view.hosts):
        said.append(f"told nothing of devices: {count_text(silent, 'host')}")
    return ", ".join(said)


def group_text(group: HostGroup) -> str:
    """``super pod 0: 48 hosts, 768 devices``."""
    return f"{group.title}: {count_text(len(group.hosts), 'host')}, {count_text(group.ports, 'device')}"


def is_about_all_switches(component: Component) -> bool:
    """Whether what lies between leaf switches is accused, and none of them by name."""
    return component.kind is ComponentKind.SWITCH and component.switch is None


def ports_text(ports: Iterable[Port]) -> str:
    """As `places_text`."""
    return places_text(port.id for port in ports)


def places_text(places: Iterable[PortId], most: int = 3) -> str:
    """``node[01-08] device 0-7``: hosts with the same devices together."""
    devices: dict[str, list[int]] = defaultdict(list)
    for place in places:
        devices[place.host].append(place.device)
    alike: dict[str, list[str]] = defaultdict(list)
    for host, ids in devices.items():
        alike[fold_numbers(ids)].append(host)
    ordered = sorted(alike.items(), key=lambda item: -len(item[1]))
    texts = [f"{fold_names(hosts)} device {ids}" for ids, hosts in ordered[:most]]
    left = sum(len(hosts) for _, hosts in ordered[most:])
    return "; ".join(texts) + (f"; and {left} more hosts" if left else "")


def patterns(view: TopologyView) -> list[str]:
    """How rails and die pairs lie; reported, not judged: no vendor rule binds a device to a switch."""
    texts = []
    rails = [rail for rail in view.rails if rail.switches]
    if rails and len(view.fabric.hosts) > 1:
        one = sum(len(rail.switches) == 1 for rail in rails)
        texts.append(f"rails (same device on every host): {len(rails)}, {one} of them on one leaf switch")
    pairs = [ports for ports in _die_pairs(view.fabric.ports) if all(p.roce_address for p in ports)]
    if pairs:
        apart = sum(one.roce_segment != other.roce_segment for one, other in pairs)
        same = sum(one.switch is not None and one.switch == other.switch for one, other in pairs)
        texts.append(
            f"die pairs: {len(pairs)}, {apart} of them in two segments, {same} behind the same leaf switch"
        )
    down = [port.id for port in view.fabric.ports_on(Plane.ROCE) if port.link_up is False]
    if down:
        texts.append(f"link down: {places_text(down)}")
    return texts


def _die_pairs(ports: Iterable[Port]) -> list[tuple[Port, Port]]:
    npus: Mapping[tuple[str, int], list[Port]] = defaultdict(list)
    for port in ports:
        npus[port.id.host, port.npu].append(port)
    return [(pair[0], pair[1]) for pair in npus.values() if len(pair) == 2]


def count_text(number: int, noun: str, plural: str = "") -> str:
    """``1 host``, ``2 hosts``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def component_text(component: Component) -> str:
    """A component in a few words: ``device 3 of node07 (roce)``, ``leaf switch leaf-02``."""
    place = component.host or ""
    if component.device is not None:
        place = f"device {component.device} of {place}"
    elif component.npu is not None:
        place = f"NPU {component.npu} of {place}"
    if component.peer is not None:
        place = f"{place} and device {component.peer.device} of {component.peer.host}"
    kind, value = component.kind, component.value or ""
    if kind in (ComponentKind.ADDRESS, ComponentKind.SUPER_POD, ComponentKind.TLS_GROUP):
        return " of ".join(filter(None, (f"{_KIND_WORDS[kind]} {value}".strip(), place)))
    if is_about_all_switches(component):
        return value or "the leaf switches"
    words = f"{_KIND_WORDS.get(kind, '')} {component.switch or place}".strip()
    return f"{words} ({value})" if value else words


_KIND_WORDS = {
    ComponentKind.HOST: "host",
    ComponentKind.LINK: "link between",
    ComponentKind.SWITCH: "leaf switch",
    ComponentKind.SUPER_POD: "super pod",
    ComponentKind.TLS_GROUP: "group with",
    ComponentKind.ADDRESS: "address",
}


def segment_texts(view: TopologyView) -> list[str]:
    """One line per RoCE segment; segments that look alike share one."""
    alike: dict[tuple[str, int, int], list[tuple[str, tuple[Port, ...]]]] = defaultdict(list)
    for network, ports in view.segments.items():
        hosts = len({port.id.host for port in ports})
        ids = fold_numbers(port.id.device for port in ports)
        alike[ids, hosts, len(ports)].append((str(network), ports))
    texts = []
    for (_, _, size), found in alike.items():
        first, ports = found[0]
        if len(found) == 1:
            texts.append(f"{first}: {count_text(size, 'port')} of {ports_text(ports)}")
            continue
        names = f"{first} and {len(found) - 1} more" if len(found) > 2 else f"{first}, {found[1][0]}"
        texts.append(f"{names}: each {spread_text(ports)}")
    return texts


def spread_text(ports: Sequence[Port]) -> str:
    """``8 ports: device 0-7 of 1 host``, for what is alike and in several places."""
    hosts = len({port.id.host for port in ports})
    ids = fold_numbers(port.id.device for port in ports)
    return f"{count_text(len(ports), 'port')}: device {ids} of {count_text(hosts, 'host')}"
