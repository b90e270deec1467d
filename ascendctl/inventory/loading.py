"""From a file to an `Inventory`: read, validate every block, merge, and check what must agree.

A file with problems is still followed as far as it makes sense, so that one run tells all of them.
"""

from __future__ import annotations

import contextlib
import copy
import ipaddress
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from ascendctl.facts import Cable
from ascendctl.inventory import document as yaml_document
from ascendctl.inventory import shape
from ascendctl.inventory.document import Document, describe, is_secret, plain_word, printable
from ascendctl.inventory.model import (
    Endpoint,
    Host,
    HostKeyPolicy,
    Inventory,
    InventoryError,
    PasswordSource,
    Privilege,
    Waiver,
)
from ascendctl.inventory.nodesets import MOST_NAMES, expand, fold, near_misses, resolve
from ascendctl.inventory.reading import (
    UnreadableError,
    choices,
    expected,
    found_text,
    one_of,
    read_text,
    sentences,
    unknown_key,
)
from ascendctl.inventory.shape import FileBlock, HostBlock, SettingsBlock, SshBlock, WaiverBlock


def load_file(path: Path, known_checks: Collection[str] | None = None) -> Inventory:
    """See `ascendctl.inventory.load`."""
    try:
        document = yaml_document.parse(read_text(path, "an inventory"))
    except UnreadableError as error:
        raise InventoryError([str(error)]) from None
    if document.data is not None or not document.problems:
        inventory = _Assembly(document, path, known_checks).inventory()
        if not document.problems:
            return inventory
    raise InventoryError(sentences(path, document.problems))


@dataclass
class _Listed:
    """One host as listed: its entry's index in `hosts`, and what the entry says of it."""

    name: str
    address: str
    index: int
    entry: HostBlock
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> tuple[str | int, ...]:
        return ("hosts", self.index)


_Block = TypeVar("_Block", bound=shape.Block)


class _Assembly:
    """Puts one inventory together from a document, noting its problems there."""

    def __init__(self, document: Document, path: Path, known_checks: Collection[str] | None) -> None:
        self._document = document
        self._path = path
        self._known_checks = known_checks
        self._listed: dict[str, _Listed] = {}
        self._every_name_is_known = True
        self._wrong: set[tuple[str | int, ...]] = set()

    def inventory(self) -> Inventory:
        data = self._document.data
        if data is None:
            self._document.blame((), f"is empty; {_START}")
            return Inventory(self._path, ())
        if not isinstance(data, dict):
            found = describe(self._document.root)
            self._document.blame(
                (), f"expected a mapping with `version` and `hosts`, found {found}; {_START}"
            )
            return Inventory(self._path, ())
        self._flag_empty_values()
        self._flag_shape(data)
        self._flag_cabling(data)
        defaults = self._block(SettingsBlock, data, ("defaults",))
        groups = self._groups(data)
        self._list_hosts(data, groups)
        for listed in self._listed.values():
            group = groups.get(listed.entry.group or "")
            listed.settings = _merge(_given(defaults), _given(group), _given(listed.entry))
        hosts = tuple(self._host(listed) for listed in self._listed.values())
        self._flag_shared_addresses(hosts)
        waivers = self._waivers(data, groups)
        return Inventory(self._path, hosts, waivers, tuple(groups))

    # --- shape ------------------------------------------------------------------------------------

    def _flag_empty_values(self) -> None:
        for path in self._document.empty:
            if not _may_be_empty(path) and "password" not in path[:-1]:
                self._note(
                    path,
                    "has no value; give one, write `null` to cancel an inherited one, or remove the line",
                )

    def _flag_shape(self, data: Mapping[str, Any]) -> None:
        known = {key: value for key, value in data.items() if not shape.EXTENSION.fullmatch(key)}
        try:
            FileBlock.model_validate(known)
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_input=False):
                self._note_shape(shape.file_path(detail["loc"]), detail["type"], dict(detail.get("ctx", {})))

    def _note_shape(self, path: tuple[str | int, ...], kind: str, context: Mapping[str, Any]) -> None:
        words = [step for step in path if isinstance(step, str)]
        if "password" in words[2 if words[0] == "groups" else 0 :] and kind != "value_error":
            path = path[: len(path) - path[::-1].index("password")]
            self._note(path, f"{shape.PASSWORD_SOURCES}{self._password_hint(path)}")
            return
        node = self._document.node_at(path)
        if kind == "extra_forbidden":
            self._note(path, _unknown_key(path))
        elif kind == "missing":
            self._note(path, f"`{path[-1]}` is missing{_MISSING_HINTS.get(str(path[-1]), '')}")
        elif kind == "value_error":
            found = "" if is_secret(path) else f"`{printable(plain_word(node) or '')}`: "
            self._note(path, f"{found}{context['error']}")
        elif kind == "literal_error":
            word = plain_word(node)
            words = self._choices(path, context)
            near = near_misses(word, words) if word else ""
            self._note(path, f"expected {one_of(words)}, found {describe(node)}{near}")
        else:
            self._note(path, f"expected {_expected(kind, path)}, found {self._found(kind, path)}")

    def _flag_cabling(self, data: Mapping[str, Any]) -> None:
        """What no shape tells of ``cabling``: ids that are none, patterns that do not fit, an id twice."""
        groups, hosts = data.get("groups"), data.get("hosts")
        blocks: list[tuple[tuple[str | int, ...], Any]] = [(("defaults",), data.get("defaults"))]
        blocks += [(("groups", name), groups[name]) for name in groups] if isinstance(groups, dict) else []
        entries = hosts if isinstance(hosts, list) else []
        blocks += [(("hosts", number), entry) for number, entry in enumerate(entries)]
        for path, block in blocks:
            stated = block.get("cabling") if isinstance(block, dict) else None
            given: dict[int, str] = {}
            for devices, text in stated.items() if isinstance(stated, dict) else ():
                where = (*path, "cabling", devices)
                if not isinstance(text, (str, type(None))):
                    continue  # of another type, which has been noted
                try:
                    found = shape.cables(devices, text)
                except ValueError as error:
                    self._note(where, printable(str(error), 300))
                    continue
                for device in found:
                    if device in given:
                        self._note(where, f"device {device} is already given under `{given[device]}`")
                        break
                    given[device] = devices

    def _choices(self, path: tuple[str | int, ...], context: Mapping[str, Any]) -> list[str]:
        words = choices(context)
        return [*words, "a number from 1 to 64"] if path[-1] == "npus" else words

    def _found(self, kind: str, path: tuple[str | int, ...]) -> str:
        return "something else" if is_secret(path) else found_text(self._document, kind, path)

    def _password_hint(self, path: tuple[str | int, ...]) -> str:
        node = self._document.node_at(path)
        word = plain_word(node)
        if word and (near := near_misses(word, ["prompt"])):
            return near
        if word:
            return "; take the one found here out of the file, and change it if the file was shared"
        return ""

    def _note(self, path: tuple[str | int, ...], message: str) -> None:
        self._wrong.add(path)
        self._document.blame(path, message)

    def _block(
        self, model: type[_Block], data: Mapping[str, Any], path: tuple[str | int, ...]
    ) -> _Block | None:
        """The block at ``path`` without its wrong parts, None where it is absent or wrong as a whole.

        What is wrong is noted by then; the rest still serves to check what other blocks say.
        """
        block: Any = data
        for step in path:
            block = block[step] if isinstance(step, int) else block.get(step)
        while isinstance(block, dict):
            try:
                return model.model_validate(block)
            except ValidationError as error:
                details = error.errors(include_url=False, include_input=False)
                block = _without(block, [shape.file_path(detail["loc"]) for detail in details])
        return None

    # --- hosts ------------------------------------------------------------------------------------

    def _groups(self, data: Mapping[str, Any]) -> dict[str, SettingsBlock | None]:
        named = data.get("groups")
        groups: dict[str, SettingsBlock | None] = {}
        for name in named if isinstance(named, dict) else ():
            groups[name] = self._block(SettingsBlock, data, ("groups", name))
            try:
                shape.host_name(name)
            except ValueError as error:
                self._note(("groups", name), f"the group name `{printable(name)}` cannot be used: {error}")
        return groups

    def _list_hosts(self, data: Mapping[str, Any], groups: Collection[str]) -> None:
        entries = data.get("hosts")
        for index in range(len(entries) if isinstance(entries, list) else 0):
            entry = self._block(HostBlock, data, ("hosts", index))
            if entry is None:
                self._every_name_is_known = False
                continue
            self._list_entry(entry, index, groups)

    def _list_entry(self, entry: HostBlock, index: int, groups: Collection[str]) -> None:
        path = ("hosts", index)
        if entry.group is not None and entry.group not in groups:
            known = f"; groups are {', '.join(groups)}" if groups else "; the file has no `groups`"
            near = near_misses(entry.group, groups) or known
            self._note((*path, "group"), f"there is no group `{printable(entry.group)}`{near}")
        names = self._expand((*path, "name"), entry.name, "host name", shape.host_name)
        if names is None:
            self._every_name_is_known = False
            return
        addresses: list[str] | None = names
        if entry.address is not None:
            addresses = self._expand((*path, "address"), entry.address, "address", shape.address)
        if addresses is not None and len(addresses) != len(names):
            self._note(
                (*path, "address"),
                f"`{entry.name}` stands for {_count(len(names), 'name')}, but `{entry.address}` for "
                f"{_count(len(addresses), 'address', 'addresses')}; there must be one for each",
            )
            addresses = None
        repeated: dict[int, list[str]] = {}
        for name, address in zip(names, addresses or names, strict=True):
            if name in self._listed:
                repeated.setdefault(self._listed[name].index, []).append(name)
            else:
                self._listed[name] = _Listed(name, address, index, entry)
        for first, again in repeated.items():
            line = self._document.line_at(("hosts", first, "name"))
            place = "twice in this very pattern" if first == index else f"already on line {line}"
            self._note(
                (*path, "name"), f"{fold(again)} is listed {place}; every host has one name of its own"
            )
        if len(self._listed) > MOST_NAMES:
            self._note(("hosts",), f"lists more than {MOST_NAMES} hosts")

    def _expand(self, path: tuple[str | int, ...], pattern: str, what: str, grammar: Any) -> list[str] | None:
        try:
            names = expand(pattern)
        except ValueError as error:
            self._note(path, f"the {what} `{printable(pattern)}` cannot be used: {error}")
            return None
        for name in names:
            try:
                grammar(name)
            except ValueError as error:
                shown = "" if "@" in name else f" `{printable(name)}`"  # user:password@host
                self._note(path, f"the {what}{shown} cannot be used: {error}")
                return None
        return names

    def _host(self, listed: _Listed) -> Host:
        merged = listed.settings
        engine = merged.get("engine") or {}
        npus = merged.get("npus")
        return Host(
            name=listed.name,
            endpoint=self._endpoint(listed, (listed.name,)),
            group=listed.entry.group or "",
            privilege=Privilege(merged.get("privilege") or "root"),
            accelerator=merged.get("accelerator") or "auto",
            generation=merged.get("generation") or "auto",
            npus=npus if isinstance(npus, int) else None,
            scale_out=merged.get("scale_out") or "auto",
            nic=merged.get("nic"),
            tags=frozenset(merged.get("tags") or ()),
            thresholds={
                name: value for name, value in (merged.get("thresholds") or {}).items() if value is not None
            },
            cabling={
                device: cable for device, cable in (merged.get("cabling") or {}).items() if cable is not None
            },
            engine_exec=tuple(engine.get("exec") or ()),
            engine_ports=tuple(dict.fromkeys(engine.get("ports") or ())),
        )

    def _endpoint(self, listed: _Listed, chain: tuple[str, ...]) -> Endpoint:
        ssh = listed.settings.get("ssh") or {}
        return self._make_endpoint(listed.name, listed.address, ssh, ssh, listed, chain)

    def _make_endpoint(
        self,
        name: str,
        address: str,
        ssh: Mapping[str, Any],
        trust: Mapping[str, Any],
        listed: _Listed,
        chain: tuple[str, ...],
    ) -> Endpoint:
        """``trust``: where host key settings come from if ``ssh`` has none; ``chain``: hosts on the way."""
        settled = {
            key: _first(ssh.get(key), trust.get(key)) for key in ("known_hosts", "host_key_policy", "config")
        }
        jump = ssh.get("jump")
        via: Endpoint | None = None
        if isinstance(jump, str):
            via = self._named_jump(jump, listed, chain)
        elif jump is not None:
            address_of_jump = str(jump["address"])
            via = self._make_endpoint(address_of_jump, address_of_jump, jump, settled, listed, chain)
        known_hosts = settled["known_hosts"]
        return Endpoint(
            name=name,
            address=address,
            port=ssh.get("port"),
            user=ssh.get("user"),
            identity_files=tuple(self._file(text) for text in _as_list(ssh.get("identity"))),
            known_hosts=self._file(known_hosts) if known_hosts else None,
            host_key_policy=HostKeyPolicy(settled["host_key_policy"] or "strict"),
            password=_password(ssh.get("password")),
            jump=via,
            use_ssh_config=settled["config"] is not False,
        )

    def _named_jump(self, jump: str, listed: _Listed, chain: tuple[str, ...]) -> Endpoint | None:
        path = self._where_jump_is_set(listed)
        target = self._listed.get(jump)
        if target is None:
            if self._every_name_is_known:
                near = near_misses(jump, self._listed)
                remedy = near or "; list it under hosts, or write {address: …} here"
                shown = "such host" if "@" in jump else f"host `{printable(jump)}`"  # user:password@host
                self._note(path, f"there is no {shown} to jump through{remedy}")
            return None
        if jump in chain:
            circle = " → ".join((*chain[chain.index(jump) :], jump))
            self._note(
                path,
                f"jump hosts form a circle: {circle}; "
                "give the host that is reached directly `ssh: {jump: null}`",
            )
            return None
        return self._endpoint(target, (*chain, jump))

    def _where_jump_is_set(self, listed: _Listed) -> tuple[str | int, ...]:
        """The path of the jump setting that this host ends up with."""
        levels: list[tuple[str | int, ...]] = [
            listed.path,
            ("groups", listed.entry.group or ""),
            ("defaults",),
        ]
        for level in levels:
            place = (*level, "ssh", "jump")
            if self._document.node_at(place) is not None:
                inner = self._document.node_at((*place, "jump"))
                while inner is not None:
                    place = (*place, "jump")
                    inner = self._document.node_at((*place, "jump"))
                return place
        return (*listed.path, "ssh", "jump")

    def _file(self, text: str) -> Path:
        path = Path(text)
        try:
            path = path.expanduser()
        except RuntimeError:  # ~ of a user this machine does not have; opening it will say so
            return path
        return path if path.is_absolute() else self._path.parent / path

    def _flag_shared_addresses(self, hosts: Sequence[Host]) -> None:
        """Two hosts behind different jump hosts may have equal addresses; any others may not."""
        first: dict[object, Host] = {}
        clashes: dict[tuple[int, int], list[tuple[Host, Host]]] = {}
        for host in hosts:
            other = first.setdefault(_place(host.endpoint), host)
            if other is not host:
                pair = (self._listed[other.name].index, self._listed[host.name].index)
                clashes.setdefault(pair, []).append((other, host))
        for (first_index, index), pairs in clashes.items():
            other, host = pairs[0]
            here = ("hosts", index, "address" if self._listed[host.name].entry.address else "name")
            line = self._document.line_at(("hosts", first_index, "name"))
            more = f" (and {len(pairs) - 1} more)" if len(pairs) > 1 else ""
            self._note(
                here,
                f"{host.name} and {other.name} (line {line}) have the same address "
                f"{_shown_place(host.endpoint)}{more}; one server would be judged twice",
            )

    # --- waivers ----------------------------------------------------------------------------------

    def _waivers(self, data: Mapping[str, Any], groups: Collection[str]) -> tuple[Waiver, ...]:
        members: dict[str, list[str]] = {group: [] for group in groups}
        for listed in self._listed.values():
            members.setdefault(listed.entry.group or "", []).append(listed.name)
        entries = data.get("waivers")
        waivers = []
        for index, raw in enumerate(entries if isinstance(entries, list) else []):
            if not isinstance(raw, dict):
                continue
            path = ("waivers", index)
            self._flag_unknown_check((*path, "check"), raw.get("check"))
            hosts = self._waived_hosts((*path, "host"), raw.get("host"), members)
            entry = self._block(WaiverBlock, data, path)
            if entry is not None:
                waivers.append(Waiver(entry.check, hosts, entry.device, entry.until, entry.reason))
        return tuple(waivers)

    def _flag_unknown_check(self, path: tuple[str | int, ...], check: object) -> None:
        known = self._known_checks
        if isinstance(check, str) and known is not None and check not in known and path not in self._wrong:
            near = near_misses(check, known) or "; `ascendctl checks` lists them"
            self._note(path, f"there is no check `{printable(check)}`{near}")

    def _waived_hosts(
        self, path: tuple[str | int, ...], node_set: object, members: Mapping[str, Sequence[str]]
    ) -> frozenset[str]:
        if not isinstance(node_set, str):
            return frozenset(self._listed)
        try:
            hosts = resolve(node_set, members, self._listed)
        except ValueError as error:
            if self._every_name_is_known:
                self._note(path, printable(str(error), 300))
            return frozenset()
        if not hosts and self._every_name_is_known:
            self._note(path, f"`{printable(node_set)}` stands for no host")
        return frozenset(hosts)


def _without(block: dict[str, Any], wrong: Sequence[tuple[str | int, ...]]) -> dict[str, Any] | None:
    """A copy without what is at the wrong paths; where something is missing, without what misses it."""
    rest: Any = copy.deepcopy(block)
    # From the end, so that the indexes of list items still to be removed stay true.
    for path in sorted(wrong, key=lambda path: [str(step).zfill(9) for step in path], reverse=True):
        while path and not _remove(rest, path):
            path = path[:-1]
        if not path:
            return None
    return dict(rest)


def _remove(block: Any, path: tuple[str | int, ...]) -> bool:
    for step in path[:-1]:
        if not _holds(block, step):
            return False
        block = block[step]
    if not _holds(block, path[-1]):
        return False
    del block[path[-1]]
    return True


def _holds(block: Any, step: str | int) -> bool:
    if isinstance(block, list):
        return isinstance(step, int) and step < len(block)
    return isinstance(block, dict) and step in block


# --- merging --------------------------------------------------------------------------------------


def _given(block: SettingsBlock | None) -> dict[str, Any]:
    """What a block says, without what it leaves out; a null says "as if nothing had been said"."""
    if block is None:
        return {}
    given = block.model_dump(exclude_unset=True)
    if given.get("cabling"):
        given["cabling"] = _cables(given["cabling"])
    return {key: given[key] for key in given if key in SettingsBlock.model_fields}


def _cables(stated: Mapping[str, str | None]) -> dict[int, Cable | None]:
    """By physical id; entries that are wrong, which have been noted, are left out."""
    found: dict[int, Cable | None] = {}
    for devices, text in stated.items():
        with contextlib.suppress(ValueError):
            found.update(shape.cables(devices, text))
    return found


_MERGED_BY_KEY = ("ssh", "thresholds", "cabling")


def _merge(*levels: Mapping[str, Any]) -> dict[str, Any]:
    """Later levels win key by key; some are merged key by key too, and tags add up."""
    merged: dict[str, Any] = {}
    for level in levels:
        for key, value in level.items():
            if key in _MERGED_BY_KEY and value is not None:
                merged[key] = {**(merged.get(key) or {}), **value}
            elif key == "tags":
                merged["tags"] = [*merged.get("tags", ()), *value] if value is not None else []
            else:
                merged[key] = value
    return merged


def _password(value: Any) -> PasswordSource | None:
    if value is None:
        return None
    if value == "prompt":
        return PasswordSource(prompt=True)
    return PasswordSource(env=value.get("env"), command=tuple(value.get("command") or ()))


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _as_list(value: str | list[str] | None) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


def _place(endpoint: Endpoint | None) -> object:
    """What makes two endpoints one server: address and port, seen from the same jump host."""
    if endpoint is None:
        return None
    try:
        address = str(ipaddress.ip_address(endpoint.address))  # IPv6 has several spellings
    except ValueError:
        address = endpoint.address.lower()
    return (address, endpoint.port or 22, _place(endpoint.jump))


def _shown_place(endpoint: Endpoint) -> str:
    return f"{endpoint.address} port {endpoint.port or 22}"


# --- wording --------------------------------------------------------------------------------------

_START = "`inventory.example.yaml` shows a complete file"

_MISSING_HINTS = {
    "version": "; write `version: 1` at the top",
    "name": "; every entry under hosts has one",
    "until": "; a waiver names its last day as YYYY-MM-DD",
    "reason": "; a waiver says why the finding is accepted",
    "check": "; a waiver names the check it is for",
    "hosts": "; list the hosts under it, each as `- name: …`",
    "address": "; a jump host written in place has one",
}


def _unknown_key(path: tuple[str | int, ...]) -> str:
    key = str(path[-1])
    keys = shape.keys_of(shape.block_at(path[:-1]))
    if is_secret((key,)):
        return f"is no key of an inventory; {shape.PASSWORD_SOURCES} (ssh.password)"
    if not near_misses(key, keys) and key in shape.keys_of(SshBlock):
        return f"unknown key `{printable(key)}`; did you mean ssh.{key}?"
    return unknown_key(key, keys)


_RANGES = {"port": "a number from 1 to 65535", "device": "a number from 0 to 63"}


def _expected(kind: str, path: tuple[str | int, ...]) -> str:
    if path[-1] == "npus":
        return "auto or a number from 1 to 64"
    if kind in ("greater_than_equal", "less_than_equal"):
        if len(path) > 1 and path[-2] == "thresholds":
            return shape.threshold_range(str(path[-1]))
        if len(path) > 1 and path[-2] == "ports":
            return _RANGES["port"]
        return _RANGES.get(str(path[-1]), "another number")
    return expected(kind)


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


_SECTIONS = ("defaults", "groups", "waivers", "ssh", "thresholds", "cabling", "engine", "tags")


def _may_be_empty(path: tuple[str | int, ...]) -> bool:
    """Sections may be left empty: their content is often commented out. `hosts` has its own message."""
    if len(path) == 2 and path[0] == "groups":
        return True
    return not path or path[-1] in (*_SECTIONS, "hosts") or str(path[0]).startswith("x-")
