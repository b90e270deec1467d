"""``ascendctl bundle``: a recording as one archive for a ticket, with what names its owner replaced."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ascendctl.cli.exits import Refused
from ascendctl.results import ExitCode

if TYPE_CHECKING:
    from ascendctl.probe.redaction import Redactor
    from ascendctl.results import CellKey, Run


def register(app: typer.Typer) -> None:
    """Add the command ``bundle``."""
    app.command("bundle")(bundle)


def bundle(
    recording: Annotated[
        Path,
        typer.Argument(help="Folder that 'verify --record' wrote, or of outputs of 'probe script'."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="New archive, .tar.gz.", metavar="FILE")],
    key: Annotated[
        Path | None,
        typer.Option("--key", help="Also write which pseudonym stands for what; keep it.", metavar="FILE"),
    ] = None,
) -> None:
    """Pack a recording for a ticket: names, addresses, serial numbers and paths become pseudonyms.

    What was packed is judged before it is kept: it gives the same verdicts as the original, or nothing is
    written. Read it with 'ascendctl verify --replay FILE'.

    Exit codes: 0 written; 2 usage, or no recording; 4 the verdicts would differ, or an original is left.
    """
    from ascendctl.probe.archive import write_archive, write_private
    from ascendctl.probe.bundle import RecordingError, load

    for path in filter(None, (output, key)):
        if path.exists():
            raise Refused(f"{path} is already there; name a new file")
    if key is not None and key.absolute() == output.absolute():
        raise Refused("--key and --output name the same file; the key must not travel with the archive")
    try:
        original = load(recording)
        with tempfile.TemporaryDirectory(prefix="ascendctl-bundle-") as name:
            folder = Path(name)
            redactor = _redact(recording, folder)
            _check_nothing_left(folder, redactor)
            _check_same_verdicts(recording, folder, redactor)
            started_at = int(original.started_at.timestamp())
            (folder / "redaction.json").write_text(_listing(redactor), encoding="utf-8")
            files = {path.name: path for path in sorted(folder.iterdir())}
            write_archive(output, files, modified_at=started_at)
            if key is not None:
                try:
                    write_private(key, _key(redactor))
                except RecordingError:
                    output.unlink()
                    raise
    except RecordingError as error:
        raise Refused(str(error)) from error
    counts = ", ".join(f"{count} {kind}" for kind, count in _counts(redactor).items() if count)
    print(f"{output}: {len(original.hosts)} hosts, the same verdicts; replaced: {counts or 'nothing'}")
    if key is not None:
        print(f"{key}: which pseudonym stands for what; keep it to yourself")


def _redact(recording: Path, folder: Path) -> Redactor:
    """Write the redacted recording into an empty folder."""
    from ascendctl.probe.bundle import SUFFIXES
    from ascendctl.probe.redaction import Survey, new_redactor

    index_path = recording / "recording.json"
    index: dict[str, Any] | None = None
    if index_path.exists():
        index = json.loads(index_path.read_text(encoding="utf-8"))
        names = [entry["name"] for entry in index["hosts"]] if index else []
        suffixes: tuple[str, ...] = SUFFIXES
    else:
        names = sorted(path.stem for path in recording.glob("*.txt") if not path.name.startswith("."))
        suffixes = (".txt",)
    streams = {(name, suffix): recording / f"{name}{suffix}" for name in names for suffix in suffixes}
    streams = {name: path for name, path in streams.items() if path.is_file()}
    survey = Survey(names)
    if index is not None:
        survey.learn_index(index)
    for path in streams.values():
        survey.learn_stream(path.read_bytes())
    redactor = new_redactor(survey)
    for (name, suffix), path in streams.items():
        (folder / f"{redactor.name(name)}{suffix}").write_bytes(redactor.stream(path.read_bytes()))
    if index is not None:
        text = json.dumps(redactor.index(index), indent=1, ensure_ascii=True)
        (folder / "recording.json").write_text(text, encoding="utf-8")
    return redactor


def _check_nothing_left(folder: Path, redactor: Redactor) -> None:
    for path in folder.iterdir():
        left = redactor.left_over(path.name.encode() + b"\n" + path.read_bytes())
        if left:
            _give_up(
                f"{len(left)} of the originals would still be in it, such as {min(left)!r} in {path.name}"
            )


def _check_same_verdicts(recording: Path, folder: Path, redactor: Redactor) -> None:
    """Replay both and compare every cell; names aside, they must be the same."""
    from ascendctl.probe.bundle import load
    from ascendctl.verify import replay

    before = _cells(replay(load(recording)), redactor)
    after = _cells(replay(load(folder)), None)
    differing = (before - after) + (after - before)
    if differing:
        cell = min(differing, key=str)
        _give_up(f"{differing.total()} cells would be judged differently, such as {cell}")


def _cells(run: Run, redactor: Redactor | None) -> Counter[tuple[Any, ...]]:
    """Every cell by check, subject, status and cause; ``redactor`` renames the hosts first."""
    from ascendctl.probe.pseudonyms import Kind
    from ascendctl.results import SubjectKind

    def renamed(name: str | None, kind: Kind = Kind.HOST) -> str | None:
        return name if redactor is None or not name else redactor.name(name, kind)

    def key(cell: CellKey | None) -> tuple[Any, ...]:
        if cell is None:
            return ()
        subject = cell.subject
        peer = (renamed(subject.peer.host), subject.peer.device) if subject.peer else ()
        group = subject.group
        if redactor and group and subject.kind is SubjectKind.GROUP:
            group = redactor.group(group)
        switch = renamed(subject.switch, Kind.SWITCH)
        parts = (subject.kind.value, renamed(subject.host), subject.device, peer, switch, group)
        return (cell.check, *parts, subject.npu, subject.chip)

    return Counter((key(cell.key), cell.status.value, key(cell.caused_by)) for cell in run.results)


def _give_up(why: str) -> None:
    import sys

    print(f"ascendctl: nothing was written: {why}", file=sys.stderr)
    print("ascendctl: please report this without attaching the recording", file=sys.stderr)
    raise typer.Exit(ExitCode.INTERNAL)


def _counts(redactor: Redactor) -> Mapping[str, int]:
    return {kind.value: len(given) for kind, given in redactor.given.items()}


def _listing(redactor: Redactor) -> str:
    """What was replaced: how many of each kind, and by what; never the originals."""
    pseudonyms = {kind.value: sorted(set(given.values())) for kind, given in redactor.given.items() if given}
    return json.dumps({"format": 1, "replaced": _counts(redactor), "pseudonyms": pseudonyms}, indent=1)


def _key(redactor: Redactor) -> bytes:
    originals = {
        kind.value: {pseudonym: original for original, pseudonym in given.items()}
        for kind, given in redactor.given.items()
        if given
    }
    # Bytes that were no text are kept readable.
    return json.dumps({"format": 1, "originals": originals}, indent=1, ensure_ascii=True).encode()
