"""``--output DIR``: the reports of one run as files of one folder. The one home of their names.

The folder is 0700 and its files 0600. Every file is written beside its place under a hidden name and
renamed when all are whole: a reader, node_exporter too, sees the earlier output or this one, never a
part. A small hidden file marks the folder as ours; without it a folder that holds anything is refused.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Protocol, TextIO

from ascendctl.results import Run


class ReportFormat(str, Enum):
    JSON = "json"
    JUNIT = "junit"
    MARKDOWN = "markdown"
    PROMETHEUS = "prometheus"
    HTML = "html"
    HOSTS = "hosts"
    ENV = "env"


FILE_NAMES: dict[ReportFormat, tuple[str, ...]] = {
    ReportFormat.JSON: ("report.json",),
    ReportFormat.JUNIT: ("junit.xml",),
    ReportFormat.MARKDOWN: ("report.md",),
    ReportFormat.PROMETHEUS: ("ascendctl.prom",),
    ReportFormat.HTML: ("report.html",),
    ReportFormat.HOSTS: ("passing_hosts.txt", "failing_hosts.txt"),
    ReportFormat.ENV: (),  # a folder, with a file per host
}
ENVIRONMENTS = "env"
MARKER = ".ascendctl-output"
_MARKER_TEXT = "This folder was written by ascendctl --output, which replaces its reports there.\n"
_HTML_MODULE = "ascendctl.report.html"


class OutputError(Exception):
    """The reports cannot be written. The message says where, why, and what to do."""


def available_formats() -> tuple[ReportFormat, ...]:
    """The formats that this installation can write."""
    return tuple(one for one in ReportFormat if one is not ReportFormat.HTML or _has_html())


def prepare_output(directory: Path) -> None:
    """Make the folder, or see that it may be written to; to be called before hours are spent on a run.

    Raises OutputError where it is no folder, cannot be written, or holds things that are not ours.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        marker = directory / MARKER
        if not marker.is_file() and any(directory.iterdir()):
            raise OutputError(
                f"{directory} holds other things; --output wants a new or an empty folder, "
                "or one that it wrote before"
            )
        directory.chmod(0o700)
        with os.fdopen(
            os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w"
        ) as stream:
            stream.write(_MARKER_TEXT)
    except OSError as error:
        raise _cannot_write(directory, error) from error


def write_reports(
    run: Run,
    exit_code: int,
    directory: Path,
    formats: Collection[ReportFormat],
    *,
    strict: bool = False,
    ssh_addresses: Mapping[str, str] | None = None,
) -> tuple[Path, ...]:
    """Write the reports of a run; returns the files. ``strict``: warnings count as wrong.

    ``ssh_addresses``: by host, how it is logged into, from which its HCCL environment tells its network
    interface. Reports of an earlier output that are not asked for now are removed: what lies in the
    folder tells of one run. Where a report cannot be written the earlier ones stay. Raises OutputError.
    """
    wanted = [one for one in ReportFormat if one in formats]
    with whole_files(directory) as create:
        paths = []
        for one in wanted:
            for name, write in zip(FILE_NAMES[one], _writers(one), strict=True):
                with create(name) as stream:
                    write(run, exit_code, stream, strict=strict)
                paths.append(directory / name)
        for one in ReportFormat:
            if one not in wanted:
                for name in FILE_NAMES[one]:
                    (directory / name).unlink(missing_ok=True)
        environments = _environments(run, directory, ssh_addresses, ReportFormat.ENV in wanted)
    return (*paths, *environments)


@contextlib.contextmanager
def whole_files(directory: Path) -> Iterator[Callable[[str], TextIO]]:
    """What opens files of the folder by name for writing; all of them appear there together, at the end.

    Where one cannot be written, the earlier ones stay. Raises OutputError.
    """
    prepare_output(directory)
    drafts: list[tuple[Path, Path]] = []

    def create(name: str) -> TextIO:
        draft = _draft(directory, name)
        drafts.append((draft, directory / name))
        return draft.open("w", encoding="utf-8", newline="\n")

    try:
        yield create
        for draft, path in drafts:
            draft.replace(path)
    except OSError as error:
        raise _cannot_write(directory, error) from error
    finally:
        for draft, _ in drafts:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)


def _environments(
    run: Run, directory: Path, ssh_addresses: Mapping[str, str] | None, wanted: bool
) -> tuple[Path, ...]:
    """Write ``env/HOST.sh`` anew: what an earlier output left there is removed."""
    folder = directory / ENVIRONMENTS
    if folder.is_dir() and not folder.is_symlink():
        for old in folder.glob("*.sh"):
            old.unlink()
    if not wanted or run.facts is None:
        return ()
    from ascendctl.hccl.files import EnvironmentFileError, write_environments

    try:
        return write_environments(run.facts, folder, ssh_addresses=ssh_addresses)
    except EnvironmentFileError as error:
        raise OutputError(str(error)) from error


class _Writer(Protocol):
    def __call__(self, run: Run, exit_code: int, stream: TextIO, *, strict: bool) -> None: ...


def _writers(one: ReportFormat) -> Sequence[_Writer]:
    """One per file of the format; a module is loaded when its format is written."""
    if one is ReportFormat.JSON:
        return [_write_json]
    if one is ReportFormat.HTML:
        from ascendctl.report.html import write_html

        return [write_html]
    if one is ReportFormat.JUNIT:
        from ascendctl.report.junit import write_junit

        return [write_junit]
    if one is ReportFormat.MARKDOWN:
        from ascendctl.report.markdown import write_markdown

        return [write_markdown]
    if one is ReportFormat.PROMETHEUS:
        from ascendctl.report.prometheus import write_prometheus

        return [write_prometheus]
    if one is ReportFormat.ENV:
        return []
    from ascendctl.report.host_lists import write_failing, write_passing

    return [write_passing, write_failing]


def _write_json(run: Run, exit_code: int, stream: TextIO, *, strict: bool) -> None:
    from ascendctl.report.json_report import write_json

    write_json(run, exit_code, stream)


def _has_html() -> bool:
    try:
        importlib.import_module(_HTML_MODULE)
    except ImportError:
        return False
    return True


def _draft(directory: Path, name: str) -> Path:
    # Not ending in .prom: node_exporter reads every file of a folder that does.
    descriptor, path = tempfile.mkstemp(prefix=f".{name}.", suffix=".draft", dir=directory)
    os.close(descriptor)
    return Path(path)


def _cannot_write(directory: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write reports into {directory}: {error.strerror or error}; give --output a folder on this "
        "machine that you may write to, with room left"
    )
