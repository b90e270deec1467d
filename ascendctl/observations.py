"""Captures of the second phase → observations: which ping was sent to whom, and what became of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ascendctl.facts import ParseStatus
from ascendctl.parsers import parse
from ascendctl.probe.capture import HostCapture
from ascendctl.probe.frames import Answer, Skip
from ascendctl.probe.mesh import PingId, ping_command, ping_id
from ascendctl.topology.fabric import Fabric, Plane, Port, PortId
from ascendctl.topology.mesh import Observation, Ping


@dataclass(frozen=True)
class PingAnswer:
    """What one device of a host learned of an address, all calls of the tool together.

    ``sent`` and ``received`` are packets, None where nothing was learned, with the reason in ``problem``.
    """

    plane: Plane
    device: int
    address: str
    sent: int | None = None
    received: int | None = None
    problem: str = ""


def ping_answers(capture: HostCapture) -> tuple[PingAnswer, ...]:
    """The pings that a host's answer tells of, in its order. Never raises for what a host sent."""
    calls: dict[tuple[PingId, int], list[PingAnswer]] = defaultdict(list)
    told: list[Answer | Skip] = [*capture.answers.values(), *capture.skips.values()]
    for one in told:
        asked, device = ping_id(one.command_id), one.target.phy
        if asked is not None and device is not None:
            calls[asked, device].append(_read(asked, device, one))
    return tuple(_together(answers) for answers in calls.values())


def observations(answers: Mapping[str, Sequence[PingAnswer]], fabric: Fabric) -> tuple[Observation, ...]:
    """The pings between ports of the fabric. ``answers``: by the host that sent them.

    Of an address that several ports have, the first one on another host is taken to be meant.
    """
    ports = _ByAddress(fabric)
    found = []
    for host, told in answers.items():
        for one in told:
            source = fabric.by_id.get(PortId(host, one.device))
            target = ports.target(source, one.plane, one.address) if source else None
            if source and target:
                ping = Ping(one.plane, source.id, target.id, one.address)
                found.append(Observation(ping, one.sent, one.received, one.problem))
    return tuple(found)


def pooled(rounds: Iterable[Observation]) -> tuple[Observation, ...]:
    """Observations of the same ping as one, in the order they were first made."""
    by_ping: dict[Ping, list[Observation]] = {}
    for observation in rounds:
        by_ping.setdefault(observation.ping, []).append(observation)
    return tuple(_pool(ping, made) for ping, made in by_ping.items())


def _pool(ping: Ping, made: Sequence[Observation]) -> Observation:
    learned = [one for one in made if one.sent is not None]
    if len(made) == 1 or not learned:
        return made[0]
    sent = sum(one.sent or 0 for one in learned)
    return Observation(ping, sent, sum(one.received or 0 for one in learned))


def _together(calls: Sequence[PingAnswer]) -> PingAnswer:
    learned = [call for call in calls if call.sent is not None]
    if len(calls) == 1 or not learned:
        return calls[0]
    first = learned[0]
    sent = sum(call.sent or 0 for call in learned)
    received = sum(call.received or 0 for call in learned)
    return PingAnswer(first.plane, first.device, first.address, sent, received)


def _read(asked: PingId, device: int, one: Answer | Skip) -> PingAnswer:
    def unlearned(problem: str) -> PingAnswer:
        return PingAnswer(asked.plane, device, asked.address, problem=problem)

    if isinstance(one, Skip):
        return unlearned(_why_skipped(one))
    # Only device and address are read of the line, and they are the same in every call.
    command = ping_command(asked.plane, device, asked.address, packets=1)
    if one.killed:
        return unlearned(f"it had to be killed after {command.timeout_s} s or more")
    try:
        parsed = parse(command.text(), one.stdout, one.stderr, one.exit_code)
    except Exception as error:  # a parser's own fault must cost one ping, not the run
        return unlearned(f"ascendctl could not read it ({type(error).__name__}: {error})")
    if parsed.status is not ParseStatus.OK or parsed.facts is None:
        return unlearned(parsed.reason or parsed.status.value)
    facts = parsed.facts
    return PingAnswer(asked.plane, device, asked.address, facts.transmitted, facts.received)


def _why_skipped(skip: Skip) -> str:
    if skip.reason == "missing":
        return "hccn_tool is not on the host"
    if skip.reason == "time-up":
        return "the time for pings was up before its turn"
    by = ping_id(skip.hung_command_id or "")
    which = f"a ping of {by.address}" if by else "another command"
    return f"hccn_tool had to be killed at {which} before its turn"


class _ByAddress:
    """Which port an address of a plane is, seen from another one."""

    def __init__(self, fabric: Fabric) -> None:
        self._ports: dict[tuple[Plane, int | None, str], list[Port]] = defaultdict(list)
        for plane in Plane:
            for port in fabric.ports_on(plane):
                self._ports[self._key(port, plane, port.address(plane) or "")].append(port)

    def target(self, source: Port, plane: Plane, address: str) -> Port | None:
        there = self._ports.get(self._key(source, plane, address), ())
        return next((port for port in there if port.id.host != source.id.host), None)

    @staticmethod
    def _key(port: Port, plane: Plane, address: str) -> tuple[Plane, int | None, str]:
        """vNIC addresses repeat from one super pod to the next."""
        return plane, port.super_pod if plane is Plane.HCCS else None, address
