"""Ping plans: who pings whom, how often, and what is left out."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from ascendctl.results import CellKey, Peer, Subject, SubjectKind
from ascendctl.topology.fabric import Fabric, Plane, PortId
from ascendctl.topology.mesh import MeshMode, Ping, default_mode, pair_cell, plan_mesh
from tests.topology.networks import a2, a3, changed

FABRICS = {
    "a2": a2(24),
    "a3": a3(24),
    "a3, two pods": a3(16, hosts_per_pod=8),
    "no gateways": a2(16, gateway=False),
}


@pytest.mark.parametrize("fabric", FABRICS.values(), ids=FABRICS)
@pytest.mark.parametrize("k", [1, 3])
def test_every_port_sends_and_receives_with_k_partners_on_other_hosts(fabric: Fabric, k: int) -> None:
    plan = plan_mesh(fabric, MeshMode.SAMPLE, k=k)
    sends: dict[tuple[Plane, PortId], set[PortId]] = defaultdict(set)
    receives: dict[tuple[Plane, PortId], set[PortId]] = defaultdict(set)
    for ping in plan.pings:
        assert ping.source.host != ping.target.host
        assert fabric.by_id[ping.target].address(ping.plane) == ping.address
        sends[ping.plane, ping.source].add(ping.target)
        receives[ping.plane, ping.target].add(ping.source)
    for plane in Plane:
        for port in fabric.ports_on(plane):
            assert len(sends[plane, port.id]) >= k
            assert len(receives[plane, port.id]) >= k


def test_hccs_pings_stay_in_their_super_pod() -> None:
    fabric = a3(16, hosts_per_pod=8)
    pods = {port.id: port.super_pod for port in fabric.ports}
    pings = [p for p in plan_mesh(fabric, MeshMode.SAMPLE).pings if p.plane is Plane.HCCS]
    assert pings and all(pods[ping.source] == pods[ping.target] for ping in pings)


def test_a_port_is_measured_behind_its_own_leaf_switch_and_behind_others() -> None:
    fabric = a3(24)
    met: dict[PortId, Counter[bool]] = defaultdict(Counter)
    for ping in plan_mesh(fabric, MeshMode.SAMPLE).pings:
        if ping.plane is Plane.ROCE:
            same = fabric.by_id[ping.source].switch == fabric.by_id[ping.target].switch
            met[ping.source][same] += 1
    assert all(met[port.id][True] >= 1 and met[port.id][False] >= 1 for port in fabric.ports)


def test_a_sample_is_linear_in_hosts_and_a_hundredth_of_the_full_mesh_at_48() -> None:
    sizes = {hosts: len(plan_mesh(a3(hosts), MeshMode.SAMPLE).pings) for hosts in (24, 48)}
    assert sizes[48] < 2.3 * sizes[24]
    full = 2 * (48 * 16) * (47 * 16)
    assert sizes[48] <= 0.008 * full  # the second round needs room, too


def test_ports_whose_link_is_down_are_left_out() -> None:
    down = PortId("n03", 5)
    fabric = changed(a3(8), lambda port: {"link_up": False} if port.id == down else {})
    plan = plan_mesh(fabric, MeshMode.SAMPLE)
    touched = {ping.plane for ping in plan.pings if down in (ping.source, ping.target)}
    assert touched == {Plane.HCCS}


def test_equal_seeds_give_equal_plans_and_other_seeds_others() -> None:
    fabric = a3(8)
    one, same, other = (plan_mesh(fabric, MeshMode.SAMPLE, seed=seed) for seed in (1, 1, 2))
    assert one == same != other


def test_modes_off_ring_rail_and_full() -> None:
    fabric = a2(4)
    assert plan_mesh(fabric, MeshMode.OFF).pings == ()
    assert len(plan_mesh(fabric, MeshMode.RING).pings) == 4 * 8
    rail = plan_mesh(fabric, MeshMode.RAIL).pings
    assert rail and all(ping.source.device == ping.target.device for ping in rail)
    assert len(plan_mesh(fabric, MeshMode.FULL).pings) == 4 * 8 * 3 * 8


def test_the_default_is_every_pair_while_there_are_few() -> None:
    assert default_mode(a2(4)) is MeshMode.FULL
    assert default_mode(a3(8)) is MeshMode.SAMPLE


def test_one_host_has_nobody_to_ping() -> None:
    assert plan_mesh(a3(1), MeshMode.FULL).pings == ()


def test_a_pair_is_one_cell_of_its_plane() -> None:
    ping = Ping(Plane.HCCS, PortId("n01", 2), PortId("n03", 4), "192.3.2.195")
    subject = Subject(SubjectKind.LINK, host="n01", device=2, peer=Peer("n03", 4))
    assert pair_cell(ping) == CellKey("mesh-hccs", subject)
