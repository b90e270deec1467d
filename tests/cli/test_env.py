"""env and env lint from the outside: over SSH, from recordings, from files and standard input."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ascendctl.cli import run
from ascendctl.cli.env import Role
from ascendctl.hccl import environment
from ascendctl.sim.cluster import SimCluster
from ascendctl.sim.spec import make_spec


@pytest.fixture(scope="module")
def sim() -> Iterator[SimCluster]:
    with SimCluster(make_spec(generation="a2", hosts=2)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def recording(sim: SimCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("env") / "recording"
    assert run(["verify", "-i", str(sim.inventory_path), "--record", str(folder), "-q", "-f", "json"]) == 0
    return folder


def changed(sim: SimCluster, folder: Path, name: str, **values: object) -> Path:
    """The simulator's inventory with other settings for one host."""
    document = yaml.safe_load(sim.inventory_path.read_text())
    for host in document["hosts"]:
        if host["name"] == name:
            host.update(values)
    path = folder / "inventory.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def report(out: str) -> dict[str, dict[str, object]]:
    return {host["host"]: host for host in json.loads(out)["hosts"]}


def test_over_ssh(sim: SimCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["env", "-i", str(sim.inventory_path), "--role", "decode", "-f", "json", "-q"]) == 0
    hosts = report(capsys.readouterr().out)
    assert list(hosts) == ["node01", "node02"]
    addresses = {str(host["environment"]["HCCL_IF_IP"]) for host in hosts.values()}  # type: ignore[index]
    assert len(addresses) == 2
    assert not any(address.startswith("127.") for address in addresses)


def test_a_host_that_cannot_be_asked_costs_only_itself(
    sim: SimCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inventory = changed(sim, tmp_path, "node02", ssh={"port": 1})  # nothing listens there
    out = tmp_path / "env"
    assert run(["env", "-i", str(inventory), "-o", str(out), "-q"]) == 3
    assert [path.name for path in out.iterdir()] == ["node01.sh"]
    said = capsys.readouterr().err
    assert "node02: no environment, it could not be asked: refused" in said
    assert run(["env", "-i", str(inventory), "--host", "node01", "-q"]) == 0


def test_a_refusal_is_a_finding(sim: SimCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inventory = changed(sim, tmp_path, "node02", nic="docker0")
    assert run(["env", "-i", str(inventory), "-f", "json", "-q"]) == 1
    captured = capsys.readouterr()
    hosts = report(captured.out)
    assert hosts["node02"]["environment"] == {}
    assert hosts["node01"]["environment"]
    assert "node02: no environment: nic docker0 is a virtual NIC" in captured.err


def test_from_a_recording(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["env", "--replay", str(recording), "--host", "node02", "-f", "dotenv"]) == 0
    text = capsys.readouterr().out
    assert "\nHCCL_SOCKET_IFNAME==" in text
    file = tmp_path / "node02.env"
    file.write_text(text)
    assert run(["env", "lint", str(file), "--strict", "--generation", "a2"]) == 0
    assert run(["env", "--replay", str(recording), "--nic", "eth77", "-f", "json"]) == 1
    assert "no NIC eth77" in capsys.readouterr().err


def test_several_hosts_in_one_shell_file_or_refused(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(["env", "--replay", str(recording)]) == 0
    assert 'case "$(hostname)" in' in capsys.readouterr().out
    for form in ("dotenv", "docker"):
        assert run(["env", "--replay", str(recording), "-f", form]) == 2
        assert "--host" in capsys.readouterr().err


def test_docker_says_what_else_is_needed(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["env", "--replay", str(recording), "--host", "node01", "-f", "docker"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("  -e HCCL_IF_IP='")
    assert "/etc/hccn.conf" in captured.err


def test_the_buffer_from_a_models_config(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"hidden_size": 7168, "n_routed_experts": 256, "num_experts_per_tok": 8}')
    capsys.readouterr()
    base = ["env", "--replay", str(recording), "--host", "node01", "--role", "decode", "-f", "json"]
    given = [*base, "--model", str(config), "--dp", "32", "--max-num-seqs", "40", "--spec-tokens", "1"]
    assert run([*given, "--kernel", "full-mesh"]) == 0
    host = report(capsys.readouterr().out)["node01"]
    assert host["environment"]["HCCL_BUFFSIZE"] == "598"  # type: ignore[index]
    assert "tokens per rank 80" in host["reasons"]["HCCL_BUFFSIZE"]  # type: ignore[index]
    for wrong, said in (
        ([*given, "--ep", "16"], "--ep 16"),
        ([*base, "--model", str(config)], "--max-num-seqs"),
        ([*base, "--dp", "32"], "--model"),
        ([*base, "--model", str(tmp_path / "no"), "--dp", "1", "--max-num-seqs", "1"], "no such file"),
    ):
        assert run(wrong) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--inventory FILE"),
        (["--local", "--replay", "x"], "--local"),
        (["--local", "--hosts", "a"], "--local"),
        (["--replay", "/no/such/folder"], "/no/such/folder"),
        (["--local", "-o", "x", "-f", "json"], "--output"),
        (["--role", "cook"], "--role"),
        (["lint", "/no/such/file"], "/no/such/file"),
        (["lint", "/"], "'/' cannot be read"),
    ],
)
def test_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["env", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_an_unknown_host_is_named_with_those_there_are(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["env", "--replay", str(recording), "--host", "node9"]) == 2
    assert "node[01-02]" in capsys.readouterr().err


def test_hosts_of_one_name_are_not_mixed_up(
    recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    derive = environment.environments

    def same_name(*args: object, **kwargs: object) -> list[environment.Environment]:
        return [replace(one, hostname="localhost") for one in derive(*args, **kwargs)]  # type: ignore[arg-type]

    monkeypatch.setattr(environment, "environments", same_name)
    capsys.readouterr()
    assert run(["env", "--replay", str(recording)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "call themselves localhost" in captured.err


def test_the_roles_are_those_of_the_environment() -> None:
    assert [role.value for role in Role] == [role.value for role in environment.Role]


# --- lint -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "arguments", "code"),
    [
        ("export HCCL_BUFFSIZE=600\n", [], 0),
        ("export HCCL_BUFFERSIZE=600\n", [], 1),
        ("export HCCL_CONNECT_TIMEOUT=7200\n", [], 0),
        ("export HCCL_CONNECT_TIMEOUT=7200\n", ["--strict"], 1),
        ("export HCCL_SOCKET_IFNAME=eth0\n", ["--strict"], 0),  # notes never count
        ("export HCCL_INTER_HCCS_DISABLE=TRUE\n", ["--strict", "--generation", "a2"], 1),
        ("export HCCL_INTER_HCCS_DISABLE=TRUE\n", ["--strict", "--generation", "a3"], 0),
        ("echo hello\n", [], 3),
        ("", [], 3),
        ("export HCCL_BUFFSIZE=$1\n", [], 3),
        ("A=1\0HCCL_BUFFSIZE=0\0", [], 1),  # /proc/PID/environ
        ("A\0\nB", [], 2),
    ],
)
def test_lint_exit_codes(
    text: str, arguments: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "launch.sh"
    file.write_text(text)
    assert run(["env", "lint", str(file), *arguments]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_lint_names_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "launch.sh"
    file.write_bytes(b"#!/bin/sh\n# \xb9\xfe\nexport HCCL_BUFFERSIZE=\xb9\n")
    assert run(["env", "lint", str(file)]) == 1
    out = capsys.readouterr().out
    assert f"{file}:3: error: HCCL_BUFFERSIZE: " in out
    assert "do: write HCCL_BUFFSIZE" in out
    assert run(["env", "lint", str(file), "-f", "json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["line"], finding["rule"], finding["expected"]) == (3, "unknown-name", "HCCL_BUFFSIZE")


def test_lint_reads_standard_input_and_runs_nothing(tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    text = f"export HCCL_BUFFSIZE=0\ntouch {proof}\nexport A=$(touch {proof})\n"
    done = subprocess.run(
        [sys.executable, "-m", "ascendctl", "env", "lint", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "standard input:1: error: HCCL_BUFFSIZE" in done.stdout
    assert not proof.exists()


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from ascendctl.cli import run\n"
        "run(['env', '--help'])\n"
        "print('LOADED', sorted({'paramiko', 'yaml', 'ClusterShell', 'ascendctl.hccl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
