"""``ascendctl explain CODE --run``: look for the causes of an error code on the hosts, and answer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ascendctl.cli.asking import Source, load_inventory, read_recording, this_host
from ascendctl.cli.exits import Refused
from ascendctl.facts import Profile
from ascendctl.results import ExitCode, Run, exit_code

if TYPE_CHECKING:
    from ascendctl.knowledge import ErrorCode
    from ascendctl.topology.mesh import MeshMode
    from ascendctl.transport.contract import Deadlines


def answer(
    code: ErrorCode, source: Source, deadlines: Deadlines, profile: Profile | None, *, quiet: bool = False
) -> ExitCode:
    """Print the answer; returns the exit code that the cells of the code's checks lead to.

    ``profile`` None: the deep one where a check of the code needs it, of a recording its own. Raises
    Refused, InventoryError.
    """
    from rich.console import Console

    from ascendctl.checks.causes import cells_of, look_for
    from ascendctl.report.code_answer import render_answer

    if not code.checks:
        causes = "; ".join(cause.text for cause in code.causes)
        raise Refused(f"explain --run: no check can see the causes of {code.code} from outside ({causes})")
    source.check()
    run = _replayed(source, profile) if source.replay else _live(code, source, deadlines, profile, quiet)
    cells = cells_of(code.checks, run.results)
    render_answer(code, look_for(code, run.results), cells, run, Console(highlight=False))
    return exit_code(cells, interrupted=run.interrupted)


def _replayed(source: Source, profile: Profile | None) -> Run:
    from ascendctl.verify import replay

    assert source.replay is not None
    recording, chosen = read_recording(
        source.replay, source.inventory, source.hosts, source.exclude, source.tags
    )
    if profile is Profile.DEEP and recording.profile is not Profile.DEEP:
        raise Refused(f"--profile deep: the hosts of {source.replay} were not asked all of it")
    return replay(dataclasses.replace(recording, profile=profile or recording.profile), only=chosen)


def _live(code: ErrorCode, source: Source, deadlines: Deadlines, profile: Profile | None, quiet: bool) -> Run:
    from ascendctl.checks.registry import BY_ID
    from ascendctl.cli.verify import ask_and_judge
    from ascendctl.inventory import select
    from ascendctl.second_phase import MeshSettings
    from ascendctl.verify import Settings

    deep = any(BY_ID[check].profile is Profile.DEEP for check in code.checks)
    settings = Settings(
        deadlines=deadlines,
        profile=profile or (Profile.DEEP if deep else Profile.STANDARD),
        mesh=MeshSettings(mode=_mode(code)),
    )
    if source.inventory is None:
        return ask_and_judge([this_host()], [], settings, local=True, quiet=quiet)
    loaded = load_inventory(source.inventory)
    chosen = select(loaded, source.hosts, source.exclude, list(source.tags))
    return ask_and_judge(chosen, loaded.waivers, settings, quiet=quiet)


def _mode(code: ErrorCode) -> MeshMode | None:
    """Which pings to send: as `verify` does where a check of the code reads them, else as few as can be.

    The host network is tried in the same phase, and in every mode but off.
    """
    from ascendctl.checks.host_net import HostNet
    from ascendctl.checks.registry import mesh_checks
    from ascendctl.topology.mesh import MeshMode

    if not {check.id for check in mesh_checks()}.isdisjoint(code.checks):
        return None
    return MeshMode.RING if HostNet.id in code.checks else MeshMode.OFF
