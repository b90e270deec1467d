"""What stands on the hosts now: every instance of every deployment, and which of them give weights.

All of it is read from the hosts themselves, so whoever asks sees the same.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ascendctl.netloader.deployment_state import HostSeen, Life, Seen
from ascendctl.netloader.fleet import Fleet
from ascendctl.netloader.host_scripts import LOG_PART_BYTES, Look
from ascendctl.netloader.plan import Instance, PlanError, Role, Source
from ascendctl.netloader.readiness import readiness
from ascendctl.netloader.runs import Standing, StatusRun
from ascendctl.netloader.stored_plan import from_json

_HEAD_BYTES = 4 * 1024 * 1024
"""Of a log: what tells of the load stands at its beginning, and what was said last at its end."""


@dataclass(frozen=True)
class Recorded:
    """One instance that has a folder on a host. ``instance`` None: ``reason`` says why its plan cannot be
    read."""

    host: str
    seen: Seen
    instance: Instance | None
    reason: str = ""

    @property
    def alive(self) -> bool:
        return self.seen.life is Life.RUNNING


def recorded(listed: Mapping[str, HostSeen], deployment: str | None = None) -> tuple[Recorded, ...]:
    """All instances that were listed, or those of one deployment."""
    found = []
    for host, answer in listed.items():
        for seen in answer.instances:
            if deployment is None or seen.deployment == deployment:
                instance, reason = _planned(seen)
                found.append(Recorded(host, seen, instance, reason))
    return tuple(found)


def stand(fleet: Fleet, hosts: Sequence[str], deployment: str | None = None) -> StatusRun:
    """Look at all instances of these hosts: their processes, API, listeners and logs."""
    now = dt.datetime.now(dt.timezone.utc)
    listed = fleet.listed(hosts)
    found = recorded(listed, deployment)
    unasked = [(host, answer.reason) for host, answer in listed.items() if answer.reason]
    return StatusRun(now, tuple(hosts), looked(fleet, found), tuple(unasked), interrupted=fleet.stop.is_set())


def looked(fleet: Fleet, found: Sequence[Recorded]) -> tuple[Standing, ...]:
    """The same instances with all that can be learned of them now."""
    heads = fleet.looked(_looks(found, log_from=0, log_bytes=_HEAD_BYTES))
    longer = [one for one in found if _size(_part(heads, one)) > _HEAD_BYTES]
    tails = fleet.looked(_looks(longer, log_from=None, log_bytes=LOG_PART_BYTES))
    return tuple(_standing(one, _part(heads, one) or one.seen, _part(tails, one)) for one in found)


def sources(standings: Sequence[Standing]) -> dict[str, Source]:
    """By name, the instances that give their weights to joiners now.

    A joiner only if every rank of it is proven to have received what it serves: another one's disk may hold
    other weights.
    """
    found: dict[str, Source] = {}
    for one in standings:
        if one.instance is None or not one.ready or not one.serves or one.evidence is None:
            continue
        proven = not one.evidence.fallbacks and not one.evidence.unproven
        if one.instance.role is Role.SEED or proven:
            found[one.instance.name] = Source(one.instance.name, one.serves)
    return found


def _planned(seen: Seen) -> tuple[Instance | None, str]:
    if seen.plan is None:
        return None, seen.reason or "there is no plan.json that can be read"
    try:
        made = from_json(seen.plan)
    except PlanError as error:
        return None, "; ".join(error.problems)
    mine = next((one for one in made.instances if one.name == seen.instance), None)
    if mine is None or made.name != seen.deployment:
        return None, "plan.json is of another instance"
    return mine, ""


def _looks(found: Sequence[Recorded], *, log_from: int | None, log_bytes: int) -> dict[str, list[Look]]:
    looks: dict[str, list[Look]] = {}
    for one in found:
        look = Look(
            one.seen.deployment,
            one.seen.instance,
            log_from,
            log_bytes,
            one.instance.status_prefix if one.instance else None,
            one.instance.api if one.instance else None,
        )
        looks.setdefault(one.host, []).append(look)
    return looks


def _part(answers: Mapping[str, HostSeen], one: Recorded) -> Seen | None:
    answer = answers.get(one.host)
    wanted = (one.seen.deployment, one.seen.instance)
    parts = answer.instances if answer else ()
    return next((part for part in parts if (part.deployment, part.instance) == wanted), None)


def _size(seen: Seen | None) -> int:
    return seen.log.size_bytes if seen and seen.log else 0


def _standing(one: Recorded, seen: Seen, tail: Seen | None) -> Standing:
    started = seen.state.started_unix_s if seen.state else None
    runs_s = max(0.0, time.time() - started) if started and seen.life is Life.RUNNING else None
    if one.instance is None:
        return Standing(one.host, seen, reason=one.reason, runs_s=runs_s)
    head, end = (part.log.content if part and part.log else b"" for part in (seen, tail))
    # The end begins within a line, whose rest could pass for another one.
    said = head + b"\n" + end.partition(b"\n")[2]
    found = readiness(one.instance, seen, said.decode("utf-8", "replace"))
    return Standing(
        one.host,
        seen,
        one.instance,
        found.stage,
        found.ready,
        found.reason or "; ".join(found.notes) or found.waits_for,
        one.instance.url,
        found.serves,
        found.evidence,
        runs_s,
    )
