"""The spec of a simulated cluster: its YAML file, its models, and errors a person can act on.

```yaml
generation: a2        # or a3
hosts: 8              # named node01, node02, ...
seed: 1               # varies what may vary: temperatures, memory in use, ping times
latency: 0.05         # seconds that every hccn_tool and npu-smi call takes
hosts_per_leaf: 4     # how many hosts share leaf switches; leaf_per_rail: one for each device index
hosts_per_segment: 1  # how many hosts share RoCE segments
background_loss: 0.001
faults:
  - {host: "node[03-04]", device: 5, kind: link-down}
  - {host: node07, kind: command-hang, device: 2, value: grandchild, command: hccn_tool -tls}
```
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

import yaml
from ClusterShell.NodeSet import NodeSet, NodeSetParseError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ascendctl.sim.kinds import BY_NAME, TOOLS, DeviceUse

DEVICES_PER_HOST = {"a2": 8, "a3": 16}
MAX_HOSTS = 4096


class SpecError(Exception):
    """The spec cannot be used. ``problems`` are sentences: where, what, what was expected."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Fault(BaseModel):
    """One seeded fault. ``host`` is a node set, ``device`` a physical id (None: see the kind).

    ``command`` picks the command that hangs, babbles, is cut off or busy, as typed but without ids:
    ``hccn_tool -tls``, ``npu-smi info -t topo``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str
    kind: str
    device: int | None = Field(default=None, ge=0)
    value: str | None = None
    command: str | None = None

    @field_validator("value", mode="before")
    @classmethod
    def _value_as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, kind: str) -> str:
        if kind not in BY_NAME:
            raise ValueError(f"'{kind}' is no kind of fault{_nearest(kind, list(BY_NAME))}")
        return kind

    @field_validator("command")
    @classmethod
    def _known_tool(cls, command: str | None) -> str | None:
        if command is not None and command.split()[:1] not in [[tool] for tool in TOOLS]:
            raise ValueError(f"the command must start with one of {', '.join(TOOLS)}, not '{command}'")
        return command

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Fault:
        kind = BY_NAME[self.kind]
        if self.value is not None and (kind.accepts is None or not kind.accepts(self.value)):
            raise ValueError(f"'{self.kind}' cannot take value '{self.value}': {kind.value_rule}")
        if self.command is not None and not kind.takes_command:
            raise ValueError(f"'{self.kind}' takes no command")
        if self.kind == "busy" and self.command is not None and not self.command.startswith("hccn_tool"):
            raise ValueError("only hccn_tool says that it is busy")
        if self.device is not None and kind.device is DeviceUse.NONE:
            raise ValueError(f"'{self.kind}' is about the host and takes no device")
        if self.device is None and kind.device is DeviceUse.ONE:
            raise ValueError(f"'{self.kind}' is about one device: 'device' is missing")
        if self.value is None and kind.names_peer:
            raise ValueError(f"'{self.kind}' needs a value: {kind.value_rule}")
        return self

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names the node set stands for."""
        return tuple(NodeSet(self.host))

    @property
    def effective_value(self) -> str | None:
        return self.value if self.value is not None else BY_NAME[self.kind].default

    @property
    def peer(self) -> tuple[str, int] | None:
        """Host and physical id of the other device, for a kind whose value names one."""
        if not BY_NAME[self.kind].names_peer or self.value is None:
            return None
        host, _, device = self.value.rpartition(":")
        return host, int(device)


class Spec(BaseModel):
    """A simulated cluster. ``latency`` is seconds per tool call; ``seed`` makes it repeatable.

    ``hosts_per_leaf`` hosts share leaf switches: one (A3: one for each die of an NPU), or with
    ``leaf_per_rail`` one for each device index. ``hosts_per_segment`` hosts share RoCE segments. ``roce``
    none: no RoCE port is used (A3). ``background_loss``: the share of packets lost whatever their way;
    ``lost_packet_wait``: seconds that hccn_tool waits for a packet that is lost.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    generation: Literal["a2", "a3"]
    hosts: int = Field(ge=1, le=MAX_HOSTS)
    seed: int = 0
    latency: float = Field(default=0.0, ge=0, le=60)
    hosts_per_leaf: int = Field(default=16, ge=1, le=64)
    leaf_per_rail: bool = False
    hosts_per_segment: int = Field(default=1, ge=1, le=30)
    hosts_per_super_pod: int = Field(default=48, ge=1, le=48)
    roce: Literal["used", "none"] = "used"
    background_loss: float = Field(default=0.0, ge=0, le=1)
    lost_packet_wait: float = Field(default=0.02, ge=0, le=60)
    faults: tuple[Fault, ...] = ()

    @property
    def host_names(self) -> tuple[str, ...]:
        """``node01`` and on; as many digits as the largest number needs, at least two."""
        digits = max(2, len(str(self.hosts)))
        return tuple(f"node{number:0{digits}d}" for number in range(1, self.hosts + 1))


def load_spec(path: Path) -> Spec:
    """Read a spec file. Raises SpecError, also when the file cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError([f"{path}: cannot read the spec: {error}"]) from None
    return parse_spec(text, str(path))


def parse_spec(text: str, source: str) -> Spec:
    """Make a spec of YAML text; ``source`` names it in errors. Raises SpecError."""
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError([f"{source}: this is not valid YAML: {error}"]) from None
    if not isinstance(data, dict):
        raise SpecError([f"{source}: expected a mapping with generation, hosts and faults"])
    return _make(data, lambda place: f"{source}:{_line(tree, place)}: ")


def make_spec(**fields: Any) -> Spec:
    """Make a spec of plain values (``generation=..., hosts=..., faults=[{...}]``). Raises SpecError."""
    return _make(fields, lambda place: "")


def parse_fault(text: str) -> dict[str, Any]:
    """Read ``KIND@HOST[:DEVICE][=VALUE][,COMMAND]``, the form of the command line.

    For a kind that takes a command and no value, all that follows ``=`` is the command. Gives the
    fields of a Fault, to be validated with the spec they go into. Raises SpecError.
    """
    kind, at, rest = text.partition("@")
    target, _, value = rest.partition("=")
    host, colon, device = target.partition(":")
    if not at or not kind or not host or (colon and not device.isdecimal()):
        raise SpecError([f"--fault {text}: expected KIND@HOST[:DEVICE][=VALUE], as in link-down@node03:5"])
    fields: dict[str, Any] = {"kind": kind, "host": host}
    if colon:
        fields["device"] = int(device)
    known = BY_NAME.get(kind)
    if known is not None and known.takes_command:
        value, _, command = value.partition(",") if known.accepts else ("", "", value)
        if command:
            fields["command"] = command
    if value:
        fields["value"] = value
    return fields


def _make(data: dict[Any, Any], where: Any) -> Spec:
    try:
        spec = Spec.model_validate(data)
    except ValidationError as error:
        raise SpecError([where(item["loc"]) + _sentence(item) for item in error.errors()]) from None
    problems = []
    if spec.roce == "none" and spec.generation != "a3":
        problems.append(where(("roce",)) + "'roce: none' is for A3: servers of A2 have no other network")
    problems += [
        where(("faults", number)) + problem
        for number, fault in enumerate(spec.faults)
        for problem in _misplaced(fault, spec)
    ]
    if problems:
        raise SpecError(problems)
    return spec


def _misplaced(fault: Fault, spec: Spec) -> list[str]:
    """What is wrong with a fault in this cluster: hosts or devices that it does not have."""
    known = spec.host_names
    try:
        named = fault.hosts
    except NodeSetParseError as error:
        return [f"fault {fault.kind}: '{fault.host}' is no node set ({error})"]
    problems = []
    strangers = [name for name in named if name not in known]
    if strangers or not named:
        problems.append(
            f"fault {fault.kind}: no host {', '.join(strangers) or 'named'}; "
            f"the hosts are {known[0]} to {known[-1]}"
        )
    kind, devices = BY_NAME[fault.kind], DEVICES_PER_HOST[spec.generation]
    if fault.device is not None and fault.device >= devices:
        problems.append(
            f"fault {fault.kind} on {fault.host}: no device {fault.device}; "
            f"physical ids on {spec.generation.upper()} are 0 to {devices - 1}"
        )
    if kind.plane == "hccs" and spec.generation != "a3":
        problems.append(f"fault {fault.kind}: only A3 servers have super pods")
    if kind.plane == "roce" and spec.roce == "none":
        problems.append(f"fault {fault.kind}: this cluster uses no RoCE")
    if fault.peer is not None:
        host, device = fault.peer
        if host not in known or device >= devices:
            problems.append(f"fault {fault.kind}: no device '{fault.value}' in this cluster")
        if len(named) != 1 or (host, device) == (named[0], fault.device):
            problems.append(f"fault {fault.kind}: expected one device and another one as its value")
    return problems


def _sentence(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        fields = Fault.model_fields if "faults" in item["loc"] else Spec.model_fields
        return f"unknown key '{place}'{_nearest(str(item['loc'][-1]), list(fields))}"
    if item["type"] == "missing":
        return f"'{place}' is missing"
    if item["type"] == "value_error":
        return f"{place}: {item['ctx']['error']}"
    return f"{place}: {item['msg']}, not {item['input']!r}"


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known are: {', '.join(known)}"


def _line(node: yaml.Node | None, place: tuple[Any, ...]) -> int:
    """The line of the YAML node at ``place``, or of the nearest one above it that exists."""
    if node is None:
        return 1
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if not found:
                break
            key, node = found[0]
            if not isinstance(node, yaml.MappingNode | yaml.SequenceNode):
                return int(key.start_mark.line) + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        else:
            break
    return int(node.start_mark.line) + 1
