"""Which environment variables a launch script or an environment file sets: read, never run. Pure.

Read are ``export NAME=value``, ``NAME=value`` alone or before a command, ``env``, ``declare -x``, csh's
``setenv``, Docker's ``ENV`` and ``docker run -e``, the same inside a quoted script (``bash -c '…'``), and
files of ``NAME=value`` lines as ``env`` prints and ``--env-file`` takes them. A value that depends on
something the text does not settle (``$1``, a command) is not known, and said to be so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum


class How(str, Enum):
    EXPORTED = "exported"
    PLAIN = "plain"  # set in the shell, and not seen by what it starts unless exported
    COMMAND = "command"  # for one command only: NAME=value cmd, env, docker run -e


@dataclass(frozen=True)
class Assignment:
    """``value`` None = not settled by the text; ``written`` is what stands there.

    ``scope``: 0 for the script itself, else the number of the command that alone gets it. ``inherits``:
    whether that command also sees what the script exported (a container does not).
    """

    name: str
    value: str | None
    written: str
    line: int
    how: How = How.EXPORTED
    scope: int = 0
    inherits: bool = True


@dataclass(frozen=True)
class Remark:
    """Something that is not an assignment and yet concerns one: ``what`` is wrong or was not looked at."""

    line: int
    name: str
    what: str
    wrong: bool = False


@dataclass(frozen=True)
class LaunchText:
    """All that a text sets. ``used``: names whose values it takes (``$NAME``)."""

    assignments: tuple[Assignment, ...]
    remarks: tuple[Remark, ...]
    used: frozenset[str]
    is_script: bool


def read_launch_text(text: str) -> LaunchText:
    """Read a launch script or environment file. Never raises: what cannot be read becomes a remark."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if _is_environment_file(text):
        return LaunchText(tuple(_environment_file(text)), (), frozenset(), is_script=False)
    return _Script().read(text)


# --- environment files ----------------------------------------------------------------------------

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_FILE_LINE = re.compile(rf"\s*({_NAME})=(.*)")


def _is_environment_file(text: str) -> bool:
    """Whether every line is NAME=value, and mostly without a command behind it."""
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    if not lines or text.startswith("#!") or not all(_FILE_LINE.fullmatch(line) for line in lines):
        return False
    alone = sum(
        1
        for line in lines
        if re.fullmatch(r"""[^\s'"`$;&|()<>\\]*|[^'"`]*=(?:'[^']*'|"[^"$`]*")""", line.strip())
    )
    return alone * 2 > len(lines)


def _environment_file(text: str) -> Iterator[Assignment]:
    for number, line in enumerate(text.split("\n"), start=1):
        match = _FILE_LINE.fullmatch(line)
        if match is None:
            continue
        written = match[2].strip()
        value = written
        if len(written) > 1 and written[0] == written[-1] and written[0] in "'\"":
            value = written[1:-1]
        settled = "$" not in written or written.startswith("'")
        yield Assignment(match[1], value if settled else None, written, number)


# --- words of a shell -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Word:
    """One word: ``parts`` are literal texts and, where a variable stands, its name; None = not settled.

    ``written``: as it stands in the text.
    """

    parts: tuple[tuple[str, bool], ...]
    settled: bool
    written: str
    line: int

    @property
    def literal(self) -> str:
        return "".join(text for text, is_name in self.parts if not is_name)

    @property
    def plain(self) -> bool:
        return self.settled and not any(is_name for _, is_name in self.parts)


@dataclass(frozen=True)
class _HereDocument:
    line: int
    text: str


_SEPARATORS = ";&|()\n"
_BRACED = re.compile(rf"\$\{{({_NAME})\}}")
_SIMPLE = re.compile(rf"\$({_NAME})")
_OTHER = re.compile(r"\$(?:\{[^}]*\}|[0-9@*#?$!-])")


class _Tokens:
    """Splits a script into simple commands, the quoting resolved."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self.here_documents: list[_HereDocument] = []
        self._awaited: list[tuple[str, bool]] = []

    def commands(self) -> Iterator[list[_Word]]:
        words: list[_Word] = []
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "\\" and self._text.startswith("\n", self._at + 1):
                self._advance(2)
            elif char in " \t":
                self._advance(1)
            elif char == "#":
                self._advance(self._until_line_end())
            elif char in _SEPARATORS:
                self._advance(1)
                if words:
                    yield words
                words = []
                if char == "\n":
                    self._here_documents()
            elif char in "<>":
                self._redirection()
            else:
                words.append(self._word())
        if words:
            yield words

    def _advance(self, count: int) -> str:
        taken = self._text[self._at : self._at + count]
        self._line += taken.count("\n")
        self._at += count
        return taken

    def _until_line_end(self) -> int:
        end = self._text.find("\n", self._at)
        return (len(self._text) if end < 0 else end) - self._at

    def _redirection(self) -> None:
        match = re.compile(r"<<(-?)[ \t]*(['\"]?)([\w.-]+)\2").match(self._text, self._at)
        if match and not self._text.startswith("<<<", self._at):
            self._awaited.append((match[3], bool(match[1])))
            self._advance(match.end() - self._at)
            return
        self._advance(re.compile(r"[<>]+[&|]?[ \t]*").match(self._text, self._at).end() - self._at)  # type: ignore[union-attr]
        if self._at < len(self._text) and self._text[self._at] not in _SEPARATORS:
            self._word()

    def _here_documents(self) -> None:
        for ending, tabs in self._awaited:
            first, lines = self._line, []
            while self._at < len(self._text):
                line = self._advance(self._until_line_end() + 1).rstrip("\n")
                if (line.lstrip("\t") if tabs else line) == ending:
                    break
                lines.append(line)
            self.here_documents.append(_HereDocument(first, "\n".join(lines)))
        self._awaited.clear()

    def _word(self) -> _Word:
        begin, line = self._at, self._line
        parts: list[tuple[str, bool]] = []
        settled = True
        quote = ""
        while self._at < len(self._text):
            char = self._text[self._at]
            if not quote and (char in " \t" or char in _SEPARATORS or char in "<>"):
                break
            if quote == "'":
                if char == "'":
                    quote = ""
                else:
                    parts.append((char, False))
                self._advance(1)
            elif char == quote:
                quote = ""
                self._advance(1)
            elif char in "'\"" and not quote:
                quote = char
                self._advance(1)
            elif char == "\\":
                self._escape(parts, quote)
            elif char == "`" or self._text.startswith("$(", self._at):
                settled = False
                self._skip_substitution()
            elif char == "$":
                settled = self._variable(parts) and settled
            else:
                parts.append((char, False))
                self._advance(1)
        return _Word(tuple(parts), settled and not quote, self._text[begin : self._at], line)

    def _escape(self, parts: list[tuple[str, bool]], quote: str) -> None:
        following = self._text[self._at + 1 : self._at + 2]
        self._advance(2)
        if following == "\n":
            return
        if quote == '"' and following not in '"\\$`':
            parts.append(("\\", False))
        parts.append((following, False))

    def _variable(self, parts: list[tuple[str, bool]]) -> bool:
        """Take ``$…``; whether it is a plain variable, or a dollar that means itself."""
        for form in (_BRACED, _SIMPLE):
            if match := form.match(self._text, self._at):
                parts.append((match[1], True))
                self._advance(match.end() - self._at)
                return True
        if match := _OTHER.match(self._text, self._at):
            self._advance(match.end() - self._at)
            return False
        parts.append((self._advance(1), False))
        return True

    def _skip_substitution(self) -> None:
        """Take a whole ``$(…)`` or backtick pair; parentheses are counted, quotes in it are not."""
        if self._text[self._at] == "`":
            end = self._text.find("`", self._at + 1)
            self._advance((len(self._text) if end < 0 else end + 1) - self._at)
            return
        depth = 0
        for position in range(self._at + 1, len(self._text)):
            depth += {"(": 1, ")": -1}.get(self._text[position], 0)
            if depth == 0:
                self._advance(position + 1 - self._at)
                return
        self._advance(len(self._text) - self._at)


# --- scripts --------------------------------------------------------------------------------------

_EXPORTING = frozenset({"export", "declare", "typeset", "local", "readonly"})
_CONTAINERS = frozenset({"docker", "podman", "nerdctl"})
# Words that stand before a command without being one.
_LEADING = frozenset(
    {
        "{",
        "}",
        "!",
        "then",
        "do",
        "else",
        "if",
        "elif",
        "while",
        "until",
        "time",
        "exec",
        "nohup",
        "sudo",
        "command",
    }
)
_ASSIGNED = re.compile(rf"({_NAME})(\+?)=", re.DOTALL)
_INNER = re.compile(rf"(?:^|[\s;&|]){_NAME}=")
_TAKEN = re.compile(rf"\$\{{?({_NAME})")


class _Script:
    """Reads a script's commands in order."""

    def __init__(self) -> None:
        self._assignments: list[Assignment] = []
        self._pending: list[tuple[int, _Word, str]] = []
        self._remarks: list[Remark] = []
        self._scopes = 0
        self._all_exported = False
        self._exported: set[str] = set()

    def read(self, text: str) -> LaunchText:
        self._commands(text, 0)
        assignments = self._resolved()
        named = {assignment.name for assignment in assignments}
        exported = self._exported | {a.name for a in assignments if a.how is How.EXPORTED and not a.scope}
        assignments = [
            replace(a, how=How.EXPORTED) if a.how is How.PLAIN and a.name in exported else a
            for a in assignments
        ]
        used = frozenset(_TAKEN.findall(text))
        return LaunchText(
            tuple(assignments), tuple(self._remarks + _unread(text, named)), used, is_script=True
        )

    def _commands(self, text: str, line_offset: int) -> None:
        tokens = _Tokens(text)
        for words in tokens.commands():
            self._command([replace(word, line=word.line + line_offset) for word in words])
        for document in tokens.here_documents:
            if re.search(r"\b(?:HCCL|GLOO|ASCEND|VLLM)_\w+=", document.text):
                what = "a here-document sets variables: write it to a file and lint that"
                self._remarks.append(Remark(document.line + line_offset, "", what))

    def _command(self, words: list[_Word]) -> None:
        while words and words[0].plain and words[0].literal in _LEADING:
            words = words[1:]
        leading = []
        while words and _assignment(words[0]):
            leading.append(words.pop(0))
        if not words:
            for word in leading:
                self._assign(word, How.EXPORTED if self._all_exported else How.PLAIN)
            return
        name = words[0].literal if words[0].plain else ""
        if leading:
            scope = self._new_scope()
            for word in leading:
                self._assign(word, How.COMMAND, scope)
        self._by_name(name, words)
        for word in words[1:]:
            if word.plain and any(char.isspace() for char in word.literal) and _INNER.search(word.literal):
                self._commands(word.literal, word.line - 1)

    def _by_name(self, name: str, words: list[_Word]) -> None:
        rest = words[1:]
        base = name.rsplit("/", 1)[-1]
        if name in _EXPORTING:
            self._export(name, rest)
        elif base == "env":
            scope = self._new_scope()
            for word in rest:
                if _assignment(word):
                    self._assign(word, How.COMMAND, scope)
        elif base in _CONTAINERS:
            self._container(rest)
        elif name == "setenv" and len(rest) >= 2:
            self._assign_pair(rest[0], rest[1], How.EXPORTED)
        elif name == "ENV" and rest:
            self._dockerfile(rest)
        elif name == "set":
            options = " ".join(word.literal for word in rest)
            if re.search(r"(?:^|\s)-\w*a|-o allexport", options):
                self._all_exported = True
            elif re.search(r"(?:^|\s)\+\w*a|\+o allexport", options):
                self._all_exported = False
        elif name == "unset":
            for word in rest:
                self._pending.append((len(self._assignments), word, "unset"))
                self._assignments.append(Assignment(word.literal, None, "", word.line, How.EXPORTED, -1))
        elif rest and rest[0].plain and re.match("=", rest[0].literal) and re.fullmatch(_NAME, name):
            self._spaced(name, words[0].line)

    def _export(self, command: str, rest: list[_Word]) -> None:
        how = How.EXPORTED
        if command != "export" and not any(re.match(r"-\w*x", word.literal) for word in rest):
            how = How.EXPORTED if self._all_exported else How.PLAIN
        previous = ""
        for word in rest:
            if _assignment(word):
                self._assign(word, how)
            elif word.literal.startswith("=") and re.fullmatch(_NAME, previous):
                self._spaced(previous, word.line)
            elif how is How.EXPORTED and word.plain and re.fullmatch(_NAME, word.literal):
                self._exported.add(word.literal)
            previous = word.literal

    def _spaced(self, name: str, line: int) -> None:
        what = f"blanks around '=': the shell does not set {name}; write {name}=VALUE"
        self._remarks.append(Remark(line, name, what, wrong=True))

    def _container(self, rest: list[_Word]) -> None:
        scope = self._new_scope()
        words = iter(rest)
        for word in words:
            text = word.literal
            if text in ("-e", "--env"):
                given = next(words, None)
            elif text.startswith("--env=") or (text.startswith("-e") and _ASSIGNED.match(text[2:])):
                given = _without(word, len("--env=") if text.startswith("--env=") else 2)
            elif text == "--env-file" or text.startswith("--env-file="):
                following = next(words, None) if text == "--env-file" else word
                named = following.written.removeprefix("--env-file=") if following else ""
                self._remarks.append(Remark(word.line, "", f"--env-file {named}: lint that file too"))
                continue
            else:
                continue
            if given is not None and _assignment(given):
                self._assign(given, How.COMMAND, scope, inherits=False)

    def _dockerfile(self, rest: list[_Word]) -> None:
        if any(_assignment(word) for word in rest):
            for word in rest:
                if _assignment(word):
                    self._assign(word, How.EXPORTED)
        elif len(rest) >= 2:
            self._assign_pair(rest[0], rest[1], How.EXPORTED)

    def _new_scope(self) -> int:
        self._scopes += 1
        return self._scopes

    def _assign(self, word: _Word, how: How, scope: int = 0, *, inherits: bool = True) -> None:
        match = _assignment(word)
        assert match is not None
        value = _without(word, match.end())
        if match[2]:  # NAME+=…: what was there before is not followed
            value = replace(value, settled=False)
        self._keep(match[1], value, how, scope, inherits)

    def _assign_pair(self, name: _Word, value: _Word, how: How) -> None:
        if name.plain and re.fullmatch(_NAME, name.literal):
            self._keep(name.literal, value, how, 0, True)

    def _keep(self, name: str, value: _Word, how: How, scope: int, inherits: bool) -> None:
        written = value.written.partition("=")[2] if "=" in value.written else value.written
        self._pending.append((len(self._assignments), value, name))
        self._assignments.append(Assignment(name, None, written, value.line, how, scope, inherits))

    def _resolved(self) -> list[Assignment]:
        """Put in the values of variables that the text sets exactly once, before their use."""
        often = Counter(a.name for a in self._assignments)
        known: dict[str, str] = {}
        for position, word, kind in self._pending:
            assignment = self._assignments[position]
            value = _value(word, known) if kind != "unset" else None
            self._assignments[position] = replace(assignment, value=value)
            if value is not None and often[assignment.name] == 1 and assignment.scope == 0:
                known[assignment.name] = value
        return self._assignments


def _assignment(word: _Word) -> re.Match[str] | None:
    """``NAME=`` at the beginning of a word, unquoted or not; the name itself always literal."""
    head = ""
    for text, is_name in word.parts:
        if is_name:
            break
        head += text
    return _ASSIGNED.match(head)


def _without(word: _Word, count: int) -> _Word:
    """The word without its first ``count`` characters, which are literal."""
    return replace(word, parts=word.parts[count:])


def _value(word: _Word, known: dict[str, str]) -> str | None:
    if not word.settled or any(is_name and text not in known for text, is_name in word.parts):
        return None
    return "".join(known[text] if is_name else text for text, is_name in word.parts)


def _unread(text: str, named: set[str]) -> list[Remark]:
    """Lines that name a variable of HCCL's in a form that is not read, a YAML manifest for example."""
    remarks = []
    for number, line in enumerate(text.split("\n"), start=1):
        found = re.search(r"""^[^#]*?(?<![$\w{])(HCCL_[A-Z0-9_]+)["']?\s*:\s""", line + " ")
        found = found or re.search(r"""^\s*-\s*name:\s*["']?(HCCL_[A-Z0-9_]+)""", line)
        if found and found[1] not in named:
            remarks.append(Remark(number, found[1], "named in a form that is not read: not judged"))
    return remarks


def scopes(assignments: Sequence[Assignment]) -> Iterator[dict[str, Assignment]]:
    """What is in effect together: at the end of the script, and for each command that gets its own.

    The last assignment of a name counts, one that was unset is gone.
    """
    script: dict[str, Assignment] = {}
    own: dict[int, dict[str, Assignment]] = {}
    for assignment in assignments:
        if assignment.scope == -1:
            script.pop(assignment.name, None)
        elif assignment.scope == 0:
            script[assignment.name] = assignment
        else:
            base = dict(script) if assignment.inherits else {}
            own.setdefault(assignment.scope, base)[assignment.name] = assignment
    yield script
    yield from own.values()
