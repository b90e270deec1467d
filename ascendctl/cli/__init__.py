"""The command line: one module per command group, each adds itself with ``register``.

Modules here import what is heavy inside the command that needs it, so that ``ascendctl --help`` starts
fast; a test holds that. Of a command line that names its command only that one's module is loaded.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from ascendctl import __version__
from ascendctl.results import ExitCode

_MODULES = {
    "verify": "verify",
    "topology": "topology",
    "env": "env",
    "ranktable": "ranktable",
    "diff": "diff",
    "watch": "watch",
    "netloader": "netloader",
    "consistency-test": "consistency_test",
    "bring-up": "bring_up",
    "bundle": "bundle",
    "inventory": "inventory",
    "checks": "explain",
    "explain": "explain",
    "parse": "parse",
    "probe": "probe",
    "report": "report",
    "sim": "sim",
    "demo": "demo",
}
"""Command → the module that registers it, in the order in which they are."""


def build_app(commands: Iterable[str] = _MODULES) -> typer.Typer:
    """The whole command line, or what the modules of some ``commands`` make of it."""
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

    for module in dict.fromkeys(_MODULES[command] for command in commands):
        importlib.import_module(f"ascendctl.cli.{module}").register(app)
    return app


def _named(arguments: Sequence[str]) -> Iterable[str]:
    """The command that the line begins with; all where it does not, or a shell asks what could follow."""
    completing = any(name.startswith("_") and name.endswith("_COMPLETE") for name in os.environ)
    known = bool(arguments) and arguments[0] in _MODULES and not completing
    return arguments[:1] if known else _MODULES


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
        code = build_app(_named(arguments))(arguments, standalone_mode=False)
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
