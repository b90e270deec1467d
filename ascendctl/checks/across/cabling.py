"""Cables: where ports are plugged in, beside where the inventory, or else the other hosts, want them.

Pure, and without any ping: two exchanged cables that end in one segment lose no packet. A swap is accused
only where the inventory states the cabling; what other hosts alone suggest is an observation. Swaps that do
lose packets are told from those by `ascendctl.topology.cables`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ascendctl.checks.across.peers import (
    DeviceCells,
    Failed,
    Odd,
    Witness,
    both_sides,
    roce_not_wanted,
)
from ascendctl.checks.ascend import without_npus
from ascendctl.facts import Cable, ClusterFacts, DeviceFacts, HostFacts, LinkStatus, Reading
from ascendctl.results import (
    CellKey,
    Component,
    ComponentKind,
    Peer,
    Result,
    Status,
    Subject,
    SubjectKind,
    Verdict,
    host_subject,
)
from ascendctl.topology.contradictions import CABLE_SWAP, str_port
from ascendctl.topology.fabric import Fabric, Plane, PortId, leaf_switch


class Cabling(DeviceCells):
    """Cables end where the inventory says.

    What:
        Where the inventory states the `cabling:` of a device, its port hears that leaf switch over LLDP, and
        that port of it where one is stated. Two ports that hear what the other one should hear are one
        finding: a swap. Without a statement nothing is accused; two ports that are exchanged going by hosts
        which are otherwise cabled alike are a warning, as an observation.
    Why:
        A swapped cable that ends in the right segment passes every ping, and takes its port out of its rail.
    Consequence:
        Traffic of a rail crosses the spine: collectives slow down, and the next change of a switch port hits
        another device than the one that is written down.
    Remedy:
        Plug the cables where they belong, or correct `cabling:` in the inventory.
    """

    id = "cabling"
    title = "Cables end where the inventory says"
    commands = ("lldp",)
    after = ("npu-mapping", "link", "lldp")
    what = "the port's place"

    def judge(self, cluster: ClusterFacts, results: tuple[Result, ...]) -> Iterable[Result]:
        failed = Failed(results, self.after)
        swaps = [*stated_swaps(cluster), *_observed_swaps(cluster)]
        first_at: dict[str, list[CableSwap]] = defaultdict(list)
        cause: dict[PortId, CellKey] = {}
        for swap in swaps:
            first_at[swap.one.host].append(swap)
            if swap.stated:
                cause.update(dict.fromkeys((swap.one, swap.other), CellKey(self.id, swap.subject)))
        devices = {PortId(host.host, one.phy_id): one for host in cluster.hosts for one in host.devices}
        for host in cluster.hosts:
            subject = host_subject(host.host)
            if reason := without_npus(host):
                yield self.not_applicable(subject, reason)
                continue
            # Of a host that told nothing, it is not known whether others would show its cables to be odd.
            if host.expectation.cabling or (not host.devices and len(cluster.hosts) > 1):
                yield from self._judge_stated(host, failed, cause)
            else:
                yield self.not_applicable(subject, "the inventory states no cabling for this host")
            for swap in first_at[host.host]:
                yield self._swapped(swap, devices)

    def reading(self, device: DeviceFacts, host: HostFacts) -> Reading[Any]:
        return device.lldp

    def source(self, device: DeviceFacts) -> str:
        return "lldp"

    def not_wanted(self, device: DeviceFacts, host: HostFacts) -> str:
        if device.phy_id not in host.expectation.cabling:
            return "the inventory states no cabling for its devices"
        return roce_not_wanted(device, host)

    def value(self, device: DeviceFacts, host: HostFacts) -> Hashable | None:
        return _heard(device)

    def agreed(self, values: Sequence[Any]) -> str:
        return f"{len(values)} port{'s hear' if len(values) != 1 else ' hears'} what the inventory states"

    def _not_compared(self) -> str:
        return "the port's place could not be compared with the cabling that the inventory states"

    def _judge_stated(
        self, host: HostFacts, failed: Failed, swapped: Mapping[PortId, CellKey]
    ) -> Iterable[Result]:
        roll = self._roll(host, failed)
        for phy in list(roll.values):
            if PortId(host.host, phy) in swapped:
                del roll.values[phy]
                roll.lost[phy] = swapped[PortId(host.host, phy)]
        if not roll.values:
            yield self._without_votes(host, roll)
            return
        stated = host.expectation.cabling
        odd = {
            phy: _elsewhere(heard, stated[phy])
            for phy, heard in roll.values.items()
            if not _fits(heard, stated[phy])
        }
        if len(odd) > 1:
            wanted = "; ".join(f"device {phy}: {stated[phy]}" for phy in odd)
            odd = {phy: replace(one, expected=wanted) for phy, one in odd.items()}
        yield from self._judge_host(host, roll, odd, None)
        yield from self._lost(host, roll)

    def _swapped(self, swap: CableSwap, devices: Mapping[PortId, DeviceFacts]) -> Result:
        one, other = str_port(swap.one), str_port(swap.other)
        lldp = both_sides(devices[swap.one].lldp, Witness(other, devices[swap.other].lldp))
        return self.found(
            Status.FAIL if swap.stated else Status.WARN,
            swap.subject,
            swap.message,
            advice_for="cabling/swapped" if swap.stated else "cabling/observed",
            expected=f"{one} on {swap.place_of_one}, {other} on {swap.place_of_other}",
            actual=f"{one} hears {swap.heard_by_one}, {other} hears {swap.heard_by_other}",
            reading=lldp,
        )


@dataclass(frozen=True)
class CableSwap:
    """Two ports that each hear what the other should hear; ``one`` is the first of them by name.

    ``stated``: the inventory states the places of both; otherwise they are those of other hosts.
    """

    one: PortId
    other: PortId
    place_of_one: Cable
    place_of_other: Cable
    heard_by_one: Cable
    heard_by_other: Cable
    stated: bool

    @property
    def subject(self) -> Subject:
        """The two ends of the exchange, as verdicts name them."""
        peer = Peer(self.other.host, self.other.device)
        return Subject(SubjectKind.LINK, host=self.one.host, device=self.one.device, peer=peer)

    @property
    def component(self) -> Component:
        """The same as a verdict's part."""
        peer = Peer(self.other.host, self.other.device)
        return Component(ComponentKind.LINK, self.one.host, self.one.device, peer=peer, value=CABLE_SWAP)

    @property
    def message(self) -> str:
        both = f"the cables of {str_port(self.one)} and {str_port(self.other)}"
        if self.stated:
            return f"{both} are swapped"
        return f"{both} look swapped, going by other hosts; no cabling is stated, so this is an observation"


def stated_swaps(cluster: ClusterFacts) -> tuple[CableSwap, ...]:
    """The exchanged cables among the ports whose place the inventory states, whatever pings meet."""
    heard: dict[PortId, Cable] = {}
    places: dict[PortId, Cable] = {}
    for host in cluster.hosts:
        for device in host.devices:
            place, now = host.expectation.cabling.get(device.phy_id), _heard(device)
            if place is not None and now is not None and not roce_not_wanted(device, host):
                port = PortId(host.host, device.phy_id)
                heard[port], places[port] = now, place
    return tuple(_exchanged(heard, places, stated=True))


def with_swaps(verdicts: Sequence[Verdict], cluster: ClusterFacts, fabric: Fabric) -> tuple[Verdict, ...]:
    """The verdicts, with one for each swap against the inventory, also where no ping tells of it.

    It takes the place of those that accuse one of its two ports alone, and their pairs are explained by it.
    """
    told = list(verdicts)
    for swap in stated_swaps(cluster):
        evidence = (
            f"{str_port(swap.one)} hears {swap.heard_by_one} over LLDP, and belongs on {swap.place_of_one}",
            f"{str_port(swap.other)} hears {swap.heard_by_other}, and belongs on {swap.place_of_other}",
            "the inventory states both places",
        )
        if any(_is_swap_of(verdict.component, swap) for verdict in told):
            continue
        alone = [verdict for verdict in told if _accuses_one_of(verdict, swap)]
        told = [verdict for verdict in told if verdict not in alone]
        told.append(
            Verdict(
                replace(swap.component, npu=fabric.by_id[swap.one].npu),
                swap.message,
                # That the places differ is read, not inferred; that the inventory is right is assumed.
                confidence=0.99,
                explains=(
                    *(cell for verdict in alone for cell in verdict.explains),
                    CellKey(Cabling.id, swap.subject),
                ),
                evidence=(*evidence, *(sentence for verdict in alone for sentence in verdict.evidence)),
            )
        )
    return tuple(told)


def _accuses_one_of(verdict: Verdict, swap: CableSwap) -> bool:
    component = verdict.component
    on_roce = component.value in (None, Plane.ROCE.value)
    ends = {(swap.one.host, swap.one.device), (swap.other.host, swap.other.device)}
    return component.kind is ComponentKind.DEVICE and on_roce and (component.host, component.device) in ends


def _is_swap_of(component: Component, swap: CableSwap) -> bool:
    """Whether a verdict's part is a swap of one of these cables."""
    if component.value != CABLE_SWAP or component.peer is None:
        return False
    ends = {(component.host, component.device), (component.peer.host, component.peer.device)}
    return not ends.isdisjoint({(swap.one.host, swap.one.device), (swap.other.host, swap.other.device)})


# --- places ---------------------------------------------------------------------------------------


def _heard(device: DeviceFacts) -> Cable | None:
    """What a port hears; None where it hears nothing, or has no link, so that the text is of the past."""
    lldp, link = device.lldp.value, device.link.value
    if lldp is None or (link is not None and link.link_status is LinkStatus.DOWN):
        return None
    switch = leaf_switch(lldp)
    if switch is None and not (lldp.system_name or lldp.chassis_id):
        return None
    return Cable(switch or "another NPU", lldp.port_id or "")


def _fits(heard: Cable, place: Cable) -> bool:
    return heard.switch == place.switch and place.port in ("", heard.port)


def _elsewhere(heard: Cable, place: Cable) -> Odd:
    what = "port of its switch" if heard.switch == place.switch else "switch"
    return Odd(
        Status.FAIL,
        f"the port hears another {what} than the inventory states",
        "cabling/elsewhere",
        str(place),
        str(heard),
    )


def _exchanged(
    heard: Mapping[PortId, Cable], places: Mapping[PortId, Cable], *, stated: bool
) -> Iterable[CableSwap]:
    """Ports that hear each other's place, where it is clear who with whom; inside a host before others."""
    odd = sorted(port for port, place in places.items() if not _fits(heard[port], place))
    taken: set[PortId] = set()
    for inside in (True, False):
        # By switches first: of a thousand ports only those that fit together are compared.
        by_switches: dict[tuple[str, str], list[PortId]] = defaultdict(list)
        for port in odd:
            if port not in taken:
                by_switches[places[port].switch, heard[port].switch].append(port)
        fitting: dict[PortId, list[PortId]] = {}
        for port in odd:
            there = by_switches.get((heard[port].switch, places[port].switch), ())
            fitting[port] = [
                other
                for other in (there if port not in taken else ())
                if other != port
                and (other.host == port.host or not inside)
                and _fits(heard[port], places[other])
                and _fits(heard[other], places[port])
            ]
        for port, others in fitting.items():
            if len(others) == 1 and port < others[0] and fitting[others[0]] == [port]:
                taken |= {port, others[0]}
                yield CableSwap(
                    port,
                    others[0],
                    places[port],
                    places[others[0]],
                    heard[port],
                    heard[others[0]],
                    stated,
                )


# A host is taken to be cabled as others are if at most this share of its devices is not.
_ODD_SHARE = 0.25


def _observed_swaps(cluster: ClusterFacts) -> tuple[CableSwap, ...]:
    """Exchanged cables of hosts without stated cabling: by hosts whose devices hear the same switches."""
    rows: dict[str, tuple[tuple[int, str], ...]] = {}
    heard: dict[PortId, Cable] = {}
    for host in cluster.hosts:
        if host.expectation.cabling:
            continue
        row = {
            one.phy_id: now for one in host.devices if not roce_not_wanted(one, host) and (now := _heard(one))
        }
        if row and len(row) == len(host.devices):
            rows[host.host] = tuple((phy, now.switch) for phy, now in sorted(row.items()))
            heard.update({PortId(host.host, phy): now for phy, now in row.items()})
    times = Counter(rows.values())
    usual = [row for row, number in times.items() if number > 1]
    places: dict[PortId, Cable] = {}
    for name, own in rows.items():
        model = _nearest(own, usual) if times[own] == 1 else None
        for phy, switch in model or ():
            places[PortId(name, phy)] = Cable(switch)
    return tuple(_exchanged(heard, places, stated=False))


def _nearest(
    row: tuple[tuple[int, str], ...], usual: Iterable[tuple[tuple[int, str], ...]]
) -> tuple[tuple[int, str], ...] | None:
    """The one row of others that it differs least from, and little; None where there is none, or are two."""
    near: list[tuple[int, tuple[tuple[int, str], ...]]] = []
    for other in usual:
        if len(other) == len(row) and all(a[0] == b[0] for a, b in zip(row, other, strict=True)):
            differing = sum(a != b for a, b in zip(row, other, strict=True))
            if differing <= _ODD_SHARE * len(row):
                near.append((differing, other))
    near.sort(key=lambda one: one[0])
    if not near or (len(near) > 1 and near[0][0] == near[1][0]):
        return None
    return near[0][1]
