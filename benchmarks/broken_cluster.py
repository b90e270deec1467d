"""What hosts that refuse, hang or answer garbage cost a run: a loopback cluster, part of it broken.

    python benchmarks/broken_cluster.py [--hosts 1000] [--host-timeout 300] [--deadline S] [--healthy]

Of the hosts, each on a loopback address and port of its own and in an order shuffled by ``--seed``,

  20 %  refuse: the port is bound and nothing listens
   5 %  hang: of these in turn, one accepts TCP and never speaks, one stops after its SSH banner, one logs
        us in, takes the script, answers half of it and then nothing more (its sshd stays alive)
   1 %  answer garbage: in turn, a service that is no SSH server, and an SSH server whose shell prints
        something else than the probe's answer
  rest  answer

``ascendctl verify`` asks them, the whole command as a process of its own. The hosts that answer go through
real OpenSSH servers and give a recorded answer (``tests/broken_cluster.py`` says exactly what is served);
what tools cost is in ``fanout.py``.

Printed: wall time, slowest deadline (--host-timeout, or --deadline if that is longer) and their ratio, the
hosts by what the report says of each against what each is, the controller's peak memory, threads and
descriptors. Exit code 1 if a host is missing or called what it is not. ``--healthy`` measures the hosts
that answer alone as well: the last host starts about that long after the first, and one that stops half-way
ends only its whole deadline later, so the ratio says something where that part is a tenth of the deadline.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.broken_cluster import BrokenCluster


@dataclass(frozen=True)
class Measured:
    """One run of verify: its seconds, its report, and the most that its process held."""

    seconds: float
    code: int
    report: dict[str, Any]
    peak_mib: float
    threads: int
    descriptors: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--host-timeout", type=float, default=300.0)
    parser.add_argument("--deadline", type=float, help="seconds for the whole run (default: none)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--healthy", action="store_true", help="also measure the hosts that answer alone")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        BrokenCluster(options.hosts, Path(name), options.seed) as here,
    ):
        print(f"{options.hosts} hosts: {told(collections.Counter(host.kind for host in here.hosts))}")
        print(f"{options.width} at a time, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
        arguments = ["--width", str(options.width), "--host-timeout", str(options.host_timeout)]
        slowest_s = options.host_timeout
        if options.deadline:
            arguments += ["--deadline", str(options.deadline)]
            slowest_s = max(slowest_s, options.deadline)
        if options.healthy:
            alone = verify(here.inventory, Path(name), [*arguments, "--tags", "answers"])
            print(f"the {answered(alone.report)} that answer, alone: {alone.seconds:.1f} s", flush=True)
        run = verify(here.inventory, Path(name), arguments)
        seen, wrong = here.account(run.report)
        print(f"wall {run.seconds:.1f} s, slowest deadline {slowest_s:g} s, exit {run.code}")
        print(f"ratio {run.seconds / slowest_s:.3f}")
        print(f"accounted for: {sum(seen.values())} of {options.hosts}: {told(seen)}")
        print(
            f"controller: peak {run.peak_mib:.0f} MiB, {run.threads} threads, {run.descriptors} descriptors"
        )
        for line in wrong[:10]:
            print(f"WRONG: {line}")
    sys.exit(1 if wrong else 0)


def told(counts: collections.Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())


def verify(inventory: Path, folder: Path, arguments: Sequence[str]) -> Measured:
    """Run ``ascendctl verify`` on the hosts."""
    report = folder / "report.json"
    # The recorded answer knows nothing of pings between devices.
    argv = [sys.executable, "-m", "ascendctl", "verify", "-i", str(inventory), "--format", "json"]
    argv += ["--mesh", "off"]
    with report.open("wb") as stream:
        started = time.perf_counter()
        process = subprocess.Popen([*argv, *arguments], stdout=stream, stderr=subprocess.DEVNULL)
        with Most(process.pid) as most:
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    document = json.loads(report.read_text())
    peak_mib = usage.ru_maxrss / 1024
    return Measured(seconds, process.returncode, document, peak_mib, most.threads, most.descriptors)


def answered(report: dict[str, Any]) -> int:
    return sum(cell["check"] == "reachable" and cell["status"] == "pass" for cell in report["results"])


class Most:
    """The most threads and descriptors that a process had, looked at five times a second."""

    def __init__(self, pid: int) -> None:
        self.threads = self.descriptors = 0
        self._process = Path(f"/proc/{pid}")
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Most:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._leave.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._leave.wait(0.2):
            with contextlib.suppress(OSError):
                found = re.search(r"^Threads:\s*(\d+)", (self._process / "status").read_text(), re.MULTILINE)
                self.threads = max(self.threads, int(found[1]) if found else 0)
                self.descriptors = max(self.descriptors, sum(1 for _ in (self._process / "fd").iterdir()))


if __name__ == "__main__":
    main()
