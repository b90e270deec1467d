"""The topology as a picture: one SVG that holds all it shows; no script, no style sheet, nothing fetched.

States are told by shape first, by colour too (`ascendctl.report.marks`). Everything is drawn with
presentation attributes, so that a page's content security policy does not touch it; ids begin with
``topology-``. Hosts that look alike share one drawing by reference, so that the file stays small.

Scale-up: one box per super pod, in it a tile per host, in it a mark per device; the dies of one NPU stand
in one frame. Scale-out: leaf switches against devices, in each cell the number of hosts whose device hears
the switch: rails show as columns, racks as rows, and a single odd cable as a lone 1. Verdicts are numbered,
and the number stands beside every part that one accuses.
"""

from __future__ import annotations

import html
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ascendctl.report.marks import ABSENT, ALL, Mark, worst
from ascendctl.report.printable import shown
from ascendctl.report.topology_view import (
    Callout,
    HostGroup,
    HostView,
    Membership,
    SwitchView,
    TopologyView,
    view_of,
)
from ascendctl.report.topology_words import (
    component_text,
    count_text,
    group_text,
    headline,
    is_about_all_switches,
    patterns,
    segment_texts,
    states_text,
)
from ascendctl.results import Result, Verdict
from ascendctl.topology.fabric import Fabric, Port, PortId

K = TypeVar("K", bound=Hashable)

_WIDTH = 1280
_MARGIN = 24
_PAD = 14  # inside a box
_GAP = 8  # between tiles
_PITCH = 16  # from device to device
_MARK = 12  # size of a mark
_COLUMNS = 8  # NPUs side by side in a tile
_NAME = 20  # height of a tile's name
_LINE = 18
_SWITCH_NAME = 190
_CELL = 32

_TEXT = "#1b1f24"
_QUIET = "#5b6470"
_RULE = "#d9dde3"
_CARD = "#f5f6f8"
_ACCUSED = "#1b1f24"

_MOST_VERDICTS = 12
_MOST_SWITCHES = 128
_MOST_TEXTS = 24
_MOST_NPUS = 32
_MOST_NUMBERS = 3


def topology_svg(fabric: Fabric, results: Sequence[Result], verdicts: Sequence[Verdict] = ()) -> str:
    """The picture of a fabric with what was found on it, as an ``<svg>`` element with all it needs."""
    return draw(view_of(fabric, results, verdicts))


def draw(view: TopologyView) -> str:
    """The picture of a view."""
    canvas = _Canvas()
    _Picture(view, canvas).draw()
    return canvas.text(f"Topology: {headline(view)}", _description(view))


def _description(view: TopologyView) -> str:
    """The picture in words, for who cannot see it."""
    told = [f"{text}." for text in (states_text(view), *map(group_text, view.groups)) if text]
    told += [
        f"Verdict {one.number}: {component_text(one.verdict.component)}: {one.verdict.message}."
        for one in view.callouts[:_MOST_VERDICTS]
    ]
    return " ".join(told)


# --- elements -------------------------------------------------------------------------------------


class _Canvas:
    """Collects elements from top to bottom. ``y`` is where the next one begins."""

    def __init__(self) -> None:
        self.y = _MARGIN
        self._parts: list[str] = []
        self._shared: dict[str, str] = {}

    def add(self, element: str) -> None:
        self._parts.append(element)

    def share(self, drawing: str) -> str:
        """The id of a drawing that is written once however often it is used."""
        return self._shared.setdefault(drawing, f"topology-{len(self._shared)}")

    def text(self, title: str, description: str) -> str:
        height = self.y + _MARGIN
        marks = "".join(_definition(mark) for mark in ALL)
        shared = "".join(f'<g id="{name}">{drawing}</g>' for drawing, name in self._shared.items())
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
            f'height="{height}" role="img" aria-labelledby="topology-title topology-desc" '
            'font-family="system-ui, sans-serif" font-size="12">\n'
            f'<title id="topology-title">{_escaped(title)}</title>\n'
            f'<desc id="topology-desc">{_escaped(description)}</desc>\n'
            f"<defs>{marks}{shared}</defs>\n"
            f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>\n'
            + "\n".join(self._parts)
            + "\n</svg>\n"
        )


def _definition(mark: Mark) -> str:
    scale = _MARK / 16
    path = f'<path transform="scale({scale:g})" fill="{mark.colour}" fill-rule="evenodd" d="{mark.outline}"/>'
    return f'<g id="{_mark_id(mark)}">{path}</g>'


def _mark_id(mark: Mark) -> str:
    return f"topology-mark-{mark.rank + 1}"


def _use(name: str, x: float, y: float) -> str:
    return f'<use href="#{name}" x="{x:g}" y="{y:g}"/>'


def _mark(mark: Mark, x: float, y: float) -> str:
    return _use(_mark_id(mark), x, y)


def _rect(x: float, y: float, width: float, height: float, **attributes: Any) -> str:
    more = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"{more}/>'


def _words(
    text: str, x: float, y: float, width: float, *, size: int = 12, fill: str = _TEXT, bold: bool = False
) -> str:
    """A line of text, shortened to what fits into ``width``."""
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}"{weight}>'
        f"{_escaped(_fitting(text, width, size))}</text>"
    )


def _centred(text: str, x: float, y: float, *, size: int = 11, fill: str = _TEXT) -> str:
    place = f'x="{x:g}" y="{y:g}" text-anchor="middle"'
    return f'<text {place} font-size="{size}" fill="{fill}">{_escaped(text)}</text>'


def _badge(numbers: Sequence[int], x: float, y: float) -> str:
    """The numbers of verdicts, white on black, growing to the left of ``x``."""
    text = _badge_text(numbers)
    width = _badge_width(text)
    return _rect(x - width, y, width, 16, rx=8, fill=_ACCUSED) + _centred(
        text, x - width / 2, y + 12, fill="#fff"
    )


def _badge_text(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers[:_MOST_NUMBERS])) + (",…" if len(numbers) > _MOST_NUMBERS else "")


def _badge_width(text: str) -> int:
    return max(16, 7 * len(text) + 8)


def _fitting(text: str, width: float, size: int) -> str:
    """The beginning of a text that fits; widths of characters are reckoned on the wide side."""
    text = shown(text)
    used = 0.0
    for place, char in enumerate(text):
        used += size * (1.0 if unicodedata.east_asian_width(char) in "WF" else 0.58)
        if used > width:
            return text[: max(1, place - 1)] + "…"
    return text


def _escaped(text: str) -> str:
    return html.escape(shown(text))


# --- the picture ----------------------------------------------------------------------------------


class _Picture:
    def __init__(self, view: TopologyView, canvas: _Canvas) -> None:
        self._view = view
        self._canvas = canvas
        self._by_device = _numbers(view.callouts, lambda one: one.devices)
        self._by_host = _numbers(view.callouts, lambda one: one.hosts)
        self._by_switch = _numbers(view.callouts, lambda one: one.switches)
        self._by_pod = _numbers(view.callouts, lambda one: one.super_pods)

    def draw(self) -> None:
        self._heading()
        if self._view.callouts:
            self._verdicts()
        self._section("Scale-up (HCCS)")
        for group in self._view.groups:
            self._group(group)
        self._section("Scale-out (RoCE)")
        self._scale_out()

    # --- above ---

    def _heading(self) -> None:
        canvas, view = self._canvas, self._view
        canvas.add(_words(headline(view), _MARGIN, canvas.y + 16, _WIDTH - 2 * _MARGIN, size=18, bold=True))
        canvas.y += 26
        if states := states_text(view):
            canvas.add(_words(states, _MARGIN, canvas.y + 12, _WIDTH - 2 * _MARGIN))
            canvas.y += 22
        used = {*view.device_marks.values(), *(host.own for host in view.hosts)}
        x = float(_MARGIN)
        for mark in ALL:
            if mark in used:
                canvas.add(
                    _mark(mark, x, canvas.y) + _words(mark.word, x + 18, canvas.y + 10, 400, fill=_QUIET)
                )
                x += 18 + 7 * len(mark.word) + 22
        canvas.y += 20

    def _verdicts(self) -> None:
        canvas, callouts = self._canvas, self._view.callouts
        self._section("Verdicts")
        for one in callouts[:_MOST_VERDICTS]:
            verdict = one.verdict
            text = f"{component_text(verdict.component)}: {verdict.message} ({verdict.confidence:.0%} sure)"
            canvas.add(_badge([one.number], _MARGIN + 24, canvas.y))
            canvas.add(_words(text, _MARGIN + 34, canvas.y + 12, _WIDTH - 2 * _MARGIN - 34))
            canvas.y += 20
        if len(callouts) > _MOST_VERDICTS:
            self._more(len(callouts) - _MOST_VERDICTS, "verdict")

    def _section(self, title: str) -> None:
        canvas = self._canvas
        canvas.y += 12
        canvas.add(_words(title, _MARGIN, canvas.y + 12, _WIDTH, size=15, bold=True))
        canvas.y += 24

    def _more(self, number: int, noun: str, plural: str = "") -> None:
        text = f"and {count_text(number, noun, plural)} more; the JSON has all of them"
        self._canvas.add(_words(text, _MARGIN, self._canvas.y + 12, _WIDTH, fill=_QUIET))
        self._canvas.y += _LINE

    # --- scale-up ---

    def _group(self, group: HostGroup) -> None:
        """A box with a tile for each host."""
        canvas = self._canvas
        tile_width = _COLUMNS * _PITCH + 2 * 7
        tile_height = _NAME + max(map(_rows, group.hosts)) * _PITCH + 7
        per_row = (_WIDTH - 2 * _MARGIN - 2 * _PAD + _GAP) // (tile_width + _GAP)
        rows = -(-len(group.hosts) // per_row)
        height = 26 + rows * (tile_height + _GAP) + _PAD - _GAP
        accused = self._by_pod.get(group.super_pod, ()) if group.super_pod is not None else ()
        joined = group.membership is Membership.MEMBER
        canvas.add(
            _rect(
                _MARGIN,
                canvas.y,
                _WIDTH - 2 * _MARGIN,
                height,
                rx=8,
                fill=_CARD if joined else "#fff",
                stroke=_ACCUSED if accused else _RULE,
                stroke_width=3 if accused else 1,
                **({} if joined else {"stroke_dasharray": "6 4"}),
            )
        )
        x = _MARGIN + _PAD
        if _stands_out(group.mark):
            canvas.add(_mark(group.mark, x, canvas.y + 8))
            x += 18
        canvas.add(_words(group_text(group), x, canvas.y + 18, 900, bold=True))
        if accused:
            canvas.add(_badge(accused, _WIDTH - _MARGIN - 8, canvas.y + 6))
        for place, host in enumerate(group.hosts):
            row, column = divmod(place, per_row)
            x = _MARGIN + _PAD + column * (tile_width + _GAP)
            self._tile(host, x, canvas.y + 26 + row * (tile_height + _GAP), tile_width, tile_height)
        canvas.y += height + 10

    def _tile(self, host: HostView, x: int, y: int, width: int, height: int) -> None:
        accused = self._by_host.get(host.name, ())
        stroke = _ACCUSED if accused else host.mark.colour if _stands_out(host.mark) else _RULE
        wide = 3 if accused else 2 if _stands_out(host.mark) else 1
        dashes = {} if host.ports else {"stroke_dasharray": "3 3"}
        parts = [
            f"<title>{_escaped(self._tile_title(host))}</title>",
            _rect(x, y, width, height, rx=5, fill="#fff", stroke=stroke, stroke_width=wide, **dashes),
        ]
        left = x + 7
        if _stands_out(host.own):
            parts.append(_mark(host.own, left, y + 4))
            left += 16
        numbers = sorted({*accused, *(n for p in host.ports for n in self._by_device.get(p.id, ()))})
        room = x + width - left - (_badge_width(_badge_text(numbers)) + 8 if numbers else 6)
        parts.append(_words(host.name, left, y + 14, room))
        if host.ports:
            parts.append(_use(self._canvas.share(self._devices(host)), x + 7, y + _NAME))
        else:
            parts.append(_words("told nothing", x + 7, y + _NAME + 12, width, size=11, fill=_QUIET))
        for device, (column, row) in _places(host).items():
            if device in self._by_device:
                at = (x + 7 + column * _PITCH, y + _NAME + row * _PITCH)
                parts.append(
                    _rect(at[0] - 2, at[1] - 2, _PITCH, _PITCH, fill="none", stroke=_ACCUSED, stroke_width=2)
                )
        if numbers:
            parts.append(_badge(numbers, x + width - 3, y + 3))
        self._canvas.add(f"<g>{''.join(parts)}</g>")

    def _devices(self, host: HostView) -> str:
        """The marks of a host's devices, from its own corner; dies of one NPU in one frame."""
        parts = []
        placed = _places(host)
        dies: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for port in host.ports:
            dies[port.npu].append(placed[port.id])
        for places in dies.values():
            if len(places) > 1:
                (column, row), last = min(places), max(places)
                tall = (last[1] - row + 1) * _PITCH - 2
                frame = {"rx": 3, "fill": "none", "stroke": _RULE}
                parts.append(_rect(column * _PITCH - 1, row * _PITCH - 1, _PITCH - 2, tall, **frame))
        for port in host.ports:
            column, row = placed[port.id]
            parts.append(_mark(self._view.device_marks[port.id], column * _PITCH, row * _PITCH))
        return "".join(parts)

    def _tile_title(self, host: HostView) -> str:
        """What a pointer over the tile tells."""
        told = [f"{host.name}: {host.mark.word}" if host.mark is not ABSENT else host.name]
        if not host.ports:
            told.append("told nothing of its devices")
        parts: list[PortId | str] = [host.name, *(port.id for port in host.ports)]
        for part in parts:
            for cell in self._view.findings.get(part, ())[:4]:
                where = f"device {part.device}: " if isinstance(part, PortId) else ""
                told.append(f"{where}{cell.check}: {cell.message}")
        return "; ".join(told[:12])

    # --- scale-out ---

    def _scale_out(self) -> None:
        canvas, view = self._canvas, self._view
        if not view.has_scale_out:
            text = "No port has a RoCE address, or none told one."
            canvas.add(_words(text, _MARGIN, canvas.y + 12, _WIDTH, fill=_QUIET))
            canvas.y += _LINE
            return
        whole = [one.number for one in view.callouts if is_about_all_switches(one.verdict.component)]
        if whole:
            canvas.add(_badge(whole, _MARGIN + 180, canvas.y - 23))
        devices = [rail.device for rail in view.rails]
        self._matrix(devices)
        texts = [*segment_texts(view)[:_MOST_TEXTS], *patterns(view)]
        left = len(segment_texts(view)) - _MOST_TEXTS
        canvas.y += 8
        canvas.add(_words("Segments, rails and die pairs", _MARGIN, canvas.y + 12, _WIDTH, bold=True))
        canvas.y += 22
        for text in texts:
            canvas.add(_words(text, _MARGIN, canvas.y + 12, _WIDTH - 2 * _MARGIN))
            canvas.y += _LINE
        if left > 0:
            self._more(left, "kind of segment", "kinds of segments")

    def _matrix(self, devices: Sequence[int]) -> None:
        """Leaf switches against devices: how many hosts' device hears the switch."""
        canvas, view = self._canvas, self._view
        note = "Leaf switch × device: the number of hosts of which that device hears the switch"
        canvas.add(_words(note, _MARGIN, canvas.y + 12, _WIDTH, fill=_QUIET))
        canvas.y += 22
        for column, device in enumerate(devices):
            x = _MARGIN + _SWITCH_NAME + column * _CELL + _CELL / 2
            canvas.add(_centred(str(device), x, canvas.y + 10, fill=_QUIET))
        canvas.y += 16
        most = max((count for one in view.switches for count in _counts(one.ports).values()), default=1)
        for switch in view.switches[:_MOST_SWITCHES]:
            self._switch(switch, devices, most)
        if len(view.switches) > _MOST_SWITCHES:
            self._more(len(view.switches) - _MOST_SWITCHES, "leaf switch", "leaf switches")
        if view.without_switch:
            self._row("leaf switch not known", view.without_switch, devices, most, dashed=True)

    def _switch(self, switch: SwitchView, devices: Sequence[int], most: int) -> None:
        canvas = self._canvas
        accused = self._by_switch.get(switch.name, ())
        y = canvas.y
        self._row(switch.name, switch.ports, devices, most, mark=switch.mark)
        if accused:
            width = _SWITCH_NAME + len(devices) * _CELL
            frame = {"rx": 3, "fill": "none", "stroke": _ACCUSED, "stroke_width": 2.5}
            canvas.add(_rect(_MARGIN - 3, y - 1, width + 6, 22, **frame))
            canvas.add(_badge(accused, _MARGIN + width + 28, y + 2))

    def _row(
        self,
        name: str,
        ports: Sequence[Port],
        devices: Sequence[int],
        most: int,
        *,
        mark: Mark = ABSENT,
        dashed: bool = False,
    ) -> None:
        canvas = self._canvas
        y, counts = canvas.y, _counts(ports)
        parts = []
        if mark is not ABSENT:
            parts.append(_mark(mark, _MARGIN, y + 4))
        parts.append(_words(name, _MARGIN + 18, y + 14, _SWITCH_NAME - 26, fill=_QUIET if dashed else _TEXT))
        for column, device in enumerate(devices):
            count = counts.get(device, 0)
            x = _MARGIN + _SWITCH_NAME + column * _CELL
            shade = f"{0.1 + 0.3 * count / most:.2f}" if count and not dashed else "0"
            cell = {"fill": _QUIET, "fill_opacity": shade, "stroke": _RULE}
            dashes = {"stroke_dasharray": "3 3"} if dashed else {}
            parts.append(_rect(x, y, _CELL - 2, 20, rx=2, **cell, **dashes))
            state = worst(self._view.scale_out_marks[one.id] for one in ports if one.id.device == device)
            marked = _stands_out(state)
            if count:
                parts.append(_centred(str(count), x + _CELL / 2 - (7 if marked else 1), y + 14))
            if marked:
                parts.append(_rect(x + _CELL - 18, y + 2, _MARK + 4, _MARK + 4, rx=2, fill="#fff"))
                parts.append(_mark(state, x + _CELL - 16, y + 4))
        hosts = len({port.id.host for port in ports})
        total = f"{count_text(len(ports), 'port')} of {count_text(hosts, 'host')}"
        right = _MARGIN + _SWITCH_NAME + len(devices) * _CELL + 36
        parts.append(_words(total, right, y + 14, 300, fill=_QUIET))
        canvas.add(f"<g>{''.join(parts)}</g>")
        canvas.y += 22


def _stands_out(mark: Mark) -> bool:
    """Whether a state is worth a mark where good ones have none."""
    return mark.rank > 1


def _places(host: HostView) -> dict[PortId, tuple[int, int]]:
    """Column and row of each device in its host's tile: dies below each other, modules of 8 NPUs too."""
    npus = sorted({port.npu for port in host.ports})
    # An NPU that is missing leaves its place empty; ids out of all proportion are only counted.
    column_of = {npu: npu if 0 <= npu < _MOST_NPUS else place for place, npu in enumerate(npus)}
    dies: dict[int, list[Port]] = defaultdict(list)
    for port in sorted(host.ports, key=lambda one: (one.chip, one.id.device)):
        dies[port.npu].append(port)
    tall = max(map(len, dies.values()), default=1)
    places = {}
    for npu, ports in dies.items():
        row, column = divmod(column_of[npu], _COLUMNS)
        for die, port in enumerate(ports):
            places[port.id] = (column, row * tall + die)
    return places


def _rows(host: HostView) -> int:
    return 1 + max((row for _, row in _places(host).values()), default=0)


def _counts(ports: Iterable[Port]) -> Mapping[int, int]:
    """Number of hosts by device."""
    counts: dict[int, int] = defaultdict(int)
    for port in ports:
        counts[port.id.device] += 1
    return counts


def _numbers(
    callouts: Iterable[Callout], parts: Callable[[Callout], Iterable[K]]
) -> Mapping[K, tuple[int, ...]]:
    """Numbers of verdicts by the part that they accuse."""
    found: dict[K, tuple[int, ...]] = {}
    for one in callouts:
        for part in parts(one):
            found[part] = (*found.get(part, ()), one.number)
    return found
