"""The HTML report of `consistency-test`: one file that fetches nothing, with answers side by side.

Everything is in the markup, in English and Chinese; a short script switches between the two. What servers
said is escaped, and what does not print is made visible, so that none of it can become markup.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from typing import TextIO

from ascendctl import __version__
from ascendctl.consistency.answers import Answer, Step
from ascendctl.consistency.compare import Outcome
from ascendctl.consistency.verdicts import (
    CandidateVerdict,
    ConsistencyRun,
    PromptVerdict,
    Verdict,
    nats,
    token_name,
)
from ascendctl.report.consistency_json import STEPS_AROUND
from ascendctl.report.consistency_text import (
    STATUS_OF,
    counts,
    figures,
    parted_texts,
    verdict_line,
    worst_first,
)
from ascendctl.report.html import content_digest
from ascendctl.report.marks import BY_STATUS as MARKS
from ascendctl.report.marks import Mark, mark_of
from ascendctl.report.printable import shown, storable
from ascendctl.results import ExitCode, Result, Status

MOST_DIFFERING = 200  # prompts in full, per candidate; the JSON report has all
MOST_CHARACTERS = 6_000  # of one text
OPEN = 3  # prompts that are open from the start

_ZH = {
    Verdict.IDENTICAL: "完全一致",
    Verdict.CLOSE: "数值接近",
    Verdict.DIFFERENT: "不一致",
    Verdict.NOT_PROVEN: "未能证实",
}
_HEADLINES_ZH = {
    ExitCode.OK: "一致",
    ExitCode.FOUND_WRONG: "不一致",
    ExitCode.NOT_ENOUGH: "未能证实",
    ExitCode.INTERNAL: "未能证实：ascendctl 自身出错",
    ExitCode.INTERRUPTED: "已中断，以下为此前所得",
}
_CLASSES = {mark: status.value for status, mark in MARKS.items()}
_STATUS_OF_CODE = {ExitCode.OK: Status.PASS, ExitCode.FOUND_WRONG: Status.FAIL}


def write_consistency_html(run: ConsistencyRun, exit_code: int, stream: TextIO) -> None:
    """Write the report of a run. The stream must encode as UTF-8. Raises OSError of the stream."""
    folder = resources.files("ascendctl.report") / "page"
    style, more, script, page = (
        (folder / name).read_text(encoding="utf-8")
        for name in ("page.css", "consistency.css", "consistency.js", "consistency.html")
    )
    style += more
    policy = (
        f"default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"script-src '{content_digest(script)}'; style-src '{content_digest(style)}'"
    )
    parts = {
        "policy": policy,
        "title": html.escape(f"ascendctl consistency-test: {verdict_line(run, exit_code)}"),
        "when": html.escape(f"{run.started_at:%Y-%m-%d %H:%M:%S %Z}"),
        "style": style,
        "script": script,
        "foot": _both(
            f"Made by ascendctl {__version__}. This file holds everything it shows and fetches nothing.",
            f"由 ascendctl {__version__} 生成。本文件自成一体，不访问网络。",
        ),
        "body": "\n".join(_body(run, exit_code)),
    }
    # Piece by piece: in a text of a server nothing is to be replaced.
    for index, piece in enumerate(page.split("{{")):
        name, found, rest = piece.partition("}}") if index else ("", "", piece)
        stream.write(parts[name] + rest if found else rest)
    stream.flush()


def _body(run: ConsistencyRun, exit_code: int) -> Iterator[str]:
    yield from _headline(run, exit_code)
    yield from _table(run)
    yield from _reference(run)
    for number, one in enumerate(run.candidates):
        yield from _candidate(run, one, number)


def _headline(run: ConsistencyRun, exit_code: int) -> Iterator[str]:
    code = ExitCode(exit_code)
    status = _STATUS_OF_CODE.get(code, Status.UNKNOWN)
    if code is ExitCode.OK and any(one.verdict is not Verdict.IDENTICAL for one in run.candidates):
        status = Status.WARN
    alone = any(one.text_alone for one in run.candidates)
    chinese = _HEADLINES_ZH.get(code, "未能证实") + ("（仅凭文本）" if alone else "")
    if code is ExitCode.OK and status is Status.WARN:
        chinese = "；".join(dict.fromkeys(_ZH[one.verdict] for one in run.candidates))
    yield f'<section class="verdict {status.value}"><h1>{_mark(MARKS[status])}'
    yield f"<span>{_both(verdict_line(run, exit_code), chinese)}</span></h1>"
    yield f'<p class="quiet">{_text("; ".join(figures(run)))}</p></section>'


def _table(run: ConsistencyRun) -> Iterator[str]:
    titles = (
        ("Candidate", "候选服务"),
        ("Verdict", "结论"),
        ("Prompts", "提示数"),
        ("Equal", "完全相同"),
        ("Only logprobs differ", "仅概率不同"),
        ("Part at a token", "出现分歧"),
        ("Not compared", "未比较"),
        ("Largest difference, nats", "最大差值（nat）"),
    )
    yield '<section><div class="card"><table><thead><tr><th></th>'
    for index, (english, chinese) in enumerate(titles):
        yield f"<th{_number(index > 1)}>{_both(english, chinese)}</th>"
    yield "</tr></thead><tbody>"
    for number, one in enumerate(run.candidates):
        status = STATUS_OF[one.verdict]
        yield f'<tr><td class="mark-cell">{_mark(MARKS[status])}</td>'
        yield f'<td><a href="#candidate-{number}">{_text(one.server.name)}</a></td>'
        yield f"<td><strong>{_both(one.verdict.value, _ZH[one.verdict])}</strong></td>"
        yield "".join(f'<td class="number">{_text(text)}</td>' for text in counts(one)) + "</tr>"
    yield "</tbody></table></div></section>"


def _reference(run: ConsistencyRun) -> Iterator[str]:
    log = run.observation.reference
    yield f"<section><h2>{_both('Reference', '参照服务')} {_text(log.server.name)}</h2>"
    yield from _cells(cell for cell in run.results if cell.subject.host == log.server.name and cell.wanted)
    if run.observation.left_out:
        yield f"<details><summary>{_both('Prompts left out', '未使用的提示')}"
        yield f' <span class="quiet">{len(run.observation.left_out)}</span></summary><div class="body"><ul>'
        for name, reason in run.observation.left_out.items():
            yield f"<li><strong>{_text(name)}</strong> {_text(reason)}</li>"
        yield "</ul></div></details>"
    yield "</section>"


def _candidate(run: ConsistencyRun, one: CandidateVerdict, number: int) -> Iterator[str]:
    status = STATUS_OF[one.verdict]
    yield f'<section id="candidate-{number}"><h2>{_mark(MARKS[status])} {_text(one.server.name)}: '
    yield f"{_both(one.verdict.value, _ZH[one.verdict])}</h2>"
    yield '<ul class="reasons">' + "".join(f"<li>{_text(reason)}</li>" for reason in one.reasons) + "</ul>"
    yield from _cells(
        cell
        for cell in run.results
        if cell.subject.host == one.server.name and cell.wanted and not cell.check.startswith("prompt-")
    )
    differing = worst_first(one)
    told = {id(each): f"prompt-{number}-{place}" for place, each in enumerate(differing[:MOST_DIFFERING])}
    yield from _strip(one, told)
    for place, each in enumerate(differing[:MOST_DIFFERING]):
        yield from _prompt(each, told[id(each)], place < OPEN, run.observation.token_texts)
    more = len(differing) - MOST_DIFFERING
    if more > 0:
        words = (
            f"{more} more prompts differ; the JSON report has them.",
            f"另有 {more} 条提示不一致，见 JSON 报告。",
        )
        yield f'<p class="quiet">{_both(*words)}</p>'
    yield "</section>"


def _strip(one: CandidateVerdict, told: Mapping[int, str]) -> Iterator[str]:
    """A tile per prompt, in their order; one that differs leads to its place."""
    yield '<div class="strip">'
    for each in one.prompts:
        title = html.escape(shown(f"{each.cell.check}: {each.cell.message}"), quote=True)
        mark = _mark(mark_of(each.cell))
        if id(each) in told:
            yield f'<a href="#{told[id(each)]}" title="{title}">{mark}</a>'
        else:
            yield f'<span class="tile" title="{title}">{mark}</span>'
    yield "</div>"
    names = (
        (Status.PASS, "equal", "完全相同"),
        (Status.WARN, "numerically close", "数值接近"),
        (Status.FAIL, "different", "不一致"),
        (Status.UNKNOWN, "not compared", "未比较"),
        (Status.NOT_APPLICABLE, "does not apply", "不适用"),
    )
    yield '<div class="legend">'
    for status, english, chinese in names:
        yield f"<span>{_mark(MARKS[status])} {_both(english, chinese)}</span>"
    yield "</div>"


def _prompt(each: PromptVerdict, anchor: str, is_open: bool, texts: Mapping[str, str]) -> Iterator[str]:
    near = " near" if each.outcome is Outcome.CLOSE else ""
    yield f'<details class="prompt{near}" id="{anchor}"{" open" if is_open else ""}>'
    yield f'<summary>{_mark(mark_of(each.cell))}<span class="check">{_text(each.cell.check)}</span>'
    yield f'<span class="where">{_text(each.cell.message)}</span></summary><div class="inside">'
    yield f'<p class="asked">{_lines(_short(each.prompt.shown))}</p>'
    if each.reference is not None and each.candidate is not None:
        common, ours, theirs = parted_texts(each.reference.text, each.candidate.text)
        yield '<div class="sides">'
        for english, chinese, rest in (("Reference", "参照", ours), ("Candidate", "候选", theirs)):
            after = f"<mark>{_lines(_short(rest))}</mark>" if rest else ""
            if not rest and (ours or theirs):
                after = f'<span class="ended">{_both("(ends here)", "（到此结束）")}</span>'
            # In one piece: inside <pre> every line end counts.
            both = f'<span class="same">{_lines(_short(common))}</span>'
            yield f'<div class="side"><h4>{_both(english, chinese)}</h4><pre>{both}{after}</pre></div>'
        yield "</div>"
        yield from _tokens(each, each.reference, each.candidate, texts)
    yield "</div></details>"


def _tokens(
    each: PromptVerdict, reference: Answer, candidate: Answer, texts: Mapping[str, str]
) -> Iterator[str]:
    """The tokens around the place that the prompt was found different for."""
    found = each.comparison
    if found is None:
        return
    if found.divergence is not None:
        at = found.divergence.position if found.divergence.by_token else None
    else:
        at = found.generated.position if found.generated and found.generated.largest else None
    if at is None:
        return
    yield '<table class="tokens"><thead><tr>'
    yield f"<th>{_both('token', '位置')}</th>"
    for english, chinese in (("reference", "参照"), ("candidate", "候选")):
        yield f'<th>{_both(english, chinese)}</th><th class="number">{_both("logprob", "对数概率")}</th>'
    yield f'<th class="number">{_both("difference", "差值")}</th></tr></thead><tbody>'
    longest = max(len(reference.steps), len(candidate.steps))
    for position in range(max(0, at - STEPS_AROUND), min(longest, at + STEPS_AROUND + 1)):
        ours = reference.steps[position] if position < len(reference.steps) else None
        theirs = candidate.steps[position] if position < len(candidate.steps) else None
        yield f"<tr{' class=parts' if position == at else ''}><td>{position}</td>"
        for step in (ours, theirs):
            logprob = "" if step is None or step.logprob is None else f"{step.logprob:.6f}"
            name = token_name(step.token if step else None, dict(texts))
            yield f'<td><code>{_text(name)}</code></td><td class="number">{logprob}</td>'
        same = ours is not None and theirs is not None and ours.token == theirs.token
        known = same and ours and theirs and ours.logprob is not None and theirs.logprob is not None
        delta = nats(abs(ours.logprob - theirs.logprob)) if known and ours and theirs else ""  # type: ignore[operator]
        yield f'<td class="number">{delta}</td></tr>'
        if position == at:
            yield '<tr class="alternatives"><td></td>'
            yield "".join(
                f'<td colspan="2" class="alternatives">{_likely(step, texts)}</td>' for step in (ours, theirs)
            )
            yield "<td></td></tr>"
    yield "</tbody></table>"


def _likely(step: Step | None, texts: Mapping[str, str]) -> str:
    if step is None:
        return ""
    ranked = sorted(step.top.items(), key=lambda item: -item[1])
    return "<br>".join(
        f"<code>{_text(token_name(token, dict(texts)))}</code> {logprob:.6f}" for token, logprob in ranked
    )


def _cells(cells: Iterable[Result]) -> Iterator[str]:
    yield '<div class="card"><table><tbody>'
    for cell in cells:
        remedy = (
            f'<br><span class="quiet">{_text(cell.remedy)}</span>'
            if _stands_out(cell) and cell.remedy
            else ""
        )
        yield f'<tr><td class="mark-cell">{_mark(mark_of(cell))}</td>'
        yield f"<td><strong>{_text(cell.check)}</strong></td>"
        yield f"<td>{_text(cell.message)}{remedy}</td></tr>"
    yield "</tbody></table></div>"


def _stands_out(cell: Result) -> bool:
    return cell.status is not Status.PASS


def _mark(mark: Mark) -> str:
    return (
        f'<svg class="mark is-{_CLASSES.get(mark, "not-applicable")}" viewBox="0 0 16 16" role="img" '
        f'aria-label="{html.escape(mark.word)}"><path d="{mark.outline}"/></svg>'
    )


def _both(english: str, chinese: str) -> str:
    return f'<span lang="en">{_text(english)}</span><span lang="zh">{_text(chinese)}</span>'


def _number(wanted: bool) -> str:
    return ' class="number"' if wanted else ""


def _text(text: str) -> str:
    return html.escape(shown(text))


def _lines(text: str) -> str:
    """A text as it stood, line by line, what does not print made visible."""
    whole = storable(text)
    return html.escape(
        "".join(char if char in "\n\t" or char.isprintable() else repr(char)[1:-1] for char in whole)
    )


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} … ({len(text):,})"
