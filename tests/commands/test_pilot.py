"""Forecasts from a pilot: systematic trees and races, played on its examples."""

from __future__ import annotations

import numpy as np
import pytest

from eager_lmeval.algorithm.branching import SplitSettings
from eager_lmeval.algorithm.race import RaceSettings
from eager_lmeval.commands.calibrate.command import _case
from eager_lmeval.commands.calibrate.examples import Example, PilotPrompt
from eager_lmeval.commands.calibrate.pilot import SEED, forecast, forecast_race
from eager_lmeval.commands.calibrate.splits import Branch, dealt, play_splits

SPLITS = SplitSettings(1.0, SEED)


def random_prompt(seed: int) -> PilotPrompt:
    rng = np.random.default_rng(seed)
    examples = []
    for length in rng.integers(1, 40, rng.integers(1, 5)):
        examples.append(Example(rng.exponential(0.7, length), int(rng.integers(0, length + 1))))
    weights = rng.random(len(examples)) + 0.01
    return PilotPrompt(examples, weights / weights.sum())


def test_the_draws_of_two_forecasts_are_the_same() -> None:
    prompts = [random_prompt(seed) for seed in range(5)]
    assert forecast(prompts, 8, SPLITS) == forecast(prompts, 8, SPLITS)


def test_a_forecast_says_after_each_prompt_that_it_was_played() -> None:
    prompts, played = [random_prompt(seed) for seed in range(5)], []
    forecast(prompts, 8, SPLITS, played=lambda: played.append(None))
    assert len(played) == 5


def test_what_is_saved_is_a_share_of_independent_samples() -> None:
    prompt = PilotPrompt([Example(np.zeros(10), 10)], np.ones(1))
    never = forecast([prompt], 4, SPLITS)
    assert (never.sequences, never.tokens, never.parallel_tokens) == (1, 10, 40)
    assert never.saving == pytest.approx(0.75)


@pytest.mark.parametrize(("copies", "strata"), [(8, 8), (8, 2), (7, 3), (2, 2)])
@pytest.mark.parametrize(
    ("first", "second"), [(0.5, 0.5), (0.6, 0.2), (0.2, 0.2), (0.1, 0.1), (0.999, 0.001), (1.0, 0.0)]
)
def test_copies_are_dealt_as_the_two_largest_probabilities_say(
    copies: int, strata: int, first: float, second: float
) -> None:
    """The mean share of the parts is seeded; 4 standard errors of 2,000 deals are passed once in 16,000 settings."""
    rng = np.random.default_rng(5)
    deals = [dealt(copies, strata, first, second, rng) for _ in range(2000)]
    assert all(sum(deal) == copies and deal == sorted(deal, reverse=True) for deal in deals)
    assert max(map(len, deals)) <= strata
    hit = sum(min(1.0, strata * p) for p in probabilities(first, second))
    parts = np.array([len(deal) for deal in deals])
    assert parts.mean() == pytest.approx(hit, abs=4 * parts.std() / np.sqrt(2000) + 1e-3)


def probabilities(first: float, second: float) -> list[float]:
    """The two, and a tail that falls off geometrically and makes the sum 1."""
    rest = 1 - first - second
    falls = rest / (rest + second) if rest > 1e-12 else 0.0
    return [first, second, *(rest * (1 - falls) * falls**place for place in range(1000))]


def test_a_tree_without_uncertain_tokens_is_one_branch_and_one_without_certain_ones_separates_at_once() -> None:
    sure = Example(np.zeros(10), 10, correct=True)
    unsure = Example(np.full(10, 2.0), 10, dict.fromkeys(range(10), (0.01, 0.01)), correct=False)
    rng = np.random.default_rng(0)
    assert play_splits(PilotPrompt([sure], np.ones(1)), 8, SPLITS, rng) == [Branch(sure, 10, 8)]
    assert play_splits(PilotPrompt([unsure], np.ones(1)), 8, SPLITS, rng) == [Branch(unsure, 10, 1)] * 8
    thought = Example(np.full(10, 2.0), 0, unsure.likeliest, correct=False)
    assert play_splits(PilotPrompt([thought], np.ones(1)), 8, SPLITS, rng) == [Branch(thought, 10, 8)]


def test_an_entropy_that_was_rounded_up_to_the_bound_of_uncertainty_does_not_split() -> None:
    logged_for_less = Example(np.array([0.1, 0.0]), 2, correct=True)
    played = play_splits(
        PilotPrompt([logged_for_less], np.ones(1)), 8, SplitSettings(0.1, SEED), np.random.default_rng(0)
    )
    assert played == [Branch(logged_for_less, 2, 8)]


def test_copies_that_never_separate_are_as_precise_as_one_sample() -> None:
    examples = [Example(np.zeros(10), 10, correct=correct) for correct in (True, False)]
    found = forecast([PilotPrompt(examples, np.full(2, 0.5))] * 200, 8, SPLITS)
    assert found.variance / found.parallel_variance == pytest.approx(8, rel=0.15)
    assert found.saving == pytest.approx(7 / 8)


@pytest.mark.parametrize(("answer", "tokens"), [(0, 8 / 32), (None, 1.0)])
def test_a_race_ends_where_the_vote_is_settled(answer: int | None, tokens: float) -> None:
    prompt = PilotPrompt([Example(np.zeros(10), 10, answer=answer)], np.ones(1))
    found = forecast_race([prompt], RaceSettings(8, 32, 0.95))
    assert (found.tokens, found.settled) == (tokens, float(answer is not None))


def test_a_pilot_of_enough_independent_answers_is_raced_without_drawing_one_twice() -> None:
    examples = [Example(np.zeros(10 + place), 10, answer=place) for place in range(16)]
    found = forecast_race([PilotPrompt(examples, np.full(16, 1 / 16))], RaceSettings(4, 16, 0.95))
    assert found.tokens == 1.0


@pytest.mark.parametrize(("graded", "said"), [(True, "For a vote take the race"), (None, "cannot be said without")])
def test_where_copies_separate_at_once_a_race_is_recommended_if_answers_agree(graded: bool | None, said: str) -> None:
    entropies = np.full(300, 1.5)
    odds = dict.fromkeys(range(300), (0.4, 0.3))
    examples = [Example(entropies, 300, odds, graded, 0) for _ in range(4)]
    text = _case([PilotPrompt(examples, np.full(4, 0.25))] * 3, 8, {}, 64)
    assert said.lower() in text.lower()
    assert ("settled 100%, 12% of the tokens of 64" in text) == (graded is True)
