"""Small builders: a healthy host of either generation, and ways to change one thing of it."""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ascendctl import facts as f
from ascendctl.checks.engine import run_checks
from ascendctl.results import CellKey, Result, Subject, SubjectKind, host_subject

TODAY = dt.date(2026, 3, 10)
OPTICAL = f.OpticalFacts(
    present=True,
    temperature_c=47.0,
    voltage_mv=3262.9,
    tx_power_mw=(1.4, 1.4, 1.4, 1.5),
    rx_power_mw=(1.0, 1.0, 0.9, 1.0),
    host_snr_db=(None, None, None, None),
    media_snr_db=(23.1, 22.6, 22.2, 23.3),
    temperature_high_c=70.0,
    temperature_low_c=0.0,
    voltage_high_mv=3465.0,
    voltage_low_mv=3135.0,
    tx_power_high_mw=3.5481,
    tx_power_low_mw=0.2818,
    rx_power_high_mw=3.5481,
    rx_power_low_mw=0.1445,
    tx_los_flags=0,
    rx_los_flags=0,
    tx_lol_flags=0,
    rx_lol_flags=0,
)
Change = Callable[[f.HostFacts], f.HostFacts]


def ok(value: Any, command: str = "a command") -> f.Reading[Any]:
    return f.Reading(f.ReadingStatus.OK, value, command, evidence="its text")


def bad(status: f.ReadingStatus, **kwargs: Any) -> f.Reading[Any]:
    return f.Reading(status, command="a command", **kwargs)


NO_DATA = bad(f.ReadingStatus.NO_DATA)
UNSUPPORTED = bad(f.ReadingStatus.UNSUPPORTED)
DENIED = bad(f.ReadingStatus.DENIED, reason="only root may do this")
FAILED = bad(f.ReadingStatus.FAILED, reason="it says: no")
UNPARSED = bad(f.ReadingStatus.UNPARSED, reason="line 3 is cut off")
BUSY = bad(f.ReadingStatus.BUSY)
TIMED_OUT = bad(f.ReadingStatus.TIMED_OUT, reason="had to be killed after 10 s")
NOT_ASKED = bad(f.ReadingStatus.NOT_ASKED)
NOT_RECEIVED = bad(f.ReadingStatus.NOT_RECEIVED)
TOOL_MISSING = bad(f.ReadingStatus.TOOL_MISSING)


def not_called(command_id: str, phy_id: int | None = None) -> f.Reading[Any]:
    return bad(f.ReadingStatus.NOT_CALLED, blocked_by=f.BlockedBy(command_id, phy_id))


def a2(name: str = "node01", devices: int = 8, number: int = 1) -> f.HostFacts:
    """A healthy A2 server: one /16 for every port, gateway and detect address set."""
    numbers = range(devices)
    made = tuple(
        f.DeviceFacts(
            npu_id=phy,
            chip_id=0,
            phy_id=phy,
            name="910B3",
            phy_id_assumed=True,
            ip=ok(f.AddressFacts(f"10.8.{number}.{20 + phy}", "255.255.0.0")),
            gateway=ok(f.GatewayFacts("10.8.0.1", "eth0")),
            netdetect=ok(f.NetdetectFacts("10.8.0.1")),
            vnic=ok(f.VnicFacts(f.LinkStatus.UP, f"192.168.2.{199 - phy}", "255.255.255.0")),
            hccs=ok(f.HccsFacts("OK", (4,) * 7, ("1111",) * 7, (224,) * 7, _NO_HCCS_ERRORS)),
            spod=UNSUPPORTED,
            **_port(),
        )
        for phy in numbers
    )
    chips = tuple(f.ChipId(phy, 0, phy, None, "Ascend 910B3") for phy in numbers)

    def link(one: int, other: int) -> str:
        return "X" if one == other else "HCCS" if one // 8 == other // 8 else "SYS"

    topo = f.TopoFacts(tuple(numbers), tuple(tuple(link(i, j) for j in numbers) for i in numbers))
    rows = tuple(_row(phy, 0, None, "910B3") for phy in numbers)
    return _host(name, f.Generation.A2, made, chips, topo, rows)


def a3(name: str = "node01", npus: int = 8, server: int | None = 7, roce: bool = True) -> f.HostFacts:
    """A healthy A3 server in a super pod (``server`` None: in none); dies in two segments."""
    made, chips, rows = [], [], []
    for phy in range(2 * npus):
        npu, die = divmod(phy, 2)
        octet = 168 if server is None else server
        identity = (
            (server << 22 | npu << 18 | die << 16 | phy, 384, 0, server) if server is not None else None
        )
        made.append(
            f.DeviceFacts(
                npu_id=npu,
                chip_id=die,
                phy_id=phy,
                name="Ascend910",
                ip=ok(f.AddressFacts(f"10.{30 + die}.{server or 0}.{20 + phy}", "255.255.0.0"))
                if roce
                else NO_DATA,
                gateway=ok(f.GatewayFacts(f"10.{30 + die}.0.1", "eth0")) if roce else NO_DATA,
                netdetect=ok(f.NetdetectFacts(f"10.{30 + die}.0.1")) if roce else NO_DATA,
                vnic=ok(f.VnicFacts(f.LinkStatus.UP, f"192.{octet}.{2 + die}.{199 - phy}", "255.0.0.0")),
                hccs=ok(f.HccsFacts("OK", (4,) * 7, ("1111",) * 7, (224,) * 7, _NO_HCCS_ERRORS)),
                spod=ok(f.SpodFacts(*identity) if identity else f.SpodFacts(*[0xFFFFFFFF] * 4)),
                **_port(),
            )
        )
        chips.append(f.ChipId(npu, die, phy, phy, "Ascend910"))
        rows.append(_row(npu, die, phy, "Ascend910"))
    numbers = range(2 * npus)

    def link(one: int, other: int) -> str:
        return "X" if one == other else "SIO" if one // 2 == other // 2 else "HCCS_SW"

    topo = f.TopoFacts(tuple(numbers), tuple(tuple(link(i, j) for j in numbers) for i in numbers))
    host = _host(name, f.Generation.A3, tuple(made), tuple(chips), topo, tuple(rows))
    return host if roce else replace(host, hccn_conf=NO_DATA)


def device(phy: int, **readings: Any) -> Change:
    """Change readings of one device."""

    def change(host: f.HostFacts) -> f.HostFacts:
        devices = tuple(replace(d, **readings) if d.phy_id == phy else d for d in host.devices)
        return replace(host, devices=devices)

    return change


def every(**readings: Any) -> Change:
    """Change readings of every device."""
    return lambda host: replace(host, devices=tuple(replace(d, **readings) for d in host.devices))


def set_host(**values: Any) -> Change:
    return lambda host: replace(host, **values)


def expect(**values: Any) -> Change:
    return lambda host: replace(host, expectation=replace(host.expectation, **values))


def address(phy: int, text: str, netmask: str = "255.255.0.0") -> Change:
    return device(phy, ip=ok(f.AddressFacts(text, netmask)))


def keep(phy: int, **values: str | int | None) -> Change:
    """Change what /etc/hccn.conf says of one device."""

    def change(host: f.HostFacts) -> f.HostFacts:
        assert host.hccn_conf.value
        devices = dict(host.hccn_conf.value.devices)
        devices[str(phy)] = replace(devices[str(phy)], **values)  # type: ignore[arg-type]
        return replace(host, hccn_conf=ok(f.HccnConfFacts(devices)))

    return change


def made(host: f.HostFacts, *changes: Change) -> f.HostFacts:
    for change in changes:
        host = change(host)
    return host


def unreached(name: str, status: f.ReachStatus = f.ReachStatus.TIMEOUT, **reach: Any) -> f.HostFacts:
    return f.HostFacts(name, f.Expectation(), f.Reach(status, **reach))


def judge(*hosts: f.HostFacts, **kwargs: Any) -> dict[CellKey, Result]:
    """Every cell of a cluster of these hosts."""
    kwargs.setdefault("today", TODAY)
    results = run_checks(f.ClusterFacts(hosts), **kwargs)
    cells = {result.key: result for result in results}
    assert len(cells) == len(results), "a cell was given twice"
    return cells


def at(check: str, host: f.HostFacts | str = "node01", phy: int | None = None) -> CellKey:
    """The key of a host's cell or, with ``phy``, of one of its devices'."""
    if isinstance(host, str):
        assert phy is None
        return CellKey(check, host_subject(host))
    if phy is None:
        return CellKey(check, host_subject(host.host))
    found = next(d for d in host.devices if d.phy_id == phy)
    subject = Subject(SubjectKind.DEVICE, host=host.host, npu=found.npu_id, chip=found.chip_id, device=phy)
    return CellKey(check, subject)


def nic_address(name: str) -> str:
    """The address of a host's own NIC: another one for every name."""
    number = zlib.crc32(name.encode())
    return f"10.200.{number >> 8 & 0xFF}.{number % 250 + 1}"


_NO_HCCS_ERRORS = {"retry_count": (0,) * 7, "error_count": (0,) * 7}
_STAT = (
    "mac_tx_bad_pkt_num",
    "mac_rx_bad_pkt_num",
    "mac_rx_fcs_err_pkt_num",
    "roce_rx_err_pkt_num",
    "roce_tx_err_pkt_num",
    "roce_verification_err_num",
    "roce_qp_status_err_num",
    "roce_unexpected_ack_num",
    "roce_out_of_order_num",
    "roce_new_pkt_rty_num",
    "mac_rx_total_pkt_num",
)
_ECC = tuple(
    f"HBM {bits} Bit {kind}"
    for kind in ("Error Count", "Aggregate Total Err Cnt", "Isolated Pages Count")
    for bits in ("Single", "Double")
)


def _port() -> dict[str, Any]:
    return {
        "link": ok(f.LinkFacts(f.LinkStatus.UP)),
        "net_health": ok(f.NetHealthFacts(f.NetHealth.SUCCESS)),
        "lldp": ok(f.LldpFacts("MAC: 02:00:00:00:00:01", "Ifname: 400GE1/0/1", "leaf-1", None)),
        "tls": ok(f.TlsFacts(0)),
        "health": ok(f.HealthFacts(f.NpuHealth.OK, (), ())),
        "optical": ok(OPTICAL),
        "link_stat": ok(f.LinkStatFacts(2, 1, ())),
        "stat": ok(f.CounterFacts(dict.fromkeys(_STAT, 0))),
        "hw_stats": ok(f.CounterFacts({"pd_alloc": 12, "aeqe": 3})),
        "speed": ok(f.SpeedFacts(200_000)),
        "duplex": ok(f.DuplexFacts(f.Duplex.FULL)),
        "mtu": ok(f.MtuFacts(4200)),
        "fec": ok(f.FecFacts("rs")),
        "ecc": ok(f.CounterFacts(dict.fromkeys(_ECC, 0))),
    }


def _row(npu: int, chip: int, phy: int | None, name: str) -> f.NpuSmiDevice:
    bus = f"0000:{npu:02X}:00.0"
    return f.NpuSmiDevice(npu, chip, phy, name, f.NpuHealth.OK, bus, 90.0, 40, 0, 3400, 65536)


def _host(
    name: str,
    generation: f.Generation,
    devices: tuple[f.DeviceFacts, ...],
    chips: tuple[f.ChipId, ...],
    topo: f.TopoFacts,
    rows: tuple[f.NpuSmiDevice, ...],
) -> f.HostFacts:
    conf = {}
    for found in devices:
        if found.ip.value:
            conf[str(found.phy_id)] = f.HccnConfDevice(
                found.ip.value.address,
                found.ip.value.netmask,
                found.gateway.value.address if found.gateway.value else None,
                found.netdetect.value.address if found.netdetect.value else None,
            )
    return f.HostFacts(
        host=name,
        expectation=f.Expectation(),
        reach=f.Reach(f.ReachStatus.REACHED),
        accelerator=f.Accelerator.ASCEND,
        generation=generation,
        tools={tool: f.ToolFacts(tool, f"/usr/bin/{tool}") for tool in ("hccn_tool", "npu-smi")},
        mapping=ok(f.MappingFacts(chips)),
        npu_smi=ok(f.NpuSmiInfoFacts("25.2.0", rows, ())),
        topo=ok(topo),
        hccn_conf=ok(f.HccnConfFacts(conf)),
        system=f.SystemFacts(
            hostname=ok(name),
            hostname_addresses=ok((nic_address(name),)),
            addresses=ok((f.HostAddress("lo", "127.0.0.1", 8), f.HostAddress("eth0", nic_address(name), 16))),
            clock=ok(f.ClockFacts(0.02, 0.01)),
            driver_version=ok("25.2.0"),
            firmware_version=ok("7.7.0.1"),
            cann_version=NO_DATA,
            open_files_limit=ok(65535),
            memory=ok(f.MemoryFacts(1 << 30, 1 << 29, 0, 0, 2048)),
            time_service=ok(f.TimeServiceFacts(enabled=True, synchronized=True)),
        ),
        devices=devices,
    )
