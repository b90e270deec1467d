"""Parts of what is printed of `netloader`: tables of instances, where they serve, what is wrong with them.

Instances that are alike share a row where there are many; every part is bounded, the rest is counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ascendctl.netloader.evidence import Came, Evidence
from ascendctl.netloader.plan import Instance, Role
from ascendctl.netloader.proof import untold
from ascendctl.report.folding import fold_numbers, numbers_masked
from ascendctl.report.marks import BY_STATUS
from ascendctl.report.netloader_words import counted, listeners_text, names_text, parted
from ascendctl.report.printable import shown
from ascendctl.report.terminal import print_block, print_heading, print_line
from ascendctl.results import Status

T = TypeVar("T")

MOST_SINGLE_ROWS = 12  # with more instances, those that are alike share a row
MOST_ROWS = 16
LEAST_LAST_CELLS = 20  # room for a table's last column, which wraps
MOST_LINES = 4  # of a log, per finding
FROM_DISK = "from disk, not from a source"


# Rows -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """``cells`` are padded to columns; ``last`` hangs beside them and wraps. Text is fit to be shown."""

    cells: tuple[str, ...]
    last: Text
    status: Status | None = None


def print_table(
    titles: Sequence[str], rows: Sequence[Row], console: Console, *, numbers_from: int | None = None
) -> None:
    """Texts to the left, numbers (columns from ``numbers_from``) to the right; widths as on a terminal.

    Where the console is too narrow for the columns, each row's cells stand below its first one.
    """
    columns = list(zip(titles, *(row.cells for row in rows), strict=False))
    widths = [max(map(cell_len, column)) for column in columns]
    last = min(
        LEAST_LAST_CELLS, max(cell_len(text) for text in (titles[-1], *(row.last.plain for row in rows)))
    )
    if 4 + sum(width + 2 for width in widths) + last > console.width:
        _print_stacked(titles, rows, console)
        return

    def line(cells: Sequence[str]) -> str:
        padded = []
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            pad = " " * (width - cell_len(cell))
            padded.append(pad + cell if numbers_from is not None and at >= numbers_from else cell + pad)
        return "".join(f"{cell}  " for cell in padded)

    print_block(console, Text("    " + line(titles[:-1]), style="dim"), Text(titles[-1], style="dim"))
    for row in rows:
        before = line(row.cells) if row.status else "    " + line(row.cells)
        print_block(console, Text(before), row.last, status=row.status)


def _print_stacked(titles: Sequence[str], rows: Sequence[Row], console: Console) -> None:
    for row in rows:
        first = Text() if row.status else Text("    ")
        print_block(console, first, Text(row.cells[0]), status=row.status)
        pairs = zip(titles[1:-1], row.cells[1:], strict=True)
        told = ", ".join(f"{title}: {cell}" for title, cell in pairs if cell != "-")
        before = f"{told}\n{titles[-1]}: " if told else f"{titles[-1]}: "
        print_block(console, Text("      "), Text(before) + row.last)


def in_rows(things: Sequence[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """A row each where there are few, else those that are alike together."""
    if len(things) <= MOST_SINGLE_ROWS:
        return [[one] for one in things]
    return [group for group, _ in alike(things, key)]


def alike(things: Iterable[T], key: Callable[[T], Hashable]) -> list[tuple[list[T], T]]:
    """Things with the same key, each group with its first."""
    groups: dict[Hashable, list[T]] = defaultdict(list)
    for one in things:
        groups[key(one)].append(one)
    return [(group, group[0]) for group in groups.values()]


def print_rest(rest: Sequence[Sequence[T]], kind: Callable[[T], str], console: Console) -> None:
    """How many are in the rows that are not printed, by kind; none, no line."""
    if rest:
        kinds = Counter(kind(one) for group in rest for one in group)
        told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
        more = counted(sum(kinds.values()), "more instance")
        print_line(console, f"… and {more} ({told}): all with --format json", indent=4)


def range_text(seconds: Iterable[float | None]) -> str:
    """``14.2``, of several ``14.2-15.0``; empty where nothing is known."""
    known = [one for one in seconds if one is not None]
    if not known:
        return ""
    low, high = f"{min(known):.1f}", f"{max(known):.1f}"
    return low if low == high else f"{low}-{high}"


def weights_cell(lines: Sequence[str], role: Role | None) -> Text:
    """Lines of `weights_lines`; a joiner's in colour: from a disk yellow, not known cyan."""
    text = Text("\n".join(lines) or "-")
    if role is Role.JOINER:
        text.highlight_regex(r": p2p\b", "bold green")
        text.highlight_regex(r"(?<=, )verified$", "green")
        text.highlight_regex(r"not verified$|verified: not told$|: disk$", "yellow")
        text.highlight_regex(r": unknown$|: no evidence$", "cyan")
    return text


# Where they serve -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Serving:
    """An instance, the URL of its API, and the listeners ("address:port") that take joiners."""

    name: str
    url: str
    listeners: tuple[str, ...]

    def without_address(self) -> tuple[str, str]:
        """URL and listeners with ADDRESS for the one address that stands in all of them."""
        addresses = {parted(listener)[0] for listener in self.listeners}
        url, listeners = shown(self.url) or "-", listeners_text(self.listeners)
        if len(addresses) != 1:
            return url, listeners
        (address,) = addresses
        return url.replace(address, "ADDRESS"), listeners.replace(address, "ADDRESS")


def print_serving(instances: Iterable[Serving], console: Console) -> None:
    """A section of the instances that serve anybody; none, no section."""
    serving = [one for one in instances if one.url or one.listeners]
    if not serving:
        return
    print_heading(console, "Serving")
    groups = in_rows(serving, Serving.without_address)
    rows = []
    for group in groups[:MOST_ROWS]:
        first = group[0]
        url, listeners = shown(first.url) or "-", listeners_text(first.listeners)
        if len(group) > 1:
            url, listeners = first.without_address()
        names = names_text(one.name for one in group)
        rows.append(Row((names, url), Text(listeners or "no listener for joiners is known")))
    print_table(("instance", "API", "joiners take the weights at"), rows, console)
    print_rest(groups[MOST_ROWS:], lambda one: "serving", console)


# What is wrong --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """One instance's. ``lines``: of the log or of a status file, as they stand there."""

    name: str
    status: Status
    head: str
    reason: str
    remedy: str = ""
    lines: tuple[str, ...] = ()


def rank_problems(name: str, instance: Instance, found: Evidence | None, status: Status) -> Iterable[Problem]:
    """A joiner's ranks whose weights no source is proven to have given, by reason; a seed has none."""
    if instance.role is Role.SEED:
        return
    for ranks, first in alike(
        found.fallbacks + found.unproven if found else (),
        lambda rank: (rank.came, rank.draft, numbers_masked(rank.reason)),
    ):
        numbers = {rank.rank for rank in ranks}
        who = (
            f"{'draft ' if first.draft else ''}rank{'s' if len(numbers) > 1 else ''} {fold_numbers(numbers)}"
        )
        what = FROM_DISK if first.came is Came.DISK else "not proven"
        yield Problem(name, status, f"{who} {what}", first.reason, lines=first.decided_by)
    missing = untold(instance, found)
    if missing:
        who = f"rank{'s' if len(missing) > 1 else ''} {fold_numbers(missing)}"
        yield Problem(
            name, status, f"{who} not proven", "neither its log nor a status file was read for them"
        )


def print_problems(problems: Iterable[Problem], console: Console) -> None:
    """A section of findings: those that say the same share an entry, the gravest first."""
    groups = alike(
        problems, lambda one: (one.status, one.head, numbers_masked(one.reason), numbers_masked(one.remedy))
    )
    if not groups:
        return
    print_heading(console, "Findings")
    groups.sort(key=lambda group: -BY_STATUS[group[1].status].rank)
    for group, first in groups[:MOST_ROWS]:
        names = names_text(one.name for one in group)
        head = Text.assemble((names, "bold"), "  ", (first.head, BY_STATUS[first.status].style))
        said = f": {shown(first.reason)}" if first.reason else ""
        print_block(console, Text(), head + said, status=first.status)
        of_whom = f"({first.name}) " if names != first.name else ""
        for at, line in enumerate(first.lines[:MOST_LINES]):
            _print_labelled("" if at else "log", of_whom + shown(line), console)
        if len(first.lines) > MOST_LINES:
            _print_labelled("", f"… and {counted(len(first.lines) - MOST_LINES, 'more line')}", console)
        if first.remedy:
            _print_labelled("to do", shown(first.remedy), console)
    print_rest([group for group, _ in groups[MOST_ROWS:]], lambda one: one.head, console)


def _print_labelled(label: str, text: str, console: Console) -> None:
    print_block(console, Text(f"      {label:<6} ", style="dim"), Text(text))
