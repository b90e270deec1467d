"""Rank tables made from facts: what each version holds, in which order, and what is refused."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest

from ascendctl import facts as f
from ascendctl.hccl.rank_table import DeviceIp, Plan, Version, Why, Wish, as_json, plan_rank_table
from ascendctl.hccl.rank_table_check import check_rank_table
from ascendctl.hccl.rank_table_cluster import compare_with_cluster
from ascendctl.topology.sdid import encode, vnic_address
from tests.checks.hosts import (
    DENIED,
    NO_DATA,
    TIMED_OUT,
    UNSUPPORTED,
    Change,
    a2,
    a3,
    address,
    device,
    every,
    expect,
    made,
    ok,
    set_host,
    unreached,
)


def on(host: f.HostFacts, ip: str) -> f.HostFacts:
    """The host with one NIC."""
    addresses = ok((f.HostAddress("lo", "127.0.0.1", 8), f.HostAddress("eth0", ip, 24)))
    return replace(host, system=replace(host.system, addresses=addresses))


def in_pod(pod: int) -> Change:
    """Put the host's dies into another super pod, with the SDIDs they have."""

    def change(host: f.HostFacts) -> f.HostFacts:
        devices = tuple(
            replace(one, spod=ok(replace(one.spod.value, super_pod_id=pod)))
            for one in host.devices
            if one.spod.value is not None
        )
        return replace(host, devices=devices)

    return change


def cluster(*hosts: f.HostFacts) -> f.ClusterFacts:
    return f.ClusterFacts(tuple(on(host, f"10.1.0.{i}") for i, host in enumerate(hosts, 1)))


def a2_site(hosts: int = 2, devices: int = 8) -> f.ClusterFacts:
    return cluster(*(a2(f"n{i}", devices, number=i) for i in range(1, hosts + 1)))


def a3_site(*pods: int, roce: bool = True) -> f.ClusterFacts:
    """One host for each, in that super pod; server indexes are unique."""
    return cluster(
        *(made(a3(f"n{i}", server=i, roce=roce), in_pod(pod)) for i, pod in enumerate(pods, start=1))
    )


def changed(site: f.ClusterFacts, name: str, *changes: Change) -> f.ClusterFacts:
    return f.ClusterFacts(tuple(made(host, *changes) if host.host == name else host for host in site.hosts))


def document(plan: Plan) -> dict[str, Any]:
    assert plan.table is not None, plan.refusals
    found: dict[str, Any] = json.loads(as_json(plan.table))
    return found


def strings(value: object) -> bool:
    """Whether every value that is no container is a string."""
    if isinstance(value, dict):
        return all(map(strings, value.values()))
    return all(map(strings, value)) if isinstance(value, list) else isinstance(value, str)


# Every way to a table: the site, what was asked for, the version that is written.
WAYS: dict[str, tuple[f.ClusterFacts, Wish, str]] = {
    "a2": (a2_site(), Wish(), "1.0"),
    "a2, 16 devices": (a2_site(2, 16), Wish(), "1.0"),
    "a2, one server without addresses": (
        changed(a2_site(1), "n1", every(ip=NO_DATA)),
        Wish(device_ip=DeviceIp.NONE),
        "1.0",
    ),
    "a3, one pod": (a3_site(0, 0, 0), Wish(), "1.2"),
    "a3, one pod without RoCE": (a3_site(0, 0, roce=False), Wish(), "1.2"),
    "a3, one pod, none wanted": (a3_site(5, 5), Wish(device_ip=DeviceIp.NONE), "1.2"),
    "a3, one pod, RoCE inside": (a3_site(0, 0), Wish(inter_hccs_disable=True), "1.2"),
    "a3, pods mixed up in the inventory": (a3_site(7, 3, 7, 3), Wish(), "1.2"),
    "a3, op retry": (a3_site(1, 1), Wish(op_retry=True), "1.2"),
    "a3, asked for as AI servers": (a3_site(0, 0), Wish(Version.V1_0), "1.0"),
    "a3, outside super pods": (
        cluster(
            made(a3("n1", server=None), *(address(phy, f"10.41.1.{phy + 1}") for phy in range(16))),
            made(a3("n2", server=None), *(address(phy, f"10.41.2.{phy + 1}") for phy in range(16))),
        ),
        Wish(),
        "1.0",
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_every_table_keeps_every_rule_and_agrees_with_its_cluster(name: str) -> None:
    site, wish, version = WAYS[name]
    plan = plan_rank_table(site, wish)
    table = document(plan)
    assert table["version"] == version
    assert table["status"] == "completed"
    assert table["server_count"] == str(len(site.hosts))
    assert strings(table)
    ranks = [one["rank_id"] for server in table["server_list"] for one in server["device"]]
    assert ranks == [str(rank) for rank in range(sum(len(host.devices) for host in site.hosts))]
    assert plan.table is not None
    judgement = check_rank_table(as_json(plan.table), inter_hccs_disable=wish.inter_hccs_disable)
    assert judgement.findings == ()
    comparison = compare_with_cluster(judgement, site)
    expected = ["version-mode"] * len(site.hosts) if wish.version is Version.V1_0 else []
    assert [finding.rule for finding in comparison.findings] == expected
    assert comparison.unknown == ()


def test_an_a2_table() -> None:
    table = document(plan_rank_table(a2_site()))
    assert list(table) == ["status", "version", "server_count", "server_list"]
    second = table["server_list"][1]
    assert list(second) == ["server_id", "device"]  # A2's table has no host_ip
    assert second["device"][3] == {"device_id": "3", "device_ip": "10.8.2.23", "rank_id": "11"}


def test_a_super_pod_table() -> None:
    table = document(plan_rank_table(a3_site(0, 0)))
    assert table["super_pod_list"] == [
        {"super_pod_id": "0", "server_list": [{"server_id": "n1"}, {"server_id": "n2"}]}
    ]
    second = table["server_list"][1]
    assert second["host_ip"] == "10.1.0.2"
    assert second["device"][5] == {
        "device_id": "5",
        "super_device_id": str(encode(2, 5)),
        "device_ip": "10.31.2.25",
        "rank_id": "21",
    }


def test_hosts_of_a_pod_stand_together_in_inventory_order() -> None:
    table = document(plan_rank_table(a3_site(7, 3, 7, 3)))
    assert [server["server_id"] for server in table["server_list"]] == ["n1", "n3", "n2", "n4"]
    assert [pod["super_pod_id"] for pod in table["super_pod_list"]] == ["7", "3"]


def test_equal_sdids_in_two_pods_are_no_conflict() -> None:
    twins = cluster(
        a3("n1", server=1),
        made(a3("n2", server=1), in_pod(1), *(address(phy, f"10.40.1.{phy + 1}") for phy in range(16))),
    )
    assert document(plan_rank_table(twins))["server_count"] == "2"


def test_op_retry_adds_what_the_sibling_die_needs() -> None:
    devices = document(plan_rank_table(a3_site(0, 0), Wish(op_retry=True)))["server_list"][0]["device"]
    first, second = devices[:2]
    assert first["backup_device_ip"] == second["device_ip"]
    assert second["backup_device_ip"] == first["device_ip"]
    assert first["device_port"] != second["backup_device_port"]


def test_the_vnic_is_written_only_when_asked_for_and_warned_of() -> None:
    plan = plan_rank_table(a3_site(0, 0), Wish(device_ip=DeviceIp.VNIC))
    assert document(plan)["server_list"][0]["device"][2]["device_ip"] == vnic_address(1, 2)
    assert any("EI0014" in text for text in plan.warnings)
    assert plan.table is not None
    found = check_rank_table(as_json(plan.table)).findings
    assert {(one.rule, one.severity.value, one.code) for one in found} == {("device-ip", "warning", "EI0014")}
    assert plan_rank_table(a3_site(0, 0)).warnings == ()


def test_a_device_without_an_address_leaves_the_field_out_everywhere_where_it_may_be() -> None:
    plan = plan_rank_table(changed(a3_site(0, 0), "n2", device(4, ip=NO_DATA)))
    devices = [one for server in document(plan)["server_list"] for one in server["device"]]
    assert not any("device_ip" in one for one in devices)
    assert any("n2 device 4" in text for text in plan.warnings)


def test_without_a_nic_the_host_ip_is_left_out_everywhere() -> None:
    site = a3_site(0, 0)
    bare = replace(site.hosts[1], system=replace(site.hosts[1].system, addresses=TIMED_OUT))
    plan = plan_rank_table(f.ClusterFacts((site.hosts[0], bare)))
    assert not any("host_ip" in server for server in document(plan)["server_list"])
    assert any("host_ip" in text and "n2" in text for text in plan.warnings)


def test_unequal_hosts_and_pods_are_warned_of() -> None:
    plan = plan_rank_table(a3_site(0, 0, 1))
    assert any("super pods differ" in text for text in plan.warnings)
    fewer = replace(a2("n2", 8, number=2), devices=a2("n2", 8, number=2).devices[:4])
    plan = plan_rank_table(cluster(a2("n1"), fewer))
    assert any("hosts differ" in text for text in plan.warnings)


A2, A3, TWO_PODS = a2_site(), a3_site(0, 0), a3_site(0, 1)

# The site, what was asked for; on which host, why and with which words it is refused.
REFUSED: dict[str, tuple[f.ClusterFacts, Wish, str, Why, str]] = {
    "no hosts": (f.ClusterFacts(()), Wish(), "", Why.ASKED, "no host"),
    "a silent host": (cluster(a2("n1"), unreached("n2")), Wish(), "n2", Why.NOT_LEARNED, "timeout"),
    "devices not known": (
        cluster(a2("n1"), made(a2("n2"), set_host(devices=(), mapping=DENIED))),
        Wish(),
        "n2",
        Why.NOT_LEARNED,
        "denied",
    ),
    "no Ascend host": (
        cluster(a2("n1"), made(a2("n2", number=2), set_host(accelerator=f.Accelerator.NVIDIA))),
        Wish(),
        "n2",
        Why.ASKED,
        "no Ascend host",
    ),
    "a long name": (cluster(a2("n" * 65)), Wish(), "n" * 65, Why.ASKED, "64 characters"),
    "generations mixed": (cluster(a2("n1"), a3("n2", server=None)), Wish(), "", Why.ASKED, "A2 and A3"),
    "generation unknown": (
        cluster(made(a3("n1", server=None), set_host(generation=None))),
        Wish(),
        "n1",
        Why.NOT_LEARNED,
        "generation:",
    ),
    "A2 asked for as 1.2": (A2, Wish(Version.V1_2), "n1", Why.ASKED, "in no super pod"),
    "one host outside the pod": (
        cluster(a3("n1", server=1), a3("n2", server=None)),
        Wish(),
        "n2",
        Why.WRONG,
        "--version 1.0",
    ),
    "membership not known": (
        changed(A3, "n2", every(spod=TIMED_OUT, vnic=TIMED_OUT)),
        Wish(),
        "n2",
        Why.NOT_LEARNED,
        "super pod is not known",
    ),
    "SDID not known": (
        changed(A3, "n2", device(3, spod=TIMED_OUT)),
        Wish(),
        "n2",
        Why.NOT_LEARNED,
        "SDID of device 3",
    ),
    "SDID invalid": (
        changed(A3, "n2", device(3, spod=ok(f.SpodFacts(*[0xFFFFFFFF] * 4)))),
        Wish(),
        "n2",
        Why.WRONG,
        "device 3 has no valid SDID",
    ),
    "SDID twice": (
        changed(A3, "n2", device(3, spod=ok(f.SpodFacts(encode(1, 3), 384, 0, 1)))),
        Wish(),
        "",
        Why.WRONG,
        "n1 device 3, n2 device 3",
    ),
    "two pods in one host": (
        changed(A3, "n2", device(3, spod=ok(f.SpodFacts(encode(2, 3), 384, 9, 2)))),
        Wish(),
        "n2",
        Why.WRONG,
        "several super pods",
    ),
    "A2 without an address": (
        changed(A2, "n2", device(5, ip=NO_DATA)),
        Wish(),
        "n2",
        Why.WRONG,
        "device 5 has no valid RoCE address",
    ),
    "A2 with an address not read": (
        changed(A2, "n2", device(5, ip=TIMED_OUT)),
        Wish(),
        "n2",
        Why.NOT_LEARNED,
        "RoCE address of device 5 is not known",
    ),
    "an address that is none": (
        changed(A2, "n2", address(5, "224.0.0.1")),
        Wish(),
        "n2",
        Why.WRONG,
        "device 5",
    ),
    "an address twice": (
        changed(A2, "n2", address(5, "10.8.1.20")),
        Wish(),
        "",
        Why.WRONG,
        "n1 device 0, n2 device 5",
    ),
    "two pods without RoCE": (
        a3_site(0, 1, roce=False),
        Wish(),
        "n1",
        Why.WRONG,
        "several super pods",
    ),
    "RoCE inside a pod without RoCE": (
        a3_site(0, 0, roce=False),
        Wish(inter_hccs_disable=True),
        "n1",
        Why.WRONG,
        "HCCL_INTER_HCCS_DISABLE",
    ),
    "device_ip not wanted on A2": (A2, Wish(device_ip=DeviceIp.NONE), "", Why.ASKED, "--device-ip roce"),
    "device_ip not wanted between pods": (
        TWO_PODS,
        Wish(device_ip=DeviceIp.NONE),
        "",
        Why.ASKED,
        "--device-ip roce",
    ),
    "vNIC not known": (
        changed(A2, "n1", device(2, vnic=UNSUPPORTED)),
        Wish(device_ip=DeviceIp.VNIC),
        "n1",
        Why.WRONG,
        "vNIC",
    ),
    "a device short": (
        changed(A2, "n2", expect(npus=16)),
        Wish(),
        "n2",
        Why.WRONG,
        "8 of 16 devices",
    ),
    "op retry on A2": (A2, Wish(op_retry=True), "", Why.ASKED, "1.2"),
    "op retry without a NIC": (
        changed(A3, "n1", set_host(system=f.SystemFacts())),
        Wish(op_retry=True),
        "n1",
        Why.NOT_LEARNED,
        "host_ip",
    ),
    "op retry with half an NPU": (
        changed(A3, "n1", set_host(devices=a3("n1", server=1).devices[:15])),
        Wish(op_retry=True),
        "n1",
        Why.WRONG,
        "other die of device 14",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    site, wish, host, why, words = REFUSED[name]
    plan = plan_rank_table(site, wish)
    assert plan.table is None
    matching = [one for one in plan.refusals if one.host == host and one.why is why and words in one.text]
    assert matching, plan.refusals


def test_every_reason_is_given_at_once() -> None:
    site = changed(changed(a2_site(3), "n2", device(5, ip=NO_DATA)), "n3", device(1, ip=TIMED_OUT))
    plan = plan_rank_table(site)
    assert [(one.host, one.why) for one in plan.refusals] == [("n2", Why.WRONG), ("n3", Why.NOT_LEARNED)]


def test_a_large_table() -> None:
    pods = [number // 40 for number in range(120)]
    hosts = []
    for number, pod in enumerate(pods):
        host = made(a3(f"n{number:03d}", server=number % 40), in_pod(pod))
        addresses = [address(phy, f"10.{60 + phy}.{pod}.{number % 40 + 1}") for phy in range(16)]
        hosts.append(made(host, *addresses))
    plan = plan_rank_table(f.ClusterFacts(tuple(hosts)))
    assert plan.table is not None
    assert plan.table.ranks == 120 * 16
    ids = [server.super_pod for server in plan.table.servers]
    assert [pod for pod, _ in itertools.groupby(ids)] == [0, 1, 2]
    assert check_rank_table(as_json(plan.table)).findings == ()
