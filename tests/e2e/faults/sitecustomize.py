"""Put on PYTHONPATH of a joiner by a test: turns one bit of what the gloo link receives.

Python imports a `sitecustomize` by itself, so the product needs no hook. `E2E_FLIP=once` spoils the first
transfer only, `always` every one; the link is patched when it is imported, since most processes never do.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_LINK = "ascendctl.netloader.engine.links.gloo"


class _Spoiler(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the link's module for the usual loader, and patches what that made of it."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != _LINK:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        self._usual = spec.loader
        spec.loader = self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._usual.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._usual.exec_module(module)
        _spoil(module)


def _spoil(module: Any) -> None:
    receive = module.GlooLink.receive
    spoiled: list[int] = []

    class Spoiling:
        """A transfer whose bytes are changed as soon as they are there, before anybody sees them."""

        def __init__(self, pending: Any, data: Any) -> None:
            self._pending, self._data = pending, data

        def wait(self, timeout_s: float) -> None:
            self._pending.wait(timeout_s)
            if os.environ["E2E_FLIP"] == "always" or not spoiled:
                spoiled.append(1)
                # Bit 6 of the high byte of a bfloat16 in the middle: its exponent, so the weight is far off.
                self._data[self._data.numel() // 2 | 1] ^= 0x40
                print(f"E2E_FLIP: one bit of {self._data.numel()} bytes was turned", flush=True)

    def spoiling(self: Any, into: Any) -> Spoiling:
        return Spoiling(receive(self, into), into)

    module.GlooLink.receive = spoiling


if os.environ.get("E2E_FLIP"):
    sys.meta_path.insert(0, _Spoiler())
