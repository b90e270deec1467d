"""Scripted servers, asked and judged: every way a candidate can differ, and every way not to blame it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ascendctl.consistency.asking import Limits
from ascendctl.consistency.prompts import Prompt
from ascendctl.results import ExitCode, Status, exit_code
from tests.consistency.runs import MAX_TOKENS, PROMPTS, WORDS, Judged, asked_and_judged
from tests.consistency.scripted import NEAR, Script, Scripted

GOOD = Script()


def code_of(found: Judged, **given: Any) -> ExitCode:
    return exit_code(found.run.results, interrupted=found.run.interrupted, **given)


def verdict_of(found: Judged) -> str:
    return found.run.candidates[0].verdict.value


def changed(**entries: Any) -> Script:
    return dataclasses.replace(GOOD, **entries)


# What a candidate does, the verdict, the exit code, and what is said of it.
CANDIDATES = [
    pytest.param({}, "identical", 0, "4 of 4 prompts: exactly equal answers", id="the-same"),
    pytest.param({"flip": {"bravo": 5}}, "different", 1, "1 of 4 answers part", id="one-token-at-position-5"),
    pytest.param(
        {"nudge": {"delta": (3, 1e-7)}}, "different", 1, "differ in logprobs only", id="one-logprob-by-1e-7"
    ),
    pytest.param(
        {"prompt_nudge": {"alpha": (4, 1e-7)}},
        "different",
        1,
        "differ in logprobs only",
        id="one-prompt-logprob-by-1e-7",
    ),
    pytest.param({"shift": 1}, "different", 1, "other token ids than the reference's", id="other-tokenizer"),
    pytest.param(
        {"model": "other"}, "identical", 0, "serves a model of another name: 'other'", id="another-name"
    ),
    pytest.param(
        {"fingerprint": "vllm-0.32.0-tp2-ffff0000"}, "identical", 0, "tp2-ffff0000", id="other-fingerprint"
    ),
    pytest.param({"version": "0.11.0"}, "identical", 0, "vLLM 0.11.0, the reference 0.32.0", id="version"),
    pytest.param({"logprobs": False}, "identical", 0, "rests on tokens alone", id="no-logprobs"),
    pytest.param(
        {"logprobs": False, "token_ids": False, "token_names": False, "prompt_logprobs": False},
        "identical",
        0,
        "rests on text alone: the candidate tells no logprobs",
        id="text-alone",
    ),
    pytest.param({"prompt_logprobs": False}, "identical", 0, "exactly equal", id="no-prompt-logprobs"),
    pytest.param({"cache_salt": False}, "identical", 0, "exactly equal", id="no-cache-salt"),
    pytest.param({"tokenize": False}, "identical", 0, "exactly equal", id="no-tokenize"),
    pytest.param({"token_ids": False}, "identical", 0, "exactly equal", id="no-token-ids"),
    pytest.param({"chat": False}, "not proven", 3, "1 of 4 prompts were not compared", id="no-chat"),
    pytest.param({"api_key": "k"}, "not proven", 3, "HTTP 401", id="401"),
    pytest.param({"redirect": "http://127.0.0.1:1"}, "not proven", 3, "redirect", id="redirect"),
    pytest.param({"garbage": b"SSH-2.0-OpenSSH_9.6\r\n"}, "not proven", 3, "connection broke", id="garbage"),
    pytest.param(
        {"broken": {"choices": [{"text": 5}]}}, "not proven", 3, "text is no text", id="no-such-answer"
    ),
    pytest.param({"refuse": {"delta": 500}}, "not proven", 3, "1 of 4 prompts", id="one-refused"),
    pytest.param({"die_after": 2}, "not proven", 3, "it answered 2 prompts, then", id="dies-half-way"),
    pytest.param({"empty": True}, "different", 1, "part", id="says-nothing"),
]


@pytest.mark.parametrize(("entries", "verdict", "code", "said"), CANDIDATES)
def test_a_candidate(entries: dict[str, Any], verdict: str, code: int, said: str) -> None:
    found = asked_and_judged(GOOD, changed(**entries))
    assert verdict_of(found) == verdict
    assert code_of(found) == code
    assert said in "\n".join(found.run.candidates[0].reasons)
    # Nothing is ever laid at the reference's door here.
    assert set(found.statuses(0).values()) == {"pass"}


def test_where_answers_part_is_said_with_both_sides() -> None:
    found = asked_and_judged(GOOD, changed(flip={"bravo": 5}))
    (parted,) = [one for one in found.run.candidates[0].compared if one.cell.status is Status.FAIL]
    assert parted.comparison is not None and parted.comparison.divergence is not None
    one = parted.comparison.divergence
    assert (parted.prompt.id, one.position, one.by_token, parted.near_tie) == ("bravo", 5, True, False)
    assert one.reference_token != one.candidate_token
    assert one.gap is not None and one.gap >= 0.5
    assert "parts at token 5" in parted.cell.message and "no near tie" in parted.cell.message
    assert f"({one.reference_token})" in parted.cell.message  # by its text, asked of /detokenize
    assert found.statuses()["prompt-alpha"] == "pass"
    assert parted.repeats is True


def test_a_logprob_that_differs_is_placed() -> None:
    found = asked_and_judged(GOOD, changed(nudge={"delta": (3, 1e-7)}, prompt_nudge={"alpha": (4, 1e-7)}))
    by_id = {one.prompt.id: one.comparison for one in found.run.candidates[0].compared}
    delta, alpha = by_id["delta"], by_id["alpha"]
    assert delta is not None and delta.generated is not None
    assert alpha is not None and alpha.prompt is not None
    assert delta.generated.position == 3 and delta.generated.largest == pytest.approx(1e-7, rel=1e-3)
    assert alpha.prompt.position == 4 and alpha.prompt.largest == pytest.approx(1e-7, rel=1e-3)


def test_every_candidate_has_its_own_verdict() -> None:
    found = asked_and_judged(GOOD, GOOD, changed(flip={"alpha": 0}), changed(api_key="k"))
    assert [one.verdict.value for one in found.run.candidates] == ["identical", "different", "not proven"]
    assert code_of(found) == ExitCode.FOUND_WRONG


# --- the reference --------------------------------------------------------------------------------


def test_a_slightly_noisy_reference_sets_the_floor_and_near_ties_are_close() -> None:
    noisy = changed(noise=0.004, ties=frozenset({2}))
    found = asked_and_judged(noisy, noisy)
    (noise,) = found.run.noise
    assert noise.floor is not None and 0 < noise.floor <= 0.02
    assert found.statuses(0)["deterministic"] == "warn"
    assert "noise floor" in found.cell("deterministic", 0).message
    assert verdict_of(found) == "numerically close"
    assert code_of(found) == ExitCode.OK
    assert code_of(found, strict=True) == ExitCode.FOUND_WRONG


def test_above_the_floor_a_candidate_is_different_all_the_same() -> None:
    noisy = changed(noise=0.004)
    found = asked_and_judged(noisy, dataclasses.replace(noisy, flip={"bravo": 5}))
    assert verdict_of(found) == "different"
    assert found.statuses()["prompt-bravo"] == "fail"
    assert found.statuses()["prompt-alpha"] == "warn"


def test_a_near_tie_is_no_excuse_where_the_reference_repeats_itself() -> None:
    found = asked_and_judged(changed(ties=frozenset({2})), changed(ties=frozenset({2}), turn_ties=True))
    one = found.run.candidates[0].compared[0].comparison
    assert one is not None and one.divergence is not None
    assert one.divergence.gap == pytest.approx(NEAR, rel=0.01)
    assert verdict_of(found) == "different"


@pytest.mark.parametrize("logprobs", [True, False])
def test_a_reference_that_samples_proves_nothing_and_nobody_is_blamed(logprobs: bool) -> None:
    found = asked_and_judged(changed(sampling=True, logprobs=logprobs), GOOD)
    assert found.statuses(0)["deterministic"] == "unknown"
    assert verdict_of(found) == "not proven"
    assert code_of(found) == ExitCode.NOT_ENOUGH
    assert "fail" not in found.statuses().values()
    assert found.cell("prompt-alpha").caused_by == found.cell("deterministic", 0).key


def test_a_candidate_that_samples_is_different_and_called_so() -> None:
    found = asked_and_judged(GOOD, changed(sampling=True))
    assert verdict_of(found) == "different"
    assert "it is not deterministic" in "\n".join(found.run.candidates[0].reasons)


def test_what_the_prefix_cache_changes_is_told_and_is_no_noise() -> None:
    cached = changed(cached=0.01)
    found = asked_and_judged(cached, GOOD)
    assert found.run.noise[0].floor == 0
    assert found.statuses(0)["prefix-cache"] == "warn"
    assert "by up to 0.01 nats" in found.cell("prefix-cache", 0).message
    assert verdict_of(found) == "identical"


def test_without_cache_salt_all_are_warmed_and_the_second_answer_counts() -> None:
    found = asked_and_judged(GOOD, changed(cache_salt=False))
    candidate = [body for body in found.servers[1].completions() if body["max_tokens"] == MAX_TOKENS]
    assert len(candidate) == 2 * len(WORDS)
    assert not any("cache_salt" in body for body in candidate)
    assert ["prompt_logprobs" in body for body in candidate[:2]] == [False, True]


def test_what_is_sent() -> None:
    found = asked_and_judged(GOOD, GOOD)
    sent = [[body for body in one.completions() if body["max_tokens"] == MAX_TOKENS] for one in found.servers]
    assert [len(bodies) for bodies in sent] == [3 * len(WORDS), len(WORDS)]
    for body in (*sent[0], *sent[1]):
        assert (body["temperature"], body["seed"], body["stream"]) == (0, 0, False)
        assert "ignore_eos" not in body and body["return_token_ids"] is True
        assert all(isinstance(token, int) for token in body["prompt"])
    salts = [body["cache_salt"] for body in sent[0]]
    # Empty cache, the same again, another empty one; and nobody is handed the salt of another.
    assert salts[0] == salts[1] != salts[2]
    assert "prompt_logprobs" not in sent[0][1]
    assert {body["cache_salt"] for body in sent[1]}.isdisjoint(salts)
    assert [one.most_at_once for one in found.servers] == [1, 1]


def test_without_tokenize_the_text_is_sent_and_the_answer_tells_the_ids() -> None:
    found = asked_and_judged(changed(tokenize=False), changed(tokenize=False, shift=1))
    bodies = [body for body in found.servers[1].completions() if body["max_tokens"] == MAX_TOKENS]
    assert bodies[0]["prompt"] == PROMPTS[0].text
    assert found.statuses()["tokenizer"] == "fail"


def test_a_prompt_that_does_not_fit_is_left_out_and_said() -> None:
    prompts = (*PROMPTS, Prompt("long", text="x" * 300))
    found = asked_and_judged(changed(max_model_len=200), GOOD, prompts=prompts)
    assert found.cell("prompt-long").status is Status.NOT_APPLICABLE
    assert "exceed max_model_len 200" in found.cell("prompt-long").message
    assert verdict_of(found) == "identical"
    blind = changed(max_model_len=200, tokenize=False)
    assert asked_and_judged(blind, blind, prompts=prompts).cell("prompt-long").status is Status.NOT_APPLICABLE


def test_nothing_that_applies_is_nothing_proven() -> None:
    found = asked_and_judged(changed(chat=False), GOOD, prompts=PROMPTS[-1:])
    assert verdict_of(found) == "not proven"
    assert found.cell("evidence").message == "no prompt could be compared"
    assert code_of(found) == ExitCode.NOT_ENOUGH


def test_empty_answers_prove_nothing() -> None:
    found = asked_and_judged(changed(empty=True), changed(empty=True))
    assert (verdict_of(found), found.statuses()["evidence"]) == ("not proven", "unknown")


# --- servers as a whole ---------------------------------------------------------------------------


def test_a_wrong_model_is_the_cause_of_everything() -> None:
    found = asked_and_judged(GOOD, changed(model="other"), model="tiny")
    assert found.cell("model").status is Status.FAIL
    assert "does not serve the model 'tiny', but 'other'" in found.cell("model").message
    assert {one.cell.caused_by for one in found.run.candidates[0].prompts} == {found.cell("model").key}
    assert code_of(found) == ExitCode.FOUND_WRONG


def test_a_wrong_model_at_the_reference_proves_nothing_of_the_candidate() -> None:
    found = asked_and_judged(changed(model="other"), GOOD, model="tiny")
    assert found.cell("model", 0).status is Status.FAIL
    assert (verdict_of(found), code_of(found)) == ("not proven", ExitCode.FOUND_WRONG)


def test_a_gateway_that_denies_what_is_optional_is_asked_all_the_same() -> None:
    found = asked_and_judged(GOOD, changed(denied=("/version", "/tokenize")), prompts=PROMPTS[:1])
    assert verdict_of(found) == "identical"


def test_a_reference_that_is_not_there() -> None:
    found = asked_and_judged(changed(api_key="k"), GOOD)
    assert found.statuses(0) == {"reachable": "unknown"}
    assert found.statuses()["reachable"] == "pass"
    assert found.cell("prompt-alpha").caused_by == found.cell("reachable", 0).key
    assert (verdict_of(found), code_of(found)) == ("not proven", ExitCode.NOT_ENOUGH)


def test_a_reference_that_dies_leaves_what_was_compared() -> None:
    found = asked_and_judged(changed(die_after=7), GOOD)
    assert [one.prompt.id for one in found.run.candidates[0].compared] == ["alpha", "bravo"]
    assert found.statuses()["prompt-alpha"] == "pass"
    assert code_of(found) == ExitCode.NOT_ENOUGH


def test_a_server_that_hangs_is_given_up_after_one_answer() -> None:
    found = asked_and_judged(GOOD, changed(hang_after=2), limits=Limits(connect_s=20, request_s=1.0))
    asked = [body for body in found.servers[1].completions() if body["max_tokens"] == MAX_TOKENS]
    assert len(asked) == 3
    assert "no whole answer within 1 s" in found.cell("reachable").message
    assert len(found.run.candidates[0].compared) == 2
    assert code_of(found) == ExitCode.NOT_ENOUGH


def test_the_limit_of_the_run_ends_it_with_what_was_learned() -> None:
    found = asked_and_judged(
        changed(hang_after=4), GOOD, limits=Limits(connect_s=20, request_s=600, run_s=2.0)
    )
    assert found.run.observation.stopped == "the run's limit of 2 s has passed"
    assert code_of(found) == ExitCode.NOT_ENOUGH


def test_an_interruption_ends_it_with_what_was_learned() -> None:
    found = asked_and_judged(
        GOOD,
        changed(hang_after=2),
        limits=Limits(connect_s=20, request_s=600),
        stopping=lambda servers: long_asked(servers[1]) > 2,
    )
    assert [one.prompt.id for one in found.run.candidates[0].compared] == ["alpha", "bravo"]
    assert code_of(found) == ExitCode.INTERRUPTED


def long_asked(server: Scripted) -> int:
    return sum(body["max_tokens"] == MAX_TOKENS for body in server.completions())


def test_a_busy_server_is_asked_again() -> None:
    found = asked_and_judged(GOOD, changed(busy=1), prompts=PROMPTS[:1])
    assert verdict_of(found) == "identical"


def test_the_key_goes_to_the_server_and_is_in_no_cell() -> None:
    found = asked_and_judged(changed(api_key="s3cret"), changed(api_key="s3cret"), api_key="s3cret")
    assert verdict_of(found) == "identical"
    assert found.servers[0].headers[0]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(found.run)


def test_several_at_a_time_are_a_round_of_their_own() -> None:
    slow = changed(pause_s=0.05)
    found = asked_and_judged(slow, dataclasses.replace(slow, flip={"delta": 1}), concurrency=3)
    assert found.servers[0].most_at_once > 1
    statuses = found.statuses()
    assert (statuses["prompt-delta"], statuses["prompt-delta-together"]) == ("fail", "fail")
    assert statuses["prompt-alpha-together"] == "pass"
    assert found.statuses(0)["deterministic-together"] == "pass"


# --- weights and setup ----------------------------------------------------------------------------

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    ("ours", "theirs", "status", "said"),
    [
        ({"a": "1", "b": "2"}, {"a": "1", "b": "2"}, "pass", "all 2 parameters"),
        ({"a": "1", "b": "2"}, {"a": "1", "b": "3"}, "fail", "1 of 2 weights have another SHA-256: 'b'"),
        ({"a": "1", "b": EMPTY}, {"a": "1", "b": EMPTY}, "not-applicable", "they prove nothing"),
        ({"a": "1"}, {"tp1:a": "1"}, "not-applicable", "split or laid out differently"),
        ({"a": "1"}, None, "not-applicable", "no such route"),
    ],
)
def test_weight_digests(ours: dict[str, str], theirs: dict[str, str] | None, status: str, said: str) -> None:
    found = asked_and_judged(
        changed(digests=ours), changed(digests=theirs), prompts=PROMPTS[:1], digests=True
    )
    assert found.statuses()["weights"] == status
    assert said in found.cell("weights").message
    assert verdict_of(found) == ("different" if status == "fail" else "identical")


def test_weights_are_not_hashed_unless_asked_for() -> None:
    found = asked_and_judged(changed(digests={"a": "1"}), changed(digests={"a": "2"}), prompts=PROMPTS[:1])
    assert "weights" not in found.statuses()
    assert not any(path == "/weight_checker" for path, _ in found.servers[0].requests)


CONFIG = "model='/m', dtype=torch.bfloat16, max_seq_len=4096, quantization={}, enforce_eager=True, seed=0"


def test_the_setup_is_compared_where_it_is_told() -> None:
    found = asked_and_judged(
        changed(server_info=CONFIG.format("None")),
        changed(server_info=CONFIG.format("fp8")),
        prompts=PROMPTS[:1],
    )
    assert found.cell("configuration").status is Status.WARN
    assert "quantization fp8, the reference None" in found.cell("configuration").message
    silent = changed(version=None, fingerprint=None, max_model_len=None)
    assert (
        asked_and_judged(silent, silent, prompts=PROMPTS[:1]).statuses()["configuration"] == "not-applicable"
    )


def test_proxy_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert verdict_of(asked_and_judged(GOOD, GOOD, prompts=PROMPTS[:1])) == "identical"
