"""What leads to what: remedies per finding, HCCL and HIXL error codes. Data, in our own words."""

from __future__ import annotations

from ascendctl.knowledge.codes import CODES, Cause, ErrorCode
from ascendctl.knowledge.findings import ADVICE, Advice


def advice(finding: str) -> Advice:
    """Consequence and remedy of one kind of finding (``link/down``). KeyError for an unknown one."""
    return ADVICE[finding]


def explain(topic: str) -> ErrorCode | None:
    """What is known of an error code, in any spelling of upper and lower case; None = not known."""
    return CODES.get(topic.strip().upper())


__all__ = ["ADVICE", "CODES", "Advice", "Cause", "ErrorCode", "advice", "explain"]
