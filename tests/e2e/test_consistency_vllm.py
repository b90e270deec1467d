"""`ascendctl consistency-test` between real vLLM servers: the same weights, and weights with flipped bits."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ascendctl.cli import run
from ascendctl.results import ExitCode
from tests.e2e.conftest import Servers
from tests.e2e.vllm_server import VllmServer

if TYPE_CHECKING:
    from tests.e2e.models import Model

LOWEST_BIT = 0
HIGHEST_MANTISSA_BIT = 6  # of bfloat16's seven
CHAT_TEMPLATE = "{% for one in messages %}<{{ one.role }}>{{ one.content }}{% endfor %}<assistant>"

# The built-in prompts in short: the byte tokenizer makes a token of every byte, and the model takes 256.
PROMPTS = [
    {"id": "en", "text": "The harbour was quiet that morning, and the first thing the pilot noticed was"},
    {"id": "zh", "text": "早晨的机房里，空调的声音比往常更响。"},
    {"id": "ru", "text": "Если соединение разорвано, необходимо"},
    {"id": "ar", "text": "في آخر السوق دكان صغير"},
    {"id": "code", "text": "def ring_order(ranks: list[int], start: int) -> list[int]:\n"},
    {"id": "json", "text": '{"host": "node07", "devices": [{"id": 0, "state":'},
    {"id": "digits", "text": "17 * 23 = 391\n19 * 24 = 456\n21 * 27 = 567\n26 * 31 ="},
    {"id": "one-byte", "text": "A"},
    {"id": "repetition", "text": "tick tock tick tock tick tock tick tock tick"},
    {"id": "long", "row": "rack {code}: fine, row {n}", "rows": 8, "tail": "\nSo"},
    {"id": "chat", "messages": [{"role": "user", "content": "Name a river."}]},
    {
        "id": "chat-zh",
        "messages": [{"role": "system", "content": "简短"}, {"role": "user", "content": "你好"}],
    },
]


@pytest.fixture(scope="module")
def fleet(
    servers: Servers, model: Callable[[str], Model], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, VllmServer]]:
    """A reference and three candidates on its weights: the same, one low bit flipped, several high bits."""
    folder = tmp_path_factory.mktemp("weights")
    full = folder / "full"
    shutil.copytree(model("llama").full, full)
    (full / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    flipped = {
        "low-bit": corrupted(full, folder / "low", LOWEST_BIT, tensors=1),
        "high-bits": corrupted(full, folder / "high", HIGHEST_MANTISSA_BIT, tensors=3),
    }
    folders = {"reference": full, "same": full, **flipped}
    started = {
        name: servers.plain(name, of, f"127.0.0.{number}")
        for number, (name, of) in enumerate(folders.items(), 51)
    }
    yield {name: server.wait_ready() for name, server in started.items()}
    for server in started.values():
        server.stop()


def corrupted(full: Path, target: Path, bit: int, *, tensors: int) -> Path:
    """A copy of a model folder with one bit flipped in one bfloat16 value of each of so many tensors."""
    shutil.copytree(full, target)
    file = target / "model.safetensors"
    content = bytearray(file.read_bytes())
    # safetensors: the header's length in 8 bytes, the header, then the tensors by offset.
    (length,) = struct.unpack("<Q", content[:8])
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    names = sorted(name for name in header if name.endswith("down_proj.weight"))[:tensors]
    assert len(names) == tensors
    for name in names:
        at = 8 + length + header[name]["data_offsets"][0] + 2 * 1_234
        (value,) = struct.unpack_from("<H", content, at)
        struct.pack_into("<H", content, at, value ^ (1 << bit))
    file.write_bytes(content)
    return target


def test_the_same_weights_are_identical_and_flipped_bits_are_found(
    fleet: dict[str, VllmServer], tmp_path: Path
) -> None:
    (tmp_path / "prompts.json").write_text(json.dumps(PROMPTS))
    asked = ["consistency-test", "--prompts", str(tmp_path / "prompts.json"), "--max-tokens", "16", "--quiet"]
    asked += ["--reference", fleet["reference"].url, "--concurrency", "3"]

    alone = tmp_path / "alone"
    assert run([*asked, "--candidate", fleet["same"].url, "--output", str(alone)]) == ExitCode.OK
    (candidate,) = report(alone)["candidates"]
    assert candidate["verdict"] == "identical"
    assert not candidate["text_alone"]
    rounds = [one["round"] for one in candidate["prompts"] if one["outcome"] == "identical"]
    assert rounds == ["alone"] * len(PROMPTS) + ["together"] * len(PROMPTS)

    against = tmp_path / "against"
    names = ("same", "low-bit", "high-bits")
    candidates = [part for name in names for part in ("--candidate", fleet[name].url)]
    assert run([*asked, *candidates, "--output", str(against)]) == ExitCode.FOUND_WRONG
    found = report(against)
    by_name = dict(zip(names, found["candidates"], strict=True))
    assert {name: one["verdict"] for name, one in by_name.items()} == {
        "same": "identical",
        "low-bit": "different",
        "high-bits": "different",
    }
    # What a comparison of texts would have said of a single flipped bit: most answers are the same tokens.
    low = [one for one in by_name["low-bit"]["prompts"] if one["outcome"] == "different"]
    assert any(one["divergence"] is None for one in low)
    assert all(one["floor"] == 0 for one in found["noise"])
    assert found["reference"]["setup"]["vLLM"].startswith("0.")
    assert {"logprobs", "prompt_logprobs", "cache_salt"} <= set(found["reference"]["features"])


def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "consistency.json").read_text())
    return content
