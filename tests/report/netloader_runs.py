"""Runs of `netloader` to report on, built by hand: every end, every way that weights come."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

from ascendctl.netloader.deployment_state import Life, Seen
from ascendctl.netloader.evidence import Came, Evidence, RankEvidence
from ascendctl.netloader.log_rules import Stage
from ascendctl.netloader.plan import Engine, Instance, Place, Role, Serving
from ascendctl.netloader.runs import End, InstanceRun, NetloaderRun, Standing, StatusRun

STARTED = dt.datetime(2026, 3, 4, 5, 6, 7, tzinfo=dt.timezone.utc)
SECRET = "s3cret-value-of-a-variable"
READY_STAGES = (
    (Stage.STARTED, 0.4),
    (Stage.BUILDING, 3.1),
    (Stage.JOINING, 4.0),
    (Stage.RECEIVING, 5.2),
    (Stage.WEIGHTS, 11.8),
    (Stage.LISTENING, 12.0),
    (Stage.PREPARING, 12.9),
    (Stage.READY, 20.3),
)
PHASE_SECONDS = (
    ("connect", 0.02),
    ("join", 0.14),
    ("group", 1.06),
    ("wire", 5.31),
    ("digest", 0.62),
    ("post-process", 0.09),
    ("load", 7.44),
)


def instance(
    number: int = 2,
    *,
    role: Role = Role.JOINER,
    tp: int = 8,
    host: str = "",
    label: str = "",
    draft: bool = False,
) -> Instance:
    host = host or f"node{number:02d}"
    args = ("--speculative-config", "{}", "--api-key", SECRET) if draft else ("--api-key", SECRET)
    serving = Serving("/models/Qwen3-32B", engine=Engine.OWN, tp=tp, engine_args=args)
    place = Place(host, address(number), tuple(range(tp)), (("API_TOKEN", SECRET), ("HCCL_IF_IP", SECRET)))
    sources = tuple((f"{address(1)}:{2333 + rank}",) for rank in range(tp)) if role is Role.JOINER else ()
    return Instance(label or f"{host}.1", role, place, serving, 8000, 2333, sources)


def address(number: int) -> str:
    return f"10.0.{number // 250}.{number % 250}"


def ranks(
    of: Iterable[int], came: Came = Came.P2P, *, giver: int = 1, draft: bool = False, **more: Any
) -> list[RankEvidence]:
    if came is Came.P2P:
        more = {"verified": True, **more}
        return [
            RankEvidence(rank, draft, came, source=f"{address(giver)}:{2333 + rank}", **more) for rank in of
        ]
    said = {Came.DISK: "no source answered", Came.UNKNOWN: "no line of the log tells"}[came]
    more = {"reason": said, "decided_by": (f"line {40 + came.value.__len__()}: {said} at all",), **more}
    return [RankEvidence(rank, draft, came, **more) for rank in of]


def evidence(one: Instance, found: Sequence[RankEvidence] | None = None) -> Evidence:
    if found is None:
        came = Came.P2P if one.role is Role.JOINER else Came.DISK
        found = ranks(range(one.ranks), came)
    return Evidence(one.name, one.role, tuple(found))


def ready(
    one: Instance | None = None, found: Sequence[RankEvidence] | None = None, **more: Any
) -> InstanceRun:
    one = one or instance()
    values: dict[str, Any] = {
        "stage": Stage.READY,
        "url": f"http://{one.place.address}:8000",
        "serves": one.listeners,
        "evidence": evidence(one, found),
        "ready_s": 20.3,
        "stages": READY_STAGES,
        "seconds": PHASE_SECONDS if one.role is Role.JOINER else (),
        **more,
    }
    return InstanceRun(one, End.READY, **values)


def ended(end: End, one: Instance | None = None, **more: Any) -> InstanceRun:
    if end is End.READY:
        return ready(one, **more)
    values: dict[str, Any] = {
        "stage": Stage.BUILDING,
        "reason": f"the reason of {end.name}",
        "remedy": f"the remedy of {end.name}",
        "lines": (f"line 77: {end.name} in the log",),
        **more,
    }
    return InstanceRun(one or instance(), end, **values)


def seed(number: int = 1, **more: Any) -> InstanceRun:
    return ready(instance(number, role=Role.SEED), **more)


def run(*instances: InstanceRun, verb: str = "join", **more: Any) -> NetloaderRun:
    return NetloaderRun(verb, "qwen3", Engine.OWN, STARTED, 42.3, instances, **more)


def standing(one: Instance, life: Life = Life.RUNNING, **more: Any) -> Standing:
    seen = more.pop("seen", None) or Seen("qwen3", one.name, life, more.pop("why", ""))
    values: dict[str, Any] = {"instance": one, "evidence": evidence(one)}
    if life is Life.RUNNING:
        values |= {
            "stage": Stage.READY,
            "ready": True,
            "url": f"http://{one.place.address}:8000",
            "serves": one.listeners,
            "runs_s": 4210.0,
        }
    return Standing(one.host, seen, **{**values, **more})


def status(*standings: Standing, **more: Any) -> StatusRun:
    hosts = tuple(dict.fromkeys(one.host for one in standings)) or ("node01",)
    return StatusRun(STARTED, more.pop("hosts", hosts), standings, **more)
