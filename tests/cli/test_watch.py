"""watch over the simulator while faults come and go: each change told once, also across a restart."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import yaml

from ascendctl.cli import run, verify, watch
from ascendctl.cli.exits import Refused
from ascendctl.report.model import read_report
from ascendctl.results import DeviceCounters, Run, Status
from ascendctl.sim.cluster import SimCluster
from ascendctl.sim.render import render_cluster
from ascendctl.sim.spec import make_spec

HOSTS = 2
Step = Callable[[], None]


class Site:
    """A simulated cluster whose faults can be changed while it runs."""

    def __init__(self, sim: SimCluster, folder: Path) -> None:
        self._sim = sim
        self._folder = folder
        self.inventory = folder / "inventory.yaml"
        self.reachable()

    def faults(self, *faults: dict[str, object]) -> None:
        """From now on the hosts answer as ones with these faults, and with no other."""
        spec = make_spec(generation="a2", hosts=HOSTS, faults=list(faults))
        other = self._folder / "other"
        shutil.rmtree(other, ignore_errors=True)
        for there, here in zip(render_cluster(spec, other), self._sim.hosts, strict=True):
            shutil.rmtree(here.directory / "answers")
            shutil.copytree(there.directory / "answers", here.directory / "answers")

    def reachable(self) -> None:
        self.inventory.write_text(self._sim.inventory_path.read_text())

    def unreachable(self, name: str) -> None:
        document = yaml.safe_load(self._sim.inventory_path.read_text())
        for host in document["hosts"]:
            if host["name"] == name:
                host["ssh"] = {"port": 1}  # nothing listens there
        self.inventory.write_text(yaml.safe_dump(document))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with SimCluster(make_spec(generation="a2", hosts=HOSTS)) as sim:
        yield Site(sim, tmp_path)


@dataclass
class Watched:
    code: int
    out: list[str] = field(default_factory=list)  # of each run; the last with the summary
    err: list[str] = field(default_factory=list)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Watched]:
    """Run a watch with as many runs as there are steps; each step is done before its run."""

    def go(*steps: Step, arguments: list[str]) -> Watched:
        result = Watched(0)
        left = list(steps)

        def collect() -> None:
            captured = capsys.readouterr()
            result.out.append(captured.out)
            result.err.append(captured.err)

        def pause(seconds: float) -> None:
            collect()
            left.pop(0)()

        monkeypatch.setattr(watch, "_pause", pause)
        left.pop(0)()
        # Pings take most of a run's time; whoever wants them says so.
        mesh = [] if "--mesh" in arguments else ["--mesh", "off"]
        result.code = run(["watch", "--every", "10m", "--count", str(len(steps)), *mesh, *arguments])
        collect()
        return result

    return go


LINK_DOWN = {"kind": "link-down", "host": "node02", "device": 5}


def nothing() -> None:
    pass


def test_each_change_is_told_once_also_across_a_restart(
    site: Site, tmp_path: Path, watched: Callable[..., Watched]
) -> None:
    arguments = ["-i", str(site.inventory), "--history", str(tmp_path / "history"), "--mesh", "ring"]

    first = watched(nothing, lambda: site.faults(LINK_DOWN), nothing, arguments=arguments)
    assert first.code == 1
    assert first.out[0].startswith("FIT: 2 hosts")
    assert "Changed: 1 new" in first.out[1]
    assert "link  node02 device 5: link is DOWN" in first.out[1]
    assert first.out[2].startswith("Watched for")
    assert "3 runs, 1 with changes" in first.out[2]
    assert [text.count("ascendctl:") for text in first.err] == [1, 1, 1]
    assert "Nothing has changed: 1 still found; " not in first.err[2]
    assert "Nothing has changed: 1 still found" in first.err[2]

    second = watched(
        nothing,
        lambda: site.unreachable("node02"),
        nothing,
        site.reachable,
        site.faults,
        nothing,
        arguments=arguments,
    )
    silent_after_restart, gone, still_gone, back, cleared, quiet = second.out
    assert silent_after_restart == ""
    assert "Findings no longer looked at (not cleared) (1 cell)" in gone
    assert "was fail: link is DOWN" in gone
    assert "reachable  node02" in gone
    assert "cleared" not in gone.replace("(not cleared)", "")
    assert still_gone == ""
    assert "Looked at again, and still found (1 cell)" in back
    assert "New (" not in back
    assert "Newly looked at, and well" in back
    assert "1 cleared" in cleared
    assert "was fail: link is DOWN" in cleared
    assert quiet.startswith("Watched for")
    assert second.code == 0


def test_an_end_during_an_outage_is_told_after_a_restart_in_it(
    site: Site, tmp_path: Path, watched: Callable[..., Watched]
) -> None:
    """The history is shorter than the outage; what was found before it is cleared, not forgotten."""
    history = tmp_path / "history"
    arguments = ["-i", str(site.inventory), "--history", str(history), "--keep", "2"]
    site.faults(LINK_DOWN)
    watched(nothing, lambda: site.unreachable("node02"), nothing, nothing, arguments=arguments)
    reports = sorted(path.name for path in history.glob("0*.json"))
    assert [name.split("-")[0] for name in reports] == ["00000003", "00000004"]

    def mended() -> None:
        site.faults()
        site.reachable()

    after = watched(mended, nothing, arguments=arguments)
    assert "1 cleared" in after.out[0]
    assert "Changed" not in after.out[1]


def test_history_files_are_private_and_metrics_are_for_all(
    site: Site, tmp_path: Path, watched: Callable[..., Watched]
) -> None:
    history, metrics = tmp_path / "deep/history", tmp_path / "ascend.prom"
    watched(
        nothing,
        nothing,
        arguments=["-i", str(site.inventory), "--history", str(history), "--prometheus", str(metrics)],
    )
    assert stat.S_IMODE(history.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in history.iterdir()} == {0o600}
    (newest, oldest) = sorted(history.glob("0*.json"), reverse=True)
    assert read_report(newest).started_at > read_report(oldest).started_at
    assert stat.S_IMODE(metrics.stat().st_mode) == 0o644
    assert "ascendctl" in metrics.read_text()
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_run_that_fails_does_not_end_the_watch(
    site: Site, watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = verify.ask_and_judge

    def broken(*args: object, **kwargs: object) -> Run:
        raise RuntimeError("something inside broke")

    def break_inventory() -> None:
        monkeypatch.setattr(verify, "ask_and_judge", ask)
        site.inventory.write_text("version: 1\nhosts: nonsense\n")

    seen = watched(
        nothing,
        lambda: monkeypatch.setattr(verify, "ask_and_judge", broken),
        break_inventory,
        site.reachable,
        arguments=["-i", str(site.inventory)],
    )
    assert "failed: RuntimeError: something inside broke; next in" in seen.err[1]
    assert "hosts" in seen.err[2]
    assert "failed: " in seen.err[2]
    assert "Nothing has changed" in seen.err[3]
    assert seen.out[1:3] == ["", ""]
    assert "4 runs (2 failed), 0 with changes" in seen.out[3]
    assert seen.code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_it_at_once_with_a_summary(site: Site, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ascendctl", "watch", "-i", str(site.inventory), "--every", "1h"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    try:
        assert "first run; next in" in process.stderr.readline()
        process.send_signal(number)
        begun = time.monotonic()
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert time.monotonic() - begun < 30
    assert "1 run, 0 with changes. Last known: 2 hosts, coverage 100.0 %" in out
    assert err == ""


def flaps(times: int) -> dict[str, object]:
    return {"kind": "link-flaps", "host": "node02", "device": 5, "value": str(times)}


def test_a_counter_that_grew_is_told_once_also_across_an_outage_and_a_restart(
    site: Site, tmp_path: Path, watched: Callable[..., Watched]
) -> None:
    history = tmp_path / "history"
    arguments = ["-i", str(site.inventory), "--history", str(history), "--profile", "deep"]

    first = watched(
        lambda: site.faults(flaps(1)),
        lambda: site.faults(flaps(3)),
        lambda: site.unreachable("node02"),
        arguments=arguments,
    )
    assert "link down count" not in first.out[0]
    assert "Changed: 1 error counter grew" in first.out[1]
    assert "link down count  node02 device 5: 2 more in" in first.out[1]
    assert "1 before, 3 now" in first.out[1]
    assert "Error counters" not in first.out[2]

    site.reachable()
    second = watched(lambda: site.faults(flaps(4)), nothing, site.faults, arguments=arguments)
    assert "link down count  node02 device 5: 1 more in" in second.out[0]
    assert "3 before, 4 now" in second.out[0]
    assert second.out[1] == ""
    assert "Counters that restarted (1 device)" in second.out[2]
    assert "link_stat  node02 device 5: cleared" in second.out[2]
    assert "Error counters that grew" not in second.out[2]


def test_what_hardware_corrected_alone_is_told_in_the_line_per_run(
    site: Site, watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = verify.ask_and_judge
    retries = iter(range(0, 600, 100))

    def counting(*args: object, **kwargs: object) -> Run:
        run_ = ask(*args, **kwargs)  # type: ignore[arg-type]
        counters = DeviceCounters(
            "node01", 0, run_.started_at, {"stat": {"roce_new_pkt_rty_num": next(retries)}}
        )
        return replace(run_, counters=(counters,))

    monkeypatch.setattr(verify, "ask_and_judge", counting)
    quiet = watched(nothing, nothing, arguments=["-i", str(site.inventory)])
    assert "Changed: 1 counter of corrected or repeated errors grew" in quiet.err[1]
    assert quiet.out[1].startswith("Watched for")
    strict = watched(nothing, nothing, arguments=["-i", str(site.inventory), "--strict"])
    assert "roce_new_pkt_rty_num  node01 device 0: 100 more" in strict.out[1]


def test_an_interruption_during_a_run_drops_that_run(
    site: Site, tmp_path: Path, watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    history = tmp_path / "history"
    judge = verify.ask_and_judge

    def interrupted(*args: object, **kwargs: object) -> Run:
        return replace(judge(*args, **kwargs), interrupted=True)  # type: ignore[arg-type]

    seen = watched(
        nothing,
        lambda: monkeypatch.setattr(verify, "ask_and_judge", interrupted),
        nothing,
        arguments=["-i", str(site.inventory), "--history", str(history)],
    )
    assert seen.code == 130
    assert len(list(history.glob("0*.json"))) == 1
    assert seen.out[1].startswith("Watched for")


def test_runs_start_within_a_tenth_of_the_period(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(watch, "_pause", waits.append)
    monkeypatch.setattr(watch._Watch, "_attempt", lambda self: "ok")
    assert run(["watch", "-i", str(site.inventory), "--every", "10m", "--count", "200"]) == 0
    assert all(539 < wait <= 660 for wait in waits)
    assert max(waits) > 620
    assert min(waits) < 580


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("10m", 600), ("1h", 3600), ("1.5h", 5400), (" 2 m ", 120)]
)
def test_durations(text: str, seconds: float) -> None:
    assert watch.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "-5s", "0s", "10 days", "1h30"])
def test_no_durations(text: str) -> None:
    with pytest.raises(Refused, match="--every"):
        watch.parse_duration(text)


def test_what_watch_refuses(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir(mode=0o755)
    (foreign / "thesis.tex").touch()
    assert run(["watch", "-i", str(site.inventory), "--history", str(foreign), "--count", "1"]) == 2
    assert "holds other files (thesis.tex)" in capsys.readouterr().err
    assert stat.S_IMODE(foreign.stat().st_mode) == 0o755
    assert [path.name for path in foreign.iterdir()] == ["thesis.tex"]

    document = yaml.safe_load(site.inventory.read_text())
    document["defaults"]["ssh"]["password"] = "prompt"
    asking = tmp_path / "asking.yaml"
    asking.write_text(yaml.safe_dump(document))
    assert run(["watch", "-i", str(asking), "--count", "1"]) == 2
    assert "watch would ask in every run" in capsys.readouterr().err


def test_one_history_is_for_one_watch(tmp_path: Path) -> None:
    from ascendctl.history import History, HistoryError

    with History(tmp_path / "history", 5), pytest.raises(HistoryError, match="another watch"):
        History(tmp_path / "history", 5)
    with History(tmp_path / "history", 5) as again:
        assert again.newest is None


def test_a_damaged_report_is_said_and_the_one_before_counts(
    site: Site, tmp_path: Path, watched: Callable[..., Watched]
) -> None:
    history = tmp_path / "history"
    arguments = ["-i", str(site.inventory), "--history", str(history)]
    watched(nothing, nothing, arguments=arguments)
    newest = max(history.glob("0*.json"))
    newest.write_text(newest.read_text()[:500])
    site.faults(LINK_DOWN)
    after = watched(nothing, arguments=arguments)
    assert f"left out of the history: {newest}: is not a complete JSON text" in after.err[0]
    assert "Changed: 1 new" in after.out[0]
    assert json.loads(max(history.glob("0*.json")).read_text())["summary"][Status.FAIL.value] == 1
