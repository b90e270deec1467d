"""What all tests share: where they write, Python's own answer to Ctrl-C, and the order in which files go to
the workers."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

# The simulated hosts make and remove very many small files. In memory that costs next to nothing; a disk's
# file system may want a millisecond of the processor for each.
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 << 30
_PREFIX = "ascendctl-t-"  # short: a path of a socket must fit into 108 bytes
_IN_USE = ".in-use"  # locked by the run whose folder it is in
_in_memory = pytest.StashKey["tuple[Path, IO[str]]"]()

# Files whose tests take longest, longest first: begun last, one of them would keep a worker busy alone. Those
# that mostly wait stand among those that mostly compute, so that a worker computes while another waits.
# Whatever is not named follows in its usual order.
_LONGEST_FIRST = (
    "tests/test_faults.py",
    "tests/cli/test_watch.py",
    "tests/transport/test_busy.py",
    "tests/test_verify_openssh.py",
    "tests/netloader/test_deploy_openssh.py",
    "tests/probe/test_script.py",
    "tests/test_between_hosts.py",
    "tests/test_broken_cluster.py",
    "tests/test_mesh.py",
    "tests/transport/test_hangs.py",
    "tests/test_consistency.py",
    "tests/netloader/test_host_scripts.py",
    "tests/probe/test_redaction.py",  # by now test_faults has made the recordings that both look at
    "tests/transport/test_ssh.py",
    "tests/test_faults_deep.py",
    "tests/cli/test_diff.py",
    "tests/consistency/test_servers.py",
    "tests/test_host_net.py",
    "tests/parsers/test_fuzz.py",
)


@pytest.fixture(autouse=True)
def _ctrl_c_as_found() -> Iterator[None]:
    """Every test, and what it starts, hears Ctrl-C, also where the tests run in the background (a shell
    then hands SIGINT down ignored); none leaves a handler of its own behind for the next. Under nohup the
    tests themselves go on at SIGHUP, and what they start hears it as anywhere else."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: None)  # unlike SIG_IGN, it ends at exec
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by file only; the sort is stable, so the tests of a file keep their order."""
    places = {name: place for place, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))


def pytest_sessionstart() -> None:
    """Garbage is looked for less often than Python would: thousands of tests and their values, which stay to
    the end, are walked each time."""
    gc.set_threshold(100_000, 50, 100)


def pytest_configure(config: pytest.Config) -> None:
    """Let everything temporary be made in memory, where there is room and programs may be run from there.

    TMPDIR decides where it is set. The workers are children of the process that decides.
    """
    if hasattr(config, "workerinput") or "TMPDIR" in os.environ or not _memory_will_do():
        return
    _remove_what_ended_runs_left()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_MEMORY))
    config.stash[_in_memory] = folder, _hold(folder / _IN_USE, "x")
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    if config.option.basetemp is None:
        config.option.basetemp = str(folder / "t")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """What failed tests wrote is left, to be looked at, until the next run."""
    if exitstatus == pytest.ExitCode.TESTS_FAILED and _in_memory in session.config.stash:
        del session.config.stash[_in_memory]


def pytest_unconfigure(config: pytest.Config) -> None:
    if _in_memory in config.stash:
        folder, in_use = config.stash[_in_memory]
        shutil.rmtree(folder, ignore_errors=True)
        in_use.close()


def _remove_what_ended_runs_left() -> None:
    for left in _MEMORY.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), _hold(left / _IN_USE, "r"):
            shutil.rmtree(left, ignore_errors=True)


def _hold(path: Path, mode: str) -> IO[str]:
    """The file, locked for as long as it is open. Raises OSError where another process holds it."""
    stream: IO[str] = path.open(mode)
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        raise
    return stream


def _memory_will_do() -> bool:
    if not os.access(_MEMORY, os.W_OK | os.X_OK):
        return False
    there = os.statvfs(_MEMORY)
    return there.f_bavail * there.f_frsize >= _ROOM_BYTES and not there.f_flag & os.ST_NOEXEC
