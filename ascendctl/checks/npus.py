"""Checks of the NPUs and of the HCCS links that join them inside a host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ascendctl.checks.ascend import AscendCheck, DeviceCheck
from ascendctl.facts import (
    Accelerator,
    ClusterFacts,
    DeviceFacts,
    Generation,
    HealthFacts,
    HostFacts,
    MappingFacts,
    NpuSmiDevice,
    ReadingStatus,
    TopoFacts,
)
from ascendctl.facts import NpuHealth as HealthWord
from ascendctl.results import CellKey, Result, Status, Subject, host_subject
from ascendctl.topology.majority import vote
from ascendctl.topology.server import ids_of_a_whole_server, module_of, same_npu, whole_server_counts


class NpuMapping(AscendCheck):
    """The host's own table of NPU id, chip id, logic id and physical id.

    What:
        `npu-smi info -m` lists at least one NPU and every id in it is unique; the Phy-ID column of `npu-smi
        info`, where it has one, says the same. Where neither prints a Phy-ID (A2), the physical id is taken
        to be the logic id, and hccn_tool must know a device by it. The chips' names tell the generation, and
        neither it nor the kind of accelerator contradicts the inventory: the host is then judged by what it
        is.
    Why:
        npu-smi counts by NPU and chip, hccn_tool by physical id. Computed instead of read, the two
        are mixed up in containers and on partly used hosts.
    Consequence:
        Nothing can be asked of single devices; HCCL finds no device or the wrong one.
    Remedy:
        No NPU listed: see that the driver is loaded (`lsmod | grep drv_`), the cards are seated
        (`lspci | grep d80`), and in a container that /dev/davinci* is passed in. Restart after a
        driver upgrade. A generation that is not recognised: set `generation:` in the inventory.
    """

    id = "npu-mapping"
    title = "NPU and physical ids can be read"
    commands = ("mapping", "npu-smi")
    after = ("tools",)

    def judge_ascend(self, host: HostFacts, cluster: ClusterFacts) -> Iterable[Result]:
        yield self._judge(host)

    def _judge(self, host: HostFacts) -> Result:
        subject = host_subject(host.host)
        reading = host.mapping
        chips = reading.value.chips if reading.value else ()
        if reading.status not in (ReadingStatus.OK, ReadingStatus.NO_DATA):
            return self.unlearned(subject, "the mapping of NPU ids", reading)
        if not chips:
            return self.found(
                Status.FAIL,
                subject,
                "npu-smi lists no NPU",
                advice_for="npu-mapping/none",
                expected="at least one NPU",
                actual="none",
                reading=reading,
            )
        repeated = _repeated_ids(reading.value) if reading.value else ""
        if repeated:
            return self.found(
                Status.FAIL,
                subject,
                "the mapping names an id twice",
                advice_for="npu-mapping/ambiguous",
                expected="every id once",
                actual=repeated,
                reading=reading,
            )
        return (
            self._against_inventory(subject, host)
            or self._against_table(subject, host)
            or self._without_generation(subject, host)
            or self._unconfirmed(subject, host)
            or self._passed(subject, host)
        )

    def _against_inventory(self, subject: Subject, host: HostFacts) -> Result | None:
        """The inventory's word where the host's own NPUs say otherwise: one finding for all it touches."""
        given, seen = host.expectation, host.generation
        if given.accelerator not in (None, Accelerator.ASCEND):
            said, has = given.accelerator.value, "the host has Ascend NPUs"
        elif given.generation is not None and seen is not None and given.generation is not seen:
            said, has = given.generation.value, f"the host's chips are {seen.value.upper()}"
        else:
            return None
        return self.found(
            Status.FAIL,
            subject,
            f"the inventory says {said}, {has}",
            advice_for="npu-mapping/not-the-inventory",
            expected=said,
            actual=", ".join(sorted({device.name for device in host.devices})) or has,
            reading=host.mapping,
        )

    def _against_table(self, subject: Subject, host: HostFacts) -> Result | None:
        differing = []
        for device in host.devices:
            row = table_row(device, host)
            if row is not None and row.phy_id not in (None, device.phy_id):
                name = f"NPU {device.npu_id} chip {device.chip_id}"
                differing.append((f"{name}: {device.phy_id}", f"{name}: {row.phy_id}"))
        if not differing:
            return None
        return self.found(
            Status.FAIL,
            subject,
            "the physical ids in the table of npu-smi info are not those of its mapping",
            advice_for="npu-mapping/tables-differ",
            expected=", ".join(mapped for mapped, _ in differing),
            actual=", ".join(shown for _, shown in differing),
            reading=host.npu_smi,
        )

    def _without_generation(self, subject: Subject, host: HostFacts) -> Result | None:
        if host.generation is not None:
            return None
        return self.found(
            Status.UNKNOWN,
            subject,
            "the generation is not recognised by the chips' names; set generation: in the inventory",
            advice_for="npu-mapping/generation",
            expected="chips of an A2 or A3 server",
            actual=", ".join(sorted({device.name for device in host.devices})) or "no names",
            reading=host.mapping,
        )

    def _unconfirmed(self, subject: Subject, host: HostFacts) -> Result | None:
        unconfirmed = [device.phy_id for device in host.devices if _unknown_to_hccn_tool(device)]
        if not unconfirmed:
            return None
        return self.found(
            Status.WARN,
            subject,
            "hccn_tool does not know devices by the physical ids assumed for them",
            advice_for="npu-mapping/unconfirmed",
            expected="hccn_tool answers for every device",
            actual=f"no device {', '.join(map(str, unconfirmed))}",
            reading=host.devices[0].link,
        )

    def _passed(self, subject: Subject, host: HostFacts) -> Result:
        assumed = any(device.phy_id_assumed for device in host.devices)
        note = "; no Phy-ID column, so physical id = logic id" if assumed else ""
        return self.passed(subject, f"{len(host.devices)} devices listed{note}")


class NpuCount(AscendCheck):
    """As many devices as the host should have.

    What:
        The number of devices (dies) is the one the inventory gives, or that of a whole server: 8 or 16
        on A2, 16 on A3, with ids from 0 on; and the table of `npu-smi info` shows as many.
    Why:
        HCCL wants the same number of devices on every server; a card that fell off the bus is missing
        from every list and shows in no other check.
    Consequence:
        Fewer ranks than planned: rank negotiation waits for the missing ones until it times out
        (EI0015), or the rank table does not fit (EI0014).
    Remedy:
        Look for the card with `lspci | grep d80` and in `dmesg`; power-cycle the server. If only part
        of the server is meant to be used, or this is a container, set `npus:` in the inventory.
    """

    id = "npu-count"
    title = "Number of NPU devices"
    commands = ("npu-smi", "mapping")
    after = ("npu-mapping",)

    def judge_ascend(self, host: HostFacts, cluster: ClusterFacts) -> Iterable[Result]:
        yield self._judge(host)

    def _judge(self, host: HostFacts) -> Result:
        subject = host_subject(host.host)
        if host.mapping.value is None or not host.mapping.value.chips:
            cause = CellKey("npu-mapping", subject)
            return self.depends(subject, "the devices of this host are not known", cause)
        count = len(host.mapping.value.chips)
        given, generation = host.expectation.npus, host.generation
        wanted = (given,) if given is not None else whole_server_counts(generation) if generation else ()
        expected = " or ".join(map(str, wanted))
        if wanted and count not in wanted:
            return self.found(
                Status.FAIL,
                subject,
                f"{count} devices instead of {expected}",
                advice_for="npu-count/other" if given is not None else "npu-count/part-of-a-server",
                expected=expected,
                actual=str(count),
                reading=host.mapping,
            )
        if given is None and generation is not None:
            other_ids = self._other_ids(subject, host, generation)
            if other_ids:
                return other_ids
        if host.npu_smi.value is None:
            return self.unlearned(subject, "the table of npu-smi info", host.npu_smi)
        listed = len(host.npu_smi.value.devices)
        if listed != count:
            return self.found(
                Status.FAIL,
                subject,
                f"npu-smi info shows {listed} devices, its mapping {count}",
                advice_for="npu-count/tables-differ",
                expected=str(count),
                actual=str(listed),
                reading=host.npu_smi,
            )
        if not wanted:
            message = "how many devices this host should have is not known"
            return self.depends(subject, message, CellKey("npu-mapping", subject))
        return self.passed(subject, f"{count} devices")

    def _other_ids(self, subject: Subject, host: HostFacts, generation: Generation) -> Result | None:
        """As many devices as a smaller server has, but with ids that show that a part is missing."""
        npus, devices = ids_of_a_whole_server(len(host.devices), generation)
        seen_npus = sorted({device.npu_id for device in host.devices})
        seen_devices = sorted(device.phy_id for device in host.devices)
        if seen_npus == list(npus) and seen_devices == list(devices):
            return None
        return self.found(
            Status.FAIL,
            subject,
            "the ids of the devices are not those of a whole server",
            advice_for="npu-count/ids",
            expected=f"NPU ids 0-{npus[-1]}, physical ids 0-{devices[-1]}",
            actual=f"NPU ids {id_ranges(seen_npus)}, physical ids {id_ranges(seen_devices)}",
            reading=host.mapping,
        )


class NpuHealth(DeviceCheck):
    """Each device says that it is healthy.

    What:
        The row of `npu-smi info` and the answer of `npu-smi info -t health` both say OK. Where they differ,
        the worse one counts. Error codes beside OK are a warning. A device of the mapping must be in the
        table.
    Why:
        A device with a standing alarm may still take part in a start and break hours later.
    Consequence:
        HBM or process faults end a job in the middle (EI0002 on its peers), or the device cannot be opened
        at all (EJ0001).
    Remedy:
        Look the error codes up in the vendor's health-management list, see `npu-smi info -t
        ecc` and the device log (`msnpureport`). Reset the device or the server; if the alarm comes back, have
        the card replaced.
    """

    id = "npu-health"
    title = "Health of each NPU device"
    commands = ("health", "npu-smi")
    after = ("npu-mapping",)

    def judge_device(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        row = table_row(device, host)
        if host.npu_smi.value is not None and row is None:
            return self.found(
                Status.FAIL,
                subject,
                "the device is in the mapping, but not in the table of npu-smi info",
                advice_for="npu-health/not-in-table",
                expected="a row in npu-smi info",
                actual="none",
                reading=host.npu_smi,
            )
        asked = device.health.value
        words = {"npu-smi info": row.health} if row else {}
        if asked:
            words["-t health"] = asked.health
        worst = max(words.values(), key=_SEVERITY.__getitem__, default=None)
        sure = _SEVERITY[worst] > _SEVERITY[HealthWord.OK] if worst else False
        if (
            not sure
            and asked is None
            and (row is None or device.health.status is not ReadingStatus.UNSUPPORTED)
        ):
            return self.unlearned(subject, "the health of the device", device.health)
        if worst is None or worst is HealthWord.OK:
            return self._codes_beside_ok(device, subject) or self.passed(subject, "healthy")
        return self._unhealthy(subject, worst, words, asked, device, host)

    def _codes_beside_ok(self, device: DeviceFacts, subject: Subject) -> Result | None:
        asked = device.health.value
        if asked is None or not asked.error_codes:
            return None
        codes = ", ".join(asked.error_codes)
        return self.found(
            Status.WARN,
            subject,
            f"health is OK, yet error codes {codes} are listed",
            advice_for="npu-health/warn",
            expected="no error codes",
            actual="; ".join([codes, *asked.error_information]),
            reading=device.health,
        )

    def _unhealthy(
        self,
        subject: Subject,
        worst: HealthWord,
        words: dict[str, HealthWord],
        asked: HealthFacts | None,
        device: DeviceFacts,
        host: HostFacts,
    ) -> Result:
        codes = ", ".join(asked.error_codes) if asked else ""
        agree = len(set(words.values())) == 1
        spread = "" if agree else " (" + ", ".join(f"{at}: {word.value}" for at, word in words.items()) + ")"
        return self.found(
            _HEALTH_STATUS[worst],
            subject,
            f"health is {worst.value}" + (f", error codes {codes}" if codes else "") + spread,
            advice_for=f"npu-health/{_HEALTH_STATUS[worst].value}",
            expected="OK",
            actual="; ".join([worst.value, *(asked.error_information if asked else ())]),
            reading=device.health if asked else host.npu_smi,
        )


class HccsLinks(DeviceCheck):
    """The scale-up links of each device inside its host.

    What:
        In the matrix of `npu-smi info -t topo` an A2 device has HCCS to every other NPU of its module of
        8; an A3 die has SIO to the other die of its NPU and HCCS_SW (or HCCS) to all others. `npu-smi
        info -t hccs` says OK, with lane mode 4, lanes 1111 and a speed above 0 on every link it lists, and
        as many links as on the host's other devices (A3: on those with the same chip id). Where the
        generation is not known, only the lanes are judged.
    Why:
        Tensor and expert parallel groups inside a host run over these links; a lost lane slows every
        collective, a lost link falls back to PCIe or fails.
    Consequence:
        Slow or failing collectives inside the host: SDMA errors (EI0012) and time-outs (EI0002).
    Remedy:
        Look at `npu-smi info -t hccs` again after a power cycle. A lane that stays down is a fault of
        the card or the board: have it replaced.
    """

    id = "hccs-links"
    title = "HCCS links inside the host"
    commands = ("topo", "hccs")
    after = ("npu-mapping",)

    def judge_ascend(self, host: HostFacts, cluster: ClusterFacts) -> Iterable[Result]:
        if host.devices and not _matrix_read(host):
            yield self.unlearned(host_subject(host.host), "the topology matrix", host.topo)
        yield from super().judge_ascend(host, cluster)

    def judge_device(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, cluster: ClusterFacts
    ) -> Result:
        matrix, known = host.topo.value, host.generation is not None
        # Only of a product that nobody knows can it be believed that it has no HCCS links.
        unsupported = device.hccs.status is ReadingStatus.UNSUPPORTED
        if not known and matrix and unsupported and not _any_hccs(matrix):
            return self.not_applicable(subject, "this product has no HCCS links")
        if not known and host.topo.status is ReadingStatus.UNSUPPORTED and unsupported:
            return self.not_applicable(subject, "HCCS is not offered by this product")
        wrong = self._judge_row(device, subject, host, matrix) if matrix and known else None
        wrong = wrong or self._judge_lanes(device, subject) or self._judge_count(device, subject, host)
        if wrong:
            return wrong
        if not device.hccs.ok and not unsupported:
            return self.unlearned(subject, "the state of the HCCS links", device.hccs)
        if not known:
            cause = CellKey("npu-mapping", host_subject(host.host))
            message = "which HCCS links are right cannot be told, as the generation is not recognised"
            return self.depends(subject, message, cause)
        if not _matrix_read(host):
            cause = CellKey(self.id, host_subject(host.host))
            return self.depends(subject, "the topology matrix could not be read", cause)
        if matrix is None and unsupported:
            return self.unlearned(subject, "the state of the HCCS links", device.hccs, must_be_offered=True)
        return self.passed(subject, "HCCS links as they should be")

    def _judge_row(
        self, device: DeviceFacts, subject: Subject, host: HostFacts, matrix: TopoFacts
    ) -> Result | None:
        own = _label(device, host)
        if own not in matrix.ids:
            return self.found(
                Status.FAIL,
                subject,
                "the device is not in the topology matrix",
                advice_for="hccs-links/no-row",
                expected="a row in the matrix",
                actual="none",
                reading=host.topo,
            )
        row = matrix.cells[matrix.ids.index(own)]
        wrong = []
        for other in host.devices:
            label = _label(other, host)
            wanted = _wanted_links(device, other, host)
            if label == own or not wanted or label not in matrix.ids:
                continue
            seen = row[matrix.ids.index(label)]
            if seen not in wanted:
                wrong.append(f"{seen} to {label} instead of {wanted[0]}")
        if not wrong:
            return None
        return self.found(
            Status.FAIL,
            subject,
            "no HCCS link to some devices of this host",
            advice_for="hccs-links/row",
            expected=_EXPECTED_ROW[host.generation is Generation.A3],
            actual="; ".join(wrong),
            reading=host.topo,
        )

    def _judge_lanes(self, device: DeviceFacts, subject: Subject) -> Result | None:
        hccs = device.hccs.value
        if hccs is None:
            return None
        faulty = sorted(
            {index for index, mode in enumerate(hccs.lane_mode) if mode != _LANE_MODE}
            | {index for index, lanes in enumerate(hccs.lane_list) if lanes != _LANES}
            | {index for index, speed in enumerate(hccs.speed) if speed == 0}
        )
        if not faulty and hccs.health == "OK":
            return None
        parts = [f"health {hccs.health}"]
        for index in faulty:
            mode = hccs.lane_mode[index] if index < len(hccs.lane_mode) else "-"
            lanes = hccs.lane_list[index] if index < len(hccs.lane_list) else "-"
            speed = hccs.speed[index] if index < len(hccs.speed) else "-"
            parts.append(f"link {index}: mode {mode}, lanes {lanes}, speed {speed}")
        return self.found(
            Status.FAIL,
            subject,
            "HCCS lanes are down" if faulty else f"HCCS health is {hccs.health}",
            advice_for="hccs-links/lanes",
            expected=f"health OK, mode {_LANE_MODE}, lanes {_LANES} and a speed above 0 on every link",
            actual="; ".join(parts),
            reading=device.hccs,
        )

    def _judge_count(self, device: DeviceFacts, subject: Subject, host: HostFacts) -> Result | None:
        """The number of links against that of the devices built alike: the two dies of an NPU may differ."""
        counts = {
            other.phy_id: len(other.hccs.value.lane_mode)
            for other in host.devices
            if other.hccs.value is not None and other.chip_id == device.chip_id
        }
        result = vote(counts)
        if device.phy_id not in result.accused:
            return None
        if result.tie:
            message = (
                "the devices of this host have different numbers of HCCS links, with no majority to judge by"
            )
            want = "the same number on every device"
        else:
            message = f"the device has {counts[device.phy_id]} HCCS links, others of this host {result.value}"
            want = str(result.value)
        return self.found(
            Status.FAIL,
            subject,
            message,
            advice_for="hccs-links/count",
            expected=want,
            actual=str(counts[device.phy_id]),
            reading=device.hccs,
        )


def table_row(device: DeviceFacts, host: HostFacts) -> NpuSmiDevice | None:
    """The device's row of the table of npu-smi info; None where it has none, or the table was not read."""
    rows = host.npu_smi.value.devices if host.npu_smi.value else ()
    own = (device.npu_id, device.chip_id)
    return next((row for row in rows if (row.npu_id, row.chip_id) == own), None)


_LANE_MODE = 4
_LANES = "1111"
_A2_LINKS = ("HCCS",)
_A3_SAME_NPU = ("SIO",)
_A3_OTHER_NPU = ("HCCS_SW", "HCCS")
_EXPECTED_ROW = {
    False: "HCCS to every other NPU of the module",
    True: "SIO to the other die of the NPU, HCCS_SW to all others",
}

_SEVERITY = {
    HealthWord.OK: 0,
    HealthWord.NA: 1,
    HealthWord.UNKNOWN: 1,
    HealthWord.WARNING: 2,
    HealthWord.ALARM: 3,
    HealthWord.CRITICAL: 4,
}
_HEALTH_STATUS = {
    HealthWord.NA: Status.UNKNOWN,
    HealthWord.UNKNOWN: Status.UNKNOWN,
    HealthWord.WARNING: Status.WARN,
    HealthWord.ALARM: Status.FAIL,
    HealthWord.CRITICAL: Status.FAIL,
}


def id_ranges(numbers: Sequence[int]) -> str:
    """``8-15`` where the numbers follow each other, else all of them."""
    if len(numbers) > 1 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}-{numbers[-1]}"
    return ", ".join(map(str, numbers))


def _repeated_ids(mapping: MappingFacts) -> str:
    pairs = Counter(f"NPU {chip.npu_id} chip {chip.chip_id}" for chip in mapping.chips)
    logic = Counter(f"logic id {chip.logic_id}" for chip in mapping.chips)
    phy = Counter(f"physical id {chip.phy_id}" for chip in mapping.chips if chip.phy_id is not None)
    return ", ".join(name for name, times in (pairs + logic + phy).items() if times > 1)


def _unknown_to_hccn_tool(device: DeviceFacts) -> bool:
    text = device.link.evidence.lower()
    absent = "device is not exist" in text or "invalid device id" in text
    return device.phy_id_assumed and device.link.status is ReadingStatus.FAILED and absent


def _matrix_read(host: HostFacts) -> bool:
    return host.topo.status in (ReadingStatus.OK, ReadingStatus.UNSUPPORTED)


def _any_hccs(matrix: TopoFacts) -> bool:
    return any("HCCS" in cell for row in matrix.cells for cell in row)


def _label(device: DeviceFacts, host: HostFacts) -> int:
    """The number in the device's matrix label: Phy-IDn on A3, NPUn on A2."""
    return device.phy_id if host.generation is Generation.A3 else device.npu_id


def _wanted_links(one: DeviceFacts, other: DeviceFacts, host: HostFacts) -> tuple[str, ...]:
    """The link names that are right between two devices; none where any link will do."""
    if host.generation is Generation.A3:
        return _A3_SAME_NPU if same_npu(one, other) else _A3_OTHER_NPU
    return _A2_LINKS if module_of(one.npu_id) == module_of(other.npu_id) else ()
