"""The catalogue: every command that is asked of a host, once.

The commands are those of the vllm-ascend multi-node guide, with the ids it gets wrong corrected:
``npu-smi -i/-c`` takes NPU id and chip id, ``hccn_tool -i`` the physical id. ``{npu}``, ``{chip}``
and ``{phy}`` are filled in on the host, from its own ``npu-smi info -m``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from ascendctl.facts import Profile


class Impact(str, Enum):
    """What asking does to the host."""

    READ_ONLY = "read-only"
    LIGHT_TRAFFIC = "light-traffic"
    DISTURBS = "disturbs"


class Scope(str, Enum):
    """How often a command is asked: once per host, or once per device (die)."""

    HOST = "host"
    DEVICE = "device"


@dataclass(frozen=True)
class Command:
    """``argv`` as run on the host, tool name first. ``needs_root``: through sudo where configured.

    ``retry_text``: an answer holding it is asked once more (a passing state, a bus that was in use).
    ``profile``: the least profile that asks it.
    """

    id: str
    argv: tuple[str, ...]
    scope: Scope
    impact: Impact = Impact.READ_ONLY
    needs_root: bool = False
    timeout_s: int = 10
    retry_text: str | None = None
    profile: Profile = Profile.STANDARD

    @property
    def tool(self) -> str:
        return self.argv[0]

    def text(self, *, npu: int | None = None, chip: int | None = None, phy: int | None = None) -> str:
        """The command line as a person would type it; placeholders stay where no id is given."""
        line = " ".join(self.argv)
        for name, value in (("{npu}", npu), ("{chip}", chip), ("{phy}", phy)):
            if value is not None:
                line = line.replace(name, str(value))
        return line


def _host(id: str, *argv: str, timeout_s: int = 10, needs_root: bool = False) -> Command:
    return Command(id, argv, Scope.HOST, timeout_s=timeout_s, needs_root=needs_root)


def _smi(id: str, kind: str) -> Command:
    argv = ("npu-smi", "info", "-t", kind, "-i", "{npu}", "-c", "{chip}")
    return Command(id, argv, Scope.DEVICE, needs_root=True)


def _hccn(id: str, option: str, retry_text: str | None = None) -> Command:
    argv = ("hccn_tool", "-i", "{phy}", option, "-g")
    return Command(id, argv, Scope.DEVICE, needs_root=True, retry_text=retry_text)


_TOOLKIT = "/usr/local/Ascend/ascend-toolkit/latest"


def _deep(command: Command) -> Command:
    return replace(command, profile=Profile.DEEP)


COMMANDS: tuple[Command, ...] = (
    _host("clock", "date", "+%s.%N"),
    _host("hostname", "hostname"),
    # Name servers that do not answer: the resolver of libc gives up after 5 s, twice for each.
    _host("hostname-addresses", "hostname", "-i", timeout_s=25),
    _host("kernel", "uname", "-srm"),
    _host("os-release", "cat", "/etc/os-release"),
    _host("host-addresses", "ip", "-o", "addr", "show"),
    _host("host-links", "ip", "-o", "link", "show"),
    _host("driver-version", "cat", "/usr/local/Ascend/driver/version.info"),
    _host("firmware-version", "cat", "/usr/local/Ascend/firmware/version.info"),
    _host(
        "cann-version",
        "cat",
        f"{_TOOLKIT}/aarch64-linux/ascend_toolkit_install.info",
        f"{_TOOLKIT}/x86_64-linux/ascend_toolkit_install.info",
    ),
    _host("hccn-conf", "cat", "/etc/hccn.conf", needs_root=True),
    _deep(_host("meminfo", "cat", "/proc/meminfo")),
    _deep(_host("time-service", "timedatectl", "show")),
    _host("mapping", "npu-smi", "info", "-m", needs_root=True, timeout_s=20),
    _host("npu-smi", "npu-smi", "info", needs_root=True, timeout_s=30),
    _host("topo", "npu-smi", "info", "-t", "topo", needs_root=True, timeout_s=20),
    _smi("health", "health"),
    _smi("hccs", "hccs"),
    _smi("spod-info", "spod-info"),
    _hccn("link", "-link"),
    _hccn("net-health", "-net_health", retry_text="Detect ip set"),
    _hccn("netdetect", "-netdetect"),
    _hccn("gateway", "-gateway"),
    _hccn("ip", "-ip"),
    _hccn("vnic", "-vnic"),
    _hccn("lldp", "-lldp"),
    _hccn("tls", "-tls"),
    _deep(_smi("ecc", "ecc")),
    _deep(_hccn("optical", "-optical", "I2c is busy")),
    _deep(_hccn("link-stat", "-link_stat")),
    _deep(_hccn("stat", "-stat")),
    _deep(_hccn("hw-stats", "-hw_stats")),
    _deep(_hccn("speed", "-speed")),
    _deep(_hccn("duplex", "-duplex")),
    _deep(_hccn("mtu", "-mtu")),
    _deep(_hccn("fec", "-fec")),
)

BY_ID = {command.id: command for command in COMMANDS}


def profile_of(commands: Iterable[Command]) -> Profile:
    """The profile that ``commands`` are of: the least one in which all of them are asked."""
    return Profile.DEEP if any(c.profile is Profile.DEEP for c in commands) else Profile.STANDARD


def commands_of(profile: Profile) -> tuple[Command, ...]:
    """What is asked in a profile, in the catalogue's order; the deep one holds the standard one."""
    deep = profile is Profile.DEEP
    return tuple(command for command in COMMANDS if deep or command.profile is Profile.STANDARD)
