"""Stands for vLLM with vllm-ascend where there is no NPU; a program, started as ``vllm`` is:

    python3 engine_standin.py serve MODEL --tensor-parallel-size 2 --port 8000 --load-format netloader \
        --model-loader-extra-config='{"SOURCE": …, "LISTEN_PORT": …}' --host 127.0.0.1

Real processes (API server, engine core, one worker per rank), real listeners at VLLM_HOST_IP, real joins, and
vllm-ascend's lines about them. A joiner says that weights came only where their bytes did. The weights are
the digest of MODEL's ``*.safetensors``, handed on from source to joiner; the API's answers follow from it.
Without weights in MODEL a fallback to disk ends the engine. Words it does not know are left unread. Standard
library only; this file and the ``standin_*.py`` beside it are all that a host needs.

STANDIN_SCENARIO, one of `SCENARIOS` (what a scenario does is done for real where this machine can do it):

    good                 as above
    no-source-info source-format source-refuses model-string pre-recv-fails manifest-mismatch recv-fails
    reshape-fails quantised silent-fallback
                         of a joiner: the ways to the disk
    corrupt-weight unverified
                         one bit of what came is turned; of format ascendctl: it came without digests
    listen-port-invalid no-driver-ip target-port-invalid draft-port-invalid no-free-port listen-port-taken
                         no listener, and why
    accept-thread-dies send-fails
                         of a source: the thread that accepts ends; what joiners are promised never comes
    port-in-use missing-library wrong-model out-of-memory hccl-code loader-missing
                         ends while it starts; ``hccl-code`` with the code STANDIN_CODE (EI0006)
    slow hang            stays in STANDIN_PHASE (build, join, receive, disk, prepare, of format ascendctl also
                         failed) for STANDIN_SECONDS (5), or for ever
    dies-after-ready     STANDIN_SECONDS after it was ready a worker is killed
    ignores-term         only SIGKILL ends its processes

STANDIN_DISK: the folder under which MODEL is looked for, as if it were the host's root: hosts that are one
machine have disks of their own then. STANDIN_RANKS (``0,2``): the scenario is of these ranks only.
STANDIN_FLAKY=1: answers vary from request to request. STANDIN_TIMEOUT_S: what a joiner waits for an answer
(60, as there). STANDIN_TRANSFER_S: what a source takes for one rank's weights (0);
STANDIN_SENDING_MARK: a file of that name and the rank's number is there once it sends. VLLM_LOGGING_LEVEL is
heeded, as are --served-model-name, --max-model-len, --api-key, --speculative-config, --quantization and
--enforce-eager.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from standin_api import VERSION, Api
from standin_netloader import (
    JOINER_SCENARIOS,
    NO_SERVER_SCENARIOS,
    SEED_SCENARIOS,
    EngineFailed,
    Given,
    Rank,
    Terminated,
    Voice,
    prefix_stderr,
    terminate_on_sigterm,
    unprefixed,
)

START_SCENARIOS = (
    "port-in-use",
    "missing-library",
    "wrong-model",
    "out-of-memory",
    "hccl-code",
    "loader-missing",
)
LIFE_SCENARIOS = ("slow", "hang", "dies-after-ready", "ignores-term")
SCENARIOS = (
    "good",
    *JOINER_SCENARIOS,
    *NO_SERVER_SCENARIOS,
    *SEED_SCENARIOS,
    *START_SCENARIOS,
    *LIFE_SCENARIOS,
)

_SITE = '"/usr/local/python3.11/lib/python3.11/site-packages/vllm'
_CORE_FRAMES = (f'{_SITE}/v1/engine/core.py", line 857, in run_engine_core',)
_WORKER_FRAMES = (f'{_SITE}/v1/executor/multiproc_executor.py", line 750, in worker_main',)
_API_FRAMES = (
    f'{_SITE}/entrypoints/cli/main.py", line 73, in main',
    f'{_SITE}/entrypoints/openai/api_server.py", line 1398, in run_server',
)
_ENDING_LIMIT_S = 10.0
_PR_SET_PDEATHSIG = 1  # prctl(2)


def main(words: list[str], environment: Mapping[str, str]) -> int:
    """Runs until it is ended; the exit code, of an engine that failed 1."""
    options = _options(words)
    given = _given(options, environment)
    voice = Voice("APIServer")
    if given.scenario == "ignores-term":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        terminate_on_sigterm()
    try:
        return _api_server(options, given, voice, environment)
    except Terminated:
        voice.raw("KeyboardInterrupt: terminated")
        return 1


def _api_server(
    options: argparse.Namespace, given: Given, voice: Voice, environment: Mapping[str, str]
) -> int:
    if given.scenario == "missing-library":
        # At the import, before any logger is set up.
        frames = f'  File {_SITE}_ascend/platform.py", line 24, in <module>\n    import torch_npu\n'
        error = "ImportError: libascend_hal.so: cannot open shared object file: No such file or directory"
        unprefixed(f"Traceback (most recent call last):\n{frames}{error}\n")
        return 1
    voice.say("api_server.py:1351", f"vLLM API server version {VERSION}")
    voice.say("utils.py:253", f"non-default args: {{'model_tag': {given.model!r}, 'port': {options.port}}}")
    blocker = None
    if given.scenario == "port-in-use":
        blocker = socket.create_server((options.host, options.port))
    try:
        api = Api(
            (options.host, options.port),
            model=given.model,
            name=options.served_model_name or given.model,
            most_tokens=options.max_model_len,
            api_key=options.api_key or environment.get("VLLM_API_KEY", ""),
            flaky=environment.get("STANDIN_FLAKY") == "1",
        )
    except OSError as error:
        return _failed(voice, f"OSError: [Errno {error.errno}] {error.strerror}")
    finally:
        if blocker is not None:
            blocker.close()
    if given.scenario == "wrong-model" or not Path(given.disk + given.model).is_dir():
        why = f"Invalid repository ID or local directory specified: '{given.model}'."
        return _failed(voice, f"ValueError: {why}\nPlease provide a valid local folder or repository ID.")
    engine = _Child(given, "EngineCore_DP0", lambda told: _engine_core(given, told))
    serving = False
    with api:
        try:
            digest = engine.said()
            if digest is None:
                core = f"{{'EngineCore_DP0': {engine.ended()}}}"
                return _failed(
                    voice,
                    "RuntimeError: Engine core initialization failed. See root cause above. Failed core "
                    f"proc(s): {core}",
                )
            _serve(api, options, given, voice, digest)
            serving = True
            engine.said()  # nothing more: this returns when it is gone
            error = "EngineCore encountered an issue. See stack trace (above) for the root cause."
            voice.traceback(
                "async_llm.py:543",
                "AsyncLLM output_handler failed.",
                f"vllm.v1.engine.exceptions.EngineDeadError: {error}",
                frames=_API_FRAMES,
            )
            return 1
        except Terminated:
            if not serving:
                engine.end()
                raise
            voice.raw("INFO:     Shutting down\nINFO:     Waiting for application shutdown.")
            engine.end()
            voice.raw("INFO:     Application shutdown complete.")
            return 0


def _failed(voice: Voice, error: str) -> int:
    frames = "".join(f"  File {frame}\n" for frame in _API_FRAMES)
    voice.raw(f"Traceback (most recent call last):\n{frames}{error}")
    return 1


def _serve(api: Api, options: argparse.Namespace, given: Given, voice: Voice, digest: str) -> None:
    config = f"{VERSION}/{given.tp}/{given.pp}/{options.max_model_len}/{options.dtype}"
    tp = f"-tp{given.tp}" if given.tp > 1 else ""
    voice.say("api_server.py:1425", f"Starting vLLM API server 0 on http://{options.host}:{options.port}")
    voice.raw(f"INFO:     Started server process [{os.getpid()}]\nINFO:     Waiting for application startup.")
    # uvicorn says so a moment before it listens.
    voice.raw("INFO:     Application startup complete.")
    api.ready(digest, f"vllm-{VERSION}{tp}-{hashlib.sha256(config.encode()).hexdigest()[:8]}")
    threading.Thread(target=api.serve_forever, args=(0.1,), daemon=True).start()


# The processes below the API server -----------------------------------------------------------------------


class _Child:
    """A process of its own that tells its parent one line, or ends without."""

    def __init__(self, given: Given, name: str, work: Callable[[int], None]) -> None:
        """``work`` gets the file descriptor that it tells into."""
        self.name = name
        self._ears, mouth = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            self._be(given, work, mouth, parent)
        # So that no later child holds it open when this one ends.
        os.close(mouth)
        self._told = b""

    def _be(self, given: Given, work: Callable[[int], None], mouth: int, parent: int) -> NoReturn:
        code = 1
        try:
            os.closerange(3, mouth)
            os.closerange(mouth + 1, 256)
            with contextlib.suppress(OSError):
                Path("/proc/self/comm").write_text(f"VLLM::{self.name}")
            if given.scenario != "ignores-term":
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
                if os.getppid() != parent:
                    raise Terminated
            work(mouth)
            code = 0
        except (Terminated, _Ended):
            pass
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def fileno(self) -> int:
        return self._ears

    def said(self) -> str | None:
        """Its line, as soon as it is there; None when it has ended."""
        while b"\n" not in self._told:
            part = os.read(self._ears, 4096)
            if not part:
                return None
            self._told += part
        line, _, self._told = self._told.partition(b"\n")
        return line.decode()

    def ended(self) -> int:
        """Its exit code, as soon as it has ended."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def end(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + _ENDING_LIMIT_S
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                return
            time.sleep(0.02)


class _Ended(Exception):
    """This process said why it ends."""


def _engine_core(given: Given, told: int) -> None:
    voice = Voice("EngineCore_DP0")
    prefix_stderr(voice)
    started = time.perf_counter()
    about = f"model='{given.model}', load_format={given.load_format}, tensor_parallel_size={given.tp}"
    voice.say("core.py:77", f"Initializing a V1 LLM engine (v{VERSION}) with config: {about}")
    if given.ranks == 1:
        _run_rank(given, 0, voice, told, lambda: _prepared(given, voice, started))
        return
    workers = [_worker(given, rank) for rank in range(given.ranks)]
    try:
        digests = _digests(voice, workers)
        _prepared(given, voice, started)
        os.write(told, f"{_combined(digests)}\n".encode())
        if given.scenario == "dies-after-ready":
            time.sleep(given.seconds)
            os.kill(workers[0].pid, signal.SIGKILL)
        ready, _, _ = select.select(workers, [], [])
        name = f"VllmWorker-{workers.index(ready[0])}"
        said = f"Worker proc {name} died unexpectedly, shutting down executor."
        voice.say("multiproc_executor.py:230", said, "ERROR")
        raise _Ended
    finally:
        if given.scenario != "ignores-term":
            for worker in workers:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    worker.end()


def _worker(given: Given, rank: int) -> _Child:
    """The process of one rank, named as vLLM names it."""
    stage, place = divmod(rank, given.tp)
    name = "Worker" + (f"_PP{stage}" if given.pp > 1 else "") + (f"_TP{place}" if given.tp > 1 else "")

    def work(told: int) -> None:
        voice = Voice(name)
        prefix_stderr(voice)
        _run_rank(given, rank, voice, told, lambda: None)

    return _Child(given, name, work)


def _run_rank(given: Given, rank: int, voice: Voice, told: int, prepared: Callable[[], None]) -> None:
    """Loads, tells the digest, and serves until it is ended."""
    one = Rank(given, rank, voice)
    try:
        digest = one.load()
        prepared()
        os.write(told, f"{digest}\n".encode())
        if given.scenario == "dies-after-ready" and given.ranks == 1:
            time.sleep(given.seconds)
            os.kill(os.getpid(), signal.SIGKILL)
        while True:
            signal.pause()
    except EngineFailed as error:
        if given.ranks == 1:
            voice.traceback("core.py:866", "EngineCore failed to start.", str(error), frames=_CORE_FRAMES)
        else:
            heading = "WorkerProc failed to start."
            voice.traceback("multiproc_executor.py:772", heading, str(error), frames=_WORKER_FRAMES)
        raise _Ended from error
    finally:
        # A SIGTERM, of another rank that failed, must not break off the closing either.
        try:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        finally:
            one.close()


def _digests(voice: Voice, workers: list[_Child]) -> list[str]:
    """Of every rank, as they come; the first that ends without one ends the engine."""
    found: dict[int, str] = {}
    while len(found) < len(workers):
        waiting = [worker for rank, worker in enumerate(workers) if rank not in found]
        ready, _, _ = select.select(waiting, [], [])
        for worker in ready:
            digest = worker.said()
            if digest is None:
                error = "Exception: WorkerProc initialization failed due to an exception in a background "
                voice.traceback(
                    "core.py:866",
                    "EngineCore failed to start.",
                    f"{error}process. See stack trace for root cause.",
                    frames=_CORE_FRAMES,
                )
                raise _Ended
            found[workers.index(worker)] = digest
    return [found[rank] for rank in sorted(found)]


def _combined(digests: list[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _prepared(given: Given, voice: Voice, started: float) -> None:
    voice.say("kv_cache_utils.py:1291", "GPU KV cache size: 1,234,560 tokens")
    given.stay("prepare")
    if not given.enforce_eager:
        voice.say("model_runner_v1.py:2760", "Graph capturing finished in 0 secs, took 0.05 GiB")
    took = time.perf_counter() - started
    voice.say("core.py:248", f"init engine (profile, create kv cache, warmup model) took {took:.2f} seconds")


# What it is told ------------------------------------------------------------------------------------------


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="engine_standin.py", allow_abbrev=False)
    parser.add_argument("verb", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
    parser.add_argument("--pipeline-parallel-size", "-pp", type=int, default=1)
    parser.add_argument("--host", default="0.0.0.0")  # vLLM's; a test names an address of loopback
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--load-format", choices=["netloader", "ascendctl"], required=True)
    parser.add_argument("--model-loader-extra-config", type=json.loads, default={})
    parser.add_argument("--speculative-config", "-sc", type=json.loads)
    parser.add_argument("--served-model-name")
    parser.add_argument("--max-model-len", type=int, default=32768)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--quantization")
    parser.add_argument("--api-key")
    parser.add_argument("--enforce-eager", action="store_true")
    return parser.parse_known_args([_dashed(word) for word in words])[0]


def _dashed(word: str) -> str:
    option, equals, value = word.partition("=")
    return option.replace("_", "-") + equals + value if word.startswith("--") else word


def _given(options: argparse.Namespace, environment: Mapping[str, str]) -> Given:
    """Raises SystemExit where the environment names no scenario or number."""
    scenario = environment.get("STANDIN_SCENARIO", "good")
    if scenario not in SCENARIOS:
        raise SystemExit(f"STANDIN_SCENARIO={scenario} is none of {', '.join(SCENARIOS)}")
    config = options.model_loader_extra_config
    if "CONFIG_FILE" in config:
        config = json.loads(Path(config["CONFIG_FILE"]).read_text())
    ranks = environment.get("STANDIN_RANKS")
    draft = options.speculative_config
    return Given(
        model=options.model,
        tp=options.tensor_parallel_size,
        pp=options.pipeline_parallel_size,
        load_format=options.load_format,
        config=config,
        draft_model=None if draft is None else draft.get("model", options.model),
        quantised=options.quantization is not None,
        enforce_eager=options.enforce_eager,
        disk=environment.get("STANDIN_DISK", ""),
        bind_ip=environment.get("VLLM_HOST_IP") or "0.0.0.0",
        scenario=scenario,
        scenario_ranks=None if ranks is None else frozenset(int(one) for one in ranks.split(",")),
        phase=environment.get("STANDIN_PHASE", "prepare"),
        seconds=float(environment.get("STANDIN_SECONDS", "5")),
        code=environment.get("STANDIN_CODE", "EI0006"),
        timeout_s=float(environment.get("STANDIN_TIMEOUT_S", "60")),
        transfer_s=float(environment.get("STANDIN_TRANSFER_S", "0")),
        sending_mark=environment.get("STANDIN_SENDING_MARK", ""),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
