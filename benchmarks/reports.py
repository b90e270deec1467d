"""What the reports of a run cost: size and time of every format, peak memory, and whether all are valid.

    python benchmarks/reports.py [--hosts 1000] [--only demo|large|worst] [--keep DIR] [--recording DIR]

demo   the demo's eight simulated servers, verified over SSH, recorded, and replayed.
large  a recording of so many hosts with 16 devices each (see recordings.py), replayed.
worst  200,000 cells that fail, each with a message, a remedy and evidence unlike any other's.

For demo and large, ``ascendctl verify --replay DIR --output OUT`` runs in a process of its own, which tells
its own peak memory (ru_maxrss); a second process writes every format alone, for the times. The files of the
first are validated as valid_reports.py says. Bounds: 500 MiB, 15 MiB and 3 s for the page. The worst
case has the bound on the page's size alone: its run is made in the process that writes it.
Ends with exit code 1 where a bound does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

# This process stays small: a child's ru_maxrss starts from what its parent held at the fork.
if TYPE_CHECKING:
    from ascendctl.results import Run

MIB = 1024 * 1024
MOST_MEMORY_MIB = 500
MOST_PAGE_MIB = 15
MOST_READY_S = 3.0
WORST_CELLS = 200_000
CELLS_PER_HOST = 200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--hosts", type=int, default=1000, help="of the large recording")
    parser.add_argument("--only", choices=("demo", "large", "worst"))
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a new folder to leave all files in")
    parser.add_argument("--recording", type=Path, metavar="DIR", help="for large, instead of making one")
    parser.add_argument("--child", nargs=3, metavar=("WHAT", "FROM", "TO"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        what, source, target = options.child
        print(json.dumps(CHILDREN[what](Path(source), Path(target))))
        return 0
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        held = [_case(name, folder / name, options) for name in ("demo", "large", "worst")
                if options.only in (None, name)]  # fmt: skip
    return 0 if all(held) else 1


def _case(name: str, folder: Path, options: argparse.Namespace) -> bool:
    """Measure one case and print it; whether its bounds hold."""
    folder.mkdir()
    out, bounds = folder / "out", []
    print(f"\n{name}")
    if name == "worst":
        cost = _child("worst", folder, out)
        formats = cost["formats"]
    else:
        recording = options.recording if name == "large" and options.recording else folder / "recording"
        if recording == folder / "recording":
            _run("recordings.py", name, str(recording), *_sized(name, options.hosts))
        cost = _child("verify", recording, out)
        formats = _child("formats", recording, folder / "alone")
        bounds.append((f"peak memory {cost['peak_mib']:.0f} MiB", cost["peak_mib"] <= MOST_MEMORY_MIB))
        print(f"  verify --replay --output: {cost['seconds']:.1f} s, exit code {cost['exit_code']}")
    seen = json.loads(_run("valid_reports.py", str(out)))
    print(f"  {seen['hosts']:,} hosts, {sum(seen['cells'].values()):,} cells: "
          + ", ".join(f"{count:,} {status}" for status, count in sorted(seen["cells"].items())))  # fmt: skip
    for each, seconds in formats.items():
        print(f"  {each:<12}{seconds:>7.2f} s")
    for path in sorted(out.glob("[!.]*")):
        print(f"  {path.name:<20}{path.stat().st_size / MIB:>9.2f} MiB")
    print(f"  valid: JSON, JUnit ({seen['junit_cases']:,} cases), Prometheus, HTML, host lists; same counts")
    for section, (findings, cells) in seen["left_out"].items():
        print(f"  page: {findings:,} findings of {section} with {cells:,} cells left out of the list")
    if name == "worst":
        print(f"  peak memory {cost['peak_mib']:.0f} MiB, of which the run took {cost['run_mib']:.0f} MiB")
    page_mib = (out / "report.html").stat().st_size / MIB
    bounds.append((f"page {page_mib:.2f} MiB", page_mib <= MOST_PAGE_MIB))
    bounds.append((f"page ready after {seen['ready_s']:.2f} s", seen["ready_s"] <= MOST_READY_S))
    for told, holds in bounds:
        print(f"  {'ok' if holds else 'TOO MUCH'}: {told}")
    return all(holds for _, holds in bounds)


def _sized(name: str, hosts: int) -> list[str]:
    return ["--hosts", str(hosts)] if name == "large" else []


def _child(what: str, source: Path, target: Path) -> Any:
    return json.loads(_run("reports.py", "--child", what, str(source), str(target)))


def _run(program: str, *arguments: str) -> str:
    """The last line that the program printed."""
    done = subprocess.run(
        [sys.executable, str(HERE / program), *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{program} {' '.join(arguments)} ended with exit code {done.returncode}")
    return done.stdout.splitlines()[-1] if done.stdout else ""


# --- in a process of its own ----------------------------------------------------------------------


def _verify(recording: Path, out: Path) -> dict[str, float]:
    from ascendctl.cli import run

    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        code = run(["verify", "--replay", str(recording), "--output", str(out), "--quiet"])
    return {"exit_code": code, "seconds": time.perf_counter() - started, "peak_mib": _peak_mib()}


def _formats(recording: Path, out: Path) -> dict[str, float]:
    """Seconds of writing, per format."""
    from ascendctl.probe.bundle import load
    from ascendctl.verify import replay

    return _timed(replay(load(recording)), lambda name: out / name)


def _timed(run: Run, folder_of: Callable[[str], Path]) -> dict[str, float]:
    from ascendctl.report.output import available_formats, write_reports
    from ascendctl.results import exit_code

    code = exit_code(run.results)
    seconds = {}
    for one in available_formats():
        started = time.perf_counter()
        write_reports(run, code, folder_of(one.value), [one])
        seconds[one.value] = time.perf_counter() - started
    return seconds


def _worst(folder: Path, out: Path) -> dict[str, Any]:
    from ascendctl.report.output import available_formats, write_reports
    from ascendctl.results import exit_code

    run = all_different(WORST_CELLS)
    run_mib = _peak_mib()
    seconds = _timed(run, lambda name: folder / "alone" / name)
    write_reports(run, exit_code(run.results), out, available_formats())
    return {"formats": seconds, "peak_mib": _peak_mib(), "run_mib": run_mib}


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


CHILDREN: dict[str, Callable[[Path, Path], Any]] = {"verify": _verify, "formats": _formats, "worst": _worst}


def all_different(cells: int) -> Run:
    """So many failed cells, `CELLS_PER_HOST` a host, of which no two texts fold into one."""
    import datetime as dt

    from ascendctl.results import HostNote, Result, Run, Status, Subject, SubjectKind

    results = []
    for number in range(cells):
        host, part = divmod(number, CELLS_PER_HOST)
        word = _word(number)  # of letters alone: texts that differ by numbers are folded
        results.append(
            Result(
                f"check-{part // 16}",
                Subject(SubjectKind.DEVICE, f"node{host + 1:04d}", part % 16 // 2, part % 2, part % 16),
                Status.FAIL,
                f"the port said <{word}> where it should not have",
                expected="UP",
                actual=word,
                consequence="Ranks of this device cannot connect to other hosts: HCCL ends with EI0006.",
                remedy=f"Look {word} up in the switch's log, then check the module and the cable.",
                command=f"hccn_tool -i {part % 16} -link -g",
                evidence=f"link status: {word} <up>\n" * 8,
            )
        )
    hosts = [
        HostNote(f"node{n + 1:04d}", devices=16, answered=True) for n in range(-(-cells // CELLS_PER_HOST))
    ]
    return Run(dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc), 61.5, tuple(results), tuple(hosts))


def _word(number: int) -> str:
    letters = ""
    while True:
        number, letter = divmod(number, 26)
        letters += chr(ord("a") + letter)
        if not number:
            return f"fault-{letters}"


if __name__ == "__main__":
    sys.exit(main())
