"""The API of the engine stand-in: what an OpenAI-style server of vLLM answers, from its weights' digest.

Every answer is a function of the prompt and of that digest; other weights, another answer. Bytes are tokens.
Standard library only: this runs on a host, beside `engine_standin`.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import itertools
import json
import socketserver
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VERSION = "0.13.0"
TOP = 5
Step = tuple[int, dict[int, float]]


class Api(ThreadingHTTPServer):
    """Binds when it is made and listens from `ready` on, as vLLM does. Raises OSError where it cannot."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], *, model: str, name: str, most_tokens: int, api_key: str, flaky: bool
    ) -> None:
        super().__init__(address, _Handler, bind_and_activate=False)
        self.model, self.name, self.most_tokens = model, name, most_tokens
        self.api_key, self.flaky = api_key, flaky
        self.fingerprint = ""
        self._digest = b""
        self._requests = itertools.count()
        # Not HTTPServer's: that asks the name service for the name of the address.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = address[0], int(self.server_address[1])

    def ready(self, digest: str, fingerprint: str) -> None:
        self._digest, self.fingerprint = digest.encode(), fingerprint
        self.server_activate()

    # --- what it answers ---

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/health":
            return 200, None
        if path == "/version":
            return 200, {"version": VERSION}
        if path == "/v1/models":
            card = {
                "id": self.name,
                "object": "model",
                "root": self.model,
                "parent": None,
            }
            return 200, {"object": "list", "data": [{**card, "max_model_len": self.most_tokens}]}
        if path == "/tokenize":
            tokens = _tokens(body)
            return 200, {"count": len(tokens), "max_model_len": self.most_tokens, "tokens": tokens}
        if path == "/detokenize":
            return 200, {"prompt": bytes(body["tokens"]).decode("latin-1")}
        if path in ("/v1/completions", "/v1/chat/completions"):
            return self._completed(body, chat=path.endswith("chat/completions"))
        return 404, {"detail": "Not Found"}

    def _completed(self, body: dict[str, Any], *, chat: bool) -> tuple[int, Any]:
        if body.get("model", self.name) != self.name:
            return _refused(404, f"The model `{body['model']}` does not exist.")
        if body.get("cache_salt") == "":
            return _refused(400, "Parameter 'cache_salt' must be a non-empty string if provided.")
        tokens, most = _tokens(body), int(body.get("max_tokens") or 16)
        if len(tokens) + most > self.most_tokens:
            return _refused(400, f"This model's maximum context length is {self.most_tokens} tokens.")
        draw = str(next(self._requests)).encode() if self.flaky else b""
        steps = list(itertools.islice(self._steps(tokens, draw), most))
        return 200, self._document(body, tokens, steps, chat)

    def _steps(self, tokens: Sequence[int], draw: bytes) -> Iterator[Step]:
        """Token and the likeliest ones, for as long as is asked for."""
        so_far = hashlib.sha256(self._digest + draw + bytes(tokens))
        while True:
            top = _top(so_far.digest())
            token = max(top, key=lambda one: top[one])
            yield token, top
            so_far.update(bytes([token]))

    def _prompt_tops(self, tokens: Sequence[int]) -> list[dict[str, Any] | None]:
        so_far, told = hashlib.sha256(self._digest), []
        for at, token in enumerate(tokens):
            top = {token: -9.5, **_top(so_far.digest())}
            shown = {
                str(one): {"logprob": value, "rank": rank, "decoded_token": chr(one)}
                for rank, (one, value) in enumerate(top.items(), start=1)
            }
            told.append(shown if at else None)
            so_far.update(bytes([token]))
        return told

    def _document(
        self, body: dict[str, Any], tokens: list[int], steps: list[Step], chat: bool
    ) -> dict[str, Any]:
        def name(token: int) -> str:
            return f"token_id:{token}" if body.get("return_tokens_as_token_ids") else chr(token)

        text = "".join(chr(token) for token, _ in steps)
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length", "logprobs": None}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        if body.get("logprobs"):
            choice["logprobs"] = _chat_logprobs(steps, name) if chat else _logprobs(steps, name)
        document: dict[str, Any] = {
            "id": "cmpl-0",
            "object": "chat.completion" if chat else "text_completion",
            "model": self.name,
            "choices": [choice],
            "system_fingerprint": self.fingerprint,
            "usage": {"prompt_tokens": len(tokens), "completion_tokens": len(steps)},
        }
        # vLLM puts these beside the choices of a chat, and inside the choice of a completion.
        target = document if chat else choice
        if body.get("return_token_ids"):
            choice["token_ids"] = [token for token, _ in steps]
            target["prompt_token_ids"] = tokens
        if body.get("prompt_logprobs"):
            target["prompt_logprobs"] = self._prompt_tops(tokens)
        return document


def _tokens(body: dict[str, Any]) -> list[int]:
    prompt = body.get("prompt")
    if prompt is None:
        prompt = "".join(f"<|{one['role']}|>{one['content']}" for one in body["messages"])
    return list(prompt) if isinstance(prompt, list) else list(str(prompt).encode())


def _top(digest: bytes) -> dict[int, float]:
    """The likeliest tokens, letters, the first ahead by half a nat at least."""
    tokens = list(dict.fromkeys(97 + byte % 26 for byte in digest))[:TOP]
    first = -0.1 - digest[0] / 1000
    return {token: first - rank * (0.5 + digest[rank] / 512) for rank, token in enumerate(tokens)}


def _logprobs(steps: list[Step], name: Any) -> dict[str, Any]:
    return {
        "tokens": [name(token) for token, _ in steps],
        "token_logprobs": [top[token] for token, top in steps],
        "top_logprobs": [{name(one): value for one, value in top.items()} for _, top in steps],
    }


def _chat_logprobs(steps: list[Step], name: Any) -> dict[str, Any]:
    content = [
        {
            "token": name(token),
            "logprob": top[token],
            "top_logprobs": [{"token": name(one), "logprob": value} for one, value in top.items()],
        }
        for token, top in steps
    ]
    return {"content": content}


def _refused(status: int, message: str) -> tuple[int, Any]:
    return status, {"error": {"message": message, "code": status}}


class _Handler(BaseHTTPRequestHandler):
    server: Api
    protocol_version = "HTTP/1.1"
    # Head and body in one piece: else each answer waits for the peer's delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(content or b"{}")
        except ValueError:
            self._send(400, {"detail": "JSON decode error"})
            return
        self._serve(body)

    def _serve(self, body: dict[str, Any]) -> None:
        wanted = f"Bearer {self.server.api_key}"
        given = self.headers.get("Authorization") or ""
        if (
            self.server.api_key
            and self.path.startswith("/v1")
            and not hmac.compare_digest(given.encode(), wanted.encode())
        ):
            self._send(401, {"error": "Unauthorized"})
            return
        try:
            status, document = self.server.answer(self.path.partition("?")[0], body)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            status, document = _refused(400, f"{type(error).__name__}: {error}")
        self._send(status, document)

    def _send(self, status: int, document: Any) -> None:
        content = b"" if document is None else json.dumps(document).encode()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        pass
