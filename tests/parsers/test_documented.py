"""Every documented form and every error text, and what is one step away from them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ascendctl.parsers import UnknownCommand, facts_json, parse
from ascendctl.probe.catalogue import COMMANDS
from tests.parsers import samples
from tests.parsers.samples import WHOLE, fields, info_table, mapping

LINK = "hccn_tool -i 3 -link -g"
IP = "hccn_tool -i 3 -ip -g"
PING = "hccn_tool -i 3 -ping -g address 10.1.2.3"
HCCS_PING = "hccn_tool -i 3 -hccs_ping -g address 192.9.3.196"
LINK_STAT = "hccn_tool -i 3 -link_stat -g"
LLDP = "hccn_tool -i 3 -lldp -g"
CONF = "cat /etc/hccn.conf"
INFO = "npu-smi info"
MAPPING = "npu-smi info -m"
TOPO = "npu-smi info -t topo"
HCCS = "npu-smi info -t hccs -i 0 -c 0"
HEALTH = "npu-smi info -t health -i 0 -c 0"
SPOD = "npu-smi info -t spod-info -i 0 -c 0"


def read(command: str, text: str | bytes, **rest: Any) -> tuple[str, Any, str]:
    data = text if isinstance(text, bytes) else text.encode()
    parsed = parse(command, data, **rest)
    assert (parsed.status.value == "ok") is (parsed.facts is not None)
    assert (parsed.status.value == "ok") is not bool(parsed.reason)
    return parsed.status.value, facts_json(parsed.facts), parsed.reason


def _pair(target: str, transmitted: int, received: int, loss: float) -> dict[str, Any]:
    return {"target": target, "transmitted": transmitted, "received": received, "loss_percent": loss}


def _spod(*values: int) -> dict[str, int]:
    return dict(zip(("sdid", "super_pod_size", "super_pod_id", "server_index"), values, strict=True))


_LLDP_FACTS = {
    "chassis_id": "00:11:22:aa:bb:cc",
    "port_id": "400GE2/0/7:1",
    "system_name": "leaf-04",
    "system_description": "Some Routing Platform\nVersion 8.1\n\nhccn_tool is busy, please try again.",
}
_PING_LOST = samples.PING.replace("recv seq=2,time=0.090000ms", "recv time out seq=2")
_PING_LOST = _PING_LOST.replace("2 received, 33.33%", "1 received, 66.67%")

OK: list[tuple[str, str, Any]] = [
    (LINK, "link status: UP\n", {"link_status": "UP"}),
    (LINK, "link status: DOWN", {"link_status": "DOWN"}),
    (LINK, "\n\n   \tlink status:UP \r\n\n", {"link_status": "UP"}),
    ("hccn_tool -g -link -i 3", "link status: UP\n", {"link_status": "UP"}),
    ("/usr/local/bin/hccn_tool -link -i 3 -g", "link status: UP\n", {"link_status": "UP"}),
    *[
        ("hccn_tool -i 0 -net_health -g", f"net health status: {word}\n", {"net_health": meant})
        for word, meant in [
            ("Success", "Success"),
            ("Socket fail", "Socket fail"),
            ("Socket failed", "Socket fail"),
            ("Receive timeout", "Receive timeout"),
            ("Unreachable", "Unreachable"),
            ("Time exceeded", "Time exceeded"),
            ("Fault", "Fault"),
            ("Init", "Init"),
            ("Thread error", "Thread error"),
            ("Detect ip set", "Detect ip set"),
            ("Unknown", "Unknown"),
        ]
    ],
    (IP, "ipaddr:10.1.2.10\nnetmask:255.255.254.0\n", {"address": "10.1.2.10", "netmask": "255.255.254.0"}),
    ("hccn_tool -i 3 -netdetect -g", "netdetect address: 10.1.2.1\n", {"address": "10.1.2.1"}),
    ("hccn_tool -i 3 -netdetect -g", "netdetect addr: 10.1.2.1\n", {"address": "10.1.2.1"}),
    (
        "hccn_tool -i 3 -gateway -g",
        "default gateway:10.1.2.1, Iface:eth3\n",
        {"address": "10.1.2.1", "interface": "eth3"},
    ),
    ("hccn_tool -i 3 -gateway -g", "gateway:10.1.2.1\n", {"address": "10.1.2.1", "interface": None}),
    (
        "hccn_tool -i 3 -vnic -g",
        WHOLE["hccn_tool -i 3 -vnic -g"].replace("UP", "DOWN"),
        {"link_status": "DOWN", "address": "192.9.3.196", "netmask": "255.255.255.0"},
    ),
    (LLDP, samples.LLDP, _LLDP_FACTS),
    (
        LLDP,
        "Port ID TLV\n\tMAC: 00:11:22:aa:bb:cc\nEnd of LLDPDU TLV\n\n",
        {"chassis_id": None, "port_id": "00:11:22:aa:bb:cc", "system_name": None, "system_description": None},
    ),
    ("hccn_tool -i 3 -tls -g", samples.TLS, {"tls_switch": 0}),
    ("hccn_tool -i 3 -tls -g", samples.TLS_OLD, {"tls_switch": 1}),
    (PING, samples.PING, _pair("10.1.2.3", 3, 2, 33.33)),
    (PING, _PING_LOST, _pair("10.1.2.3", 3, 1, 66.67)),
    (HCCS_PING, samples.HCCS_PING, _pair("192.9.3.196", 2, 1, 50.0)),
    ("hccn_tool -hccs_ping -g address … -i 3", samples.HCCS_PING, _pair("192.9.3.196", 2, 1, 50.0)),
    (
        LINK_STAT,
        samples.LINK_STAT,
        {
            "up_count": 2,
            "down_count": 1,
            "records": [
                {"time": "Mon Sep 28 10:13:51 2026", "link_status": "UP"},
                {"time": "Mon Sep 28 10:13:50 2026", "link_status": "DOWN"},
                {"time": "Mon Sep 28 10:13:35 2026", "link_status": "UP"},
            ],
        },
    ),
    (
        CONF,
        samples.HCCN_CONF,
        {
            "devices": {
                "0": {
                    "address": "10.1.2.10",
                    "netmask": "255.255.255.0",
                    "gateway": "10.1.2.1",
                    "netdetect": "10.1.2.1",
                    "mtu_bytes": None,
                },
                "13": {
                    "address": "10.1.3.10",
                    "netmask": "255.255.254.0",
                    "gateway": None,
                    "netdetect": None,
                    "mtu_bytes": None,
                },
            }
        },
    ),
    (
        CONF,
        "address_2 = 10.0.0.2",
        {
            "devices": {
                "2": {
                    "address": "10.0.0.2",
                    "netmask": None,
                    "gateway": None,
                    "netdetect": None,
                    "mtu_bytes": None,
                }
            }
        },
    ),
    (
        CONF,
        "address_2=10.0.0.2\nmtu_2=9000\nmtu_3 = 1500 \n",
        {
            "devices": {
                "2": {
                    **dict.fromkeys(("netmask", "gateway", "netdetect")),
                    "address": "10.0.0.2",
                    "mtu_bytes": 9000,
                },
                "3": {**dict.fromkeys(("address", "netmask", "gateway", "netdetect")), "mtu_bytes": 1500},
            }
        },
    ),
    (SPOD, samples.SPOD, _spod(37748736, 384, 2, 9)),
    (
        SPOD,
        fields(("SDID", "0"), ("Super Pod Size", "0"), ("Super Pod ID", "0"), ("Server Index", "0")),
        _spod(0, 0, 0, 0),
    ),
    (
        SPOD,
        fields(
            *[(label, "4294967295") for label in ("SDID", "Super Pod Size", "Super Pod ID", "Server Index")]
        ),
        _spod(*[4294967295] * 4),
    ),
    (HEALTH, samples.HEALTH, {"health": "OK", "error_codes": [], "error_information": []}),
    (
        HEALTH,
        samples.HEALTH.replace("Health Status", "Health       "),
        {"health": "OK", "error_codes": [], "error_information": []},
    ),
    (
        HEALTH,
        samples.ALARM,
        {
            "health": "Warning",
            "error_codes": ["80CB8009", "80F38003"],
            "error_information": ["first text", "second text: with a colon"],
        },
    ),
    (
        HCCS,
        samples.HCCS,
        {
            "health": "OK",
            "lane_mode": [4, 4, 2],
            "lane_list": ["1111", "1111", "0011"],
            "speed": [224, 224, 112],
            "counters": {"tx_packets": [10, 20, 30], "tx_bytes": [200, 400, 600], "error_count": [0, 0, 1]},
        },
    ),
    (
        TOPO,
        samples.TOPO_A2,
        {"ids": [0, 1, 2], "cells": [["X", "HCCS", "HCCS"], ["HCCS", "X", "HCCS"], ["HCCS", "HCCS", "X"]]},
    ),
    (TOPO, samples.TOPO_A3, {"ids": [4, 5], "cells": [["X", "SIO"], ["SIO", "X"]]}),
    (
        TOPO,
        samples.topo(["Phy-ID0", "Phy-ID1"], [["X", "XLink_SW"], ["XLink", "X"]], legend=False),
        {"ids": [0, 1], "cells": [["X", "HCCS_SW"], ["HCCS", "X"]]},
    ),
    (
        TOPO,
        samples.topo(
            ["NPU0", "NPU1", "NIC0"], [["X", "SYS", "PIX"], ["SYS", "X", "PHB"], ["PIX", "PHB", "X"]]
        ),
        {"ids": [0, 1], "cells": [["X", "SYS"], ["SYS", "X"]]},
    ),
    (MAPPING, "There is no NPU card on this server.\n", {"chips": []}),
    (
        MAPPING,
        mapping([("2", "0", "0", "Ascend 910A")], phy_id=False, indent="        "),
        {"chips": [{"npu_id": 2, "chip_id": 0, "logic_id": 0, "phy_id": None, "name": "Ascend 910A"}]},
    ),
    (
        MAPPING,
        mapping([("6", "0", "0", "12", "Ascend910"), ("6", "2", "-", "-", "Mcu")], phy_id=True, indent=""),
        {"chips": [{"npu_id": 6, "chip_id": 0, "logic_id": 0, "phy_id": 12, "name": "Ascend910"}]},
    ),
    (
        "npu-smi info -l",
        samples.CARD_LIST,
        {"cards": [{"npu_id": 0, "chip_count": 1}, {"npu_id": 5, "chip_count": 1}]},
    ),
    ("npu-smi -v", "npu-smi version: 25.2.0\n", "25.2.0"),
    (
        "npu-smi info -i 3 -t board -c 0",
        samples.BOARD,
        {"npu_id": 3, "chip_id": 0, "fields": {"Chip Name": "910B2", "PCIe Bus Info": "0000:C1:00.0"}},
    ),
    ("hostname", "node-07\n", "node-07"),
    ("hostname -i", "10.30.1.11 \n", ["10.30.1.11"]),
    ("hostname -i", "fe80::1%eth0 ::1 127.0.1.1\n", ["fe80::1", "::1", "127.0.1.1"]),
    (
        "uname -srm",
        "Linux 5.10.0-216.oe2203.aarch64 aarch64\n",
        {"release": "5.10.0-216.oe2203.aarch64", "architecture": "aarch64"},
    ),
    ("date +%s.%N", "1790000000.250000000\n", 1790000000.25),
    (
        "ip -o addr show",
        samples.ADDRESSES,
        [
            {"interface": "lo", "address": "127.0.0.1", "prefix_length": 8},
            {"interface": "enp5s0", "address": "10.0.0.5", "prefix_length": 16},
            {"interface": "enp5s0", "address": "fe80::1", "prefix_length": 64},
            {"interface": "tun0", "address": "10.8.0.6", "prefix_length": 32},
        ],
    ),
    (
        "cat /etc/os-release",
        '# x\nNAME=Ubuntu\nVERSION=\'22.04 LTS\'\nHOME_URL="https://a.b/?c=\\"d\\""\n',
        "Ubuntu 22.04 LTS",
    ),
    ("cat /etc/os-release", 'PRETTY_NAME="openEuler 22.03"\nNAME=x\n', "openEuler 22.03"),
    ("cat /usr/local/Ascend/driver/version.info", "Version=25.2.0\npackage_version=1\n", "25.2.0"),
    ("cat /a/ascend_toolkit_install.info", "package_name=x\nversion=8.2.RC1\ninnerversion=V1\n", "8.2.RC1"),
]


@pytest.mark.parametrize(("command", "text", "facts"), OK)
def test_documented_form(command: str, text: str, facts: Any) -> None:
    status, found, reason = read(command, text)
    assert (status, reason) == ("ok", "")
    assert found == facts
    json.dumps(found)


# What must not pass: (command, text, part of the reason).
UNPARSED: list[tuple[str, str, str]] = [
    (LINK, "link status: Up\n", "line 1"),
    (LINK, "link status: UP DOWN\n", "line 1"),
    (LINK, "link status: U", "line 1"),
    (LINK, "link status: UP\nlink status: UP\n", "line 2"),
    (LINK, "link status: UP\nnet health status: Success\n", "line 2"),
    (LINK, "Welcome to this host\nlink status: UP\n", "line 1"),
    (LINK, "", "nothing was printed"),
    (LINK, "\n\n", "nothing was printed"),
    (LINK, "x" * 5000, "line 1: longer than"),
    ("hccn_tool -i 0 -net_health -g", "net health status: Detecting\n", "line 1"),
    ("hccn_tool -i 0 -net_health -g", "net health status: success\n", "line 1"),
    (IP, "ipaddr:10.1.2.256\nnetmask:255.255.255.0\n", "line 1"),
    (IP, "ipaddr:10.1.2\nnetmask:255.255.255.0\n", "line 1"),
    (IP, "ipaddr:10.01.2.3\nnetmask:255.255.255.0\n", "line 1"),
    (IP, "ipaddr:10.1.2.٣\nnetmask:255.255.255.0\n", "line 1"),
    (IP, "ipaddr:10.1.2.3\nnetmask:255.255.0.255\n", "line 2"),
    (IP, "ipaddr:10.1.2.3\nnetmask:255.255.255.2\n", "line 2"),
    (IP, "ipaddr:10.1.2.3\n", "before 'netmask'"),
    (IP, "ipaddr:fe80::1\nnetmask:255.255.255.0\n", "line 1"),
    ("hccn_tool -i 3 -netdetect -g", "netdetect addr: 10.1.2.1", "no line end"),
    ("hccn_tool -i 3 -netdetect -g", "netdetect host: 10.1.2.1\n", "line 1"),
    ("hccn_tool -i 3 -gateway -g", "default gateway:10.1.2.1, Iface:eth1", "no line end"),
    ("hccn_tool -i 3 -gateway -g", "default gateway:10.1.2.1, Iface:\n", "line 1"),
    ("hccn_tool -i 3 -gateway -g", "default gateway:10.1.2.300, Iface:eth1\n", "line 1"),
    (
        "hccn_tool -i 3 -gateway -g",
        "default gateway:1.1.1.1, Iface:eth0\ndefault gateway:1.1.1.1, Iface:eth1\n",
        "line 2",
    ),
    ("hccn_tool -i 3 -vnic -g", "vnic link status: UP\nvnic ipaddr: 192.9.3.196\n", "before 'vnic netmask'"),
    ("hccn_tool -i 3 -vnic -g", WHOLE["hccn_tool -i 3 -vnic -g"].replace("192.", "392."), "line 2"),
    ("hccn_tool -i 4 -tls -g", samples.TLS, "device 3, asked was device 4"),
    ("hccn_tool -i 3 -tls -g", samples.TLS.replace("switch[0]", "switch[2]"), "line 1"),
    ("hccn_tool -i 3 -tls -g", samples.TLS + "dev_id:4, [crl] info:\n", "device 4"),
    ("hccn_tool -i 3 -tls -g", samples.TLS_OLD + samples.TLS_OLD, "line 2"),
    ("hccn_tool -i 3 -tls -g", samples.TLS_OLD + "something else\n", "line 2"),
    ("hccn_tool -i 4 -ping -g address 10.1.2.3", samples.PING, "device 3, asked was device 4"),
    ("hccn_tool -i 3 -ping -g address 10.1.2.4", samples.PING, "10.1.2.4"),
    (PING, samples.PING.replace("33.33", "33.43"), "loss"),
    (PING, samples.PING.replace("2 received, 33.33%", "4 received, 0.00%"), "counts"),
    (PING, samples.PING.replace("2 received, 33.33%", "3 received, 0.00%"), "2 replies"),
    (
        PING,
        samples.PING.replace(
            "3 packets transmitted, 2 received, 33.33%", "0 packets transmitted, 0 received, 0.00%"
        ),
        "counts",
    ),
    (PING, samples.PING.replace("seq=0", "seq=O"), "line 2"),
    (PING, samples.PING.rsplit("\n", 2)[0] + "\n", "before the summary"),
    (PING, "\n".join(samples.PING.split("\n")[1:]), "line 1"),
    (PING, samples.PING.replace("packet loss", "packets loss"), "before the summary"),
    (HCCS_PING, samples.HCCS_PING.replace("packets loss", "packet loss"), "before the summary"),
    (HCCS_PING, samples.HCCS_PING.replace("send fail", "ping success"), "2 replies"),
    (HCCS_PING, samples.HCCS_PING.replace("This pkt send fail!\n", ""), "line 6"),
    (LINK_STAT, samples.LINK_STAT.replace("[devid 3]link up", "[devid 2]link up"), "device 2"),
    (LINK_STAT, samples.LINK_STAT.replace("up count       : 2", "up count       : 1"), "more records"),
    (LINK_STAT, samples.LINK_STAT.replace("Sep 28 10:13:50", "Sep 31 10:13:50"), "line 6"),
    (LINK_STAT, samples.LINK_STAT.replace("Mon Sep", "Mon Spt"), "line 5"),
    (LINK_STAT, "".join(line + "\n" for line in samples.LINK_STAT.split("\n")[:4]), "line 4"),
    (LINK_STAT, samples.LINK_STAT.replace("records :", "records : NA"), "line 4"),
    (LLDP, "Ifname: 400GE1/1/1\n", "line 1"),
    (LLDP, "Port ID TLV\n", "before a whole LLDP section"),
    (LLDP, samples.LLDP.replace("MAC: 00:11", "MAC: 00:1"), "line 2"),
    (LLDP, samples.LLDP + "and more\n", "nothing after"),
    (CONF, "address_0=10.1.2.3\nnonsense\n", "line 2"),
    (CONF, "address_0=10.1.2\n", "line 1"),
    (CONF, "address_0=\n", "line 1"),
    (CONF, "address_0=10.1.2.3\naddress_0=10.1.2.4\n", "line 2"),
    (CONF, "netmask_0=255.0.255.0\n", "line 1"),
    (CONF, "address_64=10.1.2.3\n", "line 1"),
    (CONF, "address_0=10.1.2.3\nmtu_0=big\n", "line 2"),
    (CONF, "mtu_0=65536\n", "line 1"),
    (CONF, "mtu_0=4200\nmtu_0=1500\n", "line 2"),
    (CONF, "address_007=10.1.2.3\n", "line 1"),
    (CONF, "# fine\naddress_0=10.1.2.3\narp_0=" + "x" * 400 + "\n", "line 3"),
    (SPOD, samples.SPOD.replace("37748736", "4294967296"), "line 1"),
    (SPOD, samples.SPOD.replace("37748736", "-1"), "line 1"),
    (SPOD, samples.SPOD.rstrip("\n"), "no line end"),
    (SPOD, samples.SPOD.replace("Super Pod ID", "Super Pod IP"), "line 3"),
    (HEALTH, samples.HEALTH.replace("OK", "Ok"), "health word"),
    (HEALTH, samples.HEALTH.replace("Health Status", "Health Stats "), "line 1"),
    (HEALTH, samples.ALARM.replace("80F38003", "80F3800G"), "hexadecimal"),
    (HEALTH, fields(("Health Status", "Alarm")), "before 'Error Code'"),
    (HEALTH, fields(("Health Status", "Alarm"), ("Error Code", "80CB8009")), "before 'Error Information'"),
    (HEALTH, samples.HEALTH + samples.HEALTH, "comes twice"),
    (HCCS, samples.HCCS.replace(": OK", ": Fine"), "OK or NOK"),
    (HCCS, samples.HCCS.replace("224                  112", "224"), "expected 3 entries"),
    (HCCS, samples.HCCS.replace("0011", "0012"), "line 3"),
    (HCCS, samples.HCCS.replace("[4 ", "[8 "), "line 2"),
    (HCCS, samples.HCCS.split("hccs link speed")[0].rstrip("\t"), "before 'hccs link speed'"),
    (TOPO, samples.TOPO_A2.replace("NPU1       HCCS", "NPU1       HCSC"), "line 3"),
    (TOPO, samples.TOPO_A2.replace("NPU1       HCCS", "NPU1       X   "), "line 3"),
    (TOPO, samples.TOPO_A2.replace("NPU2       HCCS", "NPU7       HCCS"), "the row of NPU2"),
    (TOPO, samples.TOPO_A2.replace("NPU1       NPU2", "NPU1       NPU1"), "comes twice"),
    (TOPO, samples.TOPO_A2.replace("0-23", "some"), "line 2"),
    (TOPO, samples.topo(["NPU0", "Phy-ID1"], [["X", "SIO"], ["SIO", "X"]]), "line 1"),
    (TOPO, "Legend:\n", "line 1"),
    ("npu-smi -v", "npu-smi version: 25.2", "no line end"),
    ("npu-smi -v", "npu-smi version: x.x.x\n", "line 1"),
    ("npu-smi info -l", samples.CARD_LIST.replace(": 5", ": 0"), "different"),
    ("npu-smi info -l", samples.CARD_LIST.replace(": 2", ": 3"), "the last of 3 cards"),
    ("npu-smi info -t board -i 4", samples.BOARD, "asked was NPU 4"),
    ("npu-smi info -t board -i 3 -c 1", samples.BOARD, "asked was chip 1"),
    ("hostname", "node 07\n", "line 1"),
    ("hostname", "node07\nnode08\n", "line 2"),
    ("hostname", "node07", "no line end"),
    ("hostname -i", "10.30.1.11", "no line end"),
    ("hostname -i", "10.30.1.11\n10.30.1.12\n", "line 2"),
    ("hostname -i", "10.30.1.311\n", "expected addresses"),
    ("hostname -i", "node07\n", "expected addresses"),
    ("uname -srm", "Linux 5.10.0\n", "line 1"),
    ("date +%s.%N", "1790000000.%N\n", "line 1"),
    ("ip -o addr show", "2: eth0    inet 10.0.0.5/33 scope global eth0\n", "line 1"),
    ("ip -o addr show", "no device\n", "line 1"),
    ("cat /etc/os-release", "ID=x\n", "before PRETTY_NAME"),
    ("cat /etc/os-release", 'PRETTY_NAME="a\nb"\n', "line 1"),
    ("cat /a/driver/version.info", "Version=25.2.0\nversion=25.3.0\n", "two different versions"),
    ("cat /a/driver/version.info", "package_version=25.2.0\n", "before 'version='"),
    ("cat /a/driver/version.info", "Version=25.2", "no line end"),
    ("npu-smi info -t usages -i 0", "NPU ID : 0\n", "no reader"),
    ("hccn_tool -i 0 -tls -s enable 0", "Cmd executed successfully!\n", "no reader"),
]


@pytest.mark.parametrize(("command", "text", "part"), UNPARSED)
def test_anything_else_is_unparsed(command: str, text: str, part: str) -> None:
    status, _, reason = read(command, text)
    assert status == "unparsed"
    assert part in reason


# (tool's command, stream, text, exit code, status)
ERROR_TEXTS: list[tuple[str, str, str, int | None, str]] = [
    (IP, "stdout", "hccn_tool is busy, please try again.", 11, "busy"),
    (IP, "stdout", "I2c is busy. Please try again.", 0, "busy"),
    (HCCS_PING, "stderr", "The device is occupied. Please try again later.", 1, "busy"),
    (IP, "stderr", "Get lock failed. Please try again.", 1, "busy"),
    (IP, "stdout", "The command is not supported on this product.", 13, "unsupported"),
    (IP, "stdout", "The command is not supported on this optical media.", 1, "unsupported"),
    (IP, "stdout", "Command unsupported on this optical module.", 1, "unsupported"),
    (IP, "stdout", "This device does not support IPV6!", 1, "unsupported"),
    (IP, "stdout", "This device does not support bonding!", 1, "unsupported"),
    (IP, "stderr", "The VM does not support this command.", 1, "unsupported"),
    (IP, "stdout", "Optical module is not present.", 0, "no-data"),
    (IP, "stderr", "Get ipconf failed, because no ip was preset there!", 13, "no-data"),
    (IP, "stderr", "Get ip failed, because no ip was preset there!", 13, "no-data"),
    (
        "hccn_tool -i 0 -gateway -g",
        "stderr",
        "Get gateway failed, because no gateway was preset there!",
        2,
        "no-data",
    ),
    (IP, "stderr", "permission denied: pls check this cmd run permission.", 12, "denied"),
    (IP, "stderr", "permission denied: pls check this cmd run environment.", 12, "denied"),
    (IP, "stderr", "Command execute failed!", 1, "failed"),
    (IP, "stderr", "Cmd execute failed!", 1, "failed"),
    (IP, "stderr", "The cmd line execute timeout!", 1, "failed"),
    (IP, "stderr", "Get device health status failed!", 3, "failed"),
    (IP, "stderr", "The device is not exist!", 4, "failed"),
    (IP, "stderr", "Get invalid device id.", 4, "failed"),
    (
        "hccn_tool -i 0 -nethealth",
        "stderr",
        "Get invalid major cmd.\nEnter [ hccn_tool -h ] for more details.",
        1,
        "failed",
    ),
    (IP, "stderr", "Execute failed: Link status is down.", 1, "failed"),
    (IP, "stderr", "Control link unreachable.", 1, "failed"),
    (
        IP,
        "stderr",
        "The hccn.conf can't access, cmd execute failed! pls check the conf file or cmd run permission.",
        1,
        "failed",
    ),
    (IP, "stderr", "An error that no table knows", 7, "failed"),
    (IP, "stderr", "An error that no table knows", 0, "failed"),
    (SPOD, "stdout", "This device does not support querying spod-info.", 0, "unsupported"),
    (HCCS, "stdout", "This device does not support hccs topo.", 0, "unsupported"),
    (INFO, "stdout", "This command cannot be executed on a VM or container.", 0, "unsupported"),
    (INFO, "stdout", "This command can be executed only by the root user.", 0, "denied"),
    ("npu-smi …", "stdout", "This command can be executed only by the root user.", 0, "denied"),
    (SPOD, "stdout", "Invalid card id.\nError parameter of -i\nUsage: npu-smi info", 1, "failed"),
    (INFO, "stdout", "There is no NPU card on this server.", 0, "no-data"),
    (INFO, "stdout", "dcmi module initialize failed. ret is -8005", 187, "failed"),
    (
        INFO,
        "stdout",
        "DrvMngGetConsoleLogLevel failed. (ret=4)\ndcmi module initialize failed. ret is -8005",
        187,
        "denied",
    ),
    (
        INFO,
        "stdout",
        "DrvMngGetConsoleLogLevel failed. (ret=4)\n"
        "dcmi model initialized failed, because the device is used. ret is -8020",
        172,
        "failed",
    ),
    (INFO, "stdout", "dcmi module initialize failed. ret is -8002", 1, "denied"),
    (INFO, "stdout", "dcmi module initialize failed. ret is -8255", 1, "unsupported"),
    (INFO, "stdout", "dcmi module initialize failed. ret is -9999", 1, "failed"),
    (
        INFO,
        "stderr",
        "npu-smi: error while loading shared libraries: libdrvdsmi_host.so: cannot open shared object file",
        127,
        "failed",
    ),
    (IP, "stderr", "bash: hccn_tool: command not found", 127, "failed"),
    (IP, "stderr", "sh: 1: hccn_tool: not found", 127, "failed"),
    (IP, "stderr", "timeout: failed to run command 'hccn_tool': No such file or directory", 127, "failed"),
    (IP, "stderr", "timeout: failed to run command 'hccn_tool': Permission denied", 126, "denied"),
    (IP, "stderr", "sudo: a password is required", 1, "denied"),
    (IP, "stderr", "sudo: sorry, you must have a tty to run sudo", 1, "denied"),
    (CONF, "stderr", "cat: /etc/hccn.conf: No such file or directory", 1, "no-data"),
    (CONF, "stderr", "cat: can't open '/etc/hccn.conf': No such file or directory", 1, "no-data"),
    (CONF, "stderr", "cat: /etc/hccn.conf: Permission denied", 1, "denied"),
    (CONF, "stderr", "cat: /etc/hccn.conf: Input/output error", 1, "failed"),
]


@pytest.mark.parametrize("same_stream", [True, False], ids=["own-stream", "other-stream"])
@pytest.mark.parametrize(("command", "stream", "text", "code", "status"), ERROR_TEXTS)
def test_error_text(
    command: str, stream: str, text: str, code: int | None, status: str, same_stream: bool
) -> None:
    on_stdout = (stream == "stdout") is same_stream
    data = (text + "\n").encode()
    stdout, stderr = (data, b"") if on_stdout else (b"", data)
    parsed = parse(command, stdout, stderr, code)
    known = "no table knows" not in text and "Input/output" not in text and "no NPU card" not in text
    if same_stream or known:
        assert parsed.status.value == status
        assert parsed.reason and parsed.facts is None
    else:
        assert parsed.status.value != "ok"


def test_exit_code_and_text_together() -> None:
    up = b"link status: UP\n"
    assert parse(LINK, up, b"", 0).status.value == "ok"
    assert parse(LINK, up, b"", 1).status.value == "failed"
    assert parse(LINK, up, b"Command execute failed!\n", 0).status.value == "failed"
    assert parse(LINK, up, b"sudo: unable to resolve host n1\n", 0).status.value == "ok"
    assert parse(LINK, up, b"/etc/profile: line 3: foo: command not found\n", 0).status.value == "ok"
    silent = parse(LINK, b"", b"", 13)
    assert silent.status.value == "failed" and "no address set" in silent.reason


@pytest.mark.parametrize("code", [None, 124, 137, 143, -9])
@pytest.mark.parametrize("command", WHOLE)
def test_a_killed_command_is_never_ok(command: str, code: int | None) -> None:
    parsed = parse(command, WHOLE[command].encode(), b"", code)
    assert parsed.status.value == "failed" and "did not end of its own accord" in parsed.reason


@pytest.mark.parametrize("command", WHOLE)
def test_an_empty_answer_is_never_ok(command: str) -> None:
    # An empty hccn.conf is a file that configures nothing; no tool's answer is empty.
    expected = "no-data" if command == CONF else "unparsed"
    assert parse(command, b"", b"", 0).status.value == expected


@pytest.mark.parametrize("command", WHOLE)
def test_a_whole_answer_is_ok_among_blank_lines_and_complaints(command: str) -> None:
    plain, _, _ = read(command, WHOLE[command])
    framed = parse(command, b"\n" + WHOLE[command].encode() + b"\n", "警告\n".encode("gbk"))
    assert plain == framed.status.value == "ok"


@pytest.mark.parametrize("command", [command for command in WHOLE if "-lldp" not in command])
def test_a_banner_in_gbk_breaks_nothing_and_passes_nowhere(command: str) -> None:
    banner = "欢迎登录\n".encode("gbk")
    assert parse(command, banner + WHOLE[command].encode()).status.value == "unparsed"


def test_every_command_of_the_catalogue_is_read() -> None:
    for command in COMMANDS:
        line = command.text(npu=0, chip=0, phy=3)
        assert "no reader" not in parse(line, b"garbage\n").reason, line


@pytest.mark.parametrize(
    "command", ["", "ls /", "cat /etc/shadow", "hostname -f", "cat", "hccn_tool 'x", "watch npu-smi"]
)
def test_unknown_command(command: str) -> None:
    with pytest.raises(UnknownCommand):
        parse(command, b"")


def test_netdetect_all_zero_is_no_address() -> None:
    status, _, reason = read("hccn_tool -i 3 -netdetect -g", "netdetect addr: 0.0.0.0\n")
    assert status == "no-data" and "0.0.0.0" in reason


def test_hccn_conf_without_devices_is_no_data() -> None:
    assert read(CONF, "# nothing yet\nudp_port_mode_3=nslb_dp\n")[0] == "no-data"


def test_cann_file_where_one_candidate_is_missing() -> None:
    command = "cat /a/ascend_toolkit_install.info /b/ascend_toolkit_install.info"
    missing = b"cat: /b/ascend_toolkit_install.info: No such file or directory\n"
    assert parse(command, b"version=8.2.RC1\n", missing, 1).facts == "8.2.RC1"
    assert parse(command, b"", missing * 2, 1).status.value == "no-data"
    assert parse(command, b"version=8.2.RC1\n", b"cat: /b: Input/output error\n", 1).status.value == "failed"
    twice = parse(command, b"version=8.2.RC1\nversion=8.1.RC1\n")
    assert twice.status.value == "unparsed" and "8.1.RC1" in twice.reason


# --- ping: streams and exit codes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stdout", "stderr"),
    [
        (samples.PING, "Command execute failed!\n"),
        ("", samples.PING + "Command execute failed!\n"),
        (samples.PING + "Command execute failed!\n", ""),
    ],
)
def test_a_lossy_ping_is_ok_with_its_loss(stdout: str, stderr: str) -> None:
    for code in (0, 1):
        parsed = parse(PING, stdout.encode(), stderr.encode(), code)
        assert facts_json(parsed.facts) == _pair("10.1.2.3", 3, 2, 33.33)
    assert parse(PING, stdout.encode(), stderr.encode(), 4).status.value == "failed"


def test_a_ping_without_summary_failed() -> None:
    cut = samples.PING.split("3 packets")[0].encode()
    assert parse(PING, cut, b"Command execute failed!\n", 1).status.value == "failed"


# --- lldp ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["\n", "\n\n", " \n"])
def test_a_bare_line_end_is_no_neighbour(text: str) -> None:
    assert read(LLDP, text)[0] == "no-data"


def test_lldp_cut_at_1999_bytes_gives_the_whole_sections() -> None:
    head, tail = samples.LLDP.split("Version 8.1\n")
    long = (head + "Version 8.1\n" + "x" * 2000 + tail).encode()[:1999] + b"\n"
    status, facts, _ = read(LLDP, long)
    assert status == "ok"
    assert facts == {**_LLDP_FACTS, "system_description": None}
    name_cut = b"System Description TLV\n\t" + b"y" * (1999 - 45) + b"\nSystem Name TLV\n\tlea"
    assert len(name_cut) == 1999
    status, facts, _ = read(LLDP, name_cut + b"\n")
    assert status == "ok" and facts["system_name"] is None and facts["system_description"].startswith("y")


@pytest.mark.parametrize("at", range(1, len(samples.LLDP)))
def test_lldp_cut_anywhere_never_gives_a_wrong_value(at: int) -> None:
    status, facts, _ = read(LLDP, samples.LLDP[:at])
    assert status in ("ok", "unparsed")
    if status == "ok":
        assert all(facts[key] in (None, _LLDP_FACTS[key]) for key in _LLDP_FACTS)


# --- npu-smi info ---------------------------------------------------------------------------------------


def _device(npu: int, chip: int = 0, *, a3: bool) -> dict[str, Any]:
    return {
        "npu_id": npu,
        "chip_id": chip,
        "phy_id": 2 * npu + chip if a3 else None,
        "name": "Ascend910" if a3 else "910B3",
        "health": "OK",
        "bus_id": f"0000:{16 + npu:02X}:0{chip}.0",
        "power_w": 90 + npu + 0.5 if chip == 0 else None,
        "temperature_c": 40 + npu,
        "aicore_percent": 7,
        "hbm_used_mib": 3000 + npu,
        "hbm_total_mib": 65536,
    }


@pytest.mark.parametrize("width", [98, 116])
@pytest.mark.parametrize("dies", [1, 2])
@pytest.mark.parametrize("section", [True, False], ids=["processes", "no-process-section"])
def test_info_table(width: int, dies: int, section: bool) -> None:
    running = {2: [(0, 4711, "python3", 812), (dies - 1, 4711, "", 7)]}
    text = info_table([2, 5], dies=dies, width=width, processes=running if section else None)
    assert {len(line) for line in text.split("\n")[:-1]} == {width}
    status, facts, reason = read(INFO, "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\n" + text)
    assert (status, reason) == ("ok", "")
    assert facts["version"] == "25.2.0"
    assert facts["devices"] == [_device(npu, chip, a3=dies == 2) for npu in (2, 5) for chip in range(dies)]
    listed = [(p["npu_id"], p["chip_id"], p["pid"], p["name"], p["memory_mib"]) for p in facts["processes"]]
    assert listed == ([(2, 0, 4711, "python3", 812), (2, dies - 1, 4711, "", 7)] if section else [])


def test_info_values_that_the_tool_leaves_out() -> None:
    text = info_table([0]).replace("90.5", "NA  ").replace("0000:10:00.0", "NA          ")
    text = text.replace("| OK ", "| NA ").replace("  40  ", "  -   ", 1)
    status, facts, reason = read(INFO, text)
    assert (status, reason) == ("ok", "")
    device = facts["devices"][0]
    assert [device[key] for key in ("power_w", "bus_id", "health", "temperature_c")] == [
        None,
        None,
        "NA",
        None,
    ]


def test_info_full_memory_and_names_with_odd_bytes() -> None:
    text = samples.INFO_A2.replace("3001 / 65536", "65535/ 65536")
    odd = text.encode().replace(b"python3", "进|\xff".encode()[:5] + b"\xff ")
    assert len(odd) == len(text.encode())
    parsed = parse(INFO, odd)
    assert parsed.status.value == "ok", parsed.reason
    assert parsed.facts.devices[1].hbm_used_mib == 65535
    assert parsed.facts.processes[0].name.encode("utf-8", "surrogateescape").startswith("进|".encode())
    json.dumps(facts_json(parsed.facts), ensure_ascii=False).encode()  # no lone surrogate is left


def test_rows_alone_are_read_only_of_a_command_that_went_through_grep() -> None:
    rows = [line for line in samples.INFO_A3.split("\n") if line.startswith("| ") and "Ascend" in line]
    lower = [line for line in samples.INFO_A3.split("\n") if ":0" in line]
    text = "".join(f"{a}\n{b}\n" for a, b in zip(rows, lower, strict=True))
    status, facts, _ = read("npu-smi info | grep -A1 Ascend", text)
    assert status == "ok" and facts["version"] == ""
    assert facts["devices"] == [_device(npu, chip, a3=True) for npu in range(2) for chip in range(2)]
    assert read(INFO, text)[0] == "unparsed"
    assert read("npu-smi info | grep -A1 Ascend", text.rsplit("\n", 2)[0] + "\n")[0] == "unparsed"


_A3 = samples.INFO_A3
_LINES = _A3.split("\n")

BROKEN_TABLES: list[tuple[str, str, str]] = [
    ("elided", _A3.replace(_LINES[9] + "\n", "...\n"), "line 10"),
    ("one column short", _A3.replace(_LINES[6], _LINES[6][:-2] + "|"), "line 7"),
    ("shifted value", _A3.replace("90.5 ", " 90.5"), "line 7: expected a value in column 47"),
    ("health word", _A3.replace("| OK ", "| ok ", 1), "line 7"),
    ("power", _A3.replace("90.5", "9o.5"), "line 7"),
    ("temperature", _A3.replace("  40  ", "  400 ", 1), "line 7"),
    ("AI core over 100", _A3.replace("| 7   ", "| 101 ", 1), "line 8"),
    ("HBM used over total", _A3.replace("3000 / 65536", "65537/ 65536", 1), "line 8"),
    ("memory used over total", _A3.replace("0    / 0 ", "1    / 0 ", 2), "line 7"),
    ("PCI address", _A3.replace("0000:10:00.0", "0000:1G:00.0"), "line 8"),
    ("PCI address twice", _A3.replace("0000:10:01.0", "0000:10:00.0"), "PCI address twice"),
    ("physical id twice", _A3.replace("| 1     1 ", "| 1     0 "), "physical id twice"),
    ("chip twice", _A3.replace("| 1     1 ", "| 0     1 "), "chip twice"),
    ("physical id out of range", _A3.replace("| 1     3 ", "| 1     64"), "line 17"),
    ("NPU out of range", _A3.replace("| 1     Ascend", "| 64    Ascend"), "line 13"),
    ("no version", _A3.replace("Version: 25.2.0", "Version:       "), "line 2"),
    ("other headings", _A3.replace("Health  ", "Healthy ", 1), "line 4"),
    (
        "die of another NPU",
        _A3.replace(
            "| 0     Ascend910           | OK            | - ",
            "| 3     Ascend910           | OK            | - ",
        ),
        "line 10",
    ),
    ("process on no NPU", _A3.replace("| 0       1 ", "| 9       1 "), "line 22"),
    ("process on no chip", _A3.replace("| 0       1 ", "| 0       5 "), "line 22"),
    ("pid", _A3.replace("| 12  ", "| 1x  "), "line 23"),
    ("process memory", _A3.replace("54000", "54k00"), "line 23"),
    ("container pid", _A3.replace("| NA ", "| N/A", 1), "line 22"),
    ("NPU idle twice", _A3.replace("in NPU 1", "in NPU 0"), "line 25"),
    ("text after the table", _A3 + "more\n", "columns wide"),
]


@pytest.mark.parametrize(("text", "part"), [pytest.param(t, p, id=name) for name, t, p in BROKEN_TABLES])
def test_broken_info_table(text: str, part: str) -> None:
    assert text != _A3
    status, _, reason = read(INFO, text)
    assert status == "unparsed"
    assert part in reason


# --- npu-smi info -m ------------------------------------------------------------------------------------

_M = samples.mapping_a3(2)

BROKEN_MAPPINGS: list[tuple[str, str, str]] = [
    (
        "physical id twice",
        _M.replace(f"{'3':<31}{'3':<31}", f"{'3':<31}{'2':<31}"),
        "physical id 2 comes twice",
    ),
    ("logic id twice", _M.replace(f"{'3':<31}{'3':<31}", f"{'2':<31}{'3':<31}"), "logic id 2 comes twice"),
    ("chip twice", _M.replace(f"\t{'1':<31}{'1':<31}", f"\t{'1':<31}{'0':<31}"), "comes twice"),
    ("NPU in two places", _M + "\n".join(_M.split("\n")[1:4]) + "\n", "comes twice"),
    ("no Mcu row at the end", "\n".join(_M.split("\n")[:-2]) + "\n", "before the Mcu row of NPU 1"),
    ("no Mcu row within", _M.replace(_M.split("\n")[3] + "\n", ""), "the Mcu row of NPU 0"),
    ("id out of range", _M.replace(f"{'3':<31}{'3':<31}", f"{'3':<31}{'77':<31}"), "line 6"),
    ("no number", _M.replace(f"{'3':<31}{'3':<31}", f"{'3':<31}{'-':<31}"), "line 6"),
    ("Mcu with a logic id", _M.replace(f"{'2':<31}{'-':<31}", f"{'2':<31}{'4':<31}", 1), "line 4"),
    ("value between columns", _M.replace(f"{'3':<31}{'3':<31}", f"{'3':<31}{'':<9}{'3':<22}"), "line 6"),
    ("a column less", _M.replace("Chip Logic ID", "Chip Logic Id"), "line 1"),
    ("only the heading", _M.split("\n")[0] + "\n", "before the first chip"),
    ("name cut", _M.rstrip()[:-1], "line 7"),
]


@pytest.mark.parametrize(("text", "part"), [pytest.param(t, p, id=name) for name, t, p in BROKEN_MAPPINGS])
def test_broken_mapping(text: str, part: str) -> None:
    assert text != _M
    status, _, reason = read(MAPPING, text)
    assert status == "unparsed"
    assert part in reason


# --- cut off --------------------------------------------------------------------------------------------


def _whole_before(command: str, text: str) -> set[int]:
    """Line counts after which a cut table is a documented form itself, that of a smaller host."""
    lines = text.split("\n")
    if command == MAPPING:
        return {at + 1 for at, line in enumerate(lines) if "Mcu" in line}
    if command == INFO:
        section = lines.index(next(line for line in lines if "Process id" in line)) - 1
        return {at + 1 for at, line in enumerate(lines[:section]) if line.startswith("+=") and at > 5}
    return {len(lines[: lines.index("")]), *range(lines.index(""), len(lines))}


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (INFO, samples.INFO_A2),
        (INFO, samples.INFO_A3),
        (MAPPING, samples.mapping_a2(3)),
        (MAPPING, samples.mapping_a3(3)),
        (TOPO, samples.TOPO_A2),
        (TOPO, samples.TOPO_A3),
    ],
    ids=["info-a2", "info-a3", "mapping-a2", "mapping-a3", "topo-a2", "topo-a3"],
)
def test_a_table_cut_at_a_line_is_unparsed_and_names_it(command: str, text: str) -> None:
    lines = text.split("\n")
    whole_before = _whole_before(command, text)
    # The first chip row of A2's mapping is the documented form of a host without Mcu rows.
    whole_before |= {2} if text == samples.mapping_a2(3) else set()
    for count in range(1, len(lines) - 1):
        status, _, reason = read(command, "\n".join(lines[:count]) + "\n")
        if count in whole_before:
            assert status == "ok", (count, reason)
        else:
            assert status == "unparsed" and "line " in reason, (count, status)
    assert len(whole_before) < len(lines) - 2
