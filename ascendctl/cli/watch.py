"""``ascendctl watch``: verify over and over, and say only what changed."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ascendctl.cli.exits import Refused
from ascendctl.cli.interruption import deferred
from ascendctl.cli.options import (
    ConnectTimeoutOption,
    ExcludeOption,
    HostsOption,
    HostTimeoutOption,
    MeshOption,
    ProfileOption,
    TagsOption,
)
from ascendctl.durations import span_text
from ascendctl.facts import Profile
from ascendctl.results import ExitCode, Run, Status, coverage, exit_code, summary

if TYPE_CHECKING:
    from ascendctl.history import History
    from ascendctl.inventory import Endpoint, Host
    from ascendctl.report.difference import Difference, LastSeen
    from ascendctl.topology.mesh import MeshMode

JITTER = 0.1  # so that many watches on one cluster do not ask at the same moment for ever
SHORTEST_S = 1.0


def register(app: typer.Typer) -> None:
    """Add the command ``watch``."""
    app.command("watch")(watch)


def watch(
    inventory: Annotated[Path, typer.Option("--inventory", "-i", help="Inventory file.", metavar="FILE")],
    every: Annotated[
        str, typer.Option("--every", help="From one start to the next, within 10 %: 30s, 10m, 1h.")
    ] = "10m",
    hosts: HostsOption = None,
    exclude: ExcludeOption = None,
    tags: TagsOption = None,
    history: Annotated[
        Path | None,
        typer.Option("--history", help="Keep the JSON reports here, and go on from them.", metavar="DIR"),
    ] = None,
    keep: Annotated[int, typer.Option("--keep", min=2, help="Reports in the history, at most.")] = 100,
    prometheus: Annotated[
        Path | None,
        typer.Option("--prometheus", help="Write the metrics of each run to this file.", metavar="FILE"),
    ] = None,
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after this many runs.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Warnings count as wrong in exit code and metrics.")
    ] = False,
    connect_timeout: ConnectTimeoutOption = 10.0,
    host_timeout: HostTimeoutOption = 300.0,
    profile: ProfileOption = None,
    mesh: MeshOption = None,
) -> None:
    """Repeat verify; print the findings of the first run, then only what changed.

    Each change is told once, also across a restart with the same --history. One line per run goes to
    standard error. Runs never overlap, and one that fails does not end the watch. The inventory is read
    anew for each run.

    Error counters that grew since the run before are changes too (those of links and ports are read with
    --profile deep). Errors that the hardware corrected or repeated are counted in the line per run, and
    printed beside other changes; with --strict they are changes themselves.

    Exit codes: 130 when interrupted, with a summary; with --count, that of the last run, as of verify.
    """
    period_s = parse_duration(every)
    with contextlib.ExitStack() as stack:
        watching = _Watch(
            _Asking(
                inventory,
                hosts,
                exclude,
                tags or [],
                connect_timeout,
                host_timeout,
                profile or Profile.STANDARD,
                mesh,
            ),
            _history(history, keep, stack),
            prometheus,
            strict,
        )
        try:
            code = watching.repeat(period_s, count)
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
        print(watching.last_words())
    raise typer.Exit(code)


def parse_duration(text: str) -> float:
    """``30s``, ``10m``, ``1h`` in seconds. Raises Refused."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    if not match:
        raise Refused(f"--every {text!r}: a number and a unit is expected: 30s, 10m or 1h")
    seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
    if seconds < SHORTEST_S:
        raise Refused(f"--every {text!r}: at least {SHORTEST_S:g}s is expected")
    return seconds


def _history(directory: Path | None, keep: int, stack: contextlib.ExitStack) -> History | None:
    if directory is None:
        return None
    from ascendctl.history import History, HistoryError

    try:
        history = stack.enter_context(History(directory, keep))
    except HistoryError as error:
        raise Refused(str(error)) from error
    for problem in history.problems:
        _complain(problem)
    return history


@dataclass(frozen=True)
class _Asking:
    """Whom to ask, and how."""

    inventory: Path
    hosts: str | None
    exclude: str | None
    tags: list[str]
    connect_s: float
    host_s: float
    profile: Profile
    mesh: MeshMode | None

    def run(self) -> Run:
        from ascendctl.checks.registry import BY_ID
        from ascendctl.cli.verify import ask_and_judge
        from ascendctl.inventory import load, select
        from ascendctl.second_phase import MeshSettings
        from ascendctl.transport.contract import Deadlines
        from ascendctl.verify import Settings

        loaded = load(self.inventory, known_checks=BY_ID)
        chosen = select(loaded, self.hosts, self.exclude, self.tags)
        _refuse_prompts(chosen)
        deadlines = Deadlines(connect_s=self.connect_s, host_s=self.host_s)
        settings = Settings(deadlines=deadlines, profile=self.profile, mesh=MeshSettings(mode=self.mesh))
        run = ask_and_judge(chosen, loaded.waivers, settings, quiet=True)
        # Runs are kept to be compared, and the facts are by far the largest part of one.
        return dataclasses.replace(run, facts=None)


@dataclass
class _Watch:
    """What is known from one run to the next."""

    asking: _Asking
    history: History | None
    prometheus: Path | None
    strict: bool
    newest: Run | None = None
    last_seen: LastSeen | None = None
    code: ExitCode = ExitCode.OK
    runs: int = 0
    failed: int = 0
    changed: int = 0

    def __post_init__(self) -> None:
        self._begun = time.monotonic()
        if self.history is not None:
            self.newest, self.last_seen = self.history.newest, self.history.last_seen

    def repeat(self, period_s: float, count: int | None) -> ExitCode:
        """Run until ``count`` is reached; gives the exit code of the last run. KeyboardInterrupt ends it."""
        while True:
            started = time.monotonic()
            self.runs += 1
            outcome = self._attempt()
            if self.runs == count:
                _heartbeat(f"run {self.runs}: {outcome}")
                return self.code
            wait_s = period_s * random.uniform(1 - JITTER, 1 + JITTER)
            left_s = max(0.0, started + wait_s - time.monotonic())
            _heartbeat(f"run {self.runs}: {outcome}; next in {span_text(left_s)}")
            _pause(left_s)

    def last_words(self) -> str:
        """What the watch came to, and how things stood in its last whole run."""
        runs = f"{self.runs} run{'' if self.runs == 1 else 's'}" + (
            f" ({self.failed} failed)" if self.failed else ""
        )
        span = span_text(time.monotonic() - self._begun)
        text = f"Watched for {span}: {runs}, {self.changed} with changes."
        return text + (f" Last known: {_state_of(self.newest)}." if self.newest else " Nothing was learned.")

    def _attempt(self) -> str:
        """One run; what came of it in a few words. Only what no later run can mend is raised."""
        try:
            return self._once()
        except BrokenPipeError:
            raise
        except Exception as error:
            problems = getattr(error, "problems", None)
            if problems and self.runs == 1:  # a mistake of the user's, who is still looking
                raise
            self.failed += 1
            self.code = ExitCode.USAGE if problems else ExitCode.INTERNAL
            reason = "; ".join(problems) if problems else f"{type(error).__name__}: {error}"
            return f"failed: {reason}"

    def _once(self) -> str:
        run = self.asking.run()
        if run.interrupted:  # half a run would make everything it did not reach a change
            raise KeyboardInterrupt
        with _undivided():
            self.code = exit_code(run.results, strict=self.strict)
            changes = self._tell(run)
            self._keep(run)
        return f"{_state_of(run)}, {run.duration_s:.1f} s; {changes}"

    def _tell(self, run: Run) -> str:
        """Print the findings of the first run, or what changed since; its headline."""
        from rich.console import Console

        from ascendctl.report.difference import compare
        from ascendctl.report.difference_text import headline, render_changes
        from ascendctl.report.terminal import render_summary

        if self.newest is None:
            render_summary(run, Console(), strict=self.strict, exit_code=self.code)
            sys.stdout.flush()
            return "first run"
        difference = _worth_telling(compare(self.newest, run, self.last_seen))
        words = headline(difference)
        if not _has_changed(difference, self.strict):
            return words
        self.changed += 1
        print(f"\n{_at(run)} {words}")
        render_changes(difference, Console())
        sys.stdout.flush()
        return words

    def _keep(self, run: Run) -> None:
        from ascendctl.history import HistoryError
        from ascendctl.report.difference import LastSeen, remember

        self.last_seen = remember(self.last_seen or LastSeen(), run)
        self.newest = run
        if self.history is not None:
            try:
                self.history.add(run, self.last_seen)
            except HistoryError as error:
                _complain(str(error))
        if self.prometheus is not None:
            try:
                _write_metrics(self.prometheus, run, self.code, self.strict)
            except OSError as error:
                _complain(f"the metrics could not be written to {self.prometheus}: {error.strerror}")


def _worth_telling(difference: Difference) -> Difference:
    """Without findings in which only a number moved: an offset or a temperature does so in every run."""
    from ascendctl.report.difference import Kind

    changes = (
        replace(change, kind=Kind.UNCHANGED)
        if change.kind is Kind.CHANGED and change.in_numbers_only
        else change
        for change in difference.changes
    )
    return replace(difference, changes=tuple(changes))


def _has_changed(difference: Difference, strict: bool) -> bool:
    """Whether there is anything to print. What hardware corrects, it does in every run of a busy cluster."""
    from ascendctl.report.difference import Kind

    changed = any(change.kind is not Kind.UNCHANGED for change in difference.changes)
    counters = difference.counters
    counted = counters.grown(Status.FAIL) or counters.restarted() or (strict and counters.grown(Status.WARN))
    return changed or bool(counted or difference.hosts_added or difference.hosts_removed)


def _refuse_prompts(hosts: list[Host] | tuple[Host, ...]) -> None:
    for host in hosts:
        hop: Endpoint | None = host.endpoint
        while hop is not None:
            if hop.password is not None and hop.password.prompt:
                raise Refused(
                    f"the inventory has the password of {hop.name} asked for, and watch would ask in every "
                    "run: use a key, an environment variable or a command"
                )
            hop = hop.jump


def _write_metrics(path: Path, run: Run, code: ExitCode, strict: bool) -> None:
    """Whole or not at all: a collector may read at any moment, as another user."""
    from ascendctl.report.prometheus import write_prometheus
    from ascendctl.whole_file import whole_file

    with whole_file(path, 0o644) as stream:
        write_prometheus(run, code, stream, strict=strict)


@contextlib.contextmanager
def _undivided() -> Iterator[None]:
    """An interruption waits until a run is told and kept, or it would be told twice; a second does not."""
    with deferred() as interruption:
        yield
    if interruption.came:
        raise KeyboardInterrupt


def _state_of(run: Run) -> str:
    from ascendctl.report.terminal import percent_text

    counts, covered = summary(run.results), coverage(run.results)
    hosts = f"{len(run.hosts):,} host{'' if len(run.hosts) == 1 else 's'}"
    return (
        f"{hosts}, coverage {percent_text(covered)}, "
        f"{counts[Status.FAIL]:,} fail, {counts[Status.WARN]:,} warn"
    )


def _at(run: Run) -> str:
    return run.started_at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z").strip()


def _pause(seconds: float) -> None:
    """In short naps: a signal that comes just before a nap begins is heard at its end, not before."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 1.0))


def _heartbeat(text: str) -> None:
    print(f"ascendctl: {time.strftime('%Y-%m-%d %H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _complain(text: str) -> None:
    print(f"ascendctl: {text}", file=sys.stderr, flush=True)
