"""An instance's life on its host, with a real shell and real processes: start, look, list, stop."""

from __future__ import annotations

import http.server
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ascendctl.inventory import Endpoint
from ascendctl.netloader import host_scripts
from ascendctl.netloader.deployment_state import (
    HostSeen,
    KeptBy,
    Life,
    Seen,
    Start,
    Started,
    Stop,
    Stopped,
    Unreadable,
    parse_seen,
    parse_started,
    parse_stopped,
    read_state,
)
from ascendctl.probe.capture import CaptureSink, HostCapture, decode
from ascendctl.probe.script import new_nonce
from ascendctl.transport.contract import Deadlines, Job
from ascendctl.transport.local import LocalTransport

# Of this process alone, so that tests beside it find and end their own.
LONG_S = str(1_000_000 + os.getpid())
FOREVER = f"exec sleep {LONG_S} </dev/null\n"
PATIENCE_S = 60.0


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


class Host:
    """This host, asked through the transport that real runs use. ``root``: where its folders are."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.root = tmp_path / "it's a root"
        self.folder = self.root / "d" / "h.1"
        self.path = os.environ["PATH"]

    def ask(self, script: bytes, nonce: str) -> HostCapture:
        sink = CaptureSink(nonce)
        outcome = LocalTransport().run(
            Job("h", Endpoint(name="h", address="127.0.0.1"), script), sink, Deadlines(), threading.Event()
        )
        assert outcome.failure is None or outcome.failure.kind == "lost", outcome
        return sink.capture()

    def start(self, run: str = FOREVER, words: tuple[str, ...] = (), instance: str = "h.1") -> Started:
        nonce, start_id = new_nonce(), new_nonce()
        script = host_scripts.start_script(
            nonce,
            start_id,
            "d",
            instance,
            plan='{"a": "$HOME `id` \'"}\n',
            run=run,
            root=str(self.root),
            launch_words=words,
        )
        return parse_started(self.ask(script, nonce))

    def look(self, **asked: object) -> Seen:
        nonce = new_nonce()
        script = host_scripts.look_script(
            nonce,
            [host_scripts.Look("d", "h.1", **asked)],  # type: ignore[arg-type]
            root=str(self.root),
        )
        seen = parse_seen(self.ask(script, nonce))
        assert seen.reason == ""
        (one,) = seen.instances
        return one

    def all(self) -> HostSeen:
        nonce = new_nonce()
        return parse_seen(self.ask(host_scripts.list_script(nonce, root=str(self.root)), nonce))

    def stop(self, **asked: object) -> Stopped:
        nonce = new_nonce()
        asked = {"grace_s": 30, **asked}
        script = host_scripts.stop_script(nonce, "d", "h.1", root=str(self.root), **asked)  # type: ignore[arg-type]
        return parse_stopped(self.ask(script, nonce))

    def state(self) -> dict[str, object]:
        content = json.loads((self.folder / "state.json").read_text())
        assert isinstance(content, dict)
        return content

    def edit_state(self, **changes: object) -> None:
        text = json.dumps(self.state() | changes, indent=1)
        (self.folder / "state.json").write_text(text + "\n")

    def wait_for(self, name: str) -> int:
        """The process id that the engine wrote into a file."""
        path = self.tmp_path / name
        until(lambda: path.exists() and path.read_text().endswith("\n"))
        return int(path.read_text())


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    before = set(_sleepers())
    yield made
    for pid in set(_sleepers()) - before:
        os.kill(pid, signal.SIGKILL)


def _sleepers() -> list[int]:
    """Processes of this module's engines: their command lines hold a number of their own."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if LONG_S.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_a_started_instance_lives_on_and_a_second_look_sees_it(host: Host) -> None:
    started = host.start("echo ready; echo $$ >&2; " + FOREVER)
    assert (started.outcome, started.reason) == (Start.STARTED, "")
    seen = host.look()
    assert (seen.life, seen.reason, seen.plan) == (Life.RUNNING, "", '{"a": "$HOME `id` \'"}\n')
    assert seen.state is not None and seen.state.process is not None and seen.state.phase == "started"
    process = seen.state.process
    assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid in seen.members
    assert process.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    assert process.start_ticks == int(fields[19])
    until(lambda: b"\nready\n" in (host.look().log or pytest.fail("no log")).content)
    modes = {path.name: path.stat().st_mode & 0o777 for path in host.folder.iterdir()}
    assert set(modes) == {"plan.json", "run.sh", "inside", "state.json", "log"}
    assert set(modes.values()) == {0o600}
    assert {p.stat().st_mode & 0o777 for p in (host.root, host.folder.parent, host.folder)} == {0o700}
    assert host.all().instances[0].life is Life.RUNNING
    stopped = host.stop()
    assert (stopped.outcome, stopped.left, stopped.removed) == (Stop.STOPPED, (), True)
    assert not any(alive(pid) for pid in seen.members) and not host.folder.parent.exists()


def test_what_runs_is_not_started_again(host: Host) -> None:
    first = host.start()
    second = host.start()
    assert second.outcome is Start.RUNS_ALREADY and first.seen is not None and second.seen is not None
    assert second.seen.state == first.seen.state and second.seen.members


def test_secrets_reach_the_engine_and_no_command_line(host: Host) -> None:
    secret = "s3cret-of-this-test"
    mark = host.tmp_path / "mark"
    run = f'export API_TOKEN={secret}\ntest "$API_TOKEN" = {secret} && echo $$ >{shlex.quote(str(mark))}\n'
    started = host.start(run + FOREVER)
    host.wait_for("mark")
    assert started.seen is not None and len(started.seen.members) >= 1
    for pid in host.look().members:
        assert secret.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert secret not in (host.folder / "state.json").read_text()


def test_an_exit_code_is_told(host: Host) -> None:
    host.start("printf 'no line end'; exit 7\n")
    until(lambda: host.look().life is Life.ENDED and host.look().exit_code is not None)
    seen = host.look()
    assert (seen.exit_code, seen.reason, seen.members) == (7, "the engine ended with exit code 7", ())
    assert host.start().outcome is Start.STARTED
    assert b"no line end" in (host.folder / "log.before").read_bytes()
    assert host.look().exit_code is None


def test_a_log_is_read_from_an_offset_and_bounded(host: Host) -> None:
    host.start("printf 'ghi\\377\\n@0 end\\nxyz'; " + FOREVER)
    until(lambda: (host.folder / "log").read_bytes().endswith(b"xyz"))
    whole = (host.folder / "log").read_bytes()
    at = whole.index(b"ghi\xff")  # no hex digits: a start's id stands before it
    part = host.look(log_from=at).log
    assert part is not None and (part.size_bytes, part.offset, part.content) == (len(whole), at, whole[at:])
    part = host.look(log_bytes=3).log
    assert part is not None and (part.offset, part.content) == (len(whole) - 3, b"xyz")
    part = host.look(log_from=at, log_bytes=4).log
    assert part is not None and part.content == b"ghi\xff"


def test_status_files_of_the_engine_are_read(host: Host) -> None:
    host.start()
    prefix = host.tmp_path / "with 'quote/out"
    prefix.parent.mkdir()
    prefix.with_name("out0.json").write_text('{"rank": 0}')
    prefix.with_name("out1.draft.json").write_text("")
    prefix.with_name("out2.json").symlink_to("/etc/passwd")
    prefix.with_name("other0.json").write_text("no")
    assert dict(host.look(status_prefix=str(prefix)).statuses) == {
        f"{prefix}0.json": b'{"rank": 0}',
        f"{prefix}1.draft.json": b"",
    }


def test_what_ignores_term_is_killed_with_its_grandchild(host: Host) -> None:
    mark = shlex.quote(str(host.tmp_path / "child"))
    child = f"trap '' TERM; (sleep {LONG_S} & echo $! >{mark}; wait); sleep {LONG_S}"
    host.start(f"exec sh -c {shlex.quote(child)}\n")
    grandchild = host.wait_for("child")
    members = host.look().members
    assert grandchild in members
    stopped = host.stop(grace_s=1)
    assert (stopped.outcome, stopped.signals, stopped.left) == (Stop.STOPPED, ("TERM", "KILL"), ())
    assert not any(alive(pid) for pid in members)


def test_term_suffices_where_it_is_heard(host: Host) -> None:
    mark = host.tmp_path / "heard"
    up = shlex.quote(str(host.tmp_path / "up"))
    run = f"trap 'echo 1 >{shlex.quote(str(mark))}; exit 0' TERM; echo $$ >{up}\nsleep {LONG_S} & wait\n"
    host.start(f"exec sh -c {shlex.quote(run)}\n")
    host.wait_for("up")
    stopped = host.stop(remove=False)
    assert (stopped.outcome, stopped.signals, stopped.removed) == (Stop.STOPPED, ("TERM",), False)
    assert mark.exists()
    seen = host.look()
    assert seen.life is Life.ENDED and seen.state is not None and seen.state.phase == "stopped"
    assert host.stop().outcome is Stop.GONE and not host.folder.exists()


@pytest.mark.parametrize("own_session", ["", "setsid "], ids=["same session", "session of its own"])
def test_leftovers_of_a_dead_keeper_are_found_and_ended(host: Host, own_session: str) -> None:
    mark = shlex.quote(str(host.tmp_path / "worker"))
    host.start(f"{own_session}sleep {LONG_S} & echo $! >{mark}\nexec sleep {LONG_S}\n")
    host.wait_for("worker")
    state = host.look().state
    assert state is not None and state.process is not None
    os.kill(state.process.pid, signal.SIGKILL)
    until(lambda: not alive(state.process.pid))  # type: ignore[union-attr]
    seen = host.look()
    assert seen.life is Life.LEFTOVERS and len(seen.members) == 2
    again = host.start()
    assert again.outcome is Start.REFUSED and "stop it first" in again.reason
    assert host.stop().outcome is Stop.STOPPED
    assert not any(alive(pid) for pid in seen.members)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a session of its own, as one that got a reused process id would."""
    process = subprocess.Popen(["sleep", LONG_S], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_a_reused_process_id_is_never_signalled(host: Host, stranger: subprocess.Popen[bytes]) -> None:
    host.start("exit 0\n")
    until(lambda: host.look().life is Life.ENDED)
    until(lambda: os.getsid(stranger.pid) == stranger.pid)
    host.edit_state(pid=stranger.pid)
    assert host.look().life is Life.ENDED
    assert host.stop(grace_s=0).outcome is Stop.GONE
    assert stranger.poll() is None and alive(stranger.pid)


def test_an_edited_start_time_proves_nothing(host: Host, stranger: subprocess.Popen[bytes]) -> None:
    host.start("exit 0\n")
    until(lambda: host.look().life is Life.ENDED)
    until(lambda: os.getsid(stranger.pid) == stranger.pid)
    ticks = int(Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()[19])
    host.edit_state(pid=stranger.pid, start_ticks=ticks + 1, client_pid=stranger.pid, client_ticks=ticks + 1)
    assert (host.look().life, host.stop(grace_s=0).outcome) == (Life.ENDED, Stop.GONE)
    assert alive(stranger.pid)


OTHER_BOOT = "00000000-0000-4000-8000-000000000000"


def test_another_boot_of_this_host_ended_it(host: Host) -> None:
    host.start()
    members = host.look().members
    host.edit_state(boot_id=OTHER_BOOT)
    assert host.look().life is Life.RESTARTED
    assert host.stop().outcome is Stop.GONE
    assert all(alive(pid) for pid in members)


def test_an_instance_of_another_host_is_left_to_it(host: Host) -> None:
    host.start()
    host.edit_state(boot_id=OTHER_BOOT, node="other-host")
    seen, stopped = host.look(), host.stop()
    assert seen.life is Life.ELSEWHERE and "other-host" in seen.reason
    assert stopped.outcome is Stop.REFUSED and "other-host" in stopped.reason and host.folder.exists()
    again = host.start()
    assert again.outcome is Start.REFUSED and "shared between hosts" in again.reason


def test_a_half_written_state_is_told_and_the_log_says_whom_to_stop(host: Host) -> None:
    host.start()
    path = host.folder / "state.json"
    path.write_bytes(path.read_bytes()[:150])
    seen = host.look()
    assert seen.state is None and "half-written" in seen.reason and seen.life is Life.RUNNING
    assert host.stop().outcome is Stop.STOPPED
    assert not any(alive(pid) for pid in seen.members)


def test_without_state_and_log_nothing_is_guessed(host: Host) -> None:
    host.start()
    members = host.look().members
    (host.folder / "state.json").write_text("{")
    (host.folder / "log").write_text("")
    seen, stopped = host.look(), host.stop()
    assert seen.life is Life.UNKNOWN and "no process of it is recorded" in seen.reason
    assert stopped.outcome is Stop.REFUSED and "by hand" in stopped.reason
    assert all(alive(pid) for pid in members) and host.folder.exists()


def test_another_start_than_the_one_meant_is_not_stopped(host: Host) -> None:
    host.start()
    stopped = host.stop(start_id="0" * 32)
    assert stopped.outcome is Stop.REFUSED and "started again" in stopped.reason
    assert host.look().life is Life.RUNNING


@pytest.mark.parametrize("level", ["root", "deployment", "instance"])
def test_a_linked_folder_is_refused(host: Host, level: str) -> None:
    host.start()
    path = {"root": host.root, "deployment": host.folder.parent, "instance": host.folder}[level]
    real = host.tmp_path / "real"
    path.rename(real)
    path.symlink_to(real)
    started, stopped = host.start(), host.stop()
    assert started.outcome is Start.REFUSED and f"{path} is a link" in started.reason
    assert stopped.outcome is Stop.REFUSED and f"{path} is a link" in stopped.reason
    seen = host.look()
    assert seen.life is Life.UNKNOWN and f"{path} is a link" in seen.reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another account")
def test_a_folder_of_another_account_is_refused(host: Host) -> None:
    host.start()
    os.chown(host.folder, 12345, 12345)
    for reason in (host.start().reason, host.stop().reason, host.look().reason):
        assert f"{host.folder} is a link, belongs to another account" in reason


def test_a_folder_or_file_that_others_may_write_is_refused(host: Host) -> None:
    host.start()
    (host.folder / "inside").chmod(0o622)
    assert "inside is a link, belongs to" in host.stop().reason
    (host.folder / "inside").chmod(0o600)
    host.folder.chmod(0o770)
    assert host.stop().outcome is Stop.REFUSED


def test_a_folder_that_is_not_there(host: Host) -> None:
    assert (host.look().life, host.stop().outcome) == (Life.UNKNOWN, Stop.GONE)
    assert host.all() == HostSeen(root=str(host.root))


def test_all_instances_of_a_host_are_listed(host: Host) -> None:
    host.start()
    host.start("exit 3\n", instance="h.2")
    (host.root / "d" / "not ours").mkdir()
    until(lambda: [one.life for one in host.all().instances] == [Life.RUNNING, Life.ENDED])
    assert [one.instance for one in host.all().instances] == ["h.1", "h.2"]


CONTAINER = """#!/bin/sh
# Stands in for docker exec: the command runs in a session of its own, which does not end with this client.
[ "$1 $2 $3" = "exec -i box" ] || { echo "no such container: $*" >&2; exit 1; }
[ ! -e "$0.down" ] || { echo "container box is not running" >&2; exit 1; }
shift 3
exec 3<&0
setsid "$@" <&3 3<&- &
wait $!; rc=$?
# The client of what is no mere look stays although what it began has ended.
case $5 in look|stop|files|api) exit $rc;; esac
exec sleep @LONG@ </dev/null
"""


def test_through_launch_words(host: Host) -> None:
    docker = host.tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(CONTAINER.replace("@LONG@", LONG_S))
    docker.chmod(0o700)
    started = host.start("echo in the box; " + FOREVER, words=(str(docker), "exec", "box"))
    assert started.outcome is Start.STARTED and started.seen is not None
    state = started.seen.state
    assert state is not None and state.launch_words == (str(docker), "exec", "-i", "box")
    assert state.process is not None and state.client_pid is not None
    assert state.client_pid != state.process.pid and os.getsid(state.client_pid) == state.client_pid
    down = Path(f"{docker}.down")
    down.touch()
    seen, stopped = host.look(), host.stop()
    assert seen.life is Life.UNKNOWN and "container box is not running" in seen.reason
    assert stopped.outcome is Stop.REFUSED and "container box is not running" in stopped.reason
    down.unlink()
    members = host.look().members
    assert state.process.pid in members
    assert host.stop().outcome is Stop.STOPPED
    assert not any(alive(pid) for pid in (*members, state.client_pid))


def test_two_starts_at_once_are_refused_and_a_start_cut_off_is_not_in_the_way(host: Host) -> None:
    host.start("exit 0\n")
    until(lambda: host.look().life is Life.ENDED)
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    lock = host.folder / "lock"
    lock.write_text(f"{os.getpid()} {ticks} {boot}")
    refused = host.start()
    assert refused.outcome is Start.REFUSED and "another start" in refused.reason and lock.exists()
    lock.write_text(f"{os.getpid()} {int(ticks) + 1} {boot}")
    assert host.start().outcome is Start.STARTED and not lock.exists()


def test_launch_words_that_do_not_work_are_a_failed_start(host: Host) -> None:
    started = host.start(words=("/nonexistent/docker", "exec", "box"))
    assert started.outcome is Start.FAILED and "see its log" in started.reason
    assert started.seen is not None and started.seen.log is not None
    assert b"/nonexistent/docker" in started.seen.log.content
    assert host.stop().outcome is Stop.GONE


@pytest.mark.parametrize("works", [True, False], ids=["systemd-run works", "systemd-run fails"])
def test_where_logins_are_killed_a_scope_is_used(
    host: Host, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    folder = host.tmp_path / "bin"
    folder.mkdir()
    log = shlex.quote(str(host.tmp_path / "scopes"))
    (folder / "loginctl").write_text("#!/bin/sh\ncase $* in *Kill*) echo KillUserProcesses=yes;; esac\n")
    ending = 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"' if works else "exit 1"
    (folder / "systemd-run").write_text(f'#!/bin/sh\necho "$1 $2" >>{log}\n{ending}\n')
    for tool in folder.iterdir():
        tool.chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}:{host.path}")
    state = (host.start().seen or pytest.fail("nothing seen")).state
    assert state is not None and state.kills_user_processes is True
    scope = KeptBy.SYSTEM_SCOPE if os.geteuid() == 0 else KeptBy.USER_SCOPE
    assert state.kept_by is (scope if works else KeptBy.SESSION)
    assert state.ends_with_the_login is (state.kept_by is not KeptBy.SYSTEM_SCOPE)
    assert (host.tmp_path / "scopes").read_text().count("--scope") == (2 if works else 1)
    assert host.stop().outcome is Stop.STOPPED


# Answers that cannot be trusted ---------------------------------------------------------------------------

GOOD = {
    "format": 1,
    "deployment": "d",
    "instance": "h.1",
    "start_id": "a" * 32,
    "phase": "started",
    "node": "h",
    "started_unix_s": 1,
    "kept_by": "setsid",
    "kills_user_processes": None,
    "linger": None,
    "launch_words": [],
    "pid": 10,
    "start_ticks": 5,
    "boot_id": OTHER_BOOT,
    "client_pid": 10,
}


def test_a_whole_state_is_read() -> None:
    state = read_state(json.dumps(GOOD).encode())
    assert state.process is not None and state.process.pid == 10 and not state.ends_with_the_login


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2),
        ("deployment", None),
        ("start_id", "x"),
        ("phase", "running"),
        ("kept_by", "tmux"),
        ("linger", "yes"),
        ("launch_words", "docker"),
        ("pid", 1),
        ("pid", True),
        ("pid", -4),
        ("start_ticks", None),
        ("boot_id", ""),
    ],
)
def test_a_state_that_is_none_is_refused(key: str, value: object) -> None:
    with pytest.raises(Unreadable, match=key):
        read_state(json.dumps(GOOD | {key: value}).encode())


@pytest.mark.parametrize(
    ("kills", "kept_by", "linger", "ends"),
    [
        (None, "setsid", None, False),
        (False, "setsid", None, False),
        (True, "setsid", True, True),
        (True, "user-scope", True, False),
        (True, "user-scope", False, True),
        (True, "user-scope", None, True),
        (True, "system-scope", None, False),
    ],
)
def test_what_ends_with_the_login_is_told(
    kills: bool | None, kept_by: str, linger: bool | None, ends: bool
) -> None:
    content = GOOD | {"kills_user_processes": kills, "kept_by": kept_by, "linger": linger}
    assert read_state(json.dumps(content).encode()).ends_with_the_login is ends


def test_a_cut_answer_is_unknown() -> None:
    begun = f"\n@{'a' * 32} hello 1\n\n@{'a' * 32} begin d/h.1/folder - - - 0 1\n\n@{'a' * 32} stderr\n\n"
    capture = decode((begun + f"@{'a' * 32} end\n").encode())
    seen = parse_seen(capture)
    assert "cut off" in seen.reason and [one.life for one in seen.instances] == [Life.UNKNOWN]
    assert parse_started(capture).outcome is Start.UNKNOWN
    assert parse_stopped(capture).outcome is Stop.UNKNOWN


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "-x", "$(id)", "a\n"])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a folder"):
        host_scripts.look_script(new_nonce(), [host_scripts.Look("d", name)])


@pytest.mark.parametrize(
    "words", [("docker", "exec", "-it", "c"), ("podman", "exec", "-d", "c"), ("",), ("a\nb",)]
)
def test_launch_words_that_cannot_work_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError):
        host_scripts.launch_words_checked(words)


# The API and the ports ------------------------------------------------------------------------------------


class _Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(self.server.says if self.path == "/health" else 404)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def api() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Health)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("tool", ["curl", "python3"])
@pytest.mark.parametrize("says", [200, 503])
def test_what_health_says_and_which_ports_are_listened_on(
    host: Host, api: http.server.ThreadingHTTPServer, tool: str, says: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.says = says  # type: ignore[attr-defined]
    if tool == "python3":
        _hide(host, "curl", monkeypatch)
    elif shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    # A proxy that the engine's environment names is not asked.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    host.start()
    seen = host.look(api=("127.0.0.1", api.server_port))
    assert seen.health == says
    assert seen.listening is not None and api.server_port in seen.listening
    plain = host.look()
    assert (plain.health, plain.listening) == (None, None)


def test_an_api_that_does_not_listen_is_0_and_without_a_tool_nothing_is_said(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host.start()
    seen = host.look(api=("127.0.0.1", port))
    assert seen.health == 0
    assert seen.listening is not None and port not in seen.listening
    _hide(host, "curl", monkeypatch)
    _hide(host, "python3", monkeypatch)
    assert host.look(api=("127.0.0.1", port)).health is None


def _hide(host: Host, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH of links to everything but ``program``; the script adds the system's own folders behind it."""
    monkeypatch.setattr(
        host_scripts,
        "_HEAD",
        host_scripts._HEAD.replace("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:", "").replace(
            "PATH=$PATH:/sbin:/bin; ", ""
        ),
    )
    folder = host.tmp_path / f"without {program}"
    folder.mkdir()
    for part in os.environ["PATH"].split(os.pathsep):
        for file in Path(part).glob("*"):
            link = folder / file.name
            if file.name != program and not link.is_symlink():
                link.symlink_to(file)
    monkeypatch.setenv("PATH", str(folder))


def test_two_instances_in_one_look(host: Host) -> None:
    host.start()
    host.start(instance="h.2")
    nonce = new_nonce()
    looks = [
        host_scripts.Look("d", "h.2", log_bytes=0),
        host_scripts.Look("d", "h.1"),
        host_scripts.Look("d", "no"),
    ]
    seen = parse_seen(host.ask(host_scripts.look_script(nonce, looks, root=str(host.root)), nonce))
    assert [one.instance for one in seen.instances] == ["h.2", "h.1", "no"]
    assert [one.life for one in seen.instances] == [Life.RUNNING, Life.RUNNING, Life.UNKNOWN]
    assert seen.instances[0].log is None and seen.instances[1].log is not None
