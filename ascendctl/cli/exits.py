"""How a command ends when it cannot do its job: a sentence on stderr and the design's exit code."""

from __future__ import annotations


class Refused(Exception):
    """Usage, inventory or plan error: printed without a traceback, exit code 2.

    ``problems`` say what, where, what was expected and what to do.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
