"""What a host is asked about the way to its peers over the host network.

Per peer: the route, three pings, three pings that fill the largest packet, and which TCP ports can be
reached. Frame ids name the address, so that a recording says by itself who was tried. Nothing is
installed for the ports: bash opens ``/dev/tcp/ADDRESS/PORT``; all of one address are tried at once, so
that filtered ones cost one time-out together. Addresses and ports are words of their own in the command,
never part of a script's text.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from enum import Enum
from ipaddress import ip_address

from ascendctl.probe.catalogue import Command, Impact, Scope
from ascendctl.topology.host_net import HostPath

PORT_LIMIT_S = 3
_PACKETS = 3
_REPLY_LIMIT_S = 2


class Question(str, Enum):
    """What is asked of one address: the beginning of a frame's id."""

    ROUTE = "host-route"
    PING = "host-ping"
    WHOLE = "host-whole-ping"
    PORTS = "host-ports"


def host_net_commands(paths: Iterable[HostPath]) -> tuple[Command, ...]:
    """What one host is asked about its ways to its peers; each command once per host, not per device.

    ValueError for an address that is none, or an interface that `is_sent` refuses.
    """
    return tuple(command for path in paths for command in _commands(path))


def is_sent(interface: str) -> bool:
    """Whether the name of an interface may stand in a command."""
    return _INTERFACE.fullmatch(interface) is not None


def host_net_id(command_id: str) -> tuple[Question, str] | None:
    """What a frame's id says: the question and the address; None for the id of something else."""
    match = _ID.fullmatch(command_id)
    return (Question(match["question"]), match["address"]) if match else None


def command_id(question: Question, address: str) -> str:
    """The id of the frame that answers a question of an address."""
    return f"{question.value}:{address}"


def command_line(question: Question, address: str, interface: str = "NIC") -> str:
    """The command behind a frame's id as the parsers read it, as far as the id tells."""
    argv = {
        Question.ROUTE: _route(address),
        Question.PING: _ping(interface, address),
        Question.WHOLE: _ping(interface, address, "-M", "do"),
        Question.PORTS: _ports(address, ()),
    }
    return shlex.join(argv[question])


def typed_port_command(address: str, port: int | str = "PORT") -> str:
    """How a person would try one port by hand on the host."""
    return f"timeout {PORT_LIMIT_S} bash -c 'exec 3<>/dev/tcp/{address}/{port}'"


def tool_of(question: Question) -> str:
    """The program that answers it."""
    return _TOOLS[question]


def time_limit_s(question: Question) -> int:
    """After how long the program is killed."""
    return _LIMITS_S[question]


_TOOLS = {Question.ROUTE: "ip", Question.PING: "ping", Question.WHOLE: "ping", Question.PORTS: "bash"}
_LIMITS_S = {Question.ROUTE: 10, Question.PING: 15, Question.WHOLE: 15, Question.PORTS: PORT_LIMIT_S + 7}


def _commands(path: HostPath) -> Iterable[Command]:
    address = str(ip_address(path.address))
    if not is_sent(path.interface):
        raise ValueError(f"{path.interface!r} is no name of an interface")
    asked = {Question.ROUTE: _route(address), Question.PING: _ping(path.interface, address)}
    if path.payload_bytes is not None:
        size = ("-M", "do", "-s", str(path.payload_bytes))
        asked[Question.WHOLE] = _ping(path.interface, address, *size)
    asked[Question.PORTS] = _ports(address, path.ports)
    for question, argv in asked.items():
        yield Command(
            id=command_id(question, address),
            argv=argv,
            scope=Scope.HOST,
            impact=Impact.READ_ONLY if question is Question.ROUTE else Impact.LIGHT_TRAFFIC,
            timeout_s=time_limit_s(question),
        )


def _route(address: str) -> tuple[str, ...]:
    return ("ip", "route", "get", address)


def _ping(interface: str, address: str, *size: str) -> tuple[str, ...]:
    # Without -n every reply's address would be looked up by name, which may take longer than the ping. More
    # often than five times a second only root may send.
    limits = ("-n", "-i", "0.2", "-c", str(_PACKETS), "-W", str(_REPLY_LIMIT_S))
    return ("ping", *limits, "-I", interface, *size, address)


def _ports(address: str, ports: Iterable[int]) -> tuple[str, ...]:
    return ("bash", "-c", _PORT_SCRIPT, "bash", address, *map(str, ports))


# The exit code of the inner timeout must not be that of the whole, or bash would pass for a tool that hangs.
_PORT_SCRIPT = f"""a=$1; shift
for p do
  {{ s=$(timeout {PORT_LIMIT_S} "$BASH" -c 'exec 3<>"/dev/tcp/$1/$2"' bash "$a" "$p" 2>&1)
    printf '%s %s %s\\n' "$p" "$?" "${{s##*$'\\n'}}"; }} &
done; wait"""

# The kernel takes more (dev_valid_name); what else there is in a name is left out rather than sent.
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_ID = re.compile(rf"(?P<question>{'|'.join(one.value for one in Question)}):(?P<address>[0-9A-Fa-f.:]+)")
