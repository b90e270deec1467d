"""What the answers of `script` say of one host. Pure.

Every value is a `Reading`: what could not be read carries the reason why, and is never taken for absent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ascendctl.facts import (
    HccnConfFacts,
    HostFacts,
    MemoryFacts,
    ParseStatus,
    Reach,
    Reading,
    ReadingStatus,
)
from ascendctl.netloader.plan import Instance
from ascendctl.netloader.ports import ephemeral_ports, port_ranges
from ascendctl.netloader.preflight.script import ENTERED, Asked, Program, launcher_text, without_credentials
from ascendctl.parsers import parse
from ascendctl.probe.capture import HostCapture
from ascendctl.probe.frames import Target
from ascendctl.report.printable import storable
from ascendctl.transport.remote_text import one_line

T = TypeVar("T")

WEIGHT_KINDS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
"""How the names of weight files end, in the order in which vLLM prefers them."""

_EVIDENCE_LIMIT_CHARACTERS = 2000
_KILLED = (124, 137, 143)
# What trainers leave beside the weights, and vLLM does not load.
_NO_WEIGHTS = re.compile(r"(training_args|optimizer|scheduler|rng_state|scaler).*\.(bin|pth?)")
_DIGEST = re.compile(r"[0-9a-f]{64}|size:\d+")
_LIMIT_MOST_BYTES = 1 << 60
# proc_pid_net(5): number, local address:port in hex, remote, state, …, inode the tenth word.
_SOCKET = re.compile(r" *\d+: [0-9A-F]+:([0-9A-F]{1,4}) [0-9A-F]+:[0-9A-F]+ 0A (?:\S+ +){5}(\d+)\b")


@dataclass(frozen=True)
class ModelFolder:
    """One model on one host.

    ``kind``: ``folder``, ``file``, ``missing``, ``unreadable`` or ``other`` (a device for example).
    ``sizes``: file → bytes, None = not learned; ``digests``: file that
    decides what the model is → SHA-256 in hex, ``size:BYTES`` of a large one, "" = not learned;
    ``broken``: links that lead nowhere; ``unreadable``: files that may not be read; ``cut``: there are more
    files than were named.
    """

    kind: str
    sizes: Mapping[str, int | None] = field(default_factory=dict, hash=False)
    digests: Mapping[str, str] = field(default_factory=dict, hash=False)
    broken: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    cut: bool = False

    @property
    def weights(self) -> dict[str, int | None]:
        """The weight files that vLLM would load, and their bytes: those of the first kind that there is."""
        for kind in WEIGHT_KINDS:
            found = {
                name: size
                for name, size in self.sizes.items()
                if name.endswith(kind) and not _NO_WEIGHTS.fullmatch(name)
            }
            if found:
                return found
        return {}

    @property
    def weights_bytes(self) -> int | None:
        """Of all weight files; None where there are none, or a size is not known."""
        sizes = list(self.weights.values())
        known = [size for size in sizes if size is not None]
        return sum(known) if known and len(known) == len(sizes) and not self.cut else None


@dataclass(frozen=True)
class EnginePython:
    """The Python that runs an engine. ``packages``: distribution → version, with dashes in names;
    ``plugins``: distribution → names of its vLLM plugins."""

    python: str
    version: str
    packages: Mapping[str, str] = field(default_factory=dict, hash=False)
    plugins: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class NoProgram:
    """Why the Python of a launcher is not known. ``missing``: the word is no program there."""

    missing: bool
    reason: str


@dataclass(frozen=True)
class Gpu:
    """One of ``nvidia-smi``'s, by its index."""

    index: int
    total_mib: int
    free_mib: int


def _not_received() -> Reading[Any]:
    return Reading(ReadingStatus.NOT_RECEIVED, reason="the host's answer ended before this came")


@dataclass(frozen=True)
class PreflightFacts:
    """What is known of one host. Everything but ``npus`` is as the engine will see it.

    ``entered``: whether the launch words lead anywhere. ``environment``: those of the asked variables that
    are set, credentials in addresses hidden. ``own_network``: whether the engine's network is another than
    the host's. ``listening``: TCP port → who listens, "" = not learned. ``memory_limit_bytes``: of the
    container, None = none is known. ``devices``: names below /dev. ``hccn_conf_state``: ``there``,
    ``missing``, ``unreadable``. ``npus``: what the host's own tools say; None = not asked.
    """

    host: str
    reach: Reach
    entered: Reading[bool] = field(default_factory=_not_received)
    environment: Reading[Mapping[str, str]] = field(default_factory=_not_received)
    own_network: Reading[bool] = field(default_factory=_not_received)
    listening: Reading[Mapping[int, str]] = field(default_factory=_not_received)
    ephemeral: Reading[range] = field(default_factory=_not_received)
    reserved: Reading[tuple[range, ...]] = field(default_factory=_not_received)
    memory: Reading[MemoryFacts] = field(default_factory=_not_received)
    memory_limit_bytes: int | None = None
    devices: Reading[frozenset[str]] = field(default_factory=_not_received)
    gpus: Reading[tuple[Gpu, ...]] | None = None
    hccn_conf_state: Reading[str] = field(default_factory=_not_received)
    hccn_conf: Reading[HccnConfFacts] = field(default_factory=_not_received)
    pythons: Mapping[Program, Reading[EnginePython | NoProgram]] = field(default_factory=dict, hash=False)
    models: Mapping[str, Reading[ModelFolder]] = field(default_factory=dict, hash=False)
    npus: HostFacts | None = None

    def python_of(self, instance: Instance) -> Reading[EnginePython | NoProgram]:
        return self.pythons.get(Program.of(instance), _not_received())

    def model_of(self, instance: Instance) -> Reading[ModelFolder]:
        return self.models.get(instance.serving.model, _not_received())


def preflight_facts(
    host: str, reach: Reach, capture: HostCapture, asked: Asked, npus: HostFacts | None = None
) -> PreflightFacts:
    """The answer of `script.engine_script`, asked with ``asked``. Never raises for a host's sake.

    ``reach``: how asking went; ``npus``: what the answer of `script.npu_script` says.
    """
    answer = _Answer(capture, asked)
    cat = answer.asked.inside
    state = answer.read("engine/hccn-conf-state", cat("cat", "/etc/hccn.conf"), str.strip)
    return PreflightFacts(
        host,
        reach,
        entered=_entered(answer),
        environment=answer.read("engine/environment", cat("env"), _environment),
        own_network=_own_network(answer),
        listening=_listening(answer),
        ephemeral=answer.read(
            "engine/ephemeral", cat("cat", "/proc/sys/net/ipv4/ip_local_port_range"), ephemeral_ports
        ),
        reserved=answer.read(
            "engine/reserved", cat("cat", "/proc/sys/net/ipv4/ip_local_reserved_ports"), _reserved
        ),
        memory=answer.parsed("engine/memory", "cat", "/proc/meminfo"),
        memory_limit_bytes=_memory_limit(answer.text("engine/memory-limit")),
        devices=answer.read("engine/devices", cat("ls", "/dev"), lambda text: frozenset(text.split())),
        gpus=None if answer.text("engine/gpus") is None else _gpus(answer),
        hccn_conf_state=state,
        hccn_conf=(
            answer.parsed("engine/hccn-conf", "cat", "/etc/hccn.conf")
            if state.value == "there"
            else Reading(ReadingStatus.NO_DATA, command=state.command, reason="the file is not there")
        ),
        pythons={program: _python(answer, number, program) for number, program in enumerate(asked.programs)},
        models={model: _model(answer, number, model) for number, model in enumerate(asked.models)},
        npus=npus,
    )


def launcher_command(instance: Instance) -> str:
    """What a finding about the engine's Python was read from, in words."""
    return f"the Python of `{launcher_text(instance)}`: importlib.metadata"


class _Answer:
    """The frames of one host, as text."""

    def __init__(self, capture: HostCapture, asked: Asked) -> None:
        self._capture = capture
        self.asked = asked

    def text(self, name: str) -> str | None:
        """None = the frame did not come."""
        found = self._capture.answers.get((name, Target()))
        return None if found is None else found.stdout.decode("utf-8", "surrogateescape")

    def code(self, name: str) -> int | None:
        text = (self.text(name) or "").strip()
        return int(text) if re.fullmatch(r"[0-9]{1,3}", text) else None

    def missing(self, command: str) -> Reading[Any]:
        code = self.code("engine/inside-code")
        if code in _KILLED:
            why = "the engine's environment did not answer in time"
            return Reading(ReadingStatus.TIMED_OUT, command=command, reason=why, exit_code=code)
        return replace(_not_received(), command=command, exit_code=code)

    def read(self, name: str, command: str, reader: Callable[[str], T]) -> Reading[T]:
        """What ``reader`` makes of a frame; it raises ValueError for what it cannot read."""
        text = self.text(name)
        if text is None:
            return self.missing(command)
        try:
            return Reading(ReadingStatus.OK, reader(text), command, evidence=_evidence(text))
        except (ValueError, RecursionError) as error:
            why = one_line(str(error)) or "it cannot be read"
            return Reading(ReadingStatus.UNPARSED, None, command, why, _evidence(text))

    def parsed(self, name: str, *words: str) -> Reading[Any]:
        """As above, by the parser of a command that the catalogue has too."""
        command, found = self.asked.inside(*words), self._capture.answers.get((name, Target()))
        if found is None:
            return self.missing(command)
        result = parse(" ".join(words), found.stdout)
        evidence = _evidence(self.text(name) or "")
        if result.status is ParseStatus.OK:
            return Reading(ReadingStatus.OK, result.facts, command, evidence=evidence)
        return Reading(ReadingStatus(result.status.value), None, command, result.reason, evidence)


def _evidence(text: str) -> str:
    cut = text if len(text) <= _EVIDENCE_LIMIT_CHARACTERS else text[:_EVIDENCE_LIMIT_CHARACTERS] + "\n[cut]"
    return storable(without_credentials(cut)).strip("\n")


# The frames -----------------------------------------------------------------------------------------------


def _entered(answer: _Answer) -> Reading[bool]:
    command = answer.asked.inside("/bin/sh", "-c", "true")
    text, code = answer.text("engine/entered"), answer.code("engine/entered-code")
    if text is None or code is None:
        return answer.missing(command)
    evidence = _evidence(f"{text.rstrip()}\n[exit code {code}]")
    if code in _KILLED:
        return Reading(ReadingStatus.TIMED_OUT, None, command, "it did not answer in time", evidence, code)
    inside = code == 0 and ENTERED in text.split()
    why = (
        ""
        if inside
        else one_line(without_credentials(text.replace(ENTERED, "")))
        or f"exit code {code}, and no shell was run"
    )
    return Reading(ReadingStatus.OK, inside, command, why, evidence, code)


def _environment(text: str) -> Mapping[str, str]:
    pairs = (line.partition(" ") for line in text.splitlines())
    return {name: without_credentials(value.strip()) for name, _, value in pairs if name}


def _own_network(answer: _Answer) -> Reading[bool]:
    command = "readlink /proc/self/ns/net; " + answer.asked.inside("readlink", "/proc/self/ns/net")
    host, engine = answer.text("host/network"), answer.text("engine/network")
    if host is None or engine is None:
        return answer.missing(command)
    evidence = _evidence(f"{host.strip()}\n{engine.strip()}")
    if not (host.strip() and engine.strip()):
        return Reading(ReadingStatus.NO_DATA, None, command, "/proc/self/ns/net cannot be read", evidence)
    return Reading(ReadingStatus.OK, host.strip() != engine.strip(), command, evidence=evidence)


def _listening(answer: _Answer) -> Reading[Mapping[int, str]]:
    command = answer.asked.inside("cat", "/proc/net/tcp", "/proc/net/tcp6")
    first, second = answer.text("engine/tcp"), answer.text("engine/tcp6")
    # Where IPv6 is switched off the second is empty; one that did not come may have held anything.
    if first is None or second is None:
        return answer.missing(command)
    if "sl " not in first:
        return Reading(ReadingStatus.NO_DATA, None, command, "/proc/net/tcp cannot be read")
    owners: dict[str, str] = {}
    for line in (answer.text("host/owners") or "").splitlines():
        inode, _, who = line.partition(" ")
        pid, _, named = who.partition(" ")
        name, _, words = named.partition("\t")
        if pid.isdecimal() and inode not in owners:
            said = f" ({one_line(words, 120)})" if words.strip() else ""
            owners[inode] = without_credentials(f"process {pid} {one_line(name, 40)}{said}")
    found: dict[int, str] = {}
    rows = []
    for line in f"{first}\n{second}".splitlines():
        match = _SOCKET.match(line)
        if match:
            rows.append(line.strip())
            port = int(match[1], 16)
            found[port] = found.get(port) or owners.get(match[2], "")
    return Reading(ReadingStatus.OK, found, command, evidence=_evidence("\n".join(rows)))


def _reserved(text: str) -> tuple[range, ...]:
    lines = text.split("\n")
    if "read" not in lines:
        raise ValueError("the kernel's reserved ports cannot be read")
    return port_ranges(lines[0])


def _memory_limit(text: str | None) -> int | None:
    """cgroups(7): bytes, or ``max``; version 1 writes a number beyond all memory for none."""
    word = (text or "").strip()
    limit = int(word) if re.fullmatch(r"[0-9]{1,20}", word) else None
    return limit if limit is not None and limit < _LIMIT_MOST_BYTES else None


def _gpus(answer: _Answer) -> Reading[tuple[Gpu, ...]]:
    words = ("nvidia-smi", "--query-gpu=index,memory.total,memory.free", "--format=csv,noheader,nounits")
    command, code = answer.asked.inside(*words), answer.code("engine/gpus-code")

    def rows(text: str) -> tuple[Gpu, ...]:
        if code != 0:
            raise ValueError(f"exit code {code}: {one_line(text)}")
        return tuple(Gpu(*map(int, line.split(","))) for line in text.splitlines() if line.strip())

    try:
        return answer.read("engine/gpus", command, rows)
    except TypeError:
        return Reading(ReadingStatus.UNPARSED, None, command, "expected index, total, free")


def _python(answer: _Answer, number: int, program: Program) -> Reading[EnginePython | NoProgram]:
    word = program.word
    command = answer.asked.inside(word, "(its Python: importlib.metadata)")
    path, why = answer.text(f"program-{number}/path"), answer.text(f"program-{number}/why")
    if why is not None:
        shown_path = one_line(path or "")
        reasons = {
            "missing": (True, f"{one_line(word)!r} is no program there"),
            "gone": (True, f"{one_line(word)!r} is to be run by {shown_path}, which is not there"),
        }
        unresolved = (False, f"which Python runs {shown_path} cannot be told from its first lines")
        found = NoProgram(*reasons.get(why.strip(), unresolved))
        return Reading(ReadingStatus.OK, found, answer.asked.inside("command", "-v", word), found.reason)
    code = answer.code(f"program-{number}/code")

    def said(text: str) -> EnginePython | NoProgram:
        if code != 0:
            late = "it did not answer in time" if code in _KILLED else one_line(text)
            raise ValueError(f"{shown(path)} ended with exit code {code}: {late}")
        # Start-up files of a Python may print before.
        content = json.loads(text.strip().rpartition("\n")[2])
        packages, plugins = content["packages"], content["plugins"]
        return EnginePython(
            one_line(str(content["python"])),
            one_line(str(content["version"])),
            {str(name): one_line(str(version)) for name, version in packages.items()},
            {str(name): tuple(map(str, names)) for name, names in plugins.items()},
        )

    def shown(text: str | None) -> str:
        return one_line(text or "the Python of the launcher")

    try:
        return answer.read(f"program-{number}/said", command, said)
    except (KeyError, TypeError, AttributeError):
        return Reading(ReadingStatus.UNPARSED, None, command, "its answer is not what was asked for")


def _model(answer: _Answer, number: int, model: str) -> Reading[ModelFolder]:
    command = answer.asked.inside("ls", "-lL", model)
    kind = (answer.text(f"model-{number}/kind") or "").strip()
    if not kind:
        return answer.missing(command)
    if kind not in ("folder", "file"):
        return Reading(ReadingStatus.OK, ModelFolder(kind), command, evidence=f"{model}: {kind}")
    files, digests = answer.text(f"model-{number}/files"), answer.text(f"model-{number}/digests")
    if files is None or (digests is None and kind == "folder"):
        return answer.missing(command)
    # Only line ends part the rows: a name may hold anything else.
    rows = [(size, name) for size, _, name in (line.partition(" ") for line in files.split("\n")) if size]
    found = ModelFolder(
        kind,
        {
            name: int(size) if size.isdecimal() else None
            for size, name in rows
            if size.isdecimal() or size == "?"
        },
        {
            name: digest if _DIGEST.fullmatch(digest) else ""
            for digest, _, name in (line.partition(" ") for line in (digests or "").split("\n"))
            if name
        },
        tuple(name for size, name in rows if size == "broken"),
        tuple(name for size, name in rows if size == "unreadable"),
        any(size == "more" for size, _ in rows),
    )
    return Reading(ReadingStatus.OK, found, command, evidence=_evidence(files))
