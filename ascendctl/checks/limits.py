"""What the checks that measure against limits share: the limit in force, and how values are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ascendctl.facts import HostFacts
from ascendctl.knowledge.thresholds import number, threshold


def limit(name: str, host: HostFacts) -> float:
    """The limit in force on the host, of one that has a default."""
    value = threshold(name, host.expectation.thresholds)
    if value is None:
        raise LookupError(f"{name} has neither a default nor a value for this host")
    return value


def limit_if_set(name: str, host: HostFacts) -> float | None:
    """The limit in force on the host; None where neither the site nor we have one."""
    return threshold(name, host.expectation.thresholds)


def above(counters: Mapping[str, int], names: Iterable[str], most: float) -> dict[str, int]:
    """Those of the named counters that are larger than ``most``, the largest first."""
    found = {name: counters[name] for name in names if name in counters and counters[name] > most}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def listed(counters: Mapping[str, float]) -> str:
    """``name 12, name 3``."""
    return ", ".join(f"{name} {number(value)}" for name, value in counters.items())
