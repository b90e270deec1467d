"""Passwords: asked for once, before any connection; kept in memory only, never shown."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Iterable, Mapping

from ascendctl.inventory import Endpoint, PasswordSource
from ascendctl.transport.children import Child
from ascendctl.transport.remote_text import one_line

COMMAND_LIMIT_S = 60.0

_Key = tuple[PasswordSource, str | None]


class PasswordError(Exception):
    """A password cannot be had. The message says which and what to do; it holds no secret."""


class Passwords:
    """The resolved passwords; look one up by its endpoint. Prints as a count only."""

    def __init__(self, known: Mapping[_Key, str] | None = None) -> None:
        self._known = dict(known or {})

    def __repr__(self) -> str:
        return f"<Passwords: {len(self._known)}>"

    def of(self, endpoint: Endpoint) -> str | None:
        """The endpoint's password, None where it names no source."""
        if endpoint.password is None:
            return None
        return self._known.get(_key(endpoint, endpoint.password))


def resolve_passwords(endpoints: Iterable[Endpoint]) -> Passwords:
    """Every password that the endpoints and their jump hosts name, each asked for once.

    A prompt is asked once per user name, on the controlling terminal. A command runs without a shell,
    and its first line of output is the password. An environment variable is taken out of the environment
    once it is read, and all are read first, so that no program that we start is handed one. Raises
    `PasswordError`.
    """
    wanted: dict[_Key, tuple[PasswordSource, Endpoint]] = {}
    for endpoint in endpoints:
        hop: Endpoint | None = endpoint
        while hop is not None:
            if hop.password is not None:
                wanted.setdefault(_key(hop, hop.password), (hop.password, hop))
            hop = hop.jump
    environment_first = sorted(wanted.items(), key=lambda item: item[1][0].env is None)
    return Passwords({key: _resolve(source, endpoint) for key, (source, endpoint) in environment_first})


def _key(endpoint: Endpoint, source: PasswordSource) -> _Key:
    return (source, endpoint.user if source.prompt else None)


def _resolve(source: PasswordSource, endpoint: Endpoint) -> str:
    if source.env is not None:
        return _from_environment(source.env, endpoint)
    if source.command:
        return _from_command(source.command, endpoint)
    return _from_terminal(endpoint)


_taken: dict[str, str] = {}


def _from_environment(variable: str, endpoint: Endpoint) -> str:
    if variable in os.environ:
        _taken[variable] = os.environ.pop(variable)
    value = _taken.get(variable)
    if not value:
        raise PasswordError(
            f"The password of {endpoint.name} is to come from the environment variable {variable}, "
            f"which is {'empty' if value == '' else 'not set'}: set it, or name another source."
        )
    return value


def _from_command(argv: tuple[str, ...], endpoint: Endpoint) -> str:
    told = f"The password of {endpoint.name} is to come from the command {argv[0]!r}"
    try:
        # In our session: it may ask for a passphrase on the terminal.
        child = Child(argv, own_session=False)
        output, errors = child.output(COMMAND_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise PasswordError(
            f"{told}, which gave none within {COMMAND_LIMIT_S:g} s: run it by hand and see what it waits for."
        ) from None
    except OSError as error:
        raise PasswordError(f"{told}, which cannot be run: {error.strerror}.") from None
    if child.process.returncode != 0:
        raise PasswordError(f"{told}, which exited {child.process.returncode}: {one_line(errors)}")
    lines = output.decode("utf-8", "surrogateescape").splitlines()
    if not lines or not lines[0]:
        raise PasswordError(f"{told}, which printed nothing.")
    return lines[0]


def _from_terminal(endpoint: Endpoint) -> str:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        # getpass would fall back to standard input and echo; refuse instead.
        raise PasswordError(
            f"The password of {endpoint.name} is to be asked for, and there is no terminal to ask on: "
            "run it in one, or take the password from an environment variable or a command."
        ) from None
    whose = f"user {endpoint.user}" if endpoint.user else "the login user"
    answer = getpass.getpass(f"SSH password of {one_line(whose)} ({one_line(endpoint.name)} and others): ")
    if not answer:
        raise PasswordError(f"No password was given for {endpoint.name}.")
    return answer
