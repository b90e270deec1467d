"""JSON with the line of every value, as strict as HCCL's reader: what it would trip over is named.

Python's own reader tells of no lines, and takes duplicate keys, NaN and Infinity. Grammar: RFC 8259.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

MOST_DEPTH = 64
"""A rank table is five deep; what is much deeper is something else."""


class LocatedJsonError(Exception):
    """The text is no JSON. ``line`` counts from 1; the text says what is wrong and what was expected."""

    def __init__(self, line: int, what: str, expected: str) -> None:
        super().__init__(f"line {line}: {what}; expected {expected}")
        self.line = line
        self.what = what
        self.expected = expected


@dataclass(frozen=True)
class Node:
    """A value with its place. ``path`` as in ``$.server_list[0].server_id``; ``value`` holds Nodes where it
    is a dict or a list. ``duplicates``: keys of an object that were there before, with their lines."""

    value: Value
    path: str
    line: int
    duplicates: tuple[tuple[str, int], ...] = ()

    @property
    def kind(self) -> str:
        """What it is, in words."""
        names = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
        return next(
            (name for kind, name in names.items() if isinstance(self.value, kind)), _plain(self.value)
        )


Value: TypeAlias = "dict[str, Node] | list[Node] | str | int | float | bool | None"


def _plain(value: object) -> str:
    return "null" if value is None else "a number"


def parse(text: str) -> Node:
    """The text's value. Raises LocatedJsonError at the first thing that is no JSON."""
    return _Reader(text).whole()


_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORD = re.compile(r"[A-Za-z_]+")
_WORDS = {"true": True, "false": False, "null": None}
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MOST_DIGITS = 30
_STRINGS = json.JSONDecoder(strict=True)


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0

    def whole(self) -> Node:
        if self._text.startswith("\ufeff"):
            raise self._error("a byte order mark", "plain UTF-8 without one")
        node = self._value("$", 0)
        self._skip()
        if self._at < len(self._text):
            raise self._error(f"{self._here()} after the end of the document", "nothing more")
        return node

    def _value(self, path: str, depth: int) -> Node:
        if depth > MOST_DEPTH:
            raise self._error(f"over {MOST_DEPTH} values inside one another", "a rank table, five deep")
        self._skip()
        line = self._line_here()
        char = self._text[self._at : self._at + 1]
        if char == "{":
            members, duplicates = self._object(path, depth)
            return Node(members, path, line, duplicates)
        if char == "[":
            return Node(self._list(path, depth), path, line)
        if char == '"':
            return Node(self._string(), path, line)
        return Node(self._scalar(), path, line)

    def _object(self, path: str, depth: int) -> tuple[dict[str, Node], tuple[tuple[str, int], ...]]:
        members: dict[str, Node] = {}
        duplicates: list[tuple[str, int]] = []
        for _ in self._items("}"):
            if self._text[self._at : self._at + 1] != '"':
                raise self._error(
                    f"{self._here()} where a name should begin", 'a name in double quotes, "name"'
                )
            line = self._line_here()
            name = self._string()
            self._skip()
            if self._text[self._at : self._at + 1] != ":":
                raise self._error(f"{self._here()} behind the name {json.dumps(name)}", "a colon")
            self._at += 1
            below = f"{path}.{name}" if _PLAIN_KEY.fullmatch(name) else f"{path}[{json.dumps(name)}]"
            node = self._value(below, depth + 1)
            if name in members:
                duplicates.append((name, line))
            members[name] = node
        return members, tuple(duplicates)

    def _list(self, path: str, depth: int) -> list[Node]:
        items: list[Node] = []
        for number in self._items("]"):
            items.append(self._value(f"{path}[{number}]", depth + 1))
        return items

    def _items(self, closing: str) -> Iterator[int]:
        """Steps from item to item, over the commas and the closing bracket; the caller reads the items."""
        opened = self._line_here()
        self._at += 1
        self._skip()
        if self._text[self._at : self._at + 1] == closing:
            self._at += 1
            return
        number = 0
        while True:
            self._skip()
            yield number
            number += 1
            self._skip()
            char = self._text[self._at : self._at + 1]
            if char == closing:
                self._at += 1
                return
            if char != ",":
                since = f" since line {opened}" if not char else ""
                raise self._error(f"{self._here()} between two values{since}", f"a comma or {closing!r}")
            comma_line = self._line_here()
            self._at += 1
            self._skip()
            if self._text[self._at : self._at + 1] == closing:
                raise LocatedJsonError(
                    comma_line, f"a comma before {closing!r}", "none behind the last value"
                )

    def _string(self) -> str:
        try:
            text, self._at = _STRINGS.raw_decode(self._text, self._at)
        except json.JSONDecodeError as error:
            raise self._error(
                f"a string that is none ({error.msg})", "text in double quotes on one line"
            ) from None
        return str(text)

    def _scalar(self) -> int | float | bool | None:
        if number := _NUMBER.match(self._text, self._at):
            if len(number[0]) > _MOST_DIGITS:
                raise self._error("a number of endless length", "a string")
            self._at = number.end()
            return float(number[0]) if number[1] or number[2] else int(number[0])
        word = _WORD.match(self._text, self._at)
        if word is None or word[0] not in _WORDS:
            raise self._error(f"{self._here()} where a value should be", "a string, an object or a list")
        self._at = word.end()
        return _WORDS[word[0]]

    # --- where we are ---

    def _skip(self) -> None:
        match = _SPACE.match(self._text, self._at)
        assert match is not None
        self._at = match.end()
        if self._text.startswith(("//", "/*"), self._at) or self._text.startswith("#", self._at):
            raise self._error(
                "a comment", "none: comments are for documentation only, HCCL's reader knows none"
            )

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _here(self) -> str:
        if self._at >= len(self._text):
            return "the end of the text"
        word = _WORD.match(self._text, self._at)
        return json.dumps(word[0][:40] if word else self._text[self._at])

    def _error(self, what: str, expected: str) -> LocatedJsonError:
        return LocatedJsonError(self._line_here(), what, expected)
