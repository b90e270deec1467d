"""The kinds of fault a simulated cluster can be seeded with: name, what it does, what it takes."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

HANG_FORMS = ("ignores-term", "grandchild", "unkillable")
TOOLS = ("hccn_tool", "npu-smi")
NET_HEALTH_WORDS = (
    "Success",
    "Socket fail",
    "Receive timeout",
    "Unreachable",
    "Time exceeded",
    "Fault",
    "Init",
    "Thread error",
    "Detect ip set",
    "Unknown",
)
NPU_HEALTH_WORDS = ("OK", "Warning", "Alarm", "Critical", "UNKNOWN")
FEC_WORDS = ("auto", "rs", "no")
HCCS_LINKS = 7
MTU_BYTES = range(68, 9703)
OPEN_FILES = range(64, 1_048_577)
OPTICAL_POWER_MAX_MW = 6.5535  # what the module's register of 16 bits can say, in steps of 0.1 µW


class DeviceUse(str, Enum):
    """Whether a kind is about one device (physical id) or the host as a whole."""

    NEEDED = "needed"  # without one: every device of the host
    OPTIONAL = "optional"
    ONE = "one"  # of one host
    NONE = "none"


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    ``value_rule`` says in words what ``value`` may be; ``accepts`` judges it; ``default`` stands in
    when it is left out. ``check`` is the id of the check whose cell should show the fault.
    ``names_peer``: the value is another device of the cluster, as ``HOST:DEVICE``. ``plane``: the network
    that it is about, ``hccs`` (A3) or ``roce``; a cluster without it cannot have the fault.
    """

    name: str
    summary: str
    check: str
    device: DeviceUse = DeviceUse.NEEDED
    value_rule: str = "takes no value"
    accepts: Callable[[str], bool] | None = None
    default: str | None = None
    takes_command: bool = False
    names_peer: bool = False
    plane: str = ""


def _one_of(*words: str) -> Callable[[str], bool]:
    return lambda value: value in words


def _is_ipv4(value: str) -> bool:
    try:
        ipaddress.IPv4Address(value)
    except ValueError:
        return False
    return True


def _is_busy_count(value: str) -> bool:
    return value == "permanent" or (value.isdecimal() and int(value) > 0)


def _is_hccs_link(value: str) -> bool:
    return value.isdecimal() and int(value) < HCCS_LINKS


def _in(numbers: range) -> Callable[[str], bool]:
    return lambda value: value.isascii() and value.isdecimal() and int(value) in numbers


def _is_optical_power(value: str) -> bool:
    return bool(re.fullmatch(r"[0-9](\.[0-9]{1,4})?", value)) and float(value) <= OPTICAL_POWER_MAX_MW


def is_peer(value: str) -> bool:
    """Whether a value has the form ``HOST:DEVICE``."""
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]{1,2}", value))


def _is_share(value: str, *suffixes: str) -> bool:
    """A percentage above 0, as ``30`` or ``0.5``, with one of the suffixes or none."""
    number = next((value.removesuffix(f"-{end}") for end in suffixes if value.endswith(f"-{end}")), value)
    return bool(re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", number)) and 0 < float(number) <= 100


def _is_port_range(value: str) -> bool:
    match = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})(-reject)?", value)
    return match is not None and 0 < int(match[1]) <= int(match[2]) < 65536


def _is_seconds(value: str) -> bool:
    return bool(re.fullmatch(r"[+-]?[0-9]{1,8}(\.[0-9]{1,3})?", value))


def _is_word(value: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value))


_ADDRESS = "an IPv4 address"
_PERCENT = "a percentage above 0, up to 100"
_VERSION = "a version: letters, digits, dots and dashes"
_PEER = "another device, as HOST:DEVICE"
_COUNTS = range(1, 2**32)
_COUNT = "a count from 1"

# What only the deep profile judges.
DEEP_KINDS: tuple[Kind, ...] = (
    Kind(
        "optical-absent",
        "the port has no optical module (VALUE table: said by a table of NA, not in a sentence)",
        "optical",
        value_rule="table, or nothing",
        accepts=_one_of("table"),
    ),
    Kind(
        "optical-rx-low",
        "lane 1 of the optical module receives VALUE mW of light",
        "optical",
        value_rule=f"a power from 0 to {OPTICAL_POWER_MAX_MW} mW, with at most four decimals",
        accepts=_is_optical_power,
        default="0.0500",
    ),
    Kind(
        "link-flaps",
        "the port's link was lost VALUE times and came back each time",
        "link-flaps",
        value_rule=_COUNT,
        accepts=_in(_COUNTS),
        default="12",
    ),
    Kind(
        "port-errors",
        "the port received VALUE packets with a wrong checksum",
        "port-errors",
        value_rule=_COUNT,
        accepts=_in(_COUNTS),
        default="5000",
    ),
    Kind(
        "half-speed",
        "the port runs at VALUE Mb/s",
        "speed",
        value_rule="a speed in Mb/s",
        accepts=_in(_COUNTS),
        default="100000",
    ),
    Kind("half-duplex", "the port runs in half duplex", "speed"),
    Kind(
        "mtu",
        "the port's MTU is VALUE bytes",
        "mtu",
        value_rule=f"bytes from {MTU_BYTES[0]} to {MTU_BYTES[-1]}",
        accepts=_in(MTU_BYTES),
        default="1500",
    ),
    Kind(
        "fec",
        "the port's FEC mode is VALUE",
        "fec",
        value_rule="one of " + ", ".join(FEC_WORDS),
        accepts=_one_of(*FEC_WORDS),
        default="no",
    ),
    Kind(
        "ecc-errors",
        "the device's HBM had VALUE errors of two bits, which cannot be corrected",
        "ecc",
        value_rule=_COUNT,
        accepts=_in(_COUNTS),
        default="2",
    ),
    Kind(
        "hccs-errors",
        "HCCS link 0 of the device counted VALUE CRC errors and sent as many packets again",
        "hccs-errors",
        value_rule=_COUNT,
        accepts=_in(_COUNTS),
        default="4000",
    ),
    Kind(
        "npu-process",
        "another user's process holds the device, with VALUE MiB of its HBM",
        "npu-processes",
        value_rule="MiB from 1",
        accepts=_in(_COUNTS),
        default="2048",
    ),
    Kind(
        "hbm-in-use",
        "VALUE percent of the device's HBM are in use, by no process that is listed",
        "hbm-use",
        value_rule="a percentage from 0 to 100",
        accepts=_in(range(101)),
        default="60",
    ),
    Kind(
        "open-files",
        "a login may open VALUE files (`ulimit -n`)",
        "open-files",
        DeviceUse.NONE,
        value_rule=f"a number from {OPEN_FILES[0]} to {OPEN_FILES[-1]}",
        accepts=_in(OPEN_FILES),
        default="1024",
    ),
    Kind("no-huge-pages", "the host has no huge pages", "huge-pages", DeviceUse.NONE),
    Kind(
        "time-unsynchronized",
        "the host's clock follows no time server, although the service is on",
        "time-service",
        DeviceUse.NONE,
    ),
)

# What shows only between hosts: in pings, or in what one host says and another does not.
BETWEEN_HOSTS: tuple[Kind, ...] = (
    Kind(
        "port-loss",
        "the RoCE port loses VALUE percent of the round trips, on the way out or in alone if it says so",
        "mesh",
        value_rule=f"{_PERCENT}, with -out or -in behind it for one way",
        accepts=lambda value: _is_share(value, "out", "in"),
        default="100",
        plane="roce",
    ),
    Kind(
        "hccs-port-down",
        "nothing gets through between the die and the HCCS switches of its pod, though its links look well",
        "mesh",
        plane="hccs",
    ),
    Kind(
        "hccs-loss",
        "VALUE percent of the round trips between the die and its pod's HCCS switches are lost",
        "mesh",
        value_rule=f"{_PERCENT}, with -out or -in behind it for one way",
        accepts=lambda value: _is_share(value, "out", "in"),
        default="30",
        plane="hccs",
    ),
    Kind(
        "hccs-ping-denied",
        "the account is not root, and hccn_tool lets root alone send -hccs_ping",
        "mesh",
        DeviceUse.NONE,
        plane="hccs",
    ),
    Kind("npu-silent", "the NPU that holds the device loses every ping (A3: of both dies)", "mesh"),
    Kind(
        "host-isolated",
        "no device of the host reaches another host, while SSH does as ever",
        "mesh",
        DeviceUse.NONE,
    ),
    Kind(
        "leaf-switch-down",
        "the leaf switch behind the device forwards nothing, its links stay UP "
        "(VALUE uplinks: nothing to other switches)",
        "mesh",
        value_rule="uplinks, or nothing",
        accepts=_one_of("uplinks"),
        plane="roce",
    ),
    Kind(
        "switch-loss",
        "the leaf switch behind the device loses VALUE percent of the round trips",
        "mesh",
        value_rule=f"{_PERCENT}, with -uplinks behind it for those to other switches alone",
        accepts=lambda value: _is_share(value, "uplinks"),
        default="30",
        plane="roce",
    ),
    Kind(
        "cable-swap",
        "the cables of the device and of VALUE are exchanged",
        "mesh",
        DeviceUse.ONE,
        value_rule=_PEER,
        accepts=is_peer,
        names_peer=True,
        plane="roce",
    ),
    Kind(
        "ip-duplicate",
        "the device has the address, netmask and gateway of VALUE, live and in hccn.conf",
        "duplicate-address",
        DeviceUse.ONE,
        value_rule=_PEER,
        accepts=is_peer,
        names_peer=True,
        plane="roce",
    ),
    Kind(
        "sdid-duplicate",
        "the device has the super pod ids of VALUE; its vNIC follows",
        "super-pods",
        DeviceUse.ONE,
        value_rule=_PEER,
        accepts=is_peer,
        names_peer=True,
        plane="hccs",
    ),
    Kind(
        "other-super-pod",
        "the host is in super pod VALUE",
        "super-pods",
        DeviceUse.NONE,
        value_rule="a super pod id",
        accepts=_in(range(2**31)),
        default="99",
        plane="hccs",
    ),
    Kind(
        "pod-split",
        "the host has no HCCS to hosts without this fault, though they report one super pod",
        "mesh",
        DeviceUse.NONE,
        plane="hccs",
    ),
    Kind(
        "tls-switch",
        "the TLS switch reads VALUE",
        "tls-switch",
        value_rule="0 or 1",
        accepts=_one_of("0", "1"),
        default="1",
    ),
    Kind(
        "npu-model",
        "npu-smi calls the NPU VALUE",
        "npu-model",
        value_rule="a model: letters, digits, underscores and dashes",
        accepts=_is_word,
        default="910B4",
    ),
    *(
        Kind(
            f"{part}-version",
            f"the host's {what} is of version VALUE",
            "versions-equal",
            DeviceUse.NONE,
            value_rule=_VERSION,
            accepts=_is_word,
            default=version,
        )
        for part, what, version in (
            ("driver", "driver", "25.3.rc1"),
            ("firmware", "firmware", "7.7.0.6.236"),
            ("cann", "CANN", "8.3.RC1"),
        )
    ),
    Kind(
        "clock-skew",
        "the host's clock is VALUE seconds off",
        "clock",
        DeviceUse.NONE,
        value_rule="seconds, as 300 or -0.5",
        accepts=_is_seconds,
        default="300",
    ),
    Kind(
        "hostname",
        "the host calls itself VALUE",
        "hostnames",
        DeviceUse.NONE,
        value_rule="a host name",
        accepts=_is_word,
        default="localhost",
    ),
    Kind("hostname-loopback", "the host's name leads to 127.0.1.1", "hostnames", DeviceUse.NONE),
    Kind("hostname-unresolved", "the host's name leads to no address", "hostnames", DeviceUse.NONE),
    Kind(
        "host-nic-loss",
        "the host's interface loses VALUE percent of the round trips",
        "host-net",
        DeviceUse.NONE,
        value_rule=_PERCENT,
        accepts=_is_share,
        default="100",
    ),
    Kind(
        "host-mtu",
        "packets above VALUE bytes are lost on the way to the host's interface",
        "host-net",
        DeviceUse.NONE,
        value_rule=f"bytes from {MTU_BYTES[0]} to {MTU_BYTES[-1]}",
        accepts=_in(MTU_BYTES),
        default="1400",
    ),
    Kind("host-route-missing", "the host has no route to the others", "host-net", DeviceUse.NONE),
    Kind(
        "host-firewall",
        "TCP to the host's ports VALUE is dropped, or rejected if it says so",
        "host-net",
        DeviceUse.NONE,
        value_rule="FIRST-LAST, with -reject behind it if it is said no",
        accepts=_is_port_range,
        default="60000-60031",
    ),
)

# What one host shows in the standard profile.
STANDARD_KINDS: tuple[Kind, ...] = (
    Kind("link-down", "the port's link is DOWN; net_health and LLDP follow", "link"),
    Kind(
        "net-health",
        "net_health reads VALUE while the link is UP",
        "net-health",
        value_rule="one of " + ", ".join(NET_HEALTH_WORDS),
        accepts=_one_of(*NET_HEALTH_WORDS),
        default="Receive timeout",
    ),
    Kind("no-lldp", "the port hears no LLDP neighbour", "lldp"),
    Kind("tls-unreadable", "the TLS switch cannot be read", "tls"),
    Kind(
        "ip-missing",
        "no RoCE address is set, live or in hccn.conf (VALUE live: hccn.conf still has it)",
        "address",
        value_rule="live, or nothing",
        accepts=_one_of("live"),
    ),
    Kind(
        "wrong-netmask",
        "the netmask is VALUE, unlike its sibling ports, live and in hccn.conf",
        "address",
        value_rule=_ADDRESS,
        accepts=_is_ipv4,
        default="255.255.0.0",
    ),
    Kind(
        "gateway-outside",
        "the gateway is VALUE, outside the port's segment, live and in hccn.conf",
        "gateway",
        value_rule=_ADDRESS,
        accepts=_is_ipv4,
        default="10.99.0.1",
    ),
    Kind(
        "hccn-conf-stale",
        "hccn.conf holds address VALUE, the live address is another",
        "hccn-conf",
        value_rule=_ADDRESS,
        accepts=_is_ipv4,
        default="10.98.0.9",
    ),
    Kind("hccn-conf-missing", "/etc/hccn.conf does not exist", "hccn-conf", DeviceUse.NONE),
    Kind("npu-missing", "the NPU that holds the device is not on the bus (A3: both dies)", "npu-count"),
    Kind(
        "npu-health",
        "npu-smi gives the NPU's health as VALUE, with an error code",
        "npu-health",
        value_rule="one of " + ", ".join(NPU_HEALTH_WORDS),
        accepts=_one_of(*NPU_HEALTH_WORDS),
        default="Alarm",
    ),
    Kind(
        "hccs-lanes",
        "HCCS link VALUE of the device runs on two of its four lanes",
        "hccs-links",
        value_rule=f"the number of a link, 0 to {HCCS_LINKS - 1}",
        accepts=_is_hccs_link,
        default="0",
    ),
    Kind(
        "spod-invalid", "the device has no valid super pod ids; its vNIC follows", "spod-info", plane="hccs"
    ),
    Kind("ssh-refused", "nothing listens on the host's SSH port", "reachable", DeviceUse.NONE),
    Kind("ssh-auth", "the host accepts no key", "reachable", DeviceUse.NONE),
    Kind("ssh-hang", "the host takes the TCP connection and never says a word", "reachable", DeviceUse.NONE),
    Kind(
        "command-hang",
        "a command never returns; VALUE is the form: ignores TERM, leaves a grandchild, cannot be killed",
        "the check of that command",
        DeviceUse.OPTIONAL,
        value_rule="one of " + ", ".join(HANG_FORMS),
        accepts=_one_of(*HANG_FORMS),
        default="ignores-term",
        takes_command=True,
    ),
    Kind(
        "garbage-output",
        "a command prints bytes that are no text and exits 0",
        "the check of that command",
        DeviceUse.OPTIONAL,
        takes_command=True,
    ),
    Kind(
        "truncated-output",
        "a command's output ends half-way and it exits 0",
        "the check of that command",
        DeviceUse.OPTIONAL,
        takes_command=True,
    ),
    Kind(
        "no-tool",
        "the tool VALUE is not installed",
        "tools",
        DeviceUse.NONE,
        value_rule="one of " + ", ".join(TOOLS),
        accepts=_one_of(*TOOLS),
        default="hccn_tool",
    ),
    Kind(
        "no-permission",
        "the account may not use the tool VALUE (without one: neither tool)",
        "tools",
        DeviceUse.NONE,
        value_rule="one of " + ", ".join(TOOLS),
        accepts=_one_of(*TOOLS),
    ),
    Kind(
        "busy",
        "hccn_tool says that it is busy VALUE times, then answers; or always",
        "the check of that command",
        DeviceUse.OPTIONAL,
        value_rule="a count from 1, or permanent",
        accepts=_is_busy_count,
        default="2",
        takes_command=True,
    ),
)

KINDS = (*STANDARD_KINDS, *DEEP_KINDS, *BETWEEN_HOSTS)

BY_NAME = {kind.name: kind for kind in KINDS}
