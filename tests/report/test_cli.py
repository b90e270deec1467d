"""``ascendctl report``."""

from __future__ import annotations

import json
import subprocess
import sys

import typer
from typer.testing import CliRunner

from ascendctl.cli import report
from ascendctl.report.model import schema


def test_schema_is_printed_as_json() -> None:
    app = typer.Typer()
    report.register(app)
    result = CliRunner().invoke(app, ["report", "schema"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == schema()


def test_registering_loads_nothing_heavy() -> None:
    code = (
        "import sys, importlib.util, pathlib\n"
        "import ascendctl\n"
        "path = pathlib.Path(ascendctl.__file__).parent / 'cli' / 'report.py'\n"
        "spec = importlib.util.spec_from_file_location('report_group', path)\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "import typer; module.register(typer.Typer())\n"
        "print([name for name in ('pydantic', 'ClusterShell', 'ascendctl.report') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
