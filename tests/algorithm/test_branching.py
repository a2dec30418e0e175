"""Copies dealt over a distribution (SPEC 3.2), and what they estimate against the truth.

The truth comes from models so small that every text's probability can be summed up. All runs are seeded, so a test here
passes always or never. Of a correct program with other seeds it would fail with the probability that `LIMIT` says: the
estimates of TREES trees have a normal mean, and 5 standard errors are passed once in 1.7 million settings.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import (
    END_OF_THINKING,
    EOS,
    NumberTokenizer,
    ScriptedRunner,
    sampling_of,
    scripted_prompt,
)
from tiers import sized

from eager_lmeval.algorithm.branching import SplitSettings, deal, opens, strata_of
from eager_lmeval.algorithm.options import Options, resolve
from eager_lmeval.algorithm.readout import Readout, Stratum
from eager_lmeval.algorithm.tree import Sequence as Grown
from eager_lmeval.engine.loop import Engine
from eager_lmeval.engine.text import TextStopper
from eager_lmeval.engine.thinking import Thinking
from eager_lmeval.pools.run import grow_pool

LIMIT = 5.0
TREES = sized(200, 800)

# Who opens, and who takes what.


def readout(entropy: float, strata: int = 0) -> Readout:
    dealt = tuple(Stratum(token, -1.0) for token in range(strata))
    return Readout(0, 0, 1, entropy, 0.5, 0.5, -1.0, -1.0, -1.0, strata=dealt)


@pytest.mark.parametrize(
    ("copies", "fan_out", "thought_ended", "strata"),
    [(1, None, False, 0), (7, None, False, 7), (7, 3, False, 3), (2, 3, False, 2), (7, 3, True, 0)],
)
def test_a_sequence_is_dealt_over_as_many_strata_as_it_has_copies_or_fan_out_allows(
    copies: int, fan_out: int | None, thought_ended: bool, strata: int
) -> None:
    sequence = Grown((0,), copies=copies, thought_ended=thought_ended)
    assert strata_of(sequence, SplitSettings(1.0, 0, fan_out)) == strata


def test_the_threshold_itself_opens() -> None:
    settings = SplitSettings(threshold=1.5, seed=0)
    assert [opens(readout(entropy, strata=2), settings) for entropy in (1.49, 1.5, 1.51)] == [False, True, True]
    assert not opens(readout(1.51), settings), "what asked for no strata cannot open"


STRATA = st.lists(st.integers(0, 4), min_size=1, max_size=9).map(sorted)


@given(st.integers(1, 40), STRATA, st.integers(0, 8))
def test_a_deal_gives_every_copy_a_token_and_strata_differ_by_one(copies: int, tokens: list[int], shift: int) -> None:
    copies, shift = max(copies, len(tokens)), shift % len(tokens)
    parts = deal(copies, [Stratum(token, -float(token)) for token in tokens], shift)
    assert sum(part.copies for part in parts) == copies
    assert {part.token for part in parts} == set(tokens)
    assert all(part.logprob == -part.token for part in parts)
    going_on, *others = parts
    assert [part.token for part in others] == sorted(part.token for part in others)
    assert all((going_on.copies, -going_on.token) > (part.copies, -part.token) for part in others)
    for part in parts:
        assert part.copies // tokens.count(part.token) in (copies // len(tokens), copies // len(tokens) + 1)


@pytest.mark.parametrize("strata", range(1, 6))
def test_over_all_shifts_every_stratum_gets_the_same(strata: int) -> None:
    for copies in range(strata, 3 * strata):
        dealt = [deal(copies, [Stratum(g, 0.0) for g in range(strata)], shift) for shift in range(strata)]
        by_token = [sum(part.copies for part in itertools.chain(*dealt) if part.token == g) for g in range(strata)]
        assert by_token == [copies] * strata


def test_the_copies_left_over_go_round_from_the_shifted_stratum() -> None:
    strata = [Stratum(token, 0.0) for token in (10, 11, 12, 13)]
    assert {part.token: part.copies for part in deal(6, strata, shift=3)} == {10: 2, 11: 1, 12: 1, 13: 2}


# What copies estimate.

Distribution = Mapping[int, float]
Rule = Callable[[Sequence[int]], Distribution]
"""What was generated -> probabilities of the next token, after temperature and cuts."""

A, B, C, D, END, STOP = range(1, 7)
VOCABULARY = 7


def wandering(generated: Sequence[int]) -> Distribution:
    """Every step is uncertain and depends on the two before, so answers and lengths differ from path to path."""
    if generated and generated[-1] == EOS:
        return {}
    last, before = (generated[-1] if generated else A), (generated[-2] if len(generated) > 1 else B)
    raw = {token: 1.0 + 2.0 * ((3 * last + 5 * before + 7 * token) % 11) for token in (A, B, C, D)}
    if len(generated) > 1:
        raw |= {EOS: 6.0 + 4.0 * (last == C), END: 3.0, STOP: 4.0 * (last == B)}
    total = sum(raw.values())
    return {token: weight / total for token, weight in raw.items() if weight}


def cut(rule: Rule, top_p: float) -> Rule:
    """Nucleus sampling: the most likely tokens until their mass reaches ``top_p``."""

    def truncated(generated: Sequence[int]) -> Distribution:
        kept: dict[int, float] = {}
        for token, p in sorted(rule(generated).items(), key=lambda item: -item[1]):
            if sum(kept.values()) < top_p:
                kept[token] = p
        total = sum(kept.values())
        return {token: p / total for token, p in kept.items()}

    return truncated


def value(tokens: Sequence[int]) -> float:
    """What is estimated: some function of a whole sequence that its first and its last steps matter to."""
    return float(tokens[0] == A) + 0.5 * (sum(tokens) % 3) + 0.25 * len(tokens)


def expectation(rule: Rule, most: int, stops: frozenset[int], generated: tuple[int, ...] = ()) -> float:
    """The mean of `value` over independent samples, summed over all texts."""
    if generated and (generated[-1] in stops or len(generated) == most):
        return value(generated)
    return sum(p * expectation(rule, most, stops, (*generated, token)) for token, p in rule(generated).items())


def logits_of(rule: Rule) -> Callable[[Sequence[int], Sequence[int]], list[float]]:
    def model(prompt: Sequence[int], generated: Sequence[int]) -> list[float]:
        chances = rule(generated)
        return [math.log(chances[token]) if chances.get(token) else -1e9 for token in range(VOCABULARY)]

    return model


def estimates(rule: Rule, trees: int = TREES, until: Sequence[str] = (), thinks: bool = False, **given: Any) -> Any:
    """One weighted mean of `value` a tree, each tree that of another prompt."""
    options: Options = resolve(
        {"strategy": "init", "branching": "systematic", "temperature": 1.0, "max_gen_toks": 5, "seed": 11} | given
    )
    thinking = Thinking(END_OF_THINKING, (END,)) if thinks else None
    stopper = TextStopper(NumberTokenizer(), {EOS}, until, thinking)
    engine = Engine(ScriptedRunner(logits_of(rule)), stopper, sampling_of(options), options.seed, max_rows=64)
    grown = grow_pool([scripted_prompt(index, options) for index in range(trees)], options, engine).trees
    found = []
    for tree in grown:
        assert sum(sequence.copies or 0 for sequence in tree.sequences) == options.max_sequences
        found.append(
            sum(w * value(sequence.tokens) for w, sequence in zip(tree.weights(), tree.sequences, strict=True))
        )
    return np.array(found)


SETTINGS: dict[str, dict[str, Any]] = {
    "θ 0, all copies apart": {"entropy_threshold": 0.0, "max_sequences": 4},
    "θ 1.5": {"entropy_threshold": 1.5, "max_sequences": 8},
    "θ 1.3, by two": {"entropy_threshold": 1.3, "max_sequences": 8, "fan_out": 2},
    "θ 1, by three, copies left over": {"entropy_threshold": 1.0, "max_sequences": 7, "fan_out": 3},
    "θ 1.3, many copies": {"entropy_threshold": 1.3, "max_sequences": 32, "fan_out": 5},
    "top_p": {"entropy_threshold": 1.0, "max_sequences": 5, "top_p": 0.7},
    "a stop string": {"entropy_threshold": 1.0, "max_sequences": 6, "until": [str(STOP)]},
    "a thinking marker": {"entropy_threshold": 1.0, "max_sequences": 6, "thinks": True},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_weighted_mean_over_copies_is_the_mean_over_independent_samples(name: str) -> None:
    given = SETTINGS[name]
    rule = cut(wandering, given["top_p"]) if "top_p" in given else wandering
    stops = frozenset({EOS, STOP}) if "until" in given else frozenset({EOS})
    found = estimates(wandering, **given)
    error = found.std(ddof=1) / math.sqrt(len(found))
    assert abs(found.mean() - expectation(rule, 5, stops)) < LIMIT * error


def test_the_paper_s_fork_into_the_two_most_likely_tokens_would_be_noticed() -> None:
    """The same comparison fails for an estimate that is biased."""
    options = resolve(
        {"branching": "top2", "entropy_threshold": 1.0, "max_sequences": 6, "temperature": 1.0, "max_gen_toks": 5}
    )
    engine = Engine(
        ScriptedRunner(logits_of(wandering)), TextStopper(NumberTokenizer(), {EOS}), sampling_of(options), 11, 64
    )
    trees = grow_pool([scripted_prompt(index, options) for index in range(TREES)], options, engine).trees
    found = np.array([sum(s.weight * value(s.tokens) for s in tree.sequences) for tree in trees])
    error = found.std(ddof=1) / math.sqrt(len(found))
    assert abs(found.mean() - expectation(wandering, 5, frozenset({EOS}))) > LIMIT * error


def test_strata_of_one_step_cover_the_distribution_more_evenly_than_independent_draws_do() -> None:
    """Of 8 copies dealt at once, each token gets the floor or the ceiling of what it expects."""

    def one_step(generated: Sequence[int]) -> Distribution:
        return {A: 0.4, B: 0.35, C: 0.25} if not generated else {EOS: 1.0}

    options = resolve(
        {"branching": "systematic", "entropy_threshold": 0.5, "max_sequences": 8, "temperature": 1.0, "max_gen_toks": 2}
    )
    engine = Engine(
        ScriptedRunner(logits_of(one_step)), TextStopper(NumberTokenizer(), {EOS}), sampling_of(options), 3, 64
    )
    for tree in grow_pool([scripted_prompt(index, options) for index in range(50)], options, engine).trees:
        copies = {sequence.tokens[0]: sequence.copies for sequence in tree.sequences}
        for token, p in ((A, Fraction(2, 5)), (B, Fraction(7, 20)), (C, Fraction(1, 4))):
            assert copies[token] in (math.floor(8 * p), math.ceil(8 * p))
