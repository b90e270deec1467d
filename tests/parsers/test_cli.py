"""``ascendctl parse``, on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ascendctl.cli.exits import Refused
from ascendctl.cli.parse import register


def _app() -> typer.Typer:
    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)  # a second command, so that "parse" stays a word of the line
    return app


def _run(*arguments: str, stdin: bytes = b"") -> dict[str, object]:
    result = CliRunner().invoke(_app(), ["parse", *arguments], input=stdin, catch_exceptions=False)
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert isinstance(answer, dict)
    return answer


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"link status: DOWN\n")
    answer = _run("--command", "hccn_tool -i 3 -link -g", str(tmp_path / "out"))
    assert answer == {
        "command": "hccn_tool -i 3 -link -g",
        "status": "ok",
        "facts": {"link_status": "DOWN"},
    }


def test_standard_input() -> None:
    answer = _run("--command", "hostname", "-", stdin=b"node-07\n")
    assert (answer["status"], answer["facts"]) == ("ok", "node-07")


def test_stderr_and_exit_code(tmp_path: Path) -> None:
    (tmp_path / "err").write_bytes(b"Get ipconf failed, because no ip was preset there!\n")
    options = ["--command", "hccn_tool -i 0 -ip -g", "--exit-code", "13", "--stderr", str(tmp_path / "err")]
    answer = _run(*options, "-")
    assert (answer["status"], answer["facts"]) == ("no-data", None)
    assert "no address is set" in str(answer["reason"])


def test_bytes_that_are_no_text_reach_the_json_as_escapes() -> None:
    answer = _run("--command", "hccn_tool -i 0 -link -g", "-", stdin="链路\n".encode("gbk"))
    assert answer["status"] == "unparsed" and "line 1" in str(answer["reason"])


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--command", "hostname", "/does/not/exist"], "cannot be read"),
        (["--command", "hostname", "--stderr", "/does/not/exist", "-"], "cannot be read"),
        (["--command", "rm -rf /", "-"], "does not read the output"),
        (["--command", "hccn_tool 'x", "-"], "cannot be read"),
    ],
)
def test_what_cannot_be_asked_is_refused(arguments: list[str], part: str) -> None:
    with pytest.raises(Refused, match=part):
        CliRunner().invoke(_app(), ["parse", *arguments], input=b"", catch_exceptions=False)


def test_the_module_loads_no_parser() -> None:
    program = (
        "import sys, ascendctl.cli.parse; print(any(m.startswith('ascendctl.parsers') for m in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
