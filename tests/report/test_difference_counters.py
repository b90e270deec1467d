"""Error counters of two runs: what grew, what restarted, what that leads to, and how it reads."""

from __future__ import annotations

import datetime as dt
import io
import itertools
import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from ascendctl.counters import COMPARED, GROUPS
from ascendctl.report.difference import Difference, LastSeen, compare, limited_to, remember
from ascendctl.report.difference_counters import CounterChange
from ascendctl.report.difference_json import DifferenceRecord, schema, write_difference
from ascendctl.report.difference_text import headline, render_changes, render_difference
from ascendctl.results import ExitCode, Run, Status
from tests.report import runs

Counts = Mapping[str, Mapping[str, int]]
HOUR = dt.timedelta(hours=1)


def run_at(hours: float, counters: Mapping[tuple[str, int], Counts], cells: Run | None = None) -> Run:
    names = dict.fromkeys(host for host, _ in counters) or {"node01": None}
    run = cells or runs.run_of([], [runs.note(name) for name in names])
    return runs.counting(replace(run, started_at=runs.STARTED + hours * HOUR), counters)


def between(before: Counts, now: Counts, hours: float = 1) -> Difference:
    return compare(run_at(0, {("node01", 3): before}), run_at(hours, {("node01", 3): now}))


def told(change: CounterChange) -> tuple[str, str, int]:
    return change.kind.value, change.counter.name, change.growth


DOWN, UP = "link down count", "link up count"
FCS, BAD, RETRY = "mac_rx_fcs_err_pkt_num", "mac_rx_bad_pkt_num", "roce_new_pkt_rty_num"
DOUBLE, TOTAL = "HBM Double Bit Error Count", "HBM Double Bit Aggregate Total Err Cnt"

TABLE = [
    # group, before, now, changes, exit code, exit code with --strict
    pytest.param("link_stat", {}, {}, [], 0, 0, id="none"),
    pytest.param("link_stat", {DOWN: 4}, {DOWN: 4}, [], 0, 0, id="as before"),
    pytest.param("link_stat", {}, {DOWN: 1}, [("grown", DOWN, 1)], 1, 1, id="a first flap"),
    pytest.param("link_stat", {DOWN: 3}, {DOWN: 7}, [("grown", DOWN, 4)], 1, 1, id="more flaps"),
    pytest.param("link_stat", {}, {UP: 1}, [], 0, 0, id="came up for the first time"),
    pytest.param("link_stat", {}, {UP: 2}, [], 0, 0, id="came up and bounced, as at a start"),
    pytest.param("link_stat", {}, {UP: 3}, [("grown", UP, 1)], 1, 1, id="came up again later"),
    pytest.param("link_stat", {UP: 1}, {UP: 2}, [("grown", UP, 1)], 1, 1, id="came up again"),
    pytest.param("link_stat", {UP: 5}, {UP: 1}, [("restarted", UP, 0)], 0, 0, id="restarted, came up"),
    pytest.param("link_stat", {UP: 5}, {}, [("restarted", UP, 0)], 0, 0, id="restarted, still down"),
    pytest.param("link_stat", {UP: 5}, {UP: 3}, [("restarted", UP, 1)], 1, 1, id="restarted, then flapped"),
    pytest.param("link_stat", {DOWN: 5}, {}, [("restarted", DOWN, 0)], 0, 0, id="restarted"),
    pytest.param("link_stat", {DOWN: 5}, {DOWN: 1}, [("restarted", DOWN, 0)], 0, 0, id="bounced at start"),
    pytest.param("link_stat", {DOWN: 5}, {DOWN: 2}, [("restarted", DOWN, 1)], 1, 1, id="and once more"),
    pytest.param("stat", {RETRY: 10}, {RETRY: 15}, [("grown", RETRY, 5)], 0, 1, id="sent again"),
    pytest.param(
        "stat",
        {FCS: 9, RETRY: 4},
        {FCS: 2, RETRY: 6},
        [("restarted", FCS, 2), ("restarted", RETRY, 6)],
        1,
        1,
        id="one that is smaller restarts its group",
    ),
    pytest.param("stat", {FCS: 1}, {FCS: 3, BAD: 2}, [("grown", FCS, 2)], 1, 1, id="the same packets twice"),
    pytest.param(
        "stat",
        {FCS: 1},
        {FCS: 3, BAD: 5},
        [("grown", FCS, 2), ("grown", BAD, 5)],
        1,
        1,
        id="more bad packets than wrong checksums",
    ),
    pytest.param("stat", {}, {BAD: 5}, [("grown", BAD, 5)], 1, 1, id="bad packets alone"),
    pytest.param(
        "ecc",
        {DOUBLE: 2, TOTAL: 2},
        {TOTAL: 2},
        [("restarted", DOUBLE, 0), ("restarted", TOTAL, 2)],
        1,
        1,
        id="a total that outlives a restart",
    ),
    pytest.param("hccs", {}, {"hccs retry count": 1}, [("grown", "hccs retry count", 1)], 0, 1, id="retry"),
    pytest.param("hccs", {}, {"hccs error count": 1}, [("grown", "hccs error count", 1)], 1, 1, id="error"),
    pytest.param("later", {"x": 1}, {"x": 9}, [], 0, 0, id="a group that a later version knows"),
    pytest.param("stat", {"mac_rx_total_pkt_num": 1}, {"mac_rx_total_pkt_num": 9}, [], 0, 0, id="traffic"),
]


@pytest.mark.parametrize(("group", "before", "now", "changes", "code", "strict"), TABLE)
def test_what_happened_to_a_group(
    group: str,
    before: Mapping[str, int],
    now: Mapping[str, int],
    changes: list[tuple[str, str, int]],
    code: int,
    strict: int,
) -> None:
    difference = between({group: before}, {group: now})
    assert [told(change) for change in difference.counters.changes] == changes
    assert difference.exit_code() == code
    assert difference.exit_code(strict=True) == strict
    assert headline(difference).startswith("Changed: " if changes else "Nothing has changed")


def test_a_group_restarts_alone() -> None:
    difference = between({"stat": {FCS: 9}, "ecc": {DOUBLE: 2}}, {"stat": {FCS: 1}, "ecc": {DOUBLE: 3}})
    assert {told(change) for change in difference.counters.changes} == {
        ("restarted", FCS, 1),
        ("grown", DOUBLE, 1),
    }


@pytest.mark.parametrize(
    ("before", "now"),
    [
        pytest.param({}, {"stat": {FCS: 7}}, id="newly read"),
        pytest.param({"stat": {FCS: 7}}, {}, id="no longer read"),
        pytest.param({"ecc": {}}, {"stat": {FCS: 7}}, id="another group"),
    ],
)
def test_what_one_run_did_not_read_is_no_change(before: Counts, now: Counts) -> None:
    difference = between(before, now)
    assert difference.counters.changes == ()
    assert set(difference.counters.compared.values()) == {0}
    assert difference.exit_code() == 0


def test_devices_are_compared_by_host_and_physical_id() -> None:
    old = run_at(0, {("node01", 3): {"stat": {FCS: 1}}, ("node02", 3): {"stat": {}}})
    new = run_at(2, {("node02", 3): {"stat": {FCS: 1}}, ("node01", 3): {"stat": {FCS: 1}}})
    (change,) = compare(old, new).counters.changes
    assert (change.host, change.device, change.before, change.now) == ("node02", 3, 0, 1)
    assert compare(limited_to(old, ["node01"]), limited_to(new, ["node01"])).counters.changes == ()


def test_per_hour() -> None:
    def rate(hours: float) -> float | None:
        return between({"stat": {FCS: 1}}, {"stat": {FCS: 13}}, hours).counters.changes[0].per_hour

    assert rate(4) == 3
    assert rate(1 / 6) == pytest.approx(72)
    assert rate(0) is None
    assert rate(-1) is None


def test_finding_and_interruption_take_precedence_over_a_counter() -> None:
    difference = between({"stat": {}}, {"stat": {FCS: 1}})
    broken = replace(difference.new, interrupted=True)
    assert compare(difference.old, broken).exit_code() is ExitCode.INTERRUPTED


def test_a_series_tells_each_growth_once_also_over_an_outage() -> None:
    def state(hours: float, *counts: Counts) -> Run:
        return run_at(hours, {("node01", number): one for number, one in enumerate(counts)})

    series = [
        state(0, {"stat": {FCS: 1}, "ecc": {}}, {"stat": {}}),
        state(1, {"stat": {FCS: 3}}, {"stat": {}}),
        run_at(2, {}),
        state(3, {"stat": {FCS: 3}, "ecc": {DOUBLE: 1}}),
        state(4, {"stat": {FCS: 4}, "ecc": {DOUBLE: 2}}, {"stat": {FCS: 6}}),
        state(5, {"stat": {FCS: 4}, "ecc": {DOUBLE: 2}}, {"stat": {FCS: 6}}),
    ]
    memory, heard = LastSeen(), []
    for old, new in itertools.pairwise(series):
        memory = remember(memory, old)
        changes = compare(old, new, memory).counters.changes
        heard.append([(c.device, c.counter.group, c.growth, c.elapsed_s / 3600) for c in changes])
    assert heard == [
        [(0, "stat", 2, 1.0)],
        [],
        [(0, "ecc", 1, 3.0)],
        [(0, "stat", 1, 1.0), (0, "ecc", 1, 1.0), (1, "stat", 6, 3.0)],
        [],
    ]


def test_every_compared_counter_decides_by_its_severity() -> None:
    for counter in COMPARED:
        difference = between({counter.group: {}}, {counter.group: {counter.name: 1 + counter.at_start}})
        assert difference.exit_code() == (1 if counter.severity is Status.FAIL else 0), counter.name
        assert difference.exit_code(strict=True) == 1, counter.name


# --- how it reads ---------------------------------------------------------------------------------


def rendered(difference: Difference, width: int = 200) -> str:
    stream = io.StringIO()
    render_difference(difference, Console(file=stream, width=width), exit_code=difference.exit_code())
    return stream.getvalue()


def changes_text(difference: Difference, width: int = 200) -> str:
    stream = io.StringIO()
    render_changes(difference, Console(file=stream, width=width))
    return stream.getvalue()


def test_one_device_is_told_with_both_values_and_the_rate() -> None:
    text = rendered(between({"link_stat": {DOWN: 3}}, {"link_stat": {DOWN: 7}}, 1 / 6))
    assert text.startswith("Changed: 1 error counter grew\n")
    assert "error counters: compared link_stat on 1 of 8 devices\n" in text
    assert "Error counters that grew (1 counter)\n" in text
    assert (
        "✖ link down count  node01 device 3: 4 more in 10 min (24 per hour): 3 before, 7 now. "
        "Counted each time the link went down.\n"
    ) in text


def test_no_rate_is_made_of_a_moment_and_no_span_of_going_backwards() -> None:
    def line(hours: float) -> str:
        return rendered(between({"stat": {FCS: 1}}, {"stat": {FCS: 3}}, hours))

    assert "device 3: 2 more in 36 s: 1 before, 3 now" in line(0.01)
    difference = between({"stat": {FCS: 1}}, {"stat": {FCS: 3}}, -1)
    assert "device 3: 2 more: 1 before, 3 now" in rendered(difference)


def test_corrected_errors_are_a_section_of_their_own() -> None:
    text = rendered(between({"stat": {}}, {"stat": {RETRY: 1}}, 24))
    assert text.startswith("Changed: 1 counter of corrected or repeated errors grew\n")
    assert "▲ roce_new_pkt_rty_num  node01 device 3: 1 more in 24 h (0.042 per hour): 0 before" in text
    assert "Error counters that grew" not in text


def test_a_restart_is_told_as_one() -> None:
    groups = {"stat": {FCS: 9}, "ecc": {DOUBLE: 2}}
    devices = [("node01", number) for number in range(8)]
    after: Counts = {"stat": {FCS: 1}, "ecc": {}}
    text = rendered(
        compare(run_at(0, dict.fromkeys(devices, groups)), run_at(1, dict.fromkeys(devices, after)))
    )
    assert "counters restarted on 8 devices" in text
    assert "Counters that restarted (8 devices)" in text
    assert "stat, ecc  node01 device 0-7: cleared, or the driver or the host was restarted" in text
    assert "node01 device 0-7: 1 more on each in 1 h" in text
    assert "9 before, then counted from zero again, 1 now" in text


def test_what_was_compared_is_said() -> None:
    old = run_at(0, {("node01", 0): {"stat": {}, "hccs": {}}, ("node01", 1): {"hccs": {}}})
    assert "error counters: compared stat on 1; hccs on 2 of 8 devices\n" in rendered(compare(old, old))
    assert "error counters: none that both runs hold\n" in rendered(compare(old, run_at(1, {})))
    assert changes_text(compare(old, old)) == ""


def test_a_thousand_hosts_whose_counters_all_grow_stay_readable() -> None:
    devices = [(f"node{host:04d}", number) for host in range(1000) for number in range(1 + host % 4)]
    zero: Counts = {group: {} for group in GROUPS}
    old = run_at(0, dict.fromkeys(devices, zero))
    new = run_at(
        1,
        {
            (host, number): {
                group: {counter.name: 2 + number for counter in counters}
                for group, counters in GROUPS.items()
            }
            for host, number in devices
        },
    )
    text = changes_text(compare(old, new), 80)
    assert text.count("\n") < 80
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    wide = changes_text(compare(old, new))
    assert (
        "link down count  2,500 devices on 1,000 hosts (node[0000-0999]): 2…5 more on each in 1 h, "
        "most on node0003 device 3 (5 per hour): 0 before, 5 now"
    ) in wide


def test_a_hosts_name_cannot_act() -> None:
    old = run_at(0, {("a\x1b[2J", 0): {"stat": {}}})
    new = run_at(1, {("a\x1b[2J", 0): {"stat": {FCS: 1}}})
    assert "\x1b" not in changes_text(compare(old, new))


def test_json_holds_every_counter() -> None:
    difference = compare(
        run_at(0, {("node01\udcb9", 3): {"link_stat": {DOWN: 3}, "stat": {FCS: 4}}}),
        run_at(2, {("node01\udcb9", 3): {"link_stat": {DOWN: 7}, "stat": {}}}),
    )
    stream = io.StringIO()
    write_difference(difference, 1, stream)
    record = DifferenceRecord.model_validate_json(stream.getvalue())
    assert record.counters_compared == {"link_stat": 1, "stat": 1, "ecc": 0, "hccs": 0}
    document = json.loads(stream.getvalue())
    assert set(document) == set(schema()["required"])
    assert document["counters"][0] == {
        "kind": "grown",
        "host": "node01\\xb9",
        "device": 3,
        "group": "link_stat",
        "name": "link down count",
        "severity": "fail",
        "meaning": "the link went down",
        "before": 3,
        "now": 7,
        "growth": 4,
        "elapsed_s": 7200.0,
        "per_hour": 2.0,
    }
    assert (document["counters"][1]["kind"], document["counters"][1]["growth"]) == ("restarted", 0)
