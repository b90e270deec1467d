"""The cluster as a network: ports, the planes they lie in, super pods, leaf switches, rails.

Made from what the hosts said, never from a generation's name. Scale-up (HCCS, by vNIC addresses inside
one super pod) and scale-out (RoCE) are two planes, and a port may be in one, both or neither.

A leaf switch is known by what a port hears over LLDP: its system name, else its chassis id. A neighbour
that is another NPU (direct fibre; its description says ``AscendNPU``) is no switch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from ipaddress import IPv4Network
from typing import TypeVar

from ascendctl.facts import (
    ClusterFacts,
    DeviceFacts,
    Generation,
    HostFacts,
    LinkStatus,
    LldpFacts,
)
from ascendctl.topology import sdid
from ascendctl.topology.addresses import segment, unicast
from ascendctl.topology.roce import Wanted, roce_use

K = TypeVar("K", bound=Hashable)

_DIRECT_FIBRE = "AscendNPU"


class Plane(str, Enum):
    """A network between devices of different hosts."""

    HCCS = "hccs"  # scale-up, by vNIC address, inside one super pod
    ROCE = "roce"  # scale-out, by RoCE address


@dataclass(frozen=True, order=True)
class PortId:
    """A device's place in the cluster; ``device`` is its physical id."""

    host: str
    device: int


@dataclass(frozen=True)
class Port:
    """One device as the networks see it. None = not set, not heard, not learned.

    ``super_pod``, ``server_index`` and ``sdid`` are None outside a super pod, too; ``link_up`` is that of
    the RoCE link. ``switch`` is the leaf switch's name, ``switch_port`` its port's.
    """

    id: PortId
    npu: int
    chip: int
    generation: Generation | None
    link_up: bool | None = None
    roce_address: str | None = None
    roce_segment: IPv4Network | None = None
    gateway: str | None = None
    vnic_address: str | None = None
    vnic_up: bool | None = None
    super_pod: int | None = None
    server_index: int | None = None
    sdid: int | None = None
    switch: str | None = None
    switch_port: str | None = None
    tls_switch: int | None = None

    def address(self, plane: Plane) -> str | None:
        """Where pings of this plane are sent to; None = the port is not in the plane."""
        if plane is Plane.HCCS:
            in_pod = self.generation is Generation.A3 and self.super_pod is not None
            return self.vnic_address if in_pod else None
        return self.roce_address

    @property
    def rail(self) -> int:
        """Ports with the same physical id on different hosts form one rail."""
        return self.id.device


@dataclass(frozen=True)
class Fabric:
    """Every port of every host that told of its devices, in inventory order."""

    ports: tuple[Port, ...]

    @cached_property
    def by_id(self) -> Mapping[PortId, Port]:
        return {port.id: port for port in self.ports}

    @cached_property
    def hosts(self) -> Mapping[str, tuple[Port, ...]]:
        return _grouped((port.id.host, port) for port in self.ports)

    @cached_property
    def super_pods(self) -> Mapping[int, tuple[Port, ...]]:
        """Ports by super pod id; ports outside any are left out."""
        return _grouped((port.super_pod, port) for port in self.ports if port.super_pod is not None)

    @cached_property
    def switches(self) -> Mapping[str, tuple[Port, ...]]:
        """Ports by leaf switch; ports that hear none are left out."""
        return _grouped((port.switch, port) for port in self.ports if port.switch is not None)

    @cached_property
    def segments(self) -> Mapping[IPv4Network, tuple[Port, ...]]:
        return _grouped((port.roce_segment, port) for port in self.ports if port.roce_segment is not None)

    def ports_on(self, plane: Plane) -> tuple[Port, ...]:
        """The ports that can be pinged in a plane."""
        return tuple(port for port in self.ports if port.address(plane) is not None)


def fabric_of(cluster: ClusterFacts) -> Fabric:
    """Read the networks off the facts of every host."""
    return Fabric(tuple(_port(host, device) for host in cluster.hosts for device in host.devices))


def leaf_switch(lldp: LldpFacts | None) -> str | None:
    """The name of the switch a port hears; None where it hears none, or another NPU."""
    if lldp is None or _DIRECT_FIBRE in (lldp.system_description or ""):
        return None
    return lldp.system_name or lldp.chassis_id


def _port(host: HostFacts, device: DeviceFacts) -> Port:
    roce = device.ip.value if roce_use(device, host).wanted is Wanted.YES else None
    valid = roce is not None and unicast(roce.address) is not None
    spod = device.spod.value
    in_pod = spod is not None and spod.sdid != sdid.INVALID
    lldp = device.lldp.value
    return Port(
        id=PortId(host.host, device.phy_id),
        npu=device.npu_id,
        chip=device.chip_id,
        generation=host.generation,
        link_up=device.link.value.link_status is LinkStatus.UP if device.link.value else None,
        roce_address=roce.address if roce and valid else None,
        roce_segment=segment(roce.address, roce.netmask) if roce and valid else None,
        gateway=device.gateway.value.address if device.gateway.value else None,
        vnic_address=device.vnic.value.address if device.vnic.value else None,
        vnic_up=device.vnic.value.link_status is LinkStatus.UP if device.vnic.value else None,
        super_pod=spod.super_pod_id if spod and in_pod else None,
        server_index=spod.server_index if spod and in_pod else None,
        sdid=spod.sdid if spod and in_pod else None,
        switch=leaf_switch(lldp),
        switch_port=lldp.port_id if lldp and leaf_switch(lldp) else None,
        tls_switch=device.tls.value.tls_switch if device.tls.value else None,
    )


def _grouped(pairs: Iterable[tuple[K, Port]]) -> dict[K, tuple[Port, ...]]:
    groups: dict[K, list[Port]] = defaultdict(list)
    for key, port in pairs:
        groups[key].append(port)
    return {key: tuple(ports) for key, ports in groups.items()}
