"""What a transport gives: one script run on one host, its output as it comes, and how it ended."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

from ascendctl.inventory import Endpoint


@dataclass(frozen=True)
class Deadlines:
    """Bounds of every layer, in seconds. ``run_s`` None = no bound on the whole run.

    ``connect_s``: of a TCP connection. A host that turns a connection away because it is busy is tried
    again for ``connect_s`` and ``handshake_s`` together, its turns waited for not counted.
    ``bounded_by_run``: ``host_s`` is what the run had left, less than the host's own bound.
    """

    connect_s: float = 10.0
    host_s: float = 300.0
    run_s: float | None = None
    bounded_by_run: bool = False

    @property
    def handshake_s(self) -> float:
        """Of each step of the SSH login: who gives a busy host longer for the one means the other too."""
        return 2 * self.connect_s


@dataclass(frozen=True)
class Failure:
    """Why a host's answer is missing or cut. ``kind`` is a value of `ascendctl.facts.ReachStatus`.

    ``detail`` is one sentence without secrets; ``via`` names the jump host at fault, if one was.
    ``internal``: ascendctl itself failed on this host (``detail`` names the exception); the host is
    not to blame and its cells are errors.
    """

    kind: str
    detail: str
    via: str | None = None
    internal: bool = False


@dataclass(frozen=True)
class Outcome:
    """How one host went. ``failure`` None = the script ran to its end.

    ``sent_at``: wall clock (``time.time()``) just after the script was sent; None if it never was.
    """

    host: str
    failure: Failure | None
    sent_at: float | None
    duration_s: float


@dataclass(frozen=True)
class Job:
    """One host's work: where, which script (bytes for ``/bin/sh -s`` on stdin), which account group."""

    host: str
    endpoint: Endpoint
    script: bytes
    group: str = ""


class Sink(Protocol):
    """Receives one host's output; called from the transport's threads, one host's calls in order.

    ``feed`` returns True when the answer is complete: the transport then stops reading (a host ends
    at its last frame, not at end of file). A sink may have an attribute ``framed``, true once it has
    recognised anything of the script's own: an answer that ended early is then ``lost``, else
    ``protocol`` (whatever answered, it was not our script). Without it, any byte counts as framed.
    It may have a method ``heard()``: a transport calls it for signs of life that are no output.
    """

    def feed(self, data: bytes, received_at: float) -> bool: ...


class Transport(Protocol):
    """Runs one job to its end or to its deadline. Never raises for a host's sake.

    A transport may have a method ``warn(sentence)``: it keeps a sentence of the fan-out to be shown once.
    """

    def run(self, job: Job, sink: Sink, deadlines: Deadlines, stop: threading.Event) -> Outcome: ...


class Listener(Protocol):
    """Hears about progress, from the fan-out's threads."""

    def started(self, host: str) -> None: ...

    def finished(self, outcome: Outcome) -> None: ...
