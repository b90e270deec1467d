"""The state of a simulated cluster: hosts, dies, ports and the network between them.

Everything is a frozen value; `ascendctl.sim.healthy` builds a cluster, `ascendctl.sim.faults` breaks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from ascendctl.sim import counters
from ascendctl.sim.counters import LinkHistory
from ascendctl.sim.network import NO_LOSS, HccsPacket, Loss, Network, Switch
from ascendctl.sim.optical import Optical

INVALID_ID = 0xFFFFFFFF


@dataclass(frozen=True)
class Neighbour:
    """What a port hears over LLDP."""

    chassis_mac: str
    port: str
    system_name: str
    description: str
    management_address: str


@dataclass(frozen=True)
class Port:
    """One RoCE port. None = not set, not heard, not readable; ``optical`` None = no module, as the tool says.

    ``net_health`` is the word it would show with its link up; `shown_net_health` follows the link.
    ``statistics`` and ``rdma_statistics`` are counters by the tool's names; one that is missing is 0.
    ``leaf`` and ``wire``: where the cable leads, whatever is heard or set: the leaf switch and the segment
    of its port (``10.20.1.0/24``).
    """

    link_up: bool = True
    net_health: str = "Success"
    address: str | None = None
    netmask: str | None = None
    gateway: str | None = None
    netdetect: str | None = None
    neighbour: Neighbour | None = None
    leaf: str | None = None
    wire: str | None = None
    loss: Loss = NO_LOSS
    tls_switch: int | None = 0
    tls_preset: int = 1
    mac: str = "02:00:00:00:00:00"
    mtu: int = 4200
    speed_mbps: int = 200_000
    duplex: str = "Full"
    fec: str = "auto FEC mode"
    pfc_enabled: tuple[int, ...] = (0, 0, 0, 0, 1, 0, 0, 0)
    optical: Optical | None = field(default_factory=Optical)
    link_history: LinkHistory = field(default_factory=LinkHistory)
    statistics: Mapping[str, int] = field(default_factory=dict)
    rdma_statistics: Mapping[str, int] = field(default_factory=lambda: counters.IDLE_RDMA)
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
    retries: tuple[int, ...] = (0,) * 7
    errors: tuple[int, ...] = (0,) * 7

    @property
    def healthy(self) -> bool:
        return all("1" in lanes for lanes in self.lanes)


@dataclass(frozen=True)
class EccCounts:
    """Errors of one memory, of one bit (corrected) and of two: since the start, in its life, and pages."""

    single: int = 0
    double: int = 0
    single_total: int = 0
    double_total: int = 0
    single_isolated: int = 0
    double_isolated: int = 0


@dataclass(frozen=True)
class Ecc:
    """``ddr`` None = has none, as A2 and A3. ``next_isolated``: pages out of use from the next start on."""

    hbm: EccCounts = EccCounts()
    ddr: EccCounts | None = None
    next_isolated: tuple[int, int] | None = (0, 0)  # single, double; None leaves the lines out


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

    ``ping_loss`` is lost on either plane, ``hccs_loss`` between the die and the HCCS switches of its pod.
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
    ecc: Ecc = field(default_factory=Ecc)
    super_pod: SuperPodIds | None = None
    ping_loss: float = 0.0
    hccs_loss: Loss = NO_LOSS
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
    call answers with; ``hccn_tool_refusal`` likewise of `hccn_tool.REFUSALS`. ``ping_loss`` is lost by
    every port to other hosts, on either plane; ``hccs_side``: hosts of unequal sides have no HCCS between.
    Of the host network: ``nic_loss`` is the share of round trips lost, ``path_mtu`` what gets through
    whole, ``no_route`` none to other hosts; TCP to ``filtered_ports`` is dropped, or rejected. ``hostname``
    None = its name; ``hostname_addresses``: what that name leads to on the host.
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
    nic_mtu: int = 1500
    nic_loss: float = 0.0
    path_mtu: int = 1500
    no_route: bool = False
    filtered_ports: range = range(0)
    rejects_filtered: bool = False
    hostname: str | None = None
    hostname_addresses: tuple[str, ...] = ()
    clock_offset_s: float = 0.0
    netdetect_label: str = "address"  # "addr" in newer tools
    link_stat_label: str = "devid"  # "device" in older tools
    open_files_limit: int = 1_048_576  # as far as the machine that simulates it allows
    memory_kib: int = 1_583_427_584
    huge_pages: int = 204_800  # of 2 MiB
    time_service_on: bool = True
    clock_synchronized: bool = True
    hccn_conf: str | None = None
    phy_ids: tuple[int, ...] = ()  # the product's, also those of NPUs that are missing
    missing_tools: frozenset[str] = frozenset()
    hccn_tool_refusal: str | None = None
    npu_smi_refusal: str | None = None
    misbehaviours: tuple[Misbehaviour, ...] = ()
    ssh: str = "ok"
    ping_loss: float = 0.0
    hccs_side: int = 0

    def die(self, phy_id: int) -> Die | None:
        return next((die for die in self.dies if die.phy_id == phy_id), None)

    @property
    def npu_ids(self) -> tuple[int, ...]:
        return tuple(sorted({die.npu_id for die in self.dies}))


@dataclass(frozen=True)
class Cluster:
    """The hosts, and what a ping between them meets (see `ascendctl.sim.network`).

    ``switches``: the leaf switches that lose packets, by name. ``background_loss``: the share of packets
    that is lost whatever way they take, 0 to 1.
    """

    hosts: tuple[Host, ...]
    seed: int = 0
    latency_s: float = 0.0
    switches: Mapping[str, Switch] = field(default_factory=dict)
    background_loss: float = 0.0

    def host(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def roce_ping(self, source: Die, address: str, count: int, attempt: int = 0) -> tuple[float | None, ...]:
        """Round trip of every packet in ms, None where it was lost. ``attempt``: how often made before."""
        return self.network.roce_ping(source, address, count, attempt)

    def hccs_ping(self, source: Die, address: str, count: int, attempt: int = 0) -> tuple[HccsPacket, ...]:
        """Fate of every packet to a vNIC address; only inside one super pod."""
        return self.network.hccs_ping(source, address, count, attempt)

    @cached_property
    def network(self) -> Network:
        return Network(self.hosts, self.switches, self.background_loss, self.seed)


def with_port(die: Die, **changes: object) -> Die:
    """The die with some fields of its RoCE port changed."""
    return replace(die, port=replace(die.port, **changes))  # type: ignore[arg-type]


def with_super_pod(die: Die, ids: SuperPodIds) -> Die:
    """The die with these super pod ids; its vNIC follows."""
    changed = replace(die, super_pod=ids)
    return replace(changed, vnic=vnic_of(changed))


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


def vnic_of(die: Die) -> Vnic:
    """The driver's rule: by server index and device in a super pod, else (as on A2) by the device alone."""
    ids = die.super_pod
    if ids is None or ids.server == INVALID_ID:
        die_id = 0 if ids is None else die.chip_id
        return Vnic(f"192.168.{2 + die_id}.{199 - die.phy_id}", "255.255.255.0")
    chip, device = ids.sdid >> 16 & 3, ids.sdid & 0xFFFF
    return Vnic(f"192.{ids.server}.{2 + chip}.{199 - device}", "255.255.255.0")
