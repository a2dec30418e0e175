"""Means and error bars over documents (SPEC 8)."""

from __future__ import annotations

import math
import random
import statistics

import numpy as np
import pytest
from scipy import stats as scipy_stats

from eager_lmeval.scores.stats import (
    interval,
    mean,
    standard_error,
    wilson,
)

NAN = math.nan


def test_unscored_documents_are_left_out_and_never_count_as_0():
    values = [1.0, NAN, 0.0, 1.0, NAN]
    assert mean(values) == pytest.approx(2 / 3)
    assert standard_error(values) == pytest.approx(standard_error([1.0, 0.0, 1.0]))
    assert interval(values) == interval([1.0, 0.0, 1.0])


@pytest.mark.parametrize("values", [[], [NAN, NAN]])
def test_without_scored_documents_nothing_is_defined(values: list[float]):
    assert math.isnan(mean(values))
    assert math.isnan(standard_error(values))
    assert all(map(math.isnan, interval(values)))


def test_one_document_has_a_mean_but_no_error_bar():
    assert mean([1.0]) == 1.0
    assert math.isnan(standard_error([1.0]))
    assert all(map(math.isnan, interval([1.0])))


def test_the_standard_error_is_that_of_the_sample_standard_deviation():
    values = [0.1, 0.9, 0.4, 0.4, 0.7]
    assert standard_error(values) == pytest.approx(statistics.stdev(values) / math.sqrt(5))


def test_nothing_depends_on_the_order_of_the_documents():
    values = list(np.random.default_rng(3).random(50))
    turned = random.Random(4).sample(values, len(values))
    assert mean(turned) == mean(values)
    assert standard_error(turned) == standard_error(values)
    assert interval(turned) == interval(values)


@pytest.mark.parametrize("right", [0, 1, 7, 30])
def test_the_interval_of_yes_or_no_answers_is_wilsons(right: int):
    low, high = wilson(right / 30, math.sqrt(right * (30 - right) / 30**3), 1.96, most=30)
    theirs = scipy_stats.binomtest(right, 30).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-4)


def test_the_interval_of_amounts_is_students():
    values = [310.0, 280.0, 455.0, 390.0]
    theirs = scipy_stats.t.interval(0.95, 3, mean(values), standard_error(values))
    assert interval(values) == pytest.approx(theirs)


def test_documents_that_are_all_right_leave_room_for_one_that_is_not():
    low, high = interval([1.0] * 30)
    assert high == pytest.approx(1.0)
    assert 0.85 < low < 0.95
    assert interval([1.0] * 30, level=0.5)[0] > low


@pytest.mark.parametrize(("documents", "hard"), [(30, 0.4), (30, 0.1), (198, 0.3)])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(documents: int, hard: float):
    """400 sets of rates, most of them near 1: 3 to 7% are missed, and up to 2 points more or less by chance."""
    generator = np.random.default_rng(8)
    truth = 0.98 * (1 - hard) + 0.5 * hard
    missed = 0
    for _ in range(400):
        rates = np.where(generator.random(documents) < hard, generator.random(documents), 0.98)
        low, high = interval(list(generator.binomial(16, rates) / 16))
        missed += not low <= truth <= high
    assert 0.01 <= missed / 400 <= 0.09


def test_the_error_over_clusters_is_that_of_their_sums():
    """Copies of a document tell nothing new: doubled in one cluster each, the error stays."""
    values = list(np.random.default_rng(2).random(40))
    doubled, clusters = [*values, *values], [*range(40), *range(40)]
    assert standard_error(doubled, clusters) == pytest.approx(standard_error(values))
    assert standard_error(doubled) < 0.75 * standard_error(values)
    assert interval(doubled, clusters=clusters) == pytest.approx(interval(values))
    assert standard_error(values, list(range(40))) == pytest.approx(standard_error(values))
    assert math.isnan(standard_error(values, ["one"] * 40))
