"""A bounded history of runs on disk: JSON reports in a folder of their own, the oldest removed first.

The folder holds ``NNNNNNNN-YYYYmmddTHHMMSSZ.json`` (the JSON reports, numbered, for a clock may jump)
and ``last-seen.json``: in the same form, what was last seen of cells and counters that the newest run did
not judge or read, so that an outage longer than the history is no amnesia. Folder 0700, files 0600.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import re
from pathlib import Path
from types import TracebackType

from ascendctl.report.difference import LastSeen, remember
from ascendctl.report.difference_counters import remember_counters
from ascendctl.report.json_report import write_json
from ascendctl.report.model import ReportError, read_report
from ascendctl.results import Run, exit_code

FEWEST = 2  # the newest, and the one before it, should the machine stop between two writes
_REPORT = re.compile(r"(\d{8,})-\d{8}T\d{6}Z\.json")
_LAST_SEEN = "last-seen.json"
_LOCK = ".lock"


class HistoryError(Exception):
    """The history cannot be used or written; the text says where, why, and what to do."""


class History:
    """The history in a folder, for one watch at a time; use it as a context manager.

    ``newest``: the newest run, None in a new history; ``last_seen``: see
    `ascendctl.report.difference.compare`; ``problems``: sentences about reports that could not be read.
    ``keep``: how many reports stay, at least `FEWEST`. Raises HistoryError where the folder cannot be
    used, holds anything else, or is in use by another watch.
    """

    def __init__(self, directory: Path, keep: int) -> None:
        self._directory = directory
        self._keep = max(keep, FEWEST)
        self.newest: Run | None = None
        self.last_seen = LastSeen()
        self.problems: list[str] = []
        try:
            self._lock = self._take()
            self._read()
        except OSError as error:
            raise HistoryError(f"the history {directory} cannot be used: {error.strerror}") from error

    def __enter__(self) -> History:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)

    def reports(self) -> list[Path]:
        """The reports, oldest first."""
        numbered = [
            (int(match[1]), path)
            for path in self._directory.iterdir()
            if (match := _REPORT.fullmatch(path.name))
        ]
        return [path for _, path in sorted(numbered)]

    def add(self, run: Run, last_seen: LastSeen) -> None:
        """Keep a run; ``last_seen`` is what `remember` gives of it and all before. Raises HistoryError."""
        self.newest, self.last_seen = run, last_seen
        reports = self.reports()
        number = int(reports[-1].name.split("-")[0]) + 1 if reports else 1
        stamp = run.started_at.astimezone(dt.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        try:
            self._write(f"{number:08d}-{stamp}.json", run)
            self._write(_LAST_SEEN, _not_in(run, last_seen))
            for path in self.reports()[: -self._keep]:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise HistoryError(
                f"the history {self._directory} could not be written: {error.strerror}"
            ) from error

    def _take(self) -> int:
        """Make the folder or take it over, and keep every other watch out; gives the lock's descriptor."""
        try:
            self._directory.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            foreign = [path.name for path in self._directory.iterdir() if not _is_ours(path.name)]
            if foreign:
                raise HistoryError(
                    f"{self._directory} holds other files ({sorted(foreign)[0]}); "
                    "--history wants a new folder, an empty one, or one that an earlier watch wrote"
                ) from None
        self._directory.chmod(0o700)
        lock = os.open(self._directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise HistoryError(
                f"another watch keeps its history in {self._directory}; end that one, or name another folder"
            ) from None
        return lock

    def _read(self) -> None:
        """The newest readable run, and what was last seen by then."""
        if (self._directory / _LAST_SEEN).exists():
            stored = self._report(self._directory / _LAST_SEEN)
            if stored:
                cells = {cell.key: cell for cell in stored.results}
                self.last_seen = LastSeen(cells, remember_counters({}, stored))
        readable: list[Run] = []
        for path in reversed(self.reports()):
            run = self._report(path)
            if run is not None:
                readable.append(run)
            if len(readable) == FEWEST:
                break
        for run in reversed(readable):
            self.last_seen = remember(self.last_seen, run)
            self.newest = run

    def _report(self, path: Path) -> Run | None:
        try:
            return read_report(path)
        except ReportError as error:
            self.problems.append(f"left out of the history: {error}")
            return None

    def _write(self, name: str, run: Run) -> None:
        """Whole or not at all, under its name."""
        draft = self._directory / f".{name}"
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                write_json(run, exit_code(run.results), stream)
            draft.replace(self._directory / name)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def _not_in(run: Run, last_seen: LastSeen) -> Run:
    """What is known beyond a run, in the form of one."""
    judged = {cell.key for cell in run.results if last_seen.cells.get(cell.key) is cell}
    read = {id(counters) for counters in run.counters}
    return Run(
        run.started_at,
        0.0,
        results=tuple(cell for key, cell in last_seen.cells.items() if key not in judged),
        counters=tuple(
            counters
            for known in last_seen.counters.values()
            for counters in known
            if id(counters) not in read
        ),
    )


def _is_ours(name: str) -> bool:
    name = name.removeprefix(".")
    return name in (_LAST_SEEN, _LOCK.removeprefix(".")) or _REPORT.fullmatch(name) is not None
