"""The plan file of ``ascendctl bring-up``: what is to serve where, who joins, and how it is tested.

Read as the inventory is: every problem with file, line and key, unknown keys refused. What only shows once
the hosts are known is a `PlanError` of the planning itself; `BringUpPlan.located` puts it into the file's
words.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    WithJsonSchema,
)

from ascendctl.inventory import document as yaml_document
from ascendctl.inventory.document import Document, describe, plain_word, printable
from ascendctl.inventory.nodesets import near_misses
from ascendctl.inventory.reading import (
    UnreadableError,
    choices,
    expected,
    found_text,
    one_of,
    read_text,
    sentences,
    unknown_key,
)
from ascendctl.inventory.shape import EXTENSION, Block, FilePath, Port, keys_of
from ascendctl.netloader.placing import physical_ids
from ascendctl.netloader.plan import Deployment, Engine, PlanError, Serving
from ascendctl.netloader.plan_rules import compatible, problems

_DEFAULT_TOKENS = 64


@dataclass(frozen=True)
class ServeStep:
    """``hosts``: a node set; ``devices``: the same physical ids on every host, () = not chosen."""

    hosts: str
    serving: Serving
    devices: tuple[int, ...] = ()


@dataclass(frozen=True)
class JoinStep:
    """``changes``: by field of `Serving`, what is to be otherwise than the seed runs; ``sources``:
    ``host:port`` of rank 0's listener each, beside what this plan serves."""

    hosts: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    devices: tuple[int, ...] = ()
    allow_fallback: bool = False
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConsistencyStep:
    """``prompts`` None = the built-in ones; ``api_key_env``: variable of this machine with the API key."""

    prompts: Path | None = None
    max_tokens: int = _DEFAULT_TOKENS
    concurrency: int = 1
    api_key_env: str | None = None


@dataclass(frozen=True)
class BringUpPlan:
    """A plan file. ``join``, ``consistency`` None = left out. ``lines``: key path → line, from 1."""

    path: Path
    name: str
    serve: ServeStep
    join: JoinStep | None = None
    consistency: ConsistencyStep | None = None
    env_file: Path | None = None
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict, repr=False, compare=False)

    def located(self, section: str, found: Sequence[str]) -> tuple[str, ...]:
        """Sentences about one section, ``serve`` say, with file, line and key; options under their keys."""
        return tuple(self._located(section, text) for text in found)

    def place(self, *path: str) -> str:
        """``plan.yaml:7``, where a key stands; of one that is left out its section."""
        known = next((path[:length] for length in range(len(path), 0, -1) if path[:length] in self.lines), ())
        return f"{self.path}:{self.lines.get(known, 1)}"

    def _located(self, section: str, text: str) -> str:
        keys = [key for option in _OPTION.findall(text) if (key := _KEYS_OF_OPTIONS.get(option))]
        paths = [(part, key) for key in keys for part in (section, "serve")]
        path = next((path for path in paths if path in self.lines), (section,))
        said = _OPTION.sub(lambda match: _as_key(match[0], match[1]), text).removeprefix(f"`{path[-1]}`: ")
        return f"{self.place(*path)}: {'.'.join(path)}: {said}"


def load_plan(path: Path) -> BringUpPlan:
    """Read and check a plan file. Raises PlanError with every problem, each with file, line and key."""
    try:
        document = yaml_document.parse(read_text(path, "a bring-up plan"))
    except UnreadableError as error:
        raise PlanError([str(error)]) from None
    block = _block(document) if not document.problems else None
    if document.problems or block is None:
        raise PlanError(sentences(path, document.problems))
    plan = _plan(path, block, _lines(document))
    if found := problems(Deployment(plan.name)):
        raise PlanError([f"{plan.place('name')}: name: {text}" for text in found])
    if plan.join is None:
        return plan
    seeds = plan.serve.serving
    if seeds.listen_port is None:
        raise PlanError(
            [
                f"{plan.place('serve')}: serve: `listen_port` is missing; the joiners are told where "
                "the seed's ranks listen, so write a port that is free on every host, such as 20001"
            ]
        )
    if found := compatible(dataclasses.replace(seeds, **plan.join.changes), seeds):
        raise PlanError(plan.located("join", found))
    return plan


def plan_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a plan file."""
    schema = PlanBlock.model_json_schema(mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["patternProperties"] = {"^x-": {"description": "Left alone; a place for YAML anchors."}}
    schema["title"] = "ascendctl bring-up plan"
    return schema


# The shape ------------------------------------------------------------------------------------------------


def _devices(value: object) -> tuple[int, ...]:
    if isinstance(value, list):
        if all(type(one) is int and one >= 0 for one in value):
            return tuple(value)
    elif type(value) is int and value >= 0:
        return (value,)
    elif isinstance(value, str):
        try:
            return physical_ids(value)
        except ValueError:
            pass
    raise ValueError("expected physical ids, such as 0-7 or [0, 1]")


def _word(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("expected text that is not empty, in one line")
    return text


def _version(value: object) -> object:
    if type(value) is not int or value != 1:
        raise ValueError("this ascendctl reads version 1; write `version: 1`")
    return value


def _kind_of_test(value: object) -> str:
    return "block" if isinstance(value, (dict, BaseModel)) else "flag"


Word = Annotated[str, AfterValidator(_word)]
Words = Annotated[list[Word], Field(min_length=1)]
_Size = Annotated[int, Field(ge=1, le=1024)]
_Devices = Annotated[
    tuple[int, ...],
    BeforeValidator(_devices),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "integer", "minimum": 0},
                {"type": "array", "items": {"type": "integer", "minimum": 0}},
            ]
        }
    ),
]
_DEFAULTS = Serving("")


def _default(name: str) -> Any:
    value = getattr(_DEFAULTS, name)
    return list(value) if isinstance(value, tuple) else value


def _key(name: str, description: str) -> Any:
    return Field(_default(name), description=description)


class ServingKeys(Block):
    """How an instance is started; each key is the field of that name of `netloader.plan.Serving`."""

    model: Word | None = Field(None, description="Folder on the hosts, or a name, as vLLM takes it.")
    engine: Literal["vllm-ascend", "ascendctl"] = Field(
        Engine.ASCEND.value,
        description="Whose loader: vllm-ascend's Netloader, or ascendctl's own (CPU, GPU hosts too).",
    )
    tp: _Size = _key("tp", "Tensor-parallel size.")
    pp: _Size = _key("pp", "Pipeline-parallel size.")
    port: Port = _key("port", "The API's port; a further instance of a host has the next one.")
    listen_port: Port | None = _key(
        "listen_port",
        "Rank 0's listener for joiners, rank r has this + r; required where there is a `join`.",
    )
    served_model_name: Word | None = _key("served_model_name", "As given to vLLM.")
    enforce_eager: bool = _key("enforce_eager", "As given to vLLM.")
    dtype: Word | None = _key("dtype", "As given to vLLM.")
    gpu_memory_utilization: float | None = _key("gpu_memory_utilization", "As given to vLLM.")
    engine_args: list[Word] = _key("engine_args", "Further arguments of vLLM, such as --max-model-len=4096.")
    launcher: Words = _key("launcher", "The words before the model.")
    int8_cache: Literal["no", "hbm", "dram"] = _key("int8_cache", "INT8_CACHE of vllm-ascend.")
    int8_cache_names: list[Word] = _key("int8_cache_names", "INT8_CACHE_NAME: parts of parameters' names.")
    output_prefix: Word | None = _key(
        "output_prefix", "OUTPUT_PREFIX, on the hosts; {instance} stands for the instance's name."
    )
    config_file: Word | None = _key("config_file", "CONFIG_FILE of the loader, on the hosts.")
    fallback: Literal["disk", "error"] = _key("fallback", "What a joiner does that no source serves (own).")
    verify: Literal["required", "if-offered"] = _key(
        "verify", "Whether digests of the weights are required (own)."
    )
    chain: bool = _key("chain", "Whether joiners pass the weights on (own).")
    token_file: Word | None = _key("token_file", "On the hosts: the secret that joiners prove (own).")
    bind: Literal["all", "address"] = _key(
        "bind", "Where the API listens: on all addresses, or on the one that the peers use."
    )


class ServeBlock(ServingKeys):
    """The seeds: instances that read their disk and give their weights to joiners."""

    hosts: Word = Field(description="Node set of the inventory, @group allowed: one instance on each.")
    model: Word = Field(description="Folder on the hosts, or a name, as vLLM takes it.")
    devices: _Devices = Field((), description="Physical ids on every host, such as 0-7. Default: all.")


class JoinBlock(ServingKeys):
    """The joiners: as the seed runs, but for the keys that are given here."""

    hosts: Word = Field(description="Node set of the inventory, @group allowed: one instance on each.")
    devices: _Devices = Field((), description="Physical ids on every host. Default: those of `serve`.")
    allow_fallback: bool = Field(False, description="Whether a joiner that read its disk is no failure.")
    sources: list[Word] = Field([], description="Also rank 0's listener there, HOST:PORT each.")


class ConsistencyBlock(Block):
    """The seed against every other instance, as `consistency-test` compares servers."""

    prompts: FilePath | None = Field(
        None, description="Ask these (YAML, JSON Lines, or text) in place of the built-in ones."
    )
    max_tokens: Annotated[int, Field(ge=1, le=100_000)] = Field(
        _DEFAULT_TOKENS, description="Tokens to generate per prompt."
    )
    concurrency: _Size = Field(1, description="Above 1: also ask so many at a time, in a second round.")
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = Field(
        None, description="Environment variable of this machine that holds the API key."
    )


class PlanBlock(Block):
    """What `ascendctl bring-up` brings up."""

    version: Annotated[Literal[1], BeforeValidator(_version)] = Field(
        description="Version of the file format: 1."
    )
    name: Word = Field(description="Of the deployment: a folder's name on the hosts.")
    serve: ServeBlock = Field(description="The seeds.")
    join: JoinBlock | None = Field(None, description="The joiners. Default: none.")
    consistency: (
        Annotated[
            Annotated[bool, Tag("flag")] | Annotated[ConsistencyBlock, Tag("block")],
            Discriminator(_kind_of_test),
        ]
        | None
    ) = Field(None, description="The test afterwards; `true` = with its defaults. Default: left out.")
    env_file: FilePath | None = Field(
        None,
        description="More variables for every engine, NAME=VALUE a line (secrets too); paths start at the "
        "plan's folder.",
    )


_BLOCKS: dict[str, type[Block]] = {"serve": ServeBlock, "join": JoinBlock, "consistency": ConsistencyBlock}
_TAGS = {"consistency": ("flag", "block")}

# Names of options that rules of `netloader` speak of → the key that says the same here.
_KEYS_OF_OPTIONS = {
    **{one.name.replace("_", "-"): one.name for one in dataclasses.fields(Serving)},
    "engine-arg": "engine_args",
    "int8-cache-name": "int8_cache_names",
    "source": "sources",
    "devices": "devices",
    "hosts": "hosts",
}
_OPTION = re.compile(r"(?<![\w-])--([a-z0-9]+(?:-[a-z0-9]+)*)(?![\w=-])")


def _as_key(text: str, option: str) -> str:
    key = _KEYS_OF_OPTIONS.get(option)
    return f"`{key}`" if key else text


# Reading --------------------------------------------------------------------------------------------------

_START = "`bring-up.example.yaml` shows a complete file"
_MISSING_HINTS = {
    "version": "; write `version: 1` at the top",
    "name": "; it names the deployment on the hosts",
    "serve": "; it says what is to be served, and where",
    "hosts": "; write a node set of the inventory, such as node[01-04]",
    "model": "; write the folder of the model on the hosts",
}


def _block(document: Document) -> PlanBlock | None:
    """The file's content; None where something is wrong, which is noted in the document then."""
    if not isinstance(document.data, dict):
        found = describe(document.root)
        document.blame((), f"expected a mapping with `version`, `name` and `serve`, found {found}; {_START}")
        return None
    for path in document.empty:
        if not EXTENSION.fullmatch(str(path[0])):
            document.blame(path, "has no value; give one, or remove the line")
    known = {key: value for key, value in document.data.items() if not EXTENSION.fullmatch(key)}
    try:
        return PlanBlock.model_validate(known)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            path = _file_path(detail["loc"])
            document.blame(path, _said(document, path, detail["type"], dict(detail.get("ctx", {}))))
    return None


def _file_path(location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The path in the file of a pydantic error: its location without the tags of unions."""
    pairs = zip(("", *location), location, strict=False)
    return tuple(step for before, step in pairs if step not in _TAGS.get(str(before), ()))


def _said(document: Document, path: tuple[str | int, ...], kind: str, context: Mapping[str, Any]) -> str:
    node = document.node_at(path)
    word = plain_word(node)
    if kind == "extra_forbidden":
        return unknown_key(str(path[-1]), keys_of(_BLOCKS[str(path[0])] if path[1:] else PlanBlock))
    if kind == "missing":
        return f"`{path[-1]}` is missing{_MISSING_HINTS.get(str(path[-1]), '')}"
    if kind == "value_error":
        return f"`{printable(word)}`: {context['error']}" if word else str(context["error"])
    if kind == "literal_error":
        words = choices(context)
        return f"expected {one_of(words)}, found {describe(node)}{near_misses(word, words) if word else ''}"
    if kind == "string_pattern_mismatch":
        return f"expected the name of an environment variable, found {describe(node)}"
    wanted = "a mapping, true or false" if path == ("consistency",) else expected(kind, context)
    return f"expected {wanted}, found {found_text(document, kind, path)}"


def _lines(document: Document) -> dict[tuple[str, ...], int]:
    """Of every section and of every key in one."""
    found: dict[tuple[str, ...], int] = {}
    for section, below in document.data.items():
        found[section,] = document.line_at((section,))
        if isinstance(below, dict):
            found.update(((section, key), document.line_at((section, key))) for key in below)
    return found


def _plan(path: Path, block: PlanBlock, lines: Mapping[tuple[str, ...], int]) -> BringUpPlan:
    serve = block.serve
    join = None
    if block.join is not None:
        join = JoinStep(
            block.join.hosts,
            _given(block.join),
            block.join.devices if "devices" in block.join.model_fields_set else serve.devices,
            block.join.allow_fallback,
            tuple(block.join.sources),
        )
    return BringUpPlan(
        path,
        block.name,
        ServeStep(serve.hosts, Serving(**_given(serve)), serve.devices),
        join,
        _test(block.consistency, path),
        _beside(path, block.env_file),
        lines,
    )


def _given(block: ServingKeys) -> dict[str, Any]:
    """The fields of `Serving` that stand in the file."""
    found: dict[str, Any] = {}
    for name in ServingKeys.model_fields:
        if name in block.model_fields_set:
            value = getattr(block, name)
            found[name] = tuple(value) if isinstance(value, list) else value
    if "engine" in found:
        found["engine"] = Engine(found["engine"])
    return found


def _test(given: bool | ConsistencyBlock | None, path: Path) -> ConsistencyStep | None:
    if isinstance(given, ConsistencyBlock):
        prompts = _beside(path, given.prompts)
        return ConsistencyStep(prompts, given.max_tokens, given.concurrency, given.api_key_env)
    return ConsistencyStep() if given else None


def _beside(path: Path, text: str | None) -> Path | None:
    """A path of the file: one that is not absolute starts at the file's folder."""
    if text is None:
        return None
    try:
        found = Path(text).expanduser()
    except RuntimeError:  # ~ of a user this machine does not have; opening it will say so
        found = Path(text)
    return found if found.is_absolute() else path.parent / found
