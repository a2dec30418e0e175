"""Pools grown by the engine's own loop over a scripted model, for tests of the loop."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

from scripted import (
    PromptScript,
    ScriptedRunner,
    scripted_engine,
    scripted_prompt,
)

from eager_lmeval.algorithm.options import Options, resolve
from eager_lmeval.algorithm.tree import Prompt
from eager_lmeval.engine.loop import Engine
from eager_lmeval.pools.result import PoolResult
from eager_lmeval.pools.run import grow_pool

ADAPT = {
    "strategy": "adapt",
    "branching": "top2",
    "max_sequences": 6,
    "entropy_threshold": 1.58,  # of ln 5 = 1.61 nats: some prompts never fork, some reach their cap
    "entropy_top_k": 5,
    "temperature": 0.8,
    "max_gen_toks": 24,
    "seed": 3,
}


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
