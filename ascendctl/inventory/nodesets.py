"""Host names in bulk: expanding ``node[01-48]``, folding names back, choosing hosts.

The syntax is ClusterShell's (https://clustershell.readthedocs.io, "Node sets").
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

from ascendctl.inventory.model import Host, Inventory, InventoryError

MOST_NAMES = 100_000
"""A pattern that stands for more names than this is taken for a slip of the finger."""

HOST_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""The grammar of host names; they become arguments, file names and words of reports."""


def fold(names: Iterable[str]) -> str:
    """``node01, node02, node03`` → ``node[01-03]``; sorted, duplicates once, "" for no names."""
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet

    plain: set[str] = set()
    other: set[str] = set()
    for name in names:
        (plain if HOST_NAME.fullmatch(name) else other).add(name)
    folded = str(NodeSet.fromlist(sorted(plain), resolver=RESOLVER_NOGROUP)) if plain else ""
    return ",".join(filter(None, [folded, *sorted(other)]))


def expand(pattern: str) -> list[str]:
    """The names a pattern stands for, in the order it is written; raises ValueError with the reason.

    Not a `NodeSet`, although the syntax is the same: a set sorts its members, and the n-th name must
    meet the n-th address. Of several brackets the last one counts fastest.
    """
    parts = _split_commas(pattern)
    if _size(parts) > MOST_NAMES:
        raise ValueError(f"stands for more than {MOST_NAMES} names")
    return [name for part in parts for name in _expand_part(part)]


def numbers(ranges: str) -> list[int]:
    """The numbers that ``0-7`` or ``0,2,4-6`` stand for, rising; raises ValueError with the reason."""
    from ClusterShell.RangeSet import RangeSet, RangeSetException

    if sum(map(_range_size, ranges.split(","))) > MOST_NAMES:
        raise ValueError(f"stands for more than {MOST_NAMES} numbers")
    try:
        return sorted({int(number) for number in RangeSet(ranges)})
    except (RangeSetException, ValueError):
        raise ValueError(f"`{ranges}` is no number, and no range such as 0-7 or 0,2,4") from None


def select(
    inventory: Inventory,
    hosts: str | None = None,
    exclude: str | None = None,
    tags: Sequence[str] = (),
) -> tuple[Host, ...]:
    """The hosts to work on, in inventory order.

    ``hosts`` and ``exclude`` are node sets with ClusterShell's algebra (``,`` union, ``!``
    difference, ``&`` intersection, ``^`` either but not both; ``*`` and ``?`` match names), where
    ``@group`` is a group of the inventory. A host must meet every one of ``tags``; ``a,b`` is met by
    either. Raises `InventoryError` for a name, group or tag that is not in the inventory, and for a
    selection that leaves no host.
    """
    members = members_by_group(inventory)
    problems: list[str] = []
    chosen = {host.name for host in inventory.hosts}
    if hosts is not None:
        chosen = _resolve_option("--hosts", hosts, members, chosen, problems)
    if exclude is not None:
        everyone = {host.name for host in inventory.hosts}
        chosen = chosen - _resolve_option("--exclude", exclude, members, everyone, problems)
    wanted_tags = [{tag.strip() for tag in option.split(",") if tag.strip()} for option in tags]
    problems += _unknown_tags(inventory, wanted_tags)
    if problems:
        raise InventoryError(problems)
    selection = tuple(
        host
        for host in inventory.hosts
        if host.name in chosen and all(host.tags & alternatives for alternatives in wanted_tags)
    )
    if not selection:
        asked = _describe_options(hosts, exclude, tags)
        raise InventoryError(
            [
                f"no host of {inventory.path} is left by {asked}; "
                f"`ascendctl inventory show {inventory.path}` lists its hosts, groups and tags"
            ]
        )
    return selection


def members_by_group(inventory: Inventory) -> dict[str, list[str]]:
    """Names of the hosts of every group of the inventory."""
    members: dict[str, list[str]] = {group: [] for group in inventory.groups}
    for host in inventory.hosts:
        if host.group:
            members.setdefault(host.group, []).append(host.name)
    return members


def resolve(node_set: str, groups: Mapping[str, Sequence[str]], names: Iterable[str]) -> set[str]:
    """Evaluate a node set over ``names``; raises ValueError with the reason and the near misses."""
    from ClusterShell.NodeSet import NodeSet, NodeSetException
    from ClusterShell.NodeUtils import GroupResolver, GroupResolverError, GroupSource, GroupSourceError

    known = set(names)
    _refuse_unknown_groups(node_set, groups)
    if _size(_split_commas(node_set)) > MOST_NAMES:
        raise ValueError(f"`{node_set}` stands for more than {MOST_NAMES} names")
    source = GroupSource(
        "inventory",
        groups={group: ",".join(members) for group, members in groups.items()},
        allgroups=",".join(sorted(known)),
    )
    try:
        found = set(NodeSet(node_set, resolver=GroupResolver(source)))
    except (NodeSetException, GroupResolverError, GroupSourceError) as error:
        raise ValueError(f"`{node_set}` is not a node set: {error}") from None
    strangers = found - known
    if strangers:
        hints = near_misses(sorted(strangers)[0], known)
        raise ValueError(f"no host named {fold(strangers)} in the inventory{hints}")
    return found


def near_misses(word: str, known: Iterable[str], limit: int = 3) -> str:
    """``; did you mean a or b?`` for a word that is none of the known ones; "" where none is near."""
    candidates = {name.lower(): name for name in known}
    near = [name for name in candidates if _unpadded(name) == _unpadded(word.lower())][:limit]
    near = near or difflib.get_close_matches(word.lower(), candidates, n=limit, cutoff=0.6)
    return f"; did you mean {' or '.join(candidates[name] for name in near)}?" if near else ""


def _unpadded(name: str) -> str:
    """``node01`` → ``node1``: a forgotten or extra zero is the commonest slip in host names."""
    return re.sub(r"0+(?=[0-9])", "", name)


_BRACKET = re.compile(r"\[([^\[\]]*)\]")
_RANGE = re.compile(r"(\d+)(?:-(\d+)(?:/(\d+))?)?", re.ASCII)
_GROUP = re.compile(r"@([^\s,!&^@*]+)")


def _split_commas(pattern: str) -> list[str]:
    """Split at the commas outside brackets; raises ValueError where brackets do not pair up."""
    parts, depth = [""], 0
    for character in pattern:
        depth += (character == "[") - (character == "]")
        if depth not in (0, 1):
            raise ValueError(f"the brackets of `{pattern}` do not pair up")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    if depth:
        raise ValueError(f"`{pattern}` has a bracket that is not closed")
    return parts


def _size(parts: list[str]) -> int:
    """How many names the parts stand for, without making them; ranges that are none count as one."""
    total = 0
    for part in parts:
        names = 1
        for bracket in _BRACKET.findall(part):
            names *= sum(_range_size(item) for item in bracket.split(","))
        total += names
    return total


def _range_size(item: str) -> int:
    match = _RANGE.fullmatch(item.strip())
    if match is None or match[2] is None:
        return 1
    if max(len(group or "") for group in match.groups()) > 12:
        return MOST_NAMES + 1
    return max(1, (int(match[2]) - int(match[1])) // max(1, int(match[3] or 1)) + 1)


def _expand_part(part: str) -> list[str]:
    from ClusterShell.RangeSet import RangeSet, RangeSetException

    stripped = part.strip()
    if not stripped:
        raise ValueError("has an empty name between its commas" if part else "is empty")
    pieces = _BRACKET.split(stripped)  # text, ranges, text, ranges, … text
    choices: list[list[str]] = []
    for index, piece in enumerate(pieces):
        if index % 2 == 0:
            choices.append([piece])
            continue
        try:
            choices.append([number for item in piece.split(",") for number in RangeSet(item.strip())])
        except RangeSetException as error:
            reason = str(error).partition(" : ")[0]
            raise ValueError(f"has `[{piece}]`, which is no list of number ranges ({reason})") from None
    return ["".join(combination) for combination in itertools.product(*choices)]


def _resolve_option(
    option: str,
    node_set: str,
    groups: Mapping[str, Sequence[str]],
    names: Iterable[str],
    problems: list[str],
) -> set[str]:
    try:
        return resolve(node_set, groups, names)
    except ValueError as error:
        problems.append(f"{option}: {error}")
        return set()


def _refuse_unknown_groups(node_set: str, groups: Mapping[str, Sequence[str]]) -> None:
    """ClusterShell reads an unknown group as an empty one: a typing error would select nothing."""
    for group in _GROUP.findall(node_set):
        if group not in groups and not any(c in group for c in "[]?"):
            known = f"; the inventory has {', '.join(groups)}" if groups else "; the inventory has no groups"
            raise ValueError(f"no group @{group} in the inventory{near_misses(group, groups) or known}")


def _unknown_tags(inventory: Inventory, wanted: list[set[str]]) -> list[str]:
    known = {tag for host in inventory.hosts for tag in host.tags}
    groups = members_by_group(inventory)
    problems = []
    for tag in sorted(set().union(*wanted) - known):
        hint = f"; it is a group: use --hosts @{tag}" if tag in groups else near_misses(tag, known)
        problems.append(f"--tags: no host of the inventory has the tag {tag}{hint}")
    return problems


def _describe_options(hosts: str | None, exclude: str | None, tags: Sequence[str]) -> str:
    words = []
    if hosts is not None:
        words.append(f"--hosts {hosts}")
    if exclude is not None:
        words.append(f"--exclude {exclude}")
    words += [f"--tags {option}" for option in tags]
    return " ".join(words) or "no option at all: the inventory holds no hosts"
