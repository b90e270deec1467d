"""``/etc/hccn.conf``: what the ports were configured to be.

``key_N=value`` lines with N the physical id, ``#`` comments, lines of at most 384 characters (the
driver's cfg.c). Sparse keys are normal. Keys that ascendctl does not judge are skipped, whatever they
hold; a line that is no key and value at all is not.
"""

from __future__ import annotations

import re

from ascendctl.facts import HccnConfDevice, HccnConfFacts
from ascendctl.parsers.command import Asked
from ascendctl.parsers.grammar import MAX_PHY_ID, ipv4, netmask, unsigned
from ascendctl.parsers.reader import Reader
from ascendctl.parsers.text import BLANKS, Line, NoData, Output, nonblank, unparsed

_KEYS = ("address", "netmask", "gateway", "netdetect", "mtu")
_MTU_LIMIT_BYTES = 65535
_ENTRY = re.compile(r"(?P<key>[A-Za-z][A-Za-z0-9_-]*)[ \t]*=[ \t]*(?P<value>.*)")
_DEVICE_KEY = re.compile(rf"(?P<name>{'|'.join(_KEYS)})_(?P<device>[0-9]+)")
_LINE_LIMIT_CHARACTERS = 384


def read_hccn_conf(asked: Asked, output: Output) -> HccnConfFacts:
    """Address, netmask, gateway, detect address and MTU of each device, where set.

    Raises:
        NoData: no device is configured.
        Unparsed: a malformed line, address or MTU, or two different values for one key.
    """
    devices: dict[str, dict[str, str]] = {}
    for line in nonblank(output.stdout):
        if line.stripped.startswith("#"):
            continue
        entry = _ENTRY.fullmatch(line.stripped)
        if entry is None or len(line.text) > _LINE_LIMIT_CHARACTERS:
            raise unparsed(line, f"expected 'key_N=value' of at most {_LINE_LIMIT_CHARACTERS} characters")
        key = _DEVICE_KEY.fullmatch(entry["key"])
        if key is not None:
            device = str(unsigned(key["device"], line, "a physical id after the key", MAX_PHY_ID))
            _set(devices.setdefault(device, {}), key["name"], entry["value"], line)
    if not devices:
        raise NoData("the file configures no device")
    return HccnConfFacts({device: _device(values) for device, values in devices.items()})


def _device(values: dict[str, str]) -> HccnConfDevice:
    mtu = values.pop("mtu", None)
    return HccnConfDevice(**values, mtu_bytes=None if mtu is None else int(mtu))


def _set(values: dict[str, str], name: str, value: str, line: Line) -> None:
    value = value.strip(BLANKS)
    if name == "mtu":
        value = str(unsigned(value, line, "an MTU in bytes", _MTU_LIMIT_BYTES))
    else:
        value = netmask(value, line) if name == "netmask" else ipv4(value, line)
    if values.setdefault(name, value) != value:
        raise unparsed(line, f"{name} of this device was {values[name]} further up")


READER = Reader(read_hccn_conf, foreign_text=True, blank_answers=True, empty_answers=True)
