"""What stands on the hosts now: every instance of every deployment, and which of them give weights.

All of it is read from the hosts themselves, so whoever asks sees the same.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ascendctl.netloader.deployment_state import HostSeen, Life, Seen
from ascendctl.netloader.fleet import Fleet
from ascendctl.netloader.host_scripts import LOG_PART_BYTES, Look
from ascendctl.netloader.plan import Engine, Instance, PlanError, Role, Source
from ascendctl.netloader.readiness import readiness
from ascendctl.netloader.runs import Standing, StatusRun
from ascendctl.netloader.stored_plan import from_json
from ascendctl.probe.frames import MAX_STREAM_BYTES

_HEAD_BYTES = 4 * 1024 * 1024
"""Of a log, at most: what tells of the load stands at its beginning, and what was said last at its end. All
of a host's have to fit into one answer."""


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
    """All instances that were listed, or those of one deployment; each once.

    Where hosts share a home folder an instance is seen from all of them, and only the one it runs on counts.
    An inventory may call a host otherwise than the one that the instance was started by: it is called by the
    name under which it was asked now.
    """
    found = []
    for host, answer in listed.items():
        for seen in answer.instances:
            if deployment is None or seen.deployment == deployment:
                instance, reason = _planned(seen)
                if instance is not None and seen.life is not Life.ELSEWHERE and instance.host != host:
                    instance = replace(instance, place=replace(instance.place, host=host))
                found.append(Recorded(host, seen, instance, reason))
    return tuple(one for one in found if not _is_anothers(one, found))


def _is_anothers(one: Recorded, found: Sequence[Recorded]) -> bool:
    """Whether the same start was seen better from another host."""
    state = one.seen.state
    if state is None or one.seen.life not in (Life.ELSEWHERE, Life.RESTARTED):
        return False
    same = [
        other.seen.life
        for other in found
        if other is not one and other.seen.state and other.seen.state.start_id == state.start_id
    ]
    if one.seen.life is Life.ELSEWHERE:
        return any(life is not Life.ELSEWHERE for life in same)
    return Life.RUNNING in same or Life.LEFTOVERS in same


def stand(fleet: Fleet, hosts: Sequence[str], deployment: str | None = None) -> StatusRun:
    """Look at all instances of these hosts: their processes, API, listeners and logs."""
    now = dt.datetime.now(dt.timezone.utc)
    listed = fleet.listed(hosts)
    found = recorded(listed, deployment)
    unasked = [(host, answer.reason) for host, answer in listed.items() if answer.reason]
    return StatusRun(now, tuple(hosts), looked(fleet, found), tuple(unasked), interrupted=fleet.stop.is_set())


def looked(fleet: Fleet, found: Sequence[Recorded]) -> tuple[Standing, ...]:
    """The same instances with all that can be learned of them now."""
    crowd = max(Counter(one.host for one in found).values(), default=1)
    head_bytes = min(_HEAD_BYTES, MAX_STREAM_BYTES // 2 // crowd)
    heads = fleet.looked(_looks(found, log_from=0, log_bytes=head_bytes))
    longer = [one for one in found if _size(_part(heads, one)) > head_bytes]
    tails = fleet.looked(_looks(longer, log_from=None, log_bytes=LOG_PART_BYTES))
    return tuple(_standing(one, _part(heads, one) or one.seen, _part(tails, one)) for one in found)


def sources(standings: Sequence[Standing]) -> dict[str, Source]:
    """By name, the instances that give their weights to joiners now.

    A joiner only if every rank of it is proven to have received what it serves: another one's disk may hold
    other weights. Of vllm-ascend's loader, which compares no weights, only one that was started after every
    seed that runs: an older one has those of a seed that is gone. Raises PlanError where the own loader's
    givers say that they hold different weights.
    """
    found: dict[str, Source] = {}
    origins: dict[str, str] = {}
    newest_seed_s = max((_began(one) for one in standings if _is_seed(one)), default=0)
    for one in standings:
        if one.instance is None or not one.ready or not one.serves or one.evidence is None:
            continue
        proven = not one.evidence.fallbacks and not one.evidence.unproven
        too_old = one.instance.serving.engine is Engine.ASCEND and _began(one) < newest_seed_s
        if _is_seed(one) or (proven and not too_old):
            found[one.instance.name] = Source(one.instance.name, one.serves)
            if one.origin:
                origins[one.instance.name] = one.origin
    if len(set(origins.values())) > 1:
        told = ", ".join(f"{name}: {origin[:16]}" for name, origin in origins.items())
        raise PlanError(
            [
                f"the instances that could give their weights hold different ones (origin of {told}): stop "
                "those that are not to be taken, or name them apart"
            ]
        )
    return found


def _is_seed(one: Standing) -> bool:
    return one.instance is not None and one.instance.role is Role.SEED


def _began(one: Standing) -> int:
    return one.seen.state.started_unix_s if one.seen.state else 0


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
        found.origin,
    )
