"""An environment as text: for a shell, for ``docker run``, for an environment file, as JSON.

Comments hold the reasons. Every value is quoted for where it goes, whatever it is.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from ascendctl.hccl.environment import Environment
from ascendctl.report.printable import shown


def as_sh(environment: Environment) -> str:
    """``export`` lines to be sourced by a POSIX shell (zsh included), each under its reason."""
    lines = _heading(environment)
    for setting in environment.settings:
        lines += [f"# {shown(setting.reason)}", f"export {setting.name}={_quoted(setting.value)}"]
    return "\n".join(lines) + "\n"


def as_sh_of_many(found: Sequence[Environment]) -> str:
    """One file for several hosts: each takes its own part by what ``hostname`` says there.

    A host that has no part gets an error and none of the settings: another host's address would be worse.
    ``found`` must hold settings, and host names that differ.
    """
    lines = [
        f"# ascendctl env --role {found[0].role.value}: source it on any of these hosts",
        'case "$(hostname)" in',
    ]
    for environment in found:
        lines.append(f"{_quoted(environment.hostname or environment.host)})")
        lines += [f"  {line}" for line in as_sh(environment).rstrip("\n").split("\n")]
        lines.append("  ;;")
    lines += [
        "*)",
        '  echo "no environment for host $(hostname) in this file" >&2',
        "  return 1 2>/dev/null || exit 1",
        "  ;;",
        "esac",
    ]
    return "\n".join(lines) + "\n"


def as_dotenv(environment: Environment) -> str:
    """``NAME=value`` lines as ``docker run --env-file``, systemd and dotenv readers take them alike.

    Docker takes a value as it stands, the others know quotes: so nothing is quoted.
    Raises ValueError for a value on which they would differ (blanks, quotes, ``#``, ``$``, backslash).
    """
    lines = _heading(environment)
    for setting in environment.settings:
        if any(char.isspace() or char in "'\"#$\\`" for char in setting.value):
            raise ValueError(f"{setting.name}: {setting.value!r} has no form that every reader takes alike")
        lines += [f"# {shown(setting.reason)}", f"{setting.name}={setting.value}"]
    return "\n".join(lines) + "\n"


def as_docker(environment: Environment) -> str:
    """``-e NAME='value' \\`` lines, to be pasted between ``docker run`` and the image."""
    return "".join(f"  -e {setting.name}={_quoted(setting.value)} \\\n" for setting in environment.settings)


def as_json(found: Sequence[Environment]) -> str:
    """Every host with its settings, reasons, warnings and refusals."""
    hosts = [_host_json(environment) for environment in found]
    role = found[0].role.value if found else None
    return json.dumps({"format": 1, "role": role, "hosts": hosts}, indent=2, ensure_ascii=True) + "\n"


def _host_json(environment: Environment) -> dict[str, Any]:
    return {
        "host": environment.host,
        "learned": environment.learned,
        "environment": environment.values,
        "reasons": {setting.name: shown(setting.reason) for setting in environment.settings},
        "warnings": [shown(text) for text in environment.warnings],
        "refusals": [shown(text) for text in environment.refusals],
    }


def _heading(environment: Environment) -> list[str]:
    lines = [f"# {shown(environment.host)}: ascendctl env --role {environment.role.value}"]
    lines += [f"# warning: {shown(text)}" for text in environment.warnings]
    return lines


def _quoted(value: str) -> str:
    """Single-quoted even where a POSIX shell would not need it: zsh expands a bare ``=nic``."""
    quoted = shlex.quote(value)
    return quoted if quoted != value else f"'{value}'"
