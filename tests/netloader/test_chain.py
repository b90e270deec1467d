"""Who feeds whom: the chain's rules, and that no order of losses makes a ring."""

from __future__ import annotations

import random

import pytest

from ascendctl.netloader.engine import chain
from ascendctl.netloader.engine.chain import Member, Roster, placed, without


def roster(*addresses: str, lost: str = "") -> Roster:
    return Roster(tuple(Member(address, address in lost) for address in addresses))


@pytest.mark.parametrize(
    ("members", "lost_before", "who", "tells_lost", "returning", "parent"),
    [
        ("", "", "a", (), False, None),
        ("a", "", "b", (), False, "a"),
        ("abc", "", "d", (), False, "c"),
        ("abc", "c", "d", (), False, "b"),
        ("abc", "abc", "d", (), False, None),
        ("abcd", "", "d", ("c",), True, "b"),
        ("abcd", "b", "d", ("c",), True, "a"),
        ("abcd", "", "a", ("b",), True, None),
        # Later members are never parents, whatever is lost.
        ("abcd", "a", "b", ("a",), True, None),
        # Not known here, but not new: whom it feeds is not known either.
        ("abcd", "", "x", ("y",), True, None),
    ],
)
def test_parents(
    members: str, lost_before: str, who: str, tells_lost: tuple[str, ...], returning: bool, parent: str | None
) -> None:
    answer = placed(roster(*members, lost=lost_before), who, lost=tells_lost, returning=returning)
    assert answer.parent == parent


def test_a_new_joiner_is_the_last_and_the_next_one_s_parent() -> None:
    first = placed(Roster(), "a")
    second = placed(first.roster, "b")
    assert [m.address for m in second.roster.members] == ["a", "b"]
    assert placed(second.roster, "c").parent == "b"


def test_who_speaks_lives_whatever_another_said_of_it() -> None:
    told = placed(roster("a", "b", "c"), "c", lost=("b",), returning=True).roster
    assert placed(told, "d").parent == "c"
    assert without(told, "c").members[1].lost
    back = placed(without(told, "c"), "b", lost=("a",), returning=True)
    assert back.parent is None
    assert placed(back.roster, "e").parent == "b"


def test_the_roster_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "MOST_MEMBERS", 3)
    now = roster("a", "b", "c", lost="b")
    now = placed(now, "d").roster
    assert [m.address for m in now.members] == ["a", "c", "d"]
    now = placed(now, "e").roster
    assert [m.address for m in now.members] == ["c", "d", "e"]
    # The one that was forgotten comes back and is fed by the seed: "e" may hang on it.
    assert placed(now, "a", lost=("x",), returning=True).parent is None


@pytest.mark.parametrize("number", range(20))
def test_no_order_of_joins_and_losses_makes_a_ring(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "MOST_MEMBERS", 6)
    chance = random.Random(number)
    now, parents = Roster(), dict[str, "str | None"]()
    for step in range(200):
        if parents and chance.random() < 0.6:
            who = chance.choice(sorted(parents))
            lost = parents[who]
            answer = placed(now, who, lost=() if lost is None else (lost,), returning=True)
        else:
            who = f"n{step}"
            answer = placed(now, who)
        if chance.random() < 0.05:
            now = Roster()  # the seed was started anew
        now, parents[who] = answer.roster, answer.parent
        for start in parents:
            seen, at = set(), start
            while (up := parents.get(at)) is not None:
                assert up not in seen, f"a ring: {start} hangs on itself"
                seen.add(up)
                at = up
