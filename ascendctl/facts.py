"""What is known of hosts, NPUs and ports: frozen dataclasses, units in names.

Parsers produce the values, `ascendctl.verify` assembles them, checks judge them. Nothing here reads,
connects or decides. Field names are those of ``ascendctl parse``.

Numbering follows the vendor: a *device* is one die and one rank, named by its **physical id**
(what ``hccn_tool -i`` takes); NPU id and chip id are what ``npu-smi -i/-c`` take.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")


class ParseStatus(str, Enum):
    """What a parser made of one command's output (``ascendctl parse`` prints these)."""

    OK = "ok"
    NO_DATA = "no-data"
    UNSUPPORTED = "unsupported"
    BUSY = "busy"
    DENIED = "denied"
    FAILED = "failed"
    UNPARSED = "unparsed"


@dataclass(frozen=True)
class Parsed(Generic[T]):
    """One command's output, read. ``facts`` is set exactly when ``status`` is ``ok``.

    ``reason`` says in a sentence why it is not ``ok`` (with the line number for ``unparsed``).
    """

    status: ParseStatus
    facts: T | None = None
    reason: str = ""


class ReadingStatus(str, Enum):
    """How one wanted reading ended: a parse status, or why there was nothing to parse."""

    OK = "ok"
    NO_DATA = "no-data"
    UNSUPPORTED = "unsupported"
    BUSY = "busy"
    DENIED = "denied"
    FAILED = "failed"
    UNPARSED = "unparsed"
    TIMED_OUT = "timed-out"  # the command had to be killed
    NOT_CALLED = "not-called"  # its tool had to be killed earlier on this host (see blocked_by)
    TOOL_MISSING = "tool-missing"  # the tool is not on the host
    NOT_RECEIVED = "not-received"  # the host's answer ended before this one came
    NOT_ASKED = "not-asked"  # not part of what was sent to this host


@dataclass(frozen=True)
class BlockedBy:
    """The command whose hanging stopped further calls of its tool: catalogue id and device."""

    command_id: str
    phy_id: int | None = None


@dataclass(frozen=True)
class Reading(Generic[T]):
    """A wanted value with how it was learned. ``value`` is set exactly when ``status`` is ``ok``.

    ``command`` is what ran (for findings), ``evidence`` its text, both streams, cut to a sane size.
    """

    status: ReadingStatus
    value: T | None = None
    command: str = ""
    reason: str = ""
    evidence: str = ""
    exit_code: int | None = None
    blocked_by: BlockedBy | None = None

    @property
    def ok(self) -> bool:
        return self.status is ReadingStatus.OK


def not_asked() -> Reading[T]:
    """A reading that was no part of what was sent."""
    return Reading(ReadingStatus.NOT_ASKED)


# --- hccn_tool ------------------------------------------------------------------------------------


class LinkStatus(str, Enum):
    UP = "UP"
    DOWN = "DOWN"


@dataclass(frozen=True)
class LinkFacts:
    link_status: LinkStatus


class NetHealth(str, Enum):
    """Result of the device's periodic ping of its netdetect address; the driver's complete list.

    Older drivers spell ``Socket fail`` as ``Socket failed``; the parser maps both to one value.
    """

    SUCCESS = "Success"
    SOCKET_FAIL = "Socket fail"
    RECEIVE_TIMEOUT = "Receive timeout"
    UNREACHABLE = "Unreachable"
    TIME_EXCEEDED = "Time exceeded"
    FAULT = "Fault"
    INIT = "Init"
    THREAD_ERROR = "Thread error"
    DETECT_IP_SET = "Detect ip set"
    UNKNOWN = "Unknown"


@dataclass(frozen=True)
class NetHealthFacts:
    net_health: NetHealth


@dataclass(frozen=True)
class AddressFacts:
    """``hccn_tool -ip -g``: the RoCE address of the port."""

    address: str
    netmask: str


@dataclass(frozen=True)
class NetdetectFacts:
    """The address the device pings to judge its own network health."""

    address: str


@dataclass(frozen=True)
class VnicFacts:
    """The virtual NIC on the scale-up (HCCS) network."""

    link_status: LinkStatus
    address: str
    netmask: str


@dataclass(frozen=True)
class GatewayFacts:
    address: str
    interface: str | None


@dataclass(frozen=True)
class LldpFacts:
    """The neighbour a port hears. Sections may be absent or cut (the tool cuts at 1999 bytes)."""

    chassis_id: str | None
    port_id: str | None
    system_name: str | None
    system_description: str | None


@dataclass(frozen=True)
class TlsFacts:
    """``tls_switch`` 0 = off, 1 = on; must be equal on all peers."""

    tls_switch: int


@dataclass(frozen=True)
class PingFacts:
    """Summary of ``-ping`` or ``-hccs_ping``; judged by loss, never by exit code."""

    target: str
    transmitted: int
    received: int
    loss_percent: float


@dataclass(frozen=True)
class LinkRecord:
    time: str
    link_status: LinkStatus


@dataclass(frozen=True)
class LinkStatFacts:
    """Link history. ``down_count`` is None where the tool's version does not print it."""

    up_count: int
    down_count: int | None
    records: tuple[LinkRecord, ...]


@dataclass(frozen=True)
class OpticalFacts:
    """``hccn_tool -optical -g``: the optical module of a port, lanes in order.

    ``present`` is the tool's own word; real tools print ``not present`` above a full set of values. None =
    not printed, or printed as NA, not supported or failed; powers are those of the lanes in use.
    ``*_high_*`` and ``*_low_*`` are the module's own alarm thresholds. Flags are bit masks: TX lanes and
    RX lanes that lost their signal (LOS) or lock (LOL).
    """

    present: bool | None
    temperature_c: float | None = None
    voltage_mv: float | None = None
    tx_power_mw: tuple[float, ...] = ()
    rx_power_mw: tuple[float, ...] = ()
    host_snr_db: tuple[float | None, ...] = ()
    media_snr_db: tuple[float | None, ...] = ()
    temperature_high_c: float | None = None
    temperature_low_c: float | None = None
    voltage_high_mv: float | None = None
    voltage_low_mv: float | None = None
    tx_power_high_mw: float | None = None
    tx_power_low_mw: float | None = None
    rx_power_high_mw: float | None = None
    rx_power_low_mw: float | None = None
    tx_los_flags: int | None = None
    rx_los_flags: int | None = None
    tx_lol_flags: int | None = None
    rx_lol_flags: int | None = None
    vendor: str | None = None
    part_number: str | None = None
    serial_number: str | None = None


@dataclass(frozen=True)
class CounterFacts:
    """Counters under the names the tool prints (``-stat``, ``-hw_stats``, ``npu-smi info -t ecc``)."""

    counters: Mapping[str, int]


@dataclass(frozen=True)
class SpeedFacts:
    """``speed_mbps`` is None where the tool prints ``Unknown!``, as it does while the link is down."""

    speed_mbps: int | None


class Duplex(str, Enum):
    FULL = "Full"
    HALF = "Half"
    UNKNOWN = "Unknown"


@dataclass(frozen=True)
class DuplexFacts:
    duplex: Duplex


@dataclass(frozen=True)
class MtuFacts:
    mtu_bytes: int


@dataclass(frozen=True)
class FecFacts:
    """The word before ``FEC mode``: ``auto``, ``rs`` or ``no``."""

    mode: str


@dataclass(frozen=True)
class HccnConfDevice:
    address: str | None = None
    netmask: str | None = None
    gateway: str | None = None
    netdetect: str | None = None
    mtu_bytes: int | None = None


@dataclass(frozen=True)
class HccnConfFacts:
    """``/etc/hccn.conf``, keyed by physical id as text. It states intent; the live value is ``-ip -g``."""

    devices: Mapping[str, HccnConfDevice]


# --- npu-smi --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChipId:
    """One row of ``npu-smi info -m`` (Mcu rows left out). ``phy_id`` is None where A2 prints none."""

    npu_id: int
    chip_id: int
    logic_id: int
    phy_id: int | None
    name: str


@dataclass(frozen=True)
class MappingFacts:
    chips: tuple[ChipId, ...]


class NpuHealth(str, Enum):
    """Health words of npu-smi."""

    OK = "OK"
    WARNING = "Warning"
    ALARM = "Alarm"
    CRITICAL = "Critical"
    UNKNOWN = "UNKNOWN"
    NA = "NA"


@dataclass(frozen=True)
class NpuSmiDevice:
    """Two rows of the ``npu-smi info`` table. None where the tool prints ``-`` or NA."""

    npu_id: int
    chip_id: int
    phy_id: int | None
    name: str
    health: NpuHealth
    bus_id: str | None
    power_w: float | None
    temperature_c: int | None
    aicore_percent: int | None
    hbm_used_mib: int | None
    hbm_total_mib: int | None


@dataclass(frozen=True)
class NpuProcess:
    """A process that holds an NPU; ``name`` is empty inside containers."""

    npu_id: int
    chip_id: int
    pid: int
    name: str
    memory_mib: int


@dataclass(frozen=True)
class NpuSmiInfoFacts:
    version: str
    devices: tuple[NpuSmiDevice, ...]
    processes: tuple[NpuProcess, ...]


@dataclass(frozen=True)
class HealthFacts:
    """``npu-smi info -t health``: the word, the hex error codes, and the tool's text for them."""

    health: NpuHealth
    error_codes: tuple[str, ...]
    error_information: tuple[str, ...]


@dataclass(frozen=True)
class TopoFacts:
    """``npu-smi info -t topo``: ``cells[i][j]`` is the link between ``labels[i]`` and ``labels[j]``.

    Labels are ``NPUn`` on A2 and ``Phy-IDn`` on A3; ids are their numbers. Values: X, HCCS, HCCS_SW,
    SIO, PIX, PXB, PHB, SYS, NA (a domestic build's XLink / XLink_SW read as HCCS / HCCS_SW).
    """

    ids: tuple[int, ...]
    cells: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class HccsFacts:
    """``npu-smi info -t hccs``: one entry per link. A good link is mode 4, lanes ``1111``."""

    health: str  # OK or NOK
    lane_mode: tuple[int, ...]
    lane_list: tuple[str, ...]
    speed: tuple[int, ...]
    counters: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class SpodFacts:
    """``npu-smi info -t spod-info``; 4294967295 means invalid, 0 is a valid value of each."""

    sdid: int
    super_pod_size: int
    super_pod_id: int
    server_index: int


@dataclass(frozen=True)
class CardFacts:
    """One card of ``npu-smi info -l``."""

    npu_id: int
    chip_count: int


@dataclass(frozen=True)
class CardListFacts:
    cards: tuple[CardFacts, ...]


@dataclass(frozen=True)
class BoardFacts:
    """``npu-smi info -t board``: ids apart, every other field under its label, as printed."""

    npu_id: int
    chip_id: int | None
    fields: Mapping[str, str]


# --- the host around the NPUs ---------------------------------------------------------------------


@dataclass(frozen=True)
class HostAddress:
    interface: str
    address: str
    prefix_length: int


@dataclass(frozen=True)
class HostLink:
    """One line of ``ip -o link show``: the largest packet that an interface of the host sends."""

    interface: str
    mtu_bytes: int


@dataclass(frozen=True)
class RouteFacts:
    """``ip route get``: the way the kernel takes to an address; ``interface`` None = it has none."""

    interface: str | None
    gateway: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class HostPingFacts:
    """``ping`` of the host itself. ``interface`` None = not printed.

    ``path_mtu_bytes``: the largest packet of the way, where a router or the kernel said that these were
    larger; 0 where it did not say how large it may be.
    """

    target: str
    transmitted: int
    received: int
    interface: str | None = None
    path_mtu_bytes: int | None = None


class PortAnswer(str, Enum):
    """What trying to connect to a TCP port met. The first two tell that the way to the port is open."""

    CONNECTED = "connected"
    REFUSED = "refused"  # nothing listens there, and its host said so
    REJECTED = "rejected"  # a router or a firewall said no
    TIMED_OUT = "timed out"


@dataclass(frozen=True)
class PortFacts:
    """Answers of TCP ports of one address."""

    target: str
    answers: Mapping[int, PortAnswer]


@dataclass(frozen=True)
class HostPathFacts:
    """What a host learned of the way to an address of another host.

    ``whole``: a ping that fills the largest packet and must not be cut into pieces.
    """

    address: str
    route: Reading[RouteFacts] = field(default_factory=not_asked)
    ping: Reading[HostPingFacts] = field(default_factory=not_asked)
    whole: Reading[HostPingFacts] = field(default_factory=not_asked)
    ports: Reading[PortFacts] = field(default_factory=not_asked)


@dataclass(frozen=True)
class ClockFacts:
    """Host time minus the midpoint of the exchange, and half the exchange's length."""

    offset_s: float
    uncertainty_s: float


@dataclass(frozen=True)
class MemoryFacts:
    """``/proc/meminfo``: the host's memory and its huge pages (pages of ``huge_page_size_kib``)."""

    total_kib: int
    available_kib: int
    huge_pages_total: int
    huge_pages_free: int
    huge_page_size_kib: int


@dataclass(frozen=True)
class TimeServiceFacts:
    """``timedatectl show``: whether a time service is switched on, and whether the clock is in step."""

    enabled: bool
    synchronized: bool


@dataclass(frozen=True)
class ToolFacts:
    """Where a tool was found on the host; ``path`` is None where it is missing."""

    name: str
    path: str | None


@dataclass(frozen=True)
class SystemFacts:
    hostname: Reading[str] = field(default_factory=not_asked)
    hostname_addresses: Reading[tuple[str, ...]] = field(default_factory=not_asked)  # what it leads to
    kernel: Reading[str] = field(default_factory=not_asked)
    architecture: Reading[str] = field(default_factory=not_asked)
    os_release: Reading[str] = field(default_factory=not_asked)
    driver_version: Reading[str] = field(default_factory=not_asked)
    firmware_version: Reading[str] = field(default_factory=not_asked)
    cann_version: Reading[str] = field(default_factory=not_asked)
    addresses: Reading[tuple[HostAddress, ...]] = field(default_factory=not_asked)
    links: Reading[tuple[HostLink, ...]] = field(default_factory=not_asked)
    open_files_limit: Reading[int] = field(default_factory=not_asked)
    clock: Reading[ClockFacts] = field(default_factory=not_asked)
    memory: Reading[MemoryFacts] = field(default_factory=not_asked)
    time_service: Reading[TimeServiceFacts] = field(default_factory=not_asked)


# --- assembled ------------------------------------------------------------------------------------


class Generation(str, Enum):
    A2 = "a2"
    A3 = "a3"


class Accelerator(str, Enum):
    ASCEND = "ascend"
    NVIDIA = "nvidia"
    CPU = "cpu"


class Profile(str, Enum):
    """How much is asked of a host: what a verdict needs, or every counter and setting besides."""

    STANDARD = "standard"
    DEEP = "deep"


class ScaleOut(str, Enum):
    """Whether RoCE is in use between hosts; ``auto`` = judged per port by an address being set."""

    ROCE = "roce"
    NONE = "none"
    AUTO = "auto"


@dataclass(frozen=True)
class Cable:
    """Where a device's port is meant to be plugged in, in the words that it hears over LLDP.

    ``port`` is empty where only the switch is stated.
    """

    switch: str
    port: str = ""

    def __str__(self) -> str:
        return f"{self.switch} {self.port}".rstrip()


@dataclass(frozen=True)
class Expectation:
    """What the inventory says of a host. None / auto = to be learned from the host itself."""

    accelerator: Accelerator | None = None
    generation: Generation | None = None
    npus: int | None = None  # devices (dies), as the rank count of the host
    scale_out: ScaleOut = ScaleOut.AUTO
    nic: str | None = None
    group: str = ""
    tags: frozenset[str] = frozenset()
    thresholds: Mapping[str, float] = field(default_factory=dict)  # overrides by name
    cabling: Mapping[int, Cable] = field(default_factory=dict)  # by physical id
    engine_ports: tuple[int, ...] = ()  # TCP ports that other hosts reach the engine on


class ReachStatus(str, Enum):
    REACHED = "reached"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    NAME_RESOLUTION = "name-resolution"
    AUTHENTICATION = "authentication"
    HOST_KEY_UNKNOWN = "host-key-unknown"
    HOST_KEY_MISMATCH = "host-key-mismatch"
    JUMP_HOST = "jump-host"
    PROTOCOL = "protocol"  # something answered that is not an SSH server, or a shell that is none
    LOST = "lost"  # reached, then the connection ended before the last answer
    NOT_ATTEMPTED = "not-attempted"  # the run ended, or the group was stopped, before its turn
    INTERRUPTED = "interrupted"
    CANNOT_PROBE = "cannot-probe"  # logged in, but the host cannot run the probe (no space, no timeout)
    BAD_OUTPUT = "bad-output"  # a hand-carried output that is none, is cut, or holds several


@dataclass(frozen=True)
class Reach:
    """How reaching the host went. ``via`` names the jump host at fault, if one was.

    ``internal``: ascendctl itself failed; ``detail`` names the exception, the host is not to blame.
    """

    status: ReachStatus
    detail: str = ""
    via: str | None = None
    internal: bool = False


@dataclass(frozen=True)
class DeviceFacts:
    """One device (die). ``phy_id_assumed``: npu-smi printed no Phy-ID, so physical id = logic id."""

    npu_id: int
    chip_id: int
    phy_id: int
    name: str
    phy_id_assumed: bool = False
    link: Reading[LinkFacts] = field(default_factory=not_asked)
    net_health: Reading[NetHealthFacts] = field(default_factory=not_asked)
    ip: Reading[AddressFacts] = field(default_factory=not_asked)
    netdetect: Reading[NetdetectFacts] = field(default_factory=not_asked)
    gateway: Reading[GatewayFacts] = field(default_factory=not_asked)
    lldp: Reading[LldpFacts] = field(default_factory=not_asked)
    vnic: Reading[VnicFacts] = field(default_factory=not_asked)
    tls: Reading[TlsFacts] = field(default_factory=not_asked)
    health: Reading[HealthFacts] = field(default_factory=not_asked)
    hccs: Reading[HccsFacts] = field(default_factory=not_asked)
    spod: Reading[SpodFacts] = field(default_factory=not_asked)
    optical: Reading[OpticalFacts] = field(default_factory=not_asked)
    link_stat: Reading[LinkStatFacts] = field(default_factory=not_asked)
    stat: Reading[CounterFacts] = field(default_factory=not_asked)
    hw_stats: Reading[CounterFacts] = field(default_factory=not_asked)
    speed: Reading[SpeedFacts] = field(default_factory=not_asked)
    duplex: Reading[DuplexFacts] = field(default_factory=not_asked)
    mtu: Reading[MtuFacts] = field(default_factory=not_asked)
    fec: Reading[FecFacts] = field(default_factory=not_asked)
    ecc: Reading[CounterFacts] = field(default_factory=not_asked)


@dataclass(frozen=True)
class HostFacts:
    """All that is known of one host of the selection, also of one that never answered.

    ``accelerator`` and ``generation`` are what the host's own NPUs say, else the inventory's word
    (``expectation``, which they may contradict), else as its tools tell; None = could not be told.
    ``devices`` follow the host's own mapping and are empty when that failed.
    """

    host: str
    expectation: Expectation
    reach: Reach
    accelerator: Accelerator | None = None
    generation: Generation | None = None
    tools: Mapping[str, ToolFacts] = field(default_factory=dict)
    mapping: Reading[MappingFacts] = field(default_factory=not_asked)
    npu_smi: Reading[NpuSmiInfoFacts] = field(default_factory=not_asked)
    topo: Reading[TopoFacts] = field(default_factory=not_asked)
    hccn_conf: Reading[HccnConfFacts] = field(default_factory=not_asked)
    system: SystemFacts = field(default_factory=SystemFacts)
    devices: tuple[DeviceFacts, ...] = ()
    paths: tuple[HostPathFacts, ...] = ()


@dataclass(frozen=True)
class ClusterFacts:
    """Every host of the selection, in inventory order."""

    hosts: tuple[HostFacts, ...]
