"""Findings that the inventory accepts until a date, with a reason: shown and counted, not failing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ascendctl.results import Result, Status, SubjectKind


@dataclass(frozen=True)
class WaiverRule:
    """Which findings are accepted. ``device`` None = every cell of the check on these hosts.

    ``until`` is the last day on which it holds.
    """

    check: str
    hosts: frozenset[str]
    device: int | None
    until: dt.date
    reason: str

    def covers(self, result: Result) -> bool:
        return (
            result.check == self.check
            and result.subject.host in self.hosts
            and self.device in (None, result.subject.device)
        )


def apply_waivers(
    results: Iterable[Result], waivers: Sequence[WaiverRule], today: dt.date
) -> tuple[Result, ...]:
    """Turn waived failures into ``waived``; a failure whose only waivers have expired says so.

    Only ``fail`` is waivable: a warning or something not looked at never becomes better by it. What a
    waived fault of a whole host hid was therefore not evaluated; on a device the fault was accepted
    together with what it means for the same device.
    """
    judged = tuple(_waive(result, waivers, today) for result in results)
    waived_hosts = {
        result.key
        for result in judged
        if result.status is Status.WAIVED and result.subject.kind is not SubjectKind.DEVICE
    }
    return tuple(
        replace(result, root_fails=False) if result.caused_by in waived_hosts else result for result in judged
    )


def _waive(result: Result, waivers: Sequence[WaiverRule], today: dt.date) -> Result:
    if result.status is not Status.FAIL:
        return result
    rules = [rule for rule in waivers if rule.covers(result)]
    if not rules:
        return result
    rule = max(rules, key=lambda rule: rule.until)
    if rule.until < today:
        note = f"the waiver until {rule.until} has expired: {rule.reason}"
        return replace(result, message=f"{result.message} ({note})")
    note = f"waived until {rule.until}: {rule.reason}"
    return replace(result, status=Status.WAIVED, message=f"{result.message} ({note})")
