"""The command line: one module per command group, each adds itself with ``register``.

Modules here import what is heavy inside the command that needs it, so that ``ascendctl --help`` starts
fast; a test holds that.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from ascendctl import __version__
from ascendctl.cli import (
    bring_up,
    bundle,
    consistency_test,
    demo,
    diff,
    env,
    explain,
    inventory,
    netloader,
    parse,
    probe,
    ranktable,
    report,
    sim,
    topology,
    verify,
    watch,
)
from ascendctl.results import ExitCode


def build_app() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="ascendctl",
        help="Verify clusters of Huawei Ascend servers (Atlas A2, A3) and bring models up on them.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root(
        version: Annotated[
            bool,
            typer.Option(
                "--version", help="Print the version and stop.", is_eager=True, callback=_print_version
            ),
        ] = False,
    ) -> None:
        del version

    for module in (
        verify,
        topology,
        env,
        ranktable,
        diff,
        watch,
        netloader,
        consistency_test,
        bring_up,
        bundle,
        inventory,
        explain,
        parse,
        probe,
        report,
        sim,
        demo,
    ):
        module.register(app)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ascendctl {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point: runs a command and ends the process with the design's exit code."""
    # A job that is cancelled (systemd, Slurm, timeout, a closed terminal) reports what it has learned too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _interrupt)
    sys.exit(run(sys.argv[1:]))


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit code. No traceback reaches a user.

    ``ASCENDCTL_DEBUG=1`` lets an internal error's traceback through, for a bug report.
    """
    try:
        code = build_app()(arguments, standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return _complain(ExitCode.INTERRUPTED, "interrupted")
    except (BrokenPipeError, SystemExit):  # typer exits by itself only for a broken pipe
        # Whoever read standard output has gone; what is buffered cannot be delivered any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.INTERRUPTED
    except Exception as error:
        return _explained(error)
    return int(code) if isinstance(code, int) else ExitCode.OK


def _explained(error: Exception) -> ExitCode:
    """Say what an exception means to the user; the exit code that goes with it."""
    show = getattr(error, "show", None)
    if callable(show):  # typer's own usage errors
        show()
        return ExitCode.USAGE
    if problems := getattr(error, "problems", None):  # Refused, InventoryError: sentences for the user
        return _complain(ExitCode.USAGE, *problems)
    if os.environ.get("ASCENDCTL_DEBUG"):
        raise error
    return _complain(
        ExitCode.INTERNAL,
        f"internal error: {type(error).__name__}: {error}",
        "Please report it with the output of the same command run with ASCENDCTL_DEBUG=1.",
    )


def _complain(code: ExitCode, *lines: str) -> ExitCode:
    for line in lines:
        print(f"ascendctl: {line}", file=sys.stderr)
    return code
