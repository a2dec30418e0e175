"""Where the surplus goes, and that the ledger balances (SPEC 5, 6)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import PromptScript, ScriptedRunner, scripted_engine, scripted_prompt

from eager_lmeval.algorithm.budget import Ledger, share_surplus, surplus
from eager_lmeval.algorithm.options import resolve
from eager_lmeval.algorithm.strategy import restart_threshold
from eager_lmeval.pools.run import grow_pool

SURPLUS = st.integers(0, 300)
ELIGIBLE = st.lists(st.integers(0, 50), unique=True, max_size=9)
CAP = st.integers(0, 60)


@given(SURPLUS, ELIGIBLE, CAP)
def test_grants_never_exceed_the_surplus_or_the_cap_and_waste_nothing(left: int, eligible: list[int], cap: int) -> None:
    grants = share_surplus(left, eligible, cap)
    assert list(grants) == eligible
    assert all(0 <= grant <= cap for grant in grants.values())
    assert sum(grants.values()) == min(left, cap * len(eligible))


@given(SURPLUS, ELIGIBLE, CAP)
def test_grants_are_what_dealing_one_each_in_turn_gives(left: int, eligible: list[int], cap: int) -> None:
    dealt = dict.fromkeys(eligible, 0)
    while left and any(grant < cap for grant in dealt.values()):
        for prompt in eligible:
            if left and dealt[prompt] < cap:
                dealt[prompt] += 1
                left -= 1
    assert share_surplus(sum(dealt.values()) + left, eligible, cap) == dealt


@given(st.integers(1, 40), st.lists(st.integers(1, 80), max_size=20))
def test_the_surplus_is_what_stage_1_left_and_never_negative(max_sequences: int, used: list[int]) -> None:
    assert surplus(max_sequences, used) == max(0, max_sequences * len(used) - sum(used))


BALANCED = Ledger(max_sequences=8, prompts=3, used=14, surplus=10, eligible=2, grants={0: 6, 2: 4}, spent=10)


def test_a_balanced_ledger_passes() -> None:
    BALANCED.check_balance()
    assert BALANCED.left == 0


def test_what_is_left_of_the_surplus_is_what_was_not_spent_though_it_was_granted() -> None:
    """Copies that were granted and end as one sequence."""
    ledger = replace(BALANCED, by_copies=True).with_spent(7)
    ledger.check_balance()
    assert (ledger.granted, ledger.left, ledger.to_record()["left"]) == (10, 3, 3)


@pytest.mark.parametrize(
    ("change", "equation"),
    [
        ({"used": 13}, r"used 13 \+ surplus 10 = M\*D 24"),
        ({"spent": 9}, "spent 9 = granted 10"),
        ({"grants": {0: 9, 2: 4}, "spent": 13}, "grants 13 <= surplus 10"),
        ({"eligible": 1}, "eligible 1 >= granted prompts 2"),
    ],
)
def test_a_ledger_that_does_not_balance_names_the_equation(change: dict[str, object], equation: str) -> None:
    with pytest.raises(RuntimeError, match=equation):
        replace(BALANCED, **change).check_balance()


@pytest.mark.parametrize("preset", ["default", "paper", "reference"])
@pytest.mark.parametrize("strategy", ["init", "adapt", "eager"])
@pytest.mark.parametrize("seed", range(3))
def test_every_strategy_balances_and_keeps_what_stage_1_made(preset: str, strategy: str, seed: int) -> None:
    given = {"max_sequences": 6, "entropy_threshold": 1.58, "entropy_top_k": 5, "temperature": 0.9, "max_gen_toks": 20}
    given |= {"branching": "top2", "preset": preset, "seed": seed}

    def grown(name: str):
        options = resolve(given | {"strategy": name})
        engine = scripted_engine(ScriptedRunner(PromptScript(eos_bias=1.0)), options)
        prompts = [scripted_prompt(index, options) for index in range(8)]
        return grow_pool(prompts, options, engine, judge=lambda tree: tree.prompt.index % 2 == 0)

    result, first_stage = grown(strategy), grown("init")
    result.ledger.check_balance()
    assert result.ledger.used == first_stage.ledger.used
    assert result.labels_used == (strategy == "eager")
    for tree, before in zip(result.trees, first_stage.trees, strict=True):
        new = tree.num_sequences - before.num_sequences
        assert tree.sequences[: before.num_sequences] == before.sequences
        grant = result.ledger.grants.get(tree.prompt.index, 0)
        assert new >= grant if preset == "paper" else new == grant
        assert bool(new) == bool(grant)
    granted = set(result.ledger.grants)
    if strategy == "eager":
        assert granted <= {tree.prompt.index for tree in result.trees if tree.prompt.index % 2}
    if strategy == "adapt":
        assert granted <= {tree.prompt.index for tree in first_stage.trees if tree.num_sequences >= 6}


def test_the_remainder_goes_to_saturated_failing_prompts_first() -> None:
    options = resolve(
        {
            "strategy": "eager",
            "branching": "top2",
            "max_sequences": 6,
            "entropy_threshold": 1.58,
            "entropy_top_k": 5,
            "temperature": 0.9,
            "max_gen_toks": 20,
        }
    )
    engine = scripted_engine(ScriptedRunner(PromptScript(eos_bias=1.0)), options)
    prompts = [scripted_prompt(index, options) for index in range(8)]
    first = grow_pool(prompts, resolve({**options.model_dump(), "strategy": "init"}), engine).trees
    result = grow_pool(prompts, options, engine, judge=lambda tree: False)
    saturated = {tree.prompt.index for tree in first if tree.num_sequences == 6}
    assert 0 < len(saturated) < len(first)
    order = list(result.ledger.grants)
    assert order == sorted(order, key=lambda index: (index not in saturated, index))
    sizes = list(result.ledger.grants.values())
    assert sizes == sorted(sizes, reverse=True)


def test_thresholds_of_restarts_fall_run_by_run() -> None:
    options = resolve({"entropy_threshold": 2.0})
    unsaturated = [restart_threshold(options, number, saturated=False) for number in (1, 2, 3, 4)]
    saturated = [restart_threshold(options, number, saturated=True) for number in (1, 2, 3, 4)]
    assert unsaturated == pytest.approx([1.6, 1.28, 2 * 0.8**3 * 0.9, 2 * 0.8**4 * 0.81])
    assert saturated == pytest.approx([2.0, 2.0, 1.8, 1.8])
