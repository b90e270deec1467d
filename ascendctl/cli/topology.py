"""``ascendctl topology``: the cluster as a tree, as JSON or as a picture, with what is found marked on it."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ascendctl.cli.exits import Refused
from ascendctl.cli.options import (
    ConnectTimeoutOption,
    ExcludeOption,
    HostsOption,
    HostTimeoutOption,
    InventoryOption,
    LocalOption,
    QuietOption,
    ReplayOption,
    TagsOption,
)
from ascendctl.results import ExitCode

if TYPE_CHECKING:
    from ascendctl.cli.asking import Source
    from ascendctl.facts import ClusterFacts
    from ascendctl.report.topology_view import TopologyView
    from ascendctl.results import Run


class Format(str, Enum):
    TREE = "tree"
    JSON = "json"
    SVG = "svg"


def register(app: typer.Typer) -> None:
    """Add the command ``topology``."""
    app.command("topology")(topology)


def topology(
    inventory: InventoryOption = None,
    hosts: HostsOption = None,
    exclude: ExcludeOption = None,
    tags: TagsOption = None,
    local: LocalOption = False,
    replay: ReplayOption = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            help="Paint what this JSON report of verify found, not what is found now.",
            metavar="FILE",
        ),
    ] = None,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="svg: a picture for browsers and documents.")
    ] = Format.TREE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write this file, not standard output.")
    ] = None,
    quiet: QuietOption = False,
    connect_timeout: ConnectTimeoutOption = 10.0,
    host_timeout: HostTimeoutOption = 300.0,
) -> None:
    """Draw super pods, hosts, devices, leaf switches and segments, and mark what is not well.

    It draws; 'verify' is what decides: findings do not change the exit code.

    Exit codes: 0 drawn; 2 usage or inventory; 3 a host told nothing of its devices (it is drawn as such);
    130 interrupted.
    """
    from ascendctl.cli.asking import Source
    from ascendctl.report.topology_view import view_of
    from ascendctl.topology.fabric import fabric_of

    source = Source(inventory, replay, local, hosts, exclude, tags or [])
    source.check()
    cluster, run = _recorded(source) if replay else _asked(source, connect_timeout, host_timeout, quiet)
    if report:
        from ascendctl.cli.diff import read_run

        told = read_run(report)
        names = {host.host for host in cluster.hosts}
        results = [cell for cell in told.results if cell.subject.host is None or cell.subject.host in names]
        verdicts = told.verdicts
    else:
        results, verdicts = list(run.results), run.verdicts
    view = view_of(fabric_of(cluster), results, verdicts, hosts=[host.host for host in cluster.hosts])
    _write(view, format, output)
    if run.interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)
    if not all(host.ports for host in view.hosts):
        raise typer.Exit(ExitCode.NOT_ENOUGH)


def _recorded(source: Source) -> tuple[ClusterFacts, Run]:
    from ascendctl.assembly import host_facts
    from ascendctl.cli.asking import read_recording
    from ascendctl.facts import ClusterFacts
    from ascendctl.verify import replay

    assert source.replay is not None
    recording, chosen = read_recording(
        source.replay, source.inventory, source.hosts, source.exclude, source.tags
    )
    records = [record for record in recording.hosts if record.name in chosen]
    cluster = ClusterFacts(tuple(host_facts(record) for record in records))
    return cluster, replay(recording, only=chosen)


def _asked(
    source: Source, connect_timeout: float, host_timeout: float, quiet: bool
) -> tuple[ClusterFacts, Run]:
    import time

    from ascendctl.cli.asking import gather_live, load_inventory, selected, this_host
    from ascendctl.transport.contract import Deadlines
    from ascendctl.verify import Settings, judge, now

    started_at, started = now()
    hosts = selected(source) if source.inventory else [this_host()]
    waivers = load_inventory(source.inventory).waivers if source.inventory else ()
    settings = Settings(deadlines=Deadlines(connect_s=connect_timeout, host_s=host_timeout))
    gathered = gather_live(hosts, settings, local=source.local, quiet=quiet)
    run = judge(gathered, waivers, started_at=started_at, duration_s=time.monotonic() - started)
    return gathered.facts, run


def _write(view: TopologyView, format: Format, output: Path | None) -> None:
    """In the format asked for, on standard output or into a file. Raises Refused."""
    if output is None:
        _print(view, format)
        return
    try:
        with output.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(_text(view, format))
    except OSError as error:
        raise Refused(
            f"cannot write to {output}: {error.strerror or error}; name a file that you may write"
        ) from error


def _print(view: TopologyView, format: Format) -> None:
    if format is Format.TREE:
        from rich.console import Console

        from ascendctl.report.topology_tree import render_tree

        render_tree(view, Console(highlight=False, markup=False))
    else:
        sys.stdout.write(_text(view, format))


def _text(view: TopologyView, format: Format) -> str:
    if format is Format.JSON:
        from ascendctl.report.topology_json import topology_json

        return topology_json(view)
    if format is Format.SVG:
        from ascendctl.report.topology_svg import draw

        return draw(view)
    from io import StringIO

    from rich.console import Console

    from ascendctl.report.topology_tree import render_tree

    stream = StringIO()
    render_tree(view, Console(file=stream, width=120, highlight=False, markup=False))
    return stream.getvalue()
