"""A pause of Python's search for reference cycles, for long searches that make none."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_cycle_collection() -> Iterator[None]:
    """While entered (or around the function it decorates), nobody looks for cycles.

    Localisation keeps hundreds of thousands of small objects alive and makes no cycles; looking through
    all of them again and again took a fifth of its time. Nested uses and a collector that was off stay as
    found.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
