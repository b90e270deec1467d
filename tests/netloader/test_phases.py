"""Phases of a load: their seconds, and log lines that stay one line whatever a peer put into them."""

from __future__ import annotations

import logging
import shlex

import pytest

from ascendctl.netloader.engine.phases import LOGGER, PHASES, Phases, line


def pairs(message: str) -> dict[str, str]:
    """A line as a reader of logs takes it apart; quoted plain text is the same in JSON and in a shell."""
    head = "[ascendctl netloader] "
    assert message.startswith(head)
    return dict(word.split("=", 1) for word in shlex.split(message[len(head) :]))


def test_each_phase_ends_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[tuple[str, float]] = []
    phases = Phases(3, "netloader", ended=lambda name, seconds: ended.append((name, seconds)))
    with caplog.at_level(logging.INFO, LOGGER), phases.phase("wire", source="10.0.0.1:2333") as told:
        told["bytes"] = 1024
        assert not caplog.messages
    (record,) = caplog.records
    assert (record.name, record.levelno) == (LOGGER, logging.INFO)
    read = pairs(record.getMessage())
    assert list(read) == ["phase", "rank", "group", "source", "bytes", "seconds"]
    assert read["seconds"] == f"{phases.seconds['wire']:.3f}"
    assert (read["phase"], read["rank"], read["source"], read["bytes"]) == (
        "wire",
        "3",
        "10.0.0.1:2333",
        "1024",
    )
    assert ended == [("wire", phases.seconds["wire"])]


def test_a_phase_that_fails_says_so_and_counts_its_time(caplog: pytest.LogCaptureFixture) -> None:
    phases = Phases(0, "netloader")
    with (
        caplog.at_level(logging.INFO, LOGGER),
        pytest.raises(TimeoutError),
        phases.phase("join", source="a:1"),
    ):
        raise TimeoutError("no answer in 5 s")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert pairs(record.getMessage())["failed"] == "TimeoutError: no answer in 5 s"
    assert "join" in phases.seconds


def test_repeated_and_overlapped_work_adds_up(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[tuple[str, float]] = []
    phases = Phases(0, "netloader", ended=lambda name, seconds: ended.append((name, seconds)))
    with caplog.at_level(logging.INFO, LOGGER):
        phases.add("digest", 0.25)
        phases.add("digest", 0.5)
        assert not caplog.messages
        phases.tell("digest", bytes=7)
    assert phases.seconds == {"digest": 0.75}
    assert ended == [("digest", 0.75)]
    assert pairs(caplog.messages[0])["seconds"] == "0.750"
    with phases.phase("digest"):
        pass
    assert phases.seconds["digest"] >= 0.75


def test_the_seconds_handed_out_are_a_copy() -> None:
    phases = Phases(0, "netloader")
    phases.seconds["wire"] = 1.0
    assert phases.seconds == {}


def test_only_the_documented_phases_exist() -> None:
    phases = Phases(0, "netloader")
    for name in PHASES:
        phases.add(name, 0.0)
    with pytest.raises(ValueError, match="is no phase"):
        phases.add("wires", 1.0)
    with pytest.raises(ValueError, match="is no phase"), phases.phase("wires"):
        pass


def test_a_fallback_is_a_warning_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, LOGGER):
        Phases(1, "netloader_draft").fell_back("no source answered", sources=2)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert pairs(record.getMessage()) == {
        "fallback": "disk",
        "rank": "1",
        "group": "netloader_draft",
        "sources": "2",
        "reason": "no source answered",
    }


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("10.0.0.1:2333", "10.0.0.1:2333"),
        ("[fd00::1]:2333", "[fd00::1]:2333"),
        (7, "7"),
        (0.5, "0.500"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "x"', '"say \\"x\\""'),
        ("模型", '"模型"'),
        ("x\n[ascendctl netloader] phase=load", '"x\\n[ascendctl netloader] phase=load"'),
        ("a\u2028b\u202ec\x1b[0m", '"a\\u2028b\\u202ec\\u001b[0m"'),
        ("\udc80", '"\\udc80"'),
    ],
)
def test_a_value_cannot_leave_its_place(value: object, written: str) -> None:
    assert line(reason=value) == f"[ascendctl netloader] reason={written}"


def test_what_is_not_known_is_left_out_and_what_is_endless_is_cut() -> None:
    assert (
        line(phase="load", source=None, content_id="ab") == "[ascendctl netloader] phase=load content-id=ab"
    )
    assert len(line(reason="x" * 100_000)) < 2100
