"""The Prometheus file: read back by Prometheus' own parser, true to the run."""

from __future__ import annotations

import io
import re

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from ascendctl import __version__
from ascendctl.report.prometheus import write_prometheus
from ascendctl.results import Result, Run, Status, Subject, SubjectKind, coverage, host_subject, summary
from tests.report import runs


def written(run: Run, code: int = 1, *, strict: bool = False) -> str:
    stream = io.StringIO()
    write_prometheus(run, code, stream, strict=strict)
    return stream.getvalue()


def parsed(run: Run, code: int = 1, *, strict: bool = False) -> dict[str, Metric]:
    return {
        family.name: family for family in text_string_to_metric_families(written(run, code, strict=strict))
    }


def values(family: Metric, *labels: str) -> dict[tuple[str, ...], float]:
    assert len({tuple(sorted(sample.labels.items())) for sample in family.samples}) == len(family.samples)
    return {tuple(sample.labels[label] for label in labels): sample.value for sample in family.samples}


def test_numbers_of_the_run() -> None:
    run = runs.one_of_everything()
    found = parsed(run, 130)
    single = {name: values(family)[()] for name, family in found.items() if not family.samples[0].labels}
    covered = coverage(run.results)
    assert single == {
        "ascendctl_cells_wanted": covered.wanted,
        "ascendctl_cells_evaluated": covered.evaluated,
        "ascendctl_coverage_ratio": pytest.approx(covered.evaluated / covered.wanted),
        "ascendctl_run_timestamp_seconds": run.started_at.timestamp(),
        "ascendctl_run_duration_seconds": 12.5,
        "ascendctl_run_exit_code": 130,
        "ascendctl_run_interrupted": 0,
    }
    assert values(found["ascendctl_cells"], "status") == {
        (status.value,): count for status, count in summary(run.results).items()
    }
    assert values(found["ascendctl_build_info"], "version") == {(__version__,): 1}


def test_hosts_and_their_checks() -> None:
    cells = [*runs.passes("node01", range(8)), *runs.link_down("node02", 5), *runs.passes("node02", [6])]
    cells += runs.silent_host("node03")
    cells += [Result("mesh", Subject(SubjectKind.SWITCH, switch="leaf-3"), Status.FAIL, "lost")]
    notes = [runs.note("node01"), runs.note("node02"), runs.note("node03", answered=False)]
    found = parsed(runs.run_of(cells, notes))
    assert values(found["ascendctl_host_fit"], "host") == {("node01",): 1, ("node02",): 0, ("node03",): 0}
    assert values(found["ascendctl_host_answered"], "host") == {
        ("node01",): 1,
        ("node02",): 1,
        ("node03",): 0,
    }
    checks = values(found["ascendctl_check_status"], "host", "check", "status")
    assert sum(checks.values()) == len(cells)
    assert checks["node01", "link", "pass"] == 8
    assert checks["node02", "link", "fail"] == 1
    assert checks["node02", "gateway", "skipped"] == 1
    assert checks["node03", "reachable", "unknown"] == 1
    assert checks["", "mesh", "fail"] == 1
    assert ("node01", "link", "fail") not in checks


def test_strict_makes_a_host_with_a_warning_unfit() -> None:
    run = runs.run_of([Result("tls", host_subject("a"), Status.WARN, "odd")])
    assert values(parsed(run)["ascendctl_host_fit"], "host") == {("a",): 1}
    assert values(parsed(run, strict=True)["ascendctl_host_fit"], "host") == {("a",): 0}


def test_names_and_documentation_follow_the_rules() -> None:
    text = written(runs.one_of_everything())
    for name, family in parsed(runs.one_of_everything()).items():
        assert re.fullmatch(r"ascendctl_[a-z_]+[a-z]", name)
        assert family.type == "gauge"
        assert family.documentation.endswith(".")
        assert text.index(f"# HELP {name} ") < text.index(f"# TYPE {name} ") < text.index(f"\n{name}")
    assert text.endswith("\n")
    assert all(
        line.startswith(("# HELP ascendctl_", "# TYPE ascendctl_", "ascendctl_"))
        for line in text.splitlines()
    )


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ('quo"te', 'quo"te'),
        ("back\\slash", "back\\u005cslash"),
        ("new\nline 1", "new\\u000aline\\u00201"),
        ("\r\x00\udcb9", "\\u000d\\u0000\\udcb9"),
        ('a"} 1\nascendctl_host_fit{host="b"', 'a"}\\u00201\\u000aascendctl_host_fit{host="b"'),
        ("节点01", "节点01"),
    ],
)
def test_hard_names_stay_one_label(name: str, label: str) -> None:
    run = runs.run_of([Result(name, host_subject(name), Status.PASS, "up")], [runs.note(name)])
    found = parsed(run)
    assert values(found["ascendctl_host_fit"], "host") == {(label,): 1}
    assert values(found["ascendctl_check_status"], "host", "check", "status") == {(label, label, "pass"): 1}
    written(run).encode("utf-8")


def test_names_that_look_alike_make_no_sample_twice() -> None:
    names = ["a b", "a\nb", "a\\u0020b", "a\x81", "a\udc81"]
    run = runs.run_of([Result("link", host_subject(name), Status.PASS, "up") for name in names])
    assert len(values(parsed(run)["ascendctl_host_fit"], "host")) == len(names)


def test_nothing_looked_at_is_coverage_zero() -> None:
    assert values(parsed(runs.run_of([]))["ascendctl_coverage_ratio"])[()] == 0
