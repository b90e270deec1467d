"""What the two ends of one join say to each other while weights flow, read in a thread of its own.

The thread takes in every frame, so that an ABORT or the death of the other end stops a transfer that is
blocked elsewhere; it says KEEPALIVE when this end has nothing to say, and takes the other end for lost when
it is silent (a stopped process, a cut cable: TCP alone would not tell for minutes).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from ascendctl.netloader.engine.control import Control, ControlError, ControlTimeout, Frame, Label

KEEPALIVE_S = 2.0
SILENCE_S = 15.0
"""An end that said nothing for so long is lost. It speaks every ``KEEPALIVE_S``, also while it is busy."""

_MOST_WAITING = 64
_TICK_S = 0.25


class How(Enum):
    """How a conversation ended before its time."""

    REFUSED = "refused"  # the source will not serve this joiner
    ABORTED = "aborted"  # the other end stopped, and said why
    LOST = "lost"  # the other end is gone, silent, or talks nonsense
    STOPPED = "stopped"  # this end stopped


@dataclass(frozen=True)
class Ending:
    """How it ended, and why, in words."""

    how: How
    reason: str


class ConversationEnded(Exception):
    """Nothing more can be said or heard."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


class AnswerTimeout(Exception):
    """The other end lives, but what was waited for did not come in time."""


class Conversation:
    """One end of a join after the JOIN was accepted. Owns the control connection; thread-safe."""

    def __init__(
        self, control: Control, *, name: str, keepalive_s: float = KEEPALIVE_S, silence_s: float = SILENCE_S
    ) -> None:
        """``name`` is for the thread's name and messages, such as "10.0.0.2:41234"."""
        self._control = control
        self._name = name
        self._keepalive_s = keepalive_s
        self._silence_s = silence_s
        self._changed = threading.Condition()
        self._waiting: deque[Frame] = deque()
        self._available = 0
        self._ending: Ending | None = None
        self._on_end: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._listen, name=f"netloader-hears-{name}", daemon=True)
        self._thread.start()

    @property
    def ending(self) -> Ending | None:
        """How it ended; None while it goes on."""
        with self._changed:
            return self._ending

    @property
    def stopped_here(self) -> bool:
        """True where this end told the other one to stop."""
        ending = self.ending
        return ending is not None and ending.how is How.STOPPED

    def at_end(self, call: Callable[[], None]) -> None:
        """``call`` is made once when the conversation ends, at once when it has: it ends the transfer."""
        with self._changed:
            self._on_end = call
            ended = self._ending is not None
        if ended:
            call()

    def say(self, label: Label, **content: object) -> None:
        """Sends one frame. Raises ConversationEnded."""
        self.check()
        try:
            self._control.send(label, **content)
        except ControlError as error:
            self.end(How.LOST, str(error))
            self.check()

    def check(self) -> None:
        """Raises ConversationEnded when it has ended."""
        ending = self.ending
        if ending is not None:
            raise ConversationEnded(ending)

    def hear(self, *labels: Label, timeout_s: float) -> Frame:
        """The next frame, one of ``labels``. A frame heard before the end is still given out.

        Raises ConversationEnded, AnswerTimeout; a frame with another label ends the conversation.
        """
        until_s = time.monotonic() + timeout_s
        with self._changed:
            while not self._waiting:
                if self._ending is not None:
                    raise ConversationEnded(self._ending)
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    expected = " or ".join(label.value for label in labels)
                    raise AnswerTimeout(f"no {expected} from {self._name} within {timeout_s:g} s")
                self._changed.wait(left_s)
            frame = self._waiting.popleft()
        if frame.label not in {label.value for label in labels}:
            self.end(How.LOST, f"{self._name} said {frame.label!r} out of turn")
            self.check()
        return frame

    def available(self, more_than: int, timeout_s: float) -> int:
        """How many chunks the source announced, waiting up to ``timeout_s`` for more than ``more_than``.

        Raises ConversationEnded.
        """
        until_s = time.monotonic() + timeout_s
        with self._changed:
            while True:
                if self._ending is not None:
                    raise ConversationEnded(self._ending)
                left_s = until_s - time.monotonic()
                if self._available > more_than or left_s <= 0:
                    return self._available
                self._changed.wait(left_s)

    def ended_within(self, timeout_s: float) -> Ending | None:
        """How it ended, waiting up to ``timeout_s`` for that: a reason on its way explains a broken link."""
        until_s = time.monotonic() + timeout_s
        with self._changed:
            while self._ending is None and (left_s := until_s - time.monotonic()) > 0:
                self._changed.wait(left_s)
            return self._ending

    def stop(self, reason: str) -> None:
        """Tells the other end ABORT with the reason, and ends the conversation here."""
        with contextlib.suppress(ConversationEnded):
            self.say(Label.ABORT, reason=reason)
        self.end(How.STOPPED, reason)

    def end(self, how: How, reason: str) -> None:
        """Ends it at this end; the first ending counts."""
        with self._changed:
            if self._ending is not None:
                return
            self._ending = Ending(how, reason)
            call = self._on_end
            self._changed.notify_all()
        if call is not None:
            call()

    def close(self, drain_s: float = 0.0) -> None:
        """Ends it and closes the connection; ``drain_s`` as in ``Control.close``."""
        self.end(How.STOPPED, "the connection was closed at this end")
        if drain_s > 0:
            self._thread.join(4 * _TICK_S)  # it reads, and two cannot
        self._control.close(drain_s)

    def _listen(self) -> None:
        try:
            self._listen_to_the_end()
        except Exception as error:  # a defect must not leave the other end waiting
            self.end(How.LOST, f"a defect at this end: {type(error).__name__}: {error}")
            raise

    def _listen_to_the_end(self) -> None:
        heard_s = said_s = time.monotonic()
        while self.ending is None:
            frame = None
            try:
                frame = self._control.receive(min(self._keepalive_s, _TICK_S))
            except ControlTimeout:
                pass
            except ControlError as error:
                self.end(How.LOST, str(error))
                return
            now_s = time.monotonic()
            if frame is not None:
                heard_s = now_s
                self._take(frame)
            elif now_s - heard_s > self._silence_s:
                self.end(How.LOST, f"{self._name} has been silent for {self._silence_s:g} s")
                return
            if now_s - said_s >= self._keepalive_s and self.ending is None:
                said_s = now_s
                try:
                    self._control.send(Label.KEEPALIVE)
                except ControlError:
                    continue  # what it sent before it went (DONE, ABORT) is still to be read

    def _take(self, frame: Frame) -> None:
        if frame.label == Label.KEEPALIVE.value:
            return
        if frame.label in (Label.ABORT.value, Label.REFUSE.value):
            reason = frame.content.get("reason")
            how = How.REFUSED if frame.label == Label.REFUSE.value else How.ABORTED
            self.end(how, shown_text(reason) if isinstance(reason, str) else "no reason was given")
        elif frame.label == Label.AVAILABLE.value:
            upto = frame.content.get("upto")
            if not isinstance(upto, int) or isinstance(upto, bool) or upto < 0:
                self.end(How.LOST, f"{self._name} announced {upto!r:.40} chunks")
                return
            with self._changed:
                self._available = max(self._available, upto)
                self._changed.notify_all()
        elif len(self._waiting) >= _MOST_WAITING:
            self.end(How.LOST, f"{self._name} talks without end")
        elif frame.label in Label.__members__:  # a newer peer may know more words
            with self._changed:
                self._waiting.append(frame)
                self._changed.notify_all()


def shown_text(text: str, limit: int = 2000) -> str:
    """A peer's words as they may stand in a log line: one line, printable, bounded."""
    line = "".join(c if c.isprintable() else " " for c in text[: limit + 1])
    return line if len(line) <= limit else line[:limit] + "..."
