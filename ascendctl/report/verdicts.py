"""The parts at fault between hosts as reports tell them: each with its reasons, and its finding.

A finding of the check ``mesh`` is nothing but a verdict: it is told with it, and not once more among the
others. A verdict that facts alone give stands for a finding of another check, which is named and told there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ascendctl.report.folding import Finding, Folded
from ascendctl.results import CellKey, Result, Run, Status, Verdict, component_text

TITLE = "At fault between hosts"
MOST_VERDICTS = 12
MOST_SENTENCES = 3
_MESH = "mesh"


@dataclass(frozen=True)
class ToldVerdict:
    """A verdict and the cell that stands for it, if there is one."""

    verdict: Verdict
    cell: Result | None

    @property
    def part(self) -> str:
        return component_text(self.verdict.component)

    @property
    def status(self) -> Status:
        """How the cell stands: accepted by a waiver, a warning, or a failure."""
        told = self.cell.status if self.cell is not None else Status.FAIL
        return told if told in (Status.WAIVED, Status.WARN) else Status.FAIL

    @property
    def message(self) -> str:
        of_mesh = self.cell is not None and self.cell.check == _MESH
        return self.cell.message if self.cell is not None and of_mesh else self.verdict.message

    def lines(self) -> Iterator[tuple[str, str]]:
        """What is told below the message: a label and its text."""
        verdict, cell = self.verdict, self.cell
        yield "sure", f"{100 * verdict.confidence:.0f} %"
        yield from (("because", text) for text in _few(verdict.evidence))
        yield from (("ruled out", text) for text in _few(verdict.ruled_out))
        if verdict.alternatives:
            yield "or else", "; ".join(_few([component_text(other) for other in verdict.alternatives]))
        if cell is not None and cell.check == _MESH:
            if cell.consequence:
                yield "leads to", cell.consequence
            if cell.remedy:
                yield "to do", cell.remedy
        elif cell is not None:
            yield "finding", f"{cell.check}, below"
        pairs = len(verdict.explains)
        if pairs:
            yield "explains", f"{pairs:,} {'cell' if pairs == 1 else 'cells'} of pairs and parts"


def told_verdicts(run: Run) -> tuple[ToldVerdict, ...]:
    """The verdicts of a run in their order, each with its cell."""
    if not run.verdicts:
        return ()
    first = {verdict.explains[0]: verdict for verdict in run.verdicts if verdict.explains}
    causes: dict[int, CellKey] = {}
    for cell in run.results:
        verdict = first.get(cell.key)
        if verdict is not None:
            causes[id(verdict)] = cell.caused_by or cell.key
    wanted = set(causes.values())
    cells = {cell.key: cell for cell in run.results if cell.key in wanted}
    return tuple(
        ToldVerdict(verdict, cells.get(causes[id(verdict)]) if id(verdict) in causes else None)
        for verdict in run.verdicts
    )


def other_findings(findings: Iterable[Finding], told: Iterable[ToldVerdict]) -> tuple[Finding, ...]:
    """The findings but for those that are told as verdicts."""
    keys = {one.cell.key for one in told if one.cell is not None and one.cell.check == _MESH}
    return tuple(one for one in findings if not all(cell.key in keys for cell in one.cells))


def without_verdicts(folded: Folded, told: Iterable[ToldVerdict]) -> Folded:
    """The same with the findings that are told as verdicts left out."""
    return Folded(other_findings(folded.findings, told), folded.unlooked, folded.waived)


def left_out(told: tuple[ToldVerdict, ...]) -> str:
    """A sentence on the verdicts beyond those listed; empty where all are."""
    rest = len(told) - MOST_VERDICTS
    return f"… and {rest:,} more: all with --format json" if rest > 0 else ""


def _few(texts: Iterable[str]) -> list[str]:
    listed = list(texts)
    rest = len(listed) - MOST_SENTENCES
    return [*listed[:MOST_SENTENCES], f"… and {rest} more"] if rest > 0 else listed
