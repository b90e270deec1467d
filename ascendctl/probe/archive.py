"""A recording as one ``.tar.gz``: nothing of the writer in it, and nothing of it taken on trust."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from ascendctl.probe.bundle import RecordingError
from ascendctl.probe.frames import MAX_STREAM_BYTES

FOLDER = "recording"
_MEMBER = re.compile(rf"{FOLDER}/([A-Za-z0-9][^/\\\0]{{0,254}})")
# The largest stream is a flood kept up to its limit and one read beyond.
_MEMBER_LIMIT_BYTES = 2 * MAX_STREAM_BYTES
_TOTAL_LIMIT_BYTES = 16 * 1024**3


def write_archive(path: Path, files: Mapping[str, Path], *, modified_at: int) -> None:
    """Pack files as ``recording/NAME``: mode 0600, no owner, one time for all, so that equal contents give
    equal bytes.

    The archive itself is 0600 and must not be there yet. Raises RecordingError; nothing is left then.
    """
    with (
        _new_file(path) as stream,
        gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, source in files.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size, member.mode, member.mtime = source.stat().st_size, 0o600, modified_at
            with source.open("rb") as content:
                archive.addfile(member, content)


def write_private(path: Path, data: bytes) -> None:
    """A new file, 0600. Raises RecordingError where one is already there."""
    with _new_file(path) as stream:
        stream.write(data)


@contextlib.contextmanager
def recording_folder(path: Path) -> Iterator[Path]:
    """The folder to load: ``path`` itself, or for an archive a temporary folder with its files.

    Raises RecordingError for an archive that is damaged, or that holds anything but plain files directly in
    ``recording/``.
    """
    if not path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="ascendctl-replay-") as folder:
        try:
            _extract(path, Path(folder))
        except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
            raise RecordingError(
                f"{path} is no archive that 'ascendctl bundle' wrote, or it is damaged ({error})"
            ) from error
        yield Path(folder)


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[io.BufferedWriter]:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise RecordingError(f"{path} is already there; name a new file") from None
    except OSError as error:
        raise RecordingError(f"{path} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise RecordingError(f"{path} cannot be written: {error.strerror}") from error
        raise


def _extract(path: Path, folder: Path) -> None:
    total = 0
    with tarfile.open(path, mode="r:gz") as archive:
        for member in archive:
            name = _MEMBER.fullmatch(member.name)
            if name is None or not member.isreg() or (folder / name[1]).exists():
                raise RecordingError(
                    f"{path} holds {member.name!r}; an archive of 'ascendctl bundle' holds plain files in"
                    f" {FOLDER}/ only"
                )
            total += member.size
            if member.size > _MEMBER_LIMIT_BYTES or total > _TOTAL_LIMIT_BYTES:
                raise RecordingError(f"{path} is far larger unpacked than any recording")
            source = archive.extractfile(member)
            assert source is not None
            target = folder / name[1]
            with source, target.open("xb") as stream:
                while block := source.read(1 << 20):
                    stream.write(block)
            os.utime(target, (member.mtime, member.mtime))
