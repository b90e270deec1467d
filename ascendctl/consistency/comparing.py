"""One consistency test: everybody is asked, and it is judged."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence

from ascendctl.consistency.asking import Limits, Listener, ask_all
from ascendctl.consistency.observed import Log, Observation
from ascendctl.consistency.prompts import Prompt
from ascendctl.consistency.servers import Server
from ascendctl.consistency.verdicts import ConsistencyRun, judge


def compare_servers(
    reference: Server,
    candidates: Sequence[Server],
    prompts: tuple[Prompt, ...],
    listener: Listener,
    *,
    max_tokens: int,
    concurrency: int = 1,
    model: str | None = None,
    limits: Limits = Limits(),
    api_key: str = "",
    digests: bool = False,
    stopping: Callable[[], bool] = lambda: False,
) -> ConsistencyRun:
    """Ask all of them everything and judge what was learned, whole or not; see `asking.ask_all`.

    ``model``: its served name, None = the first listed.
    """
    logs = tuple(Log(server) for server in candidates)
    seen = Observation(prompts, Log(reference), logs, max_tokens, concurrency, model)
    started_at, began_s = dt.datetime.now(dt.timezone.utc), time.monotonic()
    ask_all(seen, limits, listener, api_key=api_key, digests=digests, stopping=stopping)
    return judge(seen, started_at, time.monotonic() - began_s)
