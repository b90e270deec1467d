"""Checks of how each RoCE port is set: speed and duplex, MTU, FEC. A host's ports should be alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ascendctl.checks.ascend import RocePortCheck
from ascendctl.checks.limits import limit_if_set
from ascendctl.facts import ClusterFacts, DeviceFacts, Duplex, HostFacts, Profile, Reading, ReadingStatus
from ascendctl.knowledge.thresholds import number
from ascendctl.results import Result, Status, Subject
from ascendctl.topology.majority import vote

V = TypeVar("V", bound=int | str)


@dataclass(frozen=True)
class _OddOneOut(Generic[V]):
    """A port whose setting is not that of the host's other ports; ``usual`` None = a tie."""

    own: V
    usual: V | None


def _odd(
    device: DeviceFacts, host: HostFacts, value: Callable[[DeviceFacts], V | None]
) -> _OddOneOut[V] | None:
    """The port against the majority of the host's ports that tell a value; a tie accuses both sides."""
    told = ((other.phy_id, value(other)) for other in host.devices)
    values = {phy: seen for phy, seen in told if seen is not None}
    result = vote(values)
    if device.phy_id not in result.accused:
        return None
    return _OddOneOut(values[device.phy_id], result.value)


class Speed(RocePortCheck):
    """Each port runs at the speed of the host's other ports, and in both directions at once.

    What:
        `hccn_tool -duplex -g` says Full, and `hccn_tool -speed -g` tells the same speed on every port of the
        host where RoCE is expected; the odd one out is judged against the majority, a tie accuses both
        sides. With the threshold port-speed-min-mbps every port must be at least that fast.
    Why:
        A port may come up with fewer lanes or at a lower speed: its link is UP, and nothing else shows it.
    Consequence:
        Every collective waits for the slowest port: the job runs at the speed of this one, and may end in
        time-outs (EI0002, EI0013).
    Remedy:
        Check module, fibre and the settings of the switch port (speed, auto-negotiation, breakout), then take
        the port down and up.
    """

    id = "speed"
    title = "Speed and duplex of each port"
    commands = ("speed", "duplex")
    after = ("npu-mapping", "link")
    profile = Profile.DEEP

    def reading(self, device: DeviceFacts) -> Reading[Any]:
        return device.duplex if device.duplex.status is ReadingStatus.TIMED_OUT else device.speed

    def judge_port(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        wrong = self._half(device, subject) or self._slow(device, subject, host)
        if wrong:
            return wrong
        unsupported = ReadingStatus.UNSUPPORTED
        if device.speed.value is None and (
            device.speed.status is not unsupported or device.duplex.status is unsupported
        ):
            return self.unlearned(subject, "the speed of the port", device.speed)
        if device.duplex.value is None and device.duplex.status is not unsupported:
            return self.unlearned(subject, "the duplex mode of the port", device.duplex)
        if device.speed.value is not None and device.speed.value.speed_mbps is None:
            return self._untold(device, subject, "the speed", device.speed, "Unknown!")
        if device.duplex.value is not None and device.duplex.value.duplex is Duplex.UNKNOWN:
            return self._untold(device, subject, "the duplex mode", device.duplex, Duplex.UNKNOWN.value)
        return self.passed(subject, "the port is as fast as the host's other ports, in full duplex")

    def _half(self, device: DeviceFacts, subject: Subject) -> Result | None:
        if device.duplex.value is None or device.duplex.value.duplex is not Duplex.HALF:
            return None
        return self.found(
            Status.FAIL,
            subject,
            "the port is in half duplex",
            advice_for="speed/half-duplex",
            expected=Duplex.FULL.value,
            actual=Duplex.HALF.value,
            reading=device.duplex,
        )

    def _slow(self, device: DeviceFacts, subject: Subject, host: HostFacts) -> Result | None:
        own, least = _speed_mbps(device), limit_if_set("port-speed-min-mbps", host)
        if own is None:
            return None
        if least is not None:
            if own >= least:
                return None
            message, want = "the port is slower than it should be", f"at least {number(least)} Mb/s"
        else:
            odd = _odd(device, host, _speed_mbps)
            if odd is None:
                return None
            if odd.usual is None:
                message = "the ports of this host differ in speed, with no majority to judge by"
                want = "one speed on every port"
            else:
                message = "the port runs at another speed than the host's other ports"
                want = f"{odd.usual} Mb/s"
        return self.found(
            Status.FAIL,
            subject,
            message,
            advice_for="speed/differs",
            expected=want,
            actual=f"{own} Mb/s",
            reading=device.speed,
        )

    def _untold(
        self, device: DeviceFacts, subject: Subject, what: str, reading: Reading[Any], actual: str
    ) -> Result:
        return self.found(
            Status.UNKNOWN,
            subject,
            f"hccn_tool does not know {what} of the port",
            advice_for="speed/unknown",
            expected=f"{what}",
            actual=actual,
            reading=reading,
        )


class Mtu(RocePortCheck):
    """Each port has the MTU of the host's other ports.

    What:
        `hccn_tool -mtu -g` tells the same MTU on every port of the host where RoCE is expected; the odd one
        out is judged against the majority, a tie accuses both sides. With the threshold port-mtu-bytes every
        port must have exactly that MTU. The vendor states a range (68 to 9702), and no right value.
    Why:
        Two ends with different MTUs connect, and break with the first large packet.
    Consequence:
        RoCE packets of one side are dropped: completion errors in a running job (EI0013).
    Remedy:
        Set it with `hccn_tool -i N -mtu -s size B`, equally on all ports of all hosts, and not above that of
        the switch ports between them.
    """

    id = "mtu"
    title = "MTU of each port"
    commands = ("mtu",)
    after = ("npu-mapping", "link")
    profile = Profile.DEEP

    def reading(self, device: DeviceFacts) -> Reading[Any]:
        return device.mtu

    def judge_port(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        if device.mtu.value is None:
            return self.unlearned(subject, "the MTU of the port", device.mtu)
        own, given = device.mtu.value.mtu_bytes, limit_if_set("port-mtu-bytes", host)
        if given is not None:
            if own == given:
                return self.passed(subject, "the MTU is the one that the inventory gives")
            message, want = "the MTU is not the one that the inventory gives", f"{number(given)} bytes"
        else:
            odd = _odd(device, host, _mtu_bytes)
            if odd is None:
                return self.passed(subject, "the MTU is that of the host's other ports")
            if odd.usual is None:
                message = "the MTUs of this host's ports differ, with no majority to judge by"
                want = "one MTU on every port"
            else:
                message = "the MTU differs from that of the host's other ports"
                want = f"{odd.usual} bytes"
        return self.found(
            Status.FAIL,
            subject,
            message,
            advice_for="mtu/differs",
            expected=want,
            actual=f"{own} bytes",
            reading=device.mtu,
        )


class Fec(RocePortCheck):
    """Each port corrects errors (FEC) in the mode of the host's other ports.

    What:
        `hccn_tool -fec -g` tells the same mode on every port of the host where RoCE is expected; the odd one
        out is judged against the majority, a tie accuses both sides. It is a warning: the link is UP, so both
        of its ends agree.
    Why:
        A port that was set by hand keeps its mode, and loses its link when the other end changes.
    Consequence:
        More packets are lost on this port, or its link goes down and does not come back: EI0013, at start
        EI0006.
    Remedy:
        Set the same mode on every port (`hccn_tool -i N -fec -s MODE`) and on the switch ports behind them.
    """

    id = "fec"
    title = "Error correction (FEC) of each port"
    commands = ("fec",)
    after = ("npu-mapping", "link")
    profile = Profile.DEEP

    def reading(self, device: DeviceFacts) -> Reading[Any]:
        return device.fec

    def judge_port(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        if device.fec.value is None:
            return self.unlearned(subject, "the FEC mode of the port", device.fec)
        odd = _odd(device, host, _fec_mode)
        if odd is None:
            return self.passed(subject, "the FEC mode is that of the host's other ports")
        tie = odd.usual is None
        return self.found(
            Status.WARN,
            subject,
            "the FEC modes of this host's ports differ, with no majority to judge by"
            if tie
            else "the FEC mode differs from that of the host's other ports",
            advice_for="fec/differs",
            expected="one mode on every port" if tie else str(odd.usual),
            actual=odd.own,
            reading=device.fec,
        )


def _speed_mbps(device: DeviceFacts) -> int | None:
    return device.speed.value.speed_mbps if device.speed.value else None


def _mtu_bytes(device: DeviceFacts) -> int | None:
    return device.mtu.value.mtu_bytes if device.mtu.value else None


def _fec_mode(device: DeviceFacts) -> str | None:
    return device.fec.value.mode if device.fec.value else None
