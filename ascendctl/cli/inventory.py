"""``ascendctl inventory``: check an inventory file, show what it resolves to, print its schema."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ascendctl.cli.exits import Refused
from ascendctl.cli.options import ExcludeOption, HostsOption, TagsOption

if TYPE_CHECKING:
    from ascendctl.inventory import Endpoint, Host, Inventory, PasswordSource, Waiver


class ShowFormat(str, Enum):
    TABLE = "table"
    JSON = "json"


FileArgument = Annotated[
    Path | None, typer.Argument(metavar="FILE", help="Inventory file.", show_default=False)
]
FileOption = Annotated[
    Path | None,
    typer.Option(
        "--inventory", "-i", metavar="FILE", help="The same file, as an option.", show_default=False
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="Check and show an inventory file.", no_args_is_help=True)
    group.command("check")(check)
    group.command("show")(show)
    group.command("schema")(schema)
    app.add_typer(group, name="inventory")


def check(file: FileArgument = None, inventory: FileOption = None) -> None:
    """Read and validate an inventory file; connects to nothing.

    Exit codes: 0 it can be used; 2 it cannot (every problem is printed with its line).
    """
    from ascendctl.inventory import load

    loaded = load(_one_file(file, inventory), known_checks=_known_checks())
    for waiver in loaded.waivers:
        if waiver.until < dt.date.today():
            typer.echo(
                f"note: the waiver of {waiver.check} ended on {waiver.until}; what it covers fails again",
                err=True,
            )
    typer.echo(f"OK: {_contents(loaded)}")


def show(
    file: FileArgument = None,
    inventory: FileOption = None,
    hosts: HostsOption = None,
    exclude: ExcludeOption = None,
    tags: TagsOption = None,
    format: Annotated[ShowFormat, typer.Option("--format", help="How to print it.")] = ShowFormat.TABLE,
) -> None:
    """Print hosts with defaults, group and host settings merged. Passwords are not asked for or shown.

    Exit codes: 0 printed; 2 the file cannot be used, or no host is selected.
    """
    from ascendctl.inventory import load, select

    loaded = load(_one_file(file, inventory), known_checks=_known_checks())
    chosen = select(loaded, hosts, exclude, tags or [])
    names = {host.name for host in chosen}
    waivers = [waiver for waiver in loaded.waivers if waiver.hosts & names]
    if format is ShowFormat.JSON:
        entries = {
            "hosts": [_host_entry(host) for host in chosen],
            "waivers": [_waiver_entry(waiver, names) for waiver in waivers],
        }
        typer.echo(json.dumps(entries, indent=2, ensure_ascii=False))
    else:
        _print_tables(chosen, [_waiver_entry(waiver, names) for waiver in waivers])


def schema() -> None:
    """Print the JSON Schema of inventory files, for editors and CI."""
    from ascendctl.inventory import schema as json_schema

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


def _one_file(argument: Path | None, option: Path | None) -> Path:
    if argument is not None and option is not None:
        raise Refused(f"one inventory file is wanted; {argument} and --inventory {option} are two")
    file = argument if argument is not None else option
    if file is None:
        raise Refused("name the inventory file, as in `ascendctl inventory check cluster.yaml`")
    return file


def _known_checks() -> Collection[str]:
    from ascendctl.checks.registry import BY_ID

    return BY_ID


def _contents(inventory: Inventory) -> str:
    """``48 hosts in 2 groups (prefill 24, decode 24), 1 waiver``."""
    members = Counter(host.group for host in inventory.hosts)
    text = _count(len(inventory.hosts), "host")
    if inventory.groups:
        sizes = ", ".join(f"{group} {members[group]}" for group in inventory.groups)
        text += f" in {_count(len(inventory.groups), 'group')} ({sizes})"
        if members[""]:
            text += f", {members['']} of them in none"
    if inventory.waivers:
        text += f", {_count(len(inventory.waivers), 'waiver')}"
    return text


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _host_entry(host: Host) -> dict[str, Any]:
    return {
        "name": host.name,
        "group": host.group,
        "ssh": _endpoint_entry(host.endpoint),
        "privilege": host.privilege.value,
        "accelerator": host.accelerator,
        "generation": host.generation,
        "npus": "auto" if host.npus is None else host.npus,
        "scale_out": host.scale_out,
        "nic": host.nic,
        "tags": sorted(host.tags),
        "thresholds": dict(sorted(host.thresholds.items())),
        "cabling": {str(device): str(cable) for device, cable in sorted(host.cabling.items())},
        "engine": {"exec": list(host.engine_exec), "ports": list(host.engine_ports)},
    }


def _endpoint_entry(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "address": endpoint.address,
        "port": endpoint.port,
        "user": endpoint.user,
        "identity": [str(file) for file in endpoint.identity_files],
        "known_hosts": str(endpoint.known_hosts) if endpoint.known_hosts else None,
        "host_key_policy": endpoint.host_key_policy.value,
        "password": _password_origin(endpoint.password),
        "config": endpoint.use_ssh_config,
        "jump": {"name": endpoint.jump.name, **_endpoint_entry(endpoint.jump)} if endpoint.jump else None,
    }


def _password_origin(source: PasswordSource | None) -> str | None:
    """Where the password comes from; of a command only the program, as its arguments may be secret."""
    if source is None:
        return None
    if source.prompt:
        return "prompt"
    return f"env {source.env}" if source.env else f"command {source.command[0]}"


def _waiver_entry(waiver: Waiver, names: set[str]) -> dict[str, Any]:
    from ascendctl.inventory import fold

    return {
        "check": waiver.check,
        "hosts": fold(waiver.hosts & names),
        "device": waiver.device,
        "until": waiver.until.isoformat(),
        "reason": waiver.reason,
    }


def _print_tables(hosts: Sequence[Host], waivers: Sequence[dict[str, Any]]) -> None:
    host_rows = [_host_row(host) for host in hosts]
    _print_table(host_rows, always=("host", "login"))
    if waivers:
        typer.echo("\nWaivers")
        rows = [{key: "" if value is None else str(value) for key, value in row.items()} for row in waivers]
        _print_table(rows, always=("check", "until"))


def _host_row(host: Host) -> dict[str, str]:
    """Cells of the table; "" for what is as it is when nothing is said."""
    return {
        "host": host.name,
        "group": host.group,
        "login": _login(host.endpoint),
        "through": _jump_chain(host.endpoint.jump),
        "password": _password_origin(host.endpoint.password) or "",
        "privilege": host.privilege.value,
        "expected": _expected(host),
        "tags": " ".join(sorted(host.tags)),
        "thresholds": _thresholds(host),
        "cabling": _count(len(host.cabling), "device") if host.cabling else "",
        "engine": " ".join(host.engine_exec),
        "engine ports": " ".join(map(str, host.engine_ports)),
    }


def _login(endpoint: Endpoint) -> str:
    """``user@address:port`` with what the inventory says; IPv6 in brackets where a port follows."""
    address = endpoint.address
    if endpoint.port is not None:
        address = f"[{address}]:{endpoint.port}" if ":" in address else f"{address}:{endpoint.port}"
    return f"{endpoint.user}@{address}" if endpoint.user else address


def _jump_chain(jump: Endpoint | None) -> str:
    """The jump hosts in the order in which they are passed."""
    chain: list[str] = []
    while jump is not None:
        chain.insert(0, jump.name)
        jump = jump.jump
    return " → ".join(chain)


def _expected(host: Host) -> str:
    """What the host is expected to be, without what is left to be detected."""
    words = [word for word in (host.accelerator, host.generation) if word != "auto"]
    if host.npus is not None:
        words.append(_count(host.npus, "device"))
    if host.scale_out != "auto":
        words.append("HCCS only" if host.scale_out == "none" else "RoCE")
    if host.nic:
        words.append(f"NIC {host.nic}")
    return ", ".join(words) or "auto"


def _thresholds(host: Host) -> str:
    """The limits that are not the default here, as ``name=value``."""
    from ascendctl.knowledge.thresholds import number

    return " ".join(f"{name}={number(value)}" for name, value in sorted(host.thresholds.items()))


def _print_table(rows: Sequence[dict[str, str]], always: Collection[str]) -> None:
    """Columns without a value are left out; nothing is cut off where the output is not a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = [name for name in rows[0] if name in always or any(row[name] for row in rows)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name in always)
    for row in rows:
        table.add_row(*(Text(row[name]) for name in columns))
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        unbounded = console.options.update(width=100_000)
        console.width = max(console.width, console.measure(table, options=unbounded).maximum)
    console.print(table)
