"""The link between two Ascend NPUs: torch_npu's ProcessGroupHCCL.

Not run on an NPU so far: exercised with a stand-in of torch_npu only. The options of the group are those of
vllm-ascend's ``netloader_pg`` (``group_id`` is the prefix of the store), so that legacy peers find it. The
watchdog of torch_npu ends a process only where HCCL_ASYNC_ERROR_HANDLING is 1, and the variable is read when
a group is made: it is 0 during that. A transfer that passed its deadline is stopped by dropping the
communicator (``abort_hccl_comm``), where the installed torch_npu has that.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import torch
from torch.distributed import Store

from ascendctl.netloader.engine.links.contract import LinkBroken, LinkError, LinkTimeout, Pending, checked
from ascendctl.netloader.engine.links.rendezvous import bounded

_TAG: Final = 0
_LOOK_EVERY_S: Final = 100e-6
_WATCHDOG: Final = "HCCL_ASYNC_ERROR_HANDLING"

_environment = threading.Lock()
_makers = 0
_found: str | None = None


def hccl_group(store: Store, rank: int, device: torch.device, prefix: str, timeout_s: float) -> Any:
    """A ProcessGroupHCCL of two. Raises `LinkError` without torch_npu, `LinkTimeout` if nobody comes."""
    try:
        backend: Any = importlib.import_module("torch_npu._C._distributed_c10d").ProcessGroupHCCL
    except (ImportError, AttributeError) as error:
        raise LinkError(f"HCCL needs torch_npu, which cannot be imported: {error}") from None

    def make() -> Any:
        options = backend.Options()
        options.is_high_priority_stream = False
        options._timeout = timedelta(seconds=timeout_s)
        options.global_ranks_in_group = []
        options.group_id = prefix
        with _without_watchdog(), torch.get_device_module(device).device(device):
            group = backend(store, rank, 2, options)
            group._set_sequence_number_for_group()
        return group

    return bounded(make, timeout_s, "the HCCL group of two")


def abort_group(group: Any) -> None:
    """Stop what ``group`` does, as far as this torch_npu can."""
    stop = getattr(group, "abort_hccl_comm", None) or getattr(group, "abort", None)
    if stop is None:
        return
    try:
        stop("the link was aborted")
    except TypeError:
        stop()


class HcclLink:
    """`ascendctl.netloader.engine.links.contract.Link` over HCCL."""

    kind = "hccl"

    def __init__(self, store: Store, rank: int, device: torch.device, prefix: str, timeout_s: float) -> None:
        """Open it within ``timeout_s``: `LinkTimeout`, `LinkError`. HCCL connects at the first transfer."""
        self.device = device
        self._peer = 1 - rank
        self._npu = torch.get_device_module(device)
        self._stream = self._npu.Stream(device)
        self._lock = threading.Lock()
        self._cause: str | None = None
        self._group: Any = hccl_group(store, rank, device, prefix, timeout_s)

    def send(self, data: torch.Tensor) -> Pending:
        """Start to send ``data`` (see the contract)."""
        return self._start(checked(data, self.device), sends=True)

    def receive(self, into: torch.Tensor) -> Pending:
        """Start to receive into ``into`` (see the contract)."""
        return self._start(checked(into, self.device), sends=False)

    def abort(self, reason: str = "aborted") -> None:
        """End every wait at once with `LinkBroken`."""
        with self._lock:
            self._cause = self._cause or reason
            group, self._group = self._group, None
        if group is not None:
            abort_group(group)

    def close(self) -> None:
        """Give back the communicator (400 MB of the NPU with the default HCCL_BUFFSIZE)."""
        self.abort("closed")

    @property
    def cause(self) -> str | None:
        """Why the link cannot be used any more; None while it can."""
        return self._cause

    def _start(self, data: torch.Tensor, *, sends: bool) -> Pending:
        with self._lock:
            group = self._group
        if group is None:
            raise LinkBroken(f"the hccl link is not usable any more: {self._cause}")
        verb = "send" if sends else "receive"
        try:
            self._stream.wait_stream(self._npu.current_stream(self.device))
            with self._npu.stream(self._stream):
                call = group.send if sends else group.recv
                work = call([data], self._peer, _TAG)
        except RuntimeError as error:
            cause = f"HCCL could not start a {verb}: {_first_line(error)}"
            self.abort(cause)
            raise LinkBroken(cause) from None
        return _HcclPending(self, work, data, verb)


class _HcclPending:
    """One transfer of an `HcclLink`."""

    def __init__(self, link: HcclLink, work: Any, data: torch.Tensor, verb: str) -> None:
        self._link = link
        self._work = work
        self._data = data
        self._verb = verb
        self._over = False

    def wait(self, timeout_s: float) -> None:
        if self._over:
            return
        deadline = time.monotonic() + timeout_s
        try:
            while not self._work.is_completed():
                if self._link.cause is not None:
                    raise LinkBroken(self._link.cause)
                if time.monotonic() >= deadline:
                    raise LinkTimeout(
                        f"the other end did not take part in a {self._verb} of {self._data.numel()} bytes "
                        f"within {timeout_s:.1f} s"
                    )
                time.sleep(_LOOK_EVERY_S)
        except RuntimeError as error:
            cause = f"HCCL: {_first_line(error)}"
            self._link.abort(cause)
            raise LinkBroken(cause) from None
        except LinkError as error:
            self._link.abort(str(error))
            raise
        # A work that failed is completed too.
        if self._link.cause is not None:
            raise LinkBroken(self._link.cause)
        if self._work.exception() is not None:
            cause = f"HCCL: {_first_line(self._work.exception())}"
            self._link.abort(cause)
            raise LinkBroken(cause)
        self._over = True


@contextlib.contextmanager
def _without_watchdog() -> Iterator[None]:
    """The variable is 0 while any group is being made, and afterwards what it was before the first."""
    global _makers, _found
    with _environment:
        if _makers == 0:
            _found = os.environ.get(_WATCHDOG)
            os.environ[_WATCHDOG] = "0"
        _makers += 1
    try:
        yield
    finally:
        with _environment:
            _makers -= 1
            if _makers == 0:
                if _found is None:
                    os.environ.pop(_WATCHDOG, None)
                else:
                    os.environ[_WATCHDOG] = _found


def _first_line(error: object) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
