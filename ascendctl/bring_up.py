"""The call behind ``ascendctl bring-up``: the whole way from hosts to instances that answer the same.

verify (with the environment that follows from it) → serve → join → consistency-test

Each step is a gate: where one does not pass, the way ends there, what was learned before is kept, and what
was started runs on. Orchestration only: every step is the call that its own command makes.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol

from ascendctl import results
from ascendctl.bring_up_plan import BringUpPlan
from ascendctl.consistency import asking
from ascendctl.consistency.comparing import compare_servers
from ascendctl.consistency.prompts import Prompt
from ascendctl.consistency.servers import instance_at
from ascendctl.consistency.verdicts import ConsistencyRun, Verdict
from ascendctl.deploy import Joining, Prepared, Wanted, carry_out, prepare_join, prepare_serve
from ascendctl.engine_hosts import Survey, survey
from ascendctl.inventory import Host, Inventory, InventoryError, Waiver, fold, select
from ascendctl.netloader import runs
from ascendctl.netloader.bringing_up import Limits
from ascendctl.netloader.evidence import judged
from ascendctl.netloader.fleet import Fleet
from ascendctl.netloader.plan import PlanError, Role
from ascendctl.netloader.proof import proof_of, untold
from ascendctl.netloader.runs import InstanceRun, NetloaderRun, status_exit_code
from ascendctl.netloader.standing import stand
from ascendctl.results import ExitCode, Run, Status, governing
from ascendctl.transport.contract import Outcome
from ascendctl.verify import Settings


class Step(str, Enum):
    """In the order in which they are taken."""

    VERIFY = "verify"
    SERVE = "serve"
    JOIN = "join"
    CONSISTENCY = "consistency"


class Course(str, Enum):
    """What became of a step. ``STOPPED``: it did not pass, and the way ended there."""

    DONE = "done"
    STOPPED = "stopped here"
    NOT_REACHED = "not reached"
    LEFT_OUT = "left out"


@dataclass(frozen=True)
class Verified:
    """The gate's cells as a run of `verify` has them, and what deriving the environment had to say."""

    run: Run
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepRun:
    """``exit_code``: of the step's own command, None where it was not taken. ``reasons``: sentences, why it
    stopped, was not reached, or was left out. ``result``: None where it has none."""

    step: Step
    course: Course
    exit_code: ExitCode | None = None
    reasons: tuple[str, ...] = ()
    result: Verified | NetloaderRun | ConsistencyRun | None = None


@dataclass(frozen=True)
class BringUpRun:
    """One run; ``steps``: all of them, in order."""

    name: str
    started_at: dt.datetime
    duration_s: float
    steps: tuple[StepRun, ...]
    interrupted: bool = False

    def of(self, step: Step) -> StepRun:
        return next(one for one in self.steps if one.step is step)

    @property
    def verified(self) -> Verified | None:
        found = self.of(Step.VERIFY).result
        return found if isinstance(found, Verified) else None

    def brought_up(self, step: Step) -> NetloaderRun | None:
        """Of `Step.SERVE` or `Step.JOIN`."""
        found = self.of(step).result
        return found if isinstance(found, NetloaderRun) else None

    @property
    def consistency(self) -> ConsistencyRun | None:
        found = self.of(Step.CONSISTENCY).result
        return found if isinstance(found, ConsistencyRun) else None

    @property
    def started(self) -> tuple[InstanceRun, ...]:
        """Instances of which something may run now; nothing of this ends them."""
        found = [self.brought_up(step) for step in (Step.SERVE, Step.JOIN)]
        return tuple(one for run in found if run for one in run.instances if one.started)

    @property
    def exit_code(self) -> ExitCode:
        """The design's order over the steps that were taken; a way not gone to its end is never 0."""
        codes = [one.exit_code for one in self.steps if one.exit_code is not None]
        codes += [ExitCode.INTERRUPTED] if self.interrupted else []
        ended = any(one.course in (Course.STOPPED, Course.NOT_REACHED) for one in self.steps)
        return governing([*codes, *([ExitCode.NOT_ENOUGH] if ended else [])])


@dataclass(frozen=True)
class Questions:
    """What the consistency test asks; ``api_key`` "" = none."""

    prompts: tuple[Prompt, ...]
    max_tokens: int
    concurrency: int = 1
    api_key: str = field(default="", repr=False)


@dataclass(frozen=True)
class Goal:
    """A plan on the hosts of an inventory. ``hosts``: all of the plan's, in the inventory's order."""

    plan: BringUpPlan
    hosts: tuple[Host, ...]
    serve: Wanted
    join: Wanted | None = None
    joining: Joining = field(default_factory=Joining)
    questions: Questions | None = None
    waivers: tuple[Waiver, ...] = ()


@dataclass(frozen=True)
class Manner:
    """How it is done. ``gate`` False: the hosts are not judged before anything is started; ``strict``:
    warnings count as wrong, and end the way too."""

    settings: Settings = field(default_factory=Settings)
    limits: Limits = field(default_factory=Limits)
    asking: asking.Limits = field(default_factory=asking.Limits)
    gate: bool = True
    strict: bool = False


class SurveyListener(Protocol):
    """Hears how far the asking of the hosts has come, from the fan-out's threads."""

    def started(self, host: str) -> None: ...

    def finished(self, outcome: Outcome) -> None: ...

    def frame(self, host: str, text: str) -> None: ...


class Audience(Protocol):
    """Hears how a bring-up gets on; each step has a listener of its own while it is under way."""

    def begins(self, step: Step) -> None: ...

    def verifying(self, hosts: Sequence[str]) -> AbstractContextManager[SurveyListener]: ...

    def starting(self, prepared: Prepared) -> AbstractContextManager[runs.Listener]: ...

    def comparing(self) -> AbstractContextManager[asking.Listener]: ...


@dataclass(frozen=True)
class Rehearsal:
    """What would be done, of a dry run."""

    survey: Survey
    serve: Prepared
    join: Prepared | None


def goal_of(
    plan: BringUpPlan,
    inventory: Inventory,
    environment: tuple[tuple[str, str], ...] = (),
    questions: Questions | None = None,
) -> Goal:
    """The plan on this inventory. ``environment``: of the plan's env_file; ``questions``: None = no test.

    Raises PlanError where a node set names no host, or there is nothing to compare.
    """
    seeds = _hosts(plan, "serve", plan.serve.hosts, inventory)
    joiners = _hosts(plan, "join", plan.join.hosts, inventory) if plan.join else ()
    if questions is not None and len(seeds) + len(joiners) < 2:
        why = "there is one instance, so nothing to compare it with; leave the section out, or add a `join`"
        raise PlanError(plan.located("consistency", [why]))
    names = {host.name for host in (*seeds, *joiners)}
    serving = plan.serve.serving
    join, joining = None, Joining()
    if plan.join is not None:
        wanted = replace(serving, **plan.join.changes)
        join = Wanted(plan.name, wanted, joiners, plan.join.devices, environment)
        joining = Joining(plan.join.changes, plan.join.sources)
    return Goal(
        plan,
        tuple(host for host in inventory.hosts if host.name in names),
        Wanted(plan.name, serving, seeds, plan.serve.devices, environment),
        join,
        joining,
        questions,
        tuple(inventory.waivers),
    )


def rehearse(goal: Goal, fleet: Fleet, audience: Audience, manner: Manner) -> Rehearsal:
    """Only look: what every host would get, and who would take from whom. Raises PlanError."""
    seen = _surveyed(goal, fleet, audience, manner)
    serve, join = _prepared(goal, fleet, seen)
    return Rehearsal(seen, serve, join)


def bring_up(
    goal: Goal,
    fleet: Fleet,
    audience: Audience,
    manner: Manner,
    *,
    interrupted: Callable[[], bool] = lambda: False,
) -> BringUpRun:
    """Go the whole way, or as far as it goes. Never raises for a host's sake, nor for a plan that turns out
    not to fit what is there: the step that it keeps from being taken says so."""
    started_at, began_s = dt.datetime.now(dt.timezone.utc), time.monotonic()
    way = _Way(goal, fleet, audience, manner, interrupted)
    steps: list[StepRun] = []
    for step, take in way.steps.items():
        ended = next((one for one in steps if one.course is Course.STOPPED), None)
        if why := way.left_out(step):
            steps.append(StepRun(step, Course.LEFT_OUT, reasons=(why,)))
        elif ended is not None:
            steps.append(StepRun(step, Course.NOT_REACHED, reasons=(f"the way ended at {ended.step.value}",)))
        elif interrupted():
            steps.append(StepRun(step, Course.NOT_REACHED, reasons=("interrupted before it",)))
        else:
            audience.begins(step)
            steps.append(take())
    return BringUpRun(
        goal.plan.name, started_at, time.monotonic() - began_s, tuple(steps), interrupted=interrupted()
    )


class _Way:
    """The steps of one run, each taken at most once and in their order."""

    def __init__(
        self,
        goal: Goal,
        fleet: Fleet,
        audience: Audience,
        manner: Manner,
        interrupted: Callable[[], bool],
    ) -> None:
        self._goal = goal
        self._fleet = fleet
        self._audience = audience
        self._manner = manner
        self._interrupted = interrupted
        self._survey: Survey | None = None
        self._brought_up: list[InstanceRun] = []
        self.steps: Mapping[Step, Callable[[], StepRun]] = {
            Step.VERIFY: self._verify,
            Step.SERVE: self._serve,
            Step.JOIN: self._join,
            Step.CONSISTENCY: self._compare,
        }

    def left_out(self, step: Step) -> str:
        """Why a step is no part of the way, or nothing."""
        if step is Step.VERIFY and not self._manner.gate:
            return "--no-gate: the hosts were asked for their environment, and not judged"
        if step is Step.JOIN and self._goal.join is None:
            return "the plan has no `join`"
        if step is Step.CONSISTENCY and self._goal.questions is None:
            return "the plan has no `consistency`"
        return ""

    # The steps ------------------------------------------------------------------------------------------

    def _verify(self) -> StepRun:
        started_at, began_s = dt.datetime.now(dt.timezone.utc), time.monotonic()
        seen = self._seen()
        cut = seen.interrupted or self._interrupted()
        run = Run(started_at, time.monotonic() - began_s, seen.cells, interrupted=cut)
        code = results.exit_code(run.results, strict=self._manner.strict, interrupted=cut)
        if self._manner.strict and seen.warnings:
            code = governing([code, ExitCode.FOUND_WRONG])
        return _passed_or_not(Step.VERIFY, code, _unfit(run, code), Verified(run, seen.warnings))

    def _serve(self) -> StepRun:
        seen = self._seen()
        if self._interrupted():
            return StepRun(Step.SERVE, Course.STOPPED, ExitCode.INTERRUPTED, ("interrupted before it",))
        try:
            # The join is planned too before anything is started: a plan that cannot work starts nothing.
            prepared, _ = _prepared(self._goal, self._fleet, seen)
        except PlanError as error:
            return StepRun(Step.SERVE, Course.STOPPED, ExitCode.USAGE, error.problems)
        return self._carried_out(Step.SERVE, prepared)

    def _join(self) -> StepRun:
        goal = self._goal
        assert goal.join is not None
        try:
            prepared = prepare_join(self._fleet, goal.join, goal.joining, _bare(self._seen()))
        except PlanError as error:
            return StepRun(Step.JOIN, Course.STOPPED, self._why_no_join(), error.problems)
        return self._carried_out(Step.JOIN, prepared)

    def _compare(self) -> StepRun:
        questions = self._goal.questions
        assert questions is not None
        reference, *candidates = [
            instance_at(one.instance.name, one.url or one.instance.url) for one in self._brought_up
        ]
        with self._audience.comparing() as listener:
            run = compare_servers(
                reference,
                candidates,
                questions.prompts,
                listener,
                max_tokens=questions.max_tokens,
                concurrency=questions.concurrency,
                limits=self._manner.asking,
                api_key=questions.api_key,
                stopping=self._interrupted,
            )
        code = results.exit_code(run.results, strict=self._manner.strict, interrupted=run.interrupted)
        return _passed_or_not(Step.CONSISTENCY, code, _not_alike(run, code), run)

    # What they share ------------------------------------------------------------------------------------

    def _seen(self) -> Survey:
        """What the hosts are; asked once."""
        if self._survey is None:
            self._survey = _surveyed(self._goal, self._fleet, self._audience, self._manner)
        return self._survey

    def _carried_out(self, step: Step, prepared: Prepared) -> StepRun:
        allowed = self._goal.plan.join.allow_fallback if self._goal.plan.join else False
        with self._audience.starting(prepared) as listener:
            run = carry_out(
                prepared,
                self._fleet,
                listener,
                limits=self._manner.limits,
                gate=self._manner.gate,
                allow_fallback=allowed,
                interrupted=self._interrupted,
            )
        self._brought_up += run.instances
        code = runs.exit_code(run, strict=self._manner.strict)
        return _passed_or_not(step, code, _not_up(run, code), run)

    def _why_no_join(self) -> ExitCode:
        """Of a join that could be planned before the seeds ran and cannot now: what has become of them."""
        hosts = [host.name for host in self._goal.serve.hosts]
        code = status_exit_code(stand(self._fleet, hosts, self._goal.plan.name))
        return governing([code, ExitCode.NOT_ENOUGH] if not self._interrupted() else [ExitCode.INTERRUPTED])


def _hosts(plan: BringUpPlan, section: str, nodes: str, inventory: Inventory) -> tuple[Host, ...]:
    try:
        return tuple(select(inventory, nodes))
    except InventoryError as error:
        raise PlanError(plan.located(section, error.problems)) from None


def _surveyed(goal: Goal, fleet: Fleet, audience: Audience, manner: Manner) -> Survey:
    with audience.verifying([host.name for host in goal.hosts]) as listener:
        return survey(
            goal.hosts,
            fleet.transport,
            settings=manner.settings,
            waivers=goal.waivers,
            listener=listener,
            on_answer=listener.frame,
        )


def _prepared(goal: Goal, fleet: Fleet, seen: Survey) -> tuple[Prepared, Prepared | None]:
    """Both plans as if the seeds ran already. Raises PlanError, in the words of the plan file."""
    try:
        serve = prepare_serve(fleet, goal.serve, _bare(seen))
    except PlanError as error:
        raise PlanError(goal.plan.located("serve", error.problems)) from None
    if goal.join is None:
        return serve, None
    awaited = serve.deployment.instances
    try:
        join = prepare_join(fleet, goal.join, goal.joining, _bare(seen), awaited=awaited)
    except PlanError as error:
        raise PlanError(goal.plan.located("join", error.problems)) from None
    return serve, join


def _bare(seen: Survey) -> Survey:
    """Without what `Step.VERIFY` tells: said once."""
    return replace(seen, cells=(), warnings=())


# Whether a step has passed --------------------------------------------------------------------------------


def _passed_or_not(
    step: Step, code: ExitCode, why: tuple[str, ...], result: Verified | NetloaderRun | ConsistencyRun
) -> StepRun:
    return StepRun(step, Course.STOPPED if why else Course.DONE, code, why, result)


def _unfit(run: Run, code: ExitCode) -> tuple[str, ...]:
    """Why the hosts are not to be used, or nothing. What of a host that answers could not be learned does
    not end the way: it is no fault, the later steps tell more, and the exit code stays 3."""
    if code is ExitCode.INTERRUPTED:
        return ("interrupted",)
    if code not in (ExitCode.OK, ExitCode.NOT_ENOUGH):
        return ("the hosts are not fit for it; nothing was started",)
    reached = [cell for cell in run.results if cell.check == "reachable"]
    dumb = [cell.subject.host or "" for cell in reached if not cell.evaluated]
    return (f"not reached: {fold(dumb)}; nothing was started",) if dumb else ()


def _not_up(run: NetloaderRun, code: ExitCode) -> tuple[str, ...]:
    """Why what was started is not to be built on, or nothing; cells that could not be learned as before."""
    if code is ExitCode.INTERRUPTED:
        return ("interrupted",)
    if run.gated:
        return ("the hosts are not fit for it; this step started nothing",)
    found = [
        f"{one.instance.name}: {one.end.value}{f': {one.reason}' if one.reason else ''}"
        for one in run.instances
        if not one.ready
    ]
    found += [
        f"{one.instance.name}: where its weights came from: {proof_of(one.instance, one.evidence).value}"
        for one in run.instances
        if one.ready and one.instance.role is Role.JOINER and not _proven(one, run.allow_fallback)
    ]
    if not found and code not in (ExitCode.OK, ExitCode.NOT_ENOUGH):
        failed = any(cell.status in (Status.FAIL, Status.ERROR) for cell in run.preflight)
        return ("cells of the preflight failed" if failed else "warnings count as wrong (--strict)",)
    return tuple(found)


def _not_alike(run: ConsistencyRun, code: ExitCode) -> tuple[str, ...]:
    """Why it is not shown that all answer the same, or nothing."""
    if code is ExitCode.OK:
        return ()
    cut = ("interrupted",) if code is ExitCode.INTERRUPTED else ()
    return cut + tuple(
        f"{one.server.name}: {one.verdict.value}"
        for one in run.candidates
        if one.verdict is not Verdict.IDENTICAL
    )


def _proven(one: InstanceRun, allow_fallback: bool) -> bool:
    if one.evidence is None or untold(one.instance, one.evidence):
        return False
    return judged([one.evidence], allow_fallback=allow_fallback) is ExitCode.OK
