"""Draw the README's pictures of a bring-up: real vLLM on CPU behind OpenSSH on loopback, nothing made up.

E2E_CONTROL=.venv/bin/python .venv-e2e/bin/python -m docs.make_bring_up_screens   (after make test-e2e)

A seed and two joiners whose folders hold no weights; then a server of which one weight bit is flipped.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.e2e.models import build
from tests.e2e.ssh_site import CONTROL, Site, lay_out
from tests.e2e.test_bring_up import MODEL, SERVING
from tests.e2e.test_consistency_vllm import CHAT_TEMPLATE, HIGHEST_MANTISSA_BIT, corrupted

HERE = Path(__file__).parent
COLUMNS = 100


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="screens-"))
    model = build("llama", folder / "model")
    flipped = corrupted(model.full, folder / "flipped", HIGHEST_MANTISSA_BIT, tensors=1)
    with Site(folder, ["node01", "node02", "node03", "node09"]) as site:
        weights = {"node01": model.full, "node09": flipped}
        for host in site.names:
            lay_out(weights.get(host, model.bare), site.home(host) / MODEL)
            (site.home(host) / MODEL / "chat_template.jinja").write_text(CHAT_TEMPLATE)
        api, listen, other = (str(port) for port in site.free_ports(3))
        given = ["--inventory", "inventory.yaml", "--env-file", "engine.env"]
        # The hosts share one machine: what listens on one is in the way of another for the gate.
        started = [*given, "--no-gate", *SERVING, "--model", MODEL, "--port", api]
        run(
            site,
            "netloader",
            "serve",
            *started,
            "--hosts",
            "node01",
            "--name",
            "qwen",
            "--listen-port",
            listen,
        )
        joined = run(
            site, "netloader", "join", *given, "--no-gate", "--hosts", "node[02-03]", "--from", "qwen"
        )
        draw(
            joined,
            "join.svg",
            "ascendctl netloader join --inventory cluster.yaml --hosts node[02-03] --from qwen",
        )
        run(site, "netloader", "stop", "--inventory", "inventory.yaml", "qwen", "--hosts", "node[02-03]")
        run(
            site,
            "netloader",
            "serve",
            *started,
            "--hosts",
            "node09",
            "--name",
            "other",
            "--listen-port",
            other,
        )
        compare = ["--inventory", "inventory.yaml", "--reference", "qwen", "--candidate", "other"]
        run(site, "consistency-test", *compare, "--output", "report")
        photograph(site.control("control") / "report", "divergence.png")
        for name in ("qwen", "other"):
            run(site, "netloader", "stop", "--inventory", "inventory.yaml", name)
    shutil.rmtree(folder)


def run(site: Site, *words: str) -> str:
    """What a terminal of that width would show on standard output."""
    done = subprocess.run(
        [CONTROL, "-m", "ascendctl", *words],
        cwd=site.control("control"),
        env={**os.environ, "COLUMNS": str(COLUMNS), "FORCE_COLOR": "1", "TERM": "xterm-256color"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    sys.stdout.write(f"{done.stdout}exit code {done.returncode}\n")
    sys.stdout.flush()
    return done.stdout


def draw(screen: str, name: str, title: str) -> None:
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, force_terminal=True, file=nowhere)
        console.print(Text.from_ansi(screen.rstrip()), soft_wrap=True)
    svg = console.export_svg(title=title)
    # As in make_screen: a picture in a README fetches no font.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    (HERE / name).write_text(svg, encoding="utf-8")


def photograph(report: Path, name: str) -> None:
    """The page of a report, as a browser shows it."""
    (page,) = report.glob("**/*.html")
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    assert browser is not None, "Chromium draws the page"
    size = "--window-size=1280,1100"
    subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--hide-scrollbars",
            size,
            f"--screenshot={HERE / name}",
            page,
        ],
        check=True,
    )


if __name__ == "__main__":
    main()
