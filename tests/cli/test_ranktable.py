"""ranktable and ranktable check from the outside: over SSH, from recordings, files and standard input."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ascendctl.cli import ranktable, run
from ascendctl.hccl import rank_table
from ascendctl.sim.cluster import SimCluster
from ascendctl.sim.spec import make_spec


@pytest.fixture(scope="module")
def sim() -> Iterator[SimCluster]:
    with SimCluster(make_spec(generation="a3", hosts=2)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def recording(sim: SimCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranktable") / "recording"
    arguments = ["--record", str(folder), "-q", "-f", "json", "--mesh", "off"]
    run(["verify", "-i", str(sim.inventory_path), *arguments])
    return folder


@pytest.fixture
def table(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    path = tmp_path / "ranktable.json"
    assert run(["ranktable", "--replay", str(recording), "-o", str(path)]) == 0
    capsys.readouterr()
    return path


def change(path: Path, **values: object) -> Path:
    document: dict[str, Any] = json.loads(path.read_text())
    document["server_list"][0]["device"][0].update(values)
    path.write_text(json.dumps(document))
    return path


def test_over_ssh(sim: SimCluster, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ranktable", "-i", str(sim.inventory_path), "-q"]) == 0
    captured = capsys.readouterr()
    assert captured.out == table.read_text()  # as from a recording of the same hosts
    document = json.loads(captured.out)
    assert (document["version"], document["server_count"]) == ("1.2", "2")
    assert "version 1.2: 32 ranks on 2 hosts" in captured.err


def test_a_host_that_cannot_be_asked_is_named(
    sim: SimCluster, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = yaml.safe_load(sim.inventory_path.read_text())
    document["hosts"][1]["ssh"] = {"port": 1}  # nothing listens there
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(yaml.safe_dump(document))
    out = tmp_path / "never.json"
    assert run(["ranktable", "-i", str(inventory), "-q", "-o", str(out)]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert not out.exists()
    assert "node02: no rank table: it could not be asked (refused" in captured.err
    assert run(["ranktable", "check", str(table), "-i", str(inventory), "-q"]) == 3
    assert "not compared: node02: it told nothing" in capsys.readouterr().out


def test_the_file(table: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stat.S_IMODE(table.stat().st_mode) == 0o640
    link = tmp_path / "link.json"
    link.symlink_to(table)
    before = table.read_bytes()
    assert run(["ranktable", "--replay", str(recording), "-o", str(link), "--device-ip", "none"]) == 2
    assert "symbolic link" in capsys.readouterr().err
    assert table.read_bytes() == before
    assert run(["ranktable", "check", str(link)]) == 0
    assert "[symlink]" in capsys.readouterr().out
    assert run(["ranktable", "check", str(link), "--strict"]) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--version", "1.2"], 0, "version 1.2"),
        (["--version", "1.0"], 0, "AI server"),
        (["--device-ip", "vnic"], 0, "EI0014"),
        (["--device-ip", "none"], 0, "version 1.2"),
        (["--device-ip", "none", "--inter-hccs-disable"], 2, "--device-ip roce"),
        (["--op-retry"], 0, "version 1.2"),
        (["--op-retry", "--version", "1.0"], 2, "1.2"),
        (["--op-retry", "--nic", "eth77"], 1, "no NIC eth77"),
        (["--version", "2.0"], 2, "2.0"),
    ],
)
def test_options(
    recording: Path, arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(["ranktable", "--replay", str(recording), *arguments]) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert bool(captured.out) == (code == 0)
    assert "Traceback" not in captured.err


def test_the_cluster_is_named(capsys: pytest.CaptureFixture[str], table: Path) -> None:
    assert run(["ranktable"]) == 2
    assert "--inventory" in capsys.readouterr().err
    assert run(["ranktable", "check", str(table), "--hosts", "node01"]) == 2
    assert "name it with --inventory" in capsys.readouterr().err


def test_a_table_agrees_with_its_own_cluster(
    table: Path, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ranktable", "check", str(table), "--replay", str(recording), "--strict"]) == 0
    assert "32 ranks: 0 errors, 0 warnings, 0 notes" in capsys.readouterr().out


def test_check_without_a_cluster_judges_the_fields(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ranktable", "check", str(table)]) == 0
    assert run(["ranktable", "check", str(change(table, device_id="99"))]) == 1
    out = capsys.readouterr().out
    assert f"{table}:1: error: $.server_list[0].device[0].device_id: " in out
    assert "[device-id] → EI0004" in out
    assert "expected: a whole number" in out


def test_check_against_the_cluster(table: Path, recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(table, device_ip="10.9.9.9")
    assert run(["ranktable", "check", str(table)]) == 0
    assert run(["ranktable", "check", str(table), "--replay", str(recording), "-f", "json"]) == 1
    out = capsys.readouterr().out
    (finding,) = json.loads(out[out.index("{") :])["findings"]
    assert (finding["rule"], finding["code"], finding["path"]) == (
        "device-ip",
        "EI0014",
        "$.server_list[0].device[0].device_ip",
    )
    assert run(["ranktable", "check", str(table), "--replay", str(recording), "-w", "node02"]) == 1
    assert "unknown-server" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (b'{"a": "b",}', 1, ":1: error: $: a comma before '}' [json]"),
        (b'{"a": "b" // c\n}', 1, "a comment"),
        (b"\xff\xfe{}", 2, "no UTF-8"),
        (b"", 1, "end of the text"),
        (b'{"a\x1b[2J": "b"}', 1, "string that is none"),
        (b'{"version": "\\u001b[2J\\ud800"}', 1, "\\x1b[2J"),
    ],
)
def test_files_that_are_none(
    text: bytes, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ranktable.json"
    path.write_bytes(text)
    for form in ("text", "json"):
        assert run(["ranktable", "check", str(path), "-f", form]) == code
        captured = capsys.readouterr()
        assert form == "json" or said in captured.out + captured.err
        assert "Traceback" not in captured.err
        assert "\x1b" not in captured.out
    assert run(["ranktable", "check", str(tmp_path / "absent")]) == 2


def test_standard_input(table: Path) -> None:
    command = [sys.executable, "-m", "ascendctl", "ranktable", "check", "-"]
    done = subprocess.run(command, input=table.read_bytes(), capture_output=True, check=False)
    assert (done.returncode, b"standard input: 32 ranks" in done.stdout) == (0, True)


def test_many_findings_are_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [ranktable_finding(number) for number in range(500)]
    ranktable._print_findings(findings, [str(number) for number in range(500)], "a file", 500)
    out = capsys.readouterr().out
    assert len(out.splitlines()) < 200
    assert "and 450 more" in out


def ranktable_finding(number: int) -> Any:
    from ascendctl.hccl.finding import Severity
    from ascendctl.hccl.rank_table_check import TableFinding

    return TableFinding("rank-id", Severity.ERROR, number, "$", "another", "this")


def test_the_choices_are_those_of_the_table() -> None:
    assert [one.value for one in ranktable.DeviceIp] == [one.value for one in rank_table.DeviceIp]
    assert [one.value for one in ranktable.Version][1:] == [one.value for one in rank_table.Version]


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from ascendctl.cli import run\n"
        "run(['ranktable', '--help'])\n"
        "print('LOADED', sorted({'paramiko', 'yaml', 'ClusterShell', 'ascendctl.hccl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
