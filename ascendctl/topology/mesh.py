"""Which port pings which: plans that are linear in the number of hosts and still tell who is at fault.

A plane is split into classes of ports that can reach each other: a super pod for HCCS; for RoCE the
ports that have a gateway, and per segment those that have none. Inside a class every port sends to and
receives from k others (as far as there are others), on other hosts, one of them behind the same leaf
switch and the rest behind other ones where the class has such. Partners are drawn by seeded shuffles, so
that no two parts of the cluster are always measured together.

Ports whose link is down are left out: what pings to them meet is known.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from ascendctl.results import CellKey, Peer, Subject, SubjectKind
from ascendctl.topology.fabric import Fabric, Plane, Port, PortId

DEFAULT_PARTNERS = 3
DEFAULT_PACKETS = 3

# Above this many devices per plane the default is a sample; up to it every pair is pinged.
_FULL_UP_TO_PORTS = 32

# How many shifts of a shuffled class are tried for partners that a port still lacks.
_SHIFTS_PER_PARTNER = 16

# What one ping is reckoned with beforehand; hccn_tool sends its packets one after the other, and asks for
# the result of an hccs_ping once a second (its source).
_TYPICAL_START_S = 0.2
_TYPICAL_PACKET_S = 0.1
_TYPICAL_HCCS_S = 1.2

_CHECK_OF = {plane: f"mesh-{plane.value}" for plane in Plane}


class MeshMode(str, Enum):
    """How many pairs are pinged: none, neighbours in a ring, along rails, a sample, every pair."""

    OFF = "off"
    RING = "ring"
    RAIL = "rail"
    SAMPLE = "sample"
    FULL = "full"


@dataclass(frozen=True, order=True)
class Ping:
    """One ping to be sent: by the device ``source``, to ``address``, which ``target`` has in the plane."""

    plane: Plane
    source: PortId
    target: PortId
    address: str


@dataclass(frozen=True)
class MeshPlan:
    """The pings of one round, ``packets`` each."""

    mode: MeshMode
    packets: int
    pings: tuple[Ping, ...]

    @cached_property
    def by_host(self) -> Mapping[str, tuple[Ping, ...]]:
        """The pings each host sends, in the order it sends them."""
        hosts: dict[str, list[Ping]] = {}
        for ping in self.pings:
            hosts.setdefault(ping.source.host, []).append(ping)
        return {host: tuple(pings) for host, pings in hosts.items()}

    @property
    def estimate_s(self) -> float:
        """Seconds that the busiest host is likely to need when nothing is wrong; hosts work side by side."""
        one = {Plane.HCCS: _TYPICAL_HCCS_S, Plane.ROCE: _TYPICAL_START_S + self.packets * _TYPICAL_PACKET_S}
        return max((sum(one[ping.plane] for ping in pings) for pings in self.by_host.values()), default=0.0)


@dataclass(frozen=True)
class Observation:
    """What became of a ping. ``sent`` None = not learned, with the reason in ``problem``.

    A reply comes back the way the request went, so a loss accuses both ends and all that lies between.
    """

    ping: Ping
    sent: int | None
    received: int | None
    problem: str = ""


def pair_cell(ping: Ping) -> CellKey:
    """The cell that a ping is judged in: check ``mesh-hccs`` or ``mesh-roce``, from sender to peer."""
    peer = Peer(ping.target.host, ping.target.device)
    subject = Subject(SubjectKind.LINK, host=ping.source.host, device=ping.source.device, peer=peer)
    return CellKey(_CHECK_OF[ping.plane], subject)


def default_mode(fabric: Fabric) -> MeshMode:
    """Every pair while there are few, a sample above."""
    most = max((len(fabric.ports_on(plane)) for plane in Plane), default=0)
    return MeshMode.FULL if most <= _FULL_UP_TO_PORTS else MeshMode.SAMPLE


def plan_mesh(
    fabric: Fabric,
    mode: MeshMode,
    *,
    k: int = DEFAULT_PARTNERS,
    packets: int = DEFAULT_PACKETS,
    seed: int = 0,
) -> MeshPlan:
    """The first round. ``k`` is the number of partners a port sends to and receives from.

    Equal fabrics and seeds give equal plans. A ring has one partner per port whatever ``k`` says.
    """
    pings: list[Ping] = []
    for plane in Plane:
        for number, ports in enumerate(_classes(fabric, plane)):
            dice = random.Random(f"{seed} {plane.value} {number}")
            pairs = _PAIRS[mode](ports, k, dice)
            pings.extend(Ping(plane, a.id, b.id, b.address(plane) or "") for a, b in pairs)
    return MeshPlan(mode, packets, tuple(_in_turn(pings)))


def can_be_pinged(port: Port, plane: Plane) -> bool:
    """Whether the port has an address in the plane and its link there is not known to be down."""
    up = port.vnic_up if plane is Plane.HCCS else port.link_up
    return port.address(plane) is not None and up is not False


def reach_each_other(one: Port, other: Port, plane: Plane) -> bool:
    """Whether by their settings two ports of a plane should reach each other."""
    if plane is Plane.HCCS:
        return one.super_pod == other.super_pod
    return one.roce_segment == other.roce_segment or bool(one.gateway and other.gateway)


def mesh_class(port: Port, plane: Plane) -> Hashable:
    """What ports have in common that should all reach each other; equal only within one plane."""
    if plane is Plane.HCCS:
        return port.super_pod
    return "routed" if port.gateway else port.roce_segment


def _classes(fabric: Fabric, plane: Plane) -> list[tuple[Port, ...]]:
    """Ports of a plane that should all reach each other, classes of one host left out."""
    classes: dict[Hashable, list[Port]] = defaultdict(list)
    for port in fabric.ports_on(plane):
        if can_be_pinged(port, plane):
            classes[mesh_class(port, plane)].append(port)
    return [tuple(ports) for ports in classes.values() if len({port.id.host for port in ports}) > 1]


def _in_turn(pings: Iterable[Ping]) -> Iterator[Ping]:
    """A host's pings one device after the other would load one port at a time: take turns instead."""
    by_port: dict[tuple[Plane, PortId], list[Ping]] = defaultdict(list)
    for ping in pings:
        by_port[ping.plane, ping.source].append(ping)
    for turn in range(max(map(len, by_port.values()), default=0)):
        for waiting in by_port.values():
            if turn < len(waiting):
                yield waiting[turn]


# --- pairs of one class ---------------------------------------------------------------------------

Pair = tuple[Port, Port]


def _off(ports: Sequence[Port], k: int, dice: random.Random) -> Iterable[Pair]:
    return ()


def _full(ports: Sequence[Port], k: int, dice: random.Random) -> Iterable[Pair]:
    return ((a, b) for a in ports for b in ports if a.id.host != b.id.host)


def _ring(ports: Sequence[Port], k: int, dice: random.Random) -> Iterator[Pair]:
    """Every port to the same device of the next host that has it."""
    for rail in _by(ports, lambda port: port.rail):
        if len(rail) > 1:
            yield from zip(rail, [*rail[1:], rail[0]], strict=True)


def _rail(ports: Sequence[Port], k: int, dice: random.Random) -> Iterator[Pair]:
    partners = _Partners(ports, k, dice)
    for rail in _by(ports, lambda port: port.rail):
        partners.take(rail, partners_wanted=k)
    return partners.pairs()


def _sample(ports: Sequence[Port], k: int, dice: random.Random) -> Iterator[Pair]:
    partners = _Partners(ports, k, dice)
    switches = [behind for behind in _by(ports, lambda port: port.switch) if behind[0].switch is not None]
    if len(switches) > 1:
        for behind in switches:
            partners.take(behind, partners_wanted=1)
        partners.take(ports, partners_wanted=k, not_within=lambda port: port.switch)
    partners.take(ports, partners_wanted=k)
    return partners.pairs()


_PAIRS: Mapping[MeshMode, Callable[[Sequence[Port], int, random.Random], Iterable[Pair]]] = {
    MeshMode.OFF: _off,
    MeshMode.RING: _ring,
    MeshMode.RAIL: _rail,
    MeshMode.SAMPLE: _sample,
    MeshMode.FULL: _full,
}


class _Partners:
    """Draws pairs so that every port sends and receives often enough, each time with another partner.

    Ports are numbers in here: there are many of them, and comparing whole ports would take most of the time.
    """

    def __init__(self, ports: Sequence[Port], k: int, dice: random.Random) -> None:
        self._ports = ports
        self._number = {port.id: number for number, port in enumerate(ports)}
        self._k = k
        self._dice = dice
        self._pairs: dict[tuple[int, int], None] = {}
        self._sends = [0] * len(ports)
        self._receives = [0] * len(ports)

    def pairs(self) -> Iterator[Pair]:
        return ((self._ports[a], self._ports[b]) for a, b in self._pairs)

    def take(
        self,
        ports: Sequence[Port],
        *,
        partners_wanted: int,
        not_within: Callable[[Port], Hashable] = lambda port: port.id.host,
    ) -> None:
        """Pair the ports up by shifting a shuffled row of them against itself until all have enough.

        ``not_within``: ports for which it is equal are not paired; ports of one host never are.
        """
        row = self._shuffled(ports)
        hosts = {number: self._ports[number].id.host for number in row}
        apart = {number: not_within(self._ports[number]) for number in row}
        shifts = range(1, len(row))
        for shift in self._dice.sample(shifts, min(len(shifts), _SHIFTS_PER_PARTNER * self._k)):
            lacking = False
            for a, b in zip(row, row[shift:] + row[:shift], strict=True):
                if self._sends[a] >= partners_wanted and self._receives[b] >= partners_wanted:
                    continue
                lacking = True
                if hosts[a] != hosts[b] and apart[a] != apart[b] and (a, b) not in self._pairs:
                    self._pairs[a, b] = None
                    self._sends[a] += 1
                    self._receives[b] += 1
            if not lacking:
                return

    def _shuffled(self, ports: Sequence[Port]) -> list[int]:
        """Device by device, the hosts of each in an order of their own: neighbours are rarely of one host."""
        row: list[int] = []
        for rail in _by(ports, lambda port: port.rail):
            self._dice.shuffle(rail)
            row.extend(self._number[port.id] for port in rail)
        return row


def _by(ports: Iterable[Port], key: Callable[[Port], Hashable]) -> list[list[Port]]:
    groups: dict[Hashable, list[Port]] = defaultdict(list)
    for port in ports:
        groups[key(port)].append(port)
    return list(groups.values())
