"""``ascendctl probe``: the script that asks a host, for hosts that are reached some other way."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ascendctl.cli.options import ProfileOption


def register(app: typer.Typer) -> None:
    """Add the group ``probe``."""
    group = typer.Typer(help="The script that is sent to hosts.", no_args_is_help=True)
    group.command("script")(script)
    app.add_typer(group, name="probe")


def script(
    sudo: Annotated[
        bool, typer.Option("--sudo", help="Run the commands that need root through 'sudo -n'.")
    ] = False,
    profile: ProfileOption = None,
) -> None:
    """Print the probe script: run it on a host by any means, judge its output with 'verify --replay'.

    ascendctl probe script > probe.sh;  sh probe.sh > outputs/node01.txt  (on node01);
    ascendctl verify --replay outputs. The output says which profile was asked.
    """
    from ascendctl.facts import Profile
    from ascendctl.probe.catalogue import commands_of
    from ascendctl.probe.script import allowed, build_script, new_nonce

    commands = allowed(commands_of(profile or Profile.STANDARD))
    sys.stdout.write(build_script(new_nonce(), sudo=sudo, commands=commands).decode())
