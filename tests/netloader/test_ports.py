"""Every port of a plan, judged against the others, HCCL, Mooncake and the kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ascendctl.netloader.plan import Instance, Place, Role, Serving
from ascendctl.netloader.ports import (
    DEFAULT_EPHEMERAL_PORTS,
    HostPorts,
    Level,
    ephemeral_ports,
    planned_ports,
    port_plan,
    port_ranges,
)

DRAFT = ("--speculative-config", "{}")


def instance(
    port: int = 8000, listen_port: int | None = 18000, *, name: str = "n1.1", **changes: Any
) -> Instance:
    environment = changes.pop("environment", ())
    serving = replace(Serving("/m", tp=2), **changes)
    return Instance(
        name, Role.SEED, Place("n1", "10.0.0.1", environment=environment), serving, port, listen_port
    )


def told(*instances: Instance, host: HostPorts | None = None) -> list[tuple[str, str, int | None]]:
    plan = port_plan(instances, [host] if host else [])
    return [(one.rule, one.level.value, one.port) for one in plan.findings]


def test_every_port_is_in_the_plan() -> None:
    found = [(one.port, one.what, one.used) for one in planned_ports(instance(engine_args=DRAFT))]
    assert found == [
        (8000, "its API", True),
        (18000, "rank 0's listener", True),
        (18001, "rank 1's listener", True),
        (28000, "rank 0's listener of the draft model", True),
        (28001, "rank 1's listener of the draft model", True),
    ]
    assert port_plan([instance()]).of("n1") == (8000, 18000, 18001)
    assert port_plan([instance(engine_args=DRAFT)]).of("n1") == (8000, 18000, 18001, 28000, 28001)
    assert port_plan([instance()]).of("n2") == ()


def test_a_good_plan_has_nothing_against_it() -> None:
    assert told(instance()) == []
    assert told(instance(), instance(8001, 18002, name="n1.2")) == []


E = "error"
W = "warning"
JUDGED: list[tuple[Instance, HostPorts | None, list[tuple[str, str, int | None]]]] = [
    # HCCL, with its own variables.
    (instance(60000), None, [("hccl", E, 60000), ("ephemeral", E, 60000)]),
    (instance(60031), None, [("hccl", E, 60031), ("ephemeral", E, 60031)]),
    (instance(61100), None, []),
    (instance(61032), None, []),
    (instance(9031, environment=(("HCCL_IF_BASE_PORT", "9000"),)), None, [("hccl", E, 9031)]),
    (instance(9032, environment=(("HCCL_IF_BASE_PORT", "9000"),)), None, []),
    (instance(9500, environment=(("HCCL_HOST_SOCKET_PORT_RANGE", "9500-9510"),)), None, [("hccl", E, 9500)]),
    (instance(16666), None, [("hccl", E, 16666), ("mooncake", E, 16666)]),
    # Draft listeners on HCCL's ports; without a draft model only a warning.
    (
        instance(8000, 50000, engine_args=DRAFT),
        HostPorts("n1", ephemeral=range(0)),
        [("hccl", E, 60000), ("hccl", E, 60001)],
    ),
    (instance(8000, 50000), HostPorts("n1", ephemeral=range(0)), [("hccl", W, 60000), ("hccl", W, 60001)]),
    (instance(8000, 61100), None, [("range", W, 71100), ("range", W, 71101)]),
    # Mooncake.
    (instance(15000), None, [("mooncake", E, 15000)]),
    (instance(17000), None, [("mooncake", E, 17000)]),
    (instance(17001), None, []),
    (instance(21600), None, [("mooncake", E, 21600)]),
    (instance(21601), None, [("mooncake", W, 21601)]),
    (instance(20801), HostPorts("n1", devices=8), [("mooncake", W, 20801)]),
    (instance(28001), HostPorts("n1", devices=8), []),
    (instance(50088), HostPorts("n1", ephemeral=range(0)), [("mooncake", E, 50088)]),
    # What the kernel hands out.
    (instance(61000), None, []),
    (instance(36001), None, [("ephemeral", E, 36001)]),
    (instance(36001), HostPorts("n1", reserved=(range(36000, 36010),)), []),
    (instance(36001), HostPorts("n1", ephemeral=range(40000, 50000)), []),
    (instance(8000), HostPorts("n1", ephemeral=range(1024, 65001), reserved=(range(18000, 18002),)),
     [("ephemeral", E, 8000)]),
    # What listens already.
    (instance(), HostPorts("n1", busy={18001: "sshd (pid 7)"}), [("busy", E, 18001)]),
    (instance(8000, None), None, [("unplanned", W, None)]),
]  # fmt: skip


@pytest.mark.parametrize(("given", "host", "expected"), JUDGED, ids=range(len(JUDGED)))
def test_ports_are_judged(
    given: Instance, host: HostPorts | None, expected: list[tuple[str, str, int | None]]
) -> None:
    assert told(given, host=host) == expected


def test_instances_of_one_host_must_not_meet() -> None:
    assert told(instance(), instance(8000, 18001, name="n1.2")) == [("twice", E, 8000), ("twice", E, 18001)]
    assert told(instance(18001)) == [("twice", E, 18001)]
    # The draft model's listener on the next instance's.
    assert ("twice", E, 28000) in told(instance(engine_args=DRAFT), instance(8001, 28000, name="n1.2"))
    other = replace(instance(name="n2.1"), place=Place("n2", "10.0.0.2"))
    assert told(instance(), other) == []


def test_a_hosts_hccl_ports_bind_all_its_instances() -> None:
    second = instance(8001, 18002, name="n1.2", environment=(("HCCL_IF_BASE_PORT", "8000"),))
    assert ("hccl", E, 8000) in told(instance(), second)
    assert ("hccl", E, 8000) in told(second, instance())


def test_findings_say_whose_port_it_is_and_what_to_do() -> None:
    plan = port_plan([instance()], [HostPorts("n1", busy={8000: "nginx"})])
    (found,) = plan.errors
    assert found.message == ("n1: port 8000, its API (n1.1): nginx listens there; stop it, or take another")
    assert found.level is Level.ERROR


def test_kernel_settings_are_read_as_the_kernel_writes_them() -> None:
    assert ephemeral_ports("32768\t60999\n") == DEFAULT_EPHEMERAL_PORTS
    assert port_ranges("60000-60031,16666\n") == (range(60000, 60032), range(16666, 16667))
    assert port_ranges("") == port_ranges("\n") == ()
    for text in ("x", "1-x", "-", "1-2-3", "999999"):
        with pytest.raises(ValueError):
            port_ranges(text)
    for text in ("", "1", "1 2 3", "a b"):
        with pytest.raises(ValueError):
            ephemeral_ports(text)
