"""``ascendctl demo``: a simulated cluster with seeded faults, verified in one go."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from ascendctl.cli.options import Format, QuietOption
from ascendctl.results import ExitCode, Run, Status, exit_code

if TYPE_CHECKING:
    from ascendctl.sim.demo import DemoFault


def register(app: typer.Typer) -> None:
    """Add the command ``demo``."""
    app.command("demo")(demo)


def demo(quiet: QuietOption = False) -> None:
    """Break six things on eight simulated servers, verify them over real SSH, and see each one found.

    Exit code 0 when exactly the seeded faults were reported, else 1.
    """
    from ascendctl.cli.verify import ask_and_judge, print_run
    from ascendctl.inventory import load
    from ascendctl.sim.cluster import SimCluster
    from ascendctl.sim.demo import DEMO_FAULTS, DEMO_SPEC
    from ascendctl.verify import Settings

    if not quiet:
        print("starting 8 simulated Atlas A2 servers behind SSH on loopback ...", file=sys.stderr)
    with SimCluster(DEMO_SPEC) as sim:
        inventory = load(sim.inventory_path)
        run = ask_and_judge(inventory.hosts, inventory.waivers, Settings(), quiet=quiet)
    print_run(run, Format.TABLE, strict=False, code=exit_code(run.results))
    if run.interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)
    exact = _compare(run, DEMO_FAULTS)
    raise typer.Exit(ExitCode.OK if exact else ExitCode.FOUND_WRONG)


def _compare(run: Run, seeded: tuple[DemoFault, ...]) -> bool:
    """Print what was seeded beside what was reported; whether they are the same."""
    reported = {
        (cell.check, cell.subject.host, cell.subject.device): cell.status
        for cell in run.results
        if cell.status not in (Status.PASS, Status.NOT_APPLICABLE, Status.SKIPPED)
    }
    print("\nSeeded in this demo, and reported:")
    exact = True
    for each in seeded:
        place = (each.check, each.fault.host, each.fault.device)
        seen = reported.pop(place, None)
        found = seen is not None and seen.value == each.status
        exact = exact and found
        device = "" if each.fault.device is None else f" device {each.fault.device}"
        verdict = f"{each.check}: {seen.value}" if seen else "NOT REPORTED"
        print(f"  {'✔' if found else '✖'} {each.fault.kind} on {each.fault.host}{device} → {verdict}")
    for check, host, device_id in reported:
        print(f"  ✖ reported without having been seeded: {check} on {host} device {device_id}")
    exact = exact and not reported
    print(f"all {len(seeded)} seeded faults reported, nothing else" if exact else "not what was seeded")
    return exact
