"""One server's HTTP API: bounded requests, answers read, failures as sentences.

Proxy variables are ignored and redirects are not followed: what is asked is the server that was named.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from enum import Enum
from types import TracebackType
from typing import Any

import httpx

from ascendctl.consistency.answers import Answer, AnswerError, Naming, read_answer
from ascendctl.consistency.prompts import Prompt
from ascendctl.consistency.requests import chat_body, completion_body, messages_of
from ascendctl.consistency.servers import Feature, Route, Server, ServerFacts, settings_of

MOST_ANSWER_BYTES = 256 << 20
PROBE_LIMIT_S = 60.0  # one question of a handful of tokens; less where --timeout is
DIGEST_LIMIT_S = 900.0  # SHA-256 of all weights: 1.5 GB/s per worker
_RETRIES_AFTER_S = (1.0, 3.0)
_BUSY = frozenset({429, 502, 503, 504})
# vLLM's wording of a prompt that does not fit, through its versions.
_TOO_LONG = re.compile(r"maximum (context|model) length|longer than the maximum|max_model_len", re.IGNORECASE)


class Trouble(str, Enum):
    """Of the server as a whole, or that it does not let us in; of this one request, or a prompt
    too long for it."""

    SERVER = "server"
    DENIED = "denied"
    REQUEST = "request"
    TOO_LONG = "too long"


class EndpointError(Exception):
    """A request had no usable answer. The message says what happened, ``remedy`` what to do."""

    def __init__(self, message: str, remedy: str = "", trouble: Trouble = Trouble.REQUEST) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.trouble = trouble

    @property
    def of_server(self) -> bool:
        """Whether there is no point in asking it anything more."""
        return self.trouble in (Trouble.SERVER, Trouble.DENIED)


class Endpoint:
    """The API of one server. Use as an async context manager.

    ``timeout_s`` bounds a whole request, ``connect_timeout_s`` its connection. The key is sent to this
    server only: redirects are not followed.
    """

    def __init__(
        self, server: Server, *, api_key: str = "", connect_timeout_s: float, timeout_s: float
    ) -> None:
        self.server = server
        self._timeout_s = timeout_s
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.AsyncClient(
            base_url=server.url,
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=connect_timeout_s),
            # Certificates are checked wherever there are any; to load them for nothing takes its time.
            verify=server.url.startswith("https:"),
            trust_env=False,
            follow_redirects=False,
        )

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    # --- questions ---

    async def facts(self, wanted_model: str | None) -> ServerFacts:
        """What the server is and can. ``wanted_model``: the one to ask, else its first that is no adapter.

        Where it does not serve the wanted one, ``model`` is empty and nothing more is asked. Raises
        EndpointError where it does not answer as such a server.
        """
        cards = _cards(await self._get("/v1/models"))
        served = tuple(str(card["id"]) for card in cards)
        base = [card for card in cards if not card.get("parent")] or cards
        chosen = next((card for card in cards if card["id"] == wanted_model), None)
        if wanted_model is None:
            chosen = base[0]
        if chosen is None:
            return ServerFacts(model="", served=served)
        model = str(chosen["id"])
        version = _mapping_or_empty(await self._optional(self._get("/version"))).get("version")
        config = _mapping_or_empty(await self._optional(self._get("/server_info"))).get("vllm_config")
        ids = await self._optional(self.tokenized(model, Prompt("probe", text="Hello")))
        found: dict[str, Answer] = {}

        async def completion(features: Collection[Feature], salt: str | None) -> Answer:
            body = completion_body(model, ids or "Hello", 1, features, salt=salt)
            found["completion"] = await self._answer("/v1/completions", body, chat=False, probe=True)
            return found["completion"]

        async def chat(features: Collection[Feature], salt: str | None) -> Answer:
            prompt = Prompt("probe", messages=(("user", "Hello"),))
            body = chat_body(model, prompt, 1, features, salt=salt)
            return await self._answer("/v1/chat/completions", body, chat=True, probe=True)

        by_completion = await _explored(completion)
        by_chat = await _explored(chat)
        if by_completion.refused and by_chat.refused:
            raise EndpointError(by_completion.refused, "Ask it by hand, with curl, and look at its log.")
        return ServerFacts(
            model=model,
            served=served,
            root=chosen.get("root") if isinstance(chosen.get("root"), str) else None,
            max_model_len=_count_or_none(chosen.get("max_model_len")),
            version=version if isinstance(version, str) else None,
            fingerprint=found["completion"].fingerprint if found else None,
            settings=settings_of(config) if isinstance(config, str) else {},
            tokenizes=ids is not None,
            completions=by_completion,
            chat=by_chat,
        )

    async def tokenized(self, model: str, prompt: Prompt) -> tuple[int, ...]:
        """The token ids of a prompt as the server's tokenizer and chat template make them.

        Raises EndpointError.
        """
        body: dict[str, Any] = {"model": model}
        body |= {"messages": messages_of(prompt)} if prompt.chat else {"prompt": prompt.text}
        ids = _mapping_or_empty(await self._post("/tokenize", body, PROBE_LIMIT_S)).get("tokens")
        if not isinstance(ids, list) or not all(type(one) is int for one in ids):
            raise EndpointError("/tokenize answered without a list of token ids")
        return tuple(ids)

    async def token_text(self, model: str, token: int) -> str:
        """What one token reads as. Raises EndpointError."""
        body = {"model": model, "tokens": [token]}
        text = _mapping_or_empty(await self._post("/detokenize", body, PROBE_LIMIT_S)).get("prompt")
        if not isinstance(text, str):
            raise EndpointError("/detokenize answered without a text")
        return text

    async def complete(
        self,
        facts: ServerFacts,
        prompt: Prompt,
        ids: Sequence[int] | None,
        max_tokens: int,
        *,
        salt: str | None,
        prompt_logprobs: bool,
    ) -> Answer:
        """The answer to a prompt, as token ids where they are known. Raises EndpointError."""
        if prompt.chat:
            features = facts.chat.features
            body = chat_body(
                facts.model, prompt, max_tokens, features, salt=salt, prompt_logprobs=prompt_logprobs
            )
            return await self._answer("/v1/chat/completions", body, chat=True)
        features = facts.completions.features
        asked = prompt.text if ids is None else ids
        body = completion_body(
            facts.model, asked, max_tokens, features, salt=salt, prompt_logprobs=prompt_logprobs
        )
        return await self._answer("/v1/completions", body, chat=False)

    async def weight_digests(self) -> Mapping[str, str]:
        """SHA-256 of every parameter by its name (vLLM 0.32's /weight_checker). Raises EndpointError."""
        answer = _mapping_or_empty(
            await self._post("/weight_checker", {"action": "checksum"}, DIGEST_LIMIT_S)
        )
        sums = answer.get("checksums")
        if not isinstance(sums, dict) or not all(isinstance(one, str) for one in sums.values()):
            raise EndpointError("/weight_checker answered without checksums")
        return sums

    # --- requests ---

    async def _answer(self, path: str, body: Mapping[str, Any], *, chat: bool, probe: bool = False) -> Answer:
        limit_s = min(PROBE_LIMIT_S, self._timeout_s) if probe else self._timeout_s
        content = await self._post(path, body, limit_s)
        try:
            return read_answer(content, chat=chat)
        except AnswerError as error:
            raise EndpointError(f"{path} answered what no OpenAI-style server does: {error}") from error

    async def _optional(self, question: Awaitable[Any]) -> Any:
        """The answer, or None from a server that has no such route or refuses it."""
        try:
            return await question
        except EndpointError as error:
            if error.trouble is Trouble.SERVER:
                raise
            return None

    async def _get(self, path: str) -> Any:
        return await self._asked("GET", path, None, min(PROBE_LIMIT_S, self._timeout_s))

    async def _post(self, path: str, body: Mapping[str, Any], limit_s: float) -> Any:
        return await self._asked("POST", path, body, limit_s)

    async def _asked(self, method: str, path: str, body: Mapping[str, Any] | None, limit_s: float) -> Any:
        """The JSON of a 200. A busy server is asked again, and a connection gone stale is renewed."""
        for wait_s in (*_RETRIES_AFTER_S, None):
            try:
                status, content, place = await asyncio.wait_for(self._exchanged(method, path, body), limit_s)
            except (asyncio.TimeoutError, httpx.TimeoutException) as error:
                raise _timed_out(error, limit_s) from error
            except httpx.ConnectError as error:
                raise EndpointError(
                    f"no connection: {_words(error)}",
                    "Is the server running, and is this its address and port?",
                    Trouble.SERVER,
                ) from error
            except httpx.TransportError as error:
                if wait_s is None:
                    raise EndpointError(
                        f"the connection broke: {_words(error)}", "Look at the server's log.", Trouble.SERVER
                    ) from error
            else:
                if status not in _BUSY or wait_s is None:
                    return _judged(status, content, place, path)
            assert wait_s is not None  # else it was returned or raised above
            await asyncio.sleep(wait_s)
        raise AssertionError("unreachable")

    async def _exchanged(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> tuple[int, bytes, str]:
        async with self._client.stream(method, path, json=body) as response:
            content = bytearray()
            async for part in response.aiter_bytes():
                content += part
                if len(content) > MOST_ANSWER_BYTES:
                    raise EndpointError(f"{path} answered more than {MOST_ANSWER_BYTES >> 20} MiB")
            return response.status_code, bytes(content), response.headers.get("location", "")


_Ask = Callable[[Collection[Feature], str | None], Awaitable[Answer]]


async def _explored(ask: _Ask) -> Route:
    """Which features a route takes and heeds, found by asking for one more at a time."""
    try:
        await ask((), None)
    except EndpointError as error:
        if error.of_server:
            raise
        return Route(refused=str(error))
    known: set[Feature] = set()
    for feature in Feature:
        if await _heeded(ask, known, feature):
            known.add(feature)
    return Route(frozenset(known))


async def _heeded(ask: _Ask, known: set[Feature], feature: Feature) -> bool:
    try:
        answer = await ask({*known, feature}, "ascendctl")
    except EndpointError as error:
        if error.of_server:
            raise
        return False
    if feature is Feature.LOGPROBS:
        return answer.has_logprobs
    if feature is Feature.TOKEN_IDS:
        return answer.prompt_ids is not None or answer.naming is Naming.IDS
    if feature is Feature.PROMPT_LOGPROBS:
        return answer.prompt_tops is not None
    if feature is Feature.CACHE_SALT:
        # Who does not know it ignores it. Who knows it refuses an empty one.
        return not await _taken(ask, {*known, feature}, "")
    return True


async def _taken(ask: _Ask, features: Collection[Feature], salt: str) -> bool:
    try:
        await ask(features, salt)
    except EndpointError as error:
        if error.of_server:
            raise
        return False
    return True


def _judged(status: int, content: bytes, place: str, path: str) -> Any:
    if 300 <= status < 400:
        raise EndpointError(
            f"{path} answered HTTP {status}, a redirect to {_shortened(place)}",
            "Name the server it leads to: a redirect is not followed.",
            Trouble.DENIED,
        )
    if status in (401, 403):
        raise EndpointError(
            f"{path} answered HTTP {status}: the API key is missing or wrong",
            "Give it with --api-key-env or --api-key-command.",
            Trouble.DENIED,
        )
    if status != 200:
        said = _said(content)
        trouble = Trouble.TOO_LONG if status in (400, 422) and _TOO_LONG.search(said) else Trouble.REQUEST
        raise EndpointError(f"{path} answered HTTP {status}: {_shortened(said)}", "Look at its log.", trouble)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        begin = _shortened(content.decode("utf-8", "replace"))
        raise EndpointError(
            f"{path} answered HTTP 200 with what is no JSON: {begin}",
            "Is this the port of the API?",
        ) from error


def _timed_out(error: Exception, limit_s: float) -> EndpointError:
    if isinstance(error, httpx.ConnectTimeout):
        return EndpointError(
            "no connection within the limit",
            "Is the server running, and does a firewall let this through?",
            Trouble.SERVER,
        )
    return EndpointError(
        f"no whole answer within {limit_s:g} s",
        "Give it longer with --timeout, or look at what the server does.",
        Trouble.SERVER,
    )


def _cards(answer: Any) -> list[Mapping[str, Any]]:
    data = _mapping_or_empty(answer).get("data")
    if not isinstance(data, list) or not data:
        raise EndpointError("/v1/models lists no model", "Is this an OpenAI-style server, fully started?")
    if not all(isinstance(card, dict) and isinstance(card.get("id"), str) for card in data):
        raise EndpointError("/v1/models lists something that is no model", "Is this an OpenAI-style server?")
    return data


def _said(content: bytes) -> str:
    text = content.decode("utf-8", "replace")
    try:
        document = _mapping_or_empty(json.loads(text))
    except (ValueError, RecursionError):
        return text
    inner = document.get("error", document)
    message = inner.get("message", inner.get("detail")) if isinstance(inner, dict) else inner
    return message if isinstance(message, str) else text


def _shortened(text: str, most: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]} …"


def _words(error: Exception) -> str:
    return _shortened(str(error)) or type(error).__name__


def _mapping_or_empty(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count_or_none(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None
