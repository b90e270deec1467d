"""Checks of what devices and ports have counted since their driver was loaded.

A count says that something happened, not when: except for lost data it is a warning, and whether it still
grows is told by comparing two runs (`ascendctl diff`).
"""

from __future__ import annotations

from typing import Any

from ascendctl.checks.ascend import DeviceCheck, RocePortCheck
from ascendctl.checks.limits import above, limit, listed
from ascendctl.facts import (
    ClusterFacts,
    DeviceFacts,
    HostFacts,
    LinkStatFacts,
    LinkStatus,
    Profile,
    Reading,
    ReadingStatus,
)
from ascendctl.knowledge.thresholds import number
from ascendctl.results import CellKey, Result, Status, Subject


class LinkFlaps(RocePortCheck):
    """The link of each port stayed up.

    What:
        `hccn_tool -link_stat -g` counts no more losses of the link than the threshold link-flaps-max, on
        every port where RoCE is expected. A tool that prints no count of losses is judged by its records and
        by how often the link came up.
    Why:
        A link that is UP now may come and go. One or two losses belong to every start of a server and to work
        on the cables, so that only many are a warning; the count has no end but the driver's next start.
    Consequence:
        Each loss ends the jobs that use the port: EI0013, or EI0006 while they start.
    Remedy:
        Look at the times in `hccn_tool -i N -link_stat -g`: if they are recent, check fibre and module at
        both ends; `ascendctl diff` of two runs tells whether the count grows.
    """

    id = "link-flaps"
    title = "Losses of the link of each port"
    commands = ("link-stat",)
    after = ("npu-mapping", "link")
    profile = Profile.DEEP

    def reading(self, device: DeviceFacts) -> Reading[Any]:
        return device.link_stat

    def judge_port(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        history = device.link_stat.value
        if history is None:
            return self.unlearned(subject, "the history of the link", device.link_stat)
        most = limit("link-flaps-max", host)
        if _losses(history) <= most:
            return self.passed(subject, "the link was not lost often")
        return self.found(
            Status.WARN,
            subject,
            "the link went down often",
            advice_for="link-flaps/many",
            expected=f"at most {number(most)} times since the driver was loaded",
            actual=f"{_losses(history)} times",
            reading=device.link_stat,
        )


class PortErrors(RocePortCheck):
    """Each port counts few damaged packets, and few that had to be sent again.

    What:
        Of the counters of `hccn_tool -stat -g`, on every port where RoCE is expected, each that counts errors
        (damaged packets at the MAC, RoCE packets that failed their checks or met a failed queue pair) is at
        most the threshold port-errors-max, and each that counts packets sent again or out of order at most
        roce-retries-max. Of `-hw_stats` it is only seen whether it answers: it counts objects, no errors.
    Why:
        Dirty fibres and full buffers in switches damage or drop packets while every link is UP. The counts
        begin with the driver's start and may be old: they are a warning, and no proof of a present fault.
    Consequence:
        RoCE sends again, collectives wait for seconds; when the retries are used up a job ends with a
        completion error (EI0013).
    Remedy:
        Run `ascendctl diff` on two runs under load: errors that grow point at fibre, module and switch port,
        retries that grow at PFC, ECN and buffers of the switches. `hccn_tool -i N -stat -g` shows all.
    """

    id = "port-errors"
    title = "Error counters of each port"
    commands = ("stat", "hw-stats")
    after = ("npu-mapping", "link")
    profile = Profile.DEEP

    def reading(self, device: DeviceFacts) -> Reading[Any]:
        return device.hw_stats if device.hw_stats.status is ReadingStatus.TIMED_OUT else device.stat

    def judge_port(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        wrong = self._counted(device, subject, host)
        if wrong:
            return wrong
        if device.stat.value is None or device.hw_stats.status is ReadingStatus.TIMED_OUT:
            return self.unlearned(subject, "the packet counters of the port", self.reading(device))
        if not any(name in device.stat.value.counters for name in _PORT_ERRORS):
            return self.not_applicable(subject, "this version of hccn_tool prints no error counters")
        return self.passed(subject, "few errors and retries were counted")

    def _counted(self, device: DeviceFacts, subject: Subject, host: HostFacts) -> Result | None:
        counters = device.stat.value.counters if device.stat.value else {}
        for names, name, message, kind in (
            (_PORT_ERRORS, "port-errors-max", "the port counted many errors", "errors"),
            (_ROCE_RETRIES, "roce-retries-max", "many packets were sent again or out of order", "retries"),
        ):
            most = limit(name, host)
            found = above(counters, names, most)
            if found:
                return self.found(
                    Status.WARN,
                    subject,
                    message,
                    advice_for=f"port-errors/{kind}",
                    expected=f"at most {number(most)} of each since the driver was loaded",
                    actual=listed(found),
                    reading=device.stat,
                )
        return None


class Ecc(DeviceCheck):
    """The memory of each device holds its data.

    What:
        `npu-smi info -t ecc` counts no error of two bits, which cannot be corrected. Those that the device
        still counts fail; those that only its life-long count holds are a warning, as their pages were taken
        out of use. More corrected errors than the threshold ecc-single-bit-max are a warning.
    Why:
        An error of two bits is data lost; where it happened once it tends to happen again.
    Consequence:
        A job that touches such a page ends in the middle (AI Core or HBM errors, EI0002 on its peers).
    Remedy:
        Restart the server, so that the page is taken out of use, and run the vendor's memory diagnosis
        (`ascend-dmi -dg -i hbm`). If errors come back, have the card replaced.
    """

    id = "ecc"
    title = "ECC errors of each device"
    commands = ("ecc",)
    after = ("npu-mapping",)
    profile = Profile.DEEP

    def judge_device(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        if device.ecc.value is None:
            return self.unlearned(subject, "the ECC counters of the device", device.ecc)
        counters, most = device.ecc.value.counters, limit("ecc-single-bit-max", host)
        found = self._seen(
            device, subject, Status.FAIL, "memory lost data: double-bit ECC errors", "double-bit", "none"
        )
        found = found or self._seen(
            device, subject, Status.WARN, "memory lost data in the past", "isolated", "none"
        )
        if found:
            return found
        single = above(counters, _ECC["single-bit"], most)
        if single:
            return self._found(
                device,
                subject,
                Status.WARN,
                "many ECC errors were corrected",
                "single-bit",
                f"at most {number(most)}",
                listed(single),
            )
        return self.passed(subject, "no data was lost")

    def _seen(
        self, device: DeviceFacts, subject: Subject, status: Status, message: str, kind: str, expected: str
    ) -> Result | None:
        counters = device.ecc.value.counters if device.ecc.value else {}
        found = above(counters, _ECC[kind], 0)
        if not found:
            return None
        isolated = above(counters, _ECC["pages"], 0)
        return self._found(device, subject, status, message, kind, expected, listed({**found, **isolated}))

    def _found(
        self,
        device: DeviceFacts,
        subject: Subject,
        status: Status,
        message: str,
        kind: str,
        expected: str,
        actual: str,
    ) -> Result:
        return self.found(
            status,
            subject,
            message,
            advice_for=f"ecc/{kind}",
            expected=expected,
            actual=actual,
            reading=device.ecc,
        )


class HccsErrors(DeviceCheck):
    """The HCCS links of each device transfer without errors.

    What:
        `npu-smi info -t hccs` counts, on every link of a device, no more CRC errors than the threshold
        hccs-errors-max and no more packets sent again than hccs-retries-max. Too many errors fail, too many
        retries are a warning: the links lie inside the server, and healthy ones count neither.
    Why:
        All lanes of a link may be there while one of them is so poor that its packets are repeated.
    Consequence:
        Every collective inside the host waits for the slowest link; a link that gets worse ends jobs:
        EI0012.
    Remedy:
        Power-cycle the server and look whether the counts grow again under load (`ascendctl diff`). If they
        do, have the card or board replaced.
    """

    id = "hccs-errors"
    title = "Error counters of the HCCS links"
    commands = ("hccs",)
    after = ("npu-mapping", "hccs-links")
    profile = Profile.DEEP

    def judge_device(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        if device.hccs.status is ReadingStatus.UNSUPPORTED:
            return self.unlearned(subject, "the error counters of HCCS", device.hccs)
        if device.hccs.value is None:  # told once, by the check whose own command it is
            message = "the state of the HCCS links could not be learned"
            return self.depends(subject, message, CellKey("hccs-links", subject))
        counters = device.hccs.value.counters
        for key, name, status, message, kind in _HCCS:
            most = limit(name, host)
            links = {f"link {index}:": count for index, count in enumerate(counters.get(key, ()))}
            found = above(links, links, most)
            if found:
                return self.found(
                    status,
                    subject,
                    message,
                    advice_for=f"hccs-errors/{kind}",
                    expected=f"at most {number(most)} on each link since the driver was loaded",
                    actual=listed(found),
                    reading=device.hccs,
                )
        if not any(key in counters for key, *_ in _HCCS):
            return self.not_applicable(subject, "this version of npu-smi prints no counters of HCCS links")
        return self.passed(subject, "few errors were counted on the HCCS links")


_PORT_ERRORS = (
    "mac_tx_bad_pkt_num",
    "mac_rx_bad_pkt_num",
    "mac_rx_fcs_err_pkt_num",
    "roce_rx_err_pkt_num",
    "roce_tx_err_pkt_num",
    "roce_verification_err_num",
    "roce_qp_status_err_num",
)
_ROCE_RETRIES = ("roce_new_pkt_rty_num", "roce_out_of_order_num", "roce_unexpected_ack_num")

_MEMORIES = ("HBM", "DDR")
_ECC = {
    "double-bit": tuple(f"{memory} Double Bit Error Count" for memory in _MEMORIES),
    "isolated": tuple(f"{memory} Double Bit Aggregate Total Err Cnt" for memory in _MEMORIES),
    "pages": tuple(f"{memory} Double Bit Isolated Pages Count" for memory in _MEMORIES),
    "single-bit": tuple(f"{memory} Single Bit Aggregate Total Err Cnt" for memory in _MEMORIES),
}

_HCCS = (
    ("error_count", "hccs-errors-max", Status.FAIL, "HCCS links counted many errors", "errors"),
    ("retry_count", "hccs-retries-max", Status.WARN, "HCCS links sent many packets again", "retries"),
)


def _losses(history: LinkStatFacts) -> int:
    """How often the link was lost; the first time it came up is no loss."""
    if history.down_count is not None:
        return history.down_count
    recorded = sum(record.link_status is LinkStatus.DOWN for record in history.records)
    return max(recorded, history.up_count - 1)
