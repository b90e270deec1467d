"""What an instance's log says: its phase, where each rank's weights came from, why it failed. Pure.

vllm-ascend's Netloader tells the outside by its log alone. Its lines are taken at their beginning, behind
vLLM's own prefix, and those that prove a transfer only from the file that writes them: text of a peer (the
reason of a refusal) that stands inside another line proves nothing. ``Elastic load time`` is printed after a
failure too; of a success only ``HCCL recv time`` and ``Netloader P2P load time`` tell. `evidence` draws the
conclusion.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ascendctl.netloader.engine.options import DRAFT_GROUP, TARGET_GROUP
from ascendctl.netloader.engine.phases import TAG
from ascendctl.netloader.log_failures import failure_in
from ascendctl.netloader.log_rules import ASCEND, DEAD_THREAD, OWN_EVENTS, OWN_STAGES, VLLM, Kind, Stage

LINE_MOST = 4000
"""Characters of a line that are looked at; an error of HCCL can carry pages."""


@dataclass(frozen=True)
class Line:
    """One line that means something. ``number`` from 1; ``text`` without vLLM's prefix and colours.

    ``rank`` None = it does not tell, and neither does its process. ``seconds``: the duration it states.
    ``address``: of the source or listener it names. ``failure``: which one, see `log_failures`; a line that
    tells of nothing else has `Kind.FAILURE`.
    """

    number: int
    text: str
    kind: Kind
    rank: int | None = None
    draft: bool = False
    stage: Stage | None = None
    phase: str | None = None
    seconds: float | None = None
    address: str | None = None
    failure: str | None = None


@dataclass(frozen=True)
class LogReading:
    """The telling lines of one log, in its order."""

    lines: tuple[Line, ...]

    @property
    def stage(self) -> Stage | None:
        """The furthest stage that any line tells; None = nothing yet."""
        order = list(Stage)
        told = [line.stage for line in self.lines if line.stage is not None]
        return max(told, key=order.index, default=None)

    @property
    def api_ready(self) -> Line | None:
        return next((line for line in self.lines if line.kind is Kind.API_READY), None)

    @property
    def failures(self) -> tuple[Line, ...]:
        """The first line of every kind of failure, and of every error code."""
        first: dict[str, Line] = {}
        for line in self.lines:
            if line.failure is not None:
                first.setdefault(line.failure, line)
        return tuple(first.values())

    @property
    def without_server(self) -> tuple[Line, ...]:
        """Why ranks will serve no joiner, also where a line does not name its rank."""
        return tuple(line for line in self.lines if line.kind is Kind.NO_SERVER)

    @property
    def seed_trouble(self) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.kind is Kind.SEED_TROUBLE)

    def listening(self, rank: int, *, draft: bool = False) -> Line | None:
        """The last word on a rank's listener: `Kind.LISTENING`, `NO_SERVER` or `SEED_TROUBLE` (its accepting
        thread ended); None = nothing said."""
        told = [
            line
            for line in self.lines
            if line.rank == rank and line.draft == draft and _tells_of_listener(line)
        ]
        return told[-1] if told else None

    @property
    def seconds(self) -> dict[str, float]:
        """Phase → seconds as the lines state them, of several ranks the longest; no draft model's."""
        longest: dict[str, float] = {}
        for line in self.lines:
            if line.phase is not None and line.seconds is not None and not line.draft:
                longest[line.phase] = max(longest.get(line.phase, 0.0), line.seconds)
        return longest


def read_log(text: str, ranks: int = 1, tp: int | None = None) -> LogReading:
    """The telling lines of a whole log of an instance with so many ranks (tp * pp; ``tp`` None = all).

    A line that names no rank gets the one of the process that wrote it, by the name in vLLM's prefix
    (``(Worker_PP1_TP0 pid=7)``) or what that process said of itself before or after; with one rank it is 0.
    """
    found = list(_told(text))
    whose = _ranks_of_processes(found, ranks, tp or ranks)
    return LogReading(tuple(_placed(found, whose, ranks)))


def classify(line: str) -> Line | None:
    """One line on its own, as number 1 of an instance with one rank; None = it tells nothing."""
    lines = read_log(line).lines
    return lines[0] if lines else None


def _tells_of_listener(line: Line) -> bool:
    return line.kind in (Kind.LISTENING, Kind.NO_SERVER) or line.failure == DEAD_THREAD


# One line -------------------------------------------------------------------------------------------------

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# "(Worker_TP1 pid=7) INFO 08-22 10:00:00 [load.py:90] text"; every part may be missing.
_PREFIX = re.compile(
    r"(?:\((?P<process>[A-Za-z]\w*) pid=(?P<pid>\d+)\)\s?)?"
    r"(?:(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL):?\s+(?:[\d-]+[ T][\d:]+(?:[.,]\d+)?\s+)?)?"
    r"(?:\[(?P<file>[\w./-]+\.py):\d+\]\s)?"
)
_PLACE = re.compile(r"_(?P<what>PP|TP)(?P<number>\d+)")

_PAIR = re.compile(r'(?P<key>[a-z-]+)=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>\S*))')


@dataclass(frozen=True)
class _Told:
    """A line with the process that wrote it. ``certain``: it names the model (target or draft) itself."""

    line: Line
    process: tuple[str, str] | None
    certain: bool


def _told(text: str) -> Iterator[_Told]:
    # A progress bar draws over itself with carriage returns.
    for number, raw in enumerate(text.split("\n"), start=1):
        for part in raw.replace("\r", "\n").split("\n"):
            yield from _told_by(number, _COLOUR.sub("", part[: 2 * LINE_MOST])[:LINE_MOST])


def _told_by(number: int, plain: str) -> Iterator[_Told]:
    prefix = _PREFIX.match(plain)
    assert prefix is not None  # every part of it may be missing
    message = plain[prefix.end() :].rstrip()
    if message.startswith(TAG):
        line, certain = _own(number, message), True
    else:
        line, certain = _ruled(number, message, prefix["file"])
    # Engines warn of much that they then do without, and a logged prompt may hold any words.
    if prefix["level"] not in _UNALARMING or (line is not None and line.kind in _BAD):
        failure = failure_in(message)
        if failure is not None and line is None:
            line = Line(number, message, Kind.FAILURE, failure=failure)
        elif failure is not None and line is not None and line.failure is None:
            line = replace(line, failure=failure)
    if line is not None:
        yield _Told(line, (prefix["process"], prefix["pid"]) if prefix["pid"] else None, certain)


_UNALARMING = ("DEBUG", "INFO", "WARNING")
_BAD = (Kind.FALLBACK, Kind.SOURCE_FAILED, Kind.NO_SERVER, Kind.SEED_TROUBLE)


def _ruled(number: int, message: str, file: str | None) -> tuple[Line | None, bool]:
    for rule in (*ASCEND, *VLLM):
        match = rule.pattern.match(message)
        if match is None:
            continue
        if rule.file is not None and file is not None and file.rpartition("/")[2] != rule.file:
            continue
        found = match.groupdict()
        line = Line(
            number,
            message,
            rule.kind,
            rank=int(found["rank"]) if found.get("rank") else rule.rank,
            draft=rule.draft or found.get("group") == DRAFT_GROUP,
            stage=rule.stage,
            phase=rule.phase,
            seconds=float(found["seconds"]) if found.get("seconds") else None,
            address=found.get("address"),
            failure=rule.failure,
        )
        return line, rule.draft or bool(found.get("group"))
    return None, False


def _own(number: int, message: str) -> Line | None:
    """A structured line of this package's engine, see ``engine/phases.py``."""
    pairs = {match["key"]: _value(match) for match in _PAIR.finditer(message[len(TAG) :])}
    kind, stage, phase, seconds = Kind.PHASE, None, None, None
    event = pairs.get("event")
    if pairs.get("fallback") == "disk":
        kind, stage = Kind.FALLBACK, Stage.READING_DISK
    elif "phase" in pairs:
        phase = pairs["phase"]
        kind = Kind.SOURCE_FAILED if "failed" in pairs and phase != "load" else Kind.PHASE
        stage = OWN_STAGES.get(phase)
        seconds = float(pairs["seconds"]) if re.fullmatch(r"\d+(\.\d+)?", pairs.get("seconds", "")) else None
    elif event in OWN_EVENTS:
        kind = OWN_EVENTS[event]
        stage = Stage.LISTENING if kind is Kind.LISTENING else None
    else:
        return None
    return Line(
        number,
        message,
        kind,
        rank=int(pairs["rank"]) if re.fullmatch(r"\d{1,9}", pairs.get("rank", "")) else None,
        draft=pairs.get("group", TARGET_GROUP) == DRAFT_GROUP,
        stage=stage,
        phase=phase,
        seconds=seconds,
        address=pairs.get("source") or pairs.get("address"),
    )


def _value(match: re.Match[str]) -> str:
    quoted = match["quoted"]
    if quoted is None:
        return match["plain"]
    try:
        return str(json.loads(f'"{quoted}"'))
    except ValueError:
        return quoted


# Whose line it is -----------------------------------------------------------------------------------------


def _ranks_of_processes(found: Iterable[_Told], ranks: int, tp: int) -> dict[tuple[str, str], int]:
    """(name, pid) → global rank: what a process says of itself goes before what its name says."""
    said: dict[tuple[str, str], int] = {}
    named: dict[tuple[str, str], int] = {}
    for told in found:
        if told.process is None:
            continue
        if told.line.rank is not None and told.line.kind is not Kind.DISK:
            said.setdefault(told.process, told.line.rank)
        rank = _rank_of_name(told.process[0], ranks, tp)
        if rank is not None:
            named[told.process] = rank
    return {**named, **said}


def _rank_of_name(process: str, ranks: int, tp: int) -> int | None:
    """vLLM names its workers ``Worker_PP1_TP0``, leaving out what there is only one of."""
    if not process.startswith("Worker"):
        return None
    place = {match["what"]: int(match["number"]) for match in _PLACE.finditer(process)}
    rank = place.get("PP", 0) * tp + place.get("TP", 0)
    missing = ("TP" not in place and tp > 1) or ("PP" not in place and ranks > tp)
    return None if missing or rank >= ranks else rank


def _placed(found: Iterable[_Told], whose: dict[tuple[str, str], int], ranks: int) -> Iterator[Line]:
    """Every line with its rank, and with the model (target or draft) that its process is loading."""
    drafting: dict[int | None, bool] = {}
    for told in found:
        line = told.line
        of_process = whose.get(told.process) if told.process is not None else None
        rank = of_process if line.rank is None or line.kind is Kind.DISK else line.rank
        if rank is None:
            rank = 0 if ranks == 1 else line.rank
        draft = line.draft if told.certain else drafting.get(rank, False)
        if line.text.startswith(("Loading target model via", "Loading draft model via")):
            draft = drafting[rank] = line.draft
        yield replace(line, rank=rank, draft=draft)
