"""The environment that engines on each host need, derived from what is known of the cluster. Pure.

Values follow the multi-node guides of vllm-ascend where these agree with HCCL's own documentation; where
they do not (an HCCL_EXEC_TIMEOUT below HCCL_CONNECT_TIMEOUT, a NIC name that is a prefix), HCCL's holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ascendctl.facts import Accelerator, ClusterFacts, Generation, HostFacts, ReachStatus
from ascendctl.hccl.buffer_size import (
    HIERARCHY_EXPERT_PARALLEL,
    BufferSize,
    BufferSizeError,
    Kernel,
    MoeModel,
    Parallel,
    buffer_size,
)
from ascendctl.hccl.nic import NicChoice, choose_nics
from ascendctl.hccl.variables import AIV_EXEC_TIMEOUT_MOST_S, BUFFER_SIZE_DEFAULT_MB, P2P_CONNECT_TIMEOUT_S
from ascendctl.topology.super_pod import in_super_pod

# Above the connect timeout, and below what AIV operators wait at most.
EXEC_TIMEOUT_S = 1020
_TRANSFER_TIMEOUT_MS = 10000


class Role(str, Enum):
    """What the engine does: one half of prefill/decode, the whole, or loading weights from its peers."""

    PREFILL = "prefill"
    DECODE = "decode"
    SERVE = "serve"
    NETLOADER = "netloader"


_SPLIT = (Role.PREFILL, Role.DECODE)

# What the guides set without computing anything: prefill and decode in the expert-parallel guide, else the
# most frequent value of the multi-node tutorials.
_GUIDES_BUFFER_MB = {Role.PREFILL: 256, Role.DECODE: 1024, Role.SERVE: 1024, Role.NETLOADER: 1024}


@dataclass(frozen=True)
class Moe:
    """A mixture-of-experts model and how it runs. ``kernel`` None = as generation and role decide."""

    model: MoeModel
    parallel: Parallel
    kernel: Kernel | None = None
    mc2_context: bool = False


@dataclass(frozen=True)
class Setting:
    """One variable with its value and why it has it."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True)
class Environment:
    """What to set on one host, in order.

    ``learned`` False: nothing is known of the host; ``refusals`` then say why, and are none of its faults.
    With a refusal there are no settings: half an environment would start and fail later.
    ``hostname``: what the host calls itself, "" where it was not learned.
    """

    host: str
    role: Role
    settings: tuple[Setting, ...] = ()
    warnings: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    learned: bool = True
    hostname: str = ""

    @property
    def values(self) -> dict[str, str]:
        return {setting.name: setting.value for setting in self.settings}


def environments(
    cluster: ClusterFacts,
    role: Role,
    *,
    ssh_addresses: Mapping[str, str] | None = None,
    moe: Moe | None = None,
    routed: bool = False,
) -> tuple[Environment, ...]:
    """One environment per host, in the cluster's order."""
    choices = choose_nics(cluster, ssh_addresses, routed=routed)
    fabric = _Fabric.of(cluster)
    return tuple(
        _environment(host, choice, role, fabric, moe)
        for host, choice in zip(cluster.hosts, choices, strict=True)
    )


@dataclass(frozen=True)
class _Fabric:
    """What of the whole cluster one host's environment depends on.

    ``super_pods``: the physical ids seen; ``all_alone``: every A3 host is known to be in none.
    """

    hosts: int
    super_pods: frozenset[int]
    all_in_pods: bool
    all_alone: bool

    @classmethod
    def of(cls, cluster: ClusterFacts) -> _Fabric:
        # A host that did not answer must not change what the others get, or it would differ from theirs.
        answered = [host for host in cluster.hosts if host.devices]
        members = [in_super_pod(host) for host in answered]
        pods = frozenset(
            device.spod.value.super_pod_id
            for host, member in zip(answered, members, strict=True)
            if member
            for device in host.devices
            if device.spod.value is not None
        )
        return cls(len(cluster.hosts), pods, all(members), all(member is False for member in members))

    @property
    def one_pod(self) -> bool:
        return self.hosts == 1 or (self.all_in_pods and len(self.super_pods) == 1)


def _environment(
    host: HostFacts, choice: NicChoice, role: Role, fabric: _Fabric, moe: Moe | None
) -> Environment:
    hostname = host.system.hostname.value or ""
    if choice.problem:
        return Environment(
            host.host, role, refusals=(choice.problem,), learned=choice.learned, hostname=hostname
        )
    if host.accelerator in (Accelerator.NVIDIA, Accelerator.CPU):
        text = f"it is no Ascend host ({host.accelerator.value}), and HCCL runs on Ascend only; leave it out"
        return Environment(host.host, role, refusals=(text,), hostname=hostname)
    warnings = [choice.warning] if choice.warning else []
    if host.reach.status is not ReachStatus.REACHED:
        warnings.append(
            f"it did not answer to the end ({host.reach.status.value}): derived from what it gave"
        )
    if host.generation is None:
        warnings.append(
            "its generation could not be told, so that nothing is set which differs between A2 and A3; "
            "set generation: in the inventory"
        )
    settings = [
        *_network(choice),
        *_buffer(role, host.generation, moe, warnings),
        *_timeouts(role),
        *_expansion(host, fabric),
        *_links(host, role, fabric, moe, warnings),
        *_engine(role),
    ]
    return Environment(host.host, role, tuple(settings), tuple(warnings), hostname=hostname)


def _network(choice: NicChoice) -> list[Setting]:
    nic = choice.interface
    settings = [
        Setting("HCCL_IF_IP", choice.address, choice.reason),
        Setting(
            "HCCL_SOCKET_IFNAME",
            f"={nic}",
            f"exactly {nic}: a bare name is a prefix and takes longer names too",
        ),
        Setting("GLOO_SOCKET_IFNAME", nic, "the same NIC; gloo knows no '='"),
        Setting("TP_SOCKET_IFNAME", nic, "the same NIC; tensorpipe knows no '='"),
    ]
    if choice.is_ipv6:
        settings.append(Setting("HCCL_SOCKET_FAMILY", "AF_INET6", "the hosts have IPv6 addresses only"))
    return settings


def _buffer(role: Role, generation: Generation | None, moe: Moe | None, warnings: list[str]) -> list[Setting]:
    guides = _GUIDES_BUFFER_MB[role]
    if moe is None:
        reason = (
            f"what the guides set for {role.value}, not computed: name --model, --dp, --tp, --max-num-seqs"
        )
        return [Setting("HCCL_BUFFSIZE", str(guides), reason)]
    try:
        size = max((_size(moe, kernel, generation) for kernel in _kernels(role, generation, moe)), key=_need)
    except BufferSizeError as error:
        warnings.append(f"HCCL_BUFFSIZE is not computed: {error}")
        return [Setting("HCCL_BUFFSIZE", str(guides), f"what the guides set for {role.value}, not computed")]
    if kernel_is_ruled_out := _ruled_out(role, generation, moe):
        warnings.append(kernel_is_ruled_out)
    reason = size.explanation
    if size.need_mb < BUFFER_SIZE_DEFAULT_MB:
        reason = f"HCCL's default, above the need: {reason}"
    return [Setting("HCCL_BUFFSIZE", str(max(size.need_mb, BUFFER_SIZE_DEFAULT_MB)), reason)]


def _kernels(role: Role, generation: Generation | None, moe: Moe) -> tuple[Kernel, ...]:
    """The kernels to provide for. On A2 either may check the buffer unless the environment decides."""
    if moe.kernel is not None:
        return (moe.kernel,)
    if hierarchical(role, generation, moe):
        return (Kernel.HIERARCHY,)
    if generation is Generation.A2 and moe.parallel.expert in HIERARCHY_EXPERT_PARALLEL:
        return (Kernel.FULL_MESH, Kernel.HIERARCHY)
    return (Kernel.FULL_MESH,)


def _size(moe: Moe, kernel: Kernel, generation: Generation | None) -> BufferSize:
    return buffer_size(
        moe.model, moe.parallel, generation=generation, kernel=kernel, mc2_context=moe.mc2_context
    )


def _need(size: BufferSize) -> int:
    return size.need_mb


def hierarchical(role: Role, generation: Generation | None, moe: Moe | None) -> bool:
    """Whether hierarchical MC2 is chosen: A2, serving as a whole, an expert-parallel size that it takes.

    Prefill and decode need HCCL_INTRA_ROCE_ENABLE=1 there, which rules it out.
    """
    if moe is None or generation is not Generation.A2 or role in _SPLIT:
        return False
    return moe.kernel in (None, Kernel.HIERARCHY) and moe.parallel.expert in HIERARCHY_EXPERT_PARALLEL


def _ruled_out(role: Role, generation: Generation | None, moe: Moe) -> str:
    if moe.kernel is Kernel.HIERARCHY and generation is Generation.A2 and role in _SPLIT:
        return (
            "hierarchical MC2 is asked for; HCCL_INTRA_ROCE_ENABLE=1 rules it out; on A2 Mooncake needs that"
        )
    return ""


def _timeouts(role: Role) -> list[Setting]:
    slow = "engines of one group do not start in the same two minutes, HCCL's default (EI0006, EI0015)"
    if role is Role.NETLOADER:
        slow = "torch_npu advises it for the point-to-point groups that carry the weights"
    return [
        Setting("HCCL_CONNECT_TIMEOUT", str(P2P_CONNECT_TIMEOUT_S), slow),
        Setting(
            "HCCL_EXEC_TIMEOUT",
            str(EXEC_TIMEOUT_S),
            f"above HCCL_CONNECT_TIMEOUT, and within the {AIV_EXEC_TIMEOUT_MOST_S} s of AIV",
        ),
    ]


def _expansion(host: HostFacts, fabric: _Fabric) -> list[Setting]:
    name = "HCCL_OP_EXPANSION_MODE"
    if host.generation is None:
        return []
    if host.generation is Generation.A2 or fabric.one_pod:
        return [Setting(name, "AIV", "as the guides set it: the vector cores run collectives")]
    seen = ", ".join(map(str, sorted(fabric.super_pods)))
    between = f"super pods seen: {seen}" if seen else "no super pod seen"
    reason = "A3's default: AIV does not work across super pods, and these hosts are not known to be in one"
    return [Setting(name, "AI_CPU", f"{reason} ({between})")]


def _links(
    host: HostFacts, role: Role, fabric: _Fabric, moe: Moe | None, warnings: list[str]
) -> list[Setting]:
    if host.generation is Generation.A2:
        return _links_a2(role, moe)
    if host.generation is not Generation.A3 or fabric.hosts == 1:
        return []
    member = in_super_pod(host)
    if member is None:
        warnings.append(
            "whether it is in a super pod is not known, so that HCCL_INTER_HCCS_DISABLE is left out"
        )
    if member is not False:
        return []
    if not fabric.all_alone:
        warnings.append(
            "it is in no super pod (no valid SDID), others are: between it and them there is RoCE only"
        )
        return []
    alone = "no host is in a super pod (no valid SDID), so that RoCE joins them"
    settings = [Setting("HCCL_INTER_HCCS_DISABLE", "TRUE", alone)]
    if role in _SPLIT:
        settings.append(
            Setting("HCCL_INTRA_ROCE_ENABLE", "1", f"{alone}: Mooncake moves the KV cache over it")
        )
    without = [device.phy_id for device in host.devices if not device.ip.ok]
    if without:
        warnings.append(
            "RoCE joins the hosts, and no address could be read of devices " + ", ".join(map(str, without))
        )
    return settings


def _links_a2(role: Role, moe: Moe | None) -> list[Setting]:
    if role in _SPLIT:
        reason = "on A2 Mooncake moves the KV cache device to device over RoCE, within a host too"
        return [Setting("HCCL_INTRA_ROCE_ENABLE", "1", reason)]
    if hierarchical(role, Generation.A2, moe):
        reason = "with its pair it makes vllm-ascend take hierarchical MC2 on A2"
        return [
            Setting("HCCL_INTRA_PCIE_ENABLE", "1", reason),
            Setting("HCCL_INTRA_ROCE_ENABLE", "0", reason),
        ]
    return []


def _engine(role: Role) -> list[Setting]:
    settings = [
        Setting(
            "PYTORCH_NPU_ALLOC_CONF",
            "expandable_segments:True",
            "less fragmented HBM; does not go with sleep mode or max_split_size_mb",
        ),
        Setting("TASK_QUEUE_ENABLE", "1", "operators are queued; 2 takes more memory"),
        Setting("OMP_PROC_BIND", "false", "the engines' threads are not bound to one core each"),
        Setting("OMP_NUM_THREADS", "10", "many engines share one host's cores"),
    ]
    if role in _SPLIT:
        first = "the first transfer sets up its links, which takes longer than the 3 s default"
        seed = "block hashes must be equal on every node that shares a KV pool"
        slow = "a large model's first steps outlast the default"
        settings += [
            Setting("ASCEND_CONNECT_TIMEOUT", str(_TRANSFER_TIMEOUT_MS), first),
            Setting("ASCEND_TRANSFER_TIMEOUT", str(_TRANSFER_TIMEOUT_MS), first),
            Setting("VLLM_RPC_TIMEOUT", "3600000", slow),
            Setting("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", "30000", slow),
            Setting("PYTHONHASHSEED", "0", seed),
        ]
    if role is Role.NETLOADER:
        reason = "an idle engine that sleeps leaves its core to the transfer"
        settings.append(Setting("VLLM_SLEEP_WHEN_IDLE", "1", reason))
    return settings
