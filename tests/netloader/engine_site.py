"""Hosts behind real OpenSSH servers on which engines are started, and the product asked about them.

A host is an address of loopback with a home folder and a disk of its own; its engine is `engine_standin`, and
how that behaves stands in the host's environment. Nothing that was started is left afterwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from tests.openssh import OpenSSHFarm

PROGRAM = Path(__file__).with_name("engine_standin.py")
MODEL = "/models/m"
API_PORT, LISTEN_PORT = 18100, 18000
PATIENCE_S = 300.0
_MARK = b"ASCENDCTL_START="


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"it did not come to pass: {what}"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@dataclass(frozen=True)
class Answer:
    """What one call of the product came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        content = json.loads(self.out)
        assert isinstance(content, dict)
        return content

    @property
    def instances(self) -> dict[str, dict[str, Any]]:
        """Of a JSON report, by name."""
        return {one["name"]: one for one in self.json["instances"]}


class Call:
    """The product at work: what it has written so far, and how it ends."""

    def __init__(self, words: list[str], environment: Mapping[str, str], cwd: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ascendctl", "netloader", *words],
            env=dict(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._parts: tuple[list[bytes], list[bytes]] = ([], [])
        self._readers = [
            threading.Thread(target=self._read, args=(stream, parts), daemon=True)
            for stream, parts in zip((self.process.stdout, self.process.stderr), self._parts, strict=True)
        ]
        for reader in self._readers:
            reader.start()

    @property
    def out(self) -> str:
        return b"".join(self._parts[0]).decode()

    @property
    def err(self) -> str:
        return b"".join(self._parts[1]).decode()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        self.process.kill()
        self.answer()

    def answer(self) -> Answer:
        try:
            code = self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return Answer(code, self.out, self.err)

    @staticmethod
    def _read(stream: Any, parts: list[bytes]) -> None:
        while part := stream.read1(65536):
            parts.append(part)


class Control:
    """A control machine with an inventory of these hosts."""

    def __init__(self, folder: Path, hosts: list[dict[str, Any]]) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._inventory = folder / "inventory.yaml"
        self._inventory.write_text(yaml.safe_dump({"version": 1, "hosts": hosts}))

    def start(self, verb: str, *words: str, elsewhere: bool = False, **variables: str) -> Call:
        """One call; ``elsewhere``: from another control machine, which has nothing of this one's."""
        home = self._folder / ("elsewhere" if elsewhere else "here")
        home.mkdir(exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "COLUMNS")}
        environment = {**kept, "HOME": str(home), "NO_COLOR": "1", **variables}
        return Call([verb, "-i", str(self._inventory), *words], environment, home)

    def ask(self, verb: str, *words: str, elsewhere: bool = False, **variables: str) -> Answer:
        return self.start(verb, *words, elsewhere=elsewhere, **variables).answer()


def serving(*words: str, name: str, hosts: str, tp: int = 2, listen: bool = True) -> list[str]:
    """Words of a `serve` of the stand-in, as JSON; ``words`` have the last say."""
    ports = ["--port", str(API_PORT), *(["--listen-port", str(LISTEN_PORT)] if listen else [])]
    launcher = shlex.join([sys.executable, str(PROGRAM), "serve"])
    engine = ["--launcher", launcher, "--bind", "address", "--tp", str(tp), "--model", MODEL, *ports]
    return ["--name", name, "--hosts", hosts, *engine, "--no-gate", "--format", "json", *words]


def joining(*words: str, name: str, hosts: str) -> list[str]:
    """Words of a `join`, as JSON."""
    return ["--from", name, "--hosts", hosts, "--no-gate", "--format", "json", *words]


class Site:
    """``hosts``: name → variables of its sessions, beside HOME and STANDIN_DISK. A context manager.

    The disk holds weights unless ``STANDIN_DISK`` is given as "" there. ``apart``: hosts with an SSH server
    of their own, which can be stopped or frozen without the others.
    """

    def __init__(
        self, folder: Path, hosts: Mapping[str, Mapping[str, str]], *, apart: tuple[str, ...] = ()
    ) -> None:
        self.folder = folder
        self.names = list(hosts)
        for disk in ("full", "empty"):
            (folder / disk / MODEL[1:]).mkdir(parents=True)
            (folder / disk / MODEL[1:] / "config.json").write_text("{}")
        (folder / "full" / MODEL[1:] / "model.safetensors").write_bytes(os.urandom(64))
        self._variables = {}
        for name, given in hosts.items():
            self.home(name).mkdir(parents=True)
            own_disk = folder / ("empty" if given.get("STANDIN_DISK") == "" else "full")
            own = {"HOME": str(self.home(name)), "STANDIN_TIMEOUT_S": str(PATIENCE_S)}
            self._variables[name] = {**own, **given, "STANDIN_DISK": str(own_disk)}
        together = [name for name in hosts if name not in apart]
        self._groups = [group for group in (together, *([name] for name in apart)) if group]
        self._farms: dict[str, OpenSSHFarm] = {}
        self._described: dict[str, dict[str, Any]] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Site:
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        for name in self.names:
            for pid in self.processes(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def control(self, *hosts: str) -> Control:
        """Who asks these hosts and knows of no other."""
        return Control(self.folder / f"{hosts[0]}-control", [self._described[name] for name in hosts])

    # What is there ------------------------------------------------------------------------------------

    def home(self, host: str) -> Path:
        return self.folder / "hosts" / host

    def address(self, host: str) -> str:
        return self._farms[host].host(host).address

    def url(self, host: str) -> str:
        return f"http://{self.address(host)}:{API_PORT}"

    def root(self, host: str) -> Path:
        return self.home(host) / ".ascendctl"

    def instance(self, deployment: str, host: str) -> Path:
        """The folder of its first instance."""
        return self.root(host) / "netloader" / deployment / f"{host}.1"

    def state(self, deployment: str, host: str) -> dict[str, Any]:
        """Of the host itself; {} while there is none."""
        try:
            content = json.loads((self.instance(deployment, host) / "state.json").read_text())
        except (OSError, ValueError):
            return {}
        assert isinstance(content, dict)
        return content

    def is_started(self, deployment: str, host: str) -> bool:
        return self.state(deployment, host).get("phase") == "started" and bool(self.engine(host))

    def engine(self, host: str) -> set[int]:
        """Processes of engines on the host."""
        return {pid for pid, environment in self._environments(host) if _MARK in environment}

    def processes(self, host: str) -> set[int]:
        """All of the host: engines, their keepers, and what a session runs just now."""
        return {pid for pid, _ in self._environments(host)}

    def farm(self, host: str) -> OpenSSHFarm:
        return self._farms[host]

    def _environments(self, host: str) -> Iterator[tuple[int, bytes]]:
        home = f"\0HOME={self.home(host)}\0".encode()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and home in (read := b"\0" + (entry / "environ").read_bytes()):
                    yield int(entry.name), read

    # How it is made -----------------------------------------------------------------------------------

    def _start(self) -> None:
        # Of this process alone: tests run beside each other, and the engines' ports are the same everywhere.
        first = 128 + os.getpid() % 32 * 3
        for number, group in enumerate(self._groups):
            farm = self._stack.enter_context(
                OpenSSHFarm(
                    [(name, os.environ["PATH"]) for name in group],
                    network=f"127.{first + number}",
                    variables={name: self._variables[name] for name in group},
                )
            )
            for name in group:
                self._farms[name] = farm
                ssh = {
                    "user": farm.user,
                    "identity": str(farm.client_key),
                    "known_hosts": str(farm.known_hosts),
                    "config": False,
                    "port": farm.host(name).port,
                }
                host = {"name": name, "address": farm.host(name).address, "accelerator": "cpu", "ssh": ssh}
                self._described[name] = host
