"""``ascendctl sim``: up until it is asked to stop, render, faults, schema, and refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
import pytest
import typer
import yaml
from typer.testing import CliRunner

from ascendctl.cli import sim as module
from ascendctl.cli.exits import Refused
from ascendctl.sim.kinds import KINDS

PATIENCE_S = 60
PROGRAM = "import sys; from ascendctl.cli import main; main()"


def call(*arguments: str) -> str:
    """Run in this process; gives standard output. Lets Refused through."""
    app = typer.Typer()
    app.callback()(lambda: None)
    module.register(app)
    result = CliRunner().invoke(app, ["sim", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@contextmanager
def up(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "sim", "up", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.communicate()


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_up_serves_until_asked_to_stop(tmp_path: Path, asked: signal.Signals) -> None:
    inventory = tmp_path / "cluster.yaml"
    options = ["--hosts", "2", "--fault", "link-down@node02:5", "--write-inventory", str(inventory)]
    with up(*options) as child:
        assert child.stderr is not None and child.stdout is not None
        said = [child.stderr.readline()]
        while "Ctrl-C" not in said[-1]:
            said.append(child.stderr.readline())
            assert said[-1], said
        assert said[0].startswith("2 simulated A2 servers are up: node01 (127.0.1.1:")
        assert "  seeded: link-down on node02 device 5\n" in said
        assert f"try: ascendctl verify --inventory {inventory}\n" in said
        data = yaml.safe_load(inventory.read_text())
        ssh = data["defaults"]["ssh"]
        connection = paramiko.SSHClient()
        connection.load_host_keys(ssh["known_hosts"])
        connection.connect("127.0.1.2", ssh["port"], ssh["user"], key_filename=ssh["identity"])
        _, stdout, _ = connection.exec_command("hccn_tool -i 5 -link -g")
        assert stdout.read() == b"link status: DOWN\n"
        connection.exec_command("setsid sleep 100")
        os.kill(child.pid, asked)
        assert child.wait(PATIENCE_S) == 0
        connection.close()
        assert child.stdout.read() == ""
        assert child.stderr.read() == "stopping\n"
        assert not Path(ssh["identity"]).parent.exists()


def test_up_takes_a_spec_and_faults_on_top(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("generation: a3\nhosts: 3\nfaults:\n  - {host: node01, kind: ssh-hang}\n")
    made = module._spec(spec, "a2", 8, ["no-lldp@node03:15"], 0.25)
    assert (made.generation, made.hosts, made.latency) == ("a3", 3, 0.25)
    assert [fault.kind for fault in made.faults] == ["ssh-hang", "no-lldp"]


REFUSALS = [
    (["up", "--fault", "link-donw@node01", "--write-inventory", "x"], "did you mean 'link-down'"),
    (["up", "--fault", "link-down", "--write-inventory", "x"], "expected KIND@HOST"),
    (["up", "--generation", "a5", "--write-inventory", "x"], "generation"),
    (["up", "--spec", "absent.yaml", "--write-inventory", "x"], "cannot read the spec"),
    (["up", "--write-inventory", "absent/folder/x.yaml"], "cannot start the simulated cluster"),
    (["render", "--spec", "absent.yaml", "there"], "cannot read the spec"),
]


@pytest.mark.parametrize(("arguments", "problem"), REFUSALS, ids=[problem for _, problem in REFUSALS])
def test_refusals(
    arguments: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match=problem):
        call(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_render_and_its_refusal_of_a_folder_in_use(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("generation: a2\nhosts: 2\n")
    folder = tmp_path / "out"
    lines = call("render", "--spec", str(spec), str(folder)).splitlines()
    assert [line.split()[0] for line in lines] == ["node01", "node02"]
    assert all((Path(line.split()[1]) / "hccn_tool").exists() for line in lines)
    with pytest.raises(Refused, match="not empty"):
        call("render", "--spec", str(spec), str(folder))


def test_faults_lists_every_kind_on_one_line() -> None:
    lines = call("faults").splitlines()
    assert [line.split()[0] for line in lines] == [kind.name for kind in KINDS]
    assert "VALUE: one of ignores-term, grandchild, unkillable (else ignores-term)" in "\n".join(lines)


def test_schema_is_json() -> None:
    assert set(json.loads(call("schema"))["required"]) == {"generation", "hosts"}
