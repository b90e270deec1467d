"""Break a healthy cluster: apply the faults of a spec to its state.

A fault changes the state that a real one would change and leaves the consequences to follow; only
faults that no state explains (a hanging command, garbage) become a Misbehaviour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ascendctl.sim import counters, network_faults, optical
from ascendctl.sim.healthy import Layout, build
from ascendctl.sim.kinds import BETWEEN_HOSTS
from ascendctl.sim.model import (
    NOT_IN_A_SUPER_POD,
    Cluster,
    Die,
    HealthError,
    Host,
    Misbehaviour,
    Process,
    hccn_conf_of,
    with_port,
    with_super_pod,
)
from ascendctl.sim.spec import Fault, Spec

DEFAULT_COMMAND_OF_HOST = "npu-smi info"
DEFAULT_COMMAND_OF_DEVICE = "hccn_tool -link"


def cluster_of(spec: Spec) -> Cluster:
    """The cluster a spec describes, faults and all; the same spec gives the same cluster."""
    layout = Layout(
        spec.hosts_per_leaf,
        spec.leaf_per_rail,
        spec.hosts_per_segment,
        spec.hosts_per_super_pod,
        spec.roce == "used",
    )
    cluster = build(spec.generation, spec.host_names, spec.seed, spec.latency, layout, spec.background_loss)
    hosts = {host.name: host for host in cluster.hosts}
    for fault in _in_order(spec.faults):
        if fault.kind in network_faults.ON_TWO_DEVICES:
            hosts.update(network_faults.ON_TWO_DEVICES[fault.kind](hosts, fault))
        elif fault.kind not in network_faults.OF_SWITCHES:
            for name in fault.hosts:
                hosts[name] = _break(hosts[name], fault)
    switches = network_faults.switches(hosts, spec.faults)
    broken = replace(cluster, hosts=tuple(hosts.values()), switches=switches)
    if any(fault.kind in _BETWEEN_HOSTS for fault in spec.faults):
        return network_faults.with_detect_pings_lost(broken)
    return broken


_BETWEEN_HOSTS = {kind.name for kind in BETWEEN_HOSTS}


def _in_order(faults: tuple[Fault, ...]) -> list[Fault]:
    """Two devices' cables and ids are exchanged and copied before either is changed on its own.

    What rewrites hccn.conf from the live values comes before what makes it stale or absent.
    """

    def rank(fault: Fault) -> int:
        if fault.kind in network_faults.ON_TWO_DEVICES:
            return 0
        return 2 if fault.kind.startswith("hccn-conf") else 1

    return sorted(faults, key=rank)


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


def _link_down(die: Die, fault: Fault) -> Die:
    return with_port(die, link_up=False, link_history=die.port.link_history.lost())


def _link_flaps(die: Die, fault: Fault) -> Die:
    return with_port(die, link_history=die.port.link_history.flapped(_count(fault)))


def _ip_missing(die: Die, fault: Fault) -> Die:
    """Without an address there is no route either, and the detect ping finds no way out."""
    return with_port(die, address=None, netmask=None, gateway=None, net_health="Socket fail")


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
    return with_super_pod(die, NOT_IN_A_SUPER_POD)


def _optical_absent(die: Die, fault: Fault) -> Die:
    return with_port(die, optical=optical.ABSENT if fault.effective_value == "table" else None)


def _optical_rx_low(die: Die, fault: Fault) -> Die:
    """A lane without any light has lost its signal, which the module flags."""
    module = die.port.optical
    if module is None or not module.measured:
        return die
    power_mw = float(fault.effective_value or 0)
    lanes = list(module.lanes)
    lanes[_DIM_LANE] = replace(lanes[_DIM_LANE], rx_power_mw=power_mw)
    lost = 0 if power_mw else 1 << _DIM_LANE
    return with_port(die, optical=replace(module, lanes=tuple(lanes), rx_los=module.rx_los | lost))


def _port_errors(die: Die, fault: Fault) -> Die:
    return with_port(die, statistics=counters.damaged_packets(die.port.statistics, _count(fault)))


def _ecc_errors(die: Die, fault: Fault) -> Die:
    """A page with such an error is taken out of use at the next start."""
    count = _count(fault)
    hbm = replace(die.ecc.hbm, double=count, double_total=count)
    return replace(die, ecc=replace(die.ecc, hbm=hbm, next_isolated=(0, count)))


def _hccs_errors(die: Die, fault: Fault) -> Die:
    counted = (_count(fault), *die.hccs.errors[1:])
    return replace(die, hccs=replace(die.hccs, retries=counted, errors=counted))


def _npu_process(die: Die, fault: Fault) -> Die:
    process = Process(_FIRST_STRANGER_PID + die.phy_id, "python3", _count(fault))
    held_mib = min(die.hbm_total_mib, die.hbm_used_mib + process.memory_mib)
    return replace(die, processes=(*die.processes, process), hbm_used_mib=held_mib)


def _hbm_in_use(die: Die, fault: Fault) -> Die:
    return replace(die, hbm_used_mib=die.hbm_total_mib * _count(fault) // 100)


def _count(fault: Fault) -> int:
    return int(fault.effective_value or 0)


_DIM_LANE = 1
_FIRST_STRANGER_PID = 214_600

_ON_DIES: dict[str, Callable[[Die, Fault], Die]] = {
    "link-down": _link_down,
    "net-health": lambda die, fault: with_port(die, net_health=fault.effective_value),
    "no-lldp": lambda die, fault: with_port(die, neighbour=None),
    "tls-unreadable": lambda die, fault: with_port(die, tls_switch=None),
    "ip-missing": _ip_missing,
    "wrong-netmask": lambda die, fault: with_port(die, netmask=fault.effective_value),
    "gateway-outside": lambda die, fault: with_port(die, gateway=fault.effective_value),
    "npu-health": _npu_health,
    "hccs-lanes": _hccs_lanes,
    "spod-invalid": _spod_invalid,
    "optical-absent": _optical_absent,
    "optical-rx-low": _optical_rx_low,
    "link-flaps": _link_flaps,
    "port-errors": _port_errors,
    "half-speed": lambda die, fault: with_port(die, speed_mbps=_count(fault)),
    "half-duplex": lambda die, fault: with_port(die, duplex="Half"),
    "mtu": lambda die, fault: with_port(die, mtu=_count(fault)),
    "fec": lambda die, fault: with_port(die, fec=f"{fault.effective_value} FEC mode"),
    "ecc-errors": _ecc_errors,
    "hccs-errors": _hccs_errors,
    "npu-process": _npu_process,
    "hbm-in-use": _hbm_in_use,
    "npu-model": lambda die, fault: replace(die, name=fault.effective_value or die.name),
    **network_faults.ON_DIES,
}

_ALSO_IN_HCCN_CONF = {"ip-missing", "wrong-netmask", "gateway-outside"}


# --- the host -------------------------------------------------------------------------------------


def _npu_missing(host: Host, fault: Fault) -> Host:
    """The whole NPU goes. hccn.conf keeps its lines: it states intent."""
    gone = {die.npu_id for die in host.dies if fault.device in (None, die.phy_id)}
    return replace(host, dies=tuple(die for die in host.dies if die.npu_id not in gone))


def _hccn_conf_stale(host: Host, fault: Fault) -> Host:
    def stale(die: Die) -> Die:
        return with_port(die, address=fault.effective_value) if fault.device in (None, die.phy_id) else die

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
    "open-files": lambda host, fault: replace(host, open_files_limit=_count(fault)),
    "no-huge-pages": lambda host, fault: replace(host, huge_pages=0),
    "time-unsynchronized": lambda host, fault: replace(host, clock_synchronized=False),
    "driver-version": lambda host, fault: replace(host, driver_version=fault.effective_value or ""),
    "firmware-version": lambda host, fault: replace(host, firmware_version=fault.effective_value or ""),
    "cann-version": lambda host, fault: replace(host, cann_version=fault.effective_value or ""),
    "clock-skew": lambda host, fault: replace(host, clock_offset_s=float(fault.effective_value or 0)),
    **network_faults.ON_HOST,
}
