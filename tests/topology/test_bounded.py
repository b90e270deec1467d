"""Attribution looks at few pings, whatever is lost: work is counted, not timed."""

from __future__ import annotations

import pytest

from ascendctl.topology import blame
from ascendctl.topology.blame import explain
from ascendctl.topology.fabric import Plane, PortId
from ascendctl.topology.localise import localise
from ascendctl.topology.mesh import MeshMode, plan_mesh
from ascendctl.topology.parts import PartKind, Ways
from tests.topology import networks
from tests.topology.networks import Fault, a2, a3, observed

HOSTS = 64
LARGE: dict[str, tuple[Fault, list[PartKind]]] = {
    "all of RoCE": (lambda on, a, b: float(on is Plane.ROCE), [PartKind.PLANE]),
    "all of HCCS": (lambda on, a, b: float(on is Plane.HCCS), [PartKind.PLANE, PartKind.PLANE]),
    "spine": (lambda on, a, b: float(on is Plane.ROCE and a.switch != b.switch), [PartKind.SPINE]),
    "host": (networks.dead_host("n08"), [PartKind.HOST]),
    "20 % of a switch": (networks.lossy_switch("leaf3", 0.2), [PartKind.SWITCH]),
}
# What explains every loss of thousands of parts: none of those need be looked at any more.
COMPLETE = ("all of RoCE", "all of HCCS", "spine")


@pytest.mark.parametrize("case", LARGE)
def test_a_large_fault_is_one_part_found_with_few_looks(case: str) -> None:
    fabric = a3(HOSTS)
    fault, expected = LARGE[case]
    ways = Ways(fabric, observed(fabric, [fault]))
    search = blame._searched(ways)
    assert sorted(found.part.kind for found in search.blames()) == sorted(expected)
    assert search.evaluated < (len(ways.suspects()) // 20 if case in COMPLETE else len(ways.sent))
    assert search.looks < 10 * len(ways.sent)


@pytest.mark.parametrize("case", COMPLETE)
def test_what_a_large_fault_leaves_open_is_looked_at(case: str) -> None:
    fabric = a3(HOSTS)
    fault, expected = LARGE[case]
    plane = Plane.ROCE if case == "all of HCCS" else Plane.HCCS
    ways = Ways(fabric, observed(fabric, [fault, networks.dead_port("n03", 5, plane)]))
    search = blame._searched(ways)
    found = sorted(found.part.kind for found in search.blames())
    assert found == sorted([*expected, PartKind.PORT])
    assert search.evaluated < len(ways.suspects()) // 20


@pytest.mark.parametrize(
    "loss", [networks.lossy_switch("leaf3", 0.4), networks.dead_host("n08"), lambda on, a, b: 0.15]
)
def test_sums_of_ends_and_looks_at_every_ping_give_the_same_gains(loss: Fault) -> None:
    fabric = a3(24)
    search = blame._Search(Ways(fabric, observed(fabric, [loss], background=0.01)), 0.001)
    wide = [key for key in search._sums if key[0] in (PartKind.PLANE, PartKind.SPINE)]
    assert wide
    for key in wide:
        search._put(key, 0.05)
    small = [key for key in search._sums if key[0] in (PartKind.PORT, PartKind.NPU, PartKind.HOST)]
    quick = [search._gain(key) for key in small]
    search._touched.update(range(2 * len(fabric.ports)))
    assert quick == [pytest.approx(search._gain(key)) for key in small]
    for key, (gain, _) in zip(small, quick, strict=True):
        assert search._gain(key, 5.0)[0] == pytest.approx(gain) or gain <= 5.0


def test_a_port_stands_in_for_its_host_behind_dead_uplinks() -> None:
    """What the uplinks lose of a port's pings is no reason to think that its host is evenly at fault."""
    fabric = a2(12)
    faults = [networks.lossy_uplinks("leaf1"), networks.dead_port("n09", 5, Plane.ROCE, 0.6)]
    ways = Ways(fabric, observed(fabric, faults, plan=plan_mesh(fabric, MeshMode.FULL)))
    search = blame._Search(ways, 0.001)
    of_name = {(key[0], ways.part(key).key): key for key in search._sums}
    host = of_name[PartKind.HOST, ("n09",)]
    search._put(of_name[PartKind.UPLINK, ("leaf1",)], 0.9999)
    search._put(host, search._gain(host)[1])
    assert search._without(host)
    assert host not in search.loss
    assert of_name[PartKind.PORT, (PortId("n09", 5),)] in search.loss


def test_what_the_search_had_no_time_to_try_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    fabric = a3(16)
    observations = observed(fabric, [networks.dead_host("n08"), networks.dead_port("n03", 5, Plane.ROCE)])
    assert all(found.tried and found.confidence > 0.99 for found in explain(fabric, observations).blames)
    monkeypatch.setattr(blame, "_MOST_LOOKS", -1)
    cut = explain(fabric, observations).blames
    assert cut and all(not found.tried and found.confidence <= 0.9 for found in cut)
    for verdict in localise(fabric, observations):
        assert any("too much loss to try" in sentence for sentence in verdict.evidence)
