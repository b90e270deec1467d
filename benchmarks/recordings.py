"""Recordings for benchmarks: the demo's cluster, and a cluster of any size with a fault of each severity.

    python benchmarks/recordings.py demo DIR
    python benchmarks/recordings.py large DIR [--hosts 1000]

``demo`` verifies the demo's eight simulated servers over SSH and records them.

``large`` is a recording of A3 servers, 16 devices each. To run the probe's script on a thousand simulated
hosts takes more than half an hour of one core, so only one host of every kind runs it, and the others are
cloned from the one of their kind: which commands were asked, which had to be killed and what was not asked
after that is copied. What each tool answers is not: it is asked of the simulator for that very host, so
names, addresses, neighbours, super pod ids and counters are every host's own. The kinds come in turns of a
hundred hosts, see `KINDS`. One host in five hundred is entered as one on which ascendctl itself failed, as
verify records it where its own transport raises: bytes of a host never lead to an ``error`` cell.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime as dt
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ascendctl.cli import run
from ascendctl.facts import Expectation, Profile, Reach, ReachStatus
from ascendctl.inventory import Waiver
from ascendctl.probe.bundle import HostRecord, Recorder
from ascendctl.probe.capture import HostCapture, decode
from ascendctl.probe.catalogue import BY_ID, commands_of
from ascendctl.probe.script import allowed, build_script, new_nonce
from ascendctl.results import ExitCode
from ascendctl.sim.cluster import SimCluster
from ascendctl.sim.demo import DEMO_SPEC
from ascendctl.sim.faults import cluster_of
from ascendctl.sim.kinds import TOOLS
from ascendctl.sim.model import Cluster, Host
from ascendctl.sim.render import RenderedHost, render_cluster
from ascendctl.sim.spec import make_spec
from ascendctl.sim.tools import answer

TURN = 100
ASKED_AT_ONCE = 8

# Which host of every hundred has which fault; all others are healthy. The comments say what it shows as.
KINDS: dict[int, dict[str, Any]] = {
    7: {"kind": "ssh-refused"},  # unknown, and all else skipped, not looked at
    13: {"kind": "link-down", "device": 3},  # fail, and what it explains skipped
    14: {"kind": "link-down", "device": 5},  # the same, waived
    21: {"kind": "net-health", "device": 2, "value": "Init"},  # warn
    34: {"kind": "tls-unreadable", "device": 4},  # unknown
    42: {"kind": "npu-health", "device": 3, "value": "Warning"},  # warn
    55: {"kind": "hccn-conf-stale", "device": 7},  # fail
    68: {"kind": "npu-missing", "device": 2},  # fail, on the host as a whole
    77: {"kind": "command-hang", "device": 6, "value": "ignores-term"},  # unknown, then not looked at
    83: {"kind": "ip-missing", "value": "live"},  # fail on every device
    91: {"kind": "no-tool", "value": "hccn_tool"},  # fail, and all that wants the tool skipped
}
WAIVED = 14
FAILED_OURSELVES = (98, 500)  # this one of so many hosts


@dataclass(frozen=True)
class Asked:
    """A host that ran the script: its state, what it sent, when it was sent the script."""

    state: Host
    stream: bytes
    sent_at: float
    duration_s: float
    clock_received_at: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("which", choices=("demo", "large"))
    parser.add_argument("directory", type=Path)
    parser.add_argument("--hosts", type=int, default=1000)
    options = parser.parse_args()
    if options.which == "demo":
        record_demo(options.directory)
    else:
        record_large(options.directory, options.hosts)


def record_demo(directory: Path) -> None:
    """Verify the demo's cluster and record it."""
    with SimCluster(DEMO_SPEC) as sim:
        inventory = str(sim.inventory_path)
        code = run(["verify", "--inventory", inventory, "--record", str(directory), "--quiet"])
    if code != ExitCode.FOUND_WRONG:  # its faults
        raise SystemExit(code)


def record_large(directory: Path, hosts: int) -> None:
    """A recording of so many A3 servers; ``directory`` is new or empty."""
    names = make_spec(generation="a3", hosts=hosts).host_names
    faults = [
        {"host": name, **KINDS[number % TURN]} for number, name in enumerate(names) if number % TURN in KINDS
    ]
    cluster = cluster_of(make_spec(generation="a3", hosts=hosts, seed=1, faults=faults))
    asked = ask_one_of_each()
    waived = frozenset(name for number, name in enumerate(names) if number % TURN == WAIVED)
    until = dt.date.today() + dt.timedelta(days=30)
    waivers = [Waiver("link", waived, None, until, "modules are ordered")] if waived else []
    recorder = Recorder(directory, waivers, dt.datetime.now(dt.timezone.utc))
    records = []
    for number, host in enumerate(cluster.hosts):
        turn = number % TURN
        reach = _not_reached(number, host)
        if reach is not None:
            records.append(HostRecord(host.name, Expectation(group=_group(number)), reach))
            continue
        template = asked[turn if turn in KINDS else None]
        recorder.writer(host.name)(cloned(template, host, cluster))
        recorder.close_host(host.name)
        records.append(
            HostRecord(
                host.name,
                Expectation(nic=host.nic, group=_group(number)),
                Reach(ReachStatus.REACHED),
                HostCapture(clock_received_at=template.clock_received_at),
                template.sent_at,
                template.duration_s,
            )
        )
    recorder.finish(records)
    if recorder.problem:
        raise SystemExit(recorder.problem)


def ask_one_of_each() -> dict[int | None, Asked]:
    """One host of each kind that can be reached, and a healthy one (None), run the probe's script."""
    kinds = [None, *(turn for turn, fault in KINDS.items() if fault["kind"] != "ssh-refused")]
    faults = [{"host": f"node{number:02d}", **KINDS[turn]} for number, turn in enumerate(kinds, 1) if turn]
    spec = make_spec(generation="a3", hosts=len(kinds), seed=1, faults=faults)
    script = build_script(new_nonce(), sudo=False, commands=allowed(commands_of(Profile.STANDARD)))

    def ask(host: RenderedHost) -> Asked:
        sent_at = time.time()
        stream = subprocess.run(
            ["/bin/sh", "-s"],
            input=script,
            stdout=subprocess.PIPE,
            env={"PATH": f"{host.bin}:/usr/bin:/bin", "TMPDIR": str(host.tmp)},
            check=False,
        ).stdout
        # Its clock is this machine's: the answer is taken to have arrived as soon as it was made.
        told = decode(stream).answers
        clock = next((float(one.stdout) for (id, _), one in told.items() if id == "clock"), None)
        return Asked(host.state, stream, sent_at, time.time() - sent_at, clock)

    with (
        tempfile.TemporaryDirectory() as folder,
        concurrent.futures.ThreadPoolExecutor(ASKED_AT_ONCE) as pool,
    ):
        rendered = render_cluster(spec, Path(folder), cheap=True)
        return dict(zip(kinds, pool.map(ask, rendered), strict=True))


_ANSWER = re.compile(
    rb"(?P<head>\n@\w{32} begin (?P<id>\S+) (?P<npu>\S+) (?P<chip>\S+) (?P<phy>\S+) (?P<code>\d+) \d+\n)"
    rb"(?P<stdout>.*?)(?P<middle>\n@\w{32} stderr\n)(?P<stderr>.*?)(?=\n@\w{32} end\n)",
    re.DOTALL,
)


def cloned(template: Asked, host: Host, cluster: Cluster) -> bytes:
    """The template's stream with every answer that of ``host``, which has the same fault."""

    def answered(match: re.Match[bytes]) -> bytes:
        command = BY_ID[match["id"].decode()]
        stdout, stderr = match["stdout"], match["stderr"]
        code = int(match["code"])
        if command.tool in TOOLS:
            line = command.text(
                **{name: int(match[name]) for name in ("npu", "chip", "phy") if match[name] != b"-"}
            )
            given = answer(host, line.split(), cluster)
            if code == given.exit_code:  # else it was killed
                stdout, stderr = given.stdout, given.stderr
        elif command.id == "hccn-conf" and host.hccn_conf is not None:
            stdout = host.hccn_conf.encode()
        else:
            for old, new in (
                (template.state.name, host.name),
                (template.state.nic_address, host.nic_address),
            ):
                stdout = stdout.replace(old.encode(), new.encode())
        return match["head"] + stdout + match["middle"] + stderr

    return _ANSWER.sub(answered, template.stream)


def _not_reached(number: int, host: Host) -> Reach | None:
    turn, every = FAILED_OURSELVES
    if number % every == turn:
        return Reach(
            ReachStatus.LOST,
            "ascendctl itself failed on this host (RuntimeError: put in by the benchmark)",
            internal=True,
        )
    if host.ssh == "refused":
        return Reach(ReachStatus.REFUSED, f"{host.nic_address} port 22 refused the connection")
    return None


def _group(number: int) -> str:
    return f"pod-{number // 48}"


if __name__ == "__main__":
    main()
