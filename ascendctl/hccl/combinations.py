"""Rules over several variables that are in effect together. Pure; one function per rule.

Each takes what is in effect (name → assignment) and gives findings. A variable whose value the text does
not settle is not judged. Sources: HCCL's documentation of each variable, torch_npu's of the allocator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ascendctl.facts import Generation
from ascendctl.hccl.finding import Finding, Severity
from ascendctl.hccl.forms import address_of, settings_of
from ascendctl.hccl.launch_text import Assignment
from ascendctl.hccl.variables import (
    AIV_EXEC_TIMEOUT_MOST_S,
    CONNECT_TIMEOUT_DEFAULT_S,
    EXEC_TIMEOUT_DEFAULT_S,
    P2P_CONNECT_TIMEOUT_S,
    VARIABLES,
)

Together = Mapping[str, Assignment]
Rule = Callable[[Together, Generation | None], Iterator[Finding]]


def judge_together(together: Together, generation: Generation | None) -> Iterator[Finding]:
    """Every finding of every rule."""
    for rule in RULES:
        yield from rule(together, generation)


def _text(together: Together, name: str) -> str | None:
    """A value that is settled and of its variable's form; None otherwise: that is another finding."""
    assignment = together.get(name)
    if assignment is None or assignment.value is None:
        return None
    value = assignment.value.strip()
    return value if not VARIABLES[name].form.problem(value) else None


def _number(together: Together, name: str) -> int | None:
    text = _text(together, name)
    return int(text) if text is not None else None


def _unsettled(together: Together, *names: str) -> bool:
    """Whether one of these is set to something that is not known."""
    return any(name in together and _text(together, name) is None for name in names)


def _line(together: Together, *names: str) -> int:
    """The last of the lines that set these: there the combination came about."""
    return max(together[name].line for name in names if name in together)


def _default(number: int | None) -> str:
    return "" if number is not None else " (default)"


def _intra_links(together: Together, generation: Generation | None) -> Iterator[Finding]:
    names = ("HCCL_INTRA_PCIE_ENABLE", "HCCL_INTRA_ROCE_ENABLE")
    if _unsettled(together, *names):
        return
    pcie, roce = (_text(together, name) for name in names)
    if (pcie, roce) not in {("1", "1"), ("0", None), (None, "0")}:
        return
    seen = f"{names[0]}={pcie or 'unset'} with {names[1]}={roce or 'unset'}"
    yield Finding(
        "intra-links",
        Severity.ERROR,
        _line(together, *names),
        names[0] if pcie is not None else names[1],
        f"{seen} is a pair that HCCL refuses (EI0001)",
        "PCIe: 1 with 0 or unset; RoCE: 0 or unset with 1; the default: both 0 or both unset",
        "set both, one of them to 1; on A2 1 with 0 makes vllm-ascend take hierarchical MC2",
    )


def _connect_and_exec(together: Together, generation: Generation | None) -> Iterator[Finding]:
    names = ("HCCL_CONNECT_TIMEOUT", "HCCL_EXEC_TIMEOUT")
    if _unsettled(together, *names) or not any(name in together for name in names):
        return
    connect, execute = (_number(together, name) for name in names)
    connect_s = CONNECT_TIMEOUT_DEFAULT_S if connect is None else connect
    execute_s = EXEC_TIMEOUT_DEFAULT_S if execute is None else execute
    if execute_s == 0 or execute_s > connect_s:
        return
    yield Finding(
        "exec-timeout",
        Severity.WARNING,
        _line(together, *names),
        "HCCL_EXEC_TIMEOUT",
        f"HCCL_EXEC_TIMEOUT is {execute_s} s{_default(execute)}, HCCL_CONNECT_TIMEOUT {connect_s} s"
        f"{_default(connect)}: a rank that waits for one that is slow to connect gives up first (EI0002)",
        "HCCL_EXEC_TIMEOUT above HCCL_CONNECT_TIMEOUT, or 0",
        "raise HCCL_EXEC_TIMEOUT, or lower HCCL_CONNECT_TIMEOUT",
    )


def _event_and_exec(together: Together, generation: Generation | None) -> Iterator[Finding]:
    names = ("HCCL_EVENT_TIMEOUT", "HCCL_EXEC_TIMEOUT")
    event = _number(together, names[0])
    if not event or _unsettled(together, names[1]):
        return
    execute = _number(together, names[1])
    execute_s = EXEC_TIMEOUT_DEFAULT_S if execute is None else execute
    if event > execute_s > 0:
        return
    limit = "never ends (0)" if execute_s == 0 else f"is {execute_s} s{_default(execute)}"
    yield Finding(
        "event-timeout",
        Severity.ERROR,
        _line(together, *names),
        names[0],
        f"HCCL_EVENT_TIMEOUT is {event} s, HCCL_EXEC_TIMEOUT {limit}",
        "HCCL_EVENT_TIMEOUT above HCCL_EXEC_TIMEOUT",
        "raise HCCL_EVENT_TIMEOUT, or leave it out",
    )


def _aiv(together: Together, generation: Generation | None) -> Iterator[Finding]:
    if _text(together, "HCCL_OP_EXPANSION_MODE") != "AIV":
        return
    mode = "HCCL_OP_EXPANSION_MODE"
    determinism = (_text(together, "HCCL_DETERMINISTIC") or "false").lower()
    if determinism != "false":
        yield Finding(
            "aiv-determinism",
            Severity.WARNING,
            _line(together, mode, "HCCL_DETERMINISTIC"),
            mode,
            f"HCCL_DETERMINISTIC={determinism} switches AIV off",
            "AIV, or deterministic results: one of them",
            "leave out HCCL_DETERMINISTIC, or HCCL_OP_EXPANSION_MODE",
        )
    execute = _number(together, "HCCL_EXEC_TIMEOUT")
    if execute is not None and execute > AIV_EXEC_TIMEOUT_MOST_S:
        yield Finding(
            "aiv-exec-timeout",
            Severity.WARNING,
            _line(together, mode, "HCCL_EXEC_TIMEOUT"),
            "HCCL_EXEC_TIMEOUT",
            f"{execute} s is more than AIV operators wait",
            f"at most {AIV_EXEC_TIMEOUT_MOST_S} s with HCCL_OP_EXPANSION_MODE=AIV",
            f"set it to {AIV_EXEC_TIMEOUT_MOST_S} or less, above HCCL_CONNECT_TIMEOUT",
        )
    retry = settings_of(_text(together, "HCCL_OP_RETRY_ENABLE") or "")
    if "1" in retry.values():
        yield Finding(
            "retry-expansion",
            Severity.WARNING,
            _line(together, mode, "HCCL_OP_RETRY_ENABLE"),
            "HCCL_OP_RETRY_ENABLE",
            "operators are retried with AI_CPU only, and HCCL_OP_EXPANSION_MODE is AIV",
            "HCCL_OP_EXPANSION_MODE=AI_CPU with retries",
            "leave out one of the two",
        )


def _strict(together: Together, generation: Generation | None) -> Iterator[Finding]:
    determinism = (_text(together, "HCCL_DETERMINISTIC") or "").lower()
    disabled = (_text(together, "HCCL_INTER_HCCS_DISABLE") or "").upper()
    if determinism == "strict" and disabled == "TRUE":
        yield Finding(
            "strict-hccs",
            Severity.ERROR,
            _line(together, "HCCL_DETERMINISTIC", "HCCL_INTER_HCCS_DISABLE"),
            "HCCL_DETERMINISTIC",
            "strict determinism does not go with HCCL_INTER_HCCS_DISABLE=TRUE",
            "true in place of strict, or HCCS between hosts",
            "set HCCL_DETERMINISTIC=true, or leave out HCCL_INTER_HCCS_DISABLE",
        )


def _allocator(together: Together, generation: Generation | None) -> Iterator[Finding]:
    name = "PYTORCH_NPU_ALLOC_CONF"
    settings = settings_of(_text(together, name) or "")
    against = [key for key in ("max_split_size_mb", "garbage_collection_threshold") if key in settings]
    if settings.get("expandable_segments") == "True" and against:
        yield Finding(
            "allocator",
            Severity.ERROR,
            _line(together, name),
            name,
            f"expandable_segments:True together with {' and '.join(against)}",
            f"expandable_segments:False with {' or '.join(against)}",
            f"leave out {' and '.join(against)}, or expandable_segments",
        )


def _point_to_point(together: Together, generation: Generation | None) -> Iterator[Finding]:
    name = "P2P_HCCL_BUFFSIZE"
    connect = _number(together, "HCCL_CONNECT_TIMEOUT")
    if not _number(together, name) or _unsettled(together, "HCCL_CONNECT_TIMEOUT"):
        return
    connect_s = CONNECT_TIMEOUT_DEFAULT_S if connect is None else connect
    if connect_s < P2P_CONNECT_TIMEOUT_S:
        yield Finding(
            "p2p-connect-timeout",
            Severity.WARNING,
            _line(together, name, "HCCL_CONNECT_TIMEOUT"),
            "HCCL_CONNECT_TIMEOUT",
            f"{connect_s} s{_default(connect)} with point-to-point communicators",
            f"{P2P_CONNECT_TIMEOUT_S} s or more where P2P_HCCL_BUFFSIZE is above 0",
            f"set HCCL_CONNECT_TIMEOUT={P2P_CONNECT_TIMEOUT_S}",
        )


def _family(together: Together, generation: Generation | None) -> Iterator[Finding]:
    text, family = _text(together, "HCCL_IF_IP"), _text(together, "HCCL_SOCKET_FAMILY")
    address = address_of(text) if text else None
    if address is None or _unsettled(together, "HCCL_SOCKET_FAMILY"):
        return
    wanted = "AF_INET6" if address.version == 6 else "AF_INET"
    if (family or "AF_INET") != wanted:
        yield Finding(
            "address-family",
            Severity.ERROR,
            _line(together, "HCCL_IF_IP", "HCCL_SOCKET_FAMILY"),
            "HCCL_SOCKET_FAMILY",
            f"HCCL_IF_IP is an IPv{address.version} address, HCCL_SOCKET_FAMILY "
            f"{family or 'AF_INET (default)'} (EI0001)",
            wanted,
            f"set HCCL_SOCKET_FAMILY={wanted}",
        )


def _one_nic(together: Together, generation: Generation | None) -> Iterator[Finding]:
    names = ("HCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME")
    values = {name: text for name in names if (text := _text(together, name)) and not text.startswith("^")}
    plain = {name: text.removeprefix("=") for name, text in values.items()}
    bare = values.get("HCCL_SOCKET_IFNAME", "=")
    if not bare.startswith("="):
        # A prefix goes with every name that begins like it.
        agree = {text for name, text in plain.items() if name != "HCCL_SOCKET_IFNAME"}
        differ = len(agree) > 1 or not all(text.startswith(tuple(bare.split(","))) for text in agree)
    else:
        differ = len(set(plain.values())) > 1
    if differ:
        yield Finding(
            "one-nic",
            Severity.WARNING,
            _line(together, *values),
            next(iter(values)),
            f"different NICs: {', '.join(f'{name}={text}' for name, text in values.items())}",
            "the one NIC that the other hosts reach, in all three",
            "name the same NIC; 'ascendctl env' derives it per host",
        )


def _ports(together: Together, generation: Generation | None) -> Iterator[Finding]:
    names = ("HCCL_IF_BASE_PORT", "HCCL_HOST_SOCKET_PORT_RANGE")
    if all(name in together for name in names):
        yield Finding(
            "host-ports",
            Severity.WARNING,
            _line(together, *names),
            names[0],
            "HCCL_HOST_SOCKET_PORT_RANGE is set too and goes before it, so that this one does nothing",
            "one of the two",
            f"leave out {names[0]}",
        )


def _queue(together: Together, generation: Generation | None) -> Iterator[Finding]:
    names = ("TASK_QUEUE_ENABLE", "ASCEND_LAUNCH_BLOCKING")
    queue, blocking = (_text(together, name) for name in names)
    if queue in ("1", "2") and blocking == "1":
        yield Finding(
            "task-queue",
            Severity.WARNING,
            _line(together, *names),
            names[0],
            "ASCEND_LAUNCH_BLOCKING=1 makes torch_npu ignore it",
            "ASCEND_LAUNCH_BLOCKING for debugging only",
            "leave out ASCEND_LAUNCH_BLOCKING",
        )


def _rpc_ports(together: Together, generation: Generation | None) -> Iterator[Finding]:
    names = ("MC_MIN_RPC_PORT", "MC_MAX_RPC_PORT")
    if _unsettled(together, *names) or not any(name in together for name in names):
        return
    lowest, highest = (
        int(VARIABLES[name].default) if (number := _number(together, name)) is None else number
        for name in names
    )
    if lowest > highest:
        yield Finding(
            "rpc-ports",
            Severity.ERROR,
            _line(together, *names),
            names[0],
            f"Mooncake's ports would go from {lowest} to {highest}",
            "MC_MIN_RPC_PORT not above MC_MAX_RPC_PORT (defaults 15000 and 17000)",
            "set both",
        )


RULES: tuple[Rule, ...] = (
    _intra_links,
    _connect_and_exec,
    _event_and_exec,
    _aiv,
    _strict,
    _allocator,
    _point_to_point,
    _family,
    _one_nic,
    _ports,
    _queue,
    _rpc_ports,
)
