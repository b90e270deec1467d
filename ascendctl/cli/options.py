"""Options that several commands share, so that they are spelt and explained alike everywhere."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ascendctl.facts import Profile
from ascendctl.topology.mesh import MeshMode


class Format(str, Enum):
    """What a command prints on standard output."""

    TABLE = "table"
    JSON = "json"


InventoryOption = Annotated[
    Path | None, typer.Option("--inventory", "-i", help="Inventory file.", metavar="FILE")
]
LocalOption = Annotated[
    bool, typer.Option("--local", help="Ask the very host this runs on, without inventory or SSH.")
]
ReplayOption = Annotated[
    Path | None,
    typer.Option("--replay", help="From a recording, or outputs of 'probe script'.", metavar="DIR"),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")]
NicOption = Annotated[
    str | None,
    typer.Option("--nic", help="The NIC of every host, in place of the inventory's.", metavar="NIC"),
]
ProfileOption = Annotated[
    Profile | None,
    typer.Option(
        "--profile", help="How much to ask and check: standard (default), or deep with every counter."
    ),
]
HostsOption = Annotated[
    str | None,
    typer.Option("--hosts", "-w", help="Only these hosts: node[01-16],@group.", metavar="NODESET"),
]
ExcludeOption = Annotated[
    str | None, typer.Option("--exclude", "-x", help="Not these hosts.", metavar="NODESET")
]
TagsOption = Annotated[
    list[str] | None,
    typer.Option("--tags", help="Only with this tag (a,b: either; repeat: all).", metavar="TAG"),
]
ConnectTimeoutOption = Annotated[
    float,
    typer.Option(
        "--connect-timeout",
        min=0.1,
        help="Seconds for a TCP connection; each step of the SSH login has twice as long.",
    ),
]
MeshOption = Annotated[
    MeshMode | None,
    typer.Option(
        "--mesh",
        help="Which devices ping each other across hosts (default: full while that is quick, else sample).",
    ),
]
MeshPartnersOption = Annotated[
    int | None,
    typer.Option(
        "--mesh-partners",
        min=1,
        max=64,
        help="Devices that each one sends to, and is sent to by (3).",
        metavar="K",
    ),
]
PacketsOption = Annotated[
    int | None,
    typer.Option(
        "--packets", min=1, max=1000, help="Packets per ping (3); more for faint losses.", metavar="N"
    ),
]
MeshTimeoutOption = Annotated[
    int | None,
    typer.Option(
        "--mesh-timeout", min=1, help="Seconds for the pings of one host, per round (300).", metavar="S"
    ),
]
LimitFailuresOption = Annotated[
    int | None,
    typer.Option(
        "--limit-failures",
        min=1,
        help="Begin no more hosts once this many could not be asked, for whatever reason.",
        metavar="N",
    ),
]
HostTimeoutOption = Annotated[
    float, typer.Option("--host-timeout", min=1, help="Seconds for one host, all told.")
]
