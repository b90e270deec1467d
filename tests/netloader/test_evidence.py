"""Whether weights came by P2P: never without proof, and a fallback that nobody mentioned is found."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ascendctl.netloader.engine.status_file import StatusFile
from ascendctl.netloader.evidence import Came, Evidence, StatusSeen, evidence, from_status, judged
from ascendctl.netloader.log_lines import read_log
from ascendctl.netloader.plan import Engine, Instance, Place, Role, Serving
from ascendctl.results import ExitCode
from tests.netloader import engine_logs as logs


def instance(
    tp: int = 1, pp: int = 1, *, role: Role = Role.JOINER, engine: Engine = Engine.ASCEND, draft: bool = False
) -> Instance:
    args = ("--speculative-config", "{}") if draft else ()
    serving = Serving("/models/m", engine=engine, tp=tp, pp=pp, engine_args=args)
    return Instance("n1.1", role, Place("n1", "10.0.0.2"), serving, port=8000)


def of_log(*lines: str, **of: Any) -> Evidence:
    one = instance(**of)
    return evidence(one, read_log("\n".join(lines), one.ranks, one.serving.tp))


def came(found: Evidence) -> list[str]:
    return [one.came.value for one in found.ranks]


def test_both_lines_are_the_proof_and_stand_in_it() -> None:
    found = of_log(*logs.SUCCESS)
    (rank,) = found.ranks
    assert (rank.came, rank.source, rank.verified) == (Came.P2P, "10.0.0.1", None)
    assert [text.partition(": ")[2] for text in rank.decided_by] == [logs.RECEIVED, logs.loaded()]
    assert judged([found]) is ExitCode.OK


@pytest.mark.parametrize("lost", [logs.RECEIVED, logs.loaded()])
def test_one_of_them_is_none(lost: str) -> None:
    found = of_log(*(line for line in logs.SUCCESS if line != lost))
    assert came(found) == ["unknown"]
    assert judged([found]) is ExitCode.NOT_ENOUGH


def test_every_subset_of_a_success_without_both_lines_is_no_p2p() -> None:
    rest = [line for line in logs.SUCCESS if line not in (logs.RECEIVED, logs.loaded())]
    for size in (1, 2, len(rest)):
        for lines in itertools.combinations(rest, size):
            assert came(of_log(*lines)) == ["unknown"], lines
    assert came(of_log(logs.loaded(), logs.RECEIVED)) == ["unknown"]  # in the wrong order


def test_elastic_load_time_alone_is_no_proof() -> None:
    (rank,) = of_log(logs.ELASTIC_TIME, logs.STARTED, "Application startup complete.").ranks
    assert rank.came is Came.UNKNOWN and logs.ELASTIC_TIME in rank.decided_by[0]


@pytest.mark.parametrize("name", logs.FALLBACK_RUNS)
def test_every_fallback_is_found(name: str) -> None:
    run = logs.FALLBACK_RUNS[name]
    found = of_log(*run)
    (rank,) = found.ranks
    assert rank.came is Came.DISK and rank.reason and rank.decided_by
    assert judged([found]) is ExitCode.FOUND_WRONG
    assert judged([found], allow_fallback=True) is ExitCode.OK


DRAFTS_OWN = [line for line in logs.FALLBACKS if "draft" in line]


@pytest.mark.parametrize("line", [*logs.FALLBACKS, *logs.SOURCE_FAILURES, *logs.DISK])
def test_every_fallback_line_by_itself_is_disk(line: str) -> None:
    draft = line in DRAFTS_OWN
    found = {one.draft: one for one in of_log(line).ranks}
    assert found[draft].came is Came.DISK
    assert line.strip() in found[draft].decided_by[0]


@pytest.mark.parametrize("line", [line for line in logs.FALLBACKS if line not in DRAFTS_OWN] + [*logs.DISK])
def test_a_fallback_line_beside_a_proof_takes_the_proof_away(line: str) -> None:
    assert came(of_log(*logs.SUCCESS, line)) == ["disk"]
    assert came(of_log(line, *logs.SUCCESS)) == ["disk"]


@pytest.mark.parametrize("line", logs.SOURCE_FAILURES)
def test_a_source_that_failed_before_another_served_is_no_fallback(line: str) -> None:
    assert came(of_log(line, *logs.SUCCESS)) == ["p2p"]


def test_the_reason_of_a_fallback_is_the_sources_words() -> None:
    (rank,) = of_log(*logs.FALLBACK_RUNS["source refuses the model string"]).ranks
    assert "does not consist with this server" in rank.reason
    assert any(logs.READ in text for text in rank.decided_by)


def test_ranks_are_judged_one_by_one() -> None:
    log = [
        logs.worker(0, logs.RECEIVED, file="elastic_load.py"),
        logs.worker(0, logs.loaded(0), file="load.py"),
        logs.worker(1, logs.REFUSED, level="ERROR", file="elastic.py"),
        logs.worker(1, logs.GAVE_UP, level="WARNING"),
    ]
    assert came(of_log(*log, tp=2)) == ["p2p", "disk"]
    # Rank 2 and 3 say nothing: that is no proof.
    assert came(of_log(*log, tp=4)) == ["p2p", "disk", "unknown", "unknown"]


def test_one_ranks_received_line_proves_nothing_for_another() -> None:
    log = [
        logs.worker(0, logs.RECEIVED, file="elastic_load.py"),
        logs.worker(0, logs.loaded(0), file="load.py"),
        logs.worker(1, logs.loaded(1), file="load.py"),
    ]
    assert came(of_log(*log, tp=2)) == ["p2p", "unknown"]
    # Without prefixes each received line serves one loaded line only.
    assert came(of_log(logs.RECEIVED, logs.loaded(0), logs.loaded(1), tp=2)) == ["p2p", "unknown"]
    assert came(of_log(logs.RECEIVED, logs.RECEIVED, logs.loaded(1), logs.loaded(0), tp=2)) == ["p2p", "p2p"]


def test_a_fallback_that_names_no_rank_is_put_on_those_without_a_proof() -> None:
    proven = (logs.RECEIVED, logs.loaded(0))
    assert came(of_log(*proven, logs.GAVE_UP, tp=2)) == ["p2p", "disk"]
    both = (logs.RECEIVED, logs.RECEIVED, logs.loaded(0), logs.loaded(1))
    found = of_log(*both, logs.GAVE_UP, tp=2)
    assert came(found) == ["unknown", "unknown"]
    assert judged([found]) is ExitCode.NOT_ENOUGH


def test_the_draft_model_is_judged_apart() -> None:
    draft_received = logs.RECEIVED.replace("group=netloader", "group=netloader_draft")
    log = [*logs.SUCCESS, "Loading draft model via netloader, model_path: /d"]
    both = of_log(*log, draft_received, logs.loaded(0, "netloader_draft"), draft=True)
    assert [(one.draft, one.came.value) for one in both.ranks] == [(False, "p2p"), (True, "p2p")]
    only_target = of_log(*log, logs.GAVE_UP, logs.SHARDS, logs.READ, draft=True)
    assert came(only_target) == ["p2p", "disk"]
    assert judged([only_target]) is ExitCode.FOUND_WRONG
    # It was not planned, and the log tells of it: it counts.
    assert came(of_log(*log, logs.GAVE_UP)) == ["p2p", "disk"]
    assert came(of_log(*log, draft=True)) == ["p2p", "unknown"]
    # Only the last pipeline stage loads one.
    planned = of_log(*logs.SUCCESS, tp=1, pp=2, draft=True)
    assert [(one.rank, one.draft) for one in planned.ranks] == [(0, False), (1, False), (1, True)]


def test_a_proof_of_the_target_is_none_of_the_draft() -> None:
    log = [*logs.SUCCESS, "Loading draft model via netloader, model_path: /d"]
    assert came(of_log(*log, logs.RECEIVED, logs.loaded(0, "netloader_draft"), draft=True)) == [
        "p2p",
        "unknown",
    ]


def test_a_seed_may_read_its_disk() -> None:
    found = of_log(logs.NO_SOURCE, logs.SHARDS, logs.READ, logs.STARTED, role=Role.SEED)
    assert came(found) == ["disk"]
    assert judged([found]) is ExitCode.OK


def test_without_a_log_nothing_is_known() -> None:
    found = evidence(instance(2))
    assert came(found) == ["unknown", "unknown"]
    assert judged([found]) is ExitCode.NOT_ENOUGH


# The own engine's status files ----------------------------------------------------------------------------


def content(**changes: Any) -> dict[str, Any]:
    """A status as the engine writes it, of a joiner that received everything."""
    status = StatusFile(None, 0, "netloader")
    weights = {"from": "p2p", "source": "10.0.0.1:19374", "verified": True, "bytes": 5, "content_id": "ab"}
    status.update(state="ready", weights=weights)
    return {**status.content, **changes}


def seen(given: object, *, rank: int = 0, draft: bool = False, alive: bool | None = True) -> StatusSeen:
    return StatusSeen(rank, draft, f"/run/x/rank{rank}.json", given, alive)


def test_a_ready_engines_status_is_the_proof() -> None:
    found = from_status(seen(content()))
    assert (found.came, found.source, found.verified) == (Came.P2P, "10.0.0.1:19374", True)


WEIGHTS = content()["weights"]
NO_PROOF: dict[str, Any] = {
    "still loading": content(state="loading"),
    "failed": content(state="failed"),
    "another rank": content(rank=1),
    "another model": content(group="netloader_draft"),
    "another version": content(version=2),
    "no source": content(weights={**WEIGHTS, "source": None}),
    "no bytes": content(weights={**WEIGHTS, "bytes": 0}),
    "bytes of another kind": content(weights={**WEIGHTS, "bytes": True}),
    "nothing said": content(weights={**WEIGHTS, "from": None}),
    "weights of another kind": content(weights=["p2p"]),
    "no object": [1],
    "nothing": None,
}


@pytest.mark.parametrize("name", NO_PROOF)
def test_anything_less_is_none(name: str) -> None:
    found = from_status(seen(NO_PROOF[name]))
    assert found.came is Came.UNKNOWN and found.reason


def test_a_dead_process_proves_nothing_but_its_fallback() -> None:
    assert from_status(seen(content(), alive=False)).came is Came.UNKNOWN
    fell = content(fallback={"reason": "no source answered"})
    assert from_status(seen(fell, alive=False)).came is Came.DISK
    assert from_status(seen(fell)).reason == "no source answered"
    assert from_status(seen(content(weights={**WEIGHTS, "from": "disk"}))).came is Came.DISK


def test_a_transfer_that_was_not_verified_says_so() -> None:
    found = from_status(seen(content(weights={**WEIGHTS, "verified": False})))
    assert (found.came, found.verified) == (Came.P2P, False)
    assert "not verified" in found.decided_by[0]


def own(log: str, *statuses: StatusSeen, tp: int = 1) -> Evidence:
    one = instance(tp, engine=Engine.OWN)
    return evidence(one, read_log(log, tp), statuses)


def test_of_two_witnesses_the_worse_one_counts() -> None:
    fell = "[ascendctl netloader] fallback=disk rank=0 group=netloader reason=x"
    assert came(own(fell, seen(content()))) == ["disk"]
    assert came(own("nothing", seen(content(fallback={"reason": "x"})))) == ["disk"]
    assert came(own("nothing", seen(content()))) == ["p2p"]


def test_a_source_that_failed_does_not_overrule_the_own_engines_status() -> None:
    failed = '[ascendctl netloader] phase=connect rank=0 group=netloader source=h:1 seconds=1.000 failed="x"'
    assert came(own(failed, seen(content()))) == ["p2p"]
    assert came(own(failed)) == ["unknown"]


def test_lines_of_the_other_engine_prove_nothing_for_the_own_one() -> None:
    assert came(own("\n".join(logs.SUCCESS))) == ["unknown"]


def test_a_rank_without_a_status_is_not_proven_by_its_neighbour() -> None:
    assert came(own("", seen(content()), tp=2)) == ["p2p", "unknown"]


def test_one_unproven_or_fallen_back_instance_decides_for_all() -> None:
    good, fallen, silent = of_log(*logs.SUCCESS), of_log(logs.GAVE_UP), of_log("")
    assert judged([good, silent]) is ExitCode.NOT_ENOUGH
    assert judged([good, silent, fallen]) is ExitCode.FOUND_WRONG
    assert judged([good, silent, fallen], allow_fallback=True) is ExitCode.NOT_ENOUGH
    assert judged([good, fallen], allow_fallback=True) is ExitCode.OK


def test_text_of_a_host_is_shown_without_control_characters() -> None:
    found = from_status(seen(content(fallback={"reason": "a\x1b[31mb\n" + "x" * 900})))
    assert "\x1b" not in found.reason and "\n" not in found.reason and len(found.reason) <= 400
