"""A plan as it is stored beside the instances, and what is wanted otherwise than it runs. Pure."""

from __future__ import annotations

import dataclasses
import json
from enum import Enum

from ascendctl.netloader.plan import Deployment, Instance, PlanError, Serving
from ascendctl.report.printable import shown

FORMAT = 1


def to_json(deployment: Deployment) -> str:
    """The plan as it is stored beside the instances; `from_json` gives the same back."""
    content = {
        "format": FORMAT,
        "fingerprint": deployment.fingerprint,
        "deployment": dataclasses.asdict(deployment),
    }
    return json.dumps(content, indent=1, ensure_ascii=True) + "\n"


def from_json(text: str) -> Deployment:
    """Raises PlanError for what is no plan of this format, or was changed after it was written."""
    from pydantic import TypeAdapter, ValidationError

    where = "the stored plan cannot be read"
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise PlanError([f"{where}: it is not valid JSON; stop the deployment and start it again"]) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        seen = shown(str(content.get("format")) if isinstance(content, dict) else type(content).__name__)
        raise PlanError(
            [f"{where}: its format is {seen}, and this ascendctl knows {FORMAT}; use the other one"]
        )
    try:
        deployment = TypeAdapter(Deployment).validate_json(json.dumps(content.get("deployment")), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        raise PlanError([f"{where}: {shown(at)}: {shown(first['msg'])}"]) from None
    if content.get("fingerprint") != deployment.fingerprint:
        raise PlanError([f"{where}: its fingerprint is not that of its content, so it was changed by hand"])
    return deployment


def differences(running: Deployment, wanted: Deployment) -> tuple[str, ...]:
    """What is wanted otherwise than it runs, one sentence each; () = the same plan. No secret is shown."""
    before = {instance.name: instance for instance in running.instances}
    after = {instance.name: instance for instance in wanted.instances}
    found = []
    if running.name != wanted.name:
        found.append(f"the deployment is {shown(running.name)}, wanted {shown(wanted.name)}")
    found += [f"{shown(name)} runs and is not wanted" for name in before if name not in after]
    found += [f"{shown(name)} is wanted and does not run" for name in after if name not in before]
    for name, old in before.items():
        if name in after:
            found += [f"{shown(name)} on {shown(old.host)}: {text}" for text in _changed(old, after[name])]
    return tuple(found)


def _changed(old: Instance, new: Instance) -> list[str]:
    before, after = _flat(old), _flat(new)
    found = []
    for label in dict.fromkeys([*before, *after]):
        if before.get(label) != after.get(label):
            if any(isinstance(flat.get(label), _Hidden) for flat in (before, after)):
                found.append(f"{label} differs")
            else:
                found.append(f"{label} is {_said(before.get(label))}, wanted {_said(after.get(label))}")
    return found


class _Hidden(str):
    """A value that is compared and never shown."""


def _flat(instance: Instance) -> dict[str, object]:
    """Every field under the name that a person knows it by."""
    flat: dict[str, object] = {"host": instance.host, "role": instance.role.value, "port": instance.port}
    flat["listen port"] = instance.listen_port
    flat["address"] = instance.place.address
    flat["devices"] = instance.place.devices_text or None
    for field in dataclasses.fields(Serving):
        if field.name not in ("port", "listen_port"):  # the instance's own are what runs
            flat[field.name.replace("_", " ")] = getattr(instance.serving, field.name)
    for rank, addresses in enumerate(instance.sources):
        flat[f"sources of rank {rank}"] = addresses
    for name, value in instance.place.variables.items():
        hidden = name in instance.place.hidden
        flat[f"environment {name}"] = _Hidden(value) if hidden else value
    return flat


def _said(value: object) -> str:
    if value is None or value == ():
        return "not set"
    if isinstance(value, Enum):
        return shown(str(value.value))
    if isinstance(value, tuple):
        return shown(" ".join(str(part) for part in value))
    return shown(str(value)) or "empty"
