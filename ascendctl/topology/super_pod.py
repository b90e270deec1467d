"""Whether a host is in a super pod, from its dies' own words."""

from __future__ import annotations

from ascendctl.facts import HostFacts
from ascendctl.topology import sdid


def in_super_pod(host: HostFacts) -> bool | None:
    """True if any die has an SDID, False if those that answered have none, None if none answered.

    Where spod-info is silent the vNIC tells: ``192.168.x.x`` is the address outside a super pod.
    """
    spods = [device.spod.value for device in host.devices if device.spod.value is not None]
    if spods:
        return any(spod.sdid != sdid.INVALID for spod in spods)
    octets = [device.vnic.value.address.split(".") for device in host.devices if device.vnic.value]
    second = {parts[1] for parts in octets if len(parts) == 4 and parts[0] == "192"}
    if not second:
        return None
    return second != {"168"}
