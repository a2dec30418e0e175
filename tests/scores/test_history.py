"""Drift and steps over a history, simulated: false alarms under a hundred looks, power, and where a step is put."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from eager_lmeval.scores.history import FEWEST, drift, e_process, step

HISTORIES = 2000
ALPHA = 0.05
DOCUMENTS = 120
Values = NDArray[np.float64]


def histories(
    runs: int,
    documents: int = DOCUMENTS,
    *,
    fall: Values | None = None,
    flaky: float = 0.0,
    count: int = HISTORIES,
    seed: int = 7,
) -> Values:
    """Means of 0/1 scores on problems that are mostly hopeless or easy, half of them solved. # (count, runs)

    ``fall`` is how much lower each run's true mean is; a ``flaky`` run, rarely, loses six in ten of its right answers.
    """
    rng = np.random.default_rng(seed)
    chances = rng.beta(0.5, 0.5, (count, documents))
    means = np.empty((count, runs))
    for run in range(runs):
        lost = 0.0 if fall is None else 2 * fall[run]
        shares = chances * (1 - lost) * np.where(rng.random((count, 1)) < flaky, 0.4, 1.0)
        means[:, run] = (rng.random((count, documents)) < shares).mean(axis=1)
    return means


def alarms(means: Values) -> Values:
    """The first run at which each history's two-sided process reaches 1 / ALPHA; infinite where none does."""
    reached = e_process(means) >= 1 / ALPHA
    return np.where(reached.any(axis=1), reached.argmax(axis=1), np.inf)


@pytest.mark.parametrize(("documents", "flaky"), [(120, 0.0), (120, 0.05), (10, 0.0)])
def test_without_a_change_a_hundred_looks_raise_an_alarm_in_at_most_the_stated_share(
    documents: int, flaky: float
) -> None:
    """With flaky single runs too, and with means that are often equal."""
    share = np.isfinite(alarms(histories(100, documents, flaky=flaky))).mean()
    assert 0.005 < share <= ALPHA  # near 0 the test would be blind, or the simulation empty


@pytest.mark.parametrize("size", [0.1, 0.3])
def test_a_step_is_found_within_12_runs(size: float) -> None:
    """After 20 runs on 240 documents, in four histories of five; hardly ever before it is there."""
    found = alarms(histories(40, 240, fall=np.where(np.arange(40) < 20, 0.0, size), count=400))
    assert (found < 20).mean() <= ALPHA
    assert (found < 20 + 12).mean() >= 0.8


def test_a_decline_of_half_a_point_a_run_is_found_within_24_runs() -> None:
    assert (alarms(histories(30, 240, fall=0.005 * np.arange(30), count=400)) < 24).mean() >= 0.8


def test_one_run_that_fails_outright_moves_the_process_to_twice_what_it_was_at_most() -> None:
    means = np.array([0.6, 0.62, 0.59, 0.61, 0.0, 0.6, 0.61])
    fall, _ = drift(means)
    assert fall[4] <= 2 * fall[3]
    assert fall.max() < 1 / ALPHA


def test_identical_runs_move_nothing() -> None:
    fall, rise = drift(np.full(40, 0.7))
    assert fall.tolist() == rise.tolist() == [1.0] * 40


def test_either_direction_is_found_and_told() -> None:
    fall, rise = drift(np.linspace(0.8, 0.5, 15))
    assert fall[-1] > 40 > rise[-1]
    fall, rise = drift(np.linspace(0.5, 0.8, 15))
    assert rise[-1] > 40 > fall[-1]


def test_the_interval_of_a_step_holds_the_true_run_as_often_as_stated_and_is_short_for_a_large_one() -> None:
    covered, widths = [], []
    for means in histories(30, 120, fall=np.where(np.arange(30) < 18, 0.0, 0.15), count=100):
        found = step(means)
        assert found is not None
        covered.append(found.low <= 18 <= found.high)
        widths.append(found.high - found.low)
    assert np.mean(covered) >= 0.95 - 3 * (0.05 * 0.95 / 100) ** 0.5
    assert np.median(widths) <= 4


def test_without_a_step_its_p_value_is_small_as_rarely_as_it_says() -> None:
    found = [step(means) for means in histories(15, 60, count=200)]
    share = np.mean([one is not None and one.p_value <= 0.1 for one in found])
    assert share <= 0.1 + 3 * (0.1 * 0.9 / 200) ** 0.5


def test_the_least_p_value_of_a_step_is_one_in_ten_thousand() -> None:
    """Which leaves a correction over a hundred metrics room to find one."""
    found = step(np.repeat([0.0, 1.0], 20))
    assert found is not None
    assert found.at == 20
    assert found.p_value == pytest.approx(1e-4, rel=1e-9)


def test_the_p_value_of_a_step_is_a_share_of_the_orders_of_the_same_runs() -> None:
    """Of the six orders of two low and two high runs, two have them apart."""
    found = step(np.array([0.0, 0.0, 1.0, 1.0]))
    assert found is not None
    assert found.p_value == pytest.approx(2 / 6, abs=0.02)  # four standard errors of 9,999 orders


def test_a_step_is_not_looked_for_in_fewer_runs_than_can_show_one() -> None:
    assert step(np.arange(FEWEST - 1.0)) is None
    found = step(np.array([0.9] * 9 + [0.4] * 6))
    assert found is not None
    assert found.at == 9
    assert 8 <= found.low <= 9 <= found.high <= 10
    assert (found.before, found.after) == pytest.approx((0.9, 0.4))
