"""What all tests share: the order in which files are handed to the workers."""

from __future__ import annotations

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by file only; the sort is stable, so the tests of a file keep their order."""
    places = {name: place for place, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))
