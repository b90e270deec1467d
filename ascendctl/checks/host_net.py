"""The check of the host network: does every host reach its peers over the NIC that HCCL will use."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ascendctl.checks.across.peers import cluster_subject
from ascendctl.checks.ascend import Cells, Unlearned, without_npus
from ascendctl.checks.contract import ClusterCheck
from ascendctl.checks.host_net_findings import Picture, evidence_of
from ascendctl.facts import ClusterFacts, HostFacts, ReachStatus, Reading, ReadingStatus
from ascendctl.hccl.nic import NicChoice, choose_nics
from ascendctl.inventory.nodesets import fold
from ascendctl.knowledge import advice
from ascendctl.results import CellKey, Result, Status, Subject, host_subject
from ascendctl.topology.host_ways import Way, ways_of


class HostNet(Cells, ClusterCheck):
    """Every host reaches its peers over the host network.

    What:
        Over the NIC that `ascendctl env` picks, each host tried up to three peers, the next one and others by
        chance, and was tried by as many: its route leads out of that NIC, pings come back, packets of the
        largest size that both ends send pass whole, and TCP ports out of HCCL's range 60000 to 60031 can be
        reached, and so those of the engine that the inventory states. A port that refuses has been reached,
        as nothing listens there before a job. Peers that answer no ping, but on TCP, are a warning, as loss
        and packet size are not known then.
    Why:
        HCCL's ranks, and the engines, meet over the host network before a device takes part. A firewall that
        leaves SSH open and shuts all other ports is not noticed until then.
    Consequence:
        The ranks cannot agree who takes part, which shows after HCCL_CONNECT_TIMEOUT (EI0015); or a NIC
        that does not exist is named in HCCL_SOCKET_IFNAME (EI0001).
    Remedy:
        Follow the finding: routes and cable of the NIC, its MTU and that of the way, the firewalls of both
        hosts (`firewall-cmd --list-all`, `iptables -L -n`). If the wrong NIC was tried, name the right one
        in the inventory (`nic:`).
    """

    id = "host-net"
    title = "Hosts reach each other over the host network"
    commands = ("host-links", "host-addresses")
    after = ("reachable", "duplicate-address")

    def __init__(
        self, *, tried: bool = False, why_off: str = "", silent: Mapping[str, str] | None = None
    ) -> None:
        """``tried``: hosts were asked to reach their peers. ``why_off``: why none was, where that was meant
        to be so. With neither there are no cells. ``silent``: by host, why its answer is missing."""
        self._tried = tried
        self._why_off = why_off
        self._silent = silent or {}

    def judge(self, cluster: ClusterFacts, results: tuple[Result, ...]) -> Iterable[Result]:
        if not (self._tried or self._why_off):
            return
        hosts = []
        for host in cluster.hosts:
            if reason := without_npus(host) or self._why_off:
                yield self.not_applicable(host_subject(host.host), reason)
            else:
                hosts.append(host)
        if len(hosts) == 1:
            yield self.not_applicable(host_subject(hosts[0].host), "there is no other host to be reached")
            return
        choices = {choice.host: choice for choice in choose_nics(cluster, routed=True)}
        twins = _with_one_address(choices.values())
        ways = [way for way in ways_of(cluster) if way.source not in twins and way.target not in twins]
        picture = Picture(
            ways,
            {name: one.interface for name, one in choices.items()},
            {host.host: host.expectation.engine_ports for host in hosts},
        )
        split = self._split(picture)
        if split is not None:
            yield split
        for host in hosts:
            subject = host_subject(host.host)
            if host.host in twins:
                cause = CellKey("duplicate-address", subject)
                yield self.depends(subject, "another host has the address of its NIC", cause)
            elif host.paths and host.host not in picture.by_source:
                cause = CellKey("duplicate-address", host_subject(min(twins)))
                yield self.depends(subject, "the peers that it tried have the address of another host", cause)
            elif host.paths:
                yield self._judge_host(host, picture, split)
            else:
                yield self._not_tried(host, choices[host.host], hosts)

    def _split(self, picture: Picture) -> Result | None:
        """The finding of a network in parts."""
        if not picture.sides:
            return None
        parts = [fold(side) for side in picture.sides]
        between = next(way for way in picture.ways if way.open is False and picture.is_between(way))
        return self.found(
            Status.FAIL,
            cluster_subject(),
            f"the host network falls into {len(parts)} parts that do not reach each other",
            advice_for="host-net/split",
            expected="every host reaches every other",
            actual=" | ".join(parts),
            reading=evidence_of(between, "ports", "ping", "route"),
        )

    def _judge_host(self, host: HostFacts, picture: Picture, split: Result | None) -> Result:
        subject = host_subject(host.host)
        own = picture.by_source[host.host]
        found = picture.findings.get(host.host)
        if found is not None:
            return self.found(
                found.status,
                subject,
                found.message,
                advice_for=found.advice_for,
                expected=found.expected,
                actual=found.actual,
                reading=found.reading,
            )
        if split is not None and picture.off_the_main_part(host.host):
            return self.depends(subject, "it reaches only a part of the hosts", split.key)
        closed = [way for way in own if way.open is False]
        if closed and not any(way.open for way in own):
            elsewhere = closed[0].target
            cause = (
                split.key
                if split and picture.is_between(closed[0])
                else CellKey(self.id, host_subject(elsewhere))
            )
            return self.depends(subject, "all the peers that it tried are at fault themselves", cause)
        return self._unlearned(subject, own) or self.passed(subject, _reached(own, picture.nic_of(own)))

    def _unlearned(self, subject: Subject, own: Sequence[Way]) -> Result | None:
        """The cell of a host of which not all that was wanted has been learned."""
        for way in own:
            if way.open is False or way.pings_unanswered:
                continue
            for reading, what in (
                (way.path.route, "the route to a peer"),
                (way.path.ping, "whether pings to a peer come back"),
                (way.path.ports, "whether ports of a peer can be reached"),
                (way.path.whole, "whether the largest packets pass"),
            ):
                if not reading.ok:
                    return self._not_learned(subject, what, reading)
        return None

    def _not_learned(self, subject: Subject, what: str, reading: Reading[Any]) -> Result:
        if reading.status is ReadingStatus.TOOL_MISSING:
            known = advice("host-net/tool-missing")
            tool = reading.command.split()[0] if reading.command else "a tool"
            return Unlearned(
                self.id,
                subject,
                Status.UNKNOWN,
                f"{what} could not be learned: {reading.reason or f'{tool} is not on the host'}",
                expected="an answer that can be read",
                actual=f"{tool} is not on the host",
                consequence=known.consequence,
                remedy=known.remedy,
                command=reading.command,
            )
        if reading.status is ReadingStatus.NOT_ASKED and what == "whether the largest packets pass":
            known = advice("host-net/no-mtu")
            return Unlearned(
                self.id,
                subject,
                Status.UNKNOWN,
                f"{what} is not known, as the MTU of a NIC could not be read",
                expected="an answer that can be read",
                consequence=known.consequence,
                remedy=known.remedy,
            )
        return self.unlearned(subject, what, reading)

    def _not_tried(self, host: HostFacts, choice: NicChoice, hosts: Sequence[HostFacts]) -> Result:
        """The cell of a host from which no peer was tried."""
        subject = host_subject(host.host)
        if not choice.learned:
            return self.unlearned(subject, "by which NIC its peers reach the host", host.system.addresses)
        if choice.problem:
            named = bool(host.expectation.nic)
            return self.found(
                Status.FAIL if named else Status.UNKNOWN,
                subject,
                choice.problem,
                advice_for="host-net/nic" if named else "host-net/which-nic",
                expected="one NIC by which the peers reach the host",
                actual=f"nic: {host.expectation.nic}" if named else "none that can be told",
                reading=host.system.addresses,
            )
        if host.reach.status is ReachStatus.REACHED:
            others = [other for other in hosts if other is not host]
            lost = next((one for one in others if one.reach.status is not ReachStatus.REACHED), None)
            if lost is not None and not any(other.paths for other in others):
                cause = CellKey("reachable", host_subject(lost.host))
                return self.depends(subject, "there is no other host of which the NIC is known", cause)
        asked = host.reach.status is not ReachStatus.REACHED or host.host in self._silent
        status = ReadingStatus.NOT_RECEIVED if asked else ReadingStatus.NOT_ASKED
        unheard: Reading[None] = Reading(status, reason=self._silent.get(host.host, ""))
        return self.unlearned(subject, "whether the host reaches its peers", unheard)


def _with_one_address(choices: Iterable[NicChoice]) -> set[str]:
    """The hosts whose NIC has an address that the NIC of another host has, too."""
    holders: dict[str, list[str]] = defaultdict(list)
    for choice in choices:
        if choice.chosen:
            holders[choice.address].append(choice.host)
    return {host for hosts in holders.values() if len(hosts) > 1 for host in hosts}


def _reached(own: Sequence[Way], nic: str) -> str:
    reached = [way for way in own if way.open]
    peers = f"{len(reached)} of {len(own)} peers" if len(reached) < len(own) else f"{len(own)} peers"
    if len(own) == 1:
        peers = "its peer"
    rest = "; the others are at fault themselves" if len(reached) < len(own) else ""
    return f"reaches {peers} over {nic}: route, pings, largest packets, ports{rest}"
