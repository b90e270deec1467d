"""``ascendctl env``: what HCCL and the engines need in their environment, per host; and judging one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ascendctl.cli.exits import Refused
from ascendctl.cli.options import (
    ConnectTimeoutOption,
    ExcludeOption,
    HostsOption,
    HostTimeoutOption,
    InventoryOption,
    LocalOption,
    NicOption,
    QuietOption,
    ReplayOption,
    TagsOption,
)
from ascendctl.results import ExitCode

if TYPE_CHECKING:
    from ascendctl.facts import ClusterFacts, HostFacts
    from ascendctl.hccl.environment import Environment, Moe
    from ascendctl.hccl.environment import Role as EnvironmentRole
    from ascendctl.hccl.lint import Judgement

# A launch script is some kilobytes; what is larger is something else.
_LONGEST_BYTES = 4 << 20


class Format(str, Enum):
    SH = "sh"
    DOTENV = "dotenv"
    JSON = "json"
    DOCKER = "docker"


class Role(str, Enum):  # as in ascendctl.hccl.environment, which is loaded only when it is needed
    PREFILL = "prefill"
    DECODE = "decode"
    SERVE = "serve"
    NETLOADER = "netloader"


class Kernel(str, Enum):
    AUTO = "auto"
    FULL_MESH = "full-mesh"
    FULL_MESH_V2 = "full-mesh-v2"
    HIERARCHY = "hierarchy"


class Generation(str, Enum):
    A2 = "a2"
    A3 = "a3"


class LintFormat(str, Enum):
    TEXT = "text"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """Add ``env`` and ``env lint``."""
    group = typer.Typer(help="Environment variables for HCCL and the engines, per host; or judge some.")
    group.callback(invoke_without_command=True)(environment)
    group.command("lint")(lint_text)
    app.add_typer(group, name="env")


def environment(
    context: typer.Context,
    inventory: InventoryOption = None,
    hosts: HostsOption = None,
    exclude: ExcludeOption = None,
    tags: TagsOption = None,
    local: LocalOption = False,
    replay: ReplayOption = None,
    role: Annotated[Role, typer.Option("--role", help="What the engines on these hosts do.")] = Role.SERVE,
    host: Annotated[
        str | None,
        typer.Option("--host", help="Only this host's environment; the others are its peers.", metavar="H"),
    ] = None,
    format: Annotated[
        Format,
        typer.Option("--format", "-f", help="docker: -e options to paste; dotenv: for --env-file."),
    ] = Format.SH,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write HOST.sh for each host into this folder.", metavar="DIR"),
    ] = None,
    nic: NicOption = None,
    routed: Annotated[
        bool, typer.Option("--routed", help="Routers join the hosts' subnets: warn, do not refuse.")
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option("--model", help="A MoE model's config.json: compute HCCL_BUFFSIZE.", metavar="FILE"),
    ] = None,
    dp: Annotated[
        int | None, typer.Option("--dp", min=1, max=65536, help="Data-parallel size of the group.")
    ] = None,
    tp: Annotated[int, typer.Option("--tp", min=1, max=1024, help="Tensor-parallel size.")] = 1,
    ep: Annotated[
        int | None, typer.Option("--ep", min=1, help="Expert-parallel size; vLLM makes it dp times tp.")
    ] = None,
    max_num_seqs: Annotated[
        int | None, typer.Option("--max-num-seqs", min=1, max=1 << 20, help="As given to vLLM.")
    ] = None,
    spec_tokens: Annotated[
        int, typer.Option("--spec-tokens", min=0, max=1024, help="Speculative tokens per step.")
    ] = 0,
    eager: Annotated[
        bool | None,
        typer.Option("--eager/--graphs", help="Without graphs or with (default: prefill without)."),
    ] = None,
    capture_tokens: Annotated[
        int | None,
        typer.Option("--capture-tokens", min=1, help="The largest captured graph, where you set it."),
    ] = None,
    kernel: Annotated[
        Kernel, typer.Option("--kernel", help="The MC2 dispatch kernel, where you know it.")
    ] = Kernel.AUTO,
    mc2_context: Annotated[
        bool, typer.Option("--mc2-context", help="The V3 operators' flow, which needs 1 MiB more.")
    ] = False,
    quiet: QuietOption = False,
    connect_timeout: ConnectTimeoutOption = 10.0,
    host_timeout: HostTimeoutOption = 300.0,
) -> None:
    """Derive the environment of each host from what it says of itself, each line with its reason.

    Several hosts in sh format make one file that picks its part by the host's name. Warnings and
    refusals go to standard error. 'env lint FILE' judges an existing environment or launch script.

    Exit codes: 0 derived for every host; 1 refused for one (another subnet than its peers, no such
    NIC, ...); 2 usage or inventory; 3 a host could not be asked (the others are derived); 130 interrupted.
    """
    if context.invoked_subcommand is not None:
        return
    from ascendctl.cli.asking import Source, ask
    from ascendctl.hccl.environment import Role as EnvironmentRole
    from ascendctl.hccl.environment import environments
    from ascendctl.transport.contract import Deadlines
    from ascendctl.verify import Settings

    source = Source(inventory, replay, local, hosts, exclude, tags or [])
    source.check()
    if output and format is not Format.SH:
        raise Refused(f"--output writes shell files; it does not go with --format {format.value}")
    chosen = EnvironmentRole(role.value)
    moe = _moe(
        chosen, model, dp, tp, ep, max_num_seqs, spec_tokens, eager, capture_tokens, kernel, mc2_context
    )
    settings = Settings(deadlines=Deadlines(connect_s=connect_timeout, host_s=host_timeout))
    asked = ask(source, settings, quiet=quiet)
    cluster = with_nic(asked.cluster, nic) if nic else asked.cluster
    if host is not None and host not in {one.host for one in cluster.hosts}:
        raise Refused(f"--host {host}: none of the selected hosts; they are {_folded(cluster.hosts)}")
    found = environments(cluster, chosen, ssh_addresses=asked.ssh_addresses, moe=moe, routed=routed)
    shown = [one for one in found if host is None or one.host == host]
    _write(shown, format, output)
    _say(shown, docker=format is Format.DOCKER)
    raise typer.Exit(_exit_code(shown, asked.interrupted))


def lint_text(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE|-", help="A launch script or environment file; - is standard input."),
    ],
    generation: Annotated[
        Generation | None, typer.Option("--generation", help="Judge for this generation, too.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count (exit code 1).")] = False,
    format: Annotated[LintFormat, typer.Option("--format", "-f", help="How to print.")] = LintFormat.TEXT,
) -> None:
    """Judge the environment variables that a launch script or an environment file sets; it is never run.

    Exit codes: 0 no error (warnings allowed unless --strict); 1 errors; 2 FILE cannot be read;
    3 nothing in it could be judged.
    """
    from ascendctl.facts import Generation as GenerationFact
    from ascendctl.hccl.finding import Severity
    from ascendctl.hccl.lint import lint

    text = _read(file)
    judgement = lint(text, generation=GenerationFact(generation.value) if generation else None)
    name = "standard input" if file == "-" else file
    if format is LintFormat.JSON:
        _print_json(judgement, name)
    else:
        _print_findings(judgement, name)
    wrong = judgement.count(Severity.ERROR) + (judgement.count(Severity.WARNING) if strict else 0)
    if wrong:
        raise typer.Exit(ExitCode.FOUND_WRONG)
    if not judgement.judged:
        print(f"ascendctl: {name}: no value was found that could be judged", file=sys.stderr)
        raise typer.Exit(ExitCode.NOT_ENOUGH)


# --- deriving -------------------------------------------------------------------------------------


def _moe(
    role: EnvironmentRole,
    model: Path | None,
    dp: int | None,
    tp: int,
    ep: int | None,
    max_num_seqs: int | None,
    spec_tokens: int,
    eager: bool | None,
    capture_tokens: int | None,
    kernel: Kernel,
    mc2_context: bool,
) -> Moe | None:
    """The inputs of HCCL_BUFFSIZE's formula; None where it is not asked for. Raises Refused."""
    from ascendctl.hccl import buffer_size
    from ascendctl.hccl.environment import Moe
    from ascendctl.hccl.environment import Role as EnvironmentRole
    from ascendctl.hccl.model_config import ModelConfigError, read_model_config

    if model is None:
        given = dp or ep or max_num_seqs or capture_tokens or tp != 1 or spec_tokens or mc2_context
        if given or eager is not None or kernel is not Kernel.AUTO:
            raise Refused(
                "--dp, --tp, --ep, --max-num-seqs, --spec-tokens and the like are inputs of HCCL_BUFFSIZE's "
                "formula; name the model too: --model config.json"
            )
        return None
    if dp is None or max_num_seqs is None:
        raise Refused("--model computes HCCL_BUFFSIZE; name --dp and --max-num-seqs too (and --tp above 1)")
    if ep is not None and ep != dp * tp:
        raise Refused(
            f"--ep {ep} is not --dp {dp} times --tp {tp}, as vLLM makes it; correct one or leave it out"
        )
    try:
        found = read_model_config(model)
    except ModelConfigError as error:
        raise Refused(str(error)) from error
    parallel = buffer_size.Parallel(
        data=dp,
        tensor=tp,
        max_num_seqs=max_num_seqs,
        spec_tokens=spec_tokens,
        eager=role is EnvironmentRole.PREFILL if eager is None else eager,
        capture_tokens=capture_tokens,
    )
    wanted = None if kernel is Kernel.AUTO else buffer_size.Kernel(kernel.value)
    return Moe(found, parallel, wanted, mc2_context)


def with_nic(cluster: ClusterFacts, nic: str) -> ClusterFacts:
    """The cluster as if the inventory named this NIC for every host."""
    from dataclasses import replace

    hosts = [replace(host, expectation=replace(host.expectation, nic=nic)) for host in cluster.hosts]
    return replace(cluster, hosts=tuple(hosts))


def _write(found: Sequence[Environment], format: Format, output: Path | None) -> None:
    """On standard output, or as files. Raises Refused where a format cannot hold what is to be written."""
    from ascendctl.hccl import render

    usable = [one for one in found if one.settings]
    if output:
        _write_files(found, output)
    elif format is Format.JSON:
        sys.stdout.write(render.as_json(found))
    elif len(usable) > 1:
        if format is not Format.SH:
            raise Refused(
                f"--format {format.value} holds one host's environment, and there are {len(usable)}: name "
                "one with --host, or take --format json"
            )
        _check_told_apart(usable)
        sys.stdout.write(render.as_sh_of_many(usable))
    elif usable:
        write = {Format.SH: render.as_sh, Format.DOTENV: render.as_dotenv, Format.DOCKER: render.as_docker}
        sys.stdout.write(write[format](usable[0]))


def _write_files(found: Sequence[Environment], output: Path) -> None:
    from ascendctl.hccl.files import EnvironmentFileError, write_files

    try:
        written = write_files(found, output)
    except EnvironmentFileError as error:
        raise Refused(str(error)) from error
    count = f"{len(written)} file{'' if len(written) == 1 else 's'}"
    print(f"ascendctl: {count} written into {output}", file=sys.stderr)


def _check_told_apart(found: Sequence[Environment]) -> None:
    """One file for many hosts goes by host name: two of the same name would take the same address."""
    names = [one.hostname or one.host for one in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Refused(
            f"several hosts call themselves {', '.join(twice)}, so that one file cannot tell them apart: "
            "take --output DIR, or --host; and give each host its own name"
        )


def _say(found: Sequence[Environment], *, docker: bool) -> None:
    """Warnings and refusals on standard error; hosts that share one are named together."""
    from ascendctl.report.printable import shown

    said: dict[str, list[str]] = {}
    for one in found:
        for text in one.warnings:
            said.setdefault(f"warning: {text}", []).append(one.host)
        for text in one.refusals:
            begin = "no environment: " if one.learned else "no environment, it could not be asked: "
            said.setdefault(begin + text, []).append(one.host)
    for text, names in said.items():
        print(f"ascendctl: {_folded_names(names)}: {shown(text)}", file=sys.stderr)
    if docker and any(one.settings for one in found):
        print(
            "ascendctl: besides these, docker run needs --network host and"
            " -v /etc/hccn.conf:/etc/hccn.conf:ro, without which engines start and answer garbage",
            file=sys.stderr,
        )


def _exit_code(found: Sequence[Environment], interrupted: bool) -> ExitCode:
    if interrupted:
        return ExitCode.INTERRUPTED
    if any(one.refusals and one.learned for one in found):
        return ExitCode.FOUND_WRONG
    if not found or any(not one.learned for one in found):
        return ExitCode.NOT_ENOUGH
    return ExitCode.OK


def _folded(hosts: Sequence[HostFacts]) -> str:
    return _folded_names([host.host for host in hosts])


def _folded_names(names: Sequence[str]) -> str:
    from ascendctl.inventory import fold

    return fold(names)


# --- judging --------------------------------------------------------------------------------------


def _read(file: str) -> str:
    """The text of a file or of standard input. Raises Refused."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read(_LONGEST_BYTES + 1)
        else:
            with Path(file).open("rb") as stream:
                data = stream.read(_LONGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Refused(
            f"{file!r} cannot be read: {reason}; expected a script, or - for standard input"
        ) from None
    if len(data) > _LONGEST_BYTES:
        raise Refused(f"{file!r} is over {_LONGEST_BYTES >> 20} MiB, so it is no launch script")
    # An environment as the kernel keeps it (/proc/PID/environ) has NUL in place of line ends.
    if b"\0" in data and b"\n" not in data:
        data = data.replace(b"\0", b"\n")
    if b"\0" in data:
        raise Refused(f"{file!r} is no text; expected a launch script or an environment file")
    return data.decode("utf-8", "surrogateescape")


def _print_findings(judgement: Judgement, name: str) -> None:
    from ascendctl.hccl.finding import Severity
    from ascendctl.report.printable import shown

    for finding in judgement.findings:
        subject = f"{finding.variable}: " if finding.variable else ""
        print(
            shown(
                f"{name}:{finding.line}: {finding.severity.value}: {subject}{finding.what} [{finding.rule}]"
            )
        )
        if finding.severity is Severity.NOTE and not finding.do:
            continue
        for label, text in (("expected", finding.expected), ("do", finding.do)):
            if text:
                print(f"    {label}: {shown(text)}")
    counts = ", ".join(
        f"{judgement.count(one)} {one.value}{'' if judgement.count(one) == 1 else 's'}" for one in Severity
    )
    print(f"{shown(name)}: {judgement.judged} values judged: {counts}")


def _print_json(judgement: Judgement, name: str) -> None:
    import json

    from ascendctl.report.printable import storable

    findings = [
        {
            "file": storable(name),
            "line": finding.line,
            "severity": finding.severity.value,
            "rule": finding.rule,
            "variable": storable(finding.variable) or None,
            "what": storable(finding.what),
            "expected": finding.expected or None,
            "do": storable(finding.do) or None,
        }
        for finding in judgement.findings
    ]
    print(json.dumps({"format": 1, "judged": judgement.judged, "findings": findings}, indent=2))
