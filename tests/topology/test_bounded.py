"""Attribution looks at few pings, whatever is lost: work is counted, not timed."""

from __future__ import annotations

import pytest

from ascendctl.topology import blame
from ascendctl.topology.blame import explain
from ascendctl.topology.fabric import Plane
from ascendctl.topology.localise import localise
from ascendctl.topology.parts import PartKind, Ways
from tests.topology import networks
from tests.topology.networks import Fault, a3, observed

HOSTS = 64
LARGE: dict[str, tuple[Fault, list[PartKind]]] = {
    "all of RoCE": (lambda on, a, b: float(on is Plane.ROCE), [PartKind.PLANE]),
    "all of HCCS": (lambda on, a, b: float(on is Plane.HCCS), [PartKind.PLANE, PartKind.PLANE]),
    "spine": (lambda on, a, b: float(on is Plane.ROCE and a.switch != b.switch), [PartKind.SPINE]),
    "host": (networks.dead_host("n08"), [PartKind.HOST]),
    "20 % of a switch": (networks.lossy_switch("leaf3", 0.2), [PartKind.SWITCH]),
}


@pytest.mark.parametrize("case", LARGE)
def test_a_large_fault_is_one_part_found_with_few_looks(case: str) -> None:
    fabric = a3(HOSTS)
    fault, expected = LARGE[case]
    ways = Ways(fabric, observed(fabric, [fault]))
    search = blame._searched(ways)
    assert sorted(found.part.kind for found in search.blames()) == sorted(expected)
    assert search.evaluated < len(ways.sent)
    assert search.looks < 60 * len(ways.sent)


def test_what_the_search_had_no_time_to_try_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    fabric = a3(16)
    observations = observed(fabric, [networks.dead_host("n08"), networks.dead_port("n03", 5, Plane.ROCE)])
    assert all(found.tried and found.confidence > 0.99 for found in explain(fabric, observations).blames)
    monkeypatch.setattr(blame, "_MOST_LOOKS", -1)
    cut = explain(fabric, observations).blames
    assert cut and all(not found.tried and found.confidence <= 0.9 for found in cut)
    for verdict in localise(fabric, observations):
        assert any("too much loss to try" in sentence for sentence in verdict.evidence)
