"""Options that several commands share, so that they are spelt and explained alike everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

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
    float, typer.Option("--connect-timeout", min=0.1, help="Seconds for a TCP connection.")
]
HostTimeoutOption = Annotated[
    float, typer.Option("--host-timeout", min=1, help="Seconds for one host, all told.")
]
