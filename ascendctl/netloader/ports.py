"""Every port that a plan will listen on, judged against all that may want the same one. Pure.

Per instance: the API; for every rank a Netloader listener, LISTEN_PORT + rank; for every rank of a draft
model another one, 10000 above. Joiners also draw a port at random for a transfer, which no plan knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from ascendctl.hccl.rank_table import DEVICE_PORT
from ascendctl.hccl_ports import HCCL_HOST_PORTS
from ascendctl.netloader.engine.options import DRAFT_PORT_OFFSET, HIGHEST_PORT
from ascendctl.netloader.plan import Instance

MOONCAKE_RPC_PORTS = range(15_000, 17_001)
"""Where Mooncake draws its RPC port (MC_MIN_RPC_PORT to MC_MAX_RPC_PORT)."""
MOONCAKE_BASE_PORT, MOONCAKE_PORTS_PER_DEVICE, OLD_MOONCAKE_PORTS_PER_DEVICE = 20_000, 100, 1_000
"""AscendDirect: 100 ports from 20000 on for each physical id (1000 up to Mooncake 0.3.7)."""
MOONCAKE_MASTER_PORTS = (50_088, 50_089)
DEFAULT_EPHEMERAL_PORTS = range(32_768, 61_000)
"""Linux' ``net.ipv4.ip_local_port_range`` unless it was changed."""
_DEVICES_MOST = 16


class Level(str, Enum):
    """``ERROR``: the plan is not to be started so; ``WARNING``: it may work."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class HostPorts:
    """What is known of one host. ``ephemeral``: what the kernel hands out at random; ``reserved``: what it
    leaves out of that (``net.ipv4.ip_local_reserved_ports``); ``devices``: how many, None = not known;
    ``busy``: ports that something listens on, and what.
    """

    host: str
    ephemeral: range = DEFAULT_EPHEMERAL_PORTS
    reserved: tuple[range, ...] = ()
    devices: int | None = None
    busy: Mapping[int, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class PlannedPort:
    """One port on one host and what listens there. ``used`` False: only once a draft model is added."""

    host: str
    port: int
    instance: str
    what: str
    used: bool = True


@dataclass(frozen=True)
class PortFinding:
    """``rule``: its stable name: ``range twice busy hccl mooncake ephemeral unplanned``."""

    rule: str
    level: Level
    host: str
    port: int | None
    message: str


@dataclass(frozen=True)
class PortPlan:
    ports: tuple[PlannedPort, ...]
    findings: tuple[PortFinding, ...]

    @property
    def errors(self) -> tuple[PortFinding, ...]:
        return tuple(one for one in self.findings if one.level is Level.ERROR)

    def of(self, host: str) -> tuple[int, ...]:
        """The ports that must be free on a host, ascending."""
        return tuple(sorted({one.port for one in self.ports if one.host == host and one.used}))


def port_plan(instances: Sequence[Instance], hosts: Sequence[HostPorts] = ()) -> PortPlan:
    """All ports of all instances (those that run already too, if they are to be kept apart), judged.

    A host that is not among ``hosts`` is judged by Linux' and HCCL's defaults.
    """
    known = {one.host: one for one in hosts}
    planned = tuple(port for instance in instances for port in planned_ports(instance))
    findings = [_unplanned(one) for one in instances if one.listen_port is None]
    findings += _twice(planned)
    hccl = {
        one.host: tuple(r for i in instances if i.host == one.host for r in _hccl(i)) for one in instances
    }
    for port in planned:
        host = known.get(port.host, HostPorts(port.host))
        findings += _judged(port, host, hccl[port.host])
    return PortPlan(planned, tuple(findings))


def planned_ports(instance: Instance) -> tuple[PlannedPort, ...]:
    """The ports of one instance; a draft model's always, `used` or not."""
    found = [PlannedPort(instance.host, instance.port, instance.name, "its API")]
    if instance.listen_port is not None:
        for rank in range(instance.ranks):
            port = instance.listen_port + rank
            found.append(PlannedPort(instance.host, port, instance.name, f"rank {rank}'s listener"))
        for rank in range(instance.ranks):
            port = instance.listen_port + rank + DRAFT_PORT_OFFSET
            what = f"rank {rank}'s listener of the draft model"
            found.append(PlannedPort(instance.host, port, instance.name, what, instance.serving.speculative))
    return tuple(found)


def port_ranges(text: str) -> tuple[range, ...]:
    """``60000-60031,60050`` as ranges (of HCCL's variables, and of ip_local_reserved_ports; "" = none).

    Raises ValueError.
    """
    found = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        first, dash, last = part.partition("-")
        ends = (first, last if dash else first)
        if not all(end.isascii() and end.isdigit() and len(end) <= 5 for end in ends):
            raise ValueError(f"{part[:40]!r} is neither a port nor a range")
        found.append(range(int(ends[0]), int(ends[1]) + 1))
    return tuple(found)


def ephemeral_ports(text: str) -> range:
    """``net.ipv4.ip_local_port_range`` ("32768	60999") as a range. Raises ValueError."""
    words = text.split()
    if len(words) != 2:
        raise ValueError(f"{text[:40]!r} is not a first and a last port")
    first, last = (port_ranges(word)[0].start for word in words)
    return range(first, last + 1)


def _hccl(instance: Instance) -> tuple[range, ...]:
    """Where HCCL listens on the host for this instance; () where it takes any free port."""
    environment = instance.place.variables
    try:
        if "HCCL_HOST_SOCKET_PORT_RANGE" in environment:
            given = environment["HCCL_HOST_SOCKET_PORT_RANGE"]
            return () if given == "auto" else port_ranges(given)
        base = int(environment.get("HCCL_IF_BASE_PORT", HCCL_HOST_PORTS.start))
    except ValueError:
        base = HCCL_HOST_PORTS.start
    return (range(base, base + len(HCCL_HOST_PORTS)),)


def _twice(planned: Sequence[PlannedPort]) -> list[PortFinding]:
    owner: dict[tuple[str, int], PlannedPort] = {}
    found = []
    for port in planned:
        if not port.used:
            continue
        first = owner.setdefault((port.host, port.port), port)
        if first is not port:
            message = (
                f"{port.host}: port {port.port} is {_whose(first)} and {_whose(port)}: set --port or "
                "--listen-port so that they keep apart"
            )
            found.append(PortFinding("twice", Level.ERROR, port.host, port.port, message))
    return found


def _judged(port: PlannedPort, host: HostPorts, hccl: Sequence[range]) -> list[PortFinding]:
    level = Level.ERROR if port.used else Level.WARNING

    def finding(rule: str, why: str, at: Level = level) -> PortFinding:
        once = "" if port.used else ", once there is one"
        return PortFinding(
            rule, at, port.host, port.port, f"{port.host}: port {port.port}, {_whose(port)}{once}: {why}"
        )

    if port.port > HIGHEST_PORT:
        return [finding("range", f"there is none above {HIGHEST_PORT}; set a lower --listen-port")]
    found = []
    meeting = next((ports for ports in hccl if port.port in ports), None)
    if meeting is not None:
        found.append(
            finding(
                "hccl",
                f"HCCL listens on {meeting.start}-{meeting.stop - 1} of the host; take another, such as one "
                "from 17001 to 19999",
            )
        )
    if port.port == DEVICE_PORT:
        found.append(finding("hccl", "HCCL listens on this one of the devices; take another"))
    if not port.used:
        return found
    if port.port in host.busy:
        found.append(
            finding("busy", f"{host.busy[port.port] or 'something'} listens there; stop it, or take another")
        )
    found += [finding("mooncake", why, at) for why, at in _mooncake(port.port, host.devices)]
    if port.port in host.ephemeral and not any(port.port in ports for ports in host.reserved):
        found.append(
            finding(
                "ephemeral",
                f"the kernel hands out {host.ephemeral.start}-{host.ephemeral.stop - 1} at random, so any "
                "connection may hold it at the start; take one outside, or add it to "
                "net.ipv4.ip_local_reserved_ports",
            )
        )
    return found


def _mooncake(port: int, devices: int | None) -> list[tuple[str, Level]]:
    count = _DEVICES_MOST if devices is None else devices
    if port in MOONCAKE_RPC_PORTS:
        first, last = MOONCAKE_RPC_PORTS.start, MOONCAKE_RPC_PORTS.stop - 1
        return [(f"Mooncake draws its RPC ports from {first}-{last}; take another", Level.ERROR)]
    if port in MOONCAKE_MASTER_PORTS:
        return [("mooncake_master listens there; take another", Level.ERROR)]
    # The last device's range includes the first port after it.
    if MOONCAKE_BASE_PORT <= port <= MOONCAKE_BASE_PORT + count * MOONCAKE_PORTS_PER_DEVICE:
        last = MOONCAKE_BASE_PORT + count * MOONCAKE_PORTS_PER_DEVICE
        why = (
            f"Mooncake's direct transfers take {MOONCAKE_BASE_PORT}-{last} with {count} devices; take another"
        )
        return [(why, Level.ERROR)]
    if MOONCAKE_BASE_PORT <= port <= MOONCAKE_BASE_PORT + count * OLD_MOONCAKE_PORTS_PER_DEVICE:
        last = MOONCAKE_BASE_PORT + count * OLD_MOONCAKE_PORTS_PER_DEVICE
        why = f"Mooncake up to 0.3.7 listens on {MOONCAKE_BASE_PORT}-{last} with {count} devices"
        return [(why, Level.WARNING)]
    return []


def _unplanned(instance: Instance) -> PortFinding:
    return PortFinding(
        "unplanned",
        Level.WARNING,
        instance.host,
        None,
        f"{instance.host}: {instance.name} has no LISTEN_PORT, so its ranks take any free port: nothing of "
        "them can be judged; set --listen-port",
    )


def _whose(port: PlannedPort) -> str:
    return f"{port.what} ({port.instance})"
