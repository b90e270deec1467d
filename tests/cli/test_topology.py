"""topology from the outside: over SSH and from recordings, in every format."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from ascendctl.cli import run
from ascendctl.sim.cluster import SimCluster
from ascendctl.sim.spec import make_spec, parse_fault

FAULTS = [parse_fault("link-down@node02:5"), parse_fault("ssh-refused@node03")]


@pytest.fixture(scope="module")
def sim() -> Iterator[SimCluster]:
    with SimCluster(make_spec(generation="a2", hosts=3, faults=FAULTS)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def recorded(sim: SimCluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recording, and the JSON report of the same run."""
    folder = tmp_path_factory.mktemp("topology")
    arguments = ["--record", str(folder / "recording"), "-o", str(folder), "--formats", "json"]
    arguments += ["--mesh", "off"]
    assert run(["verify", "-i", str(sim.inventory_path), "-q", *arguments]) == 1
    return folder / "recording", folder / "report.json"


def test_over_ssh(sim: SimCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["topology", "-i", str(sim.inventory_path), "-q"]) == 3  # node03 told nothing
    out = capsys.readouterr().out
    assert "3 hosts, 16 devices" in out
    assert "device 5: link" in out
    assert "node03: told nothing of devices" in out


def test_from_a_recording(recorded: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["topology", "--replay", str(recorded[0]), "-w", "node[01-02]"]) == 0
    out = capsys.readouterr().out
    assert "2 hosts, 16 devices" in out
    assert "node03" not in out


def test_json(recorded: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["topology", "--replay", str(recorded[0]), "-f", "json"]) == 3
    hosts = {host["name"]: host for host in json.loads(capsys.readouterr().out)["hosts"]}
    assert hosts["node02"]["devices"][5]["status"] == "fail"
    assert hosts["node02"]["devices"][5]["scale_out"]["link_up"] is False
    assert (hosts["node03"]["told"], hosts["node03"]["status"]) == (False, "not looked at")


def test_a_picture_into_a_file(
    recorded: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "topology.svg"
    assert run(["topology", "--replay", str(recorded[0]), "-f", "svg", "-o", str(picture)]) == 3
    ET.parse(picture)
    absent = tmp_path / "absent" / "topology.svg"
    assert run(["topology", "--replay", str(recorded[0]), "-f", "svg", "-o", str(absent)]) == 2
    assert "name a file that you may write" in capsys.readouterr().err


def test_what_an_earlier_report_found(
    recorded: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording, report = recorded
    text = report.read_text().replace('"status":"fail"', '"status":"pass"')
    calm = tmp_path / "calm.json"
    calm.write_text(text)
    capsys.readouterr()
    for path, there in ((report, True), (calm, False)):
        run(["topology", "--replay", str(recording), "--report", str(path)])
        assert ("device 5: link" in capsys.readouterr().out) is there
    assert run(["topology", "--replay", str(recording), "--report", str(tmp_path / "absent.json")]) == 2


def test_the_cluster_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["topology"]) == 2
    assert "--inventory" in capsys.readouterr().err


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from ascendctl.cli import run\n"
        "run(['topology', '--help'])\n"
        "print('LOADED', sorted({'paramiko', 'yaml', 'ClusterShell', 'rich.tree'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
