"""The simulator is the second reading of the vendor's facts: it shares none of the first one's code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ascendctl.sim

FILES = sorted(Path(ascendctl.sim.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_simulator_imports_only_itself(file: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module or "")
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
    ours = {name for name in imported if name.split(".")[0] == "ascendctl"}
    assert all(name == "ascendctl" or f"{name}.".startswith("ascendctl.sim.") for name in ours), ours
