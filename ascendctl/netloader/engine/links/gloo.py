"""The link between two CPUs: gloo over TCP, bound to the address of the control connection.

What gloo does not do, seen with torch 2.13: when the connection ends while a message is half received, the
wait for that message is not told and goes on to its time-out; other receives that wait for their first byte
are told at once. So each link keeps one receive posted that never gets a byte (its sentinel: a thread waits
for it, and when it ends, the link is broken), and a caller's wait is done by a thread that may be left
behind inside gloo. The only way to end gloo's waits from outside is a wait that passes its time-out: gloo
then closes the connection; `sever` has one of a millisecond.

gloo trusts its peer with sizes: a message longer than the posted receive ends the receiving process (gloo's
``enforce`` throws in a thread of its own), a shorter one is taken for complete. So both ends must have agreed
on every size before the first transfer, and only a digest shows that all bytes came.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
import weakref
from datetime import timedelta
from queue import SimpleQueue
from typing import Final

import torch
from torch.distributed import ProcessGroupGloo, Store, Work

from ascendctl.netloader.engine.links.contract import LinkBroken, LinkTimeout, Pending, checked
from ascendctl.netloader.engine.links.rendezvous import bounded

_DATA_TAG: Final = 0
_SENTINEL_TAG: Final = 9
"""Never sent on: a receive of it gets no byte."""
_FOR_EVER: Final = timedelta(days=365)
_AT_EXIT_S: Final = 10.0


def gloo_group(store: Store, rank: int, local_ip: str, timeout_s: float) -> ProcessGroupGloo:
    """A group of two that listens on ``local_ip`` only. Raises `LinkTimeout` if the peer does not come."""
    options = ProcessGroupGloo._Options()
    options._timeout = timedelta(seconds=timeout_s)
    options._devices = [ProcessGroupGloo.create_device(hostname=local_ip)]
    return bounded(lambda: ProcessGroupGloo(store, rank, 2, options), timeout_s, "the gloo group of two")


def sever(group: ProcessGroupGloo, peer: int) -> None:
    """Close the connections of ``group`` so that every wait in it ends; from any thread."""
    with contextlib.suppress(RuntimeError):
        nothing = torch.empty(1, dtype=torch.uint8)
        group.recv([nothing], peer, _SENTINEL_TAG).wait(timedelta(milliseconds=1))


class GlooLink:
    """`ascendctl.netloader.engine.links.contract.Link` over gloo."""

    kind = "gloo"
    device = torch.device("cpu")

    def __init__(self, store: Store, rank: int, local_ip: str, timeout_s: float) -> None:
        """Open it with the peer that has the other rank, within ``timeout_s``: `LinkTimeout`, `LinkError`."""
        self._peer = 1 - rank
        self._group: ProcessGroupGloo | None = gloo_group(store, rank, local_ip, timeout_s)
        self._changed = threading.Condition()
        self._cause: str | None = None
        # gloo does not keep a transfer alive whose handle was dropped.
        self._under_way: set[_GlooPending] = set()
        self._waits: SimpleQueue[_GlooPending | None] = SimpleQueue()
        nothing = torch.empty(1, dtype=torch.uint8)
        sentinel = self._group.recv([nothing], self._peer, _SENTINEL_TAG)
        self._threads = [
            threading.Thread(target=target, name="netloader-gloo", daemon=True)
            for target in (lambda: self._watch(sentinel), self._wait_inside)
        ]
        for thread in self._threads:
            thread.start()
        _links.add(self)

    def send(self, data: torch.Tensor) -> Pending:
        """Start to send ``data`` (see the contract)."""
        return self._start(checked(data, self.device), sends=True)

    def receive(self, into: torch.Tensor) -> Pending:
        """Start to receive into ``into`` (see the contract)."""
        return self._start(checked(into, self.device), sends=False)

    def abort(self, reason: str = "aborted") -> None:
        """End every wait at once with `LinkBroken`."""
        self._fail(reason)

    def close(self) -> None:
        """Drop the group; transfers still under way are aborted."""
        self._fail("closed")
        with self._changed:
            self._under_way.clear()

    def end_threads(self, deadline: float) -> None:
        """Abort and wait for the threads until ``deadline`` (monotonic seconds)."""
        self._fail("the process ends")
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def wait(self, pending: _GlooPending, timeout_s: float) -> None:
        """What `Pending.wait` says, for a transfer of this link."""
        with self._changed:
            self._changed.wait_for(lambda: pending.done or self._cause is not None, timeout_s)
            if pending.done:
                return
            late = self._cause is None
        words = f"the other end did not take part in a {pending.verb} of {pending.data.numel()} bytes"
        if late:
            self._fail(f"{words} within {timeout_s:.1f} s")
            raise LinkTimeout(f"{words} within {timeout_s:.1f} s")
        raise LinkBroken(self._cause or "the link failed")

    def _start(self, data: torch.Tensor, *, sends: bool) -> Pending:
        with self._changed:
            if self._cause is not None or self._group is None:
                raise LinkBroken(f"the {self.kind} link is not usable any more: {self._cause}")
            call = self._group.send if sends else self._group.recv
            try:
                work = call([data], self._peer, _DATA_TAG)
            except RuntimeError as error:
                failure = _gone(error)
            else:
                pending = _GlooPending(self, work, data, "send" if sends else "receive")
                self._under_way.add(pending)
                self._waits.put(pending)
                return pending
        self._fail(failure)
        raise LinkBroken(failure)

    def _fail(self, cause: str) -> None:
        """Note why the link failed (the first cause stays), close its connection, wake whoever waits."""
        with self._changed:
            self._cause = self._cause or cause
            group, self._group = self._group, None
        if group is not None:
            sever(group, self._peer)
            self._waits.put(None)
        # Only now: a caller that hears of it may use its tensor again.
        with self._changed:
            self._changed.notify_all()

    def _watch(self, sentinel: Work) -> None:
        """End the link when its connection ends."""
        try:
            sentinel.wait(_FOR_EVER)
        except RuntimeError as error:
            self._fail(_gone(error))

    def _wait_inside(self) -> None:
        """Wait for the transfers in their order, whether or not somebody does already: who asks later need
        not wake this thread first."""
        while (pending := self._waits.get()) is not None:
            try:
                # The caller's own deadline comes first, and ends this by severing the connection.
                pending.work.wait(_FOR_EVER)
            except RuntimeError as error:
                self._fail(_gone(error))
                return
            with self._changed:
                self._under_way.discard(pending)
                pending.done = True
                self._changed.notify_all()


_links: weakref.WeakSet[GlooLink] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """A thread inside gloo while the interpreter goes away would abort the process."""
    deadline = time.monotonic() + _AT_EXIT_S
    for link in list(_links):
        link.end_threads(deadline)


class _GlooPending:
    """One transfer of a `GlooLink`."""

    def __init__(self, link: GlooLink, work: Work, data: torch.Tensor, verb: str) -> None:
        self._link = link
        self.work = work
        self.data = data
        self.verb = verb
        self.done = False

    def wait(self, timeout_s: float) -> None:
        self._link.wait(self, timeout_s)


def _gone(error: RuntimeError) -> str:
    """gloo's message without the source file it starts with and the advice it ends with."""
    first = (str(error).splitlines() or ["no message"])[0]
    words = first.partition("] ")[2].partition(". This is typically")[0] or first
    return f"the connection to the other end is gone ({words})"
