"""What a port counts: healthy values, and the texts of ``hccn_tool -stat``, ``-hw_stats`` and ``-link_stat``.

Labels and their order are those of the published driver source (hicann/driver, hccn_tool: tool.c for
``-stat`` and ``-link_stat``, tool_ops.c for ``-hw_stats``) and of captures.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

CLOCK = dt.datetime(2026, 1, 5, 8, 0, 0)
RECORDS_KEPT = 10  # the driver's list of changes is no longer


def _directions(*names: str) -> tuple[str, ...]:
    return tuple(f"mac_{way}_{name}" for way in ("tx", "rx") for name in names)


STATISTICS = (
    *_directions("mac_pause_num"),
    *_directions("pfc_pkt_num", *(f"pfc_pri{priority}_pkt_num" for priority in range(8))),
    *_directions("total_pkt_num", "total_oct_num", "bad_pkt_num", "bad_oct_num"),
    "mac_rx_fcs_err_pkt_num",
    *(f"roce_{way}_{kind}_pkt_num" for way in ("rx", "tx") for kind in ("rc", "all", "err")),
    "roce_cqe_num",
    "roce_rx_cnp_pkt_num",
    "roce_tx_cnp_pkt_num",
    *(
        f"roce_{event}_num"
        for event in (
            "unexpected_ack",
            "out_of_order",
            "verification_err",
            "qp_status_err",
            "new_pkt_rty",
            "ecn_db",
        )
    ),
    *(f"nic_{way}_all_{unit}_num" for way in ("tx", "rx") for unit in ("pkg", "oct")),
)

_OBJECTS = ("pd", "mr", "cq", "qp")
RDMA_STATISTICS = (
    *(f"{name}_{event}" for name in _OBJECTS for event in ("alloc", "dealloc")),
    *(f"{name}_active" for name in _OBJECTS),
    "aeqe",
    "ceqe",
)

# What the driver itself holds on a device that no one uses.
IDLE_RDMA: Mapping[str, int] = {
    f"{name}_{event}": 1 for name in ("pd", "cq", "qp") for event in ("alloc", "active")
}


@dataclass(frozen=True)
class LinkChange:
    time: str
    up: bool


@dataclass(frozen=True)
class LinkHistory:
    """``changes`` newest first; ``down_count`` None leaves its line out, as older tools do."""

    time: str = CLOCK.ctime()
    up_count: int = 1
    down_count: int | None = 0
    changes: tuple[LinkChange, ...] = ()

    def flapped(self, times: int) -> LinkHistory:
        """It was lost and came back ``times`` times, a minute apart, the last time just now."""
        kept = range(min(times, RECORDS_KEPT))
        changes = [
            LinkChange(_ago(minutes=flap + 1, seconds=-3 * up), up=bool(up)) for flap in kept for up in (1, 0)
        ]
        return self._after(changes, ups=times, downs=times)

    def lost(self) -> LinkHistory:
        """It was lost just now."""
        return self._after([LinkChange(_ago(minutes=1), up=False)], ups=0, downs=1)

    def _after(self, changes: list[LinkChange], *, ups: int, downs: int) -> LinkHistory:
        return replace(
            self,
            up_count=self.up_count + ups,
            down_count=None if self.down_count is None else self.down_count + downs,
            changes=(*changes, *self.changes)[:RECORDS_KEPT],
        )


def healthy_history(dice: random.Random) -> LinkHistory:
    """The link came up once, when the driver was loaded."""
    return LinkHistory(changes=(LinkChange(_ago(minutes=60 * 24 * 3 + dice.randrange(600)), up=True),))


def healthy_statistics(dice: random.Random) -> Mapping[str, int]:
    """Traffic and no errors; what is missing is 0."""
    counted = {}
    for way in ("tx", "rx"):
        packets, size = dice.randrange(10**8, 10**10), dice.randrange(2000, 4000)
        own = dice.randrange(10**4, 10**6)
        counted[f"mac_{way}_total_pkt_num"] = packets + own
        counted[f"mac_{way}_total_oct_num"] = packets * size + own * 140
        counted[f"roce_{way}_rc_pkt_num"] = counted[f"roce_{way}_all_pkt_num"] = packets
        counted[f"nic_{way}_all_pkg_num"] = own
        counted[f"nic_{way}_all_oct_num"] = own * 140
    counted["roce_cqe_num"] = dice.randrange(10**5, 10**7)
    return counted


def damaged_packets(counted: Mapping[str, int], packets: int) -> Mapping[str, int]:
    """``packets`` came in with a wrong checksum, and as many behind them out of order."""
    return {
        **counted,
        "mac_rx_bad_pkt_num": packets,
        "mac_rx_bad_oct_num": packets * 1500,
        "mac_rx_fcs_err_pkt_num": packets,
        "roce_out_of_order_num": packets,
    }


def statistics_text(counted: Mapping[str, int]) -> str:
    """``-stat``, without the last line end."""
    return "\n".join(["packet statistics:", *(f"{name}:{counted.get(name, 0)}" for name in STATISTICS)])


def rdma_text(phy_id: int, counted: Mapping[str, int]) -> str:
    """``-hw_stats``, without the last line end."""
    return "\n".join(f"[devid {phy_id}] {name}: {counted.get(name, 0)}" for name in RDMA_STATISTICS)


def history_text(label: str, phy_id: int, history: LinkHistory) -> str:
    """``-link_stat``, without the last line end; ``label`` is ``devid``, of older tools ``device``."""
    down = [] if history.down_count is None else [f"link down count     : {history.down_count}"]
    lines = [
        f"current time        : {history.time}",
        f"link up count       : {history.up_count}",
        *down,
        "link change records :" + ("" if history.changes else " NA"),
        *(f"    {change.time}    LINK {'UP' if change.up else 'DOWN'}" for change in history.changes),
    ]
    return "\n".join(f"[{label} {phy_id}]{line}" for line in lines)


def _ago(*, minutes: int, seconds: int = 0) -> str:
    return (CLOCK - dt.timedelta(minutes=minutes, seconds=seconds)).ctime()
