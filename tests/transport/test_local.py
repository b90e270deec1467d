"""LocalTransport: the script on this very host, and nothing of it afterwards."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from ascendctl.inventory import Endpoint
from ascendctl.transport.contract import Deadlines, Job, Outcome
from ascendctl.transport.local import LocalTransport
from tests.transport.conftest import END, Collected, eventually, script

pytestmark = pytest.mark.usefixtures("no_threads_left")


def run(
    body: bytes, *, sink: Collected | None = None, host_s: float = 30.0, stop: threading.Event | None = None
) -> tuple[Outcome, bytes]:
    sink = sink or Collected()
    job = Job("here", Endpoint("here", "localhost"), body)
    outcome = LocalTransport().run(job, sink, Deadlines(host_s=host_s), stop or threading.Event())
    return outcome, sink.data


def alive(pid_file: Path) -> bool:
    """Whether the process whose id the script wrote still runs (a zombie does not)."""
    try:
        stat = Path(f"/proc/{int(pid_file.read_text())}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_script_to_its_end() -> None:
    before = time.time()
    outcome, data = run(script("echo FRAME; echo END"))
    assert (outcome.failure, data) == (None, b"FRAME\nEND\n")
    assert outcome.sent_at is not None and before <= outcome.sent_at <= time.time()


def test_a_script_and_an_answer_larger_than_every_pipe() -> None:
    line = f"echo FRAME {'x' * 1000}\n"
    outcome, data = run((line * 1000 + "head -c 3000000 /dev/zero >&2\necho END\n").encode())
    assert outcome.failure is None
    assert len(data) == (len(line) - len("echo ")) * 1000 + len(END)


def test_the_script_cleans_up_after_its_last_frame(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.touch()
    outcome, _ = run(script(f"trap 'rm {kept}' EXIT; echo END; sleep 0.8"))
    assert outcome.failure is None
    assert not kept.exists()


@pytest.mark.parametrize(
    ("body", "kind", "part"),
    [
        ("echo FRAME; echo why >&2; exit 3", "lost", "exited 3 before the last answer: why"),
        ("echo FRAME; kill -9 $$", "lost", "killed by signal 9"),
        ("exit 0", "protocol", "exited 0"),
    ],
)
def test_an_answer_that_ends_early(body: str, kind: str, part: str) -> None:
    outcome, _ = run(script(body))
    assert outcome.failure is not None and outcome.failure.kind == kind
    assert part in outcome.failure.detail


# A command in a process group of its own, as `timeout` makes one, and one that ignores being asked.
STUBBORN = """
trap 'rm -f {folder}/kept' EXIT; trap 'exit 143' TERM
touch {folder}/kept
timeout 60 sleep 60 &
echo $! > {folder}/own-group
sh -c 'trap "" TERM; echo $$ > {folder}/deaf; while :; do sleep 1; done' &
while [ ! -s {folder}/deaf ]; do sleep 0.01; done
echo FRAME
wait
"""


@pytest.mark.parametrize("way", ["deadline", "stop"])
def test_nothing_is_left_after_the_deadline_or_a_stop(way: str, tmp_path: Path) -> None:
    stop, sink = threading.Event(), Collected(until=b"FRAME")
    body = script(STUBBORN.replace("{folder}", str(tmp_path)))
    stopped_at: list[float] = []

    def press() -> None:
        assert sink.seen.wait(20)
        stopped_at.append(time.monotonic())
        stop.set()

    presser = threading.Thread(target=press)
    if way == "stop":
        presser.start()
    outcome, data = run(body, sink=sink, host_s=3.0 if way == "deadline" else 60.0, stop=stop)
    took = time.monotonic() - stopped_at[0] if stopped_at else 0.0
    if way == "stop":
        presser.join()
    assert outcome.failure is not None
    assert outcome.failure.kind == {"deadline": "timeout", "stop": "interrupted"}[way]
    assert data == b"FRAME\n"
    assert took < 5
    assert eventually(lambda: not alive(tmp_path / "own-group") and not alive(tmp_path / "deaf"))
    assert not (tmp_path / "kept").exists()
