"""The demo's cluster: eight A2 servers, six faults of different kinds, and what each should show as."""

from __future__ import annotations

from dataclasses import dataclass

from ascendctl.sim.spec import Fault, Spec


@dataclass(frozen=True)
class DemoFault:
    """A seeded fault with the cell that should show it.

    ``status`` as in reports. ``effect``: what happens to other cells because of it, in words.
    """

    fault: Fault
    check: str
    status: str
    effect: str


def _seeded(kind: str, host: str, device: int | None = None, value: str | None = None) -> Fault:
    return Fault(kind=kind, host=host, device=device, value=value)


DEMO_FAULTS: tuple[DemoFault, ...] = (
    DemoFault(
        _seeded("link-down", "node02", 5),
        "link",
        "fail",
        "net-health and lldp of device 5 are skipped, caused by link",
    ),
    DemoFault(_seeded("hccn-conf-stale", "node03", 1), "hccn-conf", "fail", "no other cell"),
    DemoFault(_seeded("npu-health", "node04", 6, "Alarm"), "npu-health", "fail", "no other cell"),
    DemoFault(_seeded("tls-unreadable", "node05", 3), "tls", "unknown", "no other cell"),
    DemoFault(
        _seeded("command-hang", "node06", 7, "ignores-term"),
        "link",
        "unknown",
        "hccn_tool is not called again on node06: what was still to be read with it is not evaluated",
    ),
    DemoFault(
        _seeded("ssh-refused", "node08"),
        "reachable",
        "unknown",
        "every other cell of node08 is skipped, caused by reachable, and not evaluated",
    ),
)

DEMO_SPEC = Spec(generation="a2", hosts=8, seed=1, faults=tuple(each.fault for each in DEMO_FAULTS))
