"""``ascendctl diff``: what changed between two runs of verify."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from ascendctl.cli.exits import Refused
from ascendctl.cli.options import Format

if TYPE_CHECKING:
    from ascendctl.results import Run


def register(app: typer.Typer) -> None:
    """Add the command ``diff``."""
    app.command("diff")(diff)


def _print_schema(wanted: bool) -> None:
    if not wanted:
        return
    import json

    from ascendctl.report.difference_json import schema

    print(json.dumps(schema(), indent=2))
    raise typer.Exit


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A JSON report, or a recording's folder.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The later one, of either form.")],
    format: Annotated[
        Format, typer.Option("--format", "-f", help="What to print on standard output.")
    ] = Format.TABLE,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="New warnings, and corrected errors counted, lead to exit code 1."),
    ] = False,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema",
            help="Print the JSON Schema of --format json and stop.",
            is_eager=True,
            callback=_print_schema,
        ),
    ] = False,
) -> None:
    """Say what is new, cleared, changed or no longer looked at between two runs of verify.

    A finding counts as cleared only where the newer run looked again and found it well.

    Error counters that both runs read are compared: how often a link went down, damaged packets, memory and
    HCCS errors. One that grew counts as a new failure; one of errors that the hardware corrected or repeated
    (single-bit ECC, retries, packets out of order) as a new warning. After a restart of the counters, what
    they show is what was counted since; a link that came up once is no error.

    Exit codes: 0 nothing got worse; 1 something fails that did not before, or an error counter grew
    (--strict: or something warns, or a counter of corrected errors grew); 2 OLD or NEW cannot be read;
    3 something is not looked at that was before, or that is new; 4 ascendctl itself newly failed on a
    cell; 130 NEW was interrupted.
    """
    del schema
    from ascendctl.report.difference import compare

    older, newer = read_run(old), read_run(new)
    if newer.started_at < older.started_at:
        print(
            f"ascendctl: {new} was made before {old}; OLD comes first, are they the wrong way round?",
            file=sys.stderr,
        )
    difference = compare(older, newer)
    code = difference.exit_code(strict=strict)
    if format is Format.JSON:
        from ascendctl.report.difference_json import write_difference

        write_difference(difference, code, sys.stdout)
    else:
        from rich.console import Console

        from ascendctl.report.difference_text import render_difference

        render_difference(difference, Console(), exit_code=code)
    raise typer.Exit(code)


def read_run(path: Path) -> Run:
    """The run that a JSON report tells of, or that a recording gives when it is judged now.

    Raises Refused where it is neither.
    """
    if path.is_dir():
        from ascendctl.probe.bundle import RecordingError, load
        from ascendctl.verify import replay

        try:
            recording = load(path)
        except RecordingError as error:
            raise Refused(str(error)) from error
        if recording.ignored:
            print(f"ascendctl: not outputs, ignored: {', '.join(recording.ignored)}", file=sys.stderr)
        return replay(recording)
    from ascendctl.report.model import ReportError, read_report

    try:
        return read_report(path)
    except ReportError as error:
        raise Refused(str(error)) from error


def print_against_baseline(baseline: Run, run: Run, stream: TextIO, *, selected: bool) -> None:
    """What changed against a baseline, and which findings were known from it.

    ``selected``: only some hosts were asked, and what the baseline says of others is no matter here.
    """
    from rich.console import Console

    from ascendctl.checks.contract import ClusterCheck
    from ascendctl.checks.registry import BY_ID
    from ascendctl.report.difference import compare, limited_to
    from ascendctl.report.difference_text import render_difference

    between = [name for name, check in BY_ID.items() if isinstance(check, ClusterCheck)]
    old = limited_to(baseline, [note.name for note in run.hosts], between) if selected else baseline
    difference = compare(old, run)
    console = Console(file=stream)
    console.print()
    render_difference(difference, console, exit_code=difference.exit_code())
