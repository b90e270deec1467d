"""The kinds of fault a simulated cluster can be seeded with: name, what it does, what it takes.

Kinds that only show between hosts (``BETWEEN_HOSTS``) are named, so that a spec that asks for one is
told that it is not simulated, rather than that it is misspelt.
"""

from __future__ import annotations

import ipaddress
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
HCCS_LINKS = 7


class DeviceUse(str, Enum):
    """Whether a kind is about one device (physical id) or the host as a whole."""

    NEEDED = "needed"  # without one: every device of the host
    OPTIONAL = "optional"
    NONE = "none"


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    ``value_rule`` says in words what ``value`` may be; ``accepts`` judges it; ``default`` stands in
    when it is left out. ``check`` is the id of the check whose cell should show the fault.
    """

    name: str
    summary: str
    check: str
    device: DeviceUse = DeviceUse.NEEDED
    value_rule: str = "takes no value"
    accepts: Callable[[str], bool] | None = None
    default: str | None = None
    takes_command: bool = False


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


_ADDRESS = "an IPv4 address"

KINDS: tuple[Kind, ...] = (
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
    Kind("spod-invalid", "the device has no valid super pod ids; its vNIC follows (A3)", "spod-info"),
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

BY_NAME = {kind.name: kind for kind in KINDS}

BETWEEN_HOSTS = (
    "tls-switch",
    "ip-duplicate",
    "sdid-duplicate",
    "driver-version",
    "clock-skew",
    "port-loss",
    "hccs-port-down",
    "leaf-switch-down",
    "cable-swap",
)
