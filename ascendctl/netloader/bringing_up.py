"""Start instances and watch them until each is ready, has failed, or its time is over.

Everything waited for is a fact of the hosts, looked at again and again; every wait ends. What was started is
never stopped from here: an instance that takes longer than its time, or a run that is interrupted, leaves it
running and says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ascendctl.durations import span_text
from ascendctl.netloader.deployment_state import HostSeen, Life, Seen, Start, Started
from ascendctl.netloader.fleet import Fleet
from ascendctl.netloader.host_scripts import LOG_PART_MOST_BYTES, Look
from ascendctl.netloader.log_rules import Stage
from ascendctl.netloader.placing import joined
from ascendctl.netloader.plan import Deployment, Instance, PlanError, Role, Source
from ascendctl.netloader.readiness import Readiness, readiness
from ascendctl.netloader.runs import End, InstanceRun, Listener
from ascendctl.netloader.stored_plan import differences, from_json
from ascendctl.netloader.waves import ALTERNATES, Join, JoinPlan

LOG_KEPT_MOST_BYTES = 64 * 1024 * 1024
"""Of one log; an engine that writes more before it is ready is judged by what came first."""


@dataclass(frozen=True)
class Limits:
    """``ready_s``: from the start of a wave until all of it is ready; ``every_s``: between two looks;
    ``lost_s``: how long a host may not answer; ``settle_s``: for the last words of a rank, once its
    instance is ready, that prove where its weights came from."""

    ready_s: float = 1800.0
    every_s: float = 2.0
    lost_s: float = 120.0
    settle_s: float = 15.0


@dataclass
class BringUp:
    """One run's starts. ``interrupted``: whether to end; asked between two looks."""

    fleet: Fleet
    deployment: str
    listener: Listener
    limits: Limits = Limits()
    interrupted: Callable[[], bool] = lambda: False

    def instances(
        self, instances: Sequence[Instance], running: Collection[str] = ()
    ) -> tuple[InstanceRun, ...]:
        """Start what does not run yet (``running``: names of what does) and watch all of it.

        Never raises for a host's sake; one answer per instance, in their order.
        """
        if self.interrupted():
            return tuple(
                InstanceRun(one, End.NOT_STARTED, reason="interrupted before it") for one in instances
            )
        self.listener.began(instances)
        began_s = time.monotonic()
        answers = self.fleet.started(self.deployment, [one for one in instances if one.name not in running])
        watched: dict[str, _Watched] = {}
        ended: dict[str, InstanceRun] = {}
        for one in instances:
            mine = _Watched(one, began_s, ran_already=one.name in running)
            run = None if one.name in running else self._at_start(mine, answers[one.name])
            if run is None:
                watched[one.name] = mine
            else:
                self._end(ended, run)
        self._watch(watched, ended, began_s)
        return tuple(ended[one.name] for one in instances)

    def joiners(
        self,
        plan: JoinPlan,
        joiners: Mapping[str, Instance],
        sources: Mapping[str, Source],
        running: Collection[str] = (),
    ) -> tuple[InstanceRun, ...]:
        """Wave by wave. ``sources``: who gives weights now, by the plan's names.

        A joiner becomes a source of later waves once every rank of it is proven to have received its
        weights. After a wave of which none is, the rest is not started: the cause is not theirs. Hosts
        that were not reached do not count.
        """
        known = dict(sources)
        runs: list[InstanceRun] = []
        for number, wave in enumerate(plan.waves, start=1):
            if len(plan.waves) > 1:
                self.listener.say(f"wave {number} of {len(plan.waves)}: {len(wave.joins)} to join")
            ready, refused = [], []
            for join in wave.joins:
                one = joiners[join.joiner]
                try:
                    ready.append(one if one.name in running else joined(one, _chosen(join, known)))
                except PlanError as error:
                    refused.append(InstanceRun(one, End.NOT_STARTED, reason="; ".join(error.problems)))
            done = [*self.instances(ready, running), *refused]
            runs += done
            proven = [one for one in done if _gives(one)]
            known.update((one.instance.name, Source(one.instance.name, one.serves)) for one in proven)
            left = [joiners[join.joiner] for later in plan.waves[number:] for join in later.joins]
            # A host that could not be asked says nothing of the sources.
            tried = [one for one in done if one.end is not End.UNREACHED or one.stage is not None]
            if left and (self.interrupted() or (tried and not proven)):
                why = (
                    "interrupted before its wave"
                    if self.interrupted()
                    else f"no joiner of wave {number} took its weights from a source, so it would not either"
                )
                runs += [InstanceRun(one, End.NOT_STARTED, reason=why) for one in left]
                break
        return tuple(runs)

    # One wave -----------------------------------------------------------------------------------------

    def _at_start(self, mine: _Watched, started: Started) -> InstanceRun | None:
        """What a start alone decides; None = it is to be watched."""
        one = mine.instance
        if started.seen is not None and started.seen.state is not None:
            mine.note_of(started.seen)
        if started.outcome is Start.RUNS_ALREADY:
            mine.ran_already = True
            return self._if_of_another_plan(one, started.seen)
        if started.outcome is Start.UNREACHED:
            return InstanceRun(one, End.UNREACHED, reason=started.reason)
        if started.outcome in (Start.REFUSED, Start.FAILED):
            text = mine.feed(started.seen) if started.seen else ""
            known = readiness(one, started.seen, text) if started.seen else None
            return InstanceRun(
                one, End.FAILED, reason=started.reason, lines=known.lines if known else (), remedy=_AT_START
            )
        if started.outcome is Start.UNKNOWN:
            mine.notes.append(f"whether it was started was not told: {started.reason}")
        return None

    def _if_of_another_plan(self, one: Instance, seen: Seen | None) -> InstanceRun | None:
        try:
            running = from_json(seen.plan or "" if seen else "")
            found = differences(running, Deployment(self.deployment, (one,)))
        except PlanError as error:
            found = error.problems
        if not found:
            return None
        reason = "it runs already, by another plan: " + "; ".join(found)
        return InstanceRun(one, End.FAILED, ran_already=True, reason=reason, remedy=_OTHER_PLAN)

    def _watch(self, watched: dict[str, _Watched], ended: dict[str, InstanceRun], began_s: float) -> None:
        try:
            self._watch_on(watched, ended, began_s)
        except KeyboardInterrupt:  # a second Ctrl-C: nothing more is asked, and what is known is told
            self._leave(watched, ended, End.INTERRUPTED)

    def _watch_on(self, watched: dict[str, _Watched], ended: dict[str, InstanceRun], began_s: float) -> None:
        while watched:
            now = time.monotonic()
            due = {name: one for name, one in watched.items() if one.next_look_at <= now}
            looks: dict[str, list[Look]] = {}
            for one in due.values():
                looks.setdefault(one.instance.host, []).append(one.look(self.deployment))
            answers = self.fleet.looked(looks)
            for name, one in due.items():
                run = self._judged(one, answers[one.instance.host])
                if run is not None:
                    self._end(ended, run)
                    del watched[name]
            over = time.monotonic() - began_s > self.limits.ready_s
            if over or self.interrupted():
                self._leave(watched, ended, End.INTERRUPTED if self.interrupted() else End.NOT_READY)
                return
            if watched:
                self._pause()

    def _leave(self, watched: dict[str, _Watched], ended: dict[str, InstanceRun], end: End) -> None:
        for name, one in watched.items():
            if name not in ended:
                self._end(ended, one.run(end, reason=_still(one, end, self.limits.ready_s)))

    def _judged(self, one: _Watched, seen: HostSeen) -> InstanceRun | None:
        """What became of it, or None while it is to be looked at again."""
        mine = next((part for part in seen.instances if part.instance == one.instance.name), None)
        now = time.monotonic()
        if mine is None or (mine.life is Life.UNKNOWN and seen.reason):
            one.lost_since = one.lost_since or now
            # A round ends with its slowest host, and one that hangs is slow: the others are asked meanwhile.
            one.next_look_at = now + min(_LOST_LOOK_MOST_S, max(self.limits.every_s, now - one.lost_since))
            reason = seen.reason or "the host's answer does not tell of it"
            self._moved(one, f"not seen: {reason}")
            return (
                one.run(End.UNREACHED, reason=reason) if now - one.lost_since > self.limits.lost_s else None
            )
        one.lost_since = None
        text = one.feed(mine)
        if one.reads_on(mine):
            self._moved(one, "its log is long and is being read")
            return None
        one.found = found = readiness(one.instance, mine, text)
        if found.stage is not None and found.stage not in one.stages and not one.ran_already:
            one.stages[found.stage] = now - one.began_s
        if found.failed:
            return one.run(End.FAILED, reason=found.reason, remedy=found.remedy)
        if found.ready:
            one.ready_at = one.ready_at or now
            open_ones = found.evidence.unproven if found.evidence else ()
            if not open_ones or now - one.ready_at > self.limits.settle_s:
                return one.run(End.READY)
            self._moved(one, "ready; its ranks have not said yet where their weights came from")
        else:
            self._moved(one, found.waits_for)
        return None

    def _moved(self, one: _Watched, what: str) -> None:
        if what != one.what:
            one.what = what
            self.listener.moved(one.instance, what)

    def _end(self, ended: dict[str, InstanceRun], run: InstanceRun) -> None:
        ended[run.instance.name] = run
        self.listener.ended(run)

    def _pause(self) -> None:
        until_s = time.monotonic() + self.limits.every_s
        while not self.interrupted() and (left_s := until_s - time.monotonic()) > 0:
            time.sleep(min(0.1, left_s))


_LOST_LOOK_MOST_S = 30.0
_LOG_BEHIND_BYTES = 256 * 1024
_AT_START = "See the host for what it says; nothing of the engine runs."
_OTHER_PLAN = "Stop it (ascendctl netloader stop), or ask for what runs; nothing was changed."


@dataclass
class _Watched:
    """What one run knows of one instance that it watches."""

    instance: Instance
    began_s: float
    ran_already: bool = False
    log: bytearray = field(default_factory=bytearray)
    stages: dict[Stage, float] = field(default_factory=dict)
    found: Readiness | None = None
    notes: list[str] = field(default_factory=list)
    lost_since: float | None = None
    next_look_at: float = 0.0
    ready_at: float | None = None
    what: str = ""
    start_id: str = ""

    def look(self, deployment: str) -> Look:
        room = LOG_KEPT_MOST_BYTES - len(self.log)
        return Look(
            deployment,
            self.instance.name,
            log_from=len(self.log),
            log_bytes=max(0, min(LOG_PART_MOST_BYTES // 4, room)),
            status_prefix=self.instance.status_prefix,
            api=self.instance.api,
        )

    def feed(self, seen: Seen) -> str:
        """The log as far as it was read. A new start begins a new one."""
        start_id = seen.state.start_id if seen.state else self.start_id
        if start_id != self.start_id or (seen.log and seen.log.size_bytes < len(self.log)):
            self.start_id = start_id
            self.log.clear()
        if seen.log is not None and seen.log.offset == len(self.log):
            self.log += seen.log.content
        return self.log.decode("utf-8", "replace")

    def reads_on(self, seen: Seen) -> bool:
        """Whether there is more of the log than was read; of one that grows, by more than came since."""
        size = seen.log.size_bytes if seen.log else 0
        behind = _LOG_BEHIND_BYTES if seen.life is Life.RUNNING else 0
        return len(self.log) < min(size, LOG_KEPT_MOST_BYTES) - behind

    def note_of(self, seen: Seen) -> None:
        if seen.state is not None and seen.state.ends_with_the_login:
            self.notes.append(
                f"the login manager of {self.instance.host} ends it once its user has logged out everywhere "
                "(KillUserProcesses=yes); allow the user to linger: loginctl enable-linger"
            )

    def run(self, end: End, *, reason: str = "", remedy: str = "") -> InstanceRun:
        found = self.found or Readiness(ready=None)
        ready_s = self.ready_at - self.began_s if self.ready_at and not self.ran_already else None
        return InstanceRun(
            self.instance,
            end,
            self.ran_already,
            found.stage,
            reason,
            remedy,
            found.lines,
            "" if end is End.FAILED and not found.ready else self.instance.url,
            found.serves if end is End.READY else (),
            found.evidence,
            ready_s if end is End.READY else None,
            tuple(self.stages.items()),
            found.seconds,
            (*self.notes, *found.notes),
        )


def _gives(run: InstanceRun) -> bool:
    """Whether others may take its weights: never from one that may have read something else from its disk."""
    found = run.evidence
    if not run.ready or not run.serves or found is None:
        return False
    return run.instance.role is Role.JOINER and not found.fallbacks and not found.unproven


def _chosen(join: Join, known: Mapping[str, Source]) -> list[Source]:
    """The planned sources that are there, the gaps filled with others."""
    planned = [known[name] for name in join.sources if name in known]
    others = [source for name, source in known.items() if name not in join.sources]
    return [*planned, *others[: max(0, 1 + ALTERNATES - len(planned))]]


def _still(one: _Watched, end: End, ready_s: float) -> str:
    what = one.what or "nothing was seen of it yet"
    if end is End.INTERRUPTED:
        return f"interrupted; it runs on and was at: {what}"
    return f"after {span_text(ready_s)} it still waits for: {what}; it runs on"
