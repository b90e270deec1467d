"""What the tests with real vLLM share: the models, the prompts, and servers that several tests ask.

A server takes most of a minute to start, so a seed is started once, beside others, and kept to the end.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.vllm_server import VllmServer

if TYPE_CHECKING:
    from tests.e2e.models import Model

PROMPTS = 100

# Two workers take the files in this order: the longest first, and those that mostly wait last. Whatever is
# not named follows.
_LONGEST_FIRST = ("test_vllm_join.py", "test_bring_up.py", "test_consistency_vllm.py", "engine/test_links.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by file only; the sort is stable, so the tests of a file keep their order."""
    here = Path(__file__).parent
    places = {here / name: place for place, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@dataclass
class Servers:
    """Starts servers whose logs and status files are under `folder`; all end with the session."""

    folder: Path
    _stack: ExitStack = field(default_factory=ExitStack)

    def plain(self, name: str, model: Path, host: str) -> VllmServer:
        """vLLM without any of ours, still starting."""
        return self._started(VllmServer(model, self.folder / f"{name}.log", host))

    def engine(
        self, name: str, model: Path, host: str, extra: Mapping[str, object], **given: Any
    ) -> VllmServer:
        """One with our loader and the configuration `extra`, still starting; `given` as `VllmServer` has it.

        Its status files are `name.N.json` in `folder`.
        """
        given.setdefault("load_format", "ascendctl")
        config = {"OUTPUT_PREFIX": str(self.folder / f"{name}."), "CHUNK_MIB": 1, **extra}
        return self._started(
            VllmServer(model, self.folder / f"{name}.log", host, extra_config=config, **given)
        )

    def _started(self, server: VllmServer) -> VllmServer:
        self._stack.callback(server.stop)
        return server.start()

    def stop(self) -> None:
        self._stack.close()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    started = Servers(tmp_path_factory.mktemp("servers"))
    yield started
    started.stop()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    """The tiny model of a name, built when it is first asked for."""
    from tests.e2e import models  # transformers takes seconds to import, and few tests need it

    folder = tmp_path_factory.mktemp("models")
    built: dict[str, Model] = {}

    def of(name: str) -> Model:
        if name not in built:
            built[name] = models.build(name, folder)
        return built[name]

    return of


@pytest.fixture(scope="session")
def prompts() -> list[list[int]]:
    """Distinct prompts of byte tokens, the same in every run."""
    chance = random.Random(2026)
    return [[chance.randrange(256) for _ in range(chance.randrange(4, 48))] for _ in range(PROMPTS)]


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """No engine outlives the session: a worker that does would hold a port and a core."""
    yield
    answer = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False
    )
    left = [line for line in answer.stdout.splitlines() if "api_server" in line]
    assert not left, left
