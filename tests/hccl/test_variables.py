"""The table of variables against the documented ranges, both directions."""

from __future__ import annotations

import pytest

from ascendctl.facts import Generation
from ascendctl.hccl.forms import is_virtual
from ascendctl.hccl.variables import VARIABLES, WILD_NAMES

# name: texts that are taken, texts that are not.
ROWS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "HCCL_IF_IP": (
        ("10.0.0.1", "fd00::1"),
        ("127.0.0.1", "::1", "0.0.0.0", "10.0.0", "host1", "", "224.0.0.1"),
    ),
    "HCCL_SOCKET_IFNAME": (
        ("eth0", "=eth0", "^eth", "^=eth0", "eth0,eth1", "=bond0.100", "^docker0"),
        ("", "lo", "=lo", "docker0", "=docker0", "a b", "eth0,,eth1", "aninterfacetoolong"),
    ),
    "HCCL_SOCKET_FAMILY": (("AF_INET", "AF_INET6"), ("INET", "af_inet", "4")),
    "HCCL_IF_BASE_PORT": (("1024", "60000", "65520"), ("1023", "65521", "x", "")),
    "HCCL_HOST_SOCKET_PORT_RANGE": (
        ("auto", "61000-61050", "61000,61010-61020", "1-65535"),
        ("0-5", "5-4", "65536", "a-b", "", "61000-", "auto,1"),
    ),
    "HCCL_NPU_SOCKET_PORT_RANGE": (("auto", "16666-16673"), ("70000",)),
    "HCCL_BUFFSIZE": (("1", "200", "2560"), ("0", "-1", "1.5", "200MB", "", "1" * 5000)),
    "HCCL_CONNECT_TIMEOUT": (("120", "7200"), ("119", "7201", "two")),
    "HCCL_EXEC_TIMEOUT": (("0", "1836", "2147483647"), ("-1", "2147483648")),
    "HCCL_INTRA_PCIE_ENABLE": (("0", "1"), ("2", "true")),
    "HCCL_INTRA_ROCE_ENABLE": (("0", "1"), ("2", "TRUE")),
    "HCCL_INTER_HCCS_DISABLE": (("TRUE", "FALSE", "true"), ("1", "yes")),
    "HCCL_OP_EXPANSION_MODE": (
        ("AIV", "AI_CPU", "HOST", "HOST_TS", "AICPU_CacheDisable"),
        ("aiv", "AICPU", ""),
    ),
    "HCCL_DETERMINISTIC": (("true", "false", "strict", "True"), ("1", "on")),
    "HCCL_LOGIC_SUPERPOD_ID": (("pod-a", "x" * 127), ("x" * 128, "")),
    "HCCL_RDMA_TC": (("0", "132", "252"), ("133", "256", "-4")),
    "HCCL_RDMA_SL": (("0", "7"), ("8", "-1")),
    "HCCL_RDMA_TIMEOUT": (("5", "20"), ("4", "21")),
    "HCCL_RDMA_RETRY_CNT": (("1", "7"), ("0", "8")),
    "HCCL_RDMA_QPS_PER_CONNECTION": (("1", "32"), ("0", "33")),
    "HCCL_MULTI_QP_THRESHOLD": (("1", "8192"), ("0", "8193")),
    "HCCL_RDMA_PCIE_DIRECT_POST_NOSTRICT": (("TRUE", "FALSE"), ("0",)),
    "HCCL_ALGO": (
        ("level0:NA;level1:H-D_R", "level0:NA;level1:NHR;level2:pipeline", "level0:fullmesh"),
        ("ring", "level3:ring", "level0:NA,level1:ring", ""),
    ),
    "HCCL_OP_RETRY_ENABLE": (("L1:0,L2:0", "L0:0, L1:1, L2:1"), ("1", "L3:1", "L1:2")),
    "HCCL_OP_RETRY_PARAMS": (
        ("MaxCnt:3,HoldTime:5000,IntervalTime:1000", "MaxCnt:10,HoldTime:60000,IntervalTime:0"),
        ("MaxCnt:0", "MaxCnt:11", "HoldTime:60001", "Foo:1"),
    ),
    "HCCL_DFS_CONFIG": (
        (
            "connection_fault_detection_time:0",
            "connection_fault_detection_time:20,cluster_heartbeat:on",
            "connection_fault_detection_time:7200",
        ),
        (
            "connection_fault_detection_time:19",
            "connection_fault_detection_time:7201",
            "connection_fault_detection_time:1",
            "heartbeat:on",
        ),
    ),
    "HCCL_WHITELIST_DISABLE": (("0", "1"), ("2",)),
    "HCCL_EVENT_TIMEOUT": (("1868", "0"), ("-1", "x")),
    "P2P_HCCL_BUFFSIZE": (("0", "20"), ("-1",)),
    "PYTORCH_NPU_ALLOC_CONF": (
        (
            "expandable_segments:True",
            "expandable_segments:False,max_split_size_mb:21",
            "garbage_collection_threshold:0.8",
            "base_addr_aligned_kb:16",
        ),
        (
            "expandable_segments=True",
            "expandable_segments:true",
            "max_split_size_mb:20",
            "garbage_collection_threshold:1",
            "garbage_collection_threshold:0",
            "garbage_collection_threshold:.",
            "base_addr_aligned_kb:17",
            "expandable_segment:True",
            "",
        ),
    ),
    "TASK_QUEUE_ENABLE": (("0", "1", "2"), ("3", "true")),
    "GLOO_SOCKET_IFNAME": (("eth0", "eth0,eth1"), ("=eth0", "^eth0", "lo", "docker0", "")),
    "TP_SOCKET_IFNAME": (("eth0",), ("=eth0", "eth0,eth1", "lo")),
    "ASCEND_RT_VISIBLE_DEVICES": (("0", "0,1,2,15"), ("0,0", "0,1,0", "0-3", "")),
    "OMP_NUM_THREADS": (("1", "10"), ("0", "-1")),
    "PYTHONHASHSEED": (("0", "random"), ("abc",)),
    "CPU_AFFINITY_CONF": (("0", "1,npu0:0-1,npu_affine:0"), ("3", "npu0:0-1")),
    "ASCEND_CONNECT_TIMEOUT": (("10000",), ("10s",)),
    "ASCEND_BUFFER_POOL": (("4:8", "0:0"), ("4",)),
}

CASES = [(name, text, True) for name, (good, _) in ROWS.items() for text in good]
CASES += [(name, text, False) for name, (_, wrong) in ROWS.items() for text in wrong]


@pytest.mark.parametrize(
    ("name", "text", "taken"), CASES, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(CASES)]
)
def test_values(name: str, text: str, taken: bool) -> None:
    problem = VARIABLES[name].form.problem(text)
    assert (problem == "") is taken, problem or "it was taken"


@pytest.mark.parametrize(
    ("generation", "mode", "taken"),
    [
        (Generation.A2, "HOST", True),
        (Generation.A3, "HOST", False),
        (Generation.A2, "AICPU_CacheDisable", False),
        (Generation.A3, "AICPU_CacheDisable", True),
        (Generation.A2, "AIV", True),
        (Generation.A3, "AIV", True),
    ],
)
def test_expansion_modes_by_generation(generation: Generation, mode: str, taken: bool) -> None:
    form = VARIABLES["HCCL_OP_EXPANSION_MODE"].form_on(generation)
    assert (form.problem(mode) == "") is taken


def test_every_default_is_a_value_and_every_entry_says_what_it_expects() -> None:
    for variable in VARIABLES.values():
        assert variable.form.expected
        assert variable.source
        if variable.default and not variable.only:
            assert variable.form.problem(variable.default) == "", variable.name
    for wild in WILD_NAMES.values():
        assert wild.name not in VARIABLES
        assert wild.meant in VARIABLES


@pytest.mark.parametrize(
    ("interface", "virtual"),
    [
        *((name, True) for name in ("docker0", "docker_gwbridge", "br-0123456789ab", "veth1a2b", "virbr0")),
        *(
            (name, True)
            for name in ("cni0", "flannel.1", "cali12ab", "end0v0", "kube-ipvs0", "tunl0", "dummy0")
        ),
        *(
            (name, False)
            for name in ("eth0", "enp67s0f5", "bond0", "bond0.100", "br0", "br-ex", "ens1f0", "ib0")
        ),
        *((name, False) for name in ("enP1s2", "team0", "p1p1", "end0", "vlan100")),
    ],
)
def test_virtual_nics(interface: str, virtual: bool) -> None:
    assert is_virtual(interface) is virtual
