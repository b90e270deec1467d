"""From what a command line names (inventory, recording, this very host) to the facts of its hosts."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ascendctl.cli.exits import Refused

if TYPE_CHECKING:
    from ascendctl.facts import ClusterFacts
    from ascendctl.inventory import Host, Inventory
    from ascendctl.probe.bundle import HostRecord, Recorder, Recording
    from ascendctl.verify import Settings


@dataclass(frozen=True)
class Source:
    """What a command line names: an inventory, a recording (under an inventory or not), or this host."""

    inventory: Path | None = None
    replay: Path | None = None
    local: bool = False
    hosts: str | None = None
    exclude: str | None = None
    tags: Sequence[str] = ()

    def check(self) -> None:
        """Raises Refused where nothing is named, or two things that exclude each other."""
        if not (self.inventory or self.local or self.replay):
            raise Refused("name the hosts: --inventory FILE, or --local for this host, or --replay DIR")
        if self.local and (self.inventory or self.replay):
            raise Refused("--local asks this very host; it goes with neither --inventory nor --replay")
        if self.local and (self.hosts or self.exclude or self.tags):
            raise Refused(
                "--local asks this very host; --hosts, --exclude and --tags select from an inventory"
            )


@dataclass(frozen=True)
class Asked:
    """``ssh_addresses``: by host name, how the inventory says it is logged into; names are possible."""

    cluster: ClusterFacts
    ssh_addresses: Mapping[str, str] = field(default_factory=dict)
    interrupted: bool = False


def ask(source: Source, settings: Settings, *, quiet: bool = False) -> Asked:
    """Ask the hosts, or read what was recorded of them. Raises Refused, InventoryError."""
    from ascendctl.assembly import host_facts
    from ascendctl.facts import ClusterFacts, ReachStatus

    source.check()
    addresses: dict[str, str] = {}
    if source.replay:
        recording, chosen = read_recording(
            source.replay, source.inventory, source.hosts, source.exclude, source.tags
        )
        records: Sequence[HostRecord] = [one for one in recording.hosts if one.name in chosen]
        interrupted = any(one.reach.status is ReachStatus.INTERRUPTED for one in records)
        if source.inventory:
            addresses = {host.name: host.endpoint.address for host in chosen.values()}
    else:
        hosts = [this_host()] if source.local else selected(source)
        records, interrupted = gather_live(hosts, settings, local=source.local, quiet=quiet)
        if not source.local:
            addresses = {host.name: host.endpoint.address for host in hosts}
    return Asked(ClusterFacts(tuple(host_facts(record) for record in records)), addresses, interrupted)


def gather_live(
    hosts: Sequence[Host],
    settings: Settings,
    *,
    local: bool = False,
    quiet: bool = False,
    recorder: Recorder | None = None,
) -> tuple[Sequence[HostRecord], bool]:
    """Ask with progress on standard error; one record per host, and whether it was interrupted.

    Raises Refused where a password cannot be had.
    """
    from ascendctl.report.progress import Progress
    from ascendctl.transport.local import LocalTransport
    from ascendctl.transport.passwords import PasswordError, resolve_passwords
    from ascendctl.transport.ssh import SshTransport
    from ascendctl.verify import gather

    try:
        passwords = None if local else resolve_passwords([host.endpoint for host in hosts])
    except PasswordError as error:
        raise Refused(str(error)) from error
    with contextlib.ExitStack() as stack:
        ssh = stack.enter_context(SshTransport(passwords=passwords)) if passwords is not None else None
        progress = stack.enter_context(Progress([host.name for host in hosts], quiet=quiet))
        gathered = gather(
            hosts,
            ssh or LocalTransport(),
            settings=settings,
            listener=progress,
            on_answer=progress.frame,
            recorder=recorder,
        )
    for warning in ssh.warnings if ssh else ():
        print(f"ascendctl: {warning}", file=sys.stderr)
    return gathered


def read_recording(
    directory: Path,
    inventory: Path | None,
    hosts: str | None,
    exclude: str | None,
    tags: Sequence[str],
) -> tuple[Recording, Mapping[str, Host]]:
    """A recording, under an inventory's expectations where one is given, and the selected hosts by name.

    Raises Refused, InventoryError.
    """
    from ascendctl.inventory import select
    from ascendctl.probe.archive import recording_folder
    from ascendctl.probe.bundle import RecordingError, load
    from ascendctl.verify import as_inventory, with_inventory

    try:
        with recording_folder(directory) as folder:
            recording = load(folder)
    except RecordingError as error:
        raise Refused(str(error)) from error
    if inventory:
        loaded = load_inventory(inventory)
        recording = with_inventory(recording, loaded, directory)
    else:
        loaded = as_inventory(recording, directory)
    if recording.ignored:
        print(f"ascendctl: not outputs, ignored: {', '.join(recording.ignored)}", file=sys.stderr)
    return recording, {host.name: host for host in select(loaded, hosts, exclude, list(tags))}


def load_inventory(path: Path) -> Inventory:
    """The inventory, its waivers held against the checks there are. Raises InventoryError."""
    from ascendctl.checks.registry import BY_ID
    from ascendctl.inventory import load

    return load(path, known_checks=BY_ID)


def selected(source: Source) -> Sequence[Host]:
    """The hosts of the inventory that the options select. Raises InventoryError."""
    from ascendctl.inventory import select

    assert source.inventory is not None
    return select(load_inventory(source.inventory), source.hosts, source.exclude, list(source.tags))


def this_host() -> Host:
    """The very host this runs on."""
    import socket

    from ascendctl.inventory import Endpoint, Host

    name = socket.gethostname() or "localhost"
    return Host(name=name, endpoint=Endpoint(name=name, address="localhost"))
