"""`ascendctl checks` and `ascendctl explain`: what is checked, why, and what a code means."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ascendctl.cli.exits import Refused
from ascendctl.cli.options import (
    ConnectTimeoutOption,
    ExcludeOption,
    HostsOption,
    HostTimeoutOption,
    ProfileOption,
    QuietOption,
    TagsOption,
)

if TYPE_CHECKING:
    from ascendctl.checks.contract import Check, ClusterCheck
    from ascendctl.knowledge import ErrorCode


class ListFormat(str, Enum):
    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("checks")(list_checks)
    app.command("explain")(explain_topic)


def _topics() -> list[str]:
    """What the shell completes to."""
    from ascendctl.checks.registry import BY_ID
    from ascendctl.knowledge import CODES

    return [*BY_ID, *CODES]


def list_checks(
    format: Annotated[
        ListFormat, typer.Option("--format", help="Markdown gives the whole docs/checks.md.")
    ] = ListFormat.TABLE,
) -> None:
    """List every check with the commands it reads."""
    from ascendctl.checks.registry import BY_ID

    if format is ListFormat.JSON:
        import json

        typer.echo(json.dumps([_entry(check) for check in BY_ID.values()], indent=2, ensure_ascii=False))
    elif format is ListFormat.MARKDOWN:
        typer.echo(checks_markdown(), nl=False)
    else:
        _print_table(list(BY_ID.values()))


def explain_topic(
    topic: Annotated[
        str,
        typer.Argument(help="A check id (link) or an error code (EI0006).", autocompletion=_topics),
    ],
    run: Annotated[
        bool,
        typer.Option(
            "--run", help="Look for the code's causes on the hosts named by the options, and answer."
        ),
    ] = False,
    inventory: Annotated[
        Path | None, typer.Option("--inventory", "-i", help="With --run: inventory file.", metavar="FILE")
    ] = None,
    hosts: HostsOption = None,
    exclude: ExcludeOption = None,
    tags: TagsOption = None,
    local: Annotated[bool, typer.Option("--local", help="With --run: look on this very host.")] = False,
    replay: Annotated[
        Path | None, typer.Option("--replay", help="With --run: look in a recording.", metavar="DIR")
    ] = None,
    profile: ProfileOption = None,
    connect_timeout: ConnectTimeoutOption = 10.0,
    host_timeout: HostTimeoutOption = 300.0,
    quiet: QuietOption = False,
) -> None:
    """Tell what a check or an error code is about: why it matters and what to do.

    With --run: ask the hosts, run just the checks that look for the code's causes, and say which causes were
    found, which are fine, and which could not be looked at. Its exit codes are those of verify.
    """
    from ascendctl.checks.registry import BY_ID
    from ascendctl.cli.asking import Source
    from ascendctl.knowledge import explain

    check = BY_ID.get(topic.strip().lower().replace("_", "-"))
    code = explain(topic)
    if check is None and code is None:
        raise Refused(_not_known(topic))
    source = Source(inventory, replay, local, hosts, exclude, tuple(tags or ()))
    if run and code is not None:
        from ascendctl.cli.explain_run import answer
        from ascendctl.transport.contract import Deadlines

        deadlines = Deadlines(connect_s=connect_timeout, host_s=host_timeout)
        raise typer.Exit(answer(code, source, deadlines, profile, quiet=quiet))
    if run:
        raise Refused(
            f"--run goes with an error code, {topic!r} is a check; `ascendctl verify` runs all checks"
        )
    if source != Source() or profile is not None:
        raise Refused("hosts and profile say where to look; without --run explain looks nowhere")
    if check is not None:
        _print_check(check)
    elif code is not None:
        _print_code(code)


def checks_markdown() -> str:
    """The text of docs/checks.md, made from the checks' docstrings."""
    from ascendctl.checks.describe import describe
    from ascendctl.checks.registry import BY_ID

    lines = [
        "# Checks",
        "",
        "<!-- Made from the docstrings: `ascendctl checks --format markdown > docs/checks.md` -->",
        "",
        "Every host has a cell for each of these checks, every device one for those that judge devices.",
        "Those marked *deep* ask more of a host: `ascendctl verify --profile deep` runs them too, and the",
        "inventory may set their [thresholds](inventory.md#thresholds) otherwise.",
        "`ascendctl explain ID` prints the same on the terminal. [中文](checks.zh-CN.md)",
        "",
        "| id | what it is about | reads |",
        "|---|---|---|",
    ]
    for check in BY_ID.values():
        reads = "<br>".join(f"`{text}`" for text in _commands(check)) or _NO_COMMAND
        title = f"{check.title} (*deep*)" if _is_deep(check) else check.title
        lines.append(f"| [{check.id}](#{check.id}) | {title} | {reads} |")
    for check in BY_ID.values():
        told = describe(check)
        lines += ["", f"## {check.id}", "", told.summary, ""]
        lines += [
            f"- **What:** {told.what}",
            f"- **Why:** {told.why}",
            f"- **Consequence:** {told.consequence}",
            f"- **Remedy:** {told.remedy}",
        ]
        if check.after:
            lines.append(f"- **Explained by:** {', '.join(f'[{name}](#{name})' for name in check.after)}")
        lines += [
            f"- **Threshold** `{name}`: {meaning} Default: {default}."
            for name, meaning, default in _limits(check)
        ]
    return "\n".join(lines) + "\n"


_NO_COMMAND = "no command of its own"


def _entry(check: Check | ClusterCheck) -> dict[str, Any]:
    return {
        "id": check.id,
        "title": check.title,
        "commands": _commands(check),
        "after": list(check.after),
        "profile": check.profile.value,
        "thresholds": [name for name, _, _ in _limits(check)],
    }


def _is_deep(check: Check | ClusterCheck) -> bool:
    from ascendctl.facts import Profile

    return check.profile is Profile.DEEP


def _limits(check: Check | ClusterCheck) -> list[tuple[str, str, str]]:
    """Name, meaning and default of each limit that the inventory may set for the check."""
    from ascendctl.knowledge.thresholds import default_text, thresholds_of

    return [(one.name, one.meaning, default_text(one)) for one in thresholds_of(check.id)]


def _commands(check: Check | ClusterCheck) -> list[str]:
    """The command lines a check reads, with {npu}, {chip} and {phy} where ids go."""
    from ascendctl.probe.catalogue import BY_ID

    return [BY_ID[name].text() for name in check.commands]


def _print_table(checks: list[Check | ClusterCheck]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("check", style="bold", no_wrap=True)
    table.add_column("what it is about", ratio=1)
    table.add_column("reads", ratio=1, overflow="fold")
    for check in checks:
        commands = [_shortened(text) for text in _commands(check)]
        title = f"{check.title} (deep)" if _is_deep(check) else check.title
        table.add_row(check.id, title, Text("\n".join(commands) or _NO_COMMAND, "dim"))
    _console().print(table)


def _print_check(check: Check | ClusterCheck) -> None:
    from ascendctl.checks.describe import describe

    told = describe(check)
    paragraphs = [("What", told.what), ("Why", told.why)]
    paragraphs += [("Command", line) for line in _commands(check)]
    paragraphs += [("Consequence", told.consequence), ("Remedy", told.remedy)]
    if check.after:
        paragraphs.append(("Explained by", ", ".join(check.after)))
    paragraphs += [
        ("Threshold", f"{name}: {meaning} Default: {default}.") for name, meaning, default in _limits(check)
    ]
    if _is_deep(check):
        paragraphs.append(("Profile", "deep: run with `ascendctl verify --profile deep`"))
    _print_page(check.id, told.summary, paragraphs)


def _print_code(code: ErrorCode) -> None:
    paragraphs = [("Meaning", code.meaning)]
    paragraphs += [("Cause", cause.text) for cause in code.causes]
    paragraphs.append(("Remedy", code.remedy))
    if code.checks:
        paragraphs.append(("Found by", ", ".join(code.checks)))
    _print_page(code.code, code.title, paragraphs)


def _print_page(name: str, summary: str, paragraphs: list[tuple[str, str]]) -> None:
    """A heading and labelled paragraphs; equal labels in a row are printed once."""
    from rich.table import Table
    from rich.text import Text

    console = _console()
    console.print(Text.assemble((name, "bold"), f"  {summary}"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(ratio=1)
    above = ""
    for label, text in paragraphs:
        if label != above:
            table.add_row("", "")
        table.add_row("" if label == above else label, Text(text.replace("`", "")))
        above = label
    console.print(table)


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False)


def _shortened(command: str) -> str:
    """A command line for a narrow column: the file alone of a `cat`."""
    words = command.split()
    return "\n".join(words[1:]) if words[0] == "cat" else command


def _not_known(topic: str) -> str:
    from difflib import get_close_matches

    from ascendctl.checks.registry import BY_ID
    from ascendctl.knowledge import CODES

    known = {name.lower(): name for name in (*BY_ID, *CODES)}
    near = [known[name] for name in get_close_matches(topic.strip().lower(), known, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(near)}?" if near else "`ascendctl checks` lists the checks."
    return f"explain: {topic!r} is neither a check nor a known error code; {hint}"
