"""What changed between two runs of verify: pure, run and run in, changes out.

A finding is *cleared* only where the newer run looked at the very part and found it well. One that is
gone because nobody looked (a host that did not answer, a part that the newer run does not hold) is *no
longer looked at*; one that the inventory waives now, or that another finding explains now, is that.

Two runs may hold the same part in cells of different kinds: of a host that does not answer, a check
has one cell on the host in place of one per device. Such cells stand in for each other here, so that
those devices were looked at before and are not now, rather than gone.

Error counters (link flaps, damaged packets, memory errors) are a further part, for what came and went
between the runs leaves no cell behind. One that grew by faults weighs as much as a cell that newly fails,
one of errors that were corrected or repeated as much as one that newly warns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from ascendctl.report.difference_counters import (
    CounterDifference,
    LastCounters,
    compare_counters,
    remember_counters,
)
from ascendctl.report.folding import hosts_of, numbers_masked
from ascendctl.report.printable import storable
from ascendctl.results import CellKey, ExitCode, Result, Run, Status, SubjectKind, host_subject


class Kind(str, Enum):
    """What happened to a cell."""

    NEW = "new"  # warn or fail now, and not when last looked at
    WORSE = "worse"  # from warn to fail
    BETTER = "better"  # from fail to warn
    CHANGED = "changed"  # as severe as before, with another value or other words
    UNCHANGED = "unchanged"  # found before, found now, the same
    SEEN_AGAIN = "seen-again"  # the same as when last looked at, after a time of not being looked at
    CLEARED = "cleared"  # found or waived when last looked at; looked at now, and well
    EXPLAINED = "explained"  # found before; another finding explains it now
    WAIVED = "waived"  # would fail, and the inventory waives it now
    NOT_APPLICABLE = "not-applicable"  # evaluated before, does not apply now
    NO_LONGER_LOOKED_AT = "no-longer-looked-at"  # evaluated before, not now
    NOT_LOOKED_AT = "not-looked-at"  # wanted now for the first time, and could not be looked at
    NEWLY_LOOKED_AT = "newly-looked-at"  # well now; not looked at before


@dataclass(frozen=True)
class Change:
    """One cell of the two runs. ``before`` and ``now`` are None where the run has nothing on that part.

    For what was not looked at for a while, ``before`` is what was seen when it last was. Where ``now``
    is of another subject, it stands in for the cell: a host for its devices, or a device for its host.
    """

    kind: Kind
    key: CellKey
    before: Result | None
    now: Result | None

    @property
    def was_found(self) -> bool:
        return self.before is not None and _state(self.before) is _State.FOUND

    @property
    def in_numbers_only(self) -> bool:
        """Whether it says the same as before but for numbers in it."""
        if self.before is None or self.now is None or self.before.status is not self.now.status:
            return False
        pairs = zip(_said(self.before), _said(self.now), strict=True)
        return all(numbers_masked(before) == numbers_masked(now) for before, now in pairs)


@dataclass(frozen=True)
class Difference:
    """Two runs, every cell in which they differ or that both found something on, the counters that moved."""

    old: Run
    new: Run
    changes: tuple[Change, ...]
    hosts_added: tuple[str, ...]
    hosts_removed: tuple[str, ...]
    counters: CounterDifference = field(default_factory=CounterDifference)

    def of(self, *kinds: Kind) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.kind in kinds)

    def exit_code(self, *, strict: bool = False) -> ExitCode:
        """What the newer run means to somebody who knows the older one.

        1 where a cell fails that did not when last looked at (``strict``: or warns), or a counter of
        faults grew (``strict``: or of corrected ones); 3 where something is not looked at that was, or
        that is wanted for the first time; 4 where ascendctl itself newly failed on a cell; 130 where the
        newer run was interrupted. The first that holds of 130, 4, 1, 3, 0.
        """
        if self.new.interrupted:
            return ExitCode.INTERRUPTED
        unlooked = self.of(Kind.NO_LONGER_LOOKED_AT, Kind.NOT_LOOKED_AT)
        if any(change.now is not None and change.now.status is Status.ERROR for change in unlooked):
            return ExitCode.INTERNAL
        found = [change.now for change in self.of(Kind.NEW, Kind.WORSE) if change.now is not None]
        if any(strict or cell.status is Status.FAIL for cell in found):
            return ExitCode.FOUND_WRONG
        if self.counters.grown(Status.FAIL) or (strict and self.counters.grown(Status.WARN)):
            return ExitCode.FOUND_WRONG
        return ExitCode.NOT_ENOUGH if unlooked else ExitCode.OK


@dataclass(frozen=True)
class LastSeen:
    """What is known from a series of runs: each cell as last judged, each counter as last read."""

    cells: Mapping[CellKey, Result] = field(default_factory=dict)
    counters: LastCounters = field(default_factory=dict)


def compare(old: Run, new: Run, last_seen: LastSeen | None = None) -> Difference:
    """What changed from one run to a newer one; nothing is told of what was well and still is.

    ``last_seen``, for a series of runs: per cell and counter that the older run did not judge or read,
    what was seen when one last did (`remember`). With it, what outlasts an outage is not new, what ends in
    one is cleared, and what was counted meanwhile is told.
    """
    before, now = _Cells(old), _Cells(new)
    known = last_seen or LastSeen()
    seen = known.cells
    keys = dict.fromkeys([*now.by_key, *before.by_key])
    found = (_change(key, before, now, seen.get(key)) for key in keys)
    old_hosts, new_hosts = _hosts(old), _hosts(new)
    return Difference(
        old=old,
        new=new,
        changes=tuple(change for change in found if change is not None),
        hosts_added=tuple(host for host in new_hosts if host not in old_hosts),
        hosts_removed=tuple(host for host in old_hosts if host not in new_hosts),
        counters=compare_counters(old, new, known.counters),
    )


def remember(last_seen: LastSeen, run: Run) -> LastSeen:
    """What `compare` has to know of the time before ``run``, for the run that comes after it.

    Of the hosts of the run only, so that it stays bounded while an inventory changes.
    """
    hosts = set(_hosts(run))
    kept = {key: cell for key, cell in last_seen.cells.items() if hosts.issuperset(hosts_of(key.subject))}
    for cell in run.results:
        if _judged(cell):
            kept[cell.key] = cell
        elif not cell.wanted:
            kept.pop(cell.key, None)
    counters = {key: known for key, known in last_seen.counters.items() if key[0] in hosts}
    return LastSeen(kept, remember_counters(counters, run))


def limited_to(run: Run, hosts: Collection[str], between: Collection[str] = ()) -> Run:
    """The run as if only these hosts had been asked.

    ``between``: ids of the checks that compare hosts. What they said among all hosts is not what they
    would have said among these, so their cells are left out.
    """
    wanted = frozenset(hosts)
    return replace(
        run,
        results=tuple(
            cell
            for cell in run.results
            if cell.check not in between and wanted.issuperset(hosts_of(cell.subject))
        ),
        hosts=tuple(note for note in run.hosts if note.name in wanted),
        counters=tuple(counters for counters in run.counters if counters.host in wanted),
    )


class _State(Enum):
    """What a cell tells of its part; the first three were seen on the part itself."""

    FOUND = "found"
    WAIVED = "waived"
    WELL = "well"
    EXPLAINED = "explained"
    NOT_WANTED = "not wanted"
    UNLOOKED = "unlooked"
    ABSENT = "absent"


_BY_STATUS = {
    Status.PASS: _State.WELL,
    Status.WARN: _State.FOUND,
    Status.FAIL: _State.FOUND,
    Status.WAIVED: _State.WAIVED,
    Status.NOT_APPLICABLE: _State.NOT_WANTED,
    Status.UNKNOWN: _State.UNLOOKED,
    Status.ERROR: _State.UNLOOKED,
}
_EVALUATED = (_State.FOUND, _State.WAIVED, _State.WELL, _State.EXPLAINED)


def _state(cell: Result | None) -> _State:
    if cell is None:
        return _State.ABSENT
    if cell.status is Status.SKIPPED:
        return _State.EXPLAINED if cell.evaluated else _State.UNLOOKED
    return _BY_STATUS[cell.status]


def _judged(cell: Result | None) -> bool:
    return _state(cell) in (_State.FOUND, _State.WAIVED, _State.WELL)


class _Cells:
    """The cells of a run by key, and those that stand in for one that the run does not hold."""

    def __init__(self, run: Run) -> None:
        self.by_key = {cell.key: cell for cell in run.results}
        self._of_devices: dict[tuple[str, str], list[Result]] = defaultdict(list)
        for cell in run.results:
            if cell.subject.kind is SubjectKind.DEVICE and cell.subject.host is not None:
                self._of_devices[cell.check, cell.subject.host].append(cell)

    def stand_in(self, key: CellKey) -> Result | None:
        """For a device its host's cell of the same check; for a host the cell of its worst known device."""
        host = key.subject.host
        if host is None or key.subject.kind not in (SubjectKind.HOST, SubjectKind.DEVICE):
            return None
        if key.subject.kind is SubjectKind.DEVICE:
            return self.by_key.get(CellKey(key.check, host_subject(host)))
        return min(self._of_devices[key.check, host], key=_least_known, default=None)


def _least_known(cell: Result) -> int:
    order = (_State.UNLOOKED, _State.FOUND, _State.EXPLAINED, _State.WAIVED, _State.WELL, _State.NOT_WANTED)
    return order.index(_state(cell))


def _change(key: CellKey, old: _Cells, new: _Cells, seen: Result | None) -> Change | None:
    before, now = old.by_key.get(key), new.by_key.get(key)
    old_state, new_state = _state(before), _state(now)
    if before is None:
        before = old.stand_in(key)
        old_state = _stood_in(_state(before))
        if key.subject.kind is SubjectKind.HOST and before is not None and new_state is _State.UNLOOKED:
            return None  # told of each device that it stands in for
    if now is None:
        now = new.stand_in(key)
        new_state = _stood_in(_state(now))
        if key.subject.kind is SubjectKind.HOST and new_state is _State.EXPLAINED:
            new_state = _State.WELL  # its devices were judged one by one, which tells for each what it is
    last = before if old_state in (_State.FOUND, _State.WAIVED, _State.WELL) else seen
    kind = _kind(old_state, new_state, last, now)
    if kind is None or (kind is Kind.NEWLY_LOOKED_AT and key not in new.by_key):
        return None
    return Change(kind, key, last or before, now)


def _stood_in(state: _State) -> _State:
    """What a cell says of the part that it stands in for: a finding on another part only explains."""
    return _State.EXPLAINED if state in (_State.FOUND, _State.WAIVED) else state


def _kind(old: _State, new: _State, last: Result | None, now: Result | None) -> Kind | None:
    """``last``: what was seen when it was last judged, in the older run or before it."""
    last_state = _state(last)
    if new is _State.FOUND:
        if last is None or now is None or last_state is not _State.FOUND:
            return Kind.NEW
        kind = _shift(last, now)
        return Kind.SEEN_AGAIN if kind is Kind.UNCHANGED and old is not _State.FOUND else kind
    if new is _State.WELL:
        if last_state in (_State.FOUND, _State.WAIVED):
            return Kind.CLEARED
        return Kind.NEWLY_LOOKED_AT if old in (_State.UNLOOKED, _State.ABSENT, _State.NOT_WANTED) else None
    if new is _State.WAIVED:
        return None if last_state is _State.WAIVED else Kind.WAIVED
    if new is _State.EXPLAINED:
        return Kind.EXPLAINED if old is _State.FOUND else None
    if new is _State.NOT_WANTED:
        return Kind.NOT_APPLICABLE if old in _EVALUATED or last_state is _State.FOUND else None
    if old in _EVALUATED:
        return Kind.NO_LONGER_LOOKED_AT
    return Kind.NOT_LOOKED_AT if new is _State.UNLOOKED and old is not _State.UNLOOKED else None


def _shift(before: Result, now: Result) -> Kind:
    if before.status is not now.status:
        return Kind.WORSE if now.status is Status.FAIL else Kind.BETTER
    return Kind.UNCHANGED if _said(before) == _said(now) else Kind.CHANGED


def _said(cell: Result) -> tuple[str, str, str]:
    """In the form that a report stores: a run read back from one compares equal to the run itself."""
    return (storable(cell.message), storable(cell.expected), storable(cell.actual))


def _hosts(run: Run) -> dict[str, None]:
    """Every host of a run, in its order; of a report without notes those that its cells lie on."""
    noted = [note.name for note in run.hosts]
    return dict.fromkeys(noted or [host for cell in run.results for host in hosts_of(cell.subject)])
