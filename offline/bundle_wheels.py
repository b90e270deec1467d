"""A folder of wheels from which ascendctl installs without a network: ``make bundle-wheels``.

    python -m offline.bundle_wheels [--output FOLDER] [--constraint FILE]
    python -m offline.bundle_wheels --check FOLDER

Runs on a machine that reaches a package index, through pip and its configuration; asks for wheels of every
target in turn until the closure of ascendctl's requirements is whole for each, proves that on what was
written, and puts the folder in place in one step. Needs the library ``packaging``.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NoReturn, TextIO

from packaging.requirements import InvalidRequirement, Requirement

from offline.closure import GLIBC, TARGETS, Closure, Demand, Target, Wheel, parse_wheel, versions_file, walk

TREE = Path(__file__).resolve().parent.parent
CHECKSUMS = "SHA256SUMS"
VERSIONS = "versions.txt"
MIB = 1024 * 1024
# The oldest time a zip archive can hold (1980-01-01): the same tree makes the same wheel, byte for byte.
_BUILD_TIME_S = 315532800
# How pip says that the index could not be asked, as against having nothing that fits.
_NO_ANSWER = re.compile(
    r"connection broken by|Could not fetch URL|Max retries exceeded|timed out|HTTP error [45]"
)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class BundleError(Exception):
    """The folder cannot be made, or is not whole. The text says what is missing and what to do."""


class UsageError(BundleError):
    """What was asked for cannot be done."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 whole, 1 not made or not whole, 2 usage, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m offline.bundle_wheels", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--output", type=Path, default=TREE / "dist" / "wheels", metavar="FOLDER")
    parser.add_argument(
        "--constraint",
        type=Path,
        metavar="FILE",
        help="bounds on versions; an earlier versions.txt repeats them",
    )
    parser.add_argument("--check", type=Path, metavar="FOLDER", help="only check a folder made earlier")
    options = parser.parse_args(arguments)
    # A terminated run cleans up as an interrupted one does.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if options.check:
            report(options.check, check(options.check))
        else:
            limits = read_limits(options.constraint) if options.constraint else []
            folder = options.output.resolve()
            report(folder, make(folder, limits))
    except BundleError as error:
        _say(f"error: {error}", sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except OSError as error:
        _say(f"error: {error.filename or options.output}: {error.strerror or error}", sys.stderr)
        return 1
    except KeyboardInterrupt:
        _say("interrupted; an earlier folder is as it was", sys.stderr)
        return 130
    return 0


def make(folder: Path, limits: Sequence[Requirement]) -> list[Closure]:
    """Make ``folder`` anew; what was there before stays until the new one is whole and checked.

    Raises UsageError if it holds anything that this did not write, BundleError if it cannot be made.
    """
    _refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        staged = Path(scratch) / "wheels"
        staged.mkdir(mode=0o755)
        staged.chmod(0o755)
        own = build_own(staged)
        built_here = {own.filename}
        root = Requirement(f"{own.name}=={own.version}")
        for target in TARGETS:
            _say(f"{target}: fetching what is not there yet")
            built_here |= gather(root, staged, target, limits)
        closures = [walk(root, read_wheels(staged), target, limits) for target in TARGETS]
        kept = {wheel.filename for closure in closures for wheel in closure.chosen.values()}
        for path in staged.iterdir():
            if path.name not in kept:
                path.unlink()
        text = versions_file(own.version, closures, built_here & kept)
        (staged / VERSIONS).write_text(text, encoding="utf-8")
        (staged / CHECKSUMS).write_text(checksums(staged), encoding="utf-8")
        for path in staged.iterdir():
            path.chmod(0o644)
        closures = check(staged)
        put_in_place(staged, folder)
    return closures


def check(folder: Path) -> list[Closure]:
    """Prove that ``folder`` is whole: its checksums hold, and ascendctl installs from it on every target.

    Raises BundleError, naming every file and every package that is wrong or missing.
    """
    try:
        recorded = (folder / CHECKSUMS).read_text(encoding="utf-8")
    except OSError as error:
        raise BundleError(
            f"{folder}: no {CHECKSUMS} to read ({error.strerror}); make the folder again"
        ) from error
    wheels = read_wheels(folder)
    own = [wheel for wheel in wheels if wheel.name == "ascendctl"]
    if len(own) != 1:
        raise BundleError(
            f"{folder}: holds {len(own)} wheels of ascendctl, expected one; make the folder again"
        )
    closures = [walk(Requirement(f"ascendctl=={own[0].version}"), wheels, target) for target in TARGETS]
    problems = [f"{closure.target}: no wheel of {demand}" for closure in closures for demand in closure.unmet]
    differing = set(recorded.splitlines()) ^ set(checksums(folder).splitlines())
    problems += [
        f"{name}: not as recorded in {CHECKSUMS}" for name in sorted({d.split("  ")[-1] for d in differing})
    ]
    if problems:
        listed = "\n  ".join(problems)
        raise BundleError(f"{folder} is not whole; make it again:\n  {listed}")
    return closures


def report(folder: Path, closures: Collection[Closure]) -> None:
    """Say what ``folder`` holds."""
    for closure in closures:
        _say(f"{closure.target}: {len(closure.chosen)} wheels, whole")
    sizes = [path.stat().st_size for path in folder.glob("*.whl")]
    glibc = "{}.{}".format(*GLIBC)
    _say(f"{folder}: {len(sizes)} wheels, {sum(sizes) / MIB:.1f} MiB, for Linux with glibc {glibc} or newer")
    _say(f"there: python3 -m venv ENV && ENV/bin/pip install --no-index --find-links {folder.name} ascendctl")


def read_limits(path: Path) -> list[Requirement]:
    """The requirements of one of pip's constraints files. UsageError: not readable, or not one."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    limits = []
    for number, line in enumerate(lines, 1):
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        if text:
            try:
                limits.append(Requirement(text))
            except InvalidRequirement as error:
                raise UsageError(
                    f"{path}:{number}: {text!r}: expected NAME==VERSION or another bound, perhaps a marker"
                ) from error
    return limits


def build_own(folder: Path) -> Wheel:
    """Build ascendctl's wheel into ``folder``, from a copy: a ``build/`` of the tree may hold old modules."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        # Contents only: the modes of a checkout depend on its owner's umask, and the wheel keeps modes.
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(TREE / "ascendctl", copy / "ascendctl", ignore=ignore, copy_function=shutil.copyfile)
        for name in ("pyproject.toml", "README.md"):
            shutil.copyfile(TREE / name, copy / name)
        said = _pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(copy))
    built = [wheel for wheel in read_wheels(folder) if wheel.name == "ascendctl"]
    if not built:
        raise BundleError(f"ascendctl's own wheel could not be built:{_indented(said)}")
    return built[0]


def gather(root: Requirement, folder: Path, target: Target, limits: Sequence[Requirement]) -> set[str]:
    """Fetch into ``folder`` what ``root`` lacks there on ``target``; the names of wheels built here.

    Raises BundleError, naming package, bounds and target, for one that is not to be had.
    """
    built_here: set[str] = set()
    asked: set[Demand] = set()
    while unmet := walk(root, read_wheels(folder), target, limits).unmet:
        if again := asked.intersection(unmet):
            raise BundleError(
                _not_to_be_had(min(again, key=str), target, "What came does not fit its Python.")
            )
        asked.update(unmet)
        # All at once is a fraction of the time; pip names only the first of several that it cannot get.
        if len(unmet) > 1 and not _download(unmet, folder, target):
            continue
        for demand in unmet:
            if said := _download([demand], folder, target):
                built_here.add(_build(demand, folder, target, said))
    return built_here


def _download(demands: Collection[Demand], folder: Path, target: Target) -> str:
    """Fetch the newest wheels that fit; what pip said if one is not to be had."""
    platforms = [word for name in target.platforms() for word in ("--platform", name)]
    return _pip(
        "download", "--no-deps", "--only-binary=:all:", "--implementation=cp",
        f"--python-version={target.python_version}", *platforms,
        "--dest", str(folder), *(f"{demand.name}{demand.specifier}" for demand in demands),
    )  # fmt: skip


def _build(demand: Demand, folder: Path, target: Target, said: str) -> str:
    """Build one that is published as source only, if it is pure Python; the wheel's name."""
    with tempfile.TemporaryDirectory() as scratch:
        wanted = f"{demand.name}{demand.specifier}"
        no_binary = f"--no-binary={demand.name}"
        if _pip("wheel", "--no-deps", no_binary, "--wheel-dir", scratch, wanted):
            raise BundleError(_not_to_be_had(demand, target, f"pip said:{_indented(said)}"))
        built = read_wheels(Path(scratch))[0]
        if not built.is_pure:
            why = f"Its source ({built}) holds compiled code, so a build would serve this machine only."
            raise BundleError(_not_to_be_had(demand, target, why))
        shutil.copyfile(Path(scratch) / built.filename, folder / built.filename)
    return built.filename


def _not_to_be_had(demand: Demand, target: Target, why: str) -> str:
    glibc = "{}.{}".format(*GLIBC)
    return (
        f"{target}: no wheel of {demand} for glibc {glibc} or older in the package index. {why}\n"
        f"An older version may have one: bound it in a file ({demand.name}<...) and name that as CONSTRAINT."
    )


def _pip(*arguments: str) -> str:
    """Run pip; "" when it succeeded, else what it said. BundleError: the package index did not answer."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
        *arguments,
    ]
    environment = {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        "PIP_RETRIES": "2",
        "SOURCE_DATE_EPOCH": str(_BUILD_TIME_S),
    }
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        umask=0o022, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return ""
    said = done.stdout.decode(errors="replace").strip() or f"pip ended with {done.returncode}"
    if silent := [line for line in said.splitlines() if _NO_ANSWER.search(line)]:
        raise BundleError(
            f"the package index did not answer. This needs a machine that reaches one; pip takes the address "
            f"from `pip config` or PIP_INDEX_URL, the proxy from HTTPS_PROXY. "
            f"pip said:{_indented(silent[-1].strip())}"
        )
    return said


def read_wheels(folder: Path) -> list[Wheel]:
    """The wheels of ``folder``. BundleError: one cannot be read."""
    return [_read_wheel(path) for path in sorted(folder.glob("*.whl"))]


def _read_wheel(path: Path) -> Wheel:
    try:
        with zipfile.ZipFile(path) as archive:
            [name] = [n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n)]
            return parse_wheel(path.name, archive.read(name))
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise BundleError(f"{path}: not a wheel that can be read ({error}); make the folder again") from error


def checksums(folder: Path) -> str:
    """A line per file as sha256sum writes and checks it."""
    names = sorted(path.name for path in folder.iterdir() if path.name != CHECKSUMS)
    return "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)


def _refuse_foreign(folder: Path) -> None:
    """UsageError if ``folder`` is anything but absent, empty, or made by this."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder}: is a file; name a folder that may be replaced")
    names = {path.name for path in folder.iterdir()}
    foreign = sorted(name for name in names - {CHECKSUMS, VERSIONS} if not name.endswith(".whl"))
    if names and (foreign or not {CHECKSUMS, VERSIONS} <= names):
        what = f"holds {foreign[0]}" if foreign else f"has no {CHECKSUMS}"
        raise UsageError(
            f"{folder}: {what}, so this did not make it; name a new folder or one to be replaced"
        )


def put_in_place(staged: Path, folder: Path) -> None:
    """``staged`` becomes ``folder``; what was there is where ``staged`` was. Both are of one file system."""
    if not folder.exists():
        staged.rename(folder)
    elif not _exchange(staged, folder):
        earlier = staged.with_name("earlier")
        folder.rename(earlier)
        try:
            staged.rename(folder)
        except OSError:
            earlier.rename(folder)
            raise


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step, renameat2(2); False where the system or the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _indented(text: str) -> str:
    """The last lines, each clipped: pip lists every version there ever was."""
    lines = (line if len(line) <= 240 else f"{line[:120]} … {line[-120:]}" for line in text.splitlines()[-3:])
    return "".join(f"\n  {line}" for line in lines)


def _say(text: str, stream: TextIO | None = None) -> None:
    (stream or sys.stdout).write(text + "\n")


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
