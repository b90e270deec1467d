"""Faults that show only between hosts, one cluster each, through the simulator's SSH: one verdict, the right
one, and all that follows from it folded under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from ascendctl.cli.verify import ask_and_judge
from ascendctl.inventory import load
from ascendctl.results import ComponentKind, Run, Status
from ascendctl.second_phase import MeshSettings
from ascendctl.sim.cluster import SimCluster
from ascendctl.sim.spec import make_spec
from ascendctl.verify import Settings

STANDS_OUT = (Status.FAIL, Status.WARN, Status.UNKNOWN, Status.ERROR)


@dataclass(frozen=True)
class Case:
    """A cluster with one fault; the part that the one verdict names; the checks whose cells stand out."""

    name: str
    spec: dict[str, Any]
    kind: ComponentKind
    part: dict[str, Any]
    shows: dict[str, Status]
    packets: int = 3


def case(
    name: str,
    kind: ComponentKind,
    part: dict[str, Any],
    shows: dict[str, Status],
    fault: dict[str, Any],
    packets: int = 3,
    **spec: Any,
) -> Case:
    return Case(name, {"hosts": 4, "seed": 3, "faults": [fault], **spec}, kind, part, shows, packets)


CASES = [
    case(
        "a leaf switch down",
        ComponentKind.SWITCH,
        {"switch": "leaf-02"},
        {"mesh": Status.FAIL},
        {"host": "node03", "device": 1, "kind": "leaf-switch-down"},
        generation="a2",
        hosts_per_leaf=2,
    ),
    case(
        "a cable swap",
        ComponentKind.LINK,
        {"host": "node02", "device": 1, "value": "cable swap"},
        {"mesh": Status.FAIL},
        {"host": "node02", "device": 1, "kind": "cable-swap", "value": "node03:4"},
        generation="a2",
        hosts_per_leaf=2,
    ),
    case(
        "a TLS island",
        ComponentKind.TLS_GROUP,
        {"host": "node02", "value": "TLS switch 1"},
        {"tls-switch": Status.FAIL},
        {"host": "node02", "kind": "tls-switch"},
        generation="a2",
    ),
    case(
        "a duplicated address",
        ComponentKind.ADDRESS,
        {"value": "10.20.1.31"},
        {"duplicate-address": Status.FAIL},
        {"host": "node02", "device": 1, "kind": "ip-duplicate", "value": "node03:4"},
        generation="a2",
        hosts_per_segment=4,
    ),
    case(
        "a host in another super pod",
        ComponentKind.SUPER_POD,
        {"host": "node02", "value": "99"},
        {"super-pods": Status.FAIL},
        {"host": "node02", "kind": "other-super-pod"},
        generation="a3",
        roce="none",
    ),
    case(
        "a port that loses 30 %",
        ComponentKind.DEVICE,
        {"host": "node02", "device": 5, "value": "roce"},
        {"mesh": Status.FAIL},
        {"host": "node02", "device": 5, "kind": "port-loss", "value": "30"},
        packets=9,
        generation="a2",
    ),
]


@pytest.mark.parametrize("wanted", CASES, ids=lambda wanted: wanted.name)
def test_one_fault_gives_the_one_right_verdict(wanted: Case) -> None:
    run = verified(wanted.spec, wanted.packets)
    assert len(run.verdicts) == 1, run.verdicts
    component = run.verdicts[0].component
    assert component.kind is wanted.kind
    assert {name: getattr(component, name) for name in wanted.part} == wanted.part
    odd = [cell for cell in run.results if cell.status in STANDS_OUT]
    assert {cell.check: cell.status for cell in odd} == wanted.shows, odd
    for cell in run.results:
        if cell.status is Status.SKIPPED:
            assert cell.caused_by is not None and cell.caused_by.check in wanted.shows, cell
            assert cell.root_fails


def verified(spec: dict[str, Any], packets: int = 3) -> Run:
    with SimCluster(make_spec(**spec)) as sim:
        inventory = load(sim.inventory_path)
        settings = Settings(mesh=MeshSettings(packets=packets))
        return ask_and_judge(inventory.hosts, inventory.waivers, settings, quiet=True)
