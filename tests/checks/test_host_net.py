"""The check of the host network: what was tried between hosts, and whom it accuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ascendctl import facts as f
from ascendctl.checks.across.addresses import DuplicateAddress
from ascendctl.checks.host_net import HostNet
from ascendctl.checks.registry import HOST_CHECKS
from ascendctl.host_paths import plan_paths
from ascendctl.results import CellKey, Result, Status, Subject, SubjectKind
from ascendctl.topology.host_net import HCCL_PORTS, HostNic, plan_host_net
from tests.checks.hosts import TOOL_MISSING, a2, at, judge, made, ok, set_host, unreached

NIC = "enp1s0"
Meets = Callable[[str, str], f.HostPathFacts | None]
OPEN, REFUSED = f.PortAnswer.CONNECTED, f.PortAnswer.REFUSED
REJECTED, TIMED_OUT = f.PortAnswer.REJECTED, f.PortAnswer.TIMED_OUT
CLUSTER = CellKey("host-net", Subject(SubjectKind.CLUSTER))


def path(
    target: str,
    *,
    out: str | None = NIC,
    lost: int = 0,
    whole_lost: int | None = None,
    path_mtu: int | None = None,
    ssh: f.PortAnswer = OPEN,
    hccl: f.PortAnswer = REFUSED,
    **readings: Any,
) -> f.HostPathFacts:
    """A way on which all is well, apart from what is said."""
    address = address_of(target)
    ports = {22: ssh, **dict.fromkeys(HCCL_PORTS, hccl)}
    whole = lost if whole_lost is None else whole_lost
    return replace(
        f.HostPathFacts(
            address,
            route=ok(f.RouteFacts(out), f"ip route get {address}"),
            ping=ok(f.HostPingFacts(address, 3, 3 - lost, NIC), f"ping {address}"),
            whole=ok(f.HostPingFacts(address, 3, 3 - whole, NIC, path_mtu), f"ping -M do {address}"),
            ports=ok(f.PortFacts(address, ports), f"bash {address}"),
        ),
        **readings,
    )


def closed(target: str, **readings: Any) -> f.HostPathFacts:
    return path(target, lost=3, ssh=TIMED_OUT, hccl=TIMED_OUT, **readings)


def address_of(name: str) -> str:
    number = int(name[4:])
    return f"10.1.{number >> 8}.{number & 255}"


def names(count: int) -> list[str]:
    return [f"node{number}" for number in range(1, count + 1)]


def host(name: str, paths: tuple[f.HostPathFacts, ...] = ()) -> f.HostFacts:
    found = a2(name, devices=1)
    addresses = ok((f.HostAddress(NIC, address_of(name), 16),), "ip -o addr show")
    return replace(found, system=replace(found.system, addresses=addresses), paths=paths)


def cluster(count: int, meets: Meets) -> list[f.HostFacts]:
    """Hosts that tried each other as planned; ``meets`` says what came of a way, None = all is well."""
    plan = plan_host_net([HostNic(name, NIC, address_of(name), 1500) for name in names(count)])
    return [
        host(name, tuple(meets(name, way.target) or path(way.target) for way in plan.by_host[name]))
        for name in names(count)
    ]


def cells(*hosts: f.HostFacts) -> dict[CellKey, Result]:
    """The cells of the check alone."""
    found = judge(*hosts, checks=HOST_CHECKS, cluster_checks=(DuplicateAddress(), HostNet(tried=True)))
    return {key: cell for key, cell in found.items() if key.check == "host-net"}


def not_passed(found: dict[CellKey, Result]) -> dict[str, tuple[str, str]]:
    """Host (or ``cluster``) → status and message of the cells that are no pass."""
    return {
        key.subject.host or key.subject.kind.value: (cell.status.value, cell.message)
        for key, cell in found.items()
        if cell.status is not Status.PASS
    }


def both_ways(name: str, make: Callable[[str], f.HostPathFacts]) -> Meets:
    return lambda source, target: make(target) if name in (source, target) else None


def to(name: str, make: Callable[[str], f.HostPathFacts]) -> Meets:
    return lambda source, target: make(target) if name == target else None


def off(name: str, make: Callable[[str], f.HostPathFacts]) -> Meets:
    return lambda source, target: make(target) if name == source else None


@pytest.mark.parametrize("count", [2, 3, 4, 9])
def test_where_all_is_well_every_host_passes(count: int) -> None:
    found = cells(*cluster(count, lambda source, target: None))
    assert {cell.status for cell in found.values()} == {Status.PASS}
    assert len(found) == count
    tried = "its peer" if count == 2 else f"{min(3, count - 1)} peers"
    assert f"reaches {tried} over {NIC}" in found[at("host-net", "node1")].message


VANISH = "the largest vanish"
SHUT = "firewall shuts HCCL's ports between the host and its peers"
WRONG: list[tuple[str, Meets, str, str]] = [
    ("isolated", both_ways("node5", closed), "fail", "the host cannot be reached"),
    ("drops all that comes in", to("node5", closed), "fail", "the host cannot be reached"),
    (
        "no route",
        off("node5", lambda t: closed(t, route=ok(f.RouteFacts(None)))),
        "fail",
        "no route to its peers",
    ),
    ("firewall drops", to("node5", lambda t: path(t, hccl=TIMED_OUT)), "fail", SHUT),
    ("firewall rejects", to("node5", lambda t: path(t, hccl=REJECTED)), "fail", SHUT),
    (
        "firewall on the way out",
        off("node5", lambda t: path(t, hccl=TIMED_OUT)),
        "fail",
        "HCCL's ports of",
    ),
    ("large packets vanish", both_ways("node5", lambda t: path(t, whole_lost=3)), "fail", VANISH),
    (
        "a tunnel on the way",
        both_ways("node5", lambda t: path(t, whole_lost=3, path_mtu=1400)),
        "warn",
        "do not pass whole",
    ),
    ("one in three lost", both_ways("node5", lambda t: path(t, lost=1)), "warn", "packets get lost"),
    ("another NIC", off("node5", lambda t: path(t, out="eth9")), "warn", "leave by another NIC"),
    ("no answer to pings", to("node5", lambda t: path(t, lost=3)), "warn", "pings do not"),
]


@pytest.mark.parametrize(
    ("meets", "status", "message"), [row[1:] for row in WRONG], ids=[r[0] for r in WRONG]
)
def test_one_fault_of_a_host_is_one_finding_on_it(meets: Meets, status: str, message: str) -> None:
    found = not_passed(cells(*cluster(9, meets)))
    assert list(found) == ["node5"]
    assert found["node5"][0] == status and message in found["node5"][1]


def test_a_finding_says_what_was_seen_from_where() -> None:
    found = cells(*cluster(9, to("node5", lambda t: path(t, hccl=TIMED_OUT))))[at("host-net", "node5")]
    assert "60000, 60015, 60031" in found.actual and "node[1,4,6] to node5" in found.actual
    assert "EI0015" in found.consequence and "firewall" in found.remedy
    assert "10.1.0.5" in found.evidence and found.command


def test_faint_things_are_no_finding() -> None:
    def once(source: str, target: str) -> f.HostPathFacts | None:
        if (source, target) != ("node4", "node5"):
            return None
        ports = {22: OPEN, **dict.fromkeys(HCCL_PORTS, REFUSED), HCCL_PORTS[0]: TIMED_OUT}
        return path(target, lost=1, whole_lost=1, ports=ok(f.PortFacts(address_of(target), ports)))

    assert not not_passed(cells(*cluster(9, once)))


def test_a_way_that_lost_all_pings_is_loss_where_others_of_the_host_are_answered() -> None:
    def one(source: str, target: str) -> f.HostPathFacts | None:
        return path(target, lost=3) if (source, target) == ("node4", "node5") else None

    found = not_passed(cells(*cluster(9, one)))
    assert found == {"node4": ("warn", "packets get lost between the host and node5")}


def test_one_way_that_is_closed_is_of_the_host_that_tried_and_names_the_other() -> None:
    def one(source: str, target: str) -> f.HostPathFacts | None:
        return closed(target) if (source, target) == ("node4", "node5") else None

    found = not_passed(cells(*cluster(9, one)))
    assert found == {"node4": ("fail", "node5 cannot be reached over the host network")}


def test_two_hosts_that_do_not_meet_are_both_accused() -> None:
    found = not_passed(cells(*cluster(2, lambda source, target: closed(target))))
    assert {name: status for name, (status, _) in found.items()} == {"node1": "fail", "node2": "fail"}


def test_a_split_network_is_one_finding_and_the_smaller_part_follows_from_it() -> None:
    small = {"node7", "node8", "node9"}

    def apart(source: str, target: str) -> f.HostPathFacts | None:
        return closed(target) if (source in small) != (target in small) else None

    found = cells(*cluster(9, apart))
    split = found.pop(CLUSTER)
    assert split.status is Status.FAIL and split.actual == "node[1-6] | node[7-9]"
    follows = {key.subject.host for key, cell in found.items() if cell.caused_by == CLUSTER}
    assert follows == small
    assert all(cell.evaluated and cell.status is not Status.FAIL for cell in found.values())


def test_equal_parts_accuse_each_other() -> None:
    def apart(source: str, target: str) -> f.HostPathFacts | None:
        return closed(target) if (int(source[4:]) <= 4) != (int(target[4:]) <= 4) else None

    found = cells(*cluster(8, apart))
    assert found.pop(CLUSTER).status is Status.FAIL
    assert {cell.status for cell in found.values()} == {Status.SKIPPED}


def test_pings_that_are_dropped_say_nothing_where_no_port_was_tried() -> None:
    missing = replace(TOOL_MISSING, command="bash -c x")
    found = cells(*cluster(4, lambda s, t: path(t, lost=3, ports=missing)))
    assert {cell.status for cell in found.values()} == {Status.UNKNOWN}
    assert "Install it" in found[at("host-net", "node1")].remedy


@pytest.mark.parametrize("name", ["route", "ping", "ports", "whole"])
def test_what_could_not_be_learned_is_not_passed(name: str) -> None:
    def unread(source: str, target: str) -> f.HostPathFacts | None:
        return path(target, **{name: TOOL_MISSING}) if source == "node2" else None

    assert {host: status for host, (status, _) in not_passed(cells(*cluster(4, unread))).items()} == {
        "node2": "unknown"
    }


def test_an_mtu_that_is_not_known_leaves_the_largest_packets_open() -> None:
    found = not_passed(cells(*cluster(4, lambda s, t: path(t, whole=f.not_asked()))))
    assert {status for status, _ in found.values()} == {"unknown"} and "MTU" in found["node1"][1]


def test_hosts_that_were_not_looked_at() -> None:
    silent = unreached("node3")
    tried = [host(name, (path(other),)) for name, other in (("node1", "node2"), ("node2", "node1"))]
    found = cells(*tried, silent, set_host(accelerator=f.Accelerator.CPU)(host("node4")))
    assert found[at("host-net", "node1")].status is Status.PASS
    assert found[at("host-net", "node3")].caused_by == at("reachable", "node3")
    assert not found[at("host-net", "node3")].evaluated
    assert found[at("host-net", "node4")].status is Status.NOT_APPLICABLE


def test_what_was_not_to_be_tried_does_not_apply_and_what_nobody_knows_of_has_no_cells() -> None:
    hosts = (host("node1"), host("node2"))
    found = judge(*hosts, cluster_checks=(HostNet(why_off="it was not to be tried"),))
    assert found[at("host-net", "node1")].message == "it was not to be tried"
    assert found[at("host-net", "node1")].status is Status.NOT_APPLICABLE
    assert at("host-net", "node1") not in judge(*hosts, cluster_checks=(HostNet(),))


def test_a_host_alone_has_nobody_to_reach() -> None:
    assert cells(host("node1"))[at("host-net", "node1")].status is Status.NOT_APPLICABLE


def test_a_host_whose_only_peer_is_silent_is_explained_by_it() -> None:
    found = cells(host("node1"), unreached("node2"))
    assert found[at("host-net", "node1")].caused_by == at("reachable", "node2")
    assert not found[at("host-net", "node1")].evaluated


def test_a_nic_that_is_not_there_is_found_and_one_that_cannot_be_told_is_asked_for() -> None:
    named = made(host("node1"), set_host(expectation=f.Expectation(nic="eth7")))
    two = host("node2")
    addresses = ok((f.HostAddress("eth0", "10.5.0.1", 24), f.HostAddress("eth1", "10.6.0.1", 24)))
    two = replace(two, system=replace(two.system, addresses=addresses))
    found = cells(named, two, host("node3", (path("node4"),)), host("node4", (path("node3"),)))
    assert found[at("host-net", "node1")].status is Status.FAIL
    assert "EI0001" in found[at("host-net", "node1")].consequence
    assert found[at("host-net", "node2")].status is Status.UNKNOWN
    assert "`nic:`" in found[at("host-net", "node2")].remedy


def test_hosts_with_one_address_follow_from_that_finding_and_accuse_nobody_else() -> None:
    hosts = cluster(6, lambda s, t: closed(t) if {s, t} & {"node5", "node6"} else None)
    twin = replace(hosts[5], system=replace(hosts[5].system, addresses=hosts[4].system.addresses))
    found = cells(*hosts[:5], twin)
    for name in ("node5", "node6"):
        assert found[at("host-net", name)].caused_by == at("duplicate-address", name)
    others = [found[at("host-net", name)] for name in names(4)]
    assert {cell.status for cell in others} == {Status.PASS}


def test_a_thousand_hosts_are_judged_and_only_the_bad_one_is_named() -> None:
    bad = both_ways("node500", closed)
    plan = plan_host_net([HostNic(name, NIC, address_of(name), 1500) for name in names(1000)])
    assert len(plan.paths) == 3000
    assert list(not_passed(cells(*cluster(1000, bad)))) == ["node500"]


# --- the engine's ports ---------------------------------------------------------------------------

SERVES = set_host(expectation=f.Expectation(engine_ports=(8000, 20001)))


def serving(count: int, meets: Callable[[str, str], f.PortAnswer]) -> list[f.HostFacts]:
    """A cluster whose inventory states two engine ports; ``meets``: what a try of the first one met."""

    def made_of(source: str, target: str) -> f.HostPathFacts:
        way = path(target)
        assert way.ports.value
        answers = {**way.ports.value.answers, 8000: meets(source, target), 20001: REFUSED}
        return replace(way, ports=ok(f.PortFacts(way.address, answers), way.ports.command))

    return [made(one, SERVES) for one in cluster(count, made_of)]


@pytest.mark.parametrize("answer", [OPEN, REFUSED])
def test_an_engines_port_that_answers_or_refuses_has_been_reached(answer: f.PortAnswer) -> None:
    assert not_passed(cells(*serving(5, lambda source, target: answer))) == {}


@pytest.mark.parametrize("answer", [REJECTED, TIMED_OUT])
def test_an_engines_port_that_is_shut_is_of_the_host_that_listens(answer: f.PortAnswer) -> None:
    found = cells(*serving(9, lambda source, target: answer if target == "node5" else REFUSED))
    assert list(not_passed(found)) == ["node5"]
    cell = found[at("host-net", "node5")]
    assert cell.status is Status.FAIL and "ports of the engine" in cell.message
    assert "port 8000 not answered" in cell.actual and "20001" not in cell.actual
    assert cell.remedy and cell.consequence


def test_one_host_that_alone_does_not_reach_an_engine_says_so_itself() -> None:
    shut = ("node1", "node2")
    found = cells(*serving(9, lambda *way: TIMED_OUT if way == shut else REFUSED))
    assert list(not_passed(found)) == ["node1"]
    assert "the engine of node2 are shut" in found[at("host-net", "node1")].message


def test_ports_that_the_inventory_does_not_state_are_not_judged() -> None:
    hosts = [made(one, set_host(expectation=f.Expectation())) for one in serving(5, lambda *way: TIMED_OUT)]
    assert not_passed(cells(*hosts)) == {}


def test_the_ports_of_the_host_that_is_tried_are_planned() -> None:
    hosts = [host(name) for name in names(3)]
    hosts[1] = made(hosts[1], set_host(expectation=f.Expectation(engine_ports=(8000, HCCL_PORTS[0]))))
    ports = {way.target: way.ports for way in plan_paths(f.ClusterFacts(tuple(hosts))).paths}
    assert ports["node2"] == (22, *HCCL_PORTS, 8000)
    assert ports["node1"] == ports["node3"] == (22, *HCCL_PORTS)
