"""What one call of ``netloader serve`` or ``join`` found of every instance. Pure.

A run is green only where every instance is ready and, of a joiner, every rank's weights are proven to have
come from a source: an instance that serves may have read its disk in silence.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from ascendctl.netloader.deployment_state import Life, Seen, Stop, Stopped
from ascendctl.netloader.evidence import Evidence, judged
from ascendctl.netloader.log_rules import Stage
from ascendctl.netloader.plan import Engine, Instance, Role
from ascendctl.netloader.proof import Proof, proof_of
from ascendctl.netloader.waves import JoinPlan
from ascendctl.results import ExitCode, Result, Status


class End(str, Enum):
    """How far one instance came in this run. ``INTERRUPTED``: it was started, and is left to run on;
    ``NOT_STARTED``: the run ended before, or a gate or a source kept it from starting."""

    READY = "ready"
    NOT_READY = "not ready in time"
    FAILED = "failed"
    UNREACHED = "host not reached"
    INTERRUPTED = "still starting"
    NOT_STARTED = "not started"


@dataclass(frozen=True)
class InstanceRun:
    """One instance. ``reason``, ``remedy``: a sentence each where it is not ready, or not as wanted.

    ``lines``: the lines of its log that say so, as they stand there. ``url``: of its API. ``serves``: the
    listeners ("address:port") that take joiners. ``ready_s``: from its start to ready; ``stages``: stage →
    seconds from the start until it was first seen there (by the looks of this run, so late by up to one);
    ``seconds``: phase of the load → seconds, as the engine states them, of several ranks the longest.
    """

    instance: Instance
    end: End
    ran_already: bool = False
    stage: Stage | None = None
    reason: str = ""
    remedy: str = ""
    lines: tuple[str, ...] = ()
    url: str = ""
    serves: tuple[str, ...] = ()
    evidence: Evidence | None = None
    ready_s: float | None = None
    stages: tuple[tuple[Stage, float], ...] = ()
    seconds: tuple[tuple[str, float], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        return self.end is End.READY

    @property
    def started(self) -> bool:
        """Whether something of it may run now."""
        return self.ran_already or self.end is not End.NOT_STARTED


@dataclass(frozen=True)
class NetloaderRun:
    """One run. ``verb``: ``serve`` or ``join``. ``preflight``: the cells judged before anything was started;
    ``gated``: they kept it from starting. ``plan``: who takes from whom (join). ``warnings``: one sentence
    each; ``notes``: as well, and nothing to worry about.
    """

    verb: str
    deployment: str
    engine: Engine
    started_at: dt.datetime
    duration_s: float
    instances: tuple[InstanceRun, ...]
    plan: JoinPlan | None = None
    preflight: tuple[Result, ...] = ()
    gated: bool = False
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    allow_fallback: bool = False
    interrupted: bool = False

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        return tuple(one.evidence for one in self.instances if one.evidence is not None)


class Listener(Protocol):
    """Hears how a run gets on, from one thread."""

    def say(self, text: str) -> None:
        """A sentence for the reader: what is done next, or what was found."""

    def began(self, instances: Sequence[Instance]) -> None:
        """These are being started."""

    def moved(self, instance: Instance, what: str) -> None:
        """An instance is at another stage, or waits for something else."""

    def ended(self, one: InstanceRun) -> None:
        """What became of an instance; nothing more is heard of it."""


@dataclass(frozen=True)
class Standing:
    """One instance as its host tells now. ``instance`` None: its stored plan cannot be read (``reason``).

    ``stage``, ``url``, ``serves``, ``evidence`` as of `InstanceRun`; ``ready`` None = not learned;
    ``runs_s``: how long it has run; ``origin``: the digest of what all its ranks hold, of the own loader.
    """

    host: str
    seen: Seen
    instance: Instance | None = None
    stage: Stage | None = None
    ready: bool | None = None
    reason: str = ""
    url: str = ""
    serves: tuple[str, ...] = ()
    evidence: Evidence | None = None
    runs_s: float | None = None
    origin: str = ""


@dataclass(frozen=True)
class StatusRun:
    """All instances of the hosts that were asked. ``unasked``: (host, why it could not be asked or only in
    part)."""

    started_at: dt.datetime
    hosts: tuple[str, ...]
    standings: tuple[Standing, ...]
    unasked: tuple[tuple[str, str], ...] = ()
    interrupted: bool = False


def status_exit_code(run: StatusRun) -> ExitCode:
    """130 interrupted; 1 where an instance does not run any more, or a joiner's disk was read; 3 where
    something could not be learned, of a ready joiner's weights too; else 0, also where there is nothing."""
    if run.interrupted:
        return ExitCode.INTERRUPTED
    lives = [one.seen.life for one in run.standings]
    proofs = [proof_of(one.instance, one.evidence) for one in run.standings if one.instance and one.ready]
    if Proof.DISK in proofs or any(life in (Life.ENDED, Life.RESTARTED, Life.LEFTOVERS) for life in lives):
        return ExitCode.FOUND_WRONG
    unread = any(one.ready is None or one.instance is None for one in run.standings)
    # Its API came up once, and answers no more.
    unread |= any(
        one.ready is False and one.stage is Stage.READY and one.seen.life is Life.RUNNING
        for one in run.standings
    )
    if run.unasked or Life.UNKNOWN in lives or unread:
        return ExitCode.NOT_ENOUGH
    return ExitCode.NOT_ENOUGH if Proof.UNPROVEN in proofs else ExitCode.OK


@dataclass(frozen=True)
class Ended:
    """What came of stopping one instance. ``role`` None: its plan could not be read."""

    host: str
    instance: str
    role: Role | None
    stopped: Stopped


@dataclass(frozen=True)
class StopRun:
    """A deployment's instances on the hosts that were asked, in the order in which they were ended;
    ``unasked`` as of `StatusRun`."""

    deployment: str
    hosts: tuple[str, ...]
    ended: tuple[Ended, ...]
    unasked: tuple[tuple[str, str], ...] = ()
    interrupted: bool = False


def stop_exit_code(run: StopRun) -> ExitCode:
    """130 interrupted; 1 where something is left or was refused; 3 where it was not learned; else 0, also
    where there was nothing."""
    if run.interrupted:
        return ExitCode.INTERRUPTED
    outcomes = {one.stopped.outcome for one in run.ended}
    if outcomes & {Stop.LEFT, Stop.REFUSED}:
        return ExitCode.FOUND_WRONG
    return ExitCode.NOT_ENOUGH if run.unasked or Stop.UNKNOWN in outcomes else ExitCode.OK


def exit_code(run: NetloaderRun, *, strict: bool = False) -> ExitCode:
    """The design's: 130 interrupted, 4 an error cell, 1 found wrong, 3 not proven, 0.

    Found wrong: an instance that failed, a fallback that is not allowed, a gate that refused. Not proven: a
    host that was not reached, an instance that was not ready in time or not started, a rank that nothing is
    proven of. ``strict``: warnings too are found wrong.
    """
    cells = run.preflight
    proven = judged(run.evidence, allow_fallback=run.allow_fallback)
    wrong = any(one.end is End.FAILED for one in run.instances)
    wrong |= any(cell.status is Status.FAIL for cell in cells) or proven is ExitCode.FOUND_WRONG
    warned = bool(run.warnings) or any(cell.status is Status.WARN for cell in cells)
    unproven = any(not one.ready for one in run.instances) or proven is ExitCode.NOT_ENOUGH
    unproven |= any(proof_of(one.instance, one.evidence) is Proof.UNPROVEN for one in run.instances)
    unproven |= any(cell.wanted and not cell.evaluated for cell in cells) or not run.instances
    for holds, code in (
        (run.interrupted, ExitCode.INTERRUPTED),
        (any(cell.status is Status.ERROR for cell in cells), ExitCode.INTERNAL),
        (wrong or (strict and warned), ExitCode.FOUND_WRONG),
        (unproven, ExitCode.NOT_ENOUGH),
    ):
        if holds:
            return code
    return ExitCode.OK
