"""The networks between devices: what their parts lose, and what a ping between two devices meets.

A packet and its reply pass both devices' ports, NPUs and hosts, and on RoCE their leaf switches and what
lies between those. Each part loses its share of the round trips, independently of all others, so a packet
comes back with the product of what they let pass. TLS does not touch pings.

What becomes of a packet is drawn from the seed, both devices, the plane, the packet's number and how often
this ping was made before: the same cluster always gives the same, a ping made again may differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, NamedTuple

from ascendctl.sim.ping_text import hccs_packets
from ascendctl.sim.ways import End, Ways, number

if TYPE_CHECKING:
    from ascendctl.sim.model import Die, Host


@dataclass(frozen=True)
class Loss:
    """Share of packets lost when sending and when receiving, 0 to 1. A ping does both."""

    sending: float = 0.0
    receiving: float = 0.0

    @classmethod
    def both_ways(cls, round_trips: float) -> Loss:
        """Loses this share of the round trips, alike on either way."""
        one_way = 1 - (1 - round_trips) ** 0.5
        return cls(one_way, one_way)

    @property
    def passing(self) -> float:
        """Share of the round trips that come back."""
        return (1 - self.sending) * (1 - self.receiving)


NO_LOSS = Loss()


@dataclass(frozen=True)
class Switch:
    """A leaf switch that loses packets: of all its ports, or only of the way to other switches."""

    loss: float = 0.0
    uplink_loss: float = 0.0


class HccsPacket(NamedTuple):
    """One packet of an hccs_ping. ``outcome``: success, no-reply, send-failed, not-sent."""

    outcome: str
    time_ns: int = 0


class Network:
    """What pings between the devices of ``hosts`` meet.

    ``switches``: those leaf switches that lose packets, by name. ``background_loss``: what is lost
    anywhere, 0 to 1. Every method raises ValueError for a device that is none of the hosts'.
    """

    def __init__(
        self, hosts: Sequence[Host], switches: Mapping[str, Switch], background_loss: float, seed: int
    ) -> None:
        leaves: dict[str, int] = {}
        self._ends = {
            id(die): _end(count, host, die, switches, leaves)
            for count, host in enumerate(hosts)
            for die in host.dies
        }
        self.ways = Ways(self._ends.values(), seed, background_loss)
        self._number = lru_cache(maxsize=None)(number)

    @property
    def ends(self) -> Sequence[End]:
        """Every device, in the order of the hosts."""
        return tuple(self._ends.values())

    def end(self, die: Die) -> End:
        """A device as pings meet it."""
        end = self._ends.get(id(die))
        if end is None:
            raise ValueError(f"device {die.phy_id} is none of this cluster's")
        return end

    def roce_loss(self, source: Die, address: str) -> float:
        """Share of the packets to a RoCE address that do not come back; 1 where there is no way."""
        met = self.ways.roce(self.end(source), self._number(address))
        return 1.0 if met is None else 1 - met[1]

    def hccs_loss(self, source: Die, address: str) -> float:
        """Share of the packets to a vNIC address that do not come back; 1 where there is no way."""
        met = self.ways.hccs(self.end(source), self._number(address))
        return 1.0 if met is None else 1 - met[1]

    def roce_ping(self, source: Die, address: str, count: int, attempt: int = 0) -> tuple[float | None, ...]:
        """Round trip of every packet in ms, None where it was lost. ``attempt``: how often made before."""
        times_us = self.ways.roce_times_us(self.end(source), self._number(address), count, attempt)
        return tuple([None if time is None else time / 1000 for time in times_us])

    def hccs_ping(self, source: Die, address: str, count: int, attempt: int = 0) -> tuple[HccsPacket, ...]:
        """Fate of every packet to a vNIC address; nothing is sent where no way leads to it."""
        times_ns = self.ways.hccs_times_ns(self.end(source), self._number(address), count, attempt)
        return tuple([HccsPacket(*packet) for packet in hccs_packets(times_ns, count)])

    def detects(self, die: Die) -> bool:
        """Whether the port's own ping of its detect address comes back, at least now and then."""
        end, detected = self.end(die), die.port.netdetect
        if detected is None or end.address is None:
            return False
        on_wire = number(detected) & end.wire_mask == end.wire
        return on_wire and bool(end.npu_passing * end.port_passing * end.leaf_passing)


def _end(count: int, host: Host, die: Die, switches: Mapping[str, Switch], leaves: dict[str, int]) -> End:
    """``leaves`` numbers the leaf switches as they come up."""
    port = die.port
    wire = IPv4Network(port.wire) if port.wire else None
    switch = switches.get(port.leaf or "", Switch())
    host_passing = 1 - host.ping_loss
    return End(
        host=count,
        device=die.phy_id,
        address=number(port.address) if port.address and port.netmask else None,
        vnic=number(die.vnic.address),
        mask=number(port.netmask) if port.netmask else 0,
        gateway=number(port.gateway) if port.gateway else None,
        wire=int(wire.network_address) if wire else None,
        wire_mask=int(wire.netmask) if wire else 0,
        leaf=leaves.setdefault(port.leaf, len(leaves)) if port.leaf else None,
        pod=None if die.super_pod is None else die.super_pod.pod,
        side=host.hccs_side,
        vnic_up=int(die.vnic.link_up),
        npu_passing=1 - die.ping_loss,
        port_passing=host_passing * port.loss.passing if port.link_up else 0.0,
        leaf_passing=1 - switch.loss,
        uplink_passing=1 - switch.uplink_loss,
        hccs_passing=host_passing * die.hccs_loss.passing,
    )
