"""The inventory file: every kind of mistake with its line, merging, patterns, selection, waivers."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet

from ascendctl.facts import Cable
from ascendctl.inventory import (
    Endpoint,
    Host,
    HostKeyPolicy,
    Inventory,
    InventoryError,
    PasswordSource,
    Privilege,
    fold,
    load,
    schema,
    select,
)
from ascendctl.inventory.nodesets import MOST_NAMES, expand
from ascendctl.knowledge.thresholds import THRESHOLDS, default_text

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "inventory.example.yaml"
DOCS = [ROOT / "docs" / "inventory.md", ROOT / "docs" / "inventory.zh-CN.md"]


def write(folder: Path, text: str) -> Path:
    file = folder / "cluster.yaml"
    file.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
    return file


def loaded(folder: Path, text: str, **options: Any) -> Inventory:
    return load(write(folder, text), **options)


def problems(folder: Path, text: str, **options: Any) -> list[str]:
    """The problems of a file, each as ``line: …``."""
    file = write(folder, text)
    with pytest.raises(InventoryError) as caught:
        load(file, **options)
    assert all(problem.startswith(f"{file}:") for problem in caught.value.problems)
    return [problem.removeprefix(f"{file}:") for problem in caught.value.problems]


def by_name(inventory: Inventory) -> dict[str, Host]:
    return {host.name: host for host in inventory.hosts}


# --- mistakes -------------------------------------------------------------------------------------


def waiving(host: str, what: str) -> str:
    waiver = f"{{check: lldp, {what}, until: 2030-01-31, reason: x}}"
    return f"version: 1\nhosts:\n- name: {host}\nwaivers:\n- {waiver}\n"


# A text, and the one problem it has: all of "LINE: PATH: …" that matters, in order.
MISTAKES: dict[str, tuple[str, list[str]]] = {
    "unknown top key": (
        "version: 1\nhost:\n- name: a\nhosts:\n- name: a\n",
        ["2: host: unknown key `host`", "did you mean hosts?"],
    ),
    "unknown key of ssh": (
        "version: 1\nhosts:\n- name: a\n  ssh:\n    prot: 22\n",
        ["5: hosts[0].ssh.prot: ", "did you mean port?"],
    ),
    "ssh key outside ssh": (
        "version: 1\nhosts:\n- name: a\n  user: root\n",
        ["4: hosts[0].user: ", "did you mean ssh.user?"],
    ),
    "unknown key without a near one": (
        "version: 1\nhosts:\n- name: a\n  colour: red\n",
        ["4: hosts[0].colour: ", "known here: ", "address"],
    ),
    "unknown key of a group named like a block": (
        "version: 1\ngroups:\n  ssh:\n    privilige: sudo\nhosts:\n- name: a\n",
        ["4: groups.ssh.privilige: ", "did you mean privilege?"],
    ),
    "unknown key of a jump host": (
        "version: 1\nhosts:\n- name: a\n  ssh:\n    jump:\n      address: b\n      adress: c\n",
        ["7: hosts[0].ssh.jump.adress: ", "did you mean address?"],
    ),
    "no version": ("hosts:\n- name: a\n", ["1: version: `version` is missing", "version: 1"]),
    "other version": ("version: 2\nhosts:\n- name: a\n", ["1: version: `2`: ", "reads version 1"]),
    "version as a boolean": ("version: yes\nhosts:\n- name: a\n", ["1: version: ", "reads version 1"]),
    "no hosts key": ("version: 1\n", ["1: hosts: `hosts` is missing"]),
    "hosts empty": ("version: 1\nhosts:\n", ["2: hosts: expected a list", "found nothing"]),
    "hosts an empty list": ("version: 1\nhosts: []\n", ["2: hosts: expected a list that is not empty"]),
    "hosts as a mapping": (
        "version: 1\nhosts:\n  a:\n    nic: b\n",
        ["2: hosts: expected a list", "a mapping"],
    ),
    "a list at the top": ("- name: a\n", ["1: expected a mapping with `version` and `hosts`, found a list"]),
    "an entry that is a word": (
        "version: 1\nhosts:\n- name: a\n- node01\n",
        ["4: hosts[1]: expected a mapping, found `node01`"],
    ),
    "an entry without a name": (
        "version: 1\nhosts:\n- address: a\n",
        ["3: hosts[0].name: `name` is missing"],
    ),
    "octal": (
        "version: 1\nhosts:\n- name: a\n  ssh: {port: 022}\n",
        ["4: hosts[0].ssh.port: `022` is read by YAML as the number 18", "quotes"],
    ),
    "sexagesimal": (
        "version: 1\nhosts:\n- name: a\n  ssh: {port: 22:10}\n",
        ["4: hosts[0].ssh.port: `22:10` is read"],
    ),
    "boolean for a user": (
        "version: 1\nhosts:\n- name: a\n  ssh:\n    user: no\n",
        ["5: hosts[0].ssh.user: expected text, found `no`", "true or false", "quotes"],
    ),
    "number for a name": (
        "version: 1\nhosts:\n- name: 12\n",
        ["3: hosts[0].name: expected text, found `12`", "quotes"],
    ),
    "fraction for a name": (
        "version: 1\nhosts:\n- name: 1.5\n",
        ["3: hosts[0].name: expected text, found `1.5`"],
    ),
    "quoted port": (
        'version: 1\nhosts:\n- name: a\n  ssh: {port: "22"}\n',
        ["4: hosts[0].ssh.port: expected a whole number, written without quotes"],
    ),
    "port too high": (
        "version: 1\nhosts:\n- name: a\n  ssh: {port: 65536}\n",
        ["4: hosts[0].ssh.port: expected a number from 1 to 65535, found `65536`"],
    ),
    "no such generation": (
        "version: 1\ndefaults: {generation: A3}\nhosts:\n- name: a\n",
        ["2: defaults.generation: expected auto, a2 or a3, found `A3`", "did you mean a3?"],
    ),
    "no such policy": (
        "version: 1\nhosts:\n- name: a\n  ssh: {host_key_policy: accept_new}\n",
        ["4: hosts[0].ssh.host_key_policy: expected strict or accept-new", "did you mean accept-new?"],
    ),
    "too many npus": (
        "version: 1\nhosts:\n- name: a\n  npus: 65\n",
        ["4: hosts[0].npus: expected auto or a number from 1 to 64, found `65`"],
    ),
    "npus yes": (
        "version: 1\nhosts:\n- name: a\n  npus: yes\n",
        ["4: hosts[0].npus: expected auto or a number"],
    ),
    "npus a word": (
        "version: 1\nhosts:\n- name: a\n  npus: all\n",
        ["4: hosts[0].npus: expected auto or a number"],
    ),
    "unknown threshold": (
        "version: 1\ndefaults:\n  thresholds: {link-flap-max: 3}\nhosts:\n- name: a\n",
        ["3: defaults.thresholds.link-flap-max: unknown key", "did you mean link-flaps-max?"],
    ),
    "unknown threshold of a group named like the block": (
        "version: 1\ngroups:\n  thresholds:\n    thresholds: {colour: 3}\nhosts:\n- name: a\n",
        ["4: groups.thresholds.thresholds.colour: unknown key", "known here: ", "optical-snr-low-db"],
    ),
    "threshold as a word": (
        "version: 1\nhosts:\n- name: a\n  thresholds:\n    link-flaps-max: '3'\n",
        ["5: hosts[0].thresholds.link-flaps-max: expected a number, written without quotes, found ", "3"],
    ),
    "threshold as true": (
        "version: 1\nhosts:\n- name: a\n  thresholds: {link-flaps-max: true}\n",
        ["4: hosts[0].thresholds.link-flaps-max: expected a number, written without quotes, found `true`"],
    ),
    "threshold below nothing": (
        "version: 1\nhosts:\n- name: a\n  thresholds: {optical-rx-power-low-mw: -0.5}\n",
        ["4: hosts[0].thresholds.optical-rx-power-low-mw: expected a number from 0 on, found `-0.5`"],
    ),
    "threshold above all": (
        "version: 1\nhosts:\n- name: a\n  thresholds: {hbm-use-max-percent: 101}\n",
        ["4: hosts[0].thresholds.hbm-use-max-percent: expected a number from 0 to 100, found `101`"],
    ),
    "threshold that is no number": (
        "version: 1\nhosts:\n- name: a\n  thresholds: {link-flaps-max: .inf}\n",
        ["4: hosts[0].thresholds.link-flaps-max: expected a number, found `.inf`"],
    ),
    "threshold without a value": (
        "version: 1\nhosts:\n- name: a\n  thresholds:\n    link-flaps-max:\n",
        ["5: hosts[0].thresholds.link-flaps-max: has no value"],
    ),
    "an engine's port that is none": (
        "version: 1\nhosts:\n- name: a\n  engine: {ports: [8000, 0]}\n",
        ["4: hosts[0].engine.ports[1]: expected a number from 1 to 65535, found `0`"],
    ),
    "too many ports of an engine": (
        f"version: 1\nhosts:\n- name: a\n  engine: {{ports: {list(range(8000, 8017))}}}\n",
        ["4: hosts[0].engine.ports: expected a shorter list, found a list"],
    ),
    "cabling of no device": (
        "version: 1\nhosts:\n- name: a\n  cabling:\n    one: leaf-1\n",
        ["5: hosts[0].cabling.one: `one` is no number, and no range such as 0-7"],
    ),
    "cabling of a device that cannot be": (
        "version: 1\ndefaults:\n  cabling: {0-64: leaf-1}\nhosts:\n- name: a\n",
        ["3: defaults.cabling.0-64: a physical id is a number from 0 to 63"],
    ),
    "cabling of far too many devices": (
        "version: 1\ndefaults:\n  cabling: {'0-9,1-99999999999': leaf-1}\nhosts:\n- name: a\n",
        ["3: defaults.cabling.0-9,1-99999999999: stands for more than 100000 numbers"],
    ),
    "cabling with a pattern that does not fit": (
        "version: 1\ngroups:\n  g:\n    cabling:\n      0-7: leaf-[1-6]\nhosts:\n- name: a\n",
        ["5: groups.g.cabling.0-7: `leaf-[1-6]` stands for 6 names, for 8 devices", "one each"],
    ),
    "cabling with a word too many": (
        "version: 1\nhosts:\n- name: a\n  cabling:\n    2: leaf 1 port\n",
        ["5: hosts[0].cabling.2: `leaf 1 port` is no switch"],
    ),
    "cabling of a device twice": (
        "version: 1\nhosts:\n- name: a\n  cabling:\n    0-3: leaf-1\n    2: leaf-2\n",
        ["6: hosts[0].cabling.2: device 2 is already given under `0-3`"],
    ),
    "cabling without a value": (
        "version: 1\nhosts:\n- name: a\n  cabling:\n    0-3:\n",
        ["5: hosts[0].cabling.0-3: has no value", "null"],
    ),
    "cabling to a number": (
        "version: 1\nhosts:\n- name: a\n  cabling:\n    0-3: 7\n",
        ["5: hosts[0].cabling.0-3: expected text, found `7`", "quotes"],
    ),
    "cabling as a word": (
        "version: 1\nhosts:\n- name: a\n  cabling: leaf-1\n",
        ["4: hosts[0].cabling: expected a mapping, found `leaf-1`"],
    ),
    "thresholds as a number": (
        "version: 1\nhosts:\n- name: a\n  thresholds: 3\n",
        ["4: hosts[0].thresholds: expected a mapping, found `3`"],
    ),
    "one tag without a list": (
        "version: 1\nhosts:\n- name: a\n  tags: rack1\n",
        ["4: hosts[0].tags: expected a list, such as [first, second], found `rack1`"],
    ),
    "hostile tag": ("version: 1\nhosts:\n- name: a\n  tags: [a b]\n", ["4: hosts[0].tags[0]: `a b`: "]),
    "exec as one text": (
        "version: 1\nhosts:\n- name: a\n  engine: {exec: docker exec x}\n",
        ["4: hosts[0].engine.exec: expected a list"],
    ),
    "a value left out": (
        "version: 1\nhosts:\n- name: a\n  ssh:\n    user:\n",
        ["5: hosts[0].ssh.user: has no value", "`null`"],
    ),
    "a key twice": (
        "version: 1\nhosts:\n- name: a\n  nic: b\n  nic: c\n",
        ["5: hosts[0].nic: the key was already given on line 4"],
    ),
    "a key that is a boolean": (
        "version: 1\ngroups:\n  on:\n    nic: a\nhosts:\n- name: a\n",
        ["3: groups.on: the key `on` is read by YAML as true or false", "quotes"],
    ),
    "a key that is a list": ("version: 1\n? [a]\n: b\nhosts:\n- name: a\n", ["2: a key must be a word"]),
    "a python tag": (
        "version: 1\nhosts:\n- name: !!python/name:os.system a\n",
        ["3: hosts[0].name: the YAML tag ", "is not used"],
    ),
    "placeholder": (
        "version: 1\ndefaults:\n  ssh:\n    user: <your-user>\nhosts:\n- name: a\n",
        ["4: defaults.ssh.user: the placeholder <your-user> was left in"],
    ),
    "placeholder inside a value": (
        "version: 1\nhosts:\n- name: a\n  engine:\n    exec:\n    - docker\n    - x-<容器名>-y\n",
        ["7: hosts[0].engine.exec[1]: the placeholder <容器名> was left in"],
    ),
    "placeholder as a key": (
        "version: 1\ngroups:\n  <group>:\n    nic: a\nhosts:\n- name: a\n",
        ["3: groups.<group>: the placeholder <group> was left in"],
    ),
    "placeholder in what is left alone": (
        "version: 1\nx-shared:\n  a: <b>\nhosts:\n- name: a\n",
        ["3: x-shared.a: the placeholder <b>"],
    ),
    "command substitution": (
        "version: 1\nhosts:\n- name: $(reboot)\n",
        ["3: hosts[0].name: the host name `$(reboot)` cannot be used: a name holds letters"],
    ),
    "semicolon": (
        'version: 1\nhosts:\n- name: "a;rm -rf b"\n',
        ["3: hosts[0].name: the host name `a;rm -rf b`"],
    ),
    "space": (
        "version: 1\nhosts:\n- name: node01 node02\n",
        ["3: hosts[0].name: the host name `node01 node02`"],
    ),
    "option": ("version: 1\nhosts:\n- name: -oProxyCommand=x\n", ["3: hosts[0].name: ", "begins with `-`"]),
    "parent folder": ("version: 1\nhosts:\n- name: ..\n", ["3: hosts[0].name: ", "begins with `.`"]),
    "slash": ("version: 1\nhosts:\n- name: a/b\n", ["3: hosts[0].name: the host name `a/b`"]),
    "not ASCII": ("version: 1\nhosts:\n- name: 节点\n", ["3: hosts[0].name: the host name `节点`"]),
    "escape sequence": (
        'version: 1\nhosts:\n- name: "a\\e[31m"\n',
        ["3: hosts[0].name: a control character (U+001B)"],
    ),
    "line break": (
        'version: 1\nhosts:\n- name: "a\\nb"\n',
        ["3: hosts[0].name: the host name `a…` cannot be used"],
    ),
    "text turned around": (
        'version: 1\nhosts:\n- name: a\n  engine: {exec: ["\\u202Eabc"]}\n',
        ["4: hosts[0].engine.exec[0]: a control character (U+202E)"],
    ),
    "hostile user": (
        "version: 1\nhosts:\n- name: a\n  ssh: {user: -lroot}\n",
        ["4: hosts[0].ssh.user: `-lroot`: a login name holds"],
    ),
    "hostile address": (
        'version: 1\nhosts:\n- name: a\n  address: "1.2.3.4; reboot"\n',
        ["4: hosts[0].address: the address `1.2.3.4; reboot` cannot be used"],
    ),
    "IPv4 out of range": (
        "version: 1\nhosts:\n- name: a\n  address: 10.0.0.300\n",
        ["4: hosts[0].address: ", "no IP"],
    ),
    "IPv4 with zeros": (
        "version: 1\nhosts:\n- name: a[1-2]\n  address: 10.0.0.[01-02]\n",
        ["4: hosts[0].address: the address `10.0.0.01`", "must not begin with 0"],
    ),
    "address with port": (
        "version: 1\nhosts:\n- name: a\n  address: 10.0.0.1:2222\n",
        ["4: hosts[0].address: ", "ssh.port"],
    ),
    "IPv6 in brackets": (
        'version: 1\nhosts:\n- name: a\n  address: "[2001:db8::1]"\n',
        ["4: hosts[0].address: "],
    ),
    "hostile interface": ("version: 1\nhosts:\n- name: a\n  nic: a;b\n", ["4: hosts[0].nic: `a;b`: "]),
    "counts differ": (
        "version: 1\nhosts:\n- name: node[01-04]\n  address: 10.0.0.[1-3]\n",
        ["4: hosts[0].address: `node[01-04]` stands for 4 names, but `10.0.0.[1-3]` for 3 addresses"],
    ),
    "bracket left open": ("version: 1\nhosts:\n- name: node[01-04\n", ["3: hosts[0].name: ", "not closed"]),
    "brackets inside": ('version: 1\nhosts:\n- name: "n[[1-2]]"\n', ["3: hosts[0].name: ", "do not pair up"]),
    "no range": (
        "version: 1\nhosts:\n- name: node[a-c]\n",
        ["3: hosts[0].name: ", "`[a-c]`", "number ranges"],
    ),
    "range backwards": ("version: 1\nhosts:\n- name: node[5-1]\n", ["3: hosts[0].name: ", "`[5-1]`"]),
    "empty part": ('version: 1\nhosts:\n- name: "a,,b"\n', ["3: hosts[0].name: ", "empty"]),
    "far too many": (
        "version: 1\nhosts:\n- name: n[1-99999999999999999999999]\n",
        ["3: hosts[0].name: ", f"more than {MOST_NAMES}"],
    ),
    "name twice": (
        "version: 1\nhosts:\n- name: node[01-04]\n- name: b\n- name: node[03-06]\n",
        ["5: hosts[2].name: node[03-04] is listed already on line 3"],
    ),
    "name twice in a pattern": (
        "version: 1\nhosts:\n- name: a,b,a\n",
        ["3: hosts[0].name: a is listed twice"],
    ),
    "address twice": (
        "version: 1\nhosts:\n- name: a\n  address: 10.0.0.1\n- name: b\n  address: 10.0.0.1\n",
        ["6: hosts[1].address: b and a (line 3) have the same address 10.0.0.1 port 22"],
    ),
    "address twice by default port and letters": (
        "version: 1\nhosts:\n- name: srv\n- name: b\n  address: SRV\n  ssh: {port: 22}\n",
        ["5: hosts[1].address: b and srv (line 3) have the same address"],
    ),
    "IPv6 address twice": (
        'version: 1\nhosts:\n- name: a\n  address: "2001:db8::1"\n- name: b\n  address: "2001:DB8:0::1"\n',
        ["6: hosts[1].address: b and a (line 3) have the same address"],
    ),
    "no such group": (
        "version: 1\ngroups:\n  prefill:\nhosts:\n- name: a\n  group: prefil\n",
        ["6: hosts[0].group: there is no group `prefil`; did you mean prefill?"],
    ),
    "group without groups": (
        "version: 1\nhosts:\n- name: a\n  group: x\n",
        ["4: hosts[0].group: there is no group `x`; the file has no `groups`"],
    ),
    "hostile group name": (
        "version: 1\ngroups:\n  a b:\n    nic: x\nhosts:\n- name: a\n",
        ["3: groups.a b: the group name `a b` cannot be used"],
    ),
    "no such jump host": (
        "version: 1\nhosts:\n- name: bastion\n- name: a\n  ssh:\n    jump: bastoin\n",
        ["6: hosts[1].ssh.jump: there is no host `bastoin` to jump through; did you mean bastion?"],
    ),
    "jump through oneself": (
        "version: 1\ndefaults:\n  ssh:\n    jump: b\nhosts:\n- name: b\n- name: a\n",
        ["4: defaults.ssh.jump: jump hosts form a circle: b → b", "`ssh: {jump: null}`"],
    ),
    "jump without an address": (
        "version: 1\nhosts:\n- name: a\n  ssh:\n    jump: {user: root}\n",
        ["5: hosts[0].ssh.jump.address: `address` is missing"],
    ),
    "waiver without an end": (
        "version: 1\nhosts:\n- name: a\nwaivers:\n- check: lldp\n  reason: x\n",
        ["5: waivers[0].until: `until` is missing"],
    ),
    "waiver without a reason": (
        "version: 1\nhosts:\n- name: a\nwaivers:\n- check: lldp\n  until: 2030-01-31\n",
        ["5: waivers[0].reason: `reason` is missing"],
    ),
    "waiver with an empty reason": (
        'version: 1\nhosts:\n- name: a\nwaivers:\n- check: lldp\n  until: 2030-01-31\n  reason: " "\n',
        ["7: waivers[0].reason: ", "say why"],
    ),
    "waiver without a check": (
        "version: 1\nhosts:\n- name: a\nwaivers:\n- until: 2030-01-31\n  reason: x\n",
        ["5: waivers[0].check: `check` is missing"],
    ),
    "waiver until no day": (
        "version: 1\nhosts:\n- name: a\nwaivers:\n- check: lldp\n  until: 2030-02-30\n  reason: x\n",
        ["6: waivers[0].until: `2030-02-30`: is no day of the calendar"],
    ),
    "waiver until an hour": (
        "version: 1\nhosts:\n- name: a\nwaivers:\n- check: lldp\n  until: 2030-01-31 12:00:00\n  reason: x\n",
        ["6: waivers[0].until: ", "YYYY-MM-DD"],
    ),
    "waiver until a word": (
        "version: 1\nhosts:\n- name: a\nwaivers:\n- check: lldp\n  until: soon\n  reason: x\n",
        ["6: waivers[0].until: `soon`: expected a date as YYYY-MM-DD"],
    ),
    "waiver of an unknown check": (
        "version: 1\nhosts:\n- name: a\nwaivers:\n- {check: ldlp, until: 2030-01-31, reason: x}\n",
        ["5: waivers[0].check: there is no check `ldlp`; did you mean lldp?"],
    ),
    "waiver of an unknown host": (
        waiving("node01", "host: node1"),
        ["5: waivers[0].host: no host named node1 in the inventory; did you mean node01?"],
    ),
    "waiver of an unknown group": (
        waiving("a", 'host: "@x"'),
        ["5: waivers[0].host: no group @x in the inventory"],
    ),
    "waiver of nothing": (
        waiving("a", 'host: "a!a"'),
        ["5: waivers[0].host: `a!a` stands for no host"],
    ),
    "waiver of a device by a boolean": (
        waiving("a", "device: true"),
        ["5: waivers[0].device: expected a whole number"],
    ),
    "waiver of a device out of range": (
        waiving("a", "device: 64"),
        ["5: waivers[0].device: expected a number from 0 to 63"],
    ),
    "tab": ("version: 1\nhosts:\n\t- name: a\n", ["3: not valid YAML: ", "not with tabs"]),
    "pattern without quotes in braces": (
        "version: 1\nhosts:\n- {name: node[01-04], nic: a}\n",
        ["3: not valid YAML: ", '"node[01-48]"'],
    ),
    "pattern that begins with a bracket": (
        "version: 1\nhosts:\n- name: [01-04]node\n",
        ["3: not valid YAML: ", "in quotes"],
    ),
    "group without quotes": (
        "version: 1\nhosts:\n- name: a\nwaivers:\n- check: lldp\n  host: @x\n",
        ["6: not valid YAML: ", "in quotes"],
    ),
    "two documents": ("version: 1\nhosts:\n- name: a\n---\nversion: 1\n", ["4: not valid YAML: ", "`---`"]),
    "undefined alias": ("version: 1\nhosts:\n- name: a\n  ssh: *x\n", ["4: not valid YAML: ", "alias"]),
    "alias of itself": (
        "version: 1\nx-a: &a\n  b: *a\nhosts:\n- name: a\n",
        ["2: x-a.b: an alias (*…) holds itself"],
    ),
    "merge of no mapping": (
        "version: 1\nhosts:\n- name: a\n  ssh:\n    <<: abc\n",
        ["5: hosts[0].ssh: `<<` takes a mapping"],
    ),
    "control character": ("version: 1\nhosts:\n- name: a\x07b\n", ["3: a control character (U+0007)"]),
    "nothing": ("", ["1: is empty; `inventory.example.yaml` shows"]),
    "comments only": ("# nothing yet\n", ["1: is empty"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_told_with_its_line_and_alone(name: str, tmp_path: Path) -> None:
    text, expected = MISTAKES[name]
    found = problems(tmp_path, text, known_checks={"lldp", "link"})
    assert len(found) == 1, found
    assert found[0].startswith(expected[0]), found[0]
    assert all(part in found[0] for part in expected), found[0]


def test_all_problems_are_told_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    text = """
        version: 1
        defaults:
          ssh: {prot: 1}
        groups:
          g: {npus: many}
        hosts:
          - name: node[01-02]
            address: 10.0.0.1
            group: gg
            generation: a4
          - name: node02
          - name: "a b"
            colour: red
        waivers:
          - check: nothing
            host: node02
    """
    found = problems(tmp_path, text, known_checks={"lldp"})
    assert [line.split(": ")[:2] for line in found] == [
        ["3", "defaults.ssh.prot"],
        ["5", "groups.g.npus"],
        ["8", "hosts[0].address"],
        ["9", "hosts[0].group"],
        ["10", "hosts[0].generation"],
        ["11", "hosts[1].name"],
        ["12", "hosts[2].name"],
        ["13", "hosts[2].colour"],
        ["15", "waivers[0].check"],
        ["15", "waivers[0].reason"],
        ["15", "waivers[0].until"],
    ]


def test_a_wrong_entry_does_not_make_those_that_refer_to_it_wrong(tmp_path: Path) -> None:
    text = """
        version: 1
        hosts:
          - name: bastion
            colour: red
          - name: a b
          - name: c
            ssh: {jump: bastion}
          - name: d
            ssh: {jump: a}
        waivers:
          - {check: lldp, host: "a,bastion", until: 2030-01-01, reason: x}
    """
    found = problems(tmp_path, text)
    assert [line.split(": ")[1] for line in found] == ["hosts[0].colour", "hosts[1].name"]


def test_equal_addresses_are_told_apart_by_a_jump_host_beside_a_mistake(tmp_path: Path) -> None:
    text = """
        version: 1
        hosts:
          - {name: a, address: 10.0.0.1, ssh: {jump: {address: east}, prot: 1}}
          - {name: b, address: 10.0.0.1, ssh: {jump: {address: west}}}
    """
    assert [line.split(": ")[1] for line in problems(tmp_path, text)] == ["hosts[0].ssh.prot"]


def test_a_shared_block_is_wrong_once(tmp_path: Path) -> None:
    text = """
        version: 1
        x-ssh: &ssh
          port: 99999
        hosts:
          - {name: a, ssh: *ssh}
          - {name: b, ssh: *ssh}
    """
    found = problems(tmp_path, text)
    assert {line.split(": ")[0] for line in found} == {"3"}


SECRET = "hunter2-Sw0rd"
SECRETS = {
    "password as text": f"hosts:\n- name: a\n  ssh: {{password: {SECRET}}}\n",
    "password of a jump host": f"hosts:\n- name: a\n  ssh: {{jump: {{address: b, password: {SECRET}}}}}\n",
    "password in a mapping of its own": f"hosts:\n- name: a\n  ssh: {{password: {{value: {SECRET}}}}}\n",
    "password as a key": f"hosts:\n- name: a\n  ssh: {{password: {{{SECRET}}}}}\n",
    "password in a list": f"hosts:\n- name: a\n  ssh: {{password: [{SECRET}]}}\n",
    "password as a placeholder": f"hosts:\n- name: a\n  ssh: {{password: <{SECRET}>}}\n",
    "password for a variable": f"hosts:\n- name: a\n  ssh: {{password: {{env: '{SECRET}!'}}}}\n",
    "command as text": f"hosts:\n- name: a\n  ssh: {{password: {{command: 'echo {SECRET}'}}}}\n",
    "password outside ssh": f"hosts:\n- name: a\n  password: {SECRET}\n",
    "password at the top": f"hosts:\n- name: a\nssh_pass: {SECRET}\n",
    "sudo password": f"defaults:\n  sudo_password: {SECRET}\nhosts:\n- name: a\n",
    "in an address": f"hosts:\n- name: a\n  address: root:{SECRET}@10.0.0.1\n",
    "in a jump": f"hosts:\n- name: a\n  ssh: {{jump: 'root:{SECRET}@10.0.0.1'}}\n",
    "in broken YAML": f"hosts:\n- name: a\n  ssh:\n    password: *{SECRET}\n",
    "in broken YAML, bare": f"hosts:\n- name: a\n  ssh:\n    password: @{SECRET}\n",
    "private key": f"hosts:\n- name: a\n  ssh:\n    identity: |\n      -----BEGIN\n      {SECRET}\n",
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_in_the_file_is_refused_and_not_repeated(name: str, tmp_path: Path) -> None:
    found = "\n".join(problems(tmp_path, "version: 1\n" + SECRETS[name]))
    assert SECRET not in found
    assert not any(SECRET[start : start + 7] in found for start in range(len(SECRET) - 6))


@pytest.mark.parametrize("value", [SECRET, "12345", "yes", "{}", "{env: A, command: [b]}", "null x"])
def test_a_literal_password_is_answered_with_where_one_comes_from(value: str, tmp_path: Path) -> None:
    found = problems(tmp_path, f"version: 1\nhosts:\n- name: a\n  ssh:\n    password: {value}\n")
    assert len(found) == 1
    assert found[0].startswith("5: hosts[0].ssh.password: ")
    assert "env" in found[0] and "command" in found[0]


def test_a_misspelt_prompt_is_told(tmp_path: Path) -> None:
    found = problems(tmp_path, "version: 1\nhosts:\n- name: a\n  ssh: {password: promt}\n")
    assert "did you mean prompt?" in found[0]


# --- files that are none --------------------------------------------------------------------------


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"absent\.yaml: there is no such file"):
        load(tmp_path / "absent.yaml")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="is a folder"):
        load(tmp_path)


def test_file_that_cannot_be_opened(tmp_path: Path) -> None:
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    with pytest.raises(InventoryError, match=r"loop\.yaml: cannot be read: \w"):
        load(loop)


def test_name_that_no_file_can_have() -> None:
    with pytest.raises(InventoryError, match="cannot be read"):
        load(Path("a\0b"))


def test_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "gbk.yaml"
    file.write_bytes("version: 1\nhosts:\n- name: a # 节点\n".encode("gbk"))
    with pytest.raises(InventoryError, match=r"gbk\.yaml:3: is not UTF-8"):
        load(file)


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "bom.yaml"
    file.write_bytes(b"\xef\xbb\xbfversion: 1\r\nhosts:\r\n- name: a\r\n")
    assert [host.name for host in load(file).hosts] == ["a"]


def test_too_large(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="larger than 4 MiB"):
        load(Path("/dev/zero"))


def test_from_a_pipe(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from ascendctl.inventory import load; "
    program += "print(load(Path('/dev/stdin')).hosts[0].name)"
    text = "version: 1\nhosts:\n- name: piped\n"
    done = subprocess.run(
        [sys.executable, "-c", program], input=text, capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "piped\n"


@pytest.mark.parametrize("bracket", ["[", "{a: "])
def test_endless_nesting(bracket: str, tmp_path: Path) -> None:
    file = write(tmp_path, f"version: 1\nhosts: {bracket * 5000}")
    with pytest.raises(InventoryError, match="nested too deeply"):
        load(file)


@pytest.mark.parametrize("kind", ["list", "merge"])
def test_aliases_that_multiply(kind: str, tmp_path: Path) -> None:
    """Forty levels, each holding the one before nine times, take no more time than forty levels."""
    lines = ["version: 1", "x-0: &a0 {k: v}"]
    for level in range(1, 41):
        before = ", ".join([f"*a{level - 1}"] * 9)
        value = f"[{before}]" if kind == "list" else f"{{<<: [{before}]}}"
        lines.append(f"x-{level}: &a{level} {value}")
    lines += ["hosts:", "- name: a", "  tags: *a40" if kind == "list" else "  ssh: *a40"]
    found = problems(tmp_path, "\n".join(lines))
    assert all("hosts[0]" in line for line in found)


# --- merging --------------------------------------------------------------------------------------


def test_host_wins_over_group_over_defaults(tmp_path: Path) -> None:
    inventory = loaded(
        tmp_path,
        """
        version: 1
        defaults:
          privilege: sudo
          generation: a2
          npus: 8
          scale_out: none
          nic: eth0
          tags: [all]
          engine: {exec: [docker, exec, one]}
          ssh: {user: ops, port: 2022, identity: [/k/1, /k/2], password: prompt, config: false}
        groups:
          g:
            generation: a3
            npus: 16
            tags: [g]
            engine: {}
            ssh: {user: root, host_key_policy: accept-new}
        hosts:
          - name: plain
          - name: grouped
            group: g
          - name: own
            group: g
            npus: auto
            accelerator: cpu
            tags: [own]
            ssh: {user: me, identity: keys/own, password: {env: PW}}
        """,
    )
    hosts = by_name(inventory)
    ssh = {
        "port": 2022,
        "identity_files": (Path("/k/1"), Path("/k/2")),
        "password": PasswordSource(prompt=True),
        "use_ssh_config": False,
    }
    base: dict[str, Any] = {"privilege": Privilege.SUDO, "scale_out": "none", "nic": "eth0"}
    assert hosts["plain"] == Host(
        name="plain",
        endpoint=Endpoint("plain", "plain", user="ops", **ssh),
        generation="a2",
        npus=8,
        tags=frozenset({"all"}),
        engine_exec=("docker", "exec", "one"),
        **base,
    )
    accepting = {"host_key_policy": HostKeyPolicy.ACCEPT_NEW}
    assert hosts["grouped"] == Host(
        name="grouped",
        endpoint=Endpoint("grouped", "grouped", user="root", **ssh, **accepting),
        group="g",
        generation="a3",
        npus=16,
        tags=frozenset({"all", "g"}),
        **base,
    )
    own = {**ssh, "identity_files": (tmp_path / "keys/own",), "password": PasswordSource(env="PW")}
    assert hosts["own"] == Host(
        name="own",
        endpoint=Endpoint("own", "own", user="me", **own, **accepting),
        group="g",
        accelerator="cpu",
        generation="a3",
        npus=None,
        tags=frozenset({"all", "g", "own"}),
        **base,
    )
    assert inventory.groups == ("g",)


def test_what_is_not_said_is_the_default(tmp_path: Path) -> None:
    inventory = loaded(tmp_path, "version: 1\nhosts:\n- name: a\n")
    assert inventory.hosts == (Host(name="a", endpoint=Endpoint(name="a", address="a")),)
    assert inventory.waivers == ()
    assert inventory.groups == ()


def test_null_cancels_what_is_inherited(tmp_path: Path) -> None:
    inventory = loaded(
        tmp_path,
        """
        version: 1
        defaults:
          nic: eth0
          privilege: sudo
          tags: [t]
          engine: {exec: [x]}
          thresholds: {link-flaps-max: 9}
          ssh: {user: u, port: 1, identity: k, known_hosts: h, password: prompt, jump: {address: j}}
        hosts:
          - name: a
            nic: null
            privilege: ~
            tags: null
            engine: null
            thresholds: null
            ssh: {user: null, port: null, identity: null, known_hosts: null, password: null, jump: null}
        """,
    )
    assert inventory.hosts == (Host(name="a", endpoint=Endpoint(name="a", address="a")),)


def test_thresholds_are_merged_by_name_and_the_nearest_wins(tmp_path: Path) -> None:
    inventory = loaded(
        tmp_path,
        """
        version: 1
        defaults:
          thresholds: {link-flaps-max: 9, hbm-use-max-percent: 50, optical-temperature-low-c: -5}
        groups:
          g:
            thresholds: {link-flaps-max: 3, optical-rx-power-low-mw: 0.25}
        hosts:
          - name: plain
          - name: grouped
            group: g
          - name: own
            group: g
            thresholds: {link-flaps-max: 0, hbm-use-max-percent: null}
        """,
    )
    base = {"link-flaps-max": 9.0, "hbm-use-max-percent": 50.0, "optical-temperature-low-c": -5.0}
    grouped = {**base, "link-flaps-max": 3.0, "optical-rx-power-low-mw": 0.25}
    own = {name: limit for name, limit in grouped.items() if name != "hbm-use-max-percent"}
    hosts = by_name(inventory)
    assert hosts["plain"].thresholds == base
    assert hosts["grouped"].thresholds == grouped
    assert hosts["own"].thresholds == {**own, "link-flaps-max": 0.0}
    assert len(set(hosts.values())) == 3  # hosts stay hashable


def test_cabling_is_merged_by_device_and_the_nearest_wins(tmp_path: Path) -> None:
    inventory = loaded(
        tmp_path,
        """
        version: 1
        defaults:
          cabling: {0-3: "leaf-[1-4]"}
        groups:
          g:
            cabling: {2: spare, 4-6/2: null, "5,7": "other 400GE1/0/[1-2]"}
        hosts:
          - name: plain
          - name: grouped
            group: g
          - name: own
            group: g
            cabling:
              1: null
              7: leaf-9 400GE1/0/7:2
          - name: none
            cabling: null
        """,
    )
    hosts = by_name(inventory)
    base = {device: Cable(f"leaf-{device + 1}") for device in range(4)}
    grouped = {**base, 2: Cable("spare"), 5: Cable("other", "400GE1/0/1"), 7: Cable("other", "400GE1/0/2")}
    assert hosts["plain"].cabling == base
    assert hosts["grouped"].cabling == grouped
    own = {**grouped, 7: Cable("leaf-9", "400GE1/0/7:2")}
    del own[1]
    assert hosts["own"].cabling == own
    assert hosts["none"].cabling == {}
    assert len(set(hosts.values())) == 4  # hosts stay hashable


def test_the_schema_has_every_threshold_with_its_default() -> None:
    found = dict(properties(schema()))
    for one in THRESHOLDS:
        assert default_text(one) in found[one.name]["description"], one.name
    text = "version: 1\nhosts: [{name: a, thresholds: {port-mtu-bytes: null, link-flaps-max: 3}}]"
    jsonschema.validate(yaml.safe_load(text), schema())


def test_sections_may_be_empty(tmp_path: Path) -> None:
    text = "version: 1\ndefaults:\n  ssh:\n  engine:\n  cabling:\n  thresholds:\ngroups:\n  g:\n"
    text += "hosts:\n- name: a\n  group: g\n  tags:\nwaivers:\n"
    assert loaded(tmp_path, text).hosts[0].group == "g"


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    inventory = loaded(
        tmp_path,
        """
        version: 1
        x-shared:
          slow: &slow {user: slow, port: 7}
          other: &other {port: 8, config: false}
        hosts:
          - name: a
            ssh:
              <<: [*slow, *other]
              user: own
          - name: b
            ssh: *slow
        """,
    )
    hosts = by_name(inventory)
    assert hosts["a"].endpoint == Endpoint("a", "a", user="own", port=7, use_ssh_config=False)
    assert hosts["b"].endpoint == Endpoint("b", "b", user="slow", port=7)


def test_paths_start_at_home_or_at_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    text = (
        "version: 1\nhosts:\n- name: a\n  ssh: {identity: [~/k, k, /k, ~nosuchuser0/k], known_hosts: ../h}\n"
    )
    endpoint = loaded(tmp_path, text).hosts[0].endpoint
    assert endpoint.identity_files == (
        Path("/home/someone/k"),
        tmp_path / "k",
        Path("/k"),
        Path("~nosuchuser0/k"),
    )
    assert endpoint.known_hosts == tmp_path / "../h"


def test_jump_host_by_name_is_that_host_with_its_own_settings(tmp_path: Path) -> None:
    inventory = loaded(
        tmp_path,
        """
        version: 1
        defaults: {ssh: {user: root, jump: gate}}
        hosts:
          - name: n1
          - name: gate
            address: 10.9.9.9
            ssh: {port: 2222, user: ops, jump: {address: outer, user: me, password: {command: [pass, x]}}}
        """,
    )
    outer = Endpoint("outer", "outer", user="me", password=PasswordSource(command=("pass", "x")))
    gate = Endpoint("gate", "10.9.9.9", port=2222, user="ops", jump=outer)
    assert by_name(inventory)["n1"].endpoint == Endpoint("n1", "n1", user="root", jump=gate)
    assert by_name(inventory)["gate"].endpoint == gate


def test_jump_host_in_place_takes_only_trust_from_the_host_behind(tmp_path: Path) -> None:
    text = """
        version: 1
        hosts:
          - name: a
            ssh:
              user: root
              port: 99
              identity: /k
              password: prompt
              known_hosts: /h
              host_key_policy: accept-new
              config: false
              jump: {address: j, jump: {address: i, config: true, host_key_policy: strict, known_hosts: /i}}
    """
    jump = loaded(tmp_path, text).hosts[0].endpoint.jump
    inner = Endpoint("i", "i", known_hosts=Path("/i"))
    assert jump == Endpoint(
        "j",
        "j",
        known_hosts=Path("/h"),
        host_key_policy=HostKeyPolicy.ACCEPT_NEW,
        use_ssh_config=False,
        jump=inner,
    )


def test_a_longer_circle_of_jump_hosts(tmp_path: Path) -> None:
    text = """
        version: 1
        hosts:
          - {name: a, ssh: {jump: b}}
          - {name: b, ssh: {jump: {address: x, jump: c}}}
          - {name: c, ssh: {jump: a}}
    """
    found = problems(tmp_path, text)
    assert all("jump hosts form a circle" in line for line in found)
    assert any("a → b → c → a" in line for line in found)


@pytest.mark.parametrize(
    "difference",
    ["ssh: {port: 23}", "ssh: {jump: {address: west}}", "ssh: {jump: {address: east, port: 23}}"],
)
def test_equal_addresses_in_different_places(difference: str, tmp_path: Path) -> None:
    text = f"""
        version: 1
        hosts:
          - name: a
            address: 10.0.0.1
            ssh: {{jump: {{address: east}}}}
          - name: b
            address: 10.0.0.1
            {difference}
    """
    assert len(loaded(tmp_path, text).hosts) == 2


# --- patterns -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a", ["a"]),
        ("node[01-03]", ["node01", "node02", "node03"]),
        ("node[3,1-2]", ["node3", "node1", "node2"]),
        ("n[1-5/2]", ["n1", "n3", "n5"]),
        ("n[08-11]", ["n08", "n09", "n10", "n11"]),
        ("b,a[1-2]", ["b", "a1", "a2"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("10.1.[1-2].[9-10]", ["10.1.1.9", "10.1.1.10", "10.1.2.9", "10.1.2.10"]),
        ("2001:db8::[1-2]", ["2001:db8::1", "2001:db8::2"]),
        ("n[7].example.com", ["n7.example.com"]),
    ],
)
def test_patterns_expand_as_in_clustershell_but_in_written_order(pattern: str, names: list[str]) -> None:
    assert expand(pattern) == names
    assert set(names) == set(NodeSet(pattern, resolver=RESOLVER_NOGROUP))


def test_names_meet_addresses_in_written_order(tmp_path: Path) -> None:
    text = "version: 1\nhosts:\n- name: node[01-03],x\n  address: 10.0.0.[12,11,10],10.0.1.1\n"
    hosts = loaded(tmp_path, text).hosts
    assert [(host.name, host.endpoint.address) for host in hosts] == [
        ("node01", "10.0.0.12"),
        ("node02", "10.0.0.11"),
        ("node03", "10.0.0.10"),
        ("x", "10.0.1.1"),
    ]


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        ([], ""),
        (["a"], "a"),
        (["beta", "alpha", "beta"], "alpha,beta"),
        (["node03", "node01", "node02"], "node[01-03]"),
        (["node09", "node10", "node12"], "node[09-10,12]"),
        (["n1.x", "n2.x"], "n[1-2].x"),
        (["10.0.0.1", "10.0.0.2"], "10.0.0.[1-2]"),
        (["node01", "a@b", "%s"], "node01,%s,a@b"),
    ],
)
def test_fold(names: list[str], folded: str) -> None:
    assert fold(names) == folded
    assert fold(reversed(names)) == folded


# --- selection ------------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path: Path) -> Inventory:
    return loaded(
        tmp_path,
        """
        version: 1
        groups: {pre-fill: {tags: [npu]}, decode: {tags: [npu, big]}, spare: }
        hosts:
          - {name: "node[03-04]", group: decode, tags: [rack2]}
          - {name: "node[01-02]", group: pre-fill, tags: [rack1]}
          - {name: login, tags: [机房1]}
        """,
    )


@pytest.mark.parametrize(
    ("hosts", "exclude", "tags", "chosen"),
    [
        (None, None, [], "node03 node04 node01 node02 login"),
        ("node[01-03]", None, [], "node03 node01 node02"),
        ("login,node01", None, [], "node01 login"),
        ("node[01-04]!node02", None, [], "node03 node04 node01"),
        ("node[01-03]&node[02-04]", None, [], "node03 node02"),
        ("node[01-03]^node[02-04]", None, [], "node04 node01"),
        ("@decode", None, [], "node03 node04"),
        ("@pre-fill,login", None, [], "node01 node02 login"),
        ("@*!@decode", None, [], "node01 node02 login"),
        ("node*", None, [], "node03 node04 node01 node02"),
        (None, "@decode,login", [], "node01 node02"),
        ("@decode", "node04", [], "node03"),
        (None, "@spare", [], "node03 node04 node01 node02 login"),
        (None, None, ["npu"], "node03 node04 node01 node02"),
        (None, None, ["npu", "rack1"], "node01 node02"),
        (None, None, ["rack1,rack2", "big"], "node03 node04"),
        (None, "node01", ["rack1"], "node02"),
        (None, None, ["机房1"], "login"),
    ],
)
def test_select(
    hosts: str | None, exclude: str | None, tags: list[str], chosen: str, cluster: Inventory
) -> None:
    assert " ".join(host.name for host in select(cluster, hosts, exclude, tags)) == chosen


@pytest.mark.parametrize(
    ("hosts", "exclude", "tags", "parts"),
    [
        ("node1", None, [], ["--hosts: no host named node1", "did you mean node01"]),
        ("node[04-06]", None, [], ["--hosts: no host named node[05-06]"]),
        (None, "logni", [], ["--exclude: no host named logni", "did you mean login?"]),
        ("@prefill", None, [], ["no group @prefill", "did you mean pre-fill?"]),
        ("@x", None, [], ["no group @x", "pre-fill, decode, spare"]),
        ("node[01-", None, [], ["--hosts: `node[01-`", "bracket"]),
        ("node01!", None, [], ["--hosts: `node01!` is not a node set"]),
        ("node[1-99999999999]", None, [], ["more than"]),
        ("@other:x", None, [], ["no group @other:x"]),
        (None, None, ["npus"], ["--tags: no host of the inventory has the tag npus; did you mean npu?"]),
        (None, None, ["decode"], ["use --hosts @decode"]),
        ("@spare", None, [], ["no host of ", "--hosts @spare"]),
        ("", None, [], ["no host of "]),
        ("login", "login", [], ["no host of ", "--hosts login --exclude login"]),
        ("login", None, ["npu"], ["no host of ", "--hosts login --tags npu"]),
    ],
)
def test_select_refuses(
    hosts: str | None, exclude: str | None, tags: list[str], parts: list[str], cluster: Inventory
) -> None:
    with pytest.raises(InventoryError) as caught:
        select(cluster, hosts, exclude, tags)
    assert len(caught.value.problems) == 1
    assert all(part in caught.value.problems[0] for part in parts), caught.value.problems


def test_a_forgotten_zero_is_the_nearest_miss(tmp_path: Path) -> None:
    inventory = loaded(tmp_path, "version: 1\nhosts:\n- name: node[01-48]\n")
    with pytest.raises(InventoryError, match=r"did you mean node01\?"):
        select(inventory, "node1")


def test_select_tells_every_option_that_is_wrong(cluster: Inventory) -> None:
    with pytest.raises(InventoryError) as caught:
        select(cluster, "x", "y", ["z"])
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["--hosts", "--exclude", "--tags"]


# --- waivers --------------------------------------------------------------------------------------


def test_waivers(tmp_path: Path) -> None:
    inventory = loaded(
        tmp_path,
        """
        version: 1
        groups: {g: }
        hosts:
          - {name: "node[01-03]", group: g}
          - name: other
        waivers:
          - {check: lldp, until: 2030-01-31, reason: everywhere}
          - {check: link, host: "@g!node02", device: 0, until: "2020-02-29", reason: some}
          - check: net-health
            host: other
            until: 2030-01-05
            reason: >
              told in
              two lines
        """,
        known_checks={"lldp", "link", "net-health"},
    )
    everyone = frozenset({"node01", "node02", "node03", "other"})
    assert [(w.check, w.hosts, w.device, w.until, w.reason) for w in inventory.waivers] == [
        ("lldp", everyone, None, dt.date(2030, 1, 31), "everywhere"),
        ("link", frozenset({"node01", "node03"}), 0, dt.date(2020, 2, 29), "some"),
        ("net-health", frozenset({"other"}), None, dt.date(2030, 1, 5), "told in two lines"),
    ]


def test_any_check_may_be_waived_where_the_checks_are_not_known(tmp_path: Path) -> None:
    text = "version: 1\nhosts:\n- name: a\nwaivers:\n- {check: of-tomorrow, until: 2030-01-31, reason: x}\n"
    assert loaded(tmp_path, text).waivers[0].check == "of-tomorrow"


# --- schema, example, documentation ---------------------------------------------------------------


def as_json(file: Path) -> Any:
    """YAML as an editor hands it to a JSON Schema validator: dates are text."""
    return json.loads(json.dumps(yaml.safe_load(file.read_text(encoding="utf-8")), default=str))


def test_schema_is_a_schema_and_the_example_meets_it() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(as_json(EXAMPLE), schema())


@pytest.mark.parametrize(
    "text",
    [
        "hosts: [{name: a}]",
        "version: 2\nhosts: [{name: a}]",
        "version: 1\nhosts: []",
        "version: 1\nhosts: [{name: a, colour: red}]",
        "version: 1\nhosts: [{name: a, npus: 65}]",
        "version: 1\nhosts: [{name: a, npus: all}]",
        "version: 1\nhosts: [{name: a, thresholds: {colour: 1}}]",
        "version: 1\nhosts: [{name: a, thresholds: {link-flaps-max: -1}}]",
        "version: 1\nhosts: [{name: a, ssh: {user: '-x'}}]",
        "version: 1\nhosts: [{name: a, ssh: {password: secret}}]",
        "version: 1\nhosts: [{name: a, ssh: {password: {}}}]",
        "version: 1\nhosts: [{name: a, ssh: {jump: {user: b}}}]",
        "version: 1\nhosts: [{name: a}]\nwaivers: [{check: lldp, reason: x}]",
    ],
)
def test_schema_refuses(text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), schema())


def properties(part: Any, name: str = "") -> list[tuple[str, Any]]:
    """Every key that the schema allows, with its own schema."""
    found: list[tuple[str, Any]] = []
    if isinstance(part, dict):
        found += part.get("properties", {}).items()
        for value in part.values():
            found += properties(value)
    if isinstance(part, list):
        for value in part:
            found += properties(value)
    return found


def test_every_key_is_described() -> None:
    keys = properties(schema())
    assert {"version", "hosts", "jump", "until", "exec", "env"} <= {name for name, _ in keys}
    assert [name for name, key in keys if len(key.get("description", "")) < 10] == []


@pytest.mark.parametrize("file", DOCS, ids=lambda file: file.name)
def test_every_key_is_in_the_documentation(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert sorted({name for name, _ in properties(schema()) if f"`{name}`" not in text}) == []


@pytest.mark.parametrize("file", DOCS, ids=lambda file: file.name)
def test_examples_of_the_documentation_load(file: Path, tmp_path: Path) -> None:
    blocks = file.read_text(encoding="utf-8").split("```yaml\n")[1:]
    texts = [block.split("```")[0] for block in blocks]
    assert texts
    for text in texts:
        assert loaded(tmp_path, text).hosts


def test_the_example_uses_every_key() -> None:
    def keys(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value).union(*(keys(below) for below in value.values()))
        return set().union(*(keys(below) for below in value)) if isinstance(value, list) else set()

    used = keys(as_json(EXAMPLE))
    text = EXAMPLE.read_text(encoding="utf-8")
    missing = {name for name, _ in properties(schema())} - used
    assert {name for name in missing if f"{name}:" not in text} == set()


def test_importing_the_inventory_is_cheap() -> None:
    """The transport and ``ascendctl --help`` import it."""
    program = "import sys, ascendctl.inventory; print([m for m in sys.modules if m in "
    program += "('yaml', 'pydantic', 'ClusterShell', 'rich', 'paramiko')])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "[]\n"
