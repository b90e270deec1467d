"""Captures → facts: what one host answered, read by the parsers and put in its place."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from ascendctl.facts import (
    Accelerator,
    BlockedBy,
    ChipId,
    ClockFacts,
    DeviceFacts,
    HostFacts,
    ParseStatus,
    Profile,
    Reach,
    ReachStatus,
    Reading,
    ReadingStatus,
    SystemFacts,
    ToolFacts,
)
from ascendctl.parsers import parse
from ascendctl.probe.bundle import HostRecord
from ascendctl.probe.capture import HostCapture
from ascendctl.probe.catalogue import BY_ID
from ascendctl.probe.frames import Answer, Target
from ascendctl.topology.generation import detect_accelerator, detect_generation

# Evidence is for a person to read; whole answers are in the recording.
_EVIDENCE_LIMIT_CHARACTERS = 4000

_FATAL_DETAILS = {
    "no-timeout": "the host has no 'timeout' program (GNU coreutils), without which nothing is asked",
    "temporary-folder-full": "the file system of its temporary folder (TMPDIR or /tmp) is full",
    "no-temporary-folder": "no temporary folder could be made on the host (TMPDIR or /tmp full or read-only)",
}


def host_facts(record: HostRecord) -> HostFacts:
    """All that one host's answer says. Never raises for what a host sent."""
    capture = record.answer()
    record = replace(record, capture=capture)
    expected = record.expectation
    read = _Reader(capture)
    mapping = read("mapping")
    npu_smi = read("npu-smi")
    tools = {name: ToolFacts(name, path) for name, path in capture.tools.items()}
    chips = mapping.value.chips if mapping.value is not None else ()
    # What a host itself lists outweighs the inventory; that the two differ is npu-mapping's finding.
    listed = Accelerator.ASCEND if chips else None
    accelerator = listed or expected.accelerator or detect_accelerator(tools, mapping)
    generation = expected.generation
    if accelerator is Accelerator.ASCEND:
        generation = detect_generation(mapping, npu_smi) or generation
    return HostFacts(
        host=record.name,
        expectation=expected,
        reach=_reach(record),
        accelerator=accelerator,
        generation=generation,
        tools=tools,
        mapping=mapping,
        npu_smi=npu_smi,
        topo=read("topo"),
        hccn_conf=read("hccn-conf"),
        system=_system(record, read),
        devices=tuple(_device(chip, read) for chip in chips),
    )


def _device(chip: ChipId, read: _Reader) -> DeviceFacts:
    # A2 prints no Phy-ID column; there the physical id is the logic id, which hccn_tool's answering confirms.
    assumed = chip.phy_id is None
    phy_id = chip.logic_id if chip.phy_id is None else chip.phy_id
    target = Target(chip.npu_id, chip.chip_id, phy_id)
    return DeviceFacts(
        npu_id=chip.npu_id,
        chip_id=chip.chip_id,
        phy_id=phy_id,
        name=chip.name,
        phy_id_assumed=assumed,
        link=read("link", target),
        net_health=read("net-health", target),
        ip=read("ip", target),
        netdetect=read("netdetect", target),
        gateway=read("gateway", target),
        lldp=read("lldp", target),
        vnic=read("vnic", target),
        tls=read("tls", target),
        health=read("health", target),
        hccs=read("hccs", target),
        spod=read("spod-info", target),
        optical=read("optical", target),
        link_stat=read("link-stat", target),
        stat=read("stat", target),
        hw_stats=read("hw-stats", target),
        speed=read("speed", target),
        duplex=read("duplex", target),
        mtu=read("mtu", target),
        fec=read("fec", target),
        ecc=read("ecc", target),
    )


class _Reader:
    """Turns one command's place in a capture into a reading."""

    def __init__(self, capture: HostCapture) -> None:
        self._capture = capture

    def __call__(self, command_id: str, target: Target | None = None) -> Reading[Any]:
        target = target or Target()
        command = BY_ID[command_id]
        reading = reading_of(
            self._capture,
            command_id,
            target,
            line=_line(command_id, target),
            tool=command.tool,
            timeout_s=command.timeout_s,
        )
        asked = command.profile is Profile.STANDARD or self._capture.profile is Profile.DEEP
        if reading.status is ReadingStatus.NOT_RECEIVED and not asked:
            return replace(reading, status=ReadingStatus.NOT_ASKED)
        return reading


def reading_of(
    capture: HostCapture, command_id: str, target: Target, *, line: str, tool: str, timeout_s: int
) -> Reading[Any]:
    """What a capture says of one command; ``line`` is the command as the parsers know it."""
    answer = capture.answers.get((command_id, target))
    if answer is not None:
        known = _read_once if len(answer.stdout) + len(answer.stderr) <= _SHARED_BYTES else _read_answer
        return known(timeout_s, line, answer)
    skip = capture.skips.get((command_id, target))
    if skip is None:
        ended = capture.complete or not capture.hello
        status = ReadingStatus.NOT_ASKED if ended else ReadingStatus.NOT_RECEIVED
        return Reading(status, command=line)
    if skip.reason == "missing":
        return Reading(ReadingStatus.TOOL_MISSING, command=line, reason=f"{tool} is not on the host")
    if skip.reason == "time-up":
        return Reading(ReadingStatus.NOT_ASKED, command=line, reason="the host's time was up before its turn")
    blocked_by = BlockedBy(skip.hung_command_id or "", skip.hung_phy)
    reason = f"not asked: {tool} had to be killed earlier ({blocked_by.command_id})"
    return Reading(ReadingStatus.NOT_CALLED, command=line, reason=reason, blocked_by=blocked_by)


@lru_cache(maxsize=4096)
def _line(command_id: str, target: Target) -> str:
    return BY_ID[command_id].text(npu=target.npu, chip=target.chip, phy=target.phy)


def _read_answer(timeout_s: int, line: str, answer: Answer) -> Reading[Any]:
    evidence = _evidence(answer)
    code = answer.exit_code
    if answer.killed:
        reason = f"had to be killed after {timeout_s} s"
        return Reading(ReadingStatus.TIMED_OUT, None, line, reason, evidence, code)
    try:
        parsed = parse(line, answer.stdout, answer.stderr, code)
    except Exception as error:  # a parser's own fault must cost one cell, not the run
        reason = f"ascendctl could not read it ({type(error).__name__}: {error}); please report this output"
        return Reading(ReadingStatus.UNPARSED, None, line, reason, evidence, code)
    if parsed.status is ParseStatus.OK:
        return Reading(ReadingStatus.OK, parsed.facts, line, "", evidence, code)
    reason = parsed.reason
    if parsed.status is ParseStatus.BUSY:
        reason = f"{reason} (asked {answer.tries} times)"
    return Reading(ReadingStatus(parsed.status.value), None, line, reason, evidence, code)


# A thousand hosts give the same answer to most questions: equal ones are read, and kept, once.
_SHARED_BYTES = 8192
_read_once = lru_cache(maxsize=4096)(_read_answer)


def _evidence(answer: Answer) -> str:
    parts = [answer.stdout, answer.stderr, f"[exit code {answer.exit_code}]".encode()]
    text = "\n".join(part.decode("utf-8", "backslashreplace").rstrip() for part in parts if part.strip())
    if len(text) > _EVIDENCE_LIMIT_CHARACTERS:
        return text[:_EVIDENCE_LIMIT_CHARACTERS] + "\n[cut; the whole answer is in the recording]"
    return text


def _reach(record: HostRecord) -> Reach:
    """The transport's word, made plainer by what the probe itself said."""
    capture, reach = record.answer(), record.reach
    if capture.fatal:
        return Reach(ReachStatus.CANNOT_PROBE, _FATAL_DETAILS.get(capture.fatal, capture.fatal))
    if capture.problem:
        return Reach(ReachStatus.BAD_OUTPUT, capture.problem)
    if capture.overflow:
        return Reach(ReachStatus.CANNOT_PROBE, "it sent far more than any probe answers and was cut off")
    if reach.status is ReachStatus.REACHED and not capture.complete:
        return Reach(ReachStatus.LOST, "the host's answer ended before the probe's last line")
    return reach


def _system(record: HostRecord, read: _Reader) -> SystemFacts:
    kernel: Reading[Any] = read("kernel")
    architecture = kernel
    if kernel.value is not None:
        architecture = replace(kernel, value=kernel.value.architecture)
        kernel = replace(kernel, value=kernel.value.release)
    return SystemFacts(
        hostname=read("hostname"),
        hostname_addresses=read("hostname-addresses"),
        kernel=kernel,
        architecture=architecture,
        os_release=read("os-release"),
        driver_version=read("driver-version"),
        firmware_version=read("firmware-version"),
        cann_version=read("cann-version"),
        addresses=read("host-addresses"),
        links=read("host-links"),
        open_files_limit=_open_files_limit(record.answer()),
        clock=_clock(record, read),
        memory=read("meminfo"),
        time_service=read("time-service"),
    )


def _open_files_limit(capture: HostCapture) -> Reading[int]:
    text = capture.notes.get("open-files-limit")
    if text is None:
        return Reading(ReadingStatus.NOT_RECEIVED, command="ulimit -n")
    if not text.isdigit():
        return Reading(ReadingStatus.NO_DATA, command="ulimit -n", reason=f"it says {text!r}", evidence=text)
    return Reading(ReadingStatus.OK, int(text), "ulimit -n", evidence=text)


def _clock(record: HostRecord, read: _Reader) -> Reading[ClockFacts]:
    """Host time minus the midpoint of the exchange; half its length is the uncertainty."""
    reading: Reading[float] = read("clock")
    sent_at, received_at = record.sent_at, record.capture.clock_received_at
    if reading.value is None or sent_at is None or received_at is None or received_at < sent_at:
        status = ReadingStatus.NO_DATA if reading.ok else reading.status
        reason = reading.reason or "the exchange was not timed (hand-carried output)"
        return Reading(status, command=reading.command, reason=reason, evidence=reading.evidence)
    offset_s = reading.value - (sent_at + received_at) / 2
    facts = ClockFacts(offset_s=offset_s, uncertainty_s=(received_at - sent_at) / 2)
    return Reading(ReadingStatus.OK, facts, reading.command, evidence=reading.evidence)
