"""Where the instances of a deployment go, and where joiners take their weights from. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from ascendctl.netloader.plan import Deployment, Engine, Instance, Place, PlanError, Role, Serving, Source
from ascendctl.netloader.plan_rules import problems
from ascendctl.netloader.ports import port_ranges


def planned(
    name: str, role: Role, places: Sequence[Place], serving: Serving, *, running: Sequence[Instance] = ()
) -> Deployment:
    """One instance per place, named ``HOST.NUMBER``, beside those of ``running`` (of the same deployment).

    A further instance of a host gets the next ports of the plan: API + 1, listeners + the number of ranks.
    What runs already at a place keeps its name and its place in that order, so that the same call makes the
    same plan: of joiners the one with these devices, of seeds also one with other devices (`differences` then
    tells). A joiner that runs keeps its sources, a new one has none yet, see `joined`. Raises PlanError with
    everything that `problems` finds.
    """
    kept = _kept(role, places, running)
    steps = {(one.host, _step(one)) for one in running}
    instances = []
    for at, place in enumerate(places):
        before = kept.get(at)
        step = _step(before) if before else next(n for n in count() if (place.host, n) not in steps)
        steps.add((place.host, step))
        listen_port = None if serving.listen_port is None else serving.listen_port + step * serving.ranks
        label = f"{re.sub(r'[^A-Za-z0-9._-]', '_', place.host)}.{step + 1}"
        sources = before.sources if before and len(before.sources) == serving.ranks else ()
        instances.append(Instance(label, role, place, serving, serving.port + step, listen_port, sources))
    made = Deployment(name, tuple(instances))
    found = problems(made, running=running)
    if found:
        raise PlanError(found)
    return made


def physical_ids(text: str) -> tuple[int, ...]:
    """``0-3,8`` as numbers in the order written, since rank r gets the r-th. Raises ValueError."""
    try:
        return tuple(number for part in port_ranges(text) for number in part)
    except ValueError:
        raise ValueError(f"{text[:40]!r}: write physical ids such as 0-3,8") from None


def joined(joiner: Instance, sources: Sequence[Source]) -> Instance:
    """The joiner with SOURCE for every rank: the listeners of that rank, in the order of ``sources``.

    Raises PlanError where a source lacks a rank, or is written in a way that the engine cannot read.
    """
    found = []
    if not sources:
        found.append(f"{joiner.name}: there is no source to take the weights from; name one with --source")
    for source in sources:
        if len(source.listeners) != joiner.ranks:
            found.append(
                f"{joiner.name} has {joiner.ranks} ranks and its source {source.name} "
                f"{len(source.listeners)}: rank r takes the weights of rank r, so start both with the same "
                "--tp and --pp"
            )
        if joiner.serving.engine is Engine.ASCEND and any(text.count(":") != 1 for text in source.listeners):
            found.append(
                f"{joiner.name}: {source.listeners[0]} cannot be read by vllm-ascend, which splits it at the "
                "colons and knows IPv4 only; give the source an IPv4 address or a name"
            )
    if found:
        raise PlanError(found)
    return replace(
        joiner,
        sources=tuple(
            tuple(dict.fromkeys(source.listeners[rank] for source in sources)) for rank in range(joiner.ranks)
        ),
    )


def _kept(role: Role, places: Sequence[Place], running: Sequence[Instance]) -> dict[int, Instance]:
    """Position of a place → the instance that it has already."""
    left = [one for one in running if one.role is role]
    kept: dict[int, Instance] = {}
    for same_devices in (True, False) if role is Role.SEED else (True,):
        for at, place in enumerate(places):
            found = next(
                (
                    one
                    for one in left
                    if one.host == place.host and (one.place.devices == place.devices or not same_devices)
                ),
                None,
            )
            if at not in kept and found is not None:
                kept[at] = found
                left.remove(found)
    return kept


def _step(instance: Instance) -> int:
    """Which instance of its host it is, from 0: its distance from the port that was asked for."""
    return instance.port - instance.serving.port
