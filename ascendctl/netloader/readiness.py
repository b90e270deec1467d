"""Whether an instance is ready, why not, and what it gives to others: from what its host tells. Pure.

Ready is a fact of the outside: ``/health`` answers 200 where the engine runs; where there is nothing to ask
with, the log says that the API started and its port is listened on. That an instance is ready says nothing
of where its weights came from: that is `evidence`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ascendctl.netloader.deployment_state import Life, Seen
from ascendctl.netloader.engine.address import Address
from ascendctl.netloader.engine.options import DRAFT_PORT_OFFSET
from ascendctl.netloader.evidence import Evidence, StatusSeen, evidence
from ascendctl.netloader.log_failures import explained
from ascendctl.netloader.log_lines import Line, LogReading, read_log
from ascendctl.netloader.log_rules import Kind, Stage
from ascendctl.netloader.plan import Instance, Role
from ascendctl.report.printable import shown

HEALTHY = 200
_SHOWN_MOST = 400
_LAST_LINES = 4  # as many as a report shows: the cause stands in the last one
_LINES_MOST = 12
_STATUS_NAME = re.compile(r"(?P<rank>\d{1,6})(?P<draft>\.draft)?\.json")


@dataclass(frozen=True)
class Readiness:
    """``ready`` None = not learned. ``failed``: it will not become ready by itself, or is of no use;
    ``reason``, ``remedy``, ``lines`` say why. ``waits_for``: what is missing, in a few words. The rest as of
    `runs.InstanceRun`; ``origin`` as of `runs.Standing`.
    """

    ready: bool | None
    failed: bool = False
    stage: Stage | None = None
    waits_for: str = ""
    reason: str = ""
    remedy: str = ""
    lines: tuple[str, ...] = ()
    serves: tuple[str, ...] = ()
    evidence: Evidence | None = None
    seconds: tuple[tuple[str, float], ...] = ()
    notes: tuple[str, ...] = ()
    origin: str = ""


def readiness(instance: Instance, seen: Seen, log_text: str) -> Readiness:
    """What is known of an instance now. ``log_text``: its whole log, or all that was read of it."""
    log = read_log(log_text, instance.ranks, instance.serving.tp)
    statuses = statuses_of(instance, seen)
    found = Readiness(
        ready=None,
        stage=log.stage,
        evidence=evidence(instance, log, statuses),
        seconds=_seconds(log, statuses),
        origin=_origin(statuses),
    )
    if seen.life in (Life.ENDED, Life.RESTARTED, Life.LEFTOVERS, Life.ELSEWHERE):
        return _ended(found, instance, seen, log, log_text)
    if seen.life is Life.UNKNOWN:
        return replace(found, waits_for="what became of it", reason=seen.reason)
    healthy = _healthy(instance, seen, log)
    if not healthy:
        return replace(found, ready=healthy, waits_for=_waits_for(log))
    serves, quiet = _listeners(instance, seen, log, statuses)
    found = replace(found, ready=True, stage=Stage.READY, serves=serves)
    if not quiet:
        return found
    what = "the draft model is given to no joiner" if _only_draft(quiet) else "it takes no joiners"
    ranks = "; ".join(quiet)
    lines = tuple(_quoted(line) for line in (*log.without_server, *log.seed_trouble)[:_LINES_MOST])
    if instance.role is Role.SEED and not serves:
        return replace(
            found,
            failed=True,
            reason=f"it runs, and {what}: {ranks}",
            remedy="See the lines for why; set --listen-port to free ports and start it again.",
            lines=lines,
        )
    return replace(found, notes=(f"{what}: {ranks}",), lines=lines)


def statuses_of(instance: Instance, seen: Seen) -> tuple[StatusSeen, ...]:
    """The own engine's status files that the host sent, as `evidence` takes them.

    Which rank a file is of stands in its name, ``PREFIX{rank}[.draft].json``; the process that it names has
    to be one of the instance.
    """
    prefix = instance.status_prefix
    if prefix is None:
        return ()
    found = []
    for path, content in seen.statuses:
        name = _STATUS_NAME.fullmatch(path.removeprefix(prefix)) if path.startswith(prefix) else None
        if name is None:
            continue
        try:
            said: object = json.loads(content)
        except (ValueError, RecursionError):
            said = None
        pid = said.get("pid") if isinstance(said, Mapping) else None
        alive = pid in seen.members if isinstance(pid, int) and seen.life is not Life.UNKNOWN else None
        found.append(StatusSeen(int(name["rank"]), name["draft"] is not None, path, said, alive))
    return tuple(found)


# Not ready ------------------------------------------------------------------------------------------------


def _healthy(instance: Instance, seen: Seen, log: LogReading) -> bool | None:
    if seen.health is not None:
        return seen.health == HEALTHY
    if log.api_ready is None or seen.listening is None:
        return None
    return instance.port in seen.listening


def _waits_for(log: LogReading) -> str:
    if log.stage is None:
        return "the engine's first words"
    return "its API" if log.stage is Stage.READY else log.stage.value


def _ended(found: Readiness, instance: Instance, seen: Seen, log: LogReading, text: str) -> Readiness:
    """The cause by its log; the first failure is the cause, what follows are its consequences."""
    how = seen.reason or seen.life.value
    failures = log.failures
    if failures:
        first = failures[0].failure
        assert first is not None
        said = explained(first)
        lines = tuple(_quoted(line) for line in failures[:_LINES_MOST])
        return replace(
            found, ready=False, failed=True, reason=f"{said.what} ({how})", remedy=said.do, lines=lines
        )
    broken = [line for line in log.lines if line.kind in (Kind.SOURCE_FAILED, Kind.FALLBACK)]
    if broken:
        return replace(
            found,
            ready=False,
            failed=True,
            reason=f"no source served it ({how})",
            remedy="See the lines for why, and whether its sources run: ascendctl netloader status.",
            lines=tuple(_quoted(line) for line in broken[-_LINES_MOST:]),
        )
    plain = [line for line in text.splitlines() if line.strip() and not line.startswith("@ascendctl ")]
    return replace(
        found,
        ready=False,
        failed=True,
        reason=f"{how}; nothing in its log is a known cause",
        remedy=f"Read its log: ascendctl netloader logs {instance.name}.",
        lines=tuple(f"its last words: {shown(line)[:_SHOWN_MOST]}" for line in plain[-_LAST_LINES:]),
    )


# What it gives --------------------------------------------------------------------------------------------


def _listeners(
    instance: Instance, seen: Seen, log: LogReading, statuses: tuple[StatusSeen, ...]
) -> tuple[tuple[str, ...], list[str]]:
    """The target's listeners when every rank has one, else (); and what is said of ranks that have none."""
    addresses: list[str] = []
    quiet: list[str] = []
    files = {(one.rank, one.draft): one for one in statuses}
    for rank in range(instance.ranks):
        address, why = _listener(instance, rank, False, seen, log, files.get((rank, False)))
        if address is None:
            quiet.append(f"rank {rank}: {why}")
        else:
            addresses.append(address)
    if instance.serving.speculative:
        for rank in range(instance.ranks - instance.serving.tp, instance.ranks):
            address, why = _listener(instance, rank, True, seen, log, files.get((rank, True)))
            if address is None:
                quiet.append(f"{_DRAFT} of rank {rank}: {why}")
    return (tuple(addresses) if len(addresses) == instance.ranks else ()), quiet


_DRAFT = "draft model"


def _only_draft(quiet: list[str]) -> bool:
    return all(text.startswith(_DRAFT) for text in quiet)


def _listener(
    instance: Instance, rank: int, draft: bool, seen: Seen, log: LogReading, file: StatusSeen | None
) -> tuple[str | None, str]:
    """Its address, or None and why."""
    said = log.listening(rank, draft=draft)
    if file is not None and isinstance(file.content, Mapping) and file.alive is not False:
        return _by_file(file.content)
    if said is None:
        return None, "nothing says that it listens"
    if said.kind is not Kind.LISTENING:
        return None, shown(said.text)[:_SHOWN_MOST]
    planned = instance.listeners[rank] if instance.listeners else said.address
    if planned is None:
        return None, "which port it listens on is not known; set --listen-port"
    try:
        address = Address.parse(planned)
    except ValueError:
        return None, "which port it listens on is not known; set --listen-port"
    if draft and instance.listeners:
        address = Address(address.host, address.port + DRAFT_PORT_OFFSET)
    if seen.listening is not None and address.port not in seen.listening:
        return None, f"its log says that it listens, and nothing does at port {address.port}"
    return str(address), ""


def _by_file(content: Mapping[str, object]) -> tuple[str | None, str]:
    listener, serving = content.get("listener"), content.get("serving")
    listener = listener if isinstance(listener, Mapping) else {}
    serving = serving if isinstance(serving, Mapping) else {}
    host, port = listener.get("address"), listener.get("port")
    if not listener.get("accepting") or not isinstance(host, str) or not isinstance(port, int):
        return None, "its listener accepts nobody"
    if not serving.get("serving"):
        return None, f"it serves nobody now: {shown(str(serving.get('reason')))[:_SHOWN_MOST]}"
    return str(Address(host, port)), ""


def _origin(statuses: tuple[StatusSeen, ...]) -> str:
    """What every rank's status file says that the weights are, "" where one says nothing or another thing."""
    told = set()
    for one in statuses:
        weights = one.content.get("weights") if isinstance(one.content, Mapping) and not one.draft else None
        if not one.draft:
            told.add(weights.get("origin") if isinstance(weights, Mapping) else None)
    origin = told.pop() if len(told) == 1 else None
    return origin if isinstance(origin, str) else ""


# Parts ----------------------------------------------------------------------------------------------------


def _seconds(log: LogReading, statuses: tuple[StatusSeen, ...]) -> tuple[tuple[str, float], ...]:
    """Phase → seconds, of several ranks the longest; a status file's sums go before single lines."""
    longest: dict[str, float] = {}
    for one in statuses:
        told = one.content.get("seconds") if isinstance(one.content, Mapping) and not one.draft else None
        for phase, seconds in told.items() if isinstance(told, Mapping) else ():
            if isinstance(seconds, (int, float)) and not isinstance(seconds, bool):
                longest[shown(str(phase))] = max(longest.get(str(phase), 0.0), float(seconds))
    return tuple((log.seconds | longest).items())


def _quoted(line: Line) -> str:
    return f"line {line.number}: {shown(line.text)[:_SHOWN_MOST]}"
