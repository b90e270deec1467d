"""Recordings: what is written comes back, damaged ones are refused with a sentence."""

from __future__ import annotations

import datetime as dt
import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from ascendctl.facts import Accelerator, Cable, Expectation, Generation, Profile, Reach, ReachStatus, ScaleOut
from ascendctl.inventory import Waiver
from ascendctl.probe.bundle import HostRecord, Recorder, RecordingError, load
from ascendctl.probe.capture import CaptureSink
from tests.probe.test_frames import NONCE, STREAM

STARTED = dt.datetime(2026, 11, 20, 8, 30, tzinfo=dt.timezone.utc)
WAIVER = Waiver("link", frozenset({"node01"}), 3, dt.date(2026, 12, 1), "光模块已订购")


def record_two(folder: Path, profile: Profile = Profile.STANDARD) -> list[HostRecord]:
    recorder = Recorder(folder, [WAIVER], STARTED, profile)
    sink = CaptureSink(NONCE, on_bytes=recorder.writer("node01"))
    sink.feed(STREAM[:50], 99.0)
    sink.feed(STREAM[50:], 100.5)
    expectation = Expectation(
        Accelerator.ASCEND,
        Generation.A3,
        16,
        ScaleOut.NONE,
        "eth0",
        "g1",
        frozenset({"a", "b"}),
        {"port-mtu-bytes": 4200.0, "hbm-use-percent": 12.5},
        {0: Cable("leaf-1"), 11: Cable("leaf-2", "400GE1/0/3:1")},
        (8000, 20001),
    )
    records = [
        HostRecord("node01", expectation, Reach(ReachStatus.REACHED), sink.capture(), 99.5, 3.0),
        HostRecord("node02", Expectation(), Reach(ReachStatus.REFUSED, "refused", "bastion"), duration_s=0.1),
    ]
    recorder.finish(records)
    return records


def test_round_trip_with_private_modes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    records = record_two(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert (folder / "node01.probe").read_bytes() == STREAM
    recording = load(folder)
    assert [replace(host, capture=host.answer()) for host in recording.hosts] == records
    assert recording.waivers == (WAIVER,)
    assert recording.started_at == STARTED


@pytest.mark.parametrize("profile", Profile)
def test_a_recording_remembers_its_profile(tmp_path: Path, profile: Profile) -> None:
    record_two(tmp_path / "run", profile)
    assert load(tmp_path / "run").profile is profile


def test_a_recording_of_before_there_were_profiles_and_thresholds(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    record_two(folder, Profile.DEEP)
    index = json.loads((folder / "recording.json").read_text())
    del index["profile"]
    for host in index["hosts"]:
        del host["expectation"]["thresholds"]
        del host["expectation"]["cabling"]
        del host["expectation"]["engine_ports"]
    (folder / "recording.json").write_text(json.dumps(index))
    recording = load(folder)
    assert recording.profile is Profile.STANDARD
    assert [host.expectation.thresholds for host in recording.hosts] == [{}, {}]


def said(profile: str) -> bytes:
    """The stream with the note that names a profile."""
    return STREAM.replace(
        b" hello 1\n", b" hello 1\n\n@%s note profile %s\n" % (NONCE.encode(), profile.encode())
    )


@pytest.mark.parametrize(
    ("streams", "profile"),
    [
        ([STREAM], Profile.STANDARD),
        ([said("standard")], Profile.STANDARD),
        ([said("deep")], Profile.DEEP),
        ([STREAM, said("deep"), said("standard")], Profile.DEEP),
        ([said("deeper"), b"no output of the probe at all\n"], Profile.STANDARD),
    ],
)
def test_hand_carried_outputs_say_their_profile(
    tmp_path: Path, streams: list[bytes], profile: Profile
) -> None:
    for number, stream in enumerate(streams):
        (tmp_path / f"node{number}.txt").write_bytes(stream)
    assert load(tmp_path).profile is profile


def test_a_run_that_was_killed_accounts_for_every_host(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    recorder = Recorder(folder, [], STARTED)
    names = ("done", "cut", "never")
    waiting = Reach(ReachStatus.NOT_ATTEMPTED, "not yet")
    recorder.begin([HostRecord(name, Expectation(), waiting) for name in names])
    recorder.writer("done")(STREAM)
    recorder.writer("cut")(STREAM[:-9])
    recording = load(folder)
    assert [(h.name, h.reach.status.value) for h in recording.hosts] == [
        ("done", "reached"),
        ("cut", "lost"),
        ("never", "not-attempted"),
    ]


def test_hand_carried_outputs_are_hosts_by_file_name(tmp_path: Path) -> None:
    (tmp_path / "node01.txt").write_bytes(STREAM)
    (tmp_path / "node02.txt").write_bytes(STREAM[:-5])
    (tmp_path / "notes.md").write_text("carried on Monday")
    (tmp_path / "node03.txt").write_bytes(b"bash: probe.sh: No such file or directory\n")
    recording = load(tmp_path)
    assert recording.hand_carried
    assert [(h.name, h.reach.status.value) for h in recording.hosts] == [
        ("node01", "reached"),
        ("node02", "bad-output"),
        ("node03", "bad-output"),
    ]
    assert recording.ignored == ("notes.md",)


def test_what_cannot_be_recorded_or_read_is_said(tmp_path: Path) -> None:
    used = tmp_path / "used"
    used.mkdir()
    (used / "keep").write_text("x")
    with pytest.raises(RecordingError, match="not empty"):
        Recorder(used, [], STARTED)
    with pytest.raises(RecordingError, match="is no folder"):
        load(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "inventory.txt").write_text("hosts: []")
    with pytest.raises(RecordingError, match="holds neither a recording"):
        load(empty)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.update(format=9), "format 9"),
        (lambda index: index["hosts"][0].update(name="../../etc/passwd"), "damaged"),
        (lambda index: index.pop("waivers"), "damaged"),
        (lambda index: index["hosts"][0]["reach"].update(status="fine"), "damaged"),
        (lambda index: index.update(profile="deeper"), "damaged"),
        (lambda index: index["hosts"][0]["expectation"].update(thresholds=7), "damaged"),
        (lambda index: index["hosts"][0]["expectation"].update(thresholds={"mtu": "big"}), "damaged"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path: Path, change: object, message: str) -> None:
    folder = tmp_path / "run"
    record_two(folder)
    index = json.loads((folder / "recording.json").read_text())
    assert callable(change)
    change(index)
    (folder / "recording.json").write_text(json.dumps(index))
    with pytest.raises(RecordingError, match=message):
        load(folder)
