"""The way into vLLM: which load formats are ours, and that a plugin never stops an engine that wants none."""

from __future__ import annotations

import importlib.metadata
import logging
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ascendctl.netloader.engine import plugin
from ascendctl.netloader.engine.phases import LOGGER

CHILD_TIMEOUT_S = 120


class Loader:
    """Stands in the loader's place: importing the real one takes vLLM."""


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, type]]]:
    """What a stand-in of vLLM's registration was told, in order."""
    calls: list[tuple[str, type]] = []

    def register_model_loader(name: str) -> Callable[[type], type]:
        def registered(loader: type) -> type:
            calls.append((name, loader))
            return loader

        return registered

    for name in ("vllm", "vllm.model_executor", "vllm.model_executor.model_loader"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["vllm.model_executor.model_loader"].register_model_loader = register_model_loader  # type: ignore[attr-defined]
    loader = types.ModuleType("ascendctl.netloader.engine.loader")
    loader.NetloaderModelLoader = Loader  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ascendctl.netloader.engine.loader", loader)
    monkeypatch.setattr(plugin, "_registered", set())
    # Whatever this machine has installed, nothing of it decides here.
    monkeypatch.setattr(sys, "path", [])
    yield calls


def install(folder: Path, info_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution's metadata as an installer leaves them; its code need not be importable."""
    info = folder / info_name
    info.mkdir()
    for name in ("METADATA", "PKG-INFO"):
        (info / name).write_text("Metadata-Version: 2.1\nName: x\nVersion: 0.20.2\n")
    monkeypatch.setattr(sys, "path", [str(folder)])
    importlib.invalidate_caches()


def test_both_formats_are_ours_where_vllm_ascend_is_not_installed(registry: list[tuple[str, type]]) -> None:
    plugin.register()
    assert registry == [("ascendctl", Loader), ("netloader", Loader)]


@pytest.mark.parametrize(
    "info_name",
    ["vllm_ascend-0.20.2.dist-info", "vllm_ascend.egg-info", "vllm_ascend-0.20.2-py3.11.egg-info"],
)
def test_vllm_ascends_name_is_left_to_it_where_it_is_installed(
    registry: list[tuple[str, type]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, info_name: str
) -> None:
    install(tmp_path, info_name, monkeypatch)
    plugin.register()
    assert registry == [("ascendctl", Loader)]


def test_an_importable_module_of_that_name_decides_nothing(
    registry: list[tuple[str, type]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "vllm_ascend_extras-1.0.dist-info", monkeypatch)
    monkeypatch.setitem(sys.modules, "vllm_ascend", types.ModuleType("vllm_ascend"))
    plugin.register()
    assert [name for name, _ in registry] == ["ascendctl", "netloader"]


def test_a_second_call_changes_nothing(registry: list[tuple[str, type]]) -> None:
    plugin.register()
    plugin.register()
    assert len(registry) == 2


def test_a_loader_that_cannot_be_imported_stops_no_engine(
    registry: list[tuple[str, type]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as older, caplog.at_level(logging.ERROR, LOGGER):
        older.delattr(sys.modules["vllm.model_executor.model_loader"], "register_model_loader")
        plugin.register()
    assert registry == []
    assert "--load-format ascendctl and netloader is not available" in caplog.messages[0]
    assert "ImportError" in caplog.messages[0]
    plugin.register()
    assert len(registry) == 2


def test_importing_the_plugin_imports_neither_torch_nor_vllm() -> None:
    """vLLM imports every plugin of every process before it knows which one is asked for."""
    program = """
import sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torch_npu", "vllm", "typer", "pydantic", "prometheus_client"):
            raise AssertionError("imported " + name)
sys.meta_path.insert(0, Refusing())
import ascendctl.netloader.engine.plugin as plugin
assert callable(plugin.register)
import ascendctl.netloader.engine.metrics
print(plugin.load_formats()[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=CHILD_TIMEOUT_S, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "ascendctl"), done.stderr
