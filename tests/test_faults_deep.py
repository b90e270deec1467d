"""Every kind of fault that only the deep profile judges, through the simulator's SSH.

One deep verify run per generation over a few hosts: two with faults on different devices, one that never
answers, and two healthy ones, with RoCE and without. The table names the cells that must stand out; all
others must pass or not apply, or be explained by one of the named ones.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from ascendctl.cli import run
from ascendctl.sim.cluster import SimCluster
from ascendctl.sim.kinds import DEEP_KINDS
from ascendctl.sim.spec import make_spec

PORTS, OTHERS, GONE, HEALTHY, WITHOUT_ROCE = (f"node{number:02d}" for number in range(1, 6))
LINK_DOWN_DEVICE = 6
MTU_DEVICE = 6
HUGE_PAGES_WANTED = 1000  # judged only where a site wants some
OF_PORTS = {"optical", "link-flaps", "port-errors", "speed", "mtu", "fec"}
OF_DEVICES = OF_PORTS | {"ecc", "hccs-errors", "npu-processes", "hbm-use"}
OF_HOSTS = {"open-files", "huge-pages", "time-service"}


@dataclass(frozen=True)
class Row:
    """A fault and the one cell that must show it; ``device`` None = the host. ``actual`` is part of it."""

    host: str
    kind: str
    device: int | None
    check: str
    status: str
    actual: str
    value: str | None = None

    @property
    def fault(self) -> dict[str, Any]:
        return {"host": self.host, "kind": self.kind, "device": self.device, "value": self.value}

    @property
    def name(self) -> str:
        return self.kind if self.value is None else f"{self.kind}-{self.value}"


ROWS = [
    Row(PORTS, "optical-absent", 0, "optical", "fail", "none"),
    Row(PORTS, "optical-rx-low", 1, "optical", "fail", "received light 0.05 mW on lane 1"),
    Row(PORTS, "link-flaps", 2, "link-flaps", "warn", "12 times"),
    Row(PORTS, "port-errors", 3, "port-errors", "warn", "mac_rx_fcs_err_pkt_num 5000"),
    Row(PORTS, "half-speed", 4, "speed", "fail", "100000 Mb/s"),
    Row(PORTS, "half-duplex", 5, "speed", "fail", "Half"),
    Row(PORTS, "mtu", MTU_DEVICE, "mtu", "fail", "1500 bytes"),
    Row(PORTS, "fec", 7, "fec", "warn", "no"),
    Row(OTHERS, "ecc-errors", 0, "ecc", "fail", "HBM Double Bit Error Count 2"),
    Row(OTHERS, "hccs-errors", 1, "hccs-errors", "fail", "link 0: 4000"),
    Row(OTHERS, "npu-process", 2, "npu-processes", "warn", "python3"),
    Row(OTHERS, "hbm-in-use", 3, "hbm-use", "warn", "%"),
    Row(OTHERS, "optical-absent", 4, "optical", "fail", "none", "table"),
    Row(OTHERS, "optical-rx-low", 5, "optical", "fail", "received light 0 mW on lane 1", "0"),
    Row(OTHERS, "link-down", LINK_DOWN_DEVICE, "link", "fail", "DOWN"),
    Row(OTHERS, "open-files", None, "open-files", "warn", "1024"),
    Row(OTHERS, "no-huge-pages", None, "huge-pages", "fail", "0 huge pages"),
    Row(OTHERS, "time-unsynchronized", None, "time-service", "warn", "not in step"),
]


@dataclass
class Verified:
    report: dict[str, Any]
    exit_code: int
    devices: range
    cells: dict[str, dict[tuple[str, int | None], dict[str, Any]]] = field(default_factory=dict)

    def standing_out(self, host: str) -> dict[tuple[str, int | None], str]:
        """The cells that neither pass, nor do not apply, nor are explained by another."""
        calm = ("pass", "not-applicable", "skipped")
        return {key: c["status"] for key, c in self.cells[host].items() if c["status"] not in calm}


@pytest.fixture(scope="module", params=["a2", "a3"])
def verified(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verified]:
    faults = [*(row.fault for row in ROWS), {"host": GONE, "kind": "ssh-refused"}]
    folder = tmp_path_factory.mktemp("run")
    with SimCluster(make_spec(generation=request.param, hosts=5, seed=7, faults=faults)) as sim:
        inventory = folder / "inventory.yaml"
        inventory.write_text(_with_expectations(sim.inventory_path.read_text()))
        report = folder / "report.json"
        arguments = ["--profile", "deep", "--format", "json", "--quiet", "--inventory", str(inventory)]
        arguments += ["--mesh", "off"]
        with report.open("w", encoding="utf-8") as stream, contextlib.redirect_stdout(stream):
            code = run(["verify", *arguments])
    devices = range({"a2": 8, "a3": 16}[request.param])
    verified = Verified(json.loads(report.read_text(encoding="utf-8")), code, devices)
    for cell in verified.report["results"]:
        subject = cell["subject"]
        verified.cells.setdefault(subject["host"], {})[cell["check"], subject["device"]] = cell
    yield verified


def _with_expectations(text: str) -> str:
    """The simulator's inventory, with huge pages wanted and one host that does not use RoCE."""
    document = yaml.safe_load(text)
    document["defaults"].setdefault("thresholds", {})["huge-pages-min"] = HUGE_PAGES_WANTED
    for host in document["hosts"]:
        if host["name"] == WITHOUT_ROCE:
            host["scale_out"] = "none"
    return yaml.safe_dump(document)


def test_every_kind_of_fault_has_its_row() -> None:
    assert {row.kind for row in ROWS} == {kind.name for kind in DEEP_KINDS} | {"link-down"}
    for kind in DEEP_KINDS:
        assert {row.check for row in ROWS if row.kind == kind.name} == {kind.check}


@pytest.mark.parametrize("number", range(len(ROWS)), ids=lambda n: ROWS[n].name)
def test_the_finding_is_on_its_cell(verified: Verified, number: int) -> None:
    row = ROWS[number]
    cell = verified.cells[row.host][row.check, row.device]
    assert cell["status"] == row.status, cell
    assert row.actual in cell["actual"], cell
    for part in ("message", "remedy", "expected", "consequence", "evidence"):
        assert cell[part], (part, cell)


@pytest.mark.parametrize("host", [PORTS, OTHERS])
def test_nothing_else_stands_out(verified: Verified, host: str) -> None:
    named = {(row.check, row.device): row.status for row in ROWS if row.host == host}
    assert verified.standing_out(host) == named
    for (check, device), cell in verified.cells[host].items():
        if cell["status"] == "skipped":
            cause = cell["caused_by"]
            explains = ("mtu", MTU_DEVICE) if check == "mtu-equal" else ("link", LINK_DOWN_DEVICE)
            assert (cause["check"], device) == explains, cell
            assert (cause["subject"]["host"], cause["subject"]["device"]) == (host, device), cell


def test_a_link_that_is_down_explains_the_speed_it_hides(verified: Verified) -> None:
    """What can be read with the link down is judged all the same."""
    cells = {check: verified.cells[OTHERS][check, LINK_DOWN_DEVICE]["status"] for check in OF_DEVICES}
    assert cells == {**dict.fromkeys(OF_DEVICES, "pass"), "speed": "skipped"}


def test_a_healthy_host_passes_every_deep_cell(verified: Verified) -> None:
    assert verified.standing_out(HEALTHY) == {}
    cells = verified.cells[HEALTHY]
    assert {cells[check, device]["status"] for check in OF_DEVICES for device in verified.devices} == {"pass"}
    assert {cells[check, None]["status"] for check in OF_HOSTS} == {"pass"}
    assert all(cell["status"] in ("pass", "not-applicable") for cell in cells.values())


def test_a_healthy_host_without_roce_has_no_port_to_judge(verified: Verified) -> None:
    assert verified.standing_out(WITHOUT_ROCE) == {}
    cells = verified.cells[WITHOUT_ROCE]
    for device in verified.devices:
        for check in OF_DEVICES:
            wanted = "not-applicable" if check in OF_PORTS else "pass"
            assert cells[check, device]["status"] == wanted, cells[check, device]


def test_a_host_that_never_answered_has_the_deep_cells_too(verified: Verified) -> None:
    cells = verified.cells[GONE]
    assert verified.standing_out(GONE) == {("reachable", None): "unknown"}
    for check in OF_DEVICES | OF_HOSTS:
        of_check = [cell for (name, _), cell in cells.items() if name == check]
        assert of_check, check
        for cell in of_check:
            assert cell["status"] == "skipped" and cell["caused_by"]["check"] == "reachable"


def test_the_run_is_red(verified: Verified) -> None:
    assert verified.exit_code == 1
