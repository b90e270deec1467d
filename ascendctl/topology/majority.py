"""Who is the odd one out: drift is judged against the majority, and a tie accuses every side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Hashable)


@dataclass(frozen=True)
class Vote(Generic[K, V]):
    """``value``: what most have, None on a tie or without voters. ``accused``: who differs from it."""

    value: V | None
    accused: frozenset[K]
    tie: bool


def vote(values: Mapping[K, V]) -> Vote[K, V]:
    """Compare the values of several parts; on a tie for first place all of them are accused."""
    ranked = Counter(values.values()).most_common(2)
    if not ranked:
        return Vote(None, frozenset(), tie=False)
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
        return Vote(None, frozenset(values), tie=True)
    winner = ranked[0][0]
    return Vote(winner, frozenset(key for key, value in values.items() if value != winner), tie=False)
