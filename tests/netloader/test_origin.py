"""Whether the parts of an engine's ranks are parts of the same weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ascendctl.netloader.engine.origin import (
    NO_SOURCE,
    OriginError,
    Part,
    Verdict,
    judged,
    origin_of,
    read_origin,
)

CONTENT = {0: "0a" * 16, 1: "1b" * 16}
ORIGIN = origin_of(CONTENT)
OTHER = origin_of({0: "0c" * 16, 1: "1d" * 16})
GOOD = tuple(Part(rank, None, f"10.0.0.1:{19000 + rank}", ORIGIN, CONTENT[rank]) for rank in (0, 1))


def verdicts(*parts: Part, required: bool = True) -> list[Verdict]:
    """Of every rank, in order."""
    return [judged(own, parts, required=required) for own in parts]


def test_an_origin_follows_every_part_and_its_rank() -> None:
    assert origin_of(dict(reversed(CONTENT.items()))) == ORIGIN
    others = [
        {0: CONTENT[1], 1: CONTENT[0]},
        {0: CONTENT[0]},
        {**CONTENT, 2: CONTENT[0]},
        {0: CONTENT[0], 2: CONTENT[1]},
    ]
    assert len({ORIGIN, OTHER, *map(origin_of, others)}) == 2 + len(others)
    assert read_origin(ORIGIN) == ORIGIN


def test_parts_of_the_same_weights_are_used_wherever_they_came_from() -> None:
    assert verdicts(*GOOD) == [Verdict(origin=ORIGIN)] * 2
    elsewhere = replace(GOOD[1], source="10.0.0.2:19001")
    assert verdicts(GOOD[0], elsewhere) == [Verdict(origin=ORIGIN)] * 2


@pytest.mark.parametrize("required", [True, False])
def test_parts_of_different_weights_are_used_by_no_rank(required: bool) -> None:
    stray = Part(1, None, "10.0.0.2:19001", OTHER, "1d" * 16)
    for verdict in verdicts(GOOD[0], stray, required=required):
        assert verdict.origin is None and verdict.reason is not None
        for told in ("different weights", "10.0.0.1:19000", "10.0.0.2:19001", ORIGIN, OTHER):
            assert told in verdict.reason


@pytest.mark.parametrize("required", [True, False])
def test_what_the_sources_tell_is_not_believed_but_made_anew(required: bool) -> None:
    """Both tell the same origin, and the second one's part is not of it."""
    for verdict in verdicts(GOOD[0], replace(GOOD[1], content_id="1d" * 16), required=required):
        assert verdict.reason is not None and ORIGIN in verdict.reason and "together" in verdict.reason


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            [replace(part, origin=None) for part in GOOD],
            "10.0.0.1:19000, the source of rank 0, tells no origin",
        ),
        (
            [GOOD[0], replace(GOOD[1], origin=None, content_id=None)],
            "10.0.0.1:19001, the source of rank 1, sends no digests",
        ),
    ],
    ids=["older releases", "one without the extension"],
)
def test_a_source_that_tells_none_is_taken_only_where_unproven_weights_are(
    parts: list[Part], words: str
) -> None:
    for verdict in verdicts(*parts):
        assert verdict.reason is not None and words in verdict.reason
        assert "VERIFY: if-offered" in verdict.reason
    for verdict in verdicts(*parts, required=False):
        assert (verdict.reason, verdict.origin) == (None, None)
        assert verdict.unproven is not None and words in verdict.unproven


@pytest.mark.parametrize("required", [True, False])
def test_a_part_without_an_origin_is_judged_by_what_the_others_were_told(required: bool) -> None:
    silent = replace(GOOD[1], origin=None)
    assert verdicts(GOOD[0], silent, required=required) == [Verdict(origin=ORIGIN)] * 2
    for verdict in verdicts(GOOD[0], replace(silent, content_id="1d" * 16), required=required):
        assert verdict.reason is not None and "together" in verdict.reason


def test_one_rank_that_tells_none_does_not_hide_that_the_others_differ() -> None:
    stray = Part(1, None, "10.0.0.2:19001", OTHER, "1d" * 16)
    silent = Part(2, None, "10.0.0.3:19002", None, "2e" * 16)
    for verdict in verdicts(GOOD[0], silent, stray, required=False):
        assert verdict.reason is not None and "different weights" in verdict.reason


def test_one_rank_alone_proves_its_origin_by_its_own_digests() -> None:
    alone = Part(0, None, "10.0.0.1:19000", None, CONTENT[0])
    own = origin_of({0: CONTENT[0]})
    assert verdicts(alone) == [Verdict(origin=own)]
    assert verdicts(replace(alone, origin=own)) == [Verdict(origin=own)]
    (verdict,) = verdicts(replace(alone, origin=OTHER))
    assert verdict.reason is not None and OTHER in verdict.reason
    (verdict,) = verdicts(replace(alone, content_id=None), required=False)
    assert verdict.origin is None and verdict.unproven is not None


def test_the_first_reason_of_any_rank_is_every_rank_s() -> None:
    own, *others = verdicts(*(replace(GOOD[0], rank=rank) for rank in (0, 1)), Part(2, "no answer"))[::-1]
    assert own.reason == "no answer"
    assert [other.reason for other in others] == ["rank 2 of this engine has none: no answer"] * 2


def test_a_rank_that_was_configured_without_a_source_is_a_reason_too() -> None:
    joined, seeded = verdicts(GOOD[0], Part(1, NO_SOURCE))
    assert joined.reason == f"rank 1 of this engine has none: {NO_SOURCE}" and seeded.reason == NO_SOURCE


def test_of_many_origins_a_few_are_named() -> None:
    parts = [
        Part(rank, None, f"10.0.0.{rank}:1", origin_of({0: f"{rank:032x}"}), "a") for rank in range(1, 65)
    ]
    reason = verdicts(*parts)[0].reason
    assert reason is not None and reason.endswith("and 60 more") and len(reason) < 600


@pytest.mark.parametrize(
    "told", [7, "", "xyz", ORIGIN[:-1], ORIGIN + "0", ORIGIN.upper(), [ORIGIN], True, "a\nb"]
)
def test_nonsense_is_no_origin(told: object) -> None:
    assert read_origin(None) is None
    with pytest.raises(OriginError, match="32 hex digits"):
        read_origin(told)
