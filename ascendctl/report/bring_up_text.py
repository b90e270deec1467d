"""What a person reads after `bring-up`: each step as its own command reports it, then one closing line."""

from __future__ import annotations

from rich.console import Console

from ascendctl.bring_up import BringUpRun, Course, Rehearsal, StepRun, Verified
from ascendctl.consistency.verdicts import ConsistencyRun
from ascendctl.durations import span_text
from ascendctl.netloader.runs import NetloaderRun
from ascendctl.report.bring_up_words import closing_line, is_green
from ascendctl.report.consistency_text import render_consistency
from ascendctl.report.netloader_text import render_join_plan, render_run
from ascendctl.report.netloader_words import name_of, outcome_text
from ascendctl.report.terminal import print_heading, print_line, print_marked, render_summary
from ascendctl.results import ExitCode, Status

_STATUS = {
    Course.DONE: Status.PASS,
    Course.STOPPED: Status.FAIL,
    Course.NOT_REACHED: Status.SKIPPED,
    Course.LEFT_OUT: Status.NOT_APPLICABLE,
}


def render_bring_up(run: BringUpRun, console: Console, *, strict: bool, stop_command: str) -> None:
    """Print all steps and what they come to. ``stop_command``: ends what was started, for who wants that."""
    print_line(console, f"bring-up {run.name}: {span_text(run.duration_s)}, {_when(run)}", "bold")
    for number, one in enumerate(run.steps, start=1):
        console.print()
        print_line(console, f"━━ {number} of {len(run.steps)}  {_headline(one)}", "bold")
        _print_result(one, console, strict=strict)
    print_heading(console, "Steps")
    for one in run.steps:
        print_marked(console, _status(one), one.step.value, _told(one))
    code = run.exit_code
    if code is not ExitCode.OK and run.started:
        print_heading(console, "What was started runs on")
        for instance in run.started:
            url = f"; {instance.url}" if instance.url else ""
            status = Status.PASS if instance.ready else Status.UNKNOWN
            print_marked(console, status, name_of(instance.instance), f"{outcome_text(instance)}{url}")
        print_line(console, f"to end it: {stop_command}", indent=2)
    style = "bold green" if is_green(run) else "bold red" if code is ExitCode.FOUND_WRONG else "bold yellow"
    console.print()
    print_line(console, closing_line(run), style)


def render_rehearsal(made: Rehearsal, console: Console) -> None:
    """Print who would take from whom; nothing has been started."""
    if made.join is not None and made.join.plan is not None:
        render_join_plan(made.join.plan, made.join.deployment.instances, console)


def _headline(one: StepRun) -> str:
    code = "" if one.exit_code is None else f", exit code {int(one.exit_code)}"
    return f"{one.step.value}: {one.course.value}{code}"


def _told(one: StepRun) -> str:
    reasons = f": {'; '.join(one.reasons)}" if one.reasons else ""
    code = "" if one.exit_code is None else f" (exit code {int(one.exit_code)})"
    return f"{one.course.value}{code}{reasons}"


def _status(one: StepRun) -> Status:
    if one.exit_code in (ExitCode.NOT_ENOUGH, ExitCode.INTERRUPTED):
        return Status.UNKNOWN
    return _STATUS[one.course]


def _print_result(one: StepRun, console: Console, *, strict: bool) -> None:
    result, code = one.result, one.exit_code
    if isinstance(result, Verified) and code is not None:
        render_summary(result.run, console, strict=strict, exit_code=code, can_ask_again=False)
        for warning in result.warnings:
            print_marked(console, Status.WARN, "", warning)
    elif isinstance(result, NetloaderRun) and code is not None:
        render_run(result, console, exit_code=code)
    elif isinstance(result, ConsistencyRun) and code is not None:
        render_consistency(result, console, exit_code=code)
    else:
        for reason in one.reasons:
            print_line(console, reason, indent=2)


def _when(run: BringUpRun) -> str:
    return run.started_at.strftime("%Y-%m-%d %H:%M:%S %Z").strip()
