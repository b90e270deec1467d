"""What a run says of the causes of one error code. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from ascendctl.knowledge import Cause, ErrorCode
from ascendctl.results import Result, Status

_FOUND = (Status.FAIL, Status.WARN, Status.ERROR, Status.WAIVED)


class CauseState(str, Enum):
    """What became of looking for a cause."""

    FOUND = "found"
    NOT_LOOKED = "could not be looked at everywhere"
    FINE = "looked for, and fine"
    NOT_APPLICABLE = "does not apply here"
    NO_CHECK = "cannot be seen from outside"


@dataclass(frozen=True)
class LookedFor:
    """One cause, and what was found of it. ``cells``: those of its checks, and what explains them."""

    cause: Cause
    state: CauseState
    cells: tuple[Result, ...]


def look_for(code: ErrorCode, results: Sequence[Result]) -> tuple[LookedFor, ...]:
    """Every cause of a code, in its order.

    A cause is found where one of its checks fails or warns, also where that is waived, or where another
    failure explains its cell away; it is fine only where every cell that was wanted has been looked at.
    """
    return tuple(_looked_for(cause, results) for cause in code.causes)


def cells_of(checks: Iterable[str], results: Sequence[Result]) -> tuple[Result, ...]:
    """The cells of some checks and the cells that explain them, in the order of the results."""
    wanted = set(checks)
    own = [cell for cell in results if cell.check in wanted]
    causes = {cell.caused_by for cell in own if cell.caused_by is not None}
    return tuple(cell for cell in results if cell.check in wanted or cell.key in causes)


def _looked_for(cause: Cause, results: Sequence[Result]) -> LookedFor:
    if not cause.checks:
        return LookedFor(cause, CauseState.NO_CHECK, ())
    cells = cells_of(cause.checks, results)
    return LookedFor(cause, _state(cells), cells)


def _state(cells: Sequence[Result]) -> CauseState:
    wanted = [cell for cell in cells if cell.wanted]
    if any(cell.status in _FOUND for cell in wanted):
        return CauseState.FOUND
    if any(not cell.evaluated for cell in wanted):
        return CauseState.NOT_LOOKED
    if wanted:
        return CauseState.FINE
    return CauseState.NOT_APPLICABLE if cells else CauseState.NOT_LOOKED
