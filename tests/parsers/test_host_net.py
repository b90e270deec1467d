"""What the host's own tools say of the way to a peer."""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess

import pytest

from ascendctl.facts import HostLink, HostPingFacts, PortAnswer, RouteFacts
from ascendctl.parsers import parse
from ascendctl.probe.host_net import Question, command_line, host_net_commands
from ascendctl.topology.host_net import HostPath
from tests.parsers.samples import HOST_PING, LINKS, PORTS, PORTS_COMMAND

PING = "ping -n -c 3 -W 2 -I enp1s0 10.30.1.12"
WHOLE_PING = "ping -n -c 3 -W 2 -I enp1s0 -M do -s 1472 10.30.1.12"
ROUTE = "ip route get 10.30.1.12"
NOTHING = """PING 10.30.1.12 (10.30.1.12) from 10.30.1.11 enp1s0: 1472(1500) bytes of data.
{said}
--- 10.30.1.12 ping statistics ---
3 packets transmitted, 0 received,{errors} 100% packet loss, time 2031ms
"""


def test_links() -> None:
    links = parse("ip -o link show", LINKS.encode()).facts
    assert links == (HostLink("lo", 65536), HostLink("enp1s0", 9000), HostLink("bond0.12", 1500))


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("10.30.1.12 dev enp1s0 src 10.30.1.11 uid 0 \n    cache \n", ("enp1s0", None, "10.30.1.11")),
        ("10.30.1.12 via 10.30.1.1 dev bond0.12 src 10.30.1.11\n", ("bond0.12", "10.30.1.1", "10.30.1.11")),
        (
            "local 10.30.1.12 dev lo table local src 10.30.1.12\n    cache <local>\n",
            ("lo", None, "10.30.1.12"),
        ),
        ("10.30.1.12 via inet6 fe80::1 dev enp1s0 src 10.30.1.11\n", ("enp1s0", "fe80::1", "10.30.1.11")),
        ("10.30.1.12 dev tun0\n", ("tun0", None, None)),
    ],
)
def test_routes(text: str, facts: tuple[str, str | None, str | None]) -> None:
    assert parse(ROUTE, text.encode()).facts == RouteFacts(*facts)


def test_a_route_over_ipv6() -> None:
    text = b"2001:db8::2 from :: via fe80::1 dev enp1s0 proto ra src 2001:db8::1 metric 1024 pref medium\n"
    facts = parse("ip route get 2001:db8:0::2", text).facts
    assert facts == RouteFacts("enp1s0", "fe80::1", "2001:db8::1")


@pytest.mark.parametrize("why", ["Network is unreachable", "No route to host"])
def test_no_route_is_an_answer(why: str) -> None:
    parsed = parse(ROUTE, b"", f"RTNETLINK answers: {why}\n".encode(), 2)
    assert parsed.facts == RouteFacts(None)
    assert parse(ROUTE, b"", b"RTNETLINK answers: File exists\n", 2).status.value == "failed"


@pytest.mark.parametrize("text", ["10.30.1.13 dev enp1s0\n", "default dev enp1s0\n", "10.30.1.12 dev enp1s0"])
def test_a_route_to_elsewhere_or_cut_is_not_read(text: str) -> None:
    assert parse(ROUTE, text.encode()).status.value == "unparsed"


def test_ping_counts_replies_and_names_the_nic() -> None:
    assert parse(PING, HOST_PING.encode()).facts == HostPingFacts("10.30.1.12", 3, 2, "enp1s0")


def test_ping_of_busybox() -> None:
    text = """PING 10.30.1.12 (10.30.1.12): 56 data bytes
64 bytes from 10.30.1.12: seq=0 ttl=64 time=0.066 ms
64 bytes from 10.30.1.12: seq=1 ttl=64 time=0.081 ms

--- 10.30.1.12 ping statistics ---
2 packets transmitted, 2 packets received, 0% packet loss
round-trip min/avg/max = 0.066/0.073/0.081 ms
"""
    assert parse(PING, text.encode()).facts == HostPingFacts("10.30.1.12", 2, 2)


def test_a_reply_that_came_twice_is_one_packet() -> None:
    doubled = HOST_PING.replace(
        "\n\n---", "\n64 bytes from 10.30.1.12: icmp_seq=3 ttl=64 time=0.2 ms (DUP!)\n\n---"
    ).replace("2 received,", "2 received, +1 duplicates,")
    assert parse(PING, doubled.encode()).facts == HostPingFacts("10.30.1.12", 3, 2, "enp1s0")


@pytest.mark.parametrize(
    ("said", "stderr", "path_mtu"),
    [
        ("", "", None),
        ("From 10.30.1.11 icmp_seq=1 Destination Host Unreachable", "", None),
        ("From 10.30.1.1 icmp_seq=1 Frag needed and DF set (mtu = 1400)", "", 1400),
        ("From 10.30.1.1 icmp_seq=1 Frag needed and DF set (mtu = 0)", "", 0),
        ("From 2001:db8::9 icmp_seq=1 Packet too big: mtu=1280", "", 1280),
        ("", "ping: local error: message too long, mtu=1450\n", 1450),
        ("", "ping: local error: Message too long, mtu: 1450\n", 1450),
        ("", "ping: sendmsg: Message too long\n", 0),
    ],
)
def test_large_packets_that_do_not_pass(said: str, stderr: str, path_mtu: int | None) -> None:
    text = NOTHING.format(said=said, errors=" +3 errors," if said or stderr else "")
    facts = parse(WHOLE_PING, text.encode(), stderr.encode(), 1).facts
    assert facts == HostPingFacts("10.30.1.12", 3, 0, "enp1s0", path_mtu)


@pytest.mark.parametrize(
    ("stdout", "stderr", "code"),
    [
        (b"", b"ping: connect: Network is unreachable\n", 2),
        (b"", b"ping: SO_BINDTODEVICE enp1s0: No such device\n", 2),
        (HOST_PING.replace("2 received", "3 received").encode(), b"", 0),
        (HOST_PING.replace("10.30.1.12", "10.30.1.13").encode(), b"", 0),
        (HOST_PING.split("---")[0].encode(), b"", 0),
    ],
    ids=["no route", "no NIC", "replies missing", "of another address", "no summary"],
)
def test_pings_that_tell_nothing(stdout: bytes, stderr: bytes, code: int) -> None:
    assert parse(PING, stdout, stderr, code).status.value in ("failed", "unparsed")


def test_ports() -> None:
    facts = parse(PORTS_COMMAND, PORTS.encode()).facts
    assert facts.target == "10.30.1.12"
    assert facts.answers == {
        22: PortAnswer.CONNECTED,
        60015: PortAnswer.TIMED_OUT,
        60000: PortAnswer.REFUSED,
        60031: PortAnswer.REJECTED,
    }


@pytest.mark.parametrize(
    "text",
    [
        PORTS.replace("60031", "60030"),
        PORTS + "22 0 \n",
        PORTS.replace("Connection refused", "No such file or directory"),
        PORTS.replace("60015 124", "60015 127"),
    ],
    ids=["one missing", "one twice", "bash without /dev/tcp", "no timeout"],
)
def test_ports_that_tell_nothing(text: str) -> None:
    assert parse(PORTS_COMMAND, text.encode()).status.value == "unparsed"


def test_the_commands_are_those_that_are_read() -> None:
    path = HostPath("node1", "enp1s0", "node2", "10.30.1.12", 1472, (22, 60000))
    for command in host_net_commands([path]):
        question = Question(command.id.partition(":")[0])
        assert command.id == f"{question.value}:10.30.1.12"
        sent, known = shlex.join(command.argv), command_line(question, "10.30.1.12", "enp1s0")
        assert sent.startswith(known.removesuffix(" 10.30.1.12"))
        assert "reader" not in parse(sent, b"x\n").reason and "reader" not in parse(known, b"x\n").reason


def test_an_interface_or_an_address_that_is_none_is_never_sent() -> None:
    for interface, address in (("eth0;id", "10.0.0.1"), ("-x", "10.0.0.1"), ("eth0", "$(id)")):
        with pytest.raises(ValueError):
            list(host_net_commands([HostPath("a", interface, "b", address, None, (22,))]))


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_says_what_is_read() -> None:
    with socket.socket() as listening, socket.socket() as shut:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        shut.bind(("127.0.0.1", 0))  # bound, and nobody listens
        ports = (listening.getsockname()[1], shut.getsockname()[1])
        path = HostPath("node1", "lo", "node2", "127.0.0.1", None, ports)
        command = list(host_net_commands([path]))[-1]
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
        ran = subprocess.run(command.argv, check=False, capture_output=True, timeout=60, env=environment)
    facts = parse(shlex.join(command.argv), ran.stdout, ran.stderr, ran.returncode).facts
    assert facts.answers == {ports[0]: PortAnswer.CONNECTED, ports[1]: PortAnswer.REFUSED}
