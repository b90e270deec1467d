"""The main job through real OpenSSH servers, with the simulator's stand-ins as hccn_tool and npu-smi."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ascendctl.sim.render import render_cluster
from ascendctl.sim.spec import make_spec
from tests.openssh import OpenSSHFarm, why_not

pytestmark = [
    pytest.mark.openssh,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


class Site:
    """Rendered hosts behind a farm of sshd, and the inventory that names them."""

    def __init__(self, farm: OpenSSHFarm, folder: Path, bins: dict[str, Path], generation: str) -> None:
        self.farm = farm
        self.folder = folder
        self.bins = bins
        self.inventory = folder / "inventory.yaml"
        ssh = {
            "user": farm.user,
            "identity": str(farm.client_key),
            "known_hosts": str(farm.known_hosts),
            "config": False,
        }
        hosts = [
            {"name": name, "address": farm.host(name).address, "ssh": {"port": farm.host(name).port}}
            for name in farm.names
        ]
        document = {"version": 1, "defaults": {"ssh": ssh, "generation": generation}, "hosts": hosts}
        self.inventory.write_text(yaml.safe_dump(document))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """verify's first phase: what is tested here is the asking, one connection per host."""
        asked = ["-i", str(self.inventory), "--mesh", "off", *arguments]
        return subprocess.Popen(
            [sys.executable, "-m", "ascendctl", "verify", *asked],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def verify(self, *arguments: str) -> tuple[int, dict[str, Any], str]:
        process = self.start("--format", "json", *arguments)
        out, err = process.communicate(timeout=220)
        return process.returncode, json.loads(out), err

    def scripts(self, name: str) -> list[int]:
        """Processes on the host, by the PATH that only its sessions have."""
        needle = f"PATH={self.bins[name]}:".encode()
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and needle in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found

    def temporary_folders(self, name: str) -> set[Path]:
        folders = set()
        for pid in self.scripts(name):
            with contextlib.suppress(OSError):
                cwd = Path(f"/proc/{pid}/cwd").readlink()
                if cwd.name.startswith("ascendctl."):
                    folders.add(cwd)
        return folders


@contextlib.contextmanager
def site(folder: Path, *, cheap: bool = False, **spec: Any) -> Iterator[Site]:
    rendered = render_cluster(make_spec(**spec), folder / "hosts", cheap=cheap)
    bins = {host.name: host.bin for host in rendered}
    with OpenSSHFarm([(name, f"{path}:/usr/bin:/bin") for name, path in bins.items()]) as farm:
        yield Site(farm, folder, bins, spec["generation"])


def standing_out(report: dict[str, Any], host: str) -> dict[tuple[str, int | None], str]:
    return {
        (cell["check"], cell["subject"]["device"]): cell["status"]
        for cell in report["results"]
        if cell["subject"]["host"] == host and cell["status"] not in ("pass", "not-applicable", "skipped")
    }


def wait_until(condition: Callable[[], object], limit_s: float = 90) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


FAULTS = [
    ({"kind": "link-down", "device": 3}, {("link", 3): "fail"}),
    ({"kind": "hccn-conf-missing"}, {("hccn-conf", None): "fail"}),
    ({"kind": "tls-unreadable", "device": 0}, {("tls", 0): "unknown"}),
    ({"kind": "command-hang", "device": 5, "value": "ignores-term"}, {("link", 5): "unknown"}),
    ({"kind": "command-hang", "device": 5, "value": "grandchild"}, {("link", 5): "unknown"}),
    ({"kind": "command-hang", "device": 5, "value": "unkillable"}, {("link", 5): "unknown"}),
    ({"kind": "garbage-output", "command": "npu-smi info -m"}, {("npu-mapping", None): "unknown"}),
    ({"kind": "no-tool", "value": "hccn_tool"}, {("tools", None): "fail"}),
    ({"kind": "busy", "value": "2"}, {}),
    (None, {}),
]


def test_faults_stand_out_on_their_cells_and_each_host_is_asked_once(tmp_path: Path) -> None:
    faults = [{"host": f"node{n:02d}", **fault} for n, (fault, _) in enumerate(FAULTS, 1) if fault]
    with site(tmp_path, generation="a2", hosts=len(FAULTS), faults=faults) as here:
        code, report, _ = here.verify("--quiet")
        assert code == 1
        for number, (_, shows) in enumerate(FAULTS, 1):
            name = f"node{number:02d}"
            assert standing_out(report, name) == shows, name
            assert (here.farm.connections(name), here.farm.execs(name)) == (1, 1)


def test_fifty_hosts_of_sixteen_devices_are_asked_in_one_connection_and_one_exec_each(tmp_path: Path) -> None:
    with site(tmp_path, cheap=True, generation="a3", hosts=50) as here:
        code, report, err = here.verify()
        bad = [cell for cell in report["results"] if cell["status"] not in ("pass", "not-applicable")]
        assert bad == []
        assert code == 0
        links = [cell for cell in report["results"] if cell["check"] == "link"]
        assert len(links) == 50 * 16
        assert [(here.farm.connections(n), here.farm.execs(n)) for n in here.farm.names] == [(1, 1)] * 50
        assert "50 of 50 hosts" in err


def test_a_connection_killed_half_way_loses_nothing_already_received(tmp_path: Path) -> None:
    with site(tmp_path, generation="a2", hosts=2, latency=0.1) as here:
        recording = tmp_path / "recording"
        process = here.start("--format", "json", "--record", str(recording), "--hosts", "node01")
        stream = recording / "node01.probe"
        wait_until(lambda: stream.exists() and b"begin tls 2 0 2" in stream.read_bytes())
        folders = here.temporary_folders("node01")
        assert len(folders) == 1
        assert here.farm.kill_sessions("node01")
        out, _ = process.communicate(timeout=200)
        assert process.returncode == 3
        cells = json.loads(out)["results"]
        reachable = next(cell for cell in cells if cell["check"] == "reachable")
        assert reachable["status"] == "unknown"
        by_device = {cell["subject"]["device"]: cell for cell in cells if cell["check"] == "tls"}
        assert [by_device[device]["status"] for device in (0, 1, 2)] == ["pass"] * 3
        assert by_device[7]["status"] == "skipped"
        assert by_device[7]["caused_by"]["check"] == "reachable"
        # On the host: at the latest when the running command's time-out has passed.
        wait_until(lambda: here.scripts("node01") == [])
        assert not any(folder.exists() for folder in folders)


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_reports_what_was_learned_and_leaves_nothing(
    tmp_path: Path, ended_by: signal.Signals
) -> None:
    hang = {"host": "node02", "kind": "command-hang", "value": "ignores-term", "command": "npu-smi info -m"}
    with site(tmp_path, generation="a2", hosts=2, faults=[hang]) as here:
        recording = tmp_path / "recording"
        process = here.start("--format", "json", "--record", str(recording))
        wait_until(lambda: done(recording / "node01.probe") and here.temporary_folders("node02"))
        folders = here.temporary_folders("node02")
        process.send_signal(ended_by)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in err
        report = json.loads(out)
        assert report["interrupted"] is True
        assert standing_out(report, "node01") == {}
        assert standing_out(report, "node02") == {("reachable", None): "unknown"}
        wait_until(lambda: here.scripts("node02") == [])
        assert not any(folder.exists() for folder in folders)
        again = subprocess.run(
            [sys.executable, "-m", "ascendctl", "verify", "--replay", str(recording), "--format", "json"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert json.loads(again.stdout)["results"] == report["results"]


def done(stream: Path) -> bool:
    return stream.exists() and stream.read_bytes().endswith(b" done\n")


def test_local_verifies_this_very_host_without_ssh(tmp_path: Path) -> None:
    rendered = render_cluster(
        make_spec(generation="a2", hosts=1, faults=[{"host": "node01", "kind": "link-down", "device": 4}]),
        tmp_path / "hosts",
    )
    done = subprocess.run(
        [sys.executable, "-m", "ascendctl", "verify", "--local", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{rendered[0].bin}:/usr/bin:/bin"},
    )
    report = json.loads(done.stdout)
    (name,) = {cell["subject"]["host"] for cell in report["results"]}
    assert standing_out(report, name) == {("link", 4): "fail"}
    assert done.returncode == 1


def test_the_script_carried_by_hand_is_judged_the_same(tmp_path: Path) -> None:
    rendered = render_cluster(
        make_spec(generation="a3", hosts=1, faults=[{"host": "node01", "kind": "link-down", "device": 4}]),
        tmp_path / "hosts",
        cheap=True,
    )
    script = subprocess.run(
        [sys.executable, "-m", "ascendctl", "probe", "script"], capture_output=True, check=True
    ).stdout
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    with (outputs / "node01.txt").open("wb") as stream:
        env = {"PATH": f"{rendered[0].bin}:/usr/bin:/bin"}
        subprocess.run(["sh"], input=script, stdout=stream, env=env, check=True)
    run = [sys.executable, "-m", "ascendctl", "verify", "--replay", str(outputs), "--format", "json"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert standing_out(json.loads(done.stdout), "node01") == {("link", 4): "fail"}
    assert done.returncode == 1
