"""The parts of the page that need no script: who is at fault between hosts, and the topology drawn."""

from __future__ import annotations

import html
from collections.abc import Iterator

from ascendctl.report.printable import shown
from ascendctl.report.verdicts import MOST_VERDICTS, ToldVerdict, left_out, told_verdicts
from ascendctl.results import Run

# A picture of more hosts is no longer looked at in a page; `ascendctl topology` draws any size.
MOST_HOSTS_DRAWN = 256

_LABELS = {
    "sure": "verdict_sure",
    "because": "verdict_because",
    "ruled out": "verdict_ruled_out",
    "or else": "verdict_or_else",
    "leads to": "consequence",
    "to do": "remedy",
    "finding": "verdict_finding",
    "explains": "verdict_explains",
}


def verdicts_section(run: Run) -> str:
    """The verdicts of a run as a section, worst first; nothing where there are none."""
    told = told_verdicts(run)
    if not told:
        return ""
    return "\n".join(
        (
            '<section class="blame" aria-labelledby="blame-title">',
            '<div class="heading"><h2 id="blame-title" data-word="verdicts"></h2></div>',
            "<ol>",
            *(line for one in told[:MOST_VERDICTS] for line in _verdict(one)),
            "</ol>",
            f'<p class="quiet">{_text(left_out(told))}</p>' if len(told) > MOST_VERDICTS else "",
            "</section>",
        )
    )


def topology_section(run: Run) -> str:
    """The picture, where the run holds facts to draw it from and it is small enough to be looked at."""
    if run.facts is None or not any(host.devices for host in run.facts.hosts):
        return ""
    from ascendctl.topology.fabric import fabric_of

    small = len(run.facts.hosts) <= MOST_HOSTS_DRAWN
    body = '<p class="quiet" data-word="topology_too_large"></p>'
    if small:
        from ascendctl.report.topology_svg import topology_svg

        body = f'<div class="picture">{topology_svg(fabric_of(run.facts), run.results, run.verdicts)}</div>'
    return (
        '<section aria-labelledby="topology-heading"><details'
        f'{" open" if small else ""}><summary><h2 id="topology-heading" data-word="topology"></h2></summary>'
        f"{body}</details></section>"
    )


def _verdict(one: ToldVerdict) -> Iterator[str]:
    yield f'<li class="{one.status.value}"><strong>{_text(one.part)}</strong> {_text(one.message)}'
    yield "<dl>"
    for label, text in one.lines():
        word = _LABELS.get(label)
        name = f'<dt data-word="{word}"></dt>' if word else f"<dt>{_text(label)}</dt>"
        yield f"{name}<dd>{_text(text)}</dd>"
    yield "</dl></li>"


def _text(text: str) -> str:
    return html.escape(shown(text))
