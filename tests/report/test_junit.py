"""The JUnit report: valid, one case per host and check, nothing that is not green in a green case."""

from __future__ import annotations

import dataclasses
import io
import tracemalloc
from pathlib import Path
from xml.etree import ElementTree

import pytest
import xmlschema

from ascendctl.report.junit import write_junit
from ascendctl.results import CellKey, Result, Run, Status, Subject, SubjectKind, host_subject
from tests.report import runs

HARD = "a\x00\x1b[2J\ufffe\udcb9\ud83d </failure> ]]> & \"'\n\t\r\u2028\u202e 开关 😀"


def written(run: Run, code: int = 1, *, strict: bool = False) -> str:
    stream = io.StringIO()
    write_junit(run, code, stream, strict=strict)
    return stream.getvalue()


def parsed(run: Run, *, strict: bool = False) -> ElementTree.Element:
    return ElementTree.fromstring(written(run, strict=strict).encode("utf-8"))


def schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(Path(__file__).with_name("junit.xsd"))


def outcomes(run: Run, *, strict: bool = False) -> dict[tuple[str, str], str]:
    """(class, case) → the outcome's element, or ``pass``."""
    found = {}
    for case in parsed(run, strict=strict).iter("testcase"):
        key = (case.attrib["classname"], case.attrib["name"])
        assert key not in found, "names are unique"
        found[key] = case[0].tag if len(case) else "pass"
    return found


def hard_run() -> Run:
    """Every text that can hold a host's words holds hard ones."""
    subject = dataclasses.replace(runs.device(HARD, 1), group=HARD)
    cells = [
        Result(HARD, subject, status, HARD, HARD, HARD, HARD, HARD, command=HARD, evidence=HARD)
        for status in Status
    ]
    beyond = [Result(HARD, Subject(SubjectKind.SWITCH, switch=HARD), Status.WARN, HARD)]
    return runs.run_of(
        [*cells, *beyond],
        [runs.note(HARD, group=HARD, accelerator=HARD, generation=HARD, details={HARD: HARD, "\n": HARD})],
    )


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(runs.one_of_everything(), id="one of everything"),
        pytest.param(runs.clean(), id="clean"),
        pytest.param(runs.run_of([]), id="empty"),
        pytest.param(runs.run_of([], [runs.note("node01")]), id="a host without cells"),
        pytest.param(runs.run_of(runs.silent_host("a"), interrupted=True), id="interrupted"),
        pytest.param(hard_run(), id="hard texts"),
    ],
)
def test_report_is_valid(run: Run) -> None:
    schema().validate(written(run))


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('id="1"', 'id="0"'),
        ('T05:06:07"', 'T05:06:07Z"'),
        (' name="link"', ' name="gateway"'),
        ("<system-err></system-err>", ""),
        (' time="0"', ' time="0,1"'),
        (' type="fail"', ""),
        ("<failure", "<skipped message='x'/><failure"),
        ("<testsuites>", "<testsuites><testcase/>"),
    ],
)
def test_the_schema_refuses(good: str, bad: str) -> None:
    text = written(runs.one_of_everything())
    assert good in text
    with pytest.raises(xmlschema.XMLSchemaValidationError):
        schema().validate(text.replace(good, bad, 1))


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        ("pass pass", "pass"),
        ("pass warn", "pass"),
        ("pass not-applicable", "pass"),
        ("not-applicable not-applicable", "skipped"),
        ("pass fail", "failure"),
        ("fail unknown", "failure"),
        ("error fail", "failure"),
        ("pass unknown", "error"),
        ("unknown skipped", "error"),
        ("pass error", "error"),
        ("pass skipped", "skipped"),
        ("pass waived", "skipped"),
        ("warn waived", "skipped"),
    ],
)
def test_the_outcome_of_a_case_is_its_worst_cell(statuses: str, outcome: str) -> None:
    cells = [
        Result("link", runs.device("node01", number), Status(status), "said")
        for number, status in enumerate(statuses.split())
    ]
    for order in (cells, cells[::-1]):
        assert outcomes(runs.run_of(order)) == {("node01", "link"): outcome}


def test_strict_makes_a_warning_a_failure() -> None:
    run = runs.run_of([Result("tls", host_subject("a"), Status.WARN, "odd")])
    assert outcomes(run) == {("a", "tls"): "pass"}
    assert outcomes(run, strict=True) == {("a", "tls"): "failure"}


def test_one_case_per_host_and_check() -> None:
    found = outcomes(runs.one_of_everything())
    assert found == {
        ("node01", "link"): "pass",
        ("node01", "gateway"): "pass",
        ("node01", "lldp"): "error",
        ("node01", "net-health"): "pass",
        ("node01", "tls"): "pass",
        ("node01", "vnic"): "error",
        ("node01", "hccs-links"): "skipped",
        ("node01", "clock"): "skipped",
        ("node01", "mesh"): "failure",
        ("node02", "link"): "failure",
        ("node02", "gateway"): "skipped",
        ("node02", "lldp"): "skipped",
        ("node02", "net-health"): "skipped",
        ("node03", "reachable"): "error",
        ("node03", "tools"): "skipped",
        ("node03", "npu-count"): "skipped",
        ("the cluster", "mesh"): "failure",
        ("switch leaf-3", "mesh"): "failure",
        ("group prefill", "mesh"): "failure",
        ("super pod 0", "mesh"): "failure",
    }


def test_names_do_not_depend_on_the_verdict() -> None:
    good = runs.run_of(runs.passes("node01", range(8)), [runs.note("node01")])
    bad = runs.run_of([*runs.link_down("node01", 5), *runs.passes("node01", range(5))], good.hosts)
    assert outcomes(good).keys() == outcomes(bad).keys()


def test_hosts_whose_names_look_alike_stay_apart() -> None:
    names = ["a b", "a  b", "a\u00a0b", "a\\u0020b", "a\x81", "a\udc81", "the cluster"]
    cells = [Result("link", host_subject(name), Status.PASS, "up") for name in names]
    cells.append(Result("link", Subject(SubjectKind.CLUSTER), Status.FAIL, "down"))
    assert len(outcomes(runs.run_of(cells))) == len(names) + 1


def test_counts_of_every_suite() -> None:
    for suite in parsed(runs.one_of_everything()).iter("testsuite"):
        told = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
        assert told == {
            "tests": len(suite.findall("testcase")),
            "failures": len(suite.findall("testcase/failure")),
            "errors": len(suite.findall("testcase/error")),
            "skipped": len(suite.findall("testcase/skipped")),
        }


def test_text_of_a_failure_names_devices_and_the_way_out() -> None:
    cells = [cell for number in (3, 5) for cell in runs.link_down("node02", number)]
    cells += runs.passes("node02", (0, 1, 2, 4), ["link"])
    cells.append(Result("link", runs.device("node02", 6), Status.UNKNOWN, "timed out"))
    (case,) = [case for case in parsed(runs.run_of(cells)).iter("testcase") if case.attrib["name"] == "link"]
    failure = case[0]
    assert failure.attrib == {"message": "fail on device 3,5: link is DOWN", "type": "fail"}
    assert (failure.text or "").splitlines() == [
        "fail on device 3,5: link is DOWN",
        "  seen: DOWN (expected UP)",
        "  leads to: HCCL cannot connect over this port (EI0006).",
        "  to do: Check the optical module and the cable.",
        "  read from: hccn_tool -i 3 -link -g (for example)",
        "unknown on device 6: timed out",
        "pass: device 0-2,4",
    ]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (Result("x", host_subject("a"), Status.NOT_APPLICABLE, "no RoCE"), "not applicable: no RoCE"),
        (Result("x", host_subject("a"), Status.WAIVED, "until 2027: 7"), "waived on the host: until 2027: 7"),
        (
            Result(
                "x",
                runs.device("a", 2),
                Status.SKIPPED,
                "explained by link",
                caused_by=CellKey("link", runs.device("a", 2)),
            ),
            "skipped on device 2: explained by link",
        ),
    ],
)
def test_skipped_says_why(cell: Result, reason: str) -> None:
    (skipped,) = parsed(runs.run_of([cell])).iter("skipped")
    assert skipped.attrib["message"] == reason


def test_warnings_are_told_in_the_output_of_their_host() -> None:
    suites = {suite.attrib["name"]: suite for suite in parsed(runs.one_of_everything())}
    assert "tls: warn on device 0: TLS 开关不一致" in (suites["node01"].findtext("system-out") or "")
    assert not suites["node02"].findtext("system-out")


def test_what_xml_forbids_is_shown_as_escapes() -> None:
    message = next(parsed(hard_run()).iter("failure")).attrib["message"]
    assert "a\\x00\\x1b[2J\\ufffe\\xb9\\ud83d </failure> ]]> & \"' \\u202e 开关 😀" in message


def test_a_cause_in_another_case_is_not_lost() -> None:
    run = runs.run_of(runs.silent_host("node03"))
    (error,) = parsed(run).iter("error")
    assert "timed out after 10 s" in error.attrib["message"]
    assert {skipped.attrib["message"] for skipped in parsed(run).iter("skipped")} == {
        "skipped on the host: the host did not answer"
    }


def test_memory_grows_by_references_only() -> None:
    class Nowhere(io.StringIO):
        def write(self, text: str) -> int:
            return len(text)

    run = runs.clean(60, 16)
    write_junit(run, 0, Nowhere())
    tracemalloc.start()
    write_junit(run, 0, Nowhere())
    _, top = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 3,840 results of some 300 bytes as text, more as copies; references and their lists take 100.
    assert top < 100 * len(run.results)
