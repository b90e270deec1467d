"""What a host tells of the instances that were started on it: the answers of `host_scripts`, read. Pure.

Every instance has a folder of its own, ``ROOT/DEPLOYMENT/INSTANCE``, so whoever asks the host sees the same.
What cannot be read becomes a reason, never a guess: an instance of which it is not known whether it runs is
`Life.UNKNOWN`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ascendctl.probe.capture import HostCapture
from ascendctl.probe.frames import Answer, Target
from ascendctl.transport.remote_text import one_line

STATE_FORMAT = 1
PHASES = ("starting", "started", "failed", "stopped")

_BOOT_ID = re.compile(r"[0-9a-f-]{36}")
_START_ID = re.compile(r"[0-9a-f]{32}")
_CODE = re.compile(r"\d{1,3}")
_PORT = re.compile(r"[0-9A-F]{1,4}")


class Life(str, Enum):
    """What is left of an instance. ``LEFTOVERS``: processes of it, but not the first one; ``RESTARTED``: it
    ended with the host's last boot; ``ELSEWHERE``: its folder is seen here and another host wrote it."""

    RUNNING = "running"
    LEFTOVERS = "leftovers"
    ENDED = "ended"
    RESTARTED = "ended by a restart of the host"
    ELSEWHERE = "on another host"
    UNKNOWN = "unknown"


class Start(str, Enum):
    """``UNREACHED``: nothing was sent to the host, so nothing was started."""

    STARTED = "started"
    RUNS_ALREADY = "runs already"
    REFUSED = "refused"
    FAILED = "failed"
    UNREACHED = "host not reached"
    UNKNOWN = "unknown"


class Stop(str, Enum):
    """``GONE``: nothing of it ran."""

    STOPPED = "stopped"
    GONE = "gone"
    LEFT = "something is left"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class KeptBy(str, Enum):
    """What lets the instance outlive the login that started it."""

    SESSION = "setsid"
    USER_SCOPE = "user-scope"
    SYSTEM_SCOPE = "system-scope"


@dataclass(frozen=True)
class Process:
    """The first process of an instance, leader of its session and process group, as seen where it runs (in a
    container: with its numbers). ``start_ticks``: field 22 of ``/proc/PID/stat``, proc(5)."""

    pid: int
    start_ticks: int
    boot_id: str


@dataclass(frozen=True)
class State:
    """``state.json``. ``start_id``: new at every start; the processes carry it in their environment.

    ``process`` None = not recorded yet. ``client_pid``: the process on the host that the launch words became
    (``docker exec``); the same as ``process`` where there are none. ``kills_user_processes``,
    ``linger``: what the login manager said, None = it did not.
    """

    deployment: str
    instance: str
    start_id: str
    phase: str
    node: str
    started_unix_s: int
    kept_by: KeptBy
    kills_user_processes: bool | None
    linger: bool | None
    launch_words: tuple[str, ...]
    process: Process | None
    client_pid: int | None

    @property
    def ends_with_the_login(self) -> bool:
        """Whether the login manager will end the instance when its user has logged out everywhere."""
        if not self.kills_user_processes or self.kept_by is KeptBy.SYSTEM_SCOPE:
            return False
        # logind.conf(5): a scope of the user's own manager stays only where that manager lingers.
        return self.kept_by is KeptBy.SESSION or self.linger is not True


@dataclass(frozen=True)
class LogPart:
    """``content`` begins at byte ``offset`` of a log of ``size_bytes``; what follows it was not asked for."""

    size_bytes: int
    offset: int
    content: bytes


@dataclass(frozen=True)
class Seen:
    """One instance as its host tells. ``reason``: why something is not known, or how the instance ended.

    ``members``: its live processes, numbered as where they run; ``exit_code``: what the engine ended with;
    ``statuses``: path of a status file of the engine → its content. ``health``: what ``/health`` answered
    (HTTP status, 0 = nothing), None = not asked, or nothing there to ask with; ``listening``: TCP ports that
    are listened on where the engine runs, None = not learned.
    """

    deployment: str
    instance: str
    life: Life
    reason: str = ""
    state: State | None = None
    plan: str | None = None
    members: tuple[int, ...] = ()
    exit_code: int | None = None
    log: LogPart | None = None
    statuses: tuple[tuple[str, bytes], ...] = ()
    health: int | None = None
    listening: tuple[int, ...] | None = None


@dataclass(frozen=True)
class HostSeen:
    """All that was asked of one host. ``reason`` is not empty where the answer is missing or cut; then
    instances may be missing too. ``root``: the folder of the deployments, where all were asked for."""

    instances: tuple[Seen, ...] = ()
    reason: str = ""
    root: str = ""


@dataclass(frozen=True)
class Started:
    """``seen``: the instance just after; with `Start.RUNS_ALREADY` the one that runs."""

    outcome: Start
    reason: str = ""
    seen: Seen | None = None


@dataclass(frozen=True)
class Stopped:
    """``signals``: what had to be sent; ``left``: processes that are there still; ``removed``: the folder."""

    outcome: Stop
    reason: str = ""
    signals: tuple[str, ...] = ()
    left: tuple[int, ...] = ()
    removed: bool = False


class Unreadable(Exception):
    """Its text says what cannot be read, and what of it."""


def read_state(text: bytes) -> State:
    """Raises Unreadable for anything but a whole ``state.json`` of this format."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise Unreadable("state.json is not valid JSON: it is half-written or was changed by hand") from None
    if not isinstance(content, dict) or content.get("format") != STATE_FORMAT:
        raise Unreadable(f"state.json is not of format {STATE_FORMAT}, the one this ascendctl knows")
    try:
        return State(
            deployment=_text(content, "deployment"),
            instance=_text(content, "instance"),
            start_id=_like(content, "start_id", _START_ID),
            phase=_one_of(content, "phase", PHASES),
            node=_text(content, "node"),
            started_unix_s=_number(content, "started_unix_s"),
            kept_by=KeptBy(_one_of(content, "kept_by", tuple(kept.value for kept in KeptBy))),
            kills_user_processes=_yes_no(content, "kills_user_processes"),
            linger=_yes_no(content, "linger"),
            launch_words=_words(content, "launch_words"),
            process=_process(content),
            client_pid=None if content.get("client_pid") is None else _number(content, "client_pid"),
        )
    except KeyError as error:
        raise Unreadable(f"state.json: {error.args[0]} is missing or is not what it should be") from None


def parse_seen(capture: HostCapture) -> HostSeen:
    """The answer of `host_scripts.look_script` or `list_script`."""
    names = dict.fromkeys(
        tuple(command.split("/")[:2]) for command, _ in capture.answers if command.count("/") == 2
    )
    instances = tuple(_seen(capture, deployment, instance) for deployment, instance in names)
    root = _answer(capture, "root")
    told = root.stdout.decode("utf-8", "surrogateescape").rstrip("\n") if root else ""
    return HostSeen(instances, _reason(capture), told)


def parse_started(capture: HostCapture) -> Started:
    """The answer of `host_scripts.start_script`."""
    seen = parse_seen(capture).instances
    first = seen[0] if seen else None
    said = _told(capture)
    if capture.fatal is not None and not capture.problem:
        return Started(Start.REFUSED, one_line(capture.fatal), first)
    reason = _reason(capture)
    if reason:
        return Started(Start.UNKNOWN, reason, first)
    if said.get("outcome") == "runs-already":
        return Started(Start.RUNS_ALREADY, seen=first)
    if said.get("outcome") == "failed":
        return Started(Start.FAILED, one_line(said.get("reason", "")), first)
    if said.get("outcome") != "started" or first is None or first.state is None:
        return Started(Start.UNKNOWN, first.reason if first else "the host's answer tells no outcome", first)
    return Started(Start.STARTED, seen=first)


def parse_stopped(capture: HostCapture) -> Stopped:
    """The answer of `host_scripts.stop_script`."""
    if capture.fatal is not None and not capture.problem:
        return Stopped(Stop.REFUSED, one_line(capture.fatal))
    said = _told(capture)
    reason = _reason(capture)
    left_text = said.get("left", "").split()
    signals = tuple(said.get("signals", "").split())
    if reason or not all(word.isdecimal() for word in left_text):
        return Stopped(Stop.UNKNOWN, reason or "the host's answer tells no process ids", signals)
    left = tuple(int(word) for word in left_text)
    outcomes = {"stopped": Stop.STOPPED, "gone": Stop.GONE, "left": Stop.LEFT}
    outcome = outcomes.get(said.get("outcome", ""), Stop.UNKNOWN)
    if outcome is not Stop.UNKNOWN and bool(left) is not (outcome is Stop.LEFT):
        outcome = Stop.UNKNOWN
    why = one_line(said.get("reason", ""))
    if outcome is Stop.UNKNOWN:
        why = why or "the host's answer tells no outcome"
    return Stopped(outcome, why, signals, left, said.get("removed") == "yes")


# The parts of an answer -----------------------------------------------------------------------------------


def _reason(capture: HostCapture) -> str:
    if capture.problem:
        return f"the host's answer cannot be trusted: {capture.problem}"
    if capture.fatal is not None:
        return one_line(capture.fatal)
    return "" if capture.complete else "the host's answer was cut off before its end"


def _told(capture: HostCapture) -> dict[str, str]:
    answer = _answer(capture, "outcome")
    return {} if answer is None else _pairs(answer)


def _pairs(answer: Answer) -> dict[str, str]:
    lines = answer.stdout.decode("utf-8", "surrogateescape").splitlines()
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


def _answer(capture: HostCapture, command: str) -> Answer | None:
    return capture.answers.get((command, Target()))


def _seen(capture: HostCapture, deployment: str, instance: str) -> Seen:
    name = f"{deployment}/{instance}"
    folder = _answer(capture, f"{name}/folder")
    if folder is None or folder.exit_code != 0:
        why = one_line(folder.stdout) if folder else "the host's answer was cut off"
        return Seen(deployment, instance, Life.UNKNOWN, why)
    plan, stored = _answer(capture, f"{name}/plan"), _answer(capture, f"{name}/state")
    reasons, state = [], None
    if stored is None or stored.exit_code != 0:
        reasons.append("there is no state.json that can be read")
    else:
        try:
            state = read_state(stored.stdout)
        except Unreadable as error:
            reasons.append(str(error))
        else:
            if (state.deployment, state.instance) != (deployment, instance):
                reasons.append(f"state.json is of {one_line(state.deployment)}/{one_line(state.instance)}")
                state = None
    ended = _answer(capture, f"{name}/ended")
    code = ended.stdout.decode("ascii", "replace").strip() if ended else ""
    exit_code = int(code) if _CODE.fullmatch(code) else None
    life, members, why = _life(_answer(capture, f"{name}/process"), state)
    if life is Life.ENDED and exit_code is not None:
        why = f"the engine ended with exit code {exit_code}"
    return Seen(
        deployment,
        instance,
        life,
        "; ".join(part for part in (*reasons, why) if part),
        state,
        plan.stdout.decode("utf-8", "surrogateescape") if plan and plan.exit_code == 0 else None,
        members,
        exit_code,
        _log(capture, name),
        _statuses(capture, name),
        _health(_answer(capture, f"{name}/health")),
        _listening(_answer(capture, f"{name}/sockets")),
    )


def _life(answer: Answer | None, state: State | None) -> tuple[Life, tuple[int, ...], str]:
    if answer is None:
        return Life.UNKNOWN, (), "the host's answer was cut off"
    if answer.exit_code != 0:
        said = one_line(answer.stderr) or f"exit code {answer.exit_code}"
        return Life.UNKNOWN, (), f"its processes cannot be looked at: {said}"
    said_of = _pairs(answer)
    members_text = said_of.get("members", "-").split()
    boot_now, boot_then = said_of.get("boot", ""), said_of.get("boot-recorded", "")
    if boot_then == "" or not _BOOT_ID.fullmatch(boot_now):
        return Life.UNKNOWN, (), "no process of it is recorded"
    if boot_then != boot_now:
        node = state.node if state else None
        if node is None:
            return (
                Life.UNKNOWN,
                (),
                "it was started under another boot id, and which host did so is not known",
            )
        if node != said_of.get("node"):
            return Life.ELSEWHERE, (), f"it was started by host {one_line(node)}: ask that one"
        return Life.RESTARTED, (), "the host was restarted since"
    if not all(word.isdecimal() for word in members_text) or said_of.get("leader") not in ("alive", "gone"):
        return Life.UNKNOWN, (), "what the host says of its processes cannot be read"
    members = tuple(int(word) for word in members_text)
    if said_of["leader"] == "alive":
        return Life.RUNNING, members, ""
    if members:
        return Life.LEFTOVERS, members, "its first process is gone, and others of it run"
    return Life.ENDED, (), ""


def _log(capture: HostCapture, name: str) -> LogPart | None:
    answer, content = _answer(capture, f"{name}/log-at"), _answer(capture, f"{name}/log")
    words = answer.stdout.split() if answer else []
    if len(words) != 2 or not all(word.isdigit() for word in words) or content is None:
        return None
    return LogPart(int(words[0]), int(words[1]), content.stdout)


def _statuses(capture: HostCapture, name: str) -> tuple[tuple[str, bytes], ...]:
    found = []
    for (command, _), answer in capture.answers.items():
        if command.startswith(f"{name}/status-"):
            path, _, content = answer.stdout.partition(b"\n")
            found.append((path.decode("utf-8", "surrogateescape"), content))
    return tuple(found)


def _health(answer: Answer | None) -> int | None:
    said = {} if answer is None else _pairs(answer)
    if said.get("how", "none") == "none":
        return None
    code = said.get("code", "")
    return int(code) if _CODE.fullmatch(code) else 0


def _listening(answer: Answer | None) -> tuple[int, ...] | None:
    """Ports of ``/proc/net/tcp`` and ``tcp6``, proc_pid_net(5): field 2 is ``ADDRESS:PORT`` in hex, field 4
    the state, 0A = LISTEN."""
    if answer is None:
        return None
    rows = [line.split() for line in answer.stdout.decode("ascii", "replace").splitlines()]
    ports = {row[1].rpartition(":")[2] for row in rows if len(row) > 3 and row[3] == "0A"}
    return tuple(sorted(int(port, 16) for port in ports if _PORT.fullmatch(port)))


# The fields of state.json ---------------------------------------------------------------------------------


def _text(content: dict[str, Any], key: str) -> str:
    value = content.get(key)
    if not isinstance(value, str) or not value:
        raise KeyError(key)
    return value


def _like(content: dict[str, Any], key: str, form: re.Pattern[str]) -> str:
    value = _text(content, key)
    if not form.fullmatch(value):
        raise KeyError(key)
    return value


def _one_of(content: dict[str, Any], key: str, values: tuple[str, ...]) -> str:
    value = _text(content, key)
    if value not in values:
        raise KeyError(key)
    return value


def _number(content: dict[str, Any], key: str) -> int:
    value = content.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise KeyError(key)
    return value


def _yes_no(content: dict[str, Any], key: str) -> bool | None:
    value = content.get(key, key)
    if value is not None and not isinstance(value, bool):
        raise KeyError(key)
    return value


def _words(content: dict[str, Any], key: str) -> tuple[str, ...]:
    value = content.get(key)
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise KeyError(key)
    return tuple(value)


def _process(content: dict[str, Any]) -> Process | None:
    if content.get("pid") is None:
        return None
    pid = _number(content, "pid")
    if pid < 2:  # 1 and 0 would name everything
        raise KeyError("pid")
    return Process(pid, _number(content, "start_ticks"), _like(content, "boot_id", _BOOT_ID))
