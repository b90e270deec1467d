"""A text file that is whole or not there: no reader, at any moment, sees a part of it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


@contextlib.contextmanager
def whole_file(path: Path, mode: int) -> Iterator[TextIO]:
    """Write beside ``path``, put there with ``mode`` when the block ends well; else all stays as it was.

    A symbolic link of that name is replaced, never followed: mkstemp opens with O_EXCL and O_NOFOLLOW, and
    a rename follows no link. Raises OSError.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".draft", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as stream:
            yield stream
            os.fchmod(stream.fileno(), mode)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
