"""Rounding decides nothing: what is close is decided in float64, so the batch cannot change a result.

Rounding is played by noise on every logit of every pass, far larger than that of float32, so that a missed near tie
would show: without the margin, the same runs differ.
"""

from __future__ import annotations

import copy
import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
from scripted import PromptScript, ScriptedRunner, memory_that_fails_at, scripted_engine, scripted_prompt
from tiny_models import NAMES, VOCAB, tiny_model

from eager_lmeval.algorithm.gate import Candidate, Gate, GateSettings
from eager_lmeval.algorithm.options import resolve
from eager_lmeval.algorithm.readout import Readout
from eager_lmeval.engine.sampling import Sampling, read
from eager_lmeval.engine.ties import entropy_margin
from eager_lmeval.engine.transformers import runner as hf
from eager_lmeval.engine.transformers.runner import ModelRunner
from eager_lmeval.errors import UsageError
from eager_lmeval.lm import EagerLM
from eager_lmeval.pools.decoding import FLOAT32_MARGIN
from eager_lmeval.pools.run import PoolResult, grow_pool

NOISE = 0.004
PROMPTS = 6
SAMPLED = {"branching": "top2", "max_sequences": 6, "entropy_threshold": 1.9}
SAMPLED |= {"temperature": 0.8, "max_gen_toks": 30, "seed": 3}
CASES: dict[str, dict[str, Any]] = {
    "parallel": {"strategy": "parallel"},
    "parallel, top_k": {"strategy": "parallel", "top_k": 5},
    "parallel, top_p": {"strategy": "parallel", "top_p": 0.7},
    "parallel, min_p": {"strategy": "parallel", "min_p": 0.2},
    "parallel, all three": {"strategy": "parallel", "top_k": 9, "top_p": 0.9, "min_p": 0.05, "temperature": 1.3},
    "init": {"strategy": "init"},
    "init, seldom full": {"strategy": "init", "max_sequences": 60, "entropy_threshold": 2.7},
    "init, greedy": {"strategy": "init", "temperature": 0.0},
    "init, tempered entropies": {"strategy": "init", "entropy_of": "tempered", "temperature": 0.5},
    "systematic": {"branching": "systematic", "max_sequences": 12},
    "systematic, by two, top_p": {"branching": "systematic", "fan_out": 2, "top_p": 0.8, "entropy_threshold": 1.2},
    "adapt, systematic": {"strategy": "adapt", "branching": "systematic", "entropy_threshold": 1.5},
    "adapt": {"strategy": "adapt"},
    "adapt, paper": {"strategy": "adapt", "preset": "paper", "max_sequences": 3},
    "eager": {"strategy": "eager"},
}


def grown(case: str, noise_seed: int, **given: Any) -> tuple[PoolResult, ScriptedRunner]:
    options = resolve(SAMPLED | CASES[case] | given)
    runner = ScriptedRunner(
        PromptScript(scale=2.0, eos_bias=0.5), noise=NOISE if noise_seed else 0.0, noise_seed=noise_seed
    )
    prompts = [scripted_prompt(index, options) for index in range(PROMPTS)]
    return grow_pool(prompts, options, scripted_engine(runner, options), judge=lambda tree: False), runner


def sequences(result: PoolResult) -> list[Any]:
    return [(s.path, s.tokens, s.branch_at, s.finish) for tree in result.trees for s in tree.sequences]


@pytest.mark.parametrize("case", CASES)
def test_no_noise_within_the_margin_changes_a_token(case):
    expected, _ = grown(case, noise_seed=0)
    for noise_seed in range(1, 9):
        noisy, runner = grown(case, noise_seed, tie_margin=NOISE)
        assert sequences(noisy) == sequences(expected)
        assert 0 < runner.read_again < sum(tree.tokens for tree in noisy.trees) / 4, "a few near ties, not everything"


@pytest.mark.parametrize("case", CASES)
def test_without_a_margin_the_same_noise_does(case):
    expected, _ = grown(case, noise_seed=0)
    assert any(sequences(grown(case, seed, tie_margin=None)[0]) != sequences(expected) for seed in range(1, 9))


def test_a_near_tie_that_memory_does_not_suffice_for_is_left_to_rounding_and_said(caplog):
    options = resolve(SAMPLED | {"strategy": "init", "tie_margin": NOISE})
    runner = ScriptedRunner(
        PromptScript(), memory=memory_that_fails_at(set(range(1000)), of="read_exactly"), noise=NOISE
    )
    engine = scripted_engine(runner, options)
    with caplog.at_level(logging.WARNING, "lm_eval.eager_lmeval"):
        grow_pool([scripted_prompt(index, options) for index in range(PROMPTS)], options, engine)
    assert engine.stats.ties_left > 1
    assert engine.stats.ties == 0
    assert len([record for record in caplog.records if "near ties" in record.getMessage()]) == 1, "said once"


def test_what_is_counted_of_near_ties():
    _, runner = grown("init", noise_seed=1, tie_margin=NOISE)
    options = resolve(SAMPLED | {"strategy": "init", "tie_margin": NOISE})
    engine = scripted_engine(again := ScriptedRunner(runner.model, noise=NOISE, noise_seed=1), options)
    grow_pool([scripted_prompt(index, options) for index in range(PROMPTS)], options, engine)
    near = engine.stats.to_record()["near_ties"]
    assert near["read_again"] == again.read_again > 0
    assert 0 <= near["turned"] <= near["read_again"]
    assert near["left_to_rounding"] == 0
    assert 0 < near["largest_rounding_nats"] < 2 * NOISE


# The parts.

MARGIN = 1e-3
CUTS: dict[str, tuple[dict[str, Any], list[float]]] = {
    "min_p cuts nothing, but nearly": ({"top_k": 2, "min_p": 0.5}, [0.0, math.log(0.5) + 0.0004, -3.0, -4.0]),
    "top_p cuts nothing, but nearly": ({"top_k": 3, "top_p": 0.8}, [math.log(p) for p in (0.5, 0.3001, 0.1999, 0.1)]),
    "padding": ({"min_p": 0.5}, [0.0, math.log(0.5) + 0.0004, -math.inf, -math.inf]),
    "many at top_k": ({"top_k": 20}, [0.5, *[0.0003 * (place % 7) for place in range(60)]]),
    "many at top_p": ({"top_p": 0.6}, [math.log(20.0), *[0.001 * (place % 5) for place in range(60)]]),
    "many at min_p": ({"min_p": 0.3}, [0.0, *[math.log(0.3) + 0.0003 * (place % 9 - 4) for place in range(40)]]),
    "a second cut leaves little": ({"top_p": 0.9, "min_p": 0.6}, [0.0, -0.2, math.log(0.6), *[-0.9] * 40]),
}


@pytest.mark.parametrize("case", CUTS)
def test_no_error_within_the_margin_changes_a_draw_that_is_not_said_to_be_near(case):
    given, row = CUTS[case]
    generator = np.random.default_rng(4)
    draws = generator.uniform(size=2000)
    logits = torch.tensor(row, dtype=torch.float64).expand(len(draws), -1)
    sampling = Sampling(temperature=1.0, tie_margin=MARGIN, **given)
    said = read(logits, torch.from_numpy(draws), sampling)
    changed = 0
    for _ in range(12):
        errors = torch.from_numpy(MARGIN * generator.choice([-1.0, 1.0], size=tuple(logits.shape)))
        for readout, other in zip(said, read(logits + errors, torch.from_numpy(draws), sampling), strict=True):
            assert readout.near_draw or other.token == readout.token
            changed += other.token != readout.token
    assert changed, "these errors do change draws"


@pytest.mark.parametrize("given", [{}, {"top_k": 20}, {"top_p": 0.9}, {"min_p": 0.1}, {"top_k": 30, "top_p": 0.95}])
def test_few_draws_are_near_where_logits_are_spread(given):
    generator = np.random.default_rng(5)
    logits = torch.from_numpy(generator.normal(scale=3.0, size=(4000, 80)))
    draws = torch.from_numpy(generator.uniform(size=4000))
    readouts = read(logits, draws, Sampling(temperature=1.0, tie_margin=FLOAT32_MARGIN, **given))
    assert sum(readout.near_draw for readout in readouts) < 4000 / 200


def assert_equal_readouts(actual: Readout, expected: Readout) -> None:
    assert actual[:-1] == pytest.approx(expected[:-1], rel=1e-6)
    assert [stratum.token for stratum in actual.strata] == [stratum.token for stratum in expected.strata]
    assert [s.logprob for s in actual.strata] == pytest.approx([s.logprob for s in expected.strata], rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_pass_in_float64_is_that_of_the_model_in_float64(name, monkeypatch):
    model = tiny_model(name)
    ids = torch.randint(0, VOCAB, (23,), generator=torch.Generator().manual_seed(5)).tolist()
    draw, strata, sampling = np.array([0.6]), np.array([3]), Sampling(temperature=0.8)
    with torch.inference_mode():
        logits = copy.deepcopy(model).double()(torch.tensor([ids])).logits[:, -1]
    expected = read(logits, torch.from_numpy(draw), sampling, strata)[0]
    for span in (512, 5):
        monkeypatch.setattr(hf, "EXACT_SPAN", span)
        assert_equal_readouts(ModelRunner(model).read_exactly(ids, draw, sampling, strata), expected)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}, "the model is as it was"


@pytest.mark.parametrize("name", NAMES)
def test_a_near_tie_pays_only_for_the_tokens_since_the_last_one(name, monkeypatch):
    ids = torch.randint(0, VOCAB, (60,), generator=torch.Generator().manual_seed(5)).tolist()
    other = [*ids[:20], *reversed(ids[20:])]
    draw, sampling = np.array([0.6]), Sampling(temperature=0.8)
    runner = ModelRunner(tiny_model(name))
    passed = []
    forward = runner._forward
    monkeypatch.setattr(runner, "_forward", lambda ids, *more: passed.append(ids.shape[1]) or forward(ids, *more))
    reads = ((ids[:30], 30), (ids[:50], 20), (other[:40], 20), (ids, 10), (ids, 1), (other, 20), ([7, 8], 2))
    for tokens, new in reads:
        alone = ModelRunner(tiny_model(name)).read_exactly(tokens, draw, sampling)
        passed.clear()
        assert runner.read_exactly(tokens, draw, sampling)[:9] == pytest.approx(alone[:9], rel=1e-9)
        assert sum(passed) == new


def test_what_is_kept_for_near_ties_is_bounded_and_goes_first_when_memory_ends(monkeypatch):
    draw, sampling = np.array([0.6]), Sampling(temperature=0.8)
    runner = ModelRunner(tiny_model("qwen3"))
    position = 2 * 2 * 2 * 8 * 8  # two layers, keys and values, two heads of 8, in float64
    monkeypatch.setattr(hf, "for_slots", lambda device: 8 * 50 * position)
    for start in range(5):
        runner.read_exactly([start, *range(20)], draw, sampling)
        assert len(runner._exact._kept) == min(start + 1, 2), "21 positions each, of 50"

    forward, failures = runner._forward, [torch.OutOfMemoryError("no memory")]

    def failing(*arguments):
        if failures:
            raise failures.pop()
        return forward(*arguments)

    monkeypatch.setattr(runner, "_forward", failing)
    expected = ModelRunner(tiny_model("qwen3")).read_exactly([1, 2, 3], draw, sampling)
    assert runner.read_exactly([1, 2, 3], draw, sampling) == expected


@pytest.mark.parametrize("moment", ["in a module", "before a module"])
def test_a_model_stays_as_it_was_when_a_pass_fails(monkeypatch, moment):
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError

    model = tiny_model("qwen3")
    before = dict(model.named_parameters())
    failing = model.model.layers[1].mlp.down_proj
    if moment == "in a module":
        monkeypatch.setattr(failing, "forward", fail)
    else:
        monkeypatch.setattr(failing.weight, "double", fail, raising=False)
    with pytest.raises(ZeroDivisionError):
        ModelRunner(model).read_exactly([1, 2], np.zeros(1), Sampling())
    assert all(parameter is before[name] for name, parameter in model.named_parameters())


def test_a_pass_in_float64_goes_through_adapters_too():
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(6)
    targets = ["q_proj", "down_proj"]
    model = get_peft_model(
        copy.deepcopy(tiny_model("qwen3")), LoraConfig(target_modules=targets, init_lora_weights=False)
    )
    model.eval()
    ids, draw, strata = [3, 1, 4, 1, 5, 9], np.array([0.6]), np.array([3])
    sampling = Sampling(temperature=0.8)
    with torch.inference_mode():
        logits = copy.deepcopy(model).double()(torch.tensor([ids])).logits[:, -1]
    expected = read(logits, torch.from_numpy(draw), sampling, strata)[0]
    assert_equal_readouts(ModelRunner(model).read_exactly(ids, draw, sampling, strata), expected)


def test_a_margin_that_rounding_nearly_fills_is_said_to_be_small(caplog):
    with caplog.at_level(logging.WARNING, "lm_eval.eager_lmeval"):
        grown("init", noise_seed=1, tie_margin=NOISE)
    assert "give a larger tie_margin" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "lm_eval.eager_lmeval"):
        grown("init", noise_seed=1, tie_margin=8 * NOISE)
    assert "give a larger tie_margin" not in caplog.text


def test_no_entropy_moves_by_more_than_its_margin():
    generator = torch.Generator().manual_seed(2)
    for scale in (0.1, 1.0, 4.0, 12.0):
        logits = scale * torch.randn(200, 50, generator=generator, dtype=torch.float64)
        sampling = Sampling(entropy_top_k=50)
        exact = [readout.entropy for readout in read(logits, torch.zeros(200, dtype=torch.float64), sampling)]
        for away_from_the_mean in (1, -1):  # the worst noise: likely tokens up and unlikely ones down, or the reverse
            log_p = logits.log_softmax(dim=-1)
            sign = torch.sign(log_p + torch.tensor(exact)[:, None])
            noisy = logits + 1e-3 * away_from_the_mean * sign
            moved = [readout.entropy for readout in read(noisy, torch.zeros(200, dtype=torch.float64), sampling)]
            worst = max(abs(a - b) for a, b in zip(exact, moved, strict=True))
            assert 0 < worst <= 1.01 * entropy_margin(1e-3, 50)


def test_a_gate_at_zero_lets_all_pass_and_nothing_is_close():
    gate = Gate(GateSettings(threshold=0.0, cap=9))
    candidates = [Candidate((0,), 0.0, False), Candidate((0, 1), 1e-9, False)]
    near = gate.near_ties(candidates, sequences=2, active=2, margin=1e-3)
    assert near.contending == [1, 0]
    assert near.close == []


def test_asking_a_gate_changes_nothing():
    gates = [Gate(GateSettings(threshold=1.0, cap=9, window=2, percentile=50.0)) for _ in range(2)]
    for entropy in (0.2, 0.999, 1.5, 0.1, 0.1, 2.0):
        candidates = [Candidate((0,), entropy, False), Candidate((0, 3), 1.0, False)]
        gates[1].near_ties(candidates, 2, 2, margin=0.01)
        assert gates[0].choose(candidates, 2, 2) == gates[1].choose(candidates, 2, 2)


# Which models.


@pytest.mark.parametrize(("dtype", "margin"), [("float32", 1e-4), ("float64", 0.0), ("bfloat16", 0.0)])
def test_near_ties_are_decided_in_float64_where_the_model_computes_in_float32(dtype, margin):
    lm = EagerLM(pretrained="demo", dtype=dtype)
    assert lm._decoding.engine(resolve({})).tie_margin == margin
    for none in ("none", 0):
        assert lm._decoding.engine(resolve({"tie_margin": none})).tie_margin == 0.0
    assert lm._decoding.engine(resolve({"tie_margin": 0.01})).tie_margin == 0.01


def test_a_model_under_mixed_precision_does_not_compute_in_float32():
    lm = EagerLM(pretrained="demo", dtype="float32", mixed_precision_dtype="bfloat16")
    assert lm._decoding.engine(resolve({})).tie_margin == 0.0


def test_a_model_that_cannot_run_in_float64_is_said_to(monkeypatch, caplog):
    lm = EagerLM(pretrained="demo", dtype="float32")
    monkeypatch.setattr(ModelRunner, "read_exactly", lambda *_: (_ for _ in ()).throw(RuntimeError("no kernel")))
    with caplog.at_level(logging.WARNING, "lm_eval.eager_lmeval"):
        assert lm._decoding.engine(resolve({})).tie_margin == 0.0
    assert "does not run in float64 (RuntimeError: no kernel)" in caplog.text
    with pytest.raises(UsageError, match=r"tie_margin=0.01 needs passes in float64, .*leave tie_margin out"):
        lm._decoding.engine(resolve({"tie_margin": 0.01}))


def test_a_margin_is_a_number_a_word_or_none():
    assert resolve({}).tie_margin == "auto"
    assert resolve({"tie_margin": "0.002"}).tie_margin == pytest.approx(0.002)
    assert resolve({"tie_margin": "none"}).tie_margin is None
    for wrong in (-1, "wide", math.inf):
        with pytest.raises(UsageError, match=r"tie_margin should be a number of at least 0, .* or auto, or none"):
            resolve({"tie_margin": wrong})
    assert math.isfinite(entropy_margin(1e-4, 1))
