"""What the YAML files that people write for ascendctl have in common: how they are read, and how it is said
what is wrong with them."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ascendctl.inventory.document import Document, Problem, describe, plain_word, printable
from ascendctl.inventory.nodesets import near_misses

LARGEST_FILE_BYTES = 4 * 1024 * 1024


class UnreadableError(Exception):
    """The file cannot be read as text; the message says which, where and why."""


def read_text(path: Path, what: str) -> str:
    """The text of the file; also of a pipe, so that a decrypting program can feed it.

    ``what`` it is meant to be: ``an inventory``. Raises UnreadableError.
    """
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            raise UnreadableError(f"{path}: is a folder; give the file in it that is {what}")
        with path.open("rb") as stream:
            content = stream.read(LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        raise UnreadableError(f"{path}: there is no such file; give the path of {what}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnreadableError(f"{path}: cannot be read: {reason}") from None
    if len(content) > LARGEST_FILE_BYTES:
        raise UnreadableError(f"{path}: is larger than {LARGEST_FILE_BYTES >> 20} MiB; is it {what}?")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableError(f"{path}:{line}: is not UTF-8 text; save the file as UTF-8") from None


def sentences(path: Path, problems: Sequence[Problem]) -> list[str]:
    """Each problem once, with file, line and YAML path, in the order of the lines."""
    found = []
    for problem in sorted(problems):
        place = f"{path}:{problem.line}" if problem.line else str(path)
        where = f"{problem.path}: " if problem.path else ""
        found.append(f"{place}: {where}{problem.message}")
    # a block that several aliases share is wrong once
    return list(dict.fromkeys(found))


_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number, written without quotes",
    "float_type": "a number, written without quotes",
    "finite_number": "a number",
    "bool_type": "true or false",
    "list_type": "a list, such as [first, second]",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "too_short": "a list that is not empty",
    "too_long": "a shorter list",
}


def expected(kind: str, context: Mapping[str, Any] | None = None) -> str:
    """What was expected where pydantic found an error of this kind, for "expected …, found …"."""
    bounds = context or {}
    if kind == "greater_than_equal":
        return f"a number of {bounds.get('ge')} or more"
    if kind == "less_than_equal":
        return f"a number of {bounds.get('le')} or less"
    return _EXPECTED.get(kind, "something else")


def one_of(words: Sequence[str]) -> str:
    """``a, b or c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def choices(context: Mapping[str, Any]) -> list[str]:
    """The words that pydantic would have taken, of a ``literal_error``."""
    return [word.strip("'\" ") for word in str(context["expected"]).replace(" or ", ", ").split(",")]


def unknown_key(key: str, known: Sequence[str]) -> str:
    """What to say of a key that is none of the known ones."""
    near = near_misses(key, known)
    return f"unknown key `{printable(key)}`{near or '; known here: ' + ', '.join(known)}"


def found_text(document: Document, kind: str, path: Sequence[str | int]) -> str:
    """What stands there, for "expected …, found …"."""
    node = document.node_at(path)
    found = describe(node)
    if kind == "string_type" and plain_word(node):
        return f"{found}; put it in quotes if it is meant as text"
    return found
