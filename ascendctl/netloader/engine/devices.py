"""What a thread has to know of the device whose tensors it touches; nothing on a CPU."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch


def on_device(device: torch.device) -> AbstractContextManager[Any]:
    """Makes ``device`` the current one of this thread for a block (a thread begins with device 0)."""
    if device.type == "cpu":
        return contextlib.nullcontext()
    chosen: AbstractContextManager[Any] = getattr(torch, device.type).device(device)
    return chosen


def finish(device: torch.device) -> None:
    """Waits for the work queued on this thread's stream, so that other threads see its results."""
    if device.type != "cpu":
        getattr(torch, device.type).current_stream(device).synchronize()
