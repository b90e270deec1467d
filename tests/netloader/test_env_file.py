"""The file of variables: what is read of it, and that no complaint repeats a value."""

from __future__ import annotations

from pathlib import Path

import pytest

from ascendctl.netloader.env_file import EnvFileError, read_env_file


def read(tmp_path: Path, content: bytes) -> tuple[tuple[str, str], ...]:
    path = tmp_path / "engine.env"
    path.write_bytes(content)
    return read_env_file(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", ()),
        (b"\n  \n# a remark\n   # another\n", ()),
        (b"A=1\nB=2\n", (("A", "1"), ("B", "2"))),
        (b"A=1", (("A", "1"),)),
        (b"A=1\r\nB=2\r\n", (("A", "1"), ("B", "2"))),
        (b"  A=1\n", (("A", "1"),)),
        (b"A=\n", (("A", ""),)),
        (b"A=b=c==\n", (("A", "b=c=="),)),
        (b"A='x y' # z\n", (("A", "'x y' # z"),)),
        (b"A=$HOME `id` \\n\n", (("A", "$HOME `id` \\n"),)),
        (b"export A=1\nexport  B=2\n", (("A", "1"), ("B", "2"))),
        (b"A=1\nB=2\nA=3\n", (("A", "3"), ("B", "2"))),
        ("A=\u5bc6\u7801\n".encode(), (("A", "\u5bc6\u7801"),)),
        (b"exported=1\n_x9=2\n", (("exported", "1"), ("_x9", "2"))),
    ],
)
def test_variables_are_taken_as_they_stand(
    tmp_path: Path, content: bytes, found: tuple[tuple[str, str], ...]
) -> None:
    assert read(tmp_path, content) == found


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"A=1\nhush\n", "engine.env:2: expected NAME=VALUE"),
        (b"# a\n\n9A=hush\n", "engine.env:3: expected NAME=VALUE"),
        (b"A B=hush\n", "engine.env:1: expected NAME=VALUE"),
        (b"A =hush\n", "engine.env:1: expected NAME=VALUE"),
        (b"=hush\n", "engine.env:1: expected NAME=VALUE"),
        (b"export\n", "engine.env:1: expected NAME=VALUE"),
        (b"A=hu\0sh\n", "engine.env:1: the value of A holds a NUL byte"),
        (b"A=hush\xff\n", "engine.env is not in UTF-8"),
        (b"A=hush" + b"x" * (1 << 20), "engine.env is over 1024 KiB"),
    ],
)
def test_what_is_wrong_is_said_without_a_value(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(EnvFileError) as caught:
        read(tmp_path, content)
    assert said in str(caught.value) and "hush" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvFileError, match=r"missing\.env cannot be read: No such file or directory"):
        read_env_file(tmp_path / "missing.env")
    with pytest.raises(EnvFileError, match="cannot be read: Is a directory"):
        read_env_file(tmp_path)
