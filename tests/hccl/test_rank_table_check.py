"""Judging rank tables: every rule broken once is caught, by name, place and code; whole tables are not."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from ascendctl.hccl.finding import Severity
from ascendctl.hccl.located_json import LocatedJsonError, parse
from ascendctl.hccl.rank_table_check import TableFinding, check_rank_table

Table = dict[str, Any]
Break = Callable[[Table], object]

V1_0: Table = {
    "status": "completed",
    "version": "1.0",
    "server_count": "2",
    "server_list": [
        {
            "server_id": f"node_{server}",
            "device": [
                {
                    "device_id": str(device),
                    "device_ip": f"10.2.{server}.{device + 8}",
                    "device_port": "16667",
                    "rank_id": str(2 * server + device),
                }
                for device in range(2)
            ],
        }
        for server in range(2)
    ],
}

# Two super pods of two servers of two NPUs, as HCCL's documentation shows it.
V1_2: Table = {
    "status": "completed",
    "version": "1.2",
    "server_count": "4",
    "server_list": [
        {
            "server_id": f"node_{server}",
            "host_ip": f"172.16.0.{100 + server}",
            "device": [
                {
                    "device_id": str(device),
                    "super_device_id": str(4 * (server % 2) + device),
                    "device_ip": f"10.3.{server}.{device + 6}",
                    "device_port": "16666",
                    "backup_device_ip": f"10.3.{server}.{(device ^ 1) + 6}",
                    "backup_device_port": "16667",
                    "host_port": str(16665 + device),
                    "rank_id": str(4 * server + device),
                }
                for device in range(4)
            ],
        }
        for server in range(4)
    ],
    "super_pod_list": [
        {"super_pod_id": "0", "server_list": [{"server_id": "node_0"}, {"server_id": "node_1"}]},
        {"super_pod_id": "1", "server_list": [{"server_id": "node_2"}, {"server_id": "node_3"}]},
    ],
}


def judged(table: Table, broken: Break = lambda table: None, **options: bool) -> tuple[TableFinding, ...]:
    table = copy.deepcopy(table)
    broken(table)
    return check_rank_table(json.dumps(table, indent=1), **options).findings


def device(table: Table, server: int = 0, number: int = 0) -> Table:
    found: Table = table["server_list"][server]["device"][number]
    return found


def set_device(name: str, value: object, server: int = 0, number: int = 0) -> Break:
    return lambda table: device(table, server, number).update({name: value})


def drop_device(name: str, server: int = 0, number: int = 0) -> Break:
    return lambda table: device(table, server, number).pop(name)


def drop_everywhere(*names: str) -> Break:
    def change(table: Table) -> None:
        for server in table["server_list"]:
            for one in server["device"]:
                for name in names:
                    one.pop(name, None)

    return change


def both(*changes: Break) -> Break:
    return lambda table: [change(table) for change in changes]


def one_pod(table: Table) -> None:
    table["server_list"] = table["server_list"][:2]
    table["super_pod_list"] = table["super_pod_list"][:1]
    table["server_count"] = "2"


def swap_ranks(one: tuple[int, int], other: tuple[int, int]) -> Break:
    def change(table: Table) -> None:
        first, second = device(table, *one), device(table, *other)
        first["rank_id"], second["rank_id"] = second["rank_id"], first["rank_id"]

    return change


def interleave_pods(table: Table) -> None:
    """node_1 of the first pod and node_2 of the second change their ranks."""
    for number in range(4):
        swap_ranks((1, number), (2, number))(table)


@pytest.mark.parametrize(
    ("table", "change"),
    [
        (V1_0, lambda table: None),
        (V1_2, lambda table: None),
        (V1_2, lambda table: table.pop("server_count")),
        (V1_2, both(one_pod, drop_everywhere("device_ip", "backup_device_ip", "backup_device_port"))),
        (V1_2, lambda table: [server.pop("host_ip") for server in table["server_list"]]),
        (V1_2, lambda table: table["super_pod_list"][0].update(super_pod_id="east")),
        (V1_0, lambda table: table["server_list"][0].update(container_ip="10.0.0.1")),
        (V1_0, lambda table: table["server_list"][0].update(host_ip="10.0.0.1")),
        (
            V1_0,
            lambda table: [
                device(table, server, number).update(device_ip=f"fd00::{2 * server + number + 1}")
                for server in range(2)
                for number in range(2)
            ],
        ),
        (V1_0, lambda table: table["server_list"].reverse()),
    ],
)
def test_a_table_that_keeps_the_rules(table: Table, change: Break) -> None:
    assert judged(table, change) == ()


def test_a_single_server_needs_no_addresses() -> None:
    def alone(table: Table) -> None:
        table.update(server_count="1", server_list=table["server_list"][:1])

    assert judged(V1_0, both(alone, drop_everywhere("device_ip"))) == ()


# Broken once: the table, how, and the rule, the end of the place and the code that must be named.
BROKEN: dict[str, tuple[Table, Break, str, str, str]] = {
    "status missing": (V1_0, lambda t: t.pop("status"), "missing-field", "$", "EI0004"),
    "status unknown": (V1_0, lambda t: t.update(status="done"), "status", ".status", "EI0004"),
    "status initializing": (V1_0, lambda t: t.update(status="initializing"), "status", ".status", "EI0004"),
    "version missing": (V1_0, lambda t: t.pop("version"), "missing-field", "$", "EI0004"),
    "version unknown": (V1_0, lambda t: t.update(version="1.1"), "version", ".version", "EI0004"),
    "count wrong": (V1_0, lambda t: t.update(server_count="3"), "server-count", ".server_count", "EI0004"),
    "a number": (V1_0, set_device("rank_id", 0), "not-a-string", ".rank_id", "EI0004"),
    "null": (V1_0, set_device("device_ip", None), "not-a-string", ".device_ip", "EI0004"),
    "no servers": (V1_0, lambda t: t.pop("server_list"), "missing-field", "$", "EI0004"),
    "empty list": (V1_0, lambda t: t.update(server_list=[]), "structure", ".server_list", "EI0004"),
    "list is an object": (V1_0, lambda t: t.update(server_list={}), "structure", ".server_list", "EI0004"),
    "server is a string": (
        V1_0,
        lambda t: t["server_list"].append("node_2"),
        "structure",
        "server_list[2]",
        "EI0004",
    ),
    "no server_id": (V1_0, lambda t: t["server_list"][1].pop("server_id"), "missing-field", "[1]", "EI0004"),
    "server_id empty": (
        V1_0,
        lambda t: t["server_list"][1].update(server_id=""),
        "server-id",
        "[1].server_id",
        "EI0004",
    ),
    "server_id too long": (
        V1_0,
        lambda t: t["server_list"][1].update(server_id="n" * 65),
        "server-id",
        "[1].server_id",
        "EI0004",
    ),
    "server_id twice": (
        V1_0,
        lambda t: t["server_list"][1].update(server_id="node_0"),
        "server-id",
        "[1].server_id",
        "EI0014",
    ),
    "no devices": (V1_0, lambda t: t["server_list"][1].pop("device"), "missing-field", "[1]", "EI0004"),
    "no device_id": (V1_0, drop_device("device_id"), "missing-field", "device[0]", "EI0004"),
    "device_id too high": (V1_0, set_device("device_id", "16"), "device-id", ".device_id", "EI0004"),
    "device_id no number": (V1_0, set_device("device_id", "npu0"), "device-id", ".device_id", "EI0004"),
    "device_id twice": (V1_0, set_device("device_id", "1"), "device-id", "device[1].device_id", "EI0014"),
    "no rank_id": (V1_0, drop_device("rank_id"), "missing-field", "device[0]", "EI0004"),
    "rank_id negative": (V1_0, set_device("rank_id", "-1"), "rank-id", ".rank_id", "EI0004"),
    "rank_id beyond": (V1_0, set_device("rank_id", "4", 1, 1), "rank-id", "[1].rank_id", "EI0004"),
    "rank_id twice": (V1_0, set_device("rank_id", "0", 0, 1), "rank-id", "device[1].rank_id", "EI0014"),
    "ranks interleaved": (V1_0, swap_ranks((0, 1), (1, 0)), "rank-order", "server_list[0]", "EI0014"),
    "device_ip missing": (V1_0, drop_device("device_ip"), "device-ip", "device[0]", "EI0004"),
    "device_ip no address": (
        V1_0,
        set_device("device_ip", "10.2.0.256"),
        "device-ip",
        ".device_ip",
        "EI0014",
    ),
    "device_ip loopback": (V1_0, set_device("device_ip", "127.0.0.1"), "device-ip", ".device_ip", "EI0014"),
    "device_ip twice": (
        V1_0,
        set_device("device_ip", "10.2.0.8", 1, 1),
        "device-ip",
        "[1].device[1].device_ip",
        "EI0014",
    ),
    "families mixed": (V1_0, set_device("device_ip", "fd00::1"), "families", ".server_list", "EI0001"),
    "device_port zero": (V1_0, set_device("device_port", "0"), "device-port", ".device_port", "EI0004"),
    "device_port too high": (
        V1_0,
        set_device("device_port", "65536"),
        "device-port",
        ".device_port",
        "EI0004",
    ),
    "two pods without device_ip": (
        V1_2,
        drop_device("device_ip", 3, 3),
        "device-ip",
        "[3].device[3]",
        "EI0004",
    ),
    "host_ip no address": (
        V1_2,
        lambda t: t["server_list"][0].update(host_ip="node_0"),
        "host-ip",
        "[0].host_ip",
        "EI0014",
    ),
    "host_ip twice": (
        V1_2,
        lambda t: t["server_list"][1].update(host_ip="172.16.0.100"),
        "host-ip",
        "[1].host_ip",
        "EI0014",
    ),
    "host_port twice on a server": (
        V1_2,
        set_device("host_port", "16665", 0, 3),
        "host-port",
        "device[3].host_port",
        "EI0014",
    ),
    "backup_device_ip of another NPU": (
        V1_2,
        set_device("backup_device_ip", "10.3.0.8"),
        "backup",
        ".backup_device_ip",
        "EI0014",
    ),
    "backup die not in the table": (
        V1_2,
        both(
            lambda t: t["server_list"][3]["device"].pop(),
        ),
        "backup",
        "[3].device[2].backup_device_ip",
        "EI0014",
    ),
    "backup port is the NIC's own": (
        V1_2,
        set_device("backup_device_port", "16666"),
        "backup-device-port",
        ".backup_device_port",
        "EI0014",
    ),
    "super_device_id of one missing": (
        V1_2,
        drop_device("super_device_id", 2, 1),
        "missing-field",
        "[2].device[1]",
        "EI0004",
    ),
    "super_device_id invalid": (
        V1_2,
        set_device("super_device_id", "4294967295"),
        "super-device-id",
        ".super_device_id",
        "EI0004",
    ),
    "super_device_id twice in a pod": (
        V1_2,
        set_device("super_device_id", "0", 1, 0),
        "super-device-id",
        "[1].device[0].super_device_id",
        "EI0014",
    ),
    "no super_pod_list": (V1_2, lambda t: t.pop("super_pod_list"), "super-pod", ".server_list", "EI0004"),
    "super_pod_list alone": (
        V1_2,
        drop_everywhere("super_device_id"),
        "super-pod",
        ".super_pod_list",
        "EI0004",
    ),
    "pod without id": (
        V1_2,
        lambda t: t["super_pod_list"][0].pop("super_pod_id"),
        "missing-field",
        "super_pod_list[0]",
        "EI0004",
    ),
    "pod with an empty id": (
        V1_2,
        lambda t: t["super_pod_list"][0].update(super_pod_id=""),
        "super-pod",
        "super_pod_list[0].super_pod_id",
        "EI0004",
    ),
    "pod twice": (
        V1_2,
        lambda t: t["super_pod_list"][1].update(super_pod_id="0"),
        "super-pod",
        "super_pod_list[1].super_pod_id",
        "EI0014",
    ),
    "server in two pods": (
        V1_2,
        lambda t: t["super_pod_list"][1]["server_list"].append({"server_id": "node_0"}),
        "super-pod",
        "super_pod_list[1].server_list[2]",
        "EI0014",
    ),
    "server in no pod": (
        V1_2,
        lambda t: t["super_pod_list"][1]["server_list"].pop(),
        "super-pod",
        "server_list[3]",
        "EI0014",
    ),
    "pod with a stranger": (
        V1_2,
        lambda t: t["super_pod_list"][1]["server_list"].append({"server_id": "node_9"}),
        "super-pod",
        ".super_pod_list",
        "EI0014",
    ),
    "pods interleaved": (V1_2, interleave_pods, "super-pod-order", ".super_pod_list", "EI0014"),
    "the old table of vllm-ascend": (
        V1_2,
        lambda t: t.update(prefill_device_list=[]),
        "other-table",
        ".prefill_device_list",
        "EI0004",
    ),
    "MindIE's table": (
        V1_2,
        lambda t: t.update(server_group_list=[]),
        "other-table",
        ".server_group_list",
        "EI0004",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_once(name: str) -> None:
    table, change, rule, place, code = BROKEN[name]
    errors = [one for one in judged(table, change) if one.severity is Severity.ERROR]
    found = [one for one in errors if one.rule == rule and one.path.endswith(place) and one.code == code]
    assert found, errors
    assert all(one.expected and one.seen for one in errors)


# What may be meant and mostly is not: warnings, by rule.
DOUBTFUL: dict[str, tuple[Table, Break, str]] = {
    "1.2 without any SDID": (
        V1_2,
        both(drop_everywhere("super_device_id"), lambda t: t.pop("super_pod_list")),
        "version-mode",
    ),
    "SDIDs in 1.0": (V1_0, set_device("super_device_id", "0"), "version-mode"),
    "pods in 1.0": (
        V1_0,
        lambda t: t.update(super_pod_list=[{"super_pod_id": "0", "server_list": [{"server_id": "node_0"}]}]),
        "version-mode",
    ),
    "no server_count in 1.0": (V1_0, lambda t: t.pop("server_count"), "missing-field"),
    "a near miss": (V1_0, lambda t: t["server_list"][0].update(hostip="10.0.0.1"), "unknown-field"),
    "servers unequal": (
        V1_0,
        lambda t: t["server_list"][1]["device"].pop(),
        "unequal-servers",
    ),
    "pods unequal": (
        V1_2,
        lambda t: t["super_pod_list"][0]["server_list"].append(t["super_pod_list"][1]["server_list"].pop()),
        "unequal-super-pods",
    ),
    "half an NPU": (V1_2, lambda t: t["server_list"][3]["device"].pop(), "die-pairs"),
    "the vNIC's address": (V1_2, set_device("device_ip", "192.0.2.199"), "device-ip"),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_doubtful(name: str) -> None:
    table, change, rule = DOUBTFUL[name]
    found = [one.rule for one in judged(table, change) if one.severity is Severity.WARNING]
    assert rule in found


def test_a_field_of_someone_else_is_a_note() -> None:
    (note,) = judged(V1_0, lambda table: table.update(comment="by hand"))
    assert (note.severity, note.rule, note.path) == (Severity.NOTE, "unknown-field", "$.comment")


def test_inside_one_pod_over_roce_addresses_are_mandatory() -> None:
    change = both(one_pod, drop_everywhere("device_ip", "backup_device_ip", "backup_device_port"))
    assert judged(V1_2, change) == ()
    rules = {one.rule for one in judged(V1_2, change, inter_hccs_disable=True)}
    assert rules == {"device-ip"}


def test_the_place_of_a_finding() -> None:
    text = '{"status": "completed", "version": "1.0", "server_count": "1",\n "server_list": [\n'
    text += '  {"server_id": "a", "device": [\n   {"device_id": "0", "rank_id": "1"}]}]}'
    findings = check_rank_table(text).findings
    assert [(one.rule, one.line, one.path) for one in findings] == [
        ("rank-id", 4, "$.server_list[0].device[0].rank_id")
    ]


# What is no JSON: the text, the line, and a word of what is said.
NO_JSON = [
    ("", 1, "end of the text"),
    ("{", 1, "end of the text"),
    ('{"a": "b",\n}', 1, "a comma before '}'"),
    ('{"a": [\n"b",\n]}', 2, "a comma before ']'"),
    ('{\n"a": "b" // the first\n}', 2, "a comment"),
    ('{\n\n/* all */ "a": "b"}', 3, "a comment"),
    ('# a table\n{"a": "b"}', 1, "a comment"),
    ('{"a": "b"\n"c": "d"}', 2, '"\\"" between two values'),
    ('{"a": "b"}\n{}', 2, "after the end"),
    ("{'a': 'b'}", 1, "where a name should begin"),
    ('{"a":\nNone}', 2, "None"),
    ('{"a": NaN}', 1, "NaN"),
    ('{"a": 01}', 1, "between two values"),
    ('{"a": "b\nc"}', 1, "a string that is none"),
    ('{"a": "b', 1, "a string that is none"),
    ('{"a" "b"}', 1, "behind the name"),
    ("[" * 100, 1, "inside one another"),
    ("9" * 5000, 1, "endless"),
    ("\ufeff{}", 1, "byte order mark"),
]


@pytest.mark.parametrize(("text", "line", "words"), NO_JSON)
def test_what_is_no_json_is_named_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(LocatedJsonError) as raised:
        parse(text)
    assert (raised.value.line, words in raised.value.what) == (line, True), raised.value
    (finding,) = check_rank_table(text).findings
    assert (finding.rule, finding.line, finding.code) == ("json", line, "EI0004")


def test_a_duplicate_key_is_an_error_with_its_line() -> None:
    text = json.dumps(V1_0, indent=1).replace('"version": "1.0",', '"version": "1.2",\n "version": "1.0",')
    (finding,) = check_rank_table(text).findings
    assert (finding.rule, finding.path, finding.line, finding.code) == (
        "duplicate-key",
        "$.version",
        4,
        "EI0004",
    )


@pytest.mark.parametrize("value", ["{}", "[]", '"x"', "1", "null", "true", "-1.5e3"])
def test_parse_reads_what_json_reads(value: str) -> None:
    text = f'{{"a": {value}, "b c": [{value}, {value}]}}'
    assert _plain(parse(text).value) == json.loads(text)
    assert parse(text).value["b c"].value[1].path == '$["b c"][1]'  # type: ignore[call-overload, index, union-attr]


@pytest.mark.parametrize("text", ["[]", '"x"', "null", "{}", '{"server_list": [[[]]]}'])
def test_what_is_no_table_is_an_error_and_never_a_crash(text: str) -> None:
    assert any(one.severity is Severity.ERROR for one in check_rank_table(text).findings)


def test_any_field_of_any_kind_is_judged_without_a_crash() -> None:
    """Put every kind of value at every place of both tables."""
    for table in (V1_0, V1_2):
        for path in _places(table):
            for value in (None, True, 7, 1.5, "", "x", [], {}, [[]], [None], {"a": 1}):
                changed = copy.deepcopy(table)
                target: Any = changed
                for step in path[:-1]:
                    target = target[step]
                target[path[-1]] = value
                findings = check_rank_table(json.dumps(changed)).findings
                assert findings or value == "x" or value == "7", (path, value)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of the first element of every list and of every field."""
    found = [path] if path else []
    if isinstance(value, dict):
        for name, below in value.items():
            found += _places(below, (*path, name))
    elif isinstance(value, list):
        found += _places(value[0], (*path, 0))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(node.value) for name, node in value.items()}
    return [_plain(node.value) for node in value] if isinstance(value, list) else value
