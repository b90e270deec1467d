"""An instance's environment and vLLM command: as vllm-ascend's Netloader guide has it, and to be run. Pure.

For the guide's inputs ``Command.text`` is the guide's text, word for word; what that text gets wrong is in
``Command.notes``. What is run says the same (`script`), with every value quoted for the shell that reads it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from ascendctl.hccl.variables import BUFFER_SIZE_DEFAULT_MB
from ascendctl.netloader.engine.plugin import OWN_FORMAT, SHARED_FORMAT
from ascendctl.netloader.plan import Engine, Instance, Role

CONFIG_VARIABLE = "NETLOADER_CONFIG"
DEVICES_VARIABLE = "ASCEND_RT_VISIBLE_DEVICES"
SLEEP_VARIABLE = "VLLM_SLEEP_WHEN_IDLE"
HOST_IP_VARIABLE = "VLLM_HOST_IP"
BUFFER_VARIABLE, GUIDES_BUFFER_VARIABLE = "HCCL_BUFFSIZE", "HCCL_BUFFERSIZE"

BUFFER_NOTE = (
    f"the guide writes {GUIDES_BUFFER_VARIABLE}; HCCL reads {BUFFER_VARIABLE} ({BUFFER_SIZE_DEFAULT_MB} MB "
    "unless set), and every communicator takes twice that, so leave that much of the device's memory for a "
    "transfer by --gpu-memory-utilization"
)
SLEEP_NOTE = (
    f"the guide sets {SLEEP_VARIABLE}=1; current vLLM and vllm-ascend do not read it, so it neither helps "
    "nor harms"
)
RANDOM_PORT_NOTE = (
    "LISTEN_PORT is not set: vllm-ascend takes any free port, which joiners can learn only from this "
    "instance's log or its OUTPUT_PREFIX files; set --listen-port"
)
RANDOM_DRAFT_PORT_NOTE = (
    "LISTEN_PORT is not set and a draft model is loaded: vllm-ascend draws another random port for it, while "
    "joiners ask at the target's + 10000, so the draft model is always read from disk; set --listen-port"
)
CONNECT_BACK_NOTE = (
    "the source connects back to this joiner on a port that the joiner draws at random: a firewall between "
    "them must let the source in"
)
FALLBACK_NOTE = (
    "where no source serves it, vllm-ascend reads the disk and starts all the same; the proof after the "
    "start tells the difference"
)


@dataclass(frozen=True)
class Command:
    """``environment``: what is exported, in order, the instance's own variables last; ``argv``: the program
    and its arguments, nothing to be expanded; ``config``: --model-loader-extra-config, None = not given;
    ``text``: environment and command as a person would paste them, the values of secrets hidden;
    ``notes``: one sentence each.
    """

    environment: tuple[tuple[str, str], ...]
    argv: tuple[str, ...]
    config: str | None
    text: str
    notes: tuple[str, ...]


def command(instance: Instance) -> Command:
    """The command of an instance, which `plan.problems` has nothing against."""
    config = _config(instance)
    lines = _lines(instance)
    argv = tuple(word for line in lines for word in line)
    if config is not None:
        argv = (*argv, f"--model-loader-extra-config={config}")
    given = instance.place.variables
    own = {**_before_program(instance), **_beside_program(instance)}
    return Command(
        environment=tuple({**{k: v for k, v in given.items() if k not in own}, **own}.items()),
        argv=argv,
        config=config,
        text=_text(instance, lines, config),
        notes=_notes(instance),
    )


def env_sh(command: Command) -> str:
    """``export`` lines for a POSIX shell; holds secrets where the environment does, so mode 0600."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in command.environment)


def run_sh(command: Command) -> str:
    """The line that becomes the engine; nothing in it is expanded by the shell that reads it.

    Its standard input is not the script's: a script that is fed to ``sh -s`` stays whole.
    """
    return f"exec {shlex.join(command.argv)} </dev/null\n"


def script(command: Command) -> str:
    """Environment and command as one POSIX script, for a shell that is started anywhere, a container too."""
    return env_sh(command) + run_sh(command)


# The words ------------------------------------------------------------------------------------------------


def _lines(instance: Instance) -> list[list[str]]:
    """The command in the guide's lines and order, what the guide does not have behind it."""
    serving = instance.serving
    lines = [[*serving.launcher, serving.model], ["--tensor-parallel-size", str(serving.tp)]]
    if serving.pp != 1:
        lines.append(["--pipeline-parallel-size", str(serving.pp)])
    if serving.served_model_name is not None:
        lines.append(["--served-model-name", serving.served_model_name])
    if serving.enforce_eager:
        lines.append(["--enforce-eager"])
    lines.append(["--port", str(instance.port)])
    lines.append(["--load-format", SHARED_FORMAT if serving.engine is Engine.ASCEND else OWN_FORMAT])
    if serving.dtype is not None:
        lines.append(["--dtype", serving.dtype])
    if serving.gpu_memory_utilization is not None:
        lines.append(["--gpu-memory-utilization", f"{serving.gpu_memory_utilization:g}"])
    if serving.bind == "address":
        lines.append(["--host", instance.place.address])
    elif ":" in instance.place.address:
        # vLLM's own "all" is IPv4's alone; this one takes both.
        lines.append(["--host", "::"])
    lines += [[word] for word in serving.engine_args]
    return lines


def _config(instance: Instance) -> str | None:
    """The loader's configuration as JSON, SOURCE first and spaced as the guide spaces it."""
    fields: dict[str, object] = {}
    serving = instance.serving
    if serving.config_file is not None:
        fields["CONFIG_FILE"] = serving.config_file
    if instance.listen_port is not None:
        fields["LISTEN_PORT"] = instance.listen_port
    if serving.int8_cache != "no":
        fields["INT8_CACHE"] = serving.int8_cache
    if serving.int8_cache_names:
        fields["INT8_CACHE_NAME"] = list(serving.int8_cache_names)
    if instance.status_prefix is not None:
        fields["OUTPUT_PREFIX"] = instance.status_prefix
    if serving.engine is Engine.OWN:
        fields.update(_own_fields(instance))
    parts = [_source(instance.sources)] if instance.sources else []
    parts += [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items()]
    return "{" + ", ".join(parts) + "}" if parts else None


def _own_fields(instance: Instance) -> Mapping[str, object]:
    serving = instance.serving
    fields: dict[str, object] = {}
    if instance.role is Role.JOINER:
        fields["FALLBACK"] = serving.fallback
        fields["VERIFY"] = serving.verify
    # Of a seed as well: it is the one that tells a joiner to ask another.
    fields["CHAIN"] = serving.chain
    if serving.token_file is not None:
        fields["TOKEN_FILE"] = serving.token_file
    return fields


def _source(sources: tuple[tuple[str, ...], ...]) -> str:
    ranks = (
        f'{{"device_id":{rank}, "sources": {json.dumps(list(addresses))}}}'
        for rank, addresses in enumerate(sources)
    )
    return f'"SOURCE":[{", ".join(ranks)}]'


def _before_program(instance: Instance) -> dict[str, str]:
    """What the guide leaves to the reader: the address that the listeners are bound to and peers reach."""
    return {HOST_IP_VARIABLE: instance.place.address} if instance.place.address else {}


def _beside_program(instance: Instance) -> dict[str, str]:
    """What the guide writes in front of the program, in its order."""
    own = {SLEEP_VARIABLE: "1"} if instance.serving.engine is Engine.ASCEND else {}
    if instance.place.devices:
        own[DEVICES_VARIABLE] = instance.place.devices_text
    return own


def _text(instance: Instance, lines: list[list[str]], config: str | None) -> str:
    beside = _beside_program(instance)
    exported = {**instance.place.variables, **_before_program(instance)}
    heads = [
        f"export {name}={_shown(name, value, instance)}"
        for name, value in exported.items()
        if name not in beside
    ]
    words = [" ".join(shlex.quote(word) for word in line) for line in lines]
    if config is not None:
        heads.append(f"export {CONFIG_VARIABLE}={shlex.quote(config)}")
        words.append(f'--model-loader-extra-config="${{{CONFIG_VARIABLE}}}"')
    front = " ".join(f"{name}={shlex.quote(value)}" for name, value in beside.items())
    # The guide puts the program on a line of its own where more than one variable stands before it.
    if len(beside) > 1:
        words[0] = f"{front} \\\n  {words[0]}"
    elif front:
        words[0] = f"{front} {words[0]}"
    paragraphs = ["\n".join(heads)] if heads else []
    return "\n\n".join([*paragraphs, " \\\n  ".join(words)]) + "\n"


def _shown(name: str, value: str, instance: Instance) -> str:
    return "'(hidden)'" if name in instance.place.hidden else shlex.quote(value)


def _notes(instance: Instance) -> tuple[str, ...]:
    serving = instance.serving
    if serving.engine is Engine.OWN:
        return ()
    notes = [BUFFER_NOTE, SLEEP_NOTE]
    if GUIDES_BUFFER_VARIABLE in instance.place.variables:
        notes.insert(0, f"{GUIDES_BUFFER_VARIABLE} is set and nothing reads it; set {BUFFER_VARIABLE}")
    if instance.listen_port is None and serving.config_file is None:
        notes.append(RANDOM_DRAFT_PORT_NOTE if serving.speculative else RANDOM_PORT_NOTE)
    if instance.role is Role.JOINER:
        notes += [CONNECT_BACK_NOTE, FALLBACK_NOTE]
    return tuple(notes)
