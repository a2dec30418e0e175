"""Tests over several tasks at once: false alarms and power, simulated, against what the tasks show alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from eager_lmeval.scores.paired import margin_test, pooled_test, spread_allowed

Values = NDArray[np.float64]
SIMULATIONS = 2000
SIZES = (20, 40, 120)


def changes(rng: np.random.Generator, drop: float) -> list[Values]:
    """Three tasks of 0/1 scores, of which one document in five, two in five and one in ten change."""
    shares = (0.2, 0.4, 0.1)
    return [
        rng.choice([1.0, -1.0, 0.0], size, p=[share / 2, share / 2 + drop, 1 - share - drop])
        for size, share in zip(SIZES, shares, strict=True)
    ]


def rate(drop: float, equal: bool) -> float:
    rng = np.random.default_rng(7)
    weights = [1.0] * len(SIZES) if equal else None
    found = [pooled_test(changes(rng, drop), not equal, True, weights) for _ in range(SIMULATIONS)]
    return float(np.mean([2 * min(test.p_beyond, test.p_within) <= 0.05 for test in found]))


@pytest.mark.parametrize("equal", [False, True])
def test_without_a_change_the_pooled_test_alarms_as_rarely_as_asked_for(equal: bool) -> None:
    assert 0.005 < rate(0.0, equal) <= 0.05 + 3 * (0.05 * 0.95 / SIMULATIONS) ** 0.5


def test_a_drop_in_all_tasks_is_found_more_often_together_than_in_the_largest_alone() -> None:
    rng = np.random.default_rng(7)
    together, alone = 0, 0
    for _ in range(300):
        strata = changes(rng, 0.08)
        together += pooled_test(strata, True, True).p_within <= 0.025
        alone += margin_test(strata[-1], 0.0, True, True).p_within <= 0.025
    assert together > alone


def test_one_task_pooled_is_tested_as_it_is_alone() -> None:
    values = np.random.default_rng(1).normal(0.2, 1, 30)
    assert pooled_test([values], False, False) == pytest.approx(margin_test(values, 0.0, False, False))


def test_what_the_spread_has_to_shrink_to_is_what_the_gate_then_passes_with() -> None:
    """Values whose squares are shrunk by the factor have a standard error that shows the distance with that power."""
    values = np.random.default_rng(2).choice([1.0, 0.0, -1.0], 200, p=[0.15, 0.7, 0.15])
    allowed = spread_allowed(values, True, 0.05, 0.05, 0.8)
    assert 0 < allowed < 1
    shrunk = margin_test(values * allowed**0.5, 0.0, False, True).standard_error
    assert shrunk == pytest.approx(0.05 / (1.6449 + 0.8416), rel=0.02)
    assert spread_allowed(values[:20], True, 0.02, 0.05, 0.8) <= 0
