"""What the tries between hosts are found to say: whom they accuse of what, in a finding's words. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ascendctl.facts import PortAnswer, Reading, ReadingStatus
from ascendctl.inventory.nodesets import fold
from ascendctl.results import Status
from ascendctl.topology.host_ways import Loss, Way, accused, losses, sides

# A port that refuses has been reached: nothing listens there now.
_REACHED = (PortAnswer.CONNECTED, PortAnswer.REFUSED)


@dataclass(frozen=True)
class Finding:
    status: Status
    message: str
    advice_for: str
    expected: str
    actual: str
    reading: Reading[Any]


class Picture:
    """All ways of the cluster, and what they accuse whom of.

    ``chosen``: the NIC of each host by name; ``engine_ports``: the ports of each host's engine.
    """

    def __init__(
        self, ways: Sequence[Way], chosen: Mapping[str, str], engine_ports: Mapping[str, Sequence[int]]
    ) -> None:
        self.ways = ways
        self._engine_ports = engine_ports
        self.by_source = _by_source(ways)
        self._chosen = chosen
        self.sides = sides(ways)
        self._side = {name: number for number, side in enumerate(self.sides) for name in side}
        self.findings: dict[str, Finding] = {}
        for collect in (
            self._closed,
            self._filtered,
            self._shut_engines,
            self._vanishing,
            self._lossy,
            self._lesser,
        ):
            for host, finding in collect():
                self.findings.setdefault(host, finding)

    def is_between(self, way: Way) -> bool:
        """Whether the way leads from one part of a split network to another."""
        one, other = self._side.get(way.source), self._side.get(way.target)
        return one is not None and other is not None and one != other

    def off_the_main_part(self, host: str) -> bool:
        """Whether the host is not in the one largest part; on a tie none is in it."""
        tie = len(self.sides) > 1 and len(self.sides[0]) == len(self.sides[1])
        return host in self._side and (tie or self._side[host] > 0)

    def nic_of(self, own: Sequence[Way]) -> str:
        """The NIC that a host tried its peers over: as ping says, else as chosen from the facts."""
        said = (way.path.ping.value.interface for way in own if way.path.ping.value)
        return next(filter(None, said), "") or self._chosen.get(own[0].source, "")

    def _closed(self) -> Iterable[tuple[str, Finding]]:
        judged = [way for way in self.ways if way.open is not None and not self.is_between(way)]
        found = accused([way for way in judged if way.open is False], judged)
        for host, ways in found.hosts.items():
            yield host, _closed_finding(host, ways, "the host cannot be reached over the host network")
        for host, those in _by_source(found.rest).items():
            peers = fold({way.target for way in those})
            yield host, _closed_finding(host, those, f"{peers} cannot be reached over the host network")

    def _filtered(self) -> Iterable[tuple[str, Finding]]:
        judged = [way for way in self.ways if way.ports_judged]
        # It is mostly the host that listens which filters; so even where only one other tried.
        found = accused([way for way in judged if way.filtered_ports], judged, least_tries=1)
        for host, ways in found.hosts.items():
            yield (
                host,
                _filtered_finding(ways, "a firewall shuts HCCL's ports between the host and its peers"),
            )
        for host, those in _by_source(found.rest).items():
            peers = fold({way.target for way in those})
            yield host, _filtered_finding(those, f"HCCL's ports of {peers} are shut, for this host at least")

    def _shut_engines(self) -> Iterable[tuple[str, Finding]]:
        """Engine ports that nothing answers for, not even to refuse: the host that listens filters mostly."""
        judged = [way for way in self.ways if way.ports_judged and self._engine_ports.get(way.target)]
        shut = {id(way): self._shut_ports(way) for way in judged}
        found = accused([way for way in judged if shut[id(way)]], judged, least_tries=1)
        for host, ways in found.hosts.items():
            message = "a firewall shuts ports of the engine between the host and its peers"
            yield host, _shut_engine_finding(ways, shut, message)
        for host, those in _by_source(found.rest).items():
            peers = fold({way.target for way in those})
            message = f"ports of the engine of {peers} are shut, for this host at least"
            yield host, _shut_engine_finding(those, shut, message)

    def _shut_ports(self, way: Way) -> tuple[int, ...]:
        answers = way.path.ports.value.answers if way.path.ports.value else {}
        ports = self._engine_ports.get(way.target, ())
        return tuple(port for port in ports if port in answers and answers[port] not in _REACHED)

    def _vanishing(self) -> Iterable[tuple[str, Finding]]:
        judged = [way for way in self.ways if way.largest_judged]
        for host, ways in _hosts_at_fault([way for way in judged if way.largest_vanish], judged):
            yield host, _vanishing_finding(ways)

    def _silent(self) -> Mapping[str, Sequence[Way]]:
        """Hosts that answer nobody's pings, or get no answer: a firewall's doing. Else it is loss."""
        pinged = [way for way in self.ways if way.open and way.path.ping.ok]
        return accused([way for way in pinged if way.pings_unanswered], pinged).hosts

    def _lossy(self) -> Iterable[tuple[str, Finding]]:
        silent = {id(way) for ways in self._silent().values() for way in ways}
        for host, loss in losses([way for way in self.ways if id(way) not in silent]).items():
            yield host, _loss_finding(loss)

    def _lesser(self) -> Iterable[tuple[str, Finding]]:
        """What does not keep HCCL from working by itself."""
        sized = [way for way in self.ways if way.largest_judged]
        for host, ways in _hosts_at_fault([way for way in sized if way.largest_refused], sized):
            yield host, _refused_finding(ways)
        for host, own in self.by_source.items():
            nic = self.nic_of(own)
            astray = [way for way in own if nic and _leaves_by(way) not in (nic, None)]
            if astray:
                yield host, _astray_finding(astray, nic)
        for host, ways in self._silent().items():
            yield host, _silent_finding(ways)


def _hosts_at_fault(bad: Sequence[Way], judged: Sequence[Way]) -> Iterable[tuple[str, Sequence[Way]]]:
    """The hosts that bad ways accuse, and those from which ways lead that accuse no one host."""
    found = accused(bad, judged)
    return (*found.hosts.items(), *_by_source(found.rest).items())


def _by_source(ways: Iterable[Way]) -> dict[str, list[Way]]:
    sources: dict[str, list[Way]] = defaultdict(list)
    for way in ways:
        sources[way.source].append(way)
    return sources


def _closed_finding(host: str, ways: Sequence[Way], message: str) -> Finding:
    no_route = [way for way in ways if way.path.route.ok and _leaves_by(way) is None]
    by_itself = [way for way in no_route if way.source == host]
    if by_itself and len(by_itself) == sum(way.source == host for way in ways):
        return Finding(
            Status.FAIL,
            "the host has no route to its peers",
            "host-net/no-route",
            "a route out of the NIC",
            f"{_of_ways(by_itself)}: no route",
            evidence_of(by_itself[0], "route"),
        )
    return Finding(
        Status.FAIL,
        message,
        "host-net/unreachable",
        "pings or ports are answered",
        f"{_of_ways(ways)}: no ping and no port was answered",
        evidence_of(ways[0], "ports", "ping"),
    )


def _filtered_finding(ways: Sequence[Way], message: str) -> Finding:
    ports = sorted({port for way in ways for port in way.filtered_ports})
    answers = {
        way.path.ports.value.answers[port].value
        for way in ways
        if way.path.ports.value
        for port in way.filtered_ports
    }
    return Finding(
        Status.FAIL,
        message,
        "host-net/filtered",
        "HCCL's ports refuse or accept",
        f"{_of_ways(ways)}: port {', '.join(map(str, ports))} {' or '.join(sorted(answers))},"
        " though the way is open",
        evidence_of(ways[0], "ports"),
    )


def _shut_engine_finding(ways: Sequence[Way], shut: Mapping[int, Sequence[int]], message: str) -> Finding:
    ports = sorted({port for way in ways for port in shut[id(way)]})
    return Finding(
        Status.FAIL,
        message,
        "host-net/engine-ports",
        "the engine's ports refuse or accept",
        f"{_of_ways(ways)}: port {', '.join(map(str, ports))} not answered, though the way is open",
        evidence_of(ways[0], "ports"),
    )


def _vanishing_finding(ways: Sequence[Way]) -> Finding:
    return Finding(
        Status.FAIL,
        "small packets pass between the host and its peers, and the largest vanish",
        "host-net/path-mtu",
        "packets as large as the NICs' MTU pass",
        f"{_of_ways(ways)}: none of the largest packets came back, and nobody said why",
        evidence_of(ways[0], "whole"),
    )


def _refused_finding(ways: Sequence[Way]) -> Finding:
    sizes = [one.path_mtu_bytes for way in ways if (one := way.path.whole.value) and one.path_mtu_bytes]
    return Finding(
        Status.WARN,
        "packets as large as the NIC's MTU do not pass whole to its peers",
        "host-net/smaller-mtu",
        "packets as large as the NICs' MTU pass",
        f"{_of_ways(ways)}: at most {min(sizes)} bytes" if sizes else f"{_of_ways(ways)}: too large",
        evidence_of(ways[0], "whole"),
    )


def _astray_finding(ways: Sequence[Way], nic: str) -> Finding:
    out = sorted({name for way in ways if (name := _leaves_by(way))})
    return Finding(
        Status.WARN,
        "packets to its peers leave by another NIC than the one chosen",
        "host-net/route",
        f"out of {nic}",
        f"{_of_ways(ways)}: out of {', '.join(out)}",
        evidence_of(ways[0], "route"),
    )


def _silent_finding(ways: Sequence[Way]) -> Finding:
    return Finding(
        Status.WARN,
        "TCP comes through between the host and its peers, and pings do not",
        "host-net/no-ping",
        "pings are answered",
        f"{_of_ways(ways)}: no ping came back",
        evidence_of(ways[0], "ping"),
    )


def _leaves_by(way: Way) -> str | None:
    """The NIC by which the kernel sends on this way; None where it has no route, or that was not learned."""
    route = way.path.route.value
    return route.interface if route else None


def _loss_finding(loss: Loss) -> Finding:
    return Finding(
        Status.WARN,
        f"packets get lost between the host and {loss.peer or 'its peers'}",
        "host-net/loss",
        "no packet is lost",
        f"{loss.lost} of {loss.sent} packets lost",
        evidence_of(loss.ways[0], "ping", "whole"),
    )


def _of_ways(ways: Sequence[Way]) -> str:
    """The ways as a short text: who tried whom."""
    targets: dict[str, set[str]] = defaultdict(set)
    for way in ways:
        targets[way.target].add(way.source)
    return "; ".join(f"{fold(sources)} to {target}" for target, sources in targets.items())


def evidence_of(way: Way, *names: str) -> Reading[Any]:
    """The readings of a way that are there, as one."""
    readings: list[Reading[Any]] = [
        reading for name in names if (reading := getattr(way.path, name)).command or reading.evidence
    ]
    if not readings:
        return Reading(ReadingStatus.NOT_ASKED)
    told = "\n".join(f"[on {way.source}: {one.command}]\n{one.evidence}" for one in readings)
    return replace(readings[0], evidence=told)
