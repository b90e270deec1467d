"""Start time of ``ascendctl --help`` next to a bare interpreter's, measured in turn in one run.

python benchmarks/start.py [--runs 15]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time


def seconds(argv: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    bare, ours = [sys.executable, "-c", "pass"], [sys.executable, "-m", "ascendctl", "--help"]
    seconds(bare), seconds(ours)  # caches warm
    pairs = [(seconds(bare), seconds(ours)) for _ in range(runs)]
    bare_s = statistics.median(b for b, _ in pairs)
    ours_s = statistics.median(o for _, o in pairs)
    print(f"bare interpreter  {bare_s * 1000:7.1f} ms (median of {runs})")
    print(f"ascendctl --help  {ours_s * 1000:7.1f} ms")
    print(f"ratio             {statistics.median(o / b for b, o in pairs):7.2f}")


if __name__ == "__main__":
    main()
