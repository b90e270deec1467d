"""Every check there is. An entry here is all that a new check needs besides its class.

The order is that of reports, and a check stands after the ones it names in ``after``.
"""

from __future__ import annotations

from ascendctl.checks.contract import Check, ClusterCheck
from ascendctl.checks.hccn_conf import HccnConf
from ascendctl.checks.host import Reachable, Tools, Versions
from ascendctl.checks.npus import HccsLinks, NpuCount, NpuHealth, NpuMapping
from ascendctl.checks.ports import Address, Gateway, Link, Lldp, Netdetect, NetHealth, Tls
from ascendctl.checks.super_pod import SpodInfo, Vnic

HOST_CHECKS: tuple[Check, ...] = (
    Reachable(),
    Tools(),
    Versions(),
    NpuMapping(),
    NpuCount(),
    NpuHealth(),
    HccsLinks(),
    Vnic(),
    SpodInfo(),
    Link(),
    Address(),
    Gateway(),
    Netdetect(),
    NetHealth(),
    Lldp(),
    HccnConf(),
    Tls(),
)

CLUSTER_CHECKS: tuple[ClusterCheck, ...] = ()

BY_ID: dict[str, Check | ClusterCheck] = {
    **{check.id: check for check in HOST_CHECKS},
    **{check.id: check for check in CLUSTER_CHECKS},
}
