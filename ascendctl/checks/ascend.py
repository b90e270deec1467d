"""What the checks are built on: how readings become cells, and which cells a check always gives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from ascendctl.checks.contract import Check
from ascendctl.facts import (
    Accelerator,
    BlockedBy,
    ClusterFacts,
    DeviceFacts,
    HostFacts,
    Reading,
    ReadingStatus,
)
from ascendctl.knowledge import advice
from ascendctl.results import CellKey, Result, Status, Subject, SubjectKind, host_subject
from ascendctl.topology.roce import Wanted, roce_use


@dataclass(frozen=True)
class Unlearned(Result):
    """A cell that could not be judged. The engine says which finding explains it, if one does.

    At most one of these is set: ``cause``, the cell that explains it; ``blocked_by``, the command
    whose hanging stopped this one; ``root``, the id of a check of the whole host. ``hung``: its own
    command had to be killed, so nothing else explains it.
    """

    cause: CellKey | None = None
    blocked_by: BlockedBy | None = None
    root: str | None = None
    hung: bool = False


def device_subject(host: str, device: DeviceFacts) -> Subject:
    """One die, with the ids of both tools."""
    return Subject(
        SubjectKind.DEVICE, host=host, npu=device.npu_id, chip=device.chip_id, device=device.phy_id
    )


def could_not_start(reading: Reading[Any]) -> bool:
    """Whether the tool itself did not run: its loader failed, or the driver turned it away."""
    return reading.exit_code == 127 or "ret is -80" in reading.evidence


def without_npus(host: HostFacts) -> str:
    """Why checks of NPUs do not apply to the host; empty where it has, or may have, Ascend NPUs."""
    if host.accelerator not in (Accelerator.NVIDIA, Accelerator.CPU):
        return ""
    kind = "NVIDIA" if host.accelerator is Accelerator.NVIDIA else "CPU"
    return f"this is a {kind} host, without Ascend NPUs"


class Cells:
    """Makes the cells of one check."""

    id: ClassVar[str]

    def passed(self, subject: Subject, message: str) -> Result:
        return Result(self.id, subject, Status.PASS, message)

    def not_applicable(self, subject: Subject, reason: str) -> Result:
        return Result(self.id, subject, Status.NOT_APPLICABLE, reason)

    def found(
        self,
        status: Status,
        subject: Subject,
        message: str,
        *,
        advice_for: str,
        expected: str,
        actual: str,
        reading: Reading[Any],
    ) -> Result:
        """A warning, a failure or a doubtful value; ``advice_for`` names its entry in the knowledge."""
        known = advice(advice_for)
        return Result(
            self.id,
            subject,
            status,
            message,
            expected=expected,
            actual=actual,
            consequence=known.consequence,
            remedy=known.remedy,
            command=reading.command,
            evidence=reading.evidence,
        )

    def unlearned(
        self, subject: Subject, what: str, reading: Reading[Any], *, must_be_offered: bool = False
    ) -> Result:
        """The cell of a reading that did not end ``ok``: not-applicable, or not learned and why.

        ``must_be_offered``: every product of this kind has the command, so that a tool which says
        otherwise has told nothing.
        """
        status = reading.status
        if status is ReadingStatus.UNSUPPORTED and must_be_offered:
            known = advice("reading/must-be-offered")
            return Unlearned(
                self.id,
                subject,
                Status.UNKNOWN,
                f"{what} could not be learned: this product must offer it, its tool says that it does not",
                expected="an answer that can be read",
                actual=_WORDS[status],
                consequence=known.consequence,
                remedy=known.remedy,
                command=reading.command,
                evidence=reading.evidence,
            )
        if status is ReadingStatus.UNSUPPORTED:
            return self.not_applicable(subject, f"{what} is not offered by this product")
        known = advice(f"reading/{status.value}")
        root = None
        if status in (ReadingStatus.NOT_RECEIVED, ReadingStatus.NOT_ASKED):
            root = "reachable"
        elif status in (ReadingStatus.TOOL_MISSING, ReadingStatus.DENIED) or (
            status is ReadingStatus.FAILED and could_not_start(reading)
        ):
            root = "tools"
        return Unlearned(
            self.id,
            subject,
            Status.UNKNOWN,
            f"{what} could not be learned: {reading.reason or _WORDS[status]}",
            expected="an answer that can be read",
            actual=_WORDS[status],
            consequence=known.consequence,
            remedy=known.remedy,
            command=reading.command,
            evidence=reading.evidence,
            blocked_by=reading.blocked_by if status is ReadingStatus.NOT_CALLED else None,
            root=root,
            hung=status is ReadingStatus.TIMED_OUT,
        )

    def depends(self, subject: Subject, message: str, cause: CellKey) -> Result:
        """A cell that cannot be judged as long as another one is not good."""
        return Unlearned(self.id, subject, Status.UNKNOWN, message, cause=cause)


class AscendCheck(Cells, Check):
    """A check of a host with Ascend NPUs; elsewhere it is one not-applicable cell with the reason."""

    def judge(self, host: HostFacts, cluster: ClusterFacts) -> Iterable[Result]:
        reason = without_npus(host)
        if reason:
            yield self.not_applicable(host_subject(host.host), reason)
        else:
            yield from self.judge_ascend(host, cluster)

    @abstractmethod
    def judge_ascend(self, host: HostFacts, cluster: ClusterFacts) -> Iterable[Result]:
        """Every cell of this check on a host that has, or may have, Ascend NPUs."""


class DeviceCheck(AscendCheck):
    """A check with one cell per device; one cell on the host while its devices are not known.

    An exception on one device is the ``error`` cell of that device only.
    """

    def judge_ascend(self, host: HostFacts, cluster: ClusterFacts) -> Iterable[Result]:
        if not host.devices:
            subject = host_subject(host.host)
            yield self.depends(
                subject, "the devices of this host are not known", CellKey("npu-mapping", subject)
            )
        for device in host.devices:
            subject = device_subject(host.host, device)
            try:
                cell = self.judge_device(device, subject, host, cluster)
            except Exception as error:
                cell = internal_error(self.id, subject, error)
            yield cell

    @abstractmethod
    def judge_device(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        """The cell of one device."""


class RocePortCheck(DeviceCheck):
    """A check of a port that only matters where RoCE is expected on it."""

    @abstractmethod
    def reading(self, device: DeviceFacts) -> Reading[Any]:
        """The reading that this check judges."""

    @abstractmethod
    def judge_port(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        """The cell of a port on which RoCE is, or may be, expected."""

    def judge_device(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        use = roce_use(device, host)
        hung = self.reading(device).status is ReadingStatus.TIMED_OUT
        if use.wanted is Wanted.NO and not hung:
            return self.not_applicable(subject, f"RoCE is not expected here: {use.reason}")
        cell = self.judge_port(device, subject, host, cluster)
        if use.wanted is Wanted.CANNOT_TELL and cell.status in (Status.WARN, Status.FAIL):
            return self.doubtful(cell, use.reason, cause_of_doubt(device, cell.key, host))
        return cell

    def doubtful(self, cell: Result, reason: str, cause: CellKey | None) -> Result:
        """What becomes of a finding while it is not known whether RoCE is expected on the port."""
        return Unlearned(
            cell.check,
            cell.subject,
            Status.UNKNOWN,
            f"{cell.message}; whether that matters cannot be told: {reason}",
            expected=cell.expected,
            actual=cell.actual,
            consequence=cell.consequence,
            remedy=advice("roce/cannot-tell").remedy,
            command=cell.command,
            evidence=cell.evidence,
            cause=cause,
        )


def cause_of_doubt(device: DeviceFacts, cell: CellKey, host: HostFacts) -> CellKey | None:
    """The cell that, were it good, would tell whether RoCE is expected on the port."""
    if device.ip.status is not ReadingStatus.NO_DATA:
        return None if cell.check == "link" else CellKey("address", cell.subject)
    if host.generation is None:
        return CellKey("npu-mapping", host_subject(host.host))
    return CellKey("hccn-conf", host_subject(host.host))


def internal_error(check: str, subject: Subject, error: Exception) -> Result:
    """The cell of a check that broke: the kind of error and its text, never a traceback."""
    known = advice("internal/error")
    return Result(
        check,
        subject,
        Status.ERROR,
        f"ascendctl failed on this check: {type(error).__name__}: {error}",
        consequence=known.consequence,
        remedy=known.remedy,
    )


_WORDS = {
    ReadingStatus.OK: "the answer was read",
    ReadingStatus.NO_DATA: "the answer holds no value",
    ReadingStatus.UNSUPPORTED: "not offered by this product",
    ReadingStatus.BUSY: "the tool stayed busy, also when asked again",
    ReadingStatus.DENIED: "permission denied",
    ReadingStatus.FAILED: "the command failed",
    ReadingStatus.UNPARSED: "the answer is not in a known form",
    ReadingStatus.TIMED_OUT: "the command had to be killed at its time limit",
    ReadingStatus.NOT_CALLED: "not called, as an earlier command of this tool had to be killed",
    ReadingStatus.TOOL_MISSING: "the tool is not on the host",
    ReadingStatus.NOT_RECEIVED: "the host's answer ended before this one came",
    ReadingStatus.NOT_ASKED: "it was not part of what was asked",
}
