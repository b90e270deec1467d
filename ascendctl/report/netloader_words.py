"""A run of `netloader` in words: where each rank's weights came from, how an instance ended, the verdict."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from rich.cells import cell_len

from ascendctl.durations import span_text
from ascendctl.netloader.engine.address import Address
from ascendctl.netloader.evidence import Came, Evidence, RankEvidence
from ascendctl.netloader.plan import Instance, Role
from ascendctl.netloader.proof import PROVEN, Proof, proof_of, untold
from ascendctl.netloader.runs import End, InstanceRun, NetloaderRun
from ascendctl.netloader.waves import JoinPlan
from ascendctl.report.folding import fold_names, fold_numbers
from ascendctl.report.printable import shown
from ascendctl.results import ExitCode, Status

MOST_NAME_CELLS = 48  # display width of folded names within a sentence; longer ones are counted
MOST_ADDRESSES = 2  # of sources without a name, in a sentence


def name_of(instance: Instance) -> str:
    """``node01.1``; with the host behind it where the name does not begin with it."""
    name, host = shown(instance.name), shown(instance.host)
    return name if name.rpartition(".")[0] == host else f"{name} ({host})"


def names_text(names: Iterable[str], noun: str = "instance") -> str:
    """``node[01-16].1``; ``16 instances`` where that would be long."""
    distinct = list(dict.fromkeys(names))
    folded = fold_names(distinct)
    return (
        folded if cell_len(folded) <= MOST_NAME_CELLS or len(distinct) == 1 else counted(len(distinct), noun)
    )


def counted(number: int, noun: str) -> str:
    """``1 joiner``, ``200 joiners``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def outcome_text(one: InstanceRun) -> str:
    """How an instance ended, in a line: ``ready in 42 s; ranks 0-7: p2p from node01, verified``."""
    parts = [ended_text(one)]
    if one.ready and one.ready_s is not None and not one.ran_already:
        parts = [f"ready in {span_text(one.ready_s)}"]
    parts += [] if one.ready else [shown(one.reason)] if one.reason else []
    if one.ready and one.instance.role is Role.JOINER:
        parts += weights_lines([(one.instance, one.evidence)], {})
    return "; ".join(parts)


def ended_text(one: InstanceRun) -> str:
    """How an instance ended: ``ready``, ``ran already``, ``failed``, ``still starting``."""
    return "ran already" if one.ready and one.ran_already else one.end.value


# Where the weights came from ------------------------------------------------------------------------------

Weighed = tuple[Instance, Evidence | None]


def givers(instances: Iterable[tuple[Instance, Sequence[str]]], plan: JoinPlan | None) -> dict[str, str]:
    """Listener ("host:port") or host → the name of the instance there; where there may be two, none.

    ``instances``: each with what it is seen to serve at. The plan's sources have their names from the order
    in which a joiner is told their listeners.
    """
    at: dict[str, set[str]] = defaultdict(set)
    joins = {join.joiner: join for wave in (plan.waves if plan else ()) for join in wave.joins}
    of_run = list(instances)
    for instance, serves in of_run:
        for listener in (*serves, *instance.listeners):
            at[listener].add(shown(instance.name))
    told = {
        (listener, shown(name))
        for instance, _ in of_run
        if instance.name in joins
        for listeners in instance.sources
        if len(listeners) == len(joins[instance.name].sources)
        for listener, name in zip(listeners, joins[instance.name].sources, strict=True)
    }
    for listener, name in told:
        at[listener].add(name)
    for listener, names in list(at.items()):
        at[parted(listener)[0]] |= names
    return {place: min(names) for place, names in at.items() if len(names) == 1}


def weights_lines(alike: Sequence[Weighed], named: Mapping[str, str]) -> list[str]:
    """``ranks 0-7: p2p from node01.1, verified``, a line for ranks that are alike; of instances of one
    `weights_shape`. ``named``: of `givers`."""
    instance, found = alike[0]
    groups: dict[tuple[object, ...], list[RankEvidence]] = {}
    for at, rank in enumerate(found.ranks if found else ()):
        # Several instances have different sources; one has a line for each.
        giver = _giver(rank.source, named) if len(alike) == 1 else ""
        same = [other.ranks[at] for _, other in alike if other]
        groups.setdefault((rank.draft, rank.came, rank.verified, giver), []).extend(same)
    lines = [_ranks_text(ranks, instance, named) for ranks in groups.values()]
    missing = untold(instance, found)
    if missing and instance.role is Role.JOINER:
        lines.append(f"{_numbers(missing)}: no evidence")
    return lines


def weights_shape(found: Evidence | None) -> tuple[tuple[object, ...], ...]:
    """Equal where the weights of two instances came alike, whoever gave them."""
    return tuple((one.rank, one.draft, one.came, one.verified) for one in (found.ranks if found else ()))


def _ranks_text(ranks: Sequence[RankEvidence], instance: Instance, named: Mapping[str, str]) -> str:
    first = ranks[0]
    who = ("draft " if first.draft else "") + _numbers({one.rank for one in ranks})
    if first.came is not Came.P2P:
        meant = first.came is Came.DISK and instance.role is Role.SEED
        return f"{who}: {first.came.value}" + (", as planned" if meant else "")
    verified = {True: "verified", False: "not verified", None: "verified: not told"}[first.verified]
    return f"{who}: p2p from {_givers_text(ranks, named)}, {verified}"


def _givers_text(ranks: Sequence[RankEvidence], named: Mapping[str, str]) -> str:
    ports: dict[str, set[int]] = {}
    for rank in ranks:
        host, port = parted(rank.source or "")
        name = _giver(rank.source, named)
        ports.setdefault(name, set()).update([port] if port is not None and name == host else [])
    names = [name for name, of in ports.items() if not of]
    addresses = [f"{name}:{fold_numbers(of)}" for name, of in ports.items() if of]
    return ", ".join([*([names_text(names, "source")] if names else []), *addresses[:MOST_ADDRESSES]]) + (
        f" and {counted(len(addresses) - MOST_ADDRESSES, 'more source')}"
        if addresses[MOST_ADDRESSES:]
        else ""
    )


def _giver(source: str | None, named: Mapping[str, str]) -> str:
    """The name of who gave; its address without the port where it has none."""
    if not source:
        return "a source that is not told"
    return named.get(source, shown(parted(source)[0]))


def parted(source: str) -> tuple[str, int | None]:
    """Host, in the brackets that an address of IPv6 has, and port; a text of another form is all host."""
    try:
        address = Address.parse(source)
    except ValueError:
        return source, None
    return str(address).rpartition(":")[0], address.port


def listeners_text(listeners: Sequence[str]) -> str:
    """``10.0.0.1:2333-2340``: the ports of one host together."""
    ports: dict[str, list[int]] = {}
    for listener in listeners:
        host, port = parted(listener)
        ports.setdefault(host, []).extend([] if port is None else [port])
    return ", ".join(shown(f"{host}:{fold_numbers(of)}" if of else host) for host, of in ports.items())


def _numbers(ranks: Iterable[int]) -> str:
    distinct = set(ranks)
    return f"rank{'' if len(distinct) == 1 else 's'} {fold_numbers(distinct)}"


# The verdict ----------------------------------------------------------------------------------------------


def status_of(one: InstanceRun, *, allow_fallback: bool) -> Status:
    """How an instance is marked; green only where it is ready, proven, and nothing is to be said of it."""
    if one.end is End.FAILED:
        return Status.FAIL
    if one.end is End.NOT_STARTED:
        return Status.SKIPPED
    proof = proof_of(one.instance, one.evidence)
    if proof is Proof.DISK:
        return Status.WARN if allow_fallback else Status.FAIL
    if not one.ready or proof not in PROVEN:
        return Status.UNKNOWN
    return Status.WARN if one.reason else Status.PASS


def is_green(run: NetloaderRun, exit_code: int) -> bool:
    """Whether the verdict is good in every part: no fallback that was allowed, no gap."""
    statuses = {status_of(one, allow_fallback=run.allow_fallback) for one in run.instances}
    return exit_code == ExitCode.OK and statuses == {Status.PASS} and not _gap_text(run)


def verdict_line(run: NetloaderRun, exit_code: int) -> str:
    """What the run comes to, with counts. It follows the exit code, and is never greener than the evidence:
    it begins with ``PROVEN`` only where every joiner is ready and every rank of it came from a source."""
    told = f"{_share(run)} ({_tally(run)})" if run.instances else "no instance"
    if exit_code == ExitCode.INTERRUPTED:
        left = [name_of(one.instance) for one in run.instances if one.end is End.INTERRUPTED]
        runs_on = f"; left to run on: {names_text(left)}" if left else ""
        return f"INTERRUPTED after {span_text(run.duration_s)}: {told}{runs_on}{_gap_text(run)}"
    if exit_code == ExitCode.INTERNAL:
        return f"NOT PROVEN: ascendctl itself failed on some cells of the preflight; {told}{_gap_text(run)}"
    if exit_code == ExitCode.FOUND_WRONG:
        return f"{_wrong(run)}: {told}{_gap_text(run)}"
    if (
        exit_code != ExitCode.OK
        or not run.instances
        or not all(_lets_pass(one, run) for one in run.instances)
    ):
        return f"{'NOT STARTED' if run.gated else 'NOT PROVEN'}: {told}{_gap_text(run)}"
    return f"{_good(run)}{_gap_text(run)}"


def _proven(one: InstanceRun) -> bool:
    return one.ready and proof_of(one.instance, one.evidence) in PROVEN


def _lets_pass(one: InstanceRun, run: NetloaderRun) -> bool:
    """Proven, or ready with a fallback that is allowed and nothing that is unproven beside it."""
    found = one.evidence
    fell_back = run.allow_fallback and found is not None and found.fallbacks and not found.unproven
    return _proven(one) or bool(one.ready and fell_back and not untold(one.instance, found))


def _good(run: NetloaderRun) -> str:
    proofs = Counter(proof_of(one.instance, one.evidence) for one in run.instances)
    seeds = proofs[Proof.NOT_WANTED]
    joiners = len(run.instances) - seeds
    deaf = sum(not one.serves for one in run.instances if one.instance.role is Role.SEED)
    beside = f"; no listener for joiners is known of {deaf}" if deaf else ""
    if not joiners:
        return f"READY: {_share(run)}{beside}"
    beside = f"; {counted(seeds, 'seed')} ready" + beside if seeds else ""
    if proofs[Proof.DISK]:
        fell = f"{proofs[Proof.DISK]} of {counted(joiners, 'joiner')}"
        return f"FELL BACK TO DISK, which --allow-fallback lets pass: {fell}; all are ready{beside}"
    of_all = f"{joiners} of {counted(joiners, 'joiner')}"
    line = f"PROVEN: {of_all}: every rank's weights came from a running instance"
    unverified = proofs[Proof.TRANSFERRED]
    if not unverified:
        return f"{line} and were verified{beside}"
    whose = "it is" if unverified == joiners else f"of {counted(unverified, 'joiner')} it is"
    return f"{line}; {whose} not shown that every byte was compared{beside}"


def _wrong(run: NetloaderRun) -> str:
    fell = any(proof_of(one.instance, one.evidence) is Proof.DISK for one in run.instances)
    faults = any(cell.status is Status.FAIL for cell in run.preflight)
    heads = {
        "NOT STARTED, the preflight refused": run.gated,
        "FAILED": any(one.end is End.FAILED for one in run.instances),
        "FELL BACK TO DISK": fell and not run.allow_fallback,
        "PREFLIGHT FOUND FAULTS": faults and not run.gated,
    }
    return ", ".join(head for head, holds in heads.items() if holds) or "WARNINGS count as wrong (--strict)"


def _share(run: NetloaderRun) -> str:
    """``1 of 2 joiners proven``: how many are as they should be."""
    roles = {one.instance.role for one in run.instances}
    noun = next(iter(roles)).value if len(roles) == 1 else "instance"
    as_wanted = "ready" if roles == {Role.SEED} else "ready with weights that are proven"
    return f"{sum(map(_proven, run.instances))} of {counted(len(run.instances), noun)} {as_wanted}"


def _tally(run: NetloaderRun) -> str:
    """``1 failed, 1 fell back to disk, 2 verified``: every instance once, the worst first."""
    counts = Counter(_state(one) for one in run.instances)
    ends = (End.FAILED, End.UNREACHED, End.NOT_READY, End.INTERRUPTED, End.NOT_STARTED)
    proofs = (Proof.DISK, Proof.UNPROVEN, Proof.TRANSFERRED, Proof.VERIFIED)
    order = [*(end.value for end in ends), *(proof.value for proof in proofs), End.READY.value]
    return ", ".join(f"{counts[state]} {state}" for state in order if counts[state])


def _state(one: InstanceRun) -> str:
    proof = proof_of(one.instance, one.evidence)
    return proof.value if one.ready and proof is not Proof.NOT_WANTED else one.end.value


def _gap_text(run: NetloaderRun) -> str:
    count = sum(cell.wanted and not cell.evaluated for cell in run.preflight)
    return f"; {counted(count, 'cell')} of the preflight could not be looked at" if count else ""
