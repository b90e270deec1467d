"""The Markdown report of `consistency-test`, for a ticket: verdict, candidates, where answers part."""

from __future__ import annotations

from typing import TextIO

from ascendctl import __version__
from ascendctl.consistency.verdicts import CandidateVerdict, ConsistencyRun
from ascendctl.report.consistency_text import counts, figures, parted_texts, verdict_line, worst_first
from ascendctl.report.markdown import code, prose
from ascendctl.results import Status

MOST_DIFFERING = 10
MOST_CHARACTERS = 200


def write_consistency_markdown(run: ConsistencyRun, exit_code: int, stream: TextIO) -> None:
    """Write the report of a run. Bounded in length; what is left out is counted. Raises OSError."""
    stream.write(f"# {prose(verdict_line(run, exit_code))}\n\n")
    for line in figures(run):
        stream.write(f"- {prose(line)}\n")
    stream.write(f"- ascendctl {__version__}, exit code {int(exit_code)}\n")
    stream.write(
        "\n| Candidate | Verdict | Prompts | Equal | Only logprobs differ | Part | Missing | Largest |\n"
    )
    stream.write("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
    for one in run.candidates:
        cells = (prose(one.server.name), one.verdict.value, *counts(one))
        stream.write(f"| {' | '.join(cells)} |\n")
    stream.write(f"\n## Reference {prose(run.observation.reference.server.name)}\n\n")
    _write_cells(run, run.observation.reference.server.name, stream)
    for one in run.candidates:
        _write_candidate(run, one, stream)
    stream.flush()


def _write_candidate(run: ConsistencyRun, one: CandidateVerdict, stream: TextIO) -> None:
    stream.write(f"\n## {prose(one.server.name)}: {one.verdict.value}\n\n")
    for reason in one.reasons:
        stream.write(f"- {prose(reason)}\n")
    _write_cells(run, one.server.name, stream)
    differing = worst_first(one)
    for each in differing[:MOST_DIFFERING]:
        stream.write(f"\n### {each.cell.status.value}: {prose(each.cell.check)}\n\n")
        stream.write(f"- {prose(each.cell.message)}\n")
        parted = each.comparison is not None and each.comparison.divergence is not None
        if parted and each.reference and each.candidate:
            common, ours, theirs = parted_texts(each.reference.text, each.candidate.text)
            both = f"…{common[-MOST_CHARACTERS:]}" if len(common) > MOST_CHARACTERS else common
            for label, text in (("both", both), ("reference", ours), ("candidate", theirs)):
                stream.write(f"- **{label}** {code(text[: MOST_CHARACTERS + 1]) or '(nothing more)'}\n")
    if len(differing) > MOST_DIFFERING:
        stream.write(f"\nLeft out here: {len(differing) - MOST_DIFFERING:,} more prompts that differ.\n")


def _write_cells(run: ConsistencyRun, name: str, stream: TextIO) -> None:
    for cell in run.results:
        of_prompt = cell.check.startswith("prompt-")
        if cell.subject.host == name and cell.wanted and not of_prompt:
            remedy = f" {prose(cell.remedy)}" if cell.remedy and cell.status is not Status.PASS else ""
            end = "." if remedy else ""
            stream.write(
                f"- {cell.status.value} **{prose(cell.check)}** {prose(cell.message)}{end}{remedy}\n"
            )
