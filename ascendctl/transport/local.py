"""The very host we run on: the script in ``/bin/sh``, no SSH."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from pathlib import Path

from ascendctl.transport.contract import Deadlines, Failure, Job, Outcome, Sink
from ascendctl.transport.faults import own_fault
from ascendctl.transport.remote_text import one_line
from ascendctl.transport.watch import Guard, Watch

ENDING_S = 3.0  # for a shell that has said its last word
CLEAN_UP_S = 0.6  # for one that is told to stop
STDERR_KEPT_BYTES = 4096

_READ_BYTES = 64 * 1024


class LocalTransport:
    """Runs scripts on this host, each in a session of its own that does not outlive the call."""

    def __init__(self) -> None:
        self._watch = Watch()

    def run(self, job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Outcome:
        """Run the job's script and feed the sink. Its endpoint is not looked at."""
        started = time.monotonic()
        with self._watch.guard(stop, deadlines) as guard:
            guard.enter_layer("waiting for the rest of the answers")
            try:
                sent_at, failure = _run(job.script, sink, guard)
            except Exception as error:
                sent_at, failure = None, own_fault(error)
            if failure is not None and not failure.internal and guard.cut_by is not None:
                failure = guard.cut_failure()
        return Outcome(job.host, failure, sent_at, time.monotonic() - started)


def _run(script: bytes, sink: Sink, guard: Guard) -> tuple[float | None, Failure | None]:
    process = subprocess.Popen(
        ["/bin/sh", "-s"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        bufsize=0,
    )
    cut_read, cut_write = os.pipe()
    guard.on_cut(lambda: _write_one(cut_write))
    streams = _Streams(process, script, cut_read)
    try:
        return streams.exchange(sink, guard)
    finally:
        if guard.cut_by is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(ENDING_S)
        _end(process)
        streams.close()
        with _pipe_lock:
            os.close(cut_read)
            os.close(cut_write)


_pipe_lock = threading.Lock()


def _write_one(descriptor: int) -> None:
    with _pipe_lock, contextlib.suppress(OSError):
        os.write(descriptor, b"x")


class _Streams:
    """The three pipes of the shell, none of which may block another."""

    def __init__(self, process: subprocess.Popen[bytes], script: bytes, cut_read: int) -> None:
        assert process.stdin and process.stdout and process.stderr
        self._process = process
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        self._left = memoryview(script)
        self._errors = b""
        self._received_bytes = 0
        self._sent_at: float | None = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(cut_read, selectors.EVENT_READ)
        self._selector.register(self._stdout, selectors.EVENT_READ)
        self._selector.register(self._stderr, selectors.EVENT_READ)
        self._selector.register(self._stdin, selectors.EVENT_WRITE)
        os.set_blocking(self._stdin.fileno(), False)

    def close(self) -> None:
        self._selector.close()
        for stream in (self._stdin, self._stdout, self._stderr):
            with contextlib.suppress(OSError):
                stream.close()

    def exchange(self, sink: Sink, guard: Guard) -> tuple[float | None, Failure | None]:
        while guard.cut_by is None:
            for key, _ in self._selector.select():
                if key.fileobj is self._stdin:
                    self._send()
                elif key.fileobj is self._stderr:
                    self._keep_errors()
                elif key.fileobj is self._stdout:
                    data = os.read(self._stdout.fileno(), _READ_BYTES)
                    if not data:
                        return self._sent_at, self._early_end(sink)
                    self._received_bytes += len(data)
                    if sink.feed(data, time.time()):
                        return self._sent_at, None
        return self._sent_at, Failure("lost", "cut off")

    def _send(self) -> None:
        try:
            self._left = self._left[os.write(self._stdin.fileno(), self._left[:_READ_BYTES]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._left = self._left[:0]
        if not self._left:
            self._selector.unregister(self._stdin)
            self._stdin.close()
            self._sent_at = time.time()

    def _keep_errors(self) -> None:
        data = os.read(self._stderr.fileno(), _READ_BYTES)
        self._errors = (self._errors + data)[-STDERR_KEPT_BYTES:]
        if not data:
            with contextlib.suppress(KeyError):
                self._selector.unregister(self._stderr)

    def _early_end(self, sink: Sink) -> Failure:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDING_S)
        with contextlib.suppress(OSError):
            os.set_blocking(self._stderr.fileno(), False)
            self._keep_errors()
        said = f": {one_line(self._errors)}" if self._errors.strip() else ""
        code = self._process.returncode
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"exited {code}"
        kind = "lost" if getattr(sink, "framed", self._received_bytes > 0) else "protocol"
        return Failure(kind, f"/bin/sh {how} before the last answer{said}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End everything that runs in the shell's session: asked first, so that it can clean up."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + CLEAN_UP_S
        told: set[int] = set()
        while members := _session_members(process.pid):
            # Once each: a second signal would break into the cleaning up that the first one started.
            for pid in set(members) - told:
                told.add(pid)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, sign)
            process.poll()
            if time.monotonic() > until:
                break
            time.sleep(0.02)
    process.poll()


def _session_members(session: int) -> list[int]:
    # A process group is not enough: `timeout` puts itself and its command into one of its own.
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # proc(5): pid (comm) state ppid pgrp session …; comm may hold anything but the last ")".
                fields = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] != "Z":
                    members.append(int(entry.name))
    return members
