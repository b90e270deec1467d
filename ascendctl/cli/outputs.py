"""``--output`` and ``--formats``, alike for every command that writes reports into a folder."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import TypeVar

from ascendctl.cli.exits import Refused

F = TypeVar("F", bound=Enum)


def chosen_formats(output: Path, formats: str | None, available: Iterable[F]) -> list[F]:
    """The formats to write (``formats`` None: all), once it is sure that the folder may be written to.

    Raises Refused.
    """
    from ascendctl.report.output import OutputError, prepare_output

    by_name = {str(one.value): one for one in available}
    names = [name.strip() for name in formats.split(",")] if formats is not None else list(by_name)
    for name in names:
        if name not in by_name:
            raise Refused(f"--formats: {name!r} is none of {', '.join(by_name)}")
    try:
        prepare_output(output)
    except OutputError as error:
        raise Refused(str(error)) from error
    return [by_name[name] for name in names]
