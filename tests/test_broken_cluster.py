"""Verify on a cluster part of which refuses, hangs or answers garbage: every host is told what it is."""

from __future__ import annotations

import collections
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.broken_cluster import BrokenCluster
from tests.openssh import why_not

pytestmark = [
    pytest.mark.openssh,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]

HOSTS = 60
# All that answer send the recorded answer of one server: its addresses, and the time when it was recorded.
OF_ONE_SERVER = {"duplicate-address", "super-pods", "clock"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokenCluster]:
    with BrokenCluster(HOSTS, tmp_path_factory.mktemp("broken")) as cluster:
        yield cluster


def verify(cluster: BrokenCluster, *arguments: str) -> tuple[int, dict[str, Any]]:
    argv = [sys.executable, "-m", "ascendctl", "verify", "-i", str(cluster.inventory), "--format", "json"]
    argv += ["--mesh", "off"]
    done = subprocess.run(
        [*argv, "--quiet", *arguments], capture_output=True, text=True, check=False, timeout=300
    )
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def found_wrong(report: dict[str, Any]) -> set[str]:
    return {cell["check"] for cell in report["results"] if cell["status"] == "fail"}


def test_every_host_is_accounted_for_as_what_it_is(cluster: BrokenCluster) -> None:
    """Fewer slots than hosts that hang: behind one another they would take three times the deadlines."""
    code, report = verify(cluster, "--width", "2", "--host-timeout", "30")
    seen, wrong = cluster.account(report)
    assert wrong == []
    assert seen == collections.Counter(host.kind for host in cluster.hosts)
    assert (code, found_wrong(report) <= OF_ONE_SERVER) == (1, True)
    assert report["duration_s"] < 150
    kinds = {host.name: host.kind for host in cluster.hosts}
    links = collections.Counter(
        kinds[cell["subject"]["host"]]
        for cell in report["results"]
        if cell["check"] == "link" and cell["status"] == "pass"
    )
    answering = sum(kind == "answers" for kind in kinds.values())
    assert links["answers"] == 8 * answering
    assert set(links) <= {"answers", "stops half-way"}, "a verdict on a host that was not looked at"


def test_limit_failures_ends_the_run_early_and_accounts_for_every_host(cluster: BrokenCluster) -> None:
    code, report = verify(cluster, "--limit-failures", "3", "--width", "1")
    cells = {cell["subject"]["host"]: cell for cell in report["results"] if cell["check"] == "reachable"}
    assert set(cells) == {host.name for host in cluster.hosts}
    left_out = [name for name, cell in cells.items() if "--limit-failures 3: 3 hosts" in str(cell["actual"])]
    tried = [host for host in cluster.hosts if host.name not in left_out]
    assert left_out and len({cells[name]["actual"] for name in left_out}) == 1
    assert 3 <= sum(host.kind != "answers" for host in tried) < 12
    assert found_wrong(report) <= OF_ONE_SERVER
    assert code == (1 if found_wrong(report) else 3)
    assert {cells[name]["status"] for name in left_out} == {"unknown"}
