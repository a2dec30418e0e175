"""The race of a prompt's roots (SPEC 5), against the rule played tick by tick."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow_race import at_least, tick_by_tick

from eager_lmeval.algorithm.race import Race, RaceSettings, certainty, run_race


class Case(NamedTuple):
    lengths: list[int]
    answers: list[str | None]
    settings: RaceSettings


@st.composite
def cases(draw: st.DrawFn) -> Case:
    number = draw(st.integers(1, 24))
    lengths = draw(st.lists(st.integers(1, 9), min_size=number, max_size=number))
    answers = draw(st.lists(st.sampled_from(["a", "a", "a", "b", None]), min_size=number, max_size=number))
    settings = RaceSettings(draw(st.integers(1, 9)), number, draw(st.sampled_from([0.6, 0.8, 0.95])))
    return Case(lengths, answers, settings)


@given(cases())
def test_it_is_the_rule_played_tick_by_tick(case: Case) -> None:
    race = run_race(*case)
    ended, cut, settled = tick_by_tick(case.lengths, case.answers, *vars(case.settings).values())
    assert race.lengths == ended
    before = [root for root in ended if settled is None or race.starts[root] + ended[root] <= settled]
    assert race.ended == before + sorted(ended.keys() - set(before))
    assert (race.cut, race.settled_time) == (cut, settled)
    assert race.tokens == sum(ended.values()) + sum(cut.values())
    assert race.last == max(race.starts[root] + case.lengths[root] for root in ended)


@given(cases(), st.integers())
def test_how_far_ahead_any_root_is_decoded_changes_nothing(case: Case, seed: int) -> None:
    """Roots advance by random leaps, none at all for some of the time."""
    expected, choose = run_race(*case), random.Random(seed)
    race = Race(case.settings, lambda roots: [case.answers[root] for root in roots])
    tokens: dict[int, int] = {}
    while not race.over:
        for root in race.running:
            leap = choose.choice((0, 1, 5))
            tokens[root] = min(case.lengths[root], tokens.get(root, 0) + leap)
        race.advance(tokens, [root for root in race.running if tokens[root] == case.lengths[root]])
        assert all(tokens[root] >= race.cut[root] for root in race.cut), "a root was cut before it came so far"
    for name in ("starts", "lengths", "cut", "settled_time", "last"):
        assert getattr(race, name) == getattr(expected, name)


@given(cases())
def test_the_first_lanes_all_end_and_no_more_run_than_a_batch_would_hold(case: Case) -> None:
    race = run_race(*case)
    assert {*range(min(case.settings.first_lanes, len(case.lengths)))} <= race.lengths.keys()
    assert len(race.starts) <= case.settings.max_sequences
    assert race.lengths.keys() | race.cut.keys() == set(range(len(race.starts)))


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 5))
def test_a_vote_is_as_certain_as_adaptive_consistency_says(leading: int, second: int, silent: int) -> None:
    """I_{1/2}(a, b) of whole numbers is the chance of at least a heads in a + b − 1 flips of a fair coin."""
    leading = max(leading, second)
    expected = at_least(second + 1, leading + second + 1)
    assert certainty([1] * leading + [7] * second + [None] * silent) == pytest.approx(expected)


def test_four_of_one_mind_are_settled_and_three_are_not() -> None:
    assert certainty([0] * 4) > 0.95 > certainty([0] * 3)


@pytest.mark.parametrize("votes", [[], [None], [None, None], [0, 1]])
def test_without_a_leader_it_is_even(votes: list[int | None]) -> None:
    assert certainty(votes) == pytest.approx(0.5)
