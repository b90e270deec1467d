"""``ascendctl netloader``: start instances, let new ones take weights from running ones, look, end them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ascendctl.cli.exits import Refused
from ascendctl.cli.fleets import fleet_of, noted
from ascendctl.cli.options import (
    ConnectTimeoutOption,
    ExcludeOption,
    Format,
    HostTimeoutOption,
    QuietOption,
    TagsOption,
)
from ascendctl.results import ExitCode

if TYPE_CHECKING:
    from ascendctl.deploy import Prepared
    from ascendctl.engine_hosts import Survey
    from ascendctl.inventory import Host, Inventory
    from ascendctl.netloader.fleet import Fleet
    from ascendctl.netloader.runs import NetloaderRun


class EngineKind(str, Enum):  # as in ascendctl.netloader.plan, which is loaded only when it is needed
    ASCEND = "vllm-ascend"
    OWN = "ascendctl"


class Bind(str, Enum):
    ALL = "all"
    ADDRESS = "address"


InventoryFile = Annotated[Path, typer.Option("--inventory", "-i", help="Inventory file.", metavar="FILE")]
HostsHere = Annotated[
    str, typer.Option("--hosts", "-w", help="Where: one instance on each.", metavar="NODESET")
]
HostsMaybe = Annotated[
    str | None, typer.Option("--hosts", "-w", help="Only these hosts (default: all).", metavar="NODESET")
]
DevicesOption = Annotated[
    str | None,
    typer.Option("--devices", help="Physical ids on every host: 0-3,8.", metavar="IDS"),
]
TpOption = Annotated[int | None, typer.Option("--tp", min=1, max=1024, help="Tensor-parallel size.")]
PpOption = Annotated[int | None, typer.Option("--pp", min=1, max=1024, help="Pipeline-parallel size.")]
PortOption = Annotated[int | None, typer.Option("--port", help="The API's port (8000).")]
ListenPortOption = Annotated[
    int | None,
    typer.Option("--listen-port", help="Rank 0's listener for joiners; rank r has this + r."),
]
Int8CacheOption = Annotated[
    str | None, typer.Option("--int8-cache", help="INT8_CACHE of vllm-ascend: no, hbm, dram.", metavar="MODE")
]
Int8NamesOption = Annotated[
    list[str] | None,
    typer.Option("--int8-cache-name", help="INT8_CACHE_NAME: part of a parameter's name.", metavar="TEXT"),
]
PrefixOption = Annotated[
    str | None,
    typer.Option(
        "--output-prefix",
        help="OUTPUT_PREFIX, on the hosts; {instance} stands for the instance's name.",
        metavar="PATH",
    ),
]
ConfigFileOption = Annotated[
    str | None, typer.Option("--config-file", help="CONFIG_FILE of the loader, on the hosts.", metavar="PATH")
]
ServedNameOption = Annotated[
    str | None, typer.Option("--served-model-name", help="As given to vLLM.", metavar="NAME")
]
MemoryOption = Annotated[
    float | None, typer.Option("--gpu-memory-utilization", help="As given to vLLM.", metavar="SHARE")
]
DtypeOption = Annotated[str | None, typer.Option("--dtype", help="As given to vLLM.", metavar="DTYPE")]
EagerOption = Annotated[
    bool | None, typer.Option("--enforce-eager/--no-enforce-eager", help="As given to vLLM.")
]
EngineArgOption = Annotated[
    list[str] | None,
    typer.Option("--engine-arg", help="Passed on to vLLM: --engine-arg=--max-model-len=4096.", metavar="ARG"),
]
EngineOption = Annotated[
    EngineKind | None,
    typer.Option("--engine", help="Whose loader: vllm-ascend's Netloader, or ascendctl's own."),
]
LauncherOption = Annotated[
    str | None,
    typer.Option("--launcher", help="Words before the model ('vllm serve').", metavar="WORDS"),
]
BindOption = Annotated[
    Bind | None, typer.Option("--bind", help="Where the API listens: all addresses, or the peers' one.")
]
TokenFileOption = Annotated[
    str | None,
    typer.Option("--token-file", help="On the hosts: the secret that joiners prove.", metavar="PATH"),
]
EnvFileOption = Annotated[
    Path | None,
    typer.Option("--env-file", help="More variables, NAME=VALUE a line (secrets too).", metavar="FILE"),
]
GateOption = Annotated[
    bool, typer.Option("--gate/--no-gate", help="Look first whether the hosts are fit for it.")
]
RootOption = Annotated[
    str | None,
    typer.Option(
        "--root", help="Folder of deployments on the hosts (~/.ascendctl/netloader).", metavar="DIR"
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print every host's files and command; start nothing.")
]
ReadyTimeoutOption = Annotated[
    float, typer.Option("--ready-timeout", min=1, help="Seconds until an instance has to be ready.")
]
FormatOption = Annotated[Format, typer.Option("--format", "-f", help="What to print on standard output.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Warnings count as findings (exit code 1).")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The deployment.")]


def register(app: typer.Typer) -> None:
    """Add the group ``netloader``."""
    group = typer.Typer(
        help="Serve a model, and let new instances take its weights from running ones.", no_args_is_help=True
    )
    for function in (serve, join, status, logs, stop):
        group.command()(function)
    app.add_typer(group, name="netloader")


def serve(
    inventory: InventoryFile,
    hosts: HostsHere,
    model: Annotated[str, typer.Option("--model", help="Folder on the hosts, or a name.", metavar="MODEL")],
    name: Annotated[str, typer.Option("--name", help="Of the deployment.", metavar="NAME")] = "default",
    exclude: ExcludeOption = None,
    tags: TagsOption = None,
    devices: DevicesOption = None,
    tp: TpOption = None,
    pp: PpOption = None,
    port: PortOption = None,
    listen_port: ListenPortOption = None,
    int8_cache: Int8CacheOption = None,
    int8_cache_name: Int8NamesOption = None,
    output_prefix: PrefixOption = None,
    config_file: ConfigFileOption = None,
    served_model_name: ServedNameOption = None,
    gpu_memory_utilization: MemoryOption = None,
    dtype: DtypeOption = None,
    enforce_eager: EagerOption = None,
    engine_arg: EngineArgOption = None,
    engine: EngineOption = None,
    launcher: LauncherOption = None,
    bind: BindOption = None,
    token_file: TokenFileOption = None,
    env_file: EnvFileOption = None,
    gate: GateOption = True,
    dry_run: DryRunOption = False,
    ready_timeout: ReadyTimeoutOption = 1800.0,
    root: RootOption = None,
    format: FormatOption = Format.TABLE,
    strict: StrictOption = False,
    quiet: QuietOption = False,
    connect_timeout: ConnectTimeoutOption = 10.0,
    host_timeout: HostTimeoutOption = 300.0,
) -> None:
    """Start one instance of a model on each host, which reads its disk and gives its weights to joiners.

    Instances run on when this ends. The same call again starts nothing that runs.

    Exit codes: 0 all ready; 1 one failed, or the hosts are not fit for it; 2 usage, inventory or plan; 3 a
    host was not reached, or an instance not ready in time (it runs on); 130 interrupted (what was started
    runs on).
    """
    from ascendctl.deploy import Wanted, prepare_serve
    from ascendctl.netloader.bringing_up import Limits
    from ascendctl.netloader.plan import Serving

    changes = _changes(locals())
    given = Serving(model=model, **{field: value for field, value in changes.items() if field != "model"})
    loaded = _inventory(inventory)
    chosen = _selected(loaded, hosts, exclude, tags)
    wanted = Wanted(name, given, tuple(chosen), _ids(devices), _environment(env_file))
    with fleet_of(loaded.hosts, root, connect_timeout, patient=False) as (fleet, _):
        survey = _survey(fleet, chosen, loaded, connect_timeout, host_timeout, quiet)
        prepared = _unless_interrupted(fleet, lambda: prepare_serve(fleet, wanted, survey))
        if dry_run:
            _print_commands(prepared, root)
            raise typer.Exit(ExitCode.OK)
        run = _carried_out(prepared, fleet, Limits(ready_s=ready_timeout), gate, False, quiet)
    _report(run, format, strict)


def join(
    inventory: InventoryFile,
    hosts: HostsHere,
    name: Annotated[str, typer.Option("--from", help="The deployment to join.", metavar="NAME")],
    source: Annotated[
        list[str] | None,
        typer.Option("--source", help="Also rank 0's listener there (repeatable).", metavar="HOST:PORT"),
    ] = None,
    exclude: ExcludeOption = None,
    tags: TagsOption = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Where it is called otherwise.", metavar="MODEL")
    ] = None,
    devices: DevicesOption = None,
    tp: TpOption = None,
    pp: PpOption = None,
    port: PortOption = None,
    listen_port: ListenPortOption = None,
    int8_cache: Int8CacheOption = None,
    int8_cache_name: Int8NamesOption = None,
    output_prefix: PrefixOption = None,
    config_file: ConfigFileOption = None,
    served_model_name: ServedNameOption = None,
    gpu_memory_utilization: MemoryOption = None,
    dtype: DtypeOption = None,
    enforce_eager: EagerOption = None,
    engine_arg: EngineArgOption = None,
    engine: EngineOption = None,
    launcher: LauncherOption = None,
    bind: BindOption = None,
    token_file: TokenFileOption = None,
    env_file: EnvFileOption = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print who takes from whom, and when; start nothing.")
    ] = False,
    weights_gib: Annotated[
        float | None, typer.Option("--weights-gib", min=0, help="GiB of one rank, for the plan's times.")
    ] = None,
    rate_gb_s: Annotated[
        float | None, typer.Option("--rate-gb-s", min=0, help="GB/s of one transfer, for the plan's times.")
    ] = None,
    startup_s: Annotated[
        float | None, typer.Option("--startup-s", min=0, help="Seconds from a start to its first word.")
    ] = None,
    allow_fallback: Annotated[
        bool, typer.Option("--allow-fallback", help="A joiner that read its disk is no failure.")
    ] = False,
    gate: GateOption = True,
    dry_run: DryRunOption = False,
    ready_timeout: ReadyTimeoutOption = 1800.0,
    root: RootOption = None,
    format: FormatOption = Format.TABLE,
    strict: StrictOption = False,
    quiet: QuietOption = False,
    connect_timeout: ConnectTimeoutOption = 10.0,
    host_timeout: HostTimeoutOption = 300.0,
) -> None:
    """Start new instances that take their weights from running ones, and prove for every rank that they did.

    They are started as the deployment's seed runs; the options say what is to be otherwise.

    Exit codes: 0 all ready, every rank's weights came from a source; 1 one failed or read its disk
    (--allow-fallback allows that); 2 usage, inventory or plan; 3 not proven, a host not reached, or not ready
    in time; 130 interrupted (what was started runs on).
    """
    from ascendctl.deploy import Joining, Wanted, prepare_join
    from ascendctl.netloader.bringing_up import Limits
    from ascendctl.netloader.plan import Serving
    from ascendctl.netloader.waves import Pace

    changes = _changes(locals())
    pace = Pace(
        weights_gib * 2**30 if weights_gib else None, rate_gb_s * 1e9 if rate_gb_s else None, startup_s
    )
    joining = Joining(changes, tuple(source or ()), pace)
    loaded = _inventory(inventory)
    chosen = _selected(loaded, hosts, exclude, tags)
    given = Serving(**{"model": "", **changes})
    wanted = Wanted(name, given, tuple(chosen), _ids(devices), _environment(env_file))
    with fleet_of(loaded.hosts, root, connect_timeout, patient=False) as (fleet, _):
        survey = _survey(fleet, chosen, loaded, connect_timeout, host_timeout, quiet)
        prepared = _unless_interrupted(fleet, lambda: prepare_join(fleet, wanted, joining, survey))
        if plan or dry_run:
            _print_plan(prepared)
            if dry_run:
                _print_commands(prepared, root)
            raise typer.Exit(ExitCode.OK)
        if not quiet:
            _print_plan(prepared, stderr=True)
        limits = Limits(ready_s=ready_timeout)
        run = _carried_out(prepared, fleet, limits, gate, allow_fallback, quiet)
    _report(run, format, strict)


def status(
    inventory: InventoryFile,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this deployment.")] = None,
    hosts: HostsMaybe = None,
    exclude: ExcludeOption = None,
    tags: TagsOption = None,
    root: RootOption = None,
    format: FormatOption = Format.TABLE,
    connect_timeout: ConnectTimeoutOption = 10.0,
) -> None:
    """What runs on the hosts, as they themselves say.

    Exit codes: 0 everything that was started runs; 1 something ended; 2 usage or inventory; 3 a host could
    not be asked, or something not learned; 130 interrupted.
    """
    from ascendctl.netloader.runs import status_exit_code
    from ascendctl.netloader.standing import stand

    loaded = _inventory(inventory)
    chosen = _selected(loaded, hosts, exclude, tags)
    with fleet_of(chosen, root, connect_timeout, patient=False) as (fleet, _):
        run = stand(fleet, [host.name for host in chosen], name)
    code = status_exit_code(run)
    if format is Format.JSON:
        from ascendctl.report.netloader_json import write_status_json

        write_status_json(run, code, sys.stdout)
    else:
        from rich.console import Console

        from ascendctl.report.netloader_text import render_status

        render_status(run, Console(), exit_code=code)
    raise typer.Exit(code)


def logs(
    inventory: InventoryFile,
    name: NameArgument,
    instance: Annotated[
        str | None, typer.Argument(metavar="[INSTANCE]", help="Only this one (HOST.NUMBER).")
    ] = None,
    hosts: HostsMaybe = None,
    exclude: ExcludeOption = None,
    tags: TagsOption = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="The last so many of each.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until interrupted.")] = False,
    root: RootOption = None,
    connect_timeout: ConnectTimeoutOption = 10.0,
) -> None:
    """The end of each instance's log, as it stands on its host; several are told apart by name.

    Exit codes: 0 printed; 2 usage or inventory; 3 a host could not be asked, or there is no such log;
    130 interrupted.
    """
    from ascendctl.netloader.log_tail import tails

    loaded = _inventory(inventory)
    chosen = _selected(loaded, hosts, exclude, tags)
    with fleet_of(chosen, root, connect_timeout, patient=False) as (fleet, _):
        code = tails(
            fleet,
            [host.name for host in chosen],
            name,
            instance,
            lines=lines,
            write=lambda text: print(text, flush=True),
            complain=lambda text: print(f"ascendctl: {text}", file=sys.stderr, flush=True),
            follow=follow,
        )
    raise typer.Exit(code)


def stop(
    inventory: InventoryFile,
    name: NameArgument,
    hosts: HostsMaybe = None,
    exclude: ExcludeOption = None,
    tags: TagsOption = None,
    grace: Annotated[
        int, typer.Option("--grace", min=0, max=3600, help="Seconds between TERM and KILL.")
    ] = 60,
    keep: Annotated[bool, typer.Option("--keep", help="Leave logs and plans on the hosts.")] = False,
    root: RootOption = None,
    connect_timeout: ConnectTimeoutOption = 10.0,
) -> None:
    """End a deployment's instances on these hosts, joiners first, and leave nothing of them behind.

    Only processes that are proven to be an instance's are ended. Its folder goes too, unless --keep.

    Exit codes: 0 nothing of it runs there; 1 something could not be ended; 2 usage or inventory; 3 a host
    could not be asked; 130 interrupted.
    """
    from ascendctl.deploy import stop as stop_all
    from ascendctl.netloader.runs import stop_exit_code

    loaded = _inventory(inventory)
    chosen = _selected(loaded, hosts, exclude, tags)
    with fleet_of(chosen, root, connect_timeout, patient=False) as (fleet, _):
        run = stop_all(fleet, [host.name for host in chosen], name, grace_s=grace, remove=not keep)
    from rich.console import Console

    from ascendctl.report.netloader_stop import render_stop

    render_stop(run, Console())
    raise typer.Exit(stop_exit_code(run))


# Options in -----------------------------------------------------------------------------------------------

# Options that are called as the field of `Serving` that they fill.
_FIELDS = (
    "model",
    "tp",
    "pp",
    "port",
    "listen_port",
    "int8_cache",
    "output_prefix",
    "config_file",
    "served_model_name",
    "gpu_memory_utilization",
    "dtype",
    "enforce_eager",
    "token_file",
)


def _changes(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of `Serving` that options were given for. Raises Refused."""
    import shlex

    from ascendctl.netloader.plan import Engine

    found = {field: options[field] for field in _FIELDS if options[field] is not None}
    if options["int8_cache_name"]:
        found["int8_cache_names"] = tuple(options["int8_cache_name"])
    if options["engine_arg"] is not None:
        found["engine_args"] = tuple(options["engine_arg"])
    if options["engine"] is not None:
        found["engine"] = Engine(options["engine"].value)
    if options["bind"] is not None:
        found["bind"] = options["bind"].value
    if options["launcher"] is not None:
        try:
            found["launcher"] = tuple(shlex.split(options["launcher"]))
        except ValueError as error:
            raise Refused(f"--launcher: {error}") from error
        if not found["launcher"]:
            raise Refused("--launcher is empty; leave it out for 'vllm serve'")
    return found


def _ids(text: str | None) -> tuple[int, ...]:
    """``0-3,8`` as numbers. Raises Refused."""
    from ascendctl.netloader.placing import physical_ids

    try:
        return physical_ids(text or "")
    except ValueError as error:
        raise Refused(f"--devices: {error}") from error


def _environment(path: Path | None) -> tuple[tuple[str, str], ...] | None:
    """The variables of a file, None where there is none. Raises Refused."""
    if path is None:
        return None
    from ascendctl.netloader.env_file import EnvFileError, read_env_file

    try:
        return read_env_file(path)
    except EnvFileError as error:
        raise Refused(f"--env-file: {error}") from error


def _inventory(path: Path) -> Inventory:
    from ascendctl.cli.asking import load_inventory

    return load_inventory(path)


def _selected(
    inventory: Inventory, hosts: str | None, exclude: str | None, tags: list[str] | None
) -> Sequence[Host]:
    from ascendctl.inventory import select

    return select(inventory, hosts, exclude, tags or [])


# One call -------------------------------------------------------------------------------------------------


def _survey(
    fleet: Fleet,
    hosts: Sequence[Host],
    inventory: Inventory,
    connect_s: float,
    host_s: float,
    quiet: bool,
) -> Survey:
    from ascendctl.engine_hosts import survey
    from ascendctl.report.progress import Progress
    from ascendctl.transport.contract import Deadlines
    from ascendctl.verify import Settings

    settings = Settings(deadlines=Deadlines(connect_s=connect_s, host_s=host_s))
    with Progress([host.name for host in hosts], quiet=quiet) as progress:
        found = survey(
            hosts,
            fleet.transport,
            settings=settings,
            waivers=inventory.waivers,
            listener=progress,
            on_answer=progress.frame,
        )
    if found.interrupted:
        raise KeyboardInterrupt  # nothing was started, and there is nothing to tell
    return found


def _unless_interrupted(fleet: Fleet, prepare: Callable[[], Prepared]) -> Prepared:
    """What follows from all that the hosts said. Raises KeyboardInterrupt where some were not heard out."""
    from ascendctl.netloader.plan import PlanError

    try:
        prepared = prepare()
    except PlanError:
        if fleet.stop.is_set():
            raise KeyboardInterrupt from None
        raise
    if fleet.stop.is_set():
        raise KeyboardInterrupt
    return prepared


def _carried_out(
    prepared: Prepared,
    fleet: Fleet,
    limits: Any,
    gate: bool,
    allow_fallback: bool,
    quiet: bool,
) -> NetloaderRun:
    from ascendctl.deploy import carry_out
    from ascendctl.report.netloader_progress import BringUpProgress

    with noted() as interruption, BringUpProgress(quiet=quiet) as progress:
        return carry_out(
            prepared,
            fleet,
            progress,
            limits=limits,
            gate=gate,
            allow_fallback=allow_fallback,
            interrupted=lambda: interruption.came,
        )


# Reports out ----------------------------------------------------------------------------------------------


def _report(run: NetloaderRun, format: Format, strict: bool) -> None:
    from ascendctl.netloader.runs import exit_code

    code = exit_code(run, strict=strict)
    if format is Format.JSON:
        from ascendctl.report.netloader_json import write_netloader_json

        write_netloader_json(run, code, sys.stdout)
    else:
        from rich.console import Console

        from ascendctl.report.netloader_text import render_run

        render_run(run, Console(), exit_code=code)
    raise typer.Exit(code)


def _print_plan(prepared: Prepared, *, stderr: bool = False) -> None:
    from rich.console import Console

    from ascendctl.report.netloader_text import render_join_plan

    assert prepared.plan is not None
    console = Console(stderr=stderr)
    render_join_plan(prepared.plan, prepared.deployment.instances, console, goes_on=stderr)


def _print_commands(prepared: Prepared, root: str | None) -> None:
    """What would be written and run on every host; the values of secrets hidden."""
    from ascendctl.report.netloader_commands import write_commands
    from ascendctl.report.printable import shown

    write_commands(prepared, sys.stdout, root=root)
    for text in (*prepared.warnings, *prepared.notes):
        print(f"ascendctl: {shown(text)}", file=sys.stderr)
