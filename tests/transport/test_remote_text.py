"""Text of a host inside our sentences."""

from __future__ import annotations

import pytest

from ascendctl.transport.remote_text import one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"plain", "plain"),
        (b"two\r\nlines\n", "two lines"),
        (b"\x1b[31mred\x07\x00", "[31mred"),
        ("口令错误".encode(), "口令错误"),
        ("口令".encode("gbk"), "\\xbf\\xda\\xc1\\xee"),
        ("a\u202eb\u2028c\x9bd", "abcd"),
        ("x" * 400, "x" * 299 + "…"),
        ("\udc80", ""),
    ],
)
def test_one_line(text: str | bytes, shown: str) -> None:
    assert one_line(text) == shown
