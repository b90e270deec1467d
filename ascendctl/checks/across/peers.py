"""What the checks between hosts are built on: who is compared with whom, and how odd ones become cells.

Hosts of one inventory group are peers. Only what was read votes; a tie accuses every side. Each host has one
cell, which covers those of its devices that have none of their own. A device has its own where it alone of
its host is odd, where it could not be read, and where another finding explains it; a host with several odd
devices is one finding that names them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

from ascendctl.checks.ascend import Cells, device_subject, without_npus
from ascendctl.checks.contract import ClusterCheck
from ascendctl.checks.npus import id_ranges
from ascendctl.checks.rails import Part
from ascendctl.facts import ClusterFacts, DeviceFacts, Generation, HostFacts, Reading, ReadingStatus
from ascendctl.results import CellKey, Result, Status, Subject, SubjectKind, host_subject
from ascendctl.topology.majority import vote
from ascendctl.topology.roce import Wanted, roce_use

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Hashable)


@dataclass(frozen=True)
class Difference(Generic[K, V]):
    """How a part differs: ``usual`` is what most have (None = a tie), ``witness`` one that has another value.

    ``spread``: each value and how many have it, for a tie's words.
    """

    value: V
    usual: V | None
    witness: K
    spread: Mapping[V, int]

    @property
    def tie(self) -> bool:
        return self.usual is None

    def expected(self, of: str) -> str:
        """The short text of what was expected; ``of`` names the voters."""
        if self.usual is not None:
            return str(self.usual)
        seen = ", ".join(f"{count} {of} have {value}" for value, count in self.spread.items())
        return f"one value everywhere; {seen}"


@dataclass(frozen=True)
class Odd:
    """Why a part stands out, in a finding's words. ``witness``: the other side's reading."""

    status: Status
    message: str
    advice_for: str
    expected: str
    actual: str
    witness: Witness | None = None


@dataclass(frozen=True)
class Witness:
    """The other side of a difference, as evidence."""

    name: str
    reading: Reading[Any]


def differences(votes: Mapping[K, V]) -> dict[K, Difference[K, V]]:
    """Who differs from the majority, with somebody who shows it."""
    result = vote(votes)
    if not result.accused:
        return {}
    spread = Counter(votes.values())
    holders: dict[V, list[K]] = defaultdict(list)
    for key, value in votes.items():
        known = holders[value]
        if not known or (len(known) == 1 and _host_of(known[0]) != _host_of(key)):
            known.append(key)
    firsts = list(holders)[:2]
    odd = {}
    for key, value in votes.items():
        if key in result.accused:
            other = next(v for v in firsts if v != value) if result.value is None else result.value
            one = holders[other]
            witness = next((shown for shown in one if _host_of(shown) != _host_of(key)), one[0])
            odd[key] = Difference(value, result.value, witness, spread)
    return odd


def _host_of(key: Hashable) -> Hashable:
    return key.host if isinstance(key, Part) else key


def both_sides(own: Reading[Any], witness: Witness | None) -> Reading[Any]:
    """The reading with the other side's answer in its evidence."""
    if witness is None:
        return own
    theirs = f"[on {witness.name}: {witness.reading.command}]\n{witness.reading.evidence}"
    return replace(own, evidence=f"{own.evidence}\n{theirs}")


def on_devices(message: str, devices: Iterable[int]) -> str:
    """The message with the devices that it is about, where these are not its subject."""
    numbers = sorted(devices)
    return f"{message}, on device{'s' if len(numbers) > 1 else ''} {id_ranges(numbers)}"


def roce_not_wanted(device: DeviceFacts, host: HostFacts) -> str:
    """Why a port is not compared on the RoCE network; empty where it is."""
    use = roce_use(device, host)
    return f"RoCE is not expected here: {use.reason}" if use.wanted is Wanted.NO else ""


class Failed:
    """Which cells of some checks failed, or are explained by another, out of the results so far."""

    def __init__(self, results: Iterable[Result], checks: Iterable[str]) -> None:
        names, bad = frozenset(checks), (Status.FAIL, Status.SKIPPED)
        self._keys = frozenset(r.key for r in results if r.check in names and r.status in bad)

    def first(self, checks: Iterable[str], subject: Subject) -> CellKey | None:
        """The first of the checks that failed on this very part."""
        keys = (CellKey(check, subject) for check in checks)
        return next((key for key in keys if key in self._keys), None)


class AcrossCheck(Cells, ClusterCheck):
    """A check that compares the Ascend hosts of a group; a host without peers has nothing to compare.

    ``by_generation``: A2 and A3 hosts of a group are no peers. ``whole_cluster``: all hosts are peers,
    whatever their groups.
    """

    by_generation: ClassVar[bool] = False
    whole_cluster: ClassVar[bool] = False

    def judge(self, cluster: ClusterFacts, results: tuple[Result, ...]) -> Iterable[Result]:
        failed = Failed(results, self.after)
        groups: dict[str, list[HostFacts]] = defaultdict(list)
        for host in cluster.hosts:
            reason = without_npus(host)
            if reason:
                yield self.not_applicable(host_subject(host.host), reason)
            else:
                groups["" if self.whole_cluster else host.expectation.group].append(host)
        for group in groups.values():
            for peers in self._peers(group):
                if len(peers) > 1:
                    yield from self.judge_peers(peers, failed)
                else:
                    yield self.not_applicable(host_subject(peers[0].host), self._alone(peers[0], group))

    @abstractmethod
    def judge_peers(self, hosts: Sequence[HostFacts], failed: Failed) -> Iterable[Result]:
        """Every cell of these hosts, at least two, which are to be compared with each other."""

    def no_peer_read(self, host: str) -> Result:
        """The cell of a host whose peers could all not be read, or have nothing of the kind."""
        return self.not_applicable(host_subject(host), "no other host could be read to compare it with")

    def _peers(self, group: list[HostFacts]) -> Iterable[list[HostFacts]]:
        if not self.by_generation:
            yield group
            return
        known = Counter(host.generation for host in group if host.generation)
        usual = known.most_common(1)[0][0] if known else None
        apart: dict[Generation | None, list[HostFacts]] = defaultdict(list)
        for host in group:
            apart[host.generation or usual].append(host)
        yield from apart.values()

    def _alone(self, host: HostFacts, group: Sequence[HostFacts]) -> str:
        if self.whole_cluster:
            return "there is no other host to compare it with"
        of_group = f"group {host.expectation.group}" if host.expectation.group else "its group"
        if len(group) > 1 and host.generation:
            return f"no other {host.generation.value.upper()} host in {of_group} to compare it with"
        return f"no other host in {of_group} to compare it with"


class DeviceCells(Cells, ClusterCheck):
    """A check of one value of every device; see the module for which cells it gives.

    ``what``: the value, as a sentence begins with it. ``nothing_there``: how a reading ends where there is
    nothing to compare; any other that is not ok is wanted and was not learned.
    """

    what: ClassVar[str]
    nothing_there: ClassVar[tuple[ReadingStatus, ...]] = (ReadingStatus.UNSUPPORTED,)

    @abstractmethod
    def reading(self, device: DeviceFacts, host: HostFacts) -> Reading[Any]:
        """The reading that the value comes from."""

    @abstractmethod
    def source(self, device: DeviceFacts) -> str:
        """The id of the check that tells why the value of this device is not known."""

    @abstractmethod
    def value(self, device: DeviceFacts, host: HostFacts) -> Hashable | None:
        """What is compared; None where it is not known."""

    def not_wanted(self, device: DeviceFacts, host: HostFacts) -> str:
        """Why the device takes no part; empty where it does."""
        return ""

    def agreed(self, values: Sequence[Any]) -> str:
        """The message of a host whose values are those of its peers."""
        return f"{self.what} is that of the other hosts"

    def _roll(self, host: HostFacts, failed: Failed) -> _Roll:
        roll = _Roll({}, {}, "")
        for device in host.devices:
            reason = self.not_wanted(device, host)
            subject = device_subject(host.host, device)
            value = self.value(device, host)
            cause = failed.first(self.after, subject)
            if reason:
                roll.reason = roll.reason or reason
            elif value is None and self.reading(device, host).status in self.nothing_there:
                roll.reason = roll.reason or f"{self.what} is not there to be compared"
            elif cause is not None:
                roll.lost[device.phy_id] = cause
            elif value is not None:
                roll.values[device.phy_id] = value
            else:
                roll.lost[device.phy_id] = CellKey(self.source(device), subject)
        return roll

    def _without_votes(self, host: HostFacts, roll: _Roll) -> Result:
        subject = host_subject(host.host)
        if roll.lost:
            return self.depends(subject, self._not_compared(), next(iter(roll.lost.values())))
        if not host.devices:
            message = "the devices of this host are not known"
            return self.depends(subject, message, CellKey("npu-mapping", subject))
        return self.not_applicable(subject, roll.reason)

    def _lost(self, host: HostFacts, roll: _Roll) -> Iterable[Result]:
        for device in host.devices:
            if device.phy_id in roll.lost:
                subject = device_subject(host.host, device)
                yield self.depends(subject, self._not_compared(), roll.lost[device.phy_id])

    def _not_compared(self) -> str:
        return f"{self.what} could not be compared with that of other hosts"

    def _judge_host(
        self, host: HostFacts, roll: _Roll, odd: Mapping[int, Odd], whole: Odd | None
    ) -> Iterable[Result]:
        subject = host_subject(host.host)
        by_id = {device.phy_id: device for device in host.devices}
        if whole is None and len(odd) == 1 and len(roll.values) > 1:
            phy, found = next(iter(odd.items()))
            rest = [value for number, value in roll.values.items() if number != phy]
            yield self.passed(subject, f"{self.agreed(rest)}, but for device {phy}")
            yield self._found(device_subject(host.host, by_id[phy]), found, found.message, by_id[phy], host)
        elif whole is not None or odd:
            first = whole or min(odd.values(), key=lambda one: one.status is not Status.FAIL)
            message = first.message if whole else on_devices(first.message, odd)
            seen: dict[str, list[int]] = defaultdict(list)
            for phy, one in odd.items():
                seen[one.actual].append(phy)
            texts = [whole.actual] if whole else []
            texts += [on_devices(text, numbers) for text, numbers in seen.items()]
            witnessed = by_id[next(iter(odd))] if odd else host.devices[0]
            yield self._found(subject, replace(first, actual="; ".join(texts)), message, witnessed, host)
        else:
            yield self.passed(subject, self.agreed(list(roll.values.values())))

    def _found(
        self, subject: Subject, odd: Odd, message: str, device: DeviceFacts, host: HostFacts
    ) -> Result:
        return self.found(
            odd.status,
            subject,
            message,
            advice_for=odd.advice_for,
            expected=odd.expected,
            actual=odd.actual,
            reading=both_sides(self.reading(device, host), odd.witness),
        )


class DevicesAcross(AcrossCheck, DeviceCells):
    """A check that compares one value of every device with that of its peers."""

    @abstractmethod
    def odd_devices(self, votes: Mapping[Part, Any], hosts: Mapping[str, HostFacts]) -> Mapping[Part, Odd]:
        """The devices that stand out."""

    def odd_hosts(self, hosts: Sequence[HostFacts], failed: Failed) -> Mapping[str, Odd]:
        """Hosts that stand out as a whole."""
        return {}

    def judge_peers(self, hosts: Sequence[HostFacts], failed: Failed) -> Iterable[Result]:
        rolls = {host.host: self._roll(host, failed) for host in hosts}
        votes = {Part(host, phy): value for host, roll in rolls.items() for phy, value in roll.values.items()}
        by_name = {host.host: host for host in hosts}
        odd = self.odd_devices(votes, by_name)
        whole = self.odd_hosts(hosts, failed)
        voters = sum(bool(roll.values) for roll in rolls.values())
        for host in hosts:
            roll = rolls[host.host]
            if not roll.values:
                yield self._without_votes(host, roll)
            elif voters == 1 and host.host not in whole:
                yield self.no_peer_read(host.host)
            else:
                own = {phy: odd[Part(host.host, phy)] for phy in roll.values if (host.host, phy) in odd}
                yield from self._judge_host(host, roll, own, whole.get(host.host))
                yield from self._lost(host, roll)


@dataclass
class _Roll:
    """Of one host: the value of each device that has one, and what explains that others have none."""

    values: dict[int, Any]
    lost: dict[int, CellKey]
    reason: str


def device_witness(
    part: Part, hosts: Mapping[str, HostFacts], reading: Callable[[DeviceFacts, HostFacts], Reading[Any]]
) -> Witness:
    """A device as the other side; ``reading`` takes its reading."""
    host = hosts[part.host]
    device = next(device for device in host.devices if device.phy_id == part.device)
    return Witness(f"{part.host} device {part.device}", reading(device, host))


def cluster_subject() -> Subject:
    """All hosts together."""
    return Subject(SubjectKind.CLUSTER)
