"""What only the deep profile asks: every documented form, and what is one step away from it."""

from __future__ import annotations

from typing import Any

import pytest

from ascendctl.parsers import facts_json, parse
from tests.parsers import samples
from tests.parsers.samples import ECC, HW_STATS, MEMINFO, OPTICAL, OPTICAL_BASE, STAT, TIMEDATECTL

OPTICAL_ASKED = "hccn_tool -i 3 -optical -g"
STAT_ASKED = "hccn_tool -i 3 -stat -g"
HW_STATS_ASKED = "hccn_tool -i 3 -hw_stats -g"
SPEED = "hccn_tool -i 3 -speed -g"
DUPLEX = "hccn_tool -i 3 -duplex -g"
MTU = "hccn_tool -i 3 -mtu -g"
FEC = "hccn_tool -i 3 -fec -g"
ECC_ASKED = "npu-smi info -t ecc -i 3 -c 0"
MEMINFO_ASKED = "cat /proc/meminfo"
TIME = "timedatectl show"


def read(command: str, text: str, **rest: Any) -> tuple[str, Any, str]:
    parsed = parse(command, text.encode(), **rest)
    return parsed.status.value, facts_json(parsed.facts), parsed.reason


_MODULE = {
    "present": True,
    "temperature_c": 52.0,
    "voltage_mv": 3290.4,
    "tx_power_mw": [1.004, 1.104, 1.204, 1.304],
    "rx_power_mw": [0.9007, 0.9107, 0.9207, 0.9307],
    "host_snr_db": [None] * 4,
    "media_snr_db": [20.5, 21.5, 22.5, 23.5],
    "temperature_high_c": 75.0,
    "temperature_low_c": -5.0,
    "voltage_high_mv": 3630.0,
    "voltage_low_mv": 2970.0,
    "tx_power_high_mw": 5.0119,
    "tx_power_low_mw": 0.1995,
    "rx_power_high_mw": 5.0119,
    "rx_power_low_mw": 0.1,
    "tx_los_flags": 0,
    "rx_los_flags": 10,
    "tx_lol_flags": 0,
    "rx_lol_flags": 15,
    "vendor": "Some Optics: Ltd",
    "part_number": "SO-200G-SR4",
    "serial_number": "AB12CD0042",
}
_NO_EXTENSION = {"host_snr_db": [], "media_snr_db": [], "tx_lol_flags": None, "rx_lol_flags": None}
_EMPTY = {
    **{key: None for key in _MODULE if key not in ("vendor", "part_number", "serial_number")},
    **{key: [] for key in ("tx_power_mw", "rx_power_mw", "host_snr_db", "media_snr_db")},
    "present": False,
}
_TWO_LANES = OPTICAL_BASE
for _lane in (2, 3):
    for _label, _value in (("Tx Power", f"1.{_lane}040 mW"), ("Rx Power", f"0.9{_lane}07 mW")):
        _TWO_LANES = _TWO_LANES.replace(f"{_label}{_lane}            : {_value}", f"{_label}{_lane} : NA")
_ONE_LANE = "".join(
    line.replace("Power0", "Power").replace("Bias0", "Bias") + "\n"
    for line in OPTICAL_BASE.split("\n")[:-1]
    if not line.startswith(tuple(f"{what}{n}" for what in ("Tx Power", "Rx Power", "Tx Bias") for n in "123"))
)
_ECC_COUNTERS = {line.partition(":")[0].strip(): at for at, line in enumerate(ECC.split("\n")[:-1])}

OK: list[tuple[str, str, Any]] = [
    (OPTICAL_ASKED, OPTICAL, _MODULE),
    (OPTICAL_ASKED, OPTICAL_BASE, {**_MODULE, **_NO_EXTENSION}),
    (OPTICAL_ASKED, OPTICAL.replace(": present", ": not present"), {**_MODULE, "present": False}),
    (OPTICAL_ASKED, samples.OPTICAL_ABSENT, {**_MODULE, **_EMPTY}),
    (
        OPTICAL_ASKED,
        samples.OPTICAL_ABSENT.replace(": not present", ": present").replace(
            "temperature          : NA", "temperature          : not supported"
        ),
        {**_MODULE, **_EMPTY, "present": True},
    ),
    (OPTICAL_ASKED, OPTICAL.replace("52 C", "get failed"), {**_MODULE, "temperature_c": None}),
    (
        OPTICAL_ASKED,
        OPTICAL.replace("AB12CD0042", "").replace("Some Optics: Ltd", "  "),
        {**_MODULE, "vendor": None, "serial_number": None},
    ),
    (
        OPTICAL_ASKED,
        _TWO_LANES,
        {**_MODULE, **_NO_EXTENSION, "tx_power_mw": [1.004, 1.104], "rx_power_mw": [0.9007, 0.9107]},
    ),
    (
        OPTICAL_ASKED,
        _ONE_LANE,
        {**_MODULE, **_NO_EXTENSION, "tx_power_mw": [1.004], "rx_power_mw": [0.9007]},
    ),
    (SPEED, "Speed: 100000 Mb/s\n", {"speed_mbps": 100000}),
    (SPEED, "Speed: Unknown!\n", {"speed_mbps": None}),
    (DUPLEX, "Duplex: Full\n", {"duplex": "Full"}),
    (DUPLEX, "Duplex: Half\n", {"duplex": "Half"}),
    (DUPLEX, "Duplex: Unknown!\n", {"duplex": "Unknown"}),
    (MTU, "mtu:1500\n", {"mtu_bytes": 1500}),
    *[(FEC, f"fec mode: {mode} FEC mode\n", {"mode": mode}) for mode in ("auto", "rs", "no")],
    (
        STAT_ASKED,
        STAT,
        {
            "counters": {
                "mac_tx_mac_pause_num": 7,
                "mac_rx_bad_pkt_num": 3,
                "roce_rx_err_pkt_num": 0,
                "roce_new_pkt_rty_num": 12,
                "nic_tx_all_pkg_num": 2**64 - 1,
                "nic_rx_all_oct_num": 88,
            }
        },
    ),
    (
        HW_STATS_ASKED,
        HW_STATS,
        {"counters": {name: at * 10 for at, name in enumerate(samples.HW_STATS_NAMES)}},
    ),
    (ECC_ASKED, ECC, {"counters": _ECC_COUNTERS}),
    (
        ECC_ASKED,
        f"\tNPU ID : 3\n\tChip Count : 1\n\n{ECC}\tChip ID : 0\n",
        {"counters": _ECC_COUNTERS},
    ),
    (
        ECC_ASKED,
        "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\n" + ECC,
        {"counters": _ECC_COUNTERS},
    ),
    (
        MEMINFO_ASKED,
        MEMINFO,
        {
            "total_kib": 2112996928,
            "available_kib": 2000000000,
            "huge_pages_total": 1024,
            "huge_pages_free": 1000,
            "huge_page_size_kib": 2048,
        },
    ),
    (TIME, TIMEDATECTL, {"enabled": True, "synchronized": False}),
    (
        TIME,
        TIMEDATECTL.replace("NTP=yes", "NTP=no").replace("zed=no", "zed=yes"),
        {"enabled": False, "synchronized": True},
    ),
]


@pytest.mark.parametrize(("command", "text", "facts"), OK)
def test_documented_form(command: str, text: str, facts: Any) -> None:
    assert read(command, text) == ("ok", facts, "")


# (command, text, part of the reason)
UNPARSED: list[tuple[str, str, str]] = [
    (OPTICAL_ASKED, OPTICAL.replace("optical info:\n", ""), "line 1"),
    (OPTICAL_ASKED, OPTICAL.replace(": present", ": maybe"), "line 2"),
    (OPTICAL_ASKED, OPTICAL.replace("52 C", "52 F"), "line 3"),
    (OPTICAL_ASKED, OPTICAL.replace("52 C", "520 C"), "line 3"),
    (OPTICAL_ASKED, OPTICAL.replace("3290.40 mV", "3290.4 mV"), "line 12"),
    (OPTICAL_ASKED, OPTICAL.replace("3290.40 mV", "6553.60 mV"), "line 12"),
    (OPTICAL_ASKED, OPTICAL.replace("1.0040 mW", "1.0040 dBm"), "line 13"),
    (OPTICAL_ASKED, OPTICAL.replace("1.0040 mW", "-1.0040 mW"), "line 13"),
    (OPTICAL_ASKED, OPTICAL.replace("1.0040 mW", "6.5536 mW"), "line 13"),
    (OPTICAL_ASKED, OPTICAL.replace("1.0040 mW", "nan mW"), "line 13"),
    (OPTICAL_ASKED, OPTICAL.replace("1.0040 mW", "1.00٤0 mW"), "line 13"),
    (OPTICAL_ASKED, OPTICAL.replace("1.0040 mW", "NA"), "without a power"),
    (OPTICAL_ASKED, OPTICAL.replace("Tx Power1", "Tx Power3"), "comes twice"),
    (OPTICAL_ASKED, OPTICAL.replace("Tx Power0", "Tx Power4"), "line 13"),
    (OPTICAL_ASKED, OPTICAL.replace("Tx Power0", "Tx Power "), "'Tx Power0'"),
    (OPTICAL_ASKED, OPTICAL.replace("Rx Power3            : 0.9307 mW\n", ""), "sent and received"),
    (OPTICAL_ASKED, OPTICAL.replace("Host SNR Lane3       : not supported\n", ""), "the SNR of every lane"),
    (OPTICAL_ASKED, OPTICAL.replace("20.5000 dB", "200.5000 dB"), "from -100 to 100"),
    (OPTICAL_ASKED, OPTICAL.replace("0xa", "0xaaa"), "0xff"),
    (OPTICAL_ASKED, OPTICAL.replace("0xa", "10"), "0xff"),
    (OPTICAL_ASKED, OPTICAL.replace("Rx Los Flag          : 0xa\n", ""), "'Rx Los Flag'"),
    (OPTICAL_ASKED, OPTICAL.replace("RxPower Low Thres    : 0.1000 mW\n", ""), "'RxPower Low Thres'"),
    (OPTICAL_ASKED, OPTICAL_BASE + "Tx LoL Flag          : 0x0\n", "flags and the SNR"),
    (OPTICAL_ASKED, OPTICAL_BASE.rstrip("\n"), "no line end"),
    (OPTICAL_ASKED, OPTICAL + "...\n", "line 48"),
    (OPTICAL_ASKED, OPTICAL + "Rx Power             : 0.5000 mW\n", "'Rx Power0'"),
    (SPEED, "Speed: 200000Mb/s\n", "line 1"),
    (SPEED, "Speed: 200 G\n", "line 1"),
    (SPEED, "Speed: 0 Mb/s\n", "line 1"),
    (SPEED, "Speed: -1 Mb/s\n", "line 1"),
    (SPEED, "Speed: 200000\n", "line 1"),
    (SPEED, "Speed: 200000 Mb/s extra\n", "line 1"),
    (SPEED, "Speed: 2000000 Mb/s\n", "line 1"),
    (SPEED, "Speed: Unknown\n", "line 1"),
    (DUPLEX, "Duplex: full\n", "line 1"),
    (DUPLEX, "Duplex: Unknown\n", "line 1"),
    (MTU, "mtu:1500", "no line end"),
    (MTU, "mtu:67\n", "at least 68"),
    (MTU, "mtu:65536\n", "line 1"),
    (MTU, "mtu:01500\n", "line 1"),
    (FEC, "fec mode: fast FEC mode\n", "line 1"),
    (FEC, "fec mode: rs\n", "line 1"),
    (FEC, "fec mode: rs FEC mode\nfec mode: no FEC mode\n", "comes twice"),
    (STAT_ASKED, STAT.replace("packet statistics:\n", ""), "line 1"),
    (STAT_ASKED, "packet statistics:\n", "the first counter"),
    (STAT_ASKED, STAT.replace(":12", ":1x"), "line 5"),
    (STAT_ASKED, STAT.replace(":12", ":012"), "line 5"),
    (STAT_ASKED, STAT.replace("551615", "551616"), "line 6"),
    (STAT_ASKED, STAT.replace(":3\n", ":-3\n"), "line 3"),
    (STAT_ASKED, STAT.replace("roce_rx_err_pkt_num", "mac_rx_bad_pkt_num"), "comes twice"),
    (STAT_ASKED, STAT.replace("roce_rx_err_pkt_num", "something"), "line 4"),
    (STAT_ASKED, STAT.replace("roce_rx_err_pkt_num:0", "..."), "line 4"),
    (STAT_ASKED, STAT.rstrip("\n"), "no line end"),
    (STAT_ASKED, STAT.replace("nic_rx_all_oct_num:88\n", ""), "'nic_rx_all_oct_num'"),
    (HW_STATS_ASKED, HW_STATS.replace("[devid 3] cq_active", "[devid 2] cq_active"), "device 2"),
    (HW_STATS_ASKED, HW_STATS.replace("[devid 3] ", "[devid 3]"), "line 1"),
    (HW_STATS_ASKED, HW_STATS.replace("qp_alloc: 60\n", "qp_alloc: 60\n[devid 3] qp_alloc: 61\n"), "twice"),
    (HW_STATS_ASKED, HW_STATS.replace("ceqe: 130", "ceqe: -1"), "line 14"),
    (HW_STATS_ASKED, HW_STATS.replace("[devid 3] mr_active: 90\n", ""), "'mr_active'"),
    (HW_STATS_ASKED, HW_STATS.rstrip("\n"), "no line end"),
    (ECC_ASKED, ECC.replace(": 1\n", ": 4294967296\n"), "line 2"),
    (ECC_ASKED, ECC.replace("HBM Double Bit Error", "HBM Triple Bit Error"), "line 2"),
    (ECC_ASKED, "\n".join(ECC.split("\n")[:5]) + "\n", "'HBM Double Bit Isolated Pages Count'"),
    (ECC_ASKED, "\n".join(ECC.split("\n")[:7]) + "\n", "'HBM Double Bit Next-Isolated Pages Count'"),
    (ECC_ASKED, ECC + "\tDDR Single Bit Error Count : 0\n", "'DDR Double Bit Error Count'"),
    (ECC_ASKED, ECC.rstrip("\n"), "no line end"),
    (ECC_ASKED, ECC + ECC, "comes twice"),
    (ECC_ASKED, "\tNPU ID : 4\n" + ECC, "asked was NPU 3"),
    (ECC_ASKED, "\tNPU ID : 3\n" + ECC + "\tChip ID : 1\n", "asked was chip 0"),
    (MEMINFO_ASKED, MEMINFO.replace("2112996928 kB", "2112996928 MB"), "line 1"),
    (MEMINFO_ASKED, MEMINFO.replace("2112996928 kB", "2112996928"), "MemTotal in kB"),
    (MEMINFO_ASKED, MEMINFO.replace("    1000\n", "    1000 kB\n"), "HugePages_Free in pages"),
    (MEMINFO_ASKED, MEMINFO.replace("2000000000", "2112996929"), "line 3"),
    (MEMINFO_ASKED, MEMINFO.replace("    1000\n", "    1025\n"), "line 6"),
    (MEMINFO_ASKED, MEMINFO.replace("MemFree: ", "MemTotal:"), "line 2"),
    (MEMINFO_ASKED, MEMINFO.split("HugePages_Total")[0], "'HugePages_Total'"),
    (MEMINFO_ASKED, MEMINFO.rstrip("\n"), "no line end"),
    (TIME, TIMEDATECTL.replace("\nNTP=yes\n", "\nNTP=maybe\n"), "line 4"),
    (TIME, TIMEDATECTL.replace("NTPSynchronized=no\n", ""), "'NTPSynchronized='"),
    (TIME, TIMEDATECTL.replace("NTPSynchronized=no", "NTPSynchronized=no\nNTPSynchronized=yes"), "line 6"),
    (TIME, "Local time: Mon 2026-10-12 06:55:43 CST\n", "line 1"),
]


@pytest.mark.parametrize(("command", "text", "part"), UNPARSED)
def test_anything_else_is_unparsed(command: str, text: str, part: str) -> None:
    status, facts, reason = read(command, text)
    assert (status, facts) == ("unparsed", None)
    assert part in reason


@pytest.mark.parametrize(
    ("command", "stderr", "code", "status"),
    [
        ("hostname -i", "hostname: Name or service not known", 1, "no-data"),
        ("hostname -i", "/usr/bin/hostname: Temporary failure in name resolution", 1, "no-data"),
        ("hostname -i", "hostname: node07: Unknown host", 1, "no-data"),
        ("hostname -i", "hostname: invalid option -- 'i'", 255, "failed"),
        (TIME, "System has not been booted with systemd as init system (PID 1).", 1, "unsupported"),
        (TIME, "Unknown operation show.", 1, "unsupported"),
        (TIME, "Unknown command verb 'show'.", 1, "unsupported"),
        (TIME, "Failed to query server: Connection timed out", 1, "failed"),
        (MEMINFO_ASKED, "cat: /proc/meminfo: Permission denied", 1, "denied"),
        (OPTICAL_ASKED, "Control link unreachable.", 1, "failed"),
    ],
)
def test_error_text(command: str, stderr: str, code: int, status: str) -> None:
    parsed = parse(command, b"", f"{stderr}\n".encode(), code)
    assert parsed.status.value == status and parsed.reason


@pytest.mark.parametrize(
    ("text", "status"),
    [("Optical module is not present.\n", "no-data"), ("I2c is busy. Please try again.\n", "busy")],
)
def test_what_the_tool_says_instead_of_a_module(text: str, status: str) -> None:
    assert read(OPTICAL_ASKED, text)[0] == status


def test_ecc_that_a_product_has_not() -> None:
    assert read(ECC_ASKED, "This device does not support querying ecc.\n")[0] == "unsupported"


@pytest.mark.parametrize(
    ("command", "text"),
    [(OPTICAL_ASKED, OPTICAL), (OPTICAL_ASKED, samples.OPTICAL_ABSENT), (ECC_ASKED, ECC)],
    ids=["optical", "optical-absent", "ecc"],
)
def test_a_cut_leaves_whole_values_or_nothing(command: str, text: str) -> None:
    """A build without an extension prints less; no value of what is left may differ."""
    whole = read(command, text)[1]
    accepted = 0
    for at in range(1, len(text)):
        status, facts, _ = read(command, text[:at])
        if status != "ok":
            continue
        accepted += 1
        if "counters" in whole:
            assert facts["counters"].items() <= whole["counters"].items()
        else:
            assert all(facts[key] in (whole[key], [], None) for key in whole)
    assert accepted <= 6
