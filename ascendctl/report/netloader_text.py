"""What a person reads after `netloader serve`, `join`, `join --plan` and `status`.

The verdict is the last line, where the eye is when a command ends. Every text of a host has gone through
`shown`.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ascendctl.durations import span_text
from ascendctl.netloader.deployment_state import Life
from ascendctl.netloader.engine.phases import PHASES
from ascendctl.netloader.log_rules import Stage
from ascendctl.netloader.plan import Instance
from ascendctl.netloader.proof import PROVEN, Proof, proof_of, untold
from ascendctl.netloader.runs import End, InstanceRun, NetloaderRun, Standing, StatusRun
from ascendctl.netloader.waves import Join, JoinPlan, Wave, seconds_text
from ascendctl.report.folding import fold_results, numbers_masked
from ascendctl.report.marks import BY_STATUS
from ascendctl.report.netloader_tables import (
    FROM_DISK,
    MOST_ROWS,
    Problem,
    Row,
    Serving,
    alike,
    in_rows,
    print_problems,
    print_rest,
    print_serving,
    print_table,
    range_text,
    rank_problems,
    weights_cell,
)
from ascendctl.report.netloader_words import (
    counted,
    ended_text,
    givers,
    is_green,
    name_of,
    names_text,
    status_of,
    verdict_line,
    weights_lines,
    weights_shape,
)
from ascendctl.report.printable import shown
from ascendctl.report.terminal import (
    percent_text,
    print_block,
    print_findings,
    print_heading,
    print_line,
    print_marked,
)
from ascendctl.results import ExitCode, Status, coverage, summary

WIDE_CELLS = 100  # from here on there is room for a role that all instances have in common


def render_run(run: NetloaderRun, console: Console, *, exit_code: ExitCode) -> None:
    """Print what became of every instance; ``exit_code`` is the decision. Bounded however many there are."""
    _print_head(run, console)
    _print_preflight(run, console)
    if run.instances:
        _print_instances(run, console)
        _print_seconds(run.instances, console)
        print_serving((Serving(name_of(one.instance), one.url, one.serves) for one in run.instances), console)
        print_problems((problem for one in run.instances for problem in _problems(one, run)), console)
    _print_notes(run, console)
    _print_verdict(verdict_line(run, exit_code), console, exit_code, green=is_green(run, exit_code))


def render_status(run: StatusRun, console: Console, *, exit_code: ExitCode) -> None:
    """Print what every instance is now, as its host tells; the same on every control machine."""
    hosts = counted(len(run.hosts), "host")
    folded = names_text(run.hosts, "host")
    print_line(console, f"asked {hosts}{'' if folded == hosts else f': {folded}'}, {_when(run.started_at)}")
    named = givers([(one.instance, one.serves) for one in run.standings if one.instance], None)
    for standings, first in alike(run.standings, lambda one: one.seen.deployment):
        _print_deployment(first.seen.deployment, standings, named, console)
    print_serving((Serving(_standing_name(one), one.url, one.serves) for one in run.standings), console)
    print_problems((problem for one in run.standings for problem in _standing_problems(one)), console)
    if run.unasked:
        print_heading(console, "Not asked, or only in part")
        for pairs, (_, reason) in alike(run.unasked, lambda pair: numbers_masked(pair[1])):
            print_marked(console, Status.UNKNOWN, names_text((host for host, _ in pairs), "host"), reason)
    line, green = _status_verdict(run, exit_code)
    _print_verdict(line, console, exit_code, green=green)


def render_join_plan(
    plan: JoinPlan, joiners: Sequence[Instance], console: Console, *, goes_on: bool = False
) -> None:
    """Print who takes from whom and when. ``goes_on``: it is carried out next, else nothing was started."""
    by_name = {one.name: one for one in joiners}
    joins = [join for wave in plan.waves for join in wave.joins]
    sources = {join.sources[0] for join in joins if join.sources} - {join.joiner for join in joins}
    head = Text.assemble(("netloader join --plan", "bold"), f"  {counted(len(joins), 'joiner')}")
    head.append(f" in {counted(len(plan.waves), 'wave')}" if plan.waves else "")
    head.append(f" from {names_text(sorted(sources), 'source')}" if sources else "")
    print_block(console, Text(), head.append(f", by the loader of {plan.engine.value}"))
    for number, wave in enumerate(plan.waves, start=1):
        begins = f", once all of wave {number - 1} listen" if number > 1 else ""
        print_heading(
            console, f"Wave {number}{begins}: {counted(len(wave.joins), 'joiner')}, {_time(wave.seconds)}"
        )
        _print_wave(wave, by_name, console)
    if plan.notes:
        print_heading(console, "Notes")
    for note in plan.notes:
        print_marked(console, Status.NOT_APPLICABLE, "", note)
    console.print()
    begin = "Joining now" if goes_on else "PLANNED, nothing was started"
    print_line(console, f"{begin}; for all joiners: {_time(plan.seconds)}", "bold")


def _print_verdict(line: str, console: Console, exit_code: ExitCode, *, green: bool) -> None:
    style = "bold green" if green else "bold yellow"
    console.print()
    print_line(console, line, "bold red" if exit_code is ExitCode.FOUND_WRONG else style)


def _when(started_at: dt.datetime) -> str:
    return started_at.strftime("%Y-%m-%d %H:%M:%S %Z").strip()


def _time(seconds: float | None) -> str:
    return "time not known" if seconds is None else seconds_text(seconds)


# A run: first lines ---------------------------------------------------------------------------------------


def _print_head(run: NetloaderRun, console: Console) -> None:
    roles = Counter(one.instance.role for one in run.instances)
    who = ", ".join(counted(count, role.value) for role, count in roles.items()) or "no instance"
    models = {one.instance.serving.model for one in run.instances}
    model = f" of {shown(models.pop())}" if len(models) == 1 else ""
    head = Text.assemble((f"netloader {run.verb}", "bold"), f"  {shown(run.deployment)}: {who}{model}")
    print_block(console, Text(), head)
    planned = f" (planned: {seconds_text(run.plan.seconds)})" if run.plan and run.plan.seconds else ""
    print_line(
        console,
        f"loader of {run.engine.value}, {span_text(run.duration_s)}{planned}, {_when(run.started_at)}",
    )


def _print_preflight(run: NetloaderRun, console: Console) -> None:
    cells, folded = run.preflight, fold_results(run.preflight)
    if not cells:
        print_line(console, "preflight: no cell was looked at")
        return
    counts = ", ".join(f"{count:,} {status.value}" for status, count in summary(cells).items() if count)
    started = any(one.started for one in run.instances)
    held = f"; it refused, nothing {'more ' if started else ''}was started" if run.gated else ""
    print_line(console, f"preflight: {counts}; coverage {percent_text(coverage(cells))}{held}")
    print_findings(console, "Preflight: findings", folded.findings)
    print_findings(console, "Preflight: could not be looked at", folded.unlooked)
    print_findings(console, "Preflight: waived by the inventory", folded.waived)


# A run: its tables ----------------------------------------------------------------------------------------


def _print_instances(run: NetloaderRun, console: Console) -> None:
    print_heading(console, "Instances, and where the weights of their ranks came from")
    named = givers([(one.instance, one.serves) for one in run.instances], run.plan)
    groups = in_rows(
        run.instances,
        lambda one: (
            one.instance.role,
            ended_text(one),
            weights_shape(one.evidence),
            untold(one.instance, one.evidence),
        ),
    )
    groups.sort(key=lambda group: -BY_STATUS[_status(group[0], run)].rank)
    one_role = len({one.instance.role for one in run.instances}) == 1 and console.width < WIDE_CELLS
    rows = []
    for group in groups[:MOST_ROWS]:
        first = group[0]
        role = first.instance.role
        weighed = [(each.instance, each.evidence) for each in group]
        # Where nothing runs, no evidence is no news.
        lines = weights_lines(weighed, named) if first.evidence or first.ready else []
        cells = (
            names_text(name_of(each.instance) for each in group),
            *([] if one_role else [role.value]),
            ended_text(first),
            range_text(each.ready_s for each in group if not each.ran_already) or "-",
        )
        rows.append(Row(cells, weights_cell(lines, role), _status(first, run)))
    titles = ("instance", *([] if one_role else ["role"]), "ended", "ready s", "weights")
    print_table(titles, rows, console, numbers_from=len(titles) - 2)
    print_rest(groups[MOST_ROWS:], ended_text, console)


def _status(one: InstanceRun, run: NetloaderRun) -> Status:
    return status_of(one, allow_fallback=run.allow_fallback)


_STAGE_TITLES = {
    Stage.BUILDING: "building",
    Stage.JOINING: "asking",
    Stage.RECEIVING: "receiving",
    Stage.READING_DISK: "disk",
    Stage.WEIGHTS: "loaded",
    Stage.LISTENING: "serving",
    Stage.PREPARING: "preparing",
    Stage.READY: "ready",
}


def _print_seconds(instances: Sequence[InstanceRun], console: Console) -> None:
    reached = {
        one.instance.name: {_STAGE_TITLES[stage]: at for stage, at in one.stages if stage in _STAGE_TITLES}
        for one in instances
    }
    phases = {one.instance.name: {shown(phase): took for phase, took in one.seconds} for one in instances}
    others = [phase for of in phases.values() for phase in of]
    for title, seconds, order in (
        ("Seconds from the start to each stage", reached, list(_STAGE_TITLES.values())),
        ("Seconds of each phase of the load, of several ranks the longest", phases, [*PHASES, *others]),
    ):
        columns = [name for name in dict.fromkeys(order) if any(name in of for of in seconds.values())]
        timed = [one for one in instances if seconds[one.instance.name]]
        if columns:
            print_heading(console, title)
            groups = in_rows(timed, lambda one: (one.instance.role, one.end, one.ran_already))
            _print_times(groups, columns, seconds, console)


def _print_times(
    groups: Sequence[Sequence[InstanceRun]],
    columns: Sequence[str],
    seconds: Mapping[str, Mapping[str, float]],
    console: Console,
) -> None:
    """A table where it fits, else words and numbers below each other."""
    rows = []
    for group in groups:
        names = names_text(name_of(each.instance) for each in group)
        of_group = [seconds[each.instance.name] for each in group]
        rows.append((names, [range_text(of.get(column) for of in of_group) for column in columns]))
    widths = [
        max(cell_len(column), *(cell_len(cells[at]) for _, cells in rows))
        for at, column in enumerate(columns)
    ]
    if 4 + max(cell_len(names) for names, _ in rows) + sum(2 + width for width in widths) > console.width:
        for names, cells in rows:
            pairs = [f"{column} {cell}" for column, cell in zip(columns, cells, strict=True) if cell]
            print_block(console, Text(f"    {names}  "), Text(", ".join(pairs)))
        return
    padded = [Row((names, *(cell or "-" for cell in cells)), Text()) for names, cells in rows]
    print_table(("", *columns, ""), padded, console, numbers_from=1)


# A run: what is wrong -------------------------------------------------------------------------------------


def _problems(one: InstanceRun, run: NetloaderRun) -> list[Problem]:
    """Why an instance is not ready, or not as wanted; then by reason its ranks that no source gave."""
    name, status = name_of(one.instance), _status(one, run)
    ranks = list(rank_problems(name, one.instance, one.evidence, status))
    if not one.ready:
        seen = f" (seen last: {one.stage.value})" if one.stage and one.end is not End.NOT_STARTED else ""
        own = Problem(name, status, f"{one.end.value}{seen}", one.reason, one.remedy, one.lines)
        # What an instance that is not ready has not proven is no news; that it read the disk is.
        return [own, *(problem for problem in ranks if problem.head.endswith(FROM_DISK))]
    reason = numbers_masked(one.reason)
    if not one.reason or reason in {numbers_masked(problem.reason) for problem in ranks}:
        return [replace(each, remedy=one.remedy, lines=each.lines or one.lines) for each in ranks]
    proof = proof_of(one.instance, one.evidence)
    head = one.end.value if proof in PROVEN else proof.value
    return [Problem(name, status, head, one.reason, one.remedy, one.lines), *ranks]


def _print_notes(run: NetloaderRun, console: Console) -> None:
    notes = [(note, name_of(one.instance)) for one in run.instances for note in one.notes]
    if not notes and not run.warnings and not run.notes:
        return
    print_heading(console, "Notes")
    for warning in dict.fromkeys(run.warnings):
        print_marked(console, Status.WARN, "", warning)
    for note in dict.fromkeys(run.notes):
        print_marked(console, Status.NOT_APPLICABLE, "", note)
    groups = alike(notes, lambda pair: numbers_masked(pair[0]))
    for group, (note, _) in groups[:MOST_ROWS]:
        print_marked(console, Status.NOT_APPLICABLE, names_text(name for _, name in group), note)
    if groups[MOST_ROWS:]:
        print_line(console, f"… and {counted(len(groups) - MOST_ROWS, 'more note')}", indent=4)


# The plan of a join ---------------------------------------------------------------------------------------


def _print_wave(wave: Wave, by_name: Mapping[str, Instance], console: Console) -> None:
    groups = in_rows(wave.joins, lambda join: join.sources[:1])
    rows = []
    for group in groups[:MOST_ROWS]:
        first = group[0]
        source = shown(first.sources[0]) if first.sources else "no source"
        others = sorted({shown(other) for join in group for other in join.sources[1:]})
        joiners = names_text((_joiner_text(join, by_name) for join in group), "joiner")
        rows.append(Row((joiners, source, _turns_text(group)), Text(names_text(others, "source") or "-")))
    print_table(("joiner", "takes from", "its turn", "or, if that is gone, from"), rows, console)
    rest = [join for group in groups[MOST_ROWS:] for join in group]
    if rest:
        sources = counted(len(groups) - MOST_ROWS, "more source")
        print_line(console, f"… and {counted(len(rest), 'more joiner')} from {sources}", indent=4)


def _joiner_text(join: Join, by_name: Mapping[str, Instance]) -> str:
    instance = by_name.get(join.joiner)
    return name_of(instance) if instance else shown(join.joiner)


def _turns_text(joins: Sequence[Join]) -> str:
    """``at once``; ``after 2 others``; of several that wait for each other ``one by one``."""
    turns = {join.turn for join in joins}
    if len(turns) > 1:
        return "one by one"
    turn = turns.pop()
    return f"after {counted(turn, 'other')}" if turn else "at once"


# Status ---------------------------------------------------------------------------------------------------

_LIVES = {
    Life.LEFTOVERS: Status.FAIL,
    Life.ENDED: Status.FAIL,
    Life.RESTARTED: Status.FAIL,
    Life.ELSEWHERE: Status.NOT_APPLICABLE,
    Life.UNKNOWN: Status.UNKNOWN,
}


def _standing_name(one: Standing) -> str:
    return name_of(one.instance) if one.instance else f"{shown(one.seen.instance)} ({shown(one.host)})"


def _standing_proof(one: Standing) -> Proof:
    return proof_of(one.instance, one.evidence) if one.instance else Proof.UNPROVEN


def _standing_status(one: Standing) -> Status:
    if one.seen.life is not Life.RUNNING:
        return _LIVES[one.seen.life]
    if one.ready is None:
        return Status.UNKNOWN
    if not one.ready or _standing_proof(one) is Proof.DISK:
        return Status.WARN
    return Status.PASS if _standing_proof(one) in PROVEN else Status.UNKNOWN


def _standing_text(one: Standing) -> str:
    """``ended, exit code 1``; of one that runs how far it is: ``ready``, ``receiving weights``."""
    if one.seen.life is not Life.RUNNING:
        code = f", exit code {one.seen.exit_code}" if one.seen.exit_code is not None else ""
        return f"{one.seen.life.value}{code}"
    if one.ready is None:
        return "runs, ready not known"
    if one.ready:
        return "ready"
    return one.stage.value if one.stage and one.stage is not Stage.READY else "not ready"


def _print_deployment(
    name: str, standings: Sequence[Standing], named: Mapping[str, str], console: Console
) -> None:
    models = {one.instance.serving.model for one in standings if one.instance}
    of = f" of {shown(models.pop())}" if len(models) == 1 else ""
    print_heading(console, f"{shown(name)}: {counted(len(standings), 'instance')}{of}")
    groups = in_rows(
        standings,
        lambda one: (
            one.instance and one.instance.role,
            _standing_text(one),
            weights_shape(one.evidence),
            one.instance and untold(one.instance, one.evidence),
        ),
    )
    groups.sort(key=lambda group: -BY_STATUS[_standing_status(group[0])].rank)
    rows = []
    for group in groups[:MOST_ROWS]:
        first = group[0]
        role = first.instance.role if first.instance else None
        weighed = [(each.instance, each.evidence) for each in group if each.instance]
        known = [each.runs_s for each in group if each.runs_s is not None]
        spans = list(dict.fromkeys(map(span_text, sorted(known))))
        cells = (
            names_text(map(_standing_name, group)),
            role.value if role else "-",
            _standing_text(first),
            "-" if not spans else spans[0] if len(spans) == 1 else f"{spans[0]} to {spans[-1]}",
        )
        # Where nothing runs, no evidence is no news.
        lines = weights_lines(weighed, named) if weighed and (first.evidence or first.ready) else []
        rows.append(Row(cells, weights_cell(lines, role), _standing_status(first)))
    print_table(("instance", "role", "state", "for", "weights"), rows, console)
    print_rest(groups[MOST_ROWS:], _standing_text, console)


def _standing_problems(one: Standing) -> Iterable[Problem]:
    name, status = _standing_name(one), _standing_status(one)
    reason = one.reason or one.seen.reason
    if reason and status not in (Status.PASS, Status.NOT_APPLICABLE):
        yield Problem(name, status, _standing_text(one), reason)
    if one.instance and one.ready and one.seen.life is Life.RUNNING:
        yield from rank_problems(name, one.instance, one.evidence, status)


def _status_verdict(run: StatusRun, exit_code: ExitCode) -> tuple[str, bool]:
    """The closing line, and whether all is well."""
    wanted = [one for one in run.standings if one.seen.life is not Life.ELSEWHERE]
    ready = [one for one in wanted if one.seen.life is Life.RUNNING and one.ready]
    statuses = Counter(map(_standing_status, wanted))
    proofs = Counter(map(_standing_proof, ready))
    parts = [
        f"{len(ready)} of {counted(len(wanted), 'instance')} ready" if wanted else "no instance was found"
    ]
    for count, what in (
        (statuses[Status.FAIL], "not running as started"),
        (proofs[Proof.DISK], "with weights from disk in place of a source's"),
        (proofs[Proof.UNPROVEN], "with weights that are not proven"),
    ):
        parts += [f"{count} {what}"] if count else []
    parts += [f"{counted(len(run.unasked), 'host')} not asked in full"] if run.unasked else []
    text = "; ".join(parts)
    if exit_code is ExitCode.INTERRUPTED:
        return f"INTERRUPTED: {text} as far as was asked", False
    if exit_code is ExitCode.FOUND_WRONG:
        head = "NOT RUNNING" if statuses[Status.FAIL] else "RUNNING, not all as wanted"
        return f"{head}: {text}", False
    if exit_code is not ExitCode.OK or run.unasked:
        return f"NOT ALL IS KNOWN: {text}", False
    if not wanted:
        return f"NOTHING RUNS: {text} on {counted(len(run.hosts), 'host')}", False
    green = set(statuses) == {Status.PASS}
    return f"{'RUNNING' if green else 'RUNNING, not all as wanted'}: {text}", green
