"""verify from the outside: interruptions while judging, a full recording disk, real cat, bad combinations."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ascendctl import verify as pipeline
from ascendctl.cli import run
from ascendctl.probe.capture import decode
from ascendctl.results import Run
from ascendctl.sim.render import render_cluster
from ascendctl.sim.spec import make_spec


def stand_in(folder: Path, *faults: dict[str, object]) -> Path:
    """The bin folder of one simulated A2 host."""
    spec = make_spec(generation="a2", hosts=1, faults=[{"host": "node01", **fault} for fault in faults])
    (rendered,) = render_cluster(spec, folder / "host", cheap=True)
    return rendered.bin


def local(bin_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ascendctl", "verify", "--local", "--format", "json", "--quiet", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{bin_path}:/usr/bin:/bin"},
    )


def test_ctrl_c_while_judging_keeps_what_was_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bin_path = stand_in(tmp_path)
    judge = pipeline.judge

    def interrupted_judge(*args: object, **kwargs: object) -> Run:
        os.kill(os.getpid(), signal.SIGINT)
        return judge(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "judge", interrupted_judge)
    monkeypatch.setenv("PATH", f"{bin_path}:/usr/bin:/bin")
    before = signal.getsignal(signal.SIGINT)
    assert run(["verify", "--local", "--format", "json", "--quiet"]) == 130
    report = json.loads(capsys.readouterr().out)
    assert report["interrupted"] is True
    assert {cell["status"] for cell in report["results"]} <= {"pass", "not-applicable"}
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_costs_the_recording_not_the_report(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "none", str(disk)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        done = local(stand_in(tmp_path), "--record", str(disk / "run"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert done.returncode == 0
    assert json.loads(done.stdout)["summary"]["fail"] == 0
    assert "is incomplete: No space left on device" in done.stderr


def test_a_missing_hccn_conf_is_found_with_the_systems_own_cat(tmp_path: Path) -> None:
    if Path("/etc/hccn.conf").exists():
        pytest.skip("this machine has an hccn.conf of its own")
    bin_path = stand_in(tmp_path, {"kind": "hccn-conf-missing"})
    (bin_path / "cat").unlink()
    done = local(bin_path)
    cells = {(c["check"], c["subject"]["device"]): c["status"] for c in json.loads(done.stdout)["results"]}
    assert cells["hccn-conf", None] == "fail"
    assert done.returncode == 1


def test_the_dry_run_prints_what_runs(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(
        "version: 1\ndefaults: {ssh: {user: ops, jump: {address: bastion.example}}}\nhosts:\n"
        "  - {name: 'node[1-2]', address: '127.9.9.[1-2]'}\n  - {name: node3, privilege: sudo}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "ascendctl", "verify", "-i", str(inventory), "--dry-run"],
        capture_output=True,
        check=True,
    )
    assert b"# To node[1-2] (2 hosts):" in done.stdout
    assert b"#   node1: ssh ops@127.9.9.1 through bastion.example, privilege root" in done.stdout
    assert b"# To node3 (1 host):" in done.stdout
    assert done.stdout.count(b"# read-only") >= 2 * 23
    script = done.stdout[done.stdout.index(b"\n{ ") + 1 :]
    env = {"PATH": f"{stand_in(tmp_path)}:/usr/bin:/bin"}
    shell = shutil.which("dash") or "/bin/sh"
    out = subprocess.run([shell], input=script, capture_output=True, env=env, check=True).stdout
    capture = decode(out)
    assert capture.complete
    assert len(capture.answers) == 102
