"""The pre-flight on the hosts, before engines are started: `judging` is the way in."""

from ascendctl.netloader.preflight.judging import PREFLIGHT_CHECKS, judge, preflight

__all__ = ["PREFLIGHT_CHECKS", "judge", "preflight"]
