"""What one rank's engine tells the outside: ``PREFIX{rank}.json``, and the guide's ``PREFIX{rank}.txt``.

The JSON file (a draft model's is ``PREFIX{rank}.draft.json``) is whole at every moment, mode 0600, and gone
when the process ends in any way but a kill; so a reader checks that ``pid`` lives. UTF-8, one object:

    version         1
    rank            global rank
    group           "netloader" or "netloader_draft"
    pid, instance   the process, and a random word of its own (process ids come again in containers)
    updated_unix_s  when this was written
    state           "loading" | "ready" | "failed"
    listener        {"address": text|null, "port": number|null,
                     "open": true = no TOKEN asked of joiners|null, "accepting": bool}
    weights         {"from": "p2p"|"disk"|null, "source": "host:port"|null, "verified": bool,
                     "bytes": number, "content_id": hex|null: of this rank's part,
                     "origin": hex|null: of the weights of all ranks (`origin`), null where not proven}
    seconds         {phase: seconds}, phases of `phases.PHASES`
    fallback        {"reason": text} | null: why the disk was read after all
    attempts        [{"source": "host:port", "phase": text, "reason": text}]: sources that did not serve
    weight_version  number: grows whenever the weights change after loading
    serving         {"serving": bool, "reason": text|null}: whether joiners are served now, and why not
    served          {"joiners": number, "bytes": number}

``PREFIX{rank}.txt`` holds ``address:port`` and nothing else, as vllm-ascend writes it, but it is there only
while the listener accepts. As there, a draft model has none.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing.util
import os
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ascendctl.netloader.engine.address import Address
from ascendctl.netloader.engine.options import DRAFT_GROUP
from ascendctl.netloader.engine.phases import TAG, logger
from ascendctl.whole_file import whole_file

VERSION = 1
STATES = ("loading", "ready", "failed")
ATTEMPT_KEYS = frozenset({"source", "phase", "reason"})

# Multiprocessing's finalizers run by falling priority at exit; one without a priority would not be kept.
_EXIT_PRIORITY = 0


def status_path(prefix: str, rank: int, group: str) -> Path:
    """Where the status of a rank's target or draft model stands."""
    return Path(f"{prefix}{rank}.draft.json" if group == DRAFT_GROUP else f"{prefix}{rank}.json")


def address_path(prefix: str, rank: int) -> Path:
    """Where the guide's address file stands."""
    return Path(f"{prefix}{rank}.txt")


class StatusFile:
    """The status of one rank and group. Without a prefix it is only kept in memory (`content`).

    Nothing here raises for the file's sake: a full disk must not stop an engine. What cannot be written is
    said in the log, and the file removed, since an old status is worse than none. Thread-safe.
    """

    def __init__(self, prefix: str | None, rank: int, group: str) -> None:
        self._path = None if prefix is None else status_path(prefix, rank, group)
        has_address_file = prefix is not None and group != DRAFT_GROUP
        self._address_path = address_path(str(prefix), rank) if has_address_file else None
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._closed = False
        self._problem: str | None = None
        self._address_text: str | None = None
        self._content: dict[str, Any] = {
            "version": VERSION,
            "rank": rank,
            "group": group,
            "pid": self._pid,
            "instance": secrets.token_hex(8),
            "updated_unix_s": time.time(),
            "state": "loading",
            "listener": {"address": None, "port": None, "open": None, "accepting": False},
            "weights": {
                "from": None,
                "source": None,
                "verified": False,
                "bytes": 0,
                "content_id": None,
                "origin": None,
            },
            "seconds": {},
            "fallback": None,
            "attempts": [],
            "weight_version": 0,
            "serving": {"serving": False, "reason": "loading"},
            "served": {"joiners": 0, "bytes": 0},
        }
        if self._path is None:
            return
        self._succeed()
        # Runs at the end of any process, also of a forked worker, where atexit's do not before Python 3.13.
        self._finalizer = multiprocessing.util.Finalize(None, self.remove, exitpriority=_EXIT_PRIORITY)
        self.update()

    @property
    def content(self) -> dict[str, Any]:
        """A copy of what the file says."""
        with self._lock:
            copied: dict[str, Any] = json.loads(json.dumps(self._content))
            return copied

    def update(self, **changes: Any) -> None:
        """Change what is named and write the file; the keys of an object that are not named stay.

        ``update(state="ready", listener={"accepting": True})``. ``fallback`` and ``attempts`` are replaced
        whole. Raises TypeError or ValueError, with nothing changed, for what the format above does not know.
        """
        with self._lock:
            changed = {name: self._merged(name, value) for name, value in changes.items()}
            self._content.update(changed)
            self._content["updated_unix_s"] = time.time()
            if self._closed or os.getpid() != self._pid:
                return
            self._write()

    def remove(self) -> None:
        """Take both files away, if they are this process' own; nothing is written from then on."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._drop_address()
            self._drop()
        if self._path is not None:
            self._finalizer.cancel()

    # What may be said ---------------------------------------------------------------------------------

    def _merged(self, name: str, value: Any) -> Any:
        if name not in self._content or name in (
            "version",
            "rank",
            "group",
            "pid",
            "instance",
            "updated_unix_s",
        ):
            raise TypeError(f"{name!r} is nothing that a status can be told")
        if name == "state" and value not in STATES:
            raise ValueError(f"state {value!r} is none of {', '.join(STATES)}")
        if name == "attempts":
            return _attempts(value)
        if name == "fallback":
            if value is not None and set(value) != {"reason"}:
                raise TypeError('fallback is {"reason": text} or None')
            return None if value is None else {"reason": str(value["reason"])}
        if name == "weight_version":
            return int(value)
        before = self._content[name]
        if not isinstance(before, dict):
            return value
        unknown = set(value) - set(before)
        if unknown and name != "seconds":
            raise TypeError(f"{name} has no {', '.join(sorted(unknown))}")
        merged = {**before, **value}
        json.dumps(merged)  # Raises TypeError here, before anything is changed.
        return merged

    # The files ----------------------------------------------------------------------------------------

    def _write(self) -> None:
        if self._path is None:
            return
        try:
            _replace(self._path, json.dumps(self._content, indent=1) + "\n", 0o600)
            self._write_address()
        except OSError as error:
            self._drop_address()
            self._drop()
            self._say(
                f"{self._path} cannot be written ({error.strerror or error}); it tells nothing until it can"
            )
        else:
            self._problem = None

    def _write_address(self) -> None:
        listener = self._content["listener"]
        wanted = None
        if listener["accepting"] and listener["address"] and listener["port"]:
            wanted = str(Address(listener["address"], listener["port"]))
        if self._address_path is None or wanted == self._address_text:
            return
        if wanted is None:
            self._drop_address()
            return
        # Readable by all, as vllm-ascend's: an address is what others are to find here.
        _replace(self._address_path, wanted, 0o644)
        self._address_text = wanted

    def _drop(self) -> None:
        if self._path is not None and _other_instance(self._path, self._content["instance"]) is None:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _drop_address(self) -> None:
        """The address file holds no process id: ours while it holds our address and the status is ours."""
        text, self._address_text = self._address_text, None
        if self._address_path is None or self._path is None or text is None:
            return
        if _other_instance(self._path, self._content["instance"]) is not None:
            return
        _unlink_if(self._address_path, text)

    def _succeed(self) -> None:
        """Who had these names before: one that lives is warned of; a killed one's address is removed."""
        assert self._path is not None
        other = _other_instance(self._path, self._content["instance"])
        if other is None:
            return
        pid = other.get("pid")
        if isinstance(pid, int) and pid > 0 and pid != self._pid and _lives(pid):
            self._say(
                f"{self._path} belongs to process {pid}, which runs; "
                "give each engine an OUTPUT_PREFIX of its own"
            )
        elif self._address_path is not None:
            with contextlib.suppress(TypeError, KeyError):  # Whatever stood there need not be of this format.
                listener = other["listener"]
                _unlink_if(self._address_path, str(Address(listener["address"], listener["port"])))

    def _say(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            logger().warning("%s %s", TAG, problem)


def _replace(path: Path, text: str, mode: int) -> None:
    with whole_file(path, mode) as stream:
        stream.write(text)
        # Without it a crash of the machine can leave an empty file under the name.
        stream.flush()
        os.fsync(stream.fileno())


def _unlink_if(path: Path, text: str) -> None:
    if _text(path) == text:
        with contextlib.suppress(OSError):
            path.unlink()


def _attempts(value: Any) -> list[dict[str, str]]:
    if isinstance(value, (str, Mapping)) or not isinstance(value, Sequence):
        raise TypeError("attempts is a list")
    for attempt in value:
        if set(attempt) != ATTEMPT_KEYS:
            raise TypeError(f"an attempt has {', '.join(sorted(ATTEMPT_KEYS))}")
    return [{key: str(attempt[key]) for key in ("source", "phase", "reason")} for attempt in value]


def _other_instance(path: Path, instance: str) -> dict[str, Any] | None:
    """What stands in a status file of another instance; None where it is ours, missing or no status."""
    try:
        content = json.loads(_text(path))
    except ValueError:
        return None
    return content if isinstance(content, dict) and content.get("instance") != instance else None


def _text(path: Path) -> str:
    """A file's text; "" where there is none to read."""
    try:
        # A named pipe of that name would hold whoever opens it.
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, ValueError):
        return ""


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
