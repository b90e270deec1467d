"""RoCE addresses: what is a valid one, which ranges the driver keeps, which segment it lies in.

Reserved ranges are those that hccn_tool refuses (published driver, tool_ops); they belong to the
virtual NICs between host and devices, so a RoCE port or a detect address there reaches nothing.
"""

from __future__ import annotations

import weakref
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from ascendctl.facts import AddressFacts, ClusterFacts, Generation

# Every port is compared with every other of its host: the same few texts are read again and again.
_remembered = lru_cache(maxsize=1 << 16)

# A segment of this prefix length holds one address only.
IPV4_BITS = 32

_ALWAYS_RESERVED: tuple[IPv4Network, ...] = (IPv4Network("192.168.1.0/24"),)
_RESERVED_A2 = (IPv4Network("192.168.2.0/24"),)
_RESERVED_A3_ALONE = (IPv4Network("192.168.0.0/21"),)
_RESERVED_A3_SUPER_POD = (IPv4Network("192.0.0.0/8"),)


@_remembered
def unicast(text: str) -> IPv4Address | None:
    """The address, or None where the text is no IPv4 address by which other hosts reach one port.

    Link-local ones (169.254/16) are none: no router passes them on, and no plan contains them.
    """
    try:
        address = IPv4Address(text)
    except AddressValueError:
        return None
    special = address.is_multicast or address.is_loopback or address.is_unspecified or address.is_link_local
    return None if special or int(address) >> 28 == 0xF or int(address) >> 24 == 0 else address


@_remembered
def prefix_length(netmask: str) -> int | None:
    """Length of a contiguous netmask, 1..32; None for anything else."""
    try:
        bits = int(IPv4Address(netmask))
    except AddressValueError:
        return None
    host_bits = bits ^ 0xFFFFFFFF
    contiguous = host_bits & (host_bits + 1) == 0
    return 32 - host_bits.bit_length() if contiguous and bits else None


@_remembered
def segment(address: str, netmask: str) -> IPv4Network | None:
    """The network an address lies in; None where address or mask are invalid."""
    ip, length = unicast(address), prefix_length(netmask)
    if ip is None or length is None:
        return None
    return IPv4Network((int(ip), length), strict=False)


def is_network_or_broadcast(address: IPv4Address, network: IPv4Network) -> bool:
    """Whether the address is its segment's own first or last one (segments of one or two have none)."""
    return network.prefixlen <= 30 and address in (network.network_address, network.broadcast_address)


def reserved_range(
    address: IPv4Address, generation: Generation | None, in_super_pod: bool | None
) -> IPv4Network | None:
    """The reserved range the address lies in, or None. Unknown membership: only the sure ranges."""
    ranges = _ALWAYS_RESERVED
    if generation is Generation.A2:
        ranges += _RESERVED_A2
    elif generation is Generation.A3:
        ranges += _RESERVED_A3_SUPER_POD if in_super_pod else _RESERVED_A3_ALONE
    return next((network for network in ranges if address in network), None)


def some_other_host_outside(network: IPv4Network, host: str, cluster: ClusterFacts) -> bool:
    """Whether a port of another host has an address outside this segment."""
    return any(
        name != host for other, names in _segments(cluster).items() if other != network for name in names
    )


def port_segment(facts: AddressFacts | None) -> IPv4Network | None:
    """The segment of a port's address reading, where it has a valid one."""
    return segment(facts.address, facts.netmask) if facts else None


_last_segments: tuple[weakref.ref[ClusterFacts], dict[IPv4Network, frozenset[str]]] | None = None


def _segments(cluster: ClusterFacts) -> dict[IPv4Network, frozenset[str]]:
    """Host names per segment. Kept for the last cluster: every port of every host asks for it."""
    global _last_segments
    if _last_segments is not None and _last_segments[0]() is cluster:
        return _last_segments[1]
    names: dict[IPv4Network, set[str]] = {}
    for host in cluster.hosts:
        for device in host.devices:
            network = port_segment(device.ip.value)
            if network is not None:
                names.setdefault(network, set()).add(host.host)
    found = {network: frozenset(hosts) for network, hosts in names.items()}
    _last_segments = (weakref.ref(cluster), found)
    return found
