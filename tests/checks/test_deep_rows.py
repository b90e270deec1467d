"""Rows of the deep profile: a healthy host, what is changed about it, and the cells that must change then.

Every other cell of the host must stay as it was on the healthy one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ascendctl import facts as f
from ascendctl.checks.registry import BY_ID, HOST_CHECKS
from ascendctl.facts import Profile
from ascendctl.inventory import Endpoint, Host
from ascendctl.knowledge.thresholds import BY_NAME, THRESHOLDS, default_text, number, threshold
from ascendctl.results import CellKey, ExitCode, Result, Status, coverage, exit_code
from ascendctl.verify import expectation_of
from tests.checks.hosts import (
    BUSY,
    DENIED,
    FAILED,
    NO_DATA,
    OPTICAL,
    TIMED_OUT,
    TOOL_MISSING,
    UNPARSED,
    UNSUPPORTED,
    Change,
    a2,
    a3,
    at,
    bad,
    device,
    every,
    expect,
    judge,
    made,
    not_called,
    ok,
    set_host,
)
from tests.checks.test_rows import Row, on_all, row

FAIL, WARN, UNKNOWN, SKIPPED = Status.FAIL, Status.WARN, Status.UNKNOWN, Status.SKIPPED
NA, PASS = Status.NOT_APPLICABLE, Status.PASS
A2, A3, A3_HCCS = a2(), a3(), a3(roce=False)
DOWN = ok(f.LinkFacts(f.LinkStatus.DOWN))
# Of one host; those between hosts are in test_across.py.
DEEP_CHECKS = [check.id for check in HOST_CHECKS if check.profile is Profile.DEEP]
PORT_CHECKS = {
    "optical": "optical",
    "link-flaps": "link_stat",
    "port-errors": "stat",
    "speed": "speed",
    "mtu": "mtu",
    "fec": "fec",
}


def deep(*hosts: f.HostFacts) -> dict[CellKey, Result]:
    return judge(*hosts, profile=Profile.DEEP)


def limits(**values: float) -> Change:
    """Thresholds of the inventory; underscores are hyphens."""
    return expect(thresholds={name.replace("_", "-"): value for name, value in values.items()})


def module(**values: Any) -> f.Reading[f.OpticalFacts]:
    return ok(replace(OPTICAL, **values))


def counts(**values: int) -> f.Reading[f.CounterFacts]:
    """The packet counters of a healthy port, but for some."""
    stat = A2.devices[0].stat.value
    assert stat
    return ok(f.CounterFacts({**stat.counters, **values}))


def ecc(**values: int) -> f.Reading[f.CounterFacts]:
    """HBM counters by their first letters: ``double_now``, ``double_ever``, ``single_ever``, ``pages``."""
    names = {
        "double_now": "HBM Double Bit Error Count",
        "double_ever": "HBM Double Bit Aggregate Total Err Cnt",
        "single_ever": "HBM Single Bit Aggregate Total Err Cnt",
        "pages": "HBM Double Bit Isolated Pages Count",
        "ddr_double_now": "DDR Double Bit Error Count",
    }
    healthy = A2.devices[0].ecc.value
    assert healthy
    return ok(f.CounterFacts({**healthy.counters, **{names[key]: value for key, value in values.items()}}))


def hccs(**counters: tuple[int, ...]) -> f.Reading[f.HccsFacts]:
    return ok(f.HccsFacts("OK", (4,) * 7, ("1111",) * 7, (224,) * 7, counters))


def history(ups: int, downs: int | None, *records: str) -> f.Reading[f.LinkStatFacts]:
    told = tuple(f.LinkRecord("Tue Aug 1 14:43:40 2026", f.LinkStatus(word)) for word in records)
    return ok(f.LinkStatFacts(ups, downs, told))


def processes(*held: f.NpuProcess) -> Change:
    def change(host: f.HostFacts) -> f.HostFacts:
        assert host.npu_smi.value
        return replace(host, npu_smi=ok(replace(host.npu_smi.value, processes=held)))

    return change


def hbm(npu: int, used_mib: int | None, total_mib: int | None = 65536) -> Change:
    def change(host: f.HostFacts) -> f.HostFacts:
        assert host.npu_smi.value
        rows = tuple(
            replace(r, hbm_used_mib=used_mib, hbm_total_mib=total_mib) if r.npu_id == npu else r
            for r in host.npu_smi.value.devices
        )
        return replace(host, npu_smi=ok(replace(host.npu_smi.value, devices=rows)))

    return change


def system(**values: Any) -> Change:
    return lambda host: replace(host, system=replace(host.system, **values))


def half(**readings: f.Reading[Any]) -> tuple[Change, ...]:
    """Change the readings of every second device."""
    return tuple(device(phy, **readings) for phy in range(1, 8, 2))


SLOW, FAST = ok(f.SpeedFacts(100_000)), ok(f.SpeedFacts(200_000))
UNKNOWN_SPEED = ok(f.SpeedFacts(None))
OTHER_MTU = ok(f.MtuFacts(1500))
HUGE = ok(f.MemoryFacts(1 << 30, 1 << 29, 4000, 100, 2048))

ROWS = [
    # --- optical ---
    row("optical-no-module", A2, device(3, optical=NO_DATA), optical__3=(FAIL, "no optical module")),
    row(
        "optical-absent-and-nothing-measured",
        A2,
        device(3, optical=ok(f.OpticalFacts(present=False))),
        optical__3=(FAIL, "no optical module"),
    ),
    row("optical-called-absent-with-values", A2, every(optical=module(present=False))),
    row(
        "optical-called-absent-with-bad-values",
        A2,
        device(3, optical=module(present=False, rx_power_mw=(1.0, 0.005, 1.0, 1.0))),
        optical__3=(FAIL, "received light"),
    ),
    row(
        "optical-rx-low",
        A2,
        device(3, optical=module(rx_power_mw=(1.0, 0.0054, 1.0, 1.0))),
        optical__3=(FAIL, "received light"),
    ),
    row(
        "optical-rx-high",
        A2,
        device(3, optical=module(rx_power_mw=(1.0, 3.6, 1.0, 1.0))),
        optical__3=(FAIL, "received light"),
    ),
    row(
        "optical-tx-low",
        A2,
        device(3, optical=module(tx_power_mw=(0.1, 1.4, 1.4, 1.4))),
        optical__3=(FAIL, "sent light"),
    ),
    row("optical-hot", A2, device(3, optical=module(temperature_c=71.0)), optical__3=(FAIL, "temperature")),
    row("optical-cold", A2, device(3, optical=module(temperature_c=-1.0)), optical__3=(FAIL, "temperature")),
    row("optical-voltage", A2, device(3, optical=module(voltage_mv=3000.0)), optical__3=(FAIL, "voltage")),
    row(
        "optical-without-alarm-values",
        A2,
        device(3, optical=module(rx_power_low_mw=0.0, rx_power_high_mw=0.0, temperature_high_c=None)),
    ),
    row(
        "optical-nothing-but-presence",
        A2,
        device(3, optical=ok(f.OpticalFacts(present=True))),
    ),
    row(
        "optical-rx-limit-of-the-site",
        A2,
        limits(optical_rx_power_low_mw=0.95),
        **on_all("optical", A2, (FAIL, "received light")),
    ),
    row(
        "optical-rx-limit-of-the-site-is-wider",
        A2,
        limits(optical_rx_power_low_mw=0.001),
        device(3, optical=module(rx_power_mw=(1.0, 0.0054, 1.0, 1.0))),
    ),
    row(
        "optical-temperature-limit-of-the-site",
        A2,
        limits(optical_temperature_high_c=46.0),
        **on_all("optical", A2, (FAIL, "temperature")),
    ),
    row(
        "optical-limit-of-the-site-where-the-module-states-none",
        A2,
        limits(optical_tx_power_high_mw=1.45),
        every(optical=module(tx_power_low_mw=None, tx_power_high_mw=None)),
        **on_all("optical", A2, (FAIL, "sent light")),
    ),
    row(
        "optical-snr",
        A2,
        device(3, optical=module(media_snr_db=(23.0, 19.9, 23.0, 23.0))),
        optical__3=(WARN, "signal-to-noise"),
    ),
    row(
        "optical-host-snr",
        A2,
        device(3, optical=module(host_snr_db=(19.0, 23.0, 23.0, 23.0))),
        optical__3=(WARN, "signal-to-noise"),
    ),
    row("optical-snr-zero-is-not-measured", A2, device(3, optical=module(media_snr_db=(0.0,) * 4))),
    row(
        "optical-snr-limit-of-the-site",
        A2,
        limits(optical_snr_low_db=18.0),
        device(3, optical=module(media_snr_db=(23.0, 19.9, 23.0, 23.0))),
    ),
    row(
        "optical-los-flag",
        A2,
        device(3, optical=module(rx_los_flags=0x2)),
        optical__3=(WARN, "lost their signal"),
    ),
    row(
        "optical-lol-flag",
        A2,
        device(3, optical=module(tx_lol_flags=0xF)),
        optical__3=(WARN, "lost their signal"),
    ),
    row("optical-flags-not-printed", A2, every(optical=module(rx_los_flags=None, rx_lol_flags=None))),
    # --- link-flaps ---
    row(
        "link-flaps",
        A2,
        device(3, link_stat=history(7, 6, "UP", "DOWN")),
        link_flaps__3=(WARN, "went down often"),
    ),
    row("link-flaps-at-the-limit", A2, device(3, link_stat=history(6, 5))),
    row(
        "link-flaps-without-a-count-by-ups",
        A2,
        device(3, link_stat=history(7, None)),
        link_flaps__3=(WARN, "went down often"),
    ),
    row(
        "link-flaps-without-a-count-by-records",
        A2,
        device(3, link_stat=history(2, None, *["UP", "DOWN"] * 6)),
        link_flaps__3=(WARN, "went down often"),
    ),
    row("link-flaps-without-a-count-at-the-limit", A2, device(3, link_stat=history(6, None))),
    row("link-flaps-never-up", A2, device(3, link_stat=history(0, None))),
    row(
        "link-flaps-limit-of-the-site",
        A2,
        limits(link_flaps_max=10),
        device(3, link_stat=history(9, 8, "UP")),
    ),
    # --- port-errors ---
    *(
        row(
            f"port-errors-{name}",
            A2,
            device(3, stat=counts(**{name: 101})),
            port_errors__3=(WARN, "counted many errors"),
        )
        for name in (
            "mac_tx_bad_pkt_num",
            "mac_rx_bad_pkt_num",
            "mac_rx_fcs_err_pkt_num",
            "roce_rx_err_pkt_num",
            "roce_tx_err_pkt_num",
            "roce_verification_err_num",
            "roce_qp_status_err_num",
        )
    ),
    *(
        row(
            f"port-errors-{name}",
            A2,
            device(3, stat=counts(**{name: 1001})),
            port_errors__3=(WARN, "sent again or out of order"),
        )
        for name in ("roce_new_pkt_rty_num", "roce_out_of_order_num", "roce_unexpected_ack_num")
    ),
    row(
        "port-errors-few-and-much-traffic",
        A2,
        device(
            3,
            stat=counts(
                mac_rx_bad_pkt_num=100, roce_new_pkt_rty_num=1000, mac_rx_total_pkt_num=10**12, aeqe=10**6
            ),
        ),
    ),
    row(
        "port-errors-limits-of-the-site",
        A2,
        limits(port_errors_max=0, roce_retries_max=10**6),
        device(3, stat=counts(mac_rx_bad_pkt_num=1, roce_new_pkt_rty_num=10**6)),
        port_errors__3=(WARN, "counted many errors"),
    ),
    row(
        "port-errors-without-their-counters",
        A2,
        device(3, stat=ok(f.CounterFacts({"mac_rx_total_pkt_num": 5}))),
        port_errors__3=(NA, "prints no error counters"),
    ),
    *(
        row(f"port-errors-hw-stats-{reading.status.value}", A2, every(hw_stats=reading))
        for reading in (UNSUPPORTED, FAILED, UNPARSED, NO_DATA)
    ),
    row(
        "port-errors-hw-stats-hung",
        A2,
        device(3, hw_stats=TIMED_OUT),
        port_errors__3=(UNKNOWN, "had to be killed"),
    ),
    row(
        "port-errors-seen-though-hw-stats-hung",
        A2,
        device(3, hw_stats=TIMED_OUT, stat=counts(mac_rx_bad_pkt_num=101)),
        port_errors__3=(WARN, "counted many errors"),
    ),
    # --- speed ---
    row("speed-slow", A2, device(3, speed=SLOW), speed__3=(FAIL, "another speed")),
    row(
        "speed-tie",
        A2,
        *half(speed=SLOW),
        **on_all("speed", A2, (FAIL, "no majority")),
    ),
    row("speed-all-alike", A2, every(speed=SLOW)),
    row(
        "speed-all-below-the-site's",
        A2,
        limits(port_speed_min_mbps=200_000),
        every(speed=SLOW),
        **on_all("speed", A2, (FAIL, "slower than it should be")),
    ),
    row("speed-site's-limit-settles-a-tie", A2, limits(port_speed_min_mbps=100_000), *half(speed=SLOW)),
    row("speed-half-duplex", A2, device(3, duplex=ok(f.DuplexFacts(f.Duplex.HALF))), speed__3=(FAIL, "half")),
    row("speed-unknown", A2, device(3, speed=UNKNOWN_SPEED), speed__3=(UNKNOWN, "does not know the speed")),
    row(
        "speed-duplex-unknown",
        A2,
        device(3, duplex=ok(f.DuplexFacts(f.Duplex.UNKNOWN))),
        speed__3=(UNKNOWN, "does not know the duplex"),
    ),
    row("speed-alone", A2, every(duplex=UNSUPPORTED)),
    row("duplex-alone", A2, every(speed=UNSUPPORTED)),
    row(
        "speed-and-duplex-not-offered",
        A2,
        device(3, speed=UNSUPPORTED, duplex=UNSUPPORTED),
        speed__3=(NA, "not offered"),
    ),
    row("speed-duplex-failed", A2, device(3, duplex=FAILED), speed__3=(UNKNOWN, "the duplex mode")),
    row("speed-duplex-hung", A2, device(3, duplex=TIMED_OUT), speed__3=(UNKNOWN, "the duplex mode")),
    row(
        "speed-slow-though-duplex-failed",
        A2,
        device(3, speed=SLOW, duplex=FAILED),
        speed__3=(FAIL, "another speed"),
    ),
    # --- mtu ---
    row("mtu-differs", A2, device(3, mtu=OTHER_MTU), mtu__3=(FAIL, "differs from that")),
    row("mtu-tie", A2, *half(mtu=OTHER_MTU), **on_all("mtu", A2, (FAIL, "no majority"))),
    row("mtu-all-alike", A2, every(mtu=OTHER_MTU)),
    row("mtu-not-the-site's", A2, limits(port_mtu_bytes=9000), **on_all("mtu", A2, (FAIL, "inventory"))),
    row("mtu-the-site's", A2, limits(port_mtu_bytes=4200)),
    # --- fec ---
    row("fec-differs", A2, device(3, fec=ok(f.FecFacts("no"))), fec__3=(WARN, "differs from that")),
    row("fec-tie", A2, *half(fec=ok(f.FecFacts("auto"))), **on_all("fec", A2, (WARN, "no majority"))),
    row("fec-all-alike", A2, every(fec=ok(f.FecFacts("auto")))),
    # --- ecc ---
    row("ecc-double-bit", A2, device(3, ecc=ecc(double_now=1, double_ever=1)), ecc__3=(FAIL, "lost data")),
    row("ecc-ddr", A2, device(3, ecc=ecc(ddr_double_now=1)), ecc__3=(FAIL, "lost data")),
    row("ecc-of-the-past", A2, device(3, ecc=ecc(double_ever=2, pages=2)), ecc__3=(WARN, "in the past")),
    row("ecc-single-bit", A2, device(3, ecc=ecc(single_ever=1001)), ecc__3=(WARN, "corrected")),
    row("ecc-few-single-bit", A2, device(3, ecc=ecc(single_ever=1000))),
    row(
        "ecc-limit-of-the-site",
        A2,
        limits(ecc_single_bit_max=0),
        device(3, ecc=ecc(single_ever=1)),
        ecc__3=(WARN, "corrected"),
    ),
    # --- hccs-errors ---
    row(
        "hccs-errors",
        A2,
        device(3, hccs=hccs(error_count=(0, 0, 11), retry_count=(0, 0, 500))),
        hccs_errors__3=(FAIL, "many errors"),
    ),
    row(
        "hccs-retries",
        A3,
        device(3, hccs=hccs(error_count=(0, 10, 0), retry_count=(0, 101, 0))),
        hccs_errors__3=(WARN, "packets again"),
    ),
    row("hccs-few", A2, device(3, hccs=hccs(error_count=(10,) * 7, retry_count=(100,) * 7))),
    row(
        "hccs-limits-of-the-site",
        A2,
        limits(hccs_errors_max=20, hccs_retries_max=0),
        device(3, hccs=hccs(error_count=(11,), retry_count=(1,))),
        hccs_errors__3=(WARN, "packets again"),
    ),
    row("hccs-no-counters", A2, device(3, hccs=hccs()), hccs_errors__3=(NA, "prints no counters")),
    row(
        "hccs-errors-beside-lanes-down",
        A2,
        device(
            3,
            hccs=ok(
                f.HccsFacts(
                    "NOK", (4,) * 7, ("1111",) * 6 + ("1110",), (224,) * 7, {"error_count": (99,) * 7}
                )
            ),
        ),
        hccs_links__3=(FAIL, "lanes are down"),
        hccs_errors__3=(SKIPPED, "explained by hccs-links"),
    ),
    *(
        row(
            f"hccs-reading-{reading.status.value}",
            A2,
            device(3, hccs=reading),
            hccs_links__3=(UNKNOWN, "HCCS links"),
            hccs_errors__3=(SKIPPED, "explained by hccs-links"),
        )
        for reading in (FAILED, UNPARSED, BUSY, TIMED_OUT, NO_DATA)
    ),
    # --- npu-processes and hbm-use ---
    row(
        "process",
        A2,
        processes(f.NpuProcess(3, 0, 4711, "python3", 1024)),
        npu_processes__3=(WARN, "a process holds"),
    ),
    row(
        "process-on-one-die",
        A3,
        processes(f.NpuProcess(1, 1, 4711, "", 1024)),
        npu_processes__3=(WARN, "a process holds"),
    ),
    row(
        "processes",
        A2,
        processes(f.NpuProcess(3, 0, 1, "a", 10), f.NpuProcess(3, 0, 2, "b", 10)),
        npu_processes__3=(WARN, "processes hold"),
    ),
    row("hbm-in-use", A2, hbm(3, 32768), hbm_use__3=(WARN, "no listed process")),
    row(
        "hbm-in-use-by-a-listed-process",
        A2,
        hbm(3, 58000),
        processes(f.NpuProcess(3, 0, 4711, "python3", 54800)),
        npu_processes__3=(WARN, "a process holds"),
    ),
    row(
        "hbm-in-use-besides-a-listed-process",
        A2,
        hbm(3, 58000),
        processes(f.NpuProcess(3, 0, 4711, "python3", 20000)),
        npu_processes__3=(WARN, "a process holds"),
        hbm_use__3=(WARN, "no listed process"),
    ),
    row(
        "hbm-a-process-that-holds-more-than-is-in-use",
        A2,
        hbm(3, 100),
        processes(f.NpuProcess(3, 0, 4711, "python3", 20000)),
        npu_processes__3=(WARN, "a process holds"),
    ),
    row("hbm-limit-of-the-site", A2, limits(hbm_use_max_percent=60), hbm(3, 32768)),
    row(
        "hbm-limit-of-the-site-is-lower",
        A2,
        limits(hbm_use_max_percent=5),
        **on_all("hbm-use", A2, (WARN, "no listed process")),
    ),
    row("hbm-not-shown", A2, hbm(3, None, None), hbm_use__3=(NA, "no HBM")),
    row("hbm-none", A2, hbm(3, 0, 0), hbm_use__3=(NA, "no HBM")),
    # --- the host ---
    row("open-files-low", A2, system(open_files_limit=ok(1024)), open_files=(WARN, "few files")),
    row("open-files-limit-of-the-site", A2, limits(open_files_min=1024), system(open_files_limit=ok(1024))),
    row(
        "open-files-unlimited",
        A2,
        system(open_files_limit=f.Reading(f.ReadingStatus.NO_DATA, evidence="unlimited\n")),
    ),
    row("open-files-unknown", A2, system(open_files_limit=NO_DATA), open_files=(UNKNOWN, "open files")),
    row(
        "huge-pages-wanted", A2, limits(huge_pages_min=4001), system(memory=HUGE), huge_pages=(FAIL, "fewer")
    ),
    row("huge-pages-enough", A2, limits(huge_pages_min=4000), system(memory=HUGE)),
    row(
        "time-not-synchronized",
        A2,
        system(time_service=ok(f.TimeServiceFacts(enabled=True, synchronized=False))),
        time_service=(WARN, "not synchronized"),
    ),
    row(
        "time-service-off",
        A2,
        system(time_service=ok(f.TimeServiceFacts(enabled=False, synchronized=False))),
        time_service=(WARN, "not synchronized"),
    ),
    row(
        "time-service-of-another-kind",
        A2,
        system(time_service=ok(f.TimeServiceFacts(enabled=False, synchronized=True))),
    ),
    row("no-timedatectl", A2, system(time_service=TOOL_MISSING), time_service=(NA, "has no timedatectl")),
    *(
        row(
            f"{name}-{reading.status.value}",
            A2,
            system(**{name: reading}),
            **{
                check: (UNKNOWN, "could not be learned")
                if reading is not UNSUPPORTED
                else (NA, "not offered")
            },
        )
        for name, check in (("memory", "huge_pages"), ("time_service", "time_service"))
        for reading in (NO_DATA, DENIED, FAILED, UNPARSED, BUSY, TIMED_OUT, UNSUPPORTED)
    ),
    # --- readings of ports and devices that did not end well ---
    *(
        row(
            f"{check}-{reading.status.value}",
            A2,
            device(3, **{name: reading}),
            **{f"{check.replace('-', '_')}__3": (UNKNOWN, "could not be learned")},
        )
        for check, name in {**PORT_CHECKS, "ecc": "ecc"}.items()
        for reading in (DENIED, FAILED, UNPARSED, BUSY, TIMED_OUT, NO_DATA)
        if (check, reading) != ("optical", NO_DATA)
    ),
    *(
        row(
            f"{check}-not-offered",
            A2,
            device(3, **{name: UNSUPPORTED}),
            **{f"{check.replace('-', '_')}__3": (NA, "not offered")},
        )
        for check, name in {**PORT_CHECKS, "ecc": "ecc"}.items()
        if check != "speed"
    ),
    row("hccs-errors-not-offered", A2, device(3, hccs=UNSUPPORTED), hccs_errors__3=(NA, "not offered")),
]


@pytest.mark.parametrize("wanted", [pytest.param(one, id=one.id) for one in ROWS])
def test_row(wanted: Row) -> None:
    healthy = deep(wanted.host)
    host = made(wanted.host, *wanted.changes)
    cells = deep(host)
    expected = {at(check, host, phy): wish for (check, phy), wish in wanted.cells.items()}
    for key, (status, text) in expected.items():
        assert (cells[key].status, text in cells[key].message) == (status, True), cells[key]
    others = {key: cell.status for key, cell in cells.items() if key not in expected}
    assert others == {key: cell.status for key, cell in healthy.items() if key not in expected}


@pytest.mark.parametrize("wanted", [pytest.param(one, id=one.id) for one in ROWS])
def test_findings_are_complete_and_fold_over_hosts(wanted: Row) -> None:
    host = made(wanted.host, *wanted.changes)
    for cell in deep(host).values():
        assert host.host not in cell.message
        if cell.status in (FAIL, WARN):
            assert cell.message and cell.expected and cell.actual, cell
            assert cell.consequence and cell.remedy, cell
            assert cell.command == "a command", cell
        if cell.status is UNKNOWN:
            assert cell.remedy, cell


@pytest.mark.parametrize("host", [pytest.param(A2, id="a2"), pytest.param(A3, id="a3")])
def test_a_healthy_host_is_green(host: f.HostFacts) -> None:
    cells = deep(host)
    assert {cell.check for cell in cells.values()} >= set(DEEP_CHECKS)
    assert {cell.status for cell in cells.values() if cell.check in DEEP_CHECKS} == {PASS}
    assert coverage(cells.values()).percent == 100.0
    assert exit_code(cells.values()) is ExitCode.OK


def test_the_standard_profile_has_no_cell_of_the_deep_one() -> None:
    broken = made(A2, every(ecc=ecc(double_now=1), optical=NO_DATA), system(open_files_limit=ok(4)))
    standard = judge(broken)
    only_deep = {check.id for check in BY_ID.values() if check.profile is Profile.DEEP}
    assert not {cell.check for cell in standard.values()} & only_deep
    assert {key: cell for key, cell in deep(broken).items() if key.check not in only_deep} == standard


def test_each_deep_check_gives_its_cells() -> None:
    per_host = {"open-files", "huge-pages", "time-service"}
    for check in DEEP_CHECKS:
        cells = [key for key in deep(A2) if key.check == check]
        assert len(cells) == (1 if check in per_host else 8), check


# --- ports ----------------------------------------------------------------------------------------------


BAD_PORT = {
    "optical": NO_DATA,
    "link_stat": history(99, 98),
    "stat": counts(mac_rx_bad_pkt_num=10**6),
    "speed": UNKNOWN_SPEED,
    "duplex": ok(f.DuplexFacts(f.Duplex.HALF)),
    "mtu": OTHER_MTU,
    "fec": ok(f.FecFacts("no")),
}


def test_a_link_that_is_down_explains_what_else_is_wrong_with_its_port() -> None:
    dark = module(rx_power_mw=(0.0,) * 4, rx_los_flags=0xF)
    host = made(A2, device(3, link=DOWN, **{**BAD_PORT, "optical": dark}))
    cells = deep(host)
    assert cells[at("link", host, 3)].status is FAIL
    for check in PORT_CHECKS:
        cell = cells[at(check, host, 3)]
        assert (cell.status, cell.caused_by) == (SKIPPED, at("link", host, 3)), cell


@pytest.mark.parametrize(
    "broken",
    [NO_DATA, module(rx_power_mw=(0.0,) * 4, tx_power_mw=(0.0,) * 4), module(temperature_c=90.0)],
    ids=["no module", "sends no light", "hot"],
)
def test_a_broken_module_explains_the_link_that_is_down(broken: f.Reading[f.OpticalFacts]) -> None:
    host = made(A2, device(3, link=DOWN, **{**BAD_PORT, "optical": broken}))
    cells = deep(host)
    assert cells[at("optical", host, 3)].status is FAIL
    for check in ("link", *PORT_CHECKS):
        cell = cells[at(check, host, 3)]
        if check != "optical":
            assert (cell.status, cell.caused_by) == (SKIPPED, at("optical", host, 3)), cell


def test_ports_that_carry_no_roce_are_not_judged() -> None:
    host = made(A3_HCCS, every(link=DOWN, **BAD_PORT))
    cells = deep(host).values()
    assert {cell.status for cell in cells if cell.check in PORT_CHECKS} == {NA}


def test_a_hung_command_of_a_port_without_roce_stays_visible() -> None:
    host = made(A3_HCCS, device(3, optical=TIMED_OUT, hw_stats=TIMED_OUT, duplex=TIMED_OUT))
    cells = deep(host)
    assert cells[at("speed", host, 3)].status is UNKNOWN
    assert cells[at("optical", host, 3)].status is UNKNOWN
    assert cells[at("port-errors", host, 3)].status is UNKNOWN


def test_where_roce_cannot_be_told_a_finding_is_doubtful() -> None:
    host = made(A3, every(ip=FAILED), device(3, **BAD_PORT))
    cells = deep(host)
    for check in ("optical", "link-flaps", "port-errors", "speed", "mtu", "fec"):
        cell = cells[at(check, host, 3)]
        assert (cell.status, cell.caused_by) == (SKIPPED, at("address", host, 3)), cell


def test_ports_of_unknown_speed_have_no_vote() -> None:
    host = made(A2, *(device(phy, speed=UNKNOWN_SPEED) for phy in range(5)), device(7, speed=SLOW))
    cells = deep(host)
    statuses = [cells[at("speed", host, phy)].status for phy in range(8)]
    assert statuses == [UNKNOWN] * 5 + [PASS, PASS, FAIL]
    assert cells[at("speed", host, 7)].expected == "200000 Mb/s"


@pytest.mark.parametrize("own", ["optical", "link-stat", "stat", "hw-stats", "speed", "duplex", "mtu", "fec"])
def test_what_a_hung_command_kept_back_is_explained_by_its_own_check(own: str) -> None:
    """hccn_tool is not called again after one of its commands hung; the last of them is fec."""
    names = ["optical", "link_stat", "stat", "hw_stats", "speed", "duplex", "mtu", "fec"]
    place = names.index(own.replace("-", "_"))
    later = dict.fromkeys(names[place + 1 :], not_called(own, 3))
    host = made(A2, device(3, **{names[place]: TIMED_OUT, **later}))
    cells = deep(host)
    hung = [key for key, cell in cells.items() if cell.status is UNKNOWN]
    assert len(hung) == 1
    rest = [cell for cell in cells.values() if cell.status is not PASS and cell.key not in hung]
    assert {cell.caused_by for cell in rest if cell.check in DEEP_CHECKS} <= set(hung)
    assert len([cell for cell in rest if cell.check in DEEP_CHECKS]) == len(
        {check for check, name in PORT_CHECKS.items() if name in later} - {key.check for key in hung}
    )


def test_findings_name_lanes_and_values() -> None:
    host = made(A2, device(3, optical=module(rx_power_mw=(1.0, 0.0054, 1.0, 1.0), temperature_c=80.0)))
    found = deep(host)[at("optical", host, 3)]
    assert found.actual == "received light 0.0054 mW on lane 1; temperature 80 C"
    assert "received light at least 0.1445 mW and at most 3.5481 mW" in found.expected
    assert "EI0013" in found.consequence


def test_counters_are_named_the_largest_first() -> None:
    host = made(A2, device(3, stat=counts(mac_rx_bad_pkt_num=200, mac_rx_fcs_err_pkt_num=300)))
    found = deep(host)[at("port-errors", host, 3)]
    assert found.actual == "mac_rx_fcs_err_pkt_num 300, mac_rx_bad_pkt_num 200"


# --- devices and hosts ----------------------------------------------------------------------------------


def test_a_process_is_named_with_its_memory() -> None:
    held = (f.NpuProcess(3, 0, 4711, "python3", 1024), f.NpuProcess(3, 0, 4712, "", 20))
    host = made(A2, processes(*held))
    found = deep(host)[at("npu-processes", host, 3)]
    assert found.actual == "pid 4711 python3, 1024 MiB; pid 4712 (no name), 20 MiB"


@pytest.mark.parametrize("reading", [FAILED, UNPARSED, TIMED_OUT], ids=lambda reading: reading.status.value)
def test_a_table_that_was_not_read_is_told_once(reading: f.Reading[Any]) -> None:
    host = made(A2, set_host(npu_smi=reading))
    cells = deep(host)
    assert cells[at("npu-count", host)].status is UNKNOWN
    for check in ("npu-processes", "hbm-use"):
        for phy in range(8):
            cell = cells[at(check, host, phy)]
            assert (cell.status, cell.caused_by) == (SKIPPED, at("npu-count", host)), cell


def test_a_device_without_a_row_has_no_memory_to_judge() -> None:
    assert A2.npu_smi.value
    rows = tuple(r for r in A2.npu_smi.value.devices if r.npu_id != 3)
    host = made(A2, set_host(npu_smi=ok(replace(A2.npu_smi.value, devices=rows))))
    cell = deep(host)[at("hbm-use", host, 3)]
    assert (cell.status, cell.caused_by) == (SKIPPED, at("npu-health", host, 3))


def test_huge_pages_are_shown_and_pass_where_nobody_wants_any() -> None:
    cells = deep(A2)
    assert cells[at("huge-pages", A2)].message == "0 huge pages of 2048 KiB"


def test_what_was_not_asked_of_a_reached_host_is_not_green() -> None:
    """A standard answer judged as a deep one."""
    nothing: dict[str, Any] = dict.fromkeys(
        ("optical", "link_stat", "stat", "hw_stats", "speed", "duplex", "mtu", "fec", "ecc"),
        bad(f.ReadingStatus.NOT_ASKED),
    )
    host = made(A2, every(**nothing), system(memory=f.not_asked(), time_service=f.not_asked()))
    asked_anyway = {"npu-processes", "hbm-use", "hccs-errors", "open-files"}
    for cell in deep(host).values():
        if cell.check in DEEP_CHECKS and cell.check not in asked_anyway:
            assert cell.status is UNKNOWN, cell


# --- thresholds -----------------------------------------------------------------------------------------


def test_each_threshold_is_of_a_check_that_explains_it() -> None:
    assert len(BY_NAME) == len(THRESHOLDS)
    for one in THRESHOLDS:
        assert BY_ID[one.check].profile is Profile.DEEP, one.name
        assert one.meaning.endswith(".") and one.unit and one.source, one.name
        if one.default is not None:
            assert one.lowest <= one.default <= (one.highest or one.default), one.name


def test_the_sites_own_limit_wins() -> None:
    assert threshold("link-flaps-max", {}) == 5
    assert threshold("link-flaps-max", {"link-flaps-max": 0}) == 0
    assert threshold("huge-pages-min", {}) is None
    assert default_text(BY_NAME["link-flaps-max"]).startswith("5 times (")


def test_the_inventorys_limits_reach_the_checks() -> None:
    listed = Host("a", Endpoint("a", "a"), thresholds={"link-flaps-max": 3.0})
    assert expectation_of(listed).thresholds == {"link-flaps-max": 3.0}


@pytest.mark.parametrize(
    ("value", "text"),
    [(5.0, "5"), (65535.0, "65535"), (200000, "200000"), (0.1445, "0.1445"), (0.0, "0"), (-3.5, "-3.5")],
)
def test_numbers_are_shown_plainly(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("one", THRESHOLDS, ids=lambda one: one.name)
def test_each_threshold_changes_a_verdict(one: Any) -> None:
    """At its strictest, a healthy host is not green any more."""
    floors = ("-low-", "-min")
    strict = 10.0**7 if any(word in one.name for word in floors) else -300.0
    host = made(A2, expect(thresholds={one.name: strict}))
    worse = {cell.check for cell in deep(host).values() if cell.status in (FAIL, WARN)}
    assert worse == {one.check}
