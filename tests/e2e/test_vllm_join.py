"""Real vLLM on CPU: engines that get their weights from another engine, and what happens when they cannot.

The joiners' model folders hold no weights, so whatever they answer with came over the wire. "Equal" is exact:
tokens, log-probabilities and prompt log-probabilities as the JSON holds them.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import PROMPTS, Servers
from tests.e2e.vllm_server import ServerEnded, VllmServer, free_port

if TYPE_CHECKING:
    from tests.e2e.models import Model

pytest.importorskip("vllm", reason="these tests start vLLM itself: make test-e2e")

FAULTS = Path(__file__).parent / "faults"
TOKEN = "a token of these tests, and of nothing else"
# Each server has an address of its own, so that one that listens too widely would be seen to clash.
PLAIN, SEED, JOINER, THIRD = "127.0.0.11", "127.0.0.12", "127.0.0.13", "127.0.0.14"

ModelOf = Callable[[str], "Model"]
Prompts = Sequence[Sequence[int]]


# Equal answers ------------------------------------------------------------------------------------------


def test_llama_from_a_seed(
    servers: Servers, llama_seed: VllmServer, model: ModelOf, prompts: Prompts
) -> None:
    """Plain vLLM from disk, the seed, and a joiner answer alike; the format `netloader` is ours here."""
    folder = servers.folder / "counters"
    folder.mkdir()
    plain = servers.plain("plain", model("llama").full, PLAIN)
    joiner = servers.engine(
        "llama-joiner",
        model("llama").bare,
        JOINER,
        {"SOURCE": _sources(llama_seed), "FALLBACK": "error"},
        load_format="netloader",
        # By default vLLM kills its workers, and nothing can be removed then.
        arguments=["--shutdown-timeout", "60"],
        environment={"PROMETHEUS_MULTIPROC_DIR": str(folder)},
    )
    with plain, joiner:
        expected, *others = _side_by_side(prompts, plain, llama_seed, joiner)
        assert len({str(answer) for answer in expected}) == PROMPTS
        assert others == [expected, expected]

        seed_weights = _status(servers, "llama-seed")["weights"]
        assert seed_weights["from"] == "disk"
        assert _received(servers, "llama-joiner", model("llama"), llama_seed) == seed_weights["content_id"]
        counter = r'^ascendctl_netloader_bytes_total\{.*"received".*\} (\S+)$'
        found = re.search(counter, joiner.metrics(), re.MULTILINE)
        assert found is not None and float(found[1]) == seed_weights["bytes"]

        listener = _status(servers, "llama-joiner")["listener"]
        assert listener["address"] == JOINER and listener["accepting"] is True
        written = (servers.folder / "llama-joiner.0.txt").read_text()
        assert written == f"{JOINER}:{listener['port']}"
    assert not list(servers.folder.glob("llama-joiner.0.*")), "a status file outlived its engine"


def test_tied_embeddings_from_a_joiner(
    servers: Servers, model: ModelOf, prompts: Prompts, token: Path
) -> None:
    """Seed, joiner, and a joiner of the joiner, all with the same TOKEN_FILE."""
    common = {"TOKEN_FILE": str(token), "FALLBACK": "error"}
    bare = model("tied").bare
    with servers.engine("tied-seed", model("tied").full, SEED, {**common, **_listening()}) as seed:
        extra = {**common, **_listening(), "SOURCE": _sources(seed)}
        with servers.engine("tied-first", bare, JOINER, extra) as first:
            expected = _answers(seed, prompts)
            second = servers.engine("tied-second", bare, THIRD, {**common, "SOURCE": _sources(first)})
            assert _answers(first, prompts) == expected
            with second:
                assert _answers(second, prompts) == expected
                _received(servers, "tied-first", model("tied"), seed)
                _received(servers, "tied-second", model("tied"), first)
                assert _status(servers, "tied-first")["listener"]["open"] is False
                for server in (seed, first, second):
                    assert TOKEN not in server.text()


def test_experts_in_a_chain(servers: Servers, model: ModelOf, prompts: Prompts) -> None:
    """A small MoE; of two joiners at once, one may get its weights from the other while that receives."""
    with servers.engine("moe-seed", model("moe").full, SEED, {"CHAIN": True, **_listening()}) as seed:
        extra = {"SOURCE": _sources(seed), "FALLBACK": "error", "CHAIN": True}
        first = servers.engine("moe-first", model("moe").bare, JOINER, extra)
        second = servers.engine("moe-second", model("moe").bare, THIRD, extra)
        expected = _answers(seed, prompts)
        with first, second:
            assert _side_by_side(prompts, first, second) == [expected, expected]
            for name in ("moe-first", "moe-second"):
                weights = _status(servers, name)["weights"]
                assert (weights["from"], weights["verified"]) == ("p2p", True)
                assert weights["content_id"] == _status(servers, "moe-seed")["weights"]["content_id"]


def test_two_ranks(servers: Servers, model: ModelOf, prompts: Prompts) -> None:
    """Tensor parallelism of 2: each rank gets its own part from the same rank of the seed. Where one rank
    finds no source, the other drops what it got, and both read the disk."""
    both = {"tensor_parallel": 2}
    with servers.engine("tp-seed", model("llama").full, SEED, _listening(ranks=2), **both) as seed:
        live = _sources(seed, ranks=2)
        half = [live[0], {"device_id": 1, "sources": [f"{SEED}:{free_port(SEED)}"]}]
        extra = {"SOURCE": live, "FALLBACK": "error"}
        joiner = servers.engine("tp-joiner", model("llama").bare, JOINER, extra, **both)
        extra = {"SOURCE": half, "FALLBACK": "disk"}
        mixed = servers.engine("tp-mixed", model("llama").full, THIRD, extra, **both)
        with joiner:
            expected, answers = _side_by_side(prompts, seed, joiner)
            assert answers == expected
            contents = set()
            for rank in (0, 1):
                weights = _status(servers, "tp-joiner", rank)["weights"]
                assert (weights["from"], weights["verified"]) == ("p2p", True)
                assert weights["source"] == f"{SEED}:{_base(seed) + rank}"
                assert weights["content_id"] == _status(servers, "tp-seed", rank)["weights"]["content_id"]
                contents.add(weights["content_id"])
                assert weights["origin"] is not None
                assert weights["origin"] == _status(servers, "tp-seed", 1 - rank)["weights"]["origin"]
            assert len(contents) == 2, "both ranks hold the same part"
        with mixed:
            ranks = [_status(servers, "tp-mixed", rank) for rank in (0, 1)]
            assert [status["weights"]["from"] for status in ranks] == ["disk", "disk"]
            assert ranks[0]["fallback"]["reason"].startswith("rank 1 of this engine has none: ")
            assert "cannot connect to" in ranks[1]["fallback"]["reason"]
            # The same files, read by another engine: as good a source of any rank.
            origins = {status["weights"]["origin"] for status in (*ranks, _status(servers, "tp-seed"))}
            assert len(origins) == 1 and None not in origins
            assert _answers(mixed, prompts[:10]) == expected[:10]


def test_draft_model(servers: Servers, model: ModelOf, prompts: Prompts) -> None:
    """Speculative decoding: the draft model has a listener of its own, which joiners need not know."""
    base = _listening(above=10_000)

    def arguments(folder: Path) -> list[str]:
        draft = {"method": "draft_model", "model": str(folder), "num_speculative_tokens": 2}
        return ["--speculative-config", json.dumps(draft)]

    full, bare = ({"arguments": arguments(folder)} for folder in (model("tied").full, model("tied").bare))
    with servers.engine("draft-seed", model("llama").full, SEED, base, **full) as seed:
        extra = {"SOURCE": _sources(seed), "FALLBACK": "error"}
        with servers.engine("draft-joiner", model("llama").bare, JOINER, extra, **bare) as joiner:
            expected, answers = _side_by_side(prompts, seed, joiner)
            assert answers == expected
            draft = json.loads((servers.folder / "draft-joiner.0.draft.json").read_text())
            assert draft["weights"]["from"] == "p2p" and draft["weights"]["verified"] is True
            assert draft["weights"]["source"] == f"{SEED}:{_base(seed) + 10_000}"
            assert draft["weights"]["content_id"] != _received(servers, "draft-joiner", model("llama"), seed)


# Faults -------------------------------------------------------------------------------------------------


def test_faulty_transfers(servers: Servers, llama_seed: VllmServer, model: ModelOf, prompts: Prompts) -> None:
    """One bit turned on the way, and a dead source, under either FALLBACK: never served, always said.

    Joiners start together, first those that are to fail: most of the time is vLLM's own start.
    """
    live = _sources(llama_seed)
    dead = [{"device_id": 0, "sources": [f"{SEED}:{free_port(SEED)}"]}]
    bare, full = model("llama").bare, model("llama").full
    path = os.pathsep.join([str(FAULTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    always, once = ({"PYTHONPATH": path, "E2E_FLIP": mode} for mode in ("always", "once"))
    or_error = {"SOURCE": live, "FALLBACK": "error"}
    or_disk = {"SOURCE": live, "FALLBACK": "disk"}
    flip_error = servers.engine("flip-error", bare, "127.0.0.21", or_error, environment=always)
    flip_disk = servers.engine("flip-disk", bare, "127.0.0.22", or_disk, environment=always)
    dead_error = servers.engine("dead-error", bare, "127.0.0.25", {**or_error, "SOURCE": dead})

    for server in (flip_error, flip_disk):
        log = _ended(server)
        assert log.count("E2E_FLIP: one bit") >= 2, "the second try was not spoiled"
        assert "arrived with other bytes than the manifest's digest" in log
    assert "FALLBACK is error" in flip_error.text()
    assert "none from disk" in flip_disk.text() and "Cannot find any model weights" in flip_disk.text()
    assert "FALLBACK is error" in _ended(dead_error) and "cannot connect to" in dead_error.text()

    flip_once = servers.engine("flip-once", bare, "127.0.0.23", or_error, environment=once)
    dead_disk = servers.engine("dead-disk", full, "127.0.0.24", {**or_disk, "SOURCE": dead})

    with flip_once, dead_disk:
        expected, *others = _side_by_side(prompts[:20], llama_seed, flip_once, dead_disk)
        assert others == [expected, expected]
        assert flip_once.text().count("E2E_FLIP: one bit") == 1
        _received(servers, "flip-once", model("llama"), llama_seed)
        assert [attempt["phase"] for attempt in _status(servers, "flip-once")["attempts"]] == ["digest"]

        status = _status(servers, "dead-disk")
        assert status["weights"]["from"] == "disk" and status["weights"]["source"] is None
        assert "cannot connect to" in status["fallback"]["reason"]
        assert [attempt["phase"] for attempt in status["attempts"]] == ["connect"]
        assert status["serving"]["serving"] is True
        assert re.search(r"WARNING .*fallback=disk rank=0", dead_disk.text())


def test_seed_that_sleeps_and_changes(servers: Servers, model: ModelOf) -> None:
    """A send under way is aborted when the seed sleeps; it is served again once the weights were compared,
    and never again after a reload. (vLLM's CPU workers take the call and keep their memory.)"""
    # At this rate 3.7 MB take long enough to be caught in the middle.
    slow = {**_listening(), "BANDWIDTH_MIB_S": 0.25}
    development = {"VLLM_SERVER_DEV_MODE": "1"}
    bare = model("llama").bare
    with servers.engine("slow-seed", model("llama").full, SEED, slow, environment=development) as seed:
        extra = {"SOURCE": _sources(seed), "FALLBACK": "error"}
        caught = servers.engine("caught", bare, JOINER, extra)
        _until(lambda: _status(servers, "slow-seed")["served"]["bytes"] > 0, caught)
        seed.post("/collective_rpc", {"method": "sleep"})
        assert _status(servers, "slow-seed")["serving"] == {"serving": False, "reason": "sleep mode"}
        log = _ended(caught)
        assert "FALLBACK is error" in log and "sleep mode" in log
        assert _status(servers, "slow-seed")["served"]["joiners"] == 0

        seed.post("/collective_rpc", {"method": "wake_up"})
        status = _status(servers, "slow-seed")
        assert status["serving"] == {"serving": True, "reason": None} and status["weight_version"] == 1
        with servers.engine("after-sleep", bare, JOINER, extra):
            _received(servers, "after-sleep", model("llama"), seed)

        seed.post("/collective_rpc", {"method": "reload_weights"})
        serving = _status(servers, "slow-seed")["serving"]
        assert serving == {"serving": False, "reason": "a reload of the weights"}
        # No engine is needed to hear the answer: a JOIN as vllm-ascend's second generation sends it.
        join = {"device_id": 0, "model_path": str(seed.model), "tp": 1, "pp": 1, "port": free_port(JOINER)}
        join["group_name"] = "netloader"
        answer = _asked(SEED, _base(seed), {"label": "JOIN", "content": join})
        assert "JOIN_NACK" in answer and "a reload of the weights" in answer


# What the tests above ask -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama_seed(servers: Servers, model: ModelOf) -> VllmServer:
    """Loaded from disk by our loader; listens at its base port."""
    extra = _listening()
    seed = servers.engine("llama-seed", model("llama").full, SEED, extra, load_format="netloader")
    return seed.wait_ready()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    return path


def _listening(ranks: int = 1, above: int = 0) -> dict[str, object]:
    """A LISTEN_PORT whose ports for all ranks are free on every address used here, and so many more exist."""
    while True:
        base = free_port(SEED)
        if base + above + ranks < 65_000 and all(map(_is_free, range(base, base + ranks))):
            return {"LISTEN_PORT": base}


def _is_free(port: int) -> bool:
    try:
        for host in (SEED, JOINER, THIRD):
            with socket.socket() as probe:
                probe.bind((host, port))
    except OSError:
        return False
    return True


def _base(server: VllmServer) -> int:
    assert server.extra_config is not None
    return int(str(server.extra_config["LISTEN_PORT"]))


def _sources(server: VllmServer, ranks: int = 1) -> list[dict[str, object]]:
    return [
        {"device_id": rank, "sources": [f"{server.host}:{_base(server) + rank}"]} for rank in range(ranks)
    ]


def _answers(server: VllmServer, prompts: Prompts) -> list[tuple[object, ...]]:
    """One after the other: what is batched together would depend on the machine's speed."""
    return [server.complete(prompt) for prompt in prompts]


def _side_by_side(prompts: Prompts, *servers: VllmServer) -> list[list[tuple[object, ...]]]:
    """The answers of each; they are asked at the same time, each one prompt after the other."""
    with ThreadPoolExecutor(len(servers)) as pool:
        return list(pool.map(lambda server: _answers(server, prompts), servers))


def _status(servers: Servers, name: str, rank: int = 0) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((servers.folder / f"{name}.{rank}.json").read_text())
    return content


def _received(servers: Servers, name: str, model: Model, source: VllmServer) -> str:
    """Asserts that rank 0 got everything from `source`, verified; returns the content id."""
    status = _status(servers, name)
    weights = status["weights"]
    assert status["state"] == "ready" and status["fallback"] is None, status
    assert (weights["from"], weights["verified"]) == ("p2p", True), weights
    assert weights["source"] == f"{source.host}:{_base(source)}", weights
    # All of the checkpoint's tensors, and the buffers that no checkpoint holds.
    assert weights["bytes"] >= model.weight_bytes * 0.99, weights
    assert {"connect", "join", "group", "wire", "digest", "post-process", "load"} <= set(status["seconds"])
    return str(weights["content_id"])


def _ended(server: VllmServer) -> str:
    """The log of a server that gives up; fails if it comes up instead."""
    with pytest.raises(ServerEnded):
        server.wait_ready()
    assert server.wait_ended() != 0
    return server.text()


def _until(condition: Callable[[], bool], server: VllmServer, timeout_s: float = 600) -> None:
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert server.process is not None and server.process.poll() is None, server.tail()
        assert time.monotonic() < until_s, server.tail()
        time.sleep(0.2)


def _asked(host: str, port: int, message: object) -> str:
    """What a listener answers to one message, until it closes."""
    with socket.create_connection((host, port), timeout=30) as sock:
        sock.sendall(json.dumps(message).encode())
        answer = b""
        while part := sock.recv(4096):
            answer += part
    return answer.decode()
