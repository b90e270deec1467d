"""Five thousand hosts on a terminal: what is told does not grow with the hosts; nothing is uncounted."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from rich.cells import cell_len
from rich.console import Console

from ascendctl.report.progress import PLAIN_EVERY_PERCENT, Progress
from ascendctl.report.terminal import render_summary
from ascendctl.results import Result, Run, Status, exit_code, host_subject
from tests.report import runs

HOSTS = 5_000
DEVICES = 16
LINES_OF_ONE_FAULT = 8
FAULTS_TOLD = 25  # per section: wrong, not looked at


def name_of(number: int) -> str:
    return f"rack{number // 40:03d}-node{number % 40:02d}"


def rendered(run: Run, width: int = 80) -> list[str]:
    stream = io.StringIO()
    render_summary(run, Console(file=stream, width=width), strict=False, exit_code=exit_code(run.results))
    return stream.getvalue().splitlines()


def every_fault_its_own(hosts: int) -> Run:
    """One device in twenty has a fault of its own: in words, values, remedy and evidence."""
    chance = random.Random(11)
    cells: list[Result] = []
    for number in range(hosts):
        name = name_of(number)
        for phy_id in range(DEVICES):
            if chance.random() >= 0.05:
                cells += runs.passes(name, [phy_id], ["link"])
                continue
            word = "".join(chance.choices("abcdefgh", k=8))
            cells.append(
                Result(
                    chance.choice(["link", "lldp", "optical", "address"]),
                    runs.device(name, phy_id),
                    chance.choice([Status.FAIL, Status.WARN, Status.UNKNOWN]),
                    f"{word} is wrong",
                    expected="UP",
                    actual=f"{word} {chance.randrange(10**6)}",
                    remedy=f"Look at {word} of {name}",
                    command=f"hccn_tool -i {phy_id} -link -g",
                    evidence=f"evidence of {word}\n" * 20,
                )
            )
    return runs.run_of(cells, [runs.note(name_of(number), DEVICES) for number in range(hosts)])


def test_faults_that_have_nothing_in_common_do_not_flood() -> None:
    run = every_fault_its_own(HOSTS)
    few, many = rendered(every_fault_its_own(250)), rendered(run)
    assert max(map(cell_len, many)) <= 80
    # Two sections of findings, the map, the head, what to do next.
    assert len(many) <= 2 * FAULTS_TOLD * LINES_OF_ONE_FAULT + 60
    assert len(many) <= len(few) + 30, "what is told grows with the hosts"
    text = " ".join(" ".join(many).split())
    for status, word in ((Status.FAIL, "✖"), (Status.UNKNOWN, "?")):
        count = sum(cell.status is status for cell in run.results)
        assert re.search(rf"{re.escape(word)} {count:,} (fail|unknown)", text)
    assert re.search(r"… and [\d,]+ more findings", text)


REACHES = {
    "the host refused the connection": "{address} port 22 refused the connection: nothing listens there",
    "the host did not answer in time": "timed out after 10 s: TCP connect to {address} port 22",
    "the login was refused": "{address} port 22 refused user root: tried publickey x",
    "the answer is no SSH": "{address} port 22 is no SSH server: it said 'HTTP/1.1 400'",
    "the run stopped early": "--limit-failures 9: 9 hosts could not be asked before its turn (9 refused)",
}


def test_hosts_that_could_not_be_asked_fold_by_their_reason() -> None:
    cells = []
    for number in range(HOSTS):
        message, actual = list(REACHES.items())[number % len(REACHES)]
        address = f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"
        cells.append(
            Result(
                "reachable",
                host_subject(name_of(number)),
                Status.UNKNOWN,
                message,
                expected="an answer to the last command",
                actual=actual.format(address=address),
                remedy=f"Mend it: {message}",
            )
        )
    run = runs.run_of(cells, [runs.note(name_of(n), 0, answered=False) for n in range(HOSTS)])
    lines = rendered(run)
    assert len(lines) <= 120
    text = " ".join(" ".join(lines).split())
    for message in REACHES:
        told = re.search(rf"reachable \S+: {message} seen .*?cells ([\d,]+)", text)
        assert told and told[1] == f"{HOSTS // len(REACHES):,}", message


# --- the display while they are asked -------------------------------------------------------------


@dataclass
class Ended:
    host: str
    failure: object | None


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    with io.StringIO() as stream:
        yield stream


def test_progress_of_all_of_them_is_a_handful_of_lines(stream: io.StringIO) -> None:
    """A tenth of a second per host; every one in ten fails; 320 under way at the same time."""
    clock = Clock()
    names = [name_of(number) for number in range(HOSTS)]
    progress = Progress(names, stream=stream, clock=clock)
    for number, name in enumerate(names):
        progress.started(name)
        progress.frame(name, f"hccn_tool -i {number % DEVICES} -link -g")
        if number >= 320:
            ended = names[number - 320]
            progress.finished(Ended(ended, "refused" if (number - 320) % 10 == 0 else None))
        clock.now += 0.001
        progress.draw()
        assert len(progress.status()) < 160
    for name in names[-320:]:
        progress.finished(Ended(name, None))
    progress.draw()
    lines = stream.getvalue().splitlines()
    assert 5 <= len(lines) <= 100 // PLAIN_EVERY_PERCENT + 1
    assert lines[-1].startswith("5000/5000 hosts done, 0 running, 468 failed")
    assert "320 running" in lines[2]
