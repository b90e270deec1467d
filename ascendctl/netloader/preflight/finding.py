"""What the rules of the pre-flight share: findings, the scene, and how hosts are compared. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ascendctl.facts import (
    Reading,
    ReadingStatus,
)
from ascendctl.inventory.nodesets import fold
from ascendctl.knowledge import advice
from ascendctl.netloader.plan import Engine, Instance
from ascendctl.netloader.preflight.facts import (
    ModelFolder,
    PreflightFacts,
)
from ascendctl.report.printable import shown
from ascendctl.results import Status

T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """One thing that speaks against starting. ``reading``: what it was read from."""

    status: Status
    message: str
    expected: str = ""
    actual: str = ""
    consequence: str = ""
    remedy: str = ""
    reading: Reading[Any] = field(default_factory=lambda: Reading(ReadingStatus.NOT_ASKED), hash=False)


@dataclass(frozen=True)
class Verdict:
    """Of one check on one host. ``good``: what holds where nothing was found; ``not_applicable``: why there
    is nothing to judge, "" = there is."""

    findings: tuple[Finding, ...] = ()
    good: str = ""
    not_applicable: str = ""


@dataclass(frozen=True)
class Scene:
    """All hosts, what is to be started, and what runs. A planned instance that runs already by its name is
    not started again, and what it holds is its own."""

    facts: Mapping[str, PreflightFacts]
    planned: tuple[Instance, ...]
    running: tuple[Instance, ...] = ()

    def on(self, host: str) -> tuple[Instance, ...]:
        return tuple(one for one in self.planned if one.host == host)

    def starting_on(self, host: str) -> tuple[Instance, ...]:
        names = {one.name for one in self.running}
        return tuple(one for one in self.on(host) if one.name not in names)

    @property
    def others(self) -> tuple[Instance, ...]:
        """What runs and is not planned."""
        names = {one.name for one in self.planned}
        return tuple(one for one in self.running if one.name not in names)

    @property
    def everything(self) -> tuple[Instance, ...]:
        return (*self.planned, *self.others)


RUNS_ALREADY = Verdict(not_applicable="all that is planned here runs already")


def unlearned(what: str, reading: Reading[Any]) -> Finding:
    """What was wanted and could not be read."""
    known = advice(f"reading/{reading.status.value}")
    why = reading.reason or reading.status.value
    return Finding(
        Status.UNKNOWN,
        f"{what} could not be learned: {why}",
        "an answer that can be read",
        reading.status.value,
        known.consequence,
        known.remedy,
        reading,
    )


def folders_of(scene: Scene, name: str) -> list[tuple[str, ModelFolder]]:
    readings = ((host, facts.models.get(name)) for host, facts in scene.facts.items())
    return [(host, one.value) for host, one in readings if one is not None and one.value is not None]


def on_ascend(instances: Iterable[Instance]) -> tuple[Instance, ...]:
    return tuple(one for one in instances if one.serving.engine is Engine.ASCEND)


def odd_ones(values: Mapping[str, T], trusted: Collection[str]) -> tuple[T | None, set[str]]:
    """The value that the others are measured by, None on a tie, and the hosts that have another one.

    It is the one of most of the trusted hosts, or of most of all where no trusted one is there.
    """
    judges = [values[at] for at in values if at in trusted] or list(values.values())
    ranked = Counter(judges).most_common(2)
    if not ranked:
        return None, set()
    if len(ranked) > 1 and ranked[0][1] == ranked[1][1]:
        return None, set(values)
    return ranked[0][0], {at for at, value in values.items() if value != ranked[0][0]}


def theirs(values: Mapping[str, T], host: str, usual: T | None) -> tuple[T, str]:
    """What a host that is odd is held against, and the hosts that have it, folded."""
    others = [value for value in values.values() if value != values[host]]
    other = next((value for value in others if value == usual), others[0])
    return other, fold({at for at, value in values.items() if value == other})


def few(names: Sequence[str]) -> str:
    """At most three of them, and how many more."""
    named = ", ".join(shown(name)[:100] for name in names[:3])
    return named if len(names) <= 3 else f"{named} and {len(names) - 3} more"


def size_text(size_bytes: int) -> str:
    for unit, bytes_per in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes >= bytes_per:
            return f"{size_bytes / bytes_per:.1f} {unit}"
    return f"{size_bytes} bytes"
