"""diff and verify --baseline from the outside: reports and recordings, exit codes, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ascendctl.cli import run
from ascendctl.sim.cluster import SimCluster
from ascendctl.sim.spec import make_spec

FAULTS: dict[str, list[dict[str, object]]] = {
    "clean": [],
    "down": [{"kind": "link-down", "host": "node02", "device": 5}],
    "refused": [{"kind": "ssh-refused", "host": "node02"}],
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One recording of each state of the same two hosts."""
    folder = tmp_path_factory.mktemp("recordings")
    for name, faults in FAULTS.items():
        with SimCluster(make_spec(generation="a2", hosts=2, faults=faults)) as sim:
            asked = ["-i", str(sim.inventory_path), "--record", str(folder / name), "--quiet"]
            run(["verify", *asked, "--mesh", "off"])
    return {name: folder / name for name in FAULTS}


@pytest.fixture
def reports(
    recordings: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> dict[str, Path]:
    capsys.readouterr()
    paths = {}
    for name, recording in recordings.items():
        run(["verify", "--replay", str(recording), "--format", "json"])
        paths[name] = tmp_path / f"{name}.json"
        paths[name].write_text(capsys.readouterr().out)
    return paths


@pytest.mark.parametrize(
    ("old", "new", "code", "said"),
    [
        ("clean", "clean", 0, "Nothing has changed"),
        ("clean", "down", 1, "Changed: 1 new"),
        ("down", "clean", 0, "Changed: 1 cleared"),
        ("down", "down", 0, "Nothing has changed: 1 still found"),
        ("clean", "refused", 3, "no longer looked at"),
        ("down", "refused", 3, "Findings no longer looked at (not cleared) (1 cell)"),
        ("refused", "down", 1, "newly looked at"),
    ],
)
def test_diff_of_recordings_and_of_reports(
    recordings: dict[str, Path],
    reports: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    code: int,
    said: str,
) -> None:
    texts = []
    for first, second in ((recordings[old], recordings[new]), (reports[old], recordings[new])):
        assert run(["diff", str(first), str(second)]) == code
        texts.append(capsys.readouterr().out)
    assert said in texts[0]
    assert texts[0] == texts[1]


def test_json(recordings: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", str(recordings["clean"]), str(recordings["down"]), "--format", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    (change,) = document["changes"]
    assert (change["kind"], change["cell"]["check"]) == ("new", "link")
    assert (change["cell"]["subject"]["host"], change["cell"]["subject"]["device"]) == ("node02", 5)
    assert (change["before"]["status"], change["now"]["status"]) == ("pass", "fail")
    assert document["exit_code"] == 1
    assert run(["diff", "--schema"]) == 0
    assert set(json.loads(capsys.readouterr().out)["required"]) == set(document)


def test_counters_of_deep_recordings_and_of_their_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {}
    for flaps in (1, 2):
        fault = {"kind": "link-flaps", "host": "node01", "device": 5, "value": str(flaps)}
        folder = tmp_path / f"run{flaps}"
        with SimCluster(make_spec(generation="a3", hosts=1, faults=[fault])) as sim:
            asked = ["-i", str(sim.inventory_path), "--record", str(folder), "--quiet", "--profile", "deep"]
            run(["verify", *asked])
        capsys.readouterr()
        run(["verify", "--replay", str(folder), "--format", "json"])
        report = tmp_path / f"run{flaps}.json"
        report.write_text(capsys.readouterr().out)
        paths[flaps] = (folder, report)
    texts = []
    for old in paths[1]:
        for new in paths[2]:
            assert run(["diff", str(old), str(new)]) == 1
            texts.append(capsys.readouterr().out)
    assert "Changed: 1 error counter grew" in texts[0]
    assert "error counters: compared link_stat, stat, ecc, hccs on 16 of 16 devices" in texts[0]
    assert "link down count  node01 device 5: 1 more" in texts[0]
    assert set(texts) == {texts[0]}
    assert run(["diff", str(paths[1][0]), str(paths[2][0]), "--format", "json"]) == 1
    (counter,) = json.loads(capsys.readouterr().out)["counters"]
    assert (counter["name"], counter["before"], counter["now"]) == ("link down count", 1, 2)
    assert run(["diff", str(paths[2][0]), str(paths[2][0])]) == 0


@pytest.mark.parametrize("content", [None, "", "not json", '{"schema_version": "2.0"}', "[]"])
def test_unreadable_input(
    content: str | None, recordings: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.json"
    if content is not None:
        bad.write_text(content)
    empty = tmp_path / "empty"
    empty.mkdir()
    good = str(recordings["clean"])
    for arguments in ([good, str(bad)], [str(bad), good], [good, str(empty)]):
        assert run(["diff", *arguments]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("ascendctl: ")
        assert "bad.json" in said.err or "empty" in said.err


def test_the_wrong_way_round_is_said(recordings: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run(["diff", str(recordings["refused"]), str(recordings["clean"])])
    assert "are they the wrong way round?" in capsys.readouterr().err


def test_baseline_marks_what_is_known(
    recordings: dict[str, Path], reports: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    down = str(recordings["down"])
    assert run(["verify", "--replay", down, "--baseline", str(reports["down"])]) == 1
    summary, told = capsys.readouterr().out.split("Nothing has changed: 1 still found")
    assert summary.startswith("NOT FIT")
    assert "Known from the older run, and still found (1 cell)" in told

    assert run(["verify", "--replay", down, "--baseline", str(reports["clean"])]) == 1
    assert "Changed: 1 new" in capsys.readouterr().out

    clean = str(recordings["clean"])
    assert run(["verify", "--replay", clean, "--baseline", str(reports["down"])]) == 0
    assert "Changed: 1 cleared" in capsys.readouterr().out


def test_baseline_leaves_standard_output_to_json(
    recordings: dict[str, Path], reports: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--replay", str(recordings["down"]), "--baseline", str(reports["clean"])]
    assert run(["verify", *arguments, "--format", "json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["summary"]["fail"] == 1
    assert "Changed: 1 new" in said.err


def test_baseline_of_a_selection_is_of_the_selection(
    recordings: dict[str, Path], reports: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--replay", str(recordings["clean"]), "--baseline", str(reports["down"])]
    assert run(["verify", *arguments, "--hosts", "node01"]) == 0
    assert "Nothing has changed\n" in capsys.readouterr().out


def test_an_unreadable_baseline_ends_it_before_anything_is_asked(
    tmp_path: Path, recordings: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing.json"
    assert run(["verify", "--replay", str(recordings["clean"]), "--baseline", str(missing)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{missing}: cannot be read" in said.err
