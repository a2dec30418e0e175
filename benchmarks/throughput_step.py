"""What a step of the engine takes beside a bare forward pass: parts `read`, `step`, `floor`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from collections.abc import Sequence as Seq
from functools import partial
from typing import Any

import numpy as np
import torch
from throughput_models import random_model, real_logits, real_model
from throughput_pools import TOP_P, OneLength
from throughput_table import Spent, Table, medians, spent

from eager_lmeval.algorithm.options import resolve
from eager_lmeval.algorithm.tree import Prompt
from eager_lmeval.engine.loop import Engine
from eager_lmeval.engine.sampling import Sampling, read
from eager_lmeval.engine.transformers.attention import Part, PassCache
from eager_lmeval.engine.transformers.cache import SlotCache
from eager_lmeval.engine.transformers.runner import ModelRunner
from eager_lmeval.lm import EagerLM
from eager_lmeval.pools.run import grow_pool

CUTS: dict[str, dict[str, Any]] = {
    "none": {},
    "top_p": {"top_p": 0.95},
    "top_k, top_p": {"top_k": 20, "top_p": 0.95},
    "min_p": {"min_p": 0.05},
}


def step_of(model: Any, rows: int, length: int) -> Callable[[], torch.Tensor]:
    """A forward pass of ``rows`` rows with ``length`` positions each behind them."""
    runner, layers = ModelRunner(model), model.config.num_hidden_layers
    slots, cache = SlotCache(layers, length + 1), PassCache(layers)
    slots.reserve(rows, length + 1, runner.prefill([[10] * length])[0].snapshot)
    ids, positions = (torch.arange(rows)[:, None] + 10) % model.config.vocab_size, torch.full((rows,), length)
    mask = runner._mask(positions, length + 1)
    cache.take([Part(slots, 0, positions, length + 1)])

    @torch.inference_mode()
    def forward() -> torch.Tensor:
        return model(
            input_ids=ids, position_ids=positions[:, None], attention_mask=mask, past_key_values=cache, use_cache=True
        ).logits[:, -1]

    return forward


def part_read(table: Table) -> None:
    """Reading the logits of a step over the forward pass that made them."""
    real = real_model()
    for shape, vocab in (("25M", 49_152), ("25M", 151_936), ("135M", 49_152), ("135M", 151_936)):
        model = random_model(shape, vocab)
        for rows in (16, 64):
            forward = step_of(model, rows, 100)
            logits = real_logits(*real, rows) if real is not None and vocab == 49_152 else forward()
            for name, given in CUTS.items():
                sampling = Sampling(temperature=0.6, **given)
                reading = partial(read, logits, torch.rand(rows, dtype=torch.float64), sampling)
                table.ratio("read", f"{shape} {vocab // 1000}k, {rows} rows, {name}", reading, forward, "<= 0.08")


def part_step(table: Table) -> None:
    """An engine step over a bare forward pass of the same rows and lengths, with top_p."""
    models = {"25M": random_model("25M"), "135M": random_model("135M"), "demo": EagerLM(pretrained="demo").model}
    for name, model in models.items():
        steps = 6 if name == "135M" else 24
        for rows in (16, 64, 256) if name == "demo" else (16, 64):
            forward = step_of(model, rows, 100 + steps // 2)
            forward()
            found = []
            for _ in range(table.runs):
                ours = step_seconds(ModelRunner(model), rows, steps)
                found.append((ours, Spent(*np.median([spent(forward) for _ in range(steps - 2)], axis=0))))
            table.add(
                "step",
                f"{name}, {rows} rows, top_p",
                wall_ratio=statistics.median(a.wall_s / b.wall_s for a, b in found),
                cpu_ratio=statistics.median(a.cpu_s / b.cpu_s for a, b in found),
                target="<= 1.15",
                **medians("first", [a for a, _ in found]),
                **medians("second", [b for _, b in found]),
            )


def step_seconds(runner: ModelRunner, rows: int, steps: int) -> Spent:
    """Medians of the seconds of a step of ``rows`` roots of one prompt."""
    marks: list[tuple[float, float]] = []

    def note(engine: Engine) -> None:
        marks.append((time.perf_counter(), time.process_time()))

    options = resolve({"strategy": "parallel", "max_sequences": rows})
    prompts = [Prompt(0, "bench", "0", [10] * 100, 0, steps)]
    grow_pool(prompts, options, Engine(runner, OneLength(steps), TOP_P, 0, rows, note))
    return Spent(*np.median(np.diff(np.array(marks), axis=0)[1:], axis=0))


@torch.inference_mode()
def products(weights: Seq[torch.Tensor], inputs: dict[int, torch.Tensor]) -> None:
    for weight in weights:
        inputs[weight.shape[1]] @ weight.T


def part_floor(table: Table) -> None:
    """The matrix products of a step alone, and the traffic of its keys and values alone, over a forward pass."""
    for shape in ("25M", "135M"):
        model = random_model(shape)
        weights = [parameter for parameter in model.parameters() if parameter.dim() == 2]
        for rows in (16, 64):
            inputs = {weight.shape[1]: torch.randn(rows, weight.shape[1]) for weight in weights}
            forward = step_of(model, rows, 100)
            table.ratio("floor", f"{shape}, {rows} rows, matrix products", partial(products, weights, inputs), forward)
        config = model.config
        kept = torch.randn(config.num_hidden_layers, 2, 64, config.num_key_value_heads, 1000, config.head_dim)
        table.ratio("floor", f"{shape}, 64 rows x 1000, keys and values", kept.sum, step_of(model, 64, 1000))
