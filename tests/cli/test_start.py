"""The command line starts light, ends with the design's exit codes and never with a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ascendctl.results import ExitCode

# pydantic is not here: typer itself loads it for every command.
HEAVY = {"paramiko", "cryptography", "httpx", "jinja2", "torch", "yaml", "ClusterShell"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["verify", "--help"],
        ["netloader", "serve", "--help"],
        ["netloader", "join", "--help"],
        ["bring-up", "--help"],
        ["sim", "up", "--help"],
        ["--version"],
    ],
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys; from ascendctl.cli import run\n"
        f"code = run({arguments!r})\n"
        f"print('LOADED', sorted({HEAVY!r} & set(sys.modules)), code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "LOADED [] 0" in done.stdout


def test_a_named_command_loads_its_own_module_only_and_every_name_is_its_modules() -> None:
    program = (
        "import sys; from ascendctl import cli\n"
        "cli.run(['diff', '--help'])\n"
        "others = {f'ascendctl.cli.{one}' for one in cli._MODULES.values()} - {'ascendctl.cli.diff'}\n"
        "print('OTHERS', sorted(others & set(sys.modules)))\n"
        "import typer\n"
        "for command in cli._MODULES:\n"
        "    assert command in typer.main.get_command(cli.build_app([command])).commands, command\n"
        "whole = typer.main.get_command(cli.build_app()).commands\n"
        "print('SAME', set(whole) == set(cli._MODULES))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "OTHERS []" in done.stdout and "SAME True" in done.stdout


def ascendctl(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ascendctl", *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verify"], "--inventory FILE"),
        (["verify", "--inventory", "/no/such/file.yaml"], "/no/such/file.yaml"),
        (["verify", "--local", "--replay", "x"], "--local"),
        (["verify", "--replay", "/no/such/folder"], "/no/such/folder"),
        (["verify", "--min-coverage", "101", "--local"], "--min-coverage"),
        (["bring-up", "--inventory", "x.yaml"], "--plan"),
        (["bring-up", "--inventory", "x.yaml", "--plan", "/no/such/plan.yaml"], "/no/such/plan.yaml"),
        (["explain", "lnik"], "link"),
        (["nonsense"], "nonsense"),
        (["parse", "--command", "rm -rf /", "-"], "rm"),
        (["inventory", "check", "/no/such/file.yaml"], "/no/such/file.yaml"),
        (["sim", "up", "--fault", "link-dwn@node01", "--write-inventory", "/tmp/x"], "link-down"),
    ],
)
def test_bad_usage_is_a_sentence_and_exit_code_2(arguments: list[str], said: str) -> None:
    done = ascendctl(*arguments)
    assert done.returncode == ExitCode.USAGE
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_internal_error_is_said_without_traceback(monkeypatch: pytest.MonkeyPatch, capfd: object) -> None:
    from ascendctl import cli

    def broken(commands: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "build_app", broken)
    assert cli.run(["checks"]) == ExitCode.INTERNAL
    assert isinstance(capfd, pytest.CaptureFixture)
    err = capfd.readouterr().err
    assert "RuntimeError: a bug" in err
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" -m ascendctl report schema | head -c 1', sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
