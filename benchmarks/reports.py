"""What writing the reports of a run costs: size, time and peak memory, per format and for all at once.

    python benchmarks/reports.py [--hosts 1000] [--devices 16] [--replay DIR]

The run is made of real results: every check of the registry on every host and device, some of them
failing, behind a cause, silent, warned of and waived. With --replay it is judged from a recording instead.
Each line is a process of its own, so that its peak memory (ru_maxrss) is its own; the first writes
nothing and shows what holding the run takes. The time is that of writing alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# The parent stays small: a child's ru_maxrss starts from what its parent held at the fork.
if TYPE_CHECKING:
    from ascendctl.results import Result, Run

MIB = 1024 * 1024
HOST_CHECKS = frozenset({"reachable", "tools", "versions", "npu-mapping", "npu-count", "hccn-conf"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--devices", type=int, default=16)
    parser.add_argument("--replay", type=Path, metavar="DIR", help="a recording, instead of a made-up run")
    parser.add_argument("--one", metavar="FORMATS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measure(options)))
        return
    print(f"{'':<12}{'size':>12}{'seconds':>10}{'peak memory':>14}{'above the run':>15}")
    held = 0
    for formats in ["", *_formats(), ",".join(_formats())]:
        arguments = [*sys.argv[1:], "--one", formats]
        done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, check=True)
        cost = json.loads(done.stdout)
        held = held or cost["peak"]
        if not formats:
            print(f"{cost['hosts']:,} hosts, {cost['cells']:,} cells")
        label = "the run" if not formats else "all" if "," in formats else formats
        print(
            f"{label:<12}{cost['size'] / MIB:>8.2f} MiB{cost['seconds']:>10.2f}"
            f"{cost['peak'] / MIB:>10.0f} MiB{(cost['peak'] - held) / MIB:>11.0f} MiB"
        )
        for name, size in cost["files"].items():
            print(f"    {name:<22}{size / MIB:>8.2f} MiB")


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Make the run, write its reports, tell what that took."""
    from ascendctl.report.output import ReportFormat, write_reports
    from ascendctl.results import exit_code

    run = _replayed(options.replay) if options.replay else synthetic(options.hosts, options.devices)
    code = exit_code(run.results)
    formats = [ReportFormat(name) for name in options.one.split(",") if name]
    files: dict[str, int] = {}
    started = time.perf_counter()
    seconds = 0.0
    if formats:
        with tempfile.TemporaryDirectory() as folder:
            paths = write_reports(run, code, Path(folder) / "out", formats)
            seconds = time.perf_counter() - started
            files = {path.name: path.stat().st_size for path in paths}
    return {
        "hosts": len(run.hosts),
        "cells": len(run.results),
        "files": files if len(files) > 1 else {},
        "size": sum(files.values()),
        "seconds": seconds,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def synthetic(hosts: int, devices: int) -> Run:
    """Of every hundred hosts one is silent, one has waived findings, nine have faults, ten warnings."""
    import datetime as dt

    from ascendctl.results import HostNote, Run

    names = [f"node{number:04d}" for number in range(1, hosts + 1)]
    results: list[Result] = []
    for number, name in enumerate(names):
        results += _host_results(number, name, devices)
    notes = [
        HostNote(
            name,
            group=f"pod-{number // 48}",
            accelerator="ascend",
            generation="a3",
            devices=0 if number % 100 == 7 else devices,
            answered=number % 100 != 7,
            details={
                "driver": "25.2.0",
                "firmware": "7.7.0.6.236",
                "clock offset": f"{number * 1e-4:+.3f} s",
            },
        )
        for number, name in enumerate(names)
    ]
    started = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc)
    return Run(started, 61.5, tuple(results), tuple(notes))


def _host_results(number: int, name: str, devices: int) -> list[Result]:
    from ascendctl.checks.registry import HOST_CHECKS as CHECKS
    from ascendctl.results import CellKey, Result, Status, Subject, SubjectKind, host_subject

    turn = number % 100
    whole = host_subject(name)
    ports = [Subject(SubjectKind.DEVICE, name, d // 2, d % 2, d) for d in range(devices)]
    cells: list[Result] = []
    for check in CHECKS:
        for subject in [whole] if check.id in HOST_CHECKS or turn == 7 else ports:
            command = f"hccn_tool -i {subject.device or 0} -{check.id} -g"
            evidence = f"{check.id} of {name} device {subject.device}: as the tool printed it\n" * 4
            if turn == 7:
                status = Status.UNKNOWN if check.id == "reachable" else Status.SKIPPED
                cause = None if check.id == "reachable" else CellKey("reachable", whole)
                cells.append(Result(check.id, subject, status, "no answer in 10 s", caused_by=cause))
            elif turn < 70 or turn >= 90 or check.id not in ("link", "gateway", "net-health", "tls"):
                cells.append(
                    Result(check.id, subject, Status.PASS, "as expected", command=command, evidence=evidence)
                )
            elif turn < 80 and check.id == "tls":
                cells.append(_found(check.id, subject, Status.WARN, command, evidence))
            elif turn == 80 and check.id == "link":
                cells.append(_found(check.id, subject, Status.WAIVED, command, evidence))
            elif turn > 80 and check.id == "link":
                cells.append(_found(check.id, subject, Status.FAIL, command, evidence))
            elif turn > 80 and check.id in ("gateway", "net-health"):
                cause = CellKey("link", subject)
                message = "explained by link: link is DOWN"
                cells.append(
                    Result(check.id, subject, Status.SKIPPED, message, caused_by=cause, root_fails=True)
                )
            else:
                cells.append(Result(check.id, subject, Status.NOT_APPLICABLE, "no RoCE on this port"))
    return cells


def _found(check: str, subject: object, status: object, command: str, evidence: str) -> Result:
    from ascendctl.results import Result, Status, Subject

    assert isinstance(subject, Subject) and isinstance(status, Status)
    return Result(
        check,
        subject,
        status,
        f"device {subject.device}: link is DOWN",
        expected="UP",
        actual="DOWN",
        consequence="Ranks of this device cannot connect to other hosts: HCCL ends with EI0006.",
        remedy="Check the optical module and the cable, then the port of the switch.",
        command=command,
        evidence=evidence,
    )


def _replayed(directory: Path) -> Run:
    from ascendctl.probe.bundle import load
    from ascendctl.verify import replay

    return replay(load(directory))


def _formats() -> list[str]:
    """Asked in a process of its own, so that this one stays small."""
    program = (
        "from ascendctl.report.output import available_formats\n"
        "print(*(one.value for one in available_formats()))"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, cwd=root)
    return done.stdout.decode().split()


if __name__ == "__main__":
    main()
