"""The study's own shortcuts, against what they stand for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Any

import estimates
import numpy as np
import pytest
from long_process import FIRST, LEVELS, TOP_K, Assumption, Plan, Question, distribution
from long_trees import Design, grow
from numpy.typing import NDArray
from scripted import EOS, ScriptedRunner, scripted_engine, scripted_prompt

from eager_lmeval.algorithm.options import resolve
from eager_lmeval.pools.run import grow_pool

CERTAIN = FIRST + TOP_K
"""The token of every place that is not uncertain."""
THRESHOLD = 0.995


class TokenByToken:
    """The model that the long trees assume. Its answers are all of one length: a sequence of one copy, which the long
    trees do not follow any further, could otherwise become longer or shorter at an uncertain token."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._questions = questions
        self._plan = cache(self._uncached_plan)

    def __call__(self, prompt: Sequence[int], generated: Sequence[int]) -> NDArray[np.float64]:
        plan = self._plan(-1 - prompt[0], tuple(generated))
        probabilities = np.zeros(CERTAIN + 1)
        found = plan.next(len(generated))
        if found and found[0] == len(generated):
            probabilities[FIRST:CERTAIN] = distribution(LEVELS[found[1]], self._questions[0].assumption.family)
        else:
            probabilities[EOS if len(generated) == plan.length - 1 else CERTAIN] = 1.0
        return np.log(np.maximum(probabilities, 1e-300))

    def _uncached_plan(self, number: int, generated: tuple[int, ...]) -> Plan:
        if not generated:
            return self._questions[number].root(0)
        at, token = len(generated) - 1, generated[-1]
        before = self._plan(number, generated[:-1])
        return before.turn(at, token) if token < CERTAIN else before


@pytest.mark.parametrize("rhythm", ["even", "bursts"])
@pytest.mark.parametrize(
    ("design", "given"),
    [
        (Design("top2"), {"branching": "top2"}),
        (Design("systematic"), {"branching": "systematic"}),
        (Design("systematic", 3), {"branching": "systematic", "fan_out": 3}),
    ],
)
def test_long_trees_are_those_of_the_engine(design: Design, given: dict[str, Any], rhythm: str) -> None:
    fixed = {"strategy": "init", "max_sequences": 8, "temperature": 0.8, "max_gen_toks": 99}
    options = resolve(fixed | given | {"entropy_threshold": THRESHOLD})
    assumption = Assumption(rhythm=rhythm, temperature=0.8)
    prompts = [scripted_prompt(number, options, length=1) for number in range(5)]
    questions = [Question(assumption, prompt, 40, THRESHOLD) for prompt in prompts]
    engine = scripted_engine(ScriptedRunner(TokenByToken(questions)), options)
    forks = 0
    for question, tree in zip(questions, grow_pool(prompts, options, engine).trees, strict=True):
        grown = {(leaf.path, leaf.branch_at, leaf.length, round(leaf.weight, 9)) for leaf in grow(question, design, 8)}
        assert grown == {
            (sequence.path, sequence.own_from, len(sequence.tokens), round(weight, 9))
            for sequence, weight in zip(tree.sequences, tree.weights(), strict=True)
        }
        forks += tree.num_branches
    assert forks > 10


@pytest.mark.parametrize("name", list(estimates.MODELS)[1:])
def test_the_true_rate_of_a_chain_is_the_sum_over_all_its_texts(name: str) -> None:
    model, prompt = estimates.MODELS[name], -3
    total = 0.0
    for choices in itertools.product(estimates.CHOICES, repeat=3):
        chosen = iter(choices)
        text: list[int] = []
        probability = 1.0
        while len(text) < estimates.LENGTH:
            chances = np.exp(model([prompt], text))
            certain = chances[estimates.STEP] > 0.5
            last = len(text) == estimates.LENGTH - 1
            text.append(estimates.RIGHT if last else estimates.STEP if certain else next(chosen))
            probability *= chances[text[-1]]
        total += probability
    assert model.rate(prompt) == pytest.approx(total, abs=1e-9)
