"""A rank table as a file: whole or not there, readable by owner and group, never through a symbolic link.

torch_npu refuses a RANK_TABLE_FILE that is a symbolic link.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ascendctl.whole_file import whole_file

MODE = 0o640


class RankTableFileError(Exception):
    """The file cannot be written; the text says where, why and what to do."""


def write_rank_table(text: str, path: Path) -> None:
    """Write the table to ``path``, in one step and with mode 0640 whatever was there. A link is refused.

    Raises RankTableFileError.
    """
    try:
        _refuse_what_is_no_file(path)
        with whole_file(path, MODE) as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise RankTableFileError(
            f"cannot write the rank table to {path}: {error.strerror or error}; name a file in a folder "
            "on this machine that you may write to, with room left"
        ) from error


def _refuse_what_is_no_file(path: Path) -> None:
    """Only a file of ours may be replaced; nothing of a link, a folder or a device may be touched."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise RankTableFileError(
            f"{path} is a symbolic link, which HCCL does not take as RANK_TABLE_FILE; name the file itself"
        )
    if not stat.S_ISREG(mode):
        raise RankTableFileError(f"{path} is there and is no file; name another, or leave --output out")
