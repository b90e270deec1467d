"""What ``ascendctl netloader stop`` did, for a reader."""

from __future__ import annotations

from rich.console import Console

from ascendctl.netloader.deployment_state import Stop
from ascendctl.netloader.runs import Ended, StopRun
from ascendctl.report.printable import shown

_STYLES = {Stop.STOPPED: "green", Stop.GONE: "green", Stop.UNKNOWN: "yellow"}


def render_stop(run: StopRun, console: Console) -> None:
    """A line per instance, one per host that could not be asked, and how it went in all."""
    for one in run.ended:
        style = _STYLES.get(one.stopped.outcome, "red")
        console.print(f"  {shown(one.instance)}  ", end="", markup=False, highlight=False)
        console.print(_text(one), style=style, markup=False, highlight=False, soft_wrap=True)
    for host, reason in run.unasked:
        text = f"  {shown(host)}: {shown(reason)}"
        console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)
    console.print(_verdict(run), markup=False, highlight=False, soft_wrap=True)


def _text(one: Ended) -> str:
    stopped = one.stopped
    words = {
        Stop.STOPPED: f"ended ({', then '.join(stopped.signals)})" if stopped.signals else "ended",
        Stop.GONE: "did not run any more",
        Stop.LEFT: f"processes are left: {' '.join(str(pid) for pid in stopped.left)}",
        Stop.REFUSED: "left alone",
        Stop.UNKNOWN: "not known whether it ended",
    }[stopped.outcome]
    folder = "; its folder is gone" if stopped.removed else ""
    why = f": {shown(stopped.reason)}" if stopped.reason else ""
    return words + folder + why


def _verdict(run: StopRun) -> str:
    name = shown(run.deployment)
    hosts = f"{len(run.hosts)} host{'' if len(run.hosts) == 1 else 's'}"
    if not run.ended:
        rest = f"; {len(run.unasked)} could not be asked" if run.unasked else ""
        return f"Nothing of {name} is on {hosts}{rest}."
    gone = sum(one.stopped.outcome in (Stop.STOPPED, Stop.GONE) for one in run.ended)
    if gone == len(run.ended) and not run.unasked:
        return f"Nothing of {name} runs on {hosts} any more."
    return f"{gone} of {len(run.ended)} instances of {name} are known to have ended."
