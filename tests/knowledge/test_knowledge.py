"""Codes, advice, and the commands that show them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ascendctl.checks.describe import describe
from ascendctl.checks.registry import BY_ID
from ascendctl.cli import explain as explain_cli
from ascendctl.cli.exits import Refused
from ascendctl.facts import NetHealth, ReachStatus, ReadingStatus
from ascendctl.knowledge import ADVICE, CODES, advice, explain
from ascendctl.knowledge.thresholds import default_text, thresholds_of

DOCS = Path(__file__).parents[2] / "docs"
CODE = re.compile(r"\bE[IJ]\d{4}\b")


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    explain_cli.register(app)
    return app


def run(app: typer.Typer, *words: str, columns: int = 80) -> str:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": str(columns), "NO_COLOR": "1"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_codes_are_complete_and_name_checks_that_exist() -> None:
    wanted = {f"EI{number:04}" for number in (1, 2, *range(4, 17), 19, 20)} | {"EJ0001", "103900", "503900"}
    assert wanted - {"EI0003"} <= set(CODES)
    for code in CODES.values():
        assert code.title and code.meaning and code.causes and code.remedy, code.code
        assert set(code.checks) <= set(BY_ID), code.code
        assert all(cause.text for cause in code.causes), code.code


@pytest.mark.parametrize("check", BY_ID)
def test_a_code_that_a_check_names_names_the_check(check: str) -> None:
    named = set(CODE.findall(" ".join(vars(describe(BY_ID[check])).values())))
    assert {code for code in named if check not in CODES[code].checks} == set()


def test_every_code_that_a_text_names_is_explained() -> None:
    texts = [entry.consequence + entry.remedy for entry in ADVICE.values()]
    texts += [" ".join(vars(describe(check)).values()) for check in BY_ID.values()]
    named = {code for text in texts for code in CODE.findall(text)}
    assert named and named <= set(CODES)


def test_advice_for_every_status_and_word() -> None:
    for status in ReadingStatus:
        if status is not ReadingStatus.OK:
            advice(f"reading/{status.value}")
    for reach in ReachStatus:
        assert advice(f"reach/{reach.value}").meaning
    for word in NetHealth:
        if word is not NetHealth.SUCCESS:
            assert advice(f"net-health/{word.value}").remedy


def test_advice_is_for_checks_that_exist() -> None:
    general = {"reading", "reach", "internal", "roce"}
    assert {key.split("/")[0] for key in ADVICE} <= general | set(BY_ID)


@pytest.mark.parametrize(("topic", "code"), [("ei0006", "EI0006"), (" EJ0001 ", "EJ0001"), ("x", None)])
def test_explain_a_code(topic: str, code: str | None) -> None:
    found = explain(topic)
    assert (found.code if found else None) == code


@pytest.mark.parametrize("check", BY_ID)
def test_explain_prints_every_section_within_80_columns(app: typer.Typer, check: str) -> None:
    text = run(app, "explain", check)
    for label in ("What", "Why", "Consequence", "Remedy"):
        assert re.search(rf"^{label}\b", text, re.MULTILINE), label
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text


def test_explain_names_the_command_and_a_code_its_causes(app: typer.Typer) -> None:
    assert "hccn_tool -i {phy} -net_health -g" in run(app, "explain", "net_health")
    text = run(app, "explain", "ei0016")
    assert "TLS" in text
    assert re.search(r"^Found by\s+tls", text, re.MULTILINE)


def test_explain_tells_the_profile_and_the_thresholds_of_a_check(app: typer.Typer) -> None:
    text = run(app, "explain", "optical", columns=300)
    for one in thresholds_of("optical"):
        assert f"{one.name}: {one.meaning} Default: {default_text(one)}." in text
    assert re.search(r"^Profile\s+deep", text, re.MULTILINE)
    assert re.search(r"Default: 5 times \(a choice of ours", run(app, "explain", "link-flaps", columns=300))
    standard = run(app, "explain", "link")
    assert "Threshold" not in standard and "Profile" not in standard


@pytest.mark.parametrize(("topic", "near"), [("lnk", "link"), ("EI006", "EI0006"), ("hccnconf", "hccn-conf")])
def test_an_unknown_topic_is_refused_with_what_was_meant(app: typer.Typer, topic: str, near: str) -> None:
    with pytest.raises(Refused) as caught:
        run(app, "explain", topic)
    assert near in str(caught.value)
    assert topic in str(caught.value)


def test_checks_as_table_and_json(app: typer.Typer) -> None:
    table = run(app, "checks")
    assert max(map(len, table.splitlines())) <= 80
    listed = json.loads(run(app, "checks", "--format", "json"))
    assert [entry["id"] for entry in listed] == list(BY_ID)
    assert all(f"\n{check} " in f"\n{table}" for check in BY_ID)
    link = next(entry for entry in listed if entry["id"] == "link")
    assert link["commands"] == ["hccn_tool -i {phy} -link -g"]
    assert (link["profile"], link["thresholds"]) == ("standard", [])
    speed = next(entry for entry in listed if entry["id"] == "speed")
    assert (speed["profile"], speed["thresholds"]) == ("deep", ["port-speed-min-mbps"])


def test_the_docs_are_what_the_docstrings_say(app: typer.Typer) -> None:
    written = (DOCS / "checks.md").read_text(encoding="utf-8")
    assert written == run(app, "checks", "--format", "markdown"), (
        "regenerate it: ascendctl checks --format markdown > docs/checks.md"
    )


def test_the_chinese_docs_name_every_check() -> None:
    written = (DOCS / "checks.zh-CN.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \|(.*)\|$", written, re.MULTILINE)
    assert [name for name, _ in rows] == list(BY_ID)
    for name, rest in rows:
        cells = [cell.strip() for cell in rest.split("|")]
        assert len(cells) == 3 and all(re.search(r"[\u4e00-\u9fff]", cell) for cell in cells), name
