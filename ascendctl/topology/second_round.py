"""The second round of the ping mesh: more packets, only where the first round left a doubt.

Doubtful are parts that lose only some packets, parts that another part could stand in for, and parts that
lost more than chance likes to, yet too little to be accused. Their ports are pinged again, from and to ports
that lost nothing: what is lost then is the suspect's.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from ascendctl.topology.blame import Blame, explain
from ascendctl.topology.contradictions import Clues, contradictions, free_of
from ascendctl.topology.cycles import no_cycle_collection
from ascendctl.topology.fabric import Fabric, Plane, Port, PortId
from ascendctl.topology.mesh import (
    MeshPlan,
    Observation,
    Ping,
    can_be_pinged,
    reach_each_other,
)
from ascendctl.topology.parts import Part, PartKind

# Beyond this confidence, and with nearly all packets lost, another round would say nothing new.
_SURE = 0.995
_ALL = 0.9

_PACKETS = 12
_PARTNERS_OF_A_PORT = 6
_PARTNERS_IN_A_PART = 2
_PORTS_OF_A_SWITCH = 16
_LEAST_PINGS = 64
_SHARE_OF_FIRST_ROUND = 0.2
_TRIES = 40
_FEW_GOOD = 16


@no_cycle_collection()
def second_round(fabric: Fabric, plan: MeshPlan, observations: Sequence[Observation]) -> MeshPlan:
    """The pings that would settle what ``observations`` leave open; none where nothing is open.

    At most a fifth of the first round's pings (or 64), with at least twice its packets each.
    """
    found = explain(fabric, free_of(contradictions(fabric, Clues()), observations))
    suspects: dict[tuple[Plane, PortId], int] = {}
    links: list[tuple[Plane, PortId, PortId]] = []
    for blame in found.blames:
        if blame.confidence >= _SURE and blame.loss >= _ALL and not blame.alternatives:
            continue
        if blame.part.kind is PartKind.LINK:
            one, other = (port.id for port in blame.ports)
            links += [
                (plane, *pair) for plane in _planes(blame.part) for pair in ((one, other), (other, one))
            ]
        for plane, port, partners in _asked(blame.part, blame.ports, blame.observations):
            suspects[plane, port] = max(partners, suspects.get((plane, port), 0))
    for suspicion in found.suspicions:
        for plane, port, partners in _asked(suspicion.part, suspicion.ports, suspicion.observations):
            suspects[plane, port] = max(partners, suspects.get((plane, port), 0))
    pings = [*_of_links(fabric, links), *_of_ports(fabric, suspects, observations, found.blames)]
    limit = max(_LEAST_PINGS, int(_SHARE_OF_FIRST_ROUND * len(plan.pings)))
    return MeshPlan(plan.mode, max(_PACKETS, 2 * plan.packets), tuple(dict.fromkeys(pings))[:limit])


def _asked(
    part: Part, ports: Sequence[Port], lossy: Sequence[Observation]
) -> Iterator[tuple[Plane, PortId, int]]:
    """The ends to ping again for a part, and with how many partners each."""
    for plane in _planes(part):
        in_plane = [port for port in ports if can_be_pinged(port, plane)]
        partners = _PARTNERS_OF_A_PORT if len(in_plane) <= 2 else _PARTNERS_IN_A_PART
        if len(in_plane) > _PORTS_OF_A_SWITCH:
            step = len(in_plane) / _PORTS_OF_A_SWITCH
            in_plane = [in_plane[int(number * step)] for number in range(_PORTS_OF_A_SWITCH)]
        for port in in_plane:
            yield plane, port.id, partners
    if not ports:  # what lies between switches or sides: the pairs that lost packets, once more
        for observation in lossy[:_PORTS_OF_A_SWITCH]:
            yield observation.ping.plane, observation.ping.source, _PARTNERS_IN_A_PART


def _planes(part: Part) -> list[Plane]:
    return [part.plane] if part.plane else list(Plane)


def _of_links(fabric: Fabric, links: Iterable[tuple[Plane, PortId, PortId]]) -> Iterator[Ping]:
    for plane, source, target in links:
        address = fabric.by_id[target].address(plane)
        if address is not None:
            yield Ping(plane, source, target, address)


def _of_ports(
    fabric: Fabric,
    suspects: dict[tuple[Plane, PortId], int],
    observations: Sequence[Observation],
    blames: Sequence[Blame],
) -> list[Ping]:
    """Each suspect from and to proven-good ports in turn, one ping of every suspect before any second."""
    if not suspects:
        return []
    good = _good(fabric, observations, {port.id for blame in blames for port in blame.ports})
    turns: dict[int, list[Ping]] = defaultdict(list)
    for (plane, suspect), partners in suspects.items():
        dice = random.Random(f"second round {plane.value} {suspect}")
        port = fabric.by_id[suspect]
        for turn, other in enumerate(_partners(port, plane, good[plane], partners, dice)):
            source, target = (port, other) if turn % 2 == 0 else (other, port)
            turns[turn].append(Ping(plane, source.id, target.id, target.address(plane) or ""))
    return [ping for turn in sorted(turns) for ping in turns[turn]]


def _partners(
    suspect: Port, plane: Plane, good: Sequence[Port], number: int, dice: random.Random
) -> Iterator[Port]:
    """Good ports of other hosts, each once; the first tries behind the same switch, if there are any."""
    chosen: set[PortId] = set()
    for attempt in range(_TRIES):
        if not good or len(chosen) == number:
            return
        other = good[dice.randrange(len(good))]
        same_switch_wanted = not chosen and attempt < _TRIES // 4 and plane is Plane.ROCE
        if same_switch_wanted and other.switch != suspect.switch:
            continue
        apart = other.id.host != suspect.id.host and other.id not in chosen
        if apart and reach_each_other(suspect, other, plane):
            chosen.add(other.id)
            yield other


def _good(
    fabric: Fabric, observations: Sequence[Observation], accused: set[PortId]
) -> dict[Plane, list[Port]]:
    """Ports of which every packet came back, per plane; where there are too few, those that lost least."""
    met: dict[tuple[Plane, str, int], list[int]] = defaultdict(lambda: [0, 0])
    for observation in observations:
        if observation.sent:
            for end in (observation.ping.source, observation.ping.target):
                sums = met[observation.ping.plane, end.host, end.device]
                sums[0] += observation.sent - (observation.received or 0)
                sums[1] += observation.sent
    good: dict[Plane, list[Port]] = {}
    for plane in Plane:
        ranked = sorted(
            (lost / sent, host, device) for (at, host, device), (lost, sent) in met.items() if at is plane
        )
        ends = [(lost, PortId(host, device)) for lost, host, device in ranked]
        known = [(lost, fabric.by_id[end]) for lost, end in ends if end in fabric.by_id]
        clean = [port for lost, port in known if not lost and port.id not in accused]
        good[plane] = clean if len(clean) >= _FEW_GOOD else [port for _, port in known[: 2 * _FEW_GOOD]]
    return good
