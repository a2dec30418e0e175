"""Means and error bars over documents (SPEC 8)."""

from __future__ import annotations

import math
import random
import statistics

import numpy as np
import pytest
from scipy import stats as scipy_stats

from eager_lmeval.scores.stats import (
    bootstrap_interval,
    mean,
    standard_error,
)

NAN = math.nan


def test_unscored_documents_are_left_out_and_never_count_as_0():
    values = [1.0, NAN, 0.0, 1.0, NAN]
    assert mean(values) == pytest.approx(2 / 3)
    assert standard_error(values) == pytest.approx(standard_error([1.0, 0.0, 1.0]))
    assert bootstrap_interval(values) == bootstrap_interval([1.0, 0.0, 1.0])


@pytest.mark.parametrize("values", [[], [NAN, NAN]])
def test_without_scored_documents_nothing_is_defined(values: list[float]):
    assert math.isnan(mean(values))
    assert math.isnan(standard_error(values))
    assert all(map(math.isnan, bootstrap_interval(values)))


def test_one_document_has_a_mean_but_no_error_bar():
    assert mean([1.0]) == 1.0
    assert math.isnan(standard_error([1.0]))
    assert all(map(math.isnan, bootstrap_interval([1.0])))


def test_the_standard_error_is_that_of_the_sample_standard_deviation():
    values = [0.1, 0.9, 0.4, 0.4, 0.7]
    assert standard_error(values) == pytest.approx(statistics.stdev(values) / math.sqrt(5))


def test_nothing_depends_on_the_order_of_the_documents():
    values = list(np.random.default_rng(3).random(50))
    turned = random.Random(4).sample(values, len(values))
    assert mean(turned) == mean(values)
    assert standard_error(turned) == standard_error(values)
    assert bootstrap_interval(turned) == bootstrap_interval(values)


def test_the_bootstrap_interval_is_that_of_scipy_and_the_same_every_time():
    values = list(np.random.default_rng(1).random(40))
    low, high = bootstrap_interval(values)
    theirs = scipy_stats.bootstrap((np.array(values),), np.mean, method="percentile", n_resamples=20_000)
    assert (low, high) == bootstrap_interval(values)
    assert low == pytest.approx(theirs.confidence_interval.low, abs=0.01)
    assert high == pytest.approx(theirs.confidence_interval.high, abs=0.01)
    assert bootstrap_interval(values, level=0.5)[0] > low


def test_the_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    """400 samples of 60 coin throws of 0.3; 95% intervals should miss about 20 times, percentile ones a little more."""
    generator = np.random.default_rng(8)
    missed = 0
    for seed in range(400):
        low, high = bootstrap_interval(list((generator.random(60) < 0.3).astype(float)), seed=seed)
        missed += not low <= 0.3 <= high
    assert 8 <= missed <= 45


def test_many_documents_are_resampled_in_parts_of_bounded_size():
    values = [float(place % 2) for place in range(5001)]
    low, high = bootstrap_interval(values)
    assert (low + high) / 2 == pytest.approx(0.5, abs=2e-3)
    assert high - low == pytest.approx(2 * 1.96 * standard_error(values), rel=0.05)
