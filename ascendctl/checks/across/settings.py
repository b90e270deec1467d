"""What every device of a group must be set to alike: TLS switch, MTU."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ascendctl.checks.across.peers import (
    DevicesAcross,
    Odd,
    cluster_subject,
    device_witness,
    differences,
    roce_not_wanted,
)
from ascendctl.checks.host import driver_version
from ascendctl.checks.rails import Part
from ascendctl.facts import ClusterFacts, DeviceFacts, HostFacts, Reading, ReadingStatus
from ascendctl.knowledge import advice
from ascendctl.results import Result, Status
from ascendctl.topology.majority import vote


class TlsSwitch(DevicesAcross):
    """The TLS switch is the same on every device of a group.

    What:
        `hccn_tool -tls -g` reads the same on all devices of all hosts of a group. Who differs is judged
        against the majority; a tie accuses both sides. Groups that differ from each other are a warning.
    Why:
        One side of a connection speaks TLS and the other does not understand it. Either value works, as
        long as all have the same.
    Consequence:
        HCCL refuses to start (EI0016); drivers before 25.2 only run into a time-out (EI0006).
    Remedy:
        Set one value on every device of the cluster: `hccn_tool -i N -tls -s enable 0` or `1`, as root.
    """

    id = "tls-switch"
    title = "One TLS switch for all peers"
    commands = ("tls",)
    after = ("tls",)
    what = "the TLS switch"

    def judge(self, cluster: ClusterFacts, results: tuple[Result, ...]) -> Iterable[Result]:
        yield from super().judge(cluster, results)
        yield from self._between_groups(cluster)

    def reading(self, device: DeviceFacts, host: HostFacts) -> Reading[Any]:
        return device.tls

    def source(self, device: DeviceFacts) -> str:
        return "tls"

    def value(self, device: DeviceFacts, host: HostFacts) -> Hashable | None:
        return device.tls.value.tls_switch if device.tls.value else None

    def odd_devices(self, votes: Mapping[Part, Any], hosts: Mapping[str, HostFacts]) -> Mapping[Part, Odd]:
        return {
            part: Odd(
                Status.FAIL,
                "the TLS switches of the group differ, with no majority to judge by"
                if one.tie
                else "the TLS switch differs from that of the group's other hosts",
                f"tls-switch/{_told_by(hosts[part.host])}",
                one.expected("devices"),
                str(one.value),
                device_witness(one.witness, hosts, self.reading),
            )
            for part, one in differences(votes).items()
        }

    def agreed(self, values: Sequence[Any]) -> str:
        return f"the TLS switch is {values[0]}, as on the group's other hosts"

    def _between_groups(self, cluster: ClusterFacts) -> Iterable[Result]:
        """One cell for all groups, where there are several: their majorities against each other."""
        groups: dict[str, dict[Part, int]] = {}
        for host in cluster.hosts:
            for device in host.devices:
                if device.tls.value:
                    votes = groups.setdefault(host.expectation.group, {})
                    votes[Part(host.host, device.phy_id)] = device.tls.value.tls_switch
        usual = {group: vote(votes).value for group, votes in groups.items()}
        known = {group: value for group, value in usual.items() if value is not None}
        if len(known) < 2:
            return
        subject = cluster_subject()
        if len(set(known.values())) == 1:
            yield self.passed(subject, "the groups have the same TLS switch")
            return
        part = next(iter(groups[next(iter(known))]))
        hosts = {host.host: host for host in cluster.hosts}
        witness = device_witness(part, hosts, self.reading)
        told = advice("tls-switch/groups")
        yield Result(
            self.id,
            subject,
            Status.WARN,
            "the groups differ in their TLS switch",
            expected="one value in all groups that talk to each other",
            actual=", ".join(f"{group or 'no group'}: {value}" for group, value in known.items()),
            consequence=told.consequence,
            remedy=told.remedy,
            command=witness.reading.command,
            evidence=f"[on {witness.name}]\n{witness.reading.evidence}",
        )


class MtuEqual(DevicesAcross):
    """The ports of a group have one MTU.

    What:
        Every port of the group where RoCE is expected has the same MTU: by `hccn_tool -mtu -g` where that
        was asked (`--profile deep`), else by `mtu_N` of /etc/hccn.conf, where the file sets it. Who differs
        is judged against the majority; a tie accuses both sides.
    Why:
        Two ends with different MTUs connect, and break with the first large packet.
    Consequence:
        RoCE packets of one side are dropped: completion errors in a running job (EI0013).
    Remedy:
        Set it with `hccn_tool -i N -mtu -s size B`, equally on all ports of all hosts, and not above that
        of the switch ports between them.
    """

    id = "mtu-equal"
    title = "One MTU for all peers"
    commands = ("mtu", "hccn-conf")
    after = ("mtu",)
    what = "the MTU"

    def reading(self, device: DeviceFacts, host: HostFacts) -> Reading[Any]:
        """The live one; where it was not asked, the file, as far as that sets an MTU."""
        if device.mtu.status is not ReadingStatus.NOT_ASKED:
            return device.mtu
        file = host.hccn_conf
        nothing = file.status is ReadingStatus.NO_DATA or (file.ok and _kept(device, host) is None)
        return replace(file, status=ReadingStatus.UNSUPPORTED) if nothing else file

    def source(self, device: DeviceFacts) -> str:
        return "hccn-conf" if device.mtu.status is ReadingStatus.NOT_ASKED else "mtu"

    def not_wanted(self, device: DeviceFacts, host: HostFacts) -> str:
        return roce_not_wanted(device, host)

    def value(self, device: DeviceFacts, host: HostFacts) -> Hashable | None:
        if device.mtu.value:
            return device.mtu.value.mtu_bytes
        return _kept(device, host) if device.mtu.status is ReadingStatus.NOT_ASKED else None

    def odd_devices(self, votes: Mapping[Part, Any], hosts: Mapping[str, HostFacts]) -> Mapping[Part, Odd]:
        return {
            part: Odd(
                Status.FAIL,
                "the MTUs of the group's ports differ, with no majority to judge by"
                if one.tie
                else "the MTU differs from that of the group's other hosts",
                "mtu-equal/differs",
                f"{one.expected('ports')}" if one.tie else f"{one.usual} bytes",
                f"{one.value} bytes{_where(part, hosts)}",
                device_witness(one.witness, hosts, self.reading),
            )
            for part, one in differences(votes).items()
        }

    def agreed(self, values: Sequence[Any]) -> str:
        return f"the MTU is {values[0]} bytes, as on the group's other hosts"


def _kept(device: DeviceFacts, host: HostFacts) -> int | None:
    """The MTU that /etc/hccn.conf sets for the device."""
    entry = host.hccn_conf.value.devices.get(str(device.phy_id)) if host.hccn_conf.value else None
    return entry.mtu_bytes if entry else None


def _where(part: Part, hosts: Mapping[str, HostFacts]) -> str:
    """Says where a value comes from that is not live."""
    device = next(one for one in hosts[part.host].devices if one.phy_id == part.device)
    return "" if device.mtu.value else " in /etc/hccn.conf"


# HCCL compares the switches itself since this driver (HDK) release; before it only times out.
_COMPARED_SINCE = (25, 2)


def _told_by(host: HostFacts) -> str:
    """Which error an unequal switch leads to on this host: EI0016 (``refused``) or EI0006."""
    numbers = re.match(r"(\d+)\.(\d+)", driver_version(host) or "")
    if numbers is None:
        return "either"
    return "refused" if tuple(map(int, numbers.groups())) >= _COMPARED_SINCE else "time-out"
