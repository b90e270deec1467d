"""The calls behind ``ascendctl netloader serve | join | stop``: plan by what runs, look, start, prove.

inventory → what runs already, what the hosts are → plan → gate → start → watch → proof

`prepare_serve` and `prepare_join` only look; `carry_out` starts. What is in the way of a plan is a
`PlanError` before anything was started.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ascendctl.engine_hosts import Survey
from ascendctl.inventory import Host
from ascendctl.netloader.bringing_up import BringUp, Limits
from ascendctl.netloader.command import command
from ascendctl.netloader.deployment_state import HostSeen
from ascendctl.netloader.fleet import Fleet
from ascendctl.netloader.placing import joined, planned
from ascendctl.netloader.plan import (
    INSTANCE_FIELD,
    Deployment,
    Engine,
    Instance,
    Place,
    PlanError,
    Role,
    Serving,
    Source,
)
from ascendctl.netloader.plan_rules import compatible
from ascendctl.netloader.preflight import preflight
from ascendctl.netloader.runs import End, Ended, InstanceRun, Listener, NetloaderRun, StopRun
from ascendctl.netloader.standing import Recorded, looked, recorded, sources
from ascendctl.netloader.stored_plan import differences
from ascendctl.netloader.waves import JoinPlan, Pace, plan_waves
from ascendctl.results import Result, Status


@dataclass(frozen=True)
class Wanted:
    """What is to run on ``hosts``, one instance on each. ``devices``: the same physical ids on every host;
    ``environment``: for all of them, before what is derived; None = nothing was said of it, so that joiners
    get the seed's."""

    name: str
    serving: Serving
    hosts: tuple[Host, ...]
    devices: tuple[int, ...] = ()
    environment: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True)
class Joining:
    """What a join adds. ``serving``: only what is to be otherwise than the deployment runs, by field name;
    ``sources``: "host:port" of rank 0's listener each, beside what is recorded."""

    serving: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True)
class Prepared:
    """What is to be done, and nothing of it done yet. ``running``: instances that are kept as they are;
    ``others``: further ones of any deployment on the hosts that were asked; ``plan``, ``sources``: of a
    join. ``notes``: what is worth knowing of the commands, and no reason to worry."""

    verb: str
    deployment: Deployment
    running: tuple[Instance, ...]
    others: tuple[Instance, ...]
    survey: Survey
    plan: JoinPlan | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def running_names(self) -> frozenset[str]:
        return frozenset(one.name for one in self.running)

    @property
    def new(self) -> tuple[Instance, ...]:
        return tuple(one for one in self.deployment.instances if one.name not in self.running_names)

    def as_started(self) -> tuple[Instance, ...]:
        """The instances with the sources that the plan gives them, for a reader; later waves' as planned."""
        if self.plan is None:
            return self.deployment.instances
        by_name = {one.name: one for one in self.deployment.instances}
        known = dict(self.sources)
        for wave in self.plan.waves:
            for join in wave.joins:
                made = joined(by_name[join.joiner], [known[name] for name in join.sources if name in known])
                by_name[join.joiner] = made
            for join in wave.joins:
                if by_name[join.joiner].listeners:
                    known[join.joiner] = Source.of(by_name[join.joiner])
        return tuple(by_name.values())


def prepare_serve(fleet: Fleet, wanted: Wanted, survey: Survey) -> Prepared:
    """Raises PlanError: the plan cannot work, or something else runs under the name, on whatever host of
    ``fleet``."""
    listed = fleet.listed(list(fleet.hosts))
    found = recorded(listed)
    mine = _alive(found, wanted.name)
    _told_apart(wanted, mine)
    places = _places(wanted, wanted.serving, survey, listed, wanted.environment or ())
    made = planned(wanted.name, Role.SEED, places, wanted.serving, running=mine)
    kept = _kept(made, mine)
    return Prepared(
        "serve",
        made,
        kept,
        _others(found, made, kept),
        survey,
        warnings=(*survey.warnings, *_not_asked(listed)),
        notes=_notes(made),
    )


def prepare_join(
    fleet: Fleet,
    wanted: Wanted,
    joining: Joining,
    survey: Survey,
    *,
    awaited: Sequence[Instance] = (),
) -> Prepared:
    """``fleet``'s hosts are all asked for the deployment's instances; ``wanted.serving`` holds where none is.

    ``awaited``: instances of it that are to run by then, taken as if they did and gave their weights. Raises
    PlanError as `prepare_serve`, and where nothing gives the weights.
    """
    listed = fleet.listed(list(fleet.hosts))
    found = recorded(listed)
    mine = _alive(found, wanted.name)
    standings = looked(fleet, [one for one in found if one.alive and one.seen.deployment == wanted.name])
    givers = {one.name: Source.of(one) for one in awaited} | sources(standings)
    mine = (*mine, *(one for one in awaited if one.name not in {other.name for other in mine}))
    if not givers and not joining.sources:
        said = [f"{one.host}: {one.reason}" for one in standings if one.reason]
        raise PlanError([_no_source(wanted.name, bool(standings)), *said, *_not_asked(listed)])
    _one_model(wanted.name, mine)
    serving = _serving_of(mine, wanted.serving, joining.serving)
    givers |= {text: Source.at(text, serving.ranks) for text in joining.sources}
    given = _seeds_variables(mine) if wanted.environment is None else wanted.environment
    places = _places(wanted, serving, survey, listed, given)
    made = planned(wanted.name, Role.JOINER, places, serving, running=mine)
    kept = _kept(made, mine)
    names = {one.name for one in kept}
    new = [one.name for one in made.instances if one.name not in names]
    feeding = [name for name in givers if name not in names] or list(givers)
    plan = plan_waves(serving.engine, feeding, new, joining.pace, chain=serving.chain)
    warnings = (*survey.warnings, *_not_asked(listed))
    return Prepared(
        "join", made, kept, _others(found, made, kept), survey, plan, givers, warnings, _notes(made)
    )


def carry_out(
    prepared: Prepared,
    fleet: Fleet,
    listener: Listener,
    *,
    limits: Limits = Limits(),
    gate: bool = True,
    allow_fallback: bool = False,
    interrupted: Callable[[], bool] = lambda: False,
) -> NetloaderRun:
    """Start what does not run yet and watch all of it. ``gate`` False: the hosts are not judged before."""
    started_at, began_s = dt.datetime.now(dt.timezone.utc), time.monotonic()

    def stopping() -> bool:
        return interrupted() or prepared.survey.interrupted or fleet.stop.is_set()

    cells: tuple[Result, ...] = ()
    if gate and prepared.new and not stopping():
        listener.say("looking whether the hosts are fit for it")
        own = preflight(fleet, prepared.new, running=(*prepared.running, *prepared.others))
        cells = _once((*prepared.survey.cells, *own))
    gated = any(cell.status in (Status.FAIL, Status.ERROR) for cell in cells)
    bring_up = BringUp(fleet, prepared.deployment.name, listener, limits, stopping)
    if gated:
        why = "the hosts are not fit for it; nothing was started"
        runs = tuple(InstanceRun(one, End.NOT_STARTED, reason=why) for one in prepared.new)
        runs = (*bring_up.instances(prepared.running, prepared.running_names), *runs)
    elif prepared.plan is None:
        runs = bring_up.instances(prepared.deployment.instances, prepared.running_names)
    else:
        by_name = {one.name: one for one in prepared.deployment.instances}
        runs = bring_up.instances(prepared.running, prepared.running_names) if prepared.running else ()
        runs += bring_up.joiners(prepared.plan, by_name, prepared.sources, prepared.running_names)
    return NetloaderRun(
        prepared.verb,
        prepared.deployment.name,
        prepared.deployment.instances[0].serving.engine,
        started_at,
        time.monotonic() - began_s,
        runs,
        prepared.plan,
        cells,
        gated,
        prepared.warnings,
        prepared.notes,
        allow_fallback,
        stopping(),
    )


def stop(fleet: Fleet, hosts: Sequence[str], deployment: str, *, grace_s: int, remove: bool) -> StopRun:
    """End every instance of a deployment on these hosts; ``grace_s`` from TERM to KILL."""
    listed = fleet.listed(hosts)
    found = recorded(listed, deployment)
    seeds = [one for one in found if one.instance is not None and one.instance.role is Role.SEED]
    ended: tuple[Ended, ...] = ()
    # Joiners first: what takes weights from another has ended before that one ends.
    for part in ([one for one in found if one not in seeds], seeds):
        answers = fleet.stopped([(one.host, one.seen) for one in part], grace_s=grace_s, remove=remove)
        ended += tuple(
            Ended(one.host, one.seen.instance, one.instance.role if one.instance else None, answer)
            for one, answer in zip(part, answers, strict=True)
        )
    unasked = tuple((name, answer.reason) for name, answer in listed.items() if answer.reason)
    return StopRun(deployment, tuple(hosts), ended, unasked, fleet.stop.is_set())


# What runs already ----------------------------------------------------------------------------------------


def _alive(found: Sequence[Recorded], name: str) -> tuple[Instance, ...]:
    """Raises PlanError where something of this name runs whose plan cannot be read."""
    mine = [one for one in found if one.alive and one.seen.deployment == name]
    unread = [
        f"{one.host}: {one.seen.instance} of {name} runs, and its plan cannot be read: {one.reason}"
        for one in mine
        if one.instance is None
    ]
    if unread:
        raise PlanError(unread)
    return tuple(one.instance for one in mine if one.instance is not None)


def _kept(made: Deployment, running: Sequence[Instance]) -> tuple[Instance, ...]:
    """What runs already as it is wanted. Raises PlanError where it runs otherwise."""
    before = {one.name: one for one in running}
    kept = [one for one in made.instances if one.name in before]
    old = Deployment(made.name, tuple(before[one.name] for one in kept))
    found = differences(old, Deployment(made.name, tuple(kept)))
    if found:
        raise PlanError(
            [
                f"{made.name} runs already, otherwise than it is wanted: stop it (ascendctl netloader stop "
                f"{made.name}), take another --name, or ask for what runs",
                *found,
            ]
        )
    return tuple(kept)


def _others(found: Sequence[Recorded], made: Deployment, kept: Sequence[Instance]) -> tuple[Instance, ...]:
    """What runs beside what is kept: of the deployment itself, since a joiner has to fit its seed, and of
    others on the same hosts, since it has their ports and devices.

    Instances are numbered within their deployment, so another's carry its name as well.
    """
    names = {one.name for one in kept}
    others: list[Instance] = []
    for one in found:
        if not one.alive or one.instance is None:
            continue
        if one.seen.deployment != made.name:
            if one.host in made.hosts:
                others.append(replace(one.instance, name=f"{one.seen.deployment}/{one.instance.name}"))
        elif one.instance.name not in names:
            others.append(one.instance)
    return tuple(others)


def _told_apart(wanted: Wanted, mine: Sequence[Instance]) -> None:
    """Raises PlanError where seeds of this name serve another model: joiners could not tell them apart."""
    hosts = {host.name for host in wanted.hosts}
    found = [
        f"{one.name} on {one.host} serves {one.serving.model} as {wanted.name} already, otherwise "
        "than it is wanted here: take another --name"
        for one in mine
        if one.role is Role.SEED
        and one.host not in hosts
        and (one.serving.model != wanted.serving.model or compatible(wanted.serving, one.serving))
    ]
    if found:
        raise PlanError(found)


def _one_model(name: str, mine: Sequence[Instance]) -> None:
    """Raises PlanError where the deployment's seeds do not all serve the same: a joiner would mix them."""
    seeds = [one for one in mine if one.role is Role.SEED]
    odd = [
        one
        for one in seeds[1:]
        if one.serving.model != seeds[0].serving.model or compatible(one.serving, seeds[0].serving)
    ]
    if odd:
        told = "; ".join(f"{one.name} on {one.host}: {one.serving.model}" for one in (seeds[0], *odd))
        raise PlanError(
            [f"the seeds of {name} do not serve the same ({told}): stop those that are not meant"]
        )


def _not_asked(listed: Mapping[str, HostSeen]) -> tuple[str, ...]:
    return tuple(f"{host}: {answer.reason}" for host, answer in listed.items() if answer.reason)


def _serving_of(mine: Sequence[Instance], given: Serving, changes: Mapping[str, Any]) -> Serving:
    """As the deployment's seed runs, changed where that is asked for."""
    seeds = [one for one in mine if one.role is Role.SEED]
    running = [*seeds, *mine]
    if not running:
        if not given.model:
            raise PlanError(["nothing of this deployment runs, so --model and the like have to be given"])
        return given
    serving = replace(running[0].serving, **changes)
    against = compatible(serving, running[0].serving)
    if against:
        raise PlanError(against)
    return serving


def _no_source(name: str, any_runs: bool) -> str:
    if any_runs:
        return f"{name}: none of its instances gives its weights to joiners now"
    return (
        f"nothing of {name} runs on the hosts that were asked: start it (ascendctl netloader serve), or name "
        "a source that runs elsewhere (--source HOST:PORT)"
    )


# Places ---------------------------------------------------------------------------------------------------


def _places(
    wanted: Wanted,
    serving: Serving,
    survey: Survey,
    listed: Mapping[str, HostSeen],
    given: tuple[tuple[str, str], ...],
) -> list[Place]:
    return [
        Place(
            host.name,
            survey.addresses.get(host.name, ""),
            wanted.devices,
            tuple(survey.environments.get(host.name, ())),
            given,
            _status_prefix(wanted.name, host, serving, listed.get(host.name)),
        )
        for host in wanted.hosts
    ]


def _seeds_variables(mine: Sequence[Instance]) -> tuple[tuple[str, str], ...]:
    """What was given to the deployment's seed, its API key for example: a joiner is not to run without."""
    running = [*(one for one in mine if one.role is Role.SEED), *mine]
    return running[0].place.given if running else ()


def _status_prefix(name: str, host: Host, serving: Serving, listed: HostSeen | None) -> str:
    """In the instance's own folder; in a container, which does not see that, beside its other fleeting
    files."""
    if serving.engine is not Engine.OWN:
        return ""
    if host.engine_exec:
        return f"/tmp/ascendctl-{name}-{INSTANCE_FIELD}-"
    return f"{listed.root}/{name}/{INSTANCE_FIELD}/status-" if listed and listed.root else ""


def _notes(made: Deployment) -> tuple[str, ...]:
    """Once each, whatever number of instances it is of."""
    return tuple(dict.fromkeys(note for one in made.instances for note in command(one).notes))


def _once(cells: Sequence[Result]) -> tuple[Result, ...]:
    """Both look whether a host can be reached; the first word counts."""
    seen: dict[object, Result] = {}
    for cell in cells:
        seen.setdefault(cell.key, cell)
    return tuple(seen.values())
