"""The replay of a pilot from fork to fork equals Algorithm 1 played step by step behind the real gate."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eager_lmeval.algorithm.gate import Candidate, Gate, GateSettings
from eager_lmeval.commands.calibrate import pilot
from eager_lmeval.commands.calibrate.pilot import Example, PilotPrompt, forecast


@dataclasses.dataclass
class Row:
    """A sequence of the slow replay."""

    number: int
    start: int
    first: int
    example: Example


def step_by_step(prompt: PilotPrompt, rules: GateSettings, rng: np.random.Generator) -> tuple[int, int]:
    """Every position of every sequence, one step after the other."""
    gate = Gate(rules)
    rows = [Row(0, 0, 0, draw(prompt, prompt.weights, rng))]
    for at in range(max(prompt.lengths)):
        running = [row for row in rows if row.example.length > at]
        if not running:
            break
        candidates = [
            Candidate((row.number,), float(row.example.entropies[at]), at >= row.example.thinks_until)
            for row in running
            if row.first <= at
        ]
        for _ in gate.choose(candidates, len(rows), len(running)):
            longer = prompt.lengths > at + 1
            example = Example(np.zeros(at + 1), 0)
            if longer.any():
                example = draw(prompt, np.where(longer, prompt.weights, 0.0), rng)
            rows.append(Row(len(rows), at, at + 1, example))
    return len(rows), sum(row.example.length - row.start for row in rows)


def draw(prompt: PilotPrompt, odds: np.ndarray, rng: np.random.Generator) -> Example:
    return prompt.examples[int(rng.choice(len(odds), p=odds / odds.sum()))]


def random_prompt(seed: int) -> PilotPrompt:
    rng = np.random.default_rng(seed)
    examples = []
    for length in rng.integers(1, 40, rng.integers(1, 5)):
        examples.append(Example(rng.exponential(0.7, length), int(rng.integers(0, length + 1))))
    weights = rng.random(len(examples)) + 0.01
    return PilotPrompt(examples, weights / weights.sum())


RULES = st.builds(
    GateSettings,
    threshold=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    cap=st.integers(1, 10),
    count=st.sampled_from(["all", "active"]),
    window=st.sampled_from([None, 1, 3, 10]),
    percentile=st.sampled_from([None, 0.0, 50.0, 90.0, 99.0, 100.0]),
    until_thought_ends=st.booleans(),
)


@given(seed=st.integers(0, 2**32), rules=RULES)
@settings(max_examples=300, deadline=None)
def test_the_replay_equals_the_gate_step_by_step(seed: int, rules: GateSettings) -> None:
    prompt = random_prompt(seed)
    hesitations = [np.flatnonzero(example.entropies >= rules.threshold).tolist() for example in prompt.examples]
    fast = pilot._Play(prompt, hesitations, rules, np.random.default_rng(seed)).run()
    assert fast == step_by_step(prompt, rules, np.random.default_rng(seed))


def test_the_draws_of_two_forecasts_are_the_same() -> None:
    prompts, rules = [random_prompt(seed) for seed in range(5)], GateSettings(1.0, 8)
    assert forecast(prompts, rules) == forecast(prompts, rules)


def test_a_forecast_says_after_each_prompt_that_it_was_played() -> None:
    prompts, played = [random_prompt(seed) for seed in range(5)], []
    forecast(prompts, GateSettings(1.0, 8), played=lambda: played.append(None))
    assert len(played) == 5


def test_what_is_saved_is_a_share_of_independent_samples() -> None:
    prompt = PilotPrompt([Example(np.zeros(10), 10)], np.ones(1))
    never = forecast([prompt], GateSettings(1.0, 4))
    assert (never.sequences, never.tokens, never.parallel_tokens) == (1, 10, 40)
    assert never.saving == pytest.approx(0.75)
