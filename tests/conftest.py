"""What all tests share: Python's own answer to Ctrl-C, and the order in which files go to the workers."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

# Files whose tests take longest, longest first: begun last, one of them would keep a worker busy alone.
# Whatever is not named follows in its usual order.
_LONGEST_FIRST = (
    "tests/cli/test_watch.py",
    "tests/test_faults.py",
    "tests/probe/test_redaction.py",
    "tests/test_broken_cluster.py",
    "tests/test_verify_openssh.py",
    "tests/test_between_hosts.py",
    "tests/test_mesh.py",
    "tests/test_faults_deep.py",
    "tests/test_consistency.py",
    "tests/test_host_net.py",
    "tests/cli/test_diff.py",
    "tests/probe/test_script.py",
    "tests/transport/test_busy.py",
    "tests/transport/test_hangs.py",
    "tests/parsers/test_fuzz.py",
)


@pytest.fixture(autouse=True)
def _ctrl_c_as_found() -> Iterator[None]:
    """Every test, and what it starts, hears Ctrl-C, also where the tests run in the background (a shell
    then hands SIGINT down ignored); none leaves a handler of its own behind for the next."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by file only; the sort is stable, so the tests of a file keep their order."""
    places = {name: place for place, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))
