"""Checks between hosts: rows of hosts with what is changed about one, and the cells that come of it.

Every other cell of these checks must pass or not apply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from ascendctl import facts as f
from ascendctl.checks.across.peers import AcrossCheck
from ascendctl.checks.registry import CLUSTER_CHECKS
from ascendctl.checks.waivers import WaiverRule
from ascendctl.results import CellKey, Result, Status, Subject, SubjectKind
from ascendctl.topology import sdid
from tests.checks.hosts import (
    DENIED,
    FAILED,
    NO_DATA,
    NOT_ASKED,
    NOT_RECEIVED,
    TIMED_OUT,
    TODAY,
    TOOL_MISSING,
    UNPARSED,
    UNSUPPORTED,
    Change,
    a2,
    a3,
    address,
    at,
    bad,
    device,
    every,
    expect,
    judge,
    keep,
    made,
    nic_address,
    not_called,
    ok,
    set_host,
    unreached,
)

PASS, WARN, FAIL = Status.PASS, Status.WARN, Status.FAIL
UNKNOWN, SKIPPED, NA = Status.UNKNOWN, Status.SKIPPED, Status.NOT_APPLICABLE
CHECKS = [one for one in CLUSTER_CHECKS if isinstance(one, AcrossCheck)]
IDS = [check.id for check in CHECKS]
Where = tuple[str, int, int | None]  # check, host (its number), physical id


def a2s(count: int, **kwargs: Any) -> list[f.HostFacts]:
    return [a2(f"node{n:02}", number=n, **kwargs) for n in range(1, count + 1)]


def a3s(count: int, **kwargs: Any) -> list[f.HostFacts]:
    return [a3(f"node{n:02}", server=n, **kwargs) for n in range(1, count + 1)]


def changed(hosts: list[f.HostFacts], number: int, *changes: Change) -> list[f.HostFacts]:
    """The hosts with the one of that number, counted from 1, changed."""
    return [made(host, *changes) if n == number else host for n, host in enumerate(hosts, start=1)]


def system(**values: Any) -> Change:
    return lambda host: replace(host, system=replace(host.system, **values))


def across(hosts: list[f.HostFacts], **kwargs: Any) -> dict[CellKey, Result]:
    cells = judge(*hosts, profile=f.Profile.DEEP, **kwargs)
    return {key: cell for key, cell in cells.items() if key.check in IDS}


def tls(switch: int) -> f.Reading[f.TlsFacts]:
    return ok(f.TlsFacts(switch))


def mtu(size: int) -> f.Reading[f.MtuFacts]:
    return ok(f.MtuFacts(size))


def gateway(text: str) -> f.Reading[f.GatewayFacts]:
    return ok(f.GatewayFacts(text, "eth0"))


def clock(offset_s: float, uncertainty_s: float = 0.01) -> Change:
    return system(clock=ok(f.ClockFacts(offset_s, uncertainty_s)))


def named(text: str) -> Change:
    """Another chip name on every device."""
    return every(name=text)


def in_segment(second_octet: int, netmask: str = "255.255.0.0") -> tuple[Change, ...]:
    """Every port of an A2 host into 10.OCTET, still with its own last octets."""

    def change(host: f.HostFacts) -> f.HostFacts:
        for one in host.devices:
            assert one.ip.value
            *_, third, last = one.ip.value.address.split(".")
            host = address(one.phy_id, f"10.{second_octet}.{third}.{last}", netmask)(host)
        return host

    return (change,)


def in_pod(pod: int, server: int | None = None) -> Change:
    """Another super pod or Server Index for a whole A3 host, with what follows from it."""

    def change(host: f.HostFacts) -> f.HostFacts:
        devices = []
        for one in host.devices:
            assert one.spod.value
            index = one.spod.value.server_index if server is None else server
            spod = replace(
                one.spod.value,
                super_pod_id=pod,
                server_index=index,
                sdid=sdid.encode(index, one.phy_id),
            )
            vnic = f.VnicFacts(f.LinkStatus.UP, sdid.vnic_address(index, one.phy_id), "255.0.0.0")
            devices.append(replace(one, spod=ok(spod), vnic=ok(vnic)))
        return replace(host, devices=tuple(devices))

    return change


@dataclass(frozen=True)
class Row:
    """``cells``: check, host number, device (None = the host) → status, and texts to be found in the cell."""

    id: str
    hosts: list[f.HostFacts]
    cells: dict[Where, tuple[Status, str]]


def row(id: str, hosts: list[f.HostFacts], cells: Mapping[Where, tuple[Status, str]]) -> Row:
    return Row(id, hosts, dict(cells))


def on(check: str, numbers: range, wanted: tuple[Status, str]) -> dict[Where, tuple[Status, str]]:
    return {(check, number, None): wanted for number in numbers}


HALF_ON = tuple(device(phy, tls=tls(1)) for phy in range(4, 8))
OTHER_FIRMWARE = system(firmware_version=ok("7.5.0.2"))
ROUTED = [
    made(host, *in_segment(8 + n), every(gateway=gateway(f"10.{8 + n}.0.1"))) for n, host in enumerate(a2s(4))
]
UNROUTED = [made(host, every(gateway=NO_DATA)) for host in a2s(3)]
LONE_GATEWAY = changed(a2s(4), 2, device(3, gateway=gateway("10.8.0.2")))

ROWS = [
    # --- tls-switch ---
    row(
        "tls-one-host",
        changed(a2s(3), 2, every(tls=tls(1))),
        {("tls-switch", 2, None): (FAIL, "differs from that of the group's other hosts, on devices 0-7")},
    ),
    row(
        "tls-one-device",
        changed(a3s(3), 2, device(5, tls=tls(1))),
        {
            ("tls-switch", 2, 5): (FAIL, "differs from that"),
            ("tls-switch", 2, None): (PASS, "but for device 5"),
        },
    ),
    row(
        "tls-some-devices",
        changed(a2s(3), 2, *HALF_ON),
        {("tls-switch", 2, None): (FAIL, "on devices 4-7")},
    ),
    row(
        "tls-tie",
        changed(a2s(2), 2, every(tls=tls(1))),
        on("tls-switch", range(1, 3), (FAIL, "no majority to judge by")),
    ),
    row(
        "tls-unread-host",
        changed(a2s(3), 3, every(tls=DENIED)),
        {("tls-switch", 3, None): (SKIPPED, "explained by tls")},
    ),
    row(
        "tls-unread-device",
        changed(a2s(3), 3, device(2, tls=UNPARSED)),
        {("tls-switch", 3, 2): (SKIPPED, "explained by tls")},
    ),
    row(
        "tls-not-offered",
        changed(a2s(3), 3, every(tls=UNSUPPORTED)),
        {("tls-switch", 3, None): (NA, "not there to be compared")},
    ),
    row(
        "tls-unread-outlier",
        changed(changed(a2s(3), 3, every(tls=DENIED)), 1, device(0, tls=tls(1))),
        {
            ("tls-switch", 3, None): (SKIPPED, "explained by tls"),
            ("tls-switch", 1, 0): (FAIL, "differs"),
            ("tls-switch", 1, None): (PASS, "but for device 0"),
        },
    ),
    # --- versions-equal ---
    row(
        "driver",
        changed(a2s(3), 2, system(driver_version=ok("24.1.0"))),
        {("versions-equal", 2, None): (FAIL, "the version of driver differs")},
    ),
    row(
        "driver-of-npu-smi",
        changed(
            a2s(3),
            2,
            system(driver_version=NO_DATA),
            set_host(npu_smi=ok(f.NpuSmiInfoFacts("24.1.0", (), ()))),
        ),
        {("versions-equal", 2, None): (FAIL, "the version of driver differs")},
    ),
    row(
        "firmware-tie",
        changed(a2s(2), 2, OTHER_FIRMWARE),
        on(
            "versions-equal",
            range(1, 3),
            (FAIL, "versions of firmware differ in the group, with no majority"),
        ),
    ),
    row(
        "driver-and-firmware",
        changed(a2s(3), 1, OTHER_FIRMWARE, system(driver_version=ok("24.1.0"), firmware_version=ok("7.5"))),
        {("versions-equal", 1, None): (FAIL, "driver and firmware differs")},
    ),
    row(
        "cann-on-some-hosts",
        changed(
            changed(a2s(4), 1, system(cann_version=ok("8.2.RC1"))), 2, system(cann_version=ok("8.2.RC1"))
        ),
        {("versions-equal", 1, None): (PASS, "CANN 8.2.RC1")},
    ),
    row(
        "cann",
        changed(
            [made(host, system(cann_version=ok("8.2.RC1"))) for host in a2s(3)],
            3,
            system(cann_version=ok("8.1")),
        ),
        {("versions-equal", 3, None): (FAIL, "the version of CANN differs")},
    ),
    row(
        "driver-not-read",
        changed(a2s(3), 2, system(driver_version=UNPARSED), set_host(npu_smi=UNPARSED)),
        {("versions-equal", 2, None): (SKIPPED, "explained by versions")},
    ),
    row(
        "firmware-not-read",
        changed(a2s(3), 2, system(firmware_version=UNPARSED)),
        {("versions-equal", 2, None): (UNKNOWN, "line 3 is cut off")},
    ),
    # --- npu-model ---
    row(
        "model",
        changed(a2s(3), 2, named("910B1")),
        {("npu-model", 2, None): (FAIL, "the NPU model differs from that")},
    ),
    row(
        "model-of-one-device",
        changed(a2s(3), 2, device(3, name="910B1")),
        {("npu-model", 2, 3): (FAIL, "differs"), ("npu-model", 2, None): (PASS, "but for device 3")},
    ),
    row(
        "model-tie",
        changed(a2s(2), 2, named("910B1")),
        on("npu-model", range(1, 3), (FAIL, "no majority to judge by")),
    ),
    row("model-spelling", changed(a2s(3), 2, named("Ascend 910B3")), {}),
    row(
        "count",
        [*a2s(3), a2("node04", devices=16, number=4)],
        {("npu-model", 4, None): (FAIL, "the number of devices differs")},
    ),
    row("count-as-stated", [*a2s(3), made(a2("node04", devices=16, number=4), expect(npus=16))], {}),
    row(
        "count-that-fails-by-itself",
        [*a2s(3), a2("node04", devices=7, number=4)],
        {},
    ),
    # --- clock ---
    row("clock-fine", changed(a2s(3), 2, clock(119.0)), {}),
    row(
        "clock-one",
        changed(a2s(3), 2, clock(300.0)),
        {("clock", 2, None): (FAIL, "far from those of the group's other hosts")},
    ),
    row(
        "clock-tie",
        changed(a2s(2), 2, clock(-300.0)),
        on("clock", range(1, 3), (FAIL, "no majority to judge by")),
    ),
    row(
        "clock-both-sides-of-the-middle",
        changed(changed(a2s(3), 1, clock(-70.0)), 3, clock(70.0)),
        {("clock", 1, None): (FAIL, "far"), ("clock", 3, None): (FAIL, "far")},
    ),
    row(
        "clock-not-sure",
        changed(a2s(3), 2, clock(100.0, 30.0)),
        {("clock", 2, None): (UNKNOWN, "cannot be told")},
    ),
    row("clock-sure-enough", changed(a2s(3), 2, clock(80.0, 30.0)), {}),
    row(
        "clock-not-timed",
        changed(a2s(3), 2, system(clock=bad(f.ReadingStatus.NO_DATA, reason="the exchange was not timed"))),
        {("clock", 2, None): (NA, "not timed")},
    ),
    row(
        "clock-unread",
        changed(a2s(3), 2, system(clock=UNPARSED)),
        {("clock", 2, None): (UNKNOWN, "could not be learned")},
    ),
    # --- hostnames ---
    row(
        "hostname-twice",
        changed(a2s(3), 2, system(hostname=ok("node03"))),
        {("hostnames", n, None): (WARN, "another host has the same") for n in (2, 3)},
    ),
    row(
        "hostname-unresolved",
        changed(a2s(3), 2, system(hostname_addresses=NO_DATA)),
        {("hostnames", 2, None): (WARN, "leads to no address")},
    ),
    row(
        "hostname-loopback",
        changed(a2s(3), 2, system(hostname_addresses=ok(("127.0.1.1",)))),
        {("hostnames", 2, None): (WARN, "loopback address only")},
    ),
    row(
        "hostname-loopback-among-others",
        changed(a2s(3), 2, system(hostname_addresses=ok(("::1", nic_address("node02"))))),
        {},
    ),
    row(
        "hostname-elsewhere",
        changed(a2s(3), 2, system(hostname_addresses=ok(("10.77.0.1",)))),
        {("hostnames", 2, None): (WARN, "does not have")},
    ),
    row(
        "hostname-unread",
        changed(a2s(3), 2, system(hostname_addresses=FAILED)),
        {("hostnames", 2, None): (UNKNOWN, "it says: no")},
    ),
    row(
        "hostname-hung",
        changed(a2s(3), 2, system(hostname_addresses=TIMED_OUT)),
        {("hostnames", 2, None): (UNKNOWN, "killed")},
    ),
    row(
        "hostname-without-the-tool",
        changed(a2s(3), 2, system(hostname=TOOL_MISSING, hostname_addresses=TOOL_MISSING)),
        {("hostnames", 2, None): (NA, "no hostname command")},
    ),
    # --- mtu-equal ---
    row(
        "mtu-host",
        changed(a2s(3), 2, every(mtu=mtu(1500))),
        {("mtu-equal", 2, None): (FAIL, "on devices 0-7")},
    ),
    row(
        "mtu-tie",
        changed(a2s(2), 2, every(mtu=mtu(1500))),
        on("mtu-equal", range(1, 3), (FAIL, "no majority to judge by")),
    ),
    row(
        "mtu-that-differs-on-its-host",
        changed(a2s(3), 2, device(4, mtu=mtu(1500))),
        {("mtu-equal", 2, 4): (SKIPPED, "explained by mtu")},
    ),
    row(
        "mtu-of-a-port-that-is-down",
        changed(a2s(3), 2, device(4, link=ok(f.LinkFacts(f.LinkStatus.DOWN)), mtu=mtu(1500))),
        {("mtu-equal", 2, 4): (SKIPPED, "explained by link")},
    ),
    row(
        "mtu-unread",
        changed(a2s(3), 2, every(mtu=FAILED)),
        {("mtu-equal", 2, None): (SKIPPED, "explained by mtu")},
    ),
    # --- segments ---
    row("segments-routed", ROUTED, {}),
    row(
        "segments-elsewhere-without-gateway",
        changed(UNROUTED, 2, *in_segment(9)),
        {
            ("segments", 2, None): (
                FAIL,
                "no way leads from the port to the rail's other ports, on devices 0-7",
            )
        },
    ),
    row(
        "segments-gateway-on-one-side",
        changed(UNROUTED, 2, *in_segment(9), every(gateway=gateway("10.9.0.1"))),
        {("segments", 2, None): (FAIL, "no way leads")},
    ),
    row(
        "segments-tie",
        changed(UNROUTED[:2], 2, *in_segment(9)),
        on("segments", range(1, 3), (FAIL, "no majority to judge by")),
    ),
    row(
        "segments-netmask",
        changed(a2s(3), 2, *in_segment(8, "255.255.255.0"), every(gateway=gateway("10.8.2.1"))),
        {("segments", 2, None): (FAIL, "the netmask is another")},
    ),
    row(
        "segments-netmask-tie",
        changed(a2s(2), 2, *in_segment(8, "255.255.255.0"), every(gateway=gateway("10.8.2.1"))),
        on("segments", range(1, 3), (FAIL, "the netmask is another")),
    ),
    row(
        "segments-that-the-host-itself-shows",
        changed(UNROUTED, 2, address(3, "10.9.0.7")),
        {("segments", 2, 3): (SKIPPED, "explained by address")},
    ),
    row(
        "segments-of-one-rail-of-a3",
        changed([made(h, every(gateway=NO_DATA)) for h in a3s(3)], 2, address(4, "10.77.0.1")),
        {
            ("segments", 2, 4): (FAIL, "no way leads from the port"),
            ("segments", 2, None): (PASS, "but for device 4"),
        },
    ),
    row(
        "segments-unread-gateway",
        changed(a2s(3), 2, device(1, gateway=UNPARSED)),
        {
            ("segments", 2, 1): (SKIPPED, "explained by gateway"),
            ("gateways-equal", 2, 1): (SKIPPED, "explained by gateway"),
        },
    ),
    # --- gateways-equal ---
    row(
        "gateway-of-one-port",
        LONE_GATEWAY,
        {
            ("gateways-equal", 2, 3): (WARN, "differs from that of the segment's other ports"),
            ("gateways-equal", 2, None): (PASS, "but for device 3"),
        },
    ),
    row(
        "gateway-of-one-host-where-it-is-needed",
        changed(
            [*a2s(3), made(a2("node04", number=4), *in_segment(9), every(gateway=gateway("10.9.0.1")))],
            1,
            every(gateway=gateway("10.8.0.2")),
        ),
        {("gateways-equal", 1, None): (FAIL, "on devices 0-7")},
    ),
    row(
        "gateway-tie",
        changed(a2s(2), 2, every(gateway=gateway("10.8.0.2"))),
        on("gateways-equal", range(1, 3), (WARN, "no majority to judge by")),
    ),
    row(
        "gateway-wrong-by-itself",
        changed(a2s(3), 2, device(3, gateway=gateway("10.99.0.1"))),
        {
            ("gateways-equal", 2, 3): (SKIPPED, "explained by gateway"),
            ("segments", 2, 3): (SKIPPED, "explained by gateway"),
        },
    ),
    # --- gateway, as far as other hosts matter ---
    row(
        "no-gateway-and-one-port-astray",
        changed(UNROUTED, 2, address(3, "10.9.2.23")),
        {
            ("segments", 2, 3): (SKIPPED, "explained by address"),
            ("gateways-equal", 1, None): (NA, "is not there to be compared"),
        },
    ),
    row(
        "no-gateway-and-one-host-astray",
        changed(UNROUTED, 2, *in_segment(9)),
        {("segments", 2, None): (FAIL, "no way leads from the port")},
    ),
    # --- duplicate-address ---
    row(
        "address-of-another-host's-segment",
        changed(ROUTED, 2, address(3, "10.10.3.24")),
        {
            ("duplicate-address", 2, 3): (SKIPPED, "explained by address"),
            ("duplicate-address", 3, 4): (SKIPPED, "explained by address of device 3"),
            ("segments", 2, 3): (SKIPPED, "explained by address"),
            ("gateways-equal", 2, 3): (SKIPPED, "explained by address"),
        },
    ),
    row(
        "address-of-two-good-ports-and-one-astray",
        [
            *changed(ROUTED, 2, address(3, "10.10.3.24")),
            made(a2("node05", number=3), *in_segment(10), every(gateway=gateway("10.10.0.1"))),
        ],
        {
            ("duplicate-address", 3, None): (FAIL, "on devices 0-7"),
            ("duplicate-address", 5, None): (FAIL, "on devices 0-7"),
            ("duplicate-address", 2, 3): (SKIPPED, "explained by address"),
            ("segments", 2, 3): (SKIPPED, "explained by address"),
            ("gateways-equal", 2, 3): (SKIPPED, "explained by address"),
        },
    ),
    row(
        "port-address-twice",
        changed(a2s(3), 2, address(3, "10.8.3.21")),
        {
            ("duplicate-address", 2, 3): (FAIL, "a port of another host has the same address"),
            ("duplicate-address", 3, 1): (FAIL, "a port of another host has the same address"),
        },
    ),
    row(
        "all-port-addresses-twice",
        [*a2s(3), a2("node04", number=3)],
        {
            ("duplicate-address", n, None): (
                FAIL,
                "ports of other hosts have the same addresses, on devices 0-7",
            )
            for n in (3, 4)
        },
    ),
    row(
        "nic-address-twice",
        changed(
            a2s(3),
            2,
            system(
                addresses=ok((f.HostAddress("eth0", nic_address("node03"), 16),)),
                hostname_addresses=ok((nic_address("node03"),)),
            ),
        ),
        {("duplicate-address", n, None): (FAIL, "another host has addresses of this host") for n in (2, 3)},
    ),
    row(
        "container-bridges",
        [
            made(
                host,
                system(
                    addresses=ok(
                        (
                            f.HostAddress("eth0", nic_address(host.host), 16),
                            f.HostAddress("docker0", "172.17.0.1", 16),
                            f.HostAddress("bmc0", "192.168.99.1", 24),
                            f.HostAddress("eth0", "fe80::1", 64),
                        )
                    )
                ),
            )
            for host in a2s(3)
        ],
        {},
    ),
    row(
        "container-bridge-of-two-hosts",
        [
            made(
                host,
                system(
                    addresses=ok(
                        (
                            f.HostAddress("eth0", nic_address(host.host), 16),
                            f.HostAddress("docker0", "172.17.0.1", 16),
                        )
                    )
                ),
            )
            for host in a2s(2)
        ],
        {},
    ),
    row(
        "port-address-unread",
        changed(a2s(3), 2, device(3, ip=UNPARSED)),
        {
            ("duplicate-address", 2, 3): (SKIPPED, "explained by address"),
            ("segments", 2, 3): (SKIPPED, "explained by address"),
            ("gateways-equal", 2, 3): (SKIPPED, "explained by address"),
        },
    ),
    row(
        "nic-addresses-unread",
        changed(a2s(3), 2, system(addresses=UNPARSED)),
        {("duplicate-address", 2, None): (UNKNOWN, "NICs could not be learned")},
    ),
    row(
        "nic-addresses-without-ip",
        changed(a2s(3), 2, system(addresses=TOOL_MISSING)),
        {("duplicate-address", 2, None): (PASS, "no ip command")},
    ),
    # --- super-pods ---
    row(
        "server-index-twice",
        changed(a3s(3, roce=False), 2, in_pod(0, server=3)),
        {("super-pods", n, None): (FAIL, "has the same Server Index") for n in (2, 3)},
    ),
    row("server-index-twice-in-two-pods", changed(a3s(2), 2, in_pod(1, server=1)), {}),
    row(
        "sdid-of-another-host",
        changed(
            a3s(3, roce=False),
            2,
            device(
                5,
                spod=ok(f.SpodFacts(sdid.encode(3, 5), 384, 0, 3)),
                vnic=ok(f.VnicFacts(f.LinkStatus.UP, sdid.vnic_address(3, 5), "255.0.0.0")),
            ),
        ),
        {("super-pods", 3, 5): (SKIPPED, "explained by spod-info")},
    ),
    row("two-pods-over-roce", changed(changed(a3s(4), 3, in_pod(1)), 4, in_pod(1)), {}),
    row(
        "alone-in-a-pod-over-roce",
        changed(a3s(4), 4, in_pod(1)),
        {("super-pods", 4, None): (WARN, "its Server Index is free in the group's largest pod")},
    ),
    row("a-pod-of-one-host-over-roce", changed(a3s(4), 4, in_pod(1, server=2)), {}),
    row(
        "another-pod-without-roce",
        changed(a3s(4, roce=False), 4, in_pod(1)),
        {("super-pods", 4, None): (FAIL, "in another super pod than its group, without RoCE")},
    ),
    row(
        "two-pods-without-roce",
        changed(a3s(2, roce=False), 2, in_pod(1)),
        on("super-pods", range(1, 3), (FAIL, "of which none has most")),
    ),
    row(
        "super-pod-unread",
        changed(a3s(3), 2, every(spod=FAILED)),
        {("super-pods", 2, None): (SKIPPED, "explained by spod-info")},
    ),
]


def where(hosts: list[f.HostFacts], place: Where) -> CellKey:
    check, number, phy = place
    return at(check, hosts[number - 1], phy)


@pytest.mark.parametrize("wanted", [pytest.param(one, id=one.id) for one in ROWS])
def test_row(wanted: Row) -> None:
    cells = across(wanted.hosts)
    expected = {where(wanted.hosts, place): wish for place, wish in wanted.cells.items()}
    for key, (status, text) in expected.items():
        assert (cells[key].status, text in cells[key].message) == (status, True), cells[key]
    others = {key: cell.message for key, cell in cells.items() if key not in expected}
    found = {key: others[key] for key in others if cells[key].status not in (PASS, NA)}
    assert found == {}


@pytest.mark.parametrize("wanted", [pytest.param(one, id=one.id) for one in ROWS])
def test_findings_are_complete_and_fold_over_hosts(wanted: Row) -> None:
    for cell in across(wanted.hosts).values():
        assert "node" not in cell.message, cell
        if cell.status in (FAIL, WARN):
            assert cell.expected and cell.actual and cell.consequence and cell.remedy, cell
            assert cell.command == "a command", cell
            assert cell.check == "hostnames" or "EI0" in cell.consequence, cell
        if cell.status is FAIL or (cell.status is WARN and cell.check != "hostnames"):
            assert "[on node" in cell.evidence, cell  # the other side
        if cell.status is UNKNOWN:
            assert cell.remedy, cell
        if cell.status is SKIPPED:
            assert cell.caused_by is not None


# --- who is compared with whom --------------------------------------------------------------------------


def test_a_tie_between_more_than_two_accuses_all_of_them() -> None:
    hosts = a2s(4)
    for number in (3, 4):
        hosts = changed(hosts, number, every(tls=tls(1)))
    cells = across(hosts)
    found = [cells[at("tls-switch", host)] for host in hosts]
    assert [cell.status for cell in found] == [FAIL] * 4
    assert "16 devices have 0, 16 devices have 1" in found[0].expected
    assert "[on node03 device 0: a command]" in found[0].evidence
    assert "[on node01 device 0: a command]" in found[3].evidence


@pytest.mark.parametrize("check", IDS)
def test_a_host_alone_has_nothing_to_compare(check: str) -> None:
    for host in (a2(), a3(), a3(roce=False)):
        cells = [cell for key, cell in across([host]).items() if key.check == check]
        assert [(cell.status, cell.subject.kind.value) for cell in cells] == [(NA, "host")]
        assert "no other host" in cells[0].message


@pytest.mark.parametrize("check", IDS)
@pytest.mark.parametrize("count", [2, 3])
def test_hosts_that_were_not_reached_do_not_vote_and_are_not_green(check: str, count: int) -> None:
    hosts = [*a3s(count), unreached("node08"), unreached("node09")]
    cells = across(hosts)
    for name in ("node08", "node09"):
        lost = cells[at(check, name)]
        assert (lost.status, lost.caused_by) == (SKIPPED, at("reachable", name))
        assert not lost.evaluated
    assert cells[at(check, "node01")].status is PASS


@pytest.mark.parametrize("check", sorted(set(IDS) - {"clock", "hostnames"}))
def test_a_host_whose_peers_were_not_reached_has_nothing_to_compare(check: str) -> None:
    cells = across([a3("node01"), unreached("node02"), unreached("node03")])
    assert cells[at(check, "node01")].status is NA
    assert "no other host could be read" in cells[at(check, "node01")].message
    assert cells[at(check, "node03")].status is SKIPPED


@pytest.mark.parametrize("check", IDS)
@pytest.mark.parametrize("kind", [f.Accelerator.NVIDIA, f.Accelerator.CPU])
def test_hosts_without_npus_take_no_part(check: str, kind: f.Accelerator) -> None:
    other = made(unreached("gpu01"), set_host(accelerator=kind, reach=f.Reach(f.ReachStatus.REACHED)))
    cells = across([*a2s(2), other])
    assert cells[at(check, "gpu01")].status is NA
    assert kind.value.upper() in cells[at(check, "gpu01")].message
    alone = across([a2("node01"), other])
    assert alone[at(check, "node01")].status is NA
    assert "no other host" in alone[at(check, "node01")].message


def test_a_host_whose_devices_are_not_known_is_explained_by_its_mapping() -> None:
    hosts = [*a2s(2), made(a2("node03", number=3), set_host(devices=(), mapping=UNPARSED))]
    cells = across(hosts)
    for check in ("tls-switch", "npu-model", "mtu-equal", "segments", "gateways-equal", "super-pods"):
        cell = cells[at(check, "node03")]
        assert (cell.status, cell.caused_by) == (SKIPPED, at("npu-mapping", "node03")), check


def test_a_lost_connection_is_the_root_of_what_could_not_be_compared() -> None:
    """The cause of a cause of an earlier check, not a link of the chain."""
    late = dict.fromkeys(("tls", "gateway", "mtu"), NOT_RECEIVED)
    lost = made(a2("node03", number=3), every(**late), set_host(reach=f.Reach(f.ReachStatus.LOST)))
    cells = across([*a2s(2), lost])
    for check in ("tls-switch", "segments", "gateways-equal", "mtu-equal"):
        assert cells[at(check, "node03")].caused_by == at("reachable", "node03"), check


def test_a_command_that_hung_is_the_root_of_what_was_not_compared_after_it() -> None:
    blocked = not_called("lldp", 5)
    hosts = changed(
        a2s(3), 2, device(5, lldp=TIMED_OUT, tls=blocked), *(device(n, tls=blocked) for n in (6, 7))
    )
    cells = across(hosts)
    for phy in (5, 6, 7):
        assert cells[at("tls-switch", hosts[1], phy)].caused_by == at("lldp", hosts[1], 5)
    assert cells[at("tls-switch", "node02")].status is PASS


def test_groups_are_judged_by_their_own_majority() -> None:
    one = [made(host, expect(group="prefill")) for host in a2s(2)]
    two = [
        made(a2(f"node{n:02}", number=n), expect(group="decode"), every(tls=tls(1), mtu=mtu(1500)))
        for n in (3, 4, 5)
    ]
    cells = across([*one, *two])
    findings = {key: cell for key, cell in cells.items() if cell.status not in (PASS, NA)}
    assert list(findings) == [CellKey("tls-switch", Subject(SubjectKind.CLUSTER))]
    between = next(iter(findings.values()))
    assert (between.status, between.actual) == (WARN, "prefill: 0, decode: 1")
    assert "EI0016" in between.consequence and between.evidence
    same = across([*one, *(made(host, every(tls=tls(0))) for host in two)])
    assert same[next(iter(findings))].status is PASS


def test_one_host_per_group_is_not_compared_over_groups() -> None:
    hosts = [made(host, expect(group=name)) for host, name in zip(a2s(2), ("one", "two"), strict=True)]
    cells = across(changed(hosts, 2, system(driver_version=ok("24.1.0"))))
    assert "no other host in group one" in cells[at("versions-equal", "node01")].message
    assert cells[at("duplicate-address", "node01")].status is PASS  # addresses know no groups


def test_generations_in_one_group() -> None:
    """A2 and A3 hosts of one group are one finding; what is right for each is not compared between them."""
    newer = [made(a3(f"new{n}", server=n), system(driver_version=ok("25.5.0"))) for n in range(2)]
    cells = across([*a2s(5), *newer])
    findings = {key.subject.host: cell for key, cell in cells.items() if cell.status not in (PASS, NA)}
    assert {cell.check for cell in findings.values()} == {"npu-model"}
    assert set(findings) == {"new0", "new1"}
    lone = across([*a2s(3), newer[0]])
    assert "no other A3 host" in lone[at("versions-equal", "new0")].message


@pytest.mark.parametrize(
    ("driver", "wanted", "other"),
    [
        pytest.param("25.2.0", "EI0016", "EI0006", id="25.2"),
        pytest.param("25.10.1", "EI0016", "EI0006", id="25.10"),
        pytest.param("25.0.rc1", "EI0006", "EI0016", id="25.0"),
    ],
)
def test_an_unequal_tls_switch_names_the_error_that_this_driver_gives(
    driver: str, wanted: str, other: str
) -> None:
    hosts = [made(host, system(driver_version=ok(driver))) for host in a2s(3)]
    cell = across(changed(hosts, 3, every(tls=tls(1))))[at("tls-switch", "node03")]
    assert wanted in cell.consequence
    assert other not in cell.consequence
    assert "hccn_tool -i N -tls -s enable 0" in cell.remedy


def test_a_failure_between_hosts_can_be_waived() -> None:
    waiver = WaiverRule("tls-switch", frozenset({"node02"}), None, TODAY, "being changed")
    cells = across(changed(a2s(3), 2, every(tls=tls(1))), waivers=[waiver])
    assert cells[at("tls-switch", "node02")].status is Status.WAIVED


def test_every_host_has_a_cell_of_every_check() -> None:
    hosts = [*a2s(2), *(replace(host, host=f"new{n}") for n, host in enumerate(a3s(2))), unreached("gone")]
    cells = across(hosts)
    for host in hosts:
        assert {key.check for key in cells if key.subject.host == host.host} == set(IDS)


@pytest.mark.parametrize(
    "hosts",
    [
        pytest.param(a2s(2), id="a2-2"),
        pytest.param(a2s(48), id="a2-48"),
        pytest.param(a2s(5, devices=16), id="box16"),
        pytest.param(a3s(2), id="a3-2"),
        pytest.param(a3s(47), id="a3-47"),
        pytest.param(a3s(5, roce=False), id="a3-hccs"),
        pytest.param([a3(f"node{n:02}", server=None) for n in (1,)], id="a3-alone"),
    ],
)
def test_a_clean_cluster_has_no_finding(hosts: list[f.HostFacts]) -> None:
    assert {cell.status for cell in across(hosts).values()} <= {PASS, NA}


def gateways(hosts: list[f.HostFacts]) -> set[tuple[str, int]]:
    """The ports that are warned of for want of a gateway."""
    cells = judge(*hosts)
    return {
        (cell.subject.host or "", cell.subject.device or 0)
        for cell in cells.values()
        if cell.check == "gateway" and cell.status is WARN and "no gateway is set" in cell.message
    }


def test_a_port_out_of_place_is_no_reason_for_the_others_to_have_a_gateway() -> None:
    """One by its host's other ports, one by its netmask, a whole host by the rails."""
    everywhere = {(host.host, phy) for host in UNROUTED for phy in range(8)}
    assert gateways(UNROUTED) == set()
    assert gateways(changed(UNROUTED, 2, address(3, "10.9.2.23"))) == set()
    assert gateways(changed(UNROUTED[:2], 2, address(3, "10.9.2.23"))) == set()
    assert gateways(changed(UNROUTED, 2, address(3, "10.8.2.23", "255.255.255.0"))) == set()
    assert gateways(changed(UNROUTED, 2, *in_segment(9))) == {("node02", phy) for phy in range(8)}
    # Where neither side is the odd one, or groups are planned apart, each lacks the way to the other.
    assert gateways(changed(UNROUTED[:2], 2, *in_segment(9))) == {
        one for one in everywhere if one[0] != "node03"
    }
    assert gateways(changed(UNROUTED, 2, *in_segment(9), expect(group="other"))) == everywhere


def test_a_port_without_a_gateway_among_others_that_are_routed_lacks_the_way() -> None:
    assert gateways(ROUTED) == set()
    assert gateways(changed(ROUTED, 2, device(3, gateway=NO_DATA))) == {("node02", 3)}


def test_the_dies_of_a3_in_two_planes_are_no_reason_against_each_other_by_their_host() -> None:
    """Each plane is a segment that others are in by plan."""
    hosts = [made(host, every(gateway=NO_DATA)) for host in a3s(2)]
    assert len(gateways(hosts)) == 32


# --- the MTU, where the live one was not asked ----------------------------------------------------


def kept_mtu(size: int | None) -> Change:
    """What the standard profile knows of the MTUs of an A2 host: what /etc/hccn.conf sets."""

    def change(host: f.HostFacts) -> f.HostFacts:
        return made(host, every(mtu=NOT_ASKED), *(keep(phy, mtu_bytes=size) for phy in range(8)))

    return change


def mtus(*hosts: f.HostFacts) -> dict[CellKey, Result]:
    cells = judge(*hosts)
    return {key: cell for key, cell in cells.items() if key.check == "mtu-equal"}


def test_the_standard_profile_compares_the_mtu_that_the_file_sets() -> None:
    hosts = [made(host, kept_mtu(4200)) for host in a2s(3)]
    assert {cell.status for cell in mtus(*hosts).values()} == {PASS}
    cells = mtus(*changed(hosts, 2, keep(5, mtu_bytes=1500)))
    cell = cells[at("mtu-equal", hosts[1], 5)]
    assert (cell.status, cell.expected) == (FAIL, "4200 bytes")
    assert cell.actual == "1500 bytes in /etc/hccn.conf"
    assert [one.status for one in cells.values()].count(FAIL) == 1


def test_a_file_that_sets_no_mtu_says_nothing_and_one_that_is_unread_is_not_green() -> None:
    hosts = [made(host, kept_mtu(None)) for host in a2s(3)]
    assert {cell.status for cell in mtus(*hosts).values()} == {NA}
    assert {cell.status for cell in mtus(*changed(hosts, 2, set_host(hccn_conf=NO_DATA))).values()} == {NA}
    hosts = [made(host, kept_mtu(4200)) for host in a2s(3)]
    cells = mtus(*changed(hosts, 2, set_host(hccn_conf=UNPARSED)))
    unread = cells[at("mtu-equal", "node02")]
    assert unread.status is SKIPPED and not unread.evaluated
    assert unread.caused_by == at("hccn-conf", "node02")


def test_a_live_mtu_outranks_the_file() -> None:
    hosts = [made(host, *(keep(phy, mtu_bytes=1500) for phy in range(8))) for host in a2s(2)]
    hosts.append(made(a2("node03", number=3), kept_mtu(4200)))
    assert {cell.status for cell in across(hosts).values() if cell.check == "mtu-equal"} == {PASS}
    hung = changed(hosts, 1, every(mtu=TIMED_OUT))
    assert across(hung)[at("mtu-equal", "node01")].status is SKIPPED
