"""Facts in, results out: every check on every host, then causes, then waivers.

Causes are applied by three rules, the same for every check:

1. A failure of the same device in ``void_after`` makes a cell meaningless, whatever was read.
2. A failure of the same device in ``after`` explains any cell that is not a pass.
3. A cell that could not be judged is explained by what kept it from being learned: the connection,
   the tools, a command that hung, a value that another check judges.

A failure that was seen is never hidden behind something that is merely unknown, and a command that
had to be killed stays visible. ``caused_by`` always names the root, not a link of the chain.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import fields

from ascendctl.checks.ascend import Unlearned, internal_error
from ascendctl.checks.contract import Check, ClusterCheck
from ascendctl.checks.registry import CLUSTER_CHECKS, HOST_CHECKS
from ascendctl.checks.waivers import WaiverRule, apply_waivers
from ascendctl.facts import BlockedBy, ClusterFacts, HostFacts, Profile
from ascendctl.results import CellKey, Result, Status, Subject, SubjectKind, host_subject


def run_checks(
    cluster: ClusterFacts,
    *,
    waivers: Sequence[WaiverRule] = (),
    today: dt.date,
    checks: Sequence[Check] = HOST_CHECKS,
    cluster_checks: Sequence[ClusterCheck] = CLUSTER_CHECKS,
    profile: Profile = Profile.STANDARD,
) -> tuple[Result, ...]:
    """Every cell of every check on every host of the selection, in the order host, check, device.

    Behind them the cells of the checks between hosts, in the order check, host.

    ``profile``: what was asked; checks of a deeper one have no cells.

    Never raises for a check's sake: an exception becomes ``error`` cells, all others are unaffected.
    """
    checks = [check for check in checks if _is_run(check, profile)]
    cluster_checks = [check for check in cluster_checks if _is_run(check, profile)]
    judged = _unique(
        cell
        for host in cluster.hosts
        for check in checks
        for cell in _guarded(check.id, host_subject(host.host), check, host, cluster)
    )
    causes = _Causes([*checks, *cluster_checks])
    results = causes.explained(judged)
    for cluster_check in cluster_checks:
        between = _guarded_cluster(cluster_check, cluster, results)
        results += causes.explained(_unique(between))
    return apply_waivers(results, waivers, today)


def _is_run(check: Check | ClusterCheck, profile: Profile) -> bool:
    return profile is Profile.DEEP or check.profile is Profile.STANDARD


def _guarded(
    check_id: str, subject: Subject, check: Check, host: HostFacts, cluster: ClusterFacts
) -> list[Result]:
    """The check's cells on one host; an error cell on the host if it breaks or gives none."""
    cells: list[Result] = []
    try:
        cells.extend(check.judge(host, cluster))
        if not cells:
            raise RuntimeError("the check gave no result")
    except Exception as error:
        cells.append(internal_error(check_id, subject, error))
    return cells


def _guarded_cluster(check: ClusterCheck, cluster: ClusterFacts, results: tuple[Result, ...]) -> list[Result]:
    """As above, for a check between hosts; it may well have nothing to judge."""
    cells: list[Result] = []
    try:
        cells.extend(check.judge(cluster, results))
    except Exception as error:
        cells.append(internal_error(check.id, Subject(SubjectKind.CLUSTER), error))
    return cells


def _unique(cells: Iterable[Result]) -> list[Result]:
    """One result per cell, the first: several hosts may report the same jump host."""
    first: dict[CellKey, Result] = {}
    for cell in cells:
        first.setdefault(cell.key, cell)
    return list(first.values())


class _Causes:
    """Finds for each cell the root finding that explains it.

    Takes the cells in portions: those of one are explained by each other and by those before them.
    """

    def __init__(self, checks: Sequence[Check | ClusterCheck]) -> None:
        self._cells: dict[CellKey, Result] = {}
        self._checks = {check.id: check for check in checks}
        self._owners = _owners(checks)
        self._roots: dict[CellKey, CellKey | None] = {}
        self._open: set[CellKey] = set()
        self._keys_of: dict[tuple[str | None, str], list[CellKey]] = {}
        self._before: dict[str, frozenset[str]] = {}

    def explained(self, cells: Iterable[Result]) -> tuple[Result, ...]:
        """The new cells in their order, those with a cause turned into ``skipped``.

        A cell that was there before stays as it is, and its second is dropped.
        """
        new = [cell for cell in cells if cell.key not in self._cells]
        for cell in new:
            self._cells[cell.key] = cell
            self._keys_of.setdefault((cell.subject.host, cell.check), []).append(cell.key)
        return tuple(self._explain(cell) for cell in new)

    def _explain(self, cell: Result) -> Result:
        if cell.status is Status.SKIPPED:  # its check knows the cause itself
            return _plain(cell)
        if cell.status is Status.PASS and not self._void_after(cell.check):
            return cell
        root_key = self._root_of(cell.key)
        if root_key is None:
            return _plain(cell)
        root = self._cells[root_key]
        return Result(
            cell.check,
            cell.subject,
            Status.SKIPPED,
            f"explained by {root.check}{_where(root, cell)}: {root.message}",
            expected=cell.expected,
            actual=cell.actual,
            caused_by=root_key,
            root_fails=root.status is Status.FAIL,
            command=cell.command,
            evidence=cell.evidence,
        )

    def _void_after(self, check_id: str) -> tuple[str, ...]:
        check = self._checks.get(check_id)
        return check.void_after if check else ()

    def _root_of(self, key: CellKey) -> CellKey | None:
        """The cell at the end of the chain of causes that starts here; None = nothing explains it."""
        if key not in self._roots:
            self._roots[key] = None
            self._open.add(key)
            self._roots[key] = next(
                (
                    self._root_of(cause) or cause
                    for cause in self._causes_of(self._cells[key])
                    if cause not in self._open  # a circle of causes explains nothing
                ),
                None,
            )
            self._open.remove(key)
        return self._roots[key]

    def _causes_of(self, cell: Result) -> Iterable[CellKey]:
        """The cells that explain this one directly, the best first."""
        if cell.status is Status.SKIPPED and cell.caused_by in self._cells:
            yield cell.caused_by
        if cell.status in (Status.NOT_APPLICABLE, Status.ERROR, Status.SKIPPED):
            return
        if isinstance(cell, Unlearned) and cell.hung:
            return
        check = self._checks.get(cell.check)
        if check and cell.subject.kind is SubjectKind.DEVICE:
            explaining = check.void_after if cell.status is Status.PASS else check.void_after + check.after
            for check_id in explaining:
                key = CellKey(check_id, cell.subject)
                if self._ends_in_failure(key):
                    yield key
        if isinstance(cell, Unlearned):
            for key in self._what_kept(cell):
                if key != cell.key and self._is_bad(key):
                    yield key

    def _what_kept(self, cell: Unlearned) -> Iterable[CellKey]:
        if cell.cause is not None:
            yield cell.cause
        if cell.blocked_by is not None:
            yield from self._hung_cells(cell.subject.host, cell.blocked_by)
        if cell.root is not None and cell.root in self._all_before(cell.check):
            yield CellKey(cell.root, Subject(SubjectKind.HOST, host=cell.subject.host))

    def _hung_cells(self, host: str | None, hung: BlockedBy) -> Iterable[CellKey]:
        """The cells of the checks that read the command which hung, the command's own check first."""
        for check_id in self._owners.get(hung.command_id, ()):
            yield from (
                key
                for key in self._keys_of.get((host, check_id), ())
                if key.subject.device in (None, hung.phy_id) or hung.phy_id is None
            )

    def _ends_in_failure(self, key: CellKey) -> bool:
        if key not in self._cells:
            return False
        root = self._cells[self._root_of(key) or key]
        return root.status is Status.FAIL and root.subject == key.subject

    def _is_bad(self, key: CellKey) -> bool:
        return key in self._cells and self._cells[key].status in (
            Status.FAIL,
            Status.UNKNOWN,
            Status.ERROR,
            Status.SKIPPED,
        )

    def _all_before(self, check_id: str) -> frozenset[str]:
        """Every check that this one comes after, over any number of steps."""
        if check_id not in self._before:
            check = self._checks.get(check_id)
            direct = check.after if check else ()
            self._before[check_id] = frozenset(direct).union(*(self._all_before(name) for name in direct))
        return self._before[check_id]


def _owners(checks: Sequence[Check | ClusterCheck]) -> dict[str, tuple[str, ...]]:
    """Check ids per catalogue command; first the check whose own command it is."""
    owners: dict[str, tuple[str, ...]] = {}
    for own_first in (True, False):
        for check in checks:
            for place, command in enumerate(check.commands):
                if (place == 0) is own_first:
                    owners[command] = (*owners.get(command, ()), check.id)
    return owners


def _plain(cell: Result) -> Result:
    """The result without what only the engine needs."""
    if type(cell) is Result:
        return cell
    return Result(**{field.name: getattr(cell, field.name) for field in fields(Result)})


def _where(root: Result, cell: Result) -> str:
    """Names the part the root lies on, where it is not the cell's own; hosts stay out of messages."""
    if root.subject == cell.subject or root.subject.device is None:
        return ""
    return f" of device {root.subject.device}"
