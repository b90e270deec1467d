"""Prometheus counters of the engine, for vLLM's own /metrics as far as vLLM lets them through.

    ascendctl_netloader_bytes_total{direction="received"|"sent"}
    ascendctl_netloader_joins_total{outcome=...}          as the source: what became of each JOIN
    ascendctl_netloader_fallbacks_total                   loads that read the disk after all
    ascendctl_netloader_phase_seconds_total{phase=...}    as `phases.PHASES`

What reaches /metrics (read in vLLM 0.32: ``v1/metrics/prometheus.py``, ``entrypoints/cli/serve.py``). The
engine runs in a worker process, /metrics is answered by the API server's process, and vLLM hands no plugin's
counters from one to the other. They do arrive when prometheus_client works through files, that is when
``PROMETHEUS_MULTIPROC_DIR`` is in the environment before any process of the engine starts: vLLM sets it
itself only with more than one API server (``--api-server-count``, by default as many as data-parallel
engines), otherwise the user has to set it to
an empty folder. Without it the counters stay inside the worker, and the status file (`status_file`) is where
the same figures are to be read.

Counting never breaks a load or a send: without prometheus_client, or when it fails (its folder was removed),
nothing is counted, and the latter is said once in the log.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ascendctl.netloader.engine.phases import TAG, logger

if TYPE_CHECKING:
    from prometheus_client import Counter

RECEIVED, SENT = "received", "sent"


@dataclass(frozen=True)
class _Counters:
    bytes: Counter
    joins: Counter
    fallbacks: Counter
    phase_seconds: Counter


def count_bytes(direction: str, count: int) -> None:
    """``direction``: RECEIVED or SENT; bytes of weights, not of the conversation around them."""
    _count(lambda counters: counters.bytes.labels(direction).inc(count))


def count_join(outcome: str) -> None:
    """``outcome``: one word of a small fixed set (it becomes a label), such as ``served`` or ``refused``."""
    _count(lambda counters: counters.joins.labels(outcome).inc())


def count_fallback() -> None:
    _count(lambda counters: counters.fallbacks.inc())


def count_seconds(phase: str, seconds: float) -> None:
    """Fits `Phases(ended=...)`."""
    _count(lambda counters: counters.phase_seconds.labels(phase).inc(max(0.0, seconds)))


@functools.cache
def _counters() -> _Counters | None:
    """Made at the first count, in the process that counts: prometheus_client decides at its import how it
    counts, by an environment variable that vLLM may set after this module was imported."""
    try:
        from prometheus_client import Counter
    except ImportError:
        return None
    prefix = "ascendctl_netloader"
    try:
        return _Counters(
            Counter(f"{prefix}_bytes", "Bytes of weights moved between instances.", ("direction",)),
            Counter(f"{prefix}_joins", "Requests for weights by what became of them.", ("outcome",)),
            Counter(f"{prefix}_fallbacks", "Loads that fell back to the disk."),
            Counter(f"{prefix}_phase_seconds", "Seconds spent in each phase of a load.", ("phase",)),
        )
    except Exception as error:  # Tried once: a second time the names would be taken.
        _say(error)
        return None


def _count(step: Callable[[_Counters], None]) -> None:
    counters = _counters()
    if counters is None:
        return
    try:
        step(counters)
    except Exception as error:  # Whatever a counter does, the weights go on.
        _say(error)


def _say(error: Exception) -> None:
    _say_once(f"{type(error).__name__}: {error}")


@functools.cache
def _say_once(why: str) -> None:
    logger().warning("%s Prometheus counters are not kept: %s", TAG, why)
