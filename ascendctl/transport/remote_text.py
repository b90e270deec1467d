"""Text that came from a host or a file, made fit to stand inside one sentence of ours."""

from __future__ import annotations

import unicodedata


def one_line(text: str | bytes, limit: int = 300) -> str:
    """``text`` on one line of at most ``limit`` characters, nothing in it able to steer a terminal.

    Bytes are read as UTF-8; what is none is shown as ``\\xNN``. Control, format and bidirectional
    characters are dropped, runs of blanks and line ends become one blank.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    kept = "".join(" " if char in "\r\n\t" else char for char in text if _harmless(char))
    line = " ".join(kept.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _harmless(char: str) -> bool:
    return char in "\r\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
