"""Cables beside what the inventory states of them, from the file to the report; no ping is sent here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ascendctl import facts as f
from ascendctl.inventory import load
from ascendctl.observations import PingAnswer
from ascendctl.probe.bundle import MeshAsked
from ascendctl.results import CellKey, Component, ComponentKind, Peer, Result, Run, Status
from ascendctl.second_phase import Mesh, Told
from ascendctl.topology.fabric import PortId, fabric_of
from ascendctl.topology.mesh import MeshMode, plan_mesh
from ascendctl.verify import Gathered, expectation_of, judge
from tests.checks.hosts import NO_DATA, TODAY, a2, device, made, ok

RAILS = "cabling: {0-7: 'leaf-[1-8]'}"
SWAP = (PortId("node02", 1), PortId("node03", 4))
STARTED = dt.datetime.combine(TODAY, dt.time(12), dt.timezone.utc)
STANDS_OUT = (Status.FAIL, Status.WARN, Status.UNKNOWN, Status.ERROR)


def plugged(switch: str, port: str = "400GE1/0/1") -> f.Reading[f.LldpFacts]:
    return ok(f.LldpFacts("02:00:00:00:00:01", port, switch, None))


def cluster(count: int = 4, swaps: Sequence[tuple[PortId, PortId]] = ()) -> list[f.HostFacts]:
    """A2 hosts in one segment: device N of each on leaf-(N+1), on the switch port with the host's number."""
    ends = {port: other for swap in swaps for port, other in (swap, swap[::-1])}
    hosts = []
    for number in range(1, count + 1):
        host = a2(f"node{number:02}", number=number)
        for phy in range(8):
            end = ends.get(PortId(host.host, phy), PortId(host.host, phy))
            heard = plugged(f"leaf-{end.device + 1}", f"400GE1/0/{int(end.host[4:])}")
            host = made(host, device(phy, lldp=heard))
        hosts.append(host)
    return hosts


def judged(
    folder: Path,
    hosts: Sequence[f.HostFacts],
    defaults: str = "",
    entries: str = "",
    loses: Callable[[PortId], bool] | None = None,
) -> Run:
    """The hosts under an inventory with these settings. ``loses``: ports that lose every packet; None = no
    pings were sent."""
    names = "".join(f"  - name: {host.host}\n" for host in hosts)
    file = folder / "cluster.yaml"
    file.write_text(f"version: 1\ndefaults: {{{defaults}}}\nhosts:\n{entries or names}", encoding="utf-8")
    expected = {host.name: expectation_of(host) for host in load(file).hosts}
    facts = f.ClusterFacts(tuple(replace(host, expectation=expected[host.host]) for host in hosts))
    mesh = Mesh(MeshAsked("off", why_off="--mesh off"))
    if loses is not None:
        answers = {
            host: tuple(
                PingAnswer(
                    ping.plane,
                    ping.source.device,
                    ping.address,
                    3,
                    0 if loses(ping.source) or loses(ping.target) else 3,
                )
                for ping in pings
            )
            for host, pings in plan_mesh(fabric_of(facts), MeshMode.SAMPLE).by_host.items()
        }
        reached = dict.fromkeys(answers, f.Reach(f.ReachStatus.REACHED))
        mesh = Mesh(MeshAsked("sample", 8, 3), (Told(reached, answers),))
    return judge(Gathered((), facts, mesh=mesh), (), started_at=STARTED, duration_s=1.0)


def found(run: Run) -> dict[str, list[Result]]:
    """What stands out, by check; what no host network was asked of here is left out."""
    cells: dict[str, list[Result]] = {}
    for cell in run.results:
        if cell.status in STANDS_OUT and cell.check != "host-net":
            cells.setdefault(cell.check, []).append(cell)
    return cells


def cabling_of(run: Run, host: str, phy: int | None = None) -> Result:
    (cell,) = [
        cell
        for cell in run.results
        if cell.check == "cabling"
        and (cell.subject.host, cell.subject.device, cell.subject.peer) == (host, phy, None)
    ]
    return cell


def test_ports_where_they_should_be_pass(tmp_path: Path) -> None:
    run = judged(tmp_path, cluster(), RAILS)
    assert found(run) == {} and run.verdicts == ()
    assert cabling_of(run, "node02").status is Status.PASS
    assert "8 ports hear" in cabling_of(run, "node02").message


@pytest.mark.parametrize("pings", [True, False], ids=["every ping passes", "mesh off"])
@pytest.mark.parametrize(
    "swap",
    [SWAP, (PortId("node02", 1), PortId("node02", 6))],
    ids=["two hosts", "one host"],
)
def test_a_stated_swap_is_one_finding_though_both_ports_are_in_the_right_segment(
    swap: tuple[PortId, PortId], pings: bool, tmp_path: Path
) -> None:
    run = judged(tmp_path, cluster(swaps=[swap]), RAILS, loses=(lambda port: False) if pings else None)
    (cell,) = found(run).pop("cabling")
    assert len(found(run)) == 1
    assert cell.status is Status.FAIL
    one, other = swap
    assert (cell.subject.host, cell.subject.device) == (one.host, one.device)
    assert cell.subject.peer == Peer(other.host, other.device)
    assert f"leaf-{one.device + 1}" in cell.expected and f"leaf-{other.device + 1}" in cell.actual
    for port in swap:
        own = cabling_of(run, port.host, port.device)
        assert (own.status, own.caused_by) == (Status.SKIPPED, cell.key)
    assert cabling_of(run, one.host).status is Status.PASS
    assert len(run.verdicts) == int(pings)
    for verdict in run.verdicts:
        assert verdict.component == Component(
            ComponentKind.LINK,
            one.host,
            one.device,
            one.device,
            peer=Peer(other.host, other.device),
            value="cable swap",
        )
        assert verdict.explains == (cell.key,)
    if pings:
        ports = [c for c in run.results if c.check == "mesh-roce" and c.subject.host == one.host]
        assert {c.status for c in ports} == {Status.PASS}


def test_without_a_statement_the_same_is_an_observation_that_accuses_nobody(tmp_path: Path) -> None:
    run = judged(tmp_path, cluster(8, swaps=[SWAP]), loses=lambda port: False)
    assert run.verdicts == ()
    (cell,) = found(run).pop("cabling")
    assert len(found(run)) == 1
    assert cell.status is Status.WARN
    assert "observation" in cell.message and "node03 device 4" in cell.message
    assert cabling_of(run, "node02").status is Status.NOT_APPLICABLE


def test_hosts_that_are_cabled_each_in_its_own_way_are_no_observation(tmp_path: Path) -> None:
    swaps = [(PortId(f"node0{n}", n), PortId(f"node0{n}", n + 1)) for n in range(1, 5)]
    run = judged(tmp_path, cluster(4, swaps=swaps))
    assert found(run) == {}


@pytest.mark.parametrize("stated", [True, False])
def test_a_swap_that_loses_packets_is_one_verdict_and_one_finding(stated: bool, tmp_path: Path) -> None:
    run = judged(tmp_path, cluster(8, swaps=[SWAP]), RAILS if stated else "", loses=lambda port: port in SWAP)
    (verdict,) = run.verdicts
    assert verdict.component.value == "cable swap" and verdict.component.peer is not None
    check, ((cell, *more),) = next(iter(found(run).items())), found(run).values()
    assert not more and len(found(run)) == 1
    assert (check[0], cell.status) == ("cabling" if stated else "mesh", Status.FAIL)
    pairs = [c for c in run.results if c.check == "mesh-roce" and c.status is Status.SKIPPED]
    assert pairs and {c.caused_by for c in pairs} == {cell.key}


def test_a_port_elsewhere_is_a_finding_of_its_own_and_explains_its_pings(tmp_path: Path) -> None:
    hosts = cluster(8)
    hosts[1] = made(hosts[1], device(3, lldp=plugged("leaf-8")))
    astray = PortId("node02", 3)
    run = judged(tmp_path, hosts, RAILS, loses=lambda port: port == astray)
    assert list(found(run)) == ["cabling"]
    cell = cabling_of(run, "node02", 3)
    assert cell.status is Status.FAIL
    assert (cell.expected, cell.actual) == ("leaf-4", "leaf-8 400GE1/0/1")
    (verdict,) = run.verdicts
    assert (verdict.component.host, verdict.component.device) == ("node02", 3)


def test_where_a_switch_port_is_stated_it_counts(tmp_path: Path) -> None:
    swap = (PortId("node02", 1), PortId("node03", 1))  # of one rail: the switch is the same
    entries = "".join(
        f"  - name: node{n:02}\n    cabling: {{0-7: 'leaf-[1-8] 400GE1/0/{n}'}}\n" for n in range(1, 5)
    )
    hosts = cluster(swaps=[swap])
    assert list(found(judged(tmp_path, hosts, entries=entries))) == ["cabling"]
    assert found(judged(tmp_path, hosts, RAILS)) == {}


def test_swaps_that_cannot_be_told_apart_are_findings_of_their_ports(tmp_path: Path) -> None:
    swaps = [(PortId("node01", 1), PortId("node02", 4)), (PortId("node03", 1), PortId("node04", 4))]
    run = judged(tmp_path, cluster(swaps=swaps), RAILS, loses=lambda port: False)
    cells = found(run)["cabling"]
    assert {(c.subject.host, c.subject.device) for c in cells} == {
        ("node01", 1),
        ("node02", 4),
        ("node03", 1),
        ("node04", 4),
    }
    assert all(c.subject.peer is None for c in cells)
    assert run.verdicts == ()


def test_what_is_not_heard_is_unknown_and_what_follows_from_a_dead_link_is_not_accused(
    tmp_path: Path,
) -> None:
    hosts = cluster(swaps=[SWAP])
    hosts[0] = made(hosts[0], device(2, lldp=NO_DATA))
    hosts[1] = made(hosts[1], device(1, link=ok(f.LinkFacts(f.LinkStatus.DOWN))))
    run = judged(tmp_path, hosts, RAILS)
    assert cabling_of(run, "node01", 2).status is Status.UNKNOWN
    dead = cabling_of(run, "node02", 1)
    assert dead.status is Status.SKIPPED
    assert dead.caused_by is not None and dead.caused_by.check == "link"
    assert cabling_of(run, "node03", 4).status is Status.FAIL  # alone, as the other end tells nothing now


def test_another_npu_at_the_other_end_is_not_the_switch(tmp_path: Path) -> None:
    hosts = cluster()
    fibre = f.LldpFacts("02:00:00:00:00:09", "eth3", "node09", "AscendNPU")
    hosts[2] = made(hosts[2], device(5, lldp=ok(fibre)))
    run = judged(tmp_path, hosts, RAILS)
    assert cabling_of(run, "node03", 5).actual == "another NPU eth3"


def test_a_host_that_was_not_reached_is_not_green(tmp_path: Path) -> None:
    lost = f.HostFacts("node04", f.Expectation(), f.Reach(f.ReachStatus.TIMEOUT))
    run = judged(tmp_path, [*cluster(3), lost], RAILS)
    cell = cabling_of(run, "node04")
    assert (cell.status, cell.caused_by and cell.caused_by.check) == (Status.SKIPPED, "reachable")
    assert not cell.evaluated


def test_several_ports_elsewhere_are_one_finding_of_their_host(tmp_path: Path) -> None:
    hosts = cluster()
    hosts[1] = made(hosts[1], *(device(phy, lldp=plugged("leaf-99")) for phy in (2, 3)))
    run = judged(tmp_path, hosts, RAILS)
    cell = cabling_of(run, "node02")
    assert cell.status is Status.FAIL
    assert "devices 2-3" in cell.message and "device 2: leaf-3; device 3: leaf-4" in cell.expected
    assert found(run) == {"cabling": [cell]}
    assert CellKey("cabling", cell.subject) == cell.key
