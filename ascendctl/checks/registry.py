"""Every check there is. An entry here is all that a new check needs besides its class.

The order is that of reports, and a check stands after the ones it names in ``after``.
"""

from __future__ import annotations

from ascendctl.checks.across.addresses import DuplicateAddress, GatewaysEqual, Segments
from ascendctl.checks.across.cabling import Cabling
from ascendctl.checks.across.host_side import Clock, Hostnames
from ascendctl.checks.across.settings import MtuEqual, TlsSwitch
from ascendctl.checks.across.super_pods import SuperPods
from ascendctl.checks.across.versions import NpuModel, VersionsEqual
from ascendctl.checks.contract import Check, ClusterCheck
from ascendctl.checks.counters import Ecc, HccsErrors, LinkFlaps, PortErrors
from ascendctl.checks.hccn_conf import HccnConf
from ascendctl.checks.host import Reachable, Tools, Versions
from ascendctl.checks.host_limits import HugePages, OpenFiles, TimeService
from ascendctl.checks.host_net import HostNet
from ascendctl.checks.mesh import Measured, Mesh, MeshHccs, MeshRoce
from ascendctl.checks.npus import HccsLinks, NpuCount, NpuHealth, NpuMapping
from ascendctl.checks.optical import Optical
from ascendctl.checks.port_settings import Fec, Mtu, Speed
from ascendctl.checks.ports import Address, Gateway, Link, Lldp, Netdetect, NetHealth, Tls
from ascendctl.checks.super_pod import SpodInfo, Vnic
from ascendctl.checks.workload import HbmUse, NpuProcesses

HOST_CHECKS: tuple[Check, ...] = (
    Reachable(),
    Tools(),
    Versions(),
    OpenFiles(),
    HugePages(),
    TimeService(),
    NpuMapping(),
    NpuCount(),
    NpuHealth(),
    Ecc(),
    NpuProcesses(),
    HbmUse(),
    HccsLinks(),
    HccsErrors(),
    Vnic(),
    SpodInfo(),
    Optical(),
    Link(),
    LinkFlaps(),
    PortErrors(),
    Speed(),
    Mtu(),
    Fec(),
    Address(),
    Gateway(),
    Netdetect(),
    NetHealth(),
    Lldp(),
    HccnConf(),
    Tls(),
)

CLUSTER_CHECKS: tuple[ClusterCheck, ...] = (
    VersionsEqual(),
    NpuModel(),
    Clock(),
    Hostnames(),
    TlsSwitch(),
    MtuEqual(),
    Segments(),
    GatewaysEqual(),
    DuplicateAddress(),
    SuperPods(),
    Cabling(),
)


def mesh_checks(measured: Measured | None = None) -> tuple[ClusterCheck, ...]:
    """The checks of what pings between hosts met; behind all others; they judge only what is given."""
    return (Mesh(measured), MeshHccs(measured), MeshRoce(measured))


BY_ID: dict[str, Check | ClusterCheck] = {
    **{check.id: check for check in HOST_CHECKS},
    **{check.id: check for check in (*CLUSTER_CHECKS, HostNet(), *mesh_checks())},
}
