"""A scripted OpenAI-style server on loopback, in threads: what it has, says and does wrong is a table entry.

Its "model" is a hash of the tokens so far, so that it is deterministic and every prompt goes its own way.
Bytes are tokens. It shares no code with ascendctl.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VOCABULARY = 200
TOP = 5
NEAR = 1e-3  # the gap of its near ties


@dataclass(frozen=True)
class Script:
    """How a server differs from a well-behaved one; the defaults are that one.

    ``flip``/``nudge``: prompt text → (generated position, or with ``nudge`` also the amount in nats).
    ``ties``: positions where its two likeliest tokens are `NEAR` apart; ``noise``: amplitude in nats that
    differs from request to request, which turns ties around; ``cached``: what a filled prefix cache adds.
    ``die_after``/``hang_after``: answers given to completions before that.
    """

    model: str = "tiny"
    version: str | None = "0.32.0"
    fingerprint: str | None = "vllm-0.32.0-abcd1234"
    max_model_len: int | None = 4096
    logprobs: bool = True
    prompt_logprobs: bool = True
    token_ids: bool = True
    token_names: bool = True
    cache_salt: bool = True
    tokenize: bool = True
    chat: bool = True
    server_info: str | None = None
    flip: dict[str, int] = field(default_factory=dict)
    nudge: dict[str, tuple[int, float]] = field(default_factory=dict)
    prompt_nudge: dict[str, tuple[int, float]] = field(default_factory=dict)
    ties: frozenset[int] = frozenset()
    turn_ties: bool = False
    noise: float = 0.0
    sampling: bool = False
    cached: float = 0.0
    shift: int = 0
    empty: bool = False
    api_key: str = ""
    denied: tuple[str, ...] = ()
    redirect: str = ""
    garbage: bytes = b""
    broken: dict[str, Any] = field(default_factory=dict)
    refuse: dict[str, int] = field(default_factory=dict)
    busy: int = 0
    die_after: int | None = None
    hang_after: int | None = None
    digests: dict[str, str] | None = None
    pause_s: float = 0.0


class Scripted:
    """The server, running; use as a context manager. ``requests`` are the bodies it was sent, by path."""

    def __init__(self, script: Script, host: str = "127.0.0.1") -> None:
        self.script = script
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._answers = 0
        self._seen: set[str] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        handler = type("Handler", (_Handler,), {"scripted": self})
        self._http = ThreadingHTTPServer((host, 0), handler)
        self._http.daemon_threads = True
        self.url = f"http://{host}:{self._http.server_address[1]}"
        self.name = self.url.removeprefix("http://")
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Scripted:
        self._thread.start()
        return self

    def __exit__(self, *ended: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._ended.set()
        self._http.shutdown()
        self._http.server_close()

    def completions(self) -> list[dict[str, Any]]:
        return [body for path, body in self.requests if path == "/v1/completions"]

    # --- what it answers ---

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        script = self.script
        if path == "/v1/models":
            card: dict[str, Any] = {"id": script.model, "root": f"/models/{script.model}", "parent": None}
            if script.max_model_len:
                card["max_model_len"] = script.max_model_len
            return 200, {"object": "list", "data": [card]}
        if path == "/version" and script.version:
            return 200, {"version": script.version}
        if path == "/server_info" and script.server_info:
            return 200, {"vllm_config": script.server_info}
        if path == "/tokenize" and script.tokenize:
            return 200, {"tokens": self._ids(body), "count": 0}
        if path == "/detokenize" and script.tokenize:
            return 200, {"prompt": bytes(one % 256 for one in body["tokens"]).decode("latin-1")}
        if path == "/weight_checker" and script.digests is not None:
            return 200, {"checksums": script.digests}
        if path == "/v1/completions" or (path == "/v1/chat/completions" and script.chat):
            return self._complete(body, chat=path.endswith("chat/completions"))
        return 404, {"error": {"message": "no such route", "code": 404}}

    def _ids(self, body: dict[str, Any]) -> list[int]:
        text = body.get("prompt")
        if text is None:
            text = "".join(f"<{one['role']}>{one['content']}" for one in body["messages"])
        if isinstance(text, list):
            return list(text)
        return [(byte + self.script.shift) % VOCABULARY for byte in str(text).encode()]

    def _complete(self, body: dict[str, Any], *, chat: bool) -> tuple[int, Any]:
        script = self.script
        if body["model"] != script.model:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        if script.cache_salt and body.get("cache_salt") == "":
            return 400, {"error": {"message": "Parameter 'cache_salt' must be a non-empty string"}}
        ids = self._ids(body)
        if script.max_model_len and len(ids) + body["max_tokens"] > script.max_model_len:
            return 400, {"error": {"message": f"maximum context length is {script.max_model_len} tokens"}}
        if body["max_tokens"] > 1:
            with self._lock:
                self._answers += 1
                count = self._answers
            text = bytes(one for one in ids if one < 256).decode("latin-1")
            for part, status in script.refuse.items():
                if part in text:
                    return status, {"error": {"message": f"cannot do {part}"}}
            if script.busy >= count:
                return 503, {"error": {"message": "busy"}}
            if script.die_after is not None and count > script.die_after:
                self._http.socket.close()
                threading.Thread(target=self._http.shutdown, daemon=True).start()
                raise ConnectionAbortedError
            if script.hang_after is not None and count > script.hang_after:
                self._ended.wait(60)
                raise ConnectionAbortedError
            time.sleep(script.pause_s)
        return 200, self._document(body, ids, chat)

    def _document(self, body: dict[str, Any], ids: list[int], chat: bool) -> dict[str, Any]:
        script = self.script
        steps = [] if script.empty else list(self._steps(ids, body))
        text = bytes(token for token, _, _ in steps).decode("latin-1")
        wants = bool(body.get("logprobs")) and script.logprobs

        def name(token: int) -> str:
            return (
                f"token_id:{token}"
                if body.get("return_tokens_as_token_ids") and script.token_names
                else chr(token)
            )

        choice: dict[str, Any] = {"index": 0, "finish_reason": "length", "logprobs": None}
        beside: dict[str, Any] = {}
        if chat:
            choice["message"] = {"role": "assistant", "content": text}
            if wants:
                content = [
                    {"token": name(token), "logprob": own, "top_logprobs": [
                        {"token": name(one), "logprob": value} for one, value in top.items()]}
                    for token, own, top in steps
                ]  # fmt: skip
                choice["logprobs"] = {"content": content}
        else:
            choice["text"] = text
            if wants:
                choice["logprobs"] = {
                    "tokens": [name(token) for token, _, _ in steps],
                    "token_logprobs": [own for _, own, _ in steps],
                    "top_logprobs": [{name(one): value for one, value in top.items()} for _, _, top in steps],
                }
        target = beside if chat else choice
        if body.get("return_token_ids") and script.token_ids:
            choice["token_ids"] = [token for token, _, _ in steps]
            target["prompt_token_ids"] = ids
        if body.get("prompt_logprobs") and script.prompt_logprobs:
            target["prompt_logprobs"] = self._prompt_tops(ids)
        return {
            "model": script.model,
            "choices": [choice],
            "system_fingerprint": script.fingerprint,
            **beside,
            **script.broken,
        }

    def _steps(self, ids: list[int], body: dict[str, Any]) -> Iterator[tuple[int, float, dict[int, float]]]:
        script = self.script
        prompt = bytes(one for one in ids if one < 256).decode("latin-1")
        salt = f"{body.get('cache_salt') if script.cache_salt else ''}/{ids}"
        with self._lock:
            warm = salt in self._seen and not body.get("prompt_logprobs")
            self._seen.add(salt)
            draw = self._answers
        known = list(ids)
        for position in range(body["max_tokens"]):
            top = _distribution(known)
            ranked = sorted(top, key=lambda one: -top[one])
            if position in script.ties:
                top[ranked[1]] = top[ranked[0]] - NEAR
            if script.noise:
                for token in top:
                    top[token] += script.noise * (_fraction(f"{draw}/{position}/{token}/{id(self)}") - 0.5)
            if warm:
                top = {token: value + script.cached for token, value in top.items()}
            place, amount = next((v for k, v in script.nudge.items() if k in prompt), (-1, 0.0))
            if position == place:
                top[ranked[0]] += amount
            ranked = sorted(top, key=lambda one: -top[one])
            token = ranked[0]
            turned = script.turn_ties and position in script.ties
            if turned or any(k in prompt and position == at for k, at in script.flip.items()):
                token = ranked[1]
            if script.sampling:
                token = ranked[int(_fraction(f"{draw}/{position}") * TOP)]
            yield token, top[token], top
            known.append(token)

    def _prompt_tops(self, ids: list[int]) -> list[dict[str, Any] | None]:
        listed: list[dict[str, Any] | None] = [None]
        prompt = bytes(one for one in ids if one < 256).decode("latin-1")
        place, amount = next((v for k, v in self.script.prompt_nudge.items() if k in prompt), (-1, 0.0))
        for position in range(1, len(ids)):
            top = _distribution(ids[:position])
            top.setdefault(ids[position], -9.5)
            nudge = amount if position == place else 0.0
            listed.append({str(one): {"logprob": value + nudge, "rank": 1} for one, value in top.items()})
        return listed


def _distribution(ids: list[int]) -> dict[int, float]:
    """The likeliest tokens after these, the first ahead by half a nat at least."""
    digest = hashlib.sha256(bytes(one % 256 for one in ids)).digest()
    tokens = list(dict.fromkeys(97 + byte % 26 for byte in digest))[:TOP]
    start = -0.1 - digest[0] / 1000
    return {token: start - rank * (0.5 + digest[rank] / 512) for rank, token in enumerate(tokens)}


def _fraction(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


class _Handler(BaseHTTPRequestHandler):
    scripted: Scripted
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _serve(self, body: dict[str, Any]) -> None:
        server, script = self.scripted, self.scripted.script
        with server._lock:
            server.requests.append((self.path, body))
            server.headers.append(dict(self.headers))
            server._at_once += 1
            server.most_at_once = max(server.most_at_once, server._at_once)
        try:
            if script.garbage:
                self.wfile.write(script.garbage)
                self.close_connection = True
            elif script.redirect:
                self._send(307, {}, {"Location": script.redirect + self.path})
            elif self.path in script.denied:
                self._send(403, {"error": "Forbidden"})
            elif script.api_key and self.headers.get("Authorization") != f"Bearer {script.api_key}":
                self._send(401, {"error": "Unauthorized"})
            else:
                self._send(*server.answer(self.path, body))
        except ConnectionAbortedError:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with server._lock:
                server._at_once -= 1

    def _send(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        pass
