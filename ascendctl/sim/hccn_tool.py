"""hccn_tool of A2 and A3, answered from a host's state: streams, spacing and exit codes as the tool's.

Formats are those of the published driver source (hicann/driver, hccn_tool for 910B and A3) and of real
captures: glued colons here (``ipaddr:``), spaced ones there (``link status: ``), error texts on stderr
except the informational ones, exit codes that are the low byte of an internal code and so collide.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from ascendctl.sim import counters, optical
from ascendctl.sim.answer import Answer, saying
from ascendctl.sim.model import Cluster, Die, Host, Neighbour, Port
from ascendctl.sim.ping_text import hccs_text, roce_text

LLDP_TEXT_LIMIT_BYTES = 1999
PING_PACKETS = 3

# name: (stream, exit code, text). Codes beyond those that are documented are 1, the most common.
REFUSALS: dict[str, tuple[str, int, str]] = {
    "busy": ("stdout", 11, "hccn_tool is busy, please try again."),
    "conf-access": (
        "stderr",
        1,
        "The hccn.conf can't access, cmd execute failed! pls check the conf file or cmd run permission.",
    ),
    "no-device": ("stderr", 4, "The device is not exist!"),
    "timeout": ("stderr", 1, "The cmd line execute timeout!"),
    "no-address": ("stderr", 13, "Get ipconf failed, because no ip was preset there!"),
    "no-gateway": ("stderr", 2, "Get gateway failed, because no gateway was preset there!"),
    "tool-failed": ("stderr", 1, "Cmd execute failed!"),
    "device-failed": ("stderr", 1, "Command execute failed!"),
    "health-timeout": ("stderr", 3, "Get device health status failed!"),
    "i2c-busy": ("stdout", 1, "I2c is busy. Please try again."),
    "invalid-command": ("stderr", 1, "Get invalid major cmd.\nEnter [ hccn_tool -h ] for more details."),
    "invalid-device": ("stderr", 4, "Get invalid device id."),
    "link-down": ("stderr", 1, "Execute failed: Link status is down."),
    "no-module": ("stdout", 1, "Optical module is not present."),
    "control-link": ("stderr", 1, "Control link unreachable."),
    "permission": ("stderr", 12, "permission denied: pls check this cmd run permission."),
    "unsupported": ("stdout", 13, "The command is not supported on this product."),
    "virtual-machine": ("stderr", 1, "The VM does not support this command."),
    "occupied": ("stderr", 1, "The device is occupied. Please try again later."),
}


def refusal(name: str) -> Answer:
    """The answer of one of `REFUSALS`."""
    stream, exit_code, text = REFUSALS[name]
    return saying(text, stream, exit_code)


def answer(host: Host, arguments: Sequence[str], network: Cluster) -> Answer:
    """What ``hccn_tool ARGUMENTS`` gives; the order is ``-i ID -OPTION [-g|-s ...]``."""
    if host.hccn_tool_refusal is not None:
        return refusal(host.hccn_tool_refusal)
    if len(arguments) < 2 or arguments[0] != "-i":
        return refusal("invalid-command")
    if not arguments[1].isdecimal() or int(arguments[1]) not in host.phy_ids:
        return refusal("invalid-device")
    die = host.die(int(arguments[1]))
    if die is None:
        return refusal("no-device")
    option, rest = (arguments[2] if len(arguments) > 2 else ""), tuple(arguments[3:])
    if option in die.refusals:
        return refusal(die.refusals[option])
    if option in _PINGS and rest[:1] == ("-g",):
        return _PINGS[option](host, die, rest[1:], network)
    if option == "-tls" and rest[:2] == ("-s", "enable"):
        return _set_tls(die, rest[2:])
    if option in _GETTERS and rest == ("-g",):
        return _GETTERS[option](host, die)
    return refusal("tool-failed" if option in _GETTERS or option in _PINGS else "invalid-command")


# --- getters --------------------------------------------------------------------------------------


def _ip(host: Host, die: Die) -> Answer:
    if die.port.address is None:
        return refusal("no-address")
    return saying(f"ipaddr:{die.port.address}\nnetmask:{die.port.netmask}")


def _gateway(host: Host, die: Die) -> Answer:
    if die.port.gateway is None:
        return refusal("no-gateway")
    return saying(f"default gateway:{die.port.gateway}, Iface:eth{die.phy_id}")


def _netdetect(host: Host, die: Die) -> Answer:
    if die.port.netdetect is None:
        return refusal("device-failed")
    return saying(f"netdetect {host.netdetect_label}: {die.port.netdetect}")


def _link(host: Host, die: Die) -> Answer:
    return saying(f"link status: {_up(die.port.link_up)}")


def _net_health(host: Host, die: Die) -> Answer:
    return saying(f"net health status: {die.port.shown_net_health}")


def _vnic(host: Host, die: Die) -> Answer:
    vnic = die.vnic
    return saying(
        f"vnic link status: {_up(vnic.link_up)}\nvnic ipaddr: {vnic.address}\nvnic netmask: {vnic.netmask}"
    )


def _tls(host: Host, die: Die) -> Answer:
    if die.port.tls_switch is None:
        return refusal("device-failed")
    return saying(
        f"dev_id:{die.phy_id}, tls switch[{die.port.tls_switch}](0:disable, 1:enable), "
        f"tls preconfigured[{die.port.tls_preset}](0:non-preset, 1:preset), "
        "tls alarm time threshold[60]days"
    )


def _lldp(host: Host, die: Die) -> Answer:
    neighbour = die.port.shown_neighbour
    text = "" if neighbour is None else _lldp_text(neighbour)
    return Answer(text.encode()[:LLDP_TEXT_LIMIT_BYTES] + b"\n")


def _lldp_text(neighbour: Neighbour) -> str:
    sections = (
        ("Chassis ID TLV", f"MAC: {neighbour.chassis_mac}"),
        ("Port ID TLV", f"Ifname: {neighbour.port}"),
        ("Time To Live TLV", "120"),
        ("Port Description TLV", None),
        ("System Name TLV", neighbour.system_name),
        ("System Description TLV", neighbour.description),
        ("System Capabilities TLV", "Enabled capabilities: Bridge, Router"),
        ("Management Address TLV", f"IPv4: {neighbour.management_address}"),
        ("Maximum Frame Size TLV", "9216"),
        ("End of LLDPDU TLV", None),
    )
    return "\n".join(name if value is None else f"{name}\n\t{value}" for name, value in sections)


def _optical(host: Host, die: Die) -> Answer:
    """Without a module: the text for that, on stdout; ``optical.ABSENT`` is the other form of saying so."""
    if die.port.optical is None:
        return refusal("no-module")
    return saying(optical.text(die.port.optical))


def _link_stat(host: Host, die: Die) -> Answer:
    return saying(counters.history_text(host.link_stat_label, die.phy_id, die.port.link_history))


def _speed(host: Host, die: Die) -> Answer:
    return saying(f"Speed: {die.port.speed_mbps} Mb/s" if die.port.link_up else "Speed: Unknown!")


def _arp(host: Host, die: Die) -> Answer:
    rows = [f"? ({address}) at {mac} [ether]  on eth{die.phy_id}" for address, mac in die.port.arp]
    return saying("\n".join(["arp table:", *rows]))


def _pfc(host: Host, die: Die) -> Answer:
    enabled = " ".join(str(flag) for flag in die.port.pfc_enabled)
    return saying(f"PFC configuration:\npriority   0 1 2 3 4 5 6 7\nenabled    {enabled}")


def _route(host: Host, die: Die) -> Answer:
    """Routes as the device's own ``route`` prints them: columns of 16, 16 and 16, then the flags."""
    port, iface = die.port, f"eth{die.phy_id}"
    rows = []
    if port.gateway is not None:
        rows.append(("default", port.gateway, "0.0.0.0", "UG", iface))
    if port.address is not None and port.netmask is not None:
        segment = ipaddress.IPv4Network(f"{port.address}/{port.netmask}", strict=False)
        rows.append((str(segment.network_address), "*", port.netmask, "U", iface))
    rows.append(("127.0.0.1", "*", "255.255.255.255", "UH", "lo"))
    rows += [(f"192.168.{net}.0", "*", "255.255.255.0", "U", f"end{die.phy_id}v0") for net in (1, 2)]
    lines = [
        "Routing table:",
        "Destination     Gateway         Genmask         Flags Metric Ref    Use Iface",
        *(
            f"{to:<15} {via:<15} {mask:<15} {flags:<5} 0      0        0 {on}"
            for to, via, mask, flags, on in rows
        ),
    ]
    return saying("\n".join(lines))


def _status(host: Host, die: Die) -> Answer:
    """Ethtool's text behind a glued prefix; its ``Speed:`` has no blank before the unit."""
    up = die.port.link_up
    indent, modes_indent = " " * 8, " " * 32
    lines = [
        f"Netdev status:Settings for eth{die.phy_id}:",
        f"{indent}Supported ports: [ FIBRE ]",
        f"{indent}Supported link modes:   {_LINK_MODES[0]}",
        *(modes_indent + mode for mode in _LINK_MODES[1:]),
        f"{indent}Supported pause frame use: Symmetric",
        f"{indent}Supports auto-negotiation: No",
        f"{indent}Supported FEC modes: None        RS",
        f"{indent}Advertised link modes:  Not reported",
        f"{indent}Advertised pause frame use: No",
        f"{indent}Advertised auto-negotiation: No",
        f"{indent}Advertised FEC modes: None       RS",
        f"{indent}Speed: {f'{die.port.speed_mbps}Mb/s' if up else 'Unknown!'}",
        f"{indent}Duplex: {die.port.duplex if up else 'Unknown! (255)'}",
        f"{indent}Auto-negotiation: off",
        f"{indent}Port: Direct Attach Copper",
        f"{indent}PHYAD: 0",
        f"{indent}Transceiver: internal",
        f"{indent}Current message level: 0x00000036 (54)",
        f"{' ' * 31}probe link ifdown ifup",
        f"{indent}Link detected: {'yes' if up else 'no'}",
    ]
    return saying("\n".join(lines))


_LINK_MODES = (
    *(f"40000base{kind}4/Full" for kind in ("CR", "SR", "LR")),
    *(f"25000base{kind}/Full" for kind in ("CR", "SR")),
    "50000baseCR2/Full",
    "100000baseSR4/Full",
    "100000baseCR4/Full",
    "100000baseLR4_ER4/Full",
    "50000baseSR2/Full",
    "1000baseX/Full",
    *(f"10000base{kind}/Full" for kind in ("CR", "SR", "LR")),
    "50000baseLR_ER_FR/Full",
    "200000baseSR4/Full",
    "200000baseLR4_ER4_FR4/Full",
    "200000baseCR4/Full",
)


def _statistics(host: Host, die: Die) -> Answer:
    return saying(counters.statistics_text(die.port.statistics))


def _rdma_statistics(host: Host, die: Die) -> Answer:
    return saying(counters.rdma_text(die.phy_id, die.port.rdma_statistics))


def _up(up: bool) -> str:
    return "UP" if up else "DOWN"


def _port_line(line: Callable[[Port], str]) -> Callable[[Host, Die], Answer]:
    return lambda host, die: saying(line(die.port))


_GETTERS: dict[str, Callable[[Host, Die], Answer]] = {
    "-ip": _ip,
    "-gateway": _gateway,
    "-netdetect": _netdetect,
    "-link": _link,
    "-net_health": _net_health,
    "-vnic": _vnic,
    "-tls": _tls,
    "-lldp": _lldp,
    "-link_stat": _link_stat,
    "-speed": _speed,
    "-arp": _arp,
    "-pfc": _pfc,
    "-route": _route,
    "-status": _status,
    "-stat": _statistics,
    "-hw_stats": _rdma_statistics,
    "-optical": _optical,
    "-mac": _port_line(lambda port: f"mac addr: {port.mac}"),
    "-mtu": _port_line(lambda port: f"mtu:{port.mtu}"),
    "-duplex": _port_line(lambda port: f"Duplex: {port.duplex if port.link_up else 'Unknown!'}"),
    "-fec": _port_line(lambda port: f"fec mode: {port.fec}"),
    "-udp": _port_line(lambda port: "udp_port:Unknown\nstatus:auto"),
    "-bandwidth": _port_line(
        lambda port: f"Bandwidth TX: {0:5d}.{0:02d} MB/sec\nBandwidth RX: {0:5d}.{0:02d} MB/sec"
    ),
}


# --- what is not a getter -------------------------------------------------------------------------


def _set_tls(die: Die, rest: tuple[str, ...]) -> Answer:
    """The state cannot change: setting what is already set succeeds, anything else fails."""
    done = die.port.tls_switch is not None and rest == (str(die.port.tls_switch),)
    return saying("Cmd executed successfully!") if done else refusal("device-failed")


def _ping(host: Host, die: Die, rest: tuple[str, ...], network: Cluster) -> Answer:
    """A single lost packet already makes the tool exit 1, with its text complete on stdout.

    It always sends as many packets; ``pkt`` is their size.
    """
    address, size = _address(rest), rest[2:]
    if address is None or (size and (len(size) != 2 or size[0] != "pkt" or not size[1].isdecimal())):
        return refusal("tool-failed")
    times_ms = network.roce_ping(die, address, PING_PACKETS)
    text = roce_text(die.phy_id, address, times_ms).encode()
    if None not in times_ms:
        return Answer(text)
    failed = refusal("device-failed")
    return Answer(text, failed.stderr, failed.exit_code)


def _hccs_ping(host: Host, die: Die, rest: tuple[str, ...], network: Cluster) -> Answer:
    """Every packet, lost or not, has its ``recv seq`` line; loss does not change the exit code.

    Takes ``address A`` and, in any order, ``pkt`` (bytes), ``cnt`` (packets), ``interval`` (ms) and
    ``timeout`` (ms); of these only ``cnt`` changes what is printed.
    """
    if host.generation != "a3":
        return refusal("unsupported")
    address, options = _address(rest), _numbers(rest[2:])
    if address is None or options is None:
        return refusal("tool-failed")
    packets = network.hccs_ping(die, address, options.get("cnt", PING_PACKETS))
    return Answer(hccs_text(die.phy_id, address, packets).encode())


def _address(rest: tuple[str, ...]) -> str | None:
    if len(rest) < 2 or rest[0] != "address":
        return None
    try:
        return str(ipaddress.IPv4Address(rest[1]))
    except ValueError:
        return None


_HCCS_PING_RANGES = {"pkt": (1792, 3000), "cnt": (1, 1000), "interval": (0, 10), "timeout": (1, 20_000)}


def _numbers(words: tuple[str, ...]) -> dict[str, int] | None:
    """``cnt 10 pkt 2000`` as numbers; None where one is unknown, no number, or out of its range."""
    numbers = {}
    for name, value in zip(words[::2], (*words[1::2], ""), strict=False):
        low, high = _HCCS_PING_RANGES.get(name, (1, 0))
        if not value.isdecimal() or not low <= int(value) <= high:
            return None
        numbers[name] = int(value)
    return numbers


_PINGS = {"-ping": _ping, "-hccs_ping": _hccs_ping}
