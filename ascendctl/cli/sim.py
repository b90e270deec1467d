"""``ascendctl sim``: a simulated cluster to try everything on, without an NPU."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ascendctl.cli.exits import Refused

if TYPE_CHECKING:
    from ascendctl.sim.cluster import SimCluster
    from ascendctl.sim.spec import Spec


def register(app: typer.Typer) -> None:
    """Add the group ``sim`` to ``app``."""
    group = typer.Typer(help="A simulated cluster behind real SSH.", no_args_is_help=True)
    group.command("up")(up)
    group.command("render")(render)
    group.command("faults")(faults)
    group.command("schema")(schema)
    app.add_typer(group, name="sim")


def up(
    write_inventory: Annotated[
        Path, typer.Option("--write-inventory", metavar="FILE", help="Write the cluster's inventory here.")
    ],
    generation: Annotated[str, typer.Option(help="a2 or a3.")] = "a2",
    hosts: Annotated[int, typer.Option(help="How many servers: node01, node02, …")] = 8,
    spec_file: Annotated[
        Path | None, typer.Option("--spec", metavar="FILE", help="A YAML spec, in place of the two above.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND@HOST[:DEVICE][=VALUE]",
            help="Seed a fault (repeatable; see 'ascendctl sim faults').",
        ),
    ] = None,
    latency: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How long every tool call takes.")
    ] = None,
    port: Annotated[int, typer.Option(help="SSH port, or the first of them; 0 = free ones.")] = 0,
    one_address: Annotated[
        bool, typer.Option("--one-address", help="All on 127.0.0.1, one port per host.")
    ] = False,
) -> None:
    """Start a simulated cluster and keep it up until interrupted."""
    from ascendctl.sim.cluster import SimCluster

    spec = _spec(spec_file, generation, hosts, fault or [], latency)
    cluster = SimCluster(spec, inventory_path=write_inventory.absolute(), one_address=one_address, port=port)
    try:
        with _stop_on_signals() as stop, cluster:
            _announce(cluster, write_inventory)
            stop.wait()
            typer.echo("stopping", err=True)
    except OSError as error:
        raise Refused(f"cannot start the simulated cluster: {error}") from None


def render(
    directory: Annotated[Path, typer.Argument(help="An empty or new folder.")],
    spec_file: Annotated[Path, typer.Option("--spec", metavar="FILE", help="The YAML spec.")],
    cheap: Annotated[
        bool, typer.Option("--cheap", help="Without hccn_tool's lock and the latency, for benchmarks.")
    ] = False,
) -> None:
    """Write the stand-in programs of every host, to put before a real SSH server's PATH."""
    from ascendctl.sim.render import render_cluster

    spec = _spec(spec_file, "a2", 1, [], None)
    try:
        rendered = render_cluster(spec, directory, cheap=cheap)
    except OSError as error:
        raise Refused(f"{directory}: cannot render there: {error}") from None
    for host in rendered:
        typer.echo(f"{host.name} {host.bin}")


def faults() -> None:
    """List the kinds of fault that can be seeded."""
    from ascendctl.sim.kinds import KINDS, DeviceUse

    devices = {
        DeviceUse.NEEDED: "DEVICE; all without one",
        DeviceUse.OPTIONAL: "DEVICE or host",
        DeviceUse.ONE: "DEVICE",
        DeviceUse.NONE: "host",
    }
    width = max(len(kind.name) for kind in KINDS)
    for kind in KINDS:
        value = f" VALUE: {kind.value_rule}" if kind.accepts else ""
        default = f" (else {kind.default})" if kind.default else ""
        typer.echo(f"{kind.name:<{width}}  {kind.summary} [{devices[kind.device]}]{value}{default}")


def schema() -> None:
    """Print the JSON Schema of the spec file."""
    import json

    from ascendctl.sim.spec import Spec

    typer.echo(json.dumps(Spec.model_json_schema(), indent=2))


def _spec(
    spec_file: Path | None, generation: str, hosts: int, faults: list[str], latency: float | None
) -> Spec:
    """The spec of the options; ``--fault`` and ``--latency`` go on top of a file's."""
    from ascendctl.sim.spec import SpecError, load_spec, make_spec, parse_fault

    try:
        fields: dict[str, Any]
        if spec_file is None:
            fields = {"generation": generation, "hosts": hosts, "faults": []}
        else:
            fields = load_spec(spec_file).model_dump()
        fields["faults"] = [*fields["faults"], *(parse_fault(text) for text in faults)]
        if latency is not None:
            fields["latency"] = latency
        return make_spec(**fields)
    except SpecError as error:
        raise Refused(*error.problems) from None


def _announce(cluster: SimCluster, inventory: Path) -> None:
    import shlex

    spec, listening = cluster.spec, cluster.listening
    first, last = listening[0], listening[-1]
    typer.echo(
        f"{spec.hosts} simulated {spec.generation.upper()} servers are up: "
        f"{first.host.name} ({first.address}:{first.port}) to {last.host.name} ({last.address}:{last.port})",
        err=True,
    )
    for fault in spec.faults:
        device = "" if fault.device is None else f" device {fault.device}"
        value = "" if fault.effective_value is None else f" = {fault.effective_value}"
        typer.echo(f"  seeded: {fault.kind} on {fault.host}{device}{value}", err=True)
    typer.echo(f"try: ascendctl verify --inventory {shlex.quote(str(inventory))}", err=True)
    typer.echo("Ctrl-C ends it", err=True)


@contextmanager
def _stop_on_signals() -> Iterator[_Stop]:
    """While entered, Ctrl-C and SIGTERM ask for a clean end; a server that was asked to stop ended well."""
    stop = _Stop()
    # Python runs a handler between two instructions, so a signal that comes just before a blocking call
    # would wait for the call's end. The wake-up descriptor is written to by the signal itself.
    wakeup = signal.set_wakeup_fd(stop.writer, warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        stop.close()


class _Stop:
    """An end that a signal may ask for: whatever is written to ``writer`` asks for it."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        os.set_blocking(self.writer, False)

    def wait(self) -> None:
        os.read(self._reader, 1)

    def close(self) -> None:
        os.close(self._reader)
        os.close(self.writer)
