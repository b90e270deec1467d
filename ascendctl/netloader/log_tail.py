"""The end of instances' logs, and what is written to them while one waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ascendctl.netloader.deployment_state import HostSeen, Seen
from ascendctl.netloader.fleet import Fleet
from ascendctl.netloader.host_scripts import LOG_PART_MOST_BYTES, Look
from ascendctl.netloader.standing import Recorded, recorded
from ascendctl.report.printable import shown_as_it_stands
from ascendctl.results import ExitCode

_BYTES_PER_LINE = 400
_EVERY_S = 2.0


def tails(
    fleet: Fleet,
    hosts: Sequence[str],
    deployment: str,
    instance: str | None,
    *,
    lines: int,
    write: Callable[[str], None],
    complain: Callable[[str], None],
    follow: bool,
) -> ExitCode:
    """``write`` gets the last lines of every log; with ``follow`` also what comes, until it is interrupted.

    130 where the asking was interrupted, 3 where a host could not be asked or nothing was found, else 0.
    Raises KeyboardInterrupt between two rounds of asking.
    """
    listed = fleet.listed(hosts)
    for host, answer in listed.items():
        if answer.reason:
            complain(f"{host}: {answer.reason}")
    found = [one for one in recorded(listed, deployment) if instance is None or one.seen.instance == instance]
    if fleet.stop.is_set():
        return ExitCode.INTERRUPTED
    if not found:
        which = deployment if instance is None else f"{instance} of {deployment}"
        complain(f"there is nothing of {which} on {len(listed)} host{'' if len(listed) == 1 else 's'}")
        return ExitCode.NOT_ENOUGH
    named = len(found) > 1
    code = ExitCode.NOT_ENOUGH if any(answer.reason for answer in listed.values()) else ExitCode.OK
    size = min(LOG_PART_MOST_BYTES, max(65536, lines * _BYTES_PER_LINE))
    answers = fleet.looked(_looks(found, {}, size))
    at: dict[int, int] = {}
    for number, one in enumerate(found):
        seen = _of(answers, one)
        if seen is None or seen.log is None:
            complain(f"{one.host}: {one.seen.instance} has no log that can be read")
            code = ExitCode.NOT_ENOUGH
            continue
        text = seen.log.content.decode("utf-8", "replace").splitlines()
        _write(text[-lines:], one, named, write)
        at[number] = seen.log.offset + len(seen.log.content)
    while follow and at and not fleet.stop.is_set():
        time.sleep(_EVERY_S)
        kept = {number: found[number] for number in at}
        answers = fleet.looked(_looks(list(kept.values()), dict(enumerate(at.values())), LOG_PART_MOST_BYTES))
        for number, one in kept.items():
            seen = _of(answers, one)
            if seen is None or seen.log is None:
                continue
            if seen.log.size_bytes < at[number]:
                at[number] = 0  # it was started again
                continue
            # Up to the last whole line: half a character is not shown.
            whole, end, _ = seen.log.content.rpartition(b"\n")
            _write(whole.decode("utf-8", "replace").splitlines() if end else [], one, named, write)
            at[number] += len(whole) + len(end)
    return ExitCode.INTERRUPTED if fleet.stop.is_set() else code


def _looks(found: Sequence[Recorded], at: dict[int, int], size: int) -> dict[str, list[Look]]:
    looks: dict[str, list[Look]] = {}
    for number, one in enumerate(found):
        look = Look(one.seen.deployment, one.seen.instance, at.get(number), size)
        looks.setdefault(one.host, []).append(look)
    return looks


def _of(answers: dict[str, HostSeen], one: Recorded) -> Seen | None:
    parts = answers[one.host].instances if one.host in answers else ()
    return next((part for part in parts if part.instance == one.seen.instance), None)


def _write(lines: Sequence[str], one: Recorded, named: bool, write: Callable[[str], None]) -> None:
    head = f"{one.seen.instance}: " if named else ""
    for line in lines:
        write(head + shown_as_it_stands(line))
