"""Render hosts to directories of stand-in programs: what a shell finds first in its PATH.

Each host gets ``bin/`` with POSIX-sh stand-ins for hccn_tool, npu-smi and the programs of `surroundings`,
and ``answers/`` with what the two tools print, written beforehand as shell lines, one file per tool and
device and one for what is not asked of a device: a call costs the start of a sh that reads in one of them,
and there are few files to write. Answers to calls that misbehave, which no shell text can hold, lie in
files of their own. How pings are made is told in `pings`. Calls that were not foreseen are answered by
``python -m ascendctl.sim.tool``. The directories serve the simulator's own SSH server and a real OpenSSH
one alike, by ``PATH=DIRECTORY/bin:/usr/bin:/bin`` alone.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ascendctl
from ascendctl.sim import host_network, pings, surroundings
from ascendctl.sim.answer import Answer
from ascendctl.sim.faults import cluster_of
from ascendctl.sim.hccn_tool import refusal
from ascendctl.sim.kinds import HANG_FORMS, TOOLS
from ascendctl.sim.model import Cluster, Die, Host, Misbehaviour
from ascendctl.sim.spec import Spec
from ascendctl.sim.tools import answer, strikes

HANG_LIMIT_S = 240  # a hanging stand-in ends by itself after this long, so that nothing stays behind
STATE_FILE = "spec.json"

_HCCN_OPTIONS = ("-link", "-net_health", "-netdetect", "-gateway", "-ip", "-vnic", "-lldp", "-tls")
_SMI_QUERIES = ("health", "hccs", "spod-info")
_DEEP_HCCN_OPTIONS = (
    "-optical",
    "-link_stat",
    "-stat",
    "-hw_stats",
    "-speed",
    "-duplex",
    "-mtu",
    "-fec",
)
_DEEP_SMI_QUERIES = ("ecc",)
_OF_NO_DEVICE = "host"


@dataclass(frozen=True)
class RenderedHost:
    """A host on disk. ``bin`` goes first in PATH; ``tmp`` is an empty folder for its TMPDIR."""

    name: str
    directory: Path
    state: Host

    @property
    def bin(self) -> Path:
        return self.directory / "bin"

    @property
    def tmp(self) -> Path:
        return self.directory / "tmp"


def render_cluster(spec: Spec, directory: Path, *, cheap: bool = False) -> tuple[RenderedHost, ...]:
    """Render every host of ``spec`` below ``directory``, which must be empty or absent.

    ``cheap`` leaves out hccn_tool's lock and the latency, so that a call costs the start of a sh alone: for
    measuring what lies around the tools.
    Raises FileExistsError where something is in the way, OSError where it cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise FileExistsError(f"{directory} is not empty")
    directory = directory.resolve()
    (directory / STATE_FILE).write_text(spec.model_dump_json(indent=1), encoding="utf-8")
    cluster = cluster_of(spec)
    pings.write_table(cluster, directory)
    host_network.write_table(cluster.hosts, directory)
    return tuple(_render(cluster, host, directory, cheap, spec.lost_packet_wait) for host in cluster.hosts)


def _render(
    cluster: Cluster, host: Host, directory: Path, cheap: bool, lost_packet_wait_s: float = 0.0
) -> RenderedHost:
    rendered = RenderedHost(host.name, directory / host.name, host)
    for folder in ("bin", "answers/hccn_tool", "answers/npu-smi", "busy", "root", "tmp"):
        (rendered.directory / folder).mkdir(parents=True)
    # A real SSH server may run the stand-ins as another user than the one who rendered them.
    for folder in ("busy", "tmp"):
        (rendered.directory / folder).chmod(0o1777)
    (rendered.directory / "lock").touch()
    for tool, script in _scripts(cluster, host, directory, cheap):
        path = rendered.bin / tool
        path.write_text(script, encoding="utf-8")
        path.chmod(0o755)
    for name, text in _answer_files(cluster, host):
        (rendered.directory / "answers" / name).write_text(text, encoding="utf-8")
    for argv in (*_foreseen(host), *_deep(host)):
        if _struck(host, argv):
            _write_answer(rendered, argv, answer(host, argv, cluster))
    others = _write_odd_pings(rendered)
    text = pings.script(cluster, host, others, wait_s=0 if cheap else lost_packet_wait_s)
    (rendered.directory / "answers" / "hccn_tool" / "ping").write_text(text, encoding="utf-8")
    for name, text in surroundings.files(host):
        path = rendered.directory / "root" / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return rendered


# --- answers --------------------------------------------------------------------------------------


def _foreseen(host: Host) -> Iterator[tuple[str, ...]]:
    """The calls worth an answer on disk: the multi-node guide's, and those that misbehave."""
    hccn_options = dict.fromkeys(_HCCN_OPTIONS)
    queries = dict.fromkeys(_SMI_QUERIES)
    yield ("npu-smi", "info")
    yield ("npu-smi", "info", "-m")
    yield ("npu-smi", "info", "-l")
    yield ("npu-smi", "info", "-t", "topo")
    for misbehaviour in host.misbehaviours:
        words = misbehaviour.words or ()
        if misbehaviour.tool == "hccn_tool" and len(words) == 1:
            hccn_options[words[0]] = None
        elif words[:2] == ("info", "-t") and len(words) == 3 and words[2] != "topo":
            queries[words[2]] = None
    for phy_id in host.phy_ids:
        for option in hccn_options:
            yield ("hccn_tool", "-i", str(phy_id), option, "-g")
    for die in host.dies:
        for query in queries:
            yield _smi_query(query, die)


def _deep(host: Host) -> Iterator[tuple[str, ...]]:
    """The calls that the deep profile makes besides."""
    for phy_id in host.phy_ids:
        for option in _DEEP_HCCN_OPTIONS:
            yield ("hccn_tool", "-i", str(phy_id), option, "-g")
    for die in host.dies:
        for query in _DEEP_SMI_QUERIES:
            yield _smi_query(query, die)


def _smi_query(query: str, die: Die) -> tuple[str, ...]:
    return ("npu-smi", "info", "-t", query, "-i", str(die.npu_id), "-c", str(die.chip_id))


def _struck(host: Host, argv: tuple[str, ...]) -> bool:
    return any(strikes(misbehaviour, host, argv) for misbehaviour in host.misbehaviours)


def _answer_files(cluster: Cluster, host: Host) -> Iterator[tuple[str, str]]:
    """Name below ``answers/`` and text of every file of shell lines. What the standard profile asks comes
    first: a sh reads no further than the answer that it gives."""
    parts: dict[str, list[str]] = {}
    for calls in (_foreseen(host), _deep(host)):
        cases: dict[str, list[str]] = {}
        for argv in calls:
            if not _struck(host, argv):
                cases.setdefault(_answer_file(argv), []).append(_case(argv, answer(host, argv, cluster)))
        for name, lines in cases.items():
            parts.setdefault(name, []).append("\n".join(['case "$*" in', *lines, "esac", ""]))
    for name, texts in parts.items():
        yield name, "".join(texts)


def _answer_file(argv: tuple[str, ...]) -> str:
    """Where a call's answer is looked for; the stand-ins find it by the same rule."""
    tool, *arguments = argv
    of_device = arguments[1] if tool == "hccn_tool" else "".join(arguments[4:5])
    return f"{tool}/{of_device or _OF_NO_DEVICE}"


def _case(argv: tuple[str, ...], given: Answer) -> str:
    steps = [f"printf %s {shlex.quote(given.stdout.decode())}"] if given.stdout else []
    steps += [f"printf %s {shlex.quote(given.stderr.decode())} >&2"] if given.stderr else []
    pattern = shlex.quote(" ".join(argv[1:]))
    return f"{pattern}) {'; '.join([*steps, f'exit {given.exit_code}'])} ;;"


def _write_answer(rendered: RenderedHost, argv: tuple[str, ...], given: Answer) -> None:
    tool, *arguments = argv
    base = rendered.directory / "answers" / tool / " ".join(arguments)
    base.with_name(base.name + ".out").write_bytes(given.stdout)
    if given.stderr:
        base.with_name(base.name + ".err").write_bytes(given.stderr)
    if given.exit_code:
        base.with_name(base.name + ".rc").write_text(f"{given.exit_code}\n", encoding="ascii")
    steps = "".join(_steps(rendered.state, argv))
    if steps:
        base.with_name(base.name + ".sh").write_text(steps, encoding="utf-8")


def _steps(host: Host, argv: tuple[str, ...]) -> Iterator[str]:
    """What a call does in time before it answers; misbehaviour of every call is the stand-in's own."""
    for number, misbehaviour in enumerate(host.misbehaviours):
        of_all_calls = misbehaviour.words is None and misbehaviour.phy_id is None
        if not of_all_calls and strikes(misbehaviour, host, argv):
            yield _in_time(misbehaviour, number)


def _write_odd_pings(rendered: RenderedHost) -> list[tuple[int, str]]:
    """Write what pings do in time; gives device and option of those whose text is wrong, too."""
    wrong = []
    for die in rendered.state.dies:
        for option in pings.OPTIONS:
            argv = ("hccn_tool", "-i", str(die.phy_id), option, "-g")
            steps = "".join(_steps(rendered.state, argv))
            if steps:
                name = f"-i {die.phy_id} {option}.sh"
                (rendered.directory / "answers" / "hccn_tool" / name).write_text(steps, encoding="utf-8")
            if rendered.state.hccn_tool_refusal or _struck(rendered.state, argv):
                wrong.append((die.phy_id, option))
    return wrong


def _in_time(misbehaviour: Misbehaviour, number: int) -> str:
    """The shell lines of a misbehaviour that happens in time; empty for those of mere text."""
    if misbehaviour.form in HANG_FORMS:
        return _HANGS[misbehaviour.form]
    if misbehaviour.form == "busy" and misbehaviour.times is not None:
        return _busy(misbehaviour.times, f"busy/{number}")
    return ""


# --- the two tools --------------------------------------------------------------------------------

# Ignoring a signal outlasts exec: the sleep itself ignores it.
_IGNORES_TERM = f"""trap '' TERM INT HUP
exec sleep {HANG_LIMIT_S}
"""

# In a session of its own the grandchild is out of reach of the group that timeout signals, and it
# keeps the tool's standard output open; the tool's lock it does not keep.
_GRANDCHILD = f"""setsid sleep {HANG_LIMIT_S} 9>&- &
exec sleep {HANG_LIMIT_S}
"""

# A process that waits inside the kernel cannot be killed, so that timeout sends its signals and then
# waits for it without end. What a script meets is a timeout that never returns: that is stood in for
# by stopping it, and letting it go on at the limit.
_UNKILLABLE = f"""trap '' TERM INT HUP
read -r parent 2>/dev/null <"/proc/$PPID/comm"
if [ "$parent" = timeout ]; then
  setsid sh -c 'sleep {HANG_LIMIT_S}; kill -CONT "$1"' sh "$PPID" >/dev/null 2>&1 9>&- &
  kill -STOP "$PPID"
fi
exec sleep {HANG_LIMIT_S}
"""

_HANGS = {"ignores-term": _IGNORES_TERM, "grandchild": _GRANDCHILD, "unkillable": _UNKILLABLE}

_LOCK = """if command -v flock >/dev/null; then
  exec 9<"$here/lock"
  flock -n 9 || {{ printf %s {busy}; exit {code}; }}
fi
"""

_PING = """case "$3" in
-ping | -hccs_ping)
  case $2 in
  '' | *[!0-9]*) ;;
  *) if [ -f "$here/answers/hccn_tool/-i $2 $3.sh" ]; then . "$here/answers/hccn_tool/-i $2 $3.sh"; fi ;;
  esac
  . "$here/answers/hccn_tool/ping" ;;
esac
"""

_ANSWER = """case {device} in
'' | *[!0-9]*) answers="$here/answers/{tool}/{of_no_device}" ;;
*) answers="$here/answers/{tool}/"{device} ;;
esac
if [ -f "$answers" ]; then . "$answers"; fi
answer="$here/answers/{tool}/$*"
case "$*" in */*) answer= ;; esac
if [ -f "$answer.sh" ]; then . "$answer.sh"; fi
if [ ! -f "$answer.out" ]; then
  PYTHONPATH={package}${{PYTHONPATH:+:$PYTHONPATH}}
  export PYTHONPATH
  exec {python} -m ascendctl.sim.tool "$here/../{state}" {host} {tool} "$@"
fi
if [ -f "$answer.err" ]; then cat "$answer.err" >&2; fi
if [ ! -f "$answer.rc" ]; then exec cat "$answer.out"; fi
if [ -s "$answer.out" ]; then cat "$answer.out"; fi
read -r code <"$answer.rc"
exit "$code"
"""


def _scripts(cluster: Cluster, host: Host, directory: Path, cheap: bool) -> Iterator[tuple[str, str]]:
    for tool in TOOLS:
        if tool not in host.missing_tools:
            yield tool, _tool_script(cluster, host, tool, cheap)
    yield from surroundings.stand_ins(host)


def _tool_script(cluster: Cluster, host: Host, tool: str, cheap: bool) -> str:
    parts = [surroundings.HEAD]
    busy = refusal("busy")
    if tool == "hccn_tool" and not cheap:
        parts.append(_LOCK.format(busy=shlex.quote(busy.stdout.decode()), code=busy.exit_code))
    if cluster.latency_s and not cheap:
        parts.append(f"sleep {cluster.latency_s:g} 9>&-\n")
    parts += [
        _in_time(misbehaviour, number)
        for number, misbehaviour in enumerate(host.misbehaviours)
        if misbehaviour.words is None and misbehaviour.tool == tool and misbehaviour.phy_id is None
    ]
    if tool == "hccn_tool":
        parts.append(_PING)
    package = Path(ascendctl.__file__).resolve().parent.parent
    parts.append(
        _ANSWER.format(
            tool=tool,
            device='"$2"' if tool == "hccn_tool" else '"$5"',
            of_no_device=_OF_NO_DEVICE,
            host=shlex.quote(host.name),
            python=shlex.quote(sys.executable),
            package=shlex.quote(str(package)),
            state=STATE_FILE,
        )
    )
    return "".join(parts)


def _busy(times: int, counter: str) -> str:
    busy = refusal("busy")
    return f"""count=0
if [ -f "$here/{counter}" ]; then read -r count <"$here/{counter}"; fi
if [ "$count" -lt {times} ]; then
  echo $((count + 1)) >"$here/{counter}"
  printf %s {shlex.quote(busy.stdout.decode())}
  exit {busy.exit_code}
fi
"""
