"""What a seeded fault does to what the tools print: that, its consequences, and nothing else."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from ascendctl.sim.answer import Answer
from ascendctl.sim.faults import cluster_of
from ascendctl.sim.model import Cluster, Host, hccn_conf_of
from ascendctl.sim.spec import make_spec
from ascendctl.sim.tools import answer

FAILED = Answer(b"", b"Command execute failed!\n", 1)


def cluster(generation: str = "a2", *faults: dict[str, Any]) -> Cluster:
    return cluster_of(make_spec(generation=generation, hosts=3, faults=list(faults)))


def calls(host: Host) -> list[str]:
    """Every command that is asked of a host, as it is typed."""
    lines = ["npu-smi info", "npu-smi info -m", "npu-smi info -l", "npu-smi info -t topo"]
    chips = 2 if host.generation == "a3" else 1
    for phy_id in host.phy_ids:
        npu, chip = divmod(phy_id, chips)
        options = ("link", "net_health", "netdetect", "gateway", "ip", "vnic", "lldp", "tls")
        deep = ("optical", "link_stat", "stat", "hw_stats", "speed", "duplex", "mtu", "fec")
        lines += [f"hccn_tool -i {phy_id} -{option} -g" for option in (*options, *deep)]
        queries = ("health", "hccs", "spod-info", "ecc")
        lines += [f"npu-smi info -t {query} -i {npu} -c {chip}" for query in queries]
    return lines


def changed(generation: str, **fault: Any) -> dict[str, Answer]:
    """The answers of node02 that a fault on it makes different, and their new text."""
    healthy, broken = cluster(generation), cluster(generation, {"host": "node02", **fault})
    for other in ("node01", "node03"):
        assert healthy.host(other) == broken.host(other)
    host = broken.host("node02")
    answers = {line: answer(host, line.split(), broken) for line in calls(host)}
    return {
        line: given
        for line, given in answers.items()
        if given != answer(healthy.host("node02"), line.split(), healthy)
    }


def said(text: str) -> Answer:
    return Answer(text.encode() + b"\n")


CHANGES = [
    (
        "a2",
        {"kind": "link-down", "device": 5},
        {
            "hccn_tool -i 5 -link -g": said("link status: DOWN"),
            "hccn_tool -i 5 -net_health -g": said("net health status: Fault"),
            "hccn_tool -i 5 -lldp -g": said(""),
            "hccn_tool -i 5 -speed -g": said("Speed: Unknown!"),
            "hccn_tool -i 5 -duplex -g": said("Duplex: Unknown!"),
            "hccn_tool -i 5 -link_stat -g": said(
                "[devid 5]current time        : Mon Jan  5 08:00:00 2026\n"
                "[devid 5]link up count       : 1\n"
                "[devid 5]link down count     : 1\n"
                "[devid 5]link change records :\n"
                "[devid 5]    Mon Jan  5 07:59:00 2026    LINK DOWN\n"
                "[devid 5]    Fri Jan  2 05:31:00 2026    LINK UP"
            ),
        },
    ),
    (
        "a2",
        {"kind": "net-health", "device": 0, "value": "Detect ip set"},
        {"hccn_tool -i 0 -net_health -g": said("net health status: Detect ip set")},
    ),
    ("a3", {"kind": "no-lldp", "device": 9}, {"hccn_tool -i 9 -lldp -g": said("")}),
    ("a2", {"kind": "tls-unreadable", "device": 3}, {"hccn_tool -i 3 -tls -g": FAILED}),
    (
        "a2",
        {"kind": "ip-missing", "device": 1},
        {
            "hccn_tool -i 1 -ip -g": Answer(b"", b"Get ipconf failed, because no ip was preset there!\n", 13),
            "hccn_tool -i 1 -gateway -g": Answer(
                b"", b"Get gateway failed, because no gateway was preset there!\n", 2
            ),
            "hccn_tool -i 1 -net_health -g": said("net health status: Socket fail"),
        },
    ),
    (
        "a2",
        {"kind": "wrong-netmask", "device": 2},
        {"hccn_tool -i 2 -ip -g": said("ipaddr:10.20.2.13\nnetmask:255.255.0.0")},
    ),
    (
        "a3",
        {"kind": "gateway-outside", "device": 2, "value": "10.99.0.7"},
        {"hccn_tool -i 2 -gateway -g": said("default gateway:10.99.0.7, Iface:eth2")},
    ),
    (
        "a2",
        {"kind": "optical-absent", "device": 1},
        {"hccn_tool -i 1 -optical -g": Answer(b"Optical module is not present.\n", b"", 1)},
    ),
    (
        "a3",
        {"kind": "half-speed", "device": 1},
        {"hccn_tool -i 1 -speed -g": said("Speed: 100000 Mb/s")},
    ),
    ("a2", {"kind": "half-duplex", "device": 1}, {"hccn_tool -i 1 -duplex -g": said("Duplex: Half")}),
    ("a2", {"kind": "mtu", "device": 1, "value": 9000}, {"hccn_tool -i 1 -mtu -g": said("mtu:9000")}),
    ("a2", {"kind": "fec", "device": 1}, {"hccn_tool -i 1 -fec -g": said("fec mode: no FEC mode")}),
    (
        "a3",
        {"kind": "ecc-errors", "device": 3},
        {
            "npu-smi info -t ecc -i 1 -c 1": said(
                "\tHBM Single Bit Error Count               : 0\n"
                "\tHBM Double Bit Error Count               : 2\n"
                "\tHBM Single Bit Aggregate Total Err Cnt   : 0\n"
                "\tHBM Double Bit Aggregate Total Err Cnt   : 2\n"
                "\tHBM Single Bit Isolated Pages Count      : 0\n"
                "\tHBM Double Bit Isolated Pages Count      : 0\n"
                "\tHBM Single Bit Next-Isolated Pages Count : 0\n"
                "\tHBM Double Bit Next-Isolated Pages Count : 2"
            )
        },
    ),
    ("a2", {"kind": "open-files"}, {}),
    ("a2", {"kind": "no-huge-pages"}, {}),
    ("a2", {"kind": "time-unsynchronized"}, {}),
    ("a2", {"kind": "hccn-conf-stale", "device": 1}, {}),
    ("a2", {"kind": "hccn-conf-missing"}, {}),
    ("a2", {"kind": "ssh-refused"}, {}),
    ("a2", {"kind": "command-hang", "device": 1}, {}),
    ("a2", {"kind": "busy", "value": 2}, {}),
    (
        "a2",
        {"kind": "busy", "value": "permanent", "device": 4},
        {"hccn_tool -i 4 -link -g": Answer(b"hccn_tool is busy, please try again.\n", b"", 11)},
    ),
    (
        "a3",
        {"kind": "spod-invalid", "device": 3},
        {
            "hccn_tool -i 3 -vnic -g": said(
                "vnic link status: UP\nvnic ipaddr: 192.168.3.196\nvnic netmask: 255.255.255.0"
            ),
            "npu-smi info -t spod-info -i 1 -c 1": said(
                "\n".join(
                    f"\t{label:<31}: 4294967295"
                    for label in ("SDID", "Super Pod Size", "Super Pod ID", "Server Index")
                )
            ),
        },
    ),
]


@pytest.mark.parametrize(("generation", "fault", "expected"), CHANGES, ids=lambda part: str(part)[:60])
def test_a_fault_changes_exactly_what_follows_from_it(
    generation: str, fault: dict[str, Any], expected: dict[str, Answer]
) -> None:
    assert changed(generation, **fault) == expected


def test_npu_health_shows_in_the_table_and_in_its_own_query() -> None:
    new = changed("a2", kind="npu-health", device=6, value="Critical")
    assert set(new) == {"npu-smi info", "npu-smi info -t health -i 6 -c 0"}
    assert b"| 6     910B3               | Critical      |" in new["npu-smi info"].stdout
    assert b"\tHealth Status                  : Critical\n" in new["npu-smi info -t health -i 6 -c 0"].stdout


def test_hccs_lanes_strike_one_link() -> None:
    new = changed("a2", kind="hccs-lanes", device=2, value="6")
    (text,) = new.values()
    lanes = next(line for line in text.stdout.decode().splitlines() if "lane list" in line)
    assert lanes.split("[")[1].split() == ["1111"] * 6 + ["0011", "]"]


@pytest.mark.parametrize(("generation", "device", "gone"), [("a2", 3, [3]), ("a3", 5, [4, 5])])
def test_a_missing_npu_takes_all_its_dies(generation: str, device: int, gone: list[int]) -> None:
    new = changed(generation, kind="npu-missing", device=device)
    missing = Answer(b"", b"The device is not exist!\n", 4)
    assert [phy_id for phy_id in range(16) if new.get(f"hccn_tool -i {phy_id} -link -g") == missing] == gone
    for whole in ("npu-smi info", "npu-smi info -m", "npu-smi info -l", "npu-smi info -t topo"):
        assert whole in new


def test_no_permission_strikes_both_tools_and_one_when_told() -> None:
    denied = Answer(b"", b"permission denied: pls check this cmd run permission.\n", 12)
    new = changed("a2", kind="no-permission")
    assert new["hccn_tool -i 0 -link -g"] == denied
    assert new["npu-smi info -m"].exit_code == 187
    assert {line.split()[0] for line in changed("a2", kind="no-permission", value="hccn_tool")} == {
        "hccn_tool"
    }


@pytest.mark.parametrize(
    ("fields", "struck"),
    [
        ({"kind": "garbage-output"}, "npu-smi info"),
        ({"kind": "garbage-output", "device": 4}, "hccn_tool -i 4 -link -g"),
        ({"kind": "truncated-output", "command": "npu-smi info -t topo"}, "npu-smi info -t topo"),
        (
            {"kind": "truncated-output", "device": 4, "command": "npu-smi info -t health"},
            "npu-smi info -t health -i 4 -c 0",
        ),
        ({"kind": "truncated-output", "device": 4, "command": "hccn_tool -ip -g"}, "hccn_tool -i 4 -ip -g"),
    ],
)
def test_spoilt_output_strikes_the_one_command(fields: dict[str, Any], struck: str) -> None:
    new = changed("a2", **fields)
    assert list(new) == [struck]
    whole = answer(cluster().host("node02"), struck.split())
    spoilt = new[struck]
    assert spoilt.exit_code == 0 and spoilt.stdout
    if fields["kind"] == "truncated-output":
        assert whole.stdout.startswith(spoilt.stdout) and len(spoilt.stdout) < len(whole.stdout)
    else:
        with pytest.raises(UnicodeDecodeError):
            spoilt.stdout.decode()


def only_change(generation: str, **fault: Any) -> tuple[str, list[str]]:
    """The one command that a fault changes, and its new lines that were not there before."""
    ((command, given),) = changed(generation, **fault).items()
    healthy = cluster(generation)
    before = answer(healthy.host("node02"), command.split(), healthy).stdout.decode().splitlines()
    return command, [line for line in given.stdout.decode().splitlines() if line not in before]


def test_a_dim_lane_is_one_line_and_a_dark_one_is_flagged() -> None:
    dim = only_change("a2", kind="optical-rx-low", device=2)
    assert dim == ("hccn_tool -i 2 -optical -g", ["Rx Power1            : 0.0500 mW"])
    dark = only_change("a2", kind="optical-rx-low", device=2, value="0")
    assert dark[1] == ["Rx Power1            : 0.0000 mW", "Rx Los Flag          : 0x2"]


def test_a_module_that_is_absent_can_be_said_in_a_table() -> None:
    command, lines = only_change("a3", kind="optical-absent", device=2, value="table")
    assert command == "hccn_tool -i 2 -optical -g"
    assert lines[:2] == ["present              : not present", "temperature          : NA"]
    assert lines[-1] == "RxPower Low Thres    : NA"


def test_damaged_packets_show_in_the_macs_counters() -> None:
    command, lines = only_change("a2", kind="port-errors", device=2, value=7)
    assert command == "hccn_tool -i 2 -stat -g"
    assert lines == [
        "mac_rx_bad_pkt_num:7",
        "mac_rx_bad_oct_num:10500",
        "mac_rx_fcs_err_pkt_num:7",
        "roce_out_of_order_num:7",
    ]


@pytest.mark.parametrize(("flaps", "records"), [(1, 3), (3, 7), (5000, 10)])
def test_flaps_are_counted_and_the_last_of_them_listed(flaps: int, records: int) -> None:
    command, _ = only_change("a2", kind="link-flaps", device=2, value=flaps)
    state = cluster("a2", {"host": "node02", "kind": "link-flaps", "device": 2, "value": flaps}).host(
        "node02"
    )
    lines = answer(state, command.split()).stdout.decode().splitlines()
    assert f"[devid 2]link up count       : {flaps + 1}" in lines
    assert f"[devid 2]link down count     : {flaps}" in lines
    listed = [line.split()[-1] for line in lines if "LINK" in line]
    assert listed == (["UP", "DOWN"] * flaps + ["UP"])[:records]


def test_errors_of_an_hccs_link_are_corrected_by_sending_again() -> None:
    command, lines = only_change("a2", kind="hccs-errors", device=2, value=9)
    assert command == "npu-smi info -t hccs -i 2 -c 0"
    assert [line.split("[")[1].split() for line in lines] == [["9"] + ["0"] * 6 + ["]"]] * 2


def test_a_process_holds_a_device_and_its_memory() -> None:
    command, lines = only_change("a2", kind="npu-process", device=2, value=1000)
    before = cluster().host("node02").dies[2].hbm_used_mib
    assert command == "npu-smi info"
    assert f"{before + 1000} / 65536" in lines[0]
    assert "| 214602        | python3                  | 1000 " in lines[1]
    _, (used,) = only_change("a2", kind="hbm-in-use", device=2, value=50)
    assert "32768/ 65536" in used


def conf(host: Host) -> dict[str, str]:
    assert host.hccn_conf is not None
    return dict(line.split("=") for line in host.hccn_conf.splitlines())


def test_hccn_conf_equals_the_live_values_unless_stale() -> None:
    faults = (
        {"host": "node01", "kind": "hccn-conf-stale", "device": 1},
        {"host": "node01", "kind": "wrong-netmask", "device": 2},
        {"host": "node01", "kind": "gateway-outside", "device": 3},
        {"host": "node01", "kind": "ip-missing", "device": 4},
    )
    state = cluster("a2", *faults).host("node01")
    healthy, broken = conf(cluster().host("node01")), conf(state)
    assert broken["address_1"] == "10.98.0.9" != healthy["address_1"]
    assert answer(state, "hccn_tool -i 1 -ip -g".split()).stdout.startswith(b"ipaddr:10.20.1.12\n")  # noqa: SIM905
    assert broken["netmask_2"] == "255.255.0.0"
    assert broken["gateway_3"] == "10.99.0.1"
    assert {key for key in healthy if key not in broken} == {"address_4", "netmask_4", "gateway_4"}
    untouched = [key for key in healthy if key[-1] in "0567"]
    assert all(healthy[key] == broken[key] for key in untouched)


@pytest.mark.parametrize("kind", ["wrong-netmask", "gateway-outside", "ip-missing", "link-down", "no-lldp"])
def test_hccn_conf_follows_a_fault_of_the_live_settings(kind: str) -> None:
    state = cluster("a2", {"host": "node02", "kind": kind, "device": 3}).host("node02")
    assert state.hccn_conf == hccn_conf_of(state.dies)


# --- the healthy cluster --------------------------------------------------------------------------


@pytest.mark.parametrize("generation", ["a2", "a3"])
def test_a_healthy_cluster_keeps_the_vendors_rules(generation: str) -> None:
    state = cluster_of(make_spec(generation=generation, hosts=60))
    dies = [die for host in state.hosts for die in host.dies]
    addresses = [ipaddress.IPv4Address(die.port.address or "") for die in dies]
    assert len(set(addresses)) == len(dies)
    reserved = [ipaddress.IPv4Network(net) for net in ("192.0.0.0/8", "192.168.0.0/21")]
    assert not any(address in net for address in addresses for net in reserved)
    for host in state.hosts:
        segments = {
            die.phy_id: ipaddress.IPv4Network(f"{die.port.address}/{die.port.netmask}", strict=False)
            for die in host.dies
        }
        assert all(ipaddress.IPv4Address(die.port.gateway or "") in segments[die.phy_id] for die in host.dies)
        if generation == "a2":
            assert len(set(segments.values())) == 1
        else:
            assert all(not segments[die].overlaps(segments[die + 1]) for die in range(0, 16, 2))


def test_a3_super_pod_ids_follow_the_documented_example() -> None:
    """Server 9, device 0 is 37748736 and device 7 is 38600711; servers 48 and on are in the next pod."""
    state = cluster_of(make_spec(generation="a3", hosts=60))
    ids = [die.super_pod for die in state.host("node10").dies]
    assert ids[0] and ids[0].sdid == 37748736
    assert ids[7] and ids[7].sdid == 38600711
    assert state.host("node10").dies[7].vnic.address == "192.9.3.192"
    last = state.host("node60").dies[0].super_pod
    assert last and (last.pod, last.server) == (1, 11)


def test_the_same_seed_gives_the_same_cluster_and_another_one_does_not() -> None:
    assert cluster_of(make_spec(generation="a2", hosts=2, seed=5)) == cluster_of(
        make_spec(generation="a2", hosts=2, seed=5)
    )
    assert cluster_of(make_spec(generation="a2", hosts=2, seed=5)) != cluster_of(
        make_spec(generation="a2", hosts=2, seed=6)
    )


PINGS = [
    ("a2", None, "node01", 0, "10.20.2.13", 0),
    ("a2", {"kind": "link-down", "host": "node02", "device": 2}, "node01", 0, "10.20.2.13", 3),
    ("a2", {"kind": "link-down", "host": "node01", "device": 0}, "node01", 0, "10.20.2.13", 3),
    ("a2", {"kind": "wrong-netmask", "host": "node01", "device": 0}, "node01", 0, "10.20.2.13", 3),
    ("a2", {"kind": "wrong-netmask", "host": "node01", "device": 0}, "node01", 0, "10.20.1.12", 0),
    ("a2", {"kind": "gateway-outside", "host": "node02", "device": 2}, "node01", 0, "10.20.2.13", 3),
    ("a2", {"kind": "ip-missing", "host": "node02", "device": 2}, "node01", 0, "10.20.2.13", 3),
    ("a2", None, "node01", 0, "10.77.0.1", 3),
    ("a3", None, "node01", 1, "10.31.3.18", 0),
]


@pytest.mark.parametrize(("generation", "fault", "source", "device", "target", "lost"), PINGS)
def test_pings_follow_the_state(
    generation: str, fault: dict[str, Any] | None, source: str, device: int, target: str, lost: int
) -> None:
    state = cluster(generation, *([fault] if fault else []))
    line = f"hccn_tool -i {device} -ping -g address {target}"
    given = answer(state.host(source), line.split(), state)
    assert f"{3 - lost} received" in given.stdout.decode()
    assert given.exit_code == (1 if lost else 0)


def test_hccs_ping_reaches_across_the_super_pod_and_not_an_invalid_one() -> None:
    healthy = cluster("a3")
    broken = cluster("a3", {"kind": "spod-invalid", "host": "node02", "device": 0})
    line = "hccn_tool -i 0 -hccs_ping -g address 192.1.2.199".split()  # noqa: SIM905
    assert b"3 received, 0.00% packets loss" in answer(healthy.host("node01"), line, healthy).stdout
    lost = answer(broken.host("node01"), line, broken)
    assert b"0 received, 100.00% packets loss" in lost.stdout
    assert lost.exit_code == 0


@pytest.mark.parametrize(
    ("words", "sent"),
    [("", 3), ("cnt 5", 5), ("pkt 2000 cnt 1", 1), ("cnt 0", None), ("cnt", None), ("size 1", None)],
)
def test_hccs_ping_counts_what_it_is_told_to(words: str, sent: int | None) -> None:
    state = cluster("a3")
    line = f"hccn_tool -i 0 -hccs_ping -g address 192.1.2.199 {words}"
    given = answer(state.host("node01"), line.split(), state)
    if sent is None:
        assert given == Answer(b"", b"Cmd execute failed!\n", 1)
    else:
        assert f"\n{sent} packets transmitted, {sent} received" in given.stdout.decode()


def test_lldp_text_is_cut_where_the_tool_cuts_it() -> None:
    from dataclasses import replace

    state = cluster().host("node01")
    neighbour = state.dies[0].port.neighbour
    assert neighbour
    long = replace(neighbour, description="x" * 5000)
    die = replace(state.dies[0], port=replace(state.dies[0].port, neighbour=long))
    text = answer(replace(state, dies=(die,)), ["hccn_tool", "-i", "0", "-lldp", "-g"]).stdout
    assert len(text) == 1999 + 1 and b"End of LLDPDU" not in text
