"""The network between the hosts' own interfaces: what its stand-ins print, run by a real shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ascendctl.sim.render import RenderedHost, render_cluster
from ascendctl.sim.spec import make_spec

PATIENCE_S = 60
NIC = "enp67s0f0"
PING = f"ping -n -c 3 -W 2 -I {NIC}"
OPEN = """'exec 3<>"/dev/tcp/$1/$2"' bash"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> list[RenderedHost]:
    """node01 is well; the others have a fault each, and node08 none."""
    faults: list[dict[str, Any]] = [
        {"host": "node02", "kind": "host-nic-loss"},
        {"host": "node03", "kind": "host-mtu", "value": 1400},
        {"host": "node04", "kind": "host-firewall"},
        {"host": "node05", "kind": "host-firewall", "value": "8000-8003-reject"},
        {"host": "node06", "kind": "host-route-missing"},
        {"host": "node07", "kind": "hostname-unresolved"},
        {"host": "node07", "kind": "hostname", "value": "node01"},
        {"host": "node03", "kind": "hostname-loopback"},
    ]
    spec = make_spec(generation="a2", hosts=8, faults=faults)
    return list(render_cluster(spec, tmp_path_factory.mktemp("cluster") / "hosts"))


def run(host: RenderedHost, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={"PATH": f"{host.bin}:/usr/bin:/bin", "LC_ALL": "C"},
        check=False,
    )


def summary(ran: subprocess.CompletedProcess[str]) -> str:
    return next(line for line in ran.stdout.splitlines() if "transmitted" in line)


def test_routes(hosts: list[RenderedHost]) -> None:
    assert run(hosts[0], "ip route get 10.10.0.8").stdout == (
        f"10.10.0.8 dev {NIC} src 10.10.0.1 uid 0 \n    cache \n"
    )
    assert run(hosts[0], "ip route get 10.10.0.1").stdout.startswith("local 10.10.0.1 dev lo ")
    for host, address in ((hosts[0], "10.99.0.1"), (hosts[5], "10.10.0.1")):
        ran = run(host, f"ip route get {address}")
        assert (ran.stdout, ran.returncode) == ("", 2)
        assert ran.stderr == "RTNETLINK answers: Network is unreachable\n"


def test_interfaces(hosts: list[RenderedHost]) -> None:
    links = run(hosts[0], "ip -o link show").stdout.splitlines()
    assert [line.split()[1] for line in links] == ["lo:", f"{NIC}:"]
    assert " mtu 1500 " in links[1] and "link/ether 02:5b:0a:0a:00:01 " in links[1]


def test_a_ping_that_arrives(hosts: list[RenderedHost]) -> None:
    ran = run(hosts[0], f"{PING} 10.10.0.8")
    lines = ran.stdout.splitlines()
    assert lines[0] == f"PING 10.10.0.8 (10.10.0.8) from 10.10.0.1 {NIC}: 56(84) bytes of data."
    assert [line.split(" time=")[0] for line in lines[1:4]] == [
        f"64 bytes from 10.10.0.8: icmp_seq={number} ttl=64" for number in (1, 2, 3)
    ]
    assert lines[5] == "--- 10.10.0.8 ping statistics ---"
    assert lines[6].startswith("3 packets transmitted, 3 received, 0% packet loss, time ")
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize(
    ("host", "words", "said", "code"),
    [
        (1, "10.10.0.2", "3 packets transmitted, 0 received, 100% packet loss", 1),
        (2, "10.10.0.1", "3 packets transmitted, 0 received, 100% packet loss", 1),
        (1, "10.10.0.6", "3 packets transmitted, 0 received, 100% packet loss", 1),
        (1, "10.10.0.99", "3 packets transmitted, 0 received, 100% packet loss", 1),
        (1, "10.10.0.3", "3 packets transmitted, 3 received, 0% packet loss", 0),
        (1, "-M do -s 1372 10.10.0.3", "3 packets transmitted, 3 received, 0% packet loss", 0),
        (1, "-M do -s 1373 10.10.0.3", "3 packets transmitted, 0 received, 100% packet loss", 1),
        (3, "-M do -s 1373 10.10.0.1", "3 packets transmitted, 0 received, 100% packet loss", 1),
        (1, "-M do -s 1472 10.10.0.8", "3 packets transmitted, 3 received, 0% packet loss", 0),
        (1, "-M do -s 1473 10.10.0.8", "3 packets transmitted, 0 received, +3 errors, 100% packet loss", 1),
    ],
)
def test_pings(hosts: list[RenderedHost], host: int, words: str, said: str, code: int) -> None:
    ran = run(hosts[host - 1], f"{PING} {words}")
    assert summary(ran).startswith(said)
    assert ran.returncode == code
    assert ("message too long, mtu=1500" in ran.stderr) == ("errors" in said)


def test_pings_that_cannot_be_sent(hosts: list[RenderedHost]) -> None:
    ran = run(hosts[5], f"{PING} 10.10.0.1")
    assert (ran.stderr, ran.returncode) == ("ping: connect: Network is unreachable\n", 2)
    ran = run(hosts[0], "ping -c 3 -I eth9 10.10.0.8")
    assert (ran.stderr, ran.returncode) == ("ping: unknown iface: eth9\n", 2)


def test_some_packets_are_lost_and_always_the_same(tmp_path: Path) -> None:
    fault = {"host": "node01", "kind": "host-nic-loss", "value": 40}
    first, *others = render_cluster(make_spec(generation="a2", hosts=30, faults=[fault]), tmp_path / "hosts")
    script = "; ".join(f"ping -n -c 5 {other.state.nic_address}" for other in others)
    ran = run(first, script)
    summaries = [line for line in ran.stdout.splitlines() if "transmitted" in line]
    received = sum(int(line.split()[3]) for line in summaries)
    assert 0.4 < received / (5 * len(others)) < 0.8
    assert run(first, script).stdout == ran.stdout
    some = next(line for line in summaries if "4 received" in line)
    assert some.startswith("5 packets transmitted, 4 received, 20% packet loss")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("host", "target", "said"),
    [
        (1, "10.10.0.8 60000", "Connection refused"),
        (1, "10.10.0.8 22", ""),
        (1, "10.10.0.5 8003", "No route to host"),
        (1, "10.10.0.5 8004", "Connection refused"),
        (1, "10.10.0.99 22", "No route to host"),
        (6, "10.10.0.1 22", "Network is unreachable"),
    ],
)
def test_ports(hosts: list[RenderedHost], host: int, target: str, said: str) -> None:
    ran = run(hosts[host - 1], f"bash -c {OPEN} {target}")
    place = target.replace(" ", "/")
    text = f"bash: connect: {said}\nbash: line 1: /dev/tcp/{place}: {said}\n" if said else ""
    assert (ran.stderr, ran.returncode) == (text, 1 if said else 0)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize("target", ["10.10.0.4 60031", "10.10.0.2 22", "10.10.0.6 22"])
def test_ports_of_which_nothing_is_heard(hosts: list[RenderedHost], target: str) -> None:
    assert run(hosts[0], f"timeout 1 bash -c {OPEN} {target}").returncode == 124


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_is_otherwise_itself(hosts: list[RenderedHost]) -> None:
    """Its own scripts find the host's programs, and what they open as "$BASH" goes the same way."""
    assert run(hosts[0], "bash -c 'hostname; echo $0 $2' a b c").stdout == "node01\na c\n"
    assert run(hosts[0], "echo 'echo ${BASH_VERSION:+yes}' | bash").stdout == "yes\n"
    nested = """bash -c '"$BASH" -c "exec 3<>/dev/tcp/10.10.0.8/7"'"""
    assert run(hosts[0], nested).stderr.endswith("/dev/tcp/10.10.0.8/7: Connection refused\n")
    own = run(hosts[0], "bash -c 'exec 3<>/dev/tcp/127.0.0.1/1'")
    assert own.stderr.endswith("/dev/tcp/127.0.0.1/1: Connection refused\n")


def test_names(hosts: list[RenderedHost]) -> None:
    assert run(hosts[0], "hostname; hostname -i").stdout == "node01\n10.10.0.1\n"
    assert run(hosts[2], "hostname; hostname -i").stdout == "node03\n127.0.1.1\n"
    assert run(hosts[6], "hostname").stdout == "node01\n"
    ran = run(hosts[6], "hostname -i")
    assert (ran.stdout, ran.stderr, ran.returncode) == ("", "hostname: Name or service not known\n", 1)
