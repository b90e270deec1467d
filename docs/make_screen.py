"""Draw docs/verify.svg: the summary that ``ascendctl demo`` prints, as a terminal shows it.

python docs/make_screen.py
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console

from ascendctl.cli.verify import ask_and_judge
from ascendctl.inventory import load
from ascendctl.report.terminal import render_summary
from ascendctl.results import exit_code
from ascendctl.sim.cluster import SimCluster
from ascendctl.sim.demo import DEMO_SPEC
from ascendctl.verify import Settings


def main() -> None:
    with SimCluster(DEMO_SPEC) as sim:
        inventory = load(sim.inventory_path)
        run = ask_and_judge(inventory.hosts, inventory.waivers, Settings())
    console = Console(record=True, width=100, force_terminal=True, file=io.StringIO())
    render_summary(run, console, strict=False, exit_code=exit_code(run.results))
    target = Path(__file__).with_name("verify.svg")
    svg = console.export_svg(title="ascendctl verify --inventory cluster.yaml")
    # The reader's own monospace font will do; a picture in a README fetches nothing.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    target.write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
