"""Who is asked what, in which order, and when to stop: fills an `Observation`.

Every server first says what it is. Then the reference answers every prompt: from an empty prefix cache, again
from the filled one, and once more from an empty one, so that its noise and what its prefix cache does are
known before anybody is compared to it. Then all candidates, each by itself. A candidate that differs is asked
again, and so is the reference. One request at a time per server, but for the round of ``--concurrency``.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ascendctl.consistency.answers import Answer, Step
from ascendctl.consistency.compare import compare, noise
from ascendctl.consistency.endpoint import Endpoint, EndpointError, Trouble
from ascendctl.consistency.observed import Asked, Log, Observation, Problem, Round
from ascendctl.consistency.prompts import Prompt
from ascendctl.consistency.servers import Server

ASKED_AGAIN = 3  # prompts that differ, per candidate and round
MOST_TOKEN_TEXTS = 400
_LOOK_S = 0.1


_Answers = Callable[[Log, Prompt, Asked], Awaitable[None]]


class Listener(Protocol):
    """Hears how far the asking has come; counts are prompts of one server in one round."""

    def phase(self, server: str, what: str, total: int) -> None: ...

    def advanced(self, server: str) -> None: ...


@dataclass(frozen=True)
class Limits:
    """All in seconds: of a connection, of a request, of the whole run (None: none)."""

    connect_s: float = 10.0
    request_s: float = 300.0
    run_s: float | None = None


def ask_all(
    observation: Observation,
    limits: Limits,
    listener: Listener,
    *,
    api_key: str = "",
    digests: bool = False,
    stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Ask everybody everything; returns when done, when ``stopping()``, or when the run's limit has passed.

    What was learned is in the observation in every case, and it says why it is not whole.
    """
    asyncio.run(_bounded(observation, limits, listener, api_key, digests, stopping))


async def _bounded(
    observation: Observation,
    limits: Limits,
    listener: Listener,
    api_key: str,
    digests: bool,
    stopping: Callable[[], bool],
) -> None:
    until_s = None if limits.run_s is None else time.monotonic() + limits.run_s
    async with contextlib.AsyncExitStack() as stack:
        endpoints = {
            log.server: await stack.enter_async_context(
                Endpoint(
                    log.server,
                    api_key=api_key,
                    connect_timeout_s=limits.connect_s,
                    timeout_s=limits.request_s,
                )
            )
            for log in (observation.reference, *observation.candidates)
        }
        work = asyncio.ensure_future(_Asking(observation, endpoints, listener, digests).everything())
        while not work.done():
            await asyncio.wait([work], timeout=_LOOK_S)
            if stopping():
                observation.interrupted = True
            elif until_s is not None and time.monotonic() > until_s:
                observation.stopped = f"the run's limit of {limits.run_s:g} s has passed"
            if (observation.interrupted or observation.stopped) and not work.done():
                work.cancel()
                await asyncio.wait([work])
        if not work.cancelled():
            work.result()


class _Asking:
    def __init__(
        self, seen: Observation, endpoints: dict[Server, Endpoint], listener: Listener, digests: bool
    ) -> None:
        self._seen = seen
        self._endpoints = endpoints
        self._listener = listener
        self._digests = digests
        self._again = asyncio.Lock()

    async def everything(self) -> None:
        seen = self._seen
        logs = (seen.reference, *seen.candidates)
        await _all(self._introduced(log) for log in logs)
        if not _usable(seen.reference):
            return
        await _all(self._tokenised(log) for log in logs)
        self._leave_out()
        for round_ in seen.rounds:
            await self._reference(round_)
            # Other servers, so that asking them at the same time changes nothing for any of them.
            await _all(self._candidate(log, round_) for log in seen.candidates)
        await self._name_tokens()
        if self._digests:
            await _all(self._digested(log) for log in logs)

    async def _introduced(self, log: Log) -> None:
        self._listener.phase(log.server.name, "what it is", 0)
        with self._noting(log):
            log.facts = await self._endpoint(log).facts(self._seen.wanted_model)

    async def _tokenised(self, log: Log) -> None:
        if log.facts is None or not log.facts.tokenizes:
            return
        for prompt in self._seen.prompts:
            if not _usable(log):
                return
            with self._noting(log):
                ids = await self._endpoint(log).tokenized(log.facts.model, prompt)
                log.prompt_ids[prompt.id] = ids

    def _leave_out(self) -> None:
        """Note the prompts that cannot be asked here, before anybody is asked them."""
        seen = self._seen
        facts = seen.reference.facts
        assert facts is not None
        limits = [log.facts.max_model_len for log in (seen.reference, *seen.candidates) if log.facts]
        room = min((limit for limit in limits if limit is not None), default=None)
        for prompt in seen.prompts:
            route = facts.chat if prompt.chat else facts.completions
            length = len(seen.reference.prompt_ids.get(prompt.id, ()))
            if route.refused:
                kind = "chats" if prompt.chat else "completions"
                seen.left_out[prompt.id] = f"the reference takes no {kind}: {route.refused}"
            elif room is not None and length + seen.max_tokens > room:
                seen.left_out[prompt.id] = (
                    f"{length:,} tokens and {seen.max_tokens} to generate exceed max_model_len {room:,}"
                )

    async def _reference(self, round_: Round) -> None:
        log = self._seen.reference
        prompts = [prompt for prompt in self._seen.prompts if prompt.id not in self._seen.left_out]
        await self._round(log, round_, prompts, "against itself", self._reference_answers)
        if any(noise(asked.measured) != 0 for _, asked in _of_round(log, round_)):
            await self._round(log, round_, prompts, "its noise", self._one_more)

    async def _candidate(self, log: Log, round_: Round) -> None:
        known = {key for key, asked in _of_round(self._seen.reference, round_) if asked.measured}
        prompts = [prompt for prompt in self._seen.prompts if prompt.id in known]
        await self._round(log, round_, prompts, "compared", self._candidate_answers)
        if any(noise(asked.measured) != 0 for _, asked in _of_round(self._seen.reference, round_)):
            await self._round(log, round_, prompts, "its noise", self._one_more)
        if round_ is Round.ALONE:
            # One at a time, several candidates included: batched, the reference might answer otherwise.
            async with self._again:
                await self._ask_again(log, round_, prompts)

    async def _ask_again(self, log: Log, round_: Round, prompts: Sequence[Prompt]) -> None:
        """A difference is only blamed on a candidate while the reference still answers as it did."""
        differing = [prompt for prompt in prompts if self._differs(log, round_, prompt)][:ASKED_AGAIN]
        for prompt in differing:
            if _usable(log):
                asked = log.asked(round_, prompt)
                with self._noting(log):
                    asked.again = await self._answer(log, prompt, measured=True)
            if _usable(self._seen.reference):
                await self._one_more(self._seen.reference, prompt, self._seen.reference.asked(round_, prompt))

    def _differs(self, log: Log, round_: Round, prompt: Prompt) -> bool:
        ours = self._seen.reference.asked(round_, prompt).measured
        theirs = log.asked(round_, prompt).measured
        return bool(ours and theirs) and not compare(ours[0], theirs[0]).exact

    # --- a round ---

    async def _round(
        self, log: Log, round_: Round, prompts: Sequence[Prompt], what: str, answers: _Answers
    ) -> None:
        if not _usable(log):
            return
        self._listener.phase(log.server.name, f"{what}, {round_.value}", len(prompts))
        room = asyncio.Semaphore(self._seen.concurrency if round_ is Round.TOGETHER else 1)

        async def one(prompt: Prompt) -> None:
            async with room:
                if _usable(log):
                    await answers(log, prompt, log.asked(round_, prompt))
                    self._listener.advanced(log.server.name)

        await _all(one(prompt) for prompt in prompts)

    async def _reference_answers(self, log: Log, prompt: Prompt, asked: Asked) -> None:
        salted = self._seen.salted(chat=prompt.chat)
        with self._noting(log, asked):
            if salted:
                salt = _salt()
                asked.measured.append(await self._answer(log, prompt, measured=True, salt=salt))
                asked.other = await self._answer(log, prompt, measured=False, salt=salt)
            else:
                asked.other = await self._answer(log, prompt, measured=False)
                asked.measured.append(await self._answer(log, prompt, measured=True))
            asked.measured.append(await self._answer(log, prompt, measured=True))

    async def _candidate_answers(self, log: Log, prompt: Prompt, asked: Asked) -> None:
        with self._noting(log, asked):
            if not self._seen.salted(chat=prompt.chat):
                asked.other = await self._answer(log, prompt, measured=False)
            asked.measured.append(await self._answer(log, prompt, measured=True))

    async def _one_more(self, log: Log, prompt: Prompt, asked: Asked) -> None:
        if asked.measured:
            with self._noting(log):
                asked.measured.append(await self._answer(log, prompt, measured=True))

    async def _answer(self, log: Log, prompt: Prompt, *, measured: bool, salt: str = "") -> Answer:
        assert log.facts is not None
        return await self._endpoint(log).complete(
            log.facts,
            prompt,
            # To everybody the ids of the reference: a tokenizer that differs is found by itself.
            self._seen.reference.prompt_ids.get(prompt.id),
            self._seen.max_tokens,
            salt=(salt or _salt()) if self._seen.salted(chat=prompt.chat) else None,
            prompt_logprobs=measured,
        )

    # --- afterwards ---

    async def _name_tokens(self) -> None:
        """What the tokens read as where answers part, for a report's reader."""
        log = self._seen.reference
        wanted = [token for token in self._parting_tokens() if token.isdigit()][:MOST_TOKEN_TEXTS]
        for token in wanted:
            if not _usable(log) or log.facts is None:
                return
            with self._noting(log):
                text = await self._endpoint(log).token_text(log.facts.model, int(token))
                self._seen.token_texts[token] = text

    def _parting_tokens(self) -> Iterator[str]:
        """First the tokens that answers chose where they part, then the other likely ones there."""
        parting: list[tuple[Step, Step]] = []
        for log in self._seen.candidates:
            for key, asked in log.answers.items():
                ours = self._seen.reference.answers.get(key, Asked()).measured
                if not ours or not asked.measured:
                    continue
                found = compare(ours[0], asked.measured[0]).divergence
                steps = (ours[0].steps, asked.measured[0].steps)
                if found and found.by_token and all(found.position < len(side) for side in steps):
                    parting.append((steps[0][found.position], steps[1][found.position]))
        chosen = [step.token for pair in parting for step in pair]
        likely = [token for pair in parting for step in pair for token in step.top]
        yield from dict.fromkeys([*chosen, *likely])

    async def _digested(self, log: Log) -> None:
        if not _usable(log):
            return
        self._listener.phase(log.server.name, "SHA-256 of its weights", 0)
        try:
            log.digests = await self._endpoint(log).weight_digests()
        except EndpointError as error:
            log.digest_problem = str(error)

    # --- one server ---

    def _endpoint(self, log: Log) -> Endpoint:
        return self._endpoints[log.server]

    @contextlib.contextmanager
    def _noting(self, log: Log, asked: Asked | None = None) -> Iterator[None]:
        """What could not be learned is noted where it belongs; the asking goes on."""
        try:
            yield
        except EndpointError as error:
            problem = Problem(str(error), error.remedy)
            if error.of_server or log.facts is None:
                log.lost = problem
            if asked is not None:
                asked.problem = problem
                asked.too_long = error.trouble is Trouble.TOO_LONG


def _usable(log: Log) -> bool:
    return log.lost is None and log.facts is not None and bool(log.facts.model)


def _of_round(log: Log, round_: Round) -> Iterator[tuple[str, Asked]]:
    return ((prompt, asked) for (of, prompt), asked in log.answers.items() if of is round_)


def _salt() -> str:
    return secrets.token_hex(16)


async def _all(tasks: Iterable[Awaitable[None]]) -> None:
    """All of them at the same time; the first unexpected error ends the others."""
    running = [asyncio.ensure_future(task) for task in tasks]
    try:
        await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
