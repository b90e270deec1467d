"""What differs between hosts, through the simulator's SSH: the finding on the right cell, nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ascendctl.checks.across.cabling import Cabling
from ascendctl.checks.across.peers import AcrossCheck
from ascendctl.checks.registry import CLUSTER_CHECKS
from ascendctl.sim.cluster import SimCluster
from ascendctl.sim.spec import make_spec
from tests.fault_recordings import verify_to

ACROSS = {check.id for check in CLUSTER_CHECKS if isinstance(check, AcrossCheck | Cabling)}
Cell = tuple[str, str, int | None]  # check, host, physical id


def verified(folder: Path, **spec: Any) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and cells of a deep run over a simulated cluster, without pings between its hosts."""
    report = folder / "report.json"
    with SimCluster(make_spec(seed=7, **spec)) as sim:
        asked = ("--inventory", str(sim.inventory_path), "--profile", "deep", "--mesh", "off")
        code = verify_to(report, *asked)
    cells: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["results"]
    return code, cells


def standing_out(cells: list[dict[str, Any]]) -> dict[Cell, str]:
    return {
        (cell["check"], cell["subject"]["host"], cell["subject"]["device"]): cell["status"]
        for cell in cells
        if cell["status"] not in ("pass", "not-applicable", "skipped")
    }


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"generation": "a2", "hosts": 3}, id="a2"),
        pytest.param({"generation": "a3", "hosts": 3, "roce": "none"}, id="a3-hccs"),
        pytest.param({"generation": "a3", "hosts": 4, "hosts_per_super_pod": 2}, id="a3-two-pods"),
    ],
)
def test_a_clean_cluster_has_no_finding(spec: dict[str, Any], tmp_path: Path) -> None:
    code, cells = verified(tmp_path, **spec)
    assert (standing_out(cells), code) == ({}, 0)
    for name in {cell["subject"]["host"] for cell in cells}:
        assert {cell["check"] for cell in cells if cell["subject"]["host"] == name} >= ACROSS


FAULTS_A2 = [
    {"host": "node01", "kind": "npu-model", "device": 2},
    {"host": "node01", "kind": "clock-skew", "value": "-400"},
    {"host": "node02", "kind": "tls-switch", "device": 3},
    {"host": "node03", "kind": "ip-duplicate", "device": 3, "value": "node04:5"},
    {"host": "node04", "kind": "driver-version"},
]
FAULTS_A3 = [
    {"host": "node01", "kind": "other-super-pod"},
    {"host": "node02", "kind": "tls-switch"},
    {"host": "node03", "kind": "sdid-duplicate", "device": 8, "value": "node04:8"},
    {"host": "node04", "kind": "cann-version"},
]


def test_what_differs_between_a2_hosts(tmp_path: Path) -> None:
    code, cells = verified(tmp_path, generation="a2", hosts=4, hosts_per_segment=4, faults=FAULTS_A2)
    assert standing_out(cells) == {
        ("npu-model", "node01", 2): "fail",
        ("clock", "node01", None): "fail",
        ("tls-switch", "node02", 3): "fail",
        ("duplicate-address", "node03", 3): "fail",
        ("duplicate-address", "node04", 5): "fail",
        ("versions-equal", "node04", None): "fail",
    }
    assert code == 1


def test_what_differs_between_a3_hosts(tmp_path: Path) -> None:
    code, cells = verified(tmp_path, generation="a3", hosts=4, roce="none", faults=FAULTS_A3)
    assert standing_out(cells) == {
        ("super-pods", "node01", None): "fail",
        ("tls-switch", "node02", None): "fail",
        ("spod-info", "node03", 8): "fail",
        ("versions-equal", "node04", None): "fail",
    }
    # The die whose SDID was taken is explained by the one that took it.
    taken = [cell for cell in cells if cell["status"] == "skipped" and cell["check"] in ACROSS]
    causes = {(cell["caused_by"]["check"], cell["caused_by"]["subject"]["host"]) for cell in taken}
    assert ("super-pods", "node04", 8) in {
        (cell["check"], cell["subject"]["host"], cell["subject"]["device"]) for cell in taken
    }
    assert causes == {("spod-info", "node03")}
    assert code == 1
