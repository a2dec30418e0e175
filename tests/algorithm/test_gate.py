"""Who branches out, and until when (SPEC 3)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sortedcontainers import SortedList

from eager_lmeval.algorithm.gate import Candidate, Gate, GateSettings, percentile

ENTROPIES = st.floats(0, 3, allow_nan=False)


def candidates(*entropies: float, thought_ended: bool = False) -> list[Candidate]:
    """Roots 0, 1, 2 … about to produce a token."""
    return [Candidate((place,), entropy, thought_ended) for place, entropy in enumerate(entropies)]


def test_the_threshold_itself_passes() -> None:
    gate = Gate(GateSettings(threshold=2.0, cap=9))
    assert gate.choose(candidates(1.9, 2.0, 2.1), sequences=3, active=3) == [2, 1]


@given(st.lists(ENTROPIES, min_size=1, max_size=12), st.integers(0, 14))
def test_the_highest_entropies_get_the_room_there_is(entropies: list[float], room: int) -> None:
    count = len(entropies)
    gate = Gate(GateSettings(threshold=1.0, cap=count + room))
    chosen = gate.choose(candidates(*entropies), sequences=count, active=count)
    passing = [place for place in range(count) if entropies[place] >= 1.0]
    assert len(chosen) == min(room, len(passing))
    refused = [entropies[place] for place in passing if place not in chosen]
    assert all(entropies[place] >= entropy for place in chosen for entropy in refused)


@given(st.permutations([(0,), (0, 3), (0, 3, 5), (0, 12), (1,), (1, 2)]), st.integers(0, 6))
def test_ties_go_to_the_smaller_path_in_whatever_order_rows_stand(paths: list[tuple[int, ...]], room: int) -> None:
    gate = Gate(GateSettings(threshold=1.0, cap=6 + room))
    chosen = gate.choose([Candidate(path, 1.5, False) for path in paths], sequences=6, active=6)
    assert [paths[place] for place in chosen] == sorted(paths)[:room]


def test_reaching_the_cap_closes_for_good_where_all_sequences_count() -> None:
    gate = Gate(GateSettings(threshold=1.0, cap=2))
    assert gate.choose(candidates(1.5, 1.5), sequences=2, active=2) == []
    assert gate.closed
    assert gate.choose(candidates(1.5), sequences=1, active=1) == []


def test_finished_sequences_make_room_where_the_active_ones_count() -> None:
    gate = Gate(GateSettings(threshold=1.0, cap=2, count="active"))
    assert gate.choose(candidates(1.5, 1.5), sequences=2, active=2) == []
    assert gate.choose(candidates(1.5), sequences=2, active=1) == [0]
    assert not gate.closed


def test_finished_sequences_keep_their_room_where_all_count() -> None:
    gate = Gate(GateSettings(threshold=1.0, cap=3))
    assert gate.choose(candidates(1.5, 1.5), sequences=2, active=2) == [0]
    assert gate.choose(candidates(1.5), sequences=3, active=1) == []


@pytest.mark.parametrize("count", ["all", "active"])
def test_the_window_closes_after_so_many_steps_in_a_row_without_a_branch(count: str) -> None:
    gate = Gate(GateSettings(threshold=1.0, cap=9, count=count, window=2))
    quiet, loud = candidates(0.5), candidates(1.5)
    assert gate.choose(quiet, 1, 1) == []
    assert gate.choose(loud, 1, 1) == [0]  # one quiet step before it was one too few
    assert gate.choose(quiet, 2, 1) == []
    assert not gate.closed
    assert gate.choose(quiet, 2, 1) == []
    assert gate.closed
    assert gate.choose(loud, 2, 1) == []


def test_a_step_in_which_the_cap_leaves_no_room_is_one_without_a_branch() -> None:
    gate = Gate(GateSettings(threshold=1.0, cap=1, count="active", window=2))
    gate.choose(candidates(1.5), 1, 1)
    gate.choose(candidates(1.5), 1, 1)
    assert gate.closed


def test_sequences_stop_branching_behind_their_thoughts() -> None:
    ended, thinking = Candidate((0,), 2.5, True), Candidate((0, 4), 1.5, False)
    assert Gate(GateSettings(threshold=1.0, cap=9)).choose([ended, thinking], 2, 2) == [1]
    without = GateSettings(threshold=1.0, cap=9, until_thought_ends=False)
    assert Gate(without).choose([ended, thinking], 2, 2) == [0, 1]


@given(st.lists(ENTROPIES, min_size=1, max_size=60), st.floats(0, 100))
def test_percentile_is_that_of_numpy(values: list[float], q: float) -> None:
    assert percentile(SortedList(values), q) == pytest.approx(float(np.percentile(values, q)), abs=1e-12)


@given(st.lists(st.lists(ENTROPIES, min_size=1, max_size=4), min_size=1, max_size=20), st.sampled_from([50, 90, 99]))
def test_the_dynamic_threshold_follows_all_steps_but_the_current_one(steps: list[list[float]], q: float) -> None:
    earlier = [0.3, 1.7]
    gate = Gate(GateSettings(threshold=1.0, cap=99, percentile=q), entropies_so_far=earlier)
    seen = list(earlier)
    for entropies in steps:
        assert gate.threshold() == pytest.approx(max(1.0, float(np.percentile(seen, q))), abs=1e-4)
        gate.choose(candidates(*entropies), sequences=len(entropies), active=len(entropies))
        seen += entropies


def test_the_static_threshold_holds_before_anything_was_decoded() -> None:
    assert Gate(GateSettings(threshold=1.3, cap=9, percentile=99)).threshold() == 1.3


def test_an_entropy_met_again_in_a_later_run_passes_whatever_its_rounding() -> None:
    for rounding in (-1e-6, 0.0, 1e-6):
        gate = Gate(GateSettings(threshold=1.0, cap=9, percentile=99), entropies_so_far=[2.0, 2.0])
        assert gate.choose(candidates(2.0 + rounding), sequences=1, active=1) == [0]
