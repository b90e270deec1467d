"""The pure middle: what answers are read as, how two are compared, which prompts there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ascendctl.consistency.answers import Answer, AnswerError, Naming, Step, read_answer
from ascendctl.consistency.compare import Outcome, closest, compare, noise, outcome
from ascendctl.consistency.prompts import PromptsError, builtin_prompts, read_prompts
from ascendctl.consistency.servers import AddressError, server_at


def step(token: str, logprob: float, **others: float) -> Step:
    return Step(token, logprob, {token: logprob, **others})


def answer(*steps: Step, text: str = "", naming: Naming = Naming.IDS, **given: Any) -> Answer:
    return Answer(text or " ".join(one.token for one in steps), "length", naming, steps, **given)


BASE = answer(step("a", -0.1, b=-2.0), step("c", -0.5, d=-0.6), step("e", -0.2, f=-3.0))


@pytest.mark.parametrize(
    ("other", "floor", "expected"),
    [
        (BASE, 0.0, Outcome.IDENTICAL),
        # One logprob: nothing is close to a reference that repeats itself.
        (
            answer(step("a", -0.1, b=-2.0), step("c", -0.5, d=-0.6 + 1e-12), BASE.steps[2]),
            0.0,
            Outcome.DIFFERENT,
        ),
        (answer(step("a", -0.1, b=-2.0), step("c", -0.5, d=-0.61), BASE.steps[2]), 0.02, Outcome.CLOSE),
        (answer(step("a", -0.1, b=-2.0), step("c", -0.5, d=-0.63), BASE.steps[2]), 0.02, Outcome.DIFFERENT),
        # Parts at a gap of 0.1: under a floor of 0.2 that is a near tie, under 0.05 it is none.
        (answer(BASE.steps[0], step("d", -0.5, c=-0.6)), 0.2, Outcome.CLOSE),
        (answer(BASE.steps[0], step("d", -0.5, c=-0.6)), 0.05, Outcome.DIFFERENT),
        # The candidate is sure of the other token: no near tie, however the reference sees it.
        (answer(BASE.steps[0], step("d", -0.5, c=-0.71)), 0.2, Outcome.DIFFERENT),
        # The other token is none of the reference's likely ones.
        (answer(BASE.steps[0], step("x", -0.5, y=-0.6)), 0.2, Outcome.DIFFERENT),
        # A near tie does not excuse what was before it.
        (answer(step("a", -0.4, b=-2.0), step("d", -0.5, c=-0.6)), 0.2, Outcome.DIFFERENT),
        # What comes after answers another text.
        (answer(BASE.steps[0], step("d", -0.5, c=-0.6), step("z", -9.0)), 0.2, Outcome.CLOSE),
        (answer(*BASE.steps[:2]), 0.2, Outcome.DIFFERENT),  # it ended earlier
        (answer(*BASE.steps, text="other"), 0.2, Outcome.DIFFERENT),  # the same tokens, read otherwise
    ],
)
def test_outcomes(other: Answer, floor: float, expected: Outcome) -> None:
    assert outcome(compare(BASE, other), floor) is expected


def test_an_exact_tie_broken_otherwise_is_close_even_without_noise() -> None:
    ours, theirs = answer(step("a", -0.5, b=-0.5)), answer(step("b", -0.5, a=-0.5))
    assert outcome(compare(ours, theirs), 0.0) is Outcome.CLOSE


def test_likely_tokens_that_swap_at_the_end_of_the_list() -> None:
    tie = compare(answer(step("a", -0.1, y=-4.0)), answer(step("a", -0.1, z=-4.0)))
    assert tie.exact
    moved = compare(answer(step("a", -0.1, y=-4.0)), answer(step("a", -0.1, z=-3.5)))
    assert moved.largest_delta == pytest.approx(0.5)


def test_the_prompts_logprobs_count_too() -> None:
    ours = answer(step("a", -0.1), prompt_tops=(None, {"7": -1.0}, {"8": -2.0}))
    theirs = answer(step("a", -0.1), prompt_tops=(None, {"7": -1.0}, {"8": -2.0 + 1e-9}))
    found = compare(ours, theirs)
    assert found.prompt is not None and (found.prompt.position, found.prompt_positions) == (2, 2)
    assert outcome(found, 0.0) is Outcome.DIFFERENT
    assert compare(ours, theirs, prompts=False).exact


def test_tokens_named_differently_are_compared_by_text() -> None:
    by_text = Answer("a c e", "length", Naming.TEXTS, BASE.steps)
    found = compare(BASE, by_text)
    assert found.exact and found.positions == 0
    parted = compare(BASE, Answer("a c x", "length", Naming.NOTHING, ())).divergence
    assert parted is not None and (parted.position, parted.by_token) == (4, False)


def test_noise_is_what_answers_of_one_server_differ_by() -> None:
    near = answer(BASE.steps[0], step("d", -0.52, c=-0.57))
    assert noise([BASE, BASE]) == 0
    assert noise([BASE, near]) == pytest.approx(0.1)  # its own preference before it changed its mind
    assert noise([BASE, answer(*BASE.steps[:1])]) is None
    assert closest([BASE, near], [near]).exact


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"choices": []},
        {"choices": [5]},
        {"choices": [{}]},
        {"choices": [{"text": None}]},
        {"choices": [{"text": "", "logprobs": []}]},
        {"choices": [{"text": "", "logprobs": {"tokens": ["a"], "token_logprobs": []}}]},
        {"choices": [{"text": "", "logprobs": {"tokens": ["a"], "token_logprobs": ["x"]}}]},
        {"choices": [{"text": "", "logprobs": {"tokens": ["a"], "token_logprobs": [float("nan")]}}]},
        {
            "choices": [
                {"text": "", "logprobs": {"tokens": ["a"], "token_logprobs": [-1]}, "token_ids": [1, 2]}
            ]
        },
        {"choices": [{"text": "", "token_ids": [True]}]},
        {"choices": [{"text": "", "prompt_logprobs": [{"1": -3.0}]}]},
    ],
)
def test_what_is_no_answer_is_refused(body: object) -> None:
    with pytest.raises(AnswerError):
        read_answer(body, chat=False)


def test_a_chat_with_reasoning_taken_apart_is_one_text() -> None:
    content = [
        {"token": "token_id:5", "logprob": -1.0, "top_logprobs": [{"token": "token_id:6", "logprob": -2}]}
    ]
    message = {"role": "assistant", "reasoning_content": "hm ", "content": "yes"}
    choice = {"message": message, "logprobs": {"content": content}, "finish_reason": "stop"}
    found = read_answer({"choices": [choice], "prompt_token_ids": [1]}, chat=True)
    assert (found.text, found.naming, found.prompt_ids) == ("hm yes", Naming.IDS, (1,))
    assert found.steps == (Step("5", -1.0, {"6": -2.0, "5": -1.0}),)


def test_the_builtin_prompts_are_as_many_and_as_various_as_promised() -> None:
    prompts = builtin_prompts()
    assert len(prompts) == 52  # --help says so
    assert len({one.language for one in prompts}) >= 20
    assert sum(one.chat for one in prompts) >= 8
    assert sum(len(one.text) > 2_000 for one in prompts) >= 4
    assert len({one.shown for one in prompts}) == len(prompts)


@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        ("a.txt", "one\n\ntwo\n", ["prompt-001", "prompt-002"]),
        ("a.jsonl", '"one"\n{"id": "x", "text": "two"}\n', ["prompt-001", "x"]),
        (
            "a.yaml",
            "- {id: c, messages: [{role: user, content: hi}]}\n- {id: r, row: 'r{n}', rows: 2}",
            ["c", "r"],
        ),
    ],
)
def test_files_of_prompts(name: str, text: str, ids: list[str], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert [one.id for one in read_prompts(path)] == ids


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a list"),
        ("[]", "expected a list"),
        ("[5]", "prompt 1: expected a text or a mapping"),
        ("[{id: a}]", "expected text"),
        ("[{id: 'a b', text: x}]", "id 'a b'"),
        ("[{txet: x}]", "txet is none"),
        ("[{id: a, text: x}, {id: a, text: y}]", "two prompts have the id 'a'"),
        ("{", "neither YAML nor JSON"),
        ("[{messages: [{role: user}]}]", "a role and a content"),
        ("[{row: x, rows: 0}]", "rows says how often"),
        ("[{text: x, messages: []}]", "both a text and messages"),
    ],
)
def test_bad_files_of_prompts(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text(text)
    with pytest.raises(PromptsError, match=said):
        read_prompts(path)


def test_addresses() -> None:
    assert server_at("10.0.0.1:8000").url == "http://10.0.0.1:8000"
    assert server_at("https://node01/v1/").name == "node01:443"
    assert server_at("http://[::1]:80/v1").url == "http://[::1]:80"
    for wrong in ("", "http://", "h:99999", "ftp://h", "h/path", "http://h?q=1", "http://u@h:1", "a b:1"):
        with pytest.raises(AddressError):
            server_at(wrong)
