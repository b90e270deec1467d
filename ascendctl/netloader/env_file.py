"""A file of environment variables, one ``NAME=VALUE`` a line: where secrets are kept off command lines."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST_BYTES = 1 << 20


class EnvFileError(Exception):
    """Its text says where and what; no value is in it."""


def read_env_file(path: Path) -> tuple[tuple[str, str], ...]:
    """The variables in their order, a later one in place of an earlier.

    As ``docker run --env-file`` reads it: empty lines and ``#`` lines are left out, a value is taken as it
    stands. ``export NAME=VALUE`` is understood, too. Raises EnvFileError.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_LONGEST_BYTES + 1)
    except OSError as error:
        raise EnvFileError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) > _LONGEST_BYTES:
        raise EnvFileError(f"{path} is over {_LONGEST_BYTES >> 10} KiB, so it is no file of variables")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise EnvFileError(f"{path} is not in UTF-8") from None
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, equals, value = stripped.removeprefix("export ").lstrip().partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise EnvFileError(f"{path}:{number}: expected NAME=VALUE")
        if "\0" in value:
            raise EnvFileError(f"{path}:{number}: the value of {name} holds a NUL byte")
        found[name] = value
    return tuple(found.items())
