"""The fields of the loader's configuration and where they come from: the command line and CONFIG_FILE.

What a field may hold is in `options`; here is which fields exist, whose value counts, and how a small file is
read without ever waiting for it.
"""

from __future__ import annotations

import difflib
import json
import os
import reprlib
import stat
from collections.abc import Callable, Mapping

_LONGEST_CONFIG_FILE = 4 * 1024 * 1024

GUIDE_FIELDS = (
    "SOURCE",
    "MODEL",
    "LISTEN_PORT",
    "INT8_CACHE",
    "INT8_CACHE_NAME",
    "OUTPUT_PREFIX",
    "CONFIG_FILE",
)
OWN_FIELDS = (
    "FALLBACK",
    "VERIFY",
    "CHAIN",
    "TOKEN",
    "TOKEN_FILE",
    "TRANSPORT",
    "BANDWIDTH_MIB_S",
    "CHUNK_MIB",
    "CONNECT_TIMEOUT",
    "JOIN_TIMEOUT",
    "LINK_TIMEOUT",
    "CHUNK_TIMEOUT",
    "TOTAL_TIMEOUT",
)
FIELDS = GUIDE_FIELDS + OWN_FIELDS

SOURCE_FORM = '[{"device_id": 0, "sources": ["10.0.0.1:19374"]}]'


class FieldReading:
    """One pass over a configuration: collects every problem and note instead of stopping at the first."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []

    def merged(self, inline: Mapping[str, object]) -> dict[str, object]:
        """The fields that count: the file's value wins, inline ones that it lacks stay, null is absent."""
        self._refuse_unknown(inline, "")
        own = {key: value for key, value in inline.items() if value is not None and key in FIELDS}
        path = own.pop("CONFIG_FILE", None)
        if "TOKEN" in own:
            self.notes.append(
                "TOKEN: given on the command line it can be read in the process list and in vLLM's own log "
                "of its arguments; TOKEN_FILE keeps it out of both"
            )
        if path is None:
            return own
        if not isinstance(path, str) or not path:
            self.refuse("CONFIG_FILE", path, "write the path of a JSON file in quotes")
            return own
        filed = self._config_file(path)
        self._tell_of_both(own, filed)
        return {**own, **filed}

    def _config_file(self, path: str) -> dict[str, object]:
        read = self.small_file("CONFIG_FILE", path, _LONGEST_CONFIG_FILE)
        if read is None:
            return {}
        data, mode = read
        try:
            parsed = json.loads(
                data.decode("utf-8-sig"), object_pairs_hook=_without_twins, parse_constant=_no_constant
            )
        except (ValueError, RecursionError) as error:
            why = (
                error.msg + f", line {error.lineno}"
                if isinstance(error, json.JSONDecodeError)
                else str(error)
            )
            self.problems.append(f"CONFIG_FILE: {path} is not valid JSON ({why}); write one JSON object")
            return {}
        if not isinstance(parsed, dict):
            self.problems.append(
                f"CONFIG_FILE: {path} holds a {json_kind(parsed)}; write one JSON object such as "
                f'{{"SOURCE": {SOURCE_FORM}}}'
            )
            return {}
        self._refuse_unknown(parsed, f" (in {path})")
        if "CONFIG_FILE" in parsed:
            self.problems.append(
                f"CONFIG_FILE: {path} names a further CONFIG_FILE; write the fields themselves"
            )
        filed = {
            key: value
            for key, value in parsed.items()
            if value is not None and key in FIELDS and key != "CONFIG_FILE"
        }
        if not parsed:
            self.problems.append(f"CONFIG_FILE: {path} holds no field; write SOURCE there, or leave it out")
        if "TOKEN" in filed and mode & 0o077:
            self.problems.append(f"CONFIG_FILE: {path} holds TOKEN and others can read it; chmod 600 {path}")
        return filed

    def _tell_of_both(self, own: Mapping[str, object], filed: Mapping[str, object]) -> None:
        overruled = [key for key in own if key in filed and own[key] != filed[key]]
        kept = [key for key in own if key not in filed]
        if overruled:
            self.notes.append(f"CONFIG_FILE: its {', '.join(overruled)} is used, the inline one is not")
        if kept:
            self.notes.append(
                f"CONFIG_FILE: the inline {', '.join(kept)} stays in force beside the file, as the guide "
                "has it; vllm-ascend's code takes the file alone and would drop it"
            )

    def _refuse_unknown(self, given: Mapping[str, object], where: str) -> None:
        # The value is not shown: a mistyped TOKEN is a token all the same.
        for key in given:
            if key in FIELDS:
                continue
            if not isinstance(key, str):
                self.problems.append(f"{shown(key)}{where}: not a field; fields are {', '.join(FIELDS)}")
                continue
            near = difflib.get_close_matches(key.upper().replace("-", "_"), FIELDS, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else f"fields are {', '.join(FIELDS)}"
            self.problems.append(f"{shown(key)}{where}: no such field; {hint}")

    def small_file(self, field: str, path: str, longest: int) -> tuple[bytes, int] | None:
        """A small regular file's bytes and permission bits; None where the reason is among the problems."""
        try:
            # Non-blocking: the open of a named pipe would wait for its writer, for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            self.problems.append(f"{field}: {path} cannot be read ({why}); write the path of a file that can")
            return None
        with os.fdopen(descriptor, "rb") as stream:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode):
                self.problems.append(f"{field}: {path} is not a regular file; write the path of one")
                return None
            try:
                data = stream.read(longest + 1)
            except OSError as error:
                self.problems.append(f"{field}: {path} cannot be read ({error.strerror})")
                return None
        if len(data) > longest:
            self.problems.append(
                f"{field}: {path} is longer than {longest} bytes; write the path of the right file"
            )
            return None
        return data, stat.S_IMODE(state.st_mode)

    def refuse(self, field: str, seen: object, wanted: str) -> None:
        self.problems.append(f"{field}: saw {shown(seen)}; {wanted}")


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object's pairs; json itself keeps the last of two and says nothing."""
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {shown(key)} stands twice in one object")
        found[key] = value
    return found


def _no_constant(word: str) -> object:
    raise ValueError(f"{word} is no JSON value")


_JSON_KINDS: tuple[tuple[type, str], ...] = (
    (type(None), "null"),
    (bool, "boolean"),
    (int, "number"),
    (float, "number"),
    (str, "text"),
    (list, "list"),
    (dict, "JSON object"),
)


def json_kind(value: object) -> str:
    return next((word for kind, word in _JSON_KINDS if isinstance(value, kind)), type(value).__name__)


def _short_repr() -> Callable[[object], str]:
    short = reprlib.Repr()
    short.maxstring = short.maxother = 80
    return short.repr


shown = _short_repr()
