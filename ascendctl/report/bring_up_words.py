"""A run of `bring-up` in words: what of it is proven, what is not, and the closing line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ascendctl.bring_up import BringUpRun, Course, Step, StepRun
from ascendctl.consistency.verdicts import Verdict
from ascendctl.netloader.plan import Role
from ascendctl.netloader.proof import Proof, proof_of
from ascendctl.report.netloader_words import counted
from ascendctl.results import ExitCode

_CLAIMS = {
    Step.VERIFY: "that the hosts are fit",
    Step.SERVE: "that the seed serves",
    Step.JOIN: "that every joiner has the seed's weights",
    Step.CONSISTENCY: "that all answer the same",
}


@dataclass(frozen=True)
class Told:
    """One claim of a bring-up; ``proven`` False: ``text`` says what is not proven, and why."""

    proven: bool
    text: str


def told(run: BringUpRun) -> tuple[Told, ...]:
    """Every claim of the way, proven or not, in the order of the steps."""
    return tuple(claim for one in run.steps for claim in _told(run, one))


def closing_line(run: BringUpRun) -> str:
    """What the whole comes to; it follows the exit code, and names what is not proven."""
    claims = told(run)
    parts = [
        f"{head}: {'; '.join(texts)}"
        for head, texts in (
            ("proven", [one.text for one in claims if one.proven]),
            ("not proven", [one.text for one in claims if not one.proven]),
        )
        if texts
    ]
    return f"{_head(run)}. {'. '.join(part[0].upper() + part[1:] for part in parts)}"


def is_green(run: BringUpRun) -> bool:
    """Whether all of the way was gone and every claim is proven."""
    return run.exit_code is ExitCode.OK and all(one.proven for one in told(run))


def _head(run: BringUpRun) -> str:
    code = run.exit_code
    ended = next((one for one in run.steps if one.course is Course.STOPPED), None)
    where = f" at {ended.step.value}" if ended else ""
    if code is ExitCode.INTERRUPTED:
        return f"INTERRUPTED{where}"
    if ended:
        return f"STOPPED{where}"
    if code is ExitCode.OK:
        return "BROUGHT UP"
    return "BROUGHT UP, NOT WHOLLY PROVEN"


def _told(run: BringUpRun, one: StepRun) -> Iterator[Told]:
    claim = _CLAIMS[one.step]
    if one.course is Course.LEFT_OUT:
        if one.step is not Step.JOIN:  # without joiners there is nothing to prove of them
            yield Told(False, f"{claim} (left out: {one.reasons[0].partition(':')[0]})")
    elif one.course is Course.NOT_REACHED:
        yield Told(False, f"{claim} (not reached)")
    elif one.course is Course.STOPPED:
        yield Told(False, f"{claim} ({'; '.join(one.reasons)})")
    else:
        yield from {
            Step.VERIFY: _hosts,
            Step.SERVE: _seeds,
            Step.JOIN: _joiners,
            Step.CONSISTENCY: _answers,
        }[one.step](run)


def _hosts(run: BringUpRun) -> Iterator[Told]:
    assert run.verified is not None
    cells = run.verified.run.results
    hosts = {cell.subject.host for cell in cells if cell.subject.host}
    yield Told(True, f"{counted(len(hosts), 'host')} fit as far as was looked")
    yield from _gap(cells_missing=sum(cell.wanted and not cell.evaluated for cell in cells))


def _seeds(run: BringUpRun) -> Iterator[Told]:
    found = run.brought_up(Step.SERVE)
    assert found is not None
    ready = "is ready" if len(found.instances) == 1 else "are ready"
    yield Told(True, f"{counted(len(found.instances), 'seed')} {ready}")
    yield from _gap(cells_missing=sum(cell.wanted and not cell.evaluated for cell in found.preflight))


def _joiners(run: BringUpRun) -> Iterator[Told]:
    found = run.brought_up(Step.JOIN)
    assert found is not None
    proofs = Counter(
        proof_of(one.instance, one.evidence) for one in found.instances if one.instance.role is Role.JOINER
    )
    came = proofs[Proof.VERIFIED] + proofs[Proof.TRANSFERRED]
    if came:
        text = f"{counted(came, 'joiner')} with every rank's weights from a running instance"
        yield Told(True, text + (", verified" if came == proofs[Proof.VERIFIED] else ""))
    if proofs[Proof.TRANSFERRED]:
        yield Told(False, f"that every byte of {counted(proofs[Proof.TRANSFERRED], 'joiner')} was compared")
    if proofs[Proof.DISK]:
        fell = counted(proofs[Proof.DISK], "joiner")
        yield Told(False, f"that {fell} that read the disk (allowed) has the seed's weights")
    yield from _gap(cells_missing=sum(cell.wanted and not cell.evaluated for cell in found.preflight))


def _answers(run: BringUpRun) -> Iterator[Told]:
    found = run.consistency
    assert found is not None
    reference = found.observation.reference.server.name
    verdicts = Counter(one.verdict for one in found.candidates)
    alone = " (on text alone)" if any(one.text_alone for one in found.candidates) else ""
    if verdicts[Verdict.IDENTICAL]:
        whose = counted(verdicts[Verdict.IDENTICAL], "instance")
        yield Told(True, f"identical answers of {whose} and {reference}{alone}")
    if verdicts[Verdict.CLOSE]:
        whose = counted(verdicts[Verdict.CLOSE], "instance")
        yield Told(True, f"answers of {whose} as close to {reference}'s as these are to themselves{alone}")
    left = len(found.candidates) - verdicts[Verdict.IDENTICAL] - verdicts[Verdict.CLOSE]
    if left:
        yield Told(False, f"that {counted(left, 'instance')} answers as {reference}")


def _gap(cells_missing: int) -> Iterator[Told]:
    if cells_missing:
        yield Told(False, f"{counted(cells_missing, 'cell')} that could not be looked at")
