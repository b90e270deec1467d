"""What is known of a server: its name, what its API can tell, and how it is set up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit


class AddressError(Exception):
    """A text names no server. The message says why and what was expected."""


@dataclass(frozen=True)
class Server:
    """``url`` has no path; ``name`` is its address and port, as reports show it."""

    name: str
    url: str


def server_at(text: str) -> Server:
    """The server that a URL names: ``http://10.0.0.1:8000``, with or without ``/v1``, or ``10.0.0.1:8000``.

    Raises AddressError.
    """
    wanted = "expected http://HOST:PORT or https://HOST:PORT"
    whole = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(whole)
        port = parts.port
    except ValueError as error:
        raise AddressError(f"{text!r}: {error}; {wanted}") from error
    if parts.username is not None or parts.password is not None:
        raise AddressError("a URL with a user or a password shows it to everyone: use --api-key-env")
    if parts.scheme not in ("http", "https") or not parts.hostname or not text.isprintable() or " " in text:
        raise AddressError(f"{text!r} names no server: {wanted}")
    if parts.query or parts.fragment or parts.path.rstrip("/") not in ("", "/v1"):
        raise AddressError(f"{text!r} has a path or a query: {wanted}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    number = port if port is not None else (443 if parts.scheme == "https" else 80)
    return Server(f"{host}:{number}", f"{parts.scheme}://{host}:{number}")


def instance_at(name: str, url: str) -> Server:
    """A server that is an instance with a name of its own. Raises AddressError."""
    server = server_at(url)
    return Server(f"{name} ({server.name})", server.url)


class Feature(str, Enum):
    """What a request may ask for beyond its text; the order is that in which a server is tried."""

    SEED = "seed"
    LOGPROBS = "logprobs"
    TOKEN_NAMES = "return_tokens_as_token_ids"
    TOKEN_IDS = "return_token_ids"
    PROMPT_LOGPROBS = "prompt_logprobs"
    CACHE_SALT = "cache_salt"


@dataclass(frozen=True)
class Route:
    """One way to ask a server. ``features`` it takes and heeds; ``refused``: why it cannot be asked so."""

    features: frozenset[Feature] = frozenset()
    refused: str = ""


@dataclass(frozen=True)
class ServerFacts:
    """What a server says of itself; None or absent where it does not tell.

    ``settings``: of /server_info, dtype, quantization, parallel sizes and the like, as it spells them.
    ``max_model_len`` in tokens.
    """

    model: str
    served: tuple[str, ...] = ()
    root: str | None = None
    max_model_len: int | None = None
    version: str | None = None
    fingerprint: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    tokenizes: bool = False
    completions: Route = Route()
    chat: Route = Route()

    def told(self) -> dict[str, str]:
        """What must be equal for answers to be equal, by name: only what is told."""
        told = {
            "vLLM": self.version,
            "fingerprint": self.fingerprint,
            "max_model_len": None if self.max_model_len is None else str(self.max_model_len),
            **self.settings,
        }
        return {name: value for name, value in told.items() if value is not None}


# What decides numbers. Not load_format: where weights came from is what is being tested.
_SETTINGS = (
    "dtype",
    "quantization",
    "kv_cache_dtype",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "enforce_eager",
    "enable_prefix_caching",
    "enable_chunked_prefill",
    "device_config",
    "seed",
)


def settings_of(config: str) -> dict[str, str]:
    """The settings in the text that vLLM's /server_info (dev mode) prints its configuration as."""
    settings = {}
    for name in _SETTINGS:
        if found := re.search(rf"(?:^|[ (,]){name}=([^,\s()]+)", config):
            settings[name] = found.group(1)
    return settings
