"""Variances over draws: unbiased where that can be, against draws that are made again and again."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eager_lmeval.scores.metrics import Vote, consensus, pass_at_k, pass_hat_k
from eager_lmeval.scores.sampling import (
    consensus_variance,
    pass_at_k_variance,
    pass_hat_k_variance,
)
from eager_lmeval.scores.stats import interval, mean, sampling_error, sampling_interval


def test_at_one_draw_it_is_the_variance_of_a_rate():
    assert pass_at_k_variance(8, 3, 1) == pytest.approx(3 / 8 * 5 / 8 / 7)
    assert pass_hat_k_variance(8, 3, 1) == pytest.approx(3 / 8 * 5 / 8 / 7)


@pytest.mark.parametrize(("score", "variance"), [(pass_at_k, pass_at_k_variance), (pass_hat_k, pass_hat_k_variance)])
@pytest.mark.parametrize("rate", [0.1, 0.6])
def test_the_variance_at_k_is_unbiased(score, variance, rate: float):
    """Exactly: both sides as sums over all outcomes of 8 draws."""
    chances = [math.comb(8, c) * rate**c * (1 - rate) ** (8 - c) for c in range(9)]
    scores = [score(8, c, 3) for c in range(9)]
    mean = sum(p * x for p, x in zip(chances, scores, strict=True))
    truth = sum(p * (x - mean) ** 2 for p, x in zip(chances, scores, strict=True))
    assert sum(p * variance(8, c, 3) for c, p in enumerate(chances)) == pytest.approx(truth)


def test_of_fewer_than_twice_k_draws_nothing_is_known():
    assert math.isnan(pass_at_k_variance(7, 3, 4))
    assert math.isnan(pass_at_k_variance(1, 1, 1))


@pytest.mark.parametrize("tie", ["mean", "first"])
def test_over_documents_of_all_kinds_the_variance_of_votes_is_that_of_votes_drawn_anew(tie):
    """Of one document it is too small where two answers are level and too large where one leads; their mean is right
    within a fifth."""
    generator = np.random.default_rng(5)

    def draw(right: float) -> list[Vote]:
        kinds = generator.choice(4, size=16, p=[right, 0.6 * (1 - right), 0.3 * (1 - right), 0.1 * (1 - right)])
        return [Vote([0, 1, 2, None][kind], kind == 0) for kind in kinds]

    rates = [*generator.random(150), *[0.99] * 30]
    truth = np.mean([np.var([consensus(draw(rate), tie) for _ in range(60)], ddof=1) for rate in rates])
    assert np.mean([consensus_variance(draw(rate), 16, tie) for rate in rates]) == pytest.approx(truth, rel=0.2)


def test_a_vote_without_doubt_does_not_vary():
    assert consensus_variance([Vote(0, True)] * 8, 8) == 0
    assert consensus_variance([Vote(None, False)] * 8, 8) == 0
    assert math.isnan(consensus_variance([Vote(0, True)], 1))


def test_errors_of_documents_add_up_and_one_unknown_makes_all_unknown():
    assert sampling_error([0.01] * 9 + [0.0]) == pytest.approx(0.3 / 10)
    assert sampling_error([-0.01, 0.005] * 5) == 0
    assert math.isnan(sampling_error([0.01] * 9 + [math.nan]))
    assert math.isnan(sampling_error([]))


def test_what_hangs_on_a_few_documents_is_not_known():
    assert math.isnan(sampling_error([0.1] * 4 + [0.0] * 96))
    assert math.isnan(sampling_error([0.0] * 100)), "what does not show need not be absent"
    values = [1.0] * 96 + [0.5] * 4
    assert sampling_interval(values, [0.0] * 96 + [0.1] * 4) == interval(values)


def test_the_interval_of_these_documents_is_narrower_than_that_of_documents_like_these():
    values, variances = [1.0] * 50 + [0.5] * 20 + [0.0] * 30, [0.0] * 50 + [0.25 / 7] * 20 + [0.0] * 30
    (low, high), (least, most) = sampling_interval(values, variances), interval(values)
    assert least < low < mean(values) < high < most
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(20 * 0.25 / 7) / 100, rel=0.01)
