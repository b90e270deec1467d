"""Where the weights of every rank came from, with what says so: status files, log lines, or nothing. Pure.

Weights came by P2P only where that is proven; a start that succeeded proves nothing, since both engines read
the disk in silence where no source serves them. Where two witnesses disagree, the worse one counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ascendctl.netloader.engine.options import DRAFT_GROUP, TARGET_GROUP
from ascendctl.netloader.engine.status_file import VERSION
from ascendctl.netloader.log_lines import Line, LogReading
from ascendctl.netloader.log_rules import Kind
from ascendctl.netloader.plan import Engine, Instance, Role
from ascendctl.report.printable import shown
from ascendctl.results import ExitCode

_SHOWN_MOST = 400


class Came(str, Enum):
    """How the weights of one rank came."""

    P2P = "p2p"
    DISK = "disk"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class RankEvidence:
    """One rank's target or draft model. ``source``: who gave the weights, where that is known; ``verified``:
    whether every byte was compared with the source's digests, None = not known; ``reason``: why they are from
    disk or not known; ``decided_by``: the lines or file contents that say so, as they stand there.
    """

    rank: int
    draft: bool
    came: Came
    source: str | None = None
    verified: bool | None = None
    reason: str = ""
    decided_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """All ranks of one instance, the target's before the draft's."""

    instance: str
    role: Role
    ranks: tuple[RankEvidence, ...]

    @property
    def fallbacks(self) -> tuple[RankEvidence, ...]:
        """Ranks of a joiner that read the disk; a seed is meant to."""
        return self._that(Came.DISK)

    @property
    def unproven(self) -> tuple[RankEvidence, ...]:
        return self._that(Came.UNKNOWN)

    def _that(self, came: Came) -> tuple[RankEvidence, ...]:
        if self.role is Role.SEED:
            return ()
        return tuple(one for one in self.ranks if one.came is came)


def evidence(
    instance: Instance, log: LogReading | None = None, statuses: Sequence[StatusSeen] = ()
) -> Evidence:
    """What is proven of every rank of the plan, and of any other that the log or a status file tells of."""
    drafted = instance.serving.speculative
    # A draft model is loaded by the ranks of the last pipeline stage only.
    last_stage = range(instance.ranks - instance.serving.tp, instance.ranks)
    wanted = {(rank, False) for rank in range(instance.ranks)}
    wanted |= {(rank, True) for rank in last_stage if drafted}
    from_log = _from_log(log, wanted, instance) if log is not None else {}
    from_files = {(seen.rank, seen.draft): from_status(seen) for seen in statuses}
    cells = sorted(wanted | set(from_log) | set(from_files), key=lambda cell: (cell[1], cell[0]))
    ranks = tuple(_joined(cell, from_files.get(cell), from_log.get(cell)) for cell in cells)
    return Evidence(instance.name, instance.role, ranks)


def judged(found: Sequence[Evidence], *, allow_fallback: bool = False) -> ExitCode:
    """1 for a fallback that is not allowed, 3 for a rank that nothing is proven of, else 0."""
    if not allow_fallback and any(one.fallbacks for one in found):
        return ExitCode.FOUND_WRONG
    return ExitCode.NOT_ENOUGH if any(one.unproven for one in found) else ExitCode.OK


# Status files of the own engine ---------------------------------------------------------------------------


@dataclass(frozen=True)
class StatusSeen:
    """One status file as it was found: ``path``, its JSON ``content`` (anything, it comes from a host), and
    whether the process of its ``pid`` is alive on that host; None = that was not learned.
    """

    rank: int
    draft: bool
    path: str
    content: object
    alive: bool | None = None


def from_status(seen: StatusSeen) -> RankEvidence:
    """What one status file proves; a file of a dead process, or of another rank, proves nothing."""

    def unknown(reason: str) -> RankEvidence:
        return RankEvidence(
            seen.rank, seen.draft, Came.UNKNOWN, reason=reason, decided_by=(shown(seen.path),)
        )

    content = seen.content
    if not isinstance(content, Mapping) or content.get("version") != VERSION:
        return unknown("the status file is none of this version")
    group = DRAFT_GROUP if seen.draft else TARGET_GROUP
    if content.get("rank") != seen.rank or content.get("group") != group:
        return unknown("the status file is of another rank or model")
    fallback = content.get("fallback")
    weights = content.get("weights")
    weights = weights if isinstance(weights, Mapping) else {}
    said = (
        f"{shown(seen.path)}: state {_word(content.get('state'))}, weights from {_word(weights.get('from'))}"
    )
    # Before the process is asked for: that it read the disk stays true.
    if fallback is not None or weights.get("from") == "disk":
        reason = _word(fallback.get("reason")) if isinstance(fallback, Mapping) else "the disk was read"
        return RankEvidence(seen.rank, seen.draft, Came.DISK, reason=reason, decided_by=(said,))
    if seen.alive is False:
        return unknown("the process that wrote the status file is gone")
    if content.get("state") != "ready":
        return unknown(f"the engine's state is {_word(content.get('state'))}, not ready")
    source, size = weights.get("source"), weights.get("bytes")
    if weights.get("from") != "p2p" or not isinstance(source, str) or not source:
        return unknown("the status file names no source")
    if not isinstance(size, int) or isinstance(size, bool) or size <= 0:
        return unknown("the status file says p2p and no bytes")
    verified = weights.get("verified") is True
    said += f" {shown(source)}, {size} bytes, {'verified' if verified else 'not verified'}"
    return RankEvidence(
        seen.rank, seen.draft, Came.P2P, source=shown(source), verified=verified, decided_by=(said,)
    )


# Log lines ------------------------------------------------------------------------------------------------

_DECISIVE = (Kind.FALLBACK, Kind.DISK)
_RECV_HOST = re.compile(r"^\[?(?P<host>.+?)\]?:\d+$")


def _from_log(
    log: LogReading, wanted: set[tuple[int, bool]], instance: Instance
) -> dict[tuple[int, bool], RankEvidence]:
    told = {
        (line.rank, line.draft)
        for line in log.lines
        if line.rank is not None and line.kind in (*_DECISIVE, Kind.LOADED)
    }
    tells_success = instance.serving.engine is Engine.ASCEND
    proofs = _proofs(log.lines) if tells_success else {}
    cells = {cell: _cell(cell, log.lines, proofs.get(cell), tells_success) for cell in wanted | told}
    return _with_nobodys(cells, [line for line in log.lines if line.rank is None and line.kind in _DECISIVE])


def _proofs(lines: Sequence[Line]) -> dict[tuple[int, bool], tuple[Line, Line]]:
    """(rank, draft) → its two lines: received, then loaded. A received line serves one loaded line only."""
    received: list[Line] = []
    found: dict[tuple[int, bool], tuple[Line, Line]] = {}
    for line in lines:
        if line.kind is Kind.RECEIVED:
            received.append(line)
        elif line.kind is Kind.LOADED and line.rank is not None:
            fit = [one for one in received if one.draft == line.draft and one.rank in (line.rank, None)]
            if fit:
                # Its own, where the process tells; the rank's last one, after an attempt that broke.
                first = max(fit, key=lambda one: (one.rank is not None, one.number))
                received.remove(first)
                found[line.rank, line.draft] = (first, line)
    return found


def _cell(
    cell: tuple[int, bool], lines: Sequence[Line], proof: tuple[Line, Line] | None, tells_success: bool
) -> RankEvidence:
    """``tells_success``: whether a success stands in this log; the own engine's is in its status file."""
    rank, draft = cell
    own = [line for line in lines if line.rank == rank and line.draft == draft]
    disk = [line for line in own if line.kind in _DECISIVE]
    if disk:
        # The first says why, the last that it was done.
        decided = tuple(dict.fromkeys(_quoted(line) for line in (disk[0], disk[-1])))
        reason = "; ".join(_reasons(own)) or "the log says that the disk was read"
        return RankEvidence(rank, draft, Came.DISK, reason=reason, decided_by=decided)
    failed = [line for line in own if line.kind is Kind.SOURCE_FAILED]
    if proof is not None and (not failed or failed[-1].number < proof[1].number):
        return RankEvidence(
            rank, draft, Came.P2P, source=_source(proof[0]), decided_by=tuple(_quoted(line) for line in proof)
        )
    # Only the success of a later source would have changed that.
    if failed and tells_success:
        return RankEvidence(
            rank,
            draft,
            Came.DISK,
            reason=f"a source failed, and none served after it: {_quoted(failed[-1])}",
            decided_by=(_quoted(failed[-1]),),
        )
    return RankEvidence(rank, draft, Came.UNKNOWN, **_why_unknown(own))


def _why_unknown(own: Sequence[Line]) -> dict[str, Any]:
    half = [line for line in own if line.kind in (Kind.RECEIVED, Kind.LOADED)]
    if half:
        return {
            "reason": "only one of the two lines that prove a transfer is in the log",
            "decided_by": (_quoted(half[-1]),),
        }
    hint = [line for line in own if line.kind is Kind.INDECISIVE]
    if hint:
        return {
            "reason": "this line is printed without a transfer too, or by versions whose success it does not "
            "prove",
            "decided_by": (_quoted(hint[-1]),),
        }
    return {"reason": "no line of the log tells"}


def _with_nobodys(
    cells: dict[tuple[int, bool], RankEvidence], lines: Sequence[Line]
) -> dict[tuple[int, bool], RankEvidence]:
    """What lines without a rank mean: a fallback of one of the ranks that have no proof; where all have one,
    nobody's proof can be trusted any more."""
    for draft in (False, True):
        told = [line for line in lines if line.draft == draft]
        of_model = {cell: one for cell, one in cells.items() if cell[1] == draft}
        if not told or any(one.came is Came.DISK for one in of_model.values()):
            continue
        open_ones = {cell: one for cell, one in of_model.items() if one.came is Came.UNKNOWN}
        came = Came.DISK if open_ones else Came.UNKNOWN
        reason = (
            "a rank that the log does not name read the disk, and this one has no proof"
            if open_ones
            else "a rank that the log does not name read the disk, although all ranks say that they received"
        )
        for cell, one in (open_ones or of_model).items():
            cells[cell] = RankEvidence(
                one.rank, one.draft, came, reason=reason, decided_by=(_quoted(told[0]), *one.decided_by)
            )
    return cells


def _reasons(own: Sequence[Line]) -> list[str]:
    """What went before the disk was read, in the log's words: the last failure of a source, and its error."""
    failed = [line for line in own if line.kind is Kind.SOURCE_FAILED][-1:]
    fallback = [line for line in own if line.kind is Kind.FALLBACK][:1]
    return [shown(line.text)[:_SHOWN_MOST] for line in (*failed, *fallback)]


def _source(received: Line) -> str | None:
    """The host that sent; the port in that line is the joiner's own, drawn for the transfer."""
    match = _RECV_HOST.match(received.address or "")
    return shown(match["host"]) if match else None


def _quoted(line: Line) -> str:
    return f"line {line.number}: {shown(line.text)[:_SHOWN_MOST]}"


# Two witnesses --------------------------------------------------------------------------------------------


def _joined(cell: tuple[int, bool], file: RankEvidence | None, log: RankEvidence | None) -> RankEvidence:
    for one in (file, log):
        if one is not None and one.came is Came.DISK:
            return one
    for one in (file, log):
        if one is not None and one.came is Came.P2P:
            return one
    for one in (file, log):
        if one is not None:
            return one
    return RankEvidence(cell[0], cell[1], Came.UNKNOWN, reason="there is neither a status file nor a log")


def _word(value: object) -> str:
    return shown(str(value))[:_SHOWN_MOST]
