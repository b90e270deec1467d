"""``ascendctl verify``: ask every host, judge, say which part is at fault."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ascendctl.cli.exits import Refused
from ascendctl.cli.interruption import deferred
from ascendctl.cli.options import (
    ConnectTimeoutOption,
    ExcludeOption,
    Format,
    HostsOption,
    HostTimeoutOption,
    InventoryOption,
    LimitFailuresOption,
    MeshOption,
    MeshPartnersOption,
    MeshTimeoutOption,
    PacketsOption,
    ProfileOption,
    QuietOption,
    TagsOption,
)
from ascendctl.cli.outputs import chosen_formats
from ascendctl.facts import Profile
from ascendctl.results import ExitCode, Run, exit_code

if TYPE_CHECKING:
    from ascendctl.inventory import Host, Waiver
    from ascendctl.report.output import ReportFormat
    from ascendctl.second_phase import MeshSettings
    from ascendctl.topology.mesh import MeshMode
    from ascendctl.verify import Settings


def register(app: typer.Typer) -> None:
    """Add the command ``verify``."""
    app.command("verify")(verify)


def verify(
    inventory: InventoryOption = None,
    hosts: HostsOption = None,
    exclude: ExcludeOption = None,
    tags: TagsOption = None,
    local: Annotated[
        bool, typer.Option("--local", help="Verify the very host this runs on, without inventory or SSH.")
    ] = False,
    replay: Annotated[
        Path | None,
        typer.Option("--replay", help="Judge a recording, or outputs of 'probe script'.", metavar="DIR"),
    ] = None,
    record: Annotated[
        Path | None, typer.Option("--record", help="Keep every raw answer in this new folder.", metavar="DIR")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent to which host; connect to none.")
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
            "--formats",
            help="Which reports: json,junit,markdown,prometheus,html,hosts,env (default: all there are).",
            metavar="LIST",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Warnings count as findings (exit code 1).")
    ] = False,
    min_coverage: Annotated[
        float,
        typer.Option("--min-coverage", min=0, max=100, help="Exit code 3 below this percentage looked at."),
    ] = 100.0,
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline", help="Then say what changed since this report or recording.", metavar="REPORT"
        ),
    ] = None,
    quiet: QuietOption = False,
    width: Annotated[
        int | None,
        typer.Option(
            "--width", min=1, max=1024, help="Hosts asked at the same time, silent ones not counted."
        ),
    ] = None,
    connect_timeout: ConnectTimeoutOption = 10.0,
    host_timeout: HostTimeoutOption = 300.0,
    limit_failures: LimitFailuresOption = None,
    deadline: Annotated[
        float | None, typer.Option("--deadline", min=1, help="Seconds for the whole run.")
    ] = None,
    profile: ProfileOption = None,
    mesh: MeshOption = None,
    mesh_partners: MeshPartnersOption = None,
    packets: PacketsOption = None,
    mesh_timeout: MeshTimeoutOption = None,
) -> None:
    """Ask every host what the multi-node guide says to check, have them ping each other, judge the answers.

    Exit codes: 0 fit; 1 found wrong; 2 usage or inventory; 3 not enough could be looked at;
    4 internal error; 130 interrupted (what was learned is still reported).
    """
    _check_combination(
        inventory=inventory,
        local=local,
        replay=replay,
        record=record,
        dry_run=dry_run,
        selected=bool(hosts or exclude or tags),
        format=format,
        output=output,
        formats=formats,
        pings=[mesh, mesh_partners, packets, mesh_timeout],
    )
    wanted = _prepared(output, formats) if output else ()
    from ascendctl.transport.contract import Deadlines
    from ascendctl.transport.fanout import DEFAULT_WIDTH
    from ascendctl.verify import Settings

    known = _baseline(baseline) if baseline else None
    logins: dict[str, str] = {}
    if replay:
        run = _replay(replay, inventory, hosts, exclude, tags or [], profile)
    else:
        chosen, waivers = _local_host() if local else _chosen(inventory, hosts, exclude, tags or [])
        pinging = _mesh_settings(mesh, mesh_partners, packets, mesh_timeout)
        if dry_run:
            _print_plan(chosen, profile or Profile.STANDARD)
            _print_mesh_plan(chosen, pinging)
            return
        settings = Settings(
            deadlines=Deadlines(connect_s=connect_timeout, host_s=host_timeout, run_s=deadline),
            width=width or DEFAULT_WIDTH,
            limit_failures=limit_failures,
            profile=profile or Profile.STANDARD,
            mesh=pinging,
        )
        run = ask_and_judge(chosen, waivers, settings, local=local, quiet=quiet, record=record)
        logins = {} if local else {host.name: host.endpoint.address for host in chosen}
    code = exit_code(
        run.results, strict=strict, min_coverage_percent=min_coverage, interrupted=run.interrupted
    )
    problem = _written(run, code, output, wanted, strict=strict, ssh_addresses=logins) if output else ""
    print_run(run, format, strict=strict, code=code, can_ask_again=not (local or replay))
    if known:
        from ascendctl.cli.diff import print_against_baseline

        stream = sys.stderr if format is Format.JSON else sys.stdout
        print_against_baseline(known, run, stream, selected=bool(hosts or exclude or tags or local))
    if problem:
        print(f"ascendctl: {problem}", file=sys.stderr)
        code = ExitCode.INTERRUPTED if run.interrupted else ExitCode.USAGE
    raise typer.Exit(code)


def ask_and_judge(
    hosts: Sequence[Host],
    waivers: Sequence[Waiver],
    settings: Settings,
    *,
    local: bool = False,
    quiet: bool = False,
    record: Path | None = None,
) -> Run:
    """The live run: ask with progress on standard error, in both phases, record where asked, judge."""
    import time

    from ascendctl.cli.asking import gather_live
    from ascendctl.probe.bundle import Recorder, RecordingError
    from ascendctl.verify import judge, now

    started_at, started = now()
    try:
        recorder = Recorder(record, waivers, started_at, settings.profile) if record else None
    except RecordingError as error:
        raise Refused(str(error)) from error
    run_s = settings.deadlines.run_s
    gathered = gather_live(
        hosts,
        settings,
        local=local,
        quiet=quiet,
        recorder=recorder,
        mesh=True,
        until_s=None if run_s is None else started + run_s,
    )
    with deferred("judging what was learned; interrupt again to throw it away") as interruption:
        if recorder:
            recorder.finish(gathered.records, gathered.mesh.asked)
            if recorder.problem:
                print(f"ascendctl: {recorder.problem}", file=sys.stderr)
        run = judge(
            gathered,
            waivers,
            started_at=started_at,
            duration_s=time.monotonic() - started,
            profile=settings.profile,
        )
    return dataclasses.replace(run, interrupted=gathered.interrupted or interruption.came)


def print_run(run: Run, format: Format, *, strict: bool, code: ExitCode, can_ask_again: bool = True) -> None:
    """The result on standard output, in the format asked for."""
    if format is Format.JSON:
        from ascendctl.report.json_report import write_json

        write_json(run, code, sys.stdout)
        return
    from rich.console import Console

    from ascendctl.report.terminal import render_summary

    render_summary(run, Console(), strict=strict, exit_code=code, can_ask_again=can_ask_again)


def _prepared(output: Path, formats: str | None) -> Sequence[ReportFormat]:
    from ascendctl.report.output import available_formats

    return chosen_formats(output, formats, available_formats())


def _written(
    run: Run,
    code: ExitCode,
    output: Path,
    formats: Sequence[ReportFormat],
    *,
    strict: bool,
    ssh_addresses: Mapping[str, str],
) -> str:
    """Write the reports; why that could not be done, or nothing."""
    from ascendctl.report.output import OutputError, write_reports

    try:
        write_reports(run, code, output, formats, strict=strict, ssh_addresses=ssh_addresses)
    except OutputError as error:
        return str(error)
    return ""


def _check_combination(
    *,
    inventory: Path | None,
    local: bool,
    replay: Path | None,
    record: Path | None,
    dry_run: bool,
    selected: bool,
    format: Format,
    output: Path | None,
    formats: str | None,
    pings: Sequence[object],
) -> None:
    if not (inventory or local or replay):
        raise Refused("name what to verify: --inventory FILE, or --local for this host, or --replay DIR")
    if local and (inventory or replay):
        raise Refused("--local verifies this very host; it goes with neither --inventory nor --replay")
    if dry_run and format is Format.JSON:
        raise Refused("--dry-run prints the script that would be sent; it has no JSON form")
    if dry_run and output:
        raise Refused("--dry-run asks no host, so there is nothing for --output to report")
    if formats is not None and not output:
        raise Refused("--formats says what --output writes; name the folder with --output DIR")
    if local and selected:
        raise Refused(
            "--local verifies this very host; --hosts, --exclude and --tags select from an inventory"
        )
    if replay and any(option is not None for option in pings):
        raise Refused(
            "--replay judges the pings that were recorded; --mesh, --mesh-partners, --packets and"
            " --mesh-timeout are for asking anew"
        )
    if replay and (record or dry_run):
        raise Refused("--replay asks no host, so there is nothing for --record or --dry-run to do")


def _mesh_settings(
    mode: MeshMode | None, partners: int | None, packets: int | None, timeout_s: int | None
) -> MeshSettings:
    from ascendctl.second_phase import MeshSettings

    given = {"partners": partners, "packets": packets, "timeout_s": timeout_s}
    return MeshSettings(mode, **{name: value for name, value in given.items() if value is not None})


def _print_mesh_plan(hosts: Sequence[Host], settings: MeshSettings) -> None:
    if settings.mode is not None and settings.mode.value == "off":
        print("# Then nothing: --mesh off.")
    elif len(hosts) < 2:
        print("# Then nothing: there is no other host to be pinged.")
    else:
        print(
            "# Then, over a connection of its own, a second script per host: pings of devices of other hosts"
        )
        print("# (hccn_tool -ping and -hccs_ping, light-traffic). Who pings whom is planned when the answers")
        print("# to the first have told the addresses; verify prints that plan before it is carried out.")


def _chosen(
    path: Path | None, hosts: str | None, exclude: str | None, tags: list[str]
) -> tuple[Sequence[Host], Sequence[Waiver]]:
    from ascendctl.cli.asking import load_inventory
    from ascendctl.inventory import select

    assert path is not None
    loaded = load_inventory(path)
    return select(loaded, hosts, exclude, tags), loaded.waivers


def _baseline(path: Path) -> Run:
    from ascendctl.cli.diff import read_run

    return read_run(path)


def _local_host() -> tuple[Sequence[Host], Sequence[Waiver]]:
    from ascendctl.cli.asking import this_host

    return [this_host()], []


def _replay(
    directory: Path,
    inventory: Path | None,
    hosts: str | None,
    exclude: str | None,
    tags: list[str],
    profile: Profile | None,
) -> Run:
    from ascendctl.cli.asking import read_recording
    from ascendctl.verify import replay

    recording, chosen = read_recording(directory, inventory, hosts, exclude, tags)
    if profile is Profile.DEEP and recording.profile is not Profile.DEEP:
        raise Refused(
            f"--profile deep: the hosts of {directory} were not asked all of it; replay it without"
            " --profile, or ask anew with --profile deep"
        )
    return replay(dataclasses.replace(recording, profile=profile or recording.profile), only=chosen)


def _print_plan(hosts: Sequence[Host], profile: Profile) -> None:
    """Per host, exactly what would be sent; hosts that are sent the same bytes are named together."""
    from ascendctl.inventory import fold
    from ascendctl.verify import plan_jobs

    by_script: dict[bytes, list[Host]] = {}
    for host, job in zip(hosts, plan_jobs(hosts, "0" * 32, profile), strict=True):
        by_script.setdefault(job.script, []).append(host)
    for script, same in by_script.items():
        print(
            f"# To {fold([host.name for host in same])}"
            f" ({len(same)} {'host' if len(same) == 1 else 'hosts'}):"
        )
        for host in same:
            endpoint = host.endpoint
            user = f"{endpoint.user}@" if endpoint.user else ""
            port = f" port {endpoint.port}" if endpoint.port else ""
            via = f" through {endpoint.jump.name}" if endpoint.jump else ""
            print(
                f"#   {host.name}: ssh {user}{endpoint.address}{port}{via}, privilege {host.privilege.value}"
            )
        print(
            "# On standard input of '/bin/sh -s', in one connection and one exec. The long number is new in"
        )
        print("# every run. The comment behind each command is its impact on the host.")
        sys.stdout.write(script.decode())
        print()
