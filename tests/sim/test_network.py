"""Faults between hosts: what pings meet, and what the tools then print besides."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from ascendctl.sim.faults import cluster_of
from ascendctl.sim.kinds import BETWEEN_HOSTS
from ascendctl.sim.model import Cluster, Die
from ascendctl.sim.network import Loss
from ascendctl.sim.spec import make_spec
from ascendctl.sim.tools import answer

HOSTS = 8
LEAF = {"hosts_per_leaf": 4}


def cluster(generation: str, *faults: dict[str, Any], **fields: Any) -> Cluster:
    fields = {"hosts": HOSTS, **LEAF, **fields}
    return cluster_of(make_spec(generation=generation, faults=list(faults), **fields))


def die(state: Cluster, host: int, device: int) -> Die:
    return state.hosts[host - 1].dies[device]


def roce(state: Cluster, source: tuple[int, int], target: tuple[int, int]) -> float:
    """The share of packets lost; hosts count from 1."""
    return state.network.roce_loss(die(state, *source), die(state, *target).port.address or "")


def hccs(state: Cluster, source: tuple[int, int], target: tuple[int, int]) -> float:
    return state.network.hccs_loss(die(state, *source), die(state, *target).vnic.address)


def every(state: Cluster) -> list[tuple[int, int]]:
    return [(host, each.phy_id) for host, its in enumerate(state.hosts, 1) for each in its.dies]


# A fault on host 2, device 5, and which pairs it touches: share lost on RoCE and on HCCS. Hosts 1 to 4 share
# leaf switches, 5 to 8 others; on A3 devices of equal parity share one of the two.
A2_MET = [
    ({"kind": "port-loss", "value": 30}, (1, 0), (2, 5), 0.3),
    ({"kind": "port-loss", "value": 30}, (2, 5), (1, 0), 0.3),
    ({"kind": "port-loss", "value": "30-out"}, (2, 5), (1, 0), 0.3),
    ({"kind": "port-loss", "value": "30-out"}, (1, 0), (2, 5), 0.3),
    ({"kind": "port-loss", "value": "0.5-in"}, (1, 0), (2, 5), 0.005),
    ({"kind": "port-loss"}, (1, 0), (2, 5), 1),
    ({"kind": "port-loss"}, (1, 0), (2, 4), 0),
    ({"kind": "npu-silent"}, (2, 5), (1, 0), 1),
    ({"kind": "npu-silent"}, (2, 4), (1, 0), 0),
    ({"kind": "host-isolated", "device": None}, (2, 1), (8, 0), 1),
    ({"kind": "host-isolated", "device": None}, (3, 1), (8, 0), 0),
    ({"kind": "leaf-switch-down"}, (1, 0), (3, 0), 1),
    ({"kind": "leaf-switch-down"}, (1, 0), (5, 0), 1),
    ({"kind": "leaf-switch-down"}, (5, 0), (6, 0), 0),
    ({"kind": "leaf-switch-down", "value": "uplinks"}, (1, 0), (3, 0), 0),
    ({"kind": "leaf-switch-down", "value": "uplinks"}, (5, 0), (1, 0), 1),
    ({"kind": "switch-loss", "value": 20}, (1, 0), (3, 0), 0.2),
    ({"kind": "switch-loss", "value": "20-uplinks"}, (1, 0), (3, 0), 0),
    ({"kind": "switch-loss", "value": "20-uplinks"}, (1, 0), (5, 0), 0.2),
    ({"kind": "cable-swap", "value": "node07:2"}, (2, 5), (1, 0), 1),
    ({"kind": "cable-swap", "value": "node07:2"}, (7, 2), (1, 0), 1),
    ({"kind": "cable-swap", "value": "node07:2"}, (2, 4), (7, 1), 0),
    ({"kind": "cable-swap", "value": "node02:2"}, (2, 5), (7, 2), 0),
    ({"kind": "ip-duplicate", "value": "node07:2"}, (2, 5), (1, 0), 1),
    ({"kind": "ip-duplicate", "value": "node07:2"}, (1, 0), (7, 2), 0),
    ({"kind": "tls-switch"}, (2, 5), (1, 0), 0),
]
A3_MET = [
    ({"kind": "leaf-switch-down"}, (2, 1), (3, 7), 1, 0),
    ({"kind": "leaf-switch-down"}, (2, 0), (3, 6), 0, 0),
    ({"kind": "port-loss"}, (2, 5), (3, 5), 1, 0),
    ({"kind": "hccs-port-down"}, (2, 5), (3, 5), 0, 1),
    ({"kind": "hccs-port-down"}, (2, 5), (2, 9), 0, 0),
    ({"kind": "hccs-port-down"}, (2, 4), (3, 5), 0, 0),
    ({"kind": "hccs-loss", "value": "40-in"}, (3, 5), (2, 5), 0, 0.4),
    ({"kind": "npu-silent"}, (2, 4), (3, 5), 1, 1),
    ({"kind": "npu-silent"}, (2, 6), (3, 5), 0, 0),
    ({"kind": "host-isolated", "device": None}, (2, 0), (3, 5), 1, 1),
    ({"kind": "host-isolated", "device": None}, (2, 0), (2, 5), 1, 0),
    ({"kind": "other-super-pod", "device": None}, (2, 0), (3, 5), 0, 1),
    ({"kind": "other-super-pod", "device": None}, (2, 0), (2, 5), 0, 0),
    ({"kind": "pod-split", "device": None, "host": "node[01-03]"}, (2, 0), (3, 5), 0, 0),
    ({"kind": "pod-split", "device": None, "host": "node[01-03]"}, (2, 0), (4, 5), 0, 1),
    ({"kind": "sdid-duplicate", "value": "node02:6"}, (2, 5), (3, 5), 0, None),
]


def named(row: tuple[Any, ...]) -> str:
    fault, source, target, *_ = row
    return f"{fault['kind']}-{fault.get('value', '')}-{source}-{target}"


@pytest.mark.parametrize("row", A2_MET, ids=named)
def test_what_pings_meet_on_a2(row: tuple[dict[str, Any], Any, Any, float]) -> None:
    fault, source, target, lost = row
    state = cluster("a2", {"host": "node02", "device": 5, **fault})
    assert roce(state, source, target) == pytest.approx(lost)


@pytest.mark.parametrize("row", A3_MET, ids=named)
def test_what_pings_meet_on_a3(row: tuple[dict[str, Any], Any, Any, float, float | None]) -> None:
    fault, source, target, on_roce, on_hccs = row
    state = cluster("a3", {"host": "node02", "device": 5, **fault})
    assert roce(state, source, target) == pytest.approx(on_roce)
    if on_hccs is not None:
        assert hccs(state, source, target) == pytest.approx(on_hccs)


def test_every_kind_that_pings_can_show_is_here() -> None:
    met = {row[0]["kind"] for row in [*A2_MET, *A3_MET]}
    assert met >= {kind.name for kind in BETWEEN_HOSTS if kind.check == "mesh"} - {"hccs-ping-denied"}


@pytest.mark.parametrize(
    ("generation", "fields"),
    [
        ("a2", {}),
        ("a2", {"hosts_per_segment": 4, "leaf_per_rail": True}),
        ("a3", {}),
        ("a3", {"hosts_per_segment": 3, "hosts_per_super_pod": 8}),
        ("a3", {"roce": "none"}),
    ],
    ids=str,
)
def test_a_healthy_cluster_loses_nothing(generation: str, fields: dict[str, Any]) -> None:
    state = cluster(generation, **fields)
    apart = [(a, b) for a in every(state)[::3] for b in every(state)[::5] if a[0] != b[0]]
    if fields.get("roce") == "none":
        assert {each.port.address for host in state.hosts for each in host.dies} == {None}
    else:
        assert {roce(state, a, b) for a, b in apart} == {0}
    if generation == "a3":
        assert {hccs(state, a, b) for a, b in apart} == {0}


def test_losses_of_several_parts_multiply() -> None:
    state = cluster(
        "a2",
        {"kind": "port-loss", "host": "node02", "device": 5, "value": 30},
        {"kind": "port-loss", "host": "node07", "device": 1, "value": "20-in"},
        {"kind": "switch-loss", "host": "node08", "device": 0, "value": "50"},
        background_loss=0.1,
    )
    assert roce(state, (2, 5), (7, 1)) == pytest.approx(1 - 0.7 * 0.8 * 0.5 * 0.9)
    assert roce(state, (2, 4), (1, 1)) == pytest.approx(0.1)
    assert Loss.both_ways(0.19).sending == pytest.approx(0.1)


def test_packets_are_lost_as_often_as_the_way_says() -> None:
    state = cluster("a3", {"kind": "port-loss", "host": "node02", "device": 5, "value": 30})
    source, address = die(state, 2, 5), die(state, 3, 4).port.address or ""
    fates = [fate for attempt in range(100) for fate in state.roce_ping(source, address, 30, attempt)]
    assert fates.count(None) / len(fates) == pytest.approx(0.3, abs=0.03)
    state = cluster("a3", {"kind": "hccs-loss", "host": "node02", "device": 5, "value": 70})
    source, address = die(state, 2, 5), die(state, 3, 4).vnic.address
    outcomes = [packet.outcome for packet in state.hccs_ping(source, address, 1000)]
    assert outcomes.count("no-reply") / len(outcomes) == pytest.approx(0.7, abs=0.05)
    assert set(outcomes) == {"success", "no-reply"}


def test_the_same_cluster_meets_the_same_fates_and_another_seed_others() -> None:
    def fates(attempt: int = 0, **fields: Any) -> list[Any]:
        state = cluster("a2", background_loss=0.3, **fields)
        return [
            state.roce_ping(die(state, host, 0), die(state, 1, 3).port.address or "", 9, attempt)
            for host in range(2, 9)
        ]

    assert fates() == fates()
    assert len({str(fates()), str(fates(seed=1)), str(fates(attempt=1))}) == 3
    assert len({str(each) for each in fates()}) > 1


def test_more_packets_begin_with_the_same_ones() -> None:
    state = cluster("a2", background_loss=0.4)
    source, address = die(state, 1, 0), die(state, 5, 3).port.address or ""
    many = state.roce_ping(source, address, 40)
    assert state.roce_ping(source, address, 3) == many[:3]
    assert len(set(many)) > 10 and None in many[16:]


def test_a_device_of_another_cluster_cannot_ping() -> None:
    with pytest.raises(ValueError, match="none of this cluster's"):
        cluster("a2").roce_ping(die(cluster("a2"), 1, 0), "10.20.2.11", 3)


# --- two devices with one address -----------------------------------------------------------------


def test_in_one_segment_both_holders_of_an_address_suffer() -> None:
    fault = {"kind": "ip-duplicate", "host": "node02", "device": 5, "value": "node03:1"}
    state = cluster("a2", fault, hosts_per_segment=8)
    shared = die(state, 2, 5).port.address or ""
    assert shared == die(state, 3, 1).port.address
    others = [(host, device) for host, device in every(state) if host not in (2, 3)]
    assert {state.network.roce_loss(die(state, *each), shared) for each in others} == {0}
    for holder in ((2, 5), (3, 1)):
        lost = [roce(state, holder, each) for each in others]
        assert 0.2 < sum(lost) / len(lost) < 0.8  # some replies go to the other one
    assert {die(state, 2, 5).port.net_health, die(state, 3, 1).port.net_health} == {"Success"}


def test_in_another_segment_the_copy_alone_is_cut_off() -> None:
    fault = {"kind": "ip-duplicate", "host": "node02", "device": 5, "value": "node03:1"}
    state = cluster("a3", fault)
    assert {roce(state, (2, 5), each) for each in every(state) if each[0] not in (2, 3)} == {1}
    assert {roce(state, (3, 1), each) for each in every(state) if each[0] not in (2, 3)} == {0}
    assert die(state, 2, 5).port.net_health == "Receive timeout"
    conf = dict(line.split("=") for line in (state.hosts[1].hccn_conf or "").splitlines())
    assert conf["address_5"] == die(state, 3, 1).port.address


def test_a_copied_sdid_takes_the_vnic_address_along() -> None:
    fault = {"kind": "sdid-duplicate", "host": "node02", "device": 5, "value": "node07:2"}
    state = cluster("a3", fault)
    assert die(state, 2, 5).super_pod == die(state, 7, 2).super_pod
    assert die(state, 2, 5).vnic == die(state, 7, 2).vnic
    others = [each for each in every(state) if each[0] not in (2, 7)]
    for holder in ((2, 5), (7, 2)):
        lost = [hccs(state, holder, each) for each in others]
        assert 0.2 < sum(lost) / len(lost) < 0.8


# --- what the tools print -------------------------------------------------------------------------


def said(state: Cluster, host: int, words: str) -> str:
    return answer(state.hosts[host - 1], words.split(), state).stdout.decode()


def test_a_swapped_cable_takes_switch_port_and_segment_along() -> None:
    healthy = cluster("a2")
    state = cluster("a2", {"kind": "cable-swap", "host": "node02", "device": 5, "value": "node07:2"})
    assert said(state, 2, "hccn_tool -i 5 -lldp -g") == said(healthy, 7, "hccn_tool -i 2 -lldp -g")
    assert said(state, 7, "hccn_tool -i 2 -lldp -g") == said(healthy, 2, "hccn_tool -i 5 -lldp -g")
    assert said(state, 2, "hccn_tool -i 5 -ip -g") == said(healthy, 2, "hccn_tool -i 5 -ip -g")
    assert said(state, 2, "hccn_tool -i 5 -net_health -g") == "net health status: Receive timeout\n"
    assert said(state, 2, "hccn_tool -i 5 -link -g") == "link status: UP\n"


def test_inside_one_segment_only_lldp_shows_a_swapped_cable() -> None:
    healthy = cluster("a2")
    state = cluster("a2", {"kind": "cable-swap", "host": "node02", "device": 5, "value": "node02:2"})
    for host in state.hosts:
        for each in host.dies:
            for option in ("ip", "net_health", "gateway", "link"):
                words = f"hccn_tool -i {each.phy_id} -{option} -g".split()
                assert answer(host, words, state) == answer(healthy.host(host.name), words, healthy)
    assert said(state, 2, "hccn_tool -i 5 -lldp -g") == said(healthy, 2, "hccn_tool -i 2 -lldp -g")


LOST_DETECT_PINGS = [
    ({"kind": "port-loss"}, {(2, 5)}),
    ({"kind": "port-loss", "value": 99}, set()),
    ({"kind": "npu-silent"}, {(2, 5)}),
    ({"kind": "host-isolated", "device": None}, {(2, device) for device in range(8)}),
    ({"kind": "leaf-switch-down"}, {(host, device) for host in range(1, 5) for device in range(8)}),
    ({"kind": "leaf-switch-down", "value": "uplinks"}, set()),
    ({"kind": "tls-switch"}, set()),
]


@pytest.mark.parametrize(("fault", "ports"), LOST_DETECT_PINGS, ids=lambda value: str(value)[:60])
def test_ports_whose_detect_pings_are_lost_say_so(fault: dict[str, Any], ports: set[tuple[int, int]]) -> None:
    state = cluster("a2", {"host": "node02", "device": 5, **fault})
    seen = {each: die(state, *each).port.shown_net_health for each in every(state)}
    assert {each for each, word in seen.items() if word != "Success"} == ports
    assert {seen[each] for each in ports} <= {"Receive timeout"}


def test_a_net_health_that_was_asked_for_stays() -> None:
    state = cluster(
        "a2",
        {"kind": "net-health", "host": "node02", "device": 5, "value": "Init"},
        {"kind": "port-loss", "host": "node02", "device": 5},
    )
    assert die(state, 2, 5).port.net_health == "Init"


def test_what_hosts_say_of_themselves() -> None:
    state = cluster(
        "a3",
        {"kind": "tls-switch", "host": "node02"},
        {"kind": "npu-model", "host": "node03", "value": "Ascend910_9362"},
        {"kind": "driver-version", "host": "node04", "value": "24.1.rc3"},
        {"kind": "firmware-version", "host": "node05"},
        {"kind": "cann-version", "host": "node06"},
        {"kind": "clock-skew", "host": "node07", "value": "-12.5"},
        {"kind": "other-super-pod", "host": "node08", "value": 3},
    )
    assert {each.port.tls_switch for each in state.hosts[1].dies} == {1}
    assert "tls switch[1]" in said(state, 2, "hccn_tool -i 15 -tls -g")
    assert "Ascend910_9362" in said(state, 3, "npu-smi info -m")
    assert state.hosts[3].driver_version == "24.1.rc3" != state.hosts[0].driver_version
    assert state.hosts[4].firmware_version != state.hosts[0].firmware_version
    assert state.hosts[5].cann_version != state.hosts[0].cann_version
    assert state.hosts[6].clock_offset_s == -12.5
    spod = said(state, 8, "npu-smi info -t spod-info -i 0 -c 0").split()
    assert spod[spod.index("Pod", 6) + 3] == "3"
    assert {each.vnic for each in state.hosts[7].dies} == {each.vnic for each in cluster("a3").hosts[7].dies}


# --- layouts --------------------------------------------------------------------------------------


def leaves(state: Cluster) -> dict[tuple[int, int], str | None]:
    return {each: die(state, *each).port.leaf for each in every(state)}


@pytest.mark.parametrize(
    ("generation", "fields", "switches", "ports_each"),
    [
        ("a2", {}, 2, 32),
        ("a2", {"hosts_per_leaf": 3}, 3, None),
        ("a2", {"leaf_per_rail": True}, 16, 4),
        ("a3", {}, 4, 32),
        ("a3", {"leaf_per_rail": True}, 32, 4),
        ("a3", {"hosts_per_leaf": 64}, 2, 64),
    ],
    ids=str,
)
def test_leaf_switches(
    generation: str, fields: dict[str, Any], switches: int, ports_each: int | None
) -> None:
    state = cluster(generation, **fields)
    by_leaf: dict[str | None, list[tuple[int, int]]] = {}
    for each, leaf in leaves(state).items():
        by_leaf.setdefault(leaf, []).append(each)
        heard = die(state, *each).port.shown_neighbour
        assert heard and heard.system_name == leaf
    assert len(by_leaf) == switches
    if ports_each is not None:
        assert {len(ports) for ports in by_leaf.values()} == {ports_each}
    if fields.get("leaf_per_rail"):
        assert all(len({device for _, device in ports}) == 1 for ports in by_leaf.values())
    for ports in by_leaf.values():  # no switch port twice
        heard_ports = [die(state, *each).port.neighbour for each in ports]
        assert len({each.port for each in heard_ports if each}) == len(ports)


def test_super_pods_of_few_hosts() -> None:
    state = cluster("a3", hosts_per_super_pod=3)
    ids = [host.dies[0].super_pod for host in state.hosts]
    assert [(each.pod, each.server) for each in ids if each] == [
        (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1),
    ]  # fmt: skip
    assert hccs(state, (1, 0), (3, 4)) == 0
    assert state.network.hccs_loss(die(state, 1, 0), die(state, 8, 0).vnic.address) == 0  # of pod 0, host 2
    assert hccs(state, (3, 0), (4, 0)) == 0  # 192.0.…: host 1 has this address in pod 0


@pytest.mark.parametrize(("generation", "hosts_per_segment"), [("a2", 30), ("a3", 30), ("a2", 1), ("a3", 7)])
def test_addresses_of_shared_segments(generation: str, hosts_per_segment: int) -> None:
    state = cluster(generation, hosts=61, hosts_per_segment=hosts_per_segment)
    ports = [each.port for host in state.hosts for each in host.dies]
    assert len({port.address for port in ports}) == len(ports)
    for port in ports:
        segment = ipaddress.IPv4Network(f"{port.address}/{port.netmask}", strict=False)
        assert str(segment) == port.wire
        assert ipaddress.IPv4Address(port.gateway or "") in segment and port.gateway != port.address
        assert ipaddress.IPv4Address(port.address or "") != segment.broadcast_address
