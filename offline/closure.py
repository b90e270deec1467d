"""Which wheels a target needs: the requirements of ascendctl walked for a Python and a machine not at hand.

Pure. pip evaluates environment markers (``typing-extensions; python_version < "3.11"``) for the Python it
runs on, also with ``--python-version``; here they are evaluated for the target.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from packaging.metadata import parse_email
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import NormalizedName, canonicalize_name, parse_wheel_filename
from packaging.version import Version

# The newest glibc a wheel may ask for: that of Kylin V10 and openEuler 20.03; openEuler 22.03 has 2.34.
GLIBC = (2, 28)
# Where manylinux begins on each machine, as the minor of glibc 2: https://peps.python.org/pep-0600/
_OLDEST_GLIBC_MINOR = {"x86_64": 5, "aarch64": 17}
_LEGACY_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
# Markers may tell patch releases apart (python_full_version < "3.11.4"): what the first or the last of a
# minor needs has to be there.
_PATCH_RELEASES = (0, 99)


@dataclass(frozen=True)
class Target:
    """A CPython on a Linux machine with glibc 2.28 or newer. ``python``: major and minor."""

    python: tuple[int, int]
    machine: str

    def __str__(self) -> str:
        return f"CPython {self.python_version} on {self.machine}"

    @property
    def python_version(self) -> str:
        return "{}.{}".format(*self.python)

    def platforms(self) -> list[str]:
        """Platform tags that load there, the newest glibc first."""
        names = []
        for minor in range(GLIBC[1], _OLDEST_GLIBC_MINOR[self.machine] - 1, -1):
            names.append(f"manylinux_{GLIBC[0]}_{minor}_{self.machine}")
            if minor in _LEGACY_NAMES:
                names.append(f"{_LEGACY_NAMES[minor]}_{self.machine}")
        return names

    def tags(self) -> frozenset[Tag]:
        """Every wheel tag that installs there."""
        interpreter = "cp{}{}".format(*self.python)
        platforms = self.platforms()
        own = cpython_tags(self.python, abis=[interpreter], platforms=platforms)
        return frozenset({*own, *compatible_tags(self.python, interpreter, platforms)})

    def environments(self) -> list[dict[str, str]]:
        """What markers see there: https://packaging.python.org/specifications/dependency-specifiers/."""
        return [
            {
                "implementation_name": "cpython",
                "implementation_version": f"{self.python_version}.{patch}",
                "os_name": "posix",
                "platform_machine": self.machine,
                "platform_python_implementation": "CPython",
                "platform_release": "",
                "platform_system": "Linux",
                "platform_version": "",
                "python_full_version": f"{self.python_version}.{patch}",
                "python_version": self.python_version,
                "sys_platform": "linux",
            }
            for patch in _PATCH_RELEASES
        ]


# The oldest Python first: the versions it takes serve the newer ones too, so that the folder holds one
# version of a package wherever it can.
TARGETS = tuple(
    Target(python, machine) for python in ((3, 10), (3, 11), (3, 12)) for machine in ("x86_64", "aarch64")
)


@dataclass(frozen=True)
class Wheel:
    """What a wheel's name and its METADATA say."""

    filename: str
    name: NormalizedName
    version: Version
    tags: frozenset[Tag]
    requires: tuple[Requirement, ...]
    requires_python: SpecifierSet

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def is_pure(self) -> bool:
        """Whether it installs on every machine."""
        return any(tag.platform == "any" for tag in self.tags)


def parse_wheel(filename: str, metadata: bytes) -> Wheel:
    """``filename``: of the wheel; ``metadata``: its METADATA. ValueError: it is not a wheel."""
    name, version, _, tags = parse_wheel_filename(filename)
    raw, _ = parse_email(metadata)
    requires = tuple(Requirement(line) for line in raw.get("requires_dist", []))
    return Wheel(filename, name, version, tags, requires, SpecifierSet(raw.get("requires_python", "")))


@dataclass(frozen=True)
class Demand:
    """A package that a target needs, and all that was said about its version. ``wanted_by``: by whom."""

    name: NormalizedName
    specifier: SpecifierSet
    extras: frozenset[str] = frozenset()
    wanted_by: frozenset[str] = frozenset()

    def __str__(self) -> str:
        wanted_by = f" (for {', '.join(sorted(self.wanted_by))})" if self.wanted_by else ""
        return f"{self.name}{self.specifier}{wanted_by}"


@dataclass(frozen=True)
class Closure:
    """What installing on ``target`` comes to: the wheel chosen for each package, and what has none."""

    target: Target
    chosen: Mapping[NormalizedName, Wheel]
    unmet: tuple[Demand, ...]


def walk(
    root: Requirement, wheels: Collection[Wheel], target: Target, limits: Iterable[Requirement] = ()
) -> Closure:
    """What ``root`` needs on ``target``, met from ``wheels`` with the newest that fits, as pip would.

    ``limits``: bounds on versions, as in pip's constraints files. All that was ever said about a package is
    kept while walking, so a closure without unmet demands installs; one with them might have been met by
    going back to an older version, which a limit can ask for.
    """
    tags = target.tags()
    usable = [wheel for wheel in wheels if wheel.tags & tags and _allows(wheel.requires_python, target)]
    limits = tuple(limits)
    demands = _merged({}, root, None, target, limits)
    while True:
        chosen = {name: wheel for name, demand in demands.items() if (wheel := _newest(usable, demand))}
        grown = demands
        for name, wheel in chosen.items():
            for requirement in wheel.requires:
                if _applies(requirement, target, demands[name].extras):
                    grown = _merged(grown, requirement, wheel, target, limits)
        if grown == demands:
            unmet = tuple(demands[name] for name in sorted(demands.keys() - chosen.keys()))
            return Closure(target, chosen, unmet)
        demands = grown


def _merged(
    demands: Mapping[NormalizedName, Demand],
    requirement: Requirement,
    by: Wheel | None,
    target: Target,
    limits: Iterable[Requirement],
) -> dict[NormalizedName, Demand]:
    name = canonicalize_name(requirement.name)
    before = demands.get(name) or Demand(name, _limit(name, target, limits))
    demand = Demand(
        name,
        before.specifier & requirement.specifier,
        before.extras | requirement.extras,
        before.wanted_by | ({str(by)} if by else set()),
    )
    return {**demands, name: demand}


def _limit(name: NormalizedName, target: Target, limits: Iterable[Requirement]) -> SpecifierSet:
    limit = SpecifierSet()
    for requirement in limits:
        if canonicalize_name(requirement.name) == name and _applies(requirement, target, frozenset()):
            limit &= requirement.specifier
    return limit


def _newest(wheels: Iterable[Wheel], demand: Demand) -> Wheel | None:
    fitting = [w for w in wheels if w.name == demand.name and demand.specifier.contains(w.version)]
    return max(fitting, key=lambda wheel: (wheel.version, wheel.filename), default=None)


def _allows(requires_python: SpecifierSet, target: Target) -> bool:
    return all(requires_python.contains(seen["python_full_version"]) for seen in target.environments())


def _applies(requirement: Requirement, target: Target, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    if marker is None:
        return True
    return any(
        marker.evaluate({**seen, "extra": extra})
        for seen in target.environments()
        for extra in ("", *sorted(extras))
    )


def versions_file(version: Version, closures: Collection[Closure], built_here: Collection[str]) -> str:
    """The versions chosen, as one of pip's constraints files; a package with several has markers.

    ``version``: ascendctl's. ``built_here``: wheels that did not come from the package index.
    """
    targets: dict[NormalizedName, dict[Version, list[Target]]] = {}
    for closure in closures:
        for name, wheel in closure.chosen.items():
            targets.setdefault(name, {}).setdefault(wheel.version, []).append(closure.target)
    lines = [
        f"# ascendctl {version} and what it needs on Linux with glibc {GLIBC[0]}.{GLIBC[1]} or newer:",
        *(f"#   {closure.target}" for closure in closures),
        f"# Not from the package index, built from source: {', '.join(sorted(built_here))}",
        "# The same versions again: make bundle-wheels CONSTRAINT=versions.txt",
    ]
    for name, by_version in sorted(targets.items()):
        if name == "ascendctl":
            continue
        for chosen, where in sorted(by_version.items()):
            marker = f" ; {_marker(where)}" if len(by_version) > 1 else ""
            lines.append(f"{name}=={chosen}{marker}")
    return "\n".join(lines) + "\n"


def _marker(targets: Iterable[Target]) -> str:
    each = (f'python_version == "{t.python_version}" and platform_machine == "{t.machine}"' for t in targets)
    return " or ".join(each)
