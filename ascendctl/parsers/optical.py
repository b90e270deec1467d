"""``hccn_tool -i N -optical -g``: the optical module of one port, one ``label : value`` line per fact.

Format: hccn_tool's source for 910B and A3 (tool.c; LOL flags, SNR and what follows them only in builds
with its extension) and a capture. Documentation shows a module of one lane, its labels without a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ascendctl.facts import OpticalFacts
from ascendctl.parsers.command import Asked
from ascendctl.parsers.reader import Reader
from ascendctl.parsers.text import (
    Field,
    Output,
    ends_early,
    nonblank,
    read_fields,
    require_line_end,
    unparsed,
)


def read_optical(asked: Asked, output: Output) -> OpticalFacts:
    """What the module says of itself.

    Of a module that is not there, the source of today prints NA for whatever would be measured, while
    captures show live values under ``not present``. Lanes that the module's mode leaves unused are NA.
    """
    first, *lines = nonblank(output.stdout)
    if first.stripped != _HEADER:
        raise unparsed(first, f"expected '{_HEADER}'")
    fields = read_fields(lines, required=_REQUIRED, optional=_OPTIONAL)
    require_line_end(lines[-1])
    tx_power_mw = _lanes(fields, "Tx Power", "mW", _MAX_POWER_MW)
    rx_power_mw = _lanes(fields, "Rx Power", "mW", _MAX_POWER_MW)
    host_snr_db = _lanes(fields, "Host SNR Lane", "dB", _MAX_SNR_DB)
    media_snr_db = _lanes(fields, "Media SNR Lane", "dB", _MAX_SNR_DB)
    _lanes(fields, "Tx Bias", "mA", _MAX_BIAS_MA)
    if len(rx_power_mw) != len(tx_power_mw) or not tx_power_mw:
        raise ends_early(lines, "the power of every lane, sent and received")
    if fields["Vcc"].value not in _ABSENT and "Rx Los Flag" not in fields:
        raise ends_early(lines, "'Rx Los Flag'")
    # The source's extension prints the two LOL flags and the SNR of all lanes, or nothing of it.
    if len({"Tx LoL Flag" in fields, "Rx LoL Flag" in fields, bool(host_snr_db), bool(media_snr_db)}) > 1:
        raise ends_early(lines, "the flags and the SNR of every lane")
    if len(media_snr_db) != len(host_snr_db):
        raise ends_early(lines, "the SNR of every lane")
    return OpticalFacts(
        present=_present(fields["present"]),
        temperature_c=_temperature_c(fields["temperature"]),
        voltage_mv=_decimal(fields["Vcc"], "mV", _MAX_VOLTAGE_MV),
        tx_power_mw=_used(tx_power_mw, fields["present"]),
        rx_power_mw=_used(rx_power_mw, fields["present"]),
        host_snr_db=host_snr_db,
        media_snr_db=media_snr_db,
        temperature_high_c=_temperature_c(fields["Temp High Thres"]),
        temperature_low_c=_temperature_c(fields["Temp Low Thres"]),
        voltage_high_mv=_decimal(fields["Vcc High Thres"], "mV", _MAX_VOLTAGE_MV),
        voltage_low_mv=_decimal(fields["Vcc Low Thres"], "mV", _MAX_VOLTAGE_MV),
        tx_power_high_mw=_decimal(fields["TxPower High Thres"], "mW", _MAX_POWER_MW),
        tx_power_low_mw=_decimal(fields["TxPower Low Thres"], "mW", _MAX_POWER_MW),
        rx_power_high_mw=_decimal(fields["RxPower High Thres"], "mW", _MAX_POWER_MW),
        rx_power_low_mw=_decimal(fields["RxPower Low Thres"], "mW", _MAX_POWER_MW),
        tx_los_flags=_flags(fields.get("Tx Los Flag")),
        rx_los_flags=_flags(fields.get("Rx Los Flag")),
        tx_lol_flags=_flags(fields.get("Tx LoL Flag")),
        rx_lol_flags=_flags(fields.get("Rx LoL Flag")),
        vendor=fields["vendor name"].value or None,
        part_number=fields["vendor part number"].value or None,
        serial_number=fields["vendor serial number"].value or None,
    )


READERS: Mapping[str, Reader] = {"-optical": Reader(read_optical)}


_HEADER = "optical info:"
_REQUIRED = (
    "present",
    "temperature",
    "vendor name",
    "vendor part number",
    "vendor serial number",
    "Vcc",
    "Vcc High Thres",
    "Vcc Low Thres",
    "Temp High Thres",
    "Temp Low Thres",
    "TxPower High Thres",
    "TxPower Low Thres",
    "RxPower High Thres",
    "RxPower Low Thres",
)
# Of a module with eight lanes the tool prints the four that belong to the device.
_LANES = 4
_OPTIONAL = frozenset(
    (
        "high power enable reg",
        "vendor org unique id",
        "xsfp identifier",
        "xsfp wave length",
        "manufact date code",
        "Tx Los Flag",
        "Rx Los Flag",
        "Tx LoL Flag",
        "Rx LoL Flag",
        "Physical Code",
        "vendor rev",
        "Specification compliance",
        "Tx Power",
        "Rx Power",
        "Tx Bias",
        *(
            f"{label}{lane}"
            for label in ("Tx Power", "Rx Power", "Tx Bias", "Host SNR Lane", "Media SNR Lane")
            for lane in range(_LANES)
        ),
    )
)
_ABSENT = ("NA", "not supported", "get failed")
# The module's registers have 16 bits, in steps of 0.1 µW, 2 µA and 0.1 mV.
_MAX_POWER_MW = 6.5535
_MAX_BIAS_MA = 131.07
_MAX_VOLTAGE_MV = 6553.5
_MAX_SNR_DB = 100.0
_TEMPERATURE_RANGE_C = range(-128, 256)
_DECIMALS = {"mV": 2, "mW": 4, "mA": 4, "dB": 4}
_TEMPERATURE = re.compile(r"(-?(?:0|[1-9][0-9]{0,2})) C")
_FLAGS = re.compile(r"0x[0-9a-f]{1,2}")


def _present(field: Field) -> bool:
    if field.value not in ("present", "not present"):
        raise unparsed(field.line, "expected present or not present")
    return field.value == "present"


def _lanes(fields: Mapping[str, Field], label: str, unit: str, maximum: float) -> tuple[float | None, ...]:
    """The values of lanes 0, 1, …, or that of a label without a number; empty where none is printed."""
    numbered = [fields[f"{label}{lane}"] for lane in range(_LANES) if f"{label}{lane}" in fields]
    for lane, field in enumerate(numbered):
        if field is not fields.get(f"{label}{lane}") or label in fields:
            raise unparsed(field.line, f"expected '{label}{lane}' before it, and no lane twice")
    return tuple(
        _decimal(field, unit, maximum) for field in numbered or ([fields[label]] if label in fields else [])
    )


def _used(lanes: Sequence[float | None], field: Field) -> tuple[float, ...]:
    """The lanes with a value; those without one can only be the last ones."""
    used = tuple(value for value in lanes if value is not None)
    if list(used) != list(lanes[: len(used)]):
        raise unparsed(field.line, "expected no lane without a power before one with it; below it")
    return used


def _decimal(field: Field, unit: str, maximum: float) -> float | None:
    if field.value in _ABSENT:
        return None
    match = re.fullmatch(
        rf"(-?(?:0|[1-9][0-9]{{0,4}})\.[0-9]{{{_DECIMALS[unit]}}}) {unit}", field.value, re.ASCII
    )
    lowest = -maximum if unit == "dB" else 0.0
    if match is None or not lowest <= float(match[1]) <= maximum:
        raise unparsed(field.line, f"expected NA, or a number from {lowest:g} to {maximum:g} and {unit}")
    return float(match[1])


def _temperature_c(field: Field) -> float | None:
    if field.value in _ABSENT:
        return None
    match = _TEMPERATURE.fullmatch(field.value)
    if match is None or int(match[1]) not in _TEMPERATURE_RANGE_C:
        raise unparsed(field.line, "expected a temperature in degrees Celsius, such as '47 C'")
    return float(match[1])


def _flags(field: Field | None) -> int | None:
    if field is None:
        return None
    if not _FLAGS.fullmatch(field.value):
        raise unparsed(field.line, "expected one bit per lane, such as 0xff")
    return int(field.value, 16)
