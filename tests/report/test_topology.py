"""The topology drawn: what the view holds, and that tree, JSON and picture show it, safely, at any size."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from ascendctl import facts as f
from ascendctl.checks.registry import BY_ID
from ascendctl.report import marks
from ascendctl.report.topology_json import topology_json
from ascendctl.report.topology_svg import draw, topology_svg
from ascendctl.report.topology_tree import render_tree
from ascendctl.report.topology_view import SCALE_OUT_CHECKS, Membership, TopologyView, view_of
from ascendctl.report.topology_words import component_text
from ascendctl.results import Component, ComponentKind, Peer, Status, Verdict
from ascendctl.topology.fabric import PortId, fabric_of
from tests import browser
from tests.checks.hosts import NO_DATA, TIMED_OUT, a2, a3, every, made, ok
from tests.report.topologies import a2_cluster, a3_cluster, cell, name, passes, with_faults

SVG = "{http://www.w3.org/2000/svg}"


def clean(cluster: f.ClusterFacts) -> TopologyView:
    fabric = fabric_of(cluster)
    return view_of(fabric, passes(fabric))


def tree(view: TopologyView, *, width: int = 110, encoding: str = "utf-8") -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    render_tree(view, Console(file=stream, width=width, highlight=False, markup=False))
    stream.flush()
    stream.seek(0)
    return stream.read()


def used(text: str) -> Counter[marks.Mark]:
    """How often each mark is shown in a picture, by its references."""
    root = ET.fromstring(text)
    shared = {one.get("id"): one for one in root.findall(f"{SVG}defs/{SVG}g")}
    by_id = {f"topology-mark-{mark.rank + 1}": mark for mark in marks.ALL}
    counts: Counter[marks.Mark] = Counter()

    def walk(element: ET.Element) -> None:
        for one in element.iter(f"{SVG}use"):
            target = (one.get("href") or "").removeprefix("#")
            assert target in shared, f"{target} is nowhere defined"
            if target in by_id:
                counts[by_id[target]] += 1
            else:
                walk(shared[target])

    for child in root:
        if child.tag != f"{SVG}defs":
            walk(child)
    return counts


def words(text: str) -> list[str]:
    return ["".join(one.itertext()) for one in ET.fromstring(text).iter(f"{SVG}text")]


# --- the view -------------------------------------------------------------------------------------


def test_hosts_are_grouped_by_super_pod_and_what_is_not_known_comes_last() -> None:
    cluster = f.ClusterFacts(
        (
            made(a3("unknown", server=9), every(spod=TIMED_OUT, vnic=TIMED_OUT)),
            a3("outside", server=None),
            *a3_cluster(3, per_pod=2).hosts,
            a2("older"),
        )
    )
    view = view_of(fabric_of(cluster), hosts=["silent"])
    assert [(group.membership, group.super_pod, [h.name for h in group.hosts]) for group in view.groups] == [
        (Membership.MEMBER, 0, ["node001", "node002"]),
        (Membership.MEMBER, 1, ["node003"]),
        (Membership.OUTSIDE, None, ["outside"]),
        (Membership.NONE, None, ["older"]),
        (Membership.UNKNOWN, None, ["silent", "unknown"]),
    ]


def test_a_silent_host_is_there_wherever_it_is_known_from() -> None:
    fabric = fabric_of(a2_cluster(1))
    for view in (
        view_of(fabric, [cell("reachable", Status.UNKNOWN, "silent")]),
        view_of(fabric, hosts=["silent"]),
    ):
        assert {host.name: len(host.ports) for host in view.hosts} == {"silent": 0, "node001": 8}
        assert "silent: told nothing of devices" in tree(view)
        assert "told nothing" in words(draw(view))
        hosts = {host["name"]: host["told"] for host in json.loads(topology_json(view))["hosts"]}
        assert hosts == {"silent": False, "node001": True}


def test_switches_are_in_the_order_of_their_numbers() -> None:
    names = [switch.name for switch in clean(a3_cluster(48)).switches]
    assert names == [f"leaf-{number}" for number in range(1, 13)]


def test_rails_and_racks() -> None:
    assert [rail.switches for rail in clean(a2_cluster(4)).rails] == [(f"leaf-{n}",) for n in range(1, 9)]
    assert all(len(rail.switches) == 2 for rail in clean(a3_cluster(16)).rails)
    assert "rails (same device on every host): 8, 8 of them on one leaf switch" in tree(clean(a2_cluster(4)))


def test_a_port_whose_switch_is_not_known_is_said() -> None:
    cluster = a2_cluster(2)
    blank = replace(cluster.hosts[1].devices[3], lldp=NO_DATA)
    hosts = (cluster.hosts[0], replace(cluster.hosts[1], devices=(*cluster.hosts[1].devices[:3], blank)))
    view = clean(f.ClusterFacts(hosts))
    assert [port.id for port in view.without_switch] == [PortId("node002", 3)]
    assert "leaf switch not known of 1 port: node002 device 3" in tree(view)
    assert "leaf switch not known" in words(draw(view))


def test_scale_up_alone() -> None:
    view = clean(f.ClusterFacts(tuple(made(h, every(lldp=NO_DATA)) for h in a3_cluster(2, roce=False).hosts)))
    assert not view.has_scale_out
    assert "no port has a RoCE address" in tree(view)
    assert any("No port has a RoCE address" in text for text in words(draw(view)))


def test_the_worst_of_a_part_shows() -> None:
    fabric, results, _ = with_faults(a3_cluster(8))
    view = view_of(fabric, results)
    found = {
        (mark.host, mark.device): view.device_marks[mark]
        for mark in view.device_marks
        if view.device_marks[mark] is not marks.PASS
    }
    assert found == {
        (name(2), 5): marks.FAIL,
        (name(3), 4): marks.WARN,
        (name(4), 3): marks.UNLOOKED,
        (name(5), 1): marks.EXPLAINED,
        (name(6), 0): marks.WAIVED,
        (name(7), 7): marks.ERROR,
    }
    assert view.scale_out_marks[PortId(name(3), 4)] is marks.ABSENT  # npu-health says nothing of RoCE
    hosts = {host.name: host.mark for host in view.hosts}
    assert hosts[name(8)] is marks.FAIL
    assert hosts["silent"] is marks.UNLOOKED
    assert {switch.name: switch.mark for switch in view.switches}["leaf-2"] is marks.FAIL
    assert [one.check for one in view.between] == ["mesh"]


def test_without_results_nothing_is_green() -> None:
    view = view_of(fabric_of(a3_cluster(2)))
    assert set(view.device_marks.values()) == {marks.ABSENT}
    assert used(draw(view)) == {marks.ABSENT: 32 + 1}  # and the legend
    assert "✔" not in tree(view)


@pytest.mark.parametrize(
    ("component", "devices", "hosts", "switches", "pods", "text"),
    [
        (Component(ComponentKind.DEVICE, name(1), 3, value="roce"), {(name(1), 3)}, (), (), (), "device 3"),
        (Component(ComponentKind.NPU, name(1), npu=2), {(name(1), 4), (name(1), 5)}, (), (), (), "NPU 2 of"),
        (Component(ComponentKind.HOST, name(1)), set(), {name(1)}, (), (), "host node001"),
        (
            Component(ComponentKind.LINK, name(1), 3, peer=Peer(name(2), 4)),
            {(name(1), 3), (name(2), 4)},
            (),
            (),
            (),
            "link between device 3 of node001 and device 4 of node002",
        ),
        (Component(ComponentKind.SWITCH, switch="leaf-1"), set(), (), {"leaf-1"}, (), "leaf switch leaf-1"),
        (
            Component(ComponentKind.SWITCH, value="between leaf switches"),
            set(),
            (),
            (),
            (),
            "between leaf switches",
        ),
        (Component(ComponentKind.SUPER_POD, value="0: node001 apart"), set(), (), (), {0}, "super pod 0"),
        (Component(ComponentKind.SUPER_POD, name(1), value="7"), set(), {name(1)}, (), (), "super pod 7 of"),
        (
            Component(ComponentKind.ADDRESS, value="10.30.0.10"),
            {(name(1), 0)},
            (),
            (),
            (),
            "address 10.30.0.10",
        ),
        (
            Component(ComponentKind.TLS_GROUP, name(1), value="TLS switch 1"),
            set(),
            {name(1)},
            (),
            (),
            "group with TLS switch 1 of node001",
        ),
    ],
)
def test_whom_a_verdict_marks(
    component: Component,
    devices: set[tuple[str, int]],
    hosts: set[str],
    switches: set[str],
    pods: set[int],
    text: str,
) -> None:
    view = view_of(fabric_of(a3_cluster(2)), (), [Verdict(component, "it is at fault", 0.9)])
    (callout,) = view.callouts
    assert {(one.host, one.device) for one in callout.devices} == devices
    assert (set(callout.hosts), set(callout.switches), set(callout.super_pods)) == (
        set(hosts),
        set(switches),
        set(pods),
    )
    assert text in component_text(component)
    expected = 1 + bool(len(hosts) + len(switches) + len(pods)) + len({host for host, _ in devices})
    whole = component.kind is ComponentKind.SWITCH and not switches
    assert words(draw(view)).count("1") - _ones_in_matrix(view) == expected + whole
    rings = [one for one in ET.fromstring(draw(view)).iter(f"{SVG}rect") if _is_ring(one)]
    assert len(rings) == len(devices)
    assert f"1. {component_text(component)}: it is at fault (90% sure)" in tree(view)


def _is_ring(rect: ET.Element) -> bool:
    """A frame around one device, in the colour of verdicts."""
    return (rect.get("fill"), rect.get("stroke"), rect.get("width")) == ("none", "#1b1f24", "16")


def _ones_in_matrix(view: TopologyView) -> int:
    bare = replace(view, callouts=())
    return words(draw(bare)).count("1")


def test_scale_out_checks_are_checks() -> None:
    assert set(BY_ID) >= SCALE_OUT_CHECKS


def test_marks_are_those_of_the_page() -> None:
    """The HTML report draws the same states on its own canvas."""
    import ascendctl.report as package

    page = (Path(package.__path__[0]) / "page" / "page.js").read_text(encoding="utf-8")
    paths = dict(re.findall(r'word: "([\w-]+)", path: "([^"]+)"', page))
    style = (Path(package.__path__[0]) / "page" / "page.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", style.partition("@media")[0]))
    for word, mark in {
        "fail": marks.FAIL,
        "error": marks.ERROR,
        "unknown": marks.UNLOOKED,
        "warn": marks.WARN,
        "skipped": marks.EXPLAINED,
        "waived": marks.WAIVED,
        "pass": marks.PASS,
        "not-applicable": marks.QUIET,
    }.items():
        assert (mark.outline, mark.colour) == (paths[word], colours[word])


# --- the tree -------------------------------------------------------------------------------------


def test_equal_hosts_are_one_line() -> None:
    text = tree(clean(a3_cluster(48)), width=200)
    assert "✔ node[001-048]: 48 hosts, each 8 NPUs of two dies, device 0-15, server index 0-47" in text
    assert len(text.splitlines()) < 25


def test_what_is_not_well_is_named() -> None:
    text = tree(view_of(*with_faults(a3_cluster(48))), width=200)
    for line in (
        "✖ node002: 8 NPUs of two dies, device 0-15, server index 1 <- verdict 1",
        "✖ device 5: link",
        "? device 3: tls",
        "node008: 8 NPUs of two dies, device 0-15, server index 7 <- verdict 3",
        "✖ leaf-2: 64 ports: node[001-008] device 1,3,5,7,9,11,13,15 <- verdict 5",
        "? silent: told nothing of devices",
        "mesh: node001 device 0 to node002 device 0: 2 of 3 packets lost",
    ):
        assert line in text


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_tree_fits_its_console(width: int, encoding: str) -> None:
    for line in tree(view_of(*with_faults(a3_cluster(8))), width=width, encoding=encoding).splitlines():
        assert cell_len(line) <= width


def test_the_tree_is_bounded() -> None:
    fabric = fabric_of(a2_cluster(200))
    results = passes(fabric)
    results += [cell(f"check-{number}", Status.FAIL, name(number + 1), 0) for number in range(200)]
    text = tree(view_of(fabric, results))
    assert len(text.splitlines()) < 200
    assert "more hosts; --format json has all of them" in text


# --- JSON -----------------------------------------------------------------------------------------


def test_json_holds_everything() -> None:
    document = json.loads(topology_json(view_of(*with_faults(a3_cluster(8)))))
    assert list(document) == ["format", "hosts", "super_pods", "switches", "segments", "rails", "verdicts"]
    second = document["hosts"][1]
    assert (second["super_pod"], second["server_index"], second["status"]) == (0, 1, "fail")
    assert second["devices"][5] == {
        "device": 5,
        "npu": 2,
        "chip": 1,
        "status": "fail",
        "checks": ["link"],
        "scale_up": {"address": "192.1.3.194", "up": True, "sdid": (1 << 22 | 2 << 18 | 1 << 16 | 5)},
        "scale_out": {
            "address": "10.31.1.12",
            "segment": "10.31.1.0/24",
            "gateway": "10.31.0.1",
            "link_up": True,
            "switch": "leaf-2",
            "switch_port": "Ifname: 400GE1/0/5",
            "status": "fail",
        },
    }
    assert {switch["name"]: len(switch["ports"]) for switch in document["switches"]} == {
        "leaf-1": 64,
        "leaf-2": 64,
    }
    assert document["verdicts"][0]["marked"]["devices"] == [{"host": "node002", "device": 5}]
    assert document["verdicts"][0]["component"]["kind"] == "device"


# --- the picture ----------------------------------------------------------------------------------


@pytest.mark.parametrize("hosts", [8, 48, 128])
def test_every_device_is_in_the_picture(hosts: int) -> None:
    for cluster, devices in ((a3_cluster(hosts), 16), (a2_cluster(hosts), 8)):
        text = topology_svg(*with_faults(cluster))
        shown = used(text)
        assert sum(shown.values()) >= hosts * devices
        assert shown[marks.FAIL] >= 3
        assert all(shown[mark] for mark in marks.ALL if mark not in (marks.QUIET, marks.ABSENT))
        names = set(words(text))
        assert {name(number) for number in range(1, hosts + 1)} <= names


def test_a_clean_cluster_is_drawn_without_findings() -> None:
    for cluster in (a3_cluster(4), a2_cluster(4)):
        view = clean(cluster)
        devices, switches = len(view.device_marks), len(view.switches)
        assert used(draw(view)) == {marks.PASS: devices + switches + 1}


def test_the_picture_is_safe_to_embed() -> None:
    """No script, style sheet or outside reference; texts of hosts are texts."""
    evil = '</svg><script>alert(1)</script>"\x1b[2J\udcff&amp;'
    host = made(replace(a2("a"), host=evil), every(lldp=ok(f.LldpFacts(None, evil, evil, None))))
    fabric = fabric_of(f.ClusterFacts((host,)))
    result = replace(cell(evil, Status.FAIL, evil, 0), message=evil)
    verdict = Verdict(Component(ComponentKind.HOST, evil, value=evil), evil, 0.9)
    text = topology_svg(fabric, [result], [verdict])
    text.encode()
    root = ET.fromstring(text)
    tags = {one.tag.removeprefix(SVG) for one in root.iter()}
    assert tags <= {"svg", "title", "desc", "defs", "g", "path", "rect", "text", "use"}
    names = {attribute for one in root.iter() for attribute in one.attrib}
    assert not [one for one in names if one.startswith("on") or one in ("style", "class")]
    assert all((one.get("href") or "#").startswith("#") for one in root.iter())
    assert "script" not in tags
    assert root.find(f"{SVG}title") is not None
    assert root.find(f"{SVG}desc") is not None
    ids = [one.get("id") for one in root.iter() if one.get("id")]
    assert len(ids) == len(set(ids))
    assert all((one or "").startswith("topology-") for one in ids)
    tree(view_of(fabric, [result], [verdict]))
    json.loads(topology_json(view_of(fabric, [result], [verdict])))


def test_nothing_is_drawn_beyond_the_picture() -> None:
    """Also with many verdicts, long names, NPU ids out of proportion and sixteen NPUs."""
    hosts = [replace(host, host="a-very-long-name-of-a-host-" + host.host) for host in a3_cluster(9).hosts]
    odd = [replace(device, npu_id=device.npu_id + 4000) for device in hosts[0].devices]
    big = a2("box16", 16)
    cluster = f.ClusterFacts((replace(hosts[0], devices=tuple(odd)), *hosts[1:], big))
    fabric = fabric_of(cluster)
    found = [Verdict(Component(ComponentKind.HOST, hosts[2].host), "at fault " * 50, 0.9)] * 40
    text = topology_svg(fabric, passes(fabric), found)
    root = ET.fromstring(text)
    width, height = (float(number) for number in (root.get("viewBox") or "").split()[2:])
    assert height < 2500
    shared = set(root.findall(f"{SVG}defs//{SVG}rect"))  # drawn from where they are used
    for one in set(root.iter(f"{SVG}rect")) - shared:
        if one.get("width") and one.get("x"):
            assert float(one.get("x") or 0) >= 0
            assert float(one.get("x") or 0) + float(one.get("width") or 0) <= width
            assert float(one.get("y") or 0) + float(one.get("height") or 0) <= height
    assert "and 28 verdicts more; the JSON has all of them" in words(text)


def test_an_empty_cluster() -> None:
    view = view_of(fabric_of(f.ClusterFacts(())))
    assert "0 hosts" in tree(view)
    ET.fromstring(draw(view))
    assert json.loads(topology_json(view))["hosts"] == []


@pytest.mark.chromium
@pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "-")
def test_a_browser_draws_it(tmp_path: Path) -> None:
    """No text runs over its tile or over another text."""
    picture = tmp_path / "topology.svg"
    picture.write_text(topology_svg(*with_faults(a3_cluster(48))), encoding="utf-8")
    (tmp_path / "profile").mkdir()
    with browser.chromium(tmp_path / "profile") as driver:
        driver.get(picture.as_uri())
        boxes = driver.execute_script(
            "return [...document.querySelectorAll('text')].map(t => {"
            "const b = t.getBBox(); return [t.textContent, b.x, b.y, b.width, b.height]})"
        )
        uses = driver.execute_script(
            "return [...document.querySelectorAll('use')].filter(u => u.getBBox().width === 0).length"
        )
    assert uses == 0
    assert len(boxes) > 100
    for place, (text, x, y, width, height) in enumerate(boxes):
        assert x + width <= 1280, text
        for other, ox, oy, wide, tall in boxes[place + 1 :]:
            apart = x + width <= ox or ox + wide <= x or y + height <= oy + 3 or oy + tall <= y + 3
            assert apart, (text, other)
