"""A real vLLM API server on loopback: its log in a file, asked over HTTP, ended with its process group."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

# 40 s on two idle cores; other work on the machine has made it five times that.
READY_TIMEOUT_S = 600.0
_END_TIMEOUT_S = 90.0
_LINGER_S = 15.0
_SERVED_NAME = "tiny"
# Enough for these models; VLLM_CPU_KVCACHE_SPACE counts in GiB, and several servers run at once.
_CACHE_BYTES = 64 * 1024 * 1024
ENGINE_ARGUMENTS = (
    "--max-model-len=256",
    "--max-num-seqs=8",
    "--no-enable-prefix-caching",
    f"--kv-cache-memory-bytes={_CACHE_BYTES}",
)
ENGINE_ENVIRONMENT = {
    # Cores are shared with other servers; by default each rank wants a NUMA node of its own.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "GLOO_SOCKET_IFNAME": "lo",
    "PYTHONUNBUFFERED": "1",
}


class ServerEnded(Exception):
    """The process ended before it was ready; the message holds the end of its log."""


@dataclass
class VllmServer:
    """One `python -m vllm.entrypoints.openai.api_server`, and everything it was started with.

    `host` is the address of both the API and the engine (VLLM_HOST_IP), so each server of a test can have its
    own 127.0.0.x. Use as a context manager: it starts the process unless that was done, waits for /health,
    and ends the process group on leaving.
    """

    model: Path
    log: Path
    host: str = "127.0.0.1"
    load_format: str = "auto"
    extra_config: Mapping[str, object] | None = None
    tensor_parallel: int = 1
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    seconds_to_ready: float = 0.0

    def start(self) -> VllmServer:
        """Starts the process and returns at once."""
        self.port = self.port or free_port(self.host)
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
        command += ["--model", str(self.model), "--served-model-name", _SERVED_NAME]
        command += ["--host", self.host, "--port", str(self.port), "--load-format", self.load_format]
        command += ["--tensor-parallel-size", str(self.tensor_parallel), "--enforce-eager"]
        command += ENGINE_ARGUMENTS
        if self.extra_config is not None:
            command += ["--model-loader-extra-config", json.dumps(self.extra_config)]
        command += self.arguments
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=_environment(self.host) | dict(self.environment),
                start_new_session=True,
            )
        self._started_s = time.monotonic()
        return self

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> VllmServer:
        """Returns when /health answers; raises ServerEnded when the process ends first."""
        assert self.process is not None
        until_s = time.monotonic() + timeout_s
        while time.monotonic() < until_s:
            if self.process.poll() is not None:
                raise ServerEnded(f"exit status {self.process.returncode}: {self.tail()}")
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                    if answer.status == 200:
                        self.seconds_to_ready = time.monotonic() - self._started_s
                        return self
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.25)
        raise TimeoutError(f"no /health from {self.url} within {timeout_s:.0f} s: {self.tail()}")

    def wait_ended(self, timeout_s: float = READY_TIMEOUT_S) -> int:
        """The exit status, of a server that is expected to give up on its own."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def __enter__(self) -> VllmServer:
        if self.process is None:
            self.start()
        try:
            return self.wait_ready()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Asks the server to end, as an operator would, then ends what is left of its group."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_END_TIMEOUT_S)
        # Its engine and workers outlive the server's own process by a moment.
        group = self.process.pid
        _within(_LINGER_S, lambda: not _group_lives(group))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        self.process.wait()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def text(self) -> str:
        """The whole log so far."""
        return self.log.read_text(errors="replace")

    def tail(self) -> str:
        return self.text()[-6_000:]

    def post(self, path: str, body: Mapping[str, object] | None = None, timeout_s: float = 300) -> Any:
        """The JSON answer to a POST, or None where the answer is empty; raises HTTPError."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body or {}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as answer:
            return str(answer.read().decode())

    def complete(self, prompt: Sequence[int]) -> tuple[object, ...]:
        """What the server says about one prompt of token ids: tokens, their log-probabilities and those of
        the prompt, all exactly as the JSON holds them."""
        answer = self.post(
            "/v1/completions",
            {
                "model": _SERVED_NAME,
                "prompt": list(prompt),
                "max_tokens": 8,
                "ignore_eos": True,
                "temperature": 0,
                "seed": 0,
                "logprobs": 5,
                "prompt_logprobs": 2,
                "return_token_ids": True,
            },
        )
        choice = answer["choices"][0]
        assert len(choice["token_ids"]) == 8, choice
        assert len(choice["prompt_logprobs"]) == len(prompt)
        return choice["token_ids"], choice["logprobs"]["top_logprobs"], choice["prompt_logprobs"]


def free_port(host: str) -> int:
    """A port that is free on `host` now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _environment(host: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VLLM_", "PYTEST_"))}
    return kept | {"VLLM_HOST_IP": host} | ENGINE_ENVIRONMENT


def _within(timeout_s: float, condition: Callable[[], bool]) -> bool:
    until_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.1)
    return True


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
