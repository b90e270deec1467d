"""``ascendctl netloader`` from its command line to engines on real OpenSSH hosts: serve, join, look, end.

What is waited for takes longer than what is computed, so the stories run side by side; each test reads what
one of them brought to light.
"""

from __future__ import annotations

import contextlib
import re
import signal
import stat
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from ascendctl.netloader.fleet import LOOK_LIMIT_S
from tests.netloader.engine_site import (
    LISTEN_PORT,
    MODEL,
    Answer,
    Site,
    alive,
    healthy,
    joining,
    serving,
    until,
)
from tests.openssh import why_not

pytestmark = [
    pytest.mark.openssh,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    # The first test of a story waits for all of it.
    pytest.mark.timeout(900),
]

WIDTH = 100
AT_ONCE = 3
NO_WEIGHTS = {"STANDIN_DISK": ""}
HANGS = {"STANDIN_SCENARIO": "hang", "STANDIN_PHASE": "build"}
# All joiners in one wave: a pace at which their queue is no matter.
ONE_WAVE = ("--weights-gib", "0.001", "--rate-gb-s", "10", "--startup-s", "1")
SECRETS = {"VLLM_API_KEY": "sk-wrenfeather-41", "HF_TOKEN": "hf_candlemoth"}
OTHER_SECRET = "sk-second-thrush-77"

# Scenario of a joiner → what of its log decides.
FALLBACKS = {
    "no-source-info": "Did not get valid source info, use DefaultModelLoader",
    "source-format": "All sources exhausted, no connection established",
    "source-refuses": "All sources exhausted, no connection established",
    "model-string": "All sources exhausted, no connection established",
    "pre-recv-fails": "Netloader pre-recv process_weights failed, rank: 0",
    "manifest-mismatch": "abort recv before HCCL due to numel/manifest mismatch",
    "recv-fails": "recv failed at index=1 name=model.norm.weight",
    "reshape-fails": "failed to reshape received tensors to seed manifest",
    "quantised": "Did not get valid source info, use DefaultModelLoader",
    "silent-fallback": "Loading safetensors checkpoint shards",
}
# Scenario of a seed → what is said of it, what to do, the line.
NO_SERVER = ("it runs, and it takes no joiners", "set --listen-port to free ports and start it again")
BROKEN = {
    "listen-port-invalid": (*NO_SERVER, "Skip to start Netloader server"),
    "no-driver-ip": (*NO_SERVER, "Driver IP is not set, skip to start Netloader server"),
    "target-port-invalid": (*NO_SERVER, "Skip target Netloader server due to invalid listen port: 65536"),
    "listen-port-taken": (*NO_SERVER, "Failed to start Netloader server for rank: 0"),
    "accept-thread-dies": (*NO_SERVER, "Exception in thread Thread-"),
    "port-in-use": ("a port is taken by another process", "ss -ltnp", "[Errno 98] Address already in use"),
    "missing-library": (
        "a library is missing or of another version",
        "set_env.sh",
        "libascend_hal.so: cannot open shared object file",
    ),
    "wrong-model": (
        "--model is not what this host or the source knows it by",
        "Write the same text for --model",
        "Invalid repository ID or local directory specified: '/models/m'",
    ),
    "out-of-memory": ("memory ran out", "lower --gpu-memory-utilization", "NPU out of memory"),
    "hccl-code": ("EI0006: ", "", "EI0006: [PID: "),
    "loader-missing": (
        "this vLLM does not know the load format",
        "Install vllm-ascend",
        "Load format `netloader` is not supported",
    ),
}


def hosts_of(prefix: str, scenarios: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {f"{prefix}{number}": {"STANDIN_SCENARIO": one} for number, one in enumerate(scenarios)}


HOSTS: dict[str, dict[str, str]] = {
    "seed": {},
    "one": NO_WEIGHTS,
    "two": NO_WEIGHTS,
    "giver": {},
    **hosts_of("fall", FALLBACKS),
    "dry": {"STANDIN_SCENARIO": "source-refuses", **NO_WEIGHTS},
    "mute": {"VLLM_LOGGING_LEVEL": "WARNING", **NO_WEIGHTS},
    "lost": NO_WEIGHTS,
    "found": NO_WEIGHTS,
    **hosts_of("broken", BROKEN),
    "portless": {"STANDIN_SCENARIO": "no-free-port"},
    "drafting": {"STANDIN_SCENARIO": "draft-port-invalid"},
    "waiting": HANGS,
    "stubborn": {"STANDIN_SCENARIO": "ignores-term"},
    "left1": {},
    "left2": HANGS,
    "left3": {**HANGS, **NO_WEIGHTS},
    "slow": {**HANGS, **NO_WEIGHTS},
    "vault": {},
}
APART = ("lost", "slow")


@dataclass(frozen=True)
class Left:
    """What there still is on a host: processes that are alive, and names below its folder of deployments."""

    pids: tuple[int, ...]
    files: tuple[str, ...]


NOTHING = Left((), ())


def keepers(site: Site, deployment: str, *hosts: str) -> set[int]:
    return {site.state(deployment, host)["pid"] for host in hosts}


def left(site: Site, host: str, *pids: int) -> Left:
    alive_ones = {*site.engine(host), *(pid for pid in pids if alive(pid))}
    files = sorted(path.name for path in (site.root(host) / "netloader").glob("*"))
    return Left(tuple(sorted(alive_ones)), tuple(files))


# The whole way --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WholeWay:
    served: Answer
    state: dict[str, Any]
    again: Answer
    other_plan: Answer
    planned: Answer
    after_plans: tuple[dict[str, Any], list[Left]]
    joined: Answer
    joined_again: Answer
    table: Answer
    logs: Answer
    kept: Answer
    ended_at: dict[str, int]
    stopped: Answer
    left: list[Left]


def whole_way(site: Site) -> WholeWay:
    hosts = ("seed", "one", "two")
    control = site.control(*hosts)
    to_serve, to_join = serving(name="m", hosts="seed"), joining(name="m", hosts="one,two")
    served = control.ask("serve", *to_serve)
    state = site.state("m", "seed")
    calls = [
        control.start("serve", *to_serve),
        control.start("serve", *to_serve, "--dtype", "float16"),
        control.start("join", *to_join, "--plan", "--dry-run", COLUMNS=str(WIDTH)),
    ]
    again, other_plan, planned = (call.answer() for call in calls)
    after_plans = (site.state("m", "seed"), [left(site, "one"), left(site, "two")])
    joined = control.ask("join", *to_join)
    calls = [
        control.start("join", *to_join, "--format", "table", COLUMNS=str(WIDTH)),
        control.start("status", "m", elsewhere=True, COLUMNS=str(WIDTH)),
        control.start("logs", "m", "one.1", "--lines", "3"),
    ]
    joined_again, table, logs = (call.answer() for call in calls)
    pids = keepers(site, "m", *hosts)
    kept = control.ask("stop", "m", "--keep")
    ended_at = {host: (site.instance("m", host) / "state.json").stat().st_mtime_ns for host in hosts}
    stopped = control.ask("stop", "m")
    return WholeWay(
        served,
        state,
        again,
        other_plan,
        planned,
        after_plans,
        joined,
        joined_again,
        table,
        logs,
        kept,
        ended_at,
        stopped,
        [left(site, host, *pids) for host in hosts],
    )


# Weights from the disk, and from nobody knows where -------------------------------------------------------


@dataclass(frozen=True)
class FromDisk:
    fell: Answer
    allowed: Answer
    unproven: Answer
    one_lost: Answer
    stopped: Answer
    left: list[Left]


def from_disk(site: Site) -> FromDisk:
    site.farm("lost").stop_daemon("lost")
    fall = list(hosts_of("fall", FALLBACKS))
    there = ("giver", *fall, "dry", "mute", "found")
    control = site.control(*there)
    seeded = control.ask("serve", *serving(name="f", hosts="giver", tp=1))
    assert seeded.code == 0, seeded.err
    calls = [
        site.control("mute", "giver").start("join", *joining(name="f", hosts="mute")),
        control.start("join", *joining(*ONE_WAVE, name="f", hosts=",".join([*fall, "dry"]))),
        site.control("lost", "found", "giver").start("join", *joining(name="f", hosts="lost,found")),
    ]
    unproven, fell, one_lost = (call.answer() for call in calls)
    allowed = control.ask("join", *joining("--allow-fallback", *ONE_WAVE, name="f", hosts=",".join(fall)))
    stopped = control.ask("stop", "f")
    return FromDisk(fell, allowed, unproven, one_lost, stopped, [left(site, name) for name in there])


# Starts that come to nothing ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    refused: Answer
    after_refused: Left
    served: Answer
    portless: Answer
    drafting: Answer
    stopped: Answer
    left: list[Left]


def broken(site: Site) -> Broken:
    hosts = list(hosts_of("broken", BROKEN))
    there = (*hosts, "portless", "drafting")
    control = site.control(*there)
    refused = control.ask("serve", *serving("--gate", name="b", hosts="portless", tp=1))
    after_refused = left(site, "portless")
    drafts = '--engine-arg=--speculative-config={"model": "/models/m"}'
    calls = [
        control.start("serve", *serving(name="b", hosts=",".join(hosts), tp=1)),
        control.start("serve", *serving(name="b", hosts="portless", tp=1, listen=False)),
        control.start("serve", *serving(drafts, name="b", hosts="drafting", tp=1)),
    ]
    served, portless, drafting = (call.answer() for call in calls)
    stopped = control.ask("stop", "b")
    return Broken(
        refused, after_refused, served, portless, drafting, stopped, [left(site, name) for name in there]
    )


# What never becomes ready, and what does not end ----------------------------------------------------------


@dataclass(frozen=True)
class Stubborn:
    served: Answer
    ran_on: dict[str, bool]
    logs: Answer
    followed: Answer
    stopped: Answer
    left: list[Left]


def stubborn(site: Site) -> Stubborn:
    hosts = ("waiting", "stubborn")
    control = site.control(*hosts)
    served = control.ask("serve", *serving("--ready-timeout", "5", name="w", hosts=",".join(hosts)))
    ran_on = {host: site.is_started("w", host) for host in hosts}
    following = control.start("logs", "w", "waiting.1", "--hosts", "waiting", "--follow", "--lines", "1")
    logs = control.ask("logs", "w", "--lines", "1")
    until(lambda: "Starting to load model" in following.out, "the last line is there")
    with (site.instance("w", "waiting") / "log").open("a") as log:
        log.write("said while somebody listens\n")
    until(lambda: "said while somebody listens" in following.out, "what comes is there too")
    following.interrupt()
    followed = following.answer()
    pids = keepers(site, "w", *hosts)
    stopped = control.ask("stop", "w", "--grace", "1")
    return Stubborn(served, ran_on, logs, followed, stopped, [left(site, host, *pids) for host in hosts])


# The control side goes away -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Forsaken:
    """Killed while something is started and while a joiner is waited for; Ctrl-C once while a joiner is
    waited for; twice while its host does not answer any more."""

    after_kill: dict[str, bool]
    status: Answer
    once: Answer
    after_once: tuple[bool, bool]
    ended_between: bool
    twice: Answer
    stopped: Answer
    left: list[Left]


def forsaken(site: Site) -> Forsaken:
    hosts = ("left1", "left2", "left3", "slow")
    control = site.control(*hosts)
    call = control.start("serve", *serving(name="o", hosts="left1,left2"))
    until(lambda: all(site.instance("o", host).exists() for host in hosts[:2]), "the folders are there")
    call.kill()
    until(lambda: all(site.is_started("o", host) for host in hosts[:2]), "they are started all the same")
    until(lambda: healthy(site.url("left1")), "the seed serves")

    call = control.start("join", *joining(name="o", hosts="left3"))
    other = control.start("join", *joining(name="o", hosts="slow"))
    until(lambda: "left3.1: building the model" in call.err, "the joiner is waited for")
    call.kill()
    until(lambda: "slow.1: building the model" in other.err, "the other joiner is waited for")
    other.interrupt()
    once = other.answer()
    after_once = (healthy(site.url("left1")), site.is_started("o", "slow"))

    call = control.start("join", *joining(name="o", hosts="slow"))
    status = control.ask("status", "--hosts", "left[1-3]", "--format", "json", elsewhere=True)
    after_kill = {host: site.is_started("o", host) for host in hosts[:3]}
    until(lambda: "slow.1: building the model" in call.err, "it is waited for again")
    with site.farm("slow").frozen_sessions("slow"):
        call.interrupt()
        until(lambda: "stopping to wait" in call.err, "the first one is noted")
        ended_between = call.process.poll() is not None
        call.interrupt()
        twice = call.answer()

    pids = keepers(site, "o", *hosts)
    stopped = control.ask("stop", "o", elsewhere=True)
    still = [left(site, host, *pids) for host in hosts]
    return Forsaken(after_kill, status, once, after_once, ended_between, twice, stopped, still)


# Secrets --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    after_dry: Left
    answers: dict[str, Answer]
    seen_in: list[str]
    modes: dict[str, int]
    plan_holds_them: bool
    without_key: int
    with_key: int


def kept_secrets(site: Site) -> Kept:
    file, other = site.folder / "engine.env", site.folder / "other.env"
    file.write_text("# of the engine\n" + "".join(f"{name}={value}\n" for name, value in SECRETS.items()))
    other.write_text(f"VLLM_API_KEY={OTHER_SECRET}\nHF_TOKEN={SECRETS['HF_TOKEN']}\n")
    control = site.control("vault")
    to_serve, given = serving(name="s", hosts="vault", tp=1), ("--env-file", str(file))
    answers = {}
    with watched_command_lines() as seen_in:
        answers["dry run"] = control.ask("serve", *to_serve, *given, "--dry-run")
        after_dry = left(site, "vault")
        answers["serve"] = control.ask("serve", *to_serve, *given)
        folder = site.instance("s", "vault")
        paths = [folder, folder.parent, folder.parent.parent, *folder.iterdir()]
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths}
        plan_holds_them = SECRETS["VLLM_API_KEY"] in (folder / "plan.json").read_text()
        url = f"{site.url('vault')}/v1/models"
        codes = [status_of(url, ""), status_of(url, SECRETS["VLLM_API_KEY"])]
        calls = {
            "another secret": control.start("serve", *to_serve, "--env-file", str(other)),
            "status": control.start("status", "s", "--format", "json"),
            "logs": control.start("logs", "s"),
        }
        answers |= {name: call.answer() for name, call in calls.items()}
        answers["stop"] = control.ask("stop", "s")
    return Kept(after_dry, answers, seen_in, modes, plan_holds_them, *codes)


@contextlib.contextmanager
def watched_command_lines() -> Iterator[list[str]]:
    """Command lines of any process of this machine that held a secret meanwhile."""
    found: list[str] = []
    over = threading.Event()
    wanted = [value.encode() for value in (*SECRETS.values(), OTHER_SECRET)]

    def watch() -> None:
        while not over.wait(0.2):
            for entry in Path("/proc").iterdir():
                with contextlib.suppress(OSError):
                    if entry.name.isdigit():
                        line = (entry / "cmdline").read_bytes()
                        found.extend(repr(line) for value in wanted if value in line)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


def status_of(url: str, key: str) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


# Side by side ---------------------------------------------------------------------------------------------

# Fixture → its story, the longest first.
STORIES: dict[str, Callable[[Site], Any]] = {
    "disk": from_disk,
    "way": whole_way,
    "gone": forsaken,
    "trouble": broken,
    "patience": stubborn,
    "secrets": kept_secrets,
}


@pytest.fixture(scope="module")
def told(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Any]]]:
    """The stories that the selected tests of this file read, under way."""
    # What is started here hears Ctrl-C, whatever these tests were started from.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    wanted = {
        name
        for item in request.session.items
        if item.path == request.path and isinstance(item, pytest.Function)
        for name in item.fixturenames
    }
    folder = tmp_path_factory.mktemp("site")
    with Site(folder, HOSTS, apart=APART) as site, ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(story, site) for name, story in STORIES.items() if name in wanted}
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def disk(told: dict[str, Future[FromDisk]]) -> FromDisk:
    return told["disk"].result()


@pytest.fixture(scope="module")
def way(told: dict[str, Future[WholeWay]]) -> WholeWay:
    return told["way"].result()


@pytest.fixture(scope="module")
def gone(told: dict[str, Future[Forsaken]]) -> Forsaken:
    return told["gone"].result()


@pytest.fixture(scope="module")
def trouble(told: dict[str, Future[Broken]]) -> Broken:
    return told["trouble"].result()


@pytest.fixture(scope="module")
def patience(told: dict[str, Future[Stubborn]]) -> Stubborn:
    return told["patience"].result()


@pytest.fixture(scope="module")
def secrets(told: dict[str, Future[Kept]]) -> Kept:
    return told["secrets"].result()


# What is expected -----------------------------------------------------------------------------------------


def came(one: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(rank["came"], rank["source"]) for rank in one["weights"]]


def test_a_seed_serves_and_says_where(way: WholeWay) -> None:
    assert way.served.code == 0, way.served.err
    assert way.served.json["verdict"] == "READY: 1 of 1 seed ready"
    one = way.served.instances["seed.1"]
    assert (one["end"], one["ran_already"], one["proof"]) == ("ready", False, "not wanted")
    host = one["planned"]["address"]
    assert one["serves"] == [f"{host}:{LISTEN_PORT}", f"{host}:{LISTEN_PORT + 1}"]
    assert one["ready_s"] > 0 and way.served.json["exit_code"] == 0


def test_the_same_serve_again_starts_nothing(way: WholeWay) -> None:
    assert way.again.code == 0, way.again.err
    one = way.again.instances["seed.1"]
    assert (one["end"], one["ran_already"]) == ("ready", True)
    assert one["serves"] == way.served.instances["seed.1"]["serves"]
    assert "ran already" in way.again.err
    assert way.after_plans[0] == way.state and way.state["phase"] == "started"


def test_another_plan_is_refused_and_says_what_differs(way: WholeWay) -> None:
    assert (way.other_plan.code, way.other_plan.out) == (2, "")
    assert "m runs already, otherwise than it is wanted: stop it" in way.other_plan.err
    assert "seed.1 on seed: dtype is not set, wanted float16" in way.other_plan.err, way.other_plan.err


def test_a_join_is_shown_and_starts_nothing(way: WholeWay) -> None:
    assert way.planned.code == 0, way.planned.err
    assert "2 joiners in 2 waves from seed.1" in way.planned.out
    assert re.search(r"two\.1 +seed\.1 +at once +one\.1", way.planned.out)
    assert "PLANNED, nothing was started" in way.planned.out
    seed = way.served.instances["seed.1"]["planned"]["address"]
    assert "# one.1 on one (joiner): would be started" in way.planned.out
    assert f'{{"device_id":1, "sources": ["{seed}:{LISTEN_PORT + 1}"' in way.planned.out
    assert way.after_plans[1] == [NOTHING, NOTHING]


def test_every_rank_of_every_joiner_is_proven_with_its_source(way: WholeWay) -> None:
    assert way.joined.code == 0, way.joined.err
    seed = way.served.instances["seed.1"]["planned"]["address"]
    assert set(way.joined.instances) == {"one.1", "two.1"}
    for one in way.joined.instances.values():
        # Their disks hold no weights.
        assert came(one) == [("p2p", seed), ("p2p", seed)]
        assert (one["end"], one["proof"]) == ("ready", "transferred, not verified")
        assert {"join", "wire", "load"} <= one["phase_seconds"].keys()
        for rank in one["weights"]:
            received, loaded = rank["decided_by"]
            assert "HCCL recv time: " in received and "Netloader P2P load time: " in loaded
    first, second = (way.joined.instances[name]["planned"]["sources"] for name in ("one.1", "two.1"))
    assert first == [[f"{seed}:{LISTEN_PORT}"], [f"{seed}:{LISTEN_PORT + 1}"]]
    # The first joiner stands behind the seed as a source of the second.
    assert [len(listeners) for listeners in second] == [2, 2]
    assert way.joined.json["verdict"].startswith("PROVEN: 2 of 2 joiners")


def test_the_table_of_a_join_fits_the_terminal(way: WholeWay) -> None:
    assert way.joined_again.code == 0, way.joined_again.err
    out = way.joined_again.out
    assert max(cell_len(line) for line in out.splitlines()) <= WIDTH
    for name in ("one.1", "two.1"):
        assert re.search(rf"{name} +joiner +ran already .*ranks 0-1: p2p from ", out), out
    assert "PROVEN: 2 of 2 joiners" in " ".join(out.split())


def test_another_control_machine_sees_the_same(way: WholeWay) -> None:
    assert way.table.code == 0, way.table.err
    assert max(cell_len(line) for line in way.table.out.splitlines()) <= WIDTH
    for name in ("one.1", "two.1"):
        assert re.search(rf"{name} +joiner +.*ranks 0-1: p2p from seed.1", way.table.out), way.table.out
    assert "RUNNING: " in way.table.out


def test_logs_are_the_last_lines_of_one_instance(way: WholeWay) -> None:
    assert way.logs.code == 0, way.logs.err
    lines = way.logs.out.splitlines()
    assert len(lines) == 3 and lines[-1].endswith("INFO:     Application startup complete.")


def test_joiners_end_before_the_seed(way: WholeWay) -> None:
    assert way.kept.code == 0, way.kept.err
    assert [line.split()[0] for line in way.kept.out.splitlines()[:3]] == ["one.1", "two.1", "seed.1"]
    assert all("ended (TERM)" in line and "folder" not in line for line in way.kept.out.splitlines()[:3])
    assert max(way.ended_at["one"], way.ended_at["two"]) < way.ended_at["seed"]


def test_a_stop_leaves_nothing(way: WholeWay) -> None:
    assert way.stopped.code == 0, way.stopped.err
    assert way.stopped.out.count("did not run any more; its folder is gone") == 3
    assert way.left == [NOTHING] * 3


@pytest.mark.parametrize("scenario", FALLBACKS)
def test_a_fallback_to_disk_is_found_with_the_line_that_says_so(disk: FromDisk, scenario: str) -> None:
    one = disk.fell.instances[f"fall{list(FALLBACKS).index(scenario)}.1"]
    assert (one["end"], one["proof"]) == ("ready", "fell back to disk")
    (rank,) = one["weights"]
    assert rank["came"] == "disk" and FALLBACKS[scenario] in rank["decided_by"][0], rank


def test_a_fallback_fails_the_join_unless_it_is_allowed(disk: FromDisk) -> None:
    assert disk.fell.code == 1, disk.fell.err
    assert "FELL BACK TO DISK" in disk.fell.json["verdict"]
    assert disk.allowed.code == 0, disk.allowed.err
    assert disk.allowed.json["verdict"].startswith("FELL BACK TO DISK, which --allow-fallback lets pass: 10 ")
    # Nothing is started for it, and what runs is judged anew.
    assert all(one["ran_already"] for one in disk.allowed.instances.values())
    assert {one["proof"] for one in disk.allowed.instances.values()} == {"fell back to disk"}


def test_a_joiner_without_weights_on_its_disk_ends_and_says_why(disk: FromDisk) -> None:
    one = disk.fell.instances["dry.1"]
    assert (one["end"], one["proof"]) == ("failed", "fell back to disk")
    assert one["reason"].startswith("the disk was read and the model's folder holds no weights")
    assert any("Cannot find any model weights with `/models/m`" in line for line in one["lines"])
    assert "See why no source served this instance" in one["remedy"]


def test_what_the_log_does_not_tell_is_not_proven(disk: FromDisk) -> None:
    assert disk.unproven.code == 3, disk.unproven.err
    one = disk.unproven.instances["mute.1"]
    assert (one["end"], one["proof"]) == ("ready", "not proven")
    assert came(one) == [("unknown", None)]
    assert one["weights"][0]["reason"] == "no line of the log tells"
    assert disk.unproven.json["verdict"].startswith("NOT PROVEN: 0 of 1 joiner ")


def test_a_lost_host_is_reported_and_the_others_join(disk: FromDisk) -> None:
    assert disk.one_lost.code == 3, disk.one_lost.err
    lost, found = disk.one_lost.instances["lost.1"], disk.one_lost.instances["found.1"]
    assert lost["end"] == "host not reached" and "the host could not be asked: refused" in lost["reason"]
    assert (found["end"], found["proof"]) == ("ready", "transferred, not verified"), found["reason"]


def test_a_stop_ends_them_too(disk: FromDisk) -> None:
    assert disk.stopped.code == 0, disk.stopped.out
    assert set(disk.left) == {NOTHING}


@pytest.mark.parametrize("scenario", BROKEN)
def test_a_start_that_fails_is_explained(trouble: Broken, scenario: str) -> None:
    one = trouble.served.instances[f"broken{list(BROKEN).index(scenario)}.1"]
    reason, remedy, line = BROKEN[scenario]
    assert one["end"] == "failed" and one["reason"].startswith(reason), one["reason"]
    assert one["remedy"] and remedy in one["remedy"]
    assert any(line in quoted for quoted in one["lines"]), one["lines"]
    assert one["serves"] == []


def test_starts_that_fail_are_exit_code_1(trouble: Broken) -> None:
    assert trouble.served.code == 1
    assert trouble.served.json["verdict"].startswith(f"FAILED: 0 of {len(BROKEN)} seeds ready")
    assert trouble.portless.code == 1
    (one,) = trouble.portless.instances.values()
    assert any("Failed to find listen port <= 55535" in line for line in one["lines"])


def test_a_draft_model_that_nobody_can_have_is_said(trouble: Broken) -> None:
    assert trouble.drafting.code == 0, trouble.drafting.err
    (one,) = trouble.drafting.instances.values()
    assert len(one["serves"]) == 1
    assert any(note.startswith("the draft model is given to no joiner: ") for note in one["notes"])
    assert any("Skip draft Netloader server due to invalid listen port" in line for line in one["lines"])


def test_hosts_that_are_not_fit_get_nothing(trouble: Broken) -> None:
    assert trouble.refused.code == 1, trouble.refused.err
    assert trouble.refused.json["gated"] is True
    (one,) = trouble.refused.instances.values()
    assert one["end"] == "not started"
    assert any(
        cell["status"] == "fail" and MODEL in cell["message"] for cell in trouble.refused.json["preflight"]
    )
    assert trouble.after_refused == NOTHING


def test_what_failed_is_taken_away_too(trouble: Broken) -> None:
    assert trouble.stopped.code == 0, trouble.stopped.out
    assert set(trouble.left) == {NOTHING}


def test_what_is_not_ready_in_time_is_named_and_runs_on(patience: Stubborn) -> None:
    assert patience.served.code == 3, patience.served.err
    waiting, ready = (patience.served.instances[name] for name in ("waiting.1", "stubborn.1"))
    assert waiting["end"] == "not ready in time" and ready["end"] == "ready"
    assert waiting["reason"] == "after 5 s it still waits for: building the model; it runs on"
    assert patience.ran_on == {"waiting": True, "stubborn": True}


def test_logs_of_several_tell_whose_line_it_is(patience: Stubborn) -> None:
    assert patience.logs.code == 0, patience.logs.err
    assert sorted(line.split(": ")[0] for line in patience.logs.out.splitlines()) == [
        "stubborn.1",
        "waiting.1",
    ]


def test_a_log_is_followed_until_ctrl_c(patience: Stubborn) -> None:
    assert patience.followed.code == 130, patience.followed.err
    assert patience.followed.out.splitlines()[-1] == "said while somebody listens"


def test_what_ignores_term_is_killed(patience: Stubborn) -> None:
    assert patience.stopped.code == 0, patience.stopped.out
    assert re.search(r"stubborn\.1 +ended \(TERM, then KILL\); its folder is gone", patience.stopped.out)
    assert re.search(r"waiting\.1 +ended \(TERM\); its folder is gone", patience.stopped.out)
    assert patience.left == [NOTHING, NOTHING]


def test_instances_outlive_a_control_side_that_is_killed(gone: Forsaken) -> None:
    assert gone.after_kill == {"left1": True, "left2": True, "left3": True}
    assert gone.status.code == 0, gone.status.err
    assert {name: (one["life"], one["ready"]) for name, one in gone.status.instances.items()} == {
        "left1.1": ("running", True),
        "left2.1": ("running", False),
        "left3.1": ("running", False),
    }


def test_ctrl_c_says_what_was_started_and_leaves_it(gone: Forsaken) -> None:
    assert gone.once.code == 130, gone.once.err
    assert "stopping to wait; what was started runs on" in gone.once.err
    one = gone.once.instances["slow.1"]
    assert one["end"] == "still starting"
    assert one["reason"] == "interrupted; it runs on and was at: building the model"
    verdict = gone.once.json["verdict"]
    assert verdict.startswith("INTERRUPTED after ") and "; left to run on: slow.1" in verdict
    # The seed serves on, and the joiner runs on.
    assert gone.after_once == (True, True)


def test_a_second_ctrl_c_ends_it_at_once(gone: Forsaken) -> None:
    assert not gone.ended_between
    assert gone.twice.code == 130, gone.twice.err
    one = gone.twice.instances["slow.1"]
    assert (one["end"], one["ran_already"]) == ("still starting", True)
    assert gone.twice.json["duration_s"] < LOOK_LIMIT_S


def test_what_was_left_is_ended_from_elsewhere(gone: Forsaken) -> None:
    assert gone.stopped.code == 0, gone.stopped.out
    assert gone.left == [NOTHING] * 4


def test_a_dry_run_shows_the_command_and_starts_nothing(secrets: Kept) -> None:
    shown = secrets.answers["dry run"]
    assert shown.code == 0, shown.err
    assert "# vault.1 on vault (seed): would be started" in shown.out
    assert "export VLLM_API_KEY='(hidden)'" in shown.out
    assert re.search(rf" {MODEL} \\\n *--tensor-parallel-size 1 \\\n", shown.out)
    assert secrets.after_dry == NOTHING


def test_a_secret_is_shown_nowhere(secrets: Kept) -> None:
    assert [answer.code for answer in secrets.answers.values()] == [0, 0, 2, 0, 0, 0], secrets.answers
    for name, answer in secrets.answers.items():
        for value in (*SECRETS.values(), OTHER_SECRET):
            assert value not in answer.out + answer.err, name
    assert secrets.seen_in == []
    assert "VLLM_API_KEY" in secrets.answers["another secret"].err


def test_a_secret_reaches_the_engine_in_files_of_its_user_alone(secrets: Kept) -> None:
    assert secrets.plan_holds_them and (secrets.without_key, secrets.with_key) == (401, 200)
    folders = {"netloader", "s", "vault.1"}
    assert {"plan.json", "run.sh", "state.json", "log", *folders} <= secrets.modes.keys()
    assert {name: oct(mode) for name, mode in secrets.modes.items()} == {
        name: oct(0o700 if name in folders else 0o600) for name in secrets.modes
    }
