"""What every tree satisfies, and what it says about its cost (SPEC 1, 3, 6)."""

from __future__ import annotations

import json
import math
import operator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Script, ScriptedRunner, scripted_engine, scripted_prompt
from tiers import sized

from eager_lmeval.algorithm.options import resolve
from eager_lmeval.algorithm.tree import Prompt, Sequence, Tree, parent_path
from eager_lmeval.pools.run import grow_pool

COMMON = st.fixed_dictionaries(
    {
        "strategy": st.sampled_from(["parallel", "init", "adapt"]),
        "max_sequences": st.integers(1, 9),
        "entropy_threshold": st.floats(0.5, 1.61),
        "entropy_top_k": st.just(5),
        "entropy_of": st.sampled_from(["raw", "tempered"]),
        "temperature": st.sampled_from([0.0, 0.6, 1.0, 1.4]),
        "top_k": st.sampled_from([None, 3]),
        "top_p": st.sampled_from([None, 0.7]),
        "max_gen_toks": st.integers(1, 18),
        "seed": st.integers(0, 5),
    }
)
OF_TOP2 = st.fixed_dictionaries(
    {"branch_window": st.sampled_from([None, 1, 4]), "dynamic_percentile": st.sampled_from([None, 50, 99])}
)
OF_SYSTEMATIC = st.fixed_dictionaries({"branching": st.just("systematic"), "fan_out": st.sampled_from([None, 2, 3])})
OPTIONS = st.one_of(
    st.builds(operator.or_, COMMON, OF_TOP2),
    st.builds(operator.or_, COMMON, OF_SYSTEMATIC).filter(lambda given: given["strategy"] != "parallel"),
)
SCRIPTS = st.builds(
    Script, salt=st.sampled_from("abcd"), vocab=st.sampled_from([6, 15]), scale=st.just(3.0), eos_bias=st.just(1.0)
)


def grow(script: Script, given: dict[str, Any], prompts: int = 2) -> list[Tree]:
    options = resolve({"branching": "top2"} | given)
    pool = [scripted_prompt(index, options) for index in range(prompts)]
    return grow_pool(pool, options, scripted_engine(ScriptedRunner(script), options)).trees


@settings(max_examples=sized(20, 100), deadline=None)
@given(SCRIPTS, OPTIONS)
def test_every_tree_keeps_the_specification(script: Script, given: dict[str, Any]) -> None:
    for tree in grow(script, given):
        tree.check_integrity()
        by_path = {sequence.path: sequence for sequence in tree.sequences}
        roots = [sequence.path for sequence in tree.sequences if len(sequence.path) == 1]
        assert roots == [(number,) for number in range(tree.num_roots)]
        assert sum(sequence.weight for sequence in tree.sequences) == pytest.approx(tree.num_roots)
        if given["strategy"] == "init":
            assert tree.num_sequences <= given["max_sequences"]
        if given.get("branching") == "systematic" and given["strategy"] == "init":
            assert sum(sequence.copies for sequence in tree.sequences) == given["max_sequences"]
        for sequence in tree.sequences:
            assert 0 <= sequence.weight <= 1
            assert 1 <= len(sequence.tokens) <= given["max_gen_toks"]
            assert (sequence.finish == "stop") == (sequence.tokens[-1] == 0)
            assert 0 not in sequence.tokens[:-1]
            assert len(sequence.entropies) == sequence.own_tokens - (sequence.branch_at is not None)
            if sequence.branch_at is not None:
                parent = by_path[sequence.parent]
                assert sequence.branch_entropy == parent.entropies[sequence.branch_at - _first_entropy(parent)]


def _first_entropy(sequence: Sequence) -> int:
    return 0 if sequence.branch_at is None else sequence.branch_at + 1


@settings(max_examples=sized(15, 60), deadline=None)
@given(SCRIPTS, OPTIONS)
def test_costs_count_a_shared_prefix_once(script: Script, given: dict[str, Any]) -> None:
    for tree in grow(script, given):
        positions = {
            tuple(sequence.tokens[: at + 1]) for sequence in tree.sequences for at in range(len(sequence.tokens))
        }
        assert tree.tokens_independent == sum(len(sequence.tokens) for sequence in tree.sequences)
        if tree.num_roots == 1:
            assert tree.tokens == len(positions)
        assert tree.num_sequences == tree.num_roots + tree.num_branches
        assert len(tree.entropies()) == tree.tokens - tree.num_branches


@settings(max_examples=sized(15, 60), deadline=None)
@given(SCRIPTS, OPTIONS)
def test_a_record_is_plain_json_from_which_every_sequence_can_be_rebuilt(script: Script, given: dict[str, Any]) -> None:
    for tree in grow(script, given):
        record = json.loads(json.dumps(tree.to_record(), allow_nan=False))
        assert sum(sequence["weight"] for sequence in record["sequences"]) == pytest.approx(1)
        whole: dict[tuple[int, ...], list[int]] = {}
        for sequence, kept in zip(tree.sequences, record["sequences"], strict=True):
            path, at = tuple(kept["path"]), kept["branch_at"]
            shared = [] if at is None else whole[parent_path(path, at)][:at]
            whole[path] = shared + kept["token_ids"]
            assert whole[path] == sequence.tokens
            assert kept["num_tokens"] == len(sequence.tokens)
            assert 0 <= kept["mean_entropy"] <= math.log(5) + 1e-6


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True), st.integers(0, 9), st.integers(0, 9))
def test_a_path_says_which_sequence_a_child_left_under_either_branching(rising: list[int], at: int, token: int) -> None:
    parent = (3, *sorted(rising))
    after = max(rising) + 1 + at
    assert parent_path((*parent, after), after) == parent
    assert parent_path((3, after), after) == (3,)
    of_split = (3, *(number for index in sorted(rising) for number in (index, token)))
    assert parent_path((*of_split, after, token), after) == of_split
    assert parent_path((3, at, token), at) == (3,)


def test_forced_tokens_are_the_two_most_likely_and_share_the_weight() -> None:
    script = Script(salt="fork", vocab=8, scale=1.0, eos_bias=-5.0)
    (tree,) = grow(script, {"max_sequences": 2, "entropy_threshold": 0.0, "max_gen_toks": 1, "temperature": 0.5}, 1)
    logits = script.logits([])
    first, second = sorted(range(8), key=lambda token: -logits[token])[:2]
    assert [sequence.tokens for sequence in tree.sequences] == [[first], [second]]
    odds = math.exp((logits[first] - logits[second]) / 0.5)
    assert [sequence.weight for sequence in tree.sequences] == pytest.approx([odds / (1 + odds), 1 / (1 + odds)])


def test_weights_make_a_tree_an_estimate_of_independent_sampling() -> None:
    """The exact chance that a sample's first token is the most likely one or its rival, from one fork's weights."""
    script = Script(salt="estimate", vocab=2, scale=1.0, eos_bias=0.0)
    given = {"max_sequences": 2, "entropy_threshold": 0.0, "entropy_top_k": 2, "max_gen_toks": 1, "temperature": 1.0}
    (tree,) = grow(script, given, 1)
    logits = script.logits([])
    chances = {token: math.exp(logits[token]) / sum(map(math.exp, logits)) for token in (0, 1)}
    assert {sequence.tokens[0]: sequence.weight for sequence in tree.sequences} == pytest.approx(chances)


def _tree_of(*sequences: Sequence) -> Tree:
    return Tree(Prompt(0, "demo", "", [1]), list(sequences))


def _child(path: tuple[int, ...] = (0, 1), tokens: tuple[int, ...] = (5, 7), **fields: Any) -> Sequence:
    own = {"branch_at": 1, "branch_entropy": 1.0, "weight": 0.5, "finish": "stop", "entropy_sum": 1.5} | fields
    return Sequence(path, list(tokens), **own)


ROOT = Sequence(path=(0,), tokens=[5, 6], weight=0.5, finish="stop", entropies=[0.5, 1.0], entropy_sum=1.5)


@pytest.mark.parametrize(
    ("tree", "complaint"),
    [
        (_tree_of(ROOT, _child(), _child()), "two sequences with one path"),
        (_tree_of(_child(), ROOT), "created before its parent"),
        (_tree_of(ROOT, _child(tokens=(5, 6))), "equals its parent at 1"),
        (_tree_of(ROOT, _child(tokens=(4, 7))), "left its parent before 1"),
        (_tree_of(ROOT, _child(path=(0, 2))), "does not say it left its parent at 1"),
        (_tree_of(ROOT, _child(finish=None)), "unfinished"),
        (_tree_of(ROOT, _child(weight=0.4)), "weights of root 0 sum to 0.9"),
        (_tree_of(ROOT, _child(weight=math.nan)), "the weight nan"),
        (_tree_of(ROOT, _child((0, 1, 7), copies=1)), "some sequences have copies"),
        (_tree_of(ROOT, _child(branch_entropy=0.7)), "branch_entropy=0.7, and its parent 1.0"),
        (_tree_of(ROOT, _child(entropy_sum=3.0)), "mean_entropy=1.5"),
        (_tree_of(ROOT, _child(entropies=[1.0])), "1 entropies of 0 positions"),
        (_tree_of(ROOT, _child(likeliest=[(0, 0.5, 0.2)])), "a probability at 0, which it did not decode"),
        (_tree_of(ROOT, _child(likeliest=[(1, 0.2, 0.5)])), "the probabilities 0.2 and 0.5"),
        (_tree_of(ROOT, _child(answer_at=1)), "an answer at 1 of a text of 0 characters"),
        (_tree_of(ROOT, _child(logprob=1.0)), "log-probabilities above 0"),
    ],
)
def test_a_broken_tree_is_noticed(tree: Tree, complaint: str) -> None:
    _tree_of(ROOT, _child()).check_integrity()
    with pytest.raises(ValueError, match=complaint):
        tree.check_integrity()


def test_a_token_beyond_the_vocabulary_is_noticed() -> None:
    _tree_of(ROOT, _child()).check_integrity(vocabulary=8)
    with pytest.raises(ValueError, match="the token 7, which is not in the vocabulary"):
        _tree_of(ROOT, _child()).check_integrity(vocabulary=7)
