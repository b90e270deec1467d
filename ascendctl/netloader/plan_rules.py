"""Whether a plan can work: each instance by itself, together on a host, and as joiner and source. Pure.

What vllm-ascend's Netloader does is from its code, not from its guide, where the two differ.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from ascendctl.netloader.engine.options import DRAFT_GROUP, DRAFT_PORT_OFFSET, HIGHEST_PORT, LOWEST_PORT
from ascendctl.netloader.plan import (
    BINDS,
    Deployment,
    Engine,
    Instance,
    Role,
    Serving,
    numbers_text,
    option_of,
)
from ascendctl.report.printable import shown

INT8_CACHES = ("no", "hbm", "dram")
_OWN_WORDS = (
    ("--fallback", "fallback", ("disk", "error")),
    ("--verify", "verify", ("required", "if-offered")),
    ("--bind", "bind", BINDS),
)
JOIN_BYTES_MOST = 1024
"""vllm-ascend's server reads a JOIN with one ``recv(1024)``: a longer one is broken JSON, then the disk."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# vLLM takes an option's last value and says nothing of the first, so these are set in one place only.
_OWN_ARGUMENTS = {
    "--model": "--model",
    "--tensor-parallel-size": "--tp",
    "-tp": "--tp",
    "--pipeline-parallel-size": "--pp",
    "-pp": "--pp",
    "--port": "--port",
    "--host": "--bind",
    "--served-model-name": "--served-model-name",
    "--load-format": "the engine kind",
    "--model-loader-extra-config": "--listen-port, --int8-cache, --output-prefix, --config-file and --source",
    "--dtype": "--dtype",
    "--gpu-memory-utilization": "--gpu-memory-utilization",
    "--enforce-eager": "--enforce-eager",
}
# Their values stand in the process list of the host for everybody to read.
_SECRET_ARGUMENTS = {"--api-key": "VLLM_API_KEY", "--hf-token": "HF_TOKEN"}
# One instance has one host: its ranks are numbered as listeners and devices there.
_DATA_PARALLEL_ARGUMENTS = ("--data-parallel-size", "-dp")


def compatible(joiner: Serving, source: Serving) -> tuple[str, ...]:
    """Why a joiner of this serving could not take weights of that one; () = nothing known against it.

    For vllm-ascend these are its refusals (``JOIN_NACK``: the text of --model, tp, pp, INT8_CACHE) and what
    it does not compare and gets wrong in silence (dtype).
    """
    found = []
    for label, mine, theirs, ends_in in (
        ("--tp", joiner.tp, source.tp, "rank r takes the weights of rank r"),
        ("--pp", joiner.pp, source.pp, "rank r takes the weights of rank r"),
        ("--engine", joiner.engine.value, source.engine.value, "plan both ends with one engine kind"),
        (
            "--dtype",
            joiner.dtype,
            source.dtype,
            "vllm-ascend does not compare it and would load wrong weights without a word",
        ),
    ):
        if mine != theirs:
            found.append(f"{label} is {_text(mine)} and the source's {_text(theirs)}: {ends_in}")
    if joiner.engine is Engine.ASCEND:
        if joiner.model != source.model:
            found.append(
                f"--model is {shown(joiner.model)} and the source's {shown(source.model)}: vllm-ascend "
                "compares the text, a final slash too, and refuses the joiner; write both alike"
            )
        if joiner.int8_cache != source.int8_cache:
            found.append(
                f"--int8-cache is {shown(joiner.int8_cache)} and the source's {shown(source.int8_cache)}: "
                "vllm-ascend refuses the joiner; write both alike"
            )
    return tuple(found)


def problems(deployment: Deployment, *, running: Sequence[Instance] = ()) -> tuple[str, ...]:
    """What keeps the plan from working, one sentence each; ports are judged in `ports`.

    ``running``: what is there already; an instance that the plan names again is the same one.
    """
    found = []
    if not _NAME.fullmatch(deployment.name):
        found.append(
            f"{shown(deployment.name)!r} cannot be a deployment's name: it is a folder's on the hosts; use "
            "letters, digits, '.', '_' and '-', 63 at most, the first a letter or digit"
        )
    for serving in dict.fromkeys(instance.serving for instance in deployment.instances):
        found += _serving_problems(serving)
    for instance in deployment.instances:
        found += _instance_problems(instance)
    names = Counter(instance.name for instance in deployment.instances)
    found += [f"{name}: {times} instances have this name" for name, times in names.items() if times > 1]
    others = [one for one in running if one.name not in names]
    found += _shared_devices([*deployment.instances, *others])
    return tuple(dict.fromkeys(found))


# One by one -----------------------------------------------------------------------------------------------


def _serving_problems(serving: Serving) -> list[str]:
    found = []
    if not serving.model or serving.model.startswith("-") or not serving.model.isprintable():
        found.append(f"--model is {shown(serving.model)!r}: write a folder on the hosts, or a name")
    if serving.tp < 1 or serving.pp < 1:
        found.append(f"--tp {serving.tp} and --pp {serving.pp}: write 1 or more")
    if serving.int8_cache not in INT8_CACHES:
        found.append(f"--int8-cache is {shown(serving.int8_cache)}: write {', '.join(INT8_CACHES)}")
    share = serving.gpu_memory_utilization
    if share is not None and not 0 < share <= 1:
        found.append(f"--gpu-memory-utilization is {share:g}: write a share above 0, 1 at most")
    for option, field, words in _OWN_WORDS:
        if getattr(serving, field) not in words:
            found.append(f"{option} is {shown(getattr(serving, field))}: write {' or '.join(words)}")
    if serving.engine is Engine.ASCEND:
        found += _ascend_problems(serving)
    for word in serving.engine_args:
        option = option_of(word)
        if option in _OWN_ARGUMENTS:
            found.append(f"--engine-arg {shown(option)}: set it by {_OWN_ARGUMENTS[option]}")
        if option in _SECRET_ARGUMENTS:
            found.append(
                f"--engine-arg {option}: everybody on the host could read it in the process list; set "
                f"{_SECRET_ARGUMENTS[option]} in the environment"
            )
        if option in _DATA_PARALLEL_ARGUMENTS:
            found.append(f"--engine-arg {option}: start one instance per replica instead")
        if "\0" in word:
            found.append("--engine-arg: a NUL byte cannot be passed to a program")
    return found


def _ascend_problems(serving: Serving) -> list[str]:
    found = []
    size = join_bytes(serving)
    if size > JOIN_BYTES_MOST:
        found.append(
            f"--model is so long that a JOIN takes {size} bytes: vllm-ascend reads {JOIN_BYTES_MOST}, and "
            "every joiner would fall back to its disk; use a shorter path (a symbolic link)"
        )
    if serving.config_file is not None and (serving.listen_port, serving.output_prefix) != (None, None):
        found.append(
            "--config-file: vllm-ascend takes that file alone and drops every other field, --listen-port and "
            "--output-prefix too; write them into the file, or leave it out"
        )
    if serving.token_file is not None:
        found.append("--token-file: vllm-ascend's Netloader knows no token; leave it out")
    return found


def join_bytes(serving: Serving) -> int:
    """The longest JOIN that a rank of this serving sends, in bytes: every field as vllm-ascend writes it."""
    content = {
        "device_id": serving.ranks - 1,
        "model_path": serving.model,
        "tp": serving.tp,
        "pp": serving.pp,
        "port": HIGHEST_PORT,
        "group_name": DRAFT_GROUP,
        "int8_cache": "dram",
    }
    return len(json.dumps({"label": "JOIN", "content": content}))


def _instance_problems(instance: Instance) -> list[str]:
    who, place, serving = f"{instance.name} on {instance.host}", instance.place, instance.serving
    found = []
    if place.devices and len(place.devices) != instance.ranks:
        found.append(
            f"{who}: --tp {serving.tp} x --pp {serving.pp} is {instance.ranks} ranks and "
            f"{len(place.devices)} devices are given ({place.devices_text}); give one for each rank"
        )
    if len(set(place.devices)) != len(place.devices) or any(device < 0 for device in place.devices):
        found.append(f"{who}: devices {place.devices_text}: write each physical id once, 0 or more")
    if not 1 <= instance.port <= HIGHEST_PORT:
        found.append(f"{who}: port {instance.port} is none from 1 to {HIGHEST_PORT}")
    if instance.listen_port is not None:
        draft = DRAFT_PORT_OFFSET if serving.speculative else 0
        last = instance.listen_port + instance.ranks - 1 + draft
        if instance.listen_port < LOWEST_PORT or last > HIGHEST_PORT:
            what = f" and the draft model's {DRAFT_PORT_OFFSET}" if draft else ""
            highest = HIGHEST_PORT - draft - instance.ranks + 1
            found.append(
                f"{who}: listeners from {instance.listen_port} on, with {instance.ranks} ranks{what}, reach "
                f"{last}: write a LISTEN_PORT from {LOWEST_PORT} to {highest}"
            )
        elif instance.listen_port == HIGHEST_PORT and serving.engine is Engine.ASCEND:
            found.append(
                f"{who}: vllm-ascend skips LISTEN_PORT {HIGHEST_PORT} without a word; write a lower one"
            )
    if instance.role is Role.JOINER and serving.config_file is not None and serving.engine is Engine.ASCEND:
        found.append(
            f"{who}: with --config-file vllm-ascend would drop the SOURCE that is planned here; leave it out"
        )
    if serving.bind == "address" and not place.address:
        found.append(f"{who}: --bind address, and no address of the host is known; set one by --address")
    found += [
        f"{who}: {shown(name)!r} is no name of an environment variable"
        for name in place.variables
        if not _VARIABLE.fullmatch(name)
    ]
    return found


def _shared_devices(instances: Sequence[Instance]) -> list[str]:
    found = []
    for one, other in combinations(instances, 2):
        both = sorted(set(one.place.devices) & set(other.place.devices))
        if one.host == other.host and both:
            found.append(
                f"{one.host}: {one.name} and {other.name} both have device {numbers_text(both)}; give "
                "instances that share a host devices of their own (--devices)"
            )
    return found


def _text(value: object) -> str:
    return "not set" if value is None else shown(str(value))
