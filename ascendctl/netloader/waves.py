"""Who takes the weights from whom, and when. Pure.

vllm-ascend serves one joiner at a time per rank, and a joiner waits 60 s for its turn; after that it reads
its disk, and the JOIN that it leaves behind can block the source for 30 minutes. So many joiners come in
waves: each wave's queues stay well below the limit, and every joiner is a source of the next wave. This
package's own engine needs no waves: its seed sends once, and the joiners pass the weights on in a chain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ascendctl.durations import span_text
from ascendctl.netloader.engine.options import DEFAULT_CHUNK_MIB, MIB
from ascendctl.netloader.plan import Engine, PlanError

ACK_WAIT_S = 60.0
"""How long vllm-ascend's joiner waits for the answer to its JOIN."""
WAIT_SHARE = 0.5
"""The share of that wait that a plan uses: past it the joiner is lost and its source blocked, and the rate is
an estimate."""
ALTERNATES = 1
"""Further sources written behind the planned one, for when that one is gone."""


@dataclass(frozen=True)
class Pace:
    """What the times follow from; None = not known. ``bytes_per_rank``: the weights of one rank;
    ``bytes_per_s``: one source to one joiner; ``startup_s``: from the start of a joiner to its JOIN.
    """

    bytes_per_rank: float | None = None
    bytes_per_s: float | None = None
    startup_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("bytes_per_rank", "bytes_per_s", "startup_s"):
            value = getattr(self, name)
            least = 0 if name == "startup_s" else None
            if value is not None and not (math.isfinite(value) and (value > 0 or value == least)):
                raise PlanError([f"{name} is {value:g}: it must be above 0"])

    @property
    def transfer_s(self) -> float | None:
        """One joiner's transfer, alone."""
        if self.bytes_per_rank is None or self.bytes_per_s is None:
            return None
        return self.bytes_per_rank / self.bytes_per_s


@dataclass(frozen=True)
class Join:
    """``sources``: names, the planned one first. ``turn``: 0 = served at once, n = n joiners go before it."""

    joiner: str
    sources: tuple[str, ...]
    turn: int = 0


@dataclass(frozen=True)
class Wave:
    """Joiners that are started together, once all of the wave before listen. ``seconds`` None = not known."""

    joins: tuple[Join, ...]
    seconds: float | None = None


@dataclass(frozen=True)
class JoinPlan:
    """``seconds``: start of the first joiner to end of the last transfer. ``notes``: one sentence each."""

    engine: Engine
    waves: tuple[Wave, ...]
    seconds: float | None = None
    notes: tuple[str, ...] = ()


def plan_waves(
    engine: Engine,
    seeds: Sequence[str],
    joiners: Sequence[str],
    pace: Pace = Pace(),
    *,
    chain: bool = True,
    chunk_bytes: int = DEFAULT_CHUNK_MIB * MIB,
) -> JoinPlan:
    """The plan for all joiners; the quickest that stays within the engine's limits.

    Without a known pace one joiner per source and wave, which fits any pace, and no seconds: a time is never
    guessed. ``chain`` False, of the own engine: its seeds feed all their joiners themselves.
    Raises PlanError without a seed, or for a name that stands twice.
    """
    names = [*seeds, *joiners]
    if not seeds:
        raise PlanError(["there is no source to take the weights from; start one, or name it with --source"])
    if len(set(names)) != len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise PlanError([f"{double} stands twice among sources and joiners"])
    if not joiners:
        return JoinPlan(engine, (), 0.0)
    if engine is Engine.OWN:
        return _at_once(seeds, joiners, pace, chain, chunk_bytes)
    return _in_waves(seeds, joiners, pace)


def most_at_once(pace: Pace, share: float = 1.0) -> int:
    """How many joiners one source may have in one wave: about 60 s * rate / bytes + 1 for the whole limit;
    1 without a known pace. The last of n joiners waits for n - 1 transfers."""
    transfer_s = pace.transfer_s
    if transfer_s is None:
        return 1
    # Above any number of joiners there is; keeps a tiny model's quotient from becoming infinite.
    return min(math.floor(share * ACK_WAIT_S / transfer_s), 1_000_000) + 1


def seconds_text(seconds: float | None) -> str:
    """``about 2 min 10 s``, or that it is not known."""
    return "not known" if seconds is None else f"about {span_text(seconds)}"


# vllm-ascend ----------------------------------------------------------------------------------------------


def _in_waves(seeds: Sequence[str], joiners: Sequence[str], pace: Pace) -> JoinPlan:
    most = min(most_at_once(pace, WAIT_SHARE), len(joiners))
    # Of two that take equally long, the one with shorter queues stands first.
    depth = min(range(1, most + 1), key=lambda depth: _ascend_seconds(len(seeds), len(joiners), pace, depth))
    sources, left = list(seeds), list(joiners)
    waves = []
    while left:
        started, left = left[: depth * len(sources)], left[depth * len(sources) :]
        joins = tuple(
            Join(joiner, _behind(sources, at % len(sources)), turn=at // len(sources))
            for at, joiner in enumerate(started)
        )
        waves.append(Wave(joins, _seconds(pace, 1 + max(join.turn for join in joins))))
        sources += started
    plan = JoinPlan(Engine.ASCEND, tuple(waves), _sum(wave.seconds for wave in waves))
    return replace(plan, notes=_ascend_notes(pace, plan))


def _ascend_seconds(sources: int, joiners: int, pace: Pace, depth: int) -> float:
    """How long all waves take with queues of ``depth``; without a known pace all depths are alike."""
    total = 0.0
    while joiners > 0:
        started = min(joiners, depth * sources)
        total += _seconds(pace, math.ceil(started / sources)) or 0.0
        joiners -= started
        sources += started
    return total


def _behind(sources: Sequence[str], first: int) -> tuple[str, ...]:
    """The planned source and its alternates, different ones for different joiners."""
    count = min(1 + ALTERNATES, len(sources))
    return tuple(sources[(first + step) % len(sources)] for step in range(count))


def _ascend_notes(pace: Pace, plan: JoinPlan) -> tuple[str, ...]:
    transfer_s = pace.transfer_s
    if transfer_s is None:
        unknown = "size of the weights" if pace.bytes_per_rank is None else "rate of the links"
        return (
            f"the {unknown} is not known, so each source gets one joiner at a time, which is always within "
            "vllm-ascend's limit, and no time is estimated",
        )
    queue = max(join.turn for wave in plan.waves for join in wave.joins)
    notes = [
        f"vllm-ascend serves one joiner at a time per rank and a joiner waits {ACK_WAIT_S:.0f} s: at "
        f"{span_text(transfer_s)} each, {most_at_once(pace)} at once would be the most; the longest queue of "
        f"this plan is {queue + 1}, its last waits {span_text(queue * transfer_s)}"
    ]
    if pace.startup_s is None:
        notes.append("how long an engine takes to start is not known, so no time is estimated")
    return tuple(notes)


# The own engine -------------------------------------------------------------------------------------------


def _at_once(
    seeds: Sequence[str], joiners: Sequence[str], pace: Pace, chain: bool, chunk_bytes: int
) -> JoinPlan:
    joins = tuple(Join(joiner, _behind(seeds, at % len(seeds))) for at, joiner in enumerate(joiners))
    longest = math.ceil(len(joiners) / len(seeds))
    rounds = float(longest)
    if chain and pace.bytes_per_rank is not None:
        chunks = max(1, math.ceil(pace.bytes_per_rank / chunk_bytes))
        rounds = 1 + (longest - 1) / chunks
    seconds = _seconds(pace, rounds)
    how = (
        f"each seed sends once and its joiners pass the weights on ({longest} in the longest chain)"
        if chain
        else f"each seed feeds its joiners itself ({longest} the most)"
    )
    notes = [how] if seconds is not None else [how, "size, rate or start are not known: no time is estimated"]
    return JoinPlan(Engine.OWN, (Wave(joins, seconds),), seconds, tuple(notes))


def _seconds(pace: Pace, rounds: float) -> float | None:
    transfer_s = pace.transfer_s
    return None if transfer_s is None or pace.startup_s is None else pace.startup_s + rounds * transfer_s


def _sum(parts: Iterable[float | None]) -> float | None:
    total = 0.0
    for part in parts:
        if part is None:
            return None
        total += part
    return total
