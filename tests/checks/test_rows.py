"""Rows: a healthy host, what is changed about it, and the cells that must not be good then.

Every other cell of the host must stay as it was on the healthy one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import pytest

from ascendctl import facts as f
from ascendctl.checks.across.cabling import Cabling
from ascendctl.checks.across.peers import AcrossCheck
from ascendctl.checks.registry import CLUSTER_CHECKS
from ascendctl.facts import NetHealth, NpuHealth
from ascendctl.results import Status
from tests.checks.hosts import (
    BUSY,
    DENIED,
    FAILED,
    NO_DATA,
    TIMED_OUT,
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
    not_called,
    ok,
    set_host,
)

FAIL, WARN, UNKNOWN, SKIPPED = Status.FAIL, Status.WARN, Status.UNKNOWN, Status.SKIPPED
NA, PASS = Status.NOT_APPLICABLE, Status.PASS


@dataclass(frozen=True)
class Row:
    """``cells``: check, device (None = host) → status, and a part of the message to be found."""

    id: str
    host: f.HostFacts
    changes: tuple[Change, ...]
    cells: dict[tuple[str, int | None], tuple[Status, str]]


def row(id: str, host: f.HostFacts, *changes: Change, **cells: tuple[Status, str]) -> Row:
    """``cells`` as ``check_name__device``: underscores are hyphens, no device = the host."""
    keys = {}
    for name, wanted in cells.items():
        check, _, phy = name.partition("__")
        keys[check.replace("_", "-"), int(phy) if phy else None] = wanted
    return Row(id, host, changes, keys)


def on_all(check: str, host: f.HostFacts, wanted: tuple[Status, str]) -> dict[str, tuple[Status, str]]:
    return {f"{check}__{d.phy_id}": wanted for d in host.devices}


def chips(*numbers: int) -> f.Reading[f.MappingFacts]:
    return ok(f.MappingFacts(tuple(f.ChipId(n, 0, n, None, "Ascend 910B3") for n in numbers)))


def health(word: NpuHealth, *codes: str) -> f.Reading[f.HealthFacts]:
    return ok(f.HealthFacts(word, codes, tuple(f"text of {code}" for code in codes)))


def net_health(word: NetHealth) -> Change:
    return device(3, net_health=ok(f.NetHealthFacts(word)))


def table_word(npu: int, word: NpuHealth) -> Change:
    def change(host: f.HostFacts) -> f.HostFacts:
        assert host.npu_smi.value
        rows = tuple(replace(r, health=word) if r.npu_id == npu else r for r in host.npu_smi.value.devices)
        return replace(host, npu_smi=ok(replace(host.npu_smi.value, devices=rows)))

    return change


def table_without(npu: int) -> Change:
    def change(host: f.HostFacts) -> f.HostFacts:
        assert host.npu_smi.value
        rows = tuple(r for r in host.npu_smi.value.devices if r.npu_id != npu)
        return replace(host, npu_smi=ok(replace(host.npu_smi.value, devices=rows)))

    return change


def topo_cell(one: int, other: int, word: str) -> Change:
    def change(host: f.HostFacts) -> f.HostFacts:
        assert host.topo.value
        cells = [list(r) for r in host.topo.value.cells]
        cells[one][other] = word
        return replace(host, topo=ok(replace(host.topo.value, cells=tuple(map(tuple, cells)))))

    return change


def all_topo(word: str) -> Change:
    def change(host: f.HostFacts) -> f.HostFacts:
        assert host.topo.value
        ids = host.topo.value.ids
        cells = tuple(tuple("X" if i == j else word for j in ids) for i in ids)
        return replace(host, topo=ok(f.TopoFacts(ids, cells)))

    return change


def hccs(health: str = "OK", mode: int = 4, lanes: str = "1111") -> f.Reading[f.HccsFacts]:
    return ok(f.HccsFacts(health, (4,) * 6 + (mode,), ("1111",) * 6 + (lanes,), (224,) * 7))


def every_mask(netmask: str) -> Change:
    def change(host: f.HostFacts) -> f.HostFacts:
        devices = tuple(
            replace(d, ip=ok(f.AddressFacts(d.ip.value.address, netmask))) for d in host.devices if d.ip.value
        )
        return replace(host, devices=devices)

    return change


def vnic(text: str, status: f.LinkStatus = f.LinkStatus.UP) -> f.Reading[f.VnicFacts]:
    return ok(f.VnicFacts(status, text, "255.255.255.0"))


def spod(sdid: int, server: int, pod: int = 0, size: int = 384) -> f.Reading[f.SpodFacts]:
    return ok(f.SpodFacts(sdid, size, pod, server))


def some_links(count: int, speed: int = 224) -> f.Reading[f.HccsFacts]:
    return ok(f.HccsFacts("OK", (4,) * count, ("1111",) * count, (224,) * (count - 1) + (speed,)))


def table_phy(npu: int, chip: int, phy: int) -> Change:
    """The Phy-ID column of npu-smi info says something else."""

    def change(host: f.HostFacts) -> f.HostFacts:
        assert host.npu_smi.value
        rows = tuple(
            replace(r, phy_id=phy) if (r.npu_id, r.chip_id) == (npu, chip) else r
            for r in host.npu_smi.value.devices
        )
        return replace(host, npu_smi=ok(replace(host.npu_smi.value, devices=rows)))

    return change


def only_devices(*numbers: int) -> Change:
    """Only these devices of the host are there, under the ids that they had."""

    def change(host: f.HostFacts) -> f.HostFacts:
        assert host.mapping.value and host.npu_smi.value and host.topo.value
        mapping = tuple(c for c in host.mapping.value.chips if c.npu_id in numbers)
        rows = tuple(r for r in host.npu_smi.value.devices if r.npu_id in numbers)
        matrix = host.topo.value
        cells = tuple(tuple(matrix.cells[i][j] for j in numbers) for i in numbers)
        return replace(
            host,
            devices=tuple(d for d in host.devices if d.npu_id in numbers),
            mapping=ok(f.MappingFacts(mapping)),
            npu_smi=ok(replace(host.npu_smi.value, devices=rows)),
            topo=ok(f.TopoFacts(numbers, cells)),
        )

    return change


def not_kept(**values: str | None) -> Change:
    """Change what /etc/hccn.conf says of every device."""
    return lambda host: made(host, *(keep(d.phy_id, **values) for d in host.devices))


def tools(**paths: str | None) -> Change:
    found = {"hccn_tool": "/usr/bin/hccn_tool", "npu-smi": "/usr/bin/npu-smi"}
    found.update({name.replace("npu_smi", "npu-smi"): path for name, path in paths.items()})
    return set_host(tools={name: f.ToolFacts(name, path) for name, path in found.items()})


def versions(driver: f.Reading[str]) -> Change:
    return set_host(system=f.SystemFacts(driver_version=driver))


A2, A3, A3_HCCS = a2(), a3(), a3(roce=False)
A3_ALONE = a3(server=None)
BOX16 = a2(devices=16)
PAIR = a2(devices=2)
DOWN = ok(f.LinkFacts(f.LinkStatus.DOWN))
HCCN_READINGS = ("link", "net_health", "ip", "netdetect", "gateway", "lldp", "vnic", "tls")
PORT_CHECKS = ("net_health", "address", "netdetect", "gateway", "lldp", "vnic", "tls", "hccn_conf")
LIBRARIES = bad(
    f.ReadingStatus.FAILED, exit_code=127, evidence="npu-smi: error while loading shared libraries: libx.so"
)


def own_sdid(phy: int) -> int:
    """The SDID of a device of the A3 host here, which is server 7 of its super pod."""
    return 7 << 22 | phy // 2 << 18 | phy % 2 << 16 | phy


SDID_DEV4 = own_sdid(4)

ROWS = [
    # link
    row(
        "link-down",
        A2,
        device(3, link=DOWN),
        link__3=(FAIL, "DOWN"),
        net_health__3=(SKIPPED, "link"),
        lldp__3=(SKIPPED, "link"),
    ),
    row(
        "link-down-and-net-health-fault",
        A2,
        device(3, link=DOWN, net_health=ok(f.NetHealthFacts(NetHealth.FAULT)), lldp=FAILED),
        link__3=(FAIL, "DOWN"),
        net_health__3=(SKIPPED, "link"),
        lldp__3=(SKIPPED, "link"),
    ),
    row("a3-hccs-only-link-down", A3_HCCS, every(link=DOWN)),
    row(
        "a3-address-set-link-down",
        A3,
        device(5, link=DOWN),
        link__5=(FAIL, "DOWN"),
        net_health__5=(SKIPPED, "link"),
        lldp__5=(SKIPPED, "link"),
    ),
    row(
        "a3-address-not-known-link-down",
        A3,
        device(5, link=DOWN, ip=UNPARSED),
        link__5=(UNKNOWN, "cannot be told"),
        address__5=(UNKNOWN, "line 3"),
        gateway__5=(SKIPPED, "address"),
        hccn_conf__5=(SKIPPED, "address"),
    ),
    row(
        "a3-every-address-lost",
        A3,
        every(ip=NO_DATA),
        **on_all("address", A3, (FAIL, "no address")),
        **on_all("gateway", A3, (SKIPPED, "address")),
        **on_all("hccn_conf", A3, (SKIPPED, "address")),
    ),
    row(
        "a3-every-address-lost-and-links-down",
        A3,
        every(ip=NO_DATA, link=DOWN, netdetect=NO_DATA, gateway=NO_DATA),
        **on_all("link", A3, (FAIL, "DOWN")),
        **on_all("net_health", A3, (SKIPPED, "link")),
        **on_all("lldp", A3, (SKIPPED, "link")),
        **on_all("address", A3, (FAIL, "no address")),
        **on_all("gateway", A3, (SKIPPED, "address")),
        **on_all("netdetect", A3, (WARN, "no detect")),
        **on_all("hccn_conf", A3, (SKIPPED, "address")),
    ),
    row(
        "a3-plan-not-known",
        A3_HCCS,
        set_host(hccn_conf=UNPARSED),
        device(2, link=DOWN, net_health=ok(f.NetHealthFacts(NetHealth.INIT))),
        hccn_conf=(UNKNOWN, "line 3"),
        **{
            key: value
            for check in ("address", "gateway", "netdetect", "hccn_conf")
            for key, value in on_all(check, A3_HCCS, (SKIPPED, "line 3")).items()
        },
        **{
            key: value
            for check in ("link", "net_health", "lldp")
            for key, value in on_all(check, A3_HCCS, (PASS, "")).items()
        }
        | {"link__2": (SKIPPED, "line 3"), "net_health__2": (SKIPPED, "line 3")},
    ),
    row("link-unparsed", A2, device(0, link=UNPARSED), link__0=(UNKNOWN, "line 3")),
    row("link-busy", A2, device(0, link=BUSY), link__0=(UNKNOWN, "busy")),
    row("link-unsupported", A2, device(0, link=UNSUPPORTED), link__0=(UNKNOWN, "must offer")),
    row(
        "net-health-unsupported", A2, device(0, net_health=UNSUPPORTED), net_health__0=(UNKNOWN, "must offer")
    ),
    row(
        "ip-unsupported",
        A2,
        device(0, ip=UNSUPPORTED),
        address__0=(UNKNOWN, "must offer"),
        gateway__0=(SKIPPED, "address"),
        hccn_conf__0=(SKIPPED, "address"),
    ),
    row("a3-link-unsupported", A3, device(0, link=UNSUPPORTED), link__0=(UNKNOWN, "must offer")),
    row("tls-unsupported", A2, device(0, tls=UNSUPPORTED), tls__0=(NA, "not offered")),
    row(
        "ports-unsupported-where-none-is-used",
        A3_HCCS,
        every(link=UNSUPPORTED, net_health=UNSUPPORTED),
    ),
    row("link-denied", A2, device(0, link=DENIED), link__0=(UNKNOWN, "only root")),
    # net_health: the whole enumeration
    row("init", A2, net_health(NetHealth.INIT), net_health__3=(WARN, "never measured")),
    row("detect-ip-set", A2, net_health(NetHealth.DETECT_IP_SET), net_health__3=(UNKNOWN, "just set")),
    row("socket-fail", A2, net_health(NetHealth.SOCKET_FAIL), net_health__3=(FAIL, "socket")),
    row("receive-timeout", A2, net_health(NetHealth.RECEIVE_TIMEOUT), net_health__3=(FAIL, "not reply")),
    row("unreachable", A2, net_health(NetHealth.UNREACHABLE), net_health__3=(FAIL, "cannot be reached")),
    row("time-exceeded", A2, net_health(NetHealth.TIME_EXCEEDED), net_health__3=(FAIL, "circle")),
    row("fault", A2, net_health(NetHealth.FAULT), net_health__3=(FAIL, "at fault")),
    row("thread-error", A2, net_health(NetHealth.THREAD_ERROR), net_health__3=(UNKNOWN, "itself failed")),
    row("net-health-unknown", A2, net_health(NetHealth.UNKNOWN), net_health__3=(UNKNOWN, "does not know")),
    # lldp
    row("no-lldp", A2, device(1, lldp=NO_DATA), lldp__1=(WARN, "no LLDP neighbour")),
    row(
        "lldp-empty",
        A2,
        device(1, lldp=ok(f.LldpFacts(None, None, None, "text only"))),
        lldp__1=(WARN, "no LLDP neighbour"),
    ),
    # netdetect
    row(
        "no-netdetect",
        A2,
        device(1, netdetect=NO_DATA),
        keep(1, netdetect=None),
        netdetect__1=(WARN, "no detect address"),
    ),
    row(
        "netdetect-kept-but-not-set",
        A2,
        device(1, netdetect=NO_DATA),
        netdetect__1=(WARN, "no detect address"),
        hccn_conf__1=(FAIL, "netdetect in /etc/hccn.conf is not set live"),
    ),
    row(
        "no-netdetect-spelled-out",
        A2,
        device(1, netdetect=NO_DATA),
        keep(1, netdetect="0.0.0.0"),
        netdetect__1=(WARN, "no detect address"),
    ),
    row(
        "netdetect-link-local",
        A2,
        device(1, netdetect=ok(f.NetdetectFacts("169.254.9.9"))),
        keep(1, netdetect=None),
        netdetect__1=(FAIL, "no unicast"),
    ),
    row(
        "netdetect-is-own-address",
        A2,
        device(1, netdetect=ok(f.NetdetectFacts("10.8.1.21"))),
        keep(1, netdetect=None),
        netdetect__1=(FAIL, "the port's own address"),
    ),
    row(
        "netdetect-multicast",
        A2,
        device(1, netdetect=ok(f.NetdetectFacts("224.0.0.5"))),
        keep(1, netdetect=None),
        netdetect__1=(FAIL, "no unicast"),
    ),
    row(
        "netdetect-in-vnic-range",
        A2,
        device(1, netdetect=ok(f.NetdetectFacts("192.168.2.198"))),
        keep(1, netdetect=None),
        netdetect__1=(FAIL, "virtual NICs"),
    ),
    # gateway
    row(
        "gateway-outside",
        A2,
        device(2, gateway=ok(f.GatewayFacts("10.9.0.1", "eth2"))),
        gateway__2=(FAIL, "outside"),
        hccn_conf__2=(SKIPPED, "gateway"),
    ),
    row("no-gateway-needed", A2, every(gateway=NO_DATA), not_kept(gateway=None)),
    row(
        "gateway-kept-but-not-set",
        A2,
        device(2, gateway=NO_DATA),
        hccn_conf__2=(FAIL, "gateway in /etc/hccn.conf is not set live"),
    ),
    row(
        "gateway-is-the-network",
        A2,
        device(2, gateway=ok(f.GatewayFacts("10.8.0.0", "eth2"))),
        keep(2, gateway=None),
        gateway__2=(FAIL, "network or broadcast"),
    ),
    row(
        "gateway-is-the-broadcast",
        A2,
        device(2, gateway=ok(f.GatewayFacts("10.8.255.255", "eth2"))),
        keep(2, gateway=None),
        gateway__2=(FAIL, "network or broadcast"),
    ),
    row(
        "gateway-is-own-address",
        A2,
        device(2, gateway=ok(f.GatewayFacts("10.8.1.22", "eth2"))),
        keep(2, gateway=None),
        gateway__2=(FAIL, "own address"),
    ),
    # address
    row(
        "ip-missing",
        A2,
        device(4, ip=NO_DATA),
        address__4=(FAIL, "no address"),
        gateway__4=(SKIPPED, "address"),
        hccn_conf__4=(SKIPPED, "address"),
    ),
    row(
        "a3-ip-missing-beside-ports-that-have-one",
        A3,
        device(4, ip=NO_DATA),
        address__4=(FAIL, "no address"),
        gateway__4=(SKIPPED, "address"),
        hccn_conf__4=(SKIPPED, "address"),
    ),
    row(
        "wrong-netmask",
        A2,
        address(4, "10.8.1.24", "255.255.255.0"),
        address__4=(FAIL, "netmask differs"),
        gateway__4=(SKIPPED, "address"),
        hccn_conf__4=(SKIPPED, "address"),
    ),
    row(
        "netmask-with-holes",
        A2,
        address(4, "10.8.1.24", "255.0.255.0"),
        keep(4, netmask=None),
        address__4=(FAIL, "not contiguous"),
        gateway__4=(SKIPPED, "address"),
    ),
    row(
        "no-unicast",
        A2,
        address(4, "127.0.0.1"),
        keep(4, address="127.0.0.1"),
        address__4=(FAIL, "unicast"),
        gateway__4=(SKIPPED, "address"),
    ),
    row(
        "link-local",
        A2,
        address(4, "169.254.8.24"),
        keep(4, address="169.254.8.24"),
        address__4=(FAIL, "no unicast address"),
        gateway__4=(SKIPPED, "address"),
    ),
    row(
        "a3-nothing-else-in-the-segment",
        A3,
        every_mask("255.255.255.255"),
        every(gateway=NO_DATA),
        not_kept(netmask="255.255.255.255", gateway=None),
        **on_all("address", A3, (FAIL, "nothing else is in")),
    ),
    row(
        "broadcast",
        A2,
        address(4, "10.8.255.255"),
        keep(4, address="10.8.255.255"),
        address__4=(FAIL, "broadcast"),
    ),
    row(
        "reserved-a2",
        A2,
        address(4, "192.168.2.77"),
        keep(4, address="192.168.2.77"),
        address__4=(FAIL, "reserved"),
        gateway__4=(SKIPPED, "address"),
    ),
    row(
        "duplicate",
        A2,
        address(4, "10.8.1.25"),
        keep(4, address="10.8.1.25"),
        address__4=(FAIL, "several devices"),
        address__5=(FAIL, "several devices"),
    ),
    row(
        "a2-odd-segment",
        A2,
        address(4, "10.9.1.24"),
        keep(4, address="10.9.1.24"),
        address__4=(FAIL, "another segment"),
        gateway__4=(SKIPPED, "address"),
    ),
    row(
        "a2-segment-tie",
        PAIR,
        address(1, "10.9.1.21"),
        keep(1, address="10.9.1.21"),
        expect(npus=2),
        npu_count=(PASS, "2 devices"),
        address__0=(FAIL, "no majority"),
        address__1=(FAIL, "no majority"),
        gateway__1=(SKIPPED, "address"),
    ),
    row(
        "a3-reserved-in-super-pod",
        A3,
        address(4, "192.30.4.4"),
        keep(4, address="192.30.4.4"),
        address__4=(FAIL, "reserved"),
        gateway__4=(SKIPPED, "address"),
    ),
    row(
        "a3-dies-in-one-segment",
        A3,
        address(5, "10.30.7.25"),
        keep(5, address="10.30.7.25"),
        address__4=(WARN, "both dies"),
        address__5=(WARN, "both dies"),
        gateway__5=(FAIL, "outside"),
    ),
    row(
        "address-failed",
        A2,
        device(4, ip=FAILED),
        address__4=(UNKNOWN, "it says: no"),
        gateway__4=(SKIPPED, "address"),
        hccn_conf__4=(SKIPPED, "address"),
    ),
    # hccn.conf
    row("stale", A2, keep(6, address="10.8.1.99"), hccn_conf__6=(FAIL, "address in /etc/hccn.conf differs")),
    row(
        "stale-two",
        A2,
        keep(6, address="10.8.1.99", netdetect="10.8.1.1"),
        hccn_conf__6=(FAIL, "address, netdetect"),
    ),
    row("stale-gateway", A2, keep(6, gateway="10.8.0.9"), hccn_conf__6=(FAIL, "gateway in")),
    row("not-kept", A2, keep(6, address=None), hccn_conf__6=(FAIL, "not in /etc/hccn.conf")),
    row("sparse-is-normal", A2, keep(6, gateway=None, netdetect=None)),
    row(
        "conf-missing",
        A2,
        set_host(hccn_conf=NO_DATA),
        hccn_conf=(FAIL, "missing"),
        **on_all("hccn_conf", A2, (SKIPPED, "missing")),
    ),
    row(
        "conf-unparsed",
        A2,
        set_host(hccn_conf=UNPARSED),
        hccn_conf=(UNKNOWN, "line 3"),
        **on_all("hccn_conf", A2, (SKIPPED, "line 3")),
    ),
    # vnic
    row("a2-vnic-other", A2, device(2, vnic=vnic("192.168.2.9")), vnic__2=(WARN, "another address")),
    row(
        "a3-vnic-down",
        A3,
        device(2, vnic=vnic("192.7.2.197", f.LinkStatus.DOWN)),
        vnic__2=(FAIL, "DOWN"),
    ),
    row(
        "a3-alone-vnic-down",
        A3_ALONE,
        device(2, vnic=vnic("192.168.2.197", f.LinkStatus.DOWN)),
        vnic__2=(WARN, "DOWN"),
    ),
    row("a3-vnic-none", A3, device(2, vnic=NO_DATA), vnic__2=(FAIL, "no address")),
    row("a3-vnic-unsupported", A3, device(2, vnic=UNSUPPORTED), vnic__2=(UNKNOWN, "must offer")),
    row("a3-alone-vnic-unsupported", A3_ALONE, device(2, vnic=UNSUPPORTED), vnic__2=(NA, "not offered")),
    row("vnic-unparsed", A3, device(2, vnic=UNPARSED), vnic__2=(UNKNOWN, "line 3")),
    # spod-info
    row("spod-one-invalid", A3, device(4, spod=spod(0xFFFFFFFF, 0xFFFFFFFF)), spod_info__4=(FAIL, "no SDID")),
    row(
        "spod-other-die",
        A3,
        device(4, spod=spod(7 << 22 | 3 << 18 | 0 << 16 | 6, 7)),
        spod_info__4=(FAIL, "another die"),
        spod_info__6=(FAIL, "several dies"),
    ),
    row(
        "spod-impossible",
        A3,
        device(4, spod=spod(60 << 22 | 2 << 18 | 4, 60)),
        spod_info__4=(FAIL, "out of range"),
    ),
    row(
        "spod-server-index",
        A3,
        device(4, spod=spod(SDID_DEV4, 8)),
        spod_info__4=(FAIL, "not the one in the SDID"),
    ),
    row(
        "spod-odd-server",
        A3,
        device(4, spod=spod(9 << 22 | 2 << 18 | 4, 9), vnic=vnic("192.9.2.195")),
        spod_info__4=(FAIL, "Server Index differs"),
    ),
    row(
        "spod-odd-pod",
        A3,
        device(4, spod=spod(SDID_DEV4, 7, pod=1)),
        spod_info__4=(FAIL, "Super Pod ID differs"),
    ),
    row(
        "spod-no-pod-id",
        A3,
        device(4, spod=spod(SDID_DEV4, 7, pod=0xFFFFFFFF)),
        spod_info__4=(FAIL, "Super Pod ID is invalid"),
    ),
    row(
        "spod-half-without-pod-id",
        A3,
        *(device(phy, spod=spod(own_sdid(phy), 7, pod=0xFFFFFFFF)) for phy in range(8)),
        **{f"spod_info__{phy}": (FAIL, "Super Pod ID is invalid") for phy in range(8)},
    ),
    row(
        "spod-no-server-index",
        A3,
        device(4, spod=spod(SDID_DEV4, 0xFFFFFFFF)),
        spod_info__4=(FAIL, "not the one in the SDID"),
    ),
    row("spod-size-0", A3, device(4, spod=spod(SDID_DEV4, 7, size=0)), spod_info__4=(WARN, "size")),
    row(
        "spod-size-invalid",
        A3,
        device(4, spod=spod(SDID_DEV4, 7, size=0xFFFFFFFF)),
        spod_info__4=(WARN, "size"),
    ),
    row("spod-vnic", A3, device(4, vnic=vnic("192.7.2.196")), spod_info__4=(FAIL, "vNIC address")),
    row("spod-unsupported", A3, device(4, spod=UNSUPPORTED), spod_info__4=(NA, "not offered")),
    row("spod-unparsed", A3, device(4, spod=UNPARSED), spod_info__4=(UNKNOWN, "line 3")),
    row(
        "alone-wrong-vnic",
        A3_ALONE,
        device(4, vnic=vnic("192.7.2.195")),
        spod_info__4=(FAIL, "vNIC address"),
    ),
    row(
        "alone-without-roce",
        A3_ALONE,
        expect(scale_out=f.ScaleOut.NONE),
        **on_all("spod_info", A3_ALONE, (FAIL, "RoCE is not in use either")),
        **{
            key: value
            for check in ("link", "address", "gateway", "netdetect", "net_health", "lldp", "hccn_conf")
            for key, value in on_all(check, A3_ALONE, (NA, "scale_out: none")).items()
        },
    ),
    # npu health
    row(
        "warning",
        A2,
        device(1, health=health(NpuHealth.WARNING, "8C1F8608")),
        npu_health__1=(WARN, "8C1F8608"),
    ),
    row(
        "alarm-both",
        A2,
        device(1, health=health(NpuHealth.ALARM, "A4", "8C")),
        table_word(1, NpuHealth.ALARM),
        npu_health__1=(FAIL, "A4, 8C"),
    ),
    row(
        "critical-table-only",
        A2,
        table_word(1, NpuHealth.CRITICAL),
        npu_health__1=(FAIL, "npu-smi info: Critical, -t health: OK"),
    ),
    row(
        "health-unknown", A2, device(1, health=health(NpuHealth.UNKNOWN)), npu_health__1=(UNKNOWN, "UNKNOWN")
    ),
    row(
        "healthy-with-codes",
        A2,
        device(1, health=health(NpuHealth.OK, "80E01801")),
        npu_health__1=(WARN, "80E01801"),
    ),
    row("health-unsupported", A2, device(1, health=UNSUPPORTED)),
    row("health-unparsed", A2, device(1, health=UNPARSED), npu_health__1=(UNKNOWN, "line 3")),
    row(
        "health-unparsed-table-alarm",
        A2,
        device(1, health=UNPARSED),
        table_word(1, NpuHealth.ALARM),
        npu_health__1=(FAIL, "Alarm"),
    ),
    row(
        "not-in-table",
        A2,
        table_without(6),
        npu_health__6=(FAIL, "not in the table"),
        npu_count=(FAIL, "shows 7 devices, its mapping 8"),
    ),
    row("table-unparsed", A2, set_host(npu_smi=UNPARSED), npu_count=(UNKNOWN, "line 3")),
    # count and mapping
    row("npus-given-more", A2, expect(npus=16), npu_count=(FAIL, "8 devices instead of 16")),
    row(
        "generation-unknown",
        A2,
        set_host(generation=None),
        npu_mapping=(UNKNOWN, "not recognised"),
        npu_count=(SKIPPED, "not recognised"),
        **on_all("hccs_links", A2, (SKIPPED, "not recognised")),
        **on_all("spod_info", A2, (NA, "not offered")),
    ),
    row(
        "generation-and-use-of-roce-unknown",
        A3_HCCS,
        set_host(generation=None),
        device(2, link=DOWN),
        device(3, link=UNSUPPORTED),
        npu_mapping=(UNKNOWN, "not recognised"),
        npu_count=(SKIPPED, "not recognised"),
        hccn_conf=(WARN, "missing"),
        **{
            key: value
            for check in ("hccs_links", "address", "gateway", "netdetect")
            for key, value in on_all(check, A3_HCCS, (SKIPPED, "not recognised")).items()
        },
        **on_all("hccn_conf", A3_HCCS, (SKIPPED, "not recognised")),
        **on_all("net_health", A3_HCCS, (PASS, "")),
        **on_all("lldp", A3_HCCS, (PASS, "")),
        **on_all("link", A3_HCCS, (PASS, ""))
        | {"link__2": (SKIPPED, "not recognised"), "link__3": (NA, "not offered")},
    ),
    row(
        "generation-unknown-but-count-given",
        A2,
        set_host(generation=None),
        expect(npus=8),
        device(1, hccs=hccs(lanes="1011")),
        npu_mapping=(UNKNOWN, "not recognised"),
        **on_all("hccs_links", A2, (SKIPPED, "not recognised")) | {"hccs_links__1": (FAIL, "lanes")},
    ),
    row(
        "inventory-says-the-other-generation",
        A3,
        expect(generation=f.Generation.A2),
        npu_mapping=(FAIL, "the inventory says a2, the host's chips are A3"),
    ),
    row(
        "inventory-says-a3-of-an-a2-server",
        A2,
        expect(generation=f.Generation.A3),
        npu_mapping=(FAIL, "the inventory says a3, the host's chips are A2"),
    ),
    row("inventory-says-the-same", A2, expect(generation=f.Generation.A2, accelerator=f.Accelerator.ASCEND)),
    row(
        "inventory-says-cpu",
        A2,
        expect(accelerator=f.Accelerator.CPU),
        npu_mapping=(FAIL, "the inventory says cpu, the host has Ascend NPUs"),
    ),
    row(
        "table-and-mapping-disagree",
        A3,
        table_phy(1, 0, 9),
        npu_mapping=(FAIL, "physical id"),
    ),
    row(
        "mapping-twice",
        A2,
        set_host(mapping=chips(0, 1, 2, 3, 4, 5, 6, 6)),
        npu_mapping=(FAIL, "twice"),
    ),
    row(
        "mapping-unconfirmed",
        A2,
        device(5, link=bad(f.ReadingStatus.FAILED, reason="no", evidence="The device is not exist!")),
        npu_mapping=(WARN, "does not know"),
        link__5=(UNKNOWN, "no"),
    ),
    # hccs
    row("lanes", A2, device(1, hccs=hccs(lanes="1011")), hccs_links__1=(FAIL, "lanes are down")),
    row("lane-mode", A2, device(1, hccs=hccs(mode=2)), hccs_links__1=(FAIL, "lanes are down")),
    row("a-link-missing", A2, device(1, hccs=some_links(6)), hccs_links__1=(FAIL, "6 HCCS links")),
    row(
        "a-link-without-speed",
        A2,
        device(1, hccs=some_links(7, speed=0)),
        hccs_links__1=(FAIL, "lanes are down"),
    ),
    row(
        "dies-with-other-link-counts",
        A3,
        *(device(phy, hccs=some_links(6)) for phy in range(1, 16, 2)),
    ),
    row("hccs-nok", A2, device(1, hccs=hccs("NOK")), hccs_links__1=(FAIL, "NOK")),
    row("hccs-without-lanes", A3, every(hccs=ok(f.HccsFacts("OK", (), (), ())))),
    row("hccs-half-unsupported", A2, every(hccs=UNSUPPORTED)),
    row("hccs-unparsed", A2, device(1, hccs=UNPARSED), hccs_links__1=(UNKNOWN, "line 3")),
    row("a2-pcie-link", A2, topo_cell(1, 2, "SYS"), hccs_links__1=(FAIL, "no HCCS link")),
    row("a3-sio-lost", A3, topo_cell(4, 5, "HCCS_SW"), hccs_links__4=(FAIL, "no HCCS link")),
    row("a3-hccs-word", A3, topo_cell(4, 6, "HCCS")),
    row("a3-sys", A3, topo_cell(4, 6, "SYS"), hccs_links__4=(FAIL, "no HCCS link")),
    row("box16-module", BOX16, topo_cell(9, 12, "PIX"), hccs_links__9=(FAIL, "no HCCS link")),
    row(
        "no-hccs-product",
        A2,
        set_host(generation=None),
        every(hccs=UNSUPPORTED),
        all_topo("SYS"),
        npu_mapping=(UNKNOWN, "not recognised"),
        npu_count=(SKIPPED, "not recognised"),
        **on_all("hccs_links", A2, (NA, "no HCCS")),
    ),
    row(
        "every-hccs-link-lost",
        A2,
        every(hccs=UNSUPPORTED),
        all_topo("SYS"),
        **on_all("hccs_links", A2, (FAIL, "no HCCS link")),
    ),
    row(
        "hccs-not-offered-at-all",
        A2,
        set_host(topo=UNSUPPORTED),
        every(hccs=UNSUPPORTED),
        **on_all("hccs_links", A2, (UNKNOWN, "must offer")),
    ),
    row(
        "matrix-unparsed",
        A2,
        set_host(topo=UNPARSED),
        hccs_links=(UNKNOWN, "line 3"),
        **on_all("hccs_links", A2, (SKIPPED, "line 3")),
    ),
    row(
        "matrix-unparsed-and-lanes",
        PAIR,
        set_host(topo=UNPARSED),
        device(1, hccs=hccs(lanes="0000")),
        hccs_links=(UNKNOWN, "line 3"),
        hccs_links__0=(SKIPPED, "line 3"),
        hccs_links__1=(FAIL, "lanes"),
    ),
    # tls
    row("tls-denied", A2, device(2, tls=DENIED), tls__2=(UNKNOWN, "only root")),
    row("tls-on", A2, device(2, tls=ok(f.TlsFacts(1)))),
    # tools
    row("hccn-tool-missing", A2, tools(hccn_tool=None), tools=(FAIL, "hccn_tool was not found")),
    row("no-tool", A2, tools(hccn_tool=None, npu_smi=None), tools=(FAIL, "no Ascend tools")),
    row(
        "first-call-of-hccn-tool-hangs",
        PAIR,
        expect(npus=2),
        every(**dict.fromkeys(HCCN_READINGS, not_called("link", 0))),
        device(0, link=TIMED_OUT),
        npu_count=(PASS, "2 devices"),
        tools=(SKIPPED, "link of device 0"),
        link__0=(UNKNOWN, "killed after 10 s"),
        **{
            f"{check}__{phy}": (SKIPPED, "killed after 10 s")
            for phy in range(2)
            for check in (*PORT_CHECKS, "link")
            if (check, phy) != ("link", 0)
        },
    ),
    # versions
    row("old-driver", A2, versions(ok("23.0.6")), versions=(WARN, "23.0.6 is old")),
    row("driver-from-table", A2, versions(NO_DATA)),
    row("driver-file-unparsed", A2, versions(UNPARSED), versions=(UNKNOWN, "line 3")),
    row(
        "driver-file-unparsed-and-old",
        A2,
        versions(UNPARSED),
        set_host(npu_smi=ok(replace(A2.npu_smi.value, version="23.0.6"))),
        versions=(WARN, "23.0.6 is old"),
    ),
    row("odd-driver", A2, versions(ok("trunk")), versions=(UNKNOWN, "trunk")),
    row("release-candidate", A2, versions(ok("24.1.rc2"))),
    row(
        "no-version",
        A2,
        versions(NO_DATA),
        set_host(npu_smi=FAILED),
        versions=(UNKNOWN, "driver version"),
        npu_count=(UNKNOWN, "it says"),
    ),
    # hanging and its consequences
    row(
        "link-hangs",
        A2,
        device(3, link=TIMED_OUT),
        device(4, link=not_called("link", 3)),
        link__3=(UNKNOWN, "killed after 10 s"),
        link__4=(SKIPPED, "link of device 3"),
    ),
    row(
        "net-health-hangs-on-a-port-that-is-down",
        A2,
        device(
            3,
            link=DOWN,
            net_health=TIMED_OUT,
            lldp=not_called("net-health", 3),
            tls=not_called("net-health", 3),
        ),
        link__3=(FAIL, "DOWN"),
        net_health__3=(UNKNOWN, "killed after 10 s"),
        lldp__3=(SKIPPED, "link"),
        tls__3=(SKIPPED, "net-health"),
    ),
    row(
        "a-port-not-in-use-hangs",
        A3_HCCS,
        device(3, link=TIMED_OUT),
        device(3, tls=not_called("link", 3)),
        link__3=(UNKNOWN, "killed after 10 s"),
        tls__3=(SKIPPED, "link"),
    ),
]


@pytest.mark.parametrize("wanted", [pytest.param(row, id=row.id) for row in ROWS])
def test_row(wanted: Row) -> None:
    healthy = judge(wanted.host)
    host = made(wanted.host, *wanted.changes)
    cells = judge(host)
    expected = {
        at(check, host, phy): status_and_text for (check, phy), status_and_text in wanted.cells.items()
    }
    for key, (status, text) in expected.items():
        cell = cells[key]
        assert (cell.status, text in cell.message) == (status, True), cell
    others = {key: cell.status for key, cell in cells.items() if key not in expected}
    assert others == {key: cell.status for key, cell in healthy.items() if key not in expected}


@pytest.mark.parametrize("wanted", [pytest.param(row, id=row.id) for row in ROWS])
def test_findings_are_complete_and_fold_over_hosts(wanted: Row) -> None:
    host = made(wanted.host, *wanted.changes)
    for cell in judge(host).values():
        assert host.host not in cell.message
        if cell.status in (FAIL, WARN):
            assert cell.message and cell.expected and cell.actual, cell
            assert cell.consequence and cell.remedy, cell
        if cell.status in (FAIL, WARN) and cell.check not in ("tools", "reachable"):
            assert cell.command == "a command", cell
        if cell.status is UNKNOWN:
            assert cell.remedy, cell
        if cell.status is SKIPPED:
            assert cell.caused_by is not None


# A host alone has nothing to be compared with.
BETWEEN_HOSTS = {
    check.id
    for check in CLUSTER_CHECKS
    if isinstance(check, AcrossCheck | Cabling) and check.profile is f.Profile.STANDARD
}
GOOD = [
    pytest.param(A2, set(), id="a2"),
    pytest.param(BOX16, set(), id="box16"),
    pytest.param(A3, set(), id="a3"),
    pytest.param(
        A3_HCCS,
        {"link", "address", "gateway", "netdetect", "net-health", "lldp", "hccn-conf"},
        id="a3-hccs-only",
    ),
]


@pytest.mark.parametrize(("host", "not_applicable"), GOOD)
def test_a_healthy_host_is_green(host: f.HostFacts, not_applicable: set[str]) -> None:
    cells = judge(host).values()
    found = [c for c in cells if c.status not in (PASS, NA)]
    assert found == []
    without_spod = {c.check for c in cells if c.status is NA} - {"spod-info"}
    assert without_spod == not_applicable | BETWEEN_HOSTS


def test_all_dies_without_super_pod_are_told_to_plan_roce() -> None:
    cells = judge(A3_ALONE)
    spods = [c for c in cells.values() if c.check == "spod-info"]
    assert {(c.status, "plan RoCE" in c.message) for c in spods} == {(WARN, True)}
    rest = [c for c in cells.values() if c.check != "spod-info" and c.status is not PASS]
    assert {c.check for c in rest} == BETWEEN_HOSTS


def test_without_super_pod_and_addresses_hosts_cannot_meet() -> None:
    one, two = a3("node01", server=None, roce=False), a3("node02", server=None, roce=False)
    cells = judge(one, two)
    assert cells[at("spod-info", one, 3)].status is FAIL


@pytest.mark.parametrize(
    ("second_octet", "status"), [pytest.param(8, PASS, id="one-segment"), pytest.param(9, WARN, id="two")]
)
def test_a_missing_gateway_matters_only_with_other_segments(second_octet: int, status: Status) -> None:
    one = made(a2("node01"), every(gateway=NO_DATA))
    two = made(
        a2("node02", number=2),
        every(gateway=NO_DATA),
        *(address(phy, f"10.{second_octet}.2.{20 + phy}") for phy in range(8)),
    )
    cells = judge(one, two)
    assert {cells[at("gateway", one, phy)].status for phy in range(8)} == {status}


def test_a_part_of_a_server_fails_until_the_inventory_says_so() -> None:
    part = a2(devices=3)
    found = judge(part)[at("npu-count", part)]
    assert found.status is FAIL
    assert "npus:" in found.remedy
    assert judge(made(part, expect(npus=3)))[at("npu-count", part)].status is PASS


@pytest.mark.parametrize(
    ("numbers", "status"),
    [
        pytest.param(range(16), PASS, id="both-modules"),
        pytest.param(range(8), PASS, id="first-module"),
        pytest.param(range(8, 16), FAIL, id="second-module"),
        pytest.param((*range(7), 8), FAIL, id="one-of-the-other-module"),
    ],
)
def test_a_whole_server_counts_its_devices_from_0(numbers: Iterable[int], status: Status) -> None:
    host = made(BOX16, only_devices(*numbers))
    found = judge(host)[at("npu-count", host)]
    assert found.status is status
    assert status is PASS or ("NPU ids" in found.actual and "npus:" in found.remedy)
    assert judge(made(host, expect(npus=len(host.devices))))[at("npu-count", host)].status is PASS


def test_a_server_that_renumbered_what_is_left_shows_it_by_its_npu_ids() -> None:
    host = made(BOX16, only_devices(*range(8, 16)))
    renumbered = tuple(replace(d, phy_id=d.phy_id - 8) for d in host.devices)
    assert judge(replace(host, devices=renumbered))[at("npu-count")].actual.startswith("NPU ids 8-15")
