"""An SSH server in this process, for what Debian's sshd cannot be asked to do without an account:
passwords, keyboard-interactive, an account whose shell does not run commands, small windows."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

import paramiko

from ascendctl.inventory import Endpoint
from ascendctl.transport.known_hosts import lookup_name


class ParamikoHost:
    """Context manager. ``methods`` are what it allows; ``prompts`` what keyboard-interactive asks."""

    def __init__(
        self,
        *,
        methods: str = "password",
        password: str = "right",
        prompts: tuple[tuple[str, bool], ...] = (("Password: ", False),),
        runs_commands: bool = True,
        then: str = "",
    ) -> None:
        self.methods, self.password, self.prompts = methods, password, prompts
        self.runs_commands = runs_commands
        self.then = then
        self.offered: list[str] = []
        self.key = paramiko.ECDSAKey.generate()

    def __enter__(self) -> ParamikoHost:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._transports: list[paramiko.Transport] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        for transport in self._transports:
            with contextlib.suppress(OSError):
                transport.sock.shutdown(socket.SHUT_RDWR)
            transport.close()
            transport.join(5)

    def known_hosts_line(self) -> str:
        return f"{lookup_name('127.0.0.1', self.port)} {self.key.get_name()} {self.key.get_base64()}\n"

    def endpoint(self, **changes: object) -> Endpoint:
        fields: dict[str, object] = {
            "name": f"paramiko-{self.port}",
            "address": "127.0.0.1",
            "port": self.port,
            "user": "somebody",
            "use_ssh_config": False,
        }
        return Endpoint(**{**fields, **changes})  # type: ignore[arg-type]

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transport.set_log_channel("tests.paramiko_host")
            transport.add_server_key(self.key)
            self._transports.append(transport)
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                transport.start_server(event=threading.Event(), server=_Server(self))


class _Server(paramiko.ServerInterface):
    def __init__(self, host: ParamikoHost) -> None:
        self._host = host
        self._step = 1

    def get_allowed_auths(self, username: str) -> str:
        return self._host.methods if self._step == 1 else self._host.then

    def _judge(self, method: str, secret: str) -> int:
        self._host.offered.append(f"{method}:{secret}")
        if secret != self._host.password:
            return paramiko.AUTH_FAILED
        if self._host.then and self._step == 1:
            self._step = 2
            return paramiko.AUTH_PARTIALLY_SUCCESSFUL
        return paramiko.AUTH_SUCCESSFUL

    def check_auth_password(self, username: str, password: str) -> int:
        if "password" not in self.get_allowed_auths(username).split(","):
            return paramiko.AUTH_FAILED
        return self._judge("password", password)

    def check_auth_interactive(self, username: str, submethods: str) -> int | paramiko.InteractiveQuery:
        return paramiko.InteractiveQuery("", "", *self._host.prompts)

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        return self._judge("keyboard-interactive", "".join(responses))

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED if kind == "session" else paramiko.OPEN_FAILED_UNKNOWN_CHANNEL_TYPE

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        if not self._host.runs_commands:
            return False

        def answer() -> None:
            with contextlib.suppress(Exception):
                while channel.recv(65536):
                    pass
                channel.sendall(b"FRAME hello\nEND\n")
                channel.send_exit_status(0)
                channel.close()

        threading.Thread(target=answer, daemon=True).start()
        return True
