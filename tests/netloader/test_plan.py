"""Plans: who goes where, what cannot work, what is stored, what differs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ascendctl.netloader.placing import joined, planned
from ascendctl.netloader.plan import Deployment, Engine, Instance, Place, PlanError, Role, Serving, Source
from ascendctl.netloader.plan_rules import JOIN_BYTES_MOST, compatible, join_bytes
from ascendctl.netloader.stored_plan import differences, from_json, to_json

SERVING = Serving("/models/m", tp=2, port=8000, listen_port=19374)
N1, N2 = Place("n1", "10.0.0.1", (0, 1)), Place("n2", "10.0.0.2", (0, 1))


def seeds(*places: Place, serving: Serving = SERVING, running: tuple[Instance, ...] = ()) -> Deployment:
    return planned("prod", Role.SEED, places or (N1,), serving, running=running)


def joiners(*places: Place, serving: Serving = SERVING, running: tuple[Instance, ...] = ()) -> Deployment:
    return planned("prod", Role.JOINER, places or (N2,), serving, running=running)


def refused(*places: Place, **changes: Any) -> str:
    with pytest.raises(PlanError) as caught:
        seeds(*places, serving=replace(SERVING, **changes))
    return "\n".join(caught.value.problems)


def test_one_instance_per_place() -> None:
    made = seeds(N1, N2)
    assert [(one.name, one.host, one.port, one.listen_port) for one in made.instances] == [
        ("n1.1", "n1", 8000, 19374),
        ("n2.1", "n2", 8000, 19374),
    ]
    assert made.hosts == ("n1", "n2")
    assert made.instances[0].listeners == ("10.0.0.1:19374", "10.0.0.1:19375")


def test_instances_that_share_a_host_keep_apart() -> None:
    seed = seeds(N1).instances
    more = joiners(replace(N1, devices=(2, 3)), replace(N1, devices=(4, 5)), running=seed)
    assert [(one.name, one.port, one.listen_port) for one in more.instances] == [
        ("n1.2", 8001, 19376),
        ("n1.3", 8002, 19378),
    ]


def test_the_same_call_makes_the_same_plan() -> None:
    first = seeds(N1, replace(N1, devices=(2, 3)), N2)
    again = seeds(N1, replace(N1, devices=(2, 3)), N2, running=first.instances)
    assert again == first and again.fingerprint == first.fingerprint
    assert differences(first, again) == ()
    # Also where an earlier one is gone, and for joiners.
    left = first.instances[1:]
    assert seeds(replace(N1, devices=(2, 3)), running=left).instances == first.instances[1:2]
    new = seeds(Place("n1", "10.0.0.1", (6, 7)), N1, running=first.instances[1:])
    assert len({one.port for one in new.instances}) == 2


def test_a_joiner_that_runs_keeps_its_sources() -> None:
    seed = seeds().instances
    (one,) = joiners(running=seed).instances
    one = joined(one, [Source.of(seed[0])])
    assert joiners(running=(*seed, one)).instances == (one,)
    # Other ranks, other sources: they are to be planned anew.
    other = replace(SERVING, tp=1, pp=1)
    place = replace(N2, devices=(4,))
    assert (
        joiners(place, serving=other, running=(*seed, replace(one, place=place))).instances[0].sources == ()
    )


def test_the_same_call_without_devices_makes_the_same_plan() -> None:
    bare = Place("n1", "127.0.0.1")
    first = seeds(bare, bare)
    assert [one.name for one in first.instances] == ["n1.1", "n1.2"]
    assert seeds(bare, bare, running=first.instances) == first


def test_another_plan_for_a_seed_is_told_not_started_beside_it() -> None:
    first = seeds(N1)
    other = seeds(replace(N1, devices=(2, 3)), running=first.instances)
    assert [one.name for one in other.instances] == ["n1.1"]
    assert differences(first, other) == ("n1.1 on n1: devices is 0,1, wanted 2,3",)
    moved = seeds(N1, serving=replace(SERVING, port=9000), running=first.instances)
    assert differences(first, moved) == ("n1.1 on n1: port is 8000, wanted 9000",)


def test_devices_of_instances_that_share_a_host_must_differ() -> None:
    assert "n1.1 and n1.2 both have device 1" in refused(N1, Place("n1", "10.0.0.1", (1, 2)))
    with pytest.raises(PlanError, match="both have device 0,1"):
        joiners(N1, running=seeds(N1).instances)
    seeds(N1, N2)  # the same devices of different hosts are different devices


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": ""}, "--model"),
    ({"model": "--port"}, "--model"),
    ({"model": "/m\n"}, "--model"),
    ({"tp": 0}, "--tp 0"),
    ({"tp": 4}, "4 ranks and 2 devices"),
    ({"port": 0}, "port 0 is none"),
    ({"listen_port": 80}, "LISTEN_PORT from 1024"),
    ({"listen_port": 65535}, "reach 65536"),
    ({"listen_port": 56000, "engine_args": ("--speculative-config={}",)}, "the draft model's 10000"),
    ({"int8_cache": "ram"}, "--int8-cache is ram: write no, hbm, dram"),
    ({"gpu_memory_utilization": 1.5}, "--gpu-memory-utilization is 1.5"),
    ({"gpu_memory_utilization": float("nan")}, "--gpu-memory-utilization"),
    ({"fallback": "none"}, "--fallback is none: write disk or error"),
    ({"model": "/" + "m" * 1000}, "a JOIN takes"),
    ({"config_file": "/f.json"}, "vllm-ascend takes that file alone"),
    ({"token_file": "/f"}, "--token-file"),
    ({"engine_args": ("--port", "1")}, "--engine-arg --port: set it by --port"),
    ({"engine_args": ("--tensor_parallel_size=2",)}, "--tensor-parallel-size: set it by --tp"),
    ({"engine_args": ("--api-key", "hunter2")}, "VLLM_API_KEY"),
    ({"engine_args": ("--data-parallel-size", "2")}, "one instance per replica"),
    ({"engine_args": ("a\0b",)}, "NUL"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_work_is_refused_with_words(changes: dict[str, Any], words: str) -> None:
    told = refused(**changes)
    assert words in told and "hunter2" not in told


def test_every_problem_is_told_at_once() -> None:
    assert len(refused(model="", int8_cache="x", gpu_memory_utilization=0).splitlines()) == 3


def test_names_that_become_folders_are_plain() -> None:
    for name in ("../x", "", "a/b", "-x", "x" * 64, "a b", "a\n"):
        with pytest.raises(PlanError, match="cannot be a deployment's name"):
            planned(name, Role.SEED, [N1], SERVING)
    (one,) = seeds(replace(N1, host="fe80::1%eth0/../x")).instances
    assert one.name == "fe80__1_eth0_.._x.1"
    with pytest.raises(PlanError, match="2 instances have this name"):
        seeds(replace(N1, host="a b"), replace(N1, host="a_b"))


def test_a_variables_name_must_be_one() -> None:
    assert "'A;reboot' is no name" in refused(replace(N1, environment=(("A;reboot", "1"),)))


def test_a_join_is_measured_with_every_field_of_the_wire() -> None:
    # One JSON object, as vllm-ascend's client writes it for the last rank of a draft model.
    content = '"device_id": 1, "model_path": "/models/m", "tp": 2, "pp": 1, "port": 65535, '
    content += '"group_name": "netloader_draft", "int8_cache": "dram"'
    assert join_bytes(SERVING) == len('{"label": "JOIN", "content": {' + content + "}}")
    longest = replace(
        SERVING, model="/" + "m" * (len("/models/m") - 1 + JOIN_BYTES_MOST - join_bytes(SERVING))
    )
    seeds(serving=longest)
    assert "a JOIN takes 1025 bytes" in refused(model=longest.model + "m")


# Joining --------------------------------------------------------------------------------------------------


def test_source_is_written_for_every_rank_in_the_order_of_the_sources() -> None:
    seed, other = seeds(N1, Place("n3", "10.0.0.3", (0, 1))).instances
    (one,) = joiners(running=(seed, other)).instances
    made = joined(one, [Source.of(other), Source.of(seed)])
    assert made.sources == (("10.0.0.3:19374", "10.0.0.1:19374"), ("10.0.0.3:19375", "10.0.0.1:19375"))


def join_problem(source: Source, serving: Serving = SERVING) -> str:
    (one,) = joiners(serving=serving).instances
    with pytest.raises(PlanError) as caught:
        joined(one, [source])
    return str(caught.value)


def test_sources_that_cannot_serve_are_refused() -> None:
    assert "n2.1 has 2 ranks and its source x 1" in join_problem(Source("x", ("10.0.0.1:1",)))
    ipv6 = Source.at("[fd00::1]:19374", 2)
    assert ipv6.listeners == ("[fd00::1]:19374", "[fd00::1]:19375")
    assert "knows IPv4 only" in join_problem(ipv6)
    (one,) = joiners(serving=replace(SERVING, engine=Engine.OWN)).instances
    assert joined(one, [ipv6]).sources[1] == ("[fd00::1]:19375",)
    with pytest.raises(PlanError, match="no source"):
        joined(one, [])
    for text in ("10.0.0.1", "http://h:1", "10.0.0.1:65535"):
        with pytest.raises(PlanError, match="--source"):
            Source.at(text, 2)


def test_a_source_whose_ports_nobody_knows_is_refused() -> None:
    (seed,) = seeds(serving=replace(SERVING, listen_port=None)).instances
    with pytest.raises(PlanError, match="has no LISTEN_PORT"):
        Source.of(seed)
    (seed,) = seeds(replace(N1, address="")).instances
    with pytest.raises(PlanError, match="has no address"):
        Source.of(seed)


def test_a_joiner_with_a_config_file_would_lose_its_source() -> None:
    serving = replace(SERVING, listen_port=None, config_file="/f.json")
    with pytest.raises(PlanError, match="would drop the SOURCE"):
        joiners(serving=serving)
    seeds(serving=serving)
    joiners(serving=replace(serving, engine=Engine.OWN))


COMPATIBLE: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"port": 9000, "listen_port": 1, "served_model_name": "x"}, ""),
    ({"model": "/models/m/"}, "a final slash too"),
    ({"tp": 1, "pp": 2}, "--tp is 1 and the source's 2"),
    ({"int8_cache": "hbm"}, "--int8-cache is hbm and the source's no"),
    ({"dtype": "float16"}, "wrong weights without a word"),
    ({"engine": Engine.OWN}, "--engine is ascendctl and the source's vllm-ascend"),
]


@pytest.mark.parametrize(("changes", "words"), COMPATIBLE, ids=range(len(COMPATIBLE)))
def test_what_a_source_would_refuse_or_mistake_is_told(changes: dict[str, Any], words: str) -> None:
    told = compatible(replace(SERVING, **changes), SERVING)
    assert words in "\n".join(told) and bool(told) == bool(words)


def test_the_own_engine_compares_content_so_the_model_string_may_differ() -> None:
    own = replace(SERVING, engine=Engine.OWN)
    assert compatible(replace(own, model="/elsewhere"), own) == ()


# Stored ---------------------------------------------------------------------------------------------------


def test_a_stored_plan_comes_back_as_it_was() -> None:
    serving = replace(SERVING, engine_args=("--a", "b"), gpu_memory_utilization=0.5, int8_cache_names=("x",))
    made = seeds(replace(N1, environment=(("A", "ü\n"),)), serving=serving)
    (one,) = joiners().instances
    made = replace(made, instances=(*made.instances, joined(one, [Source.of(made.instances[0])])))
    assert from_json(to_json(made)) == made


def test_every_field_counts_for_the_fingerprint() -> None:
    first = seeds().instances[0]
    others = [
        replace(first, port=1),
        replace(first, sources=(("a:1",), ("b:1",))),
        replace(first, role=Role.JOINER),
        replace(first, place=replace(first.place, environment=(("A", "1"),))),
        replace(first, serving=replace(first.serving, dtype="float16")),
        replace(first, serving=replace(first.serving, engine_args=("--x",))),
    ]
    assert len({one.fingerprint for one in (first, *others)}) == 7
    for other in others:
        assert differences(Deployment("d", (first,)), Deployment("d", (other,)))


def test_the_fingerprint_does_not_depend_on_the_order() -> None:
    made = seeds(N1, N2)
    assert replace(made, instances=made.instances[::-1]).fingerprint == made.fingerprint
    assert replace(made, name="x").fingerprint != made.fingerprint


STORED: dict[str, Any] = json.loads(to_json(seeds()))
SPOILT: list[tuple[str, str]] = [
    ("", "not valid JSON"),
    ("[" * 100000, "not valid JSON"),
    ("[]", "its format is list"),
    (json.dumps({**STORED, "format": 99}), "its format is 99"),
    (json.dumps({**STORED, "deployment": None}), "the stored plan cannot be read"),
    (json.dumps({**STORED, "deployment": {**STORED["deployment"], "instances": [{}]}}), "instances.0"),
    (json.dumps({**STORED, "deployment": {**STORED["deployment"], "name": 5}}), "name"),
    (json.dumps({**STORED, "deployment": {**STORED["deployment"], "name": "x"}}), "changed by hand"),
]


@pytest.mark.parametrize(("text", "words"), SPOILT, ids=range(len(SPOILT)))
def test_what_is_no_plan_is_refused_with_words(text: str, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        from_json(text)


def test_differences_are_told_in_words_without_secrets() -> None:
    place = replace(N1, environment=(("HCCL_BUFFSIZE", "200"), ("HF_TOKEN", "hunter2"), ("GONE", "x\x1b")))
    first = seeds(place)
    wanted_place = replace(N1, environment=(("HCCL_BUFFSIZE", "1024"), ("HF_TOKEN", "hunter3")))
    wanted = seeds(wanted_place, N2, serving=replace(SERVING, enforce_eager=True, engine_args=("--x", "1")))
    assert differences(first, wanted) == (
        "n2.1 is wanted and does not run",
        "n1.1 on n1: enforce eager is False, wanted True",
        "n1.1 on n1: engine args is not set, wanted --x 1",
        "n1.1 on n1: environment HCCL_BUFFSIZE is 200, wanted 1024",
        "n1.1 on n1: environment HF_TOKEN differs",
        "n1.1 on n1: environment GONE is x\\x1b, wanted not set",
    )
    assert differences(wanted, first)[0] == "n2.1 runs and is not wanted"
