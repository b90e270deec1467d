"""The host network's part of the second phase: facts → what to try, and captures → what was learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ascendctl.assembly import reading_of
from ascendctl.checks.ascend import without_npus
from ascendctl.facts import ClusterFacts, HostFacts, HostPathFacts, Reading
from ascendctl.hccl.nic import choose_nics
from ascendctl.probe.capture import HostCapture
from ascendctl.probe.frames import Target
from ascendctl.probe.host_net import (
    Question,
    command_id,
    command_line,
    host_net_id,
    is_sent,
    time_limit_s,
    tool_of,
    typed_port_command,
)
from ascendctl.topology.host_net import SSH_PORT, HostNetPlan, HostNic, plan_host_net


def plan_paths(
    cluster: ClusterFacts,
    *,
    ssh_addresses: Mapping[str, str] | None = None,
    ssh_ports: Mapping[str, int] | None = None,
    seed: int = 0,
) -> HostNetPlan:
    """Which host tries which, over the NICs that `ascendctl env` picks.

    ``ssh_addresses`` and ``ssh_ports``: by host name, as the inventory states them. Hosts in another subnet
    than most are tried, too: whether they are reached is what is asked. Hosts without Ascend NPUs, and those
    whose NIC is not known, are left out. The ports that the inventory states for a host's engine are tried
    beside HCCL's.
    """
    by_name = {host.host: host for host in cluster.hosts}
    choices = choose_nics(cluster, ssh_addresses, routed=True)
    plan = plan_host_net(
        [
            HostNic(
                choice.host,
                choice.interface,
                choice.address,
                _mtu_bytes(by_name[choice.host], choice.interface),
                (ssh_ports or {}).get(choice.host, SSH_PORT),
            )
            for choice in choices
            if choice.chosen and is_sent(choice.interface) and not without_npus(by_name[choice.host])
        ],
        seed=seed,
    )
    engine_ports = {name: host.expectation.engine_ports for name, host in by_name.items()}
    return HostNetPlan(
        tuple(
            replace(path, ports=tuple(dict.fromkeys((*path.ports, *engine_ports[path.target]))))
            for path in plan.paths
        )
    )


def host_paths(capture: HostCapture) -> tuple[HostPathFacts, ...]:
    """The ways that a host's answer tells of, in its order. Never raises for what a host sent."""
    told = (host_net_id(key[0]) for key in (*capture.answers, *capture.skips))
    addresses = dict.fromkeys(address for one in told if one for address in one[1:])
    return tuple(_path(capture, address) for address in addresses)


def _path(capture: HostCapture, address: str) -> HostPathFacts:
    def read(question: Question) -> Reading[Any]:
        return reading_of(
            capture,
            command_id(question, address),
            Target(),
            line=command_line(question, address),
            tool=tool_of(question),
            timeout_s=time_limit_s(question),
        )

    ping, ports = read(Question.PING), read(Question.PORTS)
    interface = ping.value.interface if ping.value else None
    return HostPathFacts(
        address,
        route=read(Question.ROUTE),
        ping=_over(ping, Question.PING, address, interface),
        whole=_over(read(Question.WHOLE), Question.WHOLE, address, interface),
        ports=replace(ports, command=typed_port_command(address)),
    )


def _over(reading: Reading[Any], question: Question, address: str, interface: str | None) -> Reading[Any]:
    """The reading with its command as it was sent, where the answer tells over which interface."""
    return replace(reading, command=command_line(question, address, interface)) if interface else reading


def _mtu_bytes(host: HostFacts, interface: str) -> int | None:
    links = host.system.links.value or ()
    return next((link.mtu_bytes for link in links if link.interface == interface), None)
