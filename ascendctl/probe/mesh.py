"""The second script of a host: pings from its devices to those of other hosts.

It is made once the first script's answers have told the addresses, and sent over a connection of its own:
between the two phases hosts wait for the slowest of them, and an idle connection is not kept for that.

Frame ids name the network and the address, the target is the sender's physical id, so that a recording
says by itself who was pinged. ``-ping`` sends `PACKETS_PER_PING` packets whatever is asked (hccn_tool's
source: its only options are address and size), so that more packets are more calls; these are numbered
from 2 in the id. ``-hccs_ping`` takes their number, and root alone may send it.

Formats and traps: hccn_tool's source for 910B and A3. One call of hccs_ping takes a second or more, as the
tool asks for its result once a second.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ascendctl.probe.catalogue import Command, Impact, Scope
from ascendctl.probe.frames import Target
from ascendctl.probe.script import build_follow_up
from ascendctl.topology.fabric import Plane
from ascendctl.topology.mesh import Ping

PACKETS_PER_PING = 3

# A tool that had to be killed is not called again on its host, so that a lost ping must not look like a tool
# that hangs: every packet may wait for its reply.
_PING_LIMIT_S = 30

_ID = re.compile(r"(?P<plane>roce|hccs)-ping:(?P<address>[0-9.]{7,15})(?::[0-9]{1,4})?")


@dataclass(frozen=True)
class PingId:
    """What the id of a ping's frame says: the network, and whom it was sent to."""

    plane: Plane
    address: str


def build_mesh_script(
    nonce: str,
    *,
    sudo: bool,
    pings: Iterable[Ping],
    packets: int,
    time_limit_s: int,
    also: Sequence[tuple[Command, Target]] = (),
) -> bytes:
    """The script's bytes: ``also`` first, then the pings of one host in their order, ``packets`` each.

    Pings that take several calls are sent in turns, so that when the time is up all have been measured
    alike. Two pings of one device to one address are one.
    """
    asked: dict[tuple[str, Target], Command] = {}
    wanted = tuple(pings)
    for turn in range(1, max(calls(plane, packets) for plane in Plane) + 1):
        for ping in wanted:
            if turn <= calls(ping.plane, packets):
                command = ping_command(ping.plane, ping.source.device, ping.address, packets, turn)
                asked.setdefault((command.id, Target(phy=ping.source.device)), command)
    pinged = [(command, target) for (_, target), command in asked.items()]
    return build_follow_up(nonce, sudo=sudo, asked=[*also, *pinged], time_limit_s=time_limit_s)


def calls(plane: Plane, packets: int) -> int:
    """How often the tool is called for a ping of so many packets."""
    return 1 if plane is Plane.HCCS else -(-packets // PACKETS_PER_PING)


def ping_command(plane: Plane, device: int, address: str, packets: int, turn: int = 1) -> Command:
    """One call of hccn_tool; ``turn`` tells calls of the same ping apart."""
    option = "-hccs_ping" if plane is Plane.HCCS else "-ping"
    argv = ("hccn_tool", "-i", str(device), option, "-g", "address", address)
    return Command(
        id=f"{plane.value}-ping:{address}" + (f":{turn}" if turn > 1 else ""),
        argv=(*argv, "cnt", str(packets)) if plane is Plane.HCCS else argv,
        scope=Scope.DEVICE,
        impact=Impact.LIGHT_TRAFFIC,
        needs_root=True,
        timeout_s=_PING_LIMIT_S + (packets if plane is Plane.HCCS else 0),
    )


def ping_id(command_id: str) -> PingId | None:
    """What a frame's id says; None for one that is no ping's."""
    match = _ID.fullmatch(command_id)
    return PingId(Plane(match["plane"]), match["address"]) if match else None
