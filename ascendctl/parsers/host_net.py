"""The host network as a host sees it: MTU of its interfaces, route, ping and TCP ports of a peer.

Formats: iproute2 (``ip -o link show``, ``ip route get``), ping of iputils and of busybox, and what bash
says of ``/dev/tcp/ADDRESS/PORT`` (its own words with ``LC_ALL=C``, strerror's behind them).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address

from ascendctl.facts import HostLink, HostPingFacts, PortAnswer, PortFacts, RouteFacts
from ascendctl.parsers.command import Asked
from ascendctl.parsers.grammar import unsigned
from ascendctl.parsers.reader import Reader
from ascendctl.parsers.text import Line, Output, ends_early, nonblank, require_line_end, unparsed


def read_links(asked: Asked, output: Output) -> tuple[HostLink, ...]:
    """``ip -o link show``: one interface per line."""
    links = []
    lines = nonblank(output.stdout)
    require_line_end(lines[-1])
    for line in lines:
        match = _LINK.fullmatch(line.stripped)
        if match is None:
            raise unparsed(line, "expected 'N: NAME: <FLAGS> mtu N …'")
        links.append(HostLink(match["interface"], unsigned(match["mtu"], line, "an MTU", _MOST_MTU)))
    return tuple(links)


def read_route(asked: Asked, output: Output) -> RouteFacts:
    """``ip route get ADDRESS``: ``ADDRESS [via GATEWAY] dev NAME [src SOURCE] …``, or that there is none."""
    if _no_route(output):
        return RouteFacts(None)
    first = nonblank(output.stdout)[0]
    require_line_end(first)
    match = _ROUTE.fullmatch(first.stripped)
    if match is None:
        raise unparsed(first, "expected 'ADDRESS [via GATEWAY] dev NAME src SOURCE'")
    _same_address(asked, match["target"], first)
    return RouteFacts(match["interface"], match["gateway"], match["source"])


def read_ping(asked: Asked, output: Output) -> HostPingFacts:
    """``ping``: its first line, the summary, and the replies between them, which must be as many."""
    lines = nonblank(output.stdout)
    if not lines:
        raise ends_early(lines, "'PING ADDRESS'")
    head = _PING_HEAD.fullmatch(lines[0].stripped)
    if head is None:
        raise unparsed(lines[0], "expected 'PING ADDRESS (ADDRESS) … bytes of data'")
    _same_address(asked, head["target"], lines[0])
    at = next((n for n, line in enumerate(lines) if _PING_SUMMARY.fullmatch(line.stripped)), None)
    if at is None:
        raise ends_early(lines, "the summary 'N packets transmitted, N received, …'")
    summary = _PING_SUMMARY.fullmatch(lines[at].stripped)
    assert summary is not None
    transmitted, received = int(summary["transmitted"]), int(summary["received"])
    if not transmitted or received > transmitted:
        raise unparsed(lines[at], "the packet counts do not fit each other")
    replies = {match[1] for line in lines[1:at] if (match := _PING_REPLY.fullmatch(line.stripped))}
    if len(replies) != received:
        raise unparsed(lines[at], f"the summary does not fit the {len(replies)} replies listed above it")
    said = (_TOO_LARGE.search(line.text) for line in (*lines, *output.stderr))
    path_mtu = min((int(match[1] or 0) for match in said if match), default=None)
    return HostPingFacts(head["target"], transmitted, received, head["interface"], path_mtu)


def read_ports(asked: Asked, output: Output) -> PortFacts:
    """A line per port: ``PORT EXIT_CODE TEXT``, the text being the last line that bash said."""
    answers: dict[int, PortAnswer] = {}
    lines = nonblank(output.stdout)
    require_line_end(lines[-1])
    for line in lines:
        match = _PORT.fullmatch(line.stripped)
        if match is None:
            raise unparsed(line, "expected 'PORT EXIT_CODE TEXT'")
        port = unsigned(match["port"], line, "a port", 65535)
        if port in answers:
            raise unparsed(line, f"port {port} comes twice")
        answers[port] = _port_answer(int(match["code"]), match["text"] or "", line)
    if missing := [port for port in asked.ports if port not in answers]:
        raise ends_early(lines, f"port {missing[0]}")
    if not asked.target:
        raise unparsed(lines[0], "the command names no address")
    return PortFacts(asked.target, answers)


def _port_answer(code: int, text: str, line: Line) -> PortAnswer:
    if code == 0:
        return PortAnswer.CONNECTED
    if code in _TIMEOUT_CODES:
        return PortAnswer.TIMED_OUT
    for end, answer in _STRERROR.items():
        if text.endswith(f": {end}"):
            return answer
    raise unparsed(line, "expected what connecting to the port met")


def _has_no_route(output: Output) -> bool:
    return output.exit_code == 2 and _no_route(output)


def _no_route(output: Output) -> bool:
    said = nonblank(output.stderr)
    return bool(said) and _NO_ROUTE.fullmatch(said[-1].stripped) is not None


def _ping_has_summary(output: Output) -> bool:
    """ping exits 1 where nothing came back; its summary is whole then too."""
    return output.exit_code in (0, 1) and any(
        _PING_SUMMARY.fullmatch(line.stripped) for line in output.stdout
    )


READERS: Mapping[str, Reader] = {
    "ip -o link show": Reader(read_links, foreign_text=True),
    "ip route get": Reader(read_route, whole_all_the_same=_has_no_route, foreign_text=True),
    "ping": Reader(read_ping, whole_all_the_same=_ping_has_summary, foreign_text=True),
    "ports": Reader(read_ports, foreign_text=True),
}

_MOST_MTU = 0x7FFFFFFF
_LINK = re.compile(
    r"[0-9]{1,9}: (?P<interface>[^\s@:]+)(?:@\S+)?: <[A-Z0-9_,-]*> mtu (?P<mtu>[0-9]{1,10})(?: .*)?"
)
_ROUTE = re.compile(
    r"(?:(?:local|unicast|broadcast|multicast) )?(?P<target>[0-9A-Fa-f.:]+)(?: from [0-9A-Fa-f.:]+)?"
    r"(?: via (?:inet6? )?(?P<gateway>[0-9A-Fa-f.:]+))? dev (?P<interface>\S+)(?: table \S+)?"
    r"(?:.*? src (?P<source>[0-9A-Fa-f.:]+))?(?: .*)?"
)
_NO_ROUTE = re.compile(r"RTNETLINK answers: (?:Network is unreachable|No route to host|Invalid argument)")
_PING_HEAD = re.compile(
    r"PING (?P<target>[0-9A-Fa-f.:]+)(?: ?\([0-9A-Fa-f.:]+\))?"
    r"(?: from [0-9A-Fa-f.:%]+ (?P<interface>[^\s:]+))?"
    r":? [0-9]{1,5}(?:\([0-9]{1,5}\))? (?:data )?bytes(?: of data\.?)?"
)
_PING_SUMMARY = re.compile(
    r"(?P<transmitted>[0-9]{1,5}) packets transmitted, (?P<received>[0-9]{1,5}) (?:packets )?received,"
    r"(?: \+[0-9]{1,5} (?:duplicates|errors|corrupted),)* [0-9.]{1,9}% packet loss(?:, time [0-9]{1,9}ms)?"
)
_PING_REPLY = re.compile(r"[0-9]{1,5} bytes from [^\s]+: (?:icmp_)?seq=([0-9]{1,5}) .*")
_TOO_LARGE = re.compile(
    r"(?:Frag needed and DF set|Packet too big|[Mm]essage too long)(?:[:,]? \(?mtu ?[=:] ?([0-9]{1,5}))?"
)
_PORT = re.compile(r"(?P<port>[0-9]{1,5}) (?P<code>[0-9]{1,3})(?: (?P<text>.*))?")
_TIMEOUT_CODES = (124, 137, 143)
_STRERROR = {
    "Connection refused": PortAnswer.REFUSED,
    "Connection reset by peer": PortAnswer.REFUSED,
    "No route to host": PortAnswer.REJECTED,
    "Host is unreachable": PortAnswer.REJECTED,
    "Network is unreachable": PortAnswer.REJECTED,
    "Permission denied": PortAnswer.REJECTED,
    "Operation not permitted": PortAnswer.REJECTED,
    "Protocol not available": PortAnswer.REJECTED,
    "Connection timed out": PortAnswer.TIMED_OUT,
}


def _same_address(asked: Asked, printed: str, line: Line) -> None:
    """That the address an answer prints is the one that was asked."""
    try:
        address = ip_address(printed)
    except ValueError:
        raise unparsed(line, "expected an address") from None
    if asked.target and address != ip_address(asked.target):
        raise unparsed(line, f"the answer is of {printed}, asked was {asked.target}")
