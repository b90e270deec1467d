"""Recordings of simulated clusters with faults, made once for all test modules of a run.

Asking a cluster of every kind of fault takes half a minute, so that the modules which look at what came of
it share it: through a folder of the run, which pytest-xdist's workers share too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ascendctl.cli import run
from ascendctl.sim.cluster import SimCluster
from ascendctl.sim.spec import Spec, make_spec

_DONE = "done"


@dataclass(frozen=True)
class FaultRecording:
    """What ``verify --record`` left of a cluster. ``simulated_in``: the folder that the cluster was in."""

    spec: Spec
    recording: Path
    report: Path
    exit_code: int
    simulated_in: Path


def fault_recording(
    generation: str, faults: Sequence[dict[str, Any]], factory: pytest.TempPathFactory
) -> FaultRecording:
    """A cluster with one of the faults on each host but the last, which is healthy; not to be changed.

    Asked for again with the same faults it is the same one, also in another worker of the run. All hosts
    are logged in to at once, by one process that is all of their servers too: that may take its time.
    """
    names = [f"node{number:02d}" for number in range(1, len(faults) + 2)]
    seeded = [{"host": name, **fault} for name, fault in zip(names, faults, strict=False)]
    spec = make_spec(generation=generation, hosts=len(names), seed=7, faults=seeded)
    key = hashlib.sha256(spec.model_dump_json().encode()).hexdigest()[:16]
    folder = _shared(factory) / f"faults-{generation}-{key}"
    folder.mkdir(exist_ok=True)
    recording, report, done = folder / "recording", folder / "report.json", folder / _DONE
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be at it; released when it ends, however
        if not done.exists():
            with SimCluster(spec) as sim:
                inventory = str(sim.inventory_path)
                to_record = ("--record", str(recording), "--mesh", "off", "--connect-timeout", "30")
                code = verify_to(report, "--inventory", inventory, *to_record)
                done.write_text(json.dumps([code, str(sim.directory)]))
    code, simulated_in = json.loads(done.read_text())
    return FaultRecording(spec, recording, report, code, Path(simulated_in))


def excerpt(recording: Path, hosts: Sequence[str], folder: Path) -> Path:
    """A recording of some of the hosts, in the new ``folder``."""
    folder.mkdir()
    index = json.loads((recording / "recording.json").read_text(encoding="utf-8"))
    index["hosts"] = [host for host in index["hosts"] if host["name"] in hosts]
    (folder / "recording.json").write_text(json.dumps(index), encoding="utf-8")
    for name in hosts:
        if (recording / f"{name}.probe").exists():
            (folder / f"{name}.probe").symlink_to(recording / f"{name}.probe")
    return folder


def verify_to(path: Path, *arguments: str) -> int:
    """Run verify in this process with its standard output in a file; returns the exit code."""
    with path.open("w", encoding="utf-8") as stream, contextlib.redirect_stdout(stream):
        return run(["verify", "--format", "json", "--quiet", *arguments])


def _shared(factory: pytest.TempPathFactory) -> Path:
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
