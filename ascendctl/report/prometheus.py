"""Metrics of a run in the text exposition format 0.0.4, for node_exporter's textfile collector.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/. A status that no cell of a check
has on a host gives no sample, which keeps the file small; in PromQL its absence counts as zero.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TextIO

from ascendctl import __version__
from ascendctl.report.host_lists import fit_by_host
from ascendctl.report.printable import one_word
from ascendctl.results import Run, coverage, summary

_Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True)
class _Metric:
    """A gauge: its samples are label values, in the order of ``labels``, and a number."""

    name: str
    help: str
    labels: tuple[str, ...]
    samples: Callable[[Run, int, bool], Iterable[_Sample]]


def write_prometheus(run: Run, exit_code: int, stream: TextIO, *, strict: bool = False) -> None:
    """Write every metric of a run. ``strict``: a warning makes a host unfit.

    Raises OSError of the stream.
    """
    for metric in _METRICS:
        stream.write(f"# HELP {metric.name} {_help(metric.help)}\n# TYPE {metric.name} gauge\n")
        for values, number in metric.samples(run, exit_code, strict):
            labels = ",".join(
                f'{label}="{_label_value(value)}"' for label, value in zip(metric.labels, values, strict=True)
            )
            stream.write(f"{metric.name}{f'{{{labels}}}' if labels else ''} {number!r}\n")
    stream.flush()


def _cells(run: Run, exit_code: int, strict: bool) -> Iterable[_Sample]:
    return (((status.value,), count) for status, count in summary(run.results).items())


def _coverage_ratio(run: Run, exit_code: int, strict: bool) -> Iterable[_Sample]:
    return [((), coverage(run.results).percent / 100)]


def _cells_wanted(run: Run, exit_code: int, strict: bool) -> Iterable[_Sample]:
    return [((), coverage(run.results).wanted)]


def _cells_evaluated(run: Run, exit_code: int, strict: bool) -> Iterable[_Sample]:
    return [((), coverage(run.results).evaluated)]


def _host_fit(run: Run, exit_code: int, strict: bool) -> Iterable[_Sample]:
    return (((host,), int(fit)) for host, fit in fit_by_host(run, strict=strict).items())


def _host_answered(run: Run, exit_code: int, strict: bool) -> Iterable[_Sample]:
    return (((note.name,), int(note.answered)) for note in run.hosts)


def _check_status(run: Run, exit_code: int, strict: bool) -> Iterable[_Sample]:
    counts = Counter((cell.subject.host or "", cell.check, cell.status.value) for cell in run.results)
    return counts.items()


def _started(run: Run, exit_code: int, strict: bool) -> Iterable[_Sample]:
    return [((), run.started_at.astimezone(dt.timezone.utc).timestamp())]


_METRICS = (
    _Metric("ascendctl_cells", "Cells (one check on one part) by status.", ("status",), _cells),
    _Metric("ascendctl_cells_wanted", "Cells that apply, whatever their status.", (), _cells_wanted),
    _Metric("ascendctl_cells_evaluated", "Wanted cells that could be judged.", (), _cells_evaluated),
    _Metric(
        "ascendctl_coverage_ratio", "Evaluated cells divided by wanted cells, 0 to 1.", (), _coverage_ratio
    ),
    _Metric(
        "ascendctl_host_fit",
        "1 if the host was looked at in full and nothing failed on it, else 0.",
        ("host",),
        _host_fit,
    ),
    _Metric(
        "ascendctl_host_answered", "1 if anything came from the host, else 0.", ("host",), _host_answered
    ),
    _Metric(
        "ascendctl_check_status",
        "Cells of a check on a host by status; no sample where there is none. No host: beyond the hosts.",
        ("host", "check", "status"),
        _check_status,
    ),
    _Metric(
        "ascendctl_run_timestamp_seconds",
        "When the run started, in seconds since 1970-01-01 UTC.",
        (),
        _started,
    ),
    _Metric(
        "ascendctl_run_duration_seconds",
        "How long the run took.",
        (),
        lambda run, exit_code, strict: [((), run.duration_s)],
    ),
    _Metric(
        "ascendctl_run_exit_code",
        "Exit code: 0 fit, 1 found wrong, 3 not enough looked at, 4 internal error, 130 interrupted.",
        (),
        lambda run, exit_code, strict: [((), int(exit_code))],
    ),
    _Metric(
        "ascendctl_run_interrupted",
        "1 if the run was interrupted, else 0.",
        (),
        lambda run, exit_code, strict: [((), int(run.interrupted))],
    ),
    _Metric(
        "ascendctl_build_info",
        "1, labelled with the version of ascendctl that made the run.",
        ("version",),
        lambda run, exit_code, strict: [((__version__,), 1)],
    ),
)


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _label_value(text: str) -> str:
    return one_word(text).replace("\\", "\\\\").replace('"', '\\"')
