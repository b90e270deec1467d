"""The host around the NPUs: names, clock, addresses, and versions from the files that state them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import NamedTuple

from ascendctl.facts import HostAddress, MemoryFacts, TimeServiceFacts
from ascendctl.parsers import hccn_conf
from ascendctl.parsers.command import Asked
from ascendctl.parsers.errors import is_missing_file
from ascendctl.parsers.grammar import MAX_UINT64, unsigned
from ascendctl.parsers.reader import Reader
from ascendctl.parsers.text import Field, Line, Output, ends_early, nonblank, require_line_end, unparsed


class Kernel(NamedTuple):
    """``uname -srm``: kernel release and machine."""

    release: str
    architecture: str


def read_hostname(asked: Asked, output: Output) -> str:
    """``hostname``."""
    return _only_line(output, _HOSTNAME, "a host name")[0]


def read_hostname_addresses(asked: Asked, output: Output) -> tuple[str, ...]:
    """``hostname -i``: the addresses that the host's own name leads to, on one line.

    Link-local IPv6 addresses have their interface behind them (``%eth0``), which is left out.
    """
    line = nonblank(output.stdout)[0]
    found = _only_line(output, _ADDRESS_WORDS, "addresses")[0].split()
    addresses = tuple(word.partition("%")[0] for word in found)
    try:
        for address in addresses:
            ipaddress.ip_address(address)
    except ValueError:
        raise unparsed(line, "expected addresses") from None
    return addresses


def read_kernel(asked: Asked, output: Output) -> Kernel:
    """``uname -srm``: ``Linux RELEASE MACHINE``."""
    match = _only_line(output, _KERNEL, "'Linux RELEASE MACHINE'")
    return Kernel(match[1], match[2])


def read_clock(asked: Asked, output: Output) -> float:
    """``date +%s.%N``: seconds since 1970, UTC."""
    return float(_only_line(output, _EPOCH, "seconds and nanoseconds since 1970")[0])


def read_addresses(asked: Asked, output: Output) -> tuple[HostAddress, ...]:
    """``ip -o addr show``: one address per line, IPv4 and IPv6; link lines of older ``ip`` are skipped."""
    addresses = []
    lines = nonblank(output.stdout)
    require_line_end(lines[-1])
    for line in lines:
        if _LINK_LINE.fullmatch(line.stripped):
            continue
        match = _ADDRESS_LINE.fullmatch(line.stripped)
        if match is None:
            raise unparsed(line, "expected 'N: NAME inet ADDRESS/PREFIX …'")
        addresses.append(_host_address(match, line))
    return tuple(addresses)


def read_os_release(asked: Asked, output: Output) -> str:
    """``/etc/os-release``: the value of ``PRETTY_NAME``, else of ``NAME`` and ``VERSION``."""
    values: dict[str, str] = {}
    for line in nonblank(output.stdout):
        if line.stripped.startswith("#"):
            continue
        match = _ASSIGNMENT.fullmatch(line.stripped)
        if match is None:
            raise unparsed(line, "expected 'KEY=value'")
        key, quoted, bare = match["key"], match["double"] or match["single"], match["bare"]
        values[key] = re.sub(r"\\(.)", r"\1", quoted) if quoted else bare or ""
    if values.get("PRETTY_NAME"):
        return values["PRETTY_NAME"]
    if values.get("NAME") and values.get("VERSION"):
        return f"{values['NAME']} {values['VERSION']}"
    raise ends_early(output.stdout, "PRETTY_NAME, or NAME and VERSION")


def read_version_file(asked: Asked, output: Output) -> str:
    """``Version=`` of the driver's and the firmware's version.info, ``version=`` of the toolkit's file.

    Where several files were read, those that exist must agree.
    """
    versions: dict[str, Line] = {}
    for line in nonblank(output.stdout):
        match = _VERSION_LINE.fullmatch(line.stripped)
        if match is None:
            raise unparsed(line, "expected 'key=value'")
        if match["key"].lower() != "version":
            continue
        require_line_end(line)
        if not _VERSION.fullmatch(match["value"]):
            raise unparsed(line, "expected a version")
        versions[match["value"]] = line
    if not versions:
        raise ends_early(output.stdout, "'version='")
    if len(versions) > 1:
        raise unparsed(list(versions.values())[-1], f"two different versions: {', '.join(versions)}")
    return next(iter(versions))


def read_meminfo(asked: Asked, output: Output) -> MemoryFacts:
    """``/proc/meminfo``: ``Label:   N kB``, and counts of pages without a unit (proc(5))."""
    lines = nonblank(output.stdout)
    require_line_end(lines[-1])
    fields: dict[str, Field] = {}
    for line in lines:
        match = _MEMINFO_LINE.fullmatch(line.stripped)
        if match is None or match["label"] in fields:
            raise unparsed(line, "expected 'Label: N kB' or 'Label: N', each label once")
        unit = match["unit"] or ""
        if match["label"] in _MEMINFO_UNITS and unit != _MEMINFO_UNITS[match["label"]]:
            raise unparsed(line, f"expected {match['label']} in {_MEMINFO_UNITS[match['label']] or 'pages'}")
        fields[match["label"]] = Field(match["value"], line)
    for label in _MEMINFO_UNITS:
        if label not in fields:
            raise ends_early(lines, f"{label!r}")
    total, available, pages, free_pages, size = (
        unsigned(fields[label].value, fields[label].line, "a number", MAX_UINT64) for label in _MEMINFO_UNITS
    )
    for what, part, whole in (("MemAvailable", available, total), ("HugePages_Free", free_pages, pages)):
        if part > whole:
            raise unparsed(fields[what].line, "expected no more of it than there is in total")
    return MemoryFacts(total, available, pages, free_pages, size)


def read_timedatectl(asked: Asked, output: Output) -> TimeServiceFacts:
    """``timedatectl show`` (systemd 239 or newer): ``NTP=yes`` and ``NTPSynchronized=yes`` among others."""
    values: dict[str, bool] = {}
    for line in nonblank(output.stdout):
        key, equals, value = line.stripped.partition("=")
        if not equals or not _PROPERTY.fullmatch(key):
            raise unparsed(line, "expected 'Key=value'")
        if key not in ("NTP", "NTPSynchronized"):
            continue
        if value not in ("yes", "no") or key in values:
            raise unparsed(line, f"expected {key}=yes or {key}=no, once")
        values[key] = value == "yes"
    for key in ("NTP", "NTPSynchronized"):
        if key not in values:
            raise ends_early(output.stdout, f"'{key}='")
    return TimeServiceFacts(enabled=values["NTP"], synchronized=values["NTPSynchronized"])


def _some_files_exist(output: Output) -> bool:
    """``cat`` of several candidates exits 1 when one is missing; what it printed is whole."""
    complaints = nonblank(output.stderr)
    return (
        output.exit_code == 1
        and bool(nonblank(output.stdout))
        and bool(complaints)
        and all(map(is_missing_file, complaints))
    )


HOST_READERS: Mapping[str, Reader] = {
    "hostname": Reader(read_hostname),
    "hostname -i": Reader(read_hostname_addresses),
    "uname -srm": Reader(read_kernel),
    "date +%s.%N": Reader(read_clock),
    "ip -o addr show": Reader(read_addresses, foreign_text=True),
    "timedatectl show": Reader(read_timedatectl),
}

FILE_READERS: Mapping[str, Reader] = {
    "hccn.conf": hccn_conf.READER,
    "os-release": Reader(read_os_release, foreign_text=True),
    "version.info": Reader(read_version_file, _some_files_exist, foreign_text=True),
    "meminfo": Reader(read_meminfo),
    "ascend_toolkit_install.info": Reader(read_version_file, _some_files_exist, foreign_text=True),
}


_HOSTNAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})")
_ADDRESS_WORDS = re.compile(r"[0-9A-Fa-f.:]+(?:%[^\s%]{1,15})?(?:[ \t]+[0-9A-Fa-f.:]+(?:%[^\s%]{1,15})?)*")
_KERNEL = re.compile(r"Linux ([A-Za-z0-9][A-Za-z0-9._+~-]*) ([A-Za-z0-9_]+)")
_EPOCH = re.compile(r"[0-9]{1,12}\.[0-9]{9}")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._+-]{0,63}")
_VERSION_LINE = re.compile(r"(?P<key>[A-Za-z][A-Za-z0-9_.-]*)[ \t]*=[ \t]*(?P<value>.*)")
_ASSIGNMENT = re.compile(
    r"(?P<key>[A-Za-z_][A-Za-z0-9_]*)="
    r"""(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"']*))"""
)
# The values of MemoryFacts, in its order, and their units.
_MEMINFO_UNITS = {
    "MemTotal": "kB",
    "MemAvailable": "kB",
    "HugePages_Total": "",
    "HugePages_Free": "",
    "Hugepagesize": "kB",
}
_MEMINFO_LINE = re.compile(
    r"(?P<label>[A-Za-z][A-Za-z0-9_]*(?:\([a-z_]+\))?):[ \t]+(?P<value>[0-9]{1,20})(?: (?P<unit>kB))?"
)
_PROPERTY = re.compile(r"[A-Z][A-Za-z]*")
_LINK_LINE = re.compile(r"[0-9]{1,9}: \S+:? <[A-Z0-9_,-]*> .*")
_ADDRESS_LINE = re.compile(
    r"[0-9]{1,9}: (?P<interface>[^\s@:]+)(?:@\S+?)?:?\s+inet6? (?P<address>[0-9A-Fa-f.:]+)"
    r"(?: peer [0-9A-Fa-f.:]+)?(?:/(?P<prefix>[0-9]{1,3}))?(?: .*)?"
)


def _only_line(output: Output, form: re.Pattern[str], expected: str) -> re.Match[str]:
    first, *rest = nonblank(output.stdout)
    if rest:
        raise unparsed(rest[0], "expected one line")
    require_line_end(first)
    match = form.fullmatch(first.stripped)
    if match is None:
        raise unparsed(first, f"expected {expected}")
    return match


def _host_address(match: re.Match[str], line: Line) -> HostAddress:
    try:
        address = ipaddress.ip_address(match["address"])
        prefix_length = int(match["prefix"] or address.max_prefixlen)
        if prefix_length > address.max_prefixlen:
            raise ValueError
    except ValueError:
        raise unparsed(line, "expected an address with its prefix length") from None
    return HostAddress(match["interface"], match["address"], prefix_length)
