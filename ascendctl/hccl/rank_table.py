"""HCCL's rank table, made from what the hosts say: who is which rank, and how it is reached. Pure.

Version 1.0 is for A2, and for A3 servers outside super pods ("AI Server" mode); 1.2 is for super pods and
names each die's SDID. Source of all rules: HCCL's rank table documentation for A2 and A3.

Ranks are given in one order: super pods as their first host stands in the inventory, the hosts of one pod
together in inventory order, the devices of a host by physical id. So ranks are contiguous per host and per
pod, and rank 0 is the first device of the first host.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ascendctl.facts import (
    Accelerator,
    ClusterFacts,
    DeviceFacts,
    Generation,
    HostFacts,
    ReachStatus,
    Reading,
    ReadingStatus,
)
from ascendctl.hccl.nic import NicChoice, choose_nics
from ascendctl.topology import sdid
from ascendctl.topology.addresses import unicast
from ascendctl.topology.server import same_npu
from ascendctl.topology.super_pod import in_super_pod

LONGEST_SERVER_ID = 64

# The port a device listens on unless told otherwise; its sibling's backup connections need another.
DEVICE_PORT = 16666
BACKUP_DEVICE_PORT = 16667


class Version(str, Enum):
    V1_0 = "1.0"
    V1_2 = "1.2"


class DeviceIp(str, Enum):
    """Where ``device_ip`` comes from. HCCL compares it with the NIC's address, which the vNIC's is not."""

    ROCE = "roce"
    VNIC = "vnic"
    NONE = "none"


# With these the tool has answered: the device has no address.
TOLD_NO_ADDRESS = (ReadingStatus.NO_DATA, ReadingStatus.UNSUPPORTED)

VNIC_WARNING = (
    "device_ip is the vNIC's address, as some generators write it; HCCL's documentation wants the RoCE one "
    "and compares it with the NIC, which ends in EI0014 where it differs"
)


@dataclass(frozen=True)
class Wish:
    """What was asked for. ``version`` None = as the hosts are. ``inter_hccs_disable``: they will run with
    HCCL_INTER_HCCS_DISABLE=TRUE. ``op_retry``: with what retrying over the sibling die's port needs."""

    version: Version | None = None
    device_ip: DeviceIp = DeviceIp.ROCE
    inter_hccs_disable: bool = False
    op_retry: bool = False


@dataclass(frozen=True)
class Rank:
    """One device of the table; None = the field is left out."""

    rank: int
    device: int
    device_ip: str | None = None
    super_device_id: int | None = None
    backup_device_ip: str | None = None


@dataclass(frozen=True)
class Server:
    server_id: str
    ranks: tuple[Rank, ...]
    host_ip: str | None = None
    super_pod: int | None = None


@dataclass(frozen=True)
class RankTable:
    """Servers in the order of their ranks."""

    version: Version
    servers: tuple[Server, ...]

    @property
    def ranks(self) -> int:
        return sum(len(server.ranks) for server in self.servers)

    @property
    def super_pods(self) -> Mapping[int, tuple[str, ...]]:
        """Server ids by super pod id."""
        pods: dict[int, list[str]] = {}
        for server in self.servers:
            if server.super_pod is not None:
                pods.setdefault(server.super_pod, []).append(server.server_id)
        return {pod: tuple(names) for pod, names in pods.items()}


class Why(str, Enum):
    """Why there is no table."""

    WRONG = "wrong"  # what the hosts say forbids it
    NOT_LEARNED = "not learned"  # what is needed could not be read
    ASKED = "asked"  # what was asked for does not go with these hosts


@dataclass(frozen=True)
class Refusal:
    """One reason, on one host ("" = between hosts)."""

    host: str
    text: str
    why: Why = Why.WRONG


@dataclass(frozen=True)
class Plan:
    """``table`` None exactly where there are ``refusals``: half a table would start and fail later."""

    table: RankTable | None
    refusals: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()


def plan_rank_table(
    cluster: ClusterFacts, wish: Wish | None = None, *, ssh_addresses: Mapping[str, str] | None = None
) -> Plan:
    """The table over all devices of all hosts, or everything that keeps it from being made."""
    wish = wish or Wish()
    refusals = [refusal for host in cluster.hosts if (refusal := _no_ranks(host))]
    if not cluster.hosts:
        refusals.append(Refusal("", "there is no host to give ranks to", Why.ASKED))
    if refusals:
        return Plan(None, tuple(refusals))
    version = _version(cluster, wish, refusals)
    if version is None:
        return Plan(None, tuple(refusals))
    draft = _Draft(cluster, version, wish, choose_nics(cluster, ssh_addresses))
    servers = draft.servers()
    if draft.refusals:
        return Plan(None, tuple(draft.refusals))
    return Plan(RankTable(version, servers), (), tuple(draft.warnings))


def as_json(table: RankTable) -> str:
    """The file's text: strings only, one device a line, no field that has no value."""
    document: dict[str, Any] = {
        "status": "completed",
        "version": table.version.value,
        "server_count": str(len(table.servers)),
    }
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}," for name, value in document.items()]
    lines.append('  "server_list": [')
    for server in table.servers:
        head = {"server_id": server.server_id} | ({"host_ip": server.host_ip} if server.host_ip else {})
        opening = ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items())
        devices = ",\n".join(f"      {json.dumps(_device(rank))}" for rank in server.ranks)
        comma = "" if server is table.servers[-1] else ","
        lines.append(f'    {{{opening}, "device": [\n{devices}\n    ]}}{comma}')
    lines.append("  ]" + ("," if table.super_pods else ""))
    if table.super_pods:
        pods = [
            {"super_pod_id": str(pod), "server_list": [{"server_id": name} for name in names]}
            for pod, names in table.super_pods.items()
        ]
        inner = ",\n".join(f"    {json.dumps(pod)}" for pod in pods)
        lines.append(f'  "super_pod_list": [\n{inner}\n  ]')
    return "{\n" + "\n".join(lines) + "\n}\n"


def _device(rank: Rank) -> dict[str, str]:
    fields = {
        "device_id": str(rank.device),
        "super_device_id": None if rank.super_device_id is None else str(rank.super_device_id),
        "device_ip": rank.device_ip,
        "device_port": str(DEVICE_PORT) if rank.backup_device_ip else None,
        "backup_device_ip": rank.backup_device_ip,
        "backup_device_port": str(BACKUP_DEVICE_PORT) if rank.backup_device_ip else None,
        "rank_id": str(rank.rank),
    }
    return {name: value for name, value in fields.items() if value is not None}


# --- which version ----------------------------------------------------------------------------------


def _no_ranks(host: HostFacts) -> Refusal | None:
    """Why a host can have no ranks at all."""
    if host.accelerator in (Accelerator.NVIDIA, Accelerator.CPU):
        text = f"it is no Ascend host ({host.accelerator.value}); leave it out with --exclude"
        return Refusal(host.host, text, Why.ASKED)
    if not host.devices:
        if host.reach.status is not ReachStatus.REACHED:
            detail = f": {host.reach.detail}" if host.reach.detail else ""
            text = f"it could not be asked ({host.reach.status.value}{detail})"
        else:
            text = f"its devices are not known ({_how(host.mapping)})"
        return Refusal(host.host, f"{text}; repair it, or leave it out with --exclude", Why.NOT_LEARNED)
    if len(host.host) > LONGEST_SERVER_ID:
        text = f"its name is over {LONGEST_SERVER_ID} characters, too long for server_id; shorten it"
        return Refusal(host.host, text, Why.ASKED)
    return None


def _is_member(host: HostFacts) -> bool | None:
    """Whether the host is in a super pod; no A2 server is."""
    return False if host.generation is Generation.A2 else in_super_pod(host)


def _version(cluster: ClusterFacts, wish: Wish, refusals: list[Refusal]) -> Version | None:
    """The version that fits every host; None with the reasons in ``refusals``."""
    members = {host.host: _is_member(host) for host in cluster.hosts}
    refusals += _generation_problems(cluster, members)
    outside = [host for host, member in members.items() if member is False]
    for host, member in members.items():
        if member is None and wish.version is not Version.V1_0:
            text = "whether it is in a super pod is not known (npu-smi info -t spod-info told nothing)"
            refusals.append(Refusal(host, text, Why.NOT_LEARNED))
    if wish.version is Version.V1_2:
        text = "it is in no super pod, and version 1.2 names SDIDs; take --version 1.0"
        refusals += [Refusal(host, text, Why.ASKED) for host in outside]
    if wish.version is None and outside and any(members.values()):
        text = (
            "it is in no super pod, and others are: no table joins them over HCCS; --version 1.0 joins all "
            "over RoCE, --exclude leaves it out"
        )
        refusals += [Refusal(host, text) for host in outside]
    if refusals:
        return None
    return wish.version or (Version.V1_0 if outside else Version.V1_2)


def _generation_problems(cluster: ClusterFacts, members: Mapping[str, bool | None]) -> list[Refusal]:
    unknown = [host.host for host in cluster.hosts if host.generation is None and not members[host.host]]
    if unknown:
        text = "its generation could not be told; set generation: in the inventory"
        return [Refusal(host, text, Why.NOT_LEARNED) for host in unknown]
    if len({host.generation or Generation.A3 for host in cluster.hosts}) > 1:
        text = "A2 and A3 hosts cannot be ranks of one table; select one kind with --hosts or --tags"
        return [Refusal("", text, Why.ASKED)]
    return []


# --- the servers ------------------------------------------------------------------------------------


class _Draft:
    """The table in the making; collects every reason against it, not only the first."""

    def __init__(
        self, cluster: ClusterFacts, version: Version, wish: Wish, choices: Sequence[NicChoice]
    ) -> None:
        self.refusals: list[Refusal] = []
        self.warnings: list[str] = []
        self._hosts = cluster.hosts
        self._version = version
        self._wish = wish
        self._choices = {choice.host: choice for choice in choices}
        self._is_a3 = any(host.generation is not Generation.A2 for host in cluster.hosts)

    def servers(self) -> tuple[Server, ...]:
        """The servers in rank order, where nothing is refused."""
        for host in self._hosts:
            self._check_devices(host)
        pods = {host.host: self._pod(host) for host in self._hosts}
        self._check_sdids(pods)
        with_addresses = self._device_ips(pods)
        with_host_ip = self._host_ips()
        if self.refusals:
            return ()
        self._warn_of_versions()
        self._warn_of_unequal(pods)
        servers, rank = [], 0
        for host in self._in_order(pods):
            ranks = []
            for device in sorted(host.devices, key=lambda one: one.phy_id):
                ranks.append(
                    Rank(
                        rank,
                        device.phy_id,
                        self._source(device)[0] if with_addresses else None,
                        self._sdid(device),
                        self._backup(host, device),
                    )
                )
                rank += 1
            host_ip = self._choices[host.host].address if with_host_ip else None
            servers.append(Server(host.host, tuple(ranks), host_ip, pods[host.host]))
        return tuple(servers)

    def _in_order(self, pods: Mapping[str, int | None]) -> list[HostFacts]:
        """Pods as their first host stands, the hosts of each together."""
        first = {pod: place for place, pod in reversed(list(enumerate(pods.values())))}
        return sorted(self._hosts, key=lambda host: first[pods[host.host]])

    def _check_devices(self, host: HostFacts) -> None:
        twice = [phy for phy, count in Counter(one.phy_id for one in host.devices).items() if count > 1]
        if twice:
            self._refuse(host, f"physical id {_listed(twice)} is given to several of its devices")
        wanted = host.expectation.npus
        if wanted is not None and len(host.devices) < wanted:
            text = (
                f"{len(host.devices)} of {wanted} devices answered; repair it, or leave it out with --exclude"
            )
            self._refuse(host, text)

    # --- super pods ---

    def _pod(self, host: HostFacts) -> int | None:
        """The super pod the host's devices agree on; None in version 1.0."""
        if self._version is Version.V1_0:
            return None
        unread = [one.phy_id for one in host.devices if not one.spod.ok]
        if unread:
            how = _how(next(one.spod for one in host.devices if not one.spod.ok))
            self._refuse(host, f"the SDID of device {_listed(unread)} is not known ({how})", Why.NOT_LEARNED)
            return None
        told = {one.phy_id: one.spod.value for one in host.devices if one.spod.value is not None}
        invalid = [phy for phy, spod in told.items() if spod.sdid == sdid.INVALID]
        if invalid:
            text = (
                f"device {_listed(invalid)} has no valid SDID, so that the others cannot reach it over HCCS"
            )
            self._refuse(host, text)
            return None
        ids = sorted({spod.super_pod_id for spod in told.values()})
        if len(ids) > 1:
            self._refuse(host, f"its devices name several super pods ({_listed(ids)})")
            return None
        return ids[0]

    def _check_sdids(self, pods: Mapping[str, int | None]) -> None:
        """SDIDs are unique inside one super pod, and need not be beyond it."""
        places: dict[tuple[int, int], list[str]] = {}
        for host in self._hosts:
            pod = pods[host.host]
            for device in host.devices:
                found = self._sdid(device)
                if pod is not None and found is not None:
                    places.setdefault((pod, found), []).append(f"{host.host} device {device.phy_id}")
        for (pod, found), where in places.items():
            if len(where) > 1:
                text = f"SDID {found} is there more than once in super pod {pod}: {', '.join(where)} (EI0014)"
                self.refusals.append(Refusal("", text))

    def _sdid(self, device: DeviceFacts) -> int | None:
        if self._version is Version.V1_0 or device.spod.value is None:
            return None
        return device.spod.value.sdid

    # --- addresses of the devices ---

    def _source(self, device: DeviceFacts) -> tuple[str | None, Reading[Any]]:
        """The address to write for a device, and where it comes from."""
        if self._wish.device_ip is DeviceIp.VNIC:
            return device.vnic.value.address if device.vnic.value else None, device.vnic
        address = device.ip.value.address if device.ip.value else None
        return address if address and unicast(address) else None, device.ip

    def _device_ips(self, pods: Mapping[str, int | None]) -> bool:
        """Whether device_ip is written: everywhere or nowhere."""
        needed = self._why_needed(pods)
        if self._wish.device_ip is DeviceIp.NONE:
            if needed:
                text = f"--device-ip none: {needed} need device_ip; take --device-ip roce"
                self.refusals.append(Refusal("", text, Why.ASKED))
            return False
        lacking = {
            host.host: missing
            for host in self._hosts
            if (missing := [one for one in host.devices if self._source(one)[0] is None])
        }
        if needed:
            for host in self._hosts:
                if host.host in lacking:
                    self._refuse_addresses(host, lacking[host.host], needed)
        elif lacking:
            if any(len(lacking.get(host.host, ())) < len(host.devices) for host in self._hosts):
                where = "; ".join(
                    f"{host} device {_listed(one.phy_id for one in missing)}"
                    for host, missing in list(lacking.items())[:3]
                )
                more = f" and {len(lacking) - 3} more hosts" if len(lacking) > 3 else ""
                text = (
                    f"device_ip is left out everywhere, as it may be here: it is not known of {where}{more}"
                )
                self.warnings.append(text)
            return False
        self._check_unique()
        if self._wish.device_ip is DeviceIp.VNIC:
            self.warnings.append(VNIC_WARNING)
        return True

    def _why_needed(self, pods: Mapping[str, int | None]) -> str:
        """What makes device_ip mandatory; "" where it may be left out."""
        if self._version is Version.V1_0:
            return "several servers" if len(self._hosts) > 1 else ""
        if len(set(pods.values()) - {None}) > 1:
            return "several super pods, which only RoCE joins,"
        if self._wish.inter_hccs_disable:
            return "hosts with HCCL_INTER_HCCS_DISABLE=TRUE"
        return "operators retried over the sibling die" if self._wish.op_retry else ""

    def _refuse_addresses(self, host: HostFacts, missing: Sequence[DeviceFacts], needed: str) -> None:
        """One refusal for the devices that have none, one for those of which it is not known."""
        name = "vNIC" if self._wish.device_ip is DeviceIp.VNIC else "RoCE"
        # A reading that is ok and yet no address to write holds one that no other port reaches.
        unset = [
            one
            for one in missing
            if (reading := self._source(one)[1]).ok or reading.status in TOLD_NO_ADDRESS
        ]
        unread = [one for one in missing if one not in unset]
        if unset:
            listed = _listed(one.phy_id for one in unset)
            text = f"device {listed} has no valid {name} address, and {needed} need device_ip; set one with"
            self._refuse(host, f"{text} hccn_tool -i {unset[0].phy_id} -ip -s address A netmask M")
        if unread:
            listed, how = _listed(one.phy_id for one in unread), _how(self._source(unread[0])[1])
            text = f"the {name} address of device {listed} is not known ({how}), and {needed} need device_ip"
            self._refuse(host, text, Why.NOT_LEARNED)

    def _check_unique(self) -> None:
        places: dict[str, list[str]] = {}
        for host in self._hosts:
            for device in host.devices:
                address = self._source(device)[0]
                if address is not None:
                    places.setdefault(address, []).append(f"{host.host} device {device.phy_id}")
        for address, where in places.items():
            if len(where) > 1:
                text = f"address {address} is there more than once: {', '.join(where)}; give each its own"
                self.refusals.append(Refusal("", text))

    def _backup(self, host: HostFacts, device: DeviceFacts) -> str | None:
        """The address of the other die of the same NPU."""
        if not self._wish.op_retry:
            return None
        return next(
            (
                self._source(other)[0]
                for other in host.devices
                if other is not device and same_npu(device, other)
            ),
            None,
        )

    # --- addresses of the hosts ---

    def _host_ips(self) -> bool:
        """Whether host_ip is written: everywhere or nowhere, and never for A2, whose table has none."""
        wish = self._wish
        if wish.op_retry:
            self._check_op_retry()
        if not self._is_a3:
            return False
        lacking = [choice for choice in self._choices.values() if not choice.chosen]
        for choice in self._choices.values():
            if choice.warning:
                self.warnings.append(f"{choice.host}: {choice.warning}")
        if wish.op_retry:
            for choice in lacking:
                why = Why.WRONG if choice.learned else Why.NOT_LEARNED
                text = f"retrying operators needs host_ip: {choice.problem}"
                self.refusals.append(Refusal(choice.host, text, why))
        elif lacking:
            more = f" (and of {len(lacking) - 1} more)" if len(lacking) > 1 else ""
            text = f"host_ip, which only retrying operators needs, is left out: {lacking[0].host}{more}: "
            self.warnings.append(text + lacking[0].problem)
        return not lacking

    def _check_op_retry(self) -> None:
        if self._version is Version.V1_0:
            text = "--op-retry is for super pods (version 1.2): the sibling die's port stands in there"
            self.refusals.append(Refusal("", text, Why.ASKED))
            return
        for host in self._hosts:
            alone = [
                one.phy_id
                for one in host.devices
                if not any(other is not one and same_npu(one, other) for other in host.devices)
            ]
            if alone:
                self._refuse(host, f"--op-retry: the other die of device {_listed(alone)} is not visible")

    # --- what is no reason to refuse ---

    def _warn_of_versions(self) -> None:
        if self._version is Version.V1_0 and any(_is_member(host) for host in self._hosts):
            text = "version 1.0 makes every host an AI server of its own: HCCS between hosts is not used"
            self.warnings.append(text)

    def _warn_of_unequal(self, pods: Mapping[str, int | None]) -> None:
        devices = Counter(len(host.devices) for host in self._hosts)
        if len(devices) > 1:
            spread = ", ".join(f"{hosts} with {count}" for count, hosts in sorted(devices.items()))
            self.warnings.append(f"hosts differ in their number of devices ({spread}); HCCL wants it equal")
        sizes = Counter(pods.values())
        if len(set(sizes.values())) > 1:
            spread = ", ".join(f"{pod}: {hosts}" for pod, hosts in sizes.items())
            self.warnings.append(
                f"super pods differ in their number of hosts ({spread}); HCCL wants it equal"
            )

    def _refuse(self, host: HostFacts, text: str, why: Why = Why.WRONG) -> None:
        self.refusals.append(Refusal(host.host, text, why))


def _how(reading: Reading[Any]) -> str:
    """How a reading ended, and which command it was."""
    text = reading.status.value + (f": {reading.reason}" if reading.reason else "")
    return f"{text}; {reading.command}" if reading.command else text


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
