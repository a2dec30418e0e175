"""Rounds until a vote is settled, and who gets what is left (SPEC 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import PromptScript, ScriptedRunner, scripted_engine
from scripted_pools import prompts_of, sequences_of

from eager_lmeval.algorithm.consistency import leader_probability
from eager_lmeval.algorithm.options import resolve
from eager_lmeval.pools.run import PoolResult, grow_pool

GIVEN = {
    "strategy": "consistency",
    "verifier": "exact",
    "max_sequences": 8,
    "entropy_threshold": 1.4,
    "entropy_top_k": 5,
    "temperature": 0.8,
    "max_gen_toks": 12,
    "seed": 3,
}


def classes(answers: Sequence[str | None]) -> list[int | None]:
    """Whether the last token but one is among some; texts of one token hold no answer."""
    tokens = [[] if answer is None else answer.split() for answer in answers]
    return [int(int(ids[-2]) % 5 == 1) if len(ids) > 1 else None for ids in tokens]


def grow(classify: Any = classes, number: int = 16, max_rows: int = 64, **given: Any) -> PoolResult:
    options = resolve(GIVEN | given)
    engine = scripted_engine(ScriptedRunner(PromptScript(eos_bias=1.0)), options, max_rows=max_rows)
    return grow_pool(prompts_of(options, number), options, engine, classify=classify)


# When a vote is settled.


def at_least(most: int, flips: int) -> float:
    """The chance of at least ``most`` heads in so many flips of a fair coin."""
    return sum(math.comb(flips, heads) for heads in range(most, flips + 1)) / 2**flips


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 5))
def test_of_equal_sequences_it_is_the_rule_of_adaptive_consistency(leading: int, second: int, silent: int) -> None:
    """I_{1/2}(a, b) of whole numbers is the chance of at least a heads in a + b − 1 flips of a fair coin."""
    leading = max(leading, second)
    votes = [1] * leading + [7] * second + [None] * silent
    expected = at_least(second + 1, leading + second + 1)
    assert leader_probability(votes, [1 / max(1, len(votes))] * len(votes)) == pytest.approx(expected)


def test_four_of_one_mind_are_settled_and_three_are_not() -> None:
    assert leader_probability([0] * 4, [0.25] * 4) > 0.95 > leader_probability([0] * 3, [1 / 3] * 3)


def test_weights_count_and_not_sequences() -> None:
    assert leader_probability([0, 1, 1], [0.8, 0.1, 0.1]) > leader_probability([0, 0, 1], [1 / 3] * 3)


@pytest.mark.parametrize("votes", [[], [None], [None, None], [0, 1]])
def test_without_a_leader_it_is_even(votes: list[int | None]) -> None:
    assert leader_probability(votes, [1 / max(1, len(votes))] * len(votes)) == pytest.approx(0.5)


# Stage 1.


@pytest.mark.parametrize("branching", ["top2", "systematic", "none"])
def test_a_prompt_of_one_mind_stops_early_and_one_without_answers_spends_all_of_its_copies(branching: str) -> None:
    certain = grow(lambda answers: [0] * len(answers), branching=branching)
    silent = grow(lambda answers: [None] * len(answers), branching=branching)
    for first, last in zip(certain.standings, silent.standings, strict=True):
        assert (first.settled, last.settled) == (True, False)
        assert first.rounds < last.rounds == 4
    assert {standing.rate_roots for standing in silent.standings} == {2 if branching == "none" else 1}


def test_without_branching_the_sequences_are_the_first_of_parallel_up_to_where_the_vote_is_settled() -> None:
    """Adaptive-Consistency as published, with rounds of one sample."""
    result = grow(branching="none", round_sequences=1, extra_cap="0")
    whole = grow(strategy="parallel")
    for tree, parallel, standing in zip(result.trees, whole.trees, result.standings, strict=True):
        n = tree.num_sequences
        assert [s.tokens for s in tree.sequences] == [s.tokens for s in parallel.sequences[:n]]
        sure = [
            leader_probability(classes([s.answer for s in parallel.sequences[:m]]), [1 / m] * m) for m in range(1, 9)
        ]
        settled = [m for m, probability in enumerate(sure, start=1) if probability >= 0.95]
        assert n == min([*settled, 8])
        assert standing == (1, n, bool(settled))
    assert len({tree.num_sequences for tree in result.trees}) > 2


def test_a_round_of_systematic_trees_is_a_root_of_its_own_copies_and_the_last_one_takes_what_is_left() -> None:
    result = grow(lambda answers: [None] * len(answers), branching="systematic", round_sequences=3, extra_cap="0")
    for tree in result.trees:
        copies = [sum(s.copies for s in tree.sequences if s.path[0] == root) for root in range(tree.num_roots)]
        assert copies == [3, 3, 2]
        assert sum(tree.weights()) == pytest.approx(1)


def test_a_round_is_a_quarter_of_max_sequences_where_nothing_else_is_said() -> None:
    sizes = {m: resolve(GIVEN | {"max_sequences": m}).round_size for m in (1, 3, 8, 30)}
    assert sizes == {1: 1, 3: 1, 8: 2, 30: 7}
    assert resolve(GIVEN | {"round_sequences": 9}).round_size == 8


@pytest.mark.parametrize("branching", ["top2", "systematic", "none"])
def test_rounds_do_not_depend_on_the_number_of_rows_and_prefill_a_prompt_once(branching: str) -> None:
    expected = grow(branching=branching)
    assert max(standing.rounds for standing in expected.standings) > 2
    for max_rows in (8,) if branching == "top2" else (1, 3, 8):
        result = grow(branching=branching, max_rows=max_rows)
        assert sequences_of(result) == sequences_of(expected)
        assert result.ledger == expected.ledger
    for tree in expected.trees:
        stages = 1 + bool(expected.ledger.grants.get(tree.prompt.index))
        assert tree.prefill_tokens == stages * len(tree.prompt.token_ids)


# Stage 2.


@pytest.mark.parametrize(
    ("strategy", "branching"),
    [
        *(("consistency", branching) for branching in ("top2", "systematic", "none")),
        ("adapt", "top2"),
        ("adapt", "systematic"),
    ],
)
def test_the_surplus_goes_to_unsettled_prompts_the_least_certain_first(strategy: str, branching: str) -> None:
    given = {"strategy": strategy, "branching": branching, "signal": "unsettled", "entropy_threshold": 1.58}
    first, result = (grow(**given, extra_cap=cap) for cap in ("0", "8M"))
    certainty = {
        tree.prompt.index: leader_probability(classes([s.answer for s in tree.sequences]), tree.weights())
        for tree in first.trees
    }
    unsettled = sorted((index for index, sure in certainty.items() if sure < 0.95), key=certainty.__getitem__)
    assert 1 < len(unsettled) < len(certainty)
    assert result.ledger.surplus == 8 * 16 - sum(tree.num_sequences for tree in first.trees) > 1
    assert list(result.ledger.grants) == unsettled[: result.ledger.surplus]
    sizes = list(result.ledger.grants.values())
    assert sizes == sorted(sizes, reverse=True), "the remainder goes to the least certain"
    assert sum(sizes) == result.ledger.surplus
    for before, after in zip(first.trees, result.trees, strict=True):
        assert after.sequences[: before.num_sequences] == before.sequences
    result.ledger.check_balance()


def test_adapt_s_own_signal_stays_the_paper_s() -> None:
    assert resolve({"strategy": "adapt"}).signal == "saturated"
    assert not resolve({"strategy": "adapt"}).asks_whether_settled
