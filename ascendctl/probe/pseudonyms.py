"""Stable pseudonyms: the same original always gets the same one, and different originals different ones.

Addresses keep their structure: two that share their first k bits share exactly k afterwards (as in
Crypto-PAn, with a keyed hash per prefix), so segments, gateways inside them and duplicates stay. Ranges
that mean something by themselves map into themselves, and the first and the last address of a segment
stay the first and the last of its image.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network


class Kind(str, Enum):
    """What a pseudonym stands for."""

    HOST = "host"
    DOMAIN = "domain"
    SWITCH = "switch"
    GROUP = "group"
    TAG = "tag"
    USER = "user"
    PROCESS = "process"
    PATH = "path"
    SERIAL = "serial"
    INTERFACE = "interface"
    PORT = "port"
    MAC = "mac"
    IPV4 = "ipv4"
    IPV6 = "ipv6"
    TEXT = "text"


# Addresses that the driver gives to virtual NICs (192.<server index or 168>.<2 + die>.<199 - device>,
# at most 16 devices): they tell the server index only, and SDIDs are compared with them.
_VNICS = tuple(
    IPv4Network(f"192.{second}.{third}.{fourth}/29")
    for second in (*range(48), 168)
    for third in (2, 3)
    for fourth in (184, 192)
)
KEPT_IPV4: tuple[IPv4Network, ...] = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("127.0.0.0/8"),
    IPv4Network("169.254.0.0/16"),
    IPv4Network("224.0.0.0/3"),  # multicast, what is reserved above it, and netmasks
    IPv4Network("128.0.0.0/32"),  # a netmask
    IPv4Network("192.0.0.0/32"),  # a netmask
    *_VNICS,
)
_INTO_THEMSELVES_IPV4 = tuple(
    IPv4Network(text)
    for text in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "172.16.0.0/12",
        "192.0.0.0/8",
        "192.168.0.0/16",
        "192.168.0.0/21",
        "192.168.1.0/24",
        "192.168.2.0/24",
    )
)
KEPT_IPV6: tuple[IPv6Network, ...] = (IPv6Network("::/127"), IPv6Network("ff00::/8"))
_INTO_THEMSELVES_IPV6 = tuple(IPv6Network(text) for text in ("::/8", "fe80::/64", "fc00::/7", "2000::/3"))


class AddressMap:
    """A keyed one-to-one map of the addresses of one family.

    ``segments``: networks whose own first and last address keep being that; only their host bits are
    held for it.
    """

    def __init__(
        self,
        key: bytes,
        *,
        bits: int,
        kept: Iterable[IPv4Network | IPv6Network],
        into_themselves: Iterable[IPv4Network | IPv6Network],
        segments: Iterable[IPv4Network | IPv6Network] = (),
    ) -> None:
        self._key, self._bits = key, bits
        kept = tuple(kept)
        self._kept = {(net.prefixlen, int(net.network_address) >> (bits - net.prefixlen)) for net in kept}
        self._kept_lengths = sorted({net.prefixlen for net in kept})
        self._straight: set[tuple[int, int]] = set()
        for net in (*kept, *into_themselves):
            self._hold(int(net.network_address), range(net.prefixlen))
        for net in segments:
            for end in (net.network_address, net.broadcast_address):
                self._hold(int(end), range(net.prefixlen, bits))
        self._flips: dict[tuple[int, int], int] = {}

    def keeps(self, address: int) -> bool:
        """Whether the address stays what it is."""
        return any((length, address >> (self._bits - length)) in self._kept for length in self._kept_lengths)

    def __call__(self, address: int) -> int:
        if self.keeps(address):
            return address
        image = address
        for depth in range(self._bits):
            node = (depth, address >> (self._bits - depth))
            image ^= self._flip(node) << (self._bits - 1 - depth)
        return image

    def _hold(self, address: int, depths: range) -> None:
        self._straight.update((depth, address >> (self._bits - depth)) for depth in depths)

    def _flip(self, node: tuple[int, int]) -> int:
        """Whether the bit that follows this prefix is turned."""
        if node in self._straight:
            return 0
        flip = self._flips.get(node)
        if flip is None:
            depth, prefix = node
            text = f"{self._bits} {depth} {prefix}".encode()
            flip = self._flips[node] = hashlib.blake2b(text, key=self._key, digest_size=1).digest()[0] & 1
        return flip


class Pseudonyms:
    """Every pseudonym of one bundle. ``key``: 16 to 64 random bytes, new for each bundle.

    ``avoid``: texts of the recording, in lower case, that no numbered pseudonym may look like.
    """

    def __init__(
        self, key: bytes, *, segments: Iterable[IPv4Network] = (), avoid: Iterable[str] = ()
    ) -> None:
        self._key = key
        self._avoid = frozenset(avoid)
        self._ipv4 = AddressMap(
            key, bits=32, kept=KEPT_IPV4, into_themselves=_INTO_THEMSELVES_IPV4, segments=segments
        )
        self._ipv6 = AddressMap(key, bits=128, kept=KEPT_IPV6, into_themselves=_INTO_THEMSELVES_IPV6)
        self._given: dict[Kind, dict[str, str]] = {kind: {} for kind in Kind}
        self._images: set[str] = set()
        self._stems: dict[Kind, str] = {}

    def ipv4_image(self, text: str) -> str | None:
        """What `ipv4` would give, without counting it as given; None for an address that is kept."""
        number = _ipv4_number(text)
        return None if self._ipv4.keeps(number) else str(IPv4Address(self._ipv4(number)))

    @property
    def images(self) -> AbstractSet[str]:
        """Every pseudonym of an address that was given."""
        return self._images

    @property
    def given(self) -> Mapping[Kind, Mapping[str, str]]:
        """Original → pseudonym, per kind, in the order they were given."""
        return self._given

    def numbered(self, kind: Kind, original: str, digits: int = 1) -> str:
        """``host-0001``, ``path-7``: numbers in the order of asking; the number alone tells nothing."""
        given = self._given[kind]
        if original not in given:
            given[original] = f"{self._stem(kind)}-{len(given) + 1:0{digits}d}"
        return given[original]

    def ipv4(self, text: str) -> str:
        """The image of an IPv4 address; one written with leading zeros stays so."""
        image = self.ipv4_image(text)
        if image is None:
            return text
        if any(len(octet) > 1 and octet[0] == "0" for octet in text.split(".")):
            image = ".".join(f"{int(octet):03d}" for octet in image.split("."))
        return self._address(Kind.IPV4, text, image)

    def ipv6(self, text: str) -> str:
        number = int(IPv6Address(text))
        if self._ipv6.keeps(number):
            return text
        return self._address(Kind.IPV6, text, str(IPv6Address(self._ipv6(number))))

    def mac(self, text: str) -> str:
        """A locally administered address in the same notation; none and broadcast stay."""
        digits = re.sub(r"[^0-9a-f]", "", text.lower())
        if set(digits) <= {"0"} or set(digits) <= {"f"}:
            return text
        hidden = hashlib.blake2b(b"mac " + digits.encode(), key=self._key, digest_size=5).hexdigest()
        image = iter("02" + hidden)
        written = "".join(next(image) if char.isalnum() else char for char in text)
        written = written.upper() if text != text.lower() else written
        return self._address(Kind.MAC, text, written)

    def _address(self, kind: Kind, original: str, image: str) -> str:
        self._images.add(image)
        return self._given[kind].setdefault(original, image)

    def _stem(self, kind: Kind) -> str:
        if kind not in self._stems:
            stem = kind.value
            while any(word == stem or word.startswith(f"{stem}-") for word in self._avoid):
                stem = f"x{stem}"
            self._stems[kind] = stem
        return self._stems[kind]


def _ipv4_number(text: str) -> int:
    return int.from_bytes(bytes(int(octet) for octet in text.split(".")), "big")


def is_ipv4(text: str) -> bool:
    octets = text.split(".")
    return len(octets) == 4 and all(octet.isdecimal() and int(octet) <= 255 for octet in octets)


def is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
