"""Every environment variable that a launch of HCCL, torch_npu, vLLM-Ascend and Mooncake knows: one table.

Sources, by tag: ``hccl`` the HCCL documentation of CANN 9 (hccl_env); ``torch_npu`` its documentation;
``vllm-ascend`` its code and guides (main of August 2026); ``cann`` the CANN documentation; ``mooncake``
its ascend_direct_transport document and headers; ``vllm`` vLLM; ``system`` what the libraries themselves
document. A name of HCCL's that is not here is one that HCCL does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ascendctl.facts import Generation
from ascendctl.hccl.forms import (
    Choice,
    Form,
    Fraction,
    HcclInterfaces,
    HostAddress,
    Interfaces,
    Pattern,
    Ports,
    Settings,
    Text,
    Whole,
)

BOTH = frozenset(Generation)
_A2 = frozenset({Generation.A2})
_A3 = frozenset({Generation.A3})

CONNECT_TIMEOUT_DEFAULT_S = 120
EXEC_TIMEOUT_DEFAULT_S = 1836
# Under AIV an operator waits no longer than this, whatever HCCL_EXEC_TIMEOUT says.
AIV_EXEC_TIMEOUT_MOST_S = 1091
# What torch_npu advises once point-to-point communicators are used.
P2P_CONNECT_TIMEOUT_S = 600
BUFFER_SIZE_DEFAULT_MB = 200


@dataclass(frozen=True)
class Variable:
    """One variable. ``default`` "" = none, or not known; ``retired``: why it should not be set any more.

    ``only``: a generation's own form, where it takes other values than ``form``.
    """

    name: str
    form: Form
    source: str
    default: str = ""
    generations: frozenset[Generation] = BOTH
    note: str = ""
    retired: str = ""
    only: tuple[tuple[Generation, Form], ...] = ()

    def form_on(self, generation: Generation | None) -> Form:
        """The form on this generation; None = the form that takes what any generation takes."""
        return next((form for one, form in self.only if one is generation), self.form)


@dataclass(frozen=True)
class WildName:
    """A name seen in scripts that nobody reads: what was meant, and what its writer loses."""

    name: str
    meant: str
    loss: str


_SWITCH = Choice(("0", "1"))
_TRUTH = Choice(("TRUE", "FALSE"), any_case=True)
_PATH = Text("a path")
_DETECTION_S = Pattern("0, or 20 to 7200 (s)", r"0|[2-9]\d|[1-9]\d{2}|[1-6]\d{3}|7[01]\d{2}|7200")
_MILLISECONDS = Whole(0, 2**31 - 1, "ms")
_ALGORITHM = r"NA|ring|H-D_R|NHR|NHR_V1|NB|AHC|pipeline|pairwise|fullmesh"
_LEVELS = rf"level[012]:(?:{_ALGORITHM})(?:;level[012]:(?:{_ALGORITHM}))*"
_ALGORITHMS = rf"(?:\w+=)?{_LEVELS}(?:/\w+={_LEVELS})*"

_HCCL = (
    Variable(
        "HCCL_IF_IP",
        HostAddress(),
        "hccl",
        note="goes before HCCL_SOCKET_IFNAME; an address that is not of this host ends in EI0001",
    ),
    Variable(
        "HCCL_SOCKET_IFNAME",
        HcclInterfaces(),
        "hccl",
        note="a bare name is a prefix: eth1 also takes eth10; =eth1 takes exactly eth1",
    ),
    Variable("HCCL_SOCKET_FAMILY", Choice(("AF_INET", "AF_INET6")), "hccl", "AF_INET"),
    Variable("HCCL_IF_BASE_PORT", Whole(1024, 65520), "hccl", "60000", note="32 ports from here"),
    Variable("HCCL_HOST_SOCKET_PORT_RANGE", Ports(), "hccl", note="goes before HCCL_IF_BASE_PORT"),
    Variable(
        "HCCL_NPU_SOCKET_PORT_RANGE",
        Ports(),
        "hccl",
        "16666",
        note="at least one port per process of an NPU; every rank must set it",
    ),
    Variable(
        "HCCL_BUFFSIZE",
        Whole(1, None, "MB"),
        "hccl",
        str(BUFFER_SIZE_DEFAULT_MB),
        note="a communicator takes twice this; ranks of one group must not differ (EI0005)",
    ),
    Variable(
        "HCCL_CONNECT_TIMEOUT",
        Whole(CONNECT_TIMEOUT_DEFAULT_S, 7200, "s"),
        "hccl",
        str(CONNECT_TIMEOUT_DEFAULT_S),
    ),
    Variable(
        "HCCL_EXEC_TIMEOUT",
        Whole(0, 2**31 - 1, "s"),
        "hccl",
        str(EXEC_TIMEOUT_DEFAULT_S),
        note="0 = never; should be above HCCL_CONNECT_TIMEOUT; under AIV at most 1091",
    ),
    Variable("HCCL_INTRA_PCIE_ENABLE", _SWITCH, "hccl", generations=_A2),
    Variable("HCCL_INTRA_ROCE_ENABLE", _SWITCH, "hccl"),
    Variable(
        "HCCL_INTER_HCCS_DISABLE",
        _TRUTH,
        "hccl",
        "FALSE",
        generations=_A3,
        note="TRUE: RoCE also inside a super pod, so that every device needs an address",
    ),
    Variable(
        "HCCL_OP_EXPANSION_MODE",
        Choice(("AI_CPU", "AICPU_CacheDisable", "AIV", "HOST", "HOST_TS")),
        "hccl",
        "A2 HOST, A3 AI_CPU",
        only=(
            (Generation.A2, Choice(("HOST", "HOST_TS", "AI_CPU", "AIV"))),
            (Generation.A3, Choice(("AI_CPU", "AICPU_CacheDisable", "AIV"))),
        ),
    ),
    Variable("HCCL_DETERMINISTIC", Choice(("false", "true", "strict"), any_case=True), "hccl", "false"),
    Variable(
        "HCCL_LOGIC_SUPERPOD_ID",
        Text("an id", longest=127),
        "hccl",
        generations=_A3,
        note="may split a physical super pod, never join two",
    ),
    Variable("HCCL_RDMA_TC", Whole(0, 255, step=4), "hccl", "132", note="DSCP times 4"),
    Variable("HCCL_RDMA_SL", Whole(0, 7), "hccl", "4", note="the NIC's PFC priority"),
    Variable("HCCL_RDMA_TIMEOUT", Whole(5, 20), "hccl", "20", note="4.096 µs times 2 to this power"),
    Variable("HCCL_RDMA_RETRY_CNT", Whole(1, 7), "hccl", "7"),
    Variable("HCCL_RDMA_QPS_PER_CONNECTION", Whole(1, 32), "hccl", "1", note="at most 8 advised"),
    Variable("HCCL_MULTI_QP_THRESHOLD", Whole(1, 8192, "KB"), "hccl", "512"),
    Variable("HCCL_RDMA_QP_PORT_CONFIG_PATH", Text("a folder with MultiQpSrcPort.cfg"), "hccl"),
    Variable("HCCL_RDMA_PCIE_DIRECT_POST_NOSTRICT", _TRUTH, "hccl", generations=_A2),
    Variable(
        "HCCL_ALGO",
        Pattern("levelN:ALGORITHM with ; between, level0:NA;level1:NHR for example", _ALGORITHMS),
        "hccl",
    ),
    Variable(
        "HCCL_OP_RETRY_ENABLE",
        Settings((("L0", _SWITCH), ("L1", _SWITCH), ("L2", _SWITCH))),
        "hccl",
        "L1:0,L2:0",
        generations=_A3,
        note="works with AI_CPU only",
    ),
    Variable(
        "HCCL_OP_RETRY_PARAMS",
        Settings(
            (
                ("MaxCnt", Whole(1, 10)),
                ("HoldTime", Whole(0, 60000, "ms")),
                ("IntervalTime", Whole(0, 60000, "ms")),
            )
        ),
        "hccl",
        generations=_A3,
    ),
    Variable(
        "HCCL_DFS_CONFIG",
        Settings(
            (
                ("connection_fault_detection_time", _DETECTION_S),
                ("cluster_heartbeat", Text("on or off")),
                ("stuck_detection", Text("on or off")),
                ("inconsistent_check", Text("on or off")),
                ("task_monitor_interval", Whole(0, None)),
            )
        ),
        "hccl",
    ),
    Variable("HCCL_ENTRY_LOG_ENABLE", _SWITCH, "hccl", "0"),
    Variable("HCCL_DIAGNOSE_ENABLE", _SWITCH, "hccl", "0"),
    Variable("HCCL_DEBUG_CONFIG", Text(), "hccl"),
    Variable("HCCL_WHITELIST_DISABLE", _SWITCH, "hccl", "1"),
    Variable("HCCL_WHITELIST_FILE", _PATH, "hccl"),
)

# HCCL-named ones that HCCL's own documentation does not have: torch_npu and vllm-ascend read them.
_TORCH_NPU = (
    Variable("HCCL_EVENT_TIMEOUT", Whole(0, 2**31 - 1, "s"), "torch_npu", "1868"),
    Variable("HCCL_ASYNC_ERROR_HANDLING", _SWITCH, "torch_npu", "1"),
    Variable("HCCL_DESYNC_DEBUG", _SWITCH, "torch_npu", "0"),
    Variable("HCCL_SO_PATH", _PATH, "vllm-ascend"),
    Variable("P2P_HCCL_BUFFSIZE", Whole(0, None, "MB"), "torch_npu", "20"),
    Variable("TORCH_HCCL_ZERO_COPY", _SWITCH, "torch_npu"),
    Variable(
        "RANK_TABLE_FILE",
        Text("the absolute path of a rank table"),
        "torch_npu",
        note="a path that does not exist falls back to negotiation without a word",
    ),
    Variable(
        "PYTORCH_NPU_ALLOC_CONF",
        Settings(
            (
                ("expandable_segments", Choice(("True", "False"))),
                ("max_split_size_mb", Whole(21, None, "MB")),
                ("garbage_collection_threshold", Fraction()),
                ("base_addr_aligned_kb", Whole(0, 16, "KB")),
                ("page_size", Choice(("1g", "1GB"), any_case=True)),
                ("segment_size_mb", Whole(20, None, "MB")),
            )
        ),
        "torch_npu",
        "expandable_segments:False",
        note="vllm-ascend sets expandable_segments:True by itself unless sleep mode is on",
    ),
    Variable("TASK_QUEUE_ENABLE", Choice(("0", "1", "2")), "torch_npu", "1"),
    Variable(
        "CPU_AFFINITY_CONF",
        Pattern(
            "0, 1 or 2, then npuN:A-B and npu_affine:0 or 1 with commas between",
            r"(?:mode:)?[012](?:,(?:npu\d+:\d+(?:-\d+)?|npu_affine:[01]))*",
        ),
        "torch_npu",
    ),
)

_CANN = (
    Variable(
        "ASCEND_RT_VISIBLE_DEVICES",
        Pattern("device ids with commas between, each once", r"(?!.*\b(\d+)\b.*\b\1\b)\d+(?:,\d+)*"),
        "cann",
    ),
    Variable("ASCEND_LAUNCH_BLOCKING", _SWITCH, "torch_npu", "0"),
    Variable("ACL_OP_INIT_MODE", Whole(0, 9), "vllm-ascend"),
)

_HOST = (
    Variable("GLOO_SOCKET_IFNAME", Interfaces(several=True), "system"),
    Variable("TP_SOCKET_IFNAME", Interfaces(), "system"),
    Variable(
        "OMP_PROC_BIND", Choice(("false", "true", "close", "spread", "master", "primary"), True), "system"
    ),
    Variable(
        "OMP_NUM_THREADS", Pattern("a whole number of 1 or more", r"[1-9]\d{0,4}(?:,[1-9]\d{0,4})*"), "system"
    ),
    Variable(
        "PYTHONHASHSEED",
        Pattern("random, or a number from 0 to 4294967295", r"random|\d{1,10}"),
        "vllm-ascend",
        note="equal on every node that shares a KV pool",
    ),
)

_ADDITIONAL_CONFIG = "vllm-ascend takes it from additional_config now and says that the variable will go"
_SINCE_V091 = "it existed in vllm-ascend v0.9.1 only; newer ones take --data-parallel-* options"
_VLLM_OWN = "vLLM reads it only where --data-parallel-size is not given"

_VLLM = (
    Variable("VLLM_HOST_IP", HostAddress(), "vllm", note="the address that vLLM and Mooncake advertise"),
    *(
        Variable(f"VLLM_DP_{name}", form, "vllm", retired=_VLLM_OWN)
        for name, form in (
            ("SIZE", Whole(1, 65536)),
            ("RANK", Whole(0, 65535)),
            ("RANK_LOCAL", Whole(0, 65535)),
            ("MASTER_IP", HostAddress()),
            ("MASTER_PORT", Whole(1, 65535)),
        )
    ),
    Variable("VLLM_DP_SIZE_LOCAL", Whole(1, 65536), "vllm-ascend", retired=_SINCE_V091),
    Variable("VLLM_ASCEND_EXTERNAL_DP_LB_ENABLED", _SWITCH, "vllm-ascend", retired=_SINCE_V091),
    Variable("VLLM_RPC_TIMEOUT", Whole(1, None, "ms"), "vllm"),
    Variable("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", Whole(1, None, "s"), "vllm"),
    Variable("VLLM_ENGINE_READY_TIMEOUT_S", Whole(1, None, "s"), "vllm"),
    Variable("VLLM_WORKER_MULTIPROC_METHOD", Choice(("fork", "spawn")), "vllm"),
    Variable("VLLM_SLEEP_WHEN_IDLE", _SWITCH, "vllm-ascend"),
    Variable("VLLM_ASCEND_ENABLE_MLAPO", _SWITCH, "vllm-ascend", "1", retired=_ADDITIONAL_CONFIG),
    Variable(
        "VLLM_ASCEND_ENABLE_NZ", Choice(("0", "1", "2")), "vllm-ascend", "1", retired=_ADDITIONAL_CONFIG
    ),
    Variable(
        "VLLM_ASCEND_ENABLE_FUSED_MC2",
        Choice(("0", "1", "2")),
        "vllm-ascend",
        "0",
        retired=_ADDITIONAL_CONFIG,
    ),
    Variable("VLLM_ASCEND_BALANCE_SCHEDULING", _SWITCH, "vllm-ascend", retired=_ADDITIONAL_CONFIG),
    Variable(
        "VLLM_ASCEND_ENABLE_FLASHCOMM1", _SWITCH, "vllm-ascend", retired="vllm-ascend only warns about it"
    ),
    Variable("VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT", Whole(1, None, "s"), "vllm-ascend", "480"),
    Variable("VLLM_NIXL_ABORT_REQUEST_TIMEOUT", Whole(1, None, "s"), "vllm"),
    Variable("DYNAMIC_EPLB", _TRUTH, "vllm-ascend", "false"),
)

_OLD_TRANSPORT = "only the old Mooncake HCCL transport reads it"

_MOONCAKE = (
    Variable("ASCEND_CONNECT_TIMEOUT", _MILLISECONDS, "mooncake", "3000"),
    Variable("ASCEND_TRANSFER_TIMEOUT", _MILLISECONDS, "mooncake", "3000"),
    Variable("ASCEND_BASE_PORT", Whole(1024, 65535), "mooncake", "20000"),
    Variable("ASCEND_AUTO_CONNECT", _SWITCH, "mooncake", "1"),
    Variable("ASCEND_USE_ASYNC_TRANSFER", _SWITCH, "mooncake", "0"),
    Variable("ASCEND_USE_SHORT_CONNECTION", _SWITCH, "mooncake", "0"),
    Variable("ASCEND_THREAD_POOL_SIZE", Whole(1, 1024), "mooncake", "8"),
    Variable(
        "ASCEND_BUFFER_POOL", Pattern("COUNT:SIZE, 4:8 for example", r"\d{1,6}:\d{1,6}"), "mooncake", "0:0"
    ),
    Variable("ASCEND_ENABLE_USE_FABRIC_MEM", _SWITCH, "mooncake", generations=_A3),
    Variable("ASCEND_RDMA_TC", Whole(0, 255, step=4), "mooncake"),
    Variable("ASCEND_RDMA_SL", Whole(0, 7), "mooncake"),
    Variable("ASCEND_AGGREGATE_ENABLE", _SWITCH, "mooncake", retired=_OLD_TRANSPORT),
    Variable("ASCEND_TRANSPORT_PRINT", _SWITCH, "mooncake", retired=_OLD_TRANSPORT),
    Variable("ASCEND_A3_ENABLE", _SWITCH, "mooncake", retired=_OLD_TRANSPORT),
    Variable("MC_MIN_RPC_PORT", Whole(1, 65535), "mooncake", "15000"),
    Variable("MC_MAX_RPC_PORT", Whole(1, 65535), "mooncake", "17000"),
)

VARIABLES: Mapping[str, Variable] = {
    variable.name: variable
    for group in (_HCCL, _TORCH_NPU, _CANN, _HOST, _VLLM, _MOONCAKE)
    for variable in group
}

WILD_NAMES: Mapping[str, WildName] = {
    wild.name: wild
    for wild in (
        WildName("HCCL_BUFFER_SIZE", "HCCL_BUFFSIZE", "the buffer keeps its 200 MB"),
        WildName(
            "HCCL_TRANSFER_TIMEOUT", "ASCEND_TRANSFER_TIMEOUT", "the transfer keeps its default timeout"
        ),
        WildName("HCCL_LOCAL_IP", "HCCL_IF_IP", "HCCL picks the address by itself"),
        WildName("HCCL_IFNAME", "HCCL_SOCKET_IFNAME", "HCCL picks the NIC by itself"),
    )
}

# Every name that begins like this belongs to HCCL, so that one which is not in the table does nothing.
OWNED_PREFIX = "HCCL_"
# HCOMM_* are read on the generation after A3 only.
LATER_PREFIX = "HCOMM_"
