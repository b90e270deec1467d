"""Holding a rank table against the hosts: is what it says of every device what the device says itself? Pure.

HCCL compares ``device_ip`` with the NIC's address and finds SDIDs that are none of the device's when ranks
do not reach each other: EI0014, else EI0006 after its time-out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ascendctl.facts import ClusterFacts, DeviceFacts, Generation, HostFacts, Reading
from ascendctl.hccl.finding import Severity
from ascendctl.hccl.forms import address_of
from ascendctl.hccl.located_json import Node
from ascendctl.hccl.rank_table import TOLD_NO_ADDRESS, Version
from ascendctl.hccl.rank_table_check import (
    CHECK_CODE,
    ClaimedDevice,
    ClaimedServer,
    TableFinding,
    TableJudgement,
)
from ascendctl.topology import sdid
from ascendctl.topology.super_pod import in_super_pod


@dataclass(frozen=True)
class Comparison:
    """What the hosts contradict, and what could not be compared because a host did not tell it."""

    findings: tuple[TableFinding, ...]
    unknown: tuple[str, ...] = ()


def compare_with_cluster(table: TableJudgement, cluster: ClusterFacts) -> Comparison:
    """Hold the table against all hosts of the selection; each of them is wanted in it."""
    return _Comparer(table, cluster).comparison()


class _Comparer:
    def __init__(self, table: TableJudgement, cluster: ClusterFacts) -> None:
        self._table = table
        self._cluster = cluster
        self._findings: list[TableFinding] = []
        self._unknown: list[str] = []
        self._hosts = _host_of_servers(table, cluster)

    def comparison(self) -> Comparison:
        silent = [host.host for host in self._cluster.hosts if not host.devices]
        for server in self._table.servers:
            host = self._hosts.get(server.server_id)
            if host is None:
                self._stranger(server, silent)
            elif not host.devices:
                self._unknown.append(f"{host.host}: it told nothing of its devices")
            else:
                self._server(server, host)
        self._absent_hosts()
        self._merged_pods()
        ordered = sorted(self._findings, key=lambda finding: finding.line)
        return Comparison(tuple(ordered), tuple(self._unknown))

    def _stranger(self, server: ClaimedServer, silent: list[str]) -> None:
        if silent:
            self._unknown.append(f"{server.server_id}: it may be one of the hosts that told nothing")
            return
        expected = "the name or an address of a host of the selection"
        self._error("unknown-server", server.at, expected, f'"{server.server_id}"')

    def _server(self, server: ClaimedServer, host: HostFacts) -> None:
        self._version(server, host)
        self._host_ip(server, host)
        devices = {device.phy_id: device for device in host.devices}
        for claimed in server.devices:
            if claimed.device is None:
                continue
            device = devices.get(claimed.device)
            if device is None:
                expected = f"a physical id of {host.host}: {_listed(sorted(devices))}"
                self._error("device-id", claimed.nodes["device_id"], expected, str(claimed.device))
                continue
            self._device_ip(claimed, device, host)
            self._super_device_id(claimed, device, host)
        missing = sorted(set(devices) - {one.device for one in server.devices})
        if missing:
            seen = f"device {_listed(missing)} of {host.host} has no rank"
            self._warn("missing-ranks", server.at, f"a rank for each of its {len(devices)} devices", seen)

    def _version(self, server: ClaimedServer, host: HostFacts) -> None:
        if self._table.version is Version.V1_2 and host.generation is Generation.A2:
            self._error("version", server.at, f"version 1.0: {host.host} is an A2 server", "1.2")
        if self._table.version is Version.V1_0 and host.generation is Generation.A3 and in_super_pod(host):
            seen = "1.0, with which HCCS between hosts is not used"
            self._warn("version-mode", server.at, f"version 1.2: {host.host} is in a super pod", seen)

    def _host_ip(self, server: ClaimedServer, host: HostFacts) -> None:
        if server.host_ip is None:
            return
        if host.system.addresses.value is None:
            self._not_told(host, "its addresses", host.system.addresses)
            return
        own = {address_of(entry.address) for entry in host.system.addresses.value}
        if address_of(server.host_ip) not in own:
            seen = f'"{server.host_ip}"'
            self._error("host-ip", _field(server.at, "host_ip"), f"an address of {host.host}", seen)

    def _device_ip(self, claimed: ClaimedDevice, device: DeviceFacts, host: HostFacts) -> None:
        if claimed.device_ip is None:
            return
        node = claimed.nodes["device_ip"]
        where = f"device {device.phy_id} of {host.host}"
        address = address_of(claimed.device_ip)
        vnic = device.vnic.value
        if device.ip.value is not None:
            if address_of(device.ip.value.address) == address:
                return
            is_vnic = vnic is not None and address_of(vnic.address) == address
            seen = f'"{claimed.device_ip}"' + (", its vNIC's address" if is_vnic else "")
            self._error("device-ip", node, f"{device.ip.value.address}, the RoCE address of {where}", seen)
        elif vnic is not None and address_of(vnic.address) == address:
            seen = f'"{claimed.device_ip}", its vNIC\'s address'
            self._error("device-ip", node, f"the RoCE address of {where}, or none at all", seen)
        elif device.ip.status in TOLD_NO_ADDRESS:
            seen = f'"{claimed.device_ip}"'
            self._error("device-ip", node, f"no address: {where} has none set", seen)
        else:
            self._not_told(host, f"the RoCE address of device {device.phy_id}", device.ip)

    def _super_device_id(self, claimed: ClaimedDevice, device: DeviceFacts, host: HostFacts) -> None:
        if claimed.super_device_id is None:
            return
        node = claimed.nodes["super_device_id"]
        where = f"device {device.phy_id} of {host.host}"
        seen = f'"{claimed.super_device_id}"'
        if device.spod.value is None:
            if host.generation is not Generation.A2:  # there the version is wrong, and that is said
                self._not_told(host, f"the SDID of device {device.phy_id}", device.spod)
        elif device.spod.value.sdid == sdid.INVALID:
            self._error("super-device-id", node, f"none: {where} is in no super pod", seen)
        elif device.spod.value.sdid != claimed.super_device_id:
            self._error("super-device-id", node, f"{device.spod.value.sdid}, the SDID of {where}", seen)

    def _absent_hosts(self) -> None:
        there = {host.host for host in self._hosts.values()}
        for host in self._cluster.hosts:
            if host.host in there:
                continue
            if not host.devices:
                self._unknown.append(f"{host.host}: it told nothing, and no server has its name")
                continue
            root = self._table.servers[0].at if self._table.servers else None
            line, path = (root.line, "$.server_list") if root else (1, "$")
            expected = f"ranks for {host.host}, or a selection without it"
            seen = "it is in no server_list"
            self._findings.append(
                TableFinding("missing-ranks", Severity.ERROR, line, path, expected, seen, CHECK_CODE)
            )

    def _merged_pods(self) -> None:
        """A pod of the table may be part of a physical one, and never hold parts of two."""
        physical: dict[str, dict[int, ClaimedServer]] = {}
        for server in self._table.servers:
            host = self._hosts.get(server.server_id)
            if server.pod is not None and host is not None:
                for pod in _pods_of(host):
                    physical.setdefault(server.pod, {}).setdefault(pod, server)
        for name, pods in physical.items():
            if len(pods) > 1:
                where = ", ".join(f"{server.server_id} in {pod}" for pod, server in pods.items())
                other = list(pods.values())[1]
                seen = f'"{name}" holds {where}: no HCCS joins them (EI0006)'
                self._error("super-pod", other.at, "hosts of one physical super pod", seen)

    def _not_told(self, host: HostFacts, what: str, reading: Reading[Any]) -> None:
        reason = f": {reading.reason}" if reading.reason else ""
        self._unknown.append(f"{host.host}: {what} could not be read ({reading.status.value}{reason})")

    def _error(self, rule: str, node: Node, expected: str, seen: str) -> None:
        self._findings.append(
            TableFinding(rule, Severity.ERROR, node.line, node.path, expected, seen, CHECK_CODE)
        )

    def _warn(self, rule: str, node: Node, expected: str, seen: str) -> None:
        self._findings.append(TableFinding(rule, Severity.WARNING, node.line, node.path, expected, seen))


def _host_of_servers(table: TableJudgement, cluster: ClusterFacts) -> dict[str, HostFacts]:
    """Host by server id: by its name, else by an address that server or host names, else by its devices'."""
    names: dict[str, HostFacts] = {}
    addresses: dict[object, HostFacts] = {}
    for host in cluster.hosts:
        names.setdefault(host.system.hostname.value or host.host, host)
        for entry in host.system.addresses.value or ():
            address = address_of(entry.address)
            if address is not None and not address.is_loopback:
                addresses.setdefault(address, host)
    for host in cluster.hosts:
        names[host.host] = host
    roce = {
        address_of(device.ip.value.address): host
        for host in cluster.hosts
        for device in host.devices
        if device.ip.value is not None
    }
    found = {one.server_id: names[one.server_id] for one in table.servers if one.server_id in names}
    for server in table.servers:
        if server.server_id in found:
            continue
        ways = [addresses.get(address_of(server.server_id))]
        ways += [addresses.get(address_of(server.host_ip))] if server.host_ip else []
        ways += [roce.get(address_of(one.device_ip)) for one in server.devices if one.device_ip]
        taken = {host.host for host in found.values()}
        free = [way for way in ways if way is not None and way.host not in taken]
        if free:
            found[server.server_id] = free[0]
    return found


def _pods_of(host: HostFacts) -> list[int]:
    """The physical super pods that the host's devices name; several only on a host that is at fault."""
    told = (device.spod.value for device in host.devices)
    return sorted({spod.super_pod_id for spod in told if spod is not None and spod.sdid != sdid.INVALID})


def _field(node: Node, name: str) -> Node:
    return node.value[name] if isinstance(node.value, dict) else node


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
