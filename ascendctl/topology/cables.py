"""Swapped cables: two ports that each hear over LLDP the switch port that the other one should hear.

What a port hears is a fact, but not where it should be: that is stated (`Clues.cabling`), or is where the
hosts that share its host's other switches have the same device; which place on a switch is its host's is
what most of its ports share. A swap is a verdict only where both ports lose their packets.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from ascendctl.results import Component, ComponentKind, Peer
from ascendctl.topology.contradictions import CABLE_SWAP, Clues, str_port
from ascendctl.topology.fabric import Fabric, Port, PortId

# A host's place on its switches: this share of its ports must agree on it.
_PLACE_SHARE = 0.75
_PLACE_PORTS = 3


@dataclass(frozen=True)
class Swap:
    """Two ports whose cables are exchanged. ``confidence``: that it is these two and not two broken ones."""

    one: Port
    other: Port
    confidence: float
    evidence: tuple[str, ...]

    @property
    def component(self) -> Component:
        """A swap is named by both ends of the exchange."""
        peer = Peer(self.other.id.host, self.other.id.device)
        return Component(
            ComponentKind.LINK, self.one.id.host, self.one.id.device, self.one.npu, peer, value=CABLE_SWAP
        )


def swapped_cables(
    fabric: Fabric, accused: Collection[PortId], is_dead: Callable[[PortId], bool], clues: Clues
) -> list[Swap]:
    """Pairs of ports whose cables are exchanged, at least one of each accused and both dead on RoCE.

    The other one need not be accused, as it may be behind a switch that is at fault as well. Where it hears
    no neighbour it must be, and be the only one such: that is not read then, but inferred.
    """
    dead = [fabric.by_id[port] for port in sorted(accused) if is_dead(port)]
    heard = [port for port in dead if port.switch is not None]
    if not heard:
        return []
    places = _Places(fabric, clues)
    odd = [port for port in heard if not places.fits(port, port)]
    found: list[Swap] = []
    taken: set[PortId] = set()
    for one in odd:
        partners = [other for other in places.partners(one) if other.id not in taken and is_dead(other.id)]
        if one.id not in taken and partners:
            taken |= {one.id, partners[0].id}
            found.append(_read(one, partners[0]))
    deaf = [port for port in dead if port.switch is None]
    alone = [one for one in odd if one.id not in taken and places.is_nobodys(one)]
    if len(deaf) == 1 and len(alone) == 1 and places.fits(alone[0], deaf[0]):
        found.append(_inferred(alone[0], deaf[0], fabric))
    return found


def _read(one: Port, other: Port) -> Swap:
    told = [
        f"{str_port(port.id)} hears {port.switch} port {port.switch_port} over LLDP, "
        f"where {str_port(place_of.id)} belongs"
        for port, place_of in ((one, other), (other, one))
    ]
    return Swap(one, other, 1.0, tuple(told))


def _inferred(one: Port, deaf: Port, fabric: Fabric) -> Swap:
    """That the other broken port is one of those that hear nothing would be chance, were it no swap."""
    chance = sum(port.switch is None for port in fabric.ports) / len(fabric.ports)
    told = (
        f"{str_port(one.id)} hears {one.switch} port {one.switch_port} over LLDP, "
        "where no host that hears its switch belongs",
        f"{str_port(deaf.id)} hears no neighbour, and is the only such port that loses all packets",
    )
    return Swap(one, deaf, 1.0 / (1.0 + chance), told)


class _Places:
    """Where ports should be plugged in."""

    def __init__(self, fabric: Fabric, clues: Clues) -> None:
        self._fabric = fabric
        self._clues = clues
        self._tokens: dict[str, dict[int, str]] = {}
        self._switches: dict[PortId, str | None] = {}
        self._heard = {(port.id.host, port.id.device): port.switch for port in fabric.ports}
        self._hosts_on: dict[tuple[int, str | None], list[str]] = defaultdict(list)
        for port in fabric.ports:
            self._hosts_on[port.id.device, port.switch].append(port.id.host)

    def fits(self, heard_by: Port, place_of: Port) -> bool:
        """Whether what one port hears is what the other should hear."""
        expected = self.switch(place_of)
        if expected is not None and heard_by.switch != expected:
            return False
        tokens = _split(heard_by.switch_port)
        own = self._host_tokens(place_of.id.host)
        return all(number < len(tokens) and tokens[number] == token for number, token in own.items())

    def partners(self, one: Port) -> Iterator[Port]:
        """Ports that hear what this one should hear, and should hear what it does."""
        for other in self._fabric.switches.get(self.switch(one) or "", ()):
            if other.id.host != one.id.host and self.fits(other, one) and self.fits(one, other):
                yield other

    def is_nobodys(self, one: Port) -> bool:
        """Whether no host that hears its switches belongs where this port is, nor is where it belongs."""
        here = self._fabric.switches.get(one.switch or "", ())
        there = self._fabric.switches.get(self.switch(one) or "", ())
        return not any(self.fits(one, port) for port in here if port.id != one.id) and not any(
            self.fits(port, one) for port in there if port.id.host != one.id.host
        )

    def switch(self, port: Port) -> str | None:
        if port.id not in self._switches:
            stated = self._clues.cabling.get(port.id)
            self._switches[port.id] = stated or self._usual_switch(port)
        return self._switches[port.id]

    def _usual_switch(self, port: Port) -> str | None:
        """Where hosts on the same other switches have this device; else where its host's siblings are."""
        mine = {
            other.id.device: other.switch
            for other in self._fabric.hosts[port.id.host]
            if other.id != port.id and other.switch is not None
        }
        shared = Counter(
            host for device, switch in mine.items() for host in self._hosts_on.get((device, switch), ())
        )
        votes: Counter[str] = Counter()
        for host, number in shared.items():
            switch = self._heard.get((host, port.id.device))
            if host != port.id.host and switch is not None and number >= _PLACE_SHARE * len(mine):
                votes[switch] += 1
        if not votes:
            return self._siblings_switch(port)
        usual, number = votes.most_common(1)[0]
        return usual if number * 2 > votes.total() else None

    def _siblings_switch(self, port: Port) -> str | None:
        """The switch of a host that shares none with others: dies of one place may have one of their own."""
        there = Counter(
            other.switch
            for other in self._fabric.hosts[port.id.host]
            if other.id != port.id and other.chip == port.chip and other.switch is not None
        )
        if there.total() < _PLACE_PORTS:
            return None
        switch, number = there.most_common(1)[0]
        return switch if number >= _PLACE_SHARE * there.total() else None

    def _host_tokens(self, host: str) -> dict[int, str]:
        """The pieces of the switch ports' names that most of a host's ports share."""
        if host not in self._tokens:
            names = [_split(port.switch_port) for port in self._fabric.hosts[host] if port.switch_port]
            found = {}
            if len(names) > _PLACE_PORTS:
                for number in range(min(map(len, names))):
                    token, times = Counter(name[number] for name in names).most_common(1)[0]
                    if times >= _PLACE_SHARE * len(names):
                        found[number] = token
            self._tokens[host] = found
        return self._tokens[host]


def _split(name: str | None) -> list[str]:
    return re.findall(r"\d+|\D+", name or "")
