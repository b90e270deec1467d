"""The loader's configuration (``--model-loader-extra-config``): read once at start, refused with words.

The seven fields of vllm-ascend's Netloader guide keep their names and their documented meaning; all others
are optional and ours. Where the guide and vllm-ascend's code differ and the configuration at hand is touched
by it, ``Options.notes`` says so in one sentence each. Nothing is guessed and nothing is quietly replaced by
a default: what cannot be used is an `OptionsError` that names the field, what was seen and what to write.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ascendctl.hccl_ports import HCCL_HOST_PORTS
from ascendctl.netloader.engine.address import Address as Address  # Others take it from here.
from ascendctl.netloader.engine.fields import SOURCE_FORM, FieldReading, json_kind, shown

# The group names of vllm-ascend's join; the draft (MTP, speculative) model has a group and a port of its own.
TARGET_GROUP = "netloader"
DRAFT_GROUP = "netloader_draft"
DRAFT_PORT_OFFSET = 10_000

LOWEST_PORT, HIGHEST_PORT = 1024, 65_535
_RANKS_OF_A_HOST = 16

MIB = 1024 * 1024
DEFAULT_CHUNK_MIB, LARGEST_CHUNK_MIB = 32, 128
SHORTEST_TOKEN = 16
_LONGEST_TOKEN_FILE = 4096
_LONGEST_TIMEOUT_S = 24 * 3600.0


class OptionsError(ValueError):
    """The configuration cannot be used. ``problems``: one sentence each, all that were found."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        listed = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"--model-loader-extra-config cannot be used:\n{listed}")

    def __reduce__(self) -> tuple[type[OptionsError], tuple[tuple[str, ...]]]:
        return OptionsError, (self.problems,)  # It crosses from a worker to the engine's process.


@dataclass(frozen=True)
class Timeouts:
    """The longest each step may take, in seconds. ``total_s``: a load over all sources; None = no limit.

    ``connect_s`` TCP to a source; ``join_s`` from JOIN to the agreed manifest; ``link_s`` opening the link;
    ``chunk_s`` without one chunk finished or announced.
    """

    connect_s: float = 5.0
    join_s: float = 10.0
    link_s: float = 30.0
    chunk_s: float = 60.0
    total_s: float | None = None


@dataclass(frozen=True)
class Options:
    """What was asked for. ``sources``: rank → addresses in the order to try; empty = a seed, reads its disk.

    ``listen_port``: base of the listeners (`listen_port_of`), None = any free one. ``int8_cache``:
    ``no | hbm | dram``; ``int8_cache_names`` parts of parameter names it is limited to, () = all.
    ``fallback``: ``disk | error``; ``verify``: ``required | if-offered``; ``transport``: ``auto | host``.
    ``bandwidth_bytes_s``: cap of what this node sends, None = none. ``notes``: what the user should be told.
    """

    sources: Mapping[int, tuple[Address, ...]] = dataclasses.field(
        default_factory=lambda: MappingProxyType({})
    )
    model: str | None = None
    listen_port: int | None = None
    int8_cache: str = "no"
    int8_cache_names: tuple[str, ...] = ()
    output_prefix: str | None = None
    fallback: str = "disk"
    verify: str = "required"
    chain: bool = False
    token: bytes | None = dataclasses.field(default=None, repr=False)
    transport: str = "auto"
    bandwidth_bytes_s: float | None = None
    chunk_bytes: int = DEFAULT_CHUNK_MIB * MIB
    timeouts: Timeouts = Timeouts()
    notes: tuple[str, ...] = ()


def read_options(extra: Mapping[str, object] | None) -> Options:
    """The options in the loader's extra configuration, a CONFIG_FILE merged in.

    The file's value of a field wins over the inline one; inline fields that the file lacks are kept. Reads
    CONFIG_FILE and TOKEN_FILE. Raises OptionsError with everything that is wrong, not only the first.
    """
    if extra is None:
        extra = {}
    if not isinstance(extra, Mapping):
        raise OptionsError((f"saw {shown(extra)}; write a JSON object such as {{'SOURCE': {SOURCE_FORM}}}",))
    reading = _Reading()
    given = reading.merged(extra)
    options = reading.options(given)
    if reading.problems:
        raise OptionsError(tuple(reading.problems))
    return options


def listen_port_of(options: Options, rank: int, draft: bool) -> int | None:
    """The port that this rank's listener takes: LISTEN_PORT + rank, + 10000 for a draft model; None = any.

    Raises OptionsError where that is beyond 65535 (vllm-ascend would run without a listener, and say so in
    one line of its log).
    """
    if options.listen_port is None:
        return None
    port = options.listen_port + rank + (DRAFT_PORT_OFFSET if draft else 0)
    if port > HIGHEST_PORT:
        base = HIGHEST_PORT - rank - (DRAFT_PORT_OFFSET if draft else 0)
        what = f"rank {rank}" + (f" and the draft model's {DRAFT_PORT_OFFSET}" if draft else "")
        raise OptionsError(
            (f"LISTEN_PORT: {options.listen_port} with {what} makes {port}; write {base} or lower",)
        )
    return port


def draft_address(address: Address) -> Address | None:
    """Where vllm-ascend's draft model listens beside this address of its target; None beyond 65535."""
    port = address.port + DRAFT_PORT_OFFSET
    return Address(address.host, port) if port <= HIGHEST_PORT else None


class _Reading(FieldReading):
    """What the fields say, on top of where they come from."""

    def options(self, given: Mapping[str, object]) -> Options:
        sources = self._sources(given.get("SOURCE"))
        fallback = self._word(given, "FALLBACK", ("disk", "error"))
        if fallback == "error" and not given.get("SOURCE"):
            self.notes.append("FALLBACK: without SOURCE the weights are read from disk, which is no fallback")
        chunk_mib = self._number(given, "CHUNK_MIB", DEFAULT_CHUNK_MIB, 1, LARGEST_CHUNK_MIB, whole=True)
        bandwidth = self._number(given, "BANDWIDTH_MIB_S", None, 0.001, 1e9)
        int8_cache = self._word(given, "INT8_CACHE", ("no", "hbm", "dram"))
        self._tell_of_int8_cache(given, int8_cache)
        return Options(
            sources=MappingProxyType(sources),
            model=self._model(given.get("MODEL")),
            listen_port=self._listen_port(given.get("LISTEN_PORT")),
            int8_cache=int8_cache,
            int8_cache_names=self._int8_cache_names(given.get("INT8_CACHE_NAME"), int8_cache),
            output_prefix=self._output_prefix(given.get("OUTPUT_PREFIX")),
            fallback=fallback,
            verify=self._word(given, "VERIFY", ("required", "if-offered")),
            chain=self._chain(given.get("CHAIN", False)),
            token=self._token(given),
            transport=self._word(given, "TRANSPORT", ("auto", "host")),
            bandwidth_bytes_s=None if bandwidth is None else bandwidth * MIB,
            chunk_bytes=int(chunk_mib or 0) * MIB,
            timeouts=self._timeouts(given),
            notes=tuple(self.notes),
        )

    def _sources(self, seen: object) -> dict[int, tuple[Address, ...]]:
        if seen is None:
            return {}
        if not isinstance(seen, (list, tuple)):
            self.refuse("SOURCE", seen, f"write a list such as {SOURCE_FORM}")
            return {}
        found: dict[int, tuple[Address, ...]] = {}
        owner: dict[Address, int] = {}
        for at, entry in enumerate(seen):
            where = f"SOURCE[{at}]"
            if not isinstance(entry, Mapping):
                self.refuse(where, entry, 'write an object with "device_id" and "sources"')
                continue
            self._entry_fields(where, entry)
            rank = self._device_id(where, entry)
            addresses = self._addresses(where, entry)
            if rank is None:
                continue
            if rank in found:
                self.problems.append(
                    f"{where}: device_id {rank} a second time; write its sources in one entry"
                )
                continue
            for address in addresses:
                if address in owner:
                    whose = (
                        "twice" if owner[address] == rank else f"for device_id {owner[address]} and {rank}"
                    )
                    self.problems.append(
                        f"{where}: {address} stands {whose}; every rank has a listener of its own"
                    )
                owner[address] = rank
            found[rank] = addresses
        return found

    def _entry_fields(self, where: str, entry: Mapping[Any, object]) -> None:
        for key in entry:
            if key in ("device_id", "sources"):
                continue
            near = difflib.get_close_matches(str(key).lower(), ("device_id", "sources"), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else 'an entry has "device_id" and "sources"'
            self.problems.append(f"{where}: no such key {shown(key)}; {hint}")

    def _device_id(self, where: str, entry: Mapping[Any, object]) -> int | None:
        if "device_id" not in entry:
            self.problems.append(f"{where}: device_id is missing; write the global rank, for example 0")
            return None
        seen = entry["device_id"]
        if isinstance(seen, int) and not isinstance(seen, bool) and seen >= 0:
            return seen
        digits = isinstance(seen, str) and seen.isascii() and seen.isdigit()
        wanted = f"write {int(str(seen))} without quotes" if digits else "write the global rank, 0 or more"
        self.refuse(f"{where}.device_id", seen, wanted)
        return None

    def _addresses(self, where: str, entry: Mapping[Any, object]) -> tuple[Address, ...]:
        wanted = 'write a list such as ["10.0.0.1:19374"]'
        if "sources" not in entry:
            self.problems.append(f"{where}: sources is missing; {wanted}")
            return ()
        seen = entry["sources"]
        if not isinstance(seen, (list, tuple)) or not seen:
            self.refuse(f"{where}.sources", seen, wanted)
            return ()
        return tuple(self._each_address(where, seen))

    def _each_address(self, where: str, seen: list[object] | tuple[object, ...]) -> Iterator[Address]:
        for at, text in enumerate(seen):
            field = f"{where}.sources[{at}]"
            if not isinstance(text, str):
                self.refuse(field, text, 'write "host:port" in quotes')
                continue
            try:
                yield Address.parse(text)
            except ValueError as error:
                self.problems.append(f"{field}: {error}")

    def _model(self, seen: object) -> str | None:
        if seen is None:
            return None
        if not isinstance(seen, str) or not seen:
            self.refuse("MODEL", seen, "write the model's name in quotes, or leave it out")
            return None
        self.notes.append(
            "MODEL: the guide says that it is compared between both ends; vllm-ascend's code compares "
            "--model, and so that is what its peers are sent. Peers of this loader compare the content"
        )
        return seen

    def _listen_port(self, seen: object) -> int | None:
        if seen is None:
            return None
        wanted = f"write a number from {LOWEST_PORT} to {HIGHEST_PORT}, or leave it out for any free port"
        number = seen
        if isinstance(seen, str) and seen.isascii() and seen.isdigit() and len(seen) <= 5:
            number = int(seen)
        if not isinstance(number, int) or not LOWEST_PORT <= number <= HIGHEST_PORT:
            self.refuse("LISTEN_PORT", seen, wanted)
            return None
        if number == HIGHEST_PORT:
            self.notes.append(
                f"LISTEN_PORT: {number} is taken as the guide has it; vllm-ascend's code skips it"
            )
        for offset, whose in ((0, ""), (DRAFT_PORT_OFFSET, "a draft model's ")):
            first = number + offset
            if first < HCCL_HOST_PORTS.stop and first + _RANKS_OF_A_HOST > HCCL_HOST_PORTS.start:
                self.notes.append(
                    f"LISTEN_PORT: {whose}{first} + rank meets HCCL's own ports {HCCL_HOST_PORTS.start}-"
                    f"{HCCL_HOST_PORTS.stop - 1} with {_RANKS_OF_A_HOST} ranks; write another, such as 19000"
                )
        return number

    def _tell_of_int8_cache(self, given: Mapping[str, object], int8_cache: str) -> None:
        if "INT8_CACHE" in given and int8_cache != "no":
            self.notes.append(
                f"INT8_CACHE: vllm-ascend refuses a peer whose value is not {int8_cache} too, which its "
                "guide does not say, and takes hbm for a draft model where dram is written"
            )

    def _int8_cache_names(self, seen: object, int8_cache: str) -> tuple[str, ...]:
        if seen is None:
            return ()
        names = (seen,) if isinstance(seen, str) else seen
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names):
            self.refuse("INT8_CACHE_NAME", seen, 'write a list of names such as ["down_proj"]')
            return ()
        if names:
            self.notes.append(
                "INT8_CACHE_NAME: has no effect, since INT8_CACHE is no"
                if int8_cache == "no"
                else "INT8_CACHE_NAME: each is looked for anywhere in a parameter's name, as vllm-ascend's "
                "code does; its guide speaks of whole names"
            )
        return tuple(str(name) for name in names)

    def _output_prefix(self, seen: object) -> str | None:
        if seen is None:
            return None
        if not isinstance(seen, str) or not seen or "\0" in seen:
            self.refuse("OUTPUT_PREFIX", seen, 'write the beginning of a path, such as "/run/netloader/rank"')
            return None
        folder = Path(seen + "0").parent
        if not folder.is_dir():
            self.problems.append(f"OUTPUT_PREFIX: there is no folder {folder}; make it, or write another")
        elif not os.access(folder, os.W_OK | os.X_OK):
            self.problems.append(
                f"OUTPUT_PREFIX: this process may not write in {folder}; allow it, or write another"
            )
        return seen

    def _chain(self, seen: object) -> bool:
        if not isinstance(seen, bool):
            self.refuse("CHAIN", seen, "write true or false, without quotes")
            return False
        return seen

    def _token(self, given: Mapping[str, object]) -> bytes | None:
        inline, path = given.get("TOKEN"), given.get("TOKEN_FILE")
        if inline is not None and path is not None:
            self.problems.append("TOKEN: TOKEN_FILE is given too; write one of them")
            return None
        if path is not None:
            return self._token_file(path)
        if inline is None:
            return None
        if not isinstance(inline, str):
            self.problems.append(f"TOKEN: saw a {json_kind(inline)}; write a text in quotes")
            return None
        return self._long_enough("TOKEN", inline.encode("utf-8", "surrogatepass"))

    def _token_file(self, path: object) -> bytes | None:
        if not isinstance(path, str) or not path:
            self.refuse("TOKEN_FILE", path, "write the path of a file in quotes")
            return None
        read = self.small_file("TOKEN_FILE", path, _LONGEST_TOKEN_FILE)
        if read is None:
            return None
        data, mode = read
        if mode & 0o077:
            self.problems.append(f"TOKEN_FILE: others can read {path} (mode {mode:04o}); chmod 600 {path}")
        return self._long_enough("TOKEN_FILE", data.strip())

    def _long_enough(self, field: str, token: bytes) -> bytes | None:
        # Who can watch one handshake can try words against it at leisure.
        if len(token) < SHORTEST_TOKEN:
            self.problems.append(
                f"{field}: {len(token)} bytes can be guessed; write {SHORTEST_TOKEN} or more, "
                "for example what `openssl rand -hex 32` prints"
            )
            return None
        return token

    def _timeouts(self, given: Mapping[str, object]) -> Timeouts:
        default = Timeouts()

        def seconds(field: str, otherwise: float | None) -> float | None:
            return self._number(given, field, otherwise, 0.1, _LONGEST_TIMEOUT_S)

        return Timeouts(
            connect_s=seconds("CONNECT_TIMEOUT", default.connect_s) or default.connect_s,
            join_s=seconds("JOIN_TIMEOUT", default.join_s) or default.join_s,
            link_s=seconds("LINK_TIMEOUT", default.link_s) or default.link_s,
            chunk_s=seconds("CHUNK_TIMEOUT", default.chunk_s) or default.chunk_s,
            total_s=seconds("TOTAL_TIMEOUT", default.total_s),
        )

    # One value ----------------------------------------------------------------------------------------

    def _word(self, given: Mapping[str, object], field: str, words: tuple[str, ...]) -> str:
        """One of ``words``, in any case; the first where nothing is given."""
        seen = given.get(field, words[0])
        if isinstance(seen, str) and seen.lower() in words:
            return seen.lower()
        self.refuse(field, seen, "write " + " or ".join(f'"{word}"' for word in words))
        return words[0]

    def _number(
        self,
        given: Mapping[str, object],
        field: str,
        otherwise: float | None,
        least: float,
        most: float,
        *,
        whole: bool = False,
    ) -> float | None:
        if field not in given:
            return otherwise
        seen = given[field]
        kinds: tuple[type, ...] = (int,) if whole else (int, float)
        # NaN fails both comparisons.
        if isinstance(seen, kinds) and not isinstance(seen, bool) and least <= seen <= most:  # type: ignore[operator]
            return float(seen)  # type: ignore[arg-type]
        number = "whole number" if whole else "number"
        self.refuse(field, seen, f"write a {number} from {least:g} to {most:g}, without quotes")
        return otherwise
