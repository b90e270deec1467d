"""Real outputs: every capture that ascendctl has a reader or an error text for, with its values."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytest

from ascendctl.parsers import UnknownCommand, facts_json, parse
from tests.parsers.captured_tables import TABLES

_FOLDER = os.environ.get("ASCENDCTL_CAPTURES", "")

pytestmark = pytest.mark.skipif(not _FOLDER, reason="ASCENDCTL_CAPTURES does not name the folder of captures")


def _index() -> list[dict[str, str]]:
    if not _FOLDER:
        return []
    with (Path(_FOLDER) / "INDEX.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# Questions that ascendctl does not ask: it tells their error texts, and reads no values.
NOT_READ = (
    "hccn_arp__", "hccn_bandwidth__", "hccn_mac__", "hccn_pfc__", "hccn_route__", "hccn_status__",
    "hccn_tls_set__", "hccn_udp__", "npusmi_t_common__", "npusmi_t_memory_chip__",
    "npusmi_t_proc-mem__", "npusmi_t_usages", "npusmi_upgrade_b_mcu__",
)  # fmt: skip

# Marked ok in the index, and not ok in truth.
DISAGREEMENTS = {
    "hccn_ip__910A__fdA_before_dev2.txt": "unparsed",  # the file is empty: nothing says why
    "npusmi_any__container__reconstructed.txt": "unsupported",  # "cannot be executed on a VM or container"
    "npusmi_any__root_only__reconstructed.txt": "denied",  # "only by the root user"
}


def _record(time: str, status: str) -> dict[str, str]:
    return {"time": time, "link_status": status}


_BEFORE = [
    _record("Tue Aug  1 14:43:40 2022", "UP"),
    _record("Tue Aug  1 14:43:40 2022", "DOWN"),
    _record("Tue Aug  1 14:43:26 2022", "UP"),
]
_BEFORE_FACTS = {"up_count": 2, "down_count": None, "records": _BEFORE}


def _address(address: str, netmask: str = "255.255.255.0") -> dict[str, str]:
    return {"address": address, "netmask": netmask}


def _ping(target: str, received: int, loss_percent: float) -> dict[str, Any]:
    return {"target": target, "transmitted": 3, "received": received, "loss_percent": loss_percent}


def _spod(sdid: int, size: int, pod: int, server: int) -> dict[str, int]:
    return {"sdid": sdid, "super_pod_size": size, "super_pod_id": pod, "server_index": server}


def _vnic(status: str, address: str, netmask: str) -> dict[str, str]:
    return {"link_status": status, "address": address, "netmask": netmask}


def _chips(*rows: tuple[int, int, int, int | None], name: str) -> dict[str, Any]:
    keys = ("npu_id", "chip_id", "logic_id", "phy_id")
    return {"chips": [{**dict(zip(keys, row, strict=True)), "name": name} for row in rows]}


_A2_CHIPS = [(npu, 0, npu, None) for npu in range(8)]
_A3_CHIPS = [(n, chip, 2 * n + chip, 2 * n + chip) for n in range(8) for chip in range(2)]
_DUO_CHIPS = [(n, chip, 2 * at + chip, None) for at, n in enumerate((1, 2, 4, 5)) for chip in range(2)]
_HEALTHY = {"health": "OK", "error_codes": [], "error_information": []}
_INVALID = 4294967295
_CARD_FIELDS = {
    "Software Version": "23.0.5",
    "Firmware Version": "7.1.0.7.220",
    "Compatibility": "OK",
    "Board ID": "0x02",
    "PCB ID": "A",
    "BOM ID": "1",
    "PCIe Bus Info": "0000:61:00.0",
    "Slot ID": "0",
    "Class ID": "NA",
    "PCI Vendor ID": "0x19E5",
    "PCI Device ID": "0xD801",
    "Subsystem Vendor ID": "0x0200",
    "Subsystem Device ID": "0x0100",
    "Chip Count": "1",
}


def _chip_fields(name: str) -> dict[str, str]:
    return {
        "Chip Type": "Ascend",
        "Chip Name": name,
        "Chip Version": "V1",
        "Board ID": "0x02",
        "PCB ID": "NA",
        "BOM ID": "1",
        "VDie ID": "42C711D4 20B03704 4A10C8D4 14CC040A D2102003",
        "NDie ID": "27216594 20401010 4E10C8D4 14CC040A A4102003",
        "Chip Position ID": "0",
        "PCIe Bus Info": "0000:61:00.0",
        "Firmware Version": "7.1.0.7.220",
    }


_OPTICAL = {
    "present": False,  # the module's values are live all the same
    "temperature_c": 47.0,
    "voltage_mv": 3262.9,
    "tx_power_mw": [4.4035, 1.3968, 1.414, 1.4988],
    "rx_power_mw": [1.0189, 0.0054, 0.9907, 1.0213],
    "host_snr_db": [None] * 4,
    "media_snr_db": [23.1211, 22.6289, 22.1875, 23.2969],
    "temperature_high_c": 70.0,
    "temperature_low_c": 0.0,
    "voltage_high_mv": 3465.0,
    "voltage_low_mv": 3135.0,
    "tx_power_high_mw": 3.5481,
    "tx_power_low_mw": 0.2818,
    "rx_power_high_mw": 3.5481,
    "rx_power_low_mw": 0.1445,
    "tx_los_flags": 0,
    "rx_los_flags": 255,
    "tx_lol_flags": 0,
    "rx_lol_flags": 255,
    "vendor": "Hisense",
    "part_number": "LMQ8611-PC+",
    "serial_number": "V8BD6H25033",
}
_PFC = ("pfc_pkt", *(f"pfc_pri{priority}_pkt" for priority in range(8)))
_STAT_NAMES = (
    "mac_tx_mac_pause", "mac_rx_mac_pause",
    *(f"mac_{way}_{what}" for way in ("tx", "rx") for what in _PFC),
    *(
        f"mac_{way}_{what}"
        for way in ("tx", "rx")
        for what in ("total_pkt", "total_oct", "bad_pkt", "bad_oct")
    ),
    "mac_rx_fcs_err_pkt",
    *(f"roce_{way}_{what}_pkt" for way in ("rx", "tx") for what in ("rc", "all", "err")),
    "roce_cqe", "roce_rx_cnp_pkt", "roce_tx_cnp_pkt", "roce_unexpected_ack", "roce_out_of_order",
    "roce_verification_err", "roce_qp_status_err", "roce_new_pkt_rty", "roce_ecn_db",
    *(f"nic_{way}_all_{what}" for way in ("tx", "rx") for what in ("pkg", "oct")),
)  # fmt: skip
_ECC_NAMES = [
    f"{memory} {bits} Bit {kind}"
    for memory in ("DDR", "HBM")
    for kind in ("Error Count", "Aggregate Total Err Cnt", "Isolated Pages Count")
    for bits in ("Single", "Double")
]
_TOPO_4_DIES = [
    ["X", "SIO", "HCCS_SW", "HCCS_SW"],
    ["SIO", "X", "HCCS_SW", "HCCS_SW"],
    ["HCCS_SW", "HCCS_SW", "X", "SIO"],
    ["HCCS_SW", "HCCS_SW", "SIO", "X"],
]
_TOPO_A2 = [["X" if row == column else "HCCS" for column in range(8)] for row in range(8)]


def _table(file: str) -> dict[str, Any]:
    version, devices, processes = TABLES[file]
    device_keys = (
        "npu_id", "chip_id", "phy_id", "name", "health", "bus_id", "power_w", "temperature_c",
        "aicore_percent", "hbm_used_mib", "hbm_total_mib",
    )  # fmt: skip
    process_keys = ("npu_id", "chip_id", "pid", "name", "memory_mib")
    return {
        "version": version,
        "devices": [dict(zip(device_keys, device, strict=True)) for device in devices],
        "processes": [dict(zip(process_keys, process, strict=True)) for process in processes],
    }


VALUES: dict[str, Any] = {
    "cat_driver_version_info__910A__fdA_after.txt": "23.0.7",
    "hccn_conf__A2__ip_mask_only.txt": {
        "devices": {
            str(n): {**_address(f"10.20.11.{11 + n}"), "gateway": None, "netdetect": None, "mtu_bytes": None}
            for n in range(8)
        }
    },
    "hccn_duplex__A2A3__full__reconstructed.txt": {"duplex": "Full"},
    "hccn_fec__910A__fdA_before_dev0.txt": {"mode": "no"},
    "hccn_fec__A2A3__auto__reconstructed.txt": {"mode": "auto"},
    "hccn_fec__doc__mindcluster_rs.txt": {"mode": "rs"},
    "hccn_gateway__A2__deepseek910B3_dev0.txt": {"address": "11.12.165.1", "interface": "eth0"},
    "hccn_gateway__A2__gpustack_blank_lines.txt": {"address": "192.168.6.1", "interface": "eth0"},
    "hccn_hccs_ping__A3__ok__reconstructed.txt": _ping("192.40.3.198", 3, 0.0),
    "hccn_hccs_ping__A3__partial_fail__reconstructed.txt": _ping("192.40.3.198", 2, 33.33),
    "hccn_hccs_ping__A3__total_fail__reconstructed.txt": _ping("192.40.3.198", 0, 100.0),
    "hccn_ip__910A__fdA_before_dev0.txt": _address("192.161.200.10"),
    "hccn_ip__910A__fdA_before_dev1.txt": _address("192.161.201.10"),
    "hccn_ip__910A__fdC_worker9_dev0.txt": _address("192.1.45.172", "255.255.0.0"),
    "hccn_ip__910A__fdC_worker9_dev1.txt": _address("192.2.167.33", "255.255.0.0"),
    "hccn_ip__910A__fdC_worker9_dev2.txt": _address("192.3.103.252", "255.255.0.0"),
    "hccn_ip__910A__fdC_worker9_dev3.txt": _address("192.4.166.202", "255.255.0.0"),
    "hccn_ip__A2__notes20core_dev3.txt": _address("10.20.11.24"),
    "hccn_ip__A3__pymotor_dev0.txt": _address("10.0.245.11"),
    "hccn_ip__A3__pymotor_dev1.txt": _address("10.0.244.11"),
    "hccn_link__A2__DOWN.txt": {"link_status": "DOWN"},
    "hccn_link__A2__UP.txt": {"link_status": "UP"},
    "hccn_link__doc__mindcluster_UP.txt": {"link_status": "UP"},
    "hccn_link_stat__910A__fdA_after_dev0.txt": {
        "up_count": 2,
        "down_count": None,
        "records": [_record("Tue Aug  1 14:44:40 2022", "DOWN"), *_BEFORE],
    },
    "hccn_link_stat__910A__fdA_before_dev0.txt": _BEFORE_FACTS,
    **{f"hccn_link_stat__910A__fdB_before_dev{n}.txt": _BEFORE_FACTS for n in range(1, 8)},
    "hccn_link_stat__A2A3__no_records__reconstructed.txt": {"up_count": 0, "down_count": 0, "records": []},
    "hccn_link_stat__doc__mindcluster_device_prefix.txt": {
        "up_count": 2,
        "down_count": None,
        "records": [
            _record("Tue Jun  6 16:32:12 2023", "UP"),
            _record("Tue Jun  6 16:32:10 2023", "DOWN"),
            _record("Tue Jun  6 16:31:55 2023", "UP"),
        ],
    },
    "hccn_mtu__A2A3__reconstructed.txt": {"mtu_bytes": 4200},
    # The driver's list has one value for it, spelled "Socket fail".
    "hccn_net_health__910A__fdA_before_dev0.txt": {"net_health": "Socket fail"},
    **{
        f"hccn_net_health__A2A3__{word.replace(' ', '_')}__reconstructed.txt": {"net_health": word}
        for word in (
            "Detect ip set", "Fault", "Init", "Receive timeout", "Socket fail", "Success", "Thread error",
            "Time exceeded", "Unknown", "Unreachable",
        )
    },
    "hccn_net_health__A2__Success.txt": {"net_health": "Success"},
    "hccn_net_health__doc__mindcluster_Init.txt": {"net_health": "Init"},
    "hccn_netdetect__A2A3__addr_form__reconstructed.txt": {"address": "11.12.165.1"},
    "hccn_netdetect__A2__address_form.txt": {"address": "11.12.165.1"},
    "hccn_optical__910A__fdA_before_dev0.txt": _OPTICAL,
    "hccn_ping__A2A3__total_loss__reconstructed.txt": _ping("11.12.165.20", 0, 100.0),
    "hccn_ping__A2__deepseek910B3_ok_dev0.txt": _ping("11.12.165.80", 3, 0.0),
    "hccn_ping__A2__notes20core_ok_dev3.txt": _ping("10.20.11.16", 3, 0.0),
    "hccn_speed__A2A3__200G__reconstructed.txt": {"speed_mbps": 200000},
    "hccn_speed__A2A3__unknown__reconstructed.txt": {"speed_mbps": None},
    "hccn_stat__910A__fdA_before_dev0.txt": {
        "counters": {"roce_rx_err_pkt_num": 0, "roce_tx_err_pkt_num": 0}
    },
    "hccn_stat__A2A3__full_key_list_zero__reconstructed.txt": {
        "counters": {f"{name}_num": 0 for name in _STAT_NAMES}
    },
    "hccn_vnic__A2__hcomm_doc_dev0.txt": _vnic("UP", "192.168.2.199", "255.255.255.0"),
    "hccn_vnic__A3__down__reconstructed.txt": _vnic("DOWN", "192.40.2.199", "255.0.0.0"),
    "hccn_vnic__A3__server40_dev0__reconstructed.txt": _vnic("UP", "192.40.2.199", "255.0.0.0"),
    "hccn_vnic__A3__server40_dev1__reconstructed.txt": _vnic("UP", "192.40.3.198", "255.0.0.0"),
    **{file: _table(file) for file in TABLES},
    "npusmi_l__A2__910B4_25.0.rc1.1.txt": {"cards": [{"npu_id": n, "chip_count": 1} for n in range(8)]},
    "npusmi_m__310P__gpustack.txt": _chips(*_DUO_CHIPS, name="Ascend xxx"),
    "npusmi_m__910A__fdA_before.txt": _chips(*_A2_CHIPS, name="Ascend 910A"),
    "npusmi_m__A2__910B4_25.0.rc1.1.txt": _chips(*_A2_CHIPS, name="Ascend 910B4"),
    "npusmi_m__A2__910B4_25.0.rc1.1_tab_restored.txt": _chips(*_A2_CHIPS, name="Ascend 910B4"),
    "npusmi_m__A3__hive_nodes.txt": _chips(*_A3_CHIPS, name="Ascend910"),
    "npusmi_m__A3__xllm_fixture_fragment.txt": _chips(*_A3_CHIPS[:3], name="Ascend910"),
    "npusmi_m__no_card__reconstructed.txt": {"chips": []},
    "npusmi_t_board_card__910A__fdA_before.txt": {"npu_id": 0, "chip_id": None, "fields": _CARD_FIELDS},
    "npusmi_t_board_chip__910A__fdA_before.txt": {"npu_id": 0, "chip_id": 0, "fields": _chip_fields("910A")},
    "npusmi_t_board_chip__doc__mindcluster.txt": {"npu_id": 0, "chip_id": 0, "fields": _chip_fields("xxx")},
    "npusmi_t_ecc_card__doc__mindcluster.txt": {"counters": dict.fromkeys(_ECC_NAMES, 0)},
    "npusmi_t_hccs__A2__7lanes__reconstructed.txt": {
        "health": "OK",
        "lane_mode": [4] * 7,
        "lane_list": ["1111"] * 7,
        "speed": [224] * 7,
        "counters": {},
    },
    "npusmi_t_health_chip__910A__fdA_after.txt": {
        "health": "Alarm",
        "error_codes": ["A4025021", "8C03A000", "8C084E00"],
        "error_information": [
            "ascend_monitor adda heart beat lost error",
            "node type=process-manager, sensor type=General Software, "
            "event state=The process start failed or exit abnormally",
            "node type=adda, sensor type=Heartbeat Sensor, event state=Heartbeat Lost.",
        ],
    },
    "npusmi_t_health_chip__910A__fdA_before.txt": _HEALTHY,
    "npusmi_t_health_chip__doc__mindcluster.txt": _HEALTHY,
    "npusmi_t_spod-info__A3__not_in_superpod__reconstructed.txt": _spod(*[_INVALID] * 4),
    "npusmi_t_spod-info__A3__pymotor_dev0.txt": _spod(167772160, 384, 0, 40),
    "npusmi_t_spod-info__A3__pymotor_dev1.txt": _spod(167837697, 384, 0, 40),
    "npusmi_t_topo__A2__910B4_reformatted.txt": {"ids": list(range(8)), "cells": _TOPO_A2},
    "npusmi_t_topo__A3__4die_arm__reconstructed.txt": {"ids": [0, 1, 2, 3], "cells": _TOPO_4_DIES},
    "npusmi_v__A2A3__reconstructed.txt": "25.5.0",
}  # fmt: skip

# An edited text may be read or not; a version, link or reply that it lacks must not be made up.
_NOT_READABLE = {
    "hccn_optical__doc__mindcluster_singlelane_elided.txt",
    "hccn_stat__doc__mindcluster_elided.txt",
    "hccn_ping__A2__mindie_doc_partial_loss_ocr.txt",
    "npusmi_info__A2__23.0.rc2_elided.txt",
    "npusmi_info__doc__mindcluster_23.0.5_elided.txt",
    "npusmi_info__doc__mindcluster_24.1.rc1_elided.txt",
    "npusmi_info_h__A2__23.0.rc2.txt",
    "npusmi_t_board_card__910A__fdA_after.txt",
    "npusmi_t_hccs__A2or3__real_block_truncated.txt",
    "npusmi_t_spod-info__A3__bad_card_id__reconstructed.txt",
    "npusmi_t_topo__A3__flagcx_fragment.txt",
    "npusmi_t_topo__A3__zstack_fragment.txt",
}

_ROWS = [row for row in _index() if row["expect"] != "free"]


@pytest.mark.parametrize("row", [pytest.param(row, id=row["file"]) for row in _ROWS])
def test_capture(row: dict[str, str]) -> None:
    file, expect = row["file"], row["expect"]
    text = (Path(_FOLDER) / file).read_bytes()
    stdout, stderr = (b"", text) if row["stream"] == "stderr" else (text, b"")
    parsed = parse(row["command"], stdout, stderr, int(row["exit_code"] or 0))
    if file.startswith(NOT_READ):
        assert parsed.status.value == "unparsed" and "no reader" in parsed.reason
        return
    if expect == "not-wrong":
        assert file in VALUES or file in _NOT_READABLE, "write down what it would have to say"
        if parsed.status.value == "ok":
            assert facts_json(parsed.facts) == VALUES[file]
        return
    assert parsed.status.value == DISAGREEMENTS.get(file, expect), parsed.reason
    if parsed.status.value == "ok":
        assert facts_json(parsed.facts) == VALUES[file]
        assert parsed.reason == ""
    else:
        assert parsed.facts is None and parsed.reason


def test_every_expected_value_belongs_to_a_capture() -> None:
    files = {row["file"] for row in _ROWS}
    assert set(VALUES) | set(DISAGREEMENTS) | _NOT_READABLE <= files


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row["file"]) for row in _index() if row["expect"] == "free"]
)
def test_a_capture_that_is_not_asked_for_raises_nothing_else(row: dict[str, str]) -> None:
    text = (Path(_FOLDER) / row["file"]).read_bytes()
    try:
        parse(row["command"], text)
    except UnknownCommand as error:
        assert str(error)
