"""``hccn_tool -i N -… -g``: one device's port, addresses, neighbour and reachability.

Formats: hccn_tool's source for 910B and A3, and captures of both. Colons are glued or spaced, text may
be indented and stand between blank lines; every other deviation is unparsed.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence

from ascendctl.facts import (
    AddressFacts,
    GatewayFacts,
    LinkFacts,
    LinkRecord,
    LinkStatFacts,
    LinkStatus,
    LldpFacts,
    NetdetectFacts,
    NetHealth,
    NetHealthFacts,
    PingFacts,
    TlsFacts,
    VnicFacts,
)
from ascendctl.parsers.command import Asked
from ascendctl.parsers.grammar import MAX_UINT32, ipv4, is_ipv4, netmask, unsigned
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


def read_link(asked: Asked, output: Output) -> LinkFacts:
    """``link status: UP|DOWN``."""
    fields = read_fields(output.stdout, required=["link status"])
    return LinkFacts(_link_status(fields["link status"]))


def read_net_health(asked: Asked, output: Output) -> NetHealthFacts:
    """``net health status: Success`` and the nine others; older drivers say ``Socket failed``."""
    field = read_fields(output.stdout, required=["net health status"])["net health status"]
    try:
        return NetHealthFacts(NetHealth(_NET_HEALTH_SPELLINGS.get(field.value, field.value)))
    except ValueError:
        raise unparsed(field.line, "expected a net health value of the driver's list") from None


def read_ip(asked: Asked, output: Output) -> AddressFacts:
    """``ipaddr:X`` and ``netmask:Y``."""
    fields = read_fields(output.stdout, required=["ipaddr", "netmask"])
    return AddressFacts(_address(fields["ipaddr"]), _netmask(fields["netmask"]))


def read_netdetect(asked: Asked, output: Output) -> NetdetectFacts:
    """``netdetect addr: X``, in 2025 captures ``netdetect address: X``; 0.0.0.0 = none is set.

    Raises:
        NoData: no address is set.
    """
    lines = nonblank(output.stdout)
    label = "netdetect address" if lines[0].stripped.startswith("netdetect address") else "netdetect addr"
    address = _address(read_fields(lines, required=[label])[label])
    if address == "0.0.0.0":
        raise NoData("no detect address is set on this port (0.0.0.0)")
    return NetdetectFacts(address)


def read_gateway(asked: Asked, output: Output) -> GatewayFacts:
    """``default gateway:X, Iface:eth0``, or ``gateway:X``."""
    lines = nonblank(output.stdout)
    if len(lines) > 1:
        raise unparsed(lines[1], "expected one gateway line")
    require_line_end(lines[0])
    match = _GATEWAY.fullmatch(lines[0].stripped)
    if match is None:
        raise unparsed(lines[0], "expected 'default gateway:ADDRESS, Iface:NAME'")
    return GatewayFacts(ipv4(match["address"] or match["bare"], lines[0]), match["interface"])


def read_vnic(asked: Asked, output: Output) -> VnicFacts:
    """``vnic link status``, ``vnic ipaddr`` and ``vnic netmask``."""
    fields = read_fields(output.stdout, required=["vnic link status", "vnic ipaddr", "vnic netmask"])
    return VnicFacts(
        _link_status(fields["vnic link status"]),
        _address(fields["vnic ipaddr"]),
        _netmask(fields["vnic netmask"]),
    )


def read_lldp(asked: Asked, output: Output) -> LldpFacts:
    """The neighbour's sections, read tolerantly: they may be absent, reordered or cut.

    A section counts when its end was seen. The tool cuts the text at 1999 bytes and adds a line end,
    so the last section of such a text is not counted. A bare line end = no neighbour.

    Raises:
        NoData: no neighbour was heard.
    """
    lines = output.stdout
    if not nonblank(lines):
        raise NoData("no neighbour is heard on this port")
    sections = _lldp_sections(lines, cut=_size_bytes(lines) >= _LLDP_TEXT_LIMIT_BYTES)
    if not sections:
        raise ends_early(lines, "a whole LLDP section")
    description = sections.get("System Description TLV")
    return LldpFacts(
        chassis_id=_lldp_id(sections.get("Chassis ID TLV")),
        port_id=_lldp_id(sections.get("Port ID TLV")),
        system_name=_lldp_value(sections.get("System Name TLV")),
        system_description=None if description is None else _description(description),
    )


def read_tls(asked: Asked, output: Output) -> TlsFacts:
    """``dev_id:N, tls switch[0](…)``, with or without ``tls preconfigured``, then certificate blocks."""
    first, *rest = nonblank(output.stdout)
    match = _TLS_SWITCH.fullmatch(first.stripped)
    if match is None:
        raise unparsed(first, "expected 'dev_id:N, tls switch[0 or 1](0:disable, 1:enable), …'")
    same_device(asked, match["device"], first)
    for line in rest:
        header = _TLS_CERTIFICATE.fullmatch(line.stripped)
        if header is not None:
            same_device(asked, header["device"], line)
        elif not line.text.startswith((" ", "\t")) or not _TLS_DETAIL.fullmatch(line.stripped):
            raise unparsed(line, "expected the lines of a certificate")
    return TlsFacts(int(match["switch"]))


def read_ping(asked: Asked, output: Output) -> PingFacts:
    """``-ping``: ``device N PING X``, one line per packet, and the summary; on stdout or stderr."""
    lines = _ping_text(output)
    head, summary, body = _ping_frame(asked, lines, _PING_SUMMARY)
    received = 0
    for line in body:
        if _PING_REPLY.fullmatch(line.stripped):
            received += 1
        elif not _PING_LOST.fullmatch(line.stripped):
            raise unparsed(line, "expected 'recv seq=N,time=…ms' or 'recv time out seq=N'")
    return _ping_facts(head, summary, received, lines[-1])


def read_hccs_ping(asked: Asked, output: Output) -> PingFacts:
    """``-hccs_ping``: per packet its fate and a ``recv seq`` line, lost or not; then the summary."""
    lines = _ping_text(output)
    while lines and _HCCS_PING_TIMES.fullmatch(lines[-1].stripped):
        lines.pop()
    head, summary, body = _ping_frame(asked, lines, _HCCS_PING_SUMMARY)
    received = 0
    for index, line in enumerate(body):
        wanted = _HCCS_PING_DETAIL if index % 2 else _HCCS_PING_FATE
        if not wanted.fullmatch(line.stripped):
            raise unparsed(line, "expected what became of the packet, then its 'recv seq' line")
        received += line.stripped == _HCCS_PING_SUCCESS
    if len(body) != 2 * int(summary[1]):
        raise unparsed(lines[-1], f"the summary does not fit the {len(body) // 2} packets listed above it")
    return _ping_facts(head, summary, received, lines[-1])


def read_link_stat(asked: Asked, output: Output) -> LinkStatFacts:
    """Link history, newest first; the prefix is ``[devid N]`` or, older, ``[device N]``."""
    values: dict[str, tuple[str, Line]] = {}
    records: list[LinkRecord] = []
    for line in nonblank(output.stdout):
        match = _LINK_STAT_LINE.fullmatch(line.stripped)
        if match is None:
            raise unparsed(line, "expected '[devid N]…'")
        same_device(asked, match["device"], line)
        if "link change records" in values:
            records.append(_link_record(match["text"], line))
            continue
        label, colon, value = (part.strip(BLANKS) for part in match["text"].partition(":"))
        if not colon or label not in _LINK_STAT_LABELS or label in values:
            raise unparsed(line, "expected " + ", ".join(_LINK_STAT_LABELS) + ", each once")
        values[label] = (value, line)
    return _link_stat_facts(values, records, output.stdout)


def _ping_has_summary(output: Output) -> bool:
    """A lost packet makes the tool exit 1 with an error text beside a summary that is whole."""
    summaries = (_PING_SUMMARY, _HCCS_PING_SUMMARY)
    lines = output.stdout + output.stderr
    return output.exit_code in (0, 1) and any(
        pattern.fullmatch(line.stripped) for line in lines for pattern in summaries
    )


READERS: Mapping[str, Reader] = {
    "-link": Reader(read_link),
    "-net_health": Reader(read_net_health),
    "-ip": Reader(read_ip),
    "-netdetect": Reader(read_netdetect),
    "-gateway": Reader(read_gateway),
    "-vnic": Reader(read_vnic),
    "-lldp": Reader(read_lldp, foreign_text=True, blank_answers=True),
    "-tls": Reader(read_tls),
    "-ping": Reader(read_ping, whole_all_the_same=_ping_has_summary),
    "-hccs_ping": Reader(read_hccs_ping, whole_all_the_same=_ping_has_summary),
    "-link_stat": Reader(read_link_stat),
}


# --- single values --------------------------------------------------------------------------------

_NET_HEALTH_SPELLINGS = {"Socket failed": NetHealth.SOCKET_FAIL.value}
_GATEWAY = re.compile(
    r"default gateway:[ \t]*(?P<address>\S+),[ \t]*Iface:[ \t]*(?P<interface>[A-Za-z][A-Za-z0-9_.-]{0,14})"
    r"|gateway:[ \t]*(?P<bare>[^\s,]+)"
)


def _link_status(field: Field) -> LinkStatus:
    try:
        return LinkStatus(field.value)
    except ValueError:
        raise unparsed(field.line, "expected UP or DOWN") from None


def _address(field: Field) -> str:
    require_line_end(field.line)
    return ipv4(field.value, field.line)


def _netmask(field: Field) -> str:
    # No line end asked for: no contiguous netmask is the beginning of another one.
    return netmask(field.value, field.line)


def same_device(asked: Asked, printed: str, line: Line) -> None:
    """That the physical id an answer prints is the one that was asked."""
    if asked.device is not None and int(printed) != asked.device:
        raise unparsed(line, f"the answer is of device {int(printed)}, asked was device {asked.device}")


# --- tls ------------------------------------------------------------------------------------------

_TLS_SWITCH = re.compile(
    r"dev_id:(?P<device>[0-9]{1,3}), tls switch\[(?P<switch>[01])\]\(0:disable, 1:enable\)"
    r"(?:, tls preconfigured\[[01]\]\(0:non-preset, 1:preset\))?"
    r"(?:, tls alarm time threshold\[[0-9]{1,10}\]days)?"
)
_TLS_CERTIFICATE = re.compile(r"dev_id:(?P<device>[0-9]{1,3}), \[[^\]]+\] info:")
_TLS_DETAIL = re.compile(r"[A-Za-z_ ]+\[.*\].*")


# --- ping -----------------------------------------------------------------------------------------

_PING_HEAD = re.compile(r"device (?P<device>[0-9]{1,3}) PING (?P<target>[0-9.]{1,20})")
_PING_SUMMARY = re.compile(
    r"([0-9]{1,9}) packets transmitted, ([0-9]{1,9}) received, ([0-9]{1,3}\.[0-9]{2})% packet loss"
)
_HCCS_PING_SUMMARY = re.compile(
    r"([0-9]{1,9}) packets transmitted, ([0-9]{1,9}) received, ([0-9]{1,3}\.[0-9]{2})% packets loss"
)
_PING_REPLY = re.compile(r"recv seq=[0-9]{1,9},[ ]?time=[0-9]{1,9}\.[0-9]{1,9}ms")
_PING_LOST = re.compile(r"recv time out seq=[0-9]{1,9}|.*Message too long.*|.*Destination Host Unreachable.*")
_HCCS_PING_SUCCESS = "This pkt ping success!"
_HCCS_PING_FATE = re.compile(r"This pkt [A-Za-z0-9_ ]+!")
_HCCS_PING_DETAIL = re.compile(
    r"recv seq [0-9]{1,9}, time = [0-9]{1,12}\.[0-9]{1,9}us, L1 plane check result = 0x[0-9A-Fa-f]{1,16}"
)
_HCCS_PING_TIMES = re.compile(r"(?:max|min|average|TP95) time [0-9]{1,12}\.[0-9]{1,9}us")
_FAILED_AFTER_LOSS = "Command execute failed!"
# The printed loss is rounded or cut to two decimals.
_LOSS_TOLERANCE_PERCENT = 0.011


def _ping_text(output: Output) -> list[Line]:
    lines = nonblank(output.stdout)
    if not any(line.stripped != _FAILED_AFTER_LOSS for line in lines):
        lines = nonblank(output.stderr)
    return [line for line in lines if line.stripped != _FAILED_AFTER_LOSS]


def _ping_frame(
    asked: Asked, lines: Sequence[Line], summary_form: re.Pattern[str]
) -> tuple[re.Match[str], re.Match[str], Sequence[Line]]:
    """The first line, the summary at the end, and what lies between."""
    if not lines:
        raise ends_early(lines, "'device N PING ADDRESS'")
    head = _PING_HEAD.fullmatch(lines[0].stripped)
    if head is None:
        raise unparsed(lines[0], "expected 'device N PING ADDRESS'")
    same_device(asked, head["device"], lines[0])
    if asked.target and is_ipv4(asked.target) and head["target"] != asked.target:
        raise unparsed(lines[0], f"asked was a ping of {asked.target}")
    if "." in head["target"]:
        ipv4(head["target"], lines[0])
    summary = summary_form.fullmatch(lines[-1].stripped)
    if summary is None:
        raise ends_early(lines, "the summary 'N packets transmitted, N received, …'")
    transmitted, received, loss = int(summary[1]), int(summary[2]), float(summary[3])
    if not transmitted or received > transmitted:
        raise unparsed(lines[-1], "the packet counts do not fit each other")
    if abs(loss - 100.0 * (transmitted - received) / transmitted) > _LOSS_TOLERANCE_PERCENT:
        raise unparsed(lines[-1], "the loss does not fit the packet counts")
    return head, summary, lines[1:-1]


def _ping_facts(head: re.Match[str], summary: re.Match[str], replies: int, line: Line) -> PingFacts:
    if replies != int(summary[2]):
        raise unparsed(line, f"the summary does not fit the {replies} replies listed above it")
    return PingFacts(head["target"], int(summary[1]), int(summary[2]), float(summary[3]))


# --- link_stat ------------------------------------------------------------------------------------

_LINK_STAT_LINE = re.compile(r"\[dev(?:id|ice) (?P<device>[0-9]{1,3})\][ \t]*(?P<text>.*)")
_LINK_STAT_LABELS = ("current time", "link up count", "link down count", "link change records")
_LINK_RECORD = re.compile(r"(?P<time>.*\S)[ \t]+LINK (?P<status>UP|DOWN)")
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CTIME = re.compile(
    rf"(?:{'|'.join(_WEEKDAYS)}) ({'|'.join(_MONTHS)}) {{1,2}}([0-9]{{1,2}}) "
    r"([0-9]{2}):([0-9]{2}):([0-9]{2}) ([0-9]{4})"
)


def _link_record(text: str, line: Line) -> LinkRecord:
    match = _LINK_RECORD.fullmatch(text)
    if match is None:
        raise unparsed(line, "expected a time and LINK UP or LINK DOWN")
    return LinkRecord(_ctime(match["time"], line), LinkStatus(match["status"]))


def _ctime(text: str, line: Line) -> str:
    match = _CTIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        day, hour, minute, second, year = (int(match[group]) for group in range(2, 7))
        dt.datetime(year, _MONTHS.index(match[1]) + 1, day, hour, minute, second)
    except ValueError:
        raise unparsed(line, "expected a time such as 'Tue Aug  1 14:43:40 2022'") from None
    return text


def _link_stat_facts(
    values: Mapping[str, tuple[str, Line]], records: list[LinkRecord], lines: Lines
) -> LinkStatFacts:
    for label in ("current time", "link up count", "link change records"):
        if label not in values:
            raise ends_early(lines, f"{label!r}")
    _ctime(*values["current time"])
    up_count = _count(values["link up count"])
    down_count = _count(values["link down count"]) if "link down count" in values else None
    stated, line = values["link change records"]
    if stated not in ("", "NA") or (stated == "NA") is bool(records):
        raise unparsed(line, "expected NA, or records below it")
    ups = sum(record.link_status is LinkStatus.UP for record in records)
    downs = len(records) - ups
    if ups > up_count or (down_count is not None and downs > down_count):
        raise unparsed(line, "more records than the counts above it say")
    return LinkStatFacts(up_count, down_count, tuple(records))


def _count(stated: tuple[str, Line]) -> int:
    return unsigned(*stated, "a count", MAX_UINT32)


# --- lldp -----------------------------------------------------------------------------------------

_LLDP_TEXT_LIMIT_BYTES = 1999
_LLDP_END = "End of LLDPDU TLV"
_LLDP_HEADER = re.compile(r"[A-Z][A-Za-z0-9/ ().-]* TLV")
_LLDP_SUBTYPE = re.compile(r"(MAC|Ifname|IPv4|IPv6|[A-Z][A-Za-z ]*):[ \t]*(.*)")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}")


def _size_bytes(lines: Lines) -> int:
    """Size of the tool's text, without the line end that it adds."""
    return sum(len(line.text.encode("utf-8", "surrogateescape")) + 1 for line in lines) - 1


def _lldp_sections(lines: Lines, *, cut: bool) -> dict[str, list[Line]]:
    """Section name → its lines, of the sections that are whole."""
    sections: dict[str, list[Line]] = {}
    name = ""
    for line in lines:
        if _LLDP_HEADER.fullmatch(line.text.rstrip(BLANKS)):
            name = line.text.rstrip(BLANKS)
            # Of repeated sections (management addresses) the first one counts.
            if name in sections:
                name = f"{name} (again, line {line.number})"
            sections[name] = []
        elif name:
            sections[name].append(line)
        elif line.stripped:
            raise unparsed(line, "expected the name of an LLDP section, such as 'Chassis ID TLV'")
    if name != _LLDP_END:
        last = nonblank(sections.get(name, []))
        # Short of the tool's limit, a value on one ended line is whole; a description may go on.
        if cut or not last or not last[-1].ended or name == "System Description TLV":
            sections.pop(name, None)
    elif nonblank(sections[name]):
        raise unparsed(nonblank(sections[name])[0], f"expected nothing after '{_LLDP_END}'")
    return sections


def _lldp_value(lines: Lines | None) -> str | None:
    """The value of a section with one value line."""
    if lines is None:
        return None
    values = nonblank(lines)
    if not values:
        return None
    if len(values) > 1:
        raise unparsed(values[1], "expected one value in this LLDP section")
    return values[0].stripped


def _lldp_id(lines: Lines | None) -> str | None:
    """A chassis or port id without its subtype: ``MAC: …``, ``Ifname: …``."""
    text = _lldp_value(lines)
    if text is None or lines is None:
        return text
    line = nonblank(lines)[0]
    subtype = _LLDP_SUBTYPE.fullmatch(text)
    if subtype is None:
        raise unparsed(line, "expected the kind of the id and the id, such as 'Ifname: 400GE1/1/1'")
    kind, value = subtype[1], subtype[2]
    if not value or (kind == "MAC" and not _MAC.fullmatch(value)) or (kind == "IPv4" and not is_ipv4(value)):
        raise unparsed(line, f"expected an id of the kind {kind}")
    return value


def _description(lines: Lines) -> str:
    return "\n".join(line.text.strip(BLANKS) for line in lines).strip("\n")
