"""Runs against scripted servers: from scripts to the judged run and the servers that were asked."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from ascendctl.consistency.asking import Limits, ask_all
from ascendctl.consistency.observed import Log, Observation
from ascendctl.consistency.prompts import Prompt
from ascendctl.consistency.servers import server_at
from ascendctl.consistency.verdicts import ConsistencyRun, judge
from ascendctl.results import Result
from tests.consistency.scripted import Script, Scripted

WORDS = ("alpha", "bravo", "delta")
PROMPTS = (
    *(Prompt(word, text=f"The word is {word}, and") for word in WORDS),
    Prompt("chat", messages=(("user", "What is foxtrot?"),)),
)
MAX_TOKENS = 8


class Silent:
    def phase(self, server: str, what: str, total: int) -> None:
        pass

    def advanced(self, server: str) -> None:
        pass


@dataclass
class Judged:
    run: ConsistencyRun
    servers: list[Scripted]

    def cell(self, check: str, server: int = 1) -> Result:
        """The cell of a check on a server: 0 the reference, then the candidates."""
        name = self.servers[server].name
        (found,) = [one for one in self.run.results if (one.check, one.subject.host) == (check, name)]
        return found

    def statuses(self, server: int = 1) -> dict[str, str]:
        name = self.servers[server].name
        return {one.check: one.status.value for one in self.run.results if one.subject.host == name}


def asked_and_judged(
    reference: Script,
    *candidates: Script,
    prompts: tuple[Prompt, ...] = PROMPTS,
    concurrency: int = 1,
    limits: Limits | None = None,
    model: str | None = None,
    api_key: str = "",
    digests: bool = False,
    stopping: Callable[[list[Scripted]], bool] = lambda servers: False,
) -> Judged:
    """Start the servers, ask them, judge. The servers have ended when this returns."""
    limits = limits or Limits(connect_s=20, request_s=60)
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Scripted(script)) for script in (reference, *candidates)]
        logs = [Log(server_at(server.url)) for server in servers]
        seen = Observation(prompts, logs[0], tuple(logs[1:]), MAX_TOKENS, concurrency, model)
        ask_all(seen, limits, Silent(), api_key=api_key, digests=digests, stopping=lambda: stopping(servers))
    return Judged(judge(seen, dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc), 1.0), servers)
