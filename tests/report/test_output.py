"""--output DIR: private, whole files of one run, and nobody else's folder."""

from __future__ import annotations

import errno
import importlib.util
import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, TextIO

import pytest

from ascendctl.cli import run as ascendctl
from ascendctl.cli import verify
from ascendctl.report import host_lists, junit
from ascendctl.report.json_report import write_json
from ascendctl.report.output import (
    FILE_NAMES,
    OutputError,
    ReportFormat,
    available_formats,
    prepare_output,
    write_reports,
)
from ascendctl.results import Run
from tests.report import runs

NOT_HTML = [one for one in ReportFormat if one is not ReportFormat.HTML]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def visible(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if not path.name.startswith(".")}


def test_every_format_has_files_of_its_own() -> None:
    names = [name for one in ReportFormat for name in FILE_NAMES[one]]
    assert len(set(names)) == len(names) == 7


def test_writes_what_was_asked_for_and_says_which_files(tmp_path: Path) -> None:
    run, directory = runs.one_of_everything(), tmp_path / "deep" / "out"
    paths = write_reports(run, 1, directory, NOT_HTML)
    assert [path.name for path in paths] == [name for one in NOT_HTML for name in FILE_NAMES[one]]
    assert visible(directory) == {path.name for path in paths}
    stream = io.StringIO()
    write_json(run, 1, stream)
    assert (directory / "report.json").read_text(encoding="utf-8") == stream.getvalue()
    assert (directory / "failing_hosts.txt").read_text() == "node01\nnode02\nnode03\n"


def test_folder_and_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        (tmp_path / "there").mkdir(mode=0o755)
        for directory in (tmp_path / "new", tmp_path / "there"):
            write_reports(runs.clean(), 0, directory, NOT_HTML)
            assert mode(directory) == 0o700
            assert {mode(path) for path in directory.iterdir()} == {0o600}
    finally:
        os.umask(before)


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("mine")
    tmp_path.chmod(0o755)
    for call in (
        lambda: prepare_output(tmp_path),
        lambda: write_reports(runs.clean(), 0, tmp_path, NOT_HTML),
    ):
        with pytest.raises(OutputError, match=f"{tmp_path} holds other things.*empty folder"):
            call()
    assert {path.name for path in tmp_path.iterdir()} == {"report.json"}
    assert (tmp_path / "report.json").read_text() == "mine"
    assert mode(tmp_path) == 0o755


def test_an_earlier_output_is_replaced_and_leaves_no_report_behind(tmp_path: Path) -> None:
    write_reports(runs.clean(), 0, tmp_path, NOT_HTML)
    (tmp_path / "notes.txt").write_text("mine")
    write_reports(runs.one_of_everything(), 1, tmp_path, [ReportFormat.JSON])
    assert visible(tmp_path) == {"report.json", "notes.txt"}
    assert json.loads((tmp_path / "report.json").read_text())["exit_code"] == 1


@pytest.mark.parametrize("failing", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_where_one_report_cannot_be_written_the_earlier_output_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: BaseException
) -> None:
    write_reports(runs.clean(), 0, tmp_path, NOT_HTML)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(run: Run, exit_code: int, stream: TextIO, *, strict: bool) -> None:
        stream.write("a part")
        raise failing

    monkeypatch.setattr(host_lists, "write_failing", full)
    with pytest.raises((OutputError, KeyboardInterrupt)) as caught:
        write_reports(runs.one_of_everything(), 1, tmp_path, NOT_HTML)
    if isinstance(failing, OSError):
        assert str(tmp_path) in str(caught.value)
        assert "No space left" in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_reader_never_sees_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_reports(runs.clean(), 0, tmp_path, NOT_HTML)
    earlier = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    seen = []

    def looked(*arguments: Any, **options: Any) -> None:
        original(*arguments, **options)
        seen.append({path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name in earlier})
        seen.append(sorted(path.name for path in tmp_path.glob("*.prom")))

    original = junit.write_junit
    monkeypatch.setattr(junit, "write_junit", looked)
    write_reports(runs.one_of_everything(), 1, tmp_path, NOT_HTML)
    assert seen == [earlier, ["ascendctl.prom"]]
    assert (tmp_path / "junit.xml").read_bytes() != earlier["junit.xml"]


def test_what_is_no_folder_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="cannot write reports into"):
            prepare_output(path)


def test_a_marker_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    victim, directory = tmp_path / "victim", tmp_path / "out"
    victim.write_text("mine")
    directory.mkdir()
    (directory / ".ascendctl-output").symlink_to(victim)
    with pytest.raises(OutputError):
        prepare_output(directory)
    assert victim.read_text() == "mine"


def test_html_is_there_where_its_module_is() -> None:
    there = importlib.util.find_spec("ascendctl.report.html") is not None
    assert (ReportFormat.HTML in available_formats()) is there
    assert set(NOT_HTML) <= set(available_formats())


def test_html_is_written_by_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_html(run: Run, exit_code: int, stream: TextIO, *, strict: bool) -> None:
        stream.write(f"<p>{exit_code} {strict}</p>")

    import types

    module = types.ModuleType("ascendctl.report.html")
    module.write_html = write_html  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ascendctl.report.html", module)
    assert ReportFormat.HTML in available_formats()
    (path,) = write_reports(runs.clean(), 3, tmp_path, [ReportFormat.HTML], strict=True)
    assert (path.name, path.read_text()) == ("report.html", "<p>3 True</p>")


def test_without_the_html_module_the_others_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ascendctl.report.html", None)
    assert list(available_formats()) == NOT_HTML


# --- the command line -----------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Instead of asking this host, a run with findings; the list tells whether it was asked."""
    calls: list[str] = []

    def ask(*arguments: Any, **options: Any) -> Run:
        calls.append("asked")
        return runs.run_of(runs.link_down("node01", 5), [runs.note("node01")])

    monkeypatch.setattr(verify, "ask_and_judge", ask)
    return calls


def test_verify_writes_every_report_beside_what_it_prints(
    tmp_path: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ascendctl(["verify", "--local", "--output", str(tmp_path / "out")]) == 1
    assert visible(tmp_path / "out") == {name for one in available_formats() for name in FILE_NAMES[one]}
    assert json.loads((tmp_path / "out" / "report.json").read_text())["exit_code"] == 1
    assert "NOT FIT" in capsys.readouterr().out


def test_formats_are_chosen_by_name(tmp_path: Path, asked: list[str]) -> None:
    assert ascendctl(["verify", "--local", "-o", str(tmp_path), "--formats", "hosts, junit,hosts"]) == 1
    assert visible(tmp_path) == {"junit.xml", "passing_hosts.txt", "failing_hosts.txt"}


def test_strict_reaches_the_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ascendctl.results import Result, Status, host_subject

    run = runs.run_of([Result("tls", host_subject("a"), Status.WARN, "odd")])
    monkeypatch.setattr(verify, "ask_and_judge", lambda *arguments, **options: run)
    assert ascendctl(["verify", "--local", "-o", str(tmp_path), "--strict"]) == 1
    assert (tmp_path / "failing_hosts.txt").read_text() == "a\n"
    assert "<failure" in (tmp_path / "junit.xml").read_text()
    assert ascendctl(["verify", "--local", "-o", str(tmp_path)]) == 0
    assert (tmp_path / "passing_hosts.txt").read_text() == "a\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--formats", "json"], "--output DIR"),
        (["--output", "OUT", "--formats", "json,pdf"], "'pdf' is none of json, junit, markdown, prometheus"),
        (["--output", "OUT", "--formats", ""], "'' is none of"),
        (["--output", "OUT", "--dry-run"], "--dry-run"),
        (["--output", "FULL"], "holds other things"),
    ],
)
def test_what_cannot_be_written_is_refused_before_a_host_is_asked(
    tmp_path: Path, asked: list[str], capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").write_text("mine")
    places = {"OUT": str(tmp_path / "out"), "FULL": str(tmp_path / "full")}
    assert ascendctl(["verify", "--local", *(places.get(option, option) for option in options)]) == 2
    assert said in capsys.readouterr().err
    assert asked == []
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_costs_the_files_not_the_printed_result(
    tmp_path: Path, asked: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(junit, "write_junit", full)
    assert ascendctl(["verify", "--local", "--output", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    assert "NOT FIT" in told.out
    assert "No space left on device" in told.err
    assert visible(tmp_path / "out") == set()


def test_no_report_module_is_loaded_for_help() -> None:
    program = (
        "import sys; from ascendctl.cli import run; run(['verify', '--help'])\n"
        "print('LOADED', [name for name in sys.modules if name.startswith('ascendctl.report.')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
