"""The stand-in of an engine, started for real: ascendctl reads every one of its scenarios for what it is.

All engines of this file run side by side on addresses of loopback; a host's disk is a folder of its own.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ascendctl.consistency.asking import Limits, ask_all
from ascendctl.consistency.observed import Log, Observation
from ascendctl.consistency.prompts import Prompt
from ascendctl.consistency.servers import server_at
from ascendctl.consistency.verdicts import judge
from ascendctl.netloader.command import command
from ascendctl.netloader.evidence import Evidence, StatusSeen, evidence
from ascendctl.netloader.log_lines import LogReading, read_log
from ascendctl.netloader.log_rules import DEAD_THREAD, Kind, Stage
from ascendctl.netloader.placing import joined
from ascendctl.netloader.plan import Engine, Instance, Place, Role, Serving, Source

PROGRAM = Path(__file__).with_name("engine_standin.py")
PATIENCE_S = 60.0
MODEL, DRAFT = "/models/m", "/models/d"
DRAFTED = (f'--speculative-config={{"model": "{DRAFT}"}}',)
API_PORT, LISTEN_PORT = 28000, 19374
SEED, STAGES, DRAFTING, HIGH, DEAD, SILENT, OWN = (
    "seed",
    "seed-of-two-stages",
    "seed-with-draft",
    "seed-at-high-ports",
    "accept-thread-dies",
    "send-fails",
    "own-seed",
)
P2P, DISK, UNKNOWN = "p2p", "disk", "unknown"
LISTENING, NO_SERVER, TROUBLE = Kind.LISTENING, Kind.NO_SERVER, Kind.SEED_TROUBLE


@dataclass(frozen=True)
class Case:
    """One engine and what is to be read of it. ``source``: the case it joins, None = it is a seed.

    ``came``: per rank, of the target then of the draft; ``listening``: the last word on each rank's target
    listener; ``failures``: the names that explain why it ended, with which ``exit_code`` None = it serves;
    ``says``: what its log must hold; ``weights``: whether its disk holds any.
    """

    scenario: str = "good"
    source: str | None = None
    came: tuple[str, ...] = (DISK, DISK)
    listening: tuple[Kind | None, ...] = (LISTENING, LISTENING)
    failures: frozenset[str] = frozenset()
    exit_code: int | None = None
    says: tuple[str, ...] = ()
    weights: bool = True
    tp: int = 2
    pp: int = 1
    engine: Engine = Engine.ASCEND
    args: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    listen_port: int = LISTEN_PORT
    model: str = MODEL
    before: tuple[str, ...] = ()  # sources asked before, "host:port" of rank 0
    more: dict[str, Any] = field(default_factory=dict)  # of Serving
    prefix: bool = False


def fell_back(scenario: str, *says: str, **changes: Any) -> Case:
    """A joiner of `SEED` that reads its disk."""
    return Case(scenario, SEED, says=says, **changes)


def no_server(scenario: str, *says: str, **changes: Any) -> Case:
    return Case(scenario, listening=(NO_SERVER, NO_SERVER), says=says, **changes)


def crashed(scenario: str, failure: str, *says: str, **changes: Any) -> Case:
    nothing: dict[str, Any] = {"came": (UNKNOWN, UNKNOWN), "listening": (None, None), "exit_code": 1}
    return Case(scenario, failures=frozenset({failure}), says=says, **{**nothing, **changes})


def joins(source: str = SEED, **changes: Any) -> Case:
    """A joiner without weights of its own that gets all of them."""
    return Case(source=source, **{"came": (P2P, P2P), "weights": False, **changes})


GAVE_UP = "Netloader elastic loading fails, use load format DefaultModelLoader"
ONE_DRAFT = {"tp": 1, "args": DRAFTED, "listening": (LISTENING,)}
SHORT = (("STANDIN_TIMEOUT_S", "1"),)
SEEDS: dict[str, Case] = {
    SEED: Case(says=("Did not get valid source info", "HCCL send time")),
    STAGES: Case(tp=1, pp=2),
    DRAFTING: Case(came=(DISK, DISK), **ONE_DRAFT),
    HIGH: Case(
        came=(DISK, DISK),
        listen_port=55600,
        says=("Skip draft Netloader server due to invalid listen port: 65600",),
        **ONE_DRAFT,
    ),
    DEAD: Case(
        DEAD,
        listening=(TROUBLE, TROUBLE),
        says=("Exception in thread Thread-1 (elastic_client_handler):", "UnicodeDecodeError: "),
    ),
    SILENT: Case(SILENT, says=("P2PSend Failed to send model to ",), environment=SHORT),
    OWN: Case(engine=Engine.OWN, prefix=True, says=("event=listening", "event=sent")),
}
JOINERS: dict[str, Case] = {
    "good": joins(says=("HCCL recv time", "Netloader P2P load time")),
    "stages": joins(STAGES, tp=1, pp=2),
    "draft": joins(DRAFTING, **ONE_DRAFT, says=("group: netloader_draft",)),
    "first-source-dead": joins(before=("127.0.0.1:1",), says=("Connect to 127.0.0.1:1 fails, detail: ",)),
    "corrupt-weight": joins(scenario="corrupt-weight"),
    "flaky": joins(environment=(("STANDIN_FLAKY", "1"),)),
    "only-rank-1-falls-back": Case(
        "source-refuses", SEED, came=(P2P, DISK), environment=(("STANDIN_RANKS", "1"),)
    ),
    # INFO is switched off: what would prove the transfer, and the listener, is not there.
    "success-at-level-warning": joins(
        environment=(("VLLM_LOGGING_LEVEL", "WARNING"),), came=(UNKNOWN, UNKNOWN), listening=(None, None)
    ),
    "fallback-at-level-warning": fell_back(
        "no-source-info", environment=(("VLLM_LOGGING_LEVEL", "WARNING"),), listening=(None, None)
    ),
    "no-source-info": fell_back("no-source-info", "Did not get valid source info, use DefaultModelLoader"),
    "source-format": fell_back("source-format", "IP format error: ", "All sources exhausted, ", GAVE_UP),
    "source-refuses": fell_back(
        "source-refuses",
        "fails, detail: [Errno 111] Connection refused",
        "elastic_load error: Failed to initialize ElasticClient",
        GAVE_UP,
    ),
    "model-string": fell_back(
        "model-string",
        "Receive nack from server, reason: Received data (0, '/models/m/', 2, 1) does not consist with this "
        "server (0, '/models/m', 2, 1)",
        failures=frozenset({"model-string"}),
    ),
    "other-int8-cache": fell_back(
        "good",
        "Received int8_cache hbm does not consist with this server no",
        more={"int8_cache": "hbm"},
        failures=frozenset({"int8-cache"}),
    ),
    "pre-recv-fails": fell_back(
        "pre-recv-fails", "Netloader pre-recv process_weights failed, rank: 1", GAVE_UP
    ),
    "manifest-mismatch": fell_back(
        "manifest-mismatch", "abort recv before HCCL due to numel/manifest mismatch", "Failed to load model"
    ),
    "recv-fails": fell_back(
        "recv-fails",
        "[netloader_p2p] recv failed at index=",
        "Failed to recv model: ",
        "Failed to load model",
    ),
    "reshape-fails": fell_back("reshape-fails", "failed to reshape received tensors to seed manifest"),
    "quantised": fell_back("quantised", "Quantization is set, netloader use DefaultModelLoader"),
    "silent-fallback": fell_back("silent-fallback", listening=(None, None)),
    "accept-thread-dead": Case(
        source=DEAD, environment=SHORT, says=("fails, detail: Receive data from server",)
    ),
    "nothing-sent": Case(source=SILENT, environment=SHORT, says=("[netloader_p2p] recv failed transfer=3",)),
    "draft-source-port": Case(
        source=HIGH,
        came=(P2P, DISK),
        **ONE_DRAFT,
        says=("Skip draft elastic load: source port exceeds 65535",),
    ),
    "draft-after-fallback": Case(
        "source-refuses",
        DRAFTING,
        **ONE_DRAFT,
        says=("Target netloader already fell back to DefaultModelLoader; skip draft elastic load",),
    ),
    # Of one rank: the first of several that finds none ends the others, which may not have looked yet.
    "no-weights": Case(
        "source-refuses",
        DRAFTING,
        weights=False,
        tp=1,
        came=(DISK,),
        listening=(None,),
        failures=frozenset({"no-weights"}),
        exit_code=1,
    ),
    "own": joins(OWN, engine=Engine.OWN, prefix=True, says=("phase=wire",)),
    "own-unverified": joins(OWN, engine=Engine.OWN, prefix=True, scenario="unverified"),
    "own-fallback": Case("source-refuses", OWN, engine=Engine.OWN, prefix=True, says=("fallback=disk",)),
    "own-fallback-error": Case(
        "source-refuses",
        OWN,
        engine=Engine.OWN,
        prefix=True,
        more={"fallback": "error"},
        came=(UNKNOWN, UNKNOWN),
        listening=(None, None),
        exit_code=1,
        says=("no weights from any source, and FALLBACK is error",),
    ),
}
OTHERS: dict[str, Case] = {
    "listen-port-invalid": no_server("listen-port-invalid", "Skip to start Netloader server"),
    "no-driver-ip": no_server("no-driver-ip", "Driver IP is not set, skip to start Netloader server"),
    "target-port-invalid": no_server(
        "target-port-invalid", "Skip target Netloader server due to invalid listen port: 65537"
    ),
    "draft-port-invalid": Case(
        "draft-port-invalid",
        **ONE_DRAFT,
        says=("Skip draft Netloader server due to invalid listen port: 75536",),
    ),
    "no-free-port": no_server("no-free-port", "Failed to find listen port <= 55535 ", listen_port=0),
    "listen-port-taken": no_server(
        "listen-port-taken",
        "Failed to start Netloader server for rank: 1, details: [Errno 98] Address already in use",
        failures=frozenset({"port-in-use"}),
    ),
    "port-in-use": crashed("port-in-use", "port-in-use", "OSError: [Errno 98] Address already in use"),
    "missing-library": crashed("missing-library", "missing-library"),
    "wrong-model": crashed("wrong-model", "model-string"),
    "model-not-there": crashed("good", "model-string", model="/models/other"),
    "out-of-memory": crashed("out-of-memory", "out-of-memory"),
    "hccl-code": crashed("hccl-code", "EI0006"),
    "another-hccl-code": crashed("hccl-code", "EI0015", environment=(("STANDIN_CODE", "EI0015"),)),
    "loader-missing": crashed("loader-missing", "loader-missing"),
    "one-rank": Case(tp=1, came=(DISK,), listening=(LISTENING,)),
    "slow": Case("slow", environment=(("STANDIN_SECONDS", "1"), ("STANDIN_PHASE", "disk"))),
    "dies-after-ready": Case("dies-after-ready", exit_code=1, environment=(("STANDIN_SECONDS", "0.1"),)),
    "own-no-driver-ip": Case(
        "no-driver-ip", engine=Engine.OWN, listening=(NO_SERVER, NO_SERVER), says=("event=no-listener",)
    ),
}
CASES = {**SEEDS, **JOINERS, **OTHERS}


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Running:
    """One engine, started by the words and the environment that `command` gives it."""

    def __init__(self, case: Case, instance: Instance, folder: Path) -> None:
        self.case, self.instance, self.folder = case, instance, folder
        self.url = f"http://{instance.place.address}:{instance.port}"
        made = command(instance)
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                made.argv,
                env={**os.environ, **dict(made.environment)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # As the keeper of a real start does: its processes are one group.
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def reading(self) -> LogReading:
        return read_log(self.log, self.instance.ranks, self.instance.serving.tp)

    def statuses(self) -> list[StatusSeen]:
        return [
            StatusSeen(int(path.stem[1:]), False, str(path), json.loads(path.read_text()), alive=True)
            for path in sorted(self.folder.glob("r*.json"))
        ]

    def evidence(self) -> Evidence:
        return evidence(self.instance, self.reading, self.statuses())

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def settled(self) -> bool:
        """Ready or ended."""
        if self.case.exit_code is not None:
            return self.process.poll() is not None
        assert self.process.poll() is None, self.log
        return self.healthy()

    def pids(self) -> set[int]:
        return {int(pid) for pid in re.findall(r"^\(\w+ pid=(\d+)\)", self.log, re.MULTILINE)}

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


_host = itertools.count(1)


class Site:
    """Engines and where they run: an address of loopback and a disk for each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, Running] = {}
        for disk in ("full", "empty"):
            for model in (MODEL, DRAFT):
                (folder / disk / model[1:]).mkdir(parents=True)
                (folder / disk / model[1:] / "config.json").write_text("{}")
        for model in (MODEL, DRAFT):
            (folder / "full" / model[1:] / "model.safetensors").write_bytes(os.urandom(64))

    def start(self, name: str, case: Case, source: Source | None = None, api_port: int = API_PORT) -> Running:
        # Of this process alone: tests run beside each other.
        address = f"127.{64 + os.getpid() % 128}.{os.getpid() // 128 % 256}.{next(_host)}"
        home = self.folder / name
        home.mkdir()
        serving = Serving(
            case.model,
            engine=case.engine,
            tp=case.tp,
            pp=case.pp,
            port=api_port,
            served_model_name="m",
            engine_args=(f"--host={address}", *case.args),
            launcher=(sys.executable, str(PROGRAM), "serve"),
            output_prefix=f"{home}/r" if case.prefix else None,
            **case.more,
        )
        environment = {
            "STANDIN_SCENARIO": case.scenario,
            "STANDIN_DISK": str(self.folder / ("full" if case.weights else "empty")),
            "STANDIN_TIMEOUT_S": str(PATIENCE_S),
            **dict(case.environment),
        }
        place = Place(name, address, environment=tuple(environment.items()))
        role = Role.SEED if case.source is None else Role.JOINER
        instance = Instance(name, role, place, serving, api_port, case.listen_port or None)
        if source is not None:
            before = [Source.at(text, instance.ranks) for text in case.before]
            instance = joined(instance, [*before, source])
        self.running[name] = Running(case, instance, home)
        return self.running[name]

    def end(self) -> None:
        for one in self.running.values():
            one.end()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """All engines of the table, settled."""
    made = Site(tmp_path_factory.mktemp("site"))
    try:
        for name, case in {**SEEDS, **OTHERS}.items():
            made.start(name, case)
        for name in SEEDS:
            until(made.running[name].settled)
        for name, case in JOINERS.items():
            assert case.source is not None
            made.start(name, case, Source.of(made.running[case.source].instance))
        for name in CASES:
            until(made.running[name].settled)
        yield made
    finally:
        made.end()


def reason_of(found: Evidence) -> str:
    return "\n".join(f"{one.rank} {one.draft} {one.came.value}: {one.reason}" for one in found.ranks)


@pytest.mark.parametrize("name", CASES)
def test_a_scenario_is_read_for_what_it_is(site: Site, name: str) -> None:
    one, case = site.running[name], CASES[name]
    until(lambda: all(text in one.log for text in case.says))
    found, reading = one.evidence(), one.reading
    assert tuple(rank.came.value for rank in found.ranks) == case.came, reason_of(found)
    told = [reading.listening(rank) for rank in range(one.instance.ranks)]
    # A line that names no rank still gets its process'.
    assert tuple(line.kind if line else None for line in told) == case.listening
    assert {line.failure for line in reading.failures} - {DEAD_THREAD} == case.failures, reading.failures
    assert one.process.poll() == case.exit_code
    if case.exit_code is None:
        assert one.healthy() and reading.stage is Stage.READY


def test_every_scenario_of_the_program_is_in_the_table() -> None:
    answer = subprocess.run(
        [sys.executable, str(PROGRAM), "serve", "m", "--load-format", "netloader"],
        env={**os.environ, "STANDIN_SCENARIO": "unheard-of"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    known = re.findall(r"[a-z][\w-]+", answer.stderr.partition("is none of")[2])
    elsewhere = {"hang", "ignores-term"}  # with tests of their own below
    assert answer.returncode == 1
    assert (
        len(known) > 25 and set(known) - elsewhere == {case.scenario for case in CASES.values()} - elsewhere
    )


def test_a_success_is_said_only_of_bytes_that_a_source_sent(site: Site) -> None:
    for name, one in site.running.items():
        lines = one.reading.lines
        received = [line for line in lines if line.kind is Kind.RECEIVED]
        assert len(received) == sum(line.kind is Kind.LOADED for line in lines), name
        ascend = one.case.engine is Engine.ASCEND
        assert len(received) == (one.case.came.count(P2P) if ascend else 0), name
        for line in received:
            assert line.address is not None
            until(lambda port=line.address.rpartition(":")[2]: port in ports_sent_to(site))


def ports_sent_to(site: Site) -> set[str]:
    return {
        match[1]
        for one in site.running.values()
        for match in re.finditer(r"HCCL send time: .* addr=127\.0\.0\.1:(\d+)$", one.log, re.MULTILINE)
    }


GARBAGE = {
    "nothing": b"",
    "half of them": b"WEIGHTS:" + b"a" * 20,
    "no weights": b"x" * 72,
}


@pytest.mark.parametrize("name", GARBAGE)
def test_a_source_that_acknowledges_and_sends_less_is_no_success(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def source() -> None:
            connection, peer = listener.accept()
            with connection:
                asked = json.loads(connection.recv(1024))["content"]
                shapes = {"model.embed_tokens.weight": [256, 64], "model.norm.weight": [64]}
                shapes["lm_head.weight"] = [256, 64]
                ack = {"name": f"{peer[0]}:{peer[1]}", "transfer_shapes": shapes}
                connection.sendall(json.dumps({"label": "JOIN_ACK", "content": ack}).encode())
                with socket.create_connection((peer[0], asked["port"]), timeout=PATIENCE_S) as store:
                    store.sendall(GARBAGE[name])

        thread = threading.Thread(target=source, daemon=True)
        thread.start()
        here = Site(tmp_path)
        text = f"127.0.0.1:{listener.getsockname()[1]}"
        case = Case(source="x", tp=1, came=(DISK,), exit_code=1, weights=False)
        try:
            one = here.start("joiner", case, Source.at(text, 1))
            until(one.settled)
        finally:
            here.end()
        thread.join(PATIENCE_S)
    assert "Receive ack: label=JOIN_ACK" in one.log and "recv failed transfer=3" in one.log
    assert [rank.came.value for rank in one.evidence().ranks] == [DISK]
    assert not [line for line in one.reading.lines if line.kind in (Kind.RECEIVED, Kind.LOADED)]
    assert [line.failure for line in one.reading.failures] == ["no-weights"]


# The status files of format ascendctl ---------------------------------------------------------------------


def test_status_files_say_what_the_evidence_rests_on(site: Site) -> None:
    verified = {
        name: [rank.verified for rank in site.running[name].evidence().ranks]
        for name in ("own", "own-unverified")
    }
    assert verified == {"own": [True, True], "own-unverified": [False, False]}
    one = site.running["own"]
    paths = sorted(one.folder.glob("r*"))
    assert [path.name for path in paths] == ["r0.json", "r0.txt", "r1.json", "r1.txt"]
    assert {path.stat().st_mode & 0o777 for path in paths if path.suffix == ".json"} == {0o600}
    assert (one.folder / "r1.txt").read_text() == one.instance.listeners[1]
    assert not list(site.running["own-fallback-error"].folder.glob("r*"))


def test_status_files_have_the_fields_that_the_engine_writes(site: Site) -> None:
    from ascendctl.netloader.engine.status_file import StatusFile

    real = StatusFile(None, 0, "netloader").content
    for seen in site.running["own"].statuses():
        assert isinstance(seen.content, dict)
        assert seen.content.keys() == real.keys()
        for name, value in real.items():
            if isinstance(value, dict) and name != "seconds":
                assert seen.content[name].keys() == value.keys(), name


def test_status_files_go_with_the_engine(tmp_path: Path) -> None:
    here = Site(tmp_path)
    held = (("STANDIN_PHASE", "failed"),)
    failing = Case("hang", "x", engine=Engine.OWN, prefix=True, more={"fallback": "error"}, environment=held)
    try:
        good = here.start("good", Case(engine=Engine.OWN, prefix=True))
        failed = here.start("failed", failing, Source.at("127.0.0.1:1", 2))
        until(good.settled)
        until(lambda: [one.content["state"] for one in failed.statuses()] == ["failed"] * 2)  # type: ignore[index]
        assert [rank.came.value for rank in failed.evidence().ranks] == [UNKNOWN, UNKNOWN]
        for one in (good, failed):
            one.process.terminate()
            one.process.wait(PATIENCE_S)
            until(lambda folder=one.folder: not list(folder.glob("r*")))
    finally:
        here.end()


# The API --------------------------------------------------------------------------------------------------


PROMPTS = (
    Prompt("text", text="The quick brown fox, Ümlaut 世界"),
    Prompt("chat", messages=(("user", "Who are you?"),)),
)


def judged(site: Site, prompts: tuple[Prompt, ...], reference: str, *candidates: str) -> Any:
    class Nobody:
        def phase(self, server: str, what: str, total: int) -> None: ...

        def advanced(self, server: str) -> None: ...

    logs = [Log(server_at(site.running[name].url)) for name in (reference, *candidates)]
    seen = Observation(prompts, logs[0], tuple(logs[1:]), 8, 1, None)
    ask_all(seen, Limits(connect_s=PATIENCE_S, request_s=PATIENCE_S), Nobody())
    return judge(seen, dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc), 1.0)


def test_answers_follow_from_the_weights_and_consistency_test_sees_it(site: Site) -> None:
    run = judged(site, PROMPTS, SEED, "good", "corrupt-weight")
    assert [one.verdict.value for one in run.candidates] == ["identical", "different"]
    assert run.noise[0].floor == 0
    # Token ids and logprobs were told, of chats and completions alike.
    assert "2 of 2 prompts: exactly equal answers" in "\n".join(run.candidates[0].reasons)


def test_a_flaky_reference_is_no_reference(site: Site) -> None:
    run = judged(site, PROMPTS[:1], "flaky", "good")
    assert [one.verdict.value for one in run.candidates] == ["not proven"]


# How it ends ----------------------------------------------------------------------------------------------


def test_it_is_a_tree_of_processes_that_ends_with_a_signal(tmp_path: Path) -> None:
    here = Site(tmp_path)
    try:
        good = here.start("good", Case())
        killed = here.start("killed", Case())
        stubborn = here.start("stubborn", Case("ignores-term"))
        hanging = here.start("hanging", Case("hang"))
        for one in (good, killed, stubborn):
            until(one.settled)
            assert len(one.pids()) == 4  # API server, engine core, two workers
        until(lambda: hanging.reading.stage is Stage.PREPARING)
        assert not hanging.healthy() and hanging.reading.api_ready is None

        assert len({os.getpgid(pid) for pid in good.pids()}) == 1
        good.process.terminate()
        assert good.process.wait(PATIENCE_S) == 0
        assert "Application shutdown complete." in good.log
        hanging.process.terminate()
        assert hanging.process.wait(PATIENCE_S) == 1
        killed.process.kill()
        until(lambda: not any(map(alive, good.pids() | hanging.pids() | killed.pids())))

        for pid in stubborn.pids():
            os.kill(pid, signal.SIGTERM)
        stubborn.process.kill()
        stubborn.process.wait()
        left = stubborn.pids() - {stubborn.process.pid}
        assert len(left) == 3 and all(map(alive, left))
        os.killpg(stubborn.process.pid, signal.SIGKILL)
        until(lambda: not any(map(alive, left)))
    finally:
        here.end()


def test_what_ends_an_engine_is_in_its_log(site: Site) -> None:
    dead = site.running["dies-after-ready"]
    assert dead.reading.api_ready is not None
    assert "EngineDeadError" in dead.log and "died unexpectedly, shutting down executor" in dead.log
    until(lambda: not any(map(alive, dead.pids())))


def test_a_port_that_another_engine_has_is_in_use(site: Site, tmp_path: Path) -> None:
    seed = site.running[SEED]
    made = command(replace(seed.instance, listen_port=LISTEN_PORT + 100))
    answer = subprocess.run(
        made.argv,
        env={**os.environ, **dict(made.environment)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert answer.returncode == 1
    assert [line.failure for line in read_log(answer.stdout).failures] == ["port-in-use"]
    assert seed.healthy()


def test_it_needs_nothing_but_its_own_files(tmp_path: Path) -> None:
    for path in PROGRAM.parent.glob("*standin*.py"):
        if not path.name.startswith("test_"):
            shutil.copy(path, tmp_path)
    answer = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path[0:0] = [{str(tmp_path)!r}]; import engine_standin",
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        cwd="/",
    )
    assert (answer.returncode, answer.stderr) == (0, "")


def test_a_seed_that_is_killed_while_it_sends_leaves_a_fallback(tmp_path: Path) -> None:
    here = Site(tmp_path)
    try:
        mark = tmp_path / "sending-"
        slowly = (("STANDIN_TRANSFER_S", str(PATIENCE_S)), ("STANDIN_SENDING_MARK", str(mark)))
        seed = here.start("seed", Case(environment=slowly))
        until(seed.settled)
        joiner = here.start("joiner", Case(source="seed"), Source.of(seed.instance))
        until(lambda: all(Path(f"{mark}{rank}").exists() for rank in range(2)))
        assert not joiner.healthy()
        seed.end()
        until(joiner.settled)
        assert [rank.came.value for rank in joiner.evidence().ranks] == [DISK, DISK]
        assert "Connection reset by peer" in joiner.log
    finally:
        here.end()
