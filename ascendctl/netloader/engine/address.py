"""One place a peer listens at, as it is written: ``host:port``, IPv6 in brackets."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_WANTED = 'write "host:port", such as "10.0.0.1:19374" or "[fd00::1]:19374"'
# RFC 1123 names; underscores as well, since container platforms hand out such names.
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_LONGEST_NAME = 253
_HIGHEST_PORT = 65_535


@dataclass(frozen=True)
class Address:
    """A host (IPv4, IPv6 without brackets, or a name) and a port. ``str()`` gives back what `parse` takes."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises ValueError that says what was seen and what to write."""
        shown = repr(text if len(text) <= 80 else text[:77] + "...")
        if "://" in text:
            raise ValueError(f"saw {shown} with a scheme; {_WANTED}")
        host, colon, port_text = text.rpartition(":")
        if not colon or not host or host.endswith("]") != host.startswith("["):
            raise ValueError(f"saw {shown}; {_WANTED}")
        if not (port_text.isascii() and port_text.isdigit()) or not 1 <= int(port_text[:6]) <= _HIGHEST_PORT:
            raise ValueError(f"saw {shown}, whose port is no number from 1 to {_HIGHEST_PORT}; {_WANTED}")
        return cls(_host(host, shown), int(port_text))


def _host(text: str, shown: str) -> str:
    if text.startswith("["):
        host = _ip(text[1:-1])
        if host is None or host.version != 6:
            raise ValueError(f"saw {shown}, with no IPv6 address in the brackets; {_WANTED}")
    elif ":" in text:
        raise ValueError(f"saw {shown}; an IPv6 address needs brackets: {_WANTED}")
    else:
        host = _ip(text)
    if host is None:
        if not _is_name(text):
            raise ValueError(f"saw {shown}, whose host is neither an IP address nor a name; {_WANTED}")
        return text
    if host.is_unspecified or host.is_multicast:
        raise ValueError(f"saw {shown}; {host} is no address to connect to: write the source's own")
    return str(host)


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_name(text: str) -> bool:
    labels = text.removesuffix(".").split(".")
    # A last label of digits is a mistyped IPv4 address: no name ends so.
    return len(text) <= _LONGEST_NAME and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()
