"""``ascendctl parse``: read one command's output, wherever it came from."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ascendctl.cli.exits import Refused


def register(app: typer.Typer) -> None:
    """Add ``parse`` to the application."""
    app.command("parse")(parse_output)


def parse_output(
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="What the command printed; - reads standard input.")
    ],
    command: Annotated[
        str,
        typer.Option("--command", metavar="CMD", help="The command line, such as 'hccn_tool -i 3 -link -g'."),
    ],
    exit_code: Annotated[int, typer.Option("--exit-code", metavar="N", help="The command's exit code.")] = 0,
    stderr: Annotated[
        str | None, typer.Option("--stderr", metavar="FILE", help="What it printed on standard error.")
    ] = None,
) -> None:
    """Read one command's output and print its status and facts as JSON.

    The status is one of ok, no-data, unsupported, busy, denied, failed, unparsed; whichever it is, the
    exit code is 0: it was read. Any error text of the tools is told apart, on either stream.
    """
    from ascendctl.parsers import UnknownCommand, facts_json, parse

    try:
        parsed = parse(command, _read(file), _read(stderr) if stderr else b"", exit_code)
    except UnknownCommand as error:
        raise Refused(str(error)) from None
    answer = {
        "command": facts_json(command),
        "status": parsed.status.value,
        "facts": facts_json(parsed.facts),
    }
    if parsed.reason:
        answer["reason"] = facts_json(parsed.reason)
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=True))


def _read(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Refused(
            f"{name!r} cannot be read: {reason}; expected a file, or - for standard input"
        ) from None
