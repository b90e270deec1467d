"""Break a healthy cluster: apply the faults of a spec to its state.

A fault changes the state that a real one would change and leaves the consequences to follow; only
faults that no state explains (a hanging command, garbage) become a Misbehaviour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ascendctl.sim.model import (
    NOT_IN_A_SUPER_POD,
    Cluster,
    Die,
    HealthError,
    Host,
    Misbehaviour,
    build,
    hccn_conf_of,
    vnic_outside_super_pod,
)
from ascendctl.sim.spec import Fault, Spec

DEFAULT_COMMAND_OF_HOST = "npu-smi info"
DEFAULT_COMMAND_OF_DEVICE = "hccn_tool -link"


def cluster_of(spec: Spec) -> Cluster:
    """The cluster a spec describes, faults and all; the same spec gives the same cluster."""
    cluster = build(spec.generation, spec.host_names, spec.seed, spec.latency)
    hosts = {host.name: host for host in cluster.hosts}
    for fault in _in_order(spec.faults):
        for name in fault.hosts:
            hosts[name] = _break(hosts[name], fault)
    return replace(cluster, hosts=tuple(hosts.values()))


def _in_order(faults: tuple[Fault, ...]) -> list[Fault]:
    """What rewrites hccn.conf from the live values comes before what makes it stale or absent."""
    return sorted(faults, key=lambda fault: fault.kind.startswith("hccn-conf"))


def _break(host: Host, fault: Fault) -> Host:
    if fault.kind in _ON_DIES:
        return _break_dies(host, fault)
    return _ON_HOST[fault.kind](host, fault)


def _break_dies(host: Host, fault: Fault) -> Host:
    change = _ON_DIES[fault.kind]
    dies = tuple(change(die, fault) if fault.device in (None, die.phy_id) else die for die in host.dies)
    also_in_conf = fault.kind in _ALSO_IN_HCCN_CONF and fault.value != "live"
    conf = hccn_conf_of(dies) if also_in_conf else host.hccn_conf
    return replace(host, dies=dies, hccn_conf=conf)


# --- one die --------------------------------------------------------------------------------------


def _port(die: Die, **changes: object) -> Die:
    return replace(die, port=replace(die.port, **changes))  # type: ignore[arg-type]


def _link_down(die: Die, fault: Fault) -> Die:
    return _port(die, link_up=False, down_count=die.port.down_count + 1)


def _ip_missing(die: Die, fault: Fault) -> Die:
    """Without an address there is no route either, and the detect ping finds no way out."""
    return _port(die, address=None, netmask=None, gateway=None, net_health="Socket fail")


def _npu_health(die: Die, fault: Fault) -> Die:
    word = fault.effective_value or "Alarm"
    if word == "OK":
        return replace(die, health=word, health_errors=())
    error = HealthError("80E01801", "node type=HBM, sensor type=Memory, event state=Multi-bit ECC error")
    return replace(die, health=word, health_errors=(error,))


def _hccs_lanes(die: Die, fault: Fault) -> Die:
    link = int(fault.effective_value or 0)
    modes, lanes = list(die.hccs.lane_modes), list(die.hccs.lanes)
    modes[link], lanes[link] = 2, "0011"
    return replace(die, hccs=replace(die.hccs, lane_modes=tuple(modes), lanes=tuple(lanes)))


def _spod_invalid(die: Die, fault: Fault) -> Die:
    return replace(die, super_pod=NOT_IN_A_SUPER_POD, vnic=vnic_outside_super_pod(die))


_ON_DIES: dict[str, Callable[[Die, Fault], Die]] = {
    "link-down": _link_down,
    "net-health": lambda die, fault: _port(die, net_health=fault.effective_value),
    "no-lldp": lambda die, fault: _port(die, neighbour=None),
    "tls-unreadable": lambda die, fault: _port(die, tls_switch=None),
    "ip-missing": _ip_missing,
    "wrong-netmask": lambda die, fault: _port(die, netmask=fault.effective_value),
    "gateway-outside": lambda die, fault: _port(die, gateway=fault.effective_value),
    "npu-health": _npu_health,
    "hccs-lanes": _hccs_lanes,
    "spod-invalid": _spod_invalid,
}

_ALSO_IN_HCCN_CONF = {"ip-missing", "wrong-netmask", "gateway-outside"}


# --- the host -------------------------------------------------------------------------------------


def _npu_missing(host: Host, fault: Fault) -> Host:
    """The whole NPU goes. hccn.conf keeps its lines: it states intent."""
    gone = {die.npu_id for die in host.dies if fault.device in (None, die.phy_id)}
    return replace(host, dies=tuple(die for die in host.dies if die.npu_id not in gone))


def _hccn_conf_stale(host: Host, fault: Fault) -> Host:
    def stale(die: Die) -> Die:
        return _port(die, address=fault.effective_value) if fault.device in (None, die.phy_id) else die

    return replace(host, hccn_conf=hccn_conf_of(tuple(stale(die) for die in host.dies)))


def _no_permission(host: Host, fault: Fault) -> Host:
    tool = fault.effective_value
    if tool in (None, "hccn_tool"):
        host = replace(host, hccn_tool_refusal="permission")
    if tool in (None, "npu-smi"):
        host = replace(host, npu_smi_refusal="no-permission")
    return host


def _misbehave(host: Host, fault: Fault) -> Host:
    if fault.kind == "busy":
        default = DEFAULT_COMMAND_OF_DEVICE if fault.device is not None else "hccn_tool"
    elif fault.kind == "command-hang" or fault.device is not None:
        default = DEFAULT_COMMAND_OF_DEVICE
    else:
        default = DEFAULT_COMMAND_OF_HOST
    tool, *words = (fault.command or default).split()
    value = fault.effective_value or ""
    form = {"command-hang": value, "garbage-output": "garbage", "truncated-output": "truncated"}
    misbehaviour = Misbehaviour(
        form=form.get(fault.kind, fault.kind),
        tool=tool,
        words=tuple(word for word in words if word != "-g") or None,
        phy_id=fault.device,
        times=int(value) if fault.kind == "busy" and value.isdecimal() else None,
    )
    return replace(host, misbehaviours=(*host.misbehaviours, misbehaviour))


_ON_HOST: dict[str, Callable[[Host, Fault], Host]] = {
    "npu-missing": _npu_missing,
    "hccn-conf-stale": _hccn_conf_stale,
    "hccn-conf-missing": lambda host, fault: replace(host, hccn_conf=None),
    "ssh-refused": lambda host, fault: replace(host, ssh="refused"),
    "ssh-auth": lambda host, fault: replace(host, ssh="auth"),
    "ssh-hang": lambda host, fault: replace(host, ssh="hang"),
    "no-tool": lambda host, fault: replace(
        host, missing_tools=host.missing_tools | {fault.effective_value or "hccn_tool"}
    ),
    "no-permission": _no_permission,
    "command-hang": _misbehave,
    "garbage-output": _misbehave,
    "truncated-output": _misbehave,
    "busy": _misbehave,
}
