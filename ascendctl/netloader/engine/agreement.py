"""What all ranks that load one model together tell each other, through a group of torch.distributed."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Told = TypeVar("Told")


class AgreementError(RuntimeError):
    """The other ranks did not say what they hold: one is lost, or later than the group's own timeout."""


def ranks_of(group: ProcessGroup | None) -> int:
    """How many ranks are in ``group``; None is one rank alone."""
    return 1 if group is None else int(torch.distributed.get_world_size(group))


def told_by_all(own: Told, group: ProcessGroup | None) -> tuple[Told, ...]:
    """What each rank of ``group`` (gloo, as vLLM's CPU groups are) passed here, in its order; ``own`` alone
    where there is no group, or no other rank in it.

    Every rank has to call it, as often as the others. It ends by itself: a rank that is lost closes its
    connections, and one that never comes costs the group's timeout (30 minutes where none was set, as torch
    and vLLM do; a rank may rightly be that much later, with a slower source). Raises AgreementError.
    """
    count = ranks_of(group)
    if group is None or count == 1:
        return (own,)
    told: list[Told | None] = [None] * count
    try:
        torch.distributed.all_gather_object(told, own, group=group)
    except (RuntimeError, ValueError) as error:
        raise AgreementError(f"the ranks of this engine could not agree on their weights: {error}") from None
    return tuple(one for one in told if one is not None)
