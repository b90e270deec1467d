"""Causes, coverage, waivers, errors: what the engine does with any check's cells."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from ascendctl import facts as f
from ascendctl.checks.across.cabling import Cabling
from ascendctl.checks.across.peers import AcrossCheck
from ascendctl.checks.ascend import Unlearned
from ascendctl.checks.contract import ClusterCheck
from ascendctl.checks.describe import describe
from ascendctl.checks.engine import run_checks
from ascendctl.checks.ports import Link
from ascendctl.checks.registry import BY_ID, CLUSTER_CHECKS, HOST_CHECKS
from ascendctl.checks.waivers import WaiverRule
from ascendctl.facts import ReachStatus
from ascendctl.knowledge import ADVICE
from ascendctl.probe.catalogue import BY_ID as COMMANDS
from ascendctl.results import (
    CellKey,
    ExitCode,
    Result,
    Status,
    Subject,
    SubjectKind,
    coverage,
    exit_code,
    host_subject,
)
from tests.checks.hosts import (
    DENIED,
    FAILED,
    NO_DATA,
    NOT_RECEIVED,
    TIMED_OUT,
    TODAY,
    TOOL_MISSING,
    UNPARSED,
    a2,
    a3,
    at,
    bad,
    device,
    every,
    expect,
    judge,
    made,
    not_called,
    ok,
    set_host,
    unreached,
)

DOWN = ok(f.LinkFacts(f.LinkStatus.DOWN))
FAULT = ok(f.NetHealthFacts(f.NetHealth.FAULT))
ALL_READINGS = [
    "link",
    "net_health",
    "ip",
    "netdetect",
    "gateway",
    "lldp",
    "vnic",
    "tls",
    "health",
    "hccs",
    "spod",
]

HCCN_READINGS = ("link", "net_health", "ip", "netdetect", "gateway", "lldp", "vnic", "tls")
NO_CHIPS = ok(f.MappingFacts(()))
# Those between hosts that have a cell on every host.
ACROSS = [check for check in CLUSTER_CHECKS if isinstance(check, AcrossCheck | Cabling)]
CHECKS_OF = {
    f.Profile.STANDARD: [
        check.id for check in (*HOST_CHECKS, *ACROSS) if check.profile is f.Profile.STANDARD
    ],
    f.Profile.DEEP: [check.id for check in (*HOST_CHECKS, *ACROSS)],
}


def all_readings(reading: f.Reading[Any], *names: str) -> dict[str, f.Reading[Any]]:
    return dict.fromkeys(names or ALL_READINGS, reading)


def of_host(name: str, cells: dict[CellKey, Result]) -> dict[CellKey, Result]:
    return {key: cell for key, cell in cells.items() if key.subject.host == name}


def without_devices(host: f.HostFacts, mapping: f.Reading[Any], others: f.Reading[Any]) -> f.HostFacts:
    return replace(host, mapping=mapping, devices=(), npu_smi=others, topo=others, generation=None)


# --- every host has every check's cells -------------------------------------------------------------


REACH = [status for status in ReachStatus if status is not ReachStatus.REACHED]


@pytest.mark.parametrize("profile", f.Profile)
@pytest.mark.parametrize("status", REACH)
def test_a_host_never_reached_has_every_cell_and_no_green_one(
    status: ReachStatus, profile: f.Profile
) -> None:
    good, lost = a2("node01"), unreached("node02", status, detail="what happened")
    cells = judge(good, lost, profile=profile)
    mine = of_host("node02", cells)
    assert {key.check for key in mine} == set(CHECKS_OF[profile])
    reachable = mine.pop(at("reachable", "node02"))
    assert reachable.status is Status.UNKNOWN
    assert reachable.remedy
    assert "what happened" in reachable.actual
    assert {cell.status for cell in mine.values()} == {Status.SKIPPED}
    assert {cell.caused_by for cell in mine.values()} == {at("reachable", "node02")}
    assert not any(cell.evaluated for cell in (*mine.values(), reachable))
    assert exit_code(cells.values()) is ExitCode.NOT_ENOUGH


def test_every_reach_status_has_its_own_meaning_and_remedy() -> None:
    told = [ADVICE[f"reach/{status.value}"] for status in ReachStatus]
    assert len({advice.meaning for advice in told}) == len(told)
    assert all(advice.remedy for advice in told[1:])


def test_coverage_of_a_healthy_cluster_is_complete() -> None:
    cells = judge(a2("node01"), a2("node02", number=2))
    assert coverage(cells.values()).percent == 100.0
    assert exit_code(cells.values()) is ExitCode.OK


def test_hosts_behind_a_jump_host_share_one_cause() -> None:
    hosts = [unreached(f"node0{n}", ReachStatus.TIMEOUT, via="bastion") for n in (1, 2)]
    cells = judge(*hosts)
    jump = at("reachable", "bastion")
    assert cells[jump].status is Status.UNKNOWN
    assert [key for key, cell in cells.items() if cell.status is not Status.SKIPPED] == [jump]
    assert {cell.caused_by for cell in cells.values()} == {None, jump}


def test_a_jump_host_that_is_a_host_of_the_run_keeps_its_own_cell() -> None:
    bastion = unreached("bastion", ReachStatus.REFUSED)
    cells = judge(unreached("node01", ReachStatus.TIMEOUT, via="bastion"), bastion)
    assert "refused" in cells[at("reachable", "bastion")].message
    assert cells[at("tools", "node01")].caused_by == at("reachable", "bastion")


def test_a_jump_host_that_answers_itself_explains_nothing() -> None:
    cells = judge(a2("bastion"), unreached("node01", ReachStatus.JUMP_HOST, via="bastion"))
    assert cells[at("reachable", "bastion")].status is Status.PASS
    assert cells[at("reachable", "node01")].status is Status.UNKNOWN
    assert cells[at("tools", "node01")].caused_by == at("reachable", "node01")


@pytest.mark.parametrize("profile", f.Profile)
@pytest.mark.parametrize("kind", [f.Accelerator.NVIDIA, f.Accelerator.CPU])
def test_on_other_hosts_ascend_checks_do_not_apply(kind: f.Accelerator, profile: f.Profile) -> None:
    host = replace(unreached("node01"), reach=f.Reach(ReachStatus.REACHED), accelerator=kind)
    cells = judge(host, profile=profile)
    assert cells.pop(at("reachable")).status is Status.PASS
    assert {cell.status for cell in cells.values()} == {Status.NOT_APPLICABLE}
    assert len(cells) == len(CHECKS_OF[profile]) - 1
    assert all(kind.value.upper() in cell.message for cell in cells.values())


def test_a_host_without_any_tool_is_never_green() -> None:
    host = replace(
        without_devices(a2(), TOOL_MISSING, TOOL_MISSING),
        accelerator=None,
        tools={name: f.ToolFacts(name, None) for name in ("hccn_tool", "npu-smi", "nvidia-smi")},
        hccn_conf=NO_DATA,
        system=f.SystemFacts(driver_version=NO_DATA),
    )
    cells = judge(host)
    tools = cells[at("tools")]
    assert tools.status is Status.FAIL
    assert "accelerator: cpu" in tools.remedy
    assert cells[at("npu-mapping")].caused_by == at("tools")
    assert cells[at("link")].caused_by == at("tools")
    assert cells[at("link")].evaluated
    assert exit_code(cells.values()) is ExitCode.FOUND_WRONG


# --- causes -----------------------------------------------------------------------------------------


def test_the_root_is_named_not_a_link_of_the_chain() -> None:
    host = without_devices(a2(), DENIED, DENIED)
    cells = judge(host)
    assert cells[at("tools")].status is Status.UNKNOWN
    assert "sudo" in cells[at("tools")].remedy
    for check in ("npu-mapping", "npu-count", "npu-health", "link", "net-health", "tls"):
        assert (cells[at(check)].status, cells[at(check)].caused_by) == (Status.SKIPPED, at("tools"))
        assert not cells[at(check)].evaluated


@pytest.mark.parametrize(
    ("mapping", "status", "evaluated"),
    [
        (NO_DATA, Status.FAIL, True),
        (UNPARSED, Status.UNKNOWN, False),
        (NO_CHIPS, Status.FAIL, True),
    ],
)
def test_without_a_mapping_device_checks_have_one_cell_each(
    mapping: f.Reading[Any], status: Status, evaluated: bool
) -> None:
    cells = judge(replace(a2(), mapping=mapping, devices=()))
    assert cells[at("npu-mapping")].status is status
    for check in ("npu-count", "npu-health", "hccs-links", "link", "address", "vnic", "spod-info", "tls"):
        cell = cells[at(check)]
        assert (cell.status, cell.caused_by) == (Status.SKIPPED, at("npu-mapping"))
        assert (cell.root_fails, cell.evaluated) == (evaluated, evaluated)


def test_a_port_that_is_down_makes_its_good_readings_meaningless() -> None:
    host = made(a2(), device(3, link=DOWN))
    cells = judge(host)
    for check in ("net-health", "lldp"):
        assert cells[at(check, host, 3)].caused_by == at("link", host, 3)
        assert cells[at(check, host, 3)].evaluated
    assert cells[at("address", host, 3)].status is Status.PASS


def test_a_failure_is_never_hidden_behind_something_unknown() -> None:
    host = made(a2(), device(3, link=UNPARSED, net_health=FAULT), set_host(reach=f.Reach(ReachStatus.LOST)))
    cells = judge(host)
    assert cells[at("reachable")].status is Status.UNKNOWN
    assert cells[at("net-health", host, 3)].status is Status.FAIL


def test_a_tool_that_is_missing_hides_no_failure_of_the_other() -> None:
    tools = {"hccn_tool": f.ToolFacts("hccn_tool", None), "npu-smi": f.ToolFacts("npu-smi", "/bin/npu-smi")}
    hccn = all_readings(
        TOOL_MISSING, "link", "net_health", "ip", "netdetect", "gateway", "lldp", "vnic", "tls"
    )
    alarm = ok(f.HealthFacts(f.NpuHealth.ALARM, ("A4",), ("text",)))
    host = made(
        a2(),
        set_host(tools=tools),
        every(**hccn),
        device(2, health=alarm, hccs=UNPARSED),
        device(3, hccs=FAILED),
    )
    cells = judge(host)
    assert cells[at("tools")].status is Status.FAIL
    assert cells[at("npu-health", host, 2)].status is Status.FAIL
    assert cells[at("hccs-links", host, 2)].status is Status.UNKNOWN
    assert cells[at("hccs-links", host, 3)].status is Status.UNKNOWN
    for check in ("link", "tls", "address"):
        assert cells[at(check, host, 2)].caused_by == at("tools")


def test_a_lost_connection_keeps_what_had_arrived() -> None:
    hccn = all_readings(
        NOT_RECEIVED, "link", "net_health", "ip", "netdetect", "gateway", "lldp", "vnic", "tls"
    )
    host = made(a2(), every(**hccn), set_host(reach=f.Reach(ReachStatus.LOST, "reset by peer")))
    cells = judge(host)
    assert cells[at("reachable")].status is Status.UNKNOWN
    assert cells[at("npu-count")].status is Status.PASS
    for phy in range(8):
        assert cells[at("npu-health", host, phy)].status is Status.PASS
        for check in ("link", "net-health", "gateway", "tls"):
            assert cells[at(check, host, phy)].caused_by == at("reachable")


def test_a_connection_lost_at_once_explains_everything() -> None:
    host = without_devices(a2(), NOT_RECEIVED, NOT_RECEIVED)
    host = replace(
        host,
        reach=f.Reach(ReachStatus.LOST),
        tools={},
        hccn_conf=NOT_RECEIVED,
        system=f.SystemFacts(driver_version=NOT_RECEIVED),
    )
    cells = of_host("node01", judge(host, a2("node02", number=2)))
    assert cells.pop(at("reachable")).status is Status.UNKNOWN
    assert {(c.status, c.caused_by) for c in cells.values()} == {(Status.SKIPPED, at("reachable"))}


@pytest.mark.parametrize(
    ("heard", "status", "accelerator"),
    [
        pytest.param({}, Status.SKIPPED, None, id="none"),
        pytest.param({"hccn_tool": "/bin/hccn_tool"}, Status.SKIPPED, f.Accelerator.ASCEND, id="first-found"),
        pytest.param({"hccn_tool": None}, Status.FAIL, None, id="first-missing"),
    ],
)
def test_a_connection_lost_before_the_tools_were_named(
    heard: dict[str, str | None], status: Status, accelerator: f.Accelerator | None
) -> None:
    host = replace(
        without_devices(a2(), NOT_RECEIVED, NOT_RECEIVED),
        reach=f.Reach(ReachStatus.LOST),
        accelerator=accelerator,
        tools={name: f.ToolFacts(name, path) for name, path in heard.items()},
        hccn_conf=NOT_RECEIVED,
        system=f.SystemFacts(driver_version=NOT_RECEIVED),
    )
    tools = judge(host)[at("tools")]
    assert tools.status is status
    assert tools.caused_by == (at("reachable") if status is Status.SKIPPED else None)
    if status is Status.FAIL:
        assert "hccn_tool was not found" in tools.message


@pytest.mark.parametrize(
    ("mapping", "fails"),
    [pytest.param(UNPARSED, False, id="unparsed"), pytest.param(NO_DATA, True, id="no-npu")],
)
def test_a_tool_that_was_never_called_is_not_said_to_answer(mapping: f.Reading[Any], fails: bool) -> None:
    cells = judge(replace(a2(), mapping=mapping, devices=()))
    tools = cells[at("tools")]
    assert (tools.status, tools.caused_by) == (Status.SKIPPED, at("npu-mapping"))
    assert tools.evaluated is fails


def test_two_checks_that_blame_each_other_have_one_cause() -> None:
    refused = bad(f.ReadingStatus.FAILED, exit_code=127, evidence="npu-smi: no such thing")
    cells = judge(replace(a2(), mapping=refused, devices=()))
    assert cells[at("npu-mapping")].status is Status.UNKNOWN
    assert cells[at("tools")].caused_by == at("npu-mapping")
    assert cells[at("link")].caused_by == at("npu-mapping")


def test_answers_that_never_came_are_the_connections_doing() -> None:
    hccn = all_readings(NOT_RECEIVED, *HCCN_READINGS)
    host = made(a2(), every(**hccn), set_host(reach=f.Reach(ReachStatus.LOST)))
    assert judge(host)[at("tools")].caused_by == at("reachable")


def test_a_command_that_hung_explains_what_was_not_called_after_it() -> None:
    blocked = not_called("net-health", 2)
    rest = all_readings(blocked, *HCCN_READINGS)
    later = [device(phy, **rest) for phy in range(3, 8)]
    own = dict.fromkeys(("netdetect", "gateway", "ip", "vnic", "lldp", "tls"), blocked)
    host = made(a2(), device(0, net_health=UNPARSED), device(2, net_health=TIMED_OUT, **own), *later)
    cells = judge(host)
    hung = at("net-health", host, 2)
    assert cells[hung].status is Status.UNKNOWN
    assert "killed after 10 s" in cells[hung].message
    for check, phy in (("tls", 2), ("link", 5), ("net-health", 5), ("gateway", 5), ("address", 7)):
        cell = cells[at(check, host, phy)]
        assert (cell.status, cell.caused_by, cell.evaluated) == (Status.SKIPPED, hung, False)
    assert cells[at("link", host, 2)].status is Status.PASS
    assert cells[at("net-health", host, 1)].status is Status.PASS
    assert cells[at("npu-health", host, 7)].status is Status.PASS


@pytest.mark.parametrize(
    ("hung", "owner"), [("npu-smi", "npu-count"), ("topo", "hccs-links"), ("mapping", "npu-mapping")]
)
def test_a_host_command_that_hung_has_its_own_cell(hung: str, owner: str) -> None:
    blocked = not_called(hung)
    attributes = {"npu-smi": "npu_smi", "topo": "topo", "mapping": "mapping"}
    order = list(attributes)
    order.sort(key=["mapping", "npu-smi", "topo"].index)
    readings: dict[str, f.Reading[Any]] = {}
    for name in order[order.index(hung) :]:
        readings[attributes[name]] = TIMED_OUT if name == hung else blocked
    host = made(a2(), set_host(**readings), every(health=blocked, hccs=blocked, spod=blocked))
    if hung == "mapping":
        host = replace(host, devices=())
    cells = judge(host)
    assert cells[at(owner)].status is Status.UNKNOWN
    assert "killed" in cells[at(owner)].message
    unlearned = [c for c in cells.values() if c.status is Status.SKIPPED]
    assert unlearned
    assert {c.caused_by for c in unlearned} == {at(owner)}
    assert not [c for c in cells.values() if c.status is Status.UNKNOWN and c.key != at(owner)]


LIBRARIES = bad(
    f.ReadingStatus.FAILED, exit_code=127, evidence="npu-smi: error while loading shared libraries: libx.so.1"
)
USED = bad(f.ReadingStatus.DENIED, evidence="dcmi model initialized failed, ... ret is -8020", exit_code=1)
INNER = bad(f.ReadingStatus.FAILED, evidence="dcmi module initialize failed. ret is -8005", exit_code=187)


@pytest.mark.parametrize(
    ("answer", "status", "message", "remedy"),
    [
        (LIBRARIES, Status.FAIL, "cannot load its libraries", "LD_LIBRARY_PATH"),
        (USED, Status.UNKNOWN, "-8020", "container"),
        (INNER, Status.UNKNOWN, "-8005", "driver is loaded"),
        (DENIED, Status.UNKNOWN, "refusal", "HwHiAiUser"),
    ],
)
def test_a_tool_that_does_not_work_is_one_finding(
    answer: f.Reading[Any], status: Status, message: str, remedy: str
) -> None:
    cells = judge(without_devices(a2(), answer, answer))
    assert cells[at("tools")].status is status
    assert message in cells[at("tools")].message
    assert remedy in cells[at("tools")].remedy
    assert cells[at("npu-mapping")].caused_by == at("tools")
    assert cells[at("net-health")].caused_by == at("tools")


# --- errors, waivers, checks between hosts ------------------------------------------------------------


class _Breaks(Link):
    """A check with a fault of its own on one device."""

    def judge_port(self, device: f.DeviceFacts, *rest: Any) -> Result:
        if device.phy_id == 3:
            raise ZeroDivisionError("no such luck")
        return super().judge_port(device, *rest)


class _BreaksAtOnce(Link):
    def judge(self, host: f.HostFacts, cluster: f.ClusterFacts) -> Iterable[Result]:
        raise KeyError("gone")


class _Silent(Link):
    def judge(self, host: f.HostFacts, cluster: f.ClusterFacts) -> Iterable[Result]:
        return ()


def swapped(check: Link) -> list[Any]:
    return [check if known.id == "link" else known for known in HOST_CHECKS]


def test_a_check_that_breaks_costs_one_cell() -> None:
    host = a2()
    cells = judge(host, checks=swapped(_Breaks()))
    broken = cells[at("link", host, 3)]
    assert broken.status is Status.ERROR
    assert "ZeroDivisionError: no such luck" in broken.message
    assert "Traceback" not in broken.message + broken.evidence
    assert {key for key, cell in cells.items() if cell.status is Status.ERROR} == {broken.key}
    assert cells[at("net-health", host, 3)].status is Status.PASS
    assert exit_code(cells.values()) is ExitCode.INTERNAL


@pytest.mark.parametrize(("check", "text"), [(_BreaksAtOnce(), "KeyError"), (_Silent(), "no result")])
def test_a_check_without_cells_is_an_error_on_the_host(check: Link, text: str) -> None:
    cells = judge(a2("node01"), a2("node02", number=2), checks=swapped(check))
    errors = {key: cell for key, cell in cells.items() if cell.status is Status.ERROR}
    assert set(errors) == {at("link", "node01"), at("link", "node02")}
    assert all(text in cell.message for cell in errors.values())


def rule(**values: Any) -> WaiverRule:
    defaults: dict[str, Any] = {
        "check": "link",
        "hosts": frozenset({"node01"}),
        "device": None,
        "until": TODAY,
        "reason": "cable ordered",
    }
    return WaiverRule(**{**defaults, **values})


@pytest.mark.parametrize(
    ("waiver", "status", "text"),
    [
        pytest.param(rule(), Status.WAIVED, f"waived until {TODAY}: cable ordered", id="last-day"),
        pytest.param(rule(device=3), Status.WAIVED, "cable ordered", id="its-device"),
        pytest.param(rule(device=4), Status.FAIL, "link is DOWN", id="other-device"),
        pytest.param(rule(check="lldp"), Status.FAIL, "link is DOWN", id="other-check"),
        pytest.param(rule(hosts=frozenset({"node02"})), Status.FAIL, "link is DOWN", id="other-host"),
        pytest.param(rule(until=TODAY - dt.timedelta(days=1)), Status.FAIL, "has expired", id="expired"),
    ],
)
def test_waivers(waiver: WaiverRule, status: Status, text: str) -> None:
    host = made(a2(), device(3, link=DOWN))
    cells = judge(host, waivers=[waiver])
    cell = cells[at("link", host, 3)]
    assert cell.status is status
    assert text in cell.message
    # What it explains stays explained and evaluated: a waiver must not cost coverage.
    assert cells[at("net-health", host, 3)].evaluated
    assert coverage(cells.values()).percent == 100.0
    assert exit_code(cells.values()) is (ExitCode.OK if status is Status.WAIVED else ExitCode.FOUND_WRONG)


@pytest.mark.parametrize(
    ("host", "check"),
    [
        pytest.param(
            replace(
                without_devices(a2(), TOOL_MISSING, TOOL_MISSING),
                tools={"hccn_tool": f.ToolFacts("hccn_tool", None), "npu-smi": f.ToolFacts("npu-smi", None)},
            ),
            "tools",
            id="tools",
        ),
        pytest.param(made(a2(), set_host(hccn_conf=NO_DATA)), "hccn-conf", id="hccn-conf"),
        pytest.param(replace(a2(), mapping=NO_CHIPS, devices=()), "npu-mapping", id="npu-mapping"),
    ],
)
def test_what_a_waived_fault_of_the_host_hid_was_not_looked_at(host: f.HostFacts, check: str) -> None:
    cells = judge(host, waivers=[rule(check=check)])
    root = at(check)
    assert cells[root].status is Status.WAIVED
    hidden = [cell for cell in cells.values() if cell.caused_by == root]
    assert hidden
    assert not any(cell.evaluated for cell in hidden)
    assert exit_code(cells.values()) is ExitCode.NOT_ENOUGH


def test_only_a_failure_can_be_waived() -> None:
    host = made(a2(), device(1, lldp=NO_DATA), device(2, tls=UNPARSED))
    cells = judge(host, waivers=[rule(check="lldp"), rule(check="tls")])
    assert cells[at("lldp", host, 1)].status is Status.WARN
    assert cells[at("tls", host, 2)].status is Status.UNKNOWN


class _SameTls(ClusterCheck):
    """Stands for a check between hosts."""

    id = "tls-equal"
    title = "One TLS switch everywhere"
    commands = ("tls",)
    after = ("tls",)

    def judge(self, cluster: f.ClusterFacts, results: tuple[Result, ...]) -> Iterable[Result]:
        known = [result for result in results if result.check == "tls"]
        assert known and all(type(result) is Result for result in known)
        for host in cluster.hosts:
            switches = {d.tls.value.tls_switch for d in host.devices if d.tls.value}
            status = Status.FAIL if switches != {0} else Status.PASS
            yield Result(self.id, host_subject(host.host), status, "compared")


class _BrokenBetweenHosts(_SameTls):
    id = "broken"

    def judge(self, cluster: f.ClusterFacts, results: tuple[Result, ...]) -> Iterable[Result]:
        raise LookupError("nothing there")


def test_checks_between_hosts_see_results_and_take_waivers() -> None:
    one, two = a2("node01"), made(a2("node02", number=2), every(tls=ok(f.TlsFacts(1))))
    waivers = [rule(check="tls-equal", hosts=frozenset({"node02"}))]
    cells = judge(one, two, cluster_checks=(_SameTls(), _BrokenBetweenHosts()), waivers=waivers)
    assert cells[at("tls-equal", "node01")].status is Status.PASS
    assert cells[at("tls-equal", "node02")].status is Status.WAIVED
    broken = cells[CellKey("broken", Subject(SubjectKind.CLUSTER))]
    assert (broken.status, "LookupError: nothing there" in broken.message) == (Status.ERROR, True)
    assert {c.status for c in cells.values() if c.check == "tls"} == {Status.PASS}


class _Late(_SameTls):
    """Gives a cell that a host check has given before, and one whose cause it names itself."""

    def judge(self, cluster: f.ClusterFacts, results: tuple[Result, ...]) -> Iterable[Result]:
        yield Result("reachable", host_subject("node01"), Status.FAIL, "too late")
        yield Result(
            "tls-equal", host_subject("node01"), Status.SKIPPED, "own", caused_by=at("tools", "node02")
        )
        yield Unlearned(
            "tls-equal", host_subject("node02"), Status.UNKNOWN, "not read", cause=at("tools", "node02")
        )
        yield Unlearned(
            "tls-equal", host_subject("node03"), Status.UNKNOWN, "nor this", cause=at("tls-equal", "node01")
        )


def test_a_cell_stays_as_it_was_and_causes_of_earlier_checks_are_followed_to_their_root() -> None:
    cells = judge(a2("node01"), unreached("node02"), cluster_checks=(_Late(),))
    assert cells[at("reachable", "node01")].status is Status.PASS
    assert cells[at("tls-equal", "node01")].message == "own"
    for name in ("node02", "node03"):
        assert cells[at("tls-equal", name)].caused_by == at("reachable", "node02")


def test_results_are_plain_and_ordered_by_host_and_check() -> None:
    results = run_checks(f.ClusterFacts((unreached("node02"), a3("node01"))), today=TODAY)
    assert {type(result) for result in results} == {Result}
    order = [check.id for check in HOST_CHECKS]
    between = [check.id for check in CLUSTER_CHECKS]
    places = [
        (False, result.subject.host == "node01", order.index(result.check))
        if result.check in order
        else (True, between.index(result.check), result.subject.host == "node01")
        for result in results
    ]
    assert places == sorted(places)
    assert places[-1][0]


# --- the registry ---------------------------------------------------------------------------------------


def test_checks_come_after_those_they_name_and_read_known_commands() -> None:
    seen: set[str] = set()
    for check in BY_ID.values():
        assert set(check.after) <= seen, check.id
        assert set(check.void_after) <= set(check.after), check.id
        assert set(check.commands) <= set(COMMANDS), check.id
        seen.add(check.id)
    assert seen == set(BY_ID) >= {check.id for check in (*HOST_CHECKS, *CLUSTER_CHECKS)}


def test_stable_ids() -> None:
    assert set(BY_ID) == {
        "reachable",
        "tools",
        "versions",
        "npu-count",
        "npu-mapping",
        "npu-health",
        "hccs-links",
        "link",
        "net-health",
        "lldp",
        "netdetect",
        "gateway",
        "address",
        "hccn-conf",
        "vnic",
        "spod-info",
        "tls",
        "optical",
        "link-flaps",
        "port-errors",
        "speed",
        "mtu",
        "fec",
        "ecc",
        "hccs-errors",
        "npu-processes",
        "hbm-use",
        "open-files",
        "huge-pages",
        "time-service",
        "versions-equal",
        "npu-model",
        "clock",
        "hostnames",
        "tls-switch",
        "mtu-equal",
        "segments",
        "gateways-equal",
        "duplicate-address",
        "super-pods",
        "cabling",
        "host-net",
        "mesh",
        "mesh-hccs",
        "mesh-roce",
    }


def test_a_check_is_of_the_profile_that_asks_its_commands() -> None:
    for check in (*HOST_CHECKS, *CLUSTER_CHECKS):
        asked = [COMMANDS[command].profile for command in check.commands]
        # The MTU of /etc/hccn.conf is compared where the live one was not asked.
        live_or_kept = check.id == "mtu-equal"
        assert check.profile is f.Profile.DEEP or f.Profile.DEEP not in asked or live_or_kept, check.id
    deep = {name for name, command in COMMANDS.items() if command.profile is f.Profile.DEEP}
    assert deep == {name for check in HOST_CHECKS for name in check.commands} & deep


@pytest.mark.parametrize("check", [*HOST_CHECKS, *CLUSTER_CHECKS], ids=lambda check: check.id)
def test_every_check_explains_itself(check: Any) -> None:
    told = describe(check)
    assert min(len(told.what), len(told.why), len(told.consequence), len(told.remedy)) > 20


def test_two_hosts_with_the_same_fault_give_the_same_words() -> None:
    hosts = [made(host, device(3, link=DOWN)) for host in (a2("node01"), a2("node02", number=2))]
    cells = judge(*hosts)
    words = [
        [(c.check, c.status, c.message) for k, c in cells.items() if k.subject.host == h.host] for h in hosts
    ]
    assert words[0] == words[1]


def test_an_expected_port_without_address_explains_its_bad_health() -> None:
    host = made(a3(), expect(scale_out=f.ScaleOut.ROCE), device(4, ip=NO_DATA, net_health=FAULT))
    cells = judge(host)
    assert cells[at("address", host, 4)].status is Status.FAIL
    assert cells[at("net-health", host, 4)].caused_by == at("address", host, 4)


def test_ascendctls_own_failure_is_an_error_and_the_host_is_not_blamed() -> None:
    lost = unreached("node01", ReachStatus.PROTOCOL, detail="ValueError: a bug", internal=True)
    cells = of_host("node01", judge(lost, a2("node02", number=2)))
    assert cells[at("reachable")].status is Status.ERROR
    assert "ValueError" in cells[at("reachable")].actual
    others = [cell for key, cell in cells.items() if key.check != "reachable"]
    assert {cell.status for cell in others} == {Status.SKIPPED}
    assert not any(cell.evaluated for cell in others)
    assert exit_code(cells.values()) is ExitCode.INTERNAL
