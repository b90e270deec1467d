"""From hosts to instances that answer the same, for real: `ascendctl netloader` and `consistency-test` drive
vLLM over OpenSSH; then every way for it to go wrong, each failing for its own stated reason.

One seed is shared, and killed in the last test. Joiners' folders hold no weights unless a test says so.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("vllm", reason="these tests start vLLM itself: make test-e2e")

from ascendctl.results import ExitCode
from tests.consistency.scripted import Script, Scripted
from tests.e2e import ssh_site
from tests.e2e.ssh_site import Answer, Site, lay_out, listening, within
from tests.e2e.test_consistency_vllm import CHAT_TEMPLATE, HIGHEST_MANTISSA_BIT, PROMPTS, corrupted
from tests.e2e.vllm_server import ENGINE_ARGUMENTS, READY_TIMEOUT_S
from tests.openssh import why_not

if TYPE_CHECKING:
    from tests.e2e.models import Model

if not os.environ.get("E2E_CONTROL") and ssh_site.why_not():
    pytest.skip(f"{ssh_site.why_not()}", allow_module_level=True)
if why_not():
    pytest.skip(f"{why_not()}", allow_module_level=True)

MODEL = "models/tiny"  # below every host's HOME: the same text, another folder
TOKEN = "what-both-ends-of-a-transfer-hold"
SECRET = "what-the-environment-holds"
# A transfer of the model takes long enough to be caught in the middle.
LOADER = {"BANDWIDTH_MIB_S": 0.5, "CHUNK_MIB": 1}
LAUNCHER = f"{shlex.quote(sys.executable)} -m vllm.entrypoints.openai.api_server --model"
SERVING = [
    "--engine",
    "ascendctl",
    "--launcher",
    LAUNCHER,
    "--bind",
    "address",
    "--served-model-name",
    "tiny",
]
SERVING += ["--dtype", "bfloat16", "--enforce-eager", *(f"--engine-arg={one}" for one in ENGINE_ARGUMENTS)]
SHARED = [*SERVING, "--config-file", "loader.json", "--token-file", "join.token"]
JOINERS = ("join-a", "join-b")


@dataclass(frozen=True)
class Bench:
    """The site and the ports of its instances: the hosts share one machine, so they see each other's."""

    site: Site
    seed_ports: tuple[str, ...]
    joiner_ports: tuple[str, ...]
    spare_port: int

    def netloader(self, verb: str, *words: str, control: str = "control") -> Answer:
        return self.site.run("netloader", verb, *self._given(verb), *words, control=control)

    def start(self, verb: str, *words: str) -> Any:
        """Under way; `finish` waits for it."""
        return self.site.start("netloader", verb, *self._given(verb), *words)

    def finish(self, call: Any) -> Answer:
        return self.site.finished(call)

    def stop(self, name: str, *hosts: str) -> str:
        """Ends a deployment on these hosts, and asserts that nothing of it is left."""
        answer = self.netloader("stop", name, "--hosts", ",".join(hosts))
        assert answer.code == ExitCode.OK, answer.text
        assert self.site.nothing_runs(*hosts), [self.site.processes(host) for host in hosts]
        assert not [host for host in hosts if (self.site.deployments(host) / name).exists()]
        return answer.out

    def _given(self, verb: str) -> list[str]:
        given = ["--inventory", "inventory.yaml"]
        if verb in ("serve", "join"):
            given += [
                "--env-file",
                "engine.env",
                "--ready-timeout",
                f"{READY_TIMEOUT_S:g}",
                "--format",
                "json",
            ]
        return given + (["--format", "json"] if verb == "status" else [])


@pytest.fixture(scope="module")
def bench(model: Callable[[str], Model], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("site")
    llama = model("llama")
    with Site(folder, ["seed", *JOINERS, "stale", "fresh"], apart=["lost"]) as site:
        flipped = corrupted(llama.full, folder / "flipped", HIGHEST_MANTISSA_BIT, tensors=1)
        sources = {"seed": llama.full, "stale": flipped}
        for host in site.names:
            home = site.home(host)
            lay_out(sources.get(host, llama.bare), home / MODEL)
            (home / MODEL / "chat_template.jinja").write_text(CHAT_TEMPLATE)
            (home / "loader.json").write_text(json.dumps(LOADER))
            (home / "join.token").write_text(TOKEN)
            (home / "join.token").chmod(0o600)
        with (site.control("control") / "engine.env").open("a") as variables:
            variables.write(f"SOME_API_KEY={SECRET}\n")
        ports = [str(port) for port in site.free_ports(5)]
        yield Bench(
            site,
            ("--port", ports[0], "--listen-port", ports[1]),
            ("--port", ports[2], "--listen-port", ports[3]),
            int(ports[4]),
        )


@pytest.fixture(scope="module")
def seed(bench: Bench) -> dict[str, Any]:
    """What `serve` says of the seed, once it is ready."""
    answer = _serve(bench)
    assert answer.code == ExitCode.OK, answer.text
    one = answer.instance("seed.1")
    assert (one["end"], one["ran_already"], one["proof"]) == ("ready", False, "not wanted"), answer.text
    assert one["serves"] == [f"{bench.site.address('seed')}:{bench.seed_ports[-1]}"]
    return one


@pytest.fixture(autouse=True)
def _next_to_the_seed(bench: Bench) -> Iterator[None]:
    """What a test that failed has left runs no longer: the next one wants its ports."""
    yield
    bench.site.clear(*(host for host in bench.site.names if host != "seed"))


def _serve(bench: Bench) -> Answer:
    return bench.netloader(
        "serve", "--hosts", "seed", "--name", "tiny", "--model", MODEL, *SHARED, *bench.seed_ports
    )


# What is seen before, or at the start, of an engine -----------------------------------------------------


def test_a_wrong_model_string_and_a_busy_port(bench: Bench) -> None:
    port = bench.seed_ports[1]
    wrong = ["--hosts", "fresh", "--name", "wrong", "--model", f"{MODEL}/none-such", *SERVING]
    wrong += bench.joiner_ports
    busy = ["--hosts", "stale", "--name", "busy", "--model", MODEL, *SERVING, *bench.seed_ports]
    with listening(bench.site.address("stale"), int(port)):
        for words, check, said in (
            (wrong, "engine-model", f"the model {MODEL}/none-such: it is not there"),
            (busy, "engine-ports", f"port {port}, its API (stale.1): process {os.getpid()} "),
        ):
            answer = bench.netloader("serve", *words)
            assert answer.code == ExitCode.FOUND_WRONG, answer.text
            report = answer.json
            assert report["gated"] is True, answer.text
            (cell,) = [cell for cell in report["preflight"] if cell["status"] == "fail"]
            assert cell["check"] == check and said in cell["message"], cell
            assert [one["end"] for one in report["instances"]] == ["not started"]
        assert not bench.site.deployments("fresh").exists(), "something was written before the gate"

        calls = [bench.start("serve", *words, "--no-gate") for words in (wrong, busy)]
        by_model, by_port = (bench.finish(call) for call in calls)
    for answer, name, what, line in (
        (by_model, "fresh.1", "--model is not what this host or the source knows it by", "none-such"),
        (by_port, "stale.1", "a port is taken by another process", "Address already in use"),
    ):
        assert answer.code == ExitCode.FOUND_WRONG, answer.text
        one = answer.instance(name)
        assert one["end"] == "failed" and what in one["reason"], answer.text
        assert any(line in text for text in one["lines"]), answer.text
    assert "did not run any more" in bench.stop("wrong", "fresh")
    assert "did not run any more" in bench.stop("busy", "stale")


# The whole way ------------------------------------------------------------------------------------------


def test_two_joiners_without_weights_answer_as_their_seed(bench: Bench, seed: dict[str, Any]) -> None:
    site = bench.site
    assert not [file for host in JOINERS for file in (site.home(host) / MODEL).glob("*.safetensors")]
    words = ["--hosts", ",".join(JOINERS), "--from", "tiny", *bench.joiner_ports]
    answer = bench.netloader("join", *words)
    assert answer.code == ExitCode.OK, answer.text
    for host in JOINERS:
        one = answer.instance(f"{host}.1")
        assert (one["end"], one["proof"]) == ("ready", "verified"), answer.text
        assert [(rank["came"], rank["verified"]) for rank in one["weights"]] == [("p2p", True)]
        # In a chain the second may have been sent to the first.
        givers = [
            seed["serves"][0],
            *(f"{site.address(other)}:{bench.joiner_ports[-1]}" for other in JOINERS),
        ]
        assert one["weights"][0]["source"] in givers, answer.text
    assert {rank["source"] for one in answer.json["instances"] for rank in one["weights"]} & {*seed["serves"]}

    compared = _compared(bench, seed["url"], *(answer.instance(f"{host}.1")["url"] for host in JOINERS))
    assert compared.code == ExitCode.OK, compared.text
    assert [one["verdict"] for one in compared.json["candidates"]] == ["identical", "identical"]
    assert [one["floor"] for one in compared.json["noise"]] == [0], compared.text

    before = bench.netloader("status", "tiny")
    assert before.code == ExitCode.OK, before.text
    again = _serve(bench)
    assert again.code == ExitCode.OK, again.text
    assert again.instance("seed.1")["ran_already"] is True
    otherwise = bench.netloader(
        "serve", "--hosts", "seed", "--name", "tiny", "--model", MODEL, *SERVING, *bench.seed_ports
    )
    assert otherwise.code == ExitCode.USAGE and "runs already, otherwise" in otherwise.err, otherwise.text

    after = bench.netloader("status", control="second")
    assert after.code == ExitCode.OK, after.text
    assert _standing(after) == _standing(before)
    assert _standing(after).keys() == {"seed.1", *(f"{host}.1" for host in JOINERS)}
    assert all(processes for _, _, _, processes in _standing(after).values())

    _nothing_secret_was_shown(bench)
    ended = bench.stop("tiny", *JOINERS)
    assert ended.count("its folder is gone") == 2, ended
    assert _standing(bench.netloader("status")).keys() == {"seed.1"}, "the seed went with its joiners"


def _compared(bench: Bench, reference: str, *candidates: str, prompts: Any = PROMPTS) -> Answer:
    path = bench.site.folder / "prompts.json"
    path.write_text(json.dumps(prompts))
    named = [word for url in candidates for word in ("--candidate", url)]
    asked = ["--prompts", str(path), "--max-tokens", "16", "--format", "json"]
    return bench.site.run("consistency-test", "--reference", reference, *named, *asked)


def _standing(answer: Answer) -> dict[str, tuple[str, bool, str, tuple[int, ...]]]:
    """By instance what does not change while it runs."""
    found = answer.json["instances"]
    return {one["name"]: (one["life"], one["ready"], one["proof"], tuple(one["processes"])) for one in found}


def _nothing_secret_was_shown(bench: Bench) -> None:
    """Not in what was printed, in process lists and in logs; the files that have to hold it are private."""
    site = bench.site
    texts = [*site.printed, *(words for host in site.names for words in site.processes(host).values())]
    for host in ("seed", *JOINERS):
        (folder,) = (site.deployments(host) / "tiny").iterdir()
        texts += [path.read_text(errors="replace") for path in folder.glob("log*")]
        assert folder.stat().st_mode & 0o777 == 0o700
        private = [folder / name for name in ("plan.json", "run.sh", "state.json", "log")]
        assert [path.stat().st_mode & 0o777 for path in private] == [0o600] * 4
        assert SECRET in (folder / "run.sh").read_text(), "the variable went nowhere"
    assert not [text for text in texts if TOKEN in text or SECRET in text]


# What may not pass for it -------------------------------------------------------------------------------


def test_dead_sources_and_a_flipped_weight(bench: Bench, seed: dict[str, Any]) -> None:
    """A joiner whose sources are dead reads its disk, where one bit of the weights is another."""
    dead = f"{bench.site.address('seed')}:{bench.spare_port}"
    words = ["--hosts", "stale", "--from", "alone", "--source", dead, "--model", MODEL, *SERVING]
    words += bench.joiner_ports
    answer = bench.netloader("join", *words)
    assert answer.code == ExitCode.FOUND_WRONG, answer.text
    one = answer.instance("stale.1")
    assert (one["end"], one["proof"]) == ("ready", "fell back to disk"), answer.text
    assert [rank["came"] for rank in one["weights"]] == ["disk"]
    assert f"cannot connect to {dead}" in one["weights"][0]["reason"], answer.text

    allowed = bench.netloader("join", *words, "--allow-fallback")
    assert allowed.code == ExitCode.OK, allowed.text
    assert allowed.instance("stale.1")["proof"] == "fell back to disk"

    compared = _compared(bench, seed["url"], one["url"])
    assert compared.code == ExitCode.FOUND_WRONG, compared.text
    assert [one["verdict"] for one in compared.json["candidates"]] == ["different"]
    assert [one["floor"] for one in compared.json["noise"]] == [0], "the reference was blamed"
    bench.stop("alone", "stale")


def test_a_reference_that_does_not_repeat_itself(bench: Bench) -> None:
    """Servers of the test's own, since vLLM at temperature 0 does."""
    texts = [{"id": word, "text": f"The word is {word}, and"} for word in ("alpha", "bravo")]
    good = Script()
    noisy = replace(good, noise=0.004, ties=frozenset({2}))
    for script, candidate, code, status, verdict in (
        (replace(good, sampling=True), good, ExitCode.NOT_ENOUGH, "unknown", "not proven"),
        (noisy, noisy, ExitCode.OK, "warn", "numerically close"),
    ):
        with Scripted(script) as reference, Scripted(candidate) as other:
            answer = _compared(bench, reference.url, other.url, prompts=texts)
        assert answer.code == code, answer.text
        cells = {(one["check"], one["subject"]["host"]): one for one in answer.json["results"]}
        cell = cells["deterministic", reference.name]
        assert cell["status"] == status and "the reference does not repeat itself" in cell["message"], cell
        assert [one["verdict"] for one in answer.json["candidates"]] == [verdict], answer.text
        assert "fail" not in {one["status"] for one in answer.json["results"]}, "the candidate was blamed"


def test_a_host_that_is_lost_between_serve_and_join(bench: Bench, seed: dict[str, Any]) -> None:
    bench.site.cut_off("lost")
    answer = bench.netloader("join", "--hosts", "lost,fresh", "--from", "tiny", *bench.joiner_ports)
    assert answer.code == ExitCode.NOT_ENOUGH, answer.text
    lost, other = answer.instance("lost.1"), answer.instance("fresh.1")
    assert lost["end"] == "host not reached" and "could not be asked" in lost["reason"], answer.text
    assert (other["end"], other["proof"]) == ("ready", "verified"), answer.text
    assert other["weights"][0]["source"] == seed["serves"][0], answer.text
    (cell,) = [
        one for one in answer.json["preflight"] if one["check"] == "reachable" and one["status"] != "pass"
    ]
    assert (cell["subject"]["host"], cell["status"]) == ("lost", "unknown"), cell
    status = bench.netloader("status", "tiny")
    assert status.code == ExitCode.NOT_ENOUGH, status.text
    assert [one["host"] for one in status.json["unasked"]] == ["lost"]
    bench.stop("tiny", "fresh")


def test_a_seed_that_is_killed_while_it_sends(bench: Bench, seed: dict[str, Any]) -> None:
    """By way of --source, so that the joiner has no other; the last test, since the seed is gone then."""
    site = bench.site
    (instance,) = (site.deployments("seed") / "tiny").iterdir()

    def sent() -> int:
        return int(json.loads((instance / "status-0.json").read_text())["served"]["bytes"])

    before = sent()
    words = ["--hosts", "join-a", "--from", "orphan", "--source", seed["serves"][0], "--model", MODEL]
    call = bench.start("join", *words, *SERVING, "--token-file", "join.token", *bench.joiner_ports)
    caught = within(READY_TIMEOUT_S, lambda: sent() > before or call.poll() is not None)
    os.killpg(json.loads((instance / "state.json").read_text())["pid"], signal.SIGKILL)
    answer = bench.finish(call)
    assert caught, "nothing was sent in time: " + answer.text
    assert site.nothing_runs("seed"), site.processes("seed")

    assert answer.code == ExitCode.FOUND_WRONG, answer.text
    one = answer.instance("join-a.1")
    assert one["end"] == "failed", answer.text
    assert "the model's folder holds no weights" in one["reason"], answer.text
    assert one["proof"] == "fell back to disk", answer.text
    assert seed["serves"][0] in one["weights"][0]["reason"], answer.text

    status = bench.netloader("status", "--hosts", "seed,join-a")
    assert status.code == ExitCode.FOUND_WRONG, status.text
    assert {name: life for name, (life, *_) in _standing(status).items()} == {
        "seed.1": "ended",
        "join-a.1": "ended",
    }
    assert "did not run any more" in bench.stop("orphan", "join-a")
    assert "did not run any more" in bench.stop("tiny", "seed")
    for host in site.names:
        assert not list(site.deployments(host).glob("*")), host
        assert not site.processes(host)
