"""Everything one host answered, collected while it arrives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ascendctl.facts import Profile
from ascendctl.probe.frames import (
    MAX_STREAM_BYTES,
    SEVERAL_OUTPUTS,
    Answer,
    Fatal,
    Frame,
    FrameDecoder,
    Hello,
    Note,
    Skip,
    Target,
    Tool,
    count_outputs,
)


@dataclass(frozen=True)
class HostCapture:
    """The decoded answer of one host. ``complete``: its last frame came.

    ``problem``: why the stream cannot be trusted; nothing else is kept of it then.

    ``clock_received_at``: the controller's wall clock when the ``clock`` answer arrived, which with the
    time the script was sent bounds the host's clock offset.
    """

    answers: dict[tuple[str, Target], Answer] = field(default_factory=dict)
    skips: dict[tuple[str, Target], Skip] = field(default_factory=dict)
    tools: dict[str, str | None] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    fatal: str | None = None
    hello: bool = False
    complete: bool = False
    overflow: bool = False
    problem: str = ""
    preamble: bytes = b""
    clock_received_at: float | None = None

    @property
    def profile(self) -> Profile:
        """What was asked of the host, as the script says; scripts of before there were profiles do not."""
        deep = self.notes.get("profile") == Profile.DEEP.value
        return Profile.DEEP if deep else Profile.STANDARD


class CaptureSink:
    """A transport sink: keeps the raw bytes where asked, decodes, and tells who listens."""

    def __init__(
        self,
        nonce: str | None,
        *,
        on_frame: Callable[[Frame], None] | None = None,
        on_bytes: Callable[[bytes], None] | None = None,
    ) -> None:
        self._decoder = FrameDecoder(nonce)
        self._on_frame = on_frame
        self._on_bytes = on_bytes
        self._lock = threading.Lock()
        self._answers: dict[tuple[str, Target], Answer] = {}
        self._skips: dict[tuple[str, Target], Skip] = {}
        self._tools: dict[str, str | None] = {}
        self._notes: dict[str, str] = {}
        self._fatal: str | None = None
        self._hello = False
        self._clock_received_at: float | None = None
        self._kept_bytes = 0
        self._problem = ""

    @property
    def framed(self) -> bool:
        """Whether anything of the probe's own has been recognised."""
        return self._hello

    def feed(self, data: bytes, received_at: float) -> bool:
        """Take what arrived; True when the answer is complete."""
        with self._lock:
            if self._on_bytes and self._kept_bytes < MAX_STREAM_BYTES:
                self._kept_bytes += len(data)
                self._on_bytes(data)
            for frame in self._decoder.feed(data):
                self._take(frame, received_at)
                if self._on_frame:
                    self._on_frame(frame)
            return self._decoder.finished

    def capture(self) -> HostCapture:
        """What has been learned so far; may be asked at any time."""
        with self._lock:
            if problem := self._problem or self._decoder.problem:
                return HostCapture(hello=self._hello, problem=problem)
            return HostCapture(
                answers=dict(self._answers),
                skips=dict(self._skips),
                tools=dict(self._tools),
                notes=dict(self._notes),
                fatal=self._fatal,
                hello=self._hello,
                complete=self._decoder.complete,
                overflow=self._decoder.overflow,
                preamble=self._decoder.preamble,
                clock_received_at=self._clock_received_at,
            )

    def _take(self, frame: Frame, received_at: float) -> None:
        if isinstance(frame, Answer):
            if self._answers.setdefault((frame.command_id, frame.target), frame) != frame:
                self._problem = f"it holds two different answers to one command ({frame.command_id})"
            if frame.command_id == "clock":
                self._clock_received_at = received_at
        elif isinstance(frame, Skip):
            self._skips[frame.command_id, frame.target] = frame
        elif isinstance(frame, Tool):
            self._tools[frame.name] = frame.path
        elif isinstance(frame, Note):
            self._notes[frame.name] = frame.text
        elif isinstance(frame, Fatal):
            self._fatal = frame.reason
        elif isinstance(frame, Hello):
            self._hello = True


def decode(stream: bytes, *, clock_received_at: float | None = None) -> HostCapture:
    """A whole recorded or hand-carried stream, whatever its nonce."""
    if count_outputs(stream) > 1:  # one behind the other: which of them is meant is not ours to guess
        return HostCapture(hello=True, problem=SEVERAL_OUTPUTS)
    sink = CaptureSink(None)
    sink.feed(stream, clock_received_at or 0.0)
    return replace(sink.capture(), clock_received_at=clock_received_at)
