"""What a ping crosses, as numbers: the parts of the cluster that can lose packets, and their pings.

A ping crosses both its ports, NPUs and hosts; on RoCE the leaf switches of both, between two leaf switches
the uplinks of both, and what joins all leaf switches. A super pod may fall into two sides.

Parts that no ping could tell apart are one part here: an A2 port is not told from its NPU, and where a
host is in one plane only, that plane is the host.

There are tens of thousands of parts and a hundred thousand pings, so both are numbers and plain tuples in
here; `Part` is what leaves this room.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from ascendctl.topology.fabric import Fabric, Plane, Port, PortId
from ascendctl.topology.mesh import Observation


class PartKind(str, Enum):
    """What can lose packets, the smallest first."""

    PORT = "port"  # a device, in one plane or both
    LINK = "link"  # one pair of devices, both of which reach others
    NPU = "npu"  # all dies of an NPU
    HOST = "host"
    UPLINK = "uplink"  # from a leaf switch to all others
    SWITCH = "switch"  # a leaf switch as a whole
    SPLIT = "split"  # between two sets of hosts of one super pod
    SPINE = "spine"  # between all leaf switches
    PLANE = "plane"  # everything in one plane; for HCCS: in one super pod


@dataclass(frozen=True, order=True)
class Part:
    """One part. ``plane`` None = in both planes. ``key`` names it within its kind:

    port and link: PortIds; npu: host and NPU id; host: its name; uplink and switch: the switch's name;
    split: the super pod id and the hosts of the smaller side; plane: the super pod id, if it is one's.
    """

    kind: PartKind
    plane: Plane | None
    key: tuple[object, ...]


# A part as numbers: its kind, its plane (both = 2), and its place in the table of its kind.
Key = tuple[PartKind, int, int]

HCCS, ROCE, BOTH = 0, 1, 2
_PLANES: tuple[Plane | None, ...] = (Plane.HCCS, Plane.ROCE, None)
_NO_SWITCH = -1


class Ways:
    """The pings that were answered for, what each crosses, and each part's packets sent and lost.

    Pings are numbered 0.. in ``sent``, ``lost`` and ``observation``; those without a known result are left
    out. ``switches`` states the leaf switch of ports that heard none themselves.
    """

    def __init__(
        self,
        fabric: Fabric,
        observations: Sequence[Observation],
        switches: Mapping[PortId, str] | None = None,
    ) -> None:
        self.sent: list[int] = []
        self.lost: list[int] = []
        self.observation: list[Observation] = []
        self.lossy: list[int] = []
        self.counts: dict[PartKind, int] = {}
        self._ports = fabric.ports
        self._one: list[int] = []
        self._other: list[int] = []
        self._read(fabric, observations)
        self._lay_out(switches or {})
        self._sum_up()
        self._classify()

    # --- reading ----------------------------------------------------------------------------------

    def _read(self, fabric: Fabric, observations: Sequence[Observation]) -> None:
        """Number the ends: port number * 2 + plane."""
        # Plain strings and numbers as keys: looking up as many PortIds would take most of the time.
        numbers: dict[str, dict[int, int]] = defaultdict(dict)
        for number, port in enumerate(fabric.ports):
            numbers[port.id.host][port.id.device] = 2 * number
        nowhere: dict[int, int] = {}
        ends = 2 * len(fabric.ports)
        self.end_pings: list[list[int]] = [[] for _ in range(ends)]
        self._end_sent = [0] * ends
        self._end_lost = [0] * ends
        for observation in observations:
            sent, ping = observation.sent, observation.ping
            if not sent:
                continue
            one = numbers.get(ping.source.host, nowhere).get(ping.source.device)
            other = numbers.get(ping.target.host, nowhere).get(ping.target.device)
            if one is None or other is None:
                continue
            if ping.plane is Plane.ROCE:
                one, other = one + ROCE, other + ROCE
            lost = max(0, sent - (observation.received or 0))
            number = len(self.sent)
            self.sent.append(sent)
            self.lost.append(lost)
            self.observation.append(observation)
            self._one.append(one)
            self._other.append(other)
            self.end_pings[one].append(number)
            self.end_pings[other].append(number)
            self._end_sent[one] += sent
            self._end_sent[other] += sent
            if lost:
                self.lossy.append(number)
                self._end_lost[one] += lost
                self._end_lost[other] += lost

    def _lay_out(self, switches: Mapping[PortId, str]) -> None:
        """Number hosts, NPUs, switches and super pods, and say which ends each has."""
        self.host_names: list[str] = []
        self.switch_names: list[str] = []
        hosts: dict[str, int] = {}
        npus: dict[tuple[int, int], int] = {}
        by_switch: dict[str, int] = {}
        self._host_of: list[int] = []
        self._npu_of: list[int] = []
        self._switch_of: list[int] = []
        self._host_ports: list[list[int]] = []
        self._npu_ports: list[list[int]] = []
        self._switch_ports: list[list[int]] = []
        self._pod_of: list[int | None] = []
        for number, port in enumerate(self._ports):
            host = hosts.setdefault(port.id.host, len(hosts))
            if host == len(self._host_ports):
                self.host_names.append(port.id.host)
                self._host_ports.append([])
            npu = npus.setdefault((host, port.npu), len(npus))
            if npu == len(self._npu_ports):
                self._npu_ports.append([])
            name = port.switch or switches.get(port.id)
            switch = _NO_SWITCH
            if name is not None:
                switch = by_switch.setdefault(name, len(by_switch))
                if switch == len(self._switch_ports):
                    self.switch_names.append(name)
                    self._switch_ports.append([])
                self._switch_ports[switch].append(number)
            self._host_of.append(host)
            self._npu_of.append(npu)
            self._switch_of.append(switch)
            self._pod_of.append(port.super_pod)
            self._host_ports[host].append(number)
            self._npu_ports[npu].append(number)
        self._host_planes = [self._planes(ports) for ports in self._host_ports]
        self._npus_of_host = [len({self._npu_of[port] for port in ports}) for ports in self._host_ports]

    def _planes(self, ports: Iterable[int]) -> tuple[int, ...]:
        """The planes that any ping to or from these ports was sent in."""
        ports = list(ports)
        return tuple(
            plane for plane in (HCCS, ROCE) if any(self._end_sent[2 * port + plane] for port in ports)
        )

    def _sum_up(self) -> None:
        """Packets sent and lost through what has pings between its own ends: switches and larger."""
        self._shared_sent: dict[Key, int] = defaultdict(int)
        self._shared_lost: dict[Key, int] = defaultdict(int)
        sides = self._sides()
        self._splits = [(pod, hosts) for pod, hosts, _ in sides]
        # Of every side how often a group of hosts was put to it that no ping shows there.
        self.split_guesses = [guesses for _, _, guesses in sides]
        self._split_of_pod: dict[int, list[int]] = defaultdict(list)
        for number, (pod, _) in enumerate(self._splits):
            self._split_of_pod[pod].append(number)
        self._pods = sorted({pod for pod in self._pod_of if pod is not None})
        self._pod_number = {pod: number for number, pod in enumerate(self._pods)}
        # Sums per pair of switches first: there are few of them, and every ping belongs to one.
        leaves = len(self.switch_names) + 1
        pair_sent: dict[int, int] = defaultdict(int)
        pair_lost: dict[int, int] = defaultdict(int)
        for number, end in enumerate(self._one):
            if end & 1:
                pair = (
                    (self._switch_of[end >> 1] + 1) * leaves + self._switch_of[self._other[number] >> 1] + 1
                )
                pair_sent[pair] += self.sent[number]
                pair_lost[pair] += self.lost[number]
        for pair, sent in pair_sent.items():
            one, other = divmod(pair, leaves)
            for key in self._shared_roce(one - 1, other - 1):
                self._shared_sent[key] += sent
                self._shared_lost[key] += pair_lost[pair]
        pods: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        for number, end in enumerate(self._one):
            if not end & 1:
                own_pod = self._pod_of[end >> 1]
                if own_pod is None:
                    continue
                pods[own_pod][0] += self.sent[number]
                pods[own_pod][1] += self.lost[number]
                if own_pod in self._split_of_pod:
                    for key in self._splits_between(number):
                        self._shared_sent[key] += self.sent[number]
                        self._shared_lost[key] += self.lost[number]
        for pod, (sent, lost) in pods.items():
            key = (PartKind.PLANE, HCCS, self._pod_number[pod])
            self._shared_sent[key], self._shared_lost[key] = sent, lost
        both = sum(len(planes) > 1 for planes in self._host_planes)
        one_plane = len(self._host_planes) - both
        ends = sum(1 for sent in self._end_sent if sent)
        self.counts = {
            PartKind.PORT: ends,
            PartKind.LINK: len(self.sent),
            PartKind.NPU: max(1, len(self._npu_ports)),
            PartKind.HOST: one_plane + 3 * both,
            PartKind.UPLINK: len(self.switch_names),
            PartKind.SWITCH: len(self.switch_names),
            PartKind.SPLIT: len(self._pods),
            PartKind.SPINE: 1,
            PartKind.PLANE: 1 + len(self._pods),
        }

    def _classify(self) -> None:
        """Put pings that cross the same wide parts (splits, what joins switches, planes) in one class."""
        numbers: dict[tuple[Key, ...], int] = {}
        self.class_of: list[int] = []
        self.class_sums: list[list[int]] = []
        roce = (PartKind.PLANE, ROCE, 0), (PartKind.SPINE, ROCE, 0)
        for ping, end in enumerate(self._one):
            if end & 1:
                wide: tuple[Key, ...] = roce if self._between_leaves(ping) else roce[:1]
            else:
                pod = self._pod_of[end >> 1]
                number = self._pod_number.get(pod, -1) if pod is not None else -1
                wide = ((PartKind.PLANE, HCCS, number), *self._splits_between(ping))
            found = numbers.setdefault(wide, len(numbers))
            if found == len(self.class_sums):
                self.class_sums.append([0, 0])
            self.class_of.append(found)
            self.class_sums[found][0] += self.sent[ping]
            self.class_sums[found][1] += self.lost[ping]
        self.class_parts = list(numbers)
        self._classes_through: dict[Key, list[int]] = defaultdict(list)
        for keys, number in numbers.items():
            for key in keys:
                self._classes_through[key].append(number)

    def classes_through(self, key: Key) -> list[int]:
        """The classes (`class_of`) whose pings cross a wide part."""
        return self._classes_through.get(key, [])

    @cached_property
    def class_sums_of_end(self) -> list[list[tuple[int, int, int]]]:
        """For every end the classes of its pings, each with the packets sent and lost."""
        found: list[list[tuple[int, int, int]]] = []
        for pings in self.end_pings:
            sums: dict[int, list[int]] = {}
            for ping in pings:
                own = sums.setdefault(self.class_of[ping], [0, 0])
                own[0] += self.sent[ping]
                own[1] += self.lost[ping]
            found.append([(number, sent, lost) for number, (sent, lost) in sums.items()])
        return found

    def lossy_of_ends(self) -> list[int]:
        """For every end how many of its pings lost packets."""
        lossy = [0] * len(self.end_pings)
        for ping in self.lossy:
            lossy[self._one[ping]] += 1
            lossy[self._other[ping]] += 1
        return lossy

    def ends_of(self, ping: int) -> tuple[int, int]:
        """The numbers of the ends of a ping."""
        return self._one[ping], self._other[ping]

    # --- which parts ------------------------------------------------------------------------------

    def suspects(self) -> dict[Key, tuple[int, int]]:
        """Every part that a lossy ping crosses: packets sent through it, and lost."""
        found: dict[Key, tuple[int, int]] = {}
        for end in {end for ping in self.lossy for end in (self._one[ping], self._other[ping])}:
            for key in self._of_end(end):
                if key not in found:
                    found[key] = self._end_sums(key)
        for key, lost in self._shared_lost.items():
            if lost:
                found[key] = (self._shared_sent[key], lost)
        for ping in self.lossy:
            crossing = self._between(self._one[ping], self._other[ping])
            key = (PartKind.LINK, self._one[ping] & 1, crossing[0])
            if len(crossing) == 1:  # nearly always
                found[key] = self.sent[ping], self.lost[ping]
            else:
                found[key] = sum(self.sent[n] for n in crossing), sum(self.lost[n] for n in crossing)
        return found

    def parts_of(self, ping: int, *, with_link: bool = True) -> list[Key]:
        """Every part that a ping crosses; its own pair of devices only ``with_link``."""
        one, other = self._one[ping], self._other[ping]
        keys = [*self._of_end(one), *self._of_end(other)]
        if with_link:
            keys.append(self._link_of(ping))
        if one & 1:
            keys.extend(self._shared_roce(self._switch_of[one >> 1], self._switch_of[other >> 1]))
        else:
            pod = self._pod_of[one >> 1]
            if pod is not None:
                keys.append((PartKind.PLANE, HCCS, self._pod_number[pod]))
            keys.extend(self._splits_between(ping))
        return keys

    def crossing(self, key: Key) -> list[int]:
        """The pings that cross a part."""
        kind, plane, number = key
        if kind is PartKind.LINK:
            return self._between(self._one[number], self._other[number])
        if kind in (PartKind.PORT, PartKind.NPU, PartKind.HOST):
            return [ping for end in self.ends(key) for ping in self.end_pings[end]]
        if kind is PartKind.SPLIT:
            return [
                ping for ping in self._pod_pings(self._splits[number][0]) if self._splits_apart(ping, number)
            ]
        if kind is PartKind.PLANE and plane == HCCS:
            return self._pod_pings(self._pods[number])
        if kind in (PartKind.PLANE, PartKind.SPINE):
            roce = [ping for ping, end in enumerate(self._one) if end & 1]
            return roce if kind is PartKind.PLANE else [p for p in roce if self._between_leaves(p)]
        pings = []
        for port in self._switch_ports[number]:
            for ping in self.end_pings[2 * port + ROCE]:
                inside = self._switch_of[self._one[ping] >> 1] == self._switch_of[self._other[ping] >> 1]
                if not inside or (kind is PartKind.SWITCH and self._one[ping] >> 1 == port):
                    pings.append(ping)
        return pings

    def part(self, key: Key) -> Part:
        """The part under its own name."""
        kind, plane, number = key
        named: tuple[object, ...]
        if kind is PartKind.PORT:
            named = (self._ports[number].id,)
        elif kind is PartKind.LINK:
            named = tuple(
                sorted(self._ports[end >> 1].id for end in (self._one[number], self._other[number]))
            )
        elif kind is PartKind.NPU:
            port = self._ports[self._npu_ports[number][0]]
            named = (port.id.host, port.npu)
        elif kind is PartKind.HOST:
            named = (self.host_names[number],)
        elif kind in (PartKind.SWITCH, PartKind.UPLINK):
            named = (self.switch_names[number],)
        elif kind is PartKind.SPLIT:
            pod, side = self._splits[number]
            named = (pod, tuple(sorted(self.host_names[host] for host in side)))
        else:
            named = (self._pods[number],) if plane == HCCS else ()
        return Part(kind, _PLANES[plane], named)

    def ports_of(self, key: Key) -> list[Port]:
        """The ports that belong to a part; none for what lies between switches or super pod sides."""
        kind, _, number = key
        if kind in (PartKind.PORT, PartKind.NPU, PartKind.HOST):
            return [self._ports[port] for port in self._members(key)]
        if kind is PartKind.LINK:
            return [self._ports[end >> 1] for end in (self._one[number], self._other[number])]
        if kind in (PartKind.SWITCH, PartKind.UPLINK):
            return [self._ports[port] for port in self._switch_ports[number]]
        return []

    def perhaps_behind(self, key: Key) -> list[tuple[list[PortId], list[tuple[int, int]]]]:
        """Ports that hear no switch and may be on the one of this key, host by host, and their pings.

        Only devices that the switch has of other hosts. A ping comes with the number of the port's end; pings
        to ports that are on the switch are left out.
        """
        switch = key[2]
        members = self._switch_ports[switch]
        devices = {self._ports[port].id.device for port in members}
        groups = []
        for ports in self._host_ports:
            blank = [
                port
                for port in ports
                if self._switch_of[port] == _NO_SWITCH
                and self._ports[port].id.device in devices
                and self._end_sent[2 * port + ROCE]
            ]
            if not blank:
                continue
            pings = []
            for port in blank:
                end = 2 * port + ROCE
                for ping in self.end_pings[end]:
                    other = self._other[ping] if self._one[ping] == end else self._one[ping]
                    if self._switch_of[other >> 1] != switch:
                        pings.append((ping, end))
            groups.append(([self._ports[port].id for port in blank], pings))
        return groups

    def ends(self, key: Key) -> list[int]:
        """The ends of a port, NPU, host or link in the part's planes, or behind a switch."""
        if key[0] is PartKind.LINK:
            return [self._one[key[2]], self._other[key[2]]]
        if key[0] in (PartKind.SWITCH, PartKind.UPLINK):
            return [2 * port + ROCE for port in self._switch_ports[key[2]]]
        planes = (HCCS, ROCE) if key[1] == BOTH else (key[1],)
        return [2 * port + plane for port in self._members(key) for plane in planes]

    def of_end(self, end: int) -> list[Key]:
        """Every part that all pings of an end cross, whatever their other end."""
        keys = list(self._of_end(end))
        if end & 1 and self._switch_of[end >> 1] != _NO_SWITCH:
            keys.append((PartKind.SWITCH, ROCE, self._switch_of[end >> 1]))
        return keys

    def ends_within(self, key: Key, pings: Sequence[int]) -> list[int]:
        """For every ping the number of its end that belongs to the part; the sender where that is open."""
        ports = set()
        if key[0] in (PartKind.PORT, PartKind.NPU, PartKind.HOST):
            ports = set(self._members(key))
        elif key[0] in (PartKind.SWITCH, PartKind.UPLINK):
            ports = set(self._switch_ports[key[2]])
        return [
            self._other[ping]
            if self._one[ping] >> 1 not in ports and self._other[ping] >> 1 in ports
            else self._one[ping]
            for ping in pings
        ]

    # --- helpers ----------------------------------------------------------------------------------

    def _of_end(self, end: int) -> Iterator[Key]:
        """The port, NPU and host of an end, in its plane and in both where there are two."""
        port, plane = end >> 1, end & 1
        host, npu = self._host_of[port], self._npu_of[port]
        yield PartKind.PORT, plane, port
        both = bool(self._end_sent[2 * port] and self._end_sent[2 * port + 1])
        if both:
            yield PartKind.PORT, BOTH, port
        planes = self._host_planes[host]
        if len(self._npu_ports[npu]) > 1 and self._npus_of_host[host] > 1:
            yield PartKind.NPU, BOTH, npu
            if len(planes) > 1:
                yield PartKind.NPU, plane, npu
        if len(self._host_ports[host]) > 1:
            yield PartKind.HOST, BOTH, host
            if len(planes) > 1:
                yield PartKind.HOST, plane, host

    def _shared_roce(self, one: int, other: int) -> list[Key]:
        """The switches, uplinks and what is beyond them between two leaf switches."""
        keys: list[Key] = []
        for switch in {one, other} - {_NO_SWITCH}:
            keys.append((PartKind.SWITCH, ROCE, switch))
            if one != other:
                keys.append((PartKind.UPLINK, ROCE, switch))
        if one != other and len(self.switch_names) > 2:
            keys.append((PartKind.SPINE, ROCE, 0))
        if len(self.switch_names) != 1:
            keys.append((PartKind.PLANE, ROCE, 0))
        return keys

    def _between_leaves(self, ping: int) -> bool:
        return self._switch_of[self._one[ping] >> 1] != self._switch_of[self._other[ping] >> 1]

    def _link_of(self, ping: int) -> Key:
        """Pings between the same two ends are one link, named by the first of them."""
        one, other = self._one[ping], self._other[ping]
        return PartKind.LINK, one & 1, self._between(one, other)[0]

    def _between(self, one: int, other: int) -> list[int]:
        """The pings between two ends, either way."""
        if len(self.end_pings[other]) < len(self.end_pings[one]):
            one, other = other, one
        return [n for n in self.end_pings[one] if self._one[n] == other or self._other[n] == other]

    def _members(self, key: Key) -> list[int]:
        kind, _, number = key
        if kind is PartKind.PORT:
            return [number]
        return self._npu_ports[number] if kind is PartKind.NPU else self._host_ports[number]

    def _end_sums(self, key: Key) -> tuple[int, int]:
        ends = self.ends(key)
        return sum(self._end_sent[end] for end in ends), sum(self._end_lost[end] for end in ends)

    def _pod_pings(self, pod: int) -> list[int]:
        return [n for n, end in enumerate(self._one) if not end & 1 and self._pod_of[end >> 1] == pod]

    def _splits_between(self, ping: int) -> list[Key]:
        pod = self._pod_of[self._one[ping] >> 1]
        splits = self._split_of_pod.get(pod, ()) if pod is not None else ()
        return [(PartKind.SPLIT, HCCS, split) for split in splits if self._splits_apart(ping, split)]

    def _splits_apart(self, ping: int, split: int) -> bool:
        side = self._splits[split][1]
        return (self._host_of[self._one[ping] >> 1] in side) != (
            self._host_of[self._other[ping] >> 1] in side
        )

    def _sides(self) -> list[tuple[int, frozenset[int], int]]:
        """Super pods that fall apart by their HCCS pings: the hosts of every side but the largest.

        Hosts between which any packet came back belong together. A side has at least two hosts, as a single
        one is a host at fault. Groups that may be one side (`_perhaps_one_side`) are a side once more, all
        together, with the number of groups put to the first.
        """
        if not any(self.sent[n] == self.lost[n] and not self._one[n] & 1 for n in self.lossy):
            return []
        joined = list(range(len(self._host_ports)))

        def root(host: int) -> int:
            while joined[host] != host:
                joined[host] = joined[joined[host]]
                host = joined[host]
            return host

        asked: dict[int, int] = {}
        closed: list[tuple[int, int]] = []
        for number, end in enumerate(self._one):
            if end & 1:
                continue
            one, other = self._host_of[end >> 1], self._host_of[self._other[number] >> 1]
            asked[one] = asked[other] = self._pod_of[end >> 1] or 0
            if self.lost[number] < self.sent[number]:
                joined[root(one)] = root(other)
            else:
                closed.append((one, other))
        groups: dict[int, dict[int, set[int]]] = defaultdict(dict)
        for host, pod in asked.items():
            groups[pod].setdefault(root(host), set()).add(host)
        apart = {(root(one), root(other)) for one, other in closed}
        found: list[tuple[int, frozenset[int], int]] = []
        for pod, of_root in sorted(groups.items()):
            *small, _ = sorted(of_root, key=lambda at: (len(of_root[at]), sorted(of_root[at])))
            sides = [frozenset(of_root[at]) for at in small]
            found += [(pod, side, 0) for side in sides if len(side) > 1]
            for together in self._perhaps_one_side(small, of_root, apart):
                hosts = frozenset(host for at in together for host in of_root[at])
                found.append((pod, hosts, len(together) - 1))
        return found

    def _perhaps_one_side(
        self, small: Sequence[int], groups: Mapping[int, set[int]], apart: set[tuple[int, int]]
    ) -> Iterator[list[int]]:
        """Groups of hosts of which no ping shows that they are apart, at least one of several hosts.

        A host that RoCE does not reach either is left out: it is at fault as a whole.
        """
        left = [at for at in reversed(small) if len(groups[at]) > 1 or self._reached_by_roce(min(groups[at]))]
        while left and len(groups[left[0]]) > 1:
            together: list[int] = []
            for at in left:
                if not any((at, other) in apart or (other, at) in apart for other in together):
                    together.append(at)
            if len(together) > 1:
                yield together
            left = [at for at in left if at not in together]

    def _reached_by_roce(self, host: int) -> bool:
        """Whether any RoCE ping to or from a host came back, or none was sent."""
        ends = [2 * port + ROCE for port in self._host_ports[host]]
        sent = sum(self._end_sent[end] for end in ends)
        return not sent or sum(self._end_lost[end] for end in ends) < sent
