"""Where a process of a test is made to stay: each place once, the first time it comes there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

Hold = Callable[[], None]

JOINER = ("connect", "join", "challenge", "identity", "manifest", "link", "wire:3", "done")
SOURCE = ("join", "challenge", "identity", "manifest", "link", "wire:3", "done")
"""The phases of a join, as seen from each side."""


def install(side: str, place: str, hold: Hold) -> None:
    """Patches the function that is the place. ``side``: joiner, or anything else for a source."""
    from ascendctl.netloader.engine import receiving, serving, shelf

    name, _, count = place.partition(":")
    joiner: dict[str, tuple[Any, str]] = {
        "connect": (receiving, "hosted_store"),
        "join": (receiving, "read_answer"),
        "challenge": (receiving, "answer"),
        "identity": (receiving.Attempt, "_agreed"),
        "manifest": (receiving, "differences"),
        "link": (receiving, "opened"),
        "done": (receiving.Attempt, "_goodbye"),
    }
    source: dict[str, tuple[Any, str]] = {
        "join": (serving, "read_join"),
        "challenge": (serving, "challenge"),
        "identity": (serving.Service, "_agree_on_identity"),
        "manifest": (shelf.Shelf, "printed"),
        "link": (serving, "opened"),
        "done": (serving.Service, "_send"),
    }
    once = _Once(hold)
    if name == "wire":
        owner, verb = (receiving, "receive") if side == "joiner" else (serving, "send")
        _at_transfer(owner, verb, int(count), once)
        return
    where, function = (joiner if side == "joiner" else source)[name]
    _around(where, function, once, after=side != "joiner" and name == "done")


class _Once:
    """``hold`` at the first call only."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._lock = threading.Lock()
        self._done = False

    def __call__(self) -> None:
        with self._lock:
            if self._done:
                return
            self._done = True
        self._hold()


def _around(owner: Any, name: str, hold: Hold, *, after: bool) -> None:
    original = getattr(owner, name)

    def patched(*args: Any, **kwargs: Any) -> Any:
        if after:
            result = original(*args, **kwargs)
            hold()
            return result
        hold()
        return original(*args, **kwargs)

    setattr(owner, name, patched)


def _at_transfer(owner: Any, verb: str, count: int, hold: Hold) -> None:
    """Before the ``count``-th call of the link's ``verb``."""
    open_link = owner.open_link

    def opens(*args: Any, **kwargs: Any) -> Any:
        link = open_link(*args, **kwargs)
        original = getattr(link, verb)
        calls = 0

        def transfers(data: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == count:
                hold()
            return original(data)

        setattr(link, verb, transfers)
        return link

    owner.open_link = opens
