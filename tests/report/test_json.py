"""The JSON report: valid against its schema, whole, streamed, and read back as it was."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ascendctl.report.json_report import write_json
from ascendctl.report.model import ReportError, read_report, schema
from ascendctl.results import DeviceCounters, ExitCode, Result, Status, coverage, host_subject, summary
from tests.report import runs


def written(run: Any, code: int = ExitCode.FOUND_WRONG) -> str:
    stream = io.StringIO()
    write_json(run, code, stream)
    return stream.getvalue()


def validator() -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema(), format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(runs.one_of_everything(), id="one of everything"),
        pytest.param(runs.clean(), id="clean"),
        pytest.param(runs.run_of([]), id="empty"),
        pytest.param(runs.counting(runs.clean(), {("node01", 3): {"stat": {"x": 1}}}), id="counters"),
        pytest.param(runs.run_of(runs.silent_host("a"), interrupted=True), id="interrupted"),
    ],
)
def test_report_is_valid_against_its_schema(run: Any) -> None:
    validator().validate(json.loads(written(run)))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda r: r.pop("verdicts"), id="part left out"),
        pytest.param(lambda r: r.pop("counters"), id="counters left out"),
        pytest.param(lambda r: r["counters"][0].pop("read_at"), id="absent instead of null, of counters"),
        pytest.param(lambda r: r["counters"][0]["groups"].update(stat=3), id="group out of shape"),
        pytest.param(lambda r: r["counters"][0]["groups"]["stat"].update(x=-1), id="a counter below 0"),
        pytest.param(lambda r: r["results"][0].pop("remedy"), id="absent instead of null"),
        pytest.param(lambda r: r["results"][0].update(status="green"), id="unheard-of status"),
        pytest.param(lambda r: r["results"][0]["subject"].update(kind="rack"), id="unheard-of kind"),
        pytest.param(lambda r: r.update(schema_version="2.0"), id="another major version"),
        pytest.param(lambda r: r["results"][0].update(caused_by="link"), id="caused_by is no cell"),
        pytest.param(lambda r: r["verdicts"].append({"component": "leaf-3"}), id="verdict out of shape"),
    ],
)
def test_schema_refuses(damage: Any) -> None:
    run = runs.counting(runs.one_of_everything(), {("node01", 3): {"stat": {"x": 1}}})
    report = json.loads(written(run))
    validator().validate(report)
    damage(report)
    with pytest.raises(jsonschema.ValidationError):
        validator().validate(report)


def test_schema_knows_the_shape_of_a_verdict() -> None:
    report = json.loads(written(runs.clean()))
    component = {"kind": "switch", "host": None, "device": None, "peer": None, "switch": "l1", "value": None}
    cell = {"check": "mesh", "subject": json.loads(written(runs.clean()))["results"][0]["subject"]}
    report["verdicts"] = [
        {
            "component": component,
            "confidence": 0.9,
            "explains": [cell],
            "evidence": ["x"],
            "alternatives": [component],
        }
    ]
    validator().validate(report)


def test_head_of_the_report() -> None:
    run = runs.one_of_everything()
    report = json.loads(written(run, ExitCode.INTERNAL))
    covered = coverage(run.results)
    assert report["schema_version"] == "1.2"
    assert report["started_at"] == "2026-03-04T05:06:07.891011Z"
    assert (report["duration_s"], report["interrupted"], report["exit_code"]) == (12.5, False, 4)
    assert report["coverage"] == {
        "wanted": covered.wanted,
        "evaluated": covered.evaluated,
        "percent": covered.percent,
    }
    assert report["summary"] == {status.value: count for status, count in summary(run.results).items()}
    assert set(report["summary"]) == {status.value for status in Status}
    assert [host["name"] for host in report["hosts"]] == ["node01", "node02", "node03"]
    assert report["hosts"][0]["details"] == {"driver": "25.2.0"}
    assert report["hosts"][2]["accelerator"] is None


def test_a_finding_and_what_it_explains() -> None:
    finding, hidden, *_ = json.loads(written(runs.run_of(runs.link_down("node02", 5))))["results"]
    subject = {
        "kind": "device",
        "host": "node02",
        "npu": 2,
        "chip": 1,
        "device": 5,
        "peer": None,
        "switch": None,
        "group": None,
    }
    assert finding == {
        "check": "link",
        "subject": subject,
        "status": "fail",
        "evaluated": True,
        "message": "link is DOWN",
        "expected": "UP",
        "actual": "DOWN",
        "consequence": "HCCL cannot connect over this port (EI0006).",
        "remedy": "Check the optical module and the cable.",
        "caused_by": None,
        "command": "hccn_tool -i 5 -link -g",
        "evidence": "link status: DOWN",
    }
    assert hidden["caused_by"] == {"check": "link", "subject": subject}
    assert hidden["evaluated"] is True


def test_skipped_behind_a_silent_host_is_not_evaluated() -> None:
    cells = json.loads(written(runs.run_of(runs.silent_host("node03"))))["results"]
    assert [cell["evaluated"] for cell in cells] == [False, False, False]


def test_evidence_only_where_not_passed() -> None:
    cells = json.loads(written(runs.one_of_everything()))["results"]
    assert {cell["evidence"] for cell in cells if cell["status"] == "pass"} == {None}
    assert any(cell["evidence"] for cell in cells if cell["status"] == "fail")


def test_texts_beyond_ascii_stay_and_undecodable_bytes_become_escapes(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with path.open("w", encoding="utf-8") as stream:
        write_json(runs.one_of_everything(), 1, stream)
    text = path.read_bytes().decode("utf-8")
    assert "TLS 开关不一致" in text
    evidence = [cell["evidence"] for cell in json.loads(text)["results"] if cell["message"] == "unread"]
    assert evidence == ["\\xb9\\xe3 \\ud83d \x1b[2J"]


def test_surrogates_anywhere_leave_valid_text() -> None:
    odd = "\udcff"
    subject = dataclasses.replace(runs.device(odd, 1), switch=odd, group=odd)
    cell = Result("link", subject, Status.FAIL, odd, odd, odd, odd, odd, command=odd, evidence=odd)
    run = runs.run_of(
        [cell], [runs.note(odd, group=odd, accelerator=odd, generation=odd, details={odd: odd})]
    )
    written(run).encode("utf-8")


def test_a_stream_that_cannot_take_unicode_gets_json_escapes() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    run = runs.run_of([Result("tls", host_subject("a"), Status.FAIL, "不一致 😀")])
    write_json(run, 1, stream)
    assert json.loads(raw.getvalue().decode("ascii"))["results"][0]["message"] == "不一致 😀"


def test_one_result_a_line() -> None:
    run = runs.clean()
    assert sum(line.startswith('{"check"') for line in written(run).splitlines()) == len(run.results)


def test_memory_does_not_grow_with_the_number_of_results() -> None:
    class Nowhere(io.StringIO):
        def write(self, text: str) -> int:
            return len(text)

    def peak(hosts: int) -> int:
        run = runs.clean(hosts, 16)
        write_json(run, 0, Nowhere())
        tracemalloc.start()
        write_json(run, 0, Nowhere())
        _, top = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return top

    # Per host: 64 results of some 300 bytes, so that holding them would take megabytes.
    assert peak(150) - peak(5) < 200_000


def test_round_trip() -> None:
    run = dataclasses.replace(runs.one_of_everything(), interrupted=True)
    back = read_report(written(run))
    told = [dataclasses.replace(cell, evidence="") for cell in run.results]
    assert [dataclasses.replace(cell, evidence="") for cell in back.results] == told
    assert dataclasses.replace(back, results=()) == dataclasses.replace(run, results=())
    assert coverage(back.results) == coverage(run.results)
    assert written(back) == written(run)


def test_counters_are_written_a_device_a_line_and_read_back_with_their_time() -> None:
    earlier = runs.STARTED - dt.timedelta(hours=2)
    of_run = runs.counting(runs.clean(), {("node01", 3): {"link_stat": {"link down count": 4}, "ecc": {}}})
    of_both = dataclasses.replace(
        of_run, counters=(*of_run.counters, DeviceCounters("node02\udcb9", 0, earlier, {"stat": {"x": 1}}))
    )
    text = written(of_both)
    one, other = json.loads(text)["counters"]
    assert one == {
        "host": "node01",
        "device": 3,
        "read_at": None,
        "groups": {"link_stat": {"link down count": 4}, "ecc": {}},
    }
    assert (other["host"], other["read_at"]) == ("node02\\xb9", "2026-03-04T03:06:07.891011Z")
    assert sum(line.startswith('{"host"') for line in text.splitlines()) == 2
    validator().validate(json.loads(text))
    back = read_report(text)
    assert back.counters[0] == of_run.counters[0]
    assert (back.counters[1].read_at, back.counters[1].groups) == (earlier, {"stat": {"x": 1}})


def test_a_report_from_before_there_were_counters_has_none() -> None:
    report = json.loads(written(runs.clean()))
    del report["counters"]
    report["schema_version"] = "1.0"
    assert read_report(json.dumps(report)) == read_report(written(runs.clean()))


def test_reads_a_file_and_a_later_minor_version(tmp_path: Path) -> None:
    report = json.loads(written(runs.clean()))
    report.update(schema_version="1.7", new_part={"of": 1.7})
    report["results"][0]["new_field"] = True
    report["counters"] = [{"host": "a", "device": 0, "read_at": None, "groups": {"new": {"y": 1}}, "z": 0}]
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    assert read_report(path).results == read_report(written(runs.clean())).results


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param('{"schema_version"', "not a complete JSON text", id="cut off"),
        pytest.param("[]", "no report", id="another JSON"),
        pytest.param('{"schema_version": "1.0"}', "tool_version", id="parts missing"),
    ],
)
def test_what_is_no_report_is_refused_in_words(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text)
    with pytest.raises(ReportError, match=told) as caught:
        read_report(path)
    assert str(path) in str(caught.value)


def test_another_major_version_is_refused_with_what_to_do() -> None:
    with pytest.raises(ReportError, match=r"'2\.0'.*newer"):
        read_report(written(runs.clean()).replace('"1.2"', '"2.0"'))


def test_a_missing_file_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="cannot be read"):
        read_report(tmp_path / "none.json")
