"""SshTransport against real OpenSSH servers: every way of going well and every way of failing."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from ascendctl.facts import ReachStatus
from ascendctl.inventory import Endpoint, HostKeyPolicy
from ascendctl.transport.contract import Deadlines, Failure, Job, Outcome
from ascendctl.transport.fanout import fan_out
from ascendctl.transport.openssh_config import ClientConfig
from ascendctl.transport.ssh import SshTransport
from tests.openssh import OpenSSHFarm
from tests.transport.conftest import END, SHORT, Collected, ask, eventually, script

pytestmark = [pytest.mark.openssh, pytest.mark.usefixtures("no_threads_left")]


def failed(outcome: Outcome, kind: ReachStatus, *parts: str) -> Failure:
    """The outcome's failure, which is of ``kind`` and says every part."""
    assert outcome.failure is not None, "it went well"
    assert outcome.failure.kind == kind.value, outcome.failure
    assert not outcome.failure.internal
    for part in parts:
        assert part in outcome.failure.detail, (part, outcome.failure.detail)
    return outcome.failure


# --- going well -----------------------------------------------------------------------------------


def test_one_connection_and_one_exec_per_host(farm: OpenSSHFarm) -> None:
    farm.forget()
    for name in farm.names:
        before = time.time()
        outcome, data = ask(farm.endpoint(name), body=script("echo FRAME $PATH; echo END"))
        assert outcome.failure is None
        assert outcome.host == name
        assert outcome.sent_at is not None and before <= outcome.sent_at <= time.time()
        assert f"/tools/{name}:/usr/bin:/bin" in data.decode()
    counted = {name: (farm.connections(name), farm.execs(name)) for name in farm.names}
    assert counted == dict.fromkeys(farm.names, (1, 1))


def test_a_host_ends_at_its_last_frame_and_not_at_end_of_file(farm: OpenSSHFarm) -> None:
    started = time.monotonic()
    outcome, data = ask(farm.endpoint("node01"), body=script("echo END; sleep 20"))
    assert (outcome.failure, data) == (None, END)
    assert time.monotonic() - started < 15


def test_a_script_and_an_answer_larger_than_every_window(farm: OpenSSHFarm) -> None:
    # The shell answers while it still reads; 8 MiB fill the 2 MiB windows of both ways and every pipe
    # between, so that sending all before reading would wait for ever.
    line = f"echo FRAME {'x' * 1000}\n"
    body = (line * 8000 + "echo END\n").encode()
    outcome, data = ask(farm.endpoint("node01"), body=body)
    assert outcome.failure is None
    assert len(data) == (len(line) - len("echo ")) * 8000 + len(END)
    assert outcome.sent_at is not None


def test_floods_of_standard_error_do_not_stall_the_answers(farm: OpenSSHFarm) -> None:
    body = script("head -c 6000000 /dev/zero >&2; echo FRAME; echo END")
    outcome, data = ask(farm.endpoint("node01"), body=body)
    assert (outcome.failure, data) == (None, b"FRAME\nEND\n")


# --- logging in -----------------------------------------------------------------------------------


@pytest.fixture
def other_key(tmp_path: Path) -> Path:
    path = tmp_path / "other_key"
    paramiko.RSAKey.generate(2048).write_private_key_file(str(path))
    return path


def test_wrong_key(farm: OpenSSHFarm, other_key: Path) -> None:
    outcome, _ = ask(farm.endpoint("node01", identity_files=(other_key,)))
    failed(outcome, ReachStatus.AUTHENTICATION, f"publickey {other_key}", "allows publickey", farm.user)
    assert outcome.sent_at is None


def test_a_missing_and_an_encrypted_key_are_named(
    farm: OpenSSHFarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    locked = tmp_path / "locked"
    paramiko.RSAKey.generate(2048).write_private_key_file(str(locked), password="secret")
    outcome, _ = ask(farm.endpoint("node01", identity_files=(tmp_path / "absent", locked)))
    failed(
        outcome,
        ReachStatus.AUTHENTICATION,
        f"{tmp_path / 'absent'} does not exist",
        f"{locked} has a passphrase",
        "ssh-add",
    )


def test_the_second_key_is_tried_on_the_same_connection(farm: OpenSSHFarm, other_key: Path) -> None:
    farm.forget()
    outcome, _ = ask(farm.endpoint("node01", identity_files=(other_key, farm.client_key)))
    assert outcome.failure is None
    assert farm.connections("node01") == 1


# --- host keys ------------------------------------------------------------------------------------


def test_changed_host_key_names_the_line_and_both_fingerprints(farm: OpenSSHFarm, tmp_path: Path) -> None:
    host = farm.host("node01")
    wrong = (farm.folder / "client_key.pub").read_text().split()
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"# a comment\n[{host.address}]:{host.port} {wrong[0]} {wrong[1]}\n")
    for policy in HostKeyPolicy:
        outcome, _ = ask(farm.endpoint("node01", known_hosts=known_hosts, host_key_policy=policy))
        detail = failed(outcome, ReachStatus.HOST_KEY_MISMATCH, f"{known_hosts} line 2").detail
        assert detail.count("SHA256:") == 2
    assert known_hosts.read_text().count("\n") == 2


def test_unknown_host_key_is_refused_and_names_where_it_looked(farm: OpenSSHFarm, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    farm.forget()
    outcome, _ = ask(farm.endpoint("node01", known_hosts=known_hosts))
    failed(outcome, ReachStatus.HOST_KEY_UNKNOWN, "SHA256:", str(known_hosts))
    assert not known_hosts.exists()
    assert farm.logins("node01") == 0


def test_accept_new_stores_the_key_once_for_many_at_a_time(farm: OpenSSHFarm, tmp_path: Path) -> None:
    known_hosts = tmp_path / "ssh" / "known_hosts"
    endpoint = farm.endpoint("node01", known_hosts=known_hosts, host_key_policy=HostKeyPolicy.ACCEPT_NEW)
    jobs = [Job(f"host{number}", endpoint, script("echo END")) for number in range(8)]
    with SshTransport() as transport:
        outcomes = fan_out(jobs, lambda job: transport, lambda job: Collected(), deadlines=SHORT)
    assert [outcome.failure for outcome in outcomes] == [None] * 8
    assert known_hosts.read_text().count("\n") == 1
    outcome, _ = ask(replace(endpoint, host_key_policy=HostKeyPolicy.STRICT))
    assert outcome.failure is None


@pytest.mark.parametrize("known_type", ["ed25519", "rsa", "ecdsa"])
def test_the_known_key_type_is_negotiated(known_type: str, tmp_path: Path) -> None:
    with OpenSSHFarm([("node01", None)], host_key_types=("ed25519", "rsa", "ecdsa")) as farm:
        lines = farm.known_hosts.read_text().splitlines()
        kept = [line for line in lines if known_type in line.split()[1]]
        known_hosts = tmp_path / "known_hosts"
        known_hosts.write_text("\n".join(kept) + "\n")
        outcome, _ = ask(farm.endpoint("node01", known_hosts=known_hosts))
        assert len(kept) == 1
        assert outcome.failure is None


# --- not reached ----------------------------------------------------------------------------------

QUICK = Deadlines(connect_s=1.0, host_s=30.0)


def stranger(port: int, address: str = "127.0.0.1") -> Endpoint:
    return Endpoint("stranger", address, port=port, user="root", use_ssh_config=False)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield server


def test_refused(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    outcome, _ = ask(stranger(port))
    failed(outcome, ReachStatus.REFUSED, f"127.0.0.1 port {port}")


def test_tcp_connect_times_out(listener: socket.socket) -> None:
    listener.listen(0)
    port = listener.getsockname()[1]
    # A full backlog drops further connections without an answer, as a firewall does.
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))
    try:
        outcome, _ = ask(stranger(port), deadlines=QUICK)
    finally:
        for filler in fillers:
            filler.close()
    failed(outcome, ReachStatus.TIMEOUT, "TCP connect", "1 s")
    assert outcome.duration_s < 10


@pytest.mark.parametrize(("connect_s", "limit"), [(0.5, "1 s"), (1.5, "3 s")])
def test_a_server_that_says_nothing_times_out_at_the_banner(
    listener: socket.socket, connect_s: float, limit: str
) -> None:
    listener.listen(5)
    deadlines = replace(QUICK, connect_s=connect_s)
    outcome, _ = ask(stranger(listener.getsockname()[1]), deadlines=deadlines)
    failed(outcome, ReachStatus.TIMEOUT, "SSH banner", f"after {limit}:")


def test_a_server_that_stops_after_its_banner_times_out_at_the_key_exchange(
    listener: socket.socket,
) -> None:
    with answering(listener, b"SSH-2.0-Silent\r\n", hold=True):
        outcome, _ = ask(stranger(listener.getsockname()[1]), deadlines=QUICK)
    failed(outcome, ReachStatus.TIMEOUT, "key exchange", "2 s")


@pytest.mark.parametrize(
    ("said", "kind", "part"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ReachStatus.PROTOCOL, "HTTP/1.1 400"),
        (b"\x1b[31mgo away\r\n", ReachStatus.PROTOCOL, "go away"),
        (b"SSH-1.5-old\r\n", ReachStatus.PROTOCOL, "no algorithm"),
        (b"SSH-2.0-broken\r\n\x00\x00\x00\x0c\x0a\xff\xff\xff", ReachStatus.PROTOCOL, "key exchange"),
        (b"Not allowed at this time\r\n", ReachStatus.REFUSED, "PerSourcePenalties"),
    ],
)
def test_what_answers_is_no_ssh_server(
    listener: socket.socket, said: bytes, kind: ReachStatus, part: str
) -> None:
    with answering(listener, said):
        outcome, _ = ask(stranger(listener.getsockname()[1]), deadlines=QUICK)
    failure = failed(outcome, kind, part)
    assert "\x1b" not in failure.detail


class answering:  # noqa: N801 - reads as a context manager
    """Send ``said`` to every connection, then hang up (or hold it)."""

    def __init__(self, listener: socket.socket, said: bytes, *, hold: bool = False) -> None:
        self._listener, self._said, self._hold = listener, said, hold
        self._held: list[socket.socket] = []
        self.connections = 0

    def __enter__(self) -> answering:
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        for connection in self._held:
            connection.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection.sendall(self._said)
            if self._hold:
                self._held.append(connection)
                continue
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(5)
            try:
                while connection.recv(4096):
                    pass
            except OSError:
                pass
            connection.close()


def test_name_that_does_not_exist() -> None:
    outcome, _ = ask(stranger(22, "no-such-host.invalid"))
    failed(outcome, ReachStatus.NAME_RESOLUTION, "no-such-host.invalid")


@pytest.mark.parametrize("code", [errno.EHOSTUNREACH, errno.ENETUNREACH])
def test_no_route(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Loopback always has a route, so the kernel's answer is stood in for.
    def no_route(self: socket.socket, address: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(socket.socket, "connect", no_route)
    outcome, _ = ask(stranger(22))
    failed(outcome, ReachStatus.UNREACHABLE, "127.0.0.1 port 22", os.strerror(code))


@pytest.mark.parametrize(
    "address",
    [
        "-oProxyCommand=touch {marker}",
        "$(touch {marker})",
        "a;touch {marker}",
        "`touch {marker}`",
        "x\ntouch {marker}",
        "a b",
        "",
        "\x1b[2J",
    ],
)
def test_hostile_addresses_reach_no_shell(address: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    endpoint = Endpoint("evil", address.replace("{marker}", str(marker)), port=22, user="root")
    outcome, _ = ask(endpoint)
    failure = failed(outcome, ReachStatus.NAME_RESOLUTION)
    assert "\n" not in failure.detail and "\x1b" not in failure.detail
    assert not marker.exists()


def test_a_hostile_user_name_is_only_a_user_name(farm: OpenSSHFarm, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    outcome, _ = ask(farm.endpoint("node01", user=f"$(touch {marker}); `touch {marker}`"))
    failed(outcome, ReachStatus.AUTHENTICATION)
    assert not marker.exists()


# --- ending half-way ------------------------------------------------------------------------------


def in_background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_killed_connection_keeps_what_came(farm: OpenSSHFarm) -> None:
    sink = Collected(until=b"FRAME half")

    def kill() -> None:
        assert sink.seen.wait(20)
        farm.kill_sessions("node01")

    killer = in_background(kill)
    outcome, data = ask(
        farm.endpoint("node01"), body=script("echo FRAME half; sleep 15; echo END"), sink=sink
    )
    killer.join()
    failed(outcome, ReachStatus.LOST, "ended before the last answer")
    assert data == b"FRAME half\n"
    assert outcome.sent_at is not None


@pytest.mark.parametrize(
    ("body", "kind", "parts"),
    [
        ("echo FRAME; echo because >&2; exit 3", ReachStatus.LOST, ("exited 3", "because")),
        ("echo FRAME; kill -9 $$", ReachStatus.LOST, ("killed by a signal",)),
        (
            "echo This account is closed; printf 'why\\033[1m not' >&2; exit 1",
            ReachStatus.PROTOCOL,
            ("exited 1", "why[1m not"),
        ),
        ("exit 0", ReachStatus.PROTOCOL, ("exited 0",)),
    ],
)
def test_an_answer_that_ends_early(
    farm: OpenSSHFarm, body: str, kind: ReachStatus, parts: tuple[str, ...]
) -> None:
    outcome, _ = ask(farm.endpoint("node01"), body=script(body))
    failed(outcome, kind, *parts)


def test_the_host_deadline_ends_a_script_that_hangs(farm: OpenSSHFarm) -> None:
    deadlines = replace(SHORT, host_s=2.0)
    outcome, data = ask(
        farm.endpoint("node01"), body=script("echo FRAME; sleep 15; echo END"), deadlines=deadlines
    )
    failed(outcome, ReachStatus.TIMEOUT, "2 s", "answers")
    assert data == b"FRAME\n"
    assert outcome.duration_s < 10


def stop_during(endpoint: Endpoint, body: bytes, started: Callable[[Collected], bool]) -> Outcome:
    stop, sink = threading.Event(), Collected(until=b"FRAME")
    stopped_at: list[float] = []

    def press() -> None:
        started(sink)
        stopped_at.append(time.monotonic())
        stop.set()

    presser = in_background(press)
    outcome, _ = ask(endpoint, body=body, sink=sink, stop=stop)
    took = time.monotonic() - stopped_at[0]
    presser.join()
    assert took < 5, "it is to end within a second; five are allowed on a busy machine"
    return outcome


def test_stop_while_the_script_runs(farm: OpenSSHFarm) -> None:
    body = script("echo FRAME; sleep 15; echo END")
    outcome = stop_during(farm.endpoint("node01"), body, lambda sink: sink.seen.wait(20))
    failed(outcome, ReachStatus.INTERRUPTED, "answers")


def test_stop_while_the_banner_is_awaited(listener: socket.socket) -> None:
    listener.listen(5)

    def started(sink: Collected) -> bool:
        connection, _ = listener.accept()
        held.append(connection)
        # Its own banner is what it sends first: it then waits for ours.
        return connection.recv(8) == b"SSH-2.0-"

    held: list[socket.socket] = []
    outcome = stop_during(stranger(listener.getsockname()[1]), script("echo END"), started)
    held[0].close()
    failed(outcome, ReachStatus.INTERRUPTED, "SSH banner")


def test_no_sockets_are_left_open(farm: OpenSSHFarm, other_key: Path, tmp_path: Path) -> None:
    def sockets() -> int:
        links = (str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink())
        return sum(link.startswith("socket:") for link in links)

    before = sockets()
    for _ in range(2):
        ask(farm.endpoint("node01"))
        ask(farm.endpoint("node01", identity_files=(other_key,)))
        ask(farm.endpoint("node01", known_hosts=tmp_path / "none"))
        ask(farm.endpoint("node01"), body=script("exit 1"))
    assert eventually(lambda: sockets() <= before)


# --- jump hosts -----------------------------------------------------------------------------------


def test_hosts_behind_a_jump_host_share_its_one_connection(farm: OpenSSHFarm) -> None:
    with OpenSSHFarm([("bastion", None)], network="127.78") as outer:
        bastion = outer.endpoint("bastion")
        farm.forget()
        jobs = [Job(name, farm.endpoint(name, jump=bastion), script("echo END")) for name in farm.names]
        with SshTransport() as transport:
            outcomes = fan_out(jobs, lambda job: transport, lambda job: Collected(), deadlines=SHORT)
        assert [outcome.failure for outcome in outcomes] == [None] * len(jobs)
        assert outer.connections("bastion") == 1
        assert [farm.connections(name) for name in farm.names] == [1] * len(jobs)


def test_a_chain_of_jump_hosts(farm: OpenSSHFarm) -> None:
    with OpenSSHFarm([("outer", None), ("inner", None)], network="127.78") as jumps:
        inner = jumps.endpoint("inner", jump=jumps.endpoint("outer"))
        outcome, data = ask(farm.endpoint("node01", jump=inner))
        assert outcome.failure is None
        assert data.endswith(END)
        assert (jumps.connections("outer"), jumps.connections("inner")) == (1, 1)


def test_a_jump_host_that_is_down_is_tried_once_and_named_by_all(listener: socket.socket) -> None:
    with answering(listener, b"not ssh\r\n") as jump_host:
        jump = replace(stranger(listener.getsockname()[1]), name="bastion")
        outer = replace(stranger(1), name="inner", jump=jump)
        jobs = [
            Job(f"host{number}", replace(stranger(22), jump=(jump, outer)[number % 2]), b"")
            for number in range(6)
        ]
        with SshTransport() as transport:
            outcomes = fan_out(jobs, lambda job: transport, lambda job: Collected(), deadlines=SHORT)
        for outcome in outcomes:
            assert failed(outcome, ReachStatus.JUMP_HOST, "bastion", "no SSH server").via == "bastion"
        assert jump_host.connections == 1


def test_a_refusing_target_behind_a_good_jump_host_is_its_own_failure(
    farm: OpenSSHFarm, listener: socket.socket
) -> None:
    target = replace(stranger(listener.getsockname()[1]), jump=farm.endpoint("node01"))
    outcome, _ = ask(target)
    assert failed(outcome, ReachStatus.REFUSED, "from jump host node01").via is None


def test_a_jump_host_that_forbids_forwarding_is_at_fault(farm: OpenSSHFarm) -> None:
    with OpenSSHFarm([("bastion", None)], network="127.78", extra=["AllowTcpForwarding no"]) as outer:
        outcome, _ = ask(farm.endpoint("node01", jump=outer.endpoint("bastion")))
    assert failed(outcome, ReachStatus.JUMP_HOST, "does not forward").via == "bastion"


def test_a_jump_connection_that_is_lost_is_named_and_what_came_is_kept(farm: OpenSSHFarm) -> None:
    with OpenSSHFarm([("bastion", None)], network="127.78") as outer, SshTransport() as transport:
        sink = Collected(until=b"FRAME half")
        endpoint = farm.endpoint("node01", jump=outer.endpoint("bastion"))

        def kill() -> None:
            assert sink.seen.wait(20)
            outer.kill_sessions("bastion")

        killer = in_background(kill)
        body = script("echo FRAME half; sleep 15; echo END")
        outcome, data = ask(endpoint, transport=transport, body=body, sink=sink)
        killer.join()
        assert failed(outcome, ReachStatus.LOST).via == "bastion"
        assert data == b"FRAME half\n"
        later, _ = ask(endpoint, transport=transport)
        assert failed(later, ReachStatus.JUMP_HOST, "lost").via == "bastion"


def test_jump_hosts_that_lead_back_to_themselves(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "Host node.invalid two.invalid\n  ProxyJump one.invalid\nHost one.invalid\n  ProxyJump two.invalid\n"
    )
    with SshTransport(config=ClientConfig(user_config=config)) as transport:
        outcome, _ = ask(Endpoint("node", "node.invalid", user="root"), transport=transport)
    failed(outcome, ReachStatus.JUMP_HOST, "through itself")
