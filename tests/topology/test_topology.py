"""The rules of both generations, as arithmetic."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from ascendctl import facts as f
from ascendctl.facts import Accelerator, Generation
from ascendctl.topology import sdid
from ascendctl.topology.addresses import (
    is_network_or_broadcast,
    prefix_length,
    reserved_range,
    segment,
    some_other_host_outside,
    unicast,
)
from ascendctl.topology.generation import detect_accelerator, detect_generation
from ascendctl.topology.majority import vote
from ascendctl.topology.roce import Wanted, roce_use
from ascendctl.topology.super_pod import in_super_pod
from tests.checks.hosts import (
    DENIED,
    NO_DATA,
    UNPARSED,
    Change,
    a2,
    a3,
    every,
    expect,
    made,
    ok,
    set_host,
)

# SDIDs that the vendor's documents and logs show, with their server index and device.
KNOWN_SDIDS = [
    (0, 0, 0),
    (167772160, 40, 0),
    (167837697, 40, 1),
    (169082890, 40, 10),
    (169148427, 40, 11),
    (169345036, 40, 12),
    (0x3000000, 12, 0),
    (37748736, 9, 0),
    (38600711, 9, 7),
    (16777216, 4, 0),
]


@pytest.mark.parametrize(("number", "server", "device"), KNOWN_SDIDS)
def test_sdid_both_ways(number: int, server: int, device: int) -> None:
    parts = sdid.decode(number)
    assert (parts.server_index, parts.device, parts.valid) == (server, device, True)
    assert (parts.chip, parts.die) == divmod(device, 2)
    assert sdid.encode(server, device) == number


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(sdid.INVALID, id="no-super-pod"),
        pytest.param(48 << 22, id="server-48"),
        pytest.param(9 << 22 | 8 << 18 | 16, id="chip-8"),
        pytest.param(9 << 22 | 2 << 16 | 2, id="die-2"),
        pytest.param(9 << 22 | 1 << 18 | 3, id="device-of-another-die"),
    ],
)
def test_sdids_whose_parts_do_not_belong_together(number: int) -> None:
    assert not sdid.decode(number).valid


@pytest.mark.parametrize(("server", "device"), [(48, 0), (-1, 0), (0, 16), (0, -1)])
def test_no_sdid_outside_the_ranges(server: int, device: int) -> None:
    with pytest.raises(ValueError, match="no SDID"):
        sdid.encode(server, device)


@pytest.mark.parametrize("number", [-1, 1 << 32])
def test_an_sdid_has_32_bits(number: int) -> None:
    with pytest.raises(ValueError, match="32 bits"):
        sdid.decode(number)


@pytest.mark.parametrize(
    ("server", "device", "address"),
    [(0, 0, "192.0.2.199"), (0, 1, "192.0.3.198"), (40, 15, "192.40.3.184"), (None, 0, "192.168.2.199")],
)
def test_vnic_addresses(server: int | None, device: int, address: str) -> None:
    assert sdid.vnic_address(server, device) == address


def test_a2_vnic_addresses_lie_in_one_segment() -> None:
    assert [sdid.vnic_address_a2(device) for device in (0, 7)] == ["192.168.2.199", "192.168.2.192"]


@pytest.mark.parametrize("text", ["10.0.0.1", "223.255.255.254", "1.0.0.0"])
def test_unicast(text: str) -> None:
    assert unicast(text) == IPv4Address(text)


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0",
        "0.1.2.3",
        "169.254.0.1",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "fe80::1",
        "",
        "x",
    ],
)
def test_no_unicast(text: str) -> None:
    assert unicast(text) is None


@pytest.mark.parametrize(
    ("mask", "length"),
    [
        ("255.255.255.0", 24),
        ("255.255.128.0", 17),
        ("255.255.255.255", 32),
        ("128.0.0.0", 1),
        ("255.0.255.0", None),
        ("0.0.0.255", None),
        ("0.0.0.0", None),
        ("24", None),
        ("no", None),
    ],
)
def test_prefix_length(mask: str, length: int | None) -> None:
    assert prefix_length(mask) == length


def test_segments() -> None:
    network = segment("10.1.2.3", "255.255.254.0")
    assert network == IPv4Network("10.1.2.0/23")
    assert segment("10.1.2.3", "255.0.255.0") is None
    assert network and is_network_or_broadcast(IPv4Address("10.1.3.255"), network)
    assert not is_network_or_broadcast(IPv4Address("10.1.2.255"), network)
    assert not is_network_or_broadcast(IPv4Address("10.1.2.2"), IPv4Network("10.1.2.2/31"))


RESERVED = [
    ("192.168.1.9", None, None, True),
    ("192.168.2.9", None, None, False),
    ("192.168.2.9", Generation.A2, None, True),
    ("192.168.3.9", Generation.A2, None, False),
    ("192.168.7.9", Generation.A3, False, True),
    ("192.168.8.9", Generation.A3, False, False),
    ("192.168.7.9", Generation.A3, None, True),
    ("192.168.8.9", Generation.A3, True, True),
    ("192.1.45.1", Generation.A3, True, True),
    ("192.1.45.1", Generation.A2, None, False),
    ("193.1.45.1", Generation.A3, True, False),
]


@pytest.mark.parametrize(("text", "generation", "member", "reserved"), RESERVED)
def test_reserved_ranges(
    text: str, generation: Generation | None, member: bool | None, reserved: bool
) -> None:
    assert (reserved_range(IPv4Address(text), generation, member) is not None) is reserved


def test_segments_of_other_hosts() -> None:
    one, two, three = a2("one"), a2("two", number=2), a3("three")
    network = segment("10.8.1.20", "255.255.0.0")
    assert network
    assert not some_other_host_outside(network, "one", f.ClusterFacts((one, two)))
    assert some_other_host_outside(network, "one", f.ClusterFacts((one, two, three)))
    assert not some_other_host_outside(network, "three", f.ClusterFacts((one, two, three)))


@pytest.mark.parametrize(
    ("values", "value", "accused", "tie"),
    [
        ({1: "a", 2: "a", 3: "b"}, "a", {3}, False),
        ({1: "a", 2: "b"}, None, {1, 2}, True),
        ({1: "a", 2: "a", 3: "b", 4: "b", 5: "c"}, None, {1, 2, 3, 4, 5}, True),
        ({1: "a", 2: "a", 3: "b", 4: "c"}, "a", {3, 4}, False),
        ({1: "a"}, "a", set(), False),
        ({}, None, set(), False),
    ],
)
def test_votes(values: dict[int, str], value: str | None, accused: set[int], tie: bool) -> None:
    result = vote(values)
    assert (result.value, result.accused, result.tie) == (value, accused, tie)


def chip(name: str, phy: int | None) -> f.Reading[f.MappingFacts]:
    return ok(f.MappingFacts((f.ChipId(0, 0, 0, phy, name),)))


@pytest.mark.parametrize(
    ("mapping", "generation"),
    [
        (a2().mapping, Generation.A2),
        (a2(devices=16).mapping, Generation.A2),
        (a3().mapping, Generation.A3),
        (chip("910B2C", None), Generation.A2),
        (chip("910B4-1", None), Generation.A2),
        (chip("Ascend910_9391", None), Generation.A3),
        (chip("Ascend 910_9362", 0), Generation.A3),
        (chip("Ascend910C", 0), Generation.A3),
        (chip("Ascend 910C", 0), Generation.A3),
        (chip("910C", 0), Generation.A3),
        (chip("Ascend910_9381", 0), Generation.A3),
        (chip("Ascend910C", None), None),
        (chip("Ascend910D", 0), None),
        (chip("Ascend910", None), None),
        (chip("Ascend 910A", None), None),
        (chip("Ascend 310P3", None), None),
        (chip("Ascend950PR", 0), None),
        (ok(f.MappingFacts((f.ChipId(0, 0, 0, 0, "Ascend910"), f.ChipId(1, 0, 1, 1, "910B1")))), None),
    ],
)
def test_generation_by_the_mapping(mapping: f.Reading[f.MappingFacts], generation: Generation | None) -> None:
    assert detect_generation(mapping, NO_DATA) is generation


def test_generation_by_the_table_where_the_mapping_is_not_known() -> None:
    assert detect_generation(UNPARSED, a2().npu_smi) is Generation.A2
    assert detect_generation(UNPARSED, a3().npu_smi) is Generation.A3
    assert detect_generation(UNPARSED, UNPARSED) is None


@pytest.mark.parametrize(
    ("present", "mapping", "accelerator"),
    [
        ({"hccn_tool", "npu-smi"}, UNPARSED, Accelerator.ASCEND),
        ({"npu-smi"}, NO_DATA, Accelerator.ASCEND),
        ({"nvidia-smi"}, NO_DATA, Accelerator.NVIDIA),
        ({"nvidia-smi", "hccn_tool"}, NO_DATA, Accelerator.ASCEND),
        (set(), NO_DATA, None),
    ],
)
def test_accelerator(
    present: set[str], mapping: f.Reading[f.MappingFacts], accelerator: Accelerator | None
) -> None:
    tools = {
        name: f.ToolFacts(name, f"/bin/{name}" if name in present else None)
        for name in ("hccn_tool", "npu-smi", "nvidia-smi")
    }
    assert detect_accelerator(tools, mapping) is accelerator


def test_a_tool_not_heard_of_is_not_a_tool_that_is_missing() -> None:
    nvidia = {"nvidia-smi": f.ToolFacts("nvidia-smi", "/bin/nvidia-smi")}
    assert detect_accelerator(nvidia, NO_DATA) is None
    missing = {"hccn_tool": f.ToolFacts("hccn_tool", None)}
    assert detect_accelerator({**nvidia, **missing}, NO_DATA) is None


def planned(phy: int, address: str | None = "10.30.7.25") -> Change:
    return set_host(hccn_conf=ok(f.HccnConfFacts({str(phy): f.HccnConfDevice(address, "255.255.0.0")})))


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        (a2(), Wanted.YES),
        (made(a2(), every(ip=NO_DATA)), Wanted.YES),
        (made(a2(), expect(scale_out=f.ScaleOut.NONE)), Wanted.NO),
        (a3(), Wanted.YES),
        (a3(roce=False), Wanted.NO),
        (made(a3(roce=False), expect(scale_out=f.ScaleOut.ROCE)), Wanted.YES),
        (made(a3(), every(ip=UNPARSED)), Wanted.CANNOT_TELL),
        (made(a3(roce=False), set_host(generation=None)), Wanted.CANNOT_TELL),
        pytest.param(made(a3(), every(ip=NO_DATA)), Wanted.YES, id="planned-and-lost"),
        pytest.param(made(a3(roce=False), planned(5)), Wanted.YES, id="another-port-is-planned"),
        pytest.param(made(a3(roce=False), planned(99)), Wanted.NO, id="another-hosts-plan"),
        pytest.param(made(a3(roce=False), planned(5, None)), Wanted.NO, id="plan-without-addresses"),
        pytest.param(
            made(a3(roce=False), set_host(hccn_conf=UNPARSED)), Wanted.CANNOT_TELL, id="plan-not-known"
        ),
        pytest.param(
            made(a3(roce=False), set_host(hccn_conf=DENIED), expect(scale_out=f.ScaleOut.NONE)),
            Wanted.NO,
            id="the-inventory-decides",
        ),
    ],
)
def test_whether_roce_is_expected(host: f.HostFacts, wanted: Wanted) -> None:
    assert roce_use(host.devices[0], host).wanted is wanted


def test_super_pod_membership() -> None:
    assert in_super_pod(a3()) is True
    assert in_super_pod(a3(server=None)) is False
    assert in_super_pod(made(a3(), every(spod=UNPARSED))) is True
    assert in_super_pod(made(a3(server=None), every(spod=UNPARSED))) is False
    assert in_super_pod(made(a3(), every(spod=UNPARSED, vnic=UNPARSED))) is None
    mixed = replace(a3(), devices=(a3().devices[0], a3(server=None).devices[1]))
    assert in_super_pod(mixed) is True
