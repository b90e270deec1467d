"""Passwords, keyboard-interactive, the agent, and the protection against locking an account."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ascendctl.inventory import Endpoint, PasswordSource
from ascendctl.transport import passwords
from ascendctl.transport.contract import Job
from ascendctl.transport.fanout import fan_out
from ascendctl.transport.passwords import PasswordError, Passwords, resolve_passwords
from ascendctl.transport.ssh import SshTransport
from tests.openssh import OpenSSHFarm
from tests.transport.conftest import HELLO, SHORT, Collected, ask, eventually, script
from tests.transport.paramiko_host import ParamikoHost

pytestmark = pytest.mark.usefixtures("no_threads_left")

SOURCE = PasswordSource(env="ASCENDCTL_TEST_PASSWORD")


@pytest.fixture(autouse=True)
def _no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def login(host: ParamikoHost, tmp_path: Path, password: str | None) -> tuple[str, str]:
    """Kind and detail of the outcome's failure, both empty if it went well."""
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(host.known_hosts_line())
    endpoint = host.endpoint(known_hosts=known_hosts, password=SOURCE if password else None)
    offered = Passwords({(SOURCE, None): password}) if password else None
    with SshTransport(passwords=offered) as transport:
        outcome, data = ask(endpoint, transport=transport)
    if outcome.failure is None:
        assert data == b"FRAME hello\nEND\n"
        return "", ""
    assert "sesame" not in outcome.failure.detail
    return outcome.failure.kind, outcome.failure.detail


KBD = "keyboard-interactive"
ASK = ("Password: ", False)
CASES = {
    # methods, prompts, password offered: kind, part of the detail, what reached the server
    "password": ("password", (ASK,), "right", "", "", ["password:right"]),
    "refused once, offered once": (
        f"password,{KBD}",
        (ASK,),
        "sesame",
        "authentication",
        "tried password;",
        ["password:sesame"],
    ),
    "keyboard-interactive": (KBD, (ASK,), "right", "", "", [f"{KBD}:right"]),
    "refused interactively": (
        KBD,
        (ASK,),
        "sesame",
        "authentication",
        f"tried {KBD}",
        [f"{KBD}:sesame"],
    ),
    "a one-time code": (
        KBD,
        (ASK, ("Code: ", False)),
        "right",
        "authentication",
        "more than a password: Password: Code:",
        [],
    ),
    "an echoed question": (KBD, (("Token: ", True),), "right", "authentication", "Token:", []),
    "keys only": ("publickey", (ASK,), "right", "authentication", "allows publickey", []),
    "nothing to offer": ("password", (ASK,), None, "authentication", "tried nothing", []),
}


@pytest.mark.parametrize(
    ("methods", "prompts", "password", "kind", "part", "offered"), CASES.values(), ids=CASES.keys()
)
def test_password_logins(
    methods: str,
    prompts: tuple[tuple[str, bool], ...],
    password: str | None,
    kind: str,
    part: str,
    offered: list[str],
    tmp_path: Path,
) -> None:
    with ParamikoHost(methods=methods, prompts=prompts) as host:
        seen_kind, detail = login(host, tmp_path, password)
    assert (seen_kind, host.offered) == (kind, offered), detail
    assert part in detail


def test_a_second_step_that_we_cannot_take_is_told(tmp_path: Path) -> None:
    with ParamikoHost(methods="password", then="hostbased") as host:
        kind, detail = login(host, tmp_path, "right")
    assert kind == "authentication"
    assert "one step was accepted" in detail and "allows hostbased" in detail


def test_an_account_that_runs_no_commands(tmp_path: Path) -> None:
    with ParamikoHost(runs_commands=False) as host:
        kind, detail = login(host, tmp_path, "right")
    assert kind == "protocol"
    assert "does not run commands" in detail


def test_a_wrong_password_is_offered_to_three_hosts_of_a_group_only(tmp_path: Path) -> None:
    with ParamikoHost() as host:
        known_hosts = tmp_path / "known_hosts"
        known_hosts.write_text(host.known_hosts_line())
        endpoint = host.endpoint(known_hosts=known_hosts, password=SOURCE)
        jobs = [Job(f"host{number}", endpoint, HELLO, "site-a") for number in range(12)]
        with SshTransport(passwords=Passwords({(SOURCE, None): "sesame"})) as transport:
            outcomes = fan_out(
                jobs, lambda job: transport, lambda job: Collected(), width=12, deadlines=SHORT
            )
        kinds = sorted(outcome.failure.kind for outcome in outcomes if outcome.failure)
        assert kinds == ["authentication"] * 3 + ["not-attempted"] * 9
        assert len(host.offered) == 3


def test_once_a_password_was_accepted_it_is_offered_to_all(tmp_path: Path) -> None:
    with ParamikoHost(password="sesame") as good, ParamikoHost() as bad:
        known_hosts = tmp_path / "known_hosts"
        known_hosts.write_text(good.known_hosts_line() + bad.known_hosts_line())
        jobs = [
            Job(f"host{number}", host.endpoint(known_hosts=known_hosts, password=SOURCE), HELLO, "site-a")
            for number, host in enumerate([good, *[bad] * 6, good])
        ]
        with SshTransport(passwords=Passwords({(SOURCE, None): "sesame"})) as transport:
            outcomes = fan_out(jobs, lambda job: transport, lambda job: Collected(), width=1, deadlines=SHORT)
        kinds = [outcome.failure.kind if outcome.failure else "" for outcome in outcomes]
        assert kinds == ["", *["authentication"] * 6, ""]


# --- where passwords come from --------------------------------------------------------------------


def endpoint(source: PasswordSource | None, jump: Endpoint | None = None) -> Endpoint:
    return Endpoint("node01", "127.0.0.1", password=source, jump=jump)


def test_environment_and_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASCENDCTL_TEST_PASSWORD", "from-env")
    runs = tmp_path / "runs"
    marker = tmp_path / "marker"
    tool = tmp_path / "tool"
    tool.write_text(f'#!/bin/sh\necho run >> {runs}\necho "$1"\necho second line\n')
    tool.chmod(0o755)
    command = PasswordSource(command=(str(tool), f"$(touch {marker})"))
    with_jump = endpoint(command, jump=endpoint(SOURCE))
    resolved = resolve_passwords([with_jump, with_jump, endpoint(command), endpoint(None)])
    assert resolved.of(with_jump) == f"$(touch {marker})"
    assert with_jump.jump is not None and resolved.of(with_jump.jump) == "from-env"
    assert resolved.of(endpoint(None)) is None
    assert runs.read_text() == "run\n"
    assert not marker.exists()
    assert "from-env" not in f"{resolved!r}{resolved}"


def test_no_program_that_we_start_is_handed_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASCENDCTL_TEST_PASSWORD", "sesame")
    count = PasswordSource(command=("sh", "-c", "env | grep -c sesame"))
    with pytest.raises(PasswordError, match="exited 1"):
        resolve_passwords([endpoint(count), endpoint(SOURCE)])
    assert "ASCENDCTL_TEST_PASSWORD" not in os.environ
    again = endpoint(SOURCE)
    assert resolve_passwords([again]).of(again) == "sesame"


def test_a_password_command_that_hangs_is_ended_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "COMMAND_LIMIT_S", 1.0)
    pids = tmp_path / "pids"
    command = PasswordSource(command=("sh", "-c", f"sleep 50 & echo $! $$ > {pids}; wait"))
    started = time.monotonic()
    with pytest.raises(PasswordError, match="within 1 s"):
        resolve_passwords([endpoint(command)])
    assert time.monotonic() - started < 10
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids.read_text().split()))


@pytest.mark.parametrize(
    ("source", "part"),
    [
        (PasswordSource(env="ASCENDCTL_NOT_SET"), "ASCENDCTL_NOT_SET, which is not set"),
        (PasswordSource(command=("/nonexistent/tool",)), "cannot be run"),
        (PasswordSource(command=("sh", "-c", "echo sesame; echo why >&2; exit 7")), "exited 7: why"),
        (PasswordSource(command=("true",)), "printed nothing"),
    ],
)
def test_a_password_that_cannot_be_had(source: PasswordSource, part: str) -> None:
    with pytest.raises(PasswordError) as caught:
        resolve_passwords([endpoint(source)])
    assert part in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_a_prompt_needs_a_terminal_and_reads_no_standard_input(tmp_path: Path) -> None:
    program = (
        "from ascendctl.inventory import *\n"
        "from ascendctl.transport.passwords import *\n"
        "e = Endpoint('node01', '127.0.0.1', password=PasswordSource(prompt=True))\n"
        "try: resolve_passwords([e])\n"
        "except PasswordError as error: print(error)\n"
    )
    done = subprocess.run(
        ["python3", "-c", program],
        input="sesame\n",
        check=False,
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert "no terminal" in done.stdout, done.stderr


# --- the agent ------------------------------------------------------------------------------------


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    address = str(tmp_path / "agent.sock")
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    pause = threading.Event()
    while not Path(address).exists() and process.poll() is None:
        pause.wait(0.02)
    monkeypatch.setenv("SSH_AUTH_SOCK", address)
    yield address
    process.terminate()
    process.wait()


@pytest.mark.openssh
def test_the_agent_signs_for_many_hosts_at_a_time(farm: OpenSSHFarm, agent: str) -> None:
    subprocess.run(["ssh-add", "-q", str(farm.client_key)], check=True)
    jobs = [
        Job(f"host{number}", farm.endpoint("node01", identity_files=()), script("echo END"))
        for number in range(12)
    ]
    with SshTransport() as transport:
        outcomes = fan_out(jobs, lambda job: transport, lambda job: Collected(), deadlines=SHORT)
    assert [outcome.failure for outcome in outcomes] == [None] * 12


@pytest.mark.openssh
def test_a_key_with_a_passphrase_is_used_through_the_agent(
    farm: OpenSSHFarm, agent: str, tmp_path: Path
) -> None:
    locked = tmp_path / "locked"
    locked.write_bytes(farm.client_key.read_bytes())
    locked.chmod(0o600)
    subprocess.run(["ssh-add", "-q", str(locked)], check=True)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "sesame", "-f", str(locked)], check=True)
    outcome, _ = ask(farm.endpoint("node01", identity_files=(locked,)))
    assert outcome.failure is None
