"""The Markdown report, rendered by a CommonMark parser: whole, bounded, and nothing of a host is markup."""

from __future__ import annotations

import io
import re

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from ascendctl.report.markdown import MOST_FINDINGS, MOST_HOST_ROWS, code, prose, write_markdown
from ascendctl.report.printable import shown
from ascendctl.results import Result, Run, Status, host_subject
from tests.report import runs

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a|b|c",
    "a\n\n# heading\n\n| x |",
    "![x](http://evil/x.png) [y](javascript:alert(1))",
    "http://evil.example/x WWW.evil.example me@evil.example",
    "*a* **b** _c_ ~~d~~ __e__",
    "`code` ``x` `` <b>",
    "`a` and a lone ` <i>",
    "``<u>`",
    "&lt; &#60; &amp;",
    "back\\slash \\| \\",
    "\x1b[2J \udcb9 \u202e",
    "$x$ #12 [ref]: x",
    "|",
    "`|`",
]
ONE_ITEM = {
    *("bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"),
    *("paragraph_open", "paragraph_close", "inline", "text", "code_inline"),
}


def parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def text_of(tokens: list[Token]) -> str:
    return "".join(child.content for token in tokens for child in token.children or [])


def kinds(tokens: list[Token]) -> set[str]:
    return {token.type for token in tokens} | {
        child.type for token in tokens for child in token.children or []
    }


def written(run: Run, code: int = 1, *, strict: bool = False) -> str:
    stream = io.StringIO()
    write_markdown(run, code, stream, strict=strict)
    return stream.getvalue()


def rows(markdown: str) -> list[list[str]]:
    """Cells of every row of the table of hosts, as rendered; the first is the head."""
    found: list[list[str]] = []
    tokens = parser().parse(markdown)
    for index, token in enumerate(tokens):
        if token.type == "tr_open":
            found.append([])
        if token.type in ("td_open", "th_open"):
            found[-1].append(text_of([tokens[index + 1]]))
    return found


@pytest.mark.parametrize("text", HOSTILE)
def test_prose_and_code_are_shown_as_they_are(text: str) -> None:
    tokens = parser().parse(f"- x {code(text)} x")
    assert kinds(tokens) <= ONE_ITEM
    assert text_of(tokens) == f"x {shown(text)} x"
    tokens = parser().parse(f"- x {prose(text)} x")
    assert kinds(tokens) <= ONE_ITEM
    assert text_of(tokens).replace("`", "") == f"x {shown(text)} x".replace("`", "")


def test_parts_between_backticks_become_code() -> None:
    assert prose("Run `hccn_tool -i 3 -ip -g` <now>") == "Run `hccn_tool -i 3 -ip -g` &lt;now&gt;"


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_a_host_is_markup(text: str) -> None:
    cells = [
        Result(text, host_subject(text), status, text, text, text, text, text, command=text, evidence=text)
        for status in Status
    ]
    markdown = written(runs.run_of(cells, [runs.note(text, accelerator=text, generation=text)]))
    markdown.encode("utf-8")
    tokens = parser().parse(markdown)
    assert not kinds(tokens) & {"html_block", "html_inline", "link_open", "image", "em_open", "s_open"}
    assert not {"fence", "code_block", "blockquote_open", "hr"} & kinds(tokens)
    headings = [token.tag for token in tokens if token.type == "heading_open"]
    assert headings == ["h1", "h2", "h2", "h3", "h3", "h3", "h2", "h3", "h3", "h2", "h3"]
    assert rows(markdown)[1:] == [[shown(text), "1", "not fit", shown(text), "8", "1", "1", "2", "1", "1"]]
    # GitHub makes links of bare addresses too; an entity in them keeps it from that.
    bare = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", markdown)
    assert not re.search(r"://|www\.|\w@\w", bare, re.IGNORECASE)


def test_verdict_hosts_findings_and_remedies() -> None:
    cells = [cell for name in ("node01", "node02", "node04") for cell in runs.passes(name, range(5))]
    cells += [*runs.link_down("node02", 5), *runs.link_down("node02", 6), *runs.silent_host("node03")]
    cells += [Result("clock", host_subject("node01"), Status.WAIVED, "waived until 2026-12-31: ticket 7")]
    names = ["node01", "node02", "node03", "node04"]
    run = runs.run_of(cells, [runs.note(name, answered=name != "node03") for name in names])
    markdown = written(run)
    assert markdown.splitlines()[0] == "# NOT FIT: 1 of 4 hosts has findings; 1 of 4 hosts did not answer"
    assert rows(markdown) == [
        ["Hosts", "Number", "Verdict", "Type", "Devices", "fail", "error", "not looked at", "warn", "waived"],
        ["node02", "1", "not fit", "a2", "8", "2", "", "", "", ""],
        ["node03", "1", "no answer", "a2", "8", "", "", "3", "", ""],
        ["node01", "1", "pass", "a2", "8", "", "", "", "", "1"],
        ["node04", "1", "pass", "a2", "8", "", "", "", "", ""],
    ]
    assert (
        "### fail: link on node02 device 5-6\n"
        "\n"
        "- link is DOWN\n"
        "- **seen** DOWN (expected UP)\n"
        "- **leads to** HCCL cannot connect over this port (EI0006).\n"
        "- **to do** Check the optical module and the cable.\n"
        "- **read from** `hccn_tool -i 5 -link -g (for example)`\n"
        "- **cells** 2\n"
        "- **explains** 6 more cells (gateway 2, lldp 2, net-health 2)\n"
    ) in markdown
    assert "## Could not be looked at\n\n### unknown: reachable on node03\n" in markdown
    assert "## Waived by the inventory\n\n### waived: clock on node01\n" in markdown
    assert "Exit code 1" in markdown


def test_equal_hosts_share_a_row() -> None:
    markdown = written(runs.clean(hosts=12), 0)
    assert markdown.startswith("# FIT: 12 hosts\n")
    assert rows(markdown)[1:] == [["node[01-12]", "12", "pass", "a2", "8", "", "", "", "", ""]]
    assert "## Findings" not in markdown


def test_strict_counts_warnings() -> None:
    run = runs.run_of([Result("tls", host_subject("a"), Status.WARN, "odd")])
    assert rows(written(run, 0))[1][2] == "pass"
    strict = written(run, 1, strict=True)
    assert rows(strict)[1][2] == "not fit"
    assert strict.startswith("# NOT FIT: 1 of 1 host has findings")


def test_bounded_for_any_number_of_hosts_and_what_is_left_out_is_counted() -> None:
    def broken(hosts: int) -> Run:
        cells = []
        for number in range(hosts):
            name = f"n{number * 7919 % 100_003}"
            letters = "".join(chr(97 + int(digit)) for digit in str(number))
            cells += [
                Result("tls", runs.device(name, at), Status.FAIL, f"odd {letters}")
                for at in range(number + 1 if number < 60 else 3)
            ]
        return runs.run_of(cells)

    markdown = written(broken(300))
    assert len(rows(markdown)) - 1 == MOST_HOST_ROWS
    assert "Not in this table: " in markdown
    assert markdown.count("\n### ") == MOST_FINDINGS
    assert f"Left out here: {300 - MOST_FINDINGS} more" in markdown
    assert len(written(broken(600))) < len(markdown) + 1000


def test_a_long_list_of_names_is_cut_and_counted() -> None:
    names = [f"rack{number * 37 % 1009}-x{number * number % 997}" for number in range(400)]
    run = runs.run_of([Result("tls", host_subject(name), Status.FAIL, "odd") for name in names])
    markdown = written(run)
    assert "(400 hosts in all)" in markdown
    assert len(markdown) < 3000
