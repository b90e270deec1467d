"""Which NIC of each host its peers reach it by: the inventory's word, else the SSH address, else the subnet.

Pure. HCCL negotiates over the host network before a device takes part (root-info); a NIC that the peers do
not reach ends in EI0015, an address that the host does not have in EI0001.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from ascendctl.facts import ClusterFacts, HostFacts, ReachStatus
from ascendctl.hccl.forms import address_of, is_virtual
from ascendctl.topology.majority import vote

_Interface = IPv4Interface | IPv6Interface


@dataclass(frozen=True)
class NicChoice:
    """The NIC of one host, or why there is none.

    ``problem`` "" = chosen. ``learned``: whether the host's addresses are known at all; without them there
    is nothing to refuse, only something to ask again. ``warning``: chosen, and yet worth a word.
    """

    host: str
    interface: str = ""
    address: str = ""
    prefix_length: int = 0
    reason: str = ""
    problem: str = ""
    warning: str = ""
    learned: bool = True

    @property
    def chosen(self) -> bool:
        return not self.problem

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.address


@dataclass(frozen=True)
class _Candidate:
    interface: str
    at: _Interface


def choose_nics(
    cluster: ClusterFacts, ssh_addresses: Mapping[str, str] | None = None, *, routed: bool = False
) -> tuple[NicChoice, ...]:
    """One choice per host, in the cluster's order.

    ``ssh_addresses``: by host name, the address by which it is logged into; names and addresses that are
    not the host's own (a floating or translated one) tell nothing and are passed over. ``routed``: peers
    in another subnet are reached through routers, so that being in one is a warning.
    """
    version = _common_version(cluster)
    candidates = {host.host: _candidates(host, version) for host in cluster.hosts}
    choices = tuple(
        _choose(host, candidates, (ssh_addresses or {}).get(host.host, ""), version) for host in cluster.hosts
    )
    return _against_peers(choices, routed)


def _common_version(cluster: ClusterFacts) -> int:
    """4 where any host has an IPv4 address to offer, else 6: HCCL negotiates over one family."""
    anywhere = (candidate for host in cluster.hosts for candidate in _candidates(host, 4))
    return 4 if next(anywhere, None) or not any(_candidates(host, 6) for host in cluster.hosts) else 6


def _candidates(host: HostFacts, version: int) -> list[_Candidate]:
    """The addresses by which a peer might reach the host."""
    return [one for one in _addresses(host, version) if not is_virtual(one.interface)]


def _addresses(host: HostFacts, version: int | None = None) -> list[_Candidate]:
    """The host's addresses; with ``version`` those of that family that are of use beyond the host."""
    found = []
    for entry in host.system.addresses.value or ():
        at = ip_interface(f"{entry.address}/{entry.prefix_length}")
        outward = not (at.ip.is_loopback or at.ip.is_link_local or entry.interface == "lo")
        if version is None or (outward and at.version == version):
            found.append(_Candidate(entry.interface, at))
    return found


def _choose(
    host: HostFacts, candidates: Mapping[str, Sequence[_Candidate]], ssh_address: str, version: int
) -> NicChoice:
    name = host.host
    if host.system.addresses.value is None:
        return NicChoice(name, problem=_not_learned(host), learned=False)
    own = candidates[name]
    ssh = address_of(ssh_address)
    by_ssh = [one for one in own if ssh is not None and one.at.ip == ssh]
    if host.expectation.nic:
        return _by_inventory(host, host.expectation.nic, by_ssh, candidates, version)
    if not own:
        seen = ", ".join(f"{one.interface} {one.at.ip}" for one in _addresses(host)) or "none"
        return NicChoice(
            name,
            problem=f"no IPv{version} address by which a peer could reach it; its addresses: {seen}."
            " Loopback, link-local and container interfaces do not count: configure its NIC",
        )
    if by_ssh:
        return _chosen(name, by_ssh[0], f"{by_ssh[0].interface} has the address used for SSH")
    return _by_subnet(name, own, candidates, "")


def _by_inventory(
    host: HostFacts,
    nic: str,
    by_ssh: Sequence[_Candidate],
    candidates: Mapping[str, Sequence[_Candidate]],
    version: int,
) -> NicChoice:
    name = host.host
    there = list(dict.fromkeys(one.interface for one in _addresses(host)))
    if nic == "lo" or (nic in there and all(one.at.ip.is_loopback for one in _on(_addresses(host), nic))):
        return NicChoice(name, problem=f"nic {nic} is the loopback, by which no other host reaches it")
    if is_virtual(nic):
        return NicChoice(
            name, problem=f"nic {nic} is a virtual NIC of containers or of the driver; {_NAME_ONE}"
        )
    if nic not in there:
        begun = [interface for interface in there if interface.startswith(nic)]
        if begun:
            hint = f"{nic} is only how {' and '.join(begun)} begin; {_NAME_ONE}"
        else:
            hint = f"interfaces with an address: {', '.join(there) or 'none'}; correct the inventory's nic"
        return NicChoice(name, problem=f"there is no NIC {nic} with an address on this host: {hint}")
    own = _on(candidates[host.host], nic)
    if not own:
        return NicChoice(
            name,
            problem=f"nic {nic} has no IPv{version} address by which a peer could reach it; give it one,"
            " or name another nic in the inventory",
        )
    preferred = _on(by_ssh, nic) or own
    if len(preferred) == 1:
        return _chosen(name, preferred[0], f"{nic}, as asked for")
    return _by_subnet(name, preferred, candidates, f"{nic}, as asked for; ")


_NAME_ONE = "name the whole NIC that its peers reach, in the inventory (nic:) or with --nic"


def _by_subnet(
    name: str, own: Sequence[_Candidate], candidates: Mapping[str, Sequence[_Candidate]], reason: str
) -> NicChoice:
    """The address whose subnet most peers have too; several of equal standing are not guessed between."""
    if len(own) == 1:
        return _chosen(name, own[0], reason + f"{own[0].interface} is its only NIC that a peer could reach")
    peers = Counter(
        network
        for other, theirs in candidates.items()
        if other != name
        for network in {one.at.network for one in theirs}
    )
    most = max(peers[one.at.network] for one in own)
    best = [one for one in own if peers[one.at.network] == most]
    # Several addresses of one NIC in one subnet (a floating one among them): the first is the NIC's own.
    if len({(one.interface, one.at.network) for one in best}) == 1:
        of_peers = f"{most} of its {len(candidates) - 1} peers"
        return _chosen(name, best[0], reason + f"{best[0].at.network} is where {of_peers} are too")
    seen = ", ".join(f"{one.interface} {one.at}" for one in best)
    return NicChoice(name, problem=f"several NICs could be meant ({seen}); {_NAME_ONE}")


def _against_peers(choices: Sequence[NicChoice], routed: bool) -> tuple[NicChoice, ...]:
    """Refuse who is in another subnet than most; on a tie all of them, and say so."""
    networks = {
        choice.host: ip_interface(f"{choice.address}/{choice.prefix_length}").network
        for choice in choices
        if choice.chosen
    }
    votes = vote(networks)
    judged = []
    for choice in choices:
        if choice.host not in votes.accused:
            judged.append(choice)
            continue
        network = networks[choice.host]
        inside = votes.value is not None and ip_interface(choice.address).ip in votes.value
        if inside:
            text = f"its netmask makes it {network}, its peers' {votes.value}: give them one netmask"
            judged.append(replace(choice, warning=text))
            continue
        others = f"most peers are in {votes.value}" if not votes.tie else _tied(networks)
        text = f"{choice.interface} {choice.address} is in {network}, {others}"
        if routed:
            judged.append(replace(choice, warning=f"{text}: reached through routers, as --routed says"))
        else:
            way_out = f"{_NAME_ONE}; where routers join the subnets on purpose, say --routed"
            judged.append(replace(choice, problem=f"{text}; {way_out}"))
    return tuple(judged)


def _tied(networks: Mapping[str, object]) -> str:
    counts = Counter(map(str, networks.values()))
    spread = ", ".join(f"{count} in {network}" for network, count in counts.most_common())
    return f"and no subnet has the most hosts ({spread}), so that all are refused"


def _on(candidates: Sequence[_Candidate], interface: str) -> list[_Candidate]:
    return [one for one in candidates if one.interface == interface]


def _chosen(name: str, one: _Candidate, reason: str) -> NicChoice:
    return NicChoice(name, one.interface, str(one.at.ip), one.at.network.prefixlen, reason)


def _not_learned(host: HostFacts) -> str:
    if host.reach.status is not ReachStatus.REACHED:
        detail = f": {host.reach.detail}" if host.reach.detail else ""
        return f"{host.reach.status.value}{detail}"
    reading = host.system.addresses
    why = f" ({reading.status.value}{': ' + reading.reason if reading.reason else ''})"
    return f"its addresses could not be read{why}; run '{reading.command or 'ip -o addr show'}' on it"
