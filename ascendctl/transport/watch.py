"""One thread that ends what hangs: every connection's deadline, and the run's stop.

A worker makes plain blocking calls. When the deadline of its layer passes, or the run is stopped, the
watch calls the guard's cuts (shut the socket, kill the process), which makes the blocking call end;
the worker then asks its guard why. One waiting thread for all hosts costs less than every host
polling for itself, and it also frees calls that know no deadline of their own.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from enum import Enum
from types import TracebackType
from typing import Any, TypeVar

from ascendctl.transport.contract import Deadlines, Failure

TICK_S = 0.2
BEAT_S = 1.0

_Result = TypeVar("_Result")


class Cut(Enum):
    """Why a guard was cut."""

    DEADLINE = "deadline"
    STOPPED = "stopped"


class CutShort(Exception):
    """What was waited for did not come before the guard was cut."""


def aside(name: str, work: Callable[[], _Result]) -> Future[_Result]:
    """Do ``work`` in a daemon thread of its own: for calls that know no deadline and no way to end them."""
    future: Future[_Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


class Guard:
    """Bounds one host's exchange. A context manager; made by `Watch.guard`.

    ``cut_by`` is None until it was cut; ``layer`` is what was under way, ``limit`` the bound that it had.
    """

    def __init__(self, watch: Watch, stop: threading.Event, deadlines: Deadlines) -> None:
        self.cut_by: Cut | None = None
        self.layer = "the whole exchange"
        self.limit = self._host_limit = _host_limit(deadlines)
        self._watch = watch
        self.stop = stop
        self._host_until = time.monotonic() + deadlines.host_s
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
                self._until, self.limit = self._host_until, self._host_limit
            else:
                self._until, self.limit = now + allowed_s, f"timed out after {_seconds(allowed_s)}"

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

    @contextlib.contextmanager
    def at_cut(self, cut: Callable[[], None]) -> Iterator[None]:
        """`on_cut` for as long as the block runs."""
        self.on_cut(cut)
        try:
            yield
        finally:
            with self._lock:
                self._cuts.remove(cut)

    def result_of(self, future: Future[_Result]) -> _Result:
        """Wait for what is being done elsewhere and give its result, or raise its error.

        Raises `CutShort` if the guard is cut first.
        """
        if not self.wait_for(future):
            raise CutShort
        return future.result()

    def wait_for(self, future: Future[Any]) -> bool:
        """Wait until the future is done (True) or the guard is cut (False)."""
        if not future.done():
            ready = threading.Event()
            with self.at_cut(ready.set):
                future.add_done_callback(lambda _: ready.set())
                ready.wait()
        return future.done()

    def cut_failure(self) -> Failure:
        """What the cut did to the host: which layer ended, and by which limit."""
        if self.cut_by is Cut.STOPPED:
            return Failure("interrupted", f"stopped during {self.layer}")
        return Failure("timeout", f"{self.limit}: {self.layer}")

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


def _host_limit(deadlines: Deadlines) -> str:
    # Hosts that the run's limit cuts had different times left; one sentence for all lets them be folded.
    if deadlines.bounded_by_run and deadlines.run_s is not None:
        return f"the run's limit of {_seconds(deadlines.run_s)} passed"
    return f"timed out after {_seconds(deadlines.host_s)}, the host's limit"


def _seconds(seconds: float) -> str:
    return f"{round(seconds, 1):g} s"


class Watch:
    """The watching thread and its guards. It runs only while there is something to guard."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._guards: set[Guard] = set()
        self._beats: set[Callable[[float], None]] = set()
        self._running = False

    def guard(self, stop: threading.Event, deadlines: Deadlines) -> Guard:
        """A guard with the deadlines' ``host_s`` seconds from now, ended early by ``stop``."""
        return Guard(self, stop, deadlines)

    def add_beat(self, beat: Callable[[float], None]) -> None:
        """Call ``beat(time.monotonic())`` once a second while anything is guarded; it must not block."""
        with self._changed:
            self._beats.add(beat)

    def remove_beat(self, beat: Callable[[float], None]) -> None:
        """Call it no more; one that was never added is no error."""
        with self._changed:
            self._beats.discard(beat)

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
        next_beat = 0.0
        while True:
            now = time.monotonic()
            with self._changed:
                if not self._guards:
                    self._running = False
                    return
                guards = list(self._guards)
                beats = list(self._beats) if now >= next_beat else []
            for guard in guards:
                guard.check(now)
            for beat in beats:
                next_beat = now + BEAT_S
                beat(now)
            with self._changed:
                if self._guards:
                    self._changed.wait(TICK_S)
