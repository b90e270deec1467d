"""A loopback cluster of which part refuses, hangs or answers garbage, for tests and benchmarks.

Every host has a loopback address and port of its own; the order of the inventory is shuffled. The hosts
that answer (also by halves, and garbage behind SSH) are real OpenSSH servers: key exchange, login by key
and exec are real. What they run is not the script that they are sent but one small shell command, which
reads it, takes the run's number out of it and prints an answer of the simulator's tools to the same script,
recorded beforehand, with that number put in. So a small machine can be many hosts at once.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import random
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ascendctl.facts import Profile
from ascendctl.probe.catalogue import commands_of
from ascendctl.probe.script import allowed, build_script
from ascendctl.sim.render import render_cluster
from ascendctl.sim.spec import make_spec
from tests.openssh import OpenSSHFarm

RECORDED = "0123456789abcdef" * 2
EXPECTED = {  # what a host is → what the report's cell `reachable` says of it
    "answers": "pass",
    "refuses": "refused the connection",
    "never speaks": "SSH banner",
    "stops after its banner": "key exchange",
    "stops half-way": "waiting for the rest of the answers",
    "no SSH server": "is no SSH server",
    "garbage behind SSH": "did not run the script",
}


@dataclass(frozen=True)
class Host:
    """One loopback host: its name, where it listens, and what it is (a key of `EXPECTED`)."""

    name: str
    kind: str
    address: str
    port: int


class BrokenCluster:
    """A context manager: the hosts stand while it is entered. ``count`` hosts, shuffled by ``seed``."""

    def __init__(self, count: int, folder: Path, seed: int = 1) -> None:
        self.hosts: list[Host] = []
        self.inventory = folder / "inventory.yaml"
        self._kinds = kinds_of(count)
        self._folder = folder
        self._random = random.Random(seed)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> BrokenCluster:
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def account(self, report: dict[str, Any]) -> tuple[collections.Counter[str], list[str]]:
        """Hosts by what the report says of them, and a line for each host of which it says wrong."""
        cells = {c["subject"]["host"]: c for c in report["results"] if c["check"] == "reachable"}
        seen: collections.Counter[str] = collections.Counter()
        wrong = []
        for host in self.hosts:
            cell = cells.get(host.name)
            if cell is None:
                wrong.append(f"{host.name}, which {host.kind}, is not in the report")
                continue
            said = "pass" if cell["status"] == "pass" else f"{cell['status']}: {cell['actual']}"
            matches = [kind for kind, words in EXPECTED.items() if _is_told(words, said)]
            seen[matches[0] if len(matches) == 1 else "something else"] += 1
            if matches != [host.kind]:
                wrong.append(f"{host.name}, which {host.kind}: {said}")
        return seen, wrong

    # --- the hosts --------------------------------------------------------------------------------

    def _start(self, stack: contextlib.ExitStack) -> None:
        places: dict[str, list[tuple[str, int]]] = {
            "refuses": stack.enter_context(bound_only(self._kinds["refuses"])),
            "never speaks": stack.enter_context(silent(self._kinds["never speaks"], b"")),
            "stops after its banner": stack.enter_context(
                silent(self._kinds["stops after its banner"], b"SSH-2.0-OpenSSH_9.2\r\n")
            ),
            "no SSH server": stack.enter_context(
                silent(self._kinds["no SSH server"], b"HTTP/1.1 400 Bad Request\r\n\r\n", hang_up=True)
            ),
        }
        answer = recorded_answer(self._folder)
        half = self._folder / "half"
        half.write_bytes(answer.read_bytes()[: answer.stat().st_size // 2])
        commands = {
            "answers": replay_command(answer),
            "stops half-way": f"{replay_command(half)}; exec sleep 100000",
            "garbage behind SSH": "cat > /dev/null; echo Welcome to the console; echo '1) status 2) reboot'",
        }
        farms = {
            kind: stack.enter_context(farm(command, self._kinds[kind], f"127.{81 + number}"))
            for number, (kind, command) in enumerate(commands.items())
            if self._kinds[kind]
        }
        for kind, servers in farms.items():
            places[kind] = [(servers.host(name).address, servers.host(name).port) for name in servers.names]
        everywhere = [(kind, *place) for kind in places for place in places[kind]]
        self._random.shuffle(everywhere)
        self.hosts = [
            Host(f"node{number:04d}", kind, address, port)
            for number, (kind, address, port) in enumerate(everywhere, 1)
        ]
        self._write_inventory(farms)

    def _write_inventory(self, farms: dict[str, OpenSSHFarm]) -> None:
        known_hosts = self._folder / "known_hosts"
        known_hosts.write_text("".join(servers.known_hosts.read_text() for servers in farms.values()))
        entries = []
        for host in self.hosts:
            ssh: dict[str, object] = {"port": host.port}
            if host.kind in farms:
                ssh["identity"] = str(farms[host.kind].client_key)
            entries.append(
                {
                    "name": host.name,
                    "address": host.address,
                    "ssh": ssh,
                    "tags": [host.kind.replace(" ", "-")],
                }
            )
        user = next(iter(farms.values())).user
        some_key = str(next(iter(farms.values())).client_key)
        ssh = {"user": user, "identity": some_key, "known_hosts": str(known_hosts), "config": False}
        document = {"version": 1, "defaults": {"ssh": ssh, "generation": "a2"}, "hosts": entries}
        self.inventory.write_text(yaml.safe_dump(document))


def _is_told(words: str, said: str) -> bool:
    # A limit that passed is no pass.
    return said == words if words == EXPECTED["answers"] else words in said


def kinds_of(count: int) -> dict[str, int]:
    """How many hosts of each kind, at least one of each."""
    hang, garbage = max(3, round(0.05 * count)), max(2, round(0.01 * count))
    kinds = {
        "refuses": round(0.2 * count),
        "never speaks": hang - 2 * (hang // 3),
        "stops after its banner": hang // 3,
        "stops half-way": hang // 3,
        "no SSH server": garbage - garbage // 2,
        "garbage behind SSH": garbage // 2,
    }
    return {**kinds, "answers": count - sum(kinds.values())}


def recorded_answer(folder: Path) -> Path:
    """What the simulator's tools of one A2 server answer to the script, with `RECORDED` as its number."""
    (rendered,) = render_cluster(make_spec(generation="a2", hosts=1), folder / "hosts", cheap=True)
    script = build_script(RECORDED, sudo=False, commands=allowed(commands_of(Profile.STANDARD)))
    path = {"PATH": f"{rendered.bin}:/usr/bin:/bin"}
    done = subprocess.run(["/bin/sh", "-s"], input=script, capture_output=True, check=True, env=path)
    answer = folder / "answer"
    answer.write_bytes(done.stdout)
    return answer


def replay_command(answer: Path) -> str:
    """Read the script to its end, find its number, print the answer with that number."""
    nonce = r"grep -a -o -m 1 -E '\b[0-9a-f]{32}\b' | head -n 1"
    return f"n=$(cat | {nonce}); sed s/{RECORDED}/$n/g {shlex.quote(str(answer))}"


@contextlib.contextmanager
def farm(command: str, count: int, network: str) -> Iterator[OpenSSHFarm]:
    names = [f"host{number:04d}" for number in range(count)]
    with OpenSSHFarm(
        [(name, None) for name in names], extra=[f"ForceCommand {command}"], network=network
    ) as servers:
        yield servers


@contextlib.contextmanager
def bound_only(count: int) -> Iterator[list[tuple[str, int]]]:
    """Ports that are taken and where nothing listens."""
    with contextlib.ExitStack() as stack:
        places = []
        for number in range(count):
            bound = stack.enter_context(socket.socket())
            bound.bind((f"127.90.{number // 250}.{number % 250 + 1}", 0))
            places.append(bound.getsockname())
        yield places


@contextlib.contextmanager
def silent(count: int, said: bytes, *, hang_up: bool = False) -> Iterator[list[tuple[str, int]]]:
    """Services that accept, say something, and then nothing more, or hang up."""
    held: list[socket.socket] = []

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.sendall(said)
                if hang_up:
                    connection.shutdown(socket.SHUT_WR)
                held.append(connection)

    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        for listener in listeners:
            threading.Thread(target=serve, args=(listener,), daemon=True).start()
        try:
            yield [listener.getsockname() for listener in listeners]
        finally:
            for each in itertools.chain(listeners, held):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
