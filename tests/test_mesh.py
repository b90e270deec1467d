"""The ping mesh from the outside: through the simulator's SSH, recorded, replayed, cut short."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ascendctl import verify as pipeline
from ascendctl.cli import run
from ascendctl.observations import ping_answers
from ascendctl.probe.capture import decode
from ascendctl.probe.mesh import build_mesh_script, ping_id
from ascendctl.sim.cluster import SimCluster
from ascendctl.sim.spec import make_spec
from ascendctl.topology.fabric import Plane, PortId
from ascendctl.topology.mesh import Ping
from tests.fault_recordings import verify_to

RING = ("--mesh", "ring")


def verified(folder: Path, spec: dict[str, Any], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Verify a simulated cluster and record it; the exit code and the report."""
    report = folder / "report.json"
    with SimCluster(make_spec(**spec)) as sim:
        asked = ("-i", str(sim.inventory_path), "--record", str(folder / "recording"))
        code = verify_to(report, *asked, *arguments)
    return code, json.loads(report.read_text(encoding="utf-8"))


def replayed(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    report = folder / "replayed.json"
    code = verify_to(report, "--replay", str(folder / "recording"), *arguments)
    return code, json.loads(report.read_text(encoding="utf-8"))


def of_mesh(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in report["results"] if cell["check"].startswith("mesh")]


def counted(cells: Sequence[dict[str, Any]]) -> Counter[tuple[str, str]]:
    return Counter((cell["check"], cell["status"]) for cell in cells)


@pytest.mark.parametrize(
    ("spec", "passing"),
    [
        ({"generation": "a2", "hosts": 2}, {"mesh-roce": 16}),
        ({"generation": "a3", "hosts": 2}, {"mesh-roce": 32, "mesh-hccs": 32}),
        ({"generation": "a3", "hosts": 2, "roce": "none"}, {"mesh-hccs": 32}),
        (
            {"generation": "a3", "hosts": 4, "hosts_per_super_pod": 2},
            {"mesh-roce": 64, "mesh-hccs": 64},
        ),
    ],
    ids=["a2", "a3", "a3-without-roce", "a3-two-pods"],
)
def test_a_clean_cluster_passes_port_by_port(
    tmp_path: Path, spec: dict[str, Any], passing: dict[str, int]
) -> None:
    _, report = verified(tmp_path, spec, *RING)
    cells = of_mesh(report)
    assert Counter(c["check"] for c in cells if c["status"] == "pass") == passing
    assert {c["status"] for c in cells} <= {"pass", "not-applicable"}
    assert report["summary"]["fail"] == report["summary"]["warn"] == 0
    assert report["verdicts"] == []
    hosts = {host["name"] for host in report["hosts"]}
    for check in ("mesh-roce", "mesh-hccs"):  # also where the network is not there
        assert {c["subject"]["host"] for c in cells if c["check"] == check} == hosts
    _, again = replayed(tmp_path)
    assert again["results"] == report["results"]


@pytest.fixture(scope="module")
def dead_port(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, dict[str, Any]]:
    """An A2 cluster in which node02's device 3 loses everything."""
    folder = tmp_path_factory.mktemp("dead-port")
    faults = [{"host": "node02", "kind": "port-loss", "device": 3}]
    code, report = verified(folder, {"generation": "a2", "hosts": 3, "faults": faults}, "--mesh", "sample")
    return folder, code, report


def test_a_dead_port_is_the_one_verdict_and_its_pairs_are_folded(
    dead_port: tuple[Path, int, dict[str, Any]],
) -> None:
    _, code, report = dead_port
    assert code == 1
    assert report["summary"]["fail"] == 1  # its detect ping fails for the same reason
    (verdict,) = report["verdicts"]
    assert set(verdict) == {"component", "confidence", "explains", "evidence", "alternatives"}
    assert set(verdict["component"]) == {"kind", "host", "device", "peer", "switch", "value"}
    component = verdict["component"]
    assert (component["kind"], component["host"], component["device"]) == ("device", "node02", 3)
    assert verdict["confidence"] > 0.9
    assert any(sentence.startswith("ruled out: ") for sentence in verdict["evidence"])
    cells = of_mesh(report)
    (accused,) = [c for c in cells if c["status"] == "fail"]
    assert (accused["check"], accused["subject"]["host"], accused["subject"]["device"]) == (
        "mesh",
        "node02",
        3,
    )
    for part in ("expected", "actual", "consequence", "remedy", "command", "evidence"):
        assert accused[part], part
    explained = [c for c in cells if c["status"] == "skipped"]
    assert all(c["caused_by"] == {"check": "mesh", "subject": accused["subject"]} for c in explained)
    assert all(c["evaluated"] for c in explained)
    pairs = [{"check": c["check"], "subject": c["subject"]} for c in explained if c["subject"]["peer"]]
    assert sorted(map(str, pairs)) == sorted(map(str, verdict["explains"]))
    ports = {(c["subject"]["host"], c["subject"]["device"]): c for c in cells if not c["subject"]["peer"]}
    own = [c for c in explained if not c["subject"]["peer"]]
    assert [(c["subject"]["host"], c["subject"]["device"]) for c in own] == [("node02", 3)]
    assert ports["node01", 3]["status"] == "pass"


def test_its_recording_is_judged_alike_redacted_or_not(
    dead_port: tuple[Path, int, dict[str, Any]], tmp_path: Path
) -> None:
    folder, code, report = dead_port
    assert {path.suffix for path in (folder / "recording").iterdir()} >= {".probe", ".mesh1"}
    again_code, again = replayed(folder)
    assert again_code == code
    assert again["results"] == report["results"]
    assert again["verdicts"] == report["verdicts"]
    archive = tmp_path / "bundle.tar.gz"
    assert run(["bundle", str(folder / "recording"), "-o", str(archive)]) == 0
    hidden = tmp_path / "hidden.json"
    assert verify_to(hidden, "--replay", str(archive)) == code
    told = json.loads(hidden.read_text(encoding="utf-8"))
    assert counted(of_mesh(told)) == counted(of_mesh(report))
    assert told["verdicts"][0]["component"]["device"] == 3
    assert "node02" not in hidden.read_text(encoding="utf-8")


def test_a_selection_of_the_recording_is_judged_by_the_pings_between_its_hosts(
    dead_port: tuple[Path, int, dict[str, Any]],
) -> None:
    folder, _, _ = dead_port
    _, report = replayed(folder, "--hosts", "node01")
    (roce, hccs) = [{c["status"] for c in of_mesh(report) if c["check"] == name} for name in PLANES]
    assert roce == hccs == {"not-applicable"}


PLANES = ("mesh-roce", "mesh-hccs")


def test_the_terminal_tells_verdicts_first_and_once(
    dead_port: tuple[Path, int, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _, _ = dead_port
    run(["verify", "--replay", str(folder / "recording")])
    out = capsys.readouterr().out
    assert out.index("At fault between hosts") < out.index("Hosts and their devices")
    assert out.count("node02 device 3 (roce)") == 1
    assert "✖ mesh " not in out


def test_mesh_off_is_said_on_every_host_and_asks_nothing(tmp_path: Path) -> None:
    code, report = verified(tmp_path, {"generation": "a2", "hosts": 2}, "--mesh", "off")
    assert code == 0
    cells = of_mesh(report)
    assert counted(cells) == {(name, "not-applicable"): 2 for name in PLANES}
    assert {cell["message"] for cell in cells} == {"--mesh off"}
    assert not [path for path in (tmp_path / "recording").iterdir() if path.suffix == ".mesh1"]


def test_a_ping_that_hangs_ends_that_hosts_pings_and_is_not_green(tmp_path: Path) -> None:
    """Its other devices are proven by what others sent them, or not at all."""
    folder = tmp_path
    verified(folder, {"generation": "a2", "hosts": 2}, *RING)
    stream = (folder / "recording" / "node01.mesh1").read_bytes()
    frames = stream.split(b"\n@")
    kept, hung = [], b""
    for frame in frames:
        words = frame.split()
        if len(words) > 6 and words[1] == b"begin" and words[2].startswith(b"roce-ping"):
            if hung:
                kept.append(b" ".join([words[0], b"skip", *words[2:6], b"hung", hung, words[5]]) + b"\n")
                continue
            hung = words[2]
            words[6] = b"137"
            kept.append(b" ".join(words) + b"\n")
        elif hung and len(words) > 1 and words[1] in (b"stderr", b"end") and kept[-1].split()[1] == b"skip":
            continue
        else:
            kept.append(frame)
    (folder / "recording" / "node01.mesh1").write_bytes(b"\n@".join(kept))
    code, report = replayed(folder)
    unknown = [c for c in of_mesh(report) if c["status"] == "unknown"]
    assert not unknown  # with two hosts each pair has been measured from the other side too
    (folder / "recording" / "node02.mesh1").write_bytes(b"")
    code, report = replayed(folder)
    unknown = [c for c in of_mesh(report) if c["status"] == "unknown"]
    assert code == 3
    assert len(unknown) == 16
    assert any("had to be killed" in c["message"] for c in unknown)
    assert all(c["remedy"] for c in unknown)


def test_an_answer_that_was_cut_off_is_unknown_where_nothing_else_was_learned(tmp_path: Path) -> None:
    verified(tmp_path, {"generation": "a2", "hosts": 2}, *RING)
    for name in ("node01", "node02"):
        path = tmp_path / "recording" / f"{name}.mesh1"
        path.write_bytes(path.read_bytes()[:200])
    code, report = replayed(tmp_path)
    assert code == 3
    assert counted(of_mesh(report))["mesh-roce", "unknown"] == 16


def test_pings_ask_for_root_and_say_their_impact() -> None:
    ping = Ping(Plane.HCCS, PortId("node01", 3), PortId("node02", 5), "192.1.3.194")
    plain, sudo = (
        build_mesh_script("0" * 32, sudo=sudo, pings=[ping], packets=5, time_limit_s=9).decode()
        for sudo in (False, True)
    )
    (line,) = [line for line in plain.splitlines() if line.startswith("ask hccs-ping")]
    assert shlex.split(line, comments=True)[1:6] == ["hccs-ping:192.1.3.194", "-", "-", "3", "35"]
    assert line.split("#")[0].rstrip().endswith("-i 3 -hccs_ping -g address 192.1.3.194 cnt 5")
    assert line.endswith("# light-traffic")
    assert "sudo='1'" in sudo and "sudo=''" in plain
    assert [one for one in sudo.splitlines() if one.startswith("ask hccs")] == [line]
    assert " root " in line  # which is what goes through sudo


def test_more_packets_are_more_calls_in_turns() -> None:
    here = PortId("node01", 0)
    pings = [Ping(Plane.ROCE, here, PortId("node02", n), f"10.0.0.{n}") for n in (1, 2, 2)]
    text = build_mesh_script("0" * 32, sudo=False, pings=pings, packets=7, time_limit_s=9).decode()
    asked = [line.split()[1] for line in text.splitlines() if line.startswith("ask roce-ping")]
    once = ["roce-ping:10.0.0.1", "roce-ping:10.0.0.2"]
    assert asked == [f"{ping}{turn}" for turn in ("", ":2", ":3") for ping in once]
    assert {ping_id(each) for each in asked} == {ping_id(each) for each in once}
    assert ping_id("link") is None


def test_what_was_not_begun_in_time_is_said_to_be_left_out(tmp_path: Path) -> None:
    """And the tool is never called twice at a time, nor anything left behind."""
    tool = tmp_path / "bin" / "hccn_tool"
    tool.parent.mkdir()
    tool.write_text(
        "#!/bin/sh\nmkdir one || exit 99\nsleep 0.7\nrmdir one\n"
        "printf 'device 0 PING %s\\nrecv seq=0,time=0.1ms\\n' \"$6\"\n"
        "echo '1 packets transmitted, 1 received, 0.00% packet loss'\n"
    )
    tool.chmod(0o755)
    pings = [Ping(Plane.ROCE, PortId("a", 0), PortId("b", n), f"10.0.0.{n}") for n in range(1, 13)]
    script = build_mesh_script("0" * 32, sudo=False, pings=pings, packets=3, time_limit_s=2)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        ["/bin/sh", "-s"],
        input=script,
        capture_output=True,
        check=True,
        env={"PATH": f"{tool.parent}:/usr/bin:/bin", "TMPDIR": str(temporary)},
    )
    capture = decode(done.stdout)
    assert capture.complete
    answers = ping_answers(capture)
    assert {answer.address for answer in answers} == {ping.address for ping in pings}
    learned = [answer for answer in answers if answer.sent is not None]
    left_out = [answer for answer in answers if answer.sent is None]
    assert learned and left_out
    assert all((answer.sent, answer.received) == (1, 1) for answer in learned)
    assert {answer.problem for answer in left_out} == {"the time for pings was up before its turn"}
    assert list(temporary.iterdir()) == []


def test_an_interruption_before_the_pings_leaves_them_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather = pipeline.gather

    def interrupted(*args: Any, **kwargs: Any) -> pipeline.Gathered:
        return replace(gather(*args, **kwargs), interrupted=True)

    monkeypatch.setattr(pipeline, "gather", interrupted)
    code, report = verified(tmp_path, {"generation": "a2", "hosts": 2})
    assert code == 130
    assert counted(of_mesh(report))["mesh-roce", "unknown"] == 16
    unknown = [cell for cell in of_mesh(report) if cell["status"] == "unknown"]
    assert all("the run was interrupted before its pings" in cell["message"] for cell in unknown)
    again_code, again = replayed(tmp_path)
    assert again_code == 130
    assert again["results"] == report["results"]


def test_the_plan_is_told_beforehand_and_one_host_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    with SimCluster(make_spec(generation="a2", hosts=2)) as sim:
        asked = ["verify", "-i", str(sim.inventory_path), "--mesh", "ring", "--mesh-timeout", "40"]
        run([*asked, "--dry-run"])
        assert "# Then, over a connection of its own, a second script per host" in capsys.readouterr().out
        assert run(asked) == 0
    told = capsys.readouterr().err
    assert "mesh ring: 16 pings between devices (16 over RoCE), 3 packets each; busiest host 8; about" in told
    assert " 40 s at most" in told


def test_the_mesh_options_are_not_for_a_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", "--replay", str(tmp_path), "--mesh", "ring"]) == 2
    assert "were recorded" in capsys.readouterr().err
