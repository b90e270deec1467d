"""The check of the optical module in each RoCE port."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ascendctl.checks.ascend import RocePortCheck
from ascendctl.checks.limits import limit, limit_if_set
from ascendctl.facts import (
    ClusterFacts,
    DeviceFacts,
    HostFacts,
    LinkStatus,
    OpticalFacts,
    Profile,
    Reading,
    ReadingStatus,
)
from ascendctl.knowledge.thresholds import number
from ascendctl.results import CellKey, Result, Status, Subject


@dataclass(frozen=True)
class _Range:
    """A measured value, or one per lane, and where it should lie; None = no limit is known."""

    what: str
    kind: str
    unit: str
    values: tuple[float, ...]
    low: float | None
    high: float | None

    def outside(self) -> Iterator[str]:
        for lane, value in enumerate(self.values):
            where = f" on lane {lane}" if len(self.values) > 1 else ""
            below = self.low is not None and value < self.low
            if below or (self.high is not None and value > self.high):
                yield f"{self.what} {number(value)} {self.unit}{where}"

    def wanted(self) -> str:
        ends = (("at least", self.low), ("at most", self.high))
        limits = [f"{word} {number(end)} {self.unit}" for word, end in ends if end is not None]
        return f"{self.what} {' and '.join(limits)}"


class Optical(RocePortCheck):
    """The optical module of each port is there and works within its limits.

    What:
        `hccn_tool -optical -g` finds a module on every port where RoCE is expected; its temperature, supply
        voltage and the light sent and received on every lane lie within the alarm values that the module
        itself states, or the thresholds of the inventory. A small signal-to-noise ratio, and a flag that a
        lane lost its signal (LOS) or its lock (LOL), are warnings: modules keep such flags until they are
        read. A module that the tool calls not present while it prints its values, as real tools do, is judged
        by the values; values that are not printed, and a ratio of 0, are not judged. A module that is not
        there, dark, hot or without supply explains a link that is down; what comes in from the other end of
        such a link (received light, signal, flags) follows from the link.
    Why:
        Modules age and fibres get dirty long before a link goes down; until then the port loses packets.
    Consequence:
        Packets are lost and sent again, collectives become slow, and with the link a job ends: EI0013, at
        start EI0006.
    Remedy:
        Clean and reseat the fibre and the module, look at the same values of the switch port behind it
        (received light that is low here is mostly the other end or the fibre), then replace the module.
    """

    id = "optical"
    title = "Optical module of each port"
    commands = ("optical",)
    after = ("npu-mapping",)
    profile = Profile.DEEP

    def reading(self, device: DeviceFacts) -> Reading[Any]:
        return device.optical

    def judge_port(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        module = device.optical.value
        if device.optical.status is ReadingStatus.NO_DATA or (module and _absent(module)):
            return self._wrong(
                device, subject, Status.FAIL, "no optical module is present", "absent", "a module", "none"
            )
        if module is None:
            return self.unlearned(subject, "the optical module", device.optical)
        received, own = _ranges(module, host)
        link_is_down = device.link.value is not None and device.link.value.link_status is LinkStatus.DOWN
        fault = self._out_of_range(device, subject, own) if link_is_down else None
        found = (
            fault
            or self._out_of_range(device, subject, (received, *own))
            or self._poor_signal(device, subject, host, module)
            or self._flags(device, subject, module)
        )
        if link_is_down and found and not fault:
            return self.depends(subject, f"{found.message}; its link is DOWN", CellKey("link", subject))
        return found or self.passed(subject, "the optical module is within its limits")

    def _out_of_range(
        self, device: DeviceFacts, subject: Subject, ranges: tuple[_Range, ...]
    ) -> Result | None:
        judged = [(one, list(one.outside())) for one in ranges]
        wrong = [(one, found) for one, found in judged if found]
        if not wrong:
            return None
        first = wrong[0][0]
        return self._wrong(
            device,
            subject,
            Status.FAIL,
            f"the {first.what} of the optical module is outside its limits",
            first.kind,
            "; ".join(one.wanted() for one, _ in wrong),
            "; ".join(text for _, found in wrong for text in found),
        )

    def _poor_signal(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, module: OpticalFacts
    ) -> Result | None:
        least = limit("optical-snr-low-db", host)
        sides = (("host", module.host_snr_db), ("media", module.media_snr_db))
        poor = [
            f"{number(snr)} dB on {side} lane {lane}"
            for side, lanes in sides
            for lane, snr in enumerate(lanes)
            if snr and snr < least
        ]
        if not poor:
            return None
        return self._wrong(
            device,
            subject,
            Status.WARN,
            "the signal-to-noise ratio of the optical module is low",
            "snr",
            f"at least {number(least)} dB on every lane",
            ", ".join(poor),
        )

    def _flags(self, device: DeviceFacts, subject: Subject, module: OpticalFacts) -> Result | None:
        flags = {
            "TX LOS": module.tx_los_flags,
            "RX LOS": module.rx_los_flags,
            "TX LOL": module.tx_lol_flags,
            "RX LOL": module.rx_lol_flags,
        }
        raised = [f"{name} {mask:#x}" for name, mask in flags.items() if mask]
        if not raised:
            return None
        return self._wrong(
            device,
            subject,
            Status.WARN,
            "lanes of the optical module lost their signal or lock",
            "flags",
            "no LOS or LOL flag",
            ", ".join(raised),
        )

    def _wrong(
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
            advice_for=f"optical/{kind}",
            expected=expected,
            actual=actual,
            reading=device.optical,
        )


def _absent(module: OpticalFacts) -> bool:
    """Whether neither the tool's word nor any measured value speaks for a module."""
    measured = (module.temperature_c, module.voltage_mv, *module.tx_power_mw, *module.rx_power_mw)
    return not module.present and not any(measured)


def _ranges(module: OpticalFacts, host: HostFacts) -> tuple[_Range, tuple[_Range, ...]]:
    """What is measured against what: the light received, and what the module itself answers for.

    The gravest first, as the first one found names the finding.
    """

    def between(
        what: str, kind: str, unit: str, values: tuple[float, ...], name: str, low: Any, high: Any
    ) -> _Range:
        stated = low is not None and high is not None and low < high  # else the module states nothing
        own_low, own_high = (low, high) if stated else (None, None)
        site_low, site_high = (limit_if_set(f"{name}-{end}-{unit.lower()}", host) for end in ("low", "high"))
        return _Range(
            what,
            kind,
            unit,
            values,
            own_low if site_low is None else site_low,
            own_high if site_high is None else site_high,
        )

    temperature = () if module.temperature_c is None else (module.temperature_c,)
    voltage = () if module.voltage_mv is None else (module.voltage_mv,)
    volts_stated = (module.voltage_low_mv or 0) < (module.voltage_high_mv or 0)
    received = between(
        "received light",
        "rx-power",
        "mW",
        module.rx_power_mw,
        "optical-rx-power",
        module.rx_power_low_mw,
        module.rx_power_high_mw,
    )
    return received, (
        between(
            "sent light",
            "tx-power",
            "mW",
            module.tx_power_mw,
            "optical-tx-power",
            module.tx_power_low_mw,
            module.tx_power_high_mw,
        ),
        between(
            "temperature",
            "temperature",
            "C",
            temperature,
            "optical-temperature",
            module.temperature_low_c,
            module.temperature_high_c,
        ),
        _Range(
            "supply voltage",
            "voltage",
            "mV",
            voltage,
            module.voltage_low_mv if volts_stated else None,
            module.voltage_high_mv if volts_stated else None,
        ),
    )
