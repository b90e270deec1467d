"""Error codes of HCCL (EI…, EJ…) and HIXL (numbers): what they mean and what leads to them.

Sources: HCCL's fault diagnosis and error-code documentation, HIXL's error-code page, the fault
knowledge of MindCluster, and user reports to vllm-ascend. Retold, not quoted.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """What may have led to a code. ``checks``: ids of the checks that look for it beforehand."""

    text: str
    checks: tuple[str, ...] = ()


@dataclass(frozen=True)
class ErrorCode:
    """One code, with what leads to it."""

    code: str
    title: str
    meaning: str
    causes: tuple[Cause, ...]
    remedy: str

    @property
    def checks(self) -> tuple[str, ...]:
        """Ids of all the checks that look for one of its causes."""
        return tuple(dict.fromkeys(check for cause in self.causes for check in cause.checks))


_HCCL = (
    ErrorCode(
        "EI0001",
        "An environment variable of HCCL is not valid",
        "HCCL read its settings at start and one of them cannot be used on this host.",
        (
            Cause("an HCCL_* value outside its range"),
            Cause("HCCL_SOCKET_IFNAME matches no network interface of the host", ("host-net",)),
            Cause("HCCL_IF_IP is not an address of this host", ("host-net",)),
            Cause("some ranks use IPv4 and others IPv6", ("address",)),
        ),
        "Compare the variables with `ip -o addr show` on each host and use one address family everywhere.",
    ),
    ErrorCode(
        "EI0002",
        "Waiting for a peer's notification timed out",
        "A collective was started, and another rank did not arrive within HCCL_EXEC_TIMEOUT (1836 s unless "
        "set).",
        (
            Cause("a peer's process died or hangs"),
            Cause("the ranks ran different operators, or the same in another order"),
            Cause(
                "a device or a link failed while the job ran",
                ("npu-health", "ecc", "hccs-links", "speed", "mesh", "mesh-hccs", "mesh-roce"),
            ),
        ),
        "Find the rank that failed first by the time stamps of all logs; its error is the cause.",
    ),
    ErrorCode(
        "EI0004",
        "The rank table file cannot be used",
        "The file named by RANK_TABLE_FILE cannot be read or a field in it is missing or wrong.",
        (
            Cause("wrong path or file permission"),
            Cause("not valid JSON"),
            Cause(
                "a missing field, for example super_device_id in version 1.2", ("spod-info", "npu-mapping")
            ),
        ),
        "Generate the rank table anew from the running hosts, and give every rank the same file.",
    ),
    ErrorCode(
        "EI0005",
        "The ranks' arguments do not match",
        "The ranks compared what they were called with, and it differs.",
        (
            Cause("HCCL_BUFFSIZE differs between ranks"),
            Cause("rank tables differ between hosts"),
            Cause("the ranks call different collectives"),
        ),
        "Start every rank from one generated set of variables and files.",
    ),
    ErrorCode(
        "EI0006",
        "Connecting to a peer's device timed out",
        "The sockets between devices did not come up within HCCL_CONNECT_TIMEOUT.",
        (
            Cause("a peer is late or its process has died"),
            Cause(
                "a device's link is down, or goes up and down",
                ("link", "net-health", "link-flaps", "optical", "fec"),
            ),
            Cause(
                "device addresses cannot reach each other: wrong segment or gateway, an address on two ports",
                (
                    "address",
                    "gateway",
                    "netdetect",
                    "segments",
                    "gateways-equal",
                    "duplicate-address",
                    "hccn-conf",
                ),
            ),
            Cause("the scale-up network (HCCS) of a super pod does not connect them", ("vnic", "mesh-hccs")),
            Cause(
                "a device, host, leaf switch or super pod loses what is sent through it",
                ("mesh", "mesh-roce", "mesh-hccs"),
            ),
            Cause("the TLS switch differs, on drivers before 25.2", ("tls-switch", "tls")),
            Cause("two physical super pods are taken for one logical super pod", ("super-pods", "spod-info")),
            Cause("drivers or firmware differ between hosts", ("versions-equal",)),
        ),
        "Run `ascendctl explain EI0006 --run --inventory FILE`: it looks for these causes on the hosts.",
    ),
    ErrorCode(
        "EI0007",
        "A resource could not be had",
        "Memory for queue pairs or notifications could not be allocated on the device.",
        (
            Cause("too little free HBM", ("hbm-use",)),
            Cause("too many connections or communication groups"),
        ),
        "Leave more HBM free (lower gpu-memory-utilization or HCCL_BUFFSIZE), and use fewer groups.",
    ),
    ErrorCode(
        "EI0008",
        "Package versions differ between ranks",
        "HCCL of the ranks comes from different CANN versions.",
        (Cause("hosts or containers with different CANN packages", ("versions-equal", "versions")),),
        "Use the same container image, or the same CANN version, on every host.",
    ),
    ErrorCode(
        "EI0009",
        "The transport could not be set up",
        "Two devices found each other, but the data channel between them failed to start.",
        (
            Cause("a link went down during the start", ("link",)),
            Cause("driver or firmware too old or different", ("versions-equal", "versions")),
        ),
        "Look at the link history of both ports and at the driver versions of both hosts.",
    ),
    ErrorCode(
        "EI0010",
        "Peer-to-peer access between devices failed",
        "Devices of one host could not map each other's memory.",
        (
            Cause("a HCCS link inside the host is down", ("hccs-links",)),
            Cause("a container without all the devices it needs"),
        ),
        "Check the HCCS links, and that the container was given every device with its manager nodes.",
    ),
    ErrorCode(
        "EI0011",
        "Not enough device memory",
        "Queue pairs or buffers of HCCL did not fit into the device's memory.",
        (
            Cause(
                "HBM was taken by the model or the KV cache, or by another process",
                ("hbm-use", "npu-processes"),
            ),
            Cause("a host whose NPUs have less memory than the others'", ("npu-model",)),
            Cause("HCCL_BUFFSIZE too large for the number of groups"),
        ),
        "Lower the engine's share of memory, or HCCL_BUFFSIZE.",
    ),
    ErrorCode(
        "EI0012",
        "An SDMA transfer failed",
        "A copy over the scale-up links ended with a hardware error.",
        (
            Cause("a HCCS link or lane is faulty", ("hccs-links", "hccs-errors", "npu-health")),
            Cause("the ranks ran different operators"),
        ),
        "Check the HCCS links and the device health on both ends.",
    ),
    ErrorCode(
        "EI0013",
        "A RoCE transfer ended with an error",
        "The completion queue of the RoCE port reported a failed transfer, usually after retries.",
        (
            Cause(
                "the link went down and up again, or damages packets",
                ("link", "link-flaps", "port-errors", "optical", "net-health", "mesh", "mesh-roce"),
            ),
            Cause(
                "MTU, speed, FEC, PFC or QoS settings of port and switch do not match",
                ("mtu", "mtu-equal", "speed", "fec"),
            ),
            Cause("the RDMA time-out is too short"),
        ),
        "Look at the link history (`hccn_tool -i N -link_stat -g`) and compare the settings of port and "
        "switch.",
    ),
    ErrorCode(
        "EI0014",
        "The rank table does not fit the hosts",
        "HCCL compared the rank table with the devices, and found a contradiction.",
        (
            Cause("device_ip is not the address of the device's port", ("address", "hccn-conf")),
            Cause(
                "an id or address appears twice, for example super_device_id within one super pod",
                ("super-pods", "spod-info", "duplicate-address"),
            ),
            Cause("fewer devices than the table names", ("npu-count", "npu-model")),
        ),
        "Generate the rank table anew from the live addresses and super pod ids.",
    ),
    ErrorCode(
        "EI0015",
        "The ranks could not agree who takes part",
        "Not every rank reached the root rank over the host network within HCCL_CONNECT_TIMEOUT.",
        (
            Cause(
                "the host network interfaces cannot reach each other, or the wrong one was chosen",
                ("host-net", "duplicate-address", "reachable"),
            ),
            Cause("the ranks started too far apart", ("clock",)),
            Cause("a rank is missing", ("npu-count", "npu-model")),
            Cause("open-file limit or TCP backlog too small for the number of ranks", ("open-files",)),
        ),
        "Check the host network and HCCL_SOCKET_IFNAME, start all ranks together, raise `ulimit -n`.",
    ),
    ErrorCode(
        "EI0016",
        "The TLS switch differs between ranks",
        "Some devices want TLS connections and others do not.",
        (Cause("`hccn_tool -tls` is set differently on some devices", ("tls-switch", "tls")),),
        "Set the same value on every device of the cluster: `hccn_tool -i N -tls -s enable 0` or `1`.",
    ),
    ErrorCode(
        "EI0019",
        "A port of the host could not be opened",
        "A TCP port that HCCL listens on is in use.",
        (
            Cause("another job on the same host", ("npu-processes",)),
            Cause("another service uses a port from 60000 to 60031"),
        ),
        "End the other process, or move the range with HCCL_HOST_SOCKET_PORT_RANGE.",
    ),
    ErrorCode(
        "EI0020",
        "A port of the device could not be opened",
        "The port on the NPU that HCCL listens on (16666 unless set) is in use.",
        (Cause("two processes share one NPU, or the previous one has not quite ended", ("npu-processes",)),),
        "Wait for the old process to end, or set HCCL_NPU_SOCKET_PORT_RANGE.",
    ),
    ErrorCode(
        "EJ0001",
        "The communication process on the device did not start",
        "HCCP, the driver's communication process on the NPU, could not be initialised.",
        (
            Cause("the previous process still holds the NPU: wait about ten seconds", ("npu-processes",)),
            Cause("two processes use one NPU", ("npu-processes",)),
            Cause("the NPU is at fault", ("npu-health",)),
        ),
        "See `npu-smi info` for processes on the NPU, end them, and start again.",
    ),
)

_HIXL = (
    ErrorCode(
        "103900",
        "HIXL: a parameter is not valid",
        "The transfer engine was called with something that it cannot use.",
        (
            Cause(
                "an address that is none of the device's, for example that of a container bridge",
                ("address", "hccn-conf"),
            ),
            Cause("memory that was never registered"),
        ),
        "Run the container with the host network, and check the addresses in the connector's settings.",
    ),
    ErrorCode(
        "103901",
        "HIXL: timed out",
        "Connecting or transferring took longer than its time-out.",
        (
            Cause(
                "the peer cannot be reached",
                ("link", "net-health", "address", "segments", "vnic", "mesh", "mesh-roce", "mesh-hccs"),
            ),
            Cause("the first connection needs more time than the time-out allows"),
        ),
        "Check the network between the two devices; raise the connect time-out (10 s is a good value).",
    ),
    ErrorCode(
        "103902",
        "HIXL: not connected",
        "A transfer was asked for with a peer that is not, or no longer, connected.",
        (
            Cause("the peer restarted"),
            Cause("the connection was lost", ("link-flaps", "port-errors")),
        ),
        "Connect again; look at the peer's log for why it left.",
    ),
    ErrorCode(
        "103903",
        "HIXL: already connected",
        "A connection to this peer exists already.",
        (
            Cause("the engine connects twice"),
            Cause("the peer restarted under the same name"),
        ),
        "Disconnect first; usually harmless when it appears once.",
    ),
    ErrorCode(
        "103904",
        "HIXL: a notification failed",
        "The peer could not be told about the transfer.",
        (Cause("the peer ended or is overloaded"),),
        "Look at the peer's log at the same time.",
    ),
    ErrorCode(
        "103905",
        "HIXL: not supported",
        "This product or driver cannot do this kind of transfer.",
        (
            Cause("HCCS transfers from host memory on A3 without a buffer pool"),
            Cause("a product or driver that HIXL does not know", ("versions",)),
        ),
        "Use RoCE for this transfer, or a newer driver.",
    ),
    ErrorCode(
        "503900",
        "HIXL: the transfer failed",
        "An internal failure; the reason stands in the log just before it.",
        (
            Cause("a link or device fault", ("link", "npu-health", "hccs-links")),
            Cause("an error of a lower layer"),
        ),
        "Look at the device log, then at links and device health of both sides.",
    ),
)

CODES: dict[str, ErrorCode] = {entry.code: entry for entry in (*_HCCL, *_HIXL)}
