"""One ping of the rendered hccn_tool that may lose something, made from the cluster's table of devices.

A program for the stand-in to start (see `ascendctl.sim.pings`). It imports next to nothing, pathlib
included, so that it costs little more than the start of an interpreter.
"""

from __future__ import annotations

import sys
import time

from ascendctl.sim.ping_text import hccs_packets, hccs_text, roce_text
from ascendctl.sim.ways import End, Ways, number


def main(arguments: list[str]) -> int:
    """``TABLE COUNTER HOST DEVICE OPTION ADDRESS PACKETS WAIT FAILURE CODE``; gives the exit code.

    ``HOST`` counts from 0, ``COUNTER`` is the path of a file that counts how often this ping was made,
    ``WAIT`` the seconds that a lost packet takes, ``FAILURE`` and ``CODE`` what ``-ping`` says on standard
    error and leaves with when it lost one.
    """
    table, counter, host, device, option, address, packets, wait_s, failure, code = arguments
    target, count = number(address), int(packets)
    start, ways = _ways(table, int(host), int(device), target)
    attempt = _count_up(counter)
    if option == "-hccs_ping":
        fates = hccs_packets(ways.hccs_times_ns(start, target, count, attempt), count)
        lost = sum(outcome == "no-reply" for outcome, _ in fates)
        text, failed = hccs_text(start.device, address, fates), False
    else:
        times_us = ways.roce_times_us(start, target, count, attempt)
        times_ms = [None if time_us is None else time_us / 1000 for time_us in times_us]
        lost = times_ms.count(None)
        text, failed = roce_text(start.device, address, times_ms), lost > 0
    time.sleep(lost * float(wait_s))
    sys.stdout.write(text)
    sys.stdout.flush()
    if failed:
        sys.stderr.write(failure)
    return int(code) if failed else 0


def _ways(table: str, host: int, device: int, target: int) -> tuple[End, Ways]:
    """The device that pings, and the ways between those that the ping may concern."""
    with open(table, encoding="ascii") as file:  # noqa: PTH123
        seed, background_loss = file.readline().split()
        lines = file.readlines()
    me = f"{host} {device} "
    start = End.read(next(line for line in lines if line.startswith(me)))
    wanted = [f" {place} " for place in (target, start.address, start.vnic) if place is not None]
    ends = [End.read(line) for line in lines if any(place in line for place in wanted)]
    ends = [start if end.number == start.number else end for end in ends]
    return start, Ways(ends, int(seed), float(background_loss))


def _count_up(path: str) -> int:
    """How often this was called before with the same path, as far as the account may count."""
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123
            count = int(file.read())
    except OSError:
        count = 0
    try:
        with open(path, "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(str(count + 1))
    except OSError:
        pass
    return count
