"""``--profile``: what is asked and checked in either, and what a recording makes of it."""

from __future__ import annotations

import concurrent.futures
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ascendctl.checks.registry import CLUSTER_CHECKS, HOST_CHECKS
from ascendctl.cli import run
from ascendctl.cli import verify as verify_command
from ascendctl.facts import Profile
from ascendctl.probe.bundle import load
from ascendctl.probe.catalogue import commands_of
from ascendctl.sim.render import render_cluster
from ascendctl.sim.spec import make_spec

DEEP_CHECKS = {check.id for check in (*HOST_CHECKS, *CLUSTER_CHECKS) if check.profile is Profile.DEEP}
INVENTORY = "version: 1\nhosts:\n  - {name: node01, address: 192.0.2.1}\n"


def asked(script: str) -> list[str]:
    """The ids of the commands that a script asks, in its order."""
    return re.findall(r"^ *(?:if )?ask ([a-z0-9-]+) ", script, re.MULTILINE)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    capsys.readouterr()
    assert run(list(arguments)) == code
    return capsys.readouterr().out


@pytest.fixture
def inventory(tmp_path: Path) -> str:
    path = tmp_path / "inventory.yaml"
    path.write_text(INVENTORY)
    return str(path)


def test_there_is_something_to_tell_apart() -> None:
    assert len(DEEP_CHECKS) > 10
    assert set(commands_of(Profile.STANDARD)) < set(commands_of(Profile.DEEP))


def test_dry_run_shows_what_the_profile_asks(inventory: str, capsys: pytest.CaptureFixture[str]) -> None:
    plan = ("verify", "-i", inventory, "--dry-run")
    standard = printed(capsys, *plan)
    assert printed(capsys, *plan, "--profile", "standard") == standard
    deep = printed(capsys, *plan, "--profile", "deep")
    assert asked(standard) == [command.id for command in commands_of(Profile.STANDARD)]
    assert asked(deep) == [command.id for command in commands_of(Profile.DEEP)]
    assert "timedatectl" in deep and "timedatectl" not in standard
    assert "\nsay note profile deep\n" in deep and "\nsay note profile standard\n" in standard


def test_a_profile_that_there_is_not(inventory: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", "-i", inventory, "--dry-run", "--profile", "full"]) == 2
    assert "standard" in capsys.readouterr().err


def test_watch_asks_in_its_profile(inventory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    profiles = []

    def ask(hosts: object, waivers: object, settings: Any, **rest: object) -> None:
        profiles.append(settings.profile)
        raise KeyboardInterrupt

    monkeypatch.setattr(verify_command, "ask_and_judge", ask)
    for arguments in ([], ["--profile", "deep"]):
        assert run(["watch", "-i", inventory, *arguments]) == 130
    assert profiles == [Profile.STANDARD, Profile.DEEP]


# --- recordings and outputs carried by hand ---------------------------------------------------------


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Profile → what a simulated host answers to its script, as printed by ``probe script``."""
    folder = tmp_path_factory.mktemp("host")
    (host,) = render_cluster(make_spec(generation="a2", hosts=1), folder, cheap=True)

    def answer(profile: str) -> bytes:
        made = subprocess.run(
            [sys.executable, "-m", "ascendctl", "probe", "script", "--profile", profile],
            capture_output=True,
            check=True,
        )
        env = {"PATH": f"{host.bin}:/usr/bin:/bin", "TMPDIR": str(host.tmp)}
        return subprocess.run(["/bin/sh"], input=made.stdout, env=env, capture_output=True, check=True).stdout

    profiles = ("standard", "deep")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return dict(zip(profiles, pool.map(answer, profiles), strict=True))


def cells(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run(["verify", *arguments, "--format", "json", "--quiet"]) in (0, 1, 3)
    results: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["results"]
    return results


def carried(folder: Path, **files: bytes) -> str:
    folder.mkdir()
    for name, data in files.items():
        (folder / f"{name}.txt").write_bytes(data)
    return str(folder)


def test_an_output_says_its_profile(
    tmp_path: Path, outputs: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    deep = carried(tmp_path / "deep", node01=outputs["deep"])
    checks = {cell["check"] for cell in cells(capsys, "--replay", deep)}
    assert checks >= DEEP_CHECKS
    standard = cells(capsys, "--replay", deep, "--profile", "standard")
    assert {cell["check"] for cell in standard} == checks - DEEP_CHECKS
    plain = carried(tmp_path / "plain", node01=outputs["standard"])
    assert {cell["check"] for cell in cells(capsys, "--replay", plain)} == checks - DEEP_CHECKS


def test_what_was_not_asked_cannot_be_judged(
    tmp_path: Path, outputs: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    plain = carried(tmp_path / "plain", node01=outputs["standard"])
    assert run(["verify", "--replay", plain, "--profile", "deep"]) == 2
    assert "were not asked all of it" in capsys.readouterr().err
    # An output of before there were profiles names none.
    old = outputs["standard"].replace(b"note profile standard", b"note something else")
    before = carried(tmp_path / "old", node01=old)
    assert run(["verify", "--replay", before, "--profile", "deep"]) == 2
    assert not {cell["check"] for cell in cells(capsys, "--replay", before)} & DEEP_CHECKS


def test_of_mixed_outputs_the_shallow_one_is_not_green(
    tmp_path: Path, outputs: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    both = carried(tmp_path / "both", node01=outputs["deep"], node02=outputs["standard"])
    of_02 = [cell for cell in cells(capsys, "--replay", both) if cell["subject"]["host"] == "node02"]
    # What the standard profile's answers tell is judged all the same, such as the use of the memory.
    unasked = {"optical", "link-flaps", "port-errors", "speed", "mtu", "fec", "ecc", "time-service"}
    assert {cell["status"] for cell in of_02 if cell["check"] in unasked} == {"unknown"}
    assert {cell["check"] for cell in of_02} >= DEEP_CHECKS


def test_a_host_that_never_answered_has_the_cells_of_the_profile(
    tmp_path: Path, outputs: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    deep = carried(tmp_path / "deep", node01=outputs["deep"])
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(INVENTORY + "  - {name: node02, address: 192.0.2.2}\n")
    for profile, there in (("deep", True), ("standard", False)):
        results = cells(capsys, "--replay", deep, "-i", str(inventory), "--profile", profile)
        of_02 = {cell["check"]: cell["status"] for cell in results if cell["subject"]["host"] == "node02"}
        assert of_02["reachable"] == "unknown"
        host_wide = {"open-files", "huge-pages", "time-service"}
        assert {of_02.get(check) for check in host_wide} == ({"skipped"} if there else {None})


def test_a_run_is_recorded_with_its_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of this very machine, which has no NPU and answers at once, with or without timedatectl."""
    for profile in ("standard", "deep"):
        folder = tmp_path / profile
        capsys.readouterr()
        run(["verify", "--local", "--record", str(folder), "--profile", profile, "-f", "json", "--quiet"])
        results = json.loads(capsys.readouterr().out)["results"]
        recording = load(folder)
        assert recording.profile.value == profile
        assert recording.hosts[0].answer().profile.value == profile
        assert ("timedatectl" in recording.hosts[0].answer().tools) is (profile == "deep")
        by_check = {cell["check"]: cell for cell in results}
        assert ("time-service" in by_check) is (profile == "deep")
        assert "timedatectl" not in by_check["tools"]["message"] + str(by_check["tools"]["actual"])
        assert [c["check"] for c in cells(capsys, "--replay", str(folder))] == [c["check"] for c in results]
