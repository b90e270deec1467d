"""Redaction of recordings: what names a customer is replaced, what the verdicts rest on stays.

Two passes. `Survey` reads every host's stream and the index, and learns names, addresses, segments and
serial numbers. `Redactor` then rewrites each stream from its decoded frames, so that nothing that is no
frame (banners, login messages, half an answer) is carried over and the framing stays valid. Tables of the
tools are kept as they are; text of other people (LLDP, certificates, comments) is replaced whole.

Pure: bytes and JSON values in and out.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from ipaddress import IPv4Network
from typing import Any

from ascendctl.probe.frames import (
    MAX_STREAM_BYTES,
    Answer,
    Done,
    Fatal,
    Frame,
    FrameDecoder,
    Hello,
    Note,
    Skip,
    Tool,
    count_outputs,
    ids_text,
)
from ascendctl.probe.pseudonyms import Kind, Pseudonyms, is_ipv4, is_ipv6

REDACTED = "redacted"


class Survey:
    """What the recording holds that must not be told, learned before anything is replaced.

    ``hosts``: the host names of the recording, in its order.
    """

    def __init__(self, hosts: Iterable[str]) -> None:
        self.hosts = tuple(hosts)
        self.names: dict[str, Kind] = {}
        self.ipv4: set[str] = set()
        self.segments: set[IPv4Network] = set()
        self.serials: set[str] = set()
        for host in self.hosts:
            self.learn_name(host, Kind.HOST)

    def learn_name(self, name: str, kind: Kind) -> None:
        """A host's or a switch's name; of a qualified one the first label, and the domain by itself."""
        if is_ipv4(name):
            self.ipv4.add(name)
            return
        label, _, domain = name.partition(".")
        if label:
            self.names.setdefault(label, kind)
        if domain:
            self.names.setdefault(domain, Kind.DOMAIN)

    def learn_index(self, index: Mapping[str, Any]) -> None:
        """``recording.json``: jump hosts, and what the details of reaching say."""
        for entry in index.get("hosts", ()):
            for cable in (entry.get("expectation") or {}).get("cabling", ()):
                if not _MAC.fullmatch(str(cable["switch"])):
                    self.learn_name(str(cable["switch"]), Kind.SWITCH)
            reach = entry.get("reach") or {}
            if reach.get("via"):
                self.learn_name(str(reach["via"]), Kind.HOST)
            detail = str(reach.get("detail") or "")
            self._learn_text(detail)
            for name in _SERVER_IN_DETAIL.findall(detail):
                self.learn_name(name, Kind.HOST)

    def learn_stream(self, stream: bytes) -> None:
        """One host's bytes as they came."""
        for frame in _frames(stream):
            if isinstance(frame, Answer):
                self._learn_answer(frame)

    def _learn_answer(self, answer: Answer) -> None:
        text = _decode(answer.stdout)
        self._learn_text(answer.command_id)
        if answer.command_id == "hostname":
            for word in text.split():
                if _HOST_NAME.fullmatch(word):
                    self.learn_name(word, Kind.HOST)
        elif answer.command_id == "lldp":
            for section, line in _lldp_lines(text):
                if section == "System Name TLV" and line.strip():
                    self.learn_name(line.strip(), Kind.SWITCH)
        self.serials.update(m["value"] for m in _SERIAL.finditer(text) if not _says_none(m["value"]))
        if answer.command_id not in _WITHOUT_ADDRESSES:
            self._learn_text(text)
        self._learn_text(_decode(answer.stderr))

    def _learn_text(self, text: str) -> None:
        found = [address for address in _IPV4.findall(_VERSION.sub("", text)) if is_ipv4(address)]
        self.ipv4.update(found)
        lengths = {length for length in map(_mask_length, found) if length is not None}
        for address in found:
            for length in lengths:
                self._learn_segment(address, length)
        for address, length in _WITH_LENGTH.findall(text):
            if is_ipv4(address) and 0 < int(length) <= 32:
                self._learn_segment(address, int(length))

    def _learn_segment(self, address: str, length: int) -> None:
        if _mask_length(address) is None:
            octets = ".".join(str(int(octet)) for octet in address.split("."))
            self.segments.add(IPv4Network((octets, length), strict=False))


def new_redactor(survey: Survey) -> Redactor:
    """A redactor with a random key of its own: no two bundles share their pseudonyms.

    Of several keys one is taken for which no pseudonym of an address is an original address too, as far
    as there is room for that.
    """
    redactor = Redactor(survey, secrets.token_bytes(32))
    for _ in range(64):
        if not redactor.coincidences:
            break
        redactor = Redactor(survey, secrets.token_bytes(32))
    return redactor


class Redactor:
    """Rewrites the streams and the index of one recording with one set of pseudonyms."""

    def __init__(self, survey: Survey, key: bytes) -> None:
        avoid = {word.lower() for word in (*survey.names, *survey.serials)}
        self._pseudonyms = Pseudonyms(key, segments=survey.segments, avoid=avoid)
        self._survey = survey
        self._names = {name.lower(): (name, kind) for name, kind in survey.names.items()}
        # A serial number of several words may be torn apart elsewhere.
        self._serial_words = {
            word
            for serial in survey.serials
            for word in (serial, *serial.split())
            if len(word) >= 6 and re.search("[0-9]", word)
        }
        self._beginnings = {re.split(r"[._-]+", name)[0] for name in self._names}
        self._nonce = secrets.token_hex(16)
        self._digits = len(str(len(survey.hosts)))
        for host in survey.hosts:
            self.name(host)

    @property
    def given(self) -> Mapping[Kind, Mapping[str, str]]:
        """Original → pseudonym, per kind."""
        return self._pseudonyms.given

    @property
    def coincidences(self) -> bool:
        """Whether the pseudonym of some address is an address of the recording by itself."""
        return any(
            (image := self._pseudonyms.ipv4_image(address)) is not None and image in self._survey.ipv4
            for address in self._survey.ipv4
        )

    def name(self, text: str, kind: Kind = Kind.HOST) -> str:
        """The pseudonym of a host's or switch's name; addresses that serve as names map as addresses."""
        if is_ipv4(text):
            return self._pseudonyms.ipv4(text)
        label, dot, domain = text.partition(".")
        named = self._known(label, kind)
        return f"{named}.{self._known(domain, Kind.DOMAIN)}" if dot and domain else named

    def group(self, text: str) -> str:
        """The pseudonym of a group of the inventory."""
        return self._pseudonyms.numbered(Kind.GROUP, text)

    def stream(self, stream: bytes) -> bytes:
        """The same answers with their contents redacted, in the form of `ascendctl.probe.frames`.

        What cannot be trusted as one answer stays so: several outputs in one, a flood.
        """
        if len(stream) > MAX_STREAM_BYTES:
            return b"\n" * (MAX_STREAM_BYTES + 1)
        if count_outputs(stream) > 1:
            return b"".join(self._encode(Hello(1)) for _ in range(2))
        return b"".join(self._encode(frame) for frame in _frames(stream))

    def index(self, index: Mapping[str, Any]) -> dict[str, Any]:
        """``recording.json`` redacted. Numbers, times and ascendctl's own words stay."""
        redacted = {key: self._value(key, value) for key, value in index.items()}
        redacted["hosts"] = [self._host_entry(entry) for entry in index["hosts"]]
        redacted["waivers"] = [self._waiver(entry) for entry in index["waivers"]]
        return redacted

    def answer(self, command_id: str, stdout: bytes) -> bytes:
        """What a command printed on its standard output, redacted."""
        text = _decode(stdout)
        redact = _BY_COMMAND.get(command_id.partition(":")[0])
        if redact is not None:
            return _encode(redact(self, text))
        return _encode(self._text(self._cut_address(text)))

    def left_over(self, data: bytes) -> set[str]:
        """Originals that are still in redacted bytes: names, addresses, MACs, serial numbers, secrets."""
        text = _decode(data)
        images = self._pseudonyms.images
        addresses = {address for address in _IPV4.findall(text) if is_ipv4(address)}
        found = {a for a in addresses & self._survey.ipv4 if self._pseudonyms.ipv4_image(a) is not None}
        found |= {m[0] for m in _MAC.finditer(text) if m[0] in self.given[Kind.MAC]}
        found -= images
        for token in set(_TOKEN.findall(text)):
            found.update(name for _, _, name in self._names_in(token, free=False))
            if token in self._serial_words:
                found.add(token)
        if _PRIVATE_KEY.search(text):
            found.add("a private key")
        return found

    # --- frames ---------------------------------------------------------------------------------

    def _encode(self, frame: Frame) -> bytes:
        if isinstance(frame, Answer):
            if not _COMMAND_ID.fullmatch(frame.command_id):
                return b""
            asked = f"{self._command_id(frame.command_id)} {ids_text(frame.target)}"
            begin = f"begin {asked} {frame.exit_code} {frame.tries}"
            stdout = self.answer(frame.command_id, frame.stdout)
            stderr = _encode(self._text(_decode(frame.stderr), free=True))
            parts = (self._line(begin), stdout, self._line("stderr"), stderr, self._line("end"))
            return b"".join(parts)
        return self._line(self._words(frame))

    def _words(self, frame: Frame) -> str:
        if isinstance(frame, Hello):
            return f"hello {frame.version}"
        if isinstance(frame, Tool):
            return f"tool {self._word(frame.name)} {self._path(frame.path) if frame.path else ''}".rstrip()
        if isinstance(frame, Note):
            plain = re.fullmatch(r"[0-9]{1,20}|unlimited|standard|deep|mesh", frame.text)
            return (
                f"note {self._word(frame.name)} {frame.text if plain else self._text(frame.text, free=True)}"
            )
        if isinstance(frame, Fatal):
            return f"fatal {self._text(frame.reason, free=True)}"
        if isinstance(frame, Skip):
            words = [self._command_id(frame.command_id), ids_text(frame.target), self._word(frame.reason)]
            if frame.hung_command_id is not None:
                hung_phy = "-" if frame.hung_phy is None else str(frame.hung_phy)
                words += [self._command_id(frame.hung_command_id), hung_phy]
            return " ".join(["skip", *words])
        return "done" if isinstance(frame, Done) else ""

    def _line(self, words: str) -> bytes:
        return b"\n" + _encode(f"@{self._nonce} {words}".replace("\n", " ")) + b"\n"

    def _command_id(self, command_id: str) -> str:
        """The id of a command; one that pings somebody names its address."""
        match = _COMMAND_ID.fullmatch(command_id)
        if match is None or match["address"] is None or not is_ipv4(match["address"]):
            return self._word(command_id)
        return f"{match['name']}:{self._pseudonyms.ipv4(match['address'])}{match['turn']}"

    def _word(self, word: str) -> str:
        """A word of the probe's own; anything else that stands in its place is replaced."""
        return word if _WORD.fullmatch(word) else self._pseudonyms.numbered(Kind.TEXT, word)

    # --- the index ------------------------------------------------------------------------------

    def _host_entry(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        redacted = {key: self._value(key, value) for key, value in entry.items()}
        redacted["name"] = self.name(entry["name"])
        return redacted

    def _waiver(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        redacted = {key: self._value(key, value) for key, value in entry.items()}
        redacted["hosts"] = sorted(self.name(host) for host in entry["hosts"])
        return redacted

    def _value(self, key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {self._word(str(name)): self._value(str(name), part) for name, part in value.items()}
        if isinstance(value, list):
            return [self._value(key, part) for part in value]
        if not isinstance(value, str) or not value or key in _OWN_WORDS:
            return value
        if key in _NUMBERED_FIELDS:
            return self._pseudonyms.numbered(_NUMBERED_FIELDS[key], value)
        if key == "nic":
            return self._interface(value)
        if key == "via":
            return self.name(value)
        if key == "switch":
            return self._text(value) if _MAC.fullmatch(value) else self.name(value, Kind.SWITCH)
        if key == "switch_port":
            return self._lldp_id(value)
        if key == "reason":
            return REDACTED
        return self._detail(value)

    def _detail(self, text: str) -> str:
        """A sentence of ascendctl's own about reaching a host, with other people's words in it."""
        text = _SAID.sub(lambda m: f"{m[1]}: {REDACTED}", text)
        text = _QUOTED.sub(f"'{REDACTED}'", text)
        text = _SERVER_IN_DETAIL.sub(lambda m: m[0] if is_ipv4(m[0]) else self.name(m[0]), text)
        text = _GROUP_IN_DETAIL.sub(lambda m: m[1] + self._pseudonyms.numbered(Kind.GROUP, m[2]), text)
        text = _KEY_IN_DETAIL.sub(lambda m: m[1] + self._pseudonyms.numbered(Kind.PATH, m[2]), text)
        return self._text(text, free=True)

    # --- answers whose form is known ------------------------------------------------------------

    def _hostname(self, text: str) -> str:
        def line(words: str) -> str:
            whole = words.strip()
            if not _HOST_NAME.fullmatch(whole):
                return self._text(words, free=True)
            return words.replace(whole, self.name(whole))

        return "\n".join(line(words) for words in text.split("\n"))

    def _lldp(self, text: str) -> str:
        lines = []
        for section, line in _lldp_lines(text):
            lines.append(self._lldp_line(section, line) if section and line.strip() else self._text(line))
        redacted = "\n".join(lines)
        # A text at the tool's limit was cut, and its last section does not count: that must stay so.
        missing = len(_encode(text)) - len(_encode(redacted))
        if len(_encode(text)) >= _LLDP_LIMIT_BYTES and missing > 0:
            end = "\n" if redacted.endswith("\n") else ""
            redacted = redacted.removesuffix("\n") + " " * missing + end
        return redacted

    def _lldp_line(self, section: str, line: str) -> str:
        if section == line.rstrip() or section in _LLDP_OWN_WORDS:
            return line
        indent, value = line[: len(line) - len(line.lstrip())], line.strip()
        if section == "System Name TLV":
            return indent + self.name(value, Kind.SWITCH)
        label, colon, rest = value.partition(":")
        if colon and section in ("Chassis ID TLV", "Port ID TLV", "Management Address TLV"):
            return f"{indent}{label}: {self._lldp_id(rest.strip())}"
        return indent + self._pseudonyms.numbered(Kind.TEXT, value)

    def _lldp_id(self, value: str) -> str:
        if _MAC.fullmatch(value) or is_ipv4(value) or is_ipv6(value):
            return self._text(value)
        if not value or _PORT_NAME.fullmatch(value):
            return value
        if value.lower() in self._names:
            return self.name(value)
        return self._pseudonyms.numbered(Kind.PORT, value)

    def _tls(self, text: str) -> str:
        lines = []
        for line in text.split("\n"):
            certificate = _CERTIFICATE_FIELD.fullmatch(line)
            lines.append(f"{certificate[1]}[{REDACTED}]" if certificate else self._text(line))
        return "\n".join(lines)

    def _hccn_conf(self, text: str) -> str:
        lines = []
        for line in self._cut_address(text).split("\n"):
            key, equals, value = line.partition("=")
            if line.lstrip().startswith("#"):
                lines.append(f"# {REDACTED}")
            elif equals and not re.fullmatch(r"\s*[0-9A-Fa-f.:/, x]*\s*", value):
                lines.append(f"{self._text(key)}={self._pseudonyms.numbered(Kind.TEXT, value.strip())}")
            else:
                lines.append(self._text(line))
        return "\n".join(lines)

    def _settings(self, text: str) -> str:
        """``KEY=value`` files of the system and of the vendor's packages."""
        lines = []
        for line in text.split("\n"):
            key, equals, value = line.partition("=")
            if not equals or value.strip(" \t\r\"'") == "":
                lines.append(self._text(line, addresses=False))
            elif _OWN_SETTING.fullmatch(key.strip()):
                lines.append(f"{key}={self._text(value, addresses=False)}")
            else:
                quote = value.strip()[0] if value.strip()[0] in "\"'" else ""
                lines.append(f"{key}={quote}{REDACTED}{quote}")
        return "\n".join(lines)

    def _host_addresses(self, text: str) -> str:
        lines = []
        for line in self._cut_address(text).split("\n"):
            match = _IP_LINE.fullmatch(line)
            if match is None:
                lines.append(self._text(line))
                continue
            label = re.sub(r"\S+(?=\\)", lambda m: self._label(m[0]), self._text(match[3]), count=1)
            lines.append(match[1] + self._interface(match[2]) + label)
        return "\n".join(lines)

    def _named_interfaces(self, text: str) -> str:
        """Answers of ip and ping: an interface gets the name that its addresses are listed under."""
        return "\n".join(
            _NAMED_INTERFACE.sub(lambda m: m[1] + self._interface(m[2]), self._text(line))
            for line in self._cut_address(text).split("\n")
        )

    def _label(self, word: str) -> str:
        return word if word in _ADDRESS_FLAGS else self._interface(word)

    def _interface(self, name: str) -> str:
        parts = re.split(r"([@:])", name)
        return "".join(
            part
            if not part or part in "@:" or _INTERFACE.fullmatch(part)
            else self._pseudonyms.numbered(Kind.INTERFACE, part)
            for part in parts
        )

    def _npu_smi(self, text: str) -> str:
        """The table stays; the cell of a process's name is replaced in its own width."""
        lines, in_processes = [], False
        for line in text.split("\n"):
            if in_processes and line.startswith("|") and not _NO_PROCESSES.match(line):
                cells = line.split("|", 3)
                if len(cells) == 4:
                    cells[3] = self._process_cell(cells[3])
                lines.append("|".join(cells))
                continue
            in_processes = in_processes or "Process name" in line
            lines.append(self._text(line))
        return "\n".join(lines)

    def _process_cell(self, rest: str) -> str:
        # A name may hold a bar itself: the cells behind it are numbers, NA, or nothing.
        match = re.fullmatch(r"(.*?)((?:\|[ ]*(?:[0-9]+|NA)[ ]*){1,2}\|\r?)", rest)
        cell, behind = (match[1], match[2]) if match else (rest, "")
        name = cell.strip()
        if not name:
            return rest
        width = len(_encode(cell))
        return f" {self._pseudonyms.numbered(Kind.PROCESS, name)}".ljust(width)[:width] + behind

    # --- text -----------------------------------------------------------------------------------

    def _text(self, text: str, *, addresses: bool = True, free: bool = False) -> str:
        """Any text. ``free``: words in it are nobody's keywords, so that every known name is replaced."""
        parts, end = [], 0
        replace = partial(self._replace, addresses=addresses, free=free)
        for match in _SERIAL.finditer(text):
            if not _says_none(match["value"]):
                parts.append(_ANYTHING.sub(replace, text[end : match.start("value")]))
                parts.append(self._pseudonyms.numbered(Kind.SERIAL, match["value"]))
                end = match.end("value")
        return "".join(parts) + _ANYTHING.sub(replace, text[end:])

    def _replace(self, match: re.Match[str], *, addresses: bool, free: bool) -> str:
        text, group = match[0], match.lastgroup
        numbered = self._pseudonyms.numbered
        if group == "version":
            return text
        if group == "secret":
            return f"{match['label']}{REDACTED}"
        if group == "user":
            name = match["account"] or match["sudoer"]
            return text if name == "root" else text.replace(name, numbered(Kind.USER, name))
        if group in ("opaque", "mail"):
            return numbered(Kind.TEXT, text)
        if group == "mac":
            return self._pseudonyms.mac(text)
        if group == "ipv6":
            return self._pseudonyms.ipv6(text) if is_ipv6(text) else text
        if group == "path":
            return self._path(text)
        if group == "ipv4":
            return self._pseudonyms.ipv4(text) if addresses and is_ipv4(text) else text
        return self._token(text, addresses=addresses, free=free)

    def _token(self, token: str, *, addresses: bool, free: bool) -> str:
        if token in self._serial_words:
            return self._pseudonyms.numbered(Kind.SERIAL, token)
        parts, end = [], 0
        found = [*self._names_in(token, free=free), (len(token), len(token), "")]
        for start, stop, name in found:
            between = token[end:start]
            if addresses:
                between = _IPV4.sub(lambda m: self._pseudonyms.ipv4(m[0]) if is_ipv4(m[0]) else m[0], between)
            parts += [between, self._known(token[start:stop], Kind.HOST) if name else ""]
            end = stop
        return "".join(parts)

    def _names_in(self, token: str, *, free: bool) -> Iterator[tuple[int, int, str]]:
        """Start, end and name of the known names among a token's parts, the longest first."""
        parts = list(_PART.finditer(token.lower()))
        if self._beginnings.isdisjoint(part[0] for part in parts):
            return
        at = 0
        while at < len(parts):
            for last in range(len(parts) - 1, at - 1, -1):
                start, stop = parts[at].start(), parts[last].end()
                name = token[start:stop].lower()
                if name in self._names and (free or not _PLAIN_WORD.fullmatch(name)):
                    yield start, stop, name
                    at = last
                    break
            at += 1

    def _known(self, name: str, kind: Kind) -> str:
        original, kind = self._names.get(name.lower(), (name, kind))
        if name in self._survey.names:
            original = name
        return self._pseudonyms.numbered(kind, original, self._digits if kind is Kind.HOST else 1)

    def _path(self, path: str) -> str:
        """Folders of the system and of the vendor stay; of others the program's name, where it is known."""
        folder, _, name = path.rpartition("/")
        if _OWN_PATH.fullmatch(path):
            return self._text_of_path(path)
        kept = f"/{name}" if name in _PROGRAMS else ""
        return f"/{self._pseudonyms.numbered(Kind.PATH, folder if kept else path)}{kept}"

    def _text_of_path(self, path: str) -> str:
        return _TOKEN.sub(lambda m: self._token(m[0], addresses=False, free=False), path)

    def _cut_address(self, text: str) -> str:
        """An answer that ends inside an address: the octets that are there are replaced too."""

        def replace(match: re.Match[str]) -> str:
            octets = match[0].rstrip(".").split(".")
            whole = ".".join([*octets, *["0"] * (4 - len(octets))])
            if not is_ipv4(whole):
                return match[0]
            image = self._pseudonyms.ipv4_image(whole) or whole
            return ".".join(image.split(".")[: len(octets)]) + match[0][len(match[0].rstrip(".")) :]

        return _CUT_ADDRESS.sub(replace, text)


# --- what the forms are ---------------------------------------------------------------------------

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_COMMAND_ID = re.compile(
    rf"(?P<name>{_WORD.pattern})(?::(?P<address>[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}})(?P<turn>(?::[0-9]{{1,4}})?))?"
)
_HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_PLAIN_WORD = re.compile(r"[a-z]+|[0-9]+")
_IPV4 = re.compile(r"(?<![\d.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\d|\.\d)")
_WITH_LENGTH = re.compile(r"(?<![\d.])([0-9]{1,3}(?:\.[0-9]{1,3}){3})/([0-9]{1,2})(?!\d)")
_CUT_ADDRESS = re.compile(r"(?<![\d.A-Za-z])[0-9]{1,3}(?:\.[0-9]{1,3}){1,2}\.?\Z")
_MAC = re.compile(
    r"(?<![0-9A-Fa-f:.-])(?:[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}"
    r"|[0-9A-Fa-f]{4}([.-])[0-9A-Fa-f]{4}\2[0-9A-Fa-f]{4})(?![0-9A-Fa-f:-])"
)
_TOKEN = re.compile(r"[A-Za-z0-9]+(?:[._-]+[A-Za-z0-9]+)*")
_PART = re.compile(r"[a-z0-9]+")
_PRIVATE_KEY = re.compile(r"BEGIN [A-Z ]*PRIVATE KEY")
_SERIAL = re.compile(
    r"(?im)^[^:=\n]*\b(?:serial(?:[ _-]*(?:number|num|no))?|sn|s/n|[vn]?die[ _-]id|uuid|asset[ _-]tag)\b"
    r"[^:=\n]*[:=][ \t]*(?P<value>\S[^\n]*?)[ \t\r|]*$"
)
# Versions of four parts look like addresses.
_VERSION = re.compile(r"(?i:version|npu-smi)[\"']?[ \t]*[:=]?[ \t]*[\"']?[0-9][\w.+-]*")
_ANYTHING = re.compile(
    r"(?P<secret>(?P<label>(?i:pass(?:word|wd|phrase)|secret|token|api[_-]?key)[ \t]*[=:][ \t]*)\S+)"
    rf"|(?P<version>{_VERSION.pattern})"
    r"|(?P<user>(?:refused user |[Ss]orry, user |asks user |password (?:of|for) |login of )"
    r"(?P<account>[\w.@-]*\w)"
    r"|(?P<sudoer>[\w.-]+)(?= is not in the sudoers))"
    r"|(?P<path>(?<![\w/:.~])~?(?:/[\w.+@%,-]+)+/?)"
    r"|(?P<mail>[\w.+-]+@[\w.-]+\w)"
    r"|(?P<opaque>(?:SHA256|MD5):[A-Za-z0-9+/=:]{20,}|[A-Za-z0-9+/]{40,}={0,2}"
    r"|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})"
    rf"|(?P<mac>{_MAC.pattern.replace('([:-])', '(?P<s1>[:-])').replace('([.-])', '(?P<s2>[.-])')}".replace(
        r"\1", "(?P=s1)"
    ).replace(r"\2", "(?P=s2)")
    + ")"
    r"|(?P<ipv6>(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:.]))"
    rf"|(?P<ipv4>{_IPV4.pattern})"
    rf"|(?P<token>{_TOKEN.pattern})"
)
_OWN_PATH = re.compile(
    r"/(?:usr/(?:local/)?(?:s?bin|lib(?:64)?|share|Ascend)|s?bin|lib(?:64)?)(?:/.*)?"
    r"|/usr/local/Ascend/.*|/etc/(?:hccn\.conf|os-release)"
)
_PROGRAMS = frozenset(
    (
        "hccn_tool",
        "npu-smi",
        "nvidia-smi",
        "cat",
        "date",
        "hostname",
        "uname",
        "ip",
        "env",
        "timeout",
        "sudo",
        "sh",
        "bash",
        "dash",
        "ash",
        "zsh",
    )
)

# recording.json: fields of ascendctl's own words, and those that hold a name.
_OWN_WORDS = frozenset(
    (
        "format",
        "tool_version",
        "started_at",
        "finished",
        "accelerator",
        "generation",
        "scale_out",
        "status",
        "check",
        "until",
        "profile",
        "mode",
        "why_off",
    )
)
_NUMBERED_FIELDS = {"group": Kind.GROUP, "tags": Kind.TAG}

# Sentences of the transport, and where other people's words stand in them.
_SAID = re.compile(r"(before the last answer|answered nothing of it): .*", re.DOTALL)
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_NAME = r"(?<![\w.:-])(?!(?:on|the|its|a|SSH|TCP)\b)[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?"
_SERVER_IN_DETAIL = re.compile(
    rf"(?<=jump host ){_NAME}|(?<=the name ){_NAME}|{_NAME}(?= port [0-9])|{_NAME}(?= has no address)"
)
_GROUP_IN_DETAIL = re.compile(r"(\bgroup )(\S+)")
_KEY_IN_DETAIL = re.compile(r"(\bpublickey |\bproxy command )([^;,]+)")

_LLDP_LIMIT_BYTES = 1999
_LLDP_HEADER = re.compile(r"[A-Z][A-Za-z0-9/ ().-]* TLV")
_LLDP_OWN_WORDS = frozenset(
    (
        "Time To Live TLV",
        "System Capabilities TLV",
        "Maximum Frame Size TLV",
        "MAC/PHY Configuration/Status TLV",
        "Link Aggregation TLV",
        "End of LLDPDU TLV",
    )
)
_PORT_NAME = re.compile(r"[A-Za-z0-9-]{0,20}?[0-9]+(?:/[0-9]+)+(?::[0-9]+)?|(?:Ethernet|eth|swp)[0-9]+")
_CERTIFICATE_FIELD = re.compile(r"([ \t]+[A-Za-z_ ]+)\[.*\].*")
_OWN_SETTING = re.compile(
    r"(?i)[a-z_]*version[a-z_]*|name|id|id_like|pretty_name|platform_id|variant|variant_id|package_name|arch|os|path"
)
_WITHOUT_ADDRESSES = frozenset(("kernel", "os-release", "driver-version", "firmware-version", "cann-version"))
_IP_LINE = re.compile(r"([0-9]+: +)(\S+)( +inet6? .*)")
_NAMED_INTERFACE = re.compile(r"(^[0-9]+: +|^PING .* from \S+ |(?<=\S) dev )([^\s:]+)")
_ADDRESS_FLAGS = frozenset(
    (
        "global",
        "link",
        "host",
        "site",
        "dynamic",
        "noprefixroute",
        "secondary",
        "deprecated",
        "temporary",
        "tentative",
        "permanent",
        "mngtmpaddr",
        "stable-privacy",
        "nodad",
        "optimistic",
        "autojoin",
        "dadfailed",
    )
)
_INTERFACE = re.compile(
    r"lo|(?:eth|bond|if|ib|docker|virbr|br|team|vlan|hns|tun|tap|end)[0-9]{1,5}(?:v[0-9])?(?:\.[0-9]{1,4})?"
    r"|en[ops][a-wyz0-9]{1,14}(?:\.[0-9]{1,4})?"
)
_NO_PROCESSES = re.compile(r"\| No running processes found in NPU ")

_BY_COMMAND: dict[str, Callable[[Redactor, str], str]] = {
    "hostname": Redactor._hostname,
    "kernel": lambda redactor, text: redactor._text(text, addresses=False),
    "os-release": Redactor._settings,
    "driver-version": Redactor._settings,
    "firmware-version": Redactor._settings,
    "cann-version": Redactor._settings,
    "host-addresses": Redactor._host_addresses,
    "host-links": Redactor._named_interfaces,
    "host-route": Redactor._named_interfaces,
    "host-ping": Redactor._named_interfaces,
    "host-whole-ping": Redactor._named_interfaces,
    "hccn-conf": Redactor._hccn_conf,
    "npu-smi": Redactor._npu_smi,
    "lldp": Redactor._lldp,
    "tls": Redactor._tls,
}


def _frames(stream: bytes) -> list[Frame]:
    return list(FrameDecoder().feed(stream))


def _lldp_lines(text: str) -> Iterator[tuple[str, str]]:
    """Every line with the section it stands in; a section's own line belongs to it."""
    section = ""
    for line in text.split("\n"):
        if _LLDP_HEADER.fullmatch(line.rstrip(" \t\r")):
            section = line.rstrip(" \t\r")
        yield section, line


def _mask_length(text: str) -> int | None:
    """The length of a contiguous netmask, 1 to 32, None for any other address."""
    if not is_ipv4(text):
        return None
    zeros = ~int.from_bytes(bytes(int(octet) for octet in text.split(".")), "big") & 0xFFFFFFFF
    length = 32 - zeros.bit_length()
    return length if length and not zeros & (zeros + 1) else None


def _says_none(value: str) -> bool:
    return value.strip().lower() in ("na", "n/a", "-", "none", "unknown", "not supported", "not present")


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
