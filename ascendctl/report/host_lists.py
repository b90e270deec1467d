"""Which hosts passed: the lists for a scheduler, and the one rule behind them.

A host passes where something was looked at on it, nothing failed, and nothing that was wanted stayed
unknown. Not looked at is never passing; a finding that the inventory waives does not fail its host.
"""

from __future__ import annotations

from typing import TextIO

from ascendctl.report.folding import hosts_of
from ascendctl.report.printable import one_word
from ascendctl.results import Result, Run, Status


def fit_by_host(run: Run, *, strict: bool = False) -> dict[str, bool]:
    """Every host of the run, in its order → whether it passes. ``strict``: a warning fails it too.

    A link counts for both of its ends. What lies on no host (a switch, the cluster) counts for none,
    but a host with a cell that such a failure explains does not pass.
    """
    looked_at: set[str] = set()
    failing: set[str] = set()
    names = dict.fromkeys(note.name for note in run.hosts)
    for cell in run.results:
        hosts = hosts_of(cell.subject)
        names.update(dict.fromkeys(hosts))
        if cell.evaluated:
            looked_at.update(hosts)
        if _fails(cell, strict):
            failing.update(hosts)
    return {name: name in looked_at and name not in failing for name in names}


def write_passing(run: Run, exit_code: int, stream: TextIO, *, strict: bool = False) -> None:
    """The hosts that pass, one name a line."""
    _write(run, stream, strict, fit=True)


def write_failing(run: Run, exit_code: int, stream: TextIO, *, strict: bool = False) -> None:
    """All other hosts, one name a line."""
    _write(run, stream, strict, fit=False)


def _write(run: Run, stream: TextIO, strict: bool, *, fit: bool) -> None:
    for host, passes in fit_by_host(run, strict=strict).items():
        if passes is fit:
            stream.write(f"{one_word(host)}\n")


def _fails(cell: Result, strict: bool) -> bool:
    if cell.status is Status.SKIPPED:
        behind_no_host = cell.caused_by is not None and not hosts_of(cell.caused_by.subject)
        return not cell.evaluated or behind_no_host
    if cell.status is Status.WARN:
        return strict
    return cell.status in (Status.FAIL, Status.UNKNOWN, Status.ERROR)
