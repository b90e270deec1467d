"""engine-model: whether the model is there on every host, whole, and the same. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from ascendctl.facts import (
    Reading,
    ReadingStatus,
)
from ascendctl.inventory.nodesets import fold
from ascendctl.netloader.plan import Engine, Instance, Role
from ascendctl.netloader.preflight.facts import (
    ModelFolder,
)
from ascendctl.netloader.preflight.finding import (
    Finding,
    Scene,
    Verdict,
    few,
    folders_of,
    odd_ones,
    size_text,
    theirs,
    unlearned,
)
from ascendctl.netloader.preflight.script import (
    tokenizer_given,
)
from ascendctl.report.printable import shown
from ascendctl.results import Status

# Smaller files hold no weights: Git LFS leaves some 130 bytes in the place of each.
_WEIGHTS_LEAST_BYTES = 512
_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5,6})-of-(?P<count>\d{5,6})(?P<kind>\.\w+)")
# As the Hugging Face hub names models.
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)?")
# Of what was digested, what may differ without making another model of the same weights.
_LESSER = re.compile(
    r"generation_config\.json|preprocessor_config\.json|.*\.index\.json|.*\.py|chat_template.*"
)
_TOKENIZER = re.compile(
    r".*tokenizer.*|tekken\.json|vocab\..*|merges\.txt|special_tokens_map\.json|added_tokens\.json"
    r"|.*\.tiktoken|.*\.model"
)
_CONFIGURATIONS = ("config.json", "params.json")


def model(scene: Scene, host: str) -> Verdict:
    facts, found, reasons, goods = scene.facts[host], [], [], []
    for name in dict.fromkeys(one.serving.model for one in scene.on(host)):
        users = [one for one in scene.on(host) if one.serving.model == name]
        reading = facts.model_of(users[0])
        if reading.value is None:
            found.append(unlearned(f"what is at {shown(name)}", reading))
        elif is_name(scene, name):
            reasons.append(
                f"{shown(name)} is a name and no folder: the engine looks it up in its cache or on the hub, "
                "whose revision and files nothing here tells"
            )
        else:
            found += _folder(scene, users, reading, reading.value)
            goods.append(_good_model(scene, users, reading.value))
    if reasons and not found and not goods:
        return Verdict(not_applicable="; ".join(reasons))
    return Verdict(tuple(found), "; ".join([*goods, *reasons]))


def is_name(scene: Scene, name: str) -> bool:
    """Whether the model is named as on a hub, and is a folder on no host that was asked."""
    kinds = {folder.kind for _, folder in folders_of(scene, name)}
    return kinds <= {"missing"} and _HUB_NAME.fullmatch(name) is not None


def _good_model(scene: Scene, users: Sequence[Instance], folder: ModelFolder) -> str:
    name, host = users[0].serving.model, users[0].host
    others = [at for at, one in folders_of(scene, name) if at != host and one.kind == folder.kind]
    weights = folder.weights
    what = f"{len(weights)} weight files" if weights else "without weights of its own"
    compared = f"as on {fold(others)}" if others else "no other host to compare it with"
    return f"{shown(name)} is there, {what}, {compared}"


def _folder(
    scene: Scene, users: Sequence[Instance], reading: Reading[ModelFolder], folder: ModelFolder
) -> list[Finding]:
    name, host = users[0].serving.model, users[0].host
    facts = scene.facts[host]
    if folder.kind not in ("folder", "file"):
        said = {"missing": "it is not there", "unreadable": "it may not be read"}.get(
            folder.kind, "it is neither a folder nor a file"
        )
        within = " where the engine runs" if facts.entered.command.count("/bin/sh") else ""
        return [
            Finding(
                Status.FAIL,
                f"the model {shown(name)}: {said}{within}",
                "a folder with the model's files",
                folder.kind,
                "The engine ends at once; vLLM takes a path that is not there for a name on the hub.",
                "Put the model there, or mount its folder into the container (`-v PATH:PATH`), under the "
                "same path on every host.",
                reading,
            )
        ]
    found = [*_spoiled(folder, reading)]
    if folder.kind == "folder":
        found += _configuration(users, folder, reading)
        found += _compared(scene, users, folder, reading)
    found += _weights(scene, users, folder, reading)
    return found


def _spoiled(folder: ModelFolder, reading: Reading[ModelFolder]) -> Iterable[Finding]:
    redo = "Copy or download the model again, and compare its files with where it came from."
    if folder.cut:
        yield Finding(
            Status.UNKNOWN,
            f"the folder holds more than {len(folder.sizes)} files, so not all were looked at",
            remedy="Name the folder of the model itself.",
            reading=reading,
        )
    for names, what, remedy in (
        (folder.broken, "are links that lead nowhere", "Download the model again (`hf download`), and mount "
         "the folder that the links lead to, too."),
        (folder.unreadable, "may not be read by the engine's account", "Give the account the right to read."),
        (
            [n for n, size in folder.weights.items() if size is not None and size < _WEIGHTS_LEAST_BYTES],
            "are too small to hold weights (Git LFS leaves such files in their place)",
            redo,
        ),
        (_missing_shards(folder), "of the numbered weight files are missing", redo),
    ):  # fmt: skip
        if names:
            yield Finding(
                Status.FAIL,
                f"{few(names)} {what}",
                "whole files",
                f"{len(names)} of {max(len(folder.sizes), len(names))}",
                "The engine ends while it loads the weights, after minutes.",
                remedy,
                reading,
            )


def _missing_shards(folder: ModelFolder) -> list[str]:
    """``model-00002-of-00004.safetensors`` where the others of the four are there."""
    names = [*folder.weights]
    wanted: dict[str, None] = {}
    for name in names:
        match = _SHARD.fullmatch(name)
        if match:
            width, count = len(match["number"]), int(match["count"])
            if count <= 10_000:
                stem, kind = match["stem"], match["kind"]
                for number in range(1, count + 1):
                    wanted[f"{stem}-{number:0{width}d}-of-{match['count']}{kind}"] = None
    return [name for name in wanted if name not in names and name not in folder.broken]


def _configuration(
    users: Sequence[Instance], folder: ModelFolder, reading: Reading[ModelFolder]
) -> Iterable[Finding]:
    what_is_missing = []
    if not any(name in folder.sizes for name in _CONFIGURATIONS) and not any(
        name.endswith(".gguf") for name in folder.sizes
    ):
        what_is_missing.append(("config.json", Status.FAIL))
    if not any(_TOKENIZER.fullmatch(name) for name in folder.sizes) and not all(map(tokenizer_given, users)):
        what_is_missing.append(("a tokenizer", Status.WARN))
    for what, status in what_is_missing:
        yield Finding(
            status,
            f"{shown(users[0].serving.model)} holds no {what.removeprefix('a ')}",
            what,
            f"{len(folder.sizes)} other files",
            "The engine ends before it loads any weights."
            if status is Status.FAIL
            else "The engine ends at its start unless it is told of another tokenizer.",
            "Copy the model's small files to every host, joiners too: only weights come over the network.",
            reading,
        )


def _compared(
    scene: Scene, users: Sequence[Instance], folder: ModelFolder, reading: Reading[ModelFolder]
) -> Iterable[Finding]:
    """The small files against those of the other hosts."""
    name, host = users[0].serving.model, users[0].host
    folders = {at: one for at, one in folders_of(scene, name) if one.kind == "folder"}
    with_weights = {at for at, one in folders.items() if one.weights}
    for file in dict.fromkeys(file for one in folders.values() for file in one.digests):
        # The index is of the weights: who has none needs none.
        hosts = with_weights if file.endswith(".index.json") else set(folders)
        if host not in hosts:
            continue
        digests = {at: _digest(folders[at], file) for at in folders if at in hosts}
        if digests[host] == "":
            why = "it could not be read, or there is no sha256sum"
            command = _digest_command(reading, name, file)
            yield unlearned(
                f"the SHA-256 of {shown(file)}", Reading(ReadingStatus.NO_DATA, None, command, why)
            )
            continue
        digests = {at: digest for at, digest in digests.items() if digest != ""}
        usual, odd = odd_ones(digests, _trusted(scene, name))
        if host not in odd:
            continue
        other, others = theirs(digests, host, usual)
        lesser = _LESSER.fullmatch(file) is not None
        yield Finding(
            Status.WARN if lesser else Status.FAIL,
            f"{shown(file)} is not that of {others}",
            f"{_short(other)}, as on {others}",
            _short(digests[host]),
            _consequence_of(file),
            f"Find out which of the two is meant, and copy it to the same place on every host "
            f"({shown(name)}/{shown(file)}).",
            Reading(
                ReadingStatus.OK,
                command=_digest_command(reading, name, file),
                evidence="\n".join(f"{at}: {digest or 'no such file'}" for at, digest in digests.items()),
            ),
        )


def _digest(folder: ModelFolder, file: str) -> str | None:
    """None = there is no such file; "" = it is there, and nothing else is known."""
    return folder.digests.get(file, "" if file in folder.sizes or file in folder.unreadable else None)


def _digest_command(reading: Reading[Any], name: str, file: str) -> str:
    return reading.command.partition("ls -lL")[0] + shlex.join(["sha256sum", f"{name}/{file}"])


def _short(digest: str | None) -> str:
    if digest is None:
        return "no such file"
    return digest if digest.startswith("size:") else f"SHA-256 {digest[:12]}…"


def _consequence_of(file: str) -> str:
    if _LESSER.fullmatch(file):
        return "The instances may answer differently to the same request, or one of them may not start."
    if _TOKENIZER.fullmatch(file):
        return "The instances read the same text as different tokens: the answers differ, and nothing fails."
    return (
        "The engines build different models. Weights are refused, or laid into tensors of another meaning "
        "without a word."
    )


def _weights(
    scene: Scene, users: Sequence[Instance], folder: ModelFolder, reading: Reading[ModelFolder]
) -> Iterable[Finding]:
    name, host, weights = users[0].serving.model, users[0].host, folder.weights
    if not weights:
        yield from _without_weights(users, reading)
        return
    sources = {one.host for one in scene.everything if one.role is Role.SEED and one.serving.model == name}
    compared = {
        at: tuple(sorted(one.weights.items()))
        for at, one in folders_of(scene, name)
        if (at in sources or at == host) and one.weights
    }
    usual, odd = odd_ones(compared, (_trusted(scene, name) & sources) or sources)
    if host not in odd:
        return
    files, others = theirs(compared, host, usual)
    wanted = dict(files)
    differing = [file for file in {**weights, **wanted} if weights.get(file) != wanted.get(file)]
    seeds = any(one.role is Role.SEED for one in users)
    yield Finding(
        Status.FAIL if seeds else Status.WARN,
        f"weight files are not those of {others}: {few(differing)}",
        f"{len(wanted)} files, {size_text(sum(filter(None, wanted.values())))}, as on {others}",
        f"{len(weights)} files, {size_text(sum(filter(None, weights.values())))}",
        "The seeds serve different weights under one name."
        if seeds
        else "A joiner that falls back to its disk would serve other weights than its source.",
        "Copy the model again from where it is right, and compare with `sha256sum`.",
        reading,
    )


def _without_weights(users: Sequence[Instance], reading: Reading[ModelFolder]) -> Iterable[Finding]:
    name = shown(users[0].serving.model)
    if any(one.role is Role.SEED for one in users):
        yield Finding(
            Status.FAIL,
            f"{name} holds no weights, and a seed reads its disk",
            f"files named *{', *'.join(('.safetensors', '.bin', '.pt'))}",
            "none",
            "The engine ends with 'Cannot find any model weights'.",
            "Copy the weights there, or start this one as a joiner.",
            reading,
        )
    elif any(one.serving.engine is Engine.ASCEND for one in users):
        yield Finding(
            Status.WARN,
            f"{name} holds no weights: this joiner has no disk to fall back to",
            "weights, for when no source serves",
            "none",
            "vllm-ascend reads the disk wherever a transfer fails, for example when it waited 60 s for its "
            "turn; without weights the engine ends then.",
            "Copy the weights there, or accept that a transfer that fails ends the start.",
            reading,
        )


def _trusted(scene: Scene, name: str) -> set[str]:
    """Hosts where the model is served now: what is planned must be as they are."""
    return {one.host for one in scene.running if one.serving.model == name}
