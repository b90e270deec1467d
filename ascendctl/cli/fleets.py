"""The hosts of deployments over SSH, for the commands that start, look at or compare what runs on them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ascendctl.cli.exits import Refused
from ascendctl.cli.interruption import Interruption, deferred

if TYPE_CHECKING:
    from ascendctl.inventory import Host
    from ascendctl.netloader.fleet import Fleet


def noted() -> contextlib.AbstractContextManager[Interruption]:
    """While entered, a first Ctrl-C ends the waiting for instances, and not them."""
    return deferred("stopping to wait; what was started runs on")


@contextlib.contextmanager
def fleet_of(
    hosts: Sequence[Host], root: str | None, connect_s: float, *, patient: bool = True
) -> Iterator[tuple[Fleet, Interruption]]:
    """The hosts over SSH. ``patient``: a first Ctrl-C is only noted, as while instances are started.

    Raises Refused where a password cannot be had.
    """
    from ascendctl.netloader.fleet import Fleet
    from ascendctl.transport.passwords import PasswordError, resolve_passwords
    from ascendctl.transport.ssh import SshTransport

    try:
        passwords = resolve_passwords([host.endpoint for host in hosts])
    except PasswordError as error:
        raise Refused(str(error)) from error
    by_name = {host.name: host for host in hosts}
    noting = noted() if patient else contextlib.nullcontext(Interruption())
    with SshTransport(passwords=passwords) as transport, noting as interruption:
        yield Fleet(by_name, transport, root, connect_s), interruption
    for warning in transport.warnings:
        print(f"ascendctl: {warning}", file=sys.stderr)
