"""Progress: what it says of the hosts, how often, and that it can hurt neither transport nor terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass

import pytest
from rich.cells import cell_len

from ascendctl.report.progress import Progress
from ascendctl.transport.contract import Failure, Listener, Outcome

HOSTS = [f"node{number:02d}" for number in range(1, 11)]


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def done(host: str, failed: bool = False) -> Outcome:
    return Outcome(host, Failure("timeout", "no answer") if failed else None, None, 1.0)


def fresh(clock: Clock, hosts: list[str] = HOSTS, quiet: bool = False) -> tuple[Progress, io.StringIO]:
    stream = io.StringIO()
    return Progress(hosts, quiet=quiet, stream=stream, clock=clock), stream


def test_counts_and_the_slowest_host_with_its_last_answer() -> None:
    clock = Clock()
    progress, _ = fresh(clock)
    listener: Listener = progress
    assert progress.status() == "0/10 hosts done, 0 running"
    listener.started("node02")
    assert progress.status() == "0/10 hosts done, 1 running; slowest: node02 0 s, no answer yet"
    clock.now += 3
    listener.started("node01")
    progress.frame("node02", "mapping")
    progress.frame("node02", "hccn_tool -i 3 -link -g")
    listener.started("node02")  # once more: it has been running since the first time
    clock.now += 38.6
    assert progress.status() == (
        "0/10 hosts done, 2 running; slowest: node02 42 s, last answer: hccn_tool -i 3 -link -g"
    )
    listener.finished(done("node02"))
    assert "1/10 hosts done, 1 running; slowest: node01 39 s" in progress.status()
    listener.finished(done("node01", failed=True))
    assert progress.status() == "2/10 hosts done, 0 running, 1 failed"


def test_a_host_that_was_never_started_counts_as_done() -> None:
    progress, _ = fresh(Clock())
    progress.finished(done("node01", failed=True))
    progress.finished(done("node01", failed=True))
    assert progress.status() == "1/10 hosts done, 0 running, 1 failed"


def test_plain_lines_come_every_ten_seconds_or_ten_percent() -> None:
    clock = Clock()
    progress, stream = fresh(clock, [f"n{number}" for number in range(100)])

    def lines() -> int:
        return len(stream.getvalue().splitlines())

    progress.draw()
    assert lines() == 0
    for number in range(9):
        progress.finished(done(f"n{number}"))
        progress.draw()
    assert lines() == 0
    progress.finished(done("n9"))
    progress.draw()
    progress.draw()
    assert lines() == 1
    clock.now += 9.9
    progress.draw()
    assert lines() == 1
    clock.now += 0.1
    progress.draw()
    progress.draw()
    assert lines() == 2
    assert stream.getvalue().splitlines()[1] == "10/100 hosts done, 0 running"
    assert "\x1b" not in stream.getvalue()


def test_the_last_line_sums_up() -> None:
    clock = Clock()
    progress, stream = fresh(clock)
    with progress:
        progress.finished(done("node01"))
        progress.finished(done("node02", failed=True))
        clock.now += 7.25
    last = stream.getvalue().splitlines()[-1]
    assert last == "asked 2 of 10 hosts in 7.2 s, 1 failed, 8 not done"


def test_quiet_says_nothing() -> None:
    clock = Clock()
    progress, stream = fresh(clock, quiet=True)
    with progress:
        progress.started("node01")
        clock.now += 60
        progress.draw()
        progress.finished(done("node01"))
    assert stream.getvalue() == ""


def test_a_broken_stream_hurts_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    clock = Clock()
    progress = Progress(HOSTS, stream=Broken(), clock=clock)
    with progress:
        clock.now += 60
        progress.started("node01")
        progress.draw()
        progress.finished(done("node01"))
    print("standard output is still there")
    assert capfd.readouterr().out == "standard output is still there\n"


def test_the_drawing_thread_never_holds_an_event_up() -> None:
    writing, released = threading.Event(), threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            writing.set()
            released.wait(60)
            return super().write(text)

    clock = Clock()
    progress = Progress(HOSTS, stream=Stuck(), clock=clock)
    clock.now += 60
    drawer = threading.Thread(target=progress.draw, daemon=True)
    drawer.start()
    assert writing.wait(30)
    finished = threading.Event()

    def events() -> None:
        progress.started("node01")
        progress.frame("node01", "link")
        progress.finished(done("node01"))
        finished.set()

    threading.Thread(target=events, daemon=True).start()
    assert finished.wait(30)
    released.set()
    drawer.join(30)


def test_events_from_many_threads_are_all_counted() -> None:
    hosts = [f"n{number}" for number in range(400)]
    progress, _ = fresh(Clock(), hosts)

    def ask(mine: list[str]) -> None:
        for host in mine:
            progress.started(host)
            progress.frame(host, "link")
            progress.status()
            progress.finished(done(host, failed=host.endswith("7")))

    threads = [threading.Thread(target=ask, args=(hosts[start::8],)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert progress.status() == "400/400 hosts done, 0 running, 40 failed"


@pytest.mark.parametrize("text", ["\x1b[2J\x07", "a\nb", "[red]x[/]", "\udcb9", "开"])
def test_text_of_a_host_cannot_act(text: str) -> None:
    clock = Clock()
    progress, stream = fresh(clock)
    progress.frame(text, text)
    clock.now += 60
    progress.draw()
    assert len(stream.getvalue().splitlines()) == 1
    assert all(char.isprintable() or char == "\n" for char in stream.getvalue())
    assert "[red]x" in stream.getvalue() or "red" not in text


ON_A_TERMINAL = textwrap.dedent(
    """
    import sys, time
    from ascendctl.report.progress import Progress
    with Progress(["节点一", "node02"]) as progress:
        progress.started("节点一")
        progress.frame("节点一", "hccn_tool -i 3 -link -g" * 20)
        time.sleep(120)
    """
)


def test_ctrl_c_on_a_real_terminal_leaves_it_as_it_was() -> None:
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "60", "LINES": "20", "PYTHONUTF8": "1"}
    child = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL], stdin=slave, stderr=slave, env=environment
    )
    os.close(slave)
    try:
        before = read_until(master, "slowest: ")
        child.send_signal(signal.SIGINT)
        text = before + read_until(master, None)
        assert child.wait(60) != 0
    finally:
        child.kill()
        child.wait()
        os.close(master)
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is shown again"
    assert text.index("asked 0 of 2 hosts") > text.rindex("slowest: "), (
        "the live line is gone before the last"
    )
    assert "\x1b[2K" in text[text.rindex("slowest: ") : text.index("asked 0")], "the live line is wiped"
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", text)
    drawn = [line for line in plain.splitlines() if "slowest: " in line]
    assert drawn
    assert all(cell_len(line) < 60 for line in drawn), "one line, never wrapped"


def read_until(terminal: int, wanted: str | None) -> str:
    """What the terminal got until ``wanted`` came; None = until its other end closed."""
    data = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (wanted is None or wanted.encode() not in data):
        if not select.select([terminal], [], [], 1.0)[0]:
            continue
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            break
        if not piece:
            break
        data += piece
    return data.decode(errors="replace")
