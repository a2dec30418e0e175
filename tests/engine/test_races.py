"""Races in the engine: what the rule says of the same answers, whatever the rows, the memory and the order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from scripted import PromptScript, ScriptedRunner, scripted_engine
from scripted_pools import prompts_of
from slow_race import Outcome, tick_by_tick

from eager_lmeval.algorithm.options import resolve
from eager_lmeval.algorithm.tree import Prompt, Tree
from eager_lmeval.pools.result import PoolResult
from eager_lmeval.pools.run import grow_pool

GIVEN: dict[str, Any] = {"strategy": "consistency", "verifier": "exact", "temperature": 0.8, "max_gen_toks": 40}
RACE = GIVEN | {"max_sequences": 16, "first_lanes": 4, "seed": 3}


def classify(texts: Sequence[str | None]) -> list[int | None]:
    """Two answers, one of which wins two times of three, by the last token but one; short texts have none."""
    tokens = [[] if text is None else text.split() for text in texts]
    return [int(int(ids[-2]) % 3 == 1) if len(ids) > 1 else None for ids in tokens]


def grow(
    given: dict[str, Any],
    prompts: list[Prompt] | None = None,
    number: int = 12,
    runner: ScriptedRunner | None = None,
    **more: Any,
) -> tuple[PoolResult, Any]:
    options = resolve(given)
    runner = runner or ScriptedRunner(PromptScript(eos_bias=1.0))
    engine = scripted_engine(runner, options, **more)
    result = grow_pool(prompts or prompts_of(options, number), options, engine, classify=classify)
    assert not engine.in_use, "all rows are given back"
    assert not engine.growths, "nothing is left behind"
    return result, engine


@cache
def races_by_rule() -> list[tuple[list[list[int]], Outcome]]:
    return by_rule(RACE)


def by_rule(given: dict[str, Any], number: int = 12) -> list[tuple[list[list[int]], Outcome]]:
    """Of each prompt: the tokens of all its answers to the end, and what the rule makes of them."""
    whole, _ = grow(given | {"strategy": "parallel"}, number=number)
    options = resolve(given)
    found = []
    for tree in whole.trees:
        tokens = [sequence.tokens for sequence in tree.sequences]
        answers = classify([sequence.answer for sequence in tree.sequences])
        rule = options.first_lanes, options.max_sequences, options.settled_at
        found.append((tokens, tick_by_tick([len(one) for one in tokens], answers, *rule)))
    return found


def assert_is_the_race(tree: Tree, tokens: list[list[int]], outcome: Outcome) -> None:
    races = outcome.ended | outcome.cut
    assert [sequence.path for sequence in tree.sequences] == [(root,) for root in sorted(races)]
    for sequence in tree.sequences:
        (root,) = sequence.path
        assert sequence.tokens == tokens[root][: races[root]]
        assert (sequence.finish == "cut") == (root in outcome.cut)
        assert (sequence.answer is None) == (root in outcome.cut)
    assert tree.settled_time == outcome.settled


def test_some_races_are_settled_early_some_late_and_some_never() -> None:
    outcomes = [outcome for _, outcome in races_by_rule()]
    assert {outcome.settled is None for outcome in outcomes} == {True, False}
    assert len({len(outcome.ended) for outcome in outcomes}) > 3
    assert sum(len(outcome.cut) for outcome in outcomes) > 5


@pytest.mark.parametrize("max_rows", [1, 3, 16, 64])
def test_a_race_is_that_of_the_rule_whatever_the_rows(max_rows: int) -> None:
    result, _ = grow(RACE, max_rows=max_rows)
    for tree, expected in zip(result.trees, races_by_rule(), strict=True):
        assert_is_the_race(tree, *expected)


@pytest.mark.parametrize("positions", [60, 150, 400])
def test_a_race_is_that_of_the_rule_where_memory_parks_rows(positions: int) -> None:
    result, engine = grow(RACE, runner=ScriptedRunner(PromptScript(eos_bias=1.0), positions=positions), max_rows=64)
    assert engine.stats.parked or positions == 400
    for tree, expected in zip(result.trees, races_by_rule(), strict=True):
        assert_is_the_race(tree, *expected)


def test_a_race_does_not_depend_on_the_order_of_the_prompts() -> None:
    prompts, expected = prompts_of(resolve(RACE), 12), races_by_rule()
    places = random.Random(1).sample(range(12), 12)
    result, _ = grow(RACE, [prompts[place] for place in places], max_rows=9)
    for place, tree in zip(places, result.trees, strict=True):
        assert_is_the_race(tree, *expected[place])


def test_with_rows_for_all_no_root_runs_ahead_and_none_is_decoded_beyond_its_cut() -> None:
    result, engine = grow(RACE, max_rows=16 * 12)
    assert engine.stats.wasted_tokens == 0
    assert engine.stats.tokens == sum(tree.tokens for tree in result.trees)
    assert engine.stats.steps == max(
        max(sequence.start + len(sequence.tokens) for sequence in tree.sequences) for tree in result.trees
    )


def test_what_ran_ahead_of_a_cut_is_counted_as_wasted() -> None:
    result, engine = grow(RACE, max_rows=5)
    assert 0 < engine.stats.wasted_tokens == engine.stats.tokens - sum(tree.tokens for tree in result.trees)


def test_a_prompt_is_prefilled_once_however_many_roots_it_gets() -> None:
    runner = ScriptedRunner(PromptScript(eos_bias=1.0))
    result, _ = grow(RACE, runner=runner, max_rows=16)
    assert Counter(map(tuple, runner.prefilled)).most_common(1)[0][1] <= 3, "prompts of one length are alike"
    assert sum(map(len, runner.prefilled)) == sum(tree.prefill_tokens for tree in result.trees)


def test_nothing_is_granted_what_easy_prompts_leave_is_saved() -> None:
    result, _ = grow(RACE, max_rows=64)
    assert result.ledger.grants == {}
    assert result.ledger.left == 16 * 12 - sum(tree.num_sequences for tree in result.trees) > 0
    for standing, tree in zip(result.standings, result.trees, strict=True):
        assert standing == (4, tree.settled_time is not None, tree.settled_time)


def random_race(seed: int) -> dict[str, Any]:
    choose = random.Random(seed)
    most = choose.randint(1, 24)
    return GIVEN | {
        "max_sequences": most,
        "first_lanes": choose.randint(1, 10),
        "settled_at": choose.choice([0.7, 0.9, 0.95]),
        "seed": seed,
    }


@pytest.mark.parametrize(
    "seeds",
    [range(6), pytest.param(range(6, 206), marks=pytest.mark.slow("200 races at three numbers of rows take a minute"))],
    ids=["some", "200 races"],
)
def test_random_races_are_those_of_the_rule(seeds: range) -> None:
    for seed in seeds:
        given = random_race(seed)
        expected = by_rule(given, number=1)
        for max_rows in (8, 64, 256):
            result, _ = grow(given, number=1, max_rows=max_rows)
            assert_is_the_race(result.trees[0], *expected[0])
