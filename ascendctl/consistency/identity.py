"""Whether two servers are the same thing before any answer is looked at: model, tokenizer, setup, weights."""

from __future__ import annotations

import hashlib

from ascendctl.consistency.observed import Log, Observation
from ascendctl.consistency.servers import ServerFacts
from ascendctl.results import Result, Status, Subject

# What a digest of a weight without a single element is: prepacked weights on CPU are kept elsewhere.
_NOTHING = hashlib.sha256(b"").hexdigest()
_MOST_NAMED = 4


def model(log: Log, seen: Observation, subject: Subject) -> Result:
    """The model asked for; another name than the reference's is told, and left to the answers to judge."""
    facts, reference = log.facts, seen.reference.facts
    assert facts is not None
    if not facts.model:
        return Result(
            "model",
            subject,
            Status.FAIL,
            f"does not serve the model {seen.wanted_model!r}, but {_named(facts.served)}",
            expected=str(seen.wanted_model),
            actual=", ".join(facts.served),
            remedy="Name the model with --model as the server lists it, or start the server with it.",
        )
    if log is seen.reference or reference is None or facts.model == reference.model:
        return Result("model", subject, Status.PASS, f"serves {facts.model!r}")
    return Result(
        "model",
        subject,
        Status.WARN,
        f"serves a model of another name: {facts.model!r}, the reference {reference.model!r}",
        expected=reference.model,
        actual=facts.model,
        remedy="Where that is the same model, give both the same --served-model-name.",
    )


def configuration(facts: ServerFacts, reference: ServerFacts, subject: Subject) -> Result:
    """Version, fingerprint, dtype and what else both tell; a difference explains, it does not decide."""
    ours, theirs = reference.told(), facts.told()
    both = [name for name in ours if name in theirs]
    if not both:
        return Result(
            "configuration", subject, Status.NOT_APPLICABLE, "the servers tell nothing of their setup"
        )
    differing = [name for name in both if ours[name] != theirs[name]]
    if not differing:
        return Result("configuration", subject, Status.PASS, f"equal: {', '.join(both)}")
    if (
        differing == ["fingerprint"]
        and facts.root != reference.root
        and facts.settings
        and reference.settings
    ):
        # vLLM hashes the path of the model into it, and what else matters was told beside it.
        equal = ", ".join(name for name in both if name != "fingerprint")
        return Result(
            "configuration",
            subject,
            Status.PASS,
            f"equal: {equal}; the fingerprints differ, in which vLLM has the model's path: "
            f"{facts.root}, the reference {reference.root}",
        )
    return Result(
        "configuration",
        subject,
        Status.WARN,
        "set up differently: "
        + "; ".join(f"{name} {theirs[name]}, the reference {ours[name]}" for name in differing),
        expected="; ".join(f"{name} {ours[name]}" for name in differing),
        actual="; ".join(f"{name} {theirs[name]}" for name in differing),
        consequence="logprobs may differ for that reason alone",
        remedy="Start both with the same version and options, then ask again.",
    )


def tokenizer(log: Log, seen: Observation, subject: Subject) -> Result:
    """The same token ids for the same texts and chats, by /tokenize and by what answers say of prompts."""
    ours, theirs = _prompt_ids(seen.reference, seen), _prompt_ids(log, seen)
    both = [name for name in ours if name in theirs]
    if not both:
        return Result(
            "tokenizer", subject, Status.NOT_APPLICABLE, "no token ids of prompts told by both to compare"
        )
    differing = [name for name in both if ours[name] != theirs[name]]
    if not differing:
        return Result("tokenizer", subject, Status.PASS, f"the same token ids for {len(both)} prompts")
    return Result(
        "tokenizer",
        subject,
        Status.FAIL,
        f"other token ids than the reference's for {len(differing)} of {len(both)} prompts: "
        + _named(tuple(differing)),
        expected="the same tokenizer and chat template",
        remedy="Compare tokenizer.json, tokenizer_config.json and the chat template of both model folders.",
    )


def weights(log: Log, reference: Log, subject: Subject) -> Result:
    """Digests of /weight_checker, where they mean something: a prepacked weight on CPU leaves none."""
    ours, theirs = reference.digests, log.digests
    if ours is None or theirs is None:
        problem = log.digest_problem or reference.digest_problem or "the reference told none"
        return Result("weights", subject, Status.NOT_APPLICABLE, f"no weight digests: {problem}")
    if ours.keys() != theirs.keys():
        return Result(
            "weights",
            subject,
            Status.NOT_APPLICABLE,
            f"weight digests of other parameters ({len(theirs)}) than the reference's ({len(ours)}): split "
            "or laid out differently",
        )
    differing = tuple(name for name in ours if ours[name] != theirs[name])
    blind = sum(digest == _NOTHING for digest in ours.values())
    if differing:
        return Result(
            "weights",
            subject,
            Status.FAIL,
            f"{len(differing)} of {len(ours)} weights have another SHA-256: {_named(differing)}",
            expected="the reference's weights",
            remedy="Load this server's weights again, from the reference or from a verified folder.",
        )
    if blind:
        return Result(
            "weights",
            subject,
            Status.NOT_APPLICABLE,
            f"equal digests, but {blind} of {len(ours)} are of weights kept elsewhere: they prove nothing",
        )
    return Result("weights", subject, Status.PASS, f"the SHA-256 of all {len(ours)} parameters is equal")


def _prompt_ids(log: Log, seen: Observation) -> dict[str, tuple[int, ...]]:
    """By prompt: of /tokenize, else what the answer to its text told. (Ids that were sent come back.)"""
    sent = {prompt.id for prompt in seen.prompts if not prompt.chat} & seen.reference.prompt_ids.keys()
    told: dict[str, tuple[int, ...]] = {}
    for (_, prompt), asked in log.answers.items():
        ids = asked.measured[0].prompt_ids if asked.measured and prompt not in sent else None
        if ids is not None:
            told[prompt] = ids
    return {**told, **log.prompt_ids}


def _named(names: tuple[str, ...]) -> str:
    shown = ", ".join(repr(name) for name in names[:_MOST_NAMED])
    more = len(names) - _MOST_NAMED
    return f"{shown} and {more} more" if more > 0 else shown
