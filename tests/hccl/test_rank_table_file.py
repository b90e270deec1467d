"""The file: mode, one step, and never through a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ascendctl.hccl.rank_table_file import RankTableFileError, write_rank_table


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_mode_and_content(tmp_path: Path, umask: None) -> None:
    path = tmp_path / "ranktable.json"
    write_rank_table("{}\n", path)
    assert path.read_text() == "{}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o666)
    write_rank_table("[]\n", path)
    assert path.read_text() == "[]\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [one.name for one in tmp_path.iterdir()] == ["ranktable.json"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_refused_and_left_alone(tmp_path: Path, there: bool) -> None:
    target, link = tmp_path / "target", tmp_path / "ranktable.json"
    if there:
        target.write_text("precious")
    link.symlink_to(target)
    with pytest.raises(RankTableFileError, match="symbolic link"):
        write_rank_table("{}\n", link)
    assert link.is_symlink()
    assert (target.read_text() == "precious") if there else not target.exists()


def test_a_hard_link_keeps_its_own_content(tmp_path: Path) -> None:
    precious, path = tmp_path / "precious", tmp_path / "ranktable.json"
    precious.write_text("precious")
    path.hardlink_to(precious)
    write_rank_table("{}\n", path)
    assert precious.read_text() == "precious"


def test_a_link_put_there_meanwhile_is_replaced_never_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, path = tmp_path / "target", tmp_path / "ranktable.json"
    target.write_text("precious")
    fsync = os.fsync

    def race(descriptor: int) -> None:
        fsync(descriptor)
        path.symlink_to(target)

    monkeypatch.setattr(os, "fsync", race)
    write_rank_table("{}\n", path)
    assert target.read_text() == "precious"
    assert not path.is_symlink()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RankTableFileError, match="no file"):
        write_rank_table("{}\n", tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RankTableFileError, match="no file"):
        write_rank_table("{}\n", tmp_path / "pipe")
    with pytest.raises(RankTableFileError, match="name a file in a folder"):
        write_rank_table("{}\n", tmp_path / "absent" / "ranktable.json")


def test_a_failure_leaves_the_old_file_and_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ranktable.json"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RankTableFileError, match="No space left"):
        write_rank_table("{}\n", path)
    assert [one.name for one in tmp_path.iterdir()] == ["ranktable.json"]
    assert path.read_text() == "old"
