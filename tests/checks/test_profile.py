"""Checks of the deep profile have cells in a deep run only, between hosts too."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from ascendctl.checks.contract import Check, ClusterCheck
from ascendctl.checks.engine import run_checks
from ascendctl.facts import ClusterFacts, HostFacts, Profile, ReachStatus
from ascendctl.results import Result, Status, Subject, SubjectKind, host_subject
from tests.checks.hosts import a2, unreached

TODAY = dt.date(2026, 11, 20)


class _Deep(Check):
    id = "deep-one"
    title = "a check of the deep profile"
    profile = Profile.DEEP

    def judge(self, host: HostFacts, cluster: ClusterFacts) -> Iterable[Result]:
        yield Result(self.id, host_subject(host.host), Status.PASS, "fine")


class _Plain(_Deep):
    id = "plain-one"
    profile = Profile.STANDARD


class _DeepBetween(ClusterCheck):
    id = "deep-between"
    title = "a check between hosts, of the deep profile"
    profile = Profile.DEEP

    def judge(self, cluster: ClusterFacts, results: tuple[Result, ...]) -> Iterable[Result]:
        yield Result(self.id, Subject(SubjectKind.CLUSTER), Status.PASS, "fine")


def checks_run(**options: Profile) -> list[str]:
    cluster = ClusterFacts((a2("node01"), unreached("node02", ReachStatus.TIMEOUT)))
    cells = run_checks(
        cluster, today=TODAY, checks=(_Deep(), _Plain()), cluster_checks=(_DeepBetween(),), **options
    )
    return [cell.check for cell in cells]


def test_a_standard_run_has_no_cell_of_a_deep_check() -> None:
    assert checks_run() == checks_run(profile=Profile.STANDARD) == ["plain-one", "plain-one"]


def test_a_deep_run_has_the_cells_of_both() -> None:
    assert checks_run(profile=Profile.DEEP) == ["deep-one", "plain-one"] * 2 + ["deep-between"]
