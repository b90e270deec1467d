"""Which hosts try to reach which over the host network: a ring, and partners by chance.

Pure. HCCL's ranks meet over the host network before a device takes part (root-info); what does not come
through there ends in EI0015 after HCCL_CONNECT_TIMEOUT.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address

from ascendctl.hccl_ports import HCCL_HOST_PORTS

# Of those on which HCCL listens: the ends and the middle.
HCCL_PORTS = (HCCL_HOST_PORTS[0], HCCL_HOST_PORTS[15], HCCL_HOST_PORTS[-1])
SSH_PORT = 22
DEFAULT_PEERS = 3

# What the headers of IP and ICMP take of a packet, by IP version.
_HEADER_BYTES = {4: 20 + 8, 6: 40 + 8}


@dataclass(frozen=True)
class HostNic:
    """The NIC by which the peers reach a host. ``mtu_bytes`` None = not learned.

    ``ssh_port``: where its SSH server listens, to tell a filtered port from a host out of reach.
    """

    host: str
    interface: str
    address: str
    mtu_bytes: int | None = None
    ssh_port: int = SSH_PORT


@dataclass(frozen=True)
class HostPath:
    """One way to be tried: from ``source`` over its ``interface`` to ``address``, which ``target`` has.

    ``payload_bytes``: of a ping that fills the largest packet both ends send; None = that is not known.
    ``ports``: TCP ports to be tried there, the one of SSH among them.
    """

    source: str
    interface: str
    target: str
    address: str
    payload_bytes: int | None
    ports: tuple[int, ...]


@dataclass(frozen=True)
class HostNetPlan:
    paths: tuple[HostPath, ...]

    @cached_property
    def by_host(self) -> Mapping[str, tuple[HostPath, ...]]:
        """The ways each host tries, its neighbour in the ring first."""
        hosts: dict[str, list[HostPath]] = {}
        for path in self.paths:
            hosts.setdefault(path.source, []).append(path)
        return {host: tuple(paths) for host, paths in hosts.items()}


def plan_host_net(
    nics: Sequence[HostNic],
    *,
    peers: int = DEFAULT_PEERS,
    seed: int = 0,
    ports: Sequence[int] = HCCL_PORTS,
) -> HostNetPlan:
    """Every host tries ``peers`` others and is tried by as many, or by all where there are fewer.

    The first is the next host in the ring of ``nics``, the others lie at distances drawn by chance, so that
    the effort grows with the hosts. Equal NICs and seeds give equal plans. A host that has the address of
    its peer cannot be sent there, and is not.
    """
    count = len(nics)
    if count < 2:
        return HostNetPlan(())
    far = range(2, count)
    dice = random.Random(f"{seed} host-net")
    shifts = [1, *dice.sample(far, min(len(far), peers - 1))]
    return HostNetPlan(
        tuple(
            _path(nic, nics[(number + shift) % count], ports)
            for number, nic in enumerate(nics)
            for shift in shifts
            if nic.address != nics[(number + shift) % count].address
        )
    )


def _path(source: HostNic, target: HostNic, ports: Sequence[int]) -> HostPath:
    payload = None
    if source.mtu_bytes is not None and target.mtu_bytes is not None:
        header = _HEADER_BYTES[ip_address(target.address).version]
        payload = max(0, min(source.mtu_bytes, target.mtu_bytes) - header)
    wanted = tuple(dict.fromkeys([target.ssh_port, *ports]))
    return HostPath(source.host, source.interface, target.host, target.address, payload, wanted)
