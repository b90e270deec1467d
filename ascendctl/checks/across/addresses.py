"""The address plan across hosts: who reaches whom, one gateway per segment, every address once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from ipaddress import IPv4Network, ip_address
from typing import Any

from ascendctl.checks.across.peers import (
    AcrossCheck,
    DevicesAcross,
    Failed,
    Odd,
    Witness,
    both_sides,
    device_witness,
    differences,
    on_devices,
    roce_not_wanted,
)
from ascendctl.checks.ascend import device_subject
from ascendctl.checks.rails import Part, Place, off_the_rail
from ascendctl.facts import DeviceFacts, HostFacts, Reading, ReadingStatus
from ascendctl.hccl.forms import is_virtual
from ascendctl.results import CellKey, Result, Status, host_subject
from ascendctl.topology.addresses import port_segment
from ascendctl.topology.majority import vote


class Segments(DevicesAcross):
    """Ports of one rail can reach each other by their addresses.

    What:
        The ports with the same physical id on all hosts of a group lie in one segment with one netmask, or
        in separate segments which all have a gateway. A port that reaches the majority of its rail neither
        way fails, as does one whose segment overlaps another with a different netmask; without a majority
        both sides are accused. That the ports of one server fit together is judged by `address`.
    Why:
        Collectives between hosts run mostly between ports of the same rail.
    Consequence:
        Connections between these ports time out: EI0006.
    Remedy:
        Give the port an address and netmask of the rail's segment with `hccn_tool -i N -ip -s address A
        netmask M`, or set gateways on both sides with `hccn_tool -i N -gateway -s gateway G`.
    """

    id = "segments"
    title = "Ports of one rail reach each other by address"
    commands = ("ip", "gateway")
    after = ("address", "gateway")
    by_generation = True
    what = "the port's segment"

    def reading(self, device: DeviceFacts, host: HostFacts) -> Reading[Any]:
        return device.ip

    def source(self, device: DeviceFacts) -> str:
        return "gateway" if port_segment(device.ip.value) is not None else "address"

    def not_wanted(self, device: DeviceFacts, host: HostFacts) -> str:
        return roce_not_wanted(device, host)

    def value(self, device: DeviceFacts, host: HostFacts) -> Hashable | None:
        network = port_segment(device.ip.value)
        told = device.gateway.ok or device.gateway.status is ReadingStatus.NO_DATA
        return Place(network, device.gateway.ok) if network is not None and told else None

    def odd_devices(self, votes: Mapping[Part, Any], hosts: Mapping[str, HostFacts]) -> Mapping[Part, Odd]:
        rails: dict[int, dict[Part, Place]] = defaultdict(dict)
        for part, place in votes.items():
            rails[part.device][part] = place
        odd: dict[Part, Odd] = {}
        for places in rails.values():
            odd.update(self._odd_of_rail(places, hosts))
        return odd

    def agreed(self, values: Sequence[Any]) -> str:
        return "the ports can reach those of the same rail on the group's other hosts"

    def _odd_of_rail(self, places: Mapping[Part, Place], hosts: Mapping[str, HostFacts]) -> dict[Part, Odd]:
        sizes = Counter(place.network for place in places.values())
        if len(sizes) == 1:
            return {}
        overlaps = _overlaps(sizes)
        usual = vote({part: place.network for part, place in places.items()}).value
        unreachable = off_the_rail(places)
        first = {place.network: part for part, place in reversed(list(places.items()))}
        odd = {}
        for part, place in places.items():
            other = overlaps.get(place.network)
            if other is not None and sizes[place.network] <= sizes[other]:
                message, kind = "the netmask is another than that of the rail's other ports", "netmask"
            elif part in unreachable:
                message, kind = "no way leads from the port to the rail's other ports", "unreachable"
                if usual is None:
                    message += ", which have no majority to judge by"
                other = usual or next(network for network in first if network != place.network)
            else:
                continue
            odd[part] = Odd(
                Status.FAIL,
                message,
                f"segments/{kind}",
                f"{other}" if kind == "netmask" else f"{other}, or a gateway on both sides",
                f"{place.network} {'with' if place.gateway else 'without'} a gateway",
                device_witness(first[other], hosts, self.reading),
            )
        return odd


class GatewaysEqual(DevicesAcross):
    """The ports of one segment have one gateway.

    What:
        All gateways that are set on ports of one segment, on whatever host, are the same. Who differs is
        judged against the segment's majority; a tie accuses both sides. It is a failure where ports of
        other segments exist, which are reached through it, else a warning.
    Why:
        A segment has one router as a rule; another address is mostly a slip that nobody answers to.
    Consequence:
        Ranks in other segments cannot connect: EI0006. Where it is the detect address too, net_health
        fails.
    Remedy:
        Set it with `hccn_tool -i N -gateway -s gateway G`, and keep /etc/hccn.conf equal. If a segment has
        two routers on purpose, waive this check for its hosts.
    """

    id = "gateways-equal"
    title = "One gateway for each segment"
    commands = ("gateway", "ip")
    after = ("address", "gateway")
    whole_cluster = True
    what = "the gateway"
    nothing_there = (ReadingStatus.UNSUPPORTED, ReadingStatus.NO_DATA)

    def reading(self, device: DeviceFacts, host: HostFacts) -> Reading[Any]:
        return device.gateway

    def source(self, device: DeviceFacts) -> str:
        return "address" if device.gateway.ok else "gateway"

    def not_wanted(self, device: DeviceFacts, host: HostFacts) -> str:
        return roce_not_wanted(device, host)

    def value(self, device: DeviceFacts, host: HostFacts) -> Hashable | None:
        network = port_segment(device.ip.value)
        known = network is not None and device.gateway.value is not None
        return (network, device.gateway.value.address) if known and device.gateway.value else None

    def odd_devices(self, votes: Mapping[Part, Any], hosts: Mapping[str, HostFacts]) -> Mapping[Part, Odd]:
        segments: dict[IPv4Network, dict[Part, str]] = defaultdict(dict)
        for part, (network, gateway) in votes.items():
            segments[network][part] = gateway
        return {
            part: Odd(
                Status.FAIL if len(segments) > 1 else Status.WARN,
                "the gateways of the segment differ, with no majority to judge by"
                if one.tie
                else "the gateway differs from that of the segment's other ports",
                "gateways-equal/differs",
                one.expected("ports"),
                str(one.value),
                device_witness(one.witness, hosts, self.reading),
            )
            for gateways in segments.values()
            for part, one in differences(gateways).items()
        }

    def agreed(self, values: Sequence[Any]) -> str:
        return "the gateways are those of the other ports in their segments"


class DuplicateAddress(AcrossCheck):
    """No address is used by two hosts.

    What:
        Every RoCE address, and every address of the hosts' own NICs, is set on one host only; all sides are
        accused, but for one whose own address is in place where `address` fails for the other. Twice on one
        host is judged by `address`. Loopback, link-local and container interfaces are left out, as is what
        most hosts have on an interface of one name: it is local to each of them. A vNIC address follows from
        the super pod identity: two in one pod are found by `super-pods` and `spod-info`.
    Why:
        The network delivers packets to either of the two, and which one changes with every ARP answer.
    Consequence:
        Connections fail or break at random (EI0006); HCCL's negotiation reaches the wrong host (EI0015),
        and a rank table with it is refused (EI0014).
    Remedy:
        Give every port an address of its own: `hccn_tool -i N -ip -s address A netmask M`, for NICs the
        system's own tools. Where two entries of the inventory are one server, remove one.
    """

    id = "duplicate-address"
    title = "No address on two hosts"
    commands = ("ip", "host-addresses")
    after = ("reachable", "address")
    whole_cluster = True

    def judge_peers(self, hosts: Sequence[HostFacts], failed: Failed) -> Iterable[Result]:
        ports = {host.host: _ports(host) for host in hosts}
        nics = {host.host: _nics(host) for host in hosts}
        port_holders = _holders(ports)
        nic_holders = {
            key: names
            for key, names in _holders(nics).items()
            if not _local_everywhere([nics[name][key] for name in names], len(hosts))
        }
        by_name = {host.host: host for host in hosts}
        wrong = {
            Part(host.host, device.phy_id): cause
            for host in hosts
            for device in host.devices
            if (cause := failed.first(("address",), device_subject(host.host, device)))
        }
        read = sum(bool(ports[name] or nics[name]) for name in by_name)
        for name, host in by_name.items():
            shared_ports = {phy: key for key, phy in ports[name].items() if len(port_holders[key]) > 1}
            explained = {
                phy: cause
                for phy, key in shared_ports.items()
                if (cause := self._at_fault(name, [(h, ports[h][key]) for h in port_holders[key]], wrong))
            }
            shared_ports = {phy: key for phy, key in shared_ports.items() if phy not in explained}
            shared_nics = [key for key in nics[name] if len(nic_holders.get(key, ())) > 1]
            twins = [other for key in shared_ports.values() for other in port_holders[key] if other != name]
            twins += [other for key in shared_nics for other in nic_holders[key] if other != name]
            if read == 1 and (ports[name] or nics[name]):
                yield self.no_peer_read(name)
                continue
            texts = [
                f"{nics[name][key]} {key}, also on {_others(nic_holders[key], name)}" for key in shared_nics
            ]
            texts += [
                f"{key} (device {phy}), also on {_others(port_holders[key], name)}"
                for phy, key in shared_ports.items()
            ]
            lone = len(shared_ports) == 1 and not shared_nics and len(ports[name]) > 1
            if not texts or lone:
                yield self._host_alone(host)
            if texts:
                twin = by_name[twins[0]]
                yield self._shared(host, shared_ports, shared_nics, lone, texts, twin)
            for device in host.devices:
                subject = device_subject(name, device)
                if device.phy_id in explained:
                    cause = explained[device.phy_id]
                    message = "a port whose address is wrong by its own host's ports has the same one"
                    yield self.depends(subject, message, cause)
                elif not device.ip.ok and not roce_not_wanted(device, host):
                    message = "the address of the port could not be compared with those of other hosts"
                    yield self.depends(subject, message, CellKey("address", subject))

    def _at_fault(
        self, host: str, holders: Sequence[tuple[str, int]], wrong: Mapping[Part, CellKey]
    ) -> CellKey | None:
        """The failed address that explains a host's part in a conflict; None where two good ones are left."""
        causes = {name: wrong[Part(name, phy)] for name, phy in holders if Part(name, phy) in wrong}
        if host in causes:
            return causes[host]
        return next(iter(causes.values()), None) if len(holders) - len(causes) < 2 else None

    def _host_alone(self, host: HostFacts) -> Result:
        """The cell of a host with no address of another, as far as its addresses are known."""
        subject, reading = host_subject(host.host), host.system.addresses
        if reading.status is ReadingStatus.TOOL_MISSING:
            message = "no other host has a port's address; the host has no ip command to tell its own"
            return self.passed(subject, message)
        if not reading.ok:
            return self.unlearned(subject, "the addresses of the host's NICs", reading)
        return self.passed(subject, "no other host has one of the host's addresses")

    def _shared(
        self,
        host: HostFacts,
        ports: Mapping[int, str],
        nics: Sequence[str],
        lone: bool,
        texts: Sequence[str],
        twin: HostFacts,
    ) -> Result:
        by_id = {device.phy_id: device for device in host.devices}
        own: Reading[Any] = host.system.addresses
        theirs: Reading[Any] = twin.system.addresses
        if not nics:
            phy, address = next(iter(ports.items()))
            own = by_id[phy].ip
            theirs = next(d.ip for d in twin.devices if d.ip.value and d.ip.value.address == address)
        subject, message = host_subject(host.host), "another host has addresses of this host"
        if lone:
            subject = device_subject(host.host, by_id[next(iter(ports))])
            message = "a port of another host has the same address"
        elif not nics:
            message = on_devices("ports of other hosts have the same addresses", ports)
        return self.found(
            Status.FAIL,
            subject,
            message,
            advice_for="duplicate-address/nic" if nics else "duplicate-address/port",
            expected="every address on one host",
            actual="; ".join(texts),
            reading=both_sides(own, Witness(twin.host, theirs)),
        )


def _overlaps(networks: Iterable[IPv4Network]) -> dict[IPv4Network, IPv4Network]:
    """Those of the networks that lie inside another one, or around it → the other one."""
    there = set(networks)
    lengths = sorted({network.prefixlen for network in there})
    found: dict[IPv4Network, IPv4Network] = {}
    for network in there:
        for length in lengths:
            if length >= network.prefixlen:
                break
            around = network.supernet(new_prefix=length)
            if around in there:
                found.setdefault(network, around)
                found.setdefault(around, network)
    return found


def _ports(host: HostFacts) -> dict[str, int]:
    """The RoCE addresses of the host → physical id; one that is there twice is another check's matter."""
    return {
        device.ip.value.address: device.phy_id
        for device in host.devices
        if device.ip.value and not roce_not_wanted(device, host)
    }


def _nics(host: HostFacts) -> dict[str, str]:
    """The addresses by which others reach the host → interface."""
    return {
        entry.address: entry.interface
        for entry in host.system.addresses.value or ()
        if entry.interface != "lo" and not is_virtual(entry.interface) and _outward(entry.address)
    }


def _local_everywhere(interfaces: Sequence[str], hosts: int) -> bool:
    """Whether most hosts have an address on an interface of one name: no packet for it leaves a host."""
    return len(interfaces) > 2 and 2 * len(interfaces) > hosts and len(set(interfaces)) == 1


def _outward(address: str) -> bool:
    ip = ip_address(address)
    return not (ip.is_loopback or ip.is_link_local or ip.is_unspecified)


def _holders(addresses: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Each address → the hosts that have it, in their order."""
    holders: dict[str, list[str]] = defaultdict(list)
    for host, of_host in addresses.items():
        for address in of_host:
            holders[address].append(host)
    return holders


def _others(hosts: Sequence[str], own: str) -> str:
    """The other hosts, the first few by name."""
    names = [name for name in hosts if name != own]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


_NAMED = 3
