"""`netloader … --dry-run`: what would be written and run on every host; the values of secrets are hidden."""

from __future__ import annotations

from typing import TextIO

from ascendctl.deploy import Prepared
from ascendctl.netloader.command import command
from ascendctl.netloader.plan import Instance
from ascendctl.report.printable import shown, shown_as_it_stands

_FILES = "plan.json, run.sh, state.json, log"
_OWN_ROOT = "~/.ascendctl/netloader"


def write_commands(prepared: Prepared, stream: TextIO, *, root: str | None = None) -> None:
    """Every instance with its files and command. ``root``: as of `Fleet`. Raises OSError of the stream."""
    for one in prepared.as_started():
        runs = one.name in prepared.running_names
        stream.write(f"# {_head(one)}: {'runs already' if runs else 'would be started'}\n")
        folder = f"{root or _OWN_ROOT}/{prepared.deployment.name}/{one.name}"
        stream.write(f"# files there: {shown(folder)}/{{{_FILES}}}\n")
        stream.writelines(f"{shown_as_it_stands(line)}\n" for line in command(one).text.splitlines())
        stream.write("\n")


def _head(one: Instance) -> str:
    return f"{shown(one.name)} on {shown(one.host)} ({one.role.value})"
