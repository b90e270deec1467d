"""Whether a port is meant to carry RoCE: the inventory's word, else what its address or its plan says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ascendctl.facts import DeviceFacts, Generation, HostFacts, ReadingStatus, ScaleOut


class Wanted(str, Enum):
    YES = "yes"
    NO = "no"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class RoceUse:
    """Whether RoCE is expected on a port, and why."""

    wanted: Wanted
    reason: str


def roce_use(device: DeviceFacts, host: HostFacts) -> RoceUse:
    """What is expected of this port. A2 has no other network between hosts; A3 may use HCCS alone."""
    scale_out = host.expectation.scale_out
    if scale_out is ScaleOut.ROCE:
        return RoceUse(Wanted.YES, "the inventory says scale_out: roce")
    if scale_out is ScaleOut.NONE:
        return RoceUse(Wanted.NO, "the inventory says scale_out: none")
    if host.generation is Generation.A2:
        return RoceUse(Wanted.YES, "A2 servers reach each other over RoCE only")
    if device.ip.ok:
        return RoceUse(Wanted.YES, "the port has an address")
    if device.ip.status is ReadingStatus.NO_DATA and host.generation is Generation.A3:
        # A port that lost its address must not pass for one that never had any.
        if any(other.ip.ok for other in host.devices):
            return RoceUse(Wanted.YES, "other ports of this server have an address")
        return _by_plan(host)
    return RoceUse(Wanted.CANNOT_TELL, "whether the port has an address is not known")


def _by_plan(host: HostFacts) -> RoceUse:
    """What /etc/hccn.conf says of a host of which no port has an address: a server may have lost them all."""
    if host.hccn_conf.value is not None:
        kept = host.hccn_conf.value.devices
        planned = (kept.get(str(device.phy_id)) for device in host.devices)
        if any(entry is not None and entry.address for entry in planned):
            return RoceUse(Wanted.YES, "/etc/hccn.conf sets an address")
    elif host.hccn_conf.status is not ReadingStatus.NO_DATA:
        return RoceUse(Wanted.CANNOT_TELL, "whether /etc/hccn.conf sets an address is not known")
    return RoceUse(Wanted.NO, "no port of this server has a RoCE address, so HCCS is judged instead")
