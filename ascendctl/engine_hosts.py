"""Hosts that engines are to be started on: their environment and address, and whether they are fit for it.

The facts are those of `verify`; of its checks only the ones that decide whether an engine starts and its
weights can come over the accelerators' network.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ascendctl.facts import Accelerator, HostFacts
from ascendctl.hccl.environment import Environment, Role, environments
from ascendctl.inventory import Host, Waiver
from ascendctl.results import Result
from ascendctl.transport.contract import Listener, Transport
from ascendctl.verify import Settings, gather, judge

# Of these an engine's start and the way of its weights depend; what is not among them can wait.
GATE_CHECKS = frozenset(
    {
        "reachable",
        "tools",
        "npu-count",
        "npu-mapping",
        "npu-health",
        "npu-processes",
        "hccn-conf",
        "versions",
        "versions-equal",
        "link",
        "address",
        "tls",
        "tls-switch",
        "hccs-links",
    }
)
_ADDRESS_VARIABLE = "HCCL_IF_IP"


@dataclass(frozen=True)
class Survey:
    """By host name: ``addresses`` that peers reach it by ("" = not known), ``environments`` in order.
    ``cells``: the gate's; ``warnings``: a sentence each."""

    addresses: Mapping[str, str]
    environments: Mapping[str, tuple[tuple[str, str], ...]]
    cells: tuple[Result, ...] = ()
    warnings: tuple[str, ...] = ()
    interrupted: bool = False


def survey(
    hosts: Sequence[Host],
    transport: Transport,
    *,
    settings: Settings,
    waivers: Sequence[Waiver],
    listener: Listener,
    on_answer: Callable[[str, str], None],
) -> Survey:
    """Ask every host what it is. Never raises for a host's sake.

    A host without NPUs has no variables of HCCL, and its address is the one that it is logged into by.
    """
    started_at = dt.datetime.now(dt.timezone.utc)
    gathered = gather(hosts, transport, settings=settings, listener=listener, on_answer=on_answer)
    run = judge(gathered, waivers, started_at=started_at, duration_s=0.0)
    cells = tuple(cell for cell in run.results if cell.check in GATE_CHECKS)
    ascend = [host for host in gathered.facts.hosts if _has_npus(host)]
    ssh = {host.name: host.endpoint.address for host in hosts}
    derived = {one.host: one for one in environments(gathered.facts, Role.NETLOADER, ssh_addresses=ssh)}
    wanted = {host.host: derived[host.host] for host in ascend}
    addresses = {host.name: _address(host, wanted.get(host.name)) for host in hosts}
    said = [f"{name}: {text}" for name, one in wanted.items() for text in (*one.warnings, *one.refusals)]
    variables = {
        name: tuple((setting.name, setting.value) for setting in one.settings) for name, one in wanted.items()
    }
    return Survey(addresses, variables, cells, tuple(said), gathered.interrupted)


def _has_npus(host: HostFacts) -> bool:
    return bool(host.devices) or host.accelerator is Accelerator.ASCEND


def _address(host: Host, environment: Environment | None) -> str:
    """HCCL's, else the one that ssh goes to: an address as it stands, a name by this machine's resolver."""
    found = environment.values.get(_ADDRESS_VARIABLE, "") if environment else ""
    text = found or host.endpoint.address
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return str(socket.getaddrinfo(text, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return ""
