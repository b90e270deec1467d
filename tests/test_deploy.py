"""What is planned by what runs already: never two models under one name, no gate that looks past others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from ascendctl.deploy import Joining, Prepared, Wanted, prepare_join, prepare_serve
from ascendctl.engine_hosts import Survey
from ascendctl.inventory import Endpoint, Host
from ascendctl.netloader.deployment_state import HostSeen, KeptBy, Life, Seen, State
from ascendctl.netloader.fleet import Fleet
from ascendctl.netloader.plan import Deployment, Engine, Instance, PlanError, Role, Serving
from ascendctl.netloader.standing import recorded
from ascendctl.netloader.stored_plan import to_json
from tests.netloader.fake_fleet import SEED_LOG, SERVING, instances, seen
from tests.netloader.test_standing import Hosts

OWN = replace(SERVING, engine=Engine.OWN, output_prefix="/run/{instance}-")


class Site(Hosts):
    """A fleet of hosts n1 to n4, of which some have instances."""

    def __init__(self, held: Mapping[str, Sequence[Seen] | str]) -> None:
        names = ("n1", "n2", "n3", "n4")
        super().__init__({**dict.fromkeys(names, ()), **held})
        self.hosts = {name: Host(name, Endpoint(name, f"10.0.0.{name[1:]}")) for name in names}


def wanted(site: Site, *hosts: str, name: str = "prod", serving: Serving = SERVING, **more: Any) -> Wanted:
    return Wanted(name, serving, tuple(site.hosts[host] for host in hosts), **more)


def survey(site: Site) -> Survey:
    return Survey({name: host.endpoint.address for name, host in site.hosts.items()}, {})


def serve(site: Site, *hosts: str, **more: Any) -> Prepared:
    return prepare_serve(cast(Fleet, site), wanted(site, *hosts, **more), survey(site))


def join(site: Site, *hosts: str, joining: Joining | None = None, **more: Any) -> Prepared:
    given = wanted(site, *hosts, **{"serving": Serving(""), **more})
    return prepare_join(cast(Fleet, site), given, joining or Joining(), survey(site))


def began(one: Seen, at_s: int, start: str = "a") -> Seen:
    state = State(
        one.deployment,
        one.instance,
        start * 32,
        "started",
        "n",
        at_s,
        KeptBy.SESSION,
        None,
        None,
        (),
        None,
        None,
    )
    return replace(one, state=state)


def named(one: Instance, deployment: str, log: str = SEED_LOG) -> Seen:
    told = seen(one, log)
    return replace(told, deployment=deployment, plan=to_json(Deployment(deployment, (one,))))


def own_status(one: Instance, origin: str) -> Seen:
    """An instance of the own loader that gives weights of that origin."""
    content = {
        "version": 1,
        "rank": 0,
        "group": "netloader",
        "pid": 7,
        "state": "ready",
        "listener": {"address": one.place.address, "port": one.listen_port, "open": True, "accepting": True},
        "weights": {"from": "disk" if one.role is Role.SEED else "p2p", "source": "10.0.0.1:19374",
                    "bytes": 9, "verified": True, "origin": origin},
        "serving": {"serving": True, "reason": None},
        "fallback": None,
    }  # fmt: skip
    prefix = one.status_prefix
    return replace(seen(one, ""), members=(7,), statuses=((f"{prefix}0.json", json.dumps(content).encode()),))


def test_another_deployment_on_the_host_is_in_the_way_and_one_elsewhere_is_not() -> None:
    here, there = instances("n1", role=Role.SEED)[0], instances("n4", role=Role.SEED)[0]
    site = Site({"n1": [named(here, "other")], "n4": [named(there, "third")]})
    made = serve(site, "n1", serving=replace(SERVING, port=8100, listen_port=19500))
    # Both are called n1.1 in their deployments; the gate tells them apart.
    assert [one.name for one in made.new] == ["n1.1"]
    assert [(one.name, one.port) for one in made.others] == [("other/n1.1", 8000)]


def test_a_name_serves_one_model_whatever_host_it_is_asked_for() -> None:
    (seed,) = instances("n1", role=Role.SEED)
    site = Site({"n1": [named(seed, "prod")]})
    with pytest.raises(PlanError, match=r"n1\.1 on n1 serves /models/m as prod already.*--name"):
        serve(site, "n2", serving=replace(SERVING, model="/models/chat"))
    assert [one.name for one in serve(site, "n2").new] == ["n2.1"]


def test_seeds_that_do_not_serve_the_same_give_to_nobody() -> None:
    (first,) = instances("n1", role=Role.SEED)
    (second,) = instances("n2", role=Role.SEED, serving=replace(SERVING, model="/models/chat"))
    site = Site({"n1": [named(first, "prod")], "n2": [named(second, "prod")]})
    with pytest.raises(PlanError, match=r"n1\.1 on n1: /models/m; n2\.1 on n2: /models/chat"):
        join(site, "n3")


def test_sources_of_the_own_loader_that_hold_different_weights_give_to_nobody() -> None:
    (seed,) = instances("n1", role=Role.SEED, serving=OWN)
    (old,) = instances("n2", serving=OWN)
    held = {"n1": [own_status(seed, "a" * 32)], "n2": [own_status(old, "b" * 32)]}
    with pytest.raises(PlanError, match=r"hold different ones.*n1\.1: a+.*n2\.1: b+"):
        join(Site(held), "n3")
    held["n2"] = [own_status(old, "a" * 32)]
    assert set(join(Site(held), "n3").sources) == {"n1.1", "n2.1"}


def test_a_joiner_older_than_the_seed_is_no_source_of_vllm_ascend() -> None:
    (seed,), (joiner,) = instances("n1", role=Role.SEED), instances("n2")
    later = {"n1": [began(seen(seed, SEED_LOG), 200)], "n2": [began(seen(joiner), 100, "b")]}
    assert set(join(Site(later), "n3").sources) == {"n1.1"}
    earlier = {"n1": [began(seen(seed, SEED_LOG), 100)], "n2": [began(seen(joiner), 200, "b")]}
    assert set(join(Site(earlier), "n3").sources) == {"n1.1", "n2.1"}


def test_a_joiner_gets_the_variables_that_were_given_also_where_only_joiners_are_left() -> None:
    (joiner,) = instances("n2", given=(("VLLM_API_KEY", "hunter2"),))
    site = Site({"n2": [seen(joiner)]})
    (new,) = join(site, "n3").new
    assert new.place.given == (("VLLM_API_KEY", "hunter2"),)
    (other,) = join(site, "n3", environment=(("A", "1"),)).new
    assert other.place.given == (("A", "1"),)


@pytest.mark.parametrize("change", [{"dtype": "float16"}, {"tp": 2}, {"model": "/models/m/"}])
def test_a_joiner_that_could_not_take_the_weights_is_refused(change: dict[str, Any]) -> None:
    (seed,) = instances("n1", role=Role.SEED)
    with pytest.raises(PlanError, match="source's"):
        join(Site({"n1": [seen(seed, SEED_LOG)]}), "n3", joining=Joining(change))


def test_a_host_that_was_not_asked_is_a_warning() -> None:
    (seed,) = instances("n1", role=Role.SEED)
    made = join(Site({"n1": [seen(seed, SEED_LOG)], "n4": "no route"}), "n3")
    assert made.warnings == ("n4: no route",)


@pytest.mark.parametrize(
    ("lives", "kept"),
    [
        ((Life.RUNNING, Life.ELSEWHERE), ["n1"]),
        ((Life.ELSEWHERE, Life.ENDED), ["n2"]),
        ((Life.RUNNING, Life.RESTARTED), ["n1"]),
        ((Life.RESTARTED, Life.ELSEWHERE), ["n1"]),
        ((Life.ELSEWHERE, Life.ELSEWHERE), ["n1", "n2"]),
    ],
)
def test_a_home_folder_that_hosts_share_shows_an_instance_once(
    lives: tuple[Life, Life], kept: list[str]
) -> None:
    (one,) = instances("n1", role=Role.SEED)
    told = began(seen(one, SEED_LOG), 100)
    listed = {
        host: HostSeen((replace(told, life=life),)) for host, life in zip(("n1", "n2"), lives, strict=True)
    }
    assert [found.host for found in recorded(listed)] == kept


def test_two_starts_of_one_folders_name_are_two() -> None:
    (one,) = instances("n1", role=Role.SEED)
    listed = {
        "n1": HostSeen((began(seen(one, SEED_LOG), 100),)),
        "n2": HostSeen((replace(began(seen(one, SEED_LOG), 100, "b"), life=Life.RESTARTED),)),
    }
    assert [found.host for found in recorded(listed)] == ["n1", "n2"]


def test_an_instance_is_called_by_the_host_it_was_seen_on() -> None:
    (one,) = instances("n1", role=Role.SEED)
    (found,) = recorded({"node-one": HostSeen((seen(one, SEED_LOG),))})
    assert found.instance is not None and found.instance.host == "node-one"
