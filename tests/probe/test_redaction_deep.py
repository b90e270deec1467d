"""A recording of the deep profile stays one when it is redacted: the same verdicts, no serial number."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ascendctl.cli import run
from ascendctl.facts import Expectation, Profile, Reach, ReachStatus
from ascendctl.probe.archive import recording_folder
from ascendctl.probe.bundle import HostRecord, Recorder, Recording, load
from ascendctl.probe.capture import CaptureSink
from ascendctl.probe.catalogue import commands_of
from ascendctl.probe.script import build_script
from ascendctl.sim.render import render_cluster
from ascendctl.sim.spec import make_spec
from ascendctl.verify import replay
from tests.probe.test_frames import NONCE

STARTED = dt.datetime(2026, 11, 20, 8, 30, tzinfo=dt.timezone.utc)
# A host may be called like a profile; its name goes, and what was asked is still said.
NAME = "deep"
FAULTS = [
    {"kind": "optical-absent", "device": 0},
    {"kind": "optical-rx-low", "device": 1},
    {"kind": "link-flaps", "device": 2},
    {"kind": "port-errors", "device": 3},
    {"kind": "half-speed", "device": 4},
    {"kind": "mtu", "device": 5},
    {"kind": "ecc-errors", "device": 6},
    {"kind": "npu-process", "device": 7},
    {"kind": "no-huge-pages"},
    {"kind": "time-unsynchronized"},
]
FINDING_CHECKS = {"optical", "port-errors", "speed", "mtu", "ecc", "time-service"}


@dataclass
class Bundled:
    recording: Recording
    redacted: Recording
    streams: bytes
    packed: bytes


@pytest.fixture(scope="module", params=["a2", "a3"])
def bundled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundled]:
    folder = tmp_path_factory.mktemp("deep")
    faults = [{"host": "node01", **fault} for fault in FAULTS]
    spec = make_spec(generation=request.param, hosts=1, seed=5, faults=faults)
    (host,) = render_cluster(spec, folder / "hosts", cheap=True)
    recorder = Recorder(folder / "recording", [], STARTED, Profile.DEEP)
    commands = [replace(command, timeout_s=20) for command in commands_of(Profile.DEEP)]
    sent_at = time.time()
    answered = subprocess.run(
        ["/bin/sh", "-s"],
        input=build_script(NONCE, sudo=False, commands=commands),
        stdout=subprocess.PIPE,
        env={"PATH": f"{host.bin}:/usr/bin:/bin", "TMPDIR": str(host.tmp)},
        check=True,
    ).stdout
    recorder.writer(NAME)(answered)
    sink = CaptureSink(NONCE)
    sink.feed(answered, time.time())
    expectation = Expectation(group="acme-hall", thresholds={"optical-rx-power-low-mw": 0.25})
    refused = Reach(ReachStatus.REFUSED, "10.9.8.7 port 22 refused the connection")
    recorder.finish(
        [
            HostRecord(NAME, expectation, Reach(ReachStatus.REACHED), sink.capture(), sent_at, 1.0),
            HostRecord("never", expectation, refused),
        ]
    )
    archive = folder / "out.tar.gz"
    assert run(["bundle", str(folder / "recording"), "-o", str(archive)]) == 0
    with recording_folder(archive) as unpacked:
        redacted = load(unpacked)
    yield Bundled(load(folder / "recording"), redacted, answered, gzip.decompress(archive.read_bytes()))


def test_profile_and_thresholds_stay(bundled: Bundled) -> None:
    for recording in (bundled.recording, bundled.redacted):
        assert recording.profile is Profile.DEEP
        assert [host.answer().profile for host in recording.hosts] == [Profile.DEEP, Profile.STANDARD]
        assert all(
            host.expectation.thresholds == {"optical-rx-power-low-mw": 0.25} for host in recording.hosts
        )
    assert NAME not in {host.name for host in bundled.redacted.hosts}


def test_the_cells_are_the_same(bundled: Bundled) -> None:
    before, after = replay(bundled.recording).results, replay(bundled.redacted).results
    assert [(c.check, c.subject.device, c.status) for c in before] == [
        (c.check, c.subject.device, c.status) for c in after
    ]
    assert {cell.check for cell in before if cell.status.value in ("fail", "warn")} >= FINDING_CHECKS
    never = {cell.check: cell.status.value for cell in before if cell.subject.host == "never"}
    assert never["time-service"] == "skipped"


def test_serial_numbers_go_and_what_tells_nobody_apart_stays(bundled: Bundled) -> None:
    serials = set(re.findall(rb"vendor serial number *: *(\S+)", bundled.streams))
    assert len(serials) > 5
    assert not [serial for serial in serials if serial in bundled.packed]
    for kept in (rb"vendor part number *: *\S.*", rb"MemTotal: .*", rb"NTPSynchronized=.*", rb"Timezone=.*"):
        (line, *_) = re.findall(kept, bundled.streams)
        assert line in bundled.packed


def test_the_index_names_the_profile(bundled: Bundled, tmp_path: Path) -> None:
    start = bundled.packed.index(b'"format": 1,\n "tool_version"')
    index = bundled.packed[bundled.packed.rindex(b"{", 0, start) : bundled.packed.index(b"\n}", start) + 2]
    assert json.loads(index)["profile"] == "deep"
