"""``consistency-test --output DIR``: its reports as files. Their names differ from those of `verify`, so that
both can share a folder."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from pathlib import Path

from ascendctl.consistency.verdicts import ConsistencyRun
from ascendctl.report.output import whole_files


class ConsistencyFormat(str, Enum):
    JSON = "json"
    JUNIT = "junit"
    MARKDOWN = "markdown"
    HTML = "html"


FILE_NAMES = {
    ConsistencyFormat.JSON: "consistency.json",
    ConsistencyFormat.JUNIT: "consistency.junit.xml",
    ConsistencyFormat.MARKDOWN: "consistency.md",
    ConsistencyFormat.HTML: "consistency.html",
}


def write_consistency_reports(
    run: ConsistencyRun,
    exit_code: int,
    directory: Path,
    formats: Collection[ConsistencyFormat],
    *,
    strict: bool = False,
) -> tuple[Path, ...]:
    """Write the reports of a run, all or none; returns the files. Raises OutputError.

    Those of an earlier run that are not asked for now are removed: the folder tells of one run.
    """
    from ascendctl.report.consistency_html import write_consistency_html
    from ascendctl.report.consistency_json import write_consistency_json
    from ascendctl.report.consistency_markdown import write_consistency_markdown
    from ascendctl.report.junit import write_junit

    with whole_files(directory) as create:
        for one, name in FILE_NAMES.items():
            if one not in formats:
                (directory / name).unlink(missing_ok=True)
                continue
            with create(name) as stream:
                if one is ConsistencyFormat.JSON:
                    write_consistency_json(run, exit_code, stream)
                elif one is ConsistencyFormat.JUNIT:
                    write_junit(
                        run.as_run(), exit_code, stream, strict=strict, command="ascendctl consistency-test"
                    )
                elif one is ConsistencyFormat.MARKDOWN:
                    write_consistency_markdown(run, exit_code, stream)
                else:
                    write_consistency_html(run, exit_code, stream)
    return tuple(directory / FILE_NAMES[one] for one in FILE_NAMES if one in formats)
