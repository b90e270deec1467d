"""Instances by the names that a person calls them by: ``NAME``, ``NAME/INSTANCE`` or ``INSTANCE``. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ascendctl.netloader.deployment_state import Life
from ascendctl.netloader.plan import PlanError, Role
from ascendctl.netloader.runs import Standing

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?")


def may_be_a_name(text: str) -> bool:
    """Whether a text can be the name of a deployment or instance; ``10.0.0.1:8000`` and URLs cannot."""
    return _NAME.fullmatch(text) is not None


def reference_of(text: str, standings: Sequence[Standing]) -> Standing:
    """The one that a name means as the right one: of a deployment its seed. Raises PlanError."""
    found = _named(text, standings)
    seeds = [one for one in found if one.instance is not None and one.instance.role is Role.SEED]
    chosen = found if len(found) == 1 else seeds
    if len(chosen) != 1:
        names = ", ".join(_full(one) for one in (chosen or found))
        raise PlanError([f"{text} may mean {names}: name one of them"])
    return _answering(text, chosen)[0]


def candidates_of(text: str, standings: Sequence[Standing], reference: str = "") -> tuple[Standing, ...]:
    """Those that a name means as the ones to compare: of a deployment all but the one at the URL
    ``reference``. Raises PlanError, also where one of them does not answer now."""
    found = [one for one in _named(text, standings) if one.url != reference]
    if not found:
        raise PlanError([f"{text}: there is nothing beside the reference to compare with it"])
    return _answering(text, found)


def _named(text: str, standings: Sequence[Standing]) -> list[Standing]:
    found = [one for one in standings if text in (one.seen.deployment, one.seen.instance, _full(one))]
    if not found:
        known = ", ".join(dict.fromkeys(one.seen.deployment for one in standings))
        there = f"what stands there is {known}" if known else "nothing stands there"
        raise PlanError([f"{text} is no deployment or instance on the hosts that were asked; {there}"])
    return found


def _answering(text: str, found: Sequence[Standing]) -> tuple[Standing, ...]:
    dumb = [one for one in found if not one.url or one.seen.life is not Life.RUNNING]
    if dumb:
        raise PlanError(
            [
                f"{text}: {_full(one)} on {one.host} {one.seen.life.value}: {one.reason or one.seen.reason}"
                for one in dumb
            ]
        )
    return tuple(found)


def _full(one: Standing) -> str:
    return f"{one.seen.deployment}/{one.seen.instance}"
