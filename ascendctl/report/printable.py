"""Text that came from a host, made fit to be stored or shown.

Hosts answer in bytes that may be no UTF-8 (GBK banners), and may hold control sequences. They are
decoded with ``surrogateescape``, so a byte 0xB9 that was no UTF-8 arrives here as the lone surrogate
U+DCB9. Neither such a surrogate nor a control sequence may leave in a report as it is.
"""

from __future__ import annotations

import re


def storable(text: str) -> str:
    """The text as valid Unicode: undecodable bytes as ``\\xb9``, other lone surrogates as ``\\ud83d``."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(_escaped(char) if _is_surrogate(char) else char for char in text)
    return text


def shown(text: str) -> str:
    """The text on one line, with nothing a terminal would act on.

    White space of any kind becomes single spaces; control, format and bidirectional-override
    characters become visible escapes, so that what the host sent can still be told.
    """
    line = " ".join(text.split())
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else _escaped(char) for char in line)


def shown_as_it_stands(line: str) -> str:
    """One line with its spaces kept, for what is read or pasted by them; tabs become spaces."""
    parts = re.split("( +)", line.expandtabs())
    return "".join(part if part.isspace() else shown(part) for part in parts)


def one_word(text: str) -> str:
    """The text as one printable word, different texts as different words.

    For places where a name is a key or stands alone on a line: white space, backslashes and what
    does not print become ``\\u0020``. Ordinary host names stay as they are.
    """
    return "".join(char if char.isprintable() and char not in " \\" else _code_point(char) for char in text)


def _code_point(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) <= 0xFFFF else f"\\U{ord(char):08x}"


def _is_surrogate(char: str) -> bool:
    return "\ud800" <= char <= "\udfff"


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
