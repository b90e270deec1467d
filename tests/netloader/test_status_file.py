"""The status file: whole at every moment, private, gone with its process, never in an engine's way."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ascendctl.netloader.engine.options import DRAFT_GROUP, TARGET_GROUP
from ascendctl.netloader.engine.phases import LOGGER
from ascendctl.netloader.engine.status_file import StatusFile, address_path, status_path

CHILD_TIMEOUT_S = 120
LISTENER = {"address": "127.0.0.1", "port": 2333, "open": True, "accepting": True}


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return str(tmp_path / "rank")


def read(prefix: str, rank: int = 0, group: str = TARGET_GROUP) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(status_path(prefix, rank, group).read_text(encoding="utf-8"))
    return content


def names(prefix: str) -> list[str]:
    return sorted(path.name for path in Path(prefix).parent.iterdir())


def test_it_is_there_from_the_start_and_says_what_is_documented(prefix: str) -> None:
    status = StatusFile(prefix, 3, TARGET_GROUP)
    try:
        content = read(prefix, 3)
        assert names(prefix) == ["rank3.json"]
        assert stat.S_IMODE(status_path(prefix, 3, TARGET_GROUP).stat().st_mode) == 0o600
        assert content == status.content
        assert (content["version"], content["rank"], content["group"]) == (1, 3, "netloader")
        assert (content["pid"], content["state"]) == (os.getpid(), "loading")
        assert content["weights"]["from"] is None
        assert content["serving"] == {"serving": False, "reason": "loading"}
    finally:
        status.remove()
    assert names(prefix) == []


def test_every_documented_field_is_written_and_no_other() -> None:
    """The docstring is the format's only description: field names there and in a file are the same."""
    from ascendctl.netloader.engine import status_file

    text = (status_file.__doc__ or "").split("one object:\n\n")[1].split("\n\n")[0]
    rows = [row for row in text.splitlines() if row.startswith("    ") and row[4] != " "]
    documented = [name.strip(",") for row in rows for name in row[4:20].split()]
    assert documented == list(StatusFile(None, 0, TARGET_GROUP).content)


def test_an_update_changes_what_it_names_and_keeps_the_rest(prefix: str) -> None:
    status = StatusFile(prefix, 0, TARGET_GROUP)
    try:
        status.update(weights={"from": "p2p", "source": "127.0.0.1:1"}, seconds={"join": 0.5})
        status.update(weights={"verified": True, "bytes": 7}, seconds={"wire": 1.5}, weight_version=2)
        status.update(
            state="ready",
            attempts=[{"source": "127.0.0.1:2", "phase": "connect", "reason": "refused"}],
            serving={"serving": True, "reason": None},
        )
        content = read(prefix)
        assert content["weights"] == {
            "from": "p2p",
            "source": "127.0.0.1:1",
            "verified": True,
            "bytes": 7,
            "content_id": None,
            "origin": None,
        }
        assert content["seconds"] == {"join": 0.5, "wire": 1.5}
        assert content["attempts"] == [{"source": "127.0.0.1:2", "phase": "connect", "reason": "refused"}]
        assert (content["state"], content["weight_version"]) == ("ready", 2)
        status.update(fallback={"reason": "文件 \udc80"})
        assert read(prefix)["fallback"] == {"reason": "文件 \udc80"}
        status.update(fallback=None, attempts=())
        assert (read(prefix)["fallback"], read(prefix)["attempts"]) == (None, [])
    finally:
        status.remove()


@pytest.mark.parametrize(
    "changes",
    [
        {"stat": "ready"},
        {"pid": 1},
        {"state": "done"},
        {"listener": {"ports": 1}},
        {"listener": 7},
        {"weights": {"bytes": object()}},
        {"attempts": "x"},
        {"attempts": [{"source": "a:1"}]},
        {"fallback": {"why": "x"}},
        {"weight_version": "two"},
    ],
)
def test_what_the_format_does_not_know_is_refused_whole(prefix: str, changes: dict[str, Any]) -> None:
    status = StatusFile(prefix, 0, TARGET_GROUP)
    try:
        before = read(prefix)
        with pytest.raises((TypeError, ValueError)):
            status.update(**{"served": {"joiners": 1}, **changes})
        assert read(prefix) == before == status.content
    finally:
        status.remove()


def test_the_address_file_is_there_only_while_the_listener_accepts(prefix: str) -> None:
    status = StatusFile(prefix, 2, TARGET_GROUP)
    address = address_path(prefix, 2)
    try:
        status.update(listener={**LISTENER, "accepting": False})
        assert not address.exists()
        status.update(listener={"accepting": True})
        assert address.read_bytes() == b"127.0.0.1:2333"
        assert stat.S_IMODE(address.stat().st_mode) == 0o644
        status.update(listener={"port": 2334})
        assert address.read_bytes() == b"127.0.0.1:2334"
        status.update(listener={"accepting": False})
        assert not address.exists()
        status.update(listener={"address": "fd00::1", "accepting": True})
        assert address.read_bytes() == b"[fd00::1]:2334"
    finally:
        status.remove()
    assert names(prefix) == []


def test_a_draft_model_has_a_status_of_its_own_and_no_address_file(prefix: str) -> None:
    target, draft = StatusFile(prefix, 0, TARGET_GROUP), StatusFile(prefix, 0, DRAFT_GROUP)
    try:
        draft.update(listener=LISTENER)
        assert names(prefix) == ["rank0.draft.json", "rank0.json"]
        assert read(prefix, 0, DRAFT_GROUP)["listener"] == LISTENER
        draft.remove()
        assert names(prefix) == ["rank0.json"]
    finally:
        draft.remove()
        target.remove()


def test_without_a_prefix_it_is_kept_in_memory() -> None:
    status = StatusFile(None, 0, TARGET_GROUP)
    status.update(listener=LISTENER)
    assert status.content["listener"] == LISTENER
    status.remove()


def test_nothing_is_written_once_it_is_removed(prefix: str) -> None:
    status = StatusFile(prefix, 0, TARGET_GROUP)
    status.remove()
    status.update(listener=LISTENER)
    status.remove()
    assert names(prefix) == []


def test_a_folder_that_cannot_be_written_is_told_once_and_stops_nothing(
    prefix: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    status = StatusFile(prefix, 0, TARGET_GROUP)
    status.update(listener=LISTENER)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    try:
        with caplog.at_level(logging.WARNING, LOGGER), monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            status.update(state="ready")
            # An old status would be a lie, and half a file worse.
            assert names(prefix) == []
            status.update(served={"joiners": 1})
        assert len(caplog.messages) == 1
        assert "No space left on device" in caplog.messages[0]
        status.update(served={"joiners": 2})
        assert (read(prefix)["state"], read(prefix)["served"]["joiners"]) == ("ready", 2)
        assert address_path(prefix, 0).read_bytes() == b"127.0.0.1:2333"
    finally:
        status.remove()


def test_a_reader_never_sees_a_part(prefix: str) -> None:
    status = StatusFile(prefix, 0, TARGET_GROUP)
    ended = threading.Event()

    def write() -> None:
        try:
            for count in range(200):
                status.update(served={"joiners": count}, fallback={"reason": "x" * (count * 50)})
        finally:
            ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not ended.is_set():
            content = read(prefix)
            if content["fallback"]:
                assert len(content["fallback"]["reason"]) == content["served"]["joiners"] * 50
    finally:
        writer.join()
        status.remove()


def test_an_engine_that_took_the_name_over_keeps_its_files(prefix: str) -> None:
    first = StatusFile(prefix, 0, TARGET_GROUP)
    first.update(listener=LISTENER)
    second = StatusFile(prefix, 0, TARGET_GROUP)
    second.update(listener=LISTENER)
    first.remove()
    try:
        assert read(prefix)["instance"] == second.content["instance"]
        assert address_path(prefix, 0).exists()
    finally:
        second.remove()
    assert names(prefix) == []


# With processes ------------------------------------------------------------------------------------------

CHILD = """
import os, sys
from ascendctl.netloader.engine.status_file import StatusFile
status = StatusFile(sys.argv[1], 0, "netloader")
status.update(listener={"address": "127.0.0.1", "port": 2333, "accepting": True})
assert os.path.exists(sys.argv[1] + "0.json") and os.path.exists(sys.argv[1] + "0.txt")
"""


def run(program: str, prefix: str, *, fails: bool = False) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program, prefix],
        capture_output=True,
        text=True,
        timeout=CHILD_TIMEOUT_S,
        check=False,
    )
    assert (done.returncode != 0) is fails, done.stderr


@pytest.mark.parametrize(
    ("ending", "fails"), [("", False), ("sys.exit(0)", False), ("raise RuntimeError('load failed')", True)]
)
def test_the_files_go_with_their_process(prefix: str, ending: str, fails: bool) -> None:
    run(CHILD + ending, prefix, fails=fails)
    assert names(prefix) == []


def test_they_go_with_a_worker_that_multiprocessing_started(prefix: str) -> None:
    """vLLM's workers are such; a forked one runs no atexit function before Python 3.13."""
    program = f"""
import multiprocessing, sys
def work(prefix):
    sys.argv = ["", prefix]
    exec({CHILD!r})
    assert sys.argv[1] == prefix
worker = multiprocessing.get_context("fork").Process(target=work, args=(sys.argv[1],))
worker.start(); worker.join(); sys.exit(worker.exitcode)
"""
    run(program, prefix)
    assert names(prefix) == []


def test_a_forked_child_takes_nothing_of_its_parent_away(prefix: str) -> None:
    program = (
        CHILD
        + """
import multiprocessing
def work():
    status.update(state="failed")
    status.remove()
worker = multiprocessing.get_context("fork").Process(target=work)
worker.start(); worker.join()
assert worker.exitcode == 0
import json
assert json.load(open(sys.argv[1] + "0.json"))["state"] == "loading"
assert os.path.exists(sys.argv[1] + "0.txt")
"""
    )
    run(program, prefix)
    assert names(prefix) == []


def test_what_a_killed_engine_left_is_taken_over(prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    run(CHILD + "os.kill(os.getpid(), 9)", prefix, fails=True)
    assert names(prefix) == ["rank0.json", "rank0.txt"]
    with caplog.at_level(logging.WARNING, LOGGER):
        status = StatusFile(prefix, 0, TARGET_GROUP)
    try:
        # The dead engine's address answers nobody.
        assert names(prefix) == ["rank0.json"]
        assert read(prefix)["pid"] == os.getpid()
        assert not caplog.messages
    finally:
        status.remove()


def test_two_living_engines_with_one_prefix_are_told_of(
    prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD + "print(flush=True); sys.stdin.read()", prefix],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout and other.stdout.readline() == b"\n"
        with caplog.at_level(logging.WARNING, LOGGER):
            status = StatusFile(prefix, 0, TARGET_GROUP)
        try:
            assert f"belongs to process {other.pid}" in caplog.messages[0]
            assert "an OUTPUT_PREFIX of its own" in caplog.messages[0]
            other.communicate(timeout=CHILD_TIMEOUT_S)
            assert read(prefix)["pid"] == os.getpid()
        finally:
            status.remove()
            other.kill()


@pytest.mark.parametrize("listener", ['{"address": "127.0.0.1", "port": 2333}', "7", "{}"])
def test_whatever_stands_under_the_names_is_no_obstacle(prefix: str, listener: str) -> None:
    status_path(prefix, 0, TARGET_GROUP).write_text(f'{{"listener": {listener}, "pid": "x"}}')
    os.mkfifo(address_path(prefix, 0))
    status = StatusFile(prefix, 0, TARGET_GROUP)
    status.update(listener=LISTENER)
    assert address_path(prefix, 0).read_bytes() == b"127.0.0.1:2333"
    status.remove()
    assert names(prefix) == []
