"""What a loaded inventory is: frozen dataclasses, everything merged and resolved."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from ascendctl.facts import Cable


class Privilege(str, Enum):
    """How commands that need root get it: logged in as root, or ``sudo -n`` for those commands."""

    ROOT = "root"
    SUDO = "sudo"


class HostKeyPolicy(str, Enum):
    STRICT = "strict"
    ACCEPT_NEW = "accept-new"


@dataclass(frozen=True)
class PasswordSource:
    """Where a password comes from: exactly one is set. It is never stored or printed."""

    prompt: bool = False
    env: str | None = None
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Endpoint:
    """How to reach one SSH server. None = what ~/.ssh/config or the defaults say."""

    name: str
    address: str
    port: int | None = None
    user: str | None = None
    identity_files: tuple[Path, ...] = ()
    known_hosts: Path | None = None
    host_key_policy: HostKeyPolicy = HostKeyPolicy.STRICT
    password: PasswordSource | None = None
    jump: Endpoint | None = None
    use_ssh_config: bool = True


@dataclass(frozen=True)
class Waiver:
    """A finding accepted up to and including a date. ``device`` is a physical id; None = every device."""

    check: str
    hosts: frozenset[str]
    device: int | None
    until: dt.date
    reason: str


@dataclass(frozen=True)
class Host:
    """One host of the inventory with defaults, group and host settings merged."""

    name: str
    endpoint: Endpoint
    group: str = ""
    privilege: Privilege = Privilege.ROOT
    accelerator: str = "auto"  # auto|ascend|nvidia|cpu
    generation: str = "auto"  # a2|a3|auto
    npus: int | None = None  # None = auto
    scale_out: str = "auto"  # roce|none|auto
    nic: str | None = None
    tags: frozenset[str] = field(default_factory=frozenset)
    thresholds: Mapping[str, float] = field(default_factory=dict, hash=False)  # overrides by name
    cabling: Mapping[int, Cable] = field(default_factory=dict, hash=False)  # by physical id
    engine_exec: tuple[str, ...] = ()  # prefix that enters the engine's environment, e.g. docker exec NAME
    engine_ports: tuple[int, ...] = ()  # TCP ports that other hosts reach the engine on


@dataclass(frozen=True)
class Inventory:
    """A loaded, merged, validated inventory; ``hosts`` in file order, names unique.

    ``groups`` holds every group of the file in file order, also one that no host is in.
    """

    path: Path
    hosts: tuple[Host, ...]
    waivers: tuple[Waiver, ...] = ()
    groups: tuple[str, ...] = ()


class InventoryError(Exception):
    """The inventory cannot be used. ``problems`` are complete sentences with file and line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
