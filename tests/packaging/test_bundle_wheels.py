"""The bundle of wheels: nothing is called whole that would not install. No network: wheels are made here."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from offline import bundle_wheels
from offline.bundle_wheels import CHECKSUMS, VERSIONS, BundleError, UsageError
from offline.closure import TARGETS, Demand, Target, Wheel, parse_wheel, versions_file, walk

X86_310 = Target((3, 10), "x86_64")
ARM_310 = Target((3, 10), "aarch64")
X86_312 = Target((3, 12), "x86_64")
ASCENDCTL = Requirement("ascendctl")


def metadata(*requires: str, python: str = "") -> bytes:
    lines = ["Metadata-Version: 2.1", "Name: any", "Version: 0"]
    lines += [f"Requires-Dist: {line}" for line in requires]
    lines += [f"Requires-Python: {python}"] if python else []
    return "\n".join(lines).encode()


def wheel(filename: str, *requires: str, python: str = "") -> Wheel:
    return parse_wheel(f"{filename}.whl", metadata(*requires, python=python))


def unmet(wheels: Iterable[Wheel], target: Target = X86_310, limits: Sequence[str] = ()) -> list[str]:
    bounds = [Requirement(line) for line in limits]
    return [str(demand) for demand in walk(ASCENDCTL, list(wheels), target, bounds).unmet]


def test_the_targets_are_the_promised_ones() -> None:
    assert {str(target) for target in TARGETS} == {
        f"CPython {python} on {machine}"
        for python in ("3.10", "3.11", "3.12")
        for machine in ("x86_64", "aarch64")
    }


@pytest.mark.parametrize(
    ("tags", "on_x86", "on_arm"),
    [
        pytest.param("py3-none-any", True, True, id="pure"),
        pytest.param("py2.py3-none-any", True, True, id="pure, both Pythons"),
        pytest.param("cp310-cp310-manylinux_2_28_x86_64", True, False, id="glibc 2.28"),
        pytest.param("cp310-cp310-manylinux_2_29_x86_64", False, False, id="glibc too new"),
        pytest.param("cp310-cp310-manylinux_2_34_aarch64", False, False, id="glibc of openEuler 22.03 only"),
        pytest.param("cp310-cp310-manylinux2014_aarch64.manylinux_2_17_aarch64", False, True, id="two names"),
        pytest.param("cp310-cp310-manylinux1_x86_64", True, False, id="the oldest manylinux"),
        pytest.param("cp310-cp310-musllinux_1_2_x86_64", False, False, id="another C library"),
        pytest.param("cp310-cp310-linux_x86_64", False, False, id="built for one machine"),
        pytest.param("cp38-abi3-manylinux_2_28_aarch64", False, True, id="stable ABI of an older Python"),
        pytest.param("cp311-abi3-manylinux_2_28_x86_64", False, False, id="stable ABI of a newer Python"),
        pytest.param("cp39-cp39-manylinux_2_28_x86_64", False, False, id="another Python"),
        pytest.param("py3-none-manylinux_2_28_x86_64", True, False, id="a program without an ABI"),
    ],
)
def test_what_installs_on_python_3_10_with(tags: str, on_x86: bool, on_arm: bool) -> None:
    wheels = [wheel(f"ascendctl-1.0-{tags}")]
    assert (unmet(wheels, X86_310) == []) is on_x86
    assert (unmet(wheels, ARM_310) == []) is on_arm


@pytest.mark.parametrize(
    ("marker", "on_310", "on_312", "on_arm"),
    [
        pytest.param('python_version < "3.11"', True, False, True, id="older Python"),
        pytest.param('python_version >= "3.11"', False, True, False, id="newer Python"),
        pytest.param('platform_machine == "aarch64"', False, False, True, id="machine"),
        pytest.param('sys_platform == "win32"', False, False, False, id="another system"),
        pytest.param('implementation_name != "PyPy"', True, True, True, id="implementation"),
        pytest.param(
            'python_full_version < "3.10.4"', True, False, True, id="some patch releases: early ones"
        ),
        pytest.param(
            'python_full_version >= "3.10.4"', True, True, True, id="some patch releases: late ones"
        ),
        pytest.param('extra == "npu"', False, False, False, id="an extra nobody asked for"),
    ],
)
def test_markers_are_those_of_the_target(marker: str, on_310: bool, on_312: bool, on_arm: bool) -> None:
    wheels = [wheel("ascendctl-1.0-py3-none-any", f"needed>=2 ; {marker}")]
    for target, wanted in ((X86_310, on_310), (X86_312, on_312), (ARM_310, on_arm)):
        assert unmet(wheels, target) == (["needed>=2 (for ascendctl 1.0)"] if wanted else [])


def test_requirements_of_requirements_and_of_extras_are_walked() -> None:
    wheels = [
        wheel("ascendctl-1.0-py3-none-any", "Shell_Tool[fast]"),
        wheel("shell_tool-1.0-py3-none-any", 'speed; extra == "fast"', 'slow; extra == "slow"', "base"),
        wheel("base-1.0-py3-none-any", "ascendctl"),
    ]
    assert unmet(wheels) == ["speed (for shell-tool 1.0)"]


def test_the_bounds_of_all_who_want_a_package_hold_together() -> None:
    wheels = [
        wheel("ascendctl-1.0-py3-none-any", "core>=1", "other"),
        wheel("other-1.0-py3-none-any", "core<3"),
        wheel("core-3.0-py3-none-any"),
    ]
    assert unmet(wheels) == ["core<3,>=1 (for ascendctl 1.0, other 1.0)"]
    older = wheel("core-2.5-py3-none-any")
    assert walk(ASCENDCTL, [*wheels, older], X86_310).chosen["core"] == older  # type: ignore[index]


def test_a_version_for_another_python_is_passed_over() -> None:
    newest = wheel("ascendctl-2.0-py3-none-any", python=">=3.11")
    fitting = wheel("ascendctl-1.0-py3-none-any", python=">=3.10")
    assert [*walk(ASCENDCTL, [newest, fitting], X86_310).chosen.values()] == [fitting]
    assert [*walk(ASCENDCTL, [newest, fitting], X86_312).chosen.values()] == [newest]


def test_limits_bound_versions_where_their_marker_holds() -> None:
    wheels = [wheel("ascendctl-1.0-py3-none-any", "core"), wheel("core-3.0-py3-none-any")]
    limits = ['Core<3 ; python_version == "3.10"', "unrelated==1"]
    assert unmet(wheels, X86_310, limits) == ["core<3 (for ascendctl 1.0)"]
    assert unmet(wheels, X86_312, limits) == []


def test_the_versions_file_gives_the_same_versions_again(tmp_path: Path) -> None:
    wheels = [
        wheel("ascendctl-1.0-py3-none-any", "core", "pure"),
        wheel("pure-1.0-py3-none-any"),
        wheel("core-2.0-py3-none-any", python=">=3.12"),
        wheel("core-1.0-py3-none-any"),
    ]
    closures = [walk(ASCENDCTL, wheels, target) for target in TARGETS]
    path = tmp_path / VERSIONS
    path.write_text(versions_file(wheels[0].version, closures, ["ascendctl-1.0-py3-none-any.whl"]))
    limits = bundle_wheels.read_limits(path)
    newer = [*wheels, wheel("pure-9.0-py3-none-any"), wheel("core-9.0-py3-none-any")]
    assert [walk(ASCENDCTL, newer, target, limits).chosen for target in TARGETS] == [
        c.chosen for c in closures
    ]
    assert "pure==1.0" in path.read_text().splitlines()


def test_a_line_that_is_no_bound_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bounds.txt"
    path.write_text("# mine\ntyper==0.12  # tried\n--index-url elsewhere\n")
    with pytest.raises(UsageError, match=r"bounds\.txt:3: '--index-url elsewhere': expected NAME==VERSION"):
        bundle_wheels.read_limits(path)


CONTENT = {
    "ascendctl-1.0-py3-none-any.whl": metadata("core", 'only-here; platform_machine == "aarch64"'),
    "only_here-1.0-py3-none-any.whl": metadata(),
    "core-1.0-cp39-abi3-manylinux_2_28_x86_64.whl": metadata(),
    "core-1.0-cp39-abi3-manylinux_2_17_aarch64.whl": metadata(),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, text in CONTENT.items():
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("x-1.0.dist-info/METADATA", text)
    (folder / VERSIONS).write_text("# versions\n")
    write_checksums(folder)
    return folder


def write_checksums(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir() if path.name != CHECKSUMS)
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / CHECKSUMS).write_text("".join(lines))


def test_a_whole_folder_is_whole_for_every_target(folder: Path) -> None:
    closures = bundle_wheels.check(folder)
    assert [(closure.target, len(closure.chosen)) for closure in closures] == [
        (target, 3 if target.machine == "aarch64" else 2) for target in TARGETS
    ]


@pytest.mark.parametrize("name", [name for name in CONTENT if not name.startswith("ascendctl")])
def test_a_missing_wheel_is_named_with_its_targets_also_where_the_checksums_agree(
    folder: Path, name: str
) -> None:
    (folder / name).unlink()
    write_checksums(folder)
    package = name.split("-")[0].replace("_", "-")
    machine = "x86_64" if "x86_64" in name else "aarch64"
    with pytest.raises(BundleError) as caught:
        bundle_wheels.check(folder)
    assert str(caught.value).splitlines()[1:] == [
        f"  CPython {python} on {machine}: no wheel of {package} (for ascendctl 1.0)"
        for python in ("3.10", "3.11", "3.12")
    ]


def test_a_folder_without_ascendctl_or_checksums_is_not_whole(folder: Path) -> None:
    (folder / "ascendctl-1.0-py3-none-any.whl").unlink()
    with pytest.raises(BundleError, match="holds 0 wheels of ascendctl"):
        bundle_wheels.check(folder)
    (folder / CHECKSUMS).unlink()
    with pytest.raises(BundleError, match="no SHA256SUMS to read"):
        bundle_wheels.check(folder)


def test_changed_added_and_cut_off_files_are_named(folder: Path) -> None:
    (folder / VERSIONS).write_text("# others\n")
    (folder / "note.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"(?s)note\.txt: not as recorded.*versions\.txt: not as recorded"):
        bundle_wheels.check(folder)
    cut_off = folder / "core-1.0-cp39-abi3-manylinux_2_28_x86_64.whl"
    cut_off.write_bytes(cut_off.read_bytes()[:-30])
    with pytest.raises(BundleError, match=f"{cut_off.name}: not a wheel that can be read"):
        bundle_wheels.check(folder)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is missing")
def test_sha256sum_accepts_the_checksums(folder: Path) -> None:
    (folder / CHECKSUMS).write_text(bundle_wheels.checksums(folder))
    command = ["sha256sum", "--check", "--strict", CHECKSUMS]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True, timeout=60)
    assert done.stdout.decode().count(": OK") == len(CONTENT) + 1


def staged_beside(folder: Path) -> Path:
    staged = folder.parent / "staged"
    staged.mkdir()
    (staged / VERSIONS).write_text("# new\n")
    return staged


@pytest.mark.parametrize("in_one_step", [True, False])
def test_the_new_folder_replaces_all_of_the_earlier_one(
    folder: Path, in_one_step: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not in_one_step:  # as on a file system that cannot exchange
        monkeypatch.setattr(bundle_wheels, "_exchange", lambda one, other: False)
    bundle_wheels.put_in_place(staged_beside(folder), folder)
    assert [path.name for path in folder.iterdir()] == [VERSIONS]


def test_a_first_folder_is_put_in_place(folder: Path) -> None:
    bundle_wheels.put_in_place(staged_beside(folder), folder.parent / "first")
    assert (folder.parent / "first" / VERSIONS).read_text() == "# new\n"


def test_an_earlier_folder_stays_when_the_new_one_cannot_be_put_in_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_wheels, "_exchange", lambda one, other: False)
    with pytest.raises(FileNotFoundError):
        bundle_wheels.put_in_place(folder.parent / "gone", folder)
    assert bundle_wheels.check(folder)


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        pytest.param("index", "the package index did not answer", id="no network"),
        pytest.param(
            "none", r"CPython 3\.10 on x86_64: no wheel of core \(for ascendctl 1\.0\)", id="no wheel"
        ),
    ],
)
def test_a_failed_run_leaves_the_earlier_folder_and_nothing_else(
    folder: Path, failing: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = "ascendctl-1.0-py3-none-any.whl"

    def build_own(staged: Path) -> Wheel:
        shutil.copyfile(folder / own, staged / own)
        return parse_wheel(own, CONTENT[own])

    def pip(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        broken = b"WARNING: Retrying (Retry(total=1)) after connection broken by 'NewConnectionError'"
        nothing = b"ERROR: Could not find a version that satisfies the requirement core (from versions: none)"
        return subprocess.CompletedProcess(arguments, 1, broken if failing == "index" else nothing)

    monkeypatch.setattr(bundle_wheels, "build_own", build_own)
    monkeypatch.setattr(bundle_wheels.subprocess, "run", lambda command, **_: pip(*command))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(BundleError, match=said):
        bundle_wheels.make(folder, [])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_folder_of_somebody_else_is_not_replaced(tmp_path: Path, folder: Path) -> None:
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"holds thesis\.tex, so this did not make it"):
        bundle_wheels.make(folder, [])
    (tmp_path / "other").mkdir()
    shutil.copy(folder / "only_here-1.0-py3-none-any.whl", tmp_path / "other")
    with pytest.raises(UsageError, match="has no SHA256SUMS"):
        bundle_wheels.make(tmp_path / "other", [])


def test_what_is_published_as_source_with_compiled_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pip(*arguments: str) -> str:
        name = "core-1.0-cp310-cp310-linux_x86_64.whl"
        with zipfile.ZipFile(Path(arguments[arguments.index("--wheel-dir") + 1]) / name, "w") as archive:
            archive.writestr("core-1.0.dist-info/METADATA", metadata())
        return ""

    monkeypatch.setattr(bundle_wheels, "_pip", pip)
    demand = Demand(
        parse_wheel("core-1-py3-none-any.whl", metadata()).name, Requirement("core==1.0").specifier
    )
    with pytest.raises(
        BundleError, match=r"CPython 3\.10 on aarch64: no wheel of core==1\.0 .* compiled code"
    ):
        bundle_wheels._build(demand, tmp_path, ARM_310, "none")
    assert not [*tmp_path.iterdir()]
