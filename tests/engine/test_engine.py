"""The loop over scripted slots: occupancy and parking, which show in no tree; and the models that it refuses."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scripted import (
    PromptScript,
    ScriptedRunner,
    scripted_engine,
)
from scripted_pools import ADAPT, grow, prompts_of, sequences_of
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BloomConfig,
    FalconConfig,
    GPTNeoConfig,
    LlamaConfig,
    MambaConfig,
    PreTrainedConfig,
    T5Config,
)

from eager_lmeval.algorithm.options import resolve
from eager_lmeval.engine.loop import Engine
from eager_lmeval.engine.runner import Slot
from eager_lmeval.engine.transformers.support import require_supported
from eager_lmeval.errors import UsageError
from eager_lmeval.pools.run import grow_pool

SYSTEMATIC = ADAPT | {"branching": "systematic", "entropy_threshold": 1.5, "max_sequences": 12}
TINY = {"vocab_size": 8, "hidden_size": 16, "num_hidden_layers": 2}


# Scheduling shows in no tree.


def test_parking_happens_and_shows_in_no_tree() -> None:
    given = ADAPT | {"strategy": "init"}
    expected, roomy = grow(given, max_rows=200)
    result, tight = grow(given, max_rows=8)
    assert roomy.stats.parked == 0 < tight.stats.parked
    assert sequences_of(result) == sequences_of(expected)


# How full the rows are, and what goes through the model.


def test_rows_are_over_90_percent_in_use_while_prompts_wait() -> None:
    """A realistic load: most prompts never fork, some fork to the cap, lengths vary threefold and more."""
    given = ADAPT | {"strategy": "init", "entropy_threshold": 1.59, "max_sequences": 8, "max_gen_toks": 60}
    result, engine = grow(given, number=150, max_rows=32)
    sizes = [tree.num_sequences for tree in result.trees]
    assert min(sizes) == 1
    assert max(sizes) == 8
    assert engine.stats.to_record()["rows_in_use_while_prompts_wait"] > 0.9


@pytest.mark.parametrize("max_rows", [6, 17])
def test_decode_gets_no_more_rows_than_the_limit_and_no_ended_ones(max_rows: int) -> None:
    runner = ScriptedRunner(PromptScript(eos_bias=1.0))

    def no_ended_rows(engine: Engine) -> None:
        assert all(placed.row.sequence.finish is None for placed in engine.rows)

    _, engine = grow(ADAPT | {"strategy": "init"}, runner=runner, max_rows=max_rows, on_step=no_ended_rows)
    assert len(runner.decodes) == engine.stats.steps
    assert all(decode.rows + decode.fresh <= decode.limit == max_rows for decode in runner.decodes)


@pytest.mark.parametrize("strategy", ["parallel", "init"])
def test_each_prompt_is_prefilled_once_however_many_roots_wait_for_rows(strategy: str) -> None:
    runner = ScriptedRunner(PromptScript())
    result, engine = grow(ADAPT | {"strategy": strategy, "max_sequences": 9}, runner=runner, max_rows=9)
    prompts = [tree.prompt.token_ids for tree in result.trees]
    assert sorted(runner.prefilled) == sorted(prompts)
    assert [tree.prefill_tokens for tree in result.trees] == [len(prompt) for prompt in prompts]
    assert engine.stats.prefill_tokens == sum(map(len, prompts))


def test_all_restarts_of_a_prompt_share_one_prefill() -> None:
    """Where nothing forks, each granted sequence is a run of its own."""
    runner = ScriptedRunner(PromptScript())
    given = ADAPT | {"strategy": "eager", "entropy_threshold": 9.0, "max_sequences": 4}
    options = resolve(given)
    prompts = prompts_of(options, 3)
    result = grow_pool(prompts, options, scripted_engine(runner, options), judge=lambda tree: False)
    assert [tree.num_roots for tree in result.trees] == [4, 4, 4]
    assert [tree.prefill_tokens for tree in result.trees] == [2 * len(prompt.token_ids) for prompt in prompts]
    assert len(runner.prefilled) == 2 * len(prompts)


def test_a_growth_of_more_sequences_than_rows_is_decoded_in_several_passes() -> None:
    given = ADAPT | {"extra_cap": "6M", "entropy_threshold": 1.59}
    expected, _ = grow(given, number=24, max_rows=64)
    result, engine = grow(given, number=24, max_rows=6)
    assert max(tree.num_sequences for tree in result.trees) > 2 * 6
    assert engine.stats.rows_offered > 6 * engine.stats.steps
    assert sequences_of(result) == sequences_of(expected)


def test_a_systematic_growth_of_more_sequences_than_rows_never_decodes_more_rows_at_once() -> None:
    given = SYSTEMATIC | {"strategy": "init", "max_sequences": 40}
    runner = ScriptedRunner(PromptScript(eos_bias=1.0))
    expected, _ = grow(given, max_rows=64)
    result, engine = grow(given, runner=runner, max_rows=3)
    assert max(tree.num_sequences for tree in result.trees) > 20
    assert all(decode.rows + decode.fresh <= 3 for decode in runner.decodes)
    assert engine.stats.rows_used / engine.stats.rows_offered > 0.95
    assert sequences_of(result) == sequences_of(expected)


def test_systematic_growths_fill_the_rows_that_lockstep_leaves_empty() -> None:
    """Nothing waits until all sequences of a prompt find rows: only the last prompts' ends leave rows empty."""
    of_lockstep, of_systematic = (
        grow(ADAPT | given | {"strategy": "init", "max_sequences": 8}, number=40, max_rows=12)[1].stats
        for given in ({}, {"branching": "systematic"})
    )
    assert of_lockstep.to_record()["rows_in_use_while_prompts_wait"] < 1.0
    assert of_systematic.to_record()["rows_in_use_while_prompts_wait"] == 1.0


def test_what_splits_off_a_parked_sequence_shares_its_snapshot() -> None:
    runner = ParkingRunner(PromptScript(eos_bias=1.0))
    _, engine = grow(SYSTEMATIC | {"strategy": "init", "max_sequences": 16}, runner=runner, max_rows=2)
    rows_parked = engine.stats.forks  # with two rows hardly any child finds one
    assert 0 < runner.snapshots < 0.8 * rows_parked


class ParkingRunner(ScriptedRunner):
    """Counts the snapshots that are taken."""

    snapshots = 0

    def park(self, slot: Slot, length: int) -> list[int | None]:
        self.snapshots += 1
        return super().park(slot, length)


# Logits that are no numbers.


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_logits_that_are_no_numbers_name_document_task_and_position(poison: float) -> None:
    def model(prompt: Seq[int], generated: Seq[int]) -> NDArray[np.float64]:
        logits = PromptScript(eos_bias=-9.0)(prompt, generated)
        if prompt[0] == -3 and len(generated) == 5:
            logits[4] = poison
        return logits

    with pytest.raises(UsageError, match=r"document 2 of task 'demo' at generated position 5 .*try another dtype"):
        grow(ADAPT | {"strategy": "init"}, runner=ScriptedRunner(model))


# Models.


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (MambaConfig(**TINY), "cannot fork by copying keys and values"),
        (
            GPTNeoConfig(**TINY, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]]),
            "local attention",
        ),
        (BloomConfig(**TINY), "ALiBi"),
        (FalconConfig(**TINY, num_attention_heads=4, alibi=True), "ALiBi"),
        (T5Config(vocab_size=8, d_model=16, num_heads=2, num_layers=1), "encoder-decoder"),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_models_that_slots_cannot_serve_are_refused_with_the_reason(config: PreTrainedConfig, reason: str) -> None:
    family = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.device("meta"):
        model = family.from_config(config)
    with pytest.raises(UsageError, match=rf"{config.model_type}.*{reason}.*--model hf for this one"):
        require_supported(model)


ROPE = {"rope_theta": 1e4}
LONGROPE = ROPE | {"rope_type": "longrope", "short_factor": [1.0, 1.0], "long_factor": [3.0, 3.0], "factor": 4.0}


@pytest.mark.parametrize(
    ("parameters", "switch"),
    [
        (LONGROPE | {"original_max_position_embeddings": 16}, 16),
        (ROPE | {"rope_type": "dynamic", "factor": 4.0}, 64),
    ],
    ids=["longrope", "dynamic"],
)
def test_frequencies_that_the_longest_row_of_a_batch_decides_are_refused_where_they_would_change(
    parameters: dict[str, Any], switch: int
) -> None:
    with torch.device("meta"):
        config = LlamaConfig(**TINY, num_attention_heads=4, max_position_embeddings=64, rope_parameters=parameters)
        model = AutoModelForCausalLM.from_config(config)
    require_supported(model, max_length=switch)
    with pytest.raises(UsageError, match=rf"rotary frequencies .* give max_length={switch} in --model_args"):
        require_supported(model, max_length=switch + 1)
