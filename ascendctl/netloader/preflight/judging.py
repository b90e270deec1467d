"""The pre-flight on the hosts: what keeps an engine from starting as planned, before it is started.

`preflight` asks every host twice at most, `judge` makes cells of what they said. A cell is of one host and
one check of `PREFLIGHT_CHECKS`; a host that was not reached, or whose engine's environment cannot be entered,
has its other cells skipped for that. What is planned is held against what runs already, and else against what
most hosts have.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ascendctl.assembly import host_facts
from ascendctl.checks.ascend import internal_error
from ascendctl.checks.engine import run_checks
from ascendctl.checks.host import Reachable
from ascendctl.exchange import reach_of
from ascendctl.facts import ClusterFacts, Expectation, HostFacts, Reach, ReachStatus
from ascendctl.inventory import Host, Privilege
from ascendctl.netloader.fleet import Fleet
from ascendctl.netloader.plan import Instance, is_secret
from ascendctl.netloader.preflight.devices import devices, hccn_conf, memory
from ascendctl.netloader.preflight.facts import PreflightFacts, preflight_facts
from ascendctl.netloader.preflight.finding import Finding, Scene, Verdict, on_ascend
from ascendctl.netloader.preflight.model import model
from ascendctl.netloader.preflight.rules import entered, ports, proxy
from ascendctl.netloader.preflight.script import Asked, engine_script, npu_script
from ascendctl.netloader.preflight.versions import versions
from ascendctl.probe.bundle import HostRecord
from ascendctl.probe.capture import HostCapture
from ascendctl.results import CellKey, Result, Status, host_subject
from ascendctl.transport.contract import Outcome
from ascendctl.verify import expectation_of

REACHABLE, ENTERED = "reachable", "engine-exec"
_HIDDEN = "(hidden)"
# Shorter values than this occur anywhere.
_SECRET_LEAST_CHARACTERS = 4


@dataclass(frozen=True)
class About:
    """What a check looks at, why, which error it prevents, and how to mend what it finds."""

    what: str
    why: str
    prevents: str
    fix: str


PREFLIGHT_CHECKS: Mapping[str, About] = {
    REACHABLE: About(
        "The host accepts the connection and answers to the end.",
        "A host that was not looked at must never count as fit.",
        "A start that fails half-way, with some of the instances running.",
        "Follow the finding: address, firewall, user and key, host key, jump host.",
    ),
    ENTERED: About(
        "The words of `engine_exec` run a shell in the engine's environment.",
        "The engine is started through them, and everything else here is asked through them.",
        "A container that does not run, or may not be entered.",
        "Start the container, or correct `engine_exec` in the inventory.",
    ),
    "engine-model": About(
        "The model's folder is there where the engine runs; configuration and tokenizer have the same "
        "SHA-256 on all hosts; weight files are whole, and the seeds' are equal in name and size.",
        "Only weights come over the network, and by their names and sizes: the rest each host reads itself.",
        "An engine that ends at its start, weights in tensors of another meaning, other tokens for the same "
        "text, a fallback to a disk that holds nothing or another model.",
        "Copy the model's folder anew to the host that differs; mount it into the container.",
    ),
    "engine-versions": About(
        "The Python that runs the launcher has vLLM and the plugin of the engine kind, in the same versions "
        "on all hosts, with torch and torch-npu; nothing keeps vLLM from loading the plugin.",
        "What the ends of a transfer agree on is laid down in their code.",
        "A load format that is not known, and transfers that hang or load weights wrongly.",
        "Use one image, or one lock file, on every host.",
    ),
    "engine-ports": About(
        "Every port of the plan is free, no other of the plan, none of HCCL's or Mooncake's, and none that "
        "the kernel hands out at random; also those of a draft model, 10000 above.",
        "Listeners are bound at the end of the load, after minutes.",
        "'Address already in use', now or once in a while, and joiners that ask somebody else.",
        "Choose other ports with --port and --listen-port, or reserve them in the kernel.",
    ),
    "engine-devices": About(
        "The planned devices are visible to the engine, listed by npu-smi, well, and used by nobody.",
        "A device in use has neither the memory nor the port that HCCL needs.",
        "Out of memory, EI0019, or an engine that ends at its start.",
        "End what uses them, choose other --devices, pass them to the container.",
    ),
    "engine-memory": About(
        "The weights fit: in the free memory of the host or its container (CPU), of each GPU, or of each "
        "device together with HCCL's buffers of 2 x HCCL_BUFFSIZE per communicator.",
        "What else is needed (KV cache, activations) comes on top.",
        "An engine that ends, or is ended by the kernel, while it loads.",
        "Free memory, split over more ranks, or lower --gpu-memory-utilization or HCCL_BUFFSIZE.",
    ),
    "engine-hccn-conf": About(
        "vllm-ascend's engine reads the host's /etc/hccn.conf, and not an older one.",
        "Engine and connectors read the addresses of the ports there.",
        "Garbage answers without an error (vllm-ascend issue 7711), connectors that fail.",
        "Mount the file into the container; restart the container after it was written anew.",
    ),
    "engine-proxy": About(
        "Where a proxy is set for the engine, no_proxy names all addresses of the deployment.",
        "Proxies of a data centre seldom lead back into it.",
        "Health checks and routers that see dead peers.",
        "Set no_proxy and NO_PROXY as the finding says.",
    ),
}
"""Check id → what it is. In the order of a host's cells."""

_RULES: Mapping[str, Callable[[Scene, str], Verdict]] = {
    "engine-model": model,
    "engine-versions": versions,
    "engine-ports": ports,
    "engine-devices": devices,
    "engine-memory": memory,
    "engine-hccn-conf": hccn_conf,
    "engine-proxy": proxy,
}
# What could not be learned is explained by a failure of the check behind it.
_AFTER = {"engine-memory": "engine-model"}
_WORST_FIRST = (Status.FAIL, Status.UNKNOWN, Status.WARN)


def preflight(
    fleet: Fleet,
    instances: Sequence[Instance],
    *,
    running: Sequence[Instance] = (),
    secrets: Collection[str] = (),
) -> tuple[Result, ...]:
    """Ask the hosts of what is planned and of what runs, and judge. Never raises for a host's sake.

    ``running``: what is there already; an instance of ``instances`` that is among them by its name is not
    started again. ``secrets``: texts that no result may hold; values of secret variables in the plans never
    are in one. Raises ValueError for launch words that cannot be used, KeyError for a host that is not in
    the fleet.
    """
    scene = Scene(_asked_facts(fleet, [*instances, *running]), tuple(instances), tuple(running))
    cells = judge(scene)
    hidden = {
        value
        for one in (*instances, *running)
        for name, value in one.place.variables.items()
        if is_secret(name) and len(value) >= _SECRET_LEAST_CHARACTERS
    }
    return tuple(_without(cell, sorted({*hidden, *filter(None, secrets)}, key=len)) for cell in cells)


def judge(scene: Scene) -> tuple[Result, ...]:
    """Every cell, in the order host, check. Pure.

    Hosts of what only runs have their ``reachable`` cell: what they have is what the others are held against.
    """
    planned = list(dict.fromkeys(one.host for one in scene.planned))
    reached = _reached(scene)
    cells: list[Result] = []
    for host, cell in reached.items():
        cells.append(cell)
        if host in planned:
            cells += _cells_of(scene, host, cell)
    return tuple(cells)


# Asking ---------------------------------------------------------------------------------------------------


def _asked_facts(fleet: Fleet, instances: Sequence[Instance]) -> dict[str, PreflightFacts]:
    hosts = dict.fromkeys(one.host for one in instances)
    asked = {
        host: Asked.of([one for one in instances if one.host == host], fleet.hosts[host].engine_exec)
        for host in hosts
    }
    on_npus = dict.fromkeys(one.host for one in on_ascend(instances))
    npus = fleet.ask(
        {host: _npu_question(fleet.hosts[host]) for host in on_npus},
        lambda outcome, capture: _npu_facts(fleet.hosts[outcome.host], outcome, capture),
    )

    def take(outcome: Outcome, capture: HostCapture) -> PreflightFacts:
        said = _npu_facts(fleet.hosts[outcome.host], outcome, capture)
        seen = npus.get(outcome.host)
        reach = said.reach if seen is None or _is_reached(seen) else seen.reach
        return preflight_facts(outcome.host, reach, capture, asked[outcome.host], seen)

    # A host that was not reached is not asked again: logins that are refused lock accounts.
    left = [host for host in hosts if host not in npus or _is_reached(npus[host])]
    facts = fleet.ask({host: _engine_question(asked[host]) for host in left}, take)
    for host, seen in npus.items():
        facts.setdefault(host, preflight_facts(host, seen.reach, HostCapture(), asked[host], seen))
    return {host: facts[host] for host in hosts}


def _engine_question(asked: Asked) -> Callable[[str], bytes]:
    return lambda nonce: engine_script(nonce, asked)


def _npu_question(host: Host) -> Callable[[str], bytes]:
    return lambda nonce: npu_script(nonce, sudo=host.privilege is Privilege.SUDO)


def _npu_facts(host: Host, outcome: Outcome, capture: HostCapture) -> HostFacts:
    return host_facts(HostRecord(host.name, expectation_of(host), reach_of(outcome), capture))


def _is_reached(facts: HostFacts) -> bool:
    return facts.reach.status is ReachStatus.REACHED


# Cells ----------------------------------------------------------------------------------------------------


def _reached(scene: Scene) -> dict[str, Result]:
    """The ``reachable`` cell of every host, by the check that `verify` has for it."""

    def seen(host: str, reach: Reach) -> HostFacts:
        return HostFacts(host=host, expectation=Expectation(), reach=reach)

    cluster = ClusterFacts(tuple(seen(host, facts.reach) for host, facts in scene.facts.items()))
    results = run_checks(cluster, today=dt.date.min, checks=(Reachable(),), cluster_checks=())
    by_host = {one.subject.host: one for one in results}
    order = [*scene.facts, *(host for host in by_host if host is not None and host not in scene.facts)]
    return {host: by_host[host] for host in order}


def _cells_of(scene: Scene, host: str, reached: Result) -> Iterable[Result]:
    if reached.status is not Status.PASS:
        yield from (_skipped(check, host, reached) for check in (ENTERED, *_RULES))
        return
    within = _guarded(ENTERED, entered, scene, host)
    yield within
    judged: dict[str, Result] = {}
    for check, rule in _RULES.items():
        if within.status is not Status.PASS:
            yield _skipped(check, host, within)
            continue
        cell = judged[check] = _guarded(check, rule, scene, host)
        cause = judged.get(_AFTER.get(check, ""))
        if cell.status is Status.UNKNOWN and cause is not None and cause.status is Status.FAIL:
            cell = _skipped(check, host, cause)
        yield cell


def _skipped(check: str, host: str, cause: Result) -> Result:
    """Explained by another cell, or by the one that explains that: the root is named."""
    root = cause.caused_by or CellKey(cause.check, cause.subject)
    fails = cause.root_fails if cause.status is Status.SKIPPED else cause.status is Status.FAIL
    return Result(
        check,
        host_subject(host),
        Status.SKIPPED,
        f"explained by {root.check}: {cause.message}",
        caused_by=root,
        root_fails=fails,
    )


def _guarded(check: str, rule: Callable[[Scene, str], Verdict], scene: Scene, host: str) -> Result:
    """A rule's own fault costs its cell, not the run."""
    try:
        return _cell(check, host, rule(scene, host))
    except Exception as error:
        return internal_error(check, host_subject(host), error)


def _cell(check: str, host: str, verdict: Verdict) -> Result:
    subject = host_subject(host)
    if verdict.not_applicable:
        return Result(check, subject, Status.NOT_APPLICABLE, verdict.not_applicable)
    if not verdict.findings:
        return Result(check, subject, Status.PASS, verdict.good)
    found = sorted(dict.fromkeys(verdict.findings), key=lambda one: _WORST_FIRST.index(one.status))

    def all_of(part: Callable[[Finding], str], joint: str = "; ") -> str:
        return joint.join(dict.fromkeys(filter(None, map(part, found))))

    return Result(
        check,
        subject,
        found[0].status,
        all_of(lambda one: one.message),
        expected=all_of(lambda one: one.expected),
        actual=all_of(lambda one: one.actual),
        consequence=all_of(lambda one: one.consequence, " "),
        remedy=all_of(lambda one: one.remedy, " "),
        command=all_of(lambda one: one.reading.command),
        evidence=all_of(lambda one: one.reading.evidence, "\n"),
    )


def _without(cell: Result, secrets: Sequence[str]) -> Result:
    """The cell with every secret in it hidden, the longest first."""
    texts = {
        name: getattr(cell, name)
        for name in ("message", "expected", "actual", "consequence", "remedy", "command", "evidence")
    }
    for secret in reversed(secrets):
        texts = {name: text.replace(secret, _HIDDEN) for name, text in texts.items()}
    return replace(cell, **texts)
