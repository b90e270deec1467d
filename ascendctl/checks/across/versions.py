"""What the hosts of a group must have alike: driver, firmware and CANN; NPU model and count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from ascendctl.checks.across.peers import (
    AcrossCheck,
    DevicesAcross,
    Difference,
    Failed,
    Odd,
    Witness,
    both_sides,
    differences,
)
from ascendctl.checks.host import driver_version
from ascendctl.checks.rails import Part
from ascendctl.facts import DeviceFacts, HostFacts, Reading, ReadingStatus
from ascendctl.results import CellKey, Result, Status, host_subject


class VersionsEqual(AcrossCheck):
    """Driver, firmware and CANN are of one version in a group.

    What:
        The versions of driver, firmware and CANN toolkit are those of most hosts of the group and
        generation; a tie accuses both sides. CANN that lies in containers only is not seen, and not
        compared.
    Why:
        HCCL compares its own version between ranks. `hccn_tool -hccs_ping` works between equal drivers
        only.
    Consequence:
        HCCL refuses ranks of different CANN versions (EI0008). With different drivers or firmware,
        connections may fail at start (EI0009) or time out (EI0006).
    Remedy:
        Install the HDK package (driver and firmware) and the CANN package of the other hosts, then restart
        the host; run the same container image everywhere.
    """

    id = "versions-equal"
    title = "One version of driver, firmware and CANN"
    commands = ("driver-version", "firmware-version", "cann-version")
    after = ("reachable", "tools", "versions")
    by_generation = True

    def judge_peers(self, hosts: Sequence[HostFacts], failed: Failed) -> Iterable[Result]:
        by_name = {host.host: host for host in hosts}
        votes = {name: _votes(hosts, name) for name in _PARTS}
        odd = {name: differences(of_part) for name, of_part in votes.items()}
        known = votes["driver"]
        for host in hosts:
            subject = host_subject(host.host)
            mine = {name: found[host.host] for name, found in odd.items() if host.host in found}
            if mine:
                yield self._differs(host, mine, by_name)
            elif host.host not in known:
                message = "the versions could not be compared with those of other hosts"
                yield self.depends(subject, message, CellKey("versions", subject))
            elif len(known) == 1:
                yield self.no_peer_read(host.host)
            else:
                yield self._unread(host) or self.passed(subject, _agreed(host, votes))

    def _differs(
        self, host: HostFacts, odd: Mapping[str, Difference[str, str]], hosts: Mapping[str, HostFacts]
    ) -> Result:
        tie = all(one.tie for one in odd.values())
        names = " and ".join(odd)
        first, one = next(iter(odd.items()))
        witness = Witness(one.witness, _reading(hosts[one.witness], first))
        return self.found(
            Status.FAIL,
            host_subject(host.host),
            f"the versions of {names} differ in the group, with no majority to judge by"
            if tie
            else f"the version of {names} differs from that of the group's other hosts",
            advice_for="versions-equal/cann" if first == "CANN" else "versions-equal/driver",
            expected=", ".join(f"{name} {found.expected('hosts')}" for name, found in odd.items()),
            actual=", ".join(f"{name} {found.value}" for name, found in odd.items()),
            reading=both_sides(_reading(host, first), witness),
        )

    def _unread(self, host: HostFacts) -> Result | None:
        """The cell of a version file that is there and could not be read."""
        for name in ("firmware", "CANN"):
            reading = _reading(host, name)
            if not reading.ok and reading.status not in (ReadingStatus.NO_DATA, ReadingStatus.UNSUPPORTED):
                return self.unlearned(host_subject(host.host), f"the version of {name}", reading)
        return None


class NpuModel(DevicesAcross):
    """The hosts of a group have the same NPUs, and as many of them.

    What:
        The chip names of `npu-smi info -m` and the number of devices are those of most hosts of the group;
        a tie accuses both sides. A host whose number the inventory states (`npus:`) is not compared by
        number.
    Why:
        One job has the same number of ranks on every host, and gives each the same share of work and
        memory.
    Consequence:
        A job over several models runs at the pace of the slowest, or runs out of memory on the smallest
        (EI0011). With fewer devices ranks are missing (EI0015), or the rank table does not fit (EI0014).
    Remedy:
        Give servers of different kinds groups of their own in the inventory. State `npus:` for a host that
        is used in part.
    """

    id = "npu-model"
    title = "One NPU model and count in a group"
    commands = ("mapping",)
    after = ("npu-mapping", "npu-count")
    what = "the NPU model"

    def reading(self, device: DeviceFacts, host: HostFacts) -> Reading[Any]:
        return host.mapping

    def source(self, device: DeviceFacts) -> str:
        return "npu-mapping"

    def value(self, device: DeviceFacts, host: HostFacts) -> Hashable | None:
        return device.name.removeprefix("Ascend").strip() or None

    def odd_devices(self, votes: Mapping[Part, Any], hosts: Mapping[str, HostFacts]) -> Mapping[Part, Odd]:
        return {
            part: Odd(
                Status.FAIL,
                "the NPU models of the group differ, with no majority to judge by"
                if one.tie
                else "the NPU model differs from that of the group's other hosts",
                "npu-model/model",
                one.expected("devices"),
                str(one.value),
                Witness(one.witness.host, hosts[one.witness.host].mapping),
            )
            for part, one in differences(votes).items()
        }

    def odd_hosts(self, hosts: Sequence[HostFacts], failed: Failed) -> Mapping[str, Odd]:
        by_name = {host.host: host for host in hosts}
        counts = {
            host.host: len(host.devices)
            for host in hosts
            if host.devices
            and host.expectation.npus is None
            and not failed.first(("npu-count",), host_subject(host.host))
        }
        return {
            name: Odd(
                Status.FAIL,
                "the numbers of devices differ in the group, with no majority to judge by"
                if one.tie
                else "the number of devices differs from that of the group's other hosts",
                "npu-model/count",
                one.expected("hosts"),
                f"{one.value} devices",
                Witness(one.witness, by_name[one.witness].mapping),
            )
            for name, one in differences(counts).items()
        }

    def agreed(self, values: Sequence[Any]) -> str:
        return f"the NPU model is {values[0]}, as on the group's other hosts"


_PARTS = ("driver", "firmware", "CANN")


def _reading(host: HostFacts, name: str) -> Reading[Any]:
    """Where a version was read; the driver's stands in npu-smi's first line, too."""
    system = host.system
    if name == "driver":
        return system.driver_version if system.driver_version.ok else host.npu_smi
    return system.firmware_version if name == "firmware" else system.cann_version


def _version(host: HostFacts, name: str) -> str | None:
    return driver_version(host) if name == "driver" else _reading(host, name).value


def _votes(hosts: Sequence[HostFacts], name: str) -> dict[str, str]:
    versions = ((host.host, _version(host, name)) for host in hosts)
    return {host: version for host, version in versions if version is not None}


def _agreed(host: HostFacts, votes: Mapping[str, Mapping[str, str]]) -> str:
    """The versions of the host of which another host has one, too."""
    counts = Counter({name: len(of_part) for name, of_part in votes.items()})
    shared = [
        f"{name} {votes[name][host.host]}" for name in _PARTS if host.host in votes[name] and counts[name] > 1
    ]
    return f"{', '.join(shared)}, as on the group's other hosts"
