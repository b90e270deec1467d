"""The grammar of single values: what an address, a netmask, an id or a number may look like.

Each function gives the value, or raises ``Unparsed`` naming the line. Only ASCII digits count, and
only as many as the value can have.
"""

from __future__ import annotations

import re

from ascendctl.parsers.text import Line, unparsed

# The driver's upper bound of cards and devices in one host (dcmi: 64).
MAX_NPU_ID = 63
MAX_PHY_ID = 63
MAX_CHIP_ID = 7
MAX_UINT32 = 0xFFFFFFFF
MAX_UINT64 = 0xFFFFFFFFFFFFFFFF

_IPV4 = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})")
_UNSIGNED = re.compile(r"0|[1-9][0-9]{0,19}")


def is_ipv4(text: str) -> bool:
    """Four octets 0..255 without leading zeros."""
    return _IPV4.fullmatch(text) is not None and all(int(octet) <= 255 for octet in text.split("."))


def ipv4(text: str, line: Line) -> str:
    if not is_ipv4(text):
        raise unparsed(line, "expected an IPv4 address (four octets, 0 to 255)")
    return text


def netmask(text: str, line: Line) -> str:
    """An IPv4 netmask: ones, then zeros."""
    bits = 0
    for octet in ipv4(text, line).split("."):
        bits = bits << 8 | int(octet)
    zeros = ~bits & MAX_UINT32
    if zeros & (zeros + 1):
        raise unparsed(line, "expected a contiguous netmask")
    return text


def unsigned(text: str, line: Line, what: str, maximum: int) -> int:
    """A decimal number without sign or leading zeros, at most ``maximum``."""
    if not _UNSIGNED.fullmatch(text) or int(text) > maximum:
        raise unparsed(line, f"expected {what}, a number from 0 to {maximum}")
    return int(text)
