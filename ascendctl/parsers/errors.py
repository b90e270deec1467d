"""The tools' error texts: which text, on which stream, means which status.

Exit codes alone do not tell: hccn_tool's is the low byte of an internal code, so that 13 stands for
"no address" and for "not supported here", and npu-smi says "does not support querying" with exit 0.
Sources: hccn_tool's message tables (cmd.c: level ERR goes to stderr, level INFO to stdout), npu-smi's
and dcmi's messages, and what shells, the loader, sudo and cat print.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from ascendctl.facts import ParseStatus
from ascendctl.parsers.command import Tool
from ascendctl.parsers.text import Line, Output, nonblank, quote


class Stream(str, Enum):
    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True)
class ErrorText:
    """A whole line the tool prints (a regular expression), where, and what it means.

    ``stream`` is where the tool prints it. A text on the other stream counts too (``2>&1``, pasted
    text), after those in their place.
    """

    pattern: str
    stream: Stream
    status: ParseStatus
    meaning: str


def _texts(stream: Stream, status: ParseStatus, *rows: tuple[str, str]) -> tuple[ErrorText, ...]:
    return tuple(ErrorText(pattern, stream, status, meaning) for pattern, meaning in rows)


HCCN_TOOL: tuple[ErrorText, ...] = (
    *_texts(
        Stream.STDOUT,
        ParseStatus.BUSY,
        (r"hccn_tool is busy, please try again\.", "another hccn_tool holds its lock"),
        (r"I2c is busy\. Please try again\.", "the optical module's bus is in use"),
        (
            r"The system is in optical module initializing, please try again later\.",
            "the optical module is starting up",
        ),
    ),
    *_texts(
        Stream.STDERR,
        ParseStatus.BUSY,
        (r"The device is occupied\. Please try again later\.", "another hccs_ping runs on this device"),
        (r"Get lock failed\. Please try again\.", "another process holds the device's lock"),
    ),
    *_texts(
        Stream.STDOUT,
        ParseStatus.UNSUPPORTED,
        (r"The command is not supported on this product\.", "this product does not have the command"),
        (r"The command is not supported on this optical media\.", "not with this kind of cable or module"),
        (r"Command unsupported on this optical module\.", "this optical module does not answer it"),
        (r"This device does not support IPV6!", "this device has no IPv6"),
        (r"This device does not support bonding!", "this device has no bonding"),
    ),
    *_texts(
        Stream.STDERR,
        ParseStatus.UNSUPPORTED,
        (r"The VM does not support this command\.", "not available in a virtual machine"),
    ),
    *_texts(
        Stream.STDOUT,
        ParseStatus.NO_DATA,
        (r"Optical module is not present\.", "no optical module is plugged in"),
    ),
    *_texts(
        Stream.STDERR,
        ParseStatus.NO_DATA,
        (r"Get ip(?:conf)? failed, because no ip was preset there!", "no address is set on this port"),
        (r"Get gateway failed, because no gateway was preset there!", "no gateway is set on this port"),
    ),
    *_texts(
        Stream.STDERR,
        ParseStatus.DENIED,
        (
            r"permission denied: pls check this cmd run permission\.",
            "this user may not run it; run it as root or through sudo",
        ),
        (
            r"permission denied: pls check this cmd run environment\.",
            "it may not be run in this environment; run it on the host itself",
        ),
    ),
    *_texts(
        Stream.STDERR,
        ParseStatus.FAILED,
        (r"(?:Command|Cmd) execute failed!", "the device or the tool gave no closer reason"),
        (r"The cmd line execute timeout!", "the device did not answer in time"),
        (r"Get device health status failed!", "the device did not report its health"),
        (r"The device is not exist!", "there is no such device; -i takes the physical id"),
        (r"Get invalid device id\.", "there is no such device; -i takes the physical id"),
        (r"Get invalid major cmd.*", "this hccn_tool does not know the command"),
        (r"Get invalid parameters!", "this hccn_tool does not take these options"),
        (r"Get unknown option!", "this hccn_tool does not take these options"),
        (r"Execute failed: Link status is down\.", "the link is down"),
        (r"Control link unreachable\.", "the optical module's control link does not answer"),
        (
            r"The hccn\.conf can't access, cmd execute failed!.*",
            "/etc/hccn.conf cannot be read; in a container it must be mounted",
        ),
        (
            r"The conf file can't access, cmd execute failed!",
            "/etc/hccn.conf cannot be read; in a container it must be mounted",
        ),
        (
            r"(?:Read|Open) file failed, cmd execute failed!.*",
            "/etc/hccn.conf cannot be read; in a container it must be mounted",
        ),
    ),
)

NPU_SMI: tuple[ErrorText, ...] = (
    *_texts(
        Stream.STDOUT,
        ParseStatus.UNSUPPORTED,
        (r"This device does not support .*", "this product does not have it"),
        (
            r"This command cannot be executed on a VM or container\.",
            "not available in a virtual machine or container",
        ),
    ),
    *_texts(
        Stream.STDOUT,
        ParseStatus.DENIED,
        (
            r"This command .*\broot user\b.*",
            "only root may run it; run it as root or through sudo",
        ),
    ),
    *_texts(
        Stream.STDOUT,
        ParseStatus.FAILED,
        (r"Invalid card id\.", "there is no such NPU; npu-smi -i takes an NPU id of npu-smi info -m"),
        (r"Invalid chip id\.", "there is no such chip; npu-smi -c takes a chip id of npu-smi info -m"),
        (r"Error parameter of .*", "this npu-smi does not take these options"),
    ),
)

# GNU cat names itself as it was called, and the probe calls it by its absolute path.
CAT: tuple[ErrorText, ...] = (
    *_texts(
        Stream.STDERR,
        ParseStatus.NO_DATA,
        (r"(?:\S*/)?cat: .*: No such file or directory", "the file does not exist"),
    ),
    *_texts(
        Stream.STDERR,
        ParseStatus.DENIED,
        (
            r"(?:\S*/)?cat: .*: Permission denied",
            "this user may not read the file; read it as root or through sudo",
        ),
    ),
)

# What glibc and musl call a name that leads nowhere; hostname names itself as it was called.
_NO_SUCH_NAME = (
    "Name or service not known",
    "Name does not resolve",
    "No address associated with (?:host)?name",
    "Temporary failure in name resolution",
    "Try again",
    "Unknown host",
    "Host name lookup failure",
)

HOST: tuple[ErrorText, ...] = (
    *_texts(
        Stream.STDERR,
        ParseStatus.NO_DATA,
        (rf"(?:\S*/)?hostname: (?:\S+: )?(?:{'|'.join(_NO_SUCH_NAME)})", "the name leads to no address"),
    ),
    *_texts(
        Stream.STDERR,
        ParseStatus.UNSUPPORTED,
        (r"Unknown (?:operation|command verb) '?show'?\.", "this timedatectl is older than systemd 239"),
        (r"System has not been booted with systemd as init system.*", "this host runs without systemd"),
    ),
)

# Printed in place of any tool's answer, by whatever was to start it.
SHELL: tuple[ErrorText, ...] = (
    *_texts(
        Stream.STDERR,
        ParseStatus.FAILED,
        (
            r".*error while loading shared libraries: .*",
            "a driver library was not found; LD_LIBRARY_PATH needs the driver's lib64 folders",
        ),
        (r".*: (?:command )?not found", "the tool is not on this host, or not in PATH"),
        (
            r"(?:timeout|env|nohup): .*: No such file or directory",
            "the tool is not on this host, or not in PATH",
        ),
    ),
    *_texts(
        Stream.STDERR,
        ParseStatus.DENIED,
        (r"(?:timeout|env|nohup): .*: Permission denied", "this user may not run the tool"),
        (r"(?:ba|da|a|k|z)?sh: .*: Permission denied", "this user may not run the tool"),
        (r"sudo: .*(?:password is required|a terminal is required).*", "sudo wants a password"),
        (r"sudo: sorry, you must have a tty.*", "sudo's requiretty keeps it from running without a terminal"),
        (r".* is not in the sudoers file.*", "sudo does not allow this user"),
        (r"Sorry, user .* is not allowed to execute .*", "sudo does not allow this command"),
    ),
)

TOOL_TEXTS: dict[Tool, tuple[ErrorText, ...]] = {
    Tool.HCCN_TOOL: HCCN_TOOL,
    Tool.NPU_SMI: NPU_SMI,
    Tool.CAT: CAT,
    Tool.HOST: HOST,
}

# dcmi's codes as npu-smi prints them; others are failures without a closer meaning.
DCMI_CODES: dict[int, tuple[ParseStatus, str]] = {
    -8001: (ParseStatus.FAILED, "bad parameter"),
    -8002: (ParseStatus.DENIED, "not permitted; run it as root or through sudo"),
    -8005: (
        ParseStatus.FAILED,
        "the driver is not loaded, or not restarted since an upgrade, or not open to this user",
    ),
    -8006: (ParseStatus.FAILED, "the device did not answer in time"),
    -8007: (ParseStatus.FAILED, "bad device"),
    -8008: (ParseStatus.FAILED, "no such device"),
    -8012: (ParseStatus.FAILED, "the device is not ready"),
    -8013: (ParseStatus.UNSUPPORTED, "not available in a container"),
    -8020: (ParseStatus.FAILED, "the NPU is held by another container"),
    -8255: (ParseStatus.UNSUPPORTED, "this product does not have it"),
}

# What hccn_tool's exit codes stand for, as a hint where no text was printed.
HCCN_EXIT_CODES: dict[int, str] = {
    1: "a failed command or a time-out",
    2: "no gateway set",
    3: "no health status from the device",
    4: "no such device",
    11: "busy",
    12: "no permission",
    13: "no address set, or a command that the product does not have",
}

# The driver library's own complaint, which may come before any npu-smi output.
_DRIVER_NOTE = re.compile(r"(?:DrvMngGetConsoleLogLevel failed\. ?)?\((?:ret|g_conLogLevel)=-?[0-9]+\)")
_DRIVER_REFUSED = "DrvMngGetConsoleLogLevel failed."
_DCMI_ERROR = re.compile(r"dcmi mod(?:ule|el) initialized? failed.*\. ret is (-[0-9]{1,6})\.?")


# Error texts come early; a flood of other lines is not searched to its end.
_SEARCHED_LINES = 200


def is_driver_note(line: Line) -> bool:
    """Whether a line is the driver library's, and no part of npu-smi's answer."""
    return _DRIVER_NOTE.fullmatch(line.stripped) is not None


def is_missing_file(line: Line) -> bool:
    """Whether ``cat`` says here that a file does not exist."""
    return any(
        re.fullmatch(text.pattern, line.stripped) for text in CAT if text.status is ParseStatus.NO_DATA
    )


def classify(tool: Tool, output: Output, *, first_line_only: bool = False) -> tuple[ParseStatus, str] | None:
    """The status and the reason that a known error text gives, None without one.

    ``first_line_only``: on stdout only the first line can be the tool's own (LLDP text and files are
    someone else's words).
    """
    # A tool that answered and exited 0 was started, whatever start-up files complained about.
    started = output.exit_code == 0 and bool(nonblank(output.stdout))
    for placed in (True, False):
        for stream, line in _candidates(output, first_line_only):
            if placed and tool is Tool.NPU_SMI and (found := _dcmi_error(line, output)):
                return found
            texts = TOOL_TEXTS[tool] + (() if started and stream is Stream.STDERR else SHELL)
            for text in texts:
                if (text.stream is stream) is placed and re.fullmatch(text.pattern, line.stripped):
                    return text.status, f"{text.meaning}: {quote(line.stripped)}"
    return None


def _candidates(output: Output, first_line_only: bool) -> Iterator[tuple[Stream, Line]]:
    for line in nonblank(output.stdout)[: 1 if first_line_only else _SEARCHED_LINES]:
        yield Stream.STDOUT, line
    for line in nonblank(output.stderr)[:_SEARCHED_LINES]:
        yield Stream.STDERR, line


def _dcmi_error(line: Line, output: Output) -> tuple[ParseStatus, str] | None:
    match = _DCMI_ERROR.fullmatch(line.stripped)
    if match is None:
        return None
    code = int(match[1])
    status, meaning = DCMI_CODES.get(code, (ParseStatus.FAILED, "dcmi could not start"))
    every_line = output.stdout + output.stderr
    if code == -8005 and any(other.stripped.startswith(_DRIVER_REFUSED) for other in every_line):
        # Together with the driver library's complaint it is the user's permission (EPERM-like ret).
        status, meaning = (
            ParseStatus.DENIED,
            "this user may not use the driver; run it as root or through sudo",
        )
    return status, f"{meaning}: {quote(line.stripped)}"
