"""YAML text → plain data that still knows its lines, and what is wrong with it as YAML.

PyYAML's loader keeps the last of two equal keys and turns ``022`` into 18 and ``no`` into False
without a word; here each of these is a problem with its line.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

Path = tuple[str | int, ...]
"""Where a value is: mapping keys and list indexes from the top."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong; ``line`` counts from 1, 0 = the file as a whole."""

    line: int
    path: str
    message: str


@dataclass
class Document:
    """A parsed file. ``data`` is None where it could not be parsed; see ``problems`` then.

    ``empty``: where a key has nothing after its colon (YAML reads it as null, like a written null).
    ``blamed``: nodes that have a problem already, so that what follows from it is not told too.
    """

    data: Any = None
    root: yaml.Node | None = None
    problems: list[Problem] = field(default_factory=list)
    empty: list[Path] = field(default_factory=list)
    blamed: set[int] = field(default_factory=set)

    def node_at(self, path: Sequence[str | int]) -> yaml.Node | None:
        """The node of a value, None where the file has none at ``path``."""
        node = self.root
        for step in path:
            node = _entry(node, step)[1]
        return node

    def line_at(self, path: Sequence[str | int]) -> int:
        """The line of a value's key or list item; of the nearest thing around it where it is absent."""
        node, line = self.root, _line(self.root)
        for step in path:
            key, node = _entry(node, step)
            if node is None:
                break
            line = _line(key or node)
        return line

    def blame(self, path: Sequence[str | int], message: str) -> None:
        """Note a problem with the value at ``path``, unless that very value has one already."""
        node = self.node_at(path)
        key = _entry(self.node_at(path[:-1]), path[-1])[0] if path else None
        if id(node) in self.blamed or id(key) in self.blamed:
            return
        self.problems.append(Problem(self.line_at(path), show_path(path), message))


def parse(text: str) -> Document:
    """Parse one YAML document; every problem that can be seen without knowing the keys is noted."""
    document = Document()
    try:
        document.root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        document.problems.append(Problem(line, "", _UNSAFE_FOUND.format(int(error.character))))
    except yaml.MarkedYAMLError as error:
        document.problems.append(_syntax_problem(text, error))
    except RecursionError:
        document.problems.append(Problem(0, "", "is nested too deeply to be read"))
    if document.problems or document.root is None:
        return document
    try:
        document.data = _Reader(document).value(document.root, ())
    except RecursionError:
        document.problems.append(Problem(0, "", "is nested too deeply to be read"))
    return document


def show_path(path: Sequence[str | int]) -> str:
    """``("hosts", 0, "ssh", "port")`` → ``hosts[0].ssh.port``.

    Nothing unknown below a ``password`` is shown: the password itself may stand where a key should.
    """
    text = ""
    for index, step in enumerate(path):
        if "password" in path[:index] and step not in ("env", "command"):
            break
        text += f"[{step}]" if isinstance(step, int) else f".{printable(step)}"
    return text.removeprefix(".")


def printable(text: str, limit: int = 60) -> str:
    """A file's own word made safe for a terminal, and short enough for a message."""
    first_line = text.strip("\n").partition("\n")[0][:limit]
    safe = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in first_line)
    return safe if len(first_line) == len(text.strip("\n")) else safe + "…"


def describe(node: yaml.Node | None) -> str:
    """What was found, for "expected …, found …", with what YAML made of a word without quotes."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if not isinstance(node, yaml.ScalarNode) or (node.tag == _NULL and not node.value):
        return "nothing"
    word = f"`{printable(node.value)}`"
    if node.style in ("'", '"', "|", ">"):
        return f'the text "{printable(node.value)}"'
    kind = _READ_AS.get(node.tag)
    return f"{word}, which YAML reads as {kind}" if kind else word


def is_secret(path: Sequence[str | int]) -> bool:
    """Whether a value at ``path`` might be a secret, and must not be quoted in a message."""
    return any(isinstance(step, str) and _SECRET_WORD.search(step) for step in path)


def plain_word(node: yaml.Node | None) -> str | None:
    """The text of a scalar as written, None for anything else."""
    return node.value if isinstance(node, yaml.ScalarNode) else None


_TAG = "tag:yaml.org,2002:"
_NULL, _INT, _FLOAT, _BOOL, _STR = (_TAG + name for name in ("null", "int", "float", "bool", "str"))
_TIMESTAMP, _MERGE = _TAG + "timestamp", _TAG + "merge"
_READ_AS = {
    _BOOL: "true or false",
    _INT: "a number",
    _FLOAT: "a number with a fraction",
    _TIMESTAMP: "a date",
    _NULL: "no value",
}
_PLAIN_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_KEYED_BY_NUMBER = ("cabling",)
_PLACEHOLDER = re.compile(r"<[^<>\s][^<>\n]*>")
_SECRET_WORD = re.compile(r"pass|secret|token|credential", re.IGNORECASE)
# Directional controls let a terminal show other text than the file holds.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_UNSAFE_FOUND = "a control character (U+{:04X}) does not belong here"


class _Reader:
    """Walks the node tree once; a node reached again through an alias gives the same value."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._values: dict[int, Any] = {}
        self._open: set[int] = set()
        self._flat: set[int] = set()
        self._constructor = SafeConstructor()

    def value(self, node: yaml.Node, path: Path) -> Any:
        if id(node) in self._open:
            self._problem(node, path, "an alias (*…) holds itself")
            return None
        if id(node) not in self._values:
            self._open.add(id(node))
            self._values[id(node)] = self._read(node, path)
            self._open.discard(id(node))
        return self._values[id(node)]

    def _read(self, node: yaml.Node, path: Path) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        self._flatten(node, path)
        mapping: dict[str, Any] = {}
        for key, below in node.value:
            name = self._key(key, path)
            if name is not None:
                mapping[name] = self.value(below, (*path, name))
        return mapping

    def _flatten(self, node: yaml.MappingNode, path: Path) -> None:
        """Put what ``<<`` brings among the keys of the node itself; its own keys win."""
        if id(node) in self._flat:
            return
        self._flat.add(id(node))
        self._flag_repeated_keys(node, path)
        pairs = {_key_id(key): (key, below) for key, below in node.value if key.tag != _MERGE}
        for key, below in node.value:
            if key.tag != _MERGE:
                continue
            for source in below.value if isinstance(below, yaml.SequenceNode) else [below]:
                if not isinstance(source, yaml.MappingNode):
                    self._problem(source, path, "`<<` takes a mapping, as in `<<: *name`, or a list of them")
                    continue
                self._flatten(source, path)
                for merged_key, merged in source.value:
                    pairs.setdefault(_key_id(merged_key), (merged_key, merged))
        node.value = list(pairs.values())

    def _key(self, key: yaml.Node, path: Path) -> str | None:
        if not isinstance(key, yaml.ScalarNode):
            self._problem(key, path, "a key must be a word, not a list or a mapping")
            return None
        here = (*path, key.value)
        if key.tag == _INT and path and path[-1] in _KEYED_BY_NUMBER and _PLAIN_INT.fullmatch(key.value):
            return str(key.value)
        if key.tag != _STR:
            kind = _READ_AS.get(key.tag, "something else")
            self._problem(
                key, here, f"the key `{printable(key.value)}` is read by YAML as {kind}; put it in quotes"
            )
            return str(key.value)
        self._flag_text(key, here)
        return str(key.value)

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        text: str = node.value
        self._flag_text(node, path)
        if node.tag == _INT and not _PLAIN_INT.fullmatch(text):
            value = self._construct(node)
            shown = f"`{printable(text)}` is read by YAML as the number {value}"
            if is_secret(path):
                shown = "the value is read by YAML as another number than it looks"
            remedy = "write a plain decimal number, or put it in quotes if it is text"
            self._problem(node, path, f"{shown}; {remedy}")
            return value
        if node.tag == _NULL and not text:
            self._document.empty.append(path)
        if node.tag not in (_STR, _NULL, *_READ_AS):
            self._problem(node, path, f"the YAML tag {printable(node.tag)} is not used here")
            return text
        return self._construct(node)

    def _construct(self, node: yaml.Node) -> Any:
        try:
            value = self._constructor.construct_object(node)
        except (ValueError, yaml.YAMLError):
            return node.value  # 2026-13-40 looks like a date to YAML; whoever wants one refuses the text
        return value if not isinstance(value, dt.datetime) else str(node.value)

    def _flag_text(self, node: yaml.Node, path: Path) -> None:
        placeholder = _PLACEHOLDER.search(node.value)
        if placeholder:
            shown = "a placeholder" if is_secret(path) else f"the placeholder {printable(placeholder[0])}"
            self._problem(node, path, f"{shown} was left in; put the value there")
        unsafe = _UNSAFE.search(node.value)
        if unsafe:
            self._problem(node, path, _UNSAFE_FOUND.format(ord(unsafe[0])))

    def _flag_repeated_keys(self, node: yaml.MappingNode, path: Path) -> None:
        first: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in first:
                self._problem(
                    key, (*path, key.value), f"the key was already given on line {first[key.value]}; keep one"
                )
            first.setdefault(key.value, _line(key))

    def _problem(self, node: yaml.Node, path: Path, message: str) -> None:
        if id(node) not in self._document.blamed:
            self._document.blamed.add(id(node))
            self._document.problems.append(Problem(_line(node), show_path(path), message))


def _syntax_problem(text: str, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    number = mark.line + 1 if mark else 0
    lines = text.splitlines()
    line = lines[number - 1] if 0 < number <= len(lines) else ""
    reason = str(error.problem or "cannot be read")
    if _SECRET_WORD.search(line):
        reason = "cannot be read"  # PyYAML's reason may quote the line
    return Problem(number, "", f"not valid YAML: {reason}{_syntax_hint(line, reason)}")


def _syntax_hint(line: str, reason: str) -> str:
    if "another document" in reason:
        return "; the file is one document, without a second `---`"
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "; indent with spaces, not with tabs"
    if re.search(r"[{,].*[^\s\"'\[:]\[\d", line) or re.search(r":\s*\[\d[\d,/-]*\][^\s,}\]]", line):
        return '; put patterns in quotes here, as in "node[01-48]"'
    if re.search(r":\s*[@`%*&!]", line):
        return "; put a value that begins with a punctuation mark in quotes"
    return ""


def _line(node: yaml.Node | None) -> int:
    return node.start_mark.line + 1 if node is not None and node.start_mark else 1


def _key_id(key: yaml.Node) -> str | int:
    return str(key.value) if isinstance(key, yaml.ScalarNode) else id(key)


def _entry(node: yaml.Node | None, step: str | int) -> tuple[yaml.Node | None, yaml.Node | None]:
    if isinstance(node, yaml.MappingNode):
        for key, below in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == step:
                return key, below
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return None, node.value[step]
    return None, None
