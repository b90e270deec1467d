"""Text of one command → facts. Pure: a parser knows no host, and judges nothing.

``parse`` decides in this order: a known error text, a command that was killed, a command that ascendctl
does not read, an exit code that says failure, and only then what the answer says. Nothing outside its
grammar, range or column is ever ``ok``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any

from ascendctl.facts import Parsed, ParseStatus
from ascendctl.parsers import hccn_counters, hccn_tool, host, host_net, npu_smi, optical, port_settings
from ascendctl.parsers.command import Asked, Tool, UnknownCommand, read_command
from ascendctl.parsers.errors import HCCN_EXIT_CODES, classify
from ascendctl.parsers.reader import Reader
from ascendctl.parsers.text import NoData, Output, Unparsed, nonblank, quote, read_lines

__all__ = ["UnknownCommand", "facts_json", "parse"]


def parse(command: str, stdout: bytes, stderr: bytes = b"", exit_code: int | None = 0) -> Parsed[Any]:
    """Read what ``command`` printed; ``facts`` is of the type that its reader states.

    ``exit_code`` None = the command never ended of its own accord. A question to hccn_tool or npu-smi
    that ascendctl has no reader for still gets its error texts told apart, and is ``unparsed`` else.

    Raises:
        UnknownCommand: a command line that is none of the catalogue's tools and files.
    """
    asked = read_command(command)
    output = Output(read_lines(stdout), read_lines(stderr), exit_code)
    reader = _reader(asked)
    if reader is None or not reader.whole_all_the_same(output):
        refusal = _refusal(asked, output, reader)
        if refusal is not None:
            return Parsed(refusal[0], reason=refusal[1])
    if reader is None:
        return Parsed(ParseStatus.UNPARSED, reason=f"ascendctl has no reader for the output of {command!r}")
    try:
        return Parsed(ParseStatus.OK, reader.read(asked, output))
    except Unparsed as error:
        return Parsed(ParseStatus.UNPARSED, reason=str(error))
    except NoData as error:
        return Parsed(ParseStatus.NO_DATA, reason=str(error))


def facts_json(facts: Any) -> Any:
    """Facts as JSON values, fields named as in ``ascendctl.facts``.

    Bytes that were no UTF-8 appear as ``\\xNN`` in text, since JSON has no place for them.
    """
    if isinstance(facts, Enum):
        return facts_json(facts.value)
    if dataclasses.is_dataclass(facts) and not isinstance(facts, type):
        return {field.name: facts_json(getattr(facts, field.name)) for field in dataclasses.fields(facts)}
    if isinstance(facts, tuple) and hasattr(facts, "_asdict"):
        return facts_json(facts._asdict())
    if isinstance(facts, Mapping):
        return {facts_json(str(key)): facts_json(value) for key, value in facts.items()}
    if isinstance(facts, (tuple, list)):
        return [facts_json(value) for value in facts]
    if isinstance(facts, str):
        return facts.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return facts


_READERS: Mapping[Tool, Mapping[str, Reader]] = {
    Tool.HCCN_TOOL: {
        **hccn_tool.READERS,
        **optical.READERS,
        **port_settings.READERS,
        **hccn_counters.READERS,
    },
    Tool.NPU_SMI: npu_smi.READERS,
    Tool.CAT: host.FILE_READERS,
    Tool.HOST: {**host.HOST_READERS, **host_net.READERS},
}

# timeout(1)'s own code, and shells' 128 + KILL, TERM, INT, HUP.
_KILLED_EXIT_CODES = (124, 137, 143, 130, 129)

# No documented line comes near it; it bounds the work on garbage.
_LINE_LIMIT_CHARACTERS = 4096


def _reader(asked: Asked) -> Reader | None:
    return _READERS[asked.tool].get(asked.kind) if asked.kind else None


def _refusal(asked: Asked, output: Output, reader: Reader | None) -> tuple[ParseStatus, str] | None:
    """Why there is nothing to read, None if there is."""
    foreign_text = reader is not None and reader.foreign_text
    found = classify(asked.tool, output, first_line_only=foreign_text)
    if found is not None:
        return found
    code = output.exit_code
    if code is None or code < 0 or code in _KILLED_EXIT_CODES:
        what = "" if code is None else f" (exit code {code})"
        return (
            ParseStatus.FAILED,
            f"the command did not end of its own accord{what}; what it printed may be cut",
        )
    if code != 0:
        return ParseStatus.FAILED, _failure(asked, output, code)
    long_line = next((line for line in output.stdout if len(line.text) > _LINE_LIMIT_CHARACTERS), None)
    if long_line is not None:
        problem = f"line {long_line.number}: longer than {_LINE_LIMIT_CHARACTERS} characters"
        return ParseStatus.UNPARSED, problem
    if nonblank(output.stdout) or (reader is not None and reader.blank_answers and output.stdout):
        return None
    if nonblank(output.stderr):
        return ParseStatus.FAILED, f"it only complained: {quote(nonblank(output.stderr)[0].stripped)}"
    if reader is not None and reader.empty_answers:
        return None
    return ParseStatus.UNPARSED, "line 0: nothing was printed"


def _failure(asked: Asked, output: Output, code: int) -> str:
    said = nonblank(output.stderr) or nonblank(output.stdout)
    if said:
        return f"exit code {code}: {quote(said[0].stripped)}"
    hint = HCCN_EXIT_CODES.get(code) if asked.tool is Tool.HCCN_TOOL else None
    return f"exit code {code} and no text" + (f" (the code may stand for {hint})" if hint else "")
