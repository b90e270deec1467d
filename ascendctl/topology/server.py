"""How one server is built: device counts, A2 modules, A3 dies.

A2: 8 devices, or 16 as two modules of 8 (200T A2 Box16, some 910B2C servers), full-mesh HCCS only
inside a module. A3: 8 NPUs of two dies = 16 devices; dies of one NPU are joined by SIO, all others by
the HCCS switch. Source: the vendor's product pages and HCCL's rank-table documentation.
"""

from __future__ import annotations

from ascendctl.facts import DeviceFacts, Generation

DEVICES_PER_A2_MODULE = 8

_WHOLE_SERVER = {Generation.A2: (8, 16), Generation.A3: (16,)}


def whole_server_counts(generation: Generation) -> tuple[int, ...]:
    """The device counts of a server whose NPUs are all visible."""
    return _WHOLE_SERVER[generation]


def ids_of_a_whole_server(count: int, generation: Generation) -> tuple[range, range]:
    """NPU ids and physical ids of a server whose ``count`` devices are all visible: both begin at 0."""
    dies = 2 if generation is Generation.A3 else 1
    return range(count // dies), range(count)


def module_of(number: int) -> int:
    """The A2 module of an NPU id or physical id: equal modules are HCCS neighbours."""
    return number // DEVICES_PER_A2_MODULE


def same_npu(one: DeviceFacts, other: DeviceFacts) -> bool:
    """Whether two devices of a host are the dies of one NPU."""
    return one.npu_id == other.npu_id
