"""``ascendctl consistency-test``: does every candidate server answer exactly as the reference?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ascendctl.cli.exits import Refused
from ascendctl.cli.interruption import deferred
from ascendctl.cli.options import ConnectTimeoutOption, Format, QuietOption
from ascendctl.cli.outputs import chosen_formats
from ascendctl.results import ExitCode, exit_code

if TYPE_CHECKING:
    from ascendctl.consistency.prompts import Prompt
    from ascendctl.consistency.servers import Server
    from ascendctl.consistency.verdicts import ConsistencyRun
    from ascendctl.netloader.runs import Standing
    from ascendctl.report.consistency_output import ConsistencyFormat


def register(app: typer.Typer) -> None:
    """Add the command ``consistency-test``."""
    app.command("consistency-test")(consistency_test)


def _print_schema(wanted: bool) -> None:
    if not wanted:
        return
    import json

    from ascendctl.report.consistency_json import schema

    print(json.dumps(schema(), indent=2))
    raise typer.Exit


def consistency_test(
    reference: Annotated[
        str,
        typer.Option("--reference", "-r", help="The server whose answers are right.", metavar="URL|NAME"),
    ],
    candidate: Annotated[
        list[str],
        typer.Option(
            "--candidate", "-c", help="A server to compare with it (repeatable).", metavar="URL|NAME"
        ),
    ],
    inventory: Annotated[
        Path | None,
        typer.Option(
            "--inventory",
            "-i",
            help="Where instances of 'netloader' are looked for by NAME, or NAME/INSTANCE.",
            metavar="FILE",
        ),
    ] = None,
    root: Annotated[
        str | None,
        typer.Option(
            "--root", help="Folder of deployments on the hosts, as given to 'netloader'.", metavar="DIR"
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts", help="Ask these (YAML, JSON Lines, or text) in place of 52.", metavar="FILE"
        ),
    ] = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, max=100_000, help="Tokens to generate per prompt.")
    ] = 64,
    concurrency: Annotated[
        int,
        typer.Option(
            "--concurrency", min=1, max=1024, help="Above 1: also ask so many at a time, in a second round."
        ),
    ] = 1,
    model: Annotated[
        str | None,
        typer.Option("--model", help="The model's served name (default: the first listed).", metavar="NAME"),
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option("--api-key-env", help="Environment variable with the API key.", metavar="VAR"),
    ] = None,
    api_key_command: Annotated[
        str | None,
        typer.Option("--api-key-command", help="Command that prints the API key.", metavar="CMD"),
    ] = None,
    weight_digests: Annotated[
        bool,
        typer.Option(
            "--weight-digests", help="Also compare SHA-256 of all weights (vLLM 0.32; disturbs serving)."
        ),
    ] = False,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="What to print on standard output.")
    ] = Format.TABLE,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Also write reports as files into this folder.", metavar="DIR"),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            "--formats", help="Which reports: json,junit,markdown,html (default: all).", metavar="LIST"
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Warnings, numerically close too, count as findings (exit 1).")
    ] = False,
    min_coverage: Annotated[
        float,
        typer.Option("--min-coverage", min=0, max=100, help="Exit code 3 below this percentage looked at."),
    ] = 100.0,
    quiet: QuietOption = False,
    connect_timeout: ConnectTimeoutOption = 10.0,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds for one answer.")] = 300.0,
    deadline: Annotated[
        float | None, typer.Option("--deadline", min=1, help="Seconds for the whole run.")
    ] = None,
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
    """Ask all servers the same prompts at temperature 0 and compare tokens and logprobs exactly.

    The reference is first compared with itself: what it does not repeat is the noise floor.

    Exit codes: 0 identical, or numerically close (1 with --strict); 1 different; 2 usage; 3 a server could
    not be asked, or not enough could be proven; 4 internal error; 130 interrupted (what was compared until
    then is still reported).
    """
    del schema
    servers = _servers(reference, candidate, inventory, root, connect_timeout)
    wanted = _prepared(output, formats)
    asked = prompts_of(prompts)
    key = api_key(api_key_env, api_key_command)

    from ascendctl.consistency.asking import Limits
    from ascendctl.consistency.comparing import compare_servers
    from ascendctl.report.consistency_progress import AskingProgress

    with (
        deferred("stopping; interrupt again to throw away what was learned") as interruption,
        AskingProgress(quiet=quiet) as progress,
    ):
        run = compare_servers(
            servers[0],
            servers[1:],
            asked,
            progress,
            max_tokens=max_tokens,
            concurrency=concurrency,
            model=model,
            limits=Limits(connect_s=connect_timeout, request_s=timeout, run_s=deadline),
            api_key=key,
            digests=weight_digests,
            stopping=lambda: interruption.came,
        )
    code = exit_code(
        run.results, strict=strict, min_coverage_percent=min_coverage, interrupted=run.interrupted
    )
    problem = _written(run, code, output, wanted, strict=strict) if output else ""
    _print(run, format, code)
    if problem:
        print(f"ascendctl: {problem}", file=sys.stderr)
        code = ExitCode.INTERRUPTED if run.interrupted else ExitCode.USAGE
    raise typer.Exit(code)


def _servers(
    reference: str, candidates: Sequence[str], inventory: Path | None, root: str | None, connect_s: float
) -> list[Server]:
    """The reference, then the candidates; names are looked up on the inventory's hosts. Raises Refused."""
    from ascendctl.netloader.naming import candidates_of, may_be_a_name, reference_of

    standings: Sequence[Standing] = ()
    named = [text for text in (reference, *candidates) if may_be_a_name(text)]
    if inventory is not None and named:
        standings = _standings(inventory, root, connect_s)
    else:
        named = []  # a bare host name is a server's address
    first = (
        [_server_of(reference_of(reference, standings))]
        if reference in named
        else [_server_at("--reference", reference)]
    )
    servers = list(first)
    for text in candidates:
        found = (
            [_server_of(one) for one in candidates_of(text, standings, first[0].url)]
            if text in named
            else [_server_at("--candidate", text)]
        )
        for server in found:
            if any(server.url == other.url for other in servers):
                raise Refused(
                    f"--candidate: {server.name} is named twice; a server is not compared with itself"
                )
            servers.append(server)
    return servers


def _server_at(option: str, text: str) -> Server:
    from ascendctl.consistency.servers import AddressError, server_at

    try:
        return server_at(text)
    except AddressError as error:
        raise Refused(f"{option}: {error}") from error


def _server_of(one: Standing) -> Server:
    from ascendctl.consistency.servers import instance_at

    return instance_at(one.seen.instance, one.url)


def _standings(inventory: Path, root: str | None, connect_s: float) -> Sequence[Standing]:
    """What stands on the inventory's hosts; those that could not be asked are told on standard error."""
    from ascendctl.cli.asking import load_inventory
    from ascendctl.cli.fleets import fleet_of
    from ascendctl.netloader.standing import stand

    hosts = load_inventory(inventory).hosts
    with fleet_of(hosts, root, connect_s, patient=False) as (fleet, _):
        run = stand(fleet, [host.name for host in hosts])
    if run.interrupted:
        raise KeyboardInterrupt
    for host, reason in run.unasked:
        print(f"ascendctl: {host}: {reason}", file=sys.stderr)
    return run.standings


def prompts_of(path: Path | None, named: str = "--prompts") -> tuple[Prompt, ...]:
    """Those of a file, else the built-in ones. ``named``: what names the file. Raises Refused."""
    from ascendctl.consistency.prompts import PromptsError, builtin_prompts, read_prompts

    if path is None:
        return builtin_prompts()
    try:
        return read_prompts(path)
    except PromptsError as error:
        raise Refused(f"{named}: {error}") from error


def api_key(variable: str | None, command: str | None) -> str:
    """The key, or nothing where none is named; from where passwords of hosts come from, and as careful.

    Raises Refused.
    """
    if variable is None and command is None:
        return ""
    if variable is not None and command is not None:
        raise Refused("--api-key-env and --api-key-command both name the key: give one of them")
    import shlex

    from ascendctl.inventory import Endpoint, PasswordSource
    from ascendctl.transport.passwords import PasswordError, resolve_passwords

    try:
        argv = tuple(shlex.split(command)) if command is not None else ()
    except ValueError as error:
        raise Refused(f"--api-key-command: {error}") from error
    if command is not None and not argv:
        raise Refused("--api-key-command is empty")
    api = Endpoint("the servers' API", "", password=PasswordSource(env=variable, command=argv))
    try:
        key = resolve_passwords([api]).of(api) or ""
    except PasswordError as error:
        raise Refused(str(error)) from error
    if not (key.isascii() and key.isprintable()):
        raise Refused("the API key holds characters that no HTTP header may: is it the right one?")
    return key


def _prepared(output: Path | None, formats: str | None) -> Sequence[ConsistencyFormat]:
    if output is None:
        if formats is not None:
            raise Refused("--formats says what --output writes; name the folder with --output DIR")
        return ()
    from ascendctl.report.consistency_output import ConsistencyFormat

    return chosen_formats(output, formats, ConsistencyFormat)


def _written(
    run: ConsistencyRun,
    code: ExitCode,
    output: Path,
    formats: Sequence[ConsistencyFormat],
    *,
    strict: bool,
) -> str:
    """Write the reports; why that could not be done, or nothing."""
    from ascendctl.report.consistency_output import write_consistency_reports
    from ascendctl.report.output import OutputError

    try:
        write_consistency_reports(run, code, output, formats, strict=strict)
    except OutputError as error:
        return str(error)
    return ""


def _print(run: ConsistencyRun, format: Format, code: ExitCode) -> None:
    if format is Format.JSON:
        from ascendctl.report.consistency_json import write_consistency_json

        write_consistency_json(run, code, sys.stdout)
        return
    from rich.console import Console

    from ascendctl.report.consistency_text import render_consistency

    render_consistency(run, Console(), exit_code=code)
