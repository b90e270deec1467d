"""Runs to report on, built by hand: every status, every kind of subject, hosts of any number."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ascendctl.results import (
    CellKey,
    DeviceCounters,
    HostNote,
    Peer,
    Result,
    Run,
    Status,
    Subject,
    SubjectKind,
    host_subject,
)

STARTED = dt.datetime(2026, 3, 4, 5, 6, 7, 891011, tzinfo=dt.timezone.utc)
BEHIND_A_LINK = ("gateway", "lldp", "net-health")


def device(host: str, phy_id: int) -> Subject:
    return Subject(SubjectKind.DEVICE, host=host, npu=phy_id // 2, chip=phy_id % 2, device=phy_id)


def link_down(host: str, phy_id: int) -> list[Result]:
    """A link that is down and the three cells that it explains."""
    subject = device(host, phy_id)
    cause = CellKey("link", subject)
    return [
        Result(
            "link",
            subject,
            Status.FAIL,
            "link is DOWN",
            expected="UP",
            actual="DOWN",
            consequence="HCCL cannot connect over this port (EI0006).",
            remedy="Check the optical module and the cable.",
            command=f"hccn_tool -i {phy_id} -link -g",
            evidence="link status: DOWN",
        ),
        *(
            Result(check, subject, Status.SKIPPED, "the link is down", caused_by=cause, root_fails=True)
            for check in BEHIND_A_LINK
        ),
    ]


def silent_host(host: str) -> list[Result]:
    """A host that never answered, and the two cells that stay dark because of it."""
    reachable = CellKey("reachable", host_subject(host))
    return [
        Result(
            "reachable",
            host_subject(host),
            Status.UNKNOWN,
            "no answer: the connection timed out after 10 s",
            remedy="Check that the host is up.",
        ),
        *(
            Result(check, host_subject(host), Status.SKIPPED, "the host did not answer", caused_by=reachable)
            for check in ("tools", "npu-count")
        ),
    ]


def passes(
    host: str, devices: Iterable[int], checks: Iterable[str] = ("link", *BEHIND_A_LINK)
) -> list[Result]:
    return [
        Result(check, device(host, phy_id), Status.PASS, "as expected", evidence="kept by the check")
        for phy_id, check in itertools.product(devices, checks)
    ]


def note(host: str, devices: int = 8, **more: object) -> HostNote:
    values = {"accelerator": "ascend", "generation": "a2", "answered": True, **more}
    return HostNote(host, devices=devices, **values)  # type: ignore[arg-type]


def run_of(results: Iterable[Result], notes: Iterable[HostNote] = (), *, interrupted: bool = False) -> Run:
    return Run(STARTED, 12.5, tuple(results), tuple(notes), interrupted)


def counting(run: Run, counters: Mapping[tuple[str, int], Mapping[str, Mapping[str, int]]]) -> Run:
    """The run with counters of these devices, read when it started."""
    return replace(
        run,
        counters=tuple(
            DeviceCounters(host, phy_id, run.started_at, groups)
            for (host, phy_id), groups in counters.items()
        ),
    )


def one_of_everything() -> Run:
    """Every status and every kind of subject, with texts that are hard to store."""
    subjects = [
        Subject(SubjectKind.CLUSTER),
        Subject(SubjectKind.SWITCH, switch="leaf-3"),
        Subject(SubjectKind.GROUP, group="prefill"),
        Subject(SubjectKind.SUPER_POD, group="0"),
        Subject(SubjectKind.LINK, host="node01", device=3, peer=Peer("node02", 3)),
    ]
    return run_of(
        [
            *passes("node01", range(2)),
            *link_down("node02", 5),
            *silent_host("node03"),
            Result("tls", device("node01", 0), Status.WARN, "TLS 开关不一致", actual="1", expected="0"),
            Result(
                "lldp", device("node01", 1), Status.UNKNOWN, "unread", evidence="\udcb9\udce3 \ud83d \x1b[2J"
            ),
            Result("vnic", device("node01", 2), Status.ERROR, "the check broke"),
            Result("hccs-links", host_subject("node01"), Status.NOT_APPLICABLE, "no HCCS"),
            Result("clock", host_subject("node01"), Status.WAIVED, "waived until 2026-12-31: ticket 7"),
            *(Result("mesh", subject, Status.FAIL, f"lost on {subject.kind.value}") for subject in subjects),
        ],
        [
            note("node01", group="prefill", details={"driver": "25.2.0"}),
            note("node02"),
            HostNote("node03", group="decode"),
        ],
    )


def clean(hosts: int = 3, devices: int = 8) -> Run:
    names = [f"node{number:02d}" for number in range(1, hosts + 1)]
    cells = [cell for name in names for cell in passes(name, range(devices))]
    return run_of(cells, [note(name, devices) for name in names])
