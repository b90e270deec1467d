"""The HTML report: compact, inert whatever hosts say, and usable in a browser."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import re
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from ascendctl.report import html as report
from ascendctl.report.html import write_html
from ascendctl.results import ExitCode, Result, Run, Status, host_subject
from tests import browser
from tests.report import runs

HOSTILE = (
    "<script>window.broken=1</script>",
    '"><img src=x onerror="window.broken=1">',
    "</script><script>window.broken=1</script>",
    "<!--<script>",
    "{{script}}",
    "line\u2028separator\u2029s",
    "lone \ud83d surrogate \udcb9",
    "\x1b[2J \u202e over",
)


def written(run: Run, code: int = ExitCode.FOUND_WRONG, *, strict: bool = False) -> str:
    stream = io.StringIO()
    write_html(run, code, stream, strict=strict)
    return stream.getvalue()


def hostile_run() -> Run:
    results: list[Result] = []
    for text in HOSTILE:
        results += runs.passes(text, range(2))
        results.append(
            Result(
                f"check{text}", runs.device(text, 2), Status.FAIL, text, text, text, text, text, None, False,
                text, f"{text}\n{text}",
            )
        )  # fmt: skip
    return runs.run_of(results, [runs.note(text, 3, group=text, details={text: text}) for text in HOSTILE])


class Tags(HTMLParser):
    """The tags of a page, and what its inert blocks hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.blocks: dict[str, Any] = {}
        self._block = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._block = dict(attrs).get("id") or "" if tag == "script" else ""

    def handle_endtag(self, tag: str) -> None:
        self._block = ""

    def handle_data(self, data: str) -> None:
        if self._block:
            self.blocks[self._block] = json.loads(data)


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(runs.one_of_everything(), id="one of everything"),
        pytest.param(runs.clean(), id="clean"),
        pytest.param(runs.run_of([]), id="empty"),
        pytest.param(hostile_run(), id="hostile"),
    ],
)
def test_every_cell_is_in_the_page_and_every_number_points_somewhere(run: Run) -> None:
    blocks = Tags(written(run)).blocks
    rest = blocks["rest"]
    letters = "".join(row[4] for host in blocks["cells"] for row in host[5])
    by_status = rest["meta"]["summary"]
    assert len(letters) == len(run.results)
    assert letters.count("s") + letters.count("k") == by_status["skipped"]
    assert {name: letters.count(name[0]) for name in ("fail", "warn", "unknown", "error", "pass")} == {
        name: by_status[name] for name in ("fail", "warn", "unknown", "error", "pass")
    }
    for host in blocks["cells"]:
        for row in host[5]:
            assert len(rest["shapes"][row[3]]) == len(row[4]) == len(row[5])
            said = [text for number in row[5] for text in rest["tellings"][number]]
            assert all(rest["strings"][text] is not None for text in said)


def test_a_finding_points_to_its_own_cells() -> None:
    blocks = Tags(written(runs.one_of_everything())).blocks
    rest = blocks["rest"]
    cells = [
        (host[0], row[1], rest["checks"][check], letter)
        for host in blocks["cells"]
        for row in host[5]
        for check, letter in zip(rest["shapes"][row[3]], row[4], strict=True)
    ]
    (link,) = [one for one in rest["findings"] if rest["checks"][one[2]] == "link"]
    assert [cells[number] for number in link[6]] == [("node02", 5, "link", "f")]
    assert link[7] == {"gateway": 1, "lldp": 1, "net-health": 1}
    assert [one[0] for one in rest["findings"]] == sorted(
        (one[0] for one in rest["findings"]), key=("found", "unlooked", "waived").index
    )


def test_a_hostile_text_adds_no_tag_and_the_page_names_nothing_to_fetch() -> None:
    text = written(hostile_run())
    assert Tags(text).tags == Tags(written(runs.clean())).tags
    text.encode("utf-8")  # no lone surrogate is left
    assert not {"\u2028", "\u202e", "\x1b"} & set(text)
    fixed = written(runs.run_of([])).replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert not re.search(r"https?:|@import|url\(|<link|<img|\ssrc=|\bfetch\(|XMLHttpRequest|import\(", fixed)


def test_only_the_script_of_the_page_may_run() -> None:
    text = written(runs.clean())
    script = text.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text and "default-src 'none'" in text


def test_both_languages_have_the_same_words_and_the_page_uses_known_ones() -> None:
    folder = resources.files("ascendctl.report") / "page"
    words = json.loads((folder / "words.json").read_text(encoding="utf-8"))
    assert words["en"].keys() == words["zh"].keys()
    for key, english in words["en"].items():
        of_english = set(re.findall(r"\{\w+\}", english if isinstance(english, str) else english[1]))
        assert set(re.findall(r"\{\w+\}", words["zh"][key])) == of_english, key
    markup = (folder / "page.html").read_text(encoding="utf-8")
    script = (folder / "page.js").read_text(encoding="utf-8")
    used = set(re.findall(r'data-word(?:-label|-hint)?="(\w+)"', markup))
    used |= set(re.findall(r'(?:worded\("\w+"|say\(|setWord\([^,]+), "(\w+)"', script))
    assert used <= words["en"].keys()


def test_evidence_is_for_cells_that_are_no_pass_and_shortened() -> None:
    cell = Result("tls", runs.device("a", 0), Status.FAIL, "m", evidence="x" * 9_000 + "end")
    rest = Tags(written(runs.run_of([*runs.passes("a", range(1)), cell]))).blocks["rest"]
    assert rest["evidence"] == ["x" * report.MOST_EVIDENCE + " … (9,003)"]


def test_a_budget_keeps_some_evidence_of_every_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "EVIDENCE_BUDGET_BYTES", 1_000)
    many = [Result("link", runs.device("a", n), Status.FAIL, "down", evidence=f"{n:090d}") for n in range(50)]
    one = Result("tls", runs.device("a", 0), Status.WARN, "differs", evidence="the other")
    blocks = Tags(written(runs.run_of([*many, one]))).blocks
    kept = blocks["rest"]["evidence"]
    assert "the other" in kept and len("".join(kept)) <= 1_000
    left_out = [number for row in blocks["cells"][0][5] for number in row[6].values() if number == -1]
    assert len(left_out) == len(many) + 1 - len(kept)


STATUSES = ("fail", "unknown", "waived", "pass")
BUDGETS = ("EVIDENCE", "TOLD_TEXTS", "CALM_TEXTS", "SECTION")


def word(number: int) -> str:
    """A word of letters alone: texts that differ by numbers only would be folded."""
    return "".join(chr(ord("a") + int(digit)) for digit in f"{number:06d}")


def all_different(cells: int, text: str = "") -> Run:
    """Failed cells of which no two texts fold into one, and waived, unlooked and passing ones."""
    results = []
    for number in range(cells):
        status = (Status.FAIL, Status.UNKNOWN, Status.WAIVED, Status.PASS)[
            number % 8 if number % 8 < 4 else 0
        ]
        subject = runs.device(f"node{number // 16:04d}", number % 16)
        said = f"{word(number)} {text}"
        results.append(
            Result("link", subject, status, said, "UP", said, remedy=f"do {said}", evidence=f"saw {said}")
        )
    return runs.run_of(results)


@pytest.mark.parametrize(
    "text", ["", "<" * 300, '"\\' * 200, "网" * 300], ids=["short", "<", "quotes", "wide"]
)
def test_different_texts_without_end_stay_within_the_budgets(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    for name in BUDGETS:
        monkeypatch.setattr(report, f"{name}_BUDGET_BYTES", 20_000)
    sizes = []
    for cells in (2_000, 4_000):
        run = all_different(cells, text)
        page = written(run)
        sizes.append(len(page.encode()))
        blocks = Tags(page).blocks
        rest = blocks["rest"]
        letters = Counter(letter for host in blocks["cells"] for row in host[5] for letter in row[4])
        by_status = rest["meta"]["summary"]
        assert letters == {letter: by_status[name] for letter, name in zip("fuvp", STATUSES, strict=True)}
        for section, letter in (("found", "f"), ("unlooked", "u"), ("waived", "v")):
            listed = [one for one in rest["findings"] if one[0] == section]
            findings, left_out = rest["left_out"][section]
            assert listed and findings and len(listed) + findings == letters[letter]
            assert sum(len(one[6]) for one in listed) + left_out == letters[letter]
    fixed = len(written(runs.run_of([])).encode())
    assert sizes[0] - fixed < 6 * 20_000 + 2_000 * 40
    assert sizes[1] - sizes[0] < 2_000 * 40, "bytes of each cell more, none of its texts"


def test_nothing_is_left_out_where_the_budgets_bear_it() -> None:
    rest = Tags(written(all_different(500))).blocks["rest"]
    assert rest["left_out"] == {} and len(rest["findings"]) == 500 - rest["meta"]["summary"]["pass"]


def test_the_worst_findings_are_those_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "SECTION_BUDGET_BYTES", 3_000)
    warnings = [Result("tls", runs.device("a", n), Status.WARN, f"odd {word(n)}") for n in range(100)]
    failure = Result("link", runs.device("a", 0), Status.FAIL, "down")
    rest = Tags(written(runs.run_of([*warnings, failure]))).blocks["rest"]
    assert rest["findings"][0][1] == "f"
    assert rest["left_out"]["found"][0] == 101 - len(rest["findings"]) > 0


def test_with_strict_a_warning_counts_as_found() -> None:
    run = runs.run_of([Result("tls", host_subject("a"), Status.WARN, "odd")])
    meta = [Tags(written(run, strict=strict)).blocks["rest"]["meta"] for strict in (False, True)]
    assert [(one["found"], one["warned"]) for one in meta] == [(0, 1), (1, 0)]


def test_what_a_command_printed_keeps_its_columns() -> None:
    cell = Result("x", host_subject("a"), Status.FAIL, "m", evidence="a   b\r\n  c\td\x1b[31m\n")
    assert Tags(written(runs.run_of([cell]))).blocks["rest"]["evidence"] == ["a   b\n  c     d\\x1b[31m"]


class _Counter(io.TextIOBase):
    written = 0

    def write(self, text: str) -> int:
        self.written += len(text)
        return len(text)


def test_a_large_run_is_written_small_and_as_a_stream() -> None:
    run = runs.clean(hosts=100, devices=16)
    stream = _Counter()
    tracemalloc.start()
    try:
        write_html(run, ExitCode.OK, stream)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    fixed = len(written(runs.run_of([])))
    assert (stream.written - fixed) / len(run.results) < 12, "characters per cell"
    assert peak / len(run.results) < 150, "bytes held per cell"


# --- in a browser ---------------------------------------------------------------------------------


class Page:
    """A report opened in Chromium."""

    def __init__(self, driver: Any, folder: Path) -> None:
        self.driver = driver
        self._folder = folder

    def open(self, run: Run, fragment: str = "") -> None:
        file = self._folder / "report.html"
        with file.open("w", encoding="utf-8") as stream:
            write_html(run, ExitCode.FOUND_WRONG, stream)
        self.driver.get("about:blank")
        self.driver.get(file.as_uri() + fragment)
        self.wait("return document.documentElement.dataset.ready")

    def js(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def wait(self, script: str, seconds: float = 60) -> Any:
        end = time.monotonic() + seconds
        while not (value := self.js(script)):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)
        return value

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.js(
            "return [...document.querySelectorAll(arguments[0])].map(one => one.textContent)", selector
        )
        return found

    def click(self, selector: str) -> None:
        self.driver.find_element("css selector", selector).click()

    def keys(self, selector: str, *keys: str) -> None:
        self.driver.find_element("css selector", selector).send_keys(*keys)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("chromium")
    with contextlib.ExitStack() as stack:
        yield Page(stack.enter_context(browser.chromium(folder / "profile")), folder)


pytestmark_browser = [
    pytest.mark.chromium,
    pytest.mark.skipif(bool(browser.missing()), reason=browser.missing()),
]


def in_browser(test: Any) -> Any:
    for mark in pytestmark_browser:
        test = mark(test)
    return test


@in_browser
def test_a_finding_opens_to_its_evidence(page: Page) -> None:
    page.open(runs.one_of_everything(), "#lang=en")
    checks = page.texts(".finding .check")
    assert checks[0] == "link" and "UP" not in page.js("return document.body.innerText")
    page.click(".finding summary")
    assert page.wait("return document.querySelector('.finding pre')?.textContent") == "link status: DOWN"
    assert "hccn_tool -i 5 -link -g" in page.texts(".finding code")
    page.driver.save_screenshot(str(page._folder / "opened.png"))
    assert (page._folder / "opened.png").stat().st_size > 10_000


@in_browser
def test_each_cell_of_a_folded_finding_opens_to_its_own_evidence(page: Page) -> None:
    cells = [
        Result("link", runs.device("a", n), Status.FAIL, "down", evidence=f"printed by {n}")
        for n in range(30)
    ]
    page.open(runs.run_of(cells), "#lang=en")
    page.click(".finding summary")
    page.wait("return document.querySelectorAll('.finding .cells summary').length === 20")
    page.click(".finding .cells .more")
    assert len(page.texts(".finding .cells summary")) == 30
    page.js("document.querySelectorAll('.cells summary')[25].click()")
    assert page.wait("return document.querySelector('.finding pre')?.textContent") == "printed by 25"


@in_browser
def test_filters_narrow_map_and_findings_and_stay_in_the_address(page: Page) -> None:
    page.open(runs.one_of_everything(), "#lang=en")
    all_findings = len(page.texts(".finding"))
    page.keys("#filter-host", "node02")
    page.wait("return document.querySelector('#map-count').textContent === '1 of 3 hosts'")
    assert 0 < len(page.texts(".finding")) < all_findings
    page.click("[data-status=unknown]")
    assert page.texts(".finding") == [] and page.texts("#findings .empty")
    page.click("#filter-clear")
    page.click("[data-status=unknown]")
    assert sorted(page.texts(".finding .check")) == ["lldp", "reachable"]
    page.js(
        "const s = document.getElementById('filter-check');"
        "s.value = [...s.options].find(one => one.text === 'lldp').value;"
        "s.dispatchEvent(new Event('change'))"
    )
    assert page.texts(".finding .check") == ["lldp"]
    fragment = page.js("return location.hash")
    page.open(runs.one_of_everything(), fragment)
    assert page.texts(".finding .check") == ["lldp"]
    assert page.texts("[data-status][aria-pressed=true] span") == ["unknown"]


@in_browser
def test_the_map_goes_by_keyboard_and_by_mouse(page: Page) -> None:
    page.open(runs.one_of_everything(), "#lang=en")
    right, down, enter, escape = "\ue014", "\ue015", "\ue007", "\ue00c"
    page.keys("#map", right, right)
    assert page.texts("#map-info")[0].startswith("node01 device 1: unknown: lldp")
    page.keys("#map", down, enter)
    title = page.wait("return document.querySelector('#panel:not([hidden]) h2')?.textContent")
    assert title.startswith(("node03", "node02"))
    page.keys("#panel-close", escape)
    assert page.js("return document.getElementById('panel').hidden && document.activeElement.id") == "map"
    page.js(
        "const c = document.querySelector('#tiles canvas'), box = c.getBoundingClientRect();"
        "c.dispatchEvent(new MouseEvent('click', {bubbles: true, clientX: box.x + 8, clientY: box.y + 36}))"
    )
    assert page.texts("#panel h2")[0] == "node01"


@in_browser
def test_the_language_switches_and_is_remembered(page: Page) -> None:
    page.open(runs.one_of_everything(), "#lang=en")
    assert page.texts("h1") == ["NOT FIT"]
    page.click("#language")
    assert page.texts("#findings-title, #filter-clear") == ["清除筛选", "检查结论"]
    assert page.texts("h1") == ["不可用"] and "lang=zh" in page.js("return location.hash")
    assert "link is DOWN" in "".join(page.texts(".finding"))
    page.open(runs.one_of_everything(), page.js("return location.hash"))
    assert page.texts("h1") == ["不可用"]


@in_browser
def test_hostile_texts_stay_texts(page: Page) -> None:
    page.open(hostile_run(), "#lang=en")
    page.js("document.querySelectorAll('.finding').forEach(one => { one.fill(); one.open = true; })")
    page.js("document.querySelectorAll('.cells details').forEach(one => { one.fill(); one.open = true; })")
    page.keys("#map", "\ue014", "\ue007")
    page.wait("return !document.getElementById('panel').hidden")
    assert page.js("return [window.broken ?? null, document.images.length, document.scripts.length]") == [
        None, 0, 4,
    ]  # fmt: skip
    assert any("<script>window.broken=1</script>" in text for text in page.texts(".finding pre"))


@in_browser
def test_nothing_is_fetched_and_nothing_is_complained_of(page: Page) -> None:
    page.driver.get_log("performance"), page.driver.get_log("browser")
    page.open(runs.one_of_everything(), "#lang=en")
    sent = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    addresses = {
        one["params"]["request"]["url"] for one in sent if one["method"] == "Network.requestWillBeSent"
    }
    assert {address.split(":")[0] for address in addresses} <= {"file"}
    assert page.driver.get_log("browser") == []


@in_browser
def test_no_element_per_cell(page: Page) -> None:
    page.open(runs.clean(hosts=200, devices=16), "#lang=en")
    assert page.js("return document.getElementsByTagName('*').length") < 400


@in_browser
def test_what_is_left_out_is_said_and_its_cells_are_in_the_map(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in BUDGETS:
        monkeypatch.setattr(report, f"{name}_BUDGET_BYTES", 2_000)
    page.open(all_different(800), "#lang=en")
    rest = page.js("return JSON.parse(document.getElementById('rest').textContent)")
    listed, cells = len(rest["findings"]), sum(cells for _, cells in rest["left_out"].values())
    assert page.texts("#findings-count") == [f"{listed} of {listed + cells} findings"]
    (said,) = page.texts("[data-word=findings_left_out]")
    assert said.startswith(f"{cells} more findings, {cells} cells, are not listed") and "report.json" in said
    page.keys("#map", "\ue010", "\ue007")  # End: the last host; Enter
    page.wait("return !document.getElementById('panel').hidden")
    assert page.texts("#panel summary [data-word=message_left_out]")
    page.click("#panel-close")
    page.keys("#filter-host", "zzz")
    page.wait("return document.querySelectorAll('.finding').length === 0")
    assert page.texts("[data-word=findings_left_out]") == [said]


@in_browser
def test_no_host_of_the_map_lies_beyond_the_sheet(page: Page) -> None:
    page.open(runs.clean(hosts=300, devices=16), "#lang=en")
    widest = "return Math.max(...[...document.querySelectorAll('#tiles canvas')].map(c => c.offsetWidth))"
    assert page.js(widest) > 700
    page.js("window.dispatchEvent(new Event('beforeprint'))")
    assert 0 < page.js(widest) <= 680  # of the 718 of an A4 sheet with margins of 1 cm
    page.js("window.dispatchEvent(new Event('afterprint'))")
    assert page.js(widest) > 700


@in_browser
def test_it_prints_with_findings_opened(page: Page) -> None:
    page.open(runs.one_of_everything(), "#lang=en")
    page.js("window.dispatchEvent(new Event('beforeprint'))")
    assert page.js("return document.querySelectorAll('.finding[open] dl').length") == len(
        page.texts(".finding")
    )
    page.js("window.dispatchEvent(new Event('afterprint'))")
    assert page.js("return document.querySelectorAll('.finding[open]').length") == 0
