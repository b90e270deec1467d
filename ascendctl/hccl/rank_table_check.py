"""Judging an existing rank table by itself: every rule that HCCL's documentation gives for a field. Pure.

Sources: HCCL's rank table documentation (1.0 for A2, 1.2 for A3) and its error codes: EI0004 = the file
cannot be used, EI0014 = it contradicts itself or the devices, EI0001 = two address families.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ascendctl.facts import Generation
from ascendctl.hccl.finding import Severity
from ascendctl.hccl.forms import HostAddress, address_of
from ascendctl.hccl.located_json import LocatedJsonError, Node, parse
from ascendctl.hccl.rank_table import BACKUP_DEVICE_PORT, DEVICE_PORT, LONGEST_SERVER_ID, Version
from ascendctl.topology import sdid
from ascendctl.topology.server import whole_server_counts

FILE_CODE = "EI0004"
CHECK_CODE = "EI0014"
ENVIRONMENT_CODE = "EI0001"


@dataclass(frozen=True)
class TableFinding:
    """One broken rule. ``rule``: its stable name; ``path``: the place, as ``$.server_list[0].server_id``;
    ``code``: what HCCL says of it, "" where that is not known."""

    rule: str
    severity: Severity
    line: int
    path: str
    expected: str
    seen: str
    code: str = ""


@dataclass(frozen=True)
class ClaimedDevice:
    """One device as the table has it; None where a field is absent or of no use. ``nodes``: its fields."""

    at: Node
    nodes: Mapping[str, Node]
    device: int | None = None
    rank: int | None = None
    device_ip: str | None = None
    super_device_id: int | None = None


@dataclass(frozen=True)
class ClaimedServer:
    """``pod``: the super pod that the table puts it into."""

    at: Node
    server_id: str
    devices: tuple[ClaimedDevice, ...]
    host_ip: str | None = None
    pod: str | None = None


@dataclass(frozen=True)
class TableJudgement:
    """``findings`` in the order of the file. ``servers`` is what a cluster can be held against."""

    findings: tuple[TableFinding, ...]
    version: Version | None = None
    servers: tuple[ClaimedServer, ...] = ()

    def count(self, severity: Severity) -> int:
        return sum(finding.severity is severity for finding in self.findings)

    @property
    def ranks(self) -> int:
        return sum(len(server.devices) for server in self.servers)


def check_rank_table(text: str, *, inter_hccs_disable: bool = False) -> TableJudgement:
    """Judge a rank table's text. ``inter_hccs_disable``: it is for HCCL_INTER_HCCS_DISABLE=TRUE."""
    try:
        root = parse(text)
    except LocatedJsonError as error:
        broken = TableFinding("json", Severity.ERROR, error.line, "$", error.expected, error.what, FILE_CODE)
        return TableJudgement((broken,))
    reader = _Reader(inter_hccs_disable)
    reader.read(root)
    findings = sorted(reader.findings, key=lambda finding: finding.line)
    return TableJudgement(tuple(findings), reader.version, tuple(reader.servers))


# --- what the fields are ----------------------------------------------------------------------------

_ROOT = ("status", "version", "server_count", "server_list", "super_pod_list")
_SERVER = ("server_id", "host_ip", "device")
_DEVICE = (
    "device_id",
    "super_device_id",
    "device_ip",
    "device_port",
    "backup_device_ip",
    "backup_device_port",
    "host_port",
    "rank_id",
)
_POD = ("super_pod_id", "server_list")
_POD_SERVER = ("server_id",)

# Written by other generators, and read by none of HCCL.
_KNOWN_EXTRAS = frozenset(
    {"container_ip", "hardware_type", "device_logical_id", "logic_device_id", "pod_name", "server_ip"}
)

_OTHER_TABLES = {
    "prefill_device_list": "what vllm-ascend's gen_ranktable.py once wrote for LLMDataDist",
    "decode_device_list": "what vllm-ascend's gen_ranktable.py once wrote for LLMDataDist",
    "server_group_list": "MindIE's global rank table",
}

_DEVICES_AT_MOST = max(max(whole_server_counts(generation)) for generation in Generation)
_PORTS = range(1, 65536)


@dataclass
class _Reader:
    inter_hccs_disable: bool
    findings: list[TableFinding] = field(default_factory=list)
    version: Version | None = None
    servers: list[ClaimedServer] = field(default_factory=list)

    def read(self, root: Node) -> None:
        if not isinstance(root.value, dict):
            self._error("structure", root, "an object with server_list", root.kind)
            return
        other = next((name for name in _OTHER_TABLES if name in root.value), None)
        if other:
            seen = f"{other}: {_OTHER_TABLES[other]}"
            self._error("other-table", root.value[other], "a rank table of HCCL, with server_list", seen)
            return
        top = self._fields(root, _ROOT)
        self._status(root, top)
        self._version(root, top)
        pods = self._pods(top.get("super_pod_list"))
        listed = top.get("server_list")
        if listed is None:
            self._missing(root, "server_list")
            return
        for node in self._items(listed, "a list of servers"):
            self._server(node, pods)
        self._server_count(root, top)
        self._between_servers(listed)
        self._between_devices(listed)
        self._between_pods(listed, top.get("super_pod_list"), pods)

    # --- the top ---

    def _status(self, root: Node, top: Mapping[str, Node]) -> None:
        status = self._text(root, top, "status", required=True)
        if status == "initializing":
            self._error("status", top["status"], "completed", "initializing: not to be used yet")
        elif status not in (None, "completed"):
            self._error("status", top["status"], "completed", _quoted(status))

    def _version(self, root: Node, top: Mapping[str, Node]) -> None:
        text = self._text(root, top, "version", required=True)
        if text is None:
            return
        try:
            self.version = Version(text)
        except ValueError:
            self._error("version", top["version"], "1.0 (A2, AI servers) or 1.2 (super pods)", _quoted(text))

    def _server_count(self, root: Node, top: Mapping[str, Node]) -> None:
        text = self._text(root, top, "server_count", required=False)
        if text is None:
            if "server_count" not in top and self.version is Version.V1_0:
                self._warn("missing-field", root, "server_count in version 1.0", "none", FILE_CODE)
        elif text != str(len(self.servers)):
            expected = f'"{len(self.servers)}", as many as in server_list'
            self._error("server-count", top["server_count"], expected, _quoted(text))

    # --- servers and devices ---

    def _server(self, node: Node, pods: Mapping[str, str]) -> None:
        known = self._fields(node, _SERVER)
        server_id = self._text(node, known, "server_id", required=True)
        if server_id is not None and not 1 <= len(server_id) <= LONGEST_SERVER_ID:
            expected = f"1 to {LONGEST_SERVER_ID} characters"
            self._error("server-id", known["server_id"], expected, f"{len(server_id)} characters")
        host_ip = self._address(node, known, "host_ip")
        devices = known.get("device")
        if devices is None:
            self._missing(node, "device")
        found = [self._device(one) for one in self._items(devices, "a list of devices")] if devices else []
        name = server_id if server_id is not None else node.path
        self.servers.append(ClaimedServer(node, name, tuple(found), host_ip, pods.get(name)))

    def _device(self, node: Node) -> ClaimedDevice:
        known = self._fields(node, _DEVICE)
        highest = _DEVICES_AT_MOST - 1
        device = self._number(node, known, "device_id", range(highest + 1), "device-id", required=True)
        rank = self._number(node, known, "rank_id", range(1 << 32), "rank-id", required=True)
        super_device_id = self._number(node, known, "super_device_id", range(sdid.INVALID), "super-device-id")
        device_ip = self._address(node, known, "device_ip")
        self._address(node, known, "backup_device_ip")
        for name in ("device_port", "backup_device_port", "host_port"):
            self._number(node, known, name, _PORTS, name.replace("_", "-"))
        return ClaimedDevice(node, known, device, rank, device_ip, super_device_id)

    def _between_servers(self, listed: Node) -> None:
        self._unique("server-id", self.servers, lambda one: one.server_id, "server_id", "server_id")
        with_ip = [server for server in self.servers if server.host_ip]
        self._unique("host-ip", with_ip, lambda one: one.host_ip, "host_ip", "host_ip")
        for server in self.servers:
            self._unique(
                "device-id",
                [one for one in server.devices if one.device is not None],
                lambda one: one.device,
                "device_id",
                "device_id on its server",
            )
            self._unique(
                "host-port",
                [one for one in server.devices if isinstance(_value(one, "host_port"), str)],
                lambda one: _value(one, "host_port"),
                "host_port",
                "host_port on its server",
            )
            self._die_pairs(server)
            self._backups(server)
        sizes = Counter(len(server.devices) for server in self.servers)
        if len(sizes) > 1:
            seen = ", ".join(f"{servers} with {count}" for count, servers in sorted(sizes.items()))
            self._warn("unequal-servers", listed, "as many devices on every server", seen)

    def _between_devices(self, listed: Node) -> None:
        devices = self._devices()
        self._ranks(listed)
        with_ip = [one for one in devices if one.device_ip]
        self._unique(
            "device-ip", with_ip, lambda one: address_of(one.device_ip or ""), "device_ip", "device_ip"
        )
        for one in with_ip:
            self._vnic(one)
        families = {address.version for one in with_ip if (address := address_of(one.device_ip or ""))}
        if len(families) > 1:
            seen = "IPv4 and IPv6"
            self._error("families", listed, "device_ip of one family", seen, ENVIRONMENT_CODE)
        needed = self._why_addresses()
        for one in devices:
            if needed and "device_ip" not in one.nodes:
                self._error("device-ip", one.at, f"device_ip, which {needed} need", "none")

    def _vnic(self, claimed: ClaimedDevice) -> None:
        """Some generators write the vNIC's address, which follows from the SDID."""
        if claimed.super_device_id is None:
            return
        identity = sdid.decode(claimed.super_device_id)
        if identity.valid and claimed.device_ip == sdid.vnic_address(identity.server_index, identity.device):
            seen = f"{_seen(claimed.nodes['device_ip'])}, its vNIC's address"
            self._warn("device-ip", claimed.nodes["device_ip"], "the RoCE address", seen, CHECK_CODE)

    def _why_addresses(self) -> str:
        """What makes device_ip mandatory; "" where it may be left out."""
        if self.version is None:
            return ""
        if self._in_super_pods():
            if len({server.pod for server in self.servers} - {None}) > 1:
                return "several super pods"
            return "devices with HCCL_INTER_HCCS_DISABLE=TRUE" if self.inter_hccs_disable else ""
        return "several servers" if len(self.servers) > 1 else ""

    def _ranks(self, listed: Node) -> None:
        """Ranks are 0 to n - 1, each once, and those of a server stand together."""
        known = [one for one in self._devices() if one.rank is not None]
        self._unique("rank-id", known, lambda one: one.rank, "rank_id", "rank_id")
        total = len(self._devices())
        beyond = [one for one in known if one.rank is not None and one.rank >= total]
        for one in beyond:
            self._error(
                "rank-id", one.nodes["rank_id"], f"0 to {total - 1}, for {total} devices", str(one.rank)
            )
        missing = sorted(set(range(total)) - {one.rank for one in known})
        if missing and not beyond and len(known) == total and len({one.rank for one in known}) == total:
            self._error("rank-id", listed, "every rank once", f"none has rank {missing[0]}", CHECK_CODE)
        for server in self.servers:
            ranks = sorted(one.rank for one in server.devices if one.rank is not None)
            if ranks and ranks[-1] - ranks[0] >= len(server.devices):
                seen = f"{server.server_id}: {_listed(ranks)}"
                self._error("rank-order", server.at, "ranks of a server without a gap", seen, CHECK_CODE)

    def _die_pairs(self, server: ClaimedServer) -> None:
        """On A3 a job takes whole NPUs: devices 2n and 2n + 1 together, unless it takes one alone."""
        ids = {one.device for one in server.devices if one.device is not None}
        if self.version is not Version.V1_2 or len(ids) < 2:
            return
        alone = sorted(one for one in ids if _other_die(one) not in ids)
        if alone:
            seen = f"device {_listed(alone)} without the other die of its NPU"
            self._warn("die-pairs", server.at, "both dies of an NPU, or one die in all", seen)

    def _backups(self, server: ClaimedServer) -> None:
        """A backup is the other die's address, on a port that this one does not use."""
        by_id = {one.device: one for one in server.devices}
        for one in server.devices:
            backup = one.nodes.get("backup_device_ip")
            if backup is None or one.device is None:
                continue
            sibling = by_id.get(_other_die(one.device))
            if sibling is None:
                expected = f"device {_other_die(one.device)}, the other die, on the same server"
                self._error("backup", backup, expected, "it is not in the table", CHECK_CODE)
                continue
            if sibling.device_ip is not None and backup.value != sibling.device_ip:
                expected = f"{sibling.device_ip}, device_ip of device {sibling.device}, the other die"
                self._error("backup", backup, expected, _seen(backup), CHECK_CODE)
            port = one.nodes.get("backup_device_port")
            own = sibling.nodes.get("device_port")
            backup_port = str(port.value) if port else str(BACKUP_DEVICE_PORT)
            if backup_port == (str(own.value) if own else str(DEVICE_PORT)):
                expected = f"another port than device_port of device {sibling.device}, whose NIC it is"
                self._error("backup-device-port", port or backup, expected, _quoted(backup_port), CHECK_CODE)

    # --- super pods ---

    def _in_super_pods(self) -> bool:
        return self.version is Version.V1_2 and any(
            one.super_device_id is not None for one in self._devices()
        )

    def _pods(self, listed: Node | None) -> dict[str, str]:
        """Super pod id by server id."""
        pods: dict[str, str] = {}
        ids: dict[str, Node] = {}
        for node in self._items(listed, "a list of super pods") if listed else ():
            known = self._fields(node, _POD)
            pod = self._text(node, known, "super_pod_id", required=True)
            if pod is not None:
                if not pod:
                    self._error("super-pod", known["super_pod_id"], "an id that is not empty", '""')
                if pod in ids:
                    seen = f"{_quoted(pod)}, as on line {ids[pod].line}"
                    self._error("super-pod", known["super_pod_id"], "each super pod once", seen, CHECK_CODE)
                ids.setdefault(pod, node)
            members = known.get("server_list")
            if members is None:
                self._missing(node, "server_list")
                continue
            for member in self._items(members, "a list of servers"):
                named = self._fields(member, _POD_SERVER)
                server = self._text(member, named, "server_id", required=True)
                if server is None:
                    continue
                if server in pods:
                    seen = f"{_quoted(server)} in {_quoted(pods[server])} too"
                    self._error("super-pod", member, "each server in one super pod", seen, CHECK_CODE)
                pods.setdefault(server, pod or node.path)
        return pods

    def _between_pods(self, listed: Node, pod_list: Node | None, pods: Mapping[str, str]) -> None:
        devices = self._devices()
        with_id = [one for one in devices if one.super_device_id is not None]
        if self.version is Version.V1_0:
            for node in [one.nodes["super_device_id"] for one in with_id][:1] + (
                [pod_list] if pod_list else []
            ):
                expected = "version 1.2, or none of it: 1.0 makes every host an AI server of its own"
                self._warn("version-mode", node, expected, f"{node.path.rpartition('.')[2]} in version 1.0")
            return
        if self.version is None:
            return
        if not any("super_device_id" in one.nodes for one in devices):
            seen = "no super_device_id: HCCL takes the hosts for AI servers, without HCCS between them"
            self._warn("version-mode", listed, "super_device_id for every device", seen, FILE_CODE)
        else:
            for one in devices:
                if "super_device_id" not in one.nodes:
                    self._missing(one.at, "super_device_id", "as others have")
        if (pod_list is None) == bool(with_id):
            seen = "super_device_id without it" if with_id else "it without super_device_id"
            expected = "super_pod_list and super_device_id, or neither"
            self._error("super-pod", pod_list or listed, expected, seen)
        if pod_list is not None:
            self._membership(pod_list, pods)
        self._unique_in_pods()
        self._pods_together(pod_list or listed)

    def _membership(self, pod_list: Node, pods: Mapping[str, str]) -> None:
        names = {server.server_id for server in self.servers}
        for server in self.servers:
            if server.server_id not in pods:
                seen = f"{_quoted(server.server_id)} is in none"
                self._error("super-pod", server.at, "every server in a super pod", seen, CHECK_CODE)
        for name in pods:
            if name not in names:
                expected = "servers of server_list only"
                self._error("super-pod", pod_list, expected, f"{_quoted(name)} is none of them", CHECK_CODE)
        sizes = Counter(pods.values())
        if len(set(sizes.values())) > 1:
            seen = ", ".join(f"{pod}: {servers}" for pod, servers in sizes.items())
            self._warn("unequal-super-pods", pod_list, "as many servers in every super pod", seen)

    def _unique_in_pods(self) -> None:
        """An SDID names a die within its super pod."""
        by_pod: dict[str | None, list[ClaimedDevice]] = {}
        for server in self.servers:
            known = [one for one in server.devices if one.super_device_id is not None]
            by_pod.setdefault(server.pod, []).extend(known)
        for members in by_pod.values():
            what = "super_device_id in its super pod"
            self._unique("super-device-id", members, lambda one: one.super_device_id, "super_device_id", what)

    def _pods_together(self, node: Node) -> None:
        """In the order of ranks, the servers of one pod stand together."""
        ranked = [
            (min(one.rank for one in server.devices if one.rank is not None), server)
            for server in self.servers
            if server.pod is not None and any(one.rank is not None for one in server.devices)
        ]
        left: set[str] = set()
        previous: str | None = None
        for _, server in sorted(ranked, key=lambda pair: pair[0]):
            if server.pod in left:
                seen = (
                    f"{_quoted(server.server_id)} of super pod {_quoted(server.pod or '')} behind another pod"
                )
                self._error("super-pod-order", node, "the ranks of a super pod together", seen, CHECK_CODE)
                return
            if previous is not None and server.pod != previous:
                left.add(previous)
            previous = server.pod

    # --- fields and lists ---

    def _devices(self) -> list[ClaimedDevice]:
        return [device for server in self.servers for device in server.devices]

    def _fields(self, node: Node, known: Sequence[str]) -> Mapping[str, Node]:
        """The fields of an object; what is none of the known ones is said, a near miss more loudly."""
        if not isinstance(node.value, dict):
            self._error("structure", node, f"an object with {', '.join(known)}", node.kind)
            return {}
        for name, line in node.duplicates:
            path = f"{node.path}.{name}"
            seen = "it is there before, and readers differ in which they take"
            finding = TableFinding(
                "duplicate-key", Severity.ERROR, line, path, "each name once", seen, FILE_CODE
            )
            self.findings.append(finding)
        for name, value in node.value.items():
            if name in known or name in _KNOWN_EXTRAS:
                continue
            near = difflib.get_close_matches(name, [one for one in known if one not in node.value], n=1)
            if near:
                self._warn("unknown-field", value, near[0], _quoted(name), FILE_CODE)
            else:
                self._note(
                    "unknown-field", value, f"one of {', '.join(known)}", f"{_quoted(name)}, not judged"
                )
        return {name: value for name, value in node.value.items() if name in known}

    def _items(self, node: Node, what: str) -> Iterable[Node]:
        if not isinstance(node.value, list):
            self._error("structure", node, what, node.kind)
            return ()
        if not node.value:
            self._error("structure", node, f"{what}, at least one", "an empty list")
        return node.value

    def _text(self, owner: Node, known: Mapping[str, Node], name: str, *, required: bool) -> str | None:
        """The field's text; None with a finding where it is no string, or required and absent."""
        node = known.get(name)
        if node is None:
            if required and isinstance(owner.value, dict):
                self._missing(owner, name)
            return None
        if not isinstance(node.value, str):
            expected = "a string, as every value"
            if isinstance(node.value, int | float) and not isinstance(node.value, bool):
                expected = f'"{node.value}", in quotes: every value is a string'
            self._error("not-a-string", node, expected, node.kind)
            return None
        return node.value

    def _number(
        self,
        owner: Node,
        known: Mapping[str, Node],
        name: str,
        allowed: range,
        rule: str,
        *,
        required: bool = False,
    ) -> int | None:
        """A whole number written as a string, as HCCL wants it."""
        text = self._text(owner, known, name, required=required)
        if text is None:
            return None
        if text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) in allowed:
            return int(text)
        expected = f'a whole number from "{allowed.start}" to "{allowed.stop - 1}"'
        self._error(rule, known[name], expected, _quoted(text))
        return None

    def _address(self, owner: Node, known: Mapping[str, Node], name: str) -> str | None:
        """An IPv4 or IPv6 address by which others reach the device or host."""
        text = self._text(owner, known, name, required=False)
        if text is None:
            return None
        problem = HostAddress().problem(text)
        if problem:
            expected = "an IPv4 or IPv6 address that others reach"
            seen = f"{_quoted(text)}, {problem}"
            self._error(name.replace("_", "-"), known[name], expected, seen, CHECK_CODE)
            return None
        return text

    def _unique(
        self,
        rule: str,
        members: Sequence[ClaimedServer] | Sequence[ClaimedDevice],
        key: Callable[..., object],
        name: str,
        what: str,
    ) -> None:
        """Says of every member but the first that its value is taken."""
        first: dict[object, Node] = {}
        for member in members:
            fields = member.nodes if isinstance(member, ClaimedDevice) else member.at.value
            node = fields.get(name, member.at) if isinstance(fields, Mapping) else member.at
            taken = first.setdefault(key(member), node)
            if taken is not node:
                seen = f"{_seen(node)}, as on line {taken.line} ({taken.path})"
                self._error(rule, node, f"each {what} once", seen, CHECK_CODE)

    # --- findings ---

    def _missing(self, node: Node, name: str, why: str = "which is mandatory") -> None:
        self._error("missing-field", node, f"{name}, {why}", "none")

    def _error(self, rule: str, node: Node, expected: str, seen: str, code: str = FILE_CODE) -> None:
        self._add(rule, Severity.ERROR, node, expected, seen, code)

    def _warn(self, rule: str, node: Node, expected: str, seen: str, code: str = "") -> None:
        self._add(rule, Severity.WARNING, node, expected, seen, code)

    def _note(self, rule: str, node: Node, expected: str, seen: str) -> None:
        self._add(rule, Severity.NOTE, node, expected, seen, "")

    def _add(self, rule: str, severity: Severity, node: Node, expected: str, seen: str, code: str) -> None:
        self.findings.append(TableFinding(rule, severity, node.line, node.path, expected, seen, code))


def _other_die(device: int) -> int:
    """The device on the same NPU, on servers whose NPUs have two."""
    return device ^ 1


def _value(device: ClaimedDevice, name: str) -> object:
    return device.nodes[name].value if name in device.nodes else None


def _seen(node: Node) -> str:
    return _quoted(str(node.value)) if isinstance(node.value, str | int | float) else node.kind


def _quoted(text: str) -> str:
    return f'"{text}"'


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
