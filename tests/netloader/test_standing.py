"""What stands on the hosts, from their own folders alone: every deployment, and who gives weights."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from ascendctl.netloader.deployment_state import HostSeen, KeptBy, Life, LogPart, Seen, State
from ascendctl.netloader.fleet import Fleet
from ascendctl.netloader.host_scripts import LOG_PART_BYTES, Look
from ascendctl.netloader.log_rules import Stage
from ascendctl.netloader.plan import Deployment, Instance, Role
from ascendctl.netloader.runs import Standing, status_exit_code
from ascendctl.netloader.standing import looked, recorded, sources, stand
from ascendctl.netloader.stored_plan import to_json
from tests.netloader.fake_fleet import FELL_BACK_LOG, RECEIVED_LOG, SEED_LOG, instances, seen

(SEED,) = instances("n1", role=Role.SEED)
(JOINER,) = instances("n2")


class Hosts:
    """Hosts whose folders hold these instances; a text is why the host cannot be asked."""

    def __init__(self, held: Mapping[str, Sequence[Seen] | str]) -> None:
        self.held = held
        self.looks: list[Mapping[str, Sequence[Look]]] = []
        self.stop = threading.Event()

    def listed(self, hosts: Sequence[str]) -> dict[str, HostSeen]:
        found = {}
        for host in hosts:
            held = self.held[host]
            without_logs = () if isinstance(held, str) else tuple(replace(one, log=None) for one in held)
            found[host] = HostSeen(without_logs, held if isinstance(held, str) else "", "/root")
        return found

    def looked(self, looks: Mapping[str, Sequence[Look]]) -> dict[str, HostSeen]:
        self.looks.append(looks)
        return {
            host: HostSeen(tuple(self._part(host, look) for look in asked)) for host, asked in looks.items()
        }

    def _part(self, host: str, look: Look) -> Seen:
        one = next(one for one in self.held[host] if isinstance(one, Seen) and one.instance == look.instance)
        if one.log is None:
            return one
        whole = one.log.content
        at = max(0, len(whole) - look.log_bytes) if look.log_from is None else look.log_from
        return replace(one, log=LogPart(len(whole), at, whole[at : at + look.log_bytes]))


def standings(held: Mapping[str, Sequence[Seen] | str], name: str | None = None) -> tuple[Standing, ...]:
    return stand(cast(Fleet, Hosts(held)), list(held), name).standings


def test_every_deployment_of_every_host_is_told_as_its_own_plan_says() -> None:
    hosts = Hosts({"n1": [seen(SEED, SEED_LOG)], "n2": [seen(JOINER)], "n3": ()})
    run = stand(cast(Fleet, hosts), ["n1", "n2", "n3"])
    seed, joiner = run.standings
    assert (seed.instance, seed.ready, seed.stage, seed.serves) == (
        SEED,
        True,
        Stage.READY,
        ("10.0.0.1:19374",),
    )
    assert (joiner.instance, joiner.url) == (JOINER, "http://10.0.0.2:8000")
    assert joiner.evidence is not None and not joiner.evidence.unproven and not joiner.evidence.fallbacks
    assert (run.hosts, run.unasked, status_exit_code(run)) == (("n1", "n2", "n3"), (), 0)
    # One look for all that is asked of a host, with its API and its whole log.
    ((look,), _) = hosts.looks[0].values()
    assert (look.api, look.log_from) == (("127.0.0.1", 8000), 0)


def test_one_deployment_is_chosen_by_its_name() -> None:
    other = replace(seen(SEED, SEED_LOG), deployment="other", plan=to_json(Deployment("other", (SEED,))))
    held = {"n1": [seen(SEED, SEED_LOG), other]}
    assert [one.seen.deployment for one in standings(held)] == ["prod", "other"]
    assert [one.seen.deployment for one in standings(held, "other")] == ["other"]
    assert standings(held, "none") == ()


def test_a_host_that_cannot_be_asked_is_told() -> None:
    run = stand(cast(Fleet, Hosts({"n1": [seen(SEED, SEED_LOG)], "n2": "no route"})), ["n1", "n2"])
    assert len(run.standings) == 1 and run.unasked == (("n2", "no route"),)
    assert status_exit_code(run) == 3


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (None, "there is no plan.json that can be read"),
        ("{", "it is not valid JSON"),
        (to_json(Deployment("prod", (JOINER,))), "plan.json is of another instance"),
        (to_json(Deployment("other", (SEED,))), "plan.json is of another instance"),
        (to_json(Deployment("prod", (SEED,))).replace("19374", "19375"), "was changed by hand"),
    ],
)
def test_a_plan_that_cannot_be_read_is_no_plan(plan: str | None, why: str) -> None:
    (one,) = standings({"n1": [seen(SEED, SEED_LOG, plan=plan)]})
    assert (one.instance, one.ready, one.serves) == (None, None, ()) and why in one.reason
    (found,) = recorded({"n1": HostSeen((seen(SEED, plan=plan),))})
    assert found.alive and found.instance is None and why in found.reason


def test_of_a_long_log_its_beginning_and_its_end_are_read() -> None:
    log = RECEIVED_LOG + ("no meaning " * 350 + "\n") * 1_400 + "RuntimeError: NPU out of memory\n"
    hosts = Hosts({"n2": [seen(JOINER, log, life=Life.ENDED), seen(SEED, SEED_LOG)]})
    one, _ = looked(cast(Fleet, hosts), recorded(hosts.listed(["n2"])))
    assert one.evidence is not None and not one.evidence.unproven
    assert one.reason.startswith("memory ran out")
    # The short one is not asked for again.
    assert [[look.instance for look in asked["n2"]] for asked in hosts.looks] == [["n2.1", "n1.1"], ["n2.1"]]
    assert (hosts.looks[1]["n2"][0].log_from, hosts.looks[1]["n2"][0].log_bytes) == (None, LOG_PART_BYTES)


@pytest.mark.parametrize(("before", "unproven"), [("", 1), ("\n", 0)], ids=["rest of a line", "a line"])
def test_the_rest_of_a_line_is_no_line(before: str, unproven: int) -> None:
    # As a peer's text within a line would have it, just where the end that is read begins.
    proof = "Netloader P2P load time: 3.5, device_id: 0, group: netloader"
    end = f"{before}{proof}\nbye\n"
    head = RECEIVED_LOG.replace("Netloader P2P load time", "refused: Netloader P2P load time")
    log = head + "x" * (5 << 20) + end + "y" * (LOG_PART_BYTES - len(end))
    (one,) = standings({"n2": [seen(JOINER, log)]})
    assert one.evidence is not None and len(one.evidence.unproven) == unproven


def test_how_long_it_runs_is_told_of_what_runs() -> None:
    state = State(
        "prod",
        "n1.1",
        "a" * 32,
        "started",
        "n1",
        int(time.time()) - 90,
        KeptBy.SESSION,
        None,
        None,
        (),
        None,
        None,
    )
    (one,) = standings({"n1": [seen(SEED, SEED_LOG, state=state)]})
    assert one.runs_s is not None and 89 <= one.runs_s < 3600
    (one,) = standings({"n1": [seen(SEED, SEED_LOG, state=state, life=Life.ENDED)]})
    assert one.runs_s is None and one.ready is False


# Who gives weights ----------------------------------------------------------------------------------------


def giving(one: Instance, log: str, **more: Any) -> dict[str, tuple[str, ...]]:
    found = sources(standings({one.host: [seen(one, log, **more)]}))
    return {name: source.listeners for name, source in found.items()}


@pytest.mark.parametrize(
    ("one", "log", "more", "gives"),
    [
        (SEED, SEED_LOG, {}, True),
        (JOINER, RECEIVED_LOG, {}, True),
        # Another's disk may hold other weights.
        (JOINER, FELL_BACK_LOG, {}, False),
        (JOINER, RECEIVED_LOG.replace("HCCL recv time", "HCCL"), {}, False),
        (SEED, SEED_LOG, {"ready": False}, False),
        (SEED, SEED_LOG, {"listening": (8000,)}, False),
        (SEED, SEED_LOG, {"life": Life.ENDED}, False),
        (SEED, SEED_LOG, {"life": Life.UNKNOWN}, False),
        (SEED, SEED_LOG, {"plan": "{"}, False),
    ],
)
def test_who_gives_weights(one: Instance, log: str, more: dict[str, Any], gives: bool) -> None:
    listener = f"{one.place.address}:19374"
    assert giving(one, log, **more) == ({one.name: (listener,)} if gives else {})
