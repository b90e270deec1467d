"""Folding: equal findings become one, consequences go under their cause, and nothing gets lost."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
from ClusterShell.NodeSet import NodeSet
from ClusterShell.RangeSet import RangeSet
from hypothesis import given
from hypothesis import strategies as st

from ascendctl.report.folding import Finding, fold_numbers, fold_places, fold_results
from ascendctl.results import CellKey, Peer, Result, Status, Subject, SubjectKind, host_subject
from tests.report import runs

HOSTS = [f"node{number:02d}" for number in range(1, 7)]
SUBJECTS = st.one_of(
    st.builds(runs.device, st.sampled_from(HOSTS), st.integers(0, 7)),
    st.builds(host_subject, st.sampled_from(HOSTS)),
    st.builds(
        lambda host, phy, peer: Subject(SubjectKind.LINK, host=host, device=phy, peer=Peer(peer, phy)),
        st.sampled_from(HOSTS),
        st.integers(0, 3),
        st.sampled_from(HOSTS),
    ),
    st.builds(lambda name: Subject(SubjectKind.SWITCH, switch=name), st.sampled_from(["leaf-1", "leaf-2"])),
    st.just(Subject(SubjectKind.CLUSTER)),
)
KEYS = st.builds(CellKey, st.sampled_from(["link", "lldp", "mesh"]), SUBJECTS)
MESSAGES = st.sampled_from(["link is DOWN", "lost 3 of 10", "lost 7 of 10", "code 0x80e1", "code 0x80e2"])


@st.composite
def cells(draw: st.DrawFn) -> list[Result]:
    keys = draw(st.lists(KEYS, unique=True, max_size=30))
    made = []
    for key in keys:
        status = draw(st.sampled_from(list(Status)))
        # Causes may be missing, pass, be skipped themselves, or run in a ring.
        cause = draw(st.sampled_from([*keys, None])) if status is Status.SKIPPED else None
        made.append(
            Result(
                key.check,
                key.subject,
                status,
                draw(MESSAGES),
                caused_by=cause,
                root_fails=draw(st.booleans()),
            )
        )
    return made


@given(cells())
def test_every_cell_is_told_exactly_once(made: list[Result]) -> None:
    folded = fold_results(made)
    findings = [*folded.findings, *folded.unlooked, *folded.waived]
    told = Counter(cell.key for finding in findings for cell in finding.cells)
    behind = sum(finding.behind for finding in findings)
    tellable = [cell for cell in made if cell.status not in (Status.PASS, Status.NOT_APPLICABLE)]
    assert set(told.values()) <= {1}
    assert told.total() + behind == len(tellable)
    assert {cell.key for cell in tellable if cell.status is not Status.SKIPPED} <= set(told)
    for finding in findings:
        assert sum(place.cells for place in finding.places()) == len(finding.cells)


@given(st.lists(st.tuples(st.sampled_from(HOSTS), st.integers(0, 15)), unique=True))
def test_folded_device_places_unfold_to_the_same_devices(devices: list[tuple[str, int]]) -> None:
    unfolded = []
    for place in fold_places(runs.device(host, phy_id) for host, phy_id in devices):
        names, word, numbers = place.text().split(" ")
        assert word == "device"
        unfolded += [(name, int(number)) for name in NodeSet(names) for number in RangeSet(numbers)]
    assert sorted(unfolded) == sorted(devices)


@pytest.mark.parametrize(
    ("subjects", "texts"),
    [
        pytest.param(
            [runs.device(f"node{n:02d}", d) for n in range(1, 16) for d in range(8)],
            ["node[01-15] device 0-7"],
            id="same devices on many hosts",
        ),
        pytest.param(
            [runs.device("a1", 3), runs.device("a2", 3), runs.device("a2", 5)],
            ["a2 device 3,5", "a1 device 3"],
            id="largest first",
        ),
        pytest.param([host_subject("a1"), host_subject("a2")], ["a[1-2]"], id="hosts"),
        pytest.param(
            [Subject(SubjectKind.DEVICE, host="a1", npu=2, chip=0)], ["a1 NPU 2 chip 0"], id="no phy id"
        ),
        pytest.param(
            [Subject(SubjectKind.LINK, host="a1", device=3, peer=Peer("a2", 4))],
            ["a1 device 3 to a2 device 4"],
            id="link",
        ),
        pytest.param([Subject(SubjectKind.SWITCH, switch="leaf-1")], ["switch leaf-1"], id="switch"),
        pytest.param([Subject(SubjectKind.SUPER_POD, group="0")], ["super pod 0"], id="super pod"),
        pytest.param([Subject(SubjectKind.CLUSTER)], ["the cluster"], id="cluster"),
        pytest.param([host_subject("a\x1b[31m"), host_subject("a!b")], ["a\\x1b[31m,a!b"], id="odd names"),
    ],
)
def test_places(subjects: list[Subject], texts: list[str]) -> None:
    assert [place.text() for place in fold_places(subjects)] == texts


def test_consequences_stand_under_their_cause_only() -> None:
    folded = fold_results([*runs.link_down("node01", 3), *runs.silent_host("node02")])
    (link,) = folded.findings
    (reachable,) = folded.unlooked
    assert (link.evaluated_behind, link.unevaluated_behind) == (
        {"gateway": 1, "lldp": 1, "net-health": 1},
        {},
    )
    assert (reachable.evaluated_behind, reachable.unevaluated_behind) == ({}, {"tools": 1, "npu-count": 1})


def test_a_consequence_of_a_consequence_goes_to_the_root() -> None:
    root, gateway, *_ = runs.link_down("node01", 3)
    ping = Result(
        "mesh", runs.device("node01", 3), Status.SKIPPED, "", caused_by=gateway.key, root_fails=True
    )
    (finding,) = fold_results([ping, gateway, root]).findings
    assert finding.evaluated_behind == {"gateway": 1, "mesh": 1}


def test_a_skip_whose_cause_is_not_there_is_told_itself() -> None:
    _, gateway, *_ = runs.link_down("node01", 3)
    (finding,) = fold_results([gateway]).unlooked
    assert finding.cells == (gateway,)


def test_a_ring_of_causes_tells_each_of_them() -> None:
    first, second, third = (CellKey(check, runs.device("a", 0)) for check in ("one", "two", "three"))
    made = [
        Result(key.check, key.subject, Status.SKIPPED, "", caused_by=cause)
        for key, cause in ((first, second), (second, first), (third, first))
    ]
    assert {cell.key for finding in fold_results(made).unlooked for cell in finding.cells} == {
        first,
        second,
        third,
    }


def test_worst_first_then_largest() -> None:
    def some(check: str, status: Status, count: int) -> list[Result]:
        return [Result(check, runs.device("a", n), status, "m") for n in range(count)]

    made = [
        *some("warned", Status.WARN, 9),
        *some("failed-once", Status.FAIL, 1),
        *some("broke", Status.ERROR, 2),
        *some("failed-often", Status.FAIL, 3),
    ]
    assert [one.check for one in fold_results(made).findings] == [
        "failed-often",
        "failed-once",
        "broke",
        "warned",
    ]
    explained = [*some("two", Status.FAIL, 2), *runs.link_down("b", 1)]
    assert [one.check for one in fold_results(explained).findings] == ["link", "two"]


def folded_from(**texts: list[str]) -> list[Finding]:
    columns = [dict(zip(texts, row, strict=True)) for row in zip(*texts.values(), strict=True)]
    cell = Result("link", runs.device("a", 0), Status.FAIL, "m")
    made = [
        dataclasses.replace(cell, subject=runs.device("a", number), **row)
        for number, row in enumerate(columns)
    ]
    return list(fold_results(made).findings)


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        pytest.param(["lost 3 of 10", "lost 7 of 10"], ["lost 3, 7 of 10"], id="few numbers are listed"),
        pytest.param([f"lost {n} of 10" for n in (9, 2, 4, 10)], ["lost 2…10 of 10"], id="many are a range"),
        pytest.param(
            [f"address 10.0.0.{n} is taken" for n in range(1, 6)],
            ["address 10.0.0.1, 10.0.0.2, 10.0.0.3, … (5 different) is taken"],
            id="addresses have no range",
        ),
        pytest.param(["code 0x80e1", "code 0x80e2"], ["code 0x80e1", "code 0x80e2"], id="codes stay apart"),
        pytest.param(
            ["leads to EI0006", "leads to EI0015"], ["leads to EI0006", "leads to EI0015"], id="HCCL codes"
        ),
        pytest.param(["until 2026-01-02", "until 2027-03-04"], ["until 2026-01-02, 2027-03-04"], id="dates"),
    ],
)
def test_messages_that_differ_in_numbers_only_fold(messages: list[str], told: list[str]) -> None:
    assert [finding.message for finding in folded_from(message=messages)] == told


def test_values_and_commands_of_a_folded_finding() -> None:
    (finding,) = folded_from(
        actual=["DOWN", "absent"], expected=["UP", "UP"], command=["hccn_tool -i 0", "hccn_tool -i 1"]
    )
    assert (finding.actual, finding.expected) == ("DOWN, absent", "UP")
    assert finding.command == "hccn_tool -i 0 (for example)"


@pytest.mark.parametrize(
    ("numbers", "text"), [([0, 1, 2, 3], "0-3"), ([5, 1, 2, 9, 9], "1-2,5,9"), ([4], "4"), ([], "")]
)
def test_fold_numbers(numbers: list[int], text: str) -> None:
    assert fold_numbers(numbers) == text
