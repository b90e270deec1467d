"""From an endpoint to a server's full address: what ``~/.ssh/config`` adds to the inventory.

Values of the inventory win. OpenSSH's own client is asked (``ssh -G``) where it is present, because
it alone reads every directive; otherwise paramiko's reader is used, with a warning. Nothing is asked
where no configuration file has a directive that matters here.
"""

from __future__ import annotations

import contextlib
import getpass
import glob
import os
import pwd
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ascendctl.inventory import Endpoint, HostKeyPolicy
from ascendctl.transport.children import Child
from ascendctl.transport.faults import is_descriptor_shortage
from ascendctl.transport.identities import DEFAULT_NAMES
from ascendctl.transport.known_hosts import DEFAULT_PORT
from ascendctl.transport.remote_text import one_line
from ascendctl.transport.watch import Guard

ASK_LIMIT_S = 15.0


@dataclass(frozen=True)
class Server:
    """Everything needed to connect to one SSH server.

    ``identities_named``: the identity files were asked for by name (inventory or config).
    ``host_key_name`` at ``host_key_port`` is what known_hosts is searched for: OpenSSH looks an alias
    (``HostKeyAlias``) up bare, as at the default port. ``agent_socket`` None = the environment's.
    """

    endpoint: Endpoint
    address: str
    port: int
    user: str
    identity_files: tuple[Path, ...]
    identities_named: bool
    use_agent: bool
    agent_socket: str | None
    known_hosts: tuple[Path, ...]
    host_key_name: str
    host_key_port: int
    host_key_policy: HostKeyPolicy
    hash_new_names: bool
    jump: Endpoint | None
    proxy_command: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.endpoint.name


class ConfigProblem(Exception):
    """The endpoint cannot be made into an address. ``kind`` is that of the host's failure."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class ClientConfig:
    """Reads OpenSSH's client configuration for many endpoints; thread-safe.

    ``user_config`` None = ``~/.ssh/config``; ``system_config`` is ``/etc/ssh/ssh_config``. ``warnings``
    holds sentences to show once.
    """

    def __init__(
        self,
        user_config: Path | None = None,
        system_config: Path = Path("/etc/ssh/ssh_config"),
        ssh: str | None = None,
    ) -> None:
        self._user_config = user_config or Path.home() / ".ssh" / "config"
        self._system_config = system_config
        self._ssh = ssh if ssh is not None else shutil.which("ssh")
        self._explicit = user_config is not None or Path.home() != _home_of_account()
        self._lock = threading.Lock()
        self._scan: _Scan | None = None
        self._own_name = _name_of_account()
        self._answers: dict[tuple[str, str | None, int | None], Mapping[str, list[str]]] = {}
        self.warnings: list[str] = []

    def resolve(self, endpoint: Endpoint, guard: Guard | None = None) -> Server:
        """The endpoint's server; asks OpenSSH's client at most once per address, user and port.

        Raises `ConfigProblem`.
        """
        _refuse_odd_address(endpoint)
        said: Mapping[str, list[str]] = {}
        scan = self._scanned()
        if endpoint.use_ssh_config and scan.matters:
            said = self._ask(endpoint, guard)
        hash_new_names = endpoint.use_ssh_config and scan.hash_new_names
        return _merge(endpoint, said, own_name=self._own_name, hash_new_names=hash_new_names)

    def _scanned(self) -> _Scan:
        with self._lock:
            if self._scan is None:
                files = [self._user_config] if self._user_config.exists() and self._explicit else []
                if not files:
                    files = [self._user_config, self._system_config]
                self._scan = _scan_files(files)
            return self._scan

    def _ask(self, endpoint: Endpoint, guard: Guard | None) -> Mapping[str, list[str]]:
        request = (endpoint.address, endpoint.user, endpoint.port)
        with self._lock:
            answer = self._answers.get(request)
        if answer is None:
            answer = self._ask_openssh(endpoint, guard) if self._ssh else self._ask_paramiko(endpoint)
            with self._lock:
                self._answers[request] = answer
        return answer

    def _ask_openssh(self, endpoint: Endpoint, guard: Guard | None) -> Mapping[str, list[str]]:
        argv = [self._ssh or "ssh", "-G"]
        if self._explicit and self._user_config.exists():
            argv += ["-F", str(self._user_config)]
        if endpoint.user is not None and _PLAIN_USER.fullmatch(endpoint.user):
            # Any other user name must not reach a `Match exec` line of the user's configuration.
            argv += ["-l", endpoint.user]
        if endpoint.port is not None:
            argv += ["-p", str(endpoint.port)]
        argv += ["--", endpoint.address]
        if guard is not None:
            guard.enter_layer(
                f"ssh -G {one_line(endpoint.address)} (a slow 'Match exec' in the SSH configuration?)"
            )
        child = Child(argv)
        try:
            with guard.at_cut(child.end) if guard is not None else contextlib.nullcontext():
                output, errors = child.output(
                    ASK_LIMIT_S, lambda: guard is not None and guard.cut_by is not None
                )
        except subprocess.TimeoutExpired:
            raise ConfigProblem(
                "not-attempted",
                f"ssh -G gave no answer within {ASK_LIMIT_S:g} s: look for a slow 'Match exec' or "
                "'CanonicalizeHostname' in the SSH configuration",
            ) from None
        if child.process.returncode != 0:
            raise ConfigProblem("not-attempted", f"the SSH configuration cannot be used: {one_line(errors)}")
        return _read_answer(output.decode("utf-8", "surrogateescape"))

    def _ask_paramiko(self, endpoint: Endpoint) -> Mapping[str, list[str]]:
        import paramiko

        self._warn(
            "OpenSSH's client is not installed: the SSH configuration is read without it, which leaves out "
            "'Include' and some other directives."
        )
        said: dict[str, list[str]] = {}
        for path in (self._user_config, self._system_config):
            if not path.exists():
                continue
            try:
                values = paramiko.SSHConfig.from_path(str(path)).lookup(endpoint.address)
            except Exception as error:
                raise ConfigProblem(
                    "not-attempted", f"{path} cannot be used: {one_line(str(error))}"
                ) from None
            for key, value in values.items():
                said.setdefault(key, value if isinstance(value, list) else [str(value)])
        return said

    def _warn(self, sentence: str) -> None:
        with self._lock:
            if sentence not in self.warnings:
                self.warnings.append(sentence)


def _name_of_account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # An account without a name, as in some containers; it matters only where no user is named.
        return str(os.getuid())


def _home_of_account() -> Path | None:
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return None


# --- which configuration there is -----------------------------------------------------------------

_MATTERS = frozenset(
    {
        "canonicaldomains",
        "canonicalizehostname",
        "globalknownhostsfile",
        "hostkeyalias",
        "hostname",
        "identitiesonly",
        "identityagent",
        "identityfile",
        "port",
        "proxycommand",
        "proxyjump",
        "user",
        "userknownhostsfile",
    }
)


@dataclass(frozen=True)
class _Scan:
    matters: bool
    hash_new_names: bool


def _scan_files(files: Iterable[Path]) -> _Scan:
    keywords: set[str] = set()
    hash_new_names = False
    waiting, seen = list(files), set[Path]()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        try:
            lines = path.read_text("utf-8", "replace").splitlines()
        except OSError as error:
            if is_descriptor_shortage(error):
                raise
            continue
        for line in lines:
            keyword, _, value = line.strip().replace("=", " ", 1).partition(" ")
            keyword, value = keyword.lower(), value.strip()
            keywords.add(keyword)
            if keyword == "include":
                waiting += _included(value, path)
            elif keyword == "hashknownhosts" and value.lower() in ("yes", "true"):
                hash_new_names = True
    return _Scan(bool(keywords & _MATTERS), hash_new_names)


def _included(value: str, path: Path) -> list[Path]:
    try:
        patterns = shlex.split(value)
    except ValueError:
        patterns = value.split()
    return [
        Path(found)
        for pattern in patterns
        for found in glob.glob(str(path.parent / Path(pattern).expanduser()))  # noqa: PTH207
    ]


# --- what it says ---------------------------------------------------------------------------------


def _read_answer(text: str) -> Mapping[str, list[str]]:
    said: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        said.setdefault(key.lower(), []).append(value.strip())
    return said


def _merge(
    endpoint: Endpoint, said: Mapping[str, list[str]], *, own_name: str, hash_new_names: bool
) -> Server:
    def first(key: str) -> str | None:
        values = [value for value in said.get(key, ()) if value.lower() != "none"]
        return values[0] if values else None

    address = first("hostname") or endpoint.address
    port = endpoint.port if endpoint.port is not None else int(first("port") or DEFAULT_PORT)
    user = endpoint.user or first("user") or own_name
    tokens = {
        "%%": "%",
        "%h": address,
        "%n": endpoint.address,
        "%p": str(port),
        "%r": user,
        "%u": own_name,
        "%d": str(Path.home()),
    }
    identity_files, identities_named = _identity_files(endpoint, said, tokens)
    only = (first("identitiesonly") or "no").lower() == "yes" or bool(endpoint.identity_files)
    agent = said.get("identityagent", [""])[0]
    alias = first("hostkeyalias")
    jump = endpoint.jump
    proxy_command: tuple[str, ...] = ()
    if jump is None:
        jump = _proxy_jump(endpoint, first("proxyjump"))
        if jump is None and (command := first("proxycommand")):
            proxy_command = _proxy_command(command, tokens)
    return Server(
        endpoint=endpoint,
        address=address,
        port=port,
        user=user,
        identity_files=identity_files,
        identities_named=identities_named,
        use_agent=not only and agent.lower() != "none",
        agent_socket=None if agent in ("", "SSH_AUTH_SOCK") else _expand(agent, tokens),
        known_hosts=_known_hosts_files(endpoint, said, tokens),
        host_key_name=alias or address,
        host_key_port=DEFAULT_PORT if alias else port,
        host_key_policy=endpoint.host_key_policy,
        hash_new_names=hash_new_names,
        jump=jump,
        proxy_command=proxy_command,
    )


def _identity_files(
    endpoint: Endpoint, said: Mapping[str, list[str]], tokens: Mapping[str, str]
) -> tuple[tuple[Path, ...], bool]:
    if endpoint.identity_files:
        return tuple(path.expanduser() for path in endpoint.identity_files), True
    home_keys = tuple(Path.home() / ".ssh" / name for name in DEFAULT_NAMES)
    configured = tuple(
        Path(_expand(value, tokens)) for value in said.get("identityfile", ()) if value != "none"
    )
    # `ssh -G` lists OpenSSH's defaults where none is configured, and several of them do not exist.
    if not configured or set(home_keys) <= set(configured):
        return configured or home_keys, False
    return configured, True


def _known_hosts_files(
    endpoint: Endpoint, said: Mapping[str, list[str]], tokens: Mapping[str, str]
) -> tuple[Path, ...]:
    if endpoint.known_hosts is not None:
        return (endpoint.known_hosts.expanduser(),)
    user = _paths(said.get("userknownhostsfile"), tokens) or (Path.home() / ".ssh" / "known_hosts",)
    system = _paths(said.get("globalknownhostsfile"), tokens) or (Path("/etc/ssh/ssh_known_hosts"),)
    return (*user, *system)


def _paths(values: list[str] | None, tokens: Mapping[str, str]) -> tuple[Path, ...]:
    if not values:
        return ()
    try:
        words = shlex.split(values[0])
    except ValueError:
        words = values[0].split()
    return tuple(Path(_expand(word, tokens)) for word in words if word != "none")


def _expand(text: str, tokens: Mapping[str, str]) -> str:
    text = _substitute(text, tokens)
    return str(Path(text).expanduser()) if text.startswith("~") else text


def _substitute(text: str, tokens: Mapping[str, str]) -> str:
    return re.sub(r"%.", lambda match: tokens.get(match.group(), match.group()), text)


_HOP = re.compile(r"(?:ssh://)?(?:(?P<user>[^@]+)@)?(?P<host>\[[^\]]+\]|[^:]+)(?::(?P<port>\d+))?/?")


def _proxy_jump(endpoint: Endpoint, value: str | None) -> Endpoint | None:
    hop: Endpoint | None = None
    for text in (value or "").split(","):
        match = _HOP.fullmatch(text.strip())
        if not text.strip():
            continue
        if match is None:
            raise ConfigProblem(
                "not-attempted", f"the SSH configuration's ProxyJump {one_line(text)!r} is not understood"
            )
        address = match["host"].strip("[]")
        hop = Endpoint(
            name=address,
            address=address,
            port=int(match["port"]) if match["port"] else None,
            user=match["user"],
            known_hosts=endpoint.known_hosts,
            host_key_policy=endpoint.host_key_policy,
            jump=hop,
        )
    return hop


_SHELL_SYNTAX = re.compile(r"[|&;<>$`()*?\n]|(?:^|\s)[~#]")


def _proxy_command(command: str, tokens: Mapping[str, str]) -> tuple[str, ...]:
    # Split first, fill in afterwards: a host name stays one argument whatever it holds.
    if _SHELL_SYNTAX.search(command):
        raise ConfigProblem(
            "not-attempted",
            f"the SSH configuration's ProxyCommand {one_line(command)!r} needs a shell, and none is started "
            "with a host's name: put it into a script, or use ProxyJump",
        )
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigProblem(
            "not-attempted", f"the SSH configuration's ProxyCommand cannot be split: {error}"
        ) from None
    if words[:1] == ["exec"]:
        words = words[1:]
    return tuple(_substitute(word, tokens) for word in words)


# --- names that are none --------------------------------------------------------------------------

_PLAIN_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")
_ADDRESS_MARKS = frozenset("._:%-")


def _refuse_odd_address(endpoint: Endpoint) -> None:
    address = endpoint.address
    odd = [char for char in address if not char.isalnum() and char not in _ADDRESS_MARKS]
    if not address or odd or address.startswith(("-", ".")):
        raise ConfigProblem(
            "name-resolution",
            f"{one_line(address)!r} is neither a host name nor an address: correct the inventory",
        )
