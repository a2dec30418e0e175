"""The trees of `eager-vllm` are those of `eager`, token for token, on the demo model."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence as Seq
from typing import Any

import pytest
import torch
from process_runs import problems
from vllm.v1.sample.sampler import Sampler

from eager_lmeval.algorithm.options import Options, resolve
from eager_lmeval.algorithm.tree import Prompt, Sequence, Tree
from eager_lmeval.engine.vllm import requests
from eager_lmeval.engine.vllm.loop import Engine
from eager_lmeval.engine.vllm.server import Server
from eager_lmeval.errors import UsageError
from eager_lmeval.lm import EagerLM
from eager_lmeval.lm_vllm import EagerVLLM
from eager_lmeval.pools.result import PoolResult
from eager_lmeval.pools.run import grow_pool

DOCS = 12

SAMPLED = {"temperature": 0.8, "max_gen_toks": 60, "seed": 7}
SAMPLED |= {"branching": "top2", "max_sequences": 6, "entropy_threshold": 0.3}
GREEDY = SAMPLED | {"temperature": 0.0}
SYSTEMATIC = {"branching": "systematic", "max_sequences": 8}
RACE = {"strategy": "consistency", "verifier": "exact", "temperature": 0.8, "max_gen_toks": 60, "seed": 7}
RACE |= {"max_sequences": 16, "first_lanes": 4, "settled_at": 0.8}
THINKING = {"think_end_token": "=", "entropy_threshold": 0.1}
"""Digits before the first = stand for the thinking part of a model that has one."""

CASES: dict[str, dict[str, Any]] = {
    "parallel": SAMPLED | {"strategy": "parallel"},
    "parallel, all cuts": SAMPLED | {"strategy": "parallel", "top_k": 12, "top_p": 0.9, "min_p": 0.02},
    "parallel at temperature 0": GREEDY | {"strategy": "parallel", "max_sequences": 2},
    "init": SAMPLED | {"strategy": "init"},
    "init at temperature 0": GREEDY | {"strategy": "init", "top_k": 5},
    "init, top_p that cuts second tokens": SAMPLED | {"strategy": "init", "top_p": 0.6, "entropy_threshold": 0.1},
    "init, hot, top_p": SAMPLED | {"strategy": "init", "temperature": 2.5, "top_p": 0.2, "entropy_top_k": 3},
    "init, top_k and min_p": SAMPLED | {"strategy": "init", "top_k": 3, "min_p": 0.3, "entropy_threshold": 0.1},
    "init, stop strings": SAMPLED | {"strategy": "init", "until": ["7", "+1"]},
    "init, thinking": SAMPLED | THINKING | {"strategy": "init"},
    "init, systematic": SAMPLED | SYSTEMATIC | {"strategy": "init"},
    "init, systematic at θ 0": SAMPLED | SYSTEMATIC | {"strategy": "init", "entropy_threshold": 0, "top_k": 9},
    "init, systematic by two, stop strings": SAMPLED
    | SYSTEMATIC
    | {"strategy": "init", "fan_out": 2, "entropy_threshold": 0.05, "max_sequences": 11, "until": ["7"]},
    "init, systematic, thinking": SAMPLED | THINKING | SYSTEMATIC | {"strategy": "init"},
    "adapt": SAMPLED | {"strategy": "adapt", "extra_cap": "3M"},
    "adapt, paper": SAMPLED | {"strategy": "adapt", "preset": "paper", "max_sequences": 3, "min_p": 0.05},
    "adapt, reference": SAMPLED
    | {"strategy": "adapt", "preset": "reference", "branch_window": 5, "entropy_threshold": 0.1},
    "adapt, systematic": SAMPLED
    | SYSTEMATIC
    | {"strategy": "adapt", "fan_out": 3, "top_p": 0.9, "entropy_threshold": 0.1},
    "eager": SAMPLED | {"strategy": "eager"},
    "eager, systematic": SAMPLED | SYSTEMATIC | {"strategy": "eager"},
    "consistency": RACE,
    "consistency, many lanes": RACE | {"first_lanes": 20, "settled_at": 0.6, "top_p": 0.9},
    "consistency, stop strings": RACE | {"until": ["7"], "max_sequences": 24},
}


def prompts(lm: EagerLM, options: Options) -> list[Prompt]:
    contexts = [f"<|user|>{doc['question']}<|assistant|>" for doc in problems(0, DOCS)]
    return [
        Prompt(index, "demo", context, lm.encode(context, options.max_gen_toks), index, options.max_gen_toks)
        for index, context in enumerate(contexts)
    ]


def correct(tree: Tree) -> bool:
    """Stands for a verifier: right is what has a token sum divisible by 5."""
    return any(sum(sequence.tokens) % 5 == 0 for sequence in tree.sequences)


def classify(texts: Seq[str | None]) -> list[int | None]:
    """Stands for a verifier's classes; every fourth sequence or so has no answer."""
    return [None if text is None else len(text) % 4 or None for text in texts]


def grown(lm: Any, options: Options, of: list[Prompt]) -> tuple[PoolResult, Any]:
    engine = lm._eager.decoding.engine(options)
    return grow_pool(of, options, engine, correct, classify=classify), engine


EXPECTED: dict[str, PoolResult] = {}
"""What `eager` grows, by case."""


def expected(case: str, plain: EagerLM) -> PoolResult:
    if case not in EXPECTED:
        options = resolve(CASES[case])
        EXPECTED[case], _ = grown(plain, options, prompts(plain, options))
    return EXPECTED[case]


def known_positions(tree: Tree, sequence: Sequence) -> int:
    """How many of its first positions have an entropy, shared ones included."""
    if sequence.branch_at is None:
        return len(sequence.entropies)
    (parent,) = (other for other in tree.sequences if other.path == sequence.parent)
    shared = min(sequence.branch_at, known_positions(tree, parent))
    return shared if shared < sequence.branch_at else shared + 1 + len(sequence.entropies)


def assert_same(result: PoolResult, other: PoolResult) -> None:
    """Tokens and shape are equal; real numbers up to rounding, as far as vLLM was asked for them."""
    for tree, reference in zip(result.trees, other.trees, strict=True):
        tree.check_integrity()
        assert len(tree.sequences) == len(reference.sequences)
        for sequence, twin in zip(tree.sequences, reference.sequences, strict=True):
            for name in ("path", "tokens", "finish", "branch_at", "copies", "text", "answer_at", "thought_ended"):
                assert getattr(sequence, name) == getattr(twin, name), name
            known = len(sequence.entropies)
            assert sequence.entropies == pytest.approx(twin.entropies[:known], abs=1e-5)
            assert sequence.branch_entropy == pytest.approx(twin.branch_entropy, abs=1e-5)
            whole = known_positions(tree, sequence) == len(sequence.tokens)
            assert math.isnan(sequence.logprob) == (not whole)
            if whole:
                assert sequence.logprob == pytest.approx(twin.logprob, abs=1e-4)
                assert sequence.entropy_sum == pytest.approx(twin.entropy_sum, abs=1e-4)
        assert tree.weights() == pytest.approx(reference.weights(), rel=1e-4, abs=1e-9)
    assert result.ledger == other.ledger


@pytest.mark.parametrize("case", CASES)
def test_trees_are_those_of_eager_whatever_the_slots(case: str, served: EagerVLLM, plain: EagerLM) -> None:
    options = resolve(CASES[case])
    of = prompts(plain, options)
    for max_rows in ("auto", max(12, options.max_sequences)):
        result, engine = grown(served, options.model_copy(update={"max_rows": max_rows}), of)
        assert_same(result, expected(case, plain))
        assert_nothing_is_left(engine, served)


def assert_nothing_is_left(engine: Engine, lm: EagerVLLM) -> None:
    assert not engine.growths
    assert not engine.in_use
    assert not lm.model.llm_engine.has_unfinished_requests()


def test_races_are_those_of_eager_where_requests_report_now_and_then(
    served: EagerVLLM, plain: EagerLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "report_interval", lambda most: 7)
    options = resolve(CASES["consistency"])
    result, engine = grown(served, options, prompts(plain, options))
    assert_same(result, expected("consistency", plain))
    assert_nothing_is_left(engine, served)


def test_a_worker_is_asked_where_log_probabilities_do_not_tell_how_a_weight_splits(
    served: EagerVLLM, plain: EagerLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    ask = Server.ask
    monkeypatch.setattr(
        Server,
        "ask",
        lambda self, prefix, order, *rest, **how: asked.append(order) or ask(self, prefix, order, *rest, **how),
    )
    options = resolve(CASES["init, hot, top_p"])
    result, _ = grown(served, options, prompts(plain, options))
    assert asked
    assert all(order.asked >= 0 for order in asked)
    assert_same(result, expected("init, hot, top_p", plain))


@pytest.mark.parametrize("case", ["parallel", "init, systematic", "consistency", "init"])
def test_a_signal_that_the_model_draws_too_changes_nothing(
    case: str, served: EagerVLLM, plain: EagerLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = Counter(token for tree in expected(case, plain).trees for of in tree.sequences for token in of.tokens)
    (signal, _), *_ = common.most_common()
    create = Server.__init__

    def with_that_signal(self: Server, *args: Any) -> None:
        create(self, *args)
        self.signal = signal

    monkeypatch.setattr(Server, "__init__", with_that_signal)
    options = resolve(CASES[case])
    result, engine = grown(served, options, prompts(plain, options))
    assert_same(result, expected(case, plain))
    assert_nothing_is_left(engine, served)


@pytest.mark.parametrize("case", ["init", "adapt, reference", "init, hot, top_p"])
def test_requests_that_read_may_be_short(
    case: str, served: EagerVLLM, plain: EagerLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "LENGTH", 5)
    options = resolve(CASES[case])
    result, engine = grown(served, options, prompts(plain, options))
    assert_same(result, expected(case, plain))
    assert_nothing_is_left(engine, served)


@pytest.mark.parametrize("case", ["init, systematic", "init, systematic at θ 0", "init, systematic, thinking"])
def test_what_splits_runs_nowhere_ahead(case: str, served: EagerVLLM, plain: EagerLM) -> None:
    options = resolve(CASES[case])
    _, engine = grown(served, options, prompts(plain, options))
    assert engine.stats.forks
    assert engine.stats.wasted_tokens == 0


@pytest.mark.parametrize("case", ["parallel", "parallel at temperature 0", "init", "init, systematic", "consistency"])
def test_logits_that_are_no_numbers_name_the_document_whether_rows_are_read_or_not(
    case: str, served: EagerVLLM, plain: EagerLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, steps = Sampler.forward, itertools.count()

    def poisoned(self: Sampler, logits: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if next(steps) >= 6:
            logits[0, 4] = math.nan
        return sample(self, logits, *args, **kwargs)

    monkeypatch.setattr(Sampler, "forward", poisoned)
    options = resolve(CASES[case])
    with pytest.raises(
        UsageError, match=r"NaN logits for document \d+ of task 'demo' at generated position \d+ .*dtype"
    ):
        grown(served, options, prompts(plain, options))
    assert not served.model.llm_engine.has_unfinished_requests()


def test_the_cases_reach_what_they_are_for(plain: EagerLM) -> None:
    """Second stages, second tokens that the cuts take, ends of both kinds, forks of forks, ended thinking."""
    pools = {case: expected(case, plain) for case in CASES}
    sequences = [sequence for pool in pools.values() for tree in pool.trees for sequence in tree.sequences]
    assert {sequence.finish for sequence in sequences} == {"stop", "length", "cut"}
    assert any(len(sequence.path) > 2 for sequence in sequences)
    for case in ("adapt", "adapt, paper", "adapt, systematic", "eager", "eager, systematic"):
        assert pools[case].ledger.grants, case
    for case in ("init, top_p that cuts second tokens", "init, top_k and min_p"):
        weights = [sequence.weight for tree in pools[case].trees for sequence in tree.sequences]
        assert 0.0 in weights, case
        assert any(0 < weight < 1 for weight in weights), case
    for case in ("init, thinking", "init, systematic, thinking"):
        assert any(sequence.thought_ended for tree in pools[case].trees for sequence in tree.sequences), case
    for case in ("init, stop strings", "init, systematic by two, stop strings"):
        stopped = [sequence for tree in pools[case].trees for sequence in tree.sequences if sequence.finish == "stop"]
        assert stopped, case
