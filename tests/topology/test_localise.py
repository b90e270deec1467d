"""Who is at fault: verdicts from pings and facts, on small networks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ascendctl.results import Component, ComponentKind, Peer, Verdict
from ascendctl.topology.blame import explain
from ascendctl.topology.fabric import Fabric, Plane, Port, PortId
from ascendctl.topology.localise import Clues, localise
from ascendctl.topology.mesh import MeshMode, Observation, Ping, pair_cell, plan_mesh
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


def _all_roce(on: Plane, a: Port, b: Port) -> float:
    return float(on is ROCE)


BETWEEN = "between leaf switches"
ALL_ROCE = {
    "a3, two leaf switches": a3(8),
    "a3, six": a3(24),
    "a2, four": a2(32),
    "a3, nobody hears a switch": a3(24, leaves=False),
    "a3, half of the hosts hear none": changed(
        a3(24), lambda port: {"switch": None} if port.id.host > "n12" else {}
    ),
}


@pytest.mark.parametrize("case", ALL_ROCE)
def test_where_all_roce_is_lost_it_is_one_cause_and_neither_a_leaf_nor_the_spine(case: str) -> None:
    fabric = ALL_ROCE[case]
    plan = plan_mesh(fabric, MeshMode.SAMPLE)
    first = observed(fabric, [_all_roce], plan=plan)
    again = observed(fabric, [_all_roce], plan=second_round(fabric, plan, first))
    (verdict,) = localise(fabric, [*first, *again])
    assert verdict.component == Component(ComponentKind.SWITCH, value="every leaf switch")
    lost = [o for o in first if o.received != o.sent and o.ping.plane is ROCE]
    assert set(verdict.explains) >= {pair_cell(o.ping) for o in lost}
    assert verdict.alternatives == ()


def test_where_no_ping_stays_behind_one_leaf_its_loss_may_be_beyond_it() -> None:
    """One host per switch: that all switches fail and that all between them fails is the same."""
    fabric = changed(a3(24), lambda port: {"switch": f"leaf of {port.id.host}"})
    (verdict,) = localise(fabric, observed(fabric, [_all_roce]))
    both = {Component(ComponentKind.SWITCH, value=of) for of in ("every leaf switch", BETWEEN)}
    assert {verdict.component, *verdict.alternatives} == both
    assert verdict.confidence < 0.95


def test_all_between_the_leaf_switches_is_no_leaf_switch() -> None:
    fabric = a3(24)
    between: Fault = lambda on, a, b: float(on is ROCE and a.switch != b.switch)  # noqa: E731
    assert named(localise(fabric, observed(fabric, [between]))) == {
        Component(ComponentKind.SWITCH, value=BETWEEN)
    }


def test_where_too_many_parts_explain_as_well_nobody_is_accused() -> None:
    fabric = a3(2)
    one, other = PortId("n00", 0), PortId("n01", 0)
    pings = [
        Ping(ROCE, source, target, fabric.by_id[target].address(ROCE) or "")
        for source, target in ((one, other), (other, one))
    ]
    lost = [Observation(ping, 12, 0) for ping in pings]
    assert localise(fabric, lost) == ()
    assert {o for suspicion in explain(fabric, lost).suspicions for o in suspicion.observations} == set(lost)


def test_hosts_that_hear_no_switch_are_not_put_behind_one_for_losses_that_another_explains() -> None:
    truth = a2(64)
    blank = ("n09", "n20", "n30", "n41", "n50", "n60")
    fabric = changed(truth, lambda port: {"switch": None} if port.id.host in blank else {})
    faults = [
        networks.lossy_switch("leaf1", 0.35, truth=truth),  # n09 is behind it
        networks.lossy_uplinks("leaf4"),
    ]
    assert named(localise(fabric, observed(fabric, faults))) == {
        Component(ComponentKind.SWITCH, switch="leaf1"),
        Component(ComponentKind.SWITCH, switch="leaf4", value="uplinks"),
    }


def test_hosts_of_a_split_that_no_ping_put_together_are_one_side() -> None:
    fabric = a3(16)
    apart = {"n00", "n01", "n05"}
    observations = [
        o
        for o in observed(fabric, [networks.split_pod(apart)])
        # No ping between n05 and the rest of its side.
        if o.ping.plane is ROCE
        or not {o.ping.source.host, o.ping.target.host} <= apart
        or "n05" not in (o.ping.source.host, o.ping.target.host)
    ]
    side = {Component(ComponentKind.SUPER_POD, value="0: n[00-01,05] apart")}
    assert named(localise(fabric, observations)) == side
    # A host that RoCE does not reach either is at fault by itself: nothing shows on which side it is.
    lonely = [
        replace(o, received=0) if "n09" in (o.ping.source.host, o.ping.target.host) else o
        for o in observations
        if o.ping.plane is ROCE or not {"n09"} < {o.ping.source.host, o.ping.target.host} & {"n09", *apart}
    ]
    assert named(localise(fabric, lonely)) == side | {Component(ComponentKind.HOST, "n09")}


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


@pytest.mark.parametrize("loss", [0.9, 1.0])
def test_a_swap_is_found_though_one_end_is_behind_a_switch_at_fault(loss: float) -> None:
    one, other = PortId("n02", 5), PortId("n12", 5)
    fabric = _swapped(a3(24), one, other)  # n02 device 5 hears leaf3 now
    faults = [networks.dead_port(end.host, end.device, ROCE) for end in (one, other)]
    verdicts = localise(fabric, observed(fabric, [*faults, networks.lossy_switch("leaf3", loss)]))
    swap = Component(ComponentKind.LINK, "n12", 5, 2, Peer("n02", 5), value="cable swap")
    assert named(verdicts) == {swap, Component(ComponentKind.SWITCH, switch="leaf3")}
    cells = [cell for verdict in verdicts for cell in verdict.explains]
    assert len(cells) == len(set(cells))


def test_a_swap_with_an_end_that_hears_nothing_is_inferred() -> None:
    one, other = PortId("n02", 5), PortId("n12", 5)
    swapped = _swapped(a3(16), one, other)
    blank = {"switch": None, "switch_port": None}
    fabric = changed(swapped, lambda port: blank if port.id.host == other.host else {})
    faults = [networks.dead_port(end.host, end.device, ROCE) for end in (one, other)]
    (verdict,) = localise(fabric, observed(fabric, faults))
    assert verdict.component == Component(ComponentKind.LINK, "n02", 5, 2, Peer("n12", 5), value="cable swap")
    assert 0.9 < verdict.confidence < 0.99
    # The place that n02 device 5 hears is another's who hears its switch: no swap with n12.
    third = PortId("n09", 5)
    fabric = _swapped(a3(16), one, third)
    fabric = changed(
        fabric,
        lambda port: (
            blank
            if port.id.host == other.host
            else {"switch": "leaf1", "switch_port": "400GE1/2/1:1"}
            if port.id == third
            else {}
        ),
    )
    verdicts = localise(fabric, observed(fabric, faults))
    assert named(verdicts) == {device("n02", 5, 2, "roce"), device("n12", 5, 2, "roce")}


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
