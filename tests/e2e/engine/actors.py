"""A source or a joiner as a process of its own, with a plain model: what tests kill, stop and watch.

It reads one JSON object per line and answers each with one; what happens by itself is told as it happens.
The processes are forked by one that has imported torch (`_Stage`).
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 120.0


class _Stage:
    """One process that has imported everything and forks actors on demand: torch takes seconds to import."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="netloader-stage-")
        self._path = str(Path(self._folder.name) / "stage")
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), self._path],
            stdin=subprocess.PIPE,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "TORCH_CPP_LOG_LEVEL": "FATAL",
                "OMP_NUM_THREADS": "1",
            },
        )
        atexit.register(self._end)

    def actor(self, what: Mapping[str, Any]) -> socket.socket:
        """A connection to a new process that plays ``what``; its first line is its pid."""
        until_s = time.monotonic() + PATIENCE_S
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        while True:
            try:
                connection.connect(self._path)
                break
            except OSError:
                assert self._process.poll() is None and time.monotonic() < until_s, "the stage does not start"
                time.sleep(0.05)
        connection.sendall((json.dumps(what) + "\n").encode())
        return connection

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


@functools.cache
def _stage() -> _Stage:
    return _Stage()


class Actor:
    """The process of a seed or a joiner, as its test sees it. ``what`` is explained at `play`."""

    def __init__(self, role: str, **what: Any) -> None:
        self._connection = _stage().actor({"role": role, **what})
        self._pending = b""
        self._kept: list[dict[str, Any]] = []
        self.pid = int(self.event("born")["pid"])

    def event(self, *names: str) -> dict[str, Any]:
        """Its next event of those names; others are kept for later. Fails the test where none comes."""
        for place, message in enumerate(self._kept):
            if message["event"] in names:
                return self._kept.pop(place)
        until_s = time.monotonic() + PATIENCE_S
        while True:
            line = self._line(until_s)
            assert line, f"the actor ended before {names}; it said {self._kept}"
            message = json.loads(line)
            if message["event"] in names:
                return dict(message)
            self._kept.append(message)

    def tell(self, do: str, **what: Any) -> None:
        self._connection.sendall((json.dumps({"do": do, **what}) + "\n").encode())

    def ask(self, do: str, **what: Any) -> dict[str, Any]:
        self.tell(do, **what)
        return self.event(do)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        """Returns when the process has ended."""
        while self._line(time.monotonic() + PATIENCE_S):
            pass

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Actor:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._connection.close()

    def _line(self, until_s: float) -> bytes:
        while b"\n" not in self._pending:
            left_s = until_s - time.monotonic()
            assert left_s > 0, "the actor does not answer"
            self._connection.settimeout(left_s)
            try:
                piece = self._connection.recv(65536)
            except ConnectionResetError:
                piece = b""
            if not piece:
                return b""
            self._pending += piece
        line, _, self._pending = self._pending.partition(b"\n")
        return line


def seed(**what: Any) -> Actor:
    return Actor("seed", **what)


def joiner(sources: list[str], **what: Any) -> Actor:
    return Actor("joiner", sources=sources, **what)


# The process itself -----------------------------------------------------------------------------------


def play(what: Mapping[str, Any], lines: IO[str], out: IO[str]) -> None:
    """``role`` seed or joiner (or rank, which `ranks.play_rank` explains); ``ip`` (127.0.0.1), ``port`` (0);
    ``options``: fields of Options and, under "timeouts", of Timeouts; ``identity``: fields of Identity that
    differ; ``model``: how to make the tensors (`model_of`); ``hold``: where to stay (`places`) until told to
    "release"; ``chain``: the joiner listens too; ``flip``: the byte of the wire whose lowest bit turns
    (`turn_bit`).
    """
    (_PlayRank if what["role"] == "rank" else _Play)(what, out).run(lines)


class _Actor:
    def __init__(self, what: Mapping[str, Any], out: IO[str]) -> None:
        self.what = what
        self.out = out
        self.lock = threading.Lock()
        self.released = threading.Event()

    def say(self, event: str, **content: object) -> None:
        with self.lock:
            self.out.write(json.dumps({"event": event, **content}) + "\n")
            self.out.flush()

    def _hold(self) -> None:
        self.say("held", at=self.what["hold"])
        self.released.wait()

    def _hear(self, lines: IO[str]) -> None:
        for line in lines:
            order = json.loads(line)
            self.say(order["do"], **(self._obey(order) or {}))

    def _obey(self, order: Mapping[str, Any]) -> dict[str, Any] | None:
        if order["do"] == "release":
            self.released.set()
            return None
        raise ValueError(order["do"])


class _PlayRank(_Actor):
    def run(self, lines: IO[str]) -> None:
        threading.Thread(target=self._play, daemon=True).start()
        self._hear(lines)

    def _play(self) -> None:
        from tests.e2e.engine.ranks import play_rank

        self.engine = play_rank(self.what, self.say, self._hold)


class _Play(_Actor):
    def __init__(self, what: Mapping[str, Any], out: IO[str]) -> None:
        from ascendctl.netloader.engine.weights import WeightSet
        from tests.e2e.engine.engines import identity_of, model_of, options_of

        super().__init__(what, out)
        self.options = options_of(what.get("options", {}))
        self.identity = identity_of(what.get("identity", {}))
        self.model = model_of(what.get("model", {}), filled=what["role"] == "seed")
        self.weights = WeightSet(self.model, self.options.chunk_bytes)
        self.ip = str(what.get("ip", "127.0.0.1"))

    def run(self, lines: IO[str]) -> None:
        from tests.e2e.engine.engines import turn_bit
        from tests.e2e.engine.places import install

        if "hold" in self.what:
            install(self.what["role"], self.what["hold"], self._hold)
        if "flip" in self.what:
            turn_bit(int(self.what["flip"]))
        if self.what["role"] == "seed":
            self.source = self._source(None)
            self.say("listening", address=str(self.source.start()))
        else:
            threading.Thread(target=self._join, daemon=True).start()
        self._hear(lines)

    def _source(self, holdings: Any) -> Any:
        from ascendctl.netloader.engine.source import Source
        from tests.e2e.engine.engines import legacy_of

        return Source(
            self.weights,
            self.identity,
            self.options,
            rank=0,
            group="netloader",
            model_path="/m/tiny",
            bind_ip=self.ip,
            port=int(self.what.get("port", 0)),
            holdings=holdings,
            legacy=legacy_of(self.model),
        )

    def _join(self) -> None:
        from ascendctl.netloader.engine.address import Address
        from ascendctl.netloader.engine.holdings import Holdings
        from ascendctl.netloader.engine.joining import NoSource, receive_weights
        from tests.e2e.engine.engines import digest_of_model, legacy_of

        relay = None
        if self.what.get("chain"):
            relay = self.source = self._source(Holdings())
            self.say("listening", address=str(relay.start()))
            threading.Thread(target=self._tell_progress, args=(relay,), daemon=True).start()
        started_s = time.perf_counter()
        try:
            received = receive_weights(
                self.weights,
                self.identity,
                self.options,
                rank=0,
                group="netloader",
                model_path="/m/tiny",
                sources=[Address.parse(text) for text in self.what["sources"]],
                relay=relay,
                legacy=legacy_of(self.model),
            )
        except NoSource as error:
            self.say(
                "failed",
                attempts=[[a.source, a.phase, a.reason] for a in error.attempts],
                seconds=time.perf_counter() - started_s,
            )
            return
        self.say(
            "received",
            seconds=time.perf_counter() - started_s,
            source=received.source,
            verified=received.verified,
            bytes=received.bytes,
            content_id=received.content_id,
            attempts=[[a.source, a.phase, a.reason] for a in received.attempts],
            digest=digest_of_model(self.model),
        )

    def _tell_progress(self, relay: Any) -> None:
        told = 0
        while not relay.holdings.complete:
            time.sleep(0.005)
            verified = relay.holdings.verified
            if verified != told:
                told = verified
                self.say("verified", chunks=told)

    def _obey(self, order: Mapping[str, Any]) -> dict[str, Any] | None:
        from tests.e2e.engine.engines import digest_of_model

        if order["do"] == "tally":
            return {**vars(self.source.tally), "services": self.source.services}
        if order["do"] == "digest":
            return {"digest": digest_of_model(self.model)}
        if order["do"] == "change":
            self.source.version.begin_change(order["reason"])
            for _, tensor in self.model:
                tensor.add_(1)
            self.source.version.end_change(order["reason"])
            return {"digest": digest_of_model(self.model)}
        if order["do"] == "stop":
            self.source.stop()
            return None
        return super()._obey(order)


def stage(path: str) -> None:
    """Forks one process for each connection, until the parent's end of standard input closes."""
    from tests.e2e.engine import engines, places, ranks

    _ = engines, places, ranks
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(64)
        listener.settimeout(1.0)
        while os.getppid() == parent:
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                if os.fork() == 0:
                    listener.close()
                    _act(connection)
                connection.close()


def _act(connection: socket.socket) -> None:
    """The life of one actor; ends the process."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        connection.settimeout(None)
        lines, out = connection.makefile("r"), connection.makefile("w")
        what = json.loads(lines.readline())
        out.write(json.dumps({"event": "born", "pid": os.getpid()}) + "\n")
        out.flush()
        play(what, lines, out)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    stage(sys.argv[1])
