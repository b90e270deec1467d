"""A command line as text → which tool, what it was asked, and of which device."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from pathlib import PurePosixPath


class UnknownCommand(ValueError):
    """A command line of a tool that ascendctl never runs."""


class Tool(str, Enum):
    HCCN_TOOL = "hccn_tool"
    NPU_SMI = "npu-smi"
    CAT = "cat"
    HOST = "host"


@dataclass(frozen=True)
class Asked:
    """``kind`` names the reader within the tool, None = a question that ascendctl does not read.

    ``device`` is hccn_tool's ``-i`` (physical id), ``npu`` and ``chip`` are npu-smi's ``-i`` and
    ``-c``, ``target`` is the address that was pinged or asked about; each None where not given.
    ``ports`` are the TCP ports that were tried there. ``filtered``: the output went through grep, so that
    only rows of the table are left.
    """

    tool: Tool
    kind: str | None
    device: int | None = None
    npu: int | None = None
    chip: int | None = None
    target: str | None = None
    ports: tuple[int, ...] = ()
    filtered: bool = False


def read_command(command: str) -> Asked:
    """Understand a command line, its options in any order.

    Raises:
        UnknownCommand: neither hccn_tool nor npu-smi, nor one of the host commands of the catalogue.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UnknownCommand(f"the command line {command!r} cannot be read: {error}") from None
    if not words:
        raise UnknownCommand("the command line is empty; expected for example 'hccn_tool -i 0 -link -g'")
    name, arguments = PurePosixPath(words[0]).name, words[1:]
    if name == "hccn_tool":
        return _hccn_tool(arguments)
    if name == "npu-smi":
        return _npu_smi(arguments)
    if name == "cat" and (kind := _file_kind(arguments)):
        return Asked(Tool.CAT, kind)
    if (peer := _of_peer(name, arguments)) is not None:
        return peer
    if " ".join([name, *arguments]) in _HOST_COMMANDS:
        return Asked(Tool.HOST, " ".join([name, *arguments]))
    raise UnknownCommand(
        f"ascendctl does not read the output of {command!r}; it reads hccn_tool, npu-smi, "
        f"{', '.join(_HOST_COMMANDS)}, ip route get, ping, and cat of {', '.join(_FILES.values())}"
    )


_HOST_COMMANDS = (
    "hostname",
    "hostname -i",
    "uname -srm",
    "date +%s.%N",
    "ip -o addr show",
    "ip -o link show",
    "timedatectl show",
)

# End of the path → kind. Installations differ in what comes before.
_FILES = {
    "/hccn.conf": "hccn.conf",
    "/os-release": "os-release",
    "/version.info": "version.info",
    "/ascend_toolkit_install.info": "ascend_toolkit_install.info",
    "/proc/meminfo": "meminfo",
}

_NPU_SMI_OPTIONS_WITH_VALUE = ("-t", "-i", "-c")


def _hccn_tool(arguments: list[str]) -> Asked:
    options = [word for word in arguments if word.startswith("-") and word not in ("-i", "-g")]
    readable = "-g" in arguments and len(options) == 1
    return Asked(
        Tool.HCCN_TOOL,
        options[0] if readable else None,
        device=_id(_after("-i", arguments)),
        target=_after("address", arguments) or _after("sdid", arguments),
    )


def _npu_smi(arguments: list[str]) -> Asked:
    if arguments == ["-v"]:
        return Asked(Tool.NPU_SMI, "-v")
    npu, chip = _id(_after("-i", arguments)), _id(_after("-c", arguments))
    topic = _after("-t", arguments)
    rest = list(arguments)
    for option in _NPU_SMI_OPTIONS_WITH_VALUE:
        if option in rest:
            at = rest.index(option)
            del rest[at : at + 2]
    if rest[:1] != ["info"]:
        return Asked(Tool.NPU_SMI, None, npu=npu, chip=chip)
    rest = rest[1:]
    if topic and not rest:
        return Asked(Tool.NPU_SMI, f"info -t {topic}", npu=npu, chip=chip)
    if topic is None and rest in ([], ["-m"], ["-l"]):
        return Asked(Tool.NPU_SMI, " ".join(["info", *rest]), npu=npu, chip=chip)
    if topic is None and any(word.strip("(|") == "grep" for word in rest):
        return Asked(Tool.NPU_SMI, "info", filtered=True)
    return Asked(Tool.NPU_SMI, None, npu=npu, chip=chip)


def _of_peer(name: str, arguments: list[str]) -> Asked | None:
    """Of an address of another host: its route, a ping, or its TCP ports (`ascendctl.probe.host_net`)."""
    ports: list[str] = []
    if name == "ip" and arguments[:2] == ["route", "get"] and len(arguments) == 3:
        kind, target = "ip route get", arguments[2]
    elif name == "ping" and arguments:
        kind, target = "ping", arguments[-1]
    elif name == "bash" and arguments[:1] == ["-c"] and len(arguments) > 3 and "/dev/tcp/" in arguments[1]:
        kind, target, ports = "ports", arguments[3], arguments[4:]
    else:
        return None
    if not _is_address(target) or not all(port.isascii() and port.isdigit() for port in ports):
        return None
    return Asked(Tool.HOST, kind, target=target, ports=tuple(map(int, ports)))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _file_kind(paths: list[str]) -> str | None:
    kinds = {kind for path in paths for end, kind in _FILES.items() if path.endswith(end)}
    known = all(path.endswith(tuple(_FILES)) for path in paths)
    return kinds.pop() if known and len(kinds) == 1 else None


def _after(option: str, arguments: list[str]) -> str | None:
    at = arguments.index(option) + 1 if option in arguments else len(arguments)
    return arguments[at] if at < len(arguments) else None


def _id(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 4 else None
