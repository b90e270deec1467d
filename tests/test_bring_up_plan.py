"""The plan file of bring-up: every kind of mistake with its line, defaults, the example, the schema."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ascendctl.bring_up import Goal, Questions, goal_of
from ascendctl.bring_up_plan import BringUpPlan, ConsistencyStep, ServingKeys, load_plan, plan_schema
from ascendctl.inventory import load
from ascendctl.netloader.placing import planned
from ascendctl.netloader.plan import Engine, Place, PlanError, Role, Serving

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "bring-up.example.yaml"
INVENTORY = ROOT / "inventory.example.yaml"
WHOLE = """\
version: 1
name: demo
serve:
  hosts: node01
  model: /models/m
  listen_port: 20001
join:
  hosts: node[02-03]
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "plan.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def loaded(folder: Path, text: str) -> BringUpPlan:
    return load_plan(write(folder, text))


def problems(folder: Path, text: str) -> list[str]:
    """The problems of a file, each as ``line: …``."""
    file = write(folder, text)
    with pytest.raises(PlanError) as caught:
        load_plan(file)
    assert all(problem.startswith(f"{file}:") for problem in caught.value.problems)
    return [problem.removeprefix(f"{file}:") for problem in caught.value.problems]


def with_line(section: str, line: str, text: str = WHOLE) -> str:
    """The whole plan with one more line at the end of a section, or at the top level."""
    lines = text.splitlines()
    if not section:
        return "\n".join([*lines, line])
    at = lines.index(f"{section}:")
    return "\n".join([*lines[: at + 1], f"  {line}", *lines[at + 1 :]])


MISTAKES = {
    "nothing": ("", "1: expected a mapping with `version`, `name` and `serve`, found nothing"),
    "a list": ("- a", "1: expected a mapping with `version`, `name` and `serve`, found a list"),
    "no YAML": ("version: [1", "1: not valid YAML"),
    "other version": (WHOLE.replace("version: 1", "version: 2"), "1: version: `2`: this ascendctl"),
    "no version": (WHOLE.replace("version: 1", "x-version: 1"), "1: version: `version` is missing"),
    "no name": (WHOLE.replace("name: demo", "x-name: demo"), "1: name: `name` is missing"),
    "no model": (WHOLE.replace("model:", "x-model:"), "5: serve.x-model: unknown key"),
    "bad name": (WHOLE.replace("name: demo", "name: a/b"), "2: name: 'a/b' cannot be a deployment's name"),
    "a wrong top key": (with_line("", "jion: {}"), "9: jion: unknown key `jion`; did you mean join?"),
    "a wrong key": (with_line("serve", "listen-port: 1"), "serve.listen-port: unknown key `listen-port`;"),
    "a key of serve": (with_line("", "consistency: {tp: 1}"), "9: consistency.tp: unknown"),
    "twice": (with_line("serve", "hosts: b"), "5: serve.hosts: the key was already given on line 4"),
    "no value": (with_line("serve", "dtype:"), "4: serve.dtype: has no value"),
    "text for a number": (with_line("serve", 'tp: "2"'), "4: serve.tp: expected a whole number, written"),
    "too small": (with_line("serve", "tp: 0"), "4: serve.tp: expected a number of 1 or more, found `0`"),
    "too large": (with_line("join", "port: 65536"), "8: join.port: expected a number of 65535 or less"),
    "no such engine": (with_line("serve", "engine: vllm"), "serve.engine: expected vllm-ascend or ascendctl"),
    "a near word": (with_line("serve", "verify: requird"), "found `requird`; did you mean required?"),
    "no ids": (with_line("serve", "devices: a-b"), "4: serve.devices: `a-b`: expected physical ids"),
    "ids of a list": (with_line("join", "devices: [0, x]"), "8: join.devices: expected physical ids"),
    "words in one text": (with_line("serve", "launcher: vllm serve"), "4: serve.launcher: expected a list"),
    "no word": (with_line("serve", "launcher: []"), "4: serve.launcher: expected a list that is not empty"),
    "a number for a word": (with_line("serve", "engine_args: [1]"), "put it in quotes if it is meant"),
    "test of a word": (with_line("", "consistency: all"), "9: consistency: expected a mapping, true"),
    "no variable": (
        with_line("", "consistency: {api_key_env: sk-1}"),
        "9: consistency.api_key_env: expected the name of an environment variable",
    ),
    "no listener": (WHOLE.replace("listen_port: 20001", "port: 8000"), "3: serve: `listen_port` is missing"),
    "another tp": (with_line("join", "tp: 2"), "8: join.tp: `tp` is 2 and the source's 1: rank r"),
    "another model": (with_line("join", "model: /models/m/"), "8: join.model: `model` is /models/m/ and the"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_with_their_line(name: str, tmp_path: Path) -> None:
    text, said = MISTAKES[name]
    found = problems(tmp_path, text)
    assert any(said in problem for problem in found), found


def test_all_problems_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, with_line("serve", "tp: 0", with_line("join", "port: 0")))
    assert [problem.partition(":")[0] for problem in found] == ["4", "9"]


@pytest.mark.parametrize(
    ("path", "said"), [("no.yaml", "no such file; give the path of a bring-up plan"), (".", "folder")]
)
def test_a_file_that_cannot_be_read(path: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=said):
        load_plan(tmp_path / path)


# What is read ---------------------------------------------------------------------------------------------


def test_a_key_for_every_field_of_serving_with_its_default() -> None:
    fields = {one.name: one for one in dataclasses.fields(Serving)}
    assert set(ServingKeys.model_fields) == set(fields)
    for name, key in ServingKeys.model_fields.items():
        ours = getattr(Serving(""), name)
        ours = ours.value if isinstance(ours, Engine) else list(ours) if isinstance(ours, tuple) else ours
        assert key.default == (None if name == "model" else ours), name


GIVEN: dict[str, Any] = {
    "engine": "ascendctl",
    "tp": 2,
    "pp": 2,
    "port": 8100,
    "listen_port": 20005,
    "served_model_name": "m",
    "enforce_eager": True,
    "dtype": "bfloat16",
    "gpu_memory_utilization": 0.5,
    "engine_args": ["--max-model-len=64"],
    "launcher": ["python3", "-m", "x"],
    "int8_cache": "dram",
    "int8_cache_names": ["gate"],
    "output_prefix": "/tmp/x-",
    "config_file": "/tmp/c.json",
    "fallback": "error",
    "verify": "if-offered",
    "chain": False,
    "token_file": "/etc/token",
    "bind": "address",
}


def test_every_key_arrives(tmp_path: Path) -> None:
    plan = {
        "version": 1,
        "name": "demo",
        "serve": {"hosts": "a", "model": "/m", "devices": "0-2,8", **GIVEN},
        "join": {"hosts": "b", "devices": [1, 3], "allow_fallback": True, "sources": ["h:1"], "bind": "all"},
        "consistency": {"prompts": "p.txt", "max_tokens": 5, "concurrency": 3, "api_key_env": "KEY"},
        "env_file": "/etc/engine.env",
        "x-anchors": {"anything": 1},
    }
    read = loaded(tmp_path, yaml.safe_dump(plan))
    as_fields = {key: tuple(value) if isinstance(value, list) else value for key, value in GIVEN.items()}
    assert read.serve.serving == Serving("/m", **{**as_fields, "engine": Engine.OWN})
    assert (read.serve.hosts, read.serve.devices) == ("a", (0, 1, 2, 8))
    assert read.join is not None
    assert (read.join.hosts, read.join.devices) == ("b", (1, 3))
    assert (read.join.changes, read.join.allow_fallback) == ({"bind": "all"}, True)
    assert read.join.sources == ("h:1",)
    assert read.consistency == ConsistencyStep(tmp_path / "p.txt", 5, 3, "KEY")
    assert read.env_file == Path("/etc/engine.env")
    assert set(GIVEN) | {"model"} == {one.name for one in dataclasses.fields(Serving)}
    jsonschema.validate(plan, plan_schema())


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("", None),
        ("consistency: false", None),
        ("consistency: true", ConsistencyStep()),
        ("consistency: {}", ConsistencyStep()),
    ],
)
def test_whether_it_is_tested(line: str, wanted: ConsistencyStep | None, tmp_path: Path) -> None:
    assert loaded(tmp_path, with_line("", line)).consistency == wanted


@pytest.mark.parametrize(
    ("line", "devices"), [("", (0, 1)), ("devices: 4", (4,)), ("devices: []", ()), ("devices: 2-3", (2, 3))]
)
def test_joiners_have_the_seeds_devices_unless_told(
    line: str, devices: tuple[int, ...], tmp_path: Path
) -> None:
    text = with_line("serve", "devices: 0-1", with_line("join", line) if line else WHOLE)
    join = loaded(tmp_path, text).join
    assert join is not None and join.devices == devices


# The example and the schema -------------------------------------------------------------------------------


def goal(plan: BringUpPlan, **more: Any) -> Goal:
    return goal_of(plan, load(INVENTORY), **more)


def test_the_example_is_a_plan_for_the_example_inventory() -> None:
    plan = load_plan(EXAMPLE)
    made = goal(plan, questions=Questions((), 64))
    assert [host.name for host in made.hosts] == ["node01", "node02", "node03", "node04"]
    assert made.join is not None
    for role, wanted in ((Role.SEED, made.serve), (Role.JOINER, made.join)):
        places = [Place(host.name, host.endpoint.address, wanted.devices) for host in wanted.hosts]
        assert len(planned(plan.name, role, places, wanted.serving).instances) == len(wanted.hosts)
    assert "加入者" in EXAMPLE.read_text(encoding="utf-8")


def test_the_example_names_every_key_and_the_schema_describes_it() -> None:
    schema, text = plan_schema(), EXAMPLE.read_text(encoding="utf-8")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(text), schema)
    blocks = [schema, *schema["$defs"].values()]
    keys = {key: value for block in blocks for key, value in block.get("properties", {}).items()}
    for key, value in keys.items():
        assert value.get("description"), key
        assert key in text, key


@pytest.mark.parametrize("text", [with_line("serve", "tpp: 1"), with_line("serve", "tp: 0"), "version: 1"])
def test_what_is_refused_is_not_valid_either(text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), plan_schema())


# Against an inventory -------------------------------------------------------------------------------------


def refused(plan: BringUpPlan, **more: Any) -> str:
    with pytest.raises(PlanError) as caught:
        goal(plan, **more)
    return str(caught.value).replace(f"{plan.path}:", "")


def test_hosts_that_the_inventory_does_not_have(tmp_path: Path) -> None:
    plan = loaded(tmp_path, WHOLE.replace("node[02-03]", "node[90-91]"))
    assert refused(plan).startswith("8: join.hosts: no host named node[90-91] in the inventory")


def test_nothing_to_compare_with(tmp_path: Path) -> None:
    text = WHOLE.partition("join:")[0] + "consistency: true\n"
    plan = loaded(tmp_path, text)
    assert goal(plan).questions is None
    assert refused(plan, questions=Questions((), 1)).startswith("7: consistency: there is one instance")


def test_rules_of_the_loader_are_told_in_the_words_of_the_file(tmp_path: Path) -> None:
    plan = loaded(tmp_path, with_line("serve", "devices: 0-2"))
    (said,) = plan.located("serve", ["node01.1: --tp 1 x --pp 1 is 1 ranks and 3 devices are given"])
    assert said == f"{plan.path}:3: serve: node01.1: `tp` 1 x `pp` 1 is 1 ranks and 3 devices are given"
    (said,) = plan.located("serve", ["give each devices of its own (--devices)"])
    assert said == f"{plan.path}:4: serve.devices: give each devices of its own (`devices`)"
    (said,) = plan.located("join", ["--engine-arg --tensor-parallel-size: set it by --tp; --source: none"])
    assert said == (
        f"{plan.path}:8: join: `engine_args` --tensor-parallel-size: set it by `tp`; `sources`: none"
    )
