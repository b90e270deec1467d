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
        lines += [f"hccn_tool -i {phy_id} -{option} -g" for option in options]
        queries = ("health", "hccs", "spod-info")
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
