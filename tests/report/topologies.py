"""Clusters to be drawn: fabrics of any size with leaf switches, and what was found on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ascendctl import facts as f
from ascendctl.results import (
    CellKey,
    Component,
    ComponentKind,
    Peer,
    Result,
    Status,
    Subject,
    SubjectKind,
    Verdict,
    host_subject,
)
from ascendctl.topology.fabric import Fabric, PortId, fabric_of
from tests.checks.hosts import a2, a3, ok


def name(number: int) -> str:
    return f"node{number:03d}"


def a3_cluster(hosts: int, *, per_pod: int = 48, roce: bool = True) -> f.ClusterFacts:
    """Pods of 48 hosts; in each rack of 8 hosts two leaf switches, one for each die."""
    made = []
    for number in range(hosts):
        pod, index = divmod(number, per_pod)
        host = a3(name(number + 1), server=index, roce=roce)
        devices = tuple(
            replace(
                one,
                spod=ok(replace(one.spod.value, super_pod_id=pod)) if one.spod.value else one.spod,
                ip=ok(_address(30 + one.chip_id, number, one.npu_id)) if roce else one.ip,
                lldp=ok(_heard(2 * (number // 8) + 1 + one.chip_id, one.phy_id)),
            )
            for one in host.devices
        )
        made.append(replace(host, devices=devices))
    return f.ClusterFacts(tuple(made))


def a2_cluster(hosts: int) -> f.ClusterFacts:
    """Rails: device n of every host on leaf switch n."""
    made = []
    for number in range(hosts):
        host = a2(name(number + 1), number=number)
        devices = tuple(
            replace(one, ip=ok(_address(20, number, one.phy_id)), lldp=ok(_heard(one.phy_id + 1, number)))
            for one in host.devices
        )
        made.append(replace(host, devices=devices))
    return f.ClusterFacts(tuple(made))


def _address(second: int, number: int, last: int) -> f.AddressFacts:
    return f.AddressFacts(f"10.{second}.{number}.{last + 10}", "255.255.255.0")


def _heard(leaf: int, port: int) -> f.LldpFacts:
    return f.LldpFacts("MAC: 02:00:00:00:00:01", f"Ifname: 400GE1/0/{port}", f"leaf-{leaf}", None)


def cell(check: str, status: Status, host: str, device: int | None = None, **more: object) -> Result:
    subject = host_subject(host) if device is None else device_subject(host, device)
    return Result(check, subject, status, f"{check} is not well", **more)  # type: ignore[arg-type]


def device_subject(host: str, device: int) -> Subject:
    return Subject(SubjectKind.DEVICE, host=host, npu=device // 2, chip=device % 2, device=device)


def passes(fabric: Fabric, but: Iterable[PortId] = ()) -> list[Result]:
    """Every host and device is well but these devices."""
    left_out = set(but)
    cells = [cell("reachable", Status.PASS, host) for host in fabric.hosts]
    return cells + [
        cell("link", Status.PASS, port.id.host, port.id.device)
        for port in fabric.ports
        if port.id not in left_out
    ]


def with_faults(cluster: f.ClusterFacts) -> tuple[Fabric, list[Result], list[Verdict]]:
    """One finding of every status, a silent host, and verdicts of every kind."""
    fabric = fabric_of(cluster)
    link = CellKey("link", device_subject(name(2), 5))
    found = [
        cell("link", Status.FAIL, name(2), 5),
        cell("npu-health", Status.WARN, name(3), 4),
        cell("tls", Status.UNKNOWN, name(4), 3),
        cell("lldp", Status.SKIPPED, name(5), 1, caused_by=link, root_fails=True),
        cell("hccn-conf", Status.WAIVED, name(6), 0),
        cell("vnic", Status.ERROR, name(7), 7),
    ]
    results = passes(fabric, [PortId(one.subject.host or "", one.subject.device or 0) for one in found])
    results += found
    results += [
        cell("versions", Status.FAIL, name(8)),
        cell("reachable", Status.UNKNOWN, "silent"),
        Result("mesh", Subject(SubjectKind.SWITCH, switch="leaf-2"), Status.FAIL, "it loses packets"),
        Result("super-pods", Subject(SubjectKind.SUPER_POD, group="0"), Status.WARN, "49 hosts"),
        Result(
            "mesh",
            Subject(SubjectKind.LINK, host=name(1), device=0, peer=Peer(name(2), 0)),
            Status.FAIL,
            "2 of 3 packets lost",
        ),
    ]
    return fabric, results, verdicts()


def verdicts() -> list[Verdict]:
    kinds = ComponentKind
    return [
        Verdict(Component(kinds.DEVICE, name(2), 5), "the port's link is down", 0.99),
        Verdict(Component(kinds.NPU, name(6), npu=3), "both dies lose every packet", 0.97),
        Verdict(Component(kinds.HOST, name(8)), "no device of it answers", 0.95),
        Verdict(Component(kinds.LINK, name(1), 2, peer=Peer(name(4), 2)), "cables are swapped", 0.9),
        Verdict(Component(kinds.SWITCH, switch="leaf-2"), "40 % of what crosses it is lost", 0.93),
        Verdict(Component(kinds.SWITCH, value="between leaf switches"), "the spine loses packets", 0.6),
        Verdict(Component(kinds.SUPER_POD, value="0"), "two halves do not reach each other", 0.8),
        Verdict(Component(kinds.ADDRESS, value="10.20.0.10"), "two devices have it", 0.99),
        Verdict(Component(kinds.TLS_GROUP, value="TLS switch 1"), "4 hosts differ from the others", 0.99),
    ]
