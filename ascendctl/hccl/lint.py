"""Judge an existing environment or launch script by what HCCL and the engines document. Pure.

The text is read (`launch_text`), never run. Rules of one variable are here and in the table's forms, rules
of several in `combinations`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from ascendctl.facts import Generation
from ascendctl.hccl.combinations import judge_together
from ascendctl.hccl.finding import Finding, Severity
from ascendctl.hccl.launch_text import Assignment, How, LaunchText, read_launch_text, scopes
from ascendctl.hccl.variables import (
    LATER_PREFIX,
    OWNED_PREFIX,
    VARIABLES,
    WILD_NAMES,
    Variable,
)

# The guides' largest is 2560 MB; a communicator takes twice the value, and a device has 64 GiB at most.
_BUFFER_LARGE_MB = 8192
_BUFFER_ABSURD_MB = 32768
_DEVICE_HBM_GIB = 64


@dataclass(frozen=True)
class Judgement:
    """``findings`` in order of lines. ``judged``: how many assignments were looked at; 0 = nothing was."""

    findings: tuple[Finding, ...]
    judged: int

    def count(self, severity: Severity) -> int:
        return sum(1 for finding in self.findings if finding.severity is severity)


def lint(text: str, *, generation: Generation | None = None) -> Judgement:
    """Judge a text; ``generation`` None = what holds on A2 and A3 alike."""
    read = read_launch_text(text)
    concerned = [a for a in read.assignments if a.scope >= 0 and _concerns(a.name)]
    found = [finding for assignment in concerned for finding in _judge(assignment, read, generation)]
    for together in scopes(read.assignments):
        known = {name: assignment for name, assignment in together.items() if name in VARIABLES}
        found += judge_together(known, generation)
    found += _remarks(read)
    ordered = sorted(dict.fromkeys(found), key=lambda finding: (finding.line, finding.variable, finding.rule))
    judged = sum(1 for assignment in concerned if assignment.value is not None)
    return Judgement(tuple(ordered), judged)


def _concerns(name: str) -> bool:
    return name in VARIABLES or name.startswith((OWNED_PREFIX, LATER_PREFIX)) or bool(_near(name))


def _judge(assignment: Assignment, read: LaunchText, generation: Generation | None) -> Iterator[Finding]:
    variable = VARIABLES.get(assignment.name)
    if variable is None:
        yield _unknown_name(assignment, read)
        return
    yield from _reach(assignment, read)
    yield from _standing(assignment, variable, generation)
    if assignment.value is None:
        yield Finding(
            "not-judged",
            Severity.NOTE,
            assignment.line,
            variable.name,
            f"{assignment.written or 'its value'} is not settled by this text, so that it is not judged",
            variable.form_on(generation).expected,
        )
        return
    yield from _value(assignment, assignment.value.strip(), variable, generation)


def _unknown_name(assignment: Assignment, read: LaunchText) -> Finding:
    name = assignment.name
    # A helper of the script's own: its value reaches the engine under another name.
    helper = name in read.used
    severity = Severity.WARNING if helper else Severity.ERROR
    wild, near = WILD_NAMES.get(name), _near(name)
    if wild is not None:
        what, meant = f"no library reads it: {wild.loss}", wild.meant
    elif near:
        what, meant = "no library reads it", near
    else:
        what, meant, severity = "neither HCCL nor torch_npu is known to read it", "", Severity.WARNING
    if name.startswith(LATER_PREFIX):
        what, meant, severity = "only the generation after A3 reads it", "", Severity.WARNING
    if helper:
        do = f"it serves this script; give it a name that does not begin with {OWNED_PREFIX}"
    else:
        do = f"write {meant}" if meant else "leave it out, or see whether your CANN documents it"
    return Finding(
        "unknown-name",
        severity,
        assignment.line,
        name,
        what,
        meant or f"a name that HCCL documents ({OWNED_PREFIX}…)",
        do,
    )


def _near(name: str) -> str:
    """The HCCL-named variable that was probably meant; "" if none is near, or the name is a known one."""
    if name in VARIABLES:
        return ""
    if name in WILD_NAMES:
        return WILD_NAMES[name].meant
    upper = name.upper()
    if upper in VARIABLES:
        return upper
    if not upper.startswith(("HCCL", "HCLL", "HCC_", "GLOO_SOCKET", "TP_SOCKET", "P2P_HCCL", "PYTORCH_NPU")):
        return ""
    near = get_close_matches(upper, VARIABLES, n=1, cutoff=0.82)
    return near[0] if near else ""


def _reach(assignment: Assignment, read: LaunchText) -> Iterator[Finding]:
    if read.is_script and assignment.how is How.PLAIN:
        yield Finding(
            "not-exported",
            Severity.WARNING,
            assignment.line,
            assignment.name,
            "set in the shell and not exported: unless it was before, no engine sees it",
            f"export {assignment.name}=…",
            "export it",
        )


def _standing(assignment: Assignment, variable: Variable, generation: Generation | None) -> Iterator[Finding]:
    if variable.retired:
        yield Finding(
            "retired", Severity.WARNING, assignment.line, variable.name, variable.retired, "", "leave it out"
        )
    if generation is not None and generation not in variable.generations:
        only = " and ".join(one.value.upper() for one in sorted(variable.generations))
        yield Finding(
            "generation",
            Severity.WARNING,
            assignment.line,
            variable.name,
            f"it has its effect on {only} only",
            f"none of it on {generation.value.upper()}",
            "leave it out",
        )


def _value(
    assignment: Assignment, value: str, variable: Variable, generation: Generation | None
) -> Iterator[Finding]:
    form = variable.form_on(generation)
    if problem := form.problem(value):
        leave_out = f", or leave it out: the default is {variable.default}" if variable.default else ""
        yield Finding(
            "value",
            Severity.ERROR,
            assignment.line,
            variable.name,
            f"{value!r}: {problem}{' (EI0001)' if variable.source == 'hccl' else ''}",
            form.expected,
            f"correct it{leave_out}",
        )
    elif special := _SPECIAL.get(variable.name):
        yield from special(assignment, value)


def _buffer(assignment: Assignment, value: str) -> Iterator[Finding]:
    size_mb = int(value)
    if size_mb < _BUFFER_LARGE_MB:
        return
    absurd = size_mb >= _BUFFER_ABSURD_MB
    yield Finding(
        "buffer-size",
        Severity.ERROR if absurd else Severity.WARNING,
        assignment.line,
        assignment.name,
        f"{size_mb} MB: each communicator takes twice this, {2 * size_mb / 1024:.0f} GiB of a device's"
        f" {_DEVICE_HBM_GIB} GiB at most",
        "MB, not bytes or KB; the guides use 200 to 2560",
        "compute it: ascendctl env --model config.json --dp N --tp N --max-num-seqs N",
    )


def _prefix(assignment: Assignment, value: str) -> Iterator[Finding]:
    if value.startswith(("=", "^")):
        return
    yield Finding(
        "prefix",
        Severity.NOTE,
        assignment.line,
        assignment.name,
        "a bare name is a prefix: every NIC whose name begins like it is taken, eth10 by eth1",
        f"={value} for exactly this NIC",
        f"write {assignment.name}={'=' + value!r}",
    )


def _rank_table(assignment: Assignment, value: str) -> Iterator[Finding]:
    if value.startswith("/"):
        return
    yield Finding(
        "rank-table-path",
        Severity.WARNING,
        assignment.line,
        assignment.name,
        f"{value!r} is a relative path: where it does not exist, torch_npu negotiates without a word",
        "an absolute path, of a file and not of a symbolic link",
        "write the absolute path",
    )


_SPECIAL = {"HCCL_BUFFSIZE": _buffer, "HCCL_SOCKET_IFNAME": _prefix, "RANK_TABLE_FILE": _rank_table}


def _remarks(read: LaunchText) -> Iterator[Finding]:
    for remark in read.remarks:
        if remark.wrong and not _concerns(remark.name):
            continue
        rule, severity = ("blanks", Severity.ERROR) if remark.wrong else ("not-judged", Severity.NOTE)
        yield Finding(rule, severity, remark.line, remark.name, remark.what)
