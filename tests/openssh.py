"""Real OpenSSH servers on loopback, one simulated host per address and port, for tests and benchmarks.

One ``sshd`` process listens for up to sixteen hosts (OpenSSH's own limit) on addresses 127.x.y.z;
``Match LocalAddress … LocalPort …`` with ``SetEnv PATH=…`` gives each host its own PATH, which is all
that a simulated host needs. Host keys, authorised keys and known_hosts are the farm's own. The server's
log counts connections and executed commands. Root is not needed: run by anybody else, the servers
accept that user only.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ascendctl.inventory import Endpoint

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
KEYGEN = shutil.which("ssh-keygen") or "/usr/bin/ssh-keygen"
HOSTS_PER_DAEMON = 16  # MAX_LISTEN_SOCKS in sshd.c

_START_LIMIT_S = 30.0


def why_not() -> str | None:
    """Why no farm can be started here; None if one can."""
    for program in (SSHD, KEYGEN):
        if not Path(program).exists():
            return f"{program} is missing: install OpenSSH's server (Debian: apt-get install openssh-server)"
    return None


@dataclass(frozen=True)
class FarmHost:
    """One simulated host: its name, where it listens, the PATH that its sessions get."""

    name: str
    address: str
    port: int
    path: str | None


class OpenSSHFarm:
    """A context manager: the hosts answer while it is entered, and nothing is left afterwards.

    ``hosts``: (name, PATH of its sessions or None) each. ``address_of`` overrides the loopback address
    per name. ``extra`` are lines of sshd_config put in front, where OpenSSH lets the first value win.
    ``variables``: by name, what else the host's sessions have in their environment, a HOME of its own say.
    """

    def __init__(
        self,
        hosts: Sequence[tuple[str, str | None]],
        *,
        extra: Sequence[str] = (),
        host_key_types: Sequence[str] = ("ed25519",),
        network: str = "127.77",
        max_startups: str = "500",
        variables: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._wanted = list(hosts)
        self._extra = list(extra)
        self._host_key_types = list(host_key_types)
        self._network = network
        self._max_startups = max_startups
        self._variables = variables or {}
        self._daemons: list[_Daemon] = []
        self._hosts: dict[str, FarmHost] = {}

    def __enter__(self) -> OpenSSHFarm:
        reason = why_not()
        if reason is not None:
            raise RuntimeError(reason)
        self.folder = Path(tempfile.mkdtemp(prefix="ascendctl-sshd-"))
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for daemon in self._daemons:
            daemon.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- what a test asks for ---------------------------------------------------------------------

    @property
    def user(self) -> str:
        return getpass.getuser()

    @property
    def names(self) -> list[str]:
        return list(self._hosts)

    @property
    def client_key(self) -> Path:
        return self.folder / "client_key"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def pids(self) -> list[int]:
        """Process ids of the listening daemons."""
        return [daemon.process.pid for daemon in self._daemons]

    def host(self, name: str) -> FarmHost:
        return self._hosts[name]

    def endpoint(self, name: str, **changes: object) -> Endpoint:
        """How to reach the host; ``changes`` replace fields of the endpoint."""
        host = self._hosts[name]
        fields: dict[str, object] = {
            "name": name,
            "address": host.address,
            "port": host.port,
            "user": self.user,
            "identity_files": (self.client_key,),
            "known_hosts": self.known_hosts,
            "use_ssh_config": False,
        }
        return Endpoint(**{**fields, **changes})  # type: ignore[arg-type]

    def connections(self, name: str) -> int:
        """How many TCP connections the host's server has taken since the start or `forget`."""
        return len(self._of(name))

    def logins(self, name: str) -> int:
        """How many logins it accepted."""
        return sum(client.logins for client in self._of(name))

    def execs(self, name: str) -> int:
        """How many commands it was asked to run."""
        return sum(client.execs for client in self._of(name))

    def log(self, name: str) -> str:
        """The server's log so far, of all hosts of its daemon."""
        return self._text(name)

    def forget(self) -> None:
        """Start counting anew."""
        for daemon in self._daemons:
            daemon.counted_from = daemon.log.stat().st_size

    def session_pids(self, name: str) -> list[int]:
        """The sshd processes that serve one connection each on this host's daemon."""
        return _descendants(self._daemon(name).process.pid, only="sshd")

    def kill_sessions(self, name: str) -> int:
        """Kill every server process that serves a connection of this host's daemon; how many."""
        pids = self.session_pids(name)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    @contextlib.contextmanager
    def frozen_sessions(self, name: str) -> Iterator[None]:
        """Stop those processes without ending them, as a machine that hangs; afterwards they are killed."""
        pids = self.session_pids(name)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def stop_daemon(self, name: str) -> None:
        """Stop the daemon that listens for this host (and its up to fifteen neighbours)."""
        self._daemon(name).stop()

    # --- starting ---------------------------------------------------------------------------------

    def _start(self) -> None:
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)
        _keygen(self.client_key, "ed25519")
        shutil.copy(self.client_key.with_suffix(".pub"), self.folder / "authorized_keys")
        for key_type in self._host_key_types:
            _keygen(self.folder / f"host_{key_type}", key_type)
        for first in range(0, len(self._wanted), HOSTS_PER_DAEMON):
            batch = self._wanted[first : first + HOSTS_PER_DAEMON]
            self._start_daemon(len(self._daemons), batch)
        self._write_known_hosts()

    def _start_daemon(self, number: int, batch: Sequence[tuple[str, str | None]]) -> None:
        # The port is free when it is looked for and may be taken when sshd binds it: try again then.
        for _ in range(5):
            hosts = [
                FarmHost(name, address, _free_port(address), path)
                for (name, path), address in zip(batch, self._addresses(number, len(batch)), strict=True)
            ]
            daemon = _Daemon(self.folder, number, self._config(hosts), hosts)
            if daemon.wait_until_it_answers():
                self._daemons.append(daemon)
                self._hosts.update({host.name: host for host in hosts})
                return
            daemon.stop()
        raise RuntimeError(f"sshd did not start: {daemon.log.read_text()[-2000:]}")

    def _addresses(self, number: int, count: int) -> list[str]:
        first = number * HOSTS_PER_DAEMON + 1
        return [f"{self._network}.{index // 250}.{index % 250 + 1}" for index in range(first, first + count)]

    def _config(self, hosts: Sequence[FarmHost]) -> str:
        lines = [
            *self._extra,
            *(f"ListenAddress {host.address}:{host.port}" for host in hosts),
            *(f"HostKey {self.folder}/host_{key_type}" for key_type in self._host_key_types),
            f"AuthorizedKeysFile {self.folder}/authorized_keys",
            "StrictModes no",
            "UsePAM no",
            "PermitRootLogin prohibit-password",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PrintMotd no",
            "PrintLastLog no",
            "UseDNS no",
            "PidFile none",
            "LogLevel VERBOSE",
            f"MaxStartups {self._max_startups}",
        ]
        for host in hosts:
            lines.append(f"Match LocalAddress {host.address} LocalPort {host.port}")
            # bash started by sshd reads ~/.bashrc unless SHLVL says that it is an inner shell. A start-up
            # file would change PATH, and one that starts programs makes every host several times slower.
            own = {"TMPDIR": tempfile.gettempdir()} | ({"PATH": host.path} if host.path is not None else {})
            own |= self._variables.get(host.name, {})
            words = [f'"{name}={value}"' for name, value in own.items()]
            lines.append(f"    SetEnv {' '.join([*words, 'SHLVL=5'])}")
        return "\n".join(lines) + "\n"

    def _write_known_hosts(self) -> None:
        lines = []
        for key_type in self._host_key_types:
            key = (self.folder / f"host_{key_type}.pub").read_text().split()[:2]
            lines += [f"[{host.address}]:{host.port} {' '.join(key)}" for host in self._hosts.values()]
        self.known_hosts.write_text("\n".join(lines) + "\n")

    # --- reading the log --------------------------------------------------------------------------

    def _daemon(self, name: str) -> _Daemon:
        return next(daemon for daemon in self._daemons if any(host.name == name for host in daemon.hosts))

    def _text(self, name: str) -> str:
        return self._daemon(name).text()

    def _of(self, name: str) -> list[_Client]:
        host = self._hosts[name]
        clients = _clients(self._text(name))
        return [client for client in clients if (client.address, client.port) == (host.address, host.port)]


@dataclass
class _Client:
    """One connection in a server's log: to which host, and what came of it."""

    address: str
    port: int
    logins: int = 0
    execs: int = 0


_LOG_LINE = re.compile(
    r"^(?:Connection from \S+ port (?P<new>\d+) on (?P<address>\S+) port (?P<port>\d+)\b"
    r"|Accepted \S+ for \S+ from \S+ port (?P<login>\d+) "
    r"|Starting session: .* from \S+ port (?P<exec>\d+) id)",
    re.MULTILINE,
)


def _clients(text: str) -> list[_Client]:
    """The connections of a log. A login and a command name the client's port only, and one port may lead to
    two hosts at a time: each of its connections then gets one, the earlier first."""
    clients: list[_Client] = []
    by_port: dict[str, list[_Client]] = {}
    for found in _LOG_LINE.finditer(text):
        if found["new"]:
            clients.append(_Client(found["address"], int(found["port"])))
            by_port.setdefault(found["new"], []).append(clients[-1])
        elif found["login"] and (same := by_port.get(found["login"])):
            min(same, key=lambda client: client.logins).logins += 1
        elif found["exec"] and (same := by_port.get(found["exec"])):
            min((client for client in same if client.logins), key=lambda client: client.execs).execs += 1
    return clients


class _Daemon:
    def __init__(self, folder: Path, number: int, config: str, hosts: Sequence[FarmHost]) -> None:
        self.hosts = list(hosts)
        self.log = folder / f"sshd-{number}.log"
        self.counted_from = 0
        path = folder / f"sshd-{number}.conf"
        path.write_text(config)
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def text(self) -> str:
        with self.log.open("rb") as stream:
            stream.seek(self.counted_from)
            return stream.read().decode("utf-8", "replace")

    def wait_until_it_answers(self) -> bool:
        # Its log says when it listens; connecting to find out would count as a connection.
        until = time.monotonic() + _START_LIMIT_S
        while time.monotonic() < until:
            text = self.text()
            if self.process.poll() is not None or "Bind to port" in text:
                return False
            if text.count("Server listening on") >= len(self.hosts):
                return True
            time.sleep(0.02)
        return False

    def stop(self) -> None:
        below = _descendants(self.process.pid)
        for pid in (self.process.pid, *below):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def _keygen(path: Path, key_type: str) -> None:
    subprocess.run(
        [KEYGEN, "-q", "-t", key_type, "-N", "", "-C", "ascendctl test", "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
    )


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _descendants(root: int, only: str | None = None) -> list[int]:
    children: dict[int, list[tuple[int, str]]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                head, _, tail = (entry / "stat").read_text("utf-8", "replace").rpartition(")")
                children.setdefault(int(tail.split()[1]), []).append(
                    (int(entry.name), head.partition("(")[2])
                )
    found: list[int] = []
    waiting = [root]
    while waiting:
        for pid, command in children.get(waiting.pop(), ()):
            waiting.append(pid)
            if only is None or command.startswith(only):
                found.append(pid)
    return found
