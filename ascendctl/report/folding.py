"""Findings folded: equal ones over hosts and devices become one, consequences go under their cause.

Nothing is lost and nothing counted twice: every cell that is a finding stands in exactly one
`Finding`, every skipped cell is counted by the finding that holds its root cause.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ascendctl.report.printable import shown
from ascendctl.results import CellKey, Result, Status, Subject, SubjectKind


@dataclass(frozen=True)
class Place:
    """Where a finding shows: hosts (folded by `names`) and the same part on each of them.

    ``part`` is text such as ``device 0-7``; empty for the hosts as a whole.
    """

    hosts: tuple[str, ...]
    part: str
    cells: int

    def text(self) -> str:
        return " ".join(text for text in (fold_names(self.hosts), self.part) if text)


@dataclass(frozen=True)
class Finding:
    """Cells of one check that say the same thing, apart from numbers.

    ``evaluated_behind`` and ``unevaluated_behind`` count, per check, the skipped cells whose root
    cause is one of these cells: those judged by that cause, and those nobody could look at.
    """

    status: Status
    cells: tuple[Result, ...]
    evaluated_behind: Mapping[str, int] = field(default_factory=dict)
    unevaluated_behind: Mapping[str, int] = field(default_factory=dict)

    @property
    def check(self) -> str:
        return self.cells[0].check

    @property
    def message(self) -> str:
        return _varied([cell.message for cell in self.cells])

    @property
    def expected(self) -> str:
        return _varied([cell.expected for cell in self.cells])

    @property
    def actual(self) -> str:
        return _varied([cell.actual for cell in self.cells])

    @property
    def consequence(self) -> str:
        return _varied([cell.consequence for cell in self.cells])

    @property
    def remedy(self) -> str:
        """Of the first cell, marked as an example where it differs: a command line must stay whole."""
        return _first([cell.remedy for cell in self.cells])

    @property
    def command(self) -> str:
        """Of the first cell, marked as an example where it differs."""
        return _first([cell.command for cell in self.cells])

    @property
    def behind(self) -> int:
        return sum(self.evaluated_behind.values()) + sum(self.unevaluated_behind.values())

    def hosts(self) -> set[str]:
        return {host for cell in self.cells for host in hosts_of(cell.subject)}

    def places(self) -> tuple[Place, ...]:
        """Where it shows, each cell in exactly one place, the largest place first."""
        return fold_places(cell.subject for cell in self.cells)


@dataclass(frozen=True)
class Folded:
    """What is to be told of a run. ``findings`` are fail, error and warn, worst and largest first;
    ``unlooked`` wanted cells that could not be looked at; ``waived`` accepted ones."""

    findings: tuple[Finding, ...]
    unlooked: tuple[Finding, ...]
    waived: tuple[Finding, ...]


SEVERITY = (Status.FAIL, Status.ERROR, Status.WARN)


def fold_results(results: Iterable[Result]) -> Folded:
    """Fold the cells of a run; passes and not-applicable cells are nothing to tell."""
    cells = [cell for cell in results if cell.status not in (Status.PASS, Status.NOT_APPLICABLE)]
    by_key = {cell.key: cell for cell in cells}
    groups: dict[tuple[str, ...], list[Result]] = defaultdict(list)
    behind: dict[CellKey, list[Result]] = defaultdict(list)
    template = _Templates()
    for cell in cells:
        root = _root(cell, by_key)
        if root is cell:
            groups[_group_key(cell, template)].append(cell)
        else:
            behind[root.key].append(cell)
    findings = sorted((_finding(group, behind) for group in groups.values()), key=_rank)
    return Folded(
        findings=tuple(one for one in findings if one.status in SEVERITY),
        unlooked=tuple(one for one in findings if one.status in (Status.UNKNOWN, Status.SKIPPED)),
        waived=tuple(one for one in findings if one.status is Status.WAIVED),
    )


def fold_places(subjects: Iterable[Subject]) -> tuple[Place, ...]:
    """Group subjects into places: same part on several hosts, several devices on one host."""
    devices: dict[str, list[int]] = defaultdict(list)
    parts: dict[str, list[str]] = defaultdict(list)
    for subject in subjects:
        if subject.host is not None and _is_plain_device(subject):
            devices[subject.host].append(subject.device if subject.device is not None else -1)
        else:
            parts[_part(subject)].append(subject.host or "")
    alike: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for host, ids in devices.items():
        alike[tuple(sorted(ids))].append(host)
    places = [
        Place(tuple(hosts), f"device {fold_numbers(ids)}", len(hosts) * len(ids))
        for ids, hosts in alike.items()
    ]
    places += [
        Place(tuple(dict.fromkeys(host for host in hosts if host)), part, len(hosts))
        for part, hosts in parts.items()
    ]
    return tuple(sorted(places, key=lambda place: (-place.cells, place.hosts, place.part)))


def hosts_of(subject: Subject) -> tuple[str, ...]:
    """The hosts that a subject lies on: none for a switch or a group, both ends of a link."""
    ends = (subject.host, subject.peer.host if subject.kind is SubjectKind.LINK and subject.peer else None)
    return tuple(end for end in ends if end is not None)


def fold_names(names: Iterable[str]) -> str:
    """``node[01-15],other``: host names folded, fit to be shown."""
    from ascendctl.inventory import fold

    return shown(fold(names))


def fold_numbers(numbers: Iterable[int]) -> str:
    """``0-7,9``."""
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{low}-{high}" if high > low else f"{low}" for low, high in ranges)


def numbers_masked(text: str) -> str:
    """The text with the numbers in it masked: texts that are alike after this say the same thing."""
    return _NUMBER.sub("\0", text)


def _root(cell: Result, by_key: Mapping[CellKey, Result]) -> Result:
    """The cell that explains this one in the end, or as far as is known; itself where that runs in a ring."""
    root, seen = cell, {cell.key}
    while root.status is Status.SKIPPED and root.caused_by is not None:
        cause = by_key.get(root.caused_by)
        if cause is None:
            return root
        if cause.key in seen:
            return cell
        seen.add(cause.key)
        root = cause
    return root


def _group_key(cell: Result, template: _Templates) -> tuple[str, ...]:
    texts = (cell.message, cell.consequence, cell.remedy)
    return (cell.status.value, cell.check, *(template[text] for text in texts))


def _finding(cells: Sequence[Result], behind: dict[CellKey, list[Result]]) -> Finding:
    evaluated: Counter[str] = Counter()
    unevaluated: Counter[str] = Counter()
    for key in dict.fromkeys(cell.key for cell in cells):
        for hidden in behind.pop(key, ()):
            (evaluated if hidden.evaluated else unevaluated)[hidden.check] += 1
    return Finding(cells[0].status, tuple(cells), dict(evaluated), dict(unevaluated))


def _rank(finding: Finding) -> tuple[int, int, str, str]:
    severity = SEVERITY.index(finding.status) if finding.status in SEVERITY else len(SEVERITY)
    return (severity, -len(finding.cells) - finding.behind, finding.check, finding.cells[0].message)


def _is_plain_device(subject: Subject) -> bool:
    return subject.kind is SubjectKind.DEVICE and subject.device is not None and subject.peer is None


def _part(subject: Subject) -> str:
    """A subject's part below its host, in words."""
    words = []
    if subject.switch is not None:
        words.append(f"switch {shown(subject.switch)}")
    if subject.group is not None:
        words.append(f"{subject.kind.value.replace('_', ' ')} {shown(subject.group)}")
    if subject.device is not None:
        words.append(f"device {subject.device}")
    elif subject.npu is not None:
        words.append(f"NPU {subject.npu}" + (f" chip {subject.chip}" if subject.chip is not None else ""))
    if subject.peer is not None:
        words.append(f"to {shown(subject.peer.host)} device {subject.peer.device}")
    if not words and subject.host is None:
        return f"the {subject.kind.value.replace('_', ' ')}"
    return " ".join(words)


# A number standing alone; dates, addresses and versions as one; never part of EI0006 or 0x80e1.
_NUMBER = re.compile(r"(?<![\w.])(?:\d{4}-\d\d-\d\d|\d+(?:\.\d+)*)(?!\w)")
_DECIMAL = re.compile(r"\d+(?:\.\d+)?")


class _Templates(dict[str, str]):
    """Text → the text with its numbers masked; messages repeat, so each is worked out once."""

    def __missing__(self, text: str) -> str:
        self[text] = masked = _NUMBER.sub("\0", text)
        return masked


def _varied(texts: Sequence[str]) -> str:
    """One text for all of them: where only numbers differ, each differing number as range or list."""
    distinct = list(dict.fromkeys(texts))
    if len(distinct) == 1:
        return distinct[0]
    if len({_NUMBER.sub("\0", text) for text in distinct}) > 1:
        return _listed(distinct)
    slots = list(zip(*(_NUMBER.findall(text) for text in distinct), strict=True))
    if sum(len(set(slot)) > 1 for slot in slots) > 1:  # which number goes with which would be lost
        return _listed(distinct)
    values = iter([_spread(list(dict.fromkeys(slot))) for slot in slots])
    return _NUMBER.sub(lambda _: next(values), distinct[0])


def _spread(values: Sequence[str]) -> str:
    if len(values) <= 3 or not all(_DECIMAL.fullmatch(value) for value in values):
        return _listed(values)
    ordered = sorted(values, key=float)
    return f"{ordered[0]}…{ordered[-1]}"


def _listed(values: Sequence[str], most: int = 3) -> str:
    shown_values = ", ".join(value or "(empty)" for value in values[:most])
    return shown_values + (f", … ({len(values)} different)" if len(values) > most else "")


def _first(texts: Sequence[str]) -> str:
    return texts[0] + (" (for example)" if any(text != texts[0] for text in texts) else "")
