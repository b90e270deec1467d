"""The pause of the cycle collector: on only while entered, and as found afterwards."""

from __future__ import annotations

import gc

import pytest

from ascendctl.topology.cycles import no_cycle_collection


def test_the_collector_rests_while_entered_and_is_as_found_afterwards() -> None:
    with no_cycle_collection():
        assert not gc.isenabled()
        with no_cycle_collection():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_failure_inside_starts_it_again() -> None:
    with pytest.raises(ZeroDivisionError), no_cycle_collection():
        raise ZeroDivisionError
    assert gc.isenabled()
