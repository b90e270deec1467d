"""What the operating systems of the hosts show only together: clocks and host names."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address

from ascendctl.checks.across.peers import AcrossCheck, Failed, Witness, both_sides
from ascendctl.facts import ClockFacts, HostFacts, ReadingStatus
from ascendctl.hccl.variables import CONNECT_TIMEOUT_DEFAULT_S
from ascendctl.results import Result, Status, host_subject


class Clock(AcrossCheck):
    """The clocks of a group's hosts are less apart than HCCL waits for its peers.

    What:
        Each host's clock is read while it is asked, which tells its offset from this machine's and how sure
        that is. Where the hosts of a group are surely more than 120 s apart, those far from the middle
        fail; without a majority all are accused. What may or may not be more stays unknown.
    Why:
        120 s is how long HCCL waits unless HCCL_CONNECT_TIMEOUT says otherwise. Ranks that are started at a
        given time of day by clocks further apart miss each other.
    Consequence:
        Ranks that start by the clock are too late for negotiation: EI0015. Logs of the hosts cannot be put
        in order, so that the first fault cannot be told.
    Remedy:
        Set up chrony or systemd-timesyncd on every host with the same servers, and set the clock once
        (`chronyc makestep`).
    """

    id = "clock"
    title = "Clocks of the hosts against each other"
    commands = ("clock",)
    after = ("reachable",)

    def judge_peers(self, hosts: Sequence[HostFacts], failed: Failed) -> Iterable[Result]:
        known = {host.host: host.system.clock.value for host in hosts if host.system.clock.value}
        far = _far_apart(known)
        near = {name: clock for name, clock in known.items() if name not in far}
        bounds = _sure_bounds(near)
        readings = {host.host: host.system.clock for host in hosts}
        earliest = min(known, key=lambda name: known[name].offset_s, default="")
        latest = max(known, key=lambda name: known[name].offset_s, default="")
        for host in hosts:
            subject, reading = host_subject(host.host), host.system.clock
            clock = reading.value
            if reading.status is ReadingStatus.NO_DATA:
                yield self.not_applicable(subject, reading.reason)
            elif clock is None:
                yield self.unlearned(subject, "the clock of the host", reading)
            elif len(known) == 1:
                yield self.no_peer_read(host.host)
            elif host.host in far or _may_be_far(clock, bounds):
                sure = host.host in far
                middle = far.get(host.host)
                other = earliest if clock.offset_s > known[earliest].offset_s else latest
                gap_s = abs(clock.offset_s - known[other].offset_s)
                message = "it cannot be told whether the clock is near enough to those of the group's hosts"
                if sure:
                    message = "the clock is far from those of the group's other hosts"
                    if middle is None:
                        message = "the clocks of the group are far apart, with no majority to judge by"
                yield self.found(
                    Status.FAIL if sure else Status.UNKNOWN,
                    subject,
                    message,
                    advice_for="clock/apart" if sure else "clock/not-sure",
                    expected=f"at most {CONNECT_TIMEOUT_DEFAULT_S} s between two hosts",
                    actual=f"{_text(clock)}; {gap_s:.1f} s from {other}",
                    reading=both_sides(reading, Witness(other, readings[other])),
                )
            else:
                yield self.passed(subject, "the clock is near those of the group's other hosts")


class Hostnames(AcrossCheck):
    """Every host has a name of its own, which leads to one of its addresses.

    What:
        `hostname` is another one on every host of the cluster, and `hostname -i` finds an address of the
        host for it, other than loopback. Anything else is a warning.
    Why:
        Gloo, which the engines use beside HCCL, listens on what the host's name leads to unless
        GLOO_SOCKET_IFNAME is set; schedulers and logs tell hosts apart by their names.
    Consequence:
        HCCL itself is not affected; engines on several hosts wait for each other on the wrong address and
        give up. Two entries of one name may be one server that the inventory lists twice.
    Remedy:
        Set a name with `hostnamectl set-hostname NAME`, and give it the address of the host's NIC in
        /etc/hosts or DNS, before any line with 127.0.0.1 or 127.0.1.1; or set GLOO_SOCKET_IFNAME
        (`ascendctl env`).
    """

    id = "hostnames"
    title = "Names of the hosts"
    commands = ("hostname-addresses", "hostname")
    after = ("reachable",)
    whole_cluster = True

    def judge_peers(self, hosts: Sequence[HostFacts], failed: Failed) -> Iterable[Result]:
        holders: dict[str, list[HostFacts]] = defaultdict(list)
        for host in hosts:
            if host.system.hostname.value:
                holders[host.system.hostname.value].append(host)
        for host in hosts:
            name = host.system.hostname
            if name.status is ReadingStatus.TOOL_MISSING:
                subject = host_subject(host.host)
                yield self.not_applicable(subject, "the host has no hostname command")
            elif name.value is None:
                yield self.unlearned(host_subject(host.host), "the name of the host", name)
            else:
                yield self._shared(host, holders[name.value]) or self._resolved(host)

    def _shared(self, host: HostFacts, holders: Sequence[HostFacts]) -> Result | None:
        others = [other for other in holders if other.host != host.host]
        if not others:
            return None
        name = host.system.hostname
        listed = ", ".join(other.host for other in others[:_NAMED])
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        return self.found(
            Status.WARN,
            host_subject(host.host),
            "another host has the same host name",
            advice_for="hostnames/shared",
            expected="a name of its own",
            actual=f"{name.value}, also on {listed}{more}",
            reading=both_sides(name, Witness(others[0].host, others[0].system.hostname)),
        )

    def _resolved(self, host: HostFacts) -> Result:
        subject, reading = host_subject(host.host), host.system.hostname_addresses
        kind, seen = "", ", ".join(reading.value or ())
        if reading.status is ReadingStatus.NO_DATA:
            message, kind, seen = "the host's name leads to no address", "unresolved", "none"
        elif reading.value is None:
            return self.unlearned(subject, "what the host's name leads to", reading)
        elif all(ip_address(text).is_loopback for text in reading.value):
            message, kind = "the host's name leads to its loopback address only", "loopback"
        elif host.system.addresses.value is not None:
            own = {ip_address(entry.address) for entry in host.system.addresses.value}
            outward = {ip for ip in map(ip_address, reading.value) if not ip.is_loopback}
            if not outward & own:
                message, kind = "the host's name leads to an address that the host does not have", "foreign"
        if not kind:
            return self.passed(subject, "the host's name is its own and leads to its address")
        return self.found(
            Status.WARN,
            subject,
            message,
            advice_for=f"hostnames/{kind}",
            expected="an address of the host's NIC",
            actual=seen,
            reading=reading,
        )


_NAMED = 3


def _far_apart(clocks: Mapping[str, ClockFacts]) -> dict[str, float | None]:
    """Hosts to blame for a spread that is surely above the limit → the middle offset, None on a tie.

    Whoever is within half the limit of the middle is at most the limit from all others who are.
    """
    earliest_s, latest_s = _sure_bounds(clocks)
    if latest_s - earliest_s <= CONNECT_TIMEOUT_DEFAULT_S:
        return {}
    offsets = sorted(clock.offset_s for clock in clocks.values())
    low, high = offsets[(len(offsets) - 1) // 2], offsets[len(offsets) // 2]
    half_s = CONNECT_TIMEOUT_DEFAULT_S / 2
    if high - low <= half_s:
        away = {name: _beyond(clock.offset_s, low, high) for name, clock in clocks.items()}
        far = [name for name, gap_s in away.items() if gap_s > half_s]
        if far:
            return dict.fromkeys(far, (low + high) / 2)
    return dict.fromkeys(clocks)


def _beyond(offset_s: float, low_s: float, high_s: float) -> float:
    """How far an offset lies outside a range; 0 inside."""
    return max(low_s - offset_s, offset_s - high_s, 0.0)


def _sure_bounds(clocks: Mapping[str, ClockFacts]) -> tuple[float, float]:
    """The latest that the earliest clock can be, and the earliest that the latest one can."""
    earliest_s = min((clock.offset_s + clock.uncertainty_s for clock in clocks.values()), default=math.inf)
    latest_s = max((clock.offset_s - clock.uncertainty_s for clock in clocks.values()), default=-math.inf)
    return earliest_s, latest_s


def _may_be_far(clock: ClockFacts, bounds: tuple[float, float]) -> bool:
    """Whether the host's own uncertainty allows a distance above the limit, the others' at their nearest."""
    earliest_s, latest_s = bounds
    ahead_s = clock.offset_s + clock.uncertainty_s - earliest_s
    behind_s = latest_s - (clock.offset_s - clock.uncertainty_s)
    return max(ahead_s, behind_s) > CONNECT_TIMEOUT_DEFAULT_S


def _text(clock: ClockFacts) -> str:
    return f"{clock.offset_s:+.1f} s from this machine's clock, give or take {clock.uncertainty_s:.1f} s"
