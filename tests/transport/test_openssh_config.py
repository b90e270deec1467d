"""What ~/.ssh/config adds to an endpoint, through OpenSSH's client and without it."""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ascendctl.inventory import Endpoint, HostKeyPolicy
from ascendctl.transport import openssh_config
from ascendctl.transport.contract import Deadlines
from ascendctl.transport.openssh_config import ClientConfig, ConfigProblem, Server
from ascendctl.transport.ssh import SshTransport
from tests.openssh import OpenSSHFarm
from tests.transport.conftest import ask, eventually

CONFIG = """
Include {folder}/more
Host node01
    HostName 127.1.2.3
    Port 2201
    IdentityFile ~/keys/%r
    UserKnownHostsFile {folder}/kh1 {folder}/kh2
    HostKeyAlias alias01
Host behind
    ProxyJump someone@bastion:2222,second
Host piped
    ProxyCommand /usr/bin/relay --to '%h port' %p %%
Host shelled
    ProxyCommand relay %h 2>/dev/null
Host *
    User everybody
    IdentitiesOnly yes
"""


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "more").write_text("Host included\n    Port 2299\n")
    path = tmp_path / "config"
    path.write_text(CONFIG.replace("{folder}", str(tmp_path)))
    return path


def resolve(config_file: Path, address: str, *, ssh: str | None = None, **fields: object) -> Server:
    config = ClientConfig(user_config=config_file, system_config=config_file.with_name("none"), ssh=ssh)
    return config.resolve(Endpoint("name", address, **fields))  # type: ignore[arg-type]


@pytest.mark.openssh
@pytest.mark.parametrize("ssh", [None, ""], ids=["openssh", "paramiko"])
def test_values_of_the_file(config_file: Path, tmp_path: Path, ssh: str | None) -> None:
    server = resolve(config_file, "node01", ssh=ssh)
    assert (server.address, server.port, server.user) == ("127.1.2.3", 2201, "everybody")
    assert server.identity_files == (tmp_path / "home" / "keys" / "everybody",)
    assert server.identities_named and not server.use_agent
    assert server.known_hosts[:2] == (tmp_path / "kh1", tmp_path / "kh2")
    assert server.host_key_name == "alias01"


@pytest.mark.openssh
def test_values_of_the_inventory_win(config_file: Path, tmp_path: Path) -> None:
    server = resolve(
        config_file,
        "node01",
        port=22,
        user="me",
        identity_files=(tmp_path / "mine",),
        known_hosts=tmp_path / "kh",
    )
    assert (server.port, server.user) == (22, "me")
    assert server.identity_files == (tmp_path / "mine",)
    assert server.known_hosts == (tmp_path / "kh",)
    assert server.address == "127.1.2.3"


@pytest.mark.openssh
def test_the_file_is_not_used_unless_wanted(config_file: Path, tmp_path: Path) -> None:
    server = resolve(config_file, "node01", use_ssh_config=False)
    assert (server.address, server.port) == ("node01", 22)
    home = tmp_path / "home" / ".ssh"
    assert server.identity_files == (home / "id_ed25519", home / "id_ecdsa", home / "id_rsa")
    assert server.use_agent and not server.identities_named


@pytest.mark.openssh
def test_jump_hosts_of_the_file(config_file: Path) -> None:
    jump = resolve(config_file, "behind").jump
    assert jump is not None and jump.jump is not None
    assert (jump.address, jump.port) == ("second", None)
    assert (jump.jump.address, jump.jump.port, jump.jump.user) == ("bastion", 2222, "someone")
    own = Endpoint("own", "own")
    assert resolve(config_file, "behind", jump=own).jump == own


@pytest.mark.openssh
def test_a_proxy_command_is_split_before_it_is_filled_in(config_file: Path) -> None:
    assert resolve(config_file, "piped").proxy_command == ("/usr/bin/relay", "--to", "piped port", "22", "%")
    with pytest.raises(ConfigProblem, match="needs a shell"):
        resolve(config_file, "shelled")


@pytest.mark.openssh
def test_only_openssh_reads_include_and_its_absence_is_told(config_file: Path) -> None:
    assert resolve(config_file, "included").port == 2299
    config = ClientConfig(user_config=config_file, ssh="")
    assert config.resolve(Endpoint("name", "included")).port == 22
    config.resolve(Endpoint("name", "another"))
    assert len(config.warnings) == 1 and "Include" in config.warnings[0]


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("", False),
        ("Host *\n  SendEnv LANG LC_*\n  GSSAPIAuthentication yes\n", False),
        ("Host *\n  Port=2222\n", True),
        ("Include {folder}/sub/*.conf\n", True),
        ("Include {folder}/nothing/*.conf\n", False),
    ],
)
def test_openssh_is_asked_only_where_a_directive_matters(text: str, asked: bool, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.conf").write_text("Match host x\n  user y\n")
    path = tmp_path / "config"
    path.write_text(text.replace("{folder}", str(tmp_path)))
    calls = tmp_path / "calls"
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\necho "$*" >> {calls}\necho port 2222\n')
    ssh.chmod(0o755)
    config = ClientConfig(user_config=path, system_config=tmp_path / "none", ssh=str(ssh))
    for _ in range(2):
        server = config.resolve(Endpoint("name", "node01", user="$(id)"))
    assert server.port == (2222 if asked else 22)
    # Once per host; a user name that a shell would read is not handed on.
    assert (calls.read_text() if calls.exists() else "") == (f"-G -F {path} -- node01\n" if asked else "")


def test_the_user_name_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(getpass, "getuser", lambda: calls.append("asked") or "me")
    config = ClientConfig(user_config=tmp_path / "none", system_config=tmp_path / "none")
    assert {config.resolve(Endpoint(f"node{n}", "node")).user for n in range(3)} == {"me"}
    assert len(calls) == 1


# Who starts the shell of a `Match exec` ends both: the shell, and what it started.
SLOW = """#!/bin/sh
{way}sleep 50 &
echo $! $$ >> {pids}
wait
"""


@pytest.fixture(params=["", "setsid "], ids=["in its group", "out of it"])
def slow_match_exec(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A configuration with a `Match exec` that hangs; the numbers of its processes are in ``pids``."""
    pids = tmp_path / "pids"
    program = tmp_path / "slow"
    program.write_text(SLOW.replace("{pids}", str(pids)).replace("{way}", request.param))
    program.chmod(0o755)
    path = tmp_path / "config"
    path.write_text(f'Match exec "{program}"\n  User root\n')
    yield path
    left = [int(pid) for pid in pids.read_text().split()]
    if not request.param:
        assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.openssh
@pytest.mark.usefixtures("no_threads_left")
def test_a_slow_match_exec_ends_at_the_deadline(slow_match_exec: Path) -> None:
    with SshTransport(config=ClientConfig(user_config=slow_match_exec)) as transport:
        outcome, _ = ask(
            Endpoint("node01", "127.0.0.1"), transport=transport, deadlines=Deadlines(host_s=1.5)
        )
    assert outcome.failure is not None and outcome.failure.kind == "timeout"
    assert "ssh -G 127.0.0.1" in outcome.failure.detail and "Match exec" in outcome.failure.detail
    assert outcome.duration_s < 8


@pytest.mark.openssh
def test_a_slow_match_exec_has_a_limit_of_its_own(
    slow_match_exec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openssh_config, "ASK_LIMIT_S", 1.5)
    started = time.monotonic()
    with pytest.raises(ConfigProblem, match=r"within 1.5 s: look for a slow 'Match exec'"):
        resolve(slow_match_exec, "127.0.0.1")
    assert time.monotonic() - started < 8


@pytest.mark.openssh
def test_a_broken_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("Host *\n  Port nonsense\n")
    with pytest.raises(ConfigProblem, match="SSH configuration cannot be used") as caught:
        resolve(path, "node01")
    assert caught.value.kind == "not-attempted"


@pytest.mark.openssh
def test_known_hosts_names_are_hashed_where_the_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("HashKnownHosts yes\n")
    assert resolve(path, "node01").hash_new_names
    assert not resolve(path, "node01", use_ssh_config=False).hash_new_names


@pytest.mark.openssh
@pytest.mark.parametrize("policy", HostKeyPolicy)
def test_a_host_key_alias_is_looked_up_without_the_port(
    farm: OpenSSHFarm, tmp_path: Path, policy: HostKeyPolicy
) -> None:
    host = farm.host("node01")
    known_hosts = tmp_path / "known_hosts"
    config = tmp_path / "config"
    config.write_text(f"Host node01\n  HostName {host.address}\n  HostKeyAlias alias01\n")
    endpoint = farm.endpoint(
        "node01", address="node01", use_ssh_config=True, known_hosts=known_hosts, host_key_policy=policy
    )
    wrong, right = (
        " ".join((farm.folder / f"{name}.pub").read_text().split()[:2])
        for name in ("client_key", "host_ed25519")
    )
    for text, kind in ((f"alias01 {wrong}\n", "host-key-mismatch"), (f"alias01 {right}\n", None)):
        known_hosts.write_text(text)
        with SshTransport(config=ClientConfig(user_config=config)) as transport:
            outcome, _ = ask(endpoint, transport=transport)
        assert (outcome.failure.kind if outcome.failure else None) == kind, outcome
        if outcome.failure:
            assert f"alias01 (HostKeyAlias of {host.address} port {host.port})" in outcome.failure.detail
        assert known_hosts.read_text() == text
    known_hosts.unlink()
    with SshTransport(config=ClientConfig(user_config=config)) as transport:
        outcome, _ = ask(endpoint, transport=transport)
    if policy is HostKeyPolicy.ACCEPT_NEW:
        assert outcome.failure is None
        assert known_hosts.read_text() == f"alias01 {right}\n"
    else:
        assert outcome.failure is not None and outcome.failure.kind == "host-key-unknown"


@pytest.mark.openssh
@pytest.mark.usefixtures("no_threads_left")
def test_a_host_through_a_proxy_command(farm: OpenSSHFarm, tmp_path: Path) -> None:
    host = farm.host("node01")
    helper = tmp_path / "helper"
    relay = tmp_path / "relay.py"
    relay.write_text(
        "#!/usr/bin/env python3\n"
        "import os, socket, subprocess, sys, threading\n"
        f"helper = subprocess.Popen(['sleep', '50']); open({str(helper)!r}, 'w').write(str(helper.pid))\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def up():\n"
        "    while d := os.read(0, 65536): s.sendall(d)\n"
        "    os._exit(0)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while d := s.recv(65536): os.write(1, d)\n"
    )
    relay.chmod(0o755)
    config = tmp_path / "config"
    config.write_text(f"Host node01\n  HostName {host.address}\n  ProxyCommand {relay} %h %p\n")
    endpoint = farm.endpoint("node01", address="node01", use_ssh_config=True)
    with SshTransport(config=ClientConfig(user_config=config)) as transport:
        outcome, data = ask(endpoint, transport=transport)
    assert (outcome.failure, data) == (None, b"FRAME hello\nEND\n")
    assert eventually(lambda: not Path(f"/proc/{helper.read_text()}").exists())
