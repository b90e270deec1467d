"""What a variable's value may look like: one class per form, each says what is wrong with a text.

Pure. ``problem`` gives "" where the text is good, else a clause that says what was seen and why not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol

# More digits than any limit has: an int() of thousands of digits is refused by Python itself.
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_MOST_PORT = 65535


class Form(Protocol):
    """The form of a value."""

    @property
    def expected(self) -> str:
        """What is expected, for a person."""

    def problem(self, text: str) -> str:
        """Why the text is not of this form; "" where it is."""


@dataclass(frozen=True)
class Whole:
    """A whole number in [low, high], a multiple of ``step``. ``high`` None = no upper limit."""

    low: int
    high: int | None = None
    unit: str = ""
    step: int = 1

    @property
    def expected(self) -> str:
        limits = f"from {self.low} to {self.high}" if self.high is not None else f"of {self.low} or more"
        unit = f" ({self.unit})" if self.unit else ""
        multiple = f", a multiple of {self.step}" if self.step > 1 else ""
        return f"a whole number {limits}{multiple}{unit}"

    def problem(self, text: str) -> str:
        if not _WHOLE.fullmatch(text):
            return "not a whole number"
        number = int(text)
        if number < self.low:
            return f"below {self.low}"
        if self.high is not None and number > self.high:
            return f"above {self.high}"
        return f"not a multiple of {self.step}" if number % self.step else ""


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]
    any_case: bool = False

    @property
    def expected(self) -> str:
        return f"{'one of ' if len(self.words) > 1 else ''}{', '.join(self.words)}"

    def problem(self, text: str) -> str:
        if text in self.words or (self.any_case and text.lower() in {word.lower() for word in self.words}):
            return ""
        return "none of these"


@dataclass(frozen=True)
class Text:
    """Any text that is not empty, of at most ``longest`` characters; ``what`` names it."""

    what: str = "a text"
    longest: int | None = None

    @property
    def expected(self) -> str:
        return f"{self.what} of at most {self.longest} characters" if self.longest else self.what

    def problem(self, text: str) -> str:
        if not text:
            return "empty"
        return f"{len(text)} characters" if self.longest and len(text) > self.longest else ""


@dataclass(frozen=True)
class Pattern:
    """A text that a regular expression describes wholly; ``what`` says it in words."""

    what: str
    expression: str

    @property
    def expected(self) -> str:
        return self.what

    def problem(self, text: str) -> str:
        return "" if re.fullmatch(self.expression, text) else "not of this form"


@dataclass(frozen=True)
class HostAddress:
    """One IPv4 or IPv6 address by which other hosts reach this one."""

    @property
    def expected(self) -> str:
        return "one IPv4 or IPv6 address of the host's NIC, the same network for every host"

    def problem(self, text: str) -> str:
        address = address_of(text)
        if address is None:
            return "not an address"
        if address.is_loopback:
            return "a loopback address, which no other host reaches"
        if address.is_unspecified or address.is_multicast:
            return "an address of no single host"
        return ""


def address_of(text: str) -> IPv4Address | IPv6Address | None:
    """The address, or None."""
    try:
        return ip_address(text)
    except ValueError:
        return None


@dataclass(frozen=True)
class HcclInterfaces:
    """HCCL_SOCKET_IFNAME: names by prefix; ``^`` excludes, ``=`` means exactly these; commas between."""

    @property
    def expected(self) -> str:
        return "=NIC (exactly this NIC), or prefixes: eth, eth0,eth1, ^docker, ^=eth0"

    def problem(self, text: str) -> str:
        names = text.removeprefix("^").removeprefix("=").split(",")
        for name in names:
            if wrong := _not_an_interface(name):
                return wrong
        return "" if text.startswith("^") else _cannot_carry(names)


@dataclass(frozen=True)
class Interfaces:
    """Names of NICs as gloo takes them (``several``: comma list) and tensorpipe (one): no ``=``, no ``^``."""

    several: bool = False

    @property
    def expected(self) -> str:
        return f"the NIC's bare name{', or several with commas' if self.several else ''}, without = or ^"

    def problem(self, text: str) -> str:
        if text.startswith(("=", "^")):
            return f"only HCCL_SOCKET_IFNAME knows {text[0]!r}; here it becomes part of the name"
        names = text.split(",")
        if len(names) > 1 and not self.several:
            return "several names, it takes one"
        for name in names:
            if wrong := _not_an_interface(name):
                return wrong
        return _cannot_carry(names)


_INTERFACE = re.compile(r"[^\s/,=^]{1,15}")


def _not_an_interface(name: str) -> str:
    if not name:
        return "an empty name"
    return "" if _INTERFACE.fullmatch(name) else f"{name!r} is no name of a NIC (at most 15 characters)"


def _cannot_carry(names: list[str]) -> str:
    for name in names:
        if name == "lo":
            return "the loopback, by which no other host is reached"
        if is_virtual(name):
            return f"{name} is a virtual NIC, by which no other host is reached"
    return ""


# Bridges and tunnels of containers, virtual machines and overlays; end<N>v0 leads from the host to its NPUs.
_VIRTUAL = re.compile(
    r"(?:docker|podman|cni-podman|nerdctl|lxcbr|lxdbr|virbr|vnet|veth|tap|tun|cni|flannel|cali|cilium_|lxc"
    r"|kube-|nodelocaldns|weave|tunl|dummy|ifb|sit|gre|ip6tnl|vxlan)\w*(?:[.-]\w+)*"
    r"|br-[0-9a-f]{12}|end\d+v\d+|endvnic"
)


def is_virtual(interface: str) -> bool:
    """Whether a NIC's name is one that containers, virtual machines or the NPU driver give to theirs."""
    return bool(_VIRTUAL.fullmatch(interface))


@dataclass(frozen=True)
class Ports:
    """Ports and ranges with commas (``60000-60031,60050``), or ``auto``."""

    @property
    def expected(self) -> str:
        return "ports or ranges from 1 to 65535 with commas, 61000-61050 for example, or auto"

    def problem(self, text: str) -> str:
        if text == "auto":
            return ""
        for part in text.split(","):
            match = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", part.strip())
            if not match:
                return f"{part!r} is neither a port nor a range"
            first, last = int(match[1]), int(match[2] or match[1])
            if not 1 <= first <= last <= _MOST_PORT:
                return f"{part!r} is no range of ports"
        return ""


@dataclass(frozen=True)
class Settings:
    """``key:value`` pairs with a separator between: every key known, every value of its form."""

    keys: tuple[tuple[str, Form], ...]
    separator: str = ","

    @property
    def expected(self) -> str:
        return f"KEY:VALUE with {self.separator!r} between; keys {', '.join(key for key, _ in self.keys)}"

    def problem(self, text: str) -> str:
        forms = dict(self.keys)
        for part in text.split(self.separator):
            key, colon, value = (piece.strip() for piece in part.partition(":"))
            if not colon:
                return f"{part!r} is no KEY:VALUE"
            if key not in forms:
                return f"{key!r} is none of its keys"
            if wrong := forms[key].problem(value):
                return f"{key} is {value!r}: {wrong}; expected {forms[key].expected}"
        return ""


def settings_of(text: str, separator: str = ",") -> dict[str, str]:
    """The pairs of a ``key:value`` list; what is no pair is left out."""
    pairs = (part.partition(":") for part in text.split(separator))
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


@dataclass(frozen=True)
class Fraction:
    """A number strictly between 0 and 1."""

    @property
    def expected(self) -> str:
        return "a number between 0 and 1, neither of them"

    def problem(self, text: str) -> str:
        return "" if re.fullmatch(r"0?\.[0-9]{1,12}", text) and float(text) > 0 else "not such a number"
