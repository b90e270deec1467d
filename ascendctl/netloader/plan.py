"""What is to run where: the instances of a deployment. Pure; the rules for them are in `plan_rules`.

A plan is stored beside the instance on its host (`stored_plan`), so any control machine can read what runs
there; its fingerprint tells whether what is asked for runs already.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ascendctl.netloader.engine.options import HIGHEST_PORT, Address

_SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "API_KEY", "CREDENTIAL")
INSTANCE_FIELD = "{instance}"
BINDS = ("all", "address")
_SPECULATIVE_ARGUMENTS = ("--speculative-config", "-sc")


class PlanError(Exception):
    """The plan cannot work. ``problems``: one sentence each, all that were found."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class Engine(str, Enum):
    """Whose loader takes the weights: vllm-ascend's own Netloader, or the one of this package."""

    ASCEND = "vllm-ascend"
    OWN = "ascendctl"


class Role(str, Enum):
    """A seed reads its disk; a joiner takes the weights of instances that run."""

    SEED = "seed"
    JOINER = "joiner"


@dataclass(frozen=True)
class Serving:
    """What every instance of a deployment has in common, as it was asked for.

    ``port`` and ``listen_port`` are those of the first instance of a host; ``listen_port`` None = any free
    one, which nobody can plan. ``launcher``: the words before the model. ``config_file``, ``token_file``,
    ``output_prefix``: paths on the host, as the engine sees them. ``fallback``, ``verify``, ``chain``,
    ``token_file``: of the engine kind `Engine.OWN` only. ``bind``: ``all`` = the API listens on every address
    of the host, vLLM's default; ``address`` = on the one that the peers use. ``{instance}`` in
    ``output_prefix`` stands for the instance's name.
    """

    model: str
    engine: Engine = Engine.ASCEND
    tp: int = 1
    pp: int = 1
    port: int = 8000
    listen_port: int | None = None
    served_model_name: str | None = None
    enforce_eager: bool = False
    dtype: str | None = None
    gpu_memory_utilization: float | None = None
    engine_args: tuple[str, ...] = ()
    launcher: tuple[str, ...] = ("vllm", "serve")
    int8_cache: str = "no"
    int8_cache_names: tuple[str, ...] = ()
    output_prefix: str | None = None
    config_file: str | None = None
    fallback: str = "disk"
    verify: str = "required"
    chain: bool = True
    token_file: str | None = None
    bind: str = "all"

    @property
    def ranks(self) -> int:
        return self.tp * self.pp

    @property
    def speculative(self) -> bool:
        """Whether a draft model is loaded too; it has listeners of its own, 10000 above the target's."""
        return any(option_of(word) in _SPECULATIVE_ARGUMENTS for word in self.engine_args)


@dataclass(frozen=True)
class Place:
    """Where one instance runs: ``host`` as the inventory has it, ``address`` as its peers reach it.

    ``devices``: physical ids, () where there is nothing to choose (no NPU, or all of them).
    ``environment``: variables and values derived for this host, in order; ``given``: those that a person
    gave for all hosts, secrets perhaps, so that no value of them is ever shown. ``status_prefix``: where the
    own engine's status files go unless the serving has an OUTPUT_PREFIX; ``{instance}`` stands for the name.
    """

    host: str
    address: str
    devices: tuple[int, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    given: tuple[tuple[str, str], ...] = ()
    status_prefix: str = ""

    @property
    def variables(self) -> dict[str, str]:
        """All of them; what a person gave goes before what was derived."""
        return {**dict(self.environment), **dict(self.given)}

    @property
    def hidden(self) -> frozenset[str]:
        """The variables whose values are not to be shown."""
        given = {name for name, _ in self.given}
        return frozenset(given | {name for name, _ in self.environment if is_secret(name)})

    @property
    def devices_text(self) -> str:
        """``0,1``, as ASCEND_RT_VISIBLE_DEVICES takes them."""
        return numbers_text(self.devices)


@dataclass(frozen=True)
class Instance:
    """One engine on one host. ``sources``: for every rank, the addresses it asks, in that order."""

    name: str
    role: Role
    place: Place
    serving: Serving
    port: int
    listen_port: int | None = None
    sources: tuple[tuple[str, ...], ...] = ()

    @property
    def host(self) -> str:
        return self.place.host

    @property
    def ranks(self) -> int:
        return self.serving.ranks

    @property
    def fingerprint(self) -> str:
        """SHA-256 in hex: equal for equal plans, whoever made them."""
        return _digest(dataclasses.asdict(self))

    @property
    def status_prefix(self) -> str | None:
        """The engine's OUTPUT_PREFIX; only the own engine writes status files without being asked to."""
        prefix = self.serving.output_prefix
        if prefix is None and self.serving.engine is Engine.OWN:
            prefix = self.place.status_prefix or None
        return None if prefix is None else prefix.replace(INSTANCE_FIELD, self.name)

    @property
    def api(self) -> tuple[str, int]:
        """Address and port of its API as a process of the same host reaches it."""
        return (self.place.address if self.serving.bind == "address" else "127.0.0.1", self.port)

    @property
    def url(self) -> str:
        """Its API as others reach it."""
        return f"http://{Address(self.place.address or self.host, self.port)}"

    @property
    def listeners(self) -> tuple[str, ...]:
        """``address:port`` of every rank's listener; () where the ports or the address are not known."""
        if self.listen_port is None or not self.place.address:
            return ()
        return tuple(str(Address(self.place.address, self.listen_port + rank)) for rank in range(self.ranks))


@dataclass(frozen=True)
class Deployment:
    """Instances of one model under one name."""

    name: str
    instances: tuple[Instance, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 in hex, whatever the order of the instances."""
        return _digest([self.name, *sorted(instance.fingerprint for instance in self.instances)])

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(instance.host for instance in self.instances))


@dataclass(frozen=True)
class Source:
    """Who can give weights: one listener ("host:port") for every rank, in the order of the ranks."""

    name: str
    listeners: tuple[str, ...]

    @classmethod
    def of(cls, instance: Instance) -> Source:
        """Raises PlanError where the instance's listeners are not known from its plan."""
        if not instance.listeners:
            lacks = "LISTEN_PORT" if instance.place.address else "address"
            raise PlanError(
                [
                    f"{instance.name} on {instance.host}: its plan has no {lacks}, so the joiners cannot be "
                    "told where its ranks listen; start it with --listen-port, or name them with --source"
                ]
            )
        return cls(instance.name, instance.listeners)

    @classmethod
    def at(cls, text: str, ranks: int) -> Source:
        """The instance whose rank 0 listens at ``host:port`` and rank r at port + r. Raises PlanError."""
        try:
            first = Address.parse(text)
        except ValueError as error:
            raise PlanError([f"--source: {error}"]) from None
        if first.port + ranks - 1 > HIGHEST_PORT:
            raise PlanError([f"--source {text}: with {ranks} ranks its last port is above {HIGHEST_PORT}"])
        return cls(text, tuple(str(Address(first.host, first.port + rank)) for rank in range(ranks)))


def is_secret(variable: str) -> bool:
    """Whether the value of an environment variable of that name is not to be shown."""
    return any(word in variable.upper() for word in _SECRET_WORDS)


def option_of(word: str) -> str:
    """The option of ``--option=value``, with the underscores that vLLM takes for dashes."""
    option = word.partition("=")[0]
    return option.replace("_", "-") if option.startswith("--") else option


def numbers_text(numbers: Iterable[int]) -> str:
    """``0,1,2``."""
    return ",".join(str(number) for number in numbers)


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
