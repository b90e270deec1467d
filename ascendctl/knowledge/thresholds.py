"""Every limit that a check measures against and a site may set otherwise: name, default, unit, source.

The inventory overrides them by name (``thresholds:`` under defaults, a group or a host).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Threshold:
    """One limit. ``default`` None = as ``source`` says: the part's own value, the majority's, or none.

    ``check`` is the id of the check that judges by it, ``source`` says where the default comes from: a
    document, or a choice of ours and why. Values outside ``lowest`` and ``highest`` make no sense.
    """

    name: str
    check: str
    default: float | None
    unit: str
    meaning: str
    source: str
    lowest: float = 0.0
    highest: float | None = None


_MODULE = "the alarm value that the module itself states"
_MAJORITY = "none set: what most RoCE ports of the same host have"
_ABSOLUTE_ZERO_C = -273.15

THRESHOLDS: tuple[Threshold, ...] = (
    Threshold(
        "optical-temperature-high-c",
        "optical",
        None,
        "°C",
        "An optical module that is hotter fails.",
        _MODULE,
        lowest=_ABSOLUTE_ZERO_C,
    ),
    Threshold(
        "optical-temperature-low-c",
        "optical",
        None,
        "°C",
        "An optical module that is colder fails.",
        _MODULE,
        lowest=_ABSOLUTE_ZERO_C,
    ),
    Threshold(
        "optical-tx-power-high-mw",
        "optical",
        None,
        "mW",
        "A lane that sends more light fails.",
        _MODULE,
    ),
    Threshold(
        "optical-tx-power-low-mw",
        "optical",
        None,
        "mW",
        "A lane that sends less light fails.",
        _MODULE,
    ),
    Threshold(
        "optical-rx-power-high-mw",
        "optical",
        None,
        "mW",
        "A lane that receives more light fails.",
        _MODULE,
    ),
    Threshold(
        "optical-rx-power-low-mw",
        "optical",
        None,
        "mW",
        "A lane that receives less light fails.",
        _MODULE,
    ),
    Threshold(
        "optical-snr-low-db",
        "optical",
        20.0,
        "dB",
        "A lane with a smaller signal-to-noise ratio, on the host or the media side, is a warning.",
        "the vendor's fault diagnosis toolkit (Ascend/mind-cluster, ascend_fd_tk) warns below 20 dB",
    ),
    Threshold(
        "link-flaps-max",
        "link-flaps",
        5.0,
        "times",
        "More losses of the link since the driver was loaded are a warning.",
        "a choice of ours: the vendor's toolkit alarms at 5 within 24 hours, and this counter has no window",
    ),
    Threshold(
        "port-errors-max",
        "port-errors",
        100.0,
        "packets",
        "More in any one error counter of the port since the driver was loaded are a warning.",
        "a choice of ours: training of the link and work on cables leave a few behind",
    ),
    Threshold(
        "roce-retries-max",
        "port-errors",
        1000.0,
        "packets",
        "More packets sent again or out of order since the driver was loaded are a warning.",
        "a choice of ours: the vendor says only that growth while a task runs means lost packets",
    ),
    Threshold(
        "port-speed-min-mbps",
        "speed",
        None,
        "Mb/s",
        "A slower port fails.",
        _MAJORITY,
        lowest=1.0,
    ),
    Threshold(
        "port-mtu-bytes",
        "mtu",
        None,
        "bytes",
        "A port with another MTU fails.",
        _MAJORITY,
        lowest=68.0,
        highest=9702.0,
    ),
    Threshold(
        "ecc-single-bit-max",
        "ecc",
        1000.0,
        "errors",
        "More corrected errors in the device's life are a warning.",
        "a choice of ours: such errors cost nothing, many of them announce ones that cannot be corrected",
    ),
    Threshold(
        "hccs-errors-max",
        "hccs-errors",
        10.0,
        "errors",
        "More CRC errors on any one HCCS link since the driver was loaded fail.",
        "a choice of ours: healthy servers show 0, and a handful may stem from the start",
    ),
    Threshold(
        "hccs-retries-max",
        "hccs-errors",
        100.0,
        "packets",
        "More packets sent again on any one HCCS link since the driver was loaded are a warning.",
        "a choice of ours: healthy servers show 0, and the link corrects these by itself",
    ),
    Threshold(
        "hbm-use-max-percent",
        "hbm-use",
        15.0,
        "%",
        "More HBM in use than the listed processes hold is a warning.",
        "a choice of ours: idle devices of 64 GiB were seen with 3 to 4 GiB in use",
        highest=100.0,
    ),
    Threshold(
        "open-files-min",
        "open-files",
        65535.0,
        "files",
        "A lower `ulimit -n` of the login is a warning.",
        "a choice of ours: vLLM asks for 65535 when it starts; HCCL's documents name no number",
        lowest=1.0,
    ),
    Threshold(
        "huge-pages-min",
        "huge-pages",
        None,
        "pages",
        "Fewer huge pages on the host fail.",
        "none set: not judged. vllm-ascend's KV pool guide sets 200000 on A2, and on A3 over RoCE",
    ),
)

BY_NAME: Mapping[str, Threshold] = {threshold.name: threshold for threshold in THRESHOLDS}


def threshold(name: str, overrides: Mapping[str, float]) -> float | None:
    """The limit in force: the site's own where it set one, else the default."""
    return overrides.get(name, BY_NAME[name].default)


def thresholds_of(check: str) -> tuple[Threshold, ...]:
    """The limits that a check judges by; none for most checks."""
    return tuple(one for one in THRESHOLDS if one.check == check)


def number(value: float) -> str:
    """A limit or a measured value as it is shown: no ``.0``, no exponent."""
    return f"{value:.4f}".rstrip("0").rstrip(".")


def default_text(one: Threshold) -> str:
    """The default with its unit and where it comes from, for people."""
    return one.source if one.default is None else f"{number(one.default)} {one.unit} ({one.source})"
