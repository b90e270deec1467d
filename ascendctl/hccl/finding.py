"""What the linter says of one place in a text."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(str, Enum):
    """``note``: not judged, or good to know; it never changes the exit code."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """``rule``: its stable name. ``what`` is wrong, what was ``expected``, what to ``do``."""

    rule: str
    severity: Severity
    line: int
    variable: str
    what: str
    expected: str = ""
    do: str = ""
