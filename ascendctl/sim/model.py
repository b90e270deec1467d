"""The state of a simulated cluster: hosts, dies, ports and the network between them.

Everything is a frozen value; `build` gives a healthy cluster, `ascendctl.sim.faults` breaks it. The
rules that hold in it (addresses, super pod ids, vNIC) are this module's own reading of the vendor's
documents, on purpose shared with nothing else in the project.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

INVALID_ID = 0xFFFFFFFF
SERVERS_PER_SUPER_POD = 48
SUPER_POD_SIZE = 384


@dataclass(frozen=True)
class Neighbour:
    """What a port hears over LLDP."""

    chassis_mac: str
    port: str
    system_name: str
    description: str
    management_address: str


@dataclass(frozen=True)
class LinkChange:
    time: str
    up: bool


@dataclass(frozen=True)
class Port:
    """One RoCE port. None = not set, not heard, not readable.

    ``net_health`` is the word it would show with its link up; `shown_net_health` follows the link.
    """

    link_up: bool = True
    net_health: str = "Success"
    address: str | None = None
    netmask: str | None = None
    gateway: str | None = None
    netdetect: str | None = None
    neighbour: Neighbour | None = None
    tls_switch: int | None = 0
    tls_preset: int = 1
    mac: str = "02:00:00:00:00:00"
    mtu: int = 4200
    speed_mbps: int = 200_000
    fec: str = "auto FEC mode"
    pfc_enabled: tuple[int, ...] = (0, 0, 0, 0, 1, 0, 0, 0)
    link_time: str = "Mon Jan  5 08:00:00 2026"
    up_count: int = 1
    down_count: int = 0
    link_changes: tuple[LinkChange, ...] = ()
    arp: tuple[tuple[str, str], ...] = ()  # (address, mac)

    @property
    def shown_net_health(self) -> str:
        return self.net_health if self.link_up else "Fault"

    @property
    def shown_neighbour(self) -> Neighbour | None:
        return self.neighbour if self.link_up else None


@dataclass(frozen=True)
class Vnic:
    address: str
    netmask: str
    link_up: bool = True


@dataclass(frozen=True)
class Hccs:
    """One entry per HCCS link; ``packets`` None leaves the counters out, as older tools do."""

    lane_modes: tuple[int, ...] = (4,) * 7
    lanes: tuple[str, ...] = ("1111",) * 7
    speeds: tuple[int, ...] = (224,) * 7
    sent_packets: tuple[int, ...] | None = None
    received_packets: tuple[int, ...] | None = None

    @property
    def healthy(self) -> bool:
        return all("1" in lanes for lanes in self.lanes)


@dataclass(frozen=True)
class SuperPodIds:
    sdid: int
    size: int
    pod: int
    server: int


NOT_IN_A_SUPER_POD = SuperPodIds(INVALID_ID, INVALID_ID, INVALID_ID, INVALID_ID)


@dataclass(frozen=True)
class Process:
    """A process on a die. ``container_pid`` None is shown as NA."""

    pid: int
    name: str
    memory_mib: int
    container_pid: int | None = None


@dataclass(frozen=True)
class HealthError:
    code: str
    text: str


@dataclass(frozen=True)
class Die:
    """One device: one die, one rank, one physical id. ``super_pod`` None = the product has none.

    ``refusals`` maps an hccn_tool option (``-link``) to a text of `ascendctl.sim.hccn_tool.REFUSALS`
    that it answers with instead.
    """

    npu_id: int
    chip_id: int
    phy_id: int
    logic_id: int
    name: str
    bus_id: str = "0000:00:00.0"
    health: str = "OK"
    health_errors: tuple[HealthError, ...] = ()
    power_w: float | None = 90.0
    temperature_c: int = 40
    aicore_percent: int = 0
    aicore_count: int = 20
    aicore_mhz: int = 1800
    hbm_used_mib: int = 3400
    hbm_total_mib: int = 65536
    hbm_mhz: int = 1600
    hbm_manufacturer: str = "0x56"
    processes: tuple[Process, ...] = ()
    port: Port = field(default_factory=Port)
    vnic: Vnic = field(default_factory=lambda: Vnic("192.168.2.199", "255.255.255.0"))
    hccs: Hccs = field(default_factory=Hccs)
    super_pod: SuperPodIds | None = None
    refusals: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Misbehaviour:
    """How a tool call goes wrong without any state of the hardware behind it.

    ``form``: ignores-term, grandchild, unkillable, garbage, truncated, busy. It strikes calls of
    ``tool`` whose words (ids and ``-g`` left out) are ``words``; ``words`` None = every call;
    ``phy_id`` None = whatever the device. ``times`` None = always.
    """

    form: str
    tool: str
    words: tuple[str, ...] | None
    phy_id: int | None = None
    times: int | None = None


@dataclass(frozen=True)
class Host:
    """One server. ``hccn_conf`` None = the file does not exist.

    ``ssh``: ok, refused, auth or hang. ``npu_smi_refusal``: a text of `npu_smi.REFUSALS` that every
    call answers with; ``hccn_tool_refusal`` likewise of `hccn_tool.REFUSALS`.
    """

    name: str
    generation: str
    dies: tuple[Die, ...]
    npu_smi_version: str = "25.5.0"
    driver_version: str = "25.5.0"
    firmware_version: str = "7.8.0.6.201"
    cann_version: str = "8.5.0"
    mcu_version: str = "24.2.12"
    mcu_temperature_c: int = 38
    kernel: str = "5.10.0-216.0.0.115.oe2203sp4.aarch64"
    architecture: str = "aarch64"
    nic: str = "enp67s0f0"
    nic_address: str = "10.10.0.1"
    nic_prefix_length: int = 16
    clock_offset_s: float = 0.0
    netdetect_label: str = "address"  # "addr" in newer tools
    hccn_conf: str | None = None
    phy_ids: tuple[int, ...] = ()  # the product's, also those of NPUs that are missing
    missing_tools: frozenset[str] = frozenset()
    hccn_tool_refusal: str | None = None
    npu_smi_refusal: str | None = None
    misbehaviours: tuple[Misbehaviour, ...] = ()
    ssh: str = "ok"

    def die(self, phy_id: int) -> Die | None:
        return next((die for die in self.dies if die.phy_id == phy_id), None)

    @property
    def npu_ids(self) -> tuple[int, ...]:
        return tuple(sorted({die.npu_id for die in self.dies}))


@dataclass(frozen=True)
class HccsPacket:
    """One packet of an hccs_ping. ``outcome``: success, no-reply, send-failed, not-sent."""

    outcome: str
    time_ns: int = 0


@dataclass(frozen=True)
class Cluster:
    """The hosts, and what a ping between them meets."""

    hosts: tuple[Host, ...]
    seed: int = 0
    latency_s: float = 0.0

    def host(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def roce_ping(self, source: Die, address: str, count: int) -> tuple[float | None, ...]:
        """Round trip of every packet in ms, None where it was lost."""
        target = self._by_address.get(address)
        if target is None or not self._roce_reaches(source, target):
            return (None,) * count
        dice = random.Random(f"{self.seed} {source.port.address} {address}")
        return tuple(dice.randrange(45, 140) / 1000 for _ in range(count))

    def hccs_ping(self, source: Die, address: str, count: int) -> tuple[HccsPacket, ...]:
        """Fate of every packet to a vNIC address; only inside one super pod."""
        target = self._by_vnic.get((_pod(source), address))
        if target is None or not (source.vnic.link_up and target.vnic.link_up):
            return (HccsPacket("send-failed"), *[HccsPacket("not-sent")] * (count - 1))
        dice = random.Random(f"{self.seed} {source.vnic.address} {address}")
        return tuple(HccsPacket("success", dice.randrange(6500, 9500)) for _ in range(count))

    @cached_property
    def _by_address(self) -> dict[str, Die]:
        return {die.port.address: die for host in self.hosts for die in host.dies if die.port.address}

    @cached_property
    def _by_vnic(self) -> dict[tuple[int | None, str], Die]:
        return {(_pod(die), die.vnic.address): die for host in self.hosts for die in host.dies}

    @staticmethod
    def _roce_reaches(source: Die, target: Die) -> bool:
        """Both ports must be up and find their way to each other: on link, or through a gateway.

        A netmask wider than the segment makes a far peer look near: it is asked for by ARP, in vain.
        """
        ways = ((source.port, target.port), (target.port, source.port))
        return all(one.link_up and _has_way(one, other) for one, other in ways)


def build(generation: str, host_names: tuple[str, ...], seed: int = 0, latency_s: float = 0.0) -> Cluster:
    """A healthy cluster of ``a2`` or ``a3`` servers. Hosts in the order of their names."""
    make = {"a2": _a2_host, "a3": _a3_host}[generation]
    hosts = tuple(
        make(name, number, random.Random(f"{seed} {name}")) for number, name in enumerate(host_names)
    )
    return Cluster(hosts, seed, latency_s)


def hccn_conf_of(dies: tuple[Die, ...]) -> str:
    """``/etc/hccn.conf`` that says exactly what the ports have live."""
    lines = []
    for die in dies:
        port, number = die.port, die.phy_id
        settings = (
            ("address", port.address),
            ("netmask", port.netmask),
            ("gateway", port.gateway),
            ("netdetect", port.netdetect),
        )
        lines += [f"{key}_{number}={value}\n" for key, value in settings if value is not None]
    return "".join(lines)


def vnic_outside_super_pod(die: Die) -> Vnic:
    """The driver's rule where the server index is invalid, as on every A2 server."""
    die_id = die.chip_id if die.super_pod is not None else 0
    return Vnic(f"192.168.{2 + die_id}.{199 - die.phy_id}", "255.255.255.0")


# --- healthy hosts --------------------------------------------------------------------------------

_A2_BUSES = ("C1", "C2", "81", "82", "01", "02", "41", "42")
_A3_BUSES = tuple(f"{0x9D - 4 * npu + 2 * chip:02X}" for npu in range(8) for chip in range(2))


def _a2_host(name: str, number: int, dice: random.Random) -> Host:
    """Eight NPUs; all RoCE ports of the server in one segment with its gateway."""
    dies = []
    for phy_id in range(8):
        segment = f"10.{20 + number // 250}.{number % 250 + 1}"
        die = Die(
            npu_id=phy_id,
            chip_id=0,
            phy_id=phy_id,
            logic_id=phy_id,
            name="910B3",
            bus_id=f"0000:{_A2_BUSES[phy_id]}:00.0",
            power_w=dice.randrange(880, 1030) / 10,
            temperature_c=dice.randrange(36, 48),
            hbm_used_mib=dice.randrange(3380, 3600),
            hccs=_busy_hccs(dice),
            port=_port(number, phy_id, f"{segment}.{11 + phy_id}", f"{segment}.1", leaf=number // 16 + 1),
        )
        dies.append(_with_vnic(die))
    return _host(name, number, "a2", tuple(dies))


def _a3_host(name: str, number: int, dice: random.Random) -> Host:
    """Eight NPUs of two dies in one super pod; the dies of an NPU in two RoCE segments (planes)."""
    pod, server = divmod(number, SERVERS_PER_SUPER_POD)
    dies = []
    for phy_id in range(16):
        npu_id, chip_id = divmod(phy_id, 2)
        segment = f"10.{30 + 2 * (number // 250) + chip_id}.{number % 250 + 1}"
        sdid = server << 22 | npu_id << 18 | chip_id << 16 | phy_id
        die = Die(
            npu_id=npu_id,
            chip_id=chip_id,
            phy_id=phy_id,
            logic_id=phy_id,
            name="Ascend910",
            bus_id=f"0000:{_A3_BUSES[phy_id]}:00.0",
            power_w=dice.randrange(1650, 1860) / 10 if chip_id == 0 else None,
            temperature_c=dice.randrange(36, 54),
            hbm_used_mib=dice.randrange(2880, 3430),
            hccs=_busy_hccs(dice),
            port=_port(
                number,
                phy_id,
                f"{segment}.{11 + npu_id}",
                f"{segment}.1",
                leaf=2 * (number // 16) + 1 + chip_id,
            ),
            super_pod=SuperPodIds(sdid, SUPER_POD_SIZE, pod, server),
        )
        dies.append(_with_vnic(die))
    return _host(name, number, "a3", tuple(dies))


def _host(name: str, number: int, generation: str, dies: tuple[Die, ...]) -> Host:
    return Host(
        name=name,
        generation=generation,
        dies=dies,
        hccn_conf=hccn_conf_of(dies),
        phy_ids=tuple(die.phy_id for die in dies),
        nic_address=f"10.10.{number // 250}.{number % 250 + 1}",
    )


def _with_vnic(die: Die) -> Die:
    ids = die.super_pod
    if ids is None:
        return replace(die, vnic=vnic_outside_super_pod(die))
    address = f"192.{ids.server}.{2 + die.chip_id}.{199 - die.phy_id}"
    return replace(die, vnic=Vnic(address, "255.255.255.0"))


def _port(number: int, phy_id: int, address: str, gateway: str, leaf: int) -> Port:
    switch = f"leaf-{leaf:02d}"
    return Port(
        address=address,
        netmask="255.255.255.0",
        gateway=gateway,
        netdetect=gateway,
        mac=f"02:5a:{number >> 8:02x}:{number & 255:02x}:00:{phy_id:02x}",
        neighbour=Neighbour(
            chassis_mac=f"02:1e:af:00:{leaf >> 8:02x}:{leaf & 255:02x}",
            port=f"400GE1/{1 + phy_id // 2}/{1 + number % 16}:{1 + phy_id % 2}",
            system_name=switch,
            description=(
                "Simulated Network Operating System\n"
                "Version 1.0 (data centre leaf)\n"
                "\n"
                "Routing and Switching Platform\n"
                f"{switch}"
            ),
            management_address=f"10.11.{leaf // 250}.{leaf % 250 + 1}",
        ),
    )


def _busy_hccs(dice: random.Random) -> Hccs:
    def packets() -> tuple[int, ...]:
        return tuple(dice.randrange(10**8, 4 * 10**9) for _ in range(7))

    return Hccs(sent_packets=packets(), received_packets=packets())


# --- ways through the network ---------------------------------------------------------------------


def _pod(die: Die) -> int | None:
    return None if die.super_pod is None else die.super_pod.pod


def _has_way(source: Port, target: Port) -> bool:
    if not (source.address and source.netmask and target.address and target.netmask):
        return False
    near = _segment(source.address, source.netmask)
    if ipaddress.IPv4Address(target.address) in near:
        return _same_wire(source, target)
    return source.gateway is not None and ipaddress.IPv4Address(source.gateway) in near


def _same_wire(one: Port, other: Port) -> bool:
    """Ports are on one wire when their true segments, those of their detect addresses, are the same."""
    if one.netdetect is None or other.netdetect is None:
        return False
    return _segment(one.netdetect, "255.255.255.0") == _segment(other.netdetect, "255.255.255.0")


def _segment(address: str, netmask: str) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(f"{address}/{netmask}", strict=False)
