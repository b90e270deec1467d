"""Who is at fault: verdicts from what the pings met and from what the ports say.

Facts come first: where two ports hold one address, the pings to and from them say nothing else. What the
pings then lost is laid at the smallest set of parts (`ascendctl.topology.blame`). Where one of those is a
port that hears another's switch port, the two are one swapped pair of cables, a fact as well: the rest is
explained once more without them.

A failing ping is explained by one verdict: of the parts at fault on its way, the one that loses most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from ascendctl.inventory.nodesets import fold
from ascendctl.results import CellKey, Component, ComponentKind, Peer, Verdict
from ascendctl.topology.blame import Blame, find_blame
from ascendctl.topology.cables import Swap, swapped_cables
from ascendctl.topology.contradictions import (
    Clues,
    Contradiction,
    contradictions,
    ends_of,
    free_of,
    str_port,
)
from ascendctl.topology.cycles import no_cycle_collection
from ascendctl.topology.fabric import Fabric, Plane, Port, PortId
from ascendctl.topology.mesh import Observation, pair_cell
from ascendctl.topology.parts import Part, PartKind

__all__ = ["Clues", "component_of", "localise"]

# More says nothing more: 1 is for what was read, not inferred.
_MOST_CONFIDENCE = 0.9999
# A port attached to the wrong place loses everything but for replies that stray.
_DEAD = 0.5
_SMALL = (PartKind.PORT, PartKind.NPU, PartKind.HOST, PartKind.LINK)


@no_cycle_collection()
def localise(
    fabric: Fabric, observations: Sequence[Observation], clues: Clues | None = None
) -> tuple[Verdict, ...]:
    """The parts at fault, the one that explains most pairs first; empty where chance explains all losses.

    A verdict's confidence is the odds of its part against every part that could stand in its place, and
    against none, as a probability; for verdicts of facts alone see `ascendctl.topology.contradictions`.
    """
    clues = clues or Clues()
    found = contradictions(fabric, clues)
    free = free_of(found, observations)
    blames = find_blame(fabric, free)
    tally = _Tally(free if any(blame.part.kind in _SMALL for blame in blames) else ())
    swaps = swapped_cables(fabric, _accused(blames), tally.is_dead_on_roce, clues)
    if swaps:
        found += [_of_swap(swap, tally) for swap in swaps]
        free = free_of(found, observations)
        blames, tally = find_blame(fabric, free), _Tally(free)
    accused = _accused(blames)
    share = _shared_out(blames)
    failed_at = _failed_at({end for each in found for end in each.ends}, observations)
    verdicts = [_of_facts(each, failed_at) for each in found]
    for number, blame in enumerate(blames):
        verdicts.append(_verdict(blame, share[number], fabric, tally, accused))
    return tuple(sorted(verdicts, key=lambda verdict: (-len(verdict.explains), -verdict.confidence)))


def component_of(part: Part) -> Component:
    """The part as reports name it. ``value`` says the plane, or which part of a switch or super pod."""
    plane = part.plane.value if part.plane else None
    key = part.key
    if part.kind is PartKind.PORT:
        port = _port_id(key[0])
        return Component(ComponentKind.DEVICE, port.host, port.device, value=plane)
    if part.kind is PartKind.LINK:
        one, other = _port_id(key[0]), _port_id(key[1])
        return Component(
            ComponentKind.LINK, one.host, one.device, peer=Peer(other.host, other.device), value=plane
        )
    if part.kind is PartKind.NPU:
        return Component(ComponentKind.NPU, str(key[0]), npu=int(str(key[1])), value=plane)
    if part.kind is PartKind.HOST:
        return Component(ComponentKind.HOST, str(key[0]), value=plane)
    if part.kind is PartKind.SPLIT:
        hosts = key[1] if isinstance(key[1], tuple) else ()
        return Component(ComponentKind.SUPER_POD, value=f"{key[0]}: {fold(map(str, hosts))} apart")
    if part.kind is PartKind.PLANE and part.plane is Plane.HCCS:
        return Component(ComponentKind.SUPER_POD, value=str(key[0]))
    value = {
        PartKind.SWITCH: None,
        PartKind.UPLINK: "uplinks",
        PartKind.SPINE: "between leaf switches",
        PartKind.PLANE: "every leaf switch",
    }[part.kind]
    return Component(ComponentKind.SWITCH, switch=str(key[0]) if key else None, value=value)


# --- from pings -----------------------------------------------------------------------------------


def _verdict(
    blame: Blame,
    explained: Sequence[Observation],
    fabric: Fabric,
    tally: _Tally,
    accused: Collection[PortId],
) -> Verdict:
    part = blame.part
    component = _with_npu(component_of(part), blame.ports)
    alternatives = tuple(component_of(other) for other, _ in blame.alternatives)
    return Verdict(
        component=component,
        message=_message(part, blame.loss),
        confidence=round(min(blame.confidence, _MOST_CONFIDENCE), 4),
        explains=_cells(explained),
        evidence=tuple(_evidence(blame)),
        ruled_out=tuple(_ruled_out(blame, fabric, tally, accused)),
        alternatives=alternatives,
    )


def _evidence(blame: Blame) -> Iterable[str]:
    lossy = len(blame.observations)
    yield (
        f"{lossy} of {blame.pings} pings through it lost packets, {blame.lost} of {blame.sent} in all; "
        f"its own loss is estimated at {_percent(blame.loss)}"
    )
    inside = {port.id for port in blame.ports}
    ends = (end for o in blame.observations for end in (o.ping.source, o.ping.target))
    peers = {end.host for end in ends if not inside or end not in inside}
    if peers and blame.part.kind is not PartKind.LINK:
        yield f"the peers of those that lost packets are on {len(peers)} host(s): {_few(peers)}"
    outgoing = sum(1 for o in blame.observations if o.ping.source in inside) if inside else 0
    if 0 < outgoing < lossy:
        yield f"both ways: {outgoing} of them were sent from there, {lossy - outgoing} to it"
    if not blame.tried:
        yield "there is too much loss to try every other explanation: whether another fits better is open"
    for other, behind in blame.alternatives:
        how = "as well" if behind < 0.1 else f"nearly as well (odds 1 to {2.718281828**behind:.1f})"
        yield f"{_named(other)} would explain the same pings {how}"


def _ruled_out(blame: Blame, fabric: Fabric, tally: _Tally, accused: Collection[PortId]) -> Iterable[str]:
    """The larger parts that hold this one, by what their other ports met where nobody else is accused."""
    part = blame.part
    planes = [part.plane] if part.plane else list(Plane)
    if part.kind is PartKind.LINK:
        for port in blame.ports:
            yield from tally.sentence(f"{str_port(port.id)} itself, to others", [port.id], planes, accused)
        return
    if part.kind not in (PartKind.PORT, PartKind.NPU, PartKind.HOST) or not blame.ports:
        return
    first = blame.ports[0]
    host = fabric.hosts[first.id.host]
    if part.kind is PartKind.PORT:
        dies = [port.id for port in host if port.npu == first.npu and port.id not in accused]
        yield from tally.sentence(f"NPU {first.npu}: its other die", dies, planes, accused)
        if part.plane is not None:
            other = Plane.HCCS if part.plane is Plane.ROCE else Plane.ROCE
            yield from tally.sentence(f"the die: over {other.value}, it", [first.id], [other], accused)
    if part.kind is not PartKind.HOST:
        rest = [port.id for port in host if port.id not in accused]
        yield from tally.sentence(f"the host: its {len(rest)} other devices", rest, planes, accused)
    if Plane.ROCE in planes:
        for name in sorted({port.switch for port in blame.ports if port.switch is not None}):
            behind = [port.id for port in fabric.switches[name] if port.id not in accused]
            label = f"the switch {name}: {len(behind)} other ports"
            yield from tally.sentence(label, behind, [Plane.ROCE], accused)


class _Tally:
    """What every end met."""

    def __init__(self, observations: Iterable[Observation]) -> None:
        # Plain strings and numbers as keys: there are a hundred thousand pings to sort in.
        self._of_end: dict[tuple[Plane, str, int], list[Observation]] = defaultdict(list)
        for observation in observations:
            if observation.sent:
                ping = observation.ping
                for end in (ping.source, ping.target):
                    self._of_end[ping.plane, end.host, end.device].append(observation)

    def packets(self, plane: Plane, port: PortId) -> tuple[int, int]:
        """What was sent to and from a port, and lost."""
        met = self._of_end.get((plane, port.host, port.device), ())
        return sum(o.sent or 0 for o in met), sum((o.sent or 0) - (o.received or 0) for o in met)

    def is_dead_on_roce(self, port: PortId) -> bool:
        sent, lost = self.packets(Plane.ROCE, port)
        return sent > 0 and lost >= _DEAD * sent

    def sentence(
        self, who: str, ports: Sequence[PortId], planes: Sequence[Plane], accused: Collection[PortId]
    ) -> Iterable[str]:
        """What these ports lost on pings with others than the accused; nothing where there are none."""
        sent = lost = 0
        for plane in planes:
            for port in ports:
                for observation in self._of_end.get((plane, port.host, port.device), ()):
                    ping = observation.ping
                    if (ping.target if ping.source == port else ping.source) not in accused:
                        sent += observation.sent or 0
                        lost += (observation.sent or 0) - (observation.received or 0)
        if sent:
            yield f"{who} lost {lost} of {sent} packets"


def _shared_out(blames: Sequence[Blame]) -> list[list[Observation]]:
    """Every failing ping to one blame: the part on its way that loses most; of equals, the larger gain."""
    best: dict[int, int] = {}
    by_loss = sorted(range(len(blames)), key=lambda number: (blames[number].loss, blames[number].gain))
    for number in by_loss:
        for observation in blames[number].observations:
            best[id(observation)] = number
    return [[o for o in blame.observations if best[id(o)] == number] for number, blame in enumerate(blames)]


# --- from facts -----------------------------------------------------------------------------------


def _failed_at(
    taken: Collection[tuple[Plane, PortId]], observations: Iterable[Observation]
) -> dict[tuple[Plane, PortId], list[tuple[int, Observation]]]:
    """The failing pings of these ends, each with its number."""
    failed: dict[tuple[Plane, PortId], list[tuple[int, Observation]]] = defaultdict(list)
    for number, observation in enumerate(observations if taken else ()):
        if _failed(observation):
            for end in ends_of(observation.ping):
                if end in taken:
                    failed[end].append((number, observation))
    return failed


def _of_facts(
    found: Contradiction, failed_at: Mapping[tuple[Plane, PortId], Sequence[tuple[int, Observation]]]
) -> Verdict:
    """With the failing pings that follow from it."""
    numbered = {n: o for end in found.ends for n, o in failed_at.get(end, ())}
    failed = [numbered[number] for number in sorted(numbered)]
    verdict = found.verdict
    if not failed:
        return verdict
    pairs = f"{len(failed)} pings to and from there lost packets"
    return replace(
        verdict, explains=(*verdict.explains, *_cells(failed)), evidence=(*verdict.evidence, pairs)
    )


def _of_swap(swap: Swap, tally: _Tally) -> Contradiction:
    """Swapped cables: the pings to and from either port say nothing else."""
    names = f"{str_port(swap.one.id)} and {str_port(swap.other.id)}"
    ends = [(Plane.ROCE, port.id) for port in (swap.one, swap.other)]
    met = [tally.packets(*end) for end in ends]
    sent, lost = (sum(numbers) for numbers in zip(*met, strict=True))
    verdict = Verdict(
        component=swap.component,
        message=f"the cables of {names} are swapped",
        confidence=round(min(swap.confidence, _MOST_CONFIDENCE), 4),
        evidence=(*swap.evidence, f"both ports lost {lost} of {sent} packets: they sit in the wrong segment"),
        ruled_out=("two broken ports: that each hears the other's neighbour would be chance",)
        if swap.other.switch
        else (),
    )
    return Contradiction(verdict, frozenset(ends))


def _accused(blames: Iterable[Blame]) -> set[PortId]:
    """The ports of what is no larger than a host."""
    return {port.id for blame in blames if blame.part.kind in _SMALL for port in blame.ports}


# --- words ----------------------------------------------------------------------------------------


def _message(part: Part, loss: float) -> str:
    """What is wrong with a part; where the component names the part by itself, it is not named once more."""
    if part.kind in (PartKind.PORT, PartKind.NPU, PartKind.HOST, PartKind.SWITCH):
        return f"loses {_percent(loss)} of its {_network(part)} packets".replace("  ", " ")
    return f"{_named(part)} loses {_percent(loss)} of the packets"


def _named(part: Part) -> str:
    """The part in words."""
    on = f", {_network(part)} only" if part.plane else ""
    key = part.key
    if part.kind is PartKind.PORT:
        return f"{str_port(_port_id(key[0]))}{on}"
    if part.kind is PartKind.LINK:
        return f"the way between {str_port(_port_id(key[0]))} and {str_port(_port_id(key[1]))}{on}"
    if part.kind is PartKind.NPU:
        return f"{key[0]} NPU {key[1]} with all its dies{on}"
    if part.kind is PartKind.HOST:
        return f"{key[0]} as a whole{on}"
    if part.kind is PartKind.SWITCH:
        return f"leaf switch {key[0]}"
    if part.kind is PartKind.UPLINK:
        return f"leaf switch {key[0]}, to other switches only,"
    if part.kind is PartKind.SPLIT:
        hosts = key[1] if isinstance(key[1], tuple) else ()
        return f"super pod {key[0]}, between {fold(map(str, hosts))} and its other hosts,"
    if part.kind is PartKind.SPINE:
        return "the way between leaf switches"
    return f"all of super pod {key[0]}" if key else "the RoCE network as a whole"


def _network(part: Part) -> str:
    return part.plane.value.upper().replace("ROCE", "RoCE") if part.plane else ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.1f} %"


def _few(hosts: Iterable[str]) -> str:
    names = sorted(hosts)
    return fold(names) if len(names) <= 64 else f"{fold(names[:64])} and {len(names) - 64} more"


def _cells(observations: Iterable[Observation]) -> tuple[CellKey, ...]:
    pings = {
        (ping.plane, ping.source.host, ping.source.device, ping.target.host, ping.target.device): ping
        for ping in (observation.ping for observation in observations)
    }
    return tuple(map(pair_cell, pings.values()))


def _failed(observation: Observation) -> bool:
    return bool(observation.sent) and (observation.received or 0) < (observation.sent or 0)


def _port_id(value: object) -> PortId:
    assert isinstance(value, PortId)
    return value


def _with_npu(component: Component, ports: Sequence[Port]) -> Component:
    if component.kind is ComponentKind.DEVICE and len(ports) == 1:
        return replace(component, npu=ports[0].npu)
    return component
