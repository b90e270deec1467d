"""Which generation and which kind of accelerator a host has, read from its own tools' answers.

Names as npu-smi prints them: A2 ``910B1``..``910B4``, ``910B2C`` (also with 16 devices: a count does
not tell a generation); A3 ``Ascend910`` or ``Ascend910C`` with a Phy-ID column, or a SoC name
``Ascend910_93xx``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ascendctl.facts import Accelerator, Generation, MappingFacts, NpuSmiInfoFacts, Reading, ToolFacts

ASCEND_TOOLS = ("hccn_tool", "npu-smi")
NVIDIA_TOOL = "nvidia-smi"

_A2_NAME = re.compile(r"(?:Ascend ?)?910B\d?\w*(?:-\d+)?", re.IGNORECASE)
_A3_NAME = re.compile(r"(?:Ascend ?)?910_93\w*", re.IGNORECASE)
_A3_FAMILY_NAME = re.compile(r"Ascend ?910|(?:Ascend ?)?910C", re.IGNORECASE)


def detect_generation(mapping: Reading[MappingFacts], npu_smi: Reading[NpuSmiInfoFacts]) -> Generation | None:
    """The generation that every chip's name agrees on; None where names are unknown or disagree."""
    found = {_generation_of(name, phy_id) for name, phy_id in _chips(mapping, npu_smi)}
    return found.pop() if len(found) == 1 else None


def detect_accelerator(tools: Mapping[str, ToolFacts], mapping: Reading[MappingFacts]) -> Accelerator | None:
    """Ascend where its tools are or its NPUs answered, NVIDIA where only nvidia-smi is, else None.

    ``tools``: what the host named, by name; one that is not in it is not known, and concludes nothing.
    None is "cannot tell", never "no accelerator".
    """
    present = {name for name, tool in tools.items() if tool.path}
    if mapping.ok or present.intersection(ASCEND_TOOLS):
        return Accelerator.ASCEND
    without_ascend = all(name in tools for name in ASCEND_TOOLS)
    return Accelerator.NVIDIA if NVIDIA_TOOL in present and without_ascend else None


def _chips(
    mapping: Reading[MappingFacts], npu_smi: Reading[NpuSmiInfoFacts]
) -> Iterator[tuple[str, int | None]]:
    if mapping.value is not None and mapping.value.chips:
        yield from ((chip.name, chip.phy_id) for chip in mapping.value.chips)
    elif npu_smi.value is not None:
        yield from ((device.name, device.phy_id) for device in npu_smi.value.devices)


def _generation_of(name: str, phy_id: int | None) -> Generation | None:
    name = name.strip()
    if _A2_NAME.fullmatch(name):
        return Generation.A2
    if _A3_NAME.fullmatch(name) or (phy_id is not None and _A3_FAMILY_NAME.fullmatch(name)):
        return Generation.A3
    return None
