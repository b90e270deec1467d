"""How far the instances of a bring-up are, on standard error, while they start."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TextIO

from rich.cells import cell_len
from rich.live import Live
from rich.text import Text

from ascendctl.durations import span_text
from ascendctl.netloader.plan import Instance
from ascendctl.netloader.runs import InstanceRun
from ascendctl.report.netloader_words import name_of, outcome_text
from ascendctl.report.printable import shown
from ascendctl.report.progress import REFRESH_S, Stderr, started_live

MOST_SHOWN = 20
LEAVE_S = 2.0  # how long a terminal that takes nothing may hold the end of a run up
_STARTING = "starting"


@dataclass
class _Underway:
    instance: Instance
    since: float
    what: str = _STARTING


class BringUpProgress:
    """A `runs.Listener` and a context manager. On a terminal a live line per instance that is under way, gone
    at the end; elsewhere a plain line for every change; with ``quiet`` nothing.

    The run only leaves word here; one thread of ours writes. So a slow or broken terminal neither holds the
    run up nor raises into it. No method raises for the display's sake.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._quiet = quiet
        self._console = Stderr(file=stream if stream is not None else sys.stderr)
        self._clock = clock
        self._lock = threading.Lock()
        self._begun = clock()
        self._underway: dict[str, _Underway] = {}
        self._ended = 0
        self._lines: deque[str] = deque()
        self._leave = threading.Event()
        self._drawer: threading.Thread | None = None
        self._live: Live | None = None

    # What a run tells -----------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """A sentence for the reader."""
        self._queue(shown(text))

    def began(self, instances: Sequence[Instance]) -> None:
        """These are being started."""
        for instance in instances:
            self._at(instance, _STARTING, new=True)

    def moved(self, instance: Instance, what: str) -> None:
        """An instance is at another stage; the same one again is no change."""
        self._at(instance, what)

    def ended(self, one: InstanceRun) -> None:
        """What became of an instance."""
        with self._lock:
            underway = self._underway.pop(one.instance.name, None)
            self._ended += 1
            since = underway.since if underway else self._clock()
        self._queue(f"{self._stamp(since)} {name_of(one.instance)}: {outcome_text(one)}")

    def _at(self, instance: Instance, what: str, *, new: bool = False) -> None:
        with self._lock:
            underway = self._underway.get(instance.name)
            if underway is None:
                underway = self._underway[instance.name] = _Underway(instance, self._clock(), "")
            if what == underway.what or (new and underway.what):
                return
            underway.what = what
            since = underway.since
        if not self._on_terminal:
            self._queue(f"{self._stamp(since)} {name_of(instance)}: {shown(what)}")

    def _queue(self, line: str) -> None:
        if not self._quiet:
            self._lines.append(line)

    def _stamp(self, since: float) -> str:
        return f"[{self._clock() - since:4.0f} s]"

    # What is shown --------------------------------------------------------------------------------------

    @property
    def _on_terminal(self) -> bool:
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def status(self) -> list[str]:
        """The state of things: a line for all, then one per instance under way, the rest counted."""
        with self._lock:
            underway, ended = list(self._underway.values()), self._ended
            now = self._clock()
        if not underway:
            return []
        lines = [f"{len(underway)} under way, {ended} ended, {span_text(now - self._begun)}"]
        most = max(1, min(MOST_SHOWN, self._console.height - 3))
        names = [name_of(one.instance) for one in underway[:most]]
        width = max(map(cell_len, names))
        for name, one in zip(names, underway, strict=False):
            pad = " " * (width - cell_len(name))
            lines.append(f"  {name}{pad}  {now - one.since:4.0f} s  {shown(one.what)}")
        rest = Counter(shown(one.what) for one in underway[most:])
        if rest:
            told = ", ".join(f"{count} {what}" for what, count in rest.most_common())
            lines.append(f"  … and {sum(rest.values())} more: {told}")
        return lines

    def draw(self) -> None:
        """Write what is due. Called four times a second while entered."""
        with contextlib.suppress(Exception):
            while self._lines:
                self._print(self._lines.popleft())
            if self._live is not None:
                self._live.update(self._picture(), refresh=True)

    def __enter__(self) -> BringUpProgress:
        self._begun = self._clock()
        if self._quiet:
            return self
        if self._on_terminal:
            self._live = started_live(self._console, self._picture())
        self._drawer = threading.Thread(target=self._draw_until_left, name="progress", daemon=True)
        self._drawer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave.set()
        if self._drawer is None:
            return
        self._drawer.join(timeout=LEAVE_S)
        if self._drawer.is_alive():
            return  # Its terminal takes nothing: what is left to say would hang here too.
        live, self._live = self._live, None
        with contextlib.suppress(Exception):
            if live is not None:
                live.stop()
        self.draw()

    def _draw_until_left(self) -> None:
        while not self._leave.wait(REFRESH_S):
            self.draw()

    def _picture(self) -> Text:
        """Lines that never wrap: a wrapped one would be wiped only in part."""
        room = max(self._console.width - 1, 10)
        lines = []
        for line in self.status():
            text = Text(self._encodable(line), no_wrap=True)
            text.truncate(room, overflow="ellipsis")
            lines.append(text)
        return Text("\n", no_wrap=True).join(lines)

    def _print(self, line: str) -> None:
        self._console.print(
            Text(self._encodable(line)), highlight=False, no_wrap=True, overflow="ignore", crop=False
        )

    def _encodable(self, line: str) -> str:
        return line.encode(self._console.encoding, "backslashreplace").decode(self._console.encoding)
