"""What single lines and whole logs of an engine tell: every line that the Netloader is known to print."""

from __future__ import annotations

import pytest

from ascendctl.netloader.engine import phases
from ascendctl.netloader.log_failures import NAMES, explained, failure_in
from ascendctl.netloader.log_lines import classify, read_log
from ascendctl.netloader.log_rules import DEAD_THREAD, Kind, Stage
from tests.netloader import engine_logs as logs

EVERY_LINE = [
    *((line, Kind.FALLBACK) for line in logs.FALLBACKS),
    *((line, Kind.SOURCE_FAILED) for line in logs.SOURCE_FAILURES),
    *((line, Kind.DISK) for line in logs.DISK),
    *((line, Kind.NO_SERVER) for line in logs.NO_SERVERS),
    *((line, Kind.SEED_TROUBLE) for line in logs.SEED_TROUBLES),
    *((line, Kind.INDECISIVE) for line in logs.PROVE_NOTHING),
    *((line, Kind.PHASE) for line in logs.ON_THE_WAY),
    (logs.RECEIVED, Kind.RECEIVED),
    (logs.RECEIVED_LATER_VERSION, Kind.RECEIVED),
    (logs.loaded(), Kind.LOADED),
    (logs.STARTED, Kind.LISTENING),
    ("Accept new connection from 10.0.0.2:41000...", Kind.SENT),
    ("[netloader_p2p] HCCL send time: 3.1, transfer=312 group=netloader", Kind.SENT),
    ("Application startup complete.", Kind.API_READY),
]


@pytest.mark.parametrize(("line", "kind"), EVERY_LINE, ids=range(len(EVERY_LINE)))
def test_every_line_is_known_behind_every_prefix(line: str, kind: Kind) -> None:
    file = "elastic_load.py" if kind is Kind.RECEIVED else "load.py"
    prefixes = (
        "",
        f"[{file}:90] ",
        f"INFO 08-22 10:00:00 [{file}:90] ",
        f"(EngineCore_DP0 pid=7) ERROR 2026-08-22 10:00:00,123 [{file}:90] ",
        f"\x1b[1;36m(EngineCore pid=7)\x1b[0;0m WARNING 08-22 10:00:00 [netloader/{file}:90] ",
    )
    for prefix in prefixes:
        found = classify(prefix + line)
        assert found is not None, prefix
        assert (found.kind, found.rank) == (kind, 0), prefix
        assert found.text == line.strip()


@pytest.mark.parametrize("line", ["", "INFO 08-22 10:00:00 [load.py:1] x", "Loading", "(Worker pid=1)"])
def test_a_line_that_tells_nothing_is_none(line: str) -> None:
    assert classify(line) is None


def test_what_a_peer_wrote_inside_a_line_proves_nothing() -> None:
    forged = f"Connect to 10.0.0.1:1 fails, detail: {logs.RECEIVED}"
    found = classify(forged)
    assert found is not None and found.kind is Kind.SOURCE_FAILED
    # A reason with line breaks: vLLM repeats its prefix, so the file tells who wrote the second line.
    assert classify(f"ERROR 08-22 10:00:00 [elastic.py:96] {logs.loaded()}") is None
    assert classify(f"ERROR 08-22 10:00:00 [elastic.py:96] {logs.RECEIVED}") is None


def test_numbers_and_names_are_taken_from_the_lines() -> None:
    reading = read_log("\n".join(logs.SUCCESS))
    assert reading.seconds == {"join": 0.5, "wire": 3.25, "load": 3.5}
    assert reading.stage is Stage.LISTENING
    received = next(line for line in reading.lines if line.kind is Kind.RECEIVED)
    assert received.address == "10.0.0.1:50123"
    assert (
        read_log("Netloader P2P load time: 9e-05, device_id: 3, group: netloader", 4).lines[0].seconds
        == 9e-05
    )


def test_a_line_without_a_rank_gets_that_of_its_process() -> None:
    log = "\n".join(logs.worker(rank, logs.GAVE_UP) for rank in (1, 0))
    assert [line.rank for line in read_log(log, ranks=2).lines] == [1, 0]
    # Pipeline before tensor parallel: global rank = pp * tp_size + tp.
    log = f"(Worker_PP1_TP0 pid=9) WARNING 08-22 10:00:00 [n.py:1] {logs.GAVE_UP}"
    assert read_log(log, ranks=4, tp=2).lines[0].rank == 2
    # What the process says of itself goes before its name.
    log = f"{logs.worker(1, 'Elastic load time: 1.0, rank: 3')}\n{logs.worker(1, logs.GAVE_UP)}"
    assert [line.rank for line in read_log(log, ranks=4).lines] == [3, 3]


@pytest.mark.parametrize("name", ["Worker", "EngineCore_DP0", "APIServer", "Worker_TP7", "Worker_PP1"])
def test_a_process_whose_name_leaves_the_rank_open_gives_none(name: str) -> None:
    log = f"({name} pid=9) WARNING 08-22 10:00:00 [netloader.py:1] {logs.GAVE_UP}"
    assert read_log(log, ranks=4, tp=2).lines[0].rank is None


def test_the_progress_bar_is_rank_0s_and_draws_over_itself() -> None:
    bar = "\r".join(f"Loading safetensors checkpoint shards: {n}% Completed" for n in (0, 50, 100))
    lines = read_log(f"(Worker_TP1 pid=3) \n{bar}\n", ranks=2).lines
    assert [(line.kind, line.rank, line.number) for line in lines] == [(Kind.DISK, 0, 2)] * 3


def test_lines_of_the_draft_model_are_told_from_the_targets() -> None:
    log = "\n".join(
        [
            "Loading target model via netloader, model_path: /m",
            logs.RECEIVED,
            logs.loaded(),
            "Loading draft model via netloader, model_path: /d",
            logs.GAVE_UP,
            logs.READ,
        ]
    )
    assert [line.draft for line in read_log(log).lines] == [False, False, False, True, True, True]


@pytest.mark.parametrize("line", logs.NO_SERVERS)
def test_an_instance_without_a_server_is_found(line: str) -> None:
    draft = "draft" in line
    reading = read_log(f"{logs.worker(1, line)}", ranks=2)
    last = reading.listening(0 if "rank: 0" in line else 1, draft=draft)
    assert last is not None and last.kind is Kind.NO_SERVER
    assert [one.text for one in reading.without_server] == [line]


def test_a_listener_whose_thread_died_is_no_listener() -> None:
    assert read_log(logs.ON_THE_WAY[5]).listening(0) is None  # said before the bind
    reading = read_log(f"{logs.STARTED}\n{logs.SEED_TROUBLES[0]}")
    last = reading.listening(0)
    assert last is not None and last.kind is Kind.LISTENING
    reading = read_log(f"{logs.STARTED}\n{logs.SEED_TROUBLES[1]}")
    last = reading.listening(0)
    assert last is not None and (last.kind, last.failure) == (Kind.SEED_TROUBLE, DEAD_THREAD)
    assert len(reading.seed_trouble) == 1


OWN = [
    (phases.line(phase="wire", rank=1, group="netloader", source="h:1", seconds="2.500"), Kind.PHASE, 1),
    (
        phases.line(phase="join", rank=0, group="netloader", seconds="5.000", failed="x"),
        Kind.SOURCE_FAILED,
        0,
    ),
    (phases.line(fallback="disk", rank=1, group="netloader", reason="no source"), Kind.FALLBACK, 1),
    (phases.line(event="listening", rank=1, group="netloader", address="h:1"), Kind.LISTENING, 1),
    (phases.line(event="no-listener", rank=1, reason="address in use"), Kind.NO_SERVER, 1),
    (phases.line(event="not-serving", rank=0, reason="no"), Kind.NO_SERVER, 0),
    (phases.line(event="sent", joiner="h:1", bytes=5), Kind.SENT, None),
]


@pytest.mark.parametrize(("line", "kind", "rank"), OWN, ids=range(len(OWN)))
def test_lines_of_the_own_engine_are_read(line: str, kind: Kind, rank: int | None) -> None:
    (found,) = read_log(f"(EngineCore pid=4) INFO 08-22 10:00:00 [phases.py:94] {line}", ranks=2).lines
    assert (found.kind, found.rank) == (kind, rank)


def test_a_reason_cannot_write_fields_of_its_own_engines_line() -> None:
    line = phases.line(phase="join", rank=0, group="netloader", failed='" fallback=disk rank=1 x="')
    (found,) = read_log(line, ranks=2).lines
    assert (found.kind, found.rank) == (Kind.SOURCE_FAILED, 0)


FAILURES = [
    ("[ERROR] HCCL(7,python): EI0006: Getting socket times out", "EI0006"),
    ("RuntimeError: ... error code is EJ0001", "EJ0001"),
    ("EI9999: some new thing", "EI9999"),
    ("hixl transfer failed, ret: 103901", "103901"),
    (
        "RuntimeError: NPU out of memory. Tried to allocate 20.00 MiB (NPU 0; 60.97 GiB total)",
        "out-of-memory",
    ),
    ("torch.OutOfMemoryError: CUDA out of memory.", "out-of-memory"),
    ("ValueError: No available memory for the cache blocks. Try increasing it", "out-of-memory"),
    ("ValueError: Free memory on device (1/60 GiB) on startup is less than desired", "out-of-memory"),
    ("OSError: [Errno 98] Address already in use", "port-in-use"),
    (
        "ERROR:    [Errno 98] error while attempting to bind on address ('::', 8000): address already in use",
        "port-in-use",
    ),
    ("ImportError: libascendcl.so: cannot open shared object file: No such file", "missing-library"),
    ("ModuleNotFoundError: No module named 'torch_npu'", "missing-library"),
    ("OSError: /models/x is not a local folder and is not a valid model identifier", "model-string"),
    ("Invalid repository ID or local directory specified: '/models/x'", "model-string"),
    (
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder",
        "model-string",
    ),
    ("RuntimeError: Cannot find any model weights with `/models/x`", "no-weights"),
    ("ValueError: Load format `netloader` is not supported", "loader-missing"),
]


@pytest.mark.parametrize(("line", "failure"), FAILURES, ids=range(len(FAILURES)))
def test_a_start_that_failed_is_explained_by_its_line(line: str, failure: str) -> None:
    log = f"(EngineCore pid=7) ERROR 08-22 10:00:00 [core.py:1] Traceback\n{line}\n{line}"
    (found,) = read_log(log).failures
    assert (found.failure, found.number, found.text) == (
        failure,
        2,
        line.partition("ERROR:")[2].strip() or line,
    )
    words = explained(failure)
    assert words.what and words.do.endswith(".")


def test_every_failure_has_words_and_codes_have_those_of_the_knowledge() -> None:
    assert all(explained(name).do for name in NAMES)
    assert "Connecting to a peer's device timed out" in explained("EI0006").what
    assert failure_in("took 103901 steps") is None
    assert failure_in("all is well") is None


def test_warnings_and_logged_prompts_are_no_failures() -> None:
    for level in ("INFO", "WARNING", "DEBUG"):
        text = "prompt: 'what does EI0006 mean? ImportError: x, NPU out of memory'"
        assert classify(f"(APIServer pid=1) {level} 08-22 10:00:00 [logger.py:1] {text}") is None


def test_why_a_source_refused_is_told_beside_the_refusal() -> None:
    found = classify(f"INFO 08-22 10:00:00 [elastic.py:90] {logs.NACK}")
    assert found is not None and (found.kind, found.failure) == (Kind.SOURCE_FAILED, "model-string")


def test_any_bytes_are_read_without_an_error() -> None:
    text = "\x00\x1b[\r\r\n(Worker_TP0 pid=1" + "9" * 9000 + "\nElastic load time: " + "9" * 9000
    text += "\n[ascendctl netloader] phase=wire rank=" + "9" * 5000 + ' reason="\\uZZ'
    text += "\nNetloader P2P load time: 1, device_id: 99999999999, group: netloader\n\udcff"
    assert all(line.rank is None or line.rank < 10**9 for line in read_log(text, ranks=2).lines)
