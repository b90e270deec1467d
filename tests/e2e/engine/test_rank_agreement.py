"""Engines of two ranks, each a process, in real gloo groups: never parts of different weights in one model.

Seeds of equal identity, whose weights differ or not; joiners whose ranks are sent to different ones.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ascendctl.netloader.engine.origin import origin_of
from tests.e2e.engine.actors import Actor
from tests.e2e.engine.engines import Seed
from tests.e2e.engine.ranks import GROUP_TIMEOUT_S, PATIENT, engine, told


@pytest.fixture
def stack() -> Any:
    with ExitStack() as opened:
        yield opened


def ready(ranks: list[Actor]) -> list[dict[str, Any]]:
    return told(ranks, "ready")


def addresses(ranks: list[dict[str, Any]]) -> list[str]:
    return [rank["address"] for rank in ranks]


def weights(ranks: list[dict[str, Any]], field: str) -> list[Any]:
    return [rank["status"]["weights"][field] for rank in ranks]


def digests(ranks: list[dict[str, Any]]) -> list[str]:
    return [rank["digest"] for rank in ranks]


def reasons(ranks: list[dict[str, Any]]) -> list[str]:
    """Why each fell back."""
    return [rank["status"]["fallback"]["reason"] for rank in ranks]


def seeds(stack: ExitStack, folder: Path, *contents: int, **what: Any) -> list[list[dict[str, Any]]]:
    """Ready engines of two ranks that have their weights from disk."""
    made = [
        stack.enter_context(engine(folder / f"seed{place}", weights=content, **what))
        for place, content in enumerate(contents)
    ]
    return [ready(ranks) for ranks in made]


def test_ranks_sent_to_seeds_of_different_weights_use_neither(stack: ExitStack, tmp_path: Path) -> None:
    first, second = seeds(stack, tmp_path, 1, 2)
    assert len({*weights(first, "origin"), *weights(second, "origin")}) == 2
    sources = [[first[0]["address"]], [second[1]["address"]]]
    ranks = stack.enter_context(engine(tmp_path / "joiner", weights=3, sources=sources))
    joined = told(ranks, "joined")
    # Each rank alone finds nothing wrong: every byte of its part is its source's.
    assert [rank["reason"] for rank in joined] == [None, None]
    assert digests(joined) == [first[0]["digest"], second[1]["digest"]]
    fell_back = ready(ranks)
    for reason in reasons(fell_back):
        assert "different weights" in reason
        for named in (*sources[0], *sources[1], weights(first, "origin")[0], weights(second, "origin")[0]):
            assert named in reason
    assert weights(fell_back, "from") == ["disk", "disk"] and weights(fell_back, "source") == [None, None]
    # What they read from disk is none of what came; its origin is told as any seed's.
    assert not {*digests(fell_back)} & {*digests(first), *digests(second)}
    content_ids = dict(enumerate(weights(fell_back, "content_id")))
    assert weights(fell_back, "origin") == [origin_of(content_ids)] * 2


def test_seeds_of_the_same_weights_may_serve_a_rank_each_and_joiners_hand_the_origin_on(
    stack: ExitStack, tmp_path: Path
) -> None:
    """A chain of joiners, with other CHUNK_MIBs of their own: the last one has its ranks' parts from the
    second seed and from a joiner of a joiner of the first."""
    first, second = seeds(stack, tmp_path, 1, 1)
    origin = weights(first, "origin")[0]
    assert origin is not None and weights(first, "origin") == weights(second, "origin") == [origin] * 2
    rank_0, rank_1 = addresses(first)
    for place in range(3):
        sources = [[rank_0], [second[1]["address"] if place == 2 else rank_1]]
        options = {"chunk_bytes": (2 + place) * 512 * 1024}
        what = {"weights": 3, "sources": sources, "options": options}
        joined = ready(stack.enter_context(engine(tmp_path / f"joiner{place}", **what)))
        assert weights(joined, "from") == ["p2p", "p2p"] and weights(joined, "verified") == [True, True]
        assert weights(joined, "origin") == [origin] * 2
        assert digests(joined) == digests(first)
        rank_0, rank_1 = addresses(joined)


def test_joiners_hand_on_whose_weights_they_have(stack: ExitStack, tmp_path: Path) -> None:
    """Not the seeds, but a joiner of each is asked; in a chain, also while it still receives."""
    chained = {"chain": True, "bandwidth_bytes_s": 4.0 * 1024 * 1024}
    first, second = seeds(stack, tmp_path, 1, 2, options=chained)
    relays = [
        stack.enter_context(
            engine(
                tmp_path / f"relay{place}",
                weights=3,
                options=chained,
                sources=[[address] for address in addresses(seed)],
            )
        )
        for place, seed in enumerate((first, second))
    ]
    mixed = [[first[0]["address"]], [second[1]["address"]]]
    # Sent on by the seeds to the relays, which may be done by now or not.
    last = ready(stack.enter_context(engine(tmp_path / "last", weights=3, options=chained, sources=mixed)))
    assert weights(ready(relays[0]), "origin") == weights(first, "origin")
    served = ready(relays[1])
    assert weights(served, "origin") == weights(second, "origin")
    assert all("different weights" in reason for reason in reasons(last))
    sources = [[address] for address in addresses(served)]
    after = ready(stack.enter_context(engine(tmp_path / "after", weights=3, sources=sources)))
    assert weights(after, "origin") == weights(second, "origin") and digests(after) == digests(second)


def identity(rank: int) -> dict[str, int]:
    return {"tp_size": 2, "tp_rank": rank, "global_rank": rank}


def test_a_source_that_tells_no_origin(stack: ExitStack, tmp_path: Path) -> None:
    """As an older release: with VERIFY required the next source is asked; with if-offered what it sent must
    fit what others tell, and where nobody tells anything it is used, and reported and handed on so."""
    (seed,) = seeds(stack, tmp_path, 1)
    form = {"seed": 101, "small": 20, "large": 3, "large_mib": 1}
    silent = stack.enter_context(Seed(model=form, identity=identity(1), timeouts=PATIENT))
    model_0 = {**form, "seed": 100}
    silent_0 = stack.enter_context(Seed(model=model_0, identity=identity(0), timeouts=PATIENT))
    assert [silent_0.digest, silent.digest] == digests(seed)
    to = [[seed[0]["address"]], [str(silent.address)]]

    only = ready(stack.enter_context(engine(tmp_path / "only", weights=3, sources=to)))
    assert weights(only, "from") == ["disk", "disk"]
    assert "tells no origin" in reasons(only)[1] and "VERIFY: if-offered" in reasons(only)[1]
    assert [phase for _, phase, _ in only[1]["status"]["attempts"]] == ["join"]

    both = [[seed[0]["address"]], [str(silent.address), seed[1]["address"]]]
    next_one = ready(stack.enter_context(engine(tmp_path / "next", weights=3, sources=both)))
    assert weights(next_one, "from") == ["p2p", "p2p"]
    assert weights(next_one, "origin") == weights(seed, "origin")

    options = {"verify": "if-offered", "chain": True}
    proven = ready(stack.enter_context(engine(tmp_path / "proven", weights=3, sources=to, options=options)))
    assert weights(proven, "from") == ["p2p", "p2p"]
    assert weights(proven, "origin") == weights(seed, "origin"), "the parts make what one source told"
    # Also a relay, which was told nothing itself, knows it from then on.
    onward = [[address] for address in addresses(proven)]
    behind = ready(stack.enter_context(engine(tmp_path / "behind", weights=3, sources=onward)))
    assert weights(behind, "origin") == weights(seed, "origin")

    other = stack.enter_context(Seed(model={**form, "seed": 9}, identity=identity(1), timeouts=PATIENT))
    mixed = [to[0], [str(other.address)]]
    not_taken = ready(
        stack.enter_context(engine(tmp_path / "not", weights=3, sources=mixed, options=options))
    )
    assert all("which none of their sources has" in reason for reason in reasons(not_taken))

    both_silent = [[str(silent_0.address)], to[1]]
    what = {"weights": 3, "sources": both_silent, "options": options}
    taken = ready(stack.enter_context(engine(tmp_path / "taken", **what)))
    assert weights(taken, "from") == ["p2p", "p2p"] and digests(taken) == digests(seed)
    assert weights(taken, "origin") == [None, None]
    onward = [[address] for address in addresses(taken)]
    refused = ready(stack.enter_context(engine(tmp_path / "onward", weights=3, sources=onward)))
    assert weights(refused, "from") == ["disk", "disk"]
    for rank in refused:
        ((_, phase, reason),) = rank["status"]["attempts"]
        assert phase == "join" and "tells no origin" in reason


def test_a_rank_that_is_lost_ends_the_others_load(stack: ExitStack, tmp_path: Path) -> None:
    (seed,) = seeds(stack, tmp_path, 1)
    sources = [[address] for address in addresses(seed)]
    each = [{}, {"hold": "agree"}]
    ranks = stack.enter_context(engine(tmp_path / "joiner", weights=3, sources=sources, each=each))
    assert [rank["reason"] for rank in told(ranks, "joined")] == [None, None]
    ranks[1].event("held")
    started_s = time.monotonic()
    ranks[1].kill()
    assert "could not agree" in ranks[0].event("disagreed")["reason"]
    assert time.monotonic() - started_s < GROUP_TIMEOUT_S


def test_a_rank_that_waits_for_another_one_is_not_ready(stack: ExitStack, tmp_path: Path) -> None:
    first, second = seeds(stack, tmp_path, 1, 2)
    sources = [[first[0]["address"]], [second[1]["address"]]]
    each = [{}, {"hold": "agree"}]
    ranks = stack.enter_context(engine(tmp_path / "joiner", weights=3, sources=sources, each=each))
    told(ranks, "joined")
    ranks[1].event("held")
    status = json.loads((tmp_path / "joiner" / "rank0.json").read_text())
    assert (status["state"], status["weights"]["from"], status["weights"]["origin"]) == (
        "loading",
        "p2p",
        None,
    )
    assert status["listener"]["accepting"] is False and status["serving"]["serving"] is False
    ranks[1].tell("release")
    assert all("different weights" in reason for reason in reasons(ready(ranks)))


def test_a_rank_configured_without_a_source_keeps_the_others_from_theirs(
    stack: ExitStack, tmp_path: Path
) -> None:
    """Two nodes of one engine whose CONFIG_FILEs differ."""
    (seed,) = seeds(stack, tmp_path, 1)
    sources = [[seed[0]["address"]], []]
    ranks = ready(stack.enter_context(engine(tmp_path / "joiner", weights=3, sources=sources)))
    assert weights(ranks, "from") == ["disk", "disk"]
    assert "rank 1 of this engine has none: it has no SOURCE" in reasons(ranks[:1])[0]
    assert weights(ranks, "origin")[0] is not None and len({*weights(ranks, "origin")}) == 1
