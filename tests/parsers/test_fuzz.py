"""Whatever comes in, a parser answers; and a damaged answer never passes for a whole one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ascendctl.facts import Parsed, ParseStatus
from ascendctl.parsers import facts_json, parse
from tests.parsers import samples
from tests.parsers.samples import WHOLE

COMMANDS = [*WHOLE, "hccn_tool -i 0 -status -g", "npu-smi info -t usages -i 0", "npu-smi info | grep Ascend"]
TEXTS = [
    *(text.encode() for text in WHOLE.values()),
    samples.INFO_A2.encode(),
    samples.mapping_a2(2).encode(),
    samples.HEALTH.encode(),
    samples.TOPO_A3.encode(),
    samples.TLS_OLD.encode(),
    samples.OPTICAL_ABSENT.encode(),
    b"Command execute failed!\n",
    b"hccn_tool is busy, please try again.\n",
    b"DrvMngGetConsoleLogLevel failed. (ret=4)\ndcmi module initialize failed. ret is -8005\n",
    "警告\n".encode("gbk"),
]
EXIT_CODES = st.sampled_from([0, 0, 0, 1, 2, 11, 13, 124, 187, None])

fuzz = settings(
    max_examples=400, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


def check(parsed: Parsed[Any]) -> None:
    """A status of the list, facts exactly with ok, a reason exactly without, and JSON-able."""
    assert isinstance(parsed.status, ParseStatus)
    ok = parsed.status is ParseStatus.OK
    assert ok is (parsed.facts is not None) and ok is not bool(parsed.reason)
    json.dumps([facts_json(parsed.facts), facts_json(parsed.reason)]).encode("ascii")


@fuzz
@given(st.sampled_from(COMMANDS), st.binary(max_size=300), st.binary(max_size=60), EXIT_CODES)
def test_arbitrary_bytes(command: str, stdout: bytes, stderr: bytes, code: int | None) -> None:
    check(parse(command, stdout, stderr, code))


@fuzz
@given(st.sampled_from(COMMANDS), st.text(max_size=200), EXIT_CODES)
def test_arbitrary_text(command: str, text: str, code: int | None) -> None:
    check(parse(command, text.encode("utf-8", "surrogatepass"), b"", code))


@fuzz
@given(st.sampled_from(COMMANDS), st.sampled_from(TEXTS), st.data(), EXIT_CODES)
def test_cut_and_spliced(command: str, text: bytes, data: st.DataObject, code: int | None) -> None:
    other = data.draw(st.sampled_from(TEXTS))
    at, to = (data.draw(st.integers(0, len(part))) for part in (text, other))
    check(parse(command, text[:at] + other[to:], other[:to], code))


@fuzz
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_flipped_bits(command: str, data: st.DataObject) -> None:
    text = bytearray(WHOLE[command].encode())
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    check(parse(command, bytes(text)))


@fuzz
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_lines_dropped_doubled_and_swapped(command: str, data: st.DataObject) -> None:
    lines = WHOLE[command].encode().split(b"\n")
    picked = data.draw(st.lists(st.sampled_from(lines), max_size=2 * len(lines)))
    check(parse(command, b"\n".join(picked) + b"\n"))


# Values of these outputs are a list of parts, of which a cut may leave a documented smaller one.
_LISTS = (
    "-lldp", "-link_stat", "hccn.conf", "-t board", "-t health", "ip -o", "-t hccs", "npu-smi info -m",
    "-optical", "-t ecc",
)  # fmt: skip


@pytest.mark.parametrize("command", [command for command in WHOLE if not any(k in command for k in _LISTS)])
def test_a_cut_anywhere_never_changes_a_value(command: str) -> None:
    text = WHOLE[command].encode()
    whole = facts_json(parse(command, text).facts)
    for at in range(len(text)):
        parsed = parse(command, text[:at])
        check(parsed)
        if parsed.status is not ParseStatus.OK:
            continue
        found = facts_json(parsed.facts)
        if command == "npu-smi info":
            assert found["devices"] == whole["devices"][: len(found["devices"])]
            assert text[:at].rstrip(b"\n").endswith(b"=+")
        else:
            assert found == whole, at


@pytest.mark.parametrize("npus", [1, 3])
@pytest.mark.parametrize("width", [98, 116])
def test_a_cut_process_section_is_never_ok(npus: int, width: int) -> None:
    processes = {npu: [(0, 1000 + npu, "python3", 5)] for npu in range(0, npus, 2)}
    text = samples.info_table(range(npus), dies=2, width=width, processes=processes)
    section = text.index("| NPU     Chip") - width - 1
    for at in range(section + 1, len(text) - 1, 3):
        assert parse("npu-smi info", text[:at].encode()).status is not ParseStatus.OK, at
    assert parse("npu-smi info", text.encode()).status is ParseStatus.OK


@pytest.mark.parametrize(
    "text",
    [
        b"a" + b" " * 20_000 + b"b",
        b"1" * 20_000,
        b"[" * 20_000,
        b"\n" * 20_000,
        b"x: y\n" * 4_000,
        samples.LLDP.encode() * 30,
        b"| " * 10_000,
    ],
    ids=["blanks", "digits", "brackets", "line-ends", "short-lines", "lldp", "cells"],
)
@pytest.mark.parametrize("command", ["npu-smi info", "npu-smi info -m", *sorted(WHOLE)[::3]])
def test_a_flood_is_answered(command: str, text: bytes) -> None:
    check(parse(command, text, text))
