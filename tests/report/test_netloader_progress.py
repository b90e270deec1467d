"""Progress of a bring-up: one line per change, and that it can hurt neither the run nor the terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.cells import cell_len

from ascendctl.netloader.evidence import Came
from ascendctl.netloader.runs import End, Listener
from ascendctl.report import netloader_progress
from ascendctl.report.netloader_progress import MOST_SHOWN, BringUpProgress
from tests.report import netloader_runs as n
from tests.report.test_progress import read_until


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def fresh(quiet: bool = False) -> tuple[BringUpProgress, io.StringIO, Clock]:
    stream, clock = io.StringIO(), Clock()
    return BringUpProgress(quiet=quiet, stream=stream, clock=clock), stream, clock


def test_a_plain_line_for_every_change_and_no_more() -> None:
    progress, stream, clock = fresh()
    listener: Listener = progress
    one, other = n.instance(2), n.instance(3)
    with progress:
        listener.say("preflight: 36 of 36 cells pass")
        listener.began([one, other])
        clock.now += 4
        for _ in range(3):
            listener.moved(one, "building the model")
        clock.now += 8
        listener.moved(one, "receiving weights")
        listener.moved(one, "receiving weights")
        clock.now += 8.4
        listener.ended(n.ready(one))
        listener.ended(n.ended(End.FAILED, other, reason="memory ran out"))
    assert stream.getvalue().splitlines() == [
        "preflight: 36 of 36 cells pass",
        "[   0 s] node02.1: starting",
        "[   0 s] node03.1: starting",
        "[   4 s] node02.1: building the model",
        "[  12 s] node02.1: receiving weights",
        "[  20 s] node02.1: ready in 20 s; ranks 0-7: p2p from 10.0.0.1:2333-2340, verified",
        "[  20 s] node03.1: failed; memory ran out",
    ]
    assert progress.status() == []


@pytest.mark.parametrize("end", End)
def test_every_outcome_is_said(end: End) -> None:
    progress, stream, _ = fresh()
    with progress:
        progress.ended(n.ended(end))
    (line,) = stream.getvalue().splitlines()
    assert end.value.split()[0] in line
    assert (f"the reason of {end.name}" in line) is (end is not End.READY)


def test_ready_from_disk_is_not_said_to_be_good() -> None:
    progress, stream, _ = fresh()
    with progress:
        progress.ended(n.ready(found=n.ranks(range(8), Came.DISK)))
        progress.ended(n.ready(evidence=None))
    disk, nothing = stream.getvalue().splitlines()
    assert disk.endswith("ranks 0-7: disk") and nothing.endswith("ranks 0-7: no evidence")


def test_at_most_twenty_are_shown_and_the_rest_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "50")
    monkeypatch.setenv("COLUMNS", "80")
    progress, _, clock = fresh()
    all_of_them = [n.instance(at) for at in range(100, 300)]
    progress.began(all_of_them)
    clock.now += 61
    for one in all_of_them[:100]:
        progress.moved(one, "receiving weights")
    progress.ended(n.ready(all_of_them[0]))
    first, *rows, rest = progress.status()
    assert first == "199 under way, 1 ended, 1 min 1 s"
    assert len(rows) == MOST_SHOWN
    assert rows[0] == "  node101.1    61 s  receiving weights"
    assert rest == "  … and 179 more: 100 starting, 79 receiving weights"


def test_a_low_terminal_shows_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "8")
    monkeypatch.setenv("COLUMNS", "80")
    progress, _, _ = fresh()
    progress.began([n.instance(at) for at in range(2, 30)])
    assert len(progress.status()) == 7


def test_who_never_began_is_shown_all_the_same() -> None:
    progress, stream, clock = fresh()
    with progress:
        progress.moved(n.instance(2), "waits for node01.1")
        clock.now += 3
        progress.began([n.instance(2)])
        progress.ended(n.ended(End.NOT_STARTED, n.instance(9)))
    assert [line.partition("] ")[2] for line in stream.getvalue().splitlines()] == [
        "node02.1: waits for node01.1",
        "node09.1: not started; the reason of NOT_STARTED",
    ]


def test_quiet_says_nothing() -> None:
    progress, stream, _ = fresh(quiet=True)
    with progress:
        progress.say("x")
        progress.began([n.instance()])
        progress.moved(n.instance(), "building the model")
        progress.ended(n.ready())
        progress.draw()
    assert stream.getvalue() == ""


def test_a_broken_stream_hurts_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with BringUpProgress(stream=Broken()) as progress:
        progress.say("x")
        progress.began([n.instance()])
        progress.draw()
        progress.ended(n.ready())
    print("standard output is still there")
    assert capfd.readouterr().out == "standard output is still there\n"


def test_a_stuck_terminal_holds_neither_an_event_nor_the_end_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netloader_progress, "LEAVE_S", 0.1)
    writing, released, finished = threading.Event(), threading.Event(), threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            writing.set()
            released.wait(120)
            return len(text)

    def events() -> None:
        with BringUpProgress(stream=Stuck()) as progress:
            progress.say("x")
            assert writing.wait(60)
            progress.began([n.instance()])
            progress.moved(n.instance(), "building the model")
            progress.ended(n.ready())
        finished.set()

    threading.Thread(target=events, daemon=True).start()
    try:
        assert finished.wait(60)
    finally:
        released.set()


@pytest.mark.parametrize("text", ["\x1b[2J\x07", "a\nb", "[red]x[/]", "\udcb9", "开"])
def test_text_of_a_host_cannot_act(text: str) -> None:
    progress, stream, _ = fresh()
    one = n.instance(host=text, label=text)
    with progress:
        progress.say(text)
        progress.moved(one, text)
        progress.ended(n.ended(End.FAILED, one, reason=text))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert all(char.isprintable() or char == "\n" for char in stream.getvalue())
    assert "[red]x" in lines[0] or "red" not in text


ON_A_TERMINAL = textwrap.dedent(
    """
    import time
    from ascendctl.report.netloader_progress import BringUpProgress
    from tests.report import netloader_runs as n
    with BringUpProgress() as progress:
        ones = [n.instance(2, host="节点一" * 9, label="_.1"), *(n.instance(at) for at in range(3, 40))]
        progress.began(ones)
        progress.ended(n.ready(ones[1]))
        for one in ones[2:]:
            progress.moved(one, "building the model " * 5)
        time.sleep(120)
    """
)


def test_ctrl_c_on_a_real_terminal_leaves_it_as_it_was() -> None:
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "60", "LINES": "12", "PYTHONUTF8": "1"}
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL], stdin=slave, stderr=slave, env=environment, cwd=root
    )
    os.close(slave)
    try:
        before = read_until(master, "building the model")
        child.send_signal(signal.SIGINT)
        text = before + read_until(master, None)
        assert child.wait(60) != 0
    finally:
        child.kill()
        child.wait()
        os.close(master)
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is shown again"
    assert "node03.1: ready in 20 s; ranks 0-7: p2p from" in text, "an outcome stays"
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", text)
    drawn = [line for line in plain.splitlines() if "under way" in line or "building" in line]
    assert drawn
    assert all(cell_len(line) < 60 for line in drawn), "no line is wrapped"


def test_lines_come_while_the_run_goes_on() -> None:
    stream = io.StringIO()
    with BringUpProgress(stream=stream) as progress:
        progress.say("at once")
        deadline = time.monotonic() + 60
        while "at once" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert stream.getvalue() == "at once\n"
