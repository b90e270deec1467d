"""consistency-test from the outside: exit codes, reports, keys, interruptions, usage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from ascendctl.cli import run
from tests import browser
from tests.consistency.scripted import Script, Scripted

TEXTS = ("The word is alpha, and", "<script>window.broken=1</script> bravo", "delta {{body}}")
QUICK = ("--max-tokens", "6", "--quiet")


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(TEXTS))
    return str(path)


def asked(reference: Scripted, *candidates: Scripted) -> list[str]:
    named = [part for one in candidates for part in ("--candidate", one.url)]
    return ["consistency-test", "--reference", reference.url, *named]


def test_identical_is_0_and_said(prompts: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Scripted(Script()) as ours, Scripted(Script()) as theirs:
        assert run([*asked(ours, theirs), "--prompts", prompts, *QUICK]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("IDENTICAL: the candidate answers exactly as the reference\n")
    assert "3 of 3 prompts: exactly equal answers" in said.out
    assert said.err == ""


def test_reports_of_a_difference(prompts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out"
    with Scripted(Script()) as ours, Scripted(Script(flip={"bravo": 3})) as theirs:
        options = ["--prompts", prompts, *QUICK, "--output", str(folder), "--format", "json"]
        assert run([*asked(ours, theirs), *options]) == 1
        names = (ours.name, theirs.name)
    printed = json.loads(capsys.readouterr().out)
    assert run(["consistency-test", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    written = json.loads((folder / "consistency.json").read_text())
    for document in (printed, written):
        jsonschema.validate(document, schema)
        (candidate,) = document["candidates"]
        assert (candidate["verdict"], document["exit_code"]) == ("different", 1)
        (parted,) = [one for one in candidate["prompts"] if one["outcome"] == "different"]
        assert parted["divergence"]["position"] == 3
        assert [one["position"] for one in parted["candidate"]["around"]] == [0, 1, 2, 3, 4, 5]
    suites = ElementTree.parse(folder / "consistency.junit.xml").getroot()
    failed = [case for case in suites.iter("testcase") if case.find("failure") is not None]
    assert [(case.get("classname"), case.get("name")) for case in failed] == [(names[1], "prompt-prompt-002")]
    markdown = (folder / "consistency.md").read_text()
    assert markdown.startswith("# DIFFERENT from the reference\n")
    assert "<script>" not in markdown
    page = (folder / "consistency.html").read_text()
    assert "&lt;script&gt;window.broken=1" in page and "<script>window" not in page
    assert "delta {{body}}" not in page  # equal, so not shown; and nothing was put in its place
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert run([*asked(ours, theirs), "--formats", "json"]) == 2


def test_text_alone_is_said_in_the_first_line(prompts: str, capsys: pytest.CaptureFixture[str]) -> None:
    bare = Script(logprobs=False, token_ids=False, token_names=False, prompt_logprobs=False)
    with Scripted(bare) as ours, Scripted(bare) as theirs:
        options = [*asked(ours, theirs), "--prompts", prompts, *QUICK]
        assert run(options) == 0
        assert capsys.readouterr().out.startswith("IDENTICAL, on text alone: ")
        assert run([*options, "--strict"]) == 1


def test_a_lower_coverage_is_no_identical(prompts: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Scripted(Script()) as ours, Scripted(Script(die_after=1)) as theirs:
        assert run([*asked(ours, theirs), "--prompts", prompts, *QUICK, "--min-coverage", "10"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("NO DIFFERENCE as far as was compared (--min-coverage): not proven\n")


def test_nobody_there_is_3(prompts: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Scripted(Script()) as ours, Scripted(Script()) as theirs:
        pass  # both have ended
    assert run([*asked(ours, theirs), "--prompts", prompts, *QUICK]) == 3
    out = capsys.readouterr().out
    assert out.startswith("NOT PROVEN")
    assert "no connection" in out


@pytest.mark.parametrize("how", ["env", "command"])
def test_the_key_is_used_and_never_shown(
    how: str,
    prompts: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    key = "k3y-of-the-servers"
    (tmp_path / "key").write_text(key)
    monkeypatch.setenv("SERVERS_KEY", key)
    named = ["--api-key-env", "SERVERS_KEY"] if how == "env" else ["--api-key-command", f"cat {tmp_path}/key"]
    folder = tmp_path / "out"
    with Scripted(Script(api_key=key)) as ours, Scripted(Script(api_key=key)) as theirs:
        options = [*asked(ours, theirs), "--prompts", prompts, *QUICK, "--output", str(folder)]
        assert run([*options, *named]) == 0
        assert run(options) == 3
    said = capsys.readouterr()
    everything = said.out + said.err + "".join(path.read_text() for path in folder.iterdir())
    assert key not in everything
    assert "--api-key-env" in everything


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-r", "127.0.0.1:1"], "--candidate"),
        (["-r", "http://u:p@h:1", "-c", "h:2"], "--reference: a URL with a user or a password"),
        (["-r", "h:1", "-c", "ftp://h:2"], "--candidate: 'ftp://h:2' names no server"),
        (["-r", "h:1", "-c", "h:2/v2"], "has a path or a query"),
        (["-r", "h:1", "-c", "http://h:1/v1"], "named twice"),
        (["-r", "h:1", "-c", "h:2", "--prompts", "/no/such/file"], "/no/such/file cannot be read"),
        (["-r", "h:1", "-c", "h:2", "--formats", "json"], "--output DIR"),
        (["-r", "h:1", "-c", "h:2", "--api-key-env", "NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE"),
        (["-r", "h:1", "-c", "h:2", "--api-key-env", "A", "--api-key-command", "b"], "give one of them"),
        (["-r", "h:1", "-c", "h:2", "--max-tokens", "0"], "--max-tokens"),
    ],
)
def test_bad_usage_is_a_sentence_and_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["consistency-test", *arguments]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_tells_what_it_learned(number: signal.Signals, prompts: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with Scripted(Script()) as ours, Scripted(Script(hang_after=1)) as theirs:
        command = [sys.executable, "-m", "ascendctl", *asked(ours, theirs), "--prompts", prompts, *QUICK]
        child = subprocess.Popen(
            [*command, "--output", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        until = time.monotonic() + 120
        while sum(body["max_tokens"] == 6 for body in theirs.completions()) < 2:
            assert time.monotonic() < until and child.poll() is None
            time.sleep(0.05)
        os.kill(child.pid, number)
        out, err = child.communicate(timeout=120)
    assert child.returncode == 130, err
    assert out.startswith("INTERRUPTED after")
    assert "Traceback" not in err
    (candidate,) = json.loads((folder / "consistency.json").read_text())["candidates"]
    assert [one["outcome"] for one in candidate["prompts"]] == ["identical", None, None]


def test_help_loads_no_http_client() -> None:
    program = (
        "import sys; from ascendctl.cli import run\n"
        "code = run(['consistency-test', '--help'])\n"
        "print('LOADED', sorted({'httpx', 'paramiko', 'yaml'} & set(sys.modules)), code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "LOADED [] 0" in done.stdout


@pytest.mark.chromium
def test_the_page_shows_both_sides_in_both_languages(prompts: str, tmp_path: Path) -> None:
    if reason := browser.missing():
        pytest.skip(reason)
    folder = tmp_path / "out"
    with Scripted(Script()) as ours, Scripted(Script(flip={"bravo": 3})) as theirs:
        assert run([*asked(ours, theirs), "--prompts", prompts, *QUICK, "--output", str(folder)]) == 1
    with browser.chromium(tmp_path / "profile") as driver:
        driver.get(f"file://{folder}/consistency.html")

        def shown(selector: str) -> list[str]:
            texts: list[Any] = driver.find_elements("css selector", selector)
            return [one.text for one in texts if one.is_displayed()]

        sides = shown("details.prompt[open] .side pre")
        answers = json.loads((folder / "consistency.json").read_text())["candidates"][0]["prompts"][1]
        assert sides == [answers["reference"]["text"], answers["candidate"]["text"]]
        assert shown("mark") == [text[3:] for text in sides]
        assert "<script>window.broken=1</script> bravo" in shown(".asked")[0]
        assert shown("h1") == ["DIFFERENT from the reference"]
        driver.find_element("id", "language").click()
        assert shown("h1") == ["不一致"]
        assert driver.execute_script("return window.broken") is None
        assert not driver.get_log("browser")
