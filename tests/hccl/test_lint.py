"""Linting: every rule broken once is caught, and what keeps it is not accused."""

from __future__ import annotations

import pytest

from ascendctl.facts import Generation
from ascendctl.hccl.finding import Severity
from ascendctl.hccl.launch_text import read_launch_text
from ascendctl.hccl.lint import lint

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE


def env(*pairs: str) -> str:
    return "#!/bin/sh\n" + "".join(f"export {pair}\n" for pair in pairs)


AIV = "HCCL_OP_EXPANSION_MODE=AIV"

# rule, severity, a text that breaks it, one next to it that does not.
RULES: list[tuple[str, Severity, str, str]] = [
    ("unknown-name", ERROR, env("HCCL_BUFFERSIZE=600"), env("HCCL_BUFFSIZE=600")),
    ("unknown-name", ERROR, env("HCCL_BUFFER_SIZE=600"), env("HCCL_BUFFSIZE=600")),
    ("unknown-name", ERROR, env("HCCL_TRANSFER_TIMEOUT=1000"), env("ASCEND_TRANSFER_TIMEOUT=1000")),
    ("unknown-name", ERROR, env("HCLL_BUFFSIZE=600"), env("HCCL_BUFFSIZE=600")),
    ("unknown-name", ERROR, env("hccl_if_ip=10.0.0.1"), env("HCCL_IF_IP=10.0.0.1")),
    ("unknown-name", WARNING, env("HCCL_QWERTZUIOP=1"), env("MY_QWERTZUIOP=1")),
    (
        "unknown-name",
        WARNING,
        env("HCCL_LOCAL_IP=10.0.0.1", "HCCL_IF_IP=$HCCL_LOCAL_IP"),
        env("LOCAL_IP=10.0.0.1", "HCCL_IF_IP=$LOCAL_IP"),
    ),
    ("unknown-name", WARNING, env("HCOMM_X=1"), env("MY_HCOMM_X=1")),
    ("value", ERROR, env("HCCL_CONNECT_TIMEOUT=60"), env("HCCL_CONNECT_TIMEOUT=120")),
    ("value", ERROR, env("HCCL_IF_IP=127.0.0.1"), env("HCCL_IF_IP=10.0.0.1")),
    ("value", ERROR, env("HCCL_SOCKET_IFNAME=docker0"), env("HCCL_SOCKET_IFNAME==eth0")),
    ("value", ERROR, env("TP_SOCKET_IFNAME==eth0"), env("TP_SOCKET_IFNAME=eth0")),
    ("value", ERROR, env("HCCL_BUFFSIZE="), env("HCCL_BUFFSIZE=1")),
    (
        "intra-links",
        ERROR,
        env("HCCL_INTRA_PCIE_ENABLE=1", "HCCL_INTRA_ROCE_ENABLE=1"),
        env("HCCL_INTRA_PCIE_ENABLE=1", "HCCL_INTRA_ROCE_ENABLE=0"),
    ),
    ("intra-links", ERROR, env("HCCL_INTRA_PCIE_ENABLE=0"), env("HCCL_INTRA_PCIE_ENABLE=1")),
    ("intra-links", ERROR, env("HCCL_INTRA_ROCE_ENABLE=0"), env("HCCL_INTRA_ROCE_ENABLE=1")),
    (
        "intra-links",
        ERROR,
        env("HCCL_INTRA_ROCE_ENABLE=0"),
        env("HCCL_INTRA_PCIE_ENABLE=0", "HCCL_INTRA_ROCE_ENABLE=0"),
    ),
    (
        "exec-timeout",
        WARNING,
        env("HCCL_CONNECT_TIMEOUT=1200", "HCCL_EXEC_TIMEOUT=204"),
        env("HCCL_CONNECT_TIMEOUT=1200", "HCCL_EXEC_TIMEOUT=1201"),
    ),
    (
        "exec-timeout",
        WARNING,
        env("HCCL_CONNECT_TIMEOUT=1200", "HCCL_EXEC_TIMEOUT=1200"),
        env("HCCL_CONNECT_TIMEOUT=1200", "HCCL_EXEC_TIMEOUT=0"),
    ),
    ("exec-timeout", WARNING, env("HCCL_CONNECT_TIMEOUT=1836"), env("HCCL_CONNECT_TIMEOUT=1835")),
    ("exec-timeout", WARNING, env("HCCL_EXEC_TIMEOUT=120"), env("HCCL_EXEC_TIMEOUT=204")),
    (
        "event-timeout",
        ERROR,
        env("HCCL_EVENT_TIMEOUT=1000", "HCCL_EXEC_TIMEOUT=1000"),
        env("HCCL_EVENT_TIMEOUT=1001", "HCCL_EXEC_TIMEOUT=1000"),
    ),
    ("event-timeout", ERROR, env("HCCL_EVENT_TIMEOUT=1836"), env("HCCL_EVENT_TIMEOUT=1868")),
    (
        "event-timeout",
        ERROR,
        env("HCCL_EVENT_TIMEOUT=5000", "HCCL_EXEC_TIMEOUT=0"),
        env("HCCL_EXEC_TIMEOUT=0"),
    ),
    ("aiv-determinism", WARNING, env(AIV, "HCCL_DETERMINISTIC=True"), env(AIV, "HCCL_DETERMINISTIC=false")),
    (
        "aiv-determinism",
        WARNING,
        env(AIV, "HCCL_DETERMINISTIC=strict"),
        env("HCCL_OP_EXPANSION_MODE=AI_CPU", "HCCL_DETERMINISTIC=strict"),
    ),
    ("aiv-exec-timeout", WARNING, env(AIV, "HCCL_EXEC_TIMEOUT=1092"), env(AIV, "HCCL_EXEC_TIMEOUT=1091")),
    (
        "retry-expansion",
        WARNING,
        env(AIV, "HCCL_OP_RETRY_ENABLE=L1:1"),
        env(AIV, "HCCL_OP_RETRY_ENABLE=L1:0"),
    ),
    (
        "strict-hccs",
        ERROR,
        env("HCCL_DETERMINISTIC=strict", "HCCL_INTER_HCCS_DISABLE=TRUE"),
        env("HCCL_DETERMINISTIC=true", "HCCL_INTER_HCCS_DISABLE=TRUE"),
    ),
    (
        "allocator",
        ERROR,
        env("PYTORCH_NPU_ALLOC_CONF=expandable_segments:True,max_split_size_mb:250"),
        env("PYTORCH_NPU_ALLOC_CONF=expandable_segments:False,max_split_size_mb:250"),
    ),
    (
        "allocator",
        ERROR,
        env("PYTORCH_NPU_ALLOC_CONF=expandable_segments:True,garbage_collection_threshold:0.8"),
        env("PYTORCH_NPU_ALLOC_CONF=expandable_segments:True"),
    ),
    (
        "p2p-connect-timeout",
        WARNING,
        env("P2P_HCCL_BUFFSIZE=20", "HCCL_CONNECT_TIMEOUT=599"),
        env("P2P_HCCL_BUFFSIZE=20", "HCCL_CONNECT_TIMEOUT=600"),
    ),
    ("p2p-connect-timeout", WARNING, env("P2P_HCCL_BUFFSIZE=20"), env("P2P_HCCL_BUFFSIZE=0")),
    (
        "address-family",
        ERROR,
        env("HCCL_IF_IP=fd00::1"),
        env("HCCL_IF_IP=fd00::1", "HCCL_SOCKET_FAMILY=AF_INET6"),
    ),
    (
        "address-family",
        ERROR,
        env("HCCL_IF_IP=10.0.0.1", "HCCL_SOCKET_FAMILY=AF_INET6"),
        env("HCCL_IF_IP=10.0.0.1", "HCCL_SOCKET_FAMILY=AF_INET"),
    ),
    (
        "one-nic",
        WARNING,
        env("HCCL_SOCKET_IFNAME==eth1", "GLOO_SOCKET_IFNAME=eth10"),
        env("HCCL_SOCKET_IFNAME==eth1", "GLOO_SOCKET_IFNAME=eth1"),
    ),
    (
        "one-nic",
        WARNING,
        env("HCCL_SOCKET_IFNAME=eth", "GLOO_SOCKET_IFNAME=bond0"),
        env("HCCL_SOCKET_IFNAME=eth", "GLOO_SOCKET_IFNAME=eth1"),
    ),
    (
        "one-nic",
        WARNING,
        env("GLOO_SOCKET_IFNAME=eth0", "TP_SOCKET_IFNAME=eth1"),
        env("GLOO_SOCKET_IFNAME=eth0", "HCCL_SOCKET_IFNAME=^docker"),
    ),
    (
        "host-ports",
        WARNING,
        env("HCCL_IF_BASE_PORT=50000", "HCCL_HOST_SOCKET_PORT_RANGE=auto"),
        env("HCCL_IF_BASE_PORT=50000"),
    ),
    (
        "task-queue",
        WARNING,
        env("TASK_QUEUE_ENABLE=2", "ASCEND_LAUNCH_BLOCKING=1"),
        env("TASK_QUEUE_ENABLE=0", "ASCEND_LAUNCH_BLOCKING=1"),
    ),
    ("rpc-ports", ERROR, env("MC_MIN_RPC_PORT=18000"), env("MC_MIN_RPC_PORT=16000")),
    ("buffer-size", ERROR, env("HCCL_BUFFSIZE=1048576"), env("HCCL_BUFFSIZE=2560")),
    ("buffer-size", WARNING, env("HCCL_BUFFSIZE=8192"), env("HCCL_BUFFSIZE=8191")),
    ("prefix", NOTE, env("HCCL_SOCKET_IFNAME=eth1"), env("HCCL_SOCKET_IFNAME==eth1")),
    ("rank-table-path", WARNING, env("RANK_TABLE_FILE=./table.json"), env("RANK_TABLE_FILE=/etc/table.json")),
    ("retired", WARNING, env("VLLM_ASCEND_EXTERNAL_DP_LB_ENABLED=1"), env("VLLM_SLEEP_WHEN_IDLE=1")),
    ("not-exported", WARNING, "#!/bin/sh\nHCCL_BUFFSIZE=600\n", "#!/bin/sh\nset -a\nHCCL_BUFFSIZE=600\n"),
    (
        "not-exported",
        WARNING,
        "HCCL_BUFFSIZE=600\nvllm serve m\n",
        "HCCL_BUFFSIZE=600\nexport HCCL_BUFFSIZE\nvllm serve m\n",
    ),
    ("blanks", ERROR, "export HCCL_BUFFSIZE = 600\n", "export HCCL_BUFFSIZE=600\n"),
    ("blanks", ERROR, "HCCL_BUFFSIZE = 600\n", "MY_OWN = 600\n"),
    ("not-judged", NOTE, env("HCCL_BUFFSIZE=$1"), env("HCCL_BUFFSIZE=1")),
    ("not-judged", NOTE, "env:\n- name: HCCL_BUFFSIZE\n  value: '200'\n", env("HCCL_BUFFSIZE=200")),
    ("not-judged", NOTE, "docker run --env-file e.env image\n", "docker run image\n"),
    ("not-judged", NOTE, "cat > e <<EOF\nHCCL_BUFFSIZE=0\nEOF\n", "cat > e <<EOF\nhello\nEOF\n"),
]


@pytest.mark.parametrize(
    ("rule", "severity", "broken", "kept"), RULES, ids=[f"{r[0]}-{i}" for i, r in enumerate(RULES)]
)
def test_every_rule_broken_once_is_caught(rule: str, severity: Severity, broken: str, kept: str) -> None:
    caught = [finding for finding in lint(broken).findings if finding.rule == rule]
    assert [finding.severity for finding in caught] == [severity]
    assert caught[0].what
    assert rule not in {finding.rule for finding in lint(kept).findings}


@pytest.mark.parametrize(
    ("text", "generation", "accused"),
    [
        ("HCCL_INTER_HCCS_DISABLE=TRUE", Generation.A2, True),
        ("HCCL_INTER_HCCS_DISABLE=TRUE", Generation.A3, False),
        ("HCCL_INTER_HCCS_DISABLE=TRUE", None, False),
        ("HCCL_RDMA_PCIE_DIRECT_POST_NOSTRICT=TRUE", Generation.A3, True),
        ("HCCL_RDMA_PCIE_DIRECT_POST_NOSTRICT=TRUE", Generation.A2, False),
    ],
)
def test_variables_of_one_generation(text: str, generation: Generation | None, accused: bool) -> None:
    assert ("generation" in {one.rule for one in lint(text, generation=generation).findings}) is accused


def test_a_near_miss_names_what_was_meant() -> None:
    (finding,) = lint(env("HCCL_BUFFERSIZE=600")).findings
    assert finding.expected == "HCCL_BUFFSIZE"
    assert finding.line == 2


def test_a_value_that_is_not_settled_breaks_no_combination() -> None:
    for text in (
        env("HCCL_CONNECT_TIMEOUT=7200", "HCCL_EXEC_TIMEOUT=$T"),
        env("HCCL_INTRA_PCIE_ENABLE=1", "HCCL_INTRA_ROCE_ENABLE=${R:-0}"),
        env("HCCL_IF_IP=fd00::1", "HCCL_SOCKET_FAMILY=$(family)"),
    ):
        assert {finding.rule for finding in lint(text).findings} == {"not-judged"}


def test_combinations_within_what_one_command_sees() -> None:
    pair = "HCCL_INTRA_PCIE_ENABLE=1", "HCCL_INTRA_ROCE_ENABLE=1"
    # A command sees what the script exported before it; a container does not.
    assert rules(f"export {pair[0]}\n{pair[1]} vllm serve m\n") == {"intra-links"}
    assert rules(f"export {pair[0]}\ndocker run -e {pair[1]} image\n") == set()
    assert rules(f"docker run -e {pair[0]} -e {pair[1]} image\n") == {"intra-links"}
    assert rules(f"{pair[0]} vllm serve m\n{pair[1]} vllm serve m\n") == set()
    assert rules(f"export {pair[0]}\nunset HCCL_INTRA_PCIE_ENABLE\nexport {pair[1]}\n") == set()
    # The last assignment counts.
    assert rules(f"export {pair[0]} {pair[1]}\nexport HCCL_INTRA_ROCE_ENABLE=0\n") == set()


def rules(text: str) -> set[str]:
    return {finding.rule for finding in lint(text).findings}


# --- how texts are read ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("export HCCL_BUFFSIZE=600", ["600"]),
        ("export HCCL_BUFFSIZE='6'\"0\"0 OTHER=1 # comment", ["600"]),
        ("\texport HCCL_BUFFSIZE=600;run", ["600"]),
        ("# export HCCL_BUFFSIZE=600\ntrue", []),
        ("echo 'export nothing'", []),
        ("HCCL_BUFFSIZE=600 vllm serve m", ["600"]),
        ("HCCL_BUFFSIZE=600 \\\n  vllm serve m", ["600"]),
        ("env -u X HCCL_BUFFSIZE=600 vllm serve m", ["600"]),
        ("nohup env HCCL_BUFFSIZE=600 vllm serve m > log 2>&1 &", ["600"]),
        ("declare -x HCCL_BUFFSIZE=600", ["600"]),
        ("setenv HCCL_BUFFSIZE 600", ["600"]),
        ("ENV HCCL_BUFFSIZE=600 B=2", ["600"]),
        ("ENV HCCL_BUFFSIZE 600", ["600"]),
        ("docker run -e HCCL_BUFFSIZE=600 img", ["600"]),
        ("docker run --env HCCL_BUFFSIZE=600 img", ["600"]),
        ("docker run --env=HCCL_BUFFSIZE=600 img", ["600"]),
        ("docker run \\\n  -eHCCL_BUFFSIZE=600 \\\n  -e 'A=b c' img", ["600"]),
        ('docker run -e "HCCL_BUFFSIZE=600" img', ["600"]),
        ("bash -c 'export HCCL_BUFFSIZE=600; run'", ["600"]),
        ('ssh node1 "cd /x && HCCL_BUFFSIZE=600 run"', ["600"]),
        ("if true; then export HCCL_BUFFSIZE=600; else export HCCL_BUFFSIZE=7; fi", ["600", "7"]),
        ("case $1 in\np) export HCCL_BUFFSIZE=600;;\nesac", ["600"]),
        ("N=600\nexport HCCL_BUFFSIZE=$N", ["600"]),
        ('N=600\nexport HCCL_BUFFSIZE="${N}"', ["600"]),
        ("N=600\nN=7\nexport HCCL_BUFFSIZE=$N", [None]),
        ("export HCCL_BUFFSIZE=$N\nN=600", [None]),
        ("export HCCL_BUFFSIZE=$1", [None]),
        ("export HCCL_BUFFSIZE=${N:-600}", [None]),
        ("export HCCL_BUFFSIZE=$(cat size)", [None]),
        ("export HCCL_BUFFSIZE=`cat size`", [None]),
        ("export HCCL_BUFFSIZE=$((2 * 300))", [None]),
        ("export HCCL_BUFFSIZE+=0", [None]),
        ("export HCCL_BUFFSIZE='$N'", ["$N"]),
        ("export HCCL_BUFFSIZE='600\nx", [None]),
        ("cat <<'END'\nexport HCCL_BUFFSIZE=600\nEND\ntrue", []),
        ("A=1\nHCCL_BUFFSIZE=600\nB=x y z\n", ["600"]),
        ('A=1\nHCCL_BUFFSIZE="600"\n', ["600"]),
        ("A=1\r\nHCCL_BUFFSIZE=600\r\n", ["600"]),
        ("\ufeffHCCL_BUFFSIZE=600\n", ["600"]),
        ("A=1\nHCCL_BUFFSIZE=$A\n", ["1"]),
    ],
)
def test_what_is_read(text: str, values: list[str | None]) -> None:
    found = [a for a in read_launch_text(text).assignments if a.name == "HCCL_BUFFSIZE"]
    assert [a.value for a in found] == values


def test_lines_are_those_of_the_file() -> None:
    text = "true\n\ndocker run \\\n  -e HCCL_BUFFSIZE=0 \\\n  img bash -c 'a\nexport HCCL_RDMA_SL=9'\n"
    assert [(one.variable, one.line) for one in lint(text).findings] == [
        ("HCCL_BUFFSIZE", 4),
        ("HCCL_RDMA_SL", 6),
    ]


def test_no_text_breaks_the_reader() -> None:
    pieces = [
        "export ",
        "HCCL_BUFFSIZE=",
        "$",
        "${",
        "$(",
        "`",
        "'",
        '"',
        "\\",
        "\n",
        "<<E",
        ";",
        "=",
        " ",
        "-e",
        "docker ",
    ]
    for first in pieces:
        for second in pieces:
            for third in pieces:
                lint(first + second + third)
