"""Checks of what runs on the devices: a cluster that is brought up wants them free."""

from __future__ import annotations

from ascendctl.checks.ascend import DeviceCheck
from ascendctl.checks.limits import limit
from ascendctl.checks.npus import table_row
from ascendctl.facts import ClusterFacts, DeviceFacts, HostFacts, NpuProcess, Profile
from ascendctl.knowledge.thresholds import number
from ascendctl.results import CellKey, Result, Status, Subject, host_subject


class NpuProcesses(DeviceCheck):
    """No process holds a device.

    What:
        The process table of `npu-smi info` is empty for each device. A process is a warning and is named with
        its id, its name where the tool knows it (not in containers) and the memory it holds.
    Why:
        Before a job starts the devices should be free; a process left over from the last one keeps its device
        busy and its memory in use. On a cluster that is at work the warning says no more than that.
    Consequence:
        A new job cannot open the device (EJ0001), finds its port taken (EI0019) or too little memory
        (EI0011).
    Remedy:
        See what it is (`ps -fp PID` on the host) and end it, or wait for its job. A process that was killed
        holds the device for some seconds more.
    """

    id = "npu-processes"
    title = "Processes that hold a device"
    commands = ("npu-smi",)
    after = ("npu-mapping",)
    profile = Profile.DEEP

    def judge_device(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        if host.npu_smi.value is None:
            return self.depends(subject, _NO_TABLE, _table_cell(host))
        processes = _processes(device, host)
        if not processes:
            return self.passed(subject, "no process holds the device")
        return self.found(
            Status.WARN,
            subject,
            "a process holds the device" if len(processes) == 1 else "processes hold the device",
            advice_for="npu-processes/held",
            expected="no process",
            actual="; ".join(
                f"pid {one.pid} {one.name or '(no name)'}, {one.memory_mib} MiB" for one in processes
            ),
            reading=host.npu_smi,
        )


class HbmUse(DeviceCheck):
    """No more memory of a device is in use than its driver and the listed processes need.

    What:
        The HBM in use, as `npu-smi info` shows it, less what the processes of its table hold, is at most the
        threshold hbm-use-max-percent of the device's memory. Idle devices use some of it, 3 to 4 GiB of 64.
    Why:
        Memory may be held by processes that the host does not see (in another container, or dead and not yet
        cleaned up).
    Consequence:
        Engines find too little memory for weights and cache and stop at start; HCCL cannot create its buffers
        (EI0007, EI0011).
    Remedy:
        Look for containers that still use the device; if none does, reset the device or restart the host.
    """

    id = "hbm-use"
    title = "Memory in use on each device"
    commands = ("npu-smi",)
    after = ("npu-mapping",)
    profile = Profile.DEEP

    def judge_device(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        if host.npu_smi.value is None:
            return self.depends(subject, _NO_TABLE, _table_cell(host))
        row = table_row(device, host)
        if row is None:
            message = "the device is not in the table of npu-smi info"
            return self.depends(subject, message, CellKey("npu-health", subject))
        if row.hbm_used_mib is None or not row.hbm_total_mib:
            return self.not_applicable(subject, "npu-smi shows no HBM of this device")
        held_mib = sum(one.memory_mib for one in _processes(device, host))
        used_percent = 100 * max(0, row.hbm_used_mib - held_mib) / row.hbm_total_mib
        most = limit("hbm-use-max-percent", host)
        if used_percent <= most:
            return self.passed(subject, "no more memory is in use than driver and listed processes need")
        processes = f", {held_mib} MiB of them by listed processes" if held_mib else ""
        return self.found(
            Status.WARN,
            subject,
            "much memory is in use that no listed process holds",
            advice_for="hbm-use/held",
            expected=f"at most {number(most)} % in use besides listed processes",
            actual=f"{row.hbm_used_mib} of {row.hbm_total_mib} MiB{processes}: {used_percent:.0f} %",
            reading=host.npu_smi,
        )


_NO_TABLE = "the table of npu-smi info could not be read"


def _table_cell(host: HostFacts) -> CellKey:
    """The cell that tells why the table of npu-smi could not be read."""
    return CellKey("npu-count", host_subject(host.host))


def _processes(device: DeviceFacts, host: HostFacts) -> list[NpuProcess]:
    listed = host.npu_smi.value.processes if host.npu_smi.value else ()
    return [one for one in listed if (one.npu_id, one.chip_id) == (device.npu_id, device.chip_id)]
