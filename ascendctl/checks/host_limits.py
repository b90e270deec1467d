"""Checks of what the operating system grants: open files, huge pages, a clock that is in step."""

from __future__ import annotations

from collections.abc import Iterable

from ascendctl.checks.ascend import AscendCheck
from ascendctl.checks.limits import limit, limit_if_set
from ascendctl.facts import ClusterFacts, HostFacts, Profile, ReadingStatus
from ascendctl.knowledge.thresholds import number
from ascendctl.results import Result, Status, host_subject


class OpenFiles(AscendCheck):
    """A login may open as many files as a large job needs.

    What:
        `ulimit -n` of the login that ascendctl uses is at least the threshold open-files-min. Containers and
        services have limits of their own, which are not seen here.
    Why:
        Every connection between ranks is an open file, and the rank that gathers all others has one for each.
        1024, the usual default of Linux, is too few for it in a large cluster.
    Consequence:
        Ranks cannot connect while they gather and negotiation times out (EI0015); engines refuse requests.
    Remedy:
        Raise it for the user in /etc/security/limits.d (`* - nofile 65535`), for services with LimitNOFILE=,
        for containers with `--ulimit nofile=65535`, and log in again.
    """

    id = "open-files"
    title = "Limit of open files"
    after = ("reachable",)
    profile = Profile.DEEP

    def judge_ascend(self, host: HostFacts, cluster: ClusterFacts) -> Iterable[Result]:
        subject, reading = host_subject(host.host), host.system.open_files_limit
        if reading.value is None and reading.evidence.strip() != "unlimited":
            yield self.unlearned(subject, "the limit of open files", reading)
        elif reading.value is not None and reading.value < limit("open-files-min", host):
            yield self.found(
                Status.WARN,
                subject,
                "few files may be open at a time",
                advice_for="open-files/low",
                expected=f"at least {number(limit('open-files-min', host))}",
                actual=str(reading.value),
                reading=reading,
            )
        else:
            yield self.passed(subject, "enough files may be open at a time")


class HugePages(AscendCheck):
    """The host has the huge pages that the site wants.

    What:
        The huge pages of /proc/meminfo are shown. They are judged only where the inventory sets the threshold
        huge-pages-min: fewer than that fail.
    Why:
        Most jobs need none. A pool of KV cache in host memory does, where it is moved over RoCE: the guide of
        vllm-ascend sets 200000 pages for it on A2, and on A3 over RoCE.
    Consequence:
        The pool cannot register its memory, or far less of it than planned, and engines stop at start.
    Remedy:
        Set vm.nr_hugepages with sysctl, and keep it in /etc/sysctl.d; best at a start, while memory is in one
        piece.
    """

    id = "huge-pages"
    title = "Huge pages of the host"
    commands = ("meminfo",)
    after = ("reachable",)
    profile = Profile.DEEP

    def judge_ascend(self, host: HostFacts, cluster: ClusterFacts) -> Iterable[Result]:
        subject, memory = host_subject(host.host), host.system.memory.value
        if memory is None:
            yield self.unlearned(subject, "the host's memory", host.system.memory)
            return
        least = limit_if_set("huge-pages-min", host)
        shown = f"{memory.huge_pages_total} huge pages of {memory.huge_page_size_kib} KiB"
        if least is None or memory.huge_pages_total >= least:
            yield self.passed(subject, shown)
            return
        yield self.found(
            Status.FAIL,
            subject,
            "the host has fewer huge pages than the inventory wants",
            advice_for="huge-pages/few",
            expected=f"at least {number(least)}",
            actual=shown,
            reading=host.system.memory,
        )


class TimeService(AscendCheck):
    """A time service keeps the clock of the host in step.

    What:
        `timedatectl show` says that the clock is synchronized. Whether systemd's own service does it or
        another one, such as chrony, makes no difference. A host without timedatectl is not judged.
    Why:
        Logs of many hosts can be put in order only if their clocks agree.
    Consequence:
        The first fault among many cannot be told from those that it caused; certificates and tokens of a host
        whose clock runs away are refused.
    Remedy:
        Set up chrony or systemd-timesyncd with servers that the host can reach (`chronyc sources`,
        `timedatectl timesync-status`).
    """

    id = "time-service"
    title = "Clock kept in step by a time service"
    commands = ("time-service",)
    after = ("reachable",)
    profile = Profile.DEEP

    def judge_ascend(self, host: HostFacts, cluster: ClusterFacts) -> Iterable[Result]:
        subject, reading = host_subject(host.host), host.system.time_service
        if reading.status is ReadingStatus.TOOL_MISSING:
            yield self.not_applicable(subject, "the host has no timedatectl")
        elif reading.value is None:
            yield self.unlearned(subject, "whether the clock is synchronized", reading)
        elif reading.value.synchronized:
            yield self.passed(subject, "the clock is synchronized")
        else:
            yield self.found(
                Status.WARN,
                subject,
                "the clock is not synchronized",
                advice_for="time-service/not-synchronized",
                expected="synchronized",
                actual="a time service is switched on, the clock is not in step yet"
                if reading.value.enabled
                else "no time service is switched on",
                reading=reading,
            )
