"""The loop over scripted slots: occupancy, parking, lack of memory, and that none of it shows in the trees."""

from __future__ import annotations

import random
import weakref
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scripted import (
    PromptScript,
    ScriptedRunner,
    memory_that_fails_at,
    sampling_of,
    scripted_engine,
    scripted_prompt,
    scripted_stopper,
)
from tiny_models import tiny_model
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

from eager_lmeval.engine import cache, intake
from eager_lmeval.engine.hf import ModelRunner, require_supported
from eager_lmeval.engine.loop import Engine
from eager_lmeval.engine.runner import OutOfMemory, Prefix
from eager_lmeval.engine.sampling import Readout
from eager_lmeval.errors import UsageError
from eager_lmeval.options import Options, resolve
from eager_lmeval.pool_run import PoolResult, grow_pool
from eager_lmeval.tree import Prompt, Tree

ADAPT = {
    "strategy": "adapt",
    "max_sequences": 6,
    "entropy_threshold": 1.58,  # of ln 5 = 1.61 nats: some prompts never fork, some reach their cap
    "entropy_top_k": 5,
    "temperature": 0.8,
    "max_gen_toks": 24,
    "seed": 3,
}

TINY = {"vocab_size": 8, "hidden_size": 16, "num_hidden_layers": 2}


def prompts_of(options: Options, number: int) -> list[Prompt]:
    return [scripted_prompt(index, options, length=1 + index % 5) for index in range(number)]


def grow(
    given: dict[str, Any], number: int = 10, runner: ScriptedRunner | None = None, **more: Any
) -> tuple[PoolResult, Engine]:
    options = resolve(given)
    runner = runner or ScriptedRunner(PromptScript(eos_bias=1.0))
    engine = scripted_engine(runner, options, **more)
    return grow_pool(prompts_of(options, number), options, engine), engine


def sequences_of(result: PoolResult) -> list[list[tuple[Any, ...]]]:
    return [[astuple(sequence) for sequence in tree.sequences] for tree in result.trees]


# Scheduling shows in no tree.


@pytest.mark.parametrize("strategy", ["parallel", "init", "adapt"])
@pytest.mark.parametrize("preset", ["default", "paper", "reference"])
def test_trees_do_not_depend_on_the_number_of_rows(strategy: str, preset: str) -> None:
    given = ADAPT | {"strategy": strategy, "preset": preset}
    expected, _ = grow(given, max_rows=64)
    for max_rows in (6, 7, 13, 24):
        result, _ = grow(given, max_rows=max_rows)
        assert sequences_of(result) == sequences_of(expected)
        assert result.ledger == expected.ledger


def test_trees_do_not_depend_on_the_order_of_the_prompts() -> None:
    options = resolve(ADAPT | {"strategy": "init"})
    prompts = prompts_of(options, 12)
    shuffled = random.Random(0).sample(prompts, len(prompts))

    def trees(of: Seq[Prompt]) -> dict[int, Tree]:
        engine = scripted_engine(ScriptedRunner(PromptScript()), options, max_rows=13)
        return {tree.prompt.index: tree for tree in grow_pool(of, options, engine).trees}

    assert trees(prompts) == trees(shuffled)


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
        assert all(row.sequence.finish is None for row in engine.rows)

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


# Lack of memory.


@settings(max_examples=30, deadline=None)
@given(
    failures=st.sets(st.integers(0, 120), max_size=4),
    call=st.sampled_from([None, "prefill", "reserve", "decode"]),
    strategy=st.sampled_from(["parallel", "adapt"]),
)
@example(failures={1, 3}, call=None, strategy="parallel")  # rows of one growth are parked twice before any comes back
def test_running_out_of_memory_shows_in_no_tree(
    trees_with_memory: dict[str, PoolResult], failures: set[int], call: str | None, strategy: str
) -> None:
    runner = ScriptedRunner(PromptScript(eos_bias=1.0), memory=memory_that_fails_at(failures, call))
    options = resolve(ADAPT | {"strategy": strategy})
    engine = scripted_engine(runner, options, max_rows=40)
    expected = trees_with_memory[strategy]
    try:
        result = grow_pool(prompts_of(options, 7), options, engine)
    except UsageError:
        assert engine.limit == 1
        return
    assert sequences_of(result) == sequences_of(expected)
    assert [tree.prefill_tokens for tree in result.trees] == [tree.prefill_tokens for tree in expected.trees]


@pytest.fixture(scope="module")
def trees_with_memory() -> dict[str, PoolResult]:
    return {strategy: grow(ADAPT | {"strategy": strategy}, number=7)[0] for strategy in ("parallel", "adapt")}


def test_a_step_without_memory_halves_the_row_limit_and_is_counted() -> None:
    runner = ScriptedRunner(PromptScript(), memory=memory_that_fails_at({3}, "decode"))
    _, engine = grow(ADAPT | {"strategy": "init"}, number=20, runner=runner, max_rows=16)
    assert engine.limit == 8
    assert engine.stats.out_of_memory == 1
    assert [decode.limit for decode in runner.decodes[:3]] == [16] * 3
    assert all(decode.limit == 8 for decode in runner.decodes[3:])


def test_prompts_that_do_not_fit_together_are_prefilled_apart() -> None:
    """The first prefill, of several prompts, fails; no row is given up for it."""
    runner = ScriptedRunner(PromptScript(), memory=memory_that_fails_at({0}, "prefill"))
    _, engine = grow(ADAPT | {"strategy": "init"}, runner=runner, max_rows=16)
    assert engine.limit == 16
    assert engine.stats.out_of_memory == 1


@pytest.mark.parametrize("strategy", ["init", "parallel"])
@pytest.mark.parametrize("call", ["prefill", "reserve", "decode"])
@pytest.mark.parametrize("first", [1, 4, 9])
def test_memory_that_never_comes_back_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, first: int, call: str, strategy: str
):
    monkeypatch.setattr(intake, "PREFILL_AHEAD", 1)
    options = ADAPT | {"strategy": strategy}
    runner = ScriptedRunner(PromptScript(eos_bias=1.0), memory=memory_that_fails_at(set(range(first, 3000)), call))
    with pytest.raises(UsageError, match="out of memory"):
        grow(options, number=30, runner=runner, max_rows=8)


def test_a_prompt_that_finds_no_memory_waits_for_a_row_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside another prompt's rows there is no memory for a prefill; what its rows do not use is given back first."""

    class Crowded(ScriptedRunner):
        def prefill(self, prompts: list[list[int]]) -> list[Prefix]:
            if self.slots:
                raise OutOfMemory("no memory beside slots")
            return super().prefill(prompts)

    monkeypatch.setattr(intake, "PREFILL_AHEAD", 1)
    given = ADAPT | {"strategy": "init"}
    result, engine = grow(given, number=20, runner=Crowded(PromptScript(eos_bias=1.0)), max_rows=8)
    assert sequences_of(result) == sequences_of(grow(given, number=20)[0])
    assert engine.stats.out_of_memory > 0


def test_one_failed_prefill_does_not_cost_all_rows_but_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "PREFILL_AHEAD", 1)
    runner = ScriptedRunner(PromptScript(), memory=memory_that_fails_at({12}, "prefill"))
    _, engine = grow(ADAPT | {"strategy": "init"}, number=20, runner=runner, max_rows=8)
    assert engine.limit >= 4
    assert engine.stats.out_of_memory == 1


@pytest.mark.parametrize("call", ["prefill", "reserve", "decode"])
def test_no_memory_for_a_single_row_is_one_line_of_advice(call: str) -> None:
    runner = ScriptedRunner(PromptScript(), memory=memory_that_fails_at(set(range(1000)), call))
    with pytest.raises(UsageError, match="out of memory with one sequence at a time") as raised:
        grow(ADAPT, runner=runner, max_rows=16)
    assert "\n" not in str(raised.value)


@contextmanager
def allocations_that_fail(monkeypatch: pytest.MonkeyPatch, at: int) -> Iterator[None]:
    """The n-th allocation of slots fails as a full device does: some layers have grown by then, some have not."""
    made = 0
    allocate = cache._resized

    def resized(*arguments: Any) -> torch.Tensor:
        nonlocal made
        made += 1
        if made == at:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return allocate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_resized", resized)
        yield


@pytest.mark.parametrize("at", [2, 3, 4, 6, 7])
def test_slots_that_grew_in_some_layers_only_are_no_obstacle(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """A long prompt arrives behind short ones, memory ends while slots are lengthened for it, and it is parked."""
    options = resolve(ADAPT | {"strategy": "init", "entropy_threshold": 2.4, "max_sequences": 2})
    lengths = [60, 3, 5, 7, 150]
    prompts = [
        Prompt(index, "demo", str(index), [1 + index] * length, index, 24) for index, length in enumerate(lengths)
    ]

    def grown(runner: ModelRunner) -> list[list[list[int]]]:
        engine = Engine(runner, scripted_stopper(), sampling_of(options), options.seed, max_rows=4)
        trees = grow_pool(prompts, options, engine).trees
        return [[sequence.tokens for sequence in tree.sequences] for tree in trees]

    expected = grown(ModelRunner(tiny_model("llama")))
    with allocations_that_fail(monkeypatch, at):
        assert grown(ModelRunner(tiny_model("llama"))) == expected


class SmallDevice(ScriptedRunner):
    """Holds so many slots, and no more."""

    holds = 8

    def reserve(self, slots: int, length: int) -> None:
        if slots > self.holds:
            raise OutOfMemory(f"no memory for {slots} slots")
        super().reserve(slots, length)


def test_room_for_fewer_rows_than_the_limit_costs_only_the_rows_that_do_not_fit() -> None:
    """At the first step one row is in use; the limit does not fall below what the device holds."""
    runner = SmallDevice(PromptScript(eos_bias=1.0))
    result, engine = grow(ADAPT | {"strategy": "init"}, number=1, runner=runner, max_rows=32)
    assert engine.limit == 8
    assert engine.stats.out_of_memory == 2
    assert sequences_of(result) == sequences_of(grow(ADAPT | {"strategy": "init"}, number=1)[0])


def test_a_prompt_whose_sequences_do_not_fit_together_is_told_to_have_fewer() -> None:
    with pytest.raises(UsageError, match=r"for the \d+ sequences of one prompt .* fewer max_sequences"):
        grow(ADAPT | {"max_sequences": 20, "entropy_threshold": 0.0}, runner=SmallDevice(PromptScript()), max_rows=32)


@pytest.mark.parametrize("call", ["prefill", "decode"])
def test_what_a_failed_pass_had_allocated_is_free_before_anything_is_done_about_it(call: str) -> None:
    class Activations:
        """Stands for what a pass allocates."""

    class Failing(ScriptedRunner):
        allocated: weakref.ref[Activations] | None = None

        def fail_once(self) -> None:
            activations = Activations()
            if self.allocated is None:
                self.allocated = weakref.ref(activations)
                raise OutOfMemory("no memory")
            assert self.allocated() is None, "the failed pass still holds what it had allocated"

        def prefill(self, prompts: list[list[int]]) -> list[Prefix]:
            if call == "prefill":
                self.fail_once()
            return super().prefill(prompts)

        def decode(self, *arguments: Any) -> list[Readout]:
            if call == "decode":
                self.fail_once()
            return super().decode(*arguments)

        def shrink(self, slots: int) -> None:
            assert self.allocated is not None
            assert self.allocated() is None, "the failed pass still holds what it had allocated"
            super().shrink(slots)

    _, engine = grow(ADAPT | {"strategy": "init"}, runner=Failing(PromptScript()), max_rows=16)
    assert engine.stats.out_of_memory == 1


def filled_cache() -> tuple[cache.SlotCache, list[cache.Snapshot]]:
    """Four slots of six positions in two layers, and what they hold."""
    slots = cache.SlotCache(num_layers=2)
    generator = torch.Generator().manual_seed(0)
    snapshots = [
        cache.Snapshot([tuple(torch.randn(2, 3, 6, 4, generator=generator)) for _ in range(2)])  # type: ignore[misc]
        for _ in range(4)
    ]
    slots.reserve(4, 6, snapshots[0])
    for slot, snapshot in enumerate(snapshots):
        slots.restore(slot, snapshot)
    return slots, snapshots


def assert_holds(slots: cache.SlotCache, slot: int, snapshot: cache.Snapshot) -> None:
    for held, expected in zip(slots.snapshot(slot, 6, torch.device("cpu")).layers, snapshot.layers, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(held, expected, strict=True))


def test_slots_are_copied_one_by_one_where_there_is_no_memory_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    slots, snapshots = filled_cache()
    write = torch.Tensor.__setitem__

    def without_memory(tensor: torch.Tensor, key: Any, value: Any) -> None:
        if isinstance(key[0], list):
            raise torch.OutOfMemoryError("CUDA out of memory")
        write(tensor, key, value)

    monkeypatch.setattr(torch.Tensor, "__setitem__", without_memory)
    slots.copy([0, 1], [2, 3], 6)
    for slot, expected in enumerate([0, 1, 0, 1]):
        assert_holds(slots, slot, snapshots[expected])


def test_slots_are_given_back_by_way_of_the_host_where_there_is_no_memory_for_a_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slots, snapshots = filled_cache()

    def without_memory(*arguments: Any, **more: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "clone", without_memory)
        slots.shrink(2)
    assert slots.slots == 2
    assert [layer.keys.shape[0] for layer in slots.layers] == [2, 2]
    for slot in (0, 1):
        assert_holds(slots, slot, snapshots[slot])


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
