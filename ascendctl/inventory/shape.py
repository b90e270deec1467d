"""The shape of the file: one pydantic model per block, and the JSON Schema made from them.

Only the shape: what one value must look like. What needs the whole file (names that must exist,
merging, patterns that must match in number) is in `ascendctl.inventory.loading`.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    create_model,
    model_validator,
)

from ascendctl.facts import Cable
from ascendctl.inventory.nodesets import HOST_NAME, expand, numbers
from ascendctl.knowledge.thresholds import BY_NAME, THRESHOLDS, Threshold, default_text, number

PASSWORD_SOURCES = (
    "a password comes from `prompt`, from `{env: VARIABLE}` or from `{command: [program, argument, …]}`, "
    "never from the file itself"
)


def host_name(name: str) -> str:
    """The name itself; raises ValueError where it is outside the grammar of host names."""
    if name.startswith(("-", ".")):
        raise ValueError(f"begins with `{name[0]}`; a name begins with a letter, a digit or `_`")
    if not HOST_NAME.fullmatch(name):
        raise ValueError("a name holds letters, digits, `.`, `_` and `-` only")
    if len(name) > 253:
        raise ValueError("is longer than 253 characters")
    return name


def address(text: str) -> str:
    """The address itself; raises ValueError unless it is a host name, an IPv4 or an IPv6 address."""
    if "@" in text:
        raise ValueError("an address holds no `@`; the login name belongs under ssh.user")
    if text.startswith("[") or text.endswith("]"):
        raise ValueError("write an IPv6 address without brackets, and the port under ssh.port")
    if ":" in text or re.fullmatch(r"[0-9.]+", text):
        _ip_address(text)
        return text
    return host_name(text)


def _ip_address(text: str) -> None:
    bare, percent, scope = text.partition("%")
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        if re.fullmatch(r"[^:]+:[0-9]+", text):
            raise ValueError("the port belongs under ssh.port") from None
        if any(part.startswith("0") and part != "0" for part in bare.split(".")) and ":" not in bare:
            raise ValueError("is no IPv4 address: its numbers must not begin with 0") from None
        raise ValueError("is no IP address") from None
    if percent and not HOST_NAME.fullmatch(scope):
        raise ValueError("has no interface name after `%`")


MOST_ENGINE_PORTS = 16
"""All of them are tried at once, on every way between two hosts."""

MOST_DEVICES = 64
"""Physical ids lie below this number."""


def cables(devices: str, text: str | None) -> dict[int, Cable | None]:
    """One entry of ``cabling``: each physical id and its place, None where none is to be stated.

    Raises ValueError with the reason.
    """
    ids = numbers(devices)
    if ids[-1] >= MOST_DEVICES:
        raise ValueError(f"a physical id is a number from 0 to {MOST_DEVICES - 1}")
    if text is None:
        return dict.fromkeys(ids)
    words = text.split()
    if not 1 <= len(words) <= 2:
        raise ValueError(f"`{text}` is no switch, or a switch and its port with a blank between them")
    columns = [_one_for_each(word, len(ids)) for word in words]
    return {device: Cable(*names) for device, names in zip(ids, zip(*columns, strict=True), strict=True)}


def _one_for_each(pattern: str, count: int) -> list[str]:
    names = expand(pattern)
    if len(names) not in (1, count):
        devices = f"{count} device{'s' if count > 1 else ''}"
        raise ValueError(f"`{pattern}` stands for {len(names)} names, for {devices}; write one, or one each")
    return names * (count if len(names) == 1 else 1)


_USER_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_NIC_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,14}"
_TAG_WORD = r"\w[\w.-]*"
_CHECK_ID = r"[a-z0-9]+(-[a-z0-9]+)*"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"


def _user(name: str) -> str:
    if not re.fullmatch(_USER_NAME, name):
        raise ValueError(
            "a login name holds letters, digits, `.`, `_` and `-`, and begins with none of `.` and `-`; "
            "set any other one as User in ~/.ssh/config"
        )
    return name


def _nic(name: str) -> str:
    if not re.fullmatch(_NIC_NAME, name):
        raise ValueError("is no network interface name (at most 15 letters, digits, `.`, `_`, `:`, `-`)")
    return name


def _tag(word: str) -> str:
    if not re.fullmatch(_TAG_WORD, word):
        raise ValueError("a tag holds letters, digits, `.`, `_` and `-`, and begins with none of `.` and `-`")
    return word


def _path(text: str) -> str:
    if not text.strip() or "\n" in text:
        raise ValueError("is no path of a file")
    return text


def _variable(name: str) -> str:
    if not re.fullmatch(_VARIABLE, name):
        raise ValueError("expected the name of an environment variable")
    return name


def _argument(text: str) -> str:
    if not text or "\n" in text:
        raise ValueError("an argument of a command cannot be empty or hold a line break")
    return text


def _check_id(word: str) -> str:
    if not re.fullmatch(_CHECK_ID, word):
        raise ValueError("a check id is small letters, digits and `-`, such as net-health")
    return word


def _until(value: object) -> dt.date:
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        try:
            return dt.date.fromisoformat(value)
        except ValueError:
            raise ValueError("is no day of the calendar") from None
    raise ValueError("expected a date as YYYY-MM-DD, such as 2027-01-31")


def _reason(text: str) -> str:
    if not text.strip():
        raise ValueError("say why this finding is accepted")
    return " ".join(text.split())


def _version(value: object) -> object:
    if type(value) is not int or value != 1:
        raise ValueError("this ascendctl reads version 1; write `version: 1`")
    return value


def _kind_of_password(value: object) -> str:
    return "source" if isinstance(value, (dict, BaseModel)) else "prompt"


def _kind_of_jump(value: object) -> str:
    return "inline" if isinstance(value, (dict, BaseModel)) else "name"


def _kind_of_paths(value: object) -> str:
    return "several" if isinstance(value, list) else "one"


def _kind_of_npus(value: object) -> str:
    return "auto" if isinstance(value, str) else "number"


class Block(BaseModel):
    """A mapping of the file: no other keys, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _text(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern}$"})


UserName = Annotated[str, AfterValidator(_user), _text(_USER_NAME)]
FilePath = Annotated[str, AfterValidator(_path)]
FilePaths = Annotated[
    Annotated[FilePath, Tag("one")] | Annotated[list[FilePath], Tag("several")],
    Discriminator(_kind_of_paths),
]
Port = Annotated[int, Field(ge=1, le=65535)]


class PasswordBlock(Block):
    """Where a password comes from: exactly one of the two."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    env: Annotated[str, AfterValidator(_variable), _text(_VARIABLE)] | None = Field(
        None, description="Name of the environment variable that holds the password."
    )
    command: list[Annotated[str, AfterValidator(_argument)]] | None = Field(
        None,
        min_length=1,
        description="Program and arguments, run without a shell; the first line it prints is the password.",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> PasswordBlock:
        if (self.env is None) == (self.command is None):
            raise ValueError("expected exactly one of `env` and `command`")
        return self


Password = Annotated[
    Annotated[Literal["prompt"], Tag("prompt")] | Annotated[PasswordBlock, Tag("source")],
    Discriminator(_kind_of_password),
]

_USER = "Login name. Default: what ~/.ssh/config says, else the user running ascendctl."
_PORT = "TCP port. Default: what ~/.ssh/config says, else 22."
_IDENTITY = (
    "Private key file, or a list of them; `~` is the home directory, other paths start at the inventory's "
    "folder. Default: the agent, ~/.ssh/config and OpenSSH's usual files."
)
_KNOWN_HOSTS = "File of known host keys, instead of ~/.ssh/known_hosts."
_POLICY = (
    "What happens with a host key that is not known: `strict` refuses it, `accept-new` notes it. "
    "A changed key is always refused. Default: strict."
)
_PASSWORD = (
    "Where the password comes from: `prompt`, an environment variable, or a command. Default: no password."
)
_CONFIG = "Whether ~/.ssh/config is read for this host. Default: true."
_JUMP = (
    "The SSH server to go through: the name of a host of this file, or an inline mapping. "
    "`null` cancels an inherited one. Default: none."
)


class JumpBlock(Block):
    """A jump host that is not a host of the file."""

    address: str = Field(description="Host name, IPv4 or IPv6 address of the jump host.")
    user: UserName | None = Field(None, description=_USER)
    port: Port | None = Field(None, description=_PORT)
    identity: FilePaths | None = Field(None, description=_IDENTITY)
    known_hosts: FilePath | None = Field(
        None, description=_KNOWN_HOSTS + " Default: that of the host behind."
    )
    host_key_policy: Literal["strict", "accept-new"] | None = Field(
        None, description=_POLICY.replace("Default: strict", "Default: that of the host behind")
    )
    password: Password | None = Field(None, description=_PASSWORD)
    config: bool | None = Field(
        None, description=_CONFIG.replace("Default: true", "Default: that of the host behind")
    )
    jump: Jump | None = Field(
        None, description="The jump host to reach this jump host through. Default: none."
    )


Jump = Annotated[
    Annotated[str, Tag("name")] | Annotated[JumpBlock, Tag("inline")],
    Discriminator(_kind_of_jump),
]


class SshBlock(Block):
    """How to reach a host over SSH."""

    user: UserName | None = Field(None, description=_USER)
    port: Port | None = Field(None, description=_PORT)
    identity: FilePaths | None = Field(None, description=_IDENTITY)
    known_hosts: FilePath | None = Field(None, description=_KNOWN_HOSTS)
    host_key_policy: Literal["strict", "accept-new"] | None = Field(None, description=_POLICY)
    jump: Jump | None = Field(None, description=_JUMP)
    password: Password | None = Field(None, description=_PASSWORD)
    config: bool | None = Field(None, description=_CONFIG)


class EngineBlock(Block):
    """Where the inference engine runs on a host."""

    exec: list[Annotated[str, AfterValidator(_argument)]] | None = Field(
        None,
        description=(
            "Program and arguments that enter the engine's environment, such as [docker, exec, vllm]. "
            "Default: empty, the engine runs on the host itself."
        ),
    )
    ports: list[Port] | None = Field(
        None,
        max_length=MOST_ENGINE_PORTS,
        description=(
            "TCP ports on which other hosts reach the engine, such as [8000, 20001]; `verify` tries them "
            "between hosts. Default: none."
        ),
    )


def threshold_range(name: str) -> str:
    """What a threshold may be, in words."""
    one = BY_NAME[name]
    end = "on" if one.highest is None else f"to {number(one.highest)}"
    return f"a number from {number(one.lowest)} {end}"


def _threshold_key(one: Threshold) -> Any:
    value = Annotated[float, Field(ge=one.lowest, le=one.highest, allow_inf_nan=False)]
    return (
        value | None,
        Field(None, description=f"{one.meaning} In {one.unit}. Default: {default_text(one)}."),
    )


if TYPE_CHECKING:
    ThresholdsBlock = Block
else:  # one key for each limit there is, so that their names stand in one place
    ThresholdsBlock = create_model(
        "ThresholdsBlock",
        __base__=Block,
        __doc__="Limits that this site sets otherwise, by name.",
        **{one.name: _threshold_key(one) for one in THRESHOLDS},
    )


class SettingsBlock(Block):
    """Settings of hosts; given in defaults, in a group, or for a host."""

    ssh: SshBlock | None = Field(None, description="How to reach the host. Merged key by key.")
    privilege: Literal["root", "sudo"] | None = Field(
        None,
        description=(
            "How commands that need root get it: `root` = the login is root, `sudo` = `sudo -n` for these "
            "commands only. Default: root."
        ),
    )
    accelerator: Literal["auto", "ascend", "nvidia", "cpu"] | None = Field(
        None, description="What the host computes on; auto = as detected. Default: auto."
    )
    generation: Literal["auto", "a2", "a3"] | None = Field(
        None, description="Atlas generation; auto = as detected. Default: auto."
    )
    npus: (
        Annotated[
            Annotated[Literal["auto"], Tag("auto")] | Annotated[int, Field(ge=1, le=64), Tag("number")],
            Discriminator(_kind_of_npus),
        ]
        | None
    ) = Field(
        None,
        description=(
            "Devices (dies, one rank each) expected in the host: 8 on most A2 servers, 16 on Box16 and A3; "
            "auto = as the host's own mapping says. Default: auto."
        ),
    )
    scale_out: Literal["auto", "roce", "none"] | None = Field(
        None,
        description=(
            "The network between hosts: `roce`, `none` (HCCS only), or auto = RoCE on the ports that have an "
            "address. Default: auto."
        ),
    )
    nic: Annotated[str, AfterValidator(_nic), _text(_NIC_NAME)] | None = Field(
        None, description="Host network interface used between hosts, such as enp67s0f5. Default: none named."
    )
    tags: list[Annotated[str, AfterValidator(_tag), _text(_TAG_WORD)]] | None = Field(
        None, description="Words to select hosts by; those of defaults, group and host add up."
    )
    cabling: dict[str, str | None] | None = Field(
        None,
        description=(
            "Where the RoCE ports are meant to be plugged in: physical ids such as 3 or 0-7, and the leaf "
            "switch, as LLDP names it, with the switch's port behind a blank where that matters. A pattern "
            "such as leaf-[1-8] gives each id its own. Merged device by device; `null` states none. "
            "Default: not stated, so that cabling is only observed."
        ),
    )
    thresholds: ThresholdsBlock | None = Field(
        None,
        description=(
            "Limits of the deep profile's checks that are other here than by default, by name. Merged key by "
            "key."
        ),
    )
    engine: EngineBlock | None = Field(None, description="Where the inference engine runs.")


class HostBlock(SettingsBlock):
    """One host, or several by a pattern."""

    name: str = Field(
        description=(
            "Name, or a node set such as node[01-48]. Letters, digits, `.`, `_`, `-`; begins with none of "
            "`.` and `-`. Unique in the file."
        )
    )
    address: str | None = Field(
        None,
        description=(
            "Host name, IPv4 or IPv6 address to connect to, or a pattern with as many addresses as there "
            "are names, paired in the order written. Default: the name."
        ),
    )
    group: str | None = Field(None, description="The group the host belongs to, one of `groups`.")


class WaiverBlock(Block):
    """A finding accepted until a date."""

    check: Annotated[str, AfterValidator(_check_id), _text(_CHECK_ID)] = Field(
        description="Id of the check, such as lldp."
    )
    host: str | None = Field(
        None, description="Node set of the hosts, @group allowed. Default: every host of the file."
    )
    device: Annotated[int, Field(ge=0, le=63)] | None = Field(
        None, description="Physical id of one device. Default: every device, and the host itself."
    )
    until: Annotated[
        dt.date, BeforeValidator(_until), WithJsonSchema({"type": "string", "format": "date"})
    ] = Field(description="Last day the waiver holds, YYYY-MM-DD. After it the finding fails again.")
    reason: Annotated[str, AfterValidator(_reason)] = Field(description="Why the finding is accepted.")


class FileBlock(Block):
    """Inventory of a cluster for ascendctl."""

    version: Annotated[Literal[1], BeforeValidator(_version)] = Field(
        description="Version of the file format: 1."
    )
    defaults: SettingsBlock | None = Field(None, description="Settings of every host.")
    groups: dict[str, SettingsBlock | None] | None = Field(
        None, description="Groups by name, each with the settings of its hosts; they win over defaults."
    )
    hosts: list[HostBlock] = Field(
        min_length=1, description="The hosts; their own settings win over those of group and defaults."
    )
    waivers: list[WaiverBlock] | None = Field(None, description="Findings accepted until a date.")


EXTENSION = re.compile(r"x-.*")
"""Top-level keys that are left alone: a place for YAML anchors."""

_BLOCKS: dict[str, type[Block]] = {
    "defaults": SettingsBlock,
    "groups": SettingsBlock,
    "hosts": HostBlock,
    "waivers": WaiverBlock,
    "ssh": SshBlock,
    "jump": JumpBlock,
    "password": PasswordBlock,
    "thresholds": ThresholdsBlock,
    "engine": EngineBlock,
}


_TAGGED = {
    "password": {"prompt", "source"},
    "jump": {"name", "inline"},
    "identity": {"one", "several"},
    "npus": {"auto", "number"},
}


def file_path(location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The path in the file of a pydantic error: its location without the tags of unions."""
    path: list[str | int] = []
    for before, step in zip(("", *location), location, strict=False):
        if step not in _TAGGED.get(str(before), ()):
            path.append(step)
    return tuple(path)


def block_at(path: tuple[str | int, ...]) -> type[Block]:
    """The model of the mapping at ``path``."""
    words = [step for step in path if isinstance(step, str)]
    if words[:1] == ["groups"]:
        words[1:2] = []  # a group may be named like a block
    return _BLOCKS[words[-1]] if words else FileBlock


def keys_of(block: type[Block]) -> tuple[str, ...]:
    """The keys a mapping may have, in the order of the schema."""
    return tuple(block.model_fields)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of an inventory file."""
    schema = FileBlock.model_json_schema(mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["patternProperties"] = {"^x-": {"description": "Left alone; a place for YAML anchors."}}
    schema["title"] = "ascendctl inventory"
    return schema
