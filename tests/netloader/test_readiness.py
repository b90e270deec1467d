"""Whether an instance is ready, why not, and where it gives its weights: by what its host tells."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ascendctl.netloader.deployment_state import Life
from ascendctl.netloader.evidence import Came
from ascendctl.netloader.log_rules import Stage
from ascendctl.netloader.plan import Engine, Instance, Role
from ascendctl.netloader.readiness import Readiness, readiness, statuses_of
from tests.netloader.engine_logs import NACK, READ, SHARDS, worker
from tests.netloader.fake_fleet import (
    BUILDING_LOG,
    FELL_BACK_LOG,
    RECEIVED_LOG,
    SEED_LOG,
    SERVING,
    UP,
    instances,
    seen,
)

(SEED,) = instances("n1", role=Role.SEED)
(JOINER,) = instances("n1")
OWN = replace(SERVING, engine=Engine.OWN)
DRAFTED = replace(SERVING, engine_args=('--speculative-config={"model": "/models/d"}',))
NO_LISTENER = SEED_LOG.replace("Elastic server started", "Elastic")
SKIPPED = SEED_LOG + "Driver IP is not set, skip to start Netloader server\n"


def found(one: Instance, log: str, **more: Any) -> Readiness:
    return readiness(one, seen(one, log, **more), log)


# Ready or not ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "health", "listening", "ready", "waits_for"),
    [
        ("", 0, (), False, "the engine's first words"),
        (BUILDING_LOG, 0, (), False, "building the model"),
        (f"{SHARDS}\n", 0, (), False, "reading weights from disk"),
        # Its log is ahead of its socket.
        (SEED_LOG, 0, (19374,), False, "its API"),
        (SEED_LOG, 503, (8000, 19374), False, "its API"),
        (SEED_LOG, 200, (8000, 19374), True, ""),
        # There is nothing to ask with: the log and the port together tell, neither alone does.
        (SEED_LOG, None, (8000, 19374), True, ""),
        (SEED_LOG, None, (19374,), False, "its API"),
        (SEED_LOG, None, None, None, "its API"),
        (BUILDING_LOG, None, (8000, 19374), None, "building the model"),
    ],
)
def test_ready_is_what_the_api_answers(
    log: str, health: int | None, listening: tuple[int, ...] | None, ready: bool | None, waits_for: str
) -> None:
    one = found(SEED, log, health=health, listening=listening)
    assert (one.ready, one.failed, one.waits_for) == (ready, False, waits_for)


def test_what_is_not_known_to_live_is_not_ready() -> None:
    one = found(SEED, SEED_LOG, life=Life.UNKNOWN, reason="the host did not say")
    assert (one.ready, one.failed, one.reason) == (None, False, "the host did not say")


@pytest.mark.parametrize("life", [Life.ENDED, Life.RESTARTED, Life.LEFTOVERS, Life.ELSEWHERE])
def test_what_ended_has_failed_whatever_answers_at_its_port(life: Life) -> None:
    one = found(SEED, SEED_LOG, life=life)
    assert (one.ready, one.failed, one.serves) == (False, True, ())
    assert life.value in one.reason


# Why it ended ---------------------------------------------------------------------------------------------


def ended(log: str) -> Readiness:
    return found(JOINER, log, life=Life.ENDED, reason="its engine ended with exit code 1", ready=False)


@pytest.mark.parametrize(
    ("line", "reason", "remedy"),
    [
        ("OSError: [Errno 98] Address already in use", "a port is taken by another process", "ss -ltnp"),
        ("torch.OutOfMemoryError: NPU out of memory.", "memory ran out", "--gpu-memory-utilization"),
        ("ImportError: libascend_hal.so: cannot open shared object file", "a library is missing", "set_env"),
        ("EI0006: Getting socket times out.", "EI0006: ", ""),
        ("EI9999: what is that?", "EI9999: an error of HCCL that ascendctl does not know", "Look it up"),
        ("ValueError: Load format `netloader` is not supported.", "this vLLM does not know the", "Install"),
        ("RuntimeError: Cannot find any model weights with `/m`", "the disk was read and", "why no source"),
        (f"ERROR 08-22 10:00:00 [elastic.py:146] {NACK}", "--model is not what this host", "the same text"),
    ],
)
def test_the_log_explains_what_ended(line: str, reason: str, remedy: str) -> None:
    one = ended(f"{BUILDING_LOG}{line}\n")
    assert one.reason.startswith(reason) and one.reason.endswith("(its engine ended with exit code 1)")
    assert one.remedy and remedy in one.remedy
    (quoted,) = one.lines
    assert quoted.startswith("line 2: ")


def test_the_first_failure_is_the_cause() -> None:
    one = ended("NPU out of memory\nEI0006: Getting socket times out\nNPU out of memory\n")
    assert one.reason.startswith("memory ran out")
    assert one.lines == ("line 1: NPU out of memory", "line 2: EI0006: Getting socket times out")


def test_without_a_known_failure_the_sources_are_named_then_its_last_words() -> None:
    refused = "Connect to 10.0.0.9:19374 fails, detail: [Errno 111] Connection refused"
    one = ended(f"{BUILDING_LOG}{refused}\n")
    assert one.reason == "no source served it (its engine ended with exit code 1)"
    assert one.lines == (f"line 2: {refused}",)
    one = ended("@ascendctl 0 process 1 2 3\nbye\n\nbye \x1b[2J\n@ascendctl 0 ended 1\n")
    assert one.reason.endswith("nothing in its log is a known cause")
    assert one.lines == ("its last words: bye", "its last words: bye \\x1b[2J")
    assert "ascendctl netloader logs" in one.remedy


# Where it gives its weights -------------------------------------------------------------------------------


def test_a_seed_gives_at_its_planned_listeners() -> None:
    one = found(SEED, SEED_LOG)
    assert (one.serves, one.stage, one.notes) == (("10.0.0.1:19374",), Stage.READY, ())
    two = replace(SERVING, tp=2)
    (seed,) = instances("n1", role=Role.SEED, serving=two)
    log = "\n".join(
        [*(worker(rank, f"Elastic server started, rank: {rank}, group: netloader") for rank in (0, 1)), UP]
    )
    assert found(seed, log, listening=(8000, 19374, 19375)).serves == ("10.0.0.1:19374", "10.0.0.1:19375")


@pytest.mark.parametrize(
    ("log", "listening", "why"),
    [
        (NO_LISTENER, (8000,), "rank 0: nothing says that it listens"),
        (SKIPPED, (8000,), "rank 0: Driver IP is not set, skip to start Netloader server"),
        (SEED_LOG, (8000,), "rank 0: its log says that it listens, and nothing does at port 19374"),
    ],
)
def test_a_seed_that_gives_nothing_is_of_no_use_and_a_joiner_is(
    log: str, listening: tuple[int, ...], why: str
) -> None:
    one = found(SEED, log, listening=listening)
    assert (one.ready, one.failed, one.serves) == (True, True, ())
    assert one.reason == f"it runs, and it takes no joiners: {why}" and "--listen-port" in one.remedy
    one = found(JOINER, log, listening=listening)
    assert (one.ready, one.failed, one.serves) == (True, False, ())
    assert one.notes == (f"it takes no joiners: {why}",)


def test_half_of_the_ranks_is_no_source() -> None:
    (seed,) = instances("n1", role=Role.SEED, serving=replace(SERVING, tp=2))
    log = worker(0, "Elastic server started, rank: 0, group: netloader") + f"\n{UP}\n"
    one = found(seed, log, listening=(8000, 19374))
    assert one.failed and one.serves == () and "rank 1: nothing says that it listens" in one.reason


def test_listeners_on_ports_that_nobody_planned_are_not_guessed() -> None:
    (seed,) = instances("n1", role=Role.SEED, serving=replace(SERVING, listen_port=None))
    one = found(seed, SEED_LOG, listening=(8000, 40000))
    assert one.serves == () and "which port it listens on is not known; set --listen-port" in one.reason


def test_a_draft_model_without_a_listener_is_a_note() -> None:
    (seed,) = instances("n1", role=Role.SEED, serving=DRAFTED)
    one = found(seed, SEED_LOG, listening=(8000, 19374))
    assert (one.failed, one.serves) == (False, ("10.0.0.1:19374",))
    assert one.notes == (
        "the draft model is given to no joiner: draft model of rank 0: nothing says that it listens",
    )
    both = SEED_LOG + "Elastic server started, rank: 0, group: netloader_draft\n"
    assert found(seed, both, listening=(8000, 19374, 29374)).notes == ()
    assert "nothing does at port 29374" in found(seed, both, listening=(8000, 19374)).notes[0]


# The own engine's status files ----------------------------------------------------------------------------


def status(pid: int = 7, **more: Any) -> bytes:
    content = {
        "version": 1,
        "rank": 0,
        "group": "netloader",
        "pid": pid,
        "state": "ready",
        "listener": {"address": "10.0.0.1", "port": 20000, "open": True, "accepting": True},
        "serving": {"serving": True, "reason": None},
        "seconds": {"wire": 4.5},
    }
    return json.dumps(content | more).encode()


def own(files: dict[str, bytes], members: tuple[int, ...] = (7,), role: Role = Role.SEED) -> Readiness:
    (one,) = instances("n1", role=role, serving=OWN, status_prefix="/run/{instance}-")
    told = tuple((f"/run/{one.name}-{name}", content) for name, content in files.items())
    return readiness(one, seen(one, f"{UP}\n", statuses=told, members=members), f"{UP}\n")


def test_a_status_file_tells_the_listener_and_the_seconds() -> None:
    one = own({"0.json": status()})
    assert (one.failed, one.serves) == (False, ("10.0.0.1:20000",))
    assert dict(one.seconds)["wire"] == 4.5


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"0.json": status(listener={"accepting": False})}, "its listener accepts nobody"),
        ({"0.json": status(listener=[1])}, "its listener accepts nobody"),
        (
            {"0.json": status(serving={"serving": False, "reason": "is going away"})},
            "it serves nobody now: is going away",
        ),
        # A file that an earlier process left says nothing.
        ({"0.json": status(pid=8)}, "nothing says that it listens"),
        ({"0.json": b"{"}, "nothing says that it listens"),
        ({"0.json": b"[" * 100_000}, "nothing says that it listens"),
        ({"1.json": status()}, "nothing says that it listens"),
    ],
)
def test_a_status_file_that_does_not_say_so_is_no_listener(files: dict[str, bytes], why: str) -> None:
    one = own(files)
    assert one.failed and one.serves == () and f"rank 0: {why}" in one.reason


def test_which_rank_a_file_is_of_stands_in_its_name() -> None:
    (one,) = instances("n1", serving=OWN, status_prefix="/run/{instance}-")
    names = ("0.json", "12.draft.json", "x.json", "0.json.new", "-1.json", "9999999.json")
    told = tuple((f"/run/n1.1-{name}", status()) for name in names)
    more = ("/elsewhere/0.json", status())
    statuses = statuses_of(one, seen(one, statuses=(*told, more), members=(7,)))
    assert [(file.rank, file.draft, file.alive) for file in statuses] == [(0, False, True), (12, True, True)]
    # Whose processes are not known, of them it is not known whether they live.
    unknown = statuses_of(one, seen(one, statuses=told[:1], life=Life.UNKNOWN))
    assert [file.alive for file in unknown] == [None]
    assert statuses_of(JOINER, seen(JOINER, statuses=told)) == ()


# What comes with it ---------------------------------------------------------------------------------------


def test_the_evidence_and_the_seconds_come_along() -> None:
    one = found(JOINER, RECEIVED_LOG)
    assert one.evidence is not None and [rank.came for rank in one.evidence.ranks] == [Came.P2P]
    assert {"join", "wire", "load"} <= dict(one.seconds).keys()
    fell = found(JOINER, FELL_BACK_LOG)
    assert fell.ready and fell.evidence is not None and len(fell.evidence.fallbacks) == 1
    assert dict(fell.seconds)["disk"] == 1.75 and READ in FELL_BACK_LOG
