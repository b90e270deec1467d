"""npu-smi of A2 and A3, answered from a host's state: tables, blanks and exit codes as the tool's.

Everything goes to stdout, errors too, and a query that a product does not support exits 0. The table of
``npu-smi info`` is 98 columns wide up to 25.x and 116 from 26.x. Formats are those of the published
source (hicann/driver, npu_smi) and of real captures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ascendctl.sim.answer import Answer, saying
from ascendctl.sim.model import Die, EccCounts, Host

PROCESS_NAME_WIDTH = 13

_NO_LOG_LEVEL = "DrvMngGetConsoleLogLevel failed. (ret=4)\n"

# name: (stream, exit code, text); -8005 and -8020 leave as their low byte.
REFUSALS: dict[str, tuple[str, int, str]] = {
    "no-permission": ("stdout", 187, _NO_LOG_LEVEL + "dcmi module initialize failed. ret is -8005"),
    "not-initialized": ("stdout", 187, "dcmi module initialize failed. ret is -8005"),
    "in-use": (
        "stdout",
        172,
        _NO_LOG_LEVEL + "dcmi model initialized failed, because the device is used. ret is -8020",
    ),
    "no-library": (
        "stderr",
        127,
        "npu-smi: error while loading shared libraries: libc_sec.so: "
        "cannot open shared object file: No such file or directory",
    ),
    "root-only": ("stdout", 0, "This command can be executed only by the root user."),
    "container": ("stdout", 0, "This command cannot be executed on a VM or container."),
}

_USAGE = "Usage: npu-smi info <watch|proc|-h|-m|-l|-t type> [Options...]"


def answer(host: Host, arguments: Sequence[str]) -> Answer:
    """What ``npu-smi ARGUMENTS`` gives; options may stand in any order."""
    if host.npu_smi_refusal is not None:
        return _refusal(host.npu_smi_refusal)
    if list(arguments) == ["-v"]:
        return saying(f"npu-smi version: {host.npu_smi_version}")
    options = _options(arguments[1:])
    command = arguments[0] if arguments else ""
    if command == "upgrade" and options.get("-b") == "mcu":
        return saying(_field("Version", host.mcu_version))
    if command != "info":
        return _usage("info")
    if not host.dies:
        return saying("There is no NPU card on this server.")
    if not options:
        return saying("\n".join(_info_table(host)))
    if "-m" in options:
        return saying("\n".join(_mapping(host)))
    if "-l" in options:
        return saying("\n".join(_list(host)))
    if "-t" in options:
        return _query(host, options)
    return _usage("info")


def _refusal(name: str) -> Answer:
    stream, exit_code, text = REFUSALS[name]
    return saying(text, stream, exit_code)


def _options(arguments: Sequence[str]) -> dict[str, str]:
    options = {}
    rest = iter(arguments)
    for word in rest:
        options[word] = next(rest, "") if word in ("-i", "-c", "-t", "-b") else ""
    return options


def _usage(what: str) -> Answer:
    return saying(f"Error parameter of {what}\n{_USAGE}", exit_code=1)


def _field(label: str, value: object) -> str:
    return f"\t{label:<30} : {value}"


def _wide_field(label: str, value: object) -> str:
    return f"\t{label:<40} : {value}"


# --- npu-smi info ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    """Widths of the third column's cells and of the process table, per generation of the tool."""

    width: int
    version: int
    first: int
    second: int
    memory: int
    total: int
    process_widths: tuple[int, ...]
    head: tuple[str, str]
    process_head: str


_NARROW = _Layout(
    width=96,
    version=24,
    first=11,
    second=17,
    memory=11,
    total=14,
    process_widths=(14, 25, 24),
    head=(
        " Power(W)    Temp(C)           Hugepages-Usage(page)",
        " AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        ",
    ),
    process_head=" Process id    | Process name             | Process memory(MB)      |",
)
_WIDE = _Layout(
    width=114,
    version=35,
    first=20,
    second=23,
    memory=17,
    total=17,
    process_widths=(14, 19, 22, 24),
    head=(
        " Power(W)             Temp(C)                 Hugepages-Usage(page)   ",
        " AICore(%)            Memory-Usage(MB)        HBM-Usage(MB)           ",
    ),
    process_head=" Process id    | Process name       | Process memory(MB)    | Process id in container |",
)


def _layout(version: str) -> _Layout:
    major = re.match(r"\d+", version)
    return _WIDE if major and int(major[0]) >= 26 else _NARROW


def _info_table(host: Host) -> list[str]:
    layout = _layout(host.npu_smi_version)
    third = layout.width - 45
    thin = f"+{'-' * 27}+{'-' * 15}+{'-' * (third + 1)}+"
    thick = thin.replace("-", "=")
    version = host.npu_smi_version
    version_text = f" npu-smi {version:<{layout.version}} Version: {version}"
    chip_head = "Chip  Phy-ID" if host.generation == "a3" else "Chip"
    lines = [
        f"+{'-' * layout.width}+",
        f"|{version_text:<{layout.width}}|",
        thin,
        f"| NPU   Name                | Health        |{layout.head[0]}|",
        f"| {chip_head:<26}| Bus-Id        |{layout.head[1]}|",
        thick,
    ]
    for npu_id in host.npu_ids:
        dies = [die for die in host.dies if die.npu_id == npu_id]
        for number, die in enumerate(dies):
            lines += _die_rows(host, die, layout)
            lines.append(thick if number == len(dies) - 1 else f"+{'-' * layout.width}+")
    lines += [thin, f"| NPU     Chip              |{layout.process_head}", thick]
    for npu_id in host.npu_ids:
        lines += _process_rows(host, npu_id, layout)
        lines.append(thick)
    return lines


def _die_rows(host: Host, die: Die, layout: _Layout) -> list[str]:
    power = "-" if die.power_w is None else f"{die.power_w:.1f}"
    phy_id = str(die.phy_id) if host.generation == "a3" else ""
    huge_pages = f"{'0':<5}/ {'0':<{layout.total}}"
    memory = f"{'0':<5}/ {'0':<{layout.memory}}"
    hbm = f"{die.hbm_used_mib:<5}/ {die.hbm_total_mib:<{layout.total}}"
    first = f"{power:<{layout.first}} {die.temperature_c:<{layout.second}} {huge_pages}"
    second = f"{die.aicore_percent:<{layout.first}} {memory}{hbm}"
    return [
        f"| {die.npu_id:<5} {die.name:<20}| {die.health:<14}| {first}|",
        f"| {die.chip_id:<5} {phy_id:<20}| {die.bus_id:<14}| {second}|",
    ]


def _process_rows(host: Host, npu_id: int, layout: _Layout) -> list[str]:
    rows = []
    for die in host.dies:
        if die.npu_id != npu_id:
            continue
        for process in die.processes:
            name = process.name[:PROCESS_NAME_WIDTH]
            inside = "NA" if process.container_pid is None else process.container_pid
            values = (process.pid, name, process.memory_mib, inside)
            cells = (
                f" {value:<{width}}|" for value, width in zip(values, layout.process_widths, strict=False)
            )
            rows.append(f"| {die.npu_id:<7} {die.chip_id:<18}|" + "".join(cells))
    nothing = f" No running processes found in NPU {npu_id}"
    return rows or [f"|{nothing:<{layout.width}}|"]


# --- npu-smi info -m, -l --------------------------------------------------------------------------


def _mapping(host: Host) -> list[str]:
    """Chip rows end at the name; the header and the Mcu rows are padded to the full width."""
    with_phy_id = host.generation == "a3"
    heads = ["NPU ID", "Chip ID", "Chip Logic ID", *(["Chip Phy-ID"] if with_phy_id else []), "Chip Name"]
    lines = [_padded(heads)]
    for npu_id in host.npu_ids:
        dies = [die for die in host.dies if die.npu_id == npu_id]
        for die in dies:
            ids = [die.npu_id, die.chip_id, die.logic_id, *([die.phy_id] if with_phy_id else [])]
            name = die.name if die.name.startswith("Ascend") else f"Ascend {die.name}"
            lines.append(_padded([*ids, name]).rstrip(" "))
        mcu = [npu_id, 2 if with_phy_id else 1, "-", *(["-"] if with_phy_id else []), "Mcu"]
        lines.append(_padded(mcu))
    return lines


def _padded(cells: Iterable[object]) -> str:
    return "\t" + " ".join(f"{cell!s:<30}" for cell in cells)


def _list(host: Host) -> list[str]:
    lines = [_field("Total Count", len(host.npu_ids))]
    for npu_id in host.npu_ids:
        chips = sum(die.npu_id == npu_id for die in host.dies)
        lines += ["", _field("NPU ID", npu_id), _field("Chip Count", chips)]
    return lines


# --- npu-smi info -t ------------------------------------------------------------------------------


def _query(host: Host, options: dict[str, str]) -> Answer:
    kind = options["-t"]
    if kind == "topo":
        return saying("\n".join(_topology(host)))
    npu_id = options.get("-i", "")
    dies = [die for die in host.dies if str(die.npu_id) == npu_id]
    if not dies:
        return saying(f"Invalid card id.\nError parameter of -i\n{_USAGE}", exit_code=1)
    if "-c" in options:
        chip = options["-c"]
        on_chip = [die for die in dies if str(die.chip_id) == chip]
        if not on_chip:
            return saying(f"Invalid chip id.\nError parameter of -c\n{_USAGE}", exit_code=1)
        make = _CHIP_QUERIES.get(kind)
        lines = make(host, on_chip[0]) if make else None
    else:
        make_card = _CARD_QUERIES.get(kind)
        lines = make_card(host, dies) if make_card else None
    if lines is None:
        return saying(f"This device does not support querying {kind}.")
    return saying("\n".join(lines))


def _health(host: Host, die: Die) -> list[str]:
    """Codes share a line; further error texts follow under an empty key, a blank line between."""
    codes = " ".join(error.code for error in die.health_errors) or "NA"
    texts = [error.text for error in die.health_errors] or ["NA"]
    lines = [
        _field("Health Status", die.health),
        _field("Error Code", codes),
        _field("Error Information", texts[0]),
    ]
    for text in texts[1:]:
        lines += ["", _field("", text)]
    return lines


def _hccs(host: Host, die: Die) -> list[str]:
    def row(label: str, values: Iterable[object]) -> str:
        return f"\t{label:<30} : [" + "".join(f"{value!s:<20} " for value in values) + "]"

    links = die.hccs
    lines = [
        _field("hccs health status", "OK" if links.healthy else "NOK"),
        row("hccs lane mode", links.lane_modes),
        row("hccs link lane list", links.lanes),
        row("hccs link speed", links.speeds),
    ]
    for way, packets in (("tx", links.sent_packets), ("rx", links.received_packets)):
        if packets is not None:
            lines.append(row(f"hccs {way} packets", packets))
            lines.append(row(f"hccs {way} bytes", (20 * count for count in packets)))
    if links.sent_packets is not None:
        first = next((number for number, lanes in enumerate(links.lanes) if "1" not in lanes), "NA")
        lines += [
            row("hccs retry count", links.retries),
            row("hccs error count", links.errors),
            _field("hccs first error lane", first),
        ]
    return lines


def _ecc_of_chip(host: Host, die: Die) -> list[str]:
    """The memories that the chip has, in a wider column than other queries; A2 and A3 have HBM alone."""
    memories = (("DDR", die.ecc.ddr), ("HBM", die.ecc.hbm))
    lines = [
        _wide_field(f"{memory} {label}", count)
        for memory, counts in memories
        if counts is not None
        for label, count in _ecc_counts(counts)
    ]
    if die.ecc.next_isolated is not None:
        lines += [
            _wide_field(f"HBM {bits} Bit Next-Isolated Pages Count", pages)
            for bits, pages in zip(("Single", "Double"), die.ecc.next_isolated, strict=True)
        ]
    return lines


def _ecc_counts(counts: EccCounts) -> tuple[tuple[str, int], ...]:
    return (
        ("Single Bit Error Count", counts.single),
        ("Double Bit Error Count", counts.double),
        ("Single Bit Aggregate Total Err Cnt", counts.single_total),
        ("Double Bit Aggregate Total Err Cnt", counts.double_total),
        ("Single Bit Isolated Pages Count", counts.single_isolated),
        ("Double Bit Isolated Pages Count", counts.double_isolated),
    )


def _ecc_of_card(host: Host, dies: list[Die]) -> list[str]:
    """Each chip's counters, then its id, after a blank line each."""
    lines = [_wide_field("NPU ID", dies[0].npu_id), _wide_field("Chip Count", len(dies))]
    for die in dies:
        lines += ["", *_ecc_of_chip(host, die), _wide_field("Chip ID", die.chip_id)]
    return lines


def _super_pod(host: Host, die: Die) -> list[str] | None:
    ids = die.super_pod
    if ids is None:
        return None
    return [
        _field("SDID", ids.sdid),
        _field("Super Pod Size", ids.size),
        _field("Super Pod ID", ids.pod),
        _field("Server Index", ids.server),
    ]


def _memory(host: Host, die: Die) -> list[str]:
    return [
        _field("DDR Capacity(MB)", 0),
        _field("DDR Clock Speed(MHz)", 0),
        _field("HBM Capacity(MB)", die.hbm_total_mib),
        _field("HBM Clock Speed(MHz)", die.hbm_mhz),
        _field("HBM Temperature(C)", die.temperature_c),
        _field("HBM Manufacturer ID", die.hbm_manufacturer),
    ]


def _process_memory(host: Host, die: Die) -> list[str]:
    return [
        f"\tProcess id:{process.pid:<8}Process name:{process.name[:PROCESS_NAME_WIDTH]:<18}"
        f"Process memory(MB):{process.memory_mib}"
        for process in die.processes
    ] or [_field("Process", "NA")]


def _board_of_chip(host: Host, die: Die) -> list[str]:
    return [
        _field("NPU ID", die.npu_id),
        _field("Chip ID", die.chip_id),
        _field("Chip Type", "Ascend"),
        _field("Chip Name", die.name),
        _field("Chip Version", "V1"),
        _field("Board ID", "0x01"),
        _field("PCB ID", "NA"),
        _field("BOM ID", 1),
        _field("VDie ID", _die_id(die, 1)),
        _field("NDie ID", _die_id(die, 2)),
        _field("Chip Position ID", die.chip_id),
        _field("PCIe Bus Info", die.bus_id),
        _field("Firmware Version", host.firmware_version),
    ]


def _die_id(die: Die, part: int) -> str:
    return " ".join(f"{part:02X}{word:02X}{die.npu_id:02X}{die.chip_id:02X}" for word in range(5))


def _board_of_card(host: Host, dies: list[Die]) -> list[str]:
    return [
        _field("NPU ID", dies[0].npu_id),
        _field("Software Version", host.driver_version),
        _field("Firmware Version", host.firmware_version),
        _field("Compatibility", "OK"),
        _field("Board ID", "0x01"),
        _field("PCB ID", "A"),
        _field("BOM ID", 1),
        _field("PCIe Bus Info", dies[0].bus_id),
        _field("Slot ID", dies[0].npu_id),
        _field("Class ID", "NA"),
        _field("PCI Vendor ID", "0x19E5"),
        _field("PCI Device ID", "0xD803" if host.generation == "a3" else "0xD802"),
        _field("Subsystem Vendor ID", "0x0200"),
        _field("Subsystem Device ID", "0x0100"),
        _field("Chip Count", len(dies)),
    ]


def _usual_figures(host: Host, dies: list[Die]) -> list[str]:
    """``-t common``: the chips, then the board's controller."""
    lines = [_field("NPU ID", dies[0].npu_id), _field("Chip Count", len(dies)), ""]
    for die in dies:
        lines += [
            _field("Chip ID", die.chip_id),
            _field("Memory Usage Rate(%)", 0),
            _field("HBM Usage Rate(%)", 100 * die.hbm_used_mib // die.hbm_total_mib),
            _field("Aicore Usage Rate(%)", die.aicore_percent),
            _field("Aicore Freq(MHZ)", die.aicore_mhz),
            _field("Aicore curFreq(MHZ)", die.aicore_mhz),
            _field("Aicore Count", die.aicore_count),
            _field("Temperature(C)", die.temperature_c),
            *([] if die.power_w is None else [_field("NPU Real-time Power(W)", f"{die.power_w:.1f}")]),
            "",
        ]
    return [*lines, _field("Chip Name", "mcu"), _field("Temperature(C)", host.mcu_temperature_c)]


_CHIP_QUERIES: dict[str, Callable[[Host, Die], list[str] | None]] = {
    "health": _health,
    "hccs": _hccs,
    "spod-info": _super_pod,
    "memory": _memory,
    "proc-mem": _process_memory,
    "board": _board_of_chip,
    "ecc": _ecc_of_chip,
}
_CARD_QUERIES: dict[str, Callable[[Host, list[Die]], list[str]]] = {
    "board": _board_of_card,
    "common": _usual_figures,
    "ecc": _ecc_of_card,
}


# --- npu-smi info -t topo -------------------------------------------------------------------------

_CPU_AFFINITY = ("144-167", "144-167", "96-119", "96-119", "0-23", "0-23", "48-71", "48-71")


def _topology(host: Host) -> list[str]:
    """A2: every NPU reaches every other by HCCS. A3: SIO inside an NPU, HCCS switches between NPUs."""
    a3 = host.generation == "a3"
    labels = [f"Phy-ID{die.phy_id}" if a3 else f"NPU{die.npu_id}" for die in host.dies]
    heads = labels if a3 else [*labels, "CPU Affinity"]
    lines = ["\t   " + "".join(f"{head:<11}" for head in heads)]
    for label, die in zip(labels, host.dies, strict=True):
        cells = [label, *(_way(a3, die, other) for other in host.dies)]
        if not a3:
            cells.append(_CPU_AFFINITY[die.npu_id % len(_CPU_AFFINITY)])
        lines.append("".join(f"{cell:<11}" for cell in cells))
    legend = [f"  {word:<4} = {meaning}" for word, meaning in _LEGEND]
    return [*lines, "", "Legend:", "", *legend]


def _way(a3: bool, die: Die, other: Die) -> str:
    if die.phy_id == other.phy_id:
        return "X"
    if not a3:
        return "HCCS"
    return "SIO" if die.npu_id == other.npu_id else "HCCS_SW"


_LEGEND = (
    ("X", "Self"),
    ("SYS", "Path over PCIe and between NUMA nodes"),
    ("PHB", "Path over PCIe and the PCIe host bridge of a CPU"),
    ("PIX", "Path over one PCIe switch"),
    ("PXB", "Path over several PCIe switches"),
    ("HCCS", "Connection over HCCS"),
    ("SIO", "Connection between the dies of an NPU"),
    ("HCCS_SW", "Connection over an HCCS switch"),
    ("NA", "Unknown relationship"),
)
