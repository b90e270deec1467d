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
    from ascendctl.report.progress import Progress
    from ascendctl.transport.contract import Outcome
    from ascendctl.verify import Gathered, Settings


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
        cluster = ClusterFacts(tuple(host_facts(record) for record in records))
        if source.inventory:
            addresses = {host.name: host.endpoint.address for host in chosen.values()}
    else:
        hosts = [this_host()] if source.local else selected(source)
        gathered = gather_live(hosts, settings, local=source.local, quiet=quiet)
        cluster, interrupted = gathered.facts, gathered.interrupted
        if not source.local:
            addresses = {host.name: host.endpoint.address for host in hosts}
    return Asked(cluster, addresses, interrupted)


def gather_live(
    hosts: Sequence[Host],
    settings: Settings,
    *,
    local: bool = False,
    quiet: bool = False,
    recorder: Recorder | None = None,
    mesh: bool = False,
    until_s: float | None = None,
) -> Gathered:
    """Ask with progress on standard error; with ``mesh`` also have the hosts ping each other.

    The plan of that is told on standard error before it is carried out. ``until_s``: the monotonic time at
    which the run has to end. Raises Refused where a password cannot be had.
    """
    from ascendctl.report.progress import Progress
    from ascendctl.transport.local import LocalTransport
    from ascendctl.transport.passwords import PasswordError, resolve_passwords
    from ascendctl.transport.ssh import SshTransport
    from ascendctl.verify import gather, gather_mesh

    try:
        passwords = None if local else resolve_passwords([host.endpoint for host in hosts])
    except PasswordError as error:
        raise Refused(str(error)) from error
    with contextlib.ExitStack() as stack:
        ssh = stack.enter_context(SshTransport(passwords=passwords)) if passwords is not None else None
        transport = ssh or LocalTransport()
        with Progress([host.name for host in hosts], quiet=quiet) as progress:
            gathered = gather(
                hosts,
                transport,
                settings=settings,
                listener=progress,
                on_answer=progress.frame,
                recorder=recorder,
            )
        if mesh:
            with _Rounds(quiet) as rounds:
                gathered = gather_mesh(
                    hosts,
                    gathered,
                    transport,
                    settings=settings,
                    listener=rounds,
                    on_answer=rounds.frame,
                    say=rounds.say,
                    recorder=recorder,
                    until_s=until_s,
                )
    for warning in ssh.warnings if ssh else ():
        print(f"ascendctl: {warning}", file=sys.stderr)
    return gathered


class _Rounds:
    """The progress of the rounds of pings: for each a line that says its plan, then a display of its own."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._shown = contextlib.ExitStack()
        self._progress: Progress | None = None

    def __enter__(self) -> _Rounds:
        return self

    def __exit__(self, *exc: object) -> None:
        self._shown.close()

    def say(self, text: str, hosts: Sequence[str]) -> None:
        """What is going to be asked of which hosts; none where it is a mere word."""
        from ascendctl.report.progress import Progress

        self._shown.close()
        if not self._quiet:
            print(f"ascendctl: {text}", file=sys.stderr, flush=True)
        if hosts:
            self._progress = self._shown.enter_context(Progress(hosts, quiet=self._quiet))

    def started(self, host: str) -> None:
        if self._progress:
            self._progress.started(host)

    def frame(self, host: str, text: str) -> None:
        if self._progress:
            self._progress.frame(host, text)

    def finished(self, outcome: Outcome) -> None:
        if self._progress:
            self._progress.finished(outcome)


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
