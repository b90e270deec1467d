"""What the engine's room may import: it runs inside vLLM's workers, where nothing else of ascendctl belongs.

Read from the source (AST), so that neither torch nor vLLM is needed here. Imports inside functions count,
those under ``if TYPE_CHECKING:`` are never executed and do not.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import ascendctl

ROOT = Path(ascendctl.__file__).parent.parent
ENGINE = "ascendctl.netloader.engine"

# Who may import what besides the standard library. torch: every module of the room but those of STDLIB_ONLY.
ONLY_IN = {
    "vllm": {f"{ENGINE}.loader", f"{ENGINE}.plugin", f"{ENGINE}.weight_hooks"},
    "torch_npu": {f"{ENGINE}.links.hccl"},
    "prometheus_client": {f"{ENGINE}.metrics"},
}
# May be missing at run time: imported within a function, so that the module itself always imports.
LAZY = {
    "vllm": {f"{ENGINE}.plugin"},
    "torch_npu": {f"{ENGINE}.links.hccl"},
    "prometheus_client": {f"{ENGINE}.metrics"},
}
STDLIB_ONLY = tuple(
    f"{ENGINE}.{name}"
    for name in (
        "address",
        "chain",
        "control",
        "fields",
        "holdings",
        "identity",
        "manifest",
        "options",
        "origin",
        "pace",
        "phases",
        "proof",
        "status_file",
        "weight_version",
        "wire",
    )
)
# What the room may use of the rest of ascendctl: itself nothing but standard library.
OUTSIDE = {"ascendctl", "ascendctl.hccl_ports", "ascendctl.netloader", "ascendctl.whole_file"}


@dataclass(frozen=True)
class Import:
    module: str
    line: int
    lazy: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def imports_of(source: str, name: str, *, package: bool = False) -> list[Import]:
    """Every import that can be executed, dynamic ones with a literal name included."""
    return list(_walk(ast.parse(source), name if package else name.rpartition(".")[0], False))


def _walk(node: ast.AST, package: str, lazy: bool) -> Iterator[Import]:
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        for child in node.orelse:
            yield from _walk(child, package, lazy)
        return
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, node.lineno, lazy) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parents, *filter(None, [node.module])])
        yield Import(base, node.lineno, lazy)
        # `from package import name`: the name may be a module.
        yield from (Import(f"{base}.{alias.name}", node.lineno, lazy) for alias in node.names)
    elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
        "import_module",
        "__import__",
    ):
        literal = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
        yield Import(literal if isinstance(literal, str) else "<computed>", node.lineno, lazy)
    within = lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, package, within)


def violations(source: str, name: str, *, package: bool = False) -> list[str]:
    """What one module of the room imports and should not."""
    found = []
    for wanted in imports_of(source, name, package=package):
        top, where = wanted.top, f"{name}:{wanted.line} imports {wanted.module}"
        if top == "ascendctl":
            inside = wanted.module == ENGINE or wanted.module.startswith(f"{ENGINE}.")
            # `from module import name` counts as module.name too, a module only where there is such a file.
            module = wanted.module if module_path(wanted.module) else wanted.module.rpartition(".")[0]
            if not inside and module not in OUTSIDE:
                found.append(f"{where}: outside the room")
        elif top == "torch":
            if name in STDLIB_ONLY:
                found.append(f"{where}: this module is to run without torch")
        elif top in ONLY_IN:
            if name not in ONLY_IN[top]:
                found.append(f"{where}: only {', '.join(sorted(ONLY_IN[top]))} may")
            elif name in LAZY.get(top, ()) and not wanted.lazy:
                found.append(f"{where}: only within a function")
        elif top not in sys.stdlib_module_names:
            found.append(f"{where}: neither the standard library nor torch nor vLLM")
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room() -> dict[str, Path]:
    paths = sorted((ROOT / "ascendctl" / "netloader" / "engine").rglob("*.py"))
    return {module_name(path): path for path in paths}


def module_path(name: str) -> Path | None:
    stem = ROOT.joinpath(*name.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def closure(name: str) -> dict[str, set[str]]:
    """Module → what is imported when it is and everything in it is called, all of ascendctl's followed."""
    found: dict[str, set[str]] = {}
    waiting = [name]
    while waiting:
        at = waiting.pop()
        path = module_path(at)
        if at in found or path is None:
            continue
        text = path.read_text(encoding="utf-8")
        wanted = imports_of(text, at, package=path.name == "__init__.py")
        found[at] = {one.module for one in wanted if one.top != "ascendctl"}
        inner = [one.module for one in wanted if one.top == "ascendctl"] + [at]
        waiting += [
            ".".join(module.split(".")[:end]) for module in inner for end in range(1, module.count(".") + 2)
        ]
    return found


def test_the_room_imports_only_what_vllm_has() -> None:
    modules = room()
    assert f"{ENGINE}.options" in modules
    found = [
        problem
        for name, path in modules.items()
        for problem in violations(path.read_text(encoding="utf-8"), name, package=path.name == "__init__.py")
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", STDLIB_ONLY)
def test_these_need_nothing_but_the_standard_library(name: str) -> None:
    reached = closure(name)
    assert name in reached, f"{name} is gone: take it off the list"
    foreign = {
        f"{module} imports {wanted}"
        for module, imported in reached.items()
        for wanted in imported
        if wanted.partition(".")[0] not in sys.stdlib_module_names
    }
    assert not foreign


@pytest.mark.parametrize("name", sorted(OUTSIDE))
def test_what_lies_outside_is_as_light(name: str) -> None:
    reached = closure(name)
    assert set(reached) <= OUTSIDE
    assert {
        wanted.partition(".")[0] for each in reached.values() for wanted in each
    } <= sys.stdlib_module_names


CASES = [
    ("options", "import torch", "without torch"),
    ("options", "def f():\n    from torch.distributed import Store", "without torch"),
    ("wire", "import importlib\nimportlib.import_module('torch')", "without torch"),
    ("wire", "import importlib\nimportlib.import_module(name)", "<computed>"),
    ("weights", "__import__('numpy')", "numpy"),
    ("weights", "import vllm.config", "only ascendctl.netloader.engine.loader"),
    ("plugin", "from vllm.config import VllmConfig", "within a function"),
    ("plugin", "class A:\n    import vllm", "within a function"),
    ("links.gloo", "def f():\n    import torch_npu", "only ascendctl.netloader.engine.links.hccl"),
    ("links.hccl", "import torch_npu", "within a function"),
    ("metrics", "try:\n    import prometheus_client\nexcept ImportError:\n    pass", "within a function"),
    ("source", "import pydantic", "neither the standard library"),
    ("source", "from ascendctl.results import Status", "outside the room"),
    ("source", "from ascendctl import results", "outside the room"),
    ("source", "from ...inventory import loading", "outside the room"),
    ("source", "if TYPE_CHECKING:\n    pass\nelse:\n    import numpy", "numpy"),
]


@pytest.mark.parametrize(("module", "source", "words"), CASES, ids=[str(n) for n in range(len(CASES))])
def test_what_breaks_a_rule_is_seen(module: str, source: str, words: str) -> None:
    found = violations(source, f"{ENGINE}.{module}")
    assert found
    assert words in found[0]


ALLOWED = [
    ("options", "import json, os.path\nfrom collections.abc import Mapping"),
    ("options", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch, numpy"),
    ("options", "from ascendctl.netloader.engine.address import Address"),
    ("options", "from ascendctl.whole_file import whole_file\nfrom .address import Address"),
    ("weights", "import torch\nfrom torch import Tensor"),
    ("loader", "from vllm.config import VllmConfig"),
    ("plugin", "def register():\n    from vllm.config import VllmConfig"),
    ("links.hccl", "import torch\ndef f():\n    import torch_npu"),
    ("metrics", "def f():\n    from prometheus_client import Counter"),
]


@pytest.mark.parametrize(("module", "source"), ALLOWED, ids=[str(n) for n in range(len(ALLOWED))])
def test_what_keeps_the_rules_is_let_through(module: str, source: str) -> None:
    assert violations(source, f"{ENGINE}.{module}") == []
