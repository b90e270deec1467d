"""What is asked: the built-in prompts (``prompts.yaml``) and those of a user's file, in one form.

A file is YAML (or JSON, which is YAML) of a list, JSON Lines (``.jsonl``), or plain text (``.txt``) with a
prompt per line. An entry is a text, or a mapping: ``id``, and either ``text`` (a completion) or ``messages``
(a chat, as the OpenAI API has them), and ``language`` where it should be shown. A long text may be given as
``head``, ``row`` repeated ``rows`` times with {n} and {code} filled in, and ``tail``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

MOST_PROMPTS = 10_000
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEYS = {"id", "language", "text", "messages", "head", "row", "rows", "tail"}


class PromptsError(Exception):
    """A file of prompts cannot be used. The message says where and what was expected."""


@dataclass(frozen=True)
class Prompt:
    """One prompt: a ``text`` to be completed, or the ``messages`` of a chat as (role, content)."""

    id: str
    text: str = ""
    messages: tuple[tuple[str, str], ...] = ()
    language: str = ""

    @property
    def chat(self) -> bool:
        return bool(self.messages)

    @property
    def shown(self) -> str:
        """What it says, for a reader."""
        return "\n".join(f"{role}: {content}" for role, content in self.messages) if self.chat else self.text


def builtin_prompts() -> tuple[Prompt, ...]:
    """The prompts that come with ascendctl."""
    file = resources.files("ascendctl.consistency") / "prompts.yaml"
    return _read(yaml.safe_load(file.read_text(encoding="utf-8")), "the built-in prompts")


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """The prompts of a user's file. Raises PromptsError."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".txt":
            entries: object = [line for line in text.splitlines() if line.strip()]
        elif path.suffix == ".jsonl":
            entries = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            entries = yaml.safe_load(text)
    except OSError as error:
        raise PromptsError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise PromptsError(f"{path} is no UTF-8 text: {error.reason} at byte {error.start}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PromptsError(f"{path} is neither YAML nor JSON: {' '.join(str(error).split())}") from error
    return _read(entries, str(path))


def _read(entries: object, where: str) -> tuple[Prompt, ...]:
    if not isinstance(entries, list) or not entries:
        raise PromptsError(f"{where}: expected a list of prompts, texts or mappings with text or messages")
    if len(entries) > MOST_PROMPTS:
        raise PromptsError(f"{where}: {len(entries):,} prompts; at most {MOST_PROMPTS:,} are asked in a run")
    prompts = tuple(_prompt(entry, number, where) for number, entry in enumerate(entries, 1))
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise PromptsError(f"{where}: two prompts have the id {prompt.id!r}")
        seen.add(prompt.id)
    return prompts


def _prompt(entry: object, number: int, where: str) -> Prompt:
    place = f"{where}, prompt {number}"
    given: Mapping[str, Any]
    if isinstance(entry, str):
        given = {"text": entry}
    elif isinstance(entry, dict):
        given = entry
    else:
        raise PromptsError(f"{place}: expected a text or a mapping")
    if unknown := sorted(str(key) for key in given if key not in _KEYS):
        raise PromptsError(f"{place}: {', '.join(unknown)} is none of {', '.join(sorted(_KEYS))}")
    name = given.get("id", f"prompt-{number:03d}")
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise PromptsError(f"{place}: id {name!r} is not 1 to 64 letters, digits, dots, dashes, underscores")
    language = str(given.get("language", ""))
    if "messages" in given:
        if given.keys() & {"text", "row"}:
            raise PromptsError(f"{place}: it has both a text and messages")
        return Prompt(name, messages=_messages(given["messages"], place), language=language)
    text = _rows(given, place) if "row" in given else given.get("text")
    if not isinstance(text, str) or not text:
        raise PromptsError(f"{place}: expected text (a text that is not empty) or messages")
    return Prompt(name, text=text, language=language)


def _messages(listed: object, place: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(listed, list) or not listed:
        raise PromptsError(f"{place}: messages is no list of messages")
    messages = []
    for one in listed:
        role, content = (one.get("role"), one.get("content")) if isinstance(one, dict) else (None, None)
        if not isinstance(role, str) or not isinstance(content, str):
            raise PromptsError(f"{place}: a message has a role and a content, both texts")
        messages.append((role, content))
    return tuple(messages)


def _rows(given: Mapping[str, Any], place: str) -> str:
    row, count = given.get("row"), given.get("rows")
    if not isinstance(row, str) or type(count) is not int or not 0 < count <= 100_000:
        raise PromptsError(f"{place}: row is a text, and rows says how often, 1 to 100000")
    parts: Sequence[str] = [
        row.replace("{n}", str(number)).replace("{code}", str(number * 7_919 % 1_000))
        for number in range(1, count + 1)
    ]
    return str(given.get("head", "")) + "\n".join(parts) + str(given.get("tail", ""))
