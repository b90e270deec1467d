"""The JSON report, written as a stream: each host, result, device or verdict on a line of its own."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable
from typing import TextIO

from pydantic import BaseModel

from ascendctl import __version__, results
from ascendctl.report.model import (
    SCHEMA_VERSION,
    CoverageRecord,
    Header,
    counters_record,
    host_record,
    result_record,
    verdict_record,
)


def write_json(run: results.Run, exit_code: int, stream: TextIO) -> None:
    """Write the report of a run; memory does not grow with the number of results.

    Valid against `ascendctl.report.model.schema`. Characters beyond ASCII are written as they are,
    or as JSON escapes where the stream's encoding is none of Unicode. Raises OSError of the stream.
    """
    whole = _is_unicode(stream)

    def write(text: str) -> None:
        stream.write(text if whole else _ascii(text))

    write(_header(run, exit_code).model_dump_json()[:-1])
    write(',\n"hosts":')
    _write_array(write, (host_record(note) for note in run.hosts))
    write(',\n"results":')
    _write_array(write, (result_record(result) for result in run.results))
    write(',\n"counters":')
    _write_array(write, (counters_record(counters, run.started_at) for counters in run.counters))
    write(',\n"verdicts":')
    _write_array(write, (verdict_record(verdict) for verdict in run.verdicts))
    write("}\n")
    stream.flush()


def _header(run: results.Run, exit_code: int) -> Header:
    covered = results.coverage(run.results)
    return Header(
        schema_version=SCHEMA_VERSION,
        tool_version=__version__,
        started_at=run.started_at.astimezone(dt.timezone.utc),
        duration_s=run.duration_s,
        interrupted=run.interrupted,
        exit_code=int(exit_code),
        coverage=CoverageRecord(wanted=covered.wanted, evaluated=covered.evaluated, percent=covered.percent),
        summary=results.summary(run.results),
    )


def _write_array(write: Callable[[str], None], records: Iterable[BaseModel]) -> None:
    separator = "[\n"
    for record in records:
        write(separator + record.model_dump_json())
        separator = ",\n"
    write("[]" if separator == "[\n" else "\n]")


def _is_unicode(stream: TextIO) -> bool:
    encoding = getattr(stream, "encoding", None)
    return not encoding or encoding.lower().replace("_", "-").startswith("utf")


def _ascii(json_text: str) -> str:
    # In JSON, characters beyond ASCII stand only inside strings, where an escape means the same.
    return re.sub("[^\x00-\x7f]", lambda match: _escape(match.group()), json_text)


def _escape(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
