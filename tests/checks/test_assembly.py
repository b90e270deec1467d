"""What a host is taken for: its own word first, the inventory's where it has none."""

from __future__ import annotations

import pytest

from ascendctl.assembly import host_facts
from ascendctl.facts import Accelerator, Expectation, Generation, Reach, ReachStatus
from ascendctl.probe.bundle import HostRecord
from ascendctl.probe.capture import HostCapture
from ascendctl.probe.frames import Answer, Target
from ascendctl.results import Status
from tests.checks.hosts import at, judge


def table(*rows: tuple[str, ...]) -> str:
    """`npu-smi info -m`: a tab, then columns of 30 and a blank."""
    return "".join("\t" + " ".join(f"{cell:<30}" for cell in row).rstrip() + "\n" for row in rows)


A2_TABLE = table(("NPU ID", "Chip ID", "Chip Logic ID", "Chip Name"), ("0", "0", "0", "Ascend 910B3"))
A3_TABLE = table(
    ("NPU ID", "Chip ID", "Chip Logic ID", "Chip Phy-ID", "Chip Name"),
    ("0", "0", "0", "0", "Ascend910"),
    ("0", "1", "1", "1", "Ascend910"),
    ("0", "2", "-", "-", "Mcu"),
)
NOT_KNOWN_TABLE = A2_TABLE.replace("910B3", "910XY")
TOOLS = {"hccn_tool": "/bin/hccn_tool", "npu-smi": "/bin/npu-smi", "nvidia-smi": None}


def record(mapping: str | None, tools: dict[str, str | None], **expected: object) -> HostRecord:
    answers = {}
    if mapping is not None:
        text = mapping.encode()
        answers["mapping", Target()] = Answer("mapping", Target(), 0, 1, text, b"")
    capture = HostCapture(answers=answers, tools=tools, hello=True, complete=True)
    return HostRecord("node01", Expectation(**expected), Reach(ReachStatus.REACHED), capture)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mapping", "inventory", "generation"),
    [
        pytest.param(A2_TABLE, None, Generation.A2, id="detected"),
        pytest.param(A2_TABLE, Generation.A2, Generation.A2, id="agreed"),
        pytest.param(A3_TABLE, Generation.A2, Generation.A3, id="contradicted"),
        pytest.param(NOT_KNOWN_TABLE, Generation.A3, Generation.A3, id="by-the-inventory"),
        pytest.param(NOT_KNOWN_TABLE, None, None, id="not-known"),
        pytest.param(None, Generation.A2, Generation.A2, id="no-answer"),
    ],
)
def test_generation(mapping: str | None, inventory: Generation | None, generation: Generation | None) -> None:
    host = host_facts(record(mapping, TOOLS, generation=inventory))
    assert host.generation is generation
    found = judge(host)[at("npu-mapping")]
    contradicted = inventory is not None and inventory is not generation
    assert (found.status is Status.FAIL and "the inventory says" in found.message) is contradicted


@pytest.mark.parametrize(
    ("mapping", "tools", "inventory", "accelerator"),
    [
        pytest.param(A3_TABLE, TOOLS, Accelerator.CPU, Accelerator.ASCEND, id="npus-listed-on-a-cpu-host"),
        pytest.param(A3_TABLE, TOOLS, Accelerator.NVIDIA, Accelerator.ASCEND, id="npus-listed-beside-gpus"),
        pytest.param(None, TOOLS, Accelerator.CPU, Accelerator.CPU, id="tools-alone-prove-nothing"),
        pytest.param(None, TOOLS, None, Accelerator.ASCEND, id="detected"),
        pytest.param(None, {}, Accelerator.ASCEND, Accelerator.ASCEND, id="by-the-inventory"),
        pytest.param(None, {}, None, None, id="not-known"),
    ],
)
def test_accelerator(
    mapping: str | None,
    tools: dict[str, str | None],
    inventory: Accelerator | None,
    accelerator: Accelerator | None,
) -> None:
    host = host_facts(record(mapping, tools, accelerator=inventory))
    assert host.accelerator is accelerator
    found = judge(host)[at("npu-mapping")]
    contradicted = inventory is not None and inventory is not accelerator
    assert (found.status is Status.FAIL and "the inventory says" in found.message) is contradicted
