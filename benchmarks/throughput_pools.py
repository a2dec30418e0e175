"""Pools whose sequences end where a drawn length says, so that all decode the same tokens: parts `flat` and `cap`."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Seq
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from throughput_models import random_model
from throughput_table import Table, spent

from eager_lmeval.algorithm.options import resolve
from eager_lmeval.algorithm.tree import Prompt, Sequence
from eager_lmeval.engine import runner as length_classes
from eager_lmeval.engine.counts import EngineCounts
from eager_lmeval.engine.loop import Engine
from eager_lmeval.engine.sampling import Sampling
from eager_lmeval.engine.transformers import classes as slot_classes
from eager_lmeval.engine.transformers.runner import ModelRunner
from eager_lmeval.lm import EagerLM
from eager_lmeval.pools.run import grow_pool

TOP_P = Sampling(temperature=0.6, top_p=0.95)


class DrawnLengths:
    """Ends each sequence at a length of its own, long-tailed: a stopper without a tokenizer."""

    def __init__(self, longest: int, seed: int = 0) -> None:
        self._longest, self._seed = longest, seed

    def length(self, prompt: int, root: int) -> int:
        draw = np.random.default_rng([self._seed, prompt, root]).lognormal(sigma=0.9)
        return int(min(self._longest, max(2, draw * self._longest / 8)))

    def begin(self, prompt: Prompt, root: Sequence) -> None:
        root.answer_from = 0

    def observe(self, prompt: Prompt, sequence: Sequence) -> None:
        if len(sequence.tokens) >= self.length(prompt.index, sequence.path[0]):
            sequence.finish = "length"


class OneLength(DrawnLengths):
    """Ends every sequence at the longest length."""

    def length(self, prompt: int, root: int) -> int:
        return self._longest


def prompts_of(number: int, length: int, longest: int) -> list[Prompt]:
    return [Prompt(index, "bench", str(index), [10 + index % 80] * length, index, longest) for index in range(number)]


def parallel(
    runner: ModelRunner, lengths: DrawnLengths, prompts: Seq[Prompt], samples: int, rows: int
) -> tuple[EngineCounts, list[list[int]]]:
    """Full Parallel Sampling of all prompts: what the engine counted, and the tokens of each sequence."""
    options = resolve({"strategy": "parallel", "max_sequences": samples, "temperature": 0.6, "top_p": 0.95})
    engine = Engine(runner, lengths, TOP_P, 0, rows)
    trees = grow_pool(prompts, options, engine).trees
    runner.shrink({})
    return engine.stats, [sequence.tokens for tree in trees for sequence in tree.sequences]


def part_flat(table: Table) -> None:
    """Microseconds per token over prompts, M and tokens, demo model at 16 rows."""
    runner = ModelRunner(EagerLM(pretrained="demo").model)

    def measured(name: str, number: int, samples: int, longest: int) -> None:
        lengths, prompts = DrawnLengths(longest), prompts_of(number, 30, longest)
        tokens = sum(lengths.length(p, r) for p in range(number) for r in range(samples))
        counts: list[EngineCounts] = []

        def decode() -> None:
            counts.append(parallel(runner, lengths, prompts, samples, 16)[0])

        wall_us, cpu_us = 1e6 * np.median([spent(decode) for _ in range(3 if tokens < 10_000 else 1)], axis=0) / tokens
        rows = counts[0].rows_used / counts[0].steps
        table.add("flat", name, us_a_token=float(wall_us), cpu_us_a_token=float(cpu_us), tokens=tokens, rows=rows)

    for number in (16, 64, 256, 512):
        measured(f"{number} prompts x 4", number, 4, 100)
    for samples in (4, 16, 64):
        measured(f"32 prompts x {samples}", 32, samples, 100)
    for longest in (200, 1000, 4000):
        measured(f"4 prompts x 8, up to {longest} tokens", 4, 8, longest)


LONGEST = 1024


def part_cap(table: Table) -> None:
    """256 long-tailed answers where memory has room for 4 or 8 rows of the longest, over the same with room for 64.

    A thirty-second of 32,768 tokens on a model of two layers, so that it takes a minute or two, with length classes of
    a thirty-second of their lengths: what matters is how many rows of what length fit. With one class all slots are as
    long as the longest row, as they were before there were classes.
    """
    model = random_model("tiny", 128)
    lengths, prompts = DrawnLengths(LONGEST, seed=1), prompts_of(64, 4, LONGEST)
    tokens = sum(lengths.length(prompt.index, root) for prompt in prompts for root in range(4))
    unlimited = None
    for rows in (64, 8, 4):
        for name, shortest in (("one class", LONGEST * 2), ("length classes", length_classes.SHORT // 32)):
            runner, copied = ModelRunner(model), []
            with (
                patch.object(length_classes, "SHORT", shortest),
                patch.object(slot_classes, "for_slots", partial(free_bytes, runner, rows * (LONGEST + 64))),
                patch.object(runner, "park", counted(runner.park, copied)),
            ):
                wall, cpu = time.perf_counter(), time.process_time()
                stats, made = parallel(runner, lengths, prompts, 4, 64)
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            unlimited = unlimited or (wall, cpu, made)
            table.add(
                "cap",
                f"room for {rows}, {name}",
                wall_ratio=wall / unlimited[0],
                cpu_ratio=cpu / unlimited[1],
                identical=made == unlimited[2],
                tokens_a_cpu_s=tokens / cpu,
                steps=stats.steps,
                rows=stats.rows_used / stats.steps,
                copied_rows=len(copied),
                copied_positions_a_token=sum(length for _, length in copied) / tokens,
                out_of_memory=stats.out_of_memory,
            )


def counted(act: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    """The same, with what it is given noted."""

    def noting(*given: Any) -> Any:
        calls.append(given)
        return act(*given)

    return noting


def free_bytes(runner: ModelRunner, positions: int, device: torch.device) -> int:
    """What is left of room for ``positions`` positions in all slots."""
    assert runner._slots.like is not None
    return max(0, positions - runner._slots.held()) * runner._slots.like.bytes_per_position()[device]
