"""The topology as JSON, for other programs.

``format`` is 1; a later format only adds fields. Null = not set, not heard or not learned; nothing is left
out. Statuses are words of `ascendctl.report.marks`.

- ``hosts``: name, generation, ``told`` (whether it told of its devices), status, ``membership`` (member,
  outside, none, unknown), super_pod, server_index, ``checks`` (ids of the checks that are not well on the
  host as a whole), devices.
- ``devices`` of a host: device (physical id), npu, chip, status, checks, ``scale_up`` (address of the vNIC,
  up, sdid) and ``scale_out`` (address, segment, gateway, link_up, switch, switch_port, status).
- ``super_pods``: id, status, hosts. ``switches``: name, status, ports (host, device, switch_port).
- ``segments``: network, ports. ``rails``: device, hosts, switches.
- ``verdicts``: number, the component at fault, message, confidence, and what the picture marks for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ascendctl.report.printable import storable
from ascendctl.report.topology_view import Callout, HostView, Membership, TopologyView
from ascendctl.results import Component, Result
from ascendctl.topology.fabric import Port, PortId

FORMAT = 1


def topology_json(view: TopologyView) -> str:
    """The whole topology with what was found on it."""
    document = {
        "format": FORMAT,
        "hosts": [_host(host, view) for host in view.hosts],
        "super_pods": [
            {
                "id": group.super_pod,
                "status": group.mark.word,
                "hosts": [storable(host.name) for host in group.hosts],
            }
            for group in view.groups
            if group.membership is Membership.MEMBER
        ],
        "switches": [
            {
                "name": storable(switch.name),
                "status": switch.mark.word,
                "ports": [
                    {**_place(port.id), "switch_port": _text(port.switch_port)} for port in switch.ports
                ],
            }
            for switch in view.switches
        ],
        "segments": [
            {"network": str(network), "ports": [_place(port.id) for port in ports]}
            for network, ports in view.segments.items()
        ],
        "rails": [
            {
                "device": rail.device,
                "hosts": [storable(port.id.host) for port in rail.ports],
                "switches": [storable(name) for name in rail.switches],
            }
            for rail in view.rails
        ],
        "verdicts": [_verdict(callout) for callout in view.callouts],
    }
    return json.dumps(document, indent=1, ensure_ascii=True) + "\n"


def _host(host: HostView, view: TopologyView) -> dict[str, Any]:
    generations = {port.generation.value for port in host.ports if port.generation}
    return {
        "name": storable(host.name),
        "generation": generations.pop() if len(generations) == 1 else None,
        "told": bool(host.ports),
        "status": host.mark.word,
        "membership": host.membership.value,
        "super_pod": host.super_pod,
        "server_index": host.server_index,
        "checks": _checks(view.findings.get(host.name, ())),
        "devices": [_device(port, view) for port in host.ports],
    }


def _device(port: Port, view: TopologyView) -> dict[str, Any]:
    return {
        "device": port.id.device,
        "npu": port.npu,
        "chip": port.chip,
        "status": view.device_marks[port.id].word,
        "checks": _checks(view.findings.get(port.id, ())),
        "scale_up": {"address": _text(port.vnic_address), "up": port.vnic_up, "sdid": port.sdid},
        "scale_out": {
            "address": _text(port.roce_address),
            "segment": str(port.roce_segment) if port.roce_segment else None,
            "gateway": _text(port.gateway),
            "link_up": port.link_up,
            "switch": _text(port.switch),
            "switch_port": _text(port.switch_port),
            "status": view.scale_out_marks[port.id].word,
        },
    }


def _verdict(callout: Callout) -> dict[str, Any]:
    return {
        "number": callout.number,
        "component": _component(callout.verdict.component),
        "message": storable(callout.verdict.message),
        "confidence": callout.verdict.confidence,
        "marked": {
            "devices": [_place(place) for place in sorted(callout.devices)],
            "hosts": sorted(map(storable, callout.hosts)),
            "switches": sorted(map(storable, callout.switches)),
            "super_pods": sorted(callout.super_pods),
        },
    }


def _component(component: Component) -> dict[str, Any]:
    peer = component.peer
    return {
        "kind": component.kind.value,
        "host": _text(component.host),
        "device": component.device,
        "npu": component.npu,
        "peer": {"host": storable(peer.host), "device": peer.device} if peer else None,
        "switch": _text(component.switch),
        "value": _text(component.value),
    }


def _checks(cells: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(cell.check for cell in cells))


def _place(place: PortId) -> dict[str, Any]:
    return {"host": storable(place.host), "device": place.device}


def _text(text: str | None) -> str | None:
    return None if text is None else storable(text)
