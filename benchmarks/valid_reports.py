"""Validate the reports of one ``--output`` folder, and time its page in a browser.

    python benchmarks/valid_reports.py DIR

JSON: the schema that ``ascendctl report schema`` prints. JUnit: tests/report/junit.xsd. Prometheus:
prometheus_client's parser. HTML: opened in headless Chromium until the page says that it is ready. Host
lists: together every host, once. All must count the same cells by status. Prints one JSON object with
what was counted; ends with a traceback where a report is not valid, and with exit code 1 where two
disagree.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

RESULTS_AT_A_TIME = 2_000
PATIENCE_S = 120.0


def main() -> None:
    print(json.dumps(validated(Path(sys.argv[1]))))


def validated(directory: Path) -> dict[str, Any]:
    """What was counted in the reports, seconds until the page is ready, findings listed and left out."""
    hosts, cells = _json(directory / "report.json")
    listed = [
        name
        for file in ("passing_hosts.txt", "failing_hosts.txt")
        for name in (directory / file).read_text(encoding="utf-8").split()
    ]
    _agree("hosts of the host lists", Counter(listed), Counter(hosts))
    _agree("cells of the Prometheus file", _prometheus(directory / "ascendctl.prom"), cells)
    page = _html(directory / "report.html")
    _agree("cells of the page's map", Counter(page["map"]), cells)
    _agree("cells of the page's summary", Counter(page["summary"]), cells)
    return {
        "hosts": len(hosts),
        "cells": cells,
        "junit_cases": _junit(directory / "junit.xml"),
        "ready_s": page["ready_s"],
        "listed": page["listed"],
        "left_out": page["left_out"],
    }


def _agree(what: str, seen: Counter[str], expected: Counter[str]) -> None:
    if +seen != +expected:
        more, fewer = dict(seen - expected), dict(expected - seen)
        raise SystemExit(f"{what}: {more} more and {fewer} fewer than in the JSON report")


def _json(path: Path) -> tuple[list[str], Counter[str]]:
    """The hosts, and the cells by status."""
    import jsonschema

    from ascendctl.report.model import schema

    validator = jsonschema.Draft202012Validator(schema())
    report = json.loads(path.read_text(encoding="utf-8"))
    results = report["results"]
    validator.validate({**report, "results": []})
    part = {**report, "hosts": [], "counters": [], "verdicts": []}
    for first in range(0, len(results), RESULTS_AT_A_TIME):
        # The whole report once more for every part of its results would take hours.
        validator.validate({**part, "results": results[first : first + RESULTS_AT_A_TIME]})
    cells = Counter(result["status"] for result in results)
    _agree("cells of the JSON report's summary", Counter(report["summary"]), cells)
    return [host["name"] for host in report["hosts"]], cells


def _junit(path: Path) -> int:
    """The number of its cases."""
    import xmlschema

    tree = ElementTree.parse(path)
    xmlschema.XMLSchema(ROOT / "tests" / "report" / "junit.xsd").validate(tree)
    return sum(1 for _ in tree.iter("testcase"))


def _prometheus(path: Path) -> Counter[str]:
    """The cells by status, summed over hosts and checks."""
    from prometheus_client.parser import text_string_to_metric_families

    cells: Counter[str] = Counter()
    for family in text_string_to_metric_families(path.read_text(encoding="utf-8")):
        if family.name == "ascendctl_check_status":
            for sample in family.samples:
                cells[sample.labels["status"]] += int(sample.value)
    return cells


_COUNT = """
const block = (id) => JSON.parse(document.getElementById(id).textContent), rest = block("rest");
const word = { f: "fail", e: "error", u: "unknown", k: "skipped", s: "skipped", w: "warn", v: "waived",
               p: "pass", n: "not-applicable" };
const map = {};
for (const host of block("cells")) for (const row of host[5]) for (const letter of row[4]) {
  map[word[letter]] = (map[word[letter]] ?? 0) + 1;
}
return { map, summary: rest.meta.summary, listed: rest.findings.length, left_out: rest.left_out };
"""


def _html(path: Path) -> dict[str, Any]:
    """Opened in Chromium: seconds until the page was ready, and what its own data count."""
    from tests import browser

    if reason := browser.missing():
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory() as folder, browser.chromium(Path(folder) / "profile") as driver:
        driver.get(path.resolve().as_uri())
        ready = "return document.documentElement.dataset.ready"
        end = time.monotonic() + PATIENCE_S
        while not (ready_ms := driver.execute_script(ready)):
            if time.monotonic() > end:
                raise SystemExit(f"{path}: not ready after {PATIENCE_S:.0f} s")
            time.sleep(0.05)
        return {"ready_s": int(ready_ms) / 1000, **driver.execute_script(_COUNT)}


if __name__ == "__main__":
    main()
