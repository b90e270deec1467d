"""How far the asking of `consistency-test` has come, on standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from ascendctl.report.printable import shown
from ascendctl.report.progress import PLAIN_EVERY_S


class AskingProgress:
    """A `Listener`: on a terminal a bar per server, elsewhere a line every 10 s at most; ``quiet``: none.

    No method raises for the display's sake.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        console = Console(stderr=True)
        self._bars = (
            Progress(
                TextColumn("{task.fields[server]}"),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                console=console,
                transient=True,
            )
            if console.is_terminal and not quiet
            else None
        )
        self._tasks: dict[str, TaskID] = {}
        self._state: dict[str, tuple[str, int, int]] = {}
        self._printed_at = time.monotonic()

    def __enter__(self) -> AskingProgress:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            with contextlib.suppress(OSError):
                self._bars.stop()

    def phase(self, server: str, what: str, total: int) -> None:
        self._state[server] = (what, 0, total)
        if self._bars:
            if server in self._tasks:
                self._bars.remove_task(self._tasks[server])
            self._tasks[server] = self._bars.add_task(what, total=total or None, server=shown(server))

    def advanced(self, server: str) -> None:
        what, done, total = self._state[server]
        self._state[server] = (what, done + 1, total)
        if self._bars:
            self._bars.advance(self._tasks[server])
        elif not self._quiet and time.monotonic() - self._printed_at >= PLAIN_EVERY_S:
            self._printed_at = time.monotonic()
            with contextlib.suppress(OSError):
                sys.stderr.write(f"ascendctl: {shown(server)}: {what}: {done + 1} of {total} prompts\n")
                sys.stderr.flush()
