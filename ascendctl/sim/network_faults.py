"""Faults of the networks between devices: what they change, and what the detect pings then meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ascendctl.sim.model import Cluster, Die, Host, hccn_conf_of, with_port, with_super_pod
from ascendctl.sim.network import Loss, Switch
from ascendctl.sim.spec import Fault

ALL = Loss(1.0, 1.0)


def _loss(fault: Fault) -> Loss:
    """``30``, ``30-out`` or ``30-in``: percent of the round trips, or of one way."""
    number, _, way = (fault.effective_value or "0").partition("-")
    share = float(number) / 100
    if way:
        return Loss(sending=share) if way == "out" else Loss(receiving=share)
    return Loss.both_ways(share)


ON_DIES: dict[str, Callable[[Die, Fault], Die]] = {
    "port-loss": lambda die, fault: with_port(die, loss=_loss(fault)),
    "hccs-port-down": lambda die, fault: replace(die, hccs_loss=ALL),
    "hccs-loss": lambda die, fault: replace(die, hccs_loss=_loss(fault)),
    "tls-switch": lambda die, fault: with_port(die, tls_switch=int(fault.effective_value or 0)),
}


# --- hosts ----------------------------------------------------------------------------------------


def _npu_silent(host: Host, fault: Fault) -> Host:
    silent = {die.npu_id for die in host.dies if fault.device in (None, die.phy_id)}
    dies = tuple(replace(die, ping_loss=1.0) if die.npu_id in silent else die for die in host.dies)
    return replace(host, dies=dies)


def _hccs_ping_denied(host: Host, fault: Fault) -> Host:
    denied = {"-hccs_ping": "permission"}
    return replace(host, dies=tuple(replace(die, refusals={**die.refusals, **denied}) for die in host.dies))


def _other_super_pod(host: Host, fault: Fault) -> Host:
    pod = int(fault.effective_value or 0)
    dies = tuple(
        with_super_pod(die, replace(die.super_pod, pod=pod)) if die.super_pod else die for die in host.dies
    )
    return replace(host, dies=dies)


def _host_firewall(host: Host, fault: Fault) -> Host:
    first, last, *reject = (fault.effective_value or "").split("-")
    ports = range(int(first), int(last) + 1)
    return replace(host, filtered_ports=ports, rejects_filtered=bool(reject))


ON_HOST: dict[str, Callable[[Host, Fault], Host]] = {
    "hccs-ping-denied": _hccs_ping_denied,
    "npu-silent": _npu_silent,
    "host-isolated": lambda host, fault: replace(host, ping_loss=1.0),
    "other-super-pod": _other_super_pod,
    "host-nic-loss": lambda host, fault: replace(host, nic_loss=float(fault.effective_value or 0) / 100),
    "host-mtu": lambda host, fault: replace(host, path_mtu=int(fault.effective_value or 0)),
    "host-route-missing": lambda host, fault: replace(host, no_route=True),
    "host-firewall": _host_firewall,
    "hostname": lambda host, fault: replace(host, hostname=fault.effective_value),
    "hostname-loopback": lambda host, fault: replace(host, hostname_addresses=("127.0.1.1",)),
    "hostname-unresolved": lambda host, fault: replace(host, hostname_addresses=()),
    "pod-split": lambda host, fault: replace(host, hccs_side=1),
}


# --- two devices ----------------------------------------------------------------------------------

Hosts = Mapping[str, Host]


def _cable_swap(hosts: Hosts, fault: Fault) -> Hosts:
    """What a cable leads to goes with it: the switch, its port as LLDP tells it, and that port's segment."""
    one, other = _both(hosts, fault)

    def at_the_end_of(cable: Die) -> dict[str, object]:
        port = cable.port
        return {"neighbour": port.neighbour, "leaf": port.leaf, "wire": port.wire}

    return _changed(
        hosts,
        fault,
        with_port(one, **at_the_end_of(other)),
        with_port(other, **at_the_end_of(one)),
    )


def _ip_duplicate(hosts: Hosts, fault: Fault) -> Hosts:
    """As if the other's lines of hccn.conf had been set here."""
    one, other = _both(hosts, fault)
    copied = {name: getattr(other.port, name) for name in ("address", "netmask", "gateway", "netdetect")}
    changed = dict(_changed(hosts, fault, with_port(one, **copied), other))
    host = changed[fault.host]
    return {**changed, host.name: replace(host, hccn_conf=hccn_conf_of(host.dies))}


def _sdid_duplicate(hosts: Hosts, fault: Fault) -> Hosts:
    one, other = _both(hosts, fault)
    if other.super_pod is None:
        return {}
    return _changed(hosts, fault, with_super_pod(one, other.super_pod), other)


ON_TWO_DEVICES: dict[str, Callable[[Hosts, Fault], Hosts]] = {
    "cable-swap": _cable_swap,
    "ip-duplicate": _ip_duplicate,
    "sdid-duplicate": _sdid_duplicate,
}


def _ids(fault: Fault) -> tuple[tuple[str, int], tuple[str, int]]:
    assert fault.device is not None and fault.peer is not None  # the spec has seen to it
    return (fault.hosts[0], fault.device), fault.peer


def _both(hosts: Hosts, fault: Fault) -> tuple[Die, Die]:
    one, other = (hosts[name].die(device) for name, device in _ids(fault))
    assert one is not None and other is not None  # NPUs go missing later
    return one, other


def _changed(hosts: Hosts, fault: Fault, *dies: Die) -> Hosts:
    """The hosts of the two devices with these in their place."""
    changed: dict[str, Host] = {}
    for (name, device), die in zip(_ids(fault), dies, strict=True):
        host = changed.get(name, hosts[name])
        changed[name] = replace(
            host, dies=tuple(die if each.phy_id == device else each for each in host.dies)
        )
    return changed


# --- switches -------------------------------------------------------------------------------------

OF_SWITCHES = frozenset({"leaf-switch-down", "switch-loss"})


def switches(hosts: Hosts, faults: Sequence[Fault]) -> Mapping[str, Switch]:
    """The leaf switches that lose packets: those behind the devices of such faults."""
    lossy: dict[str, Switch] = {}
    for fault in faults:
        if fault.kind in OF_SWITCHES:
            value = fault.effective_value or ""
            share = 1.0 if fault.kind == "leaf-switch-down" else float(value.partition("-")[0]) / 100
            part = "uplink_loss" if value.endswith("uplinks") else "loss"
            for leaf in _leaves(hosts, fault):
                lossy[leaf] = replace(lossy.get(leaf, Switch()), **{part: share})
    return lossy


def _leaves(hosts: Hosts, fault: Fault) -> set[str]:
    return {
        die.port.leaf
        for name in fault.hosts
        for die in hosts[name].dies
        if fault.device in (None, die.phy_id) and die.port.leaf is not None
    }


# --- consequences ---------------------------------------------------------------------------------


def with_detect_pings_lost(cluster: Cluster) -> Cluster:
    """Ports that no detect ping comes back to show it, where they were healthy before."""

    def seen(die: Die) -> Die:
        port = die.port
        if port.net_health != "Success" or port.netdetect is None or cluster.network.detects(die):
            return die
        return with_port(die, net_health="Receive timeout")

    hosts = tuple(replace(host, dies=tuple(map(seen, host.dies))) for host in cluster.hosts)
    return replace(cluster, hosts=hosts)
