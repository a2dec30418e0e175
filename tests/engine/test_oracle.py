"""The engine on real models grows the very trees that the slow, obvious way grows."""

from __future__ import annotations

from typing import Any

import pytest
from against_oracle import (
    END_OF_THINKING,
    PROMPT_LENGTHS,
    assert_same,
    assert_same_sequence,
    by_engine,
    by_oracle,
    prompts,
)
from tiny_models import NAMES, tiny_model

from eager_lmeval.algorithm.options import resolve
from eager_lmeval.engine import runner

SAMPLED = {"temperature": 0.8, "max_gen_toks": 16, "seed": 7}
SAMPLED |= {"branching": "top2", "max_sequences": 4, "entropy_threshold": 2.2}
GREEDY = SAMPLED | {"temperature": 0.0}
SYSTEMATIC = {"branching": "systematic", "entropy_threshold": 1.9}
RACE = {"temperature": 0.8, "max_gen_toks": 16, "seed": 7, "strategy": "consistency", "verifier": "exact"}
RACE |= {"max_sequences": 12, "first_lanes": 3, "settled_at": 0.8}
REFERENCE = {"preset": "reference", "branch_window": 5}
CASES: dict[str, dict[str, Any]] = {
    "parallel": SAMPLED | {"strategy": "parallel", "top_k": 12, "top_p": 0.9},
    "init": SAMPLED | {"strategy": "init", "entropy_threshold": 2.0},
    "init at temperature 0": GREEDY | {"strategy": "init", "top_k": 5},
    "adapt": SAMPLED | {"strategy": "adapt", "top_p": 0.8, "extra_cap": "3M"},
    "adapt, paper": SAMPLED | {"strategy": "adapt", "preset": "paper", "max_sequences": 3, "min_p": 0.05},
    "adapt, reference": SAMPLED | REFERENCE | {"strategy": "adapt", "entropy_threshold": 1.7},
    "eager": SAMPLED | {"strategy": "eager", "think_end_token": END_OF_THINKING},
    "eager at temperature 0": GREEDY | {"strategy": "eager", "entropy_threshold": 2.35},
    "eager, paper": SAMPLED | {"strategy": "eager", "preset": "paper", "top_k": 15},
    "eager, reference": SAMPLED | REFERENCE | {"strategy": "eager", "min_p": 0.1, "extra_cap": "3M"},
    "init, systematic": SAMPLED | SYSTEMATIC | {"strategy": "init", "max_sequences": 8, "top_p": 0.9},
    "init, systematic at θ 0": SAMPLED | SYSTEMATIC | {"strategy": "init", "entropy_threshold": 0, "top_k": 9},
    "init, systematic by two": SAMPLED | SYSTEMATIC | {"strategy": "init", "fan_out": 2, "max_sequences": 11},
    "adapt, systematic": SAMPLED | SYSTEMATIC | {"strategy": "adapt", "entropy_threshold": 1.5, "fan_out": 3},
    "eager, systematic": SAMPLED | SYSTEMATIC | {"strategy": "eager", "think_end_token": END_OF_THINKING},
    "consistency": RACE,
    "consistency, many lanes": RACE | {"first_lanes": 20, "settled_at": 0.6, "top_p": 0.9},
    "eager at temperature 0, reference": GREEDY | {"strategy": "eager", "preset": "reference", "extra_cap": "4M"},
}


ALL = [(model, case) for model in ("qwen3", "gemma3, full and sliding") for case in CASES]
FEW = [(model, case) for model in NAMES for case in ("adapt", "eager, paper")]
"""What runs always: every case on a model of full attention and on one that mixes, and some on every model."""

REST = pytest.mark.slow("all cases on all models: half a minute and no other code path")
EVERY = [
    pytest.param(model, case, marks=[] if (model, case) in {*ALL, *FEW} else REST) for model in NAMES for case in CASES
]


@pytest.mark.parametrize(("model", "case"), EVERY)
def test_engine_grows_the_oracles_trees_whatever_the_rows(model: str, case: str) -> None:
    options = resolve(CASES[case])
    expected = by_oracle(tiny_model(model), options)
    few = options.max_sequences if options.branching == "top2" else 2
    for max_rows in (few, 4 * options.max_sequences, 64):
        result, _ = by_engine(tiny_model(model), options, prompts(options), max_rows)
        assert_same(result, expected)


@pytest.mark.parametrize("case", ["parallel", "adapt", "init, systematic", "consistency"])
@pytest.mark.parametrize("model", ["qwen3", "gemma3, full and sliding"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_engine_grows_the_oracles_trees_where_rows_outgrow_their_length_class(
    monkeypatch: pytest.MonkeyPatch, model: str, case: str, attention: str
) -> None:
    """With `sdpa` rows of all classes share forward passes, with `eager` each class has its own."""
    monkeypatch.setattr(runner, "SHORT", 3)
    monkeypatch.setattr(tiny_model(model).config, "_attn_implementation", attention)
    options = resolve(CASES[case])
    result, _ = by_engine(tiny_model(model), options, prompts(options), max_rows=options.max_sequences)
    assert_same(result, by_oracle(tiny_model(model), options))


@pytest.mark.parametrize("case", ["parallel", "init", "init at temperature 0", "init, systematic"])
@pytest.mark.parametrize("model", NAMES)
def test_trees_do_not_depend_on_the_order_of_the_prompts(model: str, case: str) -> None:
    options = resolve(CASES[case])
    expected = by_oracle(tiny_model(model), options)
    of = prompts(options)
    for order in ([3, 0, 4, 1, 2], [4, 3, 2, 1, 0]):
        result, _ = by_engine(tiny_model(model), options, [of[place] for place in order], max_rows=5)
        for tree, place in zip(result.trees, order, strict=True):
            for sequence, leaf in zip(tree.sequences, expected.trees[place].leaves, strict=True):
                assert_same_sequence(sequence, leaf)


@pytest.mark.parametrize("model", NAMES)
def test_init_prefills_exactly_the_prompts(model: str) -> None:
    options = resolve(CASES["init"])
    result, engine = by_engine(tiny_model(model), options, prompts(options), max_rows=options.max_sequences)
    assert [tree.prefill_tokens for tree in result.trees] == list(PROMPT_LENGTHS)
    assert engine.stats.prefill_tokens == sum(PROMPT_LENGTHS)
    assert engine.stats.parked > 0


def test_stage_2_may_grow_more_sequences_than_there_are_rows() -> None:
    model = "gemma3, full and sliding"
    options = resolve(CASES["adapt"] | {"entropy_threshold": 2.3, "extra_cap": "5M", "top_p": None})
    expected = by_oracle(tiny_model(model), options)
    assert max(expected.grants.values()) > 2 * options.max_sequences
    result, engine = by_engine(tiny_model(model), options, prompts(options), max_rows=options.max_sequences)
    assert_same(result, expected)
    assert engine.stats.rows_offered > options.max_sequences * engine.stats.steps


def test_the_cases_reach_what_they_are_for() -> None:
    """Grants to saturated and to unsaturated prompts, later restarts, stops and lengths, forks of forks."""
    pools = [
        by_engine(tiny_model("llama"), resolve(CASES[case]), prompts(resolve(CASES[case])), 64)[0] for case in CASES
    ]
    trees = [tree for pool in pools for tree in pool.trees]
    sequences = [sequence for tree in trees for sequence in tree.sequences]
    assert {sequence.finish for sequence in sequences} == {"stop", "length", "cut"}
    assert any(len(sequence.path) > 2 for sequence in sequences)
    assert max(tree.num_roots for tree in trees if tree.num_branches) >= 3
    assert sum(bool(pool.ledger.grants) for pool in pools) >= 5
