"""The host network through the simulator's SSH: found, recorded, replayed, redacted, explained."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ascendctl.cli import run
from ascendctl.probe.pseudonyms import Kind
from ascendctl.probe.redaction import Survey, new_redactor
from ascendctl.sim.cluster import SimCluster
from ascendctl.sim.spec import make_spec
from tests.fault_recordings import verify_to

FAULTS = [
    {"host": "node01", "kind": "host-firewall"},
    {"host": "node03", "kind": "host-route-missing"},
    {"host": "node05", "kind": "host-mtu"},
    {"host": "node07", "kind": "host-firewall", "value": "60000-60031-reject"},
]
FOUND = {
    "node01": "firewall shuts HCCL's ports",
    "node03": "no route to its peers",
    "node05": "the largest vanish",
    "node07": "firewall shuts HCCL's ports",
}


@dataclass(frozen=True)
class Verified:
    report: dict[str, Any]
    code: int
    recording: Path
    explained: tuple[int, str]


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Verified:
    folder = tmp_path_factory.mktemp("host-net")
    with SimCluster(make_spec(generation="a2", hosts=9, faults=FAULTS)) as sim:
        inventory = str(sim.inventory_path)
        report, recording = folder / "report.json", folder / "recording"
        code = verify_to(report, "-i", inventory, "--mesh", "ring", "--record", str(recording))
        explained = said("explain", "EI0015", "--run", "-i", inventory, "--hosts", "node[01-02]", "-q")
    return Verified(json.loads(report.read_text(encoding="utf-8")), code, recording, explained)


def said(*arguments: str) -> tuple[int, str]:
    """Exit code and standard output of a command."""
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        code = run(list(arguments))
    return code, stream.getvalue()


def cells(report: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Host → status and message of its cell of the host network."""
    found = [cell for cell in report["results"] if cell["check"] == "host-net"]
    return {cell["subject"]["host"]: (cell["status"], cell["message"]) for cell in found}


def judged(*arguments: str, to: Path) -> dict[str, Any]:
    verify_to(to, *arguments)
    report: dict[str, Any] = json.loads(to.read_text(encoding="utf-8"))
    return report


def test_each_fault_is_one_finding_on_its_host_and_all_else_passes(verified: Verified) -> None:
    found = cells(verified.report)
    assert {host for host, (status, _) in found.items() if status != "pass"} == set(FOUND)
    for host, message in FOUND.items():
        assert found[host][0] == "fail" and message in found[host][1]
    assert len(found) == 9 and verified.code == 1
    wrong = [cell for cell in verified.report["results"] if cell["status"] not in ("pass", "not-applicable")]
    assert {cell["check"] for cell in wrong} == {"host-net"}


def test_a_replay_says_the_same(verified: Verified, tmp_path: Path) -> None:
    replayed = judged("--replay", str(verified.recording), to=tmp_path / "report.json")
    assert cells(replayed) == cells(verified.report)


def test_a_redacted_recording_says_the_same(verified: Verified, tmp_path: Path) -> None:
    archive = tmp_path / "for-others.tar.gz"
    assert said("bundle", str(verified.recording), "--output", str(archive))[0] == 0
    redacted = judged("--replay", str(archive), to=tmp_path / "report.json")
    statuses: Sequence[str] = [status for status, _ in cells(redacted).values()]
    assert statuses == [status for status, _ in cells(verified.report).values()]


def test_explain_runs_what_looks_for_the_causes_and_answers(verified: Verified) -> None:
    code, text = verified.explained
    assert code == 1
    assert "Causes: found" in text and "the wrong one was chosen" in text.replace("\n    ", " ")
    assert "✖ host-net  node01" in text
    assert "Causes: looked for, and fine" in text and "the ranks started too far apart" in text
    assert "link" not in text and "net-health" not in text


def test_explain_looks_in_a_recording(verified: Verified) -> None:
    recording = str(verified.recording)
    code, text = said("explain", "EI0006", "--run", "--replay", recording)
    assert code == 0 and "no cause found" in text and "9 hosts" in text
    code, text = said("explain", "ei0015", "--run", "--replay", recording, "--hosts", "node[04-06]")
    assert code == 1 and "node05" in text and "node01" not in text


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("EI0005", "--run", "--local"), "no check can see"),
        (("link", "--run", "--local"), "goes with an error code"),
        (("EI0006", "--run"), "name the hosts"),
        (("EI0006", "--hosts", "node01"), "without --run"),
    ],
)
def test_what_cannot_be_run_is_refused(
    arguments: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["explain", *arguments]) == 2
    assert why in capsys.readouterr().err


def test_an_interface_has_one_pseudonym_in_all_that_names_it() -> None:
    redactor = new_redactor(Survey(["node01"]))
    told = {
        "host-addresses": b"2: acme-lan    inet 10.0.0.1/24 scope global acme-lan\\  valid_lft forever\n",
        "host-links": b"2: acme-lan: <UP> mtu 1500 qdisc mq\n",
        "host-route:10.0.0.2": b"10.0.0.2 dev acme-lan src 10.0.0.1 uid 0\n",
        "host-ping:10.0.0.2": b"PING 10.0.0.2 (10.0.0.2) from 10.0.0.1 acme-lan: 56(84) bytes of data.\n",
    }
    texts = [redactor.answer(name, text).decode() for name, text in told.items()]
    (pseudonym,) = redactor.given[Kind.INTERFACE].values()
    assert all(pseudonym in text and "acme" not in text for text in texts)
