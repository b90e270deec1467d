"""How long each phase of a load took, and one structured log line as each ends.

    [ascendctl netloader] phase=wire rank=0 group=netloader source=10.0.0.1:2333 bytes=1024 seconds=0.012
    [ascendctl netloader] phase=join rank=0 group=netloader source=10.0.0.1:2333 seconds=5.000 failed="..."
    [ascendctl netloader] fallback=disk rank=0 group=netloader reason="no source answered"

``key=value`` pairs parted by one space; a value with anything but plain characters stands in double quotes
with JSON's escapes, so that a line is one line whatever a peer wrote into it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator

PHASES = ("connect", "join", "group", "wire", "digest", "post-process", "load")
TAG = "[ascendctl netloader]"
# Below vLLM's own logger: only what hangs there has a handler and the level INFO inside vLLM.
LOGGER = "vllm.ascendctl.netloader"

_PLAIN = re.compile(r"[A-Za-z0-9_./:+@%,\[\]-]+")
_LONGEST_VALUE = 2000


def logger() -> logging.Logger:
    """The one logger of the engine."""
    return logging.getLogger(LOGGER)


def line(**pairs: object) -> str:
    """One structured log line; pairs that are None are left out, ``_`` in a key becomes ``-``."""
    told = (f"{key.replace('_', '-')}={_value(value)}" for key, value in pairs.items() if value is not None)
    return f"{TAG} {' '.join(told)}"


class Phases:
    """The phases of one load on one rank. ``seconds``: phase → seconds, of repeated ones the sum.

    ``ended`` is called with phase and seconds when a phase ends (for counters); it must not raise.
    """

    def __init__(
        self,
        rank: int,
        group: str,
        log: logging.Logger | None = None,
        ended: Callable[[str, float], None] | None = None,
    ) -> None:
        self.rank = rank
        self.group = group
        self._log = log or logger()
        self._ended = ended
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}

    @property
    def seconds(self) -> dict[str, float]:
        with self._lock:
            return dict(self._seconds)

    @contextlib.contextmanager
    def phase(self, name: str, **fields: object) -> Iterator[dict[str, object]]:
        """Times the block; one line as it ends, with ``fields`` and what the block puts into the dict.

        A block that raises ends its phase as well: its line says ``failed=`` and is a WARNING. Raises
        ValueError for a name that is none of `PHASES`.
        """
        _check(name)
        told = dict(fields)
        start = time.perf_counter()
        failed: str | None = None
        try:
            yield told
        except BaseException as error:
            failed = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._end(name, time.perf_counter() - start, told, failed)

    def add(self, name: str, seconds: float) -> None:
        """Count work that ran beside another phase (a chunk's digest); `tell` gives the line at the end."""
        _check(name)
        with self._lock:
            self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def tell(self, name: str, **fields: object) -> None:
        """The line of a phase that was only added to, with the sum of its seconds."""
        seconds = self.seconds.get(name, 0.0)
        self._log.info("%s", self._line(name, seconds, fields, None))
        if self._ended is not None:
            self._ended(name, seconds)

    def fell_back(self, reason: str, **fields: object) -> None:
        """A WARNING: the weights are read from disk, and why."""
        self._log.warning(
            "%s", line(fallback="disk", rank=self.rank, group=self.group, **fields, reason=reason)
        )

    def _end(self, name: str, seconds: float, fields: dict[str, object], failed: str | None) -> None:
        self.add(name, seconds)
        level = logging.INFO if failed is None else logging.WARNING
        self._log.log(level, "%s", self._line(name, seconds, fields, failed))
        if self._ended is not None:
            self._ended(name, seconds)

    def _line(self, name: str, seconds: float, fields: dict[str, object], failed: str | None) -> str:
        own: dict[str, object] = {"phase": name, "rank": self.rank, "group": self.group}
        rest = {key: value for key, value in fields.items() if key not in own}
        return line(**own, **{**rest, "seconds": f"{seconds:.3f}", "failed": failed})


def _check(name: str) -> None:
    if name not in PHASES:
        raise ValueError(f"{name!r} is no phase; phases are {', '.join(PHASES)}")


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    if len(text) > _LONGEST_VALUE:
        text = text[:_LONGEST_VALUE] + "..."
    if _PLAIN.fullmatch(text):
        return text
    # JSON escapes quotes, backslashes and ASCII controls; other unprintable ones (line separators, bidi) not.
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in quoted)
