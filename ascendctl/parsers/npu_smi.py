"""``npu-smi info …``: the table of NPUs, their mapping, health, topology, HCCS links and super pod.

Formats: npu-smi's source and captures of 23.0 to 26.1, on A2 and A3. Tables are read by their columns:
a value that stands elsewhere, a row of another width or a missing closing rule is unparsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ascendctl.facts import (
    BoardFacts,
    CardFacts,
    CardListFacts,
    ChipId,
    CounterFacts,
    HccsFacts,
    HealthFacts,
    MappingFacts,
    NpuHealth,
    NpuProcess,
    NpuSmiDevice,
    NpuSmiInfoFacts,
    SpodFacts,
    TopoFacts,
)
from ascendctl.parsers.command import Asked
from ascendctl.parsers.errors import is_driver_note
from ascendctl.parsers.grammar import MAX_CHIP_ID, MAX_NPU_ID, MAX_PHY_ID, MAX_UINT32, MAX_UINT64, unsigned
from ascendctl.parsers.reader import Reader
from ascendctl.parsers.text import (
    BLANKS,
    Field,
    Line,
    Lines,
    NoData,
    Output,
    ends_early,
    nonblank,
    read_fields,
    require_line_end,
    unparsed,
)


def read_info(asked: Asked, output: Output) -> NpuSmiInfoFacts:
    """``npu-smi info``, 98 or 116 columns wide, with or without its process section.

    Of a command that went through grep, only the rows are expected: version and processes are empty.
    """
    lines = _answer(output)
    if asked.filtered:
        return NpuSmiInfoFacts("", _rows_alone(lines), ())
    cursor = _Cursor(lines)
    outer = cursor.take("the top of the table")
    if not _PLAIN_RULE.fullmatch(outer.text):
        raise unparsed(outer, "expected the top of the table, '+-----…-----+'")
    cursor.width = len(outer.text)
    version = _version_row(cursor.take("the row with the version"))
    columns = _device_columns(cursor)
    devices = _devices(cursor, columns)
    processes = _processes(cursor, columns, devices) if cursor.more else ()
    return NpuSmiInfoFacts(version, devices, processes)


def read_mapping(asked: Asked, output: Output) -> MappingFacts:
    """``-m``: four columns on A2, five with the physical id on A3; Mcu rows are left out.

    A server without cards says so; that is a mapping of no chips. Where one NPU has an Mcu row all
    have, and on A3 all always have: a table that ends before one was cut off.
    """
    try:
        lines = nonblank(_answer(output))
    except NoData:
        return MappingFacts(())
    header, *rows = lines
    columns = _mapping_columns(header)
    table = [_mapping_row(row, columns) for row in rows]
    _check_mapping(table, lines, has_phy_id=len(columns) == len(_MAPPING_LABELS))
    return MappingFacts(tuple(row.chip for row in table if row.chip))


def read_card_list(asked: Asked, output: Output) -> CardListFacts:
    """``-l``: ``Total Count``, then ``NPU ID`` and ``Chip Count`` of each card."""
    lines = nonblank(_answer(output))
    total = _number(read_fields(lines[:1], required=["Total Count"])["Total Count"], MAX_NPU_ID + 1)
    cards = []
    for index in range(1, len(lines), 2):
        fields = read_fields(lines[index : index + 2], required=["NPU ID", "Chip Count"])
        chips = _number(fields["Chip Count"], MAX_CHIP_ID + 1)
        cards.append(CardFacts(_number(fields["NPU ID"], MAX_NPU_ID), chips))
    require_line_end(lines[-1])
    if len(cards) < total:
        raise ends_early(lines, f"the last of {total} cards")
    if len(cards) > total or len({card.npu_id for card in cards}) < len(cards):
        raise unparsed(lines[-1], f"expected {total} different cards")
    return CardListFacts(tuple(cards))


def read_version(asked: Asked, output: Output) -> str:
    """``npu-smi version: X``."""
    field = read_fields(_answer(output), required=["npu-smi version"])["npu-smi version"]
    require_line_end(field.line)
    if not _VERSION.fullmatch(field.value):
        raise unparsed(field.line, "expected a version")
    return field.value


def read_health(asked: Asked, output: Output) -> HealthFacts:
    """``Health Status`` (or ``Health``), ``Error Code`` and ``Error Information``.

    Several hex codes stand on one line; each further information stands after an empty label.
    """
    lines = nonblank(_answer(output))
    blocks = [list(_health_field(lines[0]))]
    labels = {blocks[0][0]}
    for line in lines[1:]:
        label, value = _health_field(line)
        if not label:
            blocks[-1].append(value)
        elif label in labels:
            raise unparsed(line, f"{label!r} comes twice")
        else:
            labels.add(label)
            blocks.append([label, value])
    require_line_end(lines[-1])
    return _health_facts({label: values for label, *values in blocks}, asked, lines)


def read_topo(asked: Asked, output: Output) -> TopoFacts:
    """``-t topo``: the square of devices, then an optional legend; NIC rows and columns are left out."""
    lines = _answer(output)
    size = next((at for at, line in enumerate(lines) if not line.stripped or _is_legend(line)), len(lines))
    legend = nonblank(lines[size:])
    if legend and not _is_legend(legend[0]):
        raise unparsed(legend[0], "expected 'Legend:' after the matrix")
    if size == 0:
        raise unparsed(lines[0], "expected the matrix before its legend")
    header, *rows = lines[:size]
    labels, has_affinity = _topo_header(header)
    if len(rows) < len(labels):
        raise ends_early(lines[:size], f"the row of {labels[len(rows)]}")
    if len(rows) > len(labels):
        raise unparsed(rows[len(labels)], "expected no more rows than columns")
    require_line_end(rows[-1])
    kept = [at for at, label in enumerate(labels) if not label.startswith("NIC")]
    cells = [_topo_row(row, labels, at, has_affinity) for at, row in enumerate(rows)]
    return TopoFacts(
        ids=tuple(int(re.sub(r"\D", "", labels[at])) for at in kept),
        cells=tuple(tuple(cells[row][column] for column in kept) for row in kept),
    )


def read_hccs(asked: Asked, output: Output) -> HccsFacts:
    """``-t hccs``: the health word, and one array entry per link; counters where printed."""
    fields = read_fields(_answer(output), required=_HCCS_REQUIRED, optional=_HCCS_OPTIONAL)
    health = fields["hccs health status"]
    if health.value not in ("OK", "NOK"):
        raise unparsed(health.line, "expected OK or NOK")
    first_error = fields.get("hccs first error lane")
    if first_error and first_error.value != "NA":
        _number(first_error, MAX_UINT32)
    arrays = {
        label: _array(field)
        for label, field in fields.items()
        if label not in ("hccs health status", "hccs first error lane")
    }
    links = len(arrays["hccs lane mode"])
    for label, values in arrays.items():
        if len(values) != links:
            raise unparsed(fields[label].line, f"expected {links} entries, as in 'hccs lane mode'")
    lane_lists = arrays["hccs link lane list"]
    if not all(re.fullmatch(r"[01]{4}", lanes) for lanes in lane_lists):
        raise unparsed(fields["hccs link lane list"].line, "expected four digits 0 or 1 per link")
    return HccsFacts(
        health=health.value,
        lane_mode=_numbers(arrays, fields, "hccs lane mode", _MAX_LANES),
        lane_list=lane_lists,
        speed=_numbers(arrays, fields, "hccs link speed", MAX_UINT32),
        counters={
            label.removeprefix("hccs ").replace(" ", "_"): _numbers(arrays, fields, label, MAX_UINT64)
            for label in fields
            if label in _HCCS_COUNTERS
        },
    )


def read_spod(asked: Asked, output: Output) -> SpodFacts:
    """``-t spod-info``: four unsigned 32-bit numbers; 4294967295 = invalid, 0 is a valid one."""
    labels = ("SDID", "Super Pod Size", "Super Pod ID", "Server Index")
    lines = nonblank(_answer(output))
    fields = read_fields(lines, required=labels)
    require_line_end(lines[-1])
    return SpodFacts(*(_number(fields[label], MAX_UINT32) for label in labels))


def read_board(asked: Asked, output: Output) -> BoardFacts:
    """``-t board``: of a card, or with ``-c`` of a chip; every other field as printed."""
    lines = nonblank(_answer(output))
    labels: list[str] = []
    for line in lines:
        label = line.stripped.partition(":")[0].strip(BLANKS)
        if not re.fullmatch(r"[A-Z][A-Za-z0-9 ()%/_-]*", label):
            raise unparsed(line, "expected 'Label : value'")
        labels.append(label)
    fields = read_fields(lines, required=["NPU ID"], optional=labels)
    require_line_end(lines[-1])
    chip = fields.get("Chip ID")
    board = BoardFacts(
        npu_id=_number(fields["NPU ID"], MAX_NPU_ID),
        chip_id=_number(chip, MAX_CHIP_ID) if chip else None,
        fields={label: field.value for label, field in fields.items() if label not in ("NPU ID", "Chip ID")},
    )
    _same_chip(asked, board.npu_id, board.chip_id, lines[0])
    return board


def read_ecc(asked: Asked, output: Output) -> CounterFacts:
    """``-t ecc``: errors of the memories and pages taken out of use, of one chip.

    The six HBM counters always stand together; DDR's come before them on 910A, the two of pages that
    are isolated at the next start after them on A2 and A3 (npu-smi's source, and a sample of 910A).
    """
    lines = nonblank(_answer(output))
    fields = read_fields(lines, required=_ECC_REQUIRED, optional=_ECC_OPTIONAL)
    require_line_end(lines[-1])
    for label in _ECC_TOGETHER:
        if label in fields and label.replace("Single", "Double") not in fields:
            raise ends_early(lines, repr(label.replace("Single", "Double")))
    ids = {label: _number(fields.pop(label), most) for label, most in _ECC_IDS.items() if label in fields}
    if "NPU ID" in ids:
        _same_chip(asked, ids["NPU ID"], ids.get("Chip ID"), lines[0])
    return CounterFacts({label: _number(field, MAX_UINT32) for label, field in fields.items()})


READERS: Mapping[str, Reader] = {
    "info": Reader(read_info),
    "info -m": Reader(read_mapping),
    "info -l": Reader(read_card_list),
    "-v": Reader(read_version),
    "info -t health": Reader(read_health),
    "info -t topo": Reader(read_topo),
    "info -t hccs": Reader(read_hccs),
    "info -t spod-info": Reader(read_spod),
    "info -t board": Reader(read_board),
    "info -t ecc": Reader(read_ecc),
}


# --- what every answer has in common ----------------------------------------------------------------

_NO_CARD = "There is no NPU card on this server."
_VERSION = re.compile(r"[0-9][0-9A-Za-z._-]{0,39}")


def _answer(output: Output) -> list[Line]:
    """npu-smi's own lines: without the driver library's notes before them, and outer blank lines.

    Raises:
        NoData: the server has no NPU.
        Unparsed: nothing is left.
    """
    lines = list(output.stdout)
    while lines and (not lines[0].stripped or is_driver_note(lines[0])):
        lines.pop(0)
    while lines and not lines[-1].stripped:
        lines.pop()
    if not lines:
        raise ends_early(output.stdout, "the answer")
    if lines[0].stripped == _NO_CARD and len(lines) == 1:
        raise NoData("there is no NPU card on this server")
    return lines


def _number(field: Field, maximum: int) -> int:
    return unsigned(field.value, field.line, "a number", maximum)


def _same_chip(asked: Asked, npu_id: int, chip_id: int | None, line: Line) -> None:
    if asked.npu is not None and npu_id != asked.npu:
        raise unparsed(line, f"the answer is of NPU {npu_id}, asked was NPU {asked.npu}")
    if asked.chip is not None and chip_id is not None and chip_id != asked.chip:
        raise unparsed(line, f"the answer is of chip {chip_id}, asked was chip {asked.chip}")


# --- npu-smi info: the table of devices -------------------------------------------------------------

_PLAIN_RULE = re.compile(r"\+-{40,}\+")
_VERSION_ROW = re.compile(r"\| npu-smi (\S+) +Version: (\S+) +\|")
_BUS_ID = re.compile(r"[0-9A-Fa-f]{4}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7]")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._()/+-]*[A-Za-z0-9._)+-])?")
_POWER = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,3})?")
_TEMPERATURE = re.compile(r"-?[0-9]{1,3}")
_TEMPERATURE_RANGE_C = range(-100, 301)
_USAGE = re.compile(r"([0-9]{1,9}) */ *([0-9]{1,9})")
_ABSENT = ("-", "NA")
_MAX_PID = 2**31 - 1


class _Cursor:
    """Goes down a table line by line; every line must be as wide as the table."""

    def __init__(self, lines: Lines) -> None:
        self._lines = [Line(line.number, _bytewise(line.text), line.ended) for line in lines]
        self._next = 0
        self.width: int | None = None

    @property
    def more(self) -> bool:
        return self._next < len(self._lines)

    def peek(self) -> str:
        return self._lines[self._next].text if self.more else ""

    def take(self, expected: str) -> Line:
        if not self.more:
            raise ends_early(self._lines, expected)
        line = self._lines[self._next]
        self._next += 1
        if self.width is not None and len(line.text) != self.width:
            raise unparsed(line, f"expected {expected}, {self.width} columns wide, not {len(line.text)}")
        return line


def _bytewise(text: str) -> str:
    """One character per byte: the tool pads by bytes, whatever a process is called."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _readable(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class _Columns:
    """Where the borders of the three cells and the values of both rows of a device begin."""

    borders: tuple[int, ...]
    upper: tuple[int, ...]
    lower: tuple[int, ...]

    @property
    def has_phy_id(self) -> bool:
        return len(self.lower) > len(self.upper)


def _version_row(line: Line) -> str:
    match = _VERSION_ROW.fullmatch(line.text)
    if match is None or not _VERSION.fullmatch(match[2]):
        raise unparsed(line, "expected '| npu-smi X   Version: X   |'")
    return match[2]


def _device_columns(cursor: _Cursor) -> _Columns:
    rule = cursor.take("the rule above the headings")
    borders = tuple(at for at, character in enumerate(rule.text) if character == "+")
    if len(borders) != 4 or rule.text != _rule(borders, "-"):
        raise unparsed(rule, "expected the rule '+---+---+---+'")
    first = cursor.take("the heading 'NPU   Name | Health | Power(W) …'")
    upper = _heading(
        first, borders, ("NPU", "Name", "Health", "Power(W)", "Temp(C)", "Hugepages-Usage(page)")
    )
    second = cursor.take("the heading 'Chip | Bus-Id | AICore(%) …'")
    rest = ("Bus-Id", "AICore(%)", "Memory-Usage(MB)", "HBM-Usage(MB)")
    has_phy_id = "Phy-ID" in second.text
    lower = _heading(second, borders, ("Chip", "Phy-ID", *rest) if has_phy_id else ("Chip", *rest))
    columns = _Columns(borders, upper, lower)
    _take_rule(cursor, columns, "=")
    return columns


def _heading(line: Line, borders: Sequence[int], labels: Sequence[str]) -> tuple[int, ...]:
    """Where each label of a heading row begins."""
    bordered = all(line.text[at] == "|" for at in borders)
    if not bordered or line.text.replace("|", " ").split() != list(labels):
        raise unparsed(line, f"expected the headings {' '.join(labels)}")
    return tuple(line.text.index(label) for label in labels)


def _rule(borders: Sequence[int], stroke: str) -> str:
    return "+" + "".join(stroke * (b - a - 1) + "+" for a, b in pairwise(borders))


def _take_rule(cursor: _Cursor, columns: _Columns, stroke: str) -> None:
    rule = _rule(columns.borders, stroke)
    line = cursor.take(f"the rule '{rule[:6]}…'")
    if line.text != rule:
        raise unparsed(line, f"expected the rule '{rule[:6]}…'")


def _devices(cursor: _Cursor, columns: _Columns) -> tuple[NpuSmiDevice, ...]:
    """Devices up to the process section; the dies of one NPU are parted by a plain rule."""
    devices: list[NpuSmiDevice] = []
    within_npu = False
    while within_npu or not devices or cursor.peek().startswith("| "):
        upper, lower = cursor.take("a device's first row"), cursor.take("a device's second row")
        device = _device(upper, lower, columns)
        if within_npu is not any(device.npu_id == other.npu_id for other in devices):
            raise unparsed(upper, "expected the dies of one NPU together, parted by a plain rule")
        devices.append(device)
        within_npu = _PLAIN_RULE.fullmatch(cursor.peek()) is not None
        if within_npu:
            cursor.take("the rule between two dies")
        else:
            _take_rule(cursor, columns, "=")
    _check_unique(devices, upper)
    return tuple(devices)


def _device(upper: Line, lower: Line, columns: _Columns) -> NpuSmiDevice:
    npu, name, health, power, temperature, hugepages = _values(upper, columns.borders, columns.upper)
    chip, *phy, bus_id, aicore, memory, hbm = _values(lower, columns.borders, columns.lower)
    if not _NAME.fullmatch(name):
        raise unparsed(upper, "expected the name of the NPU")
    if bus_id not in _ABSENT and not _BUS_ID.fullmatch(bus_id):
        raise unparsed(lower, "expected a PCI address, such as 0000:C1:00.0")
    _usage(hugepages, upper, "hugepages")
    _usage(memory, lower, "memory")
    hbm_used_mib, hbm_total_mib = _usage(hbm, lower, "HBM")
    return NpuSmiDevice(
        npu_id=unsigned(npu, upper, "an NPU id", MAX_NPU_ID),
        chip_id=unsigned(chip, lower, "a chip id", MAX_CHIP_ID),
        phy_id=unsigned(phy[0], lower, "a physical id", MAX_PHY_ID) if phy else None,
        name=name,
        health=_health_word(health, upper),
        bus_id=None if bus_id in _ABSENT else bus_id,
        power_w=_power(power, upper),
        temperature_c=_temperature(temperature, upper),
        aicore_percent=None if aicore in _ABSENT else unsigned(aicore, lower, "a percentage", 100),
        hbm_used_mib=hbm_used_mib,
        hbm_total_mib=hbm_total_mib,
    )


def _values(line: Line, borders: Sequence[int], starts: Sequence[int]) -> list[str]:
    """The values of a row, each beginning right below its heading and ending before the next."""
    text = line.text
    if not all(text[at] == "|" for at in borders):
        raise unparsed(line, "expected the borders of the table's cells")
    values = []
    for start, following in zip(starts, [*starts[1:], len(text)], strict=True):
        end = min([following, *(at for at in borders if at > start)])
        if text[start] == " " or text[start - 1] != " ":
            raise unparsed(line, f"expected a value in column {start + 1}, below its heading")
        values.append(text[start:end].rstrip(" "))
    leading = [text[at + 1 : start] for at in borders for start in starts[:1] if at < start]
    if any(part.strip(" ") for part in leading):
        raise unparsed(line, "expected nothing before the first value")
    return values


def _usage(text: str, line: Line, what: str) -> tuple[int | None, int | None]:
    if text in _ABSENT:
        return None, None
    match = _USAGE.fullmatch(text)
    if match is None or int(match[1]) > int(match[2]):
        raise unparsed(line, f"expected the {what} usage, 'used / total' with used at most total")
    return int(match[1]), int(match[2])


def _power(text: str, line: Line) -> float | None:
    if text in _ABSENT:
        return None
    if not _POWER.fullmatch(text):
        raise unparsed(line, "expected a power in watts")
    return float(text)


def _temperature(text: str, line: Line) -> int | None:
    if text in _ABSENT:
        return None
    if not _TEMPERATURE.fullmatch(text) or int(text) not in _TEMPERATURE_RANGE_C:
        raise unparsed(line, "expected a temperature in degrees Celsius")
    return int(text)


def _health_word(text: str, line: Line) -> NpuHealth:
    try:
        return NpuHealth(text)
    except ValueError:
        raise unparsed(line, "expected a health word: " + ", ".join(NpuHealth)) from None


def _check_unique(devices: Sequence[NpuSmiDevice], line: Line) -> None:
    chips = [(device.npu_id, device.chip_id) for device in devices]
    phy_ids = [device.phy_id for device in devices if device.phy_id is not None]
    bus_ids = [device.bus_id for device in devices if device.bus_id is not None]
    for what, values in (("chip", chips), ("physical id", phy_ids), ("PCI address", bus_ids)):
        if len(set(values)) < len(values):
            raise unparsed(line, f"up to here the table lists a {what} twice")


# --- npu-smi info: the process section --------------------------------------------------------------

_PROCESS_LABELS = ["NPU     Chip", "Process id", "Process name", "Process memory(MB)"]
_CONTAINER_LABEL = "Process id in container"
_NO_PROCESSES = re.compile(r"\| No running processes found in NPU ([0-9]{1,2}) +\|")


def _processes(cursor: _Cursor, columns: _Columns, devices: Sequence[NpuSmiDevice]) -> tuple[NpuProcess, ...]:
    """Groups of rows, one group for each NPU of the table."""
    _take_rule(cursor, columns, "-")
    heading = cursor.take("the heading of the process section")
    labels = [part.strip(" ") for part in heading.text.split("|")[1:-1]]
    if labels not in (_PROCESS_LABELS, [*_PROCESS_LABELS, _CONTAINER_LABEL]):
        raise unparsed(heading, "expected the headings NPU, Chip, Process id, Process name, …")
    borders = tuple(at for at, character in enumerate(heading.text) if character == "|")
    chip_column = heading.text.index("Chip")
    _take_rule(cursor, columns, "=")
    chips = {(device.npu_id, device.chip_id) for device in devices}
    waiting = {device.npu_id for device in devices}
    processes: list[NpuProcess] = []
    while waiting:
        first = cursor.take("the processes of NPU " + ", ".join(map(str, sorted(waiting))))
        idle = _NO_PROCESSES.fullmatch(first.text)
        group = [] if idle else [_process(first, borders, chip_column)]
        while not idle and cursor.peek().startswith("| "):
            group.append(_process(cursor.take("a process"), borders, chip_column))
        npu_ids = {int(idle[1])} if idle else {process.npu_id for process in group}
        if len(npu_ids) > 1 or not npu_ids <= waiting:
            raise unparsed(first, "expected each NPU of the table once, its processes together")
        if not {(process.npu_id, process.chip_id) for process in group} <= chips:
            raise unparsed(first, "expected processes on chips of the table")
        waiting -= npu_ids
        processes += group
        _take_rule(cursor, columns, "=")
    if cursor.more:
        raise unparsed(cursor.take("the end"), "expected nothing after the process section")
    return tuple(processes)


def _process(line: Line, borders: Sequence[int], chip_column: int) -> NpuProcess:
    text = line.text
    if not all(text[at] == "|" for at in borders):
        raise unparsed(line, "expected the borders of the process section's cells")
    ids, pid, name, memory, *container = (text[a + 1 : b].strip(" ") for a, b in pairwise(borders))
    npu, chip = text[2:chip_column].strip(" "), text[chip_column : borders[1]].strip(" ")
    if ids.split() != [npu, chip] or text[chip_column] == " ":
        raise unparsed(line, "expected NPU and chip below their headings")
    for container_pid in container:
        if container_pid != "NA":
            unsigned(container_pid, line, "a process id or NA", _MAX_PID)
    return NpuProcess(
        npu_id=unsigned(npu, line, "an NPU id", MAX_NPU_ID),
        chip_id=unsigned(chip, line, "a chip id", MAX_CHIP_ID),
        pid=unsigned(pid, line, "a process id", _MAX_PID),
        name=_readable(name),
        memory_mib=unsigned(memory, line, "a memory size in MB", MAX_UINT32),
    )


# --- npu-smi info through grep ----------------------------------------------------------------------

# Width of the table → where borders and values stand. Rows alone bring no heading to measure.
_KNOWN_BORDERS = {98: (0, 28, 44, 97), 116: (0, 28, 44, 115)}
_KNOWN_VALUES = {98: (46, 58, 76), 116: (46, 67, 91)}


def _rows_alone(lines: Lines) -> tuple[NpuSmiDevice, ...]:
    cursor = _Cursor(lines)
    width = len(cursor.peek())
    if width not in _KNOWN_BORDERS:
        raise unparsed(cursor.take("a row"), "expected a row of the table, 98 or 116 columns wide")
    cursor.width = width
    borders, values = _KNOWN_BORDERS[width], _KNOWN_VALUES[width]
    devices: list[NpuSmiDevice] = []
    while cursor.more:
        upper, lower = cursor.take("a device's first row"), cursor.take("a device's second row")
        chip_values = (2, 8) if lower.text[2:28].split()[1:] else (2,)
        devices.append(
            _device(upper, lower, _Columns(borders, (2, 8, 30, *values), (*chip_values, 30, *values)))
        )
    if len({device.phy_id is None for device in devices}) > 1:
        raise unparsed(lower, "expected a physical id in every row or in none")
    _check_unique(devices, lower)
    return tuple(devices)


# --- npu-smi info -m --------------------------------------------------------------------------------

_MAPPING_LABELS = ("NPU ID", "Chip ID", "Chip Logic ID", "Chip Phy-ID", "Chip Name")
_MCU = "Mcu"


@dataclass(frozen=True)
class _MappingRow:
    """``chip`` is None for the row of an Mcu."""

    npu_id: int
    chip_id: int
    chip: ChipId | None
    line: Line


def _mapping_columns(header: Line) -> tuple[int, ...]:
    """Where the labels begin, the indentation aside."""
    text = header.stripped
    words = re.split(r" {2,}", text)
    labels = [label for label in _MAPPING_LABELS if label != "Chip Phy-ID" or label in words]
    if words != labels:
        raise unparsed(header, "expected the headings " + ", ".join(_MAPPING_LABELS))
    return tuple(text.index(label) for label in labels)


def _mapping_row(line: Line, columns: Sequence[int]) -> _MappingRow:
    text = line.text.lstrip(BLANKS)
    values = []
    for start, end in zip(columns, [*columns[1:], len(text)], strict=True):
        if len(text) <= start or text[start] == " " or (start and text[start - 1] != " "):
            raise unparsed(line, "expected a value below each heading")
        values.append(text[start:end].rstrip(BLANKS))
    npu, chip, logic, *phy, name = values
    npu_id = unsigned(npu, line, "an NPU id", MAX_NPU_ID)
    chip_id = unsigned(chip, line, "a chip id", MAX_CHIP_ID)
    if name == _MCU:
        if {logic, *phy} != {"-"}:
            raise unparsed(line, "expected '-' for the ids of an Mcu")
        return _MappingRow(npu_id, chip_id, None, line)
    if not _NAME.fullmatch(name) or name.lower() == _MCU.lower():
        raise unparsed(line, "expected the name of a chip")
    logic_id = unsigned(logic, line, "a logic id", MAX_PHY_ID)
    phy_id = unsigned(phy[0], line, "a physical id", MAX_PHY_ID) if phy else None
    return _MappingRow(npu_id, chip_id, ChipId(npu_id, chip_id, logic_id, phy_id, name), line)


def _check_mapping(rows: Sequence[_MappingRow], lines: Lines, *, has_phy_id: bool) -> None:
    if not rows:
        raise ends_early(lines, "the first chip")
    require_line_end(rows[-1].line)
    with_mcu = has_phy_id or any(row.chip is None for row in rows)
    taken: set[tuple[str, int | tuple[int, int]]] = set()
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        ids: list[tuple[str, int | tuple[int, int]]] = [("chip", (row.npu_id, row.chip_id))]
        if row.chip:
            ids.append(("logic id", row.chip.logic_id))
            ids += [("physical id", row.chip.phy_id)] if row.chip.phy_id is not None else []
        if following is None or following.npu_id != row.npu_id:
            ids.append(("NPU", row.npu_id))
            if with_mcu and row.chip and following is None:
                raise ends_early(lines, f"the Mcu row of NPU {row.npu_id}")
            if with_mcu and row.chip:
                raise unparsed(row.line, f"expected the Mcu row of NPU {row.npu_id} after it")
        for key in ids:
            if key in taken:
                raise unparsed(row.line, f"{key[0]} {key[1]} comes twice")
            taken.add(key)


# --- npu-smi info -t health ---------------------------------------------------------------------------

_HEALTH_LABELS = ("Health Status", "Health", "Error Code", "Error Information", "NPU ID", "Chip ID")
_ERROR_CODE = re.compile(r"[0-9A-Fa-f]{4,8}")
_NO_INFORMATION = re.compile(r"Failed to get error information for error code : 0x[0-9A-Fa-f]{4,8}")


def _health_field(line: Line) -> tuple[str, str]:
    """Label and value; further information has an empty label."""
    if _NO_INFORMATION.fullmatch(line.stripped):
        return "", line.stripped
    label, colon, value = (part.strip(BLANKS) for part in line.stripped.partition(":"))
    if not colon or label not in (*_HEALTH_LABELS, ""):
        raise unparsed(line, "expected " + ", ".join(_HEALTH_LABELS[:4]))
    return label, value


def _health_facts(values: Mapping[str, list[str]], asked: Asked, lines: Lines) -> HealthFacts:
    word = values.get("Health Status") or values.get("Health") or []
    if len(word) != 1 or ("Health Status" in values and "Health" in values):
        raise unparsed(lines[0], "expected one health word")
    for label in ("Error Code", "Error Information"):
        if label not in values:
            raise ends_early(lines, f"{label!r}")
    if "NPU ID" in values:
        npu = unsigned(values["NPU ID"][0], lines[0], "an NPU id", MAX_NPU_ID)
        _same_chip(asked, npu, None, lines[0])
    codes = " ".join(values["Error Code"]).split()
    codes = [] if codes == ["NA"] else codes
    if not all(map(_ERROR_CODE.fullmatch, codes)) or values["Error Code"] in ([], [""]):
        raise unparsed(lines[0], "expected NA or hexadecimal error codes in 'Error Code'")
    information = [text for text in values["Error Information"] if text and text != "NA"]
    return HealthFacts(_health_word(word[0], lines[0]), tuple(codes), tuple(information))


# --- npu-smi info -t topo -----------------------------------------------------------------------------

_TOPO_LABEL = re.compile(r"(NPU|Phy-ID|NIC)(0|[1-9][0-9]?)")
_TOPO_CELLS = {
    **{word: word for word in ("X", "HCCS", "HCCS_SW", "SIO", "PIX", "PXB", "PHB", "SYS", "NA")},
    "XLink": "HCCS",
    "XLink_SW": "HCCS_SW",
}
_AFFINITY = re.compile(r"[0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*|NA")


def _is_legend(line: Line) -> bool:
    return line.stripped.startswith(("Legend:", "NIC Legend:"))


def _topo_header(header: Line) -> tuple[list[str], bool]:
    """The labels, and whether a column with the CPU affinity follows."""
    words = header.stripped.split()
    has_affinity = words[-2:] == ["CPU", "Affinity"]
    labels = words[:-2] if has_affinity else words
    kinds = {match[1] for match in map(_TOPO_LABEL.fullmatch, labels) if match}
    if not all(map(_TOPO_LABEL.fullmatch, labels)) or len(kinds - {"NIC"}) != 1:
        raise unparsed(header, "expected the labels NPU0, NPU1, … or Phy-ID0, Phy-ID1, …")
    if len(set(labels)) < len(labels):
        raise unparsed(header, "a label comes twice")
    return labels, has_affinity


def _topo_row(line: Line, labels: Sequence[str], at: int, has_affinity: bool) -> list[str]:
    label, *words = line.stripped.split()
    cells, affinity = words[: len(labels)], words[len(labels) :]
    if label != labels[at]:
        raise unparsed(line, f"expected the row of {labels[at]}")
    wanted = [1] if has_affinity and not label.startswith("NIC") else [0, 1] if has_affinity else [0]
    if len(cells) < len(labels) or len(affinity) not in wanted or not all(map(_AFFINITY.fullmatch, affinity)):
        raise unparsed(line, f"expected one link for each of {len(labels)} columns")
    for column, cell in enumerate(cells):
        if cell not in _TOPO_CELLS or (cell == "X") is not (column == at):
            raise unparsed(line, f"{cell!r} is no link between {label} and {labels[column]}")
    return [_TOPO_CELLS[cell] for cell in cells]


# --- npu-smi info -t hccs -----------------------------------------------------------------------------

_HCCS_REQUIRED = ("hccs health status", "hccs lane mode", "hccs link lane list", "hccs link speed")
_HCCS_COUNTERS = (
    "hccs tx packets",
    "hccs tx bytes",
    "hccs rx packets",
    "hccs rx bytes",
    "hccs retry count",
    "hccs error count",
)
_HCCS_OPTIONAL = (*_HCCS_COUNTERS, "hccs first error lane")
_MAX_LANES = 4


def _array(field: Field) -> tuple[str, ...]:
    if not (field.value.startswith("[") and field.value.endswith("]")) or not field.value[1:-1].split():
        raise unparsed(field.line, "expected an array, '[… … …]'")
    return tuple(field.value[1:-1].split())


def _numbers(
    arrays: Mapping[str, Iterable[str]], fields: Mapping[str, Field], label: str, maximum: int
) -> tuple[int, ...]:
    return tuple(unsigned(text, fields[label].line, "a number", maximum) for text in arrays[label])


# --- npu-smi info -t ecc ------------------------------------------------------------------------------

_ECC_KINDS = ("Error Count", "Aggregate Total Err Cnt", "Isolated Pages Count")
_ECC_REQUIRED = tuple(f"HBM {bits} Bit {kind}" for kind in _ECC_KINDS for bits in ("Single", "Double"))
_ECC_TOGETHER = (
    *(f"DDR Single Bit {kind}" for kind in _ECC_KINDS),
    *(f"{memory} Single Bit Next-Isolated Pages Count" for memory in ("DDR", "HBM")),
)
_ECC_IDS = {"NPU ID": MAX_NPU_ID, "Chip Count": MAX_CHIP_ID + 1, "Chip ID": MAX_CHIP_ID}
_ECC_OPTIONAL = frozenset(
    (*_ECC_TOGETHER, *(label.replace("Single", "Double") for label in _ECC_TOGETHER), *_ECC_IDS)
)
