"""Rows: a healthy host, what is changed about it, and the cells that must not be good then.

Every other cell of the host must stay as it was on the healthy one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from ascendctl import facts as f
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


def vnic(text: str, status: f.LinkStatus = f.LinkStatus.UP) -> f.Reading[f.VnicFacts]:
    return ok(f.VnicFacts(status, text, "255.255.255.0"))


def spod(sdid: int, server: int, pod: int = 0) -> f.Reading[f.SpodFacts]:
    return ok(f.SpodFacts(sdid, 384, pod, server))


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
LIBRARIES = bad(
    f.ReadingStatus.FAILED, exit_code=127, evidence="npu-smi: error while loading shared libraries: libx.so"
)
SDID_DEV4 = 7 << 22 | 2 << 18 | 0 << 16 | 4

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
    row("link-unparsed", A2, device(0, link=UNPARSED), link__0=(UNKNOWN, "line 3")),
    row("link-busy", A2, device(0, link=BUSY), link__0=(UNKNOWN, "busy")),
    row("link-unsupported", A2, device(0, link=UNSUPPORTED), link__0=(NA, "not offered")),
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
    row("no-netdetect", A2, device(1, netdetect=NO_DATA), netdetect__1=(WARN, "no detect address")),
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
    row("no-gateway-needed", A2, every(gateway=NO_DATA)),
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
    ),
    row(
        "a3-ip-missing-beside-ports-that-have-one",
        A3,
        device(4, ip=NO_DATA),
        address__4=(FAIL, "no address"),
        gateway__4=(SKIPPED, "address"),
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
    row("generation-unknown", A2, set_host(generation=None), npu_count=(UNKNOWN, "not known")),
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
        every(hccs=UNSUPPORTED),
        all_topo("SYS"),
        **on_all("hccs_links", A2, (NA, "no HCCS")),
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
    # versions
    row("old-driver", A2, versions(ok("23.0.6")), versions=(WARN, "23.0.6 is old")),
    row("driver-from-table", A2, versions(NO_DATA)),
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
    assert without_spod == not_applicable


def test_all_dies_without_super_pod_are_told_to_plan_roce() -> None:
    cells = judge(A3_ALONE)
    spods = [c for c in cells.values() if c.check == "spod-info"]
    assert {(c.status, "plan RoCE" in c.message) for c in spods} == {(WARN, True)}
    rest = [c for c in cells.values() if c.check != "spod-info" and c.status is not PASS]
    assert rest == []


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
