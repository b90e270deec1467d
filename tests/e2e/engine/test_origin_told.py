"""What one source tells of the origin of its weights, and when it no longer does."""

from __future__ import annotations

import pytest

from ascendctl.netloader.engine.holdings import Holdings, HoldingsLost
from ascendctl.netloader.engine.intake import Intake
from ascendctl.netloader.engine.joining import NoSource
from ascendctl.netloader.engine.origin import origin_of
from ascendctl.netloader.engine.weights import WeightSet, digest_all
from tests.e2e.engine.engines import MIB, Joiner, Seed, model_of
from tests.e2e.engine.ranks import PATIENT

ORIGIN, OTHER = origin_of({0: "a", 1: "b"}), origin_of({0: "a", 1: "c"})


def of(origin: str | None) -> Holdings:
    """The holdings of a seed of the plain model, of that origin; in other cuts than a seed's own."""
    weights = WeightSet(model_of({}, filled=True), MIB // 2)
    return Holdings.whole(digest_all(weights), origin)


@pytest.mark.parametrize("origin", [ORIGIN, None])
def test_a_joiner_is_told_the_origin(origin: str | None) -> None:
    with Seed(holdings=of(origin), timeouts=PATIENT) as seed:
        assert Joiner(timeouts=PATIENT).receive(seed.address).origin == origin


def test_a_source_that_tells_nonsense_is_refused() -> None:
    with Seed(holdings=of("a fine one"), timeouts=PATIENT) as seed:
        joiner = Joiner(timeouts=PATIENT)
        with pytest.raises(NoSource, match="32 hex digits") as caught:
            joiner.receive(seed.address)
        assert [attempt.phase for attempt in caught.value.attempts] == ["join"] and joiner.untouched


def test_weights_that_changed_are_of_no_known_origin() -> None:
    """One rank cannot know what the others hold by then. Weights that are what they were keep theirs."""
    with Seed(holdings=of(ORIGIN), timeouts=PATIENT) as seed:
        before = Joiner(timeouts=PATIENT).receive(seed.address)
        with seed.source.version.changing("sleep mode"):
            pass
        same = Joiner(timeouts=PATIENT).receive(seed.address)
        assert (same.weights_version, same.content_id, same.origin) == (1, before.content_id, ORIGIN)
        tensor = seed.model[0][1]
        kept = tensor.clone()
        with seed.source.version.changing("a weight update"):
            tensor.add_(1)
        joiner = Joiner(timeouts=PATIENT)
        changed = joiner.receive(seed.address)
        assert joiner.digest == seed.digest
        assert (changed.weights_version, changed.origin) == (2, None)
        assert changed.content_id != before.content_id
        # Back to what they were: that they ever had an origin is forgotten.
        with seed.source.version.changing("a weight update"):
            tensor.copy_(kept)
        restored = Joiner(timeouts=PATIENT).receive(seed.address)
        assert (restored.content_id, restored.origin) == (before.content_id, None)


def test_a_relay_that_goes_on_from_another_engine_tells_that_one_s_origin() -> None:
    """This rank's part is the same in both, another rank's is not: nothing is fetched again, and whoever was
    told the first one's origin has to ask again."""
    manifest = digest_all(WeightSet(model_of({}, filled=True), MIB))
    holdings = Holdings()
    intake = Intake(holdings=holdings)
    assert intake.begin(manifest, ORIGIN) == 0
    first = holdings.edition(0.0)
    assert first is not None and first.origin == ORIGIN
    for chunk in manifest.chunks[:3]:
        intake.advance(chunk)
    assert intake.begin(manifest, ORIGIN) == 3 and holdings.held == first
    assert intake.begin(manifest, OTHER) == 3
    second = holdings.held
    assert second is not None and second.origin == OTHER and holdings.verified == 3
    with pytest.raises(HoldingsLost, match="replaced"):
        holdings.wait_for(first, 1, 0.0)
    assert holdings.wait_for(second, 3, 0.0) == 3
