"""Who is at fault: verdicts from pings and facts, on small networks."""

from __future__ import annotations

import pytest

from ascendctl.results import Component, ComponentKind, Peer, Verdict
from ascendctl.topology.fabric import Fabric, Plane, PortId
from ascendctl.topology.localise import Clues, localise
from ascendctl.topology.mesh import MeshMode, Observation, pair_cell, plan_mesh
from ascendctl.topology.second_round import second_round
from tests.topology import networks
from tests.topology.networks import Fault, a2, a3, changed, observed

HCCS, ROCE = Plane.HCCS, Plane.ROCE


def device(host: str, number: int, npu: int, value: str | None) -> Component:
    return Component(ComponentKind.DEVICE, host, number, npu, value=value)


CASES: dict[str, tuple[Fabric, list[Fault], list[Component]]] = {
    "nothing, a3": (a3(16), [], []),
    "nothing, a2": (a2(16), [], []),
    "a3 RoCE port": (a3(16), [networks.dead_port("n03", 5, ROCE)], [device("n03", 5, 2, "roce")]),
    "a3 HCCS port": (a3(16), [networks.dead_port("n03", 5, HCCS)], [device("n03", 5, 2, "hccs")]),
    "a3 device, both planes": (
        a3(16),
        [networks.dead_port("n03", 5, ROCE), networks.dead_port("n03", 5, HCCS)],
        [device("n03", 5, 2, None)],
    ),
    "a3 port, half of it": (a3(16), [networks.dead_port("n03", 5, ROCE, 0.5)], [device("n03", 5, 2, "roce")]),
    "a2 device": (a2(16), [networks.dead_port("n09", 7, ROCE)], [device("n09", 7, 7, "roce")]),
    "npu": (a3(16), [networks.dead_npu("n04", 6)], [Component(ComponentKind.NPU, "n04", npu=6)]),
    "a3 host": (a3(16), [networks.dead_host("n08")], [Component(ComponentKind.HOST, "n08")]),
    "a2 host": (a2(16), [networks.dead_host("n08")], [Component(ComponentKind.HOST, "n08")]),
    "switch": (a3(24), [networks.lossy_switch("leaf3")], [Component(ComponentKind.SWITCH, switch="leaf3")]),
    "switch, 20 %": (
        a3(24),
        [networks.lossy_switch("leaf3", 0.2)],
        [Component(ComponentKind.SWITCH, switch="leaf3")],
    ),
    "uplinks": (
        a3(24),
        [networks.lossy_uplinks("leaf3")],
        [Component(ComponentKind.SWITCH, switch="leaf3", value="uplinks")],
    ),
    "pod split": (
        a3(16),
        [networks.split_pod({"n00", "n01", "n05"})],
        [Component(ComponentKind.SUPER_POD, value="0: n[00-01,05] apart")],
    ),
    "link": (
        a2(4),
        [networks.dead_link(PortId("n00", 1), PortId("n02", 3), ROCE)],
        [Component(ComponentKind.LINK, "n00", 1, peer=Peer("n02", 3), value="roce")],
    ),
    "host and a port elsewhere": (
        a3(16),
        [networks.dead_host("n08"), networks.dead_port("n03", 5, HCCS)],
        [Component(ComponentKind.HOST, "n08"), device("n03", 5, 2, "hccs")],
    ),
    "host behind a dead switch": (
        a3(24),
        [networks.lossy_switch("leaf3"), networks.dead_host("n08")],
        [Component(ComponentKind.SWITCH, switch="leaf3"), Component(ComponentKind.HOST, "n08")],
    ),
    "three ports of a host": (
        a3(16),
        [networks.dead_port("n03", number, ROCE) for number in (1, 4, 11)],
        [device("n03", 1, 0, "roce"), device("n03", 4, 2, "roce"), device("n03", 11, 5, "roce")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_very_part_is_named(case: str) -> None:
    fabric, faults, expected = CASES[case]
    mode = MeshMode.FULL if case == "link" else MeshMode.SAMPLE
    verdicts = localise(fabric, observed(fabric, faults, plan=plan_mesh(fabric, mode)))
    assert named(verdicts) == set(expected)


def named(verdicts: tuple[Verdict, ...]) -> set[Component]:
    return {verdict.component for verdict in verdicts}


def test_background_loss_alone_accuses_nobody() -> None:
    fabric = a3(32)
    for seed in range(5):
        assert localise(fabric, observed(fabric, background=0.001, seed=seed)) == ()


def test_a_verdict_explains_the_failing_pairs_and_says_what_it_rests_on() -> None:
    fabric = a3(16)
    observations = observed(fabric, [networks.dead_port("n03", 5, ROCE)], background=0.0)
    (verdict,) = localise(fabric, observations)
    failing = {pair_cell(o.ping) for o in observations if o.received == 0}
    assert set(verdict.explains) == failing and failing
    assert verdict.confidence > 0.99
    assert any("18 of 18" in sentence for sentence in verdict.evidence)
    assert any("other die lost 0 of" in sentence for sentence in verdict.ruled_out)
    assert any("the switch leaf1" in sentence and "lost 0 of" in sentence for sentence in verdict.ruled_out)


def test_a_failing_pair_is_explained_once() -> None:
    fabric = a3(24)
    faults = [networks.lossy_switch("leaf3"), networks.dead_host("n08"), networks.dead_port("n20", 3, ROCE)]
    verdicts = localise(fabric, observed(fabric, faults))
    cells = [cell for verdict in verdicts for cell in verdict.explains]
    assert len(cells) == len(set(cells))


def test_a_host_that_fell_silent_is_judged_by_the_pings_to_it() -> None:
    fabric = a3(16)
    healthy = observed(fabric, silent=["n02", "n03"])
    assert localise(fabric, healthy) == ()
    broken = observed(fabric, [networks.dead_host("n02")], silent=["n02", "n03"])
    assert named(localise(fabric, broken)) == {Component(ComponentKind.HOST, "n02")}


def test_nothing_learned_gives_no_verdict() -> None:
    fabric = a3(4)
    plan = plan_mesh(fabric, MeshMode.SAMPLE)
    assert localise(fabric, [Observation(ping, None, None, "no root") for ping in plan.pings]) == ()
    assert localise(fabric, []) == ()


@pytest.mark.parametrize("loss", [1.0, 0.4])
def test_ports_that_hear_no_switch_are_put_behind_the_one_at_fault(loss: float) -> None:
    truth = a3(24)
    fabric = changed(truth, lambda port: {"switch": None} if port.id.host in ("n09", "n20") else {})
    faults = [networks.lossy_switch("leaf3", loss, truth=truth)]  # n09 is behind it, n20 is not
    assert named(localise(fabric, observed(fabric, faults))) == {
        Component(ComponentKind.SWITCH, switch="leaf3")
    }


def test_uplinks_of_the_only_two_switches_are_alternatives() -> None:
    fabric = a3(8)
    (verdict,) = localise(fabric, observed(fabric, [networks.lossy_uplinks("leaf0")]))
    sides = {Component(ComponentKind.SWITCH, switch=name, value="uplinks") for name in ("leaf0", "leaf1")}
    assert {verdict.component, *verdict.alternatives} >= sides
    assert verdict.confidence < 0.6


# --- facts ----------------------------------------------------------------------------------------


def test_a_tls_island_is_one_verdict_of_its_group() -> None:
    fabric = changed(a3(8), lambda port: {"tls_switch": int(port.id.host == "n03")})
    (verdict,) = localise(fabric, [])
    assert verdict.component == Component(ComponentKind.TLS_GROUP, "n03", value="TLS switch 1")
    assert {cell.check for cell in verdict.explains} == {"tls-switch"}
    groups = {name: "prefill" if name == "n03" else "decode" for name in fabric.hosts}
    assert localise(fabric, [], Clues(groups=groups)) == ()


def test_a_tls_tie_accuses_both_sides() -> None:
    fabric = changed(a3(2), lambda port: {"tls_switch": int(port.id.host == "n01")})
    verdicts = localise(fabric, [])
    assert {verdict.component.value for verdict in verdicts} == {"TLS switch 0", "TLS switch 1"}
    assert all(verdict.confidence == 0.5 and verdict.alternatives for verdict in verdicts)


def test_a_duplicate_address_is_laid_at_the_port_that_is_foreign_to_its_host() -> None:
    clean = a3(16)
    owner = clean.by_id[PortId("n02", 4)]
    copied = {"roce_address": owner.roce_address, "roce_segment": owner.roce_segment}
    fabric = changed(clean, lambda port: copied if port.id == PortId("n09", 6) else {})
    lost = [networks.dead_port("n09", 6, ROCE), networks.dead_port("n02", 4, ROCE, 0.5)]
    (verdict,) = localise(fabric, observed(fabric, lost))
    assert verdict.component == Component(ComponentKind.ADDRESS, "n09", 6, 3, value=owner.roce_address)
    assert verdict.explains


def test_a_duplicate_sdid_is_laid_at_the_die_that_is_foreign_to_its_host() -> None:
    clean = a3(16)
    owner = clean.by_id[PortId("n02", 4)]
    copied = {name: getattr(owner, name) for name in ("sdid", "server_index", "vnic_address")}
    fabric = changed(clean, lambda port: copied if port.id == PortId("n09", 4) else {})
    (verdict,) = localise(fabric, [])
    assert verdict.component == Component(ComponentKind.ADDRESS, "n09", 4, 2, value=f"SDID {owner.sdid}")


def test_two_hosts_with_one_server_index_are_one_verdict() -> None:
    clean = a3(8)
    copies = {port.id.device: port.sdid for port in clean.hosts["n02"]}
    change = {"n05": lambda port: {"sdid": copies[port.id.device], "server_index": 2}}
    fabric = changed(clean, lambda port: change[port.id.host](port) if port.id.host in change else {})
    (verdict,) = localise(fabric, [])
    assert verdict.component == Component(ComponentKind.ADDRESS, value="server index 2")


def test_a_host_alone_in_another_pod_strayed_if_its_place_is_free_at_home() -> None:
    strayed = changed(a3(8), lambda port: {"super_pod": 7} if port.id.host == "n05" else {})
    (verdict,) = localise(strayed, [])
    assert verdict.component == Component(ComponentKind.SUPER_POD, "n05", value="7")
    assert localise(a3(9, hosts_per_pod=8), []) == ()  # the first host of a second pod


def _swapped(fabric: Fabric, one: PortId, other: PortId) -> Fabric:
    ends = {one: fabric.by_id[other], other: fabric.by_id[one]}

    def heard(port):  # type: ignore[no-untyped-def]
        cable = ends.get(port.id)
        return {"switch": cable.switch, "switch_port": cable.switch_port} if cable else {}

    return changed(fabric, heard)


@pytest.mark.parametrize("other", [PortId("n12", 5), PortId("n04", 5), PortId("n12", 6)])
def test_swapped_cables_are_one_verdict_where_pings_fail(other: PortId) -> None:
    one = PortId("n02", 5)
    fabric = _swapped(a3(16), one, other)
    faults = [networks.dead_port(end.host, end.device, ROCE) for end in (one, other)]
    (verdict,) = localise(fabric, observed(fabric, faults))
    component = verdict.component
    assert (component.kind, component.value) == (ComponentKind.LINK, "cable swap")
    assert component.peer is not None
    assert {(component.host, component.device), (component.peer.host, component.peer.device)} == {
        (one.host, one.device),
        (other.host, other.device),
    }


def test_swapped_cables_without_failing_pings_are_no_verdict() -> None:
    fabric = _swapped(a3(16), PortId("n02", 5), PortId("n12", 5))
    assert localise(fabric, observed(fabric)) == ()


def test_two_broken_ports_are_no_swap() -> None:
    fabric = a3(16)
    faults = [networks.dead_port("n02", 5, ROCE), networks.dead_port("n12", 5, ROCE)]
    assert named(localise(fabric, observed(fabric, faults))) == {
        device("n02", 5, 2, "roce"),
        device("n12", 5, 2, "roce"),
    }


# --- second round ---------------------------------------------------------------------------------


def test_no_second_round_where_all_is_clear() -> None:
    fabric = a3(16)
    plan = plan_mesh(fabric, MeshMode.SAMPLE)
    for faults in ([], [networks.dead_port("n03", 5, ROCE)], [networks.dead_host("n08")]):
        clear = observed(fabric, faults, plan=plan, background=0.0)
        assert second_round(fabric, plan, clear).pings == ()


def test_a_faint_loss_is_pinged_again_against_good_ports_and_then_named() -> None:
    fabric = a3(16)
    plan = plan_mesh(fabric, MeshMode.SAMPLE)
    suspect = PortId("n03", 5)
    lossy = [p for p in plan.pings if p.plane is ROCE and suspect in (p.source, p.target)][:2]
    first = [Observation(ping, 3, 2 if ping in lossy else 3) for ping in plan.pings]
    assert localise(fabric, first) == ()
    again = second_round(fabric, plan, first)
    assert again.pings and again.packets > plan.packets
    assert len(again.pings) <= 64
    mine = [ping for ping in again.pings if suspect in (ping.source, ping.target)]
    assert {ping.source == suspect for ping in mine} == {True, False}
    second = observed(fabric, [networks.dead_port("n03", 5, ROCE, 0.15)], plan=again)
    assert named(localise(fabric, [*first, *second])) == {device("n03", 5, 2, "roce")}
