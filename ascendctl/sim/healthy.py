"""Healthy clusters of A2 and A3 servers, as their hosts, leaf switches and super pods are laid out.

The rules that hold in them (addresses, super pod ids) are this module's own reading of the vendor's
documents, on purpose shared with nothing else in the project.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from ascendctl.sim import counters, optical
from ascendctl.sim.model import (
    Cluster,
    Die,
    Hccs,
    Host,
    Neighbour,
    Port,
    SuperPodIds,
    hccn_conf_of,
    vnic_of,
)

SUPER_POD_SIZE = 384
_A2_DEVICES, _A3_DEVICES = 8, 16
_FIRST_ADDRESS = 11  # the last number of the first port's address in a segment


@dataclass(frozen=True)
class Layout:
    """How hosts are joined.

    ``leaf_per_rail``: every device index has a leaf switch of its own; otherwise one of a host's dies
    (A2: all of them). ``roce`` False: no RoCE port is cabled or has an address (A3).
    """

    hosts_per_leaf: int = 16
    leaf_per_rail: bool = False
    hosts_per_segment: int = 1
    hosts_per_super_pod: int = 48
    roce: bool = True

    def leaf(self, generation: str, host: int, device: int) -> int:
        """The number of the leaf switch, from 1, behind a device; A3 has one per plane without rails."""
        leaves = _DEVICES[generation] if self.leaf_per_rail else _PLANES[generation]
        return leaves * (host // self.hosts_per_leaf) + device % leaves + 1


_DEVICES = {"a2": _A2_DEVICES, "a3": _A3_DEVICES}
_PLANES = {"a2": 1, "a3": 2}  # how many RoCE segments a host has
_FIRST_NET = {"a2": 20, "a3": 30}


def build(
    generation: str,
    host_names: tuple[str, ...],
    seed: int = 0,
    latency_s: float = 0.0,
    layout: Layout | None = None,
    background_loss: float = 0.0,
) -> Cluster:
    """A healthy cluster of ``a2`` or ``a3`` servers. Hosts in the order of their names."""
    make = {"a2": _a2_host, "a3": _a3_host}[generation]
    hosts = tuple(
        make(name, number, layout or Layout(), random.Random(f"{seed} {name}"), f"{seed} {name} ports")
        for number, name in enumerate(host_names)
    )
    return Cluster(hosts, seed, latency_s, background_loss=background_loss)


_A2_BUSES = ("C1", "C2", "81", "82", "01", "02", "41", "42")
_A3_BUSES = tuple(f"{0x9D - 4 * npu + 2 * chip:02X}" for npu in range(8) for chip in range(2))


def _a2_host(name: str, number: int, layout: Layout, dice: random.Random, port_seed: str) -> Host:
    """Eight NPUs; all RoCE ports of the server in one segment with its gateway."""
    port_dice = random.Random(port_seed)
    dies = []
    for phy_id in range(_A2_DEVICES):
        die = Die(
            npu_id=phy_id,
            chip_id=0,
            phy_id=phy_id,
            logic_id=phy_id,
            name="910B3",
            bus_id=f"0000:{_A2_BUSES[phy_id]}:00.0",
            power_w=dice.randrange(880, 1030) / 10,
            temperature_c=dice.randrange(36, 48),
            hbm_used_mib=dice.randrange(3380, 3600),
            hccs=_busy_hccs(dice),
            port=_port(port_dice, "a2", number, phy_id, layout),
        )
        dies.append(replace(die, vnic=vnic_of(die)))
    return _host(name, number, "a2", tuple(dies))


def _a3_host(name: str, number: int, layout: Layout, dice: random.Random, port_seed: str) -> Host:
    """Eight NPUs of two dies in one super pod; the dies of an NPU in two RoCE segments (planes)."""
    port_dice = random.Random(port_seed)
    pod, server = divmod(number, layout.hosts_per_super_pod)
    dies = []
    for phy_id in range(_A3_DEVICES):
        npu_id, chip_id = divmod(phy_id, 2)
        sdid = server << 22 | npu_id << 18 | chip_id << 16 | phy_id
        die = Die(
            npu_id=npu_id,
            chip_id=chip_id,
            phy_id=phy_id,
            logic_id=phy_id,
            name="Ascend910",
            bus_id=f"0000:{_A3_BUSES[phy_id]}:00.0",
            power_w=dice.randrange(1650, 1860) / 10 if chip_id == 0 else None,
            temperature_c=dice.randrange(36, 54),
            hbm_used_mib=dice.randrange(2880, 3430),
            hccs=_busy_hccs(dice),
            port=_port(port_dice, "a3", number, phy_id, layout) if layout.roce else _UNUSED_PORT,
            super_pod=SuperPodIds(sdid, SUPER_POD_SIZE, pod, server),
        )
        dies.append(replace(die, vnic=vnic_of(die)))
    return _host(name, number, "a3", tuple(dies))


def _host(name: str, number: int, generation: str, dies: tuple[Die, ...]) -> Host:
    address = f"10.10.{number // 250}.{number % 250 + 1}"
    return Host(
        name=name,
        generation=generation,
        dies=dies,
        hccn_conf=hccn_conf_of(dies),
        phy_ids=tuple(die.phy_id for die in dies),
        nic_address=address,
        hostname_addresses=(address,),
    )


_UNUSED_PORT = Port(link_up=False, optical=None)  # no cable, no module, no address


def _port(dice: random.Random, generation: str, number: int, phy_id: int, layout: Layout) -> Port:
    """What hccn_tool says of an optical module comes in an older and, on A3, a newer form."""
    leaf = layout.leaf(generation, number, phy_id)
    return Port(
        **_settings(generation, number, phy_id, layout.hosts_per_segment),
        mac=f"02:5a:{number >> 8:02x}:{number & 255:02x}:00:{phy_id:02x}",
        leaf=_leaf_name(leaf),
        neighbour=_neighbour(leaf, number % layout.hosts_per_leaf, phy_id),
        optical=optical.healthy(dice, f"SIM{number:05d}{phy_id:05d}", newer_tool=generation == "a3"),
        link_history=counters.healthy_history(dice),
        statistics=counters.healthy_statistics(dice),
    )


def _settings(generation: str, number: int, phy_id: int, hosts_per_segment: int) -> dict[str, Any]:
    """Address, netmask and gateway of a port: on A3 each die of an NPU has a segment of its own."""
    planes = _PLANES[generation]
    segment_number, host_in_segment = divmod(number, hosts_per_segment)
    net = _FIRST_NET[generation] + planes * (segment_number // 250) + phy_id % planes
    segment = f"10.{net}.{segment_number % 250 + 1}"
    ports_per_host = _DEVICES[generation] // planes
    address = _FIRST_ADDRESS + host_in_segment * ports_per_host + phy_id // planes
    return {
        "address": f"{segment}.{address}",
        "netmask": "255.255.255.0",
        "gateway": f"{segment}.1",
        "netdetect": f"{segment}.1",
        "wire": f"{segment}.0/24",
    }


def _leaf_name(leaf: int) -> str:
    return f"leaf-{leaf:02d}"


def _neighbour(leaf: int, host_on_leaf: int, phy_id: int) -> Neighbour:
    return Neighbour(
        chassis_mac=f"02:1e:af:00:{leaf >> 8:02x}:{leaf & 255:02x}",
        port=f"400GE1/{1 + phy_id // 2}/{1 + host_on_leaf}:{1 + phy_id % 2}",
        system_name=_leaf_name(leaf),
        description=(
            "Simulated Network Operating System\n"
            "Version 1.0 (data centre leaf)\n"
            "\n"
            "Routing and Switching Platform\n"
            f"{_leaf_name(leaf)}"
        ),
        management_address=f"10.11.{leaf // 250}.{leaf % 250 + 1}",
    )


def _busy_hccs(dice: random.Random) -> Hccs:
    def packets() -> tuple[int, ...]:
        return tuple(dice.randrange(10**8, 4 * 10**9) for _ in range(7))

    return Hccs(sent_packets=packets(), received_packets=packets())
