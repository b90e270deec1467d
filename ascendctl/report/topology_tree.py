"""The topology on a terminal: a tree in which hosts that are alike share one line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from ascendctl.report.folding import fold_names, fold_numbers, numbers_masked
from ascendctl.report.marks import ABSENT, Mark, mark_of
from ascendctl.report.printable import shown
from ascendctl.report.topology_view import (
    Callout,
    HostView,
    SwitchView,
    TopologyView,
)
from ascendctl.report.topology_words import (
    component_text,
    count_text,
    group_text,
    headline,
    is_about_all_switches,
    patterns,
    places_text,
    ports_text,
    segment_texts,
    spread_text,
    states_text,
)
from ascendctl.results import Result
from ascendctl.topology.fabric import Port

MOST_LINES = 24
"""Lines of one branch; what is left out is counted."""

_MOST_CHECKS = 4


def render_tree(view: TopologyView, console: Console) -> None:
    """Print the tree. Symbols are plain ASCII where the console's encoding is none of Unicode."""
    console.print(_Painter(ascii_only=console.options.ascii_only).tree(view))


class _Painter:
    def __init__(self, *, ascii_only: bool) -> None:
        self._ascii = ascii_only

    def tree(self, view: TopologyView) -> Tree:
        states = states_text(view)
        head = headline(view) + (f" ({states})" if states else "")
        root = Tree(Text(head, style="bold"), guide_style="dim")
        if view.callouts:
            self._verdicts(root.add(_title("Verdicts")), view.callouts)
        self._scale_up(root.add(_title("Scale-up (HCCS)")), view)
        self._scale_out(root.add(_title("Scale-out (RoCE)")), view)
        if view.between:
            self._between(root.add(_title("Between hosts")), view.between)
        return root

    def _line(self, text: str, mark: Mark | None = None) -> Text:
        words = shown(text)
        if self._ascii:
            words = words.encode("ascii", "backslashreplace").decode()
        if mark is None or mark is ABSENT:
            return Text(words)
        return Text.assemble((mark.ascii if self._ascii else mark.symbol, mark.style), " ", words)

    def _add(self, branch: Tree, lines: Sequence[Text]) -> None:
        for line in lines[:MOST_LINES]:
            branch.add(line)
        if len(lines) > MOST_LINES:
            branch.add(self._line(f"and {len(lines) - MOST_LINES} more; --format json has all of them"))

    # --- verdicts ---

    def _verdicts(self, branch: Tree, callouts: Sequence[Callout]) -> None:
        self._add(
            branch,
            [
                self._line(
                    f"{one.number}. {component_text(one.verdict.component)}: {one.verdict.message}"
                    f" ({one.verdict.confidence:.0%} sure)"
                )
                for one in callouts
            ],
        )

    # --- scale-up ---

    def _scale_up(self, branch: Tree, view: TopologyView) -> None:
        for group in view.groups:
            numbers = [one.number for one in view.callouts if group.super_pod in one.super_pods]
            below = branch.add(self._line(group_text(group) + _numbers_text(numbers), group.mark))
            alike: dict[object, list[HostView]] = defaultdict(list)
            for host in group.hosts:
                alike[_likeness(host, view)].append(host)
            ordered = sorted(alike.values(), key=lambda hosts: (-hosts[0].mark.rank, -len(hosts)))
            for hosts in ordered[:MOST_LINES]:
                self._hosts(below, hosts, view)
            if len(ordered) > MOST_LINES:
                left = sum(map(len, ordered[MOST_LINES:]))
                below.add(self._line(f"and {left} more hosts; --format json has all of them"))

    def _hosts(self, branch: Tree, hosts: Sequence[HostView], view: TopologyView) -> None:
        """One line for hosts that are alike, and below it what is not well on them."""
        first = hosts[0]
        line = branch.add(
            self._line(_hosts_text(hosts) + _numbers_text(_callouts_of(first, view)), first.mark)
        )
        for text, mark in _findings_of(first, view):
            line.add(self._line(text, mark))

    # --- scale-out ---

    def _scale_out(self, branch: Tree, view: TopologyView) -> None:
        if not view.has_scale_out:
            branch.add(self._line("no port has a RoCE address, or none told one"))
            return
        whole = [one.number for one in view.callouts if is_about_all_switches(one.verdict.component)]
        if view.switches:
            text = f"leaf switches: {len(view.switches)}{_numbers_text(whole)}"
            self._add(branch.add(self._line(text)), self._switch_lines(view))
        else:
            branch.add(self._line(f"leaf switches: not known, no port hears one{_numbers_text(whole)}"))
        if view.switches and view.without_switch:
            where = places_text(port.id for port in view.without_switch)
            branch.add(
                self._line(
                    f"leaf switch not known of {count_text(len(view.without_switch), 'port')}: {where}"
                )
            )
        segments = [self._line(text) for text in segment_texts(view)]
        self._add(branch.add(self._line(f"segments: {len(segments) or 'not known'}")), segments)
        for text in patterns(view):
            branch.add(self._line(text))

    def _switch_lines(self, view: TopologyView) -> list[Text]:
        """One line per switch; where there are many, those alike share one."""
        folded: dict[object, list[SwitchView]] = defaultdict(list)
        for switch in view.switches:
            devices = frozenset(port.id.device for port in switch.ports)
            hosts = len({port.id.host for port in switch.ports})
            numbers = tuple(one.number for one in view.callouts if switch.name in one.switches)
            alone = switch.name if len(view.switches) <= MOST_LINES or numbers else ""
            folded[devices, hosts, len(switch.ports), switch.mark.word, numbers, alone].append(switch)
        lines = []
        for key, switches in folded.items():
            numbers = key[4] if isinstance(key, tuple) else ()
            ports = switches[0].ports
            name = fold_names(switch.name for switch in switches)
            if len(switches) == 1:
                text = f"{name}: {count_text(len(ports), 'port')}: {ports_text(ports)}"
            else:
                text = f"{name}: each {spread_text(ports)}"
            lines.append(self._line(text + _numbers_text(numbers), switches[0].mark))
        return lines

    def _between(self, branch: Tree, cells: Sequence[Result]) -> None:
        folded: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
        for cell in cells:
            folded[cell.check, mark_of(cell).word, numbers_masked(cell.message)].append(cell)
        lines = []
        for alike in sorted(folded.values(), key=lambda found: -mark_of(found[0]).rank):
            more = f" (and {len(alike) - 1} more like it)" if len(alike) > 1 else ""
            subject = alike[0].subject
            where = f"{subject.host} device {subject.device}" if subject.host else (subject.group or "")
            if subject.peer:
                where += f" to {subject.peer.host} device {subject.peer.device}"
            text = " ".join(filter(None, (f"{alike[0].check}:", where and f"{where}:", alike[0].message)))
            lines.append(self._line(text + more, mark_of(alike[0])))
        self._add(branch, lines)


# --- words ----------------------------------------------------------------------------------------


def _title(text: str) -> Text:
    return Text(text, style="bold underline")


def _hosts_text(hosts: Sequence[HostView]) -> str:
    first = hosts[0]
    name = fold_names(host.name for host in hosts)
    several = f"{len(hosts)} hosts, each " if len(hosts) > 1 else ""
    if not first.ports:
        return f"{name}: {several}told nothing of devices"
    dies = " of two dies" if len(first.ports) == 2 * first.npus else ""
    text = f"{name}: {several}{count_text(first.npus, 'NPU')}{dies}, device {_devices(first.ports)}"
    indexes = [host.server_index for host in hosts if host.server_index is not None]
    return f"{text}, server index {fold_numbers(indexes)}" if indexes else text


def _devices(ports: Iterable[Port]) -> str:
    return fold_numbers(port.id.device for port in ports)


def _likeness(host: HostView, view: TopologyView) -> object:
    """Hosts for which this is equal share a line."""
    devices = tuple((port.id.device, port.npu, view.device_marks[port.id].word) for port in host.ports)
    findings = tuple((text, mark.word) for text, mark in _findings_of(host, view))
    return devices, host.own.word, findings, tuple(_callouts_of(host, view))


def _findings_of(host: HostView, view: TopologyView) -> list[tuple[str, Mark]]:
    """What is not well on a host: itself, then its devices, those with the same checks together."""
    found = []
    if own := view.findings.get(host.name):
        found.append((_checks_text(own), mark_of(own[0])))
    alike: dict[tuple[str, Mark], list[int]] = defaultdict(list)
    for port in host.ports:
        if cells := view.findings.get(port.id):
            alike[_checks_text(cells), mark_of(cells[0])].append(port.id.device)
    found += [
        (f"device {fold_numbers(devices)}: {checks}", mark) for (checks, mark), devices in alike.items()
    ]
    return found


def _checks_text(cells: Sequence[Result]) -> str:
    checks = list(dict.fromkeys(cell.check for cell in cells))
    more = f" and {len(checks) - _MOST_CHECKS} more" if len(checks) > _MOST_CHECKS else ""
    return ", ".join(checks[:_MOST_CHECKS]) + more


def _callouts_of(host: HostView, view: TopologyView) -> list[int]:
    """The numbers of the verdicts that accuse the host or one of its devices."""
    return [
        one.number
        for one in view.callouts
        if host.name in one.hosts or any(place.host == host.name for place in one.devices)
    ]


def _numbers_text(numbers: Iterable[int]) -> str:
    listed = ", ".join(map(str, numbers))
    return f"  <- verdict {listed}" if listed else ""
