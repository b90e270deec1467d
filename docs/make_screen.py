"""Draw the pictures of the README: what commands print, as a terminal shows it, and the mesh as drawn.

python docs/make_screen.py
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console

from ascendctl.checks.causes import cells_of, look_for
from ascendctl.cli.verify import ask_and_judge
from ascendctl.facts import Profile
from ascendctl.inventory import load
from ascendctl.knowledge import explain
from ascendctl.report.code_answer import render_answer
from ascendctl.report.terminal import render_summary
from ascendctl.report.topology_svg import topology_svg
from ascendctl.results import Run, exit_code
from ascendctl.sim.cluster import SimCluster
from ascendctl.sim.demo import DEMO_SPEC
from ascendctl.sim.spec import Spec, make_spec
from ascendctl.topology.fabric import fabric_of
from ascendctl.verify import Settings

HERE = Path(__file__).parent
MESH_SPEC = make_spec(
    generation="a3",
    hosts=8,
    hosts_per_leaf=4,
    faults=[
        {"host": "node03", "device": 3, "kind": "port-loss", "value": "30"},
        {"host": "node06", "device": 6, "kind": "link-down"},
    ],
)


def main() -> None:
    run = _verified(DEMO_SPEC)
    console = _console()
    render_summary(run, console, strict=False, exit_code=exit_code(run.results))
    _write(console, "verify.svg", "ascendctl verify --inventory cluster.yaml")

    run = _verified(MESH_SPEC, Settings(profile=Profile.DEEP))
    assert run.facts is not None
    picture = topology_svg(fabric_of(run.facts), run.results, run.verdicts)
    (HERE / "mesh.svg").write_text(picture, encoding="utf-8")

    code = explain("EI0006")
    assert code is not None
    console = _console()
    cells = cells_of(code.checks, run.results)
    render_answer(code, look_for(code, run.results), cells, run, console)
    _write(console, "explain-run.svg", "ascendctl explain EI0006 --run --inventory cluster.yaml")


def _verified(spec: Spec, settings: Settings | None = None) -> Run:
    with SimCluster(spec) as sim:
        inventory = load(sim.inventory_path)
        return ask_and_judge(inventory.hosts, inventory.waivers, settings or Settings())


def _console() -> Console:
    return Console(record=True, width=100, force_terminal=True, file=io.StringIO())


def _write(console: Console, name: str, title: str) -> None:
    svg = console.export_svg(title=title)
    # The reader's own monospace font will do; a picture in a README fetches nothing.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    (HERE / name).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
