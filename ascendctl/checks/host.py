"""Checks of the host itself: does it answer, are its tools there and permitted, which versions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ascendctl.checks.ascend import AscendCheck, Unlearned, could_not_start
from ascendctl.checks.contract import Check
from ascendctl.facts import (
    ClusterFacts,
    HostFacts,
    Reach,
    ReachStatus,
    Reading,
    ReadingStatus,
)
from ascendctl.knowledge import advice
from ascendctl.results import CellKey, Result, Status, host_subject
from ascendctl.topology.generation import ASCEND_TOOLS


class Reachable(Check):
    """One answer from each host, to its end.

    What:
        The host accepted the connection and the login, and its answer came to the last command.
    Why:
        A host that was not looked at must never count as healthy.
    Consequence:
        Nothing is known of this host; with the default coverage of 100 % the run ends with exit code 3.
    Remedy:
        Follow the finding: address and port, firewall, user and key, host key, jump host. Try the same
        with `ssh` by hand. A connection that was lost half-way keeps what it had delivered.
    """

    id = "reachable"
    title = "The host answers"

    def judge(self, host: HostFacts, cluster: ClusterFacts) -> Iterable[Result]:
        subject = host_subject(host.host)
        reach = host.reach
        if reach.status is ReachStatus.REACHED:
            yield Result(self.id, subject, Status.PASS, "the host answered to the end")
            return
        if reach.internal:
            yield Result(
                self.id,
                subject,
                Status.ERROR,
                "ascendctl itself failed while it asked this host",
                expected="an answer to the last command",
                actual=reach.detail,
                remedy="Please report it with this text; asking the host again may succeed.",
                evidence=reach.detail,
            )
            return
        if reach.via is None:
            yield self._not_reached(host.host, reach)
            return
        jump = CellKey(self.id, host_subject(reach.via))
        if reach.via not in {other.host for other in cluster.hosts}:
            yield self._not_reached(reach.via, reach)
        yield Unlearned(
            self.id,
            subject,
            Status.UNKNOWN,
            "the host lies behind a jump host that could not be passed",
            expected="a connection through the jump host",
            actual=reach.detail or reach.status.value,
            remedy=advice(f"reach/{ReachStatus.JUMP_HOST.value}").remedy,
            cause=jump,
        )

    def _not_reached(self, host: str, reach: Reach) -> Result:
        known = advice(f"reach/{reach.status.value}")
        return Result(
            self.id,
            host_subject(host),
            Status.UNKNOWN,
            known.meaning,
            expected="an answer to the last command",
            actual=reach.detail or reach.status.value,
            consequence=known.consequence,
            remedy=known.remedy,
            evidence=reach.detail,
        )


class Tools(AscendCheck):
    """hccn_tool and npu-smi are there, start, and are allowed to answer.

    What:
        Both tools were found, their libraries load, the driver lets them in, and not every answer was
        a refusal. A tool that gave no answer at all, as nothing could be asked of it, is not judged.
    Why:
        Every other check reads what these two tools print. A missing right or library path shows as
        a hundred strange answers otherwise.
    Consequence:
        Nothing about NPUs, links or addresses of this host can be learned.
    Remedy:
        Install the Ascend driver package, or mount its tools into the container. If this host has no
        NPU, set `accelerator: cpu` for it in the inventory. If libraries are missing, source
        /usr/local/Ascend/driver/bin/setenv.bash or add /usr/local/Ascend/driver/lib64, its common and
        driver folders to LD_LIBRARY_PATH. If refused, log in as root, set `privilege: sudo`, or add the
        user to the group HwHiAiUser.
    """

    id = "tools"
    title = "hccn_tool and npu-smi are there and permitted"
    after = ("reachable",)

    def judge_ascend(self, host: HostFacts, cluster: ClusterFacts) -> Iterable[Result]:
        yield (
            self._missing(host)
            or self._not_named(host)
            or self._libraries(host)
            or self._turned_away(host)
            or self._silent(host)
            or self.passed(host_subject(host.host), "hccn_tool and npu-smi are there and answer")
        )

    def _missing(self, host: HostFacts) -> Result | None:
        missing = [name for name in ASCEND_TOOLS if name in host.tools and host.tools[name].path is None]
        if not missing:
            return None
        none_at_all = len(missing) == len(ASCEND_TOOLS)
        return self.found(
            Status.FAIL,
            host_subject(host.host),
            "no Ascend tools found" if none_at_all else f"{missing[0]} was not found",
            advice_for="tools/none" if none_at_all else "tools/one-missing",
            expected="hccn_tool and npu-smi",
            actual="neither" if none_at_all else f"{missing[0]} is missing",
            reading=Reading(
                ReadingStatus.TOOL_MISSING,
                command="; ".join(f"command -v {name}" for name in missing),
                evidence="\n".join(f"{name}: not in PATH nor the driver's folders" for name in missing),
            ),
        )

    def _not_named(self, host: HostFacts) -> Result | None:
        if all(name in host.tools for name in ASCEND_TOOLS):
            return None
        unheard: Reading[None] = Reading(ReadingStatus.NOT_RECEIVED)
        return self.unlearned(host_subject(host.host), "which tools the host has", unheard)

    def _libraries(self, host: HostFacts) -> Result | None:
        for tool, readings in _answers(host).items():
            broken = next((r for r in readings if r.exit_code == 127 and "shared librar" in r.evidence), None)
            if broken:
                return self.found(
                    Status.FAIL,
                    host_subject(host.host),
                    f"{tool} cannot load its libraries",
                    advice_for="tools/libraries",
                    expected="the tool starts",
                    actual=_line_with("shared librar", broken.evidence),
                    reading=broken,
                )
        return None

    def _turned_away(self, host: HostFacts) -> Result | None:
        for tool, readings in _answers(host).items():
            if not readings or any(not _refused(reading) for reading in readings):
                continue
            first = readings[0]
            key = next(
                (f"tools/{code}" for code in ("-8020", "-8005") if f"ret is {code}" in first.evidence), ""
            )
            known = advice(key or "tools/denied")
            return self.found(
                Status.UNKNOWN,
                host_subject(host.host),
                f"{tool}: {known.meaning}",
                advice_for=key or "tools/denied",
                expected="answers",
                actual=first.reason or "every answer was a refusal",
                reading=first,
            )
        return None

    def _silent(self, host: HostFacts) -> Result | None:
        """A tool that is there and of which no answer came: whatever kept it from answering is the cause."""
        subject = host_subject(host.host)
        for tool, answers in _answers(host).items():
            if answers:
                continue
            what = f"whether {tool} answers"
            kept_back = (ReadingStatus.NOT_CALLED, ReadingStatus.NOT_RECEIVED)
            for reading in _readings(host)[tool]:
                if reading.status in kept_back:
                    return self.unlearned(subject, what, reading)
            message = f"{what} is not known, as nothing was asked of it"
            return self.depends(subject, message, CellKey("npu-mapping", subject))
        return None


class Versions(AscendCheck):
    """The driver's version is known and not older than the stack supports.

    What:
        The driver version can be read (from its version file, else from npu-smi) and is 24.1 or newer. A
        version file that is there, but not understood, leaves the version open.
        Firmware and CANN are shown where they can be read: on a bare host CANN often lives in
        containers only, so its absence says nothing.
    Why:
        Older drivers lack interfaces that the serving stack calls, for example the queue pair functions of
        HCCL; large expert-parallel serving wants 25.0 or newer.
    Consequence:
        Failures at start such as `hrtRaAiQpCreate not supported`, and dispatch or combine operators
        that fail later.
    Remedy:
        Upgrade driver and firmware together with the vendor's HDK package, then restart the host.
    """

    id = "versions"
    title = "Driver, firmware and CANN versions"
    commands = ("driver-version", "firmware-version", "cann-version")
    after = ("reachable",)

    def judge_ascend(self, host: HostFacts, cluster: ClusterFacts) -> Iterable[Result]:
        subject = host_subject(host.host)
        reading = host.system.driver_version
        version = driver_version(host)
        if version is None:
            yield self.unlearned(subject, "the driver version", reading)
            return
        numbers = re.match(r"(\d+)\.(\d+)", version)
        if numbers is None:
            yield self.found(
                Status.UNKNOWN,
                subject,
                f"the driver version {version!r} is not understood",
                advice_for="versions/not-understood",
                expected="a version such as 25.2.0",
                actual=version,
                reading=reading if reading.ok else host.npu_smi,
            )
            return
        if tuple(map(int, numbers.groups())) < _OLDEST_DRIVER:
            yield self.found(
                Status.WARN,
                subject,
                f"driver {version} is old",
                advice_for="versions/old-driver",
                expected="24.1 or newer",
                actual=version,
                reading=reading if reading.ok else host.npu_smi,
            )
            return
        if reading.status is ReadingStatus.UNPARSED:
            yield self.unlearned(subject, "the driver version", reading)
            return
        others = (("firmware", host.system.firmware_version), ("CANN", host.system.cann_version))
        parts = [f"driver {version}", *(f"{name} {known.value}" for name, known in others if known.value)]
        yield self.passed(subject, ", ".join(parts))


def driver_version(host: HostFacts) -> str | None:
    """The driver's version, from its own file or from npu-smi's first line; None = not known."""
    return host.system.driver_version.value or (host.npu_smi.value.version if host.npu_smi.value else None)


_OLDEST_DRIVER = (24, 1)


def _answers(host: HostFacts) -> dict[str, list[Reading[Any]]]:
    """What each tool answered, as far as it was called."""
    return {
        tool: [reading for reading in readings if reading.status not in _NO_ANSWER]
        for tool, readings in _readings(host).items()
    }


def _readings(host: HostFacts) -> dict[str, list[Reading[Any]]]:
    """Every reading that each tool was wanted for."""
    per_tool: dict[str, list[Reading[Any]]] = {
        "npu-smi": [host.mapping, host.npu_smi, host.topo],
        "hccn_tool": [],
    }
    for device in host.devices:
        per_tool["npu-smi"] += [device.health, device.hccs, device.spod]
        per_tool["hccn_tool"] += [*_port_readings(device)]
    return per_tool


def _port_readings(device: Any) -> Iterator[Reading[Any]]:
    names = ("link", "net_health", "ip", "netdetect", "gateway", "lldp", "vnic", "tls")
    return (getattr(device, name) for name in names)


def _refused(reading: Reading[Any]) -> bool:
    turned_away = reading.status is ReadingStatus.FAILED and could_not_start(reading)
    return reading.status is ReadingStatus.DENIED or turned_away


def _line_with(words: str, text: str) -> str:
    return next((line.strip() for line in text.splitlines() if words in line), "")


_NO_ANSWER = (
    ReadingStatus.NOT_CALLED,
    ReadingStatus.NOT_RECEIVED,
    ReadingStatus.NOT_ASKED,
    ReadingStatus.TOOL_MISSING,
    ReadingStatus.TIMED_OUT,
)
