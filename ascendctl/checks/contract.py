"""What a check is. One class per check; facts in, results out; pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from ascendctl.facts import ClusterFacts, HostFacts, Profile
from ascendctl.results import Result


class Check(ABC):
    """Judges one host at a time; ``cluster`` is there for what only the others can tell.

    ``id``: kebab case, stable. ``commands``: ids of the probe catalogue it reads, its own first.
    ``after``: ids of checks whose failure on the same part (or on the whole host) explains this one
    away; ``void_after``: those of them whose failure makes even a good reading meaningless.
    ``profile``: the least profile in which its commands are asked, and it is run. The class
    docstring has the sections What, Why, Consequence, Remedy: ``ascendctl explain`` prints them.
    """

    id: ClassVar[str]
    title: ClassVar[str]
    commands: ClassVar[tuple[str, ...]] = ()
    after: ClassVar[tuple[str, ...]] = ()
    void_after: ClassVar[tuple[str, ...]] = ()
    profile: ClassVar[Profile] = Profile.STANDARD

    @abstractmethod
    def judge(self, host: HostFacts, cluster: ClusterFacts) -> Iterable[Result]:
        """Every cell of this check on this host."""


class ClusterCheck(ABC):
    """Judges what lies between hosts; runs after every host check, and may read their results."""

    id: ClassVar[str]
    title: ClassVar[str]
    commands: ClassVar[tuple[str, ...]] = ()
    after: ClassVar[tuple[str, ...]] = ()
    void_after: ClassVar[tuple[str, ...]] = ()
    profile: ClassVar[Profile] = Profile.STANDARD

    @abstractmethod
    def judge(self, cluster: ClusterFacts, results: tuple[Result, ...]) -> Iterable[Result]:
        """Every cell of this check on this cluster."""
