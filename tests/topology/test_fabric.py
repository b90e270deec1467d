"""The networks as read off facts: planes, super pods, leaf switches."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ascendctl.facts import (
    AddressFacts,
    ClusterFacts,
    DeviceFacts,
    Expectation,
    GatewayFacts,
    Generation,
    HostFacts,
    LinkFacts,
    LinkStatus,
    LldpFacts,
    Reach,
    ReachStatus,
    Reading,
    ReadingStatus,
    SpodFacts,
    TlsFacts,
    VnicFacts,
)
from ascendctl.topology import sdid
from ascendctl.topology.fabric import Plane, Port, PortId, fabric_of, leaf_switch

NO_ADDRESS: Reading[AddressFacts] = Reading(ReadingStatus.NO_DATA)


def ok(value):  # type: ignore[no-untyped-def]
    return Reading(ReadingStatus.OK, value)


def die(device: int, server: int = 3, **readings: object) -> DeviceFacts:
    facts = DeviceFacts(
        npu_id=device // 2,
        chip_id=device % 2,
        phy_id=device,
        name="Ascend910",
        link=ok(LinkFacts(LinkStatus.UP)),
        ip=ok(AddressFacts(f"10.{device % 2}.3.{11 + device}", "255.255.255.0")),
        gateway=ok(GatewayFacts(f"10.{device % 2}.3.1", "eth0")),
        lldp=ok(LldpFacts("02:00:00:00:00:01", "400GE1/0/1", "leaf-01", "Routing and Switching")),
        vnic=ok(VnicFacts(LinkStatus.UP, sdid.vnic_address(server, device), "255.255.255.0")),
        tls=ok(TlsFacts(0)),
        spod=ok(SpodFacts(sdid.encode(server, device), 384, 0, server)),
    )
    return replace(facts, **readings)  # type: ignore[arg-type]


def host(*devices: DeviceFacts, generation: Generation = Generation.A3) -> HostFacts:
    return HostFacts("n03", Expectation(), Reach(ReachStatus.REACHED), generation=generation, devices=devices)


def only_port(facts: DeviceFacts, generation: Generation = Generation.A3) -> Port:
    (port,) = fabric_of(ClusterFacts((host(facts, generation=generation),))).ports
    return port


def test_an_a3_die_of_a_super_pod_is_in_both_planes() -> None:
    port = only_port(die(5))
    assert port.id == PortId("n03", 5)
    assert (port.npu, port.chip, port.rail) == (2, 1, 5)
    assert port.address(Plane.HCCS) == "192.3.3.194"
    assert port.address(Plane.ROCE) == "10.1.3.16"
    assert str(port.roce_segment) == "10.1.3.0/24"
    assert (port.super_pod, port.server_index, port.switch) == (0, 3, "leaf-01")


def test_without_roce_addresses_only_hccs_is_there() -> None:
    assert only_port(die(5, ip=NO_ADDRESS)).address(Plane.ROCE) is None


def test_outside_a_super_pod_there_is_no_hccs_plane() -> None:
    outside = die(5, spod=ok(SpodFacts(sdid.INVALID, sdid.INVALID, sdid.INVALID, sdid.INVALID)))
    port = only_port(outside)
    assert port.address(Plane.HCCS) is None
    assert (port.super_pod, port.server_index, port.sdid) == (None, None, None)


def test_super_pod_and_server_index_nought_are_valid() -> None:
    port = only_port(die(0, server=0))
    assert (port.super_pod, port.server_index, port.sdid) == (0, 0, 0)
    assert port.address(Plane.HCCS) == "192.0.2.199"


def test_a2_is_on_roce_only_whatever_its_vnic_says() -> None:
    port = only_port(die(5, spod=Reading(ReadingStatus.UNSUPPORTED)), Generation.A2)
    assert port.address(Plane.HCCS) is None
    assert port.address(Plane.ROCE) == "10.1.3.16"


def test_what_was_not_read_is_not_known() -> None:
    blank: Reading[object] = Reading(ReadingStatus.TIMED_OUT)
    port = only_port(die(5, link=blank, lldp=blank, tls=blank, vnic=blank))
    assert (port.link_up, port.switch, port.tls_switch, port.vnic_up) == (None, None, None, None)


@pytest.mark.parametrize(
    ("lldp", "switch"),
    [
        (None, None),
        (LldpFacts("02:00:00:00:00:01", "p", "leaf-01", "Routing"), "leaf-01"),
        (LldpFacts("02:00:00:00:00:01", "p", None, None), "02:00:00:00:00:01"),
        (LldpFacts("02:00:00:00:00:01", "p", "npu", "AscendNPU"), None),
    ],
)
def test_a_leaf_switch_is_known_by_its_name_else_its_chassis(
    lldp: LldpFacts | None, switch: str | None
) -> None:
    assert leaf_switch(lldp) == switch


def test_ports_are_grouped_by_host_pod_switch_and_segment() -> None:
    fabric = fabric_of(ClusterFacts((host(die(4), die(5)),)))
    assert [port.id.device for port in fabric.hosts["n03"]] == [4, 5]
    assert set(fabric.super_pods) == {0}
    assert set(fabric.switches) == {"leaf-01"}
    assert {str(segment) for segment in fabric.segments} == {"10.0.3.0/24", "10.1.3.0/24"}
    assert fabric.by_id[PortId("n03", 4)].npu == 2
