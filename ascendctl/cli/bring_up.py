"""``ascendctl bring-up``: verify, serve, join, compare, by one plan and in one report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ascendctl.cli.exits import Refused
from ascendctl.cli.fleets import fleet_of
from ascendctl.cli.netloader import (
    DryRunOption,
    FormatOption,
    GateOption,
    InventoryFile,
    ReadyTimeoutOption,
    RootOption,
    StrictOption,
)
from ascendctl.cli.options import ConnectTimeoutOption, Format, HostTimeoutOption, QuietOption
from ascendctl.results import ExitCode

if TYPE_CHECKING:
    from ascendctl.bring_up import BringUpRun, Goal, Manner, Questions
    from ascendctl.bring_up_plan import BringUpPlan
    from ascendctl.netloader.fleet import Fleet
    from ascendctl.report.bring_up_progress import StepProgress


def register(app: typer.Typer) -> None:
    """Add the command ``bring-up``."""
    app.command("bring-up")(bring_up)


def _print_plan_schema(wanted: bool) -> None:
    if wanted:
        from ascendctl.bring_up_plan import plan_schema

        _print_json(plan_schema())


def _print_report_schema(wanted: bool) -> None:
    if wanted:
        from ascendctl.report.bring_up_json import schema

        _print_json(schema())


def _print_json(content: object) -> None:
    import json

    print(json.dumps(content, indent=2))
    raise typer.Exit


def bring_up(
    inventory: InventoryFile,
    plan: Annotated[
        Path, typer.Option("--plan", "-p", help="What is to serve where, and who joins.", metavar="FILE")
    ],
    dry_run: DryRunOption = False,
    gate: GateOption = True,
    ready_timeout: ReadyTimeoutOption = 1800.0,
    root: RootOption = None,
    format: FormatOption = Format.TABLE,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Also write reports as files into this folder.", metavar="DIR"),
    ] = None,
    strict: StrictOption = False,
    quiet: QuietOption = False,
    connect_timeout: ConnectTimeoutOption = 10.0,
    host_timeout: HostTimeoutOption = 300.0,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema",
            help="Print the JSON Schema of the plan file and stop.",
            is_eager=True,
            callback=_print_plan_schema,
        ),
    ] = False,
    report_schema: Annotated[
        bool,
        typer.Option(
            "--report-schema",
            help="Print the JSON Schema of --format json and stop.",
            is_eager=True,
            callback=_print_report_schema,
        ),
    ] = False,
) -> None:
    """Verify the plan's hosts, start the seed, let the joiners take its weights, and compare their answers.

    Each step is a gate: where one does not pass, the way ends there; what was learned is reported, and what
    was started runs on. The same call again starts nothing that runs. bring-up.example.yaml is a plan.

    Exit codes: 0 all steps of the plan passed; 1 one found something wrong; 2 usage, inventory or plan; 3 not
    all of it is proven, or a host was not reached; 4 internal error; 130 interrupted. Of several the first of
    130, 2, 4, 1, 3.
    """
    del schema, report_schema
    if dry_run and (format is Format.JSON or output):
        raise Refused("--dry-run prints commands and who joins whom; it has no JSON form and no report")
    goal = _goal(plan, inventory)
    if output:
        _prepare(output)

    from ascendctl.bring_up import bring_up as go
    from ascendctl.report.bring_up_progress import StepProgress

    manner = _manner(connect_timeout, host_timeout, ready_timeout, gate, strict)
    audience = StepProgress(quiet=quiet)
    with fleet_of(goal.hosts, root, connect_timeout) as (fleet, interruption):
        if dry_run:
            _rehearse(goal, fleet, audience, manner, root)
            raise typer.Exit(ExitCode.INTERRUPTED if interruption.came else ExitCode.OK)
        run = go(goal, fleet, audience, manner, interrupted=lambda: interruption.came)
    problem = _written(run, output) if output else ""
    stop = ["ascendctl", "netloader", "stop", goal.plan.name, "-i", str(inventory)]
    _print(run, format, strict, shlex.join([*stop, *(["--root", root] if root else [])]))
    code = run.exit_code
    if problem:
        print(f"ascendctl: {problem}", file=sys.stderr)
        code = ExitCode.INTERRUPTED if run.interrupted else ExitCode.USAGE
    raise typer.Exit(code)


# Options in -----------------------------------------------------------------------------------------------


def _goal(path: Path, inventory: Path) -> Goal:
    """The plan on the inventory; all files that it names are read. Raises PlanError, Refused."""
    from ascendctl.bring_up import goal_of
    from ascendctl.bring_up_plan import load_plan
    from ascendctl.cli.asking import load_inventory
    from ascendctl.netloader.env_file import EnvFileError, read_env_file

    plan = load_plan(path)
    loaded = load_inventory(inventory)
    try:
        environment = read_env_file(plan.env_file) if plan.env_file else ()
    except EnvFileError as error:
        raise Refused(f"{plan.place('env_file')}: env_file: {error}") from error
    return goal_of(plan, loaded, environment, _questions(plan))


def _questions(plan: BringUpPlan) -> Questions | None:
    from ascendctl.bring_up import Questions
    from ascendctl.cli.consistency_test import api_key, prompts_of

    wanted = plan.consistency
    if wanted is None:
        return None
    where = f"{plan.place('consistency', 'prompts')}: consistency.prompts"
    prompts = prompts_of(wanted.prompts, where)
    return Questions(prompts, wanted.max_tokens, wanted.concurrency, api_key(wanted.api_key_env, None))


def _manner(connect_s: float, host_s: float, ready_s: float, gate: bool, strict: bool) -> Manner:
    from ascendctl.bring_up import Manner
    from ascendctl.consistency.asking import Limits as Asking
    from ascendctl.netloader.bringing_up import Limits
    from ascendctl.transport.contract import Deadlines
    from ascendctl.verify import Settings

    return Manner(
        Settings(deadlines=Deadlines(connect_s=connect_s, host_s=host_s)),
        Limits(ready_s=ready_s),
        Asking(connect_s=connect_s),
        gate,
        strict,
    )


def _prepare(output: Path) -> None:
    from ascendctl.report.output import OutputError, prepare_output

    try:
        prepare_output(output)
    except OutputError as error:
        raise Refused(str(error)) from error


# Reports out ----------------------------------------------------------------------------------------------


def _rehearse(goal: Goal, fleet: Fleet, audience: StepProgress, manner: Manner, root: str | None) -> None:
    """Print what every host would get, and who would take from whom; nothing is started."""
    from rich.console import Console

    from ascendctl.bring_up import rehearse
    from ascendctl.report.bring_up_text import render_rehearsal
    from ascendctl.report.netloader_commands import write_commands
    from ascendctl.report.printable import shown

    made = rehearse(goal, fleet, audience, manner)
    render_rehearsal(made, Console())
    print()
    both = [one for one in (made.serve, made.join) if one is not None]
    for prepared in both:
        write_commands(prepared, sys.stdout, root=root)
    said = [*made.survey.warnings, *(text for one in both for text in (*one.warnings, *one.notes))]
    for text in dict.fromkeys(said):
        print(f"ascendctl: {shown(text)}", file=sys.stderr)


def _written(run: BringUpRun, output: Path) -> str:
    """Write the reports; why that could not be done, or nothing."""
    from ascendctl.report.bring_up_json import write_bring_up_reports
    from ascendctl.report.output import OutputError

    try:
        write_bring_up_reports(run, output)
    except OutputError as error:
        return str(error)
    return ""


def _print(run: BringUpRun, format: Format, strict: bool, stop_command: str) -> None:
    if format is Format.JSON:
        from ascendctl.report.bring_up_json import write_bring_up_json

        write_bring_up_json(run, sys.stdout)
        return
    from rich.console import Console

    from ascendctl.report.bring_up_text import render_bring_up

    render_bring_up(run, Console(), strict=strict, stop_command=stop_command)
