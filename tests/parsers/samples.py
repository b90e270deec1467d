"""Well-formed outputs in the documented forms, with values of our own: command → text."""

from __future__ import annotations

from collections.abc import Sequence

# Inner width of the third cell and the columns of its values, per generation of npu-smi.
_LAYOUTS = {98: (52, (1, 13, 31)), 116: (70, (1, 22, 46))}


def _cells(first: str, second: str, third: Sequence[str], width: int) -> str:
    inner, columns = _LAYOUTS[width]
    body = ""
    for column, value in zip(columns, third, strict=True):
        body = body.ljust(column) + value
    return f"| {first:<26}| {second:<14}|{body:<{inner}}|"


def _rule(stroke: str, width: int) -> str:
    return f"+{stroke * 27}+{stroke * 15}+{stroke * _LAYOUTS[width][0]}+"


def info_table(
    npus: Sequence[int],
    *,
    dies: int = 1,
    width: int = 98,
    processes: dict[int, list[tuple[int, int, str, int]]] | None = None,
    version: str = "25.2.0",
) -> str:
    """An ``npu-smi info`` table; ``dies`` 2 gives A3's form with physical ids.

    ``processes``: NPU → (chip, pid, name, MiB) of its processes; None = without the process section.
    """
    plain = "+" + "-" * (width - 2) + "+"
    lines = [
        plain,
        f"| npu-smi {version:<{24 if width == 98 else 35}} Version: {version}".ljust(width - 1) + "|",
    ]
    lines.append(_rule("-", width))
    lines.append(_cells("NPU   Name", "Health", ("Power(W)", "Temp(C)", "Hugepages-Usage(page)"), width))
    heading = "Chip  Phy-ID" if dies == 2 else "Chip"
    lines.append(_cells(heading, "Bus-Id", ("AICore(%)", "Memory-Usage(MB)", "HBM-Usage(MB)"), width))
    lines.append(_rule("=", width))
    for npu in npus:
        for chip in range(dies):
            name, ids = ("Ascend910", f"{chip}     {2 * npu + chip}") if dies == 2 else ("910B3", "0")
            power = f"{90 + npu}.5" if chip == 0 else "-"
            lines.append(_cells(f"{npu:<5} {name}", "OK", (power, f"{40 + npu}", "0    / 0"), width))
            usage = f"{3000 + npu:<5}/ 65536"
            lines.append(_cells(ids, f"0000:{16 + npu:02X}:0{chip}.0", ("7", "0    / 0", usage), width))
            lines.append(plain if chip < dies - 1 else _rule("=", width))
    if processes is not None:
        lines += _process_section(npus, processes, width)
    return "\n".join(lines) + "\n"


def _process_section(
    npus: Sequence[int], processes: dict[int, list[tuple[int, int, str, int]]], width: int
) -> list[str]:
    def row(npu: str, chip: str, *cells: str) -> str:
        sizes = (14, 25, 24) if width == 98 else (14, 19, 22, 24)
        text = f"| {npu:<8}{chip:<18}|"
        return text + "".join(f" {cell:<{size}}|" for cell, size in zip(cells, sizes, strict=True))

    more = () if width == 98 else ("Process id in container",)
    lines = [_rule("-", width), row("NPU", "Chip", "Process id", "Process name", "Process memory(MB)", *more)]
    lines.append(_rule("=", width))
    for npu in npus:
        if not processes.get(npu):
            lines.append(f"| No running processes found in NPU {npu}".ljust(width - 1) + "|")
        for chip, pid, name, memory in processes.get(npu, ()):
            extra = () if width == 98 else ("NA",)
            lines.append(row(str(npu), str(chip), str(pid), name, str(memory), *extra))
        lines.append(_rule("=", width))
    return lines


def mapping(rows: Sequence[Sequence[str]], *, phy_id: bool, indent: str = "\t") -> str:
    """``npu-smi info -m``: rows of ids and name, heading and Mcu rows padded to the full width."""
    labels = ["NPU ID", "Chip ID", "Chip Logic ID", *(["Chip Phy-ID"] if phy_id else []), "Chip Name"]
    lines = []
    for row in [labels, *rows]:
        text = indent + "".join(f"{value:<31}" for value in row[:-1]) + row[-1]
        padded = row[-1] in ("Chip Name", "Mcu")
        lines.append(text.ljust(len(indent) + 31 * len(row) - 1) if padded else text)
    return "\n".join(lines) + "\n"


def mapping_a2(npus: int) -> str:
    rows = []
    for npu in range(npus):
        rows += [(str(npu), "0", str(npu), "Ascend 910B2"), (str(npu), "1", "-", "Mcu")]
    return mapping(rows, phy_id=False)


def mapping_a3(npus: int) -> str:
    rows = []
    for npu in range(npus):
        for chip in range(2):
            phy = str(2 * npu + chip)
            rows.append((str(npu), str(chip), phy, phy, "Ascend910"))
        rows.append((str(npu), "2", "-", "-", "Mcu"))
    return mapping(rows, phy_id=True)


def topo(
    labels: Sequence[str], cells: Sequence[Sequence[str]], affinity: str = "", legend: bool = True
) -> str:
    """``npu-smi info -t topo``: heading of TAB and three blanks, cells 11 wide."""
    heading = "\t   " + "".join(f"{label:<11}" for label in labels) + ("CPU Affinity" if affinity else "")
    rows = [
        f"{label:<11}" + "".join(f"{cell:<11}" for cell in row) + affinity
        for label, row in zip(labels, cells, strict=True)
    ]
    tail = ["", "Legend:", "", "  X    = Self", "  SYS  = across sockets"] if legend else []
    return "\n".join([heading, *rows, *tail]) + "\n"


TOPO_A2 = topo(
    ["NPU0", "NPU1", "NPU2"], [["X", "HCCS", "HCCS"], ["HCCS", "X", "HCCS"], ["HCCS", "HCCS", "X"]], "0-23"
)
TOPO_A3 = topo(["Phy-ID4", "Phy-ID5"], [["X", "SIO"], ["SIO", "X"]])


def fields(*rows: tuple[str, str], indent: str = "\t") -> str:
    return "".join(f"{indent}{label:<31}: {value}\n" for label, value in rows)


def array(*values: object) -> str:
    return "[" + "".join(f"{value!s:<20} " for value in values) + "]"


HCCS = fields(
    ("hccs health status ", "OK"),
    ("hccs lane mode ", array(4, 4, 2)),
    ("hccs link lane list ", array("1111", "1111", "0011")),
    ("hccs link speed ", array(224, 224, 112)),
    ("hccs tx packets ", array(10, 20, 30)),
    ("hccs tx bytes ", array(200, 400, 600)),
    ("hccs error count ", array(0, 0, 1)),
    ("hccs first error lane ", "NA"),
)
HEALTH = fields(("Health Status", "OK"), ("Error Code", "NA"), ("Error Information", "NA"))
ALARM = (
    fields(
        ("Health Status", "Warning"), ("Error Code", "80CB8009 80F38003"), ("Error Information", "first text")
    )
    + "\n"
    + fields(("", "second text: with a colon"))
)
SPOD = fields(("SDID", "37748736"), ("Super Pod Size", "384"), ("Super Pod ID", "2"), ("Server Index", "9"))
BOARD = fields(("NPU ID", "3"), ("Chip ID", "0"), ("Chip Name", "910B2"), ("PCIe Bus Info", "0000:C1:00.0"))
ECC = "".join(
    f"\t{f'HBM {bits} Bit {kind}':<40} : {count}\n"
    for count, (kind, bits) in enumerate(
        (kind, bits)
        for kind in (
            "Error Count", "Aggregate Total Err Cnt", "Isolated Pages Count", "Next-Isolated Pages Count"
        )
        for bits in ("Single", "Double")
    )
)  # fmt: skip
CARD_LIST = fields(("Total Count", "2")) + "".join(
    "\n" + fields(("NPU ID", str(npu)), ("Chip Count", "1")) for npu in (0, 5)
)

VNIC = "vnic link status: UP\nvnic ipaddr: 192.9.3.196\nvnic netmask: 255.255.255.0\n"
PING = (
    "device 3 PING 10.1.2.3\n"
    "recv seq=0,time=0.210000ms\n"
    "recv time out seq=1\n"
    "recv seq=2,time=0.090000ms\n"
    "3 packets transmitted, 2 received, 33.33% packet loss\n"
)
HCCS_PING = (
    "device 3 PING 192.9.3.196\n\n"
    "This pkt ping success!\n"
    "recv seq 0, time = 8.100us, L1 plane check result = 0x0\n\n"
    "This pkt send fail!\n"
    "recv seq 1, time = 0.000us, L1 plane check result = 0x0\n\n"
    "2 packets transmitted, 1 received, 50.00% packets loss\n"
    "max time 8.100us\nmin time 8.100us\naverage time 8.100us\nTP95 time 8.100us\n"
)
LINK_STAT = (
    "[devid 3]current time        : Fri Oct  2 21:46:46 2026\n"
    "[devid 3]link up count       : 2\n"
    "[devid 3]link down count     : 1\n"
    "[devid 3]link change records :\n"
    "[devid 3]    Mon Sep 28 10:13:51 2026    LINK UP\n"
    "[devid 3]    Mon Sep 28 10:13:50 2026    LINK DOWN\n"
    "[devid 3]    Mon Sep 28 10:13:35 2026    LINK UP\n"
)
TLS_OLD = "dev_id:3, tls switch[1](0:disable, 1:enable), tls alarm time threshold[60]days\n"
TLS = (
    "dev_id:3, tls switch[0](0:disable, 1:enable), tls preconfigured[1](0:non-preset, 1:preset), "
    "tls alarm time threshold[60]days\n"
    "dev_id:3, [pub cert] info:\n"
    "         subject[/C=CN/O=some one/CN=example]\n"
    "         issuer[]\n"
    "         tls expiration status[0](0:normal, 1:near expiration, 2:has expired)\n"
)
LLDP = (
    "Chassis ID TLV\n\tMAC: 00:11:22:aa:bb:cc\n"
    "Port ID TLV\n\tIfname: 400GE2/0/7:1\n"
    "Time To Live TLV\n\t120\n"
    "Port Description TLV\n\tto rack 4\n"
    "System Name TLV\n\tleaf-04\n"
    "System Description TLV\n\tSome Routing Platform\nVersion 8.1\n\nhccn_tool is busy, please try again.\n"
    "System Capabilities TLV\n\tEnabled capabilities: Bridge, Router\n"
    "Management Address TLV\n\tIPv4: 10.9.9.9\n\tIfindex: 6\n"
    "Management Address TLV\n\tIPv4: 10.9.9.10\n"
    "Maximum Frame Size TLV\n\t9216\n"
    "End of LLDPDU TLV\n"
)
OPTICAL_BASE = (
    "optical info:\n"
    "present              : present\n"
    "temperature          : 52 C\n"
    "high power enable reg: enabled\n"
    "vendor name          : Some Optics: Ltd\n"
    "vendor part number   : SO-200G-SR4\n"
    "vendor serial number : AB12CD0042\n"
    "vendor org unique id : 0x11 0x22 0x33\n"
    "xsfp identifier      : QSFP+ or later\n"
    "xsfp wave length     : 850 nm\n"
    "manufact date code   : 2024.2.29\n"
    "Vcc                  : 3290.40 mV\n"
    + "".join(
        f"Tx Power{lane}            : 1.{lane}040 mW\nRx Power{lane}            : 0.9{lane}07 mW\n"
        for lane in range(4)
    )
    + "Vcc High Thres       : 3630.00 mV\n"
    "Vcc Low Thres        : 2970.00 mV\n"
    "Temp High Thres      : 75 C\n"
    "Temp Low Thres       : -5 C\n"
    "TxPower High Thres   : 5.0119 mW\n"
    "TxPower Low Thres    : 0.1995 mW\n"
    "RxPower High Thres   : 5.0119 mW\n"
    "RxPower Low Thres    : 0.1000 mW\n"
    + "".join(f"Tx Bias{lane}             : 7.{lane}200 mA\n" for lane in range(4))
    + "Tx Los Flag          : 0x0\n"
    "Rx Los Flag          : 0xa\n"
)
# What only builds of hccn_tool with its extension print.
OPTICAL_EXTENSION = (
    "Tx LoL Flag          : 0x0\n"
    "Rx LoL Flag          : 0xf\n"
    + "".join(f"Host SNR Lane{lane}       : not supported\n" for lane in range(4))
    + "".join(f"Media SNR Lane{lane}      : 2{lane}.5000 dB\n" for lane in range(4))
)
OPTICAL = (
    OPTICAL_BASE
    + OPTICAL_EXTENSION
    + (
        "Physical Code        : NA\n"
        "vendor rev           : A1\n"
        "Specification compliance: 0x00 0x00 0x00 0x00 0x00 0x00 0x00 0x00\n"
    )
)
OPTICAL_ABSENT = "".join(
    f"{line[:21]}: NA\n" if line.startswith(("Vcc", "Temp", "TxP", "RxP", "temperature")) else f"{line}\n"
    for line in OPTICAL_BASE.replace(": present", ": not present").split("\n")[:-1]
    if not line.startswith(("Tx ", "Rx "))
).replace("Vcc High", "Tx Power             : NA\nRx Power             : NA\nVcc High")
STAT = (
    "packet statistics:\n"
    "mac_tx_mac_pause_num:7\nmac_rx_bad_pkt_num:3\nroce_rx_err_pkt_num:0\nroce_new_pkt_rty_num:12\n"
    "nic_tx_all_pkg_num:18446744073709551615\nnic_rx_all_oct_num:88\n"
)
HW_STATS_NAMES = (
    "pd_alloc", "pd_dealloc", "mr_alloc", "mr_dealloc", "cq_alloc", "cq_dealloc", "qp_alloc", "qp_dealloc",
    "pd_active", "mr_active", "cq_active", "qp_active", "aeqe", "ceqe",
)  # fmt: skip
HW_STATS = "".join(f"[devid 3] {name}: {at * 10}\n" for at, name in enumerate(HW_STATS_NAMES))
MEMINFO = (
    "MemTotal:       2112996928 kB\n"
    "MemFree:        1900000000 kB\n"
    "MemAvailable:   2000000000 kB\n"
    "Active(anon):     51228 kB\n"
    "HugePages_Total:    1024\n"
    "HugePages_Free:     1000\n"
    "HugePages_Rsvd:        0\n"
    "Hugepagesize:       2048 kB\n"
    "DirectMap1G:    25165824 kB\n"
)
TIMEDATECTL = (
    "Timezone=Asia/Shanghai\nLocalRTC=no\nCanNTP=yes\nNTP=yes\nNTPSynchronized=no\n"
    "TimeUSec=Mon 2026-10-12 06:55:43 CST\nRTCTimeUSec=Mon 2026-10-12 06:55:44 CST\n"
)
HCCN_CONF = (
    "# 端口\n"
    "address_0=10.1.2.10\nnetmask_0=255.255.255.0\ngateway_0=10.1.2.1\nnetdetect_0=10.1.2.1\n\n"
    "send_arp_status_0=1\narp_0=-i eth0 -s 10.1.2.11 00:11:22:33:44:55\nIPv6address_0=fe80::1\n"
    "address_13=10.1.3.10\nnetmask_13=255.255.254.0\n"
)
ADDRESSES = (
    "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever\n"
    "2: enp5s0    inet 10.0.0.5/16 brd 10.0.255.255 scope global enp5s0\\       valid_lft forever\n"
    "2: enp5s0    inet6 fe80::1/64 scope link \\       valid_lft forever preferred_lft forever\n"
    "7: tun0@enp5s0    inet 10.8.0.6 peer 10.8.0.5/32 scope global tun0\\       valid_lft forever\n"
)

INFO_A2 = info_table(range(3), processes={1: [(0, 4711, "python3", 812)]})
INFO_A3 = info_table(
    range(2), dies=2, width=116, processes={0: [(0, 11, "VLLMWorker_DP", 55000), (1, 12, "", 54000)]}
)

# One whole answer for every command that there is a reader for.
LINKS = (
    "1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT group default qlen 1000"
    "\\    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00\n"
    "2: enp1s0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 9000 qdisc mq state UP mode DEFAULT group default"
    "\\    link/ether 02:11:22:33:44:55 brd ff:ff:ff:ff:ff:ff\n"
    "7: bond0.12@bond0: <BROADCAST,MULTICAST,UP> mtu 1500 qdisc noqueue state UP"
    "\\    link/ether 02:11:22:33:44:56 brd ff:ff:ff:ff:ff:ff\n"
)
HOST_PING = """PING 10.30.1.12 (10.30.1.12) from 10.30.1.11 enp1s0: 56(84) bytes of data.
64 bytes from 10.30.1.12: icmp_seq=1 ttl=64 time=0.141 ms
64 bytes from 10.30.1.12: icmp_seq=3 ttl=64 time=0.097 ms

--- 10.30.1.12 ping statistics ---
3 packets transmitted, 2 received, 33.3333% packet loss, time 2041ms
rtt min/avg/max/mdev = 0.097/0.119/0.141/0.022 ms
"""
PORTS_COMMAND = """bash -c 'exec 3<>"/dev/tcp/$1/$2"' bash 10.30.1.12 22 60000 60015 60031"""
PORTS = (
    "22 0 \n"
    "60015 124 \n"
    "60000 1 bash: line 1: /dev/tcp/10.30.1.12/60000: Connection refused\n"
    "60031 1 bash: line 1: /dev/tcp/10.30.1.12/60031: No route to host\n"
)

WHOLE: dict[str, str] = {
    "hccn_tool -i 3 -link -g": "link status: UP\n",
    "hccn_tool -i 3 -net_health -g": "net health status: Receive timeout\n",
    "hccn_tool -i 3 -ip -g": "ipaddr:10.1.2.10\nnetmask:255.255.254.0\n",
    "hccn_tool -i 3 -netdetect -g": "netdetect addr: 10.1.2.1\n",
    "hccn_tool -i 3 -gateway -g": "default gateway:10.1.2.1, Iface:eth3\n",
    "hccn_tool -i 3 -vnic -g": VNIC,
    "hccn_tool -i 3 -lldp -g": LLDP,
    "hccn_tool -i 3 -tls -g": TLS,
    "hccn_tool -i 3 -ping -g address 10.1.2.3": PING,
    "hccn_tool -i 3 -hccs_ping -g address 192.9.3.196": HCCS_PING,
    "hccn_tool -i 3 -link_stat -g": LINK_STAT,
    "hccn_tool -i 3 -optical -g": OPTICAL,
    "hccn_tool -i 3 -stat -g": STAT,
    "hccn_tool -i 3 -hw_stats -g": HW_STATS,
    "hccn_tool -i 3 -speed -g": "Speed: 200000 Mb/s\n",
    "hccn_tool -i 3 -duplex -g": "Duplex: Half\n",
    "hccn_tool -i 3 -mtu -g": "mtu:4200\n",
    "hccn_tool -i 3 -fec -g": "fec mode: rs FEC mode\n",
    "cat /etc/hccn.conf": HCCN_CONF,
    "npu-smi info": INFO_A3,
    "npu-smi info -m": mapping_a3(3),
    "npu-smi info -l": CARD_LIST,
    "npu-smi -v": "npu-smi version: 25.2.0\n",
    "npu-smi info -t health -i 0 -c 0": ALARM,
    "npu-smi info -t topo": TOPO_A2,
    "npu-smi info -t hccs -i 0 -c 0": HCCS,
    "npu-smi info -t spod-info -i 0 -c 0": SPOD,
    "npu-smi info -t board -i 3 -c 0": BOARD,
    "npu-smi info -t ecc -i 3 -c 0": ECC,
    "cat /proc/meminfo": MEMINFO,
    "timedatectl show": TIMEDATECTL,
    "hostname": "node-07\n",
    "hostname -i": "fe80::f816:3eff:fe11:2233%eth0 10.30.1.11\n",
    "uname -srm": "Linux 5.10.0-216.0.0.115.oe2203sp4.aarch64 aarch64\n",
    "date +%s.%N": "1790000000.123456789\n",
    "ip -o addr show": ADDRESSES,
    "ip -o link show": LINKS,
    "ip route get 10.30.1.12": "10.30.1.12 via 10.30.1.1 dev enp1s0 src 10.30.1.11 uid 0 \n    cache \n",
    "ping -n -c 3 -W 2 -I enp1s0 10.30.1.12": HOST_PING,
    PORTS_COMMAND: PORTS,
    "cat /etc/os-release": 'NAME="openEuler"\nVERSION="22.03"\nPRETTY_NAME="openEuler 22.03"\n',
    "cat /usr/local/Ascend/driver/version.info": "Version=25.2.0\npackage_version=25.2.0\n",
    "cat /usr/local/Ascend/firmware/version.info": "Version=7.7.0.6.236\nfirmware_version=1.0\n",
    "cat /opt/a/ascend_toolkit_install.info /opt/b/ascend_toolkit_install.info": (
        "package_name=Ascend-cann-toolkit\nversion=8.2.RC1\ninnerversion=V100R001C22\n"
    ),
}
