"""Programs that we start here and their ends: with all that they started, and never waited for at length."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

_LOOK_UP_S = 0.25
_REAP_LIMIT_S = 1.0


class Child:
    """One program, started without a shell.

    ``own_session``: it gets a session and process group of its own; False for one that may ask on the
    terminal. Raises OSError where it cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        own_session: bool = True,
    ) -> None:
        self._own_session = own_session
        self.process = subprocess.Popen(
            argv, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=own_session
        )

    def output(self, limit_s: float, given_up: Callable[[], bool] = lambda: False) -> tuple[bytes, bytes]:
        """Standard output and standard error, once all that holds them has closed them.

        Raises `subprocess.TimeoutExpired` after ``limit_s`` seconds or soon after ``given_up()``; nothing
        that it started in its group is left then.
        """
        until = time.monotonic() + limit_s
        try:
            while True:
                left = until - time.monotonic()
                try:
                    return self.process.communicate(timeout=max(0.0, min(_LOOK_UP_S, left)))
                except subprocess.TimeoutExpired:
                    # Looked at again and again: a process that left the group may hold the pipe open.
                    if left <= _LOOK_UP_S or given_up():
                        raise
        finally:
            self.close()

    def end(self) -> None:
        """Kill it and what it started. Does not block; may be called from any thread and again."""
        if self.process.returncode is not None:
            return  # its number may be somebody else's by now
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._own_session:
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                for pid in (*_descendants(self.process.pid), self.process.pid):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End it, close the pipes, and wait at most a second for it to be gone."""
        self.end()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            _close(pipe)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_REAP_LIMIT_S)


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        with contextlib.suppress(OSError):
            pipe.close()


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    processes = Path("/proc")
    for entry in processes.iterdir() if processes.is_dir() else ():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # proc(5): pid (comm) state ppid …; comm may hold anything but the last ")".
                parent = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1]
                children.setdefault(int(parent), []).append(int(entry.name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found
