"""The check of /etc/hccn.conf: what will be set again at the next restart, and what containers read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ascendctl.checks.ascend import DeviceCheck, cause_of_doubt
from ascendctl.facts import ClusterFacts, DeviceFacts, HccnConfDevice, HostFacts, Reading, ReadingStatus
from ascendctl.results import CellKey, Result, Status, Subject, host_subject
from ascendctl.topology.addresses import unicast
from ascendctl.topology.roce import Wanted, roce_use


class HccnConf(DeviceCheck):
    """/etc/hccn.conf is there and says the same as the running ports.

    What:
        The file can be read and parsed; address, netmask, gateway and detect address of each device that
        are in the file are set live and equal, and every device with a live address has one in the
        file. Other keys may be absent. On a host that uses no RoCE port the file is not needed.
    Why:
        The file states the intent, the tool the present. Ports are set from the file at a restart, and the
        engine's connectors read their addresses from it inside their container.
    Consequence:
        The port comes back with another address, or none, after a restart (EI0006, EI0014). Without the file
        in the container vLLM starts and gives garbage answers (vllm-ascend issue 7711), or the Mooncake
        connector fails.
    Remedy:
        Set the ports again with hccn_tool, which writes the file, or correct the file; mount it into
        every container: `-v /etc/hccn.conf:/etc/hccn.conf`.
    """

    id = "hccn-conf"
    title = "/etc/hccn.conf equals the live values"
    commands = ("hccn-conf",)
    after = ("npu-mapping", "address", "gateway", "netdetect")

    def judge_ascend(self, host: HostFacts, cluster: ClusterFacts) -> Iterable[Result]:
        yield self._file(host)
        if host.devices:
            yield from super().judge_ascend(host, cluster)

    def _file(self, host: HostFacts) -> Result:
        subject = host_subject(host.host)
        if host.hccn_conf.ok:
            return self.passed(subject, "the file is there and can be read")
        if host.hccn_conf.status is not ReadingStatus.NO_DATA:
            return self.unlearned(subject, "/etc/hccn.conf", host.hccn_conf)
        uses = {roce_use(device, host).wanted for device in host.devices}
        if uses == {Wanted.NO}:
            return self.not_applicable(subject, "no port of this host uses RoCE, so no address need be kept")
        return self.found(
            Status.FAIL if Wanted.YES in uses else Status.WARN,
            subject,
            "/etc/hccn.conf is missing or empty",
            advice_for="hccn-conf/missing",
            expected="a file with the address of every port",
            actual="none",
            reading=host.hccn_conf,
        )

    def judge_device(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        use = roce_use(device, host)
        if use.wanted is Wanted.NO:
            return self.not_applicable(subject, f"RoCE is not expected here: {use.reason}")
        if host.hccn_conf.value is None:
            cause = CellKey(self.id, host_subject(host.host))
            if use.wanted is Wanted.CANNOT_TELL and host.hccn_conf.status is ReadingStatus.NO_DATA:
                cause = cause_of_doubt(device, CellKey(self.id, subject), host) or cause
            return self.depends(subject, "/etc/hccn.conf could not be read", cause)
        entry = host.hccn_conf.value.devices.get(str(device.phy_id), HccnConfDevice())
        address = device.ip.value
        if address and entry.address is None:
            return self.found(
                Status.FAIL,
                subject,
                "the port's address is not in /etc/hccn.conf",
                advice_for="hccn-conf/not-kept",
                expected=f"address_{device.phy_id}={address.address}",
                actual="none",
                reading=host.hccn_conf,
            )
        wrong = [pair for pair in _pairs(device, entry) if not _equal(pair.live, pair.kept)]
        if wrong:
            return self.found(
                Status.FAIL,
                subject,
                _what_differs(wrong),
                advice_for="hccn-conf/differs",
                expected=", ".join(f"{key}_{device.phy_id}={live or kept}" for key, live, kept in wrong),
                actual=", ".join(
                    f"{key}_{device.phy_id}={kept}" if live else f"{key}_{device.phy_id} not set live"
                    for key, live, kept in wrong
                ),
                reading=host.hccn_conf,
            )
        for check, reading, value in (
            ("address", device.ip, entry.address),
            ("gateway", device.gateway, entry.gateway),
            ("netdetect", device.netdetect, entry.netdetect),
        ):
            if value and not reading.ok and reading.status is not ReadingStatus.NO_DATA:
                message = f"the live {check} to compare with is not known"
                return self.depends(subject, message, CellKey(check, subject))
        if not any(_pairs(device, entry)):
            return self.passed(subject, "nothing is set, live or in the file, that could differ")
        return self.passed(subject, "the file says what is live")


class _Pair(NamedTuple):
    """One thing that the file sets; ``live`` is empty where the port has none."""

    key: str
    live: str
    kept: str


def _what_differs(wrong: list[_Pair]) -> str:
    parts = []
    for set_live, one, several in (
        (True, "differs from the live value", "differ from the live value"),
        (False, "is not set live", "are not set live"),
    ):
        keys = [pair.key for pair in wrong if bool(pair.live) is set_live]
        if keys:
            parts.append(f"{', '.join(keys)} in /etc/hccn.conf {one if len(keys) == 1 else several}")
    return "; ".join(parts)


def _pairs(device: DeviceFacts, entry: HccnConfDevice) -> Iterator[_Pair]:
    """What the file sets beside what is live; what could not be learned of the port is left out."""
    live: dict[str, tuple[Reading[Any], str]] = {
        "address": (device.ip, device.ip.value.address if device.ip.value else ""),
        "netmask": (device.ip, device.ip.value.netmask if device.ip.value else ""),
        "gateway": (device.gateway, device.gateway.value.address if device.gateway.value else ""),
        "netdetect": (device.netdetect, device.netdetect.value.address if device.netdetect.value else ""),
    }
    for key, (reading, value) in live.items():
        kept = getattr(entry, key)
        if kept and (value or (reading.status is ReadingStatus.NO_DATA and kept != _NOT_SET)):
            yield _Pair(key, value, kept)


# What both the file and the tool may say where nothing is set.
_NOT_SET = "0.0.0.0"


def _equal(one: str, other: str) -> bool:
    """Whether two texts are the same address; unreadable ones must be equal letter by letter."""
    return one == other or (unicast(one) is not None and unicast(one) == unicast(other))
