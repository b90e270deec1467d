"""How a state looks, wherever it is shown: by shape first, by colour too.

Colours in pictures are Okabe and Ito's palette, told apart with any colour vision; those and the outlines
are the HTML report's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ascendctl.results import Result, Status


@dataclass(frozen=True)
class Mark:
    """By shape first, by colour too. Of several on one part, the one with the highest rank shows.

    ``symbol``, ``ascii`` and ``style`` are for terminals; ``outline`` (SVG path on a 16 x 16 field, filled by
    the even-odd rule) and ``colour`` for pictures.
    """

    symbol: str
    ascii: str
    style: str
    word: str
    rank: int
    outline: str = ""
    colour: str = "#aab1ba"


FAIL = Mark(
    "✖",
    "x",
    "bold red",
    "fail",
    7,
    "M2 .5h12a1.5 1.5 0 0 1 1.5 1.5v12a1.5 1.5 0 0 1-1.5 1.5H2A1.5 1.5 0 0 1 .5 14V2A1.5 1.5 0 0 1 2 .5z"
    "M4.7 3 3 4.7 6.3 8 3 11.3 4.7 13 8 9.7l3.3 3.3 1.7-1.7L9.7 8 13 4.7 11.3 3 8 6.3z",
    "#d55e00",
)
ERROR = Mark(
    "!",
    "!",
    "bold magenta",
    "error in ascendctl",
    6,
    "M4.7.5h6.6l4.2 4.2v6.6l-4.2 4.2H4.7L.5 11.3V4.7zM6.9 3v6h2.2V3zM6.9 10.6v2.2h2.2v-2.2z",
    "#b5508a",
)
UNLOOKED = Mark("?", "?", "bold cyan", "not looked at", 5, "M8 .2 15.8 8 8 15.8.2 8z", "#2f8fce")
WARN = Mark("▲", "^", "yellow", "warning", 4, "M8 1l7.6 14H.4zM7 6v4.4h2V6zM7 11.6v1.8h2v-1.8z", "#e69f00")
EXPLAINED = Mark(
    "»",
    ">",
    "magenta",
    "explained by another finding",
    3,
    "M1.5 2.5h3L8.4 8l-3.9 5.5h-3L5.4 8zM7.6 2.5h3L14.5 8l-3.9 5.5h-3L11.5 8z",
    "#7a828c",
)
WAIVED = Mark(
    "~",
    "~",
    "blue",
    "waived",
    2,
    "M.6 10.6C1.6 6 4.8 4.2 8.3 6.8c2.3 1.7 3.8 1.3 4.7-1.6l2.4.6c-1.2 4.9-4.5 6.2-8.2 3.6-2.2-1.6-3.6-1-4.2 "
    "1.8z",
    "#0072b2",
)
PASS = Mark("✔", "+", "green", "pass", 1, "M8 3.2a4.8 4.8 0 1 1 0 9.6 4.8 4.8 0 0 1 0-9.6z", "#009e73")
QUIET = Mark("·", ".", "dim", "nothing to check", 0, "M5.5 7.1h5v1.8h-5z")
ABSENT = Mark("-", "-", "dim", "nothing known", -1, "M3 7.1h2v1.8h-2zM7 7.1h2v1.8h-2zM11 7.1h2v1.8h-2z")

ALL = (FAIL, ERROR, UNLOOKED, WARN, EXPLAINED, WAIVED, PASS, QUIET, ABSENT)

BY_STATUS = {
    Status.FAIL: FAIL,
    Status.ERROR: ERROR,
    Status.WARN: WARN,
    Status.UNKNOWN: UNLOOKED,
    Status.SKIPPED: EXPLAINED,
    Status.WAIVED: WAIVED,
    Status.PASS: PASS,
    Status.NOT_APPLICABLE: QUIET,
}


def mark_of(cell: Result) -> Mark:
    """How a cell looks; one that is explained by something that did not fail was not looked at."""
    if cell.status is Status.SKIPPED and not cell.evaluated:
        return UNLOOKED
    return BY_STATUS[cell.status]


def worst(marks: Iterable[Mark]) -> Mark:
    """The mark that shows of several."""
    return max(marks, key=lambda mark: mark.rank, default=QUIET)
