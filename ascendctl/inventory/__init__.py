"""The inventory file: what it holds, loading it, choosing hosts from it.

The dataclasses are cheap to import, because the transport needs them; pydantic, PyYAML and
ClusterShell are imported by the first call that needs them.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ascendctl.inventory.model import (
    Endpoint,
    Host,
    HostKeyPolicy,
    Inventory,
    InventoryError,
    PasswordSource,
    Privilege,
    Waiver,
)
from ascendctl.inventory.nodesets import fold, select

__all__ = [
    "Endpoint",
    "Host",
    "HostKeyPolicy",
    "Inventory",
    "InventoryError",
    "PasswordSource",
    "Privilege",
    "Waiver",
    "fold",
    "load",
    "schema",
    "select",
]


def load(path: Path, known_checks: Collection[str] | None = None) -> Inventory:
    """Read, validate and merge an inventory file. Opens no connection.

    ``known_checks``: ids that waivers may name; None = any well-formed id. Raises `InventoryError`
    with every problem of the file, each naming file, line and YAML path.
    """
    from ascendctl.inventory.loading import load_file

    return load_file(path, known_checks)


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the file, with a description for every key."""
    from ascendctl.inventory.shape import json_schema

    return json_schema()
