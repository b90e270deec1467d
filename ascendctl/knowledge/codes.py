"""Error codes of HCCL (EI…, EJ…) and HIXL (numbers): what they mean and what leads to them.

Sources: HCCL's fault diagnosis and error-code documentation, HIXL's error-code page, the fault
knowledge of MindCluster, and user reports to vllm-ascend. Retold, not quoted.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorCode:
    """One code. ``checks``: ids of the checks that find its causes beforehand."""

    code: str
    title: str
    meaning: str
    causes: tuple[str, ...]
    remedy: str
    checks: tuple[str, ...] = ()


_HCCL = (
    ErrorCode(
        "EI0001",
        "An environment variable of HCCL is not valid",
        "HCCL read its settings at start and one of them cannot be used on this host.",
        (
            "an HCCL_* value outside its range",
            "HCCL_SOCKET_IFNAME matches no network interface of the host",
            "HCCL_IF_IP is not an address of this host",
            "some ranks use IPv4 and others IPv6",
        ),
        "Compare the variables with `ip -o addr show` on each host and use one address family everywhere.",
        ("address",),
    ),
    ErrorCode(
        "EI0002",
        "Waiting for a peer's notification timed out",
        "A collective was started, and another rank did not arrive within HCCL_EXEC_TIMEOUT (1836 s "
        "unless set).",
        (
            "a peer's process died or hangs",
            "the ranks ran different operators, or the same in another order",
            "a device or a link failed while the job ran",
        ),
        "Find the rank that failed first by the time stamps of all logs; its error is the cause.",
        ("npu-health", "hccs-links"),
    ),
    ErrorCode(
        "EI0004",
        "The rank table file cannot be used",
        "The file named by RANK_TABLE_FILE cannot be read or a field in it is missing or wrong.",
        (
            "wrong path or file permission",
            "not valid JSON",
            "a missing field, for example super_device_id in version 1.2",
        ),
        "Generate the rank table anew from the running hosts, and give every rank the same file.",
        ("spod-info", "npu-mapping"),
    ),
    ErrorCode(
        "EI0005",
        "The ranks' arguments do not match",
        "The ranks compared what they were called with, and it differs.",
        (
            "HCCL_BUFFSIZE differs between ranks",
            "rank tables differ between hosts",
            "the ranks call different collectives",
        ),
        "Start every rank from one generated set of variables and files.",
    ),
    ErrorCode(
        "EI0006",
        "Connecting to a peer's device timed out",
        "The sockets between devices did not come up within HCCL_CONNECT_TIMEOUT.",
        (
            "a peer is late or its process has died",
            "device addresses cannot reach each other: link down, wrong segment, missing gateway",
            "the TLS switch differs, on drivers before 25.2",
            "two physical super pods are taken for one logical super pod",
        ),
        "Run `ascendctl verify`: link, address, gateway, vnic and tls are what leads here most often.",
        ("link", "net-health", "address", "gateway", "vnic", "spod-info", "tls", "hccn-conf"),
    ),
    ErrorCode(
        "EI0007",
        "A resource could not be had",
        "Memory for queue pairs or notifications could not be allocated on the device.",
        ("too little free HBM", "too many connections or communication groups"),
        "Leave more HBM free (lower gpu-memory-utilization or HCCL_BUFFSIZE), and use fewer groups.",
    ),
    ErrorCode(
        "EI0008",
        "Package versions differ between ranks",
        "HCCL of the ranks comes from different CANN versions.",
        ("hosts or containers with different CANN packages",),
        "Use the same container image, or the same CANN version, on every host.",
        ("versions",),
    ),
    ErrorCode(
        "EI0009",
        "The transport could not be set up",
        "Two devices found each other, but the data channel between them failed to start.",
        ("a link went down during the start", "driver or firmware too old or different"),
        "Look at the link history of both ports and at the driver versions of both hosts.",
        ("link", "versions"),
    ),
    ErrorCode(
        "EI0010",
        "Peer-to-peer access between devices failed",
        "Devices of one host could not map each other's memory.",
        ("a HCCS link inside the host is down", "a container without all the devices it needs"),
        "Check the HCCS links, and that the container was given every device with its manager nodes.",
        ("hccs-links",),
    ),
    ErrorCode(
        "EI0011",
        "Not enough device memory",
        "Queue pairs or buffers of HCCL did not fit into the device's memory.",
        ("HBM was taken by the model or the KV cache", "HCCL_BUFFSIZE too large for the number of groups"),
        "Lower the engine's share of memory, or HCCL_BUFFSIZE.",
    ),
    ErrorCode(
        "EI0012",
        "An SDMA transfer failed",
        "A copy over the scale-up links ended with a hardware error.",
        ("a HCCS link or lane is faulty", "the ranks ran different operators"),
        "Check the HCCS links and the device health on both ends.",
        ("hccs-links", "npu-health"),
    ),
    ErrorCode(
        "EI0013",
        "A RoCE transfer ended with an error",
        "The completion queue of the RoCE port reported a failed transfer, usually after retries.",
        (
            "the link went down and up again",
            "MTU, PFC or QoS settings of port and switch do not match",
            "the RDMA time-out is too short",
        ),
        "Look at the link history (`hccn_tool -i N -link_stat -g`) and compare the settings of port and "
        "switch.",
        ("link", "net-health"),
    ),
    ErrorCode(
        "EI0014",
        "The rank table does not fit the hosts",
        "HCCL compared the rank table with the devices, and found a contradiction.",
        (
            "device_ip is not the address of the device's port",
            "an id appears twice, for example super_device_id within one super pod",
            "fewer devices than the table names",
        ),
        "Generate the rank table anew from the live addresses and super pod ids.",
        ("address", "hccn-conf", "spod-info", "npu-count"),
    ),
    ErrorCode(
        "EI0015",
        "The ranks could not agree who takes part",
        "Not every rank reached the root rank over the host network within HCCL_CONNECT_TIMEOUT.",
        (
            "the host network interfaces cannot reach each other, or the wrong one was chosen",
            "the ranks started too far apart",
            "a rank is missing",
            "open-file limit or TCP backlog too small for the number of ranks",
        ),
        "Check the host network and HCCL_SOCKET_IFNAME, start all ranks together, raise `ulimit -n`.",
        ("npu-count", "reachable"),
    ),
    ErrorCode(
        "EI0016",
        "The TLS switch differs between ranks",
        "Some devices want TLS connections and others do not.",
        ("`hccn_tool -tls` is set differently on some devices",),
        "Set the same value on every device of the cluster: `hccn_tool -i N -tls -s enable 0` or `1`.",
        ("tls",),
    ),
    ErrorCode(
        "EI0019",
        "A port of the host could not be opened",
        "A TCP port that HCCL listens on is in use.",
        ("another job on the same host", "another service uses a port from 60000 to 60031"),
        "End the other process, or move the range with HCCL_HOST_SOCKET_PORT_RANGE.",
    ),
    ErrorCode(
        "EI0020",
        "A port of the device could not be opened",
        "The port on the NPU that HCCL listens on (16666 unless set) is in use.",
        ("two processes share one NPU", "the previous process has not quite ended"),
        "Wait for the old process to end, or set HCCL_NPU_SOCKET_PORT_RANGE.",
    ),
    ErrorCode(
        "EJ0001",
        "The communication process on the device did not start",
        "HCCP, the driver's communication process on the NPU, could not be initialised.",
        (
            "the previous process still holds the NPU: wait about ten seconds",
            "two processes use one NPU",
            "the NPU is at fault",
        ),
        "See `npu-smi info` for processes on the NPU, end them, and start again.",
        ("npu-health",),
    ),
)

_HIXL = (
    ErrorCode(
        "103900",
        "HIXL: a parameter is not valid",
        "The transfer engine was called with something that it cannot use.",
        ("an address of a container bridge instead of the host's", "memory that was never registered"),
        "Run the container with the host network, and check the addresses in the connector's settings.",
        ("hccn-conf",),
    ),
    ErrorCode(
        "103901",
        "HIXL: timed out",
        "Connecting or transferring took longer than its time-out.",
        ("the peer cannot be reached", "the first connection needs more time than the time-out allows"),
        "Check the network between the two devices; raise the connect time-out (10 s is a good value).",
        ("link", "net-health", "address", "vnic"),
    ),
    ErrorCode(
        "103902",
        "HIXL: not connected",
        "A transfer was asked for with a peer that is not, or no longer, connected.",
        ("the peer restarted", "the connection was lost"),
        "Connect again; look at the peer's log for why it left.",
    ),
    ErrorCode(
        "103903",
        "HIXL: already connected",
        "A connection to this peer exists already.",
        ("the engine connects twice", "the peer restarted under the same name"),
        "Disconnect first; usually harmless when it appears once.",
    ),
    ErrorCode(
        "103904",
        "HIXL: a notification failed",
        "The peer could not be told about the transfer.",
        ("the peer ended or is overloaded",),
        "Look at the peer's log at the same time.",
    ),
    ErrorCode(
        "103905",
        "HIXL: not supported",
        "This product or driver cannot do this kind of transfer.",
        ("HCCS transfers from host memory on A3 without a buffer pool", "a product that HIXL does not know"),
        "Use RoCE for this transfer, or a newer driver.",
        ("versions",),
    ),
    ErrorCode(
        "503900",
        "HIXL: the transfer failed",
        "An internal failure; the reason stands in the log just before it.",
        ("a link or device fault", "an error of a lower layer"),
        "Look at the device log, then at links and device health of both sides.",
        ("link", "npu-health"),
    ),
)

CODES: dict[str, ErrorCode] = {entry.code: entry for entry in (*_HCCL, *_HIXL)}
