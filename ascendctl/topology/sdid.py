"""SDID and vNIC address: one identity of a die in a super pod, computed by the driver.

SDID (32 bits) = server index (31..22) | chip (21..18) | die (17..16) | device (15..0), with
device = chip * 2 + die; 4294967295 = not in a super pod. The vNIC address is
``192.<server index>.<2 + die>.<199 - device>``, with 168 in place of the server index outside a super
pod. Source: the vendor's DCMI documentation and the published driver (spod_info, vnic_info).
"""

from __future__ import annotations

from dataclasses import dataclass

INVALID = 0xFFFFFFFF
SERVERS_PER_SUPER_POD = 48
CHIPS_PER_SERVER = 8
DIES_PER_CHIP = 2

_NO_SUPER_POD_OCTET = 168


@dataclass(frozen=True)
class Sdid:
    """The four parts of an SDID, as they stand in its bits: not necessarily a valid combination."""

    server_index: int
    chip: int
    die: int
    device: int

    @property
    def valid(self) -> bool:
        """Whether every part is in its range and the device is the one of this chip and die."""
        return (
            0 <= self.server_index < SERVERS_PER_SUPER_POD
            and 0 <= self.chip < CHIPS_PER_SERVER
            and 0 <= self.die < DIES_PER_CHIP
            and self.device == self.chip * DIES_PER_CHIP + self.die
        )


def decode(sdid: int) -> Sdid:
    """Take an SDID apart. ValueError outside 32 bits."""
    if not 0 <= sdid <= INVALID:
        raise ValueError(f"an SDID has 32 bits, {sdid} does not fit")
    return Sdid(sdid >> 22, (sdid >> 18) & 0xF, (sdid >> 16) & 0x3, sdid & 0xFFFF)


def encode(server_index: int, device: int) -> int:
    """The SDID of a device (0..15) of a server (0..47). ValueError outside these ranges."""
    chip, die = divmod(device, DIES_PER_CHIP)
    parts = Sdid(server_index, chip, die, device)
    if not parts.valid:
        raise ValueError(f"no SDID for server index {server_index}, device {device}")
    return server_index << 22 | chip << 18 | die << 16 | device


def vnic_address(server_index: int | None, device: int) -> str:
    """The vNIC address of an A3 die; ``server_index`` None = the host is in no super pod."""
    second = _NO_SUPER_POD_OCTET if server_index is None else server_index
    return f"192.{second}.{2 + device % DIES_PER_CHIP}.{199 - device}"


def vnic_address_a2(device: int) -> str:
    """The vNIC address of an A2 device: one die per NPU, no super pod."""
    return f"192.{_NO_SUPER_POD_OCTET}.2.{199 - device}"
