"""A pool grown by the engine and by the slow oracle, and whether both are one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import pytest
from oracle import Leaf, Oracle, OraclePool, Settings
from scripted import NumberTokenizer, sampling_of
from tiny_models import VOCAB, WINDOW
from transformers import PreTrainedModel

from eager_lmeval.algorithm.options import Options
from eager_lmeval.algorithm.tree import Prompt
from eager_lmeval.algorithm.tree import Sequence as Grown
from eager_lmeval.engine.loop import Engine
from eager_lmeval.engine.text import TextStopper, Thinking
from eager_lmeval.engine.transformers.runner import ModelRunner
from eager_lmeval.pools.result import PoolResult
from eager_lmeval.pools.run import grow_pool

TASK = "demo"
EOS = frozenset({0, 7, 13, 21})
END_OF_THINKING = 5
PROMPT_LENGTHS = (3, 1, 11, 2 * WINDOW, 5)


def prompts(options: Options) -> list[Prompt]:
    choose = random.Random(1)
    return [
        Prompt(
            index,
            TASK,
            f"prompt {index}",
            [choose.randrange(VOCAB) for _ in range(length)],
            index,
            options.max_gen_toks,
        )
        for index, length in enumerate(PROMPT_LENGTHS)
    ]


def correct(sequences: list[list[int]]) -> bool:
    """Stands for a verifier: right is what has a token sum divisible by 5."""
    return any(sum(tokens) % 5 == 0 for tokens in sequences)


def answer(tokens: list[int]) -> int | None:
    """Stands for a verifier's classes; every fourth sequence or so has no answer."""
    return sum(tokens) % 4 or None


def classify(texts: Sequence[str | None]) -> list[int | None]:
    return [None if text is None else answer([int(number) for number in text.split()]) for text in texts]


def by_engine(model: PreTrainedModel, options: Options, of: list[Prompt], max_rows: int) -> tuple[PoolResult, Engine]:
    thinking = Thinking("</think>", (END_OF_THINKING,)) if options.think_end_token == END_OF_THINKING else None
    stopper = TextStopper(NumberTokenizer(), EOS, thinking=thinking)
    engine = Engine(ModelRunner(model), stopper, sampling_of(options), options.seed, max_rows)
    judge = lambda tree: correct([sequence.tokens for sequence in tree.sequences])  # noqa: E731 - the judge, named
    return grow_pool(of, options, engine, judge, classify=classify), engine


_known: WeakKeyDictionary[PreTrainedModel, dict[tuple[int, ...], list[float]]] = WeakKeyDictionary()


def by_oracle(model: PreTrainedModel, options: Options) -> OraclePool:
    settings = Settings(
        strategy=options.strategy,
        max_sequences=options.max_sequences,
        entropy_threshold=options.entropy_threshold,
        max_tokens=options.max_gen_toks,
        extra_cap=options.extra_cap_sequences,
        seed=options.seed,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        entropy_of=options.entropy_of,
        count=options.count,
        branch_window=options.branch_window,
        dynamic_percentile=options.dynamic_percentile,
        think_gate=options.think_gate,
        think_end=END_OF_THINKING if options.think_end_token == END_OF_THINKING else None,
        threshold_decay=options.threshold_decay,
        branching=options.branching,
        fan_out=options.fan_out,
        first_lanes=options.first_lanes,
        settled_at=options.settled_at,
        eos=EOS,
    )
    pool = [(prompt.context, prompt.token_ids) for prompt in prompts(options)]
    return Oracle(model, TASK, settings, _known.setdefault(model, {})).pool(pool, correct, answer)


def assert_same_sequence(sequence: Grown, leaf: Leaf) -> None:
    assert sequence.path == leaf.path
    assert sequence.tokens == leaf.tokens
    assert (sequence.branch_at, sequence.finish) == (leaf.branch_at, leaf.finish)
    if leaf.copies is not None:
        assert sequence.copies == leaf.copies
    assert sequence.weight == pytest.approx(leaf.weight, rel=1e-4)
    assert sequence.entropies == pytest.approx(leaf.entropies, abs=1e-4)
    assert sequence.branch_entropy == (None if leaf.branch_at is None else pytest.approx(leaf.branch_entropy, abs=1e-4))
    if sequence.finish != "cut":  # whose sum would depend on how far ahead it ran
        assert sequence.logprob == pytest.approx(leaf.logprob, abs=1e-3)


def assert_same(result: PoolResult, expected: OraclePool) -> None:
    for tree, oracle_tree in zip(result.trees, expected.trees, strict=True):
        for sequence, leaf in zip(tree.sequences, oracle_tree.leaves, strict=True):
            assert_same_sequence(sequence, leaf)
    ledger = result.ledger
    assert ledger.surplus == expected.surplus
    assert ledger.eligible == len(expected.eligible)
    assert ledger.grants == {place: n for place, n in expected.grants.items() if n}
    ledger.check_balance()
