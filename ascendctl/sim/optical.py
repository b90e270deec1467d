"""The optical module of a port: its state, a healthy one, and what ``hccn_tool -optical -g`` prints of it.

Labels, units and decimals are those of the published driver source (hicann/driver, hccn_tool: tool.c, and
tool_ops_ext.c for signal-to-noise ratios and what follows them) and of a capture.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

LANES = 4
POWER_HIGH_MW, POWER_LOW_MW = 3.5481, 0.1445


@dataclass(frozen=True)
class Lane:
    """One lane. None for a ratio = not supported, as the host side of many modules."""

    tx_power_mw: float = 1.25
    rx_power_mw: float = 1.0
    bias_ma: float = 7.93
    host_snr_db: float | None = None
    media_snr_db: float | None = 23.0


@dataclass(frozen=True)
class Optical:
    """A module; the thresholds are its own alarm values, a flag is one bit per lane.

    ``measured`` False prints NA for whatever would be measured, as today's source does of a module that is
    not there; captures of older tools show values under ``not present``. ``compliance`` None leaves out
    the last three lines, as older tools do.
    """

    present: bool = True
    measured: bool = True
    temperature_c: int = 45
    vendor: str = "Simulated"
    part_number: str = "SIM-200G-SR4"
    serial_number: str = "SIM0000000000"
    vendor_id: tuple[int, int, int] = (0x02, 0x00, 0x00)
    identifier: str = "QSFP+ or later"
    wavelength_nm: int = 850
    date_code: str = "2025.6.18"
    voltage_mv: float = 3290.0
    lanes: tuple[Lane, ...] = (Lane(),) * LANES
    voltage_high_mv: float = 3465.0
    voltage_low_mv: float = 3135.0
    temperature_high_c: int = 70
    temperature_low_c: int = 0
    tx_power_high_mw: float = POWER_HIGH_MW
    tx_power_low_mw: float = 0.2818
    rx_power_high_mw: float = POWER_HIGH_MW
    rx_power_low_mw: float = POWER_LOW_MW
    tx_los: int = 0
    rx_los: int = 0
    tx_lol: int = 0
    rx_lol: int = 0
    compliance: tuple[int, ...] | None = None


ABSENT = Optical(
    present=False,
    measured=False,
    vendor="",
    part_number="",
    serial_number="",
    vendor_id=(0, 0, 0),
    identifier="UNKNOWN",
    wavelength_nm=0,
    date_code="",
)


def healthy(dice: random.Random, serial_number: str, *, newer_tool: bool) -> Optical:
    """A module well inside its own thresholds; ``newer_tool`` also reports its host side and compliance."""
    return Optical(
        temperature_c=dice.randrange(38, 53),
        voltage_mv=dice.randrange(32500, 33300) / 10,
        serial_number=serial_number,
        lanes=tuple(_healthy_lane(dice, newer_tool) for _ in range(LANES)),
        compliance=(0x00,) * 8 if newer_tool else None,
    )


def _healthy_lane(dice: random.Random, newer_tool: bool) -> Lane:
    return Lane(
        tx_power_mw=dice.randrange(9500, 16000) / 10_000,
        rx_power_mw=dice.randrange(7500, 12500) / 10_000,
        bias_ma=dice.randrange(3500, 4000) / 500,
        host_snr_db=dice.randrange(220_000, 250_000) / 10_000 if newer_tool else None,
        media_snr_db=dice.randrange(220_000, 250_000) / 10_000,
    )


def text(module: Optical) -> str:
    """What the tool prints of ``module``, without the last line end."""
    lines = ["optical info:", *_nameplate(module)]
    lines += _measurements(module) if module.measured else [_line(label, "NA") for label in _NOT_MEASURED]
    return "\n".join(lines)


def _line(label: str, value: str) -> str:
    return f"{label:<21}: {value}"


_NOT_MEASURED = (
    "Vcc",
    "Tx Power",
    "Rx Power",
    "Vcc High Thres",
    "Vcc Low Thres",
    "Temp High Thres",
    "Temp Low Thres",
    "TxPower High Thres",
    "TxPower Low Thres",
    "RxPower High Thres",
    "RxPower Low Thres",
)


def _nameplate(module: Optical) -> list[str]:
    return [
        _line("present", "present" if module.present else "not present"),
        _line("temperature", f"{module.temperature_c} C" if module.measured else "NA"),
        _line("high power enable reg", "enabled" if module.measured else "not enabled"),
        _line("vendor name", module.vendor),
        _line("vendor part number", module.part_number),
        _line("vendor serial number", module.serial_number),
        _line("vendor org unique id", " ".join(f"0x{byte:x}" for byte in module.vendor_id)),
        _line("xsfp identifier", module.identifier),
        _line("xsfp wave length", f"{module.wavelength_nm} nm"),
        _line("manufact date code", module.date_code),
    ]


def _measurements(module: Optical) -> list[str]:
    lanes = tuple(enumerate(module.lanes))
    lines = [_line("Vcc", f"{module.voltage_mv:.2f} mV")]
    for number, lane in lanes:
        lines.append(_line(f"Tx Power{number}", f"{lane.tx_power_mw:.4f} mW"))
        lines.append(_line(f"Rx Power{number}", f"{lane.rx_power_mw:.4f} mW"))
    lines += [
        _line("Vcc High Thres", f"{module.voltage_high_mv:.2f} mV"),
        _line("Vcc Low Thres", f"{module.voltage_low_mv:.2f} mV"),
        _line("Temp High Thres", f"{module.temperature_high_c} C"),
        _line("Temp Low Thres", f"{module.temperature_low_c} C"),
        _line("TxPower High Thres", f"{module.tx_power_high_mw:.4f} mW"),
        _line("TxPower Low Thres", f"{module.tx_power_low_mw:.4f} mW"),
        _line("RxPower High Thres", f"{module.rx_power_high_mw:.4f} mW"),
        _line("RxPower Low Thres", f"{module.rx_power_low_mw:.4f} mW"),
        *(_line(f"Tx Bias{number}", f"{lane.bias_ma:.4f} mA") for number, lane in lanes),
        _line("Tx Los Flag", f"0x{module.tx_los:x}"),
        _line("Rx Los Flag", f"0x{module.rx_los:x}"),
        _line("Tx LoL Flag", f"0x{module.tx_lol:x}"),
        _line("Rx LoL Flag", f"0x{module.rx_lol:x}"),
        *(_line(f"Host SNR Lane{number}", _ratio(lane.host_snr_db)) for number, lane in lanes),
        *(_line(f"Media SNR Lane{number}", _ratio(lane.media_snr_db)) for number, lane in lanes),
    ]
    if module.compliance is not None:
        lines += [
            _line("Physical Code", "NA"),
            _line("vendor rev", "NA"),
            _line("Specification compliance", " ".join(f"0x{byte:02x}" for byte in module.compliance)),
        ]
    return lines


def _ratio(value_db: float | None) -> str:
    return "not supported" if value_db is None else f"{value_db:.4f} dB"
