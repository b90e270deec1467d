"""Which instances a name means."""

from __future__ import annotations

import pytest

from ascendctl.netloader.naming import candidates_of, may_be_a_name, reference_of
from ascendctl.netloader.plan import PlanError, Role
from ascendctl.netloader.runs import Standing
from tests.report import netloader_runs as n


def standing(deployment: str, host: str, role: Role, url: str | None = None) -> Standing:
    instance = n.instance(host=host, role=role)
    one = n.standing(instance, url=f"http://{host}:8000" if url is None else url)
    from dataclasses import replace

    return replace(one, host=host, seen=replace(one.seen, deployment=deployment, instance=instance.name))


SEED = standing("qwen", "node01", Role.SEED)
FIRST, SECOND = standing("qwen", "node02", Role.JOINER), standing("qwen", "node03", Role.JOINER)
OTHER = standing("glm", "node04", Role.SEED)
ALL = (FIRST, SEED, SECOND, OTHER)


@pytest.mark.parametrize(
    ("text", "it_may"),
    [
        ("qwen", True),
        ("qwen/node02.1", True),
        ("10.0.0.1:8000", False),
        ("http://node01:8000", False),
        ("http://node01", False),
        ("", False),
        ("a/b/c", False),
    ],
)
def test_what_may_be_a_name(text: str, it_may: bool) -> None:
    assert may_be_a_name(text) is it_may


@pytest.mark.parametrize(
    ("text", "meant"),
    [("qwen", SEED), ("qwen/node03.1", SECOND), ("node02.1", FIRST), ("glm", OTHER), ("node04.1", OTHER)],
)
def test_a_reference_is_an_instance_or_the_seed_of_a_deployment(text: str, meant: Standing) -> None:
    assert reference_of(text, ALL) == meant


def test_a_reference_that_may_mean_several_is_asked_for_again() -> None:
    with pytest.raises(PlanError, match=r"qwen/node01\.1, qwen/node05\.1"):
        reference_of("qwen", (*ALL, standing("qwen", "node05", Role.SEED)))
    with pytest.raises(PlanError, match=r"qwen/node02\.1, qwen/node03\.1"):
        reference_of("qwen", (FIRST, SECOND))


def test_candidates_are_all_but_the_reference() -> None:
    assert candidates_of("qwen", ALL, SEED.url) == (FIRST, SECOND)
    assert candidates_of("qwen/node02.1", ALL, SEED.url) == (FIRST,)
    with pytest.raises(PlanError, match="nothing beside the reference"):
        candidates_of("glm", ALL, OTHER.url)


def test_a_name_that_is_not_there_says_what_is() -> None:
    with pytest.raises(PlanError, match=r"qwn .*qwen, glm"):
        reference_of("qwn", ALL)
    with pytest.raises(PlanError, match="nothing stands there"):
        candidates_of("qwen", ())


def test_an_instance_without_an_address_is_never_left_out_in_silence() -> None:
    dumb = standing("qwen", "node05", Role.JOINER, url="")
    with pytest.raises(PlanError, match=r"qwen/node05\.1 on node05"):
        candidates_of("qwen", (*ALL, dumb), SEED.url)


def test_an_instance_that_ended_is_not_compared_by_what_answers_in_its_place() -> None:
    from dataclasses import replace

    from ascendctl.netloader.deployment_state import Life

    ended = replace(FIRST, seen=replace(FIRST.seen, life=Life.ENDED), reason="memory ran out")
    with pytest.raises(PlanError, match=r"qwen/node02\.1 on node02 ended: memory ran out"):
        candidates_of("qwen", (SEED, ended, SECOND), SEED.url)
    with pytest.raises(PlanError, match="ended"):
        reference_of("node02.1", (SEED, ended))
