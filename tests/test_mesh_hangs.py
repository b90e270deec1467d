"""What ends pings between hosts before their time: a tool that hangs, Ctrl-C. What was learned is told."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ascendctl.probe import mesh as probe_mesh
from ascendctl.probe.bundle import load
from ascendctl.probe.capture import HostCapture
from ascendctl.probe.mesh import ping_id
from ascendctl.sim.cluster import SimCluster
from ascendctl.sim.spec import make_spec
from tests.fault_recordings import verify_to

PATIENCE_S = 60  # for what must happen; nothing is measured by it


def pings_of(capture: HostCapture) -> tuple[list[Any], list[Any]]:
    """The calls of the ping tool that were made, and those that were left out."""
    made = [one for one in capture.answers.values() if ping_id(one.command_id)]
    return made, [one for one in capture.skips.values() if ping_id(one.command_id)]


def of_mesh(report: dict[str, Any], host: str) -> list[dict[str, Any]]:
    return [c for c in report["results"] if c["check"] == "mesh-roce" and c["subject"]["host"] == host]


def hanging(*hosts: str) -> list[dict[str, Any]]:
    return [{"host": host, "kind": "command-hang", "command": "hccn_tool -ping"} for host in hosts]


def test_a_ping_that_hangs_is_killed_and_that_hosts_other_pings_are_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_mesh, "_PING_LIMIT_S", 1)
    report = tmp_path / "report.json"
    with SimCluster(make_spec(generation="a2", hosts=2, faults=hanging("node01", "node02"))) as sim:
        asked = ("-i", str(sim.inventory_path), "--record", str(tmp_path / "recording"), "--mesh", "ring")
        code = verify_to(report, *asked)
    for host in load(tmp_path / "recording").hosts:
        (answered,) = host.mesh
        made, left_out = pings_of(answered.capture())
        assert [one.killed for one in made] == [True]  # one call, and no other after it
        assert len(left_out) == 7
        assert {one.reason for one in left_out} == {"hung"}
        assert answered.capture().complete  # nobody had to cut the host off
    told = json.loads(report.read_text(encoding="utf-8"))
    assert code == 3
    for name in ("node01", "node02"):
        cells = of_mesh(told, name)
        assert Counter(cell["status"] for cell in cells) == {"unknown": 8}
        assert all("had to be killed" in cell["message"] and cell["remedy"] for cell in cells)


def test_ctrl_c_in_the_middle_of_the_pings_keeps_what_was_learned(tmp_path: Path) -> None:
    """node01 has sent its pings, those of the others hang when the person has had enough."""
    recording = tmp_path / "recording"
    with SimCluster(make_spec(generation="a2", hosts=3, faults=hanging("node02", "node03"))) as sim:
        command = [sys.executable, "-m", "ascendctl", "verify", "-i", str(sim.inventory_path)]
        command += ["--mesh", "ring", "--record", str(recording), "--format", "json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as verify:
            try:
                wait_for(verify, lambda: all(under_way(recording, name) for name in ("node02", "node03")))
                wait_for(verify, lambda: b" done" in sent(recording, "node01"))
                verify.send_signal(signal.SIGINT)
                out, errors = verify.communicate(timeout=PATIENCE_S)
            finally:
                verify.kill()
    assert verify.returncode == 130, errors.decode()
    assert b"Traceback" not in errors
    told = json.loads(out)
    assert told["interrupted"] is True
    first = [c for c in told["results"] if c["check"] in ("address", "link", "tls")]
    assert len(first) == 3 * 3 * 8
    assert {cell["status"] for cell in first} == {"pass"}
    # node03's ports were to send and to be sent pings by hosts that hang: nothing is known of them.
    unfinished = of_mesh(told, "node03")
    assert Counter(cell["status"] for cell in unfinished) == {"unknown": 8}
    assert all("is missing or cut: stopped" in cell["message"] for cell in unfinished)
    heard = [
        one for host in load(recording).hosts for part in host.mesh for one in pings_of(part.capture())[0]
    ]
    assert len(heard) == 8  # those of node01, and they count
    (index,) = [json.loads((recording / "recording.json").read_text(encoding="utf-8"))]
    assert index["finished"] is True
    again = tmp_path / "again.json"
    assert verify_to(again, "--replay", str(recording)) == 130
    assert json.loads(again.read_text(encoding="utf-8"))["results"] == told["results"]


def sent(recording: Path, host: str) -> bytes:
    path = recording / f"{host}.mesh1"
    return path.read_bytes() if path.exists() else b""


def under_way(recording: Path, host: str) -> bool:
    """Whether a host's second script has begun; that its first ping hangs is then only a matter of time."""
    return b" hello " in sent(recording, host)


def wait_for(process: subprocess.Popen[bytes], happened: Any) -> None:
    until = time.monotonic() + PATIENCE_S
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
