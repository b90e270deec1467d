"""Environments as files: one shell file per host in a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ascendctl.facts import ClusterFacts
from ascendctl.hccl.environment import Environment, Role, environments
from ascendctl.hccl.render import as_sh
from ascendctl.whole_file import whole_file

_MODE = 0o644  # nothing secret is in it, and the engine's user must read it


class EnvironmentFileError(Exception):
    """The files cannot be written; the text says where and why."""


def write_environments(
    cluster: ClusterFacts,
    directory: Path,
    *,
    role: Role = Role.SERVE,
    ssh_addresses: Mapping[str, str] | None = None,
) -> tuple[Path, ...]:
    """Derive and write ``HOST.sh`` for every host that has an environment; the paths written.

    Raises EnvironmentFileError.
    """
    return write_files(environments(cluster, role, ssh_addresses=ssh_addresses), directory)


def write_files(found: Sequence[Environment], directory: Path) -> tuple[Path, ...]:
    """Write ``HOST.sh`` where there are settings, remove an older one where there are none.

    A file is whole or not there; a symbolic link of that name is replaced, never followed.
    Raises EnvironmentFileError.
    """
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for environment in found:
            path = directory / f"{environment.host}.sh"
            if path.parent != directory:
                raise EnvironmentFileError(f"{environment.host!r} cannot be the name of a file")
            if environment.settings:
                with whole_file(path, _MODE) as stream:
                    stream.write(as_sh(environment))
                written.append(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentFileError(
            f"cannot write environments into {directory}: {error.strerror or error}; name a folder on this "
            "machine that you may write to, with room left"
        ) from error
    return tuple(written)
