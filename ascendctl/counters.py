"""Which counters of a device two runs are compared by, and reading them from the facts of a run.

Compared are counters of what went wrong. Totals of traffic, pause frames and congestion marks (PFC, CNP,
ECN) grow on every port that works, and would hide what matters. ``hccn_tool -hw_stats`` prints what is
allocated (pd, mr, cq, qp) and events of both kinds, good and bad, so that nothing of it is compared.

Sources: names of ``-stat`` as in the vendor's DCMI header (``dcmi_network_pkt_stats_info``) and its list of
monitored values; of ``npu-smi info -t ecc`` and ``-t hccs`` as npu-smi prints them; the meaning of
``roce_new_pkt_rty_num`` as in the vendor's guide to lost and repeated packets. That a start of the driver
may bring a link up, down and up again within seconds is seen in captures of ``-link_stat``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ascendctl.facts import ClusterFacts, DeviceFacts, HccsFacts, LinkStatFacts
from ascendctl.results import DeviceCounters, Status


@dataclass(frozen=True)
class Counter:
    """One counter that is compared.

    ``severity``: ``fail`` where growth means that something broke, ``warn`` where the hardware corrected or
    repeated it. ``meaning``: what one count of it is, as a clause. ``at_start``: how many the start of the
    driver brings along; ``starts_later``: whether 0 says that this start has not ended. ``repeats``: a
    counter of the same group that counts the same events, so that growth of both is told once.
    """

    group: str
    name: str
    severity: Status
    meaning: str
    at_start: int = 0
    starts_later: bool = False
    repeats: str = ""

    def growth(self, before: int, now: int, *, restarted: bool) -> int:
        """How many faults were counted between two values; ``restarted``: it began anew between them."""
        if restarted or (self.starts_later and not before):
            return max(0, now - self.at_start)
        return now - before


LINK_DOWN_COUNT = "link down count"
LINK_UP_COUNT = "link up count"  # stands in where an older tool prints no down count

COMPARED: tuple[Counter, ...] = (
    Counter("link_stat", LINK_DOWN_COUNT, Status.FAIL, "the link went down", at_start=1),
    Counter("link_stat", LINK_UP_COUNT, Status.FAIL, "the link came up again", at_start=2, starts_later=True),
    Counter("stat", "mac_rx_fcs_err_pkt_num", Status.FAIL, "a packet arrived with a wrong checksum"),
    Counter(
        "stat",
        "mac_rx_bad_pkt_num",
        Status.FAIL,
        "a damaged packet arrived",
        repeats="mac_rx_fcs_err_pkt_num",
    ),
    Counter("stat", "mac_tx_bad_pkt_num", Status.FAIL, "a damaged packet was sent"),
    Counter("stat", "roce_rx_err_pkt_num", Status.FAIL, "a bad RoCE packet arrived"),
    Counter("stat", "roce_tx_err_pkt_num", Status.FAIL, "a bad RoCE packet was sent"),
    Counter("stat", "roce_verification_err_num", Status.FAIL, "a RoCE packet failed its verification"),
    Counter("stat", "roce_new_pkt_rty_num", Status.WARN, "a RoCE packet was sent again"),
    Counter("stat", "roce_out_of_order_num", Status.WARN, "a RoCE packet arrived out of order or twice"),
    Counter("stat", "roce_unexpected_ack_num", Status.WARN, "an unexpected RoCE acknowledgement arrived"),
    Counter("stat", "roce_qp_status_err_num", Status.WARN, "a RoCE packet arrived for a closed or failed QP"),
    Counter("ecc", "HBM Double Bit Error Count", Status.FAIL, "HBM lost data"),
    Counter(
        "ecc",
        "HBM Double Bit Aggregate Total Err Cnt",
        Status.FAIL,
        "HBM lost data",
        repeats="HBM Double Bit Error Count",
    ),
    Counter("ecc", "DDR Double Bit Error Count", Status.FAIL, "DDR lost data"),
    Counter(
        "ecc",
        "DDR Double Bit Aggregate Total Err Cnt",
        Status.FAIL,
        "DDR lost data",
        repeats="DDR Double Bit Error Count",
    ),
    Counter("ecc", "HBM Single Bit Error Count", Status.WARN, "HBM corrected an error"),
    Counter(
        "ecc",
        "HBM Single Bit Aggregate Total Err Cnt",
        Status.WARN,
        "HBM corrected an error",
        repeats="HBM Single Bit Error Count",
    ),
    Counter("ecc", "DDR Single Bit Error Count", Status.WARN, "DDR corrected an error"),
    Counter(
        "ecc",
        "DDR Single Bit Aggregate Total Err Cnt",
        Status.WARN,
        "DDR corrected an error",
        repeats="DDR Single Bit Error Count",
    ),
    Counter("hccs", "hccs error count", Status.FAIL, "an HCCS transfer failed"),
    Counter("hccs", "hccs retry count", Status.WARN, "an HCCS transfer was repeated"),
)

GROUPS: Mapping[str, tuple[Counter, ...]] = {
    group: tuple(counter for counter in COMPARED if counter.group == group)
    for group in dict.fromkeys(counter.group for counter in COMPARED)
}
_ALL_ZERO: Mapping[str, int] = MappingProxyType({})


def counters_of(cluster: ClusterFacts, read_at: dt.datetime) -> tuple[DeviceCounters, ...]:
    """The compared counters of every device of which a group was read, those of HCCS summed over links."""
    return tuple(
        DeviceCounters(host.host, device.phy_id, read_at, groups)
        for host in cluster.hosts
        for device in host.devices
        if (groups := dict(_groups(device)))
    )


def _groups(device: DeviceFacts) -> Iterator[tuple[str, Mapping[str, int]]]:
    if device.link_stat.value:
        yield "link_stat", _compared("link_stat", _link_counts(device.link_stat.value))
    if device.stat.value:
        yield "stat", _compared("stat", device.stat.value.counters)
    if device.ecc.value:
        yield "ecc", _compared("ecc", device.ecc.value.counters)
    if device.hccs.value and (counts := _hccs_counts(device.hccs.value)):
        yield "hccs", _compared("hccs", counts)


def _link_counts(link: LinkStatFacts) -> Mapping[str, int]:
    if link.down_count is None:
        return {LINK_UP_COUNT: link.up_count}
    return {LINK_DOWN_COUNT: link.down_count}


def _hccs_counts(hccs: HccsFacts) -> Mapping[str, int]:
    """Empty where the tool's version prints none. The facts name them without ``hccs``, as one word."""
    by_name = {f"hccs {key.replace('_', ' ')}": counts for key, counts in hccs.counters.items()}
    return {counter.name: sum(by_name[counter.name]) for counter in GROUPS["hccs"] if counter.name in by_name}


def _compared(group: str, printed: Mapping[str, int]) -> Mapping[str, int]:
    """Those of a group that are compared and not 0, so that a thousand hosts stay small."""
    counts = {counter.name: printed[counter.name] for counter in GROUPS[group] if printed.get(counter.name)}
    return counts or _ALL_ZERO
