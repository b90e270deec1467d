"""The probe's answer on the wire, and its decoder.

A stream holds lines that begin with ``@NONCE`` (NONCE: 32 hex digits, new in every run) after a line
break of their own::

    @NONCE hello 1
    @NONCE tool hccn_tool /usr/local/bin/hccn_tool        (no path: missing)
    @NONCE note open-files-limit 1024
    @NONCE note profile standard                          or deep: what is asked; of a follow-up: phase mesh
    @NONCE begin link 0 0 0 EXIT_CODE TRIES               ids: npu chip phy, - where none
    …standard output…
    @NONCE stderr
    …standard error…
    @NONCE end
    @NONCE skip tls 0 0 0 missing | time-up | hung COMMAND_ID PHY   not asked, and why
    @NONCE fatal REASON
    @NONCE done                                           nothing follows

What comes before ``hello`` (banners, message of the day) is kept apart. Bytes are kept as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

PROTOCOL_VERSION = 1
_HELLO = re.compile(rb"(?:^|\n)@([0-9a-zA-Z]{32}) hello \d+(\r?)\n")
SEVERAL_OUTPUTS = "it holds more than one output of the probe; keep one output per host and file"
# `timeout` exits 124 after TERM sufficed; 137 when KILL was needed; busybox's exits 143.
_KILLED_CODES = frozenset({124, 137, 143})
# A host that sends more than this is not answering the probe. 64 devices answer with some 2 MiB.
MAX_STREAM_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Target:
    """Which device an answer is about; all None for a command asked once per host."""

    npu: int | None = None
    chip: int | None = None
    phy: int | None = None


@dataclass(frozen=True)
class Answer:
    """One command's whole answer. ``tries`` counts how often it was asked (busy, passing states)."""

    command_id: str
    target: Target
    exit_code: int
    tries: int
    stdout: bytes
    stderr: bytes

    @property
    def killed(self) -> bool:
        """Whether the command had to be killed at its time-out."""
        return self.exit_code in _KILLED_CODES


@dataclass(frozen=True)
class Skip:
    """A command that was not asked: its tool is ``missing``, or ``hung`` on an earlier command, or the time
    of the script was up (``time-up``)."""

    command_id: str
    target: Target
    reason: str
    hung_command_id: str | None = None
    hung_phy: int | None = None


@dataclass(frozen=True)
class Tool:
    name: str
    path: str | None


@dataclass(frozen=True)
class Note:
    name: str
    text: str


@dataclass(frozen=True)
class Fatal:
    reason: str


@dataclass(frozen=True)
class Hello:
    version: int


@dataclass(frozen=True)
class Done:
    pass


Frame = Answer | Skip | Tool | Note | Fatal | Hello | Done


def ids_text(target: Target) -> str:
    """A target as a frame names it: ``NPU CHIP PHY``, ``-`` for each that is None."""
    return " ".join(
        "-" if number is None else str(number) for number in (target.npu, target.chip, target.phy)
    )


def count_outputs(stream: bytes) -> int:
    """How many outputs of the probe begin in a stream, whatever their nonces."""
    return len(_HELLO.findall(stream))


class FrameDecoder:
    """Decodes a stream as it arrives. ``nonce`` None: taken from the first ``hello`` line.

    ``problem`` says why a stream must not be trusted (several outputs in one, a foreign version).
    """

    def __init__(self, nonce: str | None = None) -> None:
        self._nonce = nonce
        self._buffer = bytearray()
        self._scanned = 0
        self._total = 0
        self._begin: tuple[str, Target, int, int] | None = None
        self._stdout: bytes | None = None
        self._crlf = False
        self.preamble = b""
        self._greeted = False
        self.complete = False
        self.overflow = False
        self.problem = ""

    @property
    def finished(self) -> bool:
        """Nothing more is expected: the last frame came, or far too much did."""
        return self.complete or self.overflow

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames completed by ``data``. Never raises for what a host sent."""
        if self.finished:
            return
        self._total += len(data)
        if self._total > MAX_STREAM_BYTES:
            self.overflow = True
            self._buffer.clear()
            return
        self._buffer += data
        if self._nonce is None and not self._learn_nonce():
            return
        marker = f"\n@{self._nonce} ".encode()
        while not self.complete:
            start = self._buffer.find(marker, max(0, self._scanned - len(marker)))
            line_end = self._buffer.find(b"\n", start + len(marker)) if start >= 0 else -1
            if line_end < 0:
                self._scanned = start if start >= 0 else len(self._buffer)
                return
            content = self._text(bytes(self._buffer[:start]))
            line = bytes(self._buffer[start + len(marker) : line_end]).rstrip(b"\r")
            # The line break stays: it may be the one that begins the next marker.
            del self._buffer[:line_end]
            self._scanned = 0
            frame = self._frame(line.decode("utf-8", "surrogateescape"), content)
            if frame is not None:
                yield frame

    def _learn_nonce(self) -> bool:
        found = _HELLO.search(self._buffer)
        if found is None:
            return False
        self._nonce = found[1].decode()
        self._crlf = bool(found[2])
        if self._buffer[found.start() : found.start() + 1] != b"\n":
            self._buffer[:0] = b"\n"
        return True

    def _text(self, content: bytes) -> bytes:
        """What stood between two markers, without the break that ends the first marker's line."""
        content = content.removeprefix(b"\n")
        if self._crlf:  # carried by hand through a terminal
            content = content.replace(b"\r\n", b"\n").removesuffix(b"\r")
        return content

    def _hello(self, version: int, before: bytes) -> Hello:
        if self._greeted:
            self.problem = self.problem or SEVERAL_OUTPUTS
        elif version != PROTOCOL_VERSION:
            self.problem = (
                f"it was made by a probe of version {version}, this ascendctl reads {PROTOCOL_VERSION}: "
                "make it again with this version's 'probe script'"
            )
        else:
            self.preamble = before
        self._greeted = True
        return Hello(version)

    def _frame(self, line: str, content: bytes) -> Frame | None:
        kind, _, rest = line.partition(" ")
        words = rest.split()
        try:
            if kind == "begin":
                self._stdout = None
                self._begin = (words[0], _target(words[1:4]), int(words[4]), int(words[5]))
            elif kind == "stderr":
                self._stdout = content
            elif kind == "end" and self._begin and self._stdout is not None:
                answer = Answer(*self._begin, self._stdout, content)
                self._begin = self._stdout = None
                return answer
            elif kind == "skip":
                return _skip(words)
            elif kind == "tool":
                return Tool(words[0], rest[len(words[0]) :].strip() or None)
            elif kind == "note":
                return Note(words[0], " ".join(words[1:]))
            elif kind == "fatal":
                return Fatal(rest)
            elif kind == "hello":
                return self._hello(int(words[0]), content)
            elif kind == "done":
                self.complete = True
                return Done()
        except (IndexError, ValueError):
            return None
        return None


def _target(words: list[str]) -> Target:
    npu, chip, phy = (None if word == "-" else int(word) for word in words)
    return Target(npu, chip, phy)


def _skip(words: list[str]) -> Skip:
    hung_phy = int(words[6]) if len(words) > 6 and words[6] != "-" else None
    hung_command = words[5] if len(words) > 5 else None
    return Skip(words[0], _target(words[1:4]), words[4], hung_command, hung_phy)
