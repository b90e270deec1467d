"""Which RoCE ports are out of place: their own host's other ports, or those of their rail, say so. Pure.

Such a port is the cause of what follows from its address; to the others it is no reason to look for a way to
where it happens to be.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import NamedTuple

from ascendctl.facts import ClusterFacts, HostFacts
from ascendctl.topology.addresses import port_segment
from ascendctl.topology.majority import vote
from ascendctl.topology.roce import Wanted, roce_use
from ascendctl.topology.server import module_of


class Part(NamedTuple):
    """A device of the cluster; ``device`` is its physical id."""

    host: str
    device: int


class Place(NamedTuple):
    """Where a port is by its address, and whether a gateway is set."""

    network: IPv4Network
    gateway: bool


def off_the_rail(places: Mapping[Part, Place]) -> frozenset[Part]:
    """The ports of one rail from which no way leads to most of the others; without a majority all such."""
    usual = vote({part: place.network for part, place in places.items()}).value
    routed = usual is None or vote(
        {part: place.gateway for part, place in places.items() if place.network == usual}
    ).value in (True, None)
    return frozenset(
        part for part, place in places.items() if place.network != usual and not (place.gateway and routed)
    )


def needs_a_way_out(network: IPv4Network, host: str, cluster: ClusterFacts) -> bool:
    """Whether a port of another host, other than those out of place, has an address outside this segment."""
    return any(
        name != host for other, names in _settled(cluster).items() if other != network for name in names
    )


_last: tuple[weakref.ref[ClusterFacts], dict[IPv4Network, frozenset[str]]] | None = None


def _settled(cluster: ClusterFacts) -> dict[IPv4Network, frozenset[str]]:
    """The hosts of each segment, by their ports in place. Kept for the last cluster: every port asks."""
    global _last
    if _last is not None and _last[0]() is cluster:
        return _last[1]
    names: dict[IPv4Network, set[str]] = defaultdict(set)
    rails: dict[tuple[object, ...], dict[Part, Place]] = defaultdict(dict)
    for host in cluster.hosts:
        for part, place in _at_home(host).items():
            rails[host.expectation.group, host.generation, part.device][part] = place
    for places in rails.values():
        astray = off_the_rail(places)
        # Where no majority tells who is out of place, each side is a reason to the other.
        several = len({places[part].network for part in astray}) > 1
        for part, place in places.items():
            if several or part not in astray:
                names[place.network].add(part.host)
    found = {network: frozenset(hosts) for network, hosts in names.items()}
    _last = (weakref.ref(cluster), found)
    return found


def _at_home(host: HostFacts) -> dict[Part, Place]:
    """The ports of a host but for those that differ from most of their neighbours, as `address` judges it."""
    near: dict[tuple[int, int], dict[Part, Place]] = defaultdict(dict)
    for device in host.devices:
        network = port_segment(device.ip.value)
        if network is not None and roce_use(device, host).wanted is not Wanted.NO:
            # The dies of an A3 NPU lie in two planes, a chip number each; an A2 chip number is always 0.
            place = module_of(device.phy_id), device.chip_id
            near[place][Part(host.host, device.phy_id)] = Place(network, device.gateway.ok)
    found: dict[Part, Place] = {}
    for places in near.values():
        result = vote({part: place.network for part, place in places.items()})
        alone = frozenset() if result.tie else result.accused
        found.update({part: place for part, place in places.items() if part not in alone})
    return found
