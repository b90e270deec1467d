"""Super pods as the hosts together show them: ids used once, and who is in which pod."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ascendctl.checks.across.peers import AcrossCheck, Failed, Witness, both_sides
from ascendctl.checks.ascend import device_subject
from ascendctl.checks.rails import Part
from ascendctl.facts import DeviceFacts, Generation, HostFacts, Reading, ReadingStatus
from ascendctl.results import CellKey, Result, Status, host_subject
from ascendctl.topology import sdid
from ascendctl.topology.majority import vote
from ascendctl.topology.roce import Wanted, roce_use


class SuperPods(AcrossCheck):
    """Server indexes and SDIDs are used once in a super pod, and a group's hosts can meet across pods.

    What:
        No two hosts of one super pod have the same Server Index, and no two dies the same SDID. The hosts
        of a group lie in one super pod, or all use RoCE, which joins pods; who is elsewhere without RoCE is
        judged against the majority, a tie accuses both sides. With RoCE, a host that is alone in its pod is
        a warning if its Server Index is free in the group's largest pod, as if it belonged there. That the
        ids of one host agree with themselves is judged by `spod-info`.
    Why:
        HCCL takes Super Pod ID and SDID for the identity of a die, and uses HCCS inside one pod only. It
        wants the same number of A3 servers in every pod of a job.
    Consequence:
        Ids that come twice are refused (EI0014). Between pods without RoCE connections time out (EI0006),
        also where HCCL_LOGIC_SUPERPOD_ID takes two physical pods for one: it may only split a pod.
    Remedy:
        Set Super Pod ID and Server Index in the server's management controller (Redfish) and restart the
        host. For a job over several pods give the ports RoCE addresses, and do not set
        HCCL_LOGIC_SUPERPOD_ID.
    """

    id = "super-pods"
    title = "Super pods across hosts"
    commands = ("spod-info",)
    after = ("spod-info",)
    whole_cluster = True

    def judge_peers(self, hosts: Sequence[HostFacts], failed: Failed) -> Iterable[Result]:
        by_name = {host.host: host for host in hosts}
        identities = {host.host: _identity(host, failed) for host in hosts}
        known = {name: one for name, one in identities.items() if one is not None}
        twins: dict[_Identity, list[str]] = defaultdict(list)
        for name, one in known.items():
            twins[one].append(name)
        apart = self._apart(hosts, known)
        foreign = _foreign_sdids(hosts, failed)
        for name, host in by_name.items():
            own = identities[name]
            if own is None:
                yield self._without(host)
                continue
            others = [other for other in twins[own] if other != name]
            if others:
                yield self._same_index(host, own, [by_name[other] for other in others])
            elif name in apart:
                yield apart[name]
            elif len(known) == 1:
                yield self.no_peer_read(name)
            else:
                message = f"super pod {own.super_pod}, Server Index {own.server_index} is its own"
                yield self.passed(host_subject(name), message)
            yield from self._dies(host, foreign)

    def _without(self, host: HostFacts) -> Result:
        """The cell of a host whose place in a super pod is not known, or that has none."""
        subject = host_subject(host.host)
        message = "the super pod identity could not be compared with that of other hosts"
        if not host.devices:
            return self.depends(subject, message, CellKey("npu-mapping", subject))
        if host.generation is Generation.A2:
            return self.not_applicable(subject, "A2 servers belong to no super pod")
        wanted = [d for d in host.devices if d.spod.status is not ReadingStatus.UNSUPPORTED]
        if all(d.spod.value and d.spod.value.sdid == sdid.INVALID for d in wanted):
            return self.not_applicable(subject, "the host is in no super pod")
        first = next(d for d in wanted if not (d.spod.value and d.spod.value.sdid == sdid.INVALID))
        return self.depends(subject, message, CellKey("spod-info", device_subject(host.host, first)))

    def _same_index(self, host: HostFacts, one: _Identity, others: Sequence[HostFacts]) -> Result:
        names = ", ".join(other.host for other in others)
        return self._found(
            Status.FAIL,
            host,
            others[0],
            "another host of the super pod has the same Server Index",
            "super-pods/server-index",
            f"a Server Index of its own in super pod {one.super_pod}",
            f"Server Index {one.server_index}, also on {names}",
        )

    def _dies(self, host: HostFacts, foreign: Mapping[Part, CellKey]) -> Iterable[Result]:
        """Cells of the dies that could not be compared, or whose SDID a wrongly set die has taken."""
        for device in host.devices:
            subject = device_subject(host.host, device)
            taken_by = foreign.get(Part(host.host, device.phy_id))
            if taken_by is not None:
                yield self.depends(subject, "a die of another host claims the SDID of this one", taken_by)
            elif not device.spod.ok and device.spod.status is not ReadingStatus.UNSUPPORTED:
                message = "the SDID could not be compared with those of other hosts"
                yield self.depends(subject, message, CellKey("spod-info", subject))

    def _apart(self, hosts: Sequence[HostFacts], known: Mapping[str, _Identity]) -> dict[str, Result]:
        """Hosts that lie in another super pod than their group, as far as that matters."""
        groups: dict[str, list[HostFacts]] = defaultdict(list)
        for host in hosts:
            if host.host in known:
                groups[host.expectation.group].append(host)
        found: dict[str, Result] = {}
        for group in groups.values():
            places = {host.host: known[host.host] for host in group}
            if len({one.super_pod for one in places.values()}) > 1:
                joined = all(map(_uses_roce, group))
                found.update(self._astray(group, places) if joined else self._cut_off(group, places))
        return found

    def _astray(self, group: Sequence[HostFacts], places: Mapping[str, _Identity]) -> dict[str, Result]:
        """Hosts alone in a pod that seem to belong into the group's largest, where RoCE joins the pods.

        A Super Pod ID that is set wrong leaves the host's Server Index free in the pod where it belongs.
        """
        by_name = {host.host: host for host in group}
        members = _members(places)
        largest, others = max(members.items(), key=lambda item: len(item[1]))
        used = {places[name].server_index for name in others}
        alone = [names[0] for names in members.values() if len(names) == 1 < len(others)]
        return {
            name: self._found(
                Status.WARN,
                by_name[name],
                by_name[others[0]],
                "the host is the only one of its group in its super pod, and its Server Index is free in the "
                "group's largest pod",
                "super-pods/astray",
                f"super pod {largest}, or other hosts of the group in its own",
                f"super pod {places[name].super_pod}; {_sizes(members)}",
            )
            for name in alone
            if places[name].server_index not in used
        }

    def _cut_off(self, group: Sequence[HostFacts], places: Mapping[str, _Identity]) -> dict[str, Result]:
        """Hosts of another pod than most of the group, where nothing joins the pods."""
        by_name = {host.host: host for host in group}
        pods = {name: one.super_pod for name, one in places.items()}
        sizes = _sizes(_members(places))
        result = vote(pods)
        return {
            name: self._found(
                Status.FAIL,
                by_name[name],
                by_name[next(other for other in pods if pods[other] != pods[name])],
                "the hosts of the group lie in several super pods, of which none has most, without RoCE"
                if result.tie
                else "the host lies in another super pod than its group, without RoCE between them",
                "super-pods/apart",
                f"super pod {result.value}, or RoCE on all hosts of the group"
                if result.value is not None
                else "one super pod, or RoCE on all hosts of the group",
                f"super pod {pods[name]}; {sizes}",
            )
            for name in result.accused
        }

    def _found(
        self,
        status: Status,
        host: HostFacts,
        other: HostFacts,
        message: str,
        advice_for: str,
        expected: str,
        actual: str,
    ) -> Result:
        return self.found(
            status,
            host_subject(host.host),
            message,
            advice_for=advice_for,
            expected=expected,
            actual=actual,
            reading=both_sides(_shown(host), Witness(other.host, _shown(other))),
        )


def _members(places: Mapping[str, _Identity]) -> dict[int, list[str]]:
    """The hosts of each super pod."""
    members: dict[int, list[str]] = defaultdict(list)
    for name, one in places.items():
        members[one.super_pod].append(name)
    return members


def _sizes(members: Mapping[int, Sequence[str]]) -> str:
    return ", ".join(
        f"{len(names)} host{'s' if len(names) > 1 else ''} in super pod {pod}"
        for pod, names in members.items()
    )


class _Identity(NamedTuple):
    """A host's place: which super pod, and which server of it."""

    super_pod: int
    server_index: int


def _identity(host: HostFacts, failed: Failed) -> _Identity | None:
    """What most dies of the host say that agree with themselves; None where that is not known."""
    good = {
        device.phy_id: _Identity(device.spod.value.super_pod_id, device.spod.value.server_index)
        for device in host.devices
        if device.spod.value
        and device.spod.value.sdid != sdid.INVALID
        and failed.first(("spod-info",), device_subject(host.host, device)) is None
    }
    return vote(good).value


def _foreign_sdids(hosts: Sequence[HostFacts], failed: Failed) -> dict[Part, CellKey]:
    """Dies whose SDID a die of another host has as well, which is at fault by its own host's words.

    Two dies that are both good in themselves have one Server Index, which is a finding of their hosts.
    """
    good: dict[tuple[int, int], Part] = {}
    wrong: dict[tuple[int, int], CellKey] = {}
    for host in hosts:
        for device in host.devices:
            spod = device.spod.value
            if spod is None or spod.sdid == sdid.INVALID:
                continue
            key = (spod.super_pod_id, spod.sdid)
            cause = failed.first(("spod-info",), device_subject(host.host, device))
            if cause is None:
                good.setdefault(key, Part(host.host, device.phy_id))
            else:
                wrong.setdefault(key, cause)
    return {
        part: wrong[key]
        for key, part in good.items()
        if key in wrong and wrong[key].subject.host != part.host
    }


def _uses_roce(host: HostFacts) -> bool:
    return any(roce_use(device, host).wanted is Wanted.YES for device in host.devices)


def _shown(host: HostFacts) -> Reading[Any]:
    """A die's answer that shows the host's identity."""

    def valid(device: DeviceFacts) -> bool:
        return device.spod.value is not None and device.spod.value.sdid != sdid.INVALID

    return next(device.spod for device in host.devices if valid(device))
