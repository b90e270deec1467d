"""What the tries between hosts say: which ways are open, and which hosts or sides the closed ones accuse.

Pure. A way is open when anything comes back on it, a ping's reply or a TCP port's answer: a port that
refuses has been reached. It is closed when the kernel knows no route, or when no port answers, neither
HCCL's nor that of SSH, and no ping does. Unanswered pings alone tell nothing, as many firewalls drop them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ascendctl.facts import ClusterFacts, HostPathFacts, PortAnswer
from ascendctl.hccl_ports import HCCL_HOST_PORTS

_REACHED = (PortAnswer.CONNECTED, PortAnswer.REFUSED)
# One lost packet, or two, happen on any network.
_FAINT_PACKETS = 2


@dataclass(frozen=True)
class Way:
    """One try: from host ``source`` to ``target``, the host that has the path's address (or that address)."""

    source: str
    target: str
    path: HostPathFacts

    @cached_property
    def open(self) -> bool | None:
        """Whether anything comes through; None = not learned."""
        route, ping, ports = self.path.route.value, self.path.ping.value, self.path.ports.value
        if route is not None and route.interface is None:
            return False
        answered = ports is not None and any(answer in _REACHED for answer in ports.answers.values())
        if answered or (ping is not None and ping.received):
            return True
        return None if ports is None else False

    @cached_property
    def filtered_ports(self) -> tuple[int, ...]:
        """Ports of HCCL that are shut on an open way; a single one that timed out may be a lost packet."""
        ports = self.path.ports.value
        if ports is None or not self.open:
            return ()
        shut = {port: ports.answers[port] for port in ports.answers if port in HCCL_HOST_PORTS}
        shut = {port: answer for port, answer in shut.items() if answer not in _REACHED}
        if len(shut) == 1 and PortAnswer.TIMED_OUT in shut.values():
            return ()
        return tuple(sorted(shut))

    @property
    def ports_judged(self) -> bool:
        """Whether it can be told if HCCL's ports are shut: the way is open, and they were tried."""
        return bool(self.open) and self.path.ports.ok

    @property
    def pings_unanswered(self) -> bool:
        """Whether TCP comes through and no ping is answered."""
        ping, whole = self.path.ping.value, self.path.whole.value
        return bool(self.open and ping and not ping.received and not (whole and whole.received))

    @property
    def largest_judged(self) -> bool:
        """Whether it can be told if the largest packets pass: they were sent, and no small one was lost."""
        ping = self.path.ping.value
        return self.path.whole.ok and ping is not None and ping.received == ping.transmitted

    @property
    def largest_vanish(self) -> bool:
        """Whether the largest packets vanish, and nobody on the way says that they are too large."""
        whole = self.path.whole.value
        return self.largest_judged and whole is not None and not (whole.received or self.largest_refused)

    @property
    def largest_refused(self) -> bool:
        """Whether somebody on the way says that the largest packets are too large."""
        whole = self.path.whole.value
        return whole is not None and not whole.received and whole.path_mtu_bytes is not None

    @property
    def packets(self) -> tuple[int, int]:
        """Pings sent and lost on an open way; the largest count only where they pass at all."""
        if not self.open:
            return 0, 0
        ping, whole = self.path.ping.value, self.path.whole.value
        counted = [one for one in (ping, whole) if one and (one is ping or one.received)]
        sent = sum(one.transmitted for one in counted)
        return sent, sent - sum(one.received for one in counted)


def ways_of(cluster: ClusterFacts) -> tuple[Way, ...]:
    """Every try of every host, in the cluster's order."""
    names: dict[str, str] = {}
    for host in cluster.hosts:
        for own in host.system.addresses.value or ():
            names.setdefault(own.address, host.host)
    return tuple(
        Way(host.host, names.get(path.address, path.address), path)
        for host in cluster.hosts
        for path in host.paths
    )


def sides(ways: Sequence[Way]) -> tuple[frozenset[str], ...]:
    """Groups of hosts that reach each other, while what was tried between the groups is closed.

    The largest first; hosts that reach nobody are in none. Empty where there are no two sides.
    """
    group: dict[str, set[str]] = {}
    for way in ways:
        if way.open:
            one, other = (group.setdefault(name, {name}) for name in (way.source, way.target))
            if one is not other:
                small, large = sorted((one, other), key=len)
                large |= small
                group.update(dict.fromkeys(small, large))
    groups = {id(members): members for members in group.values()}
    apart = any(
        way.open is False and group.get(way.source, way.target) is not group.get(way.target, way.source)
        for way in ways
        if way.source in group and way.target in group
    )
    if len(groups) < 2 or not apart:
        return ()
    return tuple(frozenset(members) for members in sorted(groups.values(), key=len, reverse=True))


@dataclass(frozen=True)
class Accused:
    """``hosts``: whom bad ways accuse, with these ways; ``rest``: ways that accuse no one host."""

    hosts: dict[str, tuple[Way, ...]]
    rest: tuple[Way, ...]


def accused(bad: Sequence[Way], judged: Sequence[Way], *, least_tries: int = 2) -> Accused:
    """Whom the bad ones of the judged ways accuse.

    A host of which every way is bad, in either direction, two at least; then one that every other host that
    tried fails to reach, ``least_tries`` at least. In a cluster of two both hosts are accused.
    """
    wrong = set(map(id, bad))
    hosts = _all_wrong(judged, wrong, both_ends=True, least=2)
    left = [way for way in judged if way.source not in hosts and way.target not in hosts]
    hosts |= _all_wrong(left, wrong, both_ends=False, least=least_tries)
    ways: dict[str, list[Way]] = defaultdict(list)
    rest = []
    for way in bad:
        ends = [end for end in (way.source, way.target) if end in hosts]
        for end in ends:
            ways[end].append(way)
        if not ends:
            rest.append(way)
    return Accused({host: tuple(found) for host, found in ways.items()}, tuple(rest))


def _all_wrong(ways: Iterable[Way], wrong: set[int], *, both_ends: bool, least: int) -> set[str]:
    """Hosts of which ``least`` ways were judged, all wrong; without ``both_ends`` only ways to them count."""
    verdicts: dict[str, list[bool]] = defaultdict(list)
    for way in ways:
        for end in (way.source, way.target) if both_ends else (way.target,):
            verdicts[end].append(id(way) in wrong)
    return {host for host, found in verdicts.items() if len(found) >= least and all(found)}


@dataclass(frozen=True)
class Loss:
    """Packets lost by one host. ``peer``: the only one between which and the host any got lost, or None."""

    sent: int
    lost: int
    peer: str | None
    ways: tuple[Way, ...]


def losses(ways: Sequence[Way]) -> dict[str, Loss]:
    """Hosts that lose more packets than any network does, the worst first; each way counts for one host."""
    found: dict[str, Loss] = {}
    left = [way for way in ways if way.packets[1]]
    while left:
        lost: dict[str, int] = defaultdict(int)
        for way in left:
            for end in (way.source, way.target):
                lost[end] += way.packets[1]
        worst = max(lost, key=lambda host: lost[host])
        if lost[worst] <= _FAINT_PACKETS:
            break
        own = [way for way in left if worst in (way.source, way.target)]
        peers = {end for way in own for end in (way.source, way.target)} - {worst}
        sent = sum(way.packets[0] for way in ways if worst in (way.source, way.target))
        found[worst] = Loss(sent, lost[worst], peers.pop() if len(peers) == 1 else None, tuple(own))
        left = [way for way in left if worst not in (way.source, way.target)]
    return found
