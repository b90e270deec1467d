"""``ascendctl ranktable``: HCCL's rank table from what the hosts say; and judging one."""

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
    from ascendctl.cli.asking import Asked
    from ascendctl.hccl.rank_table import Plan, RankTable, Refusal
    from ascendctl.hccl.rank_table_check import TableFinding

# 16 devices of 4096 hosts take some 12 MB.
_LONGEST_BYTES = 64 << 20
_MOST_PRINTED = 50


class Version(str, Enum):
    AUTO = "auto"
    V1_0 = "1.0"
    V1_2 = "1.2"


class DeviceIp(str, Enum):  # as in ascendctl.hccl.rank_table, which is loaded only when it is needed
    ROCE = "roce"
    VNIC = "vnic"
    NONE = "none"


class CheckFormat(str, Enum):
    TEXT = "text"
    JSON = "json"


InterHccsOption = Annotated[
    bool,
    typer.Option(
        "--inter-hccs-disable", help="For jobs with HCCL_INTER_HCCS_DISABLE=TRUE: device_ip is mandatory."
    ),
]


def register(app: typer.Typer) -> None:
    """Add ``ranktable`` and ``ranktable check``."""
    group = typer.Typer(help="HCCL's rank table from live hosts or a recording; or judge one.")
    group.callback(invoke_without_command=True)(rank_table)
    group.command("check")(check)
    app.add_typer(group, name="ranktable")


def rank_table(
    context: typer.Context,
    inventory: InventoryOption = None,
    hosts: HostsOption = None,
    exclude: ExcludeOption = None,
    tags: TagsOption = None,
    local: LocalOption = False,
    replay: ReplayOption = None,
    version: Annotated[
        Version, typer.Option("--version", help="auto: 1.2 where every host is in a super pod, else 1.0.")
    ] = Version.AUTO,
    device_ip: Annotated[
        DeviceIp,
        typer.Option(
            "--device-ip", help="What device_ip is. HCCL wants the RoCE address; vnic is for other readers."
        ),
    ] = DeviceIp.ROCE,
    inter_hccs_disable: InterHccsOption = False,
    op_retry: Annotated[
        bool,
        typer.Option(
            "--op-retry", help='With host_ip and backups, for HCCL_OP_RETRY_ENABLE="L1:1,L2:1" (1.2).'
        ),
    ] = False,
    nic: NicOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write this file (mode 0640), not standard output."),
    ] = None,
    quiet: QuietOption = False,
    connect_timeout: ConnectTimeoutOption = 10.0,
    host_timeout: HostTimeoutOption = 300.0,
) -> None:
    """Write the rank table of the selected hosts, or say everything that is missing, and on which host.

    Ranks go by super pod, then host, both in inventory order, then physical id of the device; so those of a
    host and those of a pod stand together. torch_npu takes the file by RANK_TABLE_FILE with its absolute
    path; where that does not exist it negotiates without a word.

    Exit codes: 0 written; 1 the hosts forbid it (no address, double SDID, ...); 2 usage, inventory, or a
    version that these hosts cannot have; 3 a host did not tell what is needed; 130 interrupted.
    """
    if context.invoked_subcommand is not None:
        return
    from ascendctl.cli.env import with_nic
    from ascendctl.hccl.rank_table import DeviceIp as DeviceIpSource
    from ascendctl.hccl.rank_table import Version as TableVersion
    from ascendctl.hccl.rank_table import Wish, as_json, plan_rank_table

    asked = _ask(inventory, replay, local, hosts, exclude, tags, connect_timeout, host_timeout, quiet)
    cluster = with_nic(asked.cluster, nic) if nic else asked.cluster
    wish = Wish(
        None if version is Version.AUTO else TableVersion(version.value),
        DeviceIpSource(device_ip.value),
        inter_hccs_disable,
        op_retry,
    )
    plan = plan_rank_table(cluster, wish, ssh_addresses=asked.ssh_addresses)
    _say(plan)
    if asked.interrupted or plan.table is None:
        raise typer.Exit(_exit_code(plan.refusals, asked.interrupted))
    _write(as_json(plan.table), output)
    _describe(plan.table, output)


def check(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A rank table; - is standard input.")],
    inventory: InventoryOption = None,
    hosts: HostsOption = None,
    exclude: ExcludeOption = None,
    tags: TagsOption = None,
    local: LocalOption = False,
    replay: ReplayOption = None,
    inter_hccs_disable: InterHccsOption = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count (exit code 1).")] = False,
    format: Annotated[CheckFormat, typer.Option("--format", "-f", help="How to print.")] = CheckFormat.TEXT,
    quiet: QuietOption = False,
    connect_timeout: ConnectTimeoutOption = 10.0,
    host_timeout: HostTimeoutOption = 300.0,
) -> None:
    """Judge a rank table by HCCL's field rules and, with hosts named, by what their devices say.

    Each finding names the place in the file, what was expected and seen, and the code HCCL fails with.

    Exit codes: 0 no error (warnings allowed unless --strict); 1 errors; 2 FILE cannot be read, or usage;
    3 a host did not tell what is needed to compare; 130 interrupted.
    """
    from ascendctl.hccl.finding import Severity
    from ascendctl.hccl.rank_table_check import check_rank_table
    from ascendctl.hccl.rank_table_cluster import compare_with_cluster

    text, findings = _read(file)
    judgement = check_rank_table(text, inter_hccs_disable=inter_hccs_disable)
    findings += judgement.findings
    unknown: Sequence[str] = ()
    interrupted = False
    if inventory or replay or local:
        asked = _ask(inventory, replay, local, hosts, exclude, tags, connect_timeout, host_timeout, quiet)
        interrupted = asked.interrupted
        if judgement.servers:
            comparison = compare_with_cluster(judgement, asked.cluster)
            findings += comparison.findings
            unknown = comparison.unknown
    elif hosts or exclude or tags:
        raise Refused(
            "--hosts, --exclude and --tags select from an inventory or a recording; name it with --inventory"
        )
    name = "standard input" if file == "-" else file
    if format is CheckFormat.JSON:
        _print_json(findings, unknown, name)
    else:
        _print_findings(findings, unknown, name, judgement.ranks)
    counting = (Severity.ERROR, Severity.WARNING) if strict else (Severity.ERROR,)
    if interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)
    if any(finding.severity in counting for finding in findings):
        raise typer.Exit(ExitCode.FOUND_WRONG)
    if unknown:
        raise typer.Exit(ExitCode.NOT_ENOUGH)


def _ask(
    inventory: Path | None,
    replay: Path | None,
    local: bool,
    hosts: str | None,
    exclude: str | None,
    tags: Sequence[str] | None,
    connect_timeout: float,
    host_timeout: float,
    quiet: bool,
) -> Asked:
    from ascendctl.cli.asking import Source, ask
    from ascendctl.transport.contract import Deadlines
    from ascendctl.verify import Settings

    source = Source(inventory, replay, local, hosts, exclude, tags or [])
    source.check()
    settings = Settings(deadlines=Deadlines(connect_s=connect_timeout, host_s=host_timeout))
    return ask(source, settings, quiet=quiet)


# --- making one -----------------------------------------------------------------------------------


def _say(plan: Plan) -> None:
    """Warnings and refusals on standard error; hosts that share one are named together."""
    from ascendctl.inventory import fold
    from ascendctl.report.printable import shown

    for text in plan.warnings:
        print(f"ascendctl: warning: {shown(text)}", file=sys.stderr)
    by_text: dict[str, list[str]] = {}
    for refusal in plan.refusals:
        by_text.setdefault(refusal.text, []).append(refusal.host)
    for text, names in by_text.items():
        where = fold([name for name in names if name])
        print(f"ascendctl: {where + ': ' if where else ''}no rank table: {shown(text)}", file=sys.stderr)


def _exit_code(refusals: Sequence[Refusal], interrupted: bool) -> ExitCode:
    """Of several reasons the design's order decides: 130, 2, 1, 3."""
    from ascendctl.hccl.rank_table import Why

    reasons = {refusal.why for refusal in refusals}
    if interrupted:
        return ExitCode.INTERRUPTED
    if Why.ASKED in reasons:
        return ExitCode.USAGE
    return ExitCode.FOUND_WRONG if Why.WRONG in reasons else ExitCode.NOT_ENOUGH


def _write(text: str, output: Path | None) -> None:
    from ascendctl.hccl.rank_table_file import RankTableFileError, write_rank_table

    if output is None:
        sys.stdout.write(text)
        return
    try:
        write_rank_table(text, output)
    except RankTableFileError as error:
        raise Refused(str(error)) from error


def _describe(table: RankTable, output: Path | None) -> None:
    """One line on standard error: what the table is, and where."""
    pods = f" in {len(table.super_pods)} super pods" if len(table.super_pods) > 1 else ""
    servers = f"{len(table.servers)} host{'' if len(table.servers) == 1 else 's'}"
    where = f", written to {output.absolute()}" if output else ""
    print(
        f"ascendctl: version {table.version.value}: {table.ranks} ranks on {servers}{pods}{where}",
        file=sys.stderr,
    )


# --- judging one ----------------------------------------------------------------------------------


def _read(file: str) -> tuple[str, list[TableFinding]]:
    """The text of a file or of standard input, and what is to be said of the file itself. Raises Refused."""
    from ascendctl.hccl.finding import Severity
    from ascendctl.hccl.rank_table_check import FILE_CODE, TableFinding

    findings = []
    try:
        if file == "-":
            data = sys.stdin.buffer.read(_LONGEST_BYTES + 1)
        else:
            with Path(file).open("rb") as stream:
                data = stream.read(_LONGEST_BYTES + 1)
            if Path(file).is_symlink():
                target = Path(file).readlink()
                expected, seen = (
                    "the file itself: RANK_TABLE_FILE must be no symbolic link",
                    f"a link to {target}",
                )
                findings.append(TableFinding("symlink", Severity.WARNING, 1, "$", expected, seen, FILE_CODE))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Refused(
            f"{file!r} cannot be read: {reason}; expected a rank table, or - for standard input"
        ) from None
    if len(data) > _LONGEST_BYTES:
        raise Refused(f"{file!r} is over {_LONGEST_BYTES >> 20} MiB, so it is no rank table")
    try:
        return data.decode("utf-8"), findings
    except UnicodeDecodeError as error:
        raise Refused(
            f"{file!r} is no UTF-8 text (byte {error.start}); expected a rank table in JSON"
        ) from None


def _print_findings(findings: Sequence[TableFinding], unknown: Sequence[str], name: str, ranks: int) -> None:
    from ascendctl.hccl.finding import Severity
    from ascendctl.report.printable import shown

    for finding in findings[:_MOST_PRINTED]:
        code = f" → {finding.code}" if finding.code else ""
        head = f"{name}:{finding.line}: {finding.severity.value}: {finding.path}: {finding.seen}"
        print(f"{shown(head)} [{finding.rule}]{code}\n    expected: {shown(finding.expected)}")
    if len(findings) > _MOST_PRINTED:
        print(f"... and {len(findings) - _MOST_PRINTED} more; --format json has all of them")
    for text in unknown[:_MOST_PRINTED]:
        print(f"not compared: {shown(text)}")
    if len(unknown) > _MOST_PRINTED:
        print(f"... and {len(unknown) - _MOST_PRINTED} more not compared")
    counts = [(sum(finding.severity is one for finding in findings), one.value) for one in Severity]
    said = ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)
    print(f"{shown(name)}: {ranks} ranks: {said}")


def _print_json(findings: Sequence[TableFinding], unknown: Sequence[str], name: str) -> None:
    import json

    from ascendctl.report.printable import storable

    records = [
        {
            "file": storable(name),
            "line": finding.line,
            "path": storable(finding.path),
            "severity": finding.severity.value,
            "rule": finding.rule,
            "expected": storable(finding.expected),
            "seen": storable(finding.seen),
            "code": finding.code or None,
        }
        for finding in findings
    ]
    print(json.dumps({"format": 1, "findings": records, "not_compared": [*map(storable, unknown)]}, indent=2))
