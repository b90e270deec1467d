"""Lengths of time as a person reads them."""

from __future__ import annotations

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400


def span_text(seconds: float) -> str:
    """``42 s``, ``9 min 40 s``, ``3 h 20 min``, ``12 days 4 h``."""
    whole = round(seconds)
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return _two(whole, MINUTE_S, "min", 1, "s")
    if whole < 2 * DAY_S:
        return _two(whole, HOUR_S, "h", MINUTE_S, "min")
    return _two(whole, DAY_S, "days", HOUR_S, "h")


def _two(whole: int, large_s: int, large: str, small_s: int, small: str) -> str:
    rest = whole % large_s // small_s
    return f"{whole // large_s} {large}" + (f" {rest} {small}" if rest else "")
