"""Every kind of fault, one host each, through the simulator's SSH: the finding on the right cell.

One verify run per generation over a cluster in which every host but the last has one fault. For each
host the table names the cells that must stand out; all others must pass or not apply, or be explained
by one of the named ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ascendctl.checks.registry import CLUSTER_CHECKS
from tests.fault_recordings import excerpt, fault_recording, verify_to

Cell = tuple[str, int | None]  # check id and physical id; None = the host


@dataclass(frozen=True)
class Row:
    """A fault, the cells that must show it, and checks of which every cell is explained by them."""

    fault: dict[str, Any]
    shows: dict[Cell, str]
    hides: frozenset[str] = frozenset()
    only: str = ""  # a generation

    @property
    def name(self) -> str:
        return "-".join(str(value) for value in self.fault.values())


HCCN = frozenset({"link", "net-health", "lldp", "netdetect", "gateway", "address", "vnic", "tls"})
PER_DEVICE = HCCN | {"npu-health", "hccs-links", "spod-info"}


def row(shows: dict[Cell, str], hides: frozenset[str] = frozenset(), only: str = "", **fault: Any) -> Row:
    return Row(fault, shows, hides, only)


ROWS = [
    row({("link", 3): "fail"}, kind="link-down", device=3),
    row({("net-health", 2): "fail"}, kind="net-health", device=2),
    row({("net-health", 2): "warn"}, kind="net-health", device=2, value="Init"),
    row({("net-health", 2): "unknown"}, kind="net-health", device=2, value="Thread error"),
    row({("net-health", 2): "unknown"}, kind="net-health", device=2, value="Detect ip set"),
    row({("lldp", 1): "warn"}, kind="no-lldp", device=1),
    row({("tls", 4): "unknown"}, kind="tls-unreadable", device=4),
    row({("address", 5): "fail"}, kind="ip-missing", device=5),
    row({("address", n): "fail" for n in range(16)}, only="a3", kind="ip-missing", value="live"),
    row({("address", 5): "fail"}, kind="wrong-netmask", device=5),
    row({("gateway", 6): "fail"}, kind="gateway-outside", device=6),
    row({("hccn-conf", 7): "fail"}, kind="hccn-conf-stale", device=7),
    row({("hccn-conf", None): "fail"}, frozenset({"hccn-conf"}), kind="hccn-conf-missing"),
    row({("npu-count", None): "fail"}, kind="npu-missing", device=2),
    row({("npu-health", 3): "fail"}, kind="npu-health", device=3),
    row({("npu-health", 3): "warn"}, kind="npu-health", device=3, value="Warning"),
    row({("npu-health", 3): "unknown"}, kind="npu-health", device=3, value="UNKNOWN"),
    row({("hccs-links", 0): "fail"}, kind="hccs-lanes", device=0),
    row({("spod-info", 9): "fail"}, only="a3", kind="spod-invalid", device=9),
    row({("reachable", None): "unknown"}, PER_DEVICE, kind="ssh-refused"),
    row({("reachable", None): "unknown"}, PER_DEVICE, kind="ssh-auth"),
    row({("reachable", None): "unknown"}, PER_DEVICE, kind="ssh-hang"),
    row({("link", 6): "unknown"}, kind="command-hang", device=6, value="ignores-term"),
    row({("link", 6): "unknown"}, kind="command-hang", device=6, value="grandchild"),
    row({("link", 6): "unknown"}, kind="command-hang", device=6, value="unkillable"),
    row(
        {("npu-mapping", None): "unknown"},
        PER_DEVICE,
        kind="command-hang",
        value="ignores-term",
        command="npu-smi info -m",
    ),
    row({("link", 1): "unknown"}, kind="garbage-output", device=1),
    row({("npu-mapping", None): "unknown"}, PER_DEVICE, kind="garbage-output", command="npu-smi info -m"),
    row({("npu-mapping", None): "unknown"}, PER_DEVICE, kind="truncated-output", command="npu-smi info -m"),
    row({("address", 1): "unknown"}, kind="truncated-output", device=1, command="hccn_tool -ip"),
    row({("tools", None): "fail"}, HCCN, kind="no-tool", value="hccn_tool"),
    row({("tools", None): "fail"}, PER_DEVICE, kind="no-tool", value="npu-smi"),
    row({("tools", None): "unknown"}, PER_DEVICE, kind="no-permission"),
    row({}, kind="busy", value="2"),
    row({("link", 3): "unknown"}, kind="busy", device=3, value="permanent"),
]


@dataclass
class Verified:
    report: dict[str, Any]
    exit_code: int
    rows: dict[str, Row]
    recording: Path
    by_host: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


@pytest.fixture(scope="module", params=["a2", "a3"])
def verified(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Verified:
    rows = [r for r in ROWS if r.only in ("", request.param)]
    recorded = fault_recording(request.param, [r.fault for r in rows], tmp_path_factory)
    by_name = dict(zip(recorded.spec.host_names, rows, strict=False))
    document = json.loads(recorded.report.read_text(encoding="utf-8"))
    verified = Verified(document, recorded.exit_code, by_name, recorded.recording)
    for result in document["results"]:
        verified.by_host.setdefault(result["subject"]["host"], []).append(result)
    return verified


def host_of(verified: Verified, wanted: Row) -> str:
    """The host that has the row's fault; a row of the other generation is skipped."""
    host = next((name for name, r in verified.rows.items() if r is wanted), None)
    if host is None:
        assert wanted.only, "a row that no host has"
        pytest.skip(f"a row of {wanted.only}")
    return host


@pytest.mark.parametrize("number", range(len(ROWS)), ids=lambda n: ROWS[n].name)
def test_the_finding_is_on_its_cell_and_nowhere_else(verified: Verified, number: int) -> None:
    wanted = ROWS[number]
    host = host_of(verified, wanted)
    cells = verified.by_host[host]
    standing_out = {
        (c["check"], c["subject"]["device"]): c["status"]
        for c in cells
        if c["status"] not in ("pass", "not-applicable", "skipped")
    }
    assert standing_out == wanted.shows, explain(cells)
    for cell in cells:
        if cell["status"] == "skipped":
            cause = cell["caused_by"]
            assert (cause["check"], cause["subject"]["device"]) in wanted.shows
            assert cause["subject"]["host"] == host
        if cell["check"] in wanted.hides and (cell["check"], cell["subject"]["device"]) not in wanted.shows:
            assert cell["status"] in ("skipped", "not-applicable"), cell
        if cell["status"] in ("fail", "warn", "unknown"):
            for part in ("message", "remedy"):
                assert cell[part], (part, cell)
        if cell["status"] in ("fail", "warn"):
            for part in ("expected", "actual", "consequence", "command", "evidence"):
                assert cell[part], (part, cell)


@pytest.mark.parametrize("number", range(len(ROWS)), ids=lambda n: ROWS[n].name)
def test_replaying_that_host_alone_gives_the_same_cells_and_its_exit_code(
    verified: Verified, number: int, tmp_path: Path
) -> None:
    wanted = ROWS[number]
    host = host_of(verified, wanted)
    report = tmp_path / "report.json"
    # With two hosts beside it, of which nothing may come in; all others would be read in vain.
    others = [name for name in (*verified.rows, healthy_host(verified)) if name != host]
    recording = excerpt(verified.recording, [others[0], host, others[-1]], tmp_path / "recording")
    code = verify_to(report, "--replay", str(recording), "--hosts", host)
    replayed = json.loads(report.read_text(encoding="utf-8"))["results"]
    between = {check.id for check in CLUSTER_CHECKS}  # a host alone has nothing to be compared with
    assert {c["status"] for c in replayed if c["check"] in between} == {"not-applicable"}
    assert [c for c in replayed if c["check"] not in between] == [
        c for c in verified.by_host[host] if c["check"] not in between
    ]
    statuses = set(wanted.shows.values())
    assert code == (1 if "fail" in statuses else 3 if "unknown" in statuses else 0)
    if statuses == {"warn"}:
        assert verify_to(report, "--replay", str(recording), "--hosts", host, "--strict") == 1
    if code == 3:
        enough = ("--min-coverage", "0")
        assert verify_to(report, "--replay", str(recording), "--hosts", host, *enough) == 0


def test_replaying_all_of_them_gives_the_same_report(verified: Verified, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert verify_to(report, "--replay", str(verified.recording)) == verified.exit_code
    assert json.loads(report.read_text(encoding="utf-8"))["results"] == verified.report["results"]


def healthy_host(verified: Verified) -> str:
    return sorted(verified.by_host)[-1]


def explain(cells: list[dict[str, Any]]) -> str:
    return "\n".join(
        f"{c['check']} {c['subject']['device']} {c['status']}: {c['message']}"
        for c in cells
        if c["status"] not in ("pass", "not-applicable", "skipped")
    )


def test_a_healthy_host_among_broken_ones_passes_everywhere(verified: Verified) -> None:
    healthy = healthy_host(verified)
    assert healthy not in verified.rows
    statuses = {c["status"] for c in verified.by_host[healthy]}
    assert statuses <= {"pass", "not-applicable"}
    devices = {c["subject"]["device"] for c in verified.by_host[healthy] if c["check"] == "link"}
    assert len(devices) in (8, 16)


def test_every_host_and_check_is_there_and_the_run_is_red(verified: Verified) -> None:
    checks = {check for cells in verified.by_host.values() for check in [c["check"] for c in cells]}
    for host in [*verified.rows, healthy_host(verified)]:
        assert {c["check"] for c in verified.by_host[host]} == checks
    assert verified.exit_code == 1
    assert verified.report["coverage"]["evaluated"] < verified.report["coverage"]["wanted"]
