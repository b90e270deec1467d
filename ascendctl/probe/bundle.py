"""Recordings: every raw answer of a run in a folder, to be judged again offline.

A recording holds ``recording.json`` (what was asked, what was expected of each host and how reaching it
went) and one ``NAME.probe`` per host with the bytes exactly as they came; where hosts pinged each other,
``NAME.mesh1`` and ``NAME.mesh2`` hold what they answered in the two rounds of that. A folder without
``recording.json`` is read as hand-carried outputs of ``ascendctl probe script``: each ``NAME.txt`` is one
host, and says itself which profile was asked of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import errno
import io
import json
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ascendctl import __version__
from ascendctl.facts import Accelerator, Cable, Expectation, Generation, Profile, Reach, ReachStatus, ScaleOut
from ascendctl.inventory import Waiver
from ascendctl.probe.capture import HostCapture, decode

FORMAT = 1
_INDEX = "recording.json"
MESH_ROUNDS = (1, 2)
_PROBE = ".probe"
# Of one host, in the order they came to be: what the first script answered, then the rounds of pings.
SUFFIXES = (_PROBE, *(f".mesh{number}" for number in MESH_ROUNDS))


class RecordingError(Exception):
    """A recording cannot be written or read; the text says what to do."""


@dataclass(frozen=True)
class MeshAsked:
    """Which pings were asked for: a mode of `ascendctl.topology.mesh`, partners per port, packets per ping.

    ``why_off``: why none were.
    """

    mode: str
    partners: int = 0
    packets: int = 0
    why_off: str = ""


@dataclass(frozen=True)
class MeshRound:
    """One round of a host's pings: how reaching it went, and its answer, kept small until it is read."""

    reach: Reach
    packed: bytes = b""

    def capture(self) -> HostCapture:
        return decode(zlib.decompress(self.packed)) if self.packed else HostCapture()


@dataclass(frozen=True)
class PackedCapture:
    """A host's answer as it came, kept small until it is read: a thousand of them are held at once."""

    packed: bytes
    clock_received_at: float | None = None


def packed_capture(stream: bytes, *, clock_received_at: float | None = None) -> PackedCapture:
    """Keep what a host sent."""
    return PackedCapture(zlib.compress(stream, 1), clock_received_at)


@dataclass(frozen=True)
class HostRecord:
    """One host of a run before judgement: what was expected, how reaching went, what it answered.

    ``capture`` is read through `answer`, as that of a recording is packed. ``sent_at``: the controller's
    wall clock when the script had been sent, None if it never was.
    ``mesh``: the rounds of pings that the host took part in.
    """

    name: str
    expectation: Expectation
    reach: Reach
    capture: HostCapture | PackedCapture = field(default_factory=HostCapture)
    sent_at: float | None = None
    duration_s: float = 0.0
    mesh: tuple[MeshRound, ...] = ()

    def answer(self) -> HostCapture:
        """What the host answered, read anew in every call where it is packed."""
        if isinstance(self.capture, HostCapture):
            return self.capture
        stream = zlib.decompress(self.capture.packed)
        return decode(stream, clock_received_at=self.capture.clock_received_at)


@dataclass(frozen=True)
class Recording:
    """What a replay starts from. ``started_at`` decides which waivers had expired.

    ``profile``: what was asked; of hand-carried outputs, what was asked of at least one host.

    ``ignored``: names of files in a folder of hand-carried outputs that were not looked into.

    ``mesh`` None: nothing is known of pings, as in recordings of before there were any.
    """

    started_at: dt.datetime
    hosts: tuple[HostRecord, ...]
    waivers: tuple[Waiver, ...] = ()
    hand_carried: bool = False
    ignored: tuple[str, ...] = ()
    profile: Profile = Profile.STANDARD
    mesh: MeshAsked | None = None


class Recorder:
    """Writes a recording while answers arrive; folder 0700, files 0600.

    A disk that fills up ends the recording, never the run: ``problem`` then says what happened.
    """

    def __init__(
        self,
        directory: Path,
        waivers: Sequence[Waiver],
        started_at: dt.datetime,
        profile: Profile = Profile.STANDARD,
    ) -> None:
        self._directory = directory
        self._waivers = waivers
        self._started_at = started_at
        self._profile = profile
        self.problem = ""
        self._mesh: MeshAsked | None = None
        self._open: dict[tuple[str, int], io.FileIO] = {}
        self._lock = threading.Lock()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise RecordingError(f"{directory} is not empty; --record wants a new or an empty folder")
            directory.chmod(0o700)
        except OSError as error:
            raise RecordingError(f"cannot record into {directory}: {error.strerror}") from error

    def writer(self, host: str, mesh_round: int = 0) -> Callable[[bytes], None]:
        """A function that keeps the host's bytes; the file appears with the first of them.

        ``mesh_round``: a round of pings; 0 = the first script.
        """

        def write(data: bytes) -> None:
            if self.problem:
                return
            try:
                with self._lock:
                    stream = self._open.get((host, mesh_round))
                    if stream is None:
                        path = self._directory / f"{host}{SUFFIXES[mesh_round]}"
                        stream = self._open[host, mesh_round] = _open_private(path)
                if stream.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                self._give_up(error)

        return write

    def close_host(self, host: str, mesh_round: int = 0) -> None:
        """The host is done; its file is closed."""
        with self._lock:
            stream = self._open.pop((host, mesh_round), None)
        if stream is not None:
            with contextlib.suppress(OSError):  # what could not be written has been said already
                stream.close()

    def begin(self, hosts: Sequence[HostRecord]) -> None:
        """Write down who will be asked, so that even a run that is killed accounts for every host."""
        self._write_index(hosts, finished=False)

    def begin_mesh(self, hosts: Sequence[HostRecord], mesh: MeshAsked) -> None:
        """Write down how the first script went, and which pings are to be asked for."""
        self._mesh = mesh
        self._write_index(hosts, finished=False)

    def finish(self, hosts: Sequence[HostRecord], mesh: MeshAsked | None = None) -> None:
        """Write how reaching each host went; the recording is whole."""
        self._mesh = mesh
        for opened in list(self._open):
            self.close_host(*opened)
        self._write_index(hosts, finished=True)

    def _give_up(self, error: OSError) -> None:
        self.problem = f"the recording in {self._directory} is incomplete: {error.strerror}"

    def _write_index(self, hosts: Sequence[HostRecord], *, finished: bool) -> None:
        index = {
            "format": FORMAT,
            "tool_version": __version__,
            "started_at": self._started_at.isoformat(),
            "finished": finished,
            "profile": self._profile.value,
            "mesh": None if self._mesh is None else dataclasses.asdict(self._mesh),
            "hosts": [_host_to_json(record) for record in hosts],
            "waivers": [_waiver_to_json(waiver) for waiver in self._waivers],
        }
        draft = self._directory / f".{_INDEX}"
        try:
            with _open_private(draft) as stream:
                stream.write(json.dumps(index, indent=1, ensure_ascii=True).encode())
            draft.replace(self._directory / _INDEX)
        except OSError as error:
            self._give_up(error)
            draft.unlink(missing_ok=True)


def load(directory: Path) -> Recording:
    """Read a recording or a folder of hand-carried outputs.

    Raises RecordingError where the folder is missing, holds neither, or was written by a newer format.
    """
    if not directory.is_dir():
        raise RecordingError(
            f"{directory} is no folder; --replay wants one that --record wrote, or a folder with one output"
            " of 'ascendctl probe script' per host, named NODE.txt"
        )
    index_path = directory / _INDEX
    if not index_path.exists():
        return _hand_carried(directory)
    try:
        index = json.loads(index_path.read_text(encoding="utf-8"))
        if index["format"] != FORMAT:
            raise RecordingError(
                f"{index_path}: recording format {index['format']}, this version reads {FORMAT}"
            )
        return Recording(
            started_at=dt.datetime.fromisoformat(index["started_at"]),
            hosts=tuple(_host_from_json(entry, directory, index["finished"]) for entry in index["hosts"]),
            waivers=tuple(_waiver_from_json(entry) for entry in index["waivers"]),
            # Recordings of before there were profiles do not name one.
            profile=Profile(index.get("profile", Profile.STANDARD.value)),
            mesh=_mesh_from_json(index.get("mesh")),
        )
    except OSError as error:
        raise RecordingError(f"{directory}: cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RecordingError(f"{index_path} is damaged ({type(error).__name__}: {error})") from error


def _hand_carried(directory: Path) -> Recording:
    there = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    files = [path for path in there if path.suffix == ".txt" and path.is_file()]
    hosts = tuple(_hand_carried_host(path.stem, path) for path in files)
    heard = [host.answer() for host in hosts]
    if not any(capture.hello for capture in heard):
        raise RecordingError(
            f"{directory} holds neither a recording nor an output of 'ascendctl probe script' named NODE.txt"
        )
    newest = max(path.stat().st_mtime for path in files)
    return Recording(
        started_at=dt.datetime.fromtimestamp(newest, dt.timezone.utc),
        hosts=hosts,
        hand_carried=True,
        ignored=tuple(path.name for path in there if path not in files),
        profile=max((capture.profile for capture in heard), key=list(Profile).index),
    )


def _hand_carried_host(name: str, path: Path) -> HostRecord:
    try:
        capture = decode(path.read_bytes())
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error
    if not capture.hello:
        reach = Reach(ReachStatus.BAD_OUTPUT, f"{path.name} holds no output of 'ascendctl probe script'")
    elif not capture.complete:
        reach = Reach(ReachStatus.BAD_OUTPUT, f"{path.name} ends before the probe's last line")
    else:
        reach = Reach(ReachStatus.REACHED)
    return HostRecord(name, Expectation(), reach, capture)


def _open_private(path: Path) -> io.FileIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return io.FileIO(descriptor, "wb")


def _host_to_json(record: HostRecord) -> dict[str, Any]:
    expected = record.expectation
    entry: dict[str, Any] = {
        "name": record.name,
        "expectation": {
            "accelerator": expected.accelerator and expected.accelerator.value,
            "generation": expected.generation and expected.generation.value,
            "npus": expected.npus,
            "scale_out": expected.scale_out.value,
            "nic": expected.nic,
            "group": expected.group,
            "tags": sorted(expected.tags),
            "thresholds": dict(sorted(expected.thresholds.items())),
            "cabling": [
                {"device": device, "switch": cable.switch, "switch_port": cable.port}
                for device, cable in sorted(expected.cabling.items())
            ],
            "engine_ports": list(expected.engine_ports),
        },
        "reach": _reach_to_json(record.reach),
        "sent_at": record.sent_at,
        "clock_received_at": record.capture.clock_received_at,
        "duration_s": record.duration_s,
    }
    if record.mesh:
        entry["mesh"] = [_reach_to_json(one.reach) for one in record.mesh]
    return entry


def _reach_to_json(reach: Reach) -> dict[str, Any]:
    return {
        "status": reach.status.value,
        "detail": reach.detail,
        "via": reach.via,
        "internal": reach.internal,
    }


def _reach_from_json(reach: dict[str, Any]) -> Reach:
    return Reach(ReachStatus(reach["status"]), reach["detail"], reach["via"], reach["internal"])


def _mesh_from_json(entry: dict[str, Any] | None) -> MeshAsked | None:
    if entry is None:
        return None
    return MeshAsked(str(entry["mode"]), int(entry["partners"]), int(entry["packets"]), str(entry["why_off"]))


def _host_from_json(entry: dict[str, Any], directory: Path, finished: bool) -> HostRecord:
    expected = entry["expectation"]
    name = str(entry["name"])
    if "/" in name or name.startswith("."):
        raise ValueError(f"host name {name!r}")
    stream = directory / f"{name}{_PROBE}"
    capture: HostCapture | PackedCapture = HostCapture()
    reached = _reach_from_json(entry["reach"])
    if stream.exists():
        sent = stream.read_bytes()
        capture = packed_capture(sent, clock_received_at=entry["clock_received_at"])
        if not finished and (heard := decode(sent)).hello:
            reached = _as_far_as_it_came(heard)
    return HostRecord(
        name=name,
        expectation=Expectation(
            accelerator=Accelerator(expected["accelerator"]) if expected["accelerator"] else None,
            generation=Generation(expected["generation"]) if expected["generation"] else None,
            npus=expected["npus"],
            scale_out=ScaleOut(expected["scale_out"]),
            nic=expected["nic"],
            group=expected["group"],
            tags=frozenset(expected["tags"]),
            thresholds={
                str(name): float(limit) for name, limit in dict(expected.get("thresholds", {})).items()
            },
            cabling={
                int(cable["device"]): Cable(str(cable["switch"]), str(cable["switch_port"]))
                for cable in expected.get("cabling", ())  # none in recordings of before it could be stated
            },
            engine_ports=tuple(map(int, expected.get("engine_ports", ()))),
        ),
        reach=reached,
        capture=capture,
        sent_at=entry["sent_at"],
        duration_s=entry["duration_s"],
        mesh=tuple(_mesh_rounds(entry.get("mesh", []), directory, name, finished)),
    )


def _mesh_rounds(
    reached: list[dict[str, Any]], directory: Path, name: str, finished: bool
) -> Iterator[MeshRound]:
    for number, suffix in enumerate(SUFFIXES[1:]):
        path = directory / f"{name}{suffix}"
        stream = path.read_bytes() if path.exists() else b""
        if number < len(reached):
            yield MeshRound(_reach_from_json(reached[number]), zlib.compress(stream))
        elif stream and not finished:
            yield MeshRound(_as_far_as_it_came(decode(stream)), zlib.compress(stream))


def _as_far_as_it_came(capture: HostCapture) -> Reach:
    """How reaching a host went in a run that was killed before it wrote that down."""
    return Reach(ReachStatus.REACHED) if capture.complete else Reach(ReachStatus.LOST, "the run was cut off")


def _waiver_to_json(waiver: Waiver) -> dict[str, Any]:
    return {
        "check": waiver.check,
        "hosts": sorted(waiver.hosts),
        "device": waiver.device,
        "until": waiver.until.isoformat(),
        "reason": waiver.reason,
    }


def _waiver_from_json(entry: dict[str, Any]) -> Waiver:
    until = dt.date.fromisoformat(entry["until"])
    return Waiver(entry["check"], frozenset(entry["hosts"]), entry["device"], until, entry["reason"])
