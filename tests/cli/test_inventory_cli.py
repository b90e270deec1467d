"""``ascendctl inventory``: what goes to which stream, what is shown, and that nothing secret is."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml
from typer.testing import CliRunner

from ascendctl.cli import inventory as command
from ascendctl.cli.exits import Refused
from ascendctl.inventory import InventoryError

EXAMPLE = Path(__file__).parent.parent.parent / "inventory.example.yaml"

FILE = """\
version: 1
groups:
  prefill: {generation: a3, npus: 16}
  idle:
defaults:
  ssh:
    user: root
    password: {command: [vault, read, -token=s3cr3t-argument]}
hosts:
- {name: "node[01-03]", address: "10.0.0.[1-3]", group: prefill, tags: [rack1]}
- name: gate
  ssh: {port: 2222, password: {env: GATE_PW}}
- name: far
  address: 2001:db8::1
  scale_out: none
  nic: eth0
  thresholds: {port-mtu-bytes: 4200, link-flaps-max: 3}
  cabling: {0-1: "leaf-[1-2]", 2: leaf-3 400GE1/0/3}
  ssh: {port: 22, password: prompt, jump: {address: inner, jump: gate}}
  engine: {exec: [docker, exec, "[bold]x"]}
waivers:
- {check: lldp, host: "node[01-02]", device: 3, until: 2000-01-31, reason: old}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def secrets_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_PW", "s3cr3t-variable")
    monkeypatch.setattr(command, "_known_checks", lambda: {"lldp", "netdetect"})


def run(*arguments: object) -> Any:
    """One call; what ``main()`` prints as problems comes as the exception."""
    app = typer.Typer()
    command.register(app)
    result = CliRunner().invoke(app, ["inventory", *map(str, arguments)])
    if isinstance(result.exception, (InventoryError, Refused)):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_check(file: Path) -> None:
    result = run("check", file)
    assert result.stdout == "OK: 5 hosts in 2 groups (prefill 3, idle 0), 2 of them in none, 1 waiver\n"
    assert result.stderr == "note: the waiver of lldp ended on 2000-01-31; what it covers fails again\n"


def test_check_takes_the_file_as_an_option_too(file: Path) -> None:
    assert (
        run("check", "-i", file).stdout
        == run("check", file).stdout
        == run("check", "--inventory", file).stdout
    )


def test_a_waiver_holds_on_its_last_day(file: Path) -> None:
    today = dt.date.today().isoformat()
    file.write_text(FILE.replace("2000-01-31", today), encoding="utf-8")
    assert run("check", file).stderr == ""


def test_the_example_passes() -> None:
    result = run("check", EXAMPLE)
    assert result.stdout.startswith("OK: 54 hosts in 3 groups (prefill 24, decode 24, a2-train 4)")
    assert result.stderr == ""


@pytest.mark.parametrize("arguments", [["check"], ["show"], ["check", "a.yaml", "-i", "b.yaml"]])
def test_one_file_is_wanted(arguments: list[str]) -> None:
    with pytest.raises(Refused, match="inventory file"):
        run(*arguments)


@pytest.mark.parametrize("name", ["check", "show"])
def test_a_bad_file_is_refused_with_its_problems(name: str, file: Path) -> None:
    file.write_text(
        FILE.replace("nic: eth0", "nick: eth0").replace("check: lldp", "check: ldlp"), encoding="utf-8"
    )
    with pytest.raises(InventoryError) as caught:
        run(name, file)
    assert [problem.removeprefix(f"{file}:").split(": ")[:2] for problem in caught.value.problems] == [
        ["16", "hosts[2].nick"],
        ["22", "waivers[0].check"],
    ]


def test_show_as_a_table_is_not_cut_where_there_is_no_terminal(file: Path) -> None:
    lines = run("show", file).stdout.splitlines()
    rows = {line.split()[0]: line for line in lines if line}
    words = "node01 prefill root@10.0.0.1 command vault root a3, 16 devices rack1"
    assert rows["node01"].split() == words.split()
    assert rows["gate"].split() == ["gate", "root@gate:2222", "env", "GATE_PW", "root", "auto"]
    assert "root@[2001:db8::1]:22" in rows["far"]
    assert "gate → inner" in rows["far"]
    assert "HCCS only, NIC eth0" in rows["far"]
    assert "docker exec [bold]x" in rows["far"]
    assert "link-flaps-max=3 port-mtu-bytes=4200" in rows["far"]
    assert rows["lldp"].split() == ["lldp", "node[01-02]", "3", "2000-01-31", "old"]
    assert len({len(line) for line in lines[:6]}) == 1


def test_show_as_json(file: Path) -> None:
    shown = json.loads(run("show", file, "--format", "json").stdout)
    hosts = {host["name"]: host for host in shown["hosts"]}
    assert list(hosts) == ["node01", "node02", "node03", "gate", "far"]
    assert hosts["node02"] == {
        "name": "node02",
        "group": "prefill",
        "ssh": {
            "address": "10.0.0.2",
            "port": None,
            "user": "root",
            "identity": [],
            "known_hosts": None,
            "host_key_policy": "strict",
            "password": "command vault",
            "config": True,
            "jump": None,
        },
        "privilege": "root",
        "accelerator": "auto",
        "generation": "a3",
        "npus": 16,
        "scale_out": "auto",
        "nic": None,
        "tags": ["rack1"],
        "thresholds": {},
        "cabling": {},
        "engine": {"exec": [], "ports": []},
    }
    assert hosts["far"]["npus"] == "auto"
    assert hosts["far"]["thresholds"] == {"link-flaps-max": 3.0, "port-mtu-bytes": 4200.0}
    assert hosts["far"]["cabling"] == {"0": "leaf-1", "1": "leaf-2", "2": "leaf-3 400GE1/0/3"}
    assert hosts["far"]["ssh"]["password"] == "prompt"
    assert hosts["far"]["ssh"]["jump"]["name"] == "inner"
    assert hosts["far"]["ssh"]["jump"]["jump"]["password"] == "env GATE_PW"
    assert shown["waivers"] == [
        {"check": "lldp", "hosts": "node[01-02]", "device": 3, "until": "2000-01-31", "reason": "old"}
    ]


def test_show_of_a_selection(file: Path) -> None:
    arguments = ["--hosts", "@prefill,far", "-x", "node02", "--tags", "rack1", "--format", "json"]
    shown = json.loads(run("show", file, *arguments).stdout)
    assert [host["name"] for host in shown["hosts"]] == ["node01", "node03"]
    assert [waiver["hosts"] for waiver in shown["waivers"]] == ["node01"]


def test_show_of_hosts_that_no_waiver_is_for(file: Path) -> None:
    assert "Waivers" not in run("show", file, "--hosts", "gate").stdout


def test_show_of_nothing_is_refused(file: Path) -> None:
    with pytest.raises(InventoryError, match="did you mean node01"):
        run("show", file, "--hosts", "node1")
    with pytest.raises(InventoryError, match="no host of"):
        run("show", file, "--hosts", "@idle")


@pytest.mark.parametrize("form", ["table", "json"])
def test_nothing_secret_is_shown(form: str, file: Path) -> None:
    result = run("show", file, "--format", form)
    assert "vault" in result.stdout
    assert "s3cr3t" not in result.output


def test_schema_describes_the_file(file: Path) -> None:
    schema = json.loads(run("schema").stdout)
    content = json.loads(json.dumps(yaml.safe_load(FILE), default=str))
    jsonschema.validate(content, schema)
    content["hosts"][0]["colour"] = "red"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, schema)
