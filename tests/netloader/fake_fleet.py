"""Instances of one rank and what their hosts would tell of them, without any host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ascendctl.netloader.deployment_state import HostSeen, Life, LogPart, Seen, Start, Started
from ascendctl.netloader.host_scripts import Look
from ascendctl.netloader.placing import planned
from ascendctl.netloader.plan import Deployment, Instance, Place, Role, Serving
from ascendctl.netloader.stored_plan import to_json
from tests.netloader.engine_logs import NO_SOURCE, READ, SHARDS, STARTED, SUCCESS

SERVING = Serving("/models/m", port=8000, listen_port=19374)
UP = "INFO:     Application startup complete."
SEED_LOG = "\n".join(("Initializing a V1 LLM engine (v0.13.0)", NO_SOURCE, SHARDS, READ, STARTED, UP, ""))
RECEIVED_LOG = "\n".join((*SUCCESS, UP, ""))
FELL_BACK_LOG = SEED_LOG
BUILDING_LOG = "Starting to load model /models/m...\n"


def instances(
    *hosts: str, role: Role = Role.JOINER, serving: Serving = SERVING, **place: Any
) -> tuple[Instance, ...]:
    """One on each host; host ``n7`` is 10.0.0.7."""
    places = [Place(host, f"10.0.0.{host.lstrip('n')}", **place) for host in hosts]
    return planned("prod", role, places, serving).instances


def seen(
    one: Instance,
    log: str = RECEIVED_LOG,
    *,
    ready: bool = True,
    life: Life = Life.RUNNING,
    log_from: int = 0,
    **more: Any,
) -> Seen:
    """As its host tells of it: ready where its listener and its API are there."""
    content = log.encode()
    told: dict[str, Any] = {
        "log": LogPart(len(content), log_from, content[log_from:]),
        "health": 200 if ready else 0,
        "listening": (one.port, one.listen_port) if ready else (),
        "plan": to_json(Deployment("prod", (one,))),
    }
    return Seen("prod", one.name, life, **{**told, **more})


Told = Callable[[Instance, int], "Seen | HostSeen | str"]


class FakeFleet:
    """Every instance that is started is ready and proven, but for what ``told`` says: by name, what a look
    brings, which gets the instance and the number of its look from 0 (a text: the host cannot be asked).
    ``starts``: what comes of a start where it is not plain; ``most_bytes``: of a log in one look.
    """

    def __init__(
        self,
        told: Mapping[str, Told] | None = None,
        starts: Mapping[str, Started] | None = None,
        on_look: Callable[[int], None] = lambda count: None,
        most_bytes: int | None = None,
    ) -> None:
        self._most_bytes = most_bytes
        self.told, self.starts = told or {}, starts or {}
        self.begun: list[list[str]] = []
        self.given: dict[str, tuple[tuple[str, ...], ...]] = {}
        self.looks: list[dict[str, list[Look]]] = []
        self._instances: dict[str, Instance] = {}
        self._looked: dict[str, int] = {}
        self._on_look = on_look

    def know(self, *more: Instance) -> None:
        """These run already."""
        self._instances |= {one.name: one for one in more}

    def started(self, deployment: str, wanted: Sequence[Instance]) -> dict[str, Started]:
        self.know(*wanted)
        self.begun.append([one.name for one in wanted])
        self.given |= {one.name: one.sources for one in wanted}
        return {one.name: self.starts.get(one.name, Started(Start.STARTED)) for one in wanted}

    def looked(self, looks: Mapping[str, Sequence[Look]]) -> dict[str, HostSeen]:
        self.looks.append({host: list(asked) for host, asked in looks.items()})
        self._on_look(len(self.looks))
        return {host: self._answer(asked) for host, asked in looks.items()}

    def _answer(self, asked: Sequence[Look]) -> HostSeen:
        parts: list[Seen] = []
        for look in asked:
            one, number = self._instances[look.instance], self._looked.get(look.instance, 0)
            self._looked[look.instance] = number + 1
            found = self.told[one.name](one, number) if one.name in self.told else seen(one)
            if isinstance(found, str):
                return HostSeen(reason=found)
            if isinstance(found, HostSeen):
                return found
            parts.append(_from(found, look.log_from or 0, self._most_bytes))
        return HostSeen(tuple(parts))


def _from(found: Seen, log_from: int, most_bytes: int | None) -> Seen:
    """The log from where it was asked for, as a host sends it."""
    if found.log is None or found.log.offset:
        return found
    content = found.log.content[log_from:][:most_bytes]
    return replace(found, log=LogPart(found.log.size_bytes, log_from, content))


class Heard:
    """A listener that keeps what it heard."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.moves: list[tuple[str, str]] = []
        self.ends: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def began(self, instances: Sequence[Instance]) -> None: ...

    def moved(self, instance: Instance, what: str) -> None:
        self.moves.append((instance.name, what))

    def ended(self, one: Any) -> None:
        self.ends.append(one.instance.name)
