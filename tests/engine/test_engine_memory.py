"""Lack of memory costs rows and time; it shows in no tree, and ends in one line where nothing helps."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scripted import (
    PromptScript,
    ScriptedRunner,
    memory_that_fails_at,
    sampling_of,
    scripted_engine,
    scripted_stopper,
)
from scripted_pools import ADAPT, grow, prompts_of, sequences_of
from tiers import sized
from tiny_models import tiny_model

from eager_lmeval.algorithm.options import resolve
from eager_lmeval.algorithm.readout import Readout
from eager_lmeval.algorithm.tree import Prompt
from eager_lmeval.engine import intake
from eager_lmeval.engine import runner as runners
from eager_lmeval.engine.counts import EngineCounts
from eager_lmeval.engine.loop import Engine
from eager_lmeval.engine.row_limit import RowLimit
from eager_lmeval.engine.runner import OutOfMemory, Prefix
from eager_lmeval.engine.transformers import cache, classes
from eager_lmeval.engine.transformers.runner import ModelRunner
from eager_lmeval.errors import UsageError
from eager_lmeval.pools.result import PoolResult
from eager_lmeval.pools.run import grow_pool

UNDER_PRESSURE = {
    "parallel": ADAPT | {"strategy": "parallel"},
    "adapt": ADAPT,
    "adapt, systematic": ADAPT | {"branching": "systematic", "entropy_threshold": 1.5},
}


@settings(max_examples=sized(12, 60), deadline=None)
@given(
    failures=st.sets(st.integers(0, 120), max_size=4),
    call=st.sampled_from([None, "prefill", "reserve", "decode"]),
    strategy=st.sampled_from(["parallel", "adapt", "adapt, systematic"]),
)
@example(failures={1, 3}, call=None, strategy="parallel")  # rows of one growth are parked twice before any comes back
@example(failures={1, 2}, call="prefill", strategy="adapt, systematic")  # alone, a prompt does not fit
def test_running_out_of_memory_shows_in_no_tree(
    trees_with_memory: dict[str, PoolResult], failures: set[int], call: str | None, strategy: str
) -> None:
    runner = ScriptedRunner(PromptScript(eos_bias=1.0), memory=memory_that_fails_at(failures, call))
    options = resolve(UNDER_PRESSURE[strategy])
    engine = scripted_engine(runner, options, max_rows=40)
    expected = trees_with_memory[strategy]
    try:
        result = grow_pool(prompts_of(options, 7), options, engine)
    except UsageError:
        assert engine.limit == 1 or not (engine.in_use or runner.slots.total()), "there was something left to give up"
        return
    assert sequences_of(result) == sequences_of(expected)
    assert [tree.prefill_tokens for tree in result.trees] == [tree.prefill_tokens for tree in expected.trees]


@pytest.fixture(scope="module")
def trees_with_memory() -> dict[str, PoolResult]:
    return {strategy: grow(given, number=7)[0] for strategy, given in UNDER_PRESSURE.items()}


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


@pytest.mark.parametrize(
    "given", [{"strategy": "init"}, {"strategy": "parallel"}, {"strategy": "init", "branching": "systematic"}]
)
@pytest.mark.parametrize("call", ["prefill", "reserve", "decode"])
@pytest.mark.parametrize("first", [1, 4, 9])
def test_memory_that_never_comes_back_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, first: int, call: str, given: dict[str, Any]
):
    monkeypatch.setattr(intake, "PREFILL_AHEAD", 1)
    options = ADAPT | given
    runner = ScriptedRunner(PromptScript(eos_bias=1.0), memory=memory_that_fails_at(set(range(first, 3000)), call))
    with pytest.raises(UsageError, match="out of memory"):
        grow(options, number=30, runner=runner, max_rows=8)


def test_a_prompt_that_finds_no_memory_waits_for_a_row_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside another prompt's rows there is no memory for a prefill; what its rows do not use is given back first."""

    class Crowded(ScriptedRunner):
        def prefill(self, prompts: list[list[int]]) -> list[Prefix]:
            if self.slots.total():
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

    def reserve(self, needs: Seq[int], limit: int) -> None:
        if limit > self.holds:
            raise OutOfMemory(f"no memory for {limit} slots")
        super().reserve(needs, limit)


def test_room_for_fewer_rows_than_the_limit_costs_only_the_rows_that_do_not_fit() -> None:
    """The limit does not fall below what the device holds, whatever was asked for."""
    runner = SmallDevice(PromptScript(eos_bias=1.0))
    result, engine = grow(ADAPT | {"strategy": "init"}, number=5, runner=runner, max_rows=32)
    assert engine.limit == 8
    assert engine.stats.out_of_memory == 2
    assert sequences_of(result) == sequences_of(grow(ADAPT | {"strategy": "init"}, number=5)[0])


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

        def shrink(self, kept: Mapping[int, int]) -> None:
            assert self.allocated is not None
            assert self.allocated() is None, "the failed pass still holds what it had allocated"
            super().shrink(kept)

    _, engine = grow(ADAPT | {"strategy": "init"}, runner=Failing(PromptScript()), max_rows=16)
    assert engine.stats.out_of_memory == 1


def filled_cache() -> tuple[cache.SlotCache, list[cache.Snapshot]]:
    """Four slots of six positions in two layers, and what they hold."""
    slots = cache.SlotCache(num_layers=2, longest=4096)
    generator = torch.Generator().manual_seed(0)
    snapshots = [
        cache.Snapshot([tuple(torch.randn(2, 3, 6, 4, generator=generator)) for _ in range(2)])  # type: ignore[misc]
        for _ in range(4)
    ]
    slots.reserve(4, 6, snapshots[0])
    for slot, snapshot in enumerate(snapshots):
        slots.restore(slot, 1, snapshot)
    return slots, snapshots


def assert_holds(slots: cache.SlotCache, slot: int, snapshot: cache.Snapshot) -> None:
    for held, expected in zip(slots.snapshot(slot, 6, torch.device("cpu")).layers, snapshot.layers, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(held, expected, strict=True))


def test_a_snapshot_is_written_to_several_slots_and_to_no_other() -> None:
    slots, snapshots = filled_cache()
    slots.restore(1, 2, snapshots[0])
    for slot, held in enumerate((0, 0, 0, 3)):
        assert_holds(slots, slot, snapshots[held])


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


# Memory as the budget: as many rows as there is room for at the length of the longest.


@pytest.mark.parametrize("given_options", [{"strategy": "parallel"}, {"strategy": "adapt", "max_sequences": 6}])
@pytest.mark.parametrize("positions", [150, 400])
@pytest.mark.parametrize("shortest_class", [1024, 6])
def test_rows_are_as_many_as_there_is_room_for_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, given_options: dict[str, Any], positions: int, shortest_class: int
) -> None:
    """The scripted slots refuse to be more positions than there is room for; rows have up to 28 positions."""
    runner = ScriptedRunner(PromptScript(eos_bias=1.0), positions=positions)
    rows: list[int] = []
    expected, _ = grow(ADAPT | given_options, number=12)
    monkeypatch.setattr(runners, "SHORT", shortest_class)
    result, engine = grow(
        ADAPT | given_options, number=12, runner=runner, max_rows=64, on_step=lambda engine: rows.append(engine.in_use)
    )
    assert sequences_of(result) == sequences_of(expected)
    assert engine.stats.out_of_memory == 0
    assert max(rows) > positions // 28, "short rows are more than long ones would be"


@pytest.mark.parametrize("model", ["llama", "gemma3, full and sliding"])
@pytest.mark.parametrize("strategy", ["parallel", "init"])
def test_rows_of_many_lengths_grow_the_same_trees_in_little_memory(
    monkeypatch: pytest.MonkeyPatch, model: str, strategy: str
) -> None:
    """Keys and values stay their rows' own while classes grow, give slots back, and are outgrown."""
    options = resolve(
        {"strategy": strategy, "max_sequences": 4, "entropy_threshold": 1.6, "temperature": 0.8, "max_gen_toks": 90}
    )
    prompts = [Prompt(index, "demo", str(index), [1 + index] * (1 + 4 * index), index, 90) for index in range(8)]
    classes_at_once: list[int] = []

    def grown(positions: int) -> tuple[list[list[list[int]]], Engine]:
        runner = ModelRunner(tiny_model(model))
        monkeypatch.setattr(
            classes,
            "for_slots",
            lambda device: 256 * max(0, positions - runner._slots.held()),
        )
        engine = Engine(runner, scripted_stopper(), sampling_of(options), options.seed, 32, watch)
        trees = grow_pool(prompts, options, engine).trees
        return [[sequence.tokens for sequence in tree.sequences] for tree in trees], engine

    def watch(engine: Engine) -> None:
        classes_at_once.append(len({placed.source.length_class for placed in engine.rows}))

    expected, _ = grown(10**6)
    monkeypatch.setattr(runners, "SHORT", 8)
    trees, engine = grown(500)
    assert trees == expected
    assert engine.stats.parked > 0
    assert engine.stats.out_of_memory == 0
    assert max(classes_at_once) > 2


def test_a_long_row_makes_no_short_rows_slot_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row of 4,000 positions takes 4,096, eight of 100 take 128 each: room for all in 6,000 positions."""
    monkeypatch.setattr(classes, "for_slots", lambda device: 256 * 6000)
    runner = ModelRunner(tiny_model("llama"))
    runner.prefill([[1, 2, 3]])
    needs = [4000, *[100] * 8]
    assert runner.room(needs) == 9
    runner.reserve(needs, 9)
    assert runner.slots.total() == 9
    assert sum(layer.keys.shape[0] * layer.keys.shape[2] for layer in layers_of(runner)) <= 6000


@pytest.mark.parametrize(("limit", "rows_of_memory", "slots"), [(9, 100, 8), (6, 100, 6), (9, 5, 5)])
def test_slots_are_doubled_as_far_as_limit_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch, limit: int, rows_of_memory: int, slots: int
) -> None:
    monkeypatch.setattr(classes, "for_slots", lambda device: 256 * 64 * rows_of_memory)
    runner = ModelRunner(tiny_model("llama"))
    runner.prefill([[1, 2, 3]])
    runner.reserve([40] * 4, limit)
    assert runner.slots.total() == slots


def test_the_memory_of_slots_that_grow_is_theirs_to_grow_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four slots there are, and memory for ten more."""
    monkeypatch.setattr(classes, "for_slots", lambda device: 256 * 64 * 10)
    runner = ModelRunner(tiny_model("llama"))
    runner.prefill([[1, 2, 3]])
    runner.reserve([40] * 4, 4)
    runner.reserve([40] * 8, 32)
    assert runner.slots.total() == 14


def test_rows_begin_by_what_rows_have_come_to_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """By present lengths alone too many would begin, and be put aside as soon as they have grown."""
    monkeypatch.setattr(runners, "SHORT", 6)
    given = ADAPT | {"strategy": "parallel"}
    _, engine = grow(given, number=40, runner=ScriptedRunner(PromptScript(eos_bias=1.0), positions=300), max_rows=64)
    monkeypatch.setattr(RowLimit, "_average_need", lambda self, needs: 1)
    runner = ScriptedRunner(PromptScript(eos_bias=1.0), positions=300)
    _, by_present_lengths = grow(given, number=40, runner=runner, max_rows=64)
    assert engine.stats.parked < by_present_lengths.stats.parked / 2


def test_one_row_goes_on_where_there_is_room_for_none() -> None:
    """It is tried, and what then runs out of memory says what does not fit."""
    runner = ScriptedRunner(PromptScript(), positions=4)
    limit = RowLimit(runner, 8, EngineCounts())
    limit.fit([100], [])
    assert limit.now == 1


def layers_of(runner: ModelRunner) -> list[Any]:
    """The first layer of each class's slots."""
    return [slots.layers[0] for slots in runner._slots._caches.values() if slots.slots]


def test_slots_that_a_long_row_has_left_are_cut_when_more_are_wanted() -> None:
    slots, snapshots = filled_cache()
    slots.reserve(4, 1000, snapshots[0])
    long = slots.capacity
    slots.reserve(6, 10, snapshots[0])
    assert slots.slots == 6
    assert 10 <= slots.capacity < long / 4
    for slot, expected in enumerate(snapshots):
        assert_holds(slots, slot, expected)


def test_room_is_what_free_memory_and_the_slots_hold_divided_by_a_rows_keys_and_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two layers of two key-value heads of 8 in float32 take 256 bytes a position."""
    runner = ModelRunner(tiny_model("llama"))
    runner.prefill([[1, 2, 3]])
    monkeypatch.setattr(classes, "for_slots", lambda device: 256 * 64 * 10)
    assert runner.room([40] * 20) == 10
    assert runner.room([100] * 20) == 5
    runner.reserve([40] * 3, 3)
    assert runner.room([40] * 20) == 13
    monkeypatch.setattr(classes, "for_slots", lambda device: 0)
    assert runner.room([40] * 20) == 13, "looked at again only when the slots have changed"
    runner.reserve([40] * 4, 4)
    assert runner.room([40] * 20) == 4
