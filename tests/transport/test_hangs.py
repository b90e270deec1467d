"""What hangs without ending: agents, key files, shells, jump hosts. Each costs its deadline and no more."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from ascendctl.facts import ReachStatus
from ascendctl.inventory import Endpoint
from ascendctl.transport import identities, ssh, watch
from ascendctl.transport.contract import Job, Outcome
from ascendctl.transport.fanout import fan_out
from ascendctl.transport.openssh_config import ClientConfig
from ascendctl.transport.ssh import SshTransport
from tests.openssh import OpenSSHFarm
from tests.transport.conftest import SHORT, Collected, ask, script
from tests.transport.test_ssh import failed, stop_during

pytestmark = [pytest.mark.openssh, pytest.mark.usefixtures("no_threads_left")]

BRIEF = replace(SHORT, host_s=1.5)
WAITS = script("echo FRAME half; sleep 25; echo END")


def ask_all(endpoints: list[Endpoint], body: bytes = WAITS, deadlines: object = SHORT) -> list[Outcome]:
    jobs = [Job(f"host{number}", endpoint, body) for number, endpoint in enumerate(endpoints)]
    with SshTransport() as transport:
        return fan_out(jobs, lambda job: transport, lambda job: Collected(), deadlines=deadlines)  # type: ignore[arg-type]


# --- the agent and the key files ------------------------------------------------------------------


class SilentAgent:
    """Listens as an ssh agent and answers nothing; with ``public`` it first lists that one key."""

    def __init__(self, address: Path, public: bytes | None = None) -> None:
        self.asked = threading.Event()
        self._public = public
        self._held: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(address))
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        for connection in (*self._held, self._listener):
            connection.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._held.append(connection)
            connection.recv(5)
            if self._public is not None:
                # draft-ietf-sshm-ssh-agent: SSH_AGENT_IDENTITIES_ANSWER = 12, count, (blob, comment)
                body = struct.pack(">BI", 12, 1) + _string(self._public) + _string(b"mine")
                connection.sendall(_string(body))
            self.asked.set()


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    return tmp_path


@pytest.fixture
def silent_agent(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentAgent]:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(home / "agent"))
    agent = SilentAgent(home / "agent")
    yield agent
    agent.close()


@pytest.fixture
def unsigning_agent(farm: OpenSSHFarm, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentAgent]:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(home / "agent"))
    encoded = farm.client_key.with_suffix(".pub").read_text().split()[1]
    agent = SilentAgent(
        home / "agent",
        subprocess.run(["base64", "-d"], input=encoded.encode(), capture_output=True, check=True).stdout,
    )
    yield agent
    agent.close()


def closed_in(transport: SshTransport) -> float:
    started = time.monotonic()
    transport.close()
    return time.monotonic() - started


def test_a_silent_agent_ends_at_the_deadline(farm: OpenSSHFarm, silent_agent: SilentAgent) -> None:
    transport = SshTransport()
    jobs = [Job(f"host{n}", farm.endpoint("node01", identity_files=()), WAITS) for n in range(6)]
    outcomes = fan_out(jobs, lambda job: transport, lambda job: Collected(), deadlines=BRIEF)
    assert closed_in(transport) < 1
    for outcome in outcomes:
        failed(outcome, ReachStatus.TIMEOUT, "1.5 s, the host's limit", "asking the ssh agent at")
        assert outcome.duration_s < 6


def test_a_stop_while_the_agent_is_silent(farm: OpenSSHFarm, silent_agent: SilentAgent) -> None:
    outcome = stop_during(
        farm.endpoint("node01", identity_files=()), WAITS, lambda sink: silent_agent.asked.wait(20)
    )
    failed(outcome, ReachStatus.INTERRUPTED, "asking the ssh agent")


def test_a_silent_agent_is_passed_over_after_its_limit(
    farm: OpenSSHFarm, silent_agent: SilentAgent, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "AGENT_LIST_LIMIT_S", 0.5)
    endpoint = farm.endpoint("node01", identity_files=())
    outcome, _ = ask(endpoint)
    failed(outcome, ReachStatus.AUTHENTICATION, "gave no answer within 0.5 s")
    (home / ".ssh" / "id_ed25519").write_bytes(farm.client_key.read_bytes())
    outcome, _ = ask(endpoint)
    assert outcome.failure is None


def test_an_agent_that_does_not_sign_ends_at_the_deadline(
    farm: OpenSSHFarm, unsigning_agent: SilentAgent
) -> None:
    transport = SshTransport()
    outcome, _ = ask(farm.endpoint("node01", identity_files=()), transport=transport, deadlines=BRIEF)
    failed(outcome, ReachStatus.TIMEOUT, "authentication", "with agent key mine")
    assert outcome.duration_s < 6
    assert closed_in(transport) < 1


def test_an_agent_that_did_not_sign_is_not_asked_again(
    farm: OpenSSHFarm, unsigning_agent: SilentAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "AGENT_SIGN_LIMIT_S", 0.5)
    for outcome in ask_all([farm.endpoint("node01", identity_files=())] * 4):
        failed(outcome, ReachStatus.NOT_ATTEMPTED, "the ssh agent", "gave no answer within 0.5 s")


def test_an_identity_that_is_no_regular_file_is_not_read(farm: OpenSSHFarm, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key")
    files = (tmp_path / "key", Path("/dev/zero"))
    outcome, _ = ask(farm.endpoint("node01", identity_files=files), deadlines=BRIEF)
    failed(outcome, ReachStatus.AUTHENTICATION, *(f"{file} is no regular file" for file in files))
    outcome, _ = ask(farm.endpoint("node01", identity_files=(*files, farm.client_key)))
    assert outcome.failure is None


def test_a_key_file_that_cannot_be_read_to_its_end_ends_at_the_deadline(
    farm: OpenSSHFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()  # as a file on a server that is gone

    def hang(path: Path) -> bytes:
        release.wait(60)
        return b""

    monkeypatch.setattr(identities, "_read", hang)
    transport = SshTransport()
    outcome, _ = ask(farm.endpoint("node01"), transport=transport, deadlines=BRIEF)
    assert closed_in(transport) < 1
    release.set()
    failed(outcome, ReachStatus.TIMEOUT, f"loading keys ({farm.client_key})")


# --- too few file descriptors ---------------------------------------------------------------------


def none_left(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.parametrize(
    "what",
    ["socket.socket", "subprocess.Popen", "ascendctl.transport.identities._read", "pathlib.Path.read_bytes"],
)
@pytest.mark.parametrize("jump", [False, True])
def test_too_few_file_descriptors_are_told_as_such(
    farm: OpenSSHFarm, what: str, jump: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text("Host *\n  Compression no\n  Port 22\n")
    endpoint = farm.endpoint("node01", use_ssh_config=True)
    if jump:
        endpoint = replace(endpoint, jump=farm.endpoint("node02", use_ssh_config=True))
    with SshTransport(config=ClientConfig(user_config=config)) as transport:
        with monkeypatch.context() as patched:
            patched.setattr(what, none_left)
            outcome, _ = ask(endpoint, transport=transport)
        failed(outcome, ReachStatus.NOT_ATTEMPTED, "raise ulimit -n or lower --width")
        if not jump:
            outcome, _ = ask(endpoint, transport=transport)
            assert outcome.failure is None, "what was missing for a moment was remembered"


# --- the account's shell --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "said"), [("sleep 20", ""), ("echo menu: choose; sleep 20", "it said 'menu: choose'")]
)
def test_a_login_shell_that_never_starts_the_script(
    command: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OpenSSHFarm([("node01", None)], network="127.80", extra=[f"ForceCommand {command}"]) as farm:
        outcome, _ = ask(farm.endpoint("node01"), deadlines=BRIEF)
        failed(outcome, ReachStatus.TIMEOUT)
        monkeypatch.setattr(ssh, "SHELL_START_S", 0.5)
        outcome, _ = ask(farm.endpoint("node01"), deadlines=replace(SHORT, host_s=3.0))
    failed(outcome, ReachStatus.PROTOCOL, "logged in, but nothing of the probe came back", "3 s", said)


# --- links that fall silent -----------------------------------------------------------------------


@pytest.fixture
def bastion() -> Iterator[OpenSSHFarm]:
    with OpenSSHFarm([("bastion", None)], network="127.78") as outer:
        yield outer


@pytest.fixture
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BEAT_S", 0.1)
    monkeypatch.setattr(ssh, "JUMP_INTERVAL_S", 0.5)
    monkeypatch.setattr(ssh, "HOST_INTERVAL_S", 0.5)


def ask_and_freeze(endpoints: list[Endpoint], frozen: OpenSSHFarm, name: str, host_s: float) -> list[Outcome]:
    """Ask all; once each has answered something, freeze the sessions of the named host."""
    sinks = {f"host{n}": Collected(until=b"FRAME half") for n in range(len(endpoints))}
    done = threading.Event()

    def work() -> None:
        assert all(sink.seen.wait(20) for sink in sinks.values())
        with frozen.frozen_sessions(name):
            done.wait(60)

    freezer = threading.Thread(target=work)
    freezer.start()
    jobs = [Job(f"host{number}", endpoint, WAITS) for number, endpoint in enumerate(endpoints)]
    try:
        with SshTransport() as transport:
            return fan_out(
                jobs,
                lambda job: transport,
                lambda job: sinks[job.host],
                deadlines=replace(SHORT, host_s=host_s),
            )
    finally:
        done.set()
        freezer.join()


@pytest.mark.usefixtures("quick_heartbeat")
def test_a_jump_host_that_stalls_is_one_cause_before_the_deadline(
    farm: OpenSSHFarm, bastion: OpenSSHFarm
) -> None:
    endpoints = [farm.endpoint(name, jump=bastion.endpoint("bastion")) for name in farm.names]
    for outcome in ask_and_freeze(endpoints, bastion, "bastion", 20.0):
        assert failed(outcome, ReachStatus.LOST, "jump host bastion").via == "bastion"
        assert outcome.duration_s < 18


def test_a_jump_host_that_stalls_is_the_cause_at_the_deadline(
    farm: OpenSSHFarm, bastion: OpenSSHFarm
) -> None:
    endpoints = [farm.endpoint(name, jump=bastion.endpoint("bastion")) for name in farm.names]
    for outcome in ask_and_freeze(endpoints, bastion, "bastion", 6.0):
        failure = failed(outcome, ReachStatus.JUMP_HOST, "bastion does not answer any more", "6 s")
        assert failure.via == "bastion"


def test_a_host_that_stalls_behind_a_good_jump_host_is_its_own_failure(
    farm: OpenSSHFarm, bastion: OpenSSHFarm
) -> None:
    endpoint = farm.endpoint("node01", jump=bastion.endpoint("bastion"))
    (outcome,) = ask_and_freeze([endpoint], farm, "node01", 5.0)
    assert failed(outcome, ReachStatus.TIMEOUT, "5 s, the host's limit").via is None


@pytest.mark.usefixtures("quick_heartbeat")
def test_a_host_that_stalls_is_lost_before_the_deadline(farm: OpenSSHFarm) -> None:
    (outcome,) = ask_and_freeze([farm.endpoint("node01")], farm, "node01", 20.0)
    assert failed(outcome, ReachStatus.LOST).via is None
    assert outcome.duration_s < 18


@pytest.mark.usefixtures("quick_heartbeat")
def test_a_command_that_takes_long_is_no_silence(farm: OpenSSHFarm, bastion: OpenSSHFarm) -> None:
    endpoints = [farm.endpoint("node01"), farm.endpoint("node02", jump=bastion.endpoint("bastion"))]
    outcomes = ask_all(endpoints, script("echo FRAME; sleep 5; echo END"))
    assert [outcome.failure for outcome in outcomes] == [None, None]


def test_a_jump_host_that_never_logs_us_in_is_the_cause_at_the_deadline(farm: OpenSSHFarm) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        jump = Endpoint(
            "bastion", "127.0.0.1", port=silent.getsockname()[1], user="root", use_ssh_config=False
        )
        outcomes = ask_all([farm.endpoint(name, jump=jump) for name in farm.names], deadlines=BRIEF)
    for outcome in outcomes:
        assert failed(outcome, ReachStatus.JUMP_HOST, "SSH banner").via == "bastion"
