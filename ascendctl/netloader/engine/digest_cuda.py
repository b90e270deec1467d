"""The sketches of `digest` on an NVIDIA GPU in one pass over the bytes.

torch's own operations read and write 32 MiB blocks eight times for them; this kernel reads every byte once.
It is launched through CUDA's driver, since what torch does around such a launch takes longer than the kernel.

It is compiled by the NVRTC that torch brings along, by a function of torch that is not promised to stay
(``torch.cuda._compile_kernel``, since torch 2.9): where it is missing or fails, or where its result on a
sample is not the elementwise one, `kernel` gives None and the elementwise way is taken.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable
from typing import Any, Final

import torch

from ascendctl.netloader.engine.cuda_driver import current, libcuda
from ascendctl.netloader.engine.manifest import ROW_BYTES

_ROW_WORDS: Final = ROW_BYTES // 8
_WARPS: Final = 8
MOST_BYTES: Final = 2**31 - ROW_BYTES
"""The kernel counts in 32 bits; a chunk has at most 128 MiB."""

_SOURCE: Final = """
extern "C" __global__ void sketch_rows(const unsigned char* data, int nbytes, const long long* low,
                                       const long long* high, long long* a, long long* b, int rows)
{
    // One warp for each row of 512 words; rows behind the data are zeros.
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    int lane = threadIdx.x % 32;
    if (row >= rows) return;
    unsigned long long sum_a = 0, sum_b = 0;
    long long first = (long long)row * 4096;
    if (first + 4096 <= nbytes && (unsigned long long)data % 8 == 0) {
        const long long* words = (const long long*)(data + first);
        #pragma unroll
        for (int k = 0; k < 16; k++) {
            int j = k * 32 + lane;
            long long x = words[j];
            sum_a += (unsigned long long)low[j] * (unsigned long long)x;
            sum_b += (unsigned long long)high[j] * (unsigned long long)(x >> 32);
        }
    } else if (first < nbytes) {
        // The last row, and bytes that do not begin at a word.
        for (int j = lane; j < 512; j += 32) {
            unsigned long long x = 0;
            for (int k = 0; k < 8; k++) {
                long long at = first + 8 * j + k;
                if (at < nbytes) x |= (unsigned long long)data[at] << (8 * k);
            }
            sum_a += (unsigned long long)low[j] * x;
            sum_b += (unsigned long long)high[j] * (unsigned long long)((long long)x >> 32);
        }
    }
    for (int step = 16; step > 0; step /= 2) {
        sum_a += __shfl_down_sync(0xffffffffu, sum_a, step);
        sum_b += __shfl_down_sync(0xffffffffu, sum_b, step);
    }
    if (lane == 0) { a[row] = sum_a; b[row] = sum_b; }
}
"""

Weights = tuple[torch.Tensor, torch.Tensor]

_Parameters = ctypes.c_void_p * 7


class Kernel:
    """The compiled kernel, for tensors of one device."""

    def __init__(self, compiled: Any, device: torch.device) -> None:
        self._compiled = compiled  # owns the module that the function is part of
        self._function = ctypes.c_void_p(compiled.func.value)
        self._driver = libcuda()
        self.device = device

    def sketches(self, data: torch.Tensor, first: Weights, second: Weights) -> torch.Tensor:
        """Those of the second level of 1-D uint8 ``data`` of at most `MOST_BYTES`: int64 of shape
        [2, 2 * groups], on its device and in the order of the current stream.

        ``first``, ``second``: the weights of A and B of either level. Raises RuntimeError when the driver
        refuses.
        """
        groups = -(-data.numel() // (ROW_BYTES * _ROW_WORDS))
        lanes = torch.empty(2, groups * _ROW_WORDS, dtype=torch.int64, device=data.device)
        result = torch.empty(2, 2 * groups, dtype=torch.int64, device=data.device)
        if groups:
            with current(self.device):
                stream = torch.cuda.current_stream(self.device).cuda_stream
                self._launch(stream, data, data.numel(), first, lanes)
                self._launch(stream, lanes, lanes.nbytes, second, result)
        return result

    def _launch(
        self, stream: int, data: torch.Tensor, nbytes: int, weights: Weights, into: torch.Tensor
    ) -> None:
        rows = into.shape[1]
        begin = into.data_ptr()
        low, high = weights
        values = (
            ctypes.c_uint64(data.data_ptr()),
            ctypes.c_int(nbytes),
            ctypes.c_uint64(low.data_ptr()),
            ctypes.c_uint64(high.data_ptr()),
            ctypes.c_uint64(begin),
            ctypes.c_uint64(begin + 8 * rows),
            ctypes.c_int(rows),
        )
        parameters = _Parameters(*map(ctypes.addressof, values))
        code = self._driver.cuLaunchKernel(
            self._function,
            *(-(-rows // _WARPS), 1, 1),
            *(32 * _WARPS, 1, 1),
            *(0, stream, parameters, None),
        )
        if code != 0:
            raise RuntimeError(f"cuLaunchKernel: CUDA error {code}")


Check = Callable[[Kernel], bool]
_lock = threading.Lock()
_kernels: dict[torch.device, Kernel | None] = {}


def kernel(device: torch.device, is_right: Check) -> Kernel | None:
    """The kernel for ``device`` where it can be had and ``is_right`` says so. The first call compiles it,
    which takes about a second."""
    with _lock:
        if device not in _kernels:
            _kernels[device] = _compiled(device, is_right)
        return _kernels[device]


def _compiled(device: torch.device, is_right: Check) -> Kernel | None:
    try:
        with current(device):
            compiled = Kernel(torch.cuda._compile_kernel(_SOURCE, "sketch_rows"), device)
            if is_right(compiled):
                return compiled
        reason = "its result on a sample is wrong"
    except Exception as error:  # torch promises nothing of this function; the slower way is as good
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    logging.getLogger(__name__).warning(
        "digests on %s take the slower way: no fused kernel (%s)", device, reason
    )
    return None
