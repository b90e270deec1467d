"""A rank table against the hosts: each contradiction is caught, and what was not told is not green."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ascendctl import facts as f
from ascendctl.hccl.finding import Severity
from ascendctl.hccl.rank_table import Version, Wish, as_json, plan_rank_table
from ascendctl.hccl.rank_table_check import check_rank_table
from ascendctl.hccl.rank_table_cluster import Comparison, compare_with_cluster
from ascendctl.topology.sdid import encode, vnic_address
from tests.checks.hosts import NO_DATA, TIMED_OUT, a2, device, every, ok, unreached
from tests.hccl.test_rank_table import a2_site, a3_site, changed, cluster

Table = dict[str, Any]
A2, A3, PODS = a2_site(), a3_site(0, 0), a3_site(0, 0, 1, 1)


def table_of(site: f.ClusterFacts, wish: Wish | None = None) -> Table:
    plan = plan_rank_table(site, wish)
    assert plan.table is not None
    found: Table = json.loads(as_json(plan.table))
    return found


def compared(table: Table, site: f.ClusterFacts) -> Comparison:
    return compare_with_cluster(check_rank_table(json.dumps(table, indent=1)), site)


def first(table: Table, number: int = 0) -> Table:
    found: Table = table["server_list"][0]["device"][number]
    return found


def merge_pods(table: Table) -> None:
    table["super_pod_list"] = [
        {
            "super_pod_id": "0",
            "server_list": [{"server_id": f"n{number}"} for number in (1, 2, 3, 4)],
        }
    ]


# The site, what is changed in its own table; rule, severity, and words of what is expected or seen.
CONTRADICTIONS: dict[str, tuple[f.ClusterFacts, Callable[[Table], object], str, str, str]] = {
    "another address": (
        A2,
        lambda t: first(t).update(device_ip="10.8.7.7"),
        "device-ip",
        "error",
        "10.8.1.20, the RoCE address of device 0 of n1",
    ),
    "the vNIC's address": (
        A3,
        lambda t: first(t).update(device_ip=vnic_address(1, 0)),
        "device-ip",
        "error",
        "its vNIC's address",
    ),
    "another SDID": (
        A3,
        lambda t: first(t).update(super_device_id=str(encode(9, 0))),
        "super-device-id",
        "error",
        f"{encode(1, 0)}, the SDID of device 0",
    ),
    "a device that is not there": (
        A2,
        lambda t: first(t).update(device_id="12"),
        "device-id",
        "error",
        "a physical id of n1",
    ),
    "a device without a rank": (
        A2,
        lambda t: t["server_list"][1]["device"].pop(),
        "missing-ranks",
        "warning",
        "device 7 of n2",
    ),
    "a host without ranks": (
        A2,
        lambda t: t["server_list"].pop(),
        "missing-ranks",
        "error",
        "ranks for n2",
    ),
    "a server that is no host": (
        A2,
        lambda t: t["server_list"].append(
            {"server_id": "n9", "device": [{"device_id": "0", "device_ip": "10.9.9.9", "rank_id": "16"}]}
        ),
        "unknown-server",
        "error",
        '"n9"',
    ),
    "host_ip of another host": (
        A3,
        lambda t: t["server_list"][0].update(host_ip="10.1.0.77"),
        "host-ip",
        "error",
        "an address of n1",
    ),
    "two physical pods in one": (PODS, merge_pods, "super-pod", "error", "n1 in 0, n3 in 1"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_contradiction_is_caught(name: str) -> None:
    site, change, rule, severity, words = CONTRADICTIONS[name]
    table = table_of(site)
    assert compared(table, site) == Comparison(())
    change(table)
    found = compared(table, site)
    matching = [
        one
        for one in found.findings
        if one.rule == rule and one.severity.value == severity and words in f"{one.expected} {one.seen}"
    ]
    assert matching, found
    assert all(one.code == "EI0014" for one in matching if one.severity is Severity.ERROR)


def test_an_a2_table_as_1_2_and_a_pod_as_1_0() -> None:
    table = table_of(A2)
    table["version"] = "1.2"
    assert "version" in {one.rule for one in compared(table, A2).findings}
    table = table_of(A3, Wish(Version.V1_0))
    assert {(one.rule, one.severity.value) for one in compared(table, A3).findings} == {
        ("version-mode", "warning")
    }


def test_a_physical_pod_may_be_split() -> None:
    site = a3_site(0, 0)
    table = table_of(site)
    table["super_pod_list"] = [
        {"super_pod_id": name, "server_list": [{"server_id": server}]}
        for name, server in (("east", "n1"), ("west", "n2"))
    ]
    assert compared(table, site) == Comparison(())


@pytest.mark.parametrize(
    ("site", "words"),
    [
        (changed(A2, "n2", device(3, ip=TIMED_OUT)), "n2: the RoCE address of device 3"),
        (changed(A3, "n2", device(3, spod=TIMED_OUT)), "n2: the SDID of device 3"),
        (cluster(a2("n1"), unreached("n2")), "n2: it told nothing of its devices"),
        (cluster(a2("n1"), unreached("other")), "n2: it may be one of the hosts"),
        (cluster(a2("n1"), a2("n2", number=2), unreached("n3")), "n3: it told nothing"),
    ],
)
def test_what_was_not_told_is_said(site: f.ClusterFacts, words: str) -> None:
    table = table_of(A3 if "SDID" in words else A2)
    found = compared(table, site)
    assert any(words in text for text in found.unknown), found
    assert not [one for one in found.findings if one.severity is Severity.ERROR]


def test_a_device_without_address_or_sdid_contradicts_one_that_is_written() -> None:
    bare = changed(A2, "n2", device(3, ip=NO_DATA))
    (finding,) = compared(table_of(A2), bare).findings
    assert finding.rule == "device-ip"
    assert "none set" in finding.expected
    outside = changed(A3, "n2", device(3, spod=ok(f.SpodFacts(*[0xFFFFFFFF] * 4))))
    (finding,) = compared(table_of(A3), outside).findings
    assert (finding.rule, "no super pod" in finding.expected) == ("super-device-id", True)
    vnic_only = changed(A2, "n1", every(ip=NO_DATA))
    table = table_of(A2)
    first(table)["device_ip"] = "192.168.2.199"
    found = [one for one in compared(table, vnic_only).findings if "vNIC" in one.seen]
    assert [one.path for one in found] == ["$.server_list[0].device[0].device_ip"]


@pytest.mark.parametrize("way", ["name", "address", "host_ip", "device_ip"])
def test_how_a_server_is_told_to_be_a_host(way: str) -> None:
    """Tables of other generators name servers in their own way."""
    table = table_of(A3)
    for number, server in enumerate(table["server_list"], start=1):
        server["server_id"] = {"name": f"n{number}", "address": f"10.1.0.{number}"}.get(
            way, f"node_{9 - number}"
        )
        if way == "device_ip":
            del server["host_ip"]
    for pod in table["super_pod_list"]:
        names = [server["server_id"] for server in table["server_list"]]
        pod["server_list"] = [{"server_id": name} for name in names]
    assert compared(table, A3) == Comparison(())


def test_a_name_goes_before_an_address() -> None:
    """Addresses of two hosts swapped: each server is still its own host, and both addresses are wrong."""
    table = table_of(A2)
    one, other = (server["device"][0] for server in table["server_list"])
    one["device_ip"], other["device_ip"] = other["device_ip"], one["device_ip"]
    assert [finding.rule for finding in compared(table, A2).findings] == ["device-ip", "device-ip"]
