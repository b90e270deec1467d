"""The counters, counted in one process and read in another as vLLM's API server does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="counters need prometheus_client, which vLLM brings")

CHILD_TIMEOUT_S = 120

COUNTS = """
import logging, sys
logging.basicConfig(stream=sys.stderr)
from ascendctl.netloader.engine import metrics
from ascendctl.netloader.engine.phases import Phases
metrics.count_bytes(metrics.RECEIVED, 1000)
metrics.count_bytes(metrics.RECEIVED, 24)
metrics.count_join("served")
metrics.count_fallback()
phases = Phases(0, "netloader", ended=metrics.count_seconds)
with phases.phase("wire"):
    pass
"""
# What `vllm.v1.metrics.prometheus.get_prometheus_registry` does.
READS = """
import os
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest, multiprocess
registry = REGISTRY
if os.getenv("PROMETHEUS_MULTIPROC_DIR") is not None:
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


def run(program: str, folder: Path | None) -> subprocess.CompletedProcess[str]:
    environment = {
        key: value for key, value in os.environ.items() if key.lower() != "prometheus_multiproc_dir"
    }
    if folder is not None:
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=CHILD_TIMEOUT_S,
        check=True,
    )


def ours(text: str) -> dict[str, float]:
    rows = [row.rpartition(" ") for row in text.splitlines() if row.startswith("ascendctl_")]
    return {name: float(value) for name, _, value in rows if not name.partition("{")[0].endswith("_created")}


def check(counted: dict[str, float], times: int) -> None:
    assert counted.pop('ascendctl_netloader_phase_seconds_total{phase="wire"}') > 0
    assert counted == {
        'ascendctl_netloader_bytes_total{direction="received"}': 1024.0 * times,
        'ascendctl_netloader_joins_total{outcome="served"}': 1.0 * times,
        "ascendctl_netloader_fallbacks_total": 1.0 * times,
    }


def test_with_a_shared_folder_the_counters_of_all_workers_reach_another_process(tmp_path: Path) -> None:
    run(COUNTS, tmp_path)
    run(COUNTS, tmp_path)
    check(ours(run(READS, tmp_path).stdout), times=2)


def test_without_it_they_stay_in_the_process_that_counts() -> None:
    check(ours(run(COUNTS + READS, None).stdout), times=1)
    assert ours(run(READS, None).stdout) == {}


def test_a_folder_that_is_gone_costs_the_counters_and_nothing_else(tmp_path: Path) -> None:
    done = run(COUNTS, tmp_path / "gone")
    assert done.stderr.count("Prometheus counters are not kept") == 1


def test_a_counter_that_refuses_is_told_of_once_and_stops_nothing() -> None:
    fall = "\nfor _ in range(3):\n    metrics.count_bytes(metrics.SENT, -1)\n"
    done = run(COUNTS + fall, None)
    assert done.stderr.count("Prometheus counters are not kept") == 1


def test_without_prometheus_client_nothing_is_counted_and_nothing_said() -> None:
    done = run("import sys\nsys.modules['prometheus_client'] = None\n" + COUNTS, None)
    assert done.stderr.count("WARNING") == 0
