"""The hosts of a deployment, asked over the transport: start, look, list, stop; a call is a round of asking.

A host that cannot be asked is an answer too: its ``reason`` says how reaching it went. Nothing here raises
for a host's sake.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ascendctl.exchange import Manner, ask_all
from ascendctl.inventory import Host
from ascendctl.netloader import host_scripts
from ascendctl.netloader.command import command, script
from ascendctl.netloader.deployment_state import (
    HostSeen,
    Seen,
    Start,
    Started,
    Stop,
    Stopped,
    parse_seen,
    parse_started,
    parse_stopped,
)
from ascendctl.netloader.host_scripts import Look
from ascendctl.netloader.plan import Deployment, Instance
from ascendctl.netloader.stored_plan import to_json
from ascendctl.probe.capture import HostCapture
from ascendctl.probe.script import new_nonce
from ascendctl.transport.contract import Deadlines, Failure, Job, Outcome, Transport
from ascendctl.transport.fanout import DEFAULT_WIDTH

T = TypeVar("T")

LOOK_LIMIT_S = 60.0
START_LIMIT_S = 120.0
# What ending takes beside the time that the engine is given.
_STOP_EXTRA_S = 60.0


@dataclass(frozen=True)
class Fleet:
    """How the hosts are asked. ``root``: the folder of the deployments on every host, None = the account's
    own. ``connect_s``: for a TCP connection. ``stop``: set to end what is under way."""

    hosts: Mapping[str, Host]
    transport: Transport
    root: str | None = None
    connect_s: float = 10.0
    width: int = DEFAULT_WIDTH
    stop: threading.Event = field(default_factory=threading.Event)

    def ask(
        self,
        script_of: Mapping[str, Callable[[str], bytes]],
        take: Callable[[Outcome, HostCapture], T],
        *,
        limit_s: float = LOOK_LIMIT_S,
    ) -> dict[str, T]:
        """Run one script on each of the named hosts; by host, what ``take`` made of it.

        ``script_of``: host name → nonce → the script (`host_scripts`, or any in the probe's frames).
        """
        if not script_of:
            return {}
        nonce = new_nonce()
        jobs = [
            Job(name, self.hosts[name].endpoint, make(nonce), self.hosts[name].group)
            for name, make in script_of.items()
        ]
        deadlines = Deadlines(connect_s=self.connect_s, host_s=limit_s)
        manner = Manner(self.transport, self.width, deadlines, None, _Nobody(), lambda host, text: None)
        return ask_all(jobs, nonce, manner, take, stop=self.stop)

    def listed(self, hosts: Sequence[str]) -> dict[str, HostSeen]:
        """All instances whose folders are on these hosts, without logs."""

        def take(outcome: Outcome, capture: HostCapture) -> HostSeen:
            return _with_failure(parse_seen(capture), outcome.failure)

        make = dict.fromkeys(hosts, lambda nonce: host_scripts.list_script(nonce, root=self.root))
        return self.ask(make, take)

    def looked(self, looks: Mapping[str, Sequence[Look]]) -> dict[str, HostSeen]:
        """Host → what its named instances are, with log, status files and API as `Look` asks."""

        def take(outcome: Outcome, capture: HostCapture) -> HostSeen:
            return _with_failure(parse_seen(capture), outcome.failure)

        def made(wanted: Sequence[Look]) -> Callable[[str], bytes]:
            return lambda nonce: host_scripts.look_script(nonce, wanted, root=self.root)

        return self.ask({host: made(wanted) for host, wanted in looks.items() if wanted}, take)

    def started(self, deployment: str, instances: Sequence[Instance]) -> dict[str, Started]:
        """Start every instance; by its name, what came of it. Those of one host go one after the other."""
        return self._by_turns(instances, lambda one: self._start(deployment, one), START_LIMIT_S, _started)

    def stopped(
        self, found: Sequence[tuple[str, Seen]], *, grace_s: int, remove: bool = True
    ) -> tuple[Stopped, ...]:
        """End what was seen (host, instance), only as long as it is still that start; in their order."""
        ended: dict[int, Stopped] = {}
        for turn in _turns(list(enumerate(found)), lambda one: one[1][0]):
            make = {host: self._stop(one, grace_s, remove) for host, (_, (_, one)) in turn.items()}
            answers = self.ask(make, _stopped, limit_s=grace_s + _STOP_EXTRA_S)
            ended.update((number, answers[host]) for host, (number, _) in turn.items())
        return tuple(ended[number] for number in range(len(found)))

    def _by_turns(
        self,
        instances: Sequence[Instance],
        script_for: Callable[[Instance], Callable[[str], bytes]],
        limit_s: float,
        take: Callable[[Outcome, HostCapture], T],
    ) -> dict[str, T]:
        made: dict[str, T] = {}
        for turn in _turns(instances, lambda one: one.host):
            scripts = {host: script_for(one) for host, one in turn.items()}
            answers = self.ask(scripts, take, limit_s=limit_s)
            made.update((one.name, answers[host]) for host, one in turn.items())
        return made

    def _start(self, deployment: str, instance: Instance) -> Callable[[str], bytes]:
        start_id = new_nonce()
        return lambda nonce: host_scripts.start_script(
            nonce,
            start_id,
            deployment,
            instance.name,
            plan=to_json(Deployment(deployment, (instance,))),
            run=script(command(instance)),
            root=self.root,
            launch_words=self.hosts[instance.host].engine_exec,
        )

    def _stop(self, one: Seen, grace_s: int, remove: bool) -> Callable[[str], bytes]:
        start_id = one.state.start_id if one.state else None
        return lambda nonce: host_scripts.stop_script(
            nonce,
            one.deployment,
            one.instance,
            start_id=start_id,
            root=self.root,
            grace_s=grace_s,
            remove=remove,
        )


class _Nobody:
    def started(self, host: str) -> None: ...

    def finished(self, outcome: Outcome) -> None: ...


def _turns(things: Sequence[T], host_of: Callable[[T], str]) -> list[dict[str, T]]:
    """At most one thing of a host at a time, in their order."""
    turns: list[dict[str, T]] = []
    for thing in things:
        host = host_of(thing)
        turn = next((one for one in turns if host not in one), None)
        if turn is None:
            turns.append(turn := {})
        turn[host] = thing
    return turns


def failure_text(failure: Failure) -> str:
    """``unreachable: no route to host`` in one line."""
    via = f" (by way of {failure.via})" if failure.via else ""
    return f"the host could not be asked: {failure.kind}{via}: {failure.detail}"


def _with_failure(seen: HostSeen, failure: Failure | None) -> HostSeen:
    """What came before the connection was lost is kept."""
    if failure is None:
        return seen
    return replace(seen, reason=failure_text(failure))


def _started(outcome: Outcome, capture: HostCapture) -> Started:
    started = parse_started(capture)
    if outcome.failure is None or started.outcome is not Start.UNKNOWN:
        return started
    why = failure_text(outcome.failure)
    # What was never sent has started nothing.
    return Started(Start.UNREACHED if outcome.sent_at is None else Start.UNKNOWN, why, started.seen)


def _stopped(outcome: Outcome, capture: HostCapture) -> Stopped:
    stopped = parse_stopped(capture)
    if outcome.failure is None or stopped.outcome is not Stop.UNKNOWN:
        return stopped
    return Stopped(Stop.UNKNOWN, failure_text(outcome.failure), stopped.signals, stopped.left)
