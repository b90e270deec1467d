"""From facts to the counters that two runs are compared by."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from ascendctl import facts as f
from ascendctl.counters import COMPARED, GROUPS, counters_of
from ascendctl.parsers import parse
from ascendctl.results import Status
from tests.checks import hosts

READ_AT = dt.datetime(2026, 3, 4, 5, 6, 7, tzinfo=dt.timezone.utc)


def host(name: str, *devices: int, **readings: Any) -> f.HostFacts:
    made = tuple(f.DeviceFacts(phy_id, 0, phy_id, "910B3", **readings) for phy_id in devices)
    return f.HostFacts(name, f.Expectation(), f.Reach(f.ReachStatus.REACHED), devices=made)


def groups(**readings: f.Reading[object]) -> Mapping[str, Mapping[str, int]] | None:
    """Of a device with these readings and no other; None = it has no counters."""
    found = counters_of(f.ClusterFacts((host("node01", 3, **readings),)), READ_AT)
    assert {(one.host, one.device, one.read_at) for one in found} <= {("node01", 3, READ_AT)}
    return found[0].groups if found else None


def hccs(**counters: tuple[int, ...]) -> f.Reading[object]:
    return hosts.ok(f.HccsFacts("OK", (4, 4), ("1111", "1111"), (224, 224), counters))


def counts(**counters: int) -> f.Reading[object]:
    return hosts.ok(f.CounterFacts(counters))


ECC = {
    "HBM Double Bit Error Count": 2,
    "HBM Single Bit Error Count": 0,
    "HBM Double Bit Isolated Pages Count": 1,
}

TABLE = [
    pytest.param({}, None, id="nothing read"),
    pytest.param(
        {"link_stat": hosts.ok(f.LinkStatFacts(4, 3, ()))},
        {"link_stat": {"link down count": 3}},
        id="down count",
    ),
    pytest.param(
        {"link_stat": hosts.ok(f.LinkStatFacts(4, None, ()))},
        {"link_stat": {"link up count": 4}},
        id="older tool",
    ),
    pytest.param({"link_stat": hosts.ok(f.LinkStatFacts(1, 0, ()))}, {"link_stat": {}}, id="never down"),
    pytest.param(
        {
            "stat": counts(
                mac_rx_fcs_err_pkt_num=5,
                roce_new_pkt_rty_num=0,
                mac_rx_total_pkt_num=900,
                mac_tx_pfc_pkt_num=7,
                roce_rx_cnp_pkt_num=8,
                heard_of_by_nobody=9,
            )
        },
        {"stat": {"mac_rx_fcs_err_pkt_num": 5}},
        id="errors, neither traffic nor pauses",
    ),
    pytest.param({"hw_stats": counts(qp_alloc=4, aeqe=1)}, None, id="allocations"),
    pytest.param(
        {"ecc": hosts.ok(f.CounterFacts(ECC))}, {"ecc": {"HBM Double Bit Error Count": 2}}, id="memory"
    ),
    pytest.param(
        {"hccs": hccs(error_count=(1, 2), retry_count=(0, 0), tx_packets=(5, 5))},
        {"hccs": {"hccs error count": 3}},
        id="HCCS summed over its links",
    ),
    pytest.param({"hccs": hccs(tx_packets=(5, 5))}, None, id="HCCS of a tool that counts no errors"),
    pytest.param({"stat": hosts.TIMED_OUT, "ecc": hosts.UNSUPPORTED}, None, id="not read"),
    pytest.param(
        {"stat": hosts.BUSY, "ecc": hosts.ok(f.CounterFacts({}))}, {"ecc": {}}, id="one of two read"
    ),
]


@pytest.mark.parametrize(("readings", "expected"), TABLE)
def test_what_is_compared_of_a_device(
    readings: Mapping[str, f.Reading[object]], expected: Mapping[str, Mapping[str, int]] | None
) -> None:
    assert groups(**readings) == expected


HCCS_TEXT = """\
\thccs health status             : OK
\thccs lane mode                 : [4                    4                    ]
\thccs link lane list            : [1111                 1111                 ]
\thccs link speed                : [224                  224                  ]
\thccs retry count               : [3                    4                    ]
\thccs error count               : [1                    0                    ]
"""
ECC_TEXT = "".join(
    f"\t{f'HBM {bits} Bit {kind}':<41}: {number}\n"
    for number, (kind, bits) in enumerate(
        itertools.product(
            ("Error Count", "Aggregate Total Err Cnt", "Isolated Pages Count"), ("Single", "Double")
        )
    )
)
LINK_TEXT = """\
[devid 3]current time        : Mon Nov 23 10:00:00 2026
[devid 3]link up count       : 3
[devid 3]link down count     : 2
[devid 3]link change records : NA
"""
PRINTED = [
    ("npu-smi info -t hccs -i 3 -c 0", HCCS_TEXT, "hccs", {"hccs error count": 1, "hccs retry count": 7}),
    (
        "npu-smi info -t ecc -i 3 -c 0",
        ECC_TEXT,
        "ecc",
        {
            "HBM Double Bit Error Count": 1,
            "HBM Single Bit Aggregate Total Err Cnt": 2,
            "HBM Double Bit Aggregate Total Err Cnt": 3,
        },
    ),
    ("hccn_tool -i 3 -link_stat -g", LINK_TEXT, "link_stat", {"link down count": 2}),
    (
        "hccn_tool -i 3 -stat -g",
        "packet statistics:\nroce_rx_err_pkt_num:4\nroce_new_pkt_rty_num:5\nroce_cqe_num:6\n",
        "stat",
        {"roce_rx_err_pkt_num": 4, "roce_new_pkt_rty_num": 5},
    ),
]


@pytest.mark.parametrize(("command", "text", "reading", "expected"), PRINTED)
def test_the_names_are_those_of_the_parsed_output(
    command: str, text: str, reading: str, expected: Mapping[str, int]
) -> None:
    parsed = parse(command, text.encode())
    assert parsed.status is f.ParseStatus.OK, parsed.reason
    found = groups(**{reading: hosts.ok(parsed.facts)})
    assert found is not None
    assert found[reading] == expected


def test_every_device_of_every_host() -> None:
    cluster = f.ClusterFacts(
        (
            host("node01", *range(8), stat=counts(roce_rx_err_pkt_num=1)),
            hosts.unreached("node02"),
            host("node03", *range(16), stat=counts()),
            host("node04", *range(8), stat=hosts.TIMED_OUT),
        )
    )
    found = counters_of(cluster, READ_AT)
    assert [(one.host, one.device) for one in found] == [
        *(("node01", number) for number in range(8)),
        *(("node03", number) for number in range(16)),
    ]


def test_the_table_is_sound() -> None:
    names = [(counter.group, counter.name) for counter in COMPARED]
    assert len(set(names)) == len(names)
    for counter in COMPARED:
        assert counter.severity in (Status.FAIL, Status.WARN)
        repeated = [one for one in GROUPS[counter.group] if one.name == counter.repeats]
        assert bool(counter.repeats) == bool(repeated), counter.name
        assert all(one.severity is counter.severity and not one.repeats for one in repeated)
