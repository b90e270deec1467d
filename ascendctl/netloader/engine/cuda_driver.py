"""CUDA's driver, called directly where torch has no function for it, or takes too long."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator
from functools import cache

import torch


class IpcMemHandle(ctypes.Structure):
    """``CUipcMemHandle`` of cuda.h."""

    _fields_ = (("reserved", ctypes.c_byte * 64),)


@cache
def libcuda() -> ctypes.CDLL:
    """The library, its functions typed as in cuda.h. Raises OSError where it cannot be loaded."""
    cuda = ctypes.CDLL("libcuda.so.1")
    address, size, pointer, count = ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_uint
    cuda.cuMemAlloc_v2.argtypes = [ctypes.POINTER(address), size]
    cuda.cuMemFree_v2.argtypes = [address]
    cuda.cuIpcGetMemHandle.argtypes = [ctypes.POINTER(IpcMemHandle), address]
    cuda.cuIpcOpenMemHandle_v2.argtypes = [ctypes.POINTER(address), IpcMemHandle, count]
    cuda.cuIpcCloseMemHandle.argtypes = [address]
    cuda.cuMemcpyDtoDAsync_v2.argtypes = [address, address, size, pointer]
    cuda.cuLaunchKernel.argtypes = [pointer, *[count] * 7, pointer, ctypes.POINTER(pointer), pointer]
    return cuda


_thread = threading.local()


@contextlib.contextmanager
def current(device: torch.device) -> Iterator[None]:
    """Makes torch's context on ``device`` (one with an index) that of the calling thread, for a block."""
    if device == getattr(_thread, "bound", None) and torch.cuda.current_device() == device.index:
        yield
        return
    with torch.cuda.device(device):
        # Only a call that the runtime passes on makes a context current in a thread that has none.
        torch.cuda.current_stream(device).query()
        _thread.bound = device
        yield
