"""Path weights (SPEC 6) against the truth: scripted models so small that every text's probability can be summed up.

A model says step by step which tokens have which probability; its texts end with RIGHT or WRONG. All runs are seeded,
so a test here passes always or never; bounds are 4 standard errors of a mean over TREES trees (about 1 in 16,000 for a
correct program with another seed).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pytest
from scripted import EOS, ScriptedRunner, scripted_engine, scripted_prompt

from eager_lmeval.algorithm.options import resolve
from eager_lmeval.pools.run import grow_pool
from eager_lmeval.scores.metrics import Vote, consensus, pass_rate
from eager_lmeval.scores.stats import mean, standard_error

STEP, LEFT, RIGHTWARD, THIRD, RIGHT, WRONG = range(1, 7)
VOCABULARY = 7
THRESHOLD_NATS = 0.65  # a fair coin has 0.693, one of 0.7 to 0.3 has 0.611
TREES = 400

Distribution = Mapping[int, float]
Rule = Callable[[Sequence[int]], Distribution]
"""What was generated -> probabilities of the next token."""


def rule_after(prefix: int, fork: Distribution, right: Distribution) -> Rule:
    """``prefix`` certain steps, two forks by ``fork``, then RIGHT with the probability that the first choice gives."""

    def rule(generated: Sequence[int]) -> Distribution:
        done = len(generated) - prefix
        if done < 0:
            return {STEP: 1.0}
        if done < 2:
            return fork
        if done == 2:
            chance = right[generated[prefix]]
            return {RIGHT: chance, WRONG: 1 - chance}
        return {EOS: 1.0}

    return rule


TWO_WAY = rule_after(8, {LEFT: 0.6, RIGHTWARD: 0.4}, {LEFT: 0.72, RIGHTWARD: 0.28})
"""Every fork is between the only two tokens there are: the weights leave no bias."""
THREE_WAY = rule_after(8, {LEFT: 0.5, RIGHTWARD: 0.3, THIRD: 0.2}, {LEFT: 0.72, RIGHTWARD: 0.28, THIRD: 0.05})
"""At every fork a fifth of the probability lies below the second token, on texts that are mostly wrong."""


def logits(rule: Rule) -> Callable[[Sequence[int], Sequence[int]], list[float]]:
    def model(prompt: Sequence[int], generated: Sequence[int]) -> list[float]:
        chances = rule(generated)
        return [math.log(chances[token]) if chances.get(token) else -1e9 for token in range(VOCABULARY)]

    return model


def chance_of_right(
    rule: Rule, of_forks: Callable[[Distribution], Distribution], generated: tuple[int, ...] = ()
) -> float:
    """The probability of RIGHT, summed over all texts; ``of_forks`` replaces the distribution at each fork."""
    if generated and generated[-1] == EOS:
        return float(generated[-2] == RIGHT)
    chances = rule(generated)
    if -sum(p * math.log(p) for p in chances.values() if p) >= THRESHOLD_NATS:
        chances = of_forks(chances)
    return sum(p * chance_of_right(rule, of_forks, (*generated, token)) for token, p in chances.items() if p)


def top_two(chances: Distribution) -> Distribution:
    first, second = sorted(chances, key=lambda token: -chances[token])[:2]
    total = chances[first] + chances[second]
    return {first: chances[first] / total, second: chances[second] / total}


class Sample(NamedTuple):
    """One estimate a tree."""

    weighted: list[float]
    plain: list[float]
    weighted_vote: list[float]
    plain_vote: list[float]
    tokens: list[float]


def grow(rule: Rule, strategy: str, max_sequences: int) -> Sample:
    options = resolve(
        {
            "strategy": strategy,
            "branching": "top2",
            "max_sequences": max_sequences,
            "entropy_threshold": THRESHOLD_NATS,
            "temperature": 1.0,
            "max_gen_toks": 40,
            "seed": 7,
        }
    )
    prompts = [scripted_prompt(index, options) for index in range(TREES)]
    engine = scripted_engine(ScriptedRunner(logits(rule)), options)
    trees = grow_pool(prompts, options, engine).trees
    votes = [
        [Vote(s.tokens[-2], s.tokens[-2] == RIGHT, s.weight / tree.num_roots) for s in tree.sequences] for tree in trees
    ]
    equal = [[vote._replace(weight=1.0) for vote in ballot] for ballot in votes]
    return Sample(
        [pass_rate(ballot) for ballot in votes],
        [pass_rate(ballot) for ballot in equal],
        [consensus(ballot) for ballot in votes],
        [consensus(ballot) for ballot in equal],
        [float(tree.tokens) for tree in trees],
    )


def is_mean_of(expected: float, values: Sequence[float]) -> bool:
    return abs(mean(values) - expected) < 4 * standard_error(values)


@pytest.fixture(scope="module")
def two_way() -> Sample:
    return grow(TWO_WAY, "init", 8)


@pytest.fixture(scope="module")
def parallel() -> Sample:
    return grow(TWO_WAY, "parallel", 4)


def test_independent_sampling_finds_the_truth_weighted_or_not(parallel: Sample):
    truth = chance_of_right(TWO_WAY, lambda chances: chances)
    assert is_mean_of(truth, parallel.plain)
    assert parallel.weighted == pytest.approx(parallel.plain)


def test_the_weighted_rate_of_trees_is_the_truth_where_forks_have_two_ways_and_the_plain_rate_is_not(two_way: Sample):
    truth = chance_of_right(TWO_WAY, lambda chances: chances)
    assert is_mean_of(truth, two_way.weighted)
    assert not is_mean_of(truth, two_way.plain)


@pytest.mark.parametrize("max_sequences", [2, 3])
def test_a_gate_that_closes_midway_leaves_no_bias(max_sequences: int):
    truth = chance_of_right(TWO_WAY, lambda chances: chances)
    assert is_mean_of(truth, grow(TWO_WAY, "init", max_sequences).weighted)


def test_the_bias_that_stays_is_that_of_the_tokens_below_the_second():
    sample = grow(THREE_WAY, "init", 8)
    truth = chance_of_right(THREE_WAY, lambda chances: chances)
    without_the_third = chance_of_right(THREE_WAY, top_two)
    assert without_the_third - truth > 0.1
    assert is_mean_of(without_the_third, sample.weighted)
    assert not is_mean_of(truth, sample.weighted)


def test_at_equal_tokens_a_tree_with_a_long_common_prefix_varies_less_than_independent_samples(
    two_way: Sample, parallel
):
    tokens_a_sample = mean(parallel.tokens) / 4
    truth = chance_of_right(TWO_WAY, lambda chances: chances)
    samples_for_the_same = mean(two_way.tokens) / tokens_a_sample
    independent = truth * (1 - truth) / samples_for_the_same
    assert float(np.var(parallel.plain)) == pytest.approx(truth * (1 - truth) / 4, rel=0.2)
    assert float(np.var(two_way.weighted)) < 0.5 * independent


def test_the_weighted_vote_follows_the_likely_answer_where_unlikely_paths_fork_more():
    """Right comes on one straight path of probability 0.6; the wrong 0.4 splits into four leaves."""

    def rule(generated: Sequence[int]) -> Distribution:
        if not generated:
            return {LEFT: 0.6, RIGHTWARD: 0.4}
        if generated[0] == LEFT:
            return {STEP: 1.0} if len(generated) < 3 else {RIGHT: 1.0} if len(generated) == 3 else {EOS: 1.0}
        if len(generated) < 3:
            return {LEFT: 0.5, RIGHTWARD: 0.5}
        return {WRONG: 1.0} if len(generated) == 3 else {EOS: 1.0}

    sample = grow(rule, "init", 8)
    assert mean(sample.weighted) == pytest.approx(0.6)
    assert mean(sample.plain) == pytest.approx(0.2)
    assert (mean(sample.weighted_vote), mean(sample.plain_vote)) == (1.0, 0.0)


def test_a_second_stage_that_follows_the_first_biases_the_weighted_rate_too():
    """Right comes without a fork; a wrong first step forks until the prompt is saturated, and then draws new trees.

    Stage 1 alone is unbiased. What `adapt` adds goes to the prompts whose first tree happened to fork, here the wrong
    ones, so the mean over their trees leans towards right.
    """

    def rule(generated: Sequence[int]) -> Distribution:
        if not generated:
            return {LEFT: 0.7, RIGHTWARD: 0.3}  # too certain to fork: drawn
        if generated[0] == RIGHTWARD and len(generated) < 3:
            return {LEFT: 0.5, RIGHTWARD: 0.5}
        if len(generated) < 4:
            return {RIGHT if generated[0] == LEFT else WRONG: 1.0}
        return {EOS: 1.0}

    assert is_mean_of(0.7, grow(rule, "init", 4).weighted)
    adapted = grow(rule, "adapt", 4).weighted
    assert not is_mean_of(0.7, adapted)
    assert mean(adapted) > 0.75
