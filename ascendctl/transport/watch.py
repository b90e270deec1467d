"""One thread that ends what hangs: every connection's deadline, and the run's stop.

A worker makes plain blocking calls. When the deadline of its layer passes, or the run is stopped, the
watch calls the guard's cuts (shut the socket, kill the process), which makes the blocking call end;
the worker then asks its guard why. One waiting thread for all hosts costs less than every host
polling for itself, and it also frees calls that know no deadline of their own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum
from types import TracebackType

TICK_S = 0.2


class Cut(Enum):
    """Why a guard was cut."""

    DEADLINE = "deadline"
    STOPPED = "stopped"


class Guard:
    """Bounds one host's exchange. A context manager; made by `Watch.guard`.

    ``cut_by`` is None until it was cut; ``layer`` is what was under way, ``allowed_s`` how long that
    layer had.
    """

    def __init__(self, watch: Watch, stop: threading.Event, host_s: float) -> None:
        self.cut_by: Cut | None = None
        self.layer = "the whole exchange"
        self.allowed_s = host_s
        self._watch = watch
        self.stop = stop
        self._host_s = host_s
        self._host_until = time.monotonic() + host_s
        self._until = self._host_until
        self._cuts: list[Callable[[], None]] = []
        self._was_cut = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Guard:
        self._watch._add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch._remove(self)

    @property
    def remaining_s(self) -> float:
        """Seconds left to the layer under way."""
        return max(0.0, self._until - time.monotonic())

    def enter_layer(self, layer: str, allowed_s: float | None = None) -> None:
        """Name what comes next and bound it; None = only the host's own deadline bounds it."""
        now = time.monotonic()
        with self._lock:
            if self.cut_by is not None:
                return
            self.layer = layer
            if allowed_s is None or now + allowed_s >= self._host_until:
                self._until, self.allowed_s = self._host_until, self._host_s
            else:
                self._until, self.allowed_s = now + allowed_s, allowed_s

    def rename_layer(self, layer: str) -> None:
        """Say more closely what is under way, inside the bound that runs already."""
        with self._lock:
            if self.cut_by is None:
                self.layer = layer

    def on_cut(self, cut: Callable[[], None]) -> None:
        """Call ``cut`` when the deadline passes or the run stops; at once if that has happened."""
        with self._lock:
            self._cuts.append(cut)
            late = self.cut_by is not None
        if late:
            cut()

    def pause(self, seconds: float) -> bool:
        """Wait; False if cut meanwhile."""
        return not self._was_cut.wait(seconds)

    def check(self, now: float) -> None:
        """Cut if it is time to; the watch calls this."""
        if self.stop.is_set():
            self._cut(Cut.STOPPED)
        elif now >= self._until:
            self._cut(Cut.DEADLINE)

    def _cut(self, why: Cut) -> None:
        with self._lock:
            if self.cut_by is not None:
                return
            self.cut_by = why
            cuts = list(self._cuts)
        self._was_cut.set()
        for cut in cuts:
            cut()


class Watch:
    """The watching thread and its guards. It runs only while there is something to guard."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._guards: set[Guard] = set()
        self._running = False

    def guard(self, stop: threading.Event, host_s: float) -> Guard:
        """A guard with ``host_s`` seconds from now, ended early by ``stop``."""
        return Guard(self, stop, host_s)

    def _add(self, guard: Guard) -> None:
        with self._changed:
            self._guards.add(guard)
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="ascendctl-watch", daemon=True).start()

    def _remove(self, guard: Guard) -> None:
        with self._changed:
            self._guards.discard(guard)
            if not self._guards:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._guards:
                    self._running = False
                    return
                guards = list(self._guards)
            now = time.monotonic()
            for guard in guards:
                guard.check(now)
            with self._changed:
                if self._guards:
                    self._changed.wait(TICK_S)
