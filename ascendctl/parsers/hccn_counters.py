"""``hccn_tool -i N -stat -g`` and ``-hw_stats -g``: what a port has counted since it started.

Formats: hccn_tool's source for 910B and A3 (tool.c for ``-stat``, tool_ops.c for ``-hw_stats``), and for
``-stat`` captures. Which counters ``-stat`` prints depends on the build.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ascendctl.facts import CounterFacts
from ascendctl.parsers.command import Asked
from ascendctl.parsers.grammar import MAX_UINT64, unsigned
from ascendctl.parsers.hccn_tool import same_device
from ascendctl.parsers.reader import Reader
from ascendctl.parsers.text import Line, Output, ends_early, nonblank, require_line_end, unparsed


def read_stat(asked: Asked, output: Output) -> CounterFacts:
    """``packet statistics:``, then ``mac_…_num:N``, ``roce_…_num:N`` and ``nic_…_num:N``, glued.

    A list that begins with the MAC's counters is whole when the NIC's last one was printed; shortened
    ones, of the RoCE counters alone, are seen too.
    """
    first, *lines = nonblank(output.stdout)
    if first.stripped != _STAT_HEADER:
        raise unparsed(first, f"expected '{_STAT_HEADER}'")
    if not lines:
        raise ends_early([first], "the first counter")
    counters: dict[str, int] = {}
    for line in lines:
        match = _STAT_LINE.fullmatch(line.stripped)
        if match is None:
            raise unparsed(line, "expected a counter, such as 'roce_rx_err_pkt_num:0'")
        _count(counters, match, line)
    require_line_end(lines[-1])
    if next(iter(counters)).startswith("mac_") and _STAT_END not in counters:
        raise ends_early(lines, f"{_STAT_END!r}")
    return CounterFacts(counters)


def read_hw_stats(asked: Asked, output: Output) -> CounterFacts:
    """``[devid 3] pd_alloc: 12``: the RDMA device's objects and events, with a blank behind the bracket.

    All of the source's counters must be there; none of them counts an error.
    """
    lines = nonblank(output.stdout)
    counters: dict[str, int] = {}
    for line in lines:
        match = _HW_STATS_LINE.fullmatch(line.stripped)
        if match is None:
            raise unparsed(line, "expected '[devid N] NAME: NUMBER'")
        same_device(asked, match["device"], line)
        _count(counters, match, line)
    require_line_end(lines[-1])
    _require(_HW_STATS_NAMES, counters, lines)
    return CounterFacts(counters)


READERS: Mapping[str, Reader] = {"-stat": Reader(read_stat), "-hw_stats": Reader(read_hw_stats)}


_STAT_HEADER = "packet statistics:"
_STAT_LINE = re.compile(r"(?P<name>(?:mac|roce|nic)_[a-z0-9_]{1,48}_num):[ ]?(?P<value>[0-9]{1,20})")
_STAT_END = "nic_rx_all_oct_num"
_HW_STATS_LINE = re.compile(
    r"\[devid (?P<device>[0-9]{1,3})\] (?P<name>[a-z][a-z0-9_]{1,48}): (?P<value>[0-9]{1,20})"
)
_HW_STATS_NAMES = (
    *(f"{what}_{how}" for what in ("pd", "mr", "cq", "qp") for how in ("alloc", "dealloc", "active")),
    "aeqe",
    "ceqe",
)


def _count(counters: dict[str, int], match: re.Match[str], line: Line) -> None:
    if match["name"] in counters:
        raise unparsed(line, f"{match['name']} comes twice")
    counters[match["name"]] = unsigned(match["value"], line, "a count", MAX_UINT64)


def _require(names: Sequence[str], counters: Mapping[str, int], lines: Sequence[Line]) -> None:
    for name in names:
        if name not in counters:
            raise ends_early(lines, f"{name!r}")
