"""What one call of a simulated tool gives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """Both streams as bytes and the exit code."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int = 0


def saying(text: str, stream: str = "stdout", exit_code: int = 0) -> Answer:
    """An answer of ``text`` and a line end on one of the streams."""
    data = (text + "\n").encode()
    return Answer(data, b"", exit_code) if stream == "stdout" else Answer(b"", data, exit_code)
