"""``hccn_tool -i N -speed | -duplex | -mtu | -fec -g``: how a port's link is set, a line each.

Formats: hccn_tool's source for 910B and A3 (tool_ext.c, tool_ops.c), and for ``-fec`` captures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ascendctl.facts import Duplex, DuplexFacts, FecFacts, MtuFacts, SpeedFacts
from ascendctl.parsers.command import Asked
from ascendctl.parsers.grammar import unsigned
from ascendctl.parsers.reader import Reader
from ascendctl.parsers.text import Output, read_fields, require_line_end, unparsed


def read_speed(asked: Asked, output: Output) -> SpeedFacts:
    """``Speed: 200000 Mb/s``, or ``Speed: Unknown!``."""
    field = read_fields(output.stdout, required=["Speed"])["Speed"]
    if field.value == "Unknown!":
        return SpeedFacts(None)
    number, unit, rest = field.value.partition(" Mb/s")
    speed_mbps = unsigned(number, field.line, "'Unknown!' or a speed and Mb/s", _MAX_SPEED_MBPS)
    if not unit or rest or speed_mbps == 0:
        raise unparsed(field.line, "expected 'Unknown!' or a speed and Mb/s")
    return SpeedFacts(speed_mbps)


def read_duplex(asked: Asked, output: Output) -> DuplexFacts:
    """``Duplex: Full``, ``Duplex: Half`` or ``Duplex: Unknown!``."""
    field = read_fields(output.stdout, required=["Duplex"])["Duplex"]
    if field.value not in _DUPLEX:
        raise unparsed(field.line, "expected Full, Half or Unknown!")
    return DuplexFacts(_DUPLEX[field.value])


def read_mtu(asked: Asked, output: Output) -> MtuFacts:
    """``mtu:4200``."""
    field = read_fields(output.stdout, required=["mtu"])["mtu"]
    require_line_end(field.line)
    mtu_bytes = unsigned(field.value, field.line, "an MTU in bytes", _MAX_MTU_BYTES)
    if mtu_bytes < _MIN_MTU_BYTES:
        raise unparsed(field.line, f"expected an MTU of at least {_MIN_MTU_BYTES} bytes")
    return MtuFacts(mtu_bytes)


def read_fec(asked: Asked, output: Output) -> FecFacts:
    """``fec mode: rs FEC mode``; the modes are ``auto``, ``rs`` and ``no``."""
    field = read_fields(output.stdout, required=["fec mode"])["fec mode"]
    match = _FEC.fullmatch(field.value)
    if match is None:
        raise unparsed(field.line, "expected auto, rs or no, and 'FEC mode'")
    return FecFacts(match[1])


READERS: Mapping[str, Reader] = {
    "-speed": Reader(read_speed),
    "-duplex": Reader(read_duplex),
    "-mtu": Reader(read_mtu),
    "-fec": Reader(read_fec),
}


# No Ethernet standard goes beyond it.
_MAX_SPEED_MBPS = 1_600_000
_DUPLEX = {"Full": Duplex.FULL, "Half": Duplex.HALF, "Unknown!": Duplex.UNKNOWN}
# IPv4's least (RFC 791), and what its length field can say.
_MIN_MTU_BYTES = 68
_MAX_MTU_BYTES = 65535
_FEC = re.compile(r"(auto|rs|no) FEC mode")
