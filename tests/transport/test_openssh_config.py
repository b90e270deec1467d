"""What ~/.ssh/config adds to an endpoint, through OpenSSH's client and without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ascendctl.inventory import Endpoint
from ascendctl.transport.openssh_config import ClientConfig, ConfigProblem, Server
from ascendctl.transport.ssh import SshTransport
from tests.openssh import OpenSSHFarm
from tests.transport.conftest import ask

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
@pytest.mark.usefixtures("no_threads_left")
def test_a_host_through_a_proxy_command(farm: OpenSSHFarm, tmp_path: Path) -> None:
    host = farm.host("node01")
    relay = tmp_path / "relay.py"
    relay.write_text(
        "#!/usr/bin/env python3\n"
        "import os, socket, sys, threading\n"
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
