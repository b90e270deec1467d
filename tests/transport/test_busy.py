"""Servers and jump hosts that bear only so many handshakes: nobody is lost to it while time remains."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ascendctl.facts import ReachStatus
from ascendctl.inventory import Endpoint, PasswordSource
from ascendctl.transport.contract import Deadlines, Job, Outcome
from ascendctl.transport.fanout import fan_out
from ascendctl.transport.passwords import Passwords
from ascendctl.transport.ssh import SshTransport
from tests.openssh import OpenSSHFarm
from tests.transport.conftest import SHORT, Collected, ask, script
from tests.transport.paramiko_host import ParamikoHost
from tests.transport.test_ssh import QUICK, answering, failed, stranger

pytestmark = [pytest.mark.openssh, pytest.mark.usefixtures("no_threads_left")]

PATIENT = replace(SHORT, connect_s=30.0, host_s=200.0)
STRICT = "3:100:3"  # the fourth that has not logged in is dropped, always


def ask_all(endpoints: list[Endpoint], deadlines: Deadlines = PATIENT) -> list[Outcome]:
    jobs = [Job(f"host{number}", endpoint, script("echo END")) for number, endpoint in enumerate(endpoints)]
    with SshTransport() as transport:
        return fan_out(jobs, lambda job: transport, lambda job: Collected(), deadlines=deadlines)


def test_many_hosts_behind_one_busy_server_are_all_asked() -> None:
    with OpenSSHFarm([("node01", None)], max_startups=STRICT, network="127.79") as farm:
        outcomes = ask_all([farm.endpoint("node01")] * 64)
        assert [outcome.failure for outcome in outcomes] == [None] * 64
        assert farm.execs("node01") == 64
        assert "drop connection" in farm.log("node01"), "the server was never too busy: nothing was shown"


def test_many_hosts_of_one_busy_server_are_all_asked_through_a_jump_host() -> None:
    """Sixteen addresses of one sshd: what they share cannot be told from the addresses."""
    names = [f"node{number:02d}" for number in range(16)]
    with (
        OpenSSHFarm([("bastion", None)], max_startups=STRICT, network="127.78") as outer,
        OpenSSHFarm([(name, None) for name in names], max_startups=STRICT, network="127.79") as farm,
    ):
        jump = outer.endpoint("bastion")
        outcomes = ask_all([farm.endpoint(name, jump=jump) for name in names for _ in range(4)])
        assert [outcome.failure for outcome in outcomes] == [None] * 64
        assert [farm.execs(name) for name in names] == [4] * 16
        assert outer.connections("bastion") == 1
        assert "drop connection" in farm.log("node00"), "the server was never too busy: nothing was shown"


def test_hosts_that_refuse_or_hang_behind_a_jump_host_delay_nobody(farm: OpenSSHFarm) -> None:
    """More that hang than may be in the jump host's lane, and in front of all others."""
    with OpenSSHFarm([("bastion", None)], network="127.78") as outer, contextlib.ExitStack() as stack:
        jump = outer.endpoint("bastion")
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64)).getsockname()[1]
        refusing = stack.enter_context(socket.socket())
        refusing.bind(("127.0.0.1", 0))
        hang = [replace(stranger(silent), jump=jump)] * 16
        refuse = [replace(stranger(refusing.getsockname()[1]), jump=jump)] * 16
        good = [farm.endpoint("node01", jump=jump)] * 8
        finished: list[str] = []

        class Order:
            def started(self, host: str) -> None: ...

            def finished(self, outcome: Outcome) -> None:
                finished.append(outcome.host)

        jobs = [
            Job(f"host{n}", endpoint, script("echo END")) for n, endpoint in enumerate(hang + refuse + good)
        ]
        with SshTransport() as transport:
            outcomes = fan_out(
                jobs,
                lambda job: transport,
                lambda job: Collected(),
                deadlines=replace(PATIENT, connect_s=6.0),
                listener=Order(),
            )
    assert [outcome.failure.kind if outcome.failure else "" for outcome in outcomes] == [
        *["timeout"] * 16,
        *["refused"] * 16,
        *[""] * 8,
    ]
    assert set(finished[24:]) == {f"host{number}" for number in range(16)}, (
        "somebody waited for those that hang"
    )


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield server


@pytest.mark.parametrize(
    ("said", "kind", "part"),
    [
        (b"", ReachStatus.PROTOCOL, "without a word (sshd's MaxStartups, or a filter)"),
        (b"SSH-2.0-busy\r\n", ReachStatus.PROTOCOL, "closed it after its banner"),
        (b"Exceeded MaxStartups\r\n", ReachStatus.REFUSED, "sshd's MaxStartups"),
        (b"Not allowed at this time\r\n", ReachStatus.REFUSED, "sshd's PerSourcePenalties"),
    ],
)
def test_a_server_that_stays_too_busy_is_given_up_at_its_deadline(
    listener: socket.socket, said: bytes, kind: ReachStatus, part: str
) -> None:
    with answering(listener, said) as server:
        outcome, _ = ask(stranger(listener.getsockname()[1]), deadlines=QUICK)
        assert server.connections > 2
        failed(outcome, kind, part, f"tried {server.connections} times")
    assert outcome.duration_s >= QUICK.connect_s + QUICK.handshake_s


def test_a_server_where_nothing_listens_is_tried_once(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []
    connect = socket.socket.connect

    def counted(self: socket.socket, address: object) -> None:
        tried.append(address)
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", counted)
    outcome, _ = ask(stranger(listener.getsockname()[1]))
    failed(outcome, ReachStatus.REFUSED, "nothing listens there")
    assert len(tried) == 1


class LateHost(ParamikoHost):
    """Turns everybody away for a while."""

    turned_away = 0

    def __enter__(self) -> LateHost:
        super().__enter__()
        return self

    def _serve(self) -> None:
        until = time.monotonic() + 3.0
        while time.monotonic() < until:
            try:
                self._listener.accept()[0].close()
            except OSError:
                return
            self.turned_away += 1
        super()._serve()


def test_a_server_that_was_too_busy_for_long_lets_us_in_at_last(tmp_path: Path) -> None:
    source = PasswordSource(env="ASCENDCTL_TEST_PASSWORD")
    with LateHost() as host, SshTransport(passwords=Passwords({(source, None): "right"})) as transport:
        known_hosts = tmp_path / "known_hosts"
        known_hosts.write_text(host.known_hosts_line())
        outcome, _ = ask(host.endpoint(known_hosts=known_hosts, password=source), transport=transport)
        assert outcome.failure is None
        assert host.turned_away >= 2
