"""engine-exec, engine-ports, engine-proxy: the environment that an engine is started in. Pure."""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Iterable
from typing import Any

from ascendctl.facts import (
    Reading,
    ReadingStatus,
)
from ascendctl.netloader.ports import DEFAULT_EPHEMERAL_PORTS, HostPorts, Level, planned_ports, port_plan
from ascendctl.netloader.preflight.facts import (
    PreflightFacts,
)
from ascendctl.netloader.preflight.finding import (
    RUNS_ALREADY,
    Finding,
    Scene,
    Verdict,
    few,
    unlearned,
)
from ascendctl.netloader.preflight.script import (
    NO_PROXY_VARIABLES,
    PROXY_VARIABLES,
)
from ascendctl.report.printable import shown
from ascendctl.results import Status


def entered(scene: Scene, host: str) -> Verdict:
    reading = scene.facts[host].entered
    words = reading.command.removesuffix("/bin/sh -c true").strip()
    if reading.value is None:
        return Verdict((unlearned("whether the engine's environment can be entered", reading),))
    if reading.value:
        return Verdict(good=f"`{words}` runs a shell" if words else "the engine runs on the host itself")
    found = Finding(
        Status.FAIL,
        f"the words that enter the engine's environment do not run a shell: {reading.reason}",
        f"`{reading.command}` ends with exit code 0",
        f"exit code {reading.exit_code}",
        "No engine can be started on this host, and nothing is known of what it would find there.",
        "Start the container, or correct `engine_exec` of the host in the inventory; the account must be "
        "allowed to use the container tool. Try the command by hand.",
        reading,
    )
    return Verdict((found,))


# engine-ports ----------------------------------------------------------------------------------------------


def ports(scene: Scene, host: str) -> Verdict:
    starting, facts = scene.starting_on(host), scene.facts[host]
    if not starting:
        return RUNS_ALREADY
    found = []
    for what, reading in (
        ("which ports are in use", facts.listening),
        ("the kernel's range of random ports", facts.ephemeral),
        ("the kernel's reserved ports", facts.reserved),
    ):
        if not reading.ok:
            found.append(unlearned(what, reading))
    # What runs of the deployment holds its own ports; that the plan asks for one twice is said as such.
    own = {port.port for one in scene.running if one.host == host for port in planned_ports(one)}
    known = HostPorts(
        host,
        DEFAULT_EPHEMERAL_PORTS if facts.ephemeral.value is None else facts.ephemeral.value,
        facts.reserved.value or (),
        _device_count(facts),
        {port: who for port, who in (facts.listening.value or {}).items() if port not in own},
    )
    rest = [one for one in scene.running if one.host == host]
    old = set(port_plan(rest, [known]).findings)
    plan = port_plan([*starting, *rest], [known])
    for one in plan.findings:
        if one not in old:
            found.append(
                Finding(
                    Status.FAIL if one.level is Level.ERROR else Status.WARN,
                    one.message.removeprefix(f"{host}: "),
                    "a port that only this engine will use",
                    "any free port" if one.port is None else f"port {one.port} ({one.rule})",
                    _PORT_CONSEQUENCES[one.rule],
                    _PORT_REMEDIES.get(one.rule, "Choose other ports with --port and --listen-port."),
                    _port_reading(facts, one.rule),
                )
            )
    if facts.own_network.value:
        found.append(_own_network(facts))
    count = len({port.port for one in starting for port in planned_ports(one) if port.used})
    return Verdict(tuple(found), f"{count} ports are free")


_PORT_CONSEQUENCES = {
    "range": "The listener cannot be opened.",
    "twice": "The second of them ends with 'Address already in use', or serves nobody.",
    "busy": "The engine ends with 'Address already in use', or its joiners ask somebody else.",
    "hccl": "HCCL's connections and the listener shut each other out (EI0019).",
    "mooncake": "Mooncake's transfers and the listener shut each other out.",
    "ephemeral": "Once in a while a start fails with 'Address already in use', and the next one does not.",
    "unplanned": "Joiners learn where to ask only from this instance's log or status files.",
}
_PORT_REMEDIES = {
    "busy": "End what listens there (`ascendctl netloader status` where it is an engine of ascendctl), or "
    "choose other ports with --port and --listen-port.",
    "ephemeral": "Choose ports outside the range with --port and --listen-port, or add them to "
    "net.ipv4.ip_local_reserved_ports by sysctl.",
    "unplanned": "Set --listen-port.",
}


def _port_reading(facts: PreflightFacts, rule: str) -> Reading[Any]:
    if rule == "busy":
        return facts.listening
    return facts.ephemeral if rule == "ephemeral" else Reading(ReadingStatus.NOT_ASKED)


def _own_network(facts: PreflightFacts) -> Finding:
    return Finding(
        Status.WARN,
        "the engine's environment has a network of its own",
        "the host's network",
        "another one",
        "The listeners are bound to the host's address, which is not there; peers reach neither them nor "
        "HCCL's ports (error 103900 of HIXL, time-outs).",
        "Start the container with `--network host`, or plan it with an address that its own network has and "
        "the peers reach.",
        facts.own_network,
    )


def _device_count(facts: PreflightFacts) -> int | None:
    if facts.npus is not None and facts.npus.mapping.ok:
        return len(facts.npus.devices)
    if facts.npus is None and facts.devices.value is not None:
        return sum(re.fullmatch(r"davinci\d+", name) is not None for name in facts.devices.value)
    return None


# engine-proxy ----------------------------------------------------------------------------------------------


def proxy(scene: Scene, host: str) -> Verdict:
    facts = scene.facts[host]
    if facts.environment.value is None:
        return Verdict((unlearned("the engine's environment", facts.environment),))
    found: list[Finding] = []
    peers = _addresses(scene)
    for one in scene.on(host):
        environment = {**facts.environment.value, **one.place.variables}
        proxies = [name for name in PROXY_VARIABLES if environment.get(name)]
        given = next((environment[name] for name in NO_PROXY_VARIABLES if environment.get(name)), "")
        entries = [entry.strip() for entry in given.split(",") if entry.strip()]
        open_ones = [peer for peer in peers if not covered(peer, entries)]
        if proxies and open_ones:
            wanted = ",".join([*entries, *open_ones])
            found.append(
                Finding(
                    Status.WARN,
                    f"{', '.join(proxies)} set for the engine, and no_proxy does not name {few(open_ones)}",
                    f"no_proxy={shown(wanted)}",
                    f"no_proxy={shown(given)}" if given else "no_proxy not set",
                    "What speaks HTTP or gRPC there asks the proxy for the peers, which it mostly cannot "
                    "reach: a router or health check sees dead peers.",
                    f"Set it in the engine's environment: `no_proxy={shlex.quote(shown(wanted))}`, and "
                    "NO_PROXY alike.",
                    facts.environment,
                )
            )
    good = "no proxy is set for the engine"
    if any(facts.environment.value.get(name) for name in PROXY_VARIABLES):
        good = "no_proxy names all peers"
    return Verdict(tuple(dict.fromkeys(found)), good)


def _addresses(scene: Scene) -> list[str]:
    """Every address that an instance of the deployment is reached at."""
    found = [one.place.address for one in scene.everything]
    found += [listener.rpartition(":")[0].strip("[]") for one in scene.planned
              for listeners in one.sources for listener in listeners]  # fmt: skip
    return list(dict.fromkeys(address for address in found if address))


def covered(address: str, entries: Iterable[str]) -> bool:
    """Whether no_proxy exempts an address: by itself, ``*``, a domain it lies in, or a network (which most,
    not all programs understand)."""
    for entry in entries:
        if entry == "*" or entry.strip("[]").lower() == address.lower():
            return True
        domain = entry.lstrip("*").lstrip(".").lower()
        try:
            if ipaddress.ip_address(address) in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            if domain and address.lower().endswith(f".{domain}"):
                return True
    return False
