"""The ways of pings through a cluster: who gets a packet, what share comes back, and which ones do.

Imports next to nothing, on purpose: the stand-in of hccn_tool starts an interpreter for every ping that
may lose something, which reads a table of one line per device (`End.line`).
"""

from __future__ import annotations

import struct

try:
    from _blake2 import blake2b  # hashlib takes longer to import than all else here together
except ImportError:  # another interpreter than CPython
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_KEY = struct.Struct("<QBIIII")
_DRAWS_PER_BLOCK = 16
_DRAWS = struct.Struct("<16I")  # one digest of 64 bytes
_DRAWN = 1 << 32

# How long a packet takes by its number and by who sends it to whom: small numbers that a shell can reckon.
ROCE_US = (45, 95)  # the shortest, and of how many different times
HCCS_NS = (6500, 3000)


class End:
    """A device as pings meet it: where it is attached, and what share of the round trips it lets pass.

    Addresses, netmasks and segments are numbers, None where not set; ``host`` counts the hosts from 0;
    equal ``leaf`` is the same leaf switch; ``wire`` is the segment that the port's cable leads to. Shares
    are 0 to 1: of the NPU on either plane, of the RoCE port (0 with its link down), of the leaf switch and
    of its way to other ones, and of the way to the HCCS switches that join the hosts of a super pod.
    """

    __slots__ = (
        "address",
        "device",
        "gateway",
        "hccs_passing",
        "host",
        "leaf",
        "leaf_passing",
        "mask",
        "npu_passing",
        "number",
        "pod",
        "port_passing",
        "side",
        "uplink_passing",
        "vnic",
        "vnic_up",
        "wire",
        "wire_mask",
    )

    def __init__(
        self,
        host: int,
        device: int,
        address: int | None,
        vnic: int | None,
        mask: int,
        gateway: int | None,
        wire: int | None,
        wire_mask: int,
        leaf: int | None,
        pod: int | None,
        side: int,
        vnic_up: int,
        npu_passing: float,
        port_passing: float,
        leaf_passing: float,
        uplink_passing: float,
        hccs_passing: float,
    ) -> None:
        self.number = host << 8 | device
        self.host, self.device, self.address, self.vnic = host, device, address, vnic
        self.mask, self.gateway, self.wire, self.wire_mask = mask, gateway, wire, wire_mask
        self.leaf, self.pod, self.side, self.vnic_up = leaf, pod, side, vnic_up
        self.npu_passing, self.port_passing = npu_passing, port_passing
        self.leaf_passing, self.uplink_passing = leaf_passing, uplink_passing
        self.hccs_passing = hccs_passing

    def line(self) -> str:
        """The device as numbers between blanks, in the order of ``__init__``; ``-`` for None."""
        values = [getattr(self, name) for name in _FIELDS]
        return " ".join("-" if value is None else f"{value!r}" for value in values)

    @classmethod
    def read(cls, line: str) -> End:
        """The device of a `line`."""
        numbers = [
            None if word == "-" else float(word) if "." in word or "e" in word else int(word)
            for word in line.split()
        ]
        return cls(*numbers)  # type: ignore[arg-type]

    def finds(self, other: End) -> bool:
        """Whether a packet from here to the other's address comes to the other.

        On link it is asked for by ARP on the own wire, so a netmask that is too wide makes a far port look
        near, in vain. Elsewhere the own gateway must be on the wire, and the other where its address belongs.
        """
        if self.address is None or other.address is None or self.wire is None:
            return False
        if (other.address ^ self.address) & self.mask == 0:
            return other.wire == self.wire
        if self.gateway is None or (self.gateway ^ self.address) & self.mask:
            return False
        return self.gateway & self.wire_mask == self.wire and other.address & other.wire_mask == other.wire

    @property
    def loses_no_roce(self) -> bool:
        """Whether nothing is lost between this device and another of which this is said."""
        if self.address is None or self.wire is None or self.gateway is None or self.mask != self.wire_mask:
            return False
        at_home = self.address & self.mask == self.wire == self.gateway & self.mask
        return at_home and self.npu_passing * self.port_passing * self.leaf_passing * self.uplink_passing == 1

    @property
    def loses_no_hccs(self) -> bool:
        """The same for HCCS, of devices of one super pod and side."""
        return bool(self.vnic_up) and self.npu_passing * self.hccs_passing == 1


_FIELDS = End.__init__.__code__.co_varnames[1 : End.__init__.__code__.co_argcount]


class Ways:
    """The ways between devices. ``background_loss``: what is lost anywhere, 0 to 1.

    Not every device of the cluster is needed: only the one that pings and all that hold its address or
    the one that it pings.
    """

    def __init__(self, ends: Iterable[End], seed: int, background_loss: float) -> None:
        self._seed = seed & 0xFFFF_FFFF_FFFF_FFFF
        self._background = 1 - background_loss
        self._by_address: dict[int, list[End]] = {}
        self._by_vnic: dict[tuple[int | None, int], list[End]] = {}
        for end in ends:
            if end.address is not None:
                self._by_address.setdefault(end.address, []).append(end)
            if end.vnic is not None:
                self._by_vnic.setdefault((end.pod, end.vnic), []).append(end)

    def holders(self, end: End) -> tuple[int, int]:
        """How many hold the device's RoCE address, and how many in its super pod its vNIC address."""
        roce = 0 if end.address is None else len(self._by_address[end.address])
        return roce, 0 if end.vnic is None else len(self._by_vnic[end.pod, end.vnic])

    def roce(self, start: End, address: int) -> tuple[End, float] | None:
        """Whom a packet reaches and the share that comes back; None where no way leads there and back."""
        target = self._delivered(start, address)
        if target is None or start.address is None or self._delivered(target, start.address) is not start:
            return None
        passing = start.npu_passing * start.port_passing * target.npu_passing * target.port_passing
        passing *= self._background * start.leaf_passing
        if start.leaf != target.leaf:
            passing *= target.leaf_passing * start.uplink_passing * target.uplink_passing
        return target, passing

    def hccs(self, start: End, address: int) -> tuple[End, float] | None:
        """The same for a vNIC address, inside the super pod."""
        target = self._on_hccs(start, address)
        if target is None or start.vnic is None or self._on_hccs(target, start.vnic) is not start:
            return None
        if not (start.vnic_up and target.vnic_up):
            return None
        passing = start.npu_passing * target.npu_passing * self._background
        if start.host != target.host:  # inside a host HCCS stays below the switches that join hosts
            passing *= start.hccs_passing * target.hccs_passing * (start.side == target.side)
        return target, passing

    def roce_times_us(self, start: End, address: int, count: int, attempt: int) -> Sequence[int | None]:
        """Round trip of every packet, None where it was lost. ``attempt``: how often this was made before."""
        met = self.roce(start, address)
        if met is None or not met[1]:
            return (None,) * count
        return self._times(0, start, *met, attempt, count, *ROCE_US)

    def hccs_times_ns(
        self, start: End, address: int, count: int, attempt: int
    ) -> Sequence[int | None] | None:
        """Round trip of every packet, None where it was lost; None as a whole where none could be sent."""
        met = self.hccs(start, address)
        return None if met is None else self._times(1, start, *met, attempt, count, *HCCS_NS)

    def _times(
        self,
        plane: int,
        start: End,
        target: End,
        passing: float,
        attempt: int,
        count: int,
        shortest: int,
        different: int,
    ) -> Sequence[int | None]:
        limit = int(passing * _DRAWN)
        place = (target.vnic if plane else target.address) or 0
        offset = start.device * 37 + (place & 255) * 11 + (place >> 8 & 255) * 7
        if passing == 1:
            return [shortest + (offset + 29 * packet) % different for packet in range(count)]
        draws = self._draws(plane, start, target, attempt, count)
        return [
            shortest + (offset + 29 * packet) % different if draw < limit else None
            for packet, draw in enumerate(draws)
        ]

    def _draws(self, plane: int, start: End, target: End, attempt: int, count: int) -> Sequence[int]:
        """One number below 2**32 per packet, always the same."""
        draws: tuple[int, ...] = ()
        for block in range(0, count, _DRAWS_PER_BLOCK):
            key = _KEY.pack(self._seed, plane, start.number, target.number, attempt, block)
            draws += _DRAWS.unpack(blake2b(key).digest())
        return draws[:count]

    def _delivered(self, start: End, address: int) -> End | None:
        """Who gets a packet to this address. Of several that hold it, each sender always meets the same."""
        holders = self._by_address.get(address, ())
        if len(holders) == 1:
            return holders[0] if start.finds(holders[0]) else None
        found = [end for end in holders if start.finds(end)]
        return found[_choice(start, len(found))] if found else None

    def _on_hccs(self, start: End, address: int) -> End | None:
        holders = self._by_vnic.get((start.pod, address), ())
        return holders[_choice(start, len(holders))] if holders else None


def _choice(start: End, among: int) -> int:
    """Which of several an address leads to from here: an even spread, and always the same."""
    return (start.number * 2_654_435_761 >> 16) % among if among > 1 else 0


def number(address: str) -> int:
    """An IPv4 address as a number. Raises ValueError where it is none."""
    parts = [int(part) for part in address.split(".")]
    if len(parts) != 4 or not all(0 <= part <= 255 for part in parts):
        raise ValueError(f"'{address}' is no IPv4 address")
    return parts[0] << 24 | parts[1] << 16 | parts[2] << 8 | parts[3]
