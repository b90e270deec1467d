"""Small networks for tests: ports laid out by hand, and pings that meet stated losses."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Network

from ascendctl.facts import Generation
from ascendctl.topology.fabric import Fabric, Plane, Port, PortId
from ascendctl.topology.mesh import MeshMode, MeshPlan, Observation, plan_mesh

HOSTS_PER_LEAF = 8

# Share of packets that a part loses, by plane and both ends of a ping; 0 where it is not on the way.
Fault = Callable[[Plane, Port, Port], float]


def a3(hosts: int, *, hosts_per_pod: int = 48, leaves: bool = True) -> Fabric:
    """A3 hosts: 16 dies, both planes, two leaf switches for every eight hosts."""
    return Fabric(
        tuple(
            Port(
                id=PortId(name(host), device),
                npu=device // 2,
                chip=device % 2,
                generation=Generation.A3,
                link_up=True,
                roce_address=f"10.{2 * (host // 256) + device % 2}.{host % 256}.{11 + device}",
                roce_segment=IPv4Network(f"10.{2 * (host // 256) + device % 2}.{host % 256}.0/24"),
                gateway=f"10.{2 * (host // 256) + device % 2}.{host % 256}.1",
                vnic_address=f"192.{host % hosts_per_pod}.{2 + device % 2}.{199 - device}",
                vnic_up=True,
                super_pod=host // hosts_per_pod,
                server_index=host % hosts_per_pod,
                sdid=(host % hosts_per_pod) << 22 | device // 2 << 18 | device % 2 << 16 | device,
                switch=f"leaf{2 * (host // HOSTS_PER_LEAF) + device % 2}" if leaves else None,
                switch_port=f"400GE1/{device // 2}/{host % HOSTS_PER_LEAF}:{device % 2}" if leaves else None,
                tls_switch=0,
            )
            for host in range(hosts)
            for device in range(16)
        )
    )


def a2(hosts: int, *, gateway: bool = True) -> Fabric:
    """A2 hosts: 8 devices, RoCE only, one leaf switch for every eight hosts."""
    return Fabric(
        tuple(
            Port(
                id=PortId(name(host), device),
                npu=device,
                chip=0,
                generation=Generation.A2,
                link_up=True,
                roce_address=f"10.20.{host}.{11 + device}",
                roce_segment=IPv4Network(f"10.20.{host}.0/24" if gateway else "10.20.0.0/16"),
                gateway=f"10.20.{host}.1" if gateway else None,
                vnic_address=f"192.168.2.{199 - device}",
                switch=f"leaf{host // HOSTS_PER_LEAF}",
                switch_port=f"200GE1/{device}/{host % HOSTS_PER_LEAF}",
                tls_switch=0,
            )
            for host in range(hosts)
            for device in range(8)
        )
    )


def name(host: int) -> str:
    return f"n{host:02d}"


def changed(fabric: Fabric, change: Callable[[Port], dict[str, object]]) -> Fabric:
    """The fabric with some fields of its ports changed."""
    return Fabric(tuple(replace(port, **change(port)) for port in fabric.ports))  # type: ignore[arg-type]


# --- faults ---------------------------------------------------------------------------------------


def dead_port(host: str, device: int, plane: Plane, loss: float = 1.0) -> Fault:
    end = PortId(host, device)
    return lambda on, a, b: loss if on is plane and end in (a.id, b.id) else 0.0


def dead_npu(host: str, npu: int) -> Fault:
    return lambda on, a, b: float(any(p.id.host == host and p.npu == npu for p in (a, b)))


def dead_host(host: str) -> Fault:
    return lambda on, a, b: float(host in (a.id.host, b.id.host))


def lossy_switch(switch: str, loss: float = 1.0, *, truth: Fabric | None = None) -> Fault:
    """``truth``: the fabric that says where ports really are, where they do not hear it."""

    def lost(on: Plane, a: Port, b: Port) -> float:
        ends = (truth.by_id[a.id], truth.by_id[b.id]) if truth else (a, b)
        return loss if on is Plane.ROCE and switch in (end.switch for end in ends) else 0.0

    return lost


def lossy_uplinks(switch: str, loss: float = 1.0) -> Fault:
    def lost(on: Plane, a: Port, b: Port) -> float:
        apart = a.switch != b.switch and switch in (a.switch, b.switch)
        return loss if on is Plane.ROCE and apart else 0.0

    return lost


def split_pod(hosts: set[str]) -> Fault:
    return lambda on, a, b: float(on is Plane.HCCS and (a.id.host in hosts) != (b.id.host in hosts))


def dead_link(one: PortId, other: PortId, plane: Plane) -> Fault:
    return lambda on, a, b: float(on is plane and {a.id, b.id} == {one, other})


# --- pings ----------------------------------------------------------------------------------------


def observed(
    fabric: Fabric,
    faults: Sequence[Fault] = (),
    *,
    plan: MeshPlan | None = None,
    background: float = 0.001,
    seed: int = 1,
    silent: Sequence[str] = (),
) -> list[Observation]:
    """What the pings of a plan (by default a sample) meet."""
    plan = plan or plan_mesh(fabric, MeshMode.SAMPLE, seed=seed)
    dice = random.Random(seed)
    observations = []
    for ping in plan.pings:
        passes = 1.0 - background
        ends = fabric.by_id[ping.source], fabric.by_id[ping.target]
        for fault in faults:
            passes *= 1.0 - fault(ping.plane, *ends)
        received = sum(dice.random() < passes for _ in range(plan.packets))
        if ping.source.host in silent:
            observations.append(Observation(ping, None, None, "fell silent"))
        else:
            observations.append(Observation(ping, plan.packets, received))
    return observations
