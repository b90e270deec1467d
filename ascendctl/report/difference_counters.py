"""Which error counters moved between two runs: pure, counters in, changes out.

A value smaller than before says that the counters of its group count from zero again: they were cleared,
the driver was loaded anew, or the host restarted. All of that group then counts from there, and what it
shows now has happened since. A group that was not read in either run is not compared: whether it was is
told by the cell of its check. One that was not read for a while is compared with when it last was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from ascendctl.counters import GROUPS, Counter
from ascendctl.results import DeviceCounters, Run, Status

DeviceKey = tuple[str, int]
"""A host's name and a physical id."""

LastCounters = Mapping[DeviceKey, tuple[DeviceCounters, ...]]
"""Per device what was last read of each group, the newest first; a group is in one of them only."""


class CounterKind(str, Enum):
    """What happened to a counter."""

    GROWN = "grown"
    RESTARTED = "restarted"  # its group counts from zero again; `growth` is what was counted since


@dataclass(frozen=True)
class CounterChange:
    """One counter of one device. ``growth``: the faults counted since ``before`` was read.

    ``elapsed_s``: seconds between the two readings. A growth of 0 is that of a restarted counter.
    """

    kind: CounterKind
    host: str
    device: int
    counter: Counter
    before: int
    now: int
    growth: int
    elapsed_s: float

    @property
    def severity(self) -> Status:
        return self.counter.severity

    @property
    def per_hour(self) -> float | None:
        """None where no time lies between the readings, or they are the wrong way round."""
        return self.growth * 3600 / self.elapsed_s if self.elapsed_s > 0 else None


@dataclass(frozen=True)
class CounterDifference:
    """The counters that moved, device by device. ``compared``: per group, on how many devices at all."""

    changes: tuple[CounterChange, ...] = ()
    compared: Mapping[str, int] = field(default_factory=dict)

    def grown(self, severity: Status) -> tuple[CounterChange, ...]:
        """Those that counted faults of this severity (``fail`` or ``warn``)."""
        return tuple(change for change in self.changes if change.growth and change.severity is severity)

    def restarted(self) -> tuple[CounterChange, ...]:
        return tuple(change for change in self.changes if change.kind is CounterKind.RESTARTED)


def compare_counters(old: Run, new: Run, last: LastCounters) -> CounterDifference:
    """What the counters of a newer run tell beside an older one. ``last``: see `remember_counters`."""
    known = remember_counters(last, old)
    changes: list[CounterChange] = []
    compared = dict.fromkeys(GROUPS, 0)
    for now in new.counters:
        for before in known.get((now.host, now.device), ()):
            for group in GROUPS:
                if group in before.groups and group in now.groups:
                    compared[group] += 1
                    changes += _told_once(_changes(before, now, group))
    return CounterDifference(tuple(changes), compared)


def remember_counters(last: LastCounters, run: Run) -> dict[DeviceKey, tuple[DeviceCounters, ...]]:
    """The counters last read of every device, by a run and all before it."""
    kept = dict(last)
    for now in run.counters:
        key = (now.host, now.device)
        kept[key] = (now, *_without(kept.get(key, ()), now.groups))
    return kept


def _without(known: Iterable[DeviceCounters], groups: Collection[str]) -> Iterator[DeviceCounters]:
    for one in known:
        rest = {group: counts for group, counts in one.groups.items() if group not in groups}
        if rest:
            yield replace(one, groups=rest)


def _changes(before: DeviceCounters, now: DeviceCounters, group: str) -> list[CounterChange]:
    old, new = before.groups[group], now.groups[group]
    if old == new:  # as it is on almost every device of a large cluster
        return []
    counts = [(one, old.get(one.name, 0), new.get(one.name, 0)) for one in GROUPS[group]]
    restarted = any(value < earlier for _, earlier, value in counts)
    kind = CounterKind.RESTARTED if restarted else CounterKind.GROWN
    elapsed_s = (now.read_at - before.read_at).total_seconds()
    changes = []
    for counter, earlier, value in counts:
        growth = counter.growth(earlier, value, restarted=restarted)
        if growth or value < earlier:
            changes.append(
                CounterChange(kind, now.host, now.device, counter, earlier, value, growth, elapsed_s)
            )
    return changes


def _told_once(changes: list[CounterChange]) -> Iterator[CounterChange]:
    growths = {change.counter.name: change.growth for change in changes}
    for change in changes:
        if change.growth > growths.get(change.counter.repeats, 0):
            yield change
        elif change.now < change.before:
            yield replace(change, growth=0)
