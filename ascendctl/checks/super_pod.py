"""Checks of the scale-up network between hosts: virtual NIC and super pod identity of each die."""

from __future__ import annotations

from ascendctl.checks.ascend import DeviceCheck
from ascendctl.facts import (
    ClusterFacts,
    DeviceFacts,
    Generation,
    HostFacts,
    LinkStatus,
    ReadingStatus,
    ScaleOut,
    SpodFacts,
)
from ascendctl.results import Result, Status, Subject
from ascendctl.topology import sdid
from ascendctl.topology.addresses import unicast
from ascendctl.topology.majority import vote
from ascendctl.topology.roce import Wanted, roce_use
from ascendctl.topology.super_pod import in_super_pod


class Vnic(DeviceCheck):
    """The virtual NIC of each device.

    What:
        A3: the vNIC is UP and has an address; in a super pod anything else is a failure. A2: it can be
        read, and its address should be 192.168.2.(199 - device).
    Why:
        Between A3 hosts of one super pod HCCL connects over the vNIC addresses.
    Consequence:
        HCCL waits for its vNIC socket and times out: EI0006.
    Remedy:
        The driver sets the vNIC by itself: restart the host; if it stays down, check driver and firmware
        versions and the super pod's settings in the server's management controller.
    """

    id = "vnic"
    title = "Virtual NIC of each device"
    commands = ("vnic",)
    after = ("npu-mapping",)

    def judge_device(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        if not device.vnic.ok and device.vnic.status is not ReadingStatus.NO_DATA:
            offered = host.generation is Generation.A3 and in_super_pod(host) is True
            return self.unlearned(subject, "the virtual NIC", device.vnic, must_be_offered=offered)
        vnic = device.vnic.value
        if vnic is None or unicast(vnic.address) is None:
            seen = vnic.address if vnic else "none"
            return self._wrong(device, subject, host, "the vNIC has no address", "an address", seen)
        if vnic.link_status is LinkStatus.DOWN:
            return self._wrong(device, subject, host, "the vNIC is DOWN", "UP", "DOWN")
        wanted = sdid.vnic_address_a2(device.phy_id)
        if host.generation is Generation.A2 and vnic.address != wanted:
            return self.found(
                Status.WARN,
                subject,
                "the vNIC has another address than the driver gives",
                advice_for="vnic/a2-address",
                expected=wanted,
                actual=vnic.address,
                reading=device.vnic,
            )
        return self.passed(subject, "vNIC is UP with an address")

    def _wrong(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, message: str, expected: str, actual: str
    ) -> Result:
        matters = host.generation is not Generation.A2 and in_super_pod(host)
        return self.found(
            Status.FAIL if matters else Status.WARN,
            subject,
            message,
            advice_for="vnic/down" if matters else "vnic/down-alone",
            expected=expected,
            actual=actual,
            reading=device.vnic,
        )


class SpodInfo(DeviceCheck):
    """The super pod identity of each A3 die is valid and agrees with itself.

    What:
        `npu-smi info -t spod-info` gives an SDID whose parts are in range and name this NPU, chip and
        physical id; the Server Index is the SDID's and the same on all dies of the host; the vNIC address is
        192.<server index>.<2 + die>.<199 - device>; no SDID appears twice on the host. The Super Pod ID is
        valid and the same on all dies; a size of 0 or 4294967295 is a warning. A host whose
        dies all lack an SDID (4294967295) is in no super pod: HCCS cannot be used between hosts.
    Why:
        SDID, server index and vNIC are one identity; after a board was replaced they may disagree.
    Consequence:
        HCCL refuses duplicate ids in one super pod (EI0014), or waits for the wrong vNIC (EI0006).
    Remedy:
        Set the super pod id and server index in the server's management controller (Redfish), restart the
        host. Without a super pod plan RoCE between hosts: `scale_out: roce`.
    """

    id = "spod-info"
    title = "Super pod identity of each die"
    commands = ("spod-info",)
    after = ("npu-mapping",)

    def judge_device(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        if host.generation is Generation.A2 and device.spod.status is not ReadingStatus.TIMED_OUT:
            return self.not_applicable(subject, "A2 servers belong to no super pod")
        spod = device.spod.value
        if spod is None:
            return self.unlearned(subject, "the super pod identity", device.spod)
        if spod.sdid == sdid.INVALID:
            return self._without(device, subject, host, cluster)
        return (
            self._judge_sdid(device, subject, spod)
            or self._judge_against_host(device, subject, host, spod)
            or self._judge_vnic(device, subject, sdid.decode(spod.sdid).server_index)
            or self._judge_size(device, subject, spod)
            or self.passed(subject, "the super pod identity agrees with itself")
        )

    def _without(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        """The cell of a die without SDID: alone in that, or like every die of its host."""
        if in_super_pod(host):
            message = "the die has no SDID, other dies of the host have one"
            return self._wrong(device, subject, message, "a valid SDID", str(sdid.INVALID), "one-die-invalid")
        wrong_vnic = self._judge_vnic(device, subject, None)
        if wrong_vnic:
            return wrong_vnic
        roce = any(roce_use(other, host).wanted is not Wanted.NO for other in host.devices)
        alone = len(cluster.hosts) == 1
        lost = host.expectation.scale_out is ScaleOut.NONE or not (roce or alone)
        status = Status.FAIL if lost else Status.WARN
        return self.found(
            status,
            subject,
            "the host is in no super pod, so HCCS cannot be used between hosts"
            + (", and RoCE is not in use either" if lost else ": plan RoCE"),
            advice_for="spod-info/no-network" if lost else "spod-info/no-super-pod",
            expected="a valid SDID, or RoCE between hosts",
            actual=str(sdid.INVALID),
            reading=device.spod,
        )

    def _judge_sdid(self, device: DeviceFacts, subject: Subject, spod: SpodFacts) -> Result | None:
        parts = sdid.decode(spod.sdid)
        shown = (
            f"{spod.sdid} = server {parts.server_index}, chip {parts.chip}, die {parts.die}, "
            f"device {parts.device}"
        )
        if not parts.valid:
            message = "the SDID's parts are out of range or do not belong together"
            want = "server 0..47, chip 0..7, die 0..1, device = chip * 2 + die"
            return self._wrong(device, subject, message, want, shown, "sdid")
        own = (device.npu_id, device.chip_id, device.phy_id)
        if (parts.chip, parts.die, parts.device) != own:
            want = f"chip {device.npu_id}, die {device.chip_id}, device {device.phy_id}"
            return self._wrong(device, subject, "the SDID is that of another die", want, shown, "sdid")
        if spod.server_index != parts.server_index:
            message = "the Server Index is not the one in the SDID"
            return self._wrong(
                device, subject, message, str(parts.server_index), str(spod.server_index), "server-index"
            )
        if spod.super_pod_id == sdid.INVALID:
            message = "the Super Pod ID is invalid beside a valid SDID"
            return self._wrong(
                device, subject, message, "the id of the super pod", str(spod.super_pod_id), "super-pod-id"
            )
        return None

    def _judge_against_host(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, spod: SpodFacts
    ) -> Result | None:
        valid = {
            other.phy_id: other.spod.value
            for other in host.devices
            if other.spod.value and other.spod.value.sdid != sdid.INVALID
        }
        same = [phy for phy, facts in valid.items() if facts.sdid == spod.sdid and phy != device.phy_id]
        if same:
            also = ", ".join(f"device {phy}" for phy in same)
            message = "the SDID is used by several dies of the host"
            return self._wrong(
                device, subject, message, "an SDID of its own", f"{spod.sdid}, also {also}", "sdid"
            )
        for name, values, seen in (
            ("Server Index", {phy: facts.server_index for phy, facts in valid.items()}, spod.server_index),
            (
                "Super Pod ID",
                {p: facts.super_pod_id for p, facts in valid.items() if facts.super_pod_id != sdid.INVALID},
                spod.super_pod_id,
            ),
        ):
            result = vote(values)
            if device.phy_id not in result.accused:
                continue
            if result.tie:
                message = f"the dies of this host disagree on the {name}, with no majority to judge by"
                want = "the same on every die"
            else:
                message = f"the {name} differs from that of the host's other dies"
                want = str(result.value)
            return self._wrong(device, subject, message, want, str(seen), "server-index")
        return None

    def _judge_size(self, device: DeviceFacts, subject: Subject, spod: SpodFacts) -> Result | None:
        if spod.super_pod_size not in (0, sdid.INVALID):
            return None
        return self.found(
            Status.WARN,
            subject,
            "the super pod size is not valid beside a valid SDID",
            advice_for="spod-info/size",
            expected="the size of the super pod",
            actual=str(spod.super_pod_size),
            reading=device.spod,
        )

    def _judge_vnic(self, device: DeviceFacts, subject: Subject, server_index: int | None) -> Result | None:
        if device.vnic.value is None:
            return None
        wanted, seen = sdid.vnic_address(server_index, device.phy_id), device.vnic.value.address
        if seen == wanted or (server_index is None and seen.startswith("192.168.")):
            return None
        return self.found(
            Status.FAIL,
            subject,
            "the vNIC address does not belong to this super pod identity",
            advice_for="spod-info/vnic",
            expected=wanted,
            actual=seen,
            reading=device.vnic,
        )

    def _wrong(
        self, device: DeviceFacts, subject: Subject, message: str, expected: str, actual: str, kind: str
    ) -> Result:
        return self.found(
            Status.FAIL,
            subject,
            message,
            advice_for=f"spod-info/{kind}",
            expected=expected,
            actual=actual,
            reading=device.spod,
        )
