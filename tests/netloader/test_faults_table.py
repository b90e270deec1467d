"""docs/netloader-faults.md names tests that exist, and no known failure is missing in it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = (ROOT / "docs" / "netloader-faults.md").read_text(encoding="utf-8")


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", TABLE))
    files = [*(ROOT / "tests" / "netloader").glob("*.py"), *(ROOT / "tests" / "e2e").rglob("*.py")]
    defined = set(re.findall(r"^def (test_\w+)\(", "\n".join(f.read_text() for f in files), re.M))
    assert named and named <= defined, named - defined


def test_every_known_failure_has_a_row_with_a_test() -> None:
    rows = dict(re.findall(r"^\| F(\d+) \|.*\| (.*) \|$", TABLE, re.M))
    assert sorted(map(int, rows)) == list(range(1, 21))
    assert all("`test_" in shown_by for shown_by in rows.values())
