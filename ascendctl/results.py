"""Subject, Status, Result, coverage and exit codes: what a verdict is made of.

A result is a cell (subject, check) → status. *Wanted* is every cell except not-applicable ones;
coverage is evaluated ÷ wanted. Not looked at is never green.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ascendctl.facts import ClusterFacts


class SubjectKind(str, Enum):
    HOST = "host"
    DEVICE = "device"
    LINK = "link"
    SWITCH = "switch"
    SUPER_POD = "super_pod"
    GROUP = "group"
    CLUSTER = "cluster"


@dataclass(frozen=True)
class Peer:
    host: str
    device: int


@dataclass(frozen=True)
class Subject:
    """The part a result is about; absent parts are None. ``device`` is a physical id."""

    kind: SubjectKind
    host: str | None = None
    npu: int | None = None
    chip: int | None = None
    device: int | None = None
    peer: Peer | None = None
    switch: str | None = None
    group: str | None = None


def host_subject(host: str) -> Subject:
    """The host as a whole."""
    return Subject(SubjectKind.HOST, host=host)


class Status(str, Enum):
    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"
    ERROR = "error"
    NOT_APPLICABLE = "not-applicable"
    WAIVED = "waived"


@dataclass(frozen=True)
class CellKey:
    """Names one cell; ``caused_by`` of a result points to another cell by it."""

    check: str
    subject: Subject


@dataclass(frozen=True)
class Result:
    """One judged cell. A finding fills everything; a pass needs only its message.

    ``expected``/``actual`` are short values, ``consequence`` what it leads to (for example the HCCL
    error code), ``remedy`` what to do, ``command`` and ``evidence`` what it was read from.
    ``root_fails``: for ``skipped`` only, whether the cell that explains it is a ``fail``.
    """

    check: str
    subject: Subject
    status: Status
    message: str
    expected: str = ""
    actual: str = ""
    consequence: str = ""
    remedy: str = ""
    caused_by: CellKey | None = None
    root_fails: bool = False
    command: str = ""
    evidence: str = ""

    @property
    def key(self) -> CellKey:
        return CellKey(self.check, self.subject)

    @property
    def wanted(self) -> bool:
        return self.status is not Status.NOT_APPLICABLE

    @property
    def evaluated(self) -> bool:
        if self.status is Status.SKIPPED:
            return self.root_fails
        return self.status in (Status.PASS, Status.WARN, Status.FAIL, Status.WAIVED)


@dataclass(frozen=True)
class Coverage:
    wanted: int
    evaluated: int

    @property
    def percent(self) -> float:
        """Evaluated ÷ wanted in percent; 0 when nothing was wanted: nothing looked at is never green."""
        return 100.0 * self.evaluated / self.wanted if self.wanted else 0.0


def coverage(results: Iterable[Result]) -> Coverage:
    """Count the wanted and the evaluated cells."""
    wanted = evaluated = 0
    for result in results:
        wanted += result.wanted
        evaluated += result.evaluated
    return Coverage(wanted, evaluated)


def summary(results: Iterable[Result]) -> dict[Status, int]:
    """Number of cells per status, every status present."""
    counts = Counter(result.status for result in results)
    return {status: counts.get(status, 0) for status in Status}


@dataclass(frozen=True)
class HostNote:
    """One line about a host for a report's reader: what it is, not how it was judged.

    ``answered``: whether anything came from it, be it only a part.
    ``details`` holds short texts such as driver, firmware, CANN and kernel versions, clock offset.
    """

    name: str
    group: str = ""
    accelerator: str | None = None
    generation: str | None = None
    devices: int = 0
    answered: bool = False
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DeviceCounters:
    """Error counters of a device, for `diff` to compare with those of another run.

    ``groups``: where they were read, and there the counters by the names that the tool prints. A group is
    there exactly when it was read; a counter that `ascendctl.counters` compares and that is not in it is 0.
    ``device`` is a physical id, ``read_at`` the start of the run that read them.
    """

    host: str
    device: int
    read_at: dt.datetime
    groups: Mapping[str, Mapping[str, int]]


class ComponentKind(str, Enum):
    """What a verdict may accuse."""

    DEVICE = "device"
    NPU = "npu"
    HOST = "host"
    LINK = "link"
    SWITCH = "switch"
    SUPER_POD = "super_pod"
    TLS_GROUP = "tls_group"
    ADDRESS = "address"


@dataclass(frozen=True)
class Component:
    """A part of the cluster that can be at fault; what does not name it is None.

    ``device`` is a physical id, ``npu`` an NPU id (A3: both its dies), ``peer`` the other end of a link,
    ``value`` an address, a super pod id or the TLS switch of a group.
    """

    kind: ComponentKind
    host: str | None = None
    device: int | None = None
    npu: int | None = None
    peer: Peer | None = None
    switch: str | None = None
    value: str | None = None


def component_text(component: Component) -> str:
    """The part in a few words: ``node01 device 3 (roce)``, ``leaf switch leaf-2``."""
    words = [component.host] if component.host else []
    if component.npu is not None and component.device is None:
        words.append(f"NPU {component.npu}")
    if component.device is not None:
        words.append(f"device {component.device}")
    if component.peer is not None:
        words.append(f"to {component.peer.host} device {component.peer.device}")
    if component.switch is not None:
        words.append(f"leaf switch {component.switch}")
    kind = component.kind.value.replace("_", " ")
    if not words:
        return f"{kind} {component.value}" if component.value else f"the {kind}"
    return " ".join(words) + (f" ({component.value})" if component.value else "")


@dataclass(frozen=True)
class Verdict:
    """A part at fault. ``confidence`` is 0..1; ``explains`` are the cells that follow from it.

    ``evidence`` and ``ruled_out`` are sentences; ``alternatives`` explain the same data as well, so that
    the data cannot tell between them.
    """

    component: Component
    message: str
    confidence: float
    explains: tuple[CellKey, ...] = ()
    evidence: tuple[str, ...] = ()
    ruled_out: tuple[str, ...] = ()
    alternatives: tuple[Component, ...] = ()


@dataclass(frozen=True)
class Run:
    """One run of verify: everything a report is made from.

    ``facts``: what the verdicts were made from, for a report that draws or derives more; None where only
    the verdicts are known, as of a run read back from a report.
    """

    started_at: dt.datetime
    duration_s: float
    results: tuple[Result, ...]
    hosts: tuple[HostNote, ...] = ()
    interrupted: bool = False
    verdicts: tuple[Verdict, ...] = ()
    facts: ClusterFacts | None = field(default=None, repr=False, compare=False)
    counters: tuple[DeviceCounters, ...] = ()


class ExitCode(IntEnum):
    """The exit codes of every command."""

    OK = 0
    FOUND_WRONG = 1
    USAGE = 2
    NOT_ENOUGH = 3
    INTERNAL = 4
    INTERRUPTED = 130


def governing(codes: Iterable[ExitCode]) -> ExitCode:
    """Of several exit codes that hold the one that counts: 130, 2, 4, 1, 3, 0, the first."""
    held = set(codes)
    order = (
        ExitCode.INTERRUPTED,
        ExitCode.USAGE,
        ExitCode.INTERNAL,
        ExitCode.FOUND_WRONG,
        ExitCode.NOT_ENOUGH,
    )
    return next((code for code in order if code in held), ExitCode.OK)


def exit_code(
    results: Iterable[Result],
    *,
    strict: bool = False,
    min_coverage_percent: float = 100.0,
    interrupted: bool = False,
) -> ExitCode:
    """The exit code a set of results leads to; of several that hold: 130, 2, 4, 1, 3, 0, the first."""
    cells = list(results)
    statuses = {cell.status for cell in cells}
    if interrupted:
        return ExitCode.INTERRUPTED
    if Status.ERROR in statuses:
        return ExitCode.INTERNAL
    if Status.FAIL in statuses or (strict and Status.WARN in statuses):
        return ExitCode.FOUND_WRONG
    if coverage(cells).percent < min_coverage_percent:
        return ExitCode.NOT_ENOUGH
    return ExitCode.OK
