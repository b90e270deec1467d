"""Live progress on standard error while hosts are asked.

The transport's threads only leave word of what happened; one thread of ours draws. So a slow or
broken terminal can neither slow the asking down nor raise into it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from ascendctl.report.printable import shown

REFRESH_S = 0.25  # a live line: at most four times a second
PLAIN_EVERY_S = 10.0  # a plain line: after this long, or this much more done
PLAIN_EVERY_PERCENT = 10
BAR_CELLS = 16


class HostOutcome(Protocol):
    """What is read of a transport's outcome; ``failure`` None = the script ran to its end."""

    @property
    def host(self) -> str: ...

    @property
    def failure(self) -> object | None: ...


def started_live(console: Console, picture: RenderableType) -> Live | None:
    """A live display that is drawn only when told to, and leaves nothing behind; None where it cannot be."""
    live = Live(
        picture,
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    try:
        live.start()
    except Exception:
        return None
    return live


class Stderr(Console):
    """rich's answer to a broken pipe is to throw standard output away and to end the process."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


@dataclass
class _Running:
    since: float
    last_answer: str = ""


class Progress:
    """Shows hosts done, running and failed, and the one that has been running longest.

    A transport's Listener and a context manager. On a terminal one live line, gone at the end;
    elsewhere a plain line every 10 s or 10 % at most; with ``quiet`` nothing. Leaving it, also by
    Ctrl-C, restores the terminal. No method raises for the display's sake.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        *,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = len(set(hosts))
        self._quiet = quiet
        self._console = Stderr(file=stream if stream is not None else sys.stderr)
        self._clock = clock
        self._lock = threading.Lock()
        self._running: dict[str, _Running] = {}
        self._done: dict[str, bool] = {}  # host → whether it failed
        self._begun = self._printed_at = clock()
        self._printed_percent = 0
        self._leave = threading.Event()
        self._drawer: threading.Thread | None = None
        self._live: Live | None = None

    def started(self, host: str) -> None:
        """A host is being asked."""
        with self._lock:
            self._running.setdefault(host, _Running(self._clock()))

    def frame(self, host: str, text: str) -> None:
        """An answer arrived from a host; ``text`` names the command."""
        with self._lock:
            self._running.setdefault(host, _Running(self._clock())).last_answer = text

    def finished(self, outcome: HostOutcome) -> None:
        """A host is done with, for better or worse."""
        with self._lock:
            self._running.pop(outcome.host, None)
            self._done[outcome.host] = outcome.failure is not None

    def status(self) -> str:
        """The state of things as one line: ``5/8 hosts, 2 running, 1 failed; slowest: node07 …``."""
        with self._lock:
            failed = sum(self._done.values())
            parts = [f"{len(self._done)}/{self._total} hosts done, {len(self._running)} running"]
            parts += [f"{failed} failed"] if failed else []
            line = ", ".join(parts)
            if not self._running:
                return line
            name, slowest = min(self._running.items(), key=lambda item: item[1].since)
            seconds = self._clock() - slowest.since
            answer = f"last answer: {shown(slowest.last_answer)}" if slowest.last_answer else "no answer yet"
        return f"{line}; slowest: {shown(name)} {seconds:.0f} s, {answer}"

    def draw(self) -> None:
        """Show the state of things if that is due. Called four times a second while entered."""
        if self._quiet:
            return
        with contextlib.suppress(Exception):
            if self._live is not None:
                self._live.update(self._live_line(), refresh=True)
            elif self._plain_due():
                self._print(self.status())

    def __enter__(self) -> Progress:
        self._begun = self._printed_at = self._clock()
        if self._quiet:
            return self
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = started_live(self._console, self._live_line())
        self._drawer = threading.Thread(target=self._draw_until_left, name="progress", daemon=True)
        self._drawer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave.set()
        if self._drawer is not None:
            self._drawer.join(timeout=2.0)
        with contextlib.suppress(Exception):
            if self._live is not None:
                self._live.stop()
                self._live = None
        if not self._quiet:
            with contextlib.suppress(Exception):
                self._print(self._last_words())

    def _draw_until_left(self) -> None:
        while not self._leave.wait(REFRESH_S):
            self.draw()

    def _plain_due(self) -> bool:
        with self._lock:
            percent = 100 * len(self._done) // self._total if self._total else 100
        now = self._clock()
        if now - self._printed_at < PLAIN_EVERY_S and percent - self._printed_percent < PLAIN_EVERY_PERCENT:
            return False
        self._printed_at, self._printed_percent = now, percent
        return True

    def _live_line(self) -> Text:
        with self._lock:
            share = len(self._done) / self._total if self._total else 1.0
        status = Text(self._encodable(self.status()))
        room = max(self._console.width - 1, 10)
        filled = int(share * BAR_CELLS)
        full, empty = ("#", ".") if self._console.options.ascii_only else ("━", "─")
        bar = Text.assemble((full * filled, "green"), (empty * (BAR_CELLS - filled), "dim"), "  ")
        line = bar + status if bar.cell_len + status.cell_len <= room else status
        line.truncate(room, overflow="ellipsis")
        line.no_wrap = True
        return line

    def _last_words(self) -> str:
        with self._lock:
            failed = sum(self._done.values())
            missing = self._total - len(self._done)
        seconds = self._clock() - self._begun
        hosts = "host" if self._total == 1 else "hosts"
        words = f"asked {len(self._done)} of {self._total} {hosts} in {seconds:.1f} s"
        words += f", {failed} failed" if failed else ""
        return words + (f", {missing} not done" if missing else "")

    def _print(self, line: str) -> None:
        self._console.print(
            Text(self._encodable(line)), highlight=False, no_wrap=True, overflow="ignore", crop=False
        )

    def _encodable(self, line: str) -> str:
        return line.encode(self._console.encoding, "backslashreplace").decode(self._console.encoding)
