"""Fixtures of the transport's tests: a farm of real sshd processes, sinks, and a wait for threads to go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ascendctl.inventory import Endpoint
from ascendctl.transport.contract import Deadlines, Job, Outcome
from ascendctl.transport.ssh import SshTransport
from tests.openssh import OpenSSHFarm, why_not

END = b"END\n"
SHORT = Deadlines(connect_s=5.0, host_s=30.0)


class Collected:
    """A sink that is complete at ``END``; ``seen`` is set as soon as ``until`` has come."""

    def __init__(self, until: bytes = END) -> None:
        self.data = b""
        self.seen = threading.Event()
        self._until = until

    @property
    def framed(self) -> bool:
        return b"FRAME" in self.data

    def feed(self, data: bytes, received_at: float) -> bool:
        assert abs(received_at - time.time()) < 60
        self.data += data
        if self._until in self.data:
            self.seen.set()
        return self.data.endswith(END)


def script(body: str) -> bytes:
    return f"{{ {body}\nexit; }}\n".encode()


HELLO = script("echo FRAME hello; echo END")


def ask(
    endpoint: Endpoint,
    *,
    transport: SshTransport | None = None,
    body: bytes = HELLO,
    sink: Collected | None = None,
    deadlines: Deadlines = SHORT,
    stop: threading.Event | None = None,
    group: str = "",
) -> tuple[Outcome, bytes]:
    """One host, one script."""
    sink = sink or Collected()
    job = Job(endpoint.name, endpoint, body, group)
    if transport is not None:
        outcome = transport.run(job, sink, deadlines, stop or threading.Event())
    else:
        with SshTransport() as transport:
            outcome = transport.run(job, sink, deadlines, stop or threading.Event())
    return outcome, sink.data


def eventually(condition: Callable[[], bool], limit_s: float = 20.0) -> bool:
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


@pytest.fixture(scope="session")
def farm() -> Iterator[OpenSSHFarm]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    hosts = [(f"node{number:02}", f"/tools/node{number:02}:/usr/bin:/bin") for number in range(1, 4)]
    with OpenSSHFarm(hosts) as farm:
        yield farm


@pytest.fixture
def no_threads_left() -> Iterator[None]:
    """Every thread that the test's code starts must end with it."""
    before = set(threading.enumerate())
    yield
    gone = eventually(lambda: not (set(threading.enumerate()) - before))
    assert gone, f"left behind: {set(threading.enumerate()) - before}"
