"""What a check says of itself: the fixed sections of its docstring, for `explain` and the docs."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from ascendctl.checks.contract import Check, ClusterCheck

SECTIONS = ("What", "Why", "Consequence", "Remedy")

_HEADING = re.compile(rf"^({'|'.join(SECTIONS)}):$", re.MULTILINE)


@dataclass(frozen=True)
class Description:
    """The parts of a check's docstring, each one paragraph on one line."""

    summary: str
    what: str
    why: str
    consequence: str
    remedy: str


def describe(check: Check | ClusterCheck) -> Description:
    """Read the docstring of a check. ValueError naming the check where a section is missing."""
    text = inspect.cleandoc(type(check).__doc__ or "")
    summary, *parts = _HEADING.split(text)
    found = {name: _one_line(body) for name, body in zip(parts[::2], parts[1::2], strict=True)}
    missing = [name for name in SECTIONS if not found.get(name)]
    if missing or not summary.strip():
        raise ValueError(f"the docstring of check {check.id} lacks: {', '.join(missing) or 'a summary'}")
    return Description(_one_line(summary), *(found[name] for name in SECTIONS))


def _one_line(text: str) -> str:
    return " ".join(text.split())
