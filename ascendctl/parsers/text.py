"""The lines of one output, and how a reader says that a line makes no sense.

Bytes are decoded without loss (UTF-8, other bytes kept by ``surrogateescape``: banners in GBK happen),
and split at ``\\n`` only, so that a stray form feed or U+2028 in a name does not make a line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

BLANKS = " \t\r"
_QUOTE_LIMIT_CHARACTERS = 80


@dataclass(frozen=True)
class Line:
    """``number`` counts from 1; ``ended`` is False for a last line without its line end."""

    number: int
    text: str
    ended: bool = True

    @property
    def stripped(self) -> str:
        return self.text.strip(BLANKS)


Lines = Sequence[Line]


@dataclass(frozen=True)
class Output:
    """What one command printed, and its exit code (None = it never ended of its own accord)."""

    stdout: tuple[Line, ...]
    stderr: tuple[Line, ...]
    exit_code: int | None


class Unparsed(Exception):
    """The text is not in the documented form; the message names the line."""


class NoData(Exception):
    """The tool answered, and the answer is that there is nothing."""


def read_lines(data: bytes) -> tuple[Line, ...]:
    """The lines of ``data``, without their line ends (a ``\\r`` before one goes with it)."""
    texts = data.decode("utf-8", "surrogateescape").split("\n")
    rest = texts.pop()
    lines = [Line(number, text.removesuffix("\r")) for number, text in enumerate(texts, start=1)]
    if rest:
        lines.append(Line(len(lines) + 1, rest, ended=False))
    return tuple(lines)


def nonblank(lines: Iterable[Line]) -> list[Line]:
    return [line for line in lines if line.stripped]


def quote(text: str) -> str:
    """``text`` for a message: one line, printable, cut to a sane length."""
    if len(text) > _QUOTE_LIMIT_CHARACTERS:
        text = text[:_QUOTE_LIMIT_CHARACTERS] + "…"
    return repr(text)


def unparsed(line: Line, problem: str) -> Unparsed:
    return Unparsed(f"line {line.number}: {problem}; it reads {quote(line.text)}")


def ends_early(lines: Lines, missing: str) -> Unparsed:
    """The text stops before it is whole."""
    last = lines[-1].number if lines else 0
    return Unparsed(f"line {last}: the output ends here, before {missing}; it was cut off")


def require_line_end(line: Line) -> None:
    """For a line whose last value could be the beginning of a longer one.

    Raises:
        Unparsed: its line end is missing, so it may have been cut off.
    """
    if not line.ended:
        raise unparsed(line, "has no line end, so its last value may have been cut off")


@dataclass(frozen=True)
class Field:
    """The value after ``label:`` and the line that it stands on."""

    value: str
    line: Line


def read_fields(lines: Lines, *, required: Sequence[str], optional: Collection[str] = ()) -> dict[str, Field]:
    """``label: value`` lines, in any order, glued or spaced, indented or not; blank lines are skipped.

    Raises:
        Unparsed: a line of another form, an unknown or repeated label, or a required one missing.
    """
    fields: dict[str, Field] = {}
    for line in nonblank(lines):
        label, colon, value = (part.strip(BLANKS) for part in line.stripped.partition(":"))
        if not colon or not (label in required or label in optional):
            raise unparsed(line, "expected " + " or ".join(f"{name!r}" for name in required))
        if label in fields:
            raise unparsed(line, f"{label!r} comes twice")
        fields[label] = Field(value, line)
    for label in required:
        if label not in fields:
            raise ends_early(lines, f"{label!r}")
    return fields
