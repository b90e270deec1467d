"""One rank of an engine of several, as a process of its own: it does what `loader` does, without vLLM.

The ranks of one engine meet in a real gloo group. Played by `actors`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.e2e.engine.actors import Actor

GROUP_TIMEOUT_S = 90.0
"""So long a rank waits for one that never comes. Nothing in the tests takes it."""

PATIENT = {"connect_s": 60.0, "join_s": 60.0, "link_s": 60.0, "chunk_s": 60.0}
"""Deadlines of a join that none of these tests waits for: so many processes on two cores may all be slow."""

Say = Callable[..., None]


@contextmanager
def engine(
    folder: Path, *, ranks: int = 2, sources: Sequence[Sequence[str]] = (), **what: Any
) -> Iterator[list[Actor]]:
    """The ranks of one engine. ``folder`` is empty; ``sources``: for each rank, in the order to try; the rest
    as `play_rank` has it, where a list under ``each`` gives each rank its own."""
    folder.mkdir()
    each = what.pop("each", [{}] * ranks)
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                Actor(
                    "rank",
                    rank=rank,
                    ranks=ranks,
                    meet=str(folder / "meet"),
                    prefix=f"{folder}/rank",
                    sources=list(sources[rank]) if sources else [],
                    **{**what, **each[rank]},
                )
            )
            for rank in range(ranks)
        ]


def told(actors: Sequence[Actor], *events: str) -> list[dict[str, Any]]:
    return [actor.event(*events) for actor in actors]


def play_rank(what: Mapping[str, Any], say: Say, hold: Callable[[], None]) -> Any:
    """``weights``: a number that the content of all ranks follows from (what a seed, or a disk, holds);
    ``rank``, ``ranks``, ``meet``: where the ranks of this engine find each other; ``sources``: of this rank;
    ``options``; ``hold``: "agree" stays before the ranks agree. Returns the engine, which serves.
    """
    import torch

    from ascendctl.netloader.engine.address import Address
    from ascendctl.netloader.engine.agreement import AgreementError
    from ascendctl.netloader.engine.kept import Kept
    from ascendctl.netloader.engine.options import TARGET_GROUP
    from ascendctl.netloader.engine.origin import NO_SOURCE
    from ascendctl.netloader.engine.rank_engine import RankEngine, Seat
    from ascendctl.netloader.engine.shop import LegacyTensors
    from ascendctl.netloader.engine.weights import WeightSet
    from tests.e2e.engine.engines import digest_of_model, identity_of, model_of, options_of

    rank, ranks = int(what["rank"]), int(what["ranks"])
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{what['meet']}",
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=GROUP_TIMEOUT_S),
    )
    sources = tuple(map(Address.parse, what["sources"]))
    fields = {"timeouts": PATIENT, **what.get("options", {}), "sources": {rank: sources}}
    fields["output_prefix"] = what["prefix"]
    seat = Seat(rank, False, "/m/tiny", "127.0.0.1", torch.device("cpu"))
    mine = RankEngine(seat, options_of(fields), torch.distributed.group.WORLD)
    mine.identity = identity_of({"tp_size": ranks, "tp_rank": rank, "global_rank": rank})

    form = {"seed": 100 * int(what["weights"]) + rank, "small": 20, "large": 3, "large_mib": 1}
    named = model_of(form, filled=not sources)
    reason: str | None = NO_SOURCE
    if sources:
        reason = mine.join(WeightSet(named, mine.options.chunk_bytes), LegacyTensors())
        say("joined", reason=reason, digest=digest_of_model(named))
    if what.get("hold") == "agree":
        hold()
    try:
        reason = mine.agreed(reason)
    except AgreementError as error:
        mine.failed(str(error))
        say("disagreed", reason=str(error))
        return mine
    if sources and reason is not None:
        mine.give_up()
        mine.fell_back(reason)
        named = model_of(form, filled=True)
    if reason is not None:
        mine.read_disk()
    mine.quiet()
    mine.keeps(Kept.before(named, chunk_bytes=mine.options.chunk_bytes, digested=mine.received_manifest))
    if reason is not None:
        mine.combine()
    mine.serve(None, LegacyTensors())
    status = mine.status.content
    assert status["group"] == TARGET_GROUP
    with contextlib.suppress(KeyError):
        status["attempts"] = [[a["source"], a["phase"], a["reason"]] for a in status["attempts"]]
    say("ready", address=str(mine.address), digest=digest_of_model(named), status=status)
    return mine
