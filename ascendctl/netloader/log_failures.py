"""Why an engine did not start, by the words in its log; each with what it means and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ascendctl.knowledge.codes import CODES


@dataclass(frozen=True)
class Failure:
    """``what`` happened and what to ``do``, one sentence each."""

    what: str
    do: str


_HF_ANSWERS = (
    r"LocalEntryNotFoundError|Repo id must be|is not a local folder and is not a valid model identifier"
    r"|Invalid repository ID or local directory specified|does not appear to have a file named config\.json"
)
# The first that matches names the line. Drivers and tracebacks write these anywhere in a line.
_KNOWN: tuple[tuple[str, str, Failure], ...] = (
    (
        "int8-cache",
        r"Received int8_cache .{0,40}does not consist with this server",
        Failure(
            "INT8_CACHE is not that of the source",
            "Write the same --int8-cache on every instance of the deployment.",
        ),
    ),
    (
        "model-string",
        rf"{_HF_ANSWERS}|does not consist with this server",
        Failure(
            "--model is not what this host or the source knows it by",
            "Write the same text for --model on every instance, and see that it is there on every host "
            "(inside the container, where there is one).",
        ),
    ),
    (
        "no-weights",
        r"Cannot find any model weights with",
        Failure(
            "the disk was read and the model's folder holds no weights",
            "See why no source served this instance, or put the weights there.",
        ),
    ),
    (
        "port-in-use",
        r"\[Errno 98\]|[Aa]ddress already in use|EADDRINUSE",
        Failure(
            "a port is taken by another process",
            "See `ss -ltnp` on the host for who listens there; stop it, or set --port or --listen-port.",
        ),
    ),
    (
        "out-of-memory",
        r"(?:NPU|CUDA) out of memory|OutOfMemoryError|\bEL0004\b|\b207018\b|[Cc]annot allocate memory"
        r"|can't allocate memory|No available memory for the cache blocks"
        r"|Free memory on device .{0,80}is less than desired",
        Failure(
            "memory ran out",
            "See `npu-smi info` for other processes on these devices; lower --gpu-memory-utilization (each "
            "transfer's communicator takes twice HCCL_BUFFSIZE beside it), or use more devices (--tp).",
        ),
    ),
    (
        "missing-library",
        r"cannot open shared object file|ModuleNotFoundError: |ImportError: |version `[^']+' not found",
        Failure(
            "a library is missing or of another version",
            "Start in an environment where `vllm --version` works: source CANN's set_env.sh, activate the "
            "engine's Python, or name its container by engine_exec in the inventory.",
        ),
    ),
    (
        "loader-missing",
        r"[Ll]oad format .{0,80}is not supported",
        Failure(
            "this vLLM does not know the load format",
            "Install vllm-ascend (load format netloader) or ascendctl (load format ascendctl) into the "
            "engine's own Python.",
        ),
    ),
)
NAMES = tuple(name for name, _, _ in _KNOWN)
_PATTERNS = tuple((name, re.compile(pattern)) for name, pattern, _ in _KNOWN)
_BY_NAME = {name: failure for name, _, failure in _KNOWN}
_CODE = re.compile(r"\bE[IJ]\d{4}\b")
# HIXL's are plain numbers: only behind a word that makes them one.
_HIXL_CODE = re.compile(r"(?i)(?:ret|status|error|errno|code)\w*\W{1,4}(\d{6})\b")


def failure_in(message: str) -> str | None:
    """The failure that a line tells of: an error code (``EI0006``), or one of `NAMES`."""
    code = _CODE.search(message)
    if code is not None:
        return code[0]
    hixl = _HIXL_CODE.search(message)
    if hixl is not None and hixl[1] in CODES:
        return hixl[1]
    return next((name for name, pattern in _PATTERNS if pattern.search(message)), None)


def explained(failure: str) -> Failure:
    """What a failure of `failure_in` means; of a code that is not known, where to look."""
    if failure in _BY_NAME:
        return _BY_NAME[failure]
    if failure in CODES:
        return Failure(f"{failure}: {CODES[failure].title}", CODES[failure].remedy)
    return Failure(
        f"{failure}: an error of HCCL that ascendctl does not know",
        "Look it up in HCCL's documentation; the lines around it in the log name the reason.",
    )
