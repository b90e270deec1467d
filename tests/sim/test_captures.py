"""Given a state written here, the tools print what the real ones printed, byte for byte."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ascendctl.sim.answer import Answer
from ascendctl.sim.counters import LinkChange, LinkHistory
from ascendctl.sim.model import (
    NOT_IN_A_SUPER_POD,
    Cluster,
    Die,
    Ecc,
    EccCounts,
    Hccs,
    Host,
    Port,
    Process,
    SuperPodIds,
    Vnic,
)
from ascendctl.sim.network import HccsPacket
from ascendctl.sim.optical import Lane, Optical
from ascendctl.sim.tools import answer
from tests.sim.npu_smi_tables import TABLES

FOLDER = os.environ.get("ASCENDCTL_CAPTURES")
pytestmark = pytest.mark.skipif(not FOLDER, reason="ASCENDCTL_CAPTURES names no folder of real outputs")


def die(phy_id: int = 0, *, chips: int = 1, **fields: Any) -> Die:
    fields = {"name": "910B3", "npu_id": phy_id // chips, "chip_id": phy_id % chips, **fields}
    return Die(phy_id=phy_id, logic_id=phy_id, **fields)


def host(*dies: Die, generation: str = "a2", **fields: Any) -> Host:
    fields = {"phy_ids": tuple(each.phy_id for each in dies), **fields}
    return Host("node01", generation, dies, **fields)


def one(phy_id: int = 0, generation: str = "a2", **port: Any) -> Host:
    """A host with one device and that port."""
    return host(die(phy_id, port=Port(**port)), generation=generation)


def refusing(refusal: str) -> Host:
    return host(die(refusals={"-link": refusal}))


class Pings(Cluster):
    """A network that gives the round trips of the test."""

    def __init__(self, state: Host, times_ms: Any = (), packets: Any = ()) -> None:
        super().__init__((state,))
        object.__setattr__(self, "times_ms", times_ms)
        object.__setattr__(self, "packets", packets)

    def roce_ping(self, source: Die, address: str, count: int, attempt: int = 0) -> Any:
        return self.times_ms  # type: ignore[attr-defined]

    def hccs_ping(self, source: Die, address: str, count: int, attempt: int = 0) -> Any:
        return self.packets  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Row:
    """``part``: whole, or head where whoever published the capture left out the end."""

    file: str
    state: Host
    command: str
    times_ms: tuple[float | None, ...] = ()
    packets: tuple[HccsPacket, ...] = ()
    part: str = "whole"
    stream: str | None = None  # where INDEX.csv names the stream of a second, unseen text


GATEWAY = one(address="11.12.165.80", netmask="255.255.255.0", gateway="11.12.165.1", netdetect="11.12.165.1")
A3_DIES = tuple(die(phy_id, chips=2, name="Ascend910") for phy_id in range(16))
A3_PING = host(A3_DIES[0], generation="a3")


def ok(time_ns: int) -> HccsPacket:
    return HccsPacket("success", time_ns)


def spod(phy_id: int, ids: SuperPodIds) -> Host:
    return host(die(phy_id, chips=2, super_pod=ids), generation="a3")


def in_pod(device: int, address: str, up: bool = True) -> Host:
    vnic = Vnic(address, "255.0.0.0", up)
    return host(die(device, chips=2, vnic=vnic), generation="a3")


def older_history(time: str, *changes: LinkChange) -> LinkHistory:
    """As older tools print it, without a count of losses."""
    return LinkHistory(time, up_count=2, down_count=None, changes=changes)


FIRST_CHANGES = (
    LinkChange("Tue Aug  1 14:43:40 2022", True),
    LinkChange("Tue Aug  1 14:43:40 2022", False),
    LinkChange("Tue Aug  1 14:43:26 2022", True),
)
CAPTURED_OPTICAL = Optical(
    present=False,  # and yet with values: its authors left the contradiction in
    temperature_c=47,
    vendor="Hisense",
    part_number="LMQ8611-PC+",
    serial_number="V8BD6H25033",
    vendor_id=(0xAC, 0x4A, 0x00),
    date_code="2023.6.18",
    voltage_mv=3262.9,
    lanes=(
        Lane(4.4035, 1.0189, 7.936, None, 23.1211),
        Lane(1.3968, 0.0054, 7.928, None, 22.6289),
        Lane(1.414, 0.9907, 7.936, None, 22.1875),
        Lane(1.4988, 1.0213, 7.924, None, 23.2969),
    ),
    rx_los=0xFF,
    rx_lol=0xFF,
)

ROWS = [
    *(
        Row(f"hccn_any__fail__{file}__reconstructed.txt", refusing(name), "hccn_tool -i 0 -link -g")
        for file, name in {
            "busy_stdout": "busy",
            "conf_access_stderr": "conf-access",
            "dev_not_exist_stderr": "no-device",
            "exec_timeout_stderr": "timeout",
            "generic_fail_stderr": "tool-failed",
            "health_timeout_stderr": "health-timeout",
            "i2c_busy_stdout": "i2c-busy",
            "link_down_stderr": "link-down",
            "optical_absent_stdout": "no-module",
            "optical_ctrl_unreachable_stderr": "control-link",
            "permission_stderr": "permission",
            "unsupported_product_stdout": "unsupported",
            "vm_unsupported_stderr": "virtual-machine",
        }.items()
    ),
    Row("hccn_any__fail__gateway_not_preset_stderr__reconstructed.txt", one(), "hccn_tool -i 0 -gateway -g"),
    Row("hccn_any__fail__invalid_cmd_stderr__reconstructed.txt", one(), "hccn_tool -i 0 -nethealth"),
    Row("hccn_any__fail__invalid_device_id_stderr__reconstructed.txt", one(), "hccn_tool -i 9 -link -g"),
    Row(
        "hccn_any__fail__dev_not_exist_stderr__reconstructed.txt", host(phy_ids=(0,)), "hccn_tool -i 0 -ip -g"
    ),
    Row(
        "hccn_arp__A2__reconstructed.txt",
        one(arp=(("10.0.0.12", "0c:4f:9b:b5:ca:75"),)),
        "hccn_tool -i 0 -arp -g",
    ),
    Row("hccn_bandwidth__A2A3__reconstructed.txt", one(), "hccn_tool -i 0 -bandwidth -g"),
    Row("hccn_duplex__A2A3__full__reconstructed.txt", one(), "hccn_tool -i 0 -duplex -g"),
    Row("hccn_fec__A2A3__auto__reconstructed.txt", one(), "hccn_tool -i 0 -fec -g"),
    Row("hccn_gateway__A2__deepseek910B3_dev0.txt", GATEWAY, "hccn_tool -i 0 -gateway -g"),
    Row(
        "hccn_hccs_ping__A2__unsupported_product__reconstructed.txt",
        one(),
        "hccn_tool -i 0 -hccs_ping -g address 192.168.2.198",
    ),
    Row(
        "hccn_hccs_ping__A3__busy_stderr__reconstructed.txt",
        host(replace(A3_DIES[0], refusals={"-hccs_ping": "occupied"}), generation="a3"),
        "hccn_tool -i 0 -hccs_ping -g address 192.40.3.198",
    ),
    *(
        Row(
            f"hccn_hccs_ping__A3__{name}__reconstructed.txt",
            A3_PING,
            "hccn_tool -i 0 -hccs_ping -g address 192.40.3.198",
            packets=packets,
        )
        for name, packets in {
            "ok": (ok(9120), ok(7480), ok(7210)),
            "partial_fail": (ok(9120), HccsPacket("no-reply"), ok(7210)),
            "total_fail": (HccsPacket("send-failed"), HccsPacket("not-sent"), HccsPacket("not-sent")),
        }.items()
    ),
    Row("hccn_ip__A2__not_preset_stderr.txt", one(), "hccn_tool -i 0 -ip -g"),
    Row(
        "hccn_ip__A2__notes20core_dev3.txt",
        one(3, address="10.20.11.24", netmask="255.255.255.0"),
        "hccn_tool -i 3 -ip -g",
    ),
    Row(
        "hccn_ip__A3__pymotor_dev0.txt",
        one(0, "a3", address="10.0.245.11", netmask="255.255.255.0"),
        "hccn_tool -i 0 -ip -g",
    ),
    Row(
        "hccn_ip__A3__pymotor_dev1.txt",
        one(1, "a3", address="10.0.244.11", netmask="255.255.255.0"),
        "hccn_tool -i 1 -ip -g",
    ),
    Row("hccn_link__A2__UP.txt", one(), "hccn_tool -i 0 -link -g"),
    Row(
        "hccn_link_stat__A2A3__no_records__reconstructed.txt",
        one(link_history=LinkHistory("Mon Nov 23 10:00:00 2026", up_count=0)),
        "hccn_tool -i 0 -link_stat -g",
    ),
    Row("hccn_lldp__A2A3__no_neighbour_empty__reconstructed.txt", one(), "hccn_tool -i 0 -lldp -g"),
    Row("hccn_mac__A2A3__reconstructed.txt", one(mac="0c:4f:9b:b5:ca:74"), "hccn_tool -i 0 -mac -g"),
    Row("hccn_mtu__A2A3__reconstructed.txt", one(mtu=4200), "hccn_tool -i 0 -mtu -g"),
    *(
        Row(
            f"hccn_net_health__A2A3__{word.replace(' ', '_')}__reconstructed.txt",
            one(net_health=word),
            "hccn_tool -i 0 -net_health -g",
        )
        for word in (
            "Detect ip set",
            "Init",
            "Receive timeout",
            "Socket fail",
            "Success",
            "Thread error",
            "Time exceeded",
            "Unknown",
            "Unreachable",
        )
    ),
    Row(
        "hccn_net_health__A2A3__Fault__reconstructed.txt",
        one(link_up=False),
        "hccn_tool -i 0 -net_health -g",
    ),
    Row("hccn_net_health__A2__Success.txt", GATEWAY, "hccn_tool -i 0 -net_health -g"),
    Row(
        "hccn_netdetect__A2A3__addr_form__reconstructed.txt",
        replace(GATEWAY, netdetect_label="addr"),
        "hccn_tool -i 0 -netdetect -g",
    ),
    Row("hccn_netdetect__A2__address_form.txt", GATEWAY, "hccn_tool -i 0 -netdetect -g"),
    Row("hccn_pfc__A2A3__reconstructed.txt", one(), "hccn_tool -i 0 -pfc -g"),
    Row(
        "hccn_ping__A2A3__failed_stderr__reconstructed.txt",
        one(),
        "hccn_tool -i 0 -ping -g address 11.12.165.20",
        times_ms=(0.1, None, 0.1),
    ),
    Row(
        "hccn_ping__A2A3__total_loss__reconstructed.txt",
        one(),
        "hccn_tool -i 0 -ping -g address 11.12.165.20",
        times_ms=(None, None, None),
        stream="stdout",
    ),
    Row(
        "hccn_ping__A2__deepseek910B3_ok_dev0.txt",
        one(),
        "hccn_tool -i 0 -ping -g address 11.12.165.80",
        times_ms=(0.114, 0.067, 0.063),
    ),
    Row(
        "hccn_ping__A2__notes20core_ok_dev3.txt",
        one(3),
        "hccn_tool -i 3 -ping -g address 10.20.11.16",
        times_ms=(0.137, 0.046, 0.058),
    ),
    Row(
        "hccn_route__A2__no_default.txt",
        one(3, address="10.20.11.24", netmask="255.255.255.0"),
        "hccn_tool -i 3 -route -g",
    ),
    Row(
        "hccn_any__fail__optical_absent_stdout__reconstructed.txt",
        one(optical=None),
        "hccn_tool -i 0 -optical -g",
    ),
    Row("hccn_fec__910A__fdA_before_dev0.txt", one(fec="no FEC mode"), "hccn_tool -i 0 -fec -g"),
    Row("hccn_fec__doc__mindcluster_rs.txt", one(fec="rs FEC mode"), "hccn_tool -i 0 -fec -g"),
    Row(
        "hccn_optical__910A__fdA_before_dev0.txt", one(optical=CAPTURED_OPTICAL), "hccn_tool -i 0 -optical -g"
    ),
    Row(
        "hccn_link_stat__910A__fdA_before_dev0.txt",
        one(link_history=older_history("Wed Aug  2 03:09:26 2022", *FIRST_CHANGES)),
        "hccn_tool -i 0 -link_stat -g",
    ),
    Row(
        "hccn_link_stat__910A__fdA_after_dev0.txt",
        one(
            link_history=older_history(
                "Wed Aug  2 03:36:43 2022",
                LinkChange("Tue Aug  1 14:44:40 2022", False),
                *FIRST_CHANGES,
            )
        ),
        "hccn_tool -i 0 -link_stat -g",
    ),
    *(
        Row(
            f"hccn_link_stat__910A__fdB_before_dev{device}.txt",
            one(device, link_history=older_history(f"Wed Aug  2 03:09:{second} 2022", *FIRST_CHANGES)),
            f"hccn_tool -i {device} -link_stat -g",
        )
        for device, second in enumerate((27, 27, 28, 28, 28, 29, 29), start=1)
    ),
    Row(
        "hccn_link_stat__doc__mindcluster_device_prefix.txt",
        replace(
            one(
                link_history=older_history(
                    "Wed Jun  7 10:08:28 2023",
                    LinkChange("Tue Jun  6 16:32:12 2023", True),
                    LinkChange("Tue Jun  6 16:32:10 2023", False),
                    LinkChange("Tue Jun  6 16:31:55 2023", True),
                )
            ),
            link_stat_label="device",
        ),
        "hccn_tool -i 0 -link_stat -g",
    ),
    Row("hccn_speed__A2A3__200G__reconstructed.txt", one(), "hccn_tool -i 0 -speed -g"),
    Row("hccn_speed__A2A3__unknown__reconstructed.txt", one(link_up=False), "hccn_tool -i 0 -speed -g"),
    Row("hccn_stat__A2A3__full_key_list_zero__reconstructed.txt", one(), "hccn_tool -i 0 -stat -g"),
    Row("hccn_status__A2__fibre_200G.txt", one(3), "hccn_tool -i 3 -status -g"),
    Row("hccn_tls_set__A2__success.txt", one(tls_switch=0), "hccn_tool -i 0 -tls -s enable 0"),
    Row("hccn_udp__A2A3__auto__reconstructed.txt", one(), "hccn_tool -i 0 -udp -g"),
    Row(
        "hccn_vnic__A3__down__reconstructed.txt", in_pod(0, "192.40.2.199", False), "hccn_tool -i 0 -vnic -g"
    ),
    Row(
        "hccn_vnic__A3__server40_dev0__reconstructed.txt",
        in_pod(0, "192.40.2.199"),
        "hccn_tool -i 0 -vnic -g",
    ),
    Row(
        "hccn_vnic__A3__server40_dev1__reconstructed.txt",
        in_pod(1, "192.40.3.198"),
        "hccn_tool -i 1 -vnic -g",
    ),
    *(
        Row(file, table.host("a3" if "__A3__" in file else "a2"), "npu-smi info")
        for file, table in TABLES.items()
        if file
        not in (
            "npusmi_info__A2__24.1.0.3_no_process_section.txt",
            "npusmi_info__A2__25.5.1_container_one_npu_id2.txt",
        )
    ),
    *(
        Row(file, TABLES[file].host("a2"), "npu-smi info", part="head")
        for file in (
            "npusmi_info__A2__24.1.0.3_no_process_section.txt",
            "npusmi_info__A2__25.5.1_container_one_npu_id2.txt",
        )
    ),
    *(
        Row(
            file,
            host(die(), npu_smi_refusal=name),
            "npu-smi info -t board -i 0" if "any" in file else "npu-smi info",
        )
        for file, name in {
            "npusmi_any__container__reconstructed.txt": "container",
            "npusmi_any__root_only__reconstructed.txt": "root-only",
            "npusmi_info__fail__8005_normal_user.txt": "no-permission",
            "npusmi_info__fail__8005_only.txt": "not-initialized",
            "npusmi_info__fail__8020_ret4.txt": "in-use",
            "npusmi_info__fail__libc_sec.txt": "no-library",
        }.items()
    ),
    Row(
        "npusmi_m__A2__910B4_25.0.rc1.1_tab_restored.txt",
        host(*(die(phy_id, name="910B4") for phy_id in range(8))),
        "npu-smi info -m",
    ),
    Row("npusmi_m__A3__hive_nodes.txt", host(*A3_DIES, generation="a3"), "npu-smi info -m"),
    Row("npusmi_m__no_card__reconstructed.txt", host(), "npu-smi info -m"),
    Row(
        "npusmi_t_hccs__A2__7lanes__reconstructed.txt",
        host(die(hccs=Hccs())),
        "npu-smi info -t hccs -i 0 -c 0",
    ),
    Row("npusmi_t_p2p-enable__A2__unsupported.txt", one(), "npu-smi info -t p2p-enable -i 0 -c 0"),
    Row("npusmi_t_product__A2__unsupported.txt", one(), "npu-smi info -t product -i 0 -c 0"),
    Row(
        "npusmi_t_spod-info__A3__bad_card_id__reconstructed.txt",
        host(*A3_DIES, generation="a3"),
        "npu-smi info -t spod-info -i 8 -c 0",
    ),
    Row(
        "npusmi_t_spod-info__A3__not_in_superpod__reconstructed.txt",
        spod(0, NOT_IN_A_SUPER_POD),
        "npu-smi info -t spod-info -i 0 -c 0",
    ),
    Row(
        "npusmi_t_spod-info__A3__pymotor_dev0.txt",
        spod(0, SuperPodIds(167772160, 384, 0, 40)),
        "npu-smi info -t spod-info -i 0 -c 0",
    ),
    Row(
        "npusmi_t_spod-info__A3__pymotor_dev1.txt",
        spod(1, SuperPodIds(167837697, 384, 0, 40)),
        "npu-smi info -t spod-info -i 0 -c 1",
    ),
    Row(
        "npusmi_t_topo__A3__4die_arm__reconstructed.txt",
        host(*A3_DIES[:4], generation="a3"),
        "npu-smi info -t topo",
        part="head",  # its legend is shortened to the first entry
    ),
    Row("npusmi_v__A2A3__reconstructed.txt", host(die(), npu_smi_version="25.5.0"), "npu-smi -v"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.file}|{row.command}")
def test_reproduced_byte_for_byte(row: Row) -> None:
    network = Pings(row.state, row.times_ms, row.packets)
    given = answer(row.state, row.command.split(), network)
    marks = index()[row.file]
    captured = capture(row.file)
    stream = row.stream or marks["stream"]
    text = given.stdout if stream == "stdout" else given.stderr
    assert (text if row.part == "whole" else text[: len(captured)]) == captured
    if marks["exit_code"]:
        assert given.exit_code == int(marks["exit_code"])
    elif marks["expect"] == "ok" and " -ping " not in row.command:
        assert given.exit_code == 0


def test_address_not_preset_exits_13_with_nothing_on_stdout() -> None:
    assert answer(one(), ["hccn_tool", "-i", "0", "-ip", "-g"]) == Answer(
        b"", capture("hccn_ip__A2__not_preset_stderr.txt"), 13
    )


def test_total_loss_exits_1_with_both_streams() -> None:
    """INDEX.csv says stderr for the total loss; the text is stdout's, stderr has its own capture."""
    state = one()
    argv = ["hccn_tool", "-i", "0", "-ping", "-g", "address", "11.12.165.20"]
    given = answer(state, argv, Pings(state, (None,) * 3))
    assert given.stdout == capture("hccn_ping__A2A3__total_loss__reconstructed.txt")
    assert given.stderr == capture("hccn_ping__A2A3__failed_stderr__reconstructed.txt")
    assert given.exit_code == 1


def test_low_bytes_of_dcmi_codes() -> None:
    for name, code in (("no-permission", -8005 & 0xFF), ("in-use", -8020 & 0xFF)):
        assert answer(host(die(), npu_smi_refusal=name), ["npu-smi", "info"]).exit_code == code


# --- pasted text that lost its TABs ---------------------------------------------------------------

TAB_AS_BLANKS: Callable[[bytes], bytes] = lambda text: text.replace(b"\t", b" " * 8)  # noqa: E731
TAB_LOST: Callable[[bytes], bytes] = lambda text: text.replace(b"\t", b"")  # noqa: E731

PASTED = [
    (
        "npusmi_m__A2__910B4_25.0.rc1.1.txt",
        host(*(die(phy_id, name="910B4") for phy_id in range(8))),
        "npu-smi info -m",
        TAB_AS_BLANKS,
    ),
    (
        "npusmi_l__A2__910B4_25.0.rc1.1.txt",
        host(*(die(phy_id) for phy_id in range(8))),
        "npu-smi info -l",
        TAB_AS_BLANKS,
    ),
    (
        "npusmi_t_ecc_card__doc__mindcluster.txt",
        host(die(1, ecc=Ecc(ddr=EccCounts(), next_isolated=None))),
        "npu-smi info -t ecc -i 1",
        TAB_LOST,
    ),
    (
        "npusmi_t_common__A2__busy_dev1.txt",
        host(
            die(1, hbm_used_mib=60000, aicore_percent=6, temperature_c=46, power_w=130.4),
            mcu_temperature_c=40,
        ),
        "npu-smi info -t common -i 1",
        TAB_AS_BLANKS,
    ),
    (
        "npusmi_upgrade_b_mcu__A2.txt",
        host(die(), mcu_version="23.3.13"),
        "npu-smi upgrade -b mcu -i 0",
        TAB_AS_BLANKS,
    ),
    (
        "npusmi_t_memory_chip__A2__910B3_25.5.1.txt",
        host(die(temperature_c=52)),
        "npu-smi info -t memory -i 0 -c 0",
        TAB_LOST,
    ),
    (
        "npusmi_t_proc-mem__A2__910B3_25.5.1.txt",
        host(die(processes=(Process(207795, "VLLMEngineCore", 55436),))),
        "npu-smi info -t proc-mem -i 0 -c 0",
        TAB_LOST,
    ),
]


@pytest.mark.parametrize(("file", "state", "command", "pasted"), PASTED, ids=[row[0] for row in PASTED])
def test_reproduced_but_for_the_tabs_that_pasting_lost(
    file: str, state: Host, command: str, pasted: Callable[[bytes], bytes]
) -> None:
    assert pasted(answer(state, command.split()).stdout) == capture(file)


# --- loops over the devices of a host, and a file -------------------------------------------------


def loop_host() -> Host:
    return host(
        *(
            die(
                phy_id,
                port=Port(
                    address=f"11.12.165.{80 + phy_id}",
                    netmask="255.255.255.0",
                    gateway="11.12.165.1",
                    netdetect="11.12.165.1",
                ),
            )
            for phy_id in range(8)
        )
    )


@pytest.mark.parametrize(
    ("file", "option"),
    [
        ("hccn_gateway__A2__deepseek4x910B3_loop8.txt", "-gateway"),
        ("hccn_ip__A2__deepseek4x910B3_loop8.txt", "-ip"),
        ("hccn_tls__A2__deepseek4x910B3_grep_switch_loop8.txt", "-tls"),
    ],
)
def test_loops_are_the_answers_one_after_the_other(file: str, option: str) -> None:
    state = loop_host()
    answers = [answer(state, f"hccn_tool -i {phy_id} {option} -g".split()) for phy_id in range(8)]
    assert b"".join(each.stdout for each in answers) == capture(file)


def test_lldp_port_lines_are_those_of_the_captured_switch() -> None:
    from ascendctl.sim.healthy import build

    captured = capture("hccn_lldp__A2__deepseek4x910B3_grep_Ifname_loop8.txt")
    state = build("a2", tuple(f"node{number:02d}" for number in range(1, 6))).host("node05")
    texts = [answer(state, f"hccn_tool -i {phy_id} -lldp -g".split()).stdout for phy_id in range(8)]
    lines = [line for text in texts for line in text.splitlines(keepends=True) if b"Ifname" in line]
    assert b"".join(lines) == captured


def test_hccn_conf_with_address_and_netmask_only() -> None:
    from ascendctl.sim.model import hccn_conf_of

    dies = tuple(
        die(phy_id, port=Port(address=f"10.20.11.{11 + phy_id}", netmask="255.255.255.0"))
        for phy_id in range(8)
    )
    assert hccn_conf_of(dies).encode() == capture("hccn_conf__A2__ip_mask_only.txt")


# --- every V and R capture is accounted for -------------------------------------------------------

ELSEWHERE = {
    "hccn_gateway__A2__deepseek4x910B3_loop8.txt",
    "hccn_ip__A2__deepseek4x910B3_loop8.txt",
    "hccn_tls__A2__deepseek4x910B3_grep_switch_loop8.txt",
    "hccn_lldp__A2__deepseek4x910B3_grep_Ifname_loop8.txt",
    "hccn_conf__A2__ip_mask_only.txt",
}
NOT_SUPPORTED = {
    "lspci_d802__A2.txt": "another program",
    "shell__fail__hccn_tool_not_found.txt": "the shell's own words for a missing tool",
    "npusmi_info__A2__23.0.rc2_elided.txt": "its author left rows out, with dots in their place",
    "npusmi_info_h__A2__23.0.rc2.txt": "help text",
}


def test_every_verbatim_and_reconstructed_capture_is_accounted_for() -> None:
    done = {row.file for row in ROWS} | {row[0] for row in PASTED} | ELSEWHERE
    wanted = {file for file, marks in index().items() if marks["cls"] in ("V", "R")}
    assert wanted - done == set(NOT_SUPPORTED)


def capture(file: str) -> bytes:
    assert FOLDER
    return (Path(FOLDER) / file).read_bytes()


def index() -> dict[str, dict[str, str]]:
    assert FOLDER
    with (Path(FOLDER) / "INDEX.csv").open(encoding="utf-8") as rows:
        return {row["file"]: row for row in csv.DictReader(rows)}
