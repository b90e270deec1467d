"""bring-up from its command line to engines on real OpenSSH hosts: the whole way, and where it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ascendctl.bring_up import (
    BringUpRun,
    Course,
    Manner,
    Questions,
    Step,
    StepRun,
    bring_up,
    goal_of,
)
from ascendctl.bring_up_plan import load_plan
from ascendctl.cli import run
from ascendctl.cli.fleets import fleet_of
from ascendctl.consistency.prompts import Prompt
from ascendctl.inventory import load
from ascendctl.netloader.env_file import read_env_file
from ascendctl.report.bring_up_json import schema
from ascendctl.report.bring_up_progress import StepProgress
from ascendctl.report.bring_up_words import closing_line
from ascendctl.results import ExitCode
from tests.netloader.engine_site import PROGRAM, Site, alive, healthy, until
from tests.openssh import why_not

needs_openssh = [
    pytest.mark.openssh,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]
SECRET = "sk-heronbill-58"
# Of this process alone: the hosts are one machine, and the gate looks at its one list of ports.
FIRST_PORT = 18400 + os.getpid() % 128 * 80
SEED_API, SEED_LISTENER, JOINER_API, JOINER_LISTENER = range(FIRST_PORT, FIRST_PORT + 80, 20)
# Where ascendctl's own loader is not told an address it listens on all of them; these are to be of loopback.
ON_LOOPBACK = """\
import os
if "SSH_CONNECTION" in os.environ:
    os.environ.setdefault("VLLM_HOST_IP", os.environ["SSH_CONNECTION"].split()[2])
"""
STEPS = [step.value for step in Step]


class Place:
    """Hosts, an inventory and plans of them. ``scenarios``: host → how its engine behaves."""

    def __init__(self, site: Site, names: Sequence[str]) -> None:
        self.site = site
        self.folder = site.folder
        site.control(*names)
        self.inventory = site.folder / f"{names[0]}-control" / "inventory.yaml"
        # Looked at by the gate as it stands, and by the engine below the disk that is the host's own.
        self.model = site.folder / "models" / "m"
        packages = site.folder / "packages"
        below = str(self.model)[1:]
        for folder in (self.model, site.folder / "full" / below, site.folder / "empty" / below):
            folder.mkdir(parents=True)
            (folder / "config.json").write_text('{"model_type": "llama"}')
            (folder / "tokenizer.json").write_text("{}")
            if "empty" not in folder.parts:
                (folder / "model.safetensors").write_bytes(b"weights" * 100)
        for name in ("vllm", "torch"):
            about = packages / f"{name}-2.0.dist-info"
            about.mkdir(parents=True)
            (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
        (packages / "sitecustomize.py").write_text(ON_LOOPBACK)
        (site.folder / "engine.env").write_text(f"PYTHONPATH={packages}\nVLLM_API_KEY={SECRET}\n")
        (site.folder / "prompts.txt").write_text("The word is alpha\nThe word is bravo\n")

    def plan(self, serve: Mapping[str, Any] = {}, **sections: Any) -> str:
        """A plan's path: node1 serves, node2 and node3 join, two prompts are compared; with changes."""
        seed = {
            "hosts": "node1",
            "model": str(self.model),
            "engine": "ascendctl",
            "port": SEED_API,
            "listen_port": SEED_LISTENER,
            "bind": "address",
            "launcher": [sys.executable, str(PROGRAM), "serve"],
        }
        whole = {
            "version": 1,
            "name": "demo",
            "serve": {**seed, **serve},
            "join": {"hosts": "node[2-3]", "port": JOINER_API, "listen_port": JOINER_LISTENER},
            "consistency": {"prompts": "prompts.txt", "max_tokens": 4, "api_key_env": "BRING_UP_KEY"},
            "env_file": "engine.env",
            **sections,
        }
        path = self.folder / "plan.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in whole.items() if value is not None}))
        return str(path)

    def words(self, plan: str, *more: str) -> list[str]:
        return ["bring-up", "-i", str(self.inventory), "-p", plan, "--quiet", *more]

    def running(self) -> dict[str, bool]:
        return {name: bool(self.site.engine(name)) for name in self.site.names}


@contextlib.contextmanager
def place(folder: Path, apart: tuple[str, ...] = (), **scenarios: Mapping[str, str]) -> Iterator[Place]:
    names = ("node1", "node2", "node3")
    hosts = {name: scenarios.get(name, {}) for name in names}
    with Site(folder / "site", hosts, apart=apart) as site:
        yield Place(site, names)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRING_UP_KEY", SECRET)


def report(text: str) -> dict[str, Any]:
    """The JSON report, valid against its schema, without a secret."""
    assert SECRET not in text
    document: dict[str, Any] = json.loads(text)
    jsonschema.validate(document, schema())
    assert [one["step"] for one in document["steps"]] == STEPS
    return document


def courses(document: Mapping[str, Any]) -> list[tuple[str, int | None]]:
    return [(one["course"], one["exit_code"]) for one in document["steps"]]


DONE, NOT_REACHED, LEFT_OUT = ("done", 0), ("not reached", None), ("left out", None)


def stopped(code: int) -> tuple[str, int]:
    return ("stopped here", code)


class TestOnHosts:
    pytestmark = needs_openssh

    def test_the_whole_way(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with place(tmp_path, node2={"STANDIN_DISK": ""}) as here:
            words = here.words(here.plan(), "--output", str(tmp_path / "out"))
            assert run([*words, "--format", "json"]) == 0
            document = report(capsys.readouterr().out)
            assert courses(document) == [DONE] * 4
            assert all(claim["proven"] for claim in document["claims"])
            assert document["verdict"].startswith("BROUGHT UP. Proven: 3 hosts fit")
            assert document["started"] == ["node1.1", "node2.1", "node3.1"]
            verify, serve, join, test = document["steps"]
            assert {one["subject"]["host"] for one in verify["verify"]["results"]} == {*here.site.names}
            assert [one["end"] for one in serve["netloader"]["instances"]] == ["ready"]
            assert {one["proof"] for one in join["netloader"]["instances"]} == {"verified"}
            assert serve["netloader"]["preflight"] and join["netloader"]["preflight"]
            assert [one["verdict"] for one in test["consistency"]["candidates"]] == ["identical"] * 2
            written = {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")}
            steps = {"verify.json", "serve.json", "join.json", "consistency.json"}
            assert written == {"bring-up.json", "consistency.html", *steps}
            assert json.loads((tmp_path / "out" / "bring-up.json").read_text()) == document
            for path in (tmp_path / "out").iterdir():
                assert SECRET not in path.read_text(encoding="utf-8")

            before = {name: here.site.engine(name) for name in here.site.names}
            assert run(words) == 0
            again = capsys.readouterr().out
            assert "ran already" in again and "BROUGHT UP. Proven" in " ".join(again.split())
            assert {name: here.site.engine(name) for name in here.site.names} == before

    def test_it_ends_at_a_busy_port(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with place(tmp_path) as here, socket.create_server((here.site.address("node1"), SEED_LISTENER)):
            assert run(here.words(here.plan(), "--format", "json")) == 1
            document = report(capsys.readouterr().out)
            assert courses(document) == [DONE, stopped(1), NOT_REACHED, NOT_REACHED]
            serve = document["steps"][1]
            failed = [one for one in serve["netloader"]["preflight"] if one["status"] == "fail"]
            assert [one["check"] for one in failed] == ["engine-ports"]
            assert str(SEED_LISTENER) in failed[0]["message"]
            assert document["verdict"].startswith("STOPPED at serve. Proven: 3 hosts fit")
            assert document["started"] == []
            assert not any(here.running().values())

    def test_a_fallback_ends_it_before_the_test(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fell = {"STANDIN_SCENARIO": "silent-fallback"}
        with place(tmp_path, node2=fell, node3=fell) as here:
            plan = here.plan({"engine": "vllm-ascend"}, join={"hosts": "node2"})
            assert run(here.words(plan, "--no-gate")) == 1
            said = " ".join(capsys.readouterr().out.split())
            assert "3 of 4 join: stopped here, exit code 1" in said
            assert "consistency not reached: the way ended at join" in said
            assert "node2.1: where its weights came from: fell back to disk" in said
            assert "to end it: ascendctl netloader stop demo -i" in said
            assert "STOPPED at join. Proven: 1 seed is ready. Not proven: that the hosts are fit" in said
            assert here.running() == {"node1": True, "node2": True, "node3": False}

            # The same, allowed: the way goes on, and it is not called proven.
            allowed = here.plan({"engine": "vllm-ascend"}, join={"hosts": "node2", "allow_fallback": True})
            assert run(here.words(allowed, "--no-gate", "--format", "json")) == 0
            document = report(capsys.readouterr().out)
            assert courses(document) == [LEFT_OUT, DONE, DONE, DONE]
            open_ones = [claim["text"] for claim in document["claims"] if not claim["proven"]]
            assert any("read the disk (allowed)" in text for text in open_ones)

    def test_a_joiner_with_another_weight_is_different(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with place(tmp_path, node3={"STANDIN_SCENARIO": "corrupt-weight"}) as here:
            plan = here.plan({"engine": "vllm-ascend"})
            out = tmp_path / "out"
            words = here.words(plan, "--no-gate", "--output", str(out), "--format", "json")
            assert run(words) == 1
            document = report(capsys.readouterr().out)
            assert courses(document) == [LEFT_OUT, DONE, DONE, stopped(1)]
            verdicts = {
                one["server"]["name"].partition(" ")[0]: one["verdict"]
                for one in document["steps"][3]["consistency"]["candidates"]
            }
            assert verdicts == {"node2.1": "identical", "node3.1": "different"}
            assert "that all answer the same (node3.1 (" in document["verdict"]
            assert "different" in (out / "consistency.html").read_text(encoding="utf-8")

    def test_interrupted_while_joining(self, tmp_path: Path) -> None:
        with place(tmp_path, node2={"STANDIN_SCENARIO": "hang", "STANDIN_PHASE": "build"}) as here:
            plan = here.plan({"engine": "vllm-ascend"})
            words = here.words(plan, "--no-gate", "--format", "json")
            call = subprocess.Popen(
                [sys.executable, "-m", "ascendctl", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            try:
                until(lambda: here.site.is_started("demo", "node2"), "the joiner is started")
                call.send_signal(signal.SIGINT)
                out, err = call.communicate(timeout=120)
            finally:
                call.kill()
            assert call.returncode == 130, err
            document = report(out.decode())
            assert courses(document) == [LEFT_OUT, DONE, stopped(130), NOT_REACHED]
            assert document["interrupted"] and document["verdict"].startswith("INTERRUPTED at join.")
            assert document["started"] == ["node1.1", "node2.1"]
            assert here.running() == {"node1": True, "node2": True, "node3": False}
            assert healthy(f"http://{here.site.address('node1')}:{SEED_API}")

    def test_a_dry_run_starts_nothing(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with place(tmp_path) as here:
            assert run(here.words(here.plan(), "--dry-run")) == 0
            said = capsys.readouterr().out
            assert SECRET not in said
            source = f"{here.site.address('node1')}:{SEED_LISTENER}"
            for name, role in (("node1", "seed"), ("node2", "joiner"), ("node3", "joiner")):
                assert f"# {name}.1 on {name} ({role}): would be started" in said
                assert f"# files there: ~/.ascendctl/netloader/demo/{name}.1/{{plan.json, run.sh," in said
            assert said.count(source) >= 2 and said.count("--load-format ascendctl") == 3
            assert "PLANNED, nothing was started" in said
            assert not any(here.running().values())
            assert not any(here.site.root(name).exists() for name in here.site.names)

    def test_a_plan_that_cannot_work_there_starts_nothing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with place(tmp_path) as here:
            plan = here.plan(join={"hosts": "node2", "devices": [0, 1]})
            assert run(here.words(plan, "--format", "json")) == 2
            document = report(capsys.readouterr().out)
            assert courses(document) == [DONE, stopped(2), NOT_REACHED, NOT_REACHED]
            (reason,) = document["steps"][1]["reasons"]
            assert "plan.yaml:" in reason and "join: node2.1 on node2: `tp` 1 x `pp` 1" in reason
            assert run(here.words(plan, "--dry-run")) == 2
            assert "join: node2.1 on node2" in capsys.readouterr().err
            assert not any(here.running().values())

    @pytest.mark.parametrize(("lost", "code"), [("engine", 1), ("host", 3)])
    def test_the_seed_is_lost_before_the_join(self, lost: str, code: int, tmp_path: Path) -> None:
        class Fate(StepProgress):
            def begins(self, step: Step) -> None:
                if step is Step.JOIN and lost == "host":
                    here.site.farm("node1").stop_daemon("node1")
                elif step is Step.JOIN:
                    before = here.site.engine("node1")
                    for pid in before:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                    until(lambda: not any(map(alive, before)), "the seed is gone")

        with place(tmp_path, apart=("node1",)) as here:
            plan = load_plan(Path(here.plan(join={"hosts": "node2"}, consistency=None)))
            environment = read_env_file(here.folder / "engine.env")
            goal = goal_of(plan, load(here.inventory), environment, Questions((Prompt("a", "a"),), 1))
            with fleet_of(goal.hosts, None, 5.0) as (fleet, _):
                found = bring_up(goal, fleet, Fate(quiet=True), Manner(gate=False))
            assert [one.course for one in found.steps] == [
                Course.LEFT_OUT,
                Course.DONE,
                Course.STOPPED,
                Course.NOT_REACHED,
            ]
            assert found.exit_code == code
            said = "; ".join(found.of(Step.JOIN).reasons)
            wanted = {
                "engine": "nothing of demo runs on the hosts",
                "host": "node1: the host could not be asked",
            }
            assert wanted[lost] in said
            assert [one.instance.name for one in found.started] == ["node1.1"]
            assert not here.running()["node2"]


# Without hosts that answer --------------------------------------------------------------------------------


def files(folder: Path, plan: str) -> list[str]:
    """Words for a plan on a host that refuses every connection."""
    ssh = {"config": False, "user": "nobody", "port": 1}
    hosts = [{"name": "node1", "address": "127.0.0.1", "accelerator": "cpu", "ssh": ssh}]
    (folder / "inventory.yaml").write_text(yaml.safe_dump({"version": 1, "hosts": hosts}))
    (folder / "plan.yaml").write_text(plan)
    return ["bring-up", "-i", str(folder / "inventory.yaml"), "-p", str(folder / "plan.yaml"), "--quiet"]


PLAN = "version: 1\nname: demo\nserve: {hosts: node1, model: /m}\n"


def test_a_host_that_is_not_reached_ends_it_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*files(tmp_path, PLAN), "--format", "json", "--output", str(tmp_path / "out")]) == 3
    document = report(capsys.readouterr().out)
    assert courses(document) == [stopped(3), NOT_REACHED, LEFT_OUT, LEFT_OUT]
    assert document["steps"][0]["reasons"] == ["not reached: node1; nothing was started"]
    assert document["steps"][3]["reasons"] == ["the plan has no `consistency`"]
    assert "that all answer the same (left out: the plan has no `consistency`)" in document["verdict"]
    assert (tmp_path / "out" / "verify.json").exists()
    # An earlier run's files would tell of another one.
    (tmp_path / "out" / "join.json").write_text("{}")
    assert run([*files(tmp_path, PLAN), "--output", str(tmp_path / "out")]) == 3
    assert not (tmp_path / "out" / "join.json").exists()
    assert "STOPPED at verify. Not proven: that the hosts are fit" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.parametrize(
    ("plan", "more", "said"),
    [
        (PLAN + "  tpp: 1\n", [], "plan.yaml:4"),
        (
            PLAN.replace("model:", "modle:"),
            [],
            "plan.yaml:3: serve.modle: unknown key `modle`; did you mean model?",
        ),
        (PLAN.replace("node1", "node7"), [], "plan.yaml:3: serve.hosts: no host named node7"),
        (PLAN + "consistency: true\n", [], "plan.yaml:4: consistency: there is one instance"),
        (PLAN + "env_file: no.env\n", [], "plan.yaml:4: env_file: "),
        (PLAN + "consistency: {prompts: no.txt}\n", [], "plan.yaml:4: consistency.prompts: "),
        (PLAN + "consistency: {api_key_env: NO_SUCH_VARIABLE_HERE}\n", [], "NO_SUCH_VARIABLE_HERE"),
        (PLAN, ["--dry-run", "--format", "json"], "--dry-run"),
        (PLAN, ["--dry-run", "--output", "x"], "--dry-run"),
    ],
)
def test_what_cannot_be_planned_is_2(
    plan: str, more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*files(tmp_path, plan), *more]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""


def test_the_schemas_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bring-up", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "ascendctl bring-up plan"
    assert run(["bring-up", "--report-schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


# Exit codes -----------------------------------------------------------------------------------------------


def a_run(*steps: tuple[Course, int | None], interrupted: bool = False) -> BringUpRun:
    import datetime as dt

    made = tuple(
        StepRun(step, course, None if code is None else ExitCode(code), ("why",))
        for step, (course, code) in zip(Step, steps, strict=True)
    )
    return BringUpRun("demo", dt.datetime.now(dt.timezone.utc), 1.0, made, interrupted)


LEFT = (Course.LEFT_OUT, None)
AFTER = (Course.NOT_REACHED, None)


@pytest.mark.parametrize(
    ("steps", "interrupted", "code", "head"),
    [
        ([LEFT, LEFT, LEFT, LEFT], False, 0, "BROUGHT UP."),
        ([LEFT, (Course.STOPPED, 3), AFTER, AFTER], False, 3, "STOPPED at serve."),
        ([LEFT, (Course.STOPPED, 4), AFTER, AFTER], False, 4, "STOPPED at serve."),
        ([(Course.STOPPED, 1), AFTER, AFTER, AFTER], True, 130, "INTERRUPTED at verify."),
        ([LEFT, LEFT, LEFT, AFTER], False, 3, "BROUGHT UP, NOT WHOLLY PROVEN."),
        ([LEFT, LEFT, LEFT, AFTER], True, 130, "INTERRUPTED."),
        ([LEFT, (Course.STOPPED, 0), AFTER, AFTER], False, 3, "STOPPED at serve."),
        ([LEFT, LEFT, (Course.STOPPED, 2), AFTER], False, 2, "STOPPED at join."),
    ],
)
def test_the_exit_code_of_all_steps(
    steps: Sequence[tuple[Course, int | None]], interrupted: bool, code: int, head: str
) -> None:
    made = a_run(*steps, interrupted=interrupted)
    assert made.exit_code == code
    assert closing_line(made).startswith(head)
