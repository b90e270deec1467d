"""What a reader is: the function for one command's answer, and when it may read at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ascendctl.parsers.command import Asked
from ascendctl.parsers.text import Output


def _never(output: Output) -> bool:
    return False


@dataclass(frozen=True)
class Reader:
    """``read`` gives the facts or raises ``Unparsed`` or ``NoData``.

    ``whole_all_the_same``: whether an answer counts although the tool reports failure beside it.
    ``foreign_text``: the answer is somebody else's words, which may look like an error text.
    ``blank_answers``: an answer of blank lines means something; ``empty_answers``: one of no bytes does.
    """

    read: Callable[[Asked, Output], Any]
    whole_all_the_same: Callable[[Output], bool] = _never
    foreign_text: bool = False
    blank_answers: bool = False
    empty_answers: bool = False
