"""A few hosts behind real OpenSSH on loopback, and a control machine that knows them by an inventory alone.

Each host has a HOME of its own, in which its logins begin, so one path names another folder on every host.
The product is run as a person runs it: `python -m ascendctl`, in a HOME and a folder of the control machine's
own. Everything that was printed is kept (`Site.printed`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.vllm_server import ENGINE_ENVIRONMENT
from tests.openssh import OpenSSHFarm

CONTROL = os.environ.get("E2E_CONTROL") or sys.executable
"""The control machine's Python, with ascendctl's dependencies; the hosts' Python has torch and vLLM."""
# Longer than any wait that the product was told: a call that takes longer hangs.
CALL_LIMIT_S = 900.0
_END_LIMIT_S = 30.0
# Below Linux' ephemeral ports with a draft model's + 10000 too, above HCCL's and Mooncake's.
_PORTS = range(22_200, 22_700)


def why_not() -> str | None:
    """Why the control machine's Python cannot run ascendctl; None if it can."""
    tried = subprocess.run(
        [CONTROL, "-c", "import paramiko, ClusterShell"], capture_output=True, text=True, check=False
    )
    if tried.returncode == 0:
        return None
    return f"{CONTROL} lacks what ascendctl needs (make test-e2e names one): {tried.stderr.splitlines()[-1:]}"


@dataclass(frozen=True)
class Answer:
    """What one call of ascendctl came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.out)
        return content

    @property
    def text(self) -> str:
        """For a failed assertion."""
        return f"exit code {self.code}\n{self.out}\n{self.err}"

    def instance(self, name: str) -> dict[str, Any]:
        """What a report in JSON says of one instance."""
        (found,) = [one for one in self.json["instances"] if one["name"] == name]
        return dict(found)


@dataclass
class Site:
    """Use as a context manager: the hosts answer while it is entered; afterwards nothing of theirs runs.

    `apart`: hosts whose SSH server is a process of its own, so that it can be stopped alone.
    """

    folder: Path
    hosts: Sequence[str]
    apart: Sequence[str] = ()
    printed: list[str] = field(default_factory=list)
    _farms: list[OpenSSHFarm] = field(default_factory=list)

    def __enter__(self) -> Site:
        with contextlib.ExitStack() as stack:
            stack.callback(self.end_processes)
            for number, names in enumerate([list(self.hosts), *([one] for one in self.apart)], 86):
                self._farms.append(stack.enter_context(self._farm(names, f"127.{number}")))
            self.control("control")
            self._left = stack.pop_all()
        return self

    def __exit__(self, *ended: object) -> None:
        self._left.close()

    # Hosts ------------------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        return [*self.hosts, *self.apart]

    def home(self, host: str) -> Path:
        return self.folder / "hosts" / host

    def address(self, host: str) -> str:
        return self._of(host).host(host).address

    def deployments(self, host: str) -> Path:
        """Where the host keeps what was started on it."""
        return self.home(host) / ".ascendctl" / "netloader"

    def cut_off(self, host: str) -> None:
        """Stop the SSH server of a host of `apart`."""
        self._of(host).stop_daemon(host)

    def processes(self, host: str) -> dict[int, str]:
        """What runs on the host: process id → command line. It is known by its HOME, or by the folder that it
        runs in: vLLM's workers write their title over their environment."""
        home = self.home(host).resolve()
        mark = f"HOME={self.home(host)}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if not entry.name.isdigit():
                    continue
                here = (entry / "cwd").readlink() == home
                if here or mark in (entry / "environ").read_bytes().split(b"\0"):
                    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(entry.name)] = words.decode(errors="replace")
        return found

    def end_processes(self, *hosts: str) -> None:
        """KILL for what still runs on these hosts, or on any."""
        for host in hosts or self.names:
            for pid in self.processes(host):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def clear(self, *hosts: str) -> None:
        """Nothing of ascendctl is left on these hosts."""
        self.end_processes(*hosts)
        for host in hosts:
            shutil.rmtree(self.deployments(host), ignore_errors=True)

    def nothing_runs(self, *hosts: str) -> bool:
        """Whether nothing runs there, within the time that the end of a login may take."""
        return within(_END_LIMIT_S, lambda: not any(self.processes(host) for host in hosts))

    def free_ports(self, count: int) -> list[int]:
        """Ports that are free on every address of this machine now: the hosts see each other's."""
        free = []
        for port in _PORTS:
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind(("0.0.0.0", port))
                free.append(port)
            if len(free) == count:
                return free
        raise RuntimeError(f"no {count} free ports in {_PORTS}")

    # The control machine ----------------------------------------------------------------------------------

    def control(self, name: str) -> Path:
        """A control machine: a folder, which is its HOME, with an inventory and an environment file."""
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir()
            (folder / "inventory.yaml").write_text(yaml.safe_dump(self._inventory()))
            # What vLLM found out about a model's class takes it long, and is kept below HOME.
            cache = os.environ.get("VLLM_CACHE_ROOT") or str(Path.home() / ".cache" / "vllm")
            variables = {**ENGINE_ENVIRONMENT, "VLLM_CACHE_ROOT": cache}
            lines = [f"{key}={value}\n" for key, value in variables.items()]
            (folder / "engine.env").write_text("".join(lines))
        return folder

    def start(self, *words: str, control: str = "control") -> subprocess.Popen[str]:
        """`ascendctl WORDS…` on the control machine, under way; `finished` waits for it."""
        folder = self.control(control)
        kept = ("PATH", "LANG", "TMPDIR")
        own = {"HOME": str(folder), "COLUMNS": "160", "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            [CONTROL, "-m", "ascendctl", *words],
            cwd=folder,
            env={name: os.environ[name] for name in kept if name in os.environ} | own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finished(self, call: subprocess.Popen[str]) -> Answer:
        """Fails with what was printed where the call does not end."""
        try:
            out, err = call.communicate(timeout=CALL_LIMIT_S)
        except subprocess.TimeoutExpired:
            call.kill()
            out, err = call.communicate()
            raise AssertionError(f"it hangs: {call.args!r}\n{out}\n{err}") from None
        self.printed += [out, err]
        return Answer(call.returncode, out, err)

    def run(self, *words: str, control: str = "control") -> Answer:
        return self.finished(self.start(*words, control=control))

    # Parts ------------------------------------------------------------------------------------------------

    def _farm(self, names: Sequence[str], network: str) -> OpenSSHFarm:
        for name in names:
            self.home(name).mkdir(parents=True)
        return OpenSSHFarm(
            [(name, os.environ["PATH"]) for name in names],
            network=network,
            variables={name: {"HOME": str(self.home(name))} for name in names},
            # sshd begins in the home folder of the account, which these hosts share.
            extra=['ForceCommand cd "$HOME" && exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"'],
        )

    def _of(self, host: str) -> OpenSSHFarm:
        return next(farm for farm in self._farms if host in farm.names)

    def _inventory(self) -> dict[str, object]:
        hosts = []
        for name in self.names:
            farm = self._of(name)
            ssh = {
                "user": farm.user,
                "port": farm.host(name).port,
                "identity": str(farm.client_key),
                "known_hosts": str(farm.known_hosts),
                "config": False,
            }
            hosts.append({"name": name, "address": farm.host(name).address, "ssh": ssh, "accelerator": "cpu"})
        return {"version": 1, "hosts": hosts}


def lay_out(source: Path, folder: Path) -> None:
    """A copy of a model's folder on a host."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, folder)


def within(limit_s: float, condition: Callable[[], bool]) -> bool:
    """Whether it came to hold before the limit."""
    until_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.05)
    return True


@contextlib.contextmanager
def listening(address: str, port: int) -> Iterator[None]:
    """Somebody else has the port."""
    with socket.socket() as sock:
        sock.bind((address, port))
        sock.listen()
        yield
