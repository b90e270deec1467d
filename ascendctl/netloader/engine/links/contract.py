"""What moves bytes between the source of weights and the one who joins it: a link, one pair at a time.

A link has two ends and one direction: the source sends, the joiner receives, in the same order and with the
same sizes on both ends (both know them from the manifest). What is sent is a contiguous, one-dimensional
tensor of ``torch.uint8`` on the link's device.

Nothing here waits without a deadline, and a link that failed once stays failed: after `LinkTimeout` or
`LinkBroken` every other transfer of it raises `LinkBroken`, and the caller opens a new link. A source closes
its link only after the joiner said (over the control connection) that it has everything: a link's ``close``
does not wait for the other end.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

import torch

Role = Literal["joiner", "source"]

RANK_OF: Final[dict[Role, int]] = {"joiner": 0, "source": 1}
"""Ranks in the group of two: the joiner hosts the store and is rank 0, as vllm-ascend's ElasticClient."""

MOST_IN_FLIGHT: Final = 4
"""Transfers that one end may have posted and not yet waited for; links that stage data have so many slots."""


class LinkError(Exception):
    """A link could not be opened or used. The text says what failed and, if known, what to do."""


class LinkTimeout(LinkError):
    """The deadline passed; the other end may be alive."""


class LinkBroken(LinkError):
    """The other end is gone, the link was aborted, or an earlier transfer of it failed."""


class Pending(Protocol):
    """A transfer under way. Its tensor must neither be written nor freed before `wait` returned."""

    def wait(self, timeout_s: float) -> None:
        """Return once the data was handed over (send) or is in place and readable by any stream (receive).

        Raises `LinkTimeout` after ``timeout_s`` seconds, `LinkBroken` if the link failed or was aborted. In
        both cases nothing writes into the tensor any more when this raises.
        """


class Link(Protocol):
    """One end of an open link."""

    @property
    def kind(self) -> str:
        """Which transport this is: ``gloo``, ``nccl``, ``hccl``, ``cuda_ipc`` or ``host``."""

    @property
    def device(self) -> torch.device:
        """Where the tensors given to `send` and `receive` must be."""

    def send(self, data: torch.Tensor) -> Pending:
        """Start to send; reads ``data`` after the work queued so far on the caller's current stream."""

    def receive(self, into: torch.Tensor) -> Pending:
        """Start to receive; writes ``into`` after the work queued so far on the caller's current stream."""

    def close(self) -> None:
        """Give back what the link holds. Safe to call twice, after `abort`, and with transfers under way."""

    def abort(self, reason: str = "aborted") -> None:
        """End every wait of this link at once with `LinkBroken`; from any thread, any number of times."""


def checked(data: torch.Tensor, device: torch.device) -> torch.Tensor:
    """``data`` itself if a link on ``device`` may carry it; `ValueError` says what is wrong with it."""
    if data.dtype != torch.uint8 or data.dim() != 1 or not data.is_contiguous():
        raise ValueError(
            f"a link carries contiguous 1-D uint8 tensors, not {data.dtype} of shape {tuple(data.shape)}"
        )
    if data.numel() == 0:
        raise ValueError("a link carries no empty tensors")
    if data.device != device:
        raise ValueError(f"this link carries tensors on {device}, not on {data.device}")
    return data
