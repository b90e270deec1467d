"""The link between two NVIDIA GPUs: NCCL itself, without torch's process group around it.

torch's ``ProcessGroupNCCL`` starts a watchdog and a heartbeat monitor that may end the whole process when a
transfer fails, and it decides that from environment variables which the serving engine needs otherwise. A
seed must outlive every joiner, so this link calls NCCL's C functions: a communicator that never blocks
(``blocking = 0``: each call is polled with a deadline, the set-up included) and that ``ncclCommAbort`` ends
from any thread. The functions and the layout of ``ncclConfig_t`` are those of nccl.h since 2.17 (later
versions add fields at the end and read as many as ``size`` says).
"""

from __future__ import annotations

import ctypes
import threading
import time
from functools import cache
from typing import Any, Final

import torch
from torch.distributed import Store

from ascendctl.netloader.engine.links.contract import LinkBroken, LinkError, LinkTimeout, Pending, checked

_SUCCESS: Final = 0
_IN_PROGRESS: Final = 7
_UINT8: Final = 1
_UNDEFINED_INT: Final = -(2**31)
_LOOK_FIRST_S: Final = 20e-6
_LOOK_LATER_S: Final = 1e-3
_ASK_NCCL_EVERY_S: Final = 0.05
_DRAIN_S: Final = 10.0


class _UniqueId(ctypes.Structure):
    _fields_ = (("internal", ctypes.c_byte * 128),)


class _Config(ctypes.Structure):
    """``ncclConfig_v21700`` of nccl.h."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("magic", ctypes.c_uint),
        ("version", ctypes.c_uint),
        ("blocking", ctypes.c_int),
        ("cga_cluster_size", ctypes.c_int),
        ("min_ctas", ctypes.c_int),
        ("max_ctas", ctypes.c_int),
        ("net_name", ctypes.c_char_p),
    )


@cache
def _library() -> ctypes.CDLL:
    """The NCCL that torch brought along. Raises `LinkError` if there is none."""
    try:
        library = ctypes.CDLL("libnccl.so.2")
        library.ncclGetErrorString.restype = ctypes.c_char_p
        library.ncclGetErrorString.argtypes = [ctypes.c_int]
        pointer = ctypes.c_void_p
        library.ncclGetUniqueId.argtypes = [ctypes.POINTER(_UniqueId)]
        library.ncclCommInitRankConfig.argtypes = [
            ctypes.POINTER(pointer),
            ctypes.c_int,
            _UniqueId,
            ctypes.c_int,
            ctypes.POINTER(_Config),
        ]
        library.ncclCommGetAsyncError.argtypes = [pointer, ctypes.POINTER(ctypes.c_int)]
        for name in ("ncclSend", "ncclRecv"):
            getattr(library, name).argtypes = [
                pointer,
                ctypes.c_size_t,
                ctypes.c_int,
                ctypes.c_int,
                pointer,
                pointer,
            ]
        for name in ("ncclCommAbort", "ncclCommFinalize", "ncclCommDestroy"):
            getattr(library, name).argtypes = [pointer]
    except (OSError, AttributeError) as error:
        raise LinkError(f"NCCL 2.17 or later cannot be loaded: {error}") from None
    return library


class NcclLink:
    """`ascendctl.netloader.engine.links.contract.Link` over NCCL."""

    kind = "nccl"

    def __init__(self, store: Store, rank: int, device: torch.device, timeout_s: float) -> None:
        """Open it, the connections of both GPUs included, within ``timeout_s``: `LinkTimeout`, `LinkError`.

        The unique id travels through ``store`` (the group's part of it).
        """
        deadline = time.monotonic() + timeout_s
        self.device = device
        self._peer = 1 - rank
        self._nccl = _library()
        self._lock = threading.RLock()
        self._cause: str | None = None
        self._under_way: set[_NcclPending] = set()
        self._comm = ctypes.c_void_p()
        self._stream = torch.cuda.Stream(device)
        unique = self._agreed_id(store, rank, timeout_s)
        config = _Config(ctypes.sizeof(_Config), 0xCAFEBEEF, 21700, 0, *[_UNDEFINED_INT] * 3, None)
        try:
            with torch.cuda.device(device):
                code = self._nccl.ncclCommInitRankConfig(
                    ctypes.byref(self._comm), 2, unique, rank, ctypes.byref(config)
                )
            self._settle(code, deadline, "forming the group of two")
            # The GPUs connect at the first transfer, which waits for the other end: so it is made here.
            nothing = torch.zeros(1, dtype=torch.uint8, device=device)
            first = self._start(nothing, sends=rank == 1, deadline=deadline)
            first.wait(max(deadline - time.monotonic(), 0.001))
        except LinkError:
            self.abort("not opened")
            raise

    def send(self, data: torch.Tensor) -> Pending:
        """Start to send ``data`` (see the contract)."""
        return self._start(checked(data, self.device), sends=True)

    def receive(self, into: torch.Tensor) -> Pending:
        """Start to receive into ``into`` (see the contract)."""
        return self._start(checked(into, self.device), sends=False)

    def abort(self, reason: str = "aborted") -> None:
        """End every wait at once with `LinkBroken`: NCCL's kernels are told to stop."""
        with self._lock:
            self._cause = self._cause or reason
            comm, self._comm = self._comm, ctypes.c_void_p()
            if comm:
                with torch.cuda.device(self.device):
                    self._nccl.ncclCommAbort(comm)

    def close(self) -> None:
        """End the communicator; transfers under way are aborted."""
        with self._lock:
            # A communicator that is to end well waits for its peer to end it as well; this one must not.
            self.abort("closed")
            self._under_way.clear()

    def failure(self) -> str | None:
        """Why the link cannot be used any more; None while it can. Asks NCCL."""
        with self._lock:
            if self._cause is None and self._comm:
                state = ctypes.c_int(_SUCCESS)
                code = self._nccl.ncclCommGetAsyncError(self._comm, ctypes.byref(state))
                bad = next((c for c in (code, state.value) if c not in (_SUCCESS, _IN_PROGRESS)), None)
                if bad is not None:
                    self._cause = f"NCCL: {self._words(bad)}"
            return self._cause

    def drained(self, done: torch.cuda.Event) -> None:
        """After an abort: return when the GPU no longer works on the transfer that ends with ``done``."""
        deadline = time.monotonic() + _DRAIN_S
        try:
            while not done.query() and time.monotonic() < deadline:
                time.sleep(_LOOK_LATER_S)
        except RuntimeError:
            return

    def ended(self, pending: _NcclPending) -> None:
        """A transfer is over, well or not."""
        with self._lock:
            self._under_way.discard(pending)

    def _start(self, data: torch.Tensor, *, sends: bool, deadline: float | None = None) -> Pending:
        deadline = deadline or time.monotonic() + _DRAIN_S
        with self._lock, torch.cuda.device(self.device):
            if self.failure() is not None or not self._comm:
                raise LinkBroken(f"the nccl link is not usable any more: {self._cause}")
            self._stream.wait_stream(torch.cuda.current_stream(self.device))
            call = self._nccl.ncclSend if sends else self._nccl.ncclRecv
            code = call(
                data.data_ptr(), data.numel(), _UINT8, self._peer, self._comm, self._stream.cuda_stream
            )
        self._settle(code, deadline, "starting a transfer")
        done = torch.cuda.Event()
        done.record(self._stream)
        pending = _NcclPending(self, done, data, "send" if sends else "receive")
        with self._lock:
            self._under_way.add(pending)
        return pending

    def _settle(self, code: int, deadline: float, what: str) -> None:
        """Wait until NCCL has taken a call; `LinkTimeout` or `LinkBroken` if it does not."""
        pause_s = _LOOK_FIRST_S
        while code == _IN_PROGRESS:
            if time.monotonic() > deadline:
                raise LinkTimeout(f"{what}: the other end did not take part in time")
            state = ctypes.c_int(_SUCCESS)
            with self._lock:
                if not self._comm:
                    raise LinkBroken(f"{what}: {self._cause}")
                code = self._nccl.ncclCommGetAsyncError(self._comm, ctypes.byref(state))
            code = code or state.value
            if code == _IN_PROGRESS:
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LOOK_LATER_S)
        if code != _SUCCESS:
            cause = f"{what}: NCCL: {self._words(code)}"
            self.abort(cause)
            raise LinkBroken(cause)

    def _agreed_id(self, store: Store, rank: int, timeout_s: float) -> _UniqueId:
        unique = _UniqueId()
        if rank == 0:
            code = self._nccl.ncclGetUniqueId(ctypes.byref(unique))
            if code != _SUCCESS:
                raise LinkError(f"NCCL cannot listen for the other end: {self._words(code)}")
            store.set("nccl_id", bytes(unique).hex())
            return unique
        try:
            return _UniqueId.from_buffer_copy(bytes.fromhex(bytes(store.get("nccl_id")).decode()))
        except RuntimeError:
            raise LinkTimeout(f"the joiner did not come to the NCCL group within {timeout_s:.0f} s") from None

    def _words(self, code: int) -> str:
        said: Any = self._nccl.ncclGetErrorString(code)
        return f"{said.decode() if said else 'unknown'} ({code}); NCCL_DEBUG=WARN says more"


class _NcclPending:
    """One transfer of an `NcclLink`."""

    def __init__(self, link: NcclLink, done: torch.cuda.Event, data: torch.Tensor, verb: str) -> None:
        self._link = link
        self._done = done
        self._data = data
        self._verb = verb
        self._over = False

    def wait(self, timeout_s: float) -> None:
        if self._over:
            return
        now = time.monotonic()
        deadline = now + timeout_s
        ask_at = now + _ASK_NCCL_EVERY_S
        pause_s = _LOOK_FIRST_S
        try:
            while not self._query():
                now = time.monotonic()
                if now >= ask_at:
                    ask_at = now + _ASK_NCCL_EVERY_S
                    if (cause := self._link.failure()) is not None:
                        raise LinkBroken(cause)
                if now >= deadline:
                    raise LinkTimeout(
                        f"the other end did not take part in a {self._verb} of {self._data.numel()} bytes "
                        f"within {timeout_s:.1f} s"
                    )
                time.sleep(pause_s)
                pause_s = min(1.25 * pause_s, _LOOK_LATER_S)
            # An aborted kernel ends like one that is done.
            if (cause := self._link.failure()) is not None:
                raise LinkBroken(cause)
        except LinkError as error:
            self._link.abort(str(error))
            self._link.drained(self._done)
            raise
        finally:
            self._link.ended(self)
        self._over = True

    def _query(self) -> bool:
        try:
            return bool(self._done.query())
        except RuntimeError as error:
            raise LinkBroken(f"CUDA: {str(error).splitlines()[0]}") from None
