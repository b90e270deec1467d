"""What hccn_tool prints of its two pings. Imports nothing: see `ascendctl.sim.ways`.

Formats: the tool's source (tool_cmd.c, ds_net_ext.c). A lost packet of ``-ping`` has no ``recv seq`` line and
makes the tool exit 1 although its text is whole; ``-hccs_ping`` prints one for every packet and exits 0.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_HCCS_OUTCOMES = {
    "success": "This pkt ping success!",
    "no-reply": "This pkt check recv msg fail!",
    "send-failed": "This pkt send fail!",
    "not-sent": "This pkt ping not start to send!",
}


def roce_text(device: int, address: str, times_ms: Sequence[float | None]) -> str:
    """``times_ms``: the round trip of every packet, None for one that is lost."""
    lines = [f"device {device} PING {address}"]
    for number, time_ms in enumerate(times_ms):
        lost = time_ms is None
        lines.append(f"recv time out seq={number}" if lost else f"recv seq={number},time={time_ms:.6f}ms")
    lines.append(_tally(times_ms.count(None), len(times_ms), "packet"))
    return "\n".join(lines) + "\n"


def hccs_text(device: int, address: str, packets: Sequence[tuple[str, int]]) -> str:
    """``packets``: outcome (see `_HCCS_OUTCOMES`) and round trip in ns of every packet."""
    lines = [f"device {device} PING {address}", ""]
    for number, (outcome, time_ns) in enumerate(packets):
        time = _microseconds(time_ns)
        lines += [
            _HCCS_OUTCOMES[outcome],
            f"recv seq {number}, time = {time}, L1 plane check result = 0x0",
            "",
        ]
    lost = sum(outcome != "success" for outcome, _ in packets)
    lines.append(_tally(lost, len(packets), "packets"))
    return "\n".join([*lines, *_hccs_summary(packets)]) + "\n"


def hccs_packets(times_ns: Sequence[int | None] | None, count: int) -> list[tuple[str, int]]:
    """Outcomes by the round trips: None = no reply; None as a whole = the first could not be sent."""
    if times_ns is None:
        return [("send-failed", 0), *[("not-sent", 0)] * (count - 1)]
    return [("no-reply", 0) if time is None else ("success", time) for time in times_ns]


def _hccs_summary(packets: Sequence[tuple[str, int]]) -> list[str]:
    times = sorted(time_ns for outcome, time_ns in packets if outcome == "success") or [0]
    figures = (
        ("max", times[-1]),
        ("min", times[0]),
        ("average", sum(times) // len(times)),
        ("TP95", times[len(times) * 95 // 100]),
    )
    return [f"{name} time {_microseconds(time_ns)}" for name, time_ns in figures]


def _microseconds(time_ns: int) -> str:
    return f"{time_ns // 1000}.{time_ns % 1000:03d}us"


def _tally(lost: int, sent: int, noun: str) -> str:
    return f"{sent} packets transmitted, {sent - lost} received, {100 * lost / sent:.2f}% {noun} loss"
