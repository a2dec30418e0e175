"""The gate's promises, simulated: false alarms, false passes, power, and the figures of hand-made cases."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiers import sized

from eager_lmeval.commands.gate.limits import parse_limit
from eager_lmeval.commands.gate.pairing import Metric, TaskPair
from eager_lmeval.commands.gate.verdict import Verdict, decide, holm, overall
from eager_lmeval.scores.paired import Pairs, difference
from eager_lmeval.scores.stats import mcnemar_mid_p

SIMULATIONS = sized(400, 2000)
TOLERANCE = 3 * (0.05 * 0.95 / SIMULATIONS) ** 0.5
"""Three standard errors of a simulated rate of 5 %, which a true rate of 5 % exceeds once in 740 tests."""
CONFIDENCE, POWER = 0.95, 0.8
LEAST_POWER = POWER - 3 * (POWER * (1 - POWER) / SIMULATIONS) ** 0.5
DOCUMENTS = 120

Values = NDArray[np.float64]
Simulator = Callable[[np.random.Generator, float], tuple[Values, Values]]


def task_of(**metrics: tuple[Values, Values]) -> TaskPair:
    names = {"passed": "pass@max", "rate": "pass_rate", "tokens": "tokens"}
    count = len(next(iter(metrics.values()))[0])
    return TaskPair("toy", count, [Metric(names[name], Pairs(*values), 0) for name, values in metrics.items()])


def passed(rng: np.random.Generator, drop: float, documents: int = DOCUMENTS) -> tuple[Values, Values]:
    """0/1 outcomes of which one in five changes, and on average ``drop`` gets worse."""
    kind = rng.choice(4, documents, p=[0.1 + drop / 2, 0.1 - drop / 2, 0.4, 0.4])
    return np.isin(kind, (0, 2)).astype(float), np.isin(kind, (1, 2)).astype(float)


def rate(rng: np.random.Generator, drop: float) -> tuple[Values, Values]:
    """Shares of right ones among 8 sequences of problems that are mostly hopeless or easy; ``drop`` is relative."""
    hardness = np.where(rng.random(DOCUMENTS) < 0.5, rng.beta(0.3, 0.3, DOCUMENTS), 1.0 * (rng.random(DOCUMENTS) < 0.5))
    return rng.binomial(8, hardness) / 8, rng.binomial(8, hardness * (1 - drop)) / 8


def tokens(rng: np.random.Generator, rise: float) -> tuple[Values, Values]:
    """Costs with a long tail; ``rise`` is relative."""
    length = rng.lognormal(6, 1, DOCUMENTS)
    noise = rng.lognormal(0, 0.5, (2, DOCUMENTS))
    return length * noise[0], length * noise[1] * (1 + rise)


def rates(limits: list[str], simulate: Callable[[np.random.Generator], TaskPair]) -> dict[Verdict, float]:
    """How often each verdict comes out."""
    rng = np.random.default_rng(7)
    parsed = [parse_limit(text, "increase" if text.startswith("tokens") else "drop") for text in limits]
    checks = [decide([simulate(rng)], parsed, CONFIDENCE, POWER) for _ in range(SIMULATIONS)]
    found = [overall(check.verdict for check in made) for made in checks]
    return {verdict: found.count(verdict) / SIMULATIONS for verdict in Verdict}


NO_CHANGE = {
    "0/1 outcomes": (["pass@max=0"], lambda rng: task_of(passed=passed(rng, 0))),
    "shares": (["pass_rate=0"], lambda rng: task_of(rate=rate(rng, 0))),
    "costs": (["tokens=0%"], lambda rng: task_of(tokens=tokens(rng, 0))),
    "three limits at once": (
        ["pass@max=0", "pass_rate=0", "tokens=0%"],
        lambda rng: task_of(passed=passed(rng, 0), rate=rate(rng, 0), tokens=tokens(rng, 0)),
    ),
}


@pytest.mark.parametrize("name", NO_CHANGE)
def test_without_a_true_change_false_alarms_are_as_rare_as_asked_for(name: str) -> None:
    """At a limit of 0, where they are the most frequent."""
    limits, simulate = NO_CHANGE[name]
    alarms = rates(limits, simulate)[Verdict.REGRESSION]
    assert 0.01 < alarms <= 1 - CONFIDENCE + TOLERANCE  # near 0 the gate would be blind, or the simulation empty


AT_THE_LIMIT = {
    "0/1 outcomes": (["pass@max=0.05"], lambda rng: task_of(passed=passed(rng, 0.05))),
    "costs": (["tokens=10%"], lambda rng: task_of(tokens=tokens(rng, 0.10))),
}


@pytest.mark.parametrize("name", AT_THE_LIMIT)
def test_a_true_change_of_just_the_limit_rarely_passes_and_rarely_fails(name: str) -> None:
    limits, simulate = AT_THE_LIMIT[name]
    found = rates(limits, simulate)
    assert 0.01 < found[Verdict.PASS] <= 1 - CONFIDENCE + TOLERANCE
    assert 0.01 < found[Verdict.REGRESSION] <= 1 - CONFIDENCE + TOLERANCE


def test_a_true_drop_of_the_stated_detectable_size_is_caught_at_the_stated_power() -> None:
    limit = "pass@max=0.02"
    (check,) = decide(
        [task_of(passed=passed(np.random.default_rng(1), 0))], [parse_limit(limit, "drop")], CONFIDENCE, POWER
    )
    assert 0.05 < check.detectable < 0.2
    caught = rates([limit], lambda rng: task_of(passed=passed(rng, check.detectable)))[Verdict.REGRESSION]
    assert caught >= LEAST_POWER


def test_the_stated_number_of_documents_passes_an_unchanged_model_at_the_stated_power() -> None:
    limit = "pass@max=0.06"
    (check,) = decide(
        [task_of(passed=passed(np.random.default_rng(1), 0))], [parse_limit(limit, "drop")], CONFIDENCE, POWER
    )
    assert check.documents_needed is not None
    assert check.documents_needed > DOCUMENTS
    documents = check.documents_needed
    passes = rates([limit], lambda rng: task_of(passed=passed(rng, 0, documents)))[Verdict.PASS]
    assert passes >= LEAST_POWER


def test_runs_without_any_difference_on_three_documents_prove_nothing() -> None:
    same = np.array([1.0, 0.0, 1.0])
    thirds = same / 3
    for task, limit in (
        (task_of(passed=(same, same)), "pass@max=0.1"),
        (task_of(rate=(thirds, thirds)), "pass_rate=0.1"),
    ):
        (check,) = decide([task], [parse_limit(limit, "drop")], CONFIDENCE, POWER)
        assert check.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("documents", [1, 2, 3, 4])
@pytest.mark.parametrize(("baseline", "rise"), [(100.0, 0.0), (100.0, 1.0), (1000.0, 900.0)])
def test_costs_that_do_not_vary_prove_nothing_on_fewer_documents_than_a_sign_flip_test_needs(
    documents: int, baseline: float, rise: float
) -> None:
    """Of five documents on one side of a limit, the test that assumes least gives p = 1/32."""
    costs = np.full(documents, baseline)
    task = task_of(tokens=(costs, costs + rise))
    for limit in ("tokens=10%", "tokens=0.5"):
        (check,) = decide([task], [parse_limit(limit, "increase")], CONFIDENCE, POWER)
        assert check.verdict is Verdict.INCONCLUSIVE
        assert np.isnan(check.detectable)
    found = difference(Pairs(costs, costs + rise), CONFIDENCE, POWER)
    assert found.p_value >= 2 * 0.5**documents
    assert np.isnan([found.low, found.high, found.detectable]).all()


def test_runs_of_the_same_trees_pass_from_five_documents_on() -> None:
    costs = np.full(5, 270.0)
    (check,) = decide([task_of(tokens=(costs, costs))], [parse_limit("tokens=10%", "increase")], CONFIDENCE, POWER)
    assert (check.verdict, check.p_within) == (Verdict.PASS, 1 / 32)


@pytest.mark.parametrize("documents", [2, 3, 4, 5, 6, 8])
def test_false_alarms_on_few_documents_are_rare_whatever_the_costs_look_like(documents: int) -> None:
    """Costs that rise or fall by the same amount, which a t-test takes for certain where all go one way by chance."""
    limit, rng = parse_limit("tokens=0", "increase"), np.random.default_rng(5)
    alarms = 0
    for _ in range(SIMULATIONS):
        steps = rng.choice([-1.0, 1.0], documents)
        task = task_of(tokens=(np.full(documents, 270.0), 270.0 + steps))
        (check,) = decide([task], [limit], CONFIDENCE, POWER)
        alarms += check.verdict is Verdict.REGRESSION
    assert alarms / SIMULATIONS <= 1 - CONFIDENCE + TOLERANCE


def test_a_relative_limit_is_stated_in_shares_of_the_baseline() -> None:
    baseline = np.random.default_rng(2).lognormal(6, 0.1, 50)
    task = task_of(tokens=(baseline, 1.25 * baseline))
    (check,) = decide([task], [parse_limit("tokens=10%", "increase")], CONFIDENCE, POWER)
    assert check.observed == pytest.approx(0.25)
    assert check.verdict is Verdict.REGRESSION


def test_holm_multiplies_the_smallest_most_and_never_reorders() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(gains=st.integers(0, 30), losses=st.integers(0, 30), same=st.integers(1, 50))
def test_the_p_value_of_0_1_outcomes_is_mcnemars_and_the_interval_agrees_with_the_difference(
    gains: int, losses: int, same: int
) -> None:
    baseline = np.repeat([0.0, 1.0, 1.0], [gains, losses, same])
    candidate = np.repeat([1.0, 0.0, 1.0], [gains, losses, same])
    found = difference(Pairs(baseline, candidate), CONFIDENCE, POWER)
    assert found.p_value == pytest.approx(mcnemar_mid_p(gains, losses), abs=1e-12)
    assert -1 <= found.low <= found.difference <= found.high <= 1
    mirrored = difference(Pairs(candidate, baseline), CONFIDENCE, POWER)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=1e-9)


def test_the_interval_of_0_1_outcomes_without_a_change_is_the_score_tests_closed_form() -> None:
    same, z_squared = np.ones(60), 1.959964**2
    found = difference(Pairs(same, same), CONFIDENCE, POWER)
    assert (found.low, found.high) == pytest.approx((-z_squared / (60 + z_squared), z_squared / (60 + z_squared)))


def test_the_bootstrap_interval_of_costs_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(300):
        found = difference(Pairs(*tokens(rng, 0)), CONFIDENCE, POWER)
        covered += found.low <= 0 <= found.high
    assert 0.89 <= covered / 300 <= 0.985  # the percentile bootstrap of 120 skewed values covers about 94 %
